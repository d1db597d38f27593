package websocket

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/parley-chat/parley/testkit/wsraw"
)

func text(payload string) wsraw.Frame   { return final(wsraw.OpText, payload) }
func binary(payload string) wsraw.Frame { return final(wsraw.OpBinary, payload) }
func ping(payload string) wsraw.Frame   { return final(wsraw.OpPing, payload) }
func pong(payload string) wsraw.Frame   { return final(wsraw.OpPong, payload) }

func final(opcode byte, payload string) wsraw.Frame {
	return wsraw.Frame{Final: true, Opcode: opcode, Payload: []byte(payload)}
}

func first(opcode byte, payload string) wsraw.Frame {
	return wsraw.Frame{Opcode: opcode, Payload: []byte(payload)}
}

func next(payload string) wsraw.Frame { return first(wsraw.OpContinuation, payload) }
func last(payload string) wsraw.Frame { return final(wsraw.OpContinuation, payload) }

func reserved(bits byte, f wsraw.Frame) wsraw.Frame {
	f.Reserved = bits
	return f
}

// fragments cuts a message into frames of at most n bytes.
func fragments(opcode byte, payload string, n int) []wsraw.Frame {
	var frames []wsraw.Frame
	for {
		part := payload[:min(n, len(payload))]
		payload = payload[len(part):]
		frames = append(frames, wsraw.Frame{Final: payload == "", Opcode: opcode, Payload: []byte(part)})
		if payload == "" {
			return frames
		}
		opcode = wsraw.OpContinuation
	}
}

// coreCases makes all cases, in the order of their numbers.
func coreCases() []testCase {
	var all []testCase
	for _, section := range []func() []testCase{lengths, pings, reservedBits, opcodes, fragmentation, characters, closing, limits, splitting} {
		all = append(all, section()...)
	}
	return all
}

// numbered numbers cases from 1.
func numbered(prefix string, cases ...testCase) []testCase {
	for i := range cases {
		cases[i].id = fmt.Sprintf("%s.%d", prefix, i+1)
	}
	return cases
}

// lengths are the borders of the three forms of a length (RFC 6455 section 5.2).
func lengths() []testCase {
	var all []testCase
	for i, kind := range []struct {
		name   string
		opcode byte
		fill   string
	}{{"text", wsraw.OpText, "t"}, {"binary", wsraw.OpBinary, "\xf1"}} {
		var cases []testCase
		for _, n := range []int{0, 125, 126, 127, 128, 65535, 65536} {
			f := final(kind.opcode, strings.Repeat(kind.fill, n))
			cases = append(cases, testCase{about: fmt.Sprintf("a %s of %d bytes", kind.name, n), steps: []step{sends(f), gets(f), leaves}})
		}
		f := final(kind.opcode, strings.Repeat(kind.fill, 65536))
		cases = append(cases, testCase{about: fmt.Sprintf("a %s of 65536 bytes, in writes of 997", kind.name), steps: []step{sendsParts(997, f), gets(f), leaves}})
		all = append(all, numbered(fmt.Sprintf("1.%d", i+1), cases...)...)
	}
	return all
}

// pings are answered with their payload; pongs that nobody asked for are not (RFC 6455 sections 5.5.2 and 5.5.3).
func pings() []testCase {
	answered := func(about, payload string) testCase {
		return testCase{about: about, steps: []step{sends(ping(payload)), gets(pong(payload)), leaves}}
	}
	var ten, pongs []wsraw.Frame
	for i := range 10 {
		ten = append(ten, ping(fmt.Sprintf("number %d", i)))
		pongs = append(pongs, pong(fmt.Sprintf("number %d", i)))
	}
	long := strings.Repeat("\xf1", 125)
	return numbered("2",
		answered("an empty ping", ""),
		answered("a ping with text", "are you there?"),
		answered("a ping with bytes that are no text", "\xff\x00\xfe\x01\x80\x00"),
		answered("the longest ping", long),
		testCase{about: "a ping that is one byte too long", steps: []step{sends(ping(long + "\xf1")), ends(1002)}},
		testCase{about: "the longest ping, byte by byte", steps: []step{sendsParts(1, ping(long)), gets(pong(long)), leaves}},
		testCase{about: "an empty pong that nobody asked for", steps: []step{sends(pong("")), leaves}},
		testCase{about: "a pong that nobody asked for", steps: []step{sends(pong("here I am")), leaves}},
		testCase{about: "a pong that nobody asked for, and a ping", steps: []step{sends(pong("here I am"), ping("and you?")), gets(pong("and you?")), leaves}},
		testCase{about: "ten pings in a row, each answered", steps: []step{sends(ten...), gets(pongs...), leaves}},
		testCase{about: "ten pings in a row, byte by byte, each answered", steps: []step{sendsParts(1, ten...), gets(pongs...), leaves}},
	)
}

// reservedBits fail the connection as long as no extension gives them a meaning (RFC 6455 section 5.2).
func reservedBits() []testCase {
	hello := text("good morning")
	return numbered("3",
		testCase{about: "RSV3 on a text", steps: []step{sends(reserved(1, hello)), ends(1002)}},
		testCase{about: "RSV2 on a text after a good one, and a ping", steps: []step{sends(hello, reserved(2, hello), ping("")), gets(hello), ends(1002)}},
		testCase{about: "RSV2 and RSV3, frame by frame", steps: []step{sendsEach(hello, reserved(3, hello), ping("")), gets(hello), ends(1002)}},
		testCase{about: "RSV1, byte by byte", steps: []step{sendsParts(1, hello, reserved(4, hello), ping("")), gets(hello), ends(1002)}},
		testCase{about: "RSV1 and RSV3 on a binary message", steps: []step{sends(reserved(5, binary("\x00\xff"))), ends(1002)}},
		testCase{about: "RSV1 and RSV2 on a ping", steps: []step{sends(reserved(6, ping("\x00\xff"))), ends(1002)}},
		testCase{about: "all three on a close frame", steps: []step{sends(reserved(7, wsraw.CloseFrame(0, ""))), ends(1002)}},
	)
}

// opcodes that RFC 6455 section 5.2 keeps for later fail the connection.
func opcodes() []testCase {
	hello := text("good morning")
	var all []testCase
	for i, base := range []byte{3, 11} {
		kind := []string{"data", "control"}[i]
		about := func(n byte, rest string) string { return fmt.Sprintf("%s opcode %d%s", kind, base+n, rest) }
		all = append(all, numbered(fmt.Sprintf("4.%d", i+1),
			testCase{about: about(0, ", empty"), steps: []step{sends(final(base, "")), ends(1002)}},
			testCase{about: about(1, " with a payload"), steps: []step{sends(final(base+1, "what is this?")), ends(1002)}},
			testCase{about: about(2, ", empty, between a text and a ping"), steps: []step{sends(hello, final(base+2, ""), ping("")), gets(hello), ends(1002)}},
			testCase{about: about(3, " with a payload, between a text and a ping"), steps: []step{sends(hello, final(base+3, "what is this?"), ping("")), gets(hello), ends(1002)}},
			testCase{about: about(4, ", the same byte by byte"), steps: []step{sendsParts(1, hello, final(base+4, "what is this?"), ping("")), gets(hello), ends(1002)}},
		)...)
	}
	return all
}

// fragmentation is RFC 6455 section 5.4: control frames are whole and may come between; every other frame continues what was begun.
func fragmentation() []testCase {
	byByte := func(frames ...wsraw.Frame) step { return sendsParts(1, frames...) }
	ways := []func(...wsraw.Frame) step{sends, sendsEach, byByte}
	how := []string{"in one write", "frame by frame", "byte by byte"}
	cases := []testCase{
		{about: "a ping in two fragments", steps: []step{sends(first(wsraw.OpPing, "one"), last("two")), ends(1002)}},
		{about: "a pong in two fragments", steps: []step{sends(first(wsraw.OpPong, "one"), last("two")), ends(1002)}},
	}
	for i, way := range ways {
		cases = append(cases, testCase{about: "a text in two fragments, " + how[i], steps: []step{way(first(wsraw.OpText, "one, "), last("two")), gets(text("one, two")), leaves}})
	}
	for i, way := range ways {
		cases = append(cases, testCase{about: "a ping between two fragments, " + how[i], steps: []step{
			way(first(wsraw.OpText, "one, "), ping("meanwhile"), last("two")), gets(pong("meanwhile"), text("one, two")), leaves,
		}})
	}
	for i, way := range ways {
		cases = append(cases, testCase{about: "the end of a message that did not begin, and a text, " + how[i], steps: []step{way(last("stray"), text("hello")), ends(1002)}})
	}
	for i, way := range ways {
		cases = append(cases, testCase{about: "the middle of a message that did not begin, and a text, " + how[i], steps: []step{way(next("stray"), text("hello")), ends(1002)}})
	}
	strayThenMessage := func(stray wsraw.Frame) []step {
		round := []wsraw.Frame{stray, first(wsraw.OpText, "one, "), last("two")}
		return []step{sends(append(round, round...)...), ends(1002)}
	}
	cases = append(cases,
		testCase{about: "a message, the middle of one that did not begin, and a text", steps: []step{
			sends(first(wsraw.OpText, "one, "), last("two"), next("stray"), text("hello")), gets(text("one, two")), ends(1002),
		}},
		testCase{about: "twice the middle of a message that did not begin, then a whole one", steps: strayThenMessage(next("stray"))},
		testCase{about: "twice the end of a message that did not begin, then a whole one", steps: strayThenMessage(last("stray"))},
		testCase{about: "a second fragment that says text and not continuation", steps: []step{sends(first(wsraw.OpText, "one, "), text("two")), ends(1002)}},
	)
	for _, way := range ways[:2] {
		cases = append(cases, testCase{about: "five fragments and two pings, of which the first is answered before the rest is sent", steps: []step{
			way(first(wsraw.OpText, "one, "), next("two, "), ping("still there?")), gets(pong("still there?")),
			way(next("three, "), next("four, "), ping("and now?"), last("five")), gets(pong("and now?"), text("one, two, three, four, five")), leaves,
		}})
	}
	return numbered("5", cases...)
}

// closing is RFC 6455 sections 5.5.1 and 7.4: a close frame is answered by one with its code, what comes after it is ignored, and
// one that is against the rules fails the connection.
func closing() []testCase {
	hello, bye := text("good morning"), wsraw.CloseFrame(1000, "")
	// What a client sends behind its close frame can meet a connection that has ended: the answer is read all the same.
	behind := func(frames ...wsraw.Frame) []step { return []step{sends(frames...), endsOrCut(1000)} }
	big := text(strings.Repeat("0123456789abcdef", 256<<10/16))
	all := numbered("7.1",
		testCase{about: "a message, then the end", steps: []step{sends(hello), gets(hello), leaves}},
		testCase{about: "two close frames", steps: behind(bye, wsraw.CloseFrame(0, ""))},
		testCase{about: "a ping behind the close frame", steps: behind(bye, ping(""))},
		testCase{about: "a text behind the close frame", steps: behind(bye, hello)},
		testCase{about: "a close frame between two fragments", steps: behind(first(wsraw.OpText, "one, "), bye, last("two"))},
		testCase{about: "a long message, a short one, the close frame and a ping in one go: what came before it is answered", steps: []step{
			sends(big, hello, bye, ping("")), gets(big, hello), endsOrCut(1000),
		}},
	)
	all = append(all, numbered("7.3",
		testCase{about: "no code", steps: []step{sends(wsraw.CloseFrame(0, "")), ends(0)}},
		testCase{about: "half a code", steps: []step{sends(final(wsraw.OpClose, "\x03")), ends(1002)}},
		testCase{about: "a code", steps: []step{sends(bye), ends(1000)}},
		testCase{about: "a code and a reason", steps: []step{sends(wsraw.CloseFrame(1000, "that was all")), ends(1000)}},
		testCase{about: "the longest reason", steps: []step{sends(wsraw.CloseFrame(1000, strings.Repeat("r", 123))), ends(1000)}},
		testCase{about: "a reason that is one byte too long", steps: []step{sends(wsraw.CloseFrame(1000, strings.Repeat("r", 124))), ends(1002)}},
	)...)
	all = append(all, numbered("7.5",
		testCase{about: "a reason that is not UTF-8", steps: []step{sends(wsraw.CloseFrame(1000, "gr\xc3\xbc\xed\xa0\x80e")), ends(1007)}},
	)...)
	codes := func(prefix, about string, answer func(code int) int, codes ...int) []testCase {
		var cases []testCase
		for _, code := range codes {
			payload := string([]byte{byte(code >> 8), byte(code)})
			cases = append(cases, testCase{about: fmt.Sprintf("code %d, %s", code, about), steps: []step{sends(final(wsraw.OpClose, payload)), ends(answer(code))}})
		}
		return numbered(prefix, cases...)
	}
	same := func(code int) int { return code }
	wrong := func(int) int { return 1002 }
	all = append(all, codes("7.7", "which may be sent", same, 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)...)
	all = append(all, codes("7.9", "which must not be sent", wrong, 0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999)...)
	return append(all, codes("7.13", "which no range has", wrong, 5000, 65535)...)
}

// limits are long messages, in few and in very many frames and writes, and many messages one after another.
func limits() []testCase {
	const kib, mib = 1 << 10, 1 << 20
	fill := func(pattern string, n int) string { return string(bytes.Repeat([]byte(pattern), n/len(pattern)+1)[:n]) }
	kinds := []struct {
		name    string
		opcode  byte
		pattern string
	}{{"text", wsraw.OpText, "limits and more;"}, {"binary", wsraw.OpBinary, "\x00\xf1\x80\x7f\x10"}}
	var all []testCase
	each := func(from int, make func(name string, opcode byte, payload func(n int) string) []testCase) {
		for i, k := range kinds {
			all = append(all, numbered(fmt.Sprintf("9.%d", from+i), make(k.name, k.opcode, func(n int) string { return fill(k.pattern, n) })...)...)
		}
	}
	each(1, func(name string, opcode byte, payload func(int) string) (cases []testCase) {
		for _, n := range []int{64 * kib, 256 * kib, mib, 4 * mib, 8 * mib, 16 * mib} {
			f := final(opcode, payload(n))
			cases = append(cases, testCase{about: fmt.Sprintf("a %s of %d bytes", name, n), steps: []step{sends(f), gets(f), leaves}})
		}
		return cases
	})
	each(3, func(name string, opcode byte, payload func(int) string) (cases []testCase) {
		whole := payload(4 * mib)
		for _, n := range []int{64, 256, kib, 4 * kib, 16 * kib, 64 * kib, 256 * kib, mib, 4 * mib} {
			cases = append(cases, testCase{about: fmt.Sprintf("a %s of 4 MiB in fragments of %d bytes", name, n), steps: []step{
				func(c *wsraw.Conn) error { return c.Send(fragments(opcode, whole, n)...) }, gets(final(opcode, whole)), leaves,
			}})
		}
		return cases
	})
	each(5, func(name string, opcode byte, payload func(int) string) (cases []testCase) {
		f := final(opcode, payload(mib))
		for _, n := range []int{64, 128, 256, 512, 1024, 2048} {
			cases = append(cases, testCase{about: fmt.Sprintf("a %s of 1 MiB in writes of %d bytes", name, n), steps: []step{sendsParts(n, f), gets(f), leaves}})
		}
		return cases
	})
	each(7, func(name string, opcode byte, payload func(int) string) (cases []testCase) {
		for _, n := range []int{0, 16, 64, 256, 1024, 4096} {
			f := final(opcode, payload(n))
			cases = append(cases, testCase{about: fmt.Sprintf("1,000 times a %s of %d bytes, each after the answer", name, n), steps: []step{
				func(c *wsraw.Conn) error {
					for i := range 1000 {
						if err := c.Send(f); err != nil {
							return err
						}
						if err := gets(f)(c); err != nil {
							return fmt.Errorf("message %d: %w", i, err)
						}
					}
					return nil
				}, leaves,
			}})
		}
		return cases
	})
	return all
}

// splitting is a message that the client's library cuts by itself.
func splitting() []testCase {
	whole := strings.Repeat("s", 65536)
	return []testCase{{id: "10.1.1", about: "65,536 bytes, cut into fragments of 1,300", steps: []step{sendsEach(fragments(wsraw.OpText, whole, 1300)...), gets(text(whole)), leaves}}}
}
