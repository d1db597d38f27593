package webhook_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/webhook"
	"github.com/parley-chat/parley/core/fault"
	hooks "github.com/parley-chat/parley/core/webhook"
)

const (
	first  = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	second = "whsec_bmV3ZXIgc2VjcmV0IG9mIDI0IGJ5dGVz"
)

func newEndpoint(t *testing.T, cfg webhook.EndpointConfig) *webhook.Endpoint {
	t.Helper()
	if cfg.Secrets == nil {
		cfg.Secrets = []string{first}
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	cfg.Private = true
	e, err := webhook.NewEndpoint(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

func serving(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

var one = hooks.Delivery{ID: "fact-1", Body: []byte(`{"type":"user.created","timestamp":"2026-05-04T03:02:01.000000Z","data":{"secret":"hunter2"}}`)}

func TestADeliveryIsSignedByEverySecret(t *testing.T) {
	t.Parallel()
	known := atomic.Value{}
	known.Store([]string{first})
	var ids sync.Map
	s := serving(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		ids.Store(r.Header.Get("Webhook-Id"), string(body))
		if r.Method != http.MethodPost || r.URL.Path != "/hooks" || r.Header.Get("Content-Type") != "application/json" ||
			webhook.Verify(known.Load().([]string), r.Header, body, time.Now()) != nil {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	e := newEndpoint(t, webhook.EndpointConfig{URL: s.URL + "/hooks"})
	deliver := func() error { return e.Deliver(t.Context(), one, func() {}) }
	require.NoError(t, deliver())
	body, _ := ids.Load("fact-1")
	require.Equal(t, string(one.Body), body)
	// It rotates: both, then the server knows the new one alone, then the new one alone.
	require.NoError(t, e.SetSecrets([]string{first, second}))
	require.NoError(t, deliver())
	known.Store([]string{second})
	require.NoError(t, deliver())
	require.NoError(t, e.SetSecrets([]string{second}))
	require.NoError(t, deliver())
	require.NoError(t, e.SetSecrets([]string{first}))
	require.ErrorContains(t, deliver(), "401")
	require.Error(t, e.SetSecrets([]string{"hunter2"}))
}

func TestWhatAServerAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		as     error // nil is any other failure
		taken  bool
	}{
		{200, nil, true}, {201, nil, true}, {202, nil, true}, {204, nil, true},
		{301, nil, false}, {302, nil, false}, {307, nil, false}, {308, nil, false},
		{400, nil, false}, {401, nil, false}, {404, nil, false}, {410, hooks.ErrGone, false}, {429, hooks.ErrThrottled, false},
		{500, nil, false}, {502, nil, false}, {503, nil, false},
	} {
		var elsewhere, asked atomic.Int64
		other := serving(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
		s := serving(t, func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			w.Header().Set("Location", other.URL)
			w.WriteHeader(c.status)
			if c.status != http.StatusNoContent {
				_, _ = io.WriteString(w, "hunter2")
			}
		})
		e := newEndpoint(t, webhook.EndpointConfig{URL: s.URL})
		begun := 0
		err := e.Deliver(t.Context(), one, func() { begun++ })
		assert.EqualValues(t, 1, asked.Load(), "%d", c.status)
		assert.Zero(t, elsewhere.Load(), "%d: a redirect was followed", c.status)
		assert.Equal(t, 1, begun, "%d", c.status)
		if c.taken {
			assert.NoError(t, err, "%d", c.status)
			continue
		}
		require.Error(t, err, "%d", c.status)
		for _, as := range []error{hooks.ErrGone, hooks.ErrUntried, hooks.ErrThrottled} {
			assert.Equal(t, c.as != nil && errors.Is(c.as, as), errors.Is(err, as), "%d: %v", c.status, err)
		}
		assert.NotContains(t, err.Error(), "hunter2")
		assert.NotContains(t, err.Error(), "mail")
	}
}

func TestAServerThatHangsOrDrops(t *testing.T) {
	t.Parallel()
	t.Run("hangs", func(t *testing.T) {
		t.Parallel()
		s := serving(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		})
		e := newEndpoint(t, webhook.EndpointConfig{URL: s.URL, Timeout: 50 * time.Millisecond})
		begun := 0
		err := e.Deliver(t.Context(), one, func() { begun++ })
		require.Error(t, err)
		require.NotErrorIs(t, err, hooks.ErrUntried) // the server may have taken it
		require.Equal(t, 1, begun)
		ctx, cancel := context.WithCancel(t.Context())
		e = newEndpoint(t, webhook.EndpointConfig{URL: s.URL})
		require.ErrorIs(t, e.Deliver(ctx, one, cancel), context.Canceled)
	})
	t.Run("drops", func(t *testing.T) {
		t.Parallel()
		s := serving(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_ = conn.Close()
			}
		})
		err := newEndpoint(t, webhook.EndpointConfig{URL: s.URL}).Deliver(t.Context(), one, func() {})
		require.Error(t, err)
		require.NotErrorIs(t, err, hooks.ErrUntried)
	})
	t.Run("is not there", func(t *testing.T) {
		t.Parallel()
		e := newEndpoint(t, webhook.EndpointConfig{URL: "http://127.0.0.1:1/?key=hunter2"})
		begun := 0
		err := e.Deliver(t.Context(), one, func() { begun++ })
		require.ErrorIs(t, err, hooks.ErrUntried)
		require.NotContains(t, err.Error(), "hunter2")
		require.Zero(t, begun)
		require.Error(t, e.Check(t.Context()))
	})
	t.Run("answers without end", func(t *testing.T) {
		t.Parallel()
		s := serving(t, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat("x", 4096)); err != nil {
					return
				}
			}
		})
		require.NoError(t, newEndpoint(t, webhook.EndpointConfig{URL: s.URL}).Deliver(t.Context(), one, func() {}))
	})
}

func TestAnEndpointChecksByConnecting(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	count := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	s := serving(t, count)
	require.NoError(t, newEndpoint(t, webhook.EndpointConfig{URL: s.URL}).Check(t.Context()))

	secure := httptest.NewTLSServer(count)
	t.Cleanup(secure.Close)
	e := newEndpoint(t, webhook.EndpointConfig{URL: secure.URL})
	require.Error(t, e.Check(t.Context()), "its certificate is of nobody who is known")
	require.Error(t, e.Deliver(t.Context(), one, func() {}))
	webhook.TrustOf(e, secure.Client().Transport.(*http.Transport))
	require.NoError(t, e.Check(t.Context()))
	require.Zero(t, asked.Load())
	require.NoError(t, e.Deliver(t.Context(), one, func() {}))

	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	require.Error(t, newEndpoint(t, webhook.EndpointConfig{URL: "https://" + silent.Addr().String(), Timeout: 50 * time.Millisecond}).Check(t.Context()))
}

func TestAnEndpointConnectsToNoPrivateAddress(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was asked") }))
	t.Cleanup(s.Close)
	e, err := webhook.NewEndpoint(webhook.EndpointConfig{URL: s.URL, Secrets: []string{first}})
	require.NoError(t, err)
	webhook.TrustOf(e, s.Client().Transport.(*http.Transport))
	err = e.Deliver(t.Context(), one, func() {})
	require.ErrorContains(t, err, "private addresses are not allowed")
	require.ErrorIs(t, err, hooks.ErrUntried) // it waits until somebody allows it
	require.ErrorContains(t, e.Check(t.Context()), "private addresses are not allowed")
}

func TestNewEndpointChecksEverythingAtOnce(t *testing.T) {
	t.Parallel()
	_, err := webhook.NewEndpoint(webhook.EndpointConfig{Timeout: -1})
	for _, want := range []string{"URL is missing", "Secrets is missing", "Timeout"} {
		assert.ErrorContains(t, err, want)
	}
	_, err = webhook.NewEndpoint(webhook.EndpointConfig{URL: "http://example.com", Secrets: []string{"hunter2"}})
	assert.ErrorContains(t, err, "URL")
	assert.ErrorContains(t, err, "Secrets")
	assert.NotContains(t, err.Error(), "hunter2")
	assert.Equal(t, fault.Unavailable, fault.KindOf(hooks.ErrUntried))
}
