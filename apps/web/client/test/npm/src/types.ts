// What a user may write, and what the types refuse.

import * as client from "@parley-chat/client";
import { afterClose, checkReaction, checkRoom, checkText, Parley, ParleyError, Problem, Session, words } from "@parley-chat/client";
import type { Acks, Change, ClientEvents, Outgoing, ServerEvents, SessionLike, StorageLike } from "@parley-chat/client";

/** Each name that the module exports. */
const names: Record<keyof typeof client, true> = {
  afterClose: true,
  checkReaction: true,
  checkRoom: true,
  checkText: true,
  MAX_REACTION: true,
  MAX_ROOM_NAME: true,
  MAX_TEXT: true,
  Parley: true,
  ParleyError: true,
  Problem: true,
  PROTOCOL: true,
  Session: true,
  words: true,
};
export default Object.keys(names).sort();

interface Events extends ClientEvents {
  roll: { room: string; sides: number };
}
interface Answers extends Acks {
  roll: { fell: number };
}
interface Sent extends ServerEvents {
  rolled: { room: string; fell: number };
}

/** Nobody calls it: it is there to be checked. */
export async function checked(storage: StorageLike): Promise<void> {
  const session: SessionLike & Session = new Session({ server: "https://chat.example.com", storage, shared: null });
  session.addEventListener("ended", ({ detail }) => detail.copy satisfies boolean);
  const parley = new Parley<{ client: Events; acks: Answers; server: Sent }>({ session, storage, rate: 5 });
  const { fell } = await parley.call("roll", { room: "hall", sides: 6 });
  fell satisfies number;
  parley.emit("roll", { room: "hall", sides: 6 }) satisfies boolean;
  parley.addEventListener("event", ({ detail }) => detail.data.fell satisfies number);
  parley.addEventListener("outgoing", ({ detail }) => (detail satisfies Outgoing).state, { once: true });
  // @ts-expect-error: the data has the wrong type
  parley.addEventListener("message", ({ detail }) => detail.message.text satisfies number);
  // @ts-expect-error: there is no such event of the client
  parley.addEventListener("messages", () => {});
  // @ts-expect-error: a room is a string
  void parley.join(7);

  const plain = new Parley({ ticket: async ({ renew }) => (renew ? "new" : "old"), url: "wss://chat.example.com/socket" });
  plain.addEventListener("event", ({ detail }) => detail.data satisfies unknown);
  const ack = await plain.send("hall", "hello");
  ack.seq satisfies number;
  (await plain.history("hall", { after: ack.seq })).messages satisfies client.ChatMessage[];
  (await plain.edit("hall", ack.seq, "hello again", { data: { by: "hand" } })).rev satisfies number;
  (await plain.react("hall", ack.seq, "👍", false)).seq satisfies number;
  (await plain.delete("hall", ack.seq)).room satisfies string;
  plain.message("hall", ack.seq)?.reactions?.[0]?.users satisfies string[] | undefined;
  plain.changes satisfies Change[];
  plain.addEventListener("changed", ({ detail }) => (detail.pending && detail.message.deletedAt) satisfies string | false | undefined);
  plain.addEventListener("change", ({ detail }) => detail.error?.code satisfies string | undefined);
  (await plain.mark("hall", ack.seq)).unread satisfies number;
  [plain.read("hall"), plain.unread("hall")] satisfies (number | undefined)[];
  plain.addEventListener("marked", ({ detail }) => detail.user.id satisfies string);
  plain.addEventListener("unread", ({ detail }) => detail.unread satisfies number | undefined);
  const { rooms, next } = await session.rooms({ limit: 10 });
  if (next) (await session.rooms({ cursor: next })).rooms satisfies client.MyRoom[];
  rooms[0]?.last?.text satisfies string | undefined;
  // @ts-expect-error: which message is a number
  void plain.mark("hall", "1");
  // @ts-expect-error: which message is a number
  void plain.edit("hall", "1", "hello");
  try {
    await session.signIn("ada@example.com", "password");
    (await session.signInAt("/sso", { code: "once" })).id satisfies string;
  } catch (err) {
    if (err instanceof Problem) err.retryAfter satisfies number;
    if (err instanceof ParleyError) err.code satisfies string;
    words(err) satisfies string;
  }
  checkRoom("hall") satisfies ParleyError | null;
  checkReaction("👍") satisfies ParleyError | null;
  checkText("hello") satisfies ParleyError | null;
  afterClose(1006) satisfies "now" | "later" | "renew" | "stop";
}
