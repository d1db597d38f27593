package stack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/conformance/stack"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit"
	"github.com/parley-chat/parley/testkit/servers"
	"github.com/parley-chat/parley/testkit/wsraw"
)

// request makes a request that must succeed, and returns its answer.
func request(ctx context.Context, t *testing.T, method, url, token string, body any) []byte {
	t.Helper()
	text, err := json.Marshal(body)
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(text))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	var out bytes.Buffer
	_, err = out.ReadFrom(res.Body)
	require.NoError(t, err)
	require.Less(t, res.StatusCode, 300, out.String())
	return out.Bytes()
}

// What a mail server refuses for good waits for a person, who sends it again.
func TestADeadLetterIsReplayed(t *testing.T) {
	t.Parallel()
	for name, queue := range map[string]string{"in the database": "store", "in Redis": "redis"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			on := shared(t, "")
			on.Store = each(servers.Postgres, t)
			on.Env[config.Mailer] = append(on.Env[config.Mailer], "PARLEY_MAIL_QUEUE="+queue)
			s := stack.Start(t, on)
			s.Mails.Refuse(550)
			request(ctx, t, http.MethodPost, s.Auth.URL+"/auth/signup", "", map[string]any{"fullName": "Ada", "email": "ada@parley.test", "password": "a long pass phrase"})
			var dead struct {
				Jobs []struct {
					ID, LastError string
					Attempts      int
				}
			}
			for len(dead.Jobs) == 0 {
				require.NoError(t, ctx.Err())
				require.NoError(t, json.Unmarshal(request(ctx, t, http.MethodGet, s.Mailer.AdminURL+"/mail/jobs?state=dead", stack.AdminToken, nil), &dead))
			}
			require.Len(t, dead.Jobs, 1)
			assert.Equal(t, 1, dead.Jobs[0].Attempts, "what is refused for good is not tried again")
			assert.Contains(t, dead.Jobs[0].LastError, "550")
			assert.NotContains(t, dead.Jobs[0].LastError, "ada@parley.test")
			assert.Empty(t, s.Mails.All())

			s.Mails.Refuse(0)
			request(ctx, t, http.MethodPost, s.Mailer.AdminURL+"/mail/jobs/"+dead.Jobs[0].ID+"/replay", stack.AdminToken, nil)
			_, err := s.Mails.Await(ctx, "ada@parley.test", 1)
			require.NoError(t, err)
		})
	}
}

// A node verifies tokens by itself, and learns of sessions that end from the bus. One that did not
// run when a session ended finds it there when it comes back.
func TestANodeThatWasAwayKnowsWhoSignedOut(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	on := shared(t, "")
	on.Store = each(servers.Postgres, t)
	s := stack.Start(t, on)
	post := func(path, token string, body any) []byte {
		return request(ctx, t, http.MethodPost, s.Auth.URL+path, token, body)
	}
	post("/auth/signup", "", map[string]any{"fullName": "Ada", "email": "ada@parley.test", "password": "a long pass phrase"})
	m, err := s.Mails.Await(ctx, "ada@parley.test", 1)
	require.NoError(t, err)
	code, err := testkit.Code(m)
	require.NoError(t, err)
	post("/auth/verify", "", map[string]any{"code": code})
	var grant struct{ AccessToken string }
	require.NoError(t, json.Unmarshal(post("/auth/signin", "", map[string]any{"email": "ada@parley.test", "password": "a long pass phrase"}), &grant))

	// closed connects to a node, and returns the code with which the node closes.
	closed := func(node *stack.Program) int {
		c, err := wsraw.Dial(ctx, node.SocketURL(), http.Header{"Authorization": {"Bearer " + grant.AccessToken}}, nil)
		require.NoError(t, err)
		defer c.Close()
		f, err := c.Read()
		require.NoError(t, err)
		require.EqualValues(t, wsraw.OpClose, f.Opcode, "%s", f.Payload)
		return int(f.Payload[0])<<8 | int(f.Payload[1])
	}
	require.NoError(t, s.Sockets[0].Stop())
	told := make(chan int, 1)
	go func() { told <- closed(s.Sockets[1]) }()
	post("/auth/signout", grant.AccessToken, nil)
	ended := time.Now()
	assert.Equal(t, socket.CloseUnauthenticated, <-told, "the node that runs closes the socket")
	t.Logf("the socket was closed %v after the sign-out was answered", time.Since(ended))
	require.NoError(t, s.Sockets[0].Start())
	assert.Equal(t, socket.CloseUnauthenticated, closed(s.Sockets[0]), "and so does the one that was away")
}
