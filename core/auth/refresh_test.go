package auth_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
)

func TestRefreshRotates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	g, who := w.signIn(ada, password)
	u := g.User
	tokens := map[string]bool{g.RefreshToken: true}
	for range 2 {
		w.clock.Advance(29 * 24 * time.Hour) // each use extends the session
		next, err := w.Refresh(t.Context(), g.RefreshToken)
		require.NoError(t, err)
		require.False(t, tokens[next.RefreshToken])
		tokens[next.RefreshToken] = true
		require.Equal(t, u, next.User)
		now, err := w.Authenticate(t.Context(), next.AccessToken)
		require.NoError(t, err)
		require.Equal(t, who.SessionID, now.SessionID)
		g = next
	}
	w.clock.Advance(30 * 24 * time.Hour)
	_, err := w.Refresh(t.Context(), g.RefreshToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
}

func TestRefreshTokenReuseEndsTheSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	stolen, who := w.signIn(ada, password)
	other, _ := w.signIn(ada, password)
	fresh, err := w.Refresh(t.Context(), stolen.RefreshToken)
	require.NoError(t, err)
	w.clock.Advance(10 * time.Second) // the grace is over

	hungUp, cancel := context.WithCancel(t.Context())
	w.cfg.Sessions = cancelAfterUpdate{w.store.Sessions, cancel}
	svc, err := auth.New(w.cfg)
	require.NoError(t, err)
	_, err = svc.Refresh(hungUp, stolen.RefreshToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	require.ErrorIs(t, err, fault.Unauthenticated)

	var data auth.SessionRevoked
	e := w.last(auth.TypeSessionRevoked, &data)
	require.Equal(t, auth.Topic, e.Topic)
	require.Equal(t, string(who.UserID), e.Key)
	require.Equal(t, auth.SessionRevoked{
		UserID: string(who.UserID), SessionID: who.SessionID,
		Until: w.clock.Now().UTC().Truncate(time.Microsecond).Add(15 * time.Minute),
	}, data)

	_, err = w.Refresh(t.Context(), fresh.RefreshToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded, "the thief's and the owner's tokens both end")
	_, err = w.Authenticate(t.Context(), fresh.AccessToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	_, err = w.Refresh(t.Context(), other.RefreshToken)
	require.NoError(t, err, "other sessions go on")
	events := len(w.events())
	_, err = w.Refresh(t.Context(), stolen.RefreshToken)
	require.ErrorIs(t, err, auth.ErrSessionEnded)
	require.Len(t, w.events(), events, "it ends once")
}

// cancelAfterUpdate is a caller that hangs up while its request is under way.
type cancelAfterUpdate struct {
	auth.SessionStore
	cancel context.CancelFunc
}

func (c cancelAfterUpdate) Update(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
	s, err := c.SessionStore.Update(ctx, id, change, events...)
	c.cancel()
	return s, err
}

// TestConcurrentRefreshesHaveOneSuccessor lets many use one token at once, as copied tabs do.
func TestConcurrentRefreshesHaveOneSuccessor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	g, _ := w.signIn(ada, password)
	grants := make([]auth.Grant, 16)
	var all sync.WaitGroup
	for i := range grants {
		all.Go(func() {
			var err error
			grants[i], err = w.Refresh(context.Background(), g.RefreshToken)
			assert.NoError(t, err)
		})
	}
	all.Wait()
	for _, got := range grants {
		require.Equal(t, grants[0].RefreshToken, got.RefreshToken)
		require.NotEqual(t, g.RefreshToken, got.RefreshToken)
		_, err := w.Authenticate(t.Context(), got.AccessToken)
		require.NoError(t, err)
	}
	require.NotContains(t, w.types(), auth.TypeSessionRevoked)
	_, err := w.Refresh(t.Context(), grants[0].RefreshToken)
	require.NoError(t, err)
}

func TestRefreshCanBeRepeatedForAWhile(t *testing.T) {
	t.Parallel()
	const grace = 10 * time.Second
	for name, tc := range map[string]struct {
		wait    time.Duration
		rotated bool // once more, by whoever got the answer
		want    error
	}{
		"at once":              {0, false, nil},
		"just in time":         {grace - time.Microsecond, false, nil},
		"too late":             {grace, false, auth.ErrSessionEnded},
		"after the next token": {0, true, auth.ErrSessionEnded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.account(ada)
			old, who := w.signIn(ada, password)
			lost, err := w.Refresh(t.Context(), old.RefreshToken)
			require.NoError(t, err)
			w.clock.Advance(tc.wait)
			if tc.rotated {
				_, err = w.Refresh(t.Context(), lost.RefreshToken)
				require.NoError(t, err)
			}
			again, err := w.Refresh(t.Context(), old.RefreshToken)
			if tc.want != nil {
				require.ErrorIs(t, err, tc.want)
				_, err = w.Refresh(t.Context(), lost.RefreshToken)
				require.ErrorIs(t, err, auth.ErrSessionEnded, "a token that was used before ends the session")
				return
			}
			require.NoError(t, err)
			require.Equal(t, lost.RefreshToken, again.RefreshToken)
			s, err := w.store.Sessions.ByID(t.Context(), who.SessionID)
			require.NoError(t, err)
			for _, secret := range []string{old.RefreshToken, lost.RefreshToken} {
				parts := strings.Split(secret, ".")
				require.NotContains(t, s.TokenHash+s.PreviousHash+s.RotationKey+s.FamilyHash, parts[2], "nothing readable is stored")
			}
			_, err = w.Refresh(t.Context(), again.RefreshToken)
			require.NoError(t, err)
		})
	}
}

func TestRefreshIsLimitedPerSessionAndNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *auth.Config) { c.RefreshRate = auth.Rate{Burst: 5, Per: time.Minute} })
	w.account(ada)
	g, _ := w.signIn(ada, password)
	h, who := w.signIn(ada, password)
	var err error
	for range 5 {
		g, err = w.Refresh(t.Context(), g.RefreshToken)
		require.NoError(t, err)
	}
	_, err = w.Refresh(t.Context(), g.RefreshToken)
	require.ErrorIs(t, err, auth.ErrTooMany)
	require.Positive(t, fault.Public(err).RetryAfter)
	_, err = w.Refresh(t.Context(), h.RefreshToken)
	require.NoError(t, err, "another session")
	w.clock.Advance(12 * time.Second)
	_, err = w.Refresh(t.Context(), g.RefreshToken)
	require.NoError(t, err, "it ended nothing")

	from := auth.Client{Address: "192.0.2.1"}
	for range 500 {
		require.NoError(t, w.AllowRefresh(t.Context(), from))
	}
	require.ErrorIs(t, w.AllowRefresh(t.Context(), from), auth.ErrTooMany)
	require.NoError(t, w.AllowCode(t.Context(), from))

	for range 60 {
		_, _, err = w.SocketTicket(t.Context(), who)
		require.NoError(t, err)
	}
	_, _, err = w.SocketTicket(t.Context(), who)
	require.ErrorIs(t, err, auth.ErrTooMany)
	for range 299 {
		require.NoError(t, w.AllowCode(t.Context(), from))
	}
	require.ErrorIs(t, w.AllowCode(t.Context(), from), auth.ErrTooMany)
}

func TestRefreshWithATokenThatNeverWas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	g, _ := w.signIn(ada, password)
	h, _ := w.signIn(ada, password)
	mine, his := strings.Split(g.RefreshToken, "."), strings.Split(h.RefreshToken, ".")
	require.Len(t, mine, 3)
	for name, bad := range map[string]string{
		"empty":               "",
		"dots":                "..",
		"an access token":     g.AccessToken,
		"no session":          "." + mine[1] + "." + mine[2],
		"unknown session":     "nobody." + mine[1] + "." + mine[2],
		"another's family":    mine[0] + "." + his[1] + "." + mine[2],
		"swapped secrets":     mine[0] + "." + mine[2] + "." + mine[1],
		"a part too many":     g.RefreshToken + "." + mine[2],
		"a character changed": mine[0] + "." + flip(mine[1]) + "." + mine[2],
		"a line break":        mine[0] + "." + mine[1] + ".\n" + mine[2],
		"huge":                strings.Repeat("x", 1<<20) + "." + mine[1] + "." + mine[2],
		"NUL":                 "\x00." + mine[1] + "." + mine[2],
	} {
		_, err := w.Refresh(t.Context(), bad)
		require.ErrorIs(t, err, auth.ErrTokenInvalid, name)
	}
	_, err := w.Refresh(t.Context(), g.RefreshToken)
	require.NoError(t, err, "none of them had an effect")
}

func flip(s string) string {
	if s[0] == 'A' {
		return "B" + s[1:]
	}
	return "A" + s[1:]
}

func TestRefreshSurvivesACrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.account(ada)
	g, _ := w.signIn(ada, password)
	w.steps.arm(1, false)
	_, err := w.Refresh(t.Context(), g.RefreshToken)
	require.ErrorIs(t, err, fault.Unavailable)
	require.True(t, w.steps.disarm())
	_, err = w.Refresh(t.Context(), g.RefreshToken)
	require.NoError(t, err, "what was not stored did not happen")
}
