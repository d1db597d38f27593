package asvs_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/adapters/passlist"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit"
	"github.com/parley-chat/parley/testkit/servers"
	"github.com/parley-chat/parley/testkit/system"
	"github.com/parley-chat/parley/testkit/wsraw"
)

// patience bounds each thing that a test waits for.
const patience = 30 * time.Second

// stores makes an empty store of each kind, and returns what opens it. nil is the memory of each system.
var stores = map[string]func(t *testing.T) func(t *testing.T) opened{
	"memory": func(*testing.T) func(*testing.T) opened { return nil },
	"SQLite": func(t *testing.T) func(*testing.T) opened {
		file := filepath.Join(t.TempDir(), "parley.db")
		return sql(func(ctx context.Context) (*bunstore.Store, error) {
			return bunstore.OpenSQLite(ctx, file, bunstore.SQLiteConfig{RelaxedSync: true})
		})
	},
	"PostgreSQL": func(t *testing.T) func(*testing.T) opened {
		url := servers.Postgres(t)
		return sql(func(ctx context.Context) (*bunstore.Store, error) {
			return bunstore.OpenPostgres(ctx, url, bunstore.Config{})
		})
	},
	"MariaDB": func(t *testing.T) func(*testing.T) opened {
		url := servers.MySQL(t)
		return sql(func(ctx context.Context) (*bunstore.Store, error) {
			return bunstore.OpenMySQL(ctx, url, bunstore.Config{})
		})
	},
	"Mongo": func(t *testing.T) func(*testing.T) opened {
		url := servers.Mongo(t, func(ctx context.Context, url string) error {
			parsed, err := connstring.ParseAndValidate(url)
			if err != nil {
				return err
			}
			client, err := mongo.Connect(options.Client().ApplyURI(url))
			if err != nil {
				return err
			}
			return errors.Join(client.Database(parsed.Database).Drop(ctx), client.Disconnect(ctx))
		})
		return func(t *testing.T) opened {
			s, err := mongostore.Open(t.Context(), url, mongostore.Config{ConnectTimeout: time.Minute})
			require.NoError(t, err)
			require.NoError(t, s.Migrate(t.Context()))
			return opened{s.Ports(), s.Close}
		}
	},
}

// opened is a store with its schema.
type opened struct {
	ports parley.Ports
	close func() error
}

func sql(open func(context.Context) (*bunstore.Store, error)) func(*testing.T) opened {
	return func(t *testing.T) opened {
		s, err := open(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.Migrate(t.Context()))
		return opened{s.Ports(), s.Close}
	}
}

// world is a system of its own for one requirement, on a store that it may share with those before it.
type world struct {
	*system.System
	t    *testing.T
	name string // begins its addresses and rooms
	n    int
	key  ed25519.PrivateKey // signs the tokens
	kid  string
	log  *logged // of the system
}

// logged keeps what is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start starts a system. change may change it before.
func (o opener) start(t *testing.T, change func(*system.Config)) *world {
	t.Helper()
	w := &world{t: t, name: strings.ToLower(strings.NewReplacer(".", "-").Replace(o.id)) + "-" + o.salt, log: &logged{}}
	folder := t.TempDir()
	keys, err := jwtauth.NewKeys(jwtauth.KeysConfig{File: filepath.Join(folder, "keys.json"), Now: w.now})
	require.NoError(t, err)
	w.readKey(filepath.Join(folder, "keys.json"))
	issuer, err := jwtauth.NewIssuer(jwtauth.IssuerConfig{Keys: keys, Issuer: issuerName})
	require.NoError(t, err)
	verifier, err := jwtauth.NewVerifier(jwtauth.VerifierConfig{Keys: keys.PublicKey, Issuer: issuerName, Now: w.now})
	require.NoError(t, err)
	var kept parley.Ports
	var closed func() error
	if o.open != nil {
		store := o.open(t)
		kept, closed = store.ports, store.close
		kept.Limiter = nil
	}
	cfg := system.Config{
		Closed: closed,
		Log:    slog.New(slog.NewJSONHandler(w.log, nil)),
		Auth:   auth.Config{Passwords: passlist.New(), PasswordMin: auth.MinPassword},
	}
	cfg.Ports = func(p *parley.Ports) {
		*p = p.With(kept)
		p.Issuer, p.Verifier = issuer, verifier
	}
	if change != nil {
		change(&cfg)
	}
	w.System = system.Start(t, cfg)
	return w
}

// opener is what the worlds of a requirement are made of.
type opener struct {
	id, salt string
	open     func(t *testing.T) opened // nil: memory
}

const issuerName = "parley-asvs"

// now is the system's clock, and the machine's before there is one.
func (w *world) now() time.Time {
	if w.System == nil {
		return time.Now()
	}
	return w.Now()
}

func (w *world) readKey(file string) {
	text, err := os.ReadFile(file)
	require.NoError(w.t, err)
	var set struct {
		Keys []struct{ Kid, D string }
	}
	require.NoError(w.t, json.Unmarshal(text, &set))
	seed, err := base64.RawURLEncoding.DecodeString(set.Keys[0].D)
	require.NoError(w.t, err)
	w.key, w.kid = ed25519.NewKeyFromSeed(seed), set.Keys[0].Kid
}

// token makes a token as the system does, signed with its key, after both parts were changed.
func (w *world) token(u system.User, change func(header, claims map[string]any)) string {
	w.t.Helper()
	var parts [2]map[string]any
	for i, segment := range strings.Split(u.AccessToken, ".")[:2] {
		raw, err := base64.RawURLEncoding.DecodeString(segment)
		require.NoError(w.t, err)
		require.NoError(w.t, json.Unmarshal(raw, &parts[i]))
	}
	for _, name := range []string{"iat", "exp", "sat", "until"} { // numbers stay what they are
		if n, ok := parts[1][name].(float64); ok {
			parts[1][name] = int64(n)
		}
	}
	change(parts[0], parts[1])
	var signed []string
	for _, part := range parts {
		raw, err := json.Marshal(part)
		require.NoError(w.t, err)
		signed = append(signed, base64.RawURLEncoding.EncodeToString(raw))
	}
	text := strings.Join(signed, ".")
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(w.key, []byte(text)))
}

// user makes a verified account with a session.
func (w *world) user(name string) system.User {
	w.t.Helper()
	u := w.unverified(name)
	w.Call(w.t, http.MethodPost, "/auth/verify", "", fields{"code": w.Code(w.t, u.Email, 1)}, http.StatusOK, nil)
	w.SignIn(w.t, &u)
	return u
}

// unverified signs somebody up, and no more.
func (w *world) unverified(name string) system.User {
	w.t.Helper()
	w.n++
	u := system.User{Name: name, Email: fmt.Sprintf("%s-%d@parley.test", w.name, w.n), Password: fmt.Sprintf("a pass phrase of %s %d", w.name, w.n)}
	w.Call(w.t, http.MethodPost, "/auth/signup", "", fields{"fullName": name, "email": u.Email, "password": u.Password}, http.StatusAccepted, nil)
	return u
}

// room is a name that no other requirement uses.
func (w *world) room(name string) string { return w.name + "-" + name }

type fields = map[string]any

// ask makes a request, whatever comes of it.
func (w *world) ask(method, path, token string, body any, headers ...string) system.Answer {
	w.t.Helper()
	var content io.Reader
	if body != nil {
		text, raw := body.(string)
		if !raw {
			encoded, err := json.Marshal(body)
			require.NoError(w.t, err)
			text = string(encoded)
		}
		content = strings.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, w.URL+path, content)
	require.NoError(w.t, err)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(w.t, err)
	defer answer.Body.Close()
	a := system.Answer{Status: answer.StatusCode, Header: answer.Header}
	if a.Status != http.StatusSwitchingProtocols {
		a.Body, err = io.ReadAll(answer.Body)
		require.NoError(w.t, err)
	}
	return a
}

// wants requires an answer's status and, of a problem, its code.
func (w *world) wants(a system.Answer, status int, code, about string) {
	w.t.Helper()
	require.Equal(w.t, status, a.Status, "%s: %s", about, a.Body)
	if code != "" {
		var problem struct{ Code string }
		require.NoError(w.t, json.Unmarshal(a.Body, &problem), about)
		require.Equal(w.t, code, problem.Code, about)
	}
}

// signIn tries a password.
func (w *world) signIn(email, password string, headers ...string) system.Answer {
	w.t.Helper()
	return w.ask(http.MethodPost, "/auth/signin", "", fields{"email": email, "password": password}, headers...)
}

// shake asks for a socket.
func (w *world) shake(query string, headers ...string) system.Answer {
	w.t.Helper()
	return w.ask(http.MethodGet, "/socket"+query, "", nil, append([]string{
		"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "MDEyMzQ1Njc4OWFiY2RlZg==",
		"Sec-WebSocket-Protocol", socket.Protocol,
	}, headers...)...)
}

// ticket asks for a ticket.
func (w *world) ticket(u system.User) string {
	w.t.Helper()
	var answer struct{ Ticket string }
	w.Call(w.t, http.MethodPost, "/auth/socket-ticket", u.AccessToken, nil, http.StatusOK, &answer)
	return answer.Ticket
}

// refresh asks for a new pair.
func (w *world) refresh(token string) (system.Answer, system.User) {
	w.t.Helper()
	a := w.ask(http.MethodPost, "/auth/refresh", "", fields{"refreshToken": token})
	var u system.User
	if a.Status == http.StatusOK {
		require.NoError(w.t, json.Unmarshal(a.Body, &u))
	}
	return a, u
}

// closed requires that the server ends the connection with this code.
func (w *world) closed(c *wsraw.Conn, code int, about string) {
	w.t.Helper()
	got, reason, err := c.ReadClose()
	require.NoError(w.t, err, about)
	require.Equal(w.t, code, got, "%s: %s", about, reason)
}

func frame(text string) wsraw.Frame {
	return wsraw.Frame{Final: true, Opcode: wsraw.OpText, Payload: []byte(text)}
}

// await waits for the nth mail to an address.
func (w *world) await(email string, nth int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	_, err := w.Mailbox.Await(ctx, email, nth)
	require.NoError(w.t, err)
}

// codeOf returns the code of the nth mail to an address, which is there, if it has one.
func (w *world) codeOf(email string, nth int) (string, bool) {
	w.t.Helper()
	code, err := testkit.Code(w.Mailbox.To(email)[nth-1])
	return code, err == nil
}
