/** The conversation of one visitor: turns, consent, earlier conversations. */

import { ApiError } from "./api_error.js";
import { Composer } from "./composer.js";
import { Consent } from "./consent.js";
import { ConversationList } from "./conversation_list.js";
import { element } from "./dom.js";
import { readEvents } from "./event_stream.js";
import { Header } from "./header.js";
import { Transcript } from "./transcript.js";

export class Chat {
  #widget;
  #config;
  #text;
  #store;
  #session;
  #composer;
  #consent;
  #list;
  #notice = element("p", { class: "notice-bar", role: "status", hidden: true });
  #turn = Promise.resolve(); // the latest turn; the next one waits for it
  #abort = null; // of the reply that is being streamed
  #resuming = null; // resolves when the stored conversation is shown
  #pendingQuestion = null; // asked before the visitor's consent

  constructor(widget, config, session, store, buttons) {
    this.#widget = widget;
    this.#config = config;
    this.#text = config.text;
    this.#session = session;
    this.#store = store;
    this.conversation = null; // its UUID
    this.transcript = new Transcript(config);
    this.header = new Header(config, this, buttons);
    this.#composer = new Composer(config, this.transcript, (question) => widget.ask(question), () => this.stop());
    this.#consent = new Consent(config.text, () => this.#agree());
    this.#list = new ConversationList(config, session, this);
    this.panel = this.#renderPanel();
    this.#showWelcome();
    this.showConnection();
    if (config.preview) this.#showSample();
    else if (config.kind !== "popup") this.resume(); // a popup resumes when it opens
  }

  #renderPanel() {
    const { enableSidebar, footerText, kind, text } = this.#config;
    const [tag, label] = kind === "popup" ? ["div", null] : ["section", text.chatWith]; // or the dialog has it
    const footer = footerText && element("p", { class: "footer", dir: "auto" }, footerText);
    return element(tag, { class: "panel", "aria-label": label },
      this.header.node,
      element("div", { class: "body" },
        enableSidebar && this.#list.node,
        element("div", { class: "conversation" }, this.transcript.node, this.#notice, this.#composer.node, footer),
        this.#consent.node,
      ),
    );
  }

  focus() {
    if (this.asksConsent) this.#consent.focus();
    else this.#composer.focus();
  }

  /** Close the menu or the list of conversations. Return whether one was open. */
  dismiss() {
    return this.header.closeMenu() || this.toggleList(false);
  }

  showConnection() {
    this.#notify(navigator.onLine ? "" : this.#text.offline);
  }

  #notify(message) {
    this.#notice.textContent = message;
    this.#notice.hidden = !message;
  }

  #showWelcome() {
    this.#askConsent(this.#session.needsConsent && !this.#config.preview);
    this.transcript.showWelcome((question) => this.#widget.ask(question));
  }

  // -- A turn: question and reply --

  ask(question) {
    if (this.#session.needsConsent) this.#pendingQuestion = question;
    else this.#turn = this.#turn.then(() => this.#takeTurn(question));
  }

  stop() {
    this.#abort?.abort();
  }

  async #takeTurn(question) {
    await this.#resuming;
    this.transcript.removeWelcome();
    const questionNode = this.transcript.addQuestion(question);
    const reply = this.#addReply();
    this.transcript.scrollToEnd();
    this.#abort = new AbortController();
    this.#composer.setReplying(true);
    this.#widget.emit("message", { text: question });
    try {
      await this.#stream(question, reply, this.#abort.signal);
    } catch (error) {
      this.#turnFailed(error, question, questionNode, reply);
    } finally {
      this.#abort = null;
      this.#composer.setReplying(false);
      this.transcript.record(reply.node, this.#config.headerName, reply.text);
    }
  }

  async #stream(question, reply, signal) {
    const body = () => ({ message: question, conversation_uuid: this.conversation ?? undefined });
    const response = await this.#callStream({ body, signal });
    let sources;
    for await (const { event, data } of readEvents(response.body)) {
      if (event === "start") this.#storeConversation(data.conversation_uuid);
      else if (event === "status") reply.showStatus(this.#text.statusSearching);
      else if (event === "sources") sources = data;
      else if (event === "delta") reply.write(data.text);
      else if (event === "error") throw new ApiError(data);
      else if (event === "done") {
        reply.finish(data);
        reply.showSources(sources);
        this.transcript.announce(reply.content.textContent);
        this.#widget.emit("reply", { text: data.text, messageId: data.message_id });
        return;
      }
    }
    throw this.#cutOff();
  }

  /** Start a new conversation if the current one was erased or belongs to another visitor. */
  async #callStream(options) {
    const before = this.conversation;
    try {
      return await this.#session.call("stream", options);
    } catch (error) {
      if (error.status !== 404 || !before) throw error;
      this.#storeConversation(null);
      return this.#session.call("stream", options);
    }
  }

  #cutOff() {
    return new ApiError({ code: "cut_off", message: this.#text.connError });
  }

  #turnFailed(error, question, questionNode, reply) {
    if (error.name === "AbortError") return reply.stop();
    const remove = () => {
      questionNode.remove();
      reply.node.remove();
    };
    const apiError = error instanceof ApiError ? error : this.#cutOff();
    if (apiError.code === "consent_required") {
      remove();
      this.#pendingQuestion = question;
      this.#askConsent(true);
      return this.#consent.focus();
    }
    const retry = () => {
      remove();
      this.#widget.ask(question);
      this.#composer.focus();
    };
    reply.fail(apiError, apiError.isTransient && retry);
    this.#widget.report(apiError);
  }

  #addReply() {
    return this.transcript.addReply((id, vote) => this.#sendFeedback(id, vote));
  }

  async #sendFeedback(id, feedback) {
    try {
      const body = () => ({ conversation_uuid: this.conversation, message_id: id, feedback });
      await this.#session.json("feedback", { body });
    } catch (error) {
      this.#widget.report(error);
      return false;
    }
    this.transcript.announce(this.#text.feedbackSubmitted);
    this.#widget.emit("feedback", { messageId: id, feedback });
    return true;
  }

  // -- Consent --

  get asksConsent() {
    return this.panel.classList.contains("asks-consent");
  }

  #askConsent(isNeeded) {
    this.panel.classList.toggle("asks-consent", isNeeded);
  }

  async #agree() {
    try {
      await this.#session.consent();
    } catch (error) {
      return this.#consent.fail(`${this.#text.errorPrefix} ${error.message}`);
    }
    this.#consent.fail("");
    this.#askConsent(false);
    this.#widget.focusChat();
    this.resume();
    const question = this.#pendingQuestion;
    this.#pendingQuestion = null;
    if (question) this.#widget.ask(question);
  }

  // -- Conversations --

  #storeConversation(uuid) {
    this.conversation = uuid;
    this.#store.write({ conversation: uuid ?? undefined });
  }

  /** Show the stored conversation when the chat is first seen: a page view without it costs the server nothing. */
  resume() {
    if (this.#config.preview || this.#session.needsConsent) return;
    const { conversation } = this.#store.read();
    this.#resuming ??= conversation ? this.#showConversation(conversation) : Promise.resolve();
  }

  async #showConversation(uuid) {
    this.conversation = uuid;
    this.transcript.showLoading();
    try {
      const { messages } = await this.#session.json(`history?conversation_uuid=${encodeURIComponent(uuid)}`);
      if (this.conversation === uuid) this.#showMessages(uuid, messages); // else the visitor has switched again
    } catch (error) {
      if (this.conversation !== uuid) return;
      this.#showWelcome();
      if (error.status === 404) this.#storeConversation(null);
      else this.#notify(error.message);
    }
  }

  #showMessages(uuid, messages) {
    this.#showWelcome();
    if (messages.length) this.transcript.removeWelcome();
    messages.forEach((message) => this.#showMessage(message));
    this.#storeConversation(uuid);
    this.transcript.scrollToEnd();
  }

  #showMessage(message) {
    if (message.role === "user") return this.transcript.addQuestion(message.text);
    const reply = this.#addReply();
    if (message.failed) return reply.fail(new ApiError({ message: message.text || this.#text.connError }));
    reply.finish(message);
    reply.showSources(message.sources);
    this.transcript.record(reply.node, this.#config.headerName, message.text);
  }

  startNewChat() {
    this.clear();
    this.toggleList(false);
    this.#widget.focusChat();
  }

  clear() {
    this.stop();
    this.#storeConversation(null);
    this.#notify("");
    this.#showWelcome();
  }

  /** Show or hide the list. Return whether that changed anything. */
  toggleList(isShown) {
    const { classList } = this.panel;
    if (classList.contains("shows-chats") === isShown) return false;
    classList.toggle("shows-chats", isShown);
    if (isShown) this.#list.load();
    else this.header.focusMenu();
    return true;
  }

  switchTo(uuid) {
    this.stop();
    this.toggleList(false);
    this.#resuming = this.#showConversation(uuid);
  }

  download() {
    if (!this.transcript.download()) this.#notify(this.#text.downloadEmpty);
  }

  /** Show the admin's preview how a conversation looks, without a call. */
  #showSample() {
    const { initialGreeting, initialSubgreeting, typeMessage } = this.#text;
    this.transcript.addQuestion(this.#config.starters[0] ?? typeMessage);
    this.#addReply().write(initialSubgreeting || initialGreeting);
  }
}
