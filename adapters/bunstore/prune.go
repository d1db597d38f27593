package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/chat"
)

var _ chat.Pruner = (*Messages)(nil)

// listAges is what Aged runs.
const listAges = "SELECT seq, at FROM parley_messages WHERE room_id = (SELECT id FROM parley_room_seqs WHERE room = ?) ORDER BY seq LIMIT ?"

// Aged implements chat.Pruner. It reads the first message, and the others only if that one is old.
func (s *Messages) Aged(ctx context.Context, room string, before time.Time, limit int) (first uint64, aged int, err error) {
	if !storable(room) {
		return 1, 0, nil
	}
	for _, n := range [...]int{1, limit} {
		if n > limit || n == aged {
			break
		}
		young := false
		first, aged = 0, 0
		err := s.db.reads.query(ctx, listAges, []any{room, int64(n)}, func(scan func(...any) error) error {
			var seq, at int64
			err := scan(&seq, &at)
			if young = young || at >= micros(before); !young {
				aged++
				first = uint64(seq) + 1
			} else if aged == 0 && first == 0 {
				first = uint64(seq)
			}
			return err
		})
		if err != nil {
			return 0, 0, s.db.fail(ctx, "look for old messages", err)
		}
		if aged == 0 {
			break
		}
	}
	if first == 0 {
		b, err := s.Bounds(ctx, room)
		return b.First, 0, err
	}
	return first, aged, nil
}

// Prune implements chat.Pruner, by one transaction that locks the room's counter, as Append and Change do. Whoever calls sees to it that the messages are few.
func (s *Messages) Prune(ctx context.Context, room string, first uint64) (removed int, err error) {
	if !storable(room) {
		return 0, nil
	}
	const op = "remove old messages"
	prepared, err := s.db.changing.get(ctx, s.db)
	if err != nil {
		return 0, s.db.fail(ctx, op, err)
	}
	err = s.db.transactLocked(ctx, op, func(ctx context.Context, tx bun.Tx) error {
		removed = 0
		id, err := prepared.lockOne(ctx, tx, room)
		if err != nil || id == 0 {
			return err
		}
		removed, err = s.removeBefore(ctx, tx, prepared, id, clamp(first))
		return err
	})
	if removed > 0 || err != nil { // it may have been committed
		s.db.scrub.dueWiping()
	}
	if err != nil {
		return 0, err
	}
	return removed, nil
}

// lockOne locks the counter of a room, and returns its id, or 0 if there is none.
func (p *preparedChanges) lockOne(ctx context.Context, tx bun.Tx, room string) (id int64, err error) {
	err = p.lock.query(ctx, tx, 1, []any{room}, func(scan func(...any) error) error {
		var name string
		var rev int64
		return scan(&id, &name, &rev)
	})
	return id, err
}

// removeBefore removes the messages of a room before a sequence, with all that is about them, and returns how many.
func (s *Messages) removeBefore(ctx context.Context, tx bun.Tx, prepared *preparedChanges, room, first int64) (removed int, err error) {
	var changes []any
	rows, err := tx.QueryContext(ctx, listRevs, room, first)
	if err != nil {
		return 0, err
	}
	defer func() { _ = rows.Close() }() // the loop's way out; the error of the usual one is below
	for rows.Next() {
		var rev sql.NullInt64
		if err := rows.Scan(&rev); err != nil {
			return 0, err
		}
		removed++
		if rev.Valid {
			changes = append(changes, room, rev.Int64)
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || removed == 0 {
		return 0, err
	}
	if err := prepared.forget.exec(ctx, tx, 2, changes); err != nil {
		return 0, err
	}
	for _, text := range s.db.dialect.removals() {
		if _, err := tx.ExecContext(ctx, text, room, first); err != nil {
			return 0, err
		}
	}
	if s.db.scrub != nil {
		_, err = tx.ExecContext(ctx, noteRemoval)
	}
	return removed, err
}

// listRevs reads the last changes of what is removed.
const listRevs = "SELECT rev FROM parley_messages WHERE room_id = ? AND seq < ?"

// removals remove what comes before a sequence in a room. The messages go last.
func (d *dialect) removals() (texts [3]string) {
	for i, table := range [...]string{"parley_reactions", "parley_deletions", "parley_messages"} {
		texts[i] = d.deleteFrom(table) + " WHERE room_id = ? AND seq < ?"
	}
	return texts
}

// noteRemoval leaves a change of no room, so that wipeAgain knows that something was removed, also if no message of the file was ever changed.
const noteRemoval = "INSERT INTO parley_changes (room_id, rev, seq) SELECT 0, 1, 1 WHERE NOT EXISTS (SELECT 1 FROM parley_changes WHERE room_id = 0)"

// Drop implements chat.Pruner, by one transaction.
func (s *Messages) Drop(ctx context.Context, room string, limit int) (left bool, err error) {
	if !storable(room) {
		return false, nil
	}
	const op = "remove a room"
	prepared, err := s.db.changing.get(ctx, s.db)
	if err != nil {
		return true, s.db.fail(ctx, op, err)
	}
	err = s.db.transactLocked(ctx, op, func(ctx context.Context, tx bun.Tx) error {
		id, err := prepared.lockOne(ctx, tx, room)
		if err == nil {
			left, err = s.drop(ctx, tx, prepared, id, room, max(limit, 1))
		}
		return err
	})
	s.db.scrub.dueWiping()
	if err != nil {
		return true, err
	}
	return left, nil
}

// drop removes some messages of a room, or else some memberships, or else what is left of it. id is that of its counter, 0 if it has none.
func (s *Messages) drop(ctx context.Context, tx bun.Tx, prepared *preparedChanges, id int64, room string, limit int) (left bool, err error) {
	if id > 0 {
		var last sql.NullInt64
		err := tx.NewRaw("SELECT MAX(seq) FROM (SELECT seq FROM parley_messages WHERE room_id = ? ORDER BY seq LIMIT ?) AS oldest", id, limit).Scan(ctx, &last)
		if err != nil {
			return true, err
		}
		if last.Valid {
			_, err := s.removeBefore(ctx, tx, prepared, id, last.Int64+1)
			return true, err
		}
	}
	var members []string
	if err := tx.NewRaw("SELECT user_id FROM parley_members WHERE room = ? LIMIT ?", room, limit).Scan(ctx, &members); err != nil {
		return true, err
	}
	for _, user := range members {
		if _, err := tx.ExecContext(ctx, s.db.dialect.deleteFrom("parley_members")+" WHERE user_id = ? AND room = ?", user, room); err != nil {
			return true, err
		}
	}
	if len(members) > 0 {
		return true, nil
	}
	for _, text := range [...]string{"parley_changes WHERE room_id = ?", "parley_reactions WHERE room_id = ?", "parley_deletions WHERE room_id = ?", "parley_room_seqs WHERE id = ?"} {
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+text, id); err != nil {
			return true, err
		}
	}
	for _, text := range [...]string{"parley_restrictions WHERE room = ?", "parley_rooms WHERE name = ?"} {
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+text, room); err != nil {
			return true, err
		}
	}
	if s.db.scrub != nil {
		_, err = tx.ExecContext(ctx, noteRemoval)
	}
	return false, err
}
