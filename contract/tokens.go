package contract

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/user"
)

// Tokens is the port of [TokenVerifier]: an issuer and the verifier that knows its key.
type Tokens struct {
	Issuer   auth.TokenIssuer
	Verifier auth.TokenVerifier
	// Stranger issues tokens of the same kind with a key that Verifier does not know.
	Stranger auth.TokenIssuer
	// Now is the verifier's clock. Default time.Now.
	Now func() time.Time
}

// TokenVerifier checks auth.TokenVerifier and auth.TokenIssuer.
func TokenVerifier() []Case[Tokens] {
	return suite("TokenVerifier", []promise[Tokens]{
		{"a token says what it was issued for", "Issue returns a signed token that says all of c. Verify returns what the token says.", tokensRoundTrip},
		{"foreign values are kept", "Issue returns a signed token that says all of c.", tokensForeign},
		{"a token for another audience is refused", "Verify returns ErrTokenInvalid unless the token was made for audience.", tokensAudience},
		{"an expired token is refused", "Verify returns ErrTokenInvalid if the token is expired.", tokensExpired},
		{"a changed token is refused", "Verify returns ErrTokenInvalid unless a known key signed the token with an allowed algorithm.", tokensChanged},
		{"a stranger's token is refused", "Verify returns ErrTokenInvalid unless a known key signed the token with an allowed algorithm.", tokensStranger},
		{"an unsigned token is refused", "Verify returns ErrTokenInvalid unless a known key signed the token with an allowed algorithm.", tokensUnsigned},
		{"what is no token is refused", "Verify returns ErrTokenInvalid for what is no token.", tokensGarbage},
		{"concurrent tokens are apart", "It may be called from many goroutines.", tokensConcurrent},
	})
}

func (p Tokens) claims(n int) auth.Claims {
	now := time.Now
	if p.Now != nil {
		now = p.Now
	}
	issued := now().UTC().Truncate(time.Second)
	return auth.Claims{
		ID: fmt.Sprintf("token-%d", n), Audience: auth.AudienceAPI, UserID: user.ID(fmt.Sprintf("user-%d", n)),
		Name: "Zoë Ångström", SessionID: fmt.Sprintf("session-%d", n),
		SessionAt: issued.Add(-time.Hour - time.Duration(n)*time.Microsecond), IssuedAt: issued, ExpiresAt: issued.Add(time.Hour),
	}
}

// sameClaims compares times as moments: a zone is not in a token.
func sameClaims(got, want auth.Claims) error {
	got.IssuedAt, got.ExpiresAt, got.SessionAt, got.Until = got.IssuedAt.UTC(), got.ExpiresAt.UTC(), got.SessionAt.UTC(), got.Until.UTC()
	return same(got, want)
}

func (p Tokens) trip(ctx context.Context, c auth.Claims) error {
	token, err := p.Issuer.Issue(ctx, c)
	if err != nil {
		return during("Issue", err)
	}
	got, err := p.Verifier.Verify(ctx, token, c.Audience)
	if err == nil {
		err = sameClaims(got, c)
	}
	return during("Verify", err)
}

// refuse wants ErrTokenInvalid, and nothing said.
func (p Tokens) refuse(ctx context.Context, what, token, audience string) error {
	c, err := p.Verifier.Verify(ctx, token, audience)
	if err := wantIs("Verify of "+what, err, auth.ErrTokenInvalid); err != nil {
		return err
	}
	return during("Verify of "+what+" returned claims beside the error", same(c, auth.Claims{}))
}

func tokensRoundTrip(ctx context.Context, p Tokens) error {
	ticket, old := p.claims(2), p.claims(3)
	ticket.Audience, ticket.Until = auth.AudienceTicket, ticket.ExpiresAt.Add(time.Minute)
	old.SessionAt = time.Time{}
	return first(
		func() error { return p.trip(ctx, p.claims(1)) },
		func() error { return p.trip(ctx, ticket) },
		func() error { return p.trip(ctx, old) },
	)
}

func tokensForeign(ctx context.Context, p Tokens) error {
	c := p.claims(1)
	c.Name = long(user.MaxFullName)
	d := p.claims(2)
	d.Name, d.SessionID = `<Zoë> & "O'Neil" \u0041 👋`, ""
	return first(
		func() error { return p.trip(ctx, c) },
		func() error { return p.trip(ctx, d) },
	)
}

func tokensAudience(ctx context.Context, p Tokens) error {
	api, ticket := p.claims(1), p.claims(2)
	ticket.Audience = auth.AudienceTicket
	for _, c := range []auth.Claims{api, ticket} {
		token, err := p.Issuer.Issue(ctx, c)
		if err != nil {
			return during("Issue", err)
		}
		for _, audience := range []string{auth.AudienceAPI, auth.AudienceTicket, "", "PARLEY", "parley:"} {
			if audience == c.Audience {
				continue
			}
			if err := p.refuse(ctx, fmt.Sprintf("a token made for %q by %q", c.Audience, audience), token, audience); err != nil {
				return err
			}
		}
	}
	return nil
}

func tokensExpired(ctx context.Context, p Tokens) error {
	c := p.claims(1)
	c.IssuedAt, c.ExpiresAt = c.IssuedAt.Add(-3*time.Hour), c.IssuedAt.Add(-2*time.Hour)
	token, err := p.Issuer.Issue(ctx, c)
	return then(during("Issue", err), func() error { return p.refuse(ctx, "an expired token", token, c.Audience) })
}

func tokensChanged(ctx context.Context, p Tokens) error {
	token, err := p.Issuer.Issue(ctx, p.claims(1))
	if err != nil {
		return during("Issue", err)
	}
	const step = 7 // not each byte: a verifier takes its time
	for i := 1; i < len(token)-4; i += step {
		b := []byte(token)
		if b[i] == '.' {
			continue
		}
		if b[i]++; b[i] > 'z' || b[i] == '.' {
			b[i] = 'A'
		}
		if err := p.refuse(ctx, fmt.Sprintf("a token whose byte %d of %d was changed", i, len(token)), string(b), auth.AudienceAPI); err != nil {
			return err
		}
	}
	other, err := p.Issuer.Issue(ctx, p.claims(2))
	if err != nil {
		return during("Issue", err)
	}
	if i := strings.LastIndexByte(token, '.'); i > 0 {
		if j := strings.LastIndexByte(other, '.'); j > 0 {
			err = p.refuse(ctx, "a token with the signature of another", token[:i]+other[j:], auth.AudienceAPI)
		}
	}
	return then(err,
		func() error { return p.refuse(ctx, "a cut token", token[:len(token)-8], auth.AudienceAPI) },
		func() error { return p.refuse(ctx, "a token with a tail", token+"AAAA", auth.AudienceAPI) },
	)
}

func tokensStranger(ctx context.Context, p Tokens) error {
	token, err := p.Stranger.Issue(ctx, p.claims(1))
	return then(during("Issue", err),
		func() error { return p.refuse(ctx, "a stranger's token", token, auth.AudienceAPI) },
		func() error { return p.trip(ctx, p.claims(2)) },
	)
}

func tokensUnsigned(ctx context.Context, p Tokens) error {
	token, err := p.Issuer.Issue(ctx, p.claims(1))
	if err != nil {
		return during("Issue", err)
	}
	says := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"user-1","aud":"parley","exp":99999999999}`))
	if parts := strings.Split(token, "."); len(parts) == 3 {
		says = parts[1]
	}
	for _, head := range []string{`{"alg":"none","typ":"at+jwt"}`, `{"alg":"None"}`, `{"alg":"HS256"}`, `{}`} {
		forged := base64.RawURLEncoding.EncodeToString([]byte(head)) + "." + says + "."
		if err := first(
			func() error {
				return p.refuse(ctx, "an unsigned token with the header "+head, forged, auth.AudienceAPI)
			},
			func() error {
				return p.refuse(ctx, "a forged token with the header "+head, forged+"AAAA", auth.AudienceAPI)
			},
		); err != nil {
			return err
		}
	}
	if i := strings.LastIndexByte(token, '.'); i > 0 {
		err = p.refuse(ctx, "a token without its signature", token[:i+1], auth.AudienceAPI)
	}
	return err
}

func tokensGarbage(ctx context.Context, p Tokens) error {
	for _, token := range []string{"", " ", ".", "..", "...", "token", "a.b.c", "ü", "\x00", strings.Repeat("A", 10_000), strings.Repeat("A.", 5000), "Bearer x"} {
		if err := p.refuse(ctx, brief([]byte(token)), token, auth.AudienceAPI); err != nil {
			return err
		}
	}
	return nil
}

func tokensConcurrent(ctx context.Context, p Tokens) error {
	return allTogether(16, func(i int) error { return p.trip(ctx, p.claims(i)) })
}
