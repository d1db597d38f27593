package contract

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// DeadLetters checks mail.DeadLetters. It makes jobs through mail.Queue.
func DeadLetters() []Case[Mails] {
	return suite("DeadLetters", []promise[Mails]{
		{"jobs are listed ascending by ID", "List returns jobs that f chooses, ascending by ID.", lettersOrder},
		{"a list has at most limit jobs", "List returns at most f.Limit jobs.", lettersLimit},
		{"a limit out of range is refused", "List returns ErrFilterInvalid if f.Limit is not 1 to 1,000.", lettersNoLimit},
		{"page by page, every job comes once", "After is the ID of the last job of the page before; empty for the first page.", lettersPages},
		{"a job that is gone still marks its place", "A job that is gone meanwhile still marks its place.", lettersGone},
		{"state and recipient choose", "State and To choose by equality; empty means any.", lettersFilter},
		{"an unknown job is not found", "Get returns a job, or ErrJobNotFound. Requeue returns ErrJobNotFound if there is no such job. Discard returns ErrJobNotFound if there is no such job.", lettersAbsent},
		{"a requeued job is ready", "Requeue makes a Dead job Ready at runAt, with no attempts and nothing put off. The job keeps its last error and its history; its UpdatedAt becomes runAt.", lettersRequeue},
		{"requeues are counted", "Requeue adds one to the job's Replays.", lettersReplays},
		{"a requeued job was never put off", "Requeue makes a Dead job Ready at runAt, with no attempts and nothing put off.", lettersRequeueDeferred},
		{"a requeue may replace the data", "Requeue replaces the job's data unless data is nil.", lettersData},
		{"only dead letters are requeued and discarded", "Requeue returns ErrNotDead, and changes nothing, if the job is not Dead. Discard returns ErrNotDead, and changes nothing, if the job is not Dead.", lettersNotDead},
		{"concurrent requeues are one", "Requeue returns ErrNotDead, and changes nothing, if the job is not Dead.", lettersRequeueRace},
		{"a discarded job is gone", "Discard removes a Dead job.", lettersDiscard},
		{"concurrent discards are one", "Discard returns ErrJobNotFound if there is no such job.", lettersDiscardRace},
		{"what is mailed to somebody is removed", "DeleteTo removes the jobs to a recipient, in whatever state, and returns how many. Jobs to others stay. Removing nothing is no error.", lettersErase},
		{"a removed job's lease is lost", "Whoever has claimed a job that is removed finds that its lease is lost.", lettersEraseClaimed},
		{"listed jobs are copies", "Changing what was returned changes nothing stored.", lettersCopies},
	})
}

// wantListed wants the jobs with these numbers, in this order.
func wantListed(ctx context.Context, p Mails, f mail.Filter, numbers ...int) error {
	jobs, err := p.Letters.List(ctx, f)
	if err != nil {
		return during("List", err)
	}
	got, want := []string{}, []string{}
	for _, j := range jobs {
		got = append(got, j.ID)
	}
	for _, n := range numbers {
		want = append(want, job(n).ID)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("List(state %q, to %q, after %q, limit %d) returned %q, want %q", f.State, f.To, f.After, f.Limit, got, want)
	}
	return nil
}

// die makes dead letters of the jobs with these numbers, in this order.
func die(ctx context.Context, p Mails, numbers ...int) error {
	for _, n := range numbers {
		if err := enqueue(ctx, p, job(n)); err != nil {
			return err
		}
		if _, err := settle(ctx, p, job(n).ID, at(1000), mail.Outcome{State: mail.Dead, At: at(1001), Error: "dead"}); err != nil {
			return err
		}
	}
	return nil
}

func lettersOrder(ctx context.Context, p Mails) error {
	return first(
		func() error { return wantListed(ctx, p, mail.Filter{Limit: 10}) },
		func() error { return die(ctx, p, 4, 1, 3) },
		func() error { return enqueue(ctx, p, job(2), job(0)) },
		func() error { return wantListed(ctx, p, mail.Filter{Limit: 10}, 0, 1, 2, 3, 4) },
	)
}

func lettersLimit(ctx context.Context, p Mails) error {
	return first(
		func() error { return enqueue(ctx, p, job(3), job(1), job(2)) },
		func() error { return wantListed(ctx, p, mail.Filter{Limit: 1}, 1) },
		func() error { return wantListed(ctx, p, mail.Filter{Limit: 2}, 1, 2) },
		func() error { return wantListed(ctx, p, mail.Filter{Limit: 3}, 1, 2, 3) },
		func() error { return wantListed(ctx, p, mail.Filter{Limit: 1000}, 1, 2, 3) },
	)
}

func lettersPages(ctx context.Context, p Mails) error {
	const n = 11
	for i := range n {
		if err := enqueue(ctx, p, job((i*7)%n)); err != nil { // every number once, not in order
			return err
		}
	}
	var got []string
	f := mail.Filter{Limit: 3}
	for range n {
		page, err := p.Letters.List(ctx, f)
		if err != nil {
			return during("List", err)
		}
		if len(page) == 0 {
			break
		}
		for _, j := range page {
			got = append(got, j.ID)
		}
		f.After = got[len(got)-1]
	}
	var want []string
	for i := range n {
		want = append(want, job(i).ID)
	}
	return during("all pages", same(got, want))
}

func lettersGone(ctx context.Context, p Mails) error {
	if err := die(ctx, p, 1, 2, 3, 4); err != nil {
		return err
	}
	return first(
		func() error { return during("Discard", p.Letters.Discard(ctx, job(2).ID)) },
		func() error { return wantListed(ctx, p, mail.Filter{After: job(2).ID, Limit: 10}, 3, 4) },
		func() error { return wantListed(ctx, p, mail.Filter{State: mail.Dead, After: job(2).ID, Limit: 1}, 3) },
		func() error { return wantListed(ctx, p, mail.Filter{After: job(4).ID, Limit: 10}) },
	)
}

func lettersFilter(ctx context.Context, p Mails) error {
	if err := oneOfEach(ctx, p); err != nil {
		return err
	}
	second := job(5)
	second.To = job(4).To
	return first(
		func() error { return enqueue(ctx, p, second) },
		func() error { return wantListed(ctx, p, mail.Filter{State: mail.Ready, Limit: 10}, 1, 5) },
		func() error { return wantListed(ctx, p, mail.Filter{State: mail.Running, Limit: 10}, 2) },
		func() error { return wantListed(ctx, p, mail.Filter{State: mail.Sent, Limit: 10}, 3) },
		func() error { return wantListed(ctx, p, mail.Filter{State: mail.Dead, Limit: 10}, 4) },
		func() error { return wantListed(ctx, p, mail.Filter{To: job(4).To, Limit: 10}, 4, 5) },
		func() error { return wantListed(ctx, p, mail.Filter{To: job(4).To, State: mail.Ready, Limit: 10}, 5) },
		func() error { return wantListed(ctx, p, mail.Filter{To: job(4).To, After: job(4).ID, Limit: 10}, 5) },
		func() error { return wantListed(ctx, p, mail.Filter{To: "zoe@example.com", Limit: 10}) },
		func() error { return wantListed(ctx, p, mail.Filter{To: "zoe_@example.com", Limit: 10}) },
	)
}

func lettersNoLimit(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	for _, limit := range []int{0, -1, 1001} {
		_, err := p.Letters.List(ctx, mail.Filter{Limit: limit})
		if err := wantIs(fmt.Sprintf("List with the limit %d", limit), err, mail.ErrFilterInvalid); err != nil {
			return err
		}
	}
	return wantListed(ctx, p, mail.Filter{Limit: 1000}, 1)
}

func lettersAbsent(ctx context.Context, p Mails) error {
	_, err := p.Letters.Get(ctx, "nobody")
	return first(
		func() error { return wantIs("Get of an unknown job", err, mail.ErrJobNotFound) },
		func() error {
			return wantIs("Requeue of an unknown job", p.Letters.Requeue(ctx, "nobody", at(1), nil), mail.ErrJobNotFound)
		},
		func() error {
			return wantIs("Discard of an unknown job", p.Letters.Discard(ctx, "nobody"), mail.ErrJobNotFound)
		},
	)
}

func lettersRequeue(ctx context.Context, p Mails) error {
	if err := first(
		func() error { return die(ctx, p, 1) },
		func() error { return during("Requeue", p.Letters.Requeue(ctx, job(1).ID, at(2000), nil)) },
	); err != nil {
		return err
	}
	want := job(1)
	want.RunAt, want.Claims, want.LastError, want.Replays = at(2000), 1, "dead", 1
	if err := first(
		func() error { return wantJob(ctx, p, want) },
		func() error { return claimNone(ctx, p, at(2000).Add(-time.Microsecond)) },
	); err != nil {
		return err
	}
	j, err := p.Letters.Get(ctx, want.ID)
	if err != nil {
		return during("Get", err)
	}
	if !j.UpdatedAt.Equal(at(2000)) {
		return fmt.Errorf("UpdatedAt is %v, want the time of the next attempt, %v", j.UpdatedAt, at(2000))
	}
	_, err = claim(ctx, p, at(2000), want.ID)
	return err
}

func lettersRequeueDeferred(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	if _, err := settle(ctx, p, job(1).ID, at(5), mail.Outcome{State: mail.Ready, RunAt: at(20), At: at(6), Error: "try later", Untried: true, DeferredSince: at(6)}); err != nil {
		return err
	}
	if _, err := settle(ctx, p, job(1).ID, at(20), mail.Outcome{State: mail.Dead, At: at(21), Error: "too long"}); err != nil {
		return err
	}
	want := job(1)
	want.RunAt, want.Claims, want.LastError, want.Replays = at(2000), 2, "too long", 1
	if err := p.Letters.Requeue(ctx, want.ID, at(2000), nil); err != nil {
		return during("Requeue", err)
	}
	return wantJob(ctx, p, want)
}

func lettersReplays(ctx context.Context, p Mails) error {
	history := []mail.Attempt{{Number: 1, At: at(1001), Error: "dead"}}
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	for n := range 3 {
		_, err := settle(ctx, p, job(1).ID, at(1000), mail.Outcome{State: mail.Dead, At: at(1001), Error: "dead", History: history})
		want := job(1)
		want.RunAt, want.Claims, want.LastError, want.Replays, want.History = at(1000), int64(n+1), "dead", n+1, history
		if err := then(err,
			func() error { return during("Requeue", p.Letters.Requeue(ctx, want.ID, at(1000), nil)) },
			func() error { return wantJob(ctx, p, want) },
		); err != nil {
			return err
		}
	}
	return nil
}

func lettersData(ctx context.Context, p Mails) error {
	fresh := []byte(`{"code": "fresh ü"}`)
	if err := first(
		func() error { return die(ctx, p, 1, 2) },
		func() error { return during("Requeue", p.Letters.Requeue(ctx, job(1).ID, at(2000), fresh)) },
		func() error { return during("Requeue", p.Letters.Requeue(ctx, job(2).ID, at(2000), nil)) },
	); err != nil {
		return err
	}
	one, two := job(1), job(2)
	one.RunAt, one.Claims, one.LastError, one.Data, one.Replays = at(2000), 1, "dead", []byte(`{"code": "fresh ü"}`), 1
	two.RunAt, two.Claims, two.LastError, two.Replays = at(2000), 1, "dead", 1
	fresh[0] = '!'
	return first(
		func() error { return wantJob(ctx, p, one) },
		func() error { return wantJob(ctx, p, two) },
	)
}

func lettersNotDead(ctx context.Context, p Mails) error {
	if err := oneOfEach(ctx, p); err != nil {
		return err
	}
	for _, n := range []int{1, 2, 3} {
		before, err := p.Letters.Get(ctx, job(n).ID)
		if err != nil {
			return during("Get", err)
		}
		if err := first(
			func() error {
				return wantIs(fmt.Sprintf("Requeue of a %s job", before.State), p.Letters.Requeue(ctx, before.ID, at(9), []byte(`{}`)), mail.ErrNotDead)
			},
			func() error {
				return wantIs(fmt.Sprintf("Discard of a %s job", before.State), p.Letters.Discard(ctx, before.ID), mail.ErrNotDead)
			},
			func() error { return wantJob(ctx, p, before) },
		); err != nil {
			return err
		}
	}
	return nil
}

func lettersRequeueRace(ctx context.Context, p Mails) error {
	if err := die(ctx, p, 1); err != nil {
		return err
	}
	return oneWins("Requeue", mail.ErrNotDead, together(8, func(i int) error {
		return p.Letters.Requeue(ctx, job(1).ID, at(2000+i), nil)
	}))
}

func lettersDiscard(ctx context.Context, p Mails) error {
	if err := first(
		func() error { return die(ctx, p, 1, 2) },
		func() error { return during("Discard", p.Letters.Discard(ctx, job(1).ID)) },
	); err != nil {
		return err
	}
	_, err := p.Letters.Get(ctx, job(1).ID)
	return first(
		func() error { return wantIs("Get of a discarded job", err, mail.ErrJobNotFound) },
		func() error {
			return wantIs("Discard of a discarded job", p.Letters.Discard(ctx, job(1).ID), mail.ErrJobNotFound)
		},
		func() error {
			return wantIs("Requeue of a discarded job", p.Letters.Requeue(ctx, job(1).ID, at(1), nil), mail.ErrJobNotFound)
		},
		func() error { return wantListed(ctx, p, mail.Filter{Limit: 10}, 2) },
		func() error { return claimNone(ctx, p, at(100_000)) },
	)
}

func lettersDiscardRace(ctx context.Context, p Mails) error {
	if err := die(ctx, p, 1, 2); err != nil {
		return err
	}
	return first(
		func() error {
			return oneWins("Discard", mail.ErrJobNotFound, together(8, func(int) error { return p.Letters.Discard(ctx, job(1).ID) }))
		},
		func() error { return wantListed(ctx, p, mail.Filter{Limit: 10}, 2) },
	)
}

// mailed makes five jobs of which the last is to somebody else: one is dead, one is sent, one is running and one is ready.
func mailed(ctx context.Context, p Mails) (running mail.Job, err error) {
	jobs := []mail.Job{job(1), job(2), job(3), job(4), job(5)}
	for i := range 4 {
		jobs[i].To = "erased@example.com"
	}
	err = enqueue(ctx, p, jobs...)
	for i, state := range []mail.State{mail.Dead, mail.Sent} {
		if err == nil {
			running, err = claim(ctx, p, at(10), jobs[i].ID)
		}
		if err == nil {
			err = during("Settle", p.Queue.Settle(ctx, running, mail.Outcome{State: state, At: at(11)}))
		}
	}
	if err == nil {
		running, err = claim(ctx, p, at(10), jobs[2].ID)
	}
	return running, err
}

func eraseTo(ctx context.Context, p Mails, to user.Email, n int) error {
	got, err := p.Letters.DeleteTo(ctx, to)
	if err == nil && got != n {
		err = fmt.Errorf("it removed %d, want %d", got, n)
	}
	return during(fmt.Sprintf("DeleteTo(%q)", to), err)
}

func lettersErase(ctx context.Context, p Mails) error {
	if _, err := mailed(ctx, p); err != nil {
		return err
	}
	return first(
		func() error { return eraseTo(ctx, p, "nobody@example.com", 0) },
		func() error { return eraseTo(ctx, p, "erased@example.com", 4) },
		func() error { return eraseTo(ctx, p, "erased@example.com", 0) },
		func() error { return wantListed(ctx, p, mail.Filter{Limit: 10}, 5) },
		func() error {
			_, err := claim(ctx, p, at(100), job(5).ID)
			return err
		},
		func() error { return claimNone(ctx, p, at(10)) },
		// Their keys and IDs are free.
		func() error { return enqueue(ctx, p, job(1), job(3)) },
		func() error { return wantListed(ctx, p, mail.Filter{Limit: 10}, 1, 3, 5) },
	)
}

func lettersEraseClaimed(ctx context.Context, p Mails) error {
	running, err := mailed(ctx, p)
	if err != nil {
		return err
	}
	return first(
		func() error { return eraseTo(ctx, p, "erased@example.com", 4) },
		func() error {
			return wantIs("Settle of a removed job", p.Queue.Settle(ctx, running, mail.Outcome{State: mail.Ready, RunAt: at(20), At: at(12), Error: "later"}), mail.ErrLeaseLost)
		},
		func() error { return wantListed(ctx, p, mail.Filter{Limit: 10}, 5) },
		func() error {
			_, err := claim(ctx, p, at(100_000), job(5).ID)
			return err
		},
		func() error { return claimNone(ctx, p, at(100_000)) },
	)
}

func lettersCopies(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	listed, err := p.Letters.List(ctx, mail.Filter{Limit: 10})
	if err == nil && len(listed) != 1 {
		err = fmt.Errorf("it returned %d jobs, want 1", len(listed))
	}
	if err != nil {
		return during("List", err)
	}
	listed[0].Data[0] = '!'
	got, err := p.Letters.Get(ctx, job(1).ID)
	if err != nil || len(got.Data) == 0 {
		return errors.Join(errors.New("the port's Get returned no data"), err)
	}
	got.Data[0] = '!'
	return during("after what was returned was changed", wantJob(ctx, p, job(1)))
}
