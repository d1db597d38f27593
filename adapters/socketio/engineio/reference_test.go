package engineio

import (
	"bytes"
	"encoding/base64"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit/nodejs"
)

// codec is a program in Node: the reference implementation reads payloads of HTTP long-polling, and writes what it has
// read again. An error ends a payload.
const codec = `
const { decodePayload, encodePayload } = require("engine.io-parser");
const payloads = JSON.parse(require("fs").readFileSync(0, "utf8"));
Promise.all(payloads.map((payload) => new Promise((resolve) => {
  const packets = decodePayload(payload, "nodebuffer");
  const read = packets.map(({ type, data }) => Buffer.isBuffer(data) ? { type, binary: data.toString("base64") } : { type, text: data ?? "" });
  if (packets.some(({ type }) => type === "error")) resolve({ read, again: "" });
  else encodePayload(packets, (again) => resolve({ read, again }));
}))).then((all) => process.stdout.write(JSON.stringify(all)));
`

// readPacket is a packet as the reference implementation has it.
type readPacket struct {
	Type   string
	Text   string
	Binary *string
}

var typeNames = []string{"open", "close", "ping", "pong", "message", "upgrade", "noop"}

// readAll reads a payload as this package does, to its end or to the first packet that is none.
func readAll(payload string) (packets []packet, err error) {
	rest := []byte(payload)
	for more := true; more; {
		var p packet
		if p, rest, more, err = cutPacket(rest); err != nil {
			return packets, err
		}
		packets = append(packets, p)
	}
	return packets, nil
}

// TestTheReferenceReadsTheSamePayloads compares payloads that are right, and thousands that were made of them by small changes.
func TestTheReferenceReadsTheSamePayloads(t *testing.T) {
	t.Parallel()
	modules := nodejs.Modules(t, "engine.io-parser")
	seeds := []string{"4hello", "4", "2", "3probe", "1", "5", "6", `0{"sid":"x"}`, "4a\x1e4b\x1e4c", "bAQIDBA==", "b", "4h\u00e9\u2603\U0001F600\x1ebAAH/\x1e4more", "42[\"a\",1]\x1e2\x1e3"}
	pieces := append([]string{"b", "4", "7", "\x1e", "=", "A", "\u00e9", "-", " ", "\n"}, seeds...)
	random := rand.New(rand.NewPCG(5, 6))
	payloads := slices.Clone(seeds)
	for range 20_000 {
		s := []rune(seeds[random.IntN(len(seeds))])
		for range 1 + random.IntN(3) {
			at := random.IntN(len(s) + 1)
			switch random.IntN(3) {
			case 0:
				s = slices.Concat(s[:at], []rune(pieces[random.IntN(len(pieces))]), s[at:])
			case 1:
				s = s[:at]
			default:
				s = slices.Concat(s[:at], s[min(at+1+random.IntN(2), len(s)):])
			}
		}
		payloads = append(payloads, string(s))
	}
	var results []struct {
		Read  []readPacket
		Again string
	}
	if nodejs.Map(t, modules, codec, payloads, &results); len(results) != len(payloads) {
		t.Fatalf("node answers %d of %d", len(results), len(payloads))
	}
	same, refused, lenient := 0, 0, 0
	for i, payload := range payloads {
		theirs := results[i]
		bad := len(theirs.Read) > 0 && theirs.Read[len(theirs.Read)-1].Type == "error"
		ours, err := readAll(payload)
		switch {
		case err != nil && bad:
			refused++
			continue
		case err != nil && slices.ContainsFunc(strings.Split(payload, "\x1e"), badBase64):
			lenient++ // Node reads whatever looks like base64
			continue
		case err != nil || bad:
			t.Errorf("%q: ours: %v, theirs: %+v", payload, err, theirs.Read)
			continue
		}
		same++
		frames := make([]*socket.Frame, len(ours))
		for j, p := range ours {
			got := theirs.Read[min(j, len(theirs.Read)-1)]
			if p.binary {
				if got.Binary == nil || *got.Binary != base64.StdEncoding.EncodeToString(p.data) {
					t.Errorf("%q: packet %d is %x, theirs %+v", payload, j, p.data, got)
				}
				frames[j] = NewBinary(func(dst []byte) []byte { return append(dst, p.data...) })
				continue
			}
			if got.Binary != nil || got.Type != typeNames[p.kind-'0'] || got.Text != string(p.data) {
				t.Errorf("%q: packet %d is %c %q, theirs %+v", payload, j, p.kind, p.data, got)
			}
			frames[j] = socket.NewFrame(func(dst []byte) []byte { return append(append(dst, p.kind), p.data...) })
		}
		if len(ours) != len(theirs.Read) {
			t.Errorf("%q: %d packets, theirs %d", payload, len(ours), len(theirs.Read))
		}
		if again := string(appendPayload(nil, frames)); again != theirs.Again {
			t.Errorf("%q is written %q, by the reference %q", payload, again, theirs.Again)
		}
	}
	t.Logf("%d read and written the same, %d refused by both, %d with bytes that only Node takes for base64", same, refused, lenient)
	if same < 5000 || refused < 2000 {
		t.Errorf("too few were compared: %d read, %d refused", same, refused)
	}
}

func badBase64(packet string) bool {
	encoded, ok := strings.CutPrefix(packet, "b")
	_, err := base64.StdEncoding.DecodeString(encoded)
	return ok && err != nil
}

// FuzzPayload holds that whatever is accepted is written again so that it reads the same.
func FuzzPayload(f *testing.F) {
	for _, seed := range []string{"4hello\x1ebAQIDBA==", "2", "b", "4\x1e\x1e4", "7", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		first, err := readAll(payload)
		if err != nil {
			return
		}
		frames := make([]*socket.Frame, len(first))
		for i, p := range first {
			if p.binary {
				frames[i] = NewBinary(func(dst []byte) []byte { return append(dst, p.data...) })
			} else {
				frames[i] = socket.NewFrame(func(dst []byte) []byte { return append(append(dst, p.kind), p.data...) })
			}
		}
		written := appendPayload(nil, frames)
		if len(written) != payloadLen(frames) {
			t.Errorf("%q: %d bytes, %d were announced", payload, len(written), payloadLen(frames))
		}
		again, err := readAll(string(written))
		if err != nil || len(again) != len(first) {
			t.Fatalf("%q is written %q: %d packets, %v", payload, written, len(again), err)
		}
		for i := range again {
			if again[i].kind != first[i].kind || again[i].binary != first[i].binary || !bytes.Equal(again[i].data, first[i].data) {
				t.Errorf("%q: packet %d is %+v, and was %+v", payload, i, again[i], first[i])
			}
		}
	})
}
