package jwtauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
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
		Role:      string(c.Role),
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
	for _, s := range []string{body.Issuer, body.Subject, body.Audience, body.ID, body.Session, body.Name, body.Role} {
		if !utf8.ValidString(s) {
			return "", ErrClaimsInvalid.Because(errors.New("text is not UTF-8"))
		}
	}
	key := i.cfg.Keys.current().signer(i.cfg.Keys.now())
	t := jwt.NewWithClaims(methods[key.public.algorithm], &body)
	t.Header["typ"], t.Header["kid"] = tokenType, key.id
	signed, err := t.SigningString()
	if err != nil {
		return "", fmt.Errorf("jwtauth: sign: %w", err)
	}
	signature, err := sign(key.public.algorithm, key.private, signed)
	if err != nil {
		return "", fmt.Errorf("jwtauth: sign: %w", err)
	}
	signed += "." + b64.EncodeToString(signature)
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
	// Remember is how many tokens are remembered whose signature was found right, at some 30 bytes each, so that it is computed
	// once. All else is checked at each call: the time, the audience, and that Keys still has the key, the very one. So a key that
	// retires or is withdrawn is refused as soon as it would be otherwise. Default 65,536; a negative number remembers none.
	Remember int
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Verifier checks tokens. Its methods may be called from many goroutines.
type Verifier struct {
	cfg    VerifierConfig
	signed *signatures
	// last is the last header that was read: tokens of one key have the same one.
	last atomic.Pointer[readHeader]
}

// readHeader is the segment of a header, and the key that it names.
type readHeader struct {
	segment string
	header
}

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
	if cfg.Remember == 0 {
		cfg.Remember = 65_536
	}
	return &Verifier{cfg: cfg, signed: &signatures{most: cfg.Remember}}, nil
}

// Verify returns what the token says. It returns auth.ErrTokenInvalid, which wraps the reason, for
// a token that is not exactly as [Issuer] makes it, for audience, at this time; and an error of
// kind Unavailable when the key source cannot tell.
func (v *Verifier) Verify(ctx context.Context, token, audience string) (auth.Claims, error) {
	if err := checkForm(token, MaxToken); err != nil {
		return auth.Claims{}, auth.ErrTokenInvalid.Because(err)
	}
	segments := strings.Split(token, ".")
	if len(segments) != 3 {
		return auth.Claims{}, auth.ErrTokenInvalid.Because(fmt.Errorf("it has %d segments, want 3", len(segments)))
	}
	head, err := v.header(segments[0])
	if err != nil {
		return auth.Claims{}, auth.ErrTokenInvalid.Because(err)
	}
	var body claims
	text, err := b64.DecodeString(segments[1])
	if err == nil {
		err = json.Unmarshal(text, &body)
	}
	if err != nil {
		return auth.Claims{}, auth.ErrTokenInvalid.Because(err)
	}
	key, err := findKey(ctx, v.cfg.Keys, head)
	if err != nil {
		return auth.Claims{}, err
	}
	name := v.signed.name(key, token)
	known := v.signed.has(name)
	if !known {
		err := checkSignature(token[:len(token)-len(segments[2])-1], segments[2], key, true)
		if err != nil {
			return auth.Claims{}, auth.ErrTokenInvalid.Because(err)
		}
	}
	err = jwt.NewValidator(
		jwt.WithIssuer(v.cfg.Issuer),
		jwt.WithAudience(audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(v.cfg.Leeway),
		jwt.WithTimeFunc(v.cfg.Now),
	).Validate(&body)
	if err != nil {
		return auth.Claims{}, auth.ErrTokenInvalid.Because(err)
	}
	if !known {
		v.signed.add(name)
	}
	c := auth.Claims{
		ID:        body.ID,
		Audience:  body.Audience,
		UserID:    user.ID(body.Subject),
		Name:      body.Name,
		Role:      user.Role(body.Role),
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

// header reads the header, strictly.
func (v *Verifier) header(segment string) (header, error) {
	if last := v.last.Load(); last != nil && last.segment == segment {
		return last.header, nil
	}
	raw, err := b64.DecodeString(segment)
	if err != nil {
		return header{}, err
	}
	var h header
	if err := h.decode(raw); err != nil {
		return header{}, err
	}
	v.last.Store(&readHeader{strings.Clone(segment), h})
	return h, nil
}

// findKey asks the source for the key of a header, which must be of its algorithm.
func findKey(ctx context.Context, source KeySource, h header) (*PublicKey, error) {
	key, err := source(ctx, h.keyID)
	switch {
	case errors.Is(err, fault.NotFound):
		return nil, auth.ErrTokenInvalid.Because(err)
	case errors.Is(err, auth.ErrTokenInvalid):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("jwtauth: find the key: %w", fault.Wrap(fault.Unavailable, err))
	case key == nil || methods[key.algorithm] == nil:
		return nil, fmt.Errorf("jwtauth: find the key: %w", fault.Wrap(fault.Unavailable, errors.New("the source returned no key")))
	case key.algorithm != h.algorithm:
		return nil, auth.ErrTokenInvalid.Because(fmt.Errorf("the key is one of %s, and the token says otherwise", key.algorithm))
	}
	return key, nil
}

// checkSignature compares; canonical is as in PublicKey.verify.
func checkSignature(signed, segment string, key *PublicKey, canonical bool) error {
	signature, err := b64.DecodeString(segment)
	if err != nil {
		return err
	}
	return key.verify(signed, signature, canonical)
}

// checkForm refuses what base64 decoders pass over: line breaks, and anything around the segments.
func checkForm(token string, most int) error {
	if len(token) > most {
		return fmt.Errorf("it has %d bytes, want at most %d", len(token), most)
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
type header struct{ algorithm, keyID string }

func (h *header) decode(data []byte) error {
	m, err := members(data)
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	var typ string
	err = errors.Join(m.text("alg", &h.algorithm), m.text("typ", &typ), m.text("kid", &h.keyID))
	switch {
	case err != nil:
		return fmt.Errorf("header: %w", err)
	case len(m) != 3:
		return errors.New("header: a member is neither alg, typ nor kid")
	case !slices.Contains(Algorithms(), h.algorithm):
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
	Role      string `json:"role,omitempty"`
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
		m.text("jti", &c.ID), m.text("sid", &c.Session), m.text("name", &c.Name), m.text("role", &c.Role),
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
	if !json.Valid(data) {
		return nil, errors.New("not JSON")
	}
	// It is valid, so that what follows need not look for anything else.
	at := space(data, 0)
	if data[at] != '{' {
		return nil, errors.New("not a JSON object")
	}
	m := make(object, 12)
	for at = space(data, at+1); data[at] != '}'; at = space(data, at) {
		if data[at] == ',' {
			at = space(data, at+1)
		}
		end := valueEnd(data, at)
		var name string
		if err := text(data[at:end], &name); err != nil {
			return nil, err
		}
		if _, twice := m[name]; twice {
			return nil, errors.New("a member stands there twice")
		}
		at = space(data, space(data, end)+1) // the colon is between
		end = valueEnd(data, at)
		m[name] = data[at:end]
		at = end
	}
	return m, nil
}

// space returns where the white space ends that begins at i in valid JSON.
func space(data []byte, i int) int {
	for data[i] == ' ' || data[i] == '\t' || data[i] == '\n' || data[i] == '\r' {
		i++
	}
	return i
}

// valueEnd returns where the value ends that begins at i in valid JSON, within an object.
func valueEnd(data []byte, i int) int {
	for depth := 0; ; i++ {
		switch data[i] {
		case '"':
			for i++; data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // of a number, or a word
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
		}
	}
}

// text reads a string of valid JSON.
func text(raw []byte, to *string) error {
	if raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0 {
		*to = string(raw[1 : len(raw)-1])
		return nil
	}
	if raw[0] != '"' {
		return errors.New("not a string")
	}
	return json.Unmarshal(raw, to)
}

// text reads a member that is a string, if it is there.
func (m object) text(name string, to *string) error {
	if raw, ok := m[name]; ok && text(raw, to) != nil {
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
	n, err := strconv.ParseInt(string(raw), 10, 64) // a number of JSON begins with no plus sign
	if err != nil || n <= 0 || n > most {
		return errors.New(name + " is not a time in whole numbers")
	}
	*to = n
	return nil
}
