package auth

import (
	"context"
	"errors"

	"github.com/parley-chat/parley/core/user"
)

// ProveAgain makes the session fresh for Config.FreshFor: whoever uses it proves once more who they are. A user with a second factor proves it by a code of that, of the authenticator app or a recovery
// code, and every other user by the password.
//
// A wrong password is ErrInvalidCredentials, a wrong code ErrFactorCode, and no code where one is needed ErrFactorRequired. Too many attempts of a session are ErrTooMany. A session that ends
// meanwhile is ErrSessionEnded.
func (s *Service) ProveAgain(ctx context.Context, who user.Identity, password, code string) error {
	u, err := s.Me(ctx, who)
	if err != nil {
		return err
	}
	f, err := s.factorOf(ctx, u.ID)
	switch {
	case err != nil:
		return err
	case !f.Confirmed():
		err = s.verifyOwn(ctx, who, u, password)
	case code == "":
		err = ErrFactorRequired
	default:
		err = s.proveFactor(ctx, who, u, f, code)
	}
	if err != nil {
		return err
	}
	return s.prove(ctx, who)
}

// proveFactor uses a code of the user's second factor up.
func (s *Service) proveFactor(ctx context.Context, who user.Identity, u user.User, f Factor, code string) error {
	if err := s.allowSessionCode(ctx, who); err != nil {
		return err
	}
	p, err := s.check(f, code)
	if err != nil {
		return err
	}
	return s.use(ctx, u, f, p)
}

// prove notes that whoever uses the session has proven who they are.
func (s *Service) prove(ctx context.Context, who user.Identity) error {
	now := s.now()
	_, err := s.cfg.Sessions.Update(ctx, who.SessionID, func(x *Session) error {
		if x.UserID != who.UserID || x.ended(now) {
			return ErrSessionEnded
		}
		x.ProvenAt = notBefore(now, x.ProvenAt)
		return nil
	})
	switch {
	case errors.Is(err, ErrSessionEnded), errors.Is(err, ErrSessionNotFound):
		return ErrSessionEnded
	case err != nil:
		return failed("storing the session", err)
	}
	return nil
}

// fresh returns ErrReauthenticate unless whoever uses the session has proven who they are within Config.FreshFor.
func (s *Service) fresh(ctx context.Context, who user.Identity) error {
	x, err := s.goingOn(ctx, who.UserID, who.SessionID)
	if err != nil {
		return err
	}
	if !s.now().Before(notBefore(x.CreatedAt, x.ProvenAt).Add(s.cfg.FreshFor)) {
		return ErrReauthenticate
	}
	return nil
}

// freshUser returns the user of a fresh session.
func (s *Service) freshUser(ctx context.Context, who user.Identity) (user.User, error) {
	u, err := s.Me(ctx, who)
	if err != nil {
		return user.User{}, err
	}
	return u, s.fresh(ctx, who)
}
