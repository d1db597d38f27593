// Package socket is what a transport needs of Parley, and nothing of what is said: a connection
// and who is behind it, the handshake before it, the frames on it, and the codes it ends with.
//
// A transport is made of a [Handshake], which decides whether a request may become a connection,
// and of an [Acceptor], which takes the connection over: it gives the acceptor a [Conn] to send
// on, and feeds the [Receiver] that it gets back.
package socket

import (
	"context"

	"github.com/parley-chat/parley/core/user"
)

// Close codes of a connection: RFC 6455 section 7.4.1 and the private range of 7.4.2.
const (
	CloseNormal          = 1000 // done, for example after healthCheck
	CloseGoingAway       = 1001
	CloseProtocolError   = 1002 // the WebSocket framing itself is wrong
	CloseInvalidUTF8     = 1007 // a text frame that is not UTF-8
	CloseMessageTooBig   = 1009 // what other protocols have for CloseTooLarge
	CloseInternalError   = 1011 // something failed on the server's side: come back after a while
	CloseServiceRestart  = 1012 // this node restarts: come back at once
	CloseTryAgainLater   = 1013 // this node takes no more connections: come back after a while
	CloseBadEvent        = 4400 // unknown event, payload against its schema, binary or malformed message
	CloseUnauthenticated = 4401 // no longer authenticated: come back with a new token
	CloseForbidden       = 4403
	CloseSlow            = 4408 // the reader did not keep up: come back at once
	CloseTooLarge        = 4413
	CloseTooFast         = 4429
)

// Conn is one connection, as a transport gives it to an [Acceptor].
//
// Its methods may be called from many goroutines.
// None of them blocks.
// None of them calls the [Receiver] before it returns.
type Conn interface {
	// Send queues f behind what was queued before and returns: frames arrive in the order of the calls.
	// A frame arrives whole, text as text and binary as binary.
	// A frame that Join made arrives as its messages, in their order.
	// f is shared and must not be changed: it may be sent on many connections.
	// After Close, or when the connection is broken, Send does nothing and returns an error of kind Unavailable.
	// A nil error does not say that the frame has arrived.
	Send(f *Frame) error
	// Queued returns the bytes that Send accepted and the operating system has not taken yet.
	Queued() int
	// Close sends what is queued, then a close frame with code and reason.
	// reason has at most 123 bytes of UTF-8.
	// Close cuts the connection when the peer has answered, or a stated time after the call at the latest.
	// Only the first call of Close counts.
	// Close does not wait.
	Close(code int, reason string)
}

// Receiver is what a transport feeds for one connection.
//
// A transport answers a ping by itself, by a pong with the same payload: no message is received.
// Of pings that come one after another, each of up to 16 is answered, in their order.
type Receiver interface {
	// Receive takes one whole message, in however many frames it came (RFC 6455 section 5.4).
	// binary says whether it is a binary message or a text.
	// The transport calls Receive for one message at a time, in the order in which they came.
	// The payload is the receiver's until Receive returns.
	// Receive does not block.
	Receive(payload []byte, binary bool)
	// Disconnected says that the connection is gone.
	// The transport calls Disconnected exactly once, after the last Receive, whoever closed the connection, and whatever the reason.
	Disconnected()
}

// Acceptor takes over connections: realtime.Hub, behind every transport.
type Acceptor interface {
	// Accept takes over an open connection, of which hello tells who is behind it and what subprotocol it speaks.
	// An error means that the connection was refused: then no Receiver method is called.
	// The transport answers an error by closing the connection as [Refusal] says: with the code of its kind, or 1012 for ErrDraining.
	Accept(conn Conn, hello Hello) (Receiver, error)
}

// Authenticator tells who is behind a connection that asks to be opened.
//
// It may be called from many goroutines.
type Authenticator interface {
	// Token returns who an access token speaks for, or an error of kind Unauthenticated.
	Token(ctx context.Context, token string) (user.Identity, error)
	// Ticket returns who a ticket speaks for, once, or an error of kind Unauthenticated.
	Ticket(ctx context.Context, ticket string) (user.Identity, error)
}
