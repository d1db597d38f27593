package socket_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// doorman knows one token and one ticket.
type doorman struct{}

func (doorman) Token(_ context.Context, token string) (user.Identity, error) {
	if token != "good" {
		return user.Identity{}, fault.Unauthenticated
	}
	return user.Identity{UserID: "by token"}, nil
}

func (doorman) Ticket(ctx context.Context, ticket string) (user.Identity, error) {
	switch ticket {
	case "good":
		return user.Identity{UserID: "by ticket"}, nil
	case "slow":
		<-ctx.Done()
		return user.Identity{}, ctx.Err()
	}
	return user.Identity{}, fault.Unauthenticated
}

func TestHandshake(t *testing.T) {
	type header map[string][]string
	for name, c := range map[string]struct {
		query  string
		header header
		want   string // the user
		proto  string
		err    error
	}{
		"nothing":                     {"", nil, "", "", socket.ErrNoCredentials},
		"header":                      {"", header{"Authorization": {"Bearer good"}}, "by token", "", nil},
		"header in another case":      {"", header{"Authorization": {"bearer good"}}, "by token", "", nil},
		"wrong token":                 {"", header{"Authorization": {"Bearer bad"}}, "", "", fault.Unauthenticated},
		"wrong scheme":                {"", header{"Authorization": {"Basic good"}}, "", "", fault.Unauthenticated},
		"header goes before a ticket": {"?ticket=good", header{"Authorization": {"Bearer bad"}}, "", "", fault.Unauthenticated},
		"ticket":                      {"?ticket=good", nil, "by ticket", "", nil},
		"wrong ticket":                {"?ticket=bad", nil, "", "", fault.Unauthenticated},
		"slow authentication":         {"?ticket=slow", nil, "", "", fault.Unavailable},
		"protocol":                    {"?ticket=good", header{"Sec-Websocket-Protocol": {"x, parley.v1"}}, "by ticket", "parley.v1", nil},
		"unknown protocol":            {"?ticket=good", header{"Sec-Websocket-Protocol": {"x"}}, "", "", socket.ErrProtocol},
		"token as protocol":           {"", header{"Sec-Websocket-Protocol": {"bearer.good, parley.v1"}}, "by token", "parley.v1", nil},
		"token alone as protocol":     {"", header{"Sec-Websocket-Protocol": {"bearer.good"}}, "by token", "", nil},
		"own origin":                  {"?ticket=good", header{"Origin": {"https://chat.example.com"}}, "by ticket", "", nil},
		"listed origin":               {"?ticket=good", header{"Origin": {"https://front.example.com"}}, "by ticket", "", nil},
		"listed host, other scheme":   {"?ticket=good", header{"Origin": {"http://front.example.com"}}, "", "", socket.ErrOrigin},
		"foreign origin":              {"?ticket=good", header{"Origin": {"https://evil.example.com"}}, "", "", socket.ErrOrigin},
		"origin that looks alike":     {"?ticket=good", header{"Origin": {"https://chat.example.com.evil.example"}}, "", "", socket.ErrOrigin},
		"opaque origin":               {"?ticket=good", header{"Origin": {"null"}}, "", "", socket.ErrOrigin},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := socket.NewHandshake(socket.HandshakeConfig{
				Authenticator: doorman{}, Origins: []string{"https://front.example.com/"}, Timeout: time.Millisecond,
			})
			require.NoError(t, err)
			r := httptest.NewRequest("GET", "https://chat.example.com/socket"+c.query, nil)
			for k, v := range c.header {
				r.Header[k] = v
			}
			hello, err := h.Check(r)
			if c.err != nil {
				assert.Equal(t, fault.KindOf(c.err), fault.KindOf(err), "%v", err)
				return
			}
			require.NoError(t, err)
			assert.EqualValues(t, c.want, hello.Identity.UserID)
			assert.Equal(t, c.proto, hello.Protocol)
		})
	}
}

func TestAHandshakeChoosesWhatTheClientOffersFirst(t *testing.T) {
	h, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: doorman{}, Protocols: []string{"parley.v1", "parley.v2"}})
	require.NoError(t, err)
	for offered, want := range map[string]string{
		"parley.v1": "parley.v1", "parley.v2": "parley.v2", "x, parley.v2, parley.v1": "parley.v2", "bearer.good": "", "": "",
	} {
		r := httptest.NewRequest("GET", "/socket?ticket=good", nil)
		if offered != "" {
			r.Header.Set("Sec-WebSocket-Protocol", offered)
		}
		hello, err := h.Check(r)
		require.NoError(t, err)
		assert.Equal(t, want, hello.Protocol, offered)
	}
	r := httptest.NewRequest("GET", "/socket?ticket=good", nil)
	r.Header.Set("Sec-WebSocket-Protocol", "parley.v3")
	_, err = h.Check(r)
	assert.ErrorIs(t, err, socket.ErrProtocol)
	assert.Equal(t, "this server speaks parley.v1, parley.v2", fault.Public(err).Detail)
	for _, name := range []string{"", "a b", "a,b", "é", "bearer.x"} {
		_, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: doorman{}, Protocols: []string{name}})
		assert.ErrorContains(t, err, "HandshakeConfig.Protocols", name)
	}
}

func TestHandshakeRefusesEverybodyWhileDraining(t *testing.T) {
	h, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: doorman{}, Draining: func() bool { return true }})
	require.NoError(t, err)
	_, err = h.Check(httptest.NewRequest("GET", "/socket?ticket=good", nil))
	assert.ErrorIs(t, err, socket.ErrDraining)
}

func TestNewHandshakeChecksItsConfiguration(t *testing.T) {
	_, err := socket.NewHandshake(socket.HandshakeConfig{})
	require.ErrorContains(t, err, "Authenticator")
	for _, origin := range []string{"chat.example.com", "https://chat.example.com/path", "https://", ""} {
		_, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: doorman{}, Origins: []string{origin}})
		assert.ErrorContains(t, err, "Origins", origin)
	}
}

func TestAHandshakeHasNoBody(t *testing.T) {
	h, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: doorman{}})
	require.NoError(t, err)
	ready := make(chan struct{})
	close(ready)
	for body, want := range map[string]int{"": http.StatusOK, "hello": http.StatusUnprocessableEntity} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/socket?ticket=good", strings.NewReader(body))
		for name, value := range map[string]string{
			"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
		} {
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		_, ok := h.Admit(w, r, ready)
		assert.Equal(t, want == http.StatusOK, ok)
		assert.Equal(t, want, w.Code)
		if !ok {
			assert.Equal(t, "close", w.Header().Get("Connection"), "what is left of the body is not waited for")
			assert.Contains(t, w.Body.String(), "websocket_body")
		}
	}
}

// TestEveryRefusalHasTheSecurityHeaders: no browser takes one for a page, or keeps it.
func TestEveryRefusalHasTheSecurityHeaders(t *testing.T) {
	t.Parallel()
	running, never := make(chan struct{}), make(chan struct{})
	close(running)
	good := map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
	for name, c := range map[string]struct {
		target, header, value string
		body                  string
		ready                 chan struct{}
		want                  int
	}{
		"no handshake":      {"/socket?ticket=good", "Upgrade", "", "", running, http.StatusUpgradeRequired},
		"an old version":    {"/socket?ticket=good", "Sec-WebSocket-Version", "8", "", running, http.StatusUpgradeRequired},
		"a bad key":         {"/socket?ticket=good", "Sec-WebSocket-Key", "short", "", running, http.StatusUnprocessableEntity},
		"a body":            {"/socket?ticket=good", "X", "", "hello", running, http.StatusUnprocessableEntity},
		"no credentials":    {"/socket", "X", "", "", running, http.StatusUnauthorized},
		"a foreign origin":  {"/socket?ticket=good", "Origin", "https://evil.example", "", running, http.StatusForbidden},
		"another protocol":  {"/socket?ticket=good", "Sec-WebSocket-Protocol", "chat", "", running, http.StatusUnprocessableEntity},
		"one that runs not": {"/socket?ticket=good", "X", "", "", never, http.StatusServiceUnavailable},
	} {
		h, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: doorman{}})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		if c.ready == never {
			cancel() // nobody waits until it runs
		}
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, c.target, strings.NewReader(c.body))
		for name, value := range good {
			r.Header.Set(name, value)
		}
		r.Header.Set(c.header, c.value)
		w := httptest.NewRecorder()
		_, ok := h.Admit(w, r, c.ready)
		cancel()
		assert.False(t, ok, name)
		assert.Equal(t, c.want, w.Code, "%s: %s", name, w.Body)
		assert.Equal(t, "application/problem+json", w.Header().Get("Content-Type"), name)
		for _, header := range []string{"Cache-Control", "Content-Security-Policy", "Referrer-Policy", "X-Content-Type-Options", "X-Frame-Options"} {
			assert.NotEmpty(t, w.Header().Get(header), "%s: %s", name, header)
		}
	}
}
