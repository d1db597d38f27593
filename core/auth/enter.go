package auth

import (
	"context"

	"github.com/parley-chat/parley/core/user"
)

// Method is a way in: how somebody has proven who they are.
type Method string

// The ways in.
const (
	MethodPassword Method = "password" // the password of the account
	MethodOpenID   Method = "openid"   // an OpenID provider said so
	MethodLink     Method = "link"     // a link that was mailed to the address
	MethodPasskey  Method = "passkey"  // a passkey, with user verification
)

// entry is somebody who has proven by a method who they are.
type entry struct {
	by   Method
	from Client
	// device is the session that the client's device has opened before; nil if it is not known.
	device *Session
	user   user.User
	// proven says that the second factor of the user was proven as well.
	proven bool
}

// enter is the one way in: every method ends here, and no other function opens a session. Whoever calls it has the proof, and has taken an
// allowance for it. A user who is disabled or erased is ErrInvalidCredentials, one whose address is not proven is ErrNotVerified, and one with a second factor that was
// not proven yet is a [FactorRequired]. A passkey, which its device gives away to whoever has unlocked it alone, is two factors already.
func (s *Service) enter(ctx context.Context, e entry) (Grant, error) {
	switch {
	case e.user.Disabled(), e.user.Erased():
		return Grant{}, ErrInvalidCredentials
	case !e.user.Verified():
		return Grant{}, ErrNotVerified
	}
	e.proven = e.proven || e.by == MethodPasskey
	if !e.proven {
		f, err := s.factorOf(ctx, e.user.ID)
		if err != nil {
			return Grant{}, err
		}
		if f.Confirmed() {
			return Grant{}, s.ask(ctx, e)
		}
	}
	return s.openSession(ctx, e)
}
