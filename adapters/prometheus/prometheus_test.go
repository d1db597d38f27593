package prometheus_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	vendor "github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/prometheus"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/health"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit"
)

// clock is one that a test sets.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

// value returns the value of a metric with these labels, in pairs, and whether there is one. That of a histogram is its count.
func value(t *testing.T, from vendor.Gatherer, name string, labels ...string) (float64, bool) {
	t.Helper()
	families, err := from.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != "parley_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if !has(m, labels) {
				continue
			}
			switch {
			case m.Gauge != nil:
				return m.GetGauge().GetValue(), true
			case m.Counter != nil:
				return m.GetCounter().GetValue(), true
			case m.Histogram != nil:
				return float64(m.GetHistogram().GetSampleCount()), true
			}
		}
	}
	return 0, false
}

func has(m *dto.Metric, labels []string) bool {
	found := 0
	for _, l := range m.GetLabel() {
		for i := 0; i < len(labels); i += 2 {
			if l.GetName() == labels[i] && l.GetValue() == labels[i+1] {
				found++
			}
		}
	}
	return found == len(labels)/2
}

func is(t *testing.T, want float64, from vendor.Gatherer, name string, labels ...string) {
	t.Helper()
	got, there := value(t, from, name, labels...)
	assert.True(t, there, "there is no %s %v", name, labels)
	assert.InDelta(t, want, got, 0, "%s %v", name, labels)
}

// instrument returns metrics, their registry, and what they make of cfg.
func instrument(t *testing.T, cfg parley.Config, now func() time.Time) (*vendor.Registry, *prometheus.Metrics, parley.Config) {
	t.Helper()
	registry := vendor.NewPedanticRegistry()
	m, err := prometheus.New(prometheus.Config{Registerer: registry, Version: "v1", Now: now})
	require.NoError(t, err)
	cfg, err = m.Instrument(cfg)
	require.NoError(t, err)
	return registry, m, cfg
}

// TestASystemCountsWhatItDoes tells a story to a whole system, and asks what was counted.
func TestASystemCountsWhatItDoes(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	mails := testkit.NewMailbox()
	ports := memory.NewPorts()
	ports.Sender = mails
	heard := make(chan auth.RevokeReason, 10)
	registry, m, cfg := instrument(t, parley.Config{
		Ports: ports, PublicURL: "http://localhost",
		Auth: auth.Config{Revoked: func(why auth.RevokeReason) { heard <- why }},
	}, nil)
	s, err := parley.New(cfg)
	require.NoError(t, err)
	require.NoError(t, m.WatchHub(s.Hub, "memory"))
	running, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(running) }()
	t.Cleanup(func() { end(); assert.NoError(t, <-ended) })

	require.NoError(t, s.Auth.SignUp(ctx, auth.Client{}, auth.SignUp{FullName: "Ada", Email: "ada@example.com", Password: "correct horse"}))
	got, err := mails.Await(ctx, "ada@example.com", 1)
	require.NoError(t, err)
	_, err = s.Auth.SignIn(ctx, auth.Client{}, "ada@example.com", "correct horse")
	require.ErrorIs(t, err, auth.ErrNotVerified)
	code, err := testkit.Code(got)
	require.NoError(t, err)
	require.NoError(t, s.Auth.Verify(ctx, code))
	_, err = s.Auth.SignIn(ctx, auth.Client{}, "ada@example.com", "wrong")
	require.ErrorIs(t, err, auth.ErrInvalidCredentials)
	g, err := s.Auth.SignIn(ctx, auth.Client{}, "ada@example.com", "correct horse")
	require.NoError(t, err)
	who, err := s.Authenticator().Token(ctx, g.AccessToken)
	require.NoError(t, err)
	ada, bob := memory.Connect(s.Hub, who), memory.Connect(s.Hub, user.Identity{UserID: "bob", Name: "Bob"})
	for _, c := range []*memory.Client{ada, bob} {
		require.NoError(t, c.Write([]byte(`{"id":1,"event":"join_room","data":{"room":"hall","since":0}}`), false))
		_, err = c.Read(ctx)
		require.NoError(t, err)
	}
	require.NoError(t, ada.Write([]byte(`{"event":"message","data":{"room":"hall","text":"Hello"}}`), false))
	for {
		f, err := bob.Read(ctx)
		require.NoError(t, err)
		if string(f.Payload()) != "" && containsMessage(f) {
			break
		}
	}
	is(t, 1, registry, "build_info", "version", "v1")
	is(t, 2, registry, "connections", "transport", "memory", "format", socket.Protocol)
	is(t, 2, registry, "connections_total")
	is(t, 2, registry, "events_total", "event", "join_room")
	is(t, 1, registry, "events_total", "event", "message")
	is(t, 0, registry, "events_total", "event", "presence")
	is(t, 1, registry, "messages_total")
	is(t, 0, registry, "marks_total")
	for _, read := range []uint64{0, 1, 1, 5} {
		_, err := s.Chat.Mark(ctx, chat.Mark{Room: "hall", User: chat.Author{ID: "bob", Name: "Bob"}, Read: read})
		require.NoError(t, err)
	}
	is(t, 1, registry, "marks_total")
	is(t, 1, registry, "commit_seconds")
	is(t, 1, registry, "commit_batch_size")
	is(t, 2, registry, "recovery_pages_total")
	is(t, 0, registry, "fanout_holes_total")
	is(t, 1, registry, "rooms")
	is(t, 0, registry, "fanout_lag_seconds")
	is(t, 1, registry, "events_published_total", "topic", "mail")
	is(t, 0, registry, "events_dead_total", "topic", "mail")
	is(t, 1, registry, "signins_total", "result", "ok")
	is(t, 1, registry, "signins_total", "result", "wrong")
	is(t, 1, registry, "signins_total", "result", "unverified")
	is(t, 0, registry, "outbox_pending")
	is(t, 0, registry, "outbox_oldest_seconds")
	await(t, ctx, "the mail to count as sent", func() bool {
		n, _ := value(t, registry, "mail_attempts_total", "result", "sent")
		return n == 1
	})
	await(t, ctx, "both to have the message", func() bool {
		deliveries, _ := value(t, registry, "deliveries_total")
		writes, _ := value(t, registry, "delivery_writes_total")
		took, _ := value(t, registry, "delivery_seconds")
		return deliveries == 2 && writes == 2 && took == 1
	})

	queued, _ := value(t, registry, "queued_bytes")
	assert.Positive(t, queued, "nobody has read what ada was sent")

	account, err := s.Auth.Authenticate(ctx, g.AccessToken)
	require.NoError(t, err)
	require.NoError(t, s.Auth.SignOut(ctx, account))
	assert.Equal(t, auth.RevokedSignOut, <-heard, "the application's own hook is called as well")
	is(t, 1, registry, "sessions_revoked_total", "reason", "signout")
	bob.Close()
	await(t, ctx, "both to be gone", func() bool {
		byHub, _ := value(t, registry, "closes_total", "code", "4401")
		peer, _ := value(t, registry, "closes_total", "code", "peer")
		return byHub == 1 && peer == 1
	})
	is(t, 0, registry, "connections", "format", socket.Protocol)
}

func containsMessage(f *socket.Frame) bool {
	text := string(f.Payload())
	return len(text) > 18 && text[:18] == `{"event":"message"`
}

// await asks until something is so.
func await(t *testing.T, ctx context.Context, what string, so func() bool) {
	t.Helper()
	for !so() {
		select {
		case <-ctx.Done():
			t.Fatalf("waiting for %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

// appends is a store of messages that answers as it is told.
type appends struct {
	chat.MessageStore
	answer []chat.Stored
	err    error
}

func (a appends) Append(context.Context, []chat.Message) ([]chat.Stored, error) {
	return a.answer, a.err
}

// moves is a store of marks that answers as it is told.
type moves struct {
	chat.Marks
	answer []chat.Marked
	err    error
}

func (m moves) Mark(context.Context, []chat.Mark) ([]chat.Marked, error) { return m.answer, m.err }

func TestMarks(t *testing.T) {
	t.Parallel()
	ports := memory.NewPorts()
	for _, c := range []struct {
		store moves
		moved float64
	}{
		{moves{answer: []chat.Marked{{Moved: true, Read: 3}, {Read: 3}, {Err: chat.ErrNotMember}, {Moved: true, Read: 4}}}, 2},
		{moves{err: errors.New("down")}, 0},
	} {
		ports.Marks = c.store
		registry, _, cfg := instrument(t, parley.Config{Ports: ports}, nil)
		answer, err := cfg.Marks.Mark(t.Context(), make([]chat.Mark, 4))
		assert.Equal(t, c.store.answer, answer)
		assert.Equal(t, c.store.err, err)
		is(t, c.moved, registry, "marks_total")
		_, err = cfg.Marks.Mark(t.Context(), make([]chat.Mark, 4))
		assert.Equal(t, c.store.err, err)
		is(t, 2*c.moved, registry, "marks_total")
	}
}

func TestStoresAndCaches(t *testing.T) {
	t.Parallel()
	ports := memory.NewPorts()
	down := errors.New("down")
	for _, c := range []struct {
		store  appends
		stored float64
	}{
		{appends{answer: []chat.Stored{{}, {Repeated: true}, {}}}, 2},
		{appends{err: down}, 0},
	} {
		ports.Messages = c.store
		registry, _, cfg := instrument(t, parley.Config{Ports: ports}, nil)
		answer, err := cfg.Messages.Append(t.Context(), make([]chat.Message, 3))
		assert.Equal(t, c.store.answer, answer)
		assert.Equal(t, c.store.err, err)
		is(t, c.stored, registry, "messages_total")
		is(t, 1, registry, "commit_seconds")
	}
	faults := testkit.NewFaults(1)
	ports.Recent = testkit.FaultyCache(ports.Recent, faults)
	registry, _, cfg := instrument(t, parley.Config{Ports: ports}, nil)
	_, _, err := cfg.Recent.Get(t.Context(), "hall")
	require.NoError(t, err)
	require.NoError(t, cfg.Recent.Add(t.Context(), chat.Message{Room: "hall", Seq: 1}))
	_, _, err = cfg.Recent.Get(t.Context(), "hall")
	require.NoError(t, err)
	faults.Set(testkit.Rule{Method: "Cache.Get", Fault: testkit.Fail(down)})
	_, _, err = cfg.Recent.Get(t.Context(), "hall")
	require.ErrorIs(t, err, down)
	for _, result := range []string{"hit", "miss", "error"} {
		is(t, 1, registry, "cache_requests_total", "result", result)
	}
}

// events is a bus that answers as it is told, and an outbox.
type events struct {
	event.Publisher
	event.Outbox
	err     error
	pending []event.Event
	asked   int
}

func (b *events) Publish(context.Context, ...event.Event) error { return b.err }

func (b *events) Pending(context.Context, int) ([]event.Event, error) {
	b.asked++
	return b.pending, b.err
}

func (b *events) Subscribe(ctx context.Context, _, _ string, handle event.Handler, _ func()) error {
	for _, e := range b.pending {
		_ = handle(ctx, e) // which is what the test is about
	}
	return nil
}

func TestEvents(t *testing.T) {
	t.Parallel()
	at := &clock{time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
	bus := &events{pending: []event.Event{{ID: "1", Topic: "mail", Time: at.t.Add(-time.Minute)}, {ID: "2", Topic: "mail", Time: at.t.Add(-time.Hour)}}}
	ports := parley.Ports{Publisher: bus, Subscriber: bus, Outbox: bus}
	aside := 0
	registry, _, cfg := instrument(t, parley.Config{Ports: ports, Relay: event.RelayConfig{OnSetAside: func(event.Event) { aside++ }}}, at.now)
	is(t, 2, registry, "outbox_pending")
	is(t, 3600, registry, "outbox_oldest_seconds")
	assert.Equal(t, 1, bus.asked, "metrics that are gathered often cost the store little")
	at.t = at.t.Add(prometheus.ReadEvery)
	bus.pending = nil
	is(t, 0, registry, "outbox_oldest_seconds")
	at.t = at.t.Add(prometheus.ReadEvery)
	bus.err = errors.New("down")
	_, there := value(t, registry, "outbox_pending")
	assert.False(t, there, "what cannot be read is left out")

	bus.err = nil
	require.NoError(t, cfg.Publisher.Publish(t.Context(), event.Event{Topic: "mail"}, event.Event{Topic: "sessions"}))
	bus.err = &event.PublishError{Failed: map[int]error{1: errors.New("no")}}
	require.Error(t, cfg.Publisher.Publish(t.Context(), event.Event{Topic: "mail"}, event.Event{Topic: "mail"}))
	bus.err = errors.New("away")
	require.Error(t, cfg.Publisher.Publish(t.Context(), event.Event{Topic: "mail"}))
	is(t, 2, registry, "events_published_total", "topic", "mail")
	is(t, 1, registry, "events_published_total", "topic", "sessions")

	answers := []error{nil, fault.Invalid, errors.New("again")}
	bus.pending = make([]event.Event, len(answers))
	next := 0
	require.NoError(t, cfg.Subscriber.Subscribe(t.Context(), "mail", "mailer", func(context.Context, event.Event) error {
		next++
		return answers[next-1]
	}, nil))
	is(t, 1, registry, "events_dead_total", "topic", "mail")
	cfg.Relay.OnSetAside(event.Event{Topic: "mail"})
	is(t, 2, registry, "events_dead_total", "topic", "mail")
	assert.Equal(t, 1, aside, "the application's own hook is called as well")
}

func TestMails(t *testing.T) {
	t.Parallel()
	at := &clock{time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
	ports := memory.NewPorts()
	ports.Sender = testkit.NewMailbox()
	registry, _, cfg := instrument(t, parley.Config{Ports: ports}, at.now)
	for i, key := range []string{"1", "2"} {
		require.NoError(t, cfg.MailQueue.Enqueue(t.Context(), mail.Job{ID: key, Key: key, State: mail.Ready, To: "ada@example.com", RunAt: at.t, CreatedAt: at.t.Add(time.Duration(i-2) * time.Minute)}))
	}
	is(t, 2, registry, "mail_jobs", "state", "ready")
	is(t, 0, registry, "mail_jobs", "state", "dead")
	is(t, 120, registry, "mail_oldest_seconds")
	for _, o := range []mail.Outcome{
		{State: mail.Ready, RunAt: at.t, At: at.t, Untried: true}, {State: mail.Ready, RunAt: at.t, At: at.t, Error: "x"},
		{State: mail.Dead, At: at.t, Error: "x"}, {State: mail.Sent, At: at.t},
	} {
		job, found, err := cfg.MailQueue.Claim(t.Context(), at.t, time.Minute)
		require.NoError(t, err)
		require.True(t, found)
		require.NoError(t, cfg.MailQueue.Settle(t.Context(), job, o))
		require.ErrorIs(t, cfg.MailQueue.Settle(t.Context(), job, o), mail.ErrLeaseLost, "which is no attempt")
	}
	for _, result := range []string{"sent", "retry", "deferred", "dead"} {
		is(t, 1, registry, "mail_attempts_total", "result", result)
	}
	at.t = at.t.Add(prometheus.ReadEvery)
	is(t, 1, registry, "mail_jobs", "state", "sent")
	is(t, 1, registry, "mail_jobs", "state", "dead")
	is(t, 0, registry, "mail_oldest_seconds")
}

// signals is a fan-out that delivers what it is given.
type signals struct {
	realtime.Fanout
	all []realtime.Signal
}

func (f signals) Run(_ context.Context, deliver func(realtime.Signal)) error {
	for _, s := range f.all {
		deliver(s)
	}
	return nil
}

func TestLag(t *testing.T) {
	t.Parallel()
	at := &clock{time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
	ports := memory.NewPorts()
	m := chat.Message{At: at.t.Add(-time.Second)}
	ports.Fanout = signals{all: []realtime.Signal{
		{Kind: realtime.SignalMessage, Node: "other", Message: m}, {Kind: realtime.SignalMessage, Node: "me", Message: m}, {Kind: realtime.SignalTyping, Node: "other"},
	}}
	registry, _, cfg := instrument(t, parley.Config{Ports: ports, Hub: realtime.HubConfig{Node: "me"}}, at.now)
	heard := 0
	require.NoError(t, cfg.Fanout.Run(t.Context(), func(realtime.Signal) { heard++ }))
	assert.Equal(t, 3, heard)
	is(t, 1, registry, "fanout_lag_seconds")
}

func TestHealth(t *testing.T) {
	t.Parallel()
	registry, m, _ := instrument(t, parley.Config{}, nil)
	require.NoError(t, m.WatchHealth([]health.Check{
		{Name: "database", Probe: func(context.Context) (map[string]any, error) { return nil, nil }},
		{Name: "redis", Probe: func(context.Context) (map[string]any, error) { return nil, errors.New("away") }},
	}))
	require.NoError(t, m.WatchHashes(func() int { return 3 }))
	is(t, 1, registry, "dependency_up", "name", "database")
	is(t, 0, registry, "dependency_up", "name", "redis")
	is(t, 3, registry, "hashes_waiting")
	m.Request("signin", 401, time.Second)
	is(t, 1, registry, "http_requests_total", "operation", "signin", "status", "401")
	is(t, 1, registry, "http_request_seconds", "operation", "signin")
	w := httptest.NewRecorder()
	prometheus.Handler(registry).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	assert.Contains(t, w.Body.String(), "\nparley_hashes_waiting 3\n")
}

func TestWhatIsMissingOrTakenIsRefused(t *testing.T) {
	t.Parallel()
	_, err := prometheus.New(prometheus.Config{})
	require.ErrorContains(t, err, "Registerer is missing")
	registry := vendor.NewRegistry()
	m, err := prometheus.New(prometheus.Config{Registerer: registry})
	require.NoError(t, err)
	_, err = prometheus.New(prometheus.Config{Registerer: registry})
	require.Error(t, err, "two programs in one registry")
	ports := memory.NewPorts()
	_, err = m.Instrument(parley.Config{Ports: ports})
	require.NoError(t, err)
	_, err = m.Instrument(parley.Config{Ports: ports})
	require.Error(t, err, "two systems in one registry")
	require.Error(t, m.WatchHub(nil, "net"))
	require.Error(t, m.WatchHashes(nil))
}
