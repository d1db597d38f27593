package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
)

// Bus is the port of [EventBus]: a publisher, and a subscriber of what it publishes.
type Bus struct {
	Publisher  event.Publisher
	Subscriber event.Subscriber
}

// EventBus checks event.Publisher and event.Subscriber.
func EventBus() []Case[Bus] {
	return suite("EventBus", []promise[Bus]{
		{"an event arrives whole", "An event arrives with every field as it was published, Time in UTC, to the microsecond.", busWhole},
		{"events of a key arrive in order", "Events with the same key are handled one at a time, in the order in which they were published.", busOrder},
		{"events of many keys arrive in the order of each", "Events with the same key are handled one at a time, in the order in which they were published.", busKeys},
		{"events of a key are handled one at a time", "Events with the same key are handled one at a time, in the order in which they were published.", busOneAtATime},
		{"a failed event comes again before its successors", "An event whose handler failed is handled again before its successors.", busRedelivery},
		{"what can never be handled holds up nobody", "An error of kind Invalid says that an event can never be handled: it holds up nobody.", busNever},
		{"what can never be handled is set aside", "The bus sets such an event aside, as it came, on the topic with DeadSuffix behind its name.", busDead},
		{"without a group it is set aside too", "The bus sets such an event aside, as it came, on the topic with DeadSuffix behind its name.", busDeadNoGroup},
		{"what can never be handled on a dead topic is dropped", "What can never be handled on a dead topic is dropped.", busDeadTwice},
		{"a group shares the events", "Subscribers with the same group share the events: each event goes to one of them.", busGroup},
		{"every group gets all events", "Subscribers with different groups do not: each group gets every event.", busGroups},
		{"no group gets every event", "An empty group gets every event published while it is subscribed.", busNoGroup},
		{"topics are apart", "Subscribe calls handle for each event of topic, and of no other, until ctx ends.", busTopics},
		{"ready is called once", "ready, unless nil, is called once, when events published from then on will be delivered.", busReady},
		{"Subscribe ends with its context", "Subscribe calls handle for each event of topic, and of no other, until ctx ends. It then returns nil, once the running call has returned.", busEnds},
		{"Subscribe waits for the running call", "It then returns nil, once the running call has returned.", busEndsAfterCall},
		{"nothing is handled after the end", "Nothing is handled after it has returned.", busSilentAfterEnd},
		{"concurrent publishers lose nothing", "It may be called from many goroutines.", busConcurrent},
		{"publishing nothing is no error", "Publishing nothing is no error.", busNothing},
		{"what can never be published is named, and the others are taken", "A *PublishError says which events were not taken over, and why; the others were.", busPartly},
		{"an event that can never be published holds up nobody", "An event that can never be published holds up nobody.", busInvalidHoldsUpNobody},
		{"Publish gives up with its context", "Publish gives up when ctx is done; the outcome of what it names is then unknown.", busPublishEnded},
	})
}

// log keeps what handlers saw.
type log struct {
	mu      sync.Mutex
	events  []event.Event
	changed chan struct{}
}

func newLog() *log { return &log{changed: make(chan struct{})} }

func (l *log) add(e event.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *log) handle(_ context.Context, e event.Event) error { l.add(e); return nil }

func (l *log) all() []event.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

// until waits until enough says so of the events seen so far.
func (l *log) until(ctx context.Context, enough func([]event.Event) bool) error {
	for {
		l.mu.Lock()
		ok, n, changed := enough(l.events), len(l.events), l.changed
		l.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("only %d events were handled: %w", n, ctx.Err())
		}
	}
}

// has waits for the events with these identifiers.
func (l *log) has(ctx context.Context, events ...event.Event) error {
	return l.until(ctx, func(seen []event.Event) bool {
		for _, e := range events {
			if !slices.ContainsFunc(seen, func(s event.Event) bool { return s.ID == e.ID }) {
				return false
			}
		}
		return true
	})
}

// subscribe starts a subscription and waits until it is ready. stop ends it and wants nil.
func subscribe(ctx context.Context, b Bus, topic, group string, handle event.Handler) (stop func() error, err error) {
	ctx, cancel := context.WithCancel(ctx)
	ready, ended := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() {
		ended <- b.Subscriber.Subscribe(ctx, topic, group, handle, func() { once.Do(func() { close(ready) }) })
	}()
	select {
	case <-ready:
	case err := <-ended:
		cancel()
		return nil, fmt.Errorf("the port's Subscribe returned before it was ready: %w", orNone(err))
	case <-ctx.Done():
		cancel()
		return nil, fmt.Errorf("the port's Subscribe did not call ready: %w", ctx.Err())
	}
	return func() error {
		cancel()
		if err := <-ended; err != nil {
			return fmt.Errorf("the port's Subscribe returned %w when its context had ended, want nil", err)
		}
		return nil
	}, nil
}

// subscribed runs do while a subscription is open.
func subscribed(ctx context.Context, b Bus, topic, group string, handle event.Handler, do func() error) error {
	stop, err := subscribe(ctx, b, topic, group, handle)
	if err != nil {
		return err
	}
	err = do()
	return errors.Join(err, stop())
}

func publish(ctx context.Context, b Bus, events ...event.Event) error {
	return during("Publish", b.Publisher.Publish(ctx, events...))
}

// keyed is an event of topic "mail" with the given key.
func keyed(key string, n int) event.Event {
	e := happened(n)
	e.ID, e.Key = fmt.Sprintf("%s-%d", key, n), key
	return e
}

// unique drops repetitions, which at-least-once delivery allows, and keeps the first.
func unique(events []event.Event) []event.Event {
	seen := map[string]bool{}
	return slices.DeleteFunc(slices.Clone(events), func(e event.Event) bool {
		was := seen[e.ID]
		seen[e.ID] = true
		return was
	})
}

func busWhole(ctx context.Context, b Bus) error {
	events := []event.Event{happened(1), {ID: "Zweites-ü", Topic: "mail", Type: "x.y", Time: at(9), Data: []byte(`{ "text": "` + long(5000) + `" }`)}}
	l := newLog()
	return subscribed(ctx, b, "mail", "group", l.handle, func() error {
		for _, e := range events {
			if err := publish(ctx, b, e); err != nil {
				return err
			}
			if err := l.has(ctx, e); err != nil {
				return err
			}
		}
		return same(unique(l.all()), events)
	})
}

func busOrder(ctx context.Context, b Bus) error {
	const n = 60
	var want []event.Event
	for i := range n {
		want = append(want, keyed("key", i))
	}
	l := newLog()
	return subscribed(ctx, b, "mail", "group", l.handle, func() error {
		// One by one, and several at once.
		for i := 0; i < n; i += 3 {
			if err := first(
				func() error { return publish(ctx, b, want[i]) },
				func() error { return publish(ctx, b, want[i+1], want[i+2]) },
			); err != nil {
				return err
			}
		}
		return first(
			func() error { return l.has(ctx, want...) },
			func() error { return same(unique(l.all()), want) },
		)
	})
}

func busKeys(ctx context.Context, b Bus) error {
	const keys, each = 7, 20
	var all []event.Event
	for i := range each {
		for k := range keys {
			all = append(all, keyed(fmt.Sprintf("key%d", k), i))
		}
	}
	l := newLog()
	return subscribed(ctx, b, "mail", "group", l.handle, func() error {
		if err := first(
			func() error { return publish(ctx, b, all...) },
			func() error { return l.has(ctx, all...) },
		); err != nil {
			return err
		}
		next := map[string]int{}
		for _, e := range unique(l.all()) {
			if want := keyed(e.Key, next[e.Key]); e.ID != want.ID {
				return fmt.Errorf("with key %q the event %q was handled, want %q", e.Key, e.ID, want.ID)
			}
			next[e.Key]++
		}
		return nil
	})
}

func busOneAtATime(ctx context.Context, b Bus) error {
	const keys, each = 4, 10
	l := newLog()
	var mu sync.Mutex
	inside, overlapped := map[string]int{}, ""
	handle := func(_ context.Context, e event.Event) error {
		mu.Lock()
		inside[e.Key]++
		if inside[e.Key] > 1 {
			overlapped = e.Key
		}
		mu.Unlock()
		calm()
		l.add(e)
		mu.Lock()
		inside[e.Key]--
		mu.Unlock()
		return nil
	}
	var all []event.Event
	for i := range each {
		for k := range keys {
			all = append(all, keyed(fmt.Sprintf("key%d", k), i))
		}
	}
	err := subscribed(ctx, b, "mail", "group", handle, func() error {
		return subscribed(ctx, b, "mail", "group", handle, func() error {
			return first(
				func() error { return publish(ctx, b, all...) },
				func() error { return l.has(ctx, all...) },
			)
		})
	})
	if err == nil && overlapped != "" {
		err = fmt.Errorf("two events with key %q were handled at once", overlapped)
	}
	return err
}

func busRedelivery(ctx context.Context, b Bus) error {
	events := []event.Event{keyed("key", 0), keyed("key", 1), keyed("key", 2)}
	attempts, done := newLog(), newLog()
	refused := errors.New("not now")
	handle := func(_ context.Context, e event.Event) error {
		attempts.add(e)
		if e.ID == events[1].ID {
			tries := 0
			for _, a := range attempts.all() {
				if a.ID == e.ID {
					tries++
				}
			}
			if tries <= 2 {
				return refused
			}
		}
		done.add(e)
		return nil
	}
	return subscribed(ctx, b, "mail", "group", handle, func() error {
		if err := first(
			func() error { return publish(ctx, b, events...) },
			func() error { return done.has(ctx, events...) },
		); err != nil {
			return err
		}
		return first(
			func() error { return during("the handled events", same(unique(done.all()), events)) },
			func() error {
				return during("the events that were tried", same(attempts.all(), []event.Event{events[0], events[1], events[1], events[1], events[2]}))
			},
		)
	})
}

// never says of an event that it can never be handled, as a handler would: wrapped.
func never(e event.Event) error { return fmt.Errorf("handling %s: %w", e.ID, errNever) }

var errNever = fault.New(fault.Invalid, "never", "it can never be handled")

// refusing handles all events but those with the numbers 1 and 3, which can never be handled.
func refusing(l *log) event.Handler {
	return func(_ context.Context, e event.Event) error {
		if strings.HasSuffix(e.ID, "-1") || strings.HasSuffix(e.ID, "-3") {
			return never(e)
		}
		l.add(e)
		return nil
	}
}

func busNever(ctx context.Context, b Bus) error {
	done := newLog()
	return subscribed(ctx, b, "mail", "group", refusing(done), func() error {
		want := []event.Event{keyed("key", 0), keyed("key", 2), keyed("key", 4)}
		return first(
			func() error { return publish(ctx, b, keyed("key", 0), keyed("key", 1), keyed("key", 2)) },
			func() error { return publish(ctx, b, keyed("key", 3), keyed("key", 4)) },
			func() error { return done.has(ctx, want...) },
			func() error { return during("the handled events", same(unique(done.all()), want)) },
		)
	})
}

func busDead(ctx context.Context, b Bus) error { return setsAside(ctx, b, "group") }

func busDeadNoGroup(ctx context.Context, b Bus) error { return setsAside(ctx, b, "") }

func setsAside(ctx context.Context, b Bus, group string) error {
	dead, done := newLog(), newLog()
	return subscribed(ctx, b, "mail"+event.DeadSuffix, "undertaker", dead.handle, func() error {
		return subscribed(ctx, b, "mail", group, refusing(done), func() error {
			var want []event.Event
			for _, n := range []int{1, 3} {
				e := keyed("key", n)
				e.Topic += event.DeadSuffix
				want = append(want, e)
			}
			return first(
				func() error {
					return publish(ctx, b, keyed("key", 0), keyed("key", 1), keyed("key", 2), keyed("key", 3))
				},
				func() error { return during("the dead topic", dead.has(ctx, want...)) },
				func() error { return done.has(ctx, keyed("key", 0), keyed("key", 2)) },
				func() error { return during("the dead topic", same(unique(dead.all()), want)) },
			)
		})
	})
}

func busDeadTwice(ctx context.Context, b Bus) error {
	done := newLog()
	return subscribed(ctx, b, "mail"+event.DeadSuffix, "undertaker", refusing(done), func() error {
		var events []event.Event
		for n := range 5 {
			e := keyed("key", n)
			e.Topic += event.DeadSuffix
			events = append(events, e)
		}
		want := []event.Event{events[0], events[2], events[4]}
		return first(
			func() error { return publish(ctx, b, events...) },
			func() error { return done.has(ctx, want...) },
			func() error { return during("the handled events", same(unique(done.all()), want)) },
		)
	})
}

func busGroup(ctx context.Context, b Bus) error {
	const n = 40
	all := newLog()
	var stops []func() error
	for range 3 {
		stop, err := subscribe(ctx, b, "mail", "group", all.handle)
		if err != nil {
			return err
		}
		stops = append(stops, stop)
	}
	var events []event.Event
	for i := range n {
		events = append(events, keyed(fmt.Sprintf("key%d", i%9), i))
	}
	err := first(
		func() error { return publish(ctx, b, events...) },
		func() error { return all.has(ctx, events...) },
	)
	for i := range 9 { // one by one: whoever handles what is not his has time for it
		e := keyed(fmt.Sprintf("key%d", i), n+i)
		err = then(err,
			func() error { return publish(ctx, b, e) },
			func() error { return all.has(ctx, e) },
		)
		calm()
	}
	for _, stop := range stops {
		err = errors.Join(err, stop())
	}
	if err == nil && len(all.all()) != n+9 {
		err = fmt.Errorf("%d events were handled %d times in one group of 3 subscribers", n+9, len(all.all()))
	}
	return err
}

func everyoneGets(ctx context.Context, b Bus, groups ...string) error {
	var events []event.Event
	for i := range 10 {
		events = append(events, keyed("key", i))
	}
	var stops []func() error
	var logs []*log
	for _, group := range groups {
		l := newLog()
		stop, err := subscribe(ctx, b, "mail", group, l.handle)
		if err != nil {
			return err
		}
		stops, logs = append(stops, stop), append(logs, l)
	}
	err := publish(ctx, b, events...)
	for i, l := range logs {
		if err == nil {
			err = during(fmt.Sprintf("subscriber %d of groups %q", i, groups), first(
				func() error { return l.has(ctx, events...) },
				func() error { return same(unique(l.all()), events) },
			))
		}
	}
	for _, stop := range stops {
		err = errors.Join(err, stop())
	}
	return err
}

func busGroups(ctx context.Context, b Bus) error  { return everyoneGets(ctx, b, "one", "two", "One") }
func busNoGroup(ctx context.Context, b Bus) error { return everyoneGets(ctx, b, "", "", "one", "") }

func busTopics(ctx context.Context, b Bus) error {
	elsewhere, here := keyed("key", 1), keyed("key", 2)
	elsewhere.Topic = "session"
	l, other := newLog(), newLog()
	return subscribed(ctx, b, "mail", "group", l.handle, func() error {
		return subscribed(ctx, b, "session", "group", other.handle, func() error {
			return first(
				func() error { return publish(ctx, b, elsewhere, here) },
				func() error { return l.has(ctx, here) },
				func() error { return other.has(ctx, elsewhere) },
				func() error { return during("topic mail", same(unique(l.all()), []event.Event{here})) },
				func() error { return during("topic session", same(unique(other.all()), []event.Event{elsewhere})) },
			)
		})
	})
}

func busReady(ctx context.Context, b Bus) error {
	l := newLog()
	var mu sync.Mutex
	calls := 0
	ready, ended := make(chan struct{}, 16), make(chan error, 1)
	sub, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		ended <- b.Subscriber.Subscribe(sub, "mail", "group", l.handle, func() {
			mu.Lock()
			calls++
			mu.Unlock()
			ready <- struct{}{}
		})
	}()
	select {
	case <-ready:
	case err := <-ended:
		return fmt.Errorf("the port's Subscribe returned before it was ready: %w", orNone(err))
	case <-ctx.Done():
		return fmt.Errorf("the port's Subscribe did not call ready: %w", ctx.Err())
	}
	for i := range 5 {
		if err := first(
			func() error { return publish(ctx, b, keyed("key", i)) },
			func() error { return l.has(ctx, keyed("key", i)) },
		); err != nil {
			return fmt.Errorf("an event published after ready: %w", err)
		}
	}
	calm()
	cancel()
	if err := <-ended; err != nil {
		return fmt.Errorf("the port's Subscribe returned %w, want nil", err)
	}
	if calls != 1 {
		return fmt.Errorf("ready was called %d times", calls)
	}
	// Without ready nobody can know when it is subscribed, but it must end all the same.
	return during("Subscribe without ready", b.Subscriber.Subscribe(sub, "mail", "group", l.handle, nil))
}

func busEnds(ctx context.Context, b Bus) error {
	for range 3 {
		if err := subscribed(ctx, b, "mail", "group", newLog().handle, func() error { return nil }); err != nil {
			return err
		}
	}
	return during("Subscribe with an ended context", b.Subscriber.Subscribe(ended(ctx), "mail", "group", newLog().handle, nil))
}

func busEndsAfterCall(ctx context.Context, b Bus) error {
	sub, cancel := context.WithCancel(ctx)
	defer cancel()
	entered, release, returned := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var enter, leave sync.Once
	handle := func(context.Context, event.Event) error {
		enter.Do(func() { close(entered) })
		<-release
		leave.Do(func() { close(returned) })
		return nil
	}
	ready, result := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() {
		err := b.Subscriber.Subscribe(sub, "mail", "group", handle, func() { once.Do(func() { close(ready) }) })
		select {
		case <-returned:
		default:
			err = errors.Join(errors.New("the port's Subscribe returned while its handler was running"), err)
		}
		result <- err
	}()
	wait := func(what string, c <-chan struct{}) error {
		select {
		case <-c:
			return nil
		case err := <-result:
			return fmt.Errorf("%s: Subscribe returned: %w", what, orNone(err))
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		}
	}
	// A bus may take until the handler is done to take an event over. One that fails to is asked
	// again, as the relay would: nobody else sees the error.
	published := make(chan struct{})
	publishing, giveUp := context.WithCancel(ctx)
	defer func() { giveUp(); <-published }()
	go func() {
		defer close(published)
		select {
		case <-ready:
			for b.Publisher.Publish(publishing, happened(1)) != nil && publishing.Err() == nil {
				breathe()
			}
		case <-publishing.Done():
		}
	}()
	if err := first(
		func() error { return wait("ready", ready) },
		func() error { return wait("the handler was not called", entered) },
	); err != nil {
		close(release)
		return err
	}
	cancel()
	calm()
	other := newLog()
	err := subscribed(ctx, b, "session", "", other.handle, func() error {
		e := happened(2)
		e.Topic = "session"
		return first(
			func() error { return publish(ctx, b, e) },
			func() error { return other.has(ctx, e) },
		)
	})
	calm()
	close(release)
	return errors.Join(err, <-result)
}

func busSilentAfterEnd(ctx context.Context, b Bus) error {
	gone, here := newLog(), newLog()
	if err := subscribed(ctx, b, "mail", "", gone.handle, func() error {
		return first(
			func() error { return publish(ctx, b, keyed("key", 1)) },
			func() error { return gone.has(ctx, keyed("key", 1)) },
		)
	}); err != nil {
		return err
	}
	before := len(gone.all())
	return subscribed(ctx, b, "mail", "", here.handle, func() error {
		for i := 2; i < 6; i++ {
			if err := first(
				func() error { return publish(ctx, b, keyed("key", i)) },
				func() error { return here.has(ctx, keyed("key", i)) },
			); err != nil {
				return err
			}
			calm()
		}
		if n := len(gone.all()); n != before {
			return fmt.Errorf("%d events were handled after Subscribe had returned", n-before)
		}
		return nil
	})
}

func busConcurrent(ctx context.Context, b Bus) error {
	const publishers, each = 8, 10
	var all []event.Event
	l := newLog()
	return subscribed(ctx, b, "mail", "group", l.handle, func() error {
		for p := range publishers {
			for i := range each {
				all = append(all, keyed(fmt.Sprintf("publisher%d", p), i))
			}
		}
		err := allTogether(publishers, func(p int) error {
			for _, e := range all[p*each : (p+1)*each] {
				if err := publish(ctx, b, e); err != nil {
					return err
				}
			}
			return nil
		})
		if err := then(err, func() error { return l.has(ctx, all...) }); err != nil {
			return err
		}
		seen := unique(l.all())
		slices.SortStableFunc(seen, func(a, b event.Event) int { return slices.Compare([]byte(a.Key), []byte(b.Key)) })
		return during("what was handled, by publisher", same(seen, all))
	})
}

func busNothing(ctx context.Context, b Bus) error {
	return first(
		func() error { return publish(ctx, b) },
		func() error { return publish(ctx, b, happened(1)) },
	)
}

// lacking is an event that can never be published.
func lacking(key string, n int) event.Event {
	e := keyed(key, n)
	e.Type = ""
	return e
}

// wantFailed wants that the error of a Publish names these events, as such that can never be published.
func wantFailed(err error, indexes ...int) error {
	var part *event.PublishError
	if !errors.As(err, &part) {
		return fmt.Errorf("the port's Publish of events of which some lack their type returned %w, want a *event.PublishError", orNone(err))
	}
	for _, i := range indexes {
		if why := part.Failed[i]; !event.Never(why) {
			return fmt.Errorf("the port's Publish says of event %d: %w, want kind invalid", i, orNone(why))
		}
	}
	if len(part.Failed) != len(indexes) {
		return fmt.Errorf("the port's Publish says that %d events failed, want %d: %w", len(part.Failed), len(indexes), err)
	}
	return nil
}

func busPartly(ctx context.Context, b Bus) error {
	elsewhere := keyed("other", 4)
	elsewhere.Topic = "session"
	l, other := newLog(), newLog()
	return subscribed(ctx, b, "mail", "group", l.handle, func() error {
		return subscribed(ctx, b, "session", "group", other.handle, func() error {
			err := b.Publisher.Publish(ctx, keyed("key", 0), lacking("bad", 1), keyed("good", 2), lacking("bad", 3), elsewhere)
			return first(
				func() error { return wantFailed(err, 1, 3) },
				func() error { return l.has(ctx, keyed("key", 0), keyed("good", 2)) },
				func() error { return other.has(ctx, elsewhere) },
				func() error { return wantFailed(b.Publisher.Publish(ctx, lacking("bad", 5)), 0) },
				func() error { return publish(ctx, b, keyed("key", 6)) },
				func() error { return l.has(ctx, keyed("key", 6)) },
			)
		})
	})
}

func busInvalidHoldsUpNobody(ctx context.Context, b Bus) error {
	l := newLog()
	return subscribed(ctx, b, "mail", "group", l.handle, func() error {
		want := []event.Event{keyed("key", 0), keyed("key", 2), keyed("key", 3)}
		return first(
			func() error {
				return wantFailed(b.Publisher.Publish(ctx, keyed("key", 0), lacking("key", 1), keyed("key", 2), keyed("key", 3)), 1)
			},
			func() error { return l.has(ctx, want...) },
			func() error { return during("the handled events", same(unique(l.all()), want)) },
		)
	})
}

func busPublishEnded(ctx context.Context, b Bus) error {
	l := newLog()
	return subscribed(ctx, b, "mail", "group", l.handle, func() error {
		// Whatever it returns, it returns, and the bus works afterwards.
		_ = b.Publisher.Publish(ended(ctx), keyed("ended", 1))
		return first(
			func() error { return publish(ctx, b, keyed("key", 2)) },
			func() error { return l.has(ctx, keyed("key", 2)) },
		)
	})
}
