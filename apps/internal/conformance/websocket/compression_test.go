package websocket

import (
	"bytes"
	"compress/flate"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit/wsraw"
)

const rsv1 = 4

// writers are many megabytes together, were each message to have its own.
var writers = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(io.Discard, flate.DefaultCompression) // fails for levels that do not exist
	return w
}}

// squeeze compresses a payload as a client does (RFC 7692 section 7.2.1).
func squeeze(payload string) string {
	var b bytes.Buffer
	w := writers.Get().(*flate.Writer)
	defer writers.Put(w)
	w.Reset(&b)
	_, _ = io.WriteString(w, payload) // a buffer never fails
	_ = w.Flush()
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

// expand undoes what the server did.
func expand(compressed []byte) (string, error) {
	b, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(compressed), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
	return string(b), err
}

// squeezed is a compressed message in frames of at most n bytes.
func squeezed(opcode byte, payload string, n int) []wsraw.Frame {
	frames := fragments(opcode, squeeze(payload), n)
	frames[0].Reserved = rsv1
	return frames
}

// echoes wants the message back, compressed or not.
func echoes(opcode byte, payload string) step {
	return func(c *wsraw.Conn) error {
		f, err := c.Read()
		if err != nil {
			return fmt.Errorf("waiting for the echo: %w", err)
		}
		got := string(f.Payload)
		if f.Reserved == rsv1 {
			if got, err = expand(f.Payload); err != nil {
				return fmt.Errorf("the echo cannot be inflated: %w", err)
			}
			f.Reserved = 0
		}
		if f.Opcode != opcode || !f.Final || f.Reserved != 0 || got != payload {
			return fmt.Errorf("the echo is %s, inflated %d bytes %.40q, want %d bytes %.40q", brief(f), len(got), got, len(payload), payload)
		}
		return nil
	}
}

// comes wants a frame with these reserved bits.
func comes(bits byte, opcode byte, payload string) step {
	return func(c *wsraw.Conn) error {
		f, err := c.Read()
		if err != nil {
			return fmt.Errorf("waiting for the echo: %w", err)
		}
		got := string(f.Payload)
		if f.Reserved == rsv1 {
			if got, err = expand(f.Payload); err != nil {
				return fmt.Errorf("the echo cannot be inflated: %w", err)
			}
		}
		if f.Opcode != opcode || f.Reserved != bits || got != payload {
			return fmt.Errorf("the echo is %s, want reserved bits %d", brief(f), bits)
		}
		return nil
	}
}

// contents make payloads of n bytes that compress well, a little, or not at all.
var contents = []struct {
	name   string
	opcode byte
	make   func(rnd *rand.Rand, n int) string
}{
	{"JSON", wsraw.OpText, func(rnd *rand.Rand, n int) string {
		return pile(n, func(i int) string {
			return fmt.Sprintf(`{"seq":%d,"user":"user-%d","text":"%x"},`, i, rnd.IntN(50), rnd.Uint32())
		})
	}},
	{"pixels", wsraw.OpBinary, func(rnd *rand.Rand, n int) string {
		return pile(n, func(i int) string {
			return string([]byte{byte(i / 7), byte(i/7 + rnd.IntN(3)), 0xff, byte(rnd.IntN(4))})
		})
	}},
	{"prose", wsraw.OpText, func(rnd *rand.Rand, n int) string {
		words := strings.Fields("habe nun ach Philosophie Juristerei und Medizin und leider auch Theologie durchaus studiert mit heißem Bemühn")
		s := pile(n, func(int) string { return words[rnd.IntN(len(words))] + " " })
		return strings.ToValidUTF8(s, "?") // cut within a character
	}},
	{"markup", wsraw.OpText, func(rnd *rand.Rand, n int) string {
		return pile(n, func(i int) string {
			return fmt.Sprintf(`<li class="item"><a href="/p/%d">%d</a></li>`, i, rnd.IntN(1000))
		})
	}},
	{"noise", wsraw.OpBinary, func(rnd *rand.Rand, n int) string {
		return pile(n, func(int) string { return string([]byte{byte(rnd.Uint32()), byte(rnd.Uint32())}) })
	}},
}

func pile(n int, piece func(i int) string) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		b.WriteString(piece(i))
	}
	return b.String()[:n]
}

// offers are what clients offer, and what the server agrees to.
var offers = []struct{ offer, answer string }{
	{"permessage-deflate", agreed},
	{"permessage-deflate; client_max_window_bits", agreed},
	{"permessage-deflate; client_max_window_bits=9", agreed},
	{"permessage-deflate; server_no_context_takeover", agreed},
	{"permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=15", agreed},
	{"permessage-deflate; server_max_window_bits=15", agreed + "; server_max_window_bits=15"},
	{"permessage-deflate; server_max_window_bits=9, permessage-deflate; server_no_context_takeover", agreed},
}

const agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

// compressedCase is a case with the offer that it begins with.
type compressedCase struct {
	testCase
	offer, answer string
}

// compressedCases are messages of each content (12) and after each offer (13), in 18 sizes and cuttings, a few of each.
func compressedCases() []compressedCase {
	const messages = 5
	shapes := []struct{ size, cut int }{
		{16, 0}, {64, 0}, {256, 0}, {1 << 10, 0}, {4 << 10, 0}, {8 << 10, 0}, {16 << 10, 0}, {32 << 10, 0}, {64 << 10, 0}, {128 << 10, 0},
		{8 << 10, 256}, {16 << 10, 256}, {32 << 10, 256}, {64 << 10, 256}, {128 << 10, 256}, {128 << 10, 1 << 10}, {128 << 10, 4 << 10}, {128 << 10, 32 << 10},
	}
	var all []compressedCase
	add := func(prefix string, content int, offer, answer string) {
		kind := contents[content]
		for i, shape := range shapes {
			rnd := rand.New(rand.NewPCG(uint64(content), uint64(i)))
			cut := shape.cut
			if cut == 0 {
				cut = 1 << 20
			}
			about := fmt.Sprintf("%d times %s of %d bytes in frames of %d, after %q", messages, kind.name, shape.size, shape.cut, offer)
			steps := []step{func(c *wsraw.Conn) error {
				for range messages {
					payload := kind.make(rnd, shape.size)
					if err := c.Send(squeezed(kind.opcode, payload, cut)...); err != nil {
						return err
					}
					if err := echoes(kind.opcode, payload)(c); err != nil {
						return err
					}
				}
				return nil
			}, leaves}
			all = append(all, compressedCase{testCase{id: fmt.Sprintf("%s.%d", prefix, i+1), about: about, steps: steps}, offer, answer})
		}
	}
	for i := range contents {
		add(fmt.Sprintf("12.%d", i+1), i, offers[1].offer, offers[1].answer)
	}
	for i, o := range offers {
		add(fmt.Sprintf("13.%d", i+1), 0, o.offer, o.answer)
	}
	return all
}

// TestCompression has every conversation with both transports.
func TestCompression(t *testing.T) {
	t.Parallel()
	require.Len(t, compressedCases(), 216)
	for name, open := range transports {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, open, socket.TransportConfig{Compress: true, CompressFrom: 1})
			t.Run("cases", func(t *testing.T) {
				for _, tc := range compressedCases() {
					if tc.spared() {
						continue
					}
					t.Run(tc.id, func(t *testing.T) {
						t.Parallel()
						ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
						defer cancel()
						answer, err := tc.runWith(ctx, url, tc.offer)
						require.NoError(t, err, tc.about)
						require.Equal(t, tc.answer, answer)
					})
				}
			})
		})
	}
}

// runWith has the conversation after an offer, and returns the answer to it.
func (tc testCase) runWith(ctx context.Context, url, offer string) (answer string, err error) {
	header := http.Header{}
	if offer != "" {
		header.Set("Sec-WebSocket-Extensions", offer)
	}
	steps := tc.steps
	tc.steps = append([]step{func(c *wsraw.Conn) error {
		answer = c.Header.Get("Sec-WebSocket-Extensions")
		return nil
	}}, steps...)
	err = tc.run(ctx, url, header)
	return answer, err
}

// TestCompressionRules is what RFC 7692 allows and forbids around compressed messages.
func TestCompressionRules(t *testing.T) {
	t.Parallel()
	const from = 512
	long := strings.Repeat("long and boring, ", 100)
	frames := squeezed(wsraw.OpText, long, 8)
	require.Greater(t, len(frames), 2)
	part := func(i int, change func(f *wsraw.Frame)) []wsraw.Frame {
		changed := append([]wsraw.Frame(nil), frames...)
		change(&changed[i])
		return changed
	}
	between := append(append(append([]wsraw.Frame{}, frames[0], ping("meanwhile")), next("")), frames[1:]...)
	packed := squeezed(wsraw.OpText, long, 1<<20)[0]
	bomb := squeeze(strings.Repeat("\x00", 32<<20))
	noise := contents[4].make(rand.New(rand.NewPCG(1, 1)), maxMessage)
	for _, tc := range []testCase{
		{about: "a long message comes back compressed", steps: []step{sends(packed), comes(rsv1, wsraw.OpText, long), leaves}},
		{about: "a message that the client does not compress, too", steps: []step{sends(text(long)), comes(rsv1, wsraw.OpText, long), leaves}},
		{about: "a short message comes back as it is", steps: []step{sends(squeezed(wsraw.OpText, long[:from-1], 1<<20)...), comes(0, wsraw.OpText, long[:from-1]), leaves}},
		{about: "one as long as the threshold is compressed", steps: []step{sends(text(long[:from])), comes(rsv1, wsraw.OpText, long[:from]), leaves}},
		{about: "what would become longer comes back as it is", steps: []step{sends(binary(noise[:4096])), comes(0, wsraw.OpBinary, noise[:4096]), leaves}},
		{about: "compressed, not, and compressed", steps: []step{sends(packed, text("plain"), packed), echoes(wsraw.OpText, long), echoes(wsraw.OpText, "plain"), echoes(wsraw.OpText, long), leaves}},
		{about: "an empty message", steps: []step{sends(reserved(rsv1, text("\x00"))), echoes(wsraw.OpText, ""), leaves}},
		{about: "a block that says that it is the last", steps: []step{sends(reserved(rsv1, text("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"))), echoes(wsraw.OpText, "Hello"), leaves}},
		{about: "two blocks, in two frames", steps: []step{
			sends(reserved(rsv1, first(wsraw.OpText, "\xf2\x48\x05\x00\x00\x00\xff\xff")), last("\xca\xc9\xc9\x07\x00")), echoes(wsraw.OpText, "Hello"), leaves,
		}},
		{about: "a ping and an empty frame between the frames", steps: []step{sends(between...), gets(pong("meanwhile")), echoes(wsraw.OpText, long), leaves}},
		{about: "byte by byte", steps: []step{sendsParts(1, frames...), echoes(wsraw.OpText, long), leaves}},
		{about: "RSV1 on a further frame", steps: []step{sends(part(1, func(f *wsraw.Frame) { f.Reserved = rsv1 })...), ends(1002)}},
		{about: "RSV1 on a further frame alone", steps: []step{sends(first(wsraw.OpText, "x"), reserved(rsv1, last("y"))), ends(1002)}},
		{about: "RSV1 on a ping", steps: []step{sends(reserved(rsv1, ping(""))), ends(1002)}},
		{about: "RSV1 on a pong", steps: []step{sends(reserved(rsv1, pong(""))), ends(1002)}},
		{about: "RSV1 on a close frame", steps: []step{sends(reserved(rsv1, wsraw.CloseFrame(1000, ""))), ends(1002)}},
		{about: "RSV1 on an opcode that is not known", steps: []step{sends(reserved(rsv1, final(3, ""))), ends(1002)}},
		{about: "RSV2 beside RSV1", steps: []step{sends(reserved(rsv1|2, packed)), ends(1002)}},
		{about: "RSV3 beside RSV1", steps: []step{sends(reserved(rsv1|1, packed)), ends(1002)}},
		{about: "RSV2 alone", steps: []step{sends(reserved(2, text("x"))), ends(1002)}},
		{about: "data that cannot be inflated, after a good message", steps: []step{sends(packed, reserved(rsv1, text("\xff\xff\xff\xff"))), echoes(wsraw.OpText, long), ends(1007)}},
		{about: "data whose end is missing", steps: []step{sends(reserved(rsv1, text("\x00\x05\x00\xfa\xffHel"))), ends(1007)}},
		{about: "nothing at all as compressed", steps: []step{sends(reserved(rsv1, text(""))), ends(1007)}},
		{about: "a text that is not UTF-8", steps: []step{sends(squeezed(wsraw.OpText, "gr\xfc\xdfe", 1<<20)...), ends(1007)}},
		{about: "the same as binary message", steps: []step{sends(squeezed(wsraw.OpBinary, "gr\xfc\xdfe", 1<<20)...), echoes(wsraw.OpBinary, "gr\xfc\xdfe"), leaves}},
		{about: "a bomb", steps: []step{sends(reserved(rsv1, binary(bomb))), ends(1009)}},
		{about: "a bomb in fragments", steps: []step{
			sends(append([]wsraw.Frame{reserved(rsv1, first(wsraw.OpBinary, bomb[:100]))}, fragments(wsraw.OpContinuation, bomb[100:], 1000)...)...), ends(1009),
		}},
		{about: "a message as long as may be, longer on the wire", steps: []step{sends(reserved(rsv1, binary(stored(noise)))), echoes(wsraw.OpBinary, noise), leaves}},
		{about: "a header that announces too much", steps: []step{
			sends(wsraw.Frame{Final: true, Opcode: wsraw.OpBinary, Reserved: rsv1, Length: uint64(socket.CompressedLimit(maxMessage)) + 1}), ends(1009),
		}},
	} {
		t.Run(tc.about, func(t *testing.T) {
			t.Parallel()
			for name, open := range transports {
				t.Run(name, func(t *testing.T) {
					url := serve(t, open, socket.TransportConfig{Compress: true, CompressFrom: from})
					answer, err := tc.runWith(t.Context(), url, offers[1].offer)
					require.NoError(t, err)
					require.Equal(t, agreed, answer)
				})
			}
		})
	}
}

// stored is a payload in blocks that are not compressed.
func stored(payload string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.NoCompression)
	_, _ = io.WriteString(w, payload)
	_ = w.Flush()
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

// TestNotAgreed holds that nothing is compressed unless both sides want it, and that RSV1 then is what it was.
func TestNotAgreed(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long and boring, ", 100)
	for name, open := range transports {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			off, on := serve(t, open, socket.TransportConfig{}), serve(t, open, socket.TransportConfig{Compress: true})
			for _, c := range []struct{ url, offer string }{
				{off, ""}, {off, "permessage-deflate"}, {on, ""}, {on, "permessage-deflate; server_max_window_bits=12"}, {on, "permessage-deflate; mystery"},
			} {
				plain := testCase{steps: []step{sends(text(long)), comes(0, wsraw.OpText, long), leaves}}
				answer, err := plain.runWith(t.Context(), c.url, c.offer)
				require.NoError(t, err, c.offer)
				require.Empty(t, answer, c.offer)
				bit := testCase{steps: []step{sends(squeezed(wsraw.OpText, long, 1<<20)...), ends(1002)}}
				_, err = bit.runWith(t.Context(), c.url, c.offer)
				require.NoError(t, err, c.offer)
			}
		})
	}
}

// TestBombs throws many bombs at both transports and counts what was allocated for them.
func TestBombs(t *testing.T) { // not parallel: it counts
	const limit, bombs, size = 64 << 10, 50, 16 << 20
	packed := reserved(rsv1, binary(squeeze(strings.Repeat("\x00", size))))
	require.Less(t, len(packed.Payload), limit, "the wire would let it through")
	for name, open := range transports {
		t.Run(name, func(t *testing.T) {
			url := serveLimited(t, open, socket.TransportConfig{Compress: true}, limit)
			explode := func() {
				_, err := testCase{steps: []step{sends(packed), ends(1009)}}.runWith(t.Context(), url, offers[1].offer)
				require.NoError(t, err)
			}
			explode() // what is needed once
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range bombs {
				explode()
			}
			runtime.ReadMemStats(&after)
			// Both ends, the handshakes included: were one inflated in full, it would be bombs*size, 800 MiB.
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(bombs*(1<<20)))
		})
	}
}
