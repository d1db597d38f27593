package kafkabus

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
)

// TestHandlerOutlivesItsPartitionBriefly: its context ends a while after the session, and its
// failure is the next owner's business.
func TestHandlerOutlivesItsPartitionBriefly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		session, lose := context.WithCancel(t.Context())
		d := &delivery{session: session}
		c := &consumer{topic: "mail"}
		c.now.Store(d)
		calls := 0
		handle := c.guard(func(ctx context.Context, _ event.Event) error {
			calls++
			lose()
			lost := time.Now()
			<-ctx.Done()
			require.Equal(t, handlerGrace, time.Since(lost))
			return ctx.Err()
		})
		require.NoError(t, handle(t.Context(), event.Event{}))
		require.True(t, d.forsaken.Load())
		require.NoError(t, handle(t.Context(), event.Event{}))
		require.Equal(t, 1, calls, "it is not tried again here")
	})
}

func TestHandlerThatSucceedsAfterTheSessionIsDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		session, lose := context.WithCancel(t.Context())
		d := &delivery{session: session}
		c := &consumer{topic: "mail"}
		c.now.Store(d)
		require.NoError(t, c.guard(func(ctx context.Context, _ event.Event) error {
			lose()
			synctest.Wait()
			return ctx.Err()
		})(t.Context(), event.Event{}))
		require.False(t, d.forsaken.Load(), "it can still be committed")
	})
}

func TestHandlerFailsWhileItOwnsThePartition(t *testing.T) {
	t.Parallel()
	d := &delivery{session: t.Context()}
	c := &consumer{topic: "mail"}
	c.now.Store(d)
	failed := errors.New("not now")
	require.ErrorIs(t, c.guard(func(context.Context, event.Event) error { return failed })(t.Context(), event.Event{}), failed)
	require.False(t, d.forsaken.Load())
}

// sink keeps messages by topic, or refuses them.
type sink struct {
	err  error
	took map[string][]*message.Message
}

func (s *sink) Publish(topic string, messages ...*message.Message) error {
	if s.err == nil {
		s.took[topic] = append(s.took[topic], messages...)
	}
	return s.err
}

func (s *sink) Close() error { return nil }

func TestWhatCanNeverBeHandledIsNotLeftToTheNextOwner(t *testing.T) {
	t.Parallel()
	session, lose := context.WithCancel(t.Context())
	d := &delivery{session: session}
	c := &consumer{topic: "mail"}
	c.now.Store(d)
	never := fault.New(fault.Invalid, "never", "it has no address")
	err := c.guard(func(context.Context, event.Event) error { lose(); return never })(t.Context(), event.Event{})
	require.ErrorIs(t, err, never, "watermillbus sets it aside")
	require.False(t, d.forsaken.Load())
}

func TestStaticNamesAreReused(t *testing.T) {
	t.Parallel()
	b := &Bus{cfg: Config{Node: "n"}, instances: map[string]bool{}}
	one, release := b.instance("g")
	two, _ := b.instance("g")
	other, _ := b.instance("h")
	require.Equal(t, []string{"n-1", "n-2", "n-1"}, []string{one, two, other})
	release()
	again, _ := b.instance("g")
	require.Equal(t, "n-1", again)
	none, _ := b.instance("")
	require.Empty(t, none)
}

// TestFailedPublishLooksForLeadersFirst: the producer is left alone until there are some.
func TestFailedPublishLooksForLeadersFirst(t *testing.T) {
	t.Parallel()
	down, leaderless := errors.New("down"), errors.New("no leader")
	s := &sink{took: map[string][]*message.Message{}}
	var asked []string
	var found error
	r := &records{to: s, leaders: func(topic string) error { asked = append(asked, topic); return found }}
	m := message.NewMessage("1", nil)
	require.NoError(t, r.Publish("mail", m))
	require.Empty(t, asked)

	s.err, found = down, leaderless
	require.ErrorIs(t, r.Publish("mail", m), down)
	s.err = nil
	require.ErrorIs(t, r.Publish("mail", m), leaderless)
	require.Len(t, s.took["mail"], 1)

	found = nil
	require.NoError(t, r.Publish("mail", m))
	require.NoError(t, r.Publish("mail", m))
	require.Equal(t, []string{"mail", "mail"}, asked)
	require.Len(t, s.took["mail"], 3)
}
