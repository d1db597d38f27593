import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { afterClose, checkRoom, checkText, Parley, PROTOCOL } from "../assets/parley.js";

const me = { id: "u1", name: "Ada" };
const other = { id: "u2", name: "Bob" };

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
});

/** Lets everything happen that waits for nothing but promises. */
async function settle() {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
}

async function pass(ms) {
  mock.timers.tick(ms);
  await settle();
}

/** A client whose sockets are played by the test. */
function client(options = {}) {
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
      tickets.push(request);
      return `t${tickets.length}`;
    },
    ...options,
  });
  const log = [];
  for (const type of ["message", "lost", "state", "outgoing", "typing", "resync", "forgotten", "joined", "left"]) {
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
