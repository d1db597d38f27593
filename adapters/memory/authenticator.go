package memory

import (
	"context"
	"sync"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// Authenticator is a socket.Authenticator that knows what it was told. It may be used from
// many goroutines.
type Authenticator struct {
	mu      sync.Mutex
	tokens  map[string]user.Identity
	tickets map[string]user.Identity
}

var _ socket.Authenticator = (*Authenticator)(nil)

// NewAuthenticator returns an authenticator that knows nobody.
func NewAuthenticator() *Authenticator {
	return &Authenticator{tokens: map[string]user.Identity{}, tickets: map[string]user.Identity{}}
}

var errCredentials = fault.New(fault.Unauthenticated, "credentials_unknown", "the token or ticket is not known")

// AllowToken makes token speak for who, until RefuseToken.
func (a *Authenticator) AllowToken(token string, who user.Identity) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens[token] = who
}

// RefuseToken makes token unknown.
func (a *Authenticator) RefuseToken(token string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.tokens, token)
}

// AllowTicket makes ticket speak for who, once.
func (a *Authenticator) AllowTicket(ticket string, who user.Identity) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tickets[ticket] = who
}

// Token returns who the token speaks for.
func (a *Authenticator) Token(ctx context.Context, token string) (user.Identity, error) {
	if err := alive(ctx); err != nil {
		return user.Identity{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	who, known := a.tokens[token]
	if !known {
		return user.Identity{}, errCredentials
	}
	return who, nil
}

// Ticket returns who the ticket speaks for, and forgets it.
func (a *Authenticator) Ticket(ctx context.Context, ticket string) (user.Identity, error) {
	if err := alive(ctx); err != nil {
		return user.Identity{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	who, known := a.tickets[ticket]
	if !known {
		return user.Identity{}, errCredentials
	}
	delete(a.tickets, ticket)
	return who, nil
}
