"use strict";
// What Go plays: package testkit/nodejs reads what this writes, a line for each thing, and answers what a case asks for.
const { createInterface } = require("node:readline");

const cases = [];
const waiting = [];
const answers = createInterface({ input: process.stdin });
answers.on("line", (line) => waiting.shift()(JSON.parse(line)));

const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");

/** What the Go test gave to the script. */
exports.argument = JSON.parse(process.argv[2]);

/** test adds a case. */
exports.test = (name, run) => cases.push({ name, run });

/** ask lets the Go test do something, and returns what it answers. */
exports.ask = (what, args) => new Promise((resolve) => {
	waiting.push(resolve);
	say({ ask: what, args: args ?? null });
});

/** patience is how long, in milliseconds, to wait for what should take moments. */
const patience = 30_000;

/** soon is a promise that fails if it takes too long. */
const soon = (what, promise) => {
	let late;
	return Promise.race([
		promise,
		new Promise((_, reject) => { late = setTimeout(() => reject(new Error(`waited ${patience} ms in vain for ${what}`)), patience); }),
	]).finally(() => clearTimeout(late));
};
exports.soon = soon;

const open = new Set();

/** offset is the form of an offset: sequence, length and name of each room. */
const offset = /^[0-9a-z]+:[0-9a-z]+:./;

/**
 * Heard is a socket, what it has heard, in order, and what it has been told of itself. Every socket of a case is closed at
 * its end.
 */
exports.Heard = class Heard {
	constructor(socket) {
		this.socket = socket;
		this.events = [];
		this.waiters = [];
		open.add(socket);
		socket.onAny((...event) => this.#push(event));
		for (const own of ["connect", "connect_error", "disconnect"]) socket.on(own, (detail) => this.#push([own, detail]));
	}

	#push(event) {
		// The offset of connection state recovery: the last argument of a message, or all that an event without a name has.
		if (exports.argument.recovery === "on" && offset.test(event.at(-1))) event.pop();
		if (event.length === 1 && event[0] === "") return;
		const waiter = this.waiters.shift();
		if (waiter) waiter(event);
		else this.events.push(event);
	}

	/** next returns the next event with its arguments. Only the names in but are passed over. */
	async next(...but) {
		for (;;) {
			const event = this.events.length > 0
				? this.events.shift()
				: await soon("an event", new Promise((resolve) => this.waiters.push(resolve)));
			if (!but.includes(event[0])) return event;
		}
	}
};

/** play runs the cases, one after the other. */
exports.play = async () => {
	for (const { name, run } of cases) {
		say({ begin: name });
		let error;
		try {
			await run();
		} catch (e) {
			error = e?.stack ?? String(e);
		}
		for (const socket of open) socket.disconnect();
		open.clear();
		say({ end: name, error });
	}
	say({ done: true });
	answers.close();
	process.stdin.destroy();
};
