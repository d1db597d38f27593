package system

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/socket"
)

// TestClient_renews keeps a connection for several lives of an access token; a client that does not
// renew loses its own, and comes back with a new token.
func TestClient_renews(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: tokens have to expire")
	}
	t.Parallel()
	transports(t, func(t *testing.T, cfg Config) {
		cfg.Auth.AccessTTL = 5 * time.Second
		s := Start(t, cfg)
		session := func(name string) (token func(context.Context) (string, error)) {
			u := s.User(t, name)
			access, refresh := u.AccessToken, u.RefreshToken
			var mu sync.Mutex
			first := true
			return func(ctx context.Context) (string, error) {
				mu.Lock()
				defer mu.Unlock()
				if first {
					first = false
					return access, nil
				}
				var grant struct{ AccessToken, RefreshToken string }
				a, err := s.Do(t.Context(), http.MethodPost, "/auth/refresh", "", map[string]string{"refreshToken": refresh})
				if err != nil {
					return "", err // the test ends
				}
				if !assert.Equal(t, http.StatusOK, a.Status, "%s", a.Body) || !assert.NoError(t, json.Unmarshal(a.Body, &grant)) {
					return "", errors.New("the refresh failed")
				}
				refresh = grant.RefreshToken
				return grant.AccessToken, ctx.Err()
			}
		}
		dial := func(token, renew func(context.Context) (string, error)) (*wsclient.Client, <-chan wsclient.Event) {
			gone := make(chan wsclient.Event, 100)
			c, err := wsclient.Dial(within(t), wsclient.Config{
				Inline: true, Rate: -1,
				URL: s.SocketURL, Token: token, Renew: renew, MinPause: 10 * time.Millisecond,
				Handle: func(e wsclient.Event) {
					if e.Kind == wsclient.EventDisconnected {
						gone <- e
					}
				},
			})
			require.NoError(t, err)
			t.Cleanup(c.Close)
			return c, gone
		}
		renewals := make(chan struct{}, 100)
		token := session("Ada")
		ada, gone := dial(token, func(ctx context.Context) (string, error) {
			renewals <- struct{}{}
			return token(ctx)
		})
		plain, lost := dial(session("Bob"), nil)
		for range 4 { // at once, and after two thirds of the life of a token each
			select {
			case <-renewals:
			case e := <-gone:
				t.Fatalf("the connection ended: %v", e.Err)
			case <-time.After(waitTimeout):
				t.Fatal("nobody renews")
			}
		}
		_, err := ada.Join(within(t), "tea")
		require.NoError(t, err)
		require.Empty(t, gone)
		select {
		case e := <-lost:
			require.Equal(t, socket.CloseUnauthenticated, e.Code)
		case <-time.After(waitTimeout):
			t.Fatal("a connection outlived its token")
		}
		_, err = plain.Join(within(t), "tea")
		require.NoError(t, err, "it came back with a new token")
	})
}
