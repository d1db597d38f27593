package jwtauth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Algorithms of signatures.
const (
	EdDSA = "EdDSA" // with Ed25519 keys (RFC 8037 section 3.1)
	ES256 = "ES256" // with keys on P-256 (RFC 7518 section 3.4)
	PS256 = "PS256" // with RSA keys of 2048 to 8192 bits, and a salt as long as the hash (RFC 7518 section 3.5)
	RS256 = "RS256" // with RSA keys of the same sizes (RFC 7518 section 3.3): of other issuers only
)

// Algorithms returns those with which [Keys] sign, the default first.
func Algorithms() []string { return []string{EdDSA, ES256, PS256} }

const (
	minRSA = 2048 // bits
	maxRSA = 8192
	newRSA = 3072 // of keys that are made: the strength of the other two
)

// methods are the vendor's. That of PS256 takes no salt of another length, as its own would.
var methods = map[string]jwt.SigningMethod{
	EdDSA: jwt.SigningMethodEdDSA,
	ES256: jwt.SigningMethodES256,
	RS256: jwt.SigningMethodRS256,
	PS256: &jwt.SigningMethodRSAPSS{
		SigningMethodRSA: &jwt.SigningMethodRSA{Name: PS256, Hash: crypto.SHA256},
		Options:          &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash},
	},
}

// PublicKey verifies signatures of one algorithm, and of no other. It is never changed.
type PublicKey struct {
	algorithm string
	key       crypto.PublicKey
	print     [sha256.Size]byte // of the algorithm and the key
}

// NewPublicKey returns a key for one of the algorithms above. Its errors say what does not fit: the kind of key, its curve or its size.
func NewPublicKey(algorithm string, key crypto.PublicKey) (*PublicKey, error) {
	if err := fits(algorithm, key); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	return &PublicKey{algorithm, key, sha256.Sum256(append([]byte(algorithm+"\x00"), der...))}, nil
}

// Algorithm is the one that it verifies.
func (k *PublicKey) Algorithm() string { return k.algorithm }

func fits(algorithm string, key crypto.PublicKey) error {
	switch key := key.(type) {
	case ed25519.PublicKey:
		if algorithm == EdDSA && len(key) == ed25519.PublicKeySize {
			return nil
		}
		if algorithm == EdDSA {
			return fmt.Errorf("an Ed25519 key has %d bytes, want %d", len(key), ed25519.PublicKeySize)
		}
	case *ecdsa.PublicKey:
		if algorithm == ES256 && key.Curve == elliptic.P256() {
			return nil
		}
		if algorithm == ES256 {
			return errors.New("the curve is not P-256, which ES256 needs")
		}
	case *rsa.PublicKey:
		switch bits := key.N.BitLen(); {
		case algorithm != PS256 && algorithm != RS256:
		case bits < minRSA || bits > maxRSA:
			return fmt.Errorf("an RSA key has %d bits, want %d to %d", bits, minRSA, maxRSA)
		case key.E < 65537 || key.E%2 == 0:
			return fmt.Errorf("the exponent of an RSA key is %d, want an odd one of at least 65537", key.E)
		default:
			return nil
		}
	}
	return fmt.Errorf("the key is not one for %s", quoted(algorithm))
}

// quoted keeps what somebody wrote into a file short.
func quoted(s string) string {
	if len(s) > 20 {
		s = s[:20] + "…"
	}
	return fmt.Sprintf("%q", s)
}

// newPrivateKey makes a key.
func newPrivateKey(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case EdDSA:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case PS256:
		return rsa.GenerateKey(rand.Reader, newRSA)
	}
	return nil, fmt.Errorf("the algorithm %s is none of %s", quoted(algorithm), strings.Join(Algorithms(), ", "))
}

// sign returns the signature of a text.
func sign(algorithm string, key crypto.Signer, text string) ([]byte, error) {
	signature, err := methods[algorithm].Sign(text, key)
	if err != nil || algorithm != ES256 {
		return signature, err
	}
	// Of the two signatures that are right, the one with the lesser s: so that nobody can make another token of a token.
	if s := new(big.Int).SetBytes(signature[32:]); s.Cmp(halfOrder) > 0 {
		s.Sub(elliptic.P256().Params().N, s).FillBytes(signature[32:])
	}
	return signature, nil
}

// halfOrder is half of the order of P-256.
var halfOrder = new(big.Int).Rsh(elliptic.P256().Params().N, 1)

// verify checks a signature. Only where canonical, it must be the very one that sign makes of the two of ES256; other issuers make either.
func (k *PublicKey) verify(text string, signature []byte, canonical bool) error {
	if canonical && k.algorithm == ES256 && len(signature) == 64 && new(big.Int).SetBytes(signature[32:]).Cmp(halfOrder) > 0 {
		return errors.New("the signature is the other one of two")
	}
	return methods[k.algorithm].Verify(text, signature, k.key)
}

// jwk is a key of RFC 7517, RFC 7518 section 6 and RFC 8037 section 2. The secrets (D, P and Q) and the times stand in the file only.
type jwk struct {
	KeyType   string   `json:"kty"`
	Curve     string   `json:"crv,omitempty"`
	X         string   `json:"x,omitempty"`
	Y         string   `json:"y,omitempty"`
	N         string   `json:"n,omitempty"`
	E         string   `json:"e,omitempty"`
	D         string   `json:"d,omitempty"`
	P         string   `json:"p,omitempty"`
	Q         string   `json:"q,omitempty"`
	ID        string   `json:"kid"`
	Use       string   `json:"use,omitempty"`
	Algorithm string   `json:"alg,omitempty"`
	Uses      []string `json:"key_ops,omitempty"`
	// SignsAt is when the key begins to sign, RetiresAt when it ceases to verify.
	SignsAt   *time.Time `json:"signsAt,omitempty"`
	RetiresAt *time.Time `json:"retiresAt,omitempty"`
}

var b64 = base64.RawURLEncoding.Strict()

func newJWK(id string, key *PublicKey) jwk {
	j := jwk{ID: id, Use: "sig", Algorithm: key.algorithm}
	switch k := key.key.(type) {
	case ed25519.PublicKey:
		j.KeyType, j.Curve, j.X = "OKP", "Ed25519", b64.EncodeToString(k)
	case *ecdsa.PublicKey:
		point, _ := k.Bytes() // it is on the curve
		j.KeyType, j.Curve, j.X, j.Y = "EC", "P-256", b64.EncodeToString(point[1:33]), b64.EncodeToString(point[33:])
	case *rsa.PublicKey:
		e := binary.BigEndian.AppendUint64(nil, uint64(k.E)) //nolint:gosec // it is positive
		j.KeyType, j.N, j.E = "RSA", b64.EncodeToString(k.N.Bytes()), b64.EncodeToString(bytes.TrimLeft(e, "\x00"))
	}
	return j
}

// thumbprint names a key by what it is (RFC 7638 section 3, RFC 8037 appendix A.3).
func thumbprint(key *PublicKey) string {
	j := newJWK("", key)
	text := ""
	switch j.KeyType {
	case "OKP":
		text = `{"crv":"` + j.Curve + `","kty":"OKP","x":"` + j.X + `"}`
	case "EC":
		text = `{"crv":"` + j.Curve + `","kty":"EC","x":"` + j.X + `","y":"` + j.Y + `"}`
	case "RSA":
		text = `{"e":"` + j.E + `","kty":"RSA","n":"` + j.N + `"}`
	}
	sum := sha256.Sum256([]byte(text))
	return b64.EncodeToString(sum[:])
}

// public reads the public part. A key that does not say its algorithm is of the one that stands for its kind: for RSA that is rsaDefault.
func (j jwk) public(rsaDefault string) (*PublicKey, error) {
	if j.Use != "" && j.Use != "sig" || len(j.Uses) > 0 && !slices.Contains(j.Uses, "verify") && !slices.Contains(j.Uses, "sign") {
		return nil, errors.New("the key is not one for signatures")
	}
	algorithm := j.Algorithm
	if algorithm == "" {
		algorithm = map[string]string{"OKP": EdDSA, "EC": ES256, "RSA": rsaDefault}[j.KeyType]
	}
	switch j.KeyType {
	case "OKP":
		x, err := b64.DecodeString(j.X)
		if j.Curve != "Ed25519" || err != nil {
			return nil, fmt.Errorf("the curve %s is not Ed25519, or its point cannot be read", quoted(j.Curve))
		}
		return NewPublicKey(algorithm, ed25519.PublicKey(x))
	case "EC":
		if j.Curve != "P-256" {
			return nil, fmt.Errorf("the curve %s is not P-256", quoted(j.Curve))
		}
		x, xerr := b64.DecodeString(j.X)
		y, yerr := b64.DecodeString(j.Y)
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
		if xerr != nil || yerr != nil || err != nil {
			return nil, errors.New("there is no point of P-256 in it")
		}
		return NewPublicKey(algorithm, key)
	case "RSA":
		n, nerr := b64.DecodeString(j.N)
		e, eerr := b64.DecodeString(j.E)
		if nerr != nil || eerr != nil || len(e) > 4 || len(n) > maxRSA/8 {
			return nil, errors.New("there is no RSA key in it")
		}
		return NewPublicKey(algorithm, &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())})
	}
	return nil, fmt.Errorf("the kind of key %s is none of OKP, EC, RSA", quoted(j.KeyType))
}

// withPrivate adds the secrets.
func (j jwk) withPrivate(key crypto.Signer) (jwk, error) {
	switch k := key.(type) {
	case ed25519.PrivateKey:
		j.D = b64.EncodeToString(k.Seed())
	case *ecdsa.PrivateKey:
		d, err := k.Bytes()
		if err != nil {
			return jwk{}, err
		}
		j.D = b64.EncodeToString(d)
	case *rsa.PrivateKey:
		j.D, j.P, j.Q = b64.EncodeToString(k.D.Bytes()), b64.EncodeToString(k.Primes[0].Bytes()), b64.EncodeToString(k.Primes[1].Bytes())
	}
	return j, nil
}

// private reads the secrets of public. Its errors do not quote them.
func (j jwk) private(public *PublicKey) (crypto.Signer, error) {
	d, err := b64.DecodeString(j.D)
	missing := errors.New("has no private part that can be read")
	if err != nil || len(d) == 0 {
		return nil, missing
	}
	var key interface {
		crypto.Signer
		Public() crypto.PublicKey
	}
	switch public := public.key.(type) {
	case ed25519.PublicKey:
		if len(d) != ed25519.SeedSize {
			return nil, missing
		}
		key = ed25519.NewKeyFromSeed(d)
	case *ecdsa.PublicKey:
		k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
		if err != nil {
			return nil, missing
		}
		key = k
	case *rsa.PublicKey:
		p, perr := b64.DecodeString(j.P)
		q, qerr := b64.DecodeString(j.Q)
		if perr != nil || qerr != nil {
			return nil, missing
		}
		k := &rsa.PrivateKey{PublicKey: *public, D: new(big.Int).SetBytes(d), Primes: []*big.Int{new(big.Int).SetBytes(p), new(big.Int).SetBytes(q)}}
		if k.Validate() != nil {
			return nil, errors.New("has a private part that does not match the public one")
		}
		k.Precompute()
		key = k
	}
	if own, is := public.key.(interface{ Equal(x crypto.PublicKey) bool }); !is || !own.Equal(key.Public()) {
		return nil, errors.New("has a private part that does not match the public one")
	}
	return key, nil
}
