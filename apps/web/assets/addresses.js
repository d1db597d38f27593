// The addresses in a text, which becomes links: app.js shows them.

/** An address without what belongs to the sentence around it: punctuation, and the end of a bracket that was opened before. */
export function trimmed(address) {
  const count = (bracket) => address.split(bracket).length;
  const spare = { ")": count(")") - count("("), "]": count("]") - count("[") };
  let end = address.length;
  while (end > 0 && (".,:;!?'’…*_".includes(address[end - 1]) || spare[address[end - 1]]-- > 0)) end--;
  return address.slice(0, end);
}

/**
 * The addresses in a text, each with the index where it begins. Characters that turn the direction of writing end one: with them
 * it would not look like what it leads to.
 */
export function* addresses(text) {
  for (const { 0: found, index } of text.matchAll(/\bhttps?:[/]{2}[^\s<>"“”\p{Bidi_Control}]+/giu)) {
    const address = trimmed(found);
    if (URL.canParse?.(address) !== false) yield { address, index };
  }
}
