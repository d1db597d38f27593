package auth

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/core/webhook"
)

// maxPasswordBytes bounds what is normalised and counted at all.
const maxPasswordBytes = 8 * MaxPassword

// checkPassword returns a password in the form in which it is hashed, and refuses one that nobody
// should use. email may be empty. What has passed it is asked about in [Service.refuseLeaked] too.
func (s *Service) checkPassword(ctx context.Context, password string, email user.Email) (string, error) {
	switch {
	case len(password) > maxPasswordBytes:
		return "", ErrPasswordInvalid.Detail("it is longer than %d characters", MaxPassword)
	case !utf8.ValidString(password):
		return "", ErrPasswordInvalid.Detail("it is not valid UTF-8")
	case strings.ContainsRune(password, 0):
		return "", ErrPasswordInvalid.Detail("it has a NUL character")
	}
	password = s.cfg.Normalize(password)
	switch n := utf8.RuneCountInString(password); {
	case n > MaxPassword:
		return "", ErrPasswordInvalid.Detail("it is longer than %d characters", MaxPassword)
	case n < s.cfg.PasswordMin:
		return "", ErrPasswordInvalid.Detail("it is shorter than %d characters", s.cfg.PasswordMin)
	case strings.TrimSpace(password) == "":
		return "", ErrPasswordInvalid.Detail("it has nothing but spaces")
	case monotone(password):
		return "", ErrPasswordInvalid.Detail("it is one character again and again")
	}
	if email != "" {
		if err := refuseAddress(password, email); err != nil {
			return "", err
		}
	}
	if s.cfg.Passwords == nil {
		return password, nil
	}
	switch common, err := s.cfg.Passwords.Contains(ctx, password); {
	case err != nil:
		return "", failed("looking for the password among common ones", err)
	case common:
		return "", ErrPasswordInvalid.Detail("it is one that many people use, or much like one")
	}
	return password, nil
}

// refuseLeaked refuses a password, in the form in which it is hashed, that was published. Whoever calls it has taken an allowance before:
// it may cost a request to another server.
func (s *Service) refuseLeaked(ctx context.Context, password string) error {
	if s.cfg.Leaked == nil {
		return nil
	}
	asked, done := context.WithTimeout(ctx, s.cfg.LeakedTimeout)
	defer done()
	leaked, err := s.cfg.Leaked.Contains(asked, password)
	switch {
	case err != nil && ctx.Err() != nil: // whoever asks has gone
		return failed("asking whether the password was published", ctx.Err())
	case err != nil && s.cfg.LeakedFailsClosed:
		return failed("asking whether the password was published", err)
	case err != nil:
		s.cfg.Log.Warn("a new password was taken, though nobody could say whether it was published", "error", err)
	case leaked:
		return ErrPasswordInvalid.Detail("it was published after a break-in, somewhere else perhaps: others try it")
	}
	return nil
}

// refuseAddress refuses a password that has the address in it.
func refuseAddress(password string, email user.Email) error {
	if strings.Contains(strings.ToLower(password), string(email)) {
		return ErrPasswordInvalid.Detail("it has the e-mail address in it")
	}
	return nil
}

// monotone reports whether the password is one character again and again.
func monotone(password string) bool {
	_, size := utf8.DecodeRuneInString(password)
	return strings.Repeat(password[:size], len(password)/size) == password
}

// verifyPassword is Hasher.Verify for a password that somebody typed, in the form in which it is
// hashed now, and, if that is another, as it was typed: so it was hashed before. It does not demand
// what checkPassword demands, or users from before a rule could not sign in. Of a user who has chosen no password yet, whose hash is empty, none is right.
func (s *Service) verifyPassword(ctx context.Context, hash, password string) (ok, upgrade bool, err error) {
	possible := len(password) <= maxPasswordBytes && utf8.ValidString(password) && !strings.ContainsRune(password, 0)
	normal := ""
	if possible {
		normal = s.cfg.Normalize(password)
		possible = utf8.RuneCountInString(normal) <= MaxPassword
	}
	if hash == "" {
		if hash, err = s.dummyHash(ctx); err != nil {
			return false, false, err
		}
		possible = false
	}
	if !possible {
		password, normal = "", "" // no user has it; the time it takes stays the same
	}
	ok, upgrade, err = s.cfg.Hasher.Verify(ctx, hash, normal)
	if err == nil && !ok && normal != password {
		ok, _, err = s.cfg.Hasher.Verify(ctx, hash, password)
		upgrade = ok
	}
	if err != nil {
		return false, false, failed("verifying the password", err)
	}
	return ok && possible, upgrade, nil
}

// upgradeHash stores a hash of the same password with today's algorithm and returns the user
// with it. A failure is logged: the next sign-in tries again.
func (s *Service) upgradeHash(ctx context.Context, u user.User, password string) user.User {
	hash, err := s.cfg.Hasher.Hash(ctx, s.cfg.Normalize(password))
	if err == nil {
		var updated user.User
		updated, err = s.cfg.Users.Update(ctx, u.ID, func(x *user.User) error {
			if x.PasswordHash == u.PasswordHash { // or the password was changed meanwhile
				x.PasswordHash = hash
			}
			return nil
		})
		if err == nil && updated.PasswordHash == hash {
			return updated
		}
	}
	if err != nil {
		s.cfg.Log.Warn("a password hash could not be upgraded", "user", u, "error", err)
	}
	return u
}

// ForgotPassword mails a code for a new password if the address has an account. The answer does
// not tell: too many mails to one address are dropped in silence. Too many for one client are
// ErrTooMany.
func (s *Service) ForgotPassword(ctx context.Context, from Client, email string) error {
	asked := s.now()
	return s.mailOnRequest(ctx, from, email, limitForgot, s.cfg.ResetTTL, func(_ context.Context, _ user.Email, u *user.User) ([]letter, error) {
		if u == nil || u.Disabled() {
			return nil, nil
		}
		return []letter{s.forgottenOf(*u, asked)}, nil
	})
}

// forgottenOf is a letter with a new code for a new password.
func (s *Service) forgottenOf(u user.User, asked time.Time) letter {
	return func() (Code, event.Event, error) {
		data, c, err := s.newForgotten(u, asked)
		if err != nil {
			return Code{}, event.Event{}, err
		}
		e, err := s.mailEvent(mail.TypePasswordForgotten, u.ID, data)
		return c, e, err
	}
}

// newForgotten makes a code for a new password, no older than the password that u has, and the
// data of the mail with it. asked is before u was read: a code for an address that is changed meanwhile is older than the change, and no good.
func (s *Service) newForgotten(u user.User, asked time.Time) (mail.PasswordForgotten, Code, error) {
	text, c, err := s.newCode(purposeReset, string(u.ID), u.PasswordChangedAt, s.now().Add(s.cfg.ResetTTL))
	c.CreatedAt = notBefore(asked, u.PasswordChangedAt)
	return mail.PasswordForgotten{
		UserID: string(u.ID), FullName: u.FullName, Email: string(u.Email), ResetCode: text, ExpiresAt: c.ExpiresAt, Locale: locale(u),
	}, c, err
}

// ResetPassword sets a new password by a mailed code, proves the address, and ends every
// session. A code that was made before the password last changed is ErrCodeGone, and so one
// that was used; a use that was cut short can be repeated. A password that is refused does not
// use the code up.
func (s *Service) ResetPassword(ctx context.Context, code, password string) error {
	password, err := s.checkPassword(ctx, password, "")
	if err != nil {
		return err
	}
	c, err := s.useCode(ctx, purposeReset, code, s.now())
	if err != nil {
		return err
	}
	u, err := s.cfg.Users.ByID(ctx, c.UserID)
	switch {
	case errors.Is(err, user.ErrNotFound):
		return ErrCodeUnknown
	case err != nil:
		return failed("reading the user", err)
	case u.Erased(), u.Disabled(), u.PasswordChangedAt.After(c.CreatedAt): // used, or overtaken
		return ErrCodeGone
	}
	if err := refuseAddress(password, u.Email); err != nil {
		return err
	}
	if err := s.refuseLeaked(ctx, password); err != nil {
		return err
	}
	return s.setPassword(ctx, u, newPassword{
		password: password, after: c.CreatedAt, proves: true, tooLate: ErrCodeGone,
	})
}

// ChangePassword sets a new password and ends every other session. A wrong current password
// is ErrInvalidCredentials. A session may try as often as a device may sign in; more is ErrTooMany. A user with a second factor needs
// a fresh session, or it is ErrReauthenticate.
func (s *Service) ChangePassword(ctx context.Context, who user.Identity, current, password string) error {
	u, err := s.Me(ctx, who)
	if err != nil {
		return err
	}
	password, err = s.checkPassword(ctx, password, u.Email)
	if err != nil {
		return err
	}
	if err := s.reauthenticate(ctx, who, u, current); err != nil {
		return err
	}
	if err := s.refuseLeaked(ctx, password); err != nil {
		return err
	}
	return s.setPassword(ctx, u, newPassword{
		password: password, keep: who.SessionID, tooLate: ErrInvalidCredentials, // current is not, any more
	})
}

// newPassword says what setPassword does.
type newPassword struct {
	password string
	// after is a time that the change must come after, besides the last change.
	after time.Time
	// proves says that the change proves the address too.
	proves bool
	// keep is a session that goes on; empty for none.
	keep string
	// tooLate is the error when the password was changed by another call meanwhile.
	tooLate error
}

// setPassword changes the password of u, ends its sessions, and commits both notices with it: one
// write, however many sessions there are.
func (s *Service) setPassword(ctx context.Context, u user.User, n newPassword) error {
	hash, err := s.cfg.Hasher.Hash(ctx, n.password)
	if err != nil {
		return failed("hashing the password", err)
	}
	if n.keep != "" {
		if err := s.live(ctx, u.ID, n.keep); err != nil {
			return err
		}
	}
	at, err := s.afterAll(ctx, u.ID)
	if err != nil {
		return err
	}
	// Always later than what it is compared with, whatever the clocks do.
	for _, bound := range []time.Time{n.after.Add(time.Microsecond), u.PasswordChangedAt.Add(time.Microsecond), u.SessionsFrom} {
		at = notBefore(at, bound)
	}
	var events []event.Event
	if !s.cfg.NoPasswordMail {
		e, err := s.mailEvent(mail.TypePasswordChanged, u.ID, mail.PasswordChanged{
			UserID: string(u.ID), FullName: u.FullName, Email: string(u.Email), At: at, Locale: locale(u),
		})
		if err != nil {
			return err
		}
		events = append(events, e)
	}
	if n.proves && !u.Verified() {
		told, err := s.told(webhook.UserVerified, u)
		if err != nil {
			return err
		}
		events = append(events, told...)
	}
	_, err = s.endSessions(ctx, u.ID, RevokedPassword, at, n.keep, func(x *user.User) error {
		if !x.PasswordChangedAt.Equal(u.PasswordChangedAt) || x.Disabled() {
			return n.tooLate
		}
		x.PasswordHash, x.PasswordChangedAt = hash, at
		x.NewEmail, x.NewEmailCode = "", "" // whoever asked for it may have known the old password alone
		if n.proves && !x.Verified() {
			x.VerifiedAt = at
		}
		return nil
	}, events...)
	if err != nil {
		return err
	}
	s.cfg.Log.Info("a password was changed", "user", u)
	return s.endLate(ctx, u.ID, at, n.keep, RevokedPassword)
}

// endLate ends the sessions that were opened since a time, but the one to keep. A sign-in by the old password may have opened one between the choice of
// that time and the commit of the new password, and have found the old one still there. One by the new password ends, too, if it came so soon.
func (s *Service) endLate(ctx context.Context, id user.ID, since time.Time, keep string, reason RevokeReason) error {
	ctx, cancel := detached(ctx)
	defer cancel()
	newest, err := s.cfg.Sessions.ByUser(ctx, id, s.now(), s.cfg.MaxSessions)
	if err != nil {
		return failed("listing the sessions", err)
	}
	for _, x := range newest {
		if x.ID == keep || x.CreatedAt.Before(since) {
			continue
		}
		if err := s.revoke(ctx, x, reason); err != nil {
			return err
		}
	}
	return nil
}
