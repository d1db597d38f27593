package wsclient

import (
	"context"
	"slices"
	"time"
)

// Sender sends messages: a [Client], or a [REST].
type Sender interface {
	SendDraft(ctx context.Context, room string, d Draft) (Sent, error)
}

var (
	_ Sender = (*Client)(nil)
	_ Sender = (*REST)(nil)
)

// UnderwayKind says what an [Underway] is.
type UnderwayKind uint8

// The kinds of what is under way.
const (
	UnderwayMessage UnderwayKind = iota + 1 // Draft
	UnderwayEdit                            // Seq, Draft.Text, Draft.Data
	UnderwayDelete                          // Seq
	UnderwayReact                           // Seq, Key
	UnderwayUnreact                         // Seq, Key
)

// UnderwayState says how far it has come.
type UnderwayState uint8

// The states of what is under way. What is stored is not under way any more.
const (
	UnderwayWaits  UnderwayState = iota + 1 // the server has not answered
	UnderwayFailed                          // Err says why
)

// Underway is something of one's own that the server has not acknowledged.
type Underway struct {
	// ID is for [View.Forget]: it grows from one to the next.
	ID    uint64
	Kind  UnderwayKind
	State UnderwayState
	// Err is why it failed. After an error of the context or of a lost connection it may be stored all the same.
	Err error
	// Room is where, by the name that was given.
	Room string
	// Seq is the message that is changed.
	Seq uint64
	// Draft is the message with its ClientID, or what an edit makes of one.
	Draft Draft
	// Key is that of a reaction.
	Key string
	// At is when it was asked for.
	At time.Time
}

// underway is an Underway in the view's list.
type underway struct{ Underway }

// Underway lists what of one's own is under way in a room or has failed, in the order of asking: messages by [View.Send], and changes by [View.Edit] and the like.
// What the server has acknowledged is not in it, nor is a message that came back as an event or in a page with its client id.
//
// What has failed stays until it is asked for again (a message with the same ClientID, a change of the same message in the same way) or until
// [View.Forget]. At most ViewConfig.Keep of them stay in all rooms together, the latest.
func (v *View) Underway(room string) []Underway {
	v.mu.Lock()
	defer v.mu.Unlock()
	var all []Underway
	for _, u := range v.underway {
		if u.Room == room {
			all = append(all, u.Underway)
		}
	}
	return all
}

// Forget takes what has failed off the list, and reports whether it was there.
func (v *View) Forget(id uint64) bool {
	v.mu.Lock()
	i := slices.IndexFunc(v.underway, func(u *underway) bool { return u.ID == id && u.State == UnderwayFailed })
	if i < 0 {
		v.mu.Unlock()
		return false
	}
	room := v.underway[i].Room
	v.underway = slices.Delete(v.underway, i, i+1)
	v.mu.Unlock()
	v.cfg.Changed(room)
	return true
}

// Send sends a message, by a client or over REST. It is in [View.Underway] until it is stored, and stays there if it fails: to send that Draft again
// stores it once. The view shows the message when it comes back as an event.
func (v *View) Send(ctx context.Context, by Sender, room string, d Draft) (Sent, error) {
	if d.ClientID == "" {
		d.ClientID = v.cfg.NewID()
	}
	v.mu.Lock()
	begun := v.begin(Underway{Kind: UnderwayMessage, Room: room, Draft: d})
	v.mu.Unlock()
	v.cfg.Changed(room)
	sent, err := by.SendDraft(ctx, room, d)
	v.mu.Lock()
	v.end(begun, err)
	v.mu.Unlock()
	v.cfg.Changed(room)
	return sent, err
}

// begin puts something on the list, in place of what has failed of the same. v.mu is held.
func (v *View) begin(what Underway) *underway {
	v.asked++
	what.ID, what.State, what.At = v.asked, UnderwayWaits, v.cfg.Now()
	v.underway = slices.DeleteFunc(v.underway, func(u *underway) bool {
		return u.State == UnderwayFailed && u.Room == what.Room && u.Kind == what.Kind && u.Seq == what.Seq && u.Key == what.Key && u.Draft.ClientID == what.Draft.ClientID
	})
	begun := &underway{what}
	v.underway = append(v.underway, begun)
	return begun
}

// end takes the outcome of what was begun. v.mu is held.
func (v *View) end(begun *underway, err error) {
	if err == nil {
		v.underway = slices.DeleteFunc(v.underway, func(u *underway) bool { return u == begun })
		return
	}
	begun.State, begun.Err = UnderwayFailed, err
	failed := 0
	for _, u := range v.underway {
		if u.State == UnderwayFailed {
			failed++
		}
	}
	if failed > v.cfg.Keep {
		i := slices.IndexFunc(v.underway, func(u *underway) bool { return u.State == UnderwayFailed })
		v.underway = slices.Delete(v.underway, i, i+1)
	}
}

// settle takes a message that is stored off the list. v.mu is held.
func (v *View) settle(m Message) {
	if m.ClientID == "" || m.User.ID != v.cfg.User || len(v.underway) == 0 {
		return
	}
	v.underway = slices.DeleteFunc(v.underway, func(u *underway) bool {
		return u.Kind == UnderwayMessage && u.Room == m.Room && u.Draft.ClientID == m.ClientID
	})
}

// typist is somebody who types.
type typist struct {
	user  User
	until time.Time
	stop  func() bool
}

// Typing lists who types in a room, the client's own user excepted, in the order in which they began. Somebody has ended when the server says so, when their message
// comes, when they leave, when the connection is lost or events are, and after ViewConfig.TypingFor in any case.
func (v *View) Typing(room string) []User {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.cfg.Now()
	var all []User
	for _, t := range v.typing[room] {
		if now.Before(t.until) {
			all = append(all, t.user)
		}
	}
	return all
}

// tellTyping takes what an event says of who types, and returns the rooms in which that changed. v.mu is held.
func (v *View) tellTyping(e Event) (changed []string) {
	ends := func(room string, ended func(*typist) bool) {
		var left []*typist
		for _, t := range v.typing[room] {
			if !ended(t) {
				left = append(left, t)
				continue
			}
			t.stop()
		}
		if len(left) < len(v.typing[room]) {
			v.nowTyping(room, left)
			changed = append(changed, room)
		}
	}
	all := func(*typist) bool { return true }
	of := func(id string) func(*typist) bool { return func(t *typist) bool { return t.user.ID == id } }
	switch {
	case e.Kind == EventDisconnected:
		for room := range v.typing {
			ends(room, all)
		}
	case e.Kind == EventTyping && e.Typing && e.User.ID != v.cfg.User:
		if v.types(e.Room, e.User) {
			changed = append(changed, e.Room)
		}
	case e.Kind == EventTyping, e.Kind == EventLeft, e.Kind == EventMembership && e.Role == "":
		ends(e.Room, of(e.User.ID))
	case e.Kind == EventMessage:
		ends(e.Room, of(e.Message.User.ID))
	case e.Kind == EventResync, e.Kind == EventRemoved:
		ends(e.Room, all)
	}
	return changed
}

// types takes note that somebody types, and reports whether they have begun just now. v.mu is held.
func (v *View) types(room string, who User) bool {
	i := slices.IndexFunc(v.typing[room], func(t *typist) bool { return t.user.ID == who.ID })
	begun := i < 0
	if begun {
		i = len(v.typing[room])
		v.typing[room] = append(v.typing[room], &typist{})
	} else {
		v.typing[room][i].stop()
	}
	t := &typist{user: who, until: v.cfg.Now().Add(v.cfg.TypingFor)}
	v.typing[room][i] = t
	t.stop = v.cfg.AfterFunc(v.cfg.TypingFor, func() { v.late(room, t) })
	return begun
}

// late ends somebody's typing of which nothing more was told.
func (v *View) late(room string, t *typist) {
	v.mu.Lock()
	i := slices.Index(v.typing[room], t)
	if i >= 0 {
		v.nowTyping(room, slices.Delete(v.typing[room], i, i+1))
	}
	v.mu.Unlock()
	if i >= 0 {
		v.cfg.Changed(room)
	}
}

// nowTyping says who types. v.mu is held.
func (v *View) nowTyping(room string, who []*typist) {
	if v.typing[room] = who; len(who) == 0 {
		delete(v.typing, room)
	}
}
