/**
 * Copy a reply's HTML into the widget through a list of allowed elements.
 *
 * The server has sanitized the HTML already. This is the second layer: whatever passes the first one by mistake still
 * cannot run a script on the host page.
 */

import { element, visuallyHidden } from "./dom.js";

const ALLOWED = new Set("p br hr em strong s code blockquote ul li thead tbody tr th td".split(" "));
const HEADING = /^h[1-6]$/;

const htmlPolicy = createPolicy();

/** Return a policy for hosts that require Trusted Types, or null where the host page forbids ours. */
function createPolicy() {
  const rules = { createHTML: (html) => html };
  try {
    return window.trustedTypes?.createPolicy("puffer", rules) ?? rules;
  } catch {
    return null;
  }
}

/** Return the allowed nodes of `html`, or the plain `text` where the host page forbids parsing HTML. */
export function sanitizedNodes(html, text, opensInNewTab) {
  if (!htmlPolicy) return [element("div", { class: "plain" }, text)];
  const parsed = new DOMParser().parseFromString(htmlPolicy.createHTML(html), "text/html");
  return copyChildren(parsed.body, opensInNewTab);
}

function copyChildren(node, opensInNewTab) {
  return [...node.childNodes].flatMap((child) => copyAllowed(child, opensInNewTab));
}

function copyAllowed(node, opensInNewTab) {
  if (node.nodeType === Node.TEXT_NODE) return [node.data];
  if (node.nodeType !== Node.ELEMENT_NODE) return [];
  const tag = node.localName;
  const children = copyChildren(node, opensInNewTab);
  if (tag === "a") return [link(node.getAttribute("href"), opensInNewTab, children)];
  // Every heading becomes an h3, one level below the chat's name, so that the host page's outline stays in order.
  if (HEADING.test(tag)) return [element("h3", { class: tag }, ...children)];
  if (tag === "ol") return [element("ol", { start: node.getAttribute("start") }, ...children)];
  // Blocks that can be wider than the bubble scroll on their own; tabindex lets the keyboard scroll them.
  if (tag === "pre") return [element("pre", { tabindex: 0, dir: "ltr" }, ...children)];
  if (tag === "table") return [element("div", { class: "table", tabindex: 0 }, element("table", {}, ...children))];
  return ALLOWED.has(tag) ? [element(tag, {}, ...children)] : children;
}

/** Return a link that opens in a new tab, or its bare text if the address is not one of the web or of mail. */
export function link(address, opensInNewTab, children) {
  if (!/^(https?:|mailto:)/i.test(address ?? "")) return element("span", {}, ...children);
  const attributes = { href: address, target: "_blank", rel: "nofollow noopener noreferrer" };
  return element("a", attributes, ...children, visuallyHidden(` (${opensInNewTab})`));
}
