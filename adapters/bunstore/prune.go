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
