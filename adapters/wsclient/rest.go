package wsclient

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/problem"
	"github.com/parley-chat/parley/core/settings"
)

const (
	// restTimeout bounds one call of a [Session], and by default one of a [REST].
	restTimeout = 15 * time.Second
	// maxAnswer bounds what is read of an answer. A page of 100 messages, each as long as it may be, has about 10 MiB.
	maxAnswer = 32 << 20
	// firstPause and longestPause bound the pauses between the attempts of one call that nobody has asked to wait.
	firstPause, longestPause = 100 * time.Millisecond, 2 * time.Second
)

// RESTConfig is what a [REST] needs. Zero fields without "required" mean the default.
type RESTConfig struct {
	// Server is the address of the REST interface: "https://chat.example.com". Required.
	Server string
	// HTTP asks the server. Default: http.DefaultClient.
	HTTP *http.Client
	// Tokens has the access tokens: a [Session], for one.
	Tokens Tokens
	// Token returns the access token for a call, in place of Tokens. It may be called from many goroutines, and is asked again for a
	// call whose token the server has refused. Without Token and Tokens only calls that need no account are taken by the server.
	Token func(ctx context.Context) (string, error)
	// Timeout is how long a call may take, with all its attempts and pauses; of a list, how long each page may. Default 15 seconds.
	Timeout time.Duration
	// Once lets each call be made once, whatever becomes of it. A token that the server refuses is replaced all the same.
	Once bool
	// NewID makes client ids for messages. Default: random ones.
	NewID func() string
	// Jitter returns a number from 0 up to 1: how much of a pause is waited. Default random.
	Jitter func() float64
}

// REST makes the calls of a server's REST interface. Its methods may be called from many goroutines.
//
// A refusal of the server is a *[Problem]; errors.Is tells its kind (fault.NotFound) and, where it has one, what the core calls
// it (chat.ErrRoomTaken).
//
// A call that was not served is made again, until Config.Timeout or its context would end first:
//
//   - after 429, and where no connection could be made: nothing was done;
//   - after 502, 503, 504 and a connection that was lost: the server may have done it. So this holds only for calls that may be made twice, which are all but
//     [REST.CreateRoom], [REST.DeleteRoom], [REST.RemoveMember], [REST.SocketTicket] and those about accounts that change something.
//
// It waits for as long as Retry-After says. Where that is longer than it may take, the problem is returned at once.
type REST struct {
	cfg    RESTConfig
	server string
}

// NewREST returns the calls of a server. It asks nothing yet.
func NewREST(cfg RESTConfig) (*REST, error) {
	check := settings.Of("wsclient: RESTConfig")
	server := checkServer(check, cfg.Server)
	if cfg.Tokens != nil && cfg.Token != nil {
		check.Refuse("Tokens", "is not alone: Token is set too")
	}
	settings.Default(check, "Timeout", &cfg.Timeout, restTimeout)
	if err := check.Err(); err != nil {
		return nil, err
	}
	cfg.HTTP = cmp.Or(cfg.HTTP, http.DefaultClient)
	if cfg.NewID == nil {
		cfg.NewID = rand.Text
	}
	if cfg.Jitter == nil {
		cfg.Jitter = mathrand.Float64
	}
	return &REST{cfg: cfg, server: server}, nil
}

// checkServer returns the address of a server without a slash at its end.
func checkServer(check *settings.Check, server string) string {
	check.Require("Server", server == "")
	u, err := url.Parse(server)
	if server == "" || err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		if server != "" {
			check.Refuse("Server", "%q is no http or https address", server)
		}
		return ""
	}
	return u.Scheme + "://" + u.Host + strings.TrimRight(u.EscapedPath(), "/")
}

// Problem is a refusal by the REST interface (RFC 9457), or the answer of something else in its stead, which has no Code.
// errors.Is tells its kind, by its status, and the error of the core that has its code.
type Problem struct {
	Status        int
	Code          string
	Title, Detail string
	// RetryAfter is how long the server asks to wait.
	RetryAfter time.Duration
	// Errors are the places of the request that are wrong.
	Errors []problem.Location
	// Challenge is what [SignInFactor] takes, of a sign-in that needs a second factor, and ExpiresIn how long it lasts.
	Challenge string
	ExpiresIn time.Duration
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
	for _, at := range p.Errors {
		s += fmt.Sprintf("; %s: %s", at.Location, at.Message)
	}
	return s
}

// Is reports whether target is the kind of the problem, or an error of the core that the server tells by the problem's code.
func (p *Problem) Is(target error) bool {
	if kind, ok := target.(fault.Kind); ok {
		return p.Code != "" && (p.Status == kind.Status() || kind == fault.Invalid && p.Status == http.StatusBadRequest)
	}
	return hasCode(target, p.Code)
}

// hasCode reports whether an error of the core is told by a code.
func hasCode(target error, code string) bool {
	var of *fault.Error
	return errors.As(target, &of) && code != "" && fault.Public(of).Code == code
}

// question is one call.
type question struct {
	method, path string
	query        url.Values
	body         any // nil: none
	// bearer says that the call is of a user.
	bearer bool
	// twice says that nothing comes of it if the server does it twice.
	twice bool
}

// answer is what an answer is decoded into that can tell whether it is the server's.
type answer interface {
	// complete reports whether what every answer of the server has is there.
	complete() bool
}

// do makes a call. out is nil where the answer is 204.
func (r *REST) do(ctx context.Context, q question, out answer) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	pause := firstPause
	spent := ""
	for {
		token, again, err := "", true, error(nil)
		if q.bearer {
			token, err = r.token(ctx, spent)
		}
		if err == nil {
			if err = ask(ctx, r.cfg.HTTP, r.server, token, q, out); err == nil {
				return nil
			}
			if spent == "" && token != "" && refusesToken(err) {
				spent = token
				continue
			}
			again = mayAskAgain(err, q.twice)
		}
		switch {
		case ctx.Err() != nil:
			return errors.Join(ctx.Err(), err)
		case r.cfg.Once, !again, errors.Is(err, fault.Unauthenticated):
			return err
		}
		wait := time.Duration(float64(pause) * r.cfg.Jitter())
		pause = min(2*pause, longestPause)
		var p *Problem
		if errors.As(err, &p) && p.RetryAfter > 0 {
			wait = p.RetryAfter
		}
		if end, ok := ctx.Deadline(); ok && time.Until(end) <= wait {
			return err
		}
		if ended := sleep(ctx, wait); ended != nil {
			return errors.Join(ended, err)
		}
	}
}

// token returns an access token other than the spent one, or "" if there is nobody to ask for it.
func (r *REST) token(ctx context.Context, spent string) (token string, err error) {
	switch {
	case r.cfg.Tokens != nil:
		token, err = r.cfg.Tokens.Token(ctx, spent)
	case r.cfg.Token != nil:
		token, err = r.cfg.Token(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("wsclient: token: %w", err)
	}
	return token, nil
}

// refusesToken reports whether the server has said that a token is not good, or no longer.
func refusesToken(err error) bool {
	switch {
	case errors.Is(err, auth.ErrInvalidCredentials), errors.Is(err, auth.ErrFactorCode), errors.Is(err, auth.ErrFactorRequired):
		return false // which are about a password or a code
	}
	var p *Problem
	return errors.As(err, &p) && p.Code != "" && p.Status == http.StatusUnauthorized
}

// mayAskAgain reports whether a call that has failed may be made again. twice says that it may be where the server has done it perhaps.
func mayAskAgain(err error, twice bool) bool {
	var p *Problem
	var untrusted *tls.CertificateVerificationError
	var on *net.OpError
	switch kind := fault.KindOf(err); {
	case errors.As(err, &p):
	case kind == fault.Invalid, kind == fault.Exhausted, errors.As(err, &untrusted):
		return false // it would be so again
	default:
		return twice || errors.As(err, &on) && on.Op == "dial"
	}
	switch p.Status {
	case http.StatusTooManyRequests:
		return true
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return twice
	default:
		return false
	}
}

// ask asks the server once.
func ask(ctx context.Context, client *http.Client, server, token string, q question, out answer) error {
	var in io.Reader
	if q.body != nil {
		encoded, err := encode(q.body)
		if err != nil {
			return fault.Wrap(fault.Invalid, fmt.Errorf("wsclient: the body of %s: %w", q.path, err))
		}
		in = bytes.NewReader(encoded)
	}
	address := server + q.path
	if len(q.query) > 0 {
		address += "?" + q.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, q.method, address, in)
	if err != nil {
		return fault.Wrap(fault.Invalid, fmt.Errorf("wsclient: %w", err))
	}
	req.Header.Set("Accept", "application/json, "+problem.ContentType)
	if q.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("wsclient: %w", err)
	}
	defer func() { _ = res.Body.Close() }() // it was read
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("wsclient: %s: %w", q.path, err)
	}
	if len(text) > maxAnswer {
		return fault.Wrap(fault.Exhausted, fmt.Errorf("wsclient: the answer to %s has more than %d bytes", q.path, maxAnswer))
	}
	switch {
	case res.StatusCode/100 != 2:
		return problemOf(res, text)
	case out == nil && res.StatusCode != http.StatusNoContent,
		out != nil && (json.Unmarshal(text, out) != nil || !out.complete()):
		return &Problem{Status: res.StatusCode} // of somebody else
	}
	return nil
}

// problemOf reads a refusal.
func problemOf(res *http.Response, text []byte) *Problem {
	p := &Problem{Status: res.StatusCode, RetryAfter: retryAfter(res.Header)}
	if p.Code = problemCode(res.Header, text); p.Code != "" {
		var says problem.Document
		_ = json.Unmarshal(text, &says) // as much as has its form
		p.Title, p.Detail, p.Errors = says.Title, says.Detail, says.Errors
		p.Challenge, p.ExpiresIn = says.Challenge, time.Duration(says.ExpiresIn)*time.Second
	}
	return p
}

// path makes the path of a call of what is fixed and what is not, in turns: "/rooms/", room, "/bans/", user. All that is not fixed is encoded so
// that nothing on the way takes it for something else. What is empty is an error of kind fault.Invalid.
func path(parts ...string) (string, error) {
	var p strings.Builder
	for i, part := range parts {
		if i%2 == 0 {
			p.WriteString(part)
			continue
		}
		switch part {
		case "":
			return "", fault.Wrap(fault.Invalid, fmt.Errorf("wsclient: what stands behind %q in the path is empty", parts[i-1]))
		case ".", "..": // a folder
			p.WriteString(strings.ReplaceAll(part, ".", "%2E"))
		case "mine", "read": // a call of its own
			fmt.Fprintf(&p, "%%%02X%s", part[0], part[1:])
		default:
			p.WriteString(strings.ReplaceAll(url.QueryEscape(part), "+", "%20"))
		}
	}
	return p.String(), nil
}

// of makes a call about what has names, as path does.
func (r *REST) of(ctx context.Context, q question, out answer, parts ...string) (err error) {
	if q.path, err = path(parts...); err != nil {
		return err
	}
	return r.do(ctx, q, out)
}

// list reads a list page by page, as it is asked for: its items are in the field named items, and next is given to the query as cursor.
func list[T any](ctx context.Context, r *REST, items, cursor string, limit int, parts ...string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		query := url.Values{"limit": {fmt.Sprint(limit)}}
		for {
			p := page[T]{field: items}
			err := r.of(ctx, question{method: http.MethodGet, query: query, bearer: true, twice: true}, &p, parts...)
			if err != nil {
				yield(none, err)
				return
			}
			for _, item := range p.items {
				if !yield(item, nil) {
					return
				}
			}
			if p.next == "" {
				return
			}
			if p.next == query.Get(cursor) {
				yield(none, &Problem{Status: http.StatusOK}) // the server goes on
				return
			}
			query.Set(cursor, p.next)
		}
	}
}

// page is a part of a list.
type page[T any] struct {
	field string
	items []T
	next  string
}

// UnmarshalJSON reads the items from the field that the page says.
func (p *page[T]) UnmarshalJSON(text []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return err
	}
	p.items, p.next = nil, ""
	if next, ok := fields["next"]; ok {
		if err := json.Unmarshal(next, &p.next); err != nil {
			return err
		}
	}
	return json.Unmarshal(fields[p.field], &p.items)
}

func (p *page[T]) complete() bool { return p.items != nil }
