/*
 * The chat of one bot: <puffer-chat data-config='{...}'>, which draws itself in a shadow root.
 *
 *   looks -> elements -> the HTML of answers -> events of a stream -> memory -> visit -> hint -> answer -> the chat
 *
 * A module without a build step. It calls the bot's own site alone, sets no cookie, adds no inline script or style, and
 * defines nothing on the page but its element: what host pages call is window.Puffer, of embed.js.
 * Words come from the server, in `config.text`.
 */

const PHONE = matchMedia("(max-width: 480px), (max-height: 480px)"); // the same words in widget.css
const TOUCH = matchMedia("(pointer: coarse)");

// ---- Looks: from the owner's colors to custom properties, every pair of them legible ----

const SURFACES = { light: "#ffffff", dark: "#15181e" };
const INKS = ["#ffffff", "#14171f", "#000000"]; // one of them is legible on any color
const TEXT_CONTRAST = 4.5; // WCAG 2.2, 1.4.3
const SHAPE_CONTRAST = 3; // WCAG 2.2, 1.4.11

// primary: header, button, visitor's bubbles; secondary: the bot's bubbles; accent: links
const PLAIN = { primary: "#0b5fff", secondary: "#f1f3f7", accent: "#0b5fff" };
const PRESETS = {
  ocean: { primary: "#0b5fff", secondary: "#eef4ff", accent: "#0b4fd6" },
  lagoon: { primary: "#0e7490", secondary: "#e9f7fa", accent: "#0e6377" },
  forest: { primary: "#166b3f", secondary: "#edf6f0", accent: "#166b3f" },
  ember: { primary: "#c2410c", secondary: "#fdf2ec", accent: "#a8380a" },
  rose: { primary: "#be1850", secondary: "#fdf0f4", accent: "#a81547" },
  berry: { primary: "#7a28cb", secondary: "#f6f0fd", accent: "#6b21b8" },
  midnight: { primary: "#1f2a44", secondary: "#eff1f6", accent: "#2f4b8f" },
  citrine: { primary: "#f7c948", secondary: "#fdf7e3", accent: "#8a5a00" },
};
const CHATGPT = {
  light: { primary: "#0d0d0d", secondary: "#f1f1f1", accent: "#0d0d0d" },
  dark: { primary: "#f4f4f4", secondary: "#323232", accent: "#f4f4f4", surface: "#212121" },
};

const channels = (color) => [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16));

function mix(color, other, share) {
  const others = channels(other);
  const mixed = channels(color).map((value, at) => Math.round(value * (1 - share) + others[at] * share));
  return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

function luminance(color) {
  const [red, green, blue] = channels(color).map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(color, other) {
  const [darker, lighter] = [luminance(color), luminance(other)].sort((a, b) => a - b);
  return (lighter + 0.05) / (darker + 0.05);
}

const inkOn = (color) => INKS.find((ink) => contrast(ink, color) >= TEXT_CONTRAST);

/** The color, moved towards black or white as far as it takes to stand out from `ground`. */
function legible(color, ground, least = TEXT_CONTRAST) {
  const end = luminance(ground) > 0.18 ? "#000000" : "#ffffff";
  for (let share = 0; share < 1; share += 0.05) {
    const moved = mix(color, end, share);
    if (contrast(moved, ground) >= least) return moved;
  }
  return end;
}

/** A neighbor of the color on which its own ink is at least as legible. */
const deepen = (color, share) => mix(color, luminance(inkOn(color)) > 0.5 ? "#000000" : "#ffffff", share);

function palette(mode, { primary, secondary, accent, surface = SURFACES[mode] }, keepSecondary) {
  const fill = mode === "dark" ? legible(primary, surface, SHAPE_CONTRAST) : primary;
  const bubble = mode === "light" || keepSecondary ? secondary : mix("#232831", fill, 0.1);
  return {
    surface,
    fill,
    "fill-end": deepen(fill, 0.16),
    "on-fill": inkOn(fill),
    bubble,
    "on-bubble": inkOn(bubble),
    code: deepen(bubble, 0.5),
    link: legible(accent, bubble),
    accent: legible(accent, surface),
  };
}

function paletteOf(config, mode) {
  if (config.theme === "chatgpt") return palette(mode, CHATGPT[mode], true);
  if (config.theme !== "custom") return palette(mode, PLAIN);
  const { primaryColor, secondaryColor, accentColor } = config.customThemeSettings;
  const own = { primary: primaryColor, secondary: secondaryColor, accent: accentColor };
  return palette(mode, PRESETS[config.customThemePresetKey] ?? own);
}

/** Custom properties for both modes at once: the style sheet's `color-scheme` chooses. */
function customProperties(config) {
  const [light, dark] = ["light", "dark"].map((mode) => paletteOf(config, mode));
  const settings = config.customThemeSettings;
  const colors = Object.keys(light).map((name) => [`--${name}`, `light-dark(${light[name]}, ${dark[name]})`]);
  return Object.fromEntries([
    ...colors,
    ["--bubble-radius", `${settings.bubbleRadius}px`],
    ["--max-width", `${settings.containerMaxWidth}px`],
    ["--height", `${settings.containerHeight}px`],
    ["--popup-width", `${settings.popupWidth}px`],
    ["--popup-height", `${settings.popupHeight}px`],
  ]);
}

const styleSheets = new Map(); // address -> promise: bots of one page share it

/** Adopted, not linked: a host's Content-Security-Policy for styles does not touch it. */
function styleSheet(address) {
  if (!styleSheets.has(address)) {
    const loading = fetch(address, { credentials: "omit" }).then(async (response) => {
      if (!response.ok) throw new Error(`${address} answers ${response.status}`);
      return new CSSStyleSheet().replace(await response.text());
    });
    styleSheets.set(address, loading);
    loading.catch(() => styleSheets.delete(address));
  }
  return styleSheets.get(address);
}

// ---- Elements ----

/** Attributes named on… are listeners; false, null and undefined are left out. */
function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child != null && child !== false));
  return node;
}

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

function icon(name) {
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

function iconButton(label, name, onclick, attributes = {}) {
  const named = { type: "button", class: "icon-button", "aria-label": label, title: label, onclick };
  return element("button", { ...named, ...attributes }, icon(name));
}

function relabel(button, label, name) {
  button.setAttribute("aria-label", label);
  button.title = label;
  button.replaceChildren(icon(name));
}

/** An image of the owner's; where the host page does not let it load, what is shown `instead`. */
function image(address, instead) {
  const picture = element("img", { src: address, alt: "", referrerpolicy: "no-referrer" });
  picture.addEventListener("error", () => picture.replaceWith(instead), { once: true });
  return picture;
}

const unseen = (text) => element("span", { class: "unseen" }, text);

// ---- The HTML of answers: sanitised by the server, and once more let through a list here ----

const ALLOWED = new Set("p br hr em strong s code pre blockquote ul ol li table thead tbody tr th td a".split(" "));
const HEADINGS = new Set(["h1", "h2", "h3", "h4", "h5", "h6"]);

const htmlPolicy = createPolicy();

/** For hosts that require Trusted Types: what is parsed is only read, never adopted. null where the host forbids it. */
function createPolicy() {
  const rules = { createHTML: (html) => html };
  try {
    return window.trustedTypes ? window.trustedTypes.createPolicy("puffer", rules) : rules;
  } catch {
    return null;
  }
}

/** Nodes of the answer; its plain text where the host lets no HTML be parsed. */
function answerNodes(html, text, opensInNewTab) {
  if (!htmlPolicy) return [element("div", { class: "plain" }, text)];
  const parsed = new DOMParser().parseFromString(htmlPolicy.createHTML(html), "text/html");
  return [...parsed.body.childNodes].flatMap((node) => copyAllowed(node, opensInNewTab));
}

function copyAllowed(node, opensInNewTab) {
  if (node.nodeType === Node.TEXT_NODE) return [document.createTextNode(node.data)];
  if (node.nodeType !== Node.ELEMENT_NODE) return [];
  const tag = node.localName;
  const children = [...node.childNodes].flatMap((child) => copyAllowed(child, opensInNewTab));
  if (tag === "a") return [link(node.getAttribute("href"), opensInNewTab, children)];
  // Headings of an answer are all one level below the chat's name, so that the outline of the page stays whole.
  if (HEADINGS.has(tag)) return [element("h3", { class: tag }, ...children)];
  if (!ALLOWED.has(tag)) return children;
  if (tag === "ol") return [element("ol", { start: node.getAttribute("start") }, ...children)];
  // What may be wider than the bubble scrolls by itself, by keyboard too.
  if (tag === "pre") return [element("pre", { tabindex: 0, dir: "ltr" }, ...children)];
  if (tag === "table") return [element("div", { class: "table", tabindex: 0 }, element("table", {}, ...children))];
  return [element(tag, {}, ...children)];
}

function link(address, opensInNewTab, children) {
  if (!/^(https?:|mailto:)/i.test(address ?? "")) return element("span", {}, ...children);
  const attributes = { href: address, target: "_blank", rel: "nofollow noopener noreferrer" };
  return element("a", attributes, ...children, unseen(` (${opensInNewTab})`));
}

// ---- Events of a stream ----

/** {event, data} for each server-sent event of a body, wherever its pieces were cut. Its end cancels the body. */
async function* readEvents(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let event = "";
  let data = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += decoder.decode(value, { stream: !done });
      const lines = rest.split(/\r\n|\n|\r(?!$)/); // a CR at the very end may be half of CRLF
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("event:")) event = line.slice(6).trim();
        else if (line.startsWith("data:")) data += line.slice(5);
        else if (line === "") {
          if (data) yield { event, data: JSON.parse(data) };
          event = data = "";
        }
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {}); // of a body that was aborted already
  }
}

// ---- Memory: what is kept of a bot in this browser; for this page alone where storage is blocked ----

class Memory {
  #storage;
  #values = {};

  /** `storageName` null: for this page alone. */
  constructor(key, storageName) {
    this.key = key;
    try {
      this.#storage = window[storageName];
    } catch {
      this.#storage = null;
    }
  }

  /** Read afresh each time: another tab may have written. */
  read() {
    try {
      return JSON.parse(this.#storage.getItem(this.key)) ?? {};
    } catch {
      return this.#values;
    }
  }

  write(changes) {
    this.#values = { ...this.read(), ...changes };
    try {
      this.#storage.setItem(this.key, JSON.stringify(this.#values));
    } catch {
      this.#storage = null;
    }
  }

  forget() {
    const blank = Object.fromEntries(Object.keys(this.read()).map((name) => [name, undefined]));
    this.write(blank);
  }
}

// ---- Visit: the visitor's token, and calls in their name ----

class Refusal extends Error {
  constructor({ code = "", message = "", data = {}, quota_notice: notice = null }) {
    super(notice?.message ?? message);
    this.code = code;
    this.status = data.status ?? 0; // 0: no answer came at all
    this.isQuota = notice !== null;
  }

  /** Something broke; what was refused, on the other hand, is told in the owner's words. */
  get isFailure() {
    return this.status === 0 || this.status >= 500;
  }

  /** Whether the same question may fare better a little later. */
  get isPassing() {
    return !this.isQuota && (this.isFailure || this.status === 408 || this.status === 429);
  }
}

class Visit {
  #config;
  #memory;
  #identity = null; // of the host page, until a session has taken it

  constructor(config, memory, onRefusedIdentity) {
    this.#config = config;
    this.#memory = memory;
    this.onRefusedIdentity = onRefusedIdentity;
  }

  get needsConsent() {
    return this.#config.requireConsentCompliance && !this.#memory.read().consent;
  }

  /** A user of the host's, or null when they have signed out. What another user left in this browser is forgotten. */
  identify(identity) {
    const { userId } = this.#memory.read();
    this.#identity = identity;
    if (userId && userId !== identity?.user_id) this.#memory.forget();
  }

  /** The answer to a call. `body` is a function, for a new visitor no longer has the conversation of the one before. */
  async call(path, { body, signal } = {}) {
    const send = async (token) => this.#send(path, { token, body: body?.(), signal });
    const token = await this.#token();
    let response = await send(token);
    if (response.status === 401) response = await send(await this.#openSession(token));
    if (!response.ok) throw await refusalOf(response);
    return response;
  }

  async json(path, options) {
    return (await this.call(path, options)).json();
  }

  async consent() {
    this.#keep(await this.json("consent", { body: () => ({}) }));
  }

  async #token() {
    return this.#usableToken() ?? this.#openSession();
  }

  #usableToken(refused) {
    const { token, renewAt, userId } = this.#memory.read();
    const isOfUser = !this.#identity || this.#identity.user_id === userId;
    return token && token !== refused && Date.now() < renewAt && isOfUser ? token : undefined;
  }

  /** One tab at a time: two that began a session each would be two visitors. */
  #openSession(refused) {
    const open = async () => this.#usableToken(refused) ?? this.#requestSession();
    return navigator.locks ? navigator.locks.request(this.#memory.key, open) : open();
  }

  async #requestSession() {
    const offer = { token: this.#memory.read().token, identity: this.#identity ?? undefined };
    for (;;) {
      const response = await this.#send("session", { body: offer });
      if (response.ok) {
        this.#identity = null;
        return this.#keep(await response.json(), offer.identity?.user_id);
      }
      const refusal = await refusalOf(response);
      if (refusal.code === "invalid_identity" && offer.identity) {
        this.#identity = offer.identity = undefined; // the visitor chats on as a guest
        this.onRefusedIdentity(refusal);
      } else if (refusal.code === "invalid_visitor_token" && offer.token) {
        offer.token = undefined;
      } else throw refusal;
    }
  }

  #keep(session, userId) {
    const kept = this.#memory.read();
    this.#memory.write({
      token: session.token,
      renewAt: Date.now() + session.expires_in * 500, // at half its life
      visitorId: session.visitor_id,
      consent: !session.consent_required,
      userId: session.identified ? (userId ?? kept.userId) : undefined,
      conversation: kept.visitorId === session.visitor_id ? kept.conversation : undefined,
    });
    return session.token;
  }

  async #send(path, { token, body, signal }) {
    const headers = new Headers(token && { Authorization: `Visitor ${token}` });
    const request = { headers, signal, credentials: "omit" };
    if (body) {
      headers.set("Content-Type", "application/json");
      Object.assign(request, { method: "POST", body: JSON.stringify(body) });
    }
    try {
      return await fetch(`${this.#config.apiUrl}/${path}`, request);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal({ code: "unreachable", message: this.#config.text.connError });
    }
  }
}

async function refusalOf(response) {
  const answer = await response.json().catch(() => ({}));
  return new Refusal({ ...answer, data: { status: response.status } });
}

// ---- Hint: the bubble beside the popup's button ----

class Hint {
  #config;
  #kept; // that the hint has been seen, for as long as its frequency says

  constructor(config, key, onClick) {
    const { text } = config;
    this.#config = config;
    const storages = { once_per_session: "sessionStorage", once_per_visitor: "localStorage" };
    this.#kept = new Memory(`${key}:hint`, config.preview ? null : storages[config.popupLabelFrequency]);
    this.node = element("div", { class: "hint", hidden: true },
      element("button", { type: "button", class: "hint-text", onclick: onClick }, config.popupLabelText),
      config.popupLabelDismissible && iconButton(text.dismissHint, "close", () => this.end()),
    );
  }

  /** Once the popup's button is there. */
  schedule() {
    const { popupLabelEnabled, popupLabelText, popupLabelMode, popupLabelDelaySeconds } = this.#config;
    const suits = PHONE.matches ? this.#config.popupLabelShowOnMobile : this.#config.popupLabelShowOnDesktop;
    if (!popupLabelEnabled || !popupLabelText || !suits || this.#kept.read().seen) return;
    this.isDue = true;
    this.#wait(popupLabelMode === "on_delay" ? popupLabelDelaySeconds : 0, () => this.show());
  }

  show() {
    const { popupLabelMode, popupLabelAutoHideSeconds } = this.#config;
    if (!this.isDue) return;
    this.node.hidden = false;
    if (popupLabelMode === "always" || popupLabelMode === "on_delay") this.#kept.write({ seen: true });
    if (popupLabelAutoHideSeconds) this.#wait(popupLabelAutoHideSeconds, () => this.end());
  }

  /** While the chat is open there is nothing to hint at; afterwards some come back. */
  chatOpened() {
    this.hide();
    if (["on_delay", "until_open"].includes(this.#config.popupLabelMode)) this.end();
  }

  hide() {
    clearTimeout(this.timer);
    this.node.hidden = true;
  }

  end() {
    this.hide();
    this.isDue = false;
    this.#kept.write({ seen: true });
  }

  #wait(seconds, then) {
    clearTimeout(this.timer);
    this.timer = setTimeout(then, seconds * 1000);
  }
}

// ---- Answer: one message of the bot, from the first dots to its sources ----

const FEW_SOURCES = 2; // more are folded away

class Answer {
  #chat; // {config, follow, announce, sendFeedback}
  #waiting = "";
  #frame = 0;

  constructor(chat) {
    this.#chat = chat;
    const { text } = chat.config;
    this.text = "";
    this.live = document.createTextNode("");
    this.status = element("span", { class: "status" }, unseen(text.thinking));
    this.content = element("div", { class: "content", dir: "auto" },
      element("span", { class: "typing" }, this.status, element("i"), element("i"), element("i")),
    );
    this.bubble = element("div", { class: "bubble" }, this.content);
    const says = text.botSays.replace("{name}", chat.config.headerName);
    this.node = element("div", { class: "message bot" }, unseen(says), this.bubble);
  }

  showStatus(words) {
    this.status.replaceChildren(words);
  }

  /** Pieces come faster than the screen is drawn: they are added once per frame, to one text node. */
  write(piece) {
    if (!this.text) this.content.replaceChildren(element("div", { class: "plain" }, this.live));
    this.text += piece;
    this.#waiting += piece;
    this.#frame ||= requestAnimationFrame(() => this.#flush());
  }

  #flush() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#chat.follow(() => this.live.appendData(this.#waiting));
    this.#waiting = "";
  }

  finish({ message_id: id, text, html, feedback }) {
    this.#flush();
    const words = this.#chat.config.text;
    this.text = text;
    this.#chat.follow(() => {
      this.content.replaceChildren(...answerNodes(html, text, words.sourceOpens));
      this.node.append(this.#actions(id, feedback));
    });
  }

  /** Stopped by the visitor: what has come stays. */
  stop() {
    this.#flush();
    const { stopped } = this.#chat.config.text;
    this.#chat.follow(() => {
      if (!this.text) this.content.replaceChildren();
      this.content.append(element("span", { class: "stopped" }, stopped));
    });
  }

  /** Said in the bubble's place; what has come of the answer stays above it. */
  fail(refusal, onRetry) {
    this.#flush();
    const { errorPrefix, retry } = this.#chat.config.text;
    const words = refusal.isFailure ? `${errorPrefix} ${refusal.message}` : refusal.message;
    this.#chat.follow(() => {
      if (!this.text) this.bubble.remove();
      this.node.append(element("div", { class: `card ${refusal.isFailure ? "failure" : "notice"}`, dir: "auto" },
        element("p", {}, words),
        onRetry && element("button", { type: "button", class: "retry", onclick: onRetry }, icon("retry"), retry),
      ));
    });
    this.#chat.announce(words);
  }

  showSources(sources) {
    const { config } = this.#chat;
    if (!sources?.length || !config.showSources) return;
    const items = sources.map(({ title, url, excerpt }) =>
      element("li", { dir: "auto" },
        url ? link(url, config.text.sourceOpens, [title]) : element("span", { class: "title" }, title),
        excerpt && element("p", {}, excerpt),
      ),
    );
    const list = element("details", { class: "sources", open: sources.length <= FEW_SOURCES },
      element("summary", {}, icon("link"), `${config.text.sources} (${sources.length})`),
      element("ol", {}, ...items),
    );
    this.#chat.follow(() => this.bubble.after(list));
  }

  #actions(id, feedback = "none") {
    const { config } = this.#chat;
    const canCopy = config.enableCopyButton && navigator.clipboard; // which pages without https do not have
    const vote = (value, label) => iconButton(label, "thumb", () => this.#vote(id, value), {
      class: `icon-button ${value}`, "aria-pressed": String(feedback === value), "data-vote": value,
    });
    return element("div", { class: "actions" },
      canCopy && iconButton(config.text.copyActionLabel, "copy", (event) => this.#copy(event.currentTarget)),
      config.enableFeedback && id && vote("up", config.text.feedbackLikeLabel),
      config.enableFeedback && id && vote("down", config.text.feedbackDislikeLabel),
    );
  }

  async #copy(button) {
    const { copyActionLabel, copySuccess } = this.#chat.config.text;
    try {
      await navigator.clipboard.writeText(this.text);
    } catch {
      return; // in a frame whose page does not let it
    }
    relabel(button, copySuccess, "check");
    this.#chat.announce(copySuccess);
    setTimeout(() => relabel(button, copyActionLabel, "copy"), 2000);
  }

  /** A second press takes the vote back. */
  async #vote(id, value) {
    const buttons = [...this.node.querySelectorAll("[data-vote]")];
    const before = buttons.find((button) => button.ariaPressed === "true")?.dataset.vote ?? "none";
    const show = (vote) => buttons.forEach((button) => (button.ariaPressed = String(button.dataset.vote === vote)));
    const vote = before === value ? "none" : value;
    show(vote);
    if (!(await this.#chat.sendFeedback(id, vote))) show(before);
  }
}

// ---- The chat ----

const COUNTER_FROM = 0.8; // of the longest message: below, counting would only disturb
const AT_BOTTOM = 48; // px: as good as the end of the list
const TALLEST_INPUT = 160; // px
const corners = new Map(); // position -> popups there, so that a second button stands beside the first

class PufferChat extends HTMLElement {
  static observedAttributes = ["data-config"];

  #config;
  #text;
  #memory;
  #visit;
  #hint;
  #conversation = null;
  #said = new WeakMap(); // node of a message -> {who, text}, for the download
  #turn = Promise.resolve(); // the one before has ended
  #abort = null; // of the answer that is being written
  #resuming = null; // the earlier conversation is being fetched, or was
  #unasked = null; // a question that waits for the visitor's consent
  #isOpen = false;
  #isFullscreen = false;
  #listening = null; // ends every listener on window

  connectedCallback() {
    this.#listen();
    if (this.ready) this.#showCorner(); // moved within the page, which closes popovers
    else this.ready = this.#draw();
  }

  disconnectedCallback() {
    this.#listening.abort();
    this.#abort?.abort();
    this.#hint?.hide();
  }

  /** A new configuration (the admin's preview while its owner types) is a new chat. */
  attributeChangedCallback(name, before, now) {
    if (this.ready && before !== now) this.ready = this.ready.then(() => this.#draw());
  }

  #listen() {
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    addEventListener("pagehide", () => this.stop(), { signal });
    addEventListener("online", () => this.#showConnection(), { signal });
    addEventListener("offline", () => this.#showConnection(), { signal });
    PHONE.addEventListener("change", () => this.#isOpen && this.#showDialog(), { signal });
    visualViewport.addEventListener("resize", () => this.#fitViewport(), { signal });
    visualViewport.addEventListener("scroll", () => this.#fitViewport(), { signal });
  }

  async #draw() {
    const config = JSON.parse(this.dataset.config);
    const sheet = await styleSheet(config.assetUrls.css);
    const key = `puffer:${config.apiUrl}`;
    this.#config = config;
    this.#text = config.text;
    this.#memory = new Memory(key, config.preview ? null : "localStorage");
    this.#visit = new Visit(config, this.#memory, (refusal) => this.#report(refusal));
    this.#hint = new Hint(config, key, () => this.open());
    this.#isOpen = this.#isFullscreen = false;
    const shadow = this.shadowRoot ?? this.attachShadow({ mode: "open" });
    shadow.adoptedStyleSheets = [sheet];
    this.root = this.#drawRoot();
    shadow.replaceChildren(this.root);
    this.#showWelcome();
    this.#showConnection();
    this.#updateSendButton();
    if (config.preview) this.#showSample();
    else if (!this.#isPopup) this.#resume();
    if (this.#isPopup) this.#placeCorner();
  }

  get #isPopup() {
    return this.#config.popupEnabled && !this.#isPage;
  }

  get #chatWith() {
    return this.#text.chatWith.replace("{name}", this.#config.headerName);
  }

  get #isPage() {
    return this.hasAttribute("page");
  }

  // -- What host pages call, by window.Puffer --

  open() {
    if (!this.#isPopup) return this.#focusInput();
    if (this.#isOpen) return;
    this.#isOpen = true;
    this.#showCorner();
    this.#showDialog();
    this.#hint.chatOpened();
    this.launcher.setAttribute("aria-expanded", "true");
    relabel(this.launcher, this.#text.closeChat, "close");
    this.#resume();
    this.#emit("open");
  }

  close() {
    if (!this.#isOpen) return;
    const hadFocus = this.shadowRoot.activeElement !== null;
    this.#isOpen = false;
    this.#setFullscreen(false);
    this.dialog.close();
    this.#showIcon();
    this.#hint.show();
    if (hadFocus && this.#focusIsLost) this.launcher.focus();
    this.#emit("close");
  }

  /** A browser gives the focus back to what had it before; but nothing had, as after a click in Safari. */
  get #focusIsLost() {
    return document.activeElement === document.body || this.dialog.contains(this.shadowRoot.activeElement);
  }

  ask(text) {
    const question = String(text).trim();
    if (!question || this.#config.preview) return;
    this.open();
    if (this.#visit.needsConsent) this.#unasked = question;
    else this.#turn = this.#turn.then(() => this.#take(question));
  }

  identify(identity) {
    const { userId } = this.#memory.read();
    this.#visit.identify(identity);
    if (userId && userId !== identity?.user_id) this.#clear();
  }

  destroy() {
    const place = this.parentElement;
    this.remove();
    if (place?.id.startsWith("aipkit-chatbot-container-")) place.replaceChildren();
    corners.forEach((popups) => popups.delete(this));
  }

  stop() {
    this.#abort?.abort();
  }

  #emit(name, detail = {}) {
    const all = { botId: this.#config.botId, ...detail };
    this.dispatchEvent(new CustomEvent(`puffer-${name}`, { bubbles: true, composed: true, detail: all }));
  }

  #report({ code, message }) {
    console.error(`Puffer: chatbot ${this.#config.botId}: ${code}: ${message}`);
    this.#emit("error", { code, message });
  }

  // -- The frame: in the page, a popup, or the whole screen --

  #drawRoot() {
    const { language, direction, theme } = this.#config;
    const kind = this.#isPage ? "page" : this.#isPopup ? "popup" : "inline";
    this.dataset.kind = kind;
    const root = element("div", {
      class: `root ${kind}`, lang: language, dir: direction, "data-theme": theme,
      onkeydown: (event) => this.#escape(event),
      onpointerdown: (event) => this.menu && this.#leaveMenu(event.target),
    });
    // A host page's keyboard shortcuts are not meant for what is typed here; across the shadow root it cannot tell.
    for (const name of ["keydown", "keypress", "keyup"]) {
      root.addEventListener(name, (event) => event.stopPropagation());
    }
    for (const [name, value] of Object.entries(customProperties(this.#config))) root.style.setProperty(name, value);
    root.style.fontFamily = this.#fontFamily();
    const closed = () => this.#dialogClosed();
    this.dialog = element("dialog", { "aria-label": this.#chatWith, tabindex: -1, onclose: closed });
    this.panel = this.#drawPanel();
    if (this.#isPopup) root.append(this.#drawCorner());
    else root.append(this.panel, this.dialog); // which holds the panel while it is on the whole screen
    return root;
  }

  #drawCorner() {
    const { headerName, popupIconSize, popupIconStyle, popupPosition } = this.#config;
    this.dialog.append(this.panel);
    this.launcher = element("button", {
      type: "button", class: `launcher ${popupIconSize} ${popupIconStyle}`, "aria-haspopup": "dialog",
      onclick: () => (this.#isOpen ? this.close() : this.open()),
    });
    this.#showIcon();
    const place = { class: `corner ${popupPosition}`, popover: "manual", hidden: true };
    this.corner = element("div", { ...place, role: "region", "aria-label": headerName },
      this.dialog, this.#hint.node, this.launcher);
    return this.corner;
  }

  /** On the button, while the chat is closed. */
  #showIcon() {
    const { popupIconValue } = this.#config;
    const isAddress = popupIconValue.startsWith("https://");
    this.launcher.setAttribute("aria-expanded", "false");
    relabel(this.launcher, this.#text.openChat, isAddress ? "chat-bubble" : popupIconValue);
    if (isAddress) this.launcher.replaceChildren(image(popupIconValue, icon("chat-bubble")));
  }

  /** The host page's font where the owner asked for it and the page has chosen one. */
  #fontFamily() {
    const { fontFamily } = this.#config.customThemeSettings;
    const own = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
    if (fontFamily !== "inherit") return `${fontFamily}, ${own}`;
    const ofPage = getComputedStyle(this.parentElement ?? document.body).fontFamily;
    return this.#isPage || ofPage === getComputedStyle(this).fontFamily ? own : ofPage;
  }

  #placeCorner() {
    const { popupPosition, popupDelay, preview } = this.#config;
    const popups = corners.get(popupPosition) ?? new Set();
    corners.set(popupPosition, popups.add(this));
    [...popups].forEach(({ corner }, place) => {
      corner.style.setProperty("--place", place);
      corner.style.setProperty("--popups", popups.size);
    });
    if (preview) return this.open();
    setTimeout(() => {
      this.#showCorner();
      if (!this.#isOpen) this.#hint.schedule();
    }, popupDelay * 1000);
  }

  /** In the browser's top layer where there is one: no z-index or transform of the host page reaches it. */
  #showCorner() {
    if (!this.corner?.isConnected) return;
    this.corner.hidden = false;
    if (this.corner.showPopover && !this.corner.matches(":popover-open")) this.corner.showPopover();
  }

  /** On the whole screen the rest of the page is out of reach, also for the keyboard and screen readers. */
  #showDialog() {
    const isModal = this.#isFullscreen || (PHONE.matches && !this.#config.preview);
    this.#keepScroll(() => {
      this.dialog.close();
      this.dialog.classList.toggle("full", isModal);
      if (isModal) this.dialog.showModal();
      else this.dialog.show();
    });
    this.#fitViewport();
    this.#focusInput();
  }

  /** By us, or by the browser: the back button of a phone closes dialogs. */
  #dialogClosed() {
    if (this.dialog.open) return;
    if (this.#isPopup) this.close();
    else if (this.#isFullscreen) this.#toggleFullscreen();
  }

  #setFullscreen(isFullscreen) {
    this.#isFullscreen = isFullscreen;
    const name = isFullscreen ? "exitFullscreen" : "fullscreen";
    relabel(this.fullscreenButton, this.#text[name], name);
  }

  #toggleFullscreen() {
    this.#setFullscreen(!this.#isFullscreen);
    if (this.#isPopup) return this.#showDialog();
    this.#keepScroll(() => (this.#isFullscreen ? this.dialog : this.root).prepend(this.panel));
    if (this.#isFullscreen) this.#showDialog();
    else this.dialog.close();
    this.fullscreenButton.focus();
  }

  #keepScroll(change) {
    const { scrollTop } = this.log;
    change();
    this.log.scrollTop = scrollTop;
  }

  /** A phone's keyboard covers the page without making it smaller. */
  #fitViewport() {
    if (!this.dialog?.open) return;
    this.dialog.style.setProperty("--viewport", `${visualViewport.height}px`);
    this.dialog.style.setProperty("--viewport-top", `${visualViewport.offsetTop}px`);
  }

  #focusInput() {
    if (this.panel.classList.contains("asks-consent")) this.consentButton.focus();
    else if (TOUCH.matches) this.dialog.focus(); // the field would bring up the keyboard at once
    else this.input.focus();
  }

  #escape(event) {
    if (event.key !== "Escape" || event.isComposing) return;
    if (this.menu?.open) this.#closeMenu();
    else if (this.panel.classList.contains("shows-chats")) this.#toggleChats(false);
    else if (this.#isPopup) this.close();
    else if (this.#isFullscreen) this.#toggleFullscreen();
    else return;
    event.preventDefault();
  }

  // -- The panel --

  #drawPanel() {
    this.#conversation = this.#resuming = this.menu = null;
    this.messages = element("div", { class: "messages", "aria-live": "off" });
    this.announcer = element("p", { class: "unseen" });
    // Only the announcer is spoken: whole answers, not each piece of them.
    this.log = element("div", {
      class: "log", role: "log", "aria-live": "polite", "aria-label": this.#config.headerName, tabindex: 0,
    }, this.messages, this.announcer);
    this.notice = element("p", { class: "notice-bar", role: "status", hidden: true });
    const talk = element("div", { class: "talk" }, this.log, this.notice, this.#drawComposer(), this.#drawFooter());
    const [tag, label] = this.#isPopup ? ["div", null] : ["section", this.#chatWith]; // a popup's dialog has it
    return element(tag, { class: "panel", "aria-label": label },
      this.#drawHeader(),
      element("div", { class: "body" }, this.#config.enableSidebar && this.#drawChats(), talk, this.#drawConsent()),
    );
  }

  #drawHeader() {
    const { headerName, headerOnlineText, enableFullscreen } = this.#config;
    this.fullscreenButton = iconButton(this.#text.fullscreen, "fullscreen", () => this.#toggleFullscreen(), {
      class: "icon-button fullscreen",
    });
    return element("header", {},
      this.#drawAvatar(),
      element("div", { class: "who" },
        element("h2", { dir: "auto" }, headerName),
        headerOnlineText && element("p", { class: "online", dir: "auto" }, headerOnlineText),
      ),
      this.#drawMenu(),
      enableFullscreen && !this.#isPage && this.fullscreenButton,
      this.#isPopup && iconButton(this.#text.closeChat, "close", () => this.close()),
    );
  }

  #drawMenu() {
    const { enableSidebar, enableDownload } = this.#config;
    const { menu, newChat, conversations, download } = this.#text;
    if (!enableSidebar && !enableDownload) return iconButton(newChat, "edit", () => this.#startAnew());
    const item = (name, label, act) =>
      element("button", { type: "button", onclick: () => this.#closeMenu(act) }, icon(name), label);
    this.menu = element("details", { class: "menu", onfocusout: ({ relatedTarget }) => this.#leaveMenu(relatedTarget) },
      element("summary", { class: "icon-button", "aria-label": menu, title: menu }, icon("menu")),
      element("div", { class: "menu-items" },
        item("edit", newChat, () => this.#startAnew()),
        enableSidebar && item("chats", conversations, () => this.#toggleChats(true)),
        enableDownload && item("download", download, () => this.#download()),
      ),
    );
    return this.menu;
  }

  #leaveMenu(target) {
    if (target && !this.menu.contains(target)) this.menu.open = false;
  }

  #closeMenu(act) {
    this.menu.open = false;
    this.menu.firstChild.focus();
    act?.();
  }

  #drawAvatar() {
    const { headerAvatarUrl, headerName } = this.#config;
    const letter = document.createTextNode([...headerName.trim()][0]?.toUpperCase() ?? "");
    const picture = headerAvatarUrl ? image(headerAvatarUrl, letter) : letter;
    return element("span", { class: "avatar", "aria-hidden": "true" }, picture);
  }

  #drawComposer() {
    const { typeMessage, sendMessage } = this.#text;
    this.input = element("textarea", {
      rows: 1, placeholder: typeMessage, "aria-label": typeMessage, "aria-describedby": "counter", enterkeyhint: "send",
      oninput: () => this.#inputChanged(),
      onkeydown: (event) => this.#keyPressed(event),
    });
    const sendOrStop = () => (this.#abort ? this.stop() : this.#submit());
    this.sendButton = iconButton(sendMessage, "send", sendOrStop, { class: "icon-button send" });
    this.counter = element("p", { class: "counter", id: "counter" });
    return element("div", { class: "composer" },
      element("div", { class: "field", onclick: () => this.input.focus() }, this.input, this.sendButton), this.counter);
  }

  #drawFooter() {
    const { footerText } = this.#config;
    return footerText && element("p", { class: "footer", dir: "auto" }, footerText);
  }

  #drawConsent() {
    const { consentTitle, consentMessage, consentButton } = this.#text;
    const agree = () => this.#agree();
    this.consentButton = element("button", { type: "button", class: "agree", onclick: agree }, consentButton);
    this.consentFailure = element("p", { class: "card failure", role: "status", hidden: true });
    return element("div", { class: "consent" },
      icon("shield"), element("h3", { dir: "auto" }, consentTitle), element("p", { dir: "auto" }, consentMessage),
      this.consentFailure, this.consentButton);
  }

  #showWelcome() {
    const { starters, enableStarters } = this.#config;
    const { initialGreeting, initialSubgreeting } = this.#text;
    const starter = (text) => element("button", { type: "button", dir: "auto", onclick: () => this.ask(text) }, text);
    this.panel.classList.toggle("asks-consent", this.#visit.needsConsent && !this.#config.preview);
    this.messages.replaceChildren(element("div", { class: "welcome" },
      this.#drawAvatar(),
      element("p", { class: "greeting", dir: "auto" }, initialGreeting),
      initialSubgreeting && element("p", { class: "subgreeting", dir: "auto" }, initialSubgreeting),
      enableStarters && starters.length > 0 && element("div", { class: "starters" }, ...starters.map(starter)),
    ));
  }

  /** Change the list; whoever reads its end goes on reading its end, whoever has scrolled up stays there. */
  #follow(change) {
    const { scrollHeight, scrollTop, clientHeight } = this.log;
    const isAtBottom = scrollHeight - scrollTop - clientHeight < AT_BOTTOM;
    change();
    if (isAtBottom) this.log.scrollTop = this.log.scrollHeight;
  }

  #announce(words) {
    this.announcer.textContent = words;
  }

  #showConnection() {
    if (this.notice) this.#notify(navigator.onLine ? "" : this.#text.offline);
  }

  #notify(words) {
    this.notice.textContent = words;
    this.notice.hidden = !words;
  }

  // -- Writing a message --

  #keyPressed(event) {
    const isComposing = event.isComposing || event.keyCode === 229; // 229: Safari's last key of a composition
    if (event.key !== "Enter" || event.shiftKey || isComposing) return;
    event.preventDefault();
    this.#submit();
  }

  #inputChanged() {
    const { maxMessageLength } = this.#config;
    const left = maxMessageLength - [...this.input.value].length;
    const isNear = left < maxMessageLength * (1 - COUNTER_FROM);
    this.counter.textContent = isNear ? this.#text.charactersLeft.replace("{count}", left) : "";
    this.input.setAttribute("aria-invalid", String(left < 0));
    this.input.dir = this.input.value ? "auto" : ""; // the placeholder is in the chat's own direction
    this.#follow(() => {
      this.input.style.height = "auto";
      this.input.style.height = `${Math.min(this.input.scrollHeight, TALLEST_INPUT)}px`;
    });
    this.#updateSendButton();
  }

  #updateSendButton() {
    const label = this.#abort ? "stopResponse" : "sendMessage";
    relabel(this.sendButton, this.#text[label], this.#abort ? "stop" : "send");
    this.sendButton.ariaDisabled = String(!this.#abort && !this.#sendable());
  }

  /** What can be sent of what is in the field: null while it has to stay there. */
  #sendable() {
    const question = this.input.value.trim();
    const fits = [...this.input.value].length <= this.#config.maxMessageLength;
    return question && fits && navigator.onLine && !this.#abort && !this.#config.preview ? question : null;
  }

  #submit() {
    const question = this.#sendable();
    if (!question) return;
    this.input.value = "";
    this.#inputChanged();
    this.ask(question);
  }

  // -- A turn: question and answer --

  async #take(question) {
    await this.#resuming;
    this.messages.querySelector(".welcome")?.remove();
    const asked = this.#showQuestion(question);
    const answer = this.#newAnswer();
    this.messages.append(answer.node);
    this.log.scrollTop = this.log.scrollHeight;
    this.#abort = new AbortController();
    this.#updateSendButton();
    this.#emit("message", { text: question });
    try {
      await this.#stream(question, answer, this.#abort.signal);
    } catch (error) {
      this.#turnFailed(error, question, asked, answer);
    } finally {
      this.#abort = null;
      this.#updateSendButton();
      this.#said.set(answer.node, { who: this.#config.headerName, text: answer.text });
    }
  }

  async #stream(question, answer, signal) {
    const body = () => ({ message: question, conversation_uuid: this.#conversation ?? undefined });
    const response = await this.#callAfresh("stream", { body, signal });
    for await (const { event, data } of readEvents(response.body)) {
      if (event === "start") this.#keepConversation(data.conversation_uuid);
      else if (event === "status") answer.showStatus(this.#text.statusSearching);
      else if (event === "sources") answer.foundSources = data;
      else if (event === "delta") answer.write(data.text);
      else if (event === "error") throw new Refusal(data);
      else if (event === "done") {
        answer.finish(data);
        answer.showSources(answer.foundSources);
        this.#announce(answer.content.textContent);
        this.#emit("reply", { text: data.text, messageId: data.message_id });
        return;
      }
    }
    throw new Refusal({ code: "cut_off", message: this.#text.connError });
  }

  /** A conversation that is no longer there (erased, or of the visitor before) is left for a new one. */
  async #callAfresh(path, options) {
    const before = this.#conversation;
    try {
      return await this.#visit.call(path, options);
    } catch (error) {
      if (error.status !== 404 || !before) throw error;
      this.#keepConversation(null);
      return this.#visit.call(path, options);
    }
  }

  #turnFailed(error, question, asked, answer) {
    if (error.name === "AbortError") return answer.stop();
    const takeBack = () => {
      asked.remove();
      answer.node.remove();
    };
    const refusal = error instanceof Refusal ? error : new Refusal({ code: "cut_off", message: this.#text.connError });
    if (refusal.code === "consent_required") {
      takeBack();
      this.#unasked = question;
      return this.#askConsent();
    }
    const retry = () => {
      takeBack();
      this.ask(question);
      this.input.focus();
    };
    answer.fail(refusal, refusal.isPassing && retry);
    this.#report(refusal);
  }

  #showQuestion(text) {
    const asked = element("div", { class: "message visitor" },
      unseen(this.#text.userPrefix),
      element("div", { class: "bubble" }, element("div", { class: "plain", dir: "auto" }, text)),
    );
    this.#said.set(asked, { who: this.#text.userPrefix, text });
    this.messages.append(asked);
    return asked;
  }

  #newAnswer() {
    return new Answer({
      config: this.#config,
      follow: (change) => this.#follow(change),
      announce: (words) => this.#announce(words),
      sendFeedback: (id, vote) => this.#sendFeedback(id, vote),
    });
  }

  async #sendFeedback(id, feedback) {
    try {
      const body = () => ({ conversation_uuid: this.#conversation, message_id: id, feedback });
      await this.#visit.json("feedback", { body });
    } catch (error) {
      this.#report(error);
      return false;
    }
    this.#announce(this.#text.feedbackSubmitted);
    this.#emit("feedback", { messageId: id, feedback });
    return true;
  }

  // -- Consent --

  #askConsent() {
    this.panel.classList.add("asks-consent");
    this.consentButton.focus();
  }

  async #agree() {
    try {
      await this.#visit.consent();
    } catch (error) {
      this.consentFailure.textContent = `${this.#text.errorPrefix} ${error.message}`;
      this.consentFailure.hidden = false;
      return;
    }
    this.consentFailure.hidden = true;
    this.panel.classList.remove("asks-consent");
    this.#focusInput();
    this.#resume();
    const question = this.#unasked;
    this.#unasked = null;
    if (question) this.ask(question);
  }

  // -- Conversations --

  #keepConversation(uuid) {
    this.#conversation = uuid;
    this.#memory.write({ conversation: uuid ?? undefined });
  }

  /** Once, when the chat is first seen: a page view that does not open it costs the server nothing. */
  #resume() {
    if (this.#config.preview || this.#visit.needsConsent) return;
    const { conversation } = this.#memory.read();
    this.#resuming ??= conversation ? this.#showConversation(conversation) : Promise.resolve();
  }

  async #showConversation(uuid) {
    this.#conversation = uuid;
    this.messages.replaceChildren(element("p", { class: "loading" }, this.#text.loading));
    try {
      const { messages } = await this.#visit.json(`history?conversation_uuid=${encodeURIComponent(uuid)}`);
      if (this.#conversation === uuid) this.#showMessages(uuid, messages); // else another was chosen meanwhile
    } catch (error) {
      if (this.#conversation !== uuid) return;
      this.#showWelcome();
      if (error.status === 404) this.#keepConversation(null);
      else this.#notify(error.message);
    }
  }

  #showMessages(uuid, messages) {
    this.#showWelcome();
    if (messages.length) this.messages.replaceChildren();
    messages.forEach((message) => this.#showMessage(message));
    this.#keepConversation(uuid);
    this.log.scrollTop = this.log.scrollHeight;
  }

  #showMessage(message) {
    if (message.role === "user") return this.#showQuestion(message.text);
    const answer = this.#newAnswer();
    this.messages.append(answer.node);
    if (message.failed) return answer.fail(new Refusal({ message: message.text || this.#text.connError }));
    answer.finish(message);
    answer.showSources(message.sources);
    this.#said.set(answer.node, { who: this.#config.headerName, text: message.text });
  }

  #startAnew() {
    this.#clear();
    this.#toggleChats(false);
    this.#focusInput();
  }

  #clear() {
    this.stop();
    this.#keepConversation(null);
    this.#notify("");
    this.#showWelcome();
  }

  #drawChats() {
    this.chats = element("div", { class: "chat-list" });
    return element("nav", { class: "chats", "aria-label": this.#text.conversations },
      element("div", { class: "chats-head" },
        element("h3", {}, this.#text.conversations),
        iconButton(this.#text.back, "back", () => this.#toggleChats(false)),
      ),
      this.chats,
    );
  }

  #toggleChats(show) {
    if (this.panel.classList.contains("shows-chats") === show) return;
    this.panel.classList.toggle("shows-chats", show);
    if (show) this.#loadChats();
    else this.menu.firstChild.focus();
  }

  async #loadChats() {
    this.chats.replaceChildren(element("p", { class: "loading" }, this.#text.loading));
    this.panel.querySelector(".chats button").focus();
    try {
      const isKnown = "token" in this.#memory.read(); // no session is begun to hear that there is nothing
      const { conversations } = isKnown ? await this.#visit.json("conversations") : { conversations: [] };
      const empty = element("p", { class: "loading" }, this.#text.historyEmpty);
      this.chats.replaceChildren(...(conversations.length ? conversations.map((one) => this.#drawChat(one)) : [empty]));
    } catch (error) {
      this.chats.replaceChildren(element("p", { class: "card failure" }, `${this.#text.errorPrefix} ${error.message}`));
    }
  }

  #drawChat({ conversation_uuid: uuid, title, updated_at: updated }) {
    const day = new Intl.DateTimeFormat(this.#config.language, { dateStyle: "medium" }).format(new Date(updated));
    const choose = () => {
      this.stop();
      this.#toggleChats(false);
      this.#resuming = this.#showConversation(uuid);
    };
    return element("button", { type: "button", "aria-current": uuid === this.#conversation && "true", onclick: choose },
      element("span", { dir: "auto" }, title), element("time", { datetime: updated }, day));
  }

  #download() {
    const said = [...this.messages.children].map((node) => this.#said.get(node)).filter((one) => one?.text);
    if (!said.length) return this.#notify(this.#text.downloadEmpty);
    const lines = said.map(({ who, text }) => `${who}\n${text}\n`);
    const address = URL.createObjectURL(new Blob([lines.join("\n")], { type: "text/plain" }));
    const day = new Date().toISOString().slice(0, 10);
    element("a", { href: address, download: `${this.#config.headerName} ${day}.txt` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }

  /** For the admin's preview: how a conversation looks, in the words at hand, without a call. */
  #showSample() {
    const { starters } = this.#config;
    const { initialGreeting, initialSubgreeting, typeMessage } = this.#text;
    this.#showQuestion(starters[0] ?? typeMessage);
    const answer = this.#newAnswer();
    this.messages.append(answer.node);
    const words = initialSubgreeting || initialGreeting;
    answer.write(words);
  }
}

if (!customElements.get("puffer-chat")) customElements.define("puffer-chat", PufferChat);
