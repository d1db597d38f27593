package renewclient_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/renewclient"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
)

const secret = "open-sesame-open-sesame"

var job = mail.Job{Kind: mail.KindVerification, Data: []byte(`{"verificationCode":"old"}`)}

// against returns a client of a server that answers by h.
func against(t *testing.T, h http.HandlerFunc, change func(*renewclient.Config)) (*renewclient.Client, *httptest.Server) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	cfg := renewclient.Config{URL: server.URL + "/auth/mail/renew", Token: func() string { return secret }}
	if change != nil {
		change(&cfg)
	}
	c, err := renewclient.New(cfg)
	require.NoError(t, err)
	return c, server
}

func TestRenew(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer string
		want   []byte
	}{
		"fresh data":       {`{"data":"eyJhIjoxfQ=="}`, []byte(`{"a":1}`)},
		"the old will do":  {`{}`, nil},
		"fields of others": {`{"$schema":"x","data":"YQ=="}`, []byte("a")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := against(t, func(w http.ResponseWriter, r *http.Request) {
				assert.Equal(t, http.MethodPost, r.Method)
				assert.Equal(t, "/auth/mail/renew", r.URL.Path)
				assert.Equal(t, "Bearer "+secret, r.Header.Get("Authorization"))
				assert.Equal(t, "application/json", r.Header.Get("Content-Type"))
				var in struct {
					Kind string
					Data []byte
				}
				assert.NoError(t, json.NewDecoder(r.Body).Decode(&in))
				assert.Equal(t, string(job.Kind), in.Kind)
				assert.Equal(t, job.Data, in.Data)
				_, _ = io.WriteString(w, c.answer)
			}, nil)
			got, err := client.Renew(t.Context(), job)
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}

func TestWhatNobodyNeeds(t *testing.T) {
	t.Parallel()
	client, _ := against(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"notNeeded":"100% confirmed"}`)
	}, nil)
	_, err := client.Renew(t.Context(), job)
	require.ErrorIs(t, err, mail.ErrNotNeeded)
	assert.Equal(t, "100% confirmed", fault.Public(err).Detail)
}

func TestRenewFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		says   string
	}{
		"refused":         {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, "401"},
		"another service": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, "404"},
		"sent elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
		}, "307"},
		"no JSON":            {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hunter2") }, "JSON"},
		"JSON of other type": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"data":"hunter2!"}`) }, "JSON"},
		"cut short": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			_, _ = io.WriteString(w, "{}")
		}, "EOF"},
		"too long": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `{"data":%q}`, strings.Repeat("aaaa", 1<<18))
		}, "more than 1048576 bytes"},
		"cut off": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := against(t, c.answer, nil)
			_, err := client.Renew(t.Context(), job)
			require.ErrorIs(t, err, fault.Unavailable)
			assert.ErrorContains(t, err, c.says)
			assert.NotContains(t, err.Error(), secret)
			assert.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestRenewEnds(t *testing.T) {
	t.Parallel()
	// waits answers nothing before the client has gone.
	waits := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // net/http notices only then that the client has gone
		<-r.Context().Done()
	}
	t.Run("by its time-out", func(t *testing.T) {
		t.Parallel()
		client, _ := against(t, waits, func(c *renewclient.Config) { c.Timeout = time.Millisecond })
		_, err := client.Renew(t.Context(), job)
		require.ErrorIs(t, err, fault.Unavailable)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
	t.Run("by its context", func(t *testing.T) {
		t.Parallel()
		asked := make(chan struct{})
		client, _ := against(t, func(w http.ResponseWriter, r *http.Request) { close(asked); waits(w, r) }, nil)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-asked; cancel() }()
		_, err := client.Renew(ctx, job)
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("when nobody listens", func(t *testing.T) {
		t.Parallel()
		client, server := against(t, nil, nil)
		server.Close()
		_, err := client.Renew(t.Context(), job)
		require.ErrorIs(t, err, fault.Unavailable)
	})
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, u := range []string{"", "auth:5002", "ftp://auth/", "http://", "http://a b/"} {
		_, err := renewclient.New(renewclient.Config{URL: u, Timeout: -1})
		for _, field := range []string{"URL", "Token", "Timeout"} {
			assert.ErrorContains(t, err, field, u)
		}
	}
}
