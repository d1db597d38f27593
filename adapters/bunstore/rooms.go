package bunstore

import (
	"cmp"
	"context"
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
	var rows []roomRow
	if err := s.db.read.NewSelect().Model(&rows).Where("name = ?", r.Name).Scan(ctx); err != nil {
		return chat.Room{}, s.db.fail(ctx, op, err)
	}
	if len(rows) > 0 {
		return rows[0].room(), nil
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
	var row roomRow
	if err := s.db.read.NewSelect().Model(&row).Where("name = ?", name).Scan(ctx); err != nil {
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
	return s.db.transact(ctx, "add members", func(ctx context.Context, tx bun.Tx) error {
		for part := range slices.Chunk(rows, chunk) {
			if _, err := s.db.dialect.insertNew(tx.NewInsert().Model(&part), "room").Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

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
	has, err := s.db.read.NewSelect().Model(&memberRow{UserID: string(id), Room: room}).WherePK().Exists(ctx)
	return has, s.db.fail(ctx, "read member", err)
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
