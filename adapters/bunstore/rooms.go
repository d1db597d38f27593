package bunstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/chat"
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

// Members stores memberships. Its methods may be called from many goroutines.
type Members struct{ db *database }

var _ chat.Members = (*Members)(nil)

type memberRow struct {
	bun.BaseModel `bun:"table:parley_members"`

	UserID string `bun:"user_id,pk"`
	Room   string `bun:"room,pk"`
	Since  int64  `bun:"since"`
}

// Add implements chat.Members.
func (s *Members) Add(ctx context.Context, memberships ...chat.Membership) error {
	rows := make([]memberRow, len(memberships))
	for i, m := range memberships {
		if !storable(m.Room, string(m.UserID)) {
			return errText
		}
		rows[i] = memberRow{UserID: string(m.UserID), Room: m.Room, Since: micros(m.Since)}
	}
	if len(rows) == 0 {
		return nil
	}
	// In one order, so that two calls do not wait for each other.
	slices.SortFunc(rows, func(a, b memberRow) int {
		return cmp.Or(cmp.Compare(a.UserID, b.UserID), cmp.Compare(a.Room, b.Room))
	})
	const op = "add members"
	if len(rows) > memberSizes[0] {
		return s.db.transact(ctx, op, func(ctx context.Context, tx bun.Tx) error {
			for part := range slices.Chunk(rows, chunk) {
				if _, err := s.db.dialect.insertNew(tx.NewInsert().Model(&part), "room").Exec(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	// A batch that is no full size repeats its last membership, which is there by then.
	size := fit(len(rows), memberSizes[:])
	const columns = 3
	args := make([]any, 0, columns*size)
	for i := range size {
		r := &rows[min(i, len(rows)-1)]
		args = append(args, r.UserID, r.Room, r.Since)
	}
	text := memberInserts[size] + s.db.dialect.leaveMembers
	return s.db.single(ctx, op, func(ctx context.Context) error { return s.db.writes.exec(ctx, text, args) })
}

// memberSizes are for how many memberships statements are prepared: most batches are one that is parsed already.
var memberSizes = [...]int{64, 16, 4, 1}

// memberInserts are their texts.
var memberInserts = func() map[int]string {
	texts := map[int]string{}
	for _, n := range memberSizes {
		texts[n] = "INSERT INTO parley_members (user_id, room, since) VALUES " + questionMarks(n, 3)
	}
	return texts
}()

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

// RoomsOf implements chat.Members.
func (s *Members) RoomsOf(ctx context.Context, id user.ID, after string, limit int) ([]chat.Membership, error) {
	if !storable(string(id), after) {
		return nil, errText
	}
	if limit < 1 {
		return []chat.Membership{}, nil
	}
	var rows []memberRow
	err := s.db.read.NewSelect().Model(&rows).Where("user_id = ?", string(id)).Where("room > ?", after).
		OrderExpr("room").Limit(int64(limit)).Scan(ctx)
	if err != nil {
		return nil, s.db.fail(ctx, "list memberships", err)
	}
	memberships := make([]chat.Membership, len(rows))
	for i, r := range rows {
		memberships[i] = chat.Membership{Room: r.Room, UserID: user.ID(r.UserID), Since: instant(r.Since)}
	}
	return memberships, nil
}
