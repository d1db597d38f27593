package auth

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// RenewMail returns new data for a mail job whose code has expired, with a fresh code, and nil
// for any other job. It is made to be mail.DeadLetterConfig.Refresh, where the mailer and this
// service share a process.
func (s *Service) RenewMail(ctx context.Context, j mail.Job) ([]byte, error) {
	// The kinds of mail with a code have these fields in common.
	var old mail.UserCreated
	expired := json.Unmarshal(j.Data, &old) == nil && !s.now().Before(old.ExpiresAt)
	if !expired || j.Kind != mail.KindVerification && j.Kind != mail.KindPasswordReset && j.Kind != mail.KindInvitation && j.Kind != mail.KindLink {
		return nil, nil
	}
	data, c, err := s.renew(ctx, j.Kind, old)
	if data == nil || err != nil {
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

// renew makes the data of a mail anew, with a new code that must still be stored. The data is nil
// if nobody needs the mail any more.
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
	u, err := s.cfg.Users.ByID(ctx, user.ID(old.UserID))
	switch {
	case errors.Is(err, user.ErrNotFound):
		return nil, Code{}, nil
	case err != nil:
		return nil, Code{}, failed("reading the user", err)
	case u.Disabled(), u.Erased(), string(u.Email) != old.Email: // or the mail would go to an address that is the user's no more
		return nil, Code{}, nil
	case kind == mail.KindInvitation:
		if u.PasswordHash != "" {
			return nil, Code{}, nil
		}
		return given(s.newInvitation(u))
	case kind == mail.KindPasswordReset:
		return given(s.newForgotten(u, asked))
	case kind == mail.KindLink:
		if !s.cfg.Links || waits(u) {
			return nil, Code{}, nil
		}
		return given(s.newLink(u, asked))
	case u.Verified():
		return nil, Code{}, nil
	}
	return given(s.newVerificationOfUser(u))
}

// given is what a maker of a mail returned, as one type for all of them.
func given[T any](data T, c Code, err error) (any, Code, error) { return data, c, err }
