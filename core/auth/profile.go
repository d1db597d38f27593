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

// ErrEmailSame says that the user has that address already.
var ErrEmailSame = fault.New(fault.Invalid, "email_same", "this is the e-mail address of the account already")

// ProfileChange is what users change of themselves. What is nil stays; an empty Language or AvatarURL takes it away.
type ProfileChange struct{ FullName, Language, AvatarURL *string }

// ChangeProfile changes what the user says of themselves, and returns the user. A name is in the access tokens that are made from then on: a socket that is open keeps
// the one that it was opened with.
func (s *Service) ChangeProfile(ctx context.Context, who user.Identity, c ProfileChange) (user.User, error) {
	for _, f := range []struct {
		text  **string
		parse func(string) (string, error)
	}{
		{&c.FullName, func(name string) (string, error) { return user.ParseFullName(s.cfg.Normalize(name)) }},
		{&c.Language, user.ParseLanguage}, {&c.AvatarURL, user.ParseAvatarURL},
	} {
		if *f.text == nil {
			continue
		}
		parsed, err := f.parse(**f.text)
		if err != nil {
			return user.User{}, err
		}
		*f.text = &parsed
	}
	if c == (ProfileChange{}) {
		return s.Me(ctx, who)
	}
	u, err := s.cfg.Users.Update(ctx, who.UserID, func(x *user.User) error {
		if x.Erased() {
			return user.ErrNotFound
		}
		if c.FullName != nil {
			x.FullName = *c.FullName
		}
		if c.Language != nil {
			x.Language = *c.Language
		}
		if c.AvatarURL != nil {
			x.AvatarURL = *c.AvatarURL
		}
		return nil
	})
	switch {
	case errors.Is(err, user.ErrNotFound):
		return user.User{}, user.ErrNotFound
	case err != nil:
		return user.User{}, failed("storing the user", err)
	}
	return u, nil
}

// Reauthenticate returns the user if the password is theirs, and ErrInvalidCredentials otherwise: for what cannot be undone. A session may try as often as
// a device may sign in; more is ErrTooMany. The session of a user with a second factor must be fresh as well, or it is ErrReauthenticate: see [Service.ProveAgain].
func (s *Service) Reauthenticate(ctx context.Context, who user.Identity, password string) (user.User, error) {
	u, err := s.Me(ctx, who)
	if err != nil {
		return user.User{}, err
	}
	return u, s.reauthenticate(ctx, who, u, password)
}

func (s *Service) reauthenticate(ctx context.Context, who user.Identity, u user.User, password string) error {
	f, err := s.factorOf(ctx, u.ID)
	if err != nil {
		return err
	}
	if f.Confirmed() {
		if err := s.fresh(ctx, who); err != nil {
			return err
		}
	}
	return s.verifyOwn(ctx, who, u, password)
}

// verifyOwn returns ErrInvalidCredentials unless the password is the user's.
func (s *Service) verifyOwn(ctx context.Context, who user.Identity, u user.User, password string) error {
	if err := s.allow(ctx, limitSignIn+":session:"+string(who.UserID)+":"+who.SessionID, s.cfg.SignInRate); err != nil {
		return err
	}
	ok, _, err := s.verifyPassword(ctx, u.PasswordHash, password)
	switch {
	case err != nil:
		return err
	case !ok:
		return ErrInvalidCredentials
	}
	return nil
}

// RequestEmail mails a code to the address that the user wants to have: see [Service.ConfirmEmail]. Until then nothing changes. The answer does not tell whether the address
// is taken; then nobody gets a mail, at the same cost. Too many mails to one address are dropped in silence. A later request takes the place of an earlier
// one. It returns ErrInvalidCredentials, ErrReauthenticate and ErrTooMany as [Service.Reauthenticate] does; ErrTooMany also for too many requests of one client; and ErrEmailSame.
func (s *Service) RequestEmail(ctx context.Context, from Client, who user.Identity, address, password string) error {
	email, err := user.ParseEmail(address)
	if err != nil {
		return err
	}
	u, err := s.Reauthenticate(ctx, who, password)
	switch {
	case err != nil:
		return err
	case email == u.Email:
		return ErrEmailSame
	}
	if err := s.allowClient(ctx, limitEmail, from, s.cfg.MailRate); err != nil {
		return err
	}
	_, err = s.cfg.Users.ByEmail(ctx, email)
	taken := err == nil
	if err != nil && !errors.Is(err, user.ErrNotFound) {
		return failed("looking for the address", err)
	}
	allow := s.allowMail
	if taken {
		allow = s.allowNoMail
	}
	switch err := allow(ctx, limitEmail, from, email); {
	case errors.Is(err, ErrTooMany):
		s.cfg.Log.Info("a mail was not sent: too many to one address")
		return s.decoy(ctx, s.cfg.CodeTTL)
	case err != nil:
		return err
	}
	text, c, err := s.newCode(purposeEmail+string(u.ID), string(u.ID), u.PasswordChangedAt, s.now().Add(s.cfg.CodeTTL))
	if err != nil {
		return err
	}
	// Without the user who knows it the code is good for nothing: a crash in between does no harm.
	if err := s.cfg.Codes.Put(ctx, c); err != nil {
		return failed("storing a code", err)
	}
	kind, data := mail.TypeEmailChangeRequested, any(mail.EmailChangeRequested{
		UserID: string(u.ID), FullName: u.FullName, Email: string(email), ChangeCode: text, ExpiresAt: c.ExpiresAt, Locale: locale(u),
	})
	if taken { // nobody gets to know the code
		kind, data = mail.TypeNothing, mail.Nothing{Filler: text}
	}
	e, err := s.mailEvent(kind, u.ID, data)
	if err != nil {
		return err
	}
	_, err = s.cfg.Users.Update(ctx, u.ID, func(x *user.User) error {
		if x.Erased() || x.Disabled() || !x.PasswordChangedAt.Equal(u.PasswordChangedAt) {
			return ErrInvalidCredentials // the password is not theirs any more
		}
		x.NewEmail, x.NewEmailCode = email, c.Hash
		return nil
	}, e)
	switch {
	case errors.Is(err, ErrInvalidCredentials):
		return ErrInvalidCredentials
	case errors.Is(err, user.ErrNotFound):
		return user.ErrNotFound
	case err != nil:
		return failed("storing the user", err)
	}
	s.cfg.Committed()
	return nil
}

// ConfirmEmail gives the user the address to which the code was mailed, tells the old address so by a mail, and ends every other session of the user. It returns the user.
// What was mailed to the old address is no good any more: codes for a new password, and sign-ins that are under way.
//
// A code of another purpose or of another user is ErrCodeUnknown. One that was used or is expired, in whose place there is a later one, or that was mailed before the password changed, is
// ErrCodeGone; of any number of concurrent uses, exactly one succeeds, and one that was cut short can be repeated. If another user has got the address
// meanwhile, it is user.ErrEmailTaken: of several who come at once, one has it.
func (s *Service) ConfirmEmail(ctx context.Context, who user.Identity, code string) (user.User, error) {
	u, err := s.Me(ctx, who)
	if err != nil {
		return user.User{}, err
	}
	c, err := s.useCode(ctx, purposeEmail+string(u.ID), code, s.now())
	switch {
	case err != nil:
		return user.User{}, err
	case u.NewEmailCode != c.Hash, c.CreatedAt.Before(u.PasswordChangedAt):
		return user.User{}, ErrCodeGone
	}
	if err := s.live(ctx, u.ID, who.SessionID); err != nil {
		return user.User{}, err
	}
	at, err := s.afterAll(ctx, u.ID)
	if err != nil {
		return user.User{}, err
	}
	// Always later than what it is compared with, whatever the clocks do.
	for _, bound := range []time.Time{c.CreatedAt.Add(time.Microsecond), u.PasswordChangedAt.Add(time.Microsecond), u.SessionsFrom} {
		at = notBefore(at, bound)
	}
	e, err := s.mailEvent(mail.TypeEmailChanged, u.ID, mail.EmailChanged{UserID: string(u.ID), FullName: u.FullName, Email: string(u.Email), At: at, Locale: locale(u)})
	if err != nil {
		return user.User{}, err
	}
	events := []event.Event{e}
	if !u.Verified() {
		changed := u
		changed.Email = u.NewEmail
		told, err := s.told(webhook.UserVerified, changed)
		if err != nil {
			return user.User{}, err
		}
		events = append(events, told...)
	}
	after, err := s.endSessions(ctx, u.ID, RevokedEmail, at, who.SessionID, func(x *user.User) error {
		if x.Erased() || x.Disabled() || x.NewEmailCode != c.Hash || !x.PasswordChangedAt.Equal(u.PasswordChangedAt) {
			return ErrCodeGone
		}
		x.Email, x.NewEmail, x.NewEmailCode = x.NewEmail, "", ""
		x.PasswordChangedAt, x.VerifiedAt = at, at
		return nil
	}, events...)
	if err != nil {
		return user.User{}, err
	}
	s.cfg.Log.Info("the address of a user was changed", "user", after)
	return after, s.endLate(ctx, u.ID, at, who.SessionID, RevokedEmail)
}

// forgetNewEmail returns the event by which mailers forget what waits for an address that the user had asked for, unless the address is somebody's: their mails
// are not the user's.
func (s *Service) forgetNewEmail(ctx context.Context, u user.User) ([]event.Event, error) {
	if u.NewEmail == "" {
		return nil, nil
	}
	switch _, err := s.cfg.Users.ByEmail(ctx, u.NewEmail); {
	case err == nil:
		return nil, nil
	case !errors.Is(err, user.ErrNotFound):
		return nil, failed("looking for the address", err)
	}
	e, err := s.mailEvent(mail.TypeUserErased, u.ID, mail.UserErased{UserID: string(u.ID), Email: string(u.NewEmail)})
	return []event.Event{e}, err
}
