package socketio_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/adapters/socketio"
	"github.com/parley-chat/parley/adapters/socketio/engineio"
	"github.com/parley-chat/parley/core/socket"
)

// parrot repeats what it hears.
func parrot(gone chan<- string) socketio.Namespace {
	args := func(e *socketio.Event) []any {
		all := make([]any, e.Args.Len())
		for i := range all {
			if b, ok := e.Args.Attachment(e.Args.Raw(i)); ok {
				all[i] = b
			} else {
				all[i] = e.Args.Raw(i)
			}
		}
		return all
	}
	return socketio.Namespace{
		Use: []socketio.Middleware{func(_ context.Context, s *socketio.Socket) error {
			if strings.Contains(string(s.Auth()), "wrong") {
				return &socketio.ConnectError{Message: "no", Data: s.Request().URL.Query().Get("EIO")}
			}
			return nil
		}},
		Connected: func(_ context.Context, s *socketio.Socket) { s.Join("all") },
		Events: map[string]socketio.Handler{
			"say":   func(_ context.Context, e *socketio.Event) { _ = e.Socket.Emit("said", args(e)...) },
			"ask":   func(_ context.Context, e *socketio.Event) { _ = e.Ack(args(e)...) },
			"tell":  func(_ context.Context, e *socketio.Event) { _ = e.Socket.To("all").Emit("told", args(e)...) },
			"leave": func(_ context.Context, e *socketio.Event) { e.Socket.Disconnect() },
			"close": func(_ context.Context, e *socketio.Event) { _ = e.Socket.Emit("last"); e.Socket.Close() },
			"call": func(ctx context.Context, e *socketio.Event) {
				answer, err := e.Socket.Call(ctx, "question", []byte{1, 2, 3})
				_ = e.Ack(answer.Raw(0), fmt.Sprint(err))
			},
		},
		Disconnected: func(_ context.Context, _ *socketio.Socket, why socketio.Reason) {
			if gone != nil {
				gone <- string(why)
			}
		},
	}
}

func TestOverEveryTransport(t *testing.T) {
	everyWay(t, func(t *testing.T, tr, how string) {
		gone := make(chan string, 8)
		url, server, _ := serve(t, tr, socketio.Config{Namespaces: map[string]socketio.Namespace{"/": parrot(gone), "/side": parrot(gone)}})
		a, b := dial(t, url, how), dial(t, url, how)
		a.Say(`0{"token":"wrong"}`)
		a.Hear(`4{"message":"no","data":"4"}`)
		a.Say("0/nowhere,")
		a.Hear(`4/nowhere,{"message":"Invalid namespace"}`)
		a.Connect("0")
		b.Connect("0")
		a.Say(`2["say",1,{"a":"é"}]`)
		a.Hear(`2["said",1,{"a":"é"}]`)
		a.Say(`2456["ask","x"]`)
		a.Hear(`3456["x"]`)
		a.Say(`51-["say",{"_placeholder":true,"num":0}]`, "b:\x00\x01\xff")
		a.Hear(`51-["said",{"_placeholder":true,"num":0}]`, "b:\x00\x01\xff")
		a.Say(`51-7["ask",{"_placeholder":true,"num":0}]`, "b:\x02")
		a.Hear(`61-7[{"_placeholder":true,"num":0}]`, "b:\x02")
		a.Say(`28["call"]`)
		a.Hear(`51-0["question",{"_placeholder":true,"num":0}]`, "b:\x01\x02\x03")
		a.Say(`30["answer"]`)
		a.Hear(`38["answer","\u003cnil\u003e"]`)
		b.Say(`2["tell","hi"]`)
		a.Hear(`2["told","hi"]`)
		if err := server.Of("/").Emit("all", 1); err != nil {
			t.Error(err)
		}
		a.Hear(`2["all",1]`)
		b.Hear(`2["all",1]`)
		a.Connect("0/side,")
		a.Say(`2/side,["say"]`)
		a.Hear(`2/side,["said"]`)
		a.Say(`2["leave"]`)
		a.Hear("1")
		want(t, gone, "server namespace disconnect")
		a.Say("1/side,")
		want(t, gone, "client namespace disconnect")
		a.Connect("0") // and it may come back
		b.Say(`2["close"]`)
		b.Hear(`2["last"]`, "1")
		b.Over()
		want(t, gone, "server namespace disconnect")
		a.Say("nonsense")
		a.Over()
		want(t, gone, "parse error")
	})
}

func want(t *testing.T, gone <-chan string, reason string) {
	t.Helper()
	select {
	case got := <-gone:
		if got != reason {
			t.Errorf("gone by %q, want %q", got, reason)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("nobody is gone by %q", reason)
	}
}

func TestWhoConnectsToNothingIsCut(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: it waits for seconds")
	}
	everyWay(t, func(t *testing.T, tr, how string) {
		url, _, _ := serve(t, tr, socketio.Config{ConnectTimeout: 2 * time.Second, Namespaces: map[string]socketio.Namespace{"/": parrot(nil)}})
		c := dial(t, url, how)
		kept := dial(t, url, "websocket")
		kept.Connect("0")
		c.Over()
		kept.Say(`21["ask"]`)
		kept.Hear("31[]")
	})
}

func TestTheEndOfTheClient(t *testing.T) {
	everyWay(t, func(t *testing.T, tr, how string) {
		gone := make(chan string, 1)
		url, _, _ := serve(t, tr, socketio.Config{Namespaces: map[string]socketio.Namespace{"/": parrot(gone)}})
		c := dial(t, url, how)
		c.Connect("0")
		if c.WS != nil {
			_ = c.WS.Close()
		} else {
			c.Send("1")
		}
		want(t, gone, "transport close")
	})
}

func TestSilenceIsNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: it waits for seconds")
	}
	t.Parallel()
	gone := make(chan string, 1)
	url, _, _ := serve(t, "nbio", socketio.Config{
		Engine:     engineio.Config{PingInterval: 50 * time.Millisecond, PingTimeout: 2 * time.Second}, // which the one who answers needs on a busy machine
		Namespaces: map[string]socketio.Namespace{"/": parrot(gone)},
	})
	mute := dial(t, url, "websocket")
	mute.Connect("0")
	lively := dial(t, url, "polling")
	lively.Connect("0")
	_ = mute.WS.NetConn().SetReadDeadline(time.Now()) // ends its reader, which answers the pings
	want(t, gone, "ping timeout")
	lively.Say(`21["ask"]`)
	lively.Hear("31[]")
}

func TestTheEndOfTheServer(t *testing.T) {
	everyWay(t, func(t *testing.T, tr, how string) {
		gone := make(chan string, 1)
		url, _, stop := serve(t, tr, socketio.Config{Namespaces: map[string]socketio.Namespace{"/": parrot(gone)}})
		c := dial(t, url, how)
		c.Connect("0")
		stop()
		want(t, gone, "server shutting down")
		c.Over() // without a disconnect: it may come back by itself
	})
}

// TestManyEventsKeepTheirOrder holds it over the upgrade too.
func TestManyEventsKeepTheirOrder(t *testing.T) {
	everyWay(t, func(t *testing.T, tr, how string) {
		url, server, _ := serve(t, tr, socketio.Config{Namespaces: map[string]socketio.Namespace{"/": parrot(nil)}})
		c := dial(t, url, how)
		c.Connect("0")
		const many = 200
		go func() {
			for i := range many {
				_ = server.Of("/").Emit("n", i)
			}
		}()
		for i := range many {
			c.Hear(fmt.Sprintf(`2["n",%d]`, i))
		}
	})
}

// TestToldIsTrue holds that a client that was told that it is connected hears every event to all from then on, and one
// that was told that it is disconnected hears none.
func TestToldIsTrue(t *testing.T) {
	everyWay(t, func(t *testing.T, tr, how string) {
		url, server, _ := serve(t, tr, socketio.Config{Namespaces: map[string]socketio.Namespace{"/": {}, "/side": {}}})
		c := dial(t, url, how)
		for range 100 {
			c.Connect("0")
			_ = server.Of("/").Emit("first")
			c.Hear(`2["first"]`)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for range 20 {
					_ = server.Of("/").Emit("again")
				}
			}()
			for c.Next() != `2["again"]` {
			}
			server.Of("/").Disconnect()
			<-ended
			for c.Next() != "1" {
			}
			c.Connect("0/side,")
			server.Of("/side").Disconnect()
			c.Hear("1/side,")
		}
	})
}

func TestConfigOfTheEngineIsChecked(t *testing.T) {
	t.Parallel()
	_, err := socketio.New(socketio.Config{MaxCalls: -1, Engine: engineio.Config{
		Accept: func(*engineio.Session, *http.Request) (socket.Receiver, error) { return nil, nil },
	}})
	if err == nil || !strings.Contains(err.Error(), "Accept is the server's own") || !strings.Contains(err.Error(), "MaxCalls") {
		t.Error(err)
	}
	if _, err := socketio.New(socketio.Config{}); err == nil || !strings.Contains(err.Error(), "Upgrader") {
		t.Error(err)
	}
}

// TestIdentifiers holds that the identifier that others see is not the one that opens the session.
func TestIdentifiers(t *testing.T) {
	t.Parallel()
	url, server, _ := serve(t, "nbio", socketio.Config{})
	var ids []string
	for range 20 {
		c := dial(t, url, "websocket")
		id := c.Connect("0")
		if id == c.SID || slices.Contains(ids, id) {
			t.Errorf("the identifier %s", id)
		}
		ids = append(ids, id)
	}
	var seen []string
	for _, s := range server.Of("/").Sockets() {
		seen = append(seen, s.ID())
	}
	slices.Sort(ids)
	slices.Sort(seen)
	if !slices.Equal(ids, seen) {
		t.Errorf("sockets %v, want %v", seen, ids)
	}
	if b, err := json.Marshal(ids); err != nil || strings.Contains(string(b), "\\") {
		t.Errorf("%s, %v", b, err)
	}
}
