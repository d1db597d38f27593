package sim

import (
	"context"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

// told makes calls say what they are about, where several of a method may wait at once. The trace has it, and their order does not
// depend on chance.
func told(p parley.Ports) parley.Ports {
	p.Publisher = toldPublisher{p.Publisher}
	p.Messages = toldMessages{p.Messages}
	p.Members = toldMembers{p.Members}
	p.Marks = toldMarks{p.Marks}
	p.Recent = toldCache{p.Recent}
	p.Presence = toldPresence{p.Presence}
	if p.Roles != nil { // all of them
		p.Rooms, p.Roles = toldRooms{p.Rooms}, toldRoles{p.Roles}
		p.Restrictions, p.Blocks = toldRestrictions{p.Restrictions}, toldBlocks{p.Blocks}
	}
	if p.Fanout != nil {
		p.Fanout = toldFanout{p.Fanout}
	}
	return p
}

type toldPublisher struct{ event.Publisher }

func (t toldPublisher) Publish(ctx context.Context, events ...event.Event) error {
	if len(events) > 0 {
		ctx = tell(ctx, len(events), " of ", events[0].Topic)
	}
	return t.Publisher.Publish(ctx, events...)
}

type toldMessages struct{ chat.MessageStore }

func (t toldMessages) Append(ctx context.Context, messages []chat.Message) ([]chat.Stored, error) {
	return t.MessageStore.Append(tell(ctx, len(messages), " in ", messages[0].Room), messages)
}

func (t toldMessages) List(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
	return t.MessageStore.List(tell(ctx, room, " ", r), room, r)
}

func (t toldMessages) Change(ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
	return t.MessageStore.Change(tell(ctx, len(changes), " changes in ", changes[0].Room), changes)
}

func (t toldMessages) Bounds(ctx context.Context, room string) (chat.Bounds, error) {
	return t.MessageStore.Bounds(tell(ctx, room), room)
}

type toldMembers struct{ chat.Members }

func (t toldMembers) Remove(ctx context.Context, room string, who user.ID) error {
	return t.Members.Remove(tell(ctx, room, " ", who), room, who)
}

type toldMarks struct{ chat.Marks }

func (t toldMarks) Mark(ctx context.Context, marks []chat.Mark) ([]chat.Marked, error) {
	return t.Marks.Mark(tell(ctx, len(marks), " of ", marks[0].User.ID, " in ", marks[0].Room, " at ", marks[0].Read), marks)
}

type toldCache struct{ chat.RecentCache }

func (t toldCache) Get(ctx context.Context, room string) (chat.Recent, bool, error) {
	return t.RecentCache.Get(tell(ctx, room), room)
}

func (t toldCache) Add(ctx context.Context, messages ...chat.Message) error {
	if len(messages) > 0 {
		ctx = tell(ctx, len(messages), " in ", messages[0].Room, " from ", messages[0].Seq)
	}
	return t.RecentCache.Add(ctx, messages...)
}

func (t toldCache) Change(ctx context.Context, messages ...chat.Message) error {
	if len(messages) > 0 {
		ctx = tell(ctx, len(messages), " in ", messages[0].Room, " from ", messages[0].Rev)
	}
	return t.RecentCache.Change(ctx, messages...)
}

func (t toldCache) Fill(ctx context.Context, room string, r chat.Recent) error {
	return t.RecentCache.Fill(tell(ctx, room), room, r)
}

type toldPresence struct{ realtime.Presence }

func (t toldPresence) Enter(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
	return t.Presence.Enter(tell(ctx, room, " ", who.Name), now, node, room, who)
}

func (t toldPresence) Exit(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
	return t.Presence.Exit(tell(ctx, room, " ", who.Name), now, node, room, who)
}

func (t toldPresence) List(ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
	return t.Presence.List(tell(ctx, room, " ", limit), now, room, limit)
}

func (t toldPresence) Renew(ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
	rooms := ""
	for _, roll := range r.Rolls {
		rooms += " " + roll.Room
	}
	return t.Presence.Renew(tell(ctx, r.Node, rooms), r)
}

type toldFanout struct{ realtime.Fanout }

func (t toldFanout) Publish(ctx context.Context, s realtime.Signal) error {
	return t.Fanout.Publish(tell(ctx, s.Room, describe(s)), s)
}

func (t toldFanout) Follow(ctx context.Context, room string) error {
	return t.Fanout.Follow(tell(ctx, room), room)
}

func (t toldFanout) Unfollow(ctx context.Context, room string) error {
	return t.Fanout.Unfollow(tell(ctx, room), room)
}
