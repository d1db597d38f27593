package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
)

const password = "correct horse battery staple"

// browser speaks HTTP to a server. It keeps no connection, so that a server that has just been
// killed is not taken for the new one.
var browser = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}

// reply is an answer of the server, read to its end.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// ask sends a request with a JSON body, or none if body is nil. An error says that no answer came.
func ask(ctx context.Context, method, url, token string, body any) (reply, error) {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return reply{}, err
		}
		in = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, url, in)
	if err != nil {
		return reply{}, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return send(r)
}

func send(r *http.Request) (reply, error) {
	answer, err := browser.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return reply{answer.StatusCode, answer.Header, text}, err
}

// must asks and wants a status.
func must(t *testing.T, want int, method, url, token string, body any) []byte {
	t.Helper()
	got, err := ask(t.Context(), method, url, token, body)
	require.NoError(t, err)
	require.Equal(t, want, got.status, "%s %s: %s", method, url, got.body)
	return got.body
}

func decode[T any](t *testing.T, text []byte) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal(text, &v), "%s", text)
	return v
}

// letter is a mail of the development mailbox.
type letter struct{ ID, To, Subject, Text, HTML, At string }

// grant is the answer to a sign-in.
type grant struct {
	AccessToken, RefreshToken string
	User                      struct {
		ID, FullName, Email string
		IsVerified          bool
	}
}

var codeInLink = regexp.MustCompile(`/auth/verify\?code=([^\s&"]+)`)

// code returns the code of a verification mail, or "".
func (m letter) code() string {
	if found := codeInLink.FindStringSubmatch(m.Text); found != nil {
		return found[1]
	}
	return ""
}

// await asks again and again until something has happened.
func await(t *testing.T, what string, happened func() bool) {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for !happened() {
		select {
		case <-again.C:
		case <-late.C:
			t.Fatalf("waited %v in vain for %s", patience, what)
		}
	}
}

func (s *server) mails(t *testing.T) []letter {
	t.Helper()
	return decode[[]letter](t, must(t, 200, "GET", s.url+"/dev/mail.json", "", nil))
}

// signUp makes an account and does not wait for its mail.
func (s *server) signUp(t *testing.T, name, email string) {
	t.Helper()
	must(t, 202, "POST", s.url+"/auth/signup", "", map[string]string{"fullName": name, "email": email, "password": password})
}

// mailTo waits for the first mail to somebody.
func (s *server) mailTo(t *testing.T, email string) letter {
	t.Helper()
	var found letter
	await(t, "a mail to "+email, func() bool {
		for _, m := range s.mails(t) {
			if m.To == email {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

func (s *server) verify(t *testing.T, code string) {
	t.Helper()
	must(t, 200, "POST", s.url+"/auth/verify", "", map[string]string{"code": code})
}

func (s *server) signIn(t *testing.T, email string) grant {
	t.Helper()
	return decode[grant](t, must(t, 200, "POST", s.url+"/auth/signin", "", map[string]string{"email": email, "password": password}))
}

// member makes an account that can sign in, and signs in.
func (s *server) member(t *testing.T, name string) grant {
	t.Helper()
	email := addressOf(name)
	s.signUp(t, name, email)
	s.verify(t, s.mailTo(t, email).code())
	return s.signIn(t, email)
}

// addressOf is the mail address of a member.
func addressOf(name string) string {
	return strings.ToLower(strings.ReplaceAll(name, " ", ".")) + "@example.com"
}

// socket is the address of the server's socket.
func (s *server) socket() string { return "ws" + strings.TrimPrefix(s.url, "http") + "/socket" }

// connect opens a socket, which is closed when the test ends.
func (s *server) connect(t *testing.T, token string, handle func(wsclient.Event)) *wsclient.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := wsclient.Dial(ctx, wsclient.Config{
		Inline: true, Rate: -1,
		URL: s.socket(), Handle: handle, MaxPause: time.Second,
		Token: func(context.Context) (string, error) { return token, nil },
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// stored returns all messages of a room, lowest sequence first.
func stored(ctx context.Context, c *wsclient.Client, room string, seq uint64) ([]wsclient.Message, error) {
	var all []wsclient.Message
	for before := seq + 1; before > 1; {
		page, err := c.History(ctx, room, wsclient.Range{Before: before, Limit: 1000})
		if err != nil {
			return nil, err
		}
		if len(page.Messages) == 0 {
			return nil, fmt.Errorf("room %s: the history has nothing before %d", room, before)
		}
		all = append(page.Messages, all...)
		before = page.Messages[0].Seq
	}
	return all, nil
}

// TestTheExampleOfTheGoClientRuns runs the program in docs/examples/bot, which the README shows.
func TestTheExampleOfTheGoClientRuns(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("skipped by -short: another program would be built")
	}
	s := serve(t, t.TempDir())
	s.member(t, "Ada Lovelace")
	bot := filepath.Join(t.TempDir(), "bot")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bot, "../../docs/examples/bot").CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.CommandContext(t.Context(), bot, "-server", s.url, "-email", "ada.lovelace@example.com", "-password", password)
	cmd.Env = environment()
	stdout, stderr := newOutput(), newOutput()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	require.NoError(t, cmd.Start())
	exited := make(chan struct{})
	var failed error
	go func() {
		failed = cmd.Wait()
		close(exited)
	}()
	line, ok := stdout.line(t, exited, "Ada Lovelace: ")
	require.True(t, ok, "it ends with %v: %s", failed, stderr)
	require.Equal(t, "Ada Lovelace: Good morning", line)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	within(t, "the bot to sign out and end", func() { <-exited })
	require.NoError(t, failed, "%s", stderr)
	s.sound(t)
}
