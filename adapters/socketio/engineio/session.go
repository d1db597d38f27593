package engineio

import (
	"bytes"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
)

// Transport is how a session's packets travel.
type Transport string

// The transports.
const (
	Polling   Transport = "polling"   // HTTP long-polling
	WebSocket Transport = "websocket" // RFC 6455
)

// Reason says why a session ended, in the words of the reference implementation.
type Reason string

// The reasons.
const (
	TransportClose Reason = "transport close" // the client left, or its connection broke
	TransportError Reason = "transport error" // the client broke the rules of HTTP long-polling, or does not read
	ParseError     Reason = "parse error"     // what came is not a packet
	PingTimeout    Reason = "ping timeout"    // the client did not answer a ping in time
	ForcedClose    Reason = "forced close"    // Close was called
)

// errClosed is what Send returns after Close and on a session that has ended.
var errClosed = fault.New(fault.Unavailable, "connection_closed", "the connection is closed")

// What a session is.
const (
	stateOpen    uint8 = iota
	stateClosing       // Send takes nothing more, what comes is not delivered, what is queued may still go out
	stateClosed
)

// Session is one session, whatever transports it uses one after the other. It is a
// [socket.Conn]: its methods may be called from many goroutines, none blocks, and none calls the
// receiver before it returns.
//
// There are many, so it is kept small.
type Session struct {
	server *Server
	id     identifier

	// Under mu; they stand here since there is room for them.
	state    uint8
	awaiting bool  // a ping is not answered
	wanted   bool  // Keep was called
	reason   uint8 // of reasons

	receiver socket.Receiver // set before anything is delivered
	owner    uint64          // hash of what Config.Owner said at the handshake
	beat     deadline        // the next ping, or the end of the wait for its answer

	// receiving is held while the receiver is called, which keeps its calls apart where packets come over
	// two transports.
	receiving sync.Mutex

	mu      sync.Mutex
	ws      socket.Conn // nil while on polling
	polling *polling    // nil while on WebSocket
	opening *opening    // nil once nothing of it is kept
}

// opening is what an idle session does not need any more.
type opening struct {
	request *Request  // nil after Forget
	keep    *deadline // the wait for Keep, while it lasts
}

// reasons are those that a session may end for, with none before them.
var reasons = [...]Reason{"", TransportClose, TransportError, ParseError, PingTimeout, ForcedClose}

var _ socket.Conn = (*Session)(nil)

// ID returns the session's identifier, which is a secret of the session: whoever knows it may
// read and write.
func (s *Session) ID() string { return s.id.String() }

// Transport returns how packets travel now.
func (s *Session) Transport() Transport {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ws != nil {
		return WebSocket
	}
	return Polling
}

// Reason returns why the session ended; empty while it is open. It is known when the
// receiver's Disconnected is called.
func (s *Session) Reason() Reason {
	s.mu.Lock()
	defer s.mu.Unlock()
	return reasons[s.reason]
}

// Request returns what the handshake said, until [Session.Forget] is called, and nil after it.
// It must not be changed.
func (s *Session) Request() *Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opening == nil {
		return nil
	}
	return s.opening.request
}

// Forget drops what the handshake said, which is most of what an idle session holds.
func (s *Session) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opening != nil {
		s.opening.request = nil
		s.opened()
	}
}

// Keep ends the wait of Config.ConnectTimeout: the application wants the session.
func (s *Session) Keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = true
	s.kept()
}

func (s *Session) kept() {
	if s.opening != nil && s.opening.keep != nil {
		s.server.clock.stop(s.opening.keep)
		s.opening.keep = nil
		s.opened()
	}
}

// opened drops what is empty. s.mu is held.
func (s *Session) opened() {
	if *s.opening == (opening{}) {
		s.opening = nil
	}
}

// Send queues f, which is a text frame that begins with the type of a packet, as [NewMessage]
// makes it, or a binary frame; see [socket.Conn]. On WebSocket the frame goes out as it is. Whoever
// has more than Config.MaxQueued bytes waiting is closed.
func (s *Session) Send(f *socket.Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != stateOpen {
		return errClosed
	}
	if s.ws != nil {
		if s.ws.Queued()+f.Len() > s.server.cfg.MaxQueued {
			s.end(TransportError, socket.CloseSlow, "")
			return errClosed
		}
		return s.ws.Send(f)
	}
	for m := range f.Messages() {
		if !m.Binary() && bytes.IndexByte(m.Payload(), separator) >= 0 {
			return fault.Wrap(fault.Invalid, errSeparator)
		}
	}
	if s.polling.bytes+f.Len() > s.server.cfg.MaxQueued {
		s.abort(TransportError, socket.CloseSlow, closeFrame)
		return errClosed
	}
	for m := range f.Messages() {
		s.polling.push(m)
	}
	return nil
}

// Queued returns the bytes that Send accepted and the operating system has not taken yet.
func (s *Session) Queued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ws != nil:
		return s.ws.Queued()
	case s.polling != nil:
		return s.polling.bytes
	default:
		return 0
	}
}

// Close ends the session after what is queued; see [socket.Conn]. On WebSocket the close frame
// has code and reason. On polling the client gets the packet that closes, with its present or next
// poll, for which the session waits Config.CloseTimeout.
func (s *Session) Close(code int, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(ForcedClose, code, reason)
}

// end lets out what is queued, and ends the session. s.mu is held.
func (s *Session) end(why Reason, code int, text string) {
	if s.state != stateOpen {
		return
	}
	s.close(why)
	if s.ws != nil {
		s.ws.Close(code, text) // it says when it is gone
		return
	}
	p := s.polling
	if p.probe != nil && !p.probe.asked { // a client whose probe is answered polls no more: it is told once it has moved
		p.drop(code, text)
	}
	p.code, p.text = code, text
	p.push(closeFrame)
	p.farewell = time.AfterFunc(s.server.cfg.CloseTimeout, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.polling == p {
			s.gone()
		}
	})
}

// abort ends the session at once. A poll that waits is answered with last. s.mu is held.
func (s *Session) abort(why Reason, code int, last *socket.Frame) {
	if s.state == stateClosed {
		return
	}
	s.close(why)
	if s.ws != nil {
		s.ws.Close(code, "")
		return
	}
	s.polling.drop(code, "")
	s.polling.answer(last)
	s.gone()
}

// close notes the first reason, and stops what happens by itself. s.mu is held.
func (s *Session) close(why Reason) {
	if s.state != stateOpen {
		return
	}
	s.state, s.reason = stateClosing, uint8(slices.Index(reasons[:], why)) //nolint:gosec // it is one of them
	s.server.clock.stop(&s.beat)
	s.kept()
}

// gone sees off a session on polling. s.mu is held.
func (s *Session) gone() {
	if s.state == stateClosed {
		return
	}
	s.state = stateClosed
	if s.polling.farewell != nil {
		s.polling.farewell.Stop()
	}
	s.polling.queue = nil
	s.polling.drop(s.polling.code, s.polling.text)
	go s.disconnected() // whoever called Close may be inside the receiver
}

// disconnected tells the receiver, once, and gives up the session's place.
func (s *Session) disconnected() {
	s.server.remove(s)
	defer s.server.release()
	s.receiving.Lock()
	defer s.receiving.Unlock()
	defer func() {
		if r := recover(); r != nil {
			s.panicked(r)
		}
	}()
	s.receiver.Disconnected()
}

func (s *Session) panicked(r any) {
	s.server.cfg.Log.Error("a receiver panicked", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
}

// ping is called when a ping is due.
func (s *Session) ping(at time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != stateOpen {
		return
	}
	s.awaiting = true
	clock, timeout := s.server.clock, s.server.cfg.PingTimeout
	// A server that was late does not make its clients pay for it.
	clock.set(&s.beat, linePong, max(at+timeout, clock.now()+timeout/2))
	if s.ws != nil {
		_ = s.ws.Send(pingFrame) // it fails on a connection that has ended, which is about to be told
		return
	}
	s.polling.push(pingFrame)
}

// silent is called when the answer to a ping is missing.
func (s *Session) silent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.awaiting {
		s.abort(PingTimeout, socket.CloseSlow, closeFrame)
	}
}

// pong takes the answer to a ping.
func (s *Session) pong() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != stateOpen || !s.awaiting {
		return
	}
	s.awaiting = false
	clock := s.server.clock
	clock.set(&s.beat, linePing, clock.now()+s.server.cfg.PingInterval)
}

// overdue ends a session whose time is over, when somebody asks before the clock has come to it.
// s.mu is held.
func (s *Session) overdue() {
	if s.state == stateOpen && s.awaiting && s.server.clock.overdue(&s.beat) {
		s.abort(PingTimeout, socket.CloseSlow, closeFrame)
	}
}

// unwanted is called when the application has not called Keep in time.
func (s *Session) unwanted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opening != nil && s.opening.keep != nil {
		s.end(ForcedClose, socket.CloseUnauthenticated, "")
	}
}

// errEnded says that the session ended before a packet was taken.
var errEnded = errors.New("engineio: the session has ended")

// take handles one packet, or that what came is none. s.receiving is held, so that packets are taken
// one after the other.
func (s *Session) take(p packet, err error) error {
	switch p.kind {
	case packetOpen, packetPing, packetUpgrade:
		err = errPacket // the server opens and pings, and an upgrade begins with a probe
	}
	s.mu.Lock()
	open := s.state == stateOpen
	switch {
	case !open:
		err = errEnded
	case err != nil:
		s.abort(ParseError, socket.CloseBadEvent, closeFrame)
	case p.kind == packetClose:
		s.abort(TransportClose, socket.CloseNormal, noopFrame)
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	switch p.kind {
	case packetMessage:
		s.receiver.Receive(p.data, p.binary)
	case packetPong:
		s.pong()
	}
	return nil
}

// wire is a session as the receiver of its WebSocket connection.
type wire Session

var _ socket.Receiver = (*wire)(nil)

// Receive takes one packet.
func (w *wire) Receive(payload []byte, binary bool) {
	s := (*Session)(w)
	s.receiving.Lock()
	defer s.receiving.Unlock()
	if binary {
		_ = s.take(packet{kind: packetMessage, binary: true, data: payload}, nil)
		return
	}
	_ = s.take(parsePacket(payload)) // it has closed what breaks the rules
}

// Disconnected sees off a session on WebSocket.
func (w *wire) Disconnected() {
	s := (*Session)(w)
	s.mu.Lock()
	s.close(TransportClose)
	s.state = stateClosed
	s.mu.Unlock()
	s.disconnected()
}
