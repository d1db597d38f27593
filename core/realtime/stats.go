package realtime

import "sync/atomic"

// Stats is what a [Hub] has, and has done since it was made.
type Stats struct {
	// Connections are open, by the subprotocol that names their wire format.
	Connections map[string]int
	// Accepted is how many were ever accepted.
	Accepted uint64
	// Closes is how many ended, by the code that the hub closed them with; 0 where it did not: the client went, the
	// network, or the transport gave up.
	Closes map[int]uint64
	// Events is how many events of clients were understood, by name.
	Events map[string]uint64
	// Deliveries counts messages times the connections that they were given to, and Writes the writes by which that was:
	// messages that wait for a connection share one.
	Deliveries, Writes uint64
	// Holes is how often a message was missing in the live stream of a room, and was read from the store.
	Holes uint64
	// RecoveryPages is how many pages were read for clients that came back.
	RecoveryPages uint64
	// Rooms is how many rooms have occupants: connections of this node that are in them.
	Rooms int
	// QueuedBytes is how many bytes wait for readers who do not keep up.
	QueuedBytes int
}

// counts are what Stats counts beside what hub.mu guards.
type counts struct {
	deliveries, writes, holes, pages atomic.Uint64
}

// Stats returns what the hub has and has done. It looks at every connection, and so is for who asks now and then. It
// may be called from many goroutines.
func (h *Hub) Stats() Stats {
	s := Stats{
		Connections: make(map[string]int, len(h.formats)), Closes: map[int]uint64{}, Events: make(map[string]uint64, len(h.handlers)),
		Deliveries: h.counts.deliveries.Load(), Writes: h.counts.writes.Load(), Holes: h.counts.holes.Load(), RecoveryPages: h.counts.pages.Load(),
	}
	for name, handler := range h.handlers {
		s.Events[name] = handler.seen.Load()
	}
	h.mu.RLock()
	for name, format := range h.byName {
		if name != "" {
			s.Connections[name] = h.open[format]
		}
	}
	s.Accepted, s.Rooms = h.accepted, len(h.rooms)
	for code, n := range h.closes {
		s.Closes[code] = n
	}
	open := make([]*client, 0, len(h.clients))
	for c := range h.clients {
		open = append(open, c)
	}
	h.mu.RUnlock()
	for _, c := range open {
		s.QueuedBytes += c.conn.Queued()
	}
	return s
}
