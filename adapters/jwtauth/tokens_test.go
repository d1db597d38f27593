package jwtauth_test

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

const us = "https://chat.example"

var now = time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)

func clock() time.Time { return now }

func good() auth.Claims {
	return auth.Claims{
		ID: "token-1", Audience: auth.AudienceAPI, UserID: "user-1", Name: "Zoë <&> Ünal", SessionID: "session-1",
		IssuedAt: now, ExpiresAt: now.Add(15 * time.Minute),
	}
}

// rig is an issuer and a verifier that trust each other, with the clock above.
type rig struct {
	keys     *jwtauth.Keys
	issuer   *jwtauth.Issuer
	verifier *jwtauth.Verifier
}

func newRig(t testing.TB) rig {
	t.Helper()
	keys, err := jwtauth.NewKeys(jwtauth.KeysConfig{Now: clock})
	require.NoError(t, err)
	issuer, err := jwtauth.NewIssuer(jwtauth.IssuerConfig{Keys: keys, Issuer: us})
	require.NoError(t, err)
	verifier, err := jwtauth.NewVerifier(jwtauth.VerifierConfig{Keys: keys.PublicKey, Issuer: us, Now: clock})
	require.NoError(t, err)
	return rig{keys, issuer, verifier}
}

func TestIssueThenVerify(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, change := range map[string]func(*auth.Claims){
		"all there":           func(*auth.Claims) {},
		"no name":             func(c *auth.Claims) { c.Name = "" },
		"no session":          func(c *auth.Claims) { c.SessionID = "" },
		"a ticket":            func(c *auth.Claims) { c.Audience = auth.AudienceTicket },
		"issued before":       func(c *auth.Claims) { c.IssuedAt = now.Add(-time.Hour) },
		"last second":         func(c *auth.Claims) { c.ExpiresAt = now.Add(time.Second) },
		"quotes and controls": func(c *auth.Claims) { c.Name = "\"\\\x00\n\u2028𝕏" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := good()
			change(&want)
			token, err := r.issuer.Issue(t.Context(), want)
			require.NoError(t, err)
			got, err := r.verifier.Verify(t.Context(), token, want.Audience)
			require.NoError(t, err)
			assert.Equal(t, want, got)
		})
	}
}

func TestTokenOnTheWire(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := good()
	c.IssuedAt = c.IssuedAt.Add(999 * time.Millisecond) // whole seconds only
	token, err := r.issuer.Issue(t.Context(), c)
	require.NoError(t, err)
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3)
	var set struct{ Keys []struct{ Kid, X string } }
	require.NoError(t, json.Unmarshal(r.keys.JWKS(), &set))
	assert.JSONEq(t, `{"alg":"EdDSA","typ":"at+jwt","kid":"`+set.Keys[0].Kid+`"}`, decode(t, parts[0]))
	assert.JSONEq(t, `{"iss":"https://chat.example","sub":"user-1","aud":"parley","jti":"token-1","sid":"session-1",
		"name":"Zoë <&> Ünal","iat":1778051289,"exp":1778052189}`, decode(t, parts[1]))
	// Somebody who knows nothing but the JWKS can check it.
	x, err := base64.RawURLEncoding.DecodeString(set.Keys[0].X)
	require.NoError(t, err)
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	require.NoError(t, err)
	assert.True(t, ed25519.Verify(x, []byte(parts[0]+"."+parts[1]), signature))
}

func decode(t *testing.T, segment string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(segment)
	require.NoError(t, err)
	return string(b)
}

func TestIssueRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, change := range map[string]func(*auth.Claims){
		"no ID":                    func(c *auth.Claims) { c.ID = "" },
		"no audience":              func(c *auth.Claims) { c.Audience = "" },
		"no user":                  func(c *auth.Claims) { c.UserID = "" },
		"no time of issue":         func(c *auth.Claims) { c.IssuedAt = time.Time{} },
		"no expiry":                func(c *auth.Claims) { c.ExpiresAt = time.Time{} },
		"expired before its issue": func(c *auth.Claims) { c.ExpiresAt = c.IssuedAt.Add(-time.Second) },
		"year 10000":               func(c *auth.Claims) { c.ExpiresAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"name that is not UTF-8":   func(c *auth.Claims) { c.Name = "\xff" },
		"user that is not UTF-8":   func(c *auth.Claims) { c.UserID = user.ID("\xff") },
		"a name too long":          func(c *auth.Claims) { c.Name = strings.Repeat("x", jwtauth.MaxToken) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := good()
			change(&c)
			token, err := r.issuer.Issue(t.Context(), c)
			require.ErrorIs(t, err, jwtauth.ErrClaimsInvalid)
			require.ErrorIs(t, err, fault.Invalid)
			assert.Empty(t, token)
		})
	}
}

// forge signs whatever it is given with a key that the verifier of hostile knows as "kid".
type forge struct {
	private ed25519.PrivateKey
	public  ed25519.PublicKey
}

func newForge() forge {
	private := ed25519.NewKeyFromSeed([]byte("a seed of thirty-two bytes, no 1"))
	public, _ := private.Public().(ed25519.PublicKey)
	return forge{private, public}
}

func (f forge) source(_ context.Context, kid string) (*jwtauth.PublicKey, error) {
	if kid == "kid" {
		return jwtauth.NewPublicKey(jwtauth.EdDSA, f.public)
	}
	return nil, jwtauth.ErrKeyUnknown
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func (f forge) sign(header, body string) string {
	text := b64(header) + "." + b64(body)
	return text + "." + b64(string(ed25519.Sign(f.private, []byte(text))))
}

func (f forge) verifier(t testing.TB) *jwtauth.Verifier {
	t.Helper()
	v, err := jwtauth.NewVerifier(jwtauth.VerifierConfig{Keys: f.source, Issuer: us, Now: clock})
	require.NoError(t, err)
	return v
}

const (
	goodHeader = `{"alg":"EdDSA","typ":"at+jwt","kid":"kid"}`
	goodBody   = `{"iss":"https://chat.example","sub":"u","aud":"parley","jti":"j","sid":"s","name":"n","iat":1778051289,"exp":1778052189}`
)

// with replaces one piece of a good header or body; the piece must be there.
func with(t testing.TB, good, from, to string) string {
	t.Helper()
	require.Contains(t, good, from)
	return strings.Replace(good, from, to, 1)
}

func TestForgedTokenIsOtherwiseGood(t *testing.T) {
	t.Parallel()
	f := newForge()
	for name, token := range map[string]string{
		"as it is":                f.sign(goodHeader, goodBody),
		"spaces inside JSON":      f.sign(" "+with(t, goodHeader, ",", " ,\n"), with(t, goodBody, ",", "\t, ")+" "),
		"an unknown claim":        f.sign(goodHeader, with(t, goodBody, `{`, `{"scope":{"a":[1]},`)),
		"valid since a while":     f.sign(goodHeader, with(t, goodBody, `{`, `{"nbf":1778051289,`)),
		"no name":                 f.sign(goodHeader, with(t, goodBody, `"name":"n",`, ``)),
		"escapes in a known name": f.sign(goodHeader, with(t, goodBody, `"sub"`, `"s\u0075b"`)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := f.verifier(t).Verify(t.Context(), token, auth.AudienceAPI)
			require.NoError(t, err)
			assert.Equal(t, user.ID("u"), c.UserID)
		})
	}
}

func hostile(t testing.TB, f forge) map[string]string {
	t.Helper()
	token := f.sign(goodHeader, goodBody)
	parts := strings.Split(token, ".")
	header := func(from, to string) string { return f.sign(with(t, goodHeader, from, to), goodBody) }
	body := func(from, to string) string { return f.sign(goodHeader, with(t, goodBody, from, to)) }
	extra := func(member string) string { return header(`{`, `{`+member+`,`) }
	mac := func(alg, secret string) string {
		text := b64(with(t, goodHeader, "EdDSA", alg)) + "." + b64(goodBody)
		h := hmac.New(sha256.New, []byte(secret))
		h.Write([]byte(text))
		return text + "." + b64(string(h.Sum(nil)))
	}
	foreign := forge{private: ed25519.NewKeyFromSeed([]byte("a seed of thirty-two bytes, no 2"))}
	ownJWK := `"jwk":{"kty":"OKP","crv":"Ed25519","x":"` + b64(string(f.public)) + `"}`

	// The last character of a signature carries four bits that mean nothing.
	signature := parts[2]
	last := strings.IndexByte(alphabet, signature[len(signature)-1])
	stray := parts[0] + "." + parts[1] + "." + signature[:len(signature)-1] + string(alphabet[last|1])

	return map[string]string{
		"empty":                    "",
		"one dot":                  ".",
		"two dots":                 "..",
		"no token":                 "Bearer",
		"header only":              parts[0],
		"no signature":             parts[0] + "." + parts[1],
		"empty signature":          parts[0] + "." + parts[1] + ".",
		"empty body":               parts[0] + ".." + parts[2],
		"empty header":             "." + parts[1] + "." + parts[2],
		"four segments":            token + "." + parts[2],
		"body twice":               parts[0] + "." + parts[1] + "." + parts[1] + "." + parts[2],
		"five segments":            parts[0] + "...." + parts[2],
		"token twice":              token + token,
		"with its scheme":          "Bearer " + token,
		"leading space":            " " + token,
		"trailing space":           token + " ",
		"trailing line break":      token + "\n",
		"line break in signature":  parts[0] + "." + parts[1] + "." + signature[:10] + "\r\n" + signature[10:],
		"line break in body":       parts[0] + "." + parts[1][:8] + "\n" + parts[1][8:] + "." + signature,
		"space around a dot":       parts[0] + " ." + parts[1] + "." + signature,
		"NUL at the end":           token + "\x00",
		"padding":                  parts[0] + "." + parts[1] + "." + signature + "==",
		"standard base64":          strings.NewReplacer("-", "+", "_", "/").Replace(token) + "+",
		"stray bits":               stray,
		"letters beyond ASCII":     token[:20] + "é" + token[20:],
		"too long":                 body(`"name":"n"`, `"name":"`+strings.Repeat("n", jwtauth.MaxToken)+`"`),
		"megabytes":                strings.Repeat("A", 1<<20),
		"a million dots":           strings.Repeat(".", 1<<20),
		"JSON serialisation":       `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + signature + `"}`,
		"encrypted form":           parts[0] + ".AAAA.AAAA.AAAA.AAAA",
		"signature of another":     parts[0] + "." + parts[1] + "." + strings.Split(body(`"sub":"u"`, `"sub":"v"`), ".")[2],
		"body of another":          parts[0] + "." + strings.Split(body(`"sub":"u"`, `"sub":"v"`), ".")[1] + "." + signature,
		"one bit turned":           flip(token),
		"short signature":          parts[0] + "." + parts[1] + "." + signature[:84],
		"signature of zeros":       parts[0] + "." + parts[1] + "." + b64(strings.Repeat("\x00", 64)),
		"signature plus the order": parts[0] + "." + parts[1] + "." + b64(plusOrder(t, signature)),

		"alg none":                b64(with(t, goodHeader, "EdDSA", "none")) + "." + parts[1] + ".",
		"alg none, signed":        header("EdDSA", "none"),
		"alg None":                header("EdDSA", "None"),
		"alg NONE, no signature":  b64(with(t, goodHeader, "EdDSA", "NONE")) + "." + parts[1] + ".",
		"HS256 by the public key": mac("HS256", string(f.public)),
		"HS256 by its base64":     mac("HS256", b64(string(f.public))),
		"HS384":                   mac("HS384", string(f.public)),
		"alg RS256":               header("EdDSA", "RS256"),
		"alg ES256":               header("EdDSA", "ES256"),
		"alg PS256":               header("EdDSA", "PS256"),
		"alg unknown":             header("EdDSA", "XX999"),
		"alg in small letters":    header("EdDSA", "eddsa"),
		"alg Ed25519":             header("EdDSA", "Ed25519"), // RFC 9864, not what we issue
		"alg empty":               header("EdDSA", ""),
		"alg missing":             header(`"alg":"EdDSA",`, ``),
		"alg null":                header(`"EdDSA"`, `null`),
		"alg a number":            header(`"EdDSA"`, `1`),
		"alg a list":              header(`"EdDSA"`, `["EdDSA"]`),
		"alg twice, none last":    header(`"EdDSA"`, `"EdDSA","alg":"none"`),
		"alg twice, none first":   header(`"alg"`, `"alg":"none","alg"`),
		"alg in capitals too":     extra(`"ALG":"none"`),
		"foreign key, known kid":  foreign.sign(goodHeader, goodBody),
		"unknown kid":             header(`"kid":"kid"`, `"kid":"other"`),
		"kid missing":             header(`,"kid":"kid"`, ``),
		"kid empty":               header(`"kid":"kid"`, `"kid":""`),
		"kid null":                header(`"kid":"kid"`, `"kid":null`),
		"kid a number":            header(`"kid":"kid"`, `"kid":1`),
		"kid too long":            header(`"kid":"kid"`, `"kid":"`+strings.Repeat("k", jwtauth.MaxKeyID+1)+`"`),
		"kid a path":              header(`"kid":"kid"`, `"kid":"../../dev/null"`),
		"kid twice":               header(`"kid":"kid"`, `"kid":"other","kid":"kid"`),
		"kid twice by an escape":  header(`"kid":"kid"`, `"kid":"other","k\u0069d":"kid"`),
		"kid as Kid":              header(`"kid"`, `"Kid"`),
		"typ missing":             header(`"typ":"at+jwt",`, ``),
		"typ JWT":                 header("at+jwt", "JWT"),
		"typ in capitals":         header("at+jwt", "AT+JWT"),
		"typ with its prefix":     header("at+jwt", "application/at+jwt"),
		"typ of something else":   header("at+jwt", "logout+jwt"),
		"typ null":                header(`"at+jwt"`, `null`),
		"crit":                    extra(`"crit":["exp"]`),
		"crit empty":              extra(`"crit":[]`),
		"own key, signed with it": extra(ownJWK),
		"own key, foreign":        foreign.sign(with(t, goodHeader, `{`, `{"jwk":{"kty":"OKP","crv":"Ed25519","x":"AAAA"},`), goodBody),
		"jku":                     extra(`"jku":"https://evil.example/jwks.json"`),
		"x5u":                     extra(`"x5u":"https://evil.example/cert"`),
		"x5c":                     extra(`"x5c":["AAAA"]`),
		"b64 false":               extra(`"b64":false`),
		"zip":                     extra(`"zip":"DEF"`),
		"cty":                     extra(`"cty":"JWT"`),
		"header not JSON":         f.sign(`alg=EdDSA`, goodBody),
		"header a list":           f.sign(`[`+goodHeader+`]`, goodBody),
		"header null":             f.sign(`null`, goodBody),
		"header twice":            f.sign(goodHeader+goodHeader, goodBody),
		"header cut short":        f.sign(goodHeader[:len(goodHeader)-1], goodBody),
		"header with a byte mark": f.sign("\ufeff"+goodHeader, goodBody),
		"header not UTF-8":        header(`"kid":"kid"`, "\"kid\":\"\xff\""),
		"header deeper than deep": f.sign(`{"alg":`+strings.Repeat("[", 1000)+`}`, goodBody),

		"sub missing":           body(`"sub":"u",`, ``),
		"sub empty":             body(`"sub":"u"`, `"sub":""`),
		"sub null":              body(`"sub":"u"`, `"sub":null`),
		"sub a number":          body(`"sub":"u"`, `"sub":1`),
		"sub as Sub":            body(`"sub"`, `"Sub"`),
		"sub twice":             body(`"sub":"u"`, `"sub":"u","sub":"admin"`),
		"sid missing":           body(`"sid":"s",`, ``),
		"sid null":              body(`"sid":"s"`, `"sid":null`),
		"jti missing":           body(`"jti":"j",`, ``),
		"name a number":         body(`"name":"n"`, `"name":7`),
		"iss missing":           body(`"iss":"https://chat.example",`, ``),
		"iss of another":        body(`chat.example`, `evil.example`),
		"iss with a slash more": body(`chat.example`, `chat.example/`),
		"iss a list":            body(`"https://chat.example"`, `["https://chat.example"]`),
		"aud missing":           body(`"aud":"parley",`, ``),
		"aud empty":             body(`"aud":"parley"`, `"aud":""`),
		"aud of a ticket":       body(`"aud":"parley"`, `"aud":"parley:ticket"`),
		"aud in capitals":       body(`"aud":"parley"`, `"aud":"Parley"`),
		"aud a list of ours":    body(`"aud":"parley"`, `"aud":["parley"]`),
		"aud both":              body(`"aud":"parley"`, `"aud":["parley","parley:ticket"]`),
		"aud twice":             body(`"aud":"parley"`, `"aud":"parley:ticket","aud":"parley"`),
		"exp missing":           body(`,"exp":1778052189`, ``),
		"exp now":               body(`"exp":1778052189`, `"exp":1778051289`),
		"exp long ago":          body(`"exp":1778052189`, `"exp":1`),
		"exp zero":              body(`"exp":1778052189`, `"exp":0`),
		"exp negative":          body(`"exp":1778052189`, `"exp":-1`),
		"exp null":              body(`"exp":1778052189`, `"exp":null`),
		"exp text":              body(`"exp":1778052189`, `"exp":"1778052189"`),
		"exp with a fraction":   body(`"exp":1778052189`, `"exp":1778052189.5`),
		"exp with an exponent":  body(`"exp":1778052189`, `"exp":9e99`),
		"exp in the year 10000": body(`"exp":1778052189`, `"exp":253402300800`),
		"exp that overflows":    body(`"exp":1778052189`, `"exp":9223372036854775808`),
		"exp twice":             body(`"exp":1778052189`, `"exp":1,"exp":1778052189`),
		"exp as EXP":            body(`"exp"`, `"EXP"`),
		"iat missing":           body(`"iat":1778051289,`, ``),
		"iat in the future":     body(`"iat":1778051289`, `"iat":1778051290`),
		"iat text":              body(`"iat":1778051289`, `"iat":"now"`),
		"not yet valid":         body(`{`, `{"nbf":1778051290,`),
		"nbf text":              body(`{`, `{"nbf":"now",`),
		"nbf negative":          body(`{`, `{"nbf":-5,`),
		"body null":             f.sign(goodHeader, `null`),
		"body a list":           f.sign(goodHeader, `[`+goodBody+`]`),
		"body a text":           f.sign(goodHeader, `"`+b64(goodBody)+`"`),
		"body not JSON":         f.sign(goodHeader, `sub=u`),
		"body twice in one":     f.sign(goodHeader, goodBody+goodBody),
		"body cut short":        f.sign(goodHeader, goodBody[:len(goodBody)-1]),
		"body not UTF-8":        body(`"name":"n"`, "\"name\":\"\xff\""),
		"body empty object":     f.sign(goodHeader, `{}`),
		"another token inside":  f.sign(goodHeader, token),
	}
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// flip turns a bit in the middle of the body.
func flip(token string) string {
	b := []byte(token)
	at := strings.IndexByte(token, '.') + 20
	b[at] = alphabet[strings.IndexByte(alphabet, b[at])^1]
	return string(b)
}

// plusOrder adds the group's order to the second half of a signature: the same equation holds,
// and RFC 8032 section 5.1.7 says that it must be refused.
func plusOrder(t testing.TB, signature string) string {
	t.Helper()
	s, err := base64.RawURLEncoding.DecodeString(signature)
	require.NoError(t, err)
	order := [32]byte{
		0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
		31: 0x10,
	}
	carry := 0
	for i, o := range order {
		sum := int(s[32+i]) + int(o) + carry
		s[32+i], carry = byte(sum), sum>>8
	}
	return string(s)
}

func TestHostileTokens(t *testing.T) {
	t.Parallel()
	f := newForge()
	v := f.verifier(t)
	for name, token := range hostile(t, f) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := v.Verify(t.Context(), token, auth.AudienceAPI)
			require.ErrorIs(t, err, auth.ErrTokenInvalid)
			require.ErrorIs(t, err, fault.Unauthenticated)
			require.Error(t, errors.Unwrap(err), "logs want the reason")
			assert.Equal(t, auth.ErrTokenInvalid.Error(), fault.Public(err).Title, "clients do not get it")
			assert.Empty(t, fault.Public(err).Detail)
			assert.Zero(t, c)
		})
	}
}

func TestVerifyAskedForNoAudience(t *testing.T) {
	t.Parallel()
	f := newForge()
	for _, token := range []string{f.sign(goodHeader, goodBody), f.sign(goodHeader, with(t, goodBody, `"parley"`, `""`))} {
		_, err := f.verifier(t).Verify(t.Context(), token, "")
		require.ErrorIs(t, err, auth.ErrTokenInvalid)
	}
}

func TestLeeway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token, err := r.issuer.Issue(t.Context(), good())
	require.NoError(t, err)
	for _, test := range []struct {
		at time.Time
		ok bool
	}{
		{good().IssuedAt.Add(-6 * time.Second), false},
		{good().IssuedAt.Add(-5 * time.Second), true},
		{good().ExpiresAt.Add(4 * time.Second), true},
		{good().ExpiresAt.Add(5 * time.Second), false},
	} {
		v, err := jwtauth.NewVerifier(jwtauth.VerifierConfig{
			Keys: r.keys.PublicKey, Issuer: us, Leeway: 5 * time.Second, Now: func() time.Time { return test.at },
		})
		require.NoError(t, err)
		_, err = v.Verify(t.Context(), token, auth.AudienceAPI)
		if test.ok {
			assert.NoError(t, err, test.at)
		} else {
			assert.ErrorIs(t, err, auth.ErrTokenInvalid, test.at)
		}
	}
}

func TestKeySourceThatCannotTell(t *testing.T) {
	t.Parallel()
	f := newForge()
	down := errors.New("no route to host")
	for name, source := range map[string]jwtauth.KeySource{
		"fails":       func(context.Context, string) (*jwtauth.PublicKey, error) { return nil, down },
		"ctx is done": func(context.Context, string) (*jwtauth.PublicKey, error) { return nil, context.DeadlineExceeded },
		"no key":      func(context.Context, string) (*jwtauth.PublicKey, error) { return nil, nil },
		"half a key":  func(context.Context, string) (*jwtauth.PublicKey, error) { return new(jwtauth.PublicKey), nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, err := jwtauth.NewVerifier(jwtauth.VerifierConfig{Keys: source, Issuer: us, Now: clock})
			require.NoError(t, err)
			_, err = v.Verify(t.Context(), f.sign(goodHeader, goodBody), auth.AudienceAPI)
			require.ErrorIs(t, err, fault.Unavailable)
			require.NotErrorIs(t, err, auth.ErrTokenInvalid)
		})
	}
}

func TestKeySourceIsNotAskedForNonsense(t *testing.T) {
	t.Parallel()
	f := newForge()
	asked := 0
	v, err := jwtauth.NewVerifier(jwtauth.VerifierConfig{Issuer: us, Now: clock, Keys: func(context.Context, string) (*jwtauth.PublicKey, error) {
		asked++
		return nil, jwtauth.ErrKeyUnknown
	}})
	require.NoError(t, err)
	for _, token := range []string{
		"x", f.sign(with(t, goodHeader, "EdDSA", "none"), goodBody), f.sign(with(t, goodHeader, "at+jwt", "JWT"), goodBody),
		f.sign(with(t, goodHeader, `"kid":"kid"`, `"kid":"`+strings.Repeat("k", jwtauth.MaxKeyID+1)+`"`), goodBody),
	} {
		_, err := v.Verify(t.Context(), token, auth.AudienceAPI)
		require.ErrorIs(t, err, auth.ErrTokenInvalid)
	}
	assert.Zero(t, asked)
	_, err = v.Verify(t.Context(), f.sign(goodHeader, goodBody), auth.AudienceAPI)
	require.ErrorIs(t, err, auth.ErrTokenInvalid)
	assert.Equal(t, 1, asked)
}

func TestConfigIsCheckedAllAtOnce(t *testing.T) {
	t.Parallel()
	_, err := jwtauth.NewIssuer(jwtauth.IssuerConfig{})
	require.ErrorContains(t, err, "Config.Keys is missing")
	require.ErrorContains(t, err, "Config.Issuer is missing")
	_, err = jwtauth.NewVerifier(jwtauth.VerifierConfig{Leeway: -1})
	require.ErrorContains(t, err, "Config.Keys is missing")
	require.ErrorContains(t, err, "Config.Issuer is missing")
	require.ErrorContains(t, err, "Leeway")
}

func FuzzVerify(f *testing.F) {
	forge := newForge()
	v := forge.verifier(f)
	for _, token := range hostile(f, forge) {
		if len(token) <= jwtauth.MaxToken {
			f.Add(token)
		}
	}
	f.Fuzz(func(t *testing.T, token string) {
		_, err := v.Verify(t.Context(), token, auth.AudienceAPI)
		if err == nil || !errors.Is(err, auth.ErrTokenInvalid) {
			t.Fatalf("nobody signed this, and Verify returned %v", err)
		}
	})
}

// FuzzSignedParts signs what it finds, so that the checks behind the signature are reached: what
// is accepted must be what the segments say, word for word.
func FuzzSignedParts(f *testing.F) {
	forge := newForge()
	v := forge.verifier(f)
	f.Add(goodHeader, goodBody)
	f.Add(goodHeader+" ", strings.Replace(goodBody, `"sub":"u"`, `"sub":"u","sub":"v"`, 1))
	f.Fuzz(func(t *testing.T, header, body string) {
		c, err := v.Verify(t.Context(), forge.sign(header, body), auth.AudienceAPI)
		if err != nil {
			if !errors.Is(err, auth.ErrTokenInvalid) {
				t.Fatal(err)
			}
			return
		}
		var h, b map[string]any
		if json.Unmarshal([]byte(header), &h) != nil || json.Unmarshal([]byte(body), &b) != nil {
			t.Fatal("accepted what is not JSON")
		}
		if len(h) != 3 || h["alg"] != "EdDSA" || h["typ"] != "at+jwt" || h["kid"] != "kid" {
			t.Fatalf("accepted the header %s", header)
		}
		if b["sub"] != string(c.UserID) || b["aud"] != "parley" || b["iss"] != us || b["sid"] != c.SessionID || b["jti"] != c.ID {
			t.Fatalf("read %+v from %s", c, body)
		}
		if !c.ExpiresAt.After(now) || c.IssuedAt.After(now) {
			t.Fatalf("accepted the times %v to %v", c.IssuedAt, c.ExpiresAt)
		}
	})
}

func Example() {
	keys, err := jwtauth.NewKeys(jwtauth.KeysConfig{}) // OpenKeys(file) keeps them
	if err != nil {
		fmt.Println(err)
		return
	}
	issuer, err := jwtauth.NewIssuer(jwtauth.IssuerConfig{Keys: keys, Issuer: "https://chat.example"})
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier, err := jwtauth.NewVerifier(jwtauth.VerifierConfig{Keys: keys.PublicKey, Issuer: "https://chat.example"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	token, err := issuer.Issue(ctx, auth.Claims{
		ID: "token-1", Audience: auth.AudienceAPI, UserID: "user-1", Name: "Ada", SessionID: "session-1",
		IssuedAt: time.Now(), ExpiresAt: time.Now().Add(15 * time.Minute),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	claims, err := verifier.Verify(ctx, token, auth.AudienceAPI)
	fmt.Println(claims.UserID, claims.Name, err)
	_, err = verifier.Verify(ctx, token, auth.AudienceTicket)
	fmt.Println(errors.Is(err, auth.ErrTokenInvalid))
	// Output:
	// user-1 Ada <nil>
	// true
}
