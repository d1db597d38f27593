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
	// The two kinds of mail with a code have these fields in common.
	var old mail.UserCreated
	expired := json.Unmarshal(j.Data, &old) == nil && !s.now().Before(old.ExpiresAt)
	if !expired || j.Kind != mail.KindVerification && j.Kind != mail.KindPasswordReset {
		return nil, nil
	}
	u, err := s.cfg.Users.ByID(ctx, user.ID(old.UserID))
	switch {
	case errors.Is(err, user.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, failed("reading the user", err)
	}
	var data any
	switch {
	case j.Kind == mail.KindPasswordReset:
		code, expires, err := s.newCode(ctx, purposeReset, u, s.cfg.ResetTTL)
		if err != nil {
			return nil, err
		}
		data = forgotten(u, code, expires)
	case u.Verified():
		return nil, nil
	default:
		code, expires, err := s.newCode(ctx, purposeVerify, u, s.cfg.CodeTTL)
		if err != nil {
			return nil, err
		}
		data = verification(u, code, expires)
	}
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, failed("encoding a mail", err)
	}
	return raw, nil
}
