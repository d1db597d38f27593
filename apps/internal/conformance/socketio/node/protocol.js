"use strict";
// The stock client against the server of this folder's parent, which has no chat: what of Socket.IO the old front ends did
// not use, too.
const assert = require("node:assert/strict");
const { io, Manager } = require("socket.io-client");
const { test, play, soon, argument, Heard } = require("./play.js");

const ways = { polling: { transports: ["polling"] }, websocket: { transports: ["websocket"] }, upgrade: {} };

const upgraded = (socket) => soon("the upgrade", new Promise((resolve) => {
	const { engine } = socket.io;
	if (engine.transport.name === "websocket") resolve();
	else engine.once("upgrade", () => resolve());
}));

for (const [way, options] of Object.entries(ways)) {
	const enter = async (namespace = "", more = {}) => {
		const socket = io(argument.url + namespace, { forceNew: true, reconnection: false, ...options, ...more });
		const heard = new Heard(socket);
		assert.deepEqual((await heard.next())[0], "connect");
		const [name, auth] = await heard.next();
		assert.equal(name, "auth");
		assert.deepEqual(auth, more.auth ?? {});
		return heard;
	};

	test(`${way}: connect, with and without auth`, async () => {
		const plain = await enter();
		assert.ok(!plain.socket.recovered);
		assert.equal(typeof plain.socket.id, "string");
		assert.notEqual(plain.socket.id, plain.socket.io.engine.id);
		await enter("/custom", { auth: { token: "123", nested: [1, { a: null }] } });
	});

	test(`${way}: a namespace that is not there`, async () => {
		const heard = new Heard(io(argument.url + "/random", { forceNew: true, ...options }));
		const [name, error] = await heard.next();
		assert.equal(name, "connect_error");
		assert.equal(error.message, "Invalid namespace");
		assert.equal(error.data, undefined);
		assert.equal(heard.socket.active, false);
	});

	test(`${way}: several namespaces on one connection`, async () => {
		const manager = new Manager(argument.url, { reconnection: false, ...options });
		const main = new Heard(manager.socket("/"));
		const custom = new Heard(manager.socket("/custom"));
		for (const heard of [main, custom]) {
			assert.equal((await heard.next())[0], "connect");
			assert.equal((await heard.next())[0], "auth");
		}
		assert.notEqual(main.socket.id, custom.socket.id);
		custom.socket.emit("message", "to custom");
		assert.deepEqual(await custom.next(), ["message-back", "to custom"]);
		custom.socket.disconnect();
		assert.deepEqual(await custom.next(), ["disconnect", "io client disconnect"]);
		main.socket.emit("message", "to main");
		assert.deepEqual(await main.next(), ["message-back", "to main"]);
		custom.socket.connect();
		assert.equal((await custom.next())[0], "connect");
		assert.equal((await custom.next())[0], "auth");
	});

	test(`${way}: arguments of every kind`, async () => {
		const heard = await enter();
		const all = [1, -2.5e-7, "", "é ☃ 😀 \u2028 \u0000 \"\\", true, null, [], {}, { a: [{ b: [[]] }] }, "x".repeat(100_000)];
		heard.socket.emit("message", ...all);
		assert.deepEqual(await heard.next(), ["message-back", ...all]);
		heard.socket.emit("message");
		assert.deepEqual(await heard.next(), ["message-back"]);
	});

	test(`${way}: acks both ways`, async () => {
		const heard = await enter();
		assert.deepEqual(await soon("the ack", heard.socket.emitWithAck("message-with-ack", { a: [1] })), { a: [1] });
		const many = await soon("the ack", new Promise((resolve) => heard.socket.emit("message-with-ack", 1, "2", null, (...args) => resolve(args))));
		assert.deepEqual(many, [1, "2", null]);
		const timed = await heard.socket.timeout(20_000).emitWithAck("message-with-ack", "in time");
		assert.equal(timed, "in time");
		heard.socket.on("question", (what, answer) => answer("answer to", what, Buffer.from([7])));
		heard.socket.emit("ask-me", "why?");
		assert.equal((await heard.next())[0], "question");
		assert.deepEqual(await heard.next(), ["answered", "answer to", "why?", Buffer.from([7])]);
	});

	test(`${way}: binary`, async () => {
		const heard = await enter();
		const blob = Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * 7) & 255));
		heard.socket.emit("message", Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6]));
		assert.deepEqual(await heard.next(), ["message-back", Buffer.from([1, 2, 3]), Buffer.from([4, 5, 6])]);
		heard.socket.emit("message", { deep: [{ blob, n: 1 }, "text"], empty: Buffer.alloc(0) });
		assert.deepEqual(await heard.next(), ["message-back", { deep: [{ blob, n: 1 }, "text"], empty: Buffer.alloc(0) }]);
		heard.socket.emit("message", Uint8Array.from([9, 8]).buffer, new Uint16Array([513]));
		assert.deepEqual(await heard.next(), ["message-back", Buffer.from([9, 8]), Buffer.from([1, 2])]);
		const back = await soon("the ack", heard.socket.emitWithAck("message-with-ack", { blob }));
		assert.deepEqual(back, { blob });
		heard.socket.emit("message", Buffer.from("a"), "between", Buffer.from("b"));
		heard.socket.emit("message", "after");
		assert.deepEqual(await heard.next(), ["message-back", Buffer.from("a"), "between", Buffer.from("b")]);
		assert.deepEqual(await heard.next(), ["message-back", "after"]);
	});

	test(`${way}: 500 events keep their order, text and binary`, async () => {
		const heard = await enter();
		const what = (i) => (i % 5 === 0 ? Buffer.from(String(i)) : i);
		for (let i = 0; i < 500; i++) {
			heard.socket.emit("message", what(i));
			if (i % 100 === 0) await new Promise(setImmediate);
		}
		for (let i = 0; i < 500; i++) assert.deepEqual(await heard.next(), ["message-back", what(i)]);
	});

	test(`${way}: as much as maxPayload allows, in bodies that the client cuts by it`, async () => {
		const heard = await enter();
		const big = "x".repeat(240_000);
		for (let i = 0; i < 12; i++) heard.socket.emit("message-with-ack", i, big.length, big, () => heard.socket.emit("message", i));
		for (let i = 0; i < 12; i++) assert.deepEqual(await heard.next(), ["message-back", i]);
		const most = "y".repeat(1_000_000 - 60);
		const length = await soon("the ack", new Promise((resolve) => heard.socket.emit("message-with-ack", most, (s) => resolve(s.length))));
		assert.equal(length, most.length);
		heard.socket.emit("message", most + "y".repeat(100));
		const [name, reason] = await heard.next();
		assert.equal(name, "disconnect");
		assert.match(reason, /^transport (close|error)$/);
	});

	test(`${way}: pings keep the connection`, async () => {
		const heard = await enter();
		let pings = 0;
		await soon("four pings", new Promise((resolve) => heard.socket.io.on("ping", () => { if (++pings === 4) resolve(); })));
		heard.socket.emit("message", "still here");
		assert.deepEqual(await heard.next(), ["message-back", "still here"]);
	});

	test(`${way}: volatile and compressed events`, async () => {
		const heard = await enter();
		heard.socket.compress(true).emit("message", "z".repeat(5000));
		assert.deepEqual(await heard.next(), ["message-back", "z".repeat(5000)]);
		// What is volatile may be lost where the client is busy, and comes in order where not.
		for (let i = 0; i < 20; i++) heard.socket.volatile.emit("message", i);
		heard.socket.emit("message", 20);
		for (let last = -1; last < 20;) {
			const [name, i] = await heard.next();
			assert.equal(name, "message-back");
			assert.ok(i > last, `${i} after ${last}`);
			last = i;
		}
	});

	test(`${way}: retries of the client`, async () => {
		const heard = await enter("", { retries: 3, ackTimeout: 20_000 });
		const answers = await soon("the acks", Promise.all([0, 1, 2, 3].map((i) => heard.socket.emitWithAck("message-with-ack", i))));
		assert.deepEqual(answers, [0, 1, 2, 3]);
	});

	test(`${way}: the client leaves`, async () => {
		const heard = await enter();
		heard.socket.disconnect();
		assert.deepEqual(await heard.next(), ["disconnect", "io client disconnect"]);
		heard.socket.connect();
		assert.equal((await heard.next())[0], "connect");
	});
}

test("upgrade: the session moves to WebSocket, and nothing is lost or doubled", async () => {
	for (let round = 0; round < 10; round++) {
		const heard = new Heard(io(argument.url, { forceNew: true, reconnection: false }));
		assert.equal((await heard.next())[0], "connect");
		assert.equal((await heard.next())[0], "auth");
		const done = upgraded(heard.socket);
		let sent = 0;
		let over = false;
		done.finally(() => { over = true; });
		while (!over || sent < 50) {
			heard.socket.emit("message", sent++);
			if (sent % 5 === 0) await new Promise(setImmediate);
		}
		await done;
		assert.equal(heard.socket.io.engine.transport.name, "websocket");
		for (let i = 0; i < sent; i++) assert.deepEqual(await heard.next(), ["message-back", i]);
		heard.socket.disconnect();
	}
});

test("upgrade: remembered, WebSocket first", async () => {
	const heard = new Heard(io(argument.url, { forceNew: true, transports: ["websocket", "polling"] }));
	assert.equal((await heard.next())[0], "connect");
	assert.equal(heard.socket.io.engine.transport.name, "websocket");
});

play();
