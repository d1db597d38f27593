package auth

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// RenewMail returns new data for a mail job whose code has expired, with a fresh code, and nil for any other job. One that nobody needs any more is
// mail.ErrNotNeeded with the reason: the address was proved meanwhile or is the user's no more, or the user was disabled or erased. So is a code for a
// new address. It is made to be mail.WorkerConfig.Renew and mail.DeadLetterConfig.Refresh, where the mailer and this
// service share a process.
func (s *Service) RenewMail(ctx context.Context, j mail.Job) ([]byte, error) {
	// The kinds of mail with a code have these fields in common.
	var old mail.UserCreated
	if json.Unmarshal(j.Data, &old) != nil || s.now().Before(old.ExpiresAt) {
		return nil, nil
	}
	switch j.Kind {
	case mail.KindVerification, mail.KindPasswordReset, mail.KindInvitation, mail.KindLink:
	case mail.KindEmailChange: // the user may have asked again since, for the same address, and the later code would be overtaken
		return nil, mail.ErrNotNeeded.Detail("the code for a new address has expired; the user asks again")
	default:
		return nil, nil
	}
	data, c, err := s.renew(ctx, j.Kind, old)
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Codes.Put(ctx, c); err != nil {
		return nil, failed("storing a code", err)
	}
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, failed("encoding a mail", err)
	}
	return raw, nil
}

// owner returns the user whom a mail was for, as long as it is.
func (s *Service) owner(ctx context.Context, id string) (user.User, error) {
	u, err := s.cfg.Users.ByID(ctx, user.ID(id))
	switch {
	case errors.Is(err, user.ErrNotFound):
		return user.User{}, mail.ErrNotNeeded.Detail("there is no such user")
	case err != nil:
		return user.User{}, failed("reading the user", err)
	case u.Erased():
		return user.User{}, mail.ErrNotNeeded.Detail("the user was erased")
	case u.Disabled():
		return user.User{}, mail.ErrNotNeeded.Detail("the user is disabled")
	}
	return u, nil
}

// renew makes the data of a mail anew, with a new code that must still be stored.
func (s *Service) renew(ctx context.Context, kind mail.Kind, old mail.UserCreated) (any, Code, error) {
	if kind == mail.KindVerification {
		waiting, err := s.waiting(ctx, user.Email(old.Email))
		if err != nil {
			return nil, Code{}, err
		}
		for _, w := range waiting {
			if string(w.UserID) == old.UserID && w.CreatedAt.Equal(old.RequestedAt) {
				return given(s.newVerification(w))
			}
		}
	}
	asked := s.now()
	u, err := s.owner(ctx, old.UserID)
	if err != nil {
		return nil, Code{}, err
	}
	needless := func(why string) (any, Code, error) { return nil, Code{}, mail.ErrNotNeeded.Detail("%s", why) }
	switch {
	case string(u.Email) != old.Email:
		return needless("the address is the user's no more")
	case kind == mail.KindInvitation:
		if u.PasswordHash != "" {
			return needless("the user has a password by now")
		}
		return given(s.newInvitation(u))
	case kind == mail.KindPasswordReset:
		return given(s.newForgotten(u, asked))
	case kind == mail.KindLink:
		if !s.cfg.Links || waits(u) {
			return needless("the user cannot sign in by a link")
		}
		return given(s.newLink(u, asked))
	case u.Verified():
		return needless("the address is confirmed by now")
	}
	return given(s.newVerificationOfUser(u))
}

// given is what a maker of a mail returned, as one type for all of them.
func given[T any](data T, c Code, err error) (any, Code, error) { return data, c, err }
