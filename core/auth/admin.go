package auth

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/core/webhook"
)

// What administrators are refused.
var (
	ErrLastAdmin     = fault.New(fault.Conflict, "last_admin", "this is the last administrator who is not disabled")
	ErrUserDisabled  = fault.New(fault.Conflict, "user_disabled", "the user is disabled")
	ErrNoDirectory   = fault.New(fault.Forbidden, "users_not_listed", "users cannot be listed here")
	ErrPrefixInvalid = fault.New(fault.Invalid, "query_invalid", "this cannot be the beginning of an address or a name")
)

// ListUsers returns a page of users, those who were erased among them: see [user.Directory]. It returns ErrNoDirectory without one.
func (s *Service) ListUsers(ctx context.Context, f user.Filter) ([]user.User, error) {
	if s.cfg.Directory == nil {
		return nil, ErrNoDirectory
	}
	if !utf8.ValidString(f.Prefix) || strings.ContainsRune(f.Prefix, 0) || utf8.RuneCountInString(f.Prefix) > user.MaxPrefix {
		return nil, ErrPrefixInvalid
	}
	f.Prefix = strings.TrimLeft(s.cfg.Normalize(f.Prefix), " ")
	users, err := s.cfg.Directory.List(ctx, f)
	if err != nil {
		return nil, failed("listing users", err)
	}
	return users, nil
}

// NewUser is what an administrator gives to make an account.
type NewUser struct {
	// ID is that of the user. Default: a new one.
	ID              user.ID
	FullName, Email string
	// Role is what the user may do. Default user.RoleUser.
	Role user.Role
	// Invite asks for a mail by which the user chooses a password. Without it the user asks for one, as for a forgotten password.
	Invite bool
}

// CreateUser makes an account without a password, whose address is not proven: nobody can sign in to it until its owner has chosen a
// password by a mail, which proves the address. A sign-up at the address cannot take it over. It returns user.ErrEmailTaken if the
// address has an account.
func (s *Service) CreateUser(ctx context.Context, in NewUser) (user.User, error) {
	name, err := user.ParseFullName(s.cfg.Normalize(in.FullName))
	if err != nil {
		return user.User{}, err
	}
	email, err := user.ParseEmail(in.Email)
	if err != nil {
		return user.User{}, err
	}
	role, err := user.ParseRole(string(in.Role.Named()))
	if err != nil {
		return user.User{}, err
	}
	if role == user.RoleAdmin && s.cfg.Directory == nil {
		return user.User{}, ErrNoDirectory
	}
	u := user.User{ID: in.ID, FullName: name, Email: email, CreatedAt: s.now(), Role: role}
	if u.ID == "" {
		u.ID = user.ID(s.cfg.NewID())
	}
	events, err := s.told(webhook.UserCreated, u)
	if err != nil {
		return user.User{}, err
	}
	if in.Invite {
		data, c, err := s.newInvitation(u)
		if err != nil {
			return user.User{}, err
		}
		e, err := s.mailEvent(mail.TypeUserInvited, u.ID, data)
		if err != nil {
			return user.User{}, err
		}
		// Without the event that mails it the code is nobody's: a crash in between does no harm.
		if err := s.cfg.Codes.Put(ctx, c); err != nil {
			return user.User{}, failed("storing a code", err)
		}
		events = append(events, e)
	}
	switch err := s.cfg.Users.Create(ctx, u, events...); {
	case errors.Is(err, user.ErrEmailTaken):
		return user.User{}, user.ErrEmailTaken
	case err != nil:
		return user.User{}, failed("storing the user", err)
	}
	s.committed(events)
	s.cfg.Log.Info("an administrator made an account", "user", u, "role", role)
	return u, nil
}

// newInvitation makes a code for a first password, and the data of the mail with it.
func (s *Service) newInvitation(u user.User) (mail.UserInvited, Code, error) {
	text, c, err := s.newCode(purposeReset, string(u.ID), u.PasswordChangedAt, s.now().Add(s.cfg.InviteTTL))
	return mail.UserInvited{
		UserID: string(u.ID), FullName: u.FullName, Email: string(u.Email), ResetCode: text, ExpiresAt: c.ExpiresAt, Locale: locale(u),
	}, c, err
}

// UserChange is what an administrator changes of a user. What is nil stays.
type UserChange struct {
	Disabled *bool
	Role     *user.Role
	// Verified says whether the address counts as proven.
	Verified *bool
}

// apply makes the change.
func (c UserChange) apply(u *user.User, now time.Time) {
	if c.Disabled != nil && *c.Disabled != u.Disabled() {
		u.DisabledAt = time.Time{}
		if *c.Disabled {
			u.DisabledAt = now
		}
	}
	if c.Role != nil && *c.Role != u.Role.Named() {
		u.Role = *c.Role
	}
	if c.Verified != nil && *c.Verified != u.Verified() {
		u.VerifiedAt = time.Time{}
		if *c.Verified {
			u.VerifiedAt = now
		}
	}
}

// administers reports whether the user is an administrator who is not disabled.
func administers(u user.User) bool { return u.Role == user.RoleAdmin && !u.Disabled() && !u.Erased() }

// ChangeUser changes what administrators say of a user. Who is disabled has no session any more, and no open socket; mails that wait for them are
// forgotten; and their password is as good as a wrong one, until they are enabled. Sessions also end when the role changes, or the confirmation of the address is
// taken away: tokens say the role. It returns user.ErrNotFound if there is no such user or the account was erased, and ErrLastAdmin if no administrator would be left.
//
// Of several calls that together would leave none, at least one is ErrLastAdmin: whoever has stored the change looks again, and takes it back. A program
// that ends between the two may leave none.
func (s *Service) ChangeUser(ctx context.Context, id user.ID, c UserChange) (user.User, error) {
	if c.Role != nil {
		if _, err := user.ParseRole(string(*c.Role)); err != nil {
			return user.User{}, err
		}
		if *c.Role == user.RoleAdmin && s.cfg.Directory == nil {
			return user.User{}, ErrNoDirectory
		}
	}
	before, err := s.cfg.Users.ByID(ctx, id)
	switch {
	case errors.Is(err, user.ErrNotFound), err == nil && before.Erased():
		return user.User{}, user.ErrNotFound
	case err != nil:
		return user.User{}, failed("reading the user", err)
	}
	now, after := s.now(), before
	c.apply(&after, now)
	resigns := administers(before) && !administers(after)
	if resigns {
		if err := s.othersAdminister(ctx, id); err != nil {
			return user.User{}, err
		}
		var cancel context.CancelFunc
		ctx, cancel = detached(ctx) // whoever hangs up must not leave it half done
		defer cancel()
	}
	after, err = s.storeChange(ctx, before, after, c, now)
	if err != nil {
		return user.User{}, err
	}
	if resigns {
		if err := s.othersAdminister(ctx, id); err != nil {
			return user.User{}, errors.Join(err, s.reinstate(ctx, before))
		}
	}
	s.cfg.Log.Info("an administrator changed a user", "user", after, "disabled", after.Disabled(), "role", after.Role.Named())
	return after, nil
}

// storeChange commits a change, with the events that belong to it.
func (s *Service) storeChange(ctx context.Context, before, after user.User, c UserChange, now time.Time) (user.User, error) {
	var events []event.Event
	if after.Disabled() && c.Disabled != nil {
		e, err := s.disabledEvent(after)
		if err != nil {
			return user.User{}, err
		}
		events = append(events, e)
	}
	if after.Verified() && !before.Verified() {
		told, err := s.told(webhook.UserVerified, after)
		if err != nil {
			return user.User{}, err
		}
		events = append(events, told...)
	}
	change := func(x *user.User) error {
		if x.Erased() {
			return user.ErrNotFound
		}
		c.apply(x, now)
		return nil
	}
	reason := RevokedAdmin
	switch {
	case after.Disabled() && c.Disabled != nil:
		reason = RevokedDisabled
	case after.Role.Named() != before.Role.Named(), before.Verified() && !after.Verified():
	default:
		u, err := s.cfg.Users.Update(ctx, after.ID, change, events...)
		switch {
		case errors.Is(err, user.ErrNotFound):
			return user.User{}, user.ErrNotFound
		case err != nil:
			return user.User{}, failed("storing the user", err)
		}
		s.committed(events)
		return u, nil
	}
	return s.endEvery(ctx, before, reason, change, events...)
}

// disabledEvent lets mailers forget whatever was to be mailed to a user who is disabled.
func (s *Service) disabledEvent(u user.User) (event.Event, error) {
	return s.mailEvent(mail.TypeUserDisabled, u.ID, mail.UserDisabled{UserID: string(u.ID), Email: string(u.Email)})
}

// unmail lets mailers forget mails that were committed to a user after the commit that disabled the user: they are not due.
func (s *Service) unmail(ctx context.Context, u user.User, mails []event.Event) error {
	if len(mails) == 0 {
		return nil
	}
	e, err := s.disabledEvent(u)
	if err != nil {
		return err
	}
	_, err = s.cfg.Users.Update(ctx, u.ID, func(*user.User) error { return nil }, e)
	switch {
	case errors.Is(err, user.ErrNotFound):
		return nil // and with the user went the mails
	case err != nil:
		return failed("forgetting mails to a disabled user", err)
	}
	s.cfg.Committed()
	return nil
}

// endEvery ends every session of a user together with what else change does, and those of sign-ins that are under way.
func (s *Service) endEvery(ctx context.Context, u user.User, reason RevokeReason, change func(*user.User) error, events ...event.Event) (user.User, error) {
	from, err := s.afterAll(ctx, u.ID)
	if err != nil {
		return user.User{}, err
	}
	from = notBefore(from, u.SessionsFrom)
	after, err := s.endSessions(ctx, u.ID, reason, from, "", change, events...)
	if err != nil {
		return user.User{}, err
	}
	return after, s.endLate(ctx, u.ID, from, "", reason)
}

// MailPassword mails a user a code for a new password, as [Service.ForgotPassword] does, without its limits: the old password stays good until
// the new one is set. It returns user.ErrNotFound if there is no such user, and ErrUserDisabled for one who is disabled and gets no mails.
func (s *Service) MailPassword(ctx context.Context, id user.ID) error {
	asked := s.now()
	u, err := s.cfg.Users.ByID(ctx, id)
	switch {
	case errors.Is(err, user.ErrNotFound), err == nil && u.Erased():
		return user.ErrNotFound
	case err != nil:
		return failed("reading the user", err)
	case u.Disabled():
		return ErrUserDisabled
	}
	return s.send(ctx, s.forgottenOf(u, asked))
}

// EndSessions ends every session of a user; their open sockets close. It returns user.ErrNotFound if there is no such user.
func (s *Service) EndSessions(ctx context.Context, id user.ID) error {
	u, err := s.cfg.Users.ByID(ctx, id)
	switch {
	case errors.Is(err, user.ErrNotFound):
		return user.ErrNotFound
	case err != nil:
		return failed("reading the user", err)
	}
	_, err = s.endEvery(ctx, u, RevokedAdmin, nil)
	return err
}

// othersAdminister returns ErrLastAdmin unless another user is an administrator who is not disabled.
func (s *Service) othersAdminister(ctx context.Context, id user.ID) error {
	if s.cfg.Directory == nil {
		return nil // then nobody was made one
	}
	some, err := s.cfg.Directory.List(ctx, user.Filter{Role: user.RoleAdmin, Enabled: true, Limit: 2})
	if err != nil {
		return failed("looking for administrators", err)
	}
	for _, u := range some {
		if u.ID != id {
			return nil
		}
	}
	return ErrLastAdmin
}

// reinstate makes an administrator again of who was one.
func (s *Service) reinstate(ctx context.Context, before user.User) error {
	_, err := s.cfg.Users.Update(ctx, before.ID, func(x *user.User) error {
		if !x.Erased() {
			x.Role, x.DisabledAt = before.Role, before.DisabledAt
		}
		return nil
	})
	if err != nil {
		return failed("making the last administrator one again", err)
	}
	return nil
}

// stepDown takes the role from an administrator who is to be erased.
func (s *Service) stepDown(ctx context.Context, u user.User) error {
	if !administers(u) {
		return nil
	}
	role := user.RoleUser
	_, err := s.ChangeUser(ctx, u.ID, UserChange{Role: &role})
	return err
}
