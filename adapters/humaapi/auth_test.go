package humaapi_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/core/auth"
)

func TestSignUpAnswersTheSameForATakenAddress(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	body := fields{"fullName": "Ada Lovelace", "email": ada, "password": password}
	first := s.wantStatus(s.post("/auth/signup", body), http.StatusAccepted)
	second := s.wantStatus(s.post("/auth/signup", body), http.StatusAccepted)
	assert.Equal(t, first.body, second.body)
	assert.Equal(t, "no-store", first.Header.Get("Cache-Control"))
	assert.Len(t, s.object(first), 1)
	assert.NotEmpty(t, s.object(first)["message"])
}

func TestSignUpMayTellThatAnAddressIsTaken(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{auth: func(c *auth.Config) { c.TakenConflict = true }})
	s.signUp()
	d := s.wantProblem(s.post("/auth/signup", fields{"fullName": "Eve", "email": "ADA@example.com", "password": password}), http.StatusConflict, "email_taken")
	assert.Equal(t, "body.email", d.Errors[0].Location)
}

func TestSignUpSaysWhichFieldIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fullName, email, password string
		code, place               string
	}{
		"bad address":    {"Ada", "ada at example", password, "email_invalid", "body.email"},
		"empty address":  {"Ada", "", password, "email_invalid", "body.email"},
		"empty name":     {"  ", ada, password, "full_name_invalid", "body.fullName"},
		"long name":      {strings.Repeat("a", 101), ada, password, "full_name_invalid", "body.fullName"},
		"short password": {"Ada", ada, "hunter2", "password_invalid", "body.password"},
		"long password":  {"Ada", ada, strings.Repeat("hunter2", 40), "password_invalid", "body.password"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, options{})
			a := s.post("/auth/signup", fields{"fullName": c.fullName, "email": c.email, "password": c.password})
			d := s.wantProblem(a, http.StatusUnprocessableEntity, c.code)
			require.Len(t, d.Errors, 1)
			assert.Equal(t, c.place, d.Errors[0].Location)
			assert.NotContains(t, a.body, "hunter2")
		})
	}
}

func TestVerifyTakesACodeOnce(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.signUp()
	code := s.code()
	s.wantProblem(s.post("/auth/verify", fields{"code": "nonsense"}), http.StatusBadRequest, "code_unknown")
	s.wantStatus(s.post("/auth/verify", fields{"code": code}), http.StatusOK)
	s.wantProblem(s.post("/auth/verify", fields{"code": code}), http.StatusGone, "code_gone")
}

func TestVerifyRefusesAnExpiredCode(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.signUp()
	s.clock.advance(25 * time.Hour)
	s.wantProblem(s.post("/auth/verify", fields{"code": s.code()}), http.StatusGone, "code_gone")
}

func TestResendAndForgotTellNothing(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/auth/verify/resend", "/auth/password/forgot"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, options{})
			s.signUp()
			known := s.wantStatus(s.post(path, fields{"email": ada}), http.StatusAccepted)
			unknown := s.wantStatus(s.post(path, fields{"email": "bob@example.com"}), http.StatusAccepted)
			assert.Equal(t, known.body, unknown.body)
			for range 20 { // throttled, and still the same answer
				a := s.wantStatus(s.post(path, fields{"email": ada}), http.StatusAccepted)
				assert.Equal(t, known.body, a.body)
			}
			s.wantProblem(s.post(path, fields{"email": "ada"}), http.StatusUnprocessableEntity, "email_invalid")
		})
	}
}

func TestSignInAnswers(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.signUp()
	s.wantProblem(s.post("/auth/signin", fields{"email": ada, "password": password}), http.StatusForbidden, "not_verified")
	s.wantStatus(s.post("/auth/verify", fields{"code": s.code()}), http.StatusOK)
	wrong := s.post("/auth/signin", fields{"email": ada, "password": "not the password"})
	s.wantProblem(wrong, http.StatusUnauthorized, "invalid_credentials")
	unknown := s.post("/auth/signin", fields{"email": "bob@example.com", "password": password})
	assert.Equal(t, wrong.body, unknown.body)

	o := s.object(s.wantStatus(s.post("/auth/signin", fields{"email": "Ada@Example.com", "password": password}), http.StatusOK))
	assert.Equal(t, []string{"accessToken", "deviceToken", "expiresIn", "refreshToken", "user"}, keys(o))
	assert.EqualValues(t, 900, o["expiresIn"])
	who := o["user"].(map[string]any)
	assert.Equal(t, []string{"email", "fullName", "id", "isVerified"}, keys(who))
	assert.Equal(t, ada, who["email"])
	assert.Equal(t, "Ada Lovelace", who["fullName"])
	assert.Equal(t, true, who["isVerified"])
	assert.NotEmpty(t, who["id"])
}

func TestSignInIsLimited(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	var last answer
	for range 11 {
		last = s.post("/auth/signin", fields{"email": ada, "password": "guess"})
	}
	s.wantProblem(last, http.StatusTooManyRequests, "too_many_attempts")
	assert.Equal(t, "6", last.Header.Get("Retry-After"))
}

// TestADeviceThatHasSignedInIsNotLockedOut lets strangers behind the same address use up everything.
func TestADeviceThatHasSignedInIsNotLockedOut(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.verified()
	o := s.object(s.wantStatus(s.post("/auth/signin", fields{"email": ada, "password": password}), http.StatusOK))
	for range 12 {
		s.post("/auth/signin", fields{"email": ada, "password": "guess"})
	}
	s.wantProblem(s.post("/auth/signin", fields{"email": ada, "password": password}), http.StatusTooManyRequests, "too_many_attempts")
	s.wantProblem(s.post("/auth/signin", fields{"email": ada, "password": password, "deviceToken": "made up"}), http.StatusTooManyRequests, "too_many_attempts")
	s.wantStatus(s.post("/auth/signin", fields{"email": ada, "password": password, "deviceToken": o["deviceToken"]}), http.StatusOK)
}

func TestCodesAndRefreshesAreLimited(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{auth: func(c *auth.Config) {
		c.CodeRate, c.RefreshRate = auth.Rate{Burst: 3, Per: time.Minute}, auth.Rate{Burst: 1, Per: time.Hour}
	}})
	for range 2 {
		s.wantStatus(s.post("/auth/verify", fields{"code": "x"}), http.StatusBadRequest)
	}
	s.wantStatus(s.post("/auth/password/reset", fields{"code": "x", "password": password}), http.StatusBadRequest)
	s.wantProblem(s.post("/auth/verify", fields{"code": "x"}), http.StatusTooManyRequests, "too_many_attempts")
	s.wantProblem(s.post("/auth/password/reset", fields{"code": "x", "password": password}), http.StatusTooManyRequests, "too_many_attempts")
	for range 100 {
		s.wantStatus(s.post("/auth/refresh", fields{"refreshToken": "x"}), http.StatusUnauthorized)
	}
	s.wantProblem(s.post("/auth/refresh", fields{"refreshToken": "x"}), http.StatusTooManyRequests, "too_many_attempts")
}

func TestLimitsGoByTheClientBehindATrustedProxy(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{api: humaapi.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}})
	guess := func(email, client string) answer {
		return s.post("/auth/signin", fields{"email": email, "password": "guess"}, header{"X-Forwarded-For", client})
	}
	for i := range 100 { // ten times an address's allowance, each for another address
		s.wantProblem(guess(strings.Repeat("a", i+1)+"@example.com", "6.6.6.6, 203.0.113.9"), http.StatusUnauthorized, "invalid_credentials")
	}
	s.wantProblem(guess(ada, "7.7.7.7, 203.0.113.9"), http.StatusTooManyRequests, "too_many_attempts")
	s.wantProblem(guess(ada, "203.0.113.10"), http.StatusUnauthorized, "invalid_credentials")
}

func TestRefreshRotatesAndASecondUseEndsTheSession(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.verified()
	access, refresh := s.signIn()
	o := s.object(s.wantStatus(s.post("/auth/refresh", fields{"refreshToken": refresh}), http.StatusOK))
	assert.NotEqual(t, refresh, o["refreshToken"])
	assert.NotEqual(t, access, o["accessToken"])
	again := s.object(s.wantStatus(s.post("/auth/refresh", fields{"refreshToken": refresh}), http.StatusOK))
	assert.Equal(t, o["refreshToken"], again["refreshToken"], "the answer may have been lost")
	s.clock.advance(10 * time.Second)
	s.wantProblem(s.post("/auth/refresh", fields{"refreshToken": refresh}), http.StatusUnauthorized, "session_ended")
	s.wantProblem(s.post("/auth/refresh", fields{"refreshToken": o["refreshToken"]}), http.StatusUnauthorized, "session_ended")
	s.wantProblem(s.get("/auth/me", bearer(o["accessToken"].(string))), http.StatusUnauthorized, "session_ended")
	s.wantProblem(s.post("/auth/refresh", fields{"refreshToken": "nonsense"}), http.StatusUnauthorized, "token_invalid")
}

func TestMe(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.verified()
	access, _ := s.signIn()
	for _, scheme := range []string{"Bearer ", "bearer ", "BEARER   "} {
		o := s.object(s.wantStatus(s.get("/auth/me", header{"Authorization", scheme + access}), http.StatusOK))
		assert.Equal(t, []string{"email", "fullName", "id", "isVerified"}, keys(o))
		assert.Equal(t, ada, o["email"])
	}
}

func TestBearerIsRequired(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.verified()
	access, refresh := s.signIn()
	ticket := s.object(s.wantStatus(s.do("POST", "/auth/socket-ticket", "", bearer(access)), http.StatusOK))["ticket"].(string)
	for _, call := range []struct{ method, path string }{
		{"GET", "/auth/me"}, {"PATCH", "/auth/me"}, {"DELETE", "/auth/me"}, {"POST", "/auth/me/email"}, {"POST", "/auth/me/email/verify"}, {"POST", "/auth/signout"}, {"POST", "/auth/signout/all"},
		{"POST", "/auth/socket-ticket"}, {"POST", "/auth/password/change"},
	} {
		t.Run(call.path, func(t *testing.T) {
			t.Parallel()
			for name, c := range map[string]struct{ header, code string }{
				"nothing":       {"", "unauthenticated"},
				"no token":      {"Bearer", "unauthenticated"},
				"other scheme":  {"Basic YTpi", "unauthenticated"},
				"not a token":   {"Bearer nonsense", "token_invalid"},
				"refresh token": {"Bearer " + refresh, "token_invalid"},
				"ticket":        {"Bearer " + ticket, "token_invalid"},
			} {
				a := s.do(call.method, call.path, "", header{"Authorization", c.header})
				d := s.wantProblem(a, http.StatusUnauthorized, c.code)
				assert.Equal(t, "Bearer", a.Header.Get("WWW-Authenticate"), name)
				assert.Empty(t, d.Errors, "nothing is said about the body")
			}
		})
	}
}

func TestAnExpiredAccessTokenIsRefused(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.verified()
	access, _ := s.signIn()
	s.clock.advance(16 * time.Minute)
	s.wantProblem(s.get("/auth/me", bearer(access)), http.StatusUnauthorized, "token_invalid")
}

func TestSignOut(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.verified()
	one, _ := s.signIn()
	two, refresh := s.signIn()
	three, _ := s.signIn()
	assert.Empty(t, s.wantStatus(s.do("POST", "/auth/signout", "", bearer(one)), http.StatusNoContent).body)
	s.wantProblem(s.get("/auth/me", bearer(one)), http.StatusUnauthorized, "session_ended")
	s.wantStatus(s.get("/auth/me", bearer(two)), http.StatusOK)
	s.wantStatus(s.do("POST", "/auth/signout/all", "", bearer(two)), http.StatusNoContent)
	s.wantProblem(s.get("/auth/me", bearer(three)), http.StatusUnauthorized, "session_ended")
	s.wantProblem(s.post("/auth/refresh", fields{"refreshToken": refresh}), http.StatusUnauthorized, "session_ended")
}

func TestSocketTicket(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.verified()
	access, _ := s.signIn()
	o := s.object(s.wantStatus(s.do("POST", "/auth/socket-ticket", "", bearer(access)), http.StatusOK))
	assert.Equal(t, []string{"expiresIn", "ticket"}, keys(o))
	assert.EqualValues(t, 30, o["expiresIn"])
}

func TestResetPassword(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.verified()
	access, _ := s.signIn()
	s.wantStatus(s.post("/auth/password/forgot", fields{"email": ada}), http.StatusAccepted)
	code := s.code()
	s.wantProblem(s.post("/auth/password/reset", fields{"code": code, "password": "short"}), http.StatusUnprocessableEntity, "password_invalid")
	s.wantProblem(s.post("/auth/password/reset", fields{"code": "nonsense", "password": "another horse"}), http.StatusBadRequest, "code_unknown")
	assert.Empty(t, s.wantStatus(s.post("/auth/password/reset", fields{"code": code, "password": "another horse"}), http.StatusNoContent).body)
	s.wantProblem(s.post("/auth/password/reset", fields{"code": code, "password": "another horse"}), http.StatusGone, "code_gone")
	s.wantProblem(s.get("/auth/me", bearer(access)), http.StatusUnauthorized, "session_ended")
	s.wantStatus(s.post("/auth/signin", fields{"email": ada, "password": "another horse"}), http.StatusOK)
}

func TestChangePassword(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	s.verified()
	here, _ := s.signIn()
	there, _ := s.signIn()
	change := func(current, next string) answer {
		return s.post("/auth/password/change", fields{"current": current, "password": next}, bearer(here))
	}
	s.wantProblem(change("not it at all", "another horse"), http.StatusUnauthorized, "invalid_credentials")
	d := s.wantProblem(change(password, "short"), http.StatusUnprocessableEntity, "password_invalid")
	assert.Equal(t, "body.password", d.Errors[0].Location)
	s.wantStatus(change(password, "another horse"), http.StatusNoContent)
	s.wantStatus(s.get("/auth/me", bearer(here)), http.StatusOK)
	s.wantProblem(s.get("/auth/me", bearer(there)), http.StatusUnauthorized, "session_ended")
}

func TestKeySet(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{})
	a := s.wantStatus(s.get("/.well-known/jwks.json"), http.StatusOK)
	assert.JSONEq(t, keySet, a.body)
	assert.Equal(t, "application/jwk-set+json", a.Header.Get("Content-Type"))
	assert.Equal(t, "public, max-age=300", a.Header.Get("Cache-Control"))
	broken := newSystem(t, options{keysErr: errSecret})
	broken.wantProblem(broken.get("/.well-known/jwks.json"), http.StatusInternalServerError, "internal")
}

func TestAFailingStoreIsUnavailableAndItsWordsStayInTheLog(t *testing.T) {
	t.Parallel()
	s := newSystem(t, options{auth: func(c *auth.Config) { c.Users = failingUsers{c.Users} }})
	a := s.post("/auth/signin", fields{"email": ada, "password": password})
	s.wantProblem(a, http.StatusServiceUnavailable, "unavailable")
	assert.NotContains(t, a.body, "10.0.0.7")
	assert.Contains(t, s.log(), "10.0.0.7")
	assert.NotContains(t, s.log(), password)
}
