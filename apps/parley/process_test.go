package main_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
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
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
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
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(nil, template, template, public, private)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	cert, key := filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))

	s := serve(t, filepath.Join(folder, "data"), "--tls-cert", cert, "--tls-key", key, "--transport=nbio")
	await(t, "it to say what carries sockets instead", func() bool { return strings.Contains(s.stderr.String(), "sockets are carried by net") })
	require.True(t, strings.HasPrefix(s.url, "https://"), s.url)
	known := x509.NewCertPool()
	require.True(t, known.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
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
	"listen":          {"nonsense", "localhost:99999", "localhost:-1", "127.0.0.1"},
	"admin-listen":    {"nonsense", "localhost:99999", "localhost:-1", "127.0.0.1", "on"},
	"public-url":      {"nonsense", "ftp://example.com", "http://", "http://example.com/?a=b", "http://example.com/#a"},
	"data":            {},
	"store":           {"nonsense", "memory:x", "sqlite:", "oracle://user:hunter2@example.com/db"},
	"node":            {"a b", strings.Repeat("n", 65)},
	"migrate":         {"nonsense"},
	"bus":             {"nonsense", "amqp://user:hunter2@example.com", "kafka://user:hunter2@example.com:1?sasl=maybe"},
	"redis":           {"nonsense", "memcached://user:hunter2@example.com"},
	"redis-prefix":    {"{a}"},
	"mail-queue":      {"nonsense", "redis", "redis://user:hunter2@example.com"},
	"mail-sender":     {"nonsense", "pigeon://user:hunter2@example.com"},
	"transport":       {"nonsense"},
	"compression":     {"nonsense", "true"},
	"dev-mailbox":     {"nonsense", "everybody"},
	"docs-user":       {"a:b"},
	"docs-password":   {},
	"admin-token":     {"hunter2", "hunter2-fifteen"},
	"auth-taken":      {"nonsense"},
	"access-ttl":      {"nonsense", "0s", "-1m", "15"},
	"session-ttl":     {"nonsense", "0s", "-1m", "15"},
	"session-max":     {"nonsense", "-1m", "719h", "15"},
	"max-sessions":    {"nonsense", "0", "-1"},
	"code-burst":      {"nonsense", "0", "-1"},
	"refresh-burst":   {"nonsense", "0", "-1"},
	"ticket-burst":    {"nonsense", "0", "-1"},
	"handshake-burst": {"nonsense", "0", "-1"},
	"signin-burst":    {"nonsense", "0", "-1", "1.5"},
	"mail-burst":      {"nonsense", "0", "-1", "1.5"},
	"password-min":    {"nonsense", "0", "-1", "65"},
	"issuer":          {},
	"product":         {},
	"mail-from":       {"nonsense", "a@b@c"},
	"mail-from-name":  {},
	"origins":         {"nonsense", "https://example.com/path"},
	"tls-cert":        {"alone.pem"},
	"tls-key":         {"alone.pem"},
	"trusted-proxies": {"nonsense", "10.0.0.0/99", "10.0.0.0/8,nonsense"},
	"socket-rate":     {"nonsense", "0", "-2"},
	"socket-burst":    {"nonsense", "0", "-1"},
	"max-connections": {"nonsense", "0", "-1"},

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
	"retention":            {"nonsense", "-1h", "59s", "720"},
	"log-format":           {"nonsense"},
	"traces":               {"nonsense", "on"},
	"log-level":            {"nonsense"},
	"drain-timeout":        {"nonsense", "0s", "-1s", "9s"},
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

func TestConfigHidesSecrets(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(secret, []byte("hunter2-as-a-token\n"), 0o600))
	out := execute(t, []string{"PARLEY_ADMIN_TOKEN_FILE=" + secret, "PARLEY_PRODUCT=By Variable", "PARLEY_ISSUER=by-variable"},
		"config", "--docs-password=hunter2-docs", "--issuer=by-flag").succeeded(t)
	require.NotContains(t, out, "hunter2")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, want := range []string{
		"PARLEY_LISTEN=localhost:5002", "PARLEY_PRODUCT=By Variable", "PARLEY_ISSUER=by-flag",
		"PARLEY_ADMIN_TOKEN=********", "PARLEY_DOCS_PASSWORD=********", "PARLEY_BUS=memory:",
	} {
		require.Contains(t, lines, want)
	}
}

func TestDocumentsArePrinted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ command, file string }{
		{"openapi", "../../docs/openapi.yaml"},
		{"openapi --admin", "../../docs/openapi-admin.yaml"},
		{"asyncapi", "../../docs/asyncapi.yaml"},
		{"types", "../web/client/events.d.ts"},
	} {
		t.Run(c.command, func(t *testing.T) {
			t.Parallel()
			words := strings.Fields(c.command)
			first := execute(t, nil, words...).succeeded(t)
			require.NotEmpty(t, first)
			require.Equal(t, first, execute(t, nil, words...).succeeded(t), "it differs from run to run")
			want, err := os.ReadFile(filepath.FromSlash(c.file))
			require.NoError(t, err, "print it anew: go run ./apps/parley %s", c.command)
			require.Equal(t, string(want), first, "print it anew: go run ./apps/parley %s", c.command)
		})
	}
}

func TestMigrateTwice(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "new")
	first := execute(t, nil, "migrate", "--data", folder).succeeded(t)
	require.Contains(t, first, "brought up to date")
	second := execute(t, nil, "migrate", "--data", folder).succeeded(t)
	require.Contains(t, second, "is current")
	require.Contains(t, execute(t, nil, "migrate", "--store", "memory:").refused(t), "memory:")
	serve(t, folder).stop(t, sigterm)
}

// jobOf is what the mail commands show of a job.
type jobOf struct {
	ID, State, To, Kind string
	Data                json.RawMessage
}

func TestMailCommands(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	letters := deadLetters(t, folder, "first@example.com", "second@example.com", "third@example.com")
	s := serve(t, folder, "--admin-token=hunter2-administers")
	s.signUp(t, "Ada Lovelace", "ada@example.com")
	s.mailTo(t, "ada@example.com")
	mails := func(args ...string) outcome {
		args = append([]string{"mail"}, args...)
		return execute(t, []string{"PARLEY_ADMIN_TOKEN=hunter2-administers"}, append(args, "--url="+s.admin)...)
	}
	stats := func() map[string]int { return decode[map[string]int](t, []byte(mails("stats").succeeded(t))) }
	counts := func() map[string]int { // without a start of the program each time
		return decode[map[string]int](t, must(t, http.StatusOK, "GET", s.admin+"/mail/stats", "hunter2-administers", nil))
	}
	await(t, "the mail to count as sent", func() bool { return counts()["sent"] == 1 })
	require.Equal(t, counts(), stats())

	list := mails("list").succeeded(t)
	for _, id := range letters {
		require.Contains(t, list, id)
	}
	require.Equal(t, 1+len(letters), strings.Count(list, "\n"), list)
	require.Equal(t, 2+len(letters), strings.Count(mails("list", "--state=any").succeeded(t), "\n"))
	require.Equal(t, 2, strings.Count(mails("list", "--to=second@example.com").succeeded(t), "\n"))

	listed := decode[struct{ Jobs []jobOf }](t, []byte(mails("list", "--json").succeeded(t)))
	require.Len(t, listed.Jobs, len(letters))
	require.Equal(t, "dead", listed.Jobs[0].State)
	require.JSONEq(t, `{"jobs": []}`, mails("list", "--json", "--to=nobody@example.com").succeeded(t))
	require.Equal(t, 3, decode[map[string]int](t, []byte(mails("stats", "--json").succeeded(t)))["dead"])

	shown := decode[jobOf](t, []byte(mails("show", letters[0]).succeeded(t)))
	require.Equal(t, "dead", shown.State)
	require.Equal(t, "first@example.com", shown.To)
	require.Empty(t, shown.Data, "a code is shown to one who has not asked for it")
	shown = decode[jobOf](t, []byte(mails("show", letters[0], "--with-data").succeeded(t)))
	require.Contains(t, string(shown.Data), "verificationCode")

	dry := mails("replay", "--dry-run").succeeded(t)
	require.Contains(t, dry, letters[2])
	require.Equal(t, 3, stats()["dead"])
	mails("replay", letters[0]).succeeded(t)
	require.NotEmpty(t, s.mailTo(t, "first@example.com").code())
	require.JSONEq(t, `{}`, mails("discard", letters[1], "--json").succeeded(t))
	require.NotContains(t, mails("list").succeeded(t), letters[1])
	mails("replay", "--to=third@example.com").succeeded(t)
	s.mailTo(t, "third@example.com")
	await(t, "all mails to count as sent", func() bool { return counts()["sent"] == 3 && counts()["dead"] == 0 })

	for _, c := range []struct {
		name string
		got  outcome
		says string
	}{
		{"gone", mails("show", letters[1]), `(?i)no such`},
		{"not dead", mails("replay", letters[0]), `(?i)not a dead letter`},
		{"no id", mails("show"), `id`},
		{"no id to discard", mails("discard"), `id`},
		{"dry run of one", mails("replay", letters[0], "--dry-run"), `dry-run`},
		{"wrong token", execute(t, []string{"PARLEY_ADMIN_TOKEN=wrong-but-long-enough"}, "mail", "list", "--url="+s.admin), `\S`},
		{"no token", execute(t, nil, "mail", "list", "--url="+s.admin), `PARLEY_ADMIN_TOKEN`},
		{"wrong state", mails("list", "--state=nonsense"), `nonsense|state`},
	} {
		t.Run(c.name, func(t *testing.T) {
			line := c.got.refused(t)
			require.Regexp(t, c.says, line)
			require.NotContains(t, line, "hunter2")
		})
	}
	s.stop(t, sigterm)
	for _, action := range []string{"list", "stats"} {
		require.Contains(t, mails(action).refused(t), "refused", "without a server")
	}
}

// TestEventsCommands: events that were set aside are seen, and what they ask for happens when they are replayed.
func TestEventsCommands(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	ids := setAside(t, folder, "first@example.com", "second@example.com", "third@example.com")
	s := serve(t, folder, "--admin-token=hunter2-administers")
	ask := func(args ...string) outcome {
		args = append([]string{"events"}, args...)
		return execute(t, []string{"PARLEY_ADMIN_TOKEN=hunter2-administers"}, append(args, "--url="+s.admin)...)
	}
	type page struct {
		Events []struct {
			ID, Topic, Type, Key, Reason string
			Data                         json.RawMessage
		}
	}
	listed := func(args ...string) page {
		return decode[page](t, []byte(ask(append([]string{"list", "--json"}, args...)...).succeeded(t)))
	}
	list := ask("list").succeeded(t)
	require.Equal(t, 1+len(ids), strings.Count(list, "\n"), list)
	for _, id := range ids {
		require.Regexp(t, id+` +mail +user\.created +first.* +2\S+Z +it is too large`, strings.ReplaceAll(strings.ReplaceAll(list, "second@", "first@"), "third@", "first@"))
	}
	require.Len(t, listed().Events, len(ids))
	require.Equal(t, "it is too large", listed("--key=second@example.com").Events[0].Reason)
	require.JSONEq(t, `{"events": []}`, ask("list", "--json", "--topic=session").succeeded(t))

	require.NotContains(t, ask("show", ids[0]).succeeded(t), "code-0", "a code is shown to one who has not asked for it")
	require.Contains(t, ask("show", ids[0], "--with-data").succeeded(t), "code-0")

	dry := ask("replay", "--dry-run", "--key=third@example.com").succeeded(t)
	require.Contains(t, dry, ids[2])
	require.NotContains(t, dry, ids[0])
	require.Len(t, listed().Events, 3)
	require.Equal(t, "done\n", ask("replay", ids[0]).succeeded(t))
	require.Equal(t, "code-0", s.mailTo(t, "first@example.com").code())
	require.JSONEq(t, `{}`, ask("discard", ids[1], "--json").succeeded(t))
	ask("replay", "--topic=mail", "--type=user.created").succeeded(t)
	require.Equal(t, "code-2", s.mailTo(t, "third@example.com").code())
	require.Empty(t, listed().Events)

	for _, c := range []struct {
		name string
		got  outcome
		says string
	}{
		{"gone", ask("show", ids[1]), `(?i)no event with this id`},
		{"replayed", ask("replay", ids[0]), `(?i)no event with this id`},
		{"no id", ask("show"), `id`},
		{"no id to discard", ask("discard"), `id`},
		{"dry run of one", ask("replay", ids[0], "--dry-run"), `dry-run`},
		{"filter for one", ask("replay", ids[0], "--topic=mail"), `--topic`},
		{"wrong token", execute(t, []string{"PARLEY_ADMIN_TOKEN=wrong-but-long-enough"}, "events", "list", "--url="+s.admin), `\S`},
		{"no token", execute(t, nil, "events", "list", "--url="+s.admin), `PARLEY_ADMIN_TOKEN`},
	} {
		t.Run(c.name, func(t *testing.T) {
			line := c.got.refused(t)
			require.Regexp(t, c.says, line)
			require.NotContains(t, line, "hunter2")
		})
	}
	s.stop(t, sigterm)
}

// setAside puts events that ask for mails, and that can never be published, into the database of a folder.
func setAside(t *testing.T, folder string, to ...string) (ids []string) {
	t.Helper()
	ctx := t.Context()
	execute(t, nil, "migrate", "--data", folder).succeeded(t)
	store, err := bunstore.OpenSQLite(ctx, filepath.Join(folder, "parley.db"), bunstore.SQLiteConfig{})
	require.NoError(t, err)
	defer store.Close()
	now := time.Now().UTC().Truncate(time.Microsecond)
	for i, address := range to {
		data, err := json.Marshal(mail.UserCreated{
			UserID: "user", FullName: "Some Body", Email: address,
			VerificationCode: fmt.Sprintf("code-%d", i), ExpiresAt: now.Add(time.Hour),
		})
		require.NoError(t, err)
		id := fmt.Sprintf("event-%d", i)
		ids = append(ids, id)
		e := event.Event{ID: id, Topic: mail.Topic, Type: "user.created", Key: address, Time: now, Data: data}
		require.NoError(t, store.Users().Create(ctx, user.User{ID: user.ID(id), FullName: "Some Body", Email: user.Email("of-" + address), CreatedAt: now}, e))
		require.NoError(t, store.Outbox().SetAside(ctx, id, "it is too large"))
	}
	return ids
}

// deadLetters puts mails that were given up into the database of a folder.
func deadLetters(t *testing.T, folder string, to ...string) (ids []string) {
	t.Helper()
	ctx := t.Context()
	execute(t, nil, "migrate", "--data", folder).succeeded(t)
	store, err := bunstore.OpenSQLite(ctx, filepath.Join(folder, "parley.db"), bunstore.SQLiteConfig{})
	require.NoError(t, err)
	defer store.Close()
	queue := store.MailQueue()
	now := time.Now().UTC().Truncate(time.Microsecond)
	for i, address := range to {
		text, err := json.Marshal(mail.UserCreated{
			UserID: "user", FullName: "Some Body", Email: address,
			VerificationCode: fmt.Sprintf("code-%d", i), ExpiresAt: now.Add(time.Hour),
		})
		require.NoError(t, err)
		id := fmt.Sprintf("job-%d", i)
		ids = append(ids, id)
		require.NoError(t, queue.Enqueue(ctx, mail.Job{
			ID: id, Key: "event-" + id, Kind: mail.KindVerification, To: user.Email(address), Name: "Some Body", Data: text,
			State: mail.Ready, RunAt: now, CreatedAt: now, UpdatedAt: now,
		}))
		job, ok, err := queue.Claim(ctx, now, time.Minute)
		require.NoError(t, err)
		require.True(t, ok)
		require.NoError(t, queue.Settle(ctx, job, mail.Outcome{State: mail.Dead, RunAt: now, At: now, Error: "no luck"}))
	}
	return ids
}

func TestHelpIsNoFailure(t *testing.T) {
	t.Parallel()
	require.Regexp(t, `^parley \S+, commit \S+, go1\.\S+ \S+\n$`, execute(t, nil, "--version").succeeded(t))
	for _, args := range [][]string{{"--help"}, {"-h"}, {"mail", "list", "--help"}} {
		require.Contains(t, execute(t, nil, args...).succeeded(t), "Usage:")
	}
}
