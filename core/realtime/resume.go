package realtime

import (
	"context"
	"slices"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/socket"
)

// ErrNotResumed says that a client cannot go on where it was, and has to join its rooms anew.
var ErrNotResumed = fault.New(fault.NotFound, "not_resumed", "the client cannot go on where it was")

// Place is where a client stands in a room: it has every message up to Seq.
type Place struct {
	Room string
	Seq  uint64
}

// resumed is one room of a client that goes on where it was.
type resumed struct {
	occupant *occupant
	at       uint64 // the client has everything up to here
}

// Resume puts a connection back into the rooms in which its client was, on whatever node. A place says up to
// where the client has the messages of a room. receiver is what Accept returned for the connection, which
// has just been accepted and is in no room.
//
// Resume checks everything that may be refused, and sends nothing. It returns a function that is to be called
// once. That function reads what the client has missed from the store, and sends it as events, in pages that wait for the
// client to read. Live messages follow. Until that is done, commands of the client wait.
//
// It returns ErrNotResumed unless the user is still a member of every room, chat.Config.Access allows to join it, and
// the store has every message after the place. Other errors are ErrTooManyRooms, and of kind Unavailable when it
// cannot be known. After an error the connection is in no room, and serves as before.
func (h *Hub) Resume(ctx context.Context, receiver socket.Receiver, places []Place) (send func(), err error) {
	c, ok := receiver.(*client)
	if !ok || c.hub != h {
		return nil, fault.Wrap(fault.Invalid, ErrNotResumed)
	}
	if len(places) > h.cfg.MaxRooms {
		return nil, ErrTooManyRooms
	}
	c.mu.Lock()
	if c.busy || len(c.rooms) > 0 {
		c.mu.Unlock()
		return nil, ErrNotResumed
	}
	c.busy = true
	c.mu.Unlock()
	rooms, err := h.resume(ctx, c, places)
	if err != nil {
		for _, r := range rooms {
			h.exit(ctx, r.occupant)
		}
		c.mu.Lock()
		waiting := len(c.waiting) > 0
		if !waiting {
			c.busy = false
		}
		c.mu.Unlock()
		if waiting {
			c.inBackground(func(context.Context) {})
		}
		return nil, err
	}
	return func() { c.inBackground(func(context.Context) { c.catchUp(rooms) }) }, nil
}

// resume checks the places. It returns the rooms that were entered, after an error too.
func (h *Hub) resume(ctx context.Context, c *client, places []Place) (rooms []resumed, err error) {
	for _, p := range places {
		name, err := h.cfg.Chat.Resolve(ctx, p.Room)
		if err != nil {
			return rooms, err
		}
		if name != p.Room || c.occupantOf(name) != nil {
			return rooms, ErrNotResumed
		}
		// Listening comes first: whoever is taken out of the room from here on is found.
		o, err := h.enter(ctx, c, name)
		if err != nil {
			return rooms, err
		}
		rooms = append(rooms, resumed{o, p.Seq})
	}
	if err := h.admitAgain(ctx, c, rooms); err != nil {
		return rooms, err
	}
	for _, r := range rooms {
		name := r.occupant.room.name
		switch err := h.cfg.Chat.May(ctx, c.user, chat.ActionJoin, name); {
		case fault.KindOf(err) == fault.Forbidden:
			return rooms, ErrNotResumed
		case err != nil:
			return rooms, err
		}
		page, err := r.occupant.room.read(ctx, &chat.Point{Seq: r.at})
		if err != nil {
			return rooms, err
		}
		if !page.Recovered {
			return rooms, ErrNotResumed
		}
	}
	c.mu.Lock()
	left := slices.ContainsFunc(rooms, func(r resumed) bool { return r.occupant.left })
	c.mu.Unlock()
	if left {
		return rooms, ErrNotResumed
	}
	return rooms, nil
}

// admitAgain looks up what the user is in the rooms, as it is stored.
func (h *Hub) admitAgain(ctx context.Context, c *client, rooms []resumed) error {
	whom := make([]chat.InRoom, len(rooms))
	for i, r := range rooms {
		whom[i] = chat.InRoom{Room: r.occupant.room.name, UserID: c.user.ID}
	}
	are, err := h.readRights(ctx, whom)
	if err != nil {
		return err
	}
	for i, r := range rooms {
		is := are[whom[i]]
		if is.Role == "" {
			return ErrNotResumed
		}
		if is.Mute.Kind != "" {
			r.occupant.room.heed(is.Mute)
		}
		r.occupant.endAdmission(is.Role)
	}
	return nil
}

// catchUp sends what the client has missed, room by room, and lets live messages through.
func (c *client) catchUp(rooms []resumed) {
	for _, r := range rooms {
		if err := c.catchUpIn(r); err != nil {
			c.hub.cfg.Log.Warn("a client that came back could not be told what it missed", "room", r.occupant.room.name, "user", c.user.ID, "error", err)
			// It comes back by itself, to where it is now.
			c.close(socket.CloseTryAgainLater, "missed messages cannot be read")
			return
		}
		if c.gone.Load() {
			return
		}
	}
}

func (c *client) catchUpIn(r resumed) error {
	o := r.occupant
	paused := false
	for !c.gone.Load() {
		page, err := c.missed(o.room, r.at)
		switch {
		case err != nil:
			return err
		case !page.Recovered:
			return ErrNotResumed // what came after the place was removed meanwhile
		}
		frames := make([]*socket.Frame, 0, len(page.Messages))
		for _, msg := range page.Messages {
			if f := c.speaks().Event(o.room.messageEvent(msg)); f != nil {
				frames = append(frames, f)
			}
		}
		if paused && !page.More {
			if done, _ := o.goLive(chat.Reach{Seq: page.Last, Rev: page.Rev}, frames); done {
				break
			}
			continue // something was delivered meanwhile that is neither in the page nor pending: read again
		}
		for _, f := range frames {
			if !c.makeRoom(f) {
				return nil // it has gone, or was closed
			}
			if !o.sends(f) {
				return nil // it was taken out of the room meanwhile
			}
		}
		if n := len(page.Messages); n > 0 {
			r.at = page.Messages[n-1].Seq
		}
		if !page.More {
			// From here on live messages pend. What came until now is read once more.
			o.pause()
			paused = true
		}
	}
	ctx, cancel := context.WithTimeout(c.hub.working, c.hub.cfg.CommandTimeout)
	defer cancel()
	o.entered(ctx)
	if c.gone.Load() {
		c.hub.exit(ctx, o) // Disconnected may have come before the user was present
	}
	return nil
}

// sends sends the occupant something that it has missed, and reports false if it has left.
func (o *occupant) sends(f *socket.Frame) bool {
	o.client.mu.Lock()
	defer o.client.mu.Unlock()
	if o.left {
		return false
	}
	_ = o.client.conn.Send(f) // a closed connection reports itself by Disconnected
	return true
}

func (c *client) missed(r *room, after uint64) (chat.Page, error) {
	ctx, cancel := context.WithTimeout(c.hub.working, c.hub.cfg.CommandTimeout)
	defer cancel()
	return r.read(ctx, &chat.Point{Seq: after})
}

// makeRoom waits until the client has read enough for one more frame. One that reads nothing for
// CommandTimeout is closed, and then it reports false.
func (c *client) makeRoom(f *socket.Frame) bool {
	most := c.hub.cfg.MaxQueued / 2
	fits := func() (queued int, ok bool) {
		queued = c.conn.Queued()
		return queued, queued == 0 || queued+f.Len() <= most
	}
	last, ok := fits()
	if ok {
		return !c.gone.Load()
	}
	look := time.NewTicker(resumeStep)
	defer look.Stop()
	stuck := time.NewTimer(c.hub.cfg.CommandTimeout)
	defer stuck.Stop()
	for !c.gone.Load() {
		select {
		case <-look.C:
		case <-stuck.C:
			c.close(socket.CloseSlow, "the reader does not keep up")
			return false
		case <-c.hub.working.Done():
			return false
		}
		queued, ok := fits()
		if ok {
			return !c.gone.Load()
		}
		if queued != last {
			last = queued
			stuck.Reset(c.hub.cfg.CommandTimeout)
		}
	}
	return false
}

// resumeStep is how often it is looked whether a client has read.
const resumeStep = 5 * time.Millisecond

// messageEvent is a message as it is told to members.
func (r *room) messageEvent(m chat.Message) protocol.Outgoing {
	return protocol.Outgoing{Schema: r.hub.schema.ServerEvent(protocol.EventMessage), Room: r.name, User: m.Author, Message: m}
}
