/*
 * Suggestions in a chatbot's settings form: the known models of the chosen provider, and the known collections of the
 * chosen store. Any other name can be typed.
 */

const data = document.querySelector("#choices");
const { providers, stores, first, texts } = data ? JSON.parse(data.textContent) : {};

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Fill the {placeholders} of a translated text. */
function filled(text, values) {
  return text.replace(/{(\w+)}/g, (_, name) => values[name]);
}

// ---- Models ----

function suggestModels(input) {
  const chosen = input.form.elements[input.dataset.modelsOf];
  const isChatModel = chosen.name === "provider"; // otherwise the embedding model
  const list = element("datalist", { id: `models-of-${chosen.name}` });
  const hint = element("p", { className: "choices-hint" });
  hint.setAttribute("role", "status");
  input.setAttribute("list", list.id);
  input.after(list, hint);

  const suggest = () => {
    const provider = providers[chosen.value || (isChatModel ? first : "")];
    list.replaceChildren(...(provider?.models ?? []).map((value) => element("option", { value })));
    hint.replaceChildren(...(provider ? hintParts(provider, isChatModel) : []));
  };
  chosen.addEventListener("change", suggest);
  suggest();
}

function hintParts({ label, models, page, default: defaultModel }, isChatModel) {
  const suffix = isChatModel && defaultModel ? [" ", filled(texts.defaultModel, { model: defaultModel })] : [];
  if (models.length) return [filled(texts.knownModels, { provider: label, count: models.length }), ...suffix];
  const refresh = page ? [" ", element("a", { href: page, target: "_blank", textContent: texts.refresh }), "."] : [];
  return [filled(texts.noModels, { provider: label }), ...refresh, ...suffix];
}

// ---- Collections ----

function suggestCollections(names) {
  const chosen = names.form.elements[names.dataset.collectionsOf];
  const box = element("div", { className: "known-collections" });
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", texts.collections);
  names.after(box);

  const lines = () => names.value.split("\n").map((line) => line.trim()).filter(Boolean);
  const tick = () => {
    const entered = new Set(lines());
    for (const checkbox of box.querySelectorAll("input")) checkbox.checked = entered.has(checkbox.value);
  };
  const suggest = () => {
    const { label, collections } = stores[chosen.value];
    box.replaceChildren(
      ...collections.map(({ name, model }) =>
        element("label", {}, element("input", { type: "checkbox", value: name }), name, element("small", { textContent: model })),
      ),
    );
    if (!collections.length) box.textContent = filled(texts.noCollections, { store: label });
    tick();
  };
  box.addEventListener("change", (event) => {
    event.stopPropagation(); // the text area below sends its own event
    const { value, checked } = event.target;
    const others = lines().filter((line) => line !== value);
    names.value = (checked ? [...others, value] : others).join("\n");
    names.dispatchEvent(new Event("input", { bubbles: true }));
  });
  names.addEventListener("input", tick);
  chosen.addEventListener("change", suggest);
  suggest();
}

if (data) {
  document.querySelectorAll("[data-models-of]").forEach(suggestModels);
  document.querySelectorAll("[data-collections-of]").forEach(suggestCollections);
}
