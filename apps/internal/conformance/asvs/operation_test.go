package asvs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/passhash"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/run"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit/system"
)

// operation is what is kept, sent and told: chapters 11, 14 and 16.
var operation = []requirement{
	{
		id: "11.4.2", asks: "passwords are kept by a function that is dear to compute",
		does:  "Argon2id with 19 MiB, 2 passes and a salt each; bcrypt of before is verified, and replaced at the next sign-in.",
		check: hashes,
	},
	{
		id: "11.5.1", asks: "what nobody may guess comes from a cryptographic source of at least 128 bits",
		does:  "crypto/rand everywhere; the predictable source is used for pauses and in load generators only, and a test reads the imports.",
		check: randomness,
	},
	{
		id: "14.2.1", asks: "nothing secret stands in an address",
		does:  "Tokens and passwords are in headers and bodies. In addresses there are a mailed code, which its page's button uses up, and a socket's ticket, which serves once. PARLEY_SOCKETIO_QUERY_TOKEN=off refuses the access token that old front ends of Socket.IO put into the query; until it is set they may. Logs never have queries.",
		check: addresses,
	},
	{
		id: "16.5.1", asks: "an unexpected failure tells nothing of the inside",
		does:  "The answer is a problem with a code and words for clients; what failed is in the log alone, and a panic ends the request, not the program.",
		check: failures,
	},
}

func hashes(t *testing.T, o opener) {
	hasher, err := passhash.New(passhash.Config{})
	require.NoError(t, err)
	var users user.Repository
	w := o.start(t, func(cfg *system.Config) {
		more := cfg.Ports
		cfg.Ports = func(p *parley.Ports) {
			more(p)
			users, p.Hasher = p.Users, hasher
		}
	})
	ada, bob := w.user("Ada"), w.user("Bob")
	var kept []string
	for _, u := range []system.User{ada, bob} {
		stored, err := users.ByID(t.Context(), user.ID(u.ID))
		require.NoError(t, err)
		require.Regexp(t, `^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22,}\$[A-Za-z0-9+/]{43,}$`, stored.PasswordHash)
		require.NotContains(t, stored.PasswordHash, u.Password)
		kept = append(kept, stored.PasswordHash)
	}
	require.NotEqual(t, strings.Split(kept[0], "$")[4], strings.Split(kept[1], "$")[4], "a salt each")
}

// root is where the module begins.
const root = "../../../.."

// predictable are the packages that may use math/rand: they pause, spread and load.
var predictable = []string{"core/mail", "adapters/mongostore", "adapters/bunstore", "adapters/wsclient", "apps/internal/campaign", "apps/internal/bench"}

func randomness(t *testing.T, o opener) {
	// Two systems that do the same make nothing that is the same.
	seen := map[string]bool{}
	for i := range 2 {
		w := o.start(t, nil)
		w.name += fmt.Sprint("-", i)
		u := w.unverified("Ada")
		code := w.Code(t, u.Email, 1)
		w.Call(t, http.MethodPost, "/auth/verify", "", fields{"code": code}, http.StatusOK, nil)
		w.SignIn(t, &u)
		for _, secret := range append(strings.Split(u.RefreshToken, "."), code, w.kid) {
			require.False(t, seen[secret], "the other system made it as well: %s", secret)
			seen[secret] = true
		}
	}
	var users []string
	for _, top := range []string{"core", "adapters", "apps"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(root, top), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			require.NoError(t, err)
			for _, i := range file.Imports {
				if strings.Contains(i.Path.Value, "math/rand") {
					name, err := filepath.Rel(root, filepath.Dir(path))
					require.NoError(t, err)
					users = append(users, filepath.ToSlash(name))
				}
			}
			return nil
		}))
	}
	for _, name := range users {
		assert.True(t, slices.ContainsFunc(predictable, func(p string) bool { return name == p || strings.HasPrefix(name, p+"/") }), "%s uses math/rand", name)
		for _, never := range []string{"core/auth", "core/user", "adapters/jwtauth", "adapters/passhash"} {
			assert.NotEqual(t, never, name)
		}
	}
}

func addresses(t *testing.T, o opener) {
	var out, problems bytes.Buffer
	for _, args := range [][]string{{"openapi"}, {"openapi", "--admin"}} {
		out.Reset()
		require.Zero(t, run.Main(config.Parley, args, nil, &out, &problems), problems.String())
		var document struct {
			Paths map[string]map[string]struct {
				Parameters []struct{ Name, In string }
			}
		}
		require.NoError(t, yaml.Unmarshal(out.Bytes(), &document))
		require.NotEmpty(t, document.Paths)
		for path, operations := range document.Paths {
			for method, operation := range operations {
				for _, p := range operation.Parameters {
					if p.In != "query" {
						continue
					}
					if p.Name == "code" { // of a mail's link: fetching it uses nothing up
						assert.Equal(t, "get", method, path)
						assert.Contains(t, []string{"/auth/verify", "/auth/password/reset", "/auth/link"}, path)
						continue
					}
					for _, secret := range []string{"token", "password", "secret", "bearer", "email"} {
						assert.NotContains(t, strings.ToLower(p.Name), secret, "%s %s", method, path)
					}
				}
			}
		}
	}
	w := o.start(t, func(cfg *system.Config) { cfg.SocketIO, cfg.NoQueryToken = true, true })
	ada := w.user("Ada")
	// A socket takes no access token in its address, under any name.
	for _, name := range []string{"authorization", "token", "access_token", "accessToken", "bearer", "ticket", "auth"} {
		for _, value := range []string{ada.AccessToken, "bearer " + ada.AccessToken} {
			query := url.Values{name: {value}}.Encode()
			status, _ := polled(t, http.MethodGet, w.URL+"/socket?"+query, "")
			assert.Equal(t, http.StatusUnauthorized, status, name)
			assert.Contains(t, entered(t, w.URL+"/socket.io/?EIO=4&transport=polling&"+query, "40"), "no_credentials", name)
		}
	}
	assert.Contains(t, entered(t, w.URL+"/socket.io/?EIO=4&transport=polling", `40{"token":"bearer `+ada.AccessToken+`"}`), `40{"sid":`)
	assert.NotContains(t, w.log.String(), ada.AccessToken)
}

// entered connects to the main namespace of Socket.IO over polling, and returns the server's answer.
func entered(t *testing.T, address, connect string) string {
	t.Helper()
	status, opened := polled(t, http.MethodGet, address, "")
	require.Equal(t, http.StatusOK, status, opened)
	var session struct{ Sid string }
	require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(opened, "0")), &session), opened)
	address += "&sid=" + session.Sid
	status, _ = polled(t, http.MethodPost, address, connect)
	require.Equal(t, http.StatusOK, status)
	_, answer := polled(t, http.MethodGet, address, "")
	return answer
}

func polled(t *testing.T, method, address, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	require.NoError(t, err)
	if strings.Contains(address, "/socket?") {
		for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "parley.v1"} {
			r.Header.Set(name, value)
		}
	}
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text)
}

// broken fails at what a test chooses, in words that nobody outside may read.
type broken struct {
	chat.Rooms
	how *atomic.Int32 // 1: an error; 2: a panic
}

var errInside = errors.New("pq: password authentication failed for user parley at 10.1.2.3, hunter2")

func (b broken) List(ctx context.Context, after string, limit int) ([]chat.Room, error) {
	switch b.how.Load() {
	case 1:
		return nil, errInside
	case 2:
		panic(errInside)
	}
	return b.Rooms.List(ctx, after, limit)
}

func failures(t *testing.T, o opener) {
	var how atomic.Int32
	w := o.start(t, func(cfg *system.Config) {
		more := cfg.Ports
		cfg.Ports = func(p *parley.Ports) {
			more(p)
			p.Rooms = broken{p.Rooms, &how}
		}
	})
	ada := w.user("Ada")
	for _, n := range []int32{1, 2} {
		how.Store(n)
		a := w.ask(http.MethodGet, "/rooms", ada.AccessToken, nil)
		require.GreaterOrEqual(t, a.Status, 500)
		require.Equal(t, "application/problem+json", a.Header.Get("Content-Type"))
		for _, secret := range []string{"pq:", "hunter2", "10.1.2.3", "goroutine", ".go:", "chat.", "panic"} {
			require.NotContains(t, string(a.Body), secret)
		}
		require.Contains(t, w.log.String(), "hunter2", "operators are told")
	}
	how.Store(0)
	require.Equal(t, http.StatusOK, w.ask(http.MethodGet, "/rooms", ada.AccessToken, nil).Status, "it goes on")
}
