package auth

import (
	"context"
	"errors"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// Erasure is what erasing an account has removed.
type Erasure struct {
	UserID user.ID
	// Email is the address that the account had, and that is free now; empty if the account was erased before.
	Email user.Email
	// Sessions, Codes, SignUps and Factors are how many of them were removed.
	Sessions, Codes, SignUps, Factors int
}

// Find returns the user with this ID, or else with this e-mail address, also one whose account was erased. It returns user.ErrNotFound if there is none.
func (s *Service) Find(ctx context.Context, idOrEmail string) (user.User, error) {
	u, err := s.cfg.Users.ByID(ctx, user.ID(idOrEmail))
	if errors.Is(err, user.ErrNotFound) {
		email, invalid := user.ParseEmail(idOrEmail)
		if invalid != nil {
			return user.User{}, user.ErrNotFound
		}
		u, err = s.cfg.Users.ByEmail(ctx, email)
	}
	switch {
	case errors.Is(err, user.ErrNotFound):
		return user.User{}, user.ErrNotFound
	case err != nil:
		return user.User{}, failed("reading the user", err)
	}
	return u, nil
}

// Erase erases an account. In one commit it empties the account, ends its sessions, whose open sockets close, and puts events into the
// outbox that let mailers forget it. Nobody can sign in to it any more, and its address can be used again. Then sessions, codes, sign-ups
// and the second factor are removed. Erasing again removes what is left, also after a failure on the way. It returns user.ErrNotFound if there never was such a user, and
// ErrLastAdmin for the last administrator.
// What the user has written is not an account's: see chat.Service.EraseAuthor.
func (s *Service) Erase(ctx context.Context, id user.ID) (Erasure, error) {
	done := Erasure{UserID: id}
	u, err := s.cfg.Users.ByID(ctx, id)
	switch {
	case errors.Is(err, user.ErrNotFound):
		return Erasure{}, user.ErrNotFound
	case err != nil:
		return Erasure{}, failed("reading the user", err)
	case !u.Erased():
		if err := s.stepDown(ctx, u); err != nil {
			return Erasure{}, err
		}
		// What is found by the address goes before the address does.
		waiting, err := s.eraseSignUps(ctx, u.Email, &done)
		if err != nil {
			return Erasure{}, err
		}
		if err := s.emptyAccount(ctx, u, waiting); err != nil {
			return Erasure{}, err
		}
		done.Email = u.Email
	}
	type part struct {
		doing string
		from  Eraser
		count *int
	}
	parts := []part{
		{"removing the sessions", s.cfg.Sessions, &done.Sessions}, {"removing the codes", s.cfg.Codes, &done.Codes}, {"removing the sign-ups", s.cfg.SignUps, &done.SignUps},
	}
	if s.cfg.Factors != nil {
		parts = append(parts, part{"removing the second factor", s.cfg.Factors, &done.Factors})
	}
	for _, remove := range parts {
		n, err := remove.from.DeleteOf(ctx, id)
		*remove.count += n
		if err != nil {
			return Erasure{}, failed(remove.doing, err)
		}
	}
	s.cfg.Log.Info("an account was erased", "user", id, "sessions", done.Sessions, "codes", done.Codes, "sign_ups", done.SignUps, "factors", done.Factors)
	return done, nil
}

// eraseSignUps removes the sign-ups at an address, with their codes, and returns whose accounts they would have become.
func (s *Service) eraseSignUps(ctx context.Context, email user.Email, done *Erasure) ([]user.ID, error) {
	all, err := s.cfg.SignUps.ByEmail(ctx, email)
	if err != nil {
		return nil, failed("looking for sign-ups", err)
	}
	var ids []user.ID
	for _, w := range all {
		codes, err := s.cfg.Codes.DeleteOf(ctx, user.ID(w.ID))
		done.Codes += codes
		if err != nil {
			return nil, failed("removing the codes", err)
		}
		n, err := s.cfg.SignUps.DeleteOf(ctx, w.UserID)
		done.SignUps += n
		if err != nil {
			return nil, failed("removing the sign-ups", err)
		}
		ids = append(ids, w.UserID)
	}
	return ids, nil
}

// emptyAccount leaves nothing in the account but that it was there. waiting are the keys of mails that were owed to its address besides its own.
func (s *Service) emptyAccount(ctx context.Context, u user.User, waiting []user.ID) error {
	from, err := s.afterAll(ctx, u.ID)
	if err != nil {
		return err
	}
	for _, bound := range []time.Time{u.PasswordChangedAt.Add(time.Microsecond), u.SessionsFrom} {
		from = notBefore(from, bound)
	}
	// A sign-in that is under way has read the account before. Nobody signs in to it afterwards: so its session may count as old, too.
	from = from.Add(s.cfg.AccessTTL)
	// Events with one key are in order: whatever is owed to the user comes before.
	var events []event.Event
	said := map[user.ID]bool{}
	for _, key := range append(waiting, u.ID) {
		if said[key] {
			continue
		}
		said[key] = true
		e, err := s.mailEvent(mail.TypeUserErased, key, mail.UserErased{UserID: string(key), Email: string(u.Email)})
		if err != nil {
			return err
		}
		events = append(events, e)
	}
	asked, err := s.forgetNewEmail(ctx, u)
	if err != nil {
		return err
	}
	events = append(events, asked...)
	told, err := s.toldErased(u.ID)
	if err != nil {
		return err
	}
	events = append(events, told...)
	_, err = s.endSessions(ctx, u.ID, RevokedErased, from, "", func(x *user.User) error {
		*x = x.Erase(from)
		return nil
	}, events...)
	return err
}
