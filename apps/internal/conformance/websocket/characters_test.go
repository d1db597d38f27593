package websocket

import (
	"fmt"
	"strings"

	"github.com/parley-chat/parley/testkit/wsraw"
)

// scheme encodes a number by the scheme that UTF-8 was before RFC 3629 forbade parts of it: in size bytes, be that too many, and beyond
// what Unicode has.
func scheme(number uint32, size int) string {
	if size == 1 {
		return string([]byte{byte(number)})
	}
	b := make([]byte, size)
	for i := size - 1; i > 0; i-- {
		b[i] = 0x80 | byte(number&0x3f)
		number >>= 6
	}
	b[0] = byte(0xff<<(8-size)) | byte(number)
	return string(b)
}

// most is the greatest number that the scheme encodes in size bytes.
func most(size int) uint32 {
	if size == 1 {
		return 0x7f
	}
	return 1<<(5*size+1) - 1
}

// characters is RFC 6455 section 8.1: a text that is not UTF-8 (RFC 3629) fails the connection with 1007, where it happens.
func characters() []testCase {
	word := "κ\u1f79σμε"              // characters of two bytes, and one of three
	bad := "Wort\xf4\x90\x80\x80Ende" // beyond U+10FFFF, which the second byte tells
	at := strings.Index(bad, "\x90")
	mixed := "plain, übergroß, ελληνικά, 漢字"
	whole := func(payload string, ok bool) testCase {
		tc := testCase{about: fmt.Sprintf("% x is UTF-8: %t", payload, ok), steps: []step{sends(text(payload)), ends(1007)}}
		if ok {
			tc.steps = []step{sends(text(payload)), gets(text(payload)), leaves}
		}
		return tc
	}
	all := numbered("6.1",
		testCase{about: "an empty text", steps: []step{sends(text("")), gets(text("")), leaves}},
		testCase{about: "three empty fragments", steps: []step{sends(first(wsraw.OpText, ""), next(""), last("")), gets(text("")), leaves}},
		testCase{about: "an empty fragment before and after the text", steps: []step{sends(first(wsraw.OpText, ""), next("between"), last("")), gets(text("between")), leaves}},
	)
	cut := strings.Index(mixed, "ß") + len("ß")
	all = append(all, numbered("6.2",
		testCase{about: "characters of one, two and three bytes", steps: []step{sends(text(mixed)), gets(text(mixed)), leaves}},
		testCase{about: "two fragments, cut between characters", steps: []step{sends(first(wsraw.OpText, mixed[:cut]), last(mixed[cut:])), gets(text(mixed)), leaves}},
		testCase{about: "fragments of one byte", steps: []step{sends(fragments(wsraw.OpText, mixed, 1)...), gets(text(mixed)), leaves}},
		testCase{about: "fragments of one byte, Greek", steps: []step{sends(fragments(wsraw.OpText, word, 1)...), gets(text(word)), leaves}},
	)...)
	surrogate := "Wort\xed\xa0\x80Ende"
	all = append(all, numbered("6.3",
		testCase{about: "a surrogate in a text", steps: []step{sends(text(surrogate)), ends(1007)}},
		testCase{about: "a surrogate, in fragments of one byte", steps: []step{sends(fragments(wsraw.OpText, surrogate, 1)...), ends(1007)}},
	)...)
	// The rest of the text is never sent: whoever waits for it, waits for ever.
	all = append(all, numbered("6.4",
		testCase{about: "a fragment with a character beyond Unicode, the last not sent", steps: []step{
			sends(first(wsraw.OpText, bad[:at-1])), sends(next(bad[at-1 : at+3])), ends(1007),
		}},
		testCase{about: "a fragment with the byte that makes it wrong, the last not sent", steps: []step{
			sends(first(wsraw.OpText, bad[:at])), sends(next(bad[at : at+1])), ends(1007),
		}},
		testCase{about: "the beginning of a frame with a character beyond Unicode", steps: []step{sendsBeginning(text(bad), len(bad)-at-3), ends(1007)}},
		testCase{about: "the beginning of a frame up to the byte that makes it wrong", steps: []step{sendsBeginning(text(bad), len(bad)-at-1), ends(1007)}},
	)...)

	type sample struct {
		payload string
		ok      bool
	}
	var groups [][]sample
	group := func(ok bool, payloads ...string) []sample {
		var g []sample
		for _, p := range payloads {
			g = append(g, sample{p, ok})
		}
		return g
	}
	add := func(parts ...[]sample) {
		var g []sample
		for _, p := range parts {
			g = append(g, p...)
		}
		groups = append(groups, g)
	}
	sizes := func(from, to int, encode func(size int) string) (payloads []string) {
		for size := from; size <= to; size++ {
			payloads = append(payloads, encode(size))
		}
		return payloads
	}
	firstOf := func(size int) string {
		if size == 1 {
			return scheme(0, 1)
		}
		return scheme(most(size-1)+1, size)
	}
	lastOf := func(size int) string { return scheme(most(size), size) }
	withoutLast := func(s string) string { return s[:len(s)-1] }

	// 6.5: one character of each length within a text, and a word.
	add(group(true, "a$b", "a¢b", "a€b", "a\U00024b62b", word))
	// 6.6: every beginning of a word. It is UTF-8 where it ends between characters.
	var beginnings []sample
	between := map[int]bool{len(word): true}
	for i := range word {
		between[i] = true
	}
	for n := 1; n <= len(word); n++ {
		beginnings = append(beginnings, sample{word[:n], between[n]})
	}
	add(beginnings)
	// 6.7, 6.8: the first character of each length, those of five and six bytes were abolished.
	add(group(true, sizes(1, 4, firstOf)...))
	add(group(false, sizes(5, 6, firstOf)...))
	// 6.9, 6.10: the last character of each length; of four bytes the last is U+10FFFF.
	add(group(true, append(sizes(1, 3, lastOf), scheme(0x10ffff, 4))...))
	add(group(false, sizes(4, 6, lastOf)...))
	// 6.11: around the surrogates, the replacement character, and the end of Unicode.
	add(group(true, scheme(0xd7ff, 3), scheme(0xe000, 3), scheme(0xfffd, 3), scheme(0x10ffff, 4)), group(false, scheme(0x110000, 4)))
	// 6.12: continuation bytes that continue nothing: the first, the last, two to six of them, all of them.
	stray := "\x80\xbf\x80\xbf\x80\xbf"
	every := ""
	for b := 0x80; b < 0xc0; b++ {
		every += string([]byte{byte(b)})
	}
	add(group(false, "\x80", "\xbf", stray[:2], stray[:3], stray[:4], stray[:5], stray, every))
	// 6.13: the first bytes of characters of each length, each followed by a space.
	var lonely []string
	for size := 2; size <= 6; size++ {
		s := ""
		for b := int(firstByte(size)); b < int(firstByte(size+1)); b++ {
			s += string([]byte{byte(b), ' '})
		}
		lonely = append(lonely, s)
	}
	add(group(false, lonely...))
	// 6.14: the number zero and the last character of each length, without their last byte. 6.15: all of these in one text.
	unfinished := append(sizes(2, 6, func(size int) string { return withoutLast(scheme(0, size)) }), sizes(2, 6, func(size int) string { return withoutLast(lastOf(size)) })...)
	add(group(false, unfinished...))
	add(group(false, strings.Join(unfinished, "")))
	// 6.16: bytes that UTF-8 does not have.
	add(group(false, "\xfe", "\xff", "\xfe\xfe\xff\xff"))
	// 6.17, 6.18, 6.19: what fits into fewer bytes: a slash, the greatest such number of each length, zero.
	add(group(false, sizes(2, 6, func(size int) string { return scheme('/', size) })...))
	add(group(false, sizes(2, 6, func(size int) string { return scheme(most(size-1), size) })...))
	add(group(false, sizes(2, 6, func(size int) string { return scheme(0, size) })...))
	// 6.20, 6.21: surrogates, alone and in pairs.
	high, low := []uint32{0xd800, 0xdb7f, 0xdb80, 0xdbff}, []uint32{0xdc00, 0xdfff}
	var alone, pairs []string
	for _, h := range high {
		alone = append(alone, scheme(h, 3))
		for _, l := range low {
			pairs = append(pairs, scheme(h, 3)+scheme(l, 3))
		}
	}
	add(group(false, append(alone, scheme(0xdc00, 3), scheme(0xdf80, 3), scheme(0xdfff, 3))...))
	add(group(false, pairs...))
	// 6.22: the last two of each plane are no characters, and UTF-8 all the same.
	var none []string
	for plane := range uint32(17) {
		for _, n := range []uint32{0xfffe, 0xffff} {
			number := plane<<16 | n
			size := 3
			if plane > 0 {
				size = 4
			}
			none = append(none, scheme(number, size))
		}
	}
	add(group(true, none...))
	// 6.23: the special ones at the end of the first plane.
	var special []string
	for number := uint32(0xfff9); number <= 0xffff; number++ {
		special = append(special, scheme(number, 3))
	}
	add(group(true, special...))

	for i, g := range groups {
		var cases []testCase
		for _, s := range g {
			cases = append(cases, whole(s.payload, s.ok))
		}
		all = append(all, numbered(fmt.Sprintf("6.%d", 5+i), cases...)...)
	}
	return all
}

// firstByte is the smallest first byte of a character of size bytes.
func firstByte(size int) byte { return byte(0xff << (8 - size)) }
