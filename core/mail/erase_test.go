package mail_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

type failingEraser struct{}

func (failingEraser) DeleteTo(context.Context, user.Email) (int, error) {
	return 0, errors.New("the queue does not answer")
}

func TestAnErasedUserIsForgotten(t *testing.T) {
	t.Parallel()
	q := memory.NewMailQueue()
	var log bytes.Buffer
	c, err := mail.NewConsumer(mail.ConsumerConfig{Queue: q, Eraser: q, Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	others := created
	others.Email = "bob@example.com"
	erased := asked("e9", mail.TypeUserErased, mail.UserErased{UserID: "u1", Email: " ADA@example.com"})
	for _, e := range []event.Event{asked("e1", mail.TypeUserCreated, created), asked("e2", mail.TypeVerificationAgain, created), asked("e3", mail.TypeUserCreated, others), erased, erased} {
		require.NoError(t, c.Handle(t.Context(), e))
	}
	jobs, err := q.List(t.Context(), mail.Filter{Limit: 10})
	require.NoError(t, err)
	require.Len(t, jobs, 1)
	require.EqualValues(t, "bob@example.com", jobs[0].To)
	require.Contains(t, log.String(), "user=u1")
	require.NotContains(t, log.String(), "ada")

	for _, data := range []any{"canary", mail.UserErased{UserID: "u1", Email: "canary"}} {
		err := c.Handle(t.Context(), asked("e9", mail.TypeUserErased, data))
		require.ErrorIs(t, err, fault.Invalid)
		require.NotContains(t, err.Error(), "canary")
	}
	failing, err := mail.NewConsumer(mail.ConsumerConfig{Queue: q, Eraser: failingEraser{}})
	require.NoError(t, err)
	err = failing.Handle(t.Context(), erased)
	require.Error(t, err)
	require.False(t, event.Never(err), "it comes again")
	old, err := mail.NewConsumer(mail.ConsumerConfig{Queue: q})
	require.NoError(t, err)
	require.NoError(t, old.Handle(t.Context(), erased), "who forgets nobody ignores it")
}
