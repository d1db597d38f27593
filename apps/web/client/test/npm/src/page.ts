// A page of another origin than the server's, which stands in its address: ?server=…&email=…&password=…

import { Parley, Session, words } from "@parley-chat/client";

const asked = new URLSearchParams(location.search);
const log = document.querySelector("ol")!;

function show(text: string): void {
  const line = document.createElement("li");
  line.textContent = text;
  log.append(line);
}

async function main(): Promise<void> {
  try {
    const session = new Session({ server: asked.get("server")! });
    if (!(await session.restore())) await session.signIn(asked.get("email")!, asked.get("password")!);
    const parley = new Parley({ session, storage: sessionStorage });
    parley.addEventListener("message", ({ detail }) => show(`${detail.message.user.name}: ${detail.message.text}`));
    parley.connect();
    await parley.join("page");
    await parley.send("page", "Hello from a bundle");
  } catch (err) {
    show(words(err));
  }
}

void main();
