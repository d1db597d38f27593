package tokens_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func enc(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

type object = map[string]any

// signer is a key, and what is known of it. It signs by the RFCs, and shares no code with what is tested.
type signer struct {
	algorithm, kid string
	private        crypto.Signer
}

func newSigner(t testing.TB, algorithm, kid string) *signer {
	t.Helper()
	s := &signer{algorithm: algorithm, kid: kid}
	var err error
	switch algorithm {
	case "EdDSA":
		_, s.private, err = ed25519.GenerateKey(rand.Reader)
	case "ES256":
		s.private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		s.private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	require.NoError(t, err)
	return s
}

func (s *signer) sign(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	var signature []byte
	var err error
	switch key := s.private.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(key, []byte(text))
	case *ecdsa.PrivateKey:
		var r, v *big.Int
		if r, v, err = ecdsa.Sign(rand.Reader, key, sum[:]); err == nil {
			if half := new(big.Int).Rsh(elliptic.P256().Params().N, 1); v.Cmp(half) > 0 { // the one of two that is made here
				v.Sub(elliptic.P256().Params().N, v)
			}
			signature = append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
		}
	case *rsa.PrivateKey:
		if s.algorithm == "RS256" {
			signature, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
		} else {
			signature, err = rsa.SignPSS(rand.Reader, key, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: sha256.Size})
		}
	}
	if err != nil {
		panic(err)
	}
	return signature
}

func (s *signer) jwk() object {
	j := object{"kid": s.kid, "alg": s.algorithm, "use": "sig"}
	switch key := s.private.Public().(type) {
	case ed25519.PublicKey:
		j["kty"], j["crv"], j["x"] = "OKP", "Ed25519", enc(key)
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			panic(err)
		}
		j["kty"], j["crv"], j["x"], j["y"] = "EC", "P-256", enc(point[1:33]), enc(point[33:])
	case *rsa.PublicKey:
		j["kty"], j["n"], j["e"] = "RSA", enc(key.N.Bytes()), "AQAB"
	}
	return j
}

// raw signs two texts.
func (s *signer) raw(header, body string) string {
	text := enc([]byte(header)) + "." + enc([]byte(body))
	return text + "." + enc(s.sign(text))
}

func (s *signer) token(header, claims object) string { return s.raw(written(header), written(claims)) }

func written(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// issuer is an OpenID issuer on a real listener, that does what a test asks for.
type issuer struct {
	*httptest.Server
	mu        sync.Mutex
	keys      []*signer
	discovery func(w http.ResponseWriter, r *http.Request) // nil: as it should be
	jwks      func(w http.ResponseWriter, r *http.Request)
	fetches   atomic.Int64 // of the keys
}

func newIssuer(t testing.TB, keys ...*signer) *issuer {
	t.Helper()
	i := &issuer{keys: keys}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /realm/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		answer := i.discovery
		i.mu.Unlock()
		if answer == nil {
			answer = i.document(object{})
		}
		answer(w, r)
	})
	mux.HandleFunc("GET /realm/keys", func(w http.ResponseWriter, r *http.Request) {
		i.fetches.Add(1)
		i.mu.Lock()
		answer, keys := i.jwks, i.keys
		i.mu.Unlock()
		if answer == nil {
			var set []object
			for _, k := range keys {
				set = append(set, k.jwk())
			}
			_, _ = fmt.Fprint(w, written(object{"keys": set}))
			return
		}
		answer(w, r)
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

// name is what its tokens say (iss).
func (i *issuer) name() string { return i.URL + "/realm" }

// document answers with a discovery document that has some members changed.
func (i *issuer) document(change object) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		doc := object{
			"issuer": i.name(), "jwks_uri": i.URL + "/realm/keys", "authorization_endpoint": i.URL + "/realm/authorize",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
		}
		maps.Copy(doc, change)
		_, _ = fmt.Fprint(w, written(doc))
	}
}

func (i *issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

const audience = "chat.example"

// claims are those of an access token after RFC 9068, with some changed; nil takes one away.
func (i *issuer) claims(sub string, change object) object {
	now := time.Now().Unix()
	c := object{
		"iss": i.name(), "sub": sub, "aud": audience, "jti": "j-" + sub, "sid": "s-" + sub, "name": "Name of " + sub, "client_id": "web", "scope": "openid chat",
		"iat": now - 1, "exp": now + 600,
	}
	for name, value := range change {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

func header(s *signer) object { return object{"alg": s.algorithm, "kid": s.kid, "typ": "at+jwt"} }

func (i *issuer) access(s *signer, sub string, change object) string {
	return s.token(header(s), i.claims(sub, change))
}

// held answers nothing until the request or the test ends.
func held(ctx context.Context) func(http.ResponseWriter, *http.Request) {
	return func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-ctx.Done():
		}
	}
}
