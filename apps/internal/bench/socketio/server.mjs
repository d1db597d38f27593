// The npm server of Socket.IO, doing what the load generator asks for: rooms, the last ten messages, acks. It verifies no
// token, checks no payload and stores nothing. See beside.go for what it is asked.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, { transports: ["websocket"] });
// What the documentation of Socket.IO recommends for less memory: the handshake is not kept.
io.engine.on("connection", (raw) => { raw.request = null; });

const announceUpTo = 200; // members of a room in which a welcome is sent, as in Parley
const last = new Map(); // the last messages of each room

io.on("connection", (socket) => {
  const user = "Bench", userId = socket.id;
  socket.on("join_room", ({ name }, ack) => {
    socket.join(name);
    for (const m of last.get(name) ?? []) socket.emit(name, m);
    if (io.sockets.adapter.rooms.get(name).size <= announceUpTo) {
      socket.to(name).emit(name, { message: `${user} Joined the room!`, user: "system", type: "welcome" });
    }
    ack?.({ room: name });
  });
  socket.on("message", ({ roomName, message }, ack) => {
    const m = { message, user, userId, created_at: new Date().toISOString() };
    const kept = last.get(roomName) ?? [];
    last.set(roomName, [...kept.slice(-9), m]);
    io.to(roomName).emit(roomName, m);
    ack?.({ room: roomName });
  });
});

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

http.listen(0, "127.0.0.1", () => console.log(`127.0.0.1:${http.address().port}`));
for await (const line of createInterface({ input: process.stdin })) {
  if (line === "cpu") {
    const { user, system } = process.cpuUsage();
    console.log(user + system);
  } else if (line === "memory") {
    for (let i = 0; i < 3; i++) {
      globalThis.gc?.();
      await pause(200);
    }
    console.log(process.memoryUsage().rss);
  }
}
process.exit(0);
