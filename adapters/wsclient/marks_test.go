package wsclient_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/protocol"
)

// readTo answers a join of a server that keeps marks.
func (a *actor) readTo(r request, seq, read int) {
	a.t.Helper()
	a.ack(r, fmt.Sprintf(`{"room":%q,"seq":%d,"rev":0,"read":%d,"recovered":true,"messages":[],"changes":[]}`, r.Data.Room, seq, read))
}

// joinRead lets the client join "go", which it has read up to a message.
func joinRead(t *testing.T, c *wsclient.Client, a *actor, seq, read int) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		j, err := c.Join(t.Context(), "go")
		if err == nil && j.Read != uint64(read) {
			err = fmt.Errorf("%+v", j)
		}
		done <- err
	}()
	a.readTo(a.expect("join_room"), seq, read)
	require.NoError(t, <-done)
}

// markOf expects a mark, and that it is this one.
func (a *actor) markOf(read uint64) request {
	a.t.Helper()
	r := a.expect("mark")
	require.Equal(a.t, "go", r.Data.Room)
	require.NotNil(a.t, r.Data.Read, "0 is said too")
	require.Equal(a.t, read, *r.Data.Read)
	return r
}

// marking is a mark that is under way.
type marking struct {
	wsclient.Marked
	err error
}

func mark(t *testing.T, c *wsclient.Client, read uint64) chan marking {
	t.Helper()
	done := make(chan marking, 1)
	go func() {
		m, err := c.Mark(t.Context(), "go", read)
		done <- marking{m, err}
	}()
	return done
}

func TestMark(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, _ := s.dial(nil)
	a := s.next()
	joinRead(t, c, a, 9, 4)
	for _, read := range []uint64{0, 6, protocol.MaxInteger} {
		done := mark(t, c, read)
		a.ack(a.markOf(read), `{"room":"go","read":7,"unread":2}`)
		require.Equal(t, marking{wsclient.Marked{Read: 7, Unread: 2}, nil}, <-done)
	}
	done := mark(t, c, 1<<63)
	a.ack(a.markOf(protocol.MaxInteger), `{"room":"go","read":9,"unread":0}`)
	require.NoError(t, (<-done).err, "a number that the server would close the connection for is as good as the largest")

	done = mark(t, c, 8)
	a.say(`{"id":%d,"event":"error","error":{"code":"not_a_member","title":"no"}}`, a.markOf(8).ID)
	var refusal *wsclient.Error
	require.ErrorAs(t, (<-done).err, &refusal)
	require.Equal(t, "not_a_member", refusal.Code)
	require.False(t, refusal.Temporary())
}

// A mark without an answer is sent again on the next connection, once the room is joined.
func TestAMarkOutlivesItsConnection(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, _ := s.dial(nil)
	a := s.next()
	joinRead(t, c, a, 9, 4)
	done := mark(t, c, 6)
	a.markOf(6)
	c.Drop()
	a = s.next()
	a.readTo(a.returns(9, 0), 9, 6)
	a.ack(a.markOf(6), `{"room":"go","read":6,"unread":3}`)
	require.Equal(t, marking{wsclient.Marked{Read: 6, Unread: 3}, nil}, <-done)
}

func TestEventMarked(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, events := s.dial(nil)
	a := s.next()
	joinRead(t, c, a, 9, 4)
	require.Equal(t, wsclient.EventConnected, (<-events).Kind)
	a.say(`{"event":"marked","data":{"room":"elsewhere","user":{"id":"u","name":"U"},"read":1}}`)
	a.say(`{"event":"marked","data":{"room":"go","user":{"id":"u","name":"U"},"read":7}}`)
	require.Equal(t, wsclient.Event{Kind: wsclient.EventMarked, Room: "go", User: wsclient.User{ID: "u", Name: "U"}, Read: 7}, <-events)
	a.say(`{"event":"marked","data":{"room":"go","read":"seven"}}`)
	<-c.Done()
	var closed *wsclient.CloseError
	require.ErrorAs(t, c.Err(), &closed)
	require.Equal(t, 1002, closed.Code)
}

// A server that keeps no marks is sent none. Its events by that name are those of an application.
func TestAServerWithoutMarks(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, events := s.dial(nil)
	a := s.next()
	joinAt(t, c, a, 3, 5)
	require.Equal(t, wsclient.EventConnected, (<-events).Kind)
	a.say(`{"event":"marked","data":{"room":"go","colour":"red"}}`)
	e := <-events
	require.Equal(t, wsclient.EventApplication, e.Kind)
	require.Equal(t, "marked", e.Name)
	require.Equal(t, json.RawMessage(`{"room":"go","colour":"red"}`), e.Data)
	_, err := c.Mark(t.Context(), "go", 3)
	require.ErrorIs(t, err, wsclient.ErrNoMarks)
	settled(t, c, a) // nothing was sent, and the connection goes on

	c.Drop() // and is replaced by a newer one
	a = s.next()
	a.readTo(a.returns(3, 5), 3, 2)
	done := mark(t, c, 3)
	a.ack(a.markOf(3), `{"room":"go","read":3,"unread":0}`)
	require.NoError(t, (<-done).err)

	done = mark(t, c, 0) // and by an older one again
	a.markOf(0)
	c.Drop()
	a = s.next()
	a.here(a.returns(3, 5), 3, 5, nil, nil)
	require.ErrorIs(t, (<-done).err, wsclient.ErrNoMarks)
	settled(t, c, a)
}

// TestMarksOfANode asks a real node, over two clients and a lost connection.
func TestMarksOfANode(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	url := startHub(t)
	dial := func(name string) (*wsclient.Client, chan wsclient.Event) {
		marks := make(chan wsclient.Event, 100)
		c, err := wsclient.Dial(ctx, wsclient.Config{
			URL: url, Token: func(context.Context) (string, error) { return name, nil }, MinPause: time.Millisecond,
			Handle: func(e wsclient.Event) {
				if e.Kind == wsclient.EventMarked {
					marks <- e
				}
			},
		})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		return c, marks
	}
	ada, heardByAda := dial("ada")
	bob, heardByBob := dial("bob")
	for _, c := range []*wsclient.Client{ada, bob} {
		j, err := c.Join(ctx, "go")
		require.NoError(t, err)
		require.Zero(t, j.Read)
	}
	for range 5 {
		_, err := ada.Send(ctx, "go", "x")
		require.NoError(t, err)
	}
	m, err := ada.Mark(ctx, "go", 0)
	require.NoError(t, err)
	require.Equal(t, wsclient.Marked{Read: 5}, m, "what one has sent")
	_, err = ada.Delete(ctx, "go", 4)
	require.NoError(t, err)
	for i, c := range []struct {
		read uint64
		want wsclient.Marked
	}{{2, wsclient.Marked{Read: 2, Unread: 2}}, {1, wsclient.Marked{Read: 2, Unread: 2}}, {1 << 40, wsclient.Marked{Read: 5}}} {
		if i == 1 {
			bob.Drop()
		}
		m, err := bob.Mark(ctx, "go", c.read)
		require.NoError(t, err)
		require.Equal(t, c.want, m)
	}
	user := wsclient.User{ID: "bob", Name: "User bob"}
	for _, read := range []uint64{2, 5} {
		want := wsclient.Event{Kind: wsclient.EventMarked, Room: "go", User: user, Read: read}
		require.Equal(t, want, <-heardByAda)
		if read == 5 { // the other may be lost with the connection
			for e := range heardByBob {
				if e.Read == read {
					require.Equal(t, want, e)
					break
				}
			}
		}
	}
	again, _ := dial("bob")
	j, err := again.Join(ctx, "go")
	require.NoError(t, err)
	require.EqualValues(t, 5, j.Read)
	_, err = bob.Mark(ctx, "elsewhere", 1)
	var refusal *wsclient.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, "not_joined", refusal.Code)
}
