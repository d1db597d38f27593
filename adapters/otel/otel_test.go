package otel_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/otel"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit"
)

// tracer returns a tracer, and what its spans are kept in.
func tracer(t *testing.T, most int) (*otel.Tracer, *tracetest.InMemoryExporter) {
	t.Helper()
	kept := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(kept))
	made, err := otel.New(otel.Config{Provider: provider, MaxPending: most})
	require.NoError(t, err)
	return made, kept
}

// span waits for the first span of this name.
func span(t *testing.T, kept *tracetest.InMemoryExporter, name string) tracetest.SpanStub {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		all := kept.GetSpans()
		if i := slices.IndexFunc(all, func(s tracetest.SpanStub) bool { return s.Name == name }); i >= 0 {
			return all[i]
		}
		select {
		case <-ctx.Done():
			t.Fatalf("there is no span %q", name)
		case <-time.After(time.Millisecond):
		}
	}
}

// TestASignUpIsOneTraceUpToItsMail goes on with the trace that the request names.
func TestASignUpIsOneTraceUpToItsMail(t *testing.T) {
	t.Parallel()
	made, kept := tracer(t, 0)
	mails := testkit.NewMailbox()
	ports := memory.NewPorts()
	ports.Sender = mails
	s, err := parley.New(made.Instrument(parley.Config{Ports: ports, PublicURL: "http://localhost"}))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); assert.NoError(t, <-ended) })

	mux := http.NewServeMux()
	mux.HandleFunc("POST /auth/signup/{kind}", func(w http.ResponseWriter, r *http.Request) {
		assert.NoError(t, s.Auth.SignUp(r.Context(), auth.Client{}, auth.SignUp{FullName: "Ada", Email: "ada@example.com", Password: "correct horse"}))
		w.WriteHeader(http.StatusAccepted)
	})
	r := httptest.NewRequest(http.MethodPost, "/auth/signup/secret-word", nil)
	const asked = "4bf92f3577b34da6a3ce929d0e0e4736"
	r.Header.Set("Traceparent", "00-"+asked+"-00f067aa0ba902b7-01")
	made.Handler(mux).ServeHTTP(httptest.NewRecorder(), r)

	request := span(t, kept, "POST /auth/signup/{kind}")
	publish := span(t, kept, "publish user.created")
	process := span(t, kept, "process user.created")
	send := span(t, kept, "send mail")
	assert.Equal(t, "00f067aa0ba902b7", request.Parent.SpanID().String())
	assert.Equal(t, request.SpanContext.SpanID(), publish.Parent.SpanID())
	assert.Equal(t, request.SpanContext.SpanID(), process.Parent.SpanID())
	assert.Equal(t, process.SpanContext.SpanID(), send.Parent.SpanID())
	for _, s := range []tracetest.SpanStub{request, publish, process, send} {
		assert.Equal(t, asked, s.SpanContext.TraceID().String(), s.Name)
		assert.Equal(t, codes.Unset, s.Status.Code, s.Name)
	}

	// Socket events have traces of their own.
	c := memory.Connect(s.Hub, user.Identity{UserID: "bob", Name: "Bob"})
	for _, text := range []string{`{"id":1,"event":"join_room","data":{"room":"hall"}}`, `{"id":2,"event":"message","data":{"room":"hall","text":"Hello"}}`, `{"id":3,"event":"message","data":{"room":"nowhere","text":"Hello"}}`} {
		require.NoError(t, c.Write([]byte(text), false))
		_, err := c.Read(t.Context())
		require.NoError(t, err)
	}
	_, err = s.Chat.Mark(t.Context(), chat.Mark{Room: "hall", User: chat.Author{ID: "bob", Name: "Bob"}, Read: 1})
	require.NoError(t, err)
	span(t, kept, "move marks")
	assert.Equal(t, trace.SpanKindServer, span(t, kept, "socket join_room").SpanKind)
	span(t, kept, "socket message")
	span(t, kept, "append messages")
	for _, s := range kept.GetSpans() {
		for _, a := range s.Attributes {
			for _, private := range []string{"ada", "Ada", "bob", "Bob", "hall", "Hello", "secret-word", "correct horse"} {
				assert.NotContains(t, a.Value.Emit(), private, "%s: %s", s.Name, a.Key)
			}
		}
		assert.NotContains(t, s.Name, "secret-word")
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	made, kept := tracer(t, 0)
	h := made.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/broken":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/flush":
			assert.NoError(t, http.NewResponseController(w).Flush())
		}
	}))
	for _, path := range []string{"/broken", "/flush"} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
	}
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("SECRET", "/", nil))
	upgrade := httptest.NewRequest(http.MethodGet, "/socket", nil)
	upgrade.Header.Set("Upgrade", "websocket")
	h.ServeHTTP(httptest.NewRecorder(), upgrade)
	all := kept.GetSpans()
	require.Len(t, all, 3, "what takes over its connection has none")
	assert.Equal(t, codes.Error, all[0].Status.Code)
	assert.Equal(t, codes.Unset, all[1].Status.Code)
	assert.Equal(t, []string{"GET", "GET", "_OTHER"}, []string{all[0].Name, all[1].Name, all[2].Name})
}

// stuck is a bus that takes nothing.
type stuck struct{ event.Publisher }

func (stuck) Publish(context.Context, ...event.Event) error { return errors.New("away") }

func TestAnEventThatIsNotRememberedBeginsATrace(t *testing.T) {
	t.Parallel()
	made, kept := tracer(t, 2)
	ports := memory.NewPorts()
	ports.Publisher = stuck{}
	cfg := made.Instrument(parley.Config{Ports: ports})
	provider := sdk.NewTracerProvider()
	ids := map[string]trace.TraceID{}
	for _, id := range []string{"1", "2", "3"} {
		ctx, s := provider.Tracer("test").Start(t.Context(), id)
		ids[id] = s.SpanContext().TraceID()
		_ = cfg.Codes.Put(ctx, auth.Code{}, event.Event{ID: id}) // what became of it does not matter
	}
	for _, id := range []string{"1", "2", "3"} {
		require.Error(t, cfg.Publisher.Publish(t.Context(), event.Event{ID: id, Type: id, Topic: "mail"}))
	}
	assert.False(t, span(t, kept, "publish 1").Parent.IsValid(), "two are remembered, and it was the first")
	for _, id := range []string{"2", "3"} {
		s := span(t, kept, "publish "+id)
		assert.Equal(t, ids[id], s.SpanContext.TraceID())
		assert.Equal(t, codes.Error, s.Status.Code)
	}
}

func TestWhatIsMissingIsRefused(t *testing.T) {
	t.Parallel()
	_, err := otel.New(otel.Config{})
	require.ErrorContains(t, err, "Provider is missing")
	_, err = otel.New(otel.Config{Provider: sdk.NewTracerProvider(), MaxPending: -1})
	require.ErrorContains(t, err, "MaxPending")
}
