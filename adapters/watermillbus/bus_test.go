package watermillbus_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parley-chat/parley/adapters/watermillbus"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errNotNow = errors.New("not now")

func numbered(topic, key string, n int) event.Event {
	return event.Event{ID: fmt.Sprintf("%s-%s-%d", topic, key, n), Topic: topic, Type: "test.happened", Key: key, Data: []byte(`{}`)}
}

// declared is quick with one group that must not miss a mail event.
func declared(groups ...string) watermillbus.GoChannelConfig {
	cfg := quick
	cfg.Groups = map[string][]string{"mail": groups}
	return cfg
}

// subscription is a call of Subscribe that runs.
type subscription struct {
	cancel context.CancelFunc
	ended  chan error
}

// subscribe returns when the subscription is ready.
func subscribe(t *testing.T, b event.Subscriber, topic, group string, handle event.Handler) *subscription {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	s := &subscription{cancel: cancel, ended: make(chan error, 1)}
	ready := make(chan struct{})
	go func() { s.ended <- b.Subscribe(ctx, topic, group, handle, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-s.ended:
		t.Fatalf("Subscribe returned before it was ready: %v", err)
	}
	return s
}

// stop ends the subscription and returns what Subscribe returned.
func (s *subscription) stop() error {
	s.cancel()
	return <-s.ended
}

// publish runs Publish in the background.
func publish(ctx context.Context, b event.Publisher, events ...event.Event) <-chan error {
	published := make(chan error, 1)
	go func() { published <- b.Publish(ctx, events...) }()
	return published
}

// seen is a handler that keeps what it was given.
type seen struct {
	mu  sync.Mutex
	ids []string
}

func (s *seen) handle(_ context.Context, e event.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids = append(s.ids, e.ID)
	return nil
}

func (s *seen) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.ids...)
}

func TestPublishReturnsOnlyAfterEveryDeclaredGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, declared("one", "two"))
		one, two := make(chan error), make(chan error)
		answer := func(c chan error) event.Handler {
			return func(context.Context, event.Event) error { return <-c }
		}
		s1, s2 := subscribe(t, b, "mail", "one", answer(one)), subscribe(t, b, "mail", "two", answer(two))
		published := publish(t.Context(), b, numbered("mail", "a", 1))
		synctest.Wait()
		assert.Empty(t, published, "no handler has returned")
		one <- nil
		synctest.Wait()
		assert.Empty(t, published, "one group is missing")
		two <- errNotNow
		time.Sleep(time.Second)
		assert.Empty(t, published, "the other has failed")
		two <- nil
		require.NoError(t, <-published)
		require.NoError(t, s1.stop())
		require.NoError(t, s2.stop())
	})
}

func TestPublishFailsWhileADeclaredGroupHasNoSubscriber(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, declared("mailer"))
		// Many tries, as a relay makes them, must neither pile up nor come later.
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := b.Publish(ctx, numbered("mail", "a", 1))
			cancel()
			require.ErrorIs(t, err, fault.Unavailable)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		var got seen
		s := subscribe(t, b, "mail", "mailer", got.handle)
		synctest.Wait()
		assert.Empty(t, got.all(), "what was withdrawn does not come")
		require.NoError(t, b.Publish(t.Context(), numbered("mail", "a", 1), numbered("mail", "a", 2)))
		assert.Equal(t, []string{"mail-a-1", "mail-a-2"}, got.all())
		require.NoError(t, s.stop())
	})
}

func TestPublishWaitsForAGroupThatComes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, declared("mailer"))
		published := publish(t.Context(), b, numbered("mail", "a", 1))
		synctest.Wait()
		assert.Empty(t, published)
		var got seen
		s := subscribe(t, b, "mail", "mailer", got.handle)
		require.NoError(t, <-published)
		assert.Equal(t, []string{"mail-a-1"}, got.all())
		require.NoError(t, s.stop())
	})
}

func TestAnotherMemberGoesOnWithWhatOneLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, declared("mailer"))
		leaves := subscribe(t, b, "mail", "mailer", func(ctx context.Context, _ event.Event) error {
			<-ctx.Done()
			return ctx.Err()
		})
		published := publish(t.Context(), b, numbered("mail", "a", 1), numbered("mail", "a", 2))
		synctest.Wait()
		require.NoError(t, leaves.stop())
		synctest.Wait()
		assert.Empty(t, published, "nobody has handled it")
		var got seen
		stays := subscribe(t, b, "mail", "mailer", got.handle)
		require.NoError(t, <-published)
		assert.Equal(t, []string{"mail-a-1", "mail-a-2"}, got.all())
		require.NoError(t, stays.stop())
	})
}

func TestAnEventThatWasGivenUpIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, declared("mailer"))
		var tried seen
		s := subscribe(t, b, "mail", "mailer", func(ctx context.Context, e event.Event) error {
			_ = tried.handle(ctx, e)
			if e.ID == "mail-a-1" {
				return errNotNow
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorIs(t, b.Publish(ctx, numbered("mail", "a", 1)), fault.Unavailable)
		synctest.Wait()
		before := len(tried.all())
		assert.Greater(t, before, 2, "it was tried again while somebody waited")
		time.Sleep(time.Minute)
		assert.Len(t, tried.all(), before)
		require.NoError(t, b.Publish(t.Context(), numbered("mail", "a", 2)))
		assert.Equal(t, "mail-a-2", tried.all()[before])
		require.NoError(t, s.stop())
	})
}

func TestACallThatFailsAfterItWasGivenUpIsTheLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, declared("mailer"))
		answer := make(chan error)
		var tried seen
		s := subscribe(t, b, "mail", "mailer", func(ctx context.Context, e event.Event) error {
			_ = tried.handle(ctx, e)
			return <-answer
		})
		ctx, cancel := context.WithCancel(t.Context())
		first := publish(ctx, b, numbered("mail", "a", 1))
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-first, context.Canceled)
		answer <- errNotNow
		time.Sleep(time.Minute)
		assert.Equal(t, []string{"mail-a-1"}, tried.all())
		again := publish(t.Context(), b, numbered("mail", "a", 1))
		answer <- nil
		require.NoError(t, <-again)
		assert.Equal(t, []string{"mail-a-1", "mail-a-1"}, tried.all())
		require.NoError(t, s.stop())
	})
}

func TestNothingOvertakesAHandlerThatStillRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, declared("mailer"))
		release := make(chan struct{})
		var got seen
		handle := func(ctx context.Context, e event.Event) error {
			<-release
			return got.handle(ctx, e)
		}
		s1, s2 := subscribe(t, b, "mail", "mailer", handle), subscribe(t, b, "mail", "mailer", handle)
		ctx, cancel := context.WithCancel(t.Context())
		first := publish(ctx, b, numbered("mail", "a", 1))
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-first, context.Canceled)
		second := publish(t.Context(), b, numbered("mail", "a", 2))
		synctest.Wait()
		assert.Empty(t, got.all())
		close(release)
		require.NoError(t, <-second)
		assert.Equal(t, []string{"mail-a-1", "mail-a-2"}, got.all())
		require.NoError(t, s1.stop())
		require.NoError(t, s2.stop())
	})
}

func TestSubscribeWaitsForTheRunningCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, declared("mailer"))
		release := make(chan struct{})
		s := subscribe(t, b, "mail", "mailer", func(context.Context, event.Event) error { <-release; return nil })
		published := publish(t.Context(), b, numbered("mail", "a", 1))
		synctest.Wait()
		s.cancel()
		synctest.Wait()
		assert.Empty(t, s.ended, "its handler is running")
		close(release)
		require.NoError(t, <-s.ended)
		require.NoError(t, <-published, "the handler was done with it")
	})
}

func TestTopicsDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, declared("mailer"))
		stuck := publish(t.Context(), b, numbered("mail", "a", 1)) // nobody there
		var got seen
		s := subscribe(t, b, "session", "", got.handle)
		require.NoError(t, b.Publish(t.Context(), numbered("session", "a", 1)))
		synctest.Wait()
		assert.Equal(t, []string{"session-a-1"}, got.all())
		require.NoError(t, s.stop())
		require.NoError(t, b.Close())
		require.ErrorIs(t, <-stuck, watermillbus.ErrClosed)
	})
}

func TestPublishDoesNotWaitForOthers(t *testing.T) {
	t.Parallel()
	for _, group := range []string{"", "not declared"} {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := open(t, declared("mailer"))
				var got, late seen
				mailer := subscribe(t, b, "mail", "mailer", got.handle)
				release := make(chan struct{})
				slow := subscribe(t, b, "mail", group, func(ctx context.Context, e event.Event) error {
					<-release
					return late.handle(ctx, e)
				})
				require.NoError(t, b.Publish(t.Context(), numbered("mail", "a", 1), numbered("mail", "a", 2)))
				assert.Equal(t, []string{"mail-a-1", "mail-a-2"}, got.all())
				close(release)
				synctest.Wait()
				assert.Equal(t, got.all(), late.all(), "it gets them all the same")
				require.NoError(t, slow.stop())
				require.NoError(t, mailer.stop())
			})
		})
	}
}

func TestWhoFallsTooFarBehindIsEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := declared("mailer")
		cfg.Behind = 3
		b := open(t, cfg)
		var got, other seen
		mailer := subscribe(t, b, "mail", "mailer", got.handle)
		fast := subscribe(t, b, "mail", "", other.handle)
		release := make(chan struct{})
		slow := subscribe(t, b, "mail", "", func(context.Context, event.Event) error { <-release; return nil })
		for n := range 10 { // one is handled, three wait: the fifth is too many
			require.NoError(t, b.Publish(t.Context(), numbered("mail", "a", n)))
			synctest.Wait()
		}
		close(release)
		err := <-slow.ended
		require.ErrorIs(t, err, watermillbus.ErrBehind)
		require.ErrorIs(t, err, fault.Exhausted)
		assert.Len(t, got.all(), 10)
		assert.Len(t, other.all(), 10)
		require.NoError(t, mailer.stop())
		require.NoError(t, fast.stop())
	})
}

func TestAHandlerCannotWaitForItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, declared("mailer"))
		var onOwn, onOther error
		s := subscribe(t, b, "mail", "mailer", func(ctx context.Context, e event.Event) error {
			onOwn = b.Publish(ctx, numbered("mail", "b", 1))
			onOther = b.Publish(ctx, numbered("mail.dead", "b", 1))
			return nil
		})
		require.NoError(t, b.Publish(t.Context(), numbered("mail", "a", 1)))
		require.ErrorIs(t, onOwn, watermillbus.ErrOwnTopic)
		require.NoError(t, onOther)
		require.NoError(t, s.stop())
	})
}

func TestInvalidEventsAreRefusedAndOthersPublished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, quick)
		var got seen
		s := subscribe(t, b, "mail", "", got.handle)
		for name, e := range map[string]event.Event{
			"no ID":    {Topic: "mail", Type: "x"},
			"no topic": {ID: "1", Type: "x"},
			"no type":  {ID: "1", Topic: "mail"},
			"nothing":  {},
		} {
			err := b.Publish(t.Context(), numbered("mail", "a", 1), e)
			require.ErrorIs(t, err, watermillbus.ErrEventInvalid, name)
			require.ErrorIs(t, err, fault.Invalid, name)
		}
		synctest.Wait()
		assert.Len(t, got.all(), 4)
		require.NoError(t, s.stop())
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, declared("mailer"))
		failing := subscribe(t, b, "mail", "mailer", func(context.Context, event.Event) error { return errNotNow })
		idle := subscribe(t, b, "session", "", func(context.Context, event.Event) error { return nil })
		published := publish(t.Context(), b, numbered("mail", "a", 1))
		behind := publish(t.Context(), b, numbered("mail", "a", 2))
		synctest.Wait()
		require.NoError(t, b.Close())
		require.NoError(t, b.Close(), "closing twice is harmless")
		require.ErrorIs(t, <-published, watermillbus.ErrClosed)
		require.ErrorIs(t, <-behind, watermillbus.ErrClosed)
		require.ErrorIs(t, <-failing.ended, watermillbus.ErrClosed)
		require.ErrorIs(t, <-idle.ended, watermillbus.ErrClosed)
		require.ErrorIs(t, b.Publish(t.Context(), numbered("session", "a", 1)), watermillbus.ErrClosed)
		require.ErrorIs(t, b.Subscribe(t.Context(), "mail", "", failHandler, nil), watermillbus.ErrClosed)
	})
}

func failHandler(context.Context, event.Event) error { return errNotNow }

func TestConfigIsCheckedAllAtOnce(t *testing.T) {
	t.Parallel()
	_, err := watermillbus.NewGoChannel(watermillbus.GoChannelConfig{Groups: map[string][]string{"mail": {""}}, Behind: -1, Backoff: -1})
	require.Error(t, err)
	for _, want := range []string{"Groups", "Behind", "Backoff"} {
		assert.ErrorContains(t, err, want)
	}
	_, err = watermillbus.NewGoChannel(watermillbus.GoChannelConfig{Groups: map[string][]string{"mail.dead": {"g"}}})
	require.ErrorContains(t, err, `the dead topic "mail.dead"`)
	_, err = watermillbus.NewGoChannel(watermillbus.GoChannelConfig{Backoff: 2, MaxBackoff: 1})
	require.ErrorContains(t, err, "MaxBackoff")
}

// TestNoCrashLosesAnEvent plays a relay against a bus on which everything goes wrong: handlers
// fail, members come and go, publishing is cut short at any moment. The process may die whenever
// Publish has returned nil, so by then each declared group must have handled the event.
func TestNoCrashLosesAnEvent(t *testing.T) {
	t.Parallel()
	const publishers, each = 4, 30
	b := open(t, declared("one", "two"))
	groups := map[string]*ledger{"one": newLedger(), "two": newLedger()}

	over, stop := context.WithCancel(t.Context())
	var members sync.WaitGroup
	for name, l := range groups {
		for range 3 {
			members.Go(func() {
				for over.Err() == nil { // each stays for a few events
					ctx, leave := context.WithCancel(over)
					stay := 1 + rand.IntN(5)
					handle := func(ctx context.Context, e event.Event) error {
						if stay--; stay == 0 {
							leave()
						}
						if rand.IntN(4) == 0 {
							return errNotNow
						}
						return l.handle(e)
					}
					if err := b.Subscribe(ctx, "mail", name, handle, nil); err != nil {
						t.Error(err)
					}
					leave()
				}
			})
		}
	}

	var relays sync.WaitGroup
	for p := range publishers {
		relays.Go(func() {
			key := fmt.Sprint("key", p)
			for n := 0; n < each; {
				ctx, cancel := context.WithCancel(t.Context())
				if rand.IntN(3) == 0 {
					go cancel()
				}
				batch := []event.Event{numbered("mail", key, n), numbered("mail", key, n+1)}
				err := b.Publish(ctx, batch...)
				cancel()
				if err != nil {
					continue // the outbox still has them
				}
				for name, l := range groups {
					for _, e := range batch {
						if !l.has(e.ID) {
							t.Errorf("Publish returned nil, and group %s has not handled %s", name, e.ID)
						}
					}
				}
				n += 2
			}
		})
	}
	relays.Wait()
	stop()
	members.Wait()

	for name, l := range groups {
		for p := range publishers {
			key := fmt.Sprint("key", p)
			for n, id := range l.order[key] {
				if want := numbered("mail", key, n).ID; id != want {
					t.Errorf("group %s handled %s when %s was next", name, id, want)
				}
			}
			assert.Len(t, l.order[key], each)
		}
		assert.False(t, l.overlapped, "two events of a key were handled at once")
	}
}

// ledger keeps what a group has handled: by key, in the order in which each came first.
type ledger struct {
	mu         sync.Mutex
	done       map[string]bool
	order      map[string][]string
	busy       map[string]bool
	overlapped bool
}

func newLedger() *ledger {
	return &ledger{done: map[string]bool{}, order: map[string][]string{}, busy: map[string]bool{}}
}

func (l *ledger) handle(e event.Event) error {
	l.mu.Lock()
	l.overlapped = l.overlapped || l.busy[e.Key]
	l.busy[e.Key] = true
	l.mu.Unlock()

	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy[e.Key] = false
	if !l.done[e.ID] {
		l.done[e.ID] = true
		l.order[e.Key] = append(l.order[e.Key], e.ID)
	}
	return nil
}

func (l *ledger) has(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done[id]
}

func ExampleNewGoChannel() {
	bus, err := watermillbus.NewGoChannel(watermillbus.GoChannelConfig{
		Groups: map[string][]string{"mail": {"mailer"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		ended <- bus.Subscribe(ctx, "mail", "mailer", func(_ context.Context, e event.Event) error {
			fmt.Println("handled", e.Type, e.ID)
			return nil
		}, nil)
	}()
	err = bus.Publish(ctx, event.Event{ID: "1", Topic: "mail", Type: "user.created", Key: "user-1", Data: []byte(`{}`)})
	fmt.Println("published", err)
	cancel()
	fmt.Println(<-ended, bus.Close())
	// Output:
	// handled user.created 1
	// published <nil>
	// <nil> <nil>
}

// TestDeadEventsReleaseTheirPublisher: what can never be handled counts as done, and whoever is
// subscribed to the dead topic may publish to the topic itself.
func TestDeadEventsReleaseTheirPublisher(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, declared("mailer"))
		never := fault.New(fault.Invalid, "never", "it has no address")
		var handled, dead seen
		s := subscribe(t, b, "mail", "mailer", func(ctx context.Context, e event.Event) error {
			if e.ID == "mail-a-1" {
				return never
			}
			return handled.handle(ctx, e)
		})
		mend := subscribe(t, b, "mail.dead", "mend", func(ctx context.Context, e event.Event) error {
			_ = dead.handle(ctx, e)
			return b.Publish(ctx, numbered("mail", "mended", 1))
		})
		require.NoError(t, b.Publish(t.Context(), numbered("mail", "a", 1), numbered("mail", "a", 2)))
		synctest.Wait()
		assert.Equal(t, []string{"mail-a-1"}, dead.all())
		assert.ElementsMatch(t, []string{"mail-a-2", "mail-mended-1"}, handled.all())
		require.NoError(t, mend.stop())
		require.NoError(t, b.Publish(t.Context(), numbered("mail", "a", 1)), "nobody listens to the dead topic")
		require.NoError(t, s.stop())
	})
}
