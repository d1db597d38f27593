package testkit

import (
	"context"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// FaultyMessages puts faults before a store of messages.
func FaultyMessages(next chat.MessageStore, f *Faults) chat.MessageStore { return messages{next, f} }

type messages struct {
	next   chat.MessageStore
	faults *Faults
}

// Recording puts the faults before the store that commits events as well.
func (d messages) Recording(record chat.Record) (chat.MessageStore, error) {
	recording, err := chat.Recording(d.next, record)
	if err != nil {
		return nil, err
	}
	return messages{recording, d.faults}, nil
}

func (d messages) Append(ctx context.Context, ms []chat.Message) ([]chat.Stored, error) {
	return ask(ctx, d.faults, "Messages.Append", func() ([]chat.Stored, error) { return d.next.Append(ctx, ms) })
}

func (d messages) Change(ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
	return ask(ctx, d.faults, "Messages.Change", func() ([]chat.Changed, error) { return d.next.Change(ctx, changes) })
}

func (d messages) List(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
	return ask(ctx, d.faults, "Messages.List", func() ([]chat.Message, error) { return d.next.List(ctx, room, r) })
}

func (d messages) Bounds(ctx context.Context, room string) (chat.Bounds, error) {
	return ask(ctx, d.faults, "Messages.Bounds", func() (chat.Bounds, error) { return d.next.Bounds(ctx, room) })
}

// FaultyRooms puts faults before a store of rooms.
func FaultyRooms(next chat.Rooms, f *Faults) chat.Rooms { return rooms{next, f} }

type rooms struct {
	next   chat.Rooms
	faults *Faults
}

// Recording puts the faults before the store that commits events as well.
func (d rooms) Recording(record chat.RoomRecord) (chat.Rooms, error) {
	recording, err := chat.RecordingRooms(d.next, record)
	if err != nil {
		return nil, err
	}
	return rooms{recording, d.faults}, nil
}

func (d rooms) Ensure(ctx context.Context, r chat.Room) (chat.Room, error) {
	return ask(ctx, d.faults, "Rooms.Ensure", func() (chat.Room, error) { return d.next.Ensure(ctx, r) })
}

func (d rooms) ByName(ctx context.Context, name string) (chat.Room, error) {
	return ask(ctx, d.faults, "Rooms.ByName", func() (chat.Room, error) { return d.next.ByName(ctx, name) })
}

func (d rooms) List(ctx context.Context, after string, limit int) ([]chat.Room, error) {
	return ask(ctx, d.faults, "Rooms.List", func() ([]chat.Room, error) { return d.next.List(ctx, after, limit) })
}

func (d rooms) Update(ctx context.Context, name string, by chat.By, change func(r *chat.Room, as chat.Role) error) (chat.Room, error) {
	return ask(ctx, d.faults, "Rooms.Update", func() (chat.Room, error) { return d.next.Update(ctx, name, by, change) })
}

// FaultyRoles puts faults before a store of roles.
func FaultyRoles(next chat.Roles, f *Faults) chat.Roles { return roles{next, f} }

type roles struct {
	next   chat.Roles
	faults *Faults
}

// Recording puts the faults before the store that commits events as well.
func (d roles) Recording(record chat.RoomRecord) (chat.Roles, error) {
	recording, err := chat.RecordingRooms(d.next, record)
	if err != nil {
		return nil, err
	}
	return roles{recording, d.faults}, nil
}

func (d roles) Create(ctx context.Context, r chat.Room, members ...chat.Membership) (chat.Room, error) {
	return ask(ctx, d.faults, "Roles.Create", func() (chat.Room, error) { return d.next.Create(ctx, r, members...) })
}

func (d roles) Of(ctx context.Context, whom ...chat.InRoom) ([]chat.Membership, error) {
	return ask(ctx, d.faults, "Roles.Of", func() ([]chat.Membership, error) { return d.next.Of(ctx, whom...) })
}

func (d roles) List(ctx context.Context, room string, after user.ID, limit int) ([]chat.Membership, error) {
	return ask(ctx, d.faults, "Roles.List", func() ([]chat.Membership, error) { return d.next.List(ctx, room, after, limit) })
}

func (d roles) Change(
	ctx context.Context, c chat.RoleChange, may func(r chat.Room, by, of chat.Role, owners int) error,
) (before, after chat.Membership, err error) {
	return ask2(ctx, d.faults, "Roles.Change", func() (chat.Membership, chat.Membership, error) { return d.next.Change(ctx, c, may) })
}

// FaultyMembers puts faults before a store of memberships.
func FaultyMembers(next chat.Members, f *Faults) chat.Members { return members{next, f} }

type members struct {
	next   chat.Members
	faults *Faults
}

// Recording puts the faults before the store that commits events as well.
func (d members) Recording(record chat.RoomRecord) (chat.Members, error) {
	recording, err := chat.RecordingRooms(d.next, record)
	if err != nil {
		return nil, err
	}
	return members{recording, d.faults}, nil
}

func (d members) Add(ctx context.Context, memberships ...chat.Membership) ([]chat.Membership, error) {
	return ask(ctx, d.faults, "Members.Add", func() ([]chat.Membership, error) { return d.next.Add(ctx, memberships...) })
}

func (d members) Remove(ctx context.Context, room string, id user.ID) error {
	return d.faults.do(ctx, "Members.Remove", func() error { return d.next.Remove(ctx, room, id) })
}

func (d members) Has(ctx context.Context, room string, id user.ID) (bool, error) {
	return ask(ctx, d.faults, "Members.Has", func() (bool, error) { return d.next.Has(ctx, room, id) })
}

func (d members) RoomsOf(ctx context.Context, id user.ID, after string, limit int) ([]chat.Membership, error) {
	return ask(ctx, d.faults, "Members.RoomsOf", func() ([]chat.Membership, error) { return d.next.RoomsOf(ctx, id, after, limit) })
}

// FaultyMarks puts faults before a store of how far members have read.
func FaultyMarks(next chat.Marks, f *Faults) chat.Marks { return marks{next, f} }

type marks struct {
	next   chat.Marks
	faults *Faults
}

func (d marks) Mark(ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
	return ask(ctx, d.faults, "Marks.Mark", func() ([]chat.Marked, error) { return d.next.Mark(ctx, moved) })
}

func (d marks) Mine(ctx context.Context, id user.ID, behind chat.Place, limit int) ([]chat.MyRoom, error) {
	return ask(ctx, d.faults, "Marks.Mine", func() ([]chat.MyRoom, error) { return d.next.Mine(ctx, id, behind, limit) })
}

// FaultyRestrictions puts faults before a store of bans and mutes.
func FaultyRestrictions(next chat.Restrictions, f *Faults) chat.Restrictions {
	return restrictions{next, f}
}

type restrictions struct {
	next   chat.Restrictions
	faults *Faults
}

func (d restrictions) Put(ctx context.Context, r chat.Restriction, may func(room chat.Room, by, of chat.Role) error) (chat.Restriction, error) {
	return ask(ctx, d.faults, "Restrictions.Put", func() (chat.Restriction, error) { return d.next.Put(ctx, r, may) })
}

func (d restrictions) InForce(ctx context.Context, now time.Time, whom ...chat.InRoom) ([]chat.Restriction, error) {
	return ask(ctx, d.faults, "Restrictions.InForce", func() ([]chat.Restriction, error) { return d.next.InForce(ctx, now, whom...) })
}

func (d restrictions) List(ctx context.Context, room string, kind chat.RestrictionKind, now time.Time, after user.ID, limit int) ([]chat.Restriction, error) {
	return ask(ctx, d.faults, "Restrictions.List", func() ([]chat.Restriction, error) { return d.next.List(ctx, room, kind, now, after, limit) })
}

func (d restrictions) Since(ctx context.Context, at time.Time, limit int) ([]chat.Restriction, error) {
	return ask(ctx, d.faults, "Restrictions.Since", func() ([]chat.Restriction, error) { return d.next.Since(ctx, at, limit) })
}

// FaultyBlocks puts faults before a store of who has blocked whom.
func FaultyBlocks(next chat.Blocks, f *Faults) chat.Blocks { return blocks{next, f} }

type blocks struct {
	next   chat.Blocks
	faults *Faults
}

func (d blocks) Put(ctx context.Context, b chat.Block, limit int) (chat.Block, error) {
	return ask(ctx, d.faults, "Blocks.Put", func() (chat.Block, error) { return d.next.Put(ctx, b, limit) })
}

func (d blocks) Remove(ctx context.Context, pairs ...chat.Pair) error {
	return d.faults.do(ctx, "Blocks.Remove", func() error { return d.next.Remove(ctx, pairs...) })
}

func (d blocks) Among(ctx context.Context, pairs ...chat.Pair) ([]chat.Block, error) {
	return ask(ctx, d.faults, "Blocks.Among", func() ([]chat.Block, error) { return d.next.Among(ctx, pairs...) })
}

func (d blocks) List(ctx context.Context, p chat.Pair, after user.ID, limit int) ([]chat.Block, error) {
	return ask(ctx, d.faults, "Blocks.List", func() ([]chat.Block, error) { return d.next.List(ctx, p, after, limit) })
}

// FaultySettings puts faults before a store of what users have set.
func FaultySettings(next chat.Settings, f *Faults) chat.Settings { return userSettings{next, f} }

type userSettings struct {
	next   chat.Settings
	faults *Faults
}

func (d userSettings) Put(ctx context.Context, id user.ID, s chat.UserSettings) error {
	return d.faults.do(ctx, "Settings.Put", func() error { return d.next.Put(ctx, id, s) })
}

func (d userSettings) Of(ctx context.Context, ids ...user.ID) (map[user.ID]chat.UserSettings, error) {
	return ask(ctx, d.faults, "Settings.Of", func() (map[user.ID]chat.UserSettings, error) { return d.next.Of(ctx, ids...) })
}

func (d userSettings) Remove(ctx context.Context, id user.ID) error {
	return d.faults.do(ctx, "Settings.Remove", func() error { return d.next.Remove(ctx, id) })
}

// FaultyPruner puts faults before what removes old messages.
func FaultyPruner(next chat.Pruner, f *Faults) chat.Pruner { return pruner{next, f} }

type pruner struct {
	next   chat.Pruner
	faults *Faults
}

func (d pruner) Aged(ctx context.Context, room string, before time.Time, limit int) (uint64, int, error) {
	return ask2(ctx, d.faults, "Pruner.Aged", func() (uint64, int, error) { return d.next.Aged(ctx, room, before, limit) })
}

func (d pruner) Prune(ctx context.Context, room string, first uint64) (int, error) {
	return ask(ctx, d.faults, "Pruner.Prune", func() (int, error) { return d.next.Prune(ctx, room, first) })
}

func (d pruner) Drop(ctx context.Context, room string, limit int) (bool, error) {
	return ask(ctx, d.faults, "Pruner.Drop", func() (bool, error) { return d.next.Drop(ctx, room, limit) })
}

// FaultyCache puts faults before a cache of recent messages.
func FaultyCache(next chat.RecentCache, f *Faults) chat.RecentCache { return cache{next, f} }

type cache struct {
	next   chat.RecentCache
	faults *Faults
}

func (d cache) Get(ctx context.Context, room string) (chat.Recent, bool, error) {
	return ask2(ctx, d.faults, "Cache.Get", func() (chat.Recent, bool, error) { return d.next.Get(ctx, room) })
}

func (d cache) Add(ctx context.Context, ms ...chat.Message) error {
	return d.faults.do(ctx, "Cache.Add", func() error { return d.next.Add(ctx, ms...) })
}

func (d cache) Change(ctx context.Context, ms ...chat.Message) error {
	return d.faults.do(ctx, "Cache.Change", func() error { return d.next.Change(ctx, ms...) })
}

func (d cache) Fill(ctx context.Context, room string, r chat.Recent) error {
	return d.faults.do(ctx, "Cache.Fill", func() error { return d.next.Fill(ctx, room, r) })
}

// FaultyAccess puts faults before a decision about access.
func FaultyAccess(next chat.Access, f *Faults) chat.Access { return access{next, f} }

type access struct {
	next   chat.Access
	faults *Faults
}

func (d access) May(ctx context.Context, who chat.Author, what chat.Action, room string) error {
	return d.faults.do(ctx, "Access.May", func() error { return d.next.May(ctx, who, what, room) })
}
