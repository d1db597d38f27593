package humaapi_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/testkit"
)

func TestASecondFactorOverREST(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{auth: func(c *auth.Config) { c.FactorKeys = [][]byte{auth.NewFactorKey()} }})
	s.verified()
	assert.JSONEq(t, `{"password":true,"link":false,"totp":true}`, s.wantStatus(s.get("/auth/methods"), http.StatusOK).body)
	token, _ := s.signIn()
	access := bearer(token)
	assert.JSONEq(t, `{"enabled":false,"recoveryCodes":0}`, s.wantStatus(s.get("/auth/factor", access), http.StatusOK).body)
	s.wantProblem(s.post("/auth/factor/totp/confirm", fields{"code": "123456"}, access), http.StatusNotFound, "second_factor_not_found")
	var made struct{ Secret, URI string }
	require.NoError(t, json.Unmarshal([]byte(s.wantStatus(s.do("POST", "/auth/factor/totp", "", access), http.StatusOK).body), &made))
	s.wantProblem(s.post("/auth/factor/totp/confirm", fields{"code": "12345"}, access), http.StatusUnauthorized, "second_factor_wrong")
	var codes struct{ RecoveryCodes []string }
	require.NoError(t, json.Unmarshal([]byte(s.wantStatus(s.post("/auth/factor/totp/confirm", fields{"code": testkit.TOTPCode(made.Secret, s.clock.now())}, access), http.StatusOK).body), &codes))
	require.Len(t, codes.RecoveryCodes, 10)
	s.wantProblem(s.do("POST", "/auth/factor/totp", "", access), http.StatusConflict, "second_factor_exists")
	s.clock.advance(30 * time.Second)

	refused := s.post("/auth/signin", fields{"email": ada, "password": password})
	s.wantProblem(refused, http.StatusUnauthorized, "second_factor_required")
	var asked struct {
		Challenge string
		ExpiresIn int
	}
	require.NoError(t, json.Unmarshal([]byte(refused.body), &asked))
	assert.Equal(t, 300, asked.ExpiresIn)
	assert.NotContains(t, s.log(), asked.Challenge)
	s.wantProblem(s.post("/auth/signin/factor", fields{"challenge": "nonsense", "code": "123456"}), http.StatusBadRequest, "challenge_unknown")
	s.wantProblem(s.post("/auth/signin/factor", fields{"challenge": asked.Challenge, "code": "12345x"}), http.StatusUnauthorized, "second_factor_wrong")
	s.wantStatus(s.post("/auth/signin/factor", fields{"challenge": asked.Challenge, "code": testkit.TOTPCode(made.Secret, s.clock.now()), "deviceToken": "of another time"}), http.StatusOK)
	s.wantProblem(s.post("/auth/signin/factor", fields{"challenge": asked.Challenge, "code": codes.RecoveryCodes[0]}), http.StatusGone, "challenge_gone")

	s.clock.advance(10 * time.Minute)
	for _, stale := range []answer{
		s.do("POST", "/auth/factor/recovery-codes", "", access), s.do("DELETE", "/auth/factor", "", access),
		s.post("/auth/password/change", fields{"current": password, "password": "another horse entirely"}, access),
		s.post("/auth/me/email", fields{"email": "ada@example.org", "password": password}, access),
		s.do("DELETE", "/auth/me", `{"password":"`+password+`"}`, access),
	} {
		s.wantProblem(stale, http.StatusForbidden, "reauthenticate")
	}
	s.wantProblem(s.post("/auth/reauthenticate", fields{"password": password}, access), http.StatusUnauthorized, "second_factor_required")
	s.wantStatus(s.post("/auth/reauthenticate", fields{"code": codes.RecoveryCodes[1]}, access), http.StatusNoContent)
	s.wantStatus(s.do("POST", "/auth/factor/recovery-codes", "", access), http.StatusOK)
	s.wantStatus(s.do("DELETE", "/auth/factor", "", access), http.StatusNoContent)
	s.wantProblem(s.do("DELETE", "/auth/factor", "", access), http.StatusNotFound, "second_factor_not_found")
	s.wantStatus(s.post("/auth/signin", fields{"email": ada, "password": password}), http.StatusOK)
}

func TestNoSecondFactorsUnlessTheyAreOn(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.verified()
	token, _ := s.signIn()
	access := bearer(token)
	s.wantProblem(s.get("/auth/factor", access), http.StatusNotFound, "second_factor_off")
	s.wantProblem(s.do("POST", "/auth/factor/totp", "", access), http.StatusNotFound, "second_factor_off")
	s.wantProblem(s.post("/auth/signin/factor", fields{"challenge": "c", "code": "123456"}), http.StatusNotFound, "second_factor_off")
	s.wantProblem(s.post("/auth/reauthenticate", fields{"password": "wrong"}, access), http.StatusUnauthorized, "invalid_credentials")
	s.wantStatus(s.post("/auth/reauthenticate", fields{"password": password}, access), http.StatusNoContent)
}
