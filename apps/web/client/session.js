// Accounts and sessions over Parley's REST interface: who is signed in here. It has no dependencies.
//
//   const session = new Session(); // of the page's own server, and of this tab
//   if (!session.user) await session.signIn("ada@example.com", "a first pass phrase");
//   const parley = new Parley({ session });
//
// What it promises:
// - Every call has an end. Failures are of the type Problem, with the server's code.
// - The access token is renewed in time, once for all who ask, and the refresh token is never used twice
//   on purpose, which the server would take for a theft.
// - Only the server ends a session. A proxy, or the sign-in page of a network, cannot.
// - Signing out gives up what is being read. What was asked for one user is never asked again for the next.
// - In a page, each tab is a session of its own, and a reload keeps it.

const STORE = "parley.session";
const HOLDER = "parley.holder.";
const DEVICES = "parley.devices";
// A token this close to its end is renewed before it is used, unless its whole life is short.
const MARGIN = 30_000;
// Every call ends by then. Deriving a key from a password takes its time on a busy server.
const DEADLINE = 15_000;
// Signing out here is done here, whether or not the server hears of it.
const SIGN_OUT = 5_000;
// A refresh that is not answered is asked again with the same token, soon enough that the
// server, if it has taken the token, still gives the same answer for it.
const REFRESH = [4_000, 10_000];
// The longest time in seconds that is believed of a Retry-After.
const LATEST = 86_400;
// How long another tab may take to say that a session is its own.
const CLAIM = 250;
// Devices and holders that are remembered.
const MAX_DEVICES = 5;
const HOLDER_LASTS = 30 * 86_400_000;

/** Milliseconds of a clock that only goes forward. The wall clock may be set at any time. */
const now = () => performance.now();

/** A failure as the server describes it (RFC 9457), or one on the way to it. */
export class Problem extends Error {
  constructor({ status = 0, code = "network", title = "the server cannot be reached", detail = "", errors = [], retryAfter = 0, challenge = "" }) {
    super(title);
    this.name = "Problem";
    Object.assign(this, { status, code, title, detail, retryAfter, challenge });
    /** What is wrong with which field of the form: name → text. */
    this.fields = new Map();
    for (const { location = "", message } of errors ?? []) {
      if (location.startsWith("body.")) this.fields.set(location.slice("body.".length), message);
    }
  }
}

// Codes of refusals that are about a password or a code, and not about the token.
const ABOUT_PROOF = ["invalid_credentials", "second_factor_wrong", "second_factor_required"];

const WORDS = {
  network: "The server cannot be reached. Check the connection and try again.",
  second_factor_wrong: "The code is wrong, or was used already.",
  second_factor_required: "The code of your authenticator app is required.",
  second_factor_exists: "There is an authenticator app already.",
  second_factor_not_found: "There is no authenticator app.",
  challenge_gone: "That took too long. Sign in again.",
  challenge_unknown: "That cannot be used to sign in. Sign in again.",
  reauthenticate: "Prove once more that it is you.",
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

/** Returns the seconds that an answer asks to wait (RFC 9110 section 10.2.3), or 0. */
function retryAfter(headers) {
  const text = headers.get("retry-after")?.trim() ?? "";
  if (/^[0-9]+$/.test(text)) return Math.min(Number(text), LATEST);
  const at = Date.parse(text);
  if (Number.isNaN(at)) return 0;
  // A date is by the server's clock. What ours says instead is of no use here.
  const there = Date.parse(headers.get("date") ?? "");
  const seconds = Math.ceil((at - (Number.isNaN(there) ? Date.now() : there)) / 1000);
  return Math.min(Math.max(seconds, 0), LATEST);
}

/**
 * Asks the server. What comes from somebody else on the way to it (a proxy, the sign-in page of a
 * network) counts as no answer: failures of the server are problem documents with its code, and
 * the rest has the shape that is expected.
 */
async function call(fetch, address, { method = "POST", body, token, signal, deadline = DEADLINE, shape }) {
  const headers = { accept: "application/json, application/problem+json" };
  if (body) headers["content-type"] = "application/json";
  if (token) headers.authorization = `Bearer ${token}`;
  const end = new AbortController();
  const stop = () => end.abort();
  const timer = setTimeout(stop, deadline);
  if (signal?.aborted) stop();
  signal?.addEventListener("abort", stop, { once: true });
  let response;
  let data;
  try {
    const asked = async () => {
      response = await fetch(address, { method, headers, body: body && JSON.stringify(body), cache: "no-store", signal: end.signal });
      const text = await response.text();
      try {
        data = JSON.parse(text);
      } catch {
        data = null; // not ours, or 204
      }
    };
    await Promise.race([asked(), aborted(end.signal)]);
  } catch {
    throw new Problem({ title: "the server did not answer" });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
    stop(); // nothing of it is read any more
  }
  const { status } = response;
  if (response.ok && shape(data, status)) return data;
  const type = response.headers.get("content-type") ?? "";
  const known = /^application\/problem\+json\b/i.test(type) && typeof data?.code === "string" && data.type === `/problems/${data.code}`;
  const said = !response.ok && known ? data : { title: `something answered with status ${status} that is not the server` };
  throw new Problem({ ...said, status, retryAfter: retryAfter(response.headers) });
}

function aborted(signal) {
  return new Promise((_, reject) => {
    const stop = () => reject(new Error("given up"));
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}

// What answers look like.
const isText = (x) => typeof x === "string" && x !== "";
const isAccepted = (d, status) => status === 202 && isText(d?.message);
const isMessage = (d) => isText(d?.message);
const isNothing = (_, status) => status === 204;
const isTicket = (d) => isText(d?.ticket);
const isUser = (u) => isText(u?.id) && isText(u.fullName) && isText(u.email);
const isCount = (n) => Number.isSafeInteger(n) && n >= 0;
const isRoom = (r) => isText(r?.room) && isCount(r.seq) && isCount(r.read) && isCount(r.unread);
const isRooms = (d) => Array.isArray(d?.rooms) && d.rooms.every(isRoom) && (d.next === undefined || isText(d.next));
const isInfo = (r) => isText(r?.name) && isText(r.kind);
const isInfos = (d) => Array.isArray(d?.rooms) && d.rooms.every(isInfo) && (d.next === undefined || isText(d.next));
const isMember = (m) => isText(m?.user?.id) && isText(m.role);
const isMembers = (d) => Array.isArray(d?.members) && d.members.every(isMember) && (d.next === undefined || isText(d.next));
const isBlocks = (d) => Array.isArray(d?.blocks) && (d.next === undefined || isText(d.next));
const isSettings = (d) => typeof d?.readReceipts === "boolean";
const isSessionInfo = (s) => isText(s?.id) && isText(s.device) && isText(s.createdAt) && isText(s.lastSeenAt) && typeof s.current === "boolean";
const isSessions = (d) => Array.isArray(d?.sessions) && d.sessions.every(isSessionInfo);
const isAnything = () => true;
const isPair = (d) => isText(d?.accessToken) && isText(d.refreshToken) && d.expiresIn > 0 && d.expiresIn < Infinity;
const isFactor = (d) => typeof d?.enabled === "boolean" && Number.isInteger(d.recoveryCodes);
const isTOTP = (d) => isText(d?.secret) && isText(d.uri);
const isRecovery = (d) => Array.isArray(d?.recoveryCodes) && d.recoveryCodes.every(isText);
const isGrant = (d) => isPair(d) && isUser(d.user);

/** A query of what is given, with its question mark. */
function query(fields) {
  const given = new URLSearchParams(Object.entries(fields).filter(([, value]) => value !== undefined)).toString();
  return given && `?${given}`;
}

/** The path of a room, or of something in it. /rooms/mine is the list of one's rooms. */
const at = (name, ...rest) => ["/rooms", name === "mine" ? "%6Dine" : encodeURIComponent(name), ...rest.map(encodeURIComponent)].join("/");

/** A storage of the browser, or null where the browser has none for us: "session" or "local". */
export function storage(kind) {
  try {
    return globalThis[`${kind}Storage`] ?? null;
  } catch {
    return null;
  }
}

/**
 * Who is signed in. In a page that is kept in sessionStorage, so that two tabs can be two people.
 * Fires "ended" when the server has ended it, with detail.copy when another tab has taken it.
 */
export class Session extends EventTarget {
  #grant = null; // {accessToken, refreshToken, user, lock, life}
  #until = 0; // when the access token ends, by now()
  #refreshing = null; // {done, end, waiting}
  #reads = new AbortController(); // of one user: aborted when they sign out
  #unlock = null;
  #id = random();
  #claiming = null; // the lock that this tab is about to claim
  #channel = null;
  #server;
  #with;

  /** What is not given is the page's own. Outside a page nothing is kept unless a storage is given. */
  constructor(options = {}) {
    super();
    this.#server = base(options.server);
    const page = typeof globalThis.document === "object";
    this.#with = {
      fetch: options.fetch ?? ((...request) => globalThis.fetch(...request)),
      storage: options.storage === undefined && page ? storage("session") : options.storage,
      shared: options.shared === undefined && page ? storage("local") : options.shared,
      locks: options.locks === undefined && page ? globalThis.navigator?.locks : options.locks,
      // Node has channels too. They connect its threads, and keep it from ending.
      Channel: options.BroadcastChannel === undefined && page ? globalThis.BroadcastChannel : options.BroadcastChannel,
    };
  }

  /** Where the server is, without a slash at the end; "" is the page's own. */
  get server() {
    return this.#server;
  }

  get user() {
    return this.#grant?.user ?? null;
  }

  /** Takes up what this tab had before a reload. Returns "copy" for a duplicated tab. */
  async restore() {
    let grant = null;
    try {
      grant = JSON.parse(this.#with.storage.getItem(STORE));
    } catch {
      // No storage, or not ours: signed out.
    }
    if (!isText(grant?.refreshToken) || !isText(grant.accessToken) || !isUser(grant.user)) return null;
    if (!(await this.#claim(grant.lock))) {
      // A duplicated tab has a copy of the refresh token. Using it in both would look like a
      // stolen token, and end the session in both.
      this.#forget();
      return "copy";
    }
    const { accessToken, refreshToken, user, lock, expiresAt, life = 0 } = grant;
    this.#grant = { accessToken, refreshToken, user, lock, life };
    // The wall clock may have been set meanwhile: the token has at most its whole life.
    const left = Math.min(expiresAt - Date.now(), life);
    this.#until = now() + (left > 0 ? left : 0);
    return "restored";
  }

  /** Asks for an account. The mail that follows has a link that confirms the address. */
  signUp(fields) {
    return this.#call("/auth/signup", { body: fields, shape: isAccepted });
  }

  /** Confirms an address with the code from the mail. */
  verify(code) {
    return this.#call("/auth/verify", { body: { code }, shape: isMessage });
  }

  /** Asks for another mail with a link that confirms the address. */
  resend(email) {
    return this.#call("/auth/verify/resend", { body: { email }, shape: isAccepted });
  }

  /** Asks for a mail with a code that sets a new password. */
  forgot(email) {
    return this.#call("/auth/password/forgot", { body: { email }, shape: isAccepted });
  }

  /** Sets a new password with the code from the mail. It ends every session of the user. */
  async reset(code, password) {
    await this.#call("/auth/password/reset", { body: { code, password }, shape: isNothing });
  }

  /** Sets a new password for who is signed in. It ends every other session of the user. */
  async changePassword(current, password) {
    await this.#authorized("/auth/password/change", { body: { current, password }, shape: isNothing });
  }

  async signIn(email, password) {
    const deviceToken = this.#device(email);
    const body = deviceToken ? { email, password, deviceToken } : { email, password };
    const answer = await this.#call("/auth/signin", { body, shape: isGrant });
    if (isText(answer.deviceToken)) this.#remember(email, answer.deviceToken);
    return this.#begin(answer);
  }

  /** Asks for a mail with a link to sign in by. */
  requestLink(email) {
    return this.#call("/auth/link", { body: { email }, shape: isAccepted });
  }

  /** Signs in with the code from that mail. */
  async signInByLink(code) {
    const deviceToken = this.#devices()[0]?.token; // of the account that was used last, mostly this one
    const answer = await this.#call("/auth/link/signin", { body: deviceToken ? { code, deviceToken } : { code }, shape: isGrant });
    if (isText(answer.deviceToken)) this.#remember(answer.user.email, answer.deviceToken);
    return this.#begin(answer);
  }

  /** Signs in by the code of an authenticator app, or a recovery code, with the challenge of the Problem second_factor_required that another sign-in was refused by. */
  async signInFactor(challenge, code) {
    const deviceToken = this.#devices()[0]?.token;
    const answer = await this.#call("/auth/signin/factor", { body: deviceToken ? { challenge, code, deviceToken } : { challenge, code }, shape: isGrant });
    if (isText(answer.deviceToken)) this.#remember(answer.user.email, answer.deviceToken);
    return this.#begin(answer);
  }

  /** Signs in by another call of the server, which answers as /auth/signin does. */
  async signInAt(path, body) {
    return this.#begin(await this.#call(path, { body, shape: isGrant }));
  }

  async #begin(answer) {
    const lock = random();
    await this.#claim(lock, { known: false });
    this.#keep(answer, lock);
    return this.user;
  }

  /** Signs out here, or on every device. Without a connection it still does so in this tab. What is being read is given up: it would be refused. */
  async signOut({ everywhere = false } = {}) {
    const end = new AbortController();
    const timer = everywhere ? 0 : setTimeout(() => end.abort(), SIGN_OUT);
    const done = this.#authorized(everywhere ? "/auth/signout/all" : "/auth/signout", { shape: isNothing, signal: end.signal, last: true });
    this.#reads.abort(); // after done has begun, which may wait for the same new token
    try {
      await done;
    } catch (err) {
      if (everywhere && this.#grant) {
        this.#reads = new AbortController(); // the session goes on
        throw err;
      }
    } finally {
      clearTimeout(timer);
    }
    this.#forget();
  }

  /**
   * Lets go of the session without ending it: another page that has its storage may take it up. This one
   * may sign in again.
   */
  close() {
    this.#grant = null;
    this.#reads.abort();
    this.#reads = new AbortController();
    this.#unlock?.();
    this.#unlock = null;
    this.#channel?.port.close?.();
    this.#channel = null;
  }

  /**
   * A ticket for one socket handshake, as the client of the socket asks for it: {ticket,
   * expiresIn}, with the seconds that the access token behind it still lasts.
   */
  async ticket({ renew = false, signal } = {}) {
    if (renew) await this.#refresh(signal);
    const { answer, until } = await this.#whileHere("/auth/socket-ticket", { shape: isTicket, signal });
    return { ticket: answer.ticket, expiresIn: (until - now()) / 1000 };
  }

  /** An access token with most of its life before it: {token, expiresIn}, in seconds. */
  async token({ signal } = {}) {
    if (!this.#grant) throw ended();
    if (this.#until - now() < this.#grant.life / 2) await this.#refresh(signal);
    if (!this.#grant) throw ended();
    return { token: this.#grant.accessToken, expiresIn: (this.#until - now()) / 1000 };
  }

  /** A page of the user's rooms, the one that was active last first: {rooms, next}. next is the cursor of the page behind it. */
  async rooms({ cursor, limit, signal } = {}) {
    return this.#ask("GET", `/rooms/mine${query({ cursor, limit })}`, { shape: isRooms, signal });
  }

  /** A page of the public rooms, by name: {rooms, next}. next is the after of the page behind it. */
  publicRooms({ after, limit, signal } = {}) {
    return this.#ask("GET", `/rooms${query({ after, limit })}`, { shape: isInfos, signal });
  }

  /** What a room shows of itself. */
  room(name, { signal } = {}) {
    return this.#ask("GET", at(name), { shape: isInfo, signal });
  }

  /** Makes a room, which the caller owns: {name, kind, title, topic, data}, all of which may be left out. */
  createRoom(fields = {}) {
    return this.#ask("POST", "/rooms", { body: fields, shape: isInfo });
  }

  /** Changes what a room shows of itself: {title, topic, kind, data, retention}. What is left out stays. */
  changeRoom(name, fields) {
    return this.#ask("PATCH", at(name), { body: fields, shape: isInfo });
  }

  /** Deletes a room with its messages. */
  async deleteRoom(name) {
    await this.#ask("DELETE", at(name), { shape: isNothing });
  }

  /** A page of a room's members: {members, next}. next is the after of the page behind it. */
  members(name, { after, limit, signal } = {}) {
    return this.#ask("GET", `${at(name)}/members${query({ after, limit })}`, { shape: isMembers, signal });
  }

  /** Gives somebody a role in a room, which invites them if they are no member. */
  async setRole(name, user, role) {
    await this.#ask("PUT", at(name, "members", user), { body: { role }, shape: isAnything });
  }

  /** Removes somebody from a room. */
  async removeMember(name, user) {
    await this.#ask("DELETE", at(name, "members", user), { shape: isNothing });
  }

  /** Bans somebody from a room: {until, reason}, both of which may be left out. */
  async ban(name, user, { until, reason } = {}) {
    await this.#ask("PUT", at(name, "bans", user), { body: { until, reason }, shape: isNothing });
  }

  /** Lets somebody who was banned join again. */
  async unban(name, user) {
    await this.#ask("DELETE", at(name, "bans", user), { shape: isNothing });
  }

  /** Mutes somebody in a room: {until, reason}, both of which may be left out. */
  async mute(name, user, { until, reason } = {}) {
    await this.#ask("PUT", at(name, "mutes", user), { body: { until, reason }, shape: isNothing });
  }

  /** Lets somebody who was muted speak again. */
  async unmute(name, user) {
    await this.#ask("DELETE", at(name, "mutes", user), { shape: isNothing });
  }

  /** The one room of the caller and somebody else, which is made if there is none. */
  direct(user) {
    return this.#ask("PUT", `/rooms/direct/${encodeURIComponent(user)}`, { shape: isInfo });
  }

  /** A page of those whom the caller has blocked: {blocks, next}. next is the after of the page behind it. */
  blocks({ after, limit, signal } = {}) {
    return this.#ask("GET", `/me/blocks${query({ after, limit })}`, { shape: isBlocks, signal });
  }

  /** Blocks somebody: they cannot write to the caller directly. */
  async block(user) {
    await this.#ask("PUT", `/me/blocks/${encodeURIComponent(user)}`, { shape: isNothing });
  }

  /** Takes a block back. */
  async unblock(user) {
    await this.#ask("DELETE", `/me/blocks/${encodeURIComponent(user)}`, { shape: isNothing });
  }

  /** What the caller has set for themselves: {readReceipts}. */
  settings({ signal } = {}) {
    return this.#ask("GET", "/me/settings", { shape: isSettings, signal });
  }

  /** Changes that, {readReceipts}, and returns it as it is then. What is not given stays. */
  changeSettings(settings) {
    return this.#ask("PATCH", "/me/settings", { body: settings, shape: isSettings });
  }

  /** The caller's sessions that go on, newest first: {sessions}, each {id, device, network, createdAt, lastSeenAt, current}. */
  sessions({ signal } = {}) {
    return this.#ask("GET", "/auth/sessions", { shape: isSessions, signal });
  }

  /** Ends another session of the caller: its sockets close. To end this one is to sign out. */
  async endSession(id) {
    await this.#ask("DELETE", `/auth/sessions/${encodeURIComponent(id)}`, { shape: isNothing });
  }

  /** The account of who is signed in: {id, fullName, email, isVerified, language, avatarUrl}; the last two only if they are known. */
  async me({ signal } = {}) {
    return this.#know(await this.#ask("GET", "/auth/me", { shape: isUser, signal }));
  }

  /** Changes what one says of oneself, {fullName, language, avatarUrl}, and returns the account as it is then. What is not given stays; an empty text takes it away. */
  async changeMe(fields) {
    return this.#know(await this.#ask("PATCH", "/auth/me", { body: fields, shape: isUser }));
  }

  /** Asks for a mail to a new address with the code for confirmEmail. It does not tell whether the address is taken; then nobody gets one. */
  async requestEmail(email, password) {
    await this.#ask("POST", "/auth/me/email", { body: { email, password }, shape: isMessage });
  }

  /** Takes the new address with the code from the mail, and returns the account. It ends every other session of the user. */
  async confirmEmail(code) {
    return this.#know(await this.#ask("POST", "/auth/me/email/verify", { body: { code }, shape: isUser }));
  }

  /** The second factor of who is signed in. A server without second factors refuses with second_factor_off. */
  factor({ signal } = {}) {
    return this.#ask("GET", "/auth/factor", { shape: isFactor, signal });
  }

  /** Makes this session fresh: by a code for a user with a second factor, by the password for others. */
  async reauthenticate({ password, code }) {
    await this.#ask("POST", "/auth/reauthenticate", { body: code ? { code } : { password }, shape: isNothing });
  }

  /** A secret for an authenticator app. The session must be fresh, or it is refused with reauthenticate. */
  addTOTP() {
    return this.#ask("POST", "/auth/factor/totp", { shape: isTOTP });
  }

  /** Makes the app the second factor by a code of it, and returns the recovery codes, which nobody sees again. It ends every other session of the user. */
  async confirmTOTP(code) {
    return (await this.#ask("POST", "/auth/factor/totp/confirm", { body: { code }, shape: isRecovery })).recoveryCodes;
  }

  /** New recovery codes in the place of all before. The session must be fresh. */
  async newRecoveryCodes() {
    return (await this.#ask("POST", "/auth/factor/recovery-codes", { shape: isRecovery })).recoveryCodes;
  }

  /** Takes the second factor away. The session must be fresh. */
  async removeFactor() {
    await this.#ask("DELETE", "/auth/factor", { shape: isNothing });
  }

  /** Erases the account of who is signed in, and what they have said. It cannot be undone, and ends every session of the user. */
  async eraseMe(password) {
    await this.#ask("DELETE", "/auth/me", { body: { password }, shape: isNothing });
  }

  /** Remembers the account as the server has told it. */
  #know(user) {
    if (this.#grant?.user?.id !== user.id) return user; // who was asked about is not signed in any more
    this.#grant = { ...this.#grant, user };
    try {
      const kept = JSON.parse(this.#with.storage.getItem(STORE));
      if (kept?.accessToken === this.#grant.accessToken) this.#with.storage.setItem(STORE, JSON.stringify({ ...kept, user }));
    } catch {
      // The next refresh tells it again.
    }
    return user;
  }

  async #ask(method, path, { body, shape, signal }) {
    const ask = method === "GET" ? this.#whileHere : this.#authorized;
    return (await ask.call(this, path, { method, body, shape, signal })).answer;
  }

  /** Asks for what is of no use any more when the user signs out. */
  async #whileHere(path, request) {
    const end = new AbortController();
    const stop = () => end.abort();
    const signals = [this.#reads.signal, request.signal].filter(Boolean);
    for (const signal of signals) {
      if (signal.aborted) stop();
      signal.addEventListener("abort", stop, { once: true });
    }
    try {
      return await this.#authorized(path, { ...request, signal: end.signal });
    } finally {
      for (const signal of signals) signal.removeEventListener("abort", stop);
    }
  }

  #call(path, request) {
    return call(this.#with.fetch, this.#server + path, request);
  }

  async #authorized(path, { method, body, shape, signal, last = false }) {
    const reads = this.#reads;
    const token = await this.#fresh(signal);
    const ask = async (token) => {
      const until = this.#until;
      return { answer: await this.#call(path, { method, body, token, shape, signal }), until };
    };
    try {
      return await ask(token);
    } catch (err) {
      if (!refusesToken(err) || ABOUT_PROOF.includes(err.code)) throw err;
      if (reads.signal.aborted && !last) throw ended(); // the user signs out, and another may be here already
      if (this.#grant?.accessToken === token) await this.#refresh(signal);
      return ask(await this.#fresh(signal));
    }
  }

  async #fresh(signal) {
    if (!this.#grant) throw ended();
    if (this.#until - now() < Math.min(MARGIN, this.#grant.life / 3)) await this.#refresh(signal);
    if (!this.#grant) throw ended();
    return this.#grant.accessToken;
  }

  /**
   * Many may ask at once; the token is exchanged once, since a second use may end the session.
   * When nobody waits any more, the exchange is given up, and the next who asks begins anew.
   */
  #refresh(signal) {
    if (signal?.aborted) return Promise.reject(givenUp());
    if (!this.#refreshing) {
      const begun = { end: new AbortController(), waiting: 0 };
      begun.done = this.#exchange(begun.end.signal).finally(() => {
        if (this.#refreshing === begun) this.#refreshing = null;
      });
      this.#refreshing = begun;
    }
    const running = this.#refreshing;
    running.waiting++;
    return new Promise((resolve, reject) => {
      const leave = () => {
        reject(givenUp());
        if (--running.waiting > 0) return;
        running.end.abort();
        if (this.#refreshing === running) this.#refreshing = null;
      };
      running.done.then(resolve, reject).finally(() => signal?.removeEventListener("abort", leave));
      signal?.addEventListener("abort", leave, { once: true });
    });
  }

  async #exchange(signal) {
    if (!this.#grant) throw ended();
    const { refreshToken, lock } = this.#grant;
    if (!this.#holds(lock)) throw this.#end({ copy: true });
    let answer;
    let failure;
    for (const deadline of REFRESH) {
      failure = null;
      try {
        answer = await this.#call("/auth/refresh", { body: { refreshToken }, shape: isPair, signal, deadline });
      } catch (err) {
        failure = err;
      }
      if (this.#grant?.refreshToken !== refreshToken) throw ended(); // signed out meanwhile
      if (failure?.status !== 0 || signal.aborted) break; // answered, or not wanted any more
    }
    if (refusesToken(failure)) throw this.#end({ copy: false });
    if (failure) throw failure;
    this.#keep(answer, lock);
  }

  #end(detail) {
    this.#forget();
    this.dispatchEvent(new CustomEvent("ended", { detail }));
    return ended();
  }

  #keep({ accessToken, expiresIn, refreshToken, user }, lock) {
    const life = expiresIn * 1000;
    this.#grant = { accessToken, refreshToken, lock, life, user: isUser(user) ? user : this.#grant?.user };
    this.#until = now() + life;
    try {
      this.#with.storage.setItem(STORE, JSON.stringify({ ...this.#grant, expiresAt: Date.now() + life }));
    } catch {
      // Without storage a reload signs out.
    }
  }

  #forget() {
    const lock = this.#grant?.lock;
    this.#grant = null;
    this.#reads.abort();
    this.#reads = new AbortController();
    this.#unlock?.();
    this.#unlock = null;
    if (lock && this.#holder(lock) === this.#id) this.#shared((shared) => shared.removeItem(HOLDER + lock));
    try {
      this.#with.storage.removeItem(STORE);
    } catch {
      // There was nothing to remove.
    }
  }

  // ---- one tab a session ----

  /** Claims a session as long as this tab lives, and reports whether another tab has it. */
  #claim(lock, { known = true } = {}) {
    this.#unlock?.();
    this.#unlock = null;
    if (!lock) return Promise.resolve(true);
    return this.#with.locks ? this.#claimLock(lock) : this.#claimAmongTabs(lock, known);
  }

  #claimLock(lock) {
    return new Promise((claimed) => {
      // After a reload the page before may need a moment to let go.
      this.#with.locks
        .request(`${STORE}.${lock}`, { signal: AbortSignal.timeout(1_000) }, () => {
          claimed(true);
          return new Promise((release) => {
            this.#unlock = release;
          });
        })
        // Whoever may not use locks at all is not a copy for that.
        .catch((err) => claimed(err?.name !== "AbortError" && err?.name !== "TimeoutError"));
    });
  }

  /**
   * Where pages have no locks (over http on another host than localhost) the tabs ask each other.
   * A tab that sleeps does not answer: so who came last stands in the shared storage, and a tab
   * that finds another there does not use its token any more.
   */
  async #claimAmongTabs(lock, known) {
    const { Channel, shared } = this.#with;
    if (Channel) this.#channel ??= this.#listen(new Channel(STORE));
    if (Channel && known) {
      this.#claiming = lock;
      const taken = await new Promise((resolve) => {
        this.#channel.held = resolve;
        setTimeout(() => resolve(false), CLAIM);
        this.#channel.port.postMessage({ claim: lock, by: this.#id });
      });
      this.#claiming = null;
      if (taken) return false;
    }
    if (shared) this.#shared(() => this.#hold(lock));
    return true;
  }

  #listen(port) {
    const channel = { port, held: null };
    port.onmessage = ({ data }) => {
      if (data?.claim) {
        const rivals = this.#claiming === data.claim;
        // Of two that claim at once, one gives way. It may be the only one that has heard the other.
        if (rivals && data.by < this.#id) channel.held?.(true);
        else if (rivals || this.#grant?.lock === data.claim) port.postMessage({ held: data.claim, from: data.by });
      } else if (data?.held === this.#claiming && data?.from === this.#id) {
        channel.held?.(true);
      }
    };
    return channel;
  }

  #hold(lock) {
    const { shared } = this.#with;
    for (const key of Array.from({ length: shared.length }, (_, i) => shared.key(i))) {
      // What tabs have left that are gone for long.
      if (key?.startsWith(HOLDER) && !(Date.now() - this.#read(key)?.at < HOLDER_LASTS)) shared.removeItem(key);
    }
    shared.setItem(HOLDER + lock, JSON.stringify({ id: this.#id, at: Date.now() }));
  }

  #holder(lock) {
    return this.#read(HOLDER + lock)?.id ?? null;
  }

  #holds(lock) {
    if (this.#with.locks || !lock) return true;
    const holder = this.#holder(lock);
    return holder === null || holder === this.#id;
  }

  #read(key) {
    return this.#shared((shared) => JSON.parse(shared.getItem(key)));
  }

  /** Does something with the storage that tabs share, which may be missing, full or forbidden. */
  #shared(use) {
    try {
      return this.#with.shared ? use(this.#with.shared) : null;
    } catch {
      return null;
    }
  }

  // ---- what the server gives a device that has signed in, so that it has limits of its own ----

  #devices() {
    const known = this.#read(DEVICES);
    return Array.isArray(known) ? known.filter((d) => isText(d?.email) && isText(d.token)) : [];
  }

  #device(email) {
    return this.#devices().find((d) => d.email === canonical(email))?.token;
  }

  #remember(email, token) {
    const others = this.#devices().filter((d) => d.email !== canonical(email));
    const devices = [{ email: canonical(email), token }, ...others].slice(0, MAX_DEVICES);
    this.#shared((shared) => shared.setItem(DEVICES, JSON.stringify(devices)));
  }
}

/** The address of a server, as calls begin with it. */
function base(server) {
  if (server === undefined || server === null || server === "") return "";
  const url = new URL(server);
  if (url.protocol !== "https:" && url.protocol !== "http:") throw new TypeError("Parley: options.server must be an http or https address");
  return url.origin + url.pathname.replace(/\/+$/, "");
}

const canonical = (email) => email.trim().toLowerCase();

function random() {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("");
}

/** Whether the server, and nobody else, has said that a token is not good any more. */
function refusesToken(err) {
  return err instanceof Problem && err.status === 401 && err.code !== "network";
}

function givenUp() {
  return new Problem({ title: "the question was given up" });
}

function ended() {
  return Object.assign(new Problem({ status: 401, code: "session_ended", title: "the session has ended" }), { permanent: true });
}
