/** The scrolling list of messages, and what screen readers hear of it. */

import { button, element, loading, visuallyHidden } from "./dom.js";
import { avatar } from "./header.js";
import { Reply } from "./reply.js";

const AT_BOTTOM = 48; // px: closer than this to the end, the list follows new text

export class Transcript {
  #config;
  #announcer = element("p", { class: "visually-hidden" });
  #messages = element("div", { class: "messages", "aria-live": "off" });
  #lines = new WeakMap(); // node of a message -> its author and text

  constructor(config) {
    this.#config = config;
    // Screen readers hear the announcer only: whole replies instead of each piece.
    this.node = element("div", {
      class: "log", role: "log", "aria-live": "polite", "aria-label": config.headerName, tabindex: 0,
    }, this.#messages, this.#announcer);
  }

  /** Show the greeting. Each starter asks its question. */
  showWelcome(ask) {
    const { starters, enableStarters, text } = this.#config;
    const starter = (question) => button({ dir: "auto", onclick: () => ask(question) }, question);
    this.#messages.replaceChildren(element("div", { class: "welcome" },
      avatar(this.#config),
      element("p", { class: "greeting", dir: "auto" }, text.initialGreeting),
      text.initialSubgreeting && element("p", { class: "subgreeting", dir: "auto" }, text.initialSubgreeting),
      enableStarters && starters.length > 0 && element("div", { class: "starters" }, ...starters.map(starter)),
    ));
  }

  showLoading() {
    this.#messages.replaceChildren(loading(this.#config.text.loading));
  }

  removeWelcome() {
    this.#messages.querySelector(".welcome")?.remove();
  }

  /** Return the node. */
  addQuestion(text) {
    const { userPrefix } = this.#config.text;
    const question = element("div", { class: "message visitor" },
      visuallyHidden(userPrefix),
      element("div", { class: "bubble" }, element("div", { class: "plain", dir: "auto" }, text)),
    );
    this.record(question, userPrefix, text);
    this.#messages.append(question);
    return question;
  }

  addReply(sendFeedback) {
    const reply = new Reply(this.#config, this, sendFeedback);
    this.#messages.append(reply.node);
    return reply;
  }

  /** Include the message in downloads. */
  record(node, author, text) {
    this.#lines.set(node, { author, text });
  }

  /** Make a change and stay at the end, unless the visitor has scrolled up. */
  follow(change) {
    const { scrollHeight, scrollTop, clientHeight } = this.node;
    change();
    if (scrollHeight - scrollTop - clientHeight < AT_BOTTOM) this.scrollToEnd();
  }

  scrollToEnd() {
    this.node.scrollTop = this.node.scrollHeight;
  }

  /** Make a change that would lose the scroll position, such as moving the list within the page. */
  keepScroll(change) {
    const { scrollTop } = this.node;
    change();
    this.node.scrollTop = scrollTop;
  }

  announce(text) {
    this.#announcer.textContent = text;
  }

  /** Save the conversation as a text file. Return whether there was anything to save. */
  download() {
    const lines = [...this.#messages.children].map((node) => this.#lines.get(node)).filter((line) => line?.text);
    if (!lines.length) return false;
    const text = lines.map((line) => `${line.author}\n${line.text}\n`).join("\n");
    const address = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    const day = new Date().toISOString().slice(0, 10);
    element("a", { href: address, download: `${this.#config.headerName} ${day}.txt` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
    return true;
  }
}
