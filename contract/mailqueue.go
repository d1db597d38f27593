package contract

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// Mails is the port of [MailQueue], [DeadLetters] and [MailStats]: three views of the same jobs.
type Mails struct {
	Queue   mail.Queue
	Letters mail.DeadLetters
	Stats   mail.Stats
}

// MailQueue checks mail.Queue. It looks at jobs through mail.DeadLetters.
func MailQueue() []Case[Mails] {
	return suite("MailQueue", []promise[Mails]{
		{"an enqueued job is stored whole", "Enqueue stores j durably, with every field as it is but those that say how far it has come.", mailEnqueue},
		{"enqueueing ignores state and counts", "The job is Ready, with no attempts, no history and nothing put off.", mailEnqueueState},
		{"long and foreign values are kept", "Enqueue stores j durably, with every field as it is but those that say how far it has come.", mailLong},
		{"enqueueing a key twice is harmless", "If a job with j.Key exists, in whatever state, Enqueue does nothing and returns nil.", mailTwice},
		{"a key is known in every state", "If a job with j.Key exists, in whatever state, Enqueue does nothing and returns nil.", mailTwiceStates},
		{"keys are exact", "Two keys are the same only if they have the same bytes.", mailExactKeys},
		{"concurrent enqueueing of a key is once", "If a job with j.Key exists, in whatever state, Enqueue does nothing and returns nil. It may be called from many goroutines and, where the adapter says so, processes.", mailEnqueueRace},
		{"nothing is claimed from an empty queue", "Claim returns false when no job is due.", mailClaimNone},
		{"a claimed job is running", "Claim makes the job Running until now+lease and adds one to Attempts and Claims, durably before it returns the job so changed.", mailClaim},
		{"jobs are claimed in the order of enqueueing", "Claim takes the job that was enqueued first among those that are due.", mailOrder},
		{"a job waits for its time", "A Ready job is due if its RunAt is not after now.", mailRunAt},
		{"a waiting job holds up nobody", "Claim takes the job that was enqueued first among those that are due. A Ready job is due if its RunAt is not after now.", mailRunAtSkips},
		{"a lease keeps others away", "No two calls get the same job under leases that overlap.", mailLease},
		{"a job is claimed again when its lease ends", "A Running job is due if its LeasedUntil is not after now.", mailLeaseEnds},
		{"an ended lease keeps its place", "Claim takes the job that was enqueued first among those that are due. A Running job is due if its LeasedUntil is not after now.", mailLeasePlace},
		{"concurrent claims share the jobs", "No two calls get the same job under leases that overlap.", mailClaimRace},
		{"a lease that does not last is refused", "Claim returns ErrLeaseInvalid, and takes no job, if lease is shorter than a microsecond.", mailNoLease},
		{"concurrent claims of an ended lease", "No two calls get the same job under leases that overlap.", mailReclaimRace},
		{"a sent job is done", "A Sent job is done, and forgets its Data.", mailSent},
		{"a sent job forgets its data", "A Sent job is done, and forgets its Data.", mailForgets},
		{"a job that failed comes again at its time", "A job that is Ready again is due at o.RunAt, and keeps its place in the order.", mailAgain},
		{"an attempt that was none is given back", "A job that is Ready again with o.Untried has one attempt less.", mailUntried},
		{"since when a mail is put off is kept", "A job that is Ready again takes over o.DeferredSince unless that is zero.", mailDeferred},
		{"what became of attempts is kept", "A job takes over o.History, whatever became of it, unless that is nil.", mailHistory},
		{"a job that failed keeps its place", "A job that is Ready again is due at o.RunAt, and keeps its place in the order.", mailPlace},
		{"a dead job is not claimed", "A Dead job is a dead letter, and is not due.", mailDead},
		{"settling twice is refused", "Settle stores o and ends the lease that Claim gave, if the job is Running and its Claims equal j.Claims. Otherwise Settle returns ErrLeaseLost and changes nothing.", mailSettleTwice},
		{"settling a lost lease is refused", "Settle stores o and ends the lease that Claim gave, if the job is Running and its Claims equal j.Claims. Otherwise Settle returns ErrLeaseLost and changes nothing.", mailSettleLost},
		{"settling late is fine while nobody else claimed", "Settle stores o and ends the lease that Claim gave, if the job is Running and its Claims equal j.Claims.", mailSettleLate},
		{"an outcome that is none is refused", "Settle returns ErrOutcomeInvalid, and changes nothing, if o.State is none of Sent, Ready and Dead.", mailNoOutcome},
		{"settling a removed job is refused", "ErrLeaseLost says that the job was claimed by another, settled or removed meanwhile.", mailSettleRemoved},
		{"concurrent settling is once", "Settle stores o and ends the lease that Claim gave, if the job is Running and its Claims equal j.Claims. Otherwise Settle returns ErrLeaseLost and changes nothing.", mailSettleRace},
		{"claims count on after a requeue", "Attempts counts claims since the job was enqueued or requeued. Claims counts claims ever made: the fencing token of a lease.", mailClaimsCount},
		{"pruning removes old sent jobs", "Prune removes Sent jobs that were settled before the given time, and returns how many.", mailPrune},
		{"pruning leaves what is not sent", "Prune removes no other jobs.", mailPruneOthers},
		{"a pruned key is unknown", "The keys of removed jobs are unknown from then on.", mailPruneKeys},
		{"an ended context does all or nothing", "A call whose context has ended leaves the queue as it was, or has done all its work.", mailEnded},
		{"jobs are copies", "Changing what was given or returned changes nothing stored.", mailCopies},
	})
}

const lease = time.Minute

func job(n int) mail.Job {
	return mail.Job{
		ID: fmt.Sprintf("job-%04d", n), Key: fmt.Sprintf("event-%04d", n), Kind: mail.KindVerification,
		To: user.Email(fmt.Sprintf("zoe%d@example.com", n)), Name: fmt.Sprintf("Zoë Ångström %d 👋", n),
		Data:  fmt.Appendf(nil, `{"z": %d,  "code":"ü \u0022"}`, n),
		State: mail.Ready, RunAt: at(n), CreatedAt: at(n - 10), UpdatedAt: at(n - 10),
	}
}

// sameJob compares all but UpdatedAt, which the queue may move.
func sameJob(got, want mail.Job) error {
	got.UpdatedAt, want.UpdatedAt = time.Time{}, time.Time{}
	if want.State != mail.Running { // a lease that has ended says nothing
		got.LeasedUntil, want.LeasedUntil = time.Time{}, time.Time{}
	}
	return same(got, want)
}

func enqueue(ctx context.Context, p Mails, jobs ...mail.Job) error {
	for _, j := range jobs {
		if err := p.Queue.Enqueue(ctx, j); err != nil {
			return fmt.Errorf("Enqueue(%q): %w", j.ID, err)
		}
	}
	return nil
}

func wantJob(ctx context.Context, p Mails, want mail.Job) error {
	got, err := p.Letters.Get(ctx, want.ID)
	if err == nil {
		err = sameJob(got, want)
	}
	return during(fmt.Sprintf("Get(%q)", want.ID), err)
}

// claim wants the job with this ID.
func claim(ctx context.Context, p Mails, now time.Time, id string) (mail.Job, error) {
	j, ok, err := p.Queue.Claim(ctx, now, lease)
	switch {
	case err != nil:
		return j, during("Claim", err)
	case !ok:
		return j, fmt.Errorf("the port's Claim found nothing, want %q", id)
	case j.ID != id:
		return j, fmt.Errorf("the port's Claim returned %q, want %q", j.ID, id)
	}
	return j, nil
}

func claimNone(ctx context.Context, p Mails, now time.Time) error {
	j, ok, err := p.Queue.Claim(ctx, now, lease)
	if err == nil && ok {
		err = fmt.Errorf("it returned %q (attempt %d), want nothing", j.ID, j.Attempts)
	}
	return during("Claim", err)
}

// settle claims the job, which must be the next one, and settles it.
func settle(ctx context.Context, p Mails, id string, now time.Time, o mail.Outcome) (mail.Job, error) {
	j, err := claim(ctx, p, now, id)
	if err == nil {
		err = during(fmt.Sprintf("Settle(%q, %s)", id, o.State), p.Queue.Settle(ctx, j, o))
	}
	return j, err
}

// oneOfEach makes one job in each state: 1 ready, 2 running, 3 sent, 4 dead. Now is at(100).
func oneOfEach(ctx context.Context, p Mails) error {
	for _, n := range []int{3, 4, 2, 1} {
		if err := enqueue(ctx, p, job(n)); err != nil {
			return err
		}
		var err error
		switch n {
		case 3:
			_, err = settle(ctx, p, job(n).ID, at(100), mail.Outcome{State: mail.Sent, At: at(100)})
		case 4:
			_, err = settle(ctx, p, job(n).ID, at(100), mail.Outcome{State: mail.Dead, At: at(100), Error: "no such mailbox"})
		case 2:
			_, err = claim(ctx, p, at(100), job(n).ID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func mailEnqueue(ctx context.Context, p Mails) error {
	return first(
		func() error { return enqueue(ctx, p, job(1), job(2)) },
		func() error { return wantJob(ctx, p, job(1)) },
		func() error { return wantJob(ctx, p, job(2)) },
	)
}

func mailEnqueueState(ctx context.Context, p Mails) error {
	j := job(1)
	j.State, j.Attempts, j.Claims, j.DeferredSince = mail.Dead, 3, 7, at(3)
	j.History, j.Replays = []mail.Attempt{{Number: 1, At: at(3), Error: "busy"}}, 4
	want := job(1)
	if err := enqueue(ctx, p, j); err != nil {
		return err
	}
	got, err := p.Letters.Get(ctx, j.ID)
	if err == nil && (got.State != mail.Ready || got.Attempts != 0 || !got.DeferredSince.IsZero() || len(got.History) > 0 || got.Replays != 0) {
		err = fmt.Errorf("it is %s with %d attempts, a history of %d and %d replays, put off since %v; want ready with none, and never put off", got.State, got.Attempts, len(got.History), got.Replays, got.DeferredSince)
	}
	if err != nil {
		return during("Get", err)
	}
	_, err = claim(ctx, p, want.RunAt, want.ID)
	return err
}

func mailLong(ctx context.Context, p Mails) error {
	j := job(1)
	j.Name = long(user.MaxFullName)
	j.To = user.Email(strings.Repeat("a", 64) + "@" + strings.Repeat("b.", 90) + "example")
	j.Data = append(append([]byte(`{"text":"`), long(5000)...), `"}`...)
	failed := strings.Repeat("ü", 200)
	if err := first(
		func() error { return enqueue(ctx, p, j) },
		func() error { return wantJob(ctx, p, j) },
	); err != nil {
		return err
	}
	_, err := settle(ctx, p, j.ID, at(5), mail.Outcome{State: mail.Dead, At: at(5), Error: failed})
	j.State, j.Attempts, j.Claims, j.LastError = mail.Dead, 1, 1, failed
	return then(err, func() error { return wantJob(ctx, p, j) })
}

func mailTwice(ctx context.Context, p Mails) error {
	again := job(2)
	again.Key = job(1).Key
	sameID := job(1)
	sameID.Name = "Changed"
	if err := first(
		func() error { return enqueue(ctx, p, job(1), again, sameID) },
		func() error { return wantJob(ctx, p, job(1)) },
	); err != nil {
		return err
	}
	_, err := p.Letters.Get(ctx, again.ID)
	return first(
		func() error { return wantIs("Get of the job whose key was known", err, mail.ErrJobNotFound) },
		func() error { return wantListed(ctx, p, mail.Filter{Limit: 10}, 1) },
	)
}

func mailTwiceStates(ctx context.Context, p Mails) error {
	if err := oneOfEach(ctx, p); err != nil {
		return err
	}
	for n := 1; n <= 4; n++ {
		again := job(10 + n)
		again.Key = job(n).Key
		before, err := p.Letters.Get(ctx, job(n).ID)
		if err != nil {
			return during("Get", err)
		}
		if err := first(
			func() error { return enqueue(ctx, p, again) },
			func() error { return wantJob(ctx, p, before) },
		); err != nil {
			return err
		}
	}
	return wantListed(ctx, p, mail.Filter{Limit: 10}, 1, 2, 3, 4)
}

func mailExactKeys(ctx context.Context, p Mails) error {
	var want []int
	for n, key := range []string{"key", "KEY", "Key", "key.", "kéy", "ke%", "ke_"} {
		j := job(n)
		j.Key = key
		if err := enqueue(ctx, p, j); err != nil {
			return err
		}
		want = append(want, n)
	}
	return wantListed(ctx, p, mail.Filter{Limit: 100}, want...)
}

func mailEnqueueRace(ctx context.Context, p Mails) error {
	const n = 16
	err := allTogether(n, func(i int) error {
		same, own := job(i), job(100+i)
		same.Key = "same"
		return enqueue(ctx, p, same, own)
	})
	if err != nil {
		return err
	}
	all, err := p.Letters.List(ctx, mail.Filter{Limit: 100})
	if err == nil && len(all) != n+1 {
		err = fmt.Errorf("there are %d jobs, want %d with keys of their own and 1 with the key of all", len(all), n)
	}
	return during("List", err)
}

func mailClaimNone(ctx context.Context, p Mails) error { return claimNone(ctx, p, at(0)) }

func mailNoLease(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	for _, lease := range []time.Duration{0, -time.Minute, time.Microsecond - 1} {
		_, _, err := p.Queue.Claim(ctx, at(5), lease)
		if err := wantIs(fmt.Sprintf("Claim with a lease of %v", lease), err, mail.ErrLeaseInvalid); err != nil {
			return err
		}
	}
	return wantJob(ctx, p, job(1))
}

func mailNoOutcome(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	j, err := claim(ctx, p, at(5), job(1).ID)
	if err != nil {
		return err
	}
	for _, state := range []mail.State{"", mail.Running, "lost"} {
		err := p.Queue.Settle(ctx, j, mail.Outcome{State: state, At: at(6)})
		if err := wantIs(fmt.Sprintf("Settle as %q", state), err, mail.ErrOutcomeInvalid); err != nil {
			return err
		}
	}
	return wantJob(ctx, p, j)
}

func mailClaim(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1), job(2)); err != nil {
		return err
	}
	got, err := claim(ctx, p, at(5), job(1).ID)
	want := job(1)
	want.State, want.Attempts, want.Claims, want.LeasedUntil = mail.Running, 1, 1, at(5).Add(lease)
	return then(err,
		func() error { return during("Claim", sameJob(got, want)) },
		func() error { return wantJob(ctx, p, want) },
		func() error { return wantJob(ctx, p, job(2)) },
	)
}

func mailOrder(ctx context.Context, p Mails) error {
	order := []int{30, 2, 17, 99, 1, 50}
	for _, n := range order {
		j := job(n)
		j.CreatedAt, j.RunAt = at(200-n), at(200-n) // neither decides
		if err := enqueue(ctx, p, j); err != nil {
			return err
		}
	}
	for _, n := range order {
		if _, err := claim(ctx, p, at(300), job(n).ID); err != nil {
			return err
		}
	}
	return claimNone(ctx, p, at(300))
}

func mailRunAt(ctx context.Context, p Mails) error {
	if err := first(
		func() error { return enqueue(ctx, p, job(5)) },
		func() error { return claimNone(ctx, p, at(5).Add(-time.Microsecond)) },
	); err != nil {
		return err
	}
	_, err := claim(ctx, p, at(5), job(5).ID)
	return err
}

func mailRunAtSkips(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(50), job(3), job(40), job(4)); err != nil {
		return err
	}
	return first(
		func() error { return second(claim(ctx, p, at(10), job(3).ID)) },
		func() error { return second(claim(ctx, p, at(10), job(4).ID)) },
		func() error { return claimNone(ctx, p, at(10)) },
	)
}

func mailLease(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	_, err := claim(ctx, p, at(5), job(1).ID)
	return then(err,
		func() error { return claimNone(ctx, p, at(5)) },
		func() error { return claimNone(ctx, p, at(5).Add(lease-time.Microsecond)) },
	)
}

func mailLeaseEnds(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	if _, err := claim(ctx, p, at(5), job(1).ID); err != nil {
		return err
	}
	got, err := claim(ctx, p, at(5).Add(lease), job(1).ID)
	want := job(1)
	want.State, want.Attempts, want.Claims, want.LeasedUntil = mail.Running, 2, 2, at(5).Add(2*lease)
	return then(during("when the lease has ended", err),
		func() error { return during("Claim", sameJob(got, want)) },
		func() error { return wantJob(ctx, p, want) },
	)
}

func mailLeasePlace(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(2), job(1)); err != nil {
		return err
	}
	if _, err := claim(ctx, p, at(5), job(2).ID); err != nil {
		return err
	}
	_, err := claim(ctx, p, at(5).Add(lease), job(2).ID)
	return during("a job whose lease has ended was enqueued first", err)
}

func mailClaimRace(ctx context.Context, p Mails) error {
	const jobs, claimers = 12, 16
	for n := range jobs {
		if err := enqueue(ctx, p, job(n)); err != nil {
			return err
		}
	}
	return claimEach(ctx, p, at(100), jobs, claimers)
}

func mailReclaimRace(ctx context.Context, p Mails) error {
	const jobs, claimers = 6, 12
	for n := range jobs {
		if err := enqueue(ctx, p, job(n)); err != nil {
			return err
		}
	}
	return first(
		func() error { return claimEach(ctx, p, at(100), jobs, claimers) },
		func() error {
			return during("when the leases have ended", claimEach(ctx, p, at(100).Add(lease), jobs, claimers))
		},
	)
}

// claimEach claims with several goroutines, and wants each job to be claimed exactly once.
func claimEach(ctx context.Context, p Mails, now time.Time, jobs, claimers int) error {
	var mu sync.Mutex
	claimed := map[string]int{}
	err := allTogether(claimers, func(int) error {
		j, ok, err := p.Queue.Claim(ctx, now, lease)
		if err == nil && ok {
			mu.Lock()
			claimed[j.ID]++
			mu.Unlock()
		}
		return during("Claim", err)
	})
	// A claim that lost a race may have found nothing; one more takes what is left.
	for err == nil {
		var j mail.Job
		var ok bool
		if j, ok, err = p.Queue.Claim(ctx, now, lease); err != nil || !ok {
			break
		}
		if claimed[j.ID]++; claimed[j.ID] > 1 {
			break
		}
	}
	for id, n := range claimed {
		if n != 1 {
			return fmt.Errorf("the job %q was claimed %d times under one lease", id, n)
		}
	}
	if err == nil && len(claimed) != jobs {
		err = fmt.Errorf("%d of %d jobs were claimed", len(claimed), jobs)
	}
	return err
}

func mailSent(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	_, err := settle(ctx, p, job(1).ID, at(5), mail.Outcome{State: mail.Sent, At: at(6)})
	want := job(1)
	want.State, want.Attempts, want.Claims, want.Data = mail.Sent, 1, 1, nil
	return then(err,
		func() error { return wantJob(ctx, p, want) },
		func() error { return claimNone(ctx, p, at(5).Add(10*lease)) },
	)
}

func mailForgets(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	if _, err := settle(ctx, p, job(1).ID, at(5), mail.Outcome{State: mail.Sent, At: at(6)}); err != nil {
		return err
	}
	got, err := p.Letters.Get(ctx, job(1).ID)
	if err == nil && len(got.Data) > 0 {
		err = fmt.Errorf("a sent job still has its data: %s", brief(got.Data))
	}
	return during("Get", err)
}

func mailAgain(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	_, err := settle(ctx, p, job(1).ID, at(5), mail.Outcome{State: mail.Ready, RunAt: at(20), At: at(6), Error: "greylisted"})
	want := job(1)
	want.Attempts, want.Claims, want.RunAt, want.LastError = 1, 1, at(20), "greylisted"
	if err := then(err,
		func() error { return wantJob(ctx, p, want) },
		func() error { return claimNone(ctx, p, at(20).Add(-time.Microsecond)) },
	); err != nil {
		return err
	}
	got, err := claim(ctx, p, at(20), job(1).ID)
	want.State, want.Attempts, want.Claims, want.LeasedUntil = mail.Running, 2, 2, at(20).Add(lease)
	return then(err, func() error { return during("Claim", sameJob(got, want)) })
}

func mailUntried(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	if _, err := settle(ctx, p, job(1).ID, at(5), mail.Outcome{State: mail.Ready, RunAt: at(20), At: at(6), Error: "greylisted"}); err != nil {
		return err
	}
	_, err := settle(ctx, p, job(1).ID, at(20), mail.Outcome{State: mail.Ready, RunAt: at(40), At: at(21), Error: "nobody there", Untried: true})
	want := job(1)
	want.Attempts, want.Claims, want.RunAt, want.LastError = 1, 2, at(40), "nobody there"
	if err := then(err, func() error { return wantJob(ctx, p, want) }); err != nil {
		return err
	}
	got, err := claim(ctx, p, at(40), job(1).ID)
	want.State, want.Attempts, want.Claims, want.LeasedUntil = mail.Running, 2, 3, at(40).Add(lease)
	return then(err, func() error { return during("Claim", sameJob(got, want)) })
}

func mailDeferred(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	want := job(1)
	want.Claims, want.RunAt, want.LastError, want.DeferredSince = 1, at(20), "try later", at(6)
	_, err := settle(ctx, p, want.ID, at(5), mail.Outcome{State: mail.Ready, RunAt: at(20), At: at(6), Error: "try later", Untried: true, DeferredSince: at(6)})
	if err := then(err, func() error { return wantJob(ctx, p, want) }); err != nil {
		return err
	}
	want.Claims, want.RunAt, want.LastError = 2, at(40), "nobody there"
	claimed, err := settle(ctx, p, want.ID, at(20), mail.Outcome{State: mail.Ready, RunAt: at(40), At: at(21), Error: "nobody there", Untried: true})
	if err == nil && !claimed.DeferredSince.Equal(at(6)) {
		err = fmt.Errorf("the claimed job is put off since %v, want %v", claimed.DeferredSince, at(6))
	}
	return then(err, func() error { return wantJob(ctx, p, want) })
}

func mailHistory(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1), job(2)); err != nil {
		return err
	}
	history := []mail.Attempt{{Number: 1, At: at(6), Error: "<busy> & \"ü\" 👋"}}
	want := job(1)
	want.Attempts, want.Claims, want.RunAt, want.LastError, want.History = 1, 1, at(20), "busy", slices.Clone(history)
	_, err := settle(ctx, p, want.ID, at(5), mail.Outcome{State: mail.Ready, RunAt: at(20), At: at(6), Error: "busy", History: history})
	history[0].Error = "changed"
	if err := then(err, func() error { return wantJob(ctx, p, want) }); err != nil {
		return err
	}
	// Nil leaves it, and so does giving the attempt back; a claim shows it.
	want.RunAt, want.LastError, want.Claims = at(30), "", 2
	claimed, err := settle(ctx, p, want.ID, at(20), mail.Outcome{State: mail.Ready, RunAt: at(30), At: at(21), Untried: true})
	if err == nil {
		err = during("the history of a claimed job", same(claimed.History, want.History))
	}
	if err := then(err, func() error { return wantJob(ctx, p, want) }); err != nil {
		return err
	}
	for n := range mail.MaxHistory {
		history = append(history, mail.Attempt{Number: n, At: at(n), Error: strings.Repeat("<", 500)})
	}
	want.State, want.Attempts, want.Claims, want.LastError, want.History = mail.Dead, 2, 3, "dead", history[1:]
	return first(
		func() error {
			_, err := settle(ctx, p, want.ID, at(30), mail.Outcome{State: mail.Dead, At: at(31), Error: "dead", History: history[1:]})
			return err
		},
		func() error { return wantJob(ctx, p, want) },
		func() error {
			sent := []mail.Attempt{{Number: 1}}
			_, err := settle(ctx, p, job(2).ID, at(30), mail.Outcome{State: mail.Sent, At: at(31), History: sent})
			return then(err, func() error {
				got, err := p.Letters.Get(ctx, job(2).ID)
				if err == nil {
					err = same(got.History, sent)
				}
				return during("Get of a sent job", err)
			})
		},
	)
}

func mailPlace(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(2), job(1)); err != nil {
		return err
	}
	if _, err := settle(ctx, p, job(2).ID, at(5), mail.Outcome{State: mail.Ready, RunAt: at(20), At: at(6), Error: "later"}); err != nil {
		return err
	}
	return first(
		func() error { return second(claim(ctx, p, at(20), job(2).ID)) },
		func() error { return second(claim(ctx, p, at(20), job(1).ID)) },
	)
}

func mailDead(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	_, err := settle(ctx, p, job(1).ID, at(5), mail.Outcome{State: mail.Dead, At: at(6), Error: "no such mailbox"})
	want := job(1)
	want.State, want.Attempts, want.Claims, want.LastError = mail.Dead, 1, 1, "no such mailbox"
	return then(err,
		func() error { return wantJob(ctx, p, want) },
		func() error { return claimNone(ctx, p, at(5).Add(10*lease)) },
	)
}

func mailSettleTwice(ctx context.Context, p Mails) error {
	for n, state := range []mail.State{mail.Sent, mail.Dead, mail.Ready} {
		if err := enqueue(ctx, p, job(n)); err != nil {
			return err
		}
		j, err := settle(ctx, p, job(n).ID, at(5), mail.Outcome{State: state, RunAt: at(5000), At: at(6), Error: "first"})
		if err != nil {
			return err
		}
		before, err := p.Letters.Get(ctx, j.ID)
		if err != nil {
			return during("Get", err)
		}
		for _, o := range []mail.Outcome{{State: mail.Sent, At: at(7)}, {State: mail.Ready, RunAt: at(8), At: at(7), Error: "second"}, {State: mail.Dead, At: at(7), Error: "second"}} {
			if err := first(
				func() error {
					return wantIs(fmt.Sprintf("Settle of a job that is %s already", state), p.Queue.Settle(ctx, j, o), mail.ErrLeaseLost)
				},
				func() error { return wantJob(ctx, p, before) },
			); err != nil {
				return err
			}
		}
	}
	return nil
}

func mailSettleLost(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	old, err := claim(ctx, p, at(5), job(1).ID)
	if err != nil {
		return err
	}
	now, err := claim(ctx, p, at(5).Add(lease), job(1).ID)
	if err != nil {
		return err
	}
	for _, state := range []mail.State{mail.Sent, mail.Ready, mail.Dead} {
		err := p.Queue.Settle(ctx, old, mail.Outcome{State: state, RunAt: at(6), At: at(6), Error: "old"})
		if err := first(
			func() error { return wantIs("Settle under a lost lease", err, mail.ErrLeaseLost) },
			func() error { return wantJob(ctx, p, now) },
		); err != nil {
			return err
		}
	}
	return during("Settle under the lease that holds", p.Queue.Settle(ctx, now, mail.Outcome{State: mail.Sent, At: at(7)}))
}

func mailSettleLate(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	j, err := claim(ctx, p, at(5), job(1).ID)
	if err != nil {
		return err
	}
	return first(
		func() error {
			return during("Settle after the lease", p.Queue.Settle(ctx, j, mail.Outcome{State: mail.Sent, At: at(5).Add(3 * lease)}))
		},
		func() error { return claimNone(ctx, p, at(5).Add(3*lease)) },
	)
}

func mailSettleRemoved(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	j, err := settle(ctx, p, job(1).ID, at(5), mail.Outcome{State: mail.Dead, At: at(6), Error: "dead"})
	if err != nil {
		return err
	}
	if err := p.Letters.Discard(ctx, j.ID); err != nil {
		return during("Discard", err)
	}
	return first(
		func() error {
			return wantIs("Settle of a removed job", p.Queue.Settle(ctx, j, mail.Outcome{State: mail.Sent, At: at(7)}), mail.ErrLeaseLost)
		},
		func() error { return wantListed(ctx, p, mail.Filter{Limit: 10}) },
	)
}

func mailSettleRace(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	j, err := claim(ctx, p, at(5), job(1).ID)
	if err != nil {
		return err
	}
	return oneWins("Settle", mail.ErrLeaseLost, together(8, func(i int) error {
		return p.Queue.Settle(ctx, j, mail.Outcome{State: []mail.State{mail.Sent, mail.Dead, mail.Ready}[i%3], RunAt: at(500), At: at(6)})
	}))
}

func mailClaimsCount(ctx context.Context, p Mails) error {
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	old, err := settle(ctx, p, job(1).ID, at(5), mail.Outcome{State: mail.Dead, At: at(6), Error: "dead"})
	if err != nil {
		return err
	}
	if err := p.Letters.Requeue(ctx, job(1).ID, at(7), nil); err != nil {
		return during("Requeue", err)
	}
	j, err := claim(ctx, p, at(7), job(1).ID)
	if err == nil && (j.Attempts != 1 || j.Claims != 2) {
		err = fmt.Errorf("the first claim after a requeue has Attempts %d and Claims %d, want 1 and 2", j.Attempts, j.Claims)
	}
	return then(err, func() error {
		return wantIs("Settle under the lease from before the requeue", p.Queue.Settle(ctx, old, mail.Outcome{State: mail.Sent, At: at(8)}), mail.ErrLeaseLost)
	})
}

// prune wants n jobs to go.
func prune(ctx context.Context, p Mails, before time.Time, n int) error {
	got, err := p.Queue.Prune(ctx, before)
	if err == nil && got != n {
		err = fmt.Errorf("it returned %d, want %d", got, n)
	}
	return during("Prune", err)
}

func mailPrune(ctx context.Context, p Mails) error {
	if err := prune(ctx, p, at(1000), 0); err != nil {
		return err
	}
	for n := range 4 {
		if err := enqueue(ctx, p, job(n)); err != nil {
			return err
		}
		if _, err := settle(ctx, p, job(n).ID, at(5), mail.Outcome{State: mail.Sent, At: at(10 * n)}); err != nil {
			return err
		}
	}
	return first(
		func() error { return prune(ctx, p, at(20), 2) },
		func() error { return wantListed(ctx, p, mail.Filter{Limit: 10}, 2, 3) },
		func() error { return prune(ctx, p, at(20), 0) },
		func() error { return prune(ctx, p, at(20).Add(time.Microsecond), 1) },
		func() error { return wantListed(ctx, p, mail.Filter{Limit: 10}, 3) },
	)
}

func mailPruneOthers(ctx context.Context, p Mails) error {
	return first(
		func() error { return oneOfEach(ctx, p) },
		func() error { return prune(ctx, p, at(100_000), 1) },
		func() error { return wantListed(ctx, p, mail.Filter{Limit: 10}, 1, 2, 4) },
	)
}

func mailPruneKeys(ctx context.Context, p Mails) error {
	if err := first(
		func() error { return oneOfEach(ctx, p) },
		func() error { return prune(ctx, p, at(100_000), 1) },
	); err != nil {
		return err
	}
	again := job(9)
	again.Key = job(3).Key
	return first(
		func() error { return enqueue(ctx, p, again) },
		func() error { return wantJob(ctx, p, again) },
	)
}

func mailEnded(ctx context.Context, p Mails) error {
	done := ended(ctx)
	stored := p.Queue.Enqueue(done, job(1)) == nil
	want := []int{}
	if stored {
		want = append(want, 1)
	}
	if err := wantListed(ctx, p, mail.Filter{Limit: 10}, want...); err != nil {
		return fmt.Errorf("after an Enqueue that succeeded=%t: %w", stored, err)
	}
	if err := enqueue(ctx, p, job(1)); err != nil {
		return err
	}
	j, ok, err := p.Queue.Claim(done, at(5), lease)
	if err == nil && ok {
		return wantJob(ctx, p, j)
	}
	_, err = claim(ctx, p, at(5).Add(lease), job(1).ID)
	return during("a lease after a Claim with an ended context that returned nothing", err)
}

func mailCopies(ctx context.Context, p Mails) error {
	given := job(1)
	if err := enqueue(ctx, p, given); err != nil {
		return err
	}
	given.Data[0] = '!'
	if err := wantJob(ctx, p, job(1)); err != nil {
		return fmt.Errorf("after the caller changed its own Data: %w", err)
	}
	got, err := claim(ctx, p, at(5), job(1).ID)
	if err != nil {
		return err
	}
	got.Data[0] = '!'
	want := job(1)
	want.State, want.Attempts, want.Claims, want.LeasedUntil = mail.Running, 1, 1, at(5).Add(lease)
	return during("after what Claim returned was changed", wantJob(ctx, p, want))
}
