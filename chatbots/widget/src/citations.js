/** The marks [n] of a reply: small numbers that open their source. */

import { button, element } from "./dom.js";
import { link } from "./sanitize.js";

const MARK = /(\s*\[\d{1,2}\])/; // with the blanks before it, so that the number stands next to its word

/** Replace the marks in the text, but not in code. A source without an address is shown in the list below. */
export function linkMarks(content, sources, text, openList) {
  const byNumber = new Map(sources.map((source) => [String(source.number), source]));
  const walker = document.createTreeWalker(content, NodeFilter.SHOW_TEXT);
  const nodes = [];
  while (walker.nextNode()) if (!walker.currentNode.parentElement.closest("code, a")) nodes.push(walker.currentNode);
  for (const node of nodes) {
    const parts = node.data.split(MARK); // every second part is a mark
    if (parts.length > 1) node.replaceWith(...parts.map((part, index) => (index % 2 ? marked(part) : part)));
  }

  function marked(mark) {
    const [number] = mark.match(/\d+/);
    const source = byNumber.get(number);
    if (!source) return mark;
    const label = `${text.sources} ${number}: ${source.title}`;
    const opener = source.url ? link(source.url, text.sourceOpens, [number]) : button({ onclick: openList }, number);
    opener.setAttribute("aria-label", opener.href ? `${label} (${text.sourceOpens})` : label);
    return element("sup", { class: "mark" }, opener);
  }
}
