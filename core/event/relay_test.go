package event_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/event"
)

var errDown = errors.New("down")

// outbox is an outbox whose calls can be made to fail.
type outbox struct {
	mu        sync.Mutex
	events    []event.Event
	looks     []time.Time
	pending   func(ctx context.Context, n int) error
	published func(ctx context.Context, n int) error
	marks     int
}

func (o *outbox) commit(ids ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range ids {
		o.events = append(o.events, event.Event{ID: id, Topic: "mail"})
	}
}

func (o *outbox) left() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.events)
}

func (o *outbox) Pending(ctx context.Context, limit int) ([]event.Event, error) {
	o.mu.Lock()
	o.looks = append(o.looks, time.Now())
	n := len(o.looks)
	o.mu.Unlock()
	if o.pending != nil {
		if err := o.pending(ctx, n); err != nil {
			return nil, err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]event.Event{}, o.events[:min(limit, len(o.events))]...), nil
}

func (o *outbox) Published(ctx context.Context, ids ...string) error {
	o.mu.Lock()
	o.marks++
	n := o.marks
	o.mu.Unlock()
	if o.published != nil {
		if err := o.published(ctx, n); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	known := map[string]bool{}
	for _, id := range ids {
		known[id] = true
	}
	var rest []event.Event
	for _, e := range o.events {
		if !known[e.ID] {
			rest = append(rest, e)
		}
	}
	o.events = rest
	return nil
}

// bus is a publisher that notes what it took.
type bus struct {
	mu      sync.Mutex
	taken   []string
	calls   []time.Time
	sizes   []int
	publish func(ctx context.Context, n int) error
}

func (b *bus) Publish(ctx context.Context, events ...event.Event) error {
	b.mu.Lock()
	b.calls = append(b.calls, time.Now())
	b.sizes = append(b.sizes, len(events))
	n := len(b.calls)
	b.mu.Unlock()
	if b.publish != nil {
		if err := b.publish(ctx, n); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range events {
		b.taken = append(b.taken, e.ID)
	}
	return nil
}

func (b *bus) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string{}, b.taken...)
}

// start runs a relay until stop is called, which waits for it.
func start(t *testing.T, cfg event.RelayConfig) (r *event.Relay, stop func()) {
	t.Helper()
	r, err := event.NewRelay(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			assert.NoError(t, <-done)
		})
	}
	t.Cleanup(stop)
	return r, stop
}

func ids(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("e%03d", i)
	}
	return all
}

func TestRelayMovesEverythingInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, b := &outbox{}, &bus{}
		want := ids(25)
		o.commit(want...)
		begun := time.Now()
		_, stop := start(t, event.RelayConfig{Outbox: o, Publisher: b, Batch: 10})
		synctest.Wait()
		require.Equal(t, want, b.all())
		require.Equal(t, []int{10, 10, 5}, b.sizes)
		require.Zero(t, o.left())
		require.Zero(t, time.Since(begun), "a full batch is followed by the next at once")
		stop()
	})
}

func TestRelayPollsAndWakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, b := &outbox{}, &bus{}
		r, stop := start(t, event.RelayConfig{Outbox: o, Publisher: b})
		synctest.Wait()
		o.commit("polled")
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"polled"}, b.all())

		o.commit("woken")
		before := time.Now()
		r.Wake()
		synctest.Wait()
		require.Equal(t, []string{"polled", "woken"}, b.all())
		require.Zero(t, time.Since(before))
		stop()
		for range 10 {
			r.Wake() // nobody listens: it must not block
		}
	})
}

func TestRelayBacksOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{}
		b := &bus{publish: func(_ context.Context, n int) error {
			if n <= 8 {
				return errDown
			}
			return nil
		}}
		o.commit("a", "b")
		r, stop := start(t, event.RelayConfig{Outbox: o, Publisher: b})
		synctest.Wait()
		r.Wake() // does not cut the wait short
		time.Sleep(time.Minute)
		synctest.Wait()
		stop()
		require.Equal(t, []string{"a", "b"}, b.all())
		var gaps []time.Duration
		for i := 1; i < len(b.calls); i++ {
			gaps = append(gaps, b.calls[i].Sub(b.calls[i-1]))
		}
		const ms = time.Millisecond
		require.Equal(t, []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 5000 * ms, 5000 * ms}, gaps)
	})
}

// TestRelayGetsThroughASlowBus that never takes a whole batch in time.
func TestRelayGetsThroughASlowBus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{}
		slow := publisher(func(ctx context.Context, events []event.Event) error {
			select {
			case <-time.After(time.Duration(len(events)) * 50 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		o.commit(ids(300)...)
		_, stop := start(t, event.RelayConfig{Outbox: o, Publisher: slow, Timeout: 2 * time.Second})
		time.Sleep(time.Minute)
		synctest.Wait()
		stop()
		require.Zero(t, o.left())
	})
}

type publisher func(ctx context.Context, events []event.Event) error

func (p publisher) Publish(ctx context.Context, events ...event.Event) error { return p(ctx, events) }

func TestRelayBacksOffAnewAfterASuccess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{pending: func(_ context.Context, n int) error {
			if n != 4 {
				return errDown
			}
			return nil
		}}
		_, stop := start(t, event.RelayConfig{Outbox: o, Publisher: &bus{}})
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		stop()
		var gaps []time.Duration
		for i := 1; i <= 5; i++ {
			gaps = append(gaps, o.looks[i].Sub(o.looks[i-1]))
		}
		const ms = time.Millisecond
		require.Equal(t, []time.Duration{100 * ms, 200 * ms, 400 * ms, 1000 * ms, 100 * ms}, gaps)
	})
}

func TestRelayRepeatsWhatItCouldNotMark(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{published: func(_ context.Context, n int) error {
			if n == 1 {
				return errDown
			}
			return nil
		}}
		b := &bus{}
		o.commit("a", "b")
		_, stop := start(t, event.RelayConfig{Outbox: o, Publisher: b})
		time.Sleep(time.Minute)
		synctest.Wait()
		stop()
		require.Equal(t, []string{"a", "b", "a", "b"}, b.all(), "twice, and never out of order")
		require.Zero(t, o.left())
	})
}

func TestRelayBoundsEachCall(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context, n int) error {
		if n > 1 {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}
	for name, edit := range map[string]func(*outbox, *bus){
		"pending":   func(o *outbox, _ *bus) { o.pending = hang },
		"publish":   func(_ *outbox, b *bus) { b.publish = hang },
		"published": func(o *outbox, _ *bus) { o.published = hang },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o, b := &outbox{}, &bus{}
				edit(o, b)
				o.commit("a")
				_, stop := start(t, event.RelayConfig{Outbox: o, Publisher: b, Timeout: 2 * time.Second})
				time.Sleep(2*time.Second - time.Millisecond)
				synctest.Wait()
				require.Equal(t, 1, o.left())
				time.Sleep(200 * time.Millisecond)
				synctest.Wait()
				require.Zero(t, o.left())
				stop()
			})
		})
	}
}

// TestRelayMarksWhatTheBusHas ends the relay while it publishes: what the bus took is marked.
func TestRelayMarksWhatTheBusHas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &outbox{}
		publishing, goOn := make(chan struct{}), make(chan struct{})
		b := &bus{publish: func(context.Context, int) error {
			close(publishing)
			<-goOn
			return nil
		}}
		o.commit("a")
		_, stop := start(t, event.RelayConfig{Outbox: o, Publisher: b})
		<-publishing
		go stop()
		synctest.Wait()
		close(goOn)
		synctest.Wait()
		require.Equal(t, []string{"a"}, b.all())
		require.Zero(t, o.left())
	})
}

func TestRelayEndsAtOnce(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]event.RelayConfig{
		"idle":        {Outbox: &outbox{}, Publisher: &bus{}, Poll: time.Hour},
		"backing off": {Outbox: &outbox{pending: func(context.Context, int) error { return errDown }}, Publisher: &bus{}},
		"looking": {Outbox: &outbox{pending: func(ctx context.Context, _ int) error {
			<-ctx.Done()
			return ctx.Err()
		}}, Publisher: &bus{}, Timeout: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, stop := start(t, cfg)
				synctest.Wait()
				begun := time.Now()
				stop()
				require.Zero(t, time.Since(begun))
			})
		})
	}
}

func TestNewRelayChecksEverythingAtOnce(t *testing.T) {
	t.Parallel()
	_, err := event.NewRelay(event.RelayConfig{Poll: -1, Batch: -1, Timeout: -1, MaxBackoff: -1})
	for _, name := range []string{"Outbox", "Publisher", "Poll", "Batch", "Timeout", "MaxBackoff"} {
		require.ErrorContains(t, err, name)
	}
}
