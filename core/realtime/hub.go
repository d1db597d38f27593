// Package realtime connects people: it owns connections and the rooms on this node, and does what
// the events of package protocol ask for.
//
// The [Hub] stands behind every transport (package socket) and every wire format.
//
// The way of a message: the hub's [socket.Receiver] decodes and checks it, chat.Service commits
// it, its sender gets the ack, and [Fanout] hands it to every node that has connections in the room. There
// the room delivers in the order of the sequence; one encoded [socket.Frame] serves all receivers.
package realtime

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// What the hub refuses.
var (
	ErrNotJoined    = fault.New(fault.Forbidden, "not_joined", "the room was not joined")
	ErrTooManyRooms = fault.New(fault.Exhausted, "too_many_rooms", "the connection is in too many rooms")
	ErrRoomBusy     = fault.New(fault.Exhausted, "room_busy", "the room has more messages than its members can take")
	ErrRevoked      = fault.New(fault.Unauthenticated, "session_ended", "the session has ended")
	ErrNoFormat     = fault.New(fault.Invalid, "no_format", "this node does not speak the subprotocol")
	ErrFull         = fault.New(fault.Unavailable, "full", "this node has as many connections as it may")
)

// HubConfig is what a [Hub] needs. Zero fields without "required" mean the default.
type HubConfig struct {
	Chat     *chat.Service // required
	Fanout   Fanout        // required
	Presence Presence      // required

	// Node names this node among several, and must differ from theirs. Default: a random name.
	Node string
	// MaxConnections is the most connections of this node. Default 1,000,000.
	MaxConnections int
	// MaxUserConnections is the most connections of a user on this node. Default 1,000.
	MaxUserConnections int
	// Authenticator tells whose token it is that a client renews its connection with. Default:
	// none, and renew is refused.
	Authenticator socket.Authenticator
	// ClockLeeway is how long after its token a connection ends, for clocks that differ a
	// little. Default none, which suits one machine.
	ClockLeeway time.Duration
	// MaxRooms is the most rooms of one connection. Default 100.
	MaxRooms int
	// MaxQueued is the most bytes that wait for a reader who does not keep up; then the
	// connection is closed with CloseSlow. Typing, presence and who has read are left out for it from a
	// quarter of that on. Default 1 MiB.
	MaxQueued int
	// MaxWaiting is the most commands of a connection that wait for one before them, and the
	// most messages, changes and marks of it that wait for their commit; more close it with CloseTooFast. Default 1,024.
	MaxWaiting int
	// Rate is how many events a second a connection may send on average, and Burst how many
	// at once; more close it with CloseTooFast. Defaults 50 and 200. A negative Rate is no limit.
	Rate, Burst int
	// MaxBacklog is how many signals may wait for delivery in a room; then messages to it are
	// refused with ErrRoomBusy before they are stored. Default 4,096.
	MaxBacklog int
	// MaxWrite is the most bytes that leave in one write: bytes of texts when several messages of a room wait for
	// delivery, and of frames when several rooms have something for one connection. A larger one leaves alone. Default 16 KiB.
	MaxWrite int
	// TypingTTL is how long typing lasts without being renewed. Default 6 seconds.
	TypingTTL time.Duration
	// TypingEvery is the least time between two typing events of a user in a room that have an
	// effect. Default 1 second.
	TypingEvery time.Duration
	// AnnounceUpTo is the most users of a room in which joined and left are sent. Default 200.
	AnnounceUpTo int
	// MarksUpTo is the most users of a room in which marked is sent: each of them may mark each message. A negative one is none.
	// Default 50; it has no effect above AnnounceUpTo. It counts users who are connected, as far as this node knows.
	MarksUpTo int
	// PresenceLimit is the most users in the answer to presence. Default 200.
	PresenceLimit int
	// DrainRate is how many connections a second [Hub.Drain] closes, so that their clients do not come to other nodes all at
	// once; more if its context has not enough time. A negative one closes all at once. Default 2,000.
	DrainRate int
	// LeaseTTL is how long the users of this node count as present without a sign of life
	// from it. Default 30 seconds; it is renewed three times as often.
	LeaseTTL time.Duration
	// AccessEvery is how often chat.Config.Access, where there is one, is asked again whether the users of
	// this node may read their rooms; who may not is taken out. Default 10 seconds.
	AccessEvery time.Duration
	// RestrictionsEvery is how often chat.Config.Restrictions, where there is one, is asked for bans, mutes and changes of roles, rooms and users' settings that this node has not heard of. Default 10 seconds.
	RestrictionsEvery time.Duration
	// CommandTimeout bounds a command that reads or joins. Default 10 seconds.
	CommandTimeout time.Duration
	// HoleWait is how long a room waits for a message that is missing in the sequence before
	// it reads it from the store. Default 50 ms.
	HoleWait time.Duration
	// Workers is how many goroutines deliver: different rooms, or one large room together. Default GOMAXPROCS.
	Workers int
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Delivered, if set, is called when messages that follow each other in a room were given to its connections on this
	// node. at is the time of the first of them: the beginning of its commit. Delivered must be quick, and is called from
	// many goroutines.
	Delivered func(at time.Time)
	// Handling, if set, is called before an event of a client is handled, with its name. The event is handled in the context
	// that Handling returns. Then the function that it returns is called, with the error that refuses the event, or nil. A
	// message of a client is part of a batch then, and not yet stored. Both must be quick, and are called from many goroutines.
	Handling func(ctx context.Context, event string) (context.Context, func(error))
	// Log gets what operators should know. Default: nothing.
	Log *slog.Logger

	// Formats are the wire formats by the subprotocols that name them, at most 8. [socket.Protocol] is
	// [protocol.JSON] unless it is given here, and what a connection speaks that names none.
	Formats map[string]protocol.NewFormat
	// Events are an application's own events: see [Event]. Sends are what the server sends besides, by
	// [Call.Send] and [Hub.Send]. See [protocol.NewSchema] for what they must keep.
	Events []Event
	Sends  []protocol.ServerEvent
}

// maxFormats is the most wire formats of a hub.
const maxFormats = 8

func (c *HubConfig) defaults() error {
	check := settings.Of("realtime: HubConfig")
	check.Require("Chat", c.Chat == nil)
	check.Require("Fanout", c.Fanout == nil)
	check.Require("Presence", c.Presence == nil)
	settings.Default(check, "MaxConnections", &c.MaxConnections, 1_000_000)
	settings.Default(check, "MaxUserConnections", &c.MaxUserConnections, 1000)
	settings.Default(check, "MaxRooms", &c.MaxRooms, 100)
	settings.Default(check, "MaxQueued", &c.MaxQueued, 1<<20)
	settings.Default(check, "MaxWaiting", &c.MaxWaiting, 1024)
	settings.Default(check, "Burst", &c.Burst, 200)
	settings.Default(check, "MaxBacklog", &c.MaxBacklog, 4096)
	settings.Default(check, "MaxWrite", &c.MaxWrite, 16<<10)
	settings.Default(check, "AnnounceUpTo", &c.AnnounceUpTo, 200)
	settings.Default(check, "PresenceLimit", &c.PresenceLimit, 200)
	settings.Default(check, "Workers", &c.Workers, runtime.GOMAXPROCS(0))
	settings.Default(check, "TypingTTL", &c.TypingTTL, 6*time.Second)
	settings.Default(check, "TypingEvery", &c.TypingEvery, time.Second)
	settings.Default(check, "LeaseTTL", &c.LeaseTTL, 30*time.Second)
	settings.Default(check, "CommandTimeout", &c.CommandTimeout, 10*time.Second)
	settings.Default(check, "AccessEvery", &c.AccessEvery, 10*time.Second)
	settings.Default(check, "RestrictionsEvery", &c.RestrictionsEvery, 10*time.Second)
	settings.Default(check, "ClockLeeway", &c.ClockLeeway, 0)
	settings.Default(check, "HoleWait", &c.HoleWait, 50*time.Millisecond)
	if c.Rate == 0 {
		c.Rate = 50
	}
	if c.MarksUpTo == 0 {
		c.MarksUpTo = 50
	}
	if c.DrainRate == 0 {
		c.DrainRate = 2000
	}
	if c.Node == "" {
		c.Node = rand.Text()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return check.Err()
}

// Hub is an [socket.Acceptor]: it owns the connections of this node. Its methods may be called from
// many goroutines. [Hub.Run] must be running for anything to be delivered.
type Hub struct {
	cfg      HubConfig
	schema   *protocol.Schema
	handlers map[string]handler // by event
	formats  []protocol.Format
	byName   map[string]uint8 // places in formats, by subprotocol
	began    time.Time        // what rates are measured from

	mu       sync.RWMutex
	clients  map[*client]struct{}
	users    map[user.ID][]*client
	rooms    map[string]*room
	ending   ending
	revoked  map[string]time.Time // sessions that ended, until their tokens have
	draining bool
	// What Stats counts: connections by wire format, those ever accepted, and ended ones by code.
	open     [maxFormats]int
	accepted uint64
	closes   map[int]uint64
	// revokedUsers are those whose older sessions ended, until their tokens have.
	revokedUsers map[user.ID]revocation

	emptied chan struct{} // closed when draining and no connection is left
	stopped bool          // Run has ended: no work is begun any more

	counts counts

	roster roster // keeps Presence right
	trust  trust  // in the cache of recent messages
	rights rights // of users in the rooms here

	queue      runQueue       // rooms with something to deliver
	deliveries sync.Pool      // empty ones
	holds      sync.Pool      // empty ones
	work       sync.WaitGroup // goroutines of commands and of rooms
	working    context.Context
	endWork    context.CancelFunc // ends what work waits for
}

var _ socket.Acceptor = (*Hub)(nil)

// NewHub checks the configuration, all of it at once.
func NewHub(cfg HubConfig) (*Hub, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	schema, handlers, errEvents := events(cfg.Events, cfg.Sends)
	formats, byName, errFormats := formats(cfg.Formats, schema)
	if err := errors.Join(errEvents, errFormats); err != nil {
		return nil, err
	}
	h := &Hub{
		cfg: cfg, schema: schema, handlers: handlers, formats: formats, byName: byName,
		clients: map[*client]struct{}{}, users: map[user.ID][]*client{}, ending: ending{},
		rooms: map[string]*room{}, revoked: map[string]time.Time{}, revokedUsers: map[user.ID]revocation{},
		closes:  map[int]uint64{},
		emptied: make(chan struct{}), began: cfg.Now(),
	}
	h.queue.init()
	h.rights.wake, h.rights.found = make(chan struct{}, 1), map[chat.InRoom]finding{}
	h.deliveries.New = func() any { return new(delivery) }
	h.holds.New = func() any { return new(held) }
	h.working, h.endWork = context.WithCancel(context.Background())
	cfg.Chat.OnStored(func(m chat.Message) {
		// Rooms drop what they have delivered.
		h.publish(context.Background(), Signal{Kind: SignalMessage, Room: m.Room, Message: m})
	})
	cfg.Chat.OnChanged(func(m chat.Message) {
		h.publish(context.Background(), Signal{Kind: SignalChanged, Room: m.Room, Message: m})
	})
	cfg.Chat.OnMarked(h.marked)
	cfg.Chat.OnRestricted(h.restricted)
	cfg.Chat.OnRights(h.rightsChanged)
	cfg.Chat.OnSettings(h.settingsChanged)
	cfg.Chat.RefuseBy(h.refuses)
	return h, nil
}

// Run delivers signals, lets typing expire and renews this node's presence until ctx ends;
// then it returns nil. It returns an error when the fan-out cannot go on. Only one Run.
func (h *Hub) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for range h.cfg.Workers {
		wg.Go(h.deliverLoop)
	}
	wg.Go(func() {
		h.renew(ctx) // however long it takes, what is said here is delivered meanwhile
		h.every(ctx, h.cfg.LeaseTTL/3, func() { h.renew(ctx) })
	})
	if h.cfg.Chat.AsksAccess() {
		wg.Go(func() { h.every(ctx, h.cfg.AccessEvery, func() { h.askAgain(ctx) }) })
	}
	if h.heedsRights() {
		wg.Go(func() { h.followEveryNode(ctx) })
		wg.Go(func() { h.watchRights(ctx) })
	}
	if h.cfg.Chat.KeepsRestrictions() {
		since := h.cfg.Now().Add(-clocksDiffer)
		wg.Go(func() { h.every(ctx, h.cfg.RestrictionsEvery, func() { since = h.askRestrictions(ctx, since) }) })
	}
	wg.Go(func() { h.every(ctx, min(time.Second, h.cfg.TypingTTL/4), h.sweep) })
	err := h.cfg.Fanout.Run(ctx, h.deliver)
	if err != nil {
		err = fmt.Errorf("realtime: fan-out: %w", err)
	}
	cancel()
	h.queue.close()
	enough := time.AfterFunc(goodbye, h.endWork) // also of what wg waits for: a renewal may wait for a user who leaves
	wg.Wait()
	h.mu.Lock()
	h.stopped = true
	h.mu.Unlock()
	h.work.Wait()
	enough.Stop()
	h.endWork()
	return err
}

// goodbye is how long commands, and users who leave, may take once Run ends. Whoever could not leave is
// gone when the lease ends.
const goodbye = 2 * time.Second

// background runs f in a goroutine of its own, which Run waits for, bounded by CommandTimeout.
// It reports false when the hub has stopped.
func (h *Hub) background(f func(ctx context.Context)) bool {
	h.mu.RLock()
	if h.stopped {
		h.mu.RUnlock()
		return false
	}
	h.work.Add(1) // under the lock, so that it cannot race with Wait
	h.mu.RUnlock()
	go func() {
		defer h.work.Done()
		ctx, cancel := context.WithTimeout(h.working, h.cfg.CommandTimeout)
		defer cancel()
		f(ctx)
	}()
	return true
}

func (h *Hub) every(ctx context.Context, d time.Duration, f func()) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			f()
		case <-ctx.Done():
			return
		}
	}
}

// sweep closes connections whose token has expired, forgets revoked sessions whose tokens have, and
// lets typing expire.
func (h *Hub) sweep() {
	now := h.cfg.Now()
	h.mu.Lock()
	for s, until := range h.revoked {
		if now.After(until) {
			delete(h.revoked, s)
		}
	}
	for id, r := range h.revokedUsers {
		if now.After(r.until) {
			delete(h.revokedUsers, id)
		}
	}
	due := h.ending.due(now.Add(-h.cfg.ClockLeeway))
	typing := make([]*room, 0, 8)
	for _, r := range h.rooms {
		if r.types.Load() {
			typing = append(typing, r)
		}
	}
	h.mu.Unlock()
	for _, c := range due {
		c.close(socket.CloseUnauthenticated, errTokenEnded)
	}
	for _, r := range typing {
		r.expireTyping(now)
	}
}

// Accept takes over a connection, until the token ends by which it was opened, or a later one that the
// client renews it with. It speaks the format of its subprotocol. It returns ErrDraining, ErrFull,
// ErrManySockets, ErrExpired, ErrRevoked if the session ended, or ErrNoFormat.
func (h *Hub) Accept(conn socket.Conn, hello socket.Hello) (socket.Receiver, error) {
	format, known := h.byName[hello.Protocol]
	if !known {
		return nil, ErrNoFormat
	}
	who := hello.Identity
	c := newClient(h, conn, who, format)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		return nil, socket.ErrDraining
	}
	if len(h.clients) >= h.cfg.MaxConnections {
		return nil, ErrFull
	}
	if err := h.refused(c, h.cfg.Now(), who.ExpiresAt); err != nil {
		return nil, err
	}
	if c.user.ID != "" && len(h.users[c.user.ID]) >= h.cfg.MaxUserConnections {
		return nil, ErrManySockets
	}
	h.users[c.user.ID] = append(h.users[c.user.ID], c)
	h.ending.set(c, who.ExpiresAt)
	h.clients[c] = struct{}{}
	h.open[format]++
	h.accepted++
	return c, nil
}

// forget removes a connection that is gone.
func (h *Hub) forget(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.clients, c)
	h.open[c.format]--
	h.closes[int(c.closed.Load())]++
	h.ending.set(c, time.Time{})
	if all := h.users[c.user.ID]; len(all) > 1 {
		for i := range all {
			if all[i] == c {
				all[i], all[len(all)-1] = all[len(all)-1], nil
				h.users[c.user.ID] = all[:len(all)-1]
				break
			}
		}
	} else {
		delete(h.users, c.user.ID)
	}
	if h.draining && len(h.clients) == 0 {
		close(h.emptied) // nobody is accepted any more, so this is the only time
	}
}

// Schema returns what may be said on the hub's connections, the application's events included.
func (h *Hub) Schema() *protocol.Schema { return h.schema }

// Connections is how many connections this node has.
func (h *Hub) Connections() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.clients)
}

// Draining reports whether Drain was called.
func (h *Hub) Draining() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.draining
}

// Drain refuses new connections and closes those that are open with CloseServiceRestart: DrainRate of them a second, and all
// within three fifths of the time that the context has. Those that are still open are served meanwhile. Drain returns nil
// when all are gone; when the context ends first, it closes the rest at once and returns the context's error. Messages that
// were submitted are still committed and acknowledged, if chat.Service runs on.
func (h *Hub) Drain(ctx context.Context) error {
	h.mu.Lock()
	h.draining = true
	open := make([]*client, 0, len(h.clients))
	for c := range h.clients {
		open = append(open, c)
	}
	emptied := h.emptied
	h.mu.Unlock()
	if len(open) == 0 {
		return nil
	}
	steps := 1
	if h.cfg.DrainRate > 0 {
		spread := time.Duration(float64(len(open)) / float64(h.cfg.DrainRate) * float64(time.Second))
		if deadline, ok := ctx.Deadline(); ok {
			spread = min(spread, time.Until(deadline)*3/5)
		}
		steps = max(1, int(spread/drainStep))
	}
	tick := time.NewTicker(drainStep)
	defer tick.Stop()
	for step := range steps {
		for _, c := range open[len(open)*step/steps : len(open)*(step+1)/steps] {
			c.close(socket.CloseServiceRestart, errRestarts)
		}
		if step == steps-1 {
			break
		}
		select {
		case <-tick.C:
		case <-emptied:
			return nil
		case <-ctx.Done():
			for _, c := range open[len(open)*(step+1)/steps:] {
				c.close(socket.CloseServiceRestart, errRestarts)
			}
			return ctx.Err()
		}
	}
	select {
	case <-emptied:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drainStep is the time between two closings of connections by Drain.
const drainStep = 10 * time.Millisecond

// errRestarts is what a connection is told that Drain closes.
const errRestarts = "this node restarts"

// deliver takes a signal from the fan-out. It does not wait.
func (h *Hub) deliver(s Signal) {
	if s.Room == everyNode {
		h.hear(s)
		return
	}
	h.mu.RLock()
	r := h.rooms[s.Room]
	h.mu.RUnlock()
	if r != nil {
		r.enqueue(s)
	}
}

// publish hands a signal to every node. A loss is logged: messages are found by the sequence,
// typing and presence mend themselves.
func (h *Hub) publish(ctx context.Context, s Signal) {
	s.Node = h.cfg.Node
	if err := h.cfg.Fanout.Publish(ctx, s); err != nil {
		h.cfg.Log.Warn("a signal was not published", "room", s.Room, "error", err)
	}
}

// runQueue holds rooms that have something to deliver, each at most once, so that one
// goroutine at a time runs a room and rooms take turns. Workers that find no room help with a large delivery.
type runQueue struct {
	mu     sync.Mutex
	ready  sync.Cond // there is a room to run, or a delivery to help with
	left   sync.Cond // the last helper has left a delivery
	rooms  []*room
	shared []*delivery // those of which occupants may be left
	closed bool
}

func (q *runQueue) init() { q.ready.L, q.left.L = &q.mu, &q.mu }

func (q *runQueue) push(r *room) {
	q.mu.Lock()
	q.rooms = append(q.rooms, r)
	q.mu.Unlock()
	q.ready.Signal()
}

// pop gives a turn the rooms to run: this worker's share of those that wait. If there is none, it returns a delivery to
// help with. Without both it is the end.
func (q *runQueue) pop(t *turn, workers int) *delivery {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.rooms) == 0 && len(q.shared) == 0 && !q.closed {
		q.ready.Wait()
	}
	switch {
	case len(q.rooms) > 0:
		t.n = copy(t.rooms[:], q.rooms[:(len(q.rooms)+workers-1)/workers])
		clear(q.rooms[:t.n])
		if q.rooms = q.rooms[t.n:]; len(q.rooms) == 0 {
			q.rooms = nil
		}
		return nil
	case q.closed:
		return nil
	}
	d := q.shared[0]
	d.helpers++
	return d
}

// waits reports whether a room waits for a worker.
func (q *runQueue) waits() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.rooms) > 0
}

// share asks so many workers to help with a delivery, if they have nothing else to do.
func (q *runQueue) share(d *delivery, helpers int) {
	q.mu.Lock()
	q.shared = append(q.shared, d)
	q.mu.Unlock()
	for range helpers {
		q.ready.Signal()
	}
}

// withdraw lets no more workers help with a delivery.
func (q *runQueue) withdraw(d *delivery) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop(d)
}

// drop takes a delivery out of shared, under mu.
func (q *runQueue) drop(d *delivery) {
	if i := slices.Index(q.shared, d); i >= 0 {
		q.shared = slices.Delete(q.shared, i, i+1)
	}
}

// leave says that a worker no longer helps with a delivery.
func (q *runQueue) leave(d *delivery) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if d.helpers--; d.helpers == 0 {
		q.left.Broadcast()
	}
}

// finish waits until nobody helps with a delivery any more.
func (q *runQueue) finish(d *delivery) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop(d)
	for d.helpers > 0 {
		q.left.Wait()
	}
}

func (q *runQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.ready.Broadcast()
}

func (h *Hub) deliverLoop() {
	var t turn
	for {
		t.n = 0
		switch d := h.queue.pop(&t, h.cfg.Workers); {
		case t.n > 0:
			t.run()
		case d != nil:
			d.help(&h.queue)
		default:
			return
		}
	}
}
