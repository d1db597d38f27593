"use strict";
// A front end of the old kind: sign in over REST, the token in the query of Socket.IO, one event for each room.

const server = new URLSearchParams(location.search).get("server") ?? "http://localhost:5002";
const $ = (id) => document.getElementById(id);

const rooms = new Map(); // by name: what was heard in it, and its button
let open; // the name of the room that is shown
let socket;
let user;

$("sign-in").addEventListener("submit", async (submit) => {
	submit.preventDefault();
	$("problem").textContent = "";
	try {
		const answer = await fetch(server + "/auth/signin", {
			method: "POST",
			headers: { "Content-Type": "application/json" },
			body: JSON.stringify({ email: $("email").value, password: $("password").value }),
		});
		const body = await answer.json();
		if (!answer.ok) throw new Error(body.detail || body.title);
		user = body.user;
		connect(body.accessToken);
	} catch (error) {
		$("problem").textContent = error.message;
	}
});

function connect(token) {
	socket = io(server, { query: { authorization: `bearer ${token}` } });
	socket.on("connect", () => {
		status(`${user.fullName}, connected`);
		$("sign-in").hidden = true;
		$("chat").hidden = $("sign-out").hidden = false;
		for (const [name, room] of rooms) { // after a loss the last messages come again
			room.heard = [];
			socket.emit("join_room", { name, userId: user.id });
		}
		show();
	});
	socket.on("disconnect", (reason) => {
		status(socket.active ? "Connection lost, trying again…" : `Disconnected: ${reason}`);
		show();
		if (!socket.active) signedOut();
	});
	socket.on("connect_error", (error) => {
		if (socket.active) return; // it tries again by itself
		$("problem").textContent = error.message;
		signedOut();
	});
}

function status(text) {
	$("status").textContent = text;
}

function signedOut() {
	$("sign-in").hidden = false;
	$("chat").hidden = $("sign-out").hidden = true;
	rooms.clear();
	$("rooms").replaceChildren();
	open = undefined;
}

$("sign-out").addEventListener("click", () => {
	socket.disconnect();
	signedOut();
	status("Signed out");
});

$("join").addEventListener("submit", (submit) => {
	submit.preventDefault();
	const name = $("room-name").value.trim().normalize("NFC");
	$("room-name").value = "";
	if (!name) return;
	if (!rooms.has(name)) join(name);
	enter(name);
});

function join(name) {
	const button = document.createElement("button");
	button.type = "button";
	button.textContent = name;
	button.addEventListener("click", () => enter(name));
	const item = document.createElement("li");
	item.append(button);
	$("rooms").append(item);
	const room = { heard: [], button, typing: "" };
	rooms.set(name, room);

	socket.on(name, (message) => {
		room.heard.push(message);
		room.typing = "";
		if (name !== open) button.classList.add("news");
		show();
	});
	let quiet;
	socket.on(`${name}-typing`, (notice) => {
		room.typing = notice.message;
		clearTimeout(quiet);
		quiet = setTimeout(() => { room.typing = ""; show(); }, 4000);
		show();
	});
	socket.emit("join_room", { name, userId: user.id });
}

function enter(name) {
	open = name;
	rooms.get(name).button.classList.remove("news");
	show();
	$("text").focus();
}

/** show draws the room that is open. */
function show() {
	const room = rooms.get(open);
	for (const [name, { button }] of rooms) button.setAttribute("aria-current", String(name === open));
	$("log").replaceChildren(...(room?.heard ?? []).map(line));
	$("log").lastElementChild?.scrollIntoView();
	$("typing").textContent = room?.typing ?? "";
	for (const control of $("composer").elements) control.disabled = !room || !socket.connected;
}

addEventListener("resize", show); // the last message stays in sight

function line({ message, user: name, type, created_at: at }) {
	const item = document.createElement("li");
	if (type) {
		item.className = "system";
		item.textContent = message;
		return item;
	}
	const who = document.createElement("b");
	who.textContent = name;
	const text = document.createElement("span");
	text.textContent = message;
	const when = document.createElement("time");
	when.dateTime = at;
	when.textContent = new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
	item.append(who, text, when);
	return item;
}

$("composer").addEventListener("submit", (submit) => {
	submit.preventDefault();
	const message = $("text").value.trim();
	$("text").value = "";
	if (message) socket.emit("message", { roomName: open, message });
});

$("text").addEventListener("input", () => socket.emit("isTyping", { roomName: open }));
