import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { afterClose, checkReaction, checkRoom, checkText, Parley, PROTOCOL } from "../parley.js";

const me = { id: "u1", name: "Ada" };
const other = { id: "u2", name: "Bob" };

// Time goes on when the test says so, for timers and for the clock that nobody sets alike.
beforeEach(() => {
  mock.timers.reset();
  mock.restoreAll();
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const ticks = Date.now;
  mock.method(performance, "now", () => ticks());
});

/** Lets the client listen to a page, and returns its listeners. */
function page(t) {
  const listeners = {};
  globalThis.addEventListener = (type, listener) => (listeners[type] = listener);
  globalThis.removeEventListener = () => {};
  t.after(() => {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
  });
  return listeners;
}

/** Sets the wall clock. */
function setClock(by) {
  const right = Date.now;
  mock.method(Date, "now", () => right() + by);
}

/** Lets everything happen that waits for nothing but promises. */
async function settle() {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
}

async function pass(ms) {
  mock.timers.tick(ms);
  await settle();
}

const EVENTS = ["message", "lost", "state", "outgoing", "typing", "resync", "forgotten", "joined", "left", "membership", "changed", "change", "marked", "unread"];

/** A client whose sockets are played by the test. */
function client(options = {}, events = EVENTS) {
  const sockets = [];
  const tickets = [];
  class FakeSocket {
    constructor(url, protocols) {
      Object.assign(this, { url, protocols, sent: [], closed: false });
      sockets.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close(code) {
      this.closed = code;
    }
  }
  const parley = new Parley({
    url: "ws://chat.test/socket",
    WebSocket: FakeSocket,
    user: me,
    random: () => 0,
    ticket: async (request) => {
      tickets.push({ renew: request.renew });
      return `t${tickets.length}`;
    },
    ...options,
  });
  const log = [];
  for (const type of events) {
    parley.addEventListener(type, ({ detail }) => log.push([type, detail]));
  }
  const it = {
    parley,
    sockets,
    tickets,
    log,
    get socket() {
      return sockets.at(-1);
    },
    get seen() {
      return log.filter(([type]) => type === "message").map(([, d]) => d.message.seq);
    },
    details: (type) => log.filter(([t]) => t === type).map(([, d]) => d),
    async open() {
      await settle();
      it.socket.onopen({});
      await settle();
    },
    async serverSends(frame) {
      it.socket.onmessage({ data: JSON.stringify(frame) });
      await settle();
    },
    async drops(code) {
      it.socket.onclose({ code, reason: "" });
      await settle();
    },
    /** The next frame that the client sent, which must be of this event. */
    next(event) {
      const frame = it.socket.sent.shift();
      assert.equal(frame?.event, event, `expected ${event}, got ${JSON.stringify(frame)}`);
      return frame;
    },
    async acks(frame, data) {
      await it.serverSends({ id: frame.id, event: "ack", data });
    },
    async connected(...rooms) {
      const joins = rooms.map((room) => parley.join(room));
      parley.connect();
      await it.open();
      for (const room of rooms) await it.acks(it.next("join_room"), { room, seq: 0, recovered: true, messages: [] });
      await Promise.all(joins);
    },
  };
  return it;
}

/** A client in the lobby, which has messages and a rev. */
async function revised(options, { rev = 0, messages = [message(1), message(2, { user: me })], storage: kept } = {}) {
  const c = client({ ...options, ...(kept && { storage: kept }) });
  const joined = c.parley.join("lobby");
  c.parley.connect();
  await c.open();
  const seq = messages.at(-1)?.seq ?? 0;
  await c.acks(c.next("join_room"), { room: "lobby", seq, rev, recovered: true, messages: messages.map((m) => ({ rev: 0, ...m })) });
  await joined;
  c.texts = () => c.details("changed").map((d) => [d.message.seq, d.message.text, d.pending]);
  c.changed = (seq, rev, more) => c.serverSends({ event: "changed", data: message(seq, { rev, ...more }) });
  c.refuses = (frame, code) => c.serverSends({ id: frame.id, event: "error", error: { code, title: "no" } });
  c.returns = async (code = 1006) => {
    await c.drops(code);
    await pass(10_000);
    await c.open();
  };
  return c;
}

function message(seq, more = {}) {
  return { room: "lobby", seq, id: `m${seq}`, user: other, text: `text ${seq}`, at: "2026-01-02T03:04:05.000000Z", ...more };
}

test("connects with a ticket and the subprotocol", async () => {
  const c = client();
  c.parley.connect();
  await settle();
  assert.equal(c.socket.url, "ws://chat.test/socket?ticket=t1");
  assert.deepEqual(c.socket.protocols, [PROTOCOL]);
  assert.deepEqual(c.tickets, [{ renew: false }]);
  await c.open();
  assert.equal(c.parley.state, "open");
});

test("asks for a room's messages page by page until the live edge", async () => {
  const c = client({ pageSize: 2 });
  const joined = c.parley.join("lobby");
  c.parley.connect();
  await c.open();
  const join = c.next("join_room");
  assert.deepEqual(join.data, { room: "lobby" });
  await c.acks(join, { room: "lobby", seq: 7, recovered: true, messages: [message(3), message(4)] });
  for (const [after, seqs, more] of [[4, [5, 6], true], [6, [7], false]]) {
    const page = c.next("history");
    assert.deepEqual(page.data, { room: "lobby", after, limit: 2 });
    await c.acks(page, { messages: seqs.map((s) => message(s)), more });
  }
  assert.equal((await joined).seq, 7);
  assert.deepEqual(c.seen, [3, 4, 5, 6, 7]);
  assert.equal(c.socket.sent.length, 0);
});

test("live messages that come before the answer wait for it", async () => {
  const c = client();
  void c.parley.join("lobby");
  c.parley.connect();
  await c.open();
  await c.serverSends({ event: "message", data: message(3) });
  assert.deepEqual(c.seen, []);
  await c.acks(c.next("join_room"), { room: "lobby", seq: 2, recovered: true, messages: [message(1), message(2)] });
  assert.deepEqual(c.seen, [1, 2, 3]);
});

test("comes back with since, fills what the answer left out and drops doubles", async () => {
  const c = client();
  await c.connected("lobby");
  await c.serverSends({ event: "message", data: message(1) });
  await c.serverSends({ event: "message", data: message(1) });
  await c.drops(1012);
  await pass(0);
  await c.open();
  const join = c.next("join_room");
  assert.deepEqual(join.data, { room: "lobby", since: 1 });
  // The newest ones without those in between: they must not be skipped in silence.
  await c.acks(join, { room: "lobby", seq: 4, recovered: true, messages: [message(4)] });
  const page = c.next("history");
  assert.equal(page.data.after, 1);
  await c.acks(page, { messages: [message(2), message(3), message(4)], more: false });
  assert.deepEqual(c.seen, [1, 2, 3, 4]);
  assert.deepEqual(c.details("lost"), []);
});

test("a hole in the live stream is filled after a grace period", async () => {
  const c = client();
  await c.connected("lobby");
  await c.serverSends({ event: "message", data: message(1) });
  await c.serverSends({ event: "message", data: message(3) });
  assert.deepEqual(c.seen, [1]);
  assert.equal(c.socket.sent.length, 0);
  await pass(400);
  await c.acks(c.next("history"), { messages: [message(2), message(3)], more: false });
  assert.deepEqual(c.seen, [1, 2, 3]);
});

test("a straggler within the grace period needs no request", async () => {
  const c = client();
  await c.connected("lobby");
  for (const seq of [2, 1]) await c.serverSends({ event: "message", data: message(seq) });
  await pass(400);
  assert.deepEqual(c.seen, [1, 2]);
  assert.equal(c.socket.sent.length, 0);
});

test("what is gone from the server is surfaced, and what follows comes", async () => {
  const c = client();
  await c.connected("lobby");
  await c.serverSends({ event: "message", data: message(5) });
  await pass(400);
  await c.acks(c.next("history"), { messages: [message(4), message(5)], more: false });
  assert.deepEqual(c.seen, [4, 5], "a page of the store may have a hole");
  await c.serverSends({ event: "message", data: message(9) });
  await pass(400);
  await c.acks(c.next("history"), { messages: [], more: false });
  assert.deepEqual(c.details("lost"), [{ room: "lobby", after: 5, before: 9 }]);
  assert.deepEqual(c.seen, [4, 5, 9]);
});

test("a page has what was there when it was asked for: what came later and is missing is asked for again", async () => {
  const c = client();
  await c.connected("lobby");
  await c.serverSends({ event: "message", data: message(1) });
  await c.serverSends({ event: "message", data: message(3) });
  await pass(400);
  const page = c.next("history");
  await c.serverSends({ event: "message", data: message(5) });
  await c.acks(page, { messages: [message(2), message(3)], more: false });
  const next = c.next("history");
  assert.equal(next.data.after, 3);
  await c.acks(next, { messages: [message(4), message(5)], more: false });
  assert.deepEqual([c.seen, c.details("lost"), c.socket.sent], [[1, 2, 3, 4, 5], [], []]);
});

test("recovered: false is surfaced", async () => {
  const c = client();
  await c.connected("lobby");
  await c.serverSends({ event: "message", data: message(1) });
  await c.drops(1006);
  await pass(0);
  await c.open();
  await c.acks(c.next("join_room"), { room: "lobby", seq: 20, recovered: false, messages: [message(19), message(20)] });
  assert.deepEqual(c.details("lost"), [{ room: "lobby", after: 1 }]);
  assert.deepEqual(c.seen, [1, 19, 20]);
});

test("a room whose sequence began anew is shown anew", async () => {
  const c = client();
  await c.connected("lobby");
  await c.serverSends({ event: "message", data: message(1) });
  await c.serverSends({ event: "message", data: message(2) });
  await c.drops(1006);
  await pass(0);
  await c.open();
  await c.acks(c.next("join_room"), { room: "lobby", seq: 1, recovered: false, messages: [message(1)] });
  assert.deepEqual(c.details("lost"), [{ room: "lobby", after: 2, restarted: true }]);
  await c.serverSends({ event: "message", data: message(2) });
  assert.deepEqual(c.seen, [1, 2, 1, 2]);
});

test("what came ahead in a former life is not shown in the new one", async () => {
  const c = client();
  await c.connected("lobby");
  for (const seq of [1, 2, 4]) await c.serverSends({ event: "message", data: message(seq, { text: "former" }) });
  await c.drops(1006);
  await pass(0);
  await c.open();
  await c.acks(c.next("join_room"), { room: "lobby", seq: 1, recovered: false, messages: [message(1)] });
  for (const seq of [2, 3]) await c.serverSends({ event: "message", data: message(seq) });
  assert.deepEqual(c.seen, [1, 2, 1, 2, 3]);
});

test("resync joins again with since", async () => {
  const c = client();
  await c.connected("lobby");
  await c.serverSends({ event: "message", data: message(1) });
  await c.serverSends({ event: "resync", data: { room: "lobby" } });
  const join = c.next("join_room");
  assert.deepEqual(join.data, { room: "lobby", since: 1 });
  await c.serverSends({ event: "message", data: message(3) });
  await c.acks(join, { room: "lobby", seq: 2, recovered: true, messages: [message(2)] });
  assert.deepEqual(c.details("resync"), [{ room: "lobby" }]);
  assert.deepEqual(c.seen, [1, 2, 3]);
});

test("resync is told when the room is not joined any more, so that whoever joins it then waits for the answer", async () => {
  const c = await revised();
  let again;
  c.parley.addEventListener("resync", () => (again = c.parley.join("lobby").then((ack) => ack.rev)));
  await c.serverSends({ event: "resync", data: { room: "lobby" } });
  await c.acks(c.next("join_room"), { room: "lobby", seq: 2, rev: 7, recovered: true, messages: [], changes: [message(1, { rev: 7 })] });
  assert.equal(await again, 7);
  assert.equal(c.socket.sent.length, 0, "it is joined once");
});

test("a page that was read before a room is joined again is dropped, whenever it comes", async () => {
  const read = [11, 12, 13, 14].map((seq) => message(seq, { rev: 0 }));
  for (const order of ["before the answer", "behind the answer"]) {
    for (const stale of [read, []]) {
      const c = await revised({}, { rev: 5, messages: [message(10)] });
      await c.serverSends({ event: "message", data: message(13, { rev: 0 }) });
      await pass(400);
      const page = c.next("history");
      assert.equal(page.data.after, 10);
      await c.serverSends({ event: "resync", data: { room: "lobby" } });
      const join = c.next("join_room");
      assert.deepEqual(join.data, { room: "lobby", since: 10, rev: 5 });
      const comes = () => c.acks(page, { messages: stale, more: false });
      if (order === "before the answer") await comes();
      assert.deepEqual([c.seen, c.socket.sent], [[10], []], order);
      await c.acks(join, { room: "lobby", seq: 14, rev: 8, recovered: true, messages: [11, 12].map((seq) => message(seq, { rev: 0 })), changes: [message(3, { rev: 8 })] });
      if (order === "behind the answer") await comes();
      const rest = c.next("history");
      assert.deepEqual([c.seen, rest.data.after], [[10, 11, 12], 12], order);
      await c.acks(rest, { messages: [message(13, { rev: 6, text: "6" }), message(14, { rev: 7, text: "7" })], more: false });
      assert.deepEqual(c.details("message").map((d) => d.message.text), ["text 10", "text 11", "text 12", "6", "7"], order);
      assert.deepEqual([c.details("lost"), c.socket.sent], [[], []], order);
      c.parley.close();
    }
  }
});

test("the answer to a probe is dropped if the room is joined again meanwhile", async () => {
  const c = await revised({}, { rev: 5 });
  await pass(60_000);
  const probe = c.next("history");
  await c.serverSends({ event: "resync", data: { room: "lobby" } });
  await c.acks(probe, { messages: [message(3, { rev: 0 })], more: false });
  assert.deepEqual(c.seen, [1, 2]);
  await c.acks(c.next("join_room"), { room: "lobby", seq: 3, rev: 6, recovered: true, messages: [message(3, { rev: 6, text: "6" })], changes: [] });
  assert.equal(c.parley.message("lobby", 3).text, "6");
});

test("what came before the answer to join_room does not take the place of what the answer leaves to its pages", async () => {
  const early = {
    "a message": { event: "message", data: message(4, { rev: 0 }) },
    "a change": { event: "changed", data: message(4, { rev: 6, text: "6" }) },
  };
  for (const [what, frame] of Object.entries(early)) {
    for (const again of ["resync", "another connection"]) {
      const c = await revised({}, { rev: 5 });
      if (again === "another connection") {
        await c.serverSends(frame);
        await c.returns();
      } else {
        await c.serverSends({ event: "resync", data: { room: "lobby" } });
        await c.serverSends(frame);
      }
      await c.acks(c.next("join_room"), { room: "lobby", seq: 4, rev: 8, recovered: true, messages: [message(3, { rev: 0 })], changes: [message(1, { rev: 8 })] });
      await c.acks(c.next("history"), { messages: [message(4, { rev: 7, text: "7" })], more: false });
      assert.deepEqual(c.details("message").map((d) => d.message.text), ["text 1", "text 2", "text 3", "7"], `${what}, ${again}`);
      c.parley.close();
    }
  }
});

test("an own message whose acknowledgement comes late is shown as it is then", async () => {
  const c = await revised({ pageSize: 1 }, { rev: 5 });
  void c.parley.send("lobby", "Hello");
  const sent = c.next("message");
  await c.serverSends({ event: "resync", data: { room: "lobby" } });
  await c.acks(c.next("join_room"), { room: "lobby", seq: 5, rev: 7, recovered: true, messages: [message(3, { rev: 0 })], changes: [message(1, { rev: 7 })] });
  const page = c.next("history");
  await c.acks(sent, { room: "lobby", seq: 5, id: "m5", at: "2026-01-02T03:04:05.000000Z" });
  await c.acks(page, { messages: [message(4, { rev: 0 })], more: true });
  const mine = message(5, { rev: 6, user: me, text: "Hello", reactions: [{ key: "👍", count: 1, users: ["u2"] }] });
  await c.acks(c.next("history"), { messages: [mine], more: false });
  assert.deepEqual(c.parley.message("lobby", 5), mine);
});

test("who waits for a room that has to be joined again waits for the new answer and its messages", async () => {
  const c = client();
  const joined = c.parley.join("lobby").then((ack) => ack.seq);
  c.parley.connect();
  await c.open();
  await c.acks(c.next("join_room"), { room: "lobby", seq: 3, recovered: true, messages: [message(1)] });
  const page = c.next("history");
  await c.serverSends({ event: "resync", data: { room: "lobby" } });
  await c.acks(page, { messages: [message(2), message(3)], more: false });
  await c.acks(c.next("join_room"), { room: "lobby", seq: 4, recovered: true, messages: [2, 3, 4].map((seq) => message(seq)) });
  assert.equal(await joined, 4);
  assert.deepEqual(c.seen, [1, 2, 3, 4]);
});

test("an acknowledged message is shown once, with or without the echo", async () => {
  for (const echo of ["none", "before", "after"]) {
    const c = client();
    await c.connected("lobby");
    const sent = c.parley.send("lobby", "Hello");
    const frame = c.next("message");
    const ack = { room: "lobby", seq: 1, id: "m1", at: "2026-01-02T03:04:05.000000Z" };
    const back = { event: "message", data: message(1, { user: me, text: "Hello", clientId: frame.data.clientId }) };
    if (echo === "before") await c.serverSends(back);
    await c.acks(frame, ack);
    if (echo === "after") await c.serverSends(back);
    assert.deepEqual(await sent, ack);
    assert.deepEqual(c.seen, [1], echo);
    assert.deepEqual(c.details("message")[0].message, back.data, echo);
    assert.deepEqual(c.details("outgoing").map((o) => o.state), ["pending", "sent"], echo);
    assert.deepEqual(c.parley.outgoing, []);
    c.parley.close();
  }
});

test("a message carries what it answers, and data of the application, also over a loss and a reload", async () => {
  const kept = storage();
  const c = client({ storage: kept });
  await c.connected("lobby");
  const data = { card: { n: 1 }, left: undefined };
  const sent = c.parley.send("lobby", "Tea.", { clientId: "x", replyTo: 3, data });
  data.card.n = 2; // later changes are not sent
  const more = { replyTo: 3, data: { card: { n: 1 } } };
  assert.deepEqual(c.next("message").data, { room: "lobby", text: "Tea.", clientId: "x", ...more });
  assert.deepEqual(c.details("outgoing")[0].data, more.data);
  await c.drops(1006);
  const after = client({ storage: kept });
  assert.deepEqual([after.parley.outgoing[0].replyTo, after.parley.outgoing[0].data], [3, more.data]);
  void after.parley.join("lobby");
  after.parley.connect();
  await after.open();
  await after.acks(after.next("join_room"), { room: "lobby", seq: 0, recovered: true, messages: [] });
  const again = after.next("message");
  assert.deepEqual(again.data, { room: "lobby", text: "Tea.", clientId: "x", ...more });
  await after.acks(again, { room: "lobby", seq: 1, id: "m1", at: "2026-01-02T03:04:05.000000Z" });
  assert.deepEqual(after.details("message")[0].message, message(1, { user: me, text: "Tea.", clientId: "x", ...more }));
  void sent.catch(() => {});
  c.parley.close();
  after.parley.close();
});

test("data that the server would close the connection for is refused before it is sent", async () => {
  const c = client();
  await c.connected("lobby");
  const ring = {};
  ring.ring = ring;
  let deep = {};
  for (let i = 1; i < 32; i++) deep = { deep };
  const far = "é".repeat(2043);
  for (const data of [null, [], "x", 7, () => {}, ring, { deep }, { far: `${far}x` }, { a: "\0" }, { "\0": 1 }, { a: ["\ud800"] }, { a: 1n }]) {
    await assert.rejects(c.parley.send("lobby", "x", { data }), { code: "data_invalid" });
  }
  for (const replyTo of [0, -1, 1.5, "1", null, 2 ** 53]) await assert.rejects(c.parley.send("lobby", "x", { replyTo }), { code: "reply_to_invalid" });
  assert.equal(c.socket.sent.length, 0);
  for (const data of [{}, deep, { far }, { a: "\\u0000" }]) {
    void c.parley.send("lobby", "x", { data }).catch(() => {});
    assert.deepEqual(c.next("message").data.data, data);
  }
  c.parley.close();
});

test("somebody else's message with the same clientId acknowledges nothing", async () => {
  const c = client();
  await c.connected("lobby");
  void c.parley.send("lobby", "mine", { clientId: "x" });
  await c.serverSends({ event: "message", data: message(1, { clientId: "x" }) });
  assert.deepEqual(c.parley.outgoing.map((o) => o.state), ["pending"]);
});

test("what was not acknowledged is sent again under the same id, after joining", async () => {
  const c = client();
  await c.connected("lobby");
  const sent = c.parley.send("lobby", "Hello");
  const first = c.next("message");
  await c.drops(1006);
  void c.parley.send("lobby", "while away");
  await pass(0);
  await c.open();
  const join = c.next("join_room");
  assert.equal(c.socket.sent.length, 0, "nothing is sent to a room that is not joined yet");
  await c.acks(join, { room: "lobby", seq: 0, recovered: true, messages: [] });
  const again = c.next("message");
  assert.equal(again.data.clientId, first.data.clientId);
  assert.equal(c.next("message").data.text, "while away");
  await c.acks(again, { room: "lobby", seq: 1, id: "m1", at: "2026-01-02T03:04:05.000000Z" });
  assert.equal((await sent).seq, 1);
});

test("a message found in the room after a reconnection is not sent again", async () => {
  const c = client();
  await c.connected("lobby");
  const sent = c.parley.send("lobby", "Hello");
  const { clientId } = c.next("message").data;
  await c.drops(1006);
  await pass(0);
  await c.open();
  await c.acks(c.next("join_room"), { room: "lobby", seq: 1, recovered: true, messages: [message(1, { user: me, clientId })] });
  assert.equal((await sent).id, "m1");
  assert.equal(c.socket.sent.length, 0);
});

test("a refused message fails, and is tried again or discarded by hand", async () => {
  const c = client();
  await c.connected("lobby");
  const sent = c.parley.send("lobby", "Hello", { clientId: "x" });
  await c.serverSends({ id: c.next("message").id, event: "error", error: { code: "busy", title: "too many messages" } });
  await assert.rejects(sent, { name: "ParleyError", code: "busy", message: "too many messages" });
  assert.equal(c.parley.outgoing[0].state, "failed");
  void c.parley.retry("x");
  const again = c.next("message");
  assert.equal(again.data.clientId, "x");
  await c.serverSends({ id: again.id, event: "error", error: { code: "busy", title: "too many messages" } });
  assert.equal(c.parley.discard("x"), true);
  assert.deepEqual(c.parley.outgoing, []);
});

test("only so many messages are on their way unanswered", async () => {
  const c = client({ window: 2 });
  await c.connected("lobby");
  for (const text of ["a", "b", "c"]) void c.parley.send("lobby", text);
  assert.equal(c.socket.sent.length, 2);
  await c.acks(c.next("message"), { room: "lobby", seq: 1, id: "m1", at: "2026-01-02T03:04:05.000000Z" });
  assert.deepEqual(c.socket.sent.map((f) => f.data.text), ["b", "c"]);
});

test("the rate of the server is kept", async () => {
  const c = client({ rate: 10, burst: 3, window: 100 });
  await c.connected("lobby"); // one
  for (let i = 0; i < 6; i++) void c.parley.send("lobby", `${i}`);
  assert.equal(c.socket.sent.length, 2, "the rest of the burst");
  await pass(99);
  assert.equal(c.socket.sent.length, 2);
  await pass(1);
  assert.equal(c.socket.sent.length, 3);
  await pass(300);
  assert.deepEqual(c.socket.sent.map((f) => f.data.text), ["0", "1", "2", "3", "4", "5"]);
});

test("what waits for its turn is not lost with the connection", async () => {
  const c = client({ rate: 1, burst: 1, ackTimeout: 60_000 });
  await c.connected("lobby");
  const sent = c.parley.send("lobby", "Hello");
  assert.equal(c.socket.sent.length, 0);
  await c.drops(1006);
  await pass(1_000);
  await c.open();
  await c.acks(c.next("join_room"), { room: "lobby", seq: 0, recovered: true, messages: [] });
  await pass(1_000);
  await c.acks(c.next("message"), { room: "lobby", seq: 1, id: "m1", at: "2026-01-02T03:04:05.000000Z" });
  assert.equal((await sent).seq, 1);
});

test("a room that cannot be joined for now is tried again", async () => {
  const c = client();
  const joined = c.parley.join("lobby");
  c.parley.connect();
  await c.open();
  await c.serverSends({ id: c.next("join_room").id, event: "error", error: { code: "unavailable", title: "not now" } });
  await pass(249);
  assert.equal(c.socket.sent.length, 0);
  await pass(1);
  await c.acks(c.next("join_room"), { room: "lobby", seq: 0, recovered: true, messages: [] });
  assert.equal((await joined).seq, 0);
});

test("missing messages that cannot be read for now are not given up", async () => {
  const c = client();
  await c.connected("lobby");
  await c.serverSends({ event: "message", data: message(2) });
  await pass(400);
  await c.serverSends({ id: c.next("history").id, event: "error", error: { code: "unavailable", title: "not now" } });
  await pass(250);
  await c.open();
  await c.acks(c.next("join_room"), { room: "lobby", seq: 2, recovered: true, messages: [message(1), message(2)] });
  assert.deepEqual(c.seen, [1, 2]);
  assert.deepEqual(c.details("lost"), []);
});

test("an answer that does not come is a lost connection", async () => {
  const c = client({ ackTimeout: 1_000, random: () => 1 });
  await c.connected("lobby");
  void c.parley.send("lobby", "Hello");
  const deaf = c.socket;
  await pass(999);
  assert.equal(c.parley.state, "open");
  await pass(1);
  assert.equal(deaf.closed, 1000);
  assert.equal(c.parley.state, "waiting");
  await pass(250);
  assert.equal(c.sockets.length, 2);
});

test("close codes decide whether and how to come back", async () => {
  for (const [code, rule] of [
    [1000, "stop"], [1001, "now"], [1002, "stop"], [1006, "now"], [1011, "later"], [1012, "now"], [1013, "later"],
    [4400, "stop"], [4401, "renew"], [4403, "stop"], [4408, "now"], [4413, "stop"], [4429, "stop"], [4999, "stop"],
  ]) {
    assert.equal(afterClose(code), rule, String(code));
    const c = client();
    await c.connected();
    await c.drops(code);
    assert.equal(c.parley.state, rule === "stop" ? "closed" : "waiting", String(code));
    await pass(rule === "later" ? 249 : 0);
    assert.equal(c.sockets.length, rule === "now" || rule === "renew" ? 2 : 1, String(code));
    await pass(600_000);
    assert.equal(c.tickets.length, rule === "stop" ? 1 : c.sockets.length, String(code));
    assert.equal(c.sockets.length > 1, rule !== "stop", String(code));
    if (rule !== "stop") assert.equal(c.tickets[1].renew, rule === "renew", String(code));
    c.parley.close();
  }
});

test("backs off exponentially, and starts anew after a good connection", async () => {
  const c = client({ random: () => 1, retryMin: 1_000, retryMax: 5_000 });
  c.parley.connect();
  await settle();
  const delays = [];
  for (let i = 0; i < 6; i++) {
    await c.drops(1006);
    const { retryIn } = c.details("state").at(-1);
    delays.push(retryIn);
    await pass(retryIn);
  }
  assert.deepEqual(delays, [250, 2_000, 4_000, 5_000, 5_000, 5_000]);
  await c.open();
  await pass(5_000);
  await c.drops(1006);
  assert.equal(c.details("state").at(-1).retryIn, 250);
});

test("a ticket that cannot be had is asked for again, unless that is final", async () => {
  let err = new Error("offline");
  const c = client({ ticket: () => Promise.reject(err) });
  c.parley.connect();
  await settle();
  assert.equal(c.parley.state, "waiting");
  err = Object.assign(new Error("signed out"), { permanent: true });
  await pass(60_000);
  assert.equal(c.parley.state, "closed");
  assert.equal(c.details("state").at(-1).code, 4401);
});

test("a ticket that never comes does not hold up for ever", async () => {
  let give;
  const c = client({ connectTimeout: 1_000, random: () => 1, ticket: () => new Promise((resolve) => (give = resolve)) });
  c.parley.connect();
  await settle();
  const late = give;
  await pass(1_000);
  assert.equal(c.parley.state, "waiting");
  late("too late");
  await settle();
  assert.equal(c.sockets.length, 0);
});

test("after a final close pending messages fail, and connect() starts again", async () => {
  const c = client();
  await c.connected("lobby");
  const sent = c.parley.send("lobby", "Hello", { clientId: "x" });
  await c.drops(4400);
  await assert.rejects(sent, { code: "closed", closeCode: 4400 });
  await assert.rejects(c.parley.send("lobby", "later"), { code: "closed" });
  c.parley.connect();
  await c.open();
  assert.deepEqual(c.next("join_room").data, { room: "lobby", since: 0 });
});

test("a refused room is forgotten, and its messages fail", async () => {
  const c = client();
  const joined = c.parley.join("secret");
  const sent = c.parley.send("secret", "Hello");
  c.parley.connect();
  await c.open();
  const refused = [joined, sent].map((promise) => assert.rejects(promise, { code: "not_allowed" }));
  await c.serverSends({ id: c.next("join_room").id, event: "error", error: { code: "not_allowed", title: "not here" } });
  await Promise.all(refused);
  assert.deepEqual(c.parley.rooms, []);
  assert.equal(c.details("forgotten")[0].room, "secret");
});

test("typing is told at a limited rate and ends by itself", async () => {
  const c = client();
  await c.connected("lobby");
  await pass(10_000);
  const told = () => c.socket.sent.splice(0).map((f) => [f.event, f.data.typing, f.id]);
  for (let i = 0; i < 10; i++) {
    c.parley.typing("lobby");
    mock.timers.tick(100);
  }
  assert.deepEqual(told(), [["isTyping", true, undefined]]);
  await pass(2_000);
  c.parley.typing("lobby");
  assert.deepEqual(told(), [["isTyping", true, undefined]], "repeated while it lasts");
  await pass(4_000);
  assert.deepEqual(told(), [["isTyping", false, undefined]], "a pause is a stop");
  c.parley.typing("lobby");
  c.parley.typing("lobby", false);
  c.parley.typing("lobby");
  assert.deepEqual(told(), [], "not again at once");
  await pass(1_000);
  c.parley.typing("lobby");
  void c.parley.send("lobby", "Hello");
  assert.deepEqual(told().map(([event, on]) => [event, on]), [["isTyping", true], ["isTyping", false], ["message", undefined]]);
});

test("somebody types until they stop, send, or fall silent", async () => {
  const c = client();
  await c.connected("lobby");
  const types = (typing) => c.serverSends({ event: "isTyping", data: { room: "lobby", user: other, typing } });
  await types(true);
  await types(true);
  assert.deepEqual(c.parley.typists("lobby"), [other]);
  await types(false);
  assert.deepEqual(c.details("typing").map((d) => d.typing), [true, false]);
  await types(true);
  await c.serverSends({ event: "message", data: message(1) });
  assert.deepEqual(c.parley.typists("lobby"), []);
  await types(true);
  await pass(6_000);
  await types(true);
  await pass(6_000);
  assert.deepEqual(c.parley.typists("lobby"), [other], "renewed");
  await pass(4_000);
  assert.deepEqual(c.parley.typists("lobby"), []);
});

test("a silent connection is probed, and what it missed comes with the answer", async () => {
  const c = client({ idleProbe: 60_000, random: () => 1 });
  await c.connected("lobby");
  await pass(60_000);
  const probe = c.next("history");
  assert.deepEqual(probe.data, { room: "lobby", after: 0, limit: 1 });
  await c.acks(probe, { messages: [message(1)], more: false });
  assert.deepEqual(c.seen, [1]);
  await pass(60_000);
  c.next("history");
  await pass(5_000);
  assert.equal(c.parley.state, "waiting", "no answer: the connection is gone");
});

test("leaving forgets the room", async () => {
  const c = client();
  await c.connected("lobby");
  const left = c.parley.leave("lobby");
  await c.acks(c.next("leave_room"), {});
  await left;
  await c.serverSends({ event: "message", data: message(1) });
  assert.deepEqual(c.seen, []);
  await c.drops(1006);
  await pass(0);
  await c.open();
  assert.equal(c.socket.sent.length, 0);
});

test("closing ends everything", async () => {
  const c = client();
  await c.connected("lobby");
  const sent = c.parley.send("lobby", "Hello");
  const failed = [
    assert.rejects(sent, { code: "closed", closeCode: 1000 }),
    assert.rejects(c.parley.presence("lobby"), { code: "connection_lost" }),
  ];
  c.parley.close();
  c.parley.close();
  await Promise.all(failed);
  assert.equal(c.socket.closed, 1000);
  await pass(600_000);
  assert.equal(c.sockets.length, 1);
  assert.equal(c.details("state").filter((d) => d.state === "closed").length, 1);
});

test("malformed and unknown frames are ignored", async () => {
  const c = client();
  await c.connected("lobby");
  for (const data of ["", "{", "null", "[]", '"x"', '{"event":"new"}', '{"id":99,"event":"ack","data":{}}']) {
    c.socket.onmessage({ data });
  }
  await settle();
  assert.equal(c.parley.state, "open");
});

test("names and texts that the server would close for are refused here", async () => {
  for (const bad of [undefined, "", " a", "a ", "a\nb", "a\u200bb", "a\u2028b", "x".repeat(101)]) assert.ok(checkRoom(bad), JSON.stringify(bad));
  for (const good of ["lobby", "Straße 7", "😀".repeat(100)]) assert.equal(checkRoom(good), null, good);
  for (const bad of [undefined, "", "a\0b", "x".repeat(4001)]) assert.ok(checkText(bad), JSON.stringify(bad)?.slice(0, 20));
  for (const good of ["a", "a\nb", "😀".repeat(4000)]) assert.equal(checkText(good), null);
  const c = client();
  await assert.rejects(c.parley.join(""), { code: "room_invalid" });
  await assert.rejects(c.parley.send("lobby", ""), { code: "text_invalid" });
  assert.throws(() => new Parley({}), TypeError);
  assert.throws(() => new Parley({ ticket: async () => "t" }), TypeError);
});

test("a lone surrogate is replaced before it is sent", async () => {
  const c = client();
  await c.connected("lobby");
  void c.parley.send("lobby", "a\ud800b");
  assert.equal(c.next("message").data.text, "a\ufffdb");
});

// ---- clocks ----

for (const by of [-3_600_000, 3_600_000]) {
  test(`a wall clock that is set by ${by} ms holds up nothing`, async () => {
    const c = client({ rate: 10, burst: 3, window: 100, idleProbe: 60_000 });
    await c.connected("lobby");
    for (let i = 0; i < 3; i++) void c.parley.send("lobby", `${i}`);
    assert.equal(c.socket.sent.length, 2, "the burst is used up");
    setClock(by);
    await pass(100);
    assert.equal(c.socket.sent.length, 3);
    void c.parley.send("lobby", "more");
    await pass(100);
    assert.equal(c.socket.sent.length, 4);
    const page = c.parley.history("lobby");
    await pass(1_000);
    const frames = c.socket.sent.splice(0);
    assert.equal(frames.at(-1).event, "history");
    await c.acks(frames.at(-1), { messages: [], more: false });
    await page;
    c.parley.typing("lobby");
    assert.equal(c.next("isTyping").data.typing, true);
    setClock(-2 * by);
    await pass(3_000);
    c.parley.typing("lobby");
    assert.equal(c.next("isTyping").data.typing, true, "typing is told again");
  });
}

test("a silent connection is probed in time, whatever the wall clock says", async () => {
  const c = client({ idleProbe: 60_000, random: () => 1 });
  await c.connected("lobby");
  setClock(-3_600_000);
  await pass(60_000);
  c.next("history");
});

test("a clock that jumps by itself makes nobody wait longer than the bucket needs", async () => {
  const c = client({ rate: 10, burst: 3, window: 100 });
  await c.connected("lobby");
  for (let i = 0; i < 4; i++) void c.parley.send("lobby", `${i}`);
  const ticks = performance.now;
  mock.method(performance, "now", () => ticks() - 3_600_000);
  await pass(100);
  assert.equal(c.socket.sent.length, 2, "found out");
  await pass(100);
  await pass(100);
  assert.equal(c.socket.sent.length, 4);
});

test("options in milliseconds have bounds", async () => {
  for (const name of ["ackTimeout", "connectTimeout", "retryMin", "retryMax", "idleProbe", "rate", "burst", "window", "pageSize"]) {
    for (const bad of [NaN, "10", {}, true]) assert.throws(() => client({ [name]: bad }), { name: "TypeError", message: new RegExp(name) }, `${name} ${bad}`);
    for (const bad of [-1, -Infinity, Number.MIN_VALUE]) assert.throws(() => client({ [name]: bad }), { name: "RangeError", message: new RegExp(name) }, `${name} ${bad}`);
    client({ [name]: undefined });
  }
  assert.throws(() => client({ ackTimeout: 0 }), RangeError);
  client({ idleProbe: 0 });
});

for (const long of [Infinity, 30 * 86_400_000]) {
  test(`${long} ms, which setTimeout cannot count, is not taken for no time`, async () => {
    const delays = [];
    const real = globalThis.setTimeout;
    mock.method(globalThis, "setTimeout", (f, ms, ...rest) => {
      delays.push(ms);
      return real(f, ms, ...rest);
    });
    const c = client({ ackTimeout: long, connectTimeout: long, retryMin: long, retryMax: long, idleProbe: long });
    await c.connected("lobby");
    void c.parley.send("lobby", "Hello");
    await c.drops(1013);
    assert.ok(c.details("state").at(-1).retryIn > 0);
    for (const ms of delays) assert.ok(ms >= 0 && ms < 2 ** 31, `a timer of ${ms} ms`);
  });
}

test("a source of jitter that is none makes no busy loop", async () => {
  for (const random of [() => NaN, () => Infinity, () => -1e9, () => undefined]) {
    const c = client({ random });
    c.parley.connect();
    await settle();
    await c.drops(1013);
    const { retryIn } = c.details("state").at(-1);
    assert.ok(retryIn >= 250 && retryIn <= 500, String(retryIn));
    c.parley.close();
  }
});

// ---- calls that never answer ----

test("an attempt that is given up ends what it has asked, and the next asks anew", async () => {
  const asked = [];
  const c = client({ connectTimeout: 1_000, ticket: (request) => new Promise(() => asked.push(request.signal)) });
  c.parley.connect();
  await settle();
  assert.equal(asked[0].aborted, false);
  await pass(1_000);
  assert.equal(asked[0].aborted, true);
  c.parley.connect(); // "Try now"
  await settle();
  assert.equal(asked.length, 2);
  c.parley.close();
  assert.equal(asked[1].aborted, true);
});

test("online starts anew what may never be answered", async (t) => {
  const listeners = page(t);
  const asked = [];
  const c = client({ ticket: (request) => new Promise(() => asked.push(request.signal)) });
  c.parley.connect();
  await settle();
  listeners.online();
  await settle();
  assert.deepEqual(asked.map((signal) => signal.aborted), [true, false]);
  assert.equal(c.parley.state, "connecting");
  c.parley.close();
});

test("what is not a ticket opens nothing", async () => {
  for (const answer of [undefined, null, "", {}, { ticket: 7 }, 7]) {
    const c = client({ ticket: async () => answer });
    c.parley.connect();
    await settle();
    assert.equal(c.sockets.length, 0, JSON.stringify(answer));
    assert.equal(c.parley.state, "waiting");
    c.parley.close();
  }
});

// ---- Retry-After ----

test("a server that asks to be left alone is", async (t) => {
  const listeners = page(t);
  for (const [retryAfter, wait] of [[20, 20_000], [1e9, 300_000]]) {
    let asked = 0;
    const c = client({
      ticket: async () => {
        asked++;
        throw Object.assign(new Error("too many"), { retryAfter });
      },
    });
    c.parley.connect();
    await settle();
    assert.equal(c.details("state").at(-1).retryIn, wait);
    await pass(wait - 1);
    listeners.online();
    listeners.pageshow();
    await settle();
    assert.equal(asked, 1, "not before");
    await pass(1);
    assert.equal(asked, 2);
    c.parley.connect(); // a person decides otherwise
    await settle();
    assert.equal(asked, 3);
    c.parley.close();
  }
  for (const retryAfter of [0, -5, NaN, "20", undefined]) {
    const c = client({ ticket: () => Promise.reject(Object.assign(new Error("no"), { retryAfter })) });
    c.parley.connect();
    await settle();
    assert.equal(c.details("state").at(-1).retryIn, 250, String(retryAfter));
    c.parley.close();
  }
});

// ---- the token ----

test("the token of an open connection is renewed in time, again and again", async () => {
  let tokens = 0;
  const c = client({
    idleProbe: 0,
    ticket: async () => ({ ticket: "t", expiresIn: 900 }),
    token: async () => ({ token: `a${++tokens}`, expiresIn: 900 }),
  });
  await c.connected("lobby");
  await pass(839_999);
  assert.equal(c.socket.sent.length, 0);
  await pass(1);
  for (const [i, expiresIn, lead] of [[1, 30, 10], [2, 3, 1], [3, 900, 60]]) {
    const frame = c.next("renew");
    assert.deepEqual(frame.data, { token: `a${i}` });
    await c.acks(frame, { expiresIn });
    await pass((expiresIn - lead) * 1000 - 1);
    assert.equal(c.socket.sent.length, 0);
    await pass(1);
  }
  c.next("renew");
  assert.equal(c.sockets.length, 1);
});

test("a renewal that fails for now is tried again; one that never can ends the connection", async () => {
  let err = Object.assign(new Error("offline"), { retryAfter: 2 });
  const c = client({ idleProbe: 0, ticket: async () => ({ ticket: "t", expiresIn: 30 }), token: () => Promise.reject(err) });
  await c.connected("lobby");
  await pass(20_000);
  assert.equal(c.parley.state, "open");
  err = Object.assign(new Error("signed out"), { permanent: true });
  await pass(1_999);
  assert.equal(c.parley.state, "open");
  await pass(1);
  assert.equal(c.parley.state, "closed");
  assert.equal(c.details("state").at(-1).code, 4401);
});

test("a token that never comes is asked for again", async () => {
  const asked = [];
  const c = client({
    idleProbe: 0,
    connectTimeout: 1_000,
    ticket: async () => ({ ticket: "t", expiresIn: 30 }),
    token: ({ signal }) => new Promise(() => asked.push(signal)),
  });
  await c.connected("lobby");
  await pass(20_000);
  await pass(1_000);
  await pass(250);
  assert.deepEqual(asked.map((s) => s.aborted), [true, false]);
  await c.drops(4401);
  assert.equal(asked[1].aborted, true);
  await pass(0);
  assert.deepEqual(c.sockets.length, 2);
});

test("a server that does not know renew is not asked again", async () => {
  const c = client({ idleProbe: 0, ticket: async () => ({ ticket: "t", expiresIn: 30 }), token: async () => ({ token: "a", expiresIn: 900 }) });
  await c.connected("lobby");
  await pass(20_000);
  c.next("renew");
  await c.drops(4400);
  assert.equal(c.parley.state, "waiting");
  await pass(0);
  await c.open();
  await c.acks(c.next("join_room"), { room: "lobby", seq: 0, recovered: true, messages: [] });
  await pass(25_000);
  assert.equal(c.socket.sent.length, 0);
  await c.drops(4400);
  assert.equal(c.parley.state, "closed");
});

test("without a function for tokens, or a time, nothing is renewed", async () => {
  for (const options of [
    { ticket: async () => ({ ticket: "t", expiresIn: 30 }) },
    { token: async () => ({ token: "a", expiresIn: 900 }) },
    { ticket: async () => ({ ticket: "t", expiresIn: "soon" }), token: async () => ({ token: "a" }) },
  ]) {
    const c = client({ idleProbe: 0, ...options });
    await c.connected("lobby");
    await pass(3_600_000);
    assert.equal(c.socket.sent.length, 0);
    c.parley.close();
  }
});

// ---- what survives a reload ----

/** What a browser's storage is to us. */
function storage(limit = Infinity) {
  const items = new Map();
  return {
    items,
    getItem: (key) => items.get(key) ?? null,
    setItem(key, value) {
      if (value.length > limit) throw new Error("QuotaExceededError");
      items.set(key, value);
    },
    removeItem: (key) => items.delete(key),
  };
}

test("what was not sent survives a reload, under the same clientId, for its user", async () => {
  const kept = storage();
  const before = client({ storage: kept });
  await before.connected("lobby");
  void before.parley.send("lobby", "refused", { clientId: "r" });
  await before.serverSends({ id: before.next("message").id, event: "error", error: { code: "busy", title: "too many messages" } });
  void before.parley.send("lobby", "under way", { clientId: "u" });
  await before.drops(1006);
  void before.parley.send("lobby", "while away", { clientId: "w" });
  void before.parley.send("garden", "elsewhere", { clientId: "e" });
  await settle(); // and the page is gone

  const stranger = client({ storage: kept, user: other });
  assert.deepEqual(stranger.parley.outgoing, []);

  const after = client({ storage: kept });
  assert.deepEqual(after.parley.outgoing.map((o) => [o.clientId, o.room, o.text, o.state, o.error?.code]), [
    ["r", "lobby", "refused", "failed", "busy"],
    ["u", "lobby", "under way", "pending", undefined],
    ["w", "lobby", "while away", "pending", undefined],
    ["e", "garden", "elsewhere", "pending", undefined],
  ]);
  assert.ok(after.parley.outgoing[0].at instanceof Date);
  const joined = after.parley.join("lobby");
  after.parley.connect();
  await after.open();
  const join = after.next("join_room");
  assert.equal(after.socket.sent.length, 0, "nothing goes to a room that is not joined again");
  // The first of them had been stored: its ack was lost with the page.
  await after.acks(join, { room: "lobby", seq: 1, recovered: true, messages: [message(1, { user: me, clientId: "u" })] });
  await joined;
  const frame = after.next("message");
  assert.deepEqual(frame.data, { room: "lobby", text: "while away", clientId: "w" });
  assert.equal(after.socket.sent.length, 0);
  await after.acks(frame, { room: "lobby", seq: 2, id: "m2", at: "2026-01-02T03:04:05.000000Z" });
  assert.deepEqual(client({ storage: kept }).parley.outgoing.map((o) => o.clientId), ["r", "e"]);
  assert.equal(after.parley.discard("r"), true);
  await settle();
  assert.deepEqual(client({ storage: kept }).parley.outgoing.map((o) => o.clientId), ["e"]);
});

test("a session that ends leaves what was not sent to its user; signing out does not", async () => {
  const kept = storage();
  const c = client({ storage: kept });
  await c.connected("lobby");
  void c.parley.send("lobby", "Hello", { clientId: "x" });
  c.parley.close();
  await settle();
  const again = client({ storage: kept });
  assert.deepEqual(again.parley.outgoing.map((o) => [o.clientId, o.state]), [["x", "pending"]]);
  again.parley.close({ forget: true });
  await settle();
  assert.equal(kept.items.size, 0);
  assert.deepEqual(again.parley.outgoing, []);
  await assert.rejects(again.parley.retry("x"), { code: "unknown_message" });
});

test("what is kept has a bound, and what is found there is not believed", async () => {
  const kept = storage();
  const c = client({ storage: kept });
  for (let i = 0; i < 500; i++) void c.parley.send("lobby", `${i} ${"x".repeat(3_000)}`);
  await settle();
  assert.equal(c.parley.outgoing.length, 500);
  assert.ok([...kept.items.values()][0].length < 500_000);
  assert.equal(client({ storage: kept }).parley.outgoing[0].text.slice(0, 2), "0 ");
  for (const found of ["{", "7", "null", '{"a":1}', '[null,1,"x"]', '[{"clientId":"x","room":"lobby"}]', '[{"clientId":"x","room":"a\\n","text":"t"}]']) {
    kept.items.set("parley.outbox.u1", found);
    assert.deepEqual(client({ storage: kept }).parley.outgoing, [], found);
  }
  kept.items.set("parley.outbox.u1", '[{"clientId":"x","room":"lobby","text":"t","at":"yesterday","state":"odd"}]');
  assert.equal(client({ storage: kept }).parley.outgoing[0].state, "pending");
  const full = client({ storage: storage(10) });
  void full.parley.send("lobby", "Hello");
  await settle();
  assert.equal(full.parley.outgoing.length, 1, "a full storage is no failure");
  assert.throws(() => client({ storage: kept, user: null }), TypeError);
});

// ---- names of rooms, and who is taken out of them ----

test("a room has one name, however it is typed and whatever the server calls it", async () => {
  const typed = "cafe\u0301";
  const name = "caf\u00e9";
  for (const server of [name, typed]) {
    const c = client();
    const joined = [c.parley.join(typed), c.parley.join(name)];
    c.parley.connect();
    await c.open();
    const join = c.next("join_room");
    assert.equal(join.data.room, name);
    assert.equal(c.socket.sent.length, 0, "it is one room");
    await c.acks(join, { room: server, seq: 1, recovered: true, messages: [message(1, { room: server })] });
    await Promise.all(joined);
    assert.deepEqual(c.parley.rooms, [name]);
    await c.serverSends({ event: "message", data: message(2, { room: server }) });
    assert.deepEqual(c.details("message").map((d) => [d.message.seq, d.message.room]), [[1, name], [2, name]]);
    await c.serverSends({ event: "isTyping", data: { room: server, user: other, typing: true } });
    assert.deepEqual(c.parley.typists(typed), [other]);
    const sent = c.parley.send(typed, "Hello");
    const frame = c.next("message");
    await c.acks(frame, { room: server, seq: 3, id: "m3", at: "2026-01-02T03:04:05.000000Z" });
    assert.equal((await sent).seq, 3);
    assert.deepEqual(c.seen, [1, 2, 3]);
    void c.parley.leave(typed);
    assert.deepEqual(c.parley.rooms, []);
    c.parley.close();
  }
});

test("who is taken out of a room does not come back into it by themselves", async () => {
  const c = client();
  await c.connected("lobby", "garden");
  const sent = c.parley.send("lobby", "Hello");
  c.next("message");
  await c.serverSends({ event: "membership", data: { room: "lobby", user: other, role: null } });
  assert.deepEqual(c.parley.rooms, ["lobby", "garden"], "somebody else");
  await c.serverSends({ event: "membership", data: { room: "lobby", user: me, role: "reader" } });
  assert.deepEqual(c.parley.rooms, ["lobby", "garden"], "still in it");
  const refused = assert.rejects(sent, { code: "removed" });
  await c.serverSends({ event: "membership", data: { room: "lobby", user: me, role: null, reason: "spam" } });
  await refused;
  assert.deepEqual(c.parley.rooms, ["garden"]);
  assert.equal(c.details("forgotten")[0].error.code, "removed");
  assert.match(c.details("forgotten")[0].error.message, /: spam$/);
  assert.equal(c.details("membership").length, 3);
  await c.drops(1006);
  await pass(0);
  await c.open();
  assert.equal(c.next("join_room").data.room, "garden");
  assert.equal(c.socket.sent.length, 0);
});

test("a client that does not know whose it is asks whether it is still in the room", async () => {
  const c = client({ user: undefined });
  await c.connected("lobby");
  await c.serverSends({ event: "membership", data: { room: "lobby", user: other, role: null } });
  await c.acks(c.next("presence"), { members: [me], count: 1 });
  assert.deepEqual(c.parley.rooms, ["lobby"], "it was somebody else");
  await c.serverSends({ event: "membership", data: { room: "lobby", user: me, role: null } });
  await c.serverSends({ id: c.next("presence").id, event: "error", error: { code: "not_joined", title: "not here" } });
  assert.deepEqual(c.parley.rooms, []);
  assert.equal(c.details("forgotten")[0].error.code, "removed");
});

test("who leaves a room and joins it again is not thrown out by the news of their leaving", async () => {
  const c = client();
  await c.connected("lobby");
  const left = c.parley.leave("lobby");
  await c.acks(c.next("leave_room"), {});
  await left;
  const joined = c.parley.join("lobby");
  await c.serverSends({ event: "membership", data: { room: "lobby", user: me, role: null, by: me.id } });
  assert.deepEqual(c.parley.rooms, ["lobby"]);
  await c.acks(c.next("join_room"), { room: "lobby", seq: 0, rev: 0, read: 0, recovered: true, messages: [] });
  await joined;
  assert.equal(c.details("membership").length, 1);
});

test("what somebody is in a room that is not joined is told, too", async () => {
  const c = client();
  await c.connected("lobby");
  await c.serverSends({ event: "membership", data: { room: "den", user: me, role: "member", by: "u1" } });
  await c.serverSends({ event: "membership", data: { room: "den", user: me, role: null } });
  assert.equal(c.details("membership").length, 2);
  assert.deepEqual(c.parley.rooms, ["lobby"]);
});

test("takes ticket, token, user and address from a session", async () => {
  const asked = [];
  const session = {
    server: "https://chat.test/base",
    user: { id: "u7", fullName: "Grace Hopper" },
    ticket: async () => (asked.push("ticket"), { ticket: "s1", expiresIn: 60 }),
    token: async () => (asked.push("token"), { token: "fresh", expiresIn: 60 }),
  };
  const c = client({ session, url: undefined, ticket: undefined, user: undefined });
  await c.connected("lobby");
  assert.equal(c.socket.url, "wss://chat.test/base/socket?ticket=s1");
  await pass(40_000);
  assert.deepEqual(c.next("renew").data, { token: "fresh" });
  assert.deepEqual(asked, ["ticket", "token"]);
  void c.parley.send("lobby", "mine");
  const sent = c.next("message");
  await c.acks(sent, { room: "lobby", seq: 1, id: "m1", at: "2026-01-02T03:04:05.000000Z" });
  assert.deepEqual(c.details("message").map((d) => d.message.user), [{ id: "u7", name: "Grace Hopper" }]);
  assert.throws(() => client({ ticket: undefined }), /options.ticket must be a function/);
  assert.equal(client({ session, ticket: async () => "other" }).parley.state, "idle");
});

test("carries events of the application both ways", async () => {
  const c = client();
  const got = [];
  c.parley.addEventListener("event", ({ detail }) => got.push(detail));
  await assert.rejects(c.parley.call("roll", { room: "lobby" }), { code: "connection_lost" });
  assert.equal(c.parley.emit("wave", { room: "lobby" }), false);
  await c.connected("lobby");
  const answer = c.parley.call("roll", { room: "lobby", sides: 6 });
  const roll = c.next("roll");
  assert.deepEqual(roll.data, { room: "lobby", sides: 6 });
  await c.acks(roll, { fell: 4 });
  assert.deepEqual(await answer, { fell: 4 });
  const refused = assert.rejects(c.parley.call("roll", { room: "lobby", sides: 0 }), { code: "no_such_die" });
  await c.serverSends({ id: c.next("roll").id, event: "error", error: { code: "no_such_die", title: "there is no such die" } });
  await refused;
  assert.equal(c.parley.emit("wave", { room: "lobby" }), true);
  assert.deepEqual(c.next("wave"), { event: "wave", data: { room: "lobby" } });
  await c.serverSends({ event: "rolled", data: { room: "lobby", fell: 4 } });
  await c.serverSends({ event: "rolled", data: { room: "elsewhere", fell: 1 } });
  await c.serverSends({ event: "news", data: {} });
  assert.deepEqual(got, [{ event: "rolled", data: { room: "lobby", fell: 4 } }, { event: "news", data: {} }]);
  for (const own of ["join_room", "leave_room", "message", "isTyping", "renew"]) {
    await assert.rejects(c.parley.call(own, {}), TypeError);
    assert.throws(() => c.parley.emit(own, {}), TypeError);
  }
  const lost = assert.rejects(c.parley.call("roll", { room: "lobby" }), { code: "connection_lost" });
  await c.drops(1006);
  await lost;
});

test("a change takes the place of a message with a lower rev, and of no other", async () => {
  const c = await revised();
  await c.changed(1, 3, { text: "third" });
  await c.changed(1, 2, { text: "second" });
  await c.changed(1, 3, { text: "third again" });
  await c.changed(1, 4, { text: "fourth" });
  assert.deepEqual(c.texts(), [[1, "third", false], [1, "fourth", false]]);
  assert.equal(c.parley.message("lobby", 1).text, "fourth");
  const read = c.parley.history("lobby", { before: 3 });
  await c.acks(c.next("history"), { messages: [message(1, { rev: 2, text: "second" }), message(2, { rev: 5, text: "fifth" })], more: false });
  assert.deepEqual((await read).messages.map((m) => m.text), ["fourth", "fifth"]);
  assert.deepEqual(c.texts().at(-1), [2, "fifth", false], "what is read anew is told to whoever shows it");
  assert.equal(c.texts().length, 3);
});

test("a change of what was never shown is told; its message comes in its order, as it is then", async () => {
  const c = await revised();
  await c.changed(4, 1, { text: "changed" });
  assert.deepEqual([c.seen, c.texts()], [[1, 2], []]);
  await c.serverSends({ event: "message", data: message(3, { rev: 0 }) });
  await c.serverSends({ event: "message", data: message(4, { rev: 0 }) });
  assert.deepEqual(c.details("message").map((d) => d.message.text), ["text 1", "text 2", "text 3", "changed"]);
});

test("comes back with rev, and asks for what the answer left out of the changes", async () => {
  const c = await revised({ pageSize: 2 }, { rev: 3 });
  await c.changed(1, 4, { text: "4" });
  await c.returns();
  const join = c.next("join_room");
  assert.deepEqual(join.data, { room: "lobby", since: 2, rev: 4 });
  await c.acks(join, { room: "lobby", seq: 2, rev: 9, recovered: true, messages: [], changes: [message(2, { rev: 6, text: "6" })] });
  const first = c.next("history");
  assert.deepEqual(first.data, { room: "lobby", changedAfter: 6, limit: 2 });
  await c.changed(1, 11, { text: "11" }); // live, beside the pages
  await c.acks(first, { messages: [message(1, { rev: 8, text: "8" }), message(2, { rev: 9, text: "9" })], more: true });
  assert.equal(c.socket.sent.length, 0, "the answer's rev is reached");
  assert.deepEqual(c.texts(), [[1, "4", false], [2, "6", false], [1, "11", false], [2, "9", false]]);
  await c.returns();
  assert.equal(c.next("join_room").data.rev, 11);
});

test("a change that comes live while others are asked for does not skip them", async () => {
  const c = await revised({ pageSize: 2 });
  await c.returns();
  await c.acks(c.next("join_room"), { room: "lobby", seq: 2, rev: 9, recovered: true, messages: [], changes: [message(1, { rev: 1 })] });
  await c.changed(2, 10);
  await c.returns();
  const join = c.next("join_room");
  assert.equal(join.data.rev, 1, "2 to 9 may be missing");
  await c.acks(join, { room: "lobby", seq: 2, rev: 10, recovered: true, messages: [], changes: [message(2, { rev: 10 })] });
  assert.equal(c.socket.sent.length, 0);
});

test("changes that cannot be read for now are not given up", async () => {
  const c = await revised();
  await c.returns();
  await c.acks(c.next("join_room"), { room: "lobby", seq: 2, rev: 9, recovered: true, messages: [], changes: [] });
  await c.refuses(c.next("history"), "unavailable");
  await pass(60_000);
  await c.open();
  assert.equal(c.next("join_room").data.rev, 0);
});

test("a change before the answer to join_room waits for it", async () => {
  const c = await revised();
  await c.serverSends({ event: "resync", data: { room: "lobby" } });
  await c.changed(1, 6, { text: "6" });
  assert.deepEqual(c.texts(), []);
  await c.acks(c.next("join_room"), { room: "lobby", seq: 2, rev: 5, recovered: true, messages: [], changes: [message(1, { rev: 5, text: "5" })] });
  assert.deepEqual(c.texts(), [[1, "5", false], [1, "6", false]]);
  await c.returns();
  assert.equal(c.next("join_room").data.rev, 6);
});

test("a server that knows no changes works as before, and is asked for none", async () => {
  const c = client();
  await c.connected("lobby");
  await c.serverSends({ event: "message", data: message(1, { user: me }) });
  await assert.rejects(c.parley.edit("lobby", 1, "other"), { code: "changes_not_supported" });
  assert.equal(c.socket.sent.length, 0);
  assert.equal(c.parley.message("lobby", 1).text, "text 1");
  await c.drops(1006);
  await pass(0);
  await c.open();
  assert.deepEqual(c.next("join_room").data, { room: "lobby", since: 1 });
});

test("a server of before that closes for rev is joined without, and the changes are asked for later", async () => {
  const c = await revised({}, { rev: 3 });
  await c.returns();
  assert.equal(c.next("join_room").data.rev, 3);
  await c.returns(4400);
  const join = c.next("join_room");
  assert.deepEqual(join.data, { room: "lobby", since: 2 });
  await c.acks(join, { room: "lobby", seq: 2, recovered: true, messages: [] }); // of before
  await c.returns();
  const plain = c.next("join_room");
  assert.deepEqual(plain.data, { room: "lobby", since: 2 });
  await c.acks(plain, { room: "lobby", seq: 2, rev: 4, recovered: true, messages: [] });
  const page = c.next("history");
  assert.equal(page.data.changedAfter, 3);
  await c.acks(page, { messages: [message(1, { rev: 4, text: "4" })], more: false });
  assert.deepEqual(c.texts(), [[1, "4", false]]);
  await c.returns();
  const again = c.next("join_room");
  assert.equal(again.data.rev, 4);
  await c.acks(again, { room: "lobby", seq: 2, rev: 4, recovered: true, messages: [], changes: [] });
  await c.drops(4400);
  assert.equal(c.parley.state, "closed", "for anything else it still stops");
});

test("a room whose changes began anew is joined as by a newcomer, and shown anew", async () => {
  const c = await revised({}, { rev: 7 });
  void c.parley.edit("lobby", 2, "mine").catch(() => {});
  await c.returns();
  await c.acks(c.next("join_room"), { room: "lobby", seq: 2, rev: 1, recovered: false, messages: [], changes: [] });
  assert.deepEqual(c.details("lost"), [{ room: "lobby", after: 2, restarted: true }]);
  assert.equal(c.details("change").at(-1).error.code, "message_not_found", "what has the same seq now is another message");
  const join = c.next("join_room");
  assert.deepEqual(join.data, { room: "lobby" });
  await c.acks(join, { room: "lobby", seq: 2, rev: 1, recovered: true, messages: [message(1, { rev: 1, text: "restored" }), message(2, { rev: 0 })] });
  assert.deepEqual(c.seen, [1, 2, 1, 2]);
  assert.equal(c.parley.message("lobby", 1).text, "restored");
});

test("an own edit shows at once, and settles with the server's answer", async () => {
  for (const order of ["ack first", "change first"]) {
    const c = await revised();
    const asked = c.parley.edit("lobby", 2, "edited");
    assert.deepEqual(c.texts(), [[2, "edited", true]], "before the server has heard of it");
    assert.ok(c.details("changed")[0].message.editedAt);
    const frame = c.next("edit");
    assert.deepEqual(frame.data, { room: "lobby", seq: 2, text: "edited" });
    assert.deepEqual(c.parley.changes.map(({ kind, seq, text, state }) => [kind, seq, text, state]), [["edit", 2, "edited", "pending"]]);
    const ack = { room: "lobby", seq: 2, rev: 1 };
    const edited = { user: me, text: "edited", editedAt: "2026-01-02T04:04:05.000000Z" };
    if (order === "change first") await c.changed(2, 1, edited);
    await c.acks(frame, ack);
    assert.deepEqual(await asked, ack);
    assert.equal(c.texts().every(([, text]) => text === "edited"), true, "never back in between");
    assert.equal(c.texts().at(-1)[2], false);
    if (order === "ack first") await c.changed(2, 1, edited);
    assert.deepEqual(c.parley.message("lobby", 2), message(2, { rev: 1, ...edited }), "what the server says is what stays");
    assert.deepEqual(c.details("change").map((d) => d.state), ["pending", "sent"]);
    assert.deepEqual(c.parley.changes, []);
    await c.changed(2, 2, { user: me, text: "by another tab" });
    assert.equal(c.texts().at(-1)[1], "by another tab");
    c.parley.close();
  }
});

test("an own edit that is refused goes back", async () => {
  const c = await revised();
  const asked = c.parley.edit("lobby", 1, "not mine");
  await c.changed(1, 1, { text: "by its author" });
  assert.deepEqual(c.texts().at(-1), [1, "not mine", true]);
  const refused = assert.rejects(asked, { code: "not_allowed" });
  await c.refuses(c.next("edit"), "not_allowed");
  await refused;
  assert.deepEqual(c.texts().at(-1), [1, "by its author", false]);
  assert.deepEqual(c.details("change").map((d) => [d.state, d.error?.code]), [["pending", undefined], ["failed", "not_allowed"]]);
  await c.returns();
  await c.acks(c.next("join_room"), { room: "lobby", seq: 2, rev: 1, recovered: true, messages: [], changes: [] });
  assert.equal(c.socket.sent.length, 0, "it is not asked for again");
});

test("changes of one message are asked for in turn, and again after a lost connection", async () => {
  const c = await revised();
  const all = [c.parley.edit("lobby", 2, "one", { data: { n: 1 } }), c.parley.edit("lobby", 2, "two"), c.parley.react("lobby", 1, "👍")];
  assert.deepEqual(c.next("edit").data, { room: "lobby", seq: 2, text: "one", data: { n: 1 } });
  assert.deepEqual(c.next("react").data, { room: "lobby", seq: 1, key: "👍", on: true });
  assert.equal(c.socket.sent.length, 0, "the second edit waits for the first");
  assert.equal(c.parley.message("lobby", 2).text, "two");
  await c.returns();
  const join = c.next("join_room");
  assert.equal(c.socket.sent.length, 0);
  await c.acks(join, { room: "lobby", seq: 2, rev: 1, recovered: true, messages: [], changes: [message(2, { rev: 1, text: "one", user: me })] });
  assert.equal(c.parley.message("lobby", 2).text, "two", "the first was stored, and what waits stays on top");
  const [first, reaction] = [c.next("edit"), c.next("react")];
  await c.acks(first, { room: "lobby", seq: 2, rev: 1 }); // it was so already
  const second = c.next("edit");
  assert.equal(second.data.text, "two");
  await c.acks(reaction, { room: "lobby", seq: 1, rev: 2 });
  await c.acks(second, { room: "lobby", seq: 2, rev: 3 });
  assert.deepEqual((await Promise.all(all)).map((ack) => ack.rev), [1, 3, 2]);
});

test("an own deletion and own reactions show at once", async () => {
  const c = await revised({}, { messages: [message(1, { reactions: [{ key: "👍", count: 1, users: ["u2"] }] }), message(2, { user: me, replyTo: 1, data: { a: 1 } })] });
  void c.parley.delete("lobby", 2);
  assert.deepEqual(c.next("delete").data, { room: "lobby", seq: 2 });
  const gone = c.parley.message("lobby", 2);
  assert.ok(gone.deletedAt);
  assert.deepEqual([gone.text, gone.replyTo, gone.data, gone.id], ["", undefined, undefined, "m2"]);
  const shown = () => c.parley.message("lobby", 1).reactions;
  void c.parley.react("lobby", 1, "👍");
  void c.parley.react("lobby", 1, "🎉");
  assert.deepEqual(shown(), [{ key: "👍", count: 2, users: ["u2", "u1"] }, { key: "🎉", count: 1, users: ["u1"] }]);
  void c.parley.react("lobby", 1, "🎉", false);
  void c.parley.react("lobby", 1, "👍"); // again
  assert.deepEqual(shown(), [{ key: "👍", count: 2, users: ["u2", "u1"] }]);
  await c.acks(c.next("react"), { room: "lobby", seq: 1, rev: 1 });
  await c.changed(1, 1, { reactions: [{ key: "👍", count: 2, users: ["u2", "u1"] }] });
  assert.equal(shown()[0].count, 2, "counted once");
});

test("an own reaction is known where a reaction names only some of its users", async () => {
  const crowd = Array.from({ length: 20 }, (_, i) => `v${i}`);
  const c = await revised({}, { messages: [message(1, { reactions: [{ key: "👍", count: 30, users: crowd }] })] });
  const shown = () => c.parley.message("lobby", 1).reactions[0];
  void c.parley.react("lobby", 1, "👍");
  assert.deepEqual([shown().count, shown().users.length, shown().users.includes("u1")], [31, 20, true]);
  await c.acks(c.next("react"), { room: "lobby", seq: 1, rev: 1 });
  await c.changed(1, 1, { reactions: [{ key: "👍", count: 31, users: crowd }] });
  assert.deepEqual([shown().count, shown().users.includes("u1")], [31, true]);
  void c.parley.react("lobby", 1, "👍", false);
  assert.deepEqual([shown().count, shown().users.includes("u1")], [30, false]);
});

test("what the server would close the connection for is refused before it is sent, of changes too", async () => {
  const c = await revised();
  for (const seq of [0, -1, 1.5, "1", null, undefined, 2 ** 53]) await assert.rejects(c.parley.delete("lobby", seq), { code: "message_not_found" });
  for (const key of ["", " ", "\n", "\u200b", "x".repeat(33), 7]) await assert.rejects(c.parley.react("lobby", 1, key), { code: "reaction_invalid" });
  for (const text of ["", "\0", "x".repeat(4001)]) await assert.rejects(c.parley.edit("lobby", 2, text), { code: "text_invalid" });
  await assert.rejects(c.parley.edit("lobby", 2, "x", { data: [] }), { code: "data_invalid" });
  await assert.rejects(c.parley.edit(" ", 2, "x"), { code: "room_invalid" });
  for (const event of ["edit", "delete", "react"]) await assert.rejects(c.parley.call(event), TypeError);
  assert.deepEqual([c.socket.sent.length, c.details("change").length], [0, 0]);
  for (const key of ["👍", "❤️", "👩‍👩‍👧", "+1", "x".repeat(32)]) assert.equal(checkReaction(key), null, key);
});

test("a change that is pending survives a reload, for its user and for its message", async () => {
  const kept = storage();
  const c = await revised({}, { storage: kept });
  void c.parley.edit("lobby", 2, "edited").catch(() => {});
  void c.parley.react("lobby", 1, "👍").catch(() => {});
  await settle();
  assert.deepEqual(client({ storage: kept, user: other }).parley.changes, []);
  const after = await revised({}, { storage: kept });
  assert.deepEqual(after.details("changed").map((d) => [d.message.seq, d.pending]), [[1, true], [2, true]]);
  assert.equal(after.parley.message("lobby", 2).text, "edited");
  await after.acks(after.next("edit"), { room: "lobby", seq: 2, rev: 1 });
  await after.acks(after.next("react"), { room: "lobby", seq: 1, rev: 2 });
  await settle();
  assert.equal(kept.getItem("parley.outbox.u1"), null);

  void c.parley.delete("lobby", 2).catch(() => {});
  await settle();
  const foreign = await revised({}, { storage: kept, messages: [message(1), message(2, { id: "another", user: me })] });
  assert.equal(foreign.socket.sent.filter((f) => f.event === "delete").length, 0, "a room of before had another message there");
  const junk = [{ change: "toString" }, { change: "edit", room: "lobby", seq: 1 }, { change: "react", room: "lobby", seq: 0, what: { key: "x" } }, { change: "delete", room: "", seq: 1 }];
  kept.setItem("parley.outbox.u1", JSON.stringify(junk));
  assert.deepEqual(client({ storage: kept }).parley.changes, []);
});

test("a change that is refused without asking holds up no other", async () => {
  const place = { change: "react", room: "lobby", at: 0 };
  const former = { ...place, seq: 2, what: { key: "👎" }, of: "another" };
  const later = { ...place, what: { key: "👍" } };
  for (const [what, options, kept] of [
    ["of the same message", {}, [former, { ...later, seq: 2, of: "m2" }]],
    ["that waits for its turn", { window: 1 }, [former, { ...later, seq: 1, of: "m1" }]],
  ]) {
    const before = storage();
    before.setItem("parley.outbox.u1", JSON.stringify(kept));
    const c = await revised(options, { storage: before });
    assert.equal(c.details("change")[0].error.code, "message_not_found", what);
    const asked = c.next("react");
    assert.equal(asked.data.key, "👍", what);
    await c.acks(asked, { room: "lobby", seq: asked.data.seq, rev: 1 });
    assert.deepEqual(c.parley.changes, [], what);
    c.parley.close();
  }
});

test("closing, leaving and being refused end what is pending, and the message goes back", async () => {
  for (const [end, code] of [[(c) => c.parley.close(), "closed"], [(c) => void c.parley.leave("lobby").catch(() => {}), "left"], [(c) => c.drops(4403), "closed"]]) {
    const c = await revised();
    const asked = assert.rejects(c.parley.edit("lobby", 2, "edited"), { code });
    await end(c);
    await asked;
    assert.deepEqual(c.parley.changes, []);
    assert.equal(c.parley.message("lobby", 2)?.text ?? "text 2", "text 2");
  }
});

/** A client in the lobby of a server that knows marks: the last messages are given, and so is how far they were read. */
async function marked({ seq, read = 0, messages, events, options } = {}) {
  const c = client(options, events);
  messages ??= Array.from({ length: Math.min(seq, 10) }, (_, i) => message(seq - Math.min(seq, 10) + 1 + i));
  const answer = (more) => ({ room: "lobby", seq, rev: 0, read, recovered: true, messages: messages.map((m) => ({ rev: 0, ...m })), ...more });
  const joined = c.parley.join("lobby");
  c.parley.connect();
  await c.open();
  await c.acks(c.next("join_room"), answer());
  await joined;
  c.says = (seq, more) => c.serverSends({ event: "message", data: message(seq, { rev: 0, ...more }) });
  c.erases = (seq, rev) => c.serverSends({ event: "changed", data: message(seq, { rev, text: "", deletedAt: "2026-01-02T05:04:05.000000Z" }) });
  c.marks = (user, read) => c.serverSends({ event: "marked", data: { room: "lobby", user, read } });
  c.refuses = (frame, code) => c.serverSends({ id: frame.id, event: "error", error: { code, title: "no" } });
  /** The next frame is a mark of so much, and answered so. */
  c.asked = async (read, answer) => {
    const frame = c.next("mark");
    assert.deepEqual(frame.data, { room: "lobby", read });
    if (answer) await c.acks(frame, { room: "lobby", ...answer });
    return frame;
  };
  c.returns = async (ack) => {
    await c.drops(1006);
    await pass(10_000);
    await c.open();
    await c.acks(c.next("join_room"), { ...answer(), messages: [], changes: [], ...ack });
  };
  c.counts = () => [c.parley.read("lobby"), c.parley.unread("lobby")];
  return c;
}

/** What has become of promises by now: their values, codes of refusal, and null. */
async function outcomes(promises) {
  for (const p of promises) p.catch(() => {});
  const now = promises.map(() => null);
  promises.forEach((p, i) => p.then((value) => (now[i] = value), (err) => (now[i] = err.code)));
  await settle();
  return now;
}

test("unread are the messages of others behind what was read, without the deleted ones", async () => {
  const c = await marked({ seq: 3, read: 2 });
  const steps = [
    [() => {}, 2, 1],
    [() => c.says(4), 2, 2],
    [() => c.says(5, { deletedAt: "2026-01-02T05:04:05.000000Z", rev: 1, text: "" }), 2, 2],
    [() => c.erases(4, 2), 2, 1],
    [() => c.erases(4, 2), 2, 1], // told twice
    [() => c.erases(1, 3), 2, 1], // it was read
    [() => c.serverSends({ event: "changed", data: message(3, { rev: 4, text: "edited" }) }), 2, 1],
    [() => c.marks(other, 5), 2, 1],
    [() => c.says(6), 2, 2],
    [() => c.marks(me, 3), 3, 1], // on another device
    [() => c.marks(me, 2), 3, 1], // never goes back
    [() => c.says(7, { user: me }), 7, 0], // to send is to have read
    [() => c.says(9), 7, 0], // its predecessor has not come
    [() => c.says(8), 7, 2],
    [() => c.erases(10, 5), 7, 2], // a message that has not come
    [() => c.says(10), 7, 2],
  ];
  for (const [i, [step, ...want]] of steps.entries()) {
    await step();
    assert.deepEqual(c.counts(), want, `step ${i}`);
  }
  assert.deepEqual(c.details("unread").map((d) => d.unread), [1, 2, 1, 2, 1, 0, 1, 2], "told when it changes");
  assert.deepEqual(c.details("unread").at(-1), { room: "lobby", read: 7, unread: 2 });
  assert.deepEqual(c.details("marked").map((d) => [d.room, d.user.id, d.read]), [["lobby", "u2", 5], ["lobby", "u1", 3], ["lobby", "u1", 2]]);
  assert.deepEqual(c.socket.sent, [], "nothing is asked that is known");
});

test("what was sent is read, from its answer on", async () => {
  const c = await marked({ seq: 3, read: 1 });
  void c.parley.send("lobby", "Hello");
  await c.acks(c.next("message"), { room: "lobby", seq: 5, id: "m5", at: "2026-01-02T03:04:05.000000Z" });
  assert.deepEqual(c.counts(), [5, 0]);
  await c.says(4);
  assert.deepEqual(c.counts(), [5, 0]);
});

test("the server is asked how many are unread that came before the first one here", async () => {
  const c = await marked({ seq: 100, read: 50 });
  assert.deepEqual(c.counts(), [50, undefined]);
  await c.asked(0, { read: 50, unread: 45 }); // 5 were deleted
  assert.deepEqual(c.counts(), [50, 45]);
  await c.says(101);
  await c.erases(60, 1);
  await c.erases(60, 1);
  assert.deepEqual([c.counts(), c.socket.sent], [[50, 45], []], "what comes is counted at once");
  await pass(1_000);
  await c.asked(0, { read: 50, unread: 45 });
  assert.deepEqual(c.counts(), [50, 45]);
  await pass(59_000);
  assert.deepEqual(c.socket.sent, [], "and asked for once more");
  await c.marks(me, 70);
  assert.deepEqual(c.counts(), [70, 31], "there are no more than these");
  const question = await c.asked(0);
  await c.marks(me, 80);
  await c.acks(question, { room: "lobby", read: 70, unread: 30 });
  assert.deepEqual(c.counts(), [80, 21], "the answer is older");
  await pass(1_000);
  await c.asked(0, { read: 80, unread: 20 });
  assert.deepEqual(c.counts(), [80, 20]);
  await c.marks(me, 95);
  assert.deepEqual([c.counts(), c.socket.sent], [[95, 6], []], "from here on it is known without asking");
});

test("a count that may have what is on its way in it is asked for again, and ever later", async () => {
  const c = await marked({ seq: 100, read: 50 });
  const question = await c.asked(0);
  await c.says(101);
  await c.acks(question, { room: "lobby", read: 50, unread: 50 }); // without 101
  await pass(1_000);
  await c.asked(0, { read: 50, unread: 52 }); // with 102
  await c.says(102);
  assert.deepEqual(c.counts(), [50, 53]);
  const asked = [];
  for (let second = 1; second <= 300; second++) {
    await pass(1_000);
    await c.says(102 + second);
    const frame = c.socket.sent.shift();
    if (frame?.event !== "mark") continue;
    asked.push(second);
    await c.acks(frame, { room: "lobby", read: 50, unread: 52 + second });
  }
  assert.deepEqual(asked.slice(0, 5), [2, 6, 14, 30, 62]);
  assert.ok(asked.length < 12, `asked at ${asked}`);
  while (c.socket.sent.length === 0) await pass(5_000);
  await c.asked(0, { read: 50, unread: 352 });
  assert.deepEqual(c.counts(), [50, 352]);
});

test("who does not want to know how many are unread does not ask", async () => {
  const c = await marked({ seq: 100, read: 50, events: ["message"] });
  await c.says(101);
  await pass(10_000);
  assert.deepEqual([c.socket.sent, c.parley.read("lobby")], [[], 50]);
  assert.equal(c.parley.unread("lobby"), undefined);
  await c.asked(0, { read: 50, unread: 51 });
  assert.equal(c.parley.unread("lobby"), 51);
});

test("of more than a thousand the server knows how many they are", async () => {
  const c = await marked({ seq: 0 });
  for (let seq = 1; seq <= 1_001; seq++) c.socket.onmessage({ data: JSON.stringify({ event: "message", data: message(seq, { rev: 0 }) }) });
  await settle();
  assert.deepEqual(c.counts(), [0, 1_001]);
  await c.erases(500, 1);
  await c.says(1_002);
  assert.deepEqual(c.counts(), [0, 1_001]);
  await pass(1_000);
  await c.asked(0, { read: 0, unread: 1_001 });
  await c.says(1_003);
  assert.deepEqual(c.counts(), [0, 1_002]);
});

test("marks are said once a second, the highest of those that wait", async () => {
  const c = await marked({ seq: 6, read: 0 });
  const marks = [1, 3, 2, 5].map((seq) => c.parley.mark("lobby", seq));
  const first = await c.asked(1);
  assert.deepEqual(c.socket.sent, [], "one at a time");
  await pass(2_000);
  assert.deepEqual(c.socket.sent, []);
  await c.acks(first, { room: "lobby", read: 1, unread: 5 });
  const second = await c.asked(5);
  await c.acks(second, { room: "lobby", read: 5, unread: 1 });
  const [one, five] = [{ room: "lobby", read: 1, unread: 5 }, { room: "lobby", read: 5, unread: 1 }];
  assert.deepEqual(await outcomes(marks), [one, five, five, five]);
  const more = [c.parley.mark("lobby", 4), c.parley.mark("lobby", 6), c.parley.mark("lobby", 0)];
  await settle();
  assert.deepEqual(c.socket.sent, []);
  assert.deepEqual(await outcomes([more[0]]), [five], "that is known already");
  await pass(999);
  assert.deepEqual(c.socket.sent, []);
  await pass(1);
  await c.asked(6, { read: 6, unread: 0 });
  assert.deepEqual(await outcomes(more.slice(1)), [{ room: "lobby", read: 6, unread: 0 }, { room: "lobby", read: 6, unread: 0 }]);
  assert.deepEqual(c.counts(), [6, 0]);
});

test("what is not known here is not marked", async () => {
  const c = await marked({ seq: 3, read: 1 });
  const marks = c.parley.mark("lobby", 1_000);
  await c.asked(3);
  await c.says(4);
  await c.returns({ seq: 5, read: 1, messages: [message(5)] });
  await c.asked(3, { read: 3, unread: 2 });
  assert.deepEqual([(await outcomes([marks]))[0].read, c.counts()], [3, [3, 2]]);
});

test("a mark over a lost connection is asked for again, unless it was stored", async () => {
  for (const stored of [false, true]) {
    const c = await marked({ seq: 3, read: 0 });
    const marks = [c.parley.mark("lobby", 2), c.parley.mark("lobby", 3)];
    await c.asked(2);
    await c.returns({ read: stored ? 2 : 0 });
    assert.deepEqual(await outcomes(marks), [stored ? { room: "lobby", read: 2, unread: 1 } : null, null]);
    await c.asked(3, { read: 3, unread: 0 });
    assert.deepEqual((await outcomes(marks)).map(({ read }) => read), [stored ? 2 : 3, 3]);
    assert.deepEqual([c.counts(), c.socket.sent], [[3, 0], []]);
  }
});

test("after a loss the count is exact again, whatever was read, said and deleted meanwhile", async () => {
  for (const [name, before, ack, question, want] of [
    ["nothing", { seq: 3, read: 1 }, {}, null, [1, 2]],
    ["read elsewhere", { seq: 3, read: 1 }, { read: 2 }, null, [2, 1]],
    ["said and deleted", { seq: 3, read: 1 }, { seq: 5, rev: 2, messages: [message(4, { rev: 1, deletedAt: "2026-01-02T05:04:05.000000Z" }), message(5)], changes: [message(2, { rev: 2, deletedAt: "2026-01-02T05:04:05.000000Z" })] }, null, [1, 2]],
    ["far behind", { seq: 100, read: 50 }, { seq: 101, messages: [message(101)] }, { read: 50, unread: 47 }, [50, 47]],
    ["far behind, and read elsewhere", { seq: 100, read: 50 }, { read: 95 }, null, [95, 5]],
    ["the oldest are gone", { seq: 100, read: 50 }, { seq: 120, recovered: false, messages: [message(119), message(120)] }, null, [50, 2]],
    ["the room began anew", { seq: 3, read: 3 }, { seq: 2, read: 1, recovered: false, messages: [message(1), message(2)] }, null, [1, 1]],
  ]) {
    const c = await marked(before);
    if (before.seq === 100) await c.asked(0, { read: 50, unread: 45 });
    await c.returns(ack);
    if (question) await c.asked(0, question);
    assert.deepEqual([c.counts(), c.socket.sent], [want, []], name);
    assert.equal(c.details("unread").at(-1).unread, want[1], name);
  }
});

test("a mark that cannot be is refused, and says why", async () => {
  const c = await marked({ seq: 3, read: 1 });
  const bad = [c.parley.mark("lobby", -1), c.parley.mark("lobby", 1.5), c.parley.mark("lobby"), c.parley.mark("", 1), c.parley.mark("attic", 1)];
  assert.deepEqual(await outcomes(bad), ["message_not_found", "message_not_found", "message_not_found", "room_invalid", "not_joined"]);
  assert.deepEqual([c.parley.read("attic"), c.parley.unread("attic")], [undefined, undefined]);
  const [refused, next] = [c.parley.mark("lobby", 2), c.parley.mark("lobby", 3)];
  assert.deepEqual(await outcomes([refused, next]), [null, null]);
  await c.refuses(await c.asked(2), "not_a_member");
  assert.deepEqual(await outcomes([refused, next]), ["not_a_member", null]);
  await pass(1_000);
  await c.asked(3);
  const left = c.parley.leave("lobby");
  assert.deepEqual(await outcomes([next]), ["left"]);
  await c.acks(c.next("leave_room"), {});
  await left;

  const d = await marked({ seq: 3, read: 1 });
  const closed = d.parley.mark("lobby", 2);
  d.parley.close();
  assert.deepEqual(await outcomes([closed, d.parley.mark("lobby", 3)]), ["closed", "closed"]);
});

test("an older server is asked for no marks, also when it takes the place of a newer one", async () => {
  const c = client();
  const joined = c.parley.join("lobby");
  const early = c.parley.mark("lobby", 1);
  assert.deepEqual(await outcomes([early]), [null]);
  c.parley.connect();
  await c.open();
  await c.acks(c.next("join_room"), { room: "lobby", seq: 1, rev: 0, recovered: true, messages: [message(1)] });
  await joined;
  await c.serverSends({ event: "message", data: message(2) });
  assert.deepEqual(await outcomes([early, c.parley.mark("lobby", 1)]), ["marks_not_supported", "marks_not_supported"]);
  assert.deepEqual([c.parley.read("lobby"), c.parley.unread("lobby"), c.details("unread"), c.socket.sent], [undefined, undefined, [], []]);
  await c.drops(1006);
  const waits = c.parley.mark("lobby", 2);
  await pass(1_000);
  await c.open();
  await c.acks(c.next("join_room"), { room: "lobby", seq: 5, rev: 0, read: 1, recovered: true, messages: [3, 4, 5].map((seq) => message(seq)), changes: [] });
  const question = c.next("mark");
  assert.equal(question.data.read, 2);
  await c.acks(question, { room: "lobby", read: 2, unread: 3 });
  assert.deepEqual(await outcomes([waits]), [{ room: "lobby", read: 2, unread: 3 }]);
  assert.equal(c.parley.unread("lobby"), 3);
  await c.drops(1006);
  await pass(1_000);
  await c.open();
  await c.acks(c.next("join_room"), { room: "lobby", seq: 5, rev: 0, recovered: true, messages: [], changes: [] });
  assert.deepEqual([c.parley.unread("lobby"), c.details("unread").at(-1).unread], [undefined, undefined]);
});

test("without a user nobody can say what is unread, and marks go all the same", async () => {
  const c = await marked({ seq: 3, read: 1, options: { user: null } });
  assert.deepEqual(c.counts(), [1, undefined]);
  const asked = c.parley.mark("lobby", 3);
  await c.asked(3, { read: 3, unread: 0 });
  assert.deepEqual(await outcomes([asked]), [{ room: "lobby", read: 3, unread: 0 }]);
  assert.deepEqual(c.counts(), [3, undefined]);
});

/** A room as a server keeps it, for one user, whose every answer and event can be lost. */
class Room {
  rev = 0;
  seen = 0; // how far the user has read
  messages = [];
  constructor(random) {
    this.random = random;
  }
  pick(n) {
    return Math.floor(this.random() * n);
  }
  say(user) {
    if (user === me) this.seen = this.messages.length + 1;
    this.messages.push(message(this.messages.length + 1, { rev: 0, user }));
    return { event: "message", data: { ...this.messages.at(-1) } };
  }
  change(by, kind, { seq, text, key, on }) {
    const m = this.messages[seq - 1];
    if (!m) return { error: "message_not_found" };
    if (kind !== "react" && m.user.id !== by.id) return { error: "not_allowed" };
    if (m.deletedAt) return kind === "delete" ? { rev: m.rev } : { error: "message_deleted" };
    const users = m.reactions?.find((r) => r.key === key)?.users ?? [];
    if (kind === "edit" && m.text === text) return { rev: m.rev };
    if (kind === "react" && users.includes(by.id) === on) return { rev: m.rev };
    const next = { ...m, rev: ++this.rev };
    if (kind === "edit") Object.assign(next, { text, editedAt: "2026-01-02T05:04:05.000000Z" });
    if (kind === "delete") {
      Object.assign(next, { text: "", deletedAt: "2026-01-02T05:04:05.000000Z" });
      for (const name of ["reactions", "editedAt"]) delete next[name];
    }
    if (kind === "react") {
      const left = on ? [...users, by.id] : users.filter((id) => id !== by.id);
      const others = (m.reactions ?? []).filter((r) => r.key !== key);
      next.reactions = left.length > 0 ? [...others, { key, count: left.length, users: left }] : others;
      if (next.reactions.length === 0) delete next.reactions;
    }
    this.messages[seq - 1] = next;
    return { rev: next.rev, event: { event: "changed", data: { ...next } } };
  }
  mark(read) {
    const seen = Math.max(this.seen, Math.min(read, this.messages.length));
    const moved = seen > this.seen;
    this.seen = seen;
    return { ack: { room: "lobby", read: seen, unread: this.unread }, event: moved && { event: "marked", data: { room: "lobby", user: me, read: seen } } };
  }
  get unread() {
    return this.messages.filter((m) => m.seq > this.seen && !m.deletedAt).length;
  }
  read({ after = 0, changedAfter, limit = 3, upTo = Infinity }) {
    const place = changedAfter === undefined ? "seq" : "rev";
    const all = this.messages.filter((m) => m[place] > (changedAfter ?? after) && m.seq <= upTo).sort((a, b) => a[place] - b[place]);
    return { messages: all.slice(0, limit), more: all.length > limit };
  }
  answer(frame) {
    const { since, rev } = frame.data;
    switch (frame.event) {
      case "join_room": {
        const messages = since === undefined ? this.messages.slice(-3) : this.read({ after: since }).messages;
        const changes = rev === undefined ? {} : { changes: this.read({ changedAfter: rev, upTo: since, limit: 2 }).messages };
        return { ack: { room: "lobby", seq: this.messages.length, rev: this.rev, read: this.seen, recovered: true, messages, ...changes } };
      }
      case "history":
        return { ack: this.read(frame.data) };
      case "mark":
        return this.mark(frame.data.read);
      default: {
        const { error, rev: now, event } = this.change(me, frame.event, frame.data);
        return error ? { error, event } : { ack: { room: "lobby", seq: frame.data.seq, rev: now }, event };
      }
    }
  }
}

test("whatever is lost and whenever, the view is in the end the server's", async () => {
  for (let seed = 1; seed <= 30; seed++) {
    let state = seed * 2654435761;
    const random = () => {
      state = (Math.imul(state ^ (state >>> 15), 2246822519) + 374761393) >>> 0;
      return state / 2 ** 32;
    };
    const room = new Room(random);
    for (let i = 0; i < 5; i++) room.say(i % 2 ? me : other);
    for (let i = room.pick(12); i > 0; i--) room.say(other);
    room.mark(room.pick(17));
    const c = client({ pageSize: 2, retryMin: 10, retryMax: 10 });
    const view = new Map(); // as an application keeps it
    for (const type of ["message", "changed"]) {
      c.parley.addEventListener(type, ({ detail: { message: m } }) => (type === "message" || view.has(m.seq)) && view.set(m.seq, m));
    }
    void c.parley.join("lobby");
    c.parley.connect();
    let live = []; // on their way to the client, in order
    let late = []; // pages that were read, and are not on their way yet
    let joined = false;
    let behind = false; // messages are missing: the changes wait for them, until a resync has the room joined again
    const drop = async () => {
      live = [];
      late = [];
      joined = behind = false;
      await c.drops(1006);
    };
    const resync = () => {
      if (joined) live.push({ event: "resync", data: { room: "lobby" } });
    };
    const work = async (loses) => {
      await settle();
      if (c.parley.state !== "open") {
        if (c.socket?.onopen) await c.open();
        else await pass(1_000);
        return true;
      }
      if (loses && room.pick(12) === 0) {
        await drop();
        return true;
      }
      if (live.length > 0 && (room.pick(2) === 0 || c.socket.sent.length === 0)) {
        await c.serverSends(live.shift());
        return true;
      }
      if (late.length > 0 && (room.pick(3) === 0 || c.socket.sent.length === 0)) {
        live.push(late.shift());
        return true;
      }
      const frame = c.socket.sent.shift();
      if (!frame) return false;
      const { ack, error, event } = room.answer(frame);
      const answer = ack ? { id: frame.id, event: "ack", data: structuredClone(ack) } : { id: frame.id, event: "error", error: { code: error, title: error } };
      if (frame.event === "join_room") {
        live.push(answer); // live events follow it
        joined = true;
        behind = false;
      } else if (frame.event === "history") {
        late.push(answer);
      } else {
        const both = [answer, ...(event && joined && !(behind && event.event === "changed") ? [event] : [])];
        if (room.pick(2)) both.reverse();
        if (loses && room.pick(6) === 0) await drop(); // stored, and nobody has heard of it
        else live.push(...both);
      }
      return true;
    };
    for (let step = 0; step < 60; step++) {
      const seq = 1 + room.pick(room.messages.length);
      const key = ["👍", "🎉"][room.pick(2)];
      const on = room.pick(2) === 0;
      const done = [
        () => room.say(other),
        () => room.change(other, "edit", { seq, text: `by Bob ${step}` }).event,
        () => room.change(other, "react", { seq, key, on }).event,
        () => room.pick(4) === 0 && room.change(other, "delete", { seq }).event,
        () => void c.parley.edit("lobby", seq, `by Ada ${step}`).catch(() => {}),
        () => void c.parley.react("lobby", seq, key, on).catch(() => {}),
        () => void (room.pick(4) === 0 && c.parley.delete("lobby", seq).catch(() => {})),
        () => {
          const said = [room.say(other), room.say(other), room.say(other)];
          if (joined) live.push(...said.slice(room.pick(4)));
          behind = joined;
        },
        () => void (room.pick(2) === 0 && resync()),
        () => void c.parley.mark("lobby", seq).catch(() => {}),
        () => room.pick(2) === 0 && room.mark(seq).event, // on another device
        () => room.pick(2) === 0 && room.say(me),
        () => null,
      ][room.pick(13)]();
      if (done && joined && !(behind && done.event === "changed")) live.push(done);
      if (room.pick(4) === 0) await pass(400); // a hole is not waited for any longer
      await work(true);
    }
    if (behind) resync();
    for (let second = 0; second < 70; second += 5) {
      let left = 2_000;
      while ((await work(false)) && left-- > 0);
      assert.ok(left > 0, `seed ${seed} comes to rest`);
      await pass(5_000); // a count that is in doubt is asked for again within a minute
    }
    assert.deepEqual([c.parley.read("lobby"), c.parley.unread("lobby")], [room.seen, room.unread], `seed ${seed}`);
    assert.deepEqual(c.parley.changes, [], `seed ${seed}`);
    assert.equal(Math.max(...view.keys()), room.messages.length, `seed ${seed}`);
    assert.deepEqual([view.size, c.details("lost")], [room.messages.length + 1 - Math.min(...view.keys()), []], `seed ${seed}`);
    const sorted = (m) => ({ ...m, ...(m.reactions && { reactions: m.reactions.toSorted((a, b) => (a.key < b.key ? -1 : 1)) }) });
    for (const [at, m] of view) assert.deepEqual(sorted(m), sorted(room.messages[at - 1]), `seed ${seed}, message ${at}`);
    c.parley.close();
  }
});
