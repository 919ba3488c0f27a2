/**
 * The loader: shows a chatbot on a page of any site that its owner allows.
 *
 *   <div id="aipkit-chatbot-container-7"></div>   (optional)
 *   <script src="SITE/embed.js" data-bot-id="7" data-wp-site="SITE" defer></script>
 *
 * script -> the chatbot's configuration -> widget.js, once per page -> <puffer-chat> in the container.
 * window.Puffer exists as soon as this script has run. Calls made before the chat has loaded wait for it.
 */
(() => {
  "use strict";

  const CONFIG_TIMEOUT = 20_000; // ms

  const MESSAGES = {
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
  const { botId, configUrl, wpSite } = script.dataset;
  window.Puffer ??= publicApi();
  if (!window.Puffer.bots.has(botId)) {
    const chat = show();
    chat.catch(() => {}); // the page shows the error; it must not count as an unhandled one of the host's
    window.Puffer.bots.set(botId, chat);
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

  async function show() {
    const [config, container] = await Promise.allSettled([loadConfig(), findContainer()]);
    try {
      if (config.reason) throw config.reason;
      await import(config.value.assetUrls.mainJs); // a browser runs a module once, for any number of chatbots
      return await mount(config.value, container.value);
    } catch (error) {
      showError(error, container.value);
      throw error;
    }
  }

  async function loadConfig() {
    if (!configUrl && !wpSite) throw failure("other", "the script needs data-wp-site or data-config-url");
    const address = configUrl ?? `${wpSite.replace(/\/+$/, "")}/wp-json/aipkit/v1/chatbots/${botId}/embed-config`;
    const url = new URL(address, document.baseURI);
    url.searchParams.set("lang", document.documentElement.lang || navigator.language);
    const request = fetch(url, { credentials: "omit", signal: AbortSignal.timeout(CONFIG_TIMEOUT) });
    const response = await request.catch(({ message }) => {
      throw failure("unreachable", message);
    });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw failure(response.status, answer.message ?? `status ${response.status}`);
    return answer.config;
  }

  /** Return an error with its `reason` for the console and with a message for the page. */
  function failure(kind, reason) {
    return Object.assign(new Error(reason), { shown: MESSAGES[kind] });
  }

  /** Return the snippet's container, or a new one at the end of the page. */
  async function findContainer() {
    const id = `aipkit-chatbot-container-${botId}`;
    if (document.readyState === "loading" && !document.getElementById(id)) {
      await new Promise((parsed) => document.addEventListener("DOMContentLoaded", parsed, { once: true }));
    }
    const container = document.getElementById(id) ?? document.body.appendChild(document.createElement("div"));
    container.id = id;
    container.style.setProperty("display", "block", "important"); // some sites hide empty elements
    return container;
  }

  async function mount(config, container) {
    const kind = config.popupEnabled ? "aipkit_popup_wrapper" : "aipkit_chat_container";
    const chat = document.createElement("puffer-chat");
    chat.id = `${kind}_${botId}`;
    chat.className = `aipkit_chatbot ${kind}`;
    chat.dataset.botId = botId;
    chat.dataset.config = JSON.stringify(config);
    container.replaceChildren(chat);
    // A popup stays visible even if its snippet was pasted into a hidden part of the page.
    if (config.popupEnabled && !container.checkVisibility()) document.body.append(container);
    await chat.ready;
    return chat;
  }

  /** Show visitors a message in place of the chat, and the site's owner the exact reason in the console. */
  function showError(error, container) {
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
    for (const name in style) box.style.setProperty(name, style[name], "important");
    container.replaceChildren(box);
    const detail = { botId: Number(botId), message };
    container.dispatchEvent(new CustomEvent("puffer-error", { bubbles: true, detail }));
  }
})();
