package auth

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // RFC 6238 section 1.2 has HMAC-SHA-1 as its default, the one that every authenticator app knows; HMAC does not need a hash without collisions
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// What RFC 6238 leaves open, as authenticator apps take it: its defaults.
const (
	totpStep   = 30 * time.Second // section 4.1, X
	totpDigits = 6
	// totpWindow is how many steps before and after the current one are taken too: section 5.2 allows for a clock that is a little wrong, and for the time that typing takes.
	totpWindow = 1
	// totpSecretBytes is the length of the output of HMAC-SHA-1: RFC 4226 section 4, R6.
	totpSecretBytes = 20
)

// totpEncoding is how authenticator apps take a secret: RFC 4648 section 6, without padding.
var totpEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// hotp returns the code of a counter: RFC 4226 section 5.3.
func hotp(secret []byte, counter uint64, digits int) string {
	mac := hmac.New(sha1.New, secret)
	_ = binary.Write(mac, binary.BigEndian, counter) // a hash takes everything
	sum := mac.Sum(nil)
	offset := sum[len(sum)-1] & 0xf
	value := uint64(binary.BigEndian.Uint32(sum[offset:]) & 0x7fffffff)
	modulus := uint64(1)
	for range digits {
		modulus *= 10
	}
	return fmt.Sprintf("%0*d", digits, value%modulus)
}

// stepAt is the time step that a time is in: RFC 6238 section 4.2, with T0 = 0.
func stepAt(at time.Time) int64 { return at.Unix() / int64(totpStep/time.Second) }

// totpMatch returns the time step whose code this is, among those that are taken at the given time and come after last. It compares all of them.
func totpMatch(secret []byte, code string, at time.Time, last int64) (step int64, ok bool) {
	now := stepAt(at)
	for s := now - totpWindow; s <= now+totpWindow; s++ {
		if s < 0 {
			continue // nobody's clock
		}
		if sameHash(hotp(secret, uint64(s), totpDigits), code) && s > last {
			step, ok = s, true
		}
	}
	return step, ok
}

// isTOTP reports whether text has the shape of a code of an authenticator app.
func isTOTP(text string) bool {
	return len(text) == totpDigits && strings.Trim(text, "0123456789") == ""
}

// totpURI is the address that authenticator apps take a secret from, as a QR code or as a link: the key URI format, with every parameter, although they are its defaults.
func totpURI(issuer, account, secret string) string {
	label := url.PathEscape(issuer) + ":" + url.PathEscape(account)
	return fmt.Sprintf("otpauth://totp/%s?secret=%s&issuer=%s&algorithm=SHA1&digits=%d&period=%d",
		label, secret, url.QueryEscape(issuer), totpDigits, int(totpStep/time.Second))
}
