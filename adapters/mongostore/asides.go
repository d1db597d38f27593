package mongostore

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/core/event"
)

// Asides are the events that were set aside. Its methods may be called from many goroutines and processes.
type Asides struct{ db *database }

var _ event.Asides = (*Asides)(nil)

func (d *asideDoc) aside() event.Aside {
	return event.Aside{
		Event:  event.Event{ID: d.ID, Topic: d.Topic, Type: d.Type, Key: d.Key, Time: instant(d.Time), Data: d.Data},
		Reason: d.Reason,
	}
}

// kept chooses what is set aside, and not replayed.
func kept(more ...bson.E) bson.D {
	return append(bson.D{{Key: "removed", Value: bson.D{{Key: "$ne", Value: true}}}}, more...)
}

// List implements event.Asides.
func (s *Asides) List(ctx context.Context, f event.Filter) ([]event.Aside, error) {
	if err := f.CheckLimit(); err != nil {
		return nil, err
	}
	if !storable(f.Topic, f.Type, f.Key, f.After) {
		return nil, errText
	}
	filter := kept(bson.E{Key: "_id", Value: bson.D{{Key: "$gt", Value: f.After}}})
	for _, by := range []struct{ field, value string }{{"topic", f.Topic}, {"type", f.Type}, {"key", f.Key}} {
		if by.value != "" {
			filter = append(filter, bson.E{Key: by.field, Value: by.value})
		}
	}
	docs, err := all[asideDoc](ctx, s.db, "list events", s.db.aside, filter,
		options.Find().SetSort(ascending("_id")).SetLimit(int64(f.Limit)).SetProjection(ascending("topic", "type", "key", "time", "reason")))
	if err != nil {
		return nil, err
	}
	events := make([]event.Aside, len(docs))
	for i := range docs {
		events[i] = docs[i].aside()
	}
	return events, nil
}

// Get implements event.Asides.
func (s *Asides) Get(ctx context.Context, id string) (event.Aside, error) {
	doc, err := s.get(ctx, id)
	if err != nil {
		return event.Aside{}, err
	}
	return doc.aside(), nil
}

func (s *Asides) get(ctx context.Context, id string) (asideDoc, error) {
	if !storable(id) {
		return asideDoc{}, event.ErrNotAside
	}
	return one[asideDoc](ctx, s.db, "read event", s.db.aside, kept(byID(id)...), event.ErrNotAside)
}

// replayedDoc is an event that carries itself.
type replayedDoc struct {
	Doc     asideDoc `bson:",inline"`
	Carried carrier  `bson:",inline"`
	Removed bool     `bson:"removed"`
}

// Replay implements event.Asides: the document carries its event, until that is published or set aside again.
func (s *Asides) Replay(ctx context.Context, id string) error {
	const op = "replay event"
	doc, err := s.get(ctx, id)
	if err != nil {
		return err
	}
	e := doc.aside().Event
	carried, err := s.db.next(ctx, carrier{}, []event.Event{e})
	if err != nil {
		return err
	}
	raw, err := aside.encode(replayedDoc{doc, carried, true})
	if err != nil {
		return err
	}
	res, err := s.db.aside.ReplaceOne(ctx, kept(byID(id)...), raw)
	if err != nil {
		return s.db.fail(ctx, op, err)
	}
	if res.MatchedCount == 0 {
		return event.ErrNotAside
	}
	return nil
}

// Discard implements event.Asides.
func (s *Asides) Discard(ctx context.Context, id string) error {
	if !storable(id) {
		return event.ErrNotAside
	}
	if err := s.db.ready(ctx); err != nil {
		return err
	}
	res, err := s.db.aside.DeleteOne(ctx, kept(byID(id)...))
	if err != nil {
		return s.db.fail(ctx, "discard event", err)
	}
	if res.DeletedCount == 0 {
		return event.ErrNotAside
	}
	return nil
}
