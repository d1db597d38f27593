package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strings"
)

// refreshToken is what a client exchanges for a new pair: the session it belongs to, a secret
// that stays the same for the life of the session, and one that changes at each use. The
// first tells a token that was used before from one that somebody made up, without keeping
// every used token.
type refreshToken struct{ session, family, secret string }

// maxSessionID bounds the part of a refresh token that is looked up.
const maxSessionID = 128

func (t refreshToken) String() string { return t.session + "." + t.family + "." + t.secret }

// parseRefreshToken returns false if text cannot be a refresh token.
func parseRefreshToken(text string) (refreshToken, bool) {
	rest, secret, ok := cutLast(text)
	if !ok || !isSecret(secret) {
		return refreshToken{}, false
	}
	session, family, ok := cutLast(rest)
	if !ok || !isSecret(family) || session == "" || len(session) > maxSessionID {
		return refreshToken{}, false
	}
	for i := range len(session) {
		if session[i] <= ' ' || session[i] > '~' {
			return refreshToken{}, false
		}
	}
	return refreshToken{session, family, secret}, true
}

// cutLast cuts at the last dot: identifiers that a Config.NewID makes may have dots.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// tokenHash is what a session keeps of a secret. The secrets are random and long, so a plain
// hash cannot be searched.
func tokenHash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// sameHash compares in time that does not depend on where the hashes differ.
func sameHash(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
