package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
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
	if !ok || !isSecret(family) || !isSessionID(session) {
		return refreshToken{}, false
	}
	return refreshToken{session, family, secret}, true
}

// successor is the secret that follows one under a key of the session's store. The key alone, which
// somebody may read there, does not make it, and neither does a token that somebody has stolen.
func (t refreshToken) successor(key string) refreshToken {
	mac := hmac.New(sha256.New, []byte(key))
	_, _ = mac.Write([]byte(t.secret)) // never fails
	t.secret = base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	return t
}

// deviceToken is what a device keeps for its next sign-in: the session that it opened, and a
// secret.
type deviceToken struct{ session, secret string }

func (t deviceToken) String() string { return t.session + "." + t.secret }

// hash is what a session keeps of it. It holds the address too, so that it is good for one account
// and can be compared before anybody has looked whether there is one.
func (t deviceToken) hash(email string) string { return tokenHash(t.secret + ":" + emailKey(email)) }

// parseDeviceToken returns false if text cannot be a device token.
func parseDeviceToken(text string) (deviceToken, bool) {
	session, secret, ok := cutLast(text)
	return deviceToken{session, secret}, ok && isSecret(secret) && isSessionID(session)
}

// isSessionID reports whether s may be looked up as a session.
func isSessionID(s string) bool {
	if s == "" || len(s) > maxSessionID {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
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
