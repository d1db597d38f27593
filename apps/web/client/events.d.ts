// Printed from the socket's schema. Do not edit.

/** Which room, and what was seen of it. */
export interface JoinRoom {
  /** The room's name: visible characters, no space at either end. U+200C and U+200D may stand where a script or an emoji needs them. Answers and events have it in Unicode's form NFC. */
  room: string;
  /** The last sequence that the client has seen; without it the answer holds the newest messages. */
  since?: number;
  /** With since: the rev of the room as the client knows it. Then the answer has changes. */
  rev?: number;
}

/** Somebody, as others see them. */
export interface User {
  /** The user's id. */
  id: string;
  /** The user's full name. */
  name: string;
}

/** What users think of a message. */
export interface Reaction {
  /** A short text, mostly an emoji. */
  key: string;
  /** How many users have reacted so. */
  count: number;
  /** The ids of some of them, at most 20. */
  users: string[];
}

/** A stored message, as it is now. */
export interface ChatMessage {
  /** The room's name. */
  room: string;
  /** The place in the room's sequence 1, 2, 3, … without gaps. */
  seq: number;
  /** The place of its last change in the room's sequence of changes; 0: it was never changed. */
  rev: number;
  /** Names the message everywhere and for ever. */
  id: string;
  /** The sender's own name for the message, if it has one. */
  clientId?: string;
  /** Who said it. */
  user: User;
  /** What is said; empty if it was deleted. */
  text: string;
  /** When the message was committed. */
  at: string;
  /** When it was last edited. */
  editedAt?: string;
  /** When it was deleted: text, data, replyTo and reactions are gone. */
  deletedAt?: string;
  /** The seq of the message in this room that it answers. */
  replyTo?: number;
  /** The application's: a JSON object of at most 4096 bytes, written without white space between tokens, and at most 32 levels deep. All else stays byte for byte. */
  data?: { [name: string]: unknown };
  /** In the order in which their keys came, at most 20. */
  reactions?: Reaction[];
}

/** The room as it stands. Live messages follow from seq+1 on. */
export interface JoinRoomAck {
  /** The room's name. */
  room: string;
  /** The room's last sequence; 0 if it has no messages. If messages ends before it, ask for the rest with history. */
  seq: number;
  /** The room's sequence of changes: each edit, deletion and reaction counts one, 1, 2, 3, … without gaps. What the answer holds is at least as new. */
  rev: number;
  /** How far the user has read the room: a seq. */
  read: number;
  /** False if messages after since were deleted, or since or rev is ahead of the room: show the room anew. */
  recovered: boolean;
  /** Ascending by seq. */
  messages: ChatMessage[];
  /** With rev: the messages up to since, or up to the last one that this connection was given live, that were changed after it, as they are now, ascending by rev. If the last one's rev is lower than rev, ask for the rest with history and changedAfter. */
  changes?: ChatMessage[];
}

/** Which room. */
export interface LeaveRoom {
  /** The room's name: visible characters, no space at either end. U+200C and U+200D may stand where a script or an emoji needs them. Answers and events have it in Unicode's form NFC. */
  room: string;
}

/** Nothing. */
export interface Empty {
}

/** What is said where. */
export interface SendMessage {
  /** The room's name: visible characters, no space at either end. U+200C and U+200D may stand where a script or an emoji needs them. Answers and events have it in Unicode's form NFC. */
  room: string;
  /** What is said. U+0000 is refused, and so, by an error, is a text without a character that can be seen. */
  text: string;
  /** The sender's own name for the message. Sending the same again stores nothing and has the same answer. */
  clientId?: string;
  /** The seq of the message in this room that it answers. One that the room has not reached is refused by an error. */
  replyTo?: number;
  /** The application's: a JSON object of at most 4096 bytes, written without white space between tokens, and at most 32 levels deep. All else stays byte for byte. U+0000 is refused, in names too. */
  data?: { [name: string]: unknown };
}

/** The message's place. The same clientId again has the same answer. */
export interface SendMessageAck {
  /** The room's name. */
  room: string;
  /** The place in the room's sequence 1, 2, 3, … without gaps. */
  seq: number;
  /** Names the message everywhere and for ever. */
  id: string;
  /** When the message was committed. */
  at: string;
}

/** Which message, and what it says from now on. */
export interface EditMessage {
  /** The room's name: visible characters, no space at either end. U+200C and U+200D may stand where a script or an emoji needs them. Answers and events have it in Unicode's form NFC. */
  room: string;
  /** Which message of the room. */
  seq: number;
  /** What is said. U+0000 is refused, and so, by an error, is a text without a character that can be seen. */
  text: string;
  /** Takes the place of the message's data; without it that stays. The application's: a JSON object of at most 4096 bytes, written without white space between tokens, and at most 32 levels deep. All else stays byte for byte. U+0000 is refused, in names too. */
  data?: { [name: string]: unknown };
}

/** The message has changed. What it is now comes to all by changed. */
export interface ChangeAck {
  /** The room's name. */
  room: string;
  /** Which message of the room. */
  seq: number;
  /** The message's last change. What changes nothing has the one that was last. */
  rev: number;
}

/** Which message. */
export interface DeleteMessage {
  /** The room's name: visible characters, no space at either end. U+200C and U+200D may stand where a script or an emoji needs them. Answers and events have it in Unicode's form NFC. */
  room: string;
  /** Which message of the room. */
  seq: number;
}

/** Which message, and how. */
export interface React {
  /** The room's name: visible characters, no space at either end. U+200C and U+200D may stand where a script or an emoji needs them. Answers and events have it in Unicode's form NFC. */
  room: string;
  /** Which message of the room. */
  seq: number;
  /** A short text that can be seen, mostly an emoji. Another one is refused by an error. */
  key: string;
  /** False: take it back. True unless given. */
  on?: boolean;
}

/** Which room, and up to where. */
export interface MarkRead {
  /** The room's name: visible characters, no space at either end. U+200C and U+200D may stand where a script or an emoji needs them. Answers and events have it in Unicode's form NFC. */
  room: string;
  /** The seq of the last message that was read. One behind the room's last message means that one; 0 only asks. */
  read: number;
}

/** How far the user has read. */
export interface MarkReadAck {
  /** The room's name. */
  room: string;
  /** How far the user has read the room: a seq. */
  read: number;
  /** How many messages come behind it that are stored and not deleted. */
  unread: number;
}

/** Who types is known; where is not. */
export interface IsTyping {
  /** The room's name: visible characters, no space at either end. U+200C and U+200D may stand where a script or an emoji needs them. Answers and events have it in Unicode's form NFC. */
  room: string;
  /** True unless given. */
  typing?: boolean;
}

/** Which messages. Without before, after and changedAfter: the newest. */
export interface History {
  /** The room's name: visible characters, no space at either end. U+200C and U+200D may stand where a script or an emoji needs them. Answers and events have it in Unicode's form NFC. */
  room: string;
  /** Only messages with a lower sequence, the highest of them first to be taken. */
  before?: number;
  /** Only messages with a higher sequence, the lowest of them first to be taken. */
  after?: number;
  /** Only messages with a higher rev, ascending by rev. Before and after have no effect then. */
  changedAfter?: number;
  /** How many at most; the server may give fewer. */
  limit?: number;
}

/** A page. */
export interface HistoryAck {
  /** Ascending by seq. */
  messages: ChatMessage[];
  /** The range holds further messages. */
  more: boolean;
}

/** Which room. */
export interface Presence {
  /** The room's name: visible characters, no space at either end. U+200C and U+200D may stand where a script or an emoji needs them. Answers and events have it in Unicode's form NFC. */
  room: string;
}

/** Who is there, on any node. */
export interface PresenceAck {
  /** At most a stated number of them, by id. */
  members: User[];
  /** How many there are. */
  count: number;
}

/** The new token. */
export interface Renew {
  /** An access token, as for the handshake. */
  token: string;
}

/** The connection goes on. */
export interface RenewAck {
  /** Seconds until it ends, unless it is renewed again. */
  expiresIn: number;
}

/** Nothing. */
export interface HealthCheck {
}

/** The answer to healthCheck. */
export interface HealthCheckAck {
  /** OK */
  message: string;
}

/** Who types where. */
export interface Typing {
  /** The room's name. */
  room: string;
  /** Who it is about. */
  user: User;
  /** False: has stopped. */
  typing: boolean;
}

/** Who came. */
export interface Joined {
  /** The room's name. */
  room: string;
  /** Who it is about. */
  user: User;
}

/** Who left. */
export interface Left {
  /** The room's name. */
  room: string;
  /** Who it is about. */
  user: User;
}

/** Who may do what from now on. */
export interface MembershipChange {
  /** The room's name. */
  room: string;
  /** Who it is about. */
  user: User;
  /** What the user may do in the room from now on; null: no longer a member. */
  role: "owner" | "moderator" | "member" | "reader" | null;
  /** Until then the user cannot send, change, react or type here: 9999-12-31T23:59:59Z if that has no end. Absent: they can. */
  mutedUntil?: string;
  /** The id of who has done it. */
  by?: string;
  /** What they said to it. */
  reason?: string;
}

/** Who has read how far. */
export interface Marked {
  /** The room's name. */
  room: string;
  /** Who it is about. */
  user: User;
  /** How far the user has read the room: a seq. */
  read: number;
}

/** Which room. */
export interface Resync {
  /** The room's name. */
  room: string;
}

/** What a client may send: the data of each event. */
export interface ClientEvents {
  join_room: JoinRoom;
  leave_room: LeaveRoom;
  message: SendMessage;
  edit: EditMessage;
  delete: DeleteMessage;
  react: React;
  mark: MarkRead;
  isTyping: IsTyping;
  history: History;
  presence: Presence;
  renew: Renew;
  healthCheck: HealthCheck;
}

/** The answer to each event of a client. */
export interface Acks {
  join_room: JoinRoomAck;
  leave_room: Empty;
  message: SendMessageAck;
  edit: ChangeAck;
  delete: ChangeAck;
  react: ChangeAck;
  mark: MarkReadAck;
  isTyping: Empty;
  history: HistoryAck;
  presence: PresenceAck;
  renew: RenewAck;
  healthCheck: HealthCheckAck;
}

/** What the server sends: the data of each event. */
export interface ServerEvents {
  message: ChatMessage;
  changed: ChatMessage;
  isTyping: Typing;
  joined: Joined;
  left: Left;
  membership: MembershipChange;
  marked: Marked;
  resync: Resync;
}
