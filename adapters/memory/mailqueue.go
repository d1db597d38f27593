package memory

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// MailQueue is a mail.Queue, with mail.DeadLetters and mail.Stats over the same jobs. A job
// that is requeued takes its old place in the order. UpdatedAt is the time that the last
// change came with: the claim's, the outcome's, or the one to run at when it was requeued.
type MailQueue struct {
	mu    sync.Mutex
	last  uint64 // place given to the last job
	byID  map[string]*queued
	byKey map[string]*queued
	open  []*queued // Ready and Running, ascending by place
}

// queued is a job with its place in the order of enqueueing.
type queued struct {
	job   mail.Job
	place uint64
}

var (
	_ mail.Queue       = (*MailQueue)(nil)
	_ mail.DeadLetters = (*MailQueue)(nil)
	_ mail.Stats       = (*MailQueue)(nil)
)

// NewMailQueue returns an empty queue.
func NewMailQueue() *MailQueue {
	return &MailQueue{byID: map[string]*queued{}, byKey: map[string]*queued{}}
}

var (
	errJobExists = fault.New(fault.Conflict, "job_exists", "a mail job with this identifier exists")
)

// Enqueue stores j unless its key is known.
func (q *MailQueue) Enqueue(ctx context.Context, j mail.Job) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := alive(ctx); err != nil {
		return err
	}
	if _, known := q.byKey[j.Key]; known {
		return nil
	}
	if _, exists := q.byID[j.ID]; exists {
		return errJobExists
	}
	j.State, j.Attempts, j.Claims, j.LeasedUntil, j.LastError = mail.Ready, 0, 0, time.Time{}, ""
	j.DeferredSince, j.History, j.Replays = time.Time{}, nil, 0
	j.RunAt, j.CreatedAt, j.UpdatedAt = stamp(j.RunAt), stamp(j.CreatedAt), stamp(j.UpdatedAt)
	q.last++
	e := &queued{job: cloneJob(j), place: q.last}
	q.byID[j.ID], q.byKey[j.Key] = e, e
	q.open = append(q.open, e)
	return nil
}

// Claim takes the first job that is due.
func (q *MailQueue) Claim(ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
	if err := mail.CheckLease(lease); err != nil {
		return mail.Job{}, false, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := alive(ctx); err != nil {
		return mail.Job{}, false, err
	}
	for _, e := range q.open {
		j := &e.job
		due := j.RunAt
		if j.State == mail.Running {
			due = j.LeasedUntil
		}
		if due.After(now) {
			continue
		}
		j.State = mail.Running
		j.Attempts++
		j.Claims++
		j.LeasedUntil = stamp(now.Add(lease))
		j.UpdatedAt = stamp(now)
		return cloneJob(*j), true, nil
	}
	return mail.Job{}, false, nil
}

// Settle ends the lease of j.
func (q *MailQueue) Settle(ctx context.Context, j mail.Job, o mail.Outcome) error {
	if err := o.Check(); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := alive(ctx); err != nil {
		return err
	}
	e, ok := q.byID[j.ID]
	if !ok || e.job.State != mail.Running || e.job.Claims != j.Claims {
		return mail.ErrLeaseLost
	}
	e.job.State = o.State
	e.job.LeasedUntil = time.Time{}
	e.job.LastError = o.Error
	e.job.UpdatedAt = stamp(o.At)
	if o.History != nil {
		e.job.History = slices.Clone(o.History)
	}
	switch o.State {
	case mail.Ready:
		e.job.RunAt = stamp(o.RunAt)
		if o.Untried {
			e.job.Attempts--
		}
		if !o.DeferredSince.IsZero() {
			e.job.DeferredSince = stamp(o.DeferredSince)
		}
		return nil
	case mail.Sent:
		e.job.Data = nil
	}
	at, _ := q.findOpen(e.place)
	q.open = slices.Delete(q.open, at, at+1)
	return nil
}

// findOpen returns where the job with this place stands, or should stand, in open.
func (q *MailQueue) findOpen(place uint64) (int, bool) {
	return slices.BinarySearchFunc(q.open, place, func(e *queued, p uint64) int { return cmp.Compare(e.place, p) })
}

// Prune removes Sent jobs that were settled before the given time.
func (q *MailQueue) Prune(ctx context.Context, before time.Time) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := alive(ctx); err != nil {
		return 0, err
	}
	n := 0
	for _, e := range q.byID {
		if e.job.State == mail.Sent && e.job.UpdatedAt.Before(before) {
			q.remove(e)
			n++
		}
	}
	return n, nil
}

func (q *MailQueue) remove(e *queued) {
	delete(q.byID, e.job.ID)
	delete(q.byKey, e.job.Key)
}

// List returns jobs, ascending by ID.
func (q *MailQueue) List(ctx context.Context, f mail.Filter) ([]mail.Job, error) {
	if err := f.CheckLimit(); err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := alive(ctx); err != nil {
		return nil, err
	}
	var chosen []*queued
	for _, e := range q.byID {
		if e.job.ID > f.After && (f.State == "" || e.job.State == f.State) && (f.To == "" || e.job.To == f.To) {
			chosen = append(chosen, e)
		}
	}
	slices.SortFunc(chosen, func(a, b *queued) int { return cmp.Compare(a.job.ID, b.job.ID) })
	jobs := make([]mail.Job, 0, min(f.Limit, len(chosen)))
	for _, e := range chosen[:cap(jobs)] {
		jobs = append(jobs, cloneJob(e.job))
	}
	return jobs, nil
}

// Get returns a job.
func (q *MailQueue) Get(ctx context.Context, id string) (mail.Job, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := alive(ctx); err != nil {
		return mail.Job{}, err
	}
	e, ok := q.byID[id]
	if !ok {
		return mail.Job{}, mail.ErrJobNotFound
	}
	return cloneJob(e.job), nil
}

// Requeue makes a dead letter Ready again.
func (q *MailQueue) Requeue(ctx context.Context, id string, runAt time.Time, data []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, err := q.dead(ctx, id)
	if err != nil {
		return err
	}
	e.job.State = mail.Ready
	e.job.Attempts, e.job.DeferredSince = 0, time.Time{}
	e.job.Replays++
	e.job.RunAt = stamp(runAt)
	e.job.UpdatedAt = stamp(runAt)
	if data != nil {
		e.job.Data = bytes.Clone(data)
	}
	at, _ := q.findOpen(e.place)
	q.open = slices.Insert(q.open, at, e)
	return nil
}

// Discard removes a dead letter.
func (q *MailQueue) Discard(ctx context.Context, id string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	e, err := q.dead(ctx, id)
	if err != nil {
		return err
	}
	q.remove(e)
	return nil
}

// DeleteTo removes the jobs to a recipient.
func (q *MailQueue) DeleteTo(ctx context.Context, to user.Email) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := alive(ctx); err != nil {
		return 0, err
	}
	n := 0
	for _, e := range q.byID {
		if e.job.To != to {
			continue
		}
		if at, open := q.findOpen(e.place); open {
			q.open = slices.Delete(q.open, at, at+1)
		}
		q.remove(e)
		n++
	}
	return n, nil
}

// dead finds a dead letter. The caller holds the lock.
func (q *MailQueue) dead(ctx context.Context, id string) (*queued, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	e, ok := q.byID[id]
	if !ok {
		return nil, mail.ErrJobNotFound
	}
	if e.job.State != mail.Dead {
		return nil, mail.ErrNotDead
	}
	return e, nil
}

// Stats counts the jobs in each state.
func (q *MailQueue) Stats(ctx context.Context) (map[mail.State]int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := alive(ctx); err != nil {
		return nil, err
	}
	counts := map[mail.State]int{}
	for _, e := range q.byID {
		counts[e.job.State]++
	}
	return counts, nil
}

func cloneJob(j mail.Job) mail.Job {
	j.Data = bytes.Clone(j.Data)
	j.History = slices.Clone(j.History)
	return j
}
