/**
 * The chat of one chatbot: <puffer-chat data-config='{...}'>, which renders itself in a shadow root.
 *
 *   widget -> frame (inline, popup, fullscreen) -> chat -> transcript -> reply
 *
 * It calls the chatbot's own site only, sets no cookies, adds no inline scripts or styles to the page, and defines
 * nothing there but its element. Host pages call window.Puffer, of embed.js. Texts come from the server, as
 * `config.text`.
 */

import { BrowserStore } from "./browser_store.js";
import { Chat } from "./chat.js";
import { Frame, forgetPopup } from "./frame.js";
import { PHONE } from "./media.js";
import { loadStyleSheet } from "./theme.js";
import { VisitorSession } from "./visitor_session.js";

class PufferChat extends HTMLElement {
  static observedAttributes = ["data-config"];

  #config;
  #session;
  #frame;
  #chat;
  #listeners; // aborted to remove every listener on window

  connectedCallback() {
    this.#listen();
    if (this.ready) this.#frame?.reconnected();
    else this.ready = this.#render();
  }

  disconnectedCallback() {
    this.#listeners.abort();
    // A page that replaces its content gets the element back at once: the reply being streamed goes on.
    setTimeout(() => {
      if (this.isConnected) return;
      this.stop();
      this.#frame?.hint.hide();
    });
  }

  /** Start over with the new configuration: the admin's preview changes it while the owner types. */
  attributeChangedCallback(name, before, now) {
    if (this.ready && before !== now) this.ready = this.ready.then(() => this.#render());
  }

  #listen() {
    this.#listeners = new AbortController();
    const { signal } = this.#listeners;
    const on = (target, names, listener) => {
      for (const name of names.split(" ")) target.addEventListener(name, listener, { signal });
    };
    on(window, "pagehide", () => this.stop());
    on(window, "online offline", () => this.#chat?.showConnection());
    on(PHONE, "change", () => this.#frame?.screenChanged());
    on(visualViewport, "resize scroll", () => this.#frame?.fitViewport());
  }

  async #render() {
    const config = JSON.parse(this.dataset.config);
    const sheet = await loadStyleSheet(config.assetUrls.css);
    config.kind = this.hasAttribute("page") ? "page" : config.popupEnabled ? "popup" : "inline";
    config.text.chatWith = config.text.chatWith.replace("{name}", config.headerName);
    const store = new BrowserStore(config, "localStorage");
    this.stop();
    this.#config = config;
    this.#session = new VisitorSession(config, store, (error) => this.report(error));
    this.#frame = new Frame(this, config);
    this.#chat = new Chat(this, config, this.#session, store, this.#frame.buttons);
    this.dataset.kind = config.kind;
    const shadow = this.shadowRoot ?? this.attachShadow({ mode: "open" });
    shadow.adoptedStyleSheets = [sheet];
    this.root = this.#frame.render(this.#chat); // the admin's preview sets its color scheme
    shadow.replaceChildren(this.root);
    if (config.kind === "popup") this.#frame.place();
  }

  // -- What host pages call, through window.Puffer --

  open() {
    this.#frame.open();
  }

  close() {
    this.#frame.close();
  }

  ask(text) {
    const question = String(text).trim();
    if (!question || this.#config.preview) return;
    this.open();
    this.#chat.ask(question);
  }

  identify(identity) {
    if (this.#session.identify(identity)) this.#chat.clear();
  }

  destroy() {
    const container = this.parentElement;
    this.remove();
    if (container?.id.startsWith("aipkit-chatbot-container-")) container.replaceChildren();
    forgetPopup(this);
  }

  // -- What the parts of the widget call --

  stop() {
    this.#chat?.stop();
  }

  focusChat() {
    this.#frame.focusChat();
  }

  emit(name, detail = {}) {
    const all = { botId: this.#config.botId, ...detail };
    this.dispatchEvent(new CustomEvent(`puffer-${name}`, { bubbles: true, composed: true, detail: all }));
  }

  report({ code, message }) {
    console.error(`Puffer: chatbot ${this.#config.botId}: ${code}: ${message}`);
    this.emit("error", { code, message });
  }
}

if (!customElements.get("puffer-chat")) customElements.define("puffer-chat", PufferChat);
