package contract_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
)

func busFaults() []broken[contract.Bus] {
	publishes := func(f func(p event.Publisher) publisher) func(contract.Bus) contract.Bus {
		return func(b contract.Bus) contract.Bus { b.Publisher = f(b.Publisher); return b }
	}
	subscribes := func(f func(s event.Subscriber) subscriber) func(contract.Bus) contract.Bus {
		return func(b contract.Bus) contract.Bus { b.Subscriber = f(b.Subscriber); return b }
	}
	handles := func(wrap func(event.Handler) event.Handler) func(contract.Bus) contract.Bus {
		return subscribes(func(s event.Subscriber) subscriber {
			return func(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
				return s.Subscribe(ctx, topic, group, wrap(handle), ready)
			}
		})
	}
	return []broken[contract.Bus]{
		{"keys are lost", "an event arrives whole", handles(func(handle event.Handler) event.Handler {
			return func(ctx context.Context, e event.Event) error { e.Key = "key"; return handle(ctx, e) }
		})},
		{"times are of arrival", "an event arrives whole", handles(func(handle event.Handler) event.Handler {
			return func(ctx context.Context, e event.Event) error { e.Time = time.Now().UTC(); return handle(ctx, e) }
		})},
		{"events are turned round", "events of a key arrive in order", publishes(func(p event.Publisher) publisher {
			return func(ctx context.Context, events ...event.Event) error {
				events = slices.Clone(events)
				slices.Reverse(events)
				return p.Publish(ctx, events...)
			}
		})},
		{"only the first event of a call is published", "events of many keys arrive in the order of each", publishes(func(p event.Publisher) publisher {
			return func(ctx context.Context, events ...event.Event) error {
				return p.Publish(ctx, events[:min(1, len(events))]...)
			}
		})},
		{"a failed event is dropped", "a failed event comes again before its successors", handles(func(handle event.Handler) event.Handler {
			return func(ctx context.Context, e event.Event) error { _ = handle(ctx, e); return nil }
		})},
		{"a failed event comes again at the end", "a failed event comes again before its successors", func(b contract.Bus) contract.Bus {
			under := b
			b.Subscriber = subscriber(func(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
				return under.Subscriber.Subscribe(ctx, topic, group, func(ctx context.Context, e event.Event) error {
					if err := handle(ctx, e); err != nil {
						time.Sleep(time.Second) // in the bubble's time: the others are there by then
						return under.Publisher.Publish(ctx, e)
					}
					return nil
				}, ready)
			})
			return b
		}},
		{"what can never be handled comes again", "what can never be handled holds up nobody", handles(func(handle event.Handler) event.Handler {
			return func(ctx context.Context, e event.Event) error {
				if err := handle(ctx, e); err != nil {
					return fault.Unavailable
				}
				return nil
			}
		})},
		{"one that can never be handled ends the subscription", "what can never be handled holds up nobody", subscribes(func(s event.Subscriber) subscriber {
			return func(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
				sub, end := context.WithCancelCause(ctx)
				defer end(nil)
				err := s.Subscribe(sub, topic, group, func(ctx context.Context, e event.Event) error {
					err := handle(ctx, e)
					if event.Never(err) {
						end(err)
					}
					return err
				}, ready)
				if ctx.Err() == nil {
					err = errors.Join(err, context.Cause(sub))
				}
				return err
			}
		})},
		{"what can never be handled is lost", "what can never be handled is set aside", handles(func(handle event.Handler) event.Handler {
			return func(ctx context.Context, e event.Event) error {
				if err := handle(ctx, e); !event.Never(err) {
					return err
				}
				return nil
			}
		})},
		{"what is set aside is given a new identity", "what can never be handled is set aside", handles(func(handle event.Handler) event.Handler {
			return func(ctx context.Context, e event.Event) error {
				if strings.HasSuffix(e.Topic, event.DeadSuffix) {
					e.ID = "dead-" + e.ID
				}
				return handle(ctx, e)
			}
		})},
		{"what is set aside has lost its data", "what can never be handled is set aside", handles(func(handle event.Handler) event.Handler {
			return func(ctx context.Context, e event.Event) error {
				if strings.HasSuffix(e.Topic, event.DeadSuffix) {
					e.Data = []byte(`{}`)
				}
				return handle(ctx, e)
			}
		})},
		{"everything that fails is set aside", "a failed event comes again before its successors", handles(func(handle event.Handler) event.Handler {
			return func(ctx context.Context, e event.Event) error {
				if err := handle(ctx, e); err != nil {
					return fault.Invalid
				}
				return nil
			}
		})},
		{"only groups set aside", "without a group it is set aside too", subscribes(func(s event.Subscriber) subscriber {
			return func(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
				return s.Subscribe(ctx, topic, group, func(ctx context.Context, e event.Event) error {
					err := handle(ctx, e)
					if group == "" && event.Never(err) {
						return nil
					}
					return err
				}, ready)
			}
		})},
		{"a dead topic has one of its own, which holds it up", "what can never be handled on a dead topic is dropped", subscribes(func(s event.Subscriber) subscriber {
			return func(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
				return s.Subscribe(ctx, topic, group, func(ctx context.Context, e event.Event) error {
					err := handle(ctx, e)
					if _, ok := event.DeadTopic(topic); !ok && event.Never(err) {
						return errors.New("there is no topic mail.dead.dead")
					}
					return err
				}, ready)
			}
		})},
		{"handlers of one key overlap", "events of a key are handled one at a time", func(b contract.Bus) contract.Bus {
			under := b
			b.Subscriber = subscriber(func(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
				var running sync.WaitGroup
				defer running.Wait()
				return under.Subscriber.Subscribe(ctx, topic, group, func(ctx context.Context, e event.Event) error {
					running.Go(func() { _ = handle(ctx, e) })
					return nil
				}, ready)
			})
			return b
		}},
		{"a group does not share", "a group shares the events", subscribes(func(s event.Subscriber) subscriber {
			return func(ctx context.Context, topic, _ string, handle event.Handler, ready func()) error {
				return s.Subscribe(ctx, topic, "", handle, ready)
			}
		})},
		{"groups share with each other", "every group gets all events", subscribes(func(s event.Subscriber) subscriber {
			return func(ctx context.Context, topic, _ string, handle event.Handler, ready func()) error {
				return s.Subscribe(ctx, topic, "one", handle, ready)
			}
		})},
		{"no group is a group", "no group gets every event", subscribes(func(s event.Subscriber) subscriber {
			return func(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
				return s.Subscribe(ctx, topic, "group"+group, handle, ready)
			}
		})},
		{"topics run together", "topics are apart", func(b contract.Bus) contract.Bus {
			under := b
			b.Publisher = publisher(func(ctx context.Context, events ...event.Event) error {
				for _, e := range events {
					for _, topic := range []string{"mail", "session"} {
						e.Topic = topic
						if err := under.Publisher.Publish(ctx, e); err != nil {
							return err
						}
					}
				}
				return nil
			})
			return b
		}},
		{"ready comes twice", "ready is called once", subscribes(func(s event.Subscriber) subscriber {
			return func(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
				return s.Subscribe(ctx, topic, group, handle, func() {
					if ready != nil {
						ready()
						ready()
					}
				})
			}
		})},
		{"ready comes too early", "no group gets every event", subscribes(func(s event.Subscriber) subscriber {
			return func(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
				ready()
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(time.Second): // in the bubble's time
				}
				return s.Subscribe(ctx, topic, group, handle, nil)
			}
		})},
		{"the end is an error", "Subscribe ends with its context", subscribes(func(s event.Subscriber) subscriber {
			return func(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
				return errors.Join(s.Subscribe(ctx, topic, group, handle, ready), ctx.Err())
			}
		})},
		{"the end does not wait", "Subscribe waits for the running call", subscribes(func(s event.Subscriber) subscriber {
			return func(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
				ended := make(chan error, 1)
				go func() { ended <- s.Subscribe(ctx, topic, group, handle, ready) }()
				select {
				case err := <-ended:
					return err
				case <-ctx.Done():
					return nil
				}
			}
		})},
		{"an ended subscription goes on", "nothing is handled after the end", subscribes(func(s event.Subscriber) subscriber {
			var mu sync.Mutex
			var ended []event.Handler
			return func(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
				err := s.Subscribe(ctx, topic, group, func(ctx context.Context, e event.Event) error {
					mu.Lock()
					late := slices.Clone(ended)
					mu.Unlock()
					for _, h := range late { // before the one that goes on, so that it is not a question of time
						_ = h(ctx, e)
					}
					return handle(ctx, e)
				}, ready)
				mu.Lock()
				defer mu.Unlock()
				ended = append(ended, handle)
				return err
			}
		})},
		{"concurrent events are lost", "concurrent publishers lose nothing", publishes(func(p event.Publisher) publisher {
			var mu sync.Mutex
			n := 0
			return func(ctx context.Context, events ...event.Event) error {
				mu.Lock()
				n++
				lose := n%10 == 0
				mu.Unlock()
				if lose {
					return nil
				}
				return p.Publish(ctx, events...)
			}
		})},
		{"nothing is an error", "publishing nothing is no error", publishes(func(p event.Publisher) publisher {
			return func(ctx context.Context, events ...event.Event) error {
				if len(events) == 0 {
					return fault.Invalid
				}
				return p.Publish(ctx, events...)
			}
		})},
		{"one event that cannot be published fails all", "what can never be published is named, and the others are taken", publishes(func(p event.Publisher) publisher {
			return func(ctx context.Context, events ...event.Event) error {
				for _, e := range events {
					if err := e.Check(); err != nil {
						return err
					}
				}
				return p.Publish(ctx, events...)
			}
		})},
		{"what cannot be published is dropped", "what can never be published is named, and the others are taken", publishes(func(p event.Publisher) publisher {
			return func(ctx context.Context, events ...event.Event) error {
				return p.Publish(ctx, slices.DeleteFunc(slices.Clone(events), func(e event.Event) bool { return e.Check() != nil })...)
			}
		})},
		{"what can never be published fails for now", "what can never be published is named, and the others are taken", publishes(func(p event.Publisher) publisher {
			return func(ctx context.Context, events ...event.Event) error {
				err := p.Publish(ctx, events...)
				if part := (*event.PublishError)(nil); errors.As(err, &part) {
					for i := range part.Failed {
						part.Failed[i] = fault.Unavailable
					}
				}
				return err
			}
		})},
		{"what can never be published holds up its key", "an event that can never be published holds up nobody", publishes(func(p event.Publisher) publisher {
			return func(ctx context.Context, events ...event.Event) error {
				behind, failed := map[string]error{}, map[int]error{}
				for i, e := range events {
					err := behind[e.Key]
					if err == nil {
						err = p.Publish(ctx, e)
					}
					if err != nil {
						behind[e.Key], failed[i] = err, err
					}
				}
				return event.Failures(failed)
			}
		})},
		{"publishing never gives up", "Publish gives up with its context", publishes(func(p event.Publisher) publisher {
			return func(ctx context.Context, events ...event.Event) error {
				if ctx.Err() != nil {
					time.Sleep(time.Hour) // in the bubble's time
				}
				return p.Publish(ctx, events...)
			}
		})},
	}
}
