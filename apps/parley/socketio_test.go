package main_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/testkit/nodejs"
)

// TestStockSocketIOClient lets the stock client of npm, as the old front ends have it, tell the whole old story to the program, over
// each transport. To repeat it: go test ./apps/parley -run TestStockSocketIOClient -count=20.
func TestStockSocketIOClient(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: it takes ten seconds")
	}
	t.Parallel()
	modules := nodejs.Modules(t, "socket.io-client")
	for _, transport := range []string{"nbio", "net"} {
		for _, recovery := range []string{"on", "off"} {
			t.Run(transport+", recovery "+recovery, func(t *testing.T) {
				t.Parallel()
				w := &world{t: t, address: freeAddress(t), data: t.TempDir(), args: []string{"--transport", transport, "--socketio-recovery", recovery}}
				w.serve()
				story := &story{world: w, members: map[string]grant{}}
				script := filepath.Join("..", "internal", "conformance", "socketio", "node", "story.js")
				nodejs.Play(t, modules, script, map[string]string{"url": w.server.url, "recovery": recovery}, 10*time.Minute, map[string]nodejs.Answer{
					"member": story.member, "sign out": story.signOut, "kill": story.kill, "stop": story.stop, "start": story.start,
					"native": story.native, "native says": story.nativeSays, "native heard": story.nativeHeard,
					"native marks": story.nativeMarks, "native types": story.nativeTypes, "native sees typing": story.nativeSeesTyping,
				})
				w.server.sound(t)
			})
		}
	}
}

// story is what a script may ask for.
type story struct {
	*world
	members map[string]grant

	client *wsclient.Client // who speaks parley.v1
	room   string
	events chan wsclient.Event
}

func (s *story) member(t *testing.T, args json.RawMessage) any {
	name := decode[string](t, args)
	g, ok := s.members[name]
	if !ok {
		g = s.server.member(t, name)
		s.members[name] = g
	}
	return map[string]string{"token": g.AccessToken, "id": g.User.ID, "name": name}
}

func (s *story) signOut(t *testing.T, args json.RawMessage) any {
	must(t, 204, "POST", s.server.url+"/auth/signout/all", decode[string](t, args), nil)
	return nil
}

func (s *story) kill(*testing.T, json.RawMessage) any {
	s.server.kill()
	return nil
}

func (s *story) stop(t *testing.T, _ json.RawMessage) any {
	s.server.stop(t, os.Interrupt)
	return nil
}

func (s *story) start(*testing.T, json.RawMessage) any {
	s.serve()
	return nil
}

// native lets somebody in who speaks parley.v1, until the case ends.
func (s *story) native(t *testing.T, args json.RawMessage) any {
	who := decode[struct{ Token, Room string }](t, args)
	s.room, s.events = who.Room, make(chan wsclient.Event, 1024)
	events := s.events
	s.client = s.server.connect(t, who.Token, func(e wsclient.Event) { events <- e })
	_, err := s.client.Join(t.Context(), s.room)
	require.NoError(t, err)
	return nil
}

func (s *story) nativeSays(t *testing.T, args json.RawMessage) any {
	_, err := s.client.Send(t.Context(), s.room, decode[string](t, args))
	require.NoError(t, err)
	return nil
}

// next is the next event of a kind.
func (s *story) next(t *testing.T, kind wsclient.EventKind) wsclient.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		select {
		case e := <-s.events:
			if e.Kind == kind {
				return e
			}
		case <-ctx.Done():
			t.Fatalf("no event of kind %d came", kind)
		}
	}
}

// nativeHeard is the name, the user and the text of so many messages.
func (s *story) nativeHeard(t *testing.T, args json.RawMessage) any {
	heard := make([][3]string, decode[int](t, args))
	for i := range heard {
		m := s.next(t, wsclient.EventMessage).Message
		heard[i] = [3]string{m.User.Name, m.User.ID, m.Text}
	}
	return heard
}

// nativeMarks says that everything was read, and returns how much that is once everybody in the room was told.
func (s *story) nativeMarks(t *testing.T, _ json.RawMessage) any {
	m, err := s.client.Mark(t.Context(), s.room, protocol.MaxInteger)
	require.NoError(t, err)
	require.Equal(t, m.Read, s.next(t, wsclient.EventMarked).Read)
	return m.Read
}

func (s *story) nativeTypes(t *testing.T, _ json.RawMessage) any {
	require.NoError(t, s.client.Typing(t.Context(), s.room, true))
	return nil
}

func (s *story) nativeSeesTyping(t *testing.T, _ json.RawMessage) any {
	e := s.next(t, wsclient.EventTyping)
	require.True(t, e.Typing)
	return e.User.ID
}
