/** The visitor's earlier conversations: over the chat, or next to it where there is room. */

import { button, element, loading } from "./dom.js";
import { iconButton } from "./icons.js";

export class ConversationList {
  #config;
  #session;
  #chat;
  #back;
  #list = element("div", { class: "chat-list" });

  constructor(config, session, chat) {
    const { back, conversations } = config.text;
    this.#config = config;
    this.#session = session;
    this.#chat = chat;
    this.#back = iconButton(back, "back", () => chat.toggleList(false));
    this.node = element("nav", { class: "chats", "aria-label": conversations },
      element("div", { class: "chats-head" }, element("h3", {}, conversations), this.#back),
      this.#list,
    );
  }

  async load() {
    const { text } = this.#config;
    const show = (...nodes) => this.#list.replaceChildren(...nodes);
    show(loading(text.loading));
    this.#back.focus();
    try {
      const conversations = await this.#fetch();
      if (conversations.length) show(...conversations.map((conversation) => this.#item(conversation)));
      else show(loading(text.historyEmpty));
    } catch (error) {
      show(element("p", { class: "card failure" }, `${text.errorPrefix} ${error.message}`));
    }
  }

  /** A visitor without a session has no conversations: do not open one to learn that. */
  async #fetch() {
    return this.#session.isOpen ? (await this.#session.json("conversations")).conversations : [];
  }

  #item({ conversation_uuid: uuid, title, updated_at: updated }) {
    const day = new Intl.DateTimeFormat(this.#config.language, { dateStyle: "medium" }).format(new Date(updated));
    const isCurrent = uuid === this.#chat.conversation;
    return button({ "aria-current": isCurrent && "true", onclick: () => this.#chat.switchTo(uuid) },
      element("span", { dir: "auto" }, title), element("time", { datetime: updated }, day));
  }
}
