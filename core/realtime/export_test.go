package realtime

import "github.com/parley-chat/parley/core/user"

// Leased reports whether users who come in now are entered into Presence at once, and not with the first renewal.
func (h *Hub) Leased() bool { return h.roster.held.Load() > h.roster.epoch.Load() }

// Hears reports whether the hub hears what is told every node.
func (h *Hub) Hears() bool { return h.rights.followed.Load() }

// Look has the rights of a user in a room read again.
func (h *Hub) Look(room string, id user.ID) { h.look(news{room: room, who: id}) }

// Waiting is how many changes of rights wait to be read.
func (h *Hub) Waiting() int {
	h.rights.mu.Lock()
	defer h.rights.mu.Unlock()
	return len(h.rights.waiting)
}
