package main_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/core/socket"
)

func TestServesEverythingFromAnEmptyFolder(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "deep", "data")
	s := serve(t, data)
	for _, c := range []struct {
		path, user, password string
		status               int
		contentType, has     string
	}{
		{path: "/", status: 200, contentType: "text/html", has: "<title>Parley</title>"},
		{path: "/livez", status: 200, contentType: "application/json", has: `"status":"ok"`},
		{path: "/readyz", status: 200, contentType: "application/json", has: `"database"`},
		{path: "/health", status: 200, contentType: "application/json", has: `"socket"`},
		{path: "/api-docs", status: 401, contentType: "application/problem+json", has: `"status":401`},
		{path: "/api-docs", user: "linkdocs", password: "wrong", status: 401, contentType: "application/problem+json", has: `"status":401`},
		{path: "/api-docs", user: "linkdocs", password: "linkdocspass", status: 200, contentType: "text/html", has: "<html"},
		{path: "/openapi.yaml", status: 401, contentType: "application/problem+json", has: `"status":401`},
		{path: "/openapi.yaml", user: "linkdocs", password: "linkdocspass", status: 200, contentType: "yaml", has: "/auth/signup:"},
		{path: "/openapi.json", user: "linkdocs", password: "linkdocspass", status: 200, contentType: "json", has: `"/auth/signup"`},
		{path: "/asyncapi.yaml", status: 200, contentType: "yaml", has: "asyncapi: 3."},
		{path: "/asyncapi.json", status: 200, contentType: "json", has: `"asyncapi"`},
		{path: "/dev/mail", status: 200, contentType: "text/html", has: "Development mailbox"},
		{path: "/dev/mail.json", status: 200, contentType: "application/json", has: "[]"},
		{path: "/.well-known/jwks.json", status: 200, contentType: "json", has: `"Ed25519"`},
		{path: "/parley.js", status: 200, contentType: "text/javascript", has: "export class Parley"},
		{path: "/parley.d.ts", status: 200, contentType: "text/plain", has: "export"},
		{path: "/nothing/here", status: 404, contentType: "application/problem+json", has: `"status":404`},
	} {
		t.Run(strings.Trim(c.path+" "+c.user+" "+c.password, " "), func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+c.path, nil)
			require.NoError(t, err)
			if c.user != "" {
				r.SetBasicAuth(c.user, c.password)
			}
			got, err := send(r)
			require.NoError(t, err)
			assert.Equal(t, c.status, got.status, "%s", got.body)
			assert.Contains(t, got.header.Get("Content-Type"), c.contentType)
			assert.Contains(t, string(got.body), c.has)
			if c.status == 401 {
				assert.Contains(t, got.header.Get("WWW-Authenticate"), "Basic")
			}
		})
	}
	assert.Contains(t, s.stdout.String(), data)
	s.stop(t, sigterm)
	info, err := os.Stat(data)
	require.NoError(t, err)
	assert.Zero(t, info.Mode().Perm()&0o077, "others may look into the folder: %v", info.Mode())
}

func TestEndsInOrder(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: it waits for seconds")
	}
	t.Parallel()
	for _, how := range []os.Signal{sigterm, interrupt} {
		t.Run(how.String(), func(t *testing.T) {
			t.Parallel()
			s := serve(t, t.TempDir())
			ada := s.member(t, "Ada Lovelace")

			closed := make(chan int, 16) // more than a client comes back
			c := s.connect(t, ada.AccessToken, func(e wsclient.Event) {
				if e.Kind == wsclient.EventDisconnected {
					closed <- e.Code
				}
			})
			_, err := c.Join(t.Context(), "lobby")
			require.NoError(t, err)
			// Nobody reads from this one: it cannot hold up the end.
			deaf, answer, err := websocket.DefaultDialer.DialContext(t.Context(), s.socket(), http.Header{
				"Authorization": {"Bearer " + ada.AccessToken}, "Sec-WebSocket-Protocol": {socket.Protocol},
			})
			require.NoError(t, err)
			require.NoError(t, answer.Body.Close())
			defer deaf.Close()
			// Nor can a connection that has not asked for anything yet.
			idle, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
			require.NoError(t, err)
			defer idle.Close()

			s.stop(t, how)
			require.Equal(t, socket.CloseServiceRestart, <-closed)
			_, _, err = deaf.ReadMessage()
			require.True(t, websocket.IsCloseError(err, socket.CloseServiceRestart), "%v", err)
		})
	}
}

func TestKeepsEverythingAcrossARestart(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"stopped", "killed"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			ctx, data := t.Context(), t.TempDir()
			s := serve(t, data, "--log-level=debug")
			ada := s.member(t, "Ada Lovelace")
			s.signUp(t, "Late Comer", "late@example.com")
			late := s.mailTo(t, "late@example.com")
			keys := must(t, 200, "GET", s.url+"/.well-known/jwks.json", "", nil)
			mails := s.mails(t)
			c := s.connect(t, ada.AccessToken, nil)
			_, err := c.Join(ctx, "lobby")
			require.NoError(t, err)
			var texts []string
			for i := range 15 {
				text := fmt.Sprintf("message %d", i+1)
				sent, err := c.Send(ctx, "lobby", text)
				require.NoError(t, err)
				require.EqualValues(t, i+1, sent.Seq)
				texts = append(texts, text)
			}
			c.Close()
			if how == "stopped" {
				s.stop(t, sigterm)
			} else {
				s.kill()
			}
			for _, secret := range []string{password, late.code(), ada.AccessToken, ada.RefreshToken, "message 1"} {
				require.NotContains(t, s.stderr.String(), secret, "the log holds what is secret")
			}

			s = serve(t, data)
			require.Equal(t, string(keys), string(must(t, 200, "GET", s.url+"/.well-known/jwks.json", "", nil)))
			require.Equal(t, mails, s.mails(t))
			me := must(t, 200, "GET", s.url+"/auth/me", ada.AccessToken, nil)
			require.Contains(t, string(me), ada.User.ID)
			renewed := decode[grant](t, must(t, 200, "POST", s.url+"/auth/refresh", "", map[string]string{"refreshToken": ada.RefreshToken}))
			require.Equal(t, ada.User.ID, s.signIn(t, ada.User.Email).User.ID)
			s.verify(t, late.code())
			require.True(t, s.signIn(t, "late@example.com").User.IsVerified)
			c = s.connect(t, renewed.AccessToken, nil)
			joined, err := c.Join(ctx, "lobby")
			require.NoError(t, err)
			require.EqualValues(t, len(texts), joined.Seq)
			require.Len(t, joined.Messages, 10)
			all, err := stored(ctx, c, "lobby", joined.Seq)
			require.NoError(t, err)
			for i, m := range all {
				require.EqualValues(t, i+1, m.Seq)
				require.Equal(t, texts[i], m.Text)
				require.Equal(t, ada.User.ID, m.User.ID)
			}
			require.Len(t, all, len(texts))
			sent, err := c.Send(ctx, "lobby", "and on")
			require.NoError(t, err)
			require.EqualValues(t, len(texts)+1, sent.Seq)
			s.stop(t, sigterm)
		})
	}
}

func TestBeyondLoopbackNothingHasAKnownPassword(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), "--listen", "0.0.0.0:0")
	line, ok := s.stdout.line(t, s.exited, "  API docs  ")
	require.True(t, ok)
	found := regexp.MustCompile(`\((\S+) / (\S+)\)$`).FindStringSubmatch(line)
	require.NotNil(t, found, line)
	for password, want := range map[string]int{"linkdocspass": 401, found[2]: 200} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/api-docs", nil)
		require.NoError(t, err)
		r.SetBasicAuth(found[1], password)
		got, err := send(r)
		require.NoError(t, err)
		require.Equal(t, want, got.status)
	}
	s.stop(t, sigterm)
	require.Contains(t, s.stderr.String(), "mails are not sent", "that everybody can read the mails must be said")
	require.NotContains(t, s.stderr.String(), found[2])
}

func TestInMemoryNothingIsStored(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := serve(t, data, "--store=memory:")
	ada := s.member(t, "Ada Lovelace")
	c := s.connect(t, ada.AccessToken, nil)
	_, err := c.Join(t.Context(), "lobby")
	require.NoError(t, err)
	sent, err := c.Send(t.Context(), "lobby", "gone soon")
	require.NoError(t, err)
	require.EqualValues(t, 1, sent.Seq)
	s.stop(t, sigterm)
	require.NoFileExists(t, filepath.Join(data, "parley.db"))
	s = serve(t, data, "--store=memory:")
	must(t, 401, "POST", s.url+"/auth/signin", "", map[string]string{"email": ada.User.Email, "password": password})
	s.stop(t, sigterm)
}

func TestServesTLS(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	cert, key := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	chain := certificate(t, 1, cert, key)

	s := serve(t, filepath.Join(folder, "data"), "--tls-cert", cert, "--tls-key", key, "--transport=nbio")
	await(t, "it to say what carries sockets instead", func() bool { return strings.Contains(s.stderr.String(), "sockets are carried by net") })
	require.True(t, strings.HasPrefix(s.url, "https://"), s.url)
	known := x509.NewCertPool()
	require.True(t, known.AppendCertsFromPEM(chain))
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: known, MinVersion: tls.VersionTLS12},
	}}
	// The entry of the socket is a round trip over TLS.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/health", nil)
	require.NoError(t, err)
	answer, err := client.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.StatusCode, "%s", text)
	require.Contains(t, string(text), `"socket"`)
	s.stop(t, sigterm)
}

// database makes a folder with a database of a few pages in it.
func database(t *testing.T) (folder, file string) {
	t.Helper()
	folder = t.TempDir()
	execute(t, nil, "--data", folder, "migrate").succeeded(t)
	file = filepath.Join(folder, "parley.db")
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Greater(t, info.Size(), int64(16<<10))
	return folder, file
}

func TestAStartThatFailsSaysWhyInOneLine(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 64<<10)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	// damaged is a folder whose database was changed.
	damaged := func(change func([]byte) []byte) func(*testing.T) []string {
		return func(t *testing.T) []string {
			folder, file := database(t)
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(file, change(text), 0o600))
			return []string{"--data", folder}
		}
	}
	// with is a folder with one file in it.
	with := func(name string, content []byte) func(*testing.T) []string {
		return func(t *testing.T) []string {
			folder := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(folder, name), content, 0o600))
			return []string{"--data", folder}
		}
	}
	for _, c := range []struct {
		name string
		args func(t *testing.T) []string
		says string
	}{
		{"the data folder is under a file", func(t *testing.T) []string {
			file := filepath.Join(t.TempDir(), "file")
			require.NoError(t, os.WriteFile(file, nil, 0o600))
			return []string{"--data", filepath.Join(file, "data")}
		}, `folder.*not a directory`},
		{"the data folder is a file", func(t *testing.T) []string {
			file := filepath.Join(t.TempDir(), "file")
			require.NoError(t, os.WriteFile(file, nil, 0o600))
			return []string{"--data", file}
		}, `folder.*not a directory`},
		{"another server uses the data folder", func(t *testing.T) []string {
			folder := t.TempDir()
			serve(t, folder)
			return []string{"--data", folder}
		}, `another server uses the data folder`},
		{"the folder of mails is a file", with("mail", nil), `mail.*not a directory`},
		{"the database is a folder", func(t *testing.T) []string {
			folder := t.TempDir()
			require.NoError(t, os.Mkdir(filepath.Join(folder, "parley.db"), 0o700))
			return []string{"--data", folder}
		}, `parley\.db`},
		{"the port is in use", func(t *testing.T) []string {
			l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			require.NoError(t, err)
			t.Cleanup(func() { _ = l.Close() })
			return []string{"--data", t.TempDir(), "--listen", l.Addr().String()}
		}, `in use.*--listen`},
		{"the port for operators is in use", func(t *testing.T) []string {
			l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			require.NoError(t, err)
			t.Cleanup(func() { _ = l.Close() })
			return []string{"--data", t.TempDir(), "--admin-listen", l.Addr().String()}
		}, `in use.*--admin-listen`},
		{"the address is not of this machine", func(t *testing.T) []string {
			return []string{"--data", t.TempDir(), "--listen", "203.0.113.1:0"} // for documentation (RFC 5737)
		}, `cannot listen on 203\.0\.113\.1:0`},
		{"the database is noise", with("parley.db", noise), `parley\.db`},
		{"the database is a few bytes", with("parley.db", []byte("hello")), `parley\.db`},
		{"the database was cut short", damaged(func(b []byte) []byte { return b[:len(b)/2] }), `parley\.db`},
		{"the database was cut within the first page", damaged(func(b []byte) []byte { return b[:1000] }), `parley\.db`},
		{"the database's header is damaged", damaged(func(b []byte) []byte {
			for i := range 16 {
				b[i] ^= 0xff
			}
			return b
		}), `parley\.db`},
		{"the database's first page is damaged", damaged(func(b []byte) []byte {
			for i := 100; i < 4096; i += 7 {
				b[i] ^= 0x55
			}
			return b
		}), `parley\.db`},
		{"the database's last page is damaged", damaged(func(b []byte) []byte {
			copy(b[len(b)-4096:], noise)
			return b
		}), `parley\.db`},
		{"another process keeps the database to itself", func(t *testing.T) []string {
			if testing.Short() {
				t.Skip("skipped by -short: it waits for seconds")
			}
			folder, file := database(t)
			db, err := sql.Open("sqlite", "file://"+file+"?_pragma=locking_mode(EXCLUSIVE)")
			require.NoError(t, err)
			t.Cleanup(func() { _ = db.Close() })
			db.SetMaxOpenConns(1)
			_, err = db.ExecContext(t.Context(), "BEGIN EXCLUSIVE")
			require.NoError(t, err)
			return []string{"--data", folder}
		}, `parley\.db`},
		{"the keys are empty", with("keys.json", nil), `keys\.json is damaged`},
		{"the keys are no JSON", with("keys.json", noise[:300]), `keys\.json is damaged`},
		{"there are no keys in the file", with("keys.json", []byte(`{"keys":[]}`)), `keys\.json is damaged`},
		{"the keys were cut short", func(t *testing.T) []string {
			folder := t.TempDir()
			s := serve(t, folder)
			s.stop(t, sigterm)
			file := filepath.Join(folder, "keys.json")
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(file, text[:len(text)/2], 0o600))
			return []string{"--data", folder}
		}, `keys\.json is damaged`},
		{"the certificate is not there", func(t *testing.T) []string {
			missing := filepath.Join(t.TempDir(), "missing.pem")
			return []string{"--data", t.TempDir(), "--tls-cert", missing, "--tls-key", missing}
		}, `missing\.pem`},
		{"the certificate is no certificate", func(t *testing.T) []string {
			file := filepath.Join(t.TempDir(), "cert.pem")
			require.NoError(t, os.WriteFile(file, []byte("not PEM"), 0o600))
			return []string{"--data", t.TempDir(), "--tls-cert", file, "--tls-key", file}
		}, `(?i)certificate|PEM`},
		{"an unknown flag", func(*testing.T) []string { return []string{"--no-such-flag"} }, `--no-such-flag`},
		{"an unknown command", func(*testing.T) []string { return []string{"dance"} }, `dance`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			args := c.args(t)
			if contains(args, "--data") && !contains(args, "--listen") {
				args = append(args, "--listen", "127.0.0.1:0")
			}
			require.Regexp(t, c.says, execute(t, nil, args...).refused(t))
		})
	}
}

func TestADamagedFileIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"parley.db", "keys.json"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			file := filepath.Join(folder, name)
			before := bytes.Repeat([]byte("precious "), 1000)
			require.NoError(t, os.WriteFile(file, before, 0o600))
			execute(t, nil, "--data", folder, "--listen", "127.0.0.1:0").refused(t)
			after, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, before, after)
		})
	}
}

// badValues are values that each setting must refuse. A setting with none takes any text.
var badValues = map[string][]string{
	"listen":             {"nonsense", "localhost:99999", "localhost:-1", "127.0.0.1"},
	"admin-listen":       {"nonsense", "localhost:99999", "localhost:-1", "127.0.0.1", "on"},
	"public-url":         {"nonsense", "ftp://example.com", "http://", "http://example.com/?a=b", "http://example.com/#a"},
	"data":               {},
	"store":              {"nonsense", "memory:x", "sqlite:", "oracle://user:hunter2@example.com/db"},
	"node":               {"a b", strings.Repeat("n", 65)},
	"migrate":            {"nonsense"},
	"bus":                {"nonsense", "amqp://user:hunter2@example.com", "kafka://user:hunter2@example.com:1?sasl=maybe"},
	"redis":              {"nonsense", "memcached://user:hunter2@example.com"},
	"redis-prefix":       {"{a}"},
	"mail-queue":         {"nonsense", "redis", "redis://user:hunter2@example.com"},
	"mail-language":      {"tlh", "EN", "../en"},
	"mail-templates":     {"/no/such/folder", "process_test.go", ".."},
	"mail-sender":        {"nonsense", "pigeon://user:hunter2@example.com"},
	"transport":          {"nonsense"},
	"compression":        {"nonsense", "true"},
	"dev-mailbox":        {"nonsense", "everybody"},
	"docs-user":          {"a:b"},
	"docs-password":      {},
	"admin-token":        {"hunter2", "hunter2-fifteen", "hunter2-administers,hunter2-fifteen"},
	"audit-retention":    {"0s", "23h", "-24h", "a year"},
	"auth-taken":         {"nonsense"},
	"access-ttl":         {"nonsense", "0s", "-1m", "15"},
	"session-ttl":        {"nonsense", "0s", "-1m", "15"},
	"session-max":        {"nonsense", "-1m", "719h", "15"},
	"max-sessions":       {"nonsense", "0", "-1"},
	"code-burst":         {"nonsense", "0", "-1"},
	"refresh-burst":      {"nonsense", "0", "-1"},
	"ticket-burst":       {"nonsense", "0", "-1"},
	"handshake-burst":    {"nonsense", "0", "-1"},
	"signin-burst":       {"nonsense", "0", "-1", "1.5"},
	"mail-burst":         {"nonsense", "0", "-1", "1.5"},
	"new-device-mail":    {"nonsense", "1"},
	"password-mail":      {"nonsense", "1"},
	"signin-link":        {"nonsense", "1"},
	"link-ttl":           {"nonsense", "0s", "59s", "25h", "-1m"},
	"password-min":       {"nonsense", "0", "-1", "65"},
	"issuer":             {},
	"key-algorithm":      {"nonsense", "RS256", "none", "HS256", "eddsa"},
	"key-age":            {"nonsense", "0s", "23h", "-24h", "90"},
	"product":            {},
	"mail-from":          {"nonsense", "a@b@c"},
	"mail-from-name":     {},
	"mail-dkim-key":      {"nonsense", "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----"},
	"mail-dkim-selector": {"a b", "a;b"},
	"mail-dkim-domain":   {"example.com"},
	"origins":            {"nonsense", "https://example.com/path"},
	"tls-cert":           {"alone.pem"},
	"tls-key":            {"alone.pem"},
	"trusted-proxies":    {"nonsense", "10.0.0.0/99", "10.0.0.0/8,nonsense"},
	"socket-rate":        {"nonsense", "0", "-2"},
	"socket-burst":       {"nonsense", "0", "-1"},
	"max-connections":    {"nonsense", "0", "-1"},

	"password-hash":               {"nonsense", "19456", "m=19456", "m=19456,t=2", "m=19456,t=2,p=0", "m=0,t=2,p=1", "m=7,t=1,p=1", "m=131073,t=2,p=1", "m=19456,t=11,p=1", "m=19456,t=2,p=9", "m=19456,t=2,p=257", "m=-1,t=2,p=1", "m=19456,t=2,p=1,x=1", "m=019456,t=2,p=1"},
	"leaked-passwords-url":        {"nonsense", "http://example.com/range/", "https://example.com/range", "https://ada:hunter2@example.com/", "https://example.com/?a=b", "https://example.com/#a", "ftp://example.com/"},
	"leaked-passwords-timeout":    {"nonsense", "0s", "-1s", "11s", "1"},
	"leaked-passwords-on-failure": {"nonsense", "maybe"},

	"max-user-connections": {"nonsense", "0", "-1"},
	"socketio":             {"nonsense", "maybe"},
	"socketio-query-token": {"nonsense", "maybe"},
	"socketio-recovery":    {"nonsense", "maybe"},
	"screen-url":           {"nonsense", "http://example.com/", "https://user:hunter2@example.com/", "ftp://example.com", "https://example.com/#a", "https://example.com/"},
	"screen-secret":        {"hunter2", "whsec_hunter2", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw,hunter2", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
	"screen-timeout":       {"nonsense", "0s", "-1s", "6s", "300"},
	"screen-on-failure":    {"nonsense", "maybe"},
	"screen-private":       {"nonsense", "true"},
	"webhook-url":          {"nonsense", "http://example.com/", "https://user:hunter2@example.com/", "ftp://example.com", "https://example.com/#a", "https://example.com/"},
	"webhook-secret":       {"hunter2", "whsec_hunter2", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw,hunter2", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
	"webhook-events":       {"nonsense", "user", "*", "user.created", "user.*,nonsense"},
	"webhook-timeout":      {"nonsense", "0s", "-1s", "9s", "300"},
	"webhook-private":      {"nonsense", "true"},
	"retention":            {"nonsense", "-1h", "59s", "876000h1s", "720"},
	"log-format":           {"nonsense"},
	"traces":               {"nonsense", "on"},
	"log-level":            {"nonsense"},
	"drain-timeout":        {"nonsense", "0s", "-1s", "9s"},

	"second-factor":       {"nonsense", "1"},
	"second-factor-mail":  {"nonsense", "1"},
	"second-factor-keys":  {"aHVudGVyMg==", "hunter2"},
	"second-factor-burst": {"nonsense", "0", "-1"},
	"fresh-for":           {"nonsense", "0s", "25h"},
}

func TestABadValueIsRefused(t *testing.T) {
	t.Parallel()
	settings := reflect.TypeFor[config.Settings]()
	for i := range settings.NumField() {
		field := settings.Field(i)
		key := field.Tag.Get("name")
		of, some := field.Tag.Lookup("of")
		if key == "" || some && !slices.Contains(strings.Fields(of), string(config.Parley)) {
			continue
		}
		bad, known := badValues[key]
		if !assert.True(t, known, "the setting %s is new: which values must it refuse?", key) {
			continue
		}
		variable := "PARLEY_" + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
		if testing.Short() && len(bad) > 1 {
			bad = bad[:1] // each costs two starts of the program
		}
		for _, value := range bad {
			t.Run(key+"="+strings.ReplaceAll(value, "/", "_"), func(t *testing.T) {
				t.Parallel()
				base := []string{"--data", t.TempDir()}
				if key != "listen" {
					base = append(base, "--listen", "127.0.0.1:0")
				}
				byFlag := execute(t, nil, append(base, "--"+key+"="+value)...).refused(t)
				byVariable := execute(t, []string{variable + "=" + value}, base...).refused(t)
				assert.Contains(t, byFlag, key)
				assert.True(t, strings.Contains(byVariable, key) || strings.Contains(byVariable, variable), byVariable)
				assert.NotContains(t, byFlag+byVariable, "hunter2", "a password is shown")
			})
		}
	}
}

func TestAVariableThatMeansNothingIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, pair, says string }{
		{"unknown", "PARLEY_LISTENN=127.0.0.1:0", "PARLEY_LISTENN"},
		{"a file for what is no secret", "PARLEY_LISTEN_FILE=/dev/null", "PARLEY_LISTEN_FILE"},
		{"a secret in a file that is not there", "PARLEY_ADMIN_TOKEN_FILE=" + filepath.Join(t.TempDir(), "missing"), "PARLEY_ADMIN_TOKEN_FILE"},
		{"a secret in a folder", "PARLEY_DOCS_PASSWORD_FILE=" + t.TempDir(), "PARLEY_DOCS_PASSWORD_FILE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			line := execute(t, []string{c.pair}, "--data", t.TempDir(), "--listen", "127.0.0.1:0").refused(t)
			require.Contains(t, line, c.says)
		})
	}
}
