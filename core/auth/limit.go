package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/parley-chat/parley/core/user"
)

// clientFactor is how much more one client may do than one address is meant for: many people
// can sit behind one client address.
const clientFactor = 10

// networksFactor is how much more mail all clients together may ask for to one address than one
// client may: a stranger does not use up the owner's allowance, and many of them cannot fill a mailbox.
const networksFactor = 4

// The names of allowances: one for each action, so that none uses up another's.
const (
	limitSignIn = "signin"
	limitSignUp = "signup"
	limitResend = "resend"
	limitForgot = "forgot"
	limitEmail  = "email"
	limitLink   = "link"
	limitFactor = "factor"
)

// allowMail takes one from what an action may mail to an address: from the client's allowance for
// that address, and from that of all clients together. Otherwise it returns ErrTooMany.
func (s *Service) allowMail(ctx context.Context, action string, from Client, email user.Email) error {
	err := s.allowEmail(ctx, action+":by:"+clientKey(from.Address), string(email), s.cfg.MailRate)
	if err != nil {
		return err
	}
	all := s.cfg.MailRate
	all.Burst *= networksFactor
	return s.allowEmail(ctx, action, string(email), all)
}

// allowNoMail asks the limiter as allowMail does, of an address to which the action mails nothing.
// What it takes belongs to nobody: a mail that becomes due later still has its whole allowance.
func (s *Service) allowNoMail(ctx context.Context, action string, from Client, email user.Email) error {
	return s.allowMail(ctx, action+":nothing", from, email)
}

// allowClient takes one from the client's allowance, or returns ErrTooMany.
func (s *Service) allowClient(ctx context.Context, action string, from Client, r Rate) error {
	return takeNetworks(ctx, s.cfg.Limiter, s.now(), action, from.Address, r.times(clientFactor))
}

// allowEmail takes one from the allowance of an address, or returns ErrTooMany. The address
// need not have an account and need not be valid.
func (s *Service) allowEmail(ctx context.Context, action, email string, r Rate) error {
	return s.allow(ctx, action+":email:"+emailKey(email), r)
}

// emailKey names an address to a limiter: hashed, so that limiters hold no addresses and no
// long keys.
func emailKey(email string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(strings.TrimSpace(email))))
	return hex.EncodeToString(sum[:16])
}

func (s *Service) allow(ctx context.Context, key string, r Rate) error {
	return take(ctx, s.cfg.Limiter, s.now(), key, r)
}
