package mail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

// Performer does what jobs ask for.
//
// It may be called from many goroutines.
type Performer interface {
	// Perform does what j asks for, and returns as Sender.Send does.
	// Perform calls begun, at most once, when what is performed later for the same lane can no longer overtake it.
	// It need not: that Perform has returned is as good.
	Perform(ctx context.Context, j Job, begun func()) error
	// Check is Sender.Check.
	Check(ctx context.Context) error
}

// WorkerConfig is what a [Worker] needs.
type WorkerConfig struct {
	Queue     Queue      // required
	Sender    Sender     // required
	Templates *Templates // required
	// Performer, if set, does what jobs ask for, and Sender and Templates are not needed: the jobs are no mails then.
	Performer Performer
	// Renew, if set, is asked about a mail whose code has expired, before each try: it returns new data with a fresh code, or nil to send the mail as
	// it is. With ErrNotNeeded the mail becomes a dead letter that says why; another error puts it off, and is no attempt. Without it a mail is
	// sent with the code that it has, and one that a server puts off for longer than its code is good becomes a dead letter.
	Renew func(context.Context, Job) ([]byte, error)
	// Lane names what a job has to stay in order with: the first attempts of jobs with the same lane begin in the order of the queue, as far as
	// this worker claims them, and at most MaxPerLane of them are under way at once: so a lane that gets no answer leaves places to the others.
	// Empty is no lane. Default: there are none. MaxPerLane is at most Concurrency; default a quarter of it, at least 1.
	Lane       func(Job) string
	MaxPerLane int
	// MaxAttempts is how often a mail is tried before it becomes a dead letter. What fails with ErrUntried,
	// ErrDeferred or ErrThrottled does not count. Default 3.
	MaxAttempts int
	// DeferFor is how long a mail is tried again that servers put off: after 1, 5, 15 and 30 minutes and then
	// each hour, each wait up to a quarter longer at random. Then, or when the code in it has expired and nobody can Renew it, it becomes a
	// dead letter. Default 4 days (RFC 5321 section 4.5.4.1).
	DeferFor time.Duration
	// Pace is the time between two mails to a server that has put one off: to the same domain (ErrDeferred), or of
	// all (ErrThrottled). It doubles with each that is put off, up to MaxPace, shrinks by a quarter with each that is
	// taken, and ends so, or when nothing was sent for MaxPace. Each process keeps its own. Defaults 1 second, 1 minute.
	Pace, MaxPace time.Duration
	// SendTimeout bounds one attempt. Default 30 seconds.
	SendTimeout time.Duration
	// Lease is how long a claimed job is nobody else's. Default twice SendTimeout; it must be longer than SendTimeout.
	Lease time.Duration
	// Backoff is the wait after the first failure; it doubles with each, with full jitter
	// above half (half of it is certain, half is random), up to MaxBackoff. Defaults 5 seconds, 5 minutes.
	Backoff, MaxBackoff time.Duration
	// Concurrency is how many mails are under way at once, and so how many a crash can send a
	// second time. Default 1, which also keeps the queue's order.
	Concurrency int
	// Poll is the longest time between looks at the queue. Default 1 second.
	Poll time.Duration
	// Retention is how long sent jobs are kept, so that a late repetition of their event is
	// recognised. Default 7 days.
	Retention time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Random returns a number in [0,1). It may be called from many goroutines. Default math/rand.
	Random func() float64
	// Log gets what became of jobs, without their data. Default: nothing.
	Log *slog.Logger
}

// Times that a worker needs and nobody has wanted to set.
const (
	queueTimeout   = 5 * time.Second        // of one call of the queue
	minSettleWait  = 100 * time.Millisecond // after a settlement that failed; doubles
	maxSettleWait  = 5 * time.Second
	maxClaimWait   = 2 * time.Second        // between looks at a queue that fails
	minCheckWait   = 250 * time.Millisecond // between looks at a sender that fails; doubles
	maxCheckWait   = 3 * time.Second
	pruneEvery     = time.Hour
	maxErrorLength = 500 // bytes of Job.LastError
)

// Worker sends mails from the queue, or does what other jobs ask for by a [Performer]. Its methods may be called from many goroutines. Any number
// of workers may share a queue.
type Worker struct {
	cfg  WorkerConfig
	wake chan struct{} // holds one: any number of wakes is one look
	does Performer
	what string     // a job, for logs
	sent slog.Level // of the line that one was sent: of deliveries there may be as many as messages
	// lanes is nil where there are none.
	lanes *lanes
	// suspect says that the last mail failed in a way that may be the sender's: see await.
	suspect atomic.Bool
	pace    *pace
}

// NewWorker checks the configuration, all of it at once.
func NewWorker(cfg WorkerConfig) (*Worker, error) {
	c := settings.Of("mail: WorkerConfig")
	c.Require("Queue", cfg.Queue == nil)
	c.Require("Sender", cfg.Sender == nil && cfg.Performer == nil)
	c.Require("Templates", cfg.Templates == nil && cfg.Performer == nil)
	settings.Default(c, "MaxAttempts", &cfg.MaxAttempts, 3)
	settings.Default(c, "Concurrency", &cfg.Concurrency, 1)
	settings.Default(c, "SendTimeout", &cfg.SendTimeout, 30*time.Second)
	settings.Default(c, "Backoff", &cfg.Backoff, 5*time.Second)
	settings.Default(c, "MaxBackoff", &cfg.MaxBackoff, 5*time.Minute)
	settings.Default(c, "DeferFor", &cfg.DeferFor, 4*24*time.Hour)
	settings.Default(c, "Pace", &cfg.Pace, time.Second)
	settings.Default(c, "MaxPace", &cfg.MaxPace, time.Minute)
	settings.Default(c, "Poll", &cfg.Poll, time.Second)
	settings.Default(c, "Retention", &cfg.Retention, 7*24*time.Hour)
	settings.Default(c, "Lease", &cfg.Lease, 2*cfg.SendTimeout)
	settings.Default(c, "MaxPerLane", &cfg.MaxPerLane, max(1, cfg.Concurrency/4))
	if cfg.Lease <= cfg.SendTimeout {
		c.Refuse("Lease", "is not longer than SendTimeout")
	}
	if cfg.MaxPerLane > cfg.Concurrency {
		c.Refuse("MaxPerLane", "is more than Concurrency")
	}
	if cfg.MaxBackoff < cfg.Backoff {
		c.Refuse("MaxBackoff", "is shorter than Backoff")
	}
	if cfg.MaxPace < cfg.Pace {
		c.Refuse("MaxPace", "is shorter than Pace")
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Random == nil {
		cfg.Random = rand.Float64
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	w := &Worker{cfg: cfg, wake: make(chan struct{}, 1), pace: newPace(cfg.Pace, cfg.MaxPace), does: cfg.Performer, what: "delivery", sent: slog.LevelDebug}
	if w.does == nil {
		w.does, w.what, w.sent = mails{cfg.Sender, cfg.Templates}, "mail", slog.LevelInfo
	}
	if cfg.Lane != nil {
		w.lanes = newLanes(cfg.MaxPerLane)
	}
	return w, nil
}

// Wake makes the worker look at the queue now. It never blocks.
func (w *Worker) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run does what jobs ask for until ctx ends, then lets attempts under way finish within SendTimeout, and returns nil.
// What a worker had claimed when its process died is claimed again when the lease ends.
func (w *Worker) Run(ctx context.Context) error {
	// Ends SendTimeout after ctx: the moment from which nothing is tried again.
	patience, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		timer := time.NewTimer(w.cfg.SendTimeout)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-patience.Done(): // Run has returned
		}
	})()

	var running sync.WaitGroup
	running.Go(func() { w.prune(ctx) })
	slots := make(chan struct{}, w.cfg.Concurrency)
	failures := 0
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		w.await(ctx)
		w.slowDown(ctx)
		if ctx.Err() != nil {
			break
		}
		claimed := microseconds(w.cfg.Now())
		job, found, err := w.claim(ctx, claimed)
		if found {
			failures = 0
			w.pace.take(ownServer, w.cfg.Now())
			turn, parked := w.enter(ctx, job, claimed)
			running.Go(func() {
				defer func() { <-slots }()
				if !parked.IsZero() {
					w.settle(patience, job, Outcome{State: Ready, RunAt: parked, At: microseconds(w.cfg.Now()), Error: job.LastError, Untried: true})
					return
				}
				defer func() { turn.end(microseconds(w.cfg.Now())) }()
				w.attempt(patience, job, turn)
			})
			continue
		}
		<-slots
		wait, wake := w.cfg.Poll, w.wake
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			failures++
			wait = max(w.cfg.Poll, min(double(w.cfg.Poll, failures-1), maxClaimWait))
			wake = nil // a queue that is down is not asked more often because more is put on it
			w.cfg.Log.Warn("the "+w.what+" queue does not answer; the worker tries again", "error", err, "wait", wait)
		} else {
			failures = 0
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	running.Wait()
	return nil
}

// await returns when the sender takes mails, if there is doubt about it, or when ctx ends.
func (w *Worker) await(ctx context.Context) {
	if !w.suspect.Swap(false) {
		return
	}
	for wait := minCheckWait; ; wait = min(2*wait, maxCheckWait) {
		checking, cancel := context.WithTimeout(ctx, w.cfg.SendTimeout)
		err := w.does.Check(checking)
		cancel()
		if err == nil || ctx.Err() != nil {
			if wait > minCheckWait {
				w.cfg.Log.Info("a " + w.what + " can be taken again")
			}
			return
		}
		if wait == minCheckWait {
			w.cfg.Log.Warn("no "+w.what+" can be taken: they wait", "error", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// slowDown returns when the sender's server may be offered another mail, or when ctx ends.
func (w *Worker) slowDown(ctx context.Context) {
	for {
		wait := w.pace.wait(ownServer, w.cfg.Now())
		if wait == 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// claim takes a job. It is not cut short when ctx ends, or a job might be claimed and nobody
// know: it would lie there until its lease ends.
func (w *Worker) claim(ctx context.Context, now time.Time) (Job, bool, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), queueTimeout)
	defer cancel()
	return w.cfg.Queue.Claim(ctx, now, w.cfg.Lease)
}

// attempt does one attempt at a claimed job and settles it.
func (w *Worker) attempt(patience context.Context, j Job, t *laneTurn) {
	if at, waits := w.pace.turn(domain(j.To), w.cfg.Now()); waits {
		w.cfg.Log.Debug("a "+w.what+" waits for its turn at a slow server", "job", j, "at", at)
		w.settle(patience, j, Outcome{State: Ready, RunAt: microseconds(at), At: microseconds(w.cfg.Now()), Error: j.LastError, Untried: true})
		return
	}
	outcome, ok := w.try(patience, j, t)
	if !ok {
		return
	}
	outcome.At = microseconds(w.cfg.Now())
	outcome.History = j.after(outcome)
	switch outcome.State {
	case Sent:
		w.cfg.Log.Log(patience, w.sent, "a "+w.what+" was sent", "job", j)
	case Ready:
		w.cfg.Log.Warn("a "+w.what+" could not be sent; it is tried again", "job", j, "at", outcome.RunAt, "error", outcome.Error)
	case Dead:
		w.cfg.Log.Error("a "+w.what+" became a dead letter", "job", j, "error", outcome.Error)
	}
	w.settle(patience, j, outcome)
}

// try sends the mail of a job. It returns false when the job is no longer this worker's.
func (w *Worker) try(patience context.Context, j Job, t *laneTurn) (Outcome, bool) {
	if j.Attempts > w.cfg.MaxAttempts {
		// Each attempt before was claimed, and none was settled: workers died over it. It may
		// even have been sent. A person decides.
		return Outcome{State: Dead, Error: lastNeverSettled}, true
	}
	if !w.mayBegin(patience, t) {
		return w.untried(j, t, errors.New("those before it in its lane were not sent")), true
	}
	// The lease began before the claim was answered; the attempt must end before the lease.
	timeout := min(w.cfg.SendTimeout, j.LeasedUntil.Sub(w.cfg.Now()))
	if timeout <= 0 {
		w.cfg.Log.Warn("the lease on a job ended before the attempt began", "job", j)
		return Outcome{}, false
	}
	ctx, cancel := context.WithTimeout(patience, timeout)
	defer cancel()
	err := w.renew(ctx, &j)
	switch {
	case errors.Is(err, ErrNotNeeded):
		return Outcome{State: Dead, Error: describe(err, j)}, true
	case err != nil:
		return w.untried(j, t, fmt.Errorf("its code has expired, and there is no other: %w", err)), true
	}
	err = w.send(ctx, j, t.begun)
	switch {
	case err == nil:
		w.pace.faster(domain(j.To))
		w.pace.faster(ownServer)
		return Outcome{State: Sent}, true
	case errors.Is(err, ErrDeferred):
		w.pace.slower(domain(j.To), w.cfg.Now())
		return w.deferred(j, err), true
	case errors.Is(err, ErrThrottled):
		w.pace.slower(ownServer, w.cfg.Now())
		return w.deferred(j, err), true
	case !errors.Is(err, ErrRefused):
		w.suspect.Store(true)
	}
	// The end of the worker has cut the attempt short: that makes no dead letter, and counts as little.
	untried := errors.Is(err, ErrUntried) || patience.Err() != nil && !errors.Is(err, ErrRefused)
	switch {
	case errors.Is(err, ErrRefused), j.Attempts >= w.cfg.MaxAttempts && !untried:
		return Outcome{State: Dead, Error: describe(err, j)}, true
	}
	if untried {
		return w.untried(j, t, err), true
	}
	runAt := microseconds(w.cfg.Now()).Add(w.backoff(j.Attempts))
	return Outcome{State: Ready, RunAt: runAt, Error: describe(err, j)}, true
}

// renew gives a mail whose code has expired another one.
func (w *Worker) renew(ctx context.Context, j *Job) error {
	if w.cfg.Renew == nil {
		return nil
	}
	if p, err := decode(j.Kind, j.Data); err != nil || p.expires().IsZero() || w.cfg.Now().Before(p.expires()) {
		return nil // what cannot be read is refused later
	}
	data, err := w.cfg.Renew(ctx, *j)
	if err != nil {
		return err
	}
	if data != nil {
		j.Data = data
	}
	return nil
}

// mayBegin waits for a job's turn in its lane, at most as long as an attempt may take, and reports whether it came.
func (w *Worker) mayBegin(patience context.Context, t *laneTurn) bool {
	if t == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(patience, w.cfg.SendTimeout)
	defer cancel()
	return t.mine(ctx)
}

// untried is the outcome of an attempt that does not count.
func (w *Worker) untried(j Job, t *laneTurn, why error) Outcome {
	at := microseconds(w.cfg.Now()).Add(w.backoff(1))
	if t != nil {
		at = t.pass(microseconds(w.cfg.Now()))
	}
	return Outcome{State: Ready, RunAt: at, Error: describe(why, j), Untried: true}
}

// send does what a job asks for. A panic of the sender, which may be an application's own, is an error.
func (w *Worker) send(ctx context.Context, j Job, begun func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			w.cfg.Log.Error("the sender panicked", "stack", string(debug.Stack()))
			err = fmt.Errorf("the sender panicked: %v", p)
		}
	}()
	return w.does.Perform(ctx, j, begun)
}

// mails are jobs that a Sender does.
type mails struct {
	Sender
	templates *Templates
}

// Perform implements Performer.
func (m mails) Perform(ctx context.Context, j Job, _ func()) error {
	message, err := m.templates.Render(j)
	if err != nil {
		return neverMail{err}
	}
	return m.Send(ctx, message)
}

// neverMail is why a job cannot become a mail.
type neverMail struct{ error }

func (e neverMail) Unwrap() error   { return e.error }
func (neverMail) Is(err error) bool { return err == ErrRefused }

// settle stores the outcome. While the queue is unavailable it tries again, until the lease
// ends or patience does; from then on the job is claimed again.
func (w *Worker) settle(patience context.Context, j Job, o Outcome) {
	for wait := minSettleWait; ; wait = min(2*wait, maxSettleWait) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(patience), queueTimeout)
		err := w.cfg.Queue.Settle(ctx, j, o)
		cancel()
		switch {
		case err == nil:
			return
		case errors.Is(err, ErrLeaseLost):
			// Also when an earlier try was stored and its answer got lost.
			w.cfg.Log.Warn("the lease on a job was lost", "job", j, "outcome", o.State)
			return
		case fault.KindOf(err) != fault.Unavailable, !w.cfg.Now().Add(wait).Before(j.LeasedUntil):
			w.cfg.Log.Error("the outcome of a job could not be stored", "job", j, "outcome", o.State, "error", err)
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-patience.Done():
			timer.Stop()
			w.cfg.Log.Error("the outcome of a job could not be stored", "job", j, "outcome", o.State, "error", err)
			return
		}
	}
}

// backoff is the wait after the given number of attempts.
func (w *Worker) backoff(attempts int) time.Duration {
	d := min(double(w.cfg.Backoff, attempts-1), w.cfg.MaxBackoff)
	return d/2 + time.Duration(w.cfg.Random()*float64(d-d/2))
}

// double doubles d n times, and stops before it overflows.
func double(d time.Duration, n int) time.Duration {
	for range n {
		if d > 24*time.Hour {
			break
		}
		d *= 2
	}
	return d
}

// prune removes sent jobs, now and each hour, until ctx ends.
func (w *Worker) prune(ctx context.Context) {
	ticker := time.NewTicker(pruneEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		pruning, cancel := context.WithTimeout(ctx, time.Minute)
		removed, err := w.cfg.Queue.Prune(pruning, microseconds(w.cfg.Now()).Add(-w.cfg.Retention))
		cancel()
		switch {
		case err != nil && ctx.Err() == nil:
			w.cfg.Log.Warn("sent jobs could not be pruned", "error", err)
		case removed > 0:
			w.cfg.Log.Debug("sent jobs were pruned", "removed", removed)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

// describe is an error's text for operators, with every text of the job's data taken out:
// servers like to repeat the address, and a bounce may quote the mail.
func describe(err error, j Job) string {
	secrets := []string{string(j.To), j.Name}
	var data map[string]any
	if json.Unmarshal(j.Data, &data) == nil {
		for _, value := range data {
			if text, ok := value.(string); ok {
				secrets = append(secrets, text)
			}
		}
	}
	text := err.Error()
	for _, secret := range secrets {
		if len(secret) < 3 {
			continue
		}
		text = regexp.MustCompile(`(?i)`+regexp.QuoteMeta(secret)).ReplaceAllLiteralString(text, "(hidden)")
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) > maxErrorLength {
		text = strings.ToValidUTF8(text[:maxErrorLength], "")
	}
	return text
}
