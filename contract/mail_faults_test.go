package contract_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

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
		{"the history is forgotten", "what became of attempts is kept", settles(func(p contract.Mails, ctx context.Context, j mail.Job, o mail.Outcome) error {
			o.History = nil
			return p.Queue.Settle(ctx, j, o)
		})},
		{"a settlement without a history empties it", "what became of attempts is kept", settles(func(p contract.Mails, ctx context.Context, j mail.Job, o mail.Outcome) error {
			if o.History == nil {
				o.History = []mail.Attempt{}
			}
			return p.Queue.Settle(ctx, j, o)
		})},
		{"only dead letters have a history", "what became of attempts is kept", settles(func(p contract.Mails, ctx context.Context, j mail.Job, o mail.Outcome) error {
			if o.State != mail.Dead {
				o.History = nil
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
		{"a requeue forgets the history", "requeues are counted", breaks(func(l mail.DeadLetters) letters {
			return letters{get: func(ctx context.Context, id string) (mail.Job, error) {
				j, err := l.Get(ctx, id)
				if j.State == mail.Ready {
					j.History = nil
				}
				return j, err
			}}
		})},
		{"requeues are counted once", "requeues are counted", breaks(func(l mail.DeadLetters) letters {
			return letters{get: func(ctx context.Context, id string) (mail.Job, error) {
				j, err := l.Get(ctx, id)
				j.Replays = min(j.Replays, 1)
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
