package bunstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Rooms stores rooms. Its methods may be called from many goroutines.
type Rooms struct{ db *database }

var _ chat.Rooms = (*Rooms)(nil)

type roomRow struct {
	bun.BaseModel `bun:"table:parley_rooms"`

	Name      string `bun:"name,pk"`
	CreatedBy string `bun:"created_by"`
	CreatedAt int64  `bun:"created_at"`
}

func (r *roomRow) room() chat.Room {
	return chat.Room{Name: r.Name, CreatedBy: user.ID(r.CreatedBy), CreatedAt: instant(r.CreatedAt)}
}

// Ensure implements chat.Rooms. Where the room exists it only reads.
func (s *Rooms) Ensure(ctx context.Context, r chat.Room) (chat.Room, error) {
	if !storable(r.Name, string(r.CreatedBy)) {
		return chat.Room{}, errText
	}
	const op = "ensure room"
	if stored, err := s.ByName(ctx, r.Name); !errors.Is(err, chat.ErrRoomNotFound) {
		return stored, err
	}
	row := roomRow{Name: r.Name, CreatedBy: string(r.CreatedBy), CreatedAt: micros(r.CreatedAt)}
	err := s.db.transact(ctx, op, func(ctx context.Context, tx bun.Tx) error {
		if _, err := s.db.dialect.insertNew(tx.NewInsert().Model(&row), "name").Exec(ctx); err != nil {
			return err
		}
		return tx.NewSelect().Model(&row).WherePK().Scan(ctx)
	})
	if err != nil {
		return chat.Room{}, err
	}
	return row.room(), nil
}

// ByName implements chat.Rooms.
func (s *Rooms) ByName(ctx context.Context, name string) (chat.Room, error) {
	if !storable(name) {
		return chat.Room{}, chat.ErrRoomNotFound
	}
	row := roomRow{Name: name}
	err := s.db.reads.one(ctx, "SELECT created_by, created_at FROM parley_rooms WHERE name = ?", []any{name}, &row.CreatedBy, &row.CreatedAt)
	if err != nil {
		return chat.Room{}, s.db.found(ctx, "read room", err, chat.ErrRoomNotFound)
	}
	return row.room(), nil
}

// List implements chat.Rooms.
func (s *Rooms) List(ctx context.Context, after string, limit int) ([]chat.Room, error) {
	if !storable(after) {
		return nil, errText
	}
	if limit < 1 {
		return []chat.Room{}, nil
	}
	var rows []roomRow
	if err := s.db.read.NewSelect().Model(&rows).Where("name > ?", after).OrderExpr("name").Limit(int64(limit)).Scan(ctx); err != nil {
		return nil, s.db.fail(ctx, "list rooms", err)
	}
	rooms := make([]chat.Room, len(rows))
	for i := range rows {
		rooms[i] = rows[i].room()
	}
	return rooms, nil
}

// Members stores memberships, and how far members have read. Its methods may be called from many goroutines.
type Members struct{ db *database }

var _ chat.Members = (*Members)(nil)

type memberRow struct {
	bun.BaseModel `bun:"table:parley_members"`

	UserID  string        `bun:"user_id,pk"`
	Room    string        `bun:"room,pk"`
	Since   int64         `bun:"since"`
	ReadSeq sql.NullInt64 `bun:"read_seq"` // see readMarks
}

// memberFields are what is read of a membership.
const memberFields = "user_id, room, since, read_seq"

// scan reads memberFields.
func (r *memberRow) scan(scan func(...any) error) error {
	return scan(&r.UserID, &r.Room, &r.Since, &r.ReadSeq)
}

// member is the primary key of a membership. Whoever locks several locks them in its order.
type member struct{ user, room string }

func (m member) compare(other member) int {
	return cmp.Or(cmp.Compare(m.user, other.user), cmp.Compare(m.room, other.room))
}

var (
	memberKey  = []column{{name: "user_id", text: true}, {name: "room", text: true}}
	memberRead = []column{{name: "read_seq"}, {name: "user_id", text: true}, {name: "room", text: true}}
)

// Add implements chat.Members. It reads first: whoever connects has mostly joined before, and then waits for nobody who writes.
func (s *Members) Add(ctx context.Context, memberships ...chat.Membership) ([]chat.Membership, error) {
	lacking, since := make([]member, len(memberships)), make(map[member]int64, len(memberships))
	for i, m := range memberships {
		if !storable(m.Room, string(m.UserID)) {
			return nil, errText
		}
		lacking[i] = member{string(m.UserID), m.Room}
		if _, twice := since[lacking[i]]; !twice {
			since[lacking[i]] = micros(m.Since)
		}
	}
	slices.SortFunc(lacking, member.compare)
	lacking = slices.Compact(lacking)
	const op = "add members"
	stored := make(map[member]*memberRow, len(lacking))
	known := func(m member) bool { return stored[m] != nil }
	for range attempts { // a membership may end, or somebody else add it, in between
		if err := s.find(ctx, lacking, stored); err != nil {
			return nil, s.db.fail(ctx, op, err)
		}
		if lacking = slices.DeleteFunc(lacking, known); len(lacking) == 0 {
			break
		}
		if err := s.insert(ctx, op, lacking, since, stored); err != nil {
			return nil, err
		}
		if lacking = slices.DeleteFunc(lacking, known); len(lacking) == 0 {
			break
		}
	}
	if len(lacking) > 0 {
		return nil, fault.Wrap(fault.Unavailable, fmt.Errorf("bunstore: %s: they end as soon as they begin", op))
	}
	if err := s.markUnknown(ctx, stored); err != nil {
		return nil, err
	}
	answers := make([]chat.Membership, len(memberships))
	for i, m := range memberships {
		row := stored[member{string(m.UserID), m.Room}]
		answers[i] = chat.Membership{Room: m.Room, UserID: m.UserID, Since: instant(row.Since), Read: uint64(row.ReadSeq.Int64)}
	}
	return answers, nil
}

// into keeps the memberships that are read.
func into(stored map[member]*memberRow) func(scan func(...any) error) error {
	return func(scan func(...any) error) error {
		row := new(memberRow)
		err := row.scan(scan)
		stored[member{row.UserID, row.Room}] = row
		return err
	}
}

// find reads memberships into stored.
func (s *Members) find(ctx context.Context, keys []member, stored map[member]*memberRow) error {
	for part := range slices.Chunk(keys, memberSizes[0]) {
		args := make([]any, 0, 2*memberSizes[0])
		for _, m := range part {
			args = append(args, m.user, m.room)
		}
		args = pad(args, "", "")
		if err := s.db.reads.query(ctx, s.db.readMembers[len(args)/2], args, into(stored)); err != nil {
			return err
		}
	}
	return nil
}

// insert adds memberships, all or none, unless they are there by then. Those that it knows of afterwards are in stored.
func (s *Members) insert(ctx context.Context, op string, keys []member, since map[member]int64, stored map[member]*memberRow) error {
	// Prepared before a transaction takes what may be the only connection.
	prepared, err := s.db.marking.get(ctx, s.db)
	if err != nil {
		return s.db.fail(ctx, op, err)
	}
	const columns = 4
	args := make([]any, 0, columns*(len(keys)+memberSizes[0]))
	for _, m := range keys {
		args = append(args, m.user, m.room, since[m], m.room)
	}
	args = pad(args, args[len(args)-columns:]...) // it is there by then
	run := func(ctx context.Context, tx runner) error {
		for _, m := range keys { // of an attempt before
			delete(stored, m)
		}
		if s.db.dialect.addReturns {
			return prepared.add.query(ctx, tx, columns, args, into(stored))
		}
		return prepared.add.exec(ctx, tx, columns, args)
	}
	if len(keys) <= memberSizes[0] {
		return s.db.single(ctx, op, func(ctx context.Context) error { return run(ctx, alone{}) })
	}
	return s.db.transact(ctx, op, func(ctx context.Context, tx bun.Tx) error { return run(ctx, tx) })
}

// markUnknown lets it count from now on how far members have read of whom that was not known.
func (s *Members) markUnknown(ctx context.Context, stored map[member]*memberRow) error {
	var unknown []chat.Mark
	for m, row := range stored {
		if !row.ReadSeq.Valid {
			unknown = append(unknown, chat.Mark{Room: m.room, User: chat.Author{ID: user.ID(m.user)}})
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	marked, err := s.Mark(ctx, unknown)
	for i, m := range marked { // who is no member any more has read nothing
		stored[member{string(unknown[i].User.ID), unknown[i].Room}].ReadSeq.Int64 = int64(m.Read)
	}
	return err
}

// memberSizes are for how many memberships statements are prepared: most batches are one that is parsed already.
var memberSizes = insertSizes

// Remove implements chat.Members.
func (s *Members) Remove(ctx context.Context, room string, id user.ID) error {
	if !storable(room, string(id)) {
		return nil
	}
	return s.db.transact(ctx, "remove member", func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewDelete().Model(&memberRow{UserID: string(id), Room: room}).WherePK().Exec(ctx)
		return err
	})
}

// Has implements chat.Members.
func (s *Members) Has(ctx context.Context, room string, id user.ID) (bool, error) {
	if !storable(room, string(id)) {
		return false, nil
	}
	var since int64
	switch err := s.db.reads.one(ctx, "SELECT since FROM parley_members WHERE user_id = ? AND room = ?", []any{string(id), room}, &since); {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	default:
		return err == nil, s.db.fail(ctx, "read member", err)
	}
}

// roomsOf is what RoomsOf runs.
const roomsOf = "SELECT room, since, COALESCE(read_seq, (SELECT last FROM parley_room_seqs WHERE parley_room_seqs.room = parley_members.room), 0) " +
	"FROM parley_members WHERE user_id = ? AND room > ? ORDER BY room LIMIT ?"

// RoomsOf implements chat.Members.
func (s *Members) RoomsOf(ctx context.Context, id user.ID, after string, limit int) ([]chat.Membership, error) {
	if !storable(string(id), after) {
		return nil, errText
	}
	memberships := []chat.Membership{}
	if limit < 1 {
		return memberships, nil
	}
	err := s.db.reads.query(ctx, roomsOf, []any{string(id), after, int64(limit)}, func(scan func(...any) error) error {
		var since, read int64
		m := chat.Membership{UserID: id}
		err := scan(&m.Room, &since, &read)
		m.Since, m.Read = instant(since), uint64(read)
		memberships = append(memberships, m)
		return err
	})
	if err != nil {
		return nil, s.db.fail(ctx, "list memberships", err)
	}
	return memberships, nil
}
