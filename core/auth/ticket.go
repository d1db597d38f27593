package auth

import (
	"context"
	"time"

	"github.com/parley-chat/parley/core/user"
)

// NonceLife is how long before the expiry of its spent name a ticket was issued, at most. A store of [Nonces] that has lost
// names knows by it which ones may be among them.
const NonceLife = maxTicketTTL + ticketMemory

const (
	// maxTicketTTL bounds what a ticket that leaks, in a proxy's log say, is good for.
	maxTicketTTL = 30 * time.Second
	// ticketMemory is how much longer than it lasts a spent ticket is remembered, since the
	// clocks of those who verify it differ a little.
	ticketMemory = time.Minute
	// ticketSocket is how long a socket lasts whose ticket does not say when it ends, as those
	// of older programs do not: the life of an access token by default.
	ticketSocket = 15 * time.Minute
)

// SocketTicket returns a ticket for one socket handshake, and how long it lasts. The socket that
// it opens ends when the access token of who does. Too many of one session are ErrTooMany.
func (s *Service) SocketTicket(ctx context.Context, who user.Identity) (string, time.Duration, error) {
	if err := take(ctx, s.cfg.LocalLimiter, s.now(), limitTicket+":session:"+who.SessionID, s.cfg.TicketRate); err != nil {
		return "", 0, err
	}
	session, err := s.goingOn(ctx, who.UserID, who.SessionID)
	if err != nil {
		return "", 0, err
	}
	s.note(ctx, session)
	now := s.now().Truncate(time.Second)
	ticket, err := s.issue(ctx, Claims{
		Audience: AudienceTicket, UserID: who.UserID, Name: who.Name, SessionID: who.SessionID, Role: who.Role, SessionAt: who.SessionAt,
		Until: who.ExpiresAt.Truncate(time.Second), IssuedAt: now, ExpiresAt: now.Add(s.cfg.TicketTTL.Truncate(time.Second)),
	})
	if err != nil {
		return "", 0, err
	}
	return ticket, s.cfg.TicketTTL, nil
}

// RedeemTicket returns who a ticket speaks for, once, if its session still lives. A spent ticket is
// ErrTokenInvalid; so is an expired one and a token of another kind.
func (s *Service) RedeemTicket(ctx context.Context, ticket string) (user.Identity, error) {
	return s.gate.RedeemTicket(ctx, ticket)
}
