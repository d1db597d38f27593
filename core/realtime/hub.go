// Package realtime connects people: it owns connections, the rooms on this node, and the
// events of the socket protocol.
//
// The [Hub] stands behind every transport and every wire format. What a client may send is
// stated once, in [Events]: the run-time check, the allow-list, the AsyncAPI document and
// the types of the browser client all come from it.
package realtime

import (
	"context"
	"log/slog"
	"time"

	"github.com/parley-chat/parley/core/chat"
)

// HubConfig is what a [Hub] needs. Zero fields without "required" mean the default.
type HubConfig struct {
	Chat     *chat.Service // required
	Fanout   Fanout        // required
	Presence Presence      // required
	// Node names this node among several. Default "node".
	Node string
	// Now is the clock. Default time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Hub is an [Acceptor]. Its methods may be called from many goroutines.
type Hub struct{ cfg HubConfig }

// NewHub checks the configuration.
func NewHub(cfg HubConfig) (*Hub, error) { return &Hub{cfg: cfg}, nil }

// Run delivers signals, expires typing and renews presence until ctx ends.
func (h *Hub) Run(ctx context.Context) error { panic("stub") }

// Accept takes over a connection.
func (h *Hub) Accept(conn Conn, who Identity) (Receiver, error) { panic("stub") }

// Revoke closes the connections of a session with CloseUnauthenticated, and refuses new
// ones until the given time.
func (h *Hub) Revoke(sessionID string, until time.Time) { panic("stub") }

// Draining reports whether Drain was called.
func (h *Hub) Draining() bool { panic("stub") }

// Drain refuses new connections, closes those that are open with CloseServiceRestart, and
// returns when they are gone or ctx is done.
func (h *Hub) Drain(ctx context.Context) error { panic("stub") }
