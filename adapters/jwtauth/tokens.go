package jwtauth

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/user"
)

// Limits.
const (
	MaxToken = 4096 // bytes of a whole token; longer ones are neither made nor read
	MaxKeyID = 128  // bytes of a kid
)

const (
	algorithm = "EdDSA"  // RFC 8037 section 3.1
	tokenType = "at+jwt" // RFC 9068 section 2.1
	maxTime   = 253402300799
)

// ErrClaimsInvalid says that a token cannot say what it should.
var ErrClaimsInvalid = fault.New(fault.Invalid, "claims_invalid", "the token cannot be made")

// IssuerConfig is what an [Issuer] needs.
type IssuerConfig struct {
	// Keys signs. Required.
	Keys *Keys
	// Issuer names the issuer of the tokens (iss), for example the public URL. Required.
	Issuer string
}

// Issuer makes tokens. Its methods may be called from many goroutines.
type Issuer struct{ cfg IssuerConfig }

var _ auth.TokenIssuer = (*Issuer)(nil)

// NewIssuer checks the configuration, all of it at once.
func NewIssuer(cfg IssuerConfig) (*Issuer, error) {
	c := settings.Of("jwtauth: IssuerConfig")
	c.Require("Keys", cfg.Keys == nil)
	c.Require("Issuer", cfg.Issuer == "")
	if err := c.Err(); err != nil {
		return nil, err
	}
	return &Issuer{cfg: cfg}, nil
}

// Issue returns a signed token that says c. It returns ErrClaimsInvalid when c lacks anything but
// a name and a session, has text that is not UTF-8, expires before it is issued, or makes a token longer than
// MaxToken. Fractions of seconds are dropped.
func (i *Issuer) Issue(_ context.Context, c auth.Claims) (string, error) {
	body := claims{
		Issuer:    i.cfg.Issuer,
		Subject:   string(c.UserID),
		Audience:  c.Audience,
		ID:        c.ID,
		Session:   c.SessionID,
		Name:      c.Name,
		IssuedAt:  c.IssuedAt.Unix(),
		ExpiresAt: c.ExpiresAt.Unix(),
	}
	if !c.SessionAt.IsZero() {
		body.SessionAt = c.SessionAt.UnixMicro()
	}
	if !c.Until.IsZero() {
		body.Until = c.Until.Unix()
	}
	if err := body.Validate(); err != nil {
		return "", ErrClaimsInvalid.Because(err)
	}
	if c.ExpiresAt.Before(c.IssuedAt) {
		return "", ErrClaimsInvalid.Because(errors.New("it expires before it is issued"))
	}
	for _, s := range []string{body.Issuer, body.Subject, body.Audience, body.ID, body.Session, body.Name} {
		if !utf8.ValidString(s) {
			return "", ErrClaimsInvalid.Because(errors.New("text is not UTF-8"))
		}
	}
	set := i.cfg.Keys.current()
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, &body)
	t.Header["typ"], t.Header["kid"] = tokenType, set.id
	signed, err := t.SignedString(set.signing)
	if err != nil {
		return "", fmt.Errorf("jwtauth: sign: %w", err)
	}
	if len(signed) > MaxToken {
		return "", ErrClaimsInvalid.Because(fmt.Errorf("it has %d bytes, want at most %d", len(signed), MaxToken))
	}
	return signed, nil
}

// VerifierConfig is what a [Verifier] needs. Zero fields without "required" mean the default.
type VerifierConfig struct {
	// Keys finds the key that a token names, for example the PublicKey method of [Keys]. Required.
	Keys KeySource
	// Issuer is whose tokens are accepted (iss). Required.
	Issuer string
	// Leeway is how far the issuer's clock may be off, in either direction. Default none, which
	// suits one machine; a few seconds suit several.
	Leeway time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Verifier checks tokens. Its methods may be called from many goroutines.
type Verifier struct{ cfg VerifierConfig }

var _ auth.TokenVerifier = (*Verifier)(nil)

// NewVerifier checks the configuration, all of it at once.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	c := settings.Of("jwtauth: VerifierConfig")
	c.Require("Keys", cfg.Keys == nil)
	c.Require("Issuer", cfg.Issuer == "")
	settings.Default(c, "Leeway", &cfg.Leeway, 0)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Verifier{cfg: cfg}, nil
}

// Verify returns what the token says. It returns auth.ErrTokenInvalid, which wraps the reason, for
// a token that is not exactly as [Issuer] makes it, for audience, at this time; and an error of
// kind Unavailable when the key source cannot tell.
func (v *Verifier) Verify(ctx context.Context, token, audience string) (auth.Claims, error) {
	if err := checkForm(token); err != nil {
		return auth.Claims{}, auth.ErrTokenInvalid.Because(err)
	}
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{algorithm}),
		jwt.WithStrictDecoding(),
		jwt.WithIssuer(v.cfg.Issuer),
		jwt.WithAudience(audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(v.cfg.Leeway),
		jwt.WithTimeFunc(v.cfg.Now),
	)
	var body claims
	var unavailable error
	_, err := parser.ParseWithClaims(token, &body, func(t *jwt.Token) (any, error) {
		key, err := v.key(ctx, t)
		if err != nil && !errors.Is(err, auth.ErrTokenInvalid) {
			unavailable = err
		}
		return key, err
	})
	if unavailable != nil {
		return auth.Claims{}, unavailable
	}
	if err != nil {
		return auth.Claims{}, auth.ErrTokenInvalid.Because(err)
	}
	c := auth.Claims{
		ID:        body.ID,
		Audience:  body.Audience,
		UserID:    user.ID(body.Subject),
		Name:      body.Name,
		SessionID: body.Session,
		IssuedAt:  time.Unix(body.IssuedAt, 0).UTC(),
		ExpiresAt: time.Unix(body.ExpiresAt, 0).UTC(),
	}
	if body.SessionAt != 0 {
		c.SessionAt = time.UnixMicro(body.SessionAt).UTC()
	}
	if body.Until != 0 {
		c.Until = time.Unix(body.Until, 0).UTC()
	}
	return c, nil
}

// key checks the header, strictly, before it asks the source.
func (v *Verifier) key(ctx context.Context, t *jwt.Token) (ed25519.PublicKey, error) {
	segment, _, _ := strings.Cut(t.Raw, ".")
	raw, err := b64.DecodeString(segment)
	if err != nil {
		return nil, auth.ErrTokenInvalid.Because(err)
	}
	var h header
	if err := h.decode(raw); err != nil {
		return nil, auth.ErrTokenInvalid.Because(err)
	}
	key, err := v.cfg.Keys(ctx, h.keyID)
	switch {
	case errors.Is(err, fault.NotFound):
		return nil, auth.ErrTokenInvalid.Because(err)
	case err != nil:
		return nil, fmt.Errorf("jwtauth: find the key: %w", fault.Wrap(fault.Unavailable, err))
	case len(key) != ed25519.PublicKeySize:
		return nil, fmt.Errorf("jwtauth: find the key: %w", fault.Wrap(fault.Unavailable, errors.New("the source returned no Ed25519 key")))
	}
	return key, nil
}

// checkForm refuses what base64 decoders pass over: line breaks, and anything around the segments.
func checkForm(token string) error {
	if len(token) > MaxToken {
		return fmt.Errorf("it has %d bytes, want at most %d", len(token), MaxToken)
	}
	for _, c := range []byte(token) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return errors.New("a character is neither base64url nor a dot")
		}
	}
	return nil
}

// header is the only header that is accepted.
type header struct{ keyID string }

func (h *header) decode(data []byte) error {
	m, err := members(data)
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	var alg, typ string
	err = errors.Join(m.text("alg", &alg), m.text("typ", &typ), m.text("kid", &h.keyID))
	switch {
	case err != nil:
		return fmt.Errorf("header: %w", err)
	case len(m) != 3:
		return errors.New("header: a member is neither alg, typ nor kid")
	case alg != algorithm:
		return errors.New("header: wrong algorithm")
	case typ != tokenType:
		return errors.New("header: wrong type")
	case h.keyID == "" || len(h.keyID) > MaxKeyID:
		return fmt.Errorf("header: kid has %d bytes, want 1 to %d", len(h.keyID), MaxKeyID)
	}
	return nil
}

// claims is the body of a token. Validate and the Get methods are what the vendor's parser
// calls to check it.
type claims struct {
	Issuer    string `json:"iss"`
	Subject   string `json:"sub"`
	Audience  string `json:"aud"`
	ID        string `json:"jti"`
	Session   string `json:"sid"`
	Name      string `json:"name"`
	IssuedAt  int64  `json:"iat"`
	ExpiresAt int64  `json:"exp"`
	// SessionAt is when the session was opened, in microseconds since 1970, and Until when the
	// socket ends that a ticket opens. Tokens of older programs have neither.
	SessionAt int64 `json:"sat,omitempty"`
	Until     int64 `json:"end,omitempty"`

	notBefore int64 // never issued, but obeyed
}

var _ jwt.ClaimsValidator = (*claims)(nil)

// UnmarshalJSON is stricter than the default: names are exact, and each stands once.
func (c *claims) UnmarshalJSON(data []byte) error {
	m, err := members(data)
	if err != nil {
		return err
	}
	if _, ok := m["sid"]; !ok { // empty is a token outside any session, and said on purpose
		return errors.New("sid is missing")
	}
	return errors.Join(
		m.text("iss", &c.Issuer), m.text("sub", &c.Subject), m.text("aud", &c.Audience),
		m.text("jti", &c.ID), m.text("sid", &c.Session), m.text("name", &c.Name),
		m.seconds("iat", &c.IssuedAt), m.seconds("exp", &c.ExpiresAt), m.seconds("nbf", &c.notBefore),
		m.moment("sat", &c.SessionAt, maxTime*1_000_000), m.seconds("end", &c.Until),
	)
}

// Validate reports everything that is missing.
func (c *claims) Validate() error {
	var errs []error
	for _, f := range []struct {
		name    string
		missing bool
	}{
		{"iss", c.Issuer == ""}, {"sub", c.Subject == ""}, {"aud", c.Audience == ""}, {"jti", c.ID == ""},
		{"iat", c.IssuedAt <= 0 || c.IssuedAt > maxTime}, {"exp", c.ExpiresAt <= 0 || c.ExpiresAt > maxTime},
		{"sat", c.SessionAt < 0 || c.SessionAt > maxTime*1_000_000}, {"end", c.Until < 0 || c.Until > maxTime},
	} {
		if f.missing {
			errs = append(errs, errors.New(f.name+" is missing or out of range"))
		}
	}
	return errors.Join(errs...)
}

// GetExpirationTime returns exp.
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return date(c.ExpiresAt), nil }

// GetIssuedAt returns iat.
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error) { return date(c.IssuedAt), nil }

// GetNotBefore returns nbf.
func (c *claims) GetNotBefore() (*jwt.NumericDate, error) { return date(c.notBefore), nil }

// GetIssuer returns iss.
func (c *claims) GetIssuer() (string, error) { return c.Issuer, nil }

// GetSubject returns sub.
func (c *claims) GetSubject() (string, error) { return c.Subject, nil }

// GetAudience returns aud.
func (c *claims) GetAudience() (jwt.ClaimStrings, error) { return jwt.ClaimStrings{c.Audience}, nil }

func date(seconds int64) *jwt.NumericDate {
	if seconds == 0 {
		return nil
	}
	return jwt.NewNumericDate(time.Unix(seconds, 0))
}

// object is a JSON object whose members are not decoded yet.
type object map[string]json.RawMessage

// members reads one JSON object and nothing after it, in which no name stands twice.
func members(data []byte) (object, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	m := object{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, errors.New("not a JSON object")
		}
		key, ok := name.(string)
		if _, twice := m[key]; !ok || twice {
			return nil, errors.New("a member stands there twice")
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, errors.New("not a JSON object")
		}
		m[key] = value
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("not a JSON object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return m, nil
}

// text reads a member that is a string, if it is there.
func (m object) text(name string, to *string) error {
	if raw, ok := m[name]; ok && (string(raw) == "null" || json.Unmarshal(raw, to) != nil) {
		return errors.New(name + " is not a string")
	}
	return nil
}

// seconds reads a member that is a whole number after 1970 and before the year 10000, if it is there.
func (m object) seconds(name string, to *int64) error { return m.moment(name, to, maxTime) }

// moment reads a member that is a whole number up to most, if it is there.
func (m object) moment(name string, to *int64, most int64) error {
	raw, ok := m[name]
	if !ok {
		return nil
	}
	if json.Unmarshal(raw, to) != nil || *to <= 0 || *to > most {
		return errors.New(name + " is not a time in whole numbers")
	}
	return nil
}
