package socketio

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/parley-chat/parley/adapters/socketio/packet"
	"github.com/parley-chat/parley/testkit/nodejs"
)

// codec is a program in Node. Of each packet it is given what it holds, with {"$binary": base64} for bytes, and the messages that
// this package makes of it. It answers with the messages that the reference implementation makes of it, and with what that reads
// in ours. A binary message is {"$binary": base64}, too.
const codec = `
const { Decoder, Encoder } = require("socket.io-parser");
const real = (v) => Array.isArray(v) ? v.map(real) : v && typeof v === "object"
  ? "$binary" in v ? Buffer.from(v.$binary, "base64") : Object.fromEntries(Object.entries(v).map(([k, e]) => [k, real(e)])) : v;
const plain = (v) => Buffer.isBuffer(v) ? { $binary: v.toString("base64") } : Array.isArray(v) ? v.map(plain)
  : v && typeof v === "object" ? Object.fromEntries(Object.entries(v).map(([k, e]) => [k, plain(e)])) : v;
process.stdout.write(JSON.stringify(JSON.parse(require("fs").readFileSync(0, "utf8")).map(({ packet, ours }) => {
  const decoder = new Decoder();
  const read = [];
  decoder.on("decoded", ({ type, nsp, id, data }) => read.push({ type, nsp, id, data: plain(data) }));
  for (const message of ours) decoder.add(real(message));
  return { theirs: new Encoder().encode(real(packet)).map(plain), read };
})));
`

// described is a packet as the reference implementation has it.
type described struct {
	Type int     `json:"type"`
	Nsp  string  `json:"nsp"`
	ID   *uint64 `json:"id,omitempty"`
	Data []any   `json:"data"`
}

type exchange struct {
	Packet described `json:"packet"`
	Ours   []any     `json:"ours"`
}

// values makes what an event may hold.
type values struct {
	*rand.Rand
	attachments int
}

func (r *values) value(deep int) (value, described any) {
	kinds := 8
	if deep > 3 {
		kinds = 6
	}
	switch r.IntN(kinds) {
	case 0:
		return nil, nil
	case 1:
		return r.IntN(2) == 0, nil
	case 2:
		f := float64(r.IntN(1<<30)) * []float64{1, -1, 0.125, 1e-9, 1e200}[r.IntN(5)]
		return f, nil
	case 3:
		return r.text(), nil
	case 4, 5:
		if r.attachments == 0 {
			return r.text(), nil
		}
		r.attachments--
		b := make([]byte, r.IntN(40))
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		return b, map[string]any{"$binary": base64.StdEncoding.EncodeToString(b)}
	case 6:
		a, d := make([]any, r.IntN(4)), make([]any, 0)
		for i := range a {
			var e any
			a[i], e = r.both(deep + 1)
			d = append(d, e)
		}
		return a, d
	default:
		m, d := map[string]any{}, map[string]any{}
		for range r.IntN(4) {
			name := r.text()
			if _, twice := m[name]; twice || name == "_placeholder" { // which is for attachments: no implementation can carry it
				continue
			}
			m[name], d[name] = r.both(deep + 1)
		}
		return m, d
	}
}

// both is value, where what describes itself is described by itself.
func (r *values) both(deep int) (value, described any) {
	value, described = r.value(deep)
	if described == nil {
		described = value
	}
	return value, described
}

func (r *values) text() string {
	pieces := []string{"a", "Z", "0", " ", `"`, `\`, "/", ",", "[", "{", "<&>", "\u00e9", "\u2028", "\U0001F600", "\x00", "\n", "\x1e", "_placeholder", "num", "\ufffd"}
	var b strings.Builder
	for range r.IntN(6) {
		b.WriteString(pieces[r.IntN(len(pieces))])
	}
	return b.String()
}

// TestTheReferenceWritesAndReadsTheSame compares events and acks that were made at random, with attachments anywhere in them: the
// reference implementation reads what this package writes, and this package what that writes.
func TestTheReferenceWritesAndReadsTheSame(t *testing.T) {
	t.Parallel()
	modules := nodejs.Modules(t, "socket.io-parser")
	random := &values{Rand: rand.New(rand.NewPCG(3, 4))}
	var all []exchange
	binary := 0
	for range 5000 {
		p := packet.Packet{Type: packet.Event, Namespace: []string{"/", "/a", "/a/b-c"}[random.IntN(3)]}
		d := described{Type: int(packet.Event), Nsp: p.Namespace, Data: []any{}}
		if random.IntN(2) == 0 {
			p.HasID, p.ID = true, random.Uint64N(packet.MaxID+1)
			d.ID = &p.ID
			if random.IntN(2) == 0 {
				p.Type, d.Type = packet.Ack, int(packet.Ack)
			}
		}
		var args []any
		if p.Type == packet.Event {
			name := random.text()
			args, d.Data = append(args, name), append(d.Data, name)
		}
		random.attachments = random.IntN(5)
		for range random.IntN(4) {
			value, described := random.both(0)
			args, d.Data = append(args, value), append(d.Data, described)
		}
		frames, err := encode(p, args)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		e := exchange{Packet: d}
		for _, f := range frames {
			if f.Binary() {
				e.Ours = append(e.Ours, map[string]any{"$binary": base64.StdEncoding.EncodeToString(f.Payload())})
			} else {
				e.Ours = append(e.Ours, string(f.Payload()[1:]))
			}
		}
		if len(frames) > 1 {
			binary++
		}
		all = append(all, e)
	}
	if binary < 1000 {
		t.Errorf("only %d packets have attachments", binary)
	}
	var results []struct {
		Theirs []any
		Read   []described
	}
	if nodejs.Map(t, modules, codec, all, &results); len(results) != len(all) {
		t.Fatalf("node answers %d of %d", len(results), len(all))
	}
	for i, e := range all {
		want := normal(t, e.Packet)
		if len(results[i].Read) != 1 {
			t.Fatalf("%v: the reference reads %d packets in %v", e.Packet, len(results[i].Read), e.Ours)
		}
		read := results[i].Read[0]
		if read.Type >= int(packet.BinaryEvent) {
			read.Type -= int(packet.BinaryEvent - packet.Event)
		}
		if got := normal(t, read); !reflect.DeepEqual(got, want) {
			t.Fatalf("the reference reads %v in %v, want %v", got, e.Ours, want)
		}
		got, err := understood(results[i].Theirs)
		if err != nil {
			t.Fatalf("%v: what the reference writes is not read: %v: %v", e.Packet, results[i].Theirs, err)
		}
		if got := normal(t, got); !reflect.DeepEqual(got, want) {
			t.Fatalf("%v is read in what the reference writes: %v, want %v", got, results[i].Theirs, want)
		}
	}
}

// understood reads the messages of one packet.
func understood(messages []any) (described, error) {
	text, ok := messages[0].(string)
	if !ok {
		return described{}, fmt.Errorf("the first message is %v", messages[0])
	}
	p, err := packet.Limits{}.Parse([]byte(text))
	if err != nil {
		return described{}, err
	}
	if p.Attachments != len(messages)-1 {
		return described{}, fmt.Errorf("%d attachments are announced, %d come", p.Attachments, len(messages)-1)
	}
	d := described{Type: int(p.Type), Nsp: p.Namespace}
	if p.Type >= packet.BinaryEvent {
		d.Type -= int(packet.BinaryEvent - packet.Event)
	}
	if p.HasID {
		d.ID = &p.ID
	}
	var v any
	if err := json.Unmarshal(p.Data, &v); err != nil {
		return described{}, err
	}
	d.Data = replaced(v, messages[1:]).([]any)
	return d, nil
}

// replaced is v with attachments in the places of the objects that stand for them.
func replaced(v any, attachments []any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = replaced(v[i], attachments)
		}
	case map[string]any:
		raw, _ := json.Marshal(v)
		if n, ok := packet.Placeholder(raw); ok {
			return attachments[n]
		}
		for name := range v {
			v[name] = replaced(v[name], attachments)
		}
	}
	return v
}

// normal is a packet as JSON has it.
func normal(t *testing.T, d described) (v any) {
	t.Helper()
	text, err := json.Marshal(d)
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}
