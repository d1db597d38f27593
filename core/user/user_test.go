package user_test

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

func TestUserHidesItselfFromLogs(t *testing.T) {
	t.Parallel()
	u := user.User{ID: "u1", FullName: "Ada Lovelace", Email: "ada@example.com", PasswordHash: "$hash$"}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("hello", "user", u)
	require.Contains(t, log.String(), "user.id=u1")
	require.Contains(t, log.String(), "user.verified=false")
	for _, hidden := range []string{"Lovelace", "ada@", "$hash$"} {
		require.NotContains(t, log.String(), hidden)
	}
}

func TestVerified(t *testing.T) {
	t.Parallel()
	require.False(t, user.User{}.Verified())
	require.True(t, user.User{VerifiedAt: time.Unix(0, 0)}.Verified())
}

func TestKinds(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, user.ErrNotFound, fault.NotFound)
	require.ErrorIs(t, user.ErrEmailTaken, fault.Conflict)
}

func TestErase(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_800_000_000, 0).UTC()
	u := user.User{
		ID: "u1", FullName: "Ada Lovelace", Email: "ada@example.com", PasswordHash: "$hash$", CreatedAt: at.Add(-time.Hour), VerifiedAt: at, KeptSession: "s1",
	}
	require.False(t, u.Erased())
	erased := u.Erase(at)
	require.True(t, erased.Erased())
	require.Equal(t, user.User{
		ID: "u1", FullName: user.ErasedName, Email: erased.Email, CreatedAt: u.CreatedAt, PasswordChangedAt: at, SessionsFrom: at,
	}, erased)
	require.NotContains(t, string(erased.Email), "ada")
	require.NotEqual(t, erased.Email, user.User{ID: "u2"}.Erase(at).Email, "addresses are unique")
	require.Equal(t, erased, erased.Erase(at.Add(time.Hour)), "once erased, it stays as it is")
	_, err := user.ParseEmail(string(erased.Email))
	require.ErrorIs(t, err, user.ErrEmailInvalid, "nobody has that address")
}
