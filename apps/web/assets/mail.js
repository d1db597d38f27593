// The development mailbox shows new mails by itself.

const EVERY = 2_000;
const DEADLINE = 10_000;
const { newest } = document.getElementById("mailbox").dataset;
const watch = document.getElementById("watch");

for (const time of document.querySelectorAll("time")) {
  time.textContent = new Date(time.dateTime).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

let looking = false;

async function look() {
  if (document.hidden || looking) return;
  looking = true;
  let words = "Waiting for mail";
  try {
    const response = await fetch("/dev/mail.json", { cache: "no-store", signal: AbortSignal.timeout(DEADLINE) });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const [first] = await response.json();
    const now = first ? `${first.id} ${Date.parse(first.at)}` : "";
    if (now !== newest) location.reload();
  } catch {
    words = "The server does not answer";
  } finally {
    looking = false;
  }
  if (watch.textContent !== words) watch.textContent = words;
}

setInterval(look, EVERY);
document.addEventListener("visibilitychange", look);
void look();
