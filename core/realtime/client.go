package realtime

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// client is one connection: the hub's side of a [socket.Conn]. There are many, so it is kept small.
type client struct {
	hub     *Hub
	conn    socket.Conn
	user    chat.Author
	session string
	closed  atomic.Int32 // the code that the hub closed it with; 0 while it has not

	nextAt   int64        // when the next event is due under the rate, since the hub began; only Receive uses it
	inFlight atomic.Int32 // messages, changes and marks that wait for their commit
	gone     atomic.Bool  // disconnected

	// hub.mu guards these: when the session was opened, in microseconds, when the connection ends,
	// in seconds (0: never), and its neighbours among those that end then.
	sessionAt, ends int64
	prev, next      *client

	mu      sync.Mutex
	rooms   []*occupant
	held    *held              // messages for the end of a turn
	busy    bool               // a command runs in a goroutine; others wait in waiting
	format  uint8              // the place in hub.formats; it never changes
	waiting []protocol.Command // in the order in which they came
}

func newClient(h *Hub, conn socket.Conn, who user.Identity, format uint8) *client {
	c := &client{
		hub: h, conn: conn, format: format,
		// Clones, because the identity's strings may be parts of a token or a request.
		user:    chat.Author{ID: user.ID(strings.Clone(string(who.UserID))), Name: strings.Clone(who.Name)},
		session: strings.Clone(who.SessionID),
	}
	if !who.SessionAt.IsZero() {
		c.sessionAt = who.SessionAt.UnixMicro()
	}
	return c
}

// speaks returns the wire format of the connection.
func (c *client) speaks() protocol.Format { return c.hub.formats[c.format] }

// Receive takes one message of the client.
func (c *client) Receive(payload []byte, binary bool) {
	if c.gone.Load() {
		return
	}
	if !c.inTime() {
		c.close(socket.CloseTooFast, "too many events")
		return
	}
	cmd, err := c.speaks().Decode(payload, binary)
	if err != nil {
		p := fault.Public(err)
		c.hub.cfg.Log.Debug("a client sent a bad event", "user", c.user.ID) // the detail quotes the client
		c.close(socket.CloseBadEvent, p.Detail)
		return
	}
	c.mu.Lock()
	if c.busy {
		full := len(c.waiting) >= c.hub.cfg.MaxWaiting
		if !full {
			c.waiting = append(c.waiting, cmd)
		}
		c.mu.Unlock()
		if full {
			c.close(socket.CloseTooFast, "too many events wait")
		}
		return
	}
	if !c.waits(cmd) {
		c.mu.Unlock()
		c.run(context.Background(), cmd)
		return
	}
	c.busy = true
	c.mu.Unlock()
	c.later(cmd)
}

// later runs a command that may wait in a goroutine, and then those that came meanwhile.
func (c *client) later(cmd protocol.Command) {
	c.inBackground(func(ctx context.Context) { c.run(ctx, cmd) })
}

// inBackground does something that may wait in a goroutine, and then runs the commands that came meanwhile. The
// client is busy.
func (c *client) inBackground(first func(ctx context.Context)) {
	if !c.hub.background(func(ctx context.Context) {
		first(ctx)
		for {
			c.mu.Lock()
			if len(c.waiting) == 0 || c.gone.Load() {
				c.busy, c.waiting = false, nil
				c.mu.Unlock()
				return
			}
			next := c.waiting[0]
			c.waiting = c.waiting[1:]
			c.mu.Unlock()
			if c.waits(next) && ctx.Err() != nil {
				// This goroutine's time is up; the next command gets its own.
				c.later(next)
				return
			}
			c.run(ctx, next)
		}
	}) {
		c.close(socket.CloseServiceRestart, "this node restarts")
	}
}

// waits reports whether a command may wait for a store or for other nodes.
func (c *client) waits(cmd protocol.Command) bool {
	atOnce := c.hub.handlers[cmd.Event].atOnce
	return atOnce == nil || !atOnce(c.hub, cmd)
}

// inTime applies the rate by the generic cell rate algorithm.
func (c *client) inTime() bool {
	rate := c.hub.cfg.Rate
	if rate < 0 {
		return true
	}
	now := int64(c.hub.cfg.Now().Sub(c.hub.began)) // by a clock that nobody sets, where the times have one
	each := int64(time.Second) / int64(rate)
	at := max(c.nextAt, now)
	if at-now > each*int64(c.hub.cfg.Burst) { // more than there can be: the clock has gone back
		at = now
	}
	if at-now > each*int64(c.hub.cfg.Burst-1) {
		return false
	}
	c.nextAt = at + each
	return true
}

func (c *client) run(ctx context.Context, cmd protocol.Command) {
	h := c.hub.handlers[cmd.Event]
	h.seen.Add(1)
	ended := func(error) {}
	if c.hub.cfg.Handling != nil {
		ctx, ended = c.hub.cfg.Handling(ctx, cmd.Event)
	}
	a, err := h.run(c, ctx, cmd)
	ended(err)
	if err != nil || !h.itself {
		c.answer(cmd, a, err)
	}
}

func (c *client) answer(cmd protocol.Command, a protocol.Answer, err error) {
	if err == nil {
		c.speaks().Answer((*answered)(c), cmd, a)
		return
	}
	if fault.KindOf(err) == fault.Internal {
		c.hub.cfg.Log.Error("a command failed", "event", cmd.Event, "room", cmd.Room, "user", c.user.ID, "error", err)
	}
	if f := c.speaks().Error(cmd, fault.Public(err)); f != nil {
		c.send(f, false)
	}
}

// answered is the client as a sink of answers.
type answered client

func (c *answered) Send(f *socket.Frame) { (*client)(c).send(f, false) }

// send queues a frame, unless the reader is too slow for it: what can be shed is shed from a
// quarter of the limit on, anything else closes the connection at the limit. A frame that is
// larger than the limit passes when nothing else waits.
func (c *client) send(f *socket.Frame, shed bool) {
	queued, most := c.conn.Queued(), c.hub.cfg.MaxQueued
	if shed && queued > most/4 {
		return
	}
	if queued > 0 && queued+f.Len() > most {
		c.close(socket.CloseSlow, "the reader does not keep up")
		return
	}
	_ = c.conn.Send(f) // a closed connection reports itself by Disconnected
}

// sendAll queues the frames of one answer, which counts as a whole and leaves in one write.
func (c *client) sendAll(frames []*socket.Frame) {
	if f := socket.Join(frames...); f != nil {
		c.send(f, false)
	}
}

func (c *client) close(code int, reason string) {
	c.closed.CompareAndSwap(0, int32(code)) // the first counts
	c.conn.Close(code, socket.CloseReason(reason))
}

// occupant returns the connection as it is in a room, or nil. The room may be typed in
// another form than the one in which it is kept.
func (c *client) occupant(room string) *occupant {
	o := c.occupantOf(room)
	if o == nil {
		if normal := c.hub.cfg.Chat.Normalize(room); normal != room {
			o = c.occupantOf(normal)
		}
	}
	return o
}

func (c *client) occupantOf(room string) *occupant {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.rooms {
		if o.room.name == room {
			return o
		}
	}
	return nil
}

// writes counts one more message or change that waits for its commit, and returns the connection as it is in the room. It returns nil if that
// may not be, with the error for the client, or without one if the connection was closed.
func (c *client) writes(room string) (*occupant, error) {
	o := c.occupant(room)
	if o == nil {
		return nil, ErrNotJoined
	}
	if err := o.maySpeak(); err != nil {
		return nil, err
	}
	switch {
	case o.room.crowded():
		return nil, ErrRoomBusy.RetryAfter(time.Second)
	case !c.waitsForOneMore():
		return nil, nil
	}
	return o, nil
}

// waitsForOneMore counts one more that waits for its commit. It returns false if those are too many: then the connection was closed.
func (c *client) waitsForOneMore() bool {
	if int(c.inFlight.Add(1)) <= c.hub.cfg.MaxWaiting {
		return true
	}
	c.inFlight.Add(-1)
	c.close(socket.CloseTooFast, "too many messages wait")
	return false
}

func (c *client) message(ctx context.Context, cmd protocol.Command) (protocol.Answer, error) {
	o, err := c.writes(cmd.Room)
	if o == nil {
		return protocol.Answer{}, err
	}
	d := chat.Draft{Room: o.room.name, ClientID: cmd.ClientID, Author: c.user, Text: cmd.Text, ReplyTo: cmd.ReplyTo, Data: cmd.Attached}
	if d.ReplyTo != 0 {
		d.Seen = o.room.reached() // mostly somebody answers what was delivered here
	}
	err = c.hub.cfg.Chat.Submit(ctx, d, func(s chat.Stored, err error) {
		c.inFlight.Add(-1)
		c.answer(cmd, protocol.Answer{Stored: s.Message}, err)
	})
	if err != nil {
		c.inFlight.Add(-1)
	}
	return protocol.Answer{}, err
}

func (c *client) edit(ctx context.Context, cmd protocol.Command) (protocol.Answer, error) {
	return c.change(ctx, cmd, chat.Change{Kind: chat.Edit, Text: cmd.Text, Data: cmd.Attached})
}

func (c *client) erase(ctx context.Context, cmd protocol.Command) (protocol.Answer, error) {
	return c.change(ctx, cmd, chat.Change{Kind: chat.Delete})
}

func (c *client) react(ctx context.Context, cmd protocol.Command) (protocol.Answer, error) {
	kind := chat.React
	if cmd.Off {
		kind = chat.Unreact
	}
	return c.change(ctx, cmd, chat.Change{Kind: kind, Key: cmd.Text})
}

// change changes a message of a room that was joined.
func (c *client) change(ctx context.Context, cmd protocol.Command, change chat.Change) (none protocol.Answer, _ error) {
	o, err := c.writes(cmd.Room)
	if o == nil {
		return none, err
	}
	change.Room, change.Seq, change.By = o.room.name, cmd.Seq, c.user
	err = c.hub.cfg.Chat.SubmitChange(ctx, change, func(m chat.Changed, err error) {
		c.inFlight.Add(-1)
		c.answer(cmd, protocol.Answer{Data: protocol.Data{"room": change.Room, "seq": change.Seq, "rev": m.Rev}}, err)
	})
	if err != nil {
		c.inFlight.Add(-1)
	}
	return none, err
}

// mark moves how far the user has read.
func (c *client) mark(ctx context.Context, cmd protocol.Command) (none protocol.Answer, _ error) {
	o := c.occupant(cmd.Room)
	if o == nil {
		return none, ErrNotJoined
	}
	if !c.waitsForOneMore() {
		return none, nil
	}
	err := c.hub.cfg.Chat.SubmitMark(ctx, chat.Mark{Room: o.room.name, User: c.user, Read: cmd.Seq}, func(m chat.Marked, err error) {
		c.inFlight.Add(-1)
		c.answer(cmd, protocol.Answer{Data: protocol.Data{"room": o.room.name, "read": m.Read, "unread": m.Unread}}, err)
	})
	if err != nil {
		c.inFlight.Add(-1)
	}
	return none, err
}

func (c *client) typing(ctx context.Context, cmd protocol.Command) (protocol.Answer, error) {
	o := c.occupant(cmd.Room)
	if o == nil {
		return protocol.Answer{}, ErrNotJoined
	}
	if err := o.maySpeak(); err != nil {
		return protocol.Answer{}, err
	}
	if o.room.mayType(c.user, cmd.Typing) {
		c.hub.publish(ctx, Signal{Kind: SignalTyping, Room: o.room.name, User: c.user, Typing: cmd.Typing})
	}
	return protocol.Answer{}, nil
}

func (c *client) history(ctx context.Context, cmd protocol.Command) (protocol.Answer, error) {
	o := c.occupant(cmd.Room)
	if o == nil {
		return protocol.Answer{}, ErrNotJoined
	}
	r := chat.Range{Limit: int(cmd.Limit), Newest: cmd.After == nil}
	if cmd.After != nil {
		r.After = *cmd.After
	}
	if cmd.Before != nil {
		r.Before = *cmd.Before
	}
	if cmd.ChangedAfter != nil {
		r = chat.Range{Changed: true, After: *cmd.ChangedAfter, Limit: r.Limit}
	}
	p, err := c.hub.cfg.Chat.History(ctx, c.user, o.room.name, r)
	if o.hasLeft() { // meanwhile
		return protocol.Answer{}, ErrNotJoined
	}
	return protocol.Answer{Messages: p.Messages, More: p.More}, err
}

func (c *client) presence(ctx context.Context, cmd protocol.Command) (protocol.Answer, error) {
	o := c.occupant(cmd.Room)
	if o == nil {
		return protocol.Answer{}, ErrNotJoined
	}
	users, count, err := c.hub.cfg.Presence.List(ctx, c.hub.cfg.Now(), o.room.name, c.hub.cfg.PresenceLimit)
	if o.hasLeft() { // meanwhile
		return protocol.Answer{}, ErrNotJoined
	}
	members := make([]protocol.Data, len(users))
	for i, u := range users {
		members[i] = protocol.UserData(u)
	}
	return protocol.Answer{Data: protocol.Data{"members": members, "count": count}}, err
}

// join subscribes first, then reads, and only then lets live messages through, so that there
// is no window between what was read and what comes. Joining again reads again.
func (c *client) join(ctx context.Context, cmd protocol.Command) (none protocol.Answer, err error) {
	o := c.occupant(cmd.Room)
	if o == nil {
		c.mu.Lock()
		full := len(c.rooms) >= c.hub.cfg.MaxRooms
		c.mu.Unlock()
		if full {
			return none, ErrTooManyRooms
		}
	}
	fresh := o == nil
	if fresh {
		if cmd.Room, err = c.hub.cfg.Chat.Resolve(ctx, cmd.Room); err != nil {
			return none, err
		}
		// Listening comes first: whoever is taken out of the room from here on is found.
		if o, err = c.hub.enter(ctx, c, cmd.Room); err != nil {
			return none, err
		}
	}
	back := func(err error) (protocol.Answer, error) {
		if fresh {
			c.hub.exit(ctx, o)
		} else {
			o.resume()
		}
		return none, err
	}
	if !fresh {
		o.beginAdmission()
	}
	member, err := c.hub.cfg.Chat.Enter(ctx, c.user, o.room.name)
	if err != nil {
		o.endAdmission("")
		if !fresh && fault.KindOf(err) != fault.Unavailable {
			// They are no member any more, and this node has not heard of it.
			c.hub.look(news{room: o.room.name, who: c.user.ID})
		}
		return back(err)
	}
	if fresh {
		o.endAdmission(member.Role)
	} else {
		o.endAdmission("") // what changes it is heard
	}
	if member.Mute.Kind != "" {
		o.room.heed(member.Mute)
	}
	var from *chat.Point
	given := o.pause()
	if cmd.Since != nil {
		from = &chat.Point{Seq: *cmd.Since, Rev: cmd.Rev, Given: given} // a newcomer has nothing that could have changed
	}
	acked := false
	for done := false; !done; { // or something was delivered meanwhile that is neither in the page nor pending: read again
		page, err := o.room.read(ctx, from)
		if err != nil {
			return back(err)
		}
		var ack collected
		c.speaks().Answer(&ack, cmd, protocol.Answer{
			Room: o.room.name, Seq: page.Last, Rev: page.Rev, Read: c.hasRead(member.Read, page.Messages), Recovered: page.Recovered, Messages: page.Messages, Changes: page.Changes,
		})
		done, acked = o.goLive(chat.Reach{Seq: page.Last, Rev: page.Rev}, ack)
	}
	c.mu.Lock()
	removed := o.removed
	c.mu.Unlock()
	if removed == membershipTaken {
		// The membership that was stored a moment ago must not outlive the removal.
		err = c.hub.cfg.Chat.TakeOut(ctx, c.user.ID, o.room.name)
	}
	switch {
	case removed == 0:
	case acked: // and was told of the removal after that: a command has one answer
		if err != nil {
			c.hub.cfg.Log.Warn("a membership may outlive the removal of its user", "room", o.room.name, "user", c.user.ID, "error", err)
		}
		return none, nil
	case err != nil:
		return none, err
	default:
		return none, ErrRemoved
	}
	if fresh {
		o.entered(ctx)
	}
	if c.gone.Load() {
		c.hub.exit(ctx, o) // Disconnected may have come before the membership was there
	}
	return none, nil
}

// hasRead is how far the user has read when a page was read after that: what they have sent meanwhile, on another connection, they have read.
func (c *client) hasRead(read uint64, page []chat.Message) uint64 {
	for i := len(page) - 1; i >= 0 && page[i].Seq > read; i-- {
		if page[i].Author.ID == c.user.ID {
			return page[i].Seq
		}
	}
	return read
}

// collected is a sink that keeps an answer until its turn comes.
type collected []*socket.Frame

func (k *collected) Send(f *socket.Frame) { *k = append(*k, f) }

func (c *client) leave(ctx context.Context, cmd protocol.Command) (protocol.Answer, error) {
	o := c.occupant(cmd.Room)
	if o == nil {
		return protocol.Answer{}, nil
	}
	if !c.hub.cfg.Chat.KeepsRoles() {
		c.hub.exit(ctx, o)
		return protocol.Answer{}, c.hub.cfg.Chat.Leave(ctx, c.user.ID, o.room.name)
	}
	// It is in the room until the store has let it go: the last owner stays. The user's other connections hear of the membership's end.
	err := c.hub.cfg.Chat.Quit(ctx, c.user, o.room.name)
	if !errors.Is(err, chat.ErrLastOwner) {
		c.hub.exit(ctx, o)
	}
	return protocol.Answer{}, err
}

func (c *client) healthCheck(_ context.Context, cmd protocol.Command) (protocol.Answer, error) {
	c.answer(cmd, protocol.Answer{Data: protocol.Data{"message": "OK"}}, nil)
	c.close(socket.CloseNormal, "")
	return protocol.Answer{}, nil
}

// Disconnected says that the connection is gone.
func (c *client) Disconnected() {
	if c.gone.Swap(true) {
		return
	}
	c.mu.Lock()
	rooms := append([]*occupant(nil), c.rooms...)
	c.mu.Unlock()
	if len(rooms) > 0 {
		// Leaving tells other nodes, which may take a while. It begins before the connection is forgotten: once all are, a hub
		// that drains stops, and begins nothing any more.
		c.hub.background(func(ctx context.Context) {
			for _, o := range rooms {
				c.hub.exit(ctx, o)
			}
		})
	}
	c.hub.forget(c)
}
