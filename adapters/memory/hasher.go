package memory

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/parley-chat/parley/core/auth"
)

// Hasher is an auth.Hasher for tests: one round of salted SHA-256. It takes microseconds, so
// whoever steals its hashes finds the passwords. Not for production.
type Hasher struct{}

var _ auth.Hasher = Hasher{}

// NewHasher returns a hasher.
func NewHasher() Hasher { return Hasher{} }

// scheme starts every hash: scheme, salt and sum in hexadecimal, with "$" between.
const scheme = "sha256-for-tests"

var errHash = errors.New("memory: the password hash cannot be read")

// Hash returns the hash of password with a fresh salt.
func (Hasher) Hash(ctx context.Context, password string) (string, error) {
	if err := alive(ctx); err != nil {
		return "", err
	}
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails, as its documentation says
	return scheme + "$" + hex.EncodeToString(salt) + "$" + hex.EncodeToString(sum(salt, password)), nil
}

// Verify compares password with what was hashed. It never asks for an upgrade.
func (Hasher) Verify(ctx context.Context, hash, password string) (ok, upgrade bool, err error) {
	if err := alive(ctx); err != nil {
		return false, false, err
	}
	parts := strings.Split(hash, "$")
	if len(parts) != 3 || parts[0] != scheme {
		return false, false, errHash
	}
	salt, err := hex.DecodeString(parts[1])
	if err != nil {
		return false, false, errHash
	}
	want, err := hex.DecodeString(parts[2])
	if err != nil || len(want) != sha256.Size {
		return false, false, errHash
	}
	return subtle.ConstantTimeCompare(want, sum(salt, password)) == 1, false, nil
}

func sum(salt []byte, password string) []byte {
	s := sha256.Sum256(append(salt[:len(salt):len(salt)], password...))
	return s[:]
}
