// Printed from the socket's schema. Do not edit.

/** Which room, and what was seen of it. */
export interface JoinRoom {
  /** The room's name: visible characters, no space at either end. U+200C and U+200D may stand where a script or an emoji needs them. Answers and events have it in Unicode's form NFC. */
  room: string;
  /** The last sequence that the client has seen; without it the answer holds the newest messages. */
  since?: number;
}

/** Somebody, as others see them. */
export interface User {
  /** The user's id. */
  id: string;
  /** The user's full name. */
  name: string;
}

/** A stored message. */
export interface ChatMessage {
  /** The room's name. */
  room: string;
  /** The place in the room's sequence 1, 2, 3, … without gaps. */
  seq: number;
  /** Names the message everywhere and for ever. */
  id: string;
  /** The sender's own name for the message, if it has one. */
  clientId?: string;
  /** Who said it. */
  user: User;
  /** What is said. */
  text: string;
  /** When the message was committed. */
  at: string;
  /** The seq of the message in this room that it answers. */
  replyTo?: number;
  /** The application's: a JSON object of at most 4096 bytes, written without white space between tokens, and at most 32 levels deep. All else stays byte for byte. */
  data?: { [name: string]: unknown };
}

/** The room as it stands. Live messages follow from seq+1 on. */
export interface JoinRoomAck {
  /** The room's name. */
  room: string;
  /** The room's last sequence; 0 if it has no messages. If messages ends before it, ask for the rest with history. */
  seq: number;
  /** False if messages after since were deleted, or since is ahead of the room: show the room anew. */
  recovered: boolean;
  /** Ascending by seq. */
  messages: ChatMessage[];
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

/** Who types is known; where is not. */
export interface IsTyping {
  /** The room's name: visible characters, no space at either end. U+200C and U+200D may stand where a script or an emoji needs them. Answers and events have it in Unicode's form NFC. */
  room: string;
  /** True unless given. */
  typing?: boolean;
}

/** Which messages. Without before and after: the newest. */
export interface History {
  /** The room's name: visible characters, no space at either end. U+200C and U+200D may stand where a script or an emoji needs them. Answers and events have it in Unicode's form NFC. */
  room: string;
  /** Only messages with a lower sequence, the highest of them first to be taken. */
  before?: number;
  /** Only messages with a higher sequence, the lowest of them first to be taken. */
  after?: number;
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
  /** null: no longer a member. */
  role: string | null;
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
  isTyping: Empty;
  history: HistoryAck;
  presence: PresenceAck;
  renew: RenewAck;
  healthCheck: HealthCheckAck;
}

/** What the server sends: the data of each event. */
export interface ServerEvents {
  message: ChatMessage;
  isTyping: Typing;
  joined: Joined;
  left: Left;
  membership: MembershipChange;
  resync: Resync;
}
