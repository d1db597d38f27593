package humaapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/socket"
)

// AdminTokens returns the tokens that a setting holds: between commas, or on lines of their own, without the white space around them.
func AdminTokens(setting string) []string {
	tokens := strings.FieldsFunc(setting, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' })
	for i := range tokens {
		tokens[i] = strings.TrimSpace(tokens[i])
	}
	return slices.DeleteFunc(tokens, func(token string) bool { return token == "" })
}

// longEnough reports whether each token has MinAdminToken characters.
func longEnough(tokens []string) bool {
	return !slices.ContainsFunc(tokens, func(token string) bool { return utf8.RuneCountInString(token) < MinAdminToken })
}

// RequireToken lets only requests to next that have the token of administrators as bearer. Others are answered
// as by [RegisterMail]: 401, and 403 while current returns fewer than [MinAdminToken] characters. current is
// asked at each request, and must not block. next must be there, and is no operation of the API: it is in no document.
func (a *API) RequireToken(current func() string, next http.Handler) (http.Handler, error) {
	c := settings.Of("humaapi: RequireToken")
	c.Argument("the token", current == nil)
	c.Argument("the handler", next == nil)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range securityHeaders() {
			w.Header().Set(name, value)
		}
		network := ""
		if client := ClientAddress(r, a.trusted); client.IsValid() {
			network = auth.NetworkOf(client.String())
		}
		if _, err := a.admit(network, current(), r.Header.Get("Authorization"), errAdminOff.Detail("set PARLEY_ADMIN_TOKEN to switch it on")); err != nil {
			p := document(err)
			maps.Copy(w.Header(), p.GetHeaders())
			writeDocument(w, p)
			return
		}
		next.ServeHTTP(w, r)
	}), nil
}

// requireToken is middleware: it lets only requests with a token of administrators through, and no network that has guessed too often.
// off is its answer while there is none.
func (a *API) requireToken(current func() string, off *fault.Error) func(huma.Context, func(huma.Context)) {
	off = off.Detail("set PARLEY_ADMIN_TOKEN, or the Token of its configuration in a program of your own, to switch it on")
	return func(ctx huma.Context, next func(huma.Context)) {
		actor, err := a.admit(auth.NetworkOf(from(ctx.Context()).Address), current(), ctx.Header("Authorization"), off)
		if err != nil {
			refuse(ctx, err)
			return
		}
		next(huma.WithValue(ctx, actorKey{}, actor))
	}
}

// admit returns whose token an Authorization header has, unless the network has guessed too often.
func (a *API) admit(network, setting, header string, off error) (actor string, err error) {
	now := time.Now()
	if wait := a.guesses.wait(network, now); wait > 0 {
		return "", auth.ErrTooMany.RetryAfter(wait)
	}
	actor, err = checkToken(setting, header, off)
	if errors.Is(err, auth.ErrTokenInvalid) {
		a.guesses.wrong(network, now)
	}
	return actor, err
}

// checkToken returns whose token an Authorization header has, or an error; off if there is no token. It compares hashes, which have
// one length, in constant time, with every token.
func checkToken(setting, header string, off error) (actor string, err error) {
	tokens := AdminTokens(setting)
	if len(tokens) == 0 || !longEnough(tokens) {
		return "", off
	}
	given := socket.BearerToken(header)
	if given == "" {
		return "", fault.Unauthenticated
	}
	got := sha256.Sum256([]byte(given))
	for i, token := range tokens {
		want := sha256.Sum256([]byte(token))
		if subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
			actor = fmt.Sprintf("token:%d:%s", i+1, hex.EncodeToString(want[:4]))
		}
	}
	if actor == "" {
		return "", auth.ErrTokenInvalid
	}
	return actor, nil
}

// checkRate refuses a rate that is negative or lacks a part.
func checkRate(c *settings.Check, field string, r auth.Rate) {
	switch {
	case r.Burst < 0 || r.Per < 0:
		c.Refuse(field, "is negative")
	case (r.Burst == 0) != (r.Per == 0):
		c.Refuse(field, "has no Burst or no Per")
	}
}

// maxGuessers bounds the networks that are remembered for their guesses.
const maxGuessers = 10_000

// guesses counts wrong tokens by network, as the generic cell rate algorithm does. A right one costs nothing.
type guesses struct {
	interval, window time.Duration

	mu    sync.Mutex
	whole map[string]time.Time // when the allowance of a network is whole again
}

func newGuesses(r auth.Rate) *guesses {
	if r == (auth.Rate{}) {
		r = auth.Rate{Burst: 30, Per: time.Minute}
	}
	g := &guesses{whole: map[string]time.Time{}}
	g.interval, g.window, _ = r.Cell(time.Microsecond)
	return g
}

// wait returns how long a network must wait for its next guess. One that is not known is not limited.
func (g *guesses) wait(network string, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	whole, known := g.whole[network]
	if !known {
		return 0
	}
	return max(0, whole.Add(g.interval).Sub(now)-g.window)
}

// wrong counts a wrong guess.
func (g *guesses) wrong(network string, now time.Time) {
	if network == "" {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.whole) >= maxGuessers {
		for n, whole := range g.whole {
			if !whole.After(now) {
				delete(g.whole, n)
			}
		}
		if len(g.whole) >= maxGuessers {
			clear(g.whole) // whoever has so many networks is not stopped by this
		}
	}
	if whole := g.whole[network]; whole.After(now) {
		now = whole
	}
	g.whole[network] = now.Add(g.interval)
}
