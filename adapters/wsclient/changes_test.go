package wsclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
)

// at is a message with its last change.
type at struct{ seq, rev uint64 }

func states(messages []at) string {
	parts := make([]string, len(messages))
	for i, m := range messages {
		parts[i] = strings.Replace(message(m.seq), `"id"`, fmt.Sprintf(`"rev":%d,"id"`, m.rev), 1)
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// here answers a join.
func (a *actor) here(r request, seq, rev int, messages, changes []at) {
	a.t.Helper()
	a.ack(r, fmt.Sprintf(`{"room":%q,"seq":%d,"rev":%d,"recovered":true,"messages":%s,"changes":%s}`, r.Data.Room, seq, rev, states(messages), states(changes)))
}

// page answers a request for history.
func (a *actor) page(r request, more bool, messages ...at) {
	a.t.Helper()
	a.ack(r, fmt.Sprintf(`{"messages":%s,"more":%t}`, states(messages), more))
}

// tells sends live messages, and changes of messages where there is a rev.
func (a *actor) tells(messages ...at) {
	a.t.Helper()
	for _, m := range messages {
		event := "message"
		if m.rev != 0 {
			event = "changed"
		}
		state := states([]at{m})
		a.say(`{"event":%q,"data":%s}`, event, state[1:len(state)-1])
	}
}

// changedAfter expects a request for changes.
func (a *actor) changedAfter(rev uint64) request {
	a.t.Helper()
	return a.history(nil, &rev)
}

// after expects a request for messages.
func (a *actor) after(seq uint64) request {
	a.t.Helper()
	return a.history(&seq, nil)
}

// history expects a request for messages after a sequence, or for changes after a rev.
func (a *actor) history(after, changedAfter *uint64) request {
	a.t.Helper()
	r := a.expect("history")
	require.Equal(a.t, after, r.Data.After)
	require.Equal(a.t, changedAfter, r.Data.ChangedAfter)
	return r
}

// returns expects a join after a lost connection.
func (a *actor) returns(since, rev uint64) request {
	a.t.Helper()
	r := a.expect("join_room")
	require.Equal(a.t, since, *r.Data.Since)
	require.NotNil(a.t, r.Data.Rev)
	require.Equal(a.t, rev, *r.Data.Rev)
	return r
}

// joinAt lets the client join "go".
func joinAt(t *testing.T, c *wsclient.Client, a *actor, seq, rev int, messages ...at) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		j, err := c.Join(t.Context(), "go")
		if err == nil && j.Rev != uint64(rev) {
			err = fmt.Errorf("%+v", j)
		}
		done <- err
	}()
	r := a.expect("join_room")
	require.Nil(t, r.Data.Rev)
	a.here(r, seq, rev, messages, nil)
	require.NoError(t, <-done)
}

// settled waits until the client has read everything that was said, without asking for anything.
func settled(t *testing.T, c *wsclient.Client, a *actor) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := c.Presence(t.Context(), "go")
		done <- err
	}()
	a.ack(a.expect("presence"), `{"members":[],"count":0}`)
	require.NoError(t, <-done)
}

func TestChanges(t *testing.T) {
	t.Parallel()
	type step = func(*testing.T, *wsclient.Client, *actor, *stage) *actor
	tells := func(messages ...at) step {
		return func(_ *testing.T, _ *wsclient.Client, a *actor, _ *stage) *actor { a.tells(messages...); return a }
	}
	returns := func(since, rev uint64, do func(a *actor, r request)) step {
		return func(t *testing.T, c *wsclient.Client, a *actor, s *stage) *actor {
			settled(t, c, a)
			c.Drop()
			a = s.next()
			do(a, a.returns(since, rev))
			return a
		}
	}
	const gone = "disconnected 1006"
	for name, c := range map[string]struct {
		steps []step // after messages 2 and 3 of a room with 3 messages and 5 changes
		want  []string
	}{
		"each once, in order": {
			[]step{tells(at{3, 6}, at{2, 7}, at{2, 7}, at{3, 6}, at{3, 9}, at{2, 8}, at{3, 10})},
			[]string{"changed go 3 @6", "changed go 2 @7", "changed go 3 @9", "changed go 3 @10"},
		},
		"those before the join are known":           {[]step{tells(at{3, 5}, at{3, 6})}, []string{"changed go 3 @6"}},
		"of a message that is older than the first": {[]step{tells(at{1, 6})}, []string{"changed go 1 @6"}},
		"a message that is delivered with a change": {
			[]step{
				tells(at{5, 0}),
				func(_ *testing.T, _ *wsclient.Client, a *actor, _ *stage) *actor {
					r := a.after(3)
					a.tells(at{2, 6})
					a.page(r, false, at{4, 8}, at{5, 0})
					a.tells(at{4, 7}, at{4, 8}, at{4, 9})
					return a
				},
			},
			[]string{"changed go 2 @6", "go 4 @8", "go 5", "changed go 4 @9"},
		},
		"a change before its message": {
			[]step{
				tells(at{4, 6}),
				func(_ *testing.T, _ *wsclient.Client, a *actor, _ *stage) *actor {
					r := a.after(3)
					a.tells(at{2, 7})
					a.page(r, false, at{4, 0}) // it was read before the change
					a.tells(at{4, 8})
					return a
				},
			},
			[]string{"changed go 2 @7", "go 4 @6", "changed go 4 @8"},
		},
		"a change of a message above a hole": {
			[]step{
				tells(at{6, 0}, at{6, 6}),
				func(_ *testing.T, _ *wsclient.Client, a *actor, _ *stage) *actor {
					a.page(a.after(3), false, at{4, 0}, at{5, 0})
					return a
				},
			},
			[]string{"go 4", "go 5", "go 6 @6"},
		},
		"nothing while away": {
			[]step{
				tells(at{3, 6}), returns(3, 6, func(a *actor, r request) { a.here(r, 3, 6, nil, nil) }), tells(at{3, 7}),
			},
			[]string{"changed go 3 @6", gone, "changed go 3 @7"},
		},
		"a few while away": {
			[]step{
				returns(3, 5, func(a *actor, r request) { a.here(r, 4, 8, []at{{4, 0}}, []at{{3, 6}, {1, 8}}) }),
				tells(at{1, 8}, at{4, 9}),
				returns(4, 9, func(a *actor, r request) { a.here(r, 4, 9, nil, nil) }),
			},
			[]string{gone, "changed go 3 @6", "changed go 1 @8", "go 4", "changed go 4 @9", gone},
		},
		"many while away": {
			[]step{
				returns(3, 5, func(a *actor, r request) {
					a.here(r, 4, 12, []at{{4, 12}}, []at{{3, 6}, {1, 8}})
					h := a.changedAfter(8)
					a.tells(at{3, 13}, at{2, 14}) // which wait
					a.page(h, true, at{2, 10})
					a.page(a.changedAfter(10), false, at{4, 12}, at{3, 13})
				}),
				tells(at{4, 15}),
			},
			[]string{gone, "changed go 3 @6", "changed go 1 @8", "go 4 @12", "changed go 2 @10", "changed go 3 @13", "changed go 2 @14", "changed go 4 @15"},
		},
		"a message that has changed is gone": {
			[]step{
				returns(3, 5, func(a *actor, r request) {
					a.here(r, 3, 9, nil, nil)
					a.page(a.changedAfter(5), false, at{3, 7})
				}),
				tells(at{3, 9}, at{3, 10}),
			},
			[]string{gone, "changed go 3 @7", "changed go 3 @10"},
		},
		"a server that never comes to an end": {
			[]step{
				returns(3, 5, func(a *actor, r request) {
					a.here(r, 3, 9, nil, nil)
					a.page(a.changedAfter(5), true, at{3, 5})
				}),
				tells(at{3, 10}),
			},
			[]string{gone, "changed go 3 @10"},
		},
		// The answer is older than the changes in it: what came between, of messages that are not in it, comes live.
		"changes that were read after the messages of the answer": {
			[]step{
				returns(3, 5, func(a *actor, r request) { a.here(r, 3, 5, nil, []at{{2, 7}}) }),
				tells(at{4, 0}, at{4, 6}, at{2, 7}),
			},
			[]string{gone, "go 4", "changed go 4 @6", "changed go 2 @7"},
		},
		"the connection is lost while they are read": {
			[]step{
				returns(3, 5, func(a *actor, r request) {
					a.here(r, 3, 9, nil, nil)
					a.tells(at{3, 10})
					a.page(a.changedAfter(5), true, at{2, 7})
					a.changedAfter(7)
				}),
				returns(3, 7, func(a *actor, r request) { a.here(r, 3, 10, nil, []at{{1, 9}, {3, 10}}) }),
			},
			[]string{gone, "changed go 2 @7", gone, "changed go 1 @9", "changed go 3 @10"},
		},
		// The server sent message 4 before the answer, and its change in it.
		"a join on a connection that goes on": {
			[]step{func(_ *testing.T, _ *wsclient.Client, a *actor, _ *stage) *actor {
				a.say(`{"event":"resync","data":{"room":"go"}}`)
				r := a.returns(3, 5)
				a.tells(at{4, 0})
				a.here(r, 4, 7, []at{{4, 6}}, []at{{2, 7}})
				a.page(a.changedAfter(5), false, at{4, 6}, at{2, 7})
				return a
			}},
			[]string{"resync go false", "go 4", "changed go 4 @6", "changed go 2 @7"},
		},
		"an answer from before a join on a connection that goes on": {
			[]step{
				tells(at{5, 0}),
				func(_ *testing.T, _ *wsclient.Client, a *actor, _ *stage) *actor {
					h := a.after(3)
					a.say(`{"event":"resync","data":{"room":"go"}}`)
					r := a.returns(3, 5)
					a.page(h, false, at{4, 0}, at{5, 0}) // it was read before message 4 was changed
					a.here(r, 5, 7, []at{{4, 6}, {5, 0}}, []at{{2, 7}})
					a.page(a.changedAfter(5), false, at{4, 6}, at{2, 7})
					return a
				},
			},
			[]string{"resync go false", "go 4", "go 5", "changed go 4 @6", "changed go 2 @7"},
		},
		"messages are waited for while there are changes": {
			[]step{
				tells(at{5, 0}),
				func(_ *testing.T, _ *wsclient.Client, a *actor, _ *stage) *actor { a.after(3); return a },
				returns(3, 5, func(a *actor, r request) {
					a.here(r, 6, 8, []at{{4, 0}}, []at{{3, 8}})
					m, n := a.after(5), a.changedAfter(5)
					a.page(n, false, at{5, 7}, at{3, 8}) // 5 has come without it
					a.page(m, false, at{6, 0})
				}),
			},
			[]string{gone, "go 4", "go 5", "changed go 5 @7", "changed go 3 @8", "go 6"},
		},
		"the room was set back": {
			[]step{
				returns(3, 5, func(a *actor, r request) {
					a.ack(r, `{"room":"go","seq":3,"rev":2,"recovered":false,"messages":[],"changes":[]}`)
				}),
				tells(at{3, 3}),
			},
			[]string{gone, "resync go true", "changed go 3 @3"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			client, events := s.dial(nil)
			a := s.next()
			joinAt(t, client, a, 3, 5, at{2, 4}, at{3, 0})
			for _, do := range c.steps {
				a = do(t, client, a, s)
			}
			settled(t, client, a)
			want(t, events, append([]string{"go 2 @4", "go 3"}, c.want...)...)
			client.Close()
			for len(events) > 0 {
				assert.Contains(t, []wsclient.EventKind{wsclient.EventConnected, wsclient.EventDisconnected}, (<-events).Kind)
			}
		})
	}
}

// TestTheWholeMessageComesWithAChange reads every field.
func TestTheWholeMessageComesWithAChange(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, events := s.dial(nil)
	a := s.next()
	joinAt(t, c, a, 1, 0, at{1, 0})
	want(t, events, "go 1")
	a.say(`{"event":"changed","data":{"room":"go","seq":1,"rev":3,"id":"m1","clientId":"c1","user":{"id":"u","name":"U"},"text":"new",` +
		`"at":"2026-01-02T03:04:05.000006Z","editedAt":"2026-01-02T03:04:06.000006Z","deletedAt":"2026-01-02T03:04:07.000006Z","replyTo":7,` +
		`"data":{"a":1},"reactions":[{"key":"👍","count":3,"users":["x","y"]},{"key":"ok","count":1,"users":[]}]}}`)
	e := <-events
	date := func(second int) time.Time { return time.Date(2026, 1, 2, 3, 4, second, 6000, time.UTC) }
	assert.Equal(t, wsclient.Event{Kind: wsclient.EventChanged, Room: "go", Message: wsclient.Message{
		Room: "go", Seq: 1, Rev: 3, ID: "m1", ClientID: "c1", User: wsclient.User{ID: "u", Name: "U"}, Text: "new",
		At: date(5), EditedAt: date(6), DeletedAt: date(7), ReplyTo: 7, Data: json.RawMessage(`{"a":1}`),
		Reactions: []wsclient.Reaction{{Key: "👍", Count: 3, Users: []string{"x", "y"}}, {Key: "ok", Count: 1, Users: []string{}}},
	}}, e)
	a.say(`{"event":"changed","data":{"room":"elsewhere","seq":1,"rev":4}}`)
	a.say(`{"event":"changed","data":{"room":"go","seq":"one"}}`)
	<-c.Done()
	var closed *wsclient.CloseError
	require.ErrorAs(t, c.Err(), &closed)
	require.Equal(t, 1002, closed.Code)
}

// TestChangesWaitForASlowHandle lets Handle stand still while changes come, of messages that it has and of some that it has not.
func TestChangesWaitForASlowHandle(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	stand, events := make(chan struct{}), make(chan wsclient.Event, 100)
	c, _ := s.dial(func(cfg *wsclient.Config) {
		cfg.Queue = 4
		cfg.Handle = func(e wsclient.Event) {
			<-stand
			events <- e
		}
	})
	a := s.next()
	joinAt(t, c, a, 3, 5, at{1, 0}, at{2, 0}, at{3, 0})
	a.tells(at{1, 6}, at{2, 7}, at{4, 0}, at{4, 8}, at{3, 9})
	settled(t, c, a)
	close(stand)
	m, n := a.after(3), a.expect("history")
	a.page(m, false, at{4, 8})
	require.NotNil(t, n.Data.ChangedAfter)
	var all []at // connected may have been taken out of the queue before or after the first change came
	for _, change := range []at{{1, 6}, {2, 7}, {4, 8}, {3, 9}} {
		if change.rev > *n.Data.ChangedAfter {
			all = append(all, change)
		}
	}
	require.GreaterOrEqual(t, len(all), 3)
	a.page(n, false, all...)
	a.tells(at{4, 10})
	var got []string
	for len(got) < 8 {
		if e := <-events; e.Kind != wsclient.EventConnected {
			got = append(got, fmt.Sprint(e.Message.Seq, " @", e.Message.Rev))
		}
	}
	require.ElementsMatch(t, []string{"1 @0", "2 @0", "3 @0", "1 @6", "4 @8", "2 @7", "3 @9", "4 @10"}, got)
	require.Equal(t, "4 @10", got[7])
}

func TestRequestsThatChangeMessages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(ctx context.Context, c *wsclient.Client) (uint64, error)
		sent string
	}{
		"edit": {
			func(ctx context.Context, c *wsclient.Client) (uint64, error) { return c.Edit(ctx, "go", 3, "new") },
			`{"event":"edit","data":{"room":"go","seq":3,"text":"new"}}`,
		},
		"edit with data": {
			func(ctx context.Context, c *wsclient.Client) (uint64, error) {
				return c.EditData(ctx, "go", 3, "new", map[string]int{"a": 1})
			},
			`{"event":"edit","data":{"room":"go","seq":3,"text":"new","data":{"a":1}}}`,
		},
		"delete": {
			func(ctx context.Context, c *wsclient.Client) (uint64, error) { return c.Delete(ctx, "go", 3) },
			`{"event":"delete","data":{"room":"go","seq":3}}`,
		},
		"react": {
			func(ctx context.Context, c *wsclient.Client) (uint64, error) { return c.React(ctx, "go", 3, "👍") },
			`{"event":"react","data":{"room":"go","seq":3,"key":"👍"}}`,
		},
		"unreact": {
			func(ctx context.Context, c *wsclient.Client) (uint64, error) { return c.Unreact(ctx, "go", 3, "👍") },
			`{"event":"react","data":{"room":"go","seq":3,"key":"👍","on":false}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			client, _ := s.dial(nil)
			a := s.next()
			joinAt(t, client, a, 3, 5)
			type result struct {
				rev uint64
				err error
			}
			done := make(chan result, 1)
			begin := func() {
				rev, err := c.do(t.Context(), client)
				done <- result{rev, err}
			}
			read := func() (id uint64) {
				_, b, err := a.ws.ReadMessage()
				require.NoError(t, err)
				var r map[string]any
				require.NoError(t, json.Unmarshal(b, &r))
				id = uint64(r["id"].(float64))
				delete(r, "id")
				rest, err := json.Marshal(r)
				require.NoError(t, err)
				require.JSONEq(t, c.sent, string(rest))
				return id
			}
			go begin()
			read()
			client.Drop()
			a = s.next() // it is sent again, once the room is joined
			a.here(a.returns(3, 5), 3, 5, nil, nil)
			a.say(`{"id":%d,"event":"ack","data":{"room":"go","seq":3,"rev":6}}`, read())
			require.Equal(t, result{6, nil}, <-done)

			go begin()
			a.say(`{"id":%d,"event":"error","error":{"code":"message_deleted","title":"it is gone"}}`, read())
			var refusal *wsclient.Error
			require.ErrorAs(t, (<-done).err, &refusal)
			require.Equal(t, "message_deleted", refusal.Code)
			require.False(t, refusal.Temporary())
		})
	}
}

// TestChangesThatNoServerTakes are refused before they end the connection.
func TestChangesThatNoServerTakes(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, _ := s.dial(nil)
	a := s.next()
	joinAt(t, c, a, 3, 5)
	ctx := t.Context()
	for name, try := range map[string]func() (uint64, error){
		"no text":        func() (uint64, error) { return c.Edit(ctx, "go", 1, "") },
		"a long text":    func() (uint64, error) { return c.Edit(ctx, "go", 1, strings.Repeat("x", chat.MaxText+1)) },
		"NUL":            func() (uint64, error) { return c.Edit(ctx, "go", 1, "a\x00") },
		"a list as data": func() (uint64, error) { return c.EditData(ctx, "go", 1, "a", []int{1}) },
		"no key":         func() (uint64, error) { return c.React(ctx, "go", 1, "") },
		"a long key":     func() (uint64, error) { return c.Unreact(ctx, "go", 1, strings.Repeat("x", chat.MaxReactionKey+1)) },
	} {
		_, err := try()
		require.ErrorIs(t, err, fault.Invalid, name)
	}
	for _, seq := range []uint64{0, 1 << 53} {
		_, err := c.Edit(ctx, "go", seq, "a")
		require.ErrorIs(t, err, fault.NotFound)
		_, err = c.Delete(ctx, "go", seq)
		require.ErrorIs(t, err, fault.NotFound)
		_, err = c.React(ctx, "go", seq, "+1")
		require.ErrorIs(t, err, fault.NotFound)
	}
	settled(t, c, a) // nothing was sent
}

// TestAnOlderServer knows no changes: nothing of them is sent, and its events are those of an application.
func TestAnOlderServer(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, events := s.dial(nil)
	a := s.next()
	join(t, c, a, 3, 2, 3)
	a.say(`{"event":"changed","data":{"room":"go","colour":"red"}}`)
	a.live(5)
	a.ack(a.after(3), `{"messages":`+list([]uint64{4, 5})+`,"more":false}`)
	want(t, events, "go 2", "go 3", "event changed", "go 4", "go 5")
	_, err := c.Edit(t.Context(), "go", 3, "new")
	require.ErrorIs(t, err, wsclient.ErrNoChanges)
	_, err = c.Unreact(t.Context(), "go", 3, "+1")
	require.ErrorIs(t, err, wsclient.ErrNoChanges)
	c.Drop()
	a = s.next()
	r := a.expect("join_room")
	require.EqualValues(t, 5, *r.Data.Since)
	require.Nil(t, r.Data.Rev)
	a.joined(r, 5, true)
	settled(t, c, a)

	c.Drop() // and is replaced by a newer one
	a = s.next()
	r = a.expect("join_room")
	require.Nil(t, r.Data.Rev)
	a.here(r, 5, 2, nil, nil)
	a.page(a.changedAfter(0), false, at{1, 2})
	a.tells(at{5, 3})
	want(t, events, "disconnected 1006", "disconnected 1006", "changed go 1 @2", "changed go 5 @3")
}

// TestANodeThatIsOlderThanTheLastOne comes in the middle of an upgrade: to it the rev of a join is a bad event.
func TestANodeThatIsOlderThanTheLastOne(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, events := s.dial(nil)
	a := s.next()
	joinAt(t, c, a, 3, 5, at{3, 0})
	done := make(chan error, 1)
	go func() {
		_, err := c.Delete(t.Context(), "go", 3)
		done <- err
	}()
	a.expect("delete")
	c.Drop()
	a = s.next()
	a.returns(3, 5)
	a.close(4400)
	a = s.next()
	r := a.expect("join_room")
	require.Nil(t, r.Data.Rev)
	a.joined(r, 4, true, 4)
	require.ErrorIs(t, <-done, wsclient.ErrNoChanges)
	settled(t, c, a)
	c.Drop()
	a = s.next()
	r = a.expect("join_room")
	require.Nil(t, r.Data.Rev, "it may be older, too")
	a.here(r, 4, 7, nil, nil)
	a.page(a.changedAfter(5), false, at{3, 7})
	want(t, events, "go 3", "disconnected 1006", "disconnected 4400", "go 4", "disconnected 1006", "changed go 3 @7")
	settled(t, c, a)
	a.close(4400) // for another reason
	<-c.Done()
	var closed *wsclient.CloseError
	require.ErrorAs(t, c.Err(), &closed)
	require.Equal(t, 4400, closed.Code)
}

func TestJoinFromAPosition(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rev  int // of the server's room
		play func(a *actor)
		want []string
	}{
		"with what has changed": {
			8,
			func(a *actor) {
				a.page(a.changedAfter(4), true, at{1, 6}, at{4, 7})
				a.page(a.changedAfter(7), false, at{2, 8})
			},
			[]string{"go 4 @7", "changed go 1 @6", "changed go 2 @8"},
		},
		"of a room that was set back": {
			2,
			func(a *actor) {
				r := a.returns(4, 4)
				a.ack(r, `{"room":"go","seq":4,"rev":2,"recovered":false,"messages":[],"changes":[]}`)
				a.tells(at{1, 3})
			},
			[]string{"go 4 @7", "resync go true", "changed go 1 @3"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			client, events := s.dial(nil)
			a := s.next()
			done := make(chan error, 1)
			go func() {
				_, err := client.JoinFrom(t.Context(), "go", wsclient.Position{Seq: 3, Rev: 4})
				done <- err
			}()
			r := a.expect("join_room")
			require.EqualValues(t, 3, *r.Data.Since)
			require.Nil(t, r.Data.Rev, "an older server would take it for a bad event")
			a.here(r, 4, c.rev, []at{{4, 7}}, nil)
			c.play(a)
			require.NoError(t, <-done)
			want(t, events, c.want...)
			settled(t, client, a)
		})
	}
}

// view is what one client makes of what it is told.
type view struct {
	mu       sync.Mutex
	messages []wsclient.Message
	rev      uint64
	wrong    error
	more     chan struct{}
}

func (v *view) handle(e wsclient.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	m, n := e.Message, uint64(len(v.messages))
	switch {
	case v.wrong != nil:
	case e.Kind == wsclient.EventMessage && m.Seq == n+1:
		v.messages = append(v.messages, m)
	case e.Kind == wsclient.EventChanged && m.Rev > v.rev && m.Seq >= 1 && m.Seq <= n && m.Rev > v.messages[m.Seq-1].Rev:
		v.rev = m.Rev
		v.messages[m.Seq-1] = m
	case e.Kind == wsclient.EventMessage, e.Kind == wsclient.EventChanged, e.Kind == wsclient.EventResync && e.Lost:
		v.wrong = fmt.Errorf("after %d messages and rev %d: %+v", n, v.rev, e)
	}
	select {
	case v.more <- struct{}{}:
	default:
	}
}

// TestAViewThatBreaksOff changes messages at random while a client that follows them loses its connection again and again, or
// does not keep up. In the end it has what the server has.
func TestAViewThatBreaksOff(t *testing.T) {
	t.Parallel()
	for i, c := range []struct {
		name          string
		queue, page   int
		inline, stand bool
	}{
		{name: "queue", queue: 1024},
		{name: "inline", inline: true},
		{name: "small pages", queue: 1024, page: 3},
		{name: "slow", queue: 4, stand: true},
		{name: "slow, and small pages", queue: 8, page: 3, stand: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			const writers, steps = 4, 200
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			url, _ := startChat(t, func(cfg *chat.Config) {
				if cfg.MaxPage = c.page; c.page > 0 {
					cfg.Recent = c.page
				}
			}, nil)
			v := &view{more: make(chan struct{}, 1)}
			var gate sync.Mutex
			dial := func(name string, handle func(wsclient.Event)) *wsclient.Client {
				client, err := wsclient.Dial(ctx, wsclient.Config{
					URL: url, Rate: -1, MinPause: 100 * time.Microsecond, MaxPause: time.Millisecond,
					Token: func(context.Context) (string, error) { return name, nil }, Handle: handle, Queue: c.queue, Inline: c.inline,
				})
				require.NoError(t, err)
				t.Cleanup(client.Close)
				_, err = client.JoinSince(ctx, "go", 0)
				require.NoError(t, err)
				return client
			}
			reader := dial("reader", func(e wsclient.Event) {
				gate.Lock() // Handle stands while the test has it
				defer gate.Unlock()
				v.handle(e)
			})
			writer := dial("writer", nil)
			var newest, sends atomic.Uint64
			write := func(random *rand.Rand) error {
				back := random.Uint64N(8)
				if random.IntN(2) == 0 {
					back = random.Uint64()
				}
				last := newest.Load()
				some := last - back%max(1, last)
				key := string(rune('a' + random.IntN(4)))
				var err error
				switch roll := random.IntN(100); {
				case last == 0 || roll < 25:
					var sent wsclient.Sent
					sent, err = writer.Send(ctx, "go", "text")
					sends.Add(1)
					for at := newest.Load(); at < sent.Seq && !newest.CompareAndSwap(at, sent.Seq); at = newest.Load() {
					}
				case roll < 55:
					_, err = writer.EditData(ctx, "go", some, fmt.Sprint(random.Uint64()), map[string]int{"n": random.IntN(9)})
				case roll < 60:
					_, err = writer.Delete(ctx, "go", some)
				case roll < 85:
					_, err = writer.React(ctx, "go", some, key)
				default:
					_, err = writer.Unreact(ctx, "go", some, key)
				}
				if refused := (*wsclient.Error)(nil); errors.As(err, &refused) && refused.Code == "message_deleted" {
					return nil
				}
				return err
			}
			done := make(chan error, writers)
			for n := range uint64(writers) {
				random := rand.New(rand.NewPCG(uint64(i), n))
				go func() {
					standing := false
					var err error
					for at := 0; at < steps && err == nil; at++ {
						err = write(random)
						if n > 0 {
							continue
						}
						switch roll := random.IntN(100); {
						case roll < 25:
							reader.Drop()
						case roll < 28:
							writer.Drop()
						case c.stand && roll < 40 && !standing:
							gate.Lock()
							standing = true
						case roll < 60 && standing:
							gate.Unlock()
							standing = false
						}
					}
					if standing {
						gate.Unlock()
					}
					done <- err
				}()
			}
			for range writers {
				require.NoError(t, <-done)
			}
			var stored []wsclient.Message
			for more := true; more; {
				page, err := writer.History(ctx, "go", wsclient.Range{After: uint64(len(stored)), Limit: 50})
				require.NoError(t, err)
				if len(stored) == 0 && page.Messages[0].Seq != 1 { // without After it has the newest
					page, err = writer.History(ctx, "go", wsclient.Range{Before: 2})
					require.NoError(t, err)
					page.More = true
				}
				stored, more = append(stored, page.Messages...), page.More
			}
			require.Len(t, stored, int(sends.Load()))
			for {
				v.mu.Lock()
				same := assert.ObjectsAreEqual(stored, v.messages)
				wrong := v.wrong
				v.mu.Unlock()
				require.NoError(t, wrong)
				if same {
					break
				}
				select {
				case <-v.more:
				case <-ctx.Done():
					v.mu.Lock()
					defer v.mu.Unlock()
					require.Equal(t, stored, v.messages)
				}
			}
			var revs []uint64 // the changes by themselves lead to the same
			for after, more := uint64(0), true; more; {
				page, err := writer.History(ctx, "go", wsclient.Range{Changed: true, After: after, Limit: 50})
				require.NoError(t, err)
				for _, m := range page.Messages {
					require.Equal(t, stored[m.Seq-1], m)
					revs, after = append(revs, m.Rev), m.Rev
				}
				more = page.More
			}
			require.IsIncreasing(t, revs)
			changed := 0
			for _, m := range stored {
				if m.Rev > 0 {
					changed++
				}
			}
			require.Len(t, revs, changed)
		})
	}
}
