package sim

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
)

// Bugs are the names of the mistakes that can be put in on purpose, in alphabetical order. A simulation that does not find them
// proves nothing.
func Bugs() []string { return slices.Sorted(maps.Keys(bugs)) }

// bugs put a mistake into ports. One that returns its ports as they are is elsewhere.
var bugs = map[string]func(*bug, parley.Ports) parley.Ports{
	"a cache misses what was stored": func(b *bug, p parley.Ports) parley.Ports {
		p.Recent = forgetfulCache{p.Recent, b}
		return p
	},
	"a client id is stored twice": func(b *bug, p parley.Ports) parley.Ports {
		p.Messages = twiceStored{p.Messages, b}
		return p
	},
	"a mail goes out again under another id": func(b *bug, p parley.Ports) parley.Ports {
		p.Sender = sentAgain{p.Sender}
		return p
	},
	"a node that follows a room again is forgotten": func(b *bug, p parley.Ports) parley.Ports { return p },
	"a page leaves out a change": func(b *bug, p parley.Ports) parley.Ports {
		p.Messages = gappedChanges{p.Messages, b}
		return p
	},
	"a page leaves out a message": func(b *bug, p parley.Ports) parley.Ports {
		p.Messages = gapped{p.Messages, b}
		return p
	},
	"a revocation is lost": func(b *bug, p parley.Ports) parley.Ports { return p },
	"an event is marked before it is published": func(b *bug, p parley.Ports) parley.Ports {
		p.Outbox = markedFirst{p.Outbox}
		return p
	},
	"attempts are forgotten": func(b *bug, p parley.Ports) parley.Ports {
		p.MailQueue = uncounted{p.MailQueue}
		return p
	},
	"deleted messages are unread": func(_ *bug, p parley.Ports) parley.Ports {
		p.Marks = countsDeleted{p.Marks, p.Messages}
		return p
	},
	"frames change places": func(b *bug, p parley.Ports) parley.Ports { return p },
	"leases do not end": func(b *bug, p parley.Ports) parley.Ports {
		p.Presence = endless{p.Presence}
		return p
	},
	"marks are acknowledged before they are stored": func(b *bug, p parley.Ports) parley.Ports {
		p.Marks = unstoredMarks{p.Marks, b}
		return p
	},
	"messages are acknowledged before they are stored": func(b *bug, p parley.Ports) parley.Ports {
		p.Messages = unstored{p.Messages, b}
		return p
	},
}

// bug is a mistake that is put into the world on purpose. One without a name is none.
type bug struct {
	name  string
	calls atomic.Int64
}

func (b *bug) is(name string) bool { return b.name == name }

// each is true at every nth call.
func (b *bug) each(n int64) bool { return b.calls.Add(1)%n == 0 }

func (b *bug) ports(p parley.Ports) parley.Ports {
	if b.name == "" {
		return p
	}
	return bugs[b.name](b, p)
}

// loses reports whether the bus loses an event.
func (b *bug) loses(e event.Event) bool {
	return b.is("a revocation is lost") && e.Topic == auth.Topic && b.each(3)
}

// follows reports whether the fan-out notes that a node follows a room: in the bug only the first time.
func (b *bug) follows(n *fanoutNode, room string) bool {
	if !b.is("a node that follows a room again is forgotten") {
		return true
	}
	_, again := n.rooms[room]
	return !again
}

// sends is what a connection has to send.
func (b *bug) sends(out []*socket.Frame) []*socket.Frame {
	if n := len(out); n > 1 && b.is("frames change places") && b.each(5) {
		out[n-1], out[n-2] = out[n-2], out[n-1]
	}
	return out
}

type unstored struct {
	chat.MessageStore
	bug *bug
}

func (s unstored) Append(ctx context.Context, messages []chat.Message) ([]chat.Stored, error) {
	if !s.bug.each(20) {
		return s.MessageStore.Append(ctx, messages)
	}
	stored := make([]chat.Stored, len(messages))
	for i, m := range messages {
		b, err := s.Bounds(ctx, m.Room)
		if err != nil {
			return nil, err
		}
		m.Seq = b.Last + 1 + uint64(i)
		stored[i] = chat.Stored{Message: m}
	}
	return stored, nil
}

type unstoredMarks struct {
	chat.Marks
	bug *bug
}

// Mark answers at every third call what would be so if it was stored.
func (s unstoredMarks) Mark(ctx context.Context, marks []chat.Mark) ([]chat.Marked, error) {
	if !s.bug.each(3) {
		return s.Marks.Mark(ctx, marks)
	}
	asked := slices.Clone(marks)
	for i := range asked {
		asked[i].Read = 0
	}
	answers, err := s.Marks.Mark(ctx, asked)
	for i := range answers {
		if a := &answers[i]; a.Err == nil && marks[i].Read > a.Read {
			moved := min(marks[i].Read-a.Read, a.Unread) // exact where nothing behind it was deleted
			a.Read, a.Unread, a.Moved = a.Read+moved, a.Unread-moved, moved > 0
		}
	}
	return answers, err
}

type countsDeleted struct {
	chat.Marks
	messages chat.MessageStore
}

func (s countsDeleted) Mark(ctx context.Context, marks []chat.Mark) ([]chat.Marked, error) {
	answers, err := s.Marks.Mark(ctx, marks)
	for i := range answers {
		b, err := s.messages.Bounds(ctx, marks[i].Room)
		if err != nil {
			return nil, err
		}
		answers[i].Unread = b.Last - answers[i].Read
	}
	return answers, err
}

type twiceStored struct {
	chat.MessageStore
	bug *bug
}

// mark is what stands between a client's id and what makes it another one.
const mark = "~"

func (s twiceStored) Append(ctx context.Context, messages []chat.Message) ([]chat.Stored, error) {
	other := slices.Clone(messages)
	for i := range other {
		other[i].ClientID += strings.Repeat(mark, int(s.bug.calls.Add(1)))
	}
	stored, err := s.MessageStore.Append(ctx, other)
	for i := range stored {
		stored[i].ClientID = strings.TrimRight(stored[i].ClientID, mark)
	}
	return stored, err
}

func (s twiceStored) List(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
	messages, err := s.MessageStore.List(ctx, room, r)
	for i := range messages {
		messages[i].ClientID = strings.TrimRight(messages[i].ClientID, mark)
	}
	return messages, err
}

type gapped struct {
	chat.MessageStore
	bug *bug
}

func (s gapped) List(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
	messages, err := s.MessageStore.List(ctx, room, r)
	if len(messages) > 2 && s.bug.each(5) {
		messages = slices.Delete(messages, 1, 2)
	}
	return messages, err
}

type gappedChanges struct {
	chat.MessageStore
	bug *bug
}

func (s gappedChanges) List(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
	messages, err := s.MessageStore.List(ctx, room, r)
	if r.Changed && len(messages) > 1 && s.bug.each(5) {
		messages = messages[1:]
	}
	return messages, err
}

type forgetfulCache struct {
	chat.RecentCache
	bug *bug
}

func (c forgetfulCache) Add(ctx context.Context, messages ...chat.Message) error {
	if c.bug.each(5) {
		return nil
	}
	return c.RecentCache.Add(ctx, messages...)
}

type markedFirst struct{ event.Outbox }

func (o markedFirst) Pending(ctx context.Context, limit int) ([]event.Event, error) {
	events, err := o.Outbox.Pending(ctx, limit)
	for _, e := range events {
		if err := o.Published(ctx, e.ID); err != nil {
			return nil, err
		}
	}
	return events, err
}

type uncounted struct{ mail.Queue }

func (q uncounted) Claim(ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
	j, found, err := q.Queue.Claim(ctx, now, lease)
	j.Attempts = min(j.Attempts, 1)
	return j, found, err
}

type endless struct{ realtime.Presence }

func (p endless) Renew(ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
	r.Until = r.Until.Add(1000 * time.Hour)
	return p.Presence.Renew(ctx, r)
}

type sentAgain struct{ mail.Sender }

func (s sentAgain) Send(ctx context.Context, m mail.Message) error {
	if err := s.Sender.Send(ctx, m); err != nil {
		return err
	}
	m.ID = "again." + m.ID
	return s.Sender.Send(ctx, m)
}
