package wsclient

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

// refreshPatience is how long the first answer to a refresh is waited for. The server gives whoever asks again within 10
// seconds with the same refresh token the same answer.
const refreshPatience = 4 * time.Second

// SessionConfig is what a [Session] needs. Zero fields without "required" mean the default.
type SessionConfig struct {
	// Server is the address of the REST interface: "https://chat.example.com". Required.
	Server string
	// HTTP asks the server. Default: http.DefaultClient. Each call ends after 15 seconds at the latest.
	HTTP *http.Client
	// DeviceToken is what [Session.DeviceToken] has returned for an earlier session of the account on this device: with it, guesses of
	// strangers do not use up the device's attempts to sign in. Default: the device is a new one.
	DeviceToken string
}

// Account is who has signed in.
type Account struct {
	ID       string `json:"id"`
	FullName string `json:"fullName"`
	Email    string `json:"email"`
	// Verified says that the address was proven to be theirs.
	Verified bool `json:"isVerified"`
	// Language is a tag of BCP 47, and AvatarURL where a picture is; empty if there is none.
	Language  string `json:"language"`
	AvatarURL string `json:"avatarUrl"`
}

func (a *Account) complete() bool { return a.ID != "" }

// Session is an account that has signed in, with tokens that it renews. It is a [Tokens]. Its methods may be called from many
// goroutines; the refresh token is used by one at a time, since the server takes a second use for a theft.
type Session struct {
	cfg SessionConfig

	turn chan struct{} // holds one token: whose turn it is to ask the server

	mu      sync.Mutex
	account Account
	access  string
	refresh string
	device  string
	life    time.Duration
	until   time.Time // monotonic
	ended   bool
}

// grant is the answer to a sign-in and to a refresh.
type grant struct {
	AccessToken  string  `json:"accessToken"`
	ExpiresIn    float64 `json:"expiresIn"`
	RefreshToken string  `json:"refreshToken"`
	DeviceToken  string  `json:"deviceToken"`
	User         Account `json:"user"`
}

func (g *grant) complete() bool {
	return g.AccessToken != "" && g.RefreshToken != "" && g.ExpiresIn > 0
}

// SignIn opens a session. A refusal is a *[Problem].
func SignIn(ctx context.Context, cfg SessionConfig, email, password string) (*Session, error) {
	body := map[string]string{"email": email, "password": password}
	if cfg.DeviceToken != "" {
		body["deviceToken"] = cfg.DeviceToken
	}
	return SignInAt(ctx, cfg, "/auth/signin", body)
}

// SignInByLink opens a session with the code from the mail that [REST.RequestLink] asks for. A refusal is a *[Problem].
func SignInByLink(ctx context.Context, cfg SessionConfig, code string) (*Session, error) {
	body := map[string]string{"code": code}
	if cfg.DeviceToken != "" {
		body["deviceToken"] = cfg.DeviceToken
	}
	return SignInAt(ctx, cfg, "/auth/link/signin", body)
}

// SignInFactor opens a session for whoever has a challenge, by a code of the authenticator app or a recovery code. Another sign-in was refused by a *[Problem] with it, which is
// auth.ErrFactorRequired. A refusal is a *[Problem].
func SignInFactor(ctx context.Context, cfg SessionConfig, challenge, code string) (*Session, error) {
	body := map[string]string{"challenge": challenge, "code": code}
	if cfg.DeviceToken != "" {
		body["deviceToken"] = cfg.DeviceToken
	}
	return SignInAt(ctx, cfg, "/auth/signin/factor", body)
}

// SignInAt opens a session by another call of the server, which answers as POST /auth/signin does: one of an application's own. path begins
// with a slash; body is sent as JSON.
func SignInAt(ctx context.Context, cfg SessionConfig, path string, body any) (*Session, error) {
	s, err := newSession(cfg)
	if err != nil {
		return nil, err
	}
	var g grant
	if err := s.call(ctx, path, "", body, &g); err != nil {
		return nil, err
	}
	s.keep(g)
	return s, nil
}

// Resume goes on with a session whose refresh token was kept. It uses the token up: keep the one of RefreshToken.
func Resume(ctx context.Context, cfg SessionConfig, refreshToken string) (*Session, error) {
	s, err := newSession(cfg)
	if err != nil {
		return nil, err
	}
	s.refresh = refreshToken
	if _, err := s.Token(ctx, ""); err != nil {
		return nil, err
	}
	return s, nil
}

func newSession(cfg SessionConfig) (*Session, error) {
	check := settings.Of("wsclient: SessionConfig")
	cfg.Server = checkServer(check, cfg.Server)
	if err := check.Err(); err != nil {
		return nil, err
	}
	cfg.HTTP = cmp.Or(cfg.HTTP, http.DefaultClient)
	s := &Session{cfg: cfg, device: cfg.DeviceToken, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s, nil
}

// SocketURL is the address of the socket beside the REST interface. Where the sockets have a server of their own, it is there.
func (s *Session) SocketURL() string {
	return "ws" + strings.TrimPrefix(s.cfg.Server, "http") + "/socket"
}

// REST returns the calls of the session's server, with the session's tokens.
func (s *Session) REST() *REST {
	r, err := NewREST(RESTConfig{Server: s.cfg.Server, HTTP: s.cfg.HTTP, Tokens: s})
	if err != nil {
		panic(err) // the session's own configuration was checked in the same way
	}
	return r
}

// DeviceToken is for SessionConfig.DeviceToken of the next sign-in to this account on this device: keep it beyond the end of the
// session. It is empty where the server gave none.
func (s *Session) DeviceToken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.device
}

// Account is who has signed in.
func (s *Session) Account() Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.account
}

// RefreshToken is the token with which [Resume] goes on with the session. The next renewal makes another one.
func (s *Session) RefreshToken() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refresh
}

// Token returns an access token with half of its life or more before it, and not the spent one. It asks the server for
// another one if need be, for all who wait for it at once. When the session has ended, the error is of kind fault.Unauthenticated.
func (s *Session) Token(ctx context.Context, spent string) (string, error) {
	if token, err := s.current(spent); token != "" || err != nil {
		return token, err
	}
	select {
	case <-s.turn:
		defer func() { s.turn <- struct{}{} }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if token, err := s.current(spent); token != "" || err != nil {
		return token, err // somebody else has asked meanwhile
	}
	g, err := s.exchange(ctx)
	switch {
	case errors.Is(err, fault.Unauthenticated):
		s.mu.Lock()
		s.ended = true
		s.mu.Unlock()
		return "", err
	case err != nil:
		return "", err
	}
	s.keep(g)
	return g.AccessToken, nil
}

// current returns the access token if it will do.
func (s *Session) current(spent string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return "", errEnded
	case s.access == "", s.access == spent, time.Until(s.until) < s.life/2:
		return "", nil
	default:
		return s.access, nil
	}
}

var errEnded = fault.Wrap(fault.Unauthenticated, errors.New("wsclient: the session has ended"))

// exchange renews the tokens. What is not answered is asked again with the same token.
func (s *Session) exchange(ctx context.Context) (grant, error) {
	body := map[string]string{"refreshToken": s.RefreshToken()}
	var g grant
	first, cancel := context.WithTimeout(ctx, refreshPatience)
	err := s.call(first, "/auth/refresh", "", body, &g)
	cancel()
	var answered *Problem
	if err != nil && !errors.As(err, &answered) && ctx.Err() == nil {
		err = s.call(ctx, "/auth/refresh", "", body, &g)
	}
	return g, err
}

// SignOut ends the session at the server; with everywhere, all sessions of the account. Here it has ended even if the server
// cannot be reached.
func (s *Session) SignOut(ctx context.Context, everywhere bool) error {
	path := "/auth/signout"
	if everywhere {
		path += "/all"
	}
	token, err := s.Token(ctx, "")
	if err == nil {
		err = s.call(ctx, path, token, nil, nil)
	}
	if errors.Is(err, fault.Unauthenticated) {
		err = nil // it had ended
	}
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	return err
}

func (s *Session) keep(g grant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.access, s.refresh = g.AccessToken, g.RefreshToken
	s.life = time.Duration(g.ExpiresIn * float64(time.Second))
	s.until = time.Now().Add(s.life)
	if g.User.ID != "" {
		s.account = g.User
	}
	if g.DeviceToken != "" {
		s.device = g.DeviceToken
	}
}

// call asks the server once.
func (s *Session) call(ctx context.Context, path, token string, body any, out answer) error {
	ctx, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	return ask(ctx, s.cfg.HTTP, s.cfg.Server, token, question{method: http.MethodPost, path: path, body: body}, out)
}

var _ Tokens = (*Session)(nil)
