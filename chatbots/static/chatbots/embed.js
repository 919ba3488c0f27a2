/*
 * The loader: shows a chatbot on a page of any site its owner allows.
 *
 *   <div id="aipkit-chatbot-container-7"></div>   (may be left out)
 *   <script src="SITE/embed.js" data-bot-id="7" data-wp-site="SITE" defer></script>
 *
 * script -> the bot's configuration -> widget.js, once -> <puffer-chat> in its place.
 * window.Puffer is there as soon as this file has run; what is asked of it before the chat is there waits for it.
 */
(() => {
  "use strict";

  const TIME_LIMIT = 20_000; // ms for the configuration; a page should not promise a chat forever

  const WORDS = {
    403: `This chat may not be shown on ${location.origin}: its owner has not allowed this site.`,
    404: "This chat does not exist, or is not published.",
    other: "This chat could not be loaded.",
    unreachable: "This chat cannot be reached at the moment.",
  };

  const script = document.currentScript;
  if (!script?.dataset.botId) {
    console.error("Puffer: the script needs data-bot-id, and must not be a module.");
    return;
  }
  const { botId } = script.dataset;
  window.Puffer ??= publicApi();
  if (!window.Puffer.bots.has(botId)) {
    const chat = show();
    chat.catch(() => {}); // said on the page already; not an unhandled error of the host's
    window.Puffer.bots.set(botId, chat);
  }

  /** What a host page may call. `bots`: bot id -> promise of its element. */
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

  async function show() {
    const [config, place] = await Promise.allSettled([loadConfig(), findPlace()]);
    try {
      if (config.reason) throw config.reason;
      await import(config.value.assetUrls.mainJs); // a module is run once, however many bots ask for it
      return await mount(config.value, place.value);
    } catch (error) {
      explain(error, place.value);
      throw error;
    }
  }

  async function loadConfig() {
    const { configUrl, wpSite } = script.dataset;
    const address = configUrl ?? `${wpSite?.replace(/\/+$/, "")}/wp-json/aipkit/v1/chatbots/${botId}/embed-config`;
    if (!configUrl && !wpSite) throw failure("other", "the script needs data-wp-site or data-config-url");
    const url = new URL(address, document.baseURI);
    url.searchParams.set("lang", document.documentElement.lang || navigator.language);
    const request = fetch(url, { credentials: "omit", signal: AbortSignal.timeout(TIME_LIMIT) });
    const response = await request.catch((error) => {
      throw failure("unreachable", error.message);
    });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw failure(response.status, answer.message ?? `status ${response.status}`);
    return answer.config;
  }

  function failure(words, reason) {
    return Object.assign(new Error(reason), { words: WORDS[words] ?? WORDS.other });
  }

  /** The container of the snippet, else one at the end of the page. */
  async function findPlace() {
    const id = `aipkit-chatbot-container-${botId}`;
    if (document.readyState === "loading" && !document.getElementById(id)) {
      await new Promise((parsed) => document.addEventListener("DOMContentLoaded", parsed, { once: true }));
    }
    const place = document.getElementById(id) ?? document.body.appendChild(document.createElement("div"));
    place.id = id;
    place.style.setProperty("display", "block", "important"); // some sites hide empty elements
    return place;
  }

  async function mount(config, place) {
    const kind = config.popupEnabled ? "aipkit_popup_wrapper" : "aipkit_chat_container";
    const chat = document.createElement("puffer-chat");
    chat.id = `${kind}_${botId}`;
    chat.className = `aipkit_chatbot ${kind}`;
    chat.dataset.botId = botId;
    chat.dataset.config = JSON.stringify(config);
    place.replaceChildren(chat);
    // A popup has no need to vanish with the part of the page that its snippet was pasted into.
    if (config.popupEnabled && !place.checkVisibility()) document.body.append(place);
    await chat.ready;
    return chat;
  }

  /** Say in words, where the chat would be, why it is not; to the site's owner, in the console, exactly. */
  function explain(error, place) {
    const words = error.words ?? WORDS.other;
    console.error(`Puffer: chatbot ${botId} is not shown: ${error.message}`);
    const box = document.createElement("p");
    box.setAttribute("role", "status");
    box.textContent = words;
    const style = {
      all: "initial", display: "block", "box-sizing": "border-box", "max-width": "40em", margin: "16px auto",
      padding: "12px 16px", font: "14px/1.5 system-ui, sans-serif", color: "#3d4452", background: "#f5f6f8",
      border: "1px solid #dfe3ea", "border-radius": "12px",
    };
    for (const [name, value] of Object.entries(style)) box.style.setProperty(name, value, "important");
    place.replaceChildren(box);
    const detail = { botId: Number(botId), message: words };
    place.dispatchEvent(new CustomEvent("puffer-error", { bubbles: true, detail }));
  }
})();
