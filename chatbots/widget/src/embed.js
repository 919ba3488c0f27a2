/**
 * The loader: shows a chatbot on a page of any site that its owner allows.
 *
 *   <div id="aipkit-chatbot-container-7"></div>   (optional)
 *   <script src="SITE/embed.js" data-bot-id="7" data-wp-site="SITE" defer></script>
 *
 * script -> the chatbot's configuration -> widget.js, once per page -> <puffer-chat> in the container.
 * window.Puffer exists as soon as this script has run. Calls made before the chat has loaded wait for it.
 *
 * Tag managers and optimizers drop the script's attributes, merge it into another file or run it without
 * `document.currentScript`. The chatbot's id is then taken from the script's address (embed.js?bot=7), from
 * window.PufferConfig, or from the other snippets and containers on the page.
 */
(() => {
  "use strict";

  const CONFIG_TIMEOUT = 20_000; // ms
  const CONTAINER_TIMEOUT = 2_000; // ms that an inline chat waits for a container before it goes to the page's end
  const MAX_MOVES = 10; // per second: a page that keeps removing the chat must not hang
  const CONTAINER_ID = "aipkit-chatbot-container-";
  const OWN = "data-puffer"; // marks the containers that this script has made

  const MESSAGES = {
    403: `This chat may not be shown on ${location.origin}: its owner has not allowed this site.`,
    404: "This chat does not exist, or is not published.",
    other: "This chat could not be loaded.",
    unreachable: "This chat cannot be reached at the moment.",
  };

  const settings = own(window, "PufferConfig");
  // A module has no current script, but its address is in the stack.
  const loader = document.currentScript ?? { src: /https?:[^\s()]+?\/embed\.js[^\s():]*/.exec(new Error().stack)?.[0] };
  if (!(window.Puffer?.bots instanceof Map)) window.Puffer = publicApi();
  const { bots } = window.Puffer;
  const id = idOf(loader) ?? own(settings, "bot") ?? own(settings, "botId");
  if (id) start(loader, id);
  else afterParsing(startAll);

  /** Return an own property: what a script has added to Object.prototype must not count as a setting. */
  function own(object, name) {
    return object && Object.hasOwn(object, name) ? object[name] : undefined;
  }

  function afterParsing(call) {
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", call, { once: true });
    else call();
  }

  // -- Which chatbots to show --

  function attribute(script, name) {
    return script.getAttribute?.(`data-${name}`) || undefined;
  }

  /** Return the script's address, or undefined if it is not this file but one that this was merged into. */
  function addressOf({ src }) {
    return /^https?:[^?#]+\/embed\.js([?#]|$)/.test(src) ? new URL(src) : undefined;
  }

  function idOf(script) {
    return attribute(script, "bot-id") ?? (addressOf(script)?.searchParams.get("bot") || undefined);
  }

  /** Show the chatbots of all snippets on the page, except those that still wait for a visitor's consent. */
  function startAll() {
    const scripts = [...document.querySelectorAll("script")].filter(
      (script) => script.type !== "text/plain" && idOf(script) && siteOf(script),
    );
    const containers = document.querySelectorAll(`[id^="${CONTAINER_ID}"]:not([${OWN}])`);
    if (scripts.length) scripts.forEach((script) => start(script, idOf(script)));
    else if (containers.length) containers.forEach((one) => start(loader, one.id.slice(CONTAINER_ID.length)));
    else console.error("Puffer: no chatbot is named. Add its id to the script's address: embed.js?bot=ID.");
  }

  function start(script, id) {
    const botId = String(id);
    if (bots.has(botId)) return;
    const chat = show(botId, script, () => bots.get(botId) === chat);
    bots.set(botId, chat);
    // The page shows the error, which must not count as an unhandled one of the host's. The next run tries again.
    chat.catch(() => bots.get(botId) === chat && bots.delete(botId));
  }

  /** Return what host pages may call. `bots`: chatbot id -> promise of its element. */
  function publicApi() {
    const bots = new Map();
    const every = (call) => bots.forEach((chat) => chat.then(call, () => {}));
    const one = (id, call) => {
      const [first] = bots.values();
      (id === undefined ? first : bots.get(String(id)))?.then(call, () => {});
    };
    return {
      bots,
      open: (id) => one(id, (chat) => chat.open()),
      close: () => every((chat) => chat.close()),
      ask: (text, id) => one(id, (chat) => chat.ask(text)),
      identify: (identity) => every((chat) => chat.identify(identity)),
      on(event, listener) {
        const listen = ({ detail }) => listener(detail);
        document.addEventListener(`puffer-${event}`, listen);
        return () => document.removeEventListener(`puffer-${event}`, listen);
      },
      destroy() {
        every((chat) => chat.destroy());
        bots.clear();
      },
    };
  }

  async function show(botId, script, isWanted) {
    let isBroken = false;
    try {
      const config = await loadConfig(botId, script);
      await import(config.assetUrls.mainJs); // a browser runs a module once, for any number of chatbots
      const chat = createChat(botId, config);
      await keep(chat, botId, config.popupEnabled, () => isWanted() && !isBroken);
      await chat.ready;
      return chat;
    } catch (error) {
      isBroken = true;
      showError(error, botId);
      throw error;
    }
  }

  /** Return the server's address: the script's, unless it is named. */
  function siteOf(script) {
    const address = addressOf(script);
    return attribute(script, "wp-site") ?? own(settings, "site") ?? (address && new URL(".", address).href);
  }

  async function loadConfig(botId, script) {
    const configUrl = attribute(script, "config-url") ?? own(settings, "configUrl");
    const site = siteOf(script);
    if (!configUrl && !site) throw failure("other", "the script needs data-wp-site or data-config-url");
    const path = `/wp-json/aipkit/v1/chatbots/${encodeURIComponent(botId)}/embed-config`;
    const url = new URL(configUrl ?? site.replace(/\/+$/, "") + path, document.baseURI);
    url.searchParams.set("lang", document.documentElement.lang || navigator.language);
    const abort = new AbortController();
    setTimeout(() => abort.abort(), CONFIG_TIMEOUT);
    const request = fetch(url, { __proto__: null, credentials: "omit", signal: abort.signal });
    const response = await request.catch(({ message }) => {
      throw failure("unreachable", message);
    });
    const answer = await response.text().then(parse).catch(() => null);
    if (!response.ok) throw failure(response.status, own(answer, "message") ?? `status ${response.status}`);
    return own(answer, "config");
  }

  /** Parse JSON that will be written again: the toJSON method that Prototype 1.6 gives to arrays would spoil it. */
  function parse(text) {
    return JSON.parse(text, (name, value) =>
      value instanceof Object ? Object.defineProperty(value, "toJSON", { value: undefined }) : value);
  }

  /** Return an error with its `reason` for the console and with a message for the page. */
  function failure(kind, reason) {
    return Object.assign(new Error(reason), { shown: MESSAGES[kind] });
  }

  function createChat(botId, config) {
    const kind = config.popupEnabled ? "aipkit_popup_wrapper" : "aipkit_chat_container";
    const chat = document.createElement("puffer-chat");
    chat.id = `${kind}_${botId}`;
    chat.className = `aipkit_chatbot ${kind}`;
    chat.dataset.botId = botId;
    chat.dataset.config = JSON.stringify(config);
    return chat;
  }

  /** Show visitors a message in place of the chat, and the site's owner the exact reason in the console. */
  async function showError(error, botId) {
    const message = error.shown ?? MESSAGES.other;
    console.error(`Puffer: chatbot ${botId} is not shown: ${error.message}`);
    const box = document.createElement("p");
    box.setAttribute("role", "status");
    box.textContent = message;
    const style = {
      all: "initial", display: "block", "box-sizing": "border-box", "max-width": "40em", margin: "16px auto",
      padding: "12px 16px", font: "14px/1.5 system-ui, sans-serif", color: "#3d4452", background: "#f5f6f8",
      border: "1px solid #dfe3ea", "border-radius": "12px",
    };
    for (const [name, value] of Object.entries(style)) box.style.setProperty(name, value, "important");
    let isShown = false;
    await keep(box, botId, false, () => !isShown);
    isShown = true;
    const detail = { botId: Number(botId), message };
    box.dispatchEvent(new CustomEvent("puffer-error", { bubbles: true, detail }));
  }

  // -- Where a chat is on the page --

  /**
   * Put `node` into its container, and again whenever the page has replaced its content, as Turbo, htmx and React do
   * without running this script again. Return a promise that resolves when it is in place for the first time.
   *
   * An observer runs before the browser paints, so the chat does not flicker. The same element returns, with its
   * conversation and what is being typed.
   */
  function keep(node, botId, isPopup, isWanted) {
    return new Promise((resolve) => {
      const id = CONTAINER_ID + botId;
      const hidden = new WeakSet(); // containers in hidden parts of the page, where nobody would see a popup
      let ownContainer; // at the end of the page
      let mayBeAtEnd = false;
      let isInline = false; // the page has a container: on other pages the chat is not shown
      let moves = 0; // within the last second

      const place = () => {
        if (!isWanted()) return observer.disconnect();
        if (node.isConnected && node.parentNode !== ownContainer) return;
        const containers = [...document.querySelectorAll(`#${CSS.escape(id)}`)];
        const isOwn = (one) => one.hasAttribute(OWN);
        const candidates = containers.filter((one) => !isOwn(one) && !hidden.has(one)).map(unhide);
        let container = candidates.find(isRendered);
        if (isPopup) candidates.forEach((one) => isRendered(one) || hidden.add(one));
        else container ??= candidates[0];
        isInline ||= !isPopup && Boolean(container);
        if (!container && !node.isConnected && mayBeAtEnd && !isInline) {
          container = ownContainer = containers.find(isOwn) ?? createContainer(id);
        }
        if (!container || moves === MAX_MOVES) return;
        moves++;
        setTimeout(() => {
          moves--;
          place();
        }, 1000);
        container.replaceChildren(node);
        if (container !== ownContainer) ownContainer?.remove();
        resolve();
      };
      const observer = new MutationObserver(place);
      observer.observe(document, { childList: true, subtree: true });
      const endWaiting = () => {
        mayBeAtEnd = true;
        place();
      };
      afterParsing(() => setTimeout(endWaiting, isPopup ? 0 : CONTAINER_TIMEOUT));
      place();
    });
  }

  function createContainer(id) {
    const container = document.createElement("div");
    container.id = id;
    container.setAttribute(OWN, "");
    return document.body.appendChild(unhide(container));
  }

  /** Override sites that hide empty elements. Return the container. */
  function unhide(container) {
    container.style.setProperty("display", "block", "important");
    return container;
  }

  function isRendered(container) {
    // Safari knows checkVisibility from 17.4.
    return container.checkVisibility ? container.checkVisibility() : container.getClientRects().length > 0;
  }
})();
