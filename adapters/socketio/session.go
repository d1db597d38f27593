package socketio

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"github.com/parley-chat/parley/adapters/socketio/engineio"
	"github.com/parley-chat/parley/adapters/socketio/packet"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
)

// carrier is a session of Engine.IO, as far as sockets need it.
type carrier interface {
	socket.Conn
	// request is what the handshake said, nil after forget.
	request() *Request
	forget()
	// keep says that the session is connected to a namespace.
	keep()
	// why is the reason for which the session ended, in the words of Engine.IO.
	why() Reason
}

// session is one session with its sockets: one for each namespace that its client is connected to. It is
// the [socket.Receiver] of the session. There are many, so it is kept small.
type session struct {
	core *core
	conn carrier

	// out is held over the frames of one packet, so that nothing comes between them.
	out sync.Mutex

	// partial is a packet whose attachments have not all come. Only Receive uses it.
	partial *partial

	mu      sync.Mutex
	first   *Socket // those that are left at the server's word included: what the client sent before it knew is ignored
	refused int32   // by namespaces
	ended   uint8   // of reasons: why the server ends the session, if it does
	gone    bool
}

type partial struct {
	packet      packet.Packet
	attachments [][]byte
	bytes       int
}

// Receive takes one message of the session.
func (s *session) Receive(payload []byte, binary bool) {
	switch part := s.partial; {
	case binary && part == nil:
		s.bad("an attachment without its packet")
	case binary:
		if part.bytes += len(payload); part.bytes > s.core.cfg.MaxPacket {
			s.shut(ParseError, socket.CloseTooLarge, "the attachments are too large")
			return
		}
		part.attachments = append(part.attachments, bytes.Clone(payload))
		if len(part.attachments) == part.packet.Attachments {
			s.partial = nil
			s.take(part.packet, part.attachments, nil)
		}
	case part != nil:
		s.bad("attachments are missing")
	case len(payload) > s.core.cfg.MaxPacket:
		s.shut(ParseError, socket.CloseTooLarge, "the packet is too large")
	default:
		p, err := s.core.cfg.Limits.Parse(payload)
		if err != nil {
			s.bad("it is not a packet")
			return
		}
		if p.Attachments > 0 {
			p.Data = bytes.Clone(p.Data)
			s.partial = &partial{packet: p, bytes: len(payload)}
			return
		}
		s.take(p, nil, payload)
	}
}

// bad ends a session that breaks the protocol.
func (s *session) bad(reason string) { s.shut(ParseError, socket.CloseBadEvent, reason) }

// shut ends the session. Clients do not come back by themselves from what they are disconnected from, and do
// when the session just ends.
func (s *session) shut(why Reason, code int, reason string) {
	s.mu.Lock()
	if s.ended == 0 {
		s.ended = uint8(slices.Index(reasons[:], why)) //nolint:gosec // it is one of them
	}
	var tell []*Socket
	if !returns(code) && why != ParseError {
		for sock := s.first; sock != nil; sock = sock.next {
			if sock.state == stateJoined {
				tell = append(tell, sock)
			}
		}
	}
	s.mu.Unlock()
	for _, sock := range tell {
		_ = sock.last(sock.ns.disconnect) // it fails on a session that has ended
	}
	s.conn.Close(code, socket.CloseReason(reason))
}

// returns reports whether a client may come back by itself after a session was closed with code.
func returns(code int) bool {
	switch code {
	case socket.CloseGoingAway, socket.CloseServiceRestart, socket.CloseTryAgainLater, socket.CloseInternalError, socket.CloseSlow:
		return true
	}
	return false
}

// take handles one packet with its attachments. raw is the whole packet if it has none.
func (s *session) take(p packet.Packet, attachments [][]byte, raw []byte) {
	switch p.Type {
	case packet.Connect:
		s.connect(p)
		return
	case packet.ConnectError:
		s.bad("only the server refuses a connection")
		return
	}
	s.mu.Lock()
	sock := s.find(p.Namespace)
	state := stateLeft
	if sock != nil {
		state = sock.state
	}
	s.mu.Unlock()
	switch {
	case sock == nil, state == stateJoining:
		s.bad("the namespace is not connected")
	case state == stateLeft: // the client did not know yet
	case p.Type == packet.Disconnect:
		s.mu.Lock()
		s.drop(sock)
		s.mu.Unlock()
		sock.leave(ClientDisconnect)
	case p.Type == packet.Ack || p.Type == packet.BinaryAck:
		sock.answered(p.ID, Args{raw: packet.Elements(keep(p.Data, attachments)), attachments: attachments})
	case sock.receiver != nil:
		if attachments != nil {
			s.shut(ServerDisconnect, socket.CloseBadEvent, "attachments are not part of the protocol")
			return
		}
		sock.receiver.Receive(raw, false)
	default:
		sock.event(p, attachments)
	}
}

// keep returns data that outlives Receive: that of a packet with attachments does already.
func keep(data []byte, attachments [][]byte) []byte {
	if attachments != nil {
		return data
	}
	return bytes.Clone(data)
}

// find returns the socket of a namespace, or nil. s.mu is held.
func (s *session) find(namespace string) *Socket {
	for sock := s.first; sock != nil; sock = sock.next {
		if sock.ns.name == namespace {
			return sock
		}
	}
	return nil
}

// add makes a socket the last one. s.mu is held.
func (s *session) add(sock *Socket) {
	at := &s.first
	for *at != nil {
		at = &(*at).next
	}
	*at = sock
}

// drop forgets a socket. s.mu is held.
func (s *session) drop(sock *Socket) {
	for at := &s.first; *at != nil; at = &(*at).next {
		if *at == sock {
			*at, sock.next = sock.next, nil
			return
		}
	}
}

// connect makes a socket, which its namespace then decides about.
func (s *session) connect(p packet.Packet) {
	ns := s.core.namespaces[p.Namespace]
	if ns == nil {
		s.refuse(p.Namespace, &ConnectError{Message: "Invalid namespace"})
		return
	}
	sock := &Socket{session: s, ns: ns, id: newID(), held: &holding{auth: bytes.Clone(p.Data)}}
	s.mu.Lock()
	old := s.find(ns.name)
	if old != nil && old.state != stateLeft {
		s.mu.Unlock()
		s.bad("the namespace is connected")
		return
	}
	s.drop(old)
	s.add(sock)
	s.mu.Unlock()
	if !s.core.background(func(ctx context.Context) { s.admit(ctx, sock) }) {
		s.conn.Close(socket.CloseServiceRestart, "")
	}
}

// admit asks the namespace about a socket, and answers the client.
func (s *session) admit(ctx context.Context, sock *Socket) {
	asking, cancel := context.WithTimeout(ctx, s.core.cfg.ConnectTimeout)
	defer cancel()
	var receiver socket.Receiver
	err := s.core.guard("a middleware", func() (err error) {
		for _, m := range sock.ns.Use {
			if err := m(asking, sock); err != nil {
				return err
			}
		}
		if sock.ns.Accept != nil {
			receiver, err = sock.ns.Accept(sock, (*wire)(sock))
		}
		return err
	})
	if err != nil {
		s.mu.Lock()
		s.drop(sock)
		s.mu.Unlock()
		s.refuse(sock.ns.name, err)
		return
	}
	s.mu.Lock()
	if s.gone || sock.state != stateJoining {
		s.mu.Unlock()
		if receiver != nil {
			receiver.Disconnected()
		}
		return
	}
	sock.state, sock.receiver = stateJoined, receiver
	recovery := sock.recovered()
	data := packet.AppendText([]byte(`{"sid":`), sock.id)
	if recovery != nil {
		data = packet.AppendText(append(data, `,"pid":`...), recovery.PID)
	}
	// Under the lock, so that nothing that the socket is told can overtake it.
	tell := func() {
		_ = s.send(frame(packet.Packet{Type: packet.Connect, Namespace: sock.ns.name, Data: append(data, '}')}))
	}
	s.conn.keep()
	if receiver == nil {
		sock.ns.add(sock, tell)
		sock.enqueue(0, func(ctx context.Context) {
			if sock.ns.Connected != nil {
				sock.ns.Connected(ctx, sock)
			}
			sock.forget()
		})
	} else {
		tell()
		sock.forget()
	}
	s.mu.Unlock()
	if recovery != nil && recovery.Connected != nil {
		recovery.Connected()
	}
}

// refuse tells the client that a namespace does not want it.
func (s *session) refuse(namespace string, err error) {
	var refusal *ConnectError
	if !errors.As(err, &refusal) {
		p := fault.Public(err)
		if p.Kind == fault.Unavailable {
			s.conn.Close(socket.Refusal(err))
			return
		}
		refusal = &ConnectError{Message: p.Title, Data: map[string]string{"code": p.Code}}
	}
	data, err := json.Marshal(struct {
		Message string `json:"message"`
		Data    any    `json:"data,omitempty"`
	}{refusal.Message, refusal.Data})
	if err != nil {
		s.core.cfg.Log.Error("socketio: the data of a ConnectError is no JSON", "error", err)
		data = []byte(`{"message":"refused"}`)
	}
	_ = s.send(frame(packet.Packet{Type: packet.ConnectError, Namespace: namespace, Data: data}))
	s.mu.Lock()
	s.refused++
	many := int(s.refused) >= s.core.cfg.MaxRefused
	s.mu.Unlock()
	if many {
		s.shut(ServerDisconnect, socket.CloseTooFast, "refused too often")
	}
}

// send sends a packet of the session itself.
func (s *session) send(f *socket.Frame) error {
	s.out.Lock()
	defer s.out.Unlock()
	return s.conn.Send(f)
}

// Disconnected says that the session is gone.
func (s *session) Disconnected() {
	s.mu.Lock()
	s.gone = true
	var why Reason
	if s.ended != 0 {
		why = reasons[s.ended]
	} else if why = s.conn.why(); why == Reason(engineio.ForcedClose) {
		if why = ForcedClose; s.core.ending.Load() {
			why = ShuttingDown
		}
	}
	var sockets []*Socket
	for sock := s.first; sock != nil; sock = sock.next {
		sockets = append(sockets, sock)
	}
	s.first = nil
	s.mu.Unlock()
	for _, sock := range sockets {
		sock.leave(why)
	}
}

// frame makes the frame of a packet without attachments.
func frame(p packet.Packet) *socket.Frame {
	return engineio.NewMessage(func(b []byte) []byte { return packet.Append(b, p) })
}
