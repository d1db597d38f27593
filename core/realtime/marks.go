package realtime

import (
	"context"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/user"
)

// marked tells all nodes how far somebody has read, unless the room is known to be too large for that, or delivery lags behind here. What is hidden has a kind of
// its own, which nodes that do not know of it tell nobody.
func (h *Hub) marked(m chat.Mark) {
	h.mu.RLock()
	here := h.rooms[m.Room]
	h.mu.RUnlock()
	if h.cfg.MarksUpTo < 0 || here != nil && (!here.tellsMarks() || here.crowded()) {
		return
	}
	kind := SignalMarked
	if m.Hidden {
		kind = SignalMarkedOwn
	}
	h.publish(context.Background(), Signal{Kind: kind, Room: m.Room, User: m.User, Read: m.Read})
}

// marked tells the audience how far somebody has read. Their other connections hear it too.
func (r *room) marked(s *Signal, to audience) {
	if r.tellsMarks() {
		r.broadcast(r.about(protocol.EventMarked, s.User, protocol.Data{"read": s.Read}), to)
	}
}

// settingsChanged tells the other nodes that a user has set something, and no more: each asks the store when it needs it.
func (h *Hub) settingsChanged(id user.ID) {
	h.publish(context.Background(), Signal{Kind: SignalSettings, Room: everyNode, User: chat.Author{ID: id}})
}

// tellsMarks reports whether the room is small enough for marks.
func (r *room) tellsMarks() bool {
	return r.announces(min(r.hub.cfg.MarksUpTo, r.hub.cfg.AnnounceUpTo))
}

// announces reports whether the room has at most so many users, at most AnnounceUpTo. The users of this node count by themselves: nobody may have said that they have
// joined, because there are too many of them, or because Presence is away.
func (r *room) announces(most int) bool {
	if int(r.here.Load()) > most {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.learned || r.told != nil && len(r.told) <= most
}
