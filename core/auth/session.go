package auth

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/user"
)

// Grant is a signed-in session's tokens.
type Grant struct {
	AccessToken  string
	ExpiresIn    time.Duration // of the access token
	RefreshToken string
	// DeviceToken is what the device shows at its next sign-in to the same account (Client.Device),
	// so that strangers who guess cannot lock it out. A refresh has none.
	DeviceToken string
	User        user.User
}

// SignIn opens a session. A wrong address and a wrong password are ErrInvalidCredentials,
// in the same time; the password of a sign-up that waits at the address is ErrNotVerified, whether
// or not the address has an account. A user with a second factor is a [FactorRequired], whose challenge [Service.SignInFactor] takes.
// Too many attempts, right or wrong, are ErrTooMany: see Config.SignInRate. A user who has
// Config.MaxSessions loses the oldest.
func (s *Service) SignIn(ctx context.Context, from Client, email, password string) (Grant, error) {
	g, err := s.signIn(ctx, from, email, password)
	s.cfg.SignedIn(err)
	return g, err
}

func (s *Service) signIn(ctx context.Context, from Client, email, password string) (Grant, error) {
	device, err := s.allowGuess(ctx, from, email)
	if err != nil {
		return Grant{}, err
	}
	u, upgrade, err := s.checkCredentials(ctx, email, password)
	if err != nil {
		return Grant{}, err
	}
	if upgrade && u.Verified() {
		u = s.upgradeHash(ctx, u, password)
	}
	return s.enter(ctx, entry{by: MethodPassword, from: from, device: device, user: u})
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
	email, invalid := user.ParseEmail(address)
	if invalid == nil {
		switch u, err = s.cfg.Users.ByEmail(ctx, email); {
		case err == nil:
			known = true
		case !errors.Is(err, user.ErrNotFound):
			return user.User{}, false, failed("looking for the address", err)
		}
	}
	hash := u.PasswordHash
	if hash == "" { // nobody, or whose password is still to be chosen
		hash = dummy
	}
	ok, upgrade, err := s.verifyPassword(ctx, hash, password)
	if err != nil {
		return user.User{}, false, err
	}
	if known && ok && !u.Disabled() { // who is disabled has a wrong password, for all that anybody learns
		return u, upgrade, nil
	}
	if invalid == nil {
		if err := s.checkWaiting(ctx, email, password); err != nil {
			return user.User{}, false, err
		}
	}
	return user.User{}, false, ErrInvalidCredentials
}

// checkWaiting returns ErrNotVerified if the password is that of a sign-up that waits at the
// address. It compares all of them, so that the time tells no more than how many there are.
func (s *Service) checkWaiting(ctx context.Context, email user.Email, password string) error {
	waiting, err := s.waiting(ctx, email)
	if err != nil {
		return err
	}
	found := false
	for _, w := range waiting {
		ok, _, err := s.verifyPassword(ctx, w.PasswordHash, password)
		if err != nil {
			return err
		}
		found = found || ok
	}
	if found {
		return ErrNotVerified
	}
	return nil
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

// openSession makes a session for somebody who has proven all that there is to prove. [Service.enter] alone calls it.
func (s *Service) openSession(ctx context.Context, e entry) (Grant, error) {
	from, device, u := e.from, e.device, e.user
	t := refreshToken{session: s.cfg.NewID()}
	d := deviceToken{session: t.session}
	for _, secret := range []*string{&t.family, &t.secret, &d.secret} {
		var err error
		if *secret, err = s.secret(); err != nil {
			return Grant{}, err
		}
	}
	now := notBefore(notBefore(s.now(), u.PasswordChangedAt), u.SessionsFrom)
	session := Session{
		ID: t.session, UserID: u.ID, FamilyHash: tokenHash(t.family), TokenHash: tokenHash(t.secret),
		DeviceHash: d.hash(string(u.Email)), Device: DeviceOf(from.UserAgent), Network: NetworkOf(from.Address),
		CreatedAt: now, RotatedAt: now, ExpiresAt: now.Add(s.cfg.SessionTTL),
	}
	access, lasts, err := s.issueAccess(ctx, u, session)
	if err != nil {
		return Grant{}, err
	}
	mails, err := s.deviceMail(ctx, device, u, session)
	if err != nil {
		return Grant{}, err
	}
	if err := s.cfg.Sessions.Create(ctx, session, mails...); err != nil {
		return Grant{}, failed("storing the session", err)
	}
	s.committed(mails)
	// Whoever changes the password or the role, or disables the user, ends the sessions that exist then. This one may have come
	// a moment too late for that, by the old password.
	current, err := s.cfg.Users.ByID(ctx, u.ID)
	gone := errors.Is(err, user.ErrNotFound)
	if err != nil && !gone {
		return Grant{}, failed("reading the user", err)
	}
	added := Factor{}
	if !e.proven { // so may a second factor, for which nobody was asked
		if added, err = s.factorOf(ctx, u.ID); err != nil {
			return Grant{}, err
		}
	}
	if gone || !current.PasswordChangedAt.Equal(u.PasswordChangedAt) || current.Disabled() || current.Role != u.Role || added.Confirmed() {
		ctx, cancel := detached(ctx)
		defer cancel()
		if err := s.revoke(ctx, session, RevokedPassword); err != nil {
			return Grant{}, err
		}
		if current.Disabled() {
			if err := s.unmail(ctx, current, mails); err != nil {
				return Grant{}, err
			}
		}
		return Grant{}, ErrInvalidCredentials
	}
	if current, err = s.endOldest(ctx, current); err != nil {
		return Grant{}, err
	}
	if current, err = s.markSignedIn(ctx, current); err != nil {
		return Grant{}, err
	}
	s.cfg.Log.Info("a user signed in", "session", session, "method", e.by)
	return Grant{AccessToken: access, ExpiresIn: lasts, RefreshToken: t.String(), DeviceToken: d.String(), User: current}, nil
}

// endOldest ends the oldest sessions of a user who has more than Config.MaxSessions, and returns
// the user. It reads no more sessions than may go on, however many there are, and writes once.
func (s *Service) endOldest(ctx context.Context, u user.User) (user.User, error) {
	living, err := s.living(ctx, u, s.cfg.MaxSessions+1)
	if err != nil {
		return user.User{}, err
	}
	if len(living) <= s.cfg.MaxSessions {
		return u, nil
	}
	// A session that was kept when its user's older ones ended has no privilege here.
	return s.endSessions(ctx, u.ID, RevokedTooMany, living[s.cfg.MaxSessions-1].CreatedAt, "", nil)
}

// mark is what a user says of sessions.
type mark struct {
	from time.Time
	kept string
}

func markOf(u user.User) mark { return mark{u.SessionsFrom, u.KeptSession} }

// over reports whether a session is over at the given time, by itself or by its user's mark.
func (s *Service) over(x Session, m mark, now time.Time) bool {
	return x.ended(now) || !now.Before(x.CreatedAt.Add(s.cfg.SessionMax)) || x.CreatedAt.Before(m.from) && x.ID != m.kept
}

// What the change of a rotation finds; they do not leave the package.
var (
	errReused = errors.New("the refresh token was used before")
	errStale  = errors.New("the password has changed since the session was last used")
)

// repeated says that the token before the current one came again in time, and carries the key
// that makes the current one of it.
type repeated struct{ key string }

func (repeated) Error() string { return "the refresh token was used just now" }

// Refresh exchanges a refresh token for a new pair. Whoever comes again with the token that was
// exchanged last, within Config.RefreshGrace, gets the same refresh token again, since the answer
// may have been lost; of any number at once, all get the same. Any other token that was
// exchanged before ends the session (RFC 9700 section 4.14.2). Too many refreshes of a session are
// ErrTooMany.
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
	if err := take(ctx, s.cfg.LocalLimiter, s.now(), limitRefresh+":session:"+t.session, s.cfg.RefreshRate); err != nil {
		return Grant{}, err
	}
	u, err := s.cfg.Users.ByID(ctx, session.UserID)
	switch {
	case errors.Is(err, user.ErrNotFound):
		return Grant{}, ErrSessionEnded
	case err != nil:
		return Grant{}, failed("reading the user", err)
	case u.Disabled():
		return Grant{}, ErrSessionEnded
	}

	key, err := s.secret()
	if err != nil {
		return Grant{}, err
	}
	next := t.successor(key)
	used, fresh := tokenHash(t.secret), tokenHash(next.secret)
	now := s.now()
	session.ExpiresAt = now.Add(s.cfg.SessionTTL)
	// The access token is made first: when it cannot be made, the client can try again with
	// the refresh token that it has.
	access, lasts, err := s.issueAccess(ctx, u, session)
	if err != nil {
		return Grant{}, err
	}
	_, err = s.cfg.Sessions.Update(ctx, t.session, func(x *Session) error {
		switch {
		case s.over(*x, markOf(u), now):
			return ErrSessionEnded
		case x.RotatedAt.Before(u.PasswordChangedAt) && x.ID != u.KeptSession:
			return errStale
		case !sameHash(x.TokenHash, used):
			if sameHash(x.PreviousHash, used) && now.Before(x.RotatedAt.Add(s.cfg.RefreshGrace)) &&
				sameHash(x.TokenHash, tokenHash(t.successor(x.RotationKey).secret)) {
				return repeated{x.RotationKey}
			}
			return errReused
		}
		x.TokenHash, x.PreviousHash, x.RotationKey = fresh, used, key
		x.RotatedAt = notBefore(now, x.RotatedAt) // another node's clock may be ahead
		x.ExpiresAt = now.Add(s.cfg.SessionTTL)
		return nil
	})
	if again, ok := errors.AsType[repeated](err); ok {
		next, err = t.successor(again.key), nil
	}
	switch {
	case err == nil:
		return Grant{AccessToken: access, ExpiresIn: lasts, RefreshToken: next.String(), User: u}, nil
	case errors.Is(err, ErrSessionEnded), errors.Is(err, ErrSessionNotFound):
		return Grant{}, ErrSessionEnded
	case errors.Is(err, errReused), errors.Is(err, errStale):
		s.cfg.Log.Warn("a session is ended", "reason", err, "session", session)
		reason := RevokedPassword
		if errors.Is(err, errReused) {
			reason = RevokedReuse
		}
		ctx, cancel := detached(ctx) // a thief must not keep the session alive by hanging up
		defer cancel()
		if err := s.revoke(ctx, session, reason); err != nil {
			return Grant{}, err
		}
		return Grant{}, ErrSessionEnded
	default:
		return Grant{}, failed("storing the session", err)
	}
}

// Authenticate returns who an access token speaks for, if its session still lives.
func (s *Service) Authenticate(ctx context.Context, accessToken string) (user.Identity, error) {
	return s.gate.Authenticate(ctx, accessToken)
}

// live returns ErrSessionEnded unless the user has that session and it goes on.
func (s *Service) live(ctx context.Context, id user.ID, session string) error {
	_, err := s.goingOn(ctx, id, session)
	return err
}

// goingOn returns a session of the user that goes on, or else ErrSessionEnded.
func (s *Service) goingOn(ctx context.Context, id user.ID, session string) (Session, error) {
	x, err := s.standing(ctx, id, session)
	switch {
	case errors.Is(err, ErrSessionNotFound):
		return Session{}, ErrSessionEnded
	case err != nil:
		return Session{}, failed("reading the session", err)
	case x.Session.UserID != id || s.over(x.Session, mark{x.From, x.Kept}, s.now()):
		return Session{}, ErrSessionEnded
	}
	return x.Session, nil
}

// standing reads a session and what its user says of it.
func (s *Service) standing(ctx context.Context, id user.ID, session string) (Standing, error) {
	if s.cfg.Standings != nil {
		return s.cfg.Standings.Standing(ctx, session)
	}
	x, err := s.cfg.Sessions.ByID(ctx, session)
	if err != nil {
		return Standing{}, err
	}
	u, err := s.cfg.Users.ByID(ctx, id)
	if errors.Is(err, user.ErrNotFound) {
		return Standing{}, ErrSessionNotFound
	}
	return Standing{Session: x, From: u.SessionsFrom, Kept: u.KeptSession}, err
}

// SignOut ends the session of who; open sockets of it close. Ending it again is no error.
func (s *Service) SignOut(ctx context.Context, who user.Identity) error {
	return s.revoke(ctx, Session{ID: who.SessionID, UserID: who.UserID}, RevokedSignOut)
}

// SignOutAll ends every session of the user, in one write however many there are; their open
// sockets close.
func (s *Service) SignOutAll(ctx context.Context, who user.Identity) error {
	from, err := s.afterAll(ctx, who.UserID)
	if err != nil {
		return err
	}
	_, err = s.endSessions(ctx, who.UserID, RevokedSignOutAll, from, "", nil)
	if errors.Is(err, user.ErrNotFound) {
		return nil // and with the user went the sessions
	}
	return err
}

// afterAll returns a time that no session of the user was opened after: now, or a moment after
// the newest, which a node may have opened whose clock is ahead.
func (s *Service) afterAll(ctx context.Context, id user.ID) (time.Time, error) {
	now := s.now()
	newest, err := s.cfg.Sessions.ByUser(ctx, id, now, 1)
	if err != nil {
		return time.Time{}, failed("listing the sessions", err)
	}
	if len(newest) > 0 {
		now = notBefore(now, newest[0].CreatedAt.Add(time.Microsecond))
	}
	return now, nil
}

// endSessions ends every session of a user that was opened before the given time, but the one to
// keep, together with what else change does, unless nil. It is one commit with the events and
// with the one that closes the sockets. Errors of change, user.ErrNotFound and user.ErrEmailTaken are returned as
// they are.
func (s *Service) endSessions(ctx context.Context, id user.ID, reason RevokeReason, from time.Time, keep string, change func(*user.User) error, events ...event.Event) (user.User, error) {
	e, err := s.event(Topic, TypeSessionsRevoked, id, SessionsRevoked{
		UserID: string(id), Before: from, Keep: keep, Until: s.now().Add(s.cfg.AccessTTL), Erased: reason == RevokedErased,
	})
	if err != nil {
		return user.User{}, err
	}
	told, err := s.toldEnded(id, sessionsTold{Before: from, Keep: keep, Reason: reason})
	if err != nil {
		return user.User{}, err
	}
	u, err := s.cfg.Users.Update(ctx, id, func(x *user.User) error {
		if change != nil {
			if err := change(x); err != nil {
				return verbatim{err}
			}
		}
		if !from.Before(x.SessionsFrom) {
			x.SessionsFrom, x.KeptSession = from, keep
		}
		return nil
	}, slices.Concat([]event.Event{e}, events, told)...)
	if v, ok := errors.AsType[verbatim](err); ok {
		return user.User{}, v.error
	}
	switch {
	case errors.Is(err, user.ErrNotFound):
		return user.User{}, user.ErrNotFound
	case errors.Is(err, user.ErrEmailTaken):
		return user.User{}, user.ErrEmailTaken
	case err != nil:
		return user.User{}, failed("ending the sessions", err)
	}
	s.cfg.Committed()
	s.cfg.Revoked(reason)
	s.cfg.Log.Info("sessions ended", "user", u)
	return u, nil
}

// verbatim carries an error through a store.
type verbatim struct{ error }

// revoke ends a session and commits the event that closes its sockets. One that has ended, or
// that is not the user's, is left as it is.
func (s *Service) revoke(ctx context.Context, session Session, reason RevokeReason) error {
	return s.revokeBy(ctx, session, reason, nil)
}

// revokeBy is revoke, in whose commit change edits the session as well, unless nil.
func (s *Service) revokeBy(ctx context.Context, session Session, reason RevokeReason, change func(*Session)) error {
	now := s.now()
	e, err := s.event(Topic, TypeSessionRevoked, session.UserID, SessionRevoked{
		UserID: string(session.UserID), SessionID: session.ID, Until: now.Add(s.cfg.AccessTTL),
	})
	if err != nil {
		return err
	}
	told, err := s.toldEnded(session.UserID, sessionsTold{Session: session.ID, Reason: reason})
	if err != nil {
		return err
	}
	_, err = s.cfg.Sessions.Update(ctx, session.ID, func(x *Session) error {
		if !x.RevokedAt.IsZero() || x.UserID != session.UserID {
			return ErrSessionEnded
		}
		x.RevokedAt = now
		if change != nil {
			change(x)
		}
		return nil
	}, append([]event.Event{e}, told...)...)
	switch {
	case errors.Is(err, ErrSessionEnded), errors.Is(err, ErrSessionNotFound):
		return nil
	case err != nil:
		return failed("ending the session", err)
	}
	s.cfg.Committed()
	s.cfg.Revoked(reason)
	s.cfg.Log.Info("a session ended", "session", session)
	return nil
}

// ended reports whether the session is over at the given time.
func (s Session) ended(now time.Time) bool {
	return !s.RevokedAt.IsZero() || !now.Before(s.ExpiresAt)
}

// issueAccess makes an access token of a session, which does not outlive it, and returns how long
// it lasts. A session that is over, or almost, is ErrSessionEnded.
func (s *Service) issueAccess(ctx context.Context, u user.User, x Session) (string, time.Duration, error) {
	now := s.now().Truncate(time.Second)
	end := x.CreatedAt.Add(s.cfg.SessionMax)
	if x.ExpiresAt.Before(end) {
		end = x.ExpiresAt
	}
	ttl := min(s.cfg.AccessTTL, end.Sub(now)).Truncate(time.Second)
	if ttl < time.Second {
		return "", 0, ErrSessionEnded
	}
	token, err := s.issue(ctx, Claims{
		Audience: AudienceAPI, UserID: u.ID, Name: u.FullName, SessionID: x.ID, Role: u.Role.Named(), SessionAt: x.CreatedAt,
		IssuedAt: now, ExpiresAt: now.Add(ttl),
	})
	return token, ttl, err
}

// issue makes a token that says c, and names it.
func (s *Service) issue(ctx context.Context, c Claims) (string, error) {
	c.ID = s.cfg.NewID()
	token, err := s.cfg.Issuer.Issue(ctx, c)
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

// RevokeReason says why sessions were ended before their time.
type RevokeReason string

// Why sessions are ended.
const (
	RevokedSignOut    RevokeReason = "signout"     // their user signed out
	RevokedSignOutAll RevokeReason = "signout_all" // their user signed out everywhere
	RevokedPassword   RevokeReason = "password"    // the password was changed
	RevokedEmail      RevokeReason = "email"       // the e-mail address was changed
	RevokedFactor     RevokeReason = "factor"      // a second factor was added
	RevokedReuse      RevokeReason = "reuse"       // a refresh token was used twice
	RevokedTooMany    RevokeReason = "too_many"    // newer ones took their place
	RevokedErased     RevokeReason = "erased"      // the account was erased
	RevokedDisabled   RevokeReason = "disabled"    // an administrator disabled the user
	RevokedAdmin      RevokeReason = "admin"       // an administrator ended them, or took the role or the confirmation away
)

// RevokeReasons lists them.
func RevokeReasons() []RevokeReason {
	return []RevokeReason{RevokedSignOut, RevokedSignOutAll, RevokedPassword, RevokedEmail, RevokedReuse, RevokedTooMany, RevokedErased, RevokedDisabled, RevokedAdmin}
}
