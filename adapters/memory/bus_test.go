package memory_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
)

func TestBusKeepsEventsOfANamedGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bus := memory.NewBus(memory.BusConfig{})
		var got []string
		during := func(group string, f func()) {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				_ = bus.Subscribe(ctx, "t", group, func(_ context.Context, e event.Event) error {
					got = append(got, group+e.ID)
					return nil
				}, nil)
			}()
			synctest.Wait()
			f()
			synctest.Wait()
			cancel()
			synctest.Wait()
		}
		publish := func(id string) {
			require.NoError(t, bus.Publish(t.Context(), event.Event{ID: id, Topic: "t", Type: "x"}))
		}
		publish("1")
		during("g", func() { publish("2") })
		during("", func() { publish("3") })
		publish("4")
		during("g", func() {})
		assert.Equal(t, []string{"g2", "3", "g3", "g4"}, got)
	})
}

func TestBusPublishWaitsForRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bus := memory.NewBus(memory.BusConfig{MaxPending: 2})
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		var got []string
		subscribed := make(chan error, 1)
		go func() {
			subscribed <- bus.Subscribe(ctx, "t", "", func(ctx context.Context, e event.Event) error {
				<-release
				got = append(got, e.ID)
				return nil
			}, nil)
		}()
		synctest.Wait()
		require.NoError(t, bus.Publish(t.Context(), event.Event{ID: "1", Topic: "t", Type: "x"}, event.Event{ID: "2", Topic: "t", Type: "x"}))

		short, end := context.WithTimeout(t.Context(), time.Second)
		defer end()
		err := bus.Publish(short, event.Event{ID: "refused", Topic: "t", Type: "x"})
		require.ErrorIs(t, err, fault.Unavailable)
		require.ErrorIs(t, err, context.DeadlineExceeded)

		published := make(chan error, 1)
		go func() { published <- bus.Publish(t.Context(), event.Event{ID: "3", Topic: "t", Type: "x"}) }()
		synctest.Wait()
		assert.Empty(t, published)
		release <- struct{}{}
		require.NoError(t, <-published)
		close(release)
		synctest.Wait()
		assert.Equal(t, []string{"1", "2", "3"}, got)
		cancel()
		assert.NoError(t, <-subscribed)
	})
}

func TestBusReleasesThePublishersOfASubscriberThatGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bus := memory.NewBus(memory.BusConfig{MaxPending: 1})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_ = bus.Subscribe(ctx, "t", "", func(ctx context.Context, _ event.Event) error {
				<-ctx.Done()
				return ctx.Err()
			}, nil)
		}()
		synctest.Wait()
		published := make(chan error, 1)
		go func() {
			published <- bus.Publish(t.Context(), event.Event{ID: "1", Topic: "t", Type: "x"}, event.Event{ID: "2", Topic: "t", Type: "x"})
		}()
		synctest.Wait()
		assert.Empty(t, published)
		cancel()
		assert.NoError(t, <-published)
	})
}

func TestBusRetriesBeforeItGoesOnWithTheKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bus := memory.NewBus(memory.BusConfig{RetryAfter: time.Second, MaxRetryAfter: 3 * time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		var got []string
		failures := map[string]int{"a1": 4, "a2": 1}
		subscribed := make(chan error, 1)
		go func() {
			subscribed <- bus.Subscribe(ctx, "t", "g", func(_ context.Context, e event.Event) error {
				got = append(got, fmt.Sprint(e.ID, "@", time.Since(began)))
				if failures[e.ID] > 0 {
					failures[e.ID]--
					copy(e.Data, "spoilt")
					return errors.New("not now")
				}
				assert.Equal(t, "data", string(e.Data))
				return nil
			}, nil)
		}()
		synctest.Wait()
		var events []event.Event
		for _, id := range []string{"a1", "a2", "b1"} {
			events = append(events, event.Event{ID: id, Topic: "t", Type: "x", Key: id[:1], Data: []byte("data")})
		}
		require.NoError(t, bus.Publish(ctx, events...))
		time.Sleep(time.Minute) // of the bubble's clock
		synctest.Wait()
		assert.Equal(t, []string{"a1@0s", "b1@0s", "a1@1s", "a1@3s", "a1@6s", "a1@9s", "a2@9s", "a2@10s"}, got)
		cancel()
		assert.NoError(t, <-subscribed)
	})
}

func TestBusHandsAnEventOnWhenItsSubscriberGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bus := memory.NewBus(memory.BusConfig{RetryAfter: time.Hour, MaxRetryAfter: time.Hour})
		began := time.Now()
		first, leave := context.WithCancel(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			_ = bus.Subscribe(first, "t", "g", func(ctx context.Context, _ event.Event) error {
				<-ctx.Done()
				return ctx.Err()
			}, nil)
		}()
		synctest.Wait()
		require.NoError(t, bus.Publish(ctx, event.Event{ID: "1", Topic: "t", Type: "x"}))
		synctest.Wait()
		handled := make(chan string, 1)
		go func() {
			_ = bus.Subscribe(ctx, "t", "g", func(_ context.Context, e event.Event) error {
				handled <- e.ID
				return nil
			}, nil)
		}()
		leave()
		synctest.Wait()
		assert.Equal(t, "1", <-handled)
		assert.Zero(t, time.Since(began), "the next subscriber need not wait")
		cancel()
		synctest.Wait()
	})
}

func TestBusDeadEventsHoldUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bus := memory.NewBus(memory.BusConfig{MaxPending: 2})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		never := fault.New(fault.Invalid, "never", "it can never be handled")
		subscribe := func(ctx context.Context, topic string, handle event.Handler) {
			go func() { assert.NoError(t, bus.Subscribe(ctx, topic, "g", handle, nil)) }()
			synctest.Wait()
		}
		gone, leave := context.WithCancel(ctx)
		subscribe(gone, "t.dead", func(context.Context, event.Event) error { return nil })
		leave()
		subscribe(ctx, "t", func(context.Context, event.Event) error { return never })
		for i := range 5 {
			assert.NoError(t, bus.Publish(ctx, event.Event{ID: fmt.Sprint(i), Topic: "t", Type: "x", Key: "k", Data: []byte("x")}))
		}
		synctest.Wait()
		var dead []event.Event
		subscribe(ctx, "t.dead", func(_ context.Context, e event.Event) error {
			dead = append(dead, e)
			return nil
		})
		assert.Equal(t, []event.Event{
			{ID: "0", Topic: "t.dead", Type: "x", Key: "k", Data: []byte("x")}, {ID: "1", Topic: "t.dead", Type: "x", Key: "k", Data: []byte("x")},
		}, dead, "a group that is full gets no more")
		cancel()
		synctest.Wait()
	})
}
