package wire

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/renewclient"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
)

// authService is auth in this process, without a bus for others to hear.
func authService(t *testing.T) (*App, *httptest.Server) {
	t.Helper()
	s, _, err := config.Load(config.Auth, []string{"--store", "memory:", "--bus", "kafka://localhost:1", "--data", t.TempDir(), "--docs-password", "x", "--admin-token", "open-sesame-open-sesame"}, nil, t.Output())
	require.NoError(t, err)
	s.Bus = "memory:"
	a, err := New(t.Context(), s, "http://localhost", "localhost:1", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	server := httptest.NewServer(a.Handler)
	t.Cleanup(func() { server.Close(); require.NoError(t, a.Close()) })
	return a, server
}

func TestAMailerElsewhereGetsAFreshCode(t *testing.T) {
	a, server := authService(t)
	post := func(path string, body any) int {
		text, err := json.Marshal(body)
		require.NoError(t, err)
		res, err := http.Post(server.URL+path, "application/json", bytes.NewReader(text))
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode
	}
	require.Equal(t, http.StatusAccepted, post("/auth/signup", map[string]any{"fullName": "Ada", "email": "ada@example.com", "password": "a long pass phrase"}))
	events, err := a.ports.Outbox.Pending(t.Context(), 1)
	require.NoError(t, err)
	var old mail.UserCreated
	require.NoError(t, json.Unmarshal(events[0].Data, &old))

	// The address is the default of a mailer's setting.
	s, _, err := config.Load(config.Mailer, []string{"--bus", "kafka://localhost:1", "--jwks-url", server.URL + "/.well-known/jwks.json"}, nil, t.Output())
	require.NoError(t, err)
	token := "open-sesame-open-sesame"
	client, err := renewclient.New(renewclient.Config{URL: s.RenewURL, Token: func() string { return token }})
	require.NoError(t, err)
	job := mail.Job{Kind: mail.KindVerification, Data: events[0].Data}
	data, err := client.Renew(t.Context(), job)
	require.NoError(t, err)
	assert.Empty(t, data, "the code is still good")

	old.ExpiresAt = time.Now().Add(-time.Minute)
	job.Data, err = json.Marshal(old)
	require.NoError(t, err)
	data, err = client.Renew(t.Context(), job)
	require.NoError(t, err)
	var fresh mail.UserCreated
	require.NoError(t, json.Unmarshal(data, &fresh))
	assert.NotEqual(t, old.VerificationCode, fresh.VerificationCode)
	assert.Equal(t, http.StatusOK, post("/auth/verify", map[string]any{"code": fresh.VerificationCode}))

	token = "guess"
	_, err = client.Renew(t.Context(), job)
	require.ErrorIs(t, err, fault.Unavailable)
	assert.ErrorContains(t, err, "401", "who runs both sees what is wrong")
}
