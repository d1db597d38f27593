package auth

import (
	"context"
	"errors"

	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/user"
)

// GateConfig is what a [Gate] needs.
type GateConfig struct {
	Verifier TokenVerifier // required
	// Nonces remembers spent tickets, and must be shared by all who redeem them. Required.
	Nonces Nonces
}

// Gate decides whom a token speaks for where there is no store of sessions: on a socket node
// apart from the accounts. It believes a token until it expires, so whoever uses it learns of
// sessions that end earlier from the events of [Topic]. Its methods may be called from many
// goroutines.
type Gate struct {
	cfg GateConfig
	// live says whether the session of a token goes on; nil believes it.
	live func(ctx context.Context, id user.ID, session string) error
}

// NewGate checks the configuration.
func NewGate(cfg GateConfig) (*Gate, error) {
	c := settings.Of("auth: GateConfig")
	c.Require("Verifier", cfg.Verifier == nil)
	c.Require("Nonces", cfg.Nonces == nil)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return &Gate{cfg: cfg}, nil
}

// Authenticate returns who an access token speaks for.
func (g *Gate) Authenticate(ctx context.Context, accessToken string) (user.Identity, error) {
	who, _, err := g.identify(ctx, accessToken, AudienceAPI)
	return who, err
}

// RedeemTicket returns who a ticket speaks for, once. A spent ticket is ErrTokenInvalid; so is
// an expired one and a token of another kind.
func (g *Gate) RedeemTicket(ctx context.Context, ticket string) (user.Identity, error) {
	who, c, err := g.identify(ctx, ticket, AudienceTicket)
	if err != nil {
		return user.Identity{}, err
	}
	if c.ID == "" {
		return user.Identity{}, ErrTokenInvalid // without a name it could be spent any number of times
	}
	first, err := g.cfg.Nonces.Spend(ctx, "ticket:"+c.ID, c.ExpiresAt.Add(ticketMemory))
	if err != nil {
		return user.Identity{}, failed("spending a ticket", err)
	}
	if !first {
		return user.Identity{}, ErrTokenInvalid
	}
	if who.ExpiresAt = c.Until; c.Until.IsZero() {
		who.ExpiresAt = c.IssuedAt.Add(ticketSocket)
	}
	return who, nil
}

// identify returns who a token for audience speaks for, and the token's claims.
func (g *Gate) identify(ctx context.Context, token, audience string) (user.Identity, Claims, error) {
	c, err := g.cfg.Verifier.Verify(ctx, token, audience)
	switch {
	case errors.Is(err, ErrTokenInvalid):
		return user.Identity{}, Claims{}, ErrTokenInvalid
	case err != nil:
		return user.Identity{}, Claims{}, failed("verifying a token", err)
	}
	if g.live != nil {
		if err := g.live(ctx, c.UserID, c.SessionID); err != nil {
			return user.Identity{}, Claims{}, err
		}
	}
	return user.Identity{UserID: c.UserID, Name: c.Name, SessionID: c.SessionID, Role: c.Role, SessionAt: c.SessionAt, ExpiresAt: c.ExpiresAt}, c, nil
}
