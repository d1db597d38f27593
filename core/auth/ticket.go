package auth

import (
	"context"
	"time"

	"github.com/parley-chat/parley/core/user"
)

const (
	// maxTicketTTL bounds what a ticket that leaks, in a proxy's log say, is good for.
	maxTicketTTL = 30 * time.Second
	// ticketMemory is how much longer than it lasts a spent ticket is remembered, since the
	// clocks of those who verify it differ a little.
	ticketMemory = time.Minute
)

// SocketTicket returns a ticket for one socket handshake, and how long it lasts.
func (s *Service) SocketTicket(ctx context.Context, who Identity) (string, time.Duration, error) {
	if err := s.live(ctx, who.UserID, who.SessionID); err != nil {
		return "", 0, err
	}
	ticket, err := s.issue(ctx, user.User{ID: who.UserID, FullName: who.Name}, who.SessionID, AudienceTicket, s.cfg.TicketTTL)
	if err != nil {
		return "", 0, err
	}
	return ticket, s.cfg.TicketTTL, nil
}

// RedeemTicket returns who a ticket speaks for, once, if its session still lives. A spent ticket is
// ErrTokenInvalid; so is an expired one and a token of another kind.
func (s *Service) RedeemTicket(ctx context.Context, ticket string) (Identity, error) {
	return s.gate.RedeemTicket(ctx, ticket)
}
