package realtime

import (
	"context"
	"encoding/json"
	"maps"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/user"
)

// clocksDiffer is by how much the clocks of nodes may differ for a node that has not heard of a restriction to find it in the store.
const clocksDiffer = time.Minute

// restriction is a chat.Restriction in the Data of a signal, between nodes. Times are in microseconds; an Until of 0 is none.
type restriction struct {
	Kind   string `json:"kind"`
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
	At     int64  `json:"at"`
	Until  int64  `json:"until,omitempty"`
}

// restricted applies what was imposed or lifted here, and tells the other nodes.
func (h *Hub) restricted(r chat.Restriction) {
	if here := h.roomHere(r.Room); here != nil {
		here.restrict(r)
	}
	told := restriction{Kind: string(r.Kind), By: string(r.By), Reason: r.Reason, At: r.At.UnixMicro()}
	if !r.Until.IsZero() {
		told.Until = r.Until.UnixMicro()
	}
	data, err := json.Marshal(told)
	if err != nil { // it has strings and numbers only
		h.cfg.Log.Error("a restriction cannot be encoded", "error", err)
		return
	}
	h.publish(context.Background(), Signal{Kind: SignalRestricted, Room: r.Room, User: chat.Author{ID: r.UserID}, Data: string(data)})
}

// restricted applies what another node has told.
func (r *room) restricted(s *Signal) {
	var told restriction
	if err := json.Unmarshal([]byte(s.Data), &told); err != nil {
		r.hub.cfg.Log.Error("a restriction from another node cannot be read", "room", r.name, "error", err)
		return
	}
	of := chat.Restriction{
		Room: r.name, UserID: s.User.ID, Kind: chat.RestrictionKind(told.Kind), By: user.ID(told.By), Reason: told.Reason, At: time.UnixMicro(told.At).UTC(),
	}
	if told.Until != 0 {
		of.Until = time.UnixMicro(told.Until).UTC()
	}
	r.restrict(of)
}

// restrict applies a restriction to the connections of its user in the room. It reports whether a ban has taken out any.
func (r *room) restrict(of chat.Restriction) (out bool) {
	inForce := of.InForce(r.hub.cfg.Now())
	switch of.Kind {
	case chat.Ban:
		return inForce && r.takeOut(of.UserID, protocol.Data{"role": nil, "by": string(of.By), "reason": of.Reason})
	case chat.Mute:
		own := r.own(of.UserID)
		if len(own) == 0 || !r.heed(of) {
			return false // whoever comes in is told by the store; nobody is told twice
		}
		news := protocol.Data{"role": "member", "by": string(of.By), "reason": of.Reason}
		if inForce {
			news["mutedUntil"] = of.End()
		}
		for _, o := range own {
			r.tellMembership(o, news)
		}
	}
	return false
}

// own returns the connections of a user in the room.
func (r *room) own(id user.ID) (own []*occupant) {
	r.each(func(o *occupant) {
		if o.client.user.ID == id {
			own = append(own, o)
		}
	})
	return own
}

// heed remembers a mute, also one that was lifted. It reports false if it knows that one, or a later one.
func (r *room) heed(mute chat.Restriction) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var mutes map[user.ID]chat.Restriction
	if known := r.mutes.Load(); known != nil {
		if before, ok := (*known)[mute.UserID]; ok && !mute.At.After(before.At) {
			return false
		}
		// What has ended is of use only as long as what came before it may still be under way.
		now := r.hub.cfg.Now()
		mutes = maps.Clone(*known)
		maps.DeleteFunc(mutes, func(_ user.ID, m chat.Restriction) bool {
			return !m.InForce(now) && m.At.Before(now.Add(-clocksDiffer))
		})
	} else {
		mutes = map[user.ID]chat.Restriction{}
	}
	mutes[mute.UserID] = mute
	r.mutes.Store(&mutes)
	return true
}

// maySpeak returns nil if the user is not muted, as far as this node has heard.
func (r *room) maySpeak(id user.ID) error {
	mutes := r.mutes.Load()
	if mutes == nil {
		return nil
	}
	if m, ok := (*mutes)[id]; ok && m.InForce(r.hub.cfg.Now()) {
		return m.Refusal()
	}
	return nil
}

// askRestrictions applies what was imposed and lifted since a time, whether this node has heard of it or not, and returns since when to ask next.
func (h *Hub) askRestrictions(ctx context.Context, since time.Time) time.Time {
	began := h.cfg.Now().Add(-clocksDiffer)
	ctx, cancel := context.WithTimeout(ctx, h.cfg.CommandTimeout)
	defer cancel()
	err := h.cfg.Chat.RestrictedSince(ctx, since, func(r chat.Restriction) {
		here := h.roomHere(r.Room)
		if here == nil || !here.restrict(r) {
			return
		}
		// They had joined here again before the ban was heard.
		if err := h.cfg.Chat.Leave(ctx, r.UserID, r.Room); err != nil {
			h.cfg.Log.Warn("the membership of a banned user could not be ended", "room", r.Room, "user", r.UserID, "error", err)
		}
	})
	if err != nil {
		h.cfg.Log.Warn("restrictions could not be asked for", "error", err)
		return since
	}
	return began
}

func (h *Hub) roomHere(name string) *room {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.rooms[name]
}
