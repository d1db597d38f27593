package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

func TestNewHubNamesEverythingThatIsMissing(t *testing.T) {
	_, err := realtime.NewHub(realtime.HubConfig{MaxQueued: -1})
	for _, want := range []string{"Chat", "Fanout", "Presence", "MaxQueued"} {
		assert.ErrorContains(t, err, want)
	}
}

func TestTalk(t *testing.T) {
	n := start(t, nil)
	ada, bob := n.connect("ada"), n.connect("bob")
	assert.Equal(t, joinAck{Room: "hall", Recovered: true, Messages: []wireMessage{}}, ada.join("hall"))
	bob.join("hall")
	assert.JSONEq(t, `{"room":"hall","user":{"id":"u-bob","name":"bob"}}`, string(ada.until("joined").Data))
	acked := ada.say("hall", "hello")
	assert.EqualValues(t, 1, acked.Seq)
	var got wireMessage
	require.NoError(t, json.Unmarshal(bob.until("message").Data, &got))
	assert.Equal(t, wireMessage{Room: "hall", Seq: 1, ID: acked.ID, Text: "hello", At: acked.At, User: struct{ ID, Name string }{"u-ada", "ada"}}, got)
	require.NoError(t, json.Unmarshal(ada.until("message").Data, &got), "the sender gets it too")
	bob.gone()
	assert.JSONEq(t, `{"room":"hall","user":{"id":"u-bob","name":"bob"}}`, string(ada.until("left").Data))
}

func TestOneFrameServesAllReceivers(t *testing.T) {
	n := start(t, nil)
	var members []*end
	for i := range 300 {
		m := n.connect(fmt.Sprint("m", i))
		m.join("hall")
		members = append(members, m)
	}
	members[0].emit("message", map[string]any{"room": "hall", "text": "x"})
	frames := map[*socket.Frame]bool{}
	for _, m := range members {
		for {
			f := <-m.frames
			if strings.Contains(string(f.Payload()), `"event":"message"`) {
				frames[f] = true
				break
			}
		}
	}
	assert.Len(t, frames, 1)
}

func TestSendingAgainHasTheSameAnswerAndNoSecondMessage(t *testing.T) {
	n := start(t, nil)
	ada, bob := n.connect("ada"), n.connect("bob")
	ada.join("hall")
	bob.join("hall")
	data := map[string]any{"room": "hall", "text": "x", "clientId": "c1"}
	first, again := ada.ask("message", data), ada.ask("message", data)
	assert.JSONEq(t, string(first.Data), string(again.Data))
	ada.say("hall", "y")
	assert.Equal(t, "1", seqOf(t, bob.until("message")))
	assert.Equal(t, "2", seqOf(t, bob.until("message")), "nothing in between")
}

// A message may have been stored by a node that died, or whose store did not answer in time, so that
// nobody heard of it.
func TestAMessageThatWasStoredUnheardIsHeardWhenItIsSentAgain(t *testing.T) {
	n := start(t, nil)
	ada, bob := n.connect("ada"), n.connect("bob")
	ada.join("hall")
	bob.join("hall")
	_, err := n.backing.messages.Append(t.Context(), []chat.Message{{Room: "hall", ID: "m1", ClientID: "c1", Text: "x", Author: chat.Author{ID: "u-ada", Name: "ada"}}})
	require.NoError(t, err)
	ada.ask("message", map[string]any{"room": "hall", "text": "x", "clientId": "c1"})
	assert.Equal(t, "1", seqOf(t, bob.until("message")))
}

func TestRevoke(t *testing.T) {
	c := newClock()
	n := start(t, func(cfg *realtime.HubConfig) { cfg.Now = c.now })
	one, two, other := n.connect("ada"), n.connect("ada"), n.connect("bob")
	n.Revoke("u-ada", "s-ada", c.now().Add(time.Minute))
	one.closedWith(socket.CloseUnauthenticated)
	two.closedWith(socket.CloseUnauthenticated)
	who := user.Identity{UserID: "u-ada", SessionID: "s-ada"}
	_, err := n.Accept(newConn(), socket.Hello{Identity: who})
	assert.ErrorIs(t, err, fault.Unauthenticated)
	other.join("hall")
	c.advance(61 * time.Second)
	_, err = n.Accept(newConn(), socket.Hello{Identity: who})
	assert.NoError(t, err, "the session's tokens have expired by themselves")
}

func TestDrain(t *testing.T) {
	n := start(t, nil)
	ada, bob := n.connect("ada"), n.connect("bob")
	ada.join("hall")
	require.NoError(t, n.Drain(t.Context()))
	ada.closedWith(socket.CloseServiceRestart)
	bob.closedWith(socket.CloseServiceRestart)
	assert.True(t, n.Draining())
	assert.Zero(t, n.Connections())
	_, err := n.Accept(newConn(), socket.Hello{})
	assert.ErrorIs(t, err, socket.ErrDraining)
	require.NoError(t, n.Drain(t.Context()), "twice is harmless")
}

// Clients of a node that ends come to others as their connections close: not all at once, and those that are
// still open are served.
func TestDrainSpreadsWhatItCloses(t *testing.T) {
	const all = 100
	tests := map[string]struct {
		rate    int
		timeout time.Duration // of the context; 0 is none
		want    time.Duration // until the last one is closed
	}{
		"at the rate":                       {rate: 25, want: 4 * time.Second},
		"within the time that there is":     {rate: 25, timeout: time.Second, want: 600 * time.Millisecond},
		"at once, if nothing bounds it":     {rate: -1},
		"at once, if few are there":         {rate: 40_000},
		"at once, if there is no time left": {rate: 25, timeout: time.Nanosecond},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := start(t, func(cfg *realtime.HubConfig) { cfg.DrainRate = tc.rate })
				ends := make([]*end, all)
				for i := range ends {
					ends[i] = n.connect(fmt.Sprint("user", i))
				}
				ctx := t.Context()
				if tc.timeout > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tc.timeout)
					defer cancel()
				}
				begun := time.Now()
				drained := make(chan error, 1)
				go func() { drained <- n.Drain(ctx) }()
				if tc.want > 0 {
					for _, part := range []int{4, 2} { // a quarter, then half
						time.Sleep(time.Until(begun.Add(tc.want / time.Duration(part))))
						synctest.Wait()
						left := n.Connections()
						assert.InDelta(t, all-all/part, left, 2, "after 1/%d of the time", part)
						for _, e := range ends { // one that is left is served
							select {
							case <-e.ended:
								continue
							default:
							}
							assert.Equal(t, "ack", e.ask("join_room", map[string]any{"room": "hall"}).Event)
							break
						}
					}
				}
				require.NoError(t, <-drained)
				assert.InDelta(t, tc.want, time.Since(begun), float64(20*time.Millisecond))
				for _, e := range ends {
					e.closedWith(socket.CloseServiceRestart)
				}
			})
		})
	}
}

func TestDrainClosesTwoThousandASecondByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, func(*realtime.HubConfig) {})
		ends := make([]*end, 400)
		for i := range ends {
			ends[i] = n.connect(fmt.Sprint("user", i))
		}
		begun := time.Now()
		require.NoError(t, n.Drain(t.Context()))
		assert.InDelta(t, 200*time.Millisecond, time.Since(begun), float64(20*time.Millisecond))
		for _, e := range ends {
			e.closedWith(socket.CloseServiceRestart)
		}
	})
}

func TestDrainClosesTheRestWhenItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := start(t, func(cfg *realtime.HubConfig) { cfg.DrainRate = 1 })
		ends := []*end{n.connect("ada"), n.connect("bob"), n.connect("eve")}
		ctx, cancel := context.WithCancel(t.Context())
		drained := make(chan error, 1)
		go func() { drained <- n.Drain(ctx) }()
		synctest.Wait()
		assert.Equal(t, 3, n.Connections())
		cancel()
		assert.ErrorIs(t, <-drained, context.Canceled)
		for _, e := range ends {
			e.closedWith(socket.CloseServiceRestart)
		}
	})
}
