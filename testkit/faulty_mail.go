package testkit

import (
	"context"
	"time"

	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// FaultySender puts faults before a sender.
func FaultySender(next mail.Sender, f *Faults) mail.Sender { return sender{next, f} }

type sender struct {
	next   mail.Sender
	faults *Faults
}

func (d sender) Send(ctx context.Context, m mail.Message) error {
	return d.faults.do(ctx, "Sender.Send", func() error { return d.next.Send(ctx, m) })
}

func (d sender) Check(ctx context.Context) error {
	return d.faults.do(ctx, "Sender.Check", func() error { return d.next.Check(ctx) })
}

// FaultyQueue puts faults before a queue.
func FaultyQueue(next mail.Queue, f *Faults) mail.Queue { return queue{next, f} }

type queue struct {
	next   mail.Queue
	faults *Faults
}

func (d queue) Enqueue(ctx context.Context, j mail.Job) error {
	return d.faults.do(ctx, "Queue.Enqueue", func() error { return d.next.Enqueue(ctx, j) })
}

func (d queue) Claim(ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
	return ask2(ctx, d.faults, "Queue.Claim", func() (mail.Job, bool, error) { return d.next.Claim(ctx, now, lease) })
}

func (d queue) Settle(ctx context.Context, j mail.Job, o mail.Outcome) error {
	return d.faults.do(ctx, "Queue.Settle", func() error { return d.next.Settle(ctx, j, o) })
}

func (d queue) Prune(ctx context.Context, before time.Time) (int, error) {
	return ask(ctx, d.faults, "Queue.Prune", func() (int, error) { return d.next.Prune(ctx, before) })
}

// FaultyDeadLetters puts faults before dead letters.
func FaultyDeadLetters(next mail.DeadLetters, f *Faults) mail.DeadLetters {
	return deadLetters{next, f}
}

type deadLetters struct {
	next   mail.DeadLetters
	faults *Faults
}

func (d deadLetters) List(ctx context.Context, f mail.Filter) ([]mail.Job, error) {
	return ask(ctx, d.faults, "DeadLetters.List", func() ([]mail.Job, error) { return d.next.List(ctx, f) })
}

func (d deadLetters) Get(ctx context.Context, id string) (mail.Job, error) {
	return ask(ctx, d.faults, "DeadLetters.Get", func() (mail.Job, error) { return d.next.Get(ctx, id) })
}

func (d deadLetters) Requeue(ctx context.Context, id string, runAt time.Time, data []byte) error {
	return d.faults.do(ctx, "DeadLetters.Requeue", func() error { return d.next.Requeue(ctx, id, runAt, data) })
}

func (d deadLetters) Discard(ctx context.Context, id string) error {
	return d.faults.do(ctx, "DeadLetters.Discard", func() error { return d.next.Discard(ctx, id) })
}

func (d deadLetters) DeleteTo(ctx context.Context, to user.Email) (int, error) {
	return ask(ctx, d.faults, "DeadLetters.DeleteTo", func() (int, error) { return d.next.DeleteTo(ctx, to) })
}

// FaultyStats puts faults before a queue's statistics.
func FaultyStats(next mail.Stats, f *Faults) mail.Stats { return stats{next, f} }

type stats struct {
	next   mail.Stats
	faults *Faults
}

func (d stats) Stats(ctx context.Context) (map[mail.State]int, error) {
	return ask(ctx, d.faults, "Stats.Stats", func() (map[mail.State]int, error) { return d.next.Stats(ctx) })
}
