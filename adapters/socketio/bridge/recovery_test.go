package bridge

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
)

func TestAPIDIsItsUsersAlone(t *testing.T) {
	a, b := newPID("ada"), newPID("ada")
	if a == b || len(a) < 40 {
		t.Errorf("%q and %q", a, b)
	}
	if !isPID(a, "ada") || isPID(a, "bob") || isPID(a, "") {
		t.Error("a pid is its user's alone")
	}
	for _, bad := range []string{"", "x", a[1:], a + "A", strings.ToUpper(a), a[:len(a)-1] + "!", strings.Repeat("A", len(a))} {
		if bad != a && isPID(bad, "ada") {
			t.Errorf("%q is taken", bad)
		}
	}
	if id := socketID(a); id != socketID(a) || id == socketID(b) || len(id) != 20 || strings.Contains(a, id) {
		t.Errorf("the socket's id %q of %q", id, a)
	}
}

func TestOffsets(t *testing.T) {
	for _, places := range [][]realtime.Place{
		{{Room: "hall", Seq: 7}}, {{Room: "hall"}, {Room: "attic", Seq: 1 << 63}}, {{Room: "1:2:3", Seq: 1}, {Room: ":", Seq: 2}}, {{Room: `a"b\c,"d"`, Seq: 3}, {Room: "日本 🏠", Seq: 4}},
	} {
		s := formatOffset(places)
		got, ok := parseOffset(s, 1000)
		if !ok || !slices.Equal(got, places) {
			t.Errorf("%q: %v %v, want %v", s, got, ok, places)
		}
		if _, ok := parseOffset(s, len(s)-1); ok {
			t.Errorf("%q is taken beyond the limit", s)
		}
	}
	for _, bad := range []string{"", "1", "1:", "1:4", "1:4:", "1:4:hal", "1:0:", "x:4:hall:", ":4:hall", "-1:4:hall", "1:-4:hall", "1::hall", "1:4:hall1:4:hall", "1:4:hallx", "!:4:hall", "zzzzzzzzzzzzzzz:4:hall", "1:zzzz:hall"} {
		if got, ok := parseOffset(bad, 1000); ok {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

// outgoing keeps what a connection is sent.
type outgoing struct {
	socket.Conn
	frames []*socket.Frame
}

func (o *outgoing) Send(f *socket.Frame) error {
	o.frames = append(o.frames, f)
	return nil
}

func TestTheOffsetNamesEveryRoom(t *testing.T) {
	f := RecoveryFormat(protocol.Own())
	at := time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC)
	event := func(room string, seq uint64) *socket.Frame {
		return f.Event(protocol.Outgoing{
			Schema: protocol.Own().ServerEvent(protocol.EventMessage), Room: room,
			Message: chat.Message{Room: room, Seq: seq, Author: chat.Author{ID: "u1", Name: "Ada"}, Text: "x", At: at},
		})
	}
	joined := func(room string, seq uint64) *socket.Frame {
		c, err := f.Decode([]byte(`2["join_room",{"name":"`+room+`"}]`), false)
		if err != nil {
			t.Fatal(err)
		}
		var o outgoing
		f.Answer(sinkOf{&o}, c, protocol.Answer{Room: room, Seq: seq, Recovered: true})
		if len(o.frames) != 1 {
			t.Fatalf("%d frames", len(o.frames))
		}
		return o.frames[0]
	}
	const message = `{"message":"x","user":"Ada","userId":"u1","created_at":"2026-11-22T20:00:00.000Z"}`
	var out outgoing
	c := &placed{Conn: &out, most: 60}
	for _, step := range []struct {
		frame  *socket.Frame
		want   string
		shared bool
	}{
		{joined("hall", 0), `42["","0:4:hall"]`, true},
		{event("hall", 1), `42["hall",` + message + `,"1:4:hall"]`, true},
		{event("hall", 40), `42["hall",` + message + `,"14:4:hall"]`, true},
		{event("hall", 39), `42["hall",` + message + `,"14:4:hall"]`, false}, // it joined again
		{f.Event(protocol.Outgoing{Schema: protocol.Own().ServerEvent(protocol.EventJoined), Room: "hall", User: chat.Author{Name: "Eve"}}), `42["hall",{"message":"Eve Joined the room!","user":"system","type":"welcome"}]`, true},
		{joined("attic", 3), `42["","14:4:hall3:5:attic"]`, false},
		{event("attic", 4), `42["attic",` + message + `,"14:4:hall4:5:attic"]`, false},
		{event("hall", 41), `42["hall",` + message + `,"15:4:hall4:5:attic"]`, false},
		{joined(`"cellar"`[1:7], 0), `42["",""]`, false}, // more than the limit
		{event("hall", 42), `42["hall",` + message + `,""]`, false},
	} {
		if err := c.Send(step.frame); err != nil {
			t.Fatal(err)
		}
		sent := out.frames[len(out.frames)-1]
		if got := string(sent.Payload()); got != step.want || (sent == step.frame) != step.shared {
			t.Errorf("sent %s (shared %v), want %s (%v)", got, sent == step.frame, step.want, step.shared)
		}
	}
	// Messages that leave in one write.
	c = &placed{Conn: &out, most: 60}
	one := socket.Join(event("hall", 1), event("hall", 2))
	_ = c.Send(one)
	if out.frames[len(out.frames)-1] != one {
		t.Error("a joined frame is not shared")
	}
	_ = c.Send(event("attic", 1))
	_ = c.Send(socket.Join(event("hall", 3), event("hall", 4)))
	var got []string
	for m := range out.frames[len(out.frames)-1].Messages() {
		got = append(got, string(m.Payload()))
	}
	if want := []string{`42["hall",` + message + `,"3:4:hall1:5:attic"]`, `42["hall",` + message + `,"4:4:hall1:5:attic"]`}; !slices.Equal(got, want) {
		t.Errorf("sent %s, want %s", got, want)
	}
	if f.Event(protocol.Outgoing{Schema: protocol.Own().ServerEvent(protocol.EventMessage), Room: "connect", Message: chat.Message{Room: "connect"}}) != nil {
		t.Error("a room that clients cannot hear of has an event")
	}
}

// sinkOf is a connection as a sink of answers.
type sinkOf struct{ *outgoing }

func (s sinkOf) Send(f *socket.Frame) { _ = s.outgoing.Send(f) }

func FuzzOffset(f *testing.F) {
	for _, seed := range []string{"1:4:hall", "0:1:a2:1:b", "1:4:hal", "zz:2:é", "::"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		places, ok := parseOffset(s, 200)
		if !ok {
			return
		}
		if len(places) == 0 || len(s) > 200 {
			t.Fatalf("%q: %v", s, places)
		}
		again, ok := parseOffset(formatOffset(places), 1000)
		if !ok || !slices.Equal(again, places) {
			t.Fatalf("%q: %v became %v", s, places, again)
		}
	})
}
