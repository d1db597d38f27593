import type {
  Acks,
  ChangeAck,
  ChatMessage,
  ClientEvents,
  HistoryAck,
  Joined,
  JoinRoomAck,
  Left,
  MarkReadAck,
  Marked,
  MembershipChange,
  PresenceAck,
  Resync,
  SendMessageAck,
  ServerEvents,
  Typing,
  User,
} from "./events.js";

export type * from "./events.js";

/** The WebSocket subprotocol that this client speaks. */
export const PROTOCOL: "parley.v1";
/** The longest name of a room, in Unicode code points. */
export const MAX_ROOM_NAME: number;
/** The longest text of a message, in Unicode code points. */
export const MAX_TEXT: number;
/** The longest key of a reaction, in Unicode code points. */
export const MAX_REACTION: number;

/**
 * The events of an application: what is printed from its own schema, in place of Parley's, so that call,
 * emit and "event" know their data.
 */
export interface EventTypes {
  client: object;
  acks: object;
  server: object;
}

/** Parley's own events. */
export interface OwnEvents {
  client: ClientEvents;
  acks: Acks;
  server: ServerEvents;
}

/** What the client needs of a session: one of session.js, or an object of one's own. */
export interface SessionLike {
  readonly user: { id: string; fullName: string } | null;
  /** Where the server is; "" is the page's own. */
  readonly server?: string;
  ticket(request: { renew: boolean; signal: AbortSignal }): Promise<string | Ticket>;
  token?(request: { signal: AbortSignal }): Promise<{ token: string }>;
}

/** What the client needs of a WebSocket: the browser's own, or that of the package ws. */
export interface SocketLike {
  onopen: ((event: any) => any) | null;
  onmessage: ((event: any) => any) | null;
  onclose: ((event: any) => any) | null;
  onerror: ((event: any) => any) | null;
  send(data: string): void;
  close(code?: number, reason?: string): void;
}

/** A ticket, and how long the access token lasts that it was asked for with, in seconds. */
export interface Ticket {
  ticket: string;
  expiresIn?: number;
}

/** What the client needs of a storage: sessionStorage, for one. */
export interface StorageLike {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/**
 * Numbers are bounded: NaN and what is no number is a TypeError, less than the least a RangeError,
 * and more than the most, Infinity too, counts as the most, which is a day for milliseconds.
 */
export interface ParleyOptions {
  /** Who is signed in: ticket, token, user and url are the session's, unless they are given. */
  session?: SessionLike;
  /**
   * Returns a new ticket for one handshake. Required without session. renew is true after the server said that the
   * session is no longer authenticated: get a new access token first. signal is aborted when
   * nobody waits for the answer any more. A rejection is tried again later, and not before its
   * error's retryAfter, in seconds, 300 at most; an error with permanent: true closes the client.
   */
  ticket?: (request: { renew: boolean; signal: AbortSignal }) => Promise<string | Ticket>;
  /**
   * Returns an access token that lasts longer than the one that the connection rests on. With it,
   * and with expiresIn in the ticket, the connection is renewed in time: when a third of its time
   * is left, or a minute. Rejections are as those of ticket. Default: the server closes the
   * connection when its token ends, and the client comes back with a new ticket.
   */
  token?: (request: { signal: AbortSignal }) => Promise<{ token: string }>;
  /**
   * Where messages that were not sent survive a reload of the page: sessionStorage. It needs user,
   * whose messages they are; nobody else finds them. The first 200 messages are kept, of 400,000
   * characters at most. After a reload they stand in outgoing, and are sent when their rooms are
   * joined again. Pending edits, deletions and reactions are kept among them. Default: a reload loses them.
   */
  storage?: StorageLike | null;
  /** Where the socket is. Default: /socket on the page's own host. */
  url?: string | URL;
  /** Who is signed in, so that an acknowledged message can be shown at once as theirs. */
  user?: User;
  /** The WebSocket to use. Default: the environment's own. */
  WebSocket?: new (url: string, protocols: string[]) => SocketLike;
  /** Milliseconds until an unanswered request counts as a lost connection. Default 10,000, at least 100. */
  ackTimeout?: number;
  /** Milliseconds that ticket and handshake may take together, and a new token. Default 15,000, at least 100. */
  connectTimeout?: number;
  /** The first delay of the back-off in milliseconds; it doubles, less up to half at random. Default 500, at least 10. */
  retryMin?: number;
  /** The longest delay of the back-off in milliseconds. Default 30,000, at least 10. */
  retryMax?: number;
  /** Milliseconds of silence until the connection is probed, in a visible page; 0 is never. Default 60,000, at least 1,000. */
  idleProbe?: number;
  /** Messages in one page when missed ones are fetched. Default 100. */
  pageSize?: number;
  /** Messages that may be on their way unanswered. Default 8. */
  window?: number;
  /** Events a second that are sent on average; the server closes for more than its own rate. Default 20. */
  rate?: number;
  /** Events that are sent at once. Default 50. */
  burst?: number;
  /** The source of jitter, from 0 up to 1. Default Math.random. */
  random?: () => number;
}

/** "closed" is final until connect() is called; from the others the client goes on by itself. */
export type ConnectionState = "idle" | "connecting" | "open" | "waiting" | "offline" | "closed";

export interface StateChange {
  state: ConnectionState;
  previous: ConnectionState;
  /** The close code, in the states waiting, offline and closed. */
  code?: number;
  reason?: string;
  /** Milliseconds until the next attempt, in the states waiting and offline. */
  retryIn?: number;
  /** Failed attempts in a row. */
  attempt?: number;
}

export interface Outgoing {
  clientId: string;
  room: string;
  text: string;
  replyTo?: number;
  data?: { [name: string]: unknown };
  /** When it was first sent. */
  at: Date;
  state: "pending" | "sent" | "failed";
  /** The answer, once it was sent. */
  ack?: SendMessageAck;
  /** Why it failed. */
  error?: ParleyError;
}

/** A change of one's own to a message: an edit, a deletion, or a reaction. */
export interface Change {
  kind: "edit" | "delete" | "react";
  room: string;
  /** Which message of the room. */
  seq: number;
  /** For edit: what the message is to say, and its new data, if it is to have others. */
  text?: string;
  data?: { [name: string]: unknown };
  /** For react: how; on is false for a reaction that is taken back. */
  key?: string;
  on?: boolean;
  /** When it was asked for. */
  at: Date;
  state: "pending" | "sent" | "failed";
  /** The answer, once it was stored. */
  ack?: ChangeAck;
  /** Why it failed. The message is as it was before. */
  error?: ParleyError;
}

export interface Lost {
  room: string;
  /** The last message before the hole. */
  after: number;
  /** The first message behind the hole, if it is known. */
  before?: number;
  /** The room's sequence began anew: everything that was shown is from a former life. */
  restarted?: boolean;
}

/** How many messages of a room the user has not read. */
export interface Unread {
  room: string;
  /** How far the user has read. */
  read: number | undefined;
  /** Messages behind it, without those that were deleted; undefined if that is not known any more. */
  unread: number | undefined;
}

/** What the server sends beside Parley's own events. */
export type ServerEvent<S extends object> = {
  [K in Exclude<keyof S, keyof ServerEvents> & string]: { event: K; data: S[K] };
}[Exclude<keyof S, keyof ServerEvents> & string];

/** An event as the client fires it. The environment's own CustomEvent has no type everywhere. */
export interface ParleyEvent<T> {
  readonly type: string;
  readonly detail: T;
}

export interface ParleyEventMap<S extends object = ServerEvents> {
  /** The connection changed. */
  state: ParleyEvent<StateChange>;
  /** A message, in the room's order and once. live is false for what was read from history. */
  message: ParleyEvent<{ message: ChatMessage; live: boolean }>;
  /** A message of one's own is pending, was sent, or failed. */
  outgoing: ParleyEvent<Outgoing>;
  /**
   * A message is another: it was edited, deleted or reacted to, by anybody. It takes the place of the one with its seq, which may be
   * one that was never shown. Own changes are in it from the moment they are asked for; pending says that the server has not stored
   * all of them, and what it refuses is taken back by a further event. live is false for what was read later.
   */
  changed: ParleyEvent<{ message: ChatMessage; live: boolean; pending: boolean }>;
  /** A change of one's own is pending, was stored, or failed. */
  change: ParleyEvent<Change>;
  /**
   * Somebody has said how far they have read, in a room that is small enough for that: also the user, on any connection. What
   * somebody has sent, they have read too; that is not told besides.
   */
  marked: ParleyEvent<Marked>;
  /** A room has another number of unread messages. */
  unread: ParleyEvent<Unread>;
  /** Somebody types, or has stopped. */
  typing: ParleyEvent<Typing>;
  /** A user's first connection came into the room. */
  joined: ParleyEvent<Joined>;
  /** A user's last connection left the room. */
  left: ParleyEvent<Left>;
  /** Somebody was taken out of a room, or may do something else in it from now on. */
  membership: ParleyEvent<MembershipChange>;
  /**
   * The server could not tell whether everything arrived. The client joins the room again by itself; join resolves when it has. Who
   * came and went is to be asked for anew, by presence.
   */
  resync: ParleyEvent<Resync>;
  /** Messages are gone from the server that this client has not seen. */
  lost: ParleyEvent<Lost>;
  /**
   * A room is no longer joined: it was left (left), the user was taken out of it (removed), or the
   * server refused it.
   */
  forgotten: ParleyEvent<{ room: string; error: ParleyError }>;
  /** An event of the application, or of a newer server, about a room that is joined or about none. */
  event: ParleyEvent<[ServerEvent<S>] extends [never] ? { event: string; data: unknown } : ServerEvent<S>>;
}

/** A refusal by the server, or a failure of the connection. */
export class ParleyError extends Error {
  constructor(code: string, title: string, closeCode?: number);
  /**
   * Stable: the server's code, or one of connection_lost, closed, left, removed, room_invalid,
   * text_invalid, data_invalid, reply_to_invalid, reaction_invalid, message_not_found, changes_not_supported,
   * marks_not_supported, not_joined and unknown_message.
   */
  readonly code: string;
  /** For the code closed: the close code. */
  readonly closeCode?: number;
}

/** What a client does after a close code. */
export function afterClose(code: number): "now" | "later" | "renew" | "stop";
/** Returns why the server would refuse a room's name, or null. */
export function checkRoom(name: unknown): ParleyError | null;
/** Returns why the server would refuse a text, or null. */
export function checkText(text: unknown): ParleyError | null;

/** Returns why the server would refuse the key of a reaction, or null. */
export function checkReaction(key: unknown): ParleyError | null;

/**
 * One user's connection to a Parley server, kept alive over reconnections. Rooms are called by
 * their names in Unicode's form NFC in all that it says, whatever they were called when asked for.
 */
export class Parley<E extends EventTypes = OwnEvents> {
  constructor(options: ParleyOptions);

  readonly state: ConnectionState;
  /** The names of the rooms that were joined, or will be when the connection is there. */
  readonly rooms: string[];
  /** Messages that are pending or failed, in the order of sending. */
  readonly outgoing: Outgoing[];
  /** Edits, deletions and reactions that are pending, in the order of asking. */
  readonly changes: Change[];

  /** Opens the connection, and keeps it open. */
  connect(): void;
  /** Closes for good. What is pending fails; forget leaves nothing of it, for a user who signs out. */
  close(options?: { forget?: boolean }): void;
  /** Joins a room, now or with the connection, and again after each reconnection. */
  join(room: string): Promise<JoinRoomAck>;
  /** Leaves a room. */
  leave(room: string): Promise<void>;
  /**
   * Sends a text; the promise is settled by the server's answer. replyTo is the seq of a message in the room that this one
   * answers; data is an object of the application's own, as JSON has it: at most 4096 bytes and 32 levels.
   */
  send(
    room: string,
    text: string,
    options?: { clientId?: string; replyTo?: number; data?: { [name: string]: unknown } },
  ): Promise<SendMessageAck>;
  /** Sends a failed message again, under the same clientId. */
  retry(clientId: string): Promise<SendMessageAck>;
  /** Forgets a failed message, and reports whether there was one. */
  discard(clientId: string): boolean;
  /**
   * Gives a message of one's own another text, and other data if there is some. The promise is settled by the server's answer;
   * "changed" shows the message at once. Over a lost connection the change is asked for again. What the same user has changed
   * meanwhile elsewhere is overwritten. A change survives a reload with options.storage, but not a connection that was closed for
   * good, by close() or by the server. Join the room first: then a server that knows no changes is asked for none, and the change
   * is refused with changes_not_supported. In a room that was not joined, such a server ends the connection for it.
   */
  edit(room: string, seq: number, text: string, options?: { data?: { [name: string]: unknown } }): Promise<ChangeAck>;
  /** Erases a message of one's own: text, data and reactions. As edit. */
  delete(room: string, seq: number): Promise<ChangeAck>;
  /** Reacts to a message with a short text, mostly an emoji; on = false takes it back. As edit. */
  react(room: string, seq: number, key: string, on?: boolean): Promise<ChangeAck>;
  /** A message as it is now, with one's own pending changes, if it is among the last thousand that were read of the room. */
  message(room: string, seq: number): ChatMessage | undefined;
  /**
   * Says that the user has read a room up to a message, and what comes before it; 0 only asks. It never goes back, and a message that
   * the client does not know yet is not marked. Resolves with how far the user has read and how many messages are unread, after that was
   * stored. At most one mark a second is sent for a room: of those that wait, the highest. Over a lost connection it is sent again,
   * unless it was stored. It rejects if the server refuses it, with not_joined in a room that was not joined, and with
   * marks_not_supported if the server is too old. To send a message marks it too.
   */
  mark(room: string, seq: number): Promise<MarkReadAck>;
  /** How far the user has read a room that was joined, on any device: a seq. undefined where that is not known. */
  read(room: string): number | undefined;
  /**
   * How many messages of a room that was joined the user has not read, as far as they are known here; what was deleted does not count. "unread" tells
   * when it changes. Of more than a thousand, and of those that came before the first that was read here, the server is asked how many
   * they are; while others come or are deleted there, the number may be off by those for up to a minute. It needs options.user, and is undefined
   * where it is not known, or if the server is too old.
   */
  unread(room: string): number | undefined;
  /** Says that the user types, at each key, or has stopped. */
  typing(room: string, on?: boolean): void;
  /** Who is in a room. It needs an open connection. */
  presence(room: string): Promise<PresenceAck>;
  /** Older or newer messages, as they are now. They do not become events. It needs an open connection. */
  history(room: string, range?: { before?: number; after?: number; changedAfter?: number; limit?: number }): Promise<HistoryAck>;
  /** Who types in a room. */
  typists(room: string): User[];

  /**
   * Sends an event of the application, and resolves with the data of its answer. It is sent once: when
   * the connection is lost before the answer, nobody knows whether it arrived. It needs an open connection.
   */
  call<K extends keyof E["client"] & keyof E["acks"] & string>(event: K, data: E["client"][K]): Promise<E["acks"][K]>;
  call(event: string, data?: object): Promise<unknown>;
  /** Sends an event of the application without asking for an answer. Reports whether there is a connection. */
  emit<K extends keyof E["client"] & string>(event: K, data: E["client"][K]): boolean;
  emit(event: string, data?: object): boolean;

  /** As those of EventTarget. */
  addEventListener<K extends keyof ParleyEventMap>(
    type: K,
    listener: (event: ParleyEventMap<E["server"]>[K]) => void,
    options?: boolean | { once?: boolean; signal?: AbortSignal },
  ): void;
  removeEventListener<K extends keyof ParleyEventMap>(type: K, listener: (event: ParleyEventMap<E["server"]>[K]) => void): void;
}
