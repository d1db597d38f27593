//go:build unix

package main_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/testkit/local"
)

// flood makes the program write more than a megabyte of log, and wants an answer to each request.
func flood(t *testing.T, s *server) {
	t.Helper()
	long := "/" + strings.Repeat("x", 4000)
	for range 400 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+long, nil)
		require.NoError(t, err)
		got, err := send(r)
		require.NoError(t, err)
		require.Equal(t, http.StatusNotFound, got.status)
	}
}

// TestALogThatNobodyReadsHoldsUpNothing: stderr is a pipe whose reader has gone, or does not read; and
// stdout another one.
func TestALogThatNobodyReadsHoldsUpNothing(t *testing.T) {
	t.Parallel()
	for _, reader := range []string{"gone", "asleep"} {
		t.Run(reader, func(t *testing.T) {
			t.Parallel()
			in, out, err := os.Pipe()
			require.NoError(t, err)
			s := serveWith(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.Stderr = out })
			require.NoError(t, out.Close())
			if reader == "gone" {
				require.NoError(t, in.Close())
			} else {
				defer in.Close()
			}
			flood(t, s)
			s.stop(t, sigterm)
		})
	}
	t.Run("asleep and awake", func(t *testing.T) {
		t.Parallel()
		in, out, err := os.Pipe()
		require.NoError(t, err)
		defer in.Close()
		s := serveWith(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.Stderr = out })
		require.NoError(t, out.Close())
		flood(t, s)
		lines := bufio.NewReader(in)
		written, lost := 0, 0
		for lost == 0 {
			text, err := lines.ReadBytes('\n')
			require.NoError(t, err)
			var line struct {
				Msg  string
				Lost int
			}
			require.NoError(t, json.Unmarshal(text, &line), "a whole line: %s", text)
			if line.Msg == "request" {
				written++
			}
			lost += line.Lost
		}
		require.Positive(t, written)
		must(t, http.StatusNotFound, http.MethodGet, s.url+"/on", "", nil)
		for on := false; !on; {
			text, err := lines.ReadBytes('\n')
			require.NoError(t, err)
			on = bytes.Contains(text, []byte(`"path":"/on"`))
			var line struct{ Lost int }
			require.NoError(t, json.Unmarshal(text, &line))
			lost += line.Lost
			if !on && line.Lost == 0 {
				written++
			}
		}
		require.Equal(t, 400, written+lost, "each line is there or counted")
		go func() { _, _ = io.Copy(io.Discard, lines) }()
		s.stop(t, sigterm)
	})
	t.Run("nobody takes the greeting", func(t *testing.T) {
		t.Parallel()
		for _, reader := range []string{"gone", "asleep"} {
			in, out, err := os.Pipe()
			require.NoError(t, err)
			_, err = out.Write(make([]byte, 64<<10)) // what fits
			require.NoError(t, err)
			address := freeAddress(t)
			if reader == "gone" {
				require.NoError(t, in.Close())
			} else {
				defer in.Close()
			}
			s := launchWith(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.Stdout, cmd.Stderr = out, out }, "--listen", address)
			require.NoError(t, out.Close())
			await(t, "it to serve", func() bool {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/livez", nil)
				require.NoError(t, err)
				got, err := send(r)
				return err == nil && got.status == http.StatusOK
			})
			s.stop(t, sigterm)
		}
	})
	t.Run("a start that fails", func(t *testing.T) {
		t.Parallel()
		in, out, err := os.Pipe()
		require.NoError(t, err)
		defer in.Close()
		_, err = out.Write(make([]byte, 64<<10))
		require.NoError(t, err)
		s := launchWith(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.Stderr = out }, "--store", "sqlite:/")
		require.NoError(t, out.Close())
		select {
		case <-s.exited:
			require.Equal(t, 1, s.cmd.ProcessState.ExitCode())
		case <-time.After(patience):
			t.Fatal("it hangs")
		}
	})
}

// TestWhatIsPrintedEndsWithItsReader: a command that prints ends quietly, as others do, when nobody wants to
// read on.
func TestWhatIsPrintedEndsWithItsReader(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"config", "openapi", "--help"} {
		in, out, err := os.Pipe()
		require.NoError(t, err)
		require.NoError(t, in.Close())
		cmd := exec.CommandContext(t.Context(), program, command)
		var stderr bytes.Buffer
		cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = environment(), t.TempDir(), out, &stderr
		_ = cmd.Run() // ended by SIGPIPE
		require.NoError(t, out.Close())
		assert.Empty(t, stderr.String(), command)
	}
}

// certificate makes a certificate with this number, and its key, in two files, and returns the first.
func certificate(t *testing.T, number int64, cert, key string) []byte {
	t.Helper()
	chain, private, err := local.Certificate(number)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(cert, chain, 0o600))
	require.NoError(t, os.WriteFile(key, private, 0o600))
	return chain
}

// TestAHangupReadsAgainWhatCanChange: certificate, token, password and mail server; what cannot be used
// leaves the old in force, and nobody is disconnected.
func TestAHangupReadsAgainWhatCanChange(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := func(name string) string { return filepath.Join(folder, name) }
	put := func(name, text string) { require.NoError(t, os.WriteFile(file(name), []byte(text+"\n"), 0o600)) }
	certificate(t, 1, file("cert"), file("key"))
	put("token", "the-first-token-of-all")
	put("docs", "first")
	first, firstAddress := openPost(t, "127.0.0.1:0")
	second, secondAddress := openPost(t, "127.0.0.1:0")
	put("sender", "smtp://parley:hunter2@"+firstAddress+"?tls=none&plaintext-auth=true")
	put("store", "memory:")
	s := launchWith(t, file("data"), func(cmd *exec.Cmd) {
		cmd.Env = environment("PARLEY_ADMIN_TOKEN_FILE="+file("token"), "PARLEY_DOCS_PASSWORD_FILE="+file("docs"),
			"PARLEY_MAIL_SENDER_FILE="+file("sender"), "PARLEY_STORE_FILE="+file("store"))
	}, "--tls-cert", file("cert"), "--tls-key", file("key"))
	line, ok := s.stdout.line(t, s.exited, "Parley is at ")
	require.True(t, ok, s.stderr.String())
	s.url = strings.TrimPrefix(line, "Parley is at ")
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}} //nolint:gosec // its number is looked at
	client := &http.Client{Timeout: patience, Transport: transport}
	s.awaitAdmin(t)
	ask := func(path string, change func(*http.Request)) (status int, number int64) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
		require.NoError(t, err)
		change(r)
		answer, err := client.Do(r)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		return answer.StatusCode, answer.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	mails := func(token string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.admin+"/mail/stats", nil)
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+token)
		got, err := send(r) // on loopback without TLS
		require.NoError(t, err)
		return got.status
	}
	docs := func(password string) int {
		status, _ := ask("/api-docs", func(r *http.Request) { r.SetBasicAuth("linkdocs", password) })
		return status
	}
	number := func() int64 { _, n := ask("/livez", func(*http.Request) {}); return n }
	hangups := 0
	hangup := func() string {
		t.Helper()
		before := len(s.stderr.String())
		require.NoError(t, s.cmd.Process.Signal(syscall.SIGHUP))
		hangups++
		await(t, "it to read again", func() bool { return strings.Count(s.stderr.String(), "SIGHUP: read again") == hangups })
		return s.stderr.String()[before:]
	}
	signUp := func(email string) {
		text, err := json.Marshal(map[string]string{"fullName": "Ada Lovelace", "email": email, "password": password})
		require.NoError(t, err)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/auth/signup", bytes.NewReader(text))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		answer, err := client.Do(r)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusAccepted, answer.StatusCode)
	}
	arrives := func(p *post) {
		t.Helper()
		select {
		case <-p.mails:
		case <-time.After(patience):
			t.Fatalf("no mail came\n%s", s.stderr)
		}
	}
	signUp("first@example.com")
	arrives(first)
	held, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), transport.TLSClientConfig)
	require.NoError(t, err)
	defer held.Close()

	said := hangup()
	require.NotContains(t, said, `"ERROR"`, "nothing changed, and nothing is wrong")

	require.NoError(t, os.WriteFile(file("key"), []byte("broken"), 0o600))
	put("token", "short")
	put("docs", "")
	put("sender", "smtp://parley:wrong@"+secondAddress+"?tls=none&plaintext-auth=true")
	said = hangup()
	for _, want := range []string{"the certificate cannot be used", "PARLEY_ADMIN_TOKEN", "PARLEY_DOCS_PASSWORD_FILE: it is empty", "mail server cannot be used"} {
		require.Contains(t, said, want)
	}
	require.NotContains(t, said, "wrong@")
	require.EqualValues(t, 1, number())
	require.Equal(t, http.StatusOK, mails("the-first-token-of-all"))
	require.Equal(t, http.StatusOK, docs("first"))
	signUp("still@example.com")
	arrives(first)

	certificate(t, 2, file("cert"), file("key"))
	put("token", "the-second-token-of-all")
	put("docs", "second")
	put("sender", "smtp://parley:hunter2@"+secondAddress+"?tls=none&plaintext-auth=true")
	put("store", "sqlite:"+file("other.db"))
	said = hangup()
	require.NotContains(t, said, `"ERROR"`)
	require.Contains(t, said, `"restart":["PARLEY_STORE"]`, "what needs a restart is named")
	for _, want := range []string{"PARLEY_ADMIN_TOKEN", "PARLEY_DOCS_PASSWORD", "PARLEY_MAIL_SENDER", file("cert")} {
		require.Contains(t, said, want)
	}
	require.EqualValues(t, 2, number())
	require.Equal(t, http.StatusOK, mails("the-second-token-of-all"))
	require.Equal(t, http.StatusUnauthorized, mails("the-first-token-of-all"))
	require.Equal(t, http.StatusOK, docs("second"))
	require.Equal(t, http.StatusUnauthorized, docs("first"))
	signUp("second@example.com")
	arrives(second)
	_, err = io.WriteString(held, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(held), nil)
	require.NoError(t, err, "who was connected stays so")
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)
	for _, secret := range []string{"hunter2", "token-of-all"} {
		require.NotContains(t, s.stderr.String(), secret)
	}
	require.NoError(t, held.Close())
	s.stop(t, sigterm)
}
