package system

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/fault"
)

// watched tells of each token that a session gives.
type watched struct {
	*wsclient.Session
	tokens chan string
}

func (w watched) Token(ctx context.Context, spent string) (string, error) {
	token, err := w.Session.Token(ctx, spent)
	if err == nil {
		w.tokens <- token
	}
	return token, err
}

// TestSession_keepsAClient signs in over REST, and keeps a socket over several access tokens until somebody
// signs out everywhere.
func TestSession_keepsAClient(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, cfg Config) {
		cfg.Auth.AccessTTL = 3 * time.Second
		s := Start(t, cfg)
		u := s.User(t, "Ada")
		session, err := wsclient.SignIn(within(t), wsclient.SessionConfig{Server: s.URL}, u.Email, u.Password)
		require.NoError(t, err)
		require.Equal(t, wsclient.Account{ID: u.ID, FullName: "Ada", Email: u.Email, Verified: true}, session.Account())
		w := watched{session, make(chan string, 1000)}
		gone := make(chan wsclient.Event, 100)
		c, err := wsclient.Dial(within(t), wsclient.Config{
			URL: session.SocketURL(), Tokens: w, MinPause: 10 * time.Millisecond,
			Handle: func(e wsclient.Event) {
				if e.Kind == wsclient.EventDisconnected {
					gone <- e
				}
			},
		})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		_, err = c.Join(within(t), "tea")
		require.NoError(t, err)
		different := map[string]bool{}
		for len(different) < 3 {
			select {
			case token := <-w.tokens:
				different[token] = true
			case e := <-gone:
				t.Fatalf("the connection ended: %v", e.Err)
			case <-time.After(waitTimeout):
				t.Fatal("nobody renews")
			}
		}
		_, err = c.Send(within(t), "tea", "still here")
		require.NoError(t, err)
		require.Empty(t, gone)

		// It goes on in another program, which ends it for both.
		other, err := wsclient.Resume(within(t), wsclient.SessionConfig{Server: s.URL}, session.RefreshToken())
		require.NoError(t, err)
		require.NoError(t, other.SignOut(within(t), true))
		select {
		case <-c.Done():
		case <-time.After(waitTimeout):
			t.Fatal("the client lives on")
		}
		require.ErrorIs(t, c.Err(), fault.Unauthenticated)
		assert.Equal(t, 4401, (<-gone).Code)
		_, err = other.Token(within(t), "")
		require.ErrorIs(t, err, fault.Unauthenticated)
	})
}
