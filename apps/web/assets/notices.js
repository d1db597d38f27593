// Notifications of the browser about messages that nobody looks at. Nothing is shown, and nothing is asked, unless somebody wants it.

import { storage } from "./session.js";

// A message is told of after so long, unless it was read meanwhile, here or elsewhere.
const GRACE = 1_500;
// For so long other tabs of the same user do not tell of the same message.
const TOLD = 10_000;

/** Whether the browser has notifications at all. */
export function canNotify() {
  return typeof globalThis.Notification?.requestPermission === "function";
}

export class Notices {
  #key;
  #open;
  #waiting = new Map(); // room → {message, timer}
  #shown = new Map(); // room → what is shown

  /** open(room) is called when somebody clicks on a notification. */
  constructor({ user, open }) {
    this.#key = `parley.notify.${user.id}`;
    this.#open = open;
  }

  /** Whether notifications are wanted, in this browser by this user, and allowed. */
  get on() {
    return canNotify() && Notification.permission === "granted" && storage("local")?.getItem(this.#key) === "on";
  }

  /** Whether the browser has been told to allow none. */
  get blocked() {
    return canNotify() && Notification.permission === "denied";
  }

  /** Switches them on or off. To switch them on, the browser may ask: call it for a click alone. */
  async set(on) {
    if (!canNotify()) return;
    if (on && Notification.permission === "default") await Notification.requestPermission();
    try {
      if (on && Notification.permission === "granted") storage("local").setItem(this.#key, "on");
      else storage("local").removeItem(this.#key);
    } catch {
      // Without storage there are none.
    }
    if (!on) this.stop();
  }

  /** Tells of a message after a moment, unless ignored() is true then. Of several in a room it tells of the last one. */
  tell(message) {
    if (!this.on) return;
    clearTimeout(this.#waiting.get(message.room)?.timer);
    const timer = setTimeout(() => {
      this.#waiting.delete(message.room);
      void this.#show(message);
    }, GRACE);
    this.#waiting.set(message.room, { message, timer });
  }

  async #show({ room, seq, title, text, ignored }) {
    if (!this.on || ignored() || !(await this.#first(`${this.#key} ${seq} ${room}`))) return;
    let notice;
    try {
      notice = new Notification(title, { body: text(), tag: `${this.#key} ${room}`, renotify: true });
    } catch {
      return; // phones allow them to service workers alone
    }
    notice.onclick = () => {
      globalThis.focus();
      notice.close();
      this.#open(room);
    };
    this.#shown.set(room, notice);
  }

  /** Whether no other tab tells of the same. */
  async #first(name) {
    const locks = globalThis.navigator?.locks;
    if (!locks) return true;
    return new Promise((first) => {
      const held = (lock) => {
        first(lock !== null);
        return lock && new Promise((end) => setTimeout(end, TOLD));
      };
      locks.request(name, { ifAvailable: true }, held).catch(() => first(true));
    });
  }

  /** Takes back what was told, or is to be told, of a room. */
  forget(room) {
    clearTimeout(this.#waiting.get(room)?.timer);
    this.#waiting.delete(room);
    this.#shown.get(room)?.close();
    this.#shown.delete(room);
  }

  /** Takes back everything. */
  stop() {
    for (const room of [...this.#waiting.keys(), ...this.#shown.keys()]) this.forget(room);
  }
}
