package realtime

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/user"
)

// ErrRemoved tells somebody who was coming into a room that they were taken out of it meanwhile.
var ErrRemoved = fault.New(fault.Forbidden, "removed", "the user was taken out of the room")

// Remove takes a user out of a room: the membership ends, and nothing more of the room reaches the
// user's connections, on this node when Remove returns, and on the others as soon as they hear of it.
// Each of these connections gets the event membership with the role null. The connections stay open.
// Whether the user may come back is for chat.Config.Access to say: let it refuse first, then call
// Remove. Removing somebody who is not there is no error.
//
// It returns chat.ErrRoomInvalid, or an error of kind Unavailable: then other nodes may not have
// heard, and calling it again is harmless. It may be called from many goroutines.
func (h *Hub) Remove(ctx context.Context, room string, id user.ID) error {
	room, err := h.cfg.Chat.Resolve(ctx, room)
	if err != nil {
		return err
	}
	// First what the caller may rely on: no node delivers any more, whatever the store does.
	s := Signal{Kind: SignalRemoved, Room: room, User: chat.Author{ID: id}}
	if here := h.roomHere(room); here != nil {
		here.remove(s.User)
	}
	left := h.cfg.Chat.TakeOut(ctx, id, room)
	// After the membership has ended, so that whoever is coming in finds it gone or is found.
	published := h.cfg.Fanout.Publish(ctx, s)
	if err := errors.Join(left, published); err != nil {
		return fault.Wrap(fault.Unavailable, fmt.Errorf("realtime: remove a user from a room: %w", err))
	}
	return nil
}

// remove takes the connections of a user out of the room, and tells them. It does not wait for other nodes.
func (r *room) remove(who chat.Author) {
	out := r.own(who.ID)
	if !r.takeOut(out, membershipTaken) {
		return
	}
	f := frames{event: r.hub.membership(r.name, out[0].client.user, protocol.Data{"role": nil})}
	for _, o := range out {
		if o.wasRemoved() {
			o.client.tell(f.of(o.client))
		}
	}
}

// takeOut takes connections out of the room. It reports whether there were any. It does not wait for other nodes.
func (r *room) takeOut(all []*occupant, why removal) bool {
	var out []*occupant
	for _, o := range all {
		if r.hub.detach(o, why) {
			out = append(out, o)
		}
	}
	if len(out) == 0 {
		return false
	}
	// Telling other nodes may take a while. A hub that has stopped tells nobody: its lease ends.
	r.hub.background(func(ctx context.Context) {
		for _, o := range out {
			o.exited(ctx)
			r.release(ctx)
		}
	})
	return true
}

// askers is how many users are asked about at a time.
const askers = 8

// askAgain asks Access whether those who are in rooms of this node may still read them, and takes out
// who may not. Who cannot be asked about stays.
func (h *Hub) askAgain(ctx context.Context) {
	h.mu.RLock()
	rooms := make([]*room, 0, len(h.rooms))
	for _, r := range h.rooms {
		rooms = append(rooms, r)
	}
	h.mu.RUnlock()
	type question struct {
		room *room
		who  chat.Author
	}
	questions := make(chan question)
	var asking sync.WaitGroup
	for range askers {
		asking.Go(func() {
			for q := range questions {
				one, cancel := context.WithTimeout(ctx, h.cfg.CommandTimeout)
				err := h.cfg.Chat.May(one, q.who, chat.ActionRead, q.room.name)
				cancel()
				switch {
				case err == nil:
				case errors.Is(err, fault.Forbidden):
					q.room.remove(q.who)
				case ctx.Err() == nil:
					h.cfg.Log.Warn("access could not be asked again", "room", q.room.name, "user", q.who.ID, "error", err)
				}
			}
		})
	}
	for _, r := range rooms {
		asked := map[user.ID]struct{}{}
		r.each(func(o *occupant) {
			who := o.client.user
			if _, done := asked[who.ID]; done {
				return
			}
			asked[who.ID] = struct{}{}
			select {
			case questions <- question{r, who}:
			case <-ctx.Done():
			}
		})
	}
	close(questions)
	asking.Wait()
}
