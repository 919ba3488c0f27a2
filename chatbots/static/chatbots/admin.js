/*
 * The settings page of a chatbot in the admin: copy buttons, tabs, fields that depend on others, the explanation of the
 * allowed domains, and the live preview. Texts for users are in data attributes, because templates translate them.
 */

const TYPING_PAUSE = 350; // ms without input before a request is sent

const form = document.querySelector("#chatbot_form");

function debounced(call) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(call, TYPING_PAUSE);
  };
}

/** Return a function that posts the form. A new call aborts the one before, which then throws an AbortError. */
function formPoster(url) {
  let running;
  return async () => {
    running?.abort();
    running = new AbortController();
    const response = await fetch(url, { method: "POST", body: new FormData(form), signal: running.signal });
    if (!response.ok || response.redirected) throw new Error(`${url} responded with status ${response.status}`);
    return response;
  };
}

// ---- Copy buttons ----

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("[data-copies]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copies);
  const { copied, selected } = button.dataset;
  button.dataset.label ??= button.textContent;
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = copied;
  } catch {
    getSelection().selectAllChildren(source); // without https there is no clipboard API; the user presses Ctrl+C
    button.textContent = selected;
  }
  setTimeout(() => (button.textContent = button.dataset.label), 2000);
});

// ---- Tabs: make unfold's work with the keyboard, and reopen the last one ----

const OPEN_TAB = `tab of ${location.pathname}`;
const tabs = [...document.querySelectorAll("#chatbot_form nav a")];

for (const tab of tabs) {
  tab.tabIndex = 0;
  tab.role = "button";
  tab.addEventListener("click", () => sessionStorage.setItem(OPEN_TAB, tab.textContent.trim()));
  tab.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    tab.click();
  });
}
const hasErrors = form?.querySelector(".field-line.errors"); // unfold opens the tab with errors
if (!hasErrors) tabs.find((tab) => tab.textContent.trim() === sessionStorage.getItem(OPEN_TAB))?.click();

// ---- Fields that depend on others: data-shown-while="popup_enabled theme=custom" ----

function isMet(condition) {
  const [name, value] = condition.split("=");
  const field = form.elements[name];
  return value === undefined ? field.checked : field.value === value;
}

function showNeeded() {
  for (const field of form.querySelectorAll("[data-shown-while]")) {
    const line = field.closest(".field-line");
    const isNeeded = field.dataset.shownWhile.split(" ").every(isMet);
    line.classList.toggle("not-needed", !isNeeded && !line.classList.contains("errors"));
  }
  for (const row of form.querySelectorAll(".form-row")) {
    row.classList.toggle("not-needed", !row.querySelector(".field-line:not(.not-needed)"));
  }
}

if (form) {
  showNeeded();
  form.addEventListener("change", showNeeded);
}

// ---- Explanation of the allowed domains ----

const sites = document.querySelector("#allowed-sites");
const explain = sites && formPoster(sites.dataset.url);

async function showSites() {
  try {
    const response = await explain();
    sites.innerHTML = await response.text();
  } catch (error) {
    if (error.name !== "AbortError") sites.textContent = sites.dataset.failure;
  }
}

if (form?.elements.embed_allowed_domains) {
  const showSoon = debounced(showSites);
  form.elements.embed_allowed_domains.addEventListener("input", showSoon);
  form.elements.embed_allow_any_domain.addEventListener("change", showSoon);
}

// ---- Preview: the real widget in a frame, drawn again after each change of the form ----

const WIDTHS = { wide: 520, phone: 375 }; // px of the page in the frame, which is scaled to fit

class Preview {
  #config;
  #view = { screen: "wide", scheme: document.documentElement.classList.contains("dark") ? "dark" : "light" };

  constructor(pane) {
    this.pane = pane;
    this.frame = pane.querySelector("iframe");
    this.stage = pane.querySelector(".preview-stage");
    this.status = pane.querySelector(".preview-words");
    this.defaultStatus = this.status.textContent;
    this.post = formPoster(pane.dataset.url);
    new ResizeObserver(() => this.#fit()).observe(this.stage);
    pane.addEventListener("click", ({ target }) => this.#switch(target.closest("[data-shape], [data-scheme], [data-screen]")));
  }

  /** Show the saved settings, which the loaded page contains, then follow the form. */
  start() {
    this.#show(JSON.parse(this.#page.body.dataset.config));
    if (!("followsForm" in this.pane.dataset)) return;
    const updateSoon = debounced(() => this.#update());
    form.addEventListener("input", updateSoon);
    form.addEventListener("change", updateSoon);
    this.#update(); // the form may have come back with errors, or the browser may have filled it in
  }

  get isReady() {
    return this.#page.readyState === "complete" && "config" in this.#page.body.dataset;
  }

  get #page() {
    return this.frame.contentDocument;
  }

  async #update() {
    try {
      const response = await this.post();
      const { config, refused } = await response.json();
      this.#show(config);
      this.status.textContent = refused.length ? `${this.pane.dataset.invalid} ${refused.join(", ")}.` : this.defaultStatus;
    } catch (error) {
      if (error.name !== "AbortError") this.status.textContent = this.pane.dataset.failure;
    }
  }

  #show(config) {
    if (this.#config?.popupEnabled !== config.popupEnabled) this.#view.shape = config.popupEnabled ? "popup" : "inline";
    if (JSON.stringify(this.#config) === JSON.stringify(config)) return;
    this.#config = config;
    this.#draw();
  }

  #switch(button) {
    if (!button) return;
    Object.assign(this.#view, button.dataset);
    this.#draw();
  }

  async #draw() {
    const { shape, scheme } = this.#view;
    for (const button of this.pane.querySelectorAll("[data-shape], [data-scheme], [data-screen]")) {
      const [[name, value]] = Object.entries(button.dataset);
      button.setAttribute("aria-pressed", String(this.#view[name] === value));
    }
    this.#fit();
    const chat = this.#page.createElement("puffer-chat");
    chat.dataset.config = JSON.stringify({ ...this.#config, popupEnabled: shape !== "inline" });
    chat.inert = true; // otherwise the opening chat takes the focus from the form
    this.#page.querySelector("puffer-chat")?.destroy();
    this.#page.body.append(chat);
    await chat.ready;
    requestAnimationFrame(() => (chat.inert = false)); // after it has adapted to the width of its screen
    this.#page.documentElement.style.colorScheme = scheme;
    if (!["light", "dark"].includes(this.#config.theme)) chat.root.dataset.scheme = scheme;
    if (shape === "button") this.#close(chat);
  }

  /** Close the popup, and show its hint without the configured delay. */
  #close(chat) {
    chat.close();
    chat.root.querySelector(".hint").hidden = !this.#config.popupLabelEnabled;
  }

  #fit() {
    const { clientWidth, clientHeight } = this.stage;
    const width = WIDTHS[this.#view.screen];
    const scale = Math.min(1, clientWidth / width);
    const margin = Math.max(0, (clientWidth - width * scale) / 2);
    Object.assign(this.frame.style, {
      width: `${width}px`, height: `${clientHeight / scale}px`, transform: `scale(${scale})`, marginLeft: `${margin}px`,
    });
  }
}

const pane = document.querySelector("#preview");
if (pane) {
  const preview = new Preview(pane);
  if (preview.isReady) preview.start();
  else preview.frame.addEventListener("load", () => preview.start(), { once: true });
}
