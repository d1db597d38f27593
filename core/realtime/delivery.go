package realtime

import (
	"sync/atomic"

	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/socket"
)

const (
	// chunk is how many slots of a room a worker takes at a time.
	chunk = 64
	// large is how many slots a room has at least for whose delivery other workers are woken: with fewer, that costs more than
	// it saves.
	large = 512
)

// delivery is one thing that all occupants of a room get: messages that follow each other in its sequence, or an event.
//
// Whoever begins it takes chunks of occupants, and so do workers that have no room to run. It ends when all chunks are
// done, and only then the room goes on. So each occupant gets what the room has in one order.
type delivery struct {
	room *room
	row  row       // messages; empty for an event
	one  [1]frames // the event, or the only message of row
	to   audience  // who gets the event
	rev  uint64    // of the event, if it is a change
	// again says that the event tells to read again: an occupant that is reading does not need it, unless reading fails.
	again bool
	turn  *turn // of the messages, if there is one
	// alone says that no other workers are asked for help. In a turn they have rooms of their own. Messages that wait for a room are
	// joined, which costs less than to deliver each of them sooner; only when no more fit into one write help is of use again.
	alone bool

	given, writes atomic.Uint64 // messages that occupants were given, and the writes by which

	next    atomic.Int64 // the first slot that nobody has taken
	helpers int          // under runQueue.mu
}

// delivery returns an empty delivery, which run takes back.
func (r *room) delivery() *delivery {
	d := r.hub.deliveries.Get().(*delivery)
	d.room = r
	return d
}

// run serves every occupant, and reports whether one was given messages. Who joins or leaves meanwhile may or may not
// be served.
func (d *delivery) run() bool {
	h := d.room.hub
	var some [chunk]*occupant
	n, slots := d.take(&some)
	shared := slots >= large && h.cfg.Workers > 1 && !d.alone
	if shared {
		h.queue.share(d, min(h.cfg.Workers-1, (slots-1)/chunk))
	}
	for ; n > 0; n, _ = d.take(&some) {
		d.serve(some[:n])
	}
	if shared {
		h.queue.finish(d)
	}
	given := d.given.Load()
	if given > 0 {
		h.counts.deliveries.Add(given)
		h.counts.writes.Add(d.writes.Load())
	}
	*d = delivery{} // it must not keep a room that is gone
	h.deliveries.Put(d)
	return given > 0
}

// help serves occupants until none is left, or a room waits for a worker.
func (d *delivery) help(q *runQueue) {
	var some [chunk]*occupant
	for !q.waits() {
		n, _ := d.take(&some)
		if n == 0 {
			q.withdraw(d)
			break
		}
		d.serve(some[:n])
	}
	q.leave(d)
}

// take copies the occupants of the next chunk. It returns how many slots that are, of how many.
func (d *delivery) take(some *[chunk]*occupant) (n, slots int) {
	at := int(d.next.Add(chunk)) - chunk
	r := d.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if at < len(r.occupants) {
		n = copy(some[:], r.occupants[at:])
	}
	return n, len(r.occupants)
}

// serve gives occupants what is theirs of the delivery.
func (d *delivery) serve(occupants []*occupant) {
	var given, writes int // counted once a chunk
	for _, o := range occupants {
		switch {
		case o == nil:
		case d.row.messages != nil:
			n, by := d.messages(o)
			given, writes = given+n, writes+by
		default:
			d.event(o)
		}
	}
	if given > 0 {
		d.given.Add(uint64(given))
		d.writes.Add(uint64(writes))
	}
}

// messages gives an occupant those that it has not, by one write where it has everything before them and nothing of them.
// It returns how many it gave, and by how many writes; those of what is held are counted when it leaves.
func (d *delivery) messages(o *occupant) (given, writes int) {
	c, row := o.client, &d.row
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case o.left, o.early:
	case o.live && o.last < row.first:
		o.last = row.last
		if f := row.of(c); f != nil {
			given, writes = len(row.messages), d.send(c, f)
		}
	default:
		for i := range row.messages {
			seq := row.first + uint64(i)
			switch f := row.messages[i].of(c); {
			case f == nil:
			case !o.live:
				o.pending = append(o.pending, pendingFrame{seq: seq, frame: f})
			case seq > o.last:
				o.last = seq
				writes += d.send(c, f)
				given++
			}
		}
		if len(o.pending) > c.hub.cfg.MaxBacklog {
			c.close(socket.CloseSlow, "joining took too long")
		}
	}
	return given, writes
}

// send sends a frame of messages, or holds it for the end of the turn, under client.mu. It returns the writes.
func (d *delivery) send(c *client, f *socket.Frame) int {
	if d.turn != nil {
		c.hold(f, d.turn)
		return 0
	}
	c.sendNow(f, false)
	return 1
}

// audience says who gets an event.
type audience uint8

const (
	everybody  audience = iota
	others              // all but the user it is about; and it may be shed
	whoKeepsUp          // everybody, but it may be shed
	theRest             // all but the user it is about
	themselves          // the user it is about; and it may be shed
)

// sheds reports whether a slow reader is spared the event.
func (a audience) sheds() bool { return a == others || a == whoKeepsUp || a == themselves }

// event gives it to an occupant; one that is reading gets it behind what it reads.
func (d *delivery) event(o *occupant) {
	c := o.client
	if d.to != everybody && d.to != whoKeepsUp && (c.user.ID == d.one[0].event.User.ID) != (d.to == themselves) {
		return
	}
	f := d.one[0].of(c)
	if f == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case o.left:
	case o.live && d.rev == 0:
		c.sendNow(f, d.to.sheds())
	case o.live:
		if d.rev > o.rev {
			o.rev = d.rev
			c.sendNow(f, false)
		}
	case o.early && !d.mark(c), d.to.sheds() && len(o.pending) > c.hub.cfg.MaxBacklog/4: // it is not in the room yet; or so much waits that this is shed
	default:
		if o.pending = append(o.pending, pendingFrame{rev: d.rev, again: d.again, frame: f}); len(o.pending) > c.hub.cfg.MaxBacklog {
			c.close(socket.CloseSlow, "joining took too long")
		}
	}
}

// mark reports whether it says how far the client's own user has read, on another connection: that may be farther than what a join finds.
func (d *delivery) mark(c *client) bool {
	return (d.to == whoKeepsUp || d.to == themselves) && c.user.ID == d.one[0].event.User.ID
}

// send delivers messages that follow each other in the sequence. Their authors no longer type.
func (r *room) send(messages []Signal, t *turn) {
	for i := range messages {
		r.typed(messages[i].Message.Author, false)
	}
	d := r.delivery()
	d.turn = t
	d.row = row{first: messages[0].Message.Seq, last: messages[len(messages)-1].Message.Seq, messages: d.one[:]}
	if len(messages) > 1 {
		d.row.messages = make([]frames, len(messages))
	}
	size := 0
	for i := range messages {
		d.row.messages[i].event = r.messageEvent(messages[i].Message)
		size += written(&messages[i].Message)
	}
	d.alone = t != nil || len(messages) > 1 && size <= r.hub.cfg.MaxWrite/2
	switch begun := messages[0].Message.At; {
	case !d.run() || r.hub.cfg.Delivered == nil:
	case t != nil:
		t.delivered = append(t.delivered, begun)
	default:
		r.hub.cfg.Delivered(begun)
	}
}

// broadcast delivers an event.
func (r *room) broadcast(e protocol.Outgoing, to audience) {
	d := r.delivery()
	d.one[0].event, d.to = e, to
	d.run()
}
