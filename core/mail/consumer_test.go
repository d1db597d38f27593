package mail_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

func asked(id, kind string, data any) event.Event {
	raw, _ := json.Marshal(data)
	return event.Event{ID: id, Topic: mail.Topic, Type: kind, Key: "u1", Time: time.Now().UTC(), Data: raw}
}

var (
	expires = time.Date(2026, 5, 6, 7, 8, 0, 0, time.UTC)
	created = mail.UserCreated{UserID: "u1", FullName: "Ada", Email: "ada@example.com", VerificationCode: code, ExpiresAt: expires}
)

func TestConsumerEnqueuesOneJobAnEvent(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 6789, time.UTC)
	for _, tc := range []struct {
		event string
		data  any
		kind  mail.Kind
	}{
		{mail.TypeUserCreated, created, mail.KindVerification},
		{mail.TypeVerificationAgain, created, mail.KindVerification},
		{mail.TypeAddressTaken, mail.AddressTaken{UserID: "u1", FullName: "Ada", Email: "ada@example.com"}, mail.KindAddressTaken},
		{mail.TypePasswordForgotten, mail.PasswordForgotten{UserID: "u1", FullName: "Ada", Email: "ada@example.com", ResetCode: code, ExpiresAt: expires}, mail.KindPasswordReset},
		{mail.TypePasswordChanged, mail.PasswordChanged{UserID: "u1", FullName: "Ada", Email: "ada@example.com", At: expires}, mail.KindPasswordChanged},
		{mail.TypeDeviceSignedIn, mail.DeviceSignedIn{UserID: "u1", FullName: "Ada", Email: "ada@example.com", At: expires, Device: "Firefox on Linux", Network: "192.0.2.0/24"}, mail.KindNewDevice},
		{mail.TypeFactorChanged, mail.FactorChanged{UserID: "u1", FullName: "Ada", Email: "ada@example.com", Change: mail.FactorAdded, At: expires}, mail.KindSecondFactor},
	} {
		t.Run(tc.event, func(t *testing.T) {
			t.Parallel()
			q := memory.NewMailQueue()
			enqueued := 0
			c, err := mail.NewConsumer(mail.ConsumerConfig{
				Queue: q, Now: func() time.Time { return now }, NewID: func() string { return "job1" }, Enqueued: func() { enqueued++ },
			})
			require.NoError(t, err)
			e := asked("e1", tc.event, tc.data)
			for range 3 {
				require.NoError(t, c.Handle(t.Context(), e))
			}
			require.Positive(t, enqueued)
			jobs, err := q.List(t.Context(), mail.Filter{Limit: 10})
			require.NoError(t, err)
			at := now.Truncate(time.Microsecond)
			require.Equal(t, []mail.Job{{
				ID: "job1", Key: "e1", Kind: tc.kind, To: "ada@example.com", Name: "Ada", Data: e.Data,
				State: mail.Ready, RunAt: at, CreatedAt: at, UpdatedAt: at,
			}}, jobs)
			_, err = templates(t).Render(jobs[0])
			require.NoError(t, err)
		})
	}
}

func TestConsumerIgnoresAndRefuses(t *testing.T) {
	t.Parallel()
	q := memory.NewMailQueue()
	c, err := mail.NewConsumer(mail.ConsumerConfig{Queue: q})
	require.NoError(t, err)
	require.NoError(t, c.Handle(t.Context(), asked("e0", "user.promoted", created)))

	edited := func(edit func(*mail.UserCreated)) event.Event {
		d := created
		edit(&d)
		return asked("e1", mail.TypeUserCreated, d)
	}
	for name, e := range map[string]event.Event{
		"no id":          asked("", mail.TypeUserCreated, created),
		"no data":        {ID: "e1", Type: mail.TypeUserCreated},
		"not JSON":       {ID: "e1", Type: mail.TypeUserCreated, Data: []byte("ada@example.com " + code)},
		"wrong type":     {ID: "e1", Type: mail.TypeUserCreated, Data: []byte(`{"email": 7}`)},
		"a list":         {ID: "e1", Type: mail.TypeUserCreated, Data: []byte(`[]`)},
		"bad time":       {ID: "e1", Type: mail.TypeUserCreated, Data: []byte(`{"expiresAt": "` + code + `"}`)},
		"no address":     edited(func(d *mail.UserCreated) { d.Email = "" }),
		"header address": edited(func(d *mail.UserCreated) { d.Email = "ada@example.com\r\nBcc: eve@example.com" }),
		"no code":        edited(func(d *mail.UserCreated) { d.VerificationCode = "" }),
		"code with NUL":  edited(func(d *mail.UserCreated) { d.VerificationCode = "x\x00" }),
		"no expiry":      edited(func(d *mail.UserCreated) { d.ExpiresAt = time.Time{} }),
	} {
		err := c.Handle(t.Context(), e)
		require.ErrorIs(t, err, mail.ErrEventInvalid, name)
		require.ErrorIs(t, err, fault.Invalid, name)
		require.NotContains(t, err.Error(), code, "%s: an error holds no data", name)
		require.NotContains(t, err.Error(), "ada@", name)
	}
	jobs, err := q.List(t.Context(), mail.Filter{Limit: 10})
	require.NoError(t, err)
	require.Empty(t, jobs)

	require.NoError(t, c.Handle(t.Context(), edited(func(d *mail.UserCreated) { d.FullName = "\x00\u202e" })), "a bad name loses no mail")
	jobs, err = q.List(t.Context(), mail.Filter{Limit: 10})
	require.NoError(t, err)
	require.Len(t, jobs, 1)
	require.Empty(t, jobs[0].Name)
	require.Equal(t, user.Email("ada@example.com"), jobs[0].To)
}

// brokenEnqueue is a queue that is down for the first calls.
type brokenEnqueue struct {
	mail.Queue
	failures int
}

func (q *brokenEnqueue) Enqueue(ctx context.Context, j mail.Job) error {
	if q.failures > 0 {
		q.failures--
		return errDown
	}
	return q.Queue.Enqueue(ctx, j)
}

func TestConsumerRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		inner := memory.NewMailQueue()
		var log bytes.Buffer
		c, err := mail.NewConsumer(mail.ConsumerConfig{
			Queue: &brokenEnqueue{inner, 3}, Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		require.NoError(t, err)
		bus := memory.NewBus(memory.BusConfig{})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 2)
		go func() { done <- c.Run(ctx, bus, nil) }()
		var dead []string
		go func() {
			done <- bus.Subscribe(ctx, mail.Topic+event.DeadSuffix, "", func(_ context.Context, e event.Event) error {
				dead = append(dead, e.ID)
				return nil
			}, nil)
		}()
		synctest.Wait()
		poison := event.Event{ID: "poison", Topic: mail.Topic, Type: mail.TypeUserCreated, Key: "u1", Data: []byte(code)}
		require.NoError(t, bus.Publish(t.Context(), poison, asked("e1", mail.TypeUserCreated, created)))
		time.Sleep(time.Minute)
		synctest.Wait()
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, <-done)
		require.Equal(t, []string{"poison"}, dead)
		jobs, err := inner.List(t.Context(), mail.Filter{Limit: 10})
		require.NoError(t, err)
		require.Len(t, jobs, 1, "what cannot be handled holds up nobody; what can comes again")
		require.Equal(t, "e1", jobs[0].Key)
		require.Contains(t, log.String(), "poison")
		require.NotContains(t, log.String(), code)
	})
}

type brokenBus struct{ event.Subscriber }

func (brokenBus) Subscribe(context.Context, string, string, event.Handler, func()) error {
	return errDown
}

func TestConsumerRunWithoutABus(t *testing.T) {
	t.Parallel()
	c, err := mail.NewConsumer(mail.ConsumerConfig{Queue: memory.NewMailQueue()})
	require.NoError(t, err)
	require.ErrorIs(t, c.Run(t.Context(), brokenBus{}, nil), fault.Unavailable)
	_, err = mail.NewConsumer(mail.ConsumerConfig{})
	require.ErrorContains(t, err, "Queue")
}

func TestConsumerHandsOnFailures(t *testing.T) {
	t.Parallel()
	c, err := mail.NewConsumer(mail.ConsumerConfig{Queue: &brokenEnqueue{memory.NewMailQueue(), 1}})
	require.NoError(t, err)
	err = c.Handle(t.Context(), asked("e1", mail.TypeUserCreated, created))
	require.ErrorIs(t, err, fault.Unavailable)
	require.False(t, errors.Is(err, fault.Invalid))
}
