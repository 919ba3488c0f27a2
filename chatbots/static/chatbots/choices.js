/*
 * What the form of a chatbot's settings offers: the models that are known of the chosen provider, and the collections of
 * the chosen store. Any other name can still be typed.
 */

const data = document.querySelector("#choices");
const { providers, stores, first } = data ? JSON.parse(data.textContent) : {};

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// ---- Models ----

function offerModels(input) {
  const chosen = input.form.elements[input.dataset.modelsOf];
  const isForAnswers = chosen.name === "provider";
  const list = element("datalist", { id: `models-of-${chosen.name}` });
  const hint = element("p", { className: "choices-hint" });
  hint.setAttribute("role", "status");
  input.setAttribute("list", list.id);
  input.after(list, hint);

  const offer = () => {
    const provider = providers[chosen.value || (isForAnswers ? first : "")];
    list.replaceChildren(...(provider?.models ?? []).map((value) => element("option", { value })));
    hint.replaceChildren(...(provider ? words(provider, isForAnswers) : []));
  };
  chosen.addEventListener("change", offer);
  offer();
}

function words({ label, models, page, default: own }, isForAnswers) {
  const ofEmpty = isForAnswers && own ? [` Default: ${own}.`] : [];
  if (models.length) return [`Known models of ${label}: ${models.length}.`, ...ofEmpty];
  const refresh = page ? [" ", element("a", { href: page, target: "_blank", textContent: "Refresh the list" }), "."] : [];
  return [`Which models ${label} has is not known here yet.`, ...refresh, ...ofEmpty];
}

// ---- Collections ----

function offerCollections(names) {
  const chosen = names.form.elements[names.dataset.collectionsOf];
  const box = element("div", { className: "known-collections" });
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Known collections");
  names.after(box);

  const lines = () => names.value.split("\n").map((line) => line.trim()).filter(Boolean);
  const tick = () => {
    const wanted = new Set(lines());
    for (const check of box.querySelectorAll("input")) check.checked = wanted.has(check.value);
  };
  const offer = () => {
    const { label, collections } = stores[chosen.value];
    box.replaceChildren(
      ...collections.map(({ name, model }) =>
        element("label", {}, element("input", { type: "checkbox", value: name }), name, element("small", { textContent: model })),
      ),
    );
    if (!collections.length) box.textContent = `No collection in ${label} is known here yet.`;
    tick();
  };
  box.addEventListener("change", (event) => {
    event.stopPropagation(); // what has changed is the list
    const { value, checked } = event.target;
    const others = lines().filter((line) => line !== value);
    names.value = (checked ? [...others, value] : others).join("\n");
    names.dispatchEvent(new Event("input", { bubbles: true }));
  });
  names.addEventListener("input", tick);
  chosen.addEventListener("change", offer);
  offer();
}

if (data) {
  document.querySelectorAll("[data-models-of]").forEach(offerModels);
  document.querySelectorAll("[data-collections-of]").forEach(offerCollections);
}
