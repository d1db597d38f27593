import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

// The page's folder is no package, so that Node would not take its files for modules.
const source = readFileSync(new URL("../../assets/places.js", import.meta.url), "utf8");
const { addressOf, roomAt } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

const at = (address) => roomAt(new URL(address, "http://chat.test"));

test("the address of a room leads to it", () => {
  for (const room of [
    "lobby", "a/b", "/", "//", "a//b", "a/", ".", "..", "...", "../socket", "a/../../../b", "a/.", "./a", ".a", "%", "%2F", "%2E%2E", "100%", "a%b",
    "a?b", "a#b", "a&room=b", "a+b", "a b;c", "a\\b", "..\\b", "r", "r/r", "?room=x", "<b>", "😀".repeat(100), "👩‍🚒", "Straße 7", "é", "مساء",
  ]) {
    const address = new URL(addressOf(room), "http://chat.test");
    assert.equal(address.host, "chat.test", room);
    assert.match(address.pathname, /^\/r\//u, room);
    assert.equal(address.hash, "", room);
    assert.equal(roomAt(address), room, address.href);
    // Nothing that takes the address apart finds a folder in it.
    assert.ok(!decodeURIComponent(address.pathname).split("/").some((part) => part === "." || part === ".."), address.href);
  }
});

test("an address may be written by hand", () => {
  for (const [address, room] of [
    ["/r/garden", "garden"],
    ["/r/a/b", "a/b"],
    ["/r/Straße 7", "Straße 7"],
    ["/r/e%CC%81", "é"],
    ["/r/garden#sign-up", "garden"],
    ["/r/garden?room=cellar", "garden"],
    ["/r/?room=garden", "garden"],
    ["/r/?room=tea+time", "tea time"],
  ]) {
    assert.equal(at(address), room, address);
  }
});

test("other addresses lead to no room", () => {
  for (const address of ["/", "/r", "/r/", "/r/?room=", "/r/?name=a", "/rooms/a", "/dev/mail", "/r/%FF", "/r/%", "/r/.", "/r/.."]) {
    assert.equal(at(address), null, address);
  }
});
