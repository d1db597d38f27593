package socketio

import (
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

// Reason says why a socket was disconnected, in the words of the reference implementation, which clients
// and applications of it know.
type Reason string

// The reasons.
const (
	ClientDisconnect Reason = "client namespace disconnect" // the client left the namespace
	ServerDisconnect Reason = "server namespace disconnect" // [Socket.Disconnect] or [Socket.Close] was called
	ShuttingDown     Reason = "server shutting down"        // the server ended
	TransportClose   Reason = "transport close"             // the connection ended, or broke
	TransportError   Reason = "transport error"             // the client broke the rules of the transport, or does not read
	PingTimeout      Reason = "ping timeout"                // the client did not answer a ping in time
	ParseError       Reason = "parse error"                 // what came is not a packet
	ForcedClose      Reason = "forced server close"         // the client connected to no namespace in time
)

// reasons are those that a server may end a session for, with none before them.
var reasons = [...]Reason{"", ServerDisconnect, ParseError}

// What a socket is, under session.mu.
const (
	stateJoining uint8 = iota
	stateJoined
	stateLeft
)

// Socket is one client in one namespace. Its methods may be called from many goroutines. Only Call blocks.
type Socket struct {
	session  *session
	ns       *namespace
	id       string
	receiver socket.Receiver // of Namespace.Accept
	next     *Socket         // of the session, under session.mu
	state    uint8           // under session.mu
	told     bool            // that it is disconnected; under session.out

	gone bool // under mu
	mu   sync.Mutex
	held *holding // see holds
}

// holding is what a socket may hold, under Socket.mu. A socket that was taken over mostly holds nothing of it, and
// there are many of these.
type holding struct {
	auth    json.RawMessage
	value   any
	recover *Recovery // until the client is told
	rooms   []string
	busy    bool // a goroutine works on waiting
	waiting []job
	bytes   int // of waiting
	calls   map[uint64]*call
	called  uint64
}

// holds returns what the socket holds. s.mu is held.
func (s *Socket) holds() *holding {
	if s.held == nil {
		s.held = new(holding)
	}
	return s.held
}

type job struct {
	bytes int
	run   func(ctx context.Context)
}

// call waits for an ack.
type call struct {
	done chan struct{}
	args Args
	err  error
}

// ID returns the socket's identifier, which clients know as socket.id. It is also a room with this socket alone.
func (s *Socket) ID() string { return s.id }

// Namespace returns the name of the socket's namespace.
func (s *Socket) Namespace() string { return s.ns.name }

// Auth returns the object that the client gave when it connected, as JSON; nil if there was none, or if it is
// forgotten.
func (s *Socket) Auth() json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holds().auth
}

// Request returns what the handshake of the session said; nil once it is forgotten. It must not be changed.
func (s *Socket) Request() *Request { return s.session.conn.request() }

// Value returns what SetValue has kept.
func (s *Socket) Value() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holds().value
}

// SetValue keeps a value of the application's with the socket, such as who is behind it.
func (s *Socket) SetValue(v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds().value = v
}

// Recovery lets a client come back to where it was (connection state recovery of Socket.IO 4.6).
type Recovery struct {
	// PID is the private identifier that the client is given. When the client comes back, its auth has two fields: pid, and
	// offset, which is the last argument of the last event that it heard, if that is a string. A client that is given the PID
	// that it came with takes itself for recovered.
	PID string
	// ID is the socket's identifier: the same again for a client that is recovered. Default: a new one.
	ID string
	// Connected, if set, is called once the client is told that it is connected: what it has missed may be sent.
	Connected func()
}

// SetRecovery says how the client can come back, or that it did. It may be called from Namespace.Accept only.
func (s *Socket) SetRecovery(r Recovery) {
	if r.ID != "" {
		s.id = r.ID
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds().recover = &r
}

// recovered returns what SetRecovery was told, once.
func (s *Socket) recovered() *Recovery {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.holds()
	r := h.recover
	h.recover = nil
	return r
}

// forget drops what the client said of itself.
func (s *Socket) forget() {
	if s.session.core.cfg.Forget {
		s.mu.Lock()
		h := s.holds()
		h.auth = nil
		if s.receiver != nil && h.value == nil && h.called == 0 {
			s.held = nil // whoever has taken it over keeps what it needs; rooms and handlers are not for it
		}
		s.mu.Unlock()
		s.session.conn.forget()
	}
}

// Emit sends an event. Arguments become JSON; a []byte, by itself or in a []any or map[string]any, becomes
// an attachment. Errors: ErrReservedName, one of package json, and of kind Unavailable when the socket is
// disconnected. A nil error does not say that it has arrived.
func (s *Socket) Emit(event string, args ...any) error { return s.emit(false, event, args) }

// EmitVolatile is Emit for what is worth nothing later: it is dropped if something waits to be sent to the client.
func (s *Socket) EmitVolatile(event string, args ...any) error { return s.emit(true, event, args) }

func (s *Socket) emit(volatile bool, event string, args []any) error {
	frames, err := encodeEvent(packet.Packet{Type: packet.Event, Namespace: s.ns.name}, event, args)
	if err != nil {
		return err
	}
	return s.send(volatile, frames...)
}

// send sends the frames of one packet in one piece. A client that was told that it is disconnected hears nothing more.
func (s *Socket) send(volatile bool, frames ...*socket.Frame) error {
	s.mu.Lock()
	gone := s.gone
	s.mu.Unlock()
	if gone {
		return ErrDisconnected
	}
	s.session.out.Lock()
	defer s.session.out.Unlock()
	if s.told {
		return ErrDisconnected
	}
	if volatile && s.session.conn.Queued() > 0 {
		return nil
	}
	for _, f := range frames {
		if err := s.session.conn.Send(f); err != nil {
			return err
		}
	}
	return nil
}

// last sends the frame after which the client hears nothing more.
func (s *Socket) last(f *socket.Frame) error {
	s.session.out.Lock()
	defer s.session.out.Unlock()
	s.told = true
	return s.session.conn.Send(f)
}

// Call sends an event and waits for the client's ack, whose arguments it returns. It waits until ctx
// ends, or for Config.CallTimeout if that has no deadline. Errors are those of Emit, ErrManyCalls,
// ErrDisconnected, and the context's.
func (s *Socket) Call(ctx context.Context, event string, args ...any) (Args, error) {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.session.core.cfg.CallTimeout)
		defer cancel()
	}
	c := &call{done: make(chan struct{})}
	s.mu.Lock()
	if s.gone {
		s.mu.Unlock()
		return Args{}, ErrDisconnected
	}
	h := s.holds()
	if len(h.calls) >= s.session.core.cfg.MaxCalls {
		s.mu.Unlock()
		return Args{}, ErrManyCalls
	}
	id := h.called
	h.called++
	if h.calls == nil {
		h.calls = map[uint64]*call{}
	}
	h.calls[id] = c
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if delete(h.calls, id); len(h.calls) == 0 {
			h.calls = nil
		}
	}()
	frames, err := encodeEvent(packet.Packet{Type: packet.Event, Namespace: s.ns.name, ID: id, HasID: true}, event, args)
	if err == nil {
		err = s.send(false, frames...)
	}
	if err != nil {
		return Args{}, err
	}
	select {
	case <-c.done:
		return c.args, c.err
	case <-ctx.Done():
		return Args{}, ctx.Err()
	}
}

// answered takes the client's ack. One that nobody waits for is late.
func (s *Socket) answered(id uint64, args Args) {
	s.mu.Lock()
	h := s.holds()
	c := h.calls[id]
	delete(h.calls, id)
	s.mu.Unlock()
	if c != nil {
		c.args = args
		close(c.done)
	}
}

// Join puts the socket into rooms, until it leaves them or is disconnected.
func (s *Socket) Join(rooms ...string) { s.ns.join(s, rooms) }

// Leave takes the socket out of rooms.
func (s *Socket) Leave(rooms ...string) { s.ns.leave(s, rooms) }

// Rooms returns the rooms of the socket; those that it was in last when it is disconnected.
func (s *Socket) Rooms() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.holds().rooms)
}

// To returns a broadcast to all sockets in any of the rooms but this one.
func (s *Socket) To(rooms ...string) Broadcast { return Broadcast{ns: s.ns, but: s}.To(rooms...) }

// Broadcast returns a broadcast to all sockets of the namespace but this one.
func (s *Socket) Broadcast() Broadcast { return Broadcast{ns: s.ns, but: s} }

// Disconnect takes the client out of the namespace: it does not come back by itself. Its session goes on.
func (s *Socket) Disconnect() {
	s.session.mu.Lock()
	joined := s.state == stateJoined
	if joined {
		s.state = stateLeft
		_ = s.last(s.ns.disconnect) // it fails on a session that has ended
	}
	s.session.mu.Unlock()
	if joined {
		s.left(ServerDisconnect)
	}
}

// Close takes the client out of all namespaces, and ends its session: it does not come back by itself.
func (s *Socket) Close() { s.session.shut(ServerDisconnect, socket.CloseNormal, "") }

// leave ends the socket, once.
func (s *Socket) leave(why Reason) {
	s.session.mu.Lock()
	was := s.state
	s.state = stateLeft
	s.session.mu.Unlock()
	if was == stateJoined { // one that is joining is seen off by admit
		s.left(why)
	}
}

// left lets go of a socket that has just left.
func (s *Socket) left(why Reason) {
	if s.receiver != nil {
		s.receiver.Disconnected()
		return
	}
	s.ns.remove(s)
	s.mu.Lock()
	s.gone = true
	h := s.holds()
	for _, c := range h.calls {
		c.err = ErrDisconnected
		close(c.done)
	}
	h.calls, h.waiting, h.bytes = nil, nil, 0 // nobody is there any more to answer
	s.mu.Unlock()
	if s.ns.Disconnected != nil {
		s.enqueue(0, func(ctx context.Context) { s.ns.Disconnected(ctx, s, why) })
	}
}

// event queues an event for its handler.
func (s *Socket) event(p packet.Packet, attachments [][]byte) {
	size := len(p.Data)
	for _, a := range attachments {
		size += len(a)
	}
	all := packet.Elements(keep(p.Data, attachments))
	name := packet.Name(all[0])
	h := s.ns.Events[name]
	if h == nil {
		h = s.ns.Any
	}
	if h == nil {
		return
	}
	e := &Event{Socket: s, Name: name, Args: Args{raw: all[1:], attachments: attachments}, id: p.ID, asked: p.HasID}
	cfg := &s.session.core.cfg
	s.mu.Lock()
	held := s.holds()
	full := len(held.waiting) >= cfg.MaxWaiting || held.bytes > 0 && held.bytes+size > cfg.MaxWaitingBytes
	s.mu.Unlock()
	if full {
		s.session.shut(ServerDisconnect, socket.CloseTooFast, "too many events wait")
		return
	}
	s.enqueue(size, func(ctx context.Context) { h(ctx, e) })
}

// enqueue lets a goroutine run f after what was queued before.
func (s *Socket) enqueue(size int, f func(ctx context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.holds()
	h.waiting = append(h.waiting, job{size, f})
	h.bytes += size
	if !h.busy {
		// Where the server has stopped, nobody is told any more.
		h.busy = s.session.core.background(s.work)
	}
}

// work runs what waits until nothing does.
func (s *Socket) work(ctx context.Context) {
	for {
		s.mu.Lock()
		h := s.holds()
		if len(h.waiting) == 0 {
			h.busy, h.waiting = false, nil
			s.mu.Unlock()
			return
		}
		next := h.waiting[0]
		h.waiting[0] = job{}
		h.waiting = h.waiting[1:]
		s.mu.Unlock()
		err := s.session.core.guard("a handler", func() error { next.run(ctx); return nil })
		if err != nil {
			s.session.shut(ServerDisconnect, socket.CloseInternalError, "")
		}
		// What runs counts as waiting, so that the bound holds for all that is kept.
		s.mu.Lock()
		h.bytes = max(h.bytes-next.bytes, 0)
		s.mu.Unlock()
	}
}

// wire is a socket as the connection of whatever has taken it over.
type wire Socket

var _ socket.Conn = (*wire)(nil)

// Send queues a frame that holds a packet.
func (w *wire) Send(f *socket.Frame) error {
	s := w.session
	s.out.Lock()
	defer s.out.Unlock()
	if w.told {
		return ErrDisconnected
	}
	return s.conn.Send(f)
}

// Queued returns the bytes that wait.
func (w *wire) Queued() int { return w.session.conn.Queued() }

// Close ends the session.
func (w *wire) Close(code int, reason string) { w.session.shut(ServerDisconnect, code, reason) }

// Event is one event of a client.
type Event struct {
	Socket *Socket
	Name   string
	Args   Args

	id    uint64
	asked bool
	mu    sync.Mutex
	done  bool
}

// Asked reports whether the client waits for an ack.
func (e *Event) Asked() bool { return e.asked }

// Ack answers the event. Only the first call counts, and none if the client does not wait for it. Arguments and
// errors are as those of Emit. It may be called after the handler has returned.
func (e *Event) Ack(args ...any) error {
	e.mu.Lock()
	already := e.done || !e.asked
	e.done = true
	e.mu.Unlock()
	if already {
		return nil
	}
	frames, err := encode(packet.Packet{Type: packet.Ack, Namespace: e.Socket.ns.name, ID: e.id, HasID: true}, args)
	if err != nil {
		return err
	}
	return e.Socket.send(false, frames...)
}

// Args are the arguments of an event or an ack.
type Args struct {
	raw         []json.RawMessage
	attachments [][]byte
}

// Len returns how many arguments there are.
func (a Args) Len() int { return len(a.raw) }

// Raw returns an argument as JSON, in which objects stand for attachments; nil if there is none.
func (a Args) Raw(i int) json.RawMessage {
	if i < 0 || i >= len(a.raw) {
		return nil
	}
	return a.raw[i]
}

// Decode reads an argument into what v points to, as [json.Unmarshal] does; a *[]byte takes an attachment. Errors are of kind
// Invalid.
func (a Args) Decode(i int, v any) error {
	raw := a.Raw(i)
	if raw == nil {
		return errArgument.Detail("argument %d is missing", i)
	}
	if b, ok := v.(*[]byte); ok {
		attachment, ok := a.Attachment(raw)
		if !ok {
			return errArgument.Detail("argument %d is not binary", i)
		}
		*b = attachment
		return nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fault.Wrap(fault.Invalid, err)
	}
	return nil
}

var errArgument = fault.New(fault.Invalid, "bad_argument", "the argument is not what is expected")

// Attachment returns the attachment that a JSON value stands for: an argument, or a json.RawMessage within one.
func (a Args) Attachment(value json.RawMessage) ([]byte, bool) {
	i, ok := packet.Placeholder(value)
	if !ok || i >= len(a.attachments) {
		return nil, false
	}
	return a.attachments[i], true
}

// encodeEvent makes the frames of an event.
func encodeEvent(p packet.Packet, event string, args []any) ([]*socket.Frame, error) {
	if packet.Reserved(event) {
		return nil, ErrReservedName.Detail("%q", event)
	}
	return encode(p, append([]any{event}, args...))
}

// encode makes the frames of a packet: its text, and one for each attachment.
func encode(p packet.Packet, args []any) ([]*socket.Frame, error) {
	var b binaries
	taken := make([]any, len(args))
	for i := range args {
		taken[i] = b.take(args[i])
	}
	data, err := json.Marshal(taken)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, errors.Join(errArgument, err))
	}
	p.Data = data
	if len(b.all) > 0 {
		p.Attachments = len(b.all)
		p.Type += packet.BinaryEvent - packet.Event
	}
	frames := make([]*socket.Frame, 0, 1+len(b.all))
	frames = append(frames, frame(p))
	for _, a := range b.all {
		frames = append(frames, engineio.NewBinary(func(dst []byte) []byte { return append(dst, a...) }))
	}
	return frames, nil
}

// binaries collects the attachments of a packet.
type binaries struct{ all [][]byte }

// take returns v with placeholders for its attachments.
func (b *binaries) take(v any) any {
	switch v := v.(type) {
	case []byte:
		b.all = append(b.all, v)
		return json.RawMessage(packet.AppendPlaceholder(nil, len(b.all)-1))
	case []any:
		if !holdsBinary(v) {
			return v
		}
		out := make([]any, len(v))
		for i := range v {
			out[i] = b.take(v[i])
		}
		return out
	case map[string]any:
		if !holdsBinary(v) {
			return v
		}
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = b.take(v[k])
		}
		return out
	}
	return v
}

func holdsBinary(v any) bool {
	switch v := v.(type) {
	case []byte:
		return true
	case []any:
		return slices.ContainsFunc(v, holdsBinary)
	case map[string]any:
		for _, e := range v {
			if holdsBinary(e) {
				return true
			}
		}
	}
	return false
}
