package testkit

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the hash of RFC 6238 that authenticator apps know
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"time"
)

// TOTPCode returns the six digits that an authenticator app shows at a time (RFC 6238), for a secret in base32 without padding, as the server gives it. It panics if the secret is none.
func TOTPCode(secret string, at time.Time) string {
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		panic(fmt.Sprintf("testkit: TOTPCode: the secret is no base32: %v", err))
	}
	mac := hmac.New(sha1.New, key)
	_ = binary.Write(mac, binary.BigEndian, at.Unix()/30) // a hash takes everything
	sum := mac.Sum(nil)
	offset := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[offset:])&0x7fffffff%1_000_000)
}
