package bunstore

import (
	"context"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/event"
)

// Outbox hands the events of Users and Sessions to the relay. Its methods may be called
// from many goroutines. Events leave it for good once they are published.
type Outbox struct{ db *database }

var _ event.Outbox = (*Outbox)(nil)

type eventRow struct {
	bun.BaseModel `bun:"table:parley_outbox"`

	Position int64  `bun:"position,pk,autoincrement"`
	ID       string `bun:"id"`
	Topic    string `bun:"topic"`
	Type     string `bun:"type"`
	Key      string `bun:"event_key"`
	Time     int64  `bun:"time"`
	Data     []byte `bun:"data"`
}

// asideRow is an event that can never be published, and why.
type asideRow struct {
	bun.BaseModel `bun:"table:parley_outbox_aside"`

	ID     string `bun:"id,pk"`
	Topic  string `bun:"topic"`
	Type   string `bun:"type"`
	Key    string `bun:"event_key"`
	Time   int64  `bun:"time"`
	Data   []byte `bun:"data"`
	Reason string `bun:"reason"`
}

// maxReason bounds the reason that is kept, in characters.
const maxReason = 1024

// chunk bounds the length of one statement.
const chunk = 500

// putEvents stores events, in order, as part of tx.
//
// It comes last in a transaction: from its lock to the commit nobody else puts events, so
// that positions ascend in the order of commits, and no event appears behind the relay's back.
func (d *database) putEvents(ctx context.Context, tx bun.Tx, events []event.Event) error {
	if len(events) == 0 {
		return nil
	}
	rows := make([]eventRow, len(events))
	for i, e := range events {
		if !storable(e.ID, e.Topic, e.Type, e.Key) {
			return errText
		}
		rows[i] = eventRow{ID: e.ID, Topic: e.Topic, Type: e.Type, Key: e.Key, Time: micros(e.Time), Data: notNull(e.Data)}
	}
	if err := d.dialect.lockOutbox(ctx, tx); err != nil {
		return err
	}
	for part := range slices.Chunk(rows, chunk) {
		if _, err := tx.NewInsert().Model(&part).Returning("NULL").Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// notNull is b, or no bytes where there is no b.
func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Pending implements event.Outbox.
func (s *Outbox) Pending(ctx context.Context, limit int) ([]event.Event, error) {
	return s.pending(ctx, limit, func(q *bun.SelectQuery) *bun.SelectQuery { return q })
}

// PendingAfter implements event.Outbox.
func (s *Outbox) PendingAfter(ctx context.Context, id string, limit int) ([]event.Event, error) {
	if !storable(id) { // unknown for sure
		return s.Pending(ctx, limit)
	}
	return s.pending(ctx, limit, func(q *bun.SelectQuery) *bun.SelectQuery {
		return q.Where("position > COALESCE((SELECT MAX(position) FROM parley_outbox WHERE id = ?), 0)", id)
	})
}

func (s *Outbox) pending(ctx context.Context, limit int, which func(*bun.SelectQuery) *bun.SelectQuery) ([]event.Event, error) {
	if limit < 1 {
		return []event.Event{}, nil
	}
	var rows []eventRow
	if err := s.db.read.NewSelect().Model(&rows).Apply(which).OrderExpr("position").Limit(int64(limit)).Scan(ctx); err != nil {
		return nil, s.db.fail(ctx, "read outbox", err)
	}
	events := make([]event.Event, len(rows))
	for i, r := range rows {
		events[i] = event.Event{ID: r.ID, Topic: r.Topic, Type: r.Type, Key: r.Key, Time: instant(r.Time), Data: r.Data}
	}
	return events, nil
}

// Published implements event.Outbox.
func (s *Outbox) Published(ctx context.Context, ids ...string) error {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !storable(id) }) // unknown for sure
	if len(ids) == 0 {
		return nil
	}
	defer s.db.scrub.due()
	return s.db.transact(ctx, "empty outbox", func(ctx context.Context, tx bun.Tx) error {
		for part := range slices.Chunk(ids, chunk) {
			if _, err := tx.NewDelete().Model((*eventRow)(nil)).Where("id IN (?)", bun.List(part)).Exec(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// SetAside implements event.Outbox: the event moves to the table parley_outbox_aside.
func (s *Outbox) SetAside(ctx context.Context, id, reason string) error {
	if !storable(id) { // unknown for sure
		return nil
	}
	reason = strings.ReplaceAll(strings.ToValidUTF8(reason, ""), "\x00", "")
	if runes := []rune(reason); len(runes) > maxReason {
		reason = string(runes[:maxReason])
	}
	return s.db.transactLocked(ctx, "set event aside", func(ctx context.Context, tx bun.Tx) error {
		var rows []eventRow
		if err := tx.NewSelect().Model(&rows).Where("id = ?", id).OrderExpr("position").Limit(1).Scan(ctx); err != nil || len(rows) == 0 {
			return err
		}
		r := rows[0]
		aside := asideRow{ID: r.ID, Topic: r.Topic, Type: r.Type, Key: r.Key, Time: r.Time, Data: notNull(r.Data), Reason: reason}
		// It may have been there before, and been replayed.
		if _, err := tx.NewDelete().Model((*asideRow)(nil)).Where("id = ?", id).Exec(ctx); err != nil {
			return err
		}
		if _, err := tx.NewInsert().Model(&aside).Returning("NULL").Exec(ctx); err != nil {
			return err
		}
		_, err := tx.NewDelete().Model((*eventRow)(nil)).Where("id = ?", id).Exec(ctx)
		return err
	})
}
