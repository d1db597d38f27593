package realtime

import (
	"context"
	"maps"
	"slices"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// A signal that says who has joined or left may be lost: the server was away, or this node did not hear it for a while. So each node
// remembers who is present as far as the occupants here were told. It compares that with Presence each time that it compares
// the room. It tells the occupants here what they missed. It publishes nothing, since other nodes may have heard the signal.

const (
	// joinedAfter is for how many renewals Presence has somebody before the occupants here are told that they have joined: their own
	// node has had the time to say so.
	joinedAfter = checkEvery
	// leftAfter is for how many renewals somebody is missed in Presence before the occupants here are told that they have left. It
	// is longer than Presence takes to be right after it lost what it had, and than the end of a dead node takes to be told.
	leftAfter = 2 * checkEvery
	// mendedFor is for how many renewals a signal of what the occupants were told because it was missed is taken for one that
	// comes late: a node that could not reach Presence says it when it can.
	mendedFor = 10 * leftAfter
)

// rumours is who is present as far as the occupants here were told. All of it is under the room's mu.
type rumours struct {
	learned bool                    // told is known, or the room was too large for it
	told    map[user.ID]chat.Author // nil where the room is so large that nobody is told
	doubts  map[user.ID]doubt       // what differed from Presence when it was last looked at
	mended  map[user.ID]doubt       // what the occupants were told because it was missed, and when
	listing int                     // looks under way
	changes []Signal                // what was told while they are
}

// doubt is that Presence says otherwise than the occupants were told.
type doubt struct {
	there bool  // it says that they are present
	since int64 // the tick when it was noticed
}

// signalMissed is a signal of the room to itself: what its occupants missed, joined if Typing is set, or else left.
const signalMissed SignalKind = 255

// note remembers what the occupants are told. It returns false for what they were told just now because it was missed: it comes late.
func (r *room) note(s *Signal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m, ok := r.mended[s.User.ID]; ok {
		delete(r.mended, s.User.ID)
		if m.there == (s.Kind == SignalJoined) && r.hub.roster.tick.Load()-m.since <= mendedFor {
			return false
		}
	}
	r.keep(s)
	return true
}

// noteMissed makes a signal of what was missed, and remembers it.
func (r *room) noteMissed(s *Signal) {
	there := s.Typing
	if s.Kind, s.Typing = SignalLeft, false; there {
		s.Kind = SignalJoined
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mended == nil {
		r.mended = map[user.ID]doubt{}
	}
	tick := r.hub.roster.tick.Load()
	maps.DeleteFunc(r.mended, func(_ user.ID, m doubt) bool { return tick-m.since > mendedFor })
	r.mended[s.User.ID] = doubt{there, tick}
	r.keep(s)
}

// keep changes what the occupants were told, under mu.
func (r *room) keep(s *Signal) {
	if r.listing > 0 {
		r.changes = append(r.changes, Signal{Kind: s.Kind, User: s.User})
	}
	if r.told != nil {
		change(r.told, s)
	}
}

func change(who map[user.ID]chat.Author, s *Signal) {
	if s.Kind == SignalJoined {
		who[s.User.ID] = s.User
	} else {
		delete(who, s.User.ID)
	}
}

// learn makes the first occupant's view of the room what Presence has, or nobody where it is away.
func (r *room) learn(ctx context.Context, away bool) {
	r.mu.Lock()
	learned := r.learned
	if away && !learned {
		r.learned, r.told = true, map[user.ID]chat.Author{}
	}
	r.mu.Unlock()
	if !away && !learned {
		r.look(ctx)
	}
}

// look compares what the occupants were told with what Presence has, and returns what they missed.
func (r *room) look(ctx context.Context) (missed []Signal) {
	h := r.hub
	r.mu.Lock()
	r.listing++
	from := len(r.changes)
	r.mu.Unlock()
	users, count, err := h.cfg.Presence.List(ctx, h.cfg.Now(), r.name, h.cfg.AnnounceUpTo)
	r.mu.Lock()
	defer r.mu.Unlock()
	changes := r.changes[min(from, len(r.changes)):]
	if r.listing--; r.listing == 0 {
		r.changes = nil
	}
	switch {
	case err != nil:
		if !r.learned {
			r.learned, r.told = true, map[user.ID]chat.Author{}
		}
		return nil
	case count > h.cfg.AnnounceUpTo:
		r.learned, r.told, r.doubts = true, nil, nil
		return nil
	}
	there := make(map[user.ID]chat.Author, len(users))
	for _, who := range users {
		there[who.ID] = who
	}
	for i := range changes { // neither the list nor they need be the later ones: both have them now
		change(there, &changes[i])
	}
	if r.told == nil {
		r.learned, r.told = true, there
		return nil
	}
	tick := h.roster.tick.Load()
	doubts := map[user.ID]doubt{}
	// differs notes a difference, and reports whether it has lasted.
	differs := func(id user.ID, isThere bool, lasts int64) bool {
		d, known := r.doubts[id]
		if !known || d.there != isThere {
			d = doubt{isThere, tick}
		}
		doubts[id] = d
		return tick-d.since >= lasts
	}
	for id, who := range there {
		if _, told := r.told[id]; !told && differs(id, true, joinedAfter) {
			missed = append(missed, Signal{Kind: signalMissed, Typing: true, User: who})
		}
	}
	for id, who := range r.told {
		if _, is := there[id]; !is && differs(id, false, leftAfter) {
			missed = append(missed, Signal{Kind: signalMissed, User: who})
		}
	}
	r.doubts = doubts
	slices.SortFunc(missed, func(a, b Signal) int { return byUser(a.User, b.User) })
	return missed
}

// catchUp tells the occupants here what they missed.
func (r *room) catchUp(ctx context.Context) {
	missed := r.look(ctx)
	r.mu.Lock()
	if len(r.doubts) > 0 {
		r.checked.Store(-1) // with the next renewal again
	}
	r.mu.Unlock()
	if len(missed) == 0 {
		return
	}
	r.presence.Lock()
	defer r.presence.Unlock()
	for _, s := range missed {
		if !s.Typing && r.users[s.User.ID] > 0 {
			continue // they have come in here meanwhile
		}
		s.Room, s.Node = r.name, r.hub.cfg.Node
		r.enqueue(s)
	}
}
