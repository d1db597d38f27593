package system

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit"
	"github.com/parley-chat/parley/testkit/wsraw"
)

// waitTimeout bounds each thing that a helper waits for.
const waitTimeout = 30 * time.Second

// User is somebody with a verified account and an open session.
type User struct {
	ID, Name, Email, Password string
	// AccessToken and RefreshToken are those of the sign-in.
	AccessToken, RefreshToken string
}

// Answer is the server's answer to an HTTP request.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do makes a request of the HTTP API and returns its answer, whatever its status. The bearer
// token may be empty; body is sent as JSON unless it is nil. Redirects are not followed.
func (s *System) Do(ctx context.Context, method, path, token string, body any) (Answer, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return Answer{}, fmt.Errorf("system: %s %s: %w", method, path, err)
		}
		content = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.URL+path, content)
	if err != nil {
		return Answer{}, fmt.Errorf("system: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return Answer{}, fmt.Errorf("system: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("system: %s %s: %w", method, path, err)
	}
	return Answer{Status: res.StatusCode, Header: res.Header, Body: text}, nil
}

// Call is [System.Do] for a test that knows the answer's status: any other fails it at once.
// The answer's JSON goes into out, unless that is nil.
func (s *System) Call(t testing.TB, method, path, token string, body any, status int, out any) {
	t.Helper()
	a, err := s.Do(t.Context(), method, path, token, body)
	if err != nil {
		t.Fatal(err)
	}
	if a.Status != status {
		t.Fatalf("system: %s %s: status %d and not %d: %s", method, path, a.Status, status, a.Body)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(a.Body, out); err != nil {
		t.Fatalf("system: %s %s: %v", method, path, err)
	}
}

// User signs somebody up with an address and a password of their own, verifies the address
// with the mailed code, and signs them in, all through the HTTP API.
func (s *System) User(t testing.TB, name string) User {
	t.Helper()
	n := s.users.Add(1)
	u := User{Name: name, Email: fmt.Sprintf("user-%d@parley.test", n), Password: fmt.Sprintf("pass phrase number %d", n)}
	s.Call(t, http.MethodPost, "/auth/signup", "", map[string]string{"fullName": name, "email": u.Email, "password": u.Password}, http.StatusAccepted, nil)
	s.Call(t, http.MethodPost, "/auth/verify", "", map[string]string{"code": s.Code(t, u.Email, 1)}, http.StatusOK, nil)
	s.SignIn(t, &u)
	return u
}

// Code waits for the nth mail to an address, counting from 1, and returns the code in it.
func (s *System) Code(t testing.TB, email string, nth int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	m, err := s.Mailbox.Await(ctx, email, nth)
	if err != nil {
		t.Fatal(err)
	}
	code, err := testkit.Code(m)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// SignIn opens a new session with u's address and password, and puts its tokens into u.
func (s *System) SignIn(t testing.TB, u *User) {
	t.Helper()
	var grant struct {
		AccessToken, RefreshToken string
		User                      struct{ ID string }
	}
	s.Call(t, http.MethodPost, "/auth/signin", "", map[string]string{"email": u.Email, "password": u.Password}, http.StatusOK, &grant)
	u.ID, u.AccessToken, u.RefreshToken = grant.User.ID, grant.AccessToken, grant.RefreshToken
}

// Dial opens a socket with u's access token. handle gets its events, as [wsclient.Config]
// says; it may be nil. The client is closed at the end of the test.
func (s *System) Dial(t testing.TB, u User, handle func(wsclient.Event)) *wsclient.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	c, err := wsclient.Dial(ctx, wsclient.Config{
		Inline: true, Rate: -1,
		URL: s.SocketURL, Handle: handle,
		Token: func(context.Context) (string, error) { return u.AccessToken, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// DialRaw opens a socket with an access token that sends and reads single frames. It is cut
// at the end of the test.
func (s *System) DialRaw(t testing.TB, token string) *wsraw.Conn {
	t.Helper()
	header := http.Header{"Sec-Websocket-Protocol": {socket.Protocol}}
	if token != "" {
		header.Set("Authorization", "Bearer "+strings.TrimSpace(token))
	}
	r, err := wsraw.Dial(t.Context(), s.SocketURL, header, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() }) // may be cut already
	return r
}
