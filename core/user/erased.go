package user

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
)

// ErasedName is what an erased user is called.
const ErasedName = "Deleted user"

// erasedDomain is that of the addresses of erased accounts. It cannot be anybody's (RFC 2606 section 2), and [ParseEmail] refuses it.
const erasedDomain = "erased.invalid"

// Erased reports whether the account was erased: ID and CreatedAt are all that is left of it. Nobody can sign in to it, and it is there
// so that its ID is never another's, and so that who was erased can be erased again, as after a backup was put back.
func (u User) Erased() bool { return strings.HasSuffix(string(u.Email), "@"+erasedDomain) }

// Erase returns the account as it is once erased at the given time. Its address is free, and its sessions have ended. What is erased stays as it is.
func (u User) Erase(at time.Time) User {
	if u.Erased() {
		return u
	}
	sum := sha256.Sum256([]byte(u.ID))
	return User{
		ID: u.ID, FullName: ErasedName, Email: Email(hex.EncodeToString(sum[:20]) + "@" + erasedDomain),
		CreatedAt: u.CreatedAt, PasswordChangedAt: at, SessionsFrom: at,
	}
}
