/** Where the chat is on the page: inline, in a popup, on a page of its own, or fullscreen. */

import { button, element, image } from "./dom.js";
import { Hint } from "./hint.js";
import { icon, iconButton, relabel } from "./icons.js";
import { PHONE, TOUCH } from "./media.js";
import { applyTheme } from "./theme.js";

const HAS_POPOVER = "showPopover" in HTMLElement.prototype; // Safari from 17
const popups = new Map(); // <puffer-chat> -> its frame, so that popups in one corner stand side by side

export const forgetPopup = (widget) => popups.delete(widget);

export class Frame {
  #widget;
  #config;
  #chat;
  #isPopup;
  #isOpen = false;
  #isFullscreen = false;
  #focused = null;
  #root;
  #dialog; // holds the panel of a popup, and of an inline chat while it is fullscreen
  #corner;
  #launcher;
  #fullscreenButton;

  constructor(widget, config) {
    const { enableFullscreen, kind, text } = config;
    this.#widget = widget;
    this.#config = config;
    this.#isPopup = kind === "popup";
    this.hint = new Hint(config, () => this.open());
    this.#fullscreenButton = iconButton(text.fullscreen, "fullscreen", () => this.#toggleFullscreen(), {
      class: "icon-button fullscreen",
    });
    this.buttons = [
      enableFullscreen && kind !== "page" && this.#fullscreenButton,
      this.#isPopup && iconButton(text.closeChat, "close", () => this.close()),
    ];
  }

  /** Return the node with the chat in it. */
  render(chat) {
    const { direction, kind, language, text, theme } = this.#config;
    this.#chat = chat;
    this.#root = element("div", {
      class: `root ${kind}`, lang: language, dir: direction,
      "data-theme": theme, "data-scheme": ["light", "dark"].includes(theme) && theme,
      onkeydown: (event) => this.#keyPressed(event),
      onpointerdown: ({ target }) => chat.header.leaveMenu(target),
      onfocusin: ({ target }) => (this.#focused = target),
      onfocusout: ({ relatedTarget }) => {
        // Some browsers also send it when the page removes the element, which may be back by the end of the task.
        if (relatedTarget) this.#focused = null;
        else setTimeout(() => (this.#focused = this.#widget.shadowRoot.activeElement));
      },
    });
    // The host page cannot tell that keys are typed into a field here, and would run its keyboard shortcuts. Its modals
    // would take the focus back.
    for (const name of ["keydown", "keypress", "keyup", "focusin", "focusout"]) {
      this.#root.addEventListener(name, (event) => event.stopPropagation());
    }
    applyTheme(this.#root, this.#config, this.#widget);
    this.#dialog = element("dialog", {
      "aria-label": text.chatWith, tabindex: -1, onclose: () => this.#dialogClosed(),
    });
    if (this.#isPopup) this.#root.append(this.#renderCorner());
    else this.#root.append(chat.panel, this.#dialog);
    return this.#root;
  }

  // -- The popup --

  #renderCorner() {
    const { headerName, popupIconSize, popupIconStyle, popupPosition } = this.#config;
    this.#dialog.append(this.#chat.panel);
    this.#launcher = button({
      class: `launcher ${popupIconSize} ${popupIconStyle}`, "aria-haspopup": "dialog",
      onclick: () => (this.#isOpen ? this.close() : this.open()),
    });
    this.#showIcon();
    this.#corner = element("div", {
      class: `corner ${popupPosition}`, role: "region", "aria-label": headerName,
      popover: HAS_POPOVER && "manual", hidden: true,
    }, this.#dialog, this.hint.node, this.#launcher);
    return this.#corner;
  }

  /** Show the owner's icon on the button of the closed chat. */
  #showIcon() {
    const { popupIconValue, text } = this.#config;
    const isAddress = popupIconValue.startsWith("https://");
    this.#launcher.setAttribute("aria-expanded", false);
    relabel(this.#launcher, text.openChat, isAddress ? "chat-bubble" : popupIconValue);
    if (isAddress) this.#launcher.replaceChildren(image(popupIconValue, icon("chat-bubble")));
  }

  /** Show the popup's button after the owner's delay. */
  place() {
    const { popupDelay, popupPosition, preview } = this.#config;
    popups.set(this.#widget, this);
    // Copies of the page, as Turbo and htmx restore them, hold copies of the chat that embed.js replaces at once.
    const neighbors = [...popups.values()].filter(
      (frame) => frame.#widget.isConnected && frame.#config.popupPosition === popupPosition,
    );
    neighbors.forEach((frame, place) => {
      frame.#corner.style.setProperty("--place", place);
      frame.#corner.style.setProperty("--popups", neighbors.length);
    });
    if (preview) return this.open();
    setTimeout(() => {
      this.showCorner();
      if (!this.#isOpen) this.hint.schedule();
    }, popupDelay * 1000);
  }

  /** Use the browser's top layer if it has one, out of reach of the host page's z-index and transforms. */
  showCorner() {
    if (!this.#corner?.isConnected) return;
    this.#corner.hidden = false;
    if (HAS_POPOVER && !this.#corner.matches(":popover-open")) this.#corner.showPopover();
  }

  /** Restore what the browser drops when the page moves the element: top layer, scroll position and focus. */
  reconnected() {
    const focused = this.#focused;
    if (this.#corner && !this.#corner.hidden) this.showCorner();
    if (this.#dialog.open && this.#dialog.matches(".full")) this.#showDialog();
    this.#chat.transcript.scrollToEnd();
    if (document.activeElement === document.body) focused?.focus({ preventScroll: true });
  }

  open() {
    if (!this.#isPopup) return this.focusChat();
    if (this.#isOpen) return;
    this.#isOpen = true;
    this.showCorner();
    this.#showDialog();
    this.hint.chatOpened();
    this.#launcher.setAttribute("aria-expanded", true);
    relabel(this.#launcher, this.#config.text.closeChat, "close");
    this.#chat.resume();
    this.#widget.emit("open");
  }

  close() {
    if (!this.#isOpen) return;
    const { shadowRoot } = this.#widget;
    const hadFocus = shadowRoot.activeElement !== null;
    this.#isOpen = false;
    this.#setFullscreen(false);
    this.#dialog.close();
    this.#showIcon();
    this.hint.show();
    // The browser returns the focus to what had it before, but after a click in Safari nothing had.
    const isLost = document.activeElement === document.body || this.#dialog.contains(shadowRoot.activeElement);
    if (hadFocus && isLost) this.#launcher.focus();
    this.#widget.emit("close");
  }

  // -- The dialog --

  /** Make it modal when it covers the screen: keyboards and screen readers then skip the page below. */
  #showDialog() {
    const isModal = this.#isFullscreen || (PHONE.matches && !this.#config.preview);
    this.#chat.transcript.keepScroll(() => {
      this.#dialog.close();
      this.#dialog.classList.toggle("full", isModal);
      if (isModal) this.#dialog.showModal();
      else this.#dialog.show();
    });
    this.fitViewport();
    this.focusChat();
  }

  screenChanged() {
    if (this.#isOpen) this.#showDialog();
  }

  /** The widget may have closed the dialog, or the browser: the back button of a phone does. */
  #dialogClosed() {
    if (this.#dialog.open) return;
    if (this.#isPopup) this.close();
    else if (this.#isFullscreen) this.#toggleFullscreen();
  }

  #setFullscreen(isFullscreen) {
    this.#isFullscreen = isFullscreen;
    const name = isFullscreen ? "exitFullscreen" : "fullscreen";
    relabel(this.#fullscreenButton, this.#config.text[name], name);
  }

  #toggleFullscreen() {
    const { panel, transcript } = this.#chat;
    this.#setFullscreen(!this.#isFullscreen);
    if (this.#isPopup) return this.#showDialog();
    transcript.keepScroll(() => (this.#isFullscreen ? this.#dialog : this.#root).prepend(panel));
    if (this.#isFullscreen) this.#showDialog();
    else this.#dialog.close();
    this.#fullscreenButton.focus();
  }

  /** Shrink the dialog to what a phone's keyboard leaves: it covers the page without resizing it. */
  fitViewport() {
    if (!this.#dialog?.open) return;
    this.#dialog.style.setProperty("--viewport", `${visualViewport.height}px`);
    this.#dialog.style.setProperty("--viewport-top", `${visualViewport.offsetTop}px`);
  }

  focusChat() {
    // On a touch screen, focusing the message field would bring up the keyboard at once.
    if (TOUCH.matches && !this.#chat.asksConsent) this.#dialog.focus();
    else this.#chat.focus();
  }

  #keyPressed(event) {
    if (event.key !== "Escape" || event.isComposing) return;
    if (this.#chat.dismiss()) event.preventDefault();
    else if (this.#isPopup || this.#isFullscreen) {
      event.preventDefault();
      if (this.#isPopup) this.close();
      else this.#toggleFullscreen();
    }
  }
}
