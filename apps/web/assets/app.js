// The demo page: signing in, rooms, messages. What other people wrote only ever becomes text.

import { addresses } from "./addresses.js";
import { Desk, isDirect, told } from "./desk.js";
import { checkRoom, checkText, MAX_TEXT, Parley } from "./parley.js";
import { addressOf, roomAt } from "./places.js";
import { canNotify, Notices } from "./notices.js";
import { Problem, sentence, Session, storage, words } from "./session.js";

const $ = (id) => document.getElementById(id);
const product = document.querySelector("meta[name=application-name]").content;
const session = new Session();
let chat = null; // the signed-in part of the page

const SVG = document.querySelector("svg").namespaceURI;
// A quotation is so long, in characters.
const QUOTED = 120;

/** Milliseconds of a clock that only goes forward. */
const now = () => performance.now();

/**
 * Whether a key belongs to the input of Japanese, Chinese or Korean. Most browsers say so; Safari
 * ends the composition first, and leaves only the code 229 (UI Events, section 7.3.1).
 */
const composing = (event) => event.isComposing || event.keyCode === 229;

/** The room that the address of the page leads to, or null. */
function addressed() {
  const room = roomAt(location);
  return room !== null && !checkRoom(room) ? room : null;
}

/** Makes an element; strings among the children become text. */
function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function avatar(user) {
  const node = h("span", { class: "avatar", "aria-hidden": "true" });
  dress(node, user);
  return node;
}

/** Gives an avatar somebody's initials and colour. */
function dress(node, user) {
  const names = user.name.trim().split(/\s+/u);
  const initials = [names[0], names.length > 1 ? names.at(-1) : ""].map((name) => [...(name ?? "")][0] ?? "");
  node.textContent = initials.join("").toUpperCase() || "?";
  let hash = 2166136261; // FNV-1a
  for (const c of user.id) hash = Math.imul(hash ^ c.codePointAt(0), 16777619);
  node.dataset.hue = String((hash >>> 16) % 8);
}

const icon = (name) => {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
};

/** The text as nodes, in which addresses are links. */
function linked(text) {
  const nodes = [];
  let end = 0;
  for (const { address, index } of addresses(text)) {
    nodes.push(text.slice(end, index), h("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, address));
    end = index + address.length;
  }
  nodes.push(text.slice(end));
  return nodes.filter((node) => node !== "");
}

/** The beginning of a text, in one line. */
function start(text) {
  const line = text.replace(/\s+/gu, " ").trim();
  const characters = [...line.slice(0, 2 * QUOTED)];
  return characters.length > QUOTED ? `${characters.slice(0, QUOTED).join("")}…` : characters.join("");
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const fullDate = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const people = new Intl.ListFormat("en-GB");
const dayName = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

function dayOf(date) {
  const today = new Date();
  const days = Math.round((new Date(today.toDateString()) - new Date(date.toDateString())) / 86_400_000);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return dayName.format(date);
}

// ---- the door: accounts ----

const views = [...document.querySelectorAll("[data-view]")];
const door = { email: "", notice: "", link: "" };

function showDoor(notice = "") {
  door.notice = notice;
  $("shell").hidden = true;
  $("door").hidden = false;
  showView();
}

/** Takes the code of a mailed link out of the address, where it would stay in the history of the browser. */
function takeLink() {
  const [, code] = /^#link=([\w-]{1,512})$/.exec(location.hash) ?? [];
  if (code === undefined) return;
  door.link = code;
  history.replaceState(history.state, "", `${location.pathname}${location.search}#link-in`);
}

function showView() {
  takeLink();
  if (session.user) return;
  const view = views.find((v) => v.dataset.view === location.hash.slice(1)) ?? views[0];
  for (const v of views) v.hidden = v !== view;
  showNotice();
  door.notice = "";
  for (const p of view.querySelectorAll(".error, .done")) p.hidden = true;
  for (const input of view.querySelectorAll("input[name=email]")) input.value ||= door.email;
  for (const id of ["check-mail-address", "forgot-address", "link-address"]) if ($(id)) $(id).textContent = door.email || "your address";
  const first = [...view.querySelectorAll("input")].find((input) => !input.value);
  (first ?? view.querySelector("h1")).focus();
  document.title = `${view.querySelector("h1").textContent} – ${product}`;
}

/** Shows why one is here. */
function showNotice() {
  const room = addressed();
  const notice = $("door-notice");
  notice.textContent = door.notice || (room === null ? "" : `To join “${room}”, sign in or create an account.`);
  notice.hidden = notice.textContent === "";
}

function go(view) {
  if (location.hash === `#${view}`) showView();
  else location.hash = view;
}

/** Runs a form's submission: one at a time, with its failure shown in the form. */
function handle(form, submit) {
  const error = form.querySelector(".error");
  form.addEventListener("input", (event) => event.target.removeAttribute("aria-invalid"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.querySelector("button[aria-disabled]")) return;
    const button = event.submitter ?? form.querySelector("button[type=submit]");
    button.setAttribute("aria-disabled", "true");
    error.hidden = true;
    const fields = Object.fromEntries(new FormData(form));
    if (button.name) fields[button.name] = button.value;
    try {
      await submit(fields);
    } catch (err) {
      error.textContent = words(err);
      error.hidden = false;
      const wrong = err instanceof Problem && [...err.fields.keys()].map((name) => form.elements[name]).filter(Boolean);
      for (const input of wrong || []) input.setAttribute("aria-invalid", "true");
      (wrong?.[0] ?? form.querySelector("input, textarea"))?.focus();
    } finally {
      button.removeAttribute("aria-disabled");
    }
  });
}

/** Asks for the code of a second factor, if that is why a sign-in was refused. */
function challenged(err) {
  if (err.code !== "second_factor_required" || !err.challenge || !$("form-factor-in")) return false;
  door.challenge = err.challenge;
  $("form-sign-in").reset();
  $("form-factor-in").reset();
  go("factor");
  return true;
}

// Where users may have an authenticator app.
if ($("form-factor-in")) {
  handle($("form-factor-in"), async ({ code }) => {
    try {
      await session.signInFactor(door.challenge ?? "", code);
    } catch (err) {
      if (err.code !== "challenge_gone" && err.code !== "challenge_unknown") throw err;
      door.notice = words(err);
      go("sign-in");
      return;
    }
    door.challenge = "";
    $("form-factor-in").reset();
    showChat({ entered: true });
  });
}

handle($("form-sign-in"), async ({ email, password }) => {
  door.email = email;
  try {
    await session.signIn(email, password);
  } catch (err) {
    if (err.code === "not_verified") {
      go("check-mail");
      const note = $("form-resend").querySelector(".error");
      note.textContent = words(err);
      note.hidden = false;
      return;
    }
    if (challenged(err)) return;
    throw err;
  }
  $("form-sign-in").reset();
  showChat({ entered: true });
});

// Where the server runs for development, for clients on its own machine.
if ($("form-continue")) {
  handle($("form-continue"), async ({ as }) => {
    await session.signInAt("/dev/continue", { as });
    showChat({ entered: true, room: "lobby" });
  });
}

handle($("form-sign-up"), async (fields) => {
  await session.signUp(fields);
  door.email = fields.email;
  wish(fields.email);
  $("form-sign-up").reset();
  go("check-mail");
});

handle($("form-resend"), async () => {
  if (!door.email) {
    go("sign-in");
    return;
  }
  await session.resend(door.email);
  const done = $("form-resend").querySelector(".done");
  done.textContent = "If the address still needs to be confirmed, a new mail is on its way.";
  done.hidden = false;
});

handle($("form-forgot"), async ({ email }) => {
  await session.forgot(email);
  door.email = email;
  go("forgot-sent");
});

// Where the server mails links to sign in by.
if ($("form-link")) {
  handle($("form-link"), async ({ email }) => {
    await session.requestLink(email);
    door.email = email;
    go("link-sent");
  });
  handle($("form-link-in"), async () => {
    if (!door.link) {
      go("link");
      return;
    }
    const code = door.link;
    try {
      await session.signInByLink(code);
    } catch (err) {
      if (!challenged(err)) throw err;
      door.link = "";
      return;
    }
    door.link = "";
    showChat({ entered: true });
  });
}

for (const box of document.querySelectorAll(".secret")) {
  const input = box.querySelector("input");
  const toggle = h("button", { type: "button", class: "plain", "aria-pressed": "false", "aria-label": "Show the password" }, "Show");
  toggle.addEventListener("click", () => {
    const show = input.type === "password";
    input.type = show ? "text" : "password";
    toggle.setAttribute("aria-pressed", String(show));
    toggle.textContent = show ? "Hide" : "Show";
  });
  box.append(toggle);
}

addEventListener("hashchange", showView);
addEventListener("popstate", showNotice);

// For so long after a sign-up, the link in its mail leads to the room that was to be joined.
const WISH = "parley.wish";
const WISHED = 86_400_000;

/** Remembers which room somebody signs up for: the link in the mail leads to a page that does not know it. */
function wish(email) {
  const room = addressed();
  try {
    if (room === null) localStorage.removeItem(WISH);
    else localStorage.setItem(WISH, JSON.stringify({ email: email.toLowerCase(), room, at: Date.now() }));
  } catch {
    // Without storage the room has to be found again.
  }
}

/** The room that somebody has signed up for, once. */
function wished(email) {
  try {
    const { email: whose, room, at } = JSON.parse(localStorage.getItem(WISH));
    if (whose !== email.toLowerCase()) return null;
    localStorage.removeItem(WISH);
    return Math.abs(Date.now() - at) < WISHED && !checkRoom(room) ? room : null;
  } catch {
    return null; // nothing there, or nothing of use
  }
}

// ---- the chat ----

// Notes that follow each other within this time share one heading.
const GROUP = 5 * 60_000;
// Presence is asked for again this often: large rooms do not announce who comes and goes.
const PRESENCE_EVERY = 30_000;
// An interruption shorter than this is not worth a word.
const BRIEF = 800;
// A list shows so many messages and notices at most, and fewer while its room is not open. What
// is further up or down is read again when somebody scrolls there.
const MOST = 300;
const RESTING = 100;
const PAGE = 50;
// So near to its end a list is continued.
const NEAR = 240;
// Of the newest messages so many are at hand while somebody reads further up.
const TAIL = 100;
// More than these at once are not read out.
const ALOUD = 20;
// What has come is drawn with the next picture, or after this time where there is none.
const DRAWN_BY = 100;
// A finger that rests so long on a message, and moves no further, asks for what can be done with it.
const LONG_PRESS = 400;
const STEADY = 10;
// To find the message that another one answers, so many pages are read.
const JUMP_PAGES = 6;
// The tools stand so far from what they are for.
const BESIDE = 6;
// What is offered to react with.
const EMOJI = [["👍", "thumbs up"], ["❤️", "heart"], ["😂", "laughing"], ["🎉", "party"], ["😮", "astonished"], ["🙏", "thank you"]];
// So many rooms are taken up: a connection may be in no more.
const MY_ROOMS = 100;
// A list of rooms that does not come is asked for again after so long, and each time twice as late, up to this.
const LIST_AGAIN = 1_000;
const LIST_LATEST = 60_000;
// Who has seen the end of a room for so long has read it.
const GLANCE = 600;
// Where the first unread message is further up, so many are read before it.
const CONTEXT = 8;
// Who has seen what is shown where so many people are at most, and so many of them are named.
const SEEN_UP_TO = 50;
const SEEN_NAMES = 3;
// So many people can be offered for an invitation.
const MET = 1_000;
// What is kept of texts that were begun.
const MAX_DRAFTS = 50;
const MAX_DRAFT = 20_000;
const DRAFTS = "parley.drafts.";
const OUTBOX = "parley.outbox.";

class Chat {
  #user;
  #parley;
  #rooms = new Map(); // name → view of a room
  #active = null;
  #invited = null; // a room that the address leads to, and that was not joined
  #timers = new Set();
  #end = new AbortController();
  #banner = { timer: 0, broken: false };
  #undrawn = { rooms: new Set(), members: false, frame: 0, timer: 0 };
  #tools = h("div", { class: "tools", role: "toolbar", "aria-live": "off" }); // what can be done with one message, in its item
  #press = { timer: 0, x: 0, y: 0 };
  // The list of one's rooms: what this browser remembers of it, whether it is shown, asked for, had once and kept by the server, and
  // what was left since it was asked for.
  #list = { saved: null, begun: false, asking: false, taken: false, kept: false, opened: false, left: new Set(), wait: LIST_AGAIN, timer: 0 };
  #notices; // of the browser, about what nobody looks at
  #desk; // what rooms are, and who runs them
  #met = new Map(); // id → {id, name}: whose names are known here
  #bottom = h("div", { class: "bottom", "aria-hidden": "true" }); // the end of the open room's list
  #glance = { end: false, room: null, timer: 0, observer: null };

  constructor(user) {
    this.#user = user;
    this.#notices = new Notices({ user, open: (name) => this.#rooms.has(name) && this.#activate(name, { focus: true }) });
    this.#parley = new Parley({
      url: document.querySelector('meta[name="socket"]')?.content, // by default on this host
      session,
      storage: storage("session"),
    });
    this.#desk = new Desk({
      h,
      session,
      user,
      signal: this.#end.signal,
      chat: {
        avatar,
        people: () => this.#met,
        renamed: (user) => {
          this.#user = user;
          this.#introduce();
        },
        open: (name) => {
          this.#add(name);
          this.#activate(name, { focus: true });
        },
        relabel: (name, label) => this.#relabel(this.#rooms.get(name), label),
      },
    });
    const events = {
      state: (detail) => this.#stateChanged(detail),
      message: ({ message, live }) => this.#received(message, live),
      changed: (detail) => this.#changed(detail),
      change: (detail) => this.#change(detail),
      outgoing: (detail) => this.#outgoing(detail),
      marked: ({ room, user: who, read }) => this.#hasRead(this.#rooms.get(room), who, read),
      unread: ({ room }) => this.#rooms.has(room) && this.#soon(this.#rooms.get(room)),
      typing: ({ room }) => this.#showTyping(room),
      joined: ({ room, user: who }) => this.#cameOrLeft(room, who, true),
      left: ({ room, user: who }) => this.#cameOrLeft(room, who, false),
      resync: ({ room }) => this.#joinedAgain(room),
      lost: (detail) => this.#lost(detail),
      forgotten: ({ room, error }) => this.#forgotten(room, error),
      membership: (detail) => this.#membership(detail),
    };
    for (const [type, listener] of Object.entries(events)) {
      this.#parley.addEventListener(type, ({ detail }) => listener(detail));
    }
  }

  /** Shows who is signed in. */
  #introduce() {
    $("me-name").textContent = this.#user.fullName;
    $("me-email").textContent = this.#user.email;
    $("me-id").textContent = this.#user.id;
    dress($("me-avatar"), { id: this.#user.id, name: this.#user.fullName });
  }

  /** Shows the chat, with this room open if there is one. */
  start(room) {
    $("door").hidden = true;
    $("shell").hidden = false;
    this.#introduce();
    this.#listen();
    this.#list.saved = { ...this.#saved(), outgoing: this.#parley.outgoing };
    if (room) this.#add(room);
    this.#activate(room ?? null, { focus: false, address: room ? "replace" : "keep" });
    $("empty").hidden = true; // until it is known that there is no room
    this.#pane("chat");
    this.#parley.connect();
    void this.#takeUp();
    this.#every(PRESENCE_EVERY, () => this.#askPresence(this.#active));
    this.#every(60_000, () => this.#redate());
  }

  /** Ends the chat. With forget, nothing stays in this tab of what was written and not sent. */
  stop({ forget = false } = {}) {
    this.#end.abort();
    cancelAnimationFrame(this.#undrawn.frame);
    clearTimeout(this.#undrawn.timer);
    for (const timer of this.#timers) clearInterval(timer);
    clearInterval(this.#banner.timer);
    clearTimeout(this.#press.timer);
    clearTimeout(this.#list.timer);
    clearTimeout(this.#glance.timer);
    this.#glance.observer.disconnect();
    this.#notices.stop();
    this.#hideTools();
    this.#parley.close({ forget });
    if (forget) forgetTexts((key) => key === DRAFTS + this.#user.id);
    for (const id of ["room-list", "log", "member-list", "told"]) $(id).replaceChildren();
    $("typing").textContent = "";
    $("composer-text").value = "";
    $("about").hidden = true;
    $("account-menu").open = false;
    $("account-menu").querySelector(".error").hidden = true;
    this.#showBanner("");
  }

  #every(ms, job) {
    this.#timers.add(setInterval(() => !document.hidden && job(), ms));
  }

  #listen() {
    const { signal } = this.#end;
    const on = (target, type, listener) => target.addEventListener(type, listener, { signal });
    const field = $("composer-text");

    on($("form-join"), "submit", (event) => {
      event.preventDefault();
      this.#join($("join-name").value.trim().normalize("NFC"));
    });
    on($("form-join"), "input", () => {
      $("form-join").querySelector(".error").hidden = true;
    });
    on($("join-lobby"), "click", () => this.#join(this.#invited ?? "lobby"));
    on(window, "popstate", () => this.#visit());
    on($("leave-room"), "click", () => this.#leave(this.#active));
    on($("show-rooms"), "click", () => {
      this.#pane("rooms");
      $("room-list").querySelector("[aria-current]")?.focus();
    });
    on($("show-members"), "click", () => {
      const open = $("show-members").getAttribute("aria-expanded") === "true";
      this.#pane(open ? "chat" : "members");
      if (!open && $("hide-members").offsetParent) $("hide-members").focus();
    });
    on($("hide-members"), "click", () => this.#closeMembers());
    on($("notify"), "click", () => void this.#notices.set(!this.#notices.on).then(() => this.#showNotify()));
    on($("account-menu"), "toggle", () => this.#showNotify());
    this.#showNotify();
    on($("sign-out"), "click", () => void signOut(false));
    on($("sign-out-all"), "click", () => void signOut(true));
    on(document, "click", (event) => {
      if (!$("account-menu").contains(event.target)) $("account-menu").open = false;
    });
    on(document, "keydown", (event) => {
      if (event.key !== "Escape" || composing(event) || document.querySelector("dialog[open]")) return; // which it closes
      if ($("account-menu").open) {
        $("account-menu").open = false;
        $("account-menu").querySelector("summary").focus();
      } else if ($("shell").dataset.pane === "members") {
        this.#closeMembers();
      }
    });
    on($("banner").querySelector("button"), "click", () => this.#parley.connect());

    on($("composer"), "submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    on(field, "keydown", (event) => {
      if (composing(event)) return;
      const room = this.#active;
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        this.#send();
      } else if (event.key === "Escape" && (room?.editing || room?.replyTo)) {
        event.preventDefault();
        event.stopPropagation();
        this.#leaveContext(room);
      } else if (event.key === "ArrowUp" && field.value === "" && room && !room.editing) {
        const last = [...room.items.children].findLast(({ note }) => note?.seq && note.author === this.#user.id && !note.message.deletedAt);
        if (!last) return;
        event.preventDefault();
        this.#edit(room, last.note.message);
      }
    });
    on($("about").querySelector("button"), "click", () => {
      this.#leaveContext(this.#active);
      field.focus();
    });
    on(field, "input", () => {
      this.#fitField();
      this.#keepDraft(this.#active);
      if (this.#active) this.#parley.typing(this.#active.name, field.value.trim() !== "");
    });
    on(field, "blur", () => this.#active && this.#parley.typing(this.#active.name, false));

    on($("log"), "scroll", () => {
      this.#scrolled();
      this.#continue();
    });
    const message = (target) => target instanceof Element && target.closest(".message");
    on($("log"), "pointerleave", ({ pointerType }) => {
      const item = this.#tools.closest(".message");
      if (pointerType === "mouse" && !item?.matches(":focus-visible") && !item?.querySelector(":focus-visible")) this.#hideTools();
    });
    on($("log"), "pointerdown", ({ pointerType, target, clientX: x, clientY: y }) => {
      clearTimeout(this.#press.timer);
      if (pointerType === "mouse" || this.#tools.contains(target)) return;
      this.#hideTools();
      const item = message(target);
      const show = () => this.#showTools(item?.isConnected ? item : message(document.elementFromPoint(x, y)));
      this.#press = { x, y, timer: setTimeout(show, LONG_PRESS) };
    });
    on($("log"), "pointermove", ({ pointerType, target, clientX, clientY }) => {
      if (pointerType !== "mouse") {
        if (Math.hypot(clientX - this.#press.x, clientY - this.#press.y) > STEADY) clearTimeout(this.#press.timer);
        return;
      }
      // A mouse that lies still means nothing, whatever comes to be under it.
      const item = message(target);
      if (item && !item.contains(this.#tools) && !$("log").querySelector(".message:focus-visible, .message :focus-visible")) this.#showTools(item);
    });
    // A finger that scrolls is a pointer that is cancelled. One that rests may be cancelled too, where that opens a menu.
    for (const type of ["pointerup", "pointercancel"]) on($("log"), type, () => clearTimeout(this.#press.timer));
    on($("log"), "contextmenu", ({ pointerType, target }) => {
      if (pointerType === "touch" && !this.#tools.contains(target)) this.#showTools(message(target));
    });
    on($("log"), "focusin", ({ target }) => {
      const item = message(target);
      if (!item) return;
      this.#rove(this.#active, item);
      if (target.matches(":focus-visible") && !item.contains(this.#tools)) this.#showTools(item);
    });
    on($("log"), "focusout", ({ target, relatedTarget }) => {
      const item = message(target);
      if (item && relatedTarget && !item.contains(relatedTarget)) this.#hideTools(item);
    });
    on($("log"), "keydown", (event) => this.#logKey(event, message(event.target)));
    on($("to-end"), "click", () => {
      this.#attach(this.#active);
      this.#toEnd();
      field.focus();
    });
    on(document, "visibilitychange", () => this.#look());
    for (const type of ["focus", "blur"]) on(window, type, () => this.#look());
    this.#glance.observer = new IntersectionObserver((entries) => {
      this.#glance.end = entries.at(-1).isIntersecting;
      this.#look();
    });
    this.#glance.observer.observe(this.#bottom);
    on(window, "resize", () => this.#active?.atEnd && this.#toEnd());
  }

  /** Shows whether the browser tells of messages, and offers the other. */
  #showNotify() {
    const button = $("notify");
    button.hidden = !canNotify();
    button.setAttribute("aria-checked", String(this.#notices.on));
    button.disabled = this.#notices.blocked;
    $("notify-blocked").hidden = button.hidden || !this.#notices.blocked;
  }

  /** Lets the browser tell of a message of somebody else's that nobody looks at. */
  #announce(room, message) {
    const ignored = () => {
      const { deletedAt } = this.#parley.message(room.name, message.seq) ?? message;
      const seen = (this.#parley.read(room.name) ?? 0) >= message.seq; // here, or elsewhere
      return Boolean(deletedAt) || seen || (room === this.#active && this.#attentive) || !this.#rooms.has(room.name);
    };
    this.#notices.tell({ room: room.name, seq: message.seq, title: isDirect(room.name) ? message.user.name : `${message.user.name} in ${room.label}`, text: () => start((this.#parley.message(room.name, message.seq) ?? message).text), ignored });
  }

  // -- rooms --

  get #key() {
    return `parley.rooms.${this.#user.id}`;
  }

  /** The names of the rooms, in the order in which they are shown. */
  get #names() {
    return [...$("room-list").children].map((entry) => entry.dataset.room);
  }

  #saved() {
    try {
      const { rooms, active } = JSON.parse(localStorage.getItem(this.#key));
      return { rooms: rooms.filter((name) => !checkRoom(name)).map((name) => name.normalize("NFC")), active: active?.normalize("NFC") };
    } catch {
      return { rooms: [], active: null }; // nothing there, or nothing of use
    }
  }

  #save() {
    if (!this.#list.begun) return;
    try {
      localStorage.setItem(this.#key, JSON.stringify({ rooms: this.#names, active: this.#active?.name }));
    } catch {
      // Without storage the list lasts as long as the page.
    }
  }

  #drafts() {
    try {
      return new Map(Object.entries(JSON.parse(storage("session").getItem(DRAFTS + this.#user.id)) ?? {}));
    } catch {
      return new Map();
    }
  }

  /** Keeps what stands in the field, for the time after a reload. */
  #keepDraft(room) {
    if (room?.editing) room.editing.text = $("composer-text").value;
    else if (room) room.draft = $("composer-text").value;
    if (!this.#list.begun) return; // the other rooms have theirs still there
    const drafts = [...this.#rooms.values()].filter(({ draft }) => draft !== "" && draft.length <= MAX_DRAFT).slice(0, MAX_DRAFTS);
    try {
      const kept = storage("session");
      if (drafts.length === 0) kept.removeItem(DRAFTS + this.#user.id);
      else kept.setItem(DRAFTS + this.#user.id, JSON.stringify(Object.fromEntries(drafts.map(({ name, draft }) => [name, draft]))));
    } catch {
      // Without storage a reload loses it.
    }
  }

  #join(name) {
    const error = $("form-join").querySelector(".error");
    const bad = checkRoom(name);
    error.hidden = !bad;
    if (bad) {
      error.textContent = sentence(bad.message);
      $("join-name").focus();
      return;
    }
    $("form-join").reset();
    this.#add(name);
    this.#activate(name, { focus: true });
  }

  /**
   * Takes up one's rooms, as the server lists them. Where an older server keeps no list, they are those that this browser remembers.
   * As long as the list cannot be had, those are shown and not joined: one may have left them elsewhere.
   */
  async #takeUp() {
    const list = this.#list;
    if (list.asking) return;
    list.asking = true;
    list.left.clear();
    clearTimeout(list.timer);
    let mine = null;
    let failure = null;
    try {
      mine = await this.#mine();
    } catch (err) {
      failure = err.status === 404 ? null : err;
    }
    list.asking = false;
    if (this.#end.signal.aborted) return;
    if (failure) {
      list.timer = setTimeout(() => void this.#takeUp(), list.wait);
      list.wait = Math.min(2 * list.wait, LIST_LATEST);
      this.#begin({ asleep: true });
      return;
    }
    Object.assign(list, { taken: true, kept: mine !== null, wait: LIST_AGAIN });
    if (mine !== null) this.#takeList(mine);
    for (const room of this.#rooms.values()) this.#wake(room);
    this.#begin({ asleep: false });
  }

  /** The list of one's rooms, the one that was active last first. */
  async #mine() {
    const mine = new Map();
    let cursor;
    do {
      const page = await session.rooms({ cursor, limit: MY_ROOMS - mine.size, signal: this.#end.signal });
      for (const room of page.rooms) mine.set(room.room.normalize("NFC"), room);
      cursor = page.rooms.length > 0 ? page.next : undefined;
    } while (cursor && mine.size < MY_ROOMS);
    return [...mine.keys()].filter((name) => !checkRoom(name)).map((name) => mine.get(name));
  }

  #takeList(mine) {
    const listed = new Map(mine.map((room) => [room.room.normalize("NFC"), room]));
    for (const room of [...this.#rooms.values()]) if (room.asleep && !listed.has(room.name)) this.#drop(room);
    let before = null;
    for (const name of this.#list.left) listed.delete(name);
    for (const [name, { unread }] of [...listed].reverse()) {
      this.#add(name, { asleep: true, before });
      const room = this.#rooms.get(name);
      room.listed = unread;
      this.#showUnread(room);
      before = room.entry;
    }
  }

  /** Shows the rooms for the first time, and opens the one that was open last. */
  #begin({ asleep }) {
    const { saved, taken, kept } = this.#list;
    if (!this.#list.begun) {
      if (!kept) for (const name of saved.rooms) this.#add(name, { asleep });
      for (const message of saved.outgoing) {
        this.#add(message.room);
        this.#wake(this.#rooms.get(message.room));
        this.#outgoing(message);
      }
    }
    this.#list.begun = true;
    if (this.#active) {
      this.#save();
      return; // somebody was quicker
    }
    const place = addressed();
    const known = [place, saved.active].find((name) => this.#rooms.has(name)) ?? this.#names[0] ?? null;
    const invited = place !== null && !this.#rooms.has(place) ? place : null;
    const open = invited === null ? known : null;
    this.#activate(open, { focus: false, wake: false, invited, address: "replace" });
    if (!open && !taken && !invited) $("empty").hidden = true;
    if (!$("shell").contains(document.activeElement)) $(open ? "composer-text" : "join-lobby").focus({ preventScroll: true });
  }

  /** Goes where the address of the page leads to. */
  #visit() {
    const name = addressed();
    if (name === null || name === this.#active?.name) this.#address("replace"); // what stands before the rooms is no place of its own
    else if (this.#rooms.has(name)) this.#activate(name, { focus: false, address: "replace" });
    else this.#activate(null, { focus: true, invited: name, address: "replace" });
  }

  /** Lets the address of the page be that of the room that is shown. */
  #address(how) {
    const room = this.#active?.name ?? this.#invited;
    const address = room === null ? "/" : addressOf(room);
    if (address === location.pathname + location.search + location.hash || how === "keep") return;
    // The page without a room is nothing to go back to.
    if (how === "push" && addressed() !== null) history.pushState(null, "", address);
    else history.replaceState(null, "", address);
  }

  /** Joins a room that was only shown. */
  #wake(room) {
    if (!room.asleep) return;
    room.asleep = false;
    void this.#greet(room);
  }

  #add(name, { asleep = false, before = null } = {}) {
    if (this.#rooms.has(name)) return;
    const older = h("button", { type: "button", class: "quiet", onclick: () => void this.#loadOlder(room) }, "Load older messages");
    const badge = h("span", { class: "badge", hidden: true });
    const open = h("button", { type: "button", onclick: () => this.#activate(name, { focus: true }) }, h("span", { class: "hash", "aria-hidden": "true" }, isDirect(name) ? "@" : "#"), h("span", { class: "name" }, isDirect(name) ? "Direct messages" : name), badge);
    const room = {
      name,
      label: isDirect(name) ? "Direct messages" : name,
      items: h("ol", { class: "messages" }),
      top: h("div", { class: "older", hidden: true }, older),
      older,
      entry: h("li", { "data-room": name }, open),
      open,
      badge,
      first: 0, // the lowest sequence that is shown
      last: 0, // the highest
      newest: 0, // the highest that is known
      changed: new Map(), // sequence → {message, pending}: changes that are not drawn yet
      arrivals: [], // messages and notices that are not drawn yet
      detached: false, // the list ends before the newest message
      tail: [], // then: the newest messages
      loading: false,
      filled: false, // there are as many messages as a room has at first
      scroll: 0,
      outgoing: new Map(), // clientId → item
      members: new Map(),
      count: 0,
      asleep, // shown, and not joined
      listed: undefined, // how many messages are unread, by the list of the rooms
      news: false, // something came below what is seen
      opening: false, // it is being opened where it was read up to
      reading: false, // what is needed for that is being read
      split: null, // the divider stands behind this sequence
      divider: h("li", { class: "divider", "aria-live": "off" }, h("span", {}, "New messages")),
      marked: 0, // up to here it was said that it was read
      readers: new Map(), // id → {id, name, read}: the others
      seen: h("p", { class: "seen", "aria-live": "off" }),
      draft: String(this.#drafts().get(name) ?? ""),
      replyTo: null, // the message that is answered next
      editing: null, // {seq, text}: the message that is edited, and its text so far
      rover: null, // the message that Tab leads to
      asked: new Set(), // sequences of quoted messages that were asked for
      atEnd: true,
      top0: 0,
    };
    this.#rooms.set(name, room);
    $("room-list").insertBefore(room.entry, before);
    if (!asleep) void this.#greet(room);
    void this.#desk.label(name);
  }

  /** Calls a room something else than its name, where people read it. */
  #relabel(room, label) {
    if (!room) return;
    room.label = label;
    room.open.querySelector(".name").textContent = label;
    if (room === this.#active) {
      $("room-title").textContent = label;
      $("composer-text").placeholder = `Write to ${label}`;
    }
    this.#showTitle();
  }

  #leave(room) {
    if (!room) return;
    void this.#parley.leave(room.name).catch(async (err) => {
      if (err.code !== "last_owner") return; // the room is gone here in any case
      this.#add(room.name, { asleep: true });
      this.#activate(room.name, { focus: false, wake: false });
      const again = this.#rooms.get(room.name);
      again.asleep = false;
      await this.#greet(again); // so that the reason comes behind the messages
      this.#notice(again, sentence(err.message));
    });
  }

  #forgotten(name, error) {
    const room = this.#rooms.get(name);
    if (!room) return;
    for (const clientId of room.outgoing.keys()) this.#parley.discard(clientId);
    const open = room === this.#active;
    this.#drop(room);
    if (open) (this.#active ? $("room-title") : $("join-lobby")).focus();
    if (error.code !== "left") {
      if (open) this.#pane("rooms"); // where it is said, if not all is shown
      const note = $("form-join").querySelector(".error");
      note.textContent = error.code === "removed" ? `“${room.label}”: ${sentence(error.message)}` : `“${room.label}” was not joined: ${sentence(error.message)}`;
      note.hidden = false;
    }
  }

  /** Takes a room out of the list. */
  #drop(room) {
    this.#rooms.delete(room.name);
    this.#notices.forget(room.name);
    this.#desk.forget(room.name);
    this.#list.left.add(room.name);
    room.entry.remove();
    if (room === this.#active) {
      this.#active = null;
      this.#activate(this.#names[0] ?? null, { focus: false, wake: false, address: "replace" });
    }
    this.#keepDraft(null);
    this.#save();
    this.#showTitle();
  }

  /** Opens a room, or none. With invited, that room may be joined. */
  #activate(name, { focus, wake = true, invited = null, address = "push" }) {
    const field = $("composer-text");
    const log = $("log");
    this.#draw();
    if (this.#active && this.#active.name !== name) this.#divide(this.#active, null);
    if (this.#active) {
      this.#keepDraft(this.#active);
      this.#active.top0 = log.scrollTop;
      if (this.#active.atEnd) this.#trim(this.#active, RESTING);
      this.#parley.typing(this.#active.name, false);
    }
    const room = name === null ? null : this.#rooms.get(name);
    this.#active = room;
    this.#invited = invited;
    this.#address(address);
    for (const other of this.#rooms.values()) {
      if (other === room) other.open.setAttribute("aria-current", "page");
      else other.open.removeAttribute("aria-current");
    }
    for (const id of ["composer", "show-members", "leave-room", "log"]) $(id).hidden = !room;
    $("empty").hidden = Boolean(room);
    $("members").hidden = !room;
    $("room-title").textContent = room?.label ?? invited ?? "Welcome";
    this.#desk.show(room?.name ?? null, { joined: Boolean(room?.greeted) });
    const [, heading, hint, join] = $("empty").children;
    heading.textContent = invited === null ? "No room yet" : `You are not in “${invited}”`;
    hint.textContent = invited === null ? NO_ROOM : "Its members see who joins. If there is no such room yet, it begins with you.";
    join.textContent = invited === null ? "Join the lobby" : "Join the room";
    this.#hideTools();
    this.#quietly(() => log.replaceChildren(...(room ? [room.top, room.items, this.#bottom] : [])));
    this.#save();
    this.#showMembers(room);
    this.#showTyping(room?.name);
    this.#showTitle();
    if (!room) {
      if (invited !== null) this.#pane("chat");
      if (focus) join.focus({ preventScroll: true });
      return;
    }
    room.opening = true;
    if (wake) this.#wake(room);
    field.placeholder = `Write to ${room.label}`;
    this.#showContext(room);
    this.#rove(room);
    if (room.atEnd) this.#toEnd();
    else log.scrollTop = room.top0;
    this.#scrolled();
    void this.#openUnread(room);
    this.#askPresence(room);
    this.#pane("chat");
    if (focus) field.focus();
  }

  /** Changes the log without having it all read out by a screen reader. */
  #quietly(change) {
    const log = $("log");
    log.setAttribute("aria-live", "off");
    change();
    setTimeout(() => log.removeAttribute("aria-live"), 500);
  }

  /** What a narrow window shows. A wide one shows rooms and chat, and people on demand. */
  #pane(name) {
    $("shell").dataset.pane = name;
    $("show-members").setAttribute("aria-expanded", String(name === "members"));
  }

  #closeMembers() {
    this.#pane("chat");
    $("show-members").focus();
  }

  // -- messages --

  #received(message, live) {
    const room = this.#rooms.get(message.room);
    if (!room) return;
    room.newest = Math.max(room.newest, message.seq);
    this.#meet(message.user);
    if (message.user.id !== this.#user.id) {
      if (room.greeted && !(room === this.#active && room.atEnd)) room.news = true;
      if (room.greeted) this.#announce(room, message);
      this.#hasRead(room, message.user, message.seq);
    }
    this.#arrive(room, { message, live });
  }

  /** A role and a mute are said where they hold. Who is taken out is told by "forgotten"; who is taken in finds the room in the list. */
  #membership(change) {
    const { room: name, user: who, role, mutedUntil, reason } = change;
    const own = who.id === this.#user.id;
    if (own && role !== null && !this.#rooms.has(name)) {
      this.#add(name);
      if (change.by !== who.id && !isDirect(name)) this.#notice(this.#rooms.get(name), "You were invited");
      return;
    }
    const room = this.#rooms.get(name);
    if (!room) return;
    const before = this.#desk.role(name, who.id) ?? "member";
    this.#desk.changed(change);
    const text = role === before ? "" : told(change, this.#user.id);
    if (text) this.#notice(room, text);
    if (!own || role === null) return;
    if (!mutedUntil) {
      if (!text) this.#notice(room, "You can write here again");
      return;
    }
    const end = new Date(mutedUntil);
    this.#notice(room, `You cannot write here${end.getUTCFullYear() < 9999 ? ` until ${fullDate.format(end)}` : ""}${reason ? `: ${reason}` : ""}`);
  }

  #notice(room, text) {
    this.#arrive(room, { text, live: true });
  }

  #arrive(room, arrival) {
    const { message } = arrival;
    if (!room.detached) {
      room.arrivals.push(arrival);
    } else if (message) {
      this.#settled(room, message);
      room.tail.push(message);
      if (room.tail.length > TAIL) room.tail.shift();
    }
    this.#soon(room);
    if (room.arrivals.length >= 2 * MOST) this.#draw();
  }

  /** Draws what has come, all of it at once: a layout for each message would be too slow. */
  #soon(room) {
    const undrawn = this.#undrawn;
    if (room) undrawn.rooms.add(room);
    if (undrawn.frame || this.#end.signal.aborted) return;
    undrawn.frame = requestAnimationFrame(() => this.#draw());
    undrawn.timer = setTimeout(() => this.#draw(), DRAWN_BY); // a page that nobody sees has no pictures
  }

  #draw() {
    const undrawn = this.#undrawn;
    cancelAnimationFrame(undrawn.frame);
    clearTimeout(undrawn.timer);
    undrawn.frame = 0;
    const rooms = [...undrawn.rooms];
    undrawn.rooms.clear();
    for (const room of rooms) {
      this.#drawRoom(room);
      this.#showSeen(room);
      this.#showUnread(room);
    }
    if (undrawn.members) this.#showMembers(this.#active);
    undrawn.members = false;
    this.#look();
  }

  #drawRoom(room) {
    this.#drawChanges(room);
    // What was read from history meanwhile is there already.
    const arrivals = room.arrivals.splice(0).filter(({ message }) => !message || message.seq > room.last);
    if (arrivals.length === 0) return;
    if (!room.atEnd && arrivals.length >= MOST - this.#shown(room)) {
      // Somebody reads further up. What is read must not go away for what is new.
      this.#detach(room);
      for (const { message } of arrivals) if (message) this.#arrive(room, { message });
      this.#follow(room);
      return;
    }
    this.#divideMissed(room, arrivals);
    const add = () => {
      for (const { message } of arrivals) if (message) this.#settled(room, message);
      const items = arrivals.slice(-MOST).map((a) => (a.message ? this.#messageItem(a.message) : h("li", { class: "event" }, a.text)));
      const seqs = arrivals.filter((a) => a.message).map((a) => a.message.seq);
      room.first ||= seqs[0] ?? 0;
      room.last = seqs.at(-1) ?? room.last;
      this.#append(room, items);
      if (room.atEnd) this.#trim(room, room === this.#active ? MOST : RESTING);
      room.top.hidden = room.first <= 1;
    };
    if (arrivals.length > ALOUD || !arrivals.every((a) => a.live)) this.#quietly(add);
    else add();
    this.#rove(room);
    this.#follow(room);
  }

  /** A message has come, so it is not on its way any more. */
  #settled(room, { clientId }) {
    room.outgoing.get(clientId)?.remove();
    room.outgoing.delete(clientId);
  }

  #append(room, items) {
    const pending = room.detached ? undefined : room.outgoing.values().next().value;
    if (pending) pending.before(...items);
    else room.items.append(...items);
    for (const item of items) this.#group(item);
    this.#group(items.at(-1)?.nextElementSibling);
    this.#placeDivider(room);
  }

  /** How many messages and notices a list shows. What is on its way out stands behind them. */
  #shown(room) {
    return room.items.childElementCount - (room.detached ? 0 : room.outgoing.size);
  }

  /** Takes away the oldest from a list that is too long. */
  #trim(room, most) {
    let first = 0;
    for (let over = this.#shown(room) - most; over > 0; over--) {
      const item = room.items.firstElementChild;
      if (item.note) first = item.note.seq + 1;
      item.remove();
    }
    if (first === 0) return;
    const next = [...room.items.children].find((item) => item.note?.seq);
    room.first = next?.note.seq ?? first;
    room.top.hidden = room.first <= 1;
    this.#group(next);
  }

  /** Lets a list end where it ends: the newest messages are at hand, and not shown. */
  #detach(room) {
    if (room.detached) return;
    for (const item of room.outgoing.values()) item.remove();
    room.tail = [...room.items.children].map((item) => item.note?.message).filter(Boolean).slice(-TAIL);
    room.detached = true;
    room.atEnd = false;
  }

  /** Shows the newest messages again. */
  #attach(room) {
    if (!room?.detached) return;
    const messages = room.tail;
    this.#attached(room);
    this.#quietly(() => {
      room.items.replaceChildren();
      room.first = messages[0]?.seq ?? 0;
      room.last = messages.at(-1)?.seq ?? 0;
      this.#append(room, messages.map((m) => this.#messageItem(m)));
      room.items.append(...room.outgoing.values());
      for (const item of room.outgoing.values()) this.#group(item);
      room.top.hidden = room.first <= 1;
    });
    this.#rove(room);
    room.atEnd = true;
    this.#showSeen(room);
    this.#look();
  }

  #attached(room) {
    room.detached = false;
    room.tail = [];
  }

  /** Changes a list, and what is seen of it stays where it is. What a screen reader passes over anyway may be changed aloud. */
  #anchored(room, change, aloud = false) {
    const log = $("log");
    const top = log.getBoundingClientRect().top;
    const anchor = room === this.#active && [...room.items.children].find((item) => item.getBoundingClientRect().bottom > top);
    const before = anchor && anchor.getBoundingClientRect().top;
    if (aloud) change();
    else this.#quietly(change);
    if (anchor?.isConnected) log.scrollTop += anchor.getBoundingClientRect().top - before;
    if (room === this.#active) room.scroll = log.scrollTop;
  }

  #messageItem(message) {
    const item = this.#item({ user: message.user, at: new Date(message.at) });
    Object.assign(item.note, { seq: message.seq, message });
    this.#fill(item);
    return item;
  }

  #item({ user, at }) {
    const mine = user.id === this.#user.id;
    const item = h(
      "li",
      { class: mine ? "message own" : "message" },
      h("div", { class: "day" }, h("span", {}, dayOf(at))),
      mine ? null : avatar(user),
      h("div", { class: "body" }, h("div", { class: "head" }, h("span", { class: mine ? "unseen" : "author" }, mine ? "You" : user.name)), h("div", { class: "bubble" })),
    );
    item.note = { author: user.id, at, pending: false, problem: null, said: null, told: null };
    return item;
  }

  /** Shows in an item what its message says now. What is as before stays: somebody may be clicking on it, or have selected it. */
  #fill(item) {
    const { message, at, pending, problem } = item.note;
    const room = this.#rooms.get(message.room);
    const focused = item.contains(document.activeElement) && document.activeElement;
    const key = focused && focused.dataset.key;
    const body = item.querySelector(".body");
    const said = JSON.stringify([message.text, message.replyTo, message.editedAt, message.deletedAt]);
    if (item.note.said !== said) this.#write(item, { ...message, at });
    this.#showReactions(item, room);
    if (item.note.told !== problem) {
      body.querySelector(".status")?.remove();
      if (problem) [...body.querySelectorAll(".bubble, .reactions")].at(-1).after(this.#problem(item));
    }
    Object.assign(item.note, { said, told: problem });
    item.classList.toggle("changing", pending);
    if (this.#tools.isConnected && item.contains(this.#tools)) {
      if (message.deletedAt) this.#hideTools();
      else this.#placeTools(item);
    }
    this.#reach(item, item === room?.rover);
    if (!focused || item.contains(document.activeElement)) return;
    const chip = key && [...body.querySelectorAll(".reactions button")].find((button) => button.dataset.key === key);
    (chip || item).focus({ preventScroll: true });
  }

  /** Writes the bubble of a message, or of one that is on its way out. */
  #write(item, { room, text, at, replyTo, editedAt, deletedAt }) {
    const time = h("time", { datetime: at.toISOString(), title: fullDate.format(at) }, clock.format(at));
    const edited = editedAt && new Date(editedAt);
    const end = h("span", { class: "when" }, edited ? h("span", { class: "edited", title: `Edited ${fullDate.format(edited)}` }, "edited") : null, time);
    item.classList.toggle("deleted", Boolean(deletedAt));
    item.classList.toggle("answer", Boolean(replyTo));
    item
      .querySelector(".bubble")
      .replaceChildren(
        ...[replyTo ? this.#quote(room, replyTo) : null, deletedAt ? h("p", {}, "This message was deleted") : h("p", { dir: "auto" }, ...linked(text)), end].filter(Boolean),
      );
  }

  /** The line of the message that another one answers. */
  #quote(name, seq) {
    const message = this.#parley.message(name, seq);
    const author = message && (message.user.id === this.#user.id ? "You" : message.user.name);
    const text = !message ? "an earlier message" : message.deletedAt ? "deleted message" : start(message.text);
    if (!message) void this.#lookUp(this.#rooms.get(name), seq);
    return h(
      "button",
      { type: "button", class: message && !message.deletedAt ? "quote" : "quote faint", onclick: () => void this.#jump(this.#rooms.get(name), seq) },
      h("span", { class: "unseen" }, "In reply to "),
      ...(author ? [h("strong", {}, author), " "] : []),
      h("span", { dir: "auto" }, text),
    );
  }

  /** Reads a message that is quoted and was not read yet, once. */
  async #lookUp(room, seq) {
    if (!room || room.asked.has(seq)) return;
    room.asked.add(seq);
    try {
      await this.#parley.history(room.name, { before: seq + 1, limit: 1 });
      if (this.#parley.message(room.name, seq)) this.#requote(room, seq);
    } catch {
      room.asked.delete(seq); // without a connection: the next time
    }
  }

  /** Writes the quotations of a message anew. */
  #requote(room, seq) {
    for (const item of room.items.children) {
      if (item.note?.message?.replyTo !== seq) continue;
      const former = item.querySelector(".quote");
      const focused = former?.contains(document.activeElement);
      former?.replaceWith(this.#quote(room.name, seq));
      this.#reach(item, item === room.rover);
      if (focused) item.querySelector(".quote").focus({ preventScroll: true });
    }
    if (room === this.#active && room.replyTo === seq) this.#showContext(room);
  }

  /** Leads to a message, which may have to be read first. */
  async #jump(room, seq) {
    if (!room) return;
    for (let page = 0; !this.#find(room, seq) && page < JUMP_PAGES && room.first > seq && !room.loading; page++) await this.#loadOlder(room);
    const item = this.#find(room, seq);
    if (!item || room !== this.#active) return;
    room.atEnd = false;
    item.scrollIntoView({ block: "center" });
    item.focus({ preventScroll: true });
    item.classList.remove("found");
    void item.offsetWidth; // so that it is seen again
    item.classList.add("found");
  }

  #showReactions(item, room) {
    const { reactions = [], user } = item.note.message;
    let group = item.querySelector(".reactions");
    if (reactions.length === 0) {
      group?.remove();
      return;
    }
    if (!group) {
      group = h("div", { class: "reactions", role: "group", "aria-label": "Reactions", "aria-live": "off" });
      item.querySelector(".bubble").after(group);
    }
    const name = (id) => (id === this.#user.id ? "you" : (id === user.id ? user : room?.members.get(id))?.name);
    const chips = reactions.map(({ key, count, users }) => {
      const known = [...group.children].find((chip) => chip.dataset.key === key);
      const chip = known ?? h("button", { type: "button", "data-key": key, onclick: () => this.#react(item, key) }, h("span", {}, key), "0");
      const who = users.map(name).filter(Boolean);
      if (who.length > 0 && count > who.length) who.push(`${(count - who.length).toLocaleString()} more`);
      chip.lastChild.data = count.toLocaleString();
      chip.title = who.join(", ");
      chip.setAttribute("aria-pressed", String(users.includes(this.#user.id)));
      chip.setAttribute("aria-label", `${key}, ${count === 1 ? "1 person" : `${count.toLocaleString()} people`}`);
      return chip;
    });
    if (chips.length !== group.childElementCount || chips.some((chip, i) => chip !== group.children[i])) group.replaceChildren(...chips);
  }

  /** Whether one has reacted so to a message. */
  #reacted(item, key) {
    return Boolean(item.note.message.reactions?.some((r) => r.key === key && r.users.includes(this.#user.id)));
  }

  /** Reacts to a message, or takes that back. */
  #react(item, key) {
    const { room, seq } = item.note.message;
    this.#parley.react(room, seq, key, !this.#reacted(item, key)).catch(() => {}); // "change" tells
  }

  #problem(item) {
    const { problem, message } = item.note;
    const room = this.#rooms.get(message.room);
    const again = problem.kind === "edit" && !message.deletedAt;
    const leave = () => {
      item.note.problem = null;
      this.#fill(item);
      $("composer-text").focus();
    };
    const resume = () => {
      item.note.problem = null;
      this.#fill(item);
      this.#edit(room, message, problem.text);
    };
    const what = { edit: "Not changed.", delete: "Not deleted.", react: "That did not work." }[problem.kind];
    return h(
      "p",
      { class: "status bad", role: "alert" },
      `${what} ${sentence(problem.error.message)} `,
      again ? h("button", { type: "button", class: "plain", onclick: resume }, "Edit again") : null,
      again ? " " : null,
      h("button", { type: "button", class: "plain", onclick: leave }, again ? "Discard" : "OK"),
    );
  }

  // -- what is done with messages --

  /** A message is another than it was. */
  #changed({ message, pending }) {
    const room = this.#rooms.get(message.room);
    if (!room) return;
    for (const arrival of room.arrivals) if (arrival.message?.seq === message.seq) arrival.message = message;
    const held = room.tail.findIndex(({ seq }) => seq === message.seq);
    if (held >= 0) room.tail[held] = message;
    if (message.deletedAt && room.editing?.seq === message.seq && !pending) this.#leaveContext(room);
    room.changed.set(message.seq, { message, pending });
    this.#soon(room);
  }

  /** Draws what has changed, all of it at once. */
  #drawChanges(room) {
    if (room.changed.size === 0) return;
    const changed = new Map(room.changed);
    room.changed.clear();
    const draw = () => {
      for (const item of room.items.children) {
        const change = changed.get(item.note?.seq);
        if (!change) continue;
        Object.assign(item.note, change);
        this.#fill(item);
      }
      for (const seq of changed.keys()) this.#requote(room, seq);
    };
    if (room === this.#active && !room.atEnd) this.#anchored(room, draw);
    else this.#quietly(draw);
    this.#follow(room);
  }

  /** How it goes with a change of one's own. */
  #change(change) {
    const room = this.#rooms.get(change.room);
    const item = room && this.#find(room, change.seq);
    if (!item || change.state === "sent") return;
    item.note.problem = change.state === "failed" ? change : null;
    this.#fill(item);
    this.#follow(room);
  }

  #find(room, seq) {
    return [...room.items.children].find(({ note }) => note?.seq === seq);
  }

  /** Keeps one message of the list within reach of Tab: the one that had the focus last, or the newest. */
  #rove(room, item) {
    if (!room || room !== this.#active) return;
    if (!item && room.rover?.contains(document.activeElement)) return;
    item ??= [...room.items.children].findLast(({ note }) => note?.seq);
    if (item === room.rover) return;
    if (room.rover) this.#reach(room.rover, false);
    if (item) this.#reach(item, true);
    room.rover = item ?? null;
  }

  /** Tab leads to one message and what is in it, not to all that stand in the list. */
  #reach(item, on) {
    for (const node of [item, ...item.querySelectorAll(".bubble a, .quote, .reactions button")]) node.tabIndex = on ? 0 : -1;
  }

  #logKey(event, item) {
    if (!item || event.ctrlKey || event.metaKey || event.altKey || composing(event)) return;
    const inTools = this.#tools.contains(event.target);
    if (event.key === "Escape") {
      event.stopPropagation();
      if (inTools && this.#tools.dataset.of !== "all") this.#showTools(item, "all");
      else $("composer-text").focus();
    } else if (inTools && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      event.preventDefault();
      const buttons = [...this.#tools.querySelectorAll("button")];
      const at = buttons.indexOf(event.target) + (event.key === "ArrowRight" ? 1 : -1);
      buttons.at(at % buttons.length).focus();
    } else if (event.target === item && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      const up = event.key === "ArrowUp";
      const room = this.#active;
      const older = up && !room.top.hidden;
      if (this.#step(item, up) || older) event.preventDefault();
      if (document.activeElement === item && older) {
        void this.#loadOlder(room).then(() => document.activeElement === item && this.#step(item, up));
      }
    }
  }

  /** Leads from a message to the one before or after it, if there is one. */
  #step(item, up) {
    let next = item;
    do next = up ? next.previousElementSibling : next.nextElementSibling;
    while (next && !next.note?.seq);
    next?.focus({ preventScroll: true });
    next?.scrollIntoView({ block: "nearest" });
    return Boolean(next);
  }

  /** Offers in an item what can be done with its message: all of it, what to react with, or whether it is really to be deleted. */
  #showTools(item, of = "all") {
    const tools = this.#tools;
    const message = item?.note?.message;
    if (!message || message.deletedAt) {
      if (item) this.#hideTools();
      return;
    }
    const room = this.#rooms.get(message.room);
    if (item.contains(tools) && tools.dataset.of === of) return;
    const focused = tools.contains(document.activeElement);
    const mine = message.user.id === this.#user.id;
    const whose = mine ? "your message" : `the message of ${message.user.name}`;
    const button = (label, onclick, ...content) => h("button", { type: "button", "aria-label": label, title: label, onclick }, ...content);
    const parts = {
      all: () => [
        button(`Reply to ${whose}`, () => this.#reply(room, message), icon("reply")),
        button(`React to ${whose}`, () => this.#showTools(item, "react"), icon("smile")),
        mine ? button("Edit your message", () => this.#edit(room, message), icon("edit")) : null,
        mine || this.#desk.moderates(room.name) ? button(`Delete ${whose}`, () => this.#showTools(item, "delete"), icon("trash")) : null,
      ],
      react: () =>
        EMOJI.map(([key, name]) => {
          const choose = () => {
            this.#hideTools();
            item.focus({ preventScroll: true });
            this.#react(item, key);
          };
          return button(`${this.#reacted(item, key) ? "Take back" : "React with"} ${name}`, choose, h("span", { class: "emoji" }, key));
        }),
      delete: () => [
        h("span", { class: "ask" }, "Delete it?"),
        h("button", { type: "button", class: "sure", onclick: () => this.#delete(room, message) }, "Delete"),
        h("button", { type: "button", onclick: () => this.#showTools(item, "all") }, "Keep"),
      ],
    };
    tools.dataset.of = of;
    tools.setAttribute("aria-label", { all: `For ${whose}`, react: `React to ${whose}`, delete: `Delete ${whose}?` }[of]);
    tools.replaceChildren(...parts[of]().filter(Boolean));
    item.querySelector(".body").append(tools);
    this.#placeTools(item);
    if (focused) [...tools.querySelectorAll("button")].at(of === "delete" ? -1 : 0).focus({ preventScroll: true });
  }

  /** Puts the tools beside the bubble, or over its upper corner where there is no room. */
  #placeTools(item) {
    const [whole, body, bubble] = [item, ...item.querySelectorAll(".body, .bubble")].map((node) => node.getBoundingClientRect());
    const tools = this.#tools;
    const beside = item.matches(".own") ? bubble.left - tools.offsetWidth - BESIDE : bubble.right + BESIDE;
    const left = Math.max(Math.min(beside, whole.right - tools.offsetWidth), whole.left);
    const top = left === beside ? bubble.top : Math.max(bubble.top - 0.75 * tools.offsetHeight, $("log").getBoundingClientRect().top);
    tools.style.left = `${left - body.left}px`;
    tools.style.top = `${top - body.top}px`;
  }

  #hideTools(of) {
    if (of && !of.contains(this.#tools)) return;
    this.#tools.remove();
  }

  #delete(room, { seq }) {
    this.#hideTools();
    $("composer-text").focus({ preventScroll: true });
    this.#parley.delete(room.name, seq).catch(() => {}); // "change" tells
  }

  #reply(room, { seq }) {
    if (room.editing) this.#leaveContext(room);
    this.#hideTools();
    room.replyTo = seq;
    this.#showContext(room);
    $("composer-text").focus({ preventScroll: true });
  }

  #edit(room, { seq }, text) {
    this.#keepDraft(room);
    this.#hideTools();
    room.editing = { seq, text: text ?? this.#parley.message(room.name, seq)?.text ?? this.#find(room, seq)?.note.message.text ?? "" };
    this.#showContext(room);
    const field = $("composer-text");
    field.focus({ preventScroll: true });
    field.setSelectionRange(field.value.length, field.value.length);
  }

  /** Ends editing, or else replying. What was written before is there again. */
  #leaveContext(room) {
    if (!room) return;
    if (room.editing) room.editing = null;
    else room.replyTo = null;
    if (room === this.#active) this.#showContext(room);
  }

  /** Shows what stands in the field, and what becomes of it. */
  #showContext(room) {
    const { editing, replyTo } = room;
    const about = $("about");
    const [icons, text] = about.children;
    about.hidden = !editing && !replyTo;
    const edits = Boolean(editing);
    $("composer").querySelector(".send").setAttribute("aria-label", edits ? "Save" : "Send");
    about.querySelector("button").setAttribute("aria-label", edits ? "Stop editing" : "Do not reply");
    if (edits) {
      icons.replaceChildren(icon("edit"));
      text.replaceChildren("You edit your message");
    } else if (replyTo) {
      const message = this.#parley.message(room.name, replyTo);
      icons.replaceChildren(icon("reply"));
      const whom = message?.user.id === this.#user.id ? "yourself" : (message?.user.name ?? "a message");
      text.replaceChildren("Reply to ", h("strong", {}, whom), " ", h("span", { dir: "auto" }, message?.deletedAt ? "deleted message" : start(message?.text ?? "")));
    }
    const field = $("composer-text");
    const now = editing ? editing.text : room.draft;
    if (field.value !== now) field.value = now;
    this.#fitField();
  }

  /** Sets what depends on the item before: the day and the author are said once. */
  #group(item) {
    if (!item?.note) return;
    let before = item.previousElementSibling;
    const next = before?.note;
    while (before && !before.note) before = before.previousElementSibling;
    const newDay = before?.note.at.toDateString() !== item.note.at.toDateString();
    const follows = !newDay && next?.author === item.note.author && item.note.at - next.at < GROUP;
    item.classList.toggle("new-day", newDay);
    item.classList.toggle("follows", follows);
  }

  #redate() {
    for (const room of this.#rooms.values()) {
      for (const item of room.items.children) {
        if (item.note) item.querySelector(".day span").textContent = dayOf(item.note.at);
      }
    }
  }

  #send() {
    const field = $("composer-text");
    const text = field.value.trim();
    const room = this.#active;
    if (!room || text === "" || checkText(text)) return;
    if (this.#parley.state === "closed") this.#parley.connect();
    if (room.editing) {
      const { seq } = room.editing;
      this.#leaveContext(room);
      if (this.#parley.message(room.name, seq)?.text !== text) this.#parley.edit(room.name, seq, text).catch(() => {}); // "change" tells
      return;
    }
    const { replyTo } = room;
    field.value = "";
    this.#keepDraft(room);
    if (replyTo) this.#leaveContext(room);
    this.#draw();
    this.#attach(room);
    room.atEnd = true;
    this.#divide(room, null);
    this.#wake(room);
    this.#fitField();
    this.#parley.send(room.name, text, replyTo ? { replyTo } : {}).catch(() => {}); // "outgoing" tells
    this.#toEnd();
  }

  #outgoing({ room: name, clientId, text, replyTo, at, state, error, ack }) {
    const room = this.#rooms.get(name);
    if (!room) return;
    if (ack && ack.seq <= room.newest) {
      // It was stored before the page was loaded, and stands further up.
      this.#settled(room, { clientId });
      return;
    }
    const former = room.outgoing.get(clientId);
    const item = this.#item({ user: { id: this.#user.id, name: this.#user.fullName }, at });
    this.#write(item, { room: name, text, at, replyTo });
    const status = h("p", { class: "status" });
    item.classList.add(state);
    item.querySelector(".body").append(status);
    if (state === "pending") status.append("Sending…");
    if (state === "failed") {
      status.setAttribute("role", "alert");
      status.append(
        `Not sent. ${sentence(error.message)} `,
        h("button", { type: "button", class: "plain", onclick: () => this.#retry(clientId) }, "Try again"),
        " ",
        h("button", { type: "button", class: "plain", onclick: () => this.#discard(room, clientId) }, "Discard"),
      );
    }
    if (former) former.replaceWith(item);
    else if (!room.detached) room.items.append(item);
    room.outgoing.set(clientId, item);
    this.#group(item);
    this.#follow(room);
  }

  #retry(clientId) {
    if (this.#parley.state === "closed") this.#parley.connect();
    this.#parley.retry(clientId).catch(() => {}); // "outgoing" tells
    $("composer-text").focus();
  }

  #discard(room, clientId) {
    this.#parley.discard(clientId);
    room.outgoing.get(clientId)?.remove();
    room.outgoing.delete(clientId);
    $("composer-text").focus();
  }

  /** Reads what comes before the list. Reports whether that worked. */
  async #loadOlder(room, { limit = PAGE, told = true } = {}) {
    if (room.loading) return false;
    room.loading = true;
    room.older.setAttribute("aria-disabled", "true");
    room.older.textContent = "Loading…";
    try {
      this.#draw();
      const before = room.first;
      const { messages, more } = await this.#parley.history(room.name, { before, limit });
      this.#draw();
      if (room.first === before) {
        const focused = document.activeElement === room.older;
        this.#anchored(room, () => {
          const items = messages.map((m) => this.#messageItem(m));
          room.items.prepend(...items);
          for (const item of items) this.#group(item);
          this.#group(items.at(-1)?.nextElementSibling);
          room.first = messages[0]?.seq ?? room.first;
          room.top.hidden = !more || messages.length === 0;
          this.#placeDivider(room);
          this.#cut(room);
        });
        this.#showSeen(room);
        this.#rove(room);
        if (room.top.hidden && focused) $("log").focus({ preventScroll: true });
        if (told && room === this.#active) this.#tell(messages);
      }
      room.older.textContent = "Load older messages";
      return true;
    } catch {
      room.older.textContent = "That did not work. Try again";
      return false;
    } finally {
      room.older.removeAttribute("aria-disabled");
      room.loading = false;
      this.#continueDown(room); // somebody may have gone there meanwhile
    }
  }

  /** Says that older messages stand there now: a screen reader passes over them. */
  #tell([first, ...rest]) {
    const told = $("told");
    if (!first) {
      told.textContent = "There are no older messages";
      return;
    }
    const at = new Date(first.at);
    told.textContent = `${rest.length + 1} older ${rest.length > 0 ? "messages" : "message"}, from ${dayOf(at)}, ${clock.format(at)}`;
  }

  /** Takes away the newest from a list that is too long. */
  #cut(room) {
    const over = this.#shown(room) - MOST;
    if (over <= 0) return;
    this.#detach(room);
    for (let i = 0; i < over; i++) room.items.lastElementChild.remove();
    const last = [...room.items.children].findLast((item) => item.note?.seq);
    room.last = last?.note.seq ?? room.first;
  }

  /** Goes on towards the newest messages in a list that ends before them. */
  async #loadNewer(room) {
    if (room.loading || !room.detached) return;
    room.loading = true;
    let more = false;
    try {
      const { last } = room;
      const near = room.tail.length === 0 || room.tail[0].seq <= last + 1;
      const messages = near ? room.tail : (await this.#parley.history(room.name, { after: last, limit: PAGE })).messages;
      if (!room.detached || room.last !== last) return;
      const fresh = messages.filter((m) => m.seq > last);
      this.#anchored(room, () => {
        this.#append(room, fresh.map((m) => this.#messageItem(m)));
        // What is no longer stored does not come, and the rest is at hand.
        room.last = fresh.at(-1)?.seq ?? (room.tail[0]?.seq ?? 1) - 1;
        if (room.last >= (room.tail.at(-1)?.seq ?? 0)) {
          this.#attached(room);
          room.items.append(...room.outgoing.values());
          for (const item of room.outgoing.values()) this.#group(item);
        }
        this.#trim(room, MOST);
      });
      this.#rove(room);
      this.#showSeen(room);
      if (room === this.#active) this.#scrolled();
      more = true;
    } catch {
      // Without a connection the list ends here. "New messages" leads to what is at hand.
    } finally {
      room.loading = false;
    }
    if (more) this.#continueDown(room);
  }

  #lost({ room: name, restarted }) {
    const room = this.#rooms.get(name);
    if (!room) return;
    if (restarted) {
      this.#attached(room);
      Object.assign(room, { changed: new Map(), arrivals: [], first: 0, last: 0, newest: 0, replyTo: null, editing: null, asked: new Set() });
      Object.assign(room, { split: null, marked: 0, readers: new Map() });
      if (room === this.#active) this.#showContext(room);
      room.items.replaceChildren(...room.outgoing.values());
    }
    this.#notice(room, restarted ? "The room has begun anew" : "Some messages here are no longer kept");
  }

  // -- people --

  /** Remembers somebody's name, for invitations. */
  #meet({ id, name }) {
    if (this.#met.size < MET || this.#met.has(id)) this.#met.set(id, { id, name });
  }

  #cameOrLeft(name, who, here) {
    this.#meet(who);
    const room = this.#rooms.get(name);
    if (!room || who.id === this.#user.id) return;
    if (room.members.has(who.id) !== here) room.count += here ? 1 : -1;
    if (here) room.members.set(who.id, who);
    else room.members.delete(who.id);
    this.#notice(room, `${who.name} ${here ? "joined" : "left"}`);
    if (room === this.#active) this.#undrawn.members = true;
  }

  async #askPresence(room) {
    if (!room || this.#parley.state !== "open" || !room.greeted) return;
    try {
      const { members, count } = await this.#parley.presence(room.name);
      room.members = new Map(members.map((member) => [member.id, member]));
      members.forEach((member) => this.#meet(member));
      room.count = count;
      if (room === this.#active) this.#showMembers(room);
    } catch {
      // Asked again soon.
    }
  }

  #showMembers(room) {
    if (!room) return;
    $("member-count").textContent = room.count ? room.count.toLocaleString() : "–";
    const own = (member) => member.id === this.#user.id;
    const members = [...room.members.values()].sort((a, b) => own(b) - own(a) || a.name.localeCompare(b.name));
    $("member-list").replaceChildren(
      ...members.map((m) => h("li", {}, avatar(m), h("span", { class: "name" }, m.name), own(m) ? h("span", { class: "hint" }, "you") : null)),
    );
    const rest = room.count - members.length;
    $("member-rest").textContent = rest > 0 ? `and ${rest.toLocaleString()} more` : "";
  }

  #showTyping(name) {
    if (name !== this.#active?.name) return;
    const names = name === undefined ? [] : this.#parley.typists(name).filter((u) => u.id !== this.#user.id).map((u) => u.name);
    const texts = ["", `${names[0]} is typing`, `${names[0]} and ${names[1]} are typing`];
    const line = $("typing");
    line.replaceChildren(texts[names.length] ?? `${names.length} people are typing`);
    if (names.length > 0) line.append(h("span", { class: "dots", "aria-hidden": "true" }, h("i"), h("i"), h("i")));
  }

  // -- the connection --

  #stateChanged({ state, code, retryIn = 0 }) {
    const banner = this.#banner;
    if (state !== "connecting") clearInterval(banner.timer);
    switch (state) {
      case "open":
        if (banner.broken) {
          this.#showBanner("Connected again", { tone: "good" });
          banner.timer = setTimeout(() => this.#showBanner(""), 2_500);
        } else {
          this.#showBanner("");
        }
        banner.broken = false;
        for (const room of this.#rooms.values()) if (!room.asleep) void this.#greet(room);
        // Meanwhile other rooms may have been joined elsewhere.
        if (this.#list.opened || !this.#list.taken) void this.#takeUp();
        this.#list.opened = true;
        return;
      case "connecting":
        if (banner.broken) {
          clearInterval(banner.timer);
          this.#showBanner("Connecting…");
        }
        return;
      case "offline":
        banner.broken = true;
        this.#showBanner("You are offline. What you write is sent when you are back.");
        return;
      case "waiting": {
        const at = now() + retryIn;
        if (retryIn < BRIEF && !banner.broken) {
          // Most interruptions are over before anybody would have read about them.
          banner.timer = setTimeout(() => {
            banner.broken = true;
            this.#showBanner("Connection lost. Reconnecting…");
          }, BRIEF);
          return;
        }
        banner.broken = true;
        const show = () => this.#showBanner("Connection lost.", { action: `Try now (${Math.max(Math.ceil((at - now()) / 1000), 0)} s)` });
        show();
        banner.timer = setInterval(show, 1_000);
        return;
      }
      case "closed":
        banner.broken = true;
        if (session.user) this.#showBanner(CLOSED[code] ?? "The server ended the connection.", { tone: "bad", action: "Connect again" });
    }
  }

  #showBanner(text, { tone = "", action = "" } = {}) {
    const banner = $("banner");
    const [span, button] = banner.children;
    banner.dataset.tone = tone;
    banner.classList.toggle("shown", text !== "");
    // Text that stays is not written again: it would be read out each second.
    if (span.textContent !== text) span.textContent = text;
    button.textContent = action;
    button.hidden = action === "";
  }

  /** After a room was joined: from now on its messages are news. */
  async #greet(room) {
    try {
      await this.#parley.join(room.name);
    } catch {
      return; // "forgotten" tells
    }
    room.greeted = true;
    room.items.classList.add("ready");
    if (room === this.#active) {
      void this.#openUnread(room);
      this.#desk.show(room.name, { joined: true });
    }
    await this.#askPresence(room);
  }

  /** A room is joined again on the connection there is: who came and went meanwhile was not told. */
  #joinedAgain(name) {
    const room = this.#rooms.get(name);
    if (room) void this.#greet(room);
  }

  // -- what is seen --

  #follow(room) {
    if (room !== this.#active) return;
    if (room.atEnd) this.#toEnd();
    else this.#scrolled();
  }

  #toEnd() {
    const log = $("log");
    log.scrollTop = log.scrollHeight;
  }

  #scrolled() {
    const room = this.#active;
    if (!room) return;
    const log = $("log");
    room.atEnd = !room.detached && log.scrollHeight - log.scrollTop - log.clientHeight < 48;
    if (room.atEnd) room.news = false;
    $("to-end").hidden = room.atEnd;
    $("to-end").classList.toggle("news", room.news || this.#unread(room) > 0);
    this.#look(); // the end of the list may be another than it was, although it is seen as before
  }

  /** Continues the list where somebody scrolls to. */
  #continue() {
    const room = this.#active;
    if (!room) return;
    const log = $("log");
    const up = log.scrollTop < room.scroll;
    room.scroll = log.scrollTop;
    if (up && !room.atEnd && log.scrollTop < NEAR && !room.top.hidden) void this.#loadOlder(room);
    else if (!up) this.#continueDown(room);
  }

  #continueDown(room) {
    const log = $("log");
    if (room === this.#active && log.scrollHeight - log.scrollTop - log.clientHeight < NEAR) void this.#loadNewer(room);
  }

  // -- what is read --

  /** Whether somebody can be looking. */
  get #attentive() {
    return !document.hidden && document.hasFocus();
  }

  /** Marks the open room as read when somebody has looked at its end for a moment. */
  #look() {
    const glance = this.#glance;
    const room = this.#active;
    const looks = room?.greeted && !room.opening && !room.detached && glance.end && this.#attentive;
    if (looks && glance.timer && glance.room === room) return;
    clearTimeout(glance.timer);
    Object.assign(glance, { room, timer: 0 });
    if (!looks) return;
    const seen = room.last;
    const read = this.#parley.read(room.name); // undefined: the server knows no marks
    if (read === undefined || seen <= Math.max(read, room.marked)) return;
    glance.timer = setTimeout(() => {
      glance.timer = 0;
      room.marked = seen;
      this.#parley.mark(room.name, seen).catch(() => {}); // the count stays as it is
      this.#look(); // more may have come meanwhile
    }, GLANCE);
  }

  #unread(room) {
    return this.#parley.unread(room.name) ?? room.listed ?? 0;
  }

  #showUnread(room) {
    const unread = this.#unread(room);
    const text = unread > 99 ? "99+" : String(unread);
    room.badge.hidden = unread === 0;
    if (unread === 0) this.#notices.forget(room.name);
    if (room.badge.firstChild?.data !== text) room.badge.replaceChildren(text, h("span", { class: "unseen" }, " unread"));
    if (room === this.#active) $("to-end").classList.toggle("news", room.news || unread > 0);
    this.#showTitle();
  }

  #showTitle() {
    let unread = 0;
    for (const room of this.#rooms.values()) unread += this.#unread(room);
    const room = this.#active?.label ?? this.#invited;
    const name = room === null ? product : `${room} – ${product}`;
    const title = unread > 0 ? `(${unread}) ${name}` : name;
    if (document.title !== title) document.title = title;
  }

  /** Opens a room where it was read up to, once that is known. */
  async #openUnread(room) {
    if (!room.opening || !room.greeted || room.reading) return;
    room.reading = true;
    await this.#openRead(room);
    room.reading = false;
  }

  async #openRead(room) {
    this.#draw();
    await this.#fillUp(room);
    if (room !== this.#active || !room.opening) return;
    const read = this.#parley.read(room.name);
    const unread = this.#parley.unread(room.name) ?? room.listed ?? 1;
    if (read !== undefined && read < room.newest && unread > 0) {
      this.#attach(room);
      if (room.first > read + 1) await this.#loadUnread(room, read);
      if (room !== this.#active || !room.opening) return;
      this.#divide(room, read);
      if (room.divider.isConnected) {
        const log = $("log");
        log.scrollTop += room.divider.getBoundingClientRect().top - log.getBoundingClientRect().top - log.clientHeight / 5;
        this.#rove(room, room.divider.nextElementSibling);
      }
    }
    room.opening = false;
    this.#scrolled();
    this.#continueDown(room);
  }

  /** Reads so much of a room that was just joined as a room has at first: joining tells the last few messages alone. */
  async #fillUp(room) {
    const missing = PAGE - [...room.items.children].filter(({ note }) => note?.seq).length;
    if (room.filled || room.detached || room.loading || missing <= 0 || room.first <= 1) return;
    room.filled = await this.#loadOlder(room, { limit: missing, told: false });
  }

  /** Reads what comes around the end of what was read, where that is further up than the list begins. */
  async #loadUnread(room, read) {
    if (room.loading) return;
    room.loading = true;
    try {
      const { messages } = await this.#parley.history(room.name, { after: Math.max(read - CONTEXT, 0), limit: PAGE });
      this.#draw();
      const before = messages.filter(({ seq }) => seq < room.first);
      if (!room.opening || room.detached || before.length === 0) return;
      this.#quietly(() => {
        const items = before.map((m) => this.#messageItem(m));
        if (before.length === messages.length && before.at(-1).seq < room.first - 1) {
          // The list does not reach up to there: for now it ends before the newest messages.
          this.#detach(room);
          room.items.replaceChildren();
          room.last = before.at(-1).seq;
        }
        room.items.prepend(...items);
        for (const item of items) this.#group(item);
        this.#group(items.at(-1).nextElementSibling);
        room.first = before[0].seq;
        room.top.hidden = room.first <= 1;
      });
    } catch {
      // Without a connection the list begins where it begins.
    } finally {
      room.loading = false;
    }
  }

  /** Divides a list into what was read up to a sequence and what is new; null: it is not divided. */
  #divide(room, read) {
    room.split = read;
    this.#placeDivider(room);
  }

  /** What comes while nobody looks is new. */
  #divideMissed(room, arrivals) {
    const read = this.#parley.read(room.name);
    const fresh = arrivals.filter(({ message }) => message && message.user.id !== this.#user.id && message.seq > read);
    if (room !== this.#active || !room.greeted || room.opening || fresh.length === 0) return;
    const missed = !this.#attentive || !room.atEnd || fresh.some(({ live }) => !live);
    if (missed && (room.split ?? -1) < read) room.split = read;
  }

  #placeDivider(room) {
    const { split, divider } = room;
    const isNew = ({ note }) => note?.seq > split && note.author !== this.#user.id && !note.message.deletedAt;
    const items = split === null ? [] : [...room.items.children];
    // Where the list begins with new messages, there may be more of them before it.
    const begins = room.first > split + 1 && items.find(({ note }) => note?.seq)?.note.seq > split;
    const first = begins ? undefined : items.find(isNew);
    if (first ? first.previousElementSibling === divider : divider.parentNode === null) return;
    const after = divider.nextElementSibling;
    if (first) first.before(divider);
    else divider.remove();
    for (const item of [after, first]) this.#group(item);
  }

  /** Somebody else has read a room up to a message. */
  #hasRead(room, { id, name }, read) {
    if (!room || id === this.#user.id || read <= (room.readers.get(id)?.read ?? 0)) return;
    room.readers.set(id, { id, name, read });
    this.#soon(room);
  }

  /** Shows who has seen the last message that others have seen. Who has written it, or after it, has seen it anyway. */
  #showSeen(room) {
    let left = room.detached || room.count > SEEN_UP_TO ? [] : [...room.readers.values()];
    let place = null;
    let names = [];
    for (let item = room.items.lastElementChild; item && left.length > 0 && !place; item = item.previousElementSibling) {
      const { seq, author } = item.note ?? {};
      if (!seq) continue;
      names = left.filter((r) => r.read >= seq && r.id !== author).map(({ name }) => name);
      if (names.length > 0) place = item;
      left = left.filter((r) => r.read < seq);
    }
    const { seen } = room;
    const body = place?.querySelector(".body") ?? null;
    names.sort((a, b) => a.localeCompare(b));
    const rest = names.length > SEEN_NAMES ? names.splice(SEEN_NAMES - 1) : [];
    const text = place ? `Seen by ${people.format(rest.length > 0 ? [...names, `${rest.length} others`] : names)}` : "";
    if (seen.parentNode === body && seen.textContent === text) return;
    const change = () => {
      seen.textContent = text;
      seen.title = rest.length > 0 ? people.format([...names, ...rest]) : "";
      if (!body) seen.remove();
      else if (seen.parentNode !== body) body.append(seen);
    };
    if (room === this.#active && !room.atEnd) this.#anchored(room, change, true);
    else change();
    if (room === this.#active && room.atEnd) this.#toEnd();
  }

  #fitField() {
    const field = $("composer-text");
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight}px`;
    const left = MAX_TEXT - [...field.value].length;
    $("composer-left").textContent = left < 200 ? (left < 0 ? `${-left} too many` : `${left} left`) : "";
    $("composer").classList.toggle("too-long", left < 0);
    if (this.#active?.atEnd) this.#toEnd();
  }
}

const NO_ROOM = "A room exists as soon as somebody joins it. Open a second tab and sign in as somebody else to talk to yourself.";

const CLOSED = {
  4400: "The server did not understand this page. Reload it, please.",
  4401: "Your session has ended.",
  4403: "The server does not allow this connection.",
  4413: "That was too large for the server.",
  4429: "That was too fast for the server. Take a breath.",
};

/** Forgets what was written and not sent, where it is whose. */
function forgetTexts(whose) {
  try {
    const kept = storage("session");
    const keys = Array.from({ length: kept.length }, (_, i) => kept.key(i));
    for (const key of keys) if ([DRAFTS, OUTBOX].some((kind) => key.startsWith(kind)) && whose(key)) kept.removeItem(key);
  } catch {
    // Without storage there is nothing.
  }
}

/** Shows the chat, to somebody who has just signed in with the room that they came for. */
function showChat({ entered = false, room } = {}) {
  const { id, email } = session.user;
  forgetTexts((key) => key !== DRAFTS + id && key !== OUTBOX + id); // somebody else's
  const place = addressed();
  const wish = wished(email);
  history.replaceState(null, "", place === null ? "/" : addressOf(place));
  chat = new Chat(session.user);
  chat.start(entered ? (place ?? wish ?? room) : undefined);
}

async function signOut(everywhere) {
  try {
    await session.signOut({ everywhere });
  } catch (err) {
    if (session.user) {
      const error = $("account-menu").querySelector(".error");
      error.textContent = words(err);
      error.hidden = false;
      return;
    }
  }
  history.replaceState(null, "", "/"); // who signs in next came for no room
  leaveChat(everywhere ? "You are signed out everywhere." : "You are signed out.", { forget: true });
}

function leaveChat(notice, options) {
  chat?.stop(options);
  chat = null;
  showDoor(notice);
}

const COPY = "This tab is a copy of another. Each tab is a session of its own: sign in once more.";

session.addEventListener("ended", ({ detail }) => leaveChat(detail.copy ? COPY : "Your session has ended. Please sign in again."));

takeLink();
const restored = await session.restore();
if (restored === "restored") showChat();
else showDoor(restored === "copy" ? COPY : "");
