// The browser client of Parley: accounts and sessions, and the socket.

export { afterClose, checkReaction, checkRoom, checkText, MAX_REACTION, MAX_ROOM_NAME, MAX_TEXT, Parley, ParleyError, PROTOCOL } from "./parley.js";
export { Problem, Session, words } from "./session.js";
