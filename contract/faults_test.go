package contract_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
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
			return func(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
				go func() {
					onward, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Hour)
					defer cancel()
					_ = s.Subscribe(onward, topic, group, handle, ready)
				}()
				<-ctx.Done()
				return nil
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

func queueFaults() []broken[contract.Mails] {
	breaks := func(f func(q mail.Queue, p contract.Mails) queue) func(contract.Mails) contract.Mails {
		return func(p contract.Mails) contract.Mails {
			q := f(p.Queue, p)
			q.Queue, p.Queue = p.Queue, q
			return p
		}
	}
	enqueues := func(f func(q mail.Queue, ctx context.Context, j mail.Job) error) func(contract.Mails) contract.Mails {
		return breaks(func(q mail.Queue, _ contract.Mails) queue {
			return queue{enqueue: func(ctx context.Context, j mail.Job) error { return f(q, ctx, j) }}
		})
	}
	claims := func(f func(q mail.Queue, ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error)) func(contract.Mails) contract.Mails {
		return breaks(func(q mail.Queue, _ contract.Mails) queue {
			return queue{claim: func(ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
				return f(q, ctx, now, lease)
			}}
		})
	}
	settles := func(f func(p contract.Mails, ctx context.Context, j mail.Job, o mail.Outcome) error) func(contract.Mails) contract.Mails {
		return breaks(func(_ mail.Queue, p contract.Mails) queue {
			return queue{settle: func(ctx context.Context, j mail.Job, o mail.Outcome) error { return f(p, ctx, j, o) }}
		})
	}
	prunes := func(f func(q mail.Queue, ctx context.Context, before time.Time) (int, error)) func(contract.Mails) contract.Mails {
		return breaks(func(q mail.Queue, _ contract.Mails) queue {
			return queue{prune: func(ctx context.Context, before time.Time) (int, error) { return f(q, ctx, before) }}
		})
	}
	return []broken[contract.Mails]{
		{"data is reformatted", "an enqueued job is stored whole", enqueues(func(q mail.Queue, ctx context.Context, j mail.Job) error {
			j.Data = []byte(strings.ReplaceAll(string(j.Data), " ", ""))
			return q.Enqueue(ctx, j)
		})},
		{"keys are not unique", "enqueueing a key twice is harmless", enqueues(func(q mail.Queue, ctx context.Context, j mail.Job) error {
			j.Key += j.ID
			return q.Enqueue(ctx, j)
		})},
		{"a known key is an error", "enqueueing a key twice is harmless", breaks(func(q mail.Queue, p contract.Mails) queue {
			return queue{enqueue: func(ctx context.Context, j mail.Job) error {
				jobs, err := p.Letters.List(ctx, mail.Filter{Limit: 1000})
				if slices.ContainsFunc(jobs, func(o mail.Job) bool { return o.Key == j.Key }) {
					return fault.Conflict
				}
				return errors.Join(err, q.Enqueue(ctx, j))
			}}
		})},
		{"keys of sent jobs are forgotten", "a key is known in every state", breaks(func(q mail.Queue, p contract.Mails) queue {
			return queue{enqueue: func(ctx context.Context, j mail.Job) error {
				jobs, err := p.Letters.List(ctx, mail.Filter{State: mail.Sent, Limit: 1000})
				if slices.ContainsFunc(jobs, func(o mail.Job) bool { return o.Key == j.Key }) {
					j.Key += " again"
				}
				return errors.Join(err, q.Enqueue(ctx, j))
			}}
		})},
		{"keys are folded", "keys are exact", enqueues(func(q mail.Queue, ctx context.Context, j mail.Job) error {
			j.Key = lower(j.Key)
			return q.Enqueue(ctx, j)
		})},
		{"names are cut", "long and foreign values are kept", enqueues(func(q mail.Queue, ctx context.Context, j mail.Job) error {
			j.Name = j.Name[:min(len(j.Name), 255)]
			return q.Enqueue(ctx, j)
		})},
		{"the newest job comes first", "jobs are claimed in the order of enqueueing", breaks(func(q mail.Queue, p contract.Mails) queue {
			return queue{claim: func(ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
				var all []mail.Job
				for { // take all, give back all but the last
					j, ok, err := q.Claim(ctx, now, lease)
					if err != nil {
						return j, false, err
					}
					if !ok {
						break
					}
					all = append(all, j)
				}
				if len(all) == 0 {
					return mail.Job{}, false, nil
				}
				for _, j := range all[:len(all)-1] {
					if err := q.Settle(ctx, j, mail.Outcome{State: mail.Ready, RunAt: now, At: now}); err != nil {
						return j, false, err
					}
				}
				return all[len(all)-1], true, nil
			}}
		})},
		{"claims do not wait", "a job waits for its time", claims(func(q mail.Queue, ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
			return q.Claim(ctx, now.Add(time.Second), lease)
		})},
		{"a job is due only after its time", "a job waits for its time", claims(func(q mail.Queue, ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
			return q.Claim(ctx, now.Add(-time.Microsecond), lease+time.Microsecond)
		})},
		{"claims are not counted", "a claimed job is running", claims(func(q mail.Queue, ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
			j, ok, err := q.Claim(ctx, now, lease)
			j.Claims = 0
			return j, ok, err
		})},
		{"leases are too short", "a lease keeps others away", claims(func(q mail.Queue, ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
			return q.Claim(ctx, now, lease/2)
		})},
		{"leases never end", "a job is claimed again when its lease ends", claims(func(q mail.Queue, ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
			return q.Claim(ctx, now, 1000*lease)
		})},
		{"claims race", "concurrent claims share the jobs", breaks(func(q mail.Queue, p contract.Mails) queue {
			return queue{claim: func(ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
				jobs, err := p.Letters.List(ctx, mail.Filter{State: mail.Ready, Limit: 1})
				if err != nil || len(jobs) == 0 {
					return mail.Job{}, false, err
				}
				time.Sleep(time.Millisecond) // in the bubble's time
				_, _, err = q.Claim(ctx, now, lease)
				return jobs[0], true, err
			}}
		})},
		{"any lease will do", "a lease that does not last is refused", claims(func(q mail.Queue, ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
			return q.Claim(ctx, now, max(lease, time.Microsecond))
		})},
		{"any outcome is a failure", "an outcome that is none is refused", settles(func(p contract.Mails, ctx context.Context, j mail.Job, o mail.Outcome) error {
			if o.Check() != nil {
				o.State = mail.Ready
			}
			return p.Queue.Settle(ctx, j, o)
		})},
		{"settling claims nothing", "a sent job is done", settles(func(contract.Mails, context.Context, mail.Job, mail.Outcome) error { return nil })},
		{"errors are forgotten", "a job that failed comes again at its time", settles(func(p contract.Mails, ctx context.Context, j mail.Job, o mail.Outcome) error {
			o.Error = ""
			return p.Queue.Settle(ctx, j, o)
		})},
		{"a failed job comes again at once", "a job that failed comes again at its time", settles(func(p contract.Mails, ctx context.Context, j mail.Job, o mail.Outcome) error {
			o.RunAt = o.At
			return p.Queue.Settle(ctx, j, o)
		})},
		{"every attempt counts", "an attempt that was none is given back", settles(func(p contract.Mails, ctx context.Context, j mail.Job, o mail.Outcome) error {
			o.Untried = false
			return p.Queue.Settle(ctx, j, o)
		})},
		{"since when is forgotten", "since when a mail is put off is kept", settles(func(p contract.Mails, ctx context.Context, j mail.Job, o mail.Outcome) error {
			o.DeferredSince = time.Time{}
			return p.Queue.Settle(ctx, j, o)
		})},
		{"since when is always the last time", "since when a mail is put off is kept", settles(func(p contract.Mails, ctx context.Context, j mail.Job, o mail.Outcome) error {
			if o.State == mail.Ready {
				o.DeferredSince = o.At
			}
			return p.Queue.Settle(ctx, j, o)
		})},
		{"no attempt counts", "a job that failed comes again at its time", settles(func(p contract.Mails, ctx context.Context, j mail.Job, o mail.Outcome) error {
			o.Untried = o.State == mail.Ready
			return p.Queue.Settle(ctx, j, o)
		})},
		{"a dead job is sent", "a dead job is not claimed", settles(func(p contract.Mails, ctx context.Context, j mail.Job, o mail.Outcome) error {
			o.State = mail.Sent
			return p.Queue.Settle(ctx, j, o)
		})},
		{"a lost lease settles", "settling a lost lease is refused", settles(func(p contract.Mails, ctx context.Context, j mail.Job, o mail.Outcome) error {
			now, err := p.Letters.Get(ctx, j.ID)
			j.Claims = now.Claims
			return errors.Join(err, p.Queue.Settle(ctx, j, o))
		})},
		{"a lost lease is silent", "settling twice is refused", settles(func(p contract.Mails, ctx context.Context, j mail.Job, o mail.Outcome) error {
			if err := p.Queue.Settle(ctx, j, o); !errors.Is(err, mail.ErrLeaseLost) {
				return err
			}
			return nil
		})},
		{"a removed job is not found", "settling a removed job is refused", settles(func(p contract.Mails, ctx context.Context, j mail.Job, o mail.Outcome) error {
			if _, err := p.Letters.Get(ctx, j.ID); err != nil {
				return err
			}
			return p.Queue.Settle(ctx, j, o)
		})},
		{"late settling is refused", "settling late is fine while nobody else claimed", settles(func(p contract.Mails, ctx context.Context, j mail.Job, o mail.Outcome) error {
			if o.At.After(j.LeasedUntil) {
				return mail.ErrLeaseLost
			}
			return p.Queue.Settle(ctx, j, o)
		})},
		{"everybody settles", "concurrent settling is once", settles(func(p contract.Mails, ctx context.Context, j mail.Job, o mail.Outcome) error {
			_ = p.Queue.Settle(ctx, j, o)
			return nil
		})},
		{"sent jobs keep their data", "a sent job forgets its data", func(p contract.Mails) contract.Mails {
			under := p
			p.Letters = letters{DeadLetters: under.Letters, get: func(ctx context.Context, id string) (mail.Job, error) {
				j, err := under.Letters.Get(ctx, id)
				if j.State == mail.Sent {
					j.Data = []byte(`{"code":"1"}`)
				}
				return j, err
			}}
			return p
		}},
		{"a requeue restarts the claims", "claims count on after a requeue", claims(func(q mail.Queue, ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
			j, ok, err := q.Claim(ctx, now, lease)
			j.Claims = int64(j.Attempts)
			return j, ok, err
		})},
		{"pruning takes the boundary", "pruning removes old sent jobs", prunes(func(q mail.Queue, ctx context.Context, before time.Time) (int, error) {
			return q.Prune(ctx, before.Add(time.Microsecond))
		})},
		{"pruning counts nothing", "pruning removes old sent jobs", prunes(func(q mail.Queue, ctx context.Context, before time.Time) (int, error) {
			_, err := q.Prune(ctx, before)
			return 0, err
		})},
		{"pruning takes dead letters", "pruning leaves what is not sent", breaks(func(q mail.Queue, p contract.Mails) queue {
			return queue{prune: func(ctx context.Context, before time.Time) (int, error) {
				dead, err := p.Letters.List(ctx, mail.Filter{State: mail.Dead, Limit: 1000})
				for _, j := range dead {
					err = errors.Join(err, p.Letters.Discard(ctx, j.ID))
				}
				n, pruned := q.Prune(ctx, before)
				return n, errors.Join(err, pruned)
			}}
		})},
		{"a claim with an ended context loses the job", "an ended context does all or nothing", breaks(func(q mail.Queue, p contract.Mails) queue {
			return queue{claim: func(ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
				j, ok, err := q.Claim(context.WithoutCancel(ctx), now, lease)
				if ctx.Err() != nil && err == nil && ok {
					err = errors.Join(q.Settle(context.WithoutCancel(ctx), j, mail.Outcome{State: mail.Dead, At: now}), ctx.Err())
					ok = false
				}
				return j, ok, err
			}}
		})},
	}
}

func letterFaults() []broken[contract.Mails] {
	breaks := func(f func(l mail.DeadLetters) letters) func(contract.Mails) contract.Mails {
		return func(p contract.Mails) contract.Mails {
			l := f(p.Letters)
			l.DeadLetters, p.Letters = p.Letters, l
			return p
		}
	}
	lists := func(f func(l mail.DeadLetters, ctx context.Context, filter mail.Filter) ([]mail.Job, error)) func(contract.Mails) contract.Mails {
		return breaks(func(l mail.DeadLetters) letters {
			return letters{list: func(ctx context.Context, filter mail.Filter) ([]mail.Job, error) { return f(l, ctx, filter) }}
		})
	}
	return []broken[contract.Mails]{
		{"every limit will do", "a limit out of range is refused", lists(func(l mail.DeadLetters, ctx context.Context, filter mail.Filter) ([]mail.Job, error) {
			filter.Limit = min(max(filter.Limit, 1), 1000)
			return l.List(ctx, filter)
		})},
		{"lists descend", "jobs are listed ascending by ID", lists(func(l mail.DeadLetters, ctx context.Context, f mail.Filter) ([]mail.Job, error) {
			jobs, err := l.List(ctx, f)
			slices.Reverse(jobs)
			return jobs, err
		})},
		{"the limit is ignored", "a list has at most limit jobs", lists(func(l mail.DeadLetters, ctx context.Context, f mail.Filter) ([]mail.Job, error) {
			f.Limit = 1000
			return l.List(ctx, f)
		})},
		{"pages overlap", "page by page, every job comes once", lists(func(l mail.DeadLetters, ctx context.Context, f mail.Filter) ([]mail.Job, error) {
			if n := len(f.After); n > 0 {
				f.After = f.After[:n-1]
			}
			return l.List(ctx, f)
		})},
		{"a gone job ends the list", "a job that is gone still marks its place", lists(func(l mail.DeadLetters, ctx context.Context, f mail.Filter) ([]mail.Job, error) {
			if f.After != "" {
				if _, err := l.Get(ctx, f.After); err != nil {
					return nil, nil
				}
			}
			return l.List(ctx, f)
		})},
		{"the recipient is ignored", "state and recipient choose", lists(func(l mail.DeadLetters, ctx context.Context, f mail.Filter) ([]mail.Job, error) {
			f.To = ""
			return l.List(ctx, f)
		})},
		{"an unknown job is an empty one", "an unknown job is not found", breaks(func(l mail.DeadLetters) letters {
			return letters{get: func(ctx context.Context, id string) (mail.Job, error) { j, _ := l.Get(ctx, id); return j, nil }}
		})},
		{"a requeue forgets the error", "a requeued job is ready", breaks(func(l mail.DeadLetters) letters {
			return letters{get: func(ctx context.Context, id string) (mail.Job, error) {
				j, err := l.Get(ctx, id)
				if j.State == mail.Ready {
					j.LastError = ""
				}
				return j, err
			}}
		})},
		{"a requeue still counts as put off", "a requeued job was never put off", breaks(func(l mail.DeadLetters) letters {
			return letters{get: func(ctx context.Context, id string) (mail.Job, error) {
				j, err := l.Get(ctx, id)
				if j.State == mail.Ready && j.LastError == "too long" {
					j.DeferredSince = j.CreatedAt
				}
				return j, err
			}}
		})},
		{"a requeue keeps the old data", "a requeue may replace the data", breaks(func(l mail.DeadLetters) letters {
			return letters{requeue: func(ctx context.Context, id string, runAt time.Time, _ []byte) error {
				return l.Requeue(ctx, id, runAt, nil)
			}}
		})},
		{"a requeue without data empties it", "a requeue may replace the data", breaks(func(l mail.DeadLetters) letters {
			return letters{requeue: func(ctx context.Context, id string, runAt time.Time, data []byte) error {
				return l.Requeue(ctx, id, runAt, append([]byte{}, data...))
			}}
		})},
		{"a job that is not dead is not found", "only dead letters are requeued and discarded", breaks(func(l mail.DeadLetters) letters {
			return letters{requeue: func(ctx context.Context, id string, runAt time.Time, data []byte) error {
				if err := l.Requeue(ctx, id, runAt, data); err != nil {
					return mail.ErrJobNotFound
				}
				return nil
			}}
		})},
		{"everybody requeues", "concurrent requeues are one", breaks(func(l mail.DeadLetters) letters {
			return letters{requeue: func(ctx context.Context, id string, runAt time.Time, data []byte) error {
				_ = l.Requeue(ctx, id, runAt, data)
				return nil
			}}
		})},
		{"discarding does nothing", "a discarded job is gone", breaks(func(mail.DeadLetters) letters {
			return letters{discard: func(context.Context, string) error { return nil }}
		})},
		{"only dead letters are removed", "what is mailed to somebody is removed", erasesMail(func(l mail.DeadLetters, ctx context.Context, to user.Email) (int, error) {
			jobs, err := l.List(ctx, mail.Filter{State: mail.Dead, To: to, Limit: 10})
			for _, j := range jobs {
				err = errors.Join(err, l.Discard(ctx, j.ID))
			}
			return len(jobs), err
		})},
		{"who else has mail loses it", "what is mailed to somebody is removed", erasesMail(func(l mail.DeadLetters, ctx context.Context, to user.Email) (int, error) {
			n, err := l.DeleteTo(ctx, to)
			_, others := l.DeleteTo(ctx, "zoe5@example.com")
			return n, errors.Join(err, others)
		})},
		{"a claimed job outlives its recipient", "a removed job's lease is lost", func(p contract.Mails) contract.Mails {
			p.Queue = leaseKeeper{p.Queue}
			return p
		}},
		{"everybody discards", "concurrent discards are one", breaks(func(l mail.DeadLetters) letters {
			return letters{discard: func(ctx context.Context, id string) error { _ = l.Discard(ctx, id); return nil }}
		})},
	}
}

// erasesMail removes what is mailed to somebody as f does.
func erasesMail(f func(l mail.DeadLetters, ctx context.Context, to user.Email) (int, error)) func(contract.Mails) contract.Mails {
	return func(p contract.Mails) contract.Mails {
		p.Letters = lettersEraser{p.Letters, f}
		return p
	}
}

type lettersEraser struct {
	mail.DeadLetters
	f func(l mail.DeadLetters, ctx context.Context, to user.Email) (int, error)
}

func (l lettersEraser) DeleteTo(ctx context.Context, to user.Email) (int, error) {
	return l.f(l.DeadLetters, ctx, to)
}

// leaseKeeper takes every settlement of a job that is gone for good.
type leaseKeeper struct{ mail.Queue }

func (q leaseKeeper) Settle(ctx context.Context, j mail.Job, o mail.Outcome) error {
	if err := q.Queue.Settle(ctx, j, o); !errors.Is(err, mail.ErrLeaseLost) {
		return err
	}
	return nil
}

func statsFaults() []broken[contract.Mails] {
	breaks := func(f func(map[mail.State]int)) func(contract.Mails) contract.Mails {
		return func(p contract.Mails) contract.Mails {
			under := p.Stats
			p.Stats = stats(func(ctx context.Context) (map[mail.State]int, error) {
				all, err := under.Stats(ctx)
				f(all)
				return all, err
			})
			return p
		}
	}
	return []broken[contract.Mails]{
		{"running jobs count as ready", "each state is counted", breaks(func(all map[mail.State]int) {
			all[mail.Ready], all[mail.Running] = all[mail.Ready]+all[mail.Running], 0
		})},
		{"there is a total", "an empty queue counts nothing", breaks(func(all map[mail.State]int) { all["total"] = 0 })},
	}
}

func senderFaults() []broken[contract.Outgoing] {
	breaks := func(f func(s mail.Sender, ctx context.Context, m mail.Message) error) func(contract.Outgoing) contract.Outgoing {
		return func(p contract.Outgoing) contract.Outgoing {
			under := p.Sender
			p.Sender = sender(func(ctx context.Context, m mail.Message) error { return f(under, ctx, m) })
			return p
		}
	}
	return []broken[contract.Outgoing]{
		{"mails are dropped", "a sent mail has arrived", breaks(func(mail.Sender, context.Context, mail.Message) error { return nil })},
		{"names are lost", "concurrent mails arrive", breaks(func(s mail.Sender, ctx context.Context, m mail.Message) error {
			m.ToName = ""
			return s.Send(ctx, m)
		})},
		{"want of room is a failure like others", "want of room is no attempt", breaks(func(s mail.Sender, ctx context.Context, m mail.Message) error {
			if err := s.Send(ctx, m); err != nil {
				return fault.Unavailable
			}
			return nil
		})},
		{"what has no room is said to be sent", "want of room is no attempt", breaks(func(s mail.Sender, ctx context.Context, m mail.Message) error {
			_ = s.Send(ctx, m)
			return nil
		})},
		{"a check is a mail", "a check sends nothing", func(p contract.Outgoing) contract.Outgoing {
			p.Sender = loud{p.Sender}
			return p
		}},
		{"an ended context is a refusal", "Send gives up with its context", breaks(func(s mail.Sender, ctx context.Context, m mail.Message) error {
			if err := s.Send(ctx, m); err != nil {
				return mail.ErrRefused.Because(err)
			}
			return nil
		})},
	}
}

func standingFaults() []broken[contract.Standing] {
	breaks := func(f func(auth.Standing, error) (auth.Standing, error)) func(contract.Standing) contract.Standing {
		return func(p contract.Standing) contract.Standing {
			under := p.Reader
			p.Reader = standings(func(ctx context.Context, id string) (auth.Standing, error) { return f(under.Standing(ctx, id)) })
			return p
		}
	}
	return []broken[contract.Standing]{
		{"nobody is kept", "a session comes with its user's word", breaks(func(s auth.Standing, err error) (auth.Standing, error) {
			s.Kept = ""
			return s, err
		})},
		{"what is not found stands", "what is unknown is not found", breaks(func(s auth.Standing, err error) (auth.Standing, error) {
			if errors.Is(err, auth.ErrSessionNotFound) {
				return auth.Standing{}, nil
			}
			return s, err
		})},
		{"revoked sessions are hidden", "changes are seen at once", breaks(func(s auth.Standing, err error) (auth.Standing, error) {
			if !s.Session.RevokedAt.IsZero() {
				return auth.Standing{}, auth.ErrSessionNotFound
			}
			return s, err
		})},
	}
}

func sessionFaults() []broken[contract.Sessions] {
	breaks := func(f func(s auth.SessionStore) sessions) func(contract.Sessions) contract.Sessions {
		return func(p contract.Sessions) contract.Sessions {
			s := f(p.Store)
			s.SessionStore, p.Store = p.Store, s
			return p
		}
	}
	sweeps := func(f func(s auth.Sweeper, ctx context.Context, before time.Time) (int, error)) func(contract.Sessions) contract.Sessions {
		return breaks(func(s auth.SessionStore) sessions {
			return sessions{sweeper: func(ctx context.Context, before time.Time) (int, error) { return f(s, ctx, before) }}
		})
	}
	return append(sessionSignFaults(breaks), []broken[contract.Sessions]{
		{"times lose their microseconds", "a created session is read back", breaks(func(s auth.SessionStore) sessions {
			return sessions{create: func(ctx context.Context, v auth.Session, events ...event.Event) error {
				v.RotatedAt = v.RotatedAt.Truncate(time.Millisecond)
				return s.Create(ctx, v, events...)
			}}
		})},
		{"a taken id is replaced", "a taken id is refused", breaks(func(s auth.SessionStore) sessions {
			return sessions{create: func(ctx context.Context, v auth.Session, events ...event.Event) error {
				if err := s.Create(ctx, v, events...); !errors.Is(err, fault.Conflict) {
					return err
				}
				_, err := s.Update(ctx, v.ID, func(old *auth.Session) error { *old = v; return nil })
				return err
			}}
		})},
		{"revoked sessions are hidden", "expired and revoked sessions are returned", breaks(func(s auth.SessionStore) sessions {
			return sessions{byID: func(ctx context.Context, id string) (auth.Session, error) {
				v, err := s.ByID(ctx, id)
				if !v.RevokedAt.IsZero() {
					return auth.Session{}, auth.ErrSessionNotFound
				}
				return v, err
			}}
		})},
		{"an unknown session is another error", "an unknown session is not found", breaks(func(s auth.SessionStore) sessions {
			return sessions{byID: func(ctx context.Context, id string) (auth.Session, error) {
				v, err := s.ByID(ctx, id)
				if err != nil {
					err = errOops
				}
				return v, err
			}}
		})},
		{"a failed change is stored", "a failed change stores nothing", breaks(func(s auth.SessionStore) sessions {
			return sessions{update: func(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
				var refused error
				v, err := s.Update(ctx, id, func(v *auth.Session) error { refused = change(v); return nil })
				if refused != nil {
					err = refused
				}
				return v, err
			}}
		})},
		{"events are lost", "update stores its events", breaks(func(s auth.SessionStore) sessions {
			return sessions{update: func(ctx context.Context, id string, change func(*auth.Session) error, _ ...event.Event) (auth.Session, error) {
				return s.Update(ctx, id, change)
			}}
		})},
		{"rotations race", "one of several rotations wins", breaks(func(s auth.SessionStore) sessions {
			return sessions{update: func(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
				v, err := s.ByID(ctx, id)
				if err != nil {
					return v, err
				}
				time.Sleep(time.Millisecond) // in the bubble's time
				if err := change(&v); err != nil {
					return v, err
				}
				return s.Update(ctx, id, func(stored *auth.Session) error { *stored = v; return nil }, events...)
			}}
		})},
		{"the oldest come first", "a user's sessions come newest first", breaks(func(s auth.SessionStore) sessions {
			return sessions{byUser: func(ctx context.Context, id user.ID, at time.Time, limit int) ([]auth.Session, error) {
				all, err := s.ByUser(ctx, id, at, limit)
				slices.Reverse(all)
				return all, err
			}}
		})},
		{"a limit takes the oldest", "at most as many sessions as asked for", breaks(func(s auth.SessionStore) sessions {
			return sessions{byUser: func(ctx context.Context, id user.ID, at time.Time, limit int) ([]auth.Session, error) {
				all, err := s.ByUser(ctx, id, at, 1000)
				return all[max(len(all)-limit, 0):], err
			}}
		})},
		{"expired sessions are listed", "a user's sessions come newest first", breaks(func(s auth.SessionStore) sessions {
			return sessions{byUser: func(ctx context.Context, id user.ID, _ time.Time, limit int) ([]auth.Session, error) {
				return s.ByUser(ctx, id, time.Unix(0, 0), limit)
			}}
		})},
		{"a key of a rotation is forgotten", "update stores what change did", breaks(func(s auth.SessionStore) sessions {
			return sessions{update: func(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
				return s.Update(ctx, id, func(v *auth.Session) error {
					err := change(v)
					v.RotationKey = ""
					return err
				}, events...)
			}}
		})},
		{"what expires later goes too", "expired sessions are removed", sweeps(func(s auth.Sweeper, ctx context.Context, before time.Time) (int, error) {
			return s.DeleteExpired(ctx, before.Add(time.Hour))
		})},
		{"only living sessions of a user are removed", "a user's sessions are removed", func(p contract.Sessions) contract.Sessions {
			p.Store = sessionEraser{p.Store, func(s auth.SessionStore, ctx context.Context, id user.ID) (int, error) {
				if living, err := s.ByUser(ctx, id, at0, 10); err != nil || len(living) == 0 {
					return 0, err
				}
				n, err := s.DeleteOf(ctx, id)
				return n - 1, err
			}}
			return p
		}},
		{"letter case of a user does not count", "a user's sessions are removed", func(p contract.Sessions) contract.Sessions {
			p.Store = sessionEraser{p.Store, func(s auth.SessionStore, ctx context.Context, id user.ID) (int, error) {
				n, err := s.DeleteOf(ctx, id)
				_, others := s.DeleteOf(ctx, user.ID(strings.ToUpper(string(id))))
				return n, errors.Join(err, others)
			}}
			return p
		}},
		{"nothing is removed", "expired sessions are removed", sweeps(func(auth.Sweeper, context.Context, time.Time) (int, error) { return 0, nil })},
	}...)
}

// sessionEraser removes a user's sessions as f does.
type sessionEraser struct {
	auth.SessionStore
	f func(s auth.SessionStore, ctx context.Context, id user.ID) (int, error)
}

func (s sessionEraser) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	return s.f(s.SessionStore, ctx, id)
}

var at0 = time.Unix(0, 0)

// codeKeeper and signUpKeeper say that they remove what is a user's.
type codeKeeper struct{ auth.CodeStore }

func (codeKeeper) DeleteOf(context.Context, user.ID) (int, error) { return 2, nil }

type signUpKeeper struct{ auth.SignUps }

func (signUpKeeper) DeleteOf(context.Context, user.ID) (int, error) { return 2, nil }

func codeFaults() []broken[contract.Codes] {
	breaks := func(f func(s auth.CodeStore) codes) func(contract.Codes) contract.Codes {
		return func(p contract.Codes) contract.Codes {
			c := f(p.Store)
			c.CodeStore, p.Store = p.Store, c
			return p
		}
	}
	return []broken[contract.Codes]{
		{"Use returns the code as it is now", "a code is used once", breaks(func(s auth.CodeStore) codes {
			return codes{use: func(ctx context.Context, hash string, at time.Time) (auth.Code, error) {
				c, err := s.Use(ctx, hash, at)
				if c.UsedAt.IsZero() {
					c.UsedAt = at
				}
				return c, err
			}}
		})},
		{"a code is used again and again", "one of several uses wins", breaks(func(s auth.CodeStore) codes {
			return codes{use: func(ctx context.Context, hash string, at time.Time) (auth.Code, error) {
				c, err := s.Use(ctx, hash, at)
				c.UsedAt = time.Time{}
				return c, err
			}}
		})},
		{"an unknown code is not found", "an unknown code is unknown", breaks(func(s auth.CodeStore) codes {
			return codes{use: func(ctx context.Context, hash string, at time.Time) (auth.Code, error) {
				c, err := s.Use(ctx, hash, at)
				if err != nil {
					err = fault.NotFound
				}
				return c, err
			}}
		})},
		{"hashes are folded", "hashes are exact", breaks(func(s auth.CodeStore) codes {
			return codes{use: func(ctx context.Context, hash string, at time.Time) (auth.Code, error) {
				return s.Use(ctx, lower(hash), at)
			}}
		})},
		{"a taken hash is silent", "a taken hash is refused", breaks(func(s auth.CodeStore) codes {
			return codes{put: func(ctx context.Context, c auth.Code, events ...event.Event) error {
				_ = s.Put(ctx, c, events...)
				return nil
			}}
		})},
		{"events of a code are lost", "put stores its events", breaks(func(s auth.CodeStore) codes {
			return codes{put: func(ctx context.Context, c auth.Code, _ ...event.Event) error { return s.Put(ctx, c) }}
		})},
		{"a code takes its events with it", "a code that is removed leaves its events", func(p contract.Codes) contract.Codes {
			under := p.Store
			p.Store = codes{CodeStore: under, sweeper: func(ctx context.Context, before time.Time) (int, error) {
				return takingEvents(ctx, p.Outbox, under, before)
			}}
			return p
		}},
		{"expired codes are hidden", "an expired code is returned", breaks(func(s auth.CodeStore) codes {
			return codes{use: func(ctx context.Context, hash string, at time.Time) (auth.Code, error) {
				c, err := s.Use(ctx, hash, at)
				if c.ExpiresAt.Before(at) {
					err = auth.ErrCodeUnknown
				}
				return c, err
			}}
		})},
		{"a user's codes stay", "a user's codes are removed", func(p contract.Codes) contract.Codes {
			p.Store = codeKeeper{p.Store}
			return p
		}},
		{"everything is removed", "expired codes are removed", func(p contract.Codes) contract.Codes {
			under := p.Store
			p.Store = codes{CodeStore: under, sweeper: func(ctx context.Context, before time.Time) (int, error) {
				return under.DeleteExpired(ctx, before.AddDate(1, 0, 0))
			}}
			return p
		}},
	}
}

// takingEvents removes what is expired, and all events with it.
func takingEvents(ctx context.Context, o event.Outbox, under auth.Sweeper, before time.Time) (int, error) {
	n, err := under.DeleteExpired(ctx, before)
	if err != nil || n == 0 {
		return n, err
	}
	return n, loseEvents(ctx, o)
}

func loseEvents(ctx context.Context, o event.Outbox) error {
	pending, err := o.Pending(ctx, 100)
	for _, e := range pending {
		err = errors.Join(err, o.Published(ctx, e.ID))
	}
	return err
}

func signUpFaults() []broken[contract.WaitingSignUps] {
	breaks := func(f func(s auth.SignUps) signUps) func(contract.WaitingSignUps) contract.WaitingSignUps {
		return func(p contract.WaitingSignUps) contract.WaitingSignUps {
			c := f(p.Store)
			c.SignUps, p.Store = p.Store, c
			return p
		}
	}
	creates := func(f func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, keep int, events []event.Event) error) func(contract.WaitingSignUps) contract.WaitingSignUps {
		return breaks(func(s auth.SignUps) signUps {
			return signUps{create: func(ctx context.Context, w auth.WaitingSignUp, keep int, events ...event.Event) error {
				return f(s, ctx, w, keep, events)
			}}
		})
	}
	confirms := func(f func(s auth.SignUps, ctx context.Context, id string, at time.Time) (auth.WaitingSignUp, error)) func(contract.WaitingSignUps) contract.WaitingSignUps {
		return breaks(func(s auth.SignUps) signUps {
			return signUps{confirm: func(ctx context.Context, id string, at time.Time) (auth.WaitingSignUp, error) {
				return f(s, ctx, id, at)
			}}
		})
	}
	return []broken[contract.WaitingSignUps]{
		{"where it came from is lost", "a sign-up is read back", creates(func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, keep int, events []event.Event) error {
			w.Network = ""
			return s.Create(ctx, w, keep, events...)
		})},
		{"an unknown sign-up is empty", "an unknown sign-up is not found", breaks(func(s auth.SignUps) signUps {
			return signUps{byID: func(ctx context.Context, id string) (auth.WaitingSignUp, error) {
				w, _ := s.ByID(ctx, id)
				return w, nil
			}}
		})},
		{"names are cut", "long and foreign values are kept", creates(func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, keep int, events []event.Event) error {
			w.FullName = w.FullName[:min(len(w.FullName), 64)]
			return s.Create(ctx, w, keep, events...)
		})},
		{"identifiers are folded", "identifiers and addresses are exact", breaks(func(s auth.SignUps) signUps {
			return signUps{byID: func(ctx context.Context, id string) (auth.WaitingSignUp, error) { return s.ByID(ctx, lower(id)) }}
		})},
		{"a taken id is silent", "a taken id is refused", creates(func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, keep int, events []event.Event) error {
			if err := s.Create(ctx, w, keep, events...); !errors.Is(err, fault.Conflict) {
				return err
			}
			return nil
		})},
		{"everybody creates", "one of several creates wins", creates(func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, keep int, events []event.Event) error {
			_ = s.Create(ctx, w, keep, events...)
			return nil
		})},
		{"the newest comes first", "an address has several, oldest first", breaks(func(s auth.SignUps) signUps {
			return signUps{byEmail: func(ctx context.Context, email user.Email) ([]auth.WaitingSignUp, error) {
				all, err := s.ByEmail(ctx, email)
				slices.Reverse(all)
				return all, err
			}}
		})},
		{"an address has one", "an address has several, oldest first", creates(func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, _ int, events []event.Event) error {
			return s.Create(ctx, w, 1, events...)
		})},
		{"all stay", "the newest stay", creates(func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, _ int, events []event.Event) error {
			return s.Create(ctx, w, 1000, events...)
		})},
		{"the new one goes when its clock is behind", "a sign-up of an older clock stays", creates(func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, keep int, events []event.Event) error {
			all, err := s.ByEmail(ctx, w.Email)
			if err == nil && len(all) >= keep && w.CreatedAt.Before(all[0].CreatedAt) {
				return nil
			}
			return errors.Join(err, s.Create(ctx, w, keep, events...))
		})},
		{"events of a sign-up are lost", "create stores its events", creates(func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, keep int, _ []event.Event) error {
			return s.Create(ctx, w, keep)
		})},
		{"a sign-up takes its events with it", "a sign-up that is removed leaves its events", func(p contract.WaitingSignUps) contract.WaitingSignUps {
			under := p.Store
			p.Store = signUps{SignUps: under, sweeper: func(ctx context.Context, before time.Time) (int, error) {
				return takingEvents(ctx, p.Outbox, under, before)
			}}
			return p
		}},
		{"events come without a sign-up", "a refused create stores no event", func(p contract.WaitingSignUps) contract.WaitingSignUps {
			under := p.Store
			p.Store = signUps{SignUps: under, create: func(ctx context.Context, w auth.WaitingSignUp, keep int, events ...event.Event) error {
				err := under.Create(ctx, w, keep, events...)
				if errors.Is(err, fault.Conflict) {
					w.ID, w.Email = "another", "another@example.com"
					_ = under.Create(ctx, w, keep, events...)
				}
				return err
			}}
			return p
		}},
		{"Confirm returns the sign-up as it is now", "a sign-up is confirmed once", confirms(func(s auth.SignUps, ctx context.Context, id string, at time.Time) (auth.WaitingSignUp, error) {
			w, err := s.Confirm(ctx, id, at)
			if w.ConfirmedAt.IsZero() {
				w.ConfirmedAt = at
			}
			return w, err
		})},
		{"a sign-up is confirmed again and again", "one of several confirmations wins", confirms(func(s auth.SignUps, ctx context.Context, id string, at time.Time) (auth.WaitingSignUp, error) {
			w, err := s.Confirm(ctx, id, at)
			w.ConfirmedAt = time.Time{}
			return w, err
		})},
		{"expired sign-ups are hidden", "expired sign-ups are returned", confirms(func(s auth.SignUps, ctx context.Context, id string, at time.Time) (auth.WaitingSignUp, error) {
			w, err := s.Confirm(ctx, id, at)
			if err == nil && w.ExpiresAt.Before(at) {
				err = auth.ErrSignUpNotFound
			}
			return w, err
		})},
		{"a user's sign-ups stay", "a user's sign-ups are removed", func(p contract.WaitingSignUps) contract.WaitingSignUps {
			p.Store = signUpKeeper{p.Store}
			return p
		}},
		{"everything is removed", "expired sign-ups are removed", func(p contract.WaitingSignUps) contract.WaitingSignUps {
			under := p.Store
			p.Store = signUps{SignUps: under, sweeper: func(ctx context.Context, before time.Time) (int, error) {
				return under.DeleteExpired(ctx, before.AddDate(1, 0, 0))
			}}
			return p
		}},
		{"an ended context does not matter", "an ended context stores nothing", creates(func(s auth.SignUps, ctx context.Context, w auth.WaitingSignUp, keep int, events []event.Event) error {
			return s.Create(context.WithoutCancel(ctx), w, keep, events...)
		})},
	}
}

func nonceFaults() []broken[auth.Nonces] {
	breaks := func(f func(n auth.Nonces, ctx context.Context, name string, expires time.Time) (bool, error)) func(auth.Nonces) auth.Nonces {
		return func(under auth.Nonces) auth.Nonces {
			return nonces(func(ctx context.Context, name string, expires time.Time) (bool, error) {
				return f(under, ctx, name, expires)
			})
		}
	}
	return []broken[auth.Nonces]{
		{"names are spent for ever and ever", "a name is spent once", breaks(func(auth.Nonces, context.Context, string, time.Time) (bool, error) { return true, nil })},
		{"nothing can be spent", "a name is spent once", breaks(func(auth.Nonces, context.Context, string, time.Time) (bool, error) { return false, nil })},
		{"a later expiry makes a new name", "a later expiry changes nothing", breaks(func(n auth.Nonces, ctx context.Context, name string, expires time.Time) (bool, error) {
			return n.Spend(ctx, name+expires.String(), expires)
		})},
		{"names are folded", "names are exact", breaks(func(n auth.Nonces, ctx context.Context, name string, expires time.Time) (bool, error) {
			return n.Spend(ctx, lower(name), expires)
		})},
		{"names are cut", "long names are names", breaks(func(n auth.Nonces, ctx context.Context, name string, expires time.Time) (bool, error) {
			return n.Spend(ctx, name[:min(len(name), 100)], expires)
		})},
		{"everybody wins", "one of several calls wins", breaks(func(n auth.Nonces, ctx context.Context, name string, expires time.Time) (bool, error) {
			_, err := n.Spend(ctx, name, expires)
			return true, err
		})},
	}
}

func limiterFaults() []broken[auth.Limiter] {
	breaks := func(f func(l auth.Limiter, ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error)) func(auth.Limiter) auth.Limiter {
		return func(under auth.Limiter) auth.Limiter {
			return limiter(func(ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
				return f(under, ctx, key, r, now)
			})
		}
	}
	return []broken[auth.Limiter]{
		{"a burst is one too long", "a burst is allowed at once", breaks(func(l auth.Limiter, ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
			r.Per += r.Per / time.Duration(max(r.Burst, 1))
			r.Burst++
			return l.Allow(ctx, key, r, now)
		})},
		{"a clock that goes back is waited for", "a clock that goes back holds nobody up", func(under auth.Limiter) auth.Limiter {
			var mu sync.Mutex
			var latest time.Time
			return limiter(func(ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
				mu.Lock()
				defer mu.Unlock()
				if now.Before(latest) {
					return latest.Sub(now), nil
				}
				latest = now
				return under.Allow(ctx, key, r, now)
			})
		}},
		{"a window is fixed", "after a burst one each interval", func(auth.Limiter) auth.Limiter {
			var mu sync.Mutex
			start, used := time.Time{}, 0
			return limiter(func(_ context.Context, _ string, r auth.Rate, now time.Time) (time.Duration, error) {
				mu.Lock()
				defer mu.Unlock()
				if now.Sub(start) >= r.Per {
					start, used = now, 0
				}
				if used++; used <= r.Burst {
					return 0, nil
				}
				return start.Add(r.Per).Sub(now), nil
			})
		}},
		{"the wait is a whole interval", "a refusal says how long to wait", breaks(func(l auth.Limiter, ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
			wait, err := l.Allow(ctx, key, r, now)
			if wait > 0 {
				wait = r.Per / time.Duration(r.Burst)
			}
			return wait, err
		})},
		{"a refusal costs", "a refusal takes nothing", breaks(func(l auth.Limiter, ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
			wait, err := l.Allow(ctx, key, r, now)
			if wait > 0 {
				_, err = l.Allow(ctx, key, r, now.Add(wait)) // takes the next one
			}
			return wait, err
		})},
		{"rest saves up", "rest refills the burst and no more", func(auth.Limiter) auth.Limiter {
			var mu sync.Mutex
			begin, used := time.Time{}, 0
			return limiter(func(_ context.Context, _ string, r auth.Rate, now time.Time) (time.Duration, error) {
				mu.Lock()
				defer mu.Unlock()
				if begin.IsZero() {
					begin = now
				}
				each := r.Per / time.Duration(r.Burst)
				if used < r.Burst+int(now.Sub(begin)/each) {
					used++
					return 0, nil
				}
				return begin.Add(time.Duration(used-r.Burst+1) * each).Sub(now), nil
			})
		}},
		{"keys are folded", "keys do not influence each other", breaks(func(l auth.Limiter, ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
			return l.Allow(ctx, lower(key), r, now)
		})},
		{"no rate forbids everything", "no rate allows everything", breaks(func(l auth.Limiter, ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
			if r.Burst == 0 {
				return time.Hour, nil
			}
			return l.Allow(ctx, key, r, now)
		})},
		{"everybody may", "concurrent attempts share the allowance", breaks(func(auth.Limiter, context.Context, string, auth.Rate, time.Time) (time.Duration, error) {
			return 0, nil
		})},
		{"nobody may", "a burst of one", breaks(func(auth.Limiter, context.Context, string, auth.Rate, time.Time) (time.Duration, error) {
			return time.Hour, nil
		})},
	}
}

func hasherFaults() []broken[auth.Hasher] {
	breaks := func(f func(h auth.Hasher) hasher) func(auth.Hasher) auth.Hasher {
		return func(under auth.Hasher) auth.Hasher {
			h := f(under)
			h.Hasher = under
			return h
		}
	}
	cut := func(n int) func(auth.Hasher) auth.Hasher {
		return breaks(func(under auth.Hasher) hasher {
			return hasher{
				hash: func(ctx context.Context, p string) (string, error) { return under.Hash(ctx, p[:min(len(p), n)]) },
				verify: func(ctx context.Context, h, p string) (bool, bool, error) {
					return under.Verify(ctx, h, p[:min(len(p), n)])
				},
			}
		})
	}
	upToNUL := func(p string) string { p, _, _ = strings.Cut(p, "\x00"); return p }
	return []broken[auth.Hasher]{
		{"passwords are cut at 72 bytes", "long passwords count to the last byte", cut(72)},
		{"passwords end at NUL", "any bytes are a password", breaks(func(under auth.Hasher) hasher {
			return hasher{
				hash: func(ctx context.Context, p string) (string, error) { return under.Hash(ctx, upToNUL(p)) },
				verify: func(ctx context.Context, h, p string) (bool, bool, error) {
					return under.Verify(ctx, h, upToNUL(p))
				},
			}
		})},
		{"every password matches", "another password does not match", breaks(func(auth.Hasher) hasher {
			return hasher{verify: func(context.Context, string, string) (bool, bool, error) { return true, false, nil }}
		})},
		{"case does not matter", "another password does not match", breaks(func(under auth.Hasher) hasher {
			return hasher{
				hash:   func(ctx context.Context, p string) (string, error) { return under.Hash(ctx, lower(p)) },
				verify: func(ctx context.Context, h, p string) (bool, bool, error) { return under.Verify(ctx, h, lower(p)) },
			}
		})},
		{"no password matches", "a password matches its hash", breaks(func(auth.Hasher) hasher {
			return hasher{verify: func(context.Context, string, string) (bool, bool, error) { return false, false, nil }}
		})},
		{"there is no salt", "every hash has a fresh salt", breaks(func(under auth.Hasher) hasher {
			var mu sync.Mutex
			made := map[string]string{}
			return hasher{hash: func(ctx context.Context, p string) (h string, err error) {
				mu.Lock()
				defer mu.Unlock()
				if made[p] == "" {
					made[p], err = under.Hash(ctx, p)
				}
				return made[p], err
			}}
		})},
		{"the hash is the password", "a hash does not hold the password", breaks(func(auth.Hasher) hasher {
			return hasher{hash: func(_ context.Context, p string) (string, error) { return "plain$" + p, nil }}
		})},
		{"every hash is to be upgraded", "a current hash needs no upgrade", breaks(func(under auth.Hasher) hasher {
			return hasher{verify: func(ctx context.Context, h, p string) (bool, bool, error) {
				ok, _, err := under.Verify(ctx, h, p)
				return ok, true, err
			}}
		})},
		{"an unreadable hash is only wrong", "a hash that cannot be read is an error", breaks(func(under auth.Hasher) hasher {
			return hasher{verify: func(ctx context.Context, h, p string) (bool, bool, error) {
				ok, upgrade, _ := under.Verify(ctx, h, p)
				return ok, upgrade, nil
			}}
		})},
		{"an ended context is a wrong password", "waiting ends with the context", breaks(func(under auth.Hasher) hasher {
			return hasher{verify: func(ctx context.Context, h, p string) (bool, bool, error) {
				if ctx.Err() != nil {
					return false, false, nil
				}
				return under.Verify(ctx, h, p)
			}}
		})},
	}
}

func tokenFaults() []broken[contract.Tokens] {
	verifies := func(f func(v auth.TokenVerifier, ctx context.Context, token, audience string) (auth.Claims, error)) func(contract.Tokens) contract.Tokens {
		return func(p contract.Tokens) contract.Tokens {
			under := p.Verifier
			p.Verifier = verifier(func(ctx context.Context, token, audience string) (auth.Claims, error) {
				return f(under, ctx, token, audience)
			})
			return p
		}
	}
	issues := func(f func(i auth.TokenIssuer, ctx context.Context, c auth.Claims) (string, error)) func(contract.Tokens) contract.Tokens {
		return func(p contract.Tokens) contract.Tokens {
			under := p.Issuer
			p.Issuer = issuer(func(ctx context.Context, c auth.Claims) (string, error) { return f(under, ctx, c) })
			return p
		}
	}
	return []broken[contract.Tokens]{
		{"the session is lost", "a token says what it was issued for", issues(func(i auth.TokenIssuer, ctx context.Context, c auth.Claims) (string, error) {
			c.SessionID = ""
			return i.Issue(ctx, c)
		})},
		{"names are cut", "foreign values are kept", issues(func(i auth.TokenIssuer, ctx context.Context, c auth.Claims) (string, error) {
			c.Name = c.Name[:min(len(c.Name), 64)]
			return i.Issue(ctx, c)
		})},
		{"the audience does not matter", "a token for another audience is refused", verifies(func(v auth.TokenVerifier, ctx context.Context, token, audience string) (auth.Claims, error) {
			for _, a := range []string{audience, auth.AudienceAPI, auth.AudienceTicket} {
				if c, err := v.Verify(ctx, token, a); err == nil {
					return c, nil
				}
			}
			return auth.Claims{}, auth.ErrTokenInvalid
		})},
		{"tokens last for ever", "an expired token is refused", issues(func(i auth.TokenIssuer, ctx context.Context, c auth.Claims) (string, error) {
			c.ExpiresAt = c.ExpiresAt.AddDate(10, 0, 0)
			return i.Issue(ctx, c)
		})},
		{"a cut token passes", "a changed token is refused", func(p contract.Tokens) contract.Tokens {
			under := p
			var mu sync.Mutex
			made := []string{}
			p.Issuer = issuer(func(ctx context.Context, c auth.Claims) (string, error) {
				token, err := under.Issuer.Issue(ctx, c)
				mu.Lock()
				defer mu.Unlock()
				made = append(made, token)
				return token, err
			})
			p.Verifier = verifier(func(ctx context.Context, token, audience string) (auth.Claims, error) {
				mu.Lock()
				defer mu.Unlock()
				for _, m := range made {
					if len(token) > 8 && strings.HasPrefix(m, token[:8]) {
						token = m
					}
				}
				return under.Verifier.Verify(ctx, token, audience)
			})
			return p
		}},
		{"everybody's key is known", "a stranger's token is refused", func(p contract.Tokens) contract.Tokens {
			p.Stranger = p.Issuer
			return p
		}},
		{"no signature is a signature", "an unsigned token is refused", verifies(func(v auth.TokenVerifier, ctx context.Context, token, audience string) (auth.Claims, error) {
			if strings.HasSuffix(token, ".") {
				return auth.Claims{}, nil
			}
			return v.Verify(ctx, token, audience)
		})},
		{"what is no token is unavailable", "what is no token is refused", verifies(func(v auth.TokenVerifier, ctx context.Context, token, audience string) (auth.Claims, error) {
			c, err := v.Verify(ctx, token, audience)
			if err != nil {
				err = fault.Unavailable
			}
			return c, err
		})},
		{"claims come with the refusal", "what is no token is refused", verifies(func(v auth.TokenVerifier, ctx context.Context, token, audience string) (auth.Claims, error) {
			c, err := v.Verify(ctx, token, audience)
			c.UserID = "somebody"
			return c, err
		})},
		{"tokens get mixed up", "concurrent tokens are apart", func(p contract.Tokens) contract.Tokens {
			under := p.Issuer
			var once sync.Once
			var token string
			var err error
			p.Issuer = issuer(func(ctx context.Context, c auth.Claims) (string, error) {
				once.Do(func() { token, err = under.Issue(ctx, c) })
				return token, err
			})
			return p
		}},
	}
}

func messageFaults() []broken[chat.MessageStore] {
	breaks := func(f func(m chat.MessageStore) messages) func(chat.MessageStore) chat.MessageStore {
		return func(under chat.MessageStore) chat.MessageStore {
			m := f(under)
			m.MessageStore = under
			return m
		}
	}
	appends := func(f func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error)) func(chat.MessageStore) chat.MessageStore {
		return breaks(func(under chat.MessageStore) messages {
			return messages{append: func(ctx context.Context, batch []chat.Message) ([]chat.Stored, error) { return f(under, ctx, batch) }}
		})
	}
	lists := func(f func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error)) func(chat.MessageStore) chat.MessageStore {
		return breaks(func(under chat.MessageStore) messages {
			return messages{list: func(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
				return f(under, ctx, room, r)
			}}
		})
	}
	edits := func(edit func(*chat.Message)) func(chat.MessageStore) chat.MessageStore {
		return appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			batch = slices.Clone(batch)
			for i := range batch {
				edit(&batch[i])
			}
			return m.Append(ctx, batch)
		})
	}
	folded := func(fold func(string) string) func(chat.MessageStore) chat.MessageStore {
		return breaks(func(under chat.MessageStore) messages {
			return messages{
				append: func(ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
					batch = slices.Clone(batch)
					rooms := make([]string, len(batch))
					for i := range batch {
						rooms[i], batch[i].Room = batch[i].Room, fold(batch[i].Room)
					}
					all, err := under.Append(ctx, batch)
					for i := range all {
						all[i].Room = rooms[i]
					}
					return all, err
				},
				list: func(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
					all, err := under.List(ctx, fold(room), r)
					for i := range all {
						all[i].Room = room
					}
					return all, err
				},
			}
		})
	}
	return []broken[chat.MessageStore]{
		{"the store's own clock counts", "an appended message is read back", edits(func(m *chat.Message) { m.At = m.At.Add(time.Microsecond) })},
		{"numbers begin at 0", "a room counts from 1 without gaps", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			all, err := m.Append(ctx, batch)
			for i := range all {
				all[i].Seq--
			}
			return all, err
		})},
		{"all rooms share one sequence", "rooms count apart", func() func(chat.MessageStore) chat.MessageStore {
			var mu sync.Mutex
			seq := uint64(0)
			return appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
				all, err := m.Append(ctx, batch)
				mu.Lock()
				defer mu.Unlock()
				for i := range all {
					seq++
					all[i].Seq = seq
				}
				return all, err
			})
		}()},
		{"room names are folded", "room names are exact", folded(lower)},
		{"room names are trimmed", "room names are exact", folded(strings.TrimSpace)},
		{"texts are trimmed", "long and foreign texts are kept", edits(func(m *chat.Message) { m.Text = strings.TrimSpace(m.Text) })},
		{"texts are cut", "long and foreign texts are kept", edits(func(m *chat.Message) { m.Text = m.Text[:min(len(m.Text), 12_000)] })},
		{"replies are forgotten", "replies and data are kept", edits(func(m *chat.Message) { m.ReplyTo = 0 })},
		{"data is forgotten", "replies and data are kept", edits(func(m *chat.Message) { m.Data = "" })},
		{"data is sorted", "replies and data are kept", edits(func(m *chat.Message) {
			var v map[string]any
			if json.Unmarshal([]byte(m.Data), &v) == nil {
				b, _ := json.Marshal(v)
				m.Data = string(b)
			}
		})},
		{"no data is empty data", "replies and data are kept", edits(func(m *chat.Message) {
			if m.Data == "" {
				m.Data = "{}"
			}
		})},
		{"a repetition has its own data", "replies and data are kept", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			all, err := m.Append(ctx, batch)
			for i := range all {
				all[i].Data = batch[i].Data
			}
			return all, err
		})},
		{"client ids are ignored", "a repeated client id stores nothing", edits(func(m *chat.Message) { m.ClientID = "" })},
		{"a repetition is not told", "a repeated client id stores nothing", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			all, err := m.Append(ctx, batch)
			for i := range all {
				all[i].Repeated = false
			}
			return all, err
		})},
		{"a repetition answers itself", "a repeated client id stores nothing", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			all, err := m.Append(ctx, batch)
			for i := range all {
				all[i].Text = batch[i].Text
			}
			return all, err
		})},
		{"a repetition in one call is an error", "a client id repeated in one call", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			seen := map[string]bool{}
			for _, b := range batch {
				if b.ClientID != "" && seen[b.ClientID] {
					return nil, fault.Conflict
				}
				seen[b.ClientID] = true
			}
			return m.Append(ctx, batch)
		})},
		{"repetitions use numbers up", "repetitions leave no gap", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			all, err := m.Append(ctx, batch)
			skipped := uint64(0)
			for i := range all {
				if all[i].Repeated {
					skipped++
				} else {
					all[i].Seq += skipped
				}
			}
			return all, err
		})},
		{"an empty client id is one", "an empty client id never repeats", edits(func(m *chat.Message) {
			if m.ClientID == "" {
				m.ClientID = "empty"
			}
		})},
		{"client ids belong to the room", "client ids belong to sender and room", edits(func(m *chat.Message) { m.Author = chat.Author{ID: "user-1"} })},
		{"client ids are folded", "client ids are exact", edits(func(m *chat.Message) { m.ClientID = lower(m.ClientID) })},
		{"answers are sorted", "rooms count apart", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			all, err := m.Append(ctx, batch)
			slices.SortStableFunc(all, func(a, b chat.Stored) int { return strings.Compare(a.Room, b.Room) })
			return all, err
		})},
		{"a refused call is half stored", "a refused call stores nothing", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			if len(batch) == 4 {
				_, err := m.Append(ctx, batch[:2])
				return nil, errors.Join(err, fault.Conflict)
			}
			return m.Append(ctx, batch)
		})},
		{"an ended context stores the half", "an ended context leaves no gap", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			if ctx.Err() != nil {
				_, err := m.Append(context.WithoutCancel(ctx), batch[:1])
				return nil, errors.Join(err, ctx.Err())
			}
			return m.Append(ctx, batch)
		})},
		{"After includes", "After and Before exclude", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			if r.After > 0 {
				r.After--
			}
			return m.List(ctx, room, r)
		})},
		{"Before is ignored", "After and Before exclude", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			r.Before = 0
			return m.List(ctx, room, r)
		})},
		{"the newest descend", "After and Before exclude", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			all, err := m.List(ctx, room, r)
			if r.Newest {
				slices.Reverse(all)
			}
			return all, err
		})},
		{"Newest is ignored", "Limit and Newest choose the end", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			r.Newest = false
			return m.List(ctx, room, r)
		})},
		{"numbers are signed", "the edges of the sequence", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			if int64(r.After) < 0 || int64(r.Before) < 0 {
				return nil, errOops
			}
			return m.List(ctx, room, r)
		})},
		{"an unknown room is an error", "an unknown room has no messages", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			all, err := m.List(ctx, room, r)
			if err == nil && len(all) == 0 {
				err = chat.ErrRoomNotFound
			}
			return all, err
		})},
		{"readers lag behind", "a returned append is seen", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			all, err := m.List(ctx, room, r)
			return all[:max(0, len(all)-1)], err
		})},
		{"concurrent appends take the same number", "concurrent appends leave no gap", breaks(func(under chat.MessageStore) messages {
			return messages{append: func(ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
				b, err := under.Bounds(ctx, batch[0].Room)
				if err != nil {
					return nil, err
				}
				time.Sleep(time.Millisecond) // in the bubble's time
				all, err := under.Append(ctx, batch)
				for i := range all {
					all[i].Seq = b.Last + uint64(i) + 1
				}
				return all, err
			}}
		})},
		{"concurrent repetitions are stored", "concurrent repetitions are stored once", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			batch = slices.Clone(batch)
			for i := range batch {
				batch[i].ClientID = ""
			}
			return m.Append(ctx, batch)
		})},
		{"readers see gaps", "readers never see a gap", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			all, err := m.List(ctx, room, r)
			if len(all) > 2 {
				all = slices.Delete(all, 1, 2)
			}
			return all, err
		})},
		{"an empty room is bounded by 0", "bounds of a room", breaks(func(under chat.MessageStore) messages {
			return messages{bounds: func(ctx context.Context, room string) (chat.Bounds, error) {
				b, err := under.Bounds(ctx, room)
				if b.Last == 0 {
					b.First = 0
				}
				return b, err
			}}
		})},
		{"what is listed is shared", "messages are copies", breaks(func(under chat.MessageStore) messages {
			var mu sync.Mutex
			var listed []chat.Message
			return messages{list: func(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
				mu.Lock()
				defer mu.Unlock()
				var err error
				if listed == nil {
					listed, err = under.List(ctx, room, r)
				}
				return listed, err
			}}
		})},
	}
}

func roomFaults() []broken[chat.Rooms] {
	breaks := func(f func(r chat.Rooms) rooms) func(chat.Rooms) chat.Rooms {
		return func(under chat.Rooms) chat.Rooms {
			r := f(under)
			r.Rooms = under
			return r
		}
	}
	ensures := func(edit func(r *chat.Room)) func(chat.Rooms) chat.Rooms {
		return breaks(func(under chat.Rooms) rooms {
			return rooms{ensure: func(ctx context.Context, r chat.Room) (chat.Room, error) {
				edit(&r)
				return under.Ensure(ctx, r)
			}}
		})
	}
	return []broken[chat.Rooms]{
		{"Ensure returns what it was given", "the first room stays", breaks(func(under chat.Rooms) rooms {
			return rooms{ensure: func(ctx context.Context, r chat.Room) (chat.Room, error) {
				_, err := under.Ensure(ctx, r)
				return r, err
			}}
		})},
		{"an existing room is an error", "the first room stays", breaks(func(under chat.Rooms) rooms {
			return rooms{ensure: func(ctx context.Context, r chat.Room) (chat.Room, error) {
				if _, err := under.ByName(ctx, r.Name); err == nil {
					return r, fault.Conflict
				}
				return under.Ensure(ctx, r)
			}}
		})},
		{"times lose their microseconds", "an ensured room is read back", breaks(func(under chat.Rooms) rooms {
			return rooms{byName: func(ctx context.Context, name string) (chat.Room, error) {
				r, err := under.ByName(ctx, name)
				r.CreatedAt = r.CreatedAt.Truncate(time.Millisecond)
				return r, err
			}}
		})},
		{"a title is cut by bytes", "every field of a room is kept", ensures(func(r *chat.Room) { r.Title = r.Title[:min(len(r.Title), chat.MaxTitle)] })},
		{"data is written anew", "every field of a room is kept", ensures(func(r *chat.Room) {
			var data map[string]any
			if json.Unmarshal([]byte(r.Data), &data) == nil {
				text, _ := json.Marshal(data)
				r.Data = string(text)
			}
		})},
		{"a retention has 31 bits", "every field of a room is kept", ensures(func(r *chat.Room) { r.Retention = min(r.Retention, math.MaxInt32*time.Second) })},
		{"what is stored is not deleted", "every field of a room is kept", ensures(func(r *chat.Room) { r.DeletedAt = time.Time{} })},
		{"every room is public", "every field of a room is kept", ensures(func(r *chat.Room) { r.Kind = chat.Public })},
		{"a list tells no titles", "every field of a room is kept", breaks(func(under chat.Rooms) rooms {
			return rooms{list: func(ctx context.Context, after string, limit int) ([]chat.Room, error) {
				all, err := under.List(ctx, after, limit)
				for i := range all {
					all[i].Title = ""
				}
				return all, err
			}}
		})},
		{"no kind stays no kind", "a room without a kind is public", breaks(func(under chat.Rooms) rooms {
			return rooms{ensure: func(ctx context.Context, r chat.Room) (chat.Room, error) {
				got, err := under.Ensure(ctx, r)
				got.Kind = r.Kind
				return got, err
			}}
		})},
		{"nanoseconds are rounded", "times and retentions of a room are whole", ensures(func(r *chat.Room) { r.CreatedAt = r.CreatedAt.Round(time.Microsecond) })},
		{"seconds are rounded", "times and retentions of a room are whole", ensures(func(r *chat.Room) { r.Retention = r.Retention.Round(time.Second) })},
		{"a room that is there was deleted in 1970", "times and retentions of a room are whole", breaks(func(under chat.Rooms) rooms {
			return rooms{byName: func(ctx context.Context, name string) (chat.Room, error) {
				r, err := under.ByName(ctx, name)
				if r.DeletedAt.IsZero() {
					r.DeletedAt = time.Unix(0, 0).UTC()
				}
				return r, err
			}}
		})},
		{"an unknown room is an empty one", "an unknown room is not found", breaks(func(under chat.Rooms) rooms {
			return rooms{byName: func(ctx context.Context, name string) (chat.Room, error) {
				r, _ := under.ByName(ctx, name)
				return r, nil
			}}
		})},
		{"names are folded", "names are exact", breaks(func(under chat.Rooms) rooms {
			return rooms{ensure: func(ctx context.Context, r chat.Room) (chat.Room, error) {
				r.Name = lower(r.Name)
				return under.Ensure(ctx, r)
			}}
		})},
		{"everybody's room is his own", "one of several wins", breaks(func(under chat.Rooms) rooms {
			return rooms{ensure: func(ctx context.Context, r chat.Room) (chat.Room, error) {
				if _, err := under.Ensure(ctx, r); err != nil {
					return r, err
				}
				return r, nil
			}}
		})},
		{"the order is a dictionary's", "rooms are listed by the bytes of the name", breaks(func(under chat.Rooms) rooms {
			return rooms{list: func(ctx context.Context, after string, limit int) ([]chat.Room, error) {
				all, err := under.List(ctx, after, limit)
				slices.SortStableFunc(all, func(a, b chat.Room) int { return strings.Compare(lower(a.Name), lower(b.Name)) })
				return all, err
			}}
		})},
		{"no limit is no bound", "rooms are listed page by page", breaks(func(under chat.Rooms) rooms {
			return rooms{list: func(ctx context.Context, after string, limit int) ([]chat.Room, error) {
				if limit < 1 {
					limit = 1000
				}
				return under.List(ctx, after, limit)
			}}
		})},
		{"after is a number of rooms", "rooms are listed page by page", breaks(func(under chat.Rooms) rooms {
			return rooms{list: func(ctx context.Context, after string, limit int) ([]chat.Room, error) {
				if _, err := under.ByName(ctx, after); after != "" && err != nil {
					return under.List(ctx, "", limit)
				}
				return under.List(ctx, after, limit)
			}}
		})},
	}
}

func memberFaults() []broken[chat.Members] {
	breaks := func(f func(m chat.Members) members) func(chat.Members) chat.Members {
		return func(under chat.Members) chat.Members {
			m := f(under)
			m.Members = under
			return m
		}
	}
	return []broken[chat.Members]{
		{"only the first is added", "several are added in one call", breaks(func(under chat.Members) members {
			return members{add: func(ctx context.Context, all ...chat.Membership) ([]chat.Membership, error) {
				return under.Add(ctx, all[:min(1, len(all))]...)
			}}
		})},
		{"a membership is renewed", "an existing membership stays", breaks(func(under chat.Members) members {
			return members{add: func(ctx context.Context, all ...chat.Membership) ([]chat.Membership, error) {
				for _, m := range all {
					if err := under.Remove(ctx, m.Room, m.UserID); err != nil {
						return nil, err
					}
				}
				return under.Add(ctx, all...)
			}}
		})},
		{"everybody is a regular member", "roles are kept", breaks(func(under chat.Members) members {
			return members{add: func(ctx context.Context, all ...chat.Membership) ([]chat.Membership, error) {
				for i := range all {
					all[i].Role = chat.Regular
				}
				return under.Add(ctx, all...)
			}}
		})},
		{"the role that was given is returned", "roles are kept", breaks(func(under chat.Members) members {
			return members{add: func(ctx context.Context, all ...chat.Membership) ([]chat.Membership, error) {
				got, err := under.Add(ctx, all...)
				for i := range got {
					got[i].Role = all[i].Role
				}
				return got, err
			}}
		})},
		{"a list tells no roles", "roles are kept", breaks(func(under chat.Members) members {
			return members{roomsOf: func(ctx context.Context, id user.ID, after string, limit int) ([]chat.Membership, error) {
				all, err := under.RoomsOf(ctx, id, after, limit)
				for i := range all {
					all[i].Role = ""
				}
				return all, err
			}}
		})},
		{"the role outlives the membership", "roles are kept", breaks(func(under chat.Members) members {
			had := map[string]chat.Role{}
			return members{add: func(ctx context.Context, all ...chat.Membership) ([]chat.Membership, error) {
				got, err := under.Add(ctx, all...)
				for i, m := range got {
					if had[m.Room] == "" {
						had[m.Room] = m.Role
					}
					got[i].Role = had[m.Room]
				}
				return got, err
			}}
		})},
		{"removing does nothing", "a removed member is none", breaks(func(chat.Members) members {
			return members{remove: func(context.Context, string, user.ID) error { return nil }}
		})},
		{"removing nobody is an error", "a removed member is none", breaks(func(under chat.Members) members {
			return members{remove: func(ctx context.Context, room string, id user.ID) error {
				if ok, err := under.Has(ctx, room, id); err != nil || !ok {
					return fault.NotFound
				}
				return under.Remove(ctx, room, id)
			}}
		})},
		{"who left stays away", "a member may come back", breaks(func(under chat.Members) members {
			var mu sync.Mutex
			left := map[string]bool{}
			return members{
				remove: func(ctx context.Context, room string, id user.ID) error {
					mu.Lock()
					defer mu.Unlock()
					left[room] = true
					return under.Remove(ctx, room, id)
				},
				has: func(ctx context.Context, room string, id user.ID) (bool, error) {
					mu.Lock()
					defer mu.Unlock()
					ok, err := under.Has(ctx, room, id)
					return ok && !left[room], err
				},
			}
		})},
		{"users are folded", "rooms and users are exact", breaks(func(under chat.Members) members {
			return members{has: func(ctx context.Context, room string, id user.ID) (bool, error) {
				return under.Has(ctx, room, user.ID(lower(string(id))))
			}}
		})},
		{"everybody is a member", "an added member is a member", breaks(func(chat.Members) members {
			return members{has: func(context.Context, string, user.ID) (bool, error) { return true, nil }}
		})},
		{"the order is a dictionary's", "a user's rooms come by the bytes of the name", breaks(func(under chat.Members) members {
			return members{roomsOf: func(ctx context.Context, id user.ID, after string, limit int) ([]chat.Membership, error) {
				all, err := under.RoomsOf(ctx, id, after, limit)
				slices.SortStableFunc(all, func(a, b chat.Membership) int { return strings.Compare(lower(a.Room), lower(b.Room)) })
				return all, err
			}}
		})},
		{"the limit is ignored", "a user's rooms come page by page", breaks(func(under chat.Members) members {
			return members{roomsOf: func(ctx context.Context, id user.ID, after string, _ int) ([]chat.Membership, error) {
				return under.RoomsOf(ctx, id, after, 1000)
			}}
		})},
		{"a limit below 1 is an error", "a user's rooms come page by page", breaks(func(under chat.Members) members {
			return members{roomsOf: func(ctx context.Context, id user.ID, after string, limit int) ([]chat.Membership, error) {
				if limit < 1 {
					return nil, fault.Invalid
				}
				return under.RoomsOf(ctx, id, after, limit)
			}}
		})},
		{"memberships are doubled", "concurrent joins are one membership", breaks(func(under chat.Members) members {
			return members{roomsOf: func(ctx context.Context, id user.ID, after string, limit int) ([]chat.Membership, error) {
				all, err := under.RoomsOf(ctx, id, after, limit)
				return append(all, all...), err
			}}
		})},
	}
}

func cacheFaults() []broken[chat.RecentCache] {
	breaks := func(f func(c chat.RecentCache) cache) func(chat.RecentCache) chat.RecentCache {
		return func(under chat.RecentCache) chat.RecentCache {
			c := f(under)
			c.RecentCache = under
			return c
		}
	}
	// naive is a cache with room for everything and no rules but those of add and fill.
	naive := func(add, fill func(held, more []chat.Message) []chat.Message) func(chat.RecentCache) chat.RecentCache {
		return func(chat.RecentCache) chat.RecentCache {
			var mu sync.Mutex
			rooms := map[string][]chat.Message{}
			return cache{
				get: func(_ context.Context, room string) (chat.Recent, bool, error) {
					mu.Lock()
					defer mu.Unlock()
					all, held := rooms[room]
					return chat.Recent{Messages: slices.Clone(all)}, held, nil
				},
				add: func(_ context.Context, all ...chat.Message) error {
					mu.Lock()
					defer mu.Unlock()
					for _, m := range all {
						rooms[m.Room] = add(rooms[m.Room], []chat.Message{m})
					}
					return nil
				},
				fill: func(_ context.Context, room string, r chat.Recent) error {
					mu.Lock()
					defer mu.Unlock()
					rooms[room] = fill(rooms[room], r.Messages)
					return nil
				},
			}
		}
	}
	after := func(held, more []chat.Message) []chat.Message { return append(slices.Clone(held), more...) }
	replace := func(_, more []chat.Message) []chat.Message { return slices.Clone(more) }
	return []broken[chat.RecentCache]{
		{"adding appends blindly", "adding what overlaps takes what is newer", naive(after, replace)},
		{"adding leaves a hole", "adding after a hole replaces", naive(after, replace)},
		{"adding replaces", "adding extends", naive(replace, replace)},
		{"an older message replaces a newer one", "an older message never replaces a newer one", naive(replace, replace)},
		{"filling replaces what is newer", "filling adds what stands before", naive(after, replace)},
		{"filling changes what is held", "filling leaves what is held", naive(after, replace)},
		{"filling appends blindly", "filling never makes a hole", naive(after, after)},
		{"filling is ignored", "filling an empty room holds it", breaks(func(chat.RecentCache) cache {
			return cache{fill: func(context.Context, string, chat.Recent) error { return nil }}
		})},
		{"filling adds only before", "filling adds what connects and follows", breaks(func(under chat.RecentCache) cache {
			return cache{fill: func(ctx context.Context, room string, all chat.Recent) error {
				held, _, err := under.Get(ctx, room)
				if h, a := held.Messages, all.Messages; len(h) > 0 && len(a) > 0 && a[len(a)-1].Seq > h[len(h)-1].Seq {
					return err
				}
				return under.Fill(ctx, room, all)
			}}
		})},
		{"data is not held", "messages are held whole", breaks(func(under chat.RecentCache) cache {
			return cache{add: func(ctx context.Context, messages ...chat.Message) error {
				messages = slices.Clone(messages)
				for i := range messages {
					messages[i].Data = ""
				}
				return under.Add(ctx, messages...)
			}}
		})},
		{"filling drops replies", "messages are held whole", breaks(func(under chat.RecentCache) cache {
			return cache{fill: func(ctx context.Context, room string, all chat.Recent) error {
				all.Messages = slices.Clone(all.Messages)
				for i := range all.Messages {
					all.Messages[i].ReplyTo = 0
				}
				return under.Fill(ctx, room, all)
			}}
		})},
		{"nothing is ever held", "a room in use is held", breaks(func(chat.RecentCache) cache {
			return cache{get: func(context.Context, string) (chat.Recent, bool, error) { return chat.Recent{}, false, nil }}
		})},
		{"an unknown room is an error", "an unknown room is not held", breaks(func(under chat.RecentCache) cache {
			return cache{get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
				all, held, err := under.Get(ctx, room)
				if len(all.Messages) == 0 {
					err = fault.NotFound
				}
				return all, held, err
			}}
		})},
		{"every room counts as held", "an unknown room is not held", breaks(func(under chat.RecentCache) cache {
			return cache{get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
				all, _, err := under.Get(ctx, room)
				return all, true, err
			}}
		})},
		{"that a room has no messages is forgotten", "a room without messages is held", breaks(func(under chat.RecentCache) cache {
			return cache{fill: func(ctx context.Context, room string, all chat.Recent) error {
				if len(all.Messages) == 0 {
					return nil
				}
				return under.Fill(ctx, room, all)
			}}
		})},
		{"filling with nothing forgets", "adding ends that a room has none", naive(after, replace)},
		{"that a room has no messages outlasts what is read", "filling ends that a room has none", breaks(func(under chat.RecentCache) cache {
			return cache{fill: func(ctx context.Context, room string, all chat.Recent) error {
				held, known, err := under.Get(ctx, room)
				if known && len(held.Messages) == 0 && len(all.Messages) > 0 && all.Messages[0].Seq > 1 {
					return err
				}
				return under.Fill(ctx, room, all)
			}}
		})},
		{"one call is for one room", "one call adds to several rooms", breaks(func(under chat.RecentCache) cache {
			return cache{add: func(ctx context.Context, all ...chat.Message) error {
				var mine []chat.Message
				for _, m := range all {
					if m.Room == all[0].Room {
						mine = append(mine, m)
					}
				}
				return under.Add(ctx, mine...)
			}}
		})},
		{"rooms are folded", "rooms are exact", breaks(func(under chat.RecentCache) cache {
			return cache{
				get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
					return under.Get(ctx, lower(room))
				},
				add: func(ctx context.Context, all ...chat.Message) error {
					all = slices.Clone(all)
					for i := range all {
						all[i].Room = lower(all[i].Room)
					}
					return under.Add(ctx, all...)
				},
			}
		})},
		{"the oldest are kept", "many messages keep the last", breaks(func(under chat.RecentCache) cache {
			return cache{get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
				all, held, err := under.Get(ctx, room)
				all.Messages = all.Messages[:min(len(all.Messages), 50)]
				return all, held, err
			}}
		})},
		{"readers see holes", "readers never see a hole", breaks(func(under chat.RecentCache) cache {
			return cache{get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
				all, held, err := under.Get(ctx, room)
				if len(all.Messages) > 2 {
					all.Messages = slices.Delete(all.Messages, 1, 2)
				}
				return all, held, err
			}, add: func(ctx context.Context, all ...chat.Message) error {
				return under.Add(ctx, all...)
			}}
		})},
		{"what is returned is shared", "messages are copies", breaks(func(under chat.RecentCache) cache {
			var mu sync.Mutex
			got := map[string]chat.Recent{}
			return cache{get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
				mu.Lock()
				defer mu.Unlock()
				var err error
				if got[room].Messages == nil {
					got[room], _, err = under.Get(ctx, room)
				}
				return got[room], got[room].Messages != nil, err
			}}
		})},
	}
}

func fanoutFaults() []broken[contract.FanoutNodes] {
	publishes := func(f func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error) func(contract.FanoutNodes) contract.FanoutNodes {
		return nodes(func(n realtime.Fanout) realtime.Fanout {
			return fanout{Fanout: n, publish: func(ctx context.Context, s realtime.Signal) error { return f(n, ctx, s) }}
		})
	}
	delivers := func(f func(deliver func(realtime.Signal)) func(realtime.Signal)) func(contract.FanoutNodes) contract.FanoutNodes {
		return nodes(func(n realtime.Fanout) realtime.Fanout {
			return fanout{Fanout: n, run: func(ctx context.Context, deliver func(realtime.Signal)) error { return n.Run(ctx, f(deliver)) }}
		})
	}
	return []broken[contract.FanoutNodes]{
		{"the message's client id is lost", "a signal arrives whole", publishes(func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error {
			s.Message.ClientID = ""
			return n.Publish(ctx, s)
		})},
		{"the message's data is lost", "a signal arrives whole", publishes(func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error {
			s.Message.Data = ""
			return n.Publish(ctx, s)
		})},
		{"what a message answers is lost", "a signal arrives whole", publishes(func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error {
			s.Message.ReplyTo = 0
			return n.Publish(ctx, s)
		})},
		{"the reactions of a message are lost", "a signal arrives whole", publishes(func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error {
			s.Message.Reactions = nil
			return n.Publish(ctx, s)
		})},
		{"when a message was deleted is lost", "a signal arrives whole", publishes(func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error {
			s.Message.DeletedAt = time.Time{}
			return n.Publish(ctx, s)
		})},
		{"what an event of an application says is lost", "a signal arrives whole", publishes(func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error {
			s.Data = ""
			return n.Publish(ctx, s)
		})},
		{"numbers become floats", "a signal arrives whole", publishes(func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error {
			s.Message.Seq = uint64(float64(s.Message.Seq))
			return n.Publish(ctx, s)
		})},
		{"a node does not get its own signals", "the publishing node gets its own signals", nodes(func(n realtime.Fanout) realtime.Fanout {
			var mu sync.Mutex
			mine := map[uint64]bool{}
			return fanout{Fanout: n,
				publish: func(ctx context.Context, s realtime.Signal) error {
					if s.Kind == realtime.SignalMessage {
						mu.Lock()
						mine[s.Message.Seq] = true
						mu.Unlock()
					}
					return n.Publish(ctx, s)
				},
				run: func(ctx context.Context, deliver func(realtime.Signal)) error {
					return n.Run(ctx, func(s realtime.Signal) {
						mu.Lock()
						own := mine[s.Message.Seq]
						mu.Unlock()
						if !own {
							deliver(s)
						}
					})
				},
			}
		})},
		{"every node is alone", "every following node gets a signal", func(contract.FanoutNodes) contract.FanoutNodes {
			return func(ctx context.Context) (realtime.Fanout, error) { return openFanout()(ctx) }
		}},
		{"every room is delivered", "only followed rooms are delivered", func(open contract.FanoutNodes) contract.FanoutNodes {
			var mu sync.Mutex
			var all []realtime.Fanout
			return func(ctx context.Context) (realtime.Fanout, error) {
				n, err := open(ctx)
				mu.Lock()
				defer mu.Unlock()
				all = append(all, n)
				return fanout{Fanout: n, publish: func(ctx context.Context, s realtime.Signal) error {
					mu.Lock()
					everyone := slices.Clone(all)
					mu.Unlock()
					for _, n := range everyone {
						if err := n.Follow(ctx, s.Room); err != nil {
							return err
						}
					}
					return n.Publish(ctx, s)
				}}, err
			}
		}},
		{"rooms are folded", "rooms are exact", nodes(func(n realtime.Fanout) realtime.Fanout {
			return fanout{Fanout: n,
				follow: func(ctx context.Context, room string) error { return n.Follow(ctx, lower(room)) },
				publish: func(ctx context.Context, s realtime.Signal) error {
					s.Room = lower(s.Room)
					return n.Publish(ctx, s)
				},
			}
		})},
		{"following takes a while", "following takes effect before it returns", nodes(func(n realtime.Fanout) realtime.Fanout {
			return fanout{Fanout: n, follow: func(ctx context.Context, room string) error {
				go func() {
					select {
					case <-ctx.Done():
					case <-time.After(time.Second): // in the bubble's time
						_ = n.Follow(ctx, room)
					}
				}()
				return nil
			}}
		})},
		{"following before Run is forgotten", "following before Run", nodes(func(n realtime.Fanout) realtime.Fanout {
			running := make(chan struct{})
			return fanout{Fanout: n,
				follow: func(ctx context.Context, room string) error {
					select {
					case <-running:
						return n.Follow(ctx, room)
					default:
						return nil
					}
				},
				run: func(ctx context.Context, deliver func(realtime.Signal)) error {
					close(running)
					return n.Run(ctx, deliver)
				},
			}
		})},
		{"what is said before Run reaches others only", "what a node says before it runs is heard", nodes(func(n realtime.Fanout) realtime.Fanout {
			var runs atomic.Bool
			return fanout{
				Fanout: n,
				publish: func(ctx context.Context, s realtime.Signal) error {
					if !runs.Load() {
						return nil
					}
					return n.Publish(ctx, s)
				},
				run: func(ctx context.Context, deliver func(realtime.Signal)) error {
					runs.Store(true)
					return n.Run(ctx, deliver)
				},
			}
		})},
		{"following twice delivers twice", "following twice is following once", nodes(func(n realtime.Fanout) realtime.Fanout {
			var mu sync.Mutex
			times := map[string]int{}
			return fanout{Fanout: n,
				follow: func(ctx context.Context, room string) error {
					mu.Lock()
					times[room]++
					mu.Unlock()
					return n.Follow(ctx, room)
				},
				run: func(ctx context.Context, deliver func(realtime.Signal)) error {
					return n.Run(ctx, func(s realtime.Signal) {
						mu.Lock()
						k := times[s.Room]
						mu.Unlock()
						for range k {
							deliver(s)
						}
					})
				},
			}
		})},
		{"unfollowing does nothing", "an unfollowed room is silent", nodes(func(n realtime.Fanout) realtime.Fanout {
			return fanout{Fanout: n, unfollow: func(context.Context, string) error { return nil }}
		})},
		{"signals are turned round in pairs", "signals of a room arrive in order", nodes(func(n realtime.Fanout) realtime.Fanout {
			var mu sync.Mutex
			var held *realtime.Signal
			return fanout{Fanout: n, publish: func(ctx context.Context, s realtime.Signal) error {
				if s.Kind != realtime.SignalMessage {
					return n.Publish(ctx, s)
				}
				mu.Lock()
				defer mu.Unlock()
				if held == nil {
					held = &s
					return nil
				}
				err := errors.Join(n.Publish(ctx, s), n.Publish(ctx, *held))
				held = nil
				return err
			}}
		})},
		{"signals are doubled", "concurrent publishers lose nothing", publishes(func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error {
			return errors.Join(n.Publish(ctx, s), n.Publish(ctx, s))
		})},
		{"every tenth signal is lost", "concurrent following works", func() func(contract.FanoutNodes) contract.FanoutNodes {
			var mu sync.Mutex
			k := 0
			return publishes(func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error {
				mu.Lock()
				k++
				lose := k%10 == 0
				mu.Unlock()
				if lose {
					return nil
				}
				return n.Publish(ctx, s)
			})
		}()},
		{"the end is an error", "Run ends with its context", nodes(func(n realtime.Fanout) realtime.Fanout {
			return fanout{Fanout: n, run: func(ctx context.Context, deliver func(realtime.Signal)) error {
				return errors.Join(n.Run(ctx, deliver), ctx.Err())
			}}
		})},
		{"an ended node goes on", "nothing is delivered after the end", nodes(func(n realtime.Fanout) realtime.Fanout {
			return fanout{Fanout: n, run: func(ctx context.Context, deliver func(realtime.Signal)) error {
				go func() {
					onward, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Hour)
					defer cancel()
					_ = n.Run(onward, deliver)
				}()
				<-ctx.Done()
				return nil
			}}
		})},
		{"a slow node holds up the publisher", "a slow node does not hold up Publish", func(open contract.FanoutNodes) contract.FanoutNodes {
			busy := make(chan struct{}, 1) // full while anybody publishes or handles a signal
			return nodes(func(n realtime.Fanout) realtime.Fanout {
				return fanout{Fanout: n,
					publish: func(ctx context.Context, s realtime.Signal) error {
						select {
						case busy <- struct{}{}:
						case <-ctx.Done():
							return ctx.Err()
						}
						defer func() { <-busy }()
						return n.Publish(ctx, s)
					},
					run: func(ctx context.Context, deliver func(realtime.Signal)) error {
						return n.Run(ctx, func(s realtime.Signal) {
							select {
							case busy <- struct{}{}:
								defer func() { <-busy }()
								deliver(s)
							case <-ctx.Done():
							}
						})
					},
				}
			})(open)
		}},
		{"a node that does not run refuses", "a node that does not run holds up nobody", func(open contract.FanoutNodes) contract.FanoutNodes {
			var mu sync.Mutex
			idle := 0
			return nodes(func(n realtime.Fanout) realtime.Fanout {
				mu.Lock()
				idle++
				mu.Unlock()
				return fanout{Fanout: n,
					publish: func(ctx context.Context, s realtime.Signal) error {
						mu.Lock()
						defer mu.Unlock()
						if idle > 0 && s.Kind == realtime.SignalMessage {
							return fault.Unavailable
						}
						return n.Publish(ctx, s)
					},
					run: func(ctx context.Context, deliver func(realtime.Signal)) error {
						mu.Lock()
						idle--
						mu.Unlock()
						return n.Run(ctx, deliver)
					},
				}
			})(open)
		}},
		{"times lose their microseconds", "signals of a room arrive in order", delivers(func(deliver func(realtime.Signal)) func(realtime.Signal) {
			return func(s realtime.Signal) {
				s.Message.At = s.Message.At.Truncate(time.Millisecond)
				deliver(s)
			}
		})},
	}
}

func presenceFaults() []broken[realtime.Presence] {
	breaks := func(f func(p realtime.Presence) presence) func(realtime.Presence) realtime.Presence {
		return func(under realtime.Presence) realtime.Presence {
			p := f(under)
			p.Presence = under
			return p
		}
	}
	lists := func(f func(p realtime.Presence, ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error)) func(realtime.Presence) realtime.Presence {
		return breaks(func(under realtime.Presence) presence {
			return presence{list: func(ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
				return f(under, ctx, now, room, limit)
			}}
		})
	}
	renews := func(f func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error)) func(realtime.Presence) realtime.Presence {
		return breaks(func(under realtime.Presence) presence {
			return presence{renew: func(ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) { return f(under, ctx, r) }}
		})
	}
	return []broken[realtime.Presence]{
		{"everybody is the first", "the first node to have a user is told", breaks(func(under realtime.Presence) presence {
			return presence{enter: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
				_, err := under.Enter(ctx, now, node, room, who)
				return true, err
			}}
		})},
		{"several are the first", "one of several enters is the first", breaks(func(under realtime.Presence) presence {
			return presence{enter: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
				_, n, err := under.List(ctx, now, room, 1)
				if err != nil {
					return false, err
				}
				time.Sleep(time.Millisecond) // in the bubble's time
				_, err = under.Enter(ctx, now, node, room, who)
				return n == 0, err
			}}
		})},
		{"everybody is the last", "the last node to lose a user is told", breaks(func(under realtime.Presence) presence {
			return presence{exit: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
				_, err := under.Exit(ctx, now, node, room, who)
				return true, err
			}}
		})},
		{"nobody is the last", "one of several exits is the last", breaks(func(under realtime.Presence) presence {
			return presence{exit: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
				_, err := under.Exit(ctx, now, node, room, who)
				return false, err
			}}
		})},
		{"an exit leaves every node", "the last node to lose a user is told", breaks(func(under realtime.Presence) presence {
			return presence{exit: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
				last := false
				for _, n := range []string{"a", "b", "c"} {
					l, err := under.Exit(ctx, now, n, room, who)
					if err != nil {
						return false, err
					}
					last = last || l
				}
				return last, nil
			}}
		})},
		{"entering counts", "entering twice is entering once", func(under realtime.Presence) realtime.Presence {
			var mu sync.Mutex
			times := map[string]int{}
			return presence{Presence: under,
				enter: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
					mu.Lock()
					times[node]++
					mu.Unlock()
					return under.Enter(ctx, now, node, room, who)
				},
				exit: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
					mu.Lock()
					times[node]--
					left := times[node]
					mu.Unlock()
					if left > 0 {
						return false, nil
					}
					return under.Exit(ctx, now, node, room, who)
				},
			}
		}},
		{"who was lost is not told", "leaving without having entered changes nothing", breaks(func(under realtime.Presence) presence {
			return presence{exit: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
				users, _, err := under.List(ctx, now, room, 1000)
				if err != nil {
					return false, err
				}
				last, err := under.Exit(ctx, now, node, room, who)
				return last && slices.Contains(users, who), err
			}}
		})},
		{"a user is counted on every node", "a user on several nodes is one", func(under realtime.Presence) realtime.Presence {
			var mu sync.Mutex
			n := 0
			return presence{Presence: under,
				enter: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
					mu.Lock()
					n++
					mu.Unlock()
					return under.Enter(ctx, now, node, room, who)
				},
				list: func(ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
					mu.Lock()
					defer mu.Unlock()
					users, _, err := under.List(ctx, now, room, limit)
					return users, n, err
				},
			}
		}},
		{"lists descend", "users are listed by ID", lists(func(p realtime.Presence, ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
			users, n, err := p.List(ctx, now, room, limit)
			slices.Reverse(users)
			return users, n, err
		})},
		{"no limit is no bound", "a list has at most limit users, the count has all", lists(func(p realtime.Presence, ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
			if limit <= 0 {
				limit = 1000
			}
			return p.List(ctx, now, room, limit)
		})},
		{"the count is of the list", "a list has at most limit users, the count has all", lists(func(p realtime.Presence, ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
			users, _, err := p.List(ctx, now, room, limit)
			return users, len(users), err
		})},
		{"rooms are folded", "rooms are exact", breaks(func(under realtime.Presence) presence {
			return presence{
				enter: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
					return under.Enter(ctx, now, node, lower(room), who)
				},
				list: func(ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
					return under.List(ctx, now, lower(room), limit)
				},
			}
		})},
		{"users are folded", "users are exact", breaks(func(under realtime.Presence) presence {
			return presence{enter: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
				who.ID = user.ID(lower(string(who.ID)))
				return under.Enter(ctx, now, node, room, who)
			}}
		})},
		{"leases do not end", "a node whose lease has ended counts no more", breaks(func(realtime.Presence) presence {
			return presence{renew: func(context.Context, realtime.Renewal) (realtime.Renewed, error) {
				return realtime.Renewed{Fresh: true}, nil
			}}
		})},
		{"a node without a lease is dead", "a node without a lease stays", breaks(func(under realtime.Presence) presence {
			return presence{enter: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
				if _, err := under.Renew(ctx, realtime.Renewal{Node: node, Now: now, Until: now.Add(time.Minute)}); err != nil {
					return false, err
				}
				return under.Enter(ctx, now, node, room, who)
			}}
		})},
		{"nobody is given a lease", "a node that is found without a lease gets one", breaks(func(under realtime.Presence) presence {
			return presence{renew: func(ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
				rolls := r.Rolls
				r.Rolls = nil
				done, err := under.Renew(ctx, r)
				for _, roll := range rolls {
					for _, who := range roll.Users {
						if _, enterErr := under.Enter(ctx, r.Now, r.Node, roll.Room, who); enterErr != nil {
							return done, enterErr
						}
						done.Entered = append(done.Entered, realtime.Whereabouts{Room: roll.Room, User: who})
					}
				}
				return done, err
			}}
		})},
		{"who died stays dead", "a renewed node is back", func(under realtime.Presence) realtime.Presence {
			var mu sync.Mutex
			dead := false
			return presence{Presence: under, list: func(ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
				mu.Lock()
				defer mu.Unlock()
				users, n, err := under.List(ctx, now, room, limit)
				dead = dead || n == 0
				if dead {
					return nil, 0, err
				}
				return users, n, err
			}}
		}},
		{"first counts the dead", "first does not count dead nodes, last does", breaks(func(under realtime.Presence) presence {
			return presence{enter: func(ctx context.Context, _ time.Time, node, room string, who chat.Author) (bool, error) {
				return under.Enter(ctx, time.Time{}, node, room, who)
			}}
		})},
		{"every renewal is fresh", "a first renewal is fresh", renews(func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
			done, err := p.Renew(ctx, r)
			done.Fresh = true
			return done, err
		})},
		{"rolls are ignored", "a roll enters who was lost", renews(func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
			r.Rolls = nil
			return p.Renew(ctx, r)
		})},
		{"rolls only add", "a roll removes who was left behind", renews(func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
			rolls := r.Rolls
			r.Rolls = nil
			done, err := p.Renew(ctx, r)
			for _, roll := range rolls {
				for _, u := range roll.Users {
					if _, err := p.Enter(ctx, r.Now, r.Node, roll.Room, u); err != nil {
						return done, err
					}
				}
			}
			return done, err
		})},
		{"a roll is compared by its length", "a roll removes who was left behind", renews(func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
			r.Rolls = slices.DeleteFunc(slices.Clone(r.Rolls), func(roll realtime.Roll) bool {
				users, n, err := p.List(ctx, r.Now, roll.Room, 10)
				return err == nil && n == 1 && len(roll.Users) == 1 && users[0] != roll.Users[0]
			})
			return p.Renew(ctx, r)
		})},
		{"rooms of rolls are folded", "a roll is of its room and its node", renews(func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
			r.Rolls = slices.Clone(r.Rolls)
			for i := range r.Rolls {
				r.Rolls[i].Room = lower(r.Rolls[i].Room)
			}
			return p.Renew(ctx, r)
		})},
		{"rolls are cut", "a large roll is compared whole", renews(func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
			r.Rolls = slices.Clone(r.Rolls)
			for i := range r.Rolls {
				r.Rolls[i].Users = r.Rolls[i].Users[:min(1000, len(r.Rolls[i].Users))]
			}
			return p.Renew(ctx, r)
		})},
		{"who was ended may go on", "an ended lease is ended for good", renews(func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
			done, err := p.Renew(ctx, r)
			if errors.Is(err, realtime.ErrLeaseEnded) {
				return realtime.Renewed{}, nil
			}
			return done, err
		})},
		{"everybody ends leases", "only leases that have ended are ended", renews(func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
			r.End = true
			return p.Renew(ctx, r)
		})},
		{"the dead are not told", "who goes with a dead node is told", renews(func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
			done, err := p.Renew(ctx, r)
			if r.End {
				done.Left = nil
			}
			return done, err
		})},
		{"every finder is told", "one of several finders is told", func(under realtime.Presence) realtime.Presence {
			var mu sync.Mutex
			var left []realtime.Whereabouts
			return presence{Presence: under, renew: func(ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
				mu.Lock()
				defer mu.Unlock()
				done, err := under.Renew(ctx, r)
				if r.Node != "b" && r.End {
					left = append(left, done.Left...)
					done.Left = slices.Clone(left)
				}
				return done, err
			}}
		}},
		{"concurrent users are lost", "concurrent users are all counted", breaks(func(under realtime.Presence) presence {
			return presence{list: func(ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
				users, n, err := under.List(ctx, now, room, limit)
				if n > 10 {
					users, n = users[1:], n-1
				}
				return users, n, err
			}}
		})},
		{"what is listed is shared", "listed users are copies", func(under realtime.Presence) realtime.Presence {
			var mu sync.Mutex
			var kept []chat.Author
			return presence{Presence: under, list: func(ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
				mu.Lock()
				defer mu.Unlock()
				users, n, err := under.List(ctx, now, room, limit)
				if kept == nil {
					kept = users
				}
				return kept, n, err
			}}
		}},
	}
}

// connFault is a wire with one defect, and the case that must notice.
type connFault struct {
	caught  string
	defects defects
}

func connFaults() []connFault {
	return []connFault{
		{"frames arrive in order", defects{reorders: true}},
		{"frames arrive in order", defects{doubles: true}},
		{"frames arrive in order", defects{loses: true}},
		{"frames of every length arrive whole", defects{noEmpty: true}},
		{"joined frames arrive as messages", defects{firstOfJoined: true}},
		{"joined frames arrive as messages", defects{joinedAsOne: true}},
		{"one frame serves many connections", defects{mutates: true}},
		{"concurrent sends arrive whole", defects{mixesUp: true}},
		{"a stalled client does not block Send", defects{blocks: true}},
		{"a stalled client does not block Send", defects{refusesQueue: true}},
		{"a stalled client does not block Send", defects{hidesQueue: true}},
		{"a stalled client harms nobody else", defects{blocks: true}},
		{"nothing is queued once the client reads", defects{neverDrains: true}},
		{"Send after Close is Unavailable", defects{sendsAfterClose: true}},
		{"Send after Close is Unavailable", defects{okAfterClose: true}},
		{"Send on a broken connection is Unavailable", defects{okWhenGone: true}},
		{"Close delivers the queue, then code and reason", defects{dropsQueue: true}},
		{"a reason of 123 bytes arrives", defects{cutsReason: true}},
		{"only the first Close counts", defects{lastCloseWins: true}},
		{"only the first Close counts", defects{closesTwice: true}},
		{"concurrent closes are one", defects{goneTwice: true}},
		{"Close cuts a silent client", defects{neverCuts: true}},
		{"Close cuts a stalled client", defects{neverCuts: true}},
		{"an answered Close disconnects once", defects{goneTwice: true}},
		{"messages are received in order", defects{reordersReceive: true}},
		{"messages of every length are received whole", defects{noEmpty: true}},
		{"fragments are received as one message", defects{splits: true}},
		{"binary is told from text", defects{forgetsBinary: true}},
		{"a ping is answered", defects{noPong: true}},
		{"pings in a row are each answered", defects{fewPongs: true}},
		{"the client's close disconnects once", defects{goneFirst: true}},
		{"the client's close disconnects once", defects{receivesAfterGone: true}},
		{"a cut disconnects once", defects{neverGone: true}},
		{"a cut disconnects once", defects{goneTwice: true}},
		{"a refused connection is closed with its code", defects{noCode: true}},
		{"a draining node refuses with 1012", defects{noDraining: true}},
		{"messages are received in order", defects{overlaps: true}},
	}
}

// listed is a list that keeps the rules.
func listed(_ context.Context, password string) (bool, error) {
	return slices.Contains([]string{"password", "12345678", "iloveyou", "football", "qwertyuiop"}, strings.ToLower(password)), nil
}

func listFaults() []broken[auth.PasswordList] {
	breaks := func(f func(ctx context.Context, password string) (bool, error)) func(auth.PasswordList) auth.PasswordList {
		return func(auth.PasswordList) auth.PasswordList { return passwordList(f) }
	}
	return []broken[auth.PasswordList]{
		{"the list is empty", "common passwords are in it", breaks(func(context.Context, string) (bool, error) { return false, nil })},
		{"everything is in it", "a phrase that nobody else has is not in it", breaks(func(context.Context, string) (bool, error) { return true, nil })},
		{"letter case counts", "letter case does not count", breaks(func(ctx context.Context, password string) (bool, error) {
			if password != strings.ToLower(password) {
				return false, nil
			}
			return listed(ctx, password)
		})},
		{"it tires of questions", "many may ask at once", func() func(auth.PasswordList) auth.PasswordList {
			var asked atomic.Int32
			return breaks(func(ctx context.Context, password string) (bool, error) {
				if asked.Add(1) > 20 {
					return false, errors.New("that is enough for today")
				}
				return listed(ctx, password)
			})
		}()},
	}
}
