package auth

import (
	"context"
	"errors"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/core/webhook"
)

// ErrLinksOff says that nobody signs in by a mailed link here: see Config.Links.
var ErrLinksOff = fault.New(fault.NotFound, "links_off", "nobody signs in by a mailed link here")

// Links reports whether users may sign in by a mailed link.
func (s *Service) Links() bool { return s.cfg.Links }

// RequestLink mails a code by which whoever reads the mail signs in, if the address has an account. The answer does not tell: too many
// mails to one address are dropped in silence. Too many for one client are ErrTooMany. Nothing is mailed to an account that still waits for
// the confirmation of its sign-up, whose password somebody else may have chosen, and to one that is disabled.
func (s *Service) RequestLink(ctx context.Context, from Client, email string) error {
	if !s.cfg.Links {
		return ErrLinksOff
	}
	asked := s.now()
	return s.mailOnRequest(ctx, from, email, limitLink, s.cfg.LinkTTL, func(_ context.Context, _ user.Email, u *user.User) ([]letter, error) {
		if u == nil || u.Disabled() || waits(*u) {
			return nil, nil
		}
		return []letter{func() (Code, event.Event, error) {
			data, c, err := s.newLink(*u, asked)
			if err != nil {
				return Code{}, event.Event{}, err
			}
			e, err := s.mailEvent(mail.TypeLinkRequested, u.ID, data)
			return c, e, err
		}}, nil
	})
}

// newLink makes a code to sign in by, and the data of the mail with it. asked is before u was read: a code for an address that is changed meanwhile is older
// than the change, and no good.
func (s *Service) newLink(u user.User, asked time.Time) (mail.LinkRequested, Code, error) {
	text, c, err := s.newCode(purposeLink, string(u.ID), u.PasswordChangedAt, s.now().Add(s.cfg.LinkTTL))
	c.CreatedAt = notBefore(asked, u.PasswordChangedAt)
	return mail.LinkRequested{
		UserID: string(u.ID), FullName: u.FullName, Email: string(u.Email), LinkCode: text, ExpiresAt: c.ExpiresAt, Locale: locale(u),
	}, c, err
}

// SignInByLink opens a session by a code that [Service.RequestLink] has mailed. The code proves the address, as the one of a sign-up does.
//
// A code of another purpose is ErrCodeUnknown. One that was used or is expired, or that was mailed before the password or the address
// changed or the user's sessions were all ended, is ErrCodeGone; of any number of concurrent uses, at most one succeeds. A use that was cut short is
// not repeated: another link is asked for. Whoever serves strangers calls [Service.AllowCode] before.
func (s *Service) SignInByLink(ctx context.Context, from Client, code string) (Grant, error) {
	if !s.cfg.Links {
		return Grant{}, ErrLinksOff
	}
	g, err := s.signInByLink(ctx, from, code)
	s.cfg.SignedIn(err)
	return g, err
}

func (s *Service) signInByLink(ctx context.Context, from Client, code string) (Grant, error) {
	c, err := s.useCode(ctx, purposeLink, code, s.now())
	if err != nil {
		return Grant{}, err
	}
	u, err := s.cfg.Users.ByID(ctx, c.UserID)
	switch {
	case errors.Is(err, user.ErrNotFound):
		return Grant{}, ErrCodeUnknown
	case err != nil:
		return Grant{}, failed("reading the user", err)
	case !c.UsedAt.IsZero(), u.Erased(), u.Disabled(), waits(u), u.PasswordChangedAt.After(c.CreatedAt), u.SessionsFrom.After(c.CreatedAt) && u.KeptSession == "":
		return Grant{}, ErrCodeGone
	}
	if !u.Verified() {
		if u, err = s.proveByLink(ctx, u, c); err != nil {
			return Grant{}, err
		}
	}
	device, err := s.knownDevice(ctx, from, string(u.Email))
	if err != nil {
		return Grant{}, err
	}
	return s.enter(ctx, entry{by: MethodLink, from: from, device: device, user: u})
}

// proveByLink marks the address of a user as proven, who was made by an administrator.
func (s *Service) proveByLink(ctx context.Context, u user.User, c Code) (user.User, error) {
	told, err := s.told(webhook.UserVerified, u)
	if err != nil {
		return user.User{}, err
	}
	now := s.now()
	u, err = s.cfg.Users.Update(ctx, u.ID, func(x *user.User) error {
		if x.Erased() || x.Disabled() || waits(*x) || x.PasswordChangedAt.After(c.CreatedAt) {
			return ErrCodeGone
		}
		if !x.Verified() {
			x.VerifiedAt = notBefore(now, x.CreatedAt)
		}
		return nil
	}, told...)
	switch {
	case errors.Is(err, ErrCodeGone):
		return user.User{}, ErrCodeGone
	case errors.Is(err, user.ErrNotFound):
		return user.User{}, ErrCodeUnknown
	case err != nil:
		return user.User{}, failed("storing the confirmation", err)
	}
	s.committed(told)
	s.cfg.Log.Info("a user verified the address", "user", u)
	return u, nil
}
