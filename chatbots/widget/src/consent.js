/** The consent form, shown in place of the conversation until the visitor agrees. */

import { button, element } from "./dom.js";
import { icon } from "./icons.js";

export class Consent {
  #button;
  #failure = element("p", { class: "card failure", role: "status", hidden: true });

  constructor({ consentTitle, consentMessage, consentButton }, agree) {
    this.#button = button({ class: "agree", onclick: agree }, consentButton);
    this.node = element("div", { class: "consent" },
      icon("shield"), element("h3", { dir: "auto" }, consentTitle), element("p", { dir: "auto" }, consentMessage),
      this.#failure, this.#button);
  }

  focus() {
    this.#button.focus();
  }

  /** Show a failure, or hide it if the message is empty. */
  fail(message) {
    this.#failure.textContent = message;
    this.#failure.hidden = !message;
  }
}
