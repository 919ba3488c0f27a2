/** The chat's header: avatar, name and menu. */

import { button, element, image } from "./dom.js";
import { icon, iconButton } from "./icons.js";

export class Header {
  #menu = null;

  /** `buttons`: fullscreen and close. */
  constructor(config, chat, buttons) {
    const { headerName, headerOnlineText } = config;
    this.node = element("header", {},
      avatar(config),
      element("div", { class: "header-text" },
        element("h2", { dir: "auto" }, headerName),
        headerOnlineText && element("p", { class: "online", dir: "auto" }, headerOnlineText),
      ),
      this.#createMenu(config, chat),
      ...buttons,
    );
  }

  #createMenu({ enableSidebar, enableDownload, text }, chat) {
    const startNewChat = () => chat.startNewChat();
    if (!enableSidebar && !enableDownload) return iconButton(text.newChat, "edit", startNewChat);
    const choose = (action) => {
      this.closeMenu();
      action();
    };
    const item = (name, label, action) => button({ onclick: () => choose(action) }, icon(name), label);
    this.#menu = element("details", { class: "menu", onfocusout: ({ relatedTarget }) => this.leaveMenu(relatedTarget) },
      element("summary", { class: "icon-button", "aria-label": text.menu, title: text.menu }, icon("menu")),
      element("div", { class: "menu-items" },
        item("edit", text.newChat, startNewChat),
        enableSidebar && item("chats", text.conversations, () => chat.toggleList(true)),
        enableDownload && item("download", text.download, () => chat.download()),
      ),
    );
    return this.#menu;
  }

  /** Close the menu if the visitor has moved on to `target`, outside of it. */
  leaveMenu(target) {
    if (this.#menu && target && !this.#menu.contains(target)) this.#menu.open = false;
  }

  /** Close the menu. Return whether it was open. */
  closeMenu() {
    if (!this.#menu?.open) return false;
    this.#menu.open = false;
    this.focusMenu();
    return true;
  }

  focusMenu() {
    this.#menu.firstChild.focus();
  }
}

/** Return the owner's picture, or the first letter of the chatbot's name. */
export function avatar({ headerAvatarUrl, headerName }) {
  const letter = [...headerName.trim()][0]?.toUpperCase() ?? "";
  const picture = headerAvatarUrl ? image(headerAvatarUrl, letter) : letter;
  return element("span", { class: "avatar", "aria-hidden": "true" }, picture);
}
