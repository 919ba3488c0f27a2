/** The bubble next to the popup's button that invites visitors to open the chat. */

import { BrowserStore } from "./browser_store.js";
import { button, element } from "./dom.js";
import { iconButton } from "./icons.js";
import { PHONE } from "./media.js";

const STORAGES = { once_per_session: "sessionStorage", once_per_visitor: "localStorage" };

export class Hint {
  #config;
  #store; // whether the visitor has seen the hint
  #timer;
  #isDue = false;

  constructor(config, open) {
    this.#config = config;
    this.#store = new BrowserStore(config, STORAGES[config.popupLabelFrequency], ":hint");
    this.node = element("div", { class: "hint", hidden: true },
      button({ class: "hint-text", onclick: open }, config.popupLabelText),
      config.popupLabelDismissible && iconButton(config.text.dismissHint, "close", () => this.end()),
    );
  }

  /** Call it when the popup's button appears. */
  schedule() {
    const { popupLabelEnabled, popupLabelText, popupLabelMode, popupLabelDelaySeconds } = this.#config;
    const isOnDevice = PHONE.matches ? this.#config.popupLabelShowOnMobile : this.#config.popupLabelShowOnDesktop;
    if (!popupLabelEnabled || !popupLabelText || !isOnDevice || this.#store.read().seen) return;
    this.#isDue = true;
    this.#wait(popupLabelMode === "on_delay" ? popupLabelDelaySeconds : 0, () => this.show());
  }

  show() {
    const { popupLabelMode, popupLabelAutoHideSeconds } = this.#config;
    if (!this.#isDue) return;
    this.node.hidden = false;
    if (popupLabelMode === "always" || popupLabelMode === "on_delay") this.#store.write({ seen: true });
    if (popupLabelAutoHideSeconds) this.#wait(popupLabelAutoHideSeconds, () => this.end());
  }

  /** Hide the hint while the chat is open. Depending on its mode it returns when the chat closes. */
  chatOpened() {
    this.hide();
    if (["on_delay", "until_open"].includes(this.#config.popupLabelMode)) this.end();
  }

  hide() {
    clearTimeout(this.#timer);
    this.node.hidden = true;
  }

  end() {
    this.hide();
    this.#isDue = false;
    this.#store.write({ seen: true });
  }

  #wait(seconds, then) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, seconds * 1000);
  }
}
