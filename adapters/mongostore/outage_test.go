package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit/servers"
)

// The server is killed twice under load. Callers try again, as the port says, and in the end
// everything that was acknowledged is there, once, with the number that was acknowledged.
func TestServerIsKilledUnderLoad(t *testing.T) {
	t.Parallel()
	server := servers.StartMongo(t)
	stores := []*mongostore.Store{at(t, server.URL), at(t, server.URL)}
	const workers, enough = 3, 15 // batches that each worker must have stored after the last restart

	var restarted atomic.Bool
	var acknowledged, failures atomic.Int64
	var mu sync.Mutex
	stored := map[string]uint64{} // by message id
	var registered []string
	var wg sync.WaitGroup
	for i, s := range stores {
		for w := range workers {
			wg.Go(func() {
				for n, after := 0, 0; after < enough; n++ {
					batch := messages("r", ((i*workers)+w)*1_000_000+n*5, 5)
					batch[4].Room = fmt.Sprintf("own %d-%d", i, w)
					id := fmt.Sprintf("%d-%d-%d", i, w, n)
					person := user.User{ID: user.ID(id), FullName: "x", Email: user.Email(id)}
					for {
						ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
						got, err := s.Messages().Append(ctx, batch)
						if err == nil {
							// The answer to a lost write is an error, and then a repetition.
							err = s.Users().Create(ctx, person, event.Event{ID: id, Time: noon})
						}
						cancel()
						if errors.Is(err, user.ErrEmailTaken) {
							err = nil
						}
						if err != nil {
							if !assert.ErrorIs(t, err, fault.Unavailable) {
								return
							}
							failures.Add(1)
							continue
						}
						mu.Lock()
						for _, m := range got {
							stored[m.ID] = m.Seq
						}
						registered = append(registered, id)
						mu.Unlock()
						break
					}
					acknowledged.Add(1)
					if restarted.Load() {
						after++
					}
				}
			})
		}
	}
	for range 2 {
		before := acknowledged.Load()
		require.Eventually(t, func() bool { return acknowledged.Load() >= before+20 }, 60*time.Second, time.Millisecond)
		server.Kill(t)
		server.Restart(t)
	}
	restarted.Store(true)
	wg.Wait()
	assert.Positive(t, failures.Load(), "nobody noticed the outage")

	s := at(t, server.URL)
	total := 0
	rooms := []string{"r"}
	for i := range stores {
		for w := range workers {
			rooms = append(rooms, fmt.Sprintf("own %d-%d", i, w))
		}
	}
	for _, room := range rooms {
		ids := idsOf(t, s, room)
		for i, id := range ids {
			require.EqualValues(t, i+1, stored[id], "%s has another number than was acknowledged", id)
		}
		total += len(ids)
	}
	assert.Equal(t, len(stored), total, "messages that were acknowledged, and that are stored")
	pending, err := s.Outbox().Pending(t.Context(), 1_000_000)
	require.NoError(t, err)
	events := map[string]int{}
	for _, ev := range pending {
		events[ev.ID]++
	}
	for _, id := range registered {
		require.Equal(t, 1, events[id], "the event of %s", id)
		_, err := s.Users().ByID(t.Context(), user.ID(id))
		require.NoError(t, err)
	}
}

// A server that stops in the middle of anything: calls end with their context.
func TestServerIsFrozen(t *testing.T) {
	t.Parallel()
	server := servers.StartMongo(t)
	s := at(t, server.URL)
	require.NoError(t, s.Users().Create(t.Context(), user.User{ID: "u", FullName: "x", Email: "e"}))
	_, err := s.Messages().Append(t.Context(), messages("r", 0, 1))
	require.NoError(t, err)

	// Frozen between reading and writing.
	soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	_, err = s.Users().Update(soon, "u", func(u *user.User) error {
		u.FullName = "changed"
		server.Freeze(t)
		return nil
	}, event.Event{ID: "e", Time: noon})
	cancel()
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	server.Thaw(t)
	u, err := s.Users().ByID(t.Context(), "u")
	require.NoError(t, err)
	assert.Equal(t, "x", u.FullName, "the clock was read first, and the server was frozen then")

	// Frozen before anything: more calls than there are connections, and contexts that are cancelled.
	server.Freeze(t)
	for _, end := range []func() (context.Context, context.CancelFunc){
		func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), 300*time.Millisecond)
		},
		func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(300*time.Millisecond, cancel)
			return ctx, cancel
		},
	} {
		ctx, cancel := end()
		var wg sync.WaitGroup
		for name, call := range everyCall(s) {
			wg.Go(func() { assert.ErrorIs(t, call(ctx), fault.Unavailable, name) })
		}
		_, err = mongostore.Open(ctx, server.URL, mongostore.Config{})
		require.ErrorIs(t, err, fault.Unavailable)
		wg.Wait()
		cancel()
	}
	// A server that does not answer does not keep Open waiting, either.
	_, err = mongostore.Open(t.Context(), server.URL, mongostore.Config{ConnectTimeout: 300 * time.Millisecond})
	require.ErrorIs(t, err, mongostore.ErrUnreachable)

	server.Thaw(t)
	got, err := s.Messages().Append(t.Context(), messages("r", 0, 2))
	require.NoError(t, err)
	assert.EqualValues(t, 2, got[1].Seq)
	assert.Len(t, idsOf(t, s, "r"), 2)

	server.Kill(t)
	dead, err := mongostore.Open(t.Context(), server.URL, mongostore.Config{ConnectTimeout: 100 * time.Millisecond})
	require.ErrorIs(t, err, mongostore.ErrUnreachable)
	require.Nil(t, dead)
	soon, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	for name, call := range everyCall(s) {
		assert.ErrorIs(t, call(soon), fault.Unavailable, name)
	}
}
