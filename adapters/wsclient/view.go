package wsclient

import (
	"cmp"
	"context"
	"crypto/rand"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/settings"
)

// ViewConfig is what a [View] needs. Zero fields without "required" mean the default.
type ViewConfig struct {
	// User is the id of the client's own user. Required.
	User string
	// Keep is how many messages of a room are kept, the latest. Default 1,000.
	Keep int
	// Changed is called when a room may look otherwise than before, with its name. It may call the view. It is called by whoever calls
	// the view, so perhaps by many goroutines at once, and holds them up. Default: nobody is told.
	Changed func(room string)
	// TypingFor is how long somebody types for whom nothing more is told. The server says so itself, mostly after 6 seconds: this is for when that is
	// lost. Default 10 seconds.
	TypingFor time.Duration
	// NewID makes client ids for messages. Default: random ones.
	NewID func() string
	// Now is the clock, and AfterFunc calls a function after a while, unless stop is called before. Default: those of package time.
	Now       func() time.Time
	AfterFunc func(after time.Duration, call func()) (stop func() bool)
}

// View is what a program shows of rooms: which there are, how many messages are unread, and the latest messages as they are now, with
// one's own changes from the moment they are asked for; what of one's own is under way, or has failed ([View.Underway]); and who types ([View.Typing]). Its
// methods may be called from many goroutines, and wait for nothing but what they ask the server.
//
// It is made of what it is given: the events of a [Client] ([View.Take]) and the list of the user's rooms ([View.Load]). Joining stays with the program. Rooms are called
// by the names that the server tells.
type View struct {
	cfg ViewConfig

	mu       sync.Mutex
	rooms    map[string]*shown
	n        uint64 // counts what was taken
	underway []*underway
	asked    uint64 // the last Underway.ID
	typing   map[string][]*typist
}

// RoomView is a room as a [View] shows it.
type RoomView struct {
	Name string
	// Role is what the user is there; empty where that is not known: neither a list nor an event has told.
	Role chat.Role
	// Seq and Rev are the places of the last message and of the last change that are known.
	Seq, Rev uint64
	// Read is how far the user has read, as far as that is known: a Seq.
	Read uint64
	// Unread is how many messages come behind Read that are stored and not deleted. It is what was counted last if Counted is false: some may have come, or
	// gone, that the view was not told of. [View.Load] counts anew.
	Unread  uint64
	Counted bool
	// Last is the last message that is known, as it is now. Its Seq is 0 if there is none.
	Last Message
	// MutedUntil is when the user may send again, as of a [MyRoom].
	MutedUntil time.Time
}

// Changer changes messages: a [Client], or a [REST].
type Changer interface {
	EditData(ctx context.Context, room string, seq uint64, text string, data any) (rev uint64, err error)
	Delete(ctx context.Context, room string, seq uint64) (rev uint64, err error)
	React(ctx context.Context, room string, seq uint64, key string) (rev uint64, err error)
	Unreact(ctx context.Context, room string, seq uint64, key string) (rev uint64, err error)
}

// Marker says how far the user has read: a [Client], or a [REST].
type Marker interface {
	Mark(ctx context.Context, room string, read uint64) (Marked, error)
}

var (
	_ Changer = (*Client)(nil)
	_ Changer = (*REST)(nil)
	_ Marker  = (*Client)(nil)
	_ Marker  = (*REST)(nil)
)

// shown is what is known of a room.
type shown struct {
	name       string
	role       chat.Role
	mutedUntil time.Time
	taken      uint64 // View.n when something was last told of it
	seq, rev   uint64
	// messages are the latest, one after the other without a hole, as the server has told them.
	messages []Message
	last     Message
	own      []*ownChange // in the order of asking

	count
}

// ownChange is a change of one's own that is not in what the server has told.
type ownChange struct {
	seq   uint64
	apply func(*Message)
	rev   uint64 // 0 until it is stored
}

// NewView returns a view of nothing.
func NewView(cfg ViewConfig) (*View, error) {
	check := settings.Of("wsclient: ViewConfig")
	check.Require("User", cfg.User == "")
	settings.Default(check, "Keep", &cfg.Keep, 1000)
	settings.Default(check, "TypingFor", &cfg.TypingFor, 10*time.Second)
	if err := check.Err(); err != nil {
		return nil, err
	}
	if cfg.Changed == nil {
		cfg.Changed = func(string) {}
	}
	if cfg.NewID == nil {
		cfg.NewID = rand.Text
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.AfterFunc == nil {
		cfg.AfterFunc = func(after time.Duration, call func()) func() bool { return time.AfterFunc(after, call).Stop }
	}
	return &View{cfg: cfg, rooms: make(map[string]*shown), typing: make(map[string][]*typist)}, nil
}

// Rooms returns the rooms that are known, the one with the latest message first.
func (v *View) Rooms() []RoomView {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := make([]RoomView, 0, len(v.rooms))
	for _, r := range v.rooms {
		all = append(all, r.view())
	}
	slices.SortFunc(all, func(a, b RoomView) int {
		return cmp.Or(b.Last.At.Compare(a.Last.At), strings.Compare(a.Name, b.Name))
	})
	return all
}

// Room returns a room, if it is known.
func (v *View) Room(name string) (RoomView, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.rooms[name]
	if r == nil {
		return RoomView{}, false
	}
	return r.view(), true
}

// Messages returns the messages of a room that are kept, ascending by Seq and without a hole, as they are once one's own changes are stored.
func (v *View) Messages(name string) []Message {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.rooms[name]
	if r == nil {
		return nil
	}
	all := slices.Clone(r.messages)
	for _, change := range r.own {
		if i, ok := r.at(change.seq); ok {
			change.apply(&all[i])
		}
	}
	return all
}

// Message returns a message that is kept, as it is once one's own changes are stored. pending says that the server has not stored all of them.
func (v *View) Message(name string, seq uint64) (m Message, pending, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.rooms[name]
	if r == nil {
		return Message{}, false, false
	}
	i, ok := r.at(seq)
	if !ok {
		return Message{}, false, false
	}
	m, pending = r.withOwn(r.messages[i])
	return m, pending, true
}

// Take takes an event: give it all that Config.Handle is given.
func (v *View) Take(e Event) {
	v.mu.Lock()
	typing := v.tellTyping(e)
	if v.take(e) && !slices.Contains(typing, e.Room) {
		typing = append(typing, e.Room)
	}
	v.mu.Unlock()
	for _, room := range typing {
		v.cfg.Changed(room)
	}
}

// take takes an event, and reports whether its room may look otherwise. v.mu is held.
func (v *View) take(e Event) bool {
	if e.Room == "" {
		return false
	}
	r, known := v.rooms[e.Room]
	mine := e.User.ID == v.cfg.User
	switch {
	case e.Kind == EventMessage:
		v.settle(e.Message)
		v.room(e.Room).message(e.Message, v.cfg)
	case e.Kind == EventChanged:
		v.settle(e.Message)
		v.room(e.Room).changed(e.Message, v.cfg)
	case e.Kind == EventMarked && mine && known:
		r.advance(e.Read)
		r.knowsRead = true
		r.recount()
	case e.Kind == EventMembership && mine && e.Role != "":
		r = v.room(e.Room)
		r.role, r.mutedUntil = chat.Role(e.Role), e.Until
	case e.Kind == EventRemoved, e.Kind == EventMembership && mine:
		delete(v.rooms, e.Room)
	case e.Kind == EventResync && e.Lost && known:
		r.reset()
	default:
		return false
	}
	v.n++
	if r := v.rooms[e.Room]; r != nil {
		r.taken = v.n
	}
	return true
}

// Load takes the list of the user's rooms, as [REST.MyRooms] has it: at the beginning, after each EventConnected, and where Counted is false. What was counted of
// a room that was joined by [View.Join] stays, where the list is older. A room that is not
// in it, and of which nothing was told meanwhile, is not shown any more. After an error all stays that is not in what came before.
func (v *View) Load(rooms iter.Seq2[MyRoom, error]) error {
	v.mu.Lock()
	began := v.n
	v.mu.Unlock()
	listed := map[string]bool{}
	for m, err := range rooms {
		if err != nil {
			return err
		}
		listed[m.Room] = true
		v.mu.Lock()
		v.room(m.Room).list(m, v.cfg)
		v.mu.Unlock()
		v.cfg.Changed(m.Room)
	}
	var left []string
	v.mu.Lock()
	for name, r := range v.rooms {
		if !listed[name] && r.taken <= began {
			delete(v.rooms, name)
			left = append(left, name)
		}
	}
	v.mu.Unlock()
	for _, name := range left {
		v.cfg.Changed(name)
	}
	return nil
}

// Add takes a page of a room's history, as [Client.History] and [REST.History] have it: one that was asked for after the room was joined. What lies next to the messages that are kept is kept too, until
// the next message comes, if there are more than Keep.
func (v *View) Add(name string, p Page) {
	v.mu.Lock()
	r := v.room(name)
	for _, m := range slices.Backward(slices.SortedFunc(slices.Values(p.Messages), func(a, b Message) int { return cmp.Compare(a.Seq, b.Seq) })) {
		m.Room = name
		v.settle(m)
		m = r.newest(m)
		r.update(m, v.cfg)
		if len(r.messages) == 0 || m.Seq == r.messages[0].Seq-1 {
			r.messages = slices.Insert(r.messages, 0, m)
			r.added(m.Seq)
		}
	}
	r.recount()
	v.n++
	r.taken = v.n
	v.mu.Unlock()
	v.cfg.Changed(name)
}

// Join joins a room by a client, and takes from the answer how far the user has read it, and from where on the client tells what changes. Where
// the room was counted by a list that is older than that, Counted is false until the next [View.Load].
func (v *View) Join(ctx context.Context, c *Client, name string) (Joined, error) {
	c.mu.Lock()
	followed := c.rooms[c.name(name)] != nil
	c.mu.Unlock()
	j, err := c.Join(ctx, name)
	if err != nil {
		return j, err
	}
	c.mu.Lock()
	name = c.name(name) // as the server calls it
	c.mu.Unlock()
	v.joined(name, j, followed)
	return j, nil
}

// joined takes the answer to a join. followed says that the client was in the room, so that it misses nothing of it.
func (v *View) joined(name string, j Joined, followed bool) {
	v.mu.Lock()
	r := v.room(name)
	r.follow(j, followed)
	r.recount()
	v.n++
	r.taken = v.n
	v.mu.Unlock()
	v.cfg.Changed(name)
}

// Mark says that the user has read a room up to a message, by a client or over REST. The view shows it when it is stored.
func (v *View) Mark(ctx context.Context, by Marker, name string, read uint64) (Marked, error) {
	m, err := by.Mark(ctx, name, read)
	if err != nil {
		return m, err
	}
	v.mu.Lock()
	r := v.rooms[name]
	if r != nil {
		r.advance(m.Read)
		r.knowsRead = true
		if r.recount(); !r.counted {
			r.unread = m.Unread
		}
	}
	v.mu.Unlock()
	if r != nil {
		v.cfg.Changed(name)
	}
	return m, nil
}

// Edit gives a message of one's own another text, by a client or over REST. The view shows it at once, and as it was before if it is
// refused; meanwhile, and if it was refused, it is in [View.Underway]. Two changes of one message are to be asked for by one of the two, and not at once.
func (v *View) Edit(ctx context.Context, by Changer, name string, seq uint64, text string) (rev uint64, err error) {
	return v.EditData(ctx, by, name, seq, text, nil)
}

// EditData is like [View.Edit], and gives the message other data too. With nil it keeps what it has.
func (v *View) EditData(ctx context.Context, by Changer, name string, seq uint64, text string, extra any) (rev uint64, err error) {
	encoded, err := attached(extra)
	if err != nil {
		return 0, err
	}
	at := v.cfg.Now()
	what := Underway{Kind: UnderwayEdit, Room: name, Seq: seq, Draft: Draft{Text: text}}
	if encoded != nil {
		what.Draft.Data = encoded
	}
	return v.change(what, func(m *Message) {
		if m.Text == text && encoded == nil {
			return
		}
		m.Text, m.EditedAt = text, at
		if encoded != nil {
			m.Data = encoded
		}
	}, func() (uint64, error) { return by.EditData(ctx, name, seq, text, what.Draft.Data) })
}

// Delete erases a message, as [View.Edit] edits one.
func (v *View) Delete(ctx context.Context, by Changer, name string, seq uint64) (rev uint64, err error) {
	at := v.cfg.Now()
	return v.change(Underway{Kind: UnderwayDelete, Room: name, Seq: seq}, func(m *Message) {
		m.Text, m.EditedAt, m.DeletedAt, m.ReplyTo, m.Data, m.Reactions = "", time.Time{}, at, 0, nil, nil
	}, func() (uint64, error) { return by.Delete(ctx, name, seq) })
}

// React reacts to a message, as [View.Edit] edits one.
func (v *View) React(ctx context.Context, by Changer, name string, seq uint64, key string) (rev uint64, err error) {
	return v.change(Underway{Kind: UnderwayReact, Room: name, Seq: seq, Key: key}, func(m *Message) { m.Reactions = reacted(m.Reactions, key, v.cfg.User, true) },
		func() (uint64, error) { return by.React(ctx, name, seq, key) })
}

// Unreact takes a reaction back, as [View.Edit] edits a message.
func (v *View) Unreact(ctx context.Context, by Changer, name string, seq uint64, key string) (rev uint64, err error) {
	return v.change(Underway{Kind: UnderwayUnreact, Room: name, Seq: seq, Key: key}, func(m *Message) { m.Reactions = reacted(m.Reactions, key, v.cfg.User, false) },
		func() (uint64, error) { return by.Unreact(ctx, name, seq, key) })
}

// change shows a change, asks for it, and takes it back if it is refused.
func (v *View) change(what Underway, apply func(*Message), ask func() (uint64, error)) (uint64, error) {
	change := &ownChange{seq: what.Seq, apply: func(m *Message) {
		if m.DeletedAt.IsZero() {
			apply(m)
		}
	}}
	v.mu.Lock()
	begun := v.begin(what)
	r := v.rooms[what.Room]
	if r != nil {
		r.own = append(r.own, change)
	}
	v.mu.Unlock()
	v.cfg.Changed(what.Room)
	rev, err := ask()
	v.mu.Lock()
	v.end(begun, err)
	if r != nil {
		change.rev = rev
		if i, held := r.at(what.Seq); err != nil || !held || r.messages[i].Rev >= rev {
			r.own = slices.DeleteFunc(r.own, func(c *ownChange) bool { return c == change })
		}
	}
	v.mu.Unlock()
	v.cfg.Changed(what.Room)
	return rev, err
}

// reacted returns reactions with, or without, that of a user. What it is given stays.
func reacted(all []Reaction, key, user string, on bool) []Reaction {
	i := slices.IndexFunc(all, func(r Reaction) bool { return r.Key == key })
	if i < 0 {
		if !on {
			return all
		}
		return append(slices.Clone(all), Reaction{Key: key, Count: 1, Users: []string{user}})
	}
	one := all[i]
	if slices.Contains(one.Users, user) == on {
		return all
	}
	all = slices.Clone(all)
	if on {
		one.Count++
		one.Users = append(slices.Clone(one.Users[:min(len(one.Users), chat.MaxReactionUsers-1)]), user)
	} else {
		one.Count--
		one.Users = slices.DeleteFunc(slices.Clone(one.Users), func(id string) bool { return id == user })
	}
	if one.Count == 0 {
		return slices.Delete(all, i, i+1)
	}
	all[i] = one
	return all
}

// room returns a room, which is known from now on. v.mu is held.
func (v *View) room(name string) *shown {
	r := v.rooms[name]
	if r == nil {
		r = &shown{name: name}
		r.reset()
		v.rooms[name] = r
	}
	return r
}

// reset forgets what a room has: it begins anew.
func (r *shown) reset() {
	r.uncount()
	*r = shown{
		name: r.name, role: r.role, mutedUntil: r.mutedUntil, taken: r.taken,
		own: slices.DeleteFunc(r.own, func(c *ownChange) bool { return c.rev != 0 }),
		count: count{
			unread: r.unread, live: r.live, fresh: make(map[uint64]struct{}), gone: make(map[uint64]Message),
		},
	}
}

func (r *shown) view() RoomView {
	last, _ := r.withOwn(r.last)
	return RoomView{
		Name: r.name, Role: r.role, Seq: r.seq, Rev: r.rev, Read: r.read, Unread: r.number(), Counted: r.counted, Last: last, MutedUntil: r.mutedUntil,
	}
}

// at returns where a message is kept.
func (r *shown) at(seq uint64) (int, bool) {
	if len(r.messages) == 0 || seq < r.messages[0].Seq || seq-r.messages[0].Seq >= uint64(len(r.messages)) {
		return 0, false
	}
	return int(seq - r.messages[0].Seq), true
}

func (r *shown) withOwn(m Message) (_ Message, pending bool) {
	for _, change := range r.own {
		if change.seq == m.Seq {
			change.apply(&m)
			pending = pending || change.rev == 0
		}
	}
	return m, pending
}
