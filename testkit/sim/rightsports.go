package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/user"
)

// ports lets the rules see what is stored of rights.
func (r *rules) ports(p parley.Ports, of *process) parley.Ports {
	p.Rooms = ruledRooms{p.Rooms, r}
	p.Members = ruledMembers{p.Members, r}
	p.Roles = ruledRoles{p.Roles, r}
	p.Restrictions = ruledRestrictions{p.Restrictions, r}
	p.Blocks = ruledBlocks{p.Blocks, r}
	p.Messages = ruledMessages{p.Messages, r, of}
	return p
}

type ruledRooms struct {
	chat.Rooms
	r *rules
}

func (d ruledRooms) Ensure(ctx context.Context, room chat.Room) (chat.Room, error) {
	defer d.r.look()
	return d.Rooms.Ensure(ctx, room)
}

func (d ruledRooms) Update(ctx context.Context, name string, by chat.By, change func(r *chat.Room, as chat.Role) error) (chat.Room, error) {
	defer d.r.look()
	room, err := d.Rooms.Update(ctx, name, by, change)
	if err == nil {
		d.r.does(ctx, name)
	}
	return room, err
}

type ruledMembers struct {
	chat.Members
	r *rules
}

func (d ruledMembers) Add(ctx context.Context, m ...chat.Membership) ([]chat.Membership, error) {
	defer d.r.look()
	return d.Members.Add(ctx, m...)
}

func (d ruledMembers) Remove(ctx context.Context, room string, id user.ID) error {
	defer d.r.look()
	return d.Members.Remove(ctx, room, id)
}

type ruledRoles struct {
	chat.Roles
	r *rules
}

func (d ruledRoles) Create(ctx context.Context, room chat.Room, members ...chat.Membership) (chat.Room, error) {
	defer d.r.look()
	return d.Roles.Create(ctx, room, members...)
}

func (d ruledRoles) Change(
	ctx context.Context, c chat.RoleChange, may func(r chat.Room, by, of chat.Role, owners int) error,
) (before, after chat.Membership, err error) {
	defer d.r.look()
	before, after, err = d.Roles.Change(ctx, c, may)
	if err == nil && before.Role != after.Role && c.By != c.User {
		d.r.does(ctx, c.Room)
	}
	return before, after, err
}

type ruledRestrictions struct {
	chat.Restrictions
	r *rules
}

func (d ruledRestrictions) Put(ctx context.Context, of chat.Restriction, may func(room chat.Room, by, of chat.Role) error) (chat.Restriction, error) {
	defer d.r.look()
	if of.Kind == chat.Ban || of.Kind == chat.Mute {
		d.r.does(ctx, of.Room)
	}
	return d.Restrictions.Put(ctx, of, may)
}

type ruledBlocks struct {
	chat.Blocks
	r *rules
}

func (d ruledBlocks) Put(ctx context.Context, b chat.Block, limit int) (chat.Block, error) {
	defer d.r.look()
	return d.Blocks.Put(ctx, b, limit)
}

func (d ruledBlocks) Remove(ctx context.Context, pairs ...chat.Pair) error {
	defer d.r.look()
	return d.Blocks.Remove(ctx, pairs...)
}

type ruledMessages struct {
	chat.MessageStore
	r *rules
	p *process
}

func (d ruledMessages) Append(ctx context.Context, messages []chat.Message) ([]chat.Stored, error) {
	stored, err := d.MessageStore.Append(ctx, messages)
	for _, m := range stored {
		if err == nil && !m.Repeated && d.r.about(m.Room) {
			d.r.stores(d.p, m.Room, m.Author.ID, m.ClientID)
		}
	}
	return stored, err
}

func (d ruledMessages) Change(ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
	answers, err := d.MessageStore.Change(ctx, changes)
	for i, a := range answers {
		if err == nil && a.Err == nil && !a.Repeated && d.r.about(changes[i].Room) {
			d.r.stores(d.p, changes[i].Room, changes[i].By.ID, changes[i].Key+changes[i].Text)
		}
	}
	return answers, err
}

// deed is what somebody does over REST.
type deed struct {
	by    user.ID
	right chat.Right
	since time.Duration
}

type deedKey struct{}

// does looks whether who changes something in a room had the right to it at some time since they asked.
func (r *rules) does(ctx context.Context, room string) {
	d, is := ctx.Value(deedKey{}).(deed)
	if !is {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.room(room)
	if known == nil {
		return
	}
	all := known.are[d.by]
	for i := len(all) - 1; i >= 0; i-- {
		s := all[i]
		if s.allows(reads, time.Now(), 0) && (s.role.Has(d.right, chat.Private) || s.role.Has(chat.RightOwn, chat.Private)) {
			return
		}
		if s.since <= d.since {
			break
		}
	}
	r.breaks("%s has changed %s, and had no right to %s since %v", r.name(d.by), room, d.right, d.since)
}

type toldRooms struct{ chat.Rooms }

func (t toldRooms) ByName(ctx context.Context, name string) (chat.Room, error) {
	return t.Rooms.ByName(tell(ctx, name), name)
}

type toldRoles struct{ chat.Roles }

func (t toldRoles) Of(ctx context.Context, whom ...chat.InRoom) ([]chat.Membership, error) {
	return t.Roles.Of(tell(ctx, whom), whom...)
}

func (t toldRoles) Change(
	ctx context.Context, c chat.RoleChange, may func(r chat.Room, by, of chat.Role, owners int) error,
) (before, after chat.Membership, err error) {
	return t.Roles.Change(tell(ctx, fmt.Sprintf("%s %s %s by %s", c.Room, c.User, c.Role, c.By)), c, may)
}

type toldRestrictions struct{ chat.Restrictions }

func (t toldRestrictions) Put(ctx context.Context, r chat.Restriction, may func(room chat.Room, by, of chat.Role) error) (chat.Restriction, error) {
	return t.Restrictions.Put(tell(ctx, r.Room, " ", r.UserID, " ", r.Kind), r, may)
}

func (t toldRestrictions) InForce(ctx context.Context, now time.Time, whom ...chat.InRoom) ([]chat.Restriction, error) {
	return t.Restrictions.InForce(tell(ctx, whom), now, whom...)
}

type toldBlocks struct{ chat.Blocks }

func (t toldBlocks) Among(ctx context.Context, pairs ...chat.Pair) ([]chat.Block, error) {
	return t.Blocks.Among(tell(ctx, pairs), pairs...)
}
