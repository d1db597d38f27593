// Package mail makes sure that every mail that the system owes somebody is sent, at most
// a stated number of times is tried, and is never forgotten.
//
// The way of a mail: an event from the bus reaches the [Consumer], which puts one [Job] a
// mail on the [Queue], once per event; the [Worker] claims it under a lease, renders it
// with [Templates] and hands it to the [Sender]. A job that used up its attempts, or that
// can never succeed, becomes a dead letter, for a person to decide about in [DeadLetterService].
package mail

import (
	"context"
	"log/slog"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Message is a mail ready to go, to one recipient.
type Message struct {
	// ID is the Message-ID without angle brackets (RFC 5322 section 3.6.4). It comes from
	// the job, so that a mail that was sent twice can be recognised.
	ID string
	// From and To are mailboxes; the names may be empty.
	FromName, From string
	ToName, To     string
	Subject        string
	Text, HTML     string
}

// LogValue hides everything but the ID: subject and bodies hold codes, the address is personal.
func (m Message) LogValue() slog.Value { return slog.GroupValue(slog.String("id", m.ID)) }

// ErrRefused marks a failure that trying again cannot mend: the address does not exist, say.
var ErrRefused = fault.New(fault.Invalid, "mail_refused", "it was refused for good")

// ErrUntried marks a failure in which nobody was there to take the mail: it has certainly not gone out,
// and the attempt does not count.
var ErrUntried = fault.New(fault.Unavailable, "mail_untried", "nobody was there to take it")

// ErrDeferred marks a temporary refusal of one mail, or of its recipient: the server asks to try later
// (RFC 5321 section 4.5.4.1). The mail has certainly not gone out, and the attempt does not count.
var ErrDeferred = fault.New(fault.Unavailable, "mail_deferred", "the server puts it off")

// ErrThrottled marks a temporary refusal that is not about one recipient: the server takes fewer mails
// than it is offered. It is what ErrDeferred is otherwise.
var ErrThrottled = fault.New(fault.Unavailable, "mail_throttled", "the server takes fewer than it is offered")

// Sender hands mails to whatever carries them.
//
// It may be called from many goroutines.
type Sender interface {
	// Send returns nil once the next hop has taken responsibility for m.
	// An error that matches ErrRefused is permanent.
	// An error that matches ErrUntried says that nothing of m was sent.
	// An error that matches ErrDeferred or ErrThrottled says that the server puts m off.
	// Where there is no room for m, Send returns one of these three, and m has not gone out.
	// Any other error is temporary, and the outcome may be unknown: the mail may have gone out.
	// Send gives up when ctx is done.
	Send(ctx context.Context, m Message) error
	// Check returns nil if the sender would take a mail now, or cannot tell.
	// Check sends nothing.
	// A [Worker] whose attempt has failed for now calls Check before it claims the next job, so that the mails lie in
	// peace for as long as nobody takes them.
	// Check gives up when ctx is done.
	Check(ctx context.Context) error
}

// State says where a job stands.
type State string

// The states of a job.
const (
	// Ready jobs wait for their time.
	Ready State = "ready"
	// Running jobs are claimed under a lease; when it runs out they can be claimed again.
	Running State = "running"
	// Sent jobs are done. They stay for a while, without data, so that their key is known.
	Sent State = "sent"
	// Dead jobs are dead letters.
	Dead State = "dead"
)

// Job is one mail to be sent.
type Job struct {
	// ID names the job. The queue's first-in order is the order of enqueueing, not of IDs.
	ID string
	// Key makes enqueueing idempotent: the ID of the event that asked for the mail.
	Key string
	// Kind chooses the template, for example "verification".
	Kind Kind
	// To and Name are the recipient.
	To   user.Email
	Name string
	// Data is the JSON object that the template is rendered with. It holds codes.
	Data []byte

	State State
	// Attempts counts claims since the job was enqueued or requeued.
	Attempts int
	// Claims counts claims ever made: the fencing token of a lease.
	Claims int64
	// RunAt is the earliest time of the next attempt.
	RunAt time.Time
	// DeferredSince is when a server first put the mail off since the job was enqueued or requeued;
	// zero if none did.
	DeferredSince time.Time
	// LeasedUntil is when a running job's lease ends.
	LeasedUntil time.Time
	// LastError is the last attempt's failure, for operators. It holds no data of the mail.
	LastError string
	// History is what became of the last attempts, the oldest first: at most [MaxHistory] of them.
	History []Attempt
	// Replays counts how often the job was requeued.
	Replays int
	// CreatedAt and UpdatedAt are UTC, to the microsecond, as every time here.
	CreatedAt, UpdatedAt time.Time
}

// MaxHistory is how many attempts of a job are remembered.
const MaxHistory = 20

// Attempt is what became of one attempt. As JSON it is what stores keep.
type Attempt struct {
	// Number is which of the attempts since the job was enqueued or requeued it was. What did not count has the number of the next one.
	Number int `json:"number"`
	// At is when it ended; zero if nobody knows.
	At time.Time `json:"at,omitzero"`
	// Error is empty if the mail was sent. It holds no data of the mail.
	Error string `json:"error,omitempty"`
}

// LogValue hides data and recipient.
func (j Job) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", j.ID), slog.String("kind", string(j.Kind)), slog.Int("attempt", j.Attempts))
}

// Outcome is what became of an attempt.
type Outcome struct {
	// State is Sent, Ready (again, at RunAt) or Dead.
	State State
	RunAt time.Time
	// At is when the attempt ended.
	At time.Time
	// Error is empty for Sent.
	Error string
	// Untried, with Ready, gives back the attempt that Claim counted.
	Untried bool
	// DeferredSince, with Ready, becomes the job's; zero leaves the job's as it is.
	DeferredSince time.Time
	// History becomes the job's; nil leaves the job's as it is.
	History []Attempt
}

// Check returns ErrOutcomeInvalid if no attempt can end so. Queues call it first.
func (o Outcome) Check() error {
	switch o.State {
	case Sent, Ready, Dead:
		return nil
	}
	return ErrOutcomeInvalid.Detail("its state is %q", o.State)
}

// CheckLease returns ErrLeaseInvalid if a lease does not last. Queues call it first.
func CheckLease(lease time.Duration) error {
	if lease < time.Microsecond {
		return ErrLeaseInvalid.Detail("it is %v", lease)
	}
	return nil
}

// What queues answer besides success.
var (
	// ErrJobNotFound says that there is no such job.
	ErrJobNotFound = fault.New(fault.NotFound, "job_not_found", "there is no such job")
	// ErrLeaseLost says that the job was claimed by another, settled or removed meanwhile.
	ErrLeaseLost = fault.New(fault.Conflict, "lease_lost", "the lease on the job was lost")
	// ErrLeaseInvalid says that a lease does not last: two calls could claim the same job under it.
	ErrLeaseInvalid = fault.New(fault.Invalid, "lease_invalid", "a lease lasts a microsecond at least")
	// ErrOutcomeInvalid says that an attempt cannot end so.
	ErrOutcomeInvalid = fault.New(fault.Invalid, "outcome_invalid", "an attempt ends as sent, ready or dead")
	// ErrNotDead says that only a dead letter can be requeued or discarded.
	ErrNotDead = fault.New(fault.Conflict, "job_not_dead", "the job is not a dead letter")
)

// Queue holds jobs until they are sent.
//
// It may be called from many goroutines and, where the adapter says so, processes.
// Times come from the caller; the queue has no clock.
// A call whose context has ended leaves the queue as it was, or has done all its work.
// Changing what was given or returned changes nothing stored.
type Queue interface {
	// Enqueue stores j durably, with every field as it is but those that say how far it has come.
	// The job is Ready, with no attempts, no history and nothing put off.
	// If a job with j.Key exists, in whatever state, Enqueue does nothing and returns nil.
	// Two keys are the same only if they have the same bytes.
	Enqueue(ctx context.Context, j Job) error
	// Claim takes the job that was enqueued first among those that are due.
	// A Ready job is due if its RunAt is not after now.
	// A Running job is due if its LeasedUntil is not after now.
	// Claim makes the job Running until now+lease and adds one to Attempts and Claims, durably before it returns the job so changed.
	// Claim returns false when no job is due.
	// Claim returns ErrLeaseInvalid, and takes no job, if lease is shorter than a microsecond.
	// No two calls get the same job under leases that overlap.
	Claim(ctx context.Context, now time.Time, lease time.Duration) (Job, bool, error)
	// Settle stores o and ends the lease that Claim gave, if the job is Running and its Claims equal j.Claims.
	// Otherwise Settle returns ErrLeaseLost and changes nothing.
	// Settle returns ErrOutcomeInvalid, and changes nothing, if o.State is none of Sent, Ready and Dead.
	// A Sent job is done, and forgets its Data.
	// A Dead job is a dead letter, and is not due.
	// A job that is Ready again is due at o.RunAt, and keeps its place in the order.
	// A job that is Ready again with o.Untried has one attempt less.
	// A job that is Ready again takes over o.DeferredSince unless that is zero.
	// A job takes over o.History, whatever became of it, unless that is nil.
	Settle(ctx context.Context, j Job, o Outcome) error
	// Prune removes Sent jobs that were settled before the given time, and returns how many.
	// Prune removes no other jobs.
	// The keys of removed jobs are unknown from then on.
	Prune(ctx context.Context, before time.Time) (int, error)
}

// Filter chooses jobs.
type Filter struct {
	// State and To choose by equality; empty means any.
	State State
	To    user.Email
	// After is the ID of the last job of the page before; empty for the first page.
	// A job that is gone meanwhile still marks its place.
	After string
	// Limit is the most jobs to return, 1 to 1,000.
	Limit int
}

// CheckLimit returns ErrFilterInvalid if the limit is not 1 to 1,000. Stores call it first.
func (f Filter) CheckLimit() error {
	if f.Limit < 1 || f.Limit > maxPage {
		return ErrFilterInvalid.Detail("the limit is %d, and may be 1 to %d", f.Limit, maxPage)
	}
	return nil
}

// DeadLetters lets a person look into the queue and decide about what failed.
//
// It may be called from many goroutines.
// Changing what was returned changes nothing stored.
type DeadLetters interface {
	// List returns jobs that f chooses, ascending by ID.
	// List returns at most f.Limit jobs.
	// List returns ErrFilterInvalid if f.Limit is not 1 to 1,000.
	List(ctx context.Context, f Filter) ([]Job, error)
	// Get returns a job, or ErrJobNotFound.
	Get(ctx context.Context, id string) (Job, error)
	// Requeue makes a Dead job Ready at runAt, with no attempts and nothing put off.
	// The job keeps its last error and its history; its UpdatedAt becomes runAt.
	// Requeue adds one to the job's Replays.
	// Requeue replaces the job's data unless data is nil.
	// Requeue returns ErrJobNotFound if there is no such job.
	// Requeue returns ErrNotDead, and changes nothing, if the job is not Dead.
	Requeue(ctx context.Context, id string, runAt time.Time, data []byte) error
	// Discard removes a Dead job.
	// Discard returns ErrJobNotFound if there is no such job.
	// Discard returns ErrNotDead, and changes nothing, if the job is not Dead.
	Discard(ctx context.Context, id string) error
	// Eraser removes jobs.
	Eraser
}

// Eraser removes what is to be mailed, or was, to one recipient.
//
// It may be called from many goroutines.
type Eraser interface {
	// DeleteTo removes the jobs to a recipient, in whatever state, and returns how many.
	// Jobs to others stay.
	// Whoever has claimed a job that is removed finds that its lease is lost.
	// Removing nothing is no error.
	DeleteTo(ctx context.Context, to user.Email) (int, error)
}

// Stats counts jobs.
type Stats interface {
	// Stats returns the number of jobs in each state.
	// A state without jobs may be missing.
	Stats(ctx context.Context) (map[State]int, error)
}
