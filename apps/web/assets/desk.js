// Running rooms: finding and making them, what they are, who is a member, and what may be done about that.

import { checkRoom } from "./parley.js";
import { words } from "./session.js";

const $ = (id) => document.getElementById(id);

// Members are shown in pages of so many.
const PAGE = 100;
// Rooms of two people have names that the server makes, and so has a room that was made without one.
const DIRECT = "direct:";
// The ids of people look like that, too.
const MADE = /^[0-9A-HJKMNP-TV-Z]{26}$/;

const ROLES = { owner: "Owner", moderator: "Moderator", member: "Member", reader: "Reader" };
// What a role is called behind a name: a member is nothing special.
const BADGES = { owner: "owner", moderator: "moderator", reader: "reads only" };

/**
 * What somebody with a role may do in a room, so that nothing is offered in vain: Role.Has and MayRestrict of core/chat/rights.go. The server decides.
 */
const may = {
  moderate: (role, kind) => kind !== "direct" && (role === "owner" || role === "moderator"),
  invite: (role, kind) => kind === "private" && (role === "owner" || role === "moderator"),
  own: (role, kind) => kind !== "direct" && role === "owner",
  restrict: (role, kind, of) => of !== "owner" && (of === "moderator" ? may.own(role, kind) : may.moderate(role, kind)),
};

export const isDirect = (name) => name.startsWith(DIRECT);

/** What a membership event says, for the room's log; "" for nothing. */
export function told({ user, role, by, reason }, me) {
  const mine = user.id === me;
  const who = mine ? "You" : (user.name ?? "Somebody");
  const why = reason ? `: ${reason}` : "";
  if (role === null) return mine || by === undefined || by === user.id ? "" : `${who} was removed${why}`;
  const what = { owner: "an owner", moderator: "a moderator", member: "a member", reader: "a reader" }[role];
  return what ? `${who} ${mine ? "are" : "is"} now ${what}` : "";
}

export class Desk {
  #h; // makes elements
  #session;
  /** Whether there is a second factor. */
  #enabled = false;
  #me;
  #chat; // {open(name), avatar(user), people(), relabel(name, label)}
  #rooms = new Map(); // name → what is known of a room: {info, members, next}
  #shown = null; // the name of the room that is shown
  #signal;
  #missing = false; // the server is too old for all of it

  constructor({ h, session, user, chat, signal }) {
    this.#h = h;
    this.#session = session;
    this.#me = user.id;
    this.#chat = chat;
    this.#signal = signal;
    const on = (target, type, listener) => target.addEventListener(type, listener, { signal });
    on($("find-rooms"), "click", () => void this.#find());
    on($("new-room"), "click", () => this.#open($("dialog-new")));
    on($("room-settings"), "click", () => this.#settings());
    on($("form-invite"), "input", () => this.#complain($("form-invite"), ""));
    this.#handle($("form-new"), (fields) => this.#create(fields));
    this.#handle($("form-settings"), (fields) => this.#change(fields));
    this.#handle($("form-invite"), (fields) => this.#invite(fields));
    this.#handle($("form-delete"), () => this.#delete());
    on($("show-blocks"), "click", () => void this.#blocks());
    on($("show-sessions"), "click", () => void this.#sessions());
    on($("show-profile"), "click", () => void this.#profile());
    this.#handle($("form-profile"), (fields) => this.#say(this.#session.changeMe(fields), "Your profile is saved."));
    this.#handle($("form-email"), ({ email, password }) => this.#newEmail(email.trim(), password));
    this.#handle($("form-email-code"), ({ code }) => this.#takeEmail(code.trim()));
    if ($("form-factor")) this.#handle($("form-factor"), (fields) => this.#factor(fields));
    this.#handle($("form-erase"), ({ password }) => this.#erase(password));
    let asked = Promise.resolve(); // one after the other: the last click counts
    on($("account-menu"), "toggle", () => {
      if ($("account-menu").open) asked = asked.then(() => this.#receipts());
    });
    on($("receipts"), "click", () => (asked = asked.then(() => this.#receipts($("receipts").getAttribute("aria-checked") !== "true"))));
    on($("more-rooms"), "click", () => void this.#findMore());
    on($("more-members"), "click", () => void this.#moreMembers());
    for (const dialog of document.querySelectorAll("dialog")) {
      on(dialog, "click", (event) => event.target === dialog && dialog.close());
      for (const button of dialog.querySelectorAll("[data-close]")) on(button, "click", () => dialog.close());
    }
    signal.addEventListener("abort", () => this.#closeAll());
  }

  #closeAll() {
    for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  }

  /** Shows what is known of a room, and asks for it again, once one has joined it. */
  show(name, { joined }) {
    if (name !== this.#shown) $("dialog-settings").close(); // they are those of the room before
    this.#shown = name;
    this.#draw();
    if (joined) void this.#load(name);
  }

  /** The room is not one's own any more. */
  forget(name) {
    this.#rooms.delete(name);
  }

  /** What somebody is in a room, as far as that is known. */
  role(room, user) {
    return this.#rooms.get(room)?.members.get(user)?.role;
  }

  /** Whether one may delete what others wrote there. */
  moderates(room) {
    return may.moderate(this.role(room, this.#me), this.#rooms.get(room)?.info.kind);
  }

  /** Somebody's role has changed. */
  changed({ room, user, role, mutedUntil }) {
    const known = this.#rooms.get(room);
    if (!known) return;
    if (role === null && user.id === this.#me) {
      this.forget(room);
    } else if (role === null) {
      known.members.delete(user.id);
    } else if (user.id === this.#me || !known.members.has(user.id)) {
      if (room === this.#shown) void this.#load(room);
    } else {
      Object.assign(known.members.get(user.id), { role, mutedUntil });
    }
    this.#draw();
  }

  /** Finds out what a room is called here whose name the server has made. */
  async label(room) {
    try {
      if (isDirect(room)) {
        const { members } = await this.#session.members(room, { signal: this.#signal });
        const other = members.find(({ user }) => user.id !== this.#me)?.user;
        if (other) this.#chat.relabel(room, name(other));
      } else if (MADE.test(room)) {
        this.#entitle(await this.#session.room(room, { signal: this.#signal }));
      }
    } catch {
      // It keeps the name that it has.
    }
  }

  /** A room without a name of its own is called by its title. */
  #entitle({ name: room, title }) {
    if (MADE.test(room)) this.#chat.relabel(room, title || room);
  }

  async #load(name) {
    if (this.#missing || name === "." || name === "..") return; // which a browser takes for folders
    try {
      const [info, { members, next }] = await Promise.all([
        this.#session.room(name, { signal: this.#signal }),
        this.#session.members(name, { limit: PAGE, signal: this.#signal }),
      ]);
      this.#rooms.set(name, { info, members: new Map(members.map((m) => [m.user.id, m])), next });
      this.#entitle(info);
    } catch (err) {
      // A server that does not know the call has no code for it; who was just made a member may be too early.
      if (err.status === 404 && err.code === "network") this.#missing = true;
      return;
    }
    if (this.#signal.aborted || name !== this.#shown) return;
    this.#draw();
  }

  get #known() {
    return this.#rooms.get(this.#shown);
  }

  /** What one is in the room that is shown. */
  get #role() {
    return this.#known?.members.get(this.#me)?.role;
  }

  #draw() {
    const known = this.#known;
    const { kind, topic = "" } = known?.info ?? {};
    const title = MADE.test(this.#shown) ? "" : known?.info.title; // which is what the room is called
    const role = this.#role;
    $("room-kind").hidden = kind !== "private";
    $("room-topic").textContent = kind === "direct" ? "" : [title, topic].filter(Boolean).join(" – ");
    $("room-topic").hidden = $("room-topic").textContent === "";
    $("room-settings").hidden = !may.moderate(role, kind);
    $("roster").hidden = !known || kind === "direct";
    $("form-invite").hidden = !may.invite(role, kind);
    if (!known) return;
    this.#offer();
    const members = [...known.members.values()].sort(
      (a, b) => Object.keys(ROLES).indexOf(a.role) - Object.keys(ROLES).indexOf(b.role) || name(a.user).localeCompare(name(b.user)),
    );
    const open = document.querySelector("#roster details[open]")?.dataset.user;
    const focused = document.activeElement?.closest("#roster details")?.dataset.user;
    $("roster-list").replaceChildren(...members.map((member) => this.#entry(member)));
    const again = [...document.querySelectorAll("#roster details")].find(({ dataset }) => dataset.user === open);
    if (again) again.open = true;
    [...document.querySelectorAll("#roster details")].find(({ dataset }) => dataset.user === focused)?.querySelector("summary").focus();
    $("more-members").hidden = !known.next;
  }

  #entry(member) {
    const h = this.#h;
    const { user, role, mutedUntil } = member;
    const mine = user.id === this.#me;
    const badges = [mine ? "you" : null, BADGES[role], mutedUntil ? "muted" : null].filter(Boolean).join(", ");
    const line = [this.#chat.avatar({ id: user.id, name: name(user) }), h("span", { class: "names" }, h("span", { class: "name" }, name(user)), badges ? h("span", { class: "hint" }, badges) : null)];
    const actions = this.#actions(member);
    if (actions.length === 0) return h("li", {}, h("div", { class: "person" }, ...line));
    return h(
      "li",
      {},
      h("details", { "data-user": user.id }, h("summary", { class: "person" }, ...line), h("div", { class: "actions" }, ...actions, h("p", { class: "error", role: "alert", hidden: true }))),
    );
  }

  /** What one may do about a member, as buttons. */
  #actions({ user, role, mutedUntil }) {
    const room = this.#shown;
    const { kind } = this.#known.info;
    const mine = this.#role;
    const s = this.#session;
    const actions = [];
    const add = (label, act, { sure = "" } = {}) => {
      const button = this.#h("button", { type: "button" }, label);
      let asked = !sure;
      button.addEventListener("click", async () => {
        if (button.getAttribute("aria-disabled")) return;
        if (!asked) {
          asked = true;
          button.textContent = sure;
          button.classList.add("sure");
          return;
        }
        const error = button.parentElement.querySelector(".error");
        button.setAttribute("aria-disabled", "true");
        error.hidden = true;
        try {
          await act();
          if (room === this.#shown) await this.#load(room);
        } catch (err) {
          error.textContent = words(err);
          error.hidden = false;
        } finally {
          button.removeAttribute("aria-disabled");
        }
      });
      actions.push(button);
    };
    if (user.id === this.#me) return actions;
    add("Write directly", () => this.#direct(user));
    if (may.own(mine, kind)) {
      for (const [to, label] of Object.entries(ROLES)) {
        const sure = to === "owner" ? "Really make them an owner too?" : "";
        if (to !== role) add(`Make ${label.toLowerCase()}`, () => s.setRole(room, user.id, to), { sure });
      }
    }
    if (may.restrict(mine, kind, role)) {
      if (mutedUntil) add("Let write again", () => s.unmute(room, user.id));
      else add("Mute for an hour", () => s.mute(room, user.id, { until: new Date(Date.now() + 3_600_000).toISOString() }));
      add("Remove from the room", () => s.removeMember(room, user.id), { sure: `Really remove ${name(user)}?` });
      add("Ban from the room", () => s.ban(room, user.id), { sure: `Really ban ${name(user)}?` });
    }
    add("Block", () => s.block(user.id), { sure: "Really block? They cannot write to you directly." });
    return actions;
  }

  async #direct(user) {
    const { name: room } = await this.#session.direct(user.id);
    this.#chat.open(room);
    this.#chat.relabel(room, name(user));
  }

  async #moreMembers() {
    const known = this.#known;
    const shown = this.#shown;
    if (!known?.next) return;
    try {
      const { members, next } = await this.#session.members(shown, { after: known.next, limit: PAGE, signal: this.#signal });
      for (const member of members) known.members.set(member.user.id, member);
      known.next = next;
      this.#draw();
    } catch {
      // The button stays.
    }
  }

  // -- dialogs --

  #open(dialog) {
    for (const error of dialog.querySelectorAll(".error")) error.hidden = true;
    dialog.showModal();
  }

  #complain(form, text) {
    const error = form.querySelector(".error");
    error.textContent = text;
    error.hidden = text === "";
  }

  /** Runs a form's submission: one at a time, with its failure shown in the form. */
  #handle(form, submit) {
    form.addEventListener(
      "submit",
      async (event) => {
        event.preventDefault();
        const button = event.submitter ?? form.querySelector("button[type=submit]");
        if (button.getAttribute("aria-disabled")) return;
        button.setAttribute("aria-disabled", "true");
        this.#complain(form, "");
        const fields = Object.fromEntries(new FormData(form));
        if (button.name) fields[button.name] = button.value;
        try {
          await submit(fields);
        } catch (err) {
          this.#complain(form, words(err));
          form.querySelector("input:not([type=checkbox])")?.focus();
        } finally {
          button.removeAttribute("aria-disabled");
        }
      },
      { signal: this.#signal },
    );
  }

  async #create({ name: given, title, private: hidden }) {
    const room = given.trim().normalize("NFC");
    if (room === "" && !hidden) throw new Error("a public room needs a name");
    if (room === "" && !title.trim()) throw new Error("a room without a name needs a title");
    const bad = room === "" ? null : checkRoom(room);
    if (bad) throw bad;
    const fields = { kind: hidden ? "private" : "public" };
    if (room) fields.name = room;
    if (title.trim()) fields.title = title.trim();
    const made = await this.#session.createRoom(fields);
    $("form-new").reset();
    $("dialog-new").close();
    this.#chat.open(made.name);
  }

  #settings() {
    const { info } = this.#known;
    const form = $("form-settings");
    form.elements.title.value = info.title ?? "";
    form.elements.topic.value = info.topic ?? "";
    form.elements.private.checked = info.kind === "private";
    const owns = may.own(this.#role, info.kind);
    for (const node of document.querySelectorAll("#dialog-settings .owner")) node.hidden = !owns;
    $("delete-sure").checked = false;
    this.#open($("dialog-settings"));
  }

  async #change({ title, topic, private: hidden }) {
    const { info } = this.#known;
    const fields = { title: title.trim(), topic: topic.trim() };
    const kind = hidden ? "private" : "public";
    if (may.own(this.#role, info.kind) && kind !== info.kind) fields.kind = kind;
    await this.#session.changeRoom(this.#shown, fields);
    $("dialog-settings").close();
    await this.#load(this.#shown);
  }

  async #delete() {
    if (!$("delete-sure").checked) throw new Error("say first that you are sure");
    await this.#session.deleteRoom(this.#shown);
    $("dialog-settings").close();
    $("room-title").focus(); // what has opened the dialog is not there any more
  }

  /** Offers whom one has met for an invitation. */
  #offer() {
    const members = this.#known.members;
    const people = [...this.#chat.people().values()].filter(({ id }) => id !== this.#me && !members.has(id));
    $("invite-people").replaceChildren(...people.map((user) => this.#h("option", { value: user.name, "data-id": user.id })));
  }

  async #invite({ who }) {
    const text = who.trim();
    const named = [...$("invite-people").children].filter(({ value }) => value === text);
    if (named.length > 1) throw new Error("more than one of them has this name: give the id");
    const id = named[0]?.dataset.id ?? text;
    if (!named[0] && !MADE.test(text)) throw new Error("nobody whom you have met here has this name: ask them for their id, which is in their account menu");
    await this.#session.setRole(this.#shown, id, "member");
    $("form-invite").reset();
    await this.#load(this.#shown);
  }

  async #find() {
    $("found-rooms").replaceChildren();
    $("more-rooms").hidden = true;
    $("more-rooms").dataset.after = "";
    this.#open($("dialog-find"));
    await this.#findMore();
  }

  async #findMore() {
    const status = $("found-status");
    status.textContent = "Looking …";
    try {
      const { rooms, next } = await this.#session.publicRooms({ after: $("more-rooms").dataset.after || undefined, signal: this.#signal });
      const first = $("found-rooms").childElementCount;
      $("found-rooms").append(...rooms.map((room) => this.#found(room)));
      $("more-rooms").hidden = !next;
      $("more-rooms").dataset.after = next ?? "";
      status.textContent = $("found-rooms").childElementCount === 0 ? "There is no public room yet." : "";
      $("found-rooms").children[first]?.querySelector("button").focus();
    } catch (err) {
      status.textContent = words(err);
    }
  }

  /** Shows whether others are told what one has read, which another page may have changed; or changes it. It stays hidden where the server does not know of it. */
  async #receipts(on) {
    const button = $("receipts");
    const error = $("account-menu").querySelector(".error");
    try {
      const set = on === undefined ? await this.#session.settings({ signal: this.#signal }) : await this.#session.changeSettings({ readReceipts: on });
      if (this.#signal.aborted) return;
      button.setAttribute("aria-checked", String(set.readReceipts));
      button.hidden = false;
      error.hidden = true;
    } catch (err) {
      if (this.#signal.aborted || on === undefined) return; // what was shown stays
      error.textContent = words(err);
      error.hidden = false;
    }
  }

  /** Opens a dialog of the account menu, and returns where it says how it goes. */
  #fromMenu(dialog, list, status) {
    list.replaceChildren();
    status.textContent = "Looking …";
    $("account-menu").open = false;
    $("account-menu").querySelector("summary").focus(); // where the focus is again when the dialog closes
    this.#open(dialog);
    return status;
  }

  /** Shows whom one has blocked, and lets one take that back. */
  async #blocks() {
    const status = this.#fromMenu($("dialog-blocks"), $("blocked"), $("blocked-status"));
    try {
      const all = [];
      let after;
      do {
        const page = await this.#session.blocks({ after, limit: PAGE, signal: this.#signal });
        all.push(...page.blocks);
        after = page.next;
      } while (after);
      const unblock = (user) =>
        this.#line([name(user)], "Unblock", name(user), status, async () => {
          await this.#session.unblock(user.id);
          return `${name(user)} is not blocked any more.`;
        });
      $("blocked").replaceChildren(...all.map(({ user }) => unblock(user)));
      status.textContent = all.length === 0 ? "Nobody." : "";
    } catch (err) {
      status.textContent = words(err);
    }
  }

  /** Shows where one is signed in, and lets one sign out there. */
  async #sessions() {
    const status = this.#fromMenu($("dialog-sessions"), $("sessions"), $("sessions-status"));
    try {
      const { sessions } = await this.#session.sessions({ signal: this.#signal });
      const time = (at) => new Date(at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
      const row = ({ id, device, network, createdAt, lastSeenAt, current }) => {
        const what = device || "Unknown device";
        const about = [current ? "this one" : `last seen ${time(lastSeenAt)}`, `since ${time(createdAt)}`, network].filter(Boolean).join(", ");
        if (current) return this.#line([what, about]);
        return this.#line([what, about], "Sign out", `${what}, ${about}`, status, async () => {
          await this.#session.endSession(id);
          return `${what} is signed out.`;
        });
      };
      $("sessions").replaceChildren(...sessions.map(row));
      status.textContent = "";
    } catch (err) {
      status.textContent = words(err);
    }
  }

  /** Shows what one says of oneself. */
  async #profile() {
    const dialog = $("dialog-profile");
    $("account-menu").open = false;
    $("account-menu").querySelector("summary").focus();
    for (const form of dialog.querySelectorAll("form")) form.reset();
    const status = $("profile-status");
    status.textContent = "";
    this.#fill(this.#session.user);
    if ($("form-factor")) this.#factorStep({});
    this.#open(dialog);
    try {
      const user = await this.#session.me({ signal: this.#signal });
      if (dialog.open) this.#fill(user);
      if ($("form-factor")) await this.#showFactor();
    } catch (err) {
      status.textContent = words(err);
    }
  }

  #fill({ fullName, language = "", avatarUrl = "" }) {
    const form = $("form-profile");
    for (const [field, text] of Object.entries({ fullName, language, avatarUrl })) {
      const input = form.elements[field];
      if (input.value === input.defaultValue) input.value = input.defaultValue = text; // unless something was written meanwhile
    }
  }

  /** Waits for the account as it is now, and says so. */
  async #say(answer, text) {
    $("profile-status").textContent = "";
    const user = await answer;
    for (const input of $("form-profile").elements) input.defaultValue = input.value;
    this.#fill(user);
    this.#chat.renamed(user);
    $("profile-status").textContent = text;
  }

  /** Shows what there is of a second factor. */
  async #showFactor() {
    const { enabled, recoveryCodes } = await this.#session.factor({ signal: this.#signal });
    this.#enabled = enabled;
    $("factor-state").textContent = enabled
      ? `Signing in takes a code of your app. ${recoveryCodes} recovery ${recoveryCodes === 1 ? "code is" : "codes are"} left.`
      : "Signing in takes your password alone. An app on your phone can make it take a code as well.";
    this.#factorStep({ acts: enabled ? ["remove", "renew"] : ["add"] });
  }

  /** Shows what can be done with a second factor: by which buttons, and what is to be filled in for it. */
  #factorStep({ acts = [], secret, codes, proof = false }) {
    const form = $("form-factor");
    for (const button of form.querySelectorAll("button[name=act]")) {
      button.hidden = !acts.includes(button.value);
      button.type = button.hidden ? "button" : "submit"; // or Enter would press the first one
    }
    $("factor-proof").hidden = !proof;
    $("factor-proof-label").textContent = this.#enabled ? "A code of your app" : "Your password";
    $("factor-proof-text").type = this.#enabled ? "text" : "password";
    $("factor-proof-text").value = "";
    $("factor-secret").hidden = !secret;
    $("factor-text").textContent = secret?.secret.replace(/(.{4})(?=.)/g, "$1 ") ?? "";
    if (secret) $("factor-uri").href = secret.uri;
    else $("factor-uri").removeAttribute("href");
    $("factor-code").value = "";
    $("factor-recovery").hidden = !codes;
    $("factor-codes").replaceChildren(...(codes ?? []).map((code) => this.#h("li", {}, this.#h("code", {}, code))));
    if (proof) $("factor-proof-text").focus();
    else if (secret) $("factor-code").focus();
    else if (codes) $("factor-recovery").focus();
  }

  async #factor({ act, proof, code }) {
    const session = this.#session;
    const status = $("profile-status");
    status.textContent = "";
    try {
      if (!$("factor-proof").hidden) await session.reauthenticate(this.#enabled ? { code: proof } : { password: proof });
      if (act === "add") {
        this.#factorStep({ acts: ["confirm"], secret: await session.addTOTP() });
        return;
      }
      if (act === "remove") {
        await session.removeFactor();
        await this.#showFactor();
        status.textContent = "The app is removed: signing in takes no code any more.";
        $("form-factor").querySelector("button:not([hidden])").focus();
        return;
      }
      const codes = act === "confirm" ? await session.confirmTOTP(code) : await session.newRecoveryCodes();
      await this.#showFactor();
      this.#factorStep({ acts: ["remove", "renew"], codes });
      status.textContent = act === "confirm" ? "The app is added. You are signed out elsewhere." : "The recovery codes of before do not work any more.";
    } catch (err) {
      if (err.code === "reauthenticate") this.#factorStep({ acts: act === "confirm" ? ["add"] : [act], proof: true });
      throw err;
    }
  }

  async #newEmail(email, password) {
    $("profile-status").textContent = "";
    await this.#session.requestEmail(email, password);
    $("email-password").value = "";
    $("profile-status").textContent = `If the address can be had, a code is on its way to ${email}.`;
    $("email-code").focus();
  }

  async #takeEmail(code) {
    await this.#say(this.#session.confirmEmail(code), "Your address is changed. You are signed out elsewhere.");
    $("form-email").reset();
    $("form-email-code").reset();
  }

  async #erase(password) {
    if (!$("erase-sure").checked) throw new Error("say first that you are sure");
    await this.#session.eraseMe(password);
    await this.#session.signOut(); // unless the end of the socket was quicker
  }

  /** A line of a list, with what can be done about it; done says how that went, and the line goes. */
  #line([title, about], action, whom, status, done) {
    const h = this.#h;
    const text = h("span", {}, h("span", {}, title), about ? h("span", { class: "hint about" }, about) : null);
    if (!action) return h("li", {}, text);
    const button = h("button", { type: "button", class: "quiet", "aria-label": `${action} ${whom}` }, action);
    const item = h("li", {}, text, button);
    button.addEventListener("click", async () => {
      if (button.getAttribute("aria-disabled")) return;
      button.setAttribute("aria-disabled", "true");
      try {
        const said = await done();
        const next = (item.nextElementSibling ?? item.previousElementSibling)?.querySelector("button");
        const close = item.closest("dialog").querySelector("[data-close]");
        item.remove();
        (next ?? close).focus();
        status.textContent = said;
      } catch (err) {
        status.textContent = words(err);
        button.removeAttribute("aria-disabled");
      }
    });
    return item;
  }

  #found({ name: room, title, topic }) {
    const h = this.#h;
    const open = () => {
      $("dialog-find").close();
      this.#chat.open(room);
    };
    const about = [title, topic].filter(Boolean).join(" – ");
    return h("li", {}, h("button", { type: "button", onclick: open }, h("span", { class: "name" }, room), about ? h("span", { class: "hint" }, about) : null));
  }
}

const name = (user) => user.name ?? user.id;
