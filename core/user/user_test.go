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
