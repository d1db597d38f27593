import type { ChatMessage } from "./events.js";
import type { SessionLike, StorageLike } from "./parley.js";

/** An account, as its owner sees it. */
export interface Account {
  id: string;
  fullName: string;
  email: string;
  isVerified?: boolean;
  /** A tag of BCP 47; missing if that is not known. */
  language?: string;
  /** Where a picture of the user is; missing if there is none. */
  avatarUrl?: string;
}

/** A room of the user. */
export interface MyRoom {
  /** Its name. */
  room: string;
  role: string;
  /** The room's last sequence, and its sequence of changes. */
  seq: number;
  rev: number;
  /** How far the user has read: a seq. */
  read: number;
  /** How many messages come behind it that are stored and not deleted. */
  unread: number;
  /** The last message that is stored, as it is now. */
  last: ChatMessage | null;
}

/** What somebody may do in a room, the most first. */
export type Role = "owner" | "moderator" | "member" | "reader";

/** What a room shows of itself. */
export interface RoomInfo {
  name: string;
  kind: "public" | "private" | "direct";
  title?: string;
  topic?: string;
  /** The application's. */
  data?: object;
  createdBy: string;
  createdAt: string;
  seq: number;
  rev: number;
  /** How long its messages are kept, as "720h"; it is told to owners and moderators. Absent: as the server says. */
  retention?: string;
}

/** A member of a room. */
export interface Member {
  /** The name is left out where the server does not know it. */
  user: { id: string; name?: string };
  role: Role;
  since: string;
  /** How far they have read: a seq. It is left out for those who let nobody else know. */
  read?: number;
  mutedUntil?: string;
}

/** What a user has set for themselves. */
export interface UserSettings {
  /** Whether others are told how far the user has read: true until it is set. */
  readReceipts: boolean;
}

/** A session of the user. Device and network are for people to recognise it by. */
export interface SessionInfo {
  id: string;
  /** What kind of device opened it: "Firefox on Linux". */
  device: string;
  /** The network from which it was opened, the address shortened: "192.0.2.0/24"; empty if that is not known. */
  network: string;
  createdAt: string;
  lastSeenAt: string;
  /** Whether it is this one. */
  current: boolean;
}

/** Until when, in RFC 3339, and why; both may be left out. */
export interface RestrictionFields {
  until?: string;
  reason?: string;
}

/** A storage that all tabs share: localStorage, for one. */
export interface SharedStorageLike extends StorageLike {
  readonly length: number;
  key(index: number): string | null;
}

/** What is used of fetch and its answers. */
export type FetchLike = (
  address: string,
  request: { method: string; headers: Record<string, string>; body?: string; cache: "no-store"; signal: AbortSignal },
) => Promise<{ ok: boolean; status: number; headers: { get(name: string): string | null }; text(): Promise<string> }>;

/** What is used of navigator.locks. */
export interface LocksLike {
  request(name: string, options: { signal: AbortSignal }, granted: () => Promise<unknown>): Promise<unknown>;
}

/** What is used of a BroadcastChannel. */
export interface ChannelLike {
  onmessage: ((event: any) => any) | null;
  postMessage(message: unknown): void;
  close(): void;
}

/** null is none. Outside a page nothing is kept, locked or listened to unless it is given. */
export interface SessionOptions {
  /** Where the server is: https://chat.example.com. Default: the page's own server. */
  server?: string | URL;
  /** How the server is asked. Default: the environment's own fetch. */
  fetch?: FetchLike;
  /** Where the session survives a reload; it holds tokens. Default, in a page: sessionStorage. */
  storage?: StorageLike | null;
  /** Where devices are remembered, so that they have limits of their own. Default, in a page: localStorage. */
  shared?: SharedStorageLike | null;
  /** Locks by which a duplicated tab is found. Default, in a page: navigator.locks. */
  locks?: LocksLike | null;
  /** The channel between tabs, by which a duplicated one is found where there are no locks. Default, in a page: the page's own. */
  BroadcastChannel?: (new (name: string) => ChannelLike) | null;
}

export interface SessionEventMap {
  /** The server has ended the session; copy: another tab has taken it. */
  ended: { readonly type: string; readonly detail: { copy: boolean } };
}

/** A failure as the server describes it (RFC 9457), or one on the way to it. */
export class Problem extends Error {
  constructor(problem: {
    status?: number;
    code?: string;
    title?: string;
    detail?: string;
    errors?: { location?: string; message: string }[];
    retryAfter?: number;
  });
  /** The HTTP status; 0 if the server was not reached. */
  readonly status: number;
  /** Stable: the server's code, "network" if the server did not answer, "session_ended" without a session. */
  readonly code: string;
  readonly title: string;
  readonly detail: string;
  /** Seconds that the server asks to wait; 0 for none. */
  readonly retryAfter: number;
  /** What is wrong with which field: name → text. */
  readonly fields: Map<string, string>;
}

/** Says in English what happened. */
export function words(err: unknown): string;
/** Makes a sentence of a phrase: a capital in front, a full stop behind. */
export function sentence(phrase: string): string;
/** A storage of the browser, or null where the browser has none for us. */
export function storage(kind: "session" | "local"): SharedStorageLike | null;

/**
 * Who is signed in. In a page that is kept in sessionStorage, so that two tabs can be two people. Every
 * method that asks the server rejects with a Problem, at the latest after 15 seconds; a sign-out in this place ends after 5.
 */
export class Session implements SessionLike {
  constructor(options?: SessionOptions);
  /** Where the server is, without a slash at the end; "" is the page's own. */
  readonly server: string;
  /** Who is signed in. */
  readonly user: Account | null;

  /** Asks for an account. The mail that follows has a link, and in it the code, that confirms the address. */
  signUp(account: { fullName: string; email: string; password: string }): Promise<{ message: string }>;
  /** Confirms an address with the code from the mail. */
  verify(code: string): Promise<{ message: string }>;
  /** Asks for another mail that confirms the address. */
  resend(email: string): Promise<{ message: string }>;
  /** Asks for a mail with a code that sets a new password. */
  forgot(email: string): Promise<{ message: string }>;
  /** Sets a new password with the code from the mail. It ends every session of the user. */
  reset(code: string, password: string): Promise<void>;
  /** Sets a new password for who is signed in. It ends every other session of the user. */
  changePassword(current: string, password: string): Promise<void>;

  /** Signs in. A session that was there before stays open at the server: sign it out first. */
  signIn(email: string, password: string): Promise<Account>;
  /** Asks for a mail with a link to sign in by. A server that mails none answers 404 (`links_off`). */
  requestLink(email: string): Promise<{ message: string }>;
  /** Signs in with the code from that mail, which is good once. */
  signInByLink(code: string): Promise<Account>;
  /** Signs in by the code of an authenticator app, or a recovery code, with the challenge of the Problem second_factor_required that another sign-in was refused by. */
  signInFactor(challenge: string, code: string): Promise<Account>;
  /** The second factor of who is signed in. A server without second factors refuses with second_factor_off. */
  factor(options?: { signal?: AbortSignal }): Promise<{ enabled: boolean; since?: string; recoveryCodes: number }>;
  /** Makes this session fresh: by a code for a user with a second factor, by the password for others. */
  reauthenticate(proof: { password?: string; code?: string }): Promise<void>;
  /** A secret for an authenticator app. The session must be fresh, or it is refused with reauthenticate. */
  addTOTP(): Promise<{ secret: string; uri: string }>;
  /** Makes the app the second factor by a code of it, and returns the recovery codes, which nobody sees again. It ends every other session of the user. */
  confirmTOTP(code: string): Promise<string[]>;
  /** New recovery codes in the place of all before. The session must be fresh. */
  newRecoveryCodes(): Promise<string[]>;
  /** Takes the second factor away. The session must be fresh. */
  removeFactor(): Promise<void>;
  /** Signs in by another call of the server, which answers as POST /auth/signin does: one of your own. path begins with a slash. */
  signInAt(path: string, body: object): Promise<Account>;
  /** Takes up what was kept: "restored", "copy" if another tab has it, null if there is nothing. */
  restore(): Promise<"restored" | "copy" | null>;
  /** Signs out here, even if the server does not hear of it; or on every device, unless that fails. What is being read is given up. */
  signOut(options?: { everywhere?: boolean }): Promise<void>;
  /** Lets go of the session without ending it: another page that has its storage may take it up. */
  close(): void;

  /** A ticket for one socket handshake, and the seconds that the access token behind it still lasts. renew: get a new one first. */
  ticket(request?: { renew?: boolean; signal?: AbortSignal }): Promise<{ ticket: string; expiresIn: number }>;
  /** An access token with half of its life before it, and the seconds that it still lasts: for calls of one's own. */
  token(request?: { signal?: AbortSignal }): Promise<{ token: string; expiresIn: number }>;

  /**
   * A page of the rooms that the user is a member of, the one that was active last first, and the cursor of the page behind it, if there
   * is one. An older server rejects it with status 404.
   */
  rooms(page?: { cursor?: string; limit?: number; signal?: AbortSignal }): Promise<{ rooms: MyRoom[]; next?: string }>;

  /** A page of the public rooms, by name, and the after of the page behind it, if there is one. */
  publicRooms(page?: { after?: string; limit?: number; signal?: AbortSignal }): Promise<{ rooms: RoomInfo[]; next?: string }>;
  /** What a room shows of itself. One that is private rejects with status 404 for who is not in it. */
  room(name: string, request?: { signal?: AbortSignal }): Promise<RoomInfo>;
  /** Makes a room, which the caller owns. Without a name one is made that nobody can guess. */
  createRoom(fields?: { name?: string; kind?: "public" | "private"; title?: string; topic?: string; data?: object }): Promise<RoomInfo>;
  /** Changes what a room shows of itself. What is left out stays. */
  changeRoom(
    name: string,
    fields: { kind?: "public" | "private"; title?: string; topic?: string; data?: object; retention?: string },
  ): Promise<RoomInfo>;
  /** Deletes a room with its messages. */
  deleteRoom(name: string): Promise<void>;
  /** A page of a room's members, by their ids, and the after of the page behind it, if there is one. */
  members(name: string, page?: { after?: string; limit?: number; signal?: AbortSignal }): Promise<{ members: Member[]; next?: string }>;
  /** Gives somebody a role in a room, which invites them if they are no member. */
  setRole(name: string, user: string, role: Role): Promise<void>;
  /** Removes somebody from a room. */
  removeMember(name: string, user: string): Promise<void>;
  /** Bans somebody from a room, and lets them join again. */
  ban(name: string, user: string, fields?: RestrictionFields): Promise<void>;
  unban(name: string, user: string): Promise<void>;
  /** Mutes somebody in a room, and lets them speak again. */
  mute(name: string, user: string, fields?: RestrictionFields): Promise<void>;
  unmute(name: string, user: string): Promise<void>;
  /** The one room of the caller and somebody else, which is made if there is none. Who is unknown or blocks the caller rejects with status 404. */
  direct(user: string): Promise<RoomInfo>;
  /** A page of those whom the caller has blocked, and the after of the page behind it, if there is one. */
  blocks(page?: { after?: string; limit?: number; signal?: AbortSignal }): Promise<{ blocks: { user: { id: string; name?: string }; at: string }[]; next?: string }>;
  /** Blocks somebody, and takes that back: they cannot write to the caller directly. */
  block(user: string): Promise<void>;
  unblock(user: string): Promise<void>;
  /** What the caller has set for themselves. */
  settings(options?: { signal?: AbortSignal }): Promise<UserSettings>;
  /** Changes that, and returns it as it is then. What is not given stays. */
  changeSettings(settings: Partial<UserSettings>): Promise<UserSettings>;

  /** The caller's sessions that go on, newest first. */
  sessions(request?: { signal?: AbortSignal }): Promise<{ sessions: SessionInfo[] }>;
  /** Ends another session of the caller: its sockets close. To end this one is to sign out. */
  endSession(id: string): Promise<void>;
  /** The account of who is signed in. */
  me(request?: { signal?: AbortSignal }): Promise<Account>;
  /** Changes what one says of oneself, and returns the account as it is then. What is not given stays; an empty language or avatarUrl takes it away. */
  changeMe(fields: { fullName?: string; language?: string; avatarUrl?: string }): Promise<Account>;
  /** Asks for a mail to a new address with the code for confirmEmail. It does not tell whether the address is taken; then nobody gets one. */
  requestEmail(email: string, password: string): Promise<void>;
  /** Takes the new address with the code from the mail, and returns the account. It ends every other session of the user. */
  confirmEmail(code: string): Promise<Account>;
  /** Erases the account of who is signed in, and what they have said. It cannot be undone, and ends every session of the user. */
  eraseMe(password: string): Promise<void>;

  /** As those of EventTarget. */
  addEventListener<K extends keyof SessionEventMap>(
    type: K,
    listener: (event: SessionEventMap[K]) => void,
    options?: boolean | { once?: boolean; signal?: AbortSignal },
  ): void;
  removeEventListener<K extends keyof SessionEventMap>(type: K, listener: (event: SessionEventMap[K]) => void): void;
}
