// The browser client of Parley's socket protocol, parley.v1. It has no dependencies.
//
//   import { Parley } from "/parley.js";
//
//   const parley = new Parley({ session }); // of session.js, or an object with ticket, token and user
//   parley.addEventListener("message", ({ detail }) => show(detail.message));
//   parley.connect();
//   await parley.join("lobby");
//   await parley.send("lobby", "Hello");
//
// What it promises, as long as the server keeps its part:
// - "message" events of a room come in the order of its sequence, each message once. Where
//   messages are missing, they are fetched; where they no longer exist, "lost" says so.
// - A message that was sent stays pending, over any number of reconnections and always under
//   the same clientId, until the server has acknowledged or refused it.
// - A message changes by edits, deletions and reactions, which have a sequence in the room too. "changed" has the
//   message as it is then. What is older than what was told already is never told.
// - One's own change shows at once, stays pending over reconnections as a message does, and goes back if it is refused.
// - It knows how far the user has read each room, wherever they have read it, and how many messages are unread.
// - With options.storage what is pending also survives a reload of the page, for the same user.
// - After a lost connection it comes back by itself where the close code allows that, with
//   a new ticket, and joins its rooms again from the last message that it has seen. What the
//   ticket's error says in retryAfter is waited for.
// - Whatever is asked has an end: a ticket that does not come, an answer that is not given.
// - Times are measured by a clock that nobody sets. A wall clock that jumps changes nothing.
// - With options.token a connection outlives the access token that it was opened with.

/** The WebSocket subprotocol that this client speaks. */
export const PROTOCOL = "parley.v1";

/** Limits of the server, in characters (Unicode code points). */
export const MAX_ROOM_NAME = 100;
export const MAX_TEXT = 4000;
export const MAX_REACTION = 32;

const DAY = 86_400_000;

// Options that are numbers: what they are unless given, and their bounds. Less than the least
// is refused: it would make a loop without a rest. More than the most counts as the most: what
// setTimeout cannot count, it takes for no time at all.
const NUMBERS = {
  ackTimeout: [10_000, 100, DAY],
  connectTimeout: [15_000, 100, DAY],
  retryMin: [500, 10, DAY],
  retryMax: [30_000, 10, DAY],
  idleProbe: [60_000, 1_000, DAY],
  pageSize: [100, 1, 1_000],
  window: [8, 1, 1_000],
  rate: [20, 0.1, 10_000],
  burst: [50, 1, 10_000],
};

// A connection that lasted this long was a good one: the back-off starts anew.
const STABLE_AFTER = 5_000;
// The clients of a node that restarts do not all come back in the same instant.
const SPREAD = 250;
// A message may be overtaken on its way; only after this time it counts as missing.
const HOLE_GRACE = 400;
const PROBE_TIMEOUT = 5_000;
// A server that asks to come back later is not asked for longer than this.
const LATEST_RETRY = 300_000;
// The token is renewed when a third of its time is left, but not earlier than this.
const RENEW_AHEAD = 60_000;
// What is kept of the outbox over a reload: so many messages, so many characters of text.
const KEPT_MESSAGES = 200;
const KEPT_CHARACTERS = 400_000;
const MAX_DATA = 4096; // bytes
const MAX_DATA_DEPTH = 32;
const MAX_CLIENT_ID = 64;
// So many messages of a room are at hand, as they are now, and so many users a reaction names.
const HELD_MESSAGES = 1_000;
const REACTION_USERS = 20;
// How far somebody has read a room is said this often at most.
const MARK_EVERY = 1_000;
// A count that may be wrong by what was on its way is asked for again: each time twice as late, and this late at last.
const LATEST_COUNT = 60_000;
// So many unread messages of a room are known one by one. Of more, the server knows how many they are.
const COUNTED = 1_000;
// While somebody types, "typing" is repeated this often; it ends this long after the last key.
const TYPING_REPEAT = 3_000;
const TYPING_PAUSE = 1_000;
const TYPING_IDLE = 4_000;
// Refusals that have nothing to do with what was asked: later it may work.
const TRANSIENT = new Set(["unavailable", "busy", "room_busy", "closed", "internal"]);
// Events that methods send, since the client keeps account of them.
const OWN = new Set(["join_room", "leave_room", "message", "edit", "delete", "react", "mark", "isTyping", "renew"]);
// The server ends somebody's typing by itself. This is for when its word got lost.
const TYPING_EXPIRES = 10_000;

/** Milliseconds of a clock that only goes forward. The wall clock may be set at any time. */
function now() {
  return globalThis.performance.now();
}

/** Returns an option that is a number, within its bounds. */
function bounded(name, value) {
  const [usual, least, most] = NUMBERS[name];
  if (value === undefined || value === null) return usual;
  if (typeof value !== "number" || Number.isNaN(value)) {
    throw new TypeError(`Parley: options.${name} must be a number`);
  }
  if (value === 0 && name === "idleProbe") return 0; // never
  if (value < least) throw new RangeError(`Parley: options.${name} must be at least ${least}`);
  return Math.min(value, most);
}

/** Returns how many milliseconds an error asks to wait. */
function asksToWait(err) {
  const seconds = err?.retryAfter;
  return typeof seconds === "number" && seconds > 0 ? Math.min(seconds * 1000, LATEST_RETRY) : 0;
}

/** A refusal by the server, or a failure of the connection. `code` is stable. */
export class ParleyError extends Error {
  constructor(code, title, closeCode) {
    super(title);
    this.name = "ParleyError";
    this.code = code;
    this.closeCode = closeCode;
  }
}

/**
 * What a client does after a close code: come back "now", come back "later", get a new token
 * first ("renew"), or "stop" until a person decides otherwise.
 */
export function afterClose(code) {
  switch (code) {
    case 1001: // going away
    case 1006: // cut off, or the handshake failed
    case 1012: // this node restarts
    case 4408: // too slow
      return "now";
    case 1005: // closed without a reason
    case 1011: // the server failed
    case 1013: // the server asks to try later
    case 1014: // a gateway failed
      return "later";
    case 4401: // no longer authenticated
      return "renew";
    default:
      return "stop";
  }
}

export class Parley extends EventTarget {
  #options;
  #state = "idle";
  #socket = null;
  #turn = 0; // an attempt to connect that is not of this turn is void
  #attempt = 0; // failed attempts in a row
  #renew = false;
  #asking = null; // ends the questions of this attempt or connection
  #notBefore = 0; // the server has asked to be left alone until then
  #renewal = { busy: false, said: false, attempt: 0 };
  #keeping = false; // the outbox will be written
  #nextId = 1;
  #requests = new Map(); // id → {resolve, reject, timer}
  #queue = []; // what waits to be sent, because the server closes for more than its rate
  #due = 0; // when the next frame is due under the rate, by now()
  #rooms = new Map(); // name → room
  #outbox = new Map(); // clientId → entry, in the order of sending
  #changes = new Set(); // own changes that are pending, or that were stored and have not come back, in the order of asking
  #revs = { asked: 0, unknown: false }; // joins with rev that are not answered; whether a server closes for them
  #counting = false; // somebody wants to know how many messages are unread
  #typists = new Map(); // room and user id → {room, user, timer}
  #heard = 0; // when the server was last heard
  #timers = { retry: 0, handshake: 0, stable: 0, idle: 0, pace: 0, renew: 0 };
  #unlisten = null;

  constructor(options) {
    super();
    options = { ...fromSession(options?.session), ...defined(options) };
    if (typeof options.ticket !== "function") {
      throw new TypeError("Parley: options.ticket must be a function that returns a ticket, unless there is options.session");
    }
    this.#options = {
      url: options.url ?? defaultURL(),
      WebSocket: options.WebSocket ?? globalThis.WebSocket,
      random: options.random ?? Math.random,
      user: options.user ?? null,
      ticket: options.ticket,
      token: options.token ?? null,
      storage: options.storage ?? null,
    };
    for (const name of Object.keys(NUMBERS)) this.#options[name] = bounded(name, options[name]);
    if (typeof this.#options.WebSocket !== "function") {
      throw new TypeError("Parley: this environment has no WebSocket; pass one as options.WebSocket");
    }
    if (this.#options.token !== null && typeof this.#options.token !== "function") {
      throw new TypeError("Parley: options.token must be a function that returns {token, expiresIn}");
    }
    if (this.#options.storage && typeof this.#options.user?.id !== "string") {
      throw new TypeError("Parley: options.storage needs options.user, whose messages it keeps");
    }
    this.#recall();
  }

  /** "idle", "connecting", "open", "waiting", "offline" or "closed". */
  get state() {
    return this.#state;
  }

  /** The names of the rooms that were joined, or will be when the connection is there. */
  get rooms() {
    return [...this.#rooms.keys()];
  }

  /** Messages that are pending or failed, in the order of sending. */
  get outgoing() {
    return [...this.#outbox.values()].map(snapshot);
  }

  /** Edits, deletions and reactions that are pending, in the order of asking. */
  get changes() {
    return [...this.#changes].filter(({ state }) => state === "pending").map(describe);
  }

  /** Opens the connection, and from now on keeps it open. While it does so, nothing happens. */
  connect() {
    if (this.#state === "connecting" || this.#state === "open") return;
    this.#attempt = 0;
    this.#listen();
    void this.#open();
  }

  /**
   * Closes for good. What is pending fails; connect() starts again. With forget, nothing stays of
   * what was not sent, neither here nor in options.storage: for a user who signs out.
   */
  close({ forget = false } = {}) {
    if (this.#state !== "closed") this.#stop(1000, "closed by the application");
    if (!forget) return;
    this.#outbox.clear();
    this.#changes.clear();
    this.#write();
  }

  /**
   * Joins a room, now or as soon as there is a connection, and again after each reconnection.
   * Resolves with the server's answer after its messages went out as "message" events.
   */
  join(room) {
    const name = called(room);
    const bad = checkRoom(name);
    if (bad) return Promise.reject(bad);
    return this.#joins(name);
  }

  #joins(name) {
    let room = this.#rooms.get(name);
    if (!room) {
      room = {
        name,
        joined: false,
        entering: false,
        last: null, // the highest sequence that went out; null before the first answer
        known: 0, // the highest sequence that is known to exist
        ahead: new Map(), // sequence → message that came before its predecessor
        held: new Map(), // sequence → message as the server has told it last
        reacted: new Set(), // one's own reactions that were stored
        rev: null, // every change up to here was told; null for a server that knows none
        told: 0, // the highest change that came live
        changes: false, // the server takes changes
        early: [], // changes that came before the answer
        catching: null, // what is missing of the changes is being asked for
        filling: null,
        grace: 0,
        again: 0,
        refusals: 0, // answers to join_room in a row that were transient failures
        ack: null,
        waiting: [],
        marks: newMarks(),
        typing: { on: false, started: -Infinity, sent: -Infinity, idle: 0 },
      };
      this.#rooms.set(name, room);
    }
    if (room.joined) return Promise.resolve(room.ack);
    const answer = new Promise((resolve, reject) => room.waiting.push({ resolve, reject }));
    if (this.#state === "open" && !room.again) void this.#enter(room);
    return answer;
  }

  /** Leaves a room. Messages to it that are still pending fail. */
  async leave(name) {
    const room = this.#rooms.get(called(name));
    if (!room) return;
    this.#forget(room, new ParleyError("left", "the room was left"));
    if (this.#state !== "open") return;
    try {
      await this.#request("leave_room", { room: room.name });
    } catch (err) {
      // A connection that is gone has left every room.
      if (err.code !== "connection_lost") throw err;
    }
  }

  /**
   * Sends a text to a room. The promise is settled by the server's answer: it resolves with
   * {room, seq, id, at} after the message was stored, and rejects if it was refused. It stays
   * open while there is no connection. "outgoing" events tell the same story.
   *
   * replyTo is the seq of a message in the room that this one answers; data is an object of the application's own, as JSON has
   * it. What the server would close the connection for is refused here.
   */
  send(room, text, { clientId = newId(), replyTo, data } = {}) {
    const name = called(room);
    const clean = whole(text);
    const json = data === undefined ? undefined : asJSON(data);
    const bad = checkRoom(name) ?? checkText(clean) ?? checkReplyTo(replyTo) ?? checkData(json);
    if (bad) return Promise.reject(bad);
    const known = this.#outbox.get(clientId);
    if (known) return known.answer;
    const more = besides(replyTo, json && JSON.parse(json)); // a copy, which nobody changes any more
    const entry = { clientId, room: name, text: clean, more, at: new Date(), state: "pending", inFlight: false, recalled: false };
    this.#outbox.set(clientId, entry);
    this.typing(name, false);
    return this.#submit(entry);
  }

  /** Sends a failed message again, under the same clientId, so that it is never stored twice. */
  retry(clientId) {
    const entry = this.#outbox.get(clientId);
    if (!entry) return Promise.reject(new ParleyError("unknown_message", "there is no such message"));
    return entry.state === "failed" ? this.#submit(entry) : entry.answer;
  }

  /** Forgets a failed message, and reports whether there was one. */
  discard(clientId) {
    if (this.#outbox.get(clientId)?.state !== "failed") return false;
    this.#outbox.delete(clientId);
    this.#keep();
    return true;
  }

  /**
   * Gives a message of one's own another text, and other data if there is some. The promise is settled by the server's answer: it
   * resolves with {room, seq, rev} after the change was stored, and rejects if it was refused. It stays open while there is no
   * connection. "change" events tell the same story; "changed" shows the message, at once and whenever it is another.
   */
  edit(room, seq, text, { data } = {}) {
    const clean = whole(text);
    const json = data === undefined ? undefined : asJSON(data);
    const bad = checkText(clean) ?? checkData(json);
    return this.#change("edit", room, seq, bad, { text: clean, ...besides(undefined, bad ? undefined : json && JSON.parse(json)) });
  }

  /** Erases a message of one's own. It is as edit is. */
  delete(room, seq) {
    return this.#change("delete", room, seq, null, {});
  }

  /** Reacts to a message with a short text, mostly an emoji, or takes that back with on = false. It is as edit is. */
  react(room, seq, key, on = true) {
    const clean = called(whole(key));
    return this.#change("react", room, seq, checkReaction(clean), { key: clean, on: Boolean(on) });
  }

  /** A message as it is now, one's own pending changes included, if it is among the last thousand that were read of the room. */
  message(room, seq) {
    const known = this.#rooms.get(called(room));
    return known && this.#view(known, seq);
  }

  /**
   * Says that the user has read a room up to a message; 0 only asks. Resolves with {room, read, unread} after that was stored. It
   * never goes back, and what the client does not know yet is not marked. What is said quickly is said once, and over a lost
   * connection again, unless it was stored.
   */
  mark(room, seq) {
    const name = called(room);
    const bad = checkRoom(name) ?? (seq === 0 ? null : checkSeq(seq));
    if (bad) return Promise.reject(bad);
    const known = this.#rooms.get(name);
    if (!known) return Promise.reject(new ParleyError("not_joined", "the room was not joined"));
    if (this.#state === "closed") return Promise.reject(new ParleyError("closed", "the connection is closed"));
    const { marks } = known;
    if (known.joined && !marks.supported) return Promise.reject(marksNotSupported());
    const read = known.ack ? Math.min(seq, known.known) : seq;
    const answer = new Promise((resolve, reject) => marks.waiting.push({ read, only: seq === 0, resolve, reject }));
    if (known.joined) this.#settleMarks(known);
    this.#askMarks(known);
    return answer;
  }

  /** The seq up to which the user has read a room, as far as it is known. */
  read(room) {
    const { supported, read } = this.#rooms.get(called(room))?.marks ?? {};
    return supported ? read : undefined;
  }

  /** How many messages of a room the user has not read, without those that were deleted; undefined where that is not known. */
  unread(room) {
    this.#startCounting();
    const known = this.#rooms.get(called(room));
    return known && this.#unread(known);
  }

  /** As that of EventTarget. Counts that the client cannot know by itself are asked for from when somebody wants them. */
  addEventListener(type, ...rest) {
    super.addEventListener(type, ...rest);
    if (type === "unread") this.#startCounting();
  }

  /**
   * Says that the user types, at each key, or has stopped. What goes to the server is limited;
   * a few seconds without a key are a stop.
   */
  typing(name, on = true) {
    const room = this.#rooms.get(called(name));
    if (!room?.joined || this.#state !== "open") return;
    const typing = room.typing;
    clearTimeout(typing.idle);
    const at = now();
    if (!on) {
      if (typing.on) {
        typing.on = false;
        typing.sent = at;
        this.#tell("isTyping", { room: room.name, typing: false });
      }
      return;
    }
    typing.idle = setTimeout(() => this.typing(name, false), TYPING_IDLE);
    const due = typing.on ? at - typing.started >= TYPING_REPEAT : at - typing.sent >= TYPING_PAUSE;
    if (due) {
      Object.assign(typing, { on: true, started: at, sent: at });
      this.#tell("isTyping", { room: room.name, typing: true });
    }
  }

  /** Resolves with {members, count} of a room. It needs an open connection. */
  presence(name) {
    return this.#request("presence", { room: called(name) });
  }

  /** Resolves with {messages, more} of a room, ascending, the messages as they are now. It needs an open connection. */
  async history(name, { before, after, changedAfter, limit } = {}) {
    const page = await this.#request("history", { room: called(name), before, after, changedAfter, limit });
    const room = this.#rooms.get(called(name));
    return room ? { ...page, messages: page.messages.map((message) => this.#read(room, message)) } : page;
  }

  /**
   * Sends an event of the application, and resolves with the data of its answer. It is sent once: when
   * the connection is lost before the answer, nobody knows whether it arrived. It needs an open connection.
   */
  async call(event, data = {}) {
    return this.#request(custom(event), data);
  }

  /** Sends an event of the application without asking for an answer. Reports whether there is a connection. */
  emit(event, data = {}) {
    custom(event);
    if (this.#state !== "open") return false;
    this.#tell(event, data);
    return true;
  }

  /** Who types in a room. */
  typists(name) {
    return [...this.#typists.values()].filter((t) => t.room === called(name)).map((t) => t.user);
  }

  // ---- the connection ----

  async #open() {
    const turn = ++this.#turn;
    clearTimeout(this.#timers.retry);
    this.#timers.handshake = setTimeout(() => this.#abandon("the connection took too long"), this.#options.connectTimeout);
    this.#setState("connecting", { attempt: this.#attempt });
    if (turn !== this.#turn) return;
    const asking = new AbortController();
    this.#asking = asking;
    let ticket;
    let expiresIn = 0;
    try {
      const answer = await this.#options.ticket({ renew: this.#renew, signal: asking.signal });
      if (typeof answer === "string") ticket = answer;
      else ({ ticket, expiresIn = 0 } = answer ?? {});
      if (typeof ticket !== "string" || ticket === "") throw new Error("there was no ticket");
    } catch (err) {
      if (turn !== this.#turn) return;
      if (err?.permanent) {
        this.#stop(4401, err.message);
      } else {
        this.#drop();
        this.#comeBack("later", 1006, err?.message ?? "there was no ticket", asksToWait(err));
      }
      return;
    }
    if (turn !== this.#turn) return;
    const lasts = now() + Math.min(expiresIn * 1000, DAY);
    const url = new URL(this.#options.url);
    url.searchParams.set("ticket", ticket);
    let socket;
    try {
      socket = new this.#options.WebSocket(url.href, [PROTOCOL]);
    } catch (err) {
      this.#stop(1006, err.message); // the address is wrong, or the page's policy forbids it
      return;
    }
    this.#socket = socket;
    socket.onopen = () => this.#opened(lasts - now());
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#lost(event.code, event.reason);
    socket.onerror = () => {}; // a close follows, and says more
  }

  #opened(lasts) {
    clearTimeout(this.#timers.handshake);
    this.#timers.stable = setTimeout(() => {
      this.#attempt = 0;
      this.#renew = false;
    }, STABLE_AFTER);
    this.#heard = now();
    this.#watchIdle();
    this.#lasts(lasts);
    this.#setState("open");
    for (const room of this.#rooms.values()) void this.#enter(room);
    this.#flush();
  }

  /** Gives up a socket that does not answer, without waiting for its own close. */
  #abandon(reason) {
    this.#lost(1006, reason);
  }

  #lost(code, reason) {
    // A server that does not know "renew" closes for it as for any unknown event. It is of an
    // older version: then the connection ends with its token, and begins anew.
    const unknown = code === 4400 && this.#renewal.said;
    if (unknown) this.#options.token = null;
    // It is the same with the rev of a join: then it joins without, and asks for the changes where a server knows them.
    const unrevised = code === 4400 && this.#revs.asked > 0;
    if (unrevised) this.#revs.unknown = true;
    this.#drop();
    const rule = unknown || unrevised ? "now" : afterClose(code);
    if (rule === "stop") {
      this.#stop(code, reason);
      return;
    }
    if (rule === "renew") this.#renew = true;
    this.#comeBack(rule, code, reason);
  }

  #comeBack(rule, code, reason, least = 0) {
    const attempt = this.#attempt++;
    let delay = this.#jitter() * SPREAD;
    if (least > 0) delay += least; // all who were told the same do not come in the same instant
    else if (rule === "later" || attempt > 0) delay = this.#backOff(attempt);
    this.#notBefore = least > 0 ? now() + delay : 0;
    this.#timers.retry = setTimeout(() => void this.#open(), delay);
    const offline = globalThis.navigator?.onLine === false;
    this.#setState(offline ? "offline" : "waiting", { code, reason, retryIn: delay, attempt: attempt + 1 });
  }

  #backOff(attempt) {
    const { retryMin, retryMax } = this.#options;
    const ceiling = Math.min(retryMax, retryMin * 2 ** Math.min(attempt, 30));
    return ceiling / 2 + (this.#jitter() * ceiling) / 2;
  }

  /** From 0 to 1, whatever options.random returns. */
  #jitter() {
    return Math.min(Math.max(Number(this.#options.random()) || 0, 0), 1);
  }

  // ---- the token that the connection rests on ----

  /** Takes note of how long the connection lasts, in milliseconds; renews it in time. */
  #lasts(life) {
    clearTimeout(this.#timers.renew);
    if (!this.#options.token || !(life > 0)) return;
    const wait = life - Math.min(life / 3, RENEW_AHEAD);
    this.#timers.renew = setTimeout(() => void this.#renewToken(), Math.min(wait, DAY));
  }

  async #renewToken() {
    const renewal = this.#renewal;
    if (this.#state !== "open" || renewal.busy || !this.#options.token) return;
    renewal.busy = true;
    try {
      const answer = await this.#within(this.#options.connectTimeout, (signal) => this.#options.token({ signal }));
      if (this.#renewal !== renewal) return;
      if (typeof answer?.token !== "string") throw new Error("there was no token");
      const asked = this.#request("renew", { token: answer.token });
      renewal.said = true;
      const { expiresIn } = await asked;
      if (this.#renewal !== renewal) return;
      Object.assign(renewal, { said: false, attempt: 0 });
      this.#lasts(Math.min(expiresIn * 1000, DAY));
    } catch (err) {
      if (this.#renewal !== renewal) return; // the connection was lost, and the next has a new token
      renewal.said = false;
      if (err?.permanent) {
        this.#stop(4401, err.message);
        return;
      }
      if (err?.code === "renewal_not_supported") return; // the server closes with 4401, or never
      // Until the token ends there is time. After that the server closes with 4401.
      const wait = asksToWait(err) || this.#backOff(renewal.attempt++);
      this.#timers.renew = setTimeout(() => void this.#renewToken(), wait);
    } finally {
      renewal.busy = false;
    }
  }

  /** Asks the application, and stops waiting after some time or with the connection. */
  #within(ms, ask) {
    const outer = this.#asking?.signal;
    const end = new AbortController();
    return new Promise((resolve, reject) => {
      const stop = () => {
        end.abort();
        reject(new ParleyError("connection_lost", "the question was given up"));
      };
      const timer = setTimeout(stop, ms);
      outer?.addEventListener("abort", stop, { once: true });
      new Promise((answer) => answer(ask(end.signal))).then(resolve, reject).finally(() => {
        clearTimeout(timer);
        outer?.removeEventListener("abort", stop);
      });
    });
  }

  /** Ends everything that belongs to the socket. */
  #drop() {
    this.#turn++;
    this.#asking?.abort();
    this.#asking = null;
    this.#renewal = { busy: false, said: false, attempt: 0 };
    const socket = this.#socket;
    this.#socket = null;
    for (const name of Object.keys(this.#timers)) clearTimeout(this.#timers[name]);
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.onerror = () => {};
      try {
        socket.close(1000);
      } catch {
        // It was closed already.
      }
    }
    this.#queue = [];
    for (const room of this.#rooms.values()) {
      room.joined = room.entering = room.changes = false;
      room.catching = null;
      room.early = [];
      clearTimeout(room.grace);
      clearTimeout(room.again);
      clearTimeout(room.typing.idle);
      clearTimeout(room.marks.timer);
      room.marks.inFlight = false;
      room.grace = room.again = 0;
      room.typing.on = false;
    }
    for (const entry of this.#outbox.values()) entry.inFlight = false;
    for (const change of this.#changes) change.inFlight = false;
    this.#revs.asked = 0;
    for (const key of [...this.#typists.keys()]) this.#typed(key);
    const requests = [...this.#requests.values()];
    this.#requests.clear();
    for (const { reject, timer } of requests) {
      clearTimeout(timer);
      reject(new ParleyError("connection_lost", "the connection was lost"));
    }
  }

  #stop(code, reason) {
    this.#drop();
    this.#unlisten?.();
    this.#unlisten = null;
    const err = new ParleyError("closed", reason || "the connection was closed", code);
    for (const room of [...this.#rooms.values()]) {
      for (const { reject } of [...room.waiting.splice(0), ...room.marks.waiting.splice(0)]) reject(err);
    }
    for (const entry of [...this.#outbox.values()]) {
      if (entry.state === "pending") this.#failed(entry, err);
    }
    for (const change of [...this.#changes]) this.#refused(change, err);
    this.#setState("closed", { code, reason });
  }

  #setState(state, more = {}) {
    const previous = this.#state;
    this.#state = state;
    this.#emit("state", { state, previous, ...more });
  }

  #listen() {
    if (this.#unlisten) return;
    const page = globalThis.document;
    const wake = () => {
      if (!page?.hidden) this.#wake();
    };
    const online = () => {
      // The network is another one: what was asked over the former may never be answered.
      if (this.#state === "connecting") this.#startAnew();
      else this.#wake();
    };
    const probe = () => void this.#probe();
    const targets = [
      [globalThis, "online", online],
      [globalThis, "offline", probe],
      [globalThis, "pageshow", wake],
      [page, "visibilitychange", wake],
    ].filter(([target]) => typeof target?.addEventListener === "function");
    for (const [target, name, listener] of targets) target.addEventListener(name, listener);
    this.#unlisten = () => {
      for (const [target, name, listener] of targets) target.removeEventListener(name, listener);
    };
  }

  #wake() {
    if (this.#state !== "waiting" && this.#state !== "offline") void this.#probe();
    else if (now() >= this.#notBefore) void this.#open();
  }

  #startAnew() {
    this.#drop();
    void this.#open();
  }

  #watchIdle() {
    if (!this.#options.idleProbe) return;
    const quiet = now() - this.#heard;
    this.#timers.idle = setTimeout(() => {
      if (now() - this.#heard >= this.#options.idleProbe && !globalThis.document?.hidden) void this.#probe();
      this.#watchIdle();
    }, Math.max(this.#options.idleProbe - quiet, 1_000));
  }

  /**
   * Finds out whether the connection still carries anything. A page cannot see the pings of
   * WebSocket, and after a sleep the other end may be long gone; so it asks for what it would
   * like to know anyway: whether a room has newer messages.
   */
  async #probe() {
    if (this.#state !== "open" || this.#requests.size > 0) return;
    const room = [...this.#rooms.values()].find((r) => r.joined);
    if (!room) return;
    const { ack } = room;
    try {
      const page = await this.#request("history", { room: room.name, after: room.last, limit: 1 }, PROBE_TIMEOUT);
      if (room.joined && room.ack === ack) this.#merge(room, page.messages);
    } catch {
      // Lost: then it is coming back already. Refused: then it is alive.
    }
  }

  // ---- requests and events ----

  #request(event, data, timeout = this.#options.ackTimeout) {
    if (this.#state !== "open") {
      return Promise.reject(new ParleyError("connection_lost", "there is no connection"));
    }
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const request = { resolve, reject, timer: 0 };
      this.#requests.set(id, request);
      this.#queue.push(() => {
        request.timer = setTimeout(() => this.#abandon("the server did not answer"), timeout);
        this.#say({ id, event, data });
      });
      this.#pump();
    });
  }

  /** A socket that is closing takes nothing, and a browser complains of it; that it is closed is told soon. */
  #say(what) {
    if (!(this.#socket.readyState > 1)) this.#socket.send(JSON.stringify(what));
  }

  #tell(event, data) {
    this.#queue.push(() => this.#say({ event, data }));
    this.#pump();
  }

  /** Sends what waits, as fast as the rate allows: the generic cell rate algorithm. */
  #pump() {
    clearTimeout(this.#timers.pace);
    const each = 1000 / this.#options.rate;
    while (this.#queue.length > 0) {
      const at = now();
      // A bucket that is empty is full again after burst times each, and has one after each.
      this.#due = Math.min(Math.max(this.#due, at), at + each * this.#options.burst);
      const wait = this.#due - at - each * (this.#options.burst - 1);
      if (wait > 0) {
        this.#timers.pace = setTimeout(() => this.#pump(), wait);
        return;
      }
      this.#due += each;
      this.#queue.shift()();
    }
  }

  #receive(text) {
    this.#heard = now();
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return; // not ours
    }
    const { id, event, data } = frame ?? {};
    // A room from before names had one form may be called otherwise by the server.
    if (typeof data?.room === "string") data.room = called(data.room);
    switch (event) {
      case "ack":
      case "error": {
        const request = this.#requests.get(id);
        if (!request) return;
        this.#requests.delete(id);
        clearTimeout(request.timer);
        if (event === "ack") request.resolve(data);
        else request.reject(new ParleyError(frame.error?.code ?? "error", frame.error?.title ?? "the server refused"));
        return;
      }
      case "message":
        this.#live(data);
        return;
      case "changed":
        this.#liveChange(data);
        return;
      case "isTyping":
        this.#typed(`${data.room}\n${data.user.id}`, data);
        return;
      case "joined":
      case "left":
        if (this.#rooms.has(data.room)) this.#emit(event, data);
        return;
      case "marked": {
        const room = this.#rooms.get(data.room);
        if (!room) return;
        if (this.#isMe(data.user)) this.#readElsewhere(room, data.read);
        this.#emit("marked", data);
        return;
      }
      case "membership":
        this.#membership(data);
        return;
      case "resync": {
        const room = this.#rooms.get(data.room);
        if (!room) return;
        room.joined = false;
        void this.#enter(room);
        this.#emit("resync", data); // whoever joins the room now waits for the new answer
        return;
      }
      default: // an event of the application, or of a newer server
        if (typeof event === "string" && (typeof data?.room !== "string" || this.#rooms.has(data.room))) {
          this.#emit("event", { event, data });
        }
    }
  }

  /** What somebody is in a room has changed, also in a room that is not joined. Who has no role is out; their own client does not join the room again. */
  #membership(data) {
    const room = this.#rooms.get(data.room);
    this.#emit("membership", data);
    // What came before the answer to join_room is older than the answer.
    if (!room?.joined || data.role !== null) return;
    const out = () => this.#forget(room, new ParleyError("removed", data.reason ? `you were taken out of the room: ${data.reason}` : "you were taken out of the room"));
    if (this.#options.user) {
      if (this.#isMe(data.user)) out();
      return;
    }
    // Whose connection this is, only the server knows.
    this.#request("presence", { room: room.name }).catch((err) => {
      if (err.code === "not_joined" && this.#rooms.get(room.name) === room) out();
    });
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #typed(key, data) {
    const known = this.#typists.get(key);
    clearTimeout(known?.timer);
    if (data?.typing) {
      const timer = setTimeout(() => this.#typed(key), TYPING_EXPIRES);
      this.#typists.set(key, { room: data.room, user: data.user, timer });
      if (!known) this.#emit("typing", { room: data.room, user: data.user, typing: true });
    } else if (known) {
      this.#typists.delete(key);
      this.#emit("typing", { room: known.room, user: known.user, typing: false });
    }
  }

  // ---- rooms ----

  async #enter(room) {
    if (room.entering) return;
    room.entering = true;
    const socket = this.#socket;
    const since = room.last;
    const rev = since === null || this.#revs.unknown ? null : room.rev;
    const place = since === null ? {} : { since, ...(rev === null ? {} : { rev }) };
    if (rev !== null) this.#revs.asked++;
    let ack;
    try {
      ack = await this.#request("join_room", { room: room.name, ...place });
    } catch (err) {
      if (err.code === "connection_lost") return; // joined again with the next connection
      if (rev !== null) this.#revs.asked--;
      room.entering = false;
      if (this.#rooms.get(room.name) !== room) return;
      if (!TRANSIENT.has(err.code)) {
        this.#forget(room, err);
        return;
      }
      room.again = setTimeout(() => {
        room.again = 0;
        void this.#enter(room);
      }, this.#backOff(room.refusals++));
      return;
    }
    if (this.#socket !== socket) return;
    if (rev !== null) this.#revs.asked--;
    if (this.#rooms.get(room.name) !== room) return;
    room.entering = false;
    room.joined = true;
    room.refusals = 0;
    room.ack = ack;
    room.known = ack.seq;
    // What came before may be older than the answer. It is in the answer, or in the pages behind it.
    for (const seq of room.ahead.keys()) if (seq <= ack.seq) room.ahead.delete(seq);
    room.changes = Number.isSafeInteger(ack.rev);
    const other = since !== null && room.changes && room.rev !== null && ack.rev < room.rev; // changes were told that never were
    const restarted = since !== null && (ack.seq < since || other);
    if (since === null || restarted) {
      room.last = ack.messages.length > 0 ? ack.messages[0].seq - 1 : ack.seq;
    }
    this.#takeMarks(room, ack, since === null || restarted);
    if (restarted) {
      // The room's sequence began anew: what was seen belongs to a former life.
      this.#restart(room);
      this.#emit("lost", { room: room.name, after: since, restarted });
      if (ack.messages.length === 0 && ack.seq > 0) {
        room.last = null;
        room.joined = false;
        void this.#enter(room); // the answer was for somebody who knows what came before
        return;
      }
    } else if (ack.recovered === false) {
      this.#emit("lost", { room: room.name, after: since ?? 0 });
    }
    if (since === null || ack.recovered === false) {
      this.#merge(room, ack.messages);
    } else {
      // Nothing after since was deleted, so a hole in the answer is one to be filled.
      for (const message of ack.messages) if (message.seq > room.last) room.ahead.set(message.seq, message);
      this.#drain(room);
    }
    const complete = since === null || since === 0 || restarted;
    const caught = room.changes && this.#takeChanges(room, ack, complete);
    if (room.last < room.known) await this.#fill(room);
    await caught;
    if (!room.joined || room.ack !== ack) return; // it was to be joined again meanwhile
    this.#marksTaken(room);
    for (const { resolve } of room.waiting.splice(0)) resolve(ack);
    this.#flush();
  }

  #forget(room, err) {
    this.#rooms.delete(room.name);
    room.joined = false;
    clearTimeout(room.grace);
    clearTimeout(room.again);
    clearTimeout(room.typing.idle);
    clearTimeout(room.marks.timer);
    for (const [key, t] of [...this.#typists]) if (t.room === room.name) this.#typed(key);
    for (const { reject } of [...room.waiting.splice(0), ...room.marks.waiting.splice(0)]) reject(err);
    for (const entry of [...this.#outbox.values()]) {
      if (entry.room === room.name && entry.state === "pending") this.#failed(entry, err);
    }
    for (const change of [...this.#changes]) if (change.room === room.name) this.#refused(change, err);
    this.#emit("forgotten", { room: room.name, error: err });
  }

  #live(message) {
    const room = this.#rooms.get(message.room);
    if (!room) return;
    this.#typed(`${message.room}\n${message.user.id}`);
    this.#arrived(room, message.seq, message);
  }

  /** Takes note that a message exists, with the message itself if it is there. */
  #arrived(room, seq, message) {
    if (room.last !== null && seq <= room.last) return;
    if (message && !isNewer(room.ahead.get(seq), message)) room.ahead.set(seq, message);
    room.known = Math.max(room.known, seq);
    if (!room.joined) return; // the answer to join_room comes first
    this.#drain(room);
    if (room.last < room.known && !room.grace && !room.filling) {
      room.grace = setTimeout(() => {
        room.grace = 0;
        void this.#fill(room);
      }, HOLE_GRACE);
    }
  }

  /** Takes what the server read from its store: where that has a hole, there is nothing. */
  #merge(room, messages) {
    for (const message of messages) {
      const ahead = room.ahead.get(message.seq);
      if (message.seq > room.last) this.#deliver(room, isNewer(ahead, message) ? ahead : message, false);
      else this.#revised(room, message, false);
    }
    this.#drain(room);
  }

  #drain(room) {
    for (let next; (next = room.ahead.get(room.last + 1)); ) this.#deliver(room, next, true);
    for (const seq of room.ahead.keys()) if (seq <= room.last) room.ahead.delete(seq);
  }

  #deliver(room, message, live) {
    room.last = message.seq;
    room.known = Math.max(room.known, message.seq);
    const mine = message.clientId && this.#outbox.get(message.clientId);
    if (mine?.room === room.name && (!this.#options.user || this.#options.user.id === message.user.id)) {
      // The message itself is as good as its acknowledgement, which may have been lost.
      this.#sent(mine, { room: room.name, seq: message.seq, id: message.id, at: message.at });
    }
    this.#hold(room, message);
    this.#count(room, room.held.get(message.seq));
    this.#emit("message", { message: room.held.get(message.seq), live });
    if (this.#own(room, message.seq).length > 0) this.#show(room, message.seq, live);
    this.#tellUnread(room);
  }

  // ---- messages that change ----

  /** Takes what changed while the room was not joined, and asks for the rest of it. */
  async #takeChanges(room, ack, complete) {
    room.told = 0;
    const catching = {};
    room.catching = catching;
    if (complete) room.rev = ack.rev;
    else room.rev ??= 0; // the server that was there before knew no changes
    for (const message of ack.changes ?? []) this.#revised(room, message, false);
    room.rev = Math.max(room.rev, ack.changes?.at(-1)?.rev ?? 0);
    for (const message of room.early.splice(0)) if (message.rev > ack.rev) this.#liveChange(message);
    this.#revs.unknown = false; // this server knows it
    while (room.catching === catching && room.rev < ack.rev) {
      const after = room.rev;
      const page = await this.#page(room, { changedAfter: after });
      if (!page || room.catching !== catching) return; // joining again asks for the rest
      for (const message of page.messages) this.#revised(room, message, false);
      const reached = page.messages.at(-1)?.rev ?? 0;
      room.rev = page.more && reached > after ? reached : Math.max(ack.rev, reached);
    }
    if (room.catching !== catching) return;
    room.catching = null;
    room.rev = Math.max(room.rev, room.told);
  }

  /** A change comes live, in the order of rev. */
  #liveChange(message) {
    const room = this.#rooms.get(message?.room);
    if (!room || !Number.isSafeInteger(message.rev)) return;
    if (!room.joined) {
      room.early.push(message); // the answer to join_room comes first
      return;
    }
    this.#revised(room, message, true);
    room.told = Math.max(room.told, message.rev);
    if (!room.catching && room.rev !== null) room.rev = Math.max(room.rev, message.rev);
  }

  /** Takes a message as it is after a change. What is not newer than what is known changes nothing. */
  #revised(room, message, live) {
    if (message.seq > room.last) {
      this.#arrived(room, message.seq, message);
      return;
    }
    const erased = message.deletedAt && !room.held.get(message.seq)?.deletedAt;
    if (!this.#hold(room, message)) return;
    if (erased) this.#countOut(room, message.seq);
    this.#show(room, message.seq, live);
    this.#tellUnread(room);
  }

  /** A message that somebody has asked for: as it is now. */
  #read(room, message) {
    const known = room.held.has(message.seq);
    if (this.#hold(room, message) && known) this.#show(room, message.seq, false);
    this.#tellUnread(room);
    return this.#view(room, message.seq);
  }

  /** Keeps a message, unless it is older than what is kept. Reports whether it is another than was known. */
  #hold(room, message) {
    const { held } = room;
    const known = held.get(message.seq);
    if (known && !isNewer(message, known)) return false;
    if (message.deletedAt) room.marks.fresh.delete(message.seq);
    held.delete(message.seq); // the last that was kept is the last to go
    held.set(message.seq, message.room === room.name ? message : { ...message, room: room.name });
    if (held.size > HELD_MESSAGES) {
      for (const seq of held.keys()) {
        if (this.#own(room, seq).length > 0) continue;
        held.delete(seq);
        break;
      }
    }
    return message.rev > 0;
  }

  /** Nothing of what is known of the room's messages holds any more. */
  #restart(room) {
    room.ahead.clear();
    room.held.clear();
    room.reacted.clear();
    room.rev = null;
    const err = new ParleyError("message_not_found", "the room has begun anew");
    for (const change of [...this.#changes]) if (change.room === room.name) this.#refused(change, err);
  }

  /** Own changes of a message that are not in what the server has told. */
  #own(room, seq) {
    return this.#changes.size === 0 ? [] : [...this.#changes].filter((change) => change.seq === seq && change.room === room.name);
  }

  /** A message as it is once one's own changes are stored. */
  #view(room, seq) {
    let message = room.held.get(seq);
    if (!message) return undefined;
    const me = this.#options.user;
    if (me && message.reactions) {
      // A reaction names some of its users, and oneself always, where that is known.
      const unnamed = ({ key, count, users }) => count > users.length && !users.includes(me.id) && room.reacted.has(`${seq} ${key}`);
      const reactions = message.reactions.map((r) => (unnamed(r) ? { ...r, users: [me.id, ...r.users].slice(0, REACTION_USERS) } : r));
      if (reactions.some((r, i) => r !== message.reactions[i])) message = { ...message, reactions };
    }
    return this.#own(room, seq).reduce((m, change) => withChange(m, change, me), message);
  }

  /** Tells how a message is now. */
  #show(room, seq, live) {
    const { rev = 0 } = room.held.get(seq) ?? {};
    const own = this.#own(room, seq);
    for (const change of own) if (change.state === "sent" && rev >= change.rev) this.#changes.delete(change);
    if (!room.held.has(seq) || seq > room.last) return;
    this.#emit("changed", { message: this.#view(room, seq), live, pending: own.some(({ state }) => state === "pending") });
  }

  #change(kind, name, seq, bad, what) {
    name = called(name);
    bad = checkRoom(name) ?? checkSeq(seq) ?? bad;
    if (bad) return Promise.reject(bad);
    const room = this.#rooms.get(name);
    const change = { kind, room: name, seq, what, of: room?.held.get(seq)?.id, at: new Date(), state: "pending", rev: 0, inFlight: false, recalled: false };
    promised(change);
    this.#changes.add(change);
    this.#keep();
    this.#emit("change", describe(change));
    if (room) this.#show(room, seq, true);
    if (this.#state === "closed") this.#refused(change, new ParleyError("closed", "the connection is closed"));
    else this.#flush();
    return change.answer;
  }

  async #ask(change) {
    const { kind, room: name, seq, what } = change;
    const room = this.#rooms.get(name);
    const held = room?.held.get(seq);
    if (room && !room.changes) return this.#refused(change, new ParleyError("changes_not_supported", "the server is too old for that"));
    if (change.of && held && held.id !== change.of) return this.#refused(change, new ParleyError("message_not_found", "there is no such message"));
    change.inFlight = true;
    try {
      const ack = await this.#request(kind, { room: name, seq, ...what });
      if (change.state === "pending") this.#stored(change, ack);
    } catch (err) {
      if (err.code === "connection_lost") return; // asked again with the next connection
      this.#refused(change, err);
    }
    change.inFlight = false;
    this.#flush();
  }

  #stored(change, ack) {
    const room = this.#rooms.get(change.room);
    change.state = "sent";
    change.rev = ack.rev;
    const { key, on } = change.what;
    if (!room) this.#changes.delete(change);
    else if (change.kind === "react") room.reacted[on ? "add" : "delete"](`${change.seq} ${key}`);
    this.#keep();
    this.#emit("change", { ...describe(change), ack });
    change.resolve(ack);
    if (!room) return;
    if (!room.held.has(change.seq)) this.#changes.delete(change);
    this.#show(room, change.seq, true);
  }

  /** The change is not to be, or was stored and is not waited for any more. */
  #refused(change, err) {
    if (!this.#changes.delete(change) || change.state !== "pending") return;
    change.state = "failed";
    change.error = err;
    this.#keep();
    this.#emit("change", describe(change));
    change.reject(err);
    const room = this.#rooms.get(change.room);
    if (room) this.#show(room, change.seq, true);
  }

  #fill(room) {
    room.filling ??= this.#fetchMissing(room).finally(() => {
      room.filling = null;
    });
    return room.filling;
  }

  /** Reads what is missing of a room; what is refused for good is empty. Returns null if the connection is lost, or was given up. */
  async #page(room, place) {
    try {
      return await this.#request("history", { room: room.name, ...place, limit: this.#options.pageSize });
    } catch (err) {
      if (err.code !== "connection_lost") {
        if (!TRANSIENT.has(err.code)) return { messages: [], more: false };
        this.#abandon(err.message);
      }
      return null;
    }
  }

  async #fetchMissing(room) {
    while (room.joined && room.last < room.known) {
      const { last: after, known, ack } = room;
      const page = await this.#page(room, { after });
      if (!page) return; // joining again recovers it
      if (room.ack !== ack || !room.joined) continue; // what was read before the room is joined again may be older than the answer
      this.#merge(room, page.messages);
      if (room.last < known && (!page.more || room.last === after)) {
        // The server has nothing in between: it is lost, and what follows may come. Of what came after it was asked, it has said nothing.
        const next = Math.min(known, ...[...room.ahead.keys()].map((seq) => seq - 1));
        this.#emit("lost", { room: room.name, after: room.last, before: next + 1 });
        room.last = next;
        this.#drain(room);
      }
    }
  }

  // ---- how far the user has read ----
  //
  // Which messages are unread is known one by one behind marks.from (marks.fresh). How many there are up to there, only the server
  // knows (marks.below), and its answer does not say which messages and deletions are in it: some may be on their way to us. So it
  // counts only if it was asked for after the last of them had come, and is asked for again otherwise.

  #isMe(user) {
    return this.#options.user !== null && this.#options.user.id === user?.id;
  }

  #unread({ marks }) {
    if (!marks.supported || marks.below === null || this.#options.user === null) return undefined;
    return marks.below + marks.fresh.size;
  }

  #startCounting() {
    if (this.#counting) return;
    this.#counting = true;
    for (const room of this.#rooms.values()) this.#askMarks(room);
  }

  #tellUnread(room) {
    const { marks } = room;
    const unread = this.#unread(room);
    if (marks.taking || unread === marks.told) return;
    marks.told = unread;
    this.#emit("unread", { room: room.name, read: this.read(room.name), unread });
  }

  /** Takes what the answer to join_room says, before its messages. */
  #takeMarks(room, ack, anew) {
    const { marks } = room;
    Object.assign(marks, { supported: Number.isSafeInteger(ack.read), taking: true, doubt: null, wait: 0 });
    if (!marks.supported) {
      Object.assign(marks, { read: 0, from: null, below: null });
      marks.fresh.clear();
    } else if (anew || marks.from === null) {
      marks.fresh.clear();
      Object.assign(marks, { read: ack.read, from: room.last, below: ack.read < room.last ? null : 0 });
    } else {
      this.#advance(marks, ack.read);
    }
    if (!marks.supported || anew || ack.recovered !== false) return;
    // The oldest messages go first: nothing is stored before those of the answer.
    const oldest = ack.messages[0]?.seq ?? ack.seq + 1;
    for (const seq of marks.fresh) if (seq < oldest) marks.fresh.delete(seq);
    Object.assign(marks, { from: 0, below: 0 });
  }

  /** What the room has is known: so is what is unread of it, or it is asked for. */
  #marksTaken(room) {
    const { marks } = room;
    marks.taking = false;
    if (!marks.supported) for (const { reject } of marks.waiting.splice(0)) reject(marksNotSupported());
    this.#doubt(room, true);
    this.#settleMarks(room);
    this.#tellUnread(room);
    this.#askMarks(room);
  }

  /** Takes note that the user has read up to a message. */
  #advance(marks, read) {
    if (read <= marks.read) return false;
    marks.read = read;
    for (const seq of marks.fresh) if (seq <= read) marks.fresh.delete(seq);
    if (read >= marks.from) marks.below = 0;
    else if (marks.below !== null) marks.below = Math.min(marks.below, marks.from - read);
    return true;
  }

  /** The user has read it on another connection, or has sent it. */
  #readElsewhere(room, read) {
    const { marks } = room;
    if (!marks.supported || !this.#advance(marks, read)) return;
    this.#doubt(room, true);
    this.#tellUnread(room);
  }

  /** A message has come. */
  #count(room, { seq, user, deletedAt }) {
    const { marks } = room;
    if (!marks.supported) return;
    if (this.#isMe(user)) this.#advance(marks, seq);
    else if (seq > marks.read && !deletedAt) marks.fresh.add(seq);
    if (marks.fresh.size > COUNTED) {
      if (marks.below !== null) marks.below += marks.fresh.size;
      marks.fresh.clear();
      marks.from = seq;
    }
    this.#doubt(room);
  }

  /** A message was deleted that came earlier. */
  #countOut(room, seq) {
    const { marks } = room;
    if (!marks.supported || seq > marks.from || seq <= marks.read) return;
    if (marks.below > 0) marks.below--;
    this.#doubt(room);
  }

  /** The count up to marks.from may be another than is known. */
  #doubt(room, soon = false) {
    const { marks } = room;
    if (marks.taking) return; // what is in doubt then is asked for in any case
    if (!marks.supported || marks.read >= marks.from || this.#options.user === null) {
      marks.doubt = null;
      return;
    }
    if (soon || marks.doubt === null) {
      marks.doubt = now() + (soon ? 0 : Math.max(marks.wait, MARK_EVERY));
      marks.wait = Math.min(Math.max(2 * marks.wait, MARK_EVERY), LATEST_COUNT);
    }
    this.#askMarks(room);
  }

  /** Answers who has asked for what is known. */
  #settleMarks(room) {
    const { marks } = room;
    const unread = this.#unread(room);
    if (unread === undefined || marks.doubt !== null || marks.inFlight || marks.taking) return;
    const done = marks.waiting.filter(({ read, only }) => !only && read <= marks.read);
    marks.waiting = marks.waiting.filter((w) => !done.includes(w));
    for (const { resolve } of done) resolve({ room: room.name, read: marks.read, unread });
  }

  /** Asks what is to be asked, when it is time for that. */
  #askMarks(room) {
    const { marks } = room;
    clearTimeout(marks.timer);
    if (this.#state !== "open" || !room.joined || !marks.supported || marks.taking || marks.inFlight) return;
    const wanted = marks.waiting.length > 0;
    if (!wanted && (marks.doubt === null || !this.#counting)) return;
    const wait = Math.max(marks.due, wanted ? -Infinity : marks.doubt) - now();
    if (wait > 0) marks.timer = setTimeout(() => this.#askMarks(room), wait);
    else void this.#sendMark(room);
  }

  async #sendMark(room) {
    const { marks } = room;
    const asked = [...marks.waiting];
    Object.assign(marks, { inFlight: true, due: now() + MARK_EVERY, doubt: null }); // what comes from here on is in doubt again
    let ack = null;
    let failure = null;
    try {
      ack = await this.#request("mark", { room: room.name, read: Math.max(0, ...asked.map(({ read }) => read)) });
    } catch (err) {
      if (err.code === "connection_lost") return; // the answer to the next join_room tells what has become of it
      failure = err;
    }
    marks.inFlight = false;
    marks.waiting = marks.waiting.filter((w) => !asked.includes(w));
    if (failure) {
      for (const { reject } of asked) reject(failure);
      if (TRANSIENT.has(failure.code)) this.#doubt(room);
    } else if (marks.supported) {
      this.#advance(marks, ack.read);
      if (ack.read === marks.read && marks.read < marks.from) marks.below = Math.max(ack.unread - marks.fresh.size, 0);
      for (const { resolve } of asked) resolve(ack);
    }
    this.#tellUnread(room);
    this.#askMarks(room);
  }

  // ---- messages on their way out ----

  #submit(entry) {
    entry.state = "pending";
    entry.error = undefined;
    promised(entry);
    this.#keep();
    this.#emit("outgoing", snapshot(entry));
    if (this.#state === "closed") {
      this.#failed(entry, new ParleyError("closed", "the connection is closed"));
    } else {
      this.#flush();
    }
    return entry.answer;
  }

  #flush() {
    if (this.#state !== "open") return;
    let free = this.#options.window;
    for (const entry of [...this.#outbox.values(), ...this.#changes]) if (entry.inFlight) free--;
    for (const entry of [...this.#outbox.values()]) {
      if (free <= 0) return;
      if (entry.state !== "pending" || entry.inFlight) continue;
      const room = this.#rooms.get(entry.room);
      // Its turn comes after join_room. After a reload the application joins its rooms again.
      if (room ? !room.joined : entry.recalled) continue;
      free--;
      void this.#transmit(entry);
    }
    const busy = new Set(); // changes of one message are asked for one after the other: asked again, none comes after its successor
    for (const change of [...this.#changes]) {
      if (free <= 0) return;
      const message = `${change.seq} ${change.room}`;
      if (change.state !== "pending" || busy.has(message)) continue;
      busy.add(message);
      const room = this.#rooms.get(change.room);
      if (change.inFlight || (room ? !room.joined : change.recalled)) continue;
      void this.#ask(change);
      if (change.inFlight) free--;
      else busy.delete(message); // it was refused without asking
    }
  }

  async #transmit(entry) {
    entry.inFlight = true;
    try {
      const { room, text, clientId, more } = entry;
      this.#sent(entry, await this.#request("message", { room, text, clientId, ...more }));
    } catch (err) {
      if (err.code === "connection_lost") return; // sent again with the next connection
      this.#failed(entry, err);
    }
    entry.inFlight = false;
    this.#flush();
  }

  #sent(entry, ack) {
    if (entry.state !== "pending") return;
    entry.state = "sent";
    this.#outbox.delete(entry.clientId);
    this.#keep();
    this.#emit("outgoing", { ...snapshot(entry), ack });
    entry.resolve(ack);
    const room = this.#rooms.get(entry.room);
    if (!room) return;
    this.#readElsewhere(room, ack.seq); // to send is to have read up to it
    // What the answer to join_room leaves to its pages may have changed since it was stored.
    const user = ack.seq > (room.ack?.seq ?? 0) && this.#options.user;
    const { text, clientId, more } = entry;
    this.#arrived(room, ack.seq, user && { ...ack, ...(room.changes ? { rev: 0 } : {}), room: room.name, clientId, user: { id: user.id, name: user.name }, text, ...more });
  }

  #failed(entry, err) {
    if (entry.state !== "pending") return;
    entry.state = "failed";
    entry.error = err;
    this.#keep();
    this.#emit("outgoing", snapshot(entry));
    entry.reject(err);
  }

  // ---- what survives a reload ----

  get #key() {
    return `parley.outbox.${this.#options.user.id}`;
  }

  /** Writes the outbox before anything else can happen to the page. */
  #keep() {
    if (!this.#options.storage || this.#keeping) return;
    this.#keeping = true;
    queueMicrotask(() => {
      this.#keeping = false;
      this.#write();
    });
  }

  #write() {
    const { storage } = this.#options;
    if (!storage) return;
    const kept = [];
    let room = KEPT_CHARACTERS;
    for (const entry of this.#outbox.values()) {
      room -= entry.text.length + (entry.more.data ? JSON.stringify(entry.more.data).length : 0);
      if (kept.length >= KEPT_MESSAGES || room < 0) break;
      const { code, message } = entry.error ?? {};
      kept.push({ clientId: entry.clientId, room: entry.room, text: entry.text, ...entry.more, at: entry.at.getTime(), state: entry.state, code, title: message });
    }
    for (const { kind, room: name, seq, what, of, at, state } of this.#changes) {
      if (state !== "pending") continue;
      room -= JSON.stringify(what).length;
      if (kept.length >= KEPT_MESSAGES || room < 0) break;
      kept.push({ change: kind, room: name, seq, what, of, at: at.getTime() });
    }
    try {
      if (kept.length > 0) storage.setItem(this.#key, JSON.stringify(kept));
      else storage.removeItem(this.#key);
    } catch {
      // Without storage, or where it is full, a reload loses what was not sent.
    }
  }

  /** Takes up what the page before has left. Nobody can answer for it but who joins its rooms. */
  #recall() {
    if (!this.#options.storage) return;
    let kept = null;
    try {
      kept = JSON.parse(this.#options.storage.getItem(this.#key));
    } catch {
      // Nothing that we have written.
    }
    if (!Array.isArray(kept)) return;
    for (const it of kept.slice(0, KEPT_MESSAGES).filter(Boolean)) {
      if (it.change !== undefined) {
        this.#recallChange(it);
        continue;
      }
      const { clientId, room, text, replyTo, data, at, state, code, title } = it;
      if (typeof clientId !== "string" || clientId === "" || clientId.length > MAX_CLIENT_ID) continue;
      if (checkRoom(room) || checkText(text) || checkReplyTo(replyTo) || checkData(data && asJSON(data)) || this.#outbox.has(clientId)) continue;
      const entry = { clientId, room, text, more: besides(replyTo, data), at: time(at), inFlight: false, recalled: true };
      promised(entry);
      // What only failed because the page was closed was never refused.
      entry.state = state === "failed" && code !== "closed" ? "failed" : "pending";
      if (entry.state === "failed") {
        entry.error = new ParleyError(String(code ?? "failed"), String(title ?? "the message was not sent"));
        entry.reject(entry.error);
      }
      this.#outbox.set(clientId, entry);
    }
  }

  #recallChange({ change: kind, room, seq, what, of, at }) {
    const { text, data, key, on } = what ?? {};
    const bad = { edit: () => checkText(text) ?? checkData(data && asJSON(data)), delete: () => null, react: () => checkReaction(key) };
    if (!Object.hasOwn(bad, kind) || checkRoom(room) || checkSeq(seq) || bad[kind]()) return;
    const clean = { edit: { text, ...besides(undefined, data) }, delete: {}, react: { key, on: on !== false } }[kind];
    const id = typeof of === "string" ? of : undefined;
    const change = { kind, room, seq, what: clean, of: id, at: time(at), state: "pending", rev: 0, inFlight: false, recalled: true };
    promised(change);
    this.#changes.add(change);
  }
}

/** Gives what is on its way a promise. Events tell the same, so it may be ignored. */
function promised(entry) {
  entry.answer = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
  entry.answer.catch(() => {});
}

/** What is known of how far the user has read a room, and what is to be asked. */
function newMarks() {
  return {
    supported: null, // the server that the room was joined on last knows marks
    read: 0,
    from: null, // behind it each message is known
    fresh: new Set(), // the unread ones among them
    below: null, // how many are unread up to there; null: that is not known
    taking: true, // the answer to join_room is being taken
    told: undefined, // the count that "unread" told last
    doubt: null, // when to ask for it again; null: it is not in doubt
    wait: 0, // how long the next doubt waits
    due: -Infinity, // when the next question may be asked
    inFlight: false,
    timer: 0,
    waiting: [], // {read, only, resolve, reject}: marks that are not answered
  };
}

function marksNotSupported() {
  return new ParleyError("marks_not_supported", "the server is too old for that");
}

function time(at) {
  const when = new Date(typeof at === "number" ? at : NaN);
  return Number.isNaN(when.getTime()) ? new Date() : when;
}

/** Whether a message was changed after another, as which it is the same. */
function isNewer(message, other) {
  return message !== undefined && (message.rev ?? 0) > (other.rev ?? 0);
}

/** What is said of one's own change. */
function describe({ kind, room, seq, what, at, state, error }) {
  return { kind, room, seq, ...what, at, state, error };
}

/** A message as it is after a change of somebody's. */
function withChange(message, { kind, what, at }, by) {
  if (message.deletedAt) return message;
  switch (kind) {
    case "edit":
      if (what.text === message.text && what.data === undefined) return message;
      return { ...message, ...what, editedAt: at.toISOString() };
    case "delete": {
      const { text, editedAt, replyTo, data, reactions, ...rest } = message;
      return { ...rest, text: "", deletedAt: at.toISOString() };
    }
    default: {
      if (!by) return message;
      const { key, on } = what;
      const { reactions: all = [], ...rest } = message;
      const one = all.find((r) => r.key === key) ?? { key, count: 0, users: [] };
      if (one.users.includes(by.id) === on) return message;
      const others = one.users.filter((id) => id !== by.id);
      const next = { key, count: one.count + (on ? 1 : -1), users: on ? [...others.slice(0, REACTION_USERS - 1), by.id] : others };
      const reactions = (one.count > 0 ? all.map((r) => (r === one ? next : r)) : [...all, next]).filter((r) => r.count > 0);
      return reactions.length > 0 ? { ...rest, reactions } : rest;
    }
  }
}

function snapshot({ clientId, room, text, more, at, state, error }) {
  return { clientId, room, text, ...more, at, state, error };
}

/** What few messages have: only what is given. */
function besides(replyTo, data) {
  return { ...(replyTo === undefined ? {} : { replyTo }), ...(data === undefined ? {} : { data }) };
}

// Where U+200C and U+200D change how a script is drawn (RFC 5892, appendix A): behind a virama; between
// letters that would join. The classes are those of the server.
const VIRAMA =
  String.raw`\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d3b\u0d3c\u0d4d\u0dca\u0e3a\u0eba\u0f84\u1039\u103a\u1714\u1715\u1734` +
  String.raw`\u17d2\u1a60\u1b44\u1baa\u1bab\u1bf2\u1bf3\u2d7f\ua806\ua82c\ua8c4\ua953\ua9c0\uaaf6\uabed\u{10a3f}\u{11046}\u{11070}` +
  String.raw`\u{1107f}\u{110b9}\u{11133}\u{11134}\u{111c0}\u{11235}\u{112ea}\u{1134d}\u{11442}\u{114c2}\u{115bf}\u{1163f}\u{116b6}` +
  String.raw`\u{1172b}\u{11839}\u{1193d}\u{1193e}\u{119e0}\u{11a34}\u{11a47}\u{11a99}\u{11c3f}\u{11d44}\u{11d45}\u{11d97}`;
const JOINS_NEXT =
  String.raw`\u0620\u0626\u0628\u062a-\u062e\u0633-\u063f\u0641-\u0647\u0649\u064a\u066e\u066f\u0678-\u0687\u069a-\u06bf\u06c1\u06c2` +
  String.raw`\u06cc\u06ce\u06d0\u06d1\u06fa-\u06fc\u06ff\u0712-\u0714\u071a-\u071d\u071f-\u0727\u0729\u072b\u072d\u072e\u074e-\u0758` +
  String.raw`\u075c-\u076a\u076d-\u0770\u0772\u0775-\u0777\u077a-\u077f\u07ca-\u07ea\u0841-\u0845\u0848\u084a-\u0853\u0855\u0860` +
  String.raw`\u0862-\u0865\u0868\u0886\u0889-\u088d\u08a0-\u08a9\u08af\u08b0\u08b3-\u08b8\u08ba-\u08c8\u1807\u1820-\u1878\u1887-\u18a8` +
  String.raw`\u18aa\ua840-\ua872\u{10ac0}-\u{10ac4}\u{10acd}\u{10ad3}-\u{10adc}\u{10ade}-\u{10ae0}\u{10aeb}-\u{10aee}\u{10b80}` +
  String.raw`\u{10b82}\u{10b86}-\u{10b88}\u{10b8a}\u{10b8b}\u{10b8d}\u{10b90}\u{10bad}\u{10bae}\u{10d00}-\u{10d21}\u{10d23}\u{10f30}-\u{10f32}` +
  String.raw`\u{10f34}-\u{10f44}\u{10f51}-\u{10f53}\u{10f70}-\u{10f73}\u{10f76}-\u{10f81}\u{10fb0}\u{10fb2}\u{10fb3}\u{10fb8}` +
  String.raw`\u{10fbb}\u{10fbc}\u{10fbe}\u{10fbf}\u{10fc1}\u{10fc4}\u{10fca}\u{10fcb}\u{1e900}-\u{1e943}`;
const JOINS_PREVIOUS =
  String.raw`\u0620\u0622-\u063f\u0641-\u064a\u066e\u066f\u0671-\u0673\u0675-\u06d3\u06d5\u06ee\u06ef\u06fa-\u06fc\u06ff\u0710\u0712-\u072f` +
  String.raw`\u074d-\u077f\u07ca-\u07ea\u0840-\u0858\u0860\u0862-\u0865\u0867-\u086a\u0870-\u0882\u0886\u0889-\u088e\u08a0-\u08ac` +
  String.raw`\u08ae-\u08c8\u1807\u1820-\u1878\u1887-\u18a8\u18aa\ua840-\ua871\u{10ac0}-\u{10ac5}\u{10ac7}\u{10ac9}\u{10aca}\u{10ace}-\u{10ad6}` +
  String.raw`\u{10ad8}-\u{10ae1}\u{10ae4}\u{10aeb}-\u{10aef}\u{10b80}-\u{10b91}\u{10ba9}-\u{10bae}\u{10d01}-\u{10d23}\u{10f30}-\u{10f44}` +
  String.raw`\u{10f51}-\u{10f54}\u{10f70}-\u{10f81}\u{10fb0}\u{10fb2}-\u{10fb6}\u{10fb8}-\u{10fbf}\u{10fc1}-\u{10fc4}\u{10fc9}` +
  String.raw`\u{10fca}\u{1e900}-\u{1e943}`;

// What may stand in a name although it is not seen by itself: it is taken away before the rest is looked at.
const UNSEEN = [
  [new RegExp(`([${VIRAMA}])[\\u200c\\u200d](?!\\p{Variation_Selector})`, "gu"), "$1"],
  [new RegExp(`([${JOINS_NEXT}][\\p{Mn}\\p{Me}]*)\\u200c(?!\\p{Variation_Selector})(?=[\\p{Mn}\\p{Me}]*[${JOINS_PREVIOUS}])`, "gu"), "$1"],
  [/(\p{Extended_Pictographic}[\p{Variation_Selector}\u{1f3fb}-\u{1f3ff}]*)\u200d(?=\p{Extended_Pictographic})/gu, "$1"], // parts of an emoji
  [/\u{1f3f4}[\u{e0020}-\u{e007e}]+\u{e007f}/gu, "\u{1f3f4}"], // the flag of a part of a country
  [/([^\s\p{C}])\p{Variation_Selector}+/gu, "$1"],
];
const HIDDEN = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]/u;
const SEEN = /[^\s\p{C}\p{Default_Ignorable_Code_Point}\u2800]/u;

/** Returns why the server would refuse a room's name, or null. */
export function checkRoom(name) {
  const refuse = (title) => new ParleyError("room_invalid", title);
  if (typeof name !== "string" || name === "") return refuse("the room needs a name");
  if ([...name].length > MAX_ROOM_NAME) return refuse(`the room's name is longer than ${MAX_ROOM_NAME} characters`);
  if (name.startsWith(" ") || name.endsWith(" ")) return refuse("the room's name starts or ends with a space");
  if (!isSeen(name)) return refuse("the room's name has a character that cannot be seen");
  return null;
}

function checkReplyTo(seq) {
  return seq === undefined || !checkSeq(seq) ? null : new ParleyError("reply_to_invalid", "there is no such message to reply to");
}

function checkSeq(seq) {
  return Number.isSafeInteger(seq) && seq > 0 ? null : new ParleyError("message_not_found", "there is no such message");
}

/** Returns why the server would refuse the key of a reaction, or null. */
export function checkReaction(key) {
  const refuse = (title) => new ParleyError("reaction_invalid", title);
  if (typeof key !== "string" || key === "") return refuse("the reaction is empty");
  if ([...key].length > MAX_REACTION) return refuse(`the reaction is longer than ${MAX_REACTION} characters`);
  return isSeen(key) ? null : refuse("the reaction has a character that cannot be seen");
}

/** Whether all of a text, and some of it, can be seen. */
function isSeen(text) {
  const rest = UNSEEN.reduce((left, [unseen, seen]) => left.replace(unseen, seen), text);
  return !HIDDEN.test(rest) && SEEN.test(rest);
}

/** The text that JSON has for data; null where it has none. */
function asJSON(data) {
  try {
    return JSON.stringify(data) ?? null;
  } catch {
    return null;
  }
}

function checkData(json) {
  if (json === undefined) return null;
  const data = JSON.parse(json);
  const sound = (value, depth) => {
    if (typeof value === "string") return !value.includes("\0") && (value.isWellFormed?.() ?? true);
    if (typeof value !== "object" || value === null) return true;
    return depth < MAX_DATA_DEPTH && Object.entries(value).every(([name, v]) => sound(name, 0) && sound(v, depth + 1));
  };
  if (typeof data !== "object" || data === null || Array.isArray(data)) return new ParleyError("data_invalid", "the data is not an object");
  if (new TextEncoder().encode(json).length > MAX_DATA) return new ParleyError("data_invalid", `the data is longer than ${MAX_DATA} bytes`);
  return sound(data, 0) ? null : new ParleyError("data_invalid", "the data is too deep, or a text in it is none");
}

/** Returns why the server would refuse a text, or null. */
export function checkText(text) {
  const refuse = (title) => new ParleyError("text_invalid", title);
  if (typeof text !== "string" || text === "") return refuse("the message is empty");
  if (text.length > MAX_TEXT && [...text].length > MAX_TEXT) return refuse(`the message is longer than ${MAX_TEXT} characters`);
  if (text.includes("\0")) return refuse("the message has a NUL character");
  if (!SEEN.test(text)) return refuse("the message has no character that can be seen");
  return null;
}

/** Returns the name of an event, unless it is one whose bookkeeping is done here. */
function custom(event) {
  if (OWN.has(event)) throw new TypeError(`Parley: ${event} has a method of its own`);
  return event;
}

/** A text without half characters, which no encoding has. */
function whole(text) {
  return typeof text === "string" && text.toWellFormed ? text.toWellFormed() : text;
}

/** The form in which rooms are called here: Unicode's NFC, whatever was typed. */
function called(name) {
  return typeof name === "string" ? name.normalize("NFC") : name;
}

function defined(options) {
  return Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value !== undefined));
}

/** What a session says about itself. */
function fromSession(session) {
  if (!session) return {};
  const { user, server } = session;
  return {
    ticket: (request) => session.ticket(request),
    token: typeof session.token === "function" ? (request) => session.token(request) : undefined,
    user: user && { id: user.id, name: user.fullName },
    url: server ? `${server.replace(/^http/, "ws")}/socket` : undefined,
  };
}

function defaultURL() {
  const { location } = globalThis;
  if (!location?.host) throw new TypeError("Parley: options.url is required outside a page");
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/socket`;
}

/** 128 random bits. crypto.randomUUID is missing on pages that are not served securely. */
function newId() {
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}
