/** Call the chatbot's API as one visitor: open a session, renew its token, send requests with it. */

import { ApiError } from "./api_error.js";

export class VisitorSession {
  #config;
  #store;
  #onRejectedIdentity;
  #identity = null; // signed by the host's site; cleared once a session holds it

  constructor(config, store, onRejectedIdentity) {
    this.#config = config;
    this.#store = store;
    this.#onRejectedIdentity = onRejectedIdentity;
  }

  get needsConsent() {
    return this.#config.requireConsentCompliance && !this.#store.read().consent;
  }

  get isOpen() {
    return "token" in this.#store.read();
  }

  /**
   * Set the host's signed-in user, or null after a sign-out.
   *
   * Return whether another user was signed in before, whose data is cleared from this browser.
   */
  identify(identity) {
    const { userId } = this.#store.read();
    const isAnother = Boolean(userId) && userId !== identity?.user_id;
    this.#identity = identity;
    if (isAnother) this.#store.clear();
    return isAnother;
  }

  /** Return the response. `body` is a function: opening a session may change the conversation that it names. */
  async call(path, { body, signal } = {}) {
    const send = async (token) => this.#send(path, { token, body: body?.(), signal });
    const token = this.#usableToken() ?? (await this.#openSession());
    let response = await send(token);
    if (response.status === 401) response = await send(await this.#openSession(token));
    if (!response.ok) throw await ApiError.of(response);
    return response;
  }

  async json(path, options) {
    return (await this.call(path, options)).json();
  }

  async consent() {
    this.#storeSession(await this.json("consent", { body: () => ({}) }));
  }

  #usableToken(rejected) {
    const { token, renewAt, userId } = this.#store.read();
    const isOfUser = !this.#identity || this.#identity.user_id === userId;
    return token && token !== rejected && Date.now() < renewAt && isOfUser ? token : undefined;
  }

  /** Lock out other tabs: two that open a session at the same time would count as two visitors. */
  #openSession(rejected) {
    const open = async () => this.#usableToken(rejected) ?? this.#requestSession();
    if (!navigator.locks) return open();
    const pause = () => new Promise((done) => setTimeout(done, 99)); // until other processes see what was stored
    return new Promise((resolve, reject) => {
      const answer = () => open().then(resolve, reject);
      // The browser refuses locks where it refuses storage, as in a sandboxed frame: there is no other tab then.
      navigator.locks.request(this.#store.key, () => answer().then(pause)).catch(answer);
    });
  }

  async #requestSession() {
    const request = { token: this.#store.read().token, identity: this.#identity ?? undefined };
    for (;;) {
      const response = await this.#send("session", { body: request });
      if (response.ok) {
        this.#identity = null;
        return this.#storeSession(await response.json(), request.identity?.user_id);
      }
      const error = await ApiError.of(response);
      if (error.code === "invalid_identity" && request.identity) {
        this.#identity = request.identity = undefined; // continue as a guest
        this.#onRejectedIdentity(error);
      } else if (error.code === "invalid_visitor_token" && request.token) {
        request.token = undefined;
      } else throw error;
    }
  }

  #storeSession(session, userId) {
    const stored = this.#store.read();
    this.#store.write({
      token: session.token,
      renewAt: Date.now() + session.expires_in * 500, // ms: halfway to its expiry
      visitorId: session.visitor_id,
      consent: !session.consent_required,
      userId: session.identified ? (userId ?? stored.userId) : undefined,
      conversation: stored.visitorId === session.visitor_id ? stored.conversation : undefined,
    });
    return session.token;
  }

  async #send(path, { token, body, signal }) {
    const headers = new Headers(token && { Authorization: `Visitor ${token}` });
    const request = { __proto__: null, headers, signal, credentials: "omit" }; // without the host's additions
    if (body) {
      headers.set("Content-Type", "application/json");
      Object.assign(request, { method: "POST", body: JSON.stringify(body) });
    }
    try {
      return await fetch(`${this.#config.apiUrl}/${path}`, request);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError({ code: "unreachable", message: this.#config.text.connError });
    }
  }
}
