// Accounts and sessions over the REST interface: who is signed in in this tab.

const STORE = "parley.session";
// A token this close to its end is renewed before it is used.
const MARGIN = 30_000;

/** A failure as the server describes it (RFC 9457), or one on the way to it. */
export class Problem extends Error {
  constructor({ status = 0, code = "network", title = "the server cannot be reached", detail = "", errors = [], retryAfter = 0 }) {
    super(title);
    this.name = "Problem";
    Object.assign(this, { status, code, title, detail, retryAfter });
    /** What is wrong with which field of the form: name → text. */
    this.fields = new Map();
    for (const { location = "", message } of errors) {
      if (location.startsWith("body.")) this.fields.set(location.slice("body.".length), message);
    }
  }
}

const WORDS = {
  network: "The server cannot be reached. Check the connection and try again.",
  invalid_credentials: "The e-mail address or the password is wrong.",
  not_verified: "This address is not confirmed yet. Open the link in the mail that we sent you.",
  email_taken: "There is an account with this e-mail address already.",
  session_ended: "Your session has ended. Please sign in again.",
};

/** Says what happened in words for people. */
export function words(err) {
  if (!(err instanceof Problem)) return sentence(err?.message || "something went wrong");
  if (err.code === "too_many_attempts") {
    return `Too many attempts. Try again ${err.retryAfter ? `in ${duration(err.retryAfter)}` : "later"}.`;
  }
  if (WORDS[err.code]) return WORDS[err.code];
  const details = err.detail ? [err.detail] : [...err.fields].map(([name, text]) => `${name}: ${text}`);
  return [err.title, ...details].map(sentence).join(" ");
}

/** Makes a sentence of a phrase: a capital in front, a full stop behind. */
export function sentence(phrase) {
  const text = phrase.charAt(0).toUpperCase() + phrase.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

function duration(seconds) {
  if (seconds < 90) return `${seconds} seconds`;
  return `${Math.ceil(seconds / 60)} minutes`;
}

async function call(method, path, { body, token } = {}) {
  const headers = { accept: "application/json" };
  if (body) headers["content-type"] = "application/json";
  if (token) headers.authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  } catch {
    throw new Problem({});
  }
  const data = await response.json().catch(() => null);
  if (response.ok) return data;
  throw new Problem({
    code: "unknown",
    title: `the server answered with status ${response.status}`,
    ...data,
    status: response.status,
    retryAfter: Number(response.headers.get("retry-after")) || 0,
  });
}

export const accounts = {
  signUp: (fields) => call("POST", "/auth/signup", { body: fields }),
  resend: (email) => call("POST", "/auth/verify/resend", { body: { email } }),
  forgot: (email) => call("POST", "/auth/password/forgot", { body: { email } }),
};

/**
 * The session of this tab. It is kept in sessionStorage, so that two tabs can be two people.
 * Fires "ended" when the server has ended it.
 */
export class Session extends EventTarget {
  #grant = null; // {accessToken, expiresAt, refreshToken, user, lock}
  #refreshing = null;
  #unlock = null;

  get user() {
    return this.#grant?.user ?? null;
  }

  /** Takes up what this tab had before a reload. Returns "copy" for a duplicated tab. */
  async restore() {
    let grant = null;
    try {
      grant = JSON.parse(sessionStorage.getItem(STORE));
    } catch {
      // No storage, or not ours: signed out.
    }
    if (!grant?.refreshToken || !grant.user?.id) return null;
    if (!(await this.#claim(grant.lock))) {
      // A duplicated tab has a copy of the refresh token. Using it in both would look like a
      // stolen token, and end the session in both.
      this.#forget();
      return "copy";
    }
    this.#grant = grant;
    return "restored";
  }

  async signIn(email, password) {
    const answer = await call("POST", "/auth/signin", { body: { email, password } });
    const lock = Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16)).join("");
    await this.#claim(lock);
    this.#keep(answer, lock);
    return this.user;
  }

  /** Signs out here, or on every device. Without a connection it still does so in this tab. */
  async signOut({ everywhere = false } = {}) {
    try {
      await this.#authorized("POST", everywhere ? "/auth/signout/all" : "/auth/signout");
    } catch (err) {
      if (everywhere && this.#grant) throw err;
    }
    this.#forget();
  }

  /** A ticket for one socket handshake, as the client of the socket asks for it. */
  async ticket({ renew = false } = {}) {
    if (renew) await this.#refresh();
    return (await this.#authorized("POST", "/auth/socket-ticket")).ticket;
  }

  async #authorized(method, path) {
    const token = await this.#token();
    try {
      return await call(method, path, { token });
    } catch (err) {
      if (err.status !== 401) throw err;
      if (this.#grant?.accessToken === token) await this.#refresh();
      return call(method, path, { token: await this.#token() });
    }
  }

  async #token() {
    if (!this.#grant) throw ended();
    if (this.#grant.expiresAt - Date.now() < MARGIN) await this.#refresh();
    return this.#grant.accessToken;
  }

  /** Many may ask at once; the token is exchanged once, since a second use ends the session. */
  #refresh() {
    this.#refreshing ??= this.#exchange().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  async #exchange() {
    if (!this.#grant) throw ended();
    const { refreshToken, lock } = this.#grant;
    try {
      const answer = await call("POST", "/auth/refresh", { body: { refreshToken } });
      if (!this.#grant) throw ended(); // signed out meanwhile
      this.#keep(answer, lock);
    } catch (err) {
      if (err.status !== 401 && err.status !== 403) throw err;
      this.#forget();
      this.dispatchEvent(new Event("ended"));
      throw ended();
    }
  }

  #keep({ accessToken, expiresIn, refreshToken, user }, lock) {
    const known = this.#grant?.user;
    this.#grant = { accessToken, refreshToken, lock, user: user ?? known, expiresAt: Date.now() + expiresIn * 1000 };
    try {
      sessionStorage.setItem(STORE, JSON.stringify(this.#grant));
    } catch {
      // Without storage a reload signs out.
    }
  }

  #forget() {
    this.#grant = null;
    this.#unlock?.();
    this.#unlock = null;
    try {
      sessionStorage.removeItem(STORE);
    } catch {
      // There was nothing to remove.
    }
  }

  /** Holds a lock as long as this tab lives, and reports whether another tab has it. */
  #claim(lock) {
    const { locks } = navigator;
    if (!locks || !lock) return Promise.resolve(true); // not a secure context
    this.#unlock?.();
    return new Promise((claimed) => {
      // After a reload the page before may need a moment to let go.
      locks
        .request(`${STORE}.${lock}`, { signal: AbortSignal.timeout(1_000) }, () => {
          claimed(true);
          return new Promise((release) => {
            this.#unlock = release;
          });
        })
        .catch(() => claimed(false));
    });
  }
}

function ended() {
  return Object.assign(new Problem({ status: 401, code: "session_ended", title: "the session has ended" }), { permanent: true });
}
