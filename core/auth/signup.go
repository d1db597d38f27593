package auth

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/core/webhook"
)

// SignUp is what somebody gives to get an account.
type SignUp struct {
	FullName, Email, Password string
	// AcceptLanguage is the header of that name, which chooses the first language of the user: see [user.AcceptedLanguage]. Empty chooses none.
	AcceptLanguage string
}

// SignUp lets a sign-up wait for the address to be proven, and commits the event that mails its
// code with it. Each sign-up waits by itself: several may wait at one address, and the first whose
// code is used has the account. A taken address has the same outcome and takes the same time: that
// sign-up waits too, can never be confirmed, and the mail is a notice to the owner. If
// Config.TakenConflict is set, it is user.ErrEmailTaken instead. Too many mails to one address, or
// for one client, are ErrTooMany.
func (s *Service) SignUp(ctx context.Context, from Client, in SignUp) error {
	name, err := user.ParseFullName(s.cfg.Normalize(in.FullName))
	if err != nil {
		return err
	}
	email, err := user.ParseEmail(in.Email)
	if err != nil {
		return err
	}
	password, err := s.checkPassword(ctx, in.Password, email)
	if err != nil {
		return err
	}
	if err := s.allowClient(ctx, limitSignUp, from, s.cfg.MailRate); err != nil {
		return err
	}
	if err := s.allowMail(ctx, limitSignUp, from, email); err != nil {
		return err
	}
	if err := s.refuseLeaked(ctx, password); err != nil {
		return err
	}
	// Before anything is known about the address, so that the time does not tell either.
	hash, err := s.cfg.Hasher.Hash(ctx, password)
	if err != nil {
		return failed("hashing the password", err)
	}
	owner, err := s.cfg.Users.ByEmail(ctx, email)
	known := err == nil
	if err != nil && !errors.Is(err, user.ErrNotFound) {
		return failed("looking for the address", err)
	}
	if s.cfg.TakenConflict {
		if err := s.refuseTaken(ctx, email, known); err != nil {
			return err
		}
	}
	now := s.now()
	w := WaitingSignUp{
		ID: s.cfg.NewID(), FullName: name, Email: email, PasswordHash: hash, Network: shown(from.Address),
		Language:  user.AcceptedLanguage(in.AcceptLanguage),
		CreatedAt: now, ExpiresAt: now.Add(s.cfg.SignUpTTL),
	}
	w.UserID = user.ID(w.ID)
	if known && waits(owner) {
		w.UserID = owner.ID // of a version in which accounts waited themselves: this sign-up may take it over
	}
	// Of a taken address nobody gets to know the code.
	text, code, err := s.newCode(purposeVerify, w.ID, now, now.Add(s.cfg.CodeTTL))
	if err != nil {
		return err
	}
	// Without the event that mails it the code is nobody's: a crash in between does no harm.
	if err := s.cfg.Codes.Put(ctx, code); err != nil {
		return failed("storing a code", err)
	}
	kind, id, data := mail.TypeUserCreated, w.UserID, any(verification(w, text, code.ExpiresAt))
	switch {
	case known && owner.Disabled():
		kind, data = mail.TypeNothing, mail.Nothing{Filler: text}
	case known && !waits(owner):
		kind, id, data = mail.TypeAddressTaken, owner.ID, mail.AddressTaken{
			UserID: string(owner.ID), FullName: owner.FullName, Email: string(owner.Email), Asked: w.asked(), Locale: locale(owner),
		}
	}
	e, err := s.mailEvent(kind, id, data)
	if err != nil {
		return err
	}
	if err := s.cfg.SignUps.Create(ctx, w, s.cfg.SignUpsPerAddress, e); err != nil {
		return failed("storing the sign-up", err)
	}
	s.cfg.Committed()
	s.cfg.Log.Info("somebody signed up", "signUp", w)
	return nil
}

// waits reports whether the account itself waits for its confirmation, as accounts did before sign-ups waited: a sign-up may take
// it over. One that an administrator made is its owner's alone, who chooses the password by a mail.
func waits(u user.User) bool { return !u.Verified() && !u.Disabled() && u.PasswordHash != "" }

// refuseTaken returns user.ErrEmailTaken if the address has an account, or a sign-up that waits.
func (s *Service) refuseTaken(ctx context.Context, email user.Email, known bool) error {
	waiting, err := s.waiting(ctx, email)
	if err != nil {
		return err
	}
	if known || len(waiting) > 0 {
		return user.ErrEmailTaken
	}
	return nil
}

// Verify confirms the sign-up that code was mailed for, and makes the account of it: of several
// sign-ups of an address, the first has it. A second use of a code is ErrCodeGone; so is an expired
// code, and every code of a sign-up that can no longer be confirmed. A use that was cut short by a
// crash can be repeated. Of any number of concurrent uses, exactly one succeeds.
func (s *Service) Verify(ctx context.Context, code string) error {
	now := s.now()
	c, err := s.useCode(ctx, purposeVerify, code, now)
	if err != nil {
		return err
	}
	// Whether the code was used before does not matter: what it was for is either done, which
	// the sign-up tells, or was cut short and is done now.
	w, err := s.cfg.SignUps.ByID(ctx, string(c.UserID))
	switch {
	case errors.Is(err, ErrSignUpNotFound):
		return s.verifyUser(ctx, c, now)
	case err != nil:
		return failed("reading the sign-up", err)
	case !w.waits(now):
		return ErrCodeGone
	}
	// First the account, then the mark. In between the account is known by its password hash, which no other has.
	if err := s.openAccount(ctx, w, now); err != nil {
		return err
	}
	before, err := s.cfg.SignUps.Confirm(ctx, w.ID, now)
	switch {
	case errors.Is(err, ErrSignUpNotFound): // later ones have taken its place a moment ago
	case err != nil:
		return failed("storing the confirmation", err)
	case !before.ConfirmedAt.IsZero():
		return ErrCodeGone
	}
	s.cfg.Log.Info("a user verified the address", "signUp", w)
	return nil
}

// openAccount makes the account of a sign-up, unless that is done. It returns ErrCodeGone if the
// address has another account.
func (s *Service) openAccount(ctx context.Context, w WaitingSignUp, now time.Time) error {
	u := user.User{
		ID: w.UserID, FullName: w.FullName, Email: w.Email, PasswordHash: w.PasswordHash,
		CreatedAt: w.CreatedAt, VerifiedAt: notBefore(now, w.CreatedAt), PasswordChangedAt: w.CreatedAt, Language: w.Language,
	}
	told, err := s.told(webhook.UserCreated, u)
	if err != nil {
		return err
	}
	err = s.cfg.Users.Create(ctx, u, told...)
	switch {
	case err == nil:
		s.committed(told)
		return nil
	case !errors.Is(err, user.ErrEmailTaken):
		return failed("storing the user", err)
	}
	owner, err := s.cfg.Users.ByEmail(ctx, w.Email)
	if err != nil {
		return failed("looking for the address", err)
	}
	if !waits(owner) && owner.PasswordHash != w.PasswordHash {
		return ErrCodeGone
	}
	// The account is this sign-up's, or one that nobody has proven yet.
	owner.FullName = w.FullName
	if told, err = s.told(webhook.UserVerified, owner); err != nil {
		return err
	}
	_, err = s.cfg.Users.Update(ctx, owner.ID, func(u *user.User) error {
		switch {
		case u.Erased(), u.Disabled(), !waits(*u) && u.PasswordHash != w.PasswordHash:
			return ErrCodeGone
		case !u.Verified():
			u.FullName, u.PasswordHash, u.Language = w.FullName, w.PasswordHash, w.Language
			// Later than any code that was mailed for the account as it was.
			u.PasswordChangedAt = notBefore(now, u.PasswordChangedAt.Add(time.Microsecond))
			u.VerifiedAt = u.PasswordChangedAt
		default:
			return errDone
		}
		return nil
	}, told...)
	switch {
	case errors.Is(err, errDone):
		return nil
	case errors.Is(err, ErrCodeGone):
		return ErrCodeGone
	case err != nil:
		return failed("storing the user", err)
	}
	s.committed(told)
	return nil
}

// errDone says that a change was made before.
var errDone = errors.New("auth: it is done")

// verifyUser verifies an account that waits itself, as they did before sign-ups waited.
func (s *Service) verifyUser(ctx context.Context, c Code, now time.Time) error {
	u, told, err := s.markVerified(ctx, c, now)
	switch {
	case err == nil:
		s.committed(told)
		s.cfg.Log.Info("a user verified the address", "user", u)
		return nil
	case errors.Is(err, ErrCodeGone):
		return ErrCodeGone
	case errors.Is(err, user.ErrNotFound):
		return ErrCodeUnknown // left behind by a sign-up that failed, or whose place later ones have taken
	default:
		return failed("storing the verification", err)
	}
}

func (s *Service) markVerified(ctx context.Context, c Code, now time.Time) (u user.User, told []event.Event, err error) {
	if s.cfg.Webhooks.Has(webhook.UserVerified) {
		if u, err = s.cfg.Users.ByID(ctx, c.UserID); err == nil {
			told, err = s.told(webhook.UserVerified, u)
		}
		if err != nil {
			return user.User{}, nil, err
		}
	}
	u, err = s.cfg.Users.Update(ctx, c.UserID, func(u *user.User) error {
		if u.Erased() || u.Disabled() || u.Verified() || c.CreatedAt.Before(u.PasswordChangedAt) {
			return ErrCodeGone
		}
		u.VerifiedAt = now
		return nil
	}, told...)
	return u, told, err
}

// ResendVerification mails a new code for each sign-up that waits at the address, or nothing if the
// address has an account. The answer does not tell: too many mails to one address are dropped in
// silence. Too many for one client are ErrTooMany.
func (s *Service) ResendVerification(ctx context.Context, from Client, email string) error {
	return s.mailOnRequest(ctx, from, email, limitResend, s.cfg.CodeTTL, func(ctx context.Context, email user.Email, u *user.User) ([]letter, error) {
		waiting, err := s.waiting(ctx, email)
		if err != nil {
			return nil, err
		}
		var due []letter
		if u != nil && waits(*u) {
			due = append(due, s.verificationOfUser(*u))
		}
		for _, w := range waiting {
			l := letter(nil) // a sign-up with a taken address cannot be confirmed, and costs as much
			if u == nil || waits(*u) {
				l = s.verificationOf(w)
			}
			due = append(due, l)
		}
		return due, nil
	})
}

// letter makes a code and the event that mails it; nil stands for a letter that nobody gets.
type letter func() (Code, event.Event, error)

// mailOnRequest mails what due returns for an address, unless it has had its share of such mails. u
// is the account, or nil. Only a wrong address, a limit of the client and a failure are told. What
// is not sent costs the same work as what is, and takes nothing from the allowance of mails that are.
func (s *Service) mailOnRequest(ctx context.Context, from Client, address, action string, ttl time.Duration,
	due func(ctx context.Context, email user.Email, u *user.User) ([]letter, error),
) error {
	email, err := user.ParseEmail(address)
	if err != nil {
		return err
	}
	// Whether or not anything is sent, or the limit would tell.
	if err := s.allowClient(ctx, action, from, s.cfg.MailRate); err != nil {
		return err
	}
	var owner *user.User
	switch u, err := s.cfg.Users.ByEmail(ctx, email); {
	case err == nil:
		owner = &u
	case !errors.Is(err, user.ErrNotFound):
		return failed("looking for the address", err)
	}
	letters, err := due(ctx, email, owner)
	if err != nil {
		return err
	}
	if len(letters) == 0 {
		letters = []letter{nil}
	}
	allow := s.allowNoMail
	for _, l := range letters {
		if l != nil {
			allow = s.allowMail
		}
	}
	silent := false
	switch err := allow(ctx, action, from, email); {
	case errors.Is(err, ErrTooMany):
		s.cfg.Log.Info("a mail was not sent: too many to one address")
		silent = true
	case err != nil:
		return err
	}
	for _, l := range letters {
		if l == nil || silent {
			err = s.decoy(ctx, ttl)
		} else {
			err = s.send(ctx, l)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) send(ctx context.Context, l letter) error {
	c, e, err := l()
	if err != nil {
		return err
	}
	return s.post(ctx, c, e)
}

// verificationOf is a letter with a new code for a sign-up.
func (s *Service) verificationOf(w WaitingSignUp) letter {
	return func() (Code, event.Event, error) {
		data, c, err := s.newVerification(w)
		if err != nil {
			return Code{}, event.Event{}, err
		}
		e, err := s.mailEvent(mail.TypeVerificationAgain, w.UserID, data)
		return c, e, err
	}
}

// newVerification makes a new code for a sign-up, and the data of the mail with it.
func (s *Service) newVerification(w WaitingSignUp) (mail.UserCreated, Code, error) {
	expires := s.now().Add(s.cfg.CodeTTL)
	if expires.After(w.ExpiresAt) {
		expires = w.ExpiresAt
	}
	text, c, err := s.newCode(purposeVerify, w.ID, w.CreatedAt, expires)
	return verification(w, text, expires), c, err
}

// verificationOfUser is a letter with a new code for an account that waits itself.
func (s *Service) verificationOfUser(u user.User) letter {
	return func() (Code, event.Event, error) {
		data, c, err := s.newVerificationOfUser(u)
		if err != nil {
			return Code{}, event.Event{}, err
		}
		e, err := s.mailEvent(mail.TypeVerificationAgain, u.ID, data)
		return c, e, err
	}
}

// newVerificationOfUser makes a new code for an account that waits itself, no older than its
// password, and the data of the mail with it.
func (s *Service) newVerificationOfUser(u user.User) (mail.UserCreated, Code, error) {
	text, c, err := s.newCode(purposeVerify, string(u.ID), u.PasswordChangedAt, s.now().Add(s.cfg.CodeTTL))
	return mail.UserCreated{
		UserID: string(u.ID), FullName: u.FullName, Email: string(u.Email), VerificationCode: text, ExpiresAt: c.ExpiresAt,
		Asked: mail.Asked{RequestedAt: u.PasswordChangedAt}, Locale: locale(u),
	}, c, err
}

func verification(w WaitingSignUp, code string, expires time.Time) mail.UserCreated {
	return mail.UserCreated{
		UserID: string(w.UserID), FullName: w.FullName, Email: string(w.Email),
		VerificationCode: code, ExpiresAt: expires, Asked: w.asked(), Locale: mail.Locale{Language: w.Language},
	}
}

func (w WaitingSignUp) asked() mail.Asked {
	return mail.Asked{RequestedAt: w.CreatedAt, Network: w.Network}
}

// locale says which language mails to a user are in.
func locale(u user.User) mail.Locale { return mail.Locale{Language: u.Language} }

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
