export * from "./parley.js";
export { Problem, Session, words } from "./session.js";
export type { Account, ChannelLike, FetchLike, LocksLike, MyRoom, SessionEventMap, SessionOptions, SharedStorageLike, UserSettings } from "./session.js";
