package socketio

import (
	"slices"
	"sync"

	"github.com/parley-chat/parley/adapters/socketio/packet"
	"github.com/parley-chat/parley/core/socket"
)

// namespace is a Namespace with its sockets.
type namespace struct {
	Namespace
	name       string
	disconnect *socket.Frame // tells a client that it was disconnected

	mu      sync.RWMutex
	sockets map[string]*Socket // by ID; without those that were taken over
	rooms   map[string]map[*Socket]struct{}
}

func newNamespace(name string, n Namespace) *namespace {
	return &namespace{
		Namespace: n, name: name, disconnect: frame(packet.Packet{Type: packet.Disconnect, Namespace: name}),
		sockets: map[string]*Socket{}, rooms: map[string]map[*Socket]struct{}{},
	}
}

// add takes a socket in, and calls tell, which tells its client so. An event that is sent to all after the client has
// heard it waits for the lock, and reaches the client.
func (n *namespace) add(s *Socket, tell func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sockets[s.id] = s
	tell()
}

// remove takes a socket out of the namespace and its rooms. The socket itself keeps their names.
func (n *namespace) remove(s *Socket) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.sockets, s.id)
	s.mu.Lock()
	rooms := s.holds().rooms
	s.mu.Unlock()
	for _, r := range rooms {
		n.out(s, r)
	}
}

// out takes a socket out of a room. n.mu is held.
func (n *namespace) out(s *Socket, room string) {
	if delete(n.rooms[room], s); len(n.rooms[room]) == 0 {
		delete(n.rooms, room)
	}
}

func (n *namespace) join(s *Socket, rooms []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sockets[s.id] != s {
		return // it is gone
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.holds()
	for _, r := range rooms {
		if slices.Contains(h.rooms, r) {
			continue
		}
		h.rooms = append(h.rooms, r)
		if n.rooms[r] == nil {
			n.rooms[r] = map[*Socket]struct{}{}
		}
		n.rooms[r][s] = struct{}{}
	}
}

func (n *namespace) leave(s *Socket, rooms []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.holds()
	for _, r := range rooms {
		if i := slices.Index(h.rooms, r); i >= 0 {
			h.rooms = slices.Delete(h.rooms, i, i+1)
			n.out(s, r)
		}
	}
}

// Broadcast addresses sockets of a namespace. Its methods return a changed copy, so that it can be kept and
// used again, from many goroutines.
type Broadcast struct {
	ns         *namespace
	to, except []string
	but        *Socket
	volatile   bool
}

// To adds rooms: whoever is in one of them is addressed, once. Without any, all sockets of the namespace
// are. The ID of a socket is a room with that socket alone.
func (b Broadcast) To(rooms ...string) Broadcast {
	b.to = append(slices.Clip(b.to), rooms...)
	return b
}

// Except leaves out whoever is in one of the rooms.
func (b Broadcast) Except(rooms ...string) Broadcast {
	b.except = append(slices.Clip(b.except), rooms...)
	return b
}

// Volatile leaves out clients to which something waits to be sent.
func (b Broadcast) Volatile() Broadcast {
	b.volatile = true
	return b
}

// Emit sends an event to all that are addressed. It is encoded once. Errors are those of [Socket.Emit] that do not
// depend on the receiver, and ErrNoNamespace.
func (b Broadcast) Emit(event string, args ...any) error {
	if b.ns == nil {
		return ErrNoNamespace
	}
	frames, err := encodeEvent(packet.Packet{Type: packet.Event, Namespace: b.ns.name}, event, args)
	if err != nil {
		return err
	}
	for _, s := range b.Sockets() {
		_ = s.send(b.volatile, frames...) // whoever is gone reports itself
	}
	return nil
}

// Disconnect disconnects all that are addressed from the namespace.
func (b Broadcast) Disconnect() {
	for _, s := range b.Sockets() {
		s.Disconnect()
	}
}

// Sockets returns the sockets that are addressed now, in no order.
func (b Broadcast) Sockets() []*Socket {
	if b.ns == nil {
		return nil
	}
	b.ns.mu.RLock()
	defer b.ns.mu.RUnlock()
	out := map[*Socket]struct{}{}
	b.ns.in(b.except, out)
	if b.but != nil {
		out[b.but] = struct{}{}
	}
	var all []*Socket
	add := func(s *Socket) {
		if _, skip := out[s]; !skip {
			all = append(all, s)
		}
	}
	switch len(b.to) {
	case 0:
		all = make([]*Socket, 0, len(b.ns.sockets))
		for _, s := range b.ns.sockets {
			add(s)
		}
	case 1:
		room := b.ns.rooms[b.to[0]]
		all = make([]*Socket, 0, len(room)+1)
		for s := range room {
			add(s)
		}
		if s := b.ns.sockets[b.to[0]]; s != nil {
			if _, twice := room[s]; !twice {
				add(s)
			}
		}
	default:
		in := map[*Socket]struct{}{}
		b.ns.in(b.to, in)
		for s := range in {
			add(s)
		}
	}
	return all
}

// in collects the sockets in any of the rooms. n.mu is held.
func (n *namespace) in(rooms []string, to map[*Socket]struct{}) {
	for _, r := range rooms {
		for s := range n.rooms[r] {
			to[s] = struct{}{}
		}
		if s := n.sockets[r]; s != nil {
			to[s] = struct{}{}
		}
	}
}
