package realtime

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/parley-chat/parley/core/chat"
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
	// Every says that every node is told by SignalMembership, too.
	Every bool `json:"every,omitempty"`
}

func restrictionOf(r chat.Restriction) restriction {
	told := restriction{Kind: string(r.Kind), By: string(r.By), Reason: r.Reason, At: r.At.UnixMicro()}
	if !r.Until.IsZero() {
		told.Until = r.Until.UnixMicro()
	}
	return told
}

func (told restriction) of(room string, id user.ID) chat.Restriction {
	r := chat.Restriction{
		Room: room, UserID: id, Kind: chat.RestrictionKind(told.Kind), By: user.ID(told.By), Reason: told.Reason, At: time.UnixMicro(told.At).UTC(),
	}
	if told.Until != 0 {
		r.Until = time.UnixMicro(told.Until).UTC()
	}
	return r
}

// restricted applies what was imposed or lifted here, and tells the other nodes. Those of before [SignalMembership] listen in the room only.
func (h *Hub) restricted(r chat.Restriction) {
	name := h.nameOf(r.UserID)
	h.restrict(r, name, true)
	h.tellNodes(news{room: r.Room, who: r.UserID, name: name, limits: &r})
	told := restrictionOf(r)
	told.Every = true
	data, err := json.Marshal(told)
	if err != nil { // it has strings and numbers only
		h.cfg.Log.Error("a restriction cannot be encoded", "error", err)
		return
	}
	h.publish(context.Background(), Signal{Kind: SignalRestricted, Room: r.Room, User: chat.Author{ID: r.UserID}, Data: string(data)})
}

// restricted applies what another node has told the room.
func (r *room) restricted(s *Signal) {
	h := r.hub
	var told restriction
	if err := json.Unmarshal([]byte(s.Data), &told); err != nil {
		h.cfg.Log.Error("a restriction from another node cannot be read", "room", r.name, "error", err)
		return
	}
	if s.Node == h.cfg.Node || told.Every && h.rights.followed.Load() {
		return // it was, or will be, heard otherwise
	}
	h.restrict(told.of(r.name, s.User.ID), s.User.Name, true)
}

// restrict applies a restriction to the connections of its user in the room, and has it told: if it was heard, or if nobody here knows of it. It reports whether a ban
// has taken out any.
func (h *Hub) restrict(of chat.Restriction, name string, heard bool) (out bool) {
	var own []*occupant
	here := h.roomHere(of.Room)
	if here != nil {
		own = here.own(of.UserID)
	}
	tell := heard
	switch of.Kind {
	case chat.Ban:
		inForce := of.InForce(h.cfg.Now())
		if out = inForce && here != nil && here.takeOut(own, membershipTaken); out {
			name = own[0].client.user.Name
		}
		tell = inForce && (heard || out)
	case chat.Mute:
		if len(own) > 0 || here.hasMuted(of.UserID) { // whoever comes in is told by the store; what was heard of them before must not stay
			known, changes := here.heed(of)
			tell = !known && (heard || changes && len(own) > 0) // nobody is told twice
		}
	default:
		return false
	}
	if tell {
		h.look(news{room: of.Room, who: of.UserID, name: name, heard: heard, limits: &of, out: out})
	}
	return out
}

// own returns the connections of a user in the room.
func (r *room) own(id user.ID) (own []*occupant) {
	for _, c := range r.hub.connections(id) {
		if o := c.occupantOf(r.name); o != nil {
			own = append(own, o)
		}
	}
	return own
}

// heed remembers a mute, also one that was lifted. It reports whether it knows that one, or a later one, and whether the user may speak now and could not before, or
// the other way round.
func (r *room) heed(mute chat.Restriction) (known, changes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.hub.cfg.Now()
	changes = mute.InForce(now)
	var mutes map[user.ID]chat.Restriction
	if all := r.mutes.Load(); all != nil {
		before, ok := (*all)[mute.UserID]
		if ok && !mute.At.After(before.At) {
			return true, false
		}
		changes = changes || ok && before.InForce(now)
		// What has ended is of use only as long as what came before it may still be under way.
		mutes = maps.Clone(*all)
		maps.DeleteFunc(mutes, func(_ user.ID, m chat.Restriction) bool {
			return !m.InForce(now) && m.At.Before(now.Add(-clocksDiffer))
		})
	} else {
		mutes = map[user.ID]chat.Restriction{}
	}
	mutes[mute.UserID] = mute
	r.mutes.Store(&mutes)
	return false, changes
}

// hasMuted reports whether this node remembers a mute of the user. The room may be nil.
func (r *room) hasMuted(id user.ID) bool {
	if r == nil {
		return false
	}
	mutes := r.mutes.Load()
	if mutes == nil {
		return false
	}
	_, known := (*mutes)[id]
	return known
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
		switch r.Kind {
		case chat.RoleNote:
			h.ask(chat.InRoom{Room: r.Room, UserID: r.UserID})
		case chat.RoomNote:
			h.look(news{room: r.Room})
		case chat.LeaveNote:
			h.askOf(r.UserID)
		case chat.SettingsNote:
			h.cfg.Chat.ForgetSettings(r.UserID)
		case chat.Ban:
			if !r.InForce(h.cfg.Now()) { // it has ended, and so has the membership
				h.ask(chat.InRoom{Room: r.Room, UserID: r.UserID})
			}
		}
		if !h.restrict(r, "", false) {
			return
		}
		// They had joined here again before the ban was heard.
		if err := h.cfg.Chat.TakeOut(ctx, r.UserID, r.Room); err != nil {
			h.cfg.Log.Warn("the membership of a banned user could not be ended", "room", r.Room, "user", r.UserID, "error", err)
		}
	})
	if err != nil {
		h.cfg.Log.Warn("restrictions could not be asked for", "error", err)
		return since
	}
	return began
}

// ask has the rights of a user read who is in a room here. A note of them may have been stored before they change: it asks each time that it is found.
func (h *Hub) ask(where chat.InRoom) {
	if here := h.roomHere(where.Room); here != nil && len(here.own(where.UserID)) > 0 {
		h.look(news{room: where.Room, who: where.UserID})
	}
}

// askOf has the rights of a user read in each room in which they are here.
func (h *Hub) askOf(id user.ID) {
	rooms := map[string]struct{}{}
	for _, c := range h.connections(id) {
		c.mu.Lock()
		for _, o := range c.rooms {
			rooms[o.room.name] = struct{}{}
		}
		c.mu.Unlock()
	}
	for _, room := range slices.Sorted(maps.Keys(rooms)) {
		h.look(news{room: room, who: id})
	}
}

func (h *Hub) roomHere(name string) *room {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.rooms[name]
}
