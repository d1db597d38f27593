package jwtauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/user"
)

// Limits of what another issuer says.
const (
	MaxOpenIDToken = 16 << 10 // bytes of a whole token
	MaxOpenIDUser  = 128      // bytes of a user's ID
	maxDiscovery   = 1 << 20  // bytes of its document
)

// OpenIDConfig is what an [OpenIDVerifier] needs. Zero fields without "required" mean the default.
type OpenIDConfig struct {
	// Issuer is whose tokens are accepted, as its tokens (iss) and its discovery document write it, for example "https://id.example.com/realms/chat".
	// It is https, or http on loopback. Required.
	Issuer string
	// Audience is whom tokens must be for: one of their aud. Required.
	Audience string
	// Algorithms are those of keys that are believed, of EdDSA, ES256, PS256 and RS256. Default all four.
	Algorithms []string
	// Types are the typ of access tokens, without "application/". Letter case does not count. Default at+jwt (RFC 9068). An issuer that gives its
	// access tokens the type JWT gives it to other tokens too; then only their claims tell them apart: see [OpenIDVerifier.Verify].
	Types []string
	// UserClaim holds the user's ID. Default "sub".
	UserClaim string
	// NameClaim holds the user's name, which is cut at [user.MaxFullName] characters. Default "name". Who has none, or one that
	// user.ParseFullName refuses, is called by their ID.
	NameClaim string
	// RoleClaim holds roles, a text or a list of texts; whoever has AdminRole among them is an administrator. A name with dots that is not there leads into
	// objects: "realm_access.roles". Default: none, and everybody has the role user.
	RoleClaim string
	// AdminRole is the role of administrators. Default "admin".
	AdminRole string
	// Leeway is how far the issuer's clock may be off, in either direction. Default none.
	Leeway time.Duration
	// Client asks the issuer. Default: one of its own, which follows no redirects.
	Client *http.Client
	// Timeout bounds the fetching of discovery document and keys together. Default 3 seconds.
	Timeout time.Duration
	// Refresh is how old both may be before they are fetched again. Default 5 minutes.
	Refresh time.Duration
	// Pause is the least time between two fetches, also for kids that are not known. Default 5 seconds.
	Pause time.Duration
	// Remember is as in [VerifierConfig]. Default 65,536; a negative number remembers none.
	Remember int
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// OpenIDVerifier checks access tokens of any OpenID issuer, whose keys it finds by OpenID Connect Discovery 1.0 and follows while they rotate. Its methods
// may be called from many goroutines.
type OpenIDVerifier struct {
	cfg    OpenIDConfig
	keys   *RemoteKeys
	signed *signatures
}

var _ auth.TokenVerifier = (*OpenIDVerifier)(nil)

// NewOpenIDVerifier checks the configuration, all of it at once. It asks nobody yet.
func NewOpenIDVerifier(cfg OpenIDConfig) (*OpenIDVerifier, error) {
	c := settings.Of("jwtauth: OpenIDConfig")
	c.Require("Issuer", cfg.Issuer == "")
	c.Require("Audience", cfg.Audience == "")
	if cfg.Issuer != "" {
		if err := CheckIssuer(cfg.Issuer); err != nil {
			c.Refuse("Issuer", "%v", err)
		}
	}
	if len(cfg.Algorithms) == 0 {
		cfg.Algorithms = append(Algorithms(), RS256)
	}
	for _, a := range cfg.Algorithms {
		if methods[a] == nil {
			c.Refuse("Algorithms", "has %s, which is none of EdDSA, ES256, PS256 and RS256", quoted(a))
		}
	}
	settings.Default(c, "Leeway", &cfg.Leeway, 0)
	settings.Default(c, "Timeout", &cfg.Timeout, 3*time.Second)
	settings.Default(c, "Refresh", &cfg.Refresh, 5*time.Minute)
	settings.Default(c, "Pause", &cfg.Pause, 5*time.Second)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if len(cfg.Types) == 0 {
		cfg.Types = []string{tokenType}
	}
	for of, standard := range map[*string]string{&cfg.UserClaim: "sub", &cfg.NameClaim: "name", &cfg.AdminRole: "admin"} {
		if *of == "" {
			*of = standard
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Remember == 0 {
		cfg.Remember = 65_536
	}
	document := strings.TrimSuffix(cfg.Issuer, "/") + "/.well-known/openid-configuration"
	keys, err := NewRemoteKeys(RemoteKeysConfig{
		URL: document, Algorithms: cfg.Algorithms, Client: cfg.Client, Timeout: cfg.Timeout, Refresh: cfg.Refresh, Pause: cfg.Pause, Now: cfg.Now,
	})
	if err != nil {
		return nil, err
	}
	v := &OpenIDVerifier{cfg: cfg, keys: keys, signed: &signatures{most: cfg.Remember}}
	keys.locate = func(ctx context.Context) (string, error) { return v.discover(ctx, document) }
	return v, nil
}

// CheckIssuer says what keeps an issuer from being one that is asked: it is a URL of https, or of http on loopback, without user, query and fragment.
func CheckIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(issuer, "#") {
		return errors.New("is not a URL like https://id.example.com")
	}
	return protected(u)
}

// protected refuses what somebody on the way could change.
func protected(u *url.URL) error {
	host := u.Hostname()
	address, err := netip.ParseAddr(host)
	if u.Scheme == "https" || u.Scheme == "http" && (host == "localhost" || err == nil && address.IsLoopback()) {
		return nil
	}
	return errors.New("is not of https, nor of http on this machine")
}

// discover returns where the issuer publishes its keys.
func (v *OpenIDVerifier) discover(ctx context.Context, document string) (string, error) {
	text, err := v.keys.fetchText(ctx, document, maxDiscovery)
	if err != nil {
		return "", err
	}
	var doc struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return "", fmt.Errorf("%s is not a discovery document", document)
	}
	if doc.Issuer != v.cfg.Issuer { // OpenID Connect Discovery 1.0 section 4.3
		return "", fmt.Errorf("%s is of the issuer %q, and not of %q", document, doc.Issuer, v.cfg.Issuer)
	}
	u, err := url.Parse(doc.Keys)
	if err == nil && u.Host == "" {
		err = errors.New("is missing")
	}
	if err == nil {
		err = protected(u)
	}
	if err != nil {
		return "", fmt.Errorf("the jwks_uri of %s %w", document, err)
	}
	return doc.Keys, nil
}

// Ping asks the issuer, and returns nil if it said where its keys are and gave them; errors are of kind Unavailable.
func (v *OpenIDVerifier) Ping(ctx context.Context) error { return v.keys.Ping(ctx) }

// Ready returns nil if there are keys, however old, and otherwise what Ping does.
func (v *OpenIDVerifier) Ready(ctx context.Context) error { return v.keys.Ready(ctx) }

// foreignHeaders are members by which a token would bring its own key or rules.
var foreignHeaders = []string{"jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "cty", "enc", "epk", "iv", "tag"}

// Verify returns what an access token says. It returns auth.ErrTokenInvalid, which wraps the reason, for any other one; and an error of kind Unavailable
// while the issuer's keys cannot be had.
//
// An access token is one of three segments of canonical base64url within [MaxOpenIDToken] bytes; with a header that has alg, kid and a typ of Config.Types, nothing that brings
// keys or rules, and no member twice; signed with a key of the issuer that is one for that algorithm; by the issuer, for the audience, with sub, exp and iat, at a time at which it is valid. It has no claim of
// another kind of token: nonce, at_hash, c_hash or s_hash of an ID token, events of a notice, cnf, which binds it to a key that nobody checks here, a typ other than Bearer, a token_use other than access.
//
// The audience that is asked for is auth.AudienceAPI, which Config.Audience stands for: there are no tickets of other issuers.
func (v *OpenIDVerifier) Verify(ctx context.Context, token, audience string) (auth.Claims, error) {
	invalid := func(err error) (auth.Claims, error) { return auth.Claims{}, auth.ErrTokenInvalid.Because(err) }
	if audience != auth.AudienceAPI {
		return invalid(errors.New("no other issuer makes such tokens"))
	}
	if err := checkForm(token, MaxOpenIDToken); err != nil {
		return invalid(err)
	}
	segments := strings.Split(token, ".")
	if len(segments) != 3 {
		return invalid(fmt.Errorf("it has %d segments, want 3", len(segments)))
	}
	head, err := v.header(segments[0])
	if err != nil {
		return invalid(err)
	}
	text, err := b64.DecodeString(segments[1])
	if err != nil {
		return invalid(err)
	}
	said, err := members(text)
	if err != nil {
		return invalid(err)
	}
	body, err := v.read(said)
	if err != nil {
		return invalid(err)
	}
	key, err := findKey(ctx, v.keys.PublicKey, head)
	if err != nil {
		return auth.Claims{}, err
	}
	name := v.signed.name(key, token)
	known := v.signed.has(name)
	if !known {
		if err := checkSignature(token[:len(token)-len(segments[2])-1], segments[2], key, false); err != nil {
			return invalid(err)
		}
	}
	err = jwt.NewValidator(
		jwt.WithIssuer(v.cfg.Issuer),
		jwt.WithAudience(v.cfg.Audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(v.cfg.Leeway),
		jwt.WithTimeFunc(v.cfg.Now),
	).Validate(body)
	if err != nil {
		return invalid(err)
	}
	if !known {
		v.signed.add(name)
	}
	return auth.Claims{
		ID: body.id, Audience: audience, UserID: body.user, Name: body.name, Role: body.role, SessionID: body.session,
		IssuedAt: time.Unix(body.issued, 0).UTC(), ExpiresAt: time.Unix(body.expires, 0).UTC(),
	}, nil
}

func (v *OpenIDVerifier) header(segment string) (h header, err error) {
	raw, err := b64.DecodeString(segment)
	if err != nil {
		return h, err
	}
	m, err := members(raw)
	if err != nil {
		return h, fmt.Errorf("header: %w", err)
	}
	var typ string
	err = errors.Join(m.text("alg", &h.algorithm), m.text("typ", &typ), m.text("kid", &h.keyID))
	typ = strings.TrimPrefix(strings.ToLower(typ), "application/") // RFC 7515 section 4.1.9
	switch {
	case err != nil:
		return h, fmt.Errorf("header: %w", err)
	case !slices.Contains(v.cfg.Algorithms, h.algorithm):
		return h, errors.New("header: wrong algorithm")
	case typ == "" || !slices.ContainsFunc(v.cfg.Types, func(t string) bool { return strings.ToLower(t) == typ }):
		return h, errors.New("header: wrong type")
	case h.keyID == "" || len(h.keyID) > MaxKeyID:
		return h, fmt.Errorf("header: kid has %d bytes, want 1 to %d", len(h.keyID), MaxKeyID)
	}
	for _, name := range foreignHeaders {
		if _, is := m[name]; is {
			return h, errors.New("header: it has " + name)
		}
	}
	return h, nil
}

// foreign are the claims of another issuer.
type foreign struct {
	issuer, subject, id, session string
	audience                     jwt.ClaimStrings
	issued, expires, notBefore   int64
	user                         user.ID
	name                         string
	role                         user.Role
}

// read reads what a token says, of which nothing is believed yet.
func (v *OpenIDVerifier) read(m object) (*foreign, error) {
	f := &foreign{role: user.RoleUser}
	var who, kind, use string
	err := errors.Join(
		m.text("iss", &f.issuer), m.text("sub", &f.subject), m.text("jti", &f.id), m.text("sid", &f.session), m.list("aud", (*[]string)(&f.audience)),
		m.numericDate("iat", &f.issued), m.numericDate("exp", &f.expires), m.numericDate("nbf", &f.notBefore),
		m.text(v.cfg.UserClaim, &who), m.text(v.cfg.NameClaim, &f.name), m.text("typ", &kind), m.text("token_use", &use),
	)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"nonce", "at_hash", "c_hash", "s_hash", "events", "cnf"} {
		if _, is := m[name]; is {
			return nil, errors.New("it is no bearer's access token: it has " + name)
		}
	}
	switch {
	case kind != "" && !strings.EqualFold(kind, "Bearer"), use != "" && use != "access":
		return nil, errors.New("it is another kind of token")
	case f.subject == "" || f.issued == 0 || f.expires == 0:
		return nil, errors.New("sub, iat or exp is missing")
	case len(who) == 0 || len(who) > MaxOpenIDUser || strings.ContainsFunc(who, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, fmt.Errorf("%s is not 1 to %d printable characters of ASCII", v.cfg.UserClaim, MaxOpenIDUser)
	case who == string(chat.System.ID):
		return nil, errors.New("that is the name of the system")
	case len(f.session) > MaxOpenIDUser || len(f.id) > 4*MaxOpenIDUser:
		return nil, errors.New("sid or jti is too long")
	}
	f.user = user.ID(who)
	f.name = strings.Join(strings.Fields(f.name), " ")
	if utf8.RuneCountInString(f.name) > user.MaxFullName {
		f.name = string([]rune(f.name)[:user.MaxFullName])
	}
	if f.name, err = user.ParseFullName(f.name); err != nil { // none, or one that nobody can see: the token is good all the same
		f.name = who
	}
	roles, err := m.roles(v.cfg.RoleClaim)
	if err != nil {
		return nil, err
	}
	if slices.Contains(roles, v.cfg.AdminRole) {
		f.role = user.RoleAdmin
	}
	return f, nil
}

// roles are those of a claim, or of what a name with dots leads to.
func (m object) roles(name string) (roles []string, err error) {
	if name == "" {
		return nil, nil
	}
	for rest := name; ; {
		if _, is := m[rest]; is {
			return roles, m.list(rest, &roles)
		}
		first, more, dotted := strings.Cut(rest, ".")
		raw, is := m[first]
		if !dotted || !is {
			return nil, nil
		}
		if m, err = members(raw); err != nil {
			return nil, err
		}
		rest = more
	}
}

// list reads a member that is a text or a list of texts, if it is there.
func (m object) list(name string, to *[]string) error {
	raw, ok := m[name]
	if !ok {
		return nil
	}
	var one string
	if text(raw, &one) == nil {
		*to = []string{one}
		return nil
	}
	var all []*string
	if raw[0] != '[' || json.Unmarshal(raw, &all) != nil || slices.Contains(all, nil) {
		return errors.New(name + " is neither a text nor a list of texts")
	}
	for _, s := range all {
		*to = append(*to, *s)
	}
	return nil
}

// numericDate reads a member that is a time of RFC 7519 section 2, which may have fractions, if it is there.
func (m object) numericDate(name string, to *int64) error {
	raw, ok := m[name]
	if !ok {
		return nil
	}
	n, err := strconv.ParseFloat(string(raw), 64) // of valid JSON only a number can be read
	if err != nil || raw[0] < '0' || raw[0] > '9' || n < 1 || n > maxTime {
		return errors.New(name + " is not a time")
	}
	*to = int64(math.Floor(n))
	return nil
}

var _ jwt.Claims = (*foreign)(nil)

// GetExpirationTime returns exp.
func (f *foreign) GetExpirationTime() (*jwt.NumericDate, error) { return date(f.expires), nil }

// GetIssuedAt returns iat.
func (f *foreign) GetIssuedAt() (*jwt.NumericDate, error) { return date(f.issued), nil }

// GetNotBefore returns nbf.
func (f *foreign) GetNotBefore() (*jwt.NumericDate, error) { return date(f.notBefore), nil }

// GetIssuer returns iss.
func (f *foreign) GetIssuer() (string, error) { return f.issuer, nil }

// GetSubject returns sub.
func (f *foreign) GetSubject() (string, error) { return f.subject, nil }

// GetAudience returns aud.
func (f *foreign) GetAudience() (jwt.ClaimStrings, error) { return f.audience, nil }
