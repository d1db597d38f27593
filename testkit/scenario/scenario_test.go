package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/testkit"
	"github.com/parley-chat/parley/testkit/scenario"
)

// failed is a test that may fail: it keeps why.
type failed struct {
	testing.TB
	why string
}

func (f *failed) Helper() {}

func (f *failed) Fatal(args ...any) { f.Fatalf("%s", fmt.Sprint(args...)) }

func (f *failed) Fatalf(format string, args ...any) {
	f.why = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// tell tells the story to a stage where it goes wrong, and returns why.
func tell(t *testing.T, stage scenario.Stage) string {
	t.Helper()
	f := &failed{TB: t}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		scenario.Tell(f, stage)
	}()
	<-ended
	require.NotEmpty(t, f.why, "the story was told to the end")
	return f.why
}

// sent is a mailbox where every mail has arrived already.
type sent struct{ mail.Message }

func (s sent) Await(_ context.Context, address string, _ int) (mail.Message, error) {
	if s.Text == "" {
		return mail.Message{}, errors.New("no mail came")
	}
	s.To = address
	return s.Message, nil
}

func TestTell_failsWhereTheStoryGoesOtherwise(t *testing.T) {
	t.Parallel()
	accepts := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte(`{}`)) // the client is here
	}
	for _, c := range []struct {
		name  string
		serve http.HandlerFunc
		mail  mail.Message
		why   string
	}{
		{"the status is another", http.NotFound, mail.Message{}, "/auth/signup {\"email\":\"ada@parley.test\""},
		{"the answer is no JSON", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusAccepted)
			_, _ = w.Write([]byte("hello")) // the client is here
		}, mail.Message{}, "the answer is no object: hello"},
		{"no mail comes", accepts, mail.Message{}, "no mail came"},
		{"the mail has no sender", accepts, mail.Message{Text: "hello"}, "a mail from \"\""},
		{"the mail has no link", accepts, mail.Message{From: "parley@parley.test", Text: "hello"}, "no link"},
		{"the link leads elsewhere", accepts, mail.Message{From: "parley@parley.test", Text: "http://elsewhere.test/?code=1"}, "http://elsewhere.test/?code=1 does not begin with http://"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(c.serve)
			defer server.Close()
			socket := "ws" + strings.TrimPrefix(server.URL, "http") + "/socket"
			why := tell(t, scenario.Stage{URL: server.URL, Sockets: [2]string{socket, socket}, Mails: sent{c.mail}})
			assert.Contains(t, why, c.why)
			assert.Contains(t, why, "# Ada signs up", "the failure shows the story so far")
		})
	}
	assert.Contains(t, tell(t, scenario.Stage{URL: "http://localhost", Mails: testkit.NewMailbox()}), "Sockets and Mails are required")
}

func TestGolden_holdsNothingThatDiffers(t *testing.T) {
	t.Parallel()
	assert.Len(t, strings.Split(scenario.Golden(), "\n# "), 24)
	for _, differs := range []string{"127.0.0.1", "localhost", "eyJ", "2026"} {
		assert.NotContains(t, scenario.Golden(), differs)
	}
}
