/** Keep a few values of a chatbot in the browser. */

export class BrowserStore {
  #storage;
  #values = {};

  /** `storageName`: localStorage or sessionStorage. Without one, and in a preview, values last as long as the page. */
  constructor({ apiUrl, preview }, storageName, suffix = "") {
    this.key = `puffer:${apiUrl}${suffix}`;
    try {
      this.#storage = preview ? null : window[storageName];
    } catch {
      this.#storage = null; // the browser blocks storage
    }
  }

  /** Return the stored values, read again each time because another tab may have changed them. */
  read() {
    try {
      return JSON.parse(this.#storage.getItem(this.key)) ?? {};
    } catch {
      return this.#values;
    }
  }

  write(changes) {
    this.#save({ ...this.read(), ...changes });
  }

  clear() {
    this.#save({});
  }

  #save(values) {
    this.#values = values;
    try {
      this.#storage.setItem(this.key, JSON.stringify(values));
    } catch {
      this.#storage = null;
    }
  }
}
