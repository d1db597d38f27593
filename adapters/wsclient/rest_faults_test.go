package wsclient_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/testkit/system"
)

// TestRESTGoesOnWhileTheServerRestarts makes calls while the server is stopped and started again.
func TestRESTGoesOnWhileTheServerRestarts(t *testing.T) {
	t.Parallel()
	s := system.Start(t, system.Config{Store: system.SQLite})
	ctx := within(t)
	ada, _ := of(t, s, "Ada", nil)
	_, err := ada.CreateRoom(ctx, wsclient.NewRoom{Name: "hall"})
	require.NoError(t, err)
	const writers = 4
	sent := make([]int, writers)
	stop := make(chan struct{})
	begun := make(chan struct{}, writers)
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			for {
				_, err := ada.Send(ctx, "hall", "hello")
				if !assert.NoError(t, err) {
					return
				}
				sent[i]++
				select {
				case <-stop:
					return
				case begun <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 2 {
		for range 2 * writers {
			<-begun
		}
		s.Restart(t)
	}
	for range 2 * writers {
		<-begun
	}
	close(stop)
	all.Wait()
	total := 0
	for _, n := range sent {
		total += n
	}
	room, err := ada.Room(ctx, "hall")
	require.NoError(t, err)
	assert.EqualValues(t, total, room.Seq, "each message is stored once")
}

// between stands between clients and a server. spoil is given each request with its number, and reports whether it has dealt with it; answered is
// called when the server has answered, before the client is.
func between(t *testing.T, server string, spoil func(n int, w http.ResponseWriter, r *http.Request) bool, answered func(n int)) string {
	t.Helper()
	to, err := url.Parse(server)
	require.NoError(t, err)
	var mu sync.Mutex
	n := 0
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, Transport: transport}
	return serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n++
		at := n
		mu.Unlock()
		if spoil != nil && spoil(at, w, r) {
			return
		}
		if answered == nil {
			proxy.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		proxy.ServeHTTP(rec, r)
		answered(at)
		for key, values := range rec.Header() {
			w.Header()[key] = values
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	})
}

// TestRESTAsksAgainWhatMayBeDoneTwice loses the answer to the first of two calls.
func TestRESTAsksAgainWhatMayBeDoneTwice(t *testing.T) {
	t.Parallel()
	s := system.Start(t, system.Config{})
	u := s.User(t, "Ada")
	ctx := within(t)
	for name, row := range map[string]struct {
		spoil    func(n int, w http.ResponseWriter, r *http.Request) bool
		answered func(n int)
		status   int // of what CreateRoom returns; 0: the connection was lost
	}{
		"the answer is lost": {answered: func(n int) {
			if n == 1 {
				panic(http.ErrAbortHandler)
			}
		}},
		"502 of a proxy": {spoil: func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n == 1 {
				w.WriteHeader(502)
			}
			return n == 1
		}, status: 502},
		"503 of the server": {spoil: func(n int, w http.ResponseWriter, _ *http.Request) bool {
			if n == 1 {
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(503)
				_, _ = fmt.Fprint(w, `{"type":"/problems/busy","title":"too many","status":503,"code":"busy"}`)
			}
			return n == 1
		}, status: 503},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := func(once bool) *wsclient.REST {
				r, err := wsclient.NewREST(wsclient.RESTConfig{
					Server: between(t, s.URL, row.spoil, row.answered), Once: once,
					Token: func(context.Context) (string, error) { return u.AccessToken, nil },
				})
				require.NoError(t, err)
				return r
			}
			failed := func(err error) {
				t.Helper()
				var p *wsclient.Problem
				require.Error(t, err)
				require.Equal(t, row.status != 0, errors.As(err, &p), "%v", err)
				if p != nil {
					require.Equal(t, row.status, p.Status)
				}
			}
			room := "room " + name
			_, err := calls(false).CreateRoom(ctx, wsclient.NewRoom{Name: "lost " + name})
			failed(err) // it may be there, and is not made again
			direct, err := wsclient.NewREST(wsclient.RESTConfig{Server: s.URL, Token: func(context.Context) (string, error) { return u.AccessToken, nil }})
			require.NoError(t, err)
			_, err = direct.CreateRoom(ctx, wsclient.NewRoom{Name: room})
			require.NoError(t, err)
			sent, err := calls(false).Send(ctx, room, "once")
			require.NoError(t, err)
			require.EqualValues(t, 1, sent.Seq)
			_, err = calls(true).Send(ctx, room, "perhaps")
			failed(err)
			rev, err := calls(false).React(ctx, room, 1, "+1")
			require.NoError(t, err)
			require.EqualValues(t, 1, rev)
			failed(calls(false).DeleteRoom(ctx, room))
		})
	}
}

// TestRESTRefusesStrangers has something else than the server answer.
func TestRESTRefusesStrangers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"a page":             func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "<h1>Hotel</h1>") },
		"JSON":               func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "{}") },
		"null":               func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "null") },
		"a list":             func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "[]") },
		"nothing":            func(http.ResponseWriter, *http.Request) {},
		"a page with 404":    func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
		"401 without a code": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := wsclient.NewREST(wsclient.RESTConfig{Server: serveHTTP(t, answer), Token: func(context.Context) (string, error) { return "x", nil }})
			require.NoError(t, err)
			ctx := within(t)
			_, errRoom := r.Room(ctx, "hall")
			_, errSend := r.Send(ctx, "hall", "hello")
			_, errMark := r.Mark(ctx, "hall", 1)
			_, errEdit := r.Edit(ctx, "hall", 1, "hello")
			_, errMe := r.Me(ctx)
			_, errHistory := r.History(ctx, "hall", wsclient.Range{})
			_, _, errTicket := r.SocketTicket(ctx)
			_, errRole := r.SetRole(ctx, "hall", "u", chat.Owner)
			var errMine error
			for _, errMine = range r.MyRooms(ctx) {
			}
			for i, err := range []error{
				errRoom, errSend, errMark, errEdit, errMe, errHistory, errTicket, errRole, errMine, r.DeleteRoom(ctx, "hall"), r.Verify(ctx, "x"), r.ResetPassword(ctx, "x", "y"),
			} {
				var p *wsclient.Problem
				require.ErrorAs(t, err, &p, "%d", i)
				require.Empty(t, p.Code)
				require.NotErrorIs(t, err, fault.Unauthenticated)
				require.NotErrorIs(t, err, fault.NotFound)
				require.ErrorContains(t, err, "not the server")
			}
		})
	}
}

// TestRESTWantsAnAnswerThatEnds has a server whose list never ends, and one whose answer is endless.
func TestRESTWantsAnAnswerThatEnds(t *testing.T) {
	t.Parallel()
	r, err := wsclient.NewREST(wsclient.RESTConfig{Server: serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/me/blocks" {
			_, _ = fmt.Fprint(w, `{"blocks":[],"next":"x"}`)
			return
		}
		_, _ = io.WriteString(w, `{"name":"`)
		for chunk := strings.Repeat("x", 1<<20); ; {
			if _, err := io.WriteString(w, chunk); err != nil {
				return
			}
		}
	})})
	require.NoError(t, err)
	for _, err = range r.Blocks(within(t)) {
	}
	require.ErrorContains(t, err, "not the server")
	_, err = r.Room(within(t), "hall")
	require.ErrorIs(t, err, fault.Exhausted)
}

// TestRESTTrustsNoStranger asks a server whose certificate is nobody's: once, since it will not be another one.
func TestRESTTrustsNoStranger(t *testing.T) {
	t.Parallel()
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(t.Output(), nil), slog.LevelInfo)
	web.StartTLS()
	t.Cleanup(web.Close)
	asked, client := recording(t)
	r, err := wsclient.NewREST(wsclient.RESTConfig{Server: web.URL, HTTP: client})
	require.NoError(t, err)
	var untrusted *tls.CertificateVerificationError
	require.ErrorAs(t, r.Block(within(t), "u"), &untrusted)
	require.Len(t, asked.calls(), 1)
}

// TestRESTRenewsTokens lets access tokens end under many calls at once.
func TestRESTRenewsTokens(t *testing.T) {
	t.Parallel()
	s := system.Start(t, system.Config{})
	u := s.User(t, "Ada")
	ctx := within(t)
	asked, client := recording(t)
	session, err := wsclient.SignIn(ctx, wsclient.SessionConfig{Server: s.URL, HTTP: client}, u.Email, u.Password)
	require.NoError(t, err)
	ada := session.REST()
	s.Advance(time.Hour) // the session's own clock goes on as before
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			_, err := ada.Me(ctx)
			assert.NoError(t, err)
		})
	}
	all.Wait()
	assert.Equal(t, 1, asked.count("POST /auth/refresh"))

	// The session ends elsewhere.
	other, err := wsclient.SignIn(ctx, wsclient.SessionConfig{Server: s.URL}, u.Email, u.Password)
	require.NoError(t, err)
	require.NoError(t, other.SignOut(ctx, true))
	_, err = ada.Me(ctx)
	require.ErrorIs(t, err, fault.Unauthenticated)
}

func TestRESTWithTokensOfOnesOwn(t *testing.T) {
	t.Parallel()
	s := system.Start(t, system.Config{})
	u := s.User(t, "Ada")
	ctx := within(t)
	for name, row := range map[string]struct {
		tokens []string // one after the other; the last one for ever
		asked  int
		ok     bool
	}{
		"a good one":             {[]string{u.AccessToken}, 1, true},
		"a bad one, then a good": {[]string{"bad", u.AccessToken}, 2, true},
		"bad ones":               {[]string{"bad"}, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := 0
			r, err := wsclient.NewREST(wsclient.RESTConfig{Server: s.URL, Token: func(context.Context) (string, error) {
				asked++
				return row.tokens[min(asked, len(row.tokens))-1], nil
			}})
			require.NoError(t, err)
			me, err := r.Me(ctx)
			assert.Equal(t, row.asked, asked)
			if row.ok {
				require.NoError(t, err)
				require.Equal(t, u.ID, me.ID)
				return
			}
			var p *wsclient.Problem
			require.ErrorAs(t, err, &p)
			require.Equal(t, 401, p.Status)
			require.ErrorIs(t, err, fault.Unauthenticated)
		})
	}
	mine := errors.New("the safe is closed")
	r, err := wsclient.NewREST(wsclient.RESTConfig{Server: s.URL, Once: true, Token: func(context.Context) (string, error) { return "", mine }})
	require.NoError(t, err)
	_, err = r.Me(ctx)
	require.ErrorIs(t, err, mine)
}

// TestRESTIsToldToWait meets a limit of the server that lasts longer than a call may.
func TestRESTIsToldToWait(t *testing.T) {
	t.Parallel()
	s := system.Start(t, system.Config{Auth: auth.Config{MailRate: auth.Rate{Burst: 1, Per: time.Hour}}})
	ctx := within(t)
	r, err := wsclient.NewREST(wsclient.RESTConfig{Server: s.URL})
	require.NoError(t, err)
	for range 50 {
		if err = r.ForgotPassword(ctx, "ada@parley.test"); err != nil {
			break
		}
	}
	var p *wsclient.Problem
	require.ErrorAs(t, err, &p)
	assert.Equal(t, 429, p.Status)
	assert.Greater(t, p.RetryAfter, 15*time.Second)
	assert.LessOrEqual(t, p.RetryAfter, time.Hour)
	assert.ErrorIs(t, err, fault.Exhausted)
}

// scripted answers without a network.
type scripted func(n int, r *http.Request) (*http.Response, error)

func says(status int, retryAfter string) *http.Response {
	h := http.Header{"Content-Type": {"application/problem+json"}}
	if retryAfter != "" {
		h.Set("Retry-After", retryAfter)
	}
	body := fmt.Sprintf(`{"type":"/problems/busy","title":"busy","status":%d,"code":"busy"}`, status)
	if status == 204 {
		body = ""
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

// TestRESTWaits measures, by a clock of the test's own, how long calls wait.
func TestRESTWaits(t *testing.T) {
	t.Parallel()
	refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	cut := &net.OpError{Op: "read", Err: errors.New("connection reset")}
	twice := func(ctx context.Context, r *wsclient.REST) error { return r.Block(ctx, "u") }
	once := func(ctx context.Context, r *wsclient.REST) error { return r.DeleteRoom(ctx, "hall") }
	for name, row := range map[string]struct {
		call   func(context.Context, *wsclient.REST) error
		script scripted
		waits  time.Duration
		asked  int
		status int  // of the problem; 204: none; 0: another error
		once   bool // RESTConfig.Once
	}{
		"429 with Retry-After": {once, func(n int, _ *http.Request) (*http.Response, error) {
			if n < 3 {
				return says(429, "4"), nil
			}
			return says(204, ""), nil
		}, 8 * time.Second, 3, 204, false},
		"429 with a date": {once, func(n int, _ *http.Request) (*http.Response, error) {
			if n == 1 {
				res := says(429, "Fri, 20 Nov 2026 10:00:07 GMT")
				res.Header.Set("Date", "Fri, 20 Nov 2026 10:00:00 GMT")
				return res, nil
			}
			return says(204, ""), nil
		}, 7 * time.Second, 2, 204, false},
		"429 for longer than there is time": {twice, func(int, *http.Request) (*http.Response, error) { return says(429, "16"), nil }, 0, 1, 429, false},
		"429, twice too long":               {twice, func(int, *http.Request) (*http.Response, error) { return says(429, "8"), nil }, 8 * time.Second, 2, 429, false},
		"429, asked once":                   {twice, func(int, *http.Request) (*http.Response, error) { return says(429, "1"), nil }, 0, 1, 429, true},
		"503, may be done twice": {twice, func(n int, _ *http.Request) (*http.Response, error) {
			if n < 4 {
				return says(503, ""), nil
			}
			return says(204, ""), nil
		}, 350 * time.Millisecond, 4, 204, false}, // half of 100, 200 and 400
		"503, may be done once": {once, func(int, *http.Request) (*http.Response, error) { return says(503, "1"), nil }, 0, 1, 503, false},
		"503 all the time":      {twice, func(int, *http.Request) (*http.Response, error) { return says(503, ""), nil }, 14550 * time.Millisecond, 19, 503, false},
		"500":                   {twice, func(int, *http.Request) (*http.Response, error) { return says(500, ""), nil }, 0, 1, 500, false},
		"409":                   {twice, func(int, *http.Request) (*http.Response, error) { return says(409, "1"), nil }, 0, 1, 409, false},
		"nobody listens": {once, func(n int, _ *http.Request) (*http.Response, error) {
			if n == 1 {
				return nil, refused
			}
			return says(204, ""), nil
		}, 50 * time.Millisecond, 2, 204, false},
		"cut, may be done once": {once, func(int, *http.Request) (*http.Response, error) { return nil, cut }, 0, 1, 0, false},
		"cut, may be done twice": {twice, func(n int, _ *http.Request) (*http.Response, error) {
			if n == 1 {
				return nil, cut
			}
			return says(204, ""), nil
		}, 50 * time.Millisecond, 2, 204, false},
		"no answer at all": {twice, func(_ int, r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}, 15 * time.Second, 1, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				r, err := wsclient.NewREST(wsclient.RESTConfig{
					Server: "http://chat.example.com", Once: row.once, Jitter: func() float64 { return 0.5 },
					HTTP: &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
						asked++
						return row.script(asked, req)
					})},
				})
				require.NoError(t, err)
				began := time.Now()
				err = row.call(t.Context(), r)
				assert.Equal(t, row.waits, time.Since(began))
				assert.Equal(t, row.asked, asked)
				var p *wsclient.Problem
				switch row.status {
				case 204:
					require.NoError(t, err)
				case 0:
					require.Error(t, err)
					require.False(t, errors.As(err, &p))
				default:
					require.ErrorAs(t, err, &p)
					require.Equal(t, row.status, p.Status)
				}
			})
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestRESTEndsWithItsContext cancels calls that wait, for an answer and for another attempt.
func TestRESTEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, answer := range []scripted{
			func(_ int, r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			},
			func(int, *http.Request) (*http.Response, error) { return says(429, "10"), nil },
		} {
			r, err := wsclient.NewREST(wsclient.RESTConfig{
				Server: "http://chat.example.com",
				HTTP:   &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) { return answer(0, req) })},
			})
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- r.Block(ctx, "u") }()
			synctest.Wait()
			began := time.Now()
			cancel()
			require.ErrorIs(t, <-ended, context.Canceled)
			require.Zero(t, time.Since(began))
			require.ErrorIs(t, r.Block(ctx, "u"), context.Canceled)
		}
	})
}
