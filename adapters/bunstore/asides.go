package bunstore

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/event"
)

// Asides are the events that were set aside. Its methods may be called from many goroutines and processes.
type Asides struct{ db *database }

var _ event.Asides = (*Asides)(nil)

func (r *asideRow) aside() event.Aside {
	return event.Aside{
		Event:  event.Event{ID: r.ID, Topic: r.Topic, Type: r.Type, Key: r.Key, Time: instant(r.Time), Data: r.Data},
		Reason: r.Reason,
	}
}

// List implements event.Asides.
func (s *Asides) List(ctx context.Context, f event.Filter) ([]event.Aside, error) {
	if err := f.CheckLimit(); err != nil {
		return nil, err
	}
	if !storable(f.Topic, f.Type, f.Key, f.After) {
		return nil, errText
	}
	var rows []asideRow
	q := s.db.read.NewSelect().Model(&rows).ExcludeColumn("data").Where("id > ?", f.After).OrderExpr("id").Limit(int64(f.Limit))
	for _, by := range []struct{ column, value string }{{"topic", f.Topic}, {"type", f.Type}, {"event_key", f.Key}} {
		if by.value != "" {
			q = q.Where("? = ?", bun.Ident(by.column), by.value)
		}
	}
	if err := q.Scan(ctx); err != nil {
		return nil, s.db.fail(ctx, "list events", err)
	}
	events := make([]event.Aside, len(rows))
	for i := range rows {
		events[i] = rows[i].aside()
	}
	return events, nil
}

// Get implements event.Asides.
func (s *Asides) Get(ctx context.Context, id string) (event.Aside, error) {
	if !storable(id) {
		return event.Aside{}, event.ErrNotAside
	}
	var row asideRow
	if err := s.db.read.NewSelect().Model(&row).Where("id = ?", id).Scan(ctx); err != nil {
		return event.Aside{}, s.db.found(ctx, "read event", err, event.ErrNotAside)
	}
	return row.aside(), nil
}

// Replay implements event.Asides: the event moves back to the table parley_outbox.
func (s *Asides) Replay(ctx context.Context, id string) error {
	return s.take(ctx, "replay event", id, func(ctx context.Context, tx bun.Tx, e event.Event) error {
		return s.db.putEvents(ctx, tx, []event.Event{e})
	})
}

// Discard implements event.Asides.
func (s *Asides) Discard(ctx context.Context, id string) error {
	return s.take(ctx, "discard event", id, func(context.Context, bun.Tx, event.Event) error { return nil })
}

// take removes an event, and does something with it in the same transaction.
func (s *Asides) take(ctx context.Context, op, id string, do func(context.Context, bun.Tx, event.Event) error) error {
	if !storable(id) {
		return event.ErrNotAside
	}
	defer s.db.scrub.due()
	return s.db.transactLocked(ctx, op, func(ctx context.Context, tx bun.Tx) error {
		var rows []asideRow
		if err := tx.NewSelect().Model(&rows).Where("id = ?", id).Scan(ctx); err != nil {
			return err
		}
		if len(rows) == 0 {
			return event.ErrNotAside
		}
		res, err := tx.NewDelete().Model((*asideRow)(nil)).Where("id = ?", id).Exec(ctx)
		if err := changed(res, err, event.ErrNotAside); err != nil { // somebody else was quicker
			return err
		}
		return do(ctx, tx, rows[0].aside().Event)
	})
}
