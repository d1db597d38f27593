package webhook_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/webhook"
)

func TestSelect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		names []string
		has   []string
	}{
		{nil, nil},
		{[]string{"user.created"}, []string{"user.created"}},
		{[]string{"user.*"}, []string{"user.created", "user.verified", "user.erased"}},
		{[]string{"user.erased", "session.*"}, []string{"user.erased", "session.ended"}},
		{[]string{"*"}, webhook.Types()},
	} {
		s, err := webhook.Select(c.names...)
		require.NoError(t, err)
		for _, kind := range webhook.Types() {
			assert.Equal(t, slices.Contains(c.has, kind), s.Has(kind), "%v: %s", c.names, kind)
		}
		assert.Equal(t, len(c.has) > 0, s.Any())
		assert.False(t, s.Has("nonsense"))
	}
	for _, wrong := range []string{"", "user", "us*", "user.", "user.nothing", "User.Created", "nothing.*", "**", " user.created"} {
		_, err := webhook.Select("user.created", wrong)
		assert.ErrorIs(t, err, webhook.ErrUnknownType, "%q", wrong)
	}
}

func TestAFactIsDeliveredByteForByte(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 5, 4, 3, 2, 1, 7_000, time.UTC)
	data := `{"text":"<b> & \u2028 \"quoted\" 中","n":1.50}`
	f := webhook.Fact{ID: "f1", Type: webhook.UserCreated, Room: "hall \"1\"", User: "u1", About: "m1", Time: at, Data: []byte(data)}
	e := f.Event()
	require.NoError(t, e.Check())
	assert.Equal(t, event.Event{ID: "f1", Topic: "webhook", Type: "user.created", Key: "hall \"1\"", Time: at, Data: e.Data}, e)
	q := memory.NewMailQueue()
	woken := 0
	c, err := webhook.NewConsumer(webhook.ConsumerConfig{Queue: q, Eraser: q, Enqueued: func() { woken++ }})
	require.NoError(t, err)
	for range 2 { // it comes twice
		require.NoError(t, c.Handle(t.Context(), e))
	}
	jobs, err := q.List(t.Context(), mail.Filter{Limit: 10})
	require.NoError(t, err)
	require.Len(t, jobs, 1)
	j := jobs[0]
	assert.Equal(t, `{"type":"user.created","timestamp":"2026-05-04T03:02:01.000007Z","data":`+data+`}`, string(j.Data))
	assert.Equal(t, []string{"f1", "user.created", "m1", "hall \"1\""}, []string{j.Key, string(j.Kind), string(j.To), j.Name})
	assert.Equal(t, "room hall \"1\"", webhook.Lane(j))
	assert.Positive(t, woken)

	f = webhook.Fact{ID: "f2", Type: webhook.UserErased, User: "u1", Time: at, Data: []byte(`{}`)}
	assert.Equal(t, "u1", f.Event().Key)
	require.NoError(t, c.Handle(t.Context(), f.Event()))
	jobs, err = q.List(t.Context(), mail.Filter{To: "u1", Limit: 10})
	require.NoError(t, err)
	require.Len(t, jobs, 1)
	assert.Equal(t, "about u1", webhook.Lane(jobs[0]))
}

func TestAFactForgetsWhatWaits(t *testing.T) {
	t.Parallel()
	q := memory.NewMailQueue()
	c, err := webhook.NewConsumer(webhook.ConsumerConfig{Queue: q, Eraser: q})
	require.NoError(t, err)
	handle := func(f webhook.Fact) {
		t.Helper()
		f.Data, f.Time = []byte(`{}`), time.Now()
		require.NoError(t, c.Handle(t.Context(), f.Event()))
	}
	handle(webhook.Fact{ID: "1", Type: webhook.UserCreated, User: "ada"})
	handle(webhook.Fact{ID: "2", Type: webhook.UserCreated, User: "grace"})
	handle(webhook.Fact{ID: "3", Type: webhook.UserErased, User: "ada", Forgets: true, Silent: true})
	handle(webhook.Fact{ID: "4", Type: webhook.UserErased, User: "ada", Forgets: true})
	jobs, err := q.List(t.Context(), mail.Filter{Limit: 10})
	require.NoError(t, err)
	var keys []string
	for _, j := range jobs {
		keys = append(keys, j.Key)
	}
	assert.ElementsMatch(t, []string{"2", "4"}, keys)
}

func TestAnEventThatIsNoFactIsRefused(t *testing.T) {
	t.Parallel()
	q := memory.NewMailQueue()
	c, err := webhook.NewConsumer(webhook.ConsumerConfig{Queue: q, Eraser: q})
	require.NoError(t, err)
	for _, data := range []string{"", "nonsense", "[]", `{}`, `{"about":7}`, `{"body":{}}`} {
		err := c.Handle(t.Context(), event.Event{ID: "1", Topic: webhook.Topic, Type: "user.created", Data: []byte(data)})
		assert.Equal(t, fault.Invalid, fault.KindOf(err), "%s", data)
	}
	_, err = webhook.NewConsumer(webhook.ConsumerConfig{})
	assert.ErrorContains(t, err, "Queue is missing")
	assert.ErrorContains(t, err, "Eraser is missing")
}

type endpoint struct{ err error }

func (e endpoint) Deliver(context.Context, webhook.Delivery, func()) error { return e.err }
func (endpoint) Check(context.Context) error                               { return nil }

func TestWhatAnEndpointAnswersCountsForTheWorker(t *testing.T) {
	t.Parallel()
	for _, answer := range []error{webhook.ErrGone, webhook.ErrUntried, webhook.ErrThrottled, errors.New("500")} {
		err := webhook.Performer(endpoint{answer}).Perform(t.Context(), mail.Job{Key: "1"}, func() {})
		assert.ErrorIs(t, err, answer)
		assert.NotContains(t, err.Error(), "mail")
	}
	assert.NoError(t, webhook.Performer(endpoint{}).Perform(t.Context(), mail.Job{Key: "1"}, func() {}))
	for _, err := range []error{mail.ErrJobNotFound, mail.ErrLeaseLost, mail.ErrNotDead} { // what is said of a delivery too
		assert.NotContains(t, err.Error(), "mail")
	}
}
