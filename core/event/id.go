package event

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"time"
)

// crockford is Crockford's base 32: its digits ascend in ASCII, and none is mistaken for another.
var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// NewID returns a new identifier: 128 bits in 26 characters of Crockford's base 32, the
// milliseconds since 1970 in the first 48 bits and random bits in the rest. Identifiers made
// in different milliseconds sort by time; those of one millisecond are in no order. It is
// unique, not secret: a token needs more. It may be called from many goroutines.
func NewID() string { return newID(time.Now()) }

func newID(now time.Time) string {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], uint64(now.UnixMilli())<<16)
	rand.Read(raw[6:]) // never fails: see crypto/rand
	return crockford.EncodeToString(raw[:])
}
