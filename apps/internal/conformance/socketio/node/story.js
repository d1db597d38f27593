"use strict";
// The stock client against the program: what the old front ends do, and what they must not do, over each way to be connected.
const assert = require("node:assert/strict");
const { io } = require("socket.io-client");
const { test, ask, play, soon, argument, Heard } = require("./play.js");

const ways = { polling: { transports: ["polling"] }, websocket: { transports: ["websocket"] }, upgrade: {} };

const numbers = (n, from = 0) => Array.from({ length: n }, (_, i) => i + from);

/** welcome is what the others in a room hear of who comes. */
const welcome = (name) => ({ message: `${name} Joined the room!`, user: "system", type: "welcome" });
const typing = (name) => ({ message: `${name} is typing!`, user: "system", type: "typing" });

for (const [way, options] of Object.entries(ways)) {
	const dial = (more) => new Heard(io(argument.url, { forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 200, ...options, ...more }));

	/** enter connects somebody with the token in the query, as the old front ends do. */
	const enter = async (user, more) => {
		const heard = dial({ query: { authorization: `bearer ${user.token}` }, ...more });
		const [name, error] = await heard.next();
		assert.equal(name, "connect", String(error));
		return heard;
	};

	const hears = async (heard, event, want) => {
		const [name, got, ...more] = await heard.next();
		assert.deepEqual([name, more], [event, []], JSON.stringify(got));
		assert.deepEqual(got, want);
	};

	/** said wants a message in a room. */
	const said = async (heard, room, user, message) => {
		const [name, got, ...more] = await heard.next();
		assert.deepEqual([name, more], [room, []], JSON.stringify(got));
		const { created_at: at, ...rest } = got;
		assert.deepEqual(rest, { message, user: user.name, userId: user.id });
		assert.match(at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
		assert.ok(Math.abs(Date.parse(at) - Date.now()) < 600_000, at);
	};

	/** cut wants the end by the server, after which the client does not come back by itself. */
	const cut = async (heard) => {
		assert.deepEqual(await heard.next(), ["disconnect", "io server disconnect"]);
		assert.equal(heard.socket.active, false);
	};

	test(`${way}: who somebody is`, async () => {
		const ada = await ask("member", "Ada");
		const ways = {
			"the query": { query: { authorization: `bearer ${ada.token}` } },
			"the query in odd letters": { query: { authorization: `BeArEr ${ada.token}` } },
			"the header": { extraHeaders: { Authorization: `Bearer ${ada.token}` } },
			"the header in odd letters": { extraHeaders: { authorization: `bEARER ${ada.token}` } },
			"auth": { auth: { token: `BEARER ${ada.token}` } },
			"auth, by a function": { auth: (give) => give({ token: `bearer ${ada.token}` }) },
		};
		for (const [name, more] of Object.entries(ways)) {
			const heard = dial(more);
			assert.equal((await heard.next())[0], "connect", name);
			heard.socket.disconnect();
		}
	});

	test(`${way}: who is refused`, async () => {
		const ada = await ask("member", "Ada");
		const refused = {
			"nobody": [{}, "no_credentials"],
			"a token that is changed": [{ query: { authorization: `bearer ${ada.token}x` } }, "token_invalid"],
			"no token": [{ auth: { token: "bearer" } }, undefined],
			"another scheme": [{ auth: { token: `basic ${ada.token}` } }, undefined],
		};
		for (const [name, [more, code]] of Object.entries(refused)) {
			const heard = dial(more);
			const [event, error] = await heard.next();
			assert.equal(event, "connect_error", name);
			assert.ok(error instanceof Error && error.message.length > 0, name);
			assert.equal(typeof error.data?.code, "string", name);
			if (code) assert.equal(error.data.code, code, name);
			assert.equal(heard.socket.active, false, name);

			// With a token the same socket gets in.
			heard.socket.auth = { token: `bearer ${ada.token}` };
			heard.socket.connect();
			assert.equal((await heard.next())[0], "connect", name);
		}
		const elsewhere = new Heard(io(argument.url + "/elsewhere", { forceNew: true, ...options }));
		const [event, error] = await elsewhere.next();
		assert.deepEqual([event, error.message], ["connect_error", "Invalid namespace"]);
	});

	test(`${way}: the old story`, async () => {
		const [ada, bob, cyd] = [await ask("member", "Ada"), await ask("member", "Bob"), await ask("member", "Cyd")];
		const [hall, yard] = [`hall by ${way} ${ada.id}`, `Straße by ${way} ${ada.id}`];
		const a = await enter(ada);
		a.socket.emit("join_room", { name: hall, userId: "somebody else" });
		a.socket.emit("join_room", { name: yard, userId: ada.id });
		for (const i of numbers(12)) a.socket.emit("message", { roomName: hall, message: `old ${i}` });
		for (const i of numbers(12)) await said(a, hall, ada, `old ${i}`);

		// Two rooms, with the last ten of one.
		const b = await enter(bob);
		b.socket.emit("join_room", { name: hall, userId: ada.id });
		for (const i of numbers(10, 2)) await said(b, hall, ada, `old ${i}`);
		await hears(a, hall, welcome("Bob"));
		b.socket.emit("join_room", { name: yard });
		await hears(a, yard, welcome("Bob"));
		b.socket.emit("message", { roomName: yard, message: "in the other room" });
		for (const heard of [a, b]) await said(heard, yard, bob, "in the other room");
		a.socket.emit("message", { roomName: hall, message: "é ☃ 😀 <b>\"\\\u2028" });
		for (const heard of [a, b]) await said(heard, hall, ada, "é ☃ 😀 <b>\"\\\u2028");

		// Typing is for the others.
		b.socket.emit("isTyping", { roomName: hall });
		await hears(a, `${hall}-typing`, typing("Bob"));
		b.socket.emit("isTyping", { roomName: yard });
		await hears(a, `${yard}-typing`, typing("Bob"));

		// What is said to a room that was not joined is not delivered.
		const c = await enter(cyd);
		c.socket.emit("message", { roomName: hall, message: "from outside" });
		const answer = await soon("the ack", c.socket.emitWithAck("message", { roomName: hall, message: "from outside" }));
		assert.equal(answer.error.code, "not_joined");
		c.socket.emit("isTyping", { roomName: hall });
		c.socket.emit("join_room", { name: hall });
		for (const i of numbers(9, 3)) await said(c, hall, ada, `old ${i}`);
		await said(c, hall, ada, "é ☃ 😀 <b>\"\\\u2028");
		for (const heard of [a, b]) await hears(heard, hall, welcome("Cyd"));

		// The health check ends the connection.
		c.socket.emit("healthCheck", {});
		assert.deepEqual(await c.next(), ["healthCheck", { message: "OK" }]);
		await cut(c);
		a.socket.emit("message", { roomName: hall, message: "still here" });
		for (const heard of [a, b]) await said(heard, hall, ada, "still here");
	});

	test(`${way}: what breaks the rules`, async () => {
		const [ada, bob] = [await ask("member", "Ada"), await ask("member", "Bob")];
		const room = `rules by ${way} ${ada.id}`;
		const b = await enter(bob);
		b.socket.emit("join_room", { name: room });
		const wrong = [
			["nonsense", {}], ["nonsense"], ["join_room"], ["join_room", {}], ["join_room", { name: "" }], ["join_room", { name: 7 }], ["join_room", room],
			["join_room", { name: room, more: 1 }], ["join_room", { name: "x".repeat(101) }], ["message", { roomName: room }], ["message", { message: "x" }],
			["message", { roomName: room, message: "" }], ["message", { roomName: room, message: { text: "x" } }], ["message", { roomName: room, message: "x".repeat(4001) }],
			["message", room, "x"], ["isTyping"], ["isTyping", { room }], ["healthCheck", { x: 1 }], ["leave_room", { name: room }],
			["message", Buffer.from("bytes")], ["message", { roomName: room, message: Buffer.from("bytes") }],
		];
		for (const [i, event] of wrong.entries()) {
			const a = await enter(ada);
			a.socket.emit(...event);
			try {
				await cut(a);
			} catch (e) {
				throw new Error(`case ${i}, ${JSON.stringify(event)}: ${e.message}`);
			}
		}
		b.socket.emit("message", { roomName: room, message: "undisturbed" });
		await said(b, room, bob, "undisturbed");
	});

	test(`${way}: acks`, async () => {
		const ada = await ask("member", "Ada");
		const room = `acks by ${way} ${ada.id}`;
		const a = await enter(ada);
		const tell = (event, data) => soon(`the ack of ${event}`, a.socket.emitWithAck(event, data));
		assert.deepEqual(await tell("join_room", { name: room }), { room, seq: 0, rev: 0, read: 0, recovered: true, messages: [] });
		const { id, at, ...rest } = await tell("message", { roomName: room, message: "one", clientId: "c1" });
		assert.deepEqual(rest, { room, seq: 1 });
		assert.ok(id.length > 0 && !Number.isNaN(Date.parse(at)));
		await said(a, room, ada, "one");
		assert.equal((await tell("message", { roomName: room, message: "one", clientId: "c1" })).id, id);
		assert.equal((await tell("message", { roomName: room, message: "two" })).seq, 2);
		await said(a, room, ada, "two");
		assert.deepEqual(await tell("isTyping", { roomName: room }), {});
		const timed = await a.socket.timeout(30_000).emitWithAck("message", { roomName: room, message: "three" });
		assert.equal(timed.seq, 3);
		await said(a, room, ada, "three");
		const late = await enter(ada);
		const joined = await soon("the ack", late.socket.emitWithAck("join_room", { name: room, since: 1 }));
		assert.equal(joined.seq, 3);
		await said(late, room, ada, "two");
		await said(late, room, ada, "three");
	});

	test(`${way}: with somebody who speaks parley.v1`, async () => {
		const [ada, eve] = [await ask("member", "Ada"), await ask("member", "Eve")];
		const room = `both by ${way} ${ada.id}`;
		const a = await enter(ada);
		await soon("the ack", a.socket.emitWithAck("join_room", { name: room })); // before the other comes
		await ask("native", { token: eve.token, room });
		await hears(a, room, welcome("Eve"));
		for (const i of numbers(5)) {
			await ask("native says", `native ${i}`);
			await said(a, room, eve, `native ${i}`);
			a.socket.emit("message", { roomName: room, message: `socket.io ${i}` });
			await said(a, room, ada, `socket.io ${i}`);
		}
		assert.deepEqual(await ask("native heard", 10), numbers(5).flatMap((i) => [["Eve", eve.id, `native ${i}`], ["Ada", ada.id, `socket.io ${i}`]]));
		assert.equal(await ask("native marks"), 10); // the stock client is told nothing: what it hears next is typing
		await ask("native types");
		await hears(a, `${room}-typing`, typing("Eve"));
		a.socket.emit("isTyping", { roomName: room });
		assert.equal(await ask("native sees typing"), ada.id);
	});

	test(`${way}: the session ends`, async () => {
		const zoe = await ask("member", `Zoe by ${way}`); // nobody else's sessions
		const a = await enter(zoe);
		await ask("sign out", zoe.token);
		await cut(a);
		a.socket.connect();
		const [name, error] = await a.next();
		assert.deepEqual([name, error.data.code], ["connect_error", "session_ended"]);
	});

	for (const [end, told] of [["kill", "is killed"], ["stop", "ends in order"]]) test(`${way}: the server ${told} and comes back`, async () => {
		const [ada, bob] = [await ask("member", "Ada"), await ask("member", "Bob")];
		const room = `${end} by ${way} ${ada.id}`;
		const both = [];
		for (const user of [ada, bob]) {
			const heard = dial({ query: { authorization: `bearer ${user.token}` } });
			heard.socket.on("connect", () => heard.socket.emit("join_room", { name: room, userId: user.id })); // as the old front ends do
			assert.equal((await heard.next())[0], "connect");
			// Joined when the ack is here: one that joins twice is in it once.
			await soon("the ack", heard.socket.emitWithAck("join_room", { name: room }));
			both.push(heard);
		}
		const [a, b] = both;
		await hears(a, room, welcome("Bob"));
		for (const i of numbers(5)) {
			const answer = await soon("the ack", a.socket.emitWithAck("message", { roomName: room, message: `before ${i}` }));
			assert.equal(answer.seq, i + 1);
			for (const heard of both) await said(heard, room, ada, `before ${i}`);
		}
		await ask(end);
		for (const heard of both) {
			const [name, reason] = await heard.next();
			assert.equal(name, "disconnect");
			assert.match(reason, /^transport (close|error)$/);
			assert.equal(heard.socket.active, true); // it comes back by itself
		}
		const away = soon("the ack of what was said while away", a.socket.emitWithAck("message", { roomName: room, message: "while away" }));
		await ask("start");
		for (const heard of both) {
			assert.equal((await heard.next("connect_error"))[0], "connect");
			assert.equal(Boolean(heard.socket.recovered), argument.recovery === "on");
			if (heard.socket.recovered) continue;
			for (const i of numbers(5)) { // whoever is first hears of the other, too
				let [name, got] = await heard.next();
				if (got.type === "welcome") [name, got] = await heard.next();
				assert.deepEqual([name, got.message, got.userId], [room, `before ${i}`, ada.id]);
			}
		}
		if (argument.recovery === "on") {
			// Who is recovered is in the room, so that what was emitted meanwhile is delivered. Its handler joins again all the same.
			assert.equal((await away).seq, 6);
			for (const heard of both) await soon("the ack", heard.socket.emitWithAck("isTyping", { roomName: room }));
			assert.equal((await soon("the ack", b.socket.emitWithAck("message", { roomName: room, message: "after" }))).seq, 7);
			for (const heard of both) {
				const all = [];
				while (all.at(-1) !== "after") {
					const [, got] = await heard.next(`${room}-typing`);
					if (got.type !== "welcome") all.push(got.message);
				}
				assert.deepEqual([...new Set(all)].sort(), ["after", ...numbers(5).map((i) => `before ${i}`), "while away"]);
			}
			return;
		}
		// What was emitted meanwhile is sent before the handler of connect joins again.
		assert.equal((await away).error.code, "not_joined");
		for (const heard of both) await soon("the ack", heard.socket.emitWithAck("isTyping", { roomName: room }));
		assert.equal((await soon("the ack", b.socket.emitWithAck("message", { roomName: room, message: "after" }))).seq, 6);
		for (const heard of both) {
			let event;
			do { event = await heard.next(`${room}-typing`); } while (event[1].type === "welcome");
			assert.deepEqual([event[0], event[1].message, event[1].userId], [room, "after", bob.id]);
		}
	});

	if (argument.recovery === "on") {
		test(`${way}: a client that comes back has missed nothing`, async () => {
			const [ada, bob] = [await ask("member", "Ada"), await ask("member", "Bob")];
			const room = `recovery by ${way} ${ada.id}`;
			const [a, b] = [await enter(ada), await enter(bob)];
			for (const heard of [b, a]) await soon("the ack", heard.socket.emitWithAck("join_room", { name: room }));
			assert.equal(a.socket.recovered, false);
			const { id } = a.socket;
			const say = (message) => soon("the ack", b.socket.emitWithAck("message", { roomName: room, message }));
			await say("before");
			await said(a, room, bob, "before");
			a.socket.io.reconnection(false);
			a.socket.io.engine.close();
			assert.equal((await a.next())[0], "disconnect");
			for (const i of numbers(150)) await say(`missed ${i}`);
			a.socket.connect();
			assert.equal((await a.next())[0], "connect");
			assert.equal(a.socket.recovered, true);
			assert.equal(a.socket.id, id);
			for (const i of numbers(150)) await said(a, room, bob, `missed ${i}`);
			await say("after");
			await said(a, room, bob, "after");
		});
	}
}

test("upgrade: a room is heard whole while the session moves", async () => {
	const [ada, bob] = [await ask("member", "Ada"), await ask("member", "Bob")];
	for (const round of numbers(3)) {
		const room = `moving ${round} ${ada.id}`;
		const b = new Heard(io(argument.url, { forceNew: true, transports: ["websocket"], auth: { token: `bearer ${bob.token}` } }));
		assert.equal((await b.next())[0], "connect");
		await soon("the ack", b.socket.emitWithAck("join_room", { name: room }));
		const a = new Heard(io(argument.url, { forceNew: true, query: { authorization: `bearer ${ada.token}` } }));
		const { engine } = a.socket.io;
		assert.equal(engine.transport.name, "polling");
		const moved = soon("the upgrade", new Promise((resolve) => engine.once("upgrade", resolve)));
		assert.equal((await a.next())[0], "connect");
		a.socket.emit("join_room", { name: room });
		assert.deepEqual((await b.next())[1], welcome("Ada"));
		for (const i of numbers(60)) {
			for (const [heard, name] of [[a, "a"], [b, "b"]]) heard.socket.emit("message", { roomName: room, message: `${name} ${i}` });
			if (i % 4 === 0) await new Promise(setImmediate);
		}
		await moved;
		assert.equal(engine.transport.name, "websocket");
		const heard = [];
		for (const member of [a, b]) {
			const all = [];
			while (all.length < 120) all.push((await member.next())[1].message);
			for (const name of ["a", "b"]) assert.deepEqual(all.filter((m) => m.startsWith(name)), numbers(60).map((i) => `${name} ${i}`));
			heard.push(all);
		}
		assert.deepEqual(heard[0], heard[1]);
		a.socket.disconnect();
		b.socket.disconnect();
	}
});

play();
