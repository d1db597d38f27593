package main_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/webhook"
	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/testkit/sioclient"
)

const (
	oneSecret   = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	otherSecret = "whsec_bmV3ZXIgc2VjcmV0IG9mIDI0IGJ5dGVz"
)

// judge is an operator's server: it refuses "spam", hides "darn", and takes its time about "slow".
type judge struct {
	*httptest.Server
	asked    atomic.Int64
	unsigned atomic.Int64
	secret   atomic.Value // what it knows
}

func newJudge(t *testing.T) *judge {
	j := &judge{}
	j.secret.Store(oneSecret)
	j.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		j.asked.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil || webhook.Verify([]string{j.secret.Load().(string)}, r.Header, body, time.Now()) != nil {
			j.unsigned.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		switch text := decode[struct{ Text string }](t, body).Text; {
		case strings.Contains(text, "spam"):
			fmt.Fprint(w, `{"allow":false,"reason":"no advertising"}`)
		case strings.Contains(text, "darn"):
			fmt.Fprintf(w, `{"allow":true,"text":%q}`, strings.ReplaceAll(text, "darn", "****"))
		case strings.Contains(text, "slow"):
			<-r.Context().Done()
		default:
			fmt.Fprint(w, `{"allow":true}`)
		}
	}))
	t.Cleanup(j.Close)
	return j
}

// brief is a context for a message that is not to be stored: the client sends again what may pass later.
func brief(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// complains waits for a line in the log, which is written by the way.
func (s *server) complains(t *testing.T, text string) {
	t.Helper()
	await(t, "a line in the log: "+text, func() bool { return strings.Contains(s.stderr.String(), text) })
}

func inRoom(t *testing.T, c *wsclient.Client, room string) (all []string) {
	t.Helper()
	page, err := c.History(t.Context(), room, wsclient.Range{})
	require.NoError(t, err)
	for _, m := range page.Messages {
		all = append(all, m.Text)
	}
	return all
}

func TestAServerOfTheOperatorJudgesMessages(t *testing.T) {
	t.Parallel()
	j := newJudge(t)
	file := filepath.Join(t.TempDir(), "secrets")
	require.NoError(t, os.WriteFile(file, []byte(oneSecret+"\n"), 0o600))
	s := serveWith(t, t.TempDir(), func(c *exec.Cmd) {
		c.Env = append(c.Env, "PARLEY_SCREEN_SECRET_FILE="+file, "PARLEY_SCREEN_TIMEOUT=1s")
	},
		"--screen-url", j.URL+"/messages", "--screen-private", "on")
	token := s.member(t, "Ada Lovelace").AccessToken
	ada := s.connect(t, token, func(wsclient.Event) {})
	_, err := ada.Join(t.Context(), "hall")
	require.NoError(t, err)

	_, err = ada.Send(t.Context(), "hall", "hello")
	require.NoError(t, err)
	_, err = ada.Send(t.Context(), "hall", "oh, darn")
	require.NoError(t, err)
	_, err = ada.Send(t.Context(), "hall", "buy spam")
	var refusal *wsclient.Error
	require.True(t, errors.As(err, &refusal), "%v", err)
	assert.Equal(t, wsclient.Error{Code: "message_refused", Title: "the message was refused", Detail: "no advertising"}, *refusal)
	_, err = ada.Send(brief(t), "hall", "slow") // longer than it may take
	require.Error(t, err)
	require.Equal(t, []string{"hello", "oh, ****"}, inRoom(t, ada, "hall"))

	// By Socket.IO it is the same.
	eve := sioclient.Dial(t, s.url+"/socket.io/", "websocket", nil)
	eve.Connect(`0{"token":"bearer ` + token + `"}`)
	eve.Say(`2["join_room",{"name":"hall","userId":"x"}]`)
	for _, text := range []string{"spam again", "darn again"} {
		eve.Say(`2["message",{"roomName":"hall","message":"` + text + `"}]`)
	}
	await(t, "the message that may pass", func() bool { return len(inRoom(t, ada, "hall")) > 2 })
	require.Equal(t, []string{"hello", "oh, ****", "**** again"}, inRoom(t, ada, "hall"))
	require.Zero(t, j.unsigned.Load())

	// The secret changes without a gap: sign with both, let the server know the new one, sign with that alone.
	for i, step := range []struct{ signs, knows string }{{oneSecret + "," + otherSecret, oneSecret}, {otherSecret, otherSecret}} {
		require.NoError(t, os.WriteFile(file, []byte(step.signs+"\n"), 0o600))
		require.NoError(t, s.cmd.Process.Signal(syscall.SIGHUP))
		await(t, "it to read again", func() bool { return strings.Count(s.stderr.String(), "SIGHUP: read again") == i+1 })
		_, err = ada.Send(t.Context(), "hall", fmt.Sprint("signed ", i))
		require.NoError(t, err)
		j.secret.Store(otherSecret)
		_, err = ada.Send(t.Context(), "hall", fmt.Sprint("signed ", i, " and known"))
		require.NoError(t, err)
	}
	require.Zero(t, j.unsigned.Load())
	s.stop(t, syscall.SIGTERM)
	require.NotContains(t, s.stderr.String(), "whsec_")
}

// Where no server answers, messages are refused, unless the operator says otherwise.
func TestNobodyJudgesMessages(t *testing.T) {
	t.Parallel()
	for onFailure, want := range map[string][]string{"closed": nil, "open": {"hello"}} {
		t.Run(onFailure, func(t *testing.T) {
			t.Parallel()
			s := serve(t, t.TempDir(), "--screen-url", "http://127.0.0.1:1/", "--screen-secret", oneSecret, "--screen-private=on", "--screen-on-failure", onFailure)
			ada := s.connect(t, s.member(t, "Ada Lovelace").AccessToken, func(wsclient.Event) {})
			_, err := ada.Join(t.Context(), "hall")
			require.NoError(t, err)
			_, err = ada.Send(brief(t), "hall", "hello")
			require.Equal(t, want == nil, err != nil)
			require.Equal(t, want, inRoom(t, ada, "hall"))
			s.complains(t, "the screen does not judge messages")
			s.stop(t, syscall.SIGTERM)
		})
	}
	t.Run("a private address", func(t *testing.T) {
		t.Parallel()
		j := newJudge(t)
		s := serve(t, t.TempDir(), "--screen-url", strings.Replace(j.URL, "http://", "https://", 1), "--screen-secret", oneSecret)
		ada := s.connect(t, s.member(t, "Ada Lovelace").AccessToken, func(wsclient.Event) {})
		_, err := ada.Join(t.Context(), "hall")
		require.NoError(t, err)
		_, err = ada.Send(brief(t), "hall", "hello")
		require.Error(t, err)
		s.complains(t, "private addresses are not allowed")
		require.Zero(t, j.asked.Load())
	})
}
