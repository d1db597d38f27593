package socketio_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/parley-chat/parley/adapters/socketio"
	"github.com/parley-chat/parley/adapters/socketio/engineio"
)

// introduced is the parrot, which tells each socket what it gave when it connected.
func introduced() socketio.Namespace {
	ns := parrot(nil)
	ns.Connected = func(_ context.Context, s *socketio.Socket) {
		auth := s.Auth()
		if auth == nil {
			auth = json.RawMessage("{}")
		}
		_ = s.Emit("auth", auth)
	}
	return ns
}

func TestConnectingOverEveryTransport(t *testing.T) {
	everyWay(t, func(t *testing.T, tr, how string) {
		url, _, _ := serve(t, tr, socketio.Config{Namespaces: map[string]socketio.Namespace{"/": introduced(), "/custom": introduced()}})
		for packet, want := range map[string]string{
			"0": `2["auth",{}]`, `0{"token":"123"}`: `2["auth",{"token":"123"}]`, "0/,": `2["auth",{}]`,
			"0/custom,": `2/custom,["auth",{}]`, "0/custom": `2/custom,["auth",{}]`, `0/custom,{"token":"abc"}`: `2/custom,["auth",{"token":"abc"}]`,
		} {
			c := dial(t, url, how)
			if id := c.Connect(packet); id == "" || id == c.SID {
				t.Errorf("%s: the id %q", packet, id)
			}
			c.Hear(want)
		}
		c := dial(t, url, how)
		c.Say("0/random")
		c.Hear(`4/random,{"message":"Invalid namespace"}`)
		c.Connect("0") // the session goes on
	})
}

func TestLeavingOverEveryTransport(t *testing.T) {
	everyWay(t, func(t *testing.T, tr, how string) {
		url, _, _ := serve(t, tr, socketio.Config{
			Engine:     engineio.Config{PingInterval: 50 * time.Millisecond},
			Namespaces: map[string]socketio.Namespace{"/": introduced(), "/custom": introduced()},
		})
		c := dial(t, url, how)
		c.Connect("0")
		c.Hear(`2["auth",{}]`)
		c.Connect("0/custom")
		c.Hear(`2/custom,["auth",{}]`)
		c.Say("1/custom", `2["say","to the main namespace"]`)
		c.Hear(`2["said","to the main namespace"]`)
		c.Say("1", "0/custom,")
		if got := c.Next(); got[:len("0/custom,")] != "0/custom," {
			t.Errorf("heard %q", got)
		}
		c.Hear(`2/custom,["auth",{}]`)
	})
}

// TestFormatsThatAreWrongEndTheSession holds it over the wire, with a session before and after it connects.
func TestFormatsThatAreWrongEndTheSession(t *testing.T) {
	everyWay(t, func(t *testing.T, tr, how string) {
		gone := make(chan string, 1)
		url, _, _ := serve(t, tr, socketio.Config{Namespaces: map[string]socketio.Namespace{"/": parrot(gone)}})
		for _, packet := range []string{"abc", "2{}", `2abc["ask",1,"2",{"3":[false]}]`, "7", "", `2["say"`, "3[]", `4{"message":"x"}`} {
			c := dial(t, url, how)
			c.Say(packet)
			c.Over()

			c = dial(t, url, how)
			c.Connect("0")
			c.Say(packet)
			c.Over()
			want(t, gone, "parse error")
		}
	})
}
