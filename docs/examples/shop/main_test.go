package main_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
)

// patience is how long something may take that takes no time.
const patience = time.Minute

// program is the shop, in a process.
type program struct {
	url    string
	cmd    *exec.Cmd
	stderr *bytes.Buffer // to be read after wait
}

// open builds the shop and starts it. It is killed when the test ends.
func open(t *testing.T) *program {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped by -short: another program would be built")
	}
	binary := filepath.Join(t.TempDir(), "shop")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	p := &program{cmd: exec.CommandContext(ctx, binary, "-listen", "127.0.0.1:0"), stderr: &bytes.Buffer{}}
	p.cmd.Stderr = p.stderr
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	url, there := strings.CutPrefix(strings.TrimSpace(line), "The shop is at ")
	require.True(t, there, line)
	p.url = url
	return p
}

// connect returns a client of the socket, and its messages.
func (p *program) connect(t *testing.T, token string) (*wsclient.Client, <-chan wsclient.Message) {
	t.Helper()
	hears := make(chan wsclient.Message, 100)
	c, err := wsclient.Dial(t.Context(), wsclient.Config{
		URL:   "ws" + strings.TrimPrefix(p.url, "http") + "/socket",
		Token: func(context.Context) (string, error) { return token, nil },
		Handle: func(e wsclient.Event) {
			if e.Kind == wsclient.EventMessage {
				hears <- e.Message
			}
		},
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c, hears
}

func next(t *testing.T, messages <-chan wsclient.Message) wsclient.Message {
	t.Helper()
	select {
	case m := <-messages:
		return m
	case <-time.After(patience):
		require.FailNow(t, "no message comes")
		return wsclient.Message{}
	}
}

// post calls a route of the shop's own.
func (p *program) post(t *testing.T, path, token string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+path, nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	got, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	require.NoError(t, err)
	return got.StatusCode, strings.TrimSpace(string(text))
}

func refusal(t *testing.T, err error) *wsclient.Error {
	t.Helper()
	var refused *wsclient.Error
	require.True(t, errors.As(err, &refused), "%v", err)
	return refused
}

// TestTheShop runs the program and sees all that is its own: the route, the rule of access, what it says in a room, and the screen.
func TestTheShop(t *testing.T) {
	t.Parallel()
	p := open(t)
	status, _ := p.post(t, "/orders", "token-of-nobody")
	require.Equal(t, http.StatusUnauthorized, status)
	status, room := p.post(t, "/orders", "token-of-ada")
	require.Equal(t, http.StatusOK, status, room)
	require.Equal(t, "order-1", room)

	ada, adaHears := p.connect(t, "token-of-ada")
	bob, bobHears := p.connect(t, "token-of-bob")
	clerk, clerkHears := p.connect(t, "token-of-clerk")
	for _, c := range []*wsclient.Client{ada, clerk} {
		_, err := c.Join(t.Context(), room)
		require.NoError(t, err)
	}
	for _, hears := range []<-chan wsclient.Message{adaHears, clerkHears} {
		m := next(t, hears)
		assert.Equal(t, "Thank you. We answer here.", m.Text)
		assert.Equal(t, wsclient.User{ID: "clerk", Name: "The shop"}, m.User)
	}
	for _, name := range []string{room, "order-2", "hall"} {
		_, err := bob.Join(t.Context(), name)
		assert.Equal(t, wsclient.Error{Code: "not_allowed", Title: "this is not allowed in this room", Detail: "this is no order of yours"}, *refusal(t, err), name)
	}

	_, err := ada.Send(t.Context(), room, "My card is 4111 1111 1111 1111.")
	require.NoError(t, err)
	_, err = ada.Send(t.Context(), room, "It is at https://example.com/card")
	refused := refusal(t, err)
	assert.Equal(t, "message_refused", refused.Code)
	assert.Equal(t, "no links, please", refused.Detail)
	for _, hears := range []<-chan wsclient.Message{adaHears, clerkHears} {
		assert.Equal(t, "My card is [card number].", next(t, hears).Text)
	}

	status, body := p.post(t, "/orders/order-1/shipped", "token-of-ada")
	assert.Equal(t, http.StatusForbidden, status, body)
	status, body = p.post(t, "/orders/order-1/shipped", "token-of-clerk")
	require.Equal(t, http.StatusOK, status, body)
	m := next(t, adaHears)
	assert.Equal(t, "Your parcel is on its way.", m.Text)
	assert.EqualValues(t, 3, m.Seq, "what was refused has no place")

	// A room of somebody else is another room.
	_, room = p.post(t, "/orders", "token-of-bob")
	require.Equal(t, "order-2", room)
	_, err = bob.Join(t.Context(), room)
	require.NoError(t, err)
	assert.Equal(t, "order-2", next(t, bobHears).Room)
	_, err = ada.Join(t.Context(), room)
	refusal(t, err)

	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	require.NoError(t, p.cmd.Wait(), "it ends by itself")
	assert.Empty(t, p.stderr.String())
}

// TestTheCommandsOfTheGuideRun runs those of docs/rules.md about the shop.
func TestTheCommandsOfTheGuideRun(t *testing.T) {
	t.Parallel()
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("SKIPPED: there is no sh")
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("SKIPPED: curl is not installed")
	}
	guide, err := os.ReadFile("../../rules.md")
	require.NoError(t, err)
	_, text, found := strings.Cut(string(guide), "\n## A program that has all of it\n")
	require.True(t, found)
	text, _, _ = strings.Cut(text, "\n## ")
	blocks := strings.Split(text, "```sh\n")[1:]
	require.Len(t, blocks, 2, "how it is started, and what can be done")
	script, _, _ := strings.Cut(blocks[1], "```")
	p := open(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, shell, "-eu", "-c", strings.ReplaceAll(script, "http://localhost:8080", p.url))
	cmd.Env = append(os.Environ(), "no_proxy=*")
	out, err := cmd.Output()
	require.NoError(t, err, "%s", out)
	answers := string(out)
	for _, part := range []string{
		"order-1\n", `"seq":2`, `"detail":"no links, please"`, `"code":"room_not_found"`, "order-1\n", `"text":"Thank you. We answer here."`,
		`"text":"My card is [card number]."`, `"text":"Your parcel is on its way."`, `"more":false`,
	} {
		_, rest, found := strings.Cut(answers, part)
		require.True(t, found, "no %s in %s\nof %s", part, answers, out)
		answers = rest
	}
}
