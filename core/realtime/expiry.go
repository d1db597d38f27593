package realtime

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// What the hub refuses because of a token, or of a user's other connections.
var (
	ErrExpired       = fault.New(fault.Unauthenticated, "token_expired", "the token has expired")
	ErrOtherSession  = fault.New(fault.Forbidden, "other_session", "the token is of another user or session")
	ErrNoRenewal     = fault.New(fault.Invalid, "renewal_not_supported", "this server renews no connections")
	ErrManySockets   = fault.New(fault.Exhausted, "too_many_sockets", "the user has as many connections as one may have")
	errTokenEnded    = "the token has expired" // reasons of closing
	errSessionsEnded = "the session has ended"
)

// ending are the connections that end in one second, in a list that they form themselves: no
// timer and a few bytes for each. h.mu is held for all of it.
type ending map[int64]*client

// set moves c to the second of t; a zero time takes it out.
func (e ending) set(c *client, t time.Time) {
	if c.ends != 0 {
		if c.prev != nil {
			c.prev.next = c.next
		} else if c.next != nil {
			e[c.ends] = c.next
		} else {
			delete(e, c.ends)
		}
		if c.next != nil {
			c.next.prev = c.prev
		}
		c.prev, c.next, c.ends = nil, nil, 0
	}
	if t.IsZero() {
		return
	}
	c.ends = t.Unix()
	if first := e[c.ends]; first != nil {
		c.next, first.prev = first, c
	}
	e[c.ends] = c
}

// due takes out those that end at now or before.
func (e ending) due(now time.Time) []*client {
	var due []*client
	for second := range e {
		if second > now.Unix() {
			continue
		}
		for c := e[second]; c != nil; c = e[second] {
			due = append(due, c)
			e.set(c, time.Time{})
		}
	}
	return due
}

// revocation says that the older sessions of a user ended.
type revocation struct {
	before int64 // when a session was opened that goes on, in microseconds
	keep   string
	until  time.Time
}

// covers reports whether a session, opened at a time in microseconds, is one of them.
func (r revocation) covers(session string, at int64) bool {
	return session != "" && at < r.before && session != r.keep
}

// refused returns why a connection may not be, or not go on. h.mu is held.
func (h *Hub) refused(c *client, now time.Time, ends time.Time) error {
	return h.over(c.user.ID, c.session, c.sessionAt, now, ends)
}

// over returns why a session does not go on, or its token. h.mu is held.
func (h *Hub) over(id user.ID, session string, at int64, now, ends time.Time) error {
	if !ends.IsZero() && !now.Before(ends.Add(h.cfg.ClockLeeway)) {
		return ErrExpired
	}
	if until, ok := h.revoked[session]; ok && session != "" && !now.After(until) {
		return ErrRevoked
	}
	if r, ok := h.revokedUsers[id]; ok && r.covers(session, at) && !now.After(r.until) {
		return ErrRevoked
	}
	return nil
}

// Admits returns nil if a connection of who may be now, as far as this node has heard. It returns ErrExpired if its token has expired, and
// ErrRevoked if its session has ended. How many connections there are does not matter.
func (h *Hub) Admits(who user.Identity) error {
	var at int64
	if !who.SessionAt.IsZero() {
		at = who.SessionAt.UnixMicro()
	}
	now := h.cfg.Now()
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.over(who.UserID, who.SessionID, at, now, who.ExpiresAt)
}

// Revoke closes the connections of a user's session with CloseUnauthenticated, and refuses new ones
// until the given time, when the session's last access token has expired.
func (h *Hub) Revoke(id user.ID, sessionID string, until time.Time) {
	if sessionID == "" {
		return
	}
	h.mu.Lock()
	h.revoked[sessionID] = until
	var open []*client
	for _, c := range h.users[id] {
		if c.session == sessionID {
			open = append(open, c)
		}
	}
	h.mu.Unlock()
	for _, c := range open {
		c.close(socket.CloseUnauthenticated, errSessionsEnded)
	}
}

// RevokeBefore ends the sessions of a user that were opened before a time, except one to keep (empty for none).
// It closes their connections with CloseUnauthenticated. It refuses new ones until the last access token of those
// sessions has expired, which is at until. A connection whose token does not say when its session was opened counts as old.
func (h *Hub) RevokeBefore(id user.ID, before time.Time, keep string, until time.Time) {
	r := revocation{before: before.UnixMicro(), keep: keep, until: until}
	h.mu.Lock()
	// Of two, the later one says more; an event may come twice.
	if old, ok := h.revokedUsers[id]; !ok || old.before <= r.before {
		h.revokedUsers[id] = r
	}
	var open []*client
	for _, c := range h.users[id] {
		if r.covers(c.session, c.sessionAt) {
			open = append(open, c)
		}
	}
	h.mu.Unlock()
	for _, c := range open {
		c.close(socket.CloseUnauthenticated, errSessionsEnded)
	}
}

// whose asks the authenticator, and makes a panic an error: it may be an application's own.
func (h *Hub) whose(ctx context.Context, token string) (who user.Identity, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("realtime: the authenticator panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return h.cfg.Authenticator.Token(ctx, token)
}

// renew lets the connection go on until a new token of its session ends, and returns for how long.
func (c *client) renew(ctx context.Context, cmd protocol.Command) (protocol.Answer, error) {
	h := c.hub
	if h.cfg.Authenticator == nil {
		return protocol.Answer{}, ErrNoRenewal
	}
	who, err := h.whose(ctx, cmd.Token)
	if err != nil {
		return protocol.Answer{}, err
	}
	if who.UserID != c.user.ID || who.SessionID != c.session {
		return protocol.Answer{}, ErrOtherSession
	}
	now := h.cfg.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !who.SessionAt.IsZero() {
		c.sessionAt = who.SessionAt.UnixMicro()
	}
	if err := h.refused(c, now, who.ExpiresAt); err != nil {
		return protocol.Answer{}, err
	}
	// A token that ends earlier than the one before takes nothing away.
	if _, open := h.clients[c]; open && (c.ends != 0 || who.ExpiresAt.IsZero()) && (who.ExpiresAt.IsZero() || who.ExpiresAt.Unix() > c.ends) {
		h.ending.set(c, who.ExpiresAt)
	}
	if c.ends == 0 {
		return protocol.Answer{Data: protocol.Data{"expiresIn": 0}}, nil
	}
	left := max(time.Unix(c.ends, 0).Sub(now), 0)
	return protocol.Answer{Data: protocol.Data{"expiresIn": int(left / time.Second)}}, nil
}
