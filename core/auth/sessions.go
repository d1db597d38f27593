package auth

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// Sessions returns the sessions of a user that go on, newest first, at most Config.MaxSessions.
func (s *Service) Sessions(ctx context.Context, id user.ID) ([]Session, error) {
	u, err := s.Find(ctx, string(id))
	if err != nil {
		return nil, err
	}
	return s.living(ctx, u, s.cfg.MaxSessions)
}

// living returns the sessions of a user that go on, newest first. It reads no more than limit.
func (s *Service) living(ctx context.Context, u user.User, limit int) ([]Session, error) {
	now := s.now()
	found, err := s.cfg.Sessions.ByUser(ctx, u.ID, now, limit)
	if err != nil {
		return nil, failed("listing the sessions", err)
	}
	return slices.DeleteFunc(found, func(x Session) bool { return s.over(x, markOf(u), now) }), nil
}

// MySessions returns the sessions of who that go on, newest first: at most Config.MaxSessions, and that of who besides, if it is
// older than all of them.
func (s *Service) MySessions(ctx context.Context, who user.Identity) ([]Session, error) {
	u, err := s.Me(ctx, who)
	if err != nil {
		return nil, err
	}
	mine, err := s.living(ctx, u, s.cfg.MaxSessions)
	if err != nil || slices.ContainsFunc(mine, func(x Session) bool { return x.ID == who.SessionID }) {
		return mine, err
	}
	// It was kept when the others ended, and newer ones that have ended are before it in the store.
	switch x, err := s.cfg.Sessions.ByID(ctx, who.SessionID); {
	case err == nil && x.UserID == u.ID && !s.over(x, markOf(u), s.now()):
		mine = append(mine, x)
	case err != nil && !errors.Is(err, ErrSessionNotFound):
		return nil, failed("reading the session", err)
	}
	return mine, nil
}

// EndSession ends a session of who, as SignOut does the one that who speaks for: its open sockets close. What is not a session of who
// that goes on is ErrSessionNotFound, whosever it is. Another session than that of who loses what it knew its device by as well (Client.Device): who
// ended it may not know who was there.
func (s *Service) EndSession(ctx context.Context, who user.Identity, id string) error {
	if !isSessionID(id) {
		return ErrSessionNotFound
	}
	u, err := s.Me(ctx, who)
	if err != nil {
		return err
	}
	x, err := s.cfg.Sessions.ByID(ctx, id)
	switch {
	case errors.Is(err, ErrSessionNotFound):
		return ErrSessionNotFound
	case err != nil:
		return failed("reading the session", err)
	case x.UserID != u.ID || s.over(x, markOf(u), s.now()):
		return ErrSessionNotFound
	case x.ID == who.SessionID:
		return s.revoke(ctx, x, RevokedSignOut)
	}
	return s.revokeBy(ctx, x, RevokedSignOut, func(x *Session) { x.DeviceHash = "" })
}

// seenEvery is how often a session is noted as seen between its refreshes, at most.
const seenEvery = 5 * time.Minute

// noters is how many sessions are noted at a time, at most: when all clients come back at once, that is not written for each of them.
const noters = 2

// errSeen says that the session was noted a moment ago.
var errSeen = errors.New("auth: it was seen")

// note notes that the session is in use, unless it was seen within seenEvery. A failure is logged: nothing depends on it.
func (s *Service) note(ctx context.Context, x Session) {
	now := s.now()
	if now.Before(x.LastSeen().Add(seenEvery)) {
		return
	}
	select {
	case s.noting <- struct{}{}:
	default:
		return
	}
	defer func() { <-s.noting }()
	_, err := s.cfg.Sessions.Update(ctx, x.ID, func(x *Session) error {
		if now.Before(x.LastSeen().Add(seenEvery)) || x.ended(now) {
			return errSeen
		}
		x.SeenAt = now
		return nil
	})
	if err != nil && !errors.Is(err, errSeen) && !errors.Is(err, ErrSessionNotFound) {
		s.cfg.Log.Warn("it could not be noted that a session is in use", "session", x, "error", err)
	}
}

// deviceMail returns the event that tells a user of a session on a device that is new, or none. A device is not new if it shows the token of a
// session (known) that was not ended with all others since, or if a session that goes on was opened by a device of that kind in that network. Nothing
// is told of the first session of all.
func (s *Service) deviceMail(ctx context.Context, known *Session, u user.User, opened Session) ([]event.Event, error) {
	if s.cfg.NoDeviceMail || known != nil && (known.ID == u.KeptSession || !known.CreatedAt.Before(u.SessionsFrom)) {
		return nil, nil
	}
	living, err := s.living(ctx, u, s.cfg.MaxSessions)
	if err != nil {
		return nil, err
	}
	if len(living) == 0 && u.SessionsFrom.IsZero() {
		return nil, nil
	}
	for _, x := range living {
		if x.Device == opened.Device && x.Network == opened.Network {
			return nil, nil
		}
	}
	e, err := s.mailEvent(mail.TypeDeviceSignedIn, u.ID, mail.DeviceSignedIn{
		UserID: string(u.ID), FullName: u.FullName, Email: string(u.Email), At: opened.CreatedAt, Device: opened.Device, Network: opened.Network, Locale: locale(u),
	})
	return []event.Event{e}, err
}

// markSignedIn remembers that the user has signed in: from then on there is a time that no session is older than. It writes once a user.
func (s *Service) markSignedIn(ctx context.Context, u user.User) (user.User, error) {
	if !u.SessionsFrom.IsZero() {
		return u, nil
	}
	marked, err := s.cfg.Users.Update(ctx, u.ID, func(x *user.User) error {
		if x.SessionsFrom.IsZero() {
			x.SessionsFrom = x.CreatedAt
		}
		return nil
	})
	if err != nil {
		return user.User{}, failed("storing the sign-in", err)
	}
	return marked, nil
}
