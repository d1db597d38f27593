package watermillbus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/watermillbus"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
)

// transport is a publisher of Watermill's kind that answers as it is told to.
type transport struct {
	mu     sync.Mutex
	taken  []string
	answer func() error
}

func (p *transport) Publish(topic string, messages ...*message.Message) error {
	err := p.answer()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		for _, m := range messages {
			p.taken = append(p.taken, topic+"/"+m.Metadata.Get("ce_id"))
		}
	}
	return err
}

func (p *transport) Close() error { return errors.New("a Publisher must not close what it was given") }

func (p *transport) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string{}, p.taken...)
}

func newPublisher(t *testing.T, over message.Publisher) *watermillbus.Publisher {
	t.Helper()
	p, err := watermillbus.NewPublisher(watermillbus.PublisherConfig{Publisher: over})
	require.NoError(t, err)
	return p
}

func TestPublisherKeepsTheOrderOfEachTopic(t *testing.T) {
	t.Parallel()
	over := &transport{answer: func() error { return nil }}
	p := newPublisher(t, over)
	require.NoError(t, p.Publish(t.Context()))
	require.NoError(t, p.Publish(t.Context(), numbered("a", "k", 1), numbered("a", "k", 2), numbered("b", "k", 1), numbered("a", "k", 3)))
	all := over.all()
	assert.Contains(t, all, "b/b-k-1")
	assert.Equal(t, []string{"a/a-k-1", "a/a-k-2", "a/a-k-3"}, slices.DeleteFunc(all, func(id string) bool { return id == "b/b-k-1" }))
}

// refuser is a transport that answers for each topic and event as it is told to.
type refuser struct {
	transport
	refuse func(topic, id string) error
	tried  int
}

func (p *refuser) Publish(topic string, messages ...*message.Message) error {
	p.mu.Lock()
	p.tried++
	p.mu.Unlock()
	if err := p.refuse(topic, messages[0].Metadata.Get("ce_id")); err != nil {
		return err
	}
	return p.transport.Publish(topic, messages...)
}

// TestPublisherSaysWhatFailed, and tries as much of the rest as makes sense.
func TestPublisherSaysWhatFailed(t *testing.T) {
	t.Parallel()
	down, gone, large := errors.New("down"), fault.New(fault.NotFound, "no_topic", "no topic"), fault.New(fault.Invalid, "large", "too large")
	keys := func(n int) (events []event.Event) {
		for i := range n {
			events = append(events, numbered("a", fmt.Sprint("k", i), 1))
		}
		return events
	}
	for name, c := range map[string]struct {
		events []event.Event
		refuse func(topic, id string) error
		failed map[int]error
		tried  int
	}{
		"one key fails": {
			[]event.Event{numbered("a", "k", 1), numbered("a", "l", 1), numbered("a", "k", 2), numbered("a", "l", 2), numbered("b", "k", 1)},
			func(topic, id string) error {
				if topic == "a" && id == "a-k-1" {
					return down
				}
				return nil
			}, map[int]error{0: down, 2: down}, 4,
		},
		"one event is too large": {
			[]event.Event{numbered("a", "k", 1), numbered("a", "k", 2), numbered("a", "k", 3)},
			func(_, id string) error {
				if id == "a-k-2" {
					return fmt.Errorf("wrapped: %w", large)
				}
				return nil
			}, map[int]error{1: large}, 3,
		},
		"a topic is gone": {
			append(keys(5), numbered("b", "k", 1)),
			func(topic, _ string) error {
				if topic == "a" {
					return gone
				}
				return nil
			}, map[int]error{0: gone, 1: gone, 2: gone, 3: gone, 4: gone}, 2,
		},
		"eight keys fail": {
			keys(10), func(string, string) error { return down },
			map[int]error{0: down, 1: down, 2: down, 3: down, 4: down, 5: down, 6: down, 7: down, 8: down, 9: down}, 8,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			over := &refuser{transport: transport{answer: func() error { return nil }}, refuse: c.refuse}
			err := newPublisher(t, over).Publish(t.Context(), c.events...)
			var part *event.PublishError
			require.ErrorAs(t, err, &part)
			require.Len(t, part.Failed, len(c.failed))
			for i, want := range c.failed {
				require.ErrorIs(t, part.Failed[i], want)
				if errors.Is(want, down) {
					require.Equal(t, fault.Unavailable, fault.KindOf(part.Failed[i]))
				} else {
					require.Equal(t, fault.KindOf(want), fault.KindOf(part.Failed[i]))
				}
			}
			require.Equal(t, c.tried, over.tried)
			require.Len(t, over.all(), len(c.events)-len(c.failed))
		})
	}
}

// TestPublisherDoesNotWaitForATopicThatHangs with the others.
func TestPublisherDoesNotWaitForATopicThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		thaw := make(chan struct{})
		over := &refuser{transport: transport{answer: func() error { return nil }}, refuse: func(topic, _ string) error {
			if topic == "a" {
				<-thaw
			}
			return nil
		}}
		p := newPublisher(t, over)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := p.Publish(ctx, numbered("a", "k", 1), numbered("a", "l", 2), numbered("b", "k", 1))
		var part *event.PublishError
		require.ErrorAs(t, err, &part)
		require.Len(t, part.Failed, 2)
		require.Equal(t, []string{"b/b-k-1"}, over.all())
		require.NoError(t, p.Publish(t.Context(), numbered("b", "k", 2)))
		close(thaw)
		synctest.Wait()
		require.Len(t, part.Failed, 2, "what comes later is not told")
		require.Equal(t, []string{"b/b-k-1", "b/b-k-2", "a/a-k-1"}, over.all())
	})
}

func TestPublisherFailures(t *testing.T) {
	t.Parallel()
	down := errors.New("the broker is down")
	over := &transport{answer: func() error { return down }}
	p := newPublisher(t, over)
	err := p.Publish(t.Context(), numbered("a", "k", 1))
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, err, down)
	err = p.Publish(t.Context(), numbered("a", "k", 1), event.Event{})
	var part *event.PublishError
	require.ErrorAs(t, err, &part)
	require.ErrorIs(t, part.Failed[0], down)
	require.ErrorIs(t, part.Failed[1], watermillbus.ErrEventInvalid)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = p.Publish(ctx, numbered("a", "k", 1))
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, down, "the transport is not asked any more")
}

func TestPublisherLeavesAFrozenTransport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		thaw := make(chan struct{})
		over := &transport{answer: func() error { <-thaw; return nil }}
		p := newPublisher(t, over)
		for n := range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := p.Publish(ctx, numbered("a", "k", n))
			cancel()
			require.ErrorIs(t, err, fault.Unavailable)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		last := publish(t.Context(), p, numbered("a", "k", 9))
		synctest.Wait()
		assert.Empty(t, over.all())
		close(thaw)
		require.NoError(t, <-last)
		synctest.Wait()
		assert.Equal(t, []string{"a/a-k-0", "a/a-k-9"}, over.all(), "the one that was left, then the one that waited; the others never began")
	})
}

// channel is Watermill's own, which keeps the order when publishing blocks.
func channel(t *testing.T) *gochannel.GoChannel {
	t.Helper()
	c := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, nil)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// kept leaves the closing of a shared subscriber to its owner, and counts.
type kept struct {
	message.Subscriber
	closed chan struct{}
}

func (k kept) Close() error {
	k.closed <- struct{}{}
	return nil
}

// grave keeps messages by topic.
type grave struct{ took map[string][]*message.Message }

func (g *grave) Publish(topic string, messages ...*message.Message) error {
	if g.took == nil {
		g.took = map[string][]*message.Message{}
	}
	g.took[topic] = append(g.took[topic], messages...)
	return nil
}

func (g *grave) Close() error { return nil }

// TestContractOverATransport runs the contract on a Publisher and a Subscriber, over a transport that
// is not this package's.
func TestContractOverATransport(t *testing.T) {
	contract.On(t, "watermillbus", "Watermill's GoChannel")
	contract.Run(t, contract.EventBus(), func(t *testing.T) contract.Bus {
		c := channel(t)
		s, err := watermillbus.NewSubscriber(watermillbus.SubscriberConfig{
			Open: func(context.Context, string, string) (message.Subscriber, error) {
				return kept{c, make(chan struct{}, 1)}, nil
			},
			Dead:    c,
			Backoff: time.Millisecond,
		})
		require.NoError(t, err)
		return contract.Bus{Publisher: newPublisher(t, c), Subscriber: s}
	},
		contract.Except("a group shares the events", "Watermill's GoChannel has no groups"),
		contract.Except("events of a key are handled one at a time", "Watermill's GoChannel has no groups"),
		contract.Except("Subscribe waits for the running call", "nobody can subscribe to Watermill's GoChannel while a message waits"))
}

func newSubscriber(t *testing.T, over message.Subscriber, dead message.Publisher) *watermillbus.Subscriber {
	t.Helper()
	s, err := watermillbus.NewSubscriber(watermillbus.SubscriberConfig{
		Open:    func(context.Context, string, string) (message.Subscriber, error) { return over, nil },
		Dead:    dead,
		Backoff: time.Millisecond,
	})
	require.NoError(t, err)
	return s
}

func TestSubscriberTriesAgainBeforeTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := channel(t)
		closed := make(chan struct{}, 1)
		var tried seen
		failures := 3
		s := subscribe(t, newSubscriber(t, kept{c, closed}, nil), "a", "group", func(ctx context.Context, e event.Event) error {
			_ = tried.handle(ctx, e)
			if e.ID == "a-k-1" && failures > 0 {
				failures--
				return errNotNow
			}
			return nil
		})
		require.NoError(t, newPublisher(t, c).Publish(t.Context(), numbered("a", "k", 1), numbered("a", "k", 2)))
		assert.Equal(t, []string{"a-k-1", "a-k-1", "a-k-1", "a-k-1", "a-k-2"}, tried.all())
		require.NoError(t, s.stop())
		assert.Len(t, closed, 1, "it closes what it opened")
	})
}

// settled is a subscription with one message, which the test looks at afterwards.
type settled struct {
	messages chan *message.Message
	ctx      context.Context // of the subscription
	close    sync.Once
}

func (s *settled) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	s.ctx = ctx
	return s.messages, nil
}

func (s *settled) Close() error {
	s.close.Do(func() { close(s.messages) })
	return nil
}

func TestSubscriberAcknowledgesWhatWasHandledLast(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer error
		acked  bool
	}{
		"handled":     {nil, true},
		"not handled": {errNotNow, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m, err := watermillbus.Encode(numbered("a", "k", 1), "")
				require.NoError(t, err)
				over := &settled{messages: make(chan *message.Message, 1)}
				over.messages <- m
				release := make(chan struct{})
				s := subscribe(t, newSubscriber(t, over, nil), "a", "g", func(context.Context, event.Event) error {
					<-release
					return test.answer
				})
				synctest.Wait()
				s.cancel()
				synctest.Wait()
				assert.Empty(t, s.ended, "the handler is running")
				require.NoError(t, over.ctx.Err(), "the transport must take the answer")
				close(release)
				require.NoError(t, <-s.ended)
				require.Error(t, over.ctx.Err(), "the subscription is over")
				select {
				case <-m.Acked():
					assert.True(t, test.acked)
				case <-m.Nacked():
					assert.False(t, test.acked)
				default:
					t.Error("the message was not settled")
				}
			})
		})
	}
}

func TestMessagesThatAreNotEvents(t *testing.T) {
	t.Parallel()
	foreign := func() *message.Message { return message.NewMessage("1", []byte("\xff\x00 what?")) }

	t.Run("dropped", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			c := channel(t)
			var got seen
			s := subscribe(t, newSubscriber(t, kept{c, make(chan struct{}, 1)}, nil), "a", "g", got.handle)
			require.NoError(t, c.Publish("a", foreign()))
			require.NoError(t, newPublisher(t, c).Publish(t.Context(), numbered("a", "k", 1)))
			assert.Equal(t, []string{"a-k-1"}, got.all())
			require.NoError(t, s.stop())
		})
	})
	t.Run("put aside", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			c := channel(t)
			dead := gochannel.NewGoChannel(gochannel.Config{}, nil)
			defer func() { require.NoError(t, dead.Close()) }()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			aside, err := dead.Subscribe(ctx, "a.dead")
			require.NoError(t, err)
			var got seen
			s := subscribe(t, newSubscriber(t, kept{c, make(chan struct{}, 1)}, dead), "a", "g", got.handle)
			require.NoError(t, c.Publish("a", foreign()))
			m := <-aside
			m.Ack()
			assert.Equal(t, "\xff\x00 what?", string(m.Payload))
			assert.Contains(t, m.Metadata.Get("dead_reason"), "ce_id is missing")
			assert.Empty(t, got.all())
			require.NoError(t, s.stop())
		})
	})
	t.Run("an event that can never be handled", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			long := strings.Repeat("ü", 600) // 1,200 bytes, cut in the middle of a letter
			for _, c := range []struct {
				topic, reason string
				buried        bool
			}{{"a", "no address", true}, {"a", "x" + long, true}, {"a.dead", "no address", false}} {
				m, err := watermillbus.Encode(numbered(c.topic, "k", 1), "them")
				require.NoError(t, err)
				over := &settled{messages: make(chan *message.Message, 1)}
				over.messages <- m
				dead := &grave{}
				s := subscribe(t, newSubscriber(t, over, dead), c.topic, "g", func(context.Context, event.Event) error {
					return fmt.Errorf("in the handler: %w", fault.New(fault.Invalid, "never", c.reason))
				})
				<-m.Acked()
				require.NoError(t, s.stop())
				if !c.buried {
					assert.Empty(t, dead.took, "it is there already")
					continue
				}
				require.Len(t, dead.took["a.dead"], 1)
				buried := dead.took["a.dead"][0]
				assert.Equal(t, m.Payload, buried.Payload)
				why := buried.Metadata.Get(watermillbus.MetaReason)
				assert.True(t, utf8.ValidString(why))
				assert.LessOrEqual(t, len(why), 1024)
				assert.True(t, strings.HasPrefix("in the handler: "+c.reason, why), why)
				delete(buried.Metadata, watermillbus.MetaReason)
				assert.Equal(t, m.Metadata, buried.Metadata)
			}
		})
	})
	t.Run("kept until it can be put aside", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			m, tries := foreign(), 0
			over := &settled{messages: make(chan *message.Message, 1)}
			over.messages <- m
			dead := &transport{answer: func() error {
				if tries++; tries < 4 {
					return errNotNow
				}
				return nil
			}}
			s := subscribe(t, newSubscriber(t, over, dead), "a", "g", failHandler)
			<-m.Acked()
			assert.Equal(t, 4, tries)
			assert.Equal(t, []string{"a.dead/"}, dead.all())
			require.NoError(t, s.stop())
		})
	})
}

func TestSubscriberWhenTheTransportEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		over := &settled{messages: make(chan *message.Message)}
		s := subscribe(t, newSubscriber(t, over, nil), "a", "g", failHandler)
		require.NoError(t, over.Close())
		require.ErrorIs(t, <-s.ended, fault.Unavailable)
	})
}

func TestSubscriberWhenTheTransportRefuses(t *testing.T) {
	t.Parallel()
	refused := errors.New("no such broker")
	s, err := watermillbus.NewSubscriber(watermillbus.SubscriberConfig{
		Open: func(context.Context, string, string) (message.Subscriber, error) { return nil, refused },
	})
	require.NoError(t, err)
	err = s.Subscribe(t.Context(), "a", "g", failHandler, nil)
	require.ErrorIs(t, err, refused)
	require.ErrorIs(t, err, fault.Unavailable)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, s.Subscribe(ctx, "a", "g", failHandler, nil), "its context had ended")
}

func TestTransportConfig(t *testing.T) {
	t.Parallel()
	_, err := watermillbus.NewPublisher(watermillbus.PublisherConfig{})
	require.ErrorContains(t, err, "PublisherConfig.Publisher is missing")
	_, err = watermillbus.NewSubscriber(watermillbus.SubscriberConfig{Backoff: -1})
	require.ErrorContains(t, err, "SubscriberConfig.Open is missing")
	require.ErrorContains(t, err, "Backoff")
}
