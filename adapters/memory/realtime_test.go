package memory_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

func signal(room string, seq uint64) realtime.Signal {
	return realtime.Signal{Kind: realtime.SignalMessage, Room: room, Message: chat.Message{Room: room, Seq: seq}}
}

func TestFanoutToItselfIsAFunctionCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fanout := memory.NewFanout()
		here, there := fanout.Node(), fanout.Node()
		ctx, cancel := context.WithCancel(t.Context())
		var got, gotThere []uint64 // without locks: synctest.Wait stands between the goroutines
		go func() {
			_ = here.Run(ctx, func(s realtime.Signal) {
				got = append(got, s.Message.Seq)
				if s.Message.Seq == 2 {
					assert.NoError(t, here.Publish(ctx, signal("r", 20)))
				}
			})
		}()
		go func() { _ = there.Run(ctx, func(s realtime.Signal) { gotThere = append(gotThere, s.Message.Seq) }) }()
		require.NoError(t, here.Follow(ctx, "r"))
		require.NoError(t, there.Follow(ctx, "r"))
		synctest.Wait()
		for seq := range uint64(4) {
			require.NoError(t, here.Publish(ctx, signal("r", seq)))
			require.NoError(t, here.Publish(ctx, signal("nobody's", seq)))
		}
		assert.Equal(t, []uint64{0, 1, 2, 20, 3}, got, "delivered by this goroutine")
		synctest.Wait()
		assert.Equal(t, got, gotThere)
		cancel()
		synctest.Wait()
	})
}

func TestFanoutKeepsSignalsForRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		node := memory.NewFanout().Node()
		require.NoError(t, node.Follow(t.Context(), "r"))
		const sent, kept = 5000, 5000 - 2048
		for seq := uint64(1); seq <= sent; seq++ {
			require.NoError(t, node.Publish(t.Context(), signal("r", seq)))
		}
		ctx, cancel := context.WithCancel(t.Context())
		var got []uint64
		go func() {
			_ = node.Run(ctx, func(s realtime.Signal) {
				got = append(got, s.Message.Seq)
				if s.Message.Seq == sent-10 { // it comes after what waits
					assert.NoError(t, node.Publish(ctx, signal("r", sent+1)))
				}
			})
		}()
		synctest.Wait()
		assert.Len(t, got, kept+1)
		assert.IsIncreasing(t, got)
		assert.EqualValues(t, sent+1, got[len(got)-1])
		cancel()
		synctest.Wait()
		require.NoError(t, node.Publish(t.Context(), signal("r", sent+2)))
		assert.Len(t, got, kept+1, "nobody runs")
	})
}

func TestFanoutRunWaitsForDeliver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		node := memory.NewFanout().Node()
		require.NoError(t, node.Follow(t.Context(), "r"))
		ctx, cancel := context.WithCancel(t.Context())
		release, returned := make(chan struct{}), make(chan error, 1)
		go func() { returned <- node.Run(ctx, func(realtime.Signal) { <-release }) }()
		synctest.Wait()
		assert.Error(t, node.Run(ctx, func(realtime.Signal) {}), "one Run at a time")
		go func() { _ = node.Publish(t.Context(), signal("r", 1)) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		assert.Empty(t, returned)
		close(release)
		assert.NoError(t, <-returned)
		assert.NoError(t, node.Run(ctx, func(realtime.Signal) {}), "it may run again")
	})
}

func TestPresenceOfALargeRoom(t *testing.T) {
	t.Parallel()
	const users = 15_000
	p := memory.NewPresence()
	author := func(i int) chat.Author { return chat.Author{ID: user.ID(fmt.Sprintf("u%05d", i*7919%users))} }
	for i := range users {
		first, err := p.Enter(t.Context(), start, "node", "r", author(i))
		require.NoError(t, err)
		require.True(t, first)
	}
	page, count, err := p.List(t.Context(), start, "r", 3)
	require.NoError(t, err)
	assert.Equal(t, users, count)
	assert.Equal(t, []chat.Author{{ID: "u00000"}, {ID: "u00001"}, {ID: "u00002"}}, page)
	page[0].ID = "spoilt"
	page, count, err = p.List(t.Context(), start, "r", 0)
	require.NoError(t, err)
	assert.Equal(t, users, count)
	assert.Empty(t, page)
	for i := range users {
		last, err := p.Exit(t.Context(), start, "node", "r", author(i))
		require.NoError(t, err)
		require.True(t, last)
	}
	_, count, err = p.List(t.Context(), start, "r", 3)
	require.NoError(t, err)
	assert.Zero(t, count)
}

func TestPresenceMergesNodes(t *testing.T) {
	t.Parallel()
	p := memory.NewPresence()
	for node, ids := range map[string]string{"a": "123", "b": "2356", "c": "4"} {
		for _, id := range ids {
			_, err := p.Enter(t.Context(), start, node, "r", chat.Author{ID: user.ID(id)})
			require.NoError(t, err)
		}
	}
	list := func(now time.Time, limit int) (ids string, count int) {
		users, count, err := p.List(t.Context(), now, "r", limit)
		require.NoError(t, err)
		for _, u := range users {
			ids += string(u.ID)
		}
		return ids, count
	}
	for _, c := range []struct {
		limit int
		want  string
	}{{10, "123456"}, {6, "123456"}, {2, "12"}, {0, ""}} {
		ids, count := list(start, c.limit)
		assert.Equal(t, c.want, ids)
		assert.Equal(t, 6, count)
	}
	_, err := p.Renew(t.Context(), realtime.Renewal{Node: "b", Until: start})
	require.NoError(t, err)
	ids, count := list(start, 10)
	assert.Equal(t, "1234", ids, "a lease that ends now does not last")
	assert.Equal(t, 4, count)
}

func TestAuthenticator(t *testing.T) {
	t.Parallel()
	a := memory.NewAuthenticator()
	who := user.Identity{UserID: "u", Name: "Ada", SessionID: "s"}
	a.AllowToken("token", who)
	a.AllowTicket("ticket", who)
	for range 2 {
		got, err := a.Token(t.Context(), "token")
		require.NoError(t, err)
		assert.Equal(t, who, got)
	}
	_, err := a.Ticket(t.Context(), "token")
	assert.ErrorIs(t, err, fault.Unauthenticated)
	got, err := a.Ticket(t.Context(), "ticket")
	require.NoError(t, err)
	assert.Equal(t, who, got)
	_, err = a.Ticket(t.Context(), "ticket")
	assert.ErrorIs(t, err, fault.Unauthenticated)
	a.RefuseToken("token")
	_, err = a.Token(t.Context(), "token")
	assert.ErrorIs(t, err, fault.Unauthenticated)
}
