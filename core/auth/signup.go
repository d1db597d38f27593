package auth

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// SignUp is what somebody gives to get an account.
type SignUp struct{ FullName, Email, Password string }

// SignUp makes an account that is not verified yet, and the event that mails the code, in
// one commit. A taken address has the same outcome and takes the same time, and its owner
// gets a mail, unless Config.TakenConflict is set: a notice, or, if nobody has proven the address
// yet, a code for this sign-up, which replaces the one before. Too many mails to one address, or for one client, are ErrTooMany.
func (s *Service) SignUp(ctx context.Context, from Client, in SignUp) error {
	name, err := user.ParseFullName(in.FullName)
	if err != nil {
		return err
	}
	email, err := user.ParseEmail(in.Email)
	if err != nil {
		return err
	}
	if err := checkPassword(in.Password, email); err != nil {
		return err
	}
	if err := s.allowClient(ctx, limitSignUp, from, s.cfg.MailRate); err != nil {
		return err
	}
	if err := s.allowMail(ctx, limitSignUp, from, email); err != nil {
		return err
	}
	// Before anything is known about the address, so that the time does not tell either.
	hash, err := s.cfg.Hasher.Hash(ctx, in.Password)
	if err != nil {
		return failed("hashing the password", err)
	}
	owner, err := s.cfg.Users.ByEmail(ctx, email)
	switch {
	case err == nil:
		return s.signUpTaken(ctx, owner, name, hash)
	case !errors.Is(err, user.ErrNotFound):
		return failed("looking for the address", err)
	}

	now := s.now()
	u := user.User{ID: user.ID(s.cfg.NewID()), FullName: name, Email: email, PasswordHash: hash, CreatedAt: now, PasswordChangedAt: now}
	code, expires, err := s.newCode(ctx, purposeVerify, u, s.cfg.CodeTTL)
	if err != nil {
		return err
	}
	e, err := s.mailEvent(mail.TypeUserCreated, u.ID, verification(u, code, expires))
	if err != nil {
		return err
	}
	switch err := s.cfg.Users.Create(ctx, u, e); {
	case err == nil:
		s.cfg.Committed()
		s.cfg.Log.Info("a user signed up", "user", u)
		return nil
	case errors.Is(err, user.ErrEmailTaken):
		// Somebody else was faster by a moment.
		owner, err := s.cfg.Users.ByEmail(ctx, email)
		if err != nil {
			return failed("looking for the address", err)
		}
		return s.signUpTaken(ctx, owner, name, hash)
	default:
		return failed("storing the user", err)
	}
}

// signUpTaken is a sign-up with an address that has an account. It makes the same calls as
// the sign-up of a new user.
func (s *Service) signUpTaken(ctx context.Context, owner user.User, name, hash string) error {
	if s.cfg.TakenConflict {
		return user.ErrEmailTaken
	}
	if !owner.Verified() {
		return s.signUpAgain(ctx, owner, name, hash)
	}
	if err := s.decoy(ctx, s.cfg.CodeTTL); err != nil {
		return err
	}
	return s.tell(ctx, owner, mail.TypeAddressTaken, mail.AddressTaken{
		UserID: string(owner.ID), FullName: owner.FullName, Email: string(owner.Email),
	})
}

// signUpAgain is a sign-up with an address that nobody has proven yet. It replaces the name and
// the password of the one before, whose codes end: otherwise somebody could sign up with another's
// address, and wait until its owner does so too and confirms a password that is not theirs.
func (s *Service) signUpAgain(ctx context.Context, owner user.User, name, hash string) error {
	at := notBefore(s.now(), owner.PasswordChangedAt.Add(time.Microsecond))
	owner.FullName, owner.PasswordChangedAt = name, at
	code, expires, err := s.newCode(ctx, purposeVerify, owner, s.cfg.CodeTTL)
	if err != nil {
		return err
	}
	e, err := s.mailEvent(mail.TypeVerificationAgain, owner.ID, verification(owner, code, expires))
	if err != nil {
		return err
	}
	u, err := s.cfg.Users.Update(ctx, owner.ID, func(u *user.User) error {
		// Meanwhile the address may have been proven, or a later sign-up have come.
		if !u.Verified() && u.PasswordChangedAt.Before(at) {
			u.FullName, u.PasswordHash, u.PasswordChangedAt = name, hash, at
		}
		return nil
	}, e)
	switch {
	case errors.Is(err, user.ErrNotFound):
		return nil // gone a moment ago: nobody is left to tell
	case err != nil:
		return failed("storing the sign-up", err)
	}
	s.cfg.Committed()
	s.cfg.Log.Info("a user signed up again", "user", u)
	return nil
}

// Verify confirms the address that code was sent to. A second use of a code is ErrCodeGone;
// so is an expired code, any code once the address is confirmed, and a code of a sign-up that a
// later one has replaced. A use that was cut short
// by a crash can be repeated. Of any number of concurrent uses, exactly one succeeds.
func (s *Service) Verify(ctx context.Context, code string) error {
	now := s.now()
	c, err := s.useCode(ctx, purposeVerify, code, now)
	if err != nil {
		return err
	}
	// Whether the code was used before does not matter: what it was for is either done, which
	// the user tells, or was cut short and is done now.
	u, err := s.cfg.Users.Update(ctx, c.UserID, func(u *user.User) error {
		if u.Verified() || c.CreatedAt.Before(u.PasswordChangedAt) {
			return ErrCodeGone
		}
		u.VerifiedAt = now
		return nil
	})
	switch {
	case err == nil:
		s.cfg.Log.Info("a user verified the address", "user", u)
		return nil
	case errors.Is(err, ErrCodeGone):
		return ErrCodeGone
	case errors.Is(err, user.ErrNotFound):
		return ErrCodeUnknown // left behind by a sign-up that failed
	default:
		return failed("storing the verification", err)
	}
}

// ResendVerification mails a new code if the address has an account that is not verified.
// The answer does not tell: too many mails to one address are dropped in silence. Too many
// for one client are ErrTooMany.
func (s *Service) ResendVerification(ctx context.Context, from Client, email string) error {
	return s.mailOnRequest(ctx, from, email, onRequest{
		action: limitResend, ttl: s.cfg.CodeTTL, due: func(u user.User) bool { return !u.Verified() }, send: s.sendVerification,
	})
}

// onRequest says what mailOnRequest does.
type onRequest struct {
	// action names the allowance, and ttl is how long the code lasts.
	action string
	ttl    time.Duration
	// due reports whether the user gets this mail, and send sends it.
	due  func(user.User) bool
	send func(context.Context, user.User) error
}

// mailOnRequest mails something to the account of an address, if there is one, the mail is due,
// and it has not had its share of them. Only a wrong address, a limit of the client and a failure
// are told. A mail that is not sent costs the same work as one that is, and takes nothing from the
// allowance of mails that are.
func (s *Service) mailOnRequest(ctx context.Context, from Client, address string, r onRequest) error {
	email, err := user.ParseEmail(address)
	if err != nil {
		return err
	}
	// Whether or not anything is sent, or the limit would tell.
	if err := s.allowClient(ctx, r.action, from, s.cfg.MailRate); err != nil {
		return err
	}
	u, err := s.cfg.Users.ByEmail(ctx, email)
	if err != nil && !errors.Is(err, user.ErrNotFound) {
		return failed("looking for the address", err)
	}
	due := err == nil && r.due(u)
	allow := s.allowNoMail
	if due {
		allow = s.allowMail
	}
	switch err := allow(ctx, r.action, from, email); {
	case errors.Is(err, ErrTooMany):
		s.cfg.Log.Info("a mail was not sent: too many to one address")
		due = false
	case err != nil:
		return err
	}
	if !due {
		return s.decoy(ctx, r.ttl)
	}
	return r.send(ctx, u)
}

// sendVerification makes a code for a user and commits the event that mails it.
func (s *Service) sendVerification(ctx context.Context, u user.User) error {
	code, expires, err := s.newCode(ctx, purposeVerify, u, s.cfg.CodeTTL)
	if err != nil {
		return err
	}
	return s.tell(ctx, u, mail.TypeVerificationAgain, verification(u, code, expires))
}

func verification(u user.User, code string, expires time.Time) mail.UserCreated {
	return mail.UserCreated{
		UserID: string(u.ID), FullName: u.FullName, Email: string(u.Email),
		VerificationCode: code, ExpiresAt: expires,
	}
}

// tell commits an event that mails something to u and changes nothing.
func (s *Service) tell(ctx context.Context, u user.User, kind string, data any) error {
	e, err := s.mailEvent(kind, u.ID, data)
	if err != nil {
		return err
	}
	unchanged := func(*user.User) error { return nil }
	if _, err := s.cfg.Users.Update(ctx, u.ID, unchanged, e); err != nil {
		if errors.Is(err, user.ErrNotFound) {
			return nil // gone a moment ago: nobody is left to tell
		}
		return failed("storing the mail event", err)
	}
	s.cfg.Committed()
	s.cfg.Log.Info("a mail was asked for", "type", kind, "user", u)
	return nil
}

// mailEvent makes an event for the mailer.
func (s *Service) mailEvent(kind string, id user.ID, data any) (event.Event, error) {
	return s.event(mail.Topic, kind, id, data)
}

func (s *Service) event(topic, kind string, id user.ID, data any) (event.Event, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return event.Event{}, failed("encoding an event", err) // a time beyond the year 9999
	}
	return event.Event{ID: s.cfg.NewID(), Topic: topic, Type: kind, Key: string(id), Time: s.now(), Data: raw}, nil
}
