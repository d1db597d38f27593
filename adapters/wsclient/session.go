package wsclient

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

const (
	// sessionTimeout bounds one call of a [Session] without a deadline of its own.
	sessionTimeout = 15 * time.Second
	// refreshPatience is how long the first answer to a refresh is waited for. The server gives whoever asks again within 10
	// seconds with the same refresh token the same answer.
	refreshPatience = 4 * time.Second
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 1 << 20
)

// SessionConfig is what a [Session] needs. Zero fields without "required" mean the default.
type SessionConfig struct {
	// Server is the address of the REST interface: "https://chat.example.com". Required.
	Server string
	// HTTP asks the server. Default: http.DefaultClient. Each call ends after 15 seconds at the latest.
	HTTP *http.Client
}

// Account is who has signed in.
type Account struct {
	ID       string `json:"id"`
	FullName string `json:"fullName"`
	Email    string `json:"email"`
}

// Problem is a refusal by the REST interface (RFC 9457), or the answer of something else in its stead, which has no Code. One
// that ends a session is of the kind fault.Unauthenticated.
type Problem struct {
	Status        int
	Code          string
	Title, Detail string
	// RetryAfter is how long the server asks to wait.
	RetryAfter time.Duration
}

// Error says what the server says.
func (p *Problem) Error() string {
	if p.Code == "" {
		return fmt.Sprintf("wsclient: something that is not the server answered with status %d", p.Status)
	}
	s := fmt.Sprintf("wsclient: %s: %s", p.Code, p.Title)
	if p.Detail != "" {
		s += ": " + p.Detail
	}
	return s
}

// Is reports whether target is the kind of the problem.
func (p *Problem) Is(target error) bool {
	return target == error(fault.Unauthenticated) && p.Status == http.StatusUnauthorized && p.Code != ""
}

// Session is an account that has signed in, with tokens that it renews. It is a [Tokens]. Its methods may be called from many
// goroutines; the refresh token is used by one at a time, since the server takes a second use for a theft.
type Session struct {
	cfg SessionConfig

	turn chan struct{} // holds one token: whose turn it is to ask the server

	mu      sync.Mutex
	account Account
	access  string
	refresh string
	life    time.Duration
	until   time.Time // monotonic
	ended   bool
}

// grant is the answer to a sign-in and to a refresh.
type grant struct {
	AccessToken  string  `json:"accessToken"`
	ExpiresIn    float64 `json:"expiresIn"`
	RefreshToken string  `json:"refreshToken"`
	User         Account `json:"user"`
}

// SignIn opens a session. A refusal is a *[Problem].
func SignIn(ctx context.Context, cfg SessionConfig, email, password string) (*Session, error) {
	s, err := newSession(cfg)
	if err != nil {
		return nil, err
	}
	var g grant
	if err := s.call(ctx, "/auth/signin", "", map[string]string{"email": email, "password": password}, &g); err != nil {
		return nil, err
	}
	return s, s.keep(g)
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
	check.Require("Server", cfg.Server == "")
	u, err := url.Parse(cfg.Server)
	if cfg.Server != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
		check.Refuse("Server", "%q is no http or https address", cfg.Server)
	}
	if err := check.Err(); err != nil {
		return nil, err
	}
	cfg.Server = u.Scheme + "://" + u.Host + strings.TrimRight(u.EscapedPath(), "/")
	cfg.HTTP = cmp.Or(cfg.HTTP, http.DefaultClient)
	s := &Session{cfg: cfg, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s, nil
}

// SocketURL is the address of the socket beside the REST interface. Where the sockets have a server of their own, it is there.
func (s *Session) SocketURL() string {
	return "ws" + strings.TrimPrefix(s.cfg.Server, "http") + "/socket"
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
	if err := s.keep(g); err != nil {
		return "", err
	}
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

func (s *Session) keep(g grant) error {
	if g.AccessToken == "" || g.RefreshToken == "" || g.ExpiresIn <= 0 {
		return &Problem{Status: http.StatusOK} // of somebody else
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.access, s.refresh = g.AccessToken, g.RefreshToken
	s.life = time.Duration(g.ExpiresIn * float64(time.Second))
	s.until = time.Now().Add(s.life)
	if g.User.ID != "" {
		s.account = g.User
	}
	return nil
}

// call asks the server.
func (s *Session) call(ctx context.Context, path, token string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	var in io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("wsclient: %w", err)
		}
		in = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.Server+path, in)
	if err != nil {
		return fmt.Errorf("wsclient: %w", err)
	}
	r.Header.Set("Accept", "application/json, application/problem+json")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := s.cfg.HTTP.Do(r)
	if err != nil {
		return fmt.Errorf("wsclient: %w", err)
	}
	defer func() { _ = res.Body.Close() }() // it was read
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("wsclient: %s: %w", path, err)
	}
	if res.StatusCode/100 != 2 {
		p := &Problem{Status: res.StatusCode, RetryAfter: retryAfter(res.Header)}
		if p.Code = problemCode(res.Header, text); p.Code != "" {
			var says struct{ Title, Detail string }
			_ = json.Unmarshal(text, &says) // it was read before
			p.Title, p.Detail = says.Title, says.Detail
		}
		return p
	}
	if answer != nil && json.Unmarshal(text, answer) != nil {
		return &Problem{Status: res.StatusCode} // of somebody else
	}
	return nil
}

var _ Tokens = (*Session)(nil)
