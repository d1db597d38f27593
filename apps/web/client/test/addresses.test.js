import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

// The page's folder is no package, so that Node would not take its files for modules.
const source = readFileSync(new URL("../../assets/addresses.js", import.meta.url), "utf8");
const { addresses, trimmed } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

test("an address ends where the sentence around it goes on", () => {
  for (const [found, want = found] of [
    ["https://example.com"],
    ["https://example.com/"],
    ["https://example.com.", "https://example.com"],
    ["https://example.com/a?b=c,d;e!f#g"],
    ["https://example.com/a?!…", "https://example.com/a"],
    ["https://example.com/it's"],
    ["https://example.com/a’", "https://example.com/a"],
    ["https://example.com/a_", "https://example.com/a"],
    ["https://example.com/_a_b"],
    ["https://example.com/a**", "https://example.com/a"],
    ["https://example.com/a_(b)"],
    ["https://example.com/a_(b)?c=1.", "https://example.com/a_(b)?c=1"],
    ["https://example.com/a)", "https://example.com/a"],
    ["https://example.com/a).", "https://example.com/a"],
    ["https://example.com/a.)", "https://example.com/a"],
    ["https://example.com/a_(b))", "https://example.com/a_(b)"],
    ["https://example.com/a_(b).)!", "https://example.com/a_(b)"],
    ["https://example.com/a)b"],
    ["https://example.com/a)b)", "https://example.com/a)b"],
    ["https://example.com/(a"],
    ["https://example.com/[a]"],
    ["https://example.com/a]", "https://example.com/a"],
    ["https://example.com/a]).]", "https://example.com/a"],
    ["https://example.com/([a)]"],
    ["https://example.com/(a])", "https://example.com/(a])"],
    ["https://example.com/a}"],
    ["https://example.com/😀.", "https://example.com/😀"],
    ["https://)", "https://"],
    ["...", ""],
    [")", ""],
  ]) {
    assert.equal(trimmed(found), want, found);
  }
});

/** A string that counts how many characters are looked at. An expression for its end may begin anew at each of them. */
function counted(text, seen) {
  const look = (...args) => (seen.characters += text.length ** (args.some((arg) => arg instanceof RegExp) ? 2 : 1));
  return new Proxy(Object(text), {
    get(_, name) {
      if (name === "length") return text.length;
      if (name === "toString") return () => text;
      if (typeof text[name] !== "function") {
        seen.characters++;
        return text[name];
      }
      return (...args) => {
        look(...args);
        const result = text[name](...args);
        return typeof result === "string" ? counted(result, seen) : result;
      };
    },
  });
}

test("an address of nothing but brackets and punctuation takes steps in proportion to its length", () => {
  for (const [run, last = ""] of [[")"], ["]"], [")."], ["])"], ["!"], ["*_"], ["(", "("], ["!", "a"]]) {
    for (const times of [100, 4_000]) {
      const seen = { characters: 0 };
      const address = `https://a${run.repeat(times)}${last}`;
      assert.equal(`${trimmed(counted(address, seen))}`, last ? address : "https://a");
      assert.ok(seen.characters <= 10 * address.length, `${run}${last}: ${seen.characters} characters were looked at in ${address.length}`);
    }
  }
});

test("the addresses in a text", () => {
  for (const [text, ...want] of [
    ["nothing here"],
    ["See https://example.com/a, (http://example.com/b) and “HTTPS://example.com/c”.", "https://example.com/a", "http://example.com/b", "HTTPS://example.com/c"],
    ["<https://example.com>", "https://example.com"],
    ["xhttps://example.com"],
    ["javascript:alert(1) ftp://example.com http:/example.com"],
    ["https://example.com/a\u202egnp.exe", "https://example.com/a"],
    ["https://example.com/\u2066a\u2069", "https://example.com/"],
    ["\u200fhttps://example.com/a\u200f", "https://example.com/a"],
    ["https://example.com/عربي", "https://example.com/عربي"],
  ]) {
    const found = [...addresses(text)];
    assert.deepEqual(found.map(({ address }) => address), want, text);
    for (const { address, index } of found) assert.equal(text.slice(index, index + address.length), address, text);
  }
});
