package asvs_test

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/testkit/system"
)

// tokens is what access tokens are: chapter 9.
var tokens = []requirement{
	{
		id: "9.1.1", asks: "a token counts by its signature",
		does:  "What was changed, cut or signed with another key is refused, in REST and before a socket's upgrade.",
		check: signed,
	},
	{
		id: "9.1.2", asks: "only named algorithms count, and never \"none\"",
		does:  "EdDSA, ES256 or PS256: the one that the key is for, whatever the token says.",
		check: algorithms,
	},
	{
		id: "9.1.3", asks: "keys come from a source that is configured",
		does:  "The kid names one of the server's own keys; jwk, jku, x5u and x5c in a token are refused.",
		check: foreignKeys,
	},
	{
		id: "9.2.1", asks: "a token counts between its times",
		does:  "exp is required; iat and nbf in the future are refused, without leeway.",
		check: tokenTimes,
	},
	{
		id: "9.2.2", asks: "a token counts for its purpose",
		does:  "The type at+jwt is required; refresh tokens, tickets and codes are of other forms, and none stands for another.",
		check: purposes,
	},
	{
		id: "9.2.3", asks: "a token counts for its audience",
		does:  "aud is one text, and the expected one; iss as well.",
		check: audiences,
	},
}

// refused requires that nobody takes a token.
func (w *world) refused(token, about string) {
	w.t.Helper()
	for _, path := range []string{"/auth/me", "/rooms/mine"} {
		w.wants(w.ask(http.MethodGet, path, token, nil), http.StatusUnauthorized, "", about+" at "+path)
	}
	w.wants(w.shake("", "Authorization", "Bearer "+token), http.StatusUnauthorized, "", about+" at the socket")
}

func same(map[string]any, map[string]any) {}

func (w *world) accepted(token, about string) {
	w.t.Helper()
	w.wants(w.ask(http.MethodGet, "/auth/me", token, nil), http.StatusOK, "", about)
	w.wants(w.shake("", "Authorization", "Bearer "+token), http.StatusSwitchingProtocols, "", about)
}

// resigned is a token whose signature is made otherwise.
func (w *world) resigned(u system.User, change func(header, claims map[string]any), sign func(text []byte) []byte) string {
	w.t.Helper()
	token := w.token(u, change)
	text := token[:strings.LastIndexByte(token, '.')]
	return text + "." + base64.RawURLEncoding.EncodeToString(sign([]byte(text)))
}

func signed(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada, eve := w.user("Ada"), w.user("Eve")
	w.accepted(w.token(ada, same), "as the system makes it")
	_, foreign, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	good := ada.AccessToken
	cut := strings.LastIndexByte(good, '.')
	w.refused(w.resigned(ada, same, func(text []byte) []byte { return ed25519.Sign(foreign, text) }), "another key under our kid")
	w.refused(good[:cut]+eve.AccessToken[strings.LastIndexByte(eve.AccessToken, '.'):], "the signature of another token")
	w.refused(good[:cut+1], "no signature")
	w.refused(good[:cut], "no third part")
	w.refused(good+"A", "a longer signature")
	w.refused(w.resigned(ada, func(_, claims map[string]any) { claims["sub"] = eve.ID }, func([]byte) []byte {
		signature, _ := base64.RawURLEncoding.DecodeString(good[cut+1:])
		return signature
	}), "other claims under a good signature")
}

func algorithms(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada := w.user("Ada")
	public := []byte(w.key.Public().(ed25519.PublicKey))
	jwks := w.ask(http.MethodGet, "/.well-known/jwks.json", "", nil).Body
	for _, name := range []string{"none", "None", "NONE", "nOnE", ""} {
		w.refused(w.resigned(ada, func(h, _ map[string]any) { h["alg"] = name }, func([]byte) []byte { return nil }), "alg "+name)
		w.refused(w.token(ada, func(h, _ map[string]any) { h["alg"] = name }), "alg "+name+" with a good signature")
	}
	for _, secret := range [][]byte{public, jwks, {}} {
		w.refused(w.resigned(ada, func(h, _ map[string]any) { h["alg"] = "HS256" }, func(text []byte) []byte {
			mac := hmac.New(sha256.New, secret)
			mac.Write(text)
			return mac.Sum(nil)
		}), "HS256 with what is public")
		w.refused(w.resigned(ada, func(h, _ map[string]any) { h["alg"] = "HS512" }, func(text []byte) []byte {
			mac := hmac.New(sha512.New, secret)
			mac.Write(text)
			return mac.Sum(nil)
		}), "HS512 with what is public")
	}
	for _, name := range []string{"RS256", "ES256", "PS256", "eddsa", "Ed448"} {
		w.refused(w.token(ada, func(h, _ map[string]any) { h["alg"] = name }), "alg "+name)
	}
	w.refused(w.token(ada, func(h, _ map[string]any) { delete(h, "alg") }), "no alg")
}

func foreignKeys(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada := w.user("Ada")
	public, foreign, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	key := map[string]any{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(public)}
	for about, change := range map[string]func(h, _ map[string]any){
		"jwk":                   func(h, _ map[string]any) { h["jwk"] = key },
		"jwk without kid":       func(h, _ map[string]any) { h["jwk"] = key; delete(h, "kid") },
		"jku":                   func(h, _ map[string]any) { h["jku"] = "https://evil.example/jwks.json" },
		"x5u":                   func(h, _ map[string]any) { h["x5u"] = "https://evil.example/cert.pem" },
		"x5c":                   func(h, _ map[string]any) { h["x5c"] = []string{"AA=="} },
		"a kid that is a path":  func(h, _ map[string]any) { h["kid"] = "../../../../dev/null" },
		"a kid that is a query": func(h, _ map[string]any) { h["kid"] = "' OR 1=1 --" },
		"an unknown kid":        func(h, _ map[string]any) { h["kid"] = w.kid + "x" },
		"no kid":                func(h, _ map[string]any) { delete(h, "kid") },
		"crit":                  func(h, _ map[string]any) { h["crit"] = []string{"x"}; h["x"] = 1 },
	} {
		w.refused(w.resigned(ada, change, func(text []byte) []byte { return ed25519.Sign(foreign, text) }), about)
		w.refused(w.token(ada, change), about+" with a good signature")
	}
}

func tokenTimes(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada := w.user("Ada")
	now := w.Now().Unix()
	for about, change := range map[string]func(_, c map[string]any){
		"expired":              func(_, c map[string]any) { c["exp"] = now - 1 },
		"no exp":               func(_, c map[string]any) { delete(c, "exp") },
		"exp of text":          func(_, c map[string]any) { c["exp"] = "9999999999" },
		"exp beyond all years": func(_, c map[string]any) { c["exp"] = 1e18 },
		"issued in the future": func(_, c map[string]any) { c["iat"] = now + 3600 },
		"not yet":              func(_, c map[string]any) { c["nbf"] = now + 3600 },
	} {
		w.refused(w.token(ada, change), about)
	}
	w.accepted(ada.AccessToken, "within its time")
	w.Advance(15*time.Minute + time.Second)
	w.refused(ada.AccessToken, "after its time")
}

func purposes(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada := w.user("Ada")
	for _, name := range []string{"JWT", "jwt", "rt+jwt", "AT+JWT ", "", "application/jwt"} {
		w.refused(w.token(ada, func(h, _ map[string]any) { h["typ"] = name }), "typ "+name)
	}
	w.refused(w.token(ada, func(h, _ map[string]any) { delete(h, "typ") }), "no typ")
	w.refused(ada.RefreshToken, "a refresh token")
	w.refused(w.ticket(ada), "a ticket")
	u := w.unverified("Bob")
	w.refused(w.Code(t, u.Email, 1), "a mailed code")
	for about, token := range map[string]string{"an access token": ada.AccessToken, "a ticket": w.ticket(ada)} {
		a, _ := w.refresh(token)
		require.Equal(t, http.StatusUnauthorized, a.Status, "%s as a refresh token: %s", about, a.Body)
		a = w.ask(http.MethodPost, "/auth/verify", "", fields{"code": token})
		require.Contains(t, []int{http.StatusBadRequest, http.StatusUnprocessableEntity}, a.Status, "%s as a code: %s", about, a.Body)
	}
	w.wants(w.ask(http.MethodGet, "/mail/stats", ada.AccessToken, nil), http.StatusUnauthorized, "", "a user's token for operators")
}

func audiences(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada := w.user("Ada")
	for about, change := range map[string]func(_, c map[string]any){
		"another audience": func(_, c map[string]any) { c["aud"] = "another" },
		"several":          func(_, c map[string]any) { c["aud"] = []any{c["aud"], "another"} },
		"none":             func(_, c map[string]any) { delete(c, "aud") },
		"empty":            func(_, c map[string]any) { c["aud"] = "" },
		"another issuer":   func(_, c map[string]any) { c["iss"] = "another" },
		"no issuer":        func(_, c map[string]any) { delete(c, "iss") },
	} {
		w.refused(w.token(ada, change), about)
	}
}
