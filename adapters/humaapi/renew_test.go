package humaapi_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

func TestRenewal(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.signUp()
	events, err := s.store.Outbox.Pending(t.Context(), 1)
	require.NoError(t, err)
	renew := func() map[string]any {
		return s.object(s.wantStatus(s.post("/auth/mail/renew", fields{"kind": mail.KindVerification, "data": events[0].Data}, bearer(adminToken)), http.StatusOK))
	}
	assert.Empty(t, renew(), "the code is still good")
	s.clock.advance(25 * time.Hour)
	raw, err := base64.StdEncoding.DecodeString(renew()["data"].(string))
	require.NoError(t, err)
	var fresh mail.UserCreated
	require.NoError(t, json.Unmarshal(raw, &fresh))
	s.wantStatus(s.post("/auth/verify", fields{"code": fresh.VerificationCode}), http.StatusOK)
	assert.Equal(t, map[string]any{"notNeeded": "the address is confirmed by now"}, renew())

	s.wantProblem(s.post("/auth/mail/renew", fields{"kind": "verification", "data": "?"}, bearer(adminToken)), http.StatusUnprocessableEntity, "invalid")
	s.wantProblem(s.post("/auth/mail/renew", fields{"kind": "verification", "data": ""}), http.StatusUnauthorized, "unauthenticated")
	s.wantProblem(s.post("/auth/mail/renew", fields{"kind": "verification", "data": ""}, bearer("guess")), http.StatusUnauthorized, "token_invalid")
}

// waitingUsers is a store that does not answer before the end of the call.
type waitingUsers struct{ user.Repository }

func (waitingUsers) ByEmail(ctx context.Context, _ user.Email) (user.User, error) {
	<-ctx.Done()
	return user.User{}, ctx.Err()
}

func TestWhatAnOperationWaitsForIsGivenUp(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{
		auth: func(c *auth.Config) { c.Users = waitingUsers{c.Users} },
		api:  humaapi.Config{Timeout: time.Millisecond},
	})
	s.wantProblem(s.post("/auth/signin", fields{"email": ada, "password": password}), http.StatusServiceUnavailable, "unavailable")
	assert.Contains(t, s.log(), "request failed", "the client did not hang up, so it is logged")
}
