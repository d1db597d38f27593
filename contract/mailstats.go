package contract

import (
	"context"
	"fmt"

	"github.com/parley-chat/parley/core/mail"
)

// MailStats checks mail.Stats.
func MailStats() []Case[Mails] {
	return suite("MailStats", []promise[Mails]{
		{"an empty queue counts nothing", "A state without jobs may be missing.", statsEmpty},
		{"each state is counted", "Stats returns the number of jobs in each state.", statsStates},
	})
}

func wantStats(ctx context.Context, p Mails, want map[mail.State]int) error {
	got, err := p.Stats.Stats(ctx)
	if err != nil {
		return during("Stats", err)
	}
	for _, state := range []mail.State{mail.Ready, mail.Running, mail.Sent, mail.Dead} {
		if got[state] != want[state] {
			return fmt.Errorf("the port's Stats counts %d %s jobs, want %d", got[state], state, want[state])
		}
		delete(got, state)
	}
	if len(got) > 0 {
		return fmt.Errorf("the port's Stats counts states that there are not: %v", got)
	}
	return nil
}

func statsEmpty(ctx context.Context, p Mails) error { return wantStats(ctx, p, nil) }

func statsStates(ctx context.Context, p Mails) error {
	return first(
		func() error { return oneOfEach(ctx, p) },
		func() error { return enqueue(ctx, p, job(5), job(6)) },
		func() error {
			return wantStats(ctx, p, map[mail.State]int{mail.Ready: 3, mail.Running: 1, mail.Sent: 1, mail.Dead: 1})
		},
		func() error { return during("Discard", p.Letters.Discard(ctx, job(4).ID)) },
		func() error {
			return wantStats(ctx, p, map[mail.State]int{mail.Ready: 3, mail.Running: 1, mail.Sent: 1})
		},
	)
}
