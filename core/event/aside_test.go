package event_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/user"
)

// asides returns a service over an outbox in which n events were set aside, every third of another topic.
func asides(t *testing.T, n int, replayed func()) (*event.AsideService, *memory.Store) {
	t.Helper()
	s := memory.NewStore()
	for i := range n {
		e := event.Event{ID: fmt.Sprintf("e%04d", i), Topic: "mail", Type: "user.created", Key: "k", Data: []byte(`{}`)}
		if i%3 == 2 {
			e.Topic = "session"
		}
		id := fmt.Sprint("u", i)
		require.NoError(t, s.Users.Create(t.Context(), user.User{ID: user.ID(id), Email: user.Email(id)}, e))
		require.NoError(t, s.Outbox.SetAside(t.Context(), e.ID, "too large"))
	}
	service, err := event.NewAsideService(event.AsideConfig{Asides: s.Asides, Replayed: replayed})
	require.NoError(t, err)
	return service, s
}

func TestAsidesAreReplayed(t *testing.T) {
	t.Parallel()
	woken := 0
	service, store := asides(t, 4, func() { woken++ })
	require.NoError(t, service.Replay(t.Context(), "e0001"))
	require.Equal(t, 1, woken)
	require.ErrorIs(t, service.Replay(t.Context(), "e0001"), event.ErrNotAside)
	require.ErrorIs(t, service.Discard(t.Context(), "nobody"), event.ErrNotAside)
	_, err := service.Get(t.Context(), "e0001")
	require.ErrorIs(t, err, event.ErrNotAside)
	require.NoError(t, service.Discard(t.Context(), "e0002"))
	require.Equal(t, 1, woken, "only a replay wakes the relay")
	pending, err := store.Outbox.Pending(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, pending, 1)

	list, err := service.List(t.Context(), event.Filter{})
	require.NoError(t, err)
	require.Len(t, list, 2)
	_, err = service.List(t.Context(), event.Filter{Limit: 1001})
	require.ErrorIs(t, err, event.ErrFilterInvalid)
	_, err = service.ReplayAll(t.Context(), event.Filter{Limit: -1}, false)
	require.ErrorIs(t, err, event.ErrFilterInvalid)
}

// TestAllAsidesAreReplayed over more than a page, by a filter, and as a dry run.
func TestAllAsidesAreReplayed(t *testing.T) {
	t.Parallel()
	const n = 2500
	woken := 0
	service, store := asides(t, n, func() { woken++ })
	left := func() int {
		kept := 0
		f := event.Filter{Limit: 1000}
		for {
			page, err := service.List(t.Context(), f)
			require.NoError(t, err)
			kept += len(page)
			if len(page) < f.Limit {
				return kept
			}
			f.After = page[len(page)-1].Event.ID
		}
	}
	start := left()
	require.Equal(t, 1024, start, "the memory store keeps the newest")
	ids, err := service.ReplayAll(t.Context(), event.Filter{}, true)
	require.NoError(t, err)
	require.Len(t, ids, start)
	require.Zero(t, woken)
	require.Equal(t, start, left(), "a dry run changes nothing")

	ids, err = service.ReplayAll(t.Context(), event.Filter{Topic: "session", Limit: 7}, false)
	require.NoError(t, err)
	require.Len(t, ids, 7)
	require.IsIncreasing(t, ids)
	require.Equal(t, 1, woken)
	require.Equal(t, start-7, left())

	ids, err = service.ReplayAll(t.Context(), event.Filter{}, false)
	require.NoError(t, err)
	require.Len(t, ids, start-7)
	require.Zero(t, left())
	pending, err := store.Outbox.Pending(t.Context(), n)
	require.NoError(t, err)
	assert.Len(t, pending, start)
	ids, err = service.ReplayAll(t.Context(), event.Filter{}, false)
	require.NoError(t, err)
	require.Empty(t, ids)
	require.Equal(t, 2, woken, "nobody is woken for nothing")
}

// meddled is asides in which somebody else decides about an event first, and which fails at another.
type meddled struct {
	event.Asides
	gone, fails string
}

var errStore = errors.New("the store is away")

func (m meddled) Replay(ctx context.Context, id string) error {
	switch id {
	case m.gone:
		return event.ErrNotAside
	case m.fails:
		return errStore
	}
	return m.Asides.Replay(ctx, id)
}

func TestReplayingAllAsidesBearsOthersAndFailures(t *testing.T) {
	t.Parallel()
	_, store := asides(t, 5, nil)
	woken := 0
	service, err := event.NewAsideService(event.AsideConfig{
		Asides: meddled{Asides: store.Asides, gone: "e0001", fails: "e0003"}, Replayed: func() { woken++ },
	})
	require.NoError(t, err)
	ids, err := service.ReplayAll(t.Context(), event.Filter{}, false)
	require.ErrorIs(t, err, errStore)
	require.Equal(t, []string{"e0000", "e0002"}, ids)
	require.Equal(t, 1, woken, "what was replayed is not left waiting")
}
