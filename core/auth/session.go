package auth

import (
	"context"
	"errors"
	"time"

	"github.com/parley-chat/parley/core/user"
)

// Grant is a signed-in session's tokens.
type Grant struct {
	AccessToken  string
	ExpiresIn    time.Duration // of the access token
	RefreshToken string
	User         user.User
}

// SignIn opens a session. A wrong address and a wrong password are ErrInvalidCredentials,
// in the same time; the right ones of an account that is not verified are ErrNotVerified.
// Too many attempts, right or wrong, at one address or from one client are ErrTooMany.
func (s *Service) SignIn(ctx context.Context, from Client, email, password string) (Grant, error) {
	if err := s.allowClient(ctx, limitSignIn, from, s.cfg.SignInRate); err != nil {
		return Grant{}, err
	}
	if err := s.allowEmail(ctx, limitSignIn, email, s.cfg.SignInRate); err != nil {
		return Grant{}, err
	}
	u, upgrade, err := s.checkCredentials(ctx, email, password)
	if err != nil {
		return Grant{}, err
	}
	if !u.Verified() {
		return Grant{}, ErrNotVerified
	}
	if upgrade {
		u = s.upgradeHash(ctx, u, password)
	}
	return s.openSession(ctx, u)
}

// checkCredentials returns the user whose address and password these are, and whether the
// hash should be made anew.
func (s *Service) checkCredentials(ctx context.Context, address, password string) (user.User, bool, error) {
	// Made at the first sign-in of all, not at the first unknown address, which would then
	// take longer than a known one.
	dummy, err := s.dummyHash(ctx)
	if err != nil {
		return user.User{}, false, err
	}
	var u user.User
	known := false
	if email, err := user.ParseEmail(address); err == nil {
		switch u, err = s.cfg.Users.ByEmail(ctx, email); {
		case err == nil:
			known = true
		case !errors.Is(err, user.ErrNotFound):
			return user.User{}, false, failed("looking for the address", err)
		}
	}
	hash := u.PasswordHash
	if !known {
		hash = dummy
	}
	ok, upgrade, err := s.verifyPassword(ctx, hash, password)
	if err != nil {
		return user.User{}, false, err
	}
	if !known || !ok {
		return user.User{}, false, ErrInvalidCredentials
	}
	return u, upgrade, nil
}

// dummyHash returns a hash that costs as much to verify as a user's and that no password matches.
func (s *Service) dummyHash(ctx context.Context) (string, error) {
	if hash := s.dummy.Load(); hash != nil {
		return *hash, nil
	}
	password, err := s.secret()
	if err != nil {
		return "", err
	}
	hash, err := s.cfg.Hasher.Hash(ctx, password)
	if err != nil {
		return "", failed("hashing a password", err)
	}
	s.dummy.Store(&hash)
	return hash, nil
}

// openSession makes a session for a user who has just proven the password.
func (s *Service) openSession(ctx context.Context, u user.User) (Grant, error) {
	t := refreshToken{session: s.cfg.NewID()}
	var err error
	if t.family, err = s.secret(); err != nil {
		return Grant{}, err
	}
	if t.secret, err = s.secret(); err != nil {
		return Grant{}, err
	}
	now := notBefore(s.now(), u.PasswordChangedAt)
	session := Session{
		ID: t.session, UserID: u.ID, FamilyHash: tokenHash(t.family), TokenHash: tokenHash(t.secret),
		CreatedAt: now, RotatedAt: now, ExpiresAt: now.Add(s.cfg.SessionTTL),
	}
	access, err := s.issue(ctx, u, t.session, AudienceAPI, s.cfg.AccessTTL)
	if err != nil {
		return Grant{}, err
	}
	if err := s.cfg.Sessions.Create(ctx, session); err != nil {
		return Grant{}, failed("storing the session", err)
	}
	// Whoever changes the password ends the sessions that exist then. This one may have come
	// a moment too late for that, by the old password.
	current, err := s.cfg.Users.ByID(ctx, u.ID)
	if err != nil && !errors.Is(err, user.ErrNotFound) {
		return Grant{}, failed("reading the user", err)
	}
	if err != nil || !current.PasswordChangedAt.Equal(u.PasswordChangedAt) {
		ctx, cancel := detached(ctx)
		defer cancel()
		if err := s.revoke(ctx, session); err != nil {
			return Grant{}, err
		}
		return Grant{}, ErrInvalidCredentials
	}
	s.cfg.Log.Info("a user signed in", "session", session)
	return Grant{AccessToken: access, ExpiresIn: s.cfg.AccessTTL, RefreshToken: t.String(), User: current}, nil
}

// What the change of a rotation finds; they do not leave the package.
var (
	errReused = errors.New("the refresh token was used before")
	errStale  = errors.New("the password has changed since the session was last used")
)

// Refresh exchanges a refresh token for a new pair. A token that was exchanged before ends
// the session (RFC 9700 section 4.14.2); of two concurrent uses one wins, and the session ends.
func (s *Service) Refresh(ctx context.Context, text string) (Grant, error) {
	t, ok := parseRefreshToken(text)
	if !ok {
		return Grant{}, ErrTokenInvalid
	}
	session, err := s.cfg.Sessions.ByID(ctx, t.session)
	switch {
	case errors.Is(err, ErrSessionNotFound):
		return Grant{}, ErrTokenInvalid
	case err != nil:
		return Grant{}, failed("reading the session", err)
	case !sameHash(session.FamilyHash, tokenHash(t.family)):
		return Grant{}, ErrTokenInvalid
	}
	u, err := s.cfg.Users.ByID(ctx, session.UserID)
	switch {
	case errors.Is(err, user.ErrNotFound):
		return Grant{}, ErrSessionEnded
	case err != nil:
		return Grant{}, failed("reading the user", err)
	}

	next := t
	if next.secret, err = s.secret(); err != nil {
		return Grant{}, err
	}
	used, fresh := tokenHash(t.secret), tokenHash(next.secret)
	// The access token is made first: when it cannot be made, the client can try again with
	// the refresh token that it has.
	access, err := s.issue(ctx, u, t.session, AudienceAPI, s.cfg.AccessTTL)
	if err != nil {
		return Grant{}, err
	}
	now := s.now()
	_, err = s.cfg.Sessions.Update(ctx, t.session, func(x *Session) error {
		switch {
		case x.ended(now):
			return ErrSessionEnded
		case !sameHash(x.TokenHash, used):
			return errReused
		case x.RotatedAt.Before(u.PasswordChangedAt):
			return errStale
		}
		x.TokenHash = fresh
		x.RotatedAt = notBefore(now, x.RotatedAt) // another node's clock may be ahead
		x.ExpiresAt = now.Add(s.cfg.SessionTTL)
		return nil
	})
	switch {
	case err == nil:
		return Grant{AccessToken: access, ExpiresIn: s.cfg.AccessTTL, RefreshToken: next.String(), User: u}, nil
	case errors.Is(err, ErrSessionEnded), errors.Is(err, ErrSessionNotFound):
		return Grant{}, ErrSessionEnded
	case errors.Is(err, errReused), errors.Is(err, errStale):
		s.cfg.Log.Warn("a session is ended", "reason", err, "session", session)
		ctx, cancel := detached(ctx) // a thief must not keep the session alive by hanging up
		defer cancel()
		if err := s.revoke(ctx, session); err != nil {
			return Grant{}, err
		}
		return Grant{}, ErrSessionEnded
	default:
		return Grant{}, failed("storing the session", err)
	}
}

// Authenticate returns who an access token speaks for, if its session still lives.
func (s *Service) Authenticate(ctx context.Context, accessToken string) (Identity, error) {
	return s.gate.Authenticate(ctx, accessToken)
}

// live returns ErrSessionEnded unless the user has that session and it goes on.
func (s *Service) live(ctx context.Context, id user.ID, session string) error {
	x, err := s.cfg.Sessions.ByID(ctx, session)
	switch {
	case errors.Is(err, ErrSessionNotFound):
		return ErrSessionEnded
	case err != nil:
		return failed("reading the session", err)
	case x.UserID != id || x.ended(s.now()):
		return ErrSessionEnded
	}
	return nil
}

// SignOut ends the session of who; open sockets of it close. Ending it again is no error.
func (s *Service) SignOut(ctx context.Context, who Identity) error {
	return s.revoke(ctx, Session{ID: who.SessionID, UserID: who.UserID})
}

// SignOutAll ends every session of the user.
func (s *Service) SignOutAll(ctx context.Context, who Identity) error {
	return s.revokeAll(ctx, who.UserID, "")
}

// revokeAll ends every session of a user but the one to keep.
func (s *Service) revokeAll(ctx context.Context, id user.ID, keep string) error {
	sessions, err := s.cfg.Sessions.ByUser(ctx, id)
	if err != nil {
		return failed("listing the sessions", err)
	}
	now := s.now()
	var errs []error
	for _, x := range sessions {
		if x.ID == keep || x.ended(now) {
			continue
		}
		errs = append(errs, s.revoke(ctx, x)) // one that fails does not save the others
	}
	return errors.Join(errs...)
}

// revoke ends a session and commits the event that closes its sockets. One that has ended, or
// that is not the user's, is left as it is.
func (s *Service) revoke(ctx context.Context, session Session) error {
	now := s.now()
	e, err := s.event(Topic, TypeSessionRevoked, session.UserID, SessionRevoked{
		UserID: string(session.UserID), SessionID: session.ID, Until: now.Add(s.cfg.AccessTTL),
	})
	if err != nil {
		return err
	}
	_, err = s.cfg.Sessions.Update(ctx, session.ID, func(x *Session) error {
		if !x.RevokedAt.IsZero() || x.UserID != session.UserID {
			return ErrSessionEnded
		}
		x.RevokedAt = now
		return nil
	}, e)
	switch {
	case errors.Is(err, ErrSessionEnded), errors.Is(err, ErrSessionNotFound):
		return nil
	case err != nil:
		return failed("ending the session", err)
	}
	s.cfg.Committed()
	s.cfg.Log.Info("a session ended", "session", session)
	return nil
}

// ended reports whether the session is over at the given time.
func (s Session) ended(now time.Time) bool {
	return !s.RevokedAt.IsZero() || !now.Before(s.ExpiresAt)
}

// issue makes a token of a session.
func (s *Service) issue(ctx context.Context, u user.User, session, audience string, ttl time.Duration) (string, error) {
	now := s.now().Truncate(time.Second)
	token, err := s.cfg.Issuer.Issue(ctx, Claims{
		ID: s.cfg.NewID(), Audience: audience, UserID: u.ID, Name: u.FullName, SessionID: session,
		IssuedAt: now, ExpiresAt: now.Add(ttl.Truncate(time.Second)),
	})
	if err != nil {
		return "", failed("issuing a token", err)
	}
	return token, nil
}

// notBefore returns the later of two times. Nodes' clocks differ a little, and what follows
// a change of the password must not seem to come before it.
func notBefore(t, bound time.Time) time.Time {
	if t.Before(bound) {
		return bound
	}
	return t
}
