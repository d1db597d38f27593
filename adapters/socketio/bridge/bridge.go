// Package bridge lets Socket.IO clients take part in the rooms of a hub, under the names and in the shapes of
// the chat system that Parley takes over, so that its front ends run unchanged.
//
// It is a wire format, [Format], and the [Namespace] whose sockets the hub takes over:
//
//	client emits                          server emits
//	join_room {name, userId}              to the joiner, event <name>: each of the last messages, oldest first;
//	                                      to the others, event <name>: {message: "<user> Joined the room!", user: "system", type: "welcome"}
//	message {roomName, message}           to all, event <roomName>: {message, user, userId, created_at}
//	isTyping {roomName}                   to the others, event <roomName>-typing: {message: "<user> is typing!", user: "system", type: "typing"}
//	healthCheck {}                        healthCheck {message: "OK"}, then the server disconnects
//
// What else is said disconnects at once, but for the events that an application has added to the schema. The
// optional fields of the schema may be given too, such as clientId with a message. Where the client asks for an ack it gets
// what the schema has for it, or {error: {code, title}}. The user is always the token's.
//
// # Guarantees
//
//   - The schema, its check and the rules of the hub are those of every other wire format.
//   - One frame serves all receivers of an event; with Config.Recovery, all those who are in that room alone.
//   - With Config.Recovery a client that comes back, on any node and after any time, gets each message that it missed
//     once, if the store has them; who it is and what it may is asked again.
//
// # Exceptions
//
//   - Rooms are called by their names in Unicode's form NFC, and one that is called like an event that clients keep
//     for themselves (packet.Reserved) cannot be joined.
//   - That somebody left, was removed, stopped typing, or has read is not told, nor that a message was changed: old front ends know no event for it.
//   - The hub tells that somebody joined for a user's first connection, in rooms that are not large, and typing
//     at a stated rate.
//
// # Closing
//
// Nothing to close.
package bridge

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/parley-chat/parley/adapters/socketio"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// Config is what a [Namespace] needs. Zero fields without "required" mean the default.
type Config struct {
	// Acceptor takes the sockets over: a hub that has [Format] as [Protocol] in its formats. Required.
	Acceptor socket.Acceptor
	// Authenticator tells whose token it is. Required.
	Authenticator socket.Authenticator
	// NoQueryToken refuses tokens in the query of the handshake, which servers and proxies write into
	// their logs. Default: they are taken.
	NoQueryToken bool
	// Recovery lets clients come back to where they were, whatever the node ("connection state recovery" of Socket.IO
	// 4.6): the hub, which then has [RecoveryFormat] as [Protocol] in its formats. Each message has one argument
	// more then, the last: an offset that clients send back. nil: it is not offered.
	Recovery Resumer
	// MaxOffset is the longest offset in bytes. Who is in more rooms than it can name does not recover. Default 1,024.
	MaxOffset int
	// Timeout bounds the authentication, and the check whether a client can recover. Default 5 seconds.
	Timeout time.Duration
}

// Namespace is what a [socketio.Server] needs to let its clients take part in the hub's rooms.
//
// The token is looked for in this order: the field token of what the client gave as auth, the header
// Authorization, the query's authorization. Its value is "bearer <token>", in any letter case. Whoever has
// none, or a bad one, is refused with connect_error, whose data has the code of the fault.
func Namespace(cfg Config) (socketio.Namespace, error) {
	c := settings.Of("bridge: Config")
	c.Require("Acceptor", cfg.Acceptor == nil)
	c.Require("Authenticator", cfg.Authenticator == nil)
	settings.Default(c, "MaxOffset", &cfg.MaxOffset, 1024)
	settings.Default(c, "Timeout", &cfg.Timeout, 5*time.Second)
	if err := c.Err(); err != nil {
		return socketio.Namespace{}, err
	}
	return socketio.Namespace{Use: []socketio.Middleware{cfg.identify}, Accept: cfg.accept}, nil
}

// identify finds out who is behind a socket.
func (c Config) identify(ctx context.Context, s *socketio.Socket) error {
	token, err := c.token(s.Request(), s.Auth())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	who, err := c.Authenticator.Token(ctx, token)
	if err != nil {
		return err
	}
	s.SetValue(who)
	return nil
}

// accept hands a socket to the hub.
func (c Config) accept(s *socketio.Socket, conn socket.Conn) (socket.Receiver, error) {
	who, ok := s.Value().(user.Identity)
	if !ok {
		return nil, fault.Internal // identify has run
	}
	s.SetValue(nil) // the hub keeps what it needs
	if c.Recovery != nil {
		return c.recover(s, conn, who)
	}
	return c.Acceptor.Accept(conn, socket.Hello{Identity: who, Protocol: Protocol})
}

// token finds the token of a connection.
func (c Config) token(r *socketio.Request, auth json.RawMessage) (string, error) {
	var given struct {
		Token json.RawMessage `json:"token"`
	}
	if len(auth) > 0 {
		if err := json.Unmarshal(auth, &given); err != nil {
			return "", socket.ErrNoCredentials
		}
	}
	var value string
	switch {
	case len(given.Token) > 0 && string(given.Token) != "null":
		if err := json.Unmarshal(given.Token, &value); err != nil {
			return "", socket.ErrNoCredentials
		}
	case r == nil: // the session connects again, after it was forgotten
	default:
		if value = r.Header.Get("Authorization"); value == "" && !c.NoQueryToken {
			value = r.URL.Query().Get("authorization")
		}
	}
	scheme, token, _ := strings.Cut(strings.TrimSpace(value), " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "bearer") || token == "" {
		return "", socket.ErrNoCredentials
	}
	return token, nil
}
