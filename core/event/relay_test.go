package event_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
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
	read      int // events that were returned
	aside     map[string]string
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
	return o.from(0, limit), nil
}

func (o *outbox) from(at, limit int) []event.Event {
	o.mu.Lock()
	defer o.mu.Unlock()
	page := o.events[at:]
	page = page[:min(limit, len(page))]
	o.read += len(page)
	return append([]event.Event{}, page...)
}

func (o *outbox) at(id string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.IndexFunc(o.events, func(e event.Event) bool { return e.ID == id })
}

func (o *outbox) PendingAfter(_ context.Context, id string, limit int) ([]event.Event, error) {
	return o.from(o.at(id)+1, limit), nil
}

func (o *outbox) SetAside(_ context.Context, id, reason string) error {
	at := o.at(id)
	o.mu.Lock()
	defer o.mu.Unlock()
	if at >= 0 {
		o.events = slices.Delete(slices.Clone(o.events), at, at+1)
		if o.aside == nil {
			o.aside = map[string]string{}
		}
		o.aside[id] = reason
	}
	return nil
}

// put commits events of one topic, with the keys of a list in turn.
func (o *outbox) put(topic string, n int, keys ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for range n {
		for _, key := range keys {
			o.events = append(o.events, event.Event{ID: fmt.Sprintf("%s/%s/%d", topic, key, len(o.events)), Topic: topic, Type: "x.y", Key: key})
		}
	}
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
	_, err := event.NewRelay(event.RelayConfig{Poll: -1, Batch: -1, Timeout: -1, MaxBackoff: -1, Rescan: -1, MaxHeld: -1})
	for _, name := range []string{"Outbox", "Publisher", "Poll", "Batch", "Timeout", "MaxBackoff", "Rescan", "MaxHeld"} {
		require.ErrorContains(t, err, name)
	}
}

// picky is a publisher that refuses the events for which why gives a reason, and their successors with the same key,
// as the port says.
type picky struct {
	bus
	why func(e event.Event) error
}

func (p *picky) Publish(ctx context.Context, events ...event.Event) error {
	failed, behind := map[int]error{}, map[string]error{}
	for i, e := range events {
		lane := e.Topic + " " + e.Key
		err := behind[lane]
		if err == nil {
			p.mu.Lock()
			err = p.why(e)
			if err == nil {
				p.taken = append(p.taken, e.ID)
			}
			p.mu.Unlock()
		}
		if err != nil {
			failed[i] = err
			if !event.Never(err) {
				behind[lane] = err
			}
		}
	}
	_ = p.bus.Publish(ctx) // counts
	return event.Failures(failed)
}

// change changes what is refused.
func (p *picky) change(why func(e event.Event) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.why = why
}

// inLanes requires that the events of each topic and key were taken in the order of their commit, each once.
func inLanes(t *testing.T, all []event.Event, taken []string) {
	t.Helper()
	want, got := map[string][]string{}, map[string][]string{}
	lane := map[string]string{}
	for _, e := range all {
		lane[e.ID] = e.Topic + " " + e.Key
		want[lane[e.ID]] = append(want[lane[e.ID]], e.ID)
	}
	for _, id := range taken {
		got[lane[id]] = append(got[lane[id]], id)
	}
	require.Equal(t, want, got)
}

// TestRelayGoesPastATopicThatIsGone with a thousand events of it in front: the others go at once, in order, with
// a bounded number of reads however long it lasts; and those of the topic when it is back.
func TestRelayGoesPastATopicThatIsGone(t *testing.T) {
	t.Parallel()
	gone := func(e event.Event) error {
		if e.Topic == "session" {
			return fault.New(fault.NotFound, "no_topic", "the topic does not exist")
		}
		return nil
	}
	synctest.Test(t, func(t *testing.T) {
		o, b := &outbox{}, &picky{why: gone}
		o.put("session", 500, "a", "b")
		o.put("mail", 1, "c")
		all := slices.Clone(o.events)
		r, stop := start(t, event.RelayConfig{Outbox: o, Publisher: b})
		synctest.Wait()
		require.Equal(t, []string{"mail/c/1000"}, b.all())

		for range 50 { // while it is gone, others come and go
			o.put("mail", 1, "c", "d")
			all = append(all, o.events[1000:]...)
			r.Wake()
			begun := time.Now()
			synctest.Wait()
			require.Equal(t, 1000, o.left())
			require.Zero(t, time.Since(begun))
			time.Sleep(10 * time.Second)
			synctest.Wait()
		}
		// In 500 seconds: a page every 5 seconds, the whole every 30, and nothing of it otherwise.
		o.mu.Lock()
		read := o.read
		o.mu.Unlock()
		require.Less(t, read, 500/5*100+(500/30+3)*1100+500)

		b.change(func(event.Event) error { return nil })
		time.Sleep(5 * time.Second)
		synctest.Wait()
		stop()
		require.Zero(t, o.left())
		inLanes(t, all, b.all())
	})
}

// TestRelayHoldsUpOneKeyOnly of a topic, and its events keep their order.
func TestRelayHoldsUpOneKeyOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, b := &outbox{}, &picky{why: func(e event.Event) error {
			if e.Key == "b" {
				return errDown
			}
			return nil
		}}
		o.put("mail", 300, "a", "b", "c")
		all := slices.Clone(o.events)
		_, stop := start(t, event.RelayConfig{Outbox: o, Publisher: b})
		synctest.Wait()
		require.Equal(t, 300, o.left())
		require.Len(t, b.all(), 600)
		time.Sleep(time.Minute)
		b.change(func(event.Event) error { return nil })
		time.Sleep(5 * time.Second)
		synctest.Wait()
		stop()
		require.Zero(t, o.left())
		inLanes(t, all, b.all())
	})
}

// TestRelaySetsAside what can never be published, once, with the reason, and says so once; its successors go on.
func TestRelaySetsAside(t *testing.T) {
	t.Parallel()
	large := fault.New(fault.Invalid, "large", "the event is too large")
	for name, publisher := range map[string]func(*picky) event.Publisher{
		"it is named": func(p *picky) event.Publisher { return p },
		"a publisher that names nothing": func(p *picky) event.Publisher {
			return publisher(func(ctx context.Context, events []event.Event) error {
				for _, e := range events {
					if err := p.why(e); err != nil {
						return err
					}
				}
				return p.Publish(ctx, events...)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o, b := &outbox{}, &picky{why: func(e event.Event) error {
					if strings.HasSuffix(e.ID, "7") {
						return large
					}
					return nil
				}}
				o.put("mail", 15, "a", "b")
				var log strings.Builder
				r, stop := start(t, event.RelayConfig{Outbox: o, Publisher: publisher(b), Log: slog.New(slog.NewTextHandler(&log, nil))})
				time.Sleep(time.Minute)
				synctest.Wait()
				stop()
				require.Zero(t, o.left())
				require.Len(t, b.all(), 27)
				require.Len(t, o.aside, 3)
				require.Contains(t, o.aside["mail/b/7"], "too large")
				require.EqualValues(t, 3, r.SetAside())
				require.Equal(t, 3, strings.Count(log.String(), "level=ERROR"))
				for _, says := range []string{"event=mail/b/7 ", "type=x.y ", "topic=mail ", "too large"} {
					require.Equal(t, 1, strings.Count(log.String(), "level=ERROR msg=\"an event can never be published; it was set aside in the outbox, and its successors go on\" event=mail/b/7 "))
					require.Contains(t, log.String(), says)
				}
			})
		})
	}
}

// TestRelayDoesNotWaitForATopicThatHangs for longer than Poll.
func TestRelayDoesNotWaitForATopicThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, b := &outbox{}, &bus{}
		hanging := publisher(func(ctx context.Context, events []event.Event) error {
			if events[0].Topic == "mail" {
				<-ctx.Done()
				return ctx.Err()
			}
			return b.Publish(ctx, events...)
		})
		o.put("mail", 1000, "a")
		r, stop := start(t, event.RelayConfig{Outbox: o, Publisher: hanging})
		synctest.Wait()
		for n := 1; n <= 100; n++ {
			o.put("session", 1, "b")
			r.Wake()
			time.Sleep(1100 * time.Millisecond)
			synctest.Wait()
			require.Len(t, b.all(), n)
		}
		stop()
		require.Equal(t, 1000, o.left())
	})
}

// TestRelayKeepsTheOrderOfEachKey whatever fails, and loses nothing.
func TestRelayKeepsTheOrderOfEachKey(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			random, moods := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
			o := &outbox{published: func(context.Context, int) error { return nil }}
			var all []event.Event
			state := map[string]int{}
			errs := []error{nil, nil, nil, errDown, fault.NotFound, fault.Unavailable}
			b := &picky{why: func(e event.Event) error {
				if lane := e.Topic + e.Key; moods.IntN(20) == 0 {
					state[lane] = moods.IntN(len(errs))
				}
				return errs[state[e.Topic+e.Key]]
			}}
			r, stop := start(t, event.RelayConfig{Outbox: o, Publisher: b, Batch: 1 + random.IntN(20)})
			for range 60 {
				o.mu.Lock() // the relay may look at any moment
				for range random.IntN(8) {
					e := event.Event{ID: fmt.Sprint(len(all)), Topic: fmt.Sprint("t", random.IntN(3)), Type: "x.y", Key: fmt.Sprint("k", random.IntN(5))}
					o.events, all = append(o.events, e), append(all, e)
				}
				o.mu.Unlock()
				r.Wake()
				time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
				synctest.Wait()
			}
			b.change(func(event.Event) error { return nil })
			time.Sleep(40 * time.Second)
			synctest.Wait()
			stop()
			require.Zero(t, o.left(), "seed %d", seed)
			inLanes(t, all, b.all())
		})
	}
}
