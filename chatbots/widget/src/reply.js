/** One message of the bot, from the typing dots to its sources and buttons. */

import { linkMarks } from "./citations.js";
import { button, element, visuallyHidden } from "./dom.js";
import { icon, iconButton, relabel } from "./icons.js";
import { link, sanitizedNodes } from "./sanitize.js";

export class Reply {
  #config;
  #transcript;
  #sendFeedback;
  #liveText = document.createTextNode("");
  #status;
  #bubble;
  #unwritten = "";
  #frame = 0;

  constructor(config, transcript, sendFeedback) {
    const { headerName, text } = config;
    this.#config = config;
    this.#transcript = transcript;
    this.#sendFeedback = sendFeedback;
    this.text = "";
    this.#status = element("span", { class: "status" }, visuallyHidden(text.thinking));
    this.content = element("div", { class: "content", dir: "auto" },
      element("span", { class: "typing" }, this.#status, element("i"), element("i"), element("i")),
    );
    this.#bubble = element("div", { class: "bubble" }, this.content);
    const botSays = visuallyHidden(text.botSays.replace("{name}", headerName));
    this.node = element("div", { class: "message bot" }, botSays, this.#bubble);
  }

  showStatus(status) {
    this.#status.replaceChildren(status);
  }

  /** Show the next piece of a stream. Pieces arrive faster than frames, so each frame adds them to one text node. */
  write(piece) {
    if (!this.text) this.content.replaceChildren(element("div", { class: "plain" }, this.#liveText));
    this.text += piece;
    this.#unwritten += piece;
    this.#frame ||= requestAnimationFrame(() => this.#flush());
  }

  #flush() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#transcript.follow(() => this.#liveText.appendData(this.#unwritten));
    this.#unwritten = "";
  }

  finish({ message_id: id, text, html, feedback, finish_reason: reason }) {
    this.#flush();
    this.text = text;
    this.#transcript.follow(() => {
      this.content.replaceChildren(...sanitizedNodes(html, text, this.#config.text.sourceOpens));
      if (["length", "content_filter"].includes(reason)) this.#mark(this.#config.text.incomplete);
      this.node.append(this.#actions(id, feedback));
    });
  }

  /** Keep the text that has arrived, and mark it as stopped by the visitor. */
  stop() {
    this.#flush();
    this.#transcript.follow(() => {
      if (!this.text) this.content.replaceChildren();
      this.#mark(this.#config.text.stopped);
    });
  }

  #mark(note) {
    this.content.append(" ", element("span", { class: "stopped" }, note));
  }

  /** Show the error below the text received so far. */
  fail(error, onRetry) {
    this.#flush();
    const { errorPrefix, retry } = this.#config.text;
    const message = error.isFailure ? `${errorPrefix} ${error.message}` : error.message;
    this.#transcript.follow(() => {
      if (!this.text) this.#bubble.remove();
      this.node.append(element("div", { class: `card ${error.isFailure ? "failure" : "notice"}`, dir: "auto" },
        element("p", {}, message),
        onRetry && button({ class: "retry", onclick: onRetry }, icon("retry"), retry),
      ));
    });
    this.#transcript.announce(message);
  }

  /** Show the sources that the text marks, and link the marks; without marks, the pages that were found. */
  showSources(sources) {
    const { showSources, text } = this.#config;
    if (!sources?.length || !showSources) return;
    const cited = sources.filter((source) => source.cited);
    const items = (cited.length ? cited : sources).map(({ title, url, excerpt, number }, index) =>
      element("li", { dir: "auto", "data-number": cited.length ? number : index + 1 },
        url ? link(url, text.sourceOpens, [title]) : element("span", { class: "title" }, title),
        excerpt && element("p", {}, excerpt),
      ),
    );
    const list = element("details", { class: "sources" },
      element("summary", {}, icon("link"), `${cited.length ? text.sources : text.related} (${items.length})`),
      element("ol", {}, ...items),
    );
    this.#transcript.follow(() => {
      linkMarks(this.content, cited, text, () => (list.open = true));
      this.#bubble.after(list);
    });
  }

  #actions(id, feedback = "none") {
    const { enableCopyButton, enableFeedback, text } = this.#config;
    const canCopy = enableCopyButton && navigator.clipboard; // undefined on pages without HTTPS
    const vote = (value, label) => iconButton(label, "thumb", () => this.#vote(id, value), {
      class: `icon-button ${value}`, "aria-pressed": String(feedback === value), "data-vote": value,
    });
    return element("div", { class: "actions" },
      canCopy && iconButton(text.copyActionLabel, "copy", (event) => this.#copy(event.currentTarget)),
      enableFeedback && id && vote("up", text.feedbackLikeLabel),
      enableFeedback && id && vote("down", text.feedbackDislikeLabel),
    );
  }

  async #copy(copyButton) {
    const { copyActionLabel, copySuccess } = this.#config.text;
    try {
      await navigator.clipboard.writeText(this.text);
    } catch {
      return; // inside a frame whose page does not allow it
    }
    relabel(copyButton, copySuccess, "check");
    this.#transcript.announce(copySuccess);
    setTimeout(() => relabel(copyButton, copyActionLabel, "copy"), 2000);
  }

  /** Send the vote. Voting the same way again takes the vote back. */
  async #vote(id, value) {
    const buttons = [...this.node.querySelectorAll("[data-vote]")];
    const before = buttons.find((one) => one.getAttribute("aria-pressed") === "true")?.dataset.vote ?? "none";
    const show = (vote) => buttons.forEach((one) => one.setAttribute("aria-pressed", one.dataset.vote === vote));
    const vote = before === value ? "none" : value;
    show(vote);
    if (!(await this.#sendFeedback(id, vote))) show(before);
  }
}
