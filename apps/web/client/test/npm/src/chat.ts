// A program for Node: two people talk to each other over a running server.
// usage: node chat.js SERVER

import { Parley, Session, type ChatMessage } from "@parley-chat/client";
import WebSocket from "ws";

const server = process.argv[2]!;
const password = "a first pass phrase";

async function account(fullName: string, email: string): Promise<void> {
  const session = new Session({ server });
  await session.signUp({ fullName, email, password });
  // The development mailbox of the server has the mail a moment later.
  for (;;) {
    const mails = (await (await fetch(`${server}/dev/mail.json`)).json()) as { to: string; text: string }[];
    const code = mails.find((m) => m.to === email)?.text.match(/\/auth\/verify\?code=([^\s&"]+)/)?.[1];
    if (code) return void (await session.verify(code));
    await new Promise((later) => setTimeout(later, 20));
  }
}

/** What somebody is told, one after the other. */
function inbox(parley: Parley): () => Promise<ChatMessage> {
  const come: ChatMessage[] = [];
  const wanted: ((message: ChatMessage) => void)[] = [];
  parley.addEventListener("message", ({ detail }) => {
    const next = wanted.shift();
    if (next) next(detail.message);
    else come.push(detail.message);
  });
  return () => {
    const message = come.shift();
    return message ? Promise.resolve(message) : new Promise((resolve) => wanted.push(resolve));
  };
}

async function main(): Promise<void> {
  const email = "ada@example.com";
  await account("Ada Lovelace", email);
  await account("Grace Hopper", "grace@example.com");

  const other = new Session({ server });
  await other.signIn("grace@example.com", password);
  const grace = new Parley({ session: other, WebSocket });
  const told = inbox(grace);
  grace.connect();
  await grace.join("hall");

  // The example of the README begins here.
  const session = new Session({ server });
  await session.signIn(email, password);
  const parley = new Parley({ session, WebSocket });
  parley.addEventListener("message", ({ detail }) => console.log(detail.message.user.name, detail.message.text));
  parley.connect();
  await parley.join("hall");
  await parley.send("hall", "Good morning");
  // It ends here.

  const heard = await told();
  console.log(`grace is told ${heard.seq} ${heard.user.name}: ${heard.text}`);
  const answered = new Promise<void>((resolve) => parley.addEventListener("message", ({ detail }) => detail.message.text === "And to you" && resolve()));
  const ack = await grace.send("hall", "And to you", { clientId: "once" });
  const again = await grace.send("hall", "And to you", { clientId: "once" });
  console.log(`stored once: ${ack.seq === again.seq && ack.id === again.id}`);
  await answered;
  console.log((await parley.presence("hall")).count, "are there");

  const fresh = await session.token();
  console.log(`a token for ${fresh.expiresIn > 0 && fresh.token.split(".").length === 3}`);
  parley.close();
  grace.close();
  await session.signOut();
  await other.signOut({ everywhere: true });
  console.log(session.user, other.user);
}

await main();
