package auth_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/user"
)

// sweeperFunc is a store that only cleans.
type sweeperFunc func(ctx context.Context, before time.Time) (int, error)

func (f sweeperFunc) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return f(ctx, before)
}

func TestJanitorCleansEveryHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var seen []time.Time
		broken := sweeperFunc(func(context.Context, time.Time) (int, error) { return 0, errors.New("broken") })
		good := sweeperFunc(func(ctx context.Context, before time.Time) (int, error) {
			deadline, ok := ctx.Deadline()
			require.True(t, ok)
			require.Equal(t, time.Minute, time.Until(deadline))
			seen = append(seen, before)
			return 1, nil
		})
		j, err := auth.NewJanitor(auth.JanitorConfig{Sweepers: []auth.Sweeper{broken, good}})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- j.Run(ctx) }()
		time.Sleep(2*time.Hour + time.Minute)
		cancel()
		require.NoError(t, <-done)
		require.Len(t, seen, 3, "at once and after each hour, whatever the other store does")
		for i, before := range seen {
			require.Equal(t, start.Add(time.Duration(i)*time.Hour-24*time.Hour).UTC(), before)
		}
	})
}

// A sign-up that nobody confirms is kept for SignUpTTL and a day, and then it is nowhere.
func TestSignUpsThatNobodyConfirmsGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *auth.Config) { c.Now = time.Now })
		code := w.signUp(ada)
		j, err := auth.NewJanitor(auth.JanitorConfig{Sweepers: []auth.Sweeper{w.store.SignUps, w.store.Codes}})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- j.Run(ctx) }()
		time.Sleep(8 * 24 * time.Hour)
		found, err := w.store.SignUps.ByEmail(t.Context(), ada)
		require.NoError(t, err)
		require.Len(t, found, 1)
		require.ErrorIs(t, w.Verify(t.Context(), code), auth.ErrCodeUnknown, "the code went before, and the sign-up waits no more")
		time.Sleep(time.Hour + time.Minute)
		found, err = w.store.SignUps.ByEmail(t.Context(), ada)
		require.NoError(t, err)
		require.Empty(t, found)
		_, err = w.store.Users.ByEmail(t.Context(), ada)
		require.ErrorIs(t, err, user.ErrNotFound)
		cancel()
		require.NoError(t, <-done)
	})
}

func TestNewJanitorChecksEverythingAtOnce(t *testing.T) {
	t.Parallel()
	_, err := auth.NewJanitor(auth.JanitorConfig{Every: -1, Keep: -1})
	for _, name := range []string{"Sweepers", "Every", "Keep"} {
		require.ErrorContains(t, err, name)
	}
}
