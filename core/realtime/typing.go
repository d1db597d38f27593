package realtime

import (
	"slices"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/user"
)

// typist is a user who types, or lately did.
type typist struct {
	user  chat.Author
	until time.Time // occupants here believe that they type until then; zero if not
	shown time.Time // when occupants were last told
	sent  time.Time // when a connection of this node last said that they type
	last  bool      // what it said last
}

// mayType applies the rate of typing events of a user in the room.
func (r *room) mayType(who chat.Author, typing bool) bool {
	now := r.hub.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.typist(who)
	if typing {
		if now.Sub(t.sent) < r.hub.cfg.TypingEvery {
			return false
		}
		t.sent = now
	} else if !t.last {
		return false
	}
	t.last = typing
	return true
}

func (r *room) typist(who chat.Author) *typist {
	t := r.typing[who.ID]
	if t == nil {
		if r.typing == nil {
			r.typing = map[user.ID]*typist{}
		}
		t = &typist{user: who}
		r.typing[who.ID] = t
		r.types.Store(true)
	}
	return t
}

// typed notes that somebody types or has stopped, and tells the occupants where they do not know.
func (r *room) typed(who chat.Author, typing bool) {
	now := r.hub.cfg.Now()
	r.mu.Lock()
	var tell bool
	if typing {
		t := r.typist(who)
		t.until = now.Add(r.hub.cfg.TypingTTL)
		if tell = now.Sub(t.shown) >= r.hub.cfg.TypingTTL/2; tell {
			t.shown = now
		}
	} else if t := r.typing[who.ID]; t != nil && !t.until.IsZero() {
		t.until, t.shown, t.last = time.Time{}, time.Time{}, false
		tell = true
	}
	r.mu.Unlock()
	if tell {
		r.tell(protocol.EventTyping, who, protocol.Data{"typing": typing})
	}
}

// expireTyping tells the occupants who has stopped without saying so.
func (r *room) expireTyping(now time.Time) {
	var stopped []chat.Author
	r.mu.Lock()
	for id, t := range r.typing {
		switch {
		case !t.until.IsZero() && now.After(t.until):
			t.until, t.shown, t.last = time.Time{}, time.Time{}, false
			stopped = append(stopped, t.user)
		case t.last && now.Sub(t.sent) < r.hub.cfg.TypingTTL:
			// What it said may still be under way: its end must find it here.
		case t.until.IsZero() && now.Sub(t.sent) >= r.hub.cfg.TypingEvery:
			delete(r.typing, id)
		}
	}
	r.types.Store(len(r.typing) > 0)
	r.mu.Unlock()
	slices.SortFunc(stopped, byUser)
	for _, who := range stopped {
		r.tell(protocol.EventTyping, who, protocol.Data{"typing": false})
	}
}
