/** The message field, its counter and the button that sends a message or stops the reply. */

import { element } from "./dom.js";
import { iconButton, relabel } from "./icons.js";

const COUNTER_FROM = 0.8; // share of the longest message: the counter would only distract earlier
const MAX_INPUT_HEIGHT = 160; // px

export class Composer {
  #config;
  #transcript;
  #send;
  #isReplying = false;
  #input;
  #button;
  #counter = element("p", { class: "counter", id: "counter" });

  constructor(config, transcript, send, stop) {
    const { typeMessage, sendMessage } = config.text;
    this.#config = config;
    this.#transcript = transcript;
    this.#send = send;
    this.#input = element("textarea", {
      rows: 1, placeholder: typeMessage, "aria-label": typeMessage, "aria-describedby": "counter", enterkeyhint: "send",
      oninput: () => this.#inputChanged(),
      onkeydown: (event) => this.#keyPressed(event),
    });
    const sendOrStop = () => (this.#isReplying ? stop() : this.#submit());
    this.#button = iconButton(sendMessage, "send", sendOrStop, { class: "icon-button send" });
    this.node = element("div", { class: "composer" },
      element("div", { class: "field", onclick: () => this.focus() }, this.#input, this.#button), this.#counter);
    this.#updateButton();
  }

  focus() {
    this.#input.focus();
  }

  setReplying(isReplying) {
    this.#isReplying = isReplying;
    this.#updateButton();
  }

  #keyPressed(event) {
    const isComposing = event.isComposing || event.keyCode === 229; // 229: Safari's last key of a composition
    if (event.key !== "Enter" || event.shiftKey || isComposing) return;
    event.preventDefault();
    this.#submit();
  }

  #inputChanged() {
    const { maxMessageLength, text } = this.#config;
    const left = maxMessageLength - this.#length;
    const isNear = left < maxMessageLength * (1 - COUNTER_FROM);
    this.#counter.textContent = isNear ? text.charactersLeft.replace("{count}", left) : "";
    this.#input.setAttribute("aria-invalid", left < 0);
    this.#input.dir = this.#input.value ? "auto" : ""; // the placeholder follows the chat's direction
    this.#transcript.follow(() => {
      this.#input.style.height = "auto";
      this.#input.style.height = `${Math.min(this.#input.scrollHeight, MAX_INPUT_HEIGHT)}px`;
    });
    this.#updateButton();
  }

  /** In characters, as the server counts: an emoji is one. */
  get #length() {
    return [...this.#input.value].length;
  }

  #updateButton() {
    const label = this.#isReplying ? "stopResponse" : "sendMessage";
    relabel(this.#button, this.#config.text[label], this.#isReplying ? "stop" : "send");
    this.#button.setAttribute("aria-disabled", !this.#isReplying && !this.#sendable());
  }

  /** Return the question in the field, or null if it cannot be sent now. */
  #sendable() {
    const question = this.#input.value.trim();
    const { maxMessageLength, preview } = this.#config;
    const canSend = this.#length <= maxMessageLength && navigator.onLine && !this.#isReplying && !preview;
    return canSend && question ? question : null;
  }

  #submit() {
    const question = this.#sendable();
    if (!question) return;
    this.#input.value = "";
    this.#inputChanged();
    this.#send(question);
  }
}
