/** Make DOM nodes. */

/** Create an element. Functions are listeners (named onclick and the like); false, null and undefined are left out. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child != null && child !== false));
  return node;
}

export const button = (attributes, ...children) => element("button", { type: "button", ...attributes }, ...children);

/** Show the image at `address`, or `fallback` where the host page's policy or the network keeps it from loading. */
export function image(address, fallback) {
  const picture = element("img", { src: address, alt: "", referrerpolicy: "no-referrer" });
  picture.addEventListener("error", () => picture.replaceWith(fallback), { once: true });
  return picture;
}

export const loading = (text) => element("p", { class: "loading" }, text);

export const visuallyHidden = (text) => element("span", { class: "visually-hidden" }, text);
