import assert from "node:assert/strict";
import { createServer } from "node:http";
import { beforeEach, mock, test } from "node:test";

import { Problem, Session, words } from "../session.js";

const realFetch = globalThis.fetch;
const ada = { id: "u1", fullName: "Ada Lovelace", email: "ada@example.com", isVerified: true };

beforeEach(() => {
  mock.timers.reset();
  mock.restoreAll();
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.parse("2026-01-02T03:04:05Z") });
  const ticks = Date.now;
  mock.method(performance, "now", () => ticks());
});

/** Lets everything happen that waits for nothing but promises. */
async function settle() {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
}

async function pass(ms) {
  mock.timers.tick(ms);
  await settle();
}

/** What a browser's storage is to us. */
function storage() {
  const items = new Map();
  return {
    items,
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => void items.set(key, value),
    removeItem: (key) => void items.delete(key),
    key: (i) => [...items.keys()][i] ?? null,
    get length() {
      return items.size;
    },
  };
}

/** Channels between the tabs of one browser. A tab that sleeps neither hears nor answers. */
function channels() {
  const all = new Set();
  return (tab) =>
    class {
      onmessage = null;
      constructor() {
        all.add({ tab, port: this });
      }
      postMessage(data) {
        if (tab.asleep) return;
        for (const other of all) {
          if (other.port !== this && !other.tab.asleep) setImmediate(() => other.port.onmessage?.({ data: structuredClone(data) }));
        }
      }
    };
}

const json = (status, body, headers = {}) => new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json", ...headers } });
const problem = (status, code, headers = {}) =>
  json(status, { type: `/problems/${code}`, title: code.replaceAll("_", " "), status, code }, { "content-type": "application/problem+json", ...headers });
const html = (status, headers = {}) =>
  new Response("<!doctype html><h1>Sign in to the network of this hotel</h1>", { status, headers: { "content-type": "text/html; charset=utf-8", ...headers } });
const never = () => new Promise(() => {});
const offline = () => Promise.reject(new TypeError("Failed to fetch"));

/** A server that keeps one session, as Parley does: a token used twice ends it, but for a grace. */
function server({ expiresIn = 900, grace = 10_000 } = {}) {
  const it = { generation: 0, ended: false, asked: [], plays: [], rotated: 0, tickets: 0 };
  const pair = () => ({ accessToken: `a${it.generation}`, expiresIn, refreshToken: `r${it.generation}`, user: ada });
  const answers = {
    "/auth/signin": () => json(200, { ...pair(), deviceToken: it.device }),
    "/auth/refresh": ({ refreshToken }) => {
      if (it.ended) return problem(401, "session_ended");
      if (refreshToken === `r${it.generation}`) {
        it.generation++;
        it.rotated = Date.now();
      } else if (refreshToken !== `r${it.generation - 1}` || Date.now() - it.rotated > grace) {
        it.ended = true;
        return problem(401, "session_ended");
      }
      return json(200, pair());
    },
    "/auth/socket-ticket": (_, token) => (token === `a${it.generation}` && !it.ended ? json(200, { ticket: `t${++it.tickets}`, expiresIn: 30 }) : problem(401, "token_invalid")),
    "/auth/signout": () => new Response(null, { status: 204 }),
    "/auth/signout/all": () => new Response(null, { status: 204 }),
  };
  it.answer = (path, init) => {
    const body = init.body && JSON.parse(init.body);
    it.asked.push([path, body]);
    return answers[path](body ?? {}, init.headers.authorization?.replace("Bearer ", ""));
  };
  /** What the tabs call. What stands in plays is played first, once each, for its path. */
  it.fetch = async (path, init) => {
    const play = it.plays.findIndex(([p]) => p === path);
    if (play < 0) return it.answer(path, init);
    const [[, how]] = it.plays.splice(play, 1);
    return how(() => it.answer(path, init), init);
  };
  it.calls = (path) => it.asked.filter(([p]) => p === path).length;
  return it;
}

/** A tab, or its next life if it is given the storage of the one before. */
function tab(world, { tab = storage(), shared = storage(), locks, channel, ...more } = {}) {
  const it = { storage: tab, shared, asleep: false, ended: [] };
  it.session = new Session({ fetch: world.fetch, storage: tab, shared, locks, BroadcastChannel: channel?.(it), ...more });
  it.session.addEventListener("ended", ({ detail }) => it.ended.push(detail));
  return it;
}

async function signedIn(world, options) {
  const t = tab(world, options);
  const done = t.session.signIn("ada@example.com", "password");
  await settle();
  await pass(250); // no other tab claims it
  await done;
  return t;
}

/** What people who are not signed in can ask for. */
function forms(session) {
  return {
    signUp: () => session.signUp({ fullName: "Ada", email: "a@b.c", password: "p" }),
    verify: () => session.verify("code"),
    resend: () => session.resend("a@b.c"),
    forgot: () => session.forgot("a@b.c"),
    reset: () => session.reset("code", "p"),
    signIn: () => session.signIn("a@b.c", "p"),
    requestLink: () => session.requestLink("a@b.c"),
    signInByLink: () => session.signInByLink("code"),
    signInFactor: () => session.signInFactor("challenge", "123456"),
    signInAt: () => session.signInAt("/dev/continue", { as: "ada" }),
  };
}

/** What became of a promise by now; outcome.of says it again later. */
async function outcome(promise) {
  const it = outcome.of(promise);
  await settle();
  return it.now;
}

outcome.of = (promise) => {
  const it = { now: ["pending"] };
  promise.then((value) => (it.now = ["done", value]), (err) => (it.now = ["failed", err]));
  return it;
};

test("a call that never answers has an end, and the next asks anew", async () => {
  const world = server();
  const t = await signedIn(world);
  world.plays = [["/auth/refresh", never], ["/auth/refresh", never]];
  const first = outcome.of(t.session.ticket({ renew: true }));
  await settle();
  await pass(4_000);
  await pass(9_999);
  assert.equal(first.now[0], "pending");
  await pass(1);
  const [state, err] = first.now;
  assert.equal(state, "failed");
  assert.equal(err.code, "network");
  assert.equal(words(err), "The server cannot be reached. Check the connection and try again.");
  assert.equal((await t.session.ticket({ renew: true })).ticket, "t1");
  assert.deepEqual(t.ended, []);
});

test("who gives up a refresh frees its place at once", async () => {
  const world = server();
  const t = await signedIn(world);
  let asked;
  world.plays = [["/auth/refresh", (_, init) => ((asked = init.signal), never())]];
  const end = new AbortController();
  const first = t.session.ticket({ renew: true, signal: end.signal });
  await settle();
  assert.equal(asked.aborted, false);
  end.abort();
  assert.equal((await outcome(first))[0], "failed");
  assert.equal(asked.aborted, true);
  assert.equal((await outcome(t.session.ticket({ renew: true, signal: AbortSignal.abort() })))[0], "failed");
  assert.equal(world.calls("/auth/refresh"), 0);
  assert.equal((await outcome(t.session.ticket({ renew: true })))[0], "done");
  assert.equal(world.calls("/auth/refresh"), 1);
});

test("a refresh that others wait for goes on", async () => {
  const world = server();
  const t = await signedIn(world);
  let answer;
  world.plays = [["/auth/refresh", (real) => new Promise((resolve) => (answer = () => resolve(real())))]];
  const end = new AbortController();
  const first = t.session.ticket({ renew: true, signal: end.signal });
  const second = t.session.ticket({ renew: true });
  await settle();
  end.abort();
  answer();
  assert.equal((await outcome(first))[0], "failed");
  assert.equal((await outcome(second))[0], "done");
  assert.equal(world.calls("/auth/refresh"), 1);
});

test("a body that never ends has an end", async () => {
  const world = server();
  const t = await signedIn(world);
  world.plays = [["/auth/socket-ticket", () => new Response(new ReadableStream({ start: (c) => c.enqueue(new TextEncoder().encode("{")) }), { headers: { "content-type": "application/json" } })]];
  const first = outcome.of(t.session.ticket());
  await settle();
  await pass(15_000);
  assert.equal(first.now[1]?.code, "network");
  assert.equal((await t.session.ticket()).ticket, "t1");
});

test("a session may begin with another call of the server", async () => {
  const world = server();
  const t = tab(world);
  const answer = json(200, { accessToken: "a0", expiresIn: 900, refreshToken: "r0", user: ada, deviceToken: "d0" });
  world.plays = [
    ["/dev/continue", () => problem(409, "person_taken")],
    ["/dev/continue", (_, init) => (world.asked.push(["/dev/continue", JSON.parse(init.body)]), answer)],
  ];
  const refused = outcome.of(t.session.signInAt("/dev/continue", { as: "ada" }));
  await settle();
  assert.equal(refused.now[0], "failed");
  assert.equal(refused.now[1].code, "person_taken");
  assert.equal(t.session.user, null);
  const begun = outcome.of(t.session.signInAt("/dev/continue", { as: "ada" }));
  await settle();
  await pass(250); // no other tab claims it
  assert.deepEqual(begun.now, ["done", ada]);
  assert.deepEqual(world.asked, [["/dev/continue", { as: "ada" }]]);
  assert.equal(await t.session.ticket().then(({ ticket }) => ticket), "t1");
  const next = tab(world, { tab: t.storage, shared: t.shared });
  const restored = outcome.of(next.session.restore());
  await settle();
  await pass(250);
  assert.equal(restored.now[1], "restored");
  assert.equal(next.session.user.id, "u1");
});

test("forms have an end", async () => {
  for (const submit of Object.values(forms(tab(server(), { fetch: never }).session))) {
    const sent = outcome.of(submit());
    await settle();
    await pass(15_000);
    const [state, err] = sent.now;
    assert.equal(state, "failed");
    assert.equal(words(err), "The server cannot be reached. Check the connection and try again.");
  }
});

test("signing out does not wait for ever", async () => {
  const world = server();
  const t = await signedIn(world);
  world.plays = [["/auth/signout", never]];
  const out = t.session.signOut();
  await pass(5_000);
  assert.equal((await outcome(out))[0], "done");
  assert.equal(t.session.user, null);
  assert.equal(t.storage.items.size, 0);
});

test("a refresh whose answer was lost is asked again with the same token", async () => {
  for (const lost of [
    async (real) => (real(), never()), // taken, and the answer hangs
    async (real) => (real(), offline()), // taken, and the connection broke
  ]) {
    const world = server();
    const t = await signedIn(world);
    world.plays = [["/auth/refresh", lost]];
    const asked = t.session.ticket({ renew: true });
    await settle();
    await pass(4_000);
    assert.equal((await outcome(asked))[0], "done");
    assert.deepEqual(world.asked.filter(([p]) => p === "/auth/refresh").map(([, b]) => b.refreshToken), ["r0", "r0"]);
    assert.equal(JSON.parse(t.storage.getItem("parley.session")).refreshToken, "r1");
    assert.deepEqual(t.ended, []);
  }
});

test("a real server that takes the token and breaks the connection", async (t) => {
  mock.timers.reset();
  const world = server();
  let broken = 0;
  const http = createServer((request, response) => {
    let body = "";
    request.on("data", (part) => (body += part));
    request.on("end", async () => {
      const answer = world.answer(request.url, { body, headers: request.headers });
      if (request.url === "/auth/refresh" && broken++ === 0) {
        request.socket.destroy();
        return;
      }
      response.writeHead(answer.status, Object.fromEntries(answer.headers));
      response.end(await answer.text());
    });
  });
  await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
  t.after(() => http.close());
  t.after(() => http.closeAllConnections());
  const it = tab(world, { fetch: (path, init) => realFetch(`http://127.0.0.1:${http.address().port}${path}`, init) });
  await it.session.signIn("ada@example.com", "password");
  assert.equal((await it.session.ticket({ renew: true })).ticket, "t1");
  assert.equal(world.calls("/auth/refresh"), 2);
});

// ---- answers of strangers ----

const strangers = {
  "a page with 401": () => html(401),
  "a page with 403": () => html(403),
  "a page with 200": () => html(200),
  "a page with 502": () => html(502),
  "JSON of somebody else with 200": () => json(200, { ok: true }),
  "JSON of somebody else with 401": () => json(401, { message: "Unauthorized" }),
  "a problem of somebody else": () => json(401, { type: "about:blank", title: "Unauthorized", status: 401 }, { "content-type": "application/problem+json" }),
  "a problem with another type": () => json(401, { type: "https://gateway.example/problems", code: "session_ended" }, { "content-type": "application/problem+json" }),
  "our words, but no problem document": () => json(401, { type: "/problems/session_ended", code: "session_ended" }),
  "nothing with 204": () => new Response(null, { status: 204 }),
  "a list with 200": () => json(200, []),
  "a pair without an end": () => json(200, { accessToken: "a", refreshToken: "r", expiresIn: 1e999 }),
};

for (const [name, answer] of Object.entries(strangers)) {
  test(`${name} does not end a session, and is not taken for an answer`, async () => {
    for (const path of ["/auth/refresh", "/auth/socket-ticket"]) {
      const world = server();
      const t = await signedIn(world);
      world.plays = [[path, answer]];
      const [state, err] = await outcome(t.session.ticket({ renew: path === "/auth/refresh" }));
      assert.equal(state, "failed", path);
      assert.ok(!err.permanent);
      assert.equal(words(err), "The server cannot be reached. Check the connection and try again.");
      assert.deepEqual(t.ended, []);
      assert.ok(t.storage.getItem("parley.session"));
      assert.equal((await t.session.ticket({ renew: true })).ticket, "t1");
    }
  });

  test(`${name} signs nobody up and nobody in`, async () => {
    const t = tab(server(), { fetch: async () => answer() });
    for (const [form, submit] of Object.entries(forms(t.session))) {
      if (form === "reset" && name === "nothing with 204") continue; // which is the server's answer
      const [state, err] = await outcome(submit());
      assert.equal(state, "failed");
      assert.equal(words(err), "The server cannot be reached. Check the connection and try again.");
    }
    assert.equal(t.storage.items.size, 0);
  });
}

test("the server's own word ends a session", async () => {
  for (const code of ["session_ended", "token_invalid"]) {
    const world = server();
    const t = await signedIn(world);
    world.plays = [["/auth/refresh", () => problem(401, code)]];
    const [state, err] = await outcome(t.session.ticket({ renew: true }));
    assert.equal(state, "failed");
    assert.equal(err.permanent, true);
    assert.deepEqual(t.ended, [{ copy: false }]);
    assert.equal(t.storage.items.size, 0);
  }
});

test("an access token that the server refuses is exchanged, and asked with again", async () => {
  const world = server();
  const t = await signedIn(world);
  world.plays = [["/auth/socket-ticket", () => problem(401, "token_invalid")]];
  assert.equal((await t.session.ticket()).ticket, "t1");
  assert.equal(world.calls("/auth/refresh"), 1);
});

test("who signs out while a refresh is under way stays out", async () => {
  const world = server();
  const t = await signedIn(world);
  let answer;
  world.plays = [["/auth/refresh", (real) => new Promise((resolve) => (answer = () => resolve(real())))]];
  const asked = t.session.ticket({ renew: true });
  await settle();
  const out = t.session.signOut();
  assert.equal((await outcome(out))[0], "done");
  answer();
  assert.equal((await outcome(asked))[0], "failed");
  assert.equal(t.session.user, null);
  assert.deepEqual(t.ended, []);
  assert.equal(t.storage.items.size, 0);
});

test("signing out gives up what is being read, and waits for the answer to nothing else", async () => {
  const world = server();
  const t = await signedIn(world);
  const signals = [];
  const asked = [];
  const read = (path, ask) => {
    world.plays.push([path, (_, { signal }) => (signals.push(signal), never())]);
    asked.push(outcome.of(ask()));
  };
  read("/rooms/mine", () => t.session.rooms());
  read("/rooms/hall", () => t.session.room("hall"));
  read("/rooms/hall/members", () => t.session.members("hall", { signal: new AbortController().signal }));
  read("/rooms", () => t.session.publicRooms());
  read("/me/blocks", () => t.session.blocks());
  read("/me/settings", () => t.session.settings());
  read("/auth/socket-ticket", () => t.session.ticket());
  await settle();
  let refuse;
  world.plays.push(["/auth/signout/all", () => new Promise((resolve) => (refuse = () => resolve(problem(503, "unavailable"))))]);
  const out = outcome.of(t.session.signOut({ everywhere: true }));
  await settle();
  assert.deepEqual(signals.map(({ aborted }) => aborted), asked.map(() => true));
  assert.deepEqual(asked.map(({ now }) => now[0]), asked.map(() => "failed"));
  assert.equal((await outcome(t.session.settings()))[0], "failed", "nothing is read any more");
  refuse();
  await settle();
  assert.equal(out.now[0], "failed");
  world.plays.push(["/me/settings", () => json(200, { readReceipts: true })]);
  assert.deepEqual(await t.session.settings(), { readReceipts: true }, "the session goes on");
  assert.deepEqual(t.ended, []);
});

test("what is refused since the user signs out ends nothing, and is not asked again for the next one", async () => {
  for (const next of [false, true]) {
    const world = server();
    const t = await signedIn(world);
    let refuse;
    world.plays = [["/rooms/hall", () => new Promise((resolve) => (refuse = () => resolve(problem(401, "token_invalid"))))]];
    const write = outcome.of(t.session.deleteRoom("hall"));
    await settle();
    let out;
    world.plays.push(["/auth/signout", (real) => new Promise((resolve) => (out = () => resolve(real())))]);
    const left = t.session.signOut();
    await settle();
    if (next) {
      out();
      await left;
      const back = t.session.signIn("bob@example.com", "password");
      await pass(250);
      await back;
    }
    refuse();
    await settle();
    assert.equal(write.now[0], "failed");
    assert.equal(write.now[1].code, "session_ended");
    assert.equal(world.calls("/auth/refresh"), 0);
    if (!next) out();
    await left;
    assert.deepEqual(t.ended, []);
    assert.equal(t.session.user !== null, next);
  }
});

// ---- clocks ----

test("an access token is renewed by a clock that nobody sets", async () => {
  for (const by of [-3_600_000, 3_600_000]) {
    const world = server({ expiresIn: 900 });
    const t = await signedIn(world);
    const right = Date.now;
    const set = mock.method(Date, "now", () => right() + by);
    await t.session.ticket();
    assert.equal(world.calls("/auth/refresh"), 0, `set by ${by}`);
    await pass(871_000);
    await t.session.ticket();
    assert.equal(world.calls("/auth/refresh"), 1);
    set.mock.restore();
  }
});

test("a short token is used before it is renewed", async () => {
  const world = server({ expiresIn: 2 });
  const t = await signedIn(world);
  const { ticket, expiresIn } = await t.session.ticket();
  assert.equal(ticket, "t1");
  assert.ok(expiresIn > 1 && expiresIn <= 2, String(expiresIn));
  assert.equal(world.calls("/auth/refresh"), 0);
});

test("a token for an open connection has most of its life before it", async () => {
  const world = server({ expiresIn: 900 });
  const t = await signedIn(world);
  assert.equal((await t.session.token()).token, "a0");
  await pass(600_000);
  assert.deepEqual(await t.session.token(), { token: "a1", expiresIn: 900 });
  await t.session.signOut();
  const [, err] = await outcome(t.session.token());
  assert.equal(err.permanent, true);
});

test("after a reload under a clock that was set, a token has at most its life", async () => {
  for (const [by, refreshes] of [[0, 0], [-86_400_000, 0], [86_400_000, 1]]) {
    const world = server({ expiresIn: 900 });
    const before = await signedIn(world);
    const right = Date.now;
    const set = mock.method(Date, "now", () => right() + by);
    const after = tab(world, { tab: before.storage });
    const restored = after.session.restore();
    await pass(250);
    assert.equal(await restored, "restored");
    assert.ok((await after.session.ticket()).expiresIn <= 900);
    assert.equal(world.calls("/auth/refresh"), refreshes, String(by));
    set.mock.restore();
  }
});

// ---- Retry-After ----

test("Retry-After is read as seconds and as a date, by the server's clock", async () => {
  for (const [headers, want] of [
    [{ "retry-after": "17" }, 17],
    [{ "retry-after": new Date(Date.now() + 60_000).toUTCString() }, 60],
    [{ "retry-after": "Fri, 02 Jan 2026 13:05:05 GMT", date: "Fri, 02 Jan 2026 13:04:45 GMT" }, 20],
    [{ "retry-after": "Fri, 02 Jan 2026 03:00:00 GMT" }, 0],
    [{ "retry-after": "99999999999999999999" }, 86_400],
    [{ "retry-after": "soon" }, 0],
    [{ "retry-after": "-1" }, 0],
    [{}, 0],
  ]) {
    for (const path of ["/auth/refresh", "/auth/socket-ticket"]) {
      for (const answer of [() => problem(429, "too_many_attempts", headers), () => problem(503, "unavailable", headers), () => html(503, headers)]) {
        const world = server();
        const t = await signedIn(world);
        world.plays = [[path, answer]];
        const set = mock.method(Date, "now", () => Date.parse("2026-01-02T03:04:05Z"));
        const [, err] = await outcome(t.session.ticket({ renew: path === "/auth/refresh" }));
        set.mock.restore();
        assert.ok(err instanceof Problem);
        assert.equal(err.retryAfter, want, `${path} ${JSON.stringify(headers)}`);
        assert.deepEqual(t.ended, []);
      }
    }
  }
});

// ---- one tab a session ----

test("without locks a copied tab finds out, and the first goes on", async () => {
  const world = server();
  const shared = storage();
  const channel = channels();
  const first = await signedIn(world, { shared, channel });
  const copy = storage();
  copy.setItem("parley.session", first.storage.getItem("parley.session"));
  const second = tab(world, { tab: copy, shared, channel });
  assert.deepEqual(await outcome(second.session.restore()), ["done", "copy"]);
  assert.equal(copy.items.size, 0);
  for (let i = 0; i < 3; i++) {
    await first.session.ticket({ renew: true });
    await pass(20_000);
  }
  assert.deepEqual(first.ended, []);
  assert.equal(world.ended, false);
});

test("without locks a reload is not a copy", async () => {
  const world = server();
  const shared = storage();
  const channel = channels();
  const first = await signedIn(world, { shared, channel });
  first.asleep = true; // its page is gone
  const again = tab(world, { tab: first.storage, shared, channel });
  const restored = again.session.restore();
  await settle();
  await pass(250);
  assert.equal(await restored, "restored");
  await again.session.ticket({ renew: true });
  await again.session.signOut();
  assert.equal(shared.items.size, 0, "nothing is left");
});

test("without locks a tab that slept gives way to its copy, and ends nobody's session", async () => {
  const world = server();
  const shared = storage();
  const channel = channels();
  const first = await signedIn(world, { shared, channel });
  const copy = storage();
  copy.setItem("parley.session", first.storage.getItem("parley.session"));
  first.asleep = true;
  const second = tab(world, { tab: copy, shared, channel });
  const restored = second.session.restore();
  await settle();
  await pass(250);
  assert.equal(await restored, "restored");
  await second.session.ticket({ renew: true });
  await pass(60_000);
  first.asleep = false;
  const [state, err] = await outcome(first.session.ticket({ renew: true }));
  assert.equal(state, "failed");
  assert.equal(err.permanent, true);
  assert.deepEqual(first.ended, [{ copy: true }]);
  await second.session.ticket({ renew: true });
  assert.equal(world.ended, false);
});

test("of two copies that wake up at once one gives way", async () => {
  for (let i = 0; i < 16; i++) await twoCopies(); // who gives way is a matter of chance
});

async function twoCopies() {
  const world = server();
  const shared = storage();
  const channel = channels();
  const first = await signedIn(world, { shared, channel });
  first.asleep = true;
  const copies = [1, 2].map(() => {
    const copy = storage();
    copy.setItem("parley.session", first.storage.getItem("parley.session"));
    return tab(world, { tab: copy, shared, channel });
  });
  const restored = Promise.all(copies.map((c) => c.session.restore()));
  await settle();
  await pass(250);
  assert.deepEqual((await restored).sort(), ["copy", "restored"]);
}

test("without locks, channels and storage a session still works", async () => {
  const world = server();
  const t = tab(world, { shared: null });
  await t.session.signIn("ada@example.com", "password");
  assert.equal((await t.session.ticket({ renew: true })).ticket, "t1");
});

test("a lock that a browser forbids makes no copy; one that is held does", async () => {
  const world = server();
  for (const [name, want] of [["SecurityError", "restored"], ["InvalidStateError", "restored"], ["TimeoutError", "copy"], ["AbortError", "copy"]]) {
    const first = await signedIn(world);
    const locks = { request: () => Promise.reject(Object.assign(new Error("no"), { name })) };
    assert.equal(await tab(world, { tab: first.storage, locks }).session.restore(), want, name);
  }
});

test("what is found in the storage is not believed", async () => {
  for (const found of ["{", "null", "7", "[]", '{"refreshToken":"r0"}', '{"refreshToken":"r0","accessToken":"a0","user":{"id":"u1"}}']) {
    const kept = storage();
    kept.setItem("parley.session", found);
    assert.equal(await tab(server(), { tab: kept }).session.restore(), null, found);
  }
});

// ---- devices ----

test("what the server gives a device is sent with the next sign-in to that address", async () => {
  const world = server();
  const shared = storage();
  world.device = "d1";
  await signedIn(world, { shared });
  assert.deepEqual(world.asked.at(-1), ["/auth/signin", { email: "ada@example.com", password: "password" }]);
  world.device = undefined;
  for (const [email, token] of [["ada@example.com", "d1"], [" Ada@Example.com ", "d1"], ["bob@example.com", undefined]]) {
    await outcome(tab(world, { shared }).session.signIn(email, "password"));
    assert.equal(world.asked.at(-1)[1].deviceToken, token, email);
  }
  for (let i = 0; i < 20; i++) {
    world.device = `e${i}`;
    await outcome(tab(world, { shared }).session.signIn(`${i}@example.com`, "password"));
  }
  assert.equal(JSON.parse(shared.getItem("parley.devices")).length, 5);
});

test("calls go to the server that was named", async () => {
  for (const [given, want] of [
    [undefined, "/auth/verify"],
    ["https://chat.test", "https://chat.test/auth/verify"],
    [new URL("http://chat.test:5002/?x#y"), "http://chat.test:5002/auth/verify"],
    ["https://test/chat/", "https://test/chat/auth/verify"],
  ]) {
    const asked = [];
    const session = new Session({ server: given, fetch: async (address) => (asked.push(address), json(200, { message: "ok" })) });
    await session.verify("code");
    assert.deepEqual(asked, [want]);
    assert.equal(session.server + "/auth/verify", want);
  }
  assert.throws(() => new Session({ server: "ftp://chat.test" }), TypeError);
  assert.throws(() => new Session({ server: "chat.test" }), TypeError);
});

test("outside a page nothing is kept, locked or listened to", async (t) => {
  const used = [];
  const theirs = globalThis.BroadcastChannel;
  t.after(() => (globalThis.BroadcastChannel = theirs));
  globalThis.BroadcastChannel = class {
    constructor() {
      used.push("channel");
    }
  };
  const world = server();
  const session = new Session({ fetch: world.fetch });
  assert.equal(await session.restore(), null);
  assert.equal((await session.signIn("ada@example.com", "password")).id, "u1");
  assert.equal((await session.ticket()).ticket, "t1");
  assert.deepEqual(used, []);
});

test("who lets go of a session leaves it to the next", async () => {
  const world = server();
  const channel = channels();
  const first = await signedIn(world, { channel });
  first.session.close();
  first.session.close();
  assert.equal(first.session.user, null);
  await assert.rejects(first.session.ticket(), { code: "session_ended" });
  assert.deepEqual(first.ended, []);
  const next = tab(world, { tab: first.storage, shared: first.shared, channel });
  const restored = outcome.of(next.session.restore());
  await settle();
  await pass(250);
  assert.deepEqual(restored.now, ["done", "restored"]);
  assert.equal((await next.session.ticket()).ticket, "t1");
});

test("a wrong password is not taken for a token that has ended", async () => {
  const world = server();
  const answers = [problem(401, "invalid_credentials"), new Response(null, { status: 204 })];
  const asked = [];
  const t = await signedIn(world, {
    fetch: async (path, init) => {
      if (path !== "/auth/password/change") return world.fetch(path, init);
      asked.push(JSON.parse(init.body));
      return answers.shift();
    },
  });
  await assert.rejects(t.session.changePassword("wrong", "a new pass phrase"), { code: "invalid_credentials", status: 401 });
  await t.session.changePassword("right", "a new pass phrase");
  assert.deepEqual(asked, [{ current: "wrong", password: "a new pass phrase" }, { current: "right", password: "a new pass phrase" }]);
  assert.equal(world.calls("/auth/refresh"), 0);
  assert.deepEqual(t.ended, []);
});

test("what the user has set is read and changed, with the token; what is no settings is none", async () => {
  const world = server();
  const { session } = await signedIn(world);
  const asked = [];
  const plays = (answer) =>
    world.plays.push(["/me/settings", (_, { method, headers, body }) => {
      asked.push([method, headers.authorization, body]);
      return answer;
    }]);
  plays(json(200, { readReceipts: true }));
  assert.deepEqual((await outcome(session.settings()))[1], { readReceipts: true });
  plays(json(200, { readReceipts: false }));
  assert.deepEqual((await outcome(session.changeSettings({ readReceipts: false })))[1], { readReceipts: false });
  assert.deepEqual(asked, [
    ["GET", "Bearer a0", undefined],
    ["PATCH", "Bearer a0", '{"readReceipts":false}'],
  ]);
  for (const [answer, status, code] of [
    [problem(404, "not_found"), 404, "not_found"], // an older server
    [html(200), 200, "network"],
    [json(200, { readReceipts: "no" }), 200, "network"],
    [json(200, {}), 200, "network"],
  ]) {
    plays(answer);
    const [, err] = await outcome(session.settings());
    assert.deepEqual([err.status, err.code], [status, code]);
  }
});

test("the user's rooms come page by page, by GET and with the token; what is no list is none", async () => {
  const world = server();
  const { session } = await signedIn(world);
  const room = { room: "hall", role: "member", seq: 7, rev: 1, read: 5, unread: 2, last: null };
  const asked = [];
  const plays = (path, answer) =>
    world.plays.push([path, (_, { method, headers, body }) => {
      asked.push([path, method, headers.authorization, body]);
      return answer;
    }]);
  plays("/rooms/mine", json(200, { rooms: [room], next: "a&b" }));
  assert.deepEqual((await outcome(session.rooms()))[1], { rooms: [room], next: "a&b" });
  plays("/rooms/mine?cursor=a%26b&limit=10", json(200, { rooms: [] }));
  assert.deepEqual((await outcome(session.rooms({ cursor: "a&b", limit: 10 })))[1], { rooms: [] });
  assert.deepEqual(asked, [
    ["/rooms/mine", "GET", "Bearer a0", undefined],
    ["/rooms/mine?cursor=a%26b&limit=10", "GET", "Bearer a0", undefined],
  ]);
  for (const [answer, status, code] of [
    [problem(404, "not_found"), 404, "not_found"], // an older server
    [html(200), 200, "network"],
    [json(200, { rooms: [{ ...room, unread: -1 }] }), 200, "network"],
    [json(200, { rooms: [{ ...room, room: "" }] }), 200, "network"],
    [json(200, { rooms: [room], next: 7 }), 200, "network"],
  ]) {
    plays("/rooms/mine", answer);
    const [, err] = await outcome(session.rooms());
    assert.deepEqual([err.status, err.code], [status, code]);
  }
  plays("/rooms/mine", problem(401, "token_invalid"));
  plays("/rooms/mine", json(200, { rooms: [room] }));
  assert.deepEqual((await outcome(session.rooms()))[1], { rooms: [room] });
  assert.equal(world.calls("/auth/refresh"), 1, "a token that is refused is renewed");
});
