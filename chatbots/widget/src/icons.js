/** The widget's icons, one SVG path each, and the buttons that show them. */

import { button } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  "chat-bubble": "M7 4h10a4 4 0 0 1 4 4v5a4 4 0 0 1-4 4h-4l-5 4v-4H7a4 4 0 0 1-4-4V8a4 4 0 0 1 4-4zM8 9h8M8 13h5",
  spark: "M11 4l1.8 5.2L18 11l-5.2 1.8L11 18l-1.8-5.2L4 11l5.2-1.8zM19 15.5v5M16.5 18h5",
  plus: "M12 5v14M5 12h14",
  "question-mark": "M8.5 9.2a3.6 3.6 0 1 1 5.3 3.2c-1.2.7-1.8 1.4-1.8 2.6M12 18.6v.01",
  close: "M6 6l12 12M18 6L6 18",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M8 8h8v8H8z",
  edit: "M13 20h7M4 20l1-4.2L15.8 5a2 2 0 0 1 3.2 3.2L8.2 19z",
  menu: "M12 5.5v.01M12 12v.01M12 18.5v.01",
  chats: "M4 7h16M4 12h16M4 17h10",
  back: "M14 6l-6 6 6 6",
  download: "M12 4v11M7 10.5l5 5 5-5M5 20h14",
  fullscreen: "M9 4H4v5M15 4h5v5M9 20H4v-5M15 20h5v-5",
  exitFullscreen: "M4 9h5V4M20 9h-5V4M4 15h5v5M20 15h-5v5",
  copy: "M9 9h11v11H9zM15 9V4H4v11h5",
  check: "M5 12.5l5 5L19.5 7",
  thumb: "M7 11v9H4v-9zM7 11l3.5-7a2.5 2.5 0 0 1 3 2.5V10H19a2 2 0 0 1 2 2.4l-1.2 6a2 2 0 0 1-2 1.6H7",
  retry: "M20 12a8 8 0 1 1-2.4-5.7L20 8.5M20 4v4.5h-4.5",
  shield: "M12 3l7 3v5c0 4.5-3 8-7 10-4-2-7-5.5-7-10V6zM9 11.5l2.2 2.2L15.2 9.5",
  link: "M10 14a4 4 0 0 0 6 .4l3-3a4 4 0 0 0-5.7-5.7L12 7M14 10a4 4 0 0 0-6-.4l-3 3a4 4 0 0 0 5.7 5.7L12 17",
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("data-icon", name);
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

export function iconButton(label, name, onclick, attributes) {
  return relabel(button({ class: "icon-button", onclick, ...attributes }), label, name);
}

/** Change a button's label and icon, which belong together. Return the button. */
export function relabel(button, label, name) {
  button.title = label;
  button.setAttribute("aria-label", label);
  button.replaceChildren(icon(name));
  return button;
}
