package tokens_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/wire"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// patience is how long anything may take that should come.
const patience = 30 * time.Second

// serve runs a program of these settings on a real listener.
func serve(t *testing.T, s config.Settings) (url string) {
	t.Helper()
	return serveWith(t, s, func(*wire.App) {})
}

// serveWith is serve, and shows the program before it runs.
func serveWith(t *testing.T, s config.Settings, show func(*wire.App)) (url string) {
	t.Helper()
	var handler atomic.Pointer[http.Handler]
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*handler.Load()).ServeHTTP(w, r) }))
	app, err := wire.New(t.Context(), s, "http://"+server.Listener.Addr().String(), server.Listener.Addr().String(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	handler.Store(&app.Handler)
	show(app)
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- app.Run(ctx, func() { close(ready) }) }()
	<-ready
	server.Start()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ended)
		server.CloseClientConnections()
		server.Close()
		assert.NoError(t, app.Close())
	})
	return server.URL
}

// node is a socket node that believes the issuer, and has no auth service.
func node(t *testing.T, i *issuer, more ...string) (url string) {
	t.Helper()
	s, _, err := config.Load(config.Socket, append([]string{
		"--store", "memory:", "--bus", "kafka://localhost:1", "--data", t.TempDir(), "--docs-password", "x", "--drain-timeout", "1s",
		"--oidc-issuer", i.name(), "--oidc-audience", audience, "--oidc-role-claim", "realm_access.roles", "--oidc-admin-role", "chat-admin",
	}, more...), nil, t.Output())
	require.NoError(t, err)
	s.Bus = "memory:" // there is nobody else
	return serve(t, s)
}

// shake asks for a socket, and returns the status of the answer.
func shake(t *testing.T, url, path string, headers ...string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+path, nil)
	require.NoError(t, err)
	for n, pair := 0, append([]string{
		"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "MDEyMzQ1Njc4OWFiY2RlZg==",
	}, headers...); n < len(pair); n += 2 {
		r.Header.Set(pair[n], pair[n+1])
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	return answer.StatusCode
}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// People of another issuer talk at a node that has no auth service, by each of the ways in which tokens are given.
func TestOpenIDUsersTalkWithoutTheAuthService(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"RS256", "ES256", "PS256", "EdDSA"} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			key := newSigner(t, algorithm, "key-1")
			i := newIssuer(t, key)
			url := node(t, i)
			heard := make(chan wsclient.Event, 16)
			dial := func(sub string, handle func(wsclient.Event)) *wsclient.Client {
				c, err := wsclient.Dial(t.Context(), wsclient.Config{
					URL: "ws" + strings.TrimPrefix(url, "http") + "/socket", Handle: handle,
					Token: func(context.Context) (string, error) { return i.access(key, sub, nil), nil },
				})
				require.NoError(t, err)
				t.Cleanup(c.Close)
				_, err = c.Join(t.Context(), "lobby")
				require.NoError(t, err)
				return c
			}
			dial("auth0|ada", func(e wsclient.Event) {
				if e.Kind == wsclient.EventMessage {
					heard <- e
				}
			})
			bob := dial("bob", func(wsclient.Event) {})
			_, err := bob.Send(t.Context(), "lobby", "hello")
			require.NoError(t, err)
			select {
			case e := <-heard:
				assert.Equal(t, "hello", e.Message.Text)
				assert.Equal(t, "bob", e.Message.User.ID)
				assert.Equal(t, "Name of bob", e.Message.User.Name)
			case <-time.After(patience):
				t.Fatal("nobody heard it")
			}
			assert.EqualValues(t, 1, i.fetches.Load(), "keys that are known are not fetched again")
			assert.Equal(t, http.StatusSwitchingProtocols, shake(t, url, "/socket", "Sec-WebSocket-Protocol", "parley.v1, bearer."+i.access(key, "eve", nil)))
			assert.Equal(t, http.StatusSwitchingProtocols, shake(t, url, "/socket", append(bearer(i.access(key, "eve", nil)), "Sec-WebSocket-Protocol", "parley.v1")...))
			assert.Equal(t, http.StatusUnauthorized, shake(t, url, "/socket?ticket="+i.access(key, "eve", nil)), "there are no tickets")
			assert.Equal(t, http.StatusUnauthorized, shake(t, url, "/socket", bearer(i.access(key, "eve", object{"aud": "another"}))...))
		})
	}
}

// While the issuer is away nobody new comes in by a key that is not known, with 503 and not 401; as soon as it is there they do.
func TestANodeWhoseIssuerIsNotThere(t *testing.T) {
	t.Parallel()
	key := newSigner(t, "RS256", "key-1")
	i := newIssuer(t, key)
	i.set(func() {
		i.discovery = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
	})
	url := node(t, i)
	token := i.access(key, "ada", nil)
	assert.Equal(t, http.StatusServiceUnavailable, shake(t, url, "/socket", bearer(token)...))
	ready, err := http.Get(url + "/readyz")
	require.NoError(t, err)
	require.NoError(t, ready.Body.Close())
	assert.Equal(t, http.StatusServiceUnavailable, ready.StatusCode)
	i.set(func() { i.discovery = nil })
	require.Eventually(t, func() bool { return shake(t, url, "/socket", bearer(token)...) == http.StatusSwitchingProtocols }, patience, 50*time.Millisecond)
}

// verifier is one with a clock that the test moves.
func verifier(t testing.TB, i *issuer, change ...func(*jwtauth.OpenIDConfig)) (*jwtauth.OpenIDVerifier, *atomic.Int64) {
	t.Helper()
	ahead := new(atomic.Int64)
	cfg := jwtauth.OpenIDConfig{Issuer: i.name(), Audience: audience, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }}
	for _, c := range change {
		c(&cfg)
	}
	v, err := jwtauth.NewOpenIDVerifier(cfg)
	require.NoError(t, err)
	return v, ahead
}

// Each of what a provider may do wrong is its fault, and not the token's: the answer is that it cannot be told, and nobody comes in.
func TestOpenIDProvidersThatFail(t *testing.T) {
	t.Parallel()
	key := newSigner(t, "RS256", "key-1")
	answer := func(status int, body string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = fmt.Fprint(w, body)
		}
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, i *issuer)
		says   string
	}{
		"down":             {func(_ *testing.T, i *issuer) { i.Close() }, "connection refused"},
		"late":             {func(t *testing.T, i *issuer) { i.discovery = held(t.Context()) }, "deadline exceeded"},
		"late with keys":   {func(t *testing.T, i *issuer) { i.jwks = held(t.Context()) }, "deadline exceeded"},
		"an error":         {func(_ *testing.T, i *issuer) { i.discovery = answer(500, "") }, "500 Internal Server Error"},
		"no document":      {func(_ *testing.T, i *issuer) { i.discovery = answer(404, "") }, "404"},
		"a page":           {func(_ *testing.T, i *issuer) { i.discovery = answer(200, "<html>") }, "is not a discovery document"},
		"another issuer":   {func(_ *testing.T, i *issuer) { i.discovery = i.document(object{"issuer": "https://evil.example"}) }, "evil.example"},
		"issuer and slash": {func(_ *testing.T, i *issuer) { i.discovery = i.document(object{"issuer": i.name() + "/"}) }, "is of the issuer"},
		"no issuer":        {func(_ *testing.T, i *issuer) { i.discovery = i.document(object{"issuer": ""}) }, "is of the issuer"},
		"keys over http":   {func(_ *testing.T, i *issuer) { i.discovery = i.document(object{"jwks_uri": "http://id.example/keys"}) }, "not of https"},
		"keys in a file":   {func(_ *testing.T, i *issuer) { i.discovery = i.document(object{"jwks_uri": "file:///etc/passwd"}) }, "jwks_uri"},
		"no keys":          {func(_ *testing.T, i *issuer) { i.discovery = i.document(object{"jwks_uri": ""}) }, "is missing"},
		"redirects": {func(_ *testing.T, i *issuer) {
			i.discovery = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/realm/keys", http.StatusFound) }
		}, "302 Found"},
		"redirected keys": {func(_ *testing.T, i *issuer) {
			i.jwks = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "/elsewhere", http.StatusMovedPermanently)
			}
		}, "301 Moved Permanently"},
		"a huge document": {func(_ *testing.T, i *issuer) { i.discovery = answer(200, `{"issuer":"`+strings.Repeat("x", 2<<20)) }, "more than 1048576 bytes"},
		"a huge key set":  {func(_ *testing.T, i *issuer) { i.jwks = answer(200, `{"keys":[`+strings.Repeat(" ", 2<<20)+`]}`) }, "more than 1048576 bytes"},
		"very many keys":  {func(_ *testing.T, i *issuer) { i.jwks = answer(200, `{"keys":[`+strings.Repeat("{},", 1000)+`{}]}`) }, "1001 keys"},
		"an empty set":    {func(_ *testing.T, i *issuer) { i.jwks = answer(200, `{"keys":[]}`) }, "no key that can be used"},
		"a secret as key": {func(_ *testing.T, i *issuer) {
			i.jwks = answer(200, `{"keys":[{"kty":"oct","kid":"key-1","alg":"HS256","k":"c2VjcmV0"}]}`)
		}, "no key that can be used"},
		"a small key": {func(_ *testing.T, i *issuer) {
			i.jwks = answer(200, `{"keys":[{"kty":"RSA","kid":"key-1","alg":"RS256","e":"AQAB","n":"`+strings.Repeat("_", 172)+`"}]}`)
		}, "bits, want 2048 to 8192"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIssuer(t, key)
			token := i.access(key, "ada", nil)
			v, _ := verifier(t, i, func(c *jwtauth.OpenIDConfig) { c.Timeout = 2 * time.Second })
			i.set(func() { c.change(t, i) })
			_, err := v.Verify(t.Context(), token, auth.AudienceAPI)
			require.ErrorIs(t, err, fault.Unavailable)
			require.ErrorContains(t, err, c.says)
			require.NotErrorIs(t, err, auth.ErrTokenInvalid)
			require.ErrorIs(t, v.Ready(t.Context()), fault.Unavailable)
		})
	}
}

func TestOpenIDKeysAreFollowed(t *testing.T) {
	t.Parallel()
	first, second := newSigner(t, "RS256", "key-1"), newSigner(t, "ES256", "key-2")
	i := newIssuer(t, first)
	v, ahead := verifier(t, i)
	verify := func(s *signer) error {
		_, err := v.Verify(t.Context(), i.access(s, "ada", object{"exp": time.Now().Unix() + 100_000}), auth.AudienceAPI)
		return err
	}
	require.NoError(t, verify(first))
	i.set(func() { i.keys = []*signer{first, second} })
	require.ErrorIs(t, verify(second), auth.ErrTokenInvalid, "not twice in a Pause")
	ahead.Add(int64(6 * time.Second))
	require.NoError(t, verify(second), "an unknown kid makes it ask again")
	require.EqualValues(t, 2, i.fetches.Load())
	for n := range 50 { // made-up kids
		ahead.Add(int64(100 * time.Millisecond))
		stranger := *first
		stranger.kid = fmt.Sprint("made-up-", n)
		require.ErrorIs(t, verify(&stranger), auth.ErrTokenInvalid)
	}
	assert.LessOrEqual(t, i.fetches.Load(), int64(3), "5 seconds of strangers are one question")
	require.NoError(t, verify(first))

	i.set(func() { i.keys = []*signer{second} }) // withdrawn
	ahead.Add(int64(6 * time.Minute))
	require.NoError(t, v.Ping(t.Context()))
	require.ErrorIs(t, verify(first), auth.ErrTokenInvalid)
	i.set(func() { i.discovery = i.document(object{"issuer": "https://evil.example"}) })
	ahead.Add(int64(6 * time.Minute))
	require.ErrorIs(t, v.Ping(t.Context()), fault.Unavailable)
	require.NoError(t, verify(second), "keys that are known are used while newer ones cannot be had")
	require.NoError(t, v.Ready(t.Context()))
}

func TestOpenIDClaims(t *testing.T) {
	t.Parallel()
	key := newSigner(t, "RS256", "key-1")
	i := newIssuer(t, key)
	v, _ := verifier(t, i, func(c *jwtauth.OpenIDConfig) { c.RoleClaim, c.AdminRole = "realm_access.roles", "chat-admin" })
	read := func(change object) auth.Claims {
		t.Helper()
		c, err := v.Verify(t.Context(), i.access(key, "ada", change), auth.AudienceAPI)
		require.NoError(t, err)
		return c
	}
	c := read(nil)
	assert.Equal(t, "ada/Name of ada/user/s-ada/j-ada", fmt.Sprintf("%s/%s/%s/%s/%s", c.UserID, c.Name, c.Role, c.SessionID, c.ID))
	assert.Equal(t, auth.AudienceAPI, c.Audience)
	assert.WithinDuration(t, time.Now().Add(600*time.Second), c.ExpiresAt, 10*time.Second)
	assert.Equal(t, "ada", read(object{"name": nil}).Name, "who has no name is called by their ID")
	assert.Len(t, []rune(read(object{"name": strings.Repeat("ü", 500)}).Name), user.MaxFullName)
	assert.Equal(t, "Ada Lovelace", read(object{"name": " Ada\t\n Lovelace "}).Name)
	for _, unseen := range []string{"Ada\u202eecalevoL", "Ada\x00", "\u200b\u200b", "Ada\u0007"} {
		assert.Equal(t, "ada", read(object{"name": unseen}).Name, "a name that our own users could not have: %q", unseen)
	}
	assert.Empty(t, read(object{"sid": nil, "jti": nil}).SessionID)
	assert.Equal(t, user.RoleAdmin, read(object{"realm_access": object{"roles": []string{"x", "chat-admin"}}}).Role)
	assert.Equal(t, user.RoleAdmin, read(object{"realm_access.roles": "chat-admin"}).Role)
	assert.Equal(t, user.RoleUser, read(object{"realm_access": object{"roles": []string{"admin"}}}).Role)
	assert.Equal(t, user.RoleUser, read(object{"roles": []string{"chat-admin"}}).Role)
	read(object{"aud": []string{"account", audience}})
	read(object{"iat": float64(time.Now().UnixMilli())/1000 - 1, "typ": "Bearer", "token_use": "access"})

	other, _ := verifier(t, i, func(c *jwtauth.OpenIDConfig) {
		c.UserClaim, c.NameClaim, c.Types, c.Algorithms = "uid", "preferred_username", []string{"JWT"}, []string{"RS256"}
	})
	h := header(key)
	h["typ"] = "jwt"
	c, err := other.Verify(t.Context(), key.token(h, i.claims("sub", object{"uid": "7", "preferred_username": "Ada"})), auth.AudienceAPI)
	require.NoError(t, err)
	assert.Equal(t, "7/Ada", fmt.Sprintf("%s/%s", c.UserID, c.Name))
	_, err = other.Verify(t.Context(), i.access(key, "sub", object{"uid": "7"}), auth.AudienceAPI)
	require.ErrorIs(t, err, auth.ErrTokenInvalid, "at+jwt was not among the types")
}

func TestOpenIDLeeway(t *testing.T) {
	t.Parallel()
	key := newSigner(t, "EdDSA", "key-1")
	i := newIssuer(t, key)
	v, ahead := verifier(t, i, func(c *jwtauth.OpenIDConfig) { c.Leeway = 5 * time.Second })
	at := time.Now().Unix()
	token := i.access(key, "ada", object{"iat": at, "exp": at + 600})
	for behind, ok := range map[time.Duration]bool{-20 * time.Second: false, -3 * time.Second: true, 600 * time.Second: true, 620 * time.Second: false} {
		ahead.Store(int64(behind))
		_, err := v.Verify(t.Context(), token, auth.AudienceAPI)
		assert.Equal(t, ok, err == nil, "%v: %v", behind, err)
	}
}

func TestOpenIDIssuersThatAreRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	for issuer, says := range map[string]string{
		"": "Issuer is missing", "id.example": "is not a URL", "http://id.example": "not of https", "ftp://localhost": "not of https", "https://u:p@id.example": "is not a URL",
		"https://id.example?a=b": "is not a URL", "https://id.example#a": "is not a URL", "http://127.0.0.1.evil.example": "not of https", "https://": "is not a URL",
	} {
		_, err := jwtauth.NewOpenIDVerifier(jwtauth.OpenIDConfig{Issuer: issuer, Audience: "x"})
		require.ErrorContains(t, err, says, issuer)
	}
	for _, issuer := range []string{"https://id.example/realms/x/", "http://localhost:8080", "http://127.0.0.1:1", "http://[::1]:1/x"} {
		_, err := jwtauth.NewOpenIDVerifier(jwtauth.OpenIDConfig{Issuer: issuer, Audience: "x"})
		require.NoError(t, err, issuer)
	}
	_, err := jwtauth.NewOpenIDVerifier(jwtauth.OpenIDConfig{Issuer: "https://id.example", Algorithms: []string{"HS256"}})
	require.ErrorContains(t, err, "Audience is missing")
	require.ErrorContains(t, err, `"HS256", which is none of`)
}
