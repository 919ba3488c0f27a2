/** An error of the chatbot's API, or of the connection to it. */

export class ApiError extends Error {
  #isQuota;

  constructor({ code = "", message = "", data = {}, quota_notice: notice = null }) {
    super(notice?.message ?? message);
    this.code = code;
    this.status = data.status ?? 0; // 0: there was no response
    this.#isQuota = notice !== null;
  }

  /** Read the error from a response. */
  static async of(response) {
    const answer = await response.json().catch(() => ({}));
    return new ApiError({ ...answer, data: { status: response.status } });
  }

  /** Whether something broke. Otherwise the call was refused, for a reason in the owner's words. */
  get isFailure() {
    return this.status === 0 || this.status >= 500;
  }

  /** Whether a retry may succeed. */
  get isTransient() {
    return !this.#isQuota && (this.isFailure || this.status === 408 || this.status === 429);
  }
}
