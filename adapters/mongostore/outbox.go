package mongostore

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/core/event"
)

// Outbox hands the events of Users, SignUps, Codes, Sessions, Messages, Rooms, Members and Roles to the relay. Its methods may be called
// from many goroutines. Events leave it for good once they are published.
type Outbox struct{ db *database }

var _ event.Outbox = (*Outbox)(nil)

// carrier is the part of a document that holds the events of its changes.
type carrier struct {
	// Version counts the writes of the document: a write names the version that it replaces.
	Version int64 `bson:"version"`
	// Pending is the position of the first event.
	Pending *int64     `bson:"pending,omitempty"`
	Events  []eventDoc `bson:"events,omitempty"`
}

type eventDoc struct {
	Position int64  `bson:"position"`
	ID       string `bson:"id"`
	Topic    string `bson:"topic"`
	Type     string `bson:"type"`
	Key      string `bson:"key"`
	Time     int64  `bson:"time"`
	Data     []byte `bson:"data"`
}

func (e *eventDoc) event() event.Event {
	return event.Event{ID: e.ID, Topic: e.Topic, Type: e.Type, Key: e.Key, Time: instant(e.Time), Data: e.Data}
}

// next is the carrier of the write that replaces c, with these events added.
//
// The clock is read here, after the document was: whatever was committed to the document before has a
// lower position, as has every change that had ended.
func (d *database) next(ctx context.Context, c carrier, events []event.Event) (carrier, error) {
	next := carrier{Version: c.Version + 1, Pending: c.Pending, Events: slices.Clone(c.Events)}
	if len(events) == 0 {
		return next, nil
	}
	position, err := d.tick(ctx)
	if err != nil {
		return carrier{}, err
	}
	if next.Pending == nil {
		next.Pending = &position
	}
	for _, e := range events {
		next.Events = append(next.Events, eventDoc{
			Position: position, ID: e.ID, Topic: e.Topic, Type: e.Type, Key: e.Key, Time: micros(e.Time), Data: notNull(e.Data),
		})
	}
	return next, nil
}

// notNull is b, or no bytes where there is no b.
func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// The clock is a collection of numbers, of which the highest is the time. It is advanced by inserting the
// next one. Two callers may get the same moment, if they ask at the same time; whoever asks after a
// moment was given out gets a later one. That is all that the order of events needs, and it holds on every server
// on which inserts are atomic.

type clockDoc struct {
	ID int64 `bson:"_id"`
}

// clockWindow is how many moments are kept: a reader that the server interrupts in
// between must not find the newest ones gone.
const clockWindow = 1000

// now is the latest moment that was given out, 0 at the beginning.
func (d *database) now(ctx context.Context) (int64, error) {
	docs, err := all[clockDoc](ctx, d, "read clock", d.clock, bson.D{}, options.Find().SetSort(ascending("-_id")).SetLimit(1))
	if err != nil || len(docs) == 0 {
		return 0, err
	}
	return docs[0].ID, nil
}

// tick is a moment later than every one that was given out before the call.
func (d *database) tick(ctx context.Context) (int64, error) {
	const op = "advance clock"
	now, err := d.now(ctx)
	if err != nil {
		return 0, err
	}
	now++
	if _, err := d.clock.InsertOne(ctx, clockDoc{now}); err != nil && !mongo.IsDuplicateKeyError(err) {
		return 0, d.fail(ctx, op, err)
	}
	if now%clockWindow == 0 {
		_, err = d.clock.DeleteMany(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$lte", Value: now - clockWindow}}}})
	}
	return now, d.fail(ctx, op, err)
}

// carriers are the collections whose documents carry events. What was set aside and is replayed is carried by its own document.
func (d *database) carriers() []*mongo.Collection {
	return []*mongo.Collection{d.users, d.signUps, d.codes, d.sessions, d.aside, d.messages, d.rooms, d.members, d.factors}
}

// place is where an event stands among all. Its position says in which change it was committed; the rest
// tells apart those of changes that got the same moment, and those of one change.
type place struct {
	position int64
	carrier  int // index of the collection
	doc      string
	at       int // in the document
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.position, q.position), cmp.Compare(p.carrier, q.carrier), cmp.Compare(p.doc, q.doc), cmp.Compare(p.at, q.at))
}

// pendingDoc is as much of a document as Pending needs.
type pendingDoc struct {
	ID      bson.RawValue `bson:"_id"` // a text, or a message's number of 12 bytes
	Carried carrier       `bson:",inline"`
}

// name tells the documents of a collection apart.
func (d *pendingDoc) name() string { return string(d.ID.Value) }

var pendingFields = ascending("version", "pending", "events")

// Pending implements event.Outbox.
func (s *Outbox) Pending(ctx context.Context, limit int) ([]event.Event, error) {
	return s.pending(ctx, place{}, limit)
}

// PendingAfter implements event.Outbox.
func (s *Outbox) PendingAfter(ctx context.Context, id string, limit int) ([]event.Event, error) {
	if !storable(id) { // unknown for sure
		return s.Pending(ctx, limit)
	}
	for i, c := range s.db.carriers() {
		docs, err := all[pendingDoc](ctx, s.db, "read outbox", c, bson.D{{Key: "events.id", Value: id}}, options.Find().SetProjection(pendingFields).SetLimit(1))
		if err != nil {
			return nil, err
		}
		for _, doc := range docs {
			for at, e := range doc.Carried.Events {
				if e.ID == id {
					return s.pending(ctx, place{e.Position, i, doc.name(), at}, limit)
				}
			}
		}
	}
	return s.Pending(ctx, limit)
}

func (s *Outbox) pending(ctx context.Context, after place, limit int) ([]event.Event, error) {
	events := []event.Event{}
	if limit < 1 {
		return events, nil
	}
	// What is committed while this reads is later than now, and left for the next time. Otherwise an event
	// could be seen in one document while its predecessor, in one that was read before, is not.
	now, err := s.db.now(ctx)
	if err != nil || now == 0 {
		return events, err
	}
	type placed struct {
		place
		eventDoc
	}
	var found []placed
	for i := range s.db.carriers() {
		docs, err := s.documents(ctx, i, after.position, now, limit)
		if err != nil {
			return nil, err
		}
		for _, doc := range docs {
			for at, e := range doc.Carried.Events {
				if p := (place{e.Position, i, doc.name(), at}); e.Position <= now && p.compare(after) > 0 {
					found = append(found, placed{p, e})
				}
			}
		}
	}
	if len(found) == 0 {
		return events, nil
	}
	if err := s.db.confirm(ctx, "read outbox"); err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b placed) int { return a.compare(b.place) })
	for i := range found[:min(limit, len(found))] {
		events = append(events, found[i].event())
	}
	return events, nil
}

// documents returns those of a collection that have the first limit events after a position, and all at it, up to now.
func (s *Outbox) documents(ctx context.Context, carrier int, from, now int64, limit int) ([]pendingDoc, error) {
	c, find := s.db.carriers()[carrier], func() *options.FindOptionsBuilder { return options.Find().SetProjection(pendingFields) }
	docs, err := all[pendingDoc](ctx, s.db, "read outbox", c,
		bson.D{{Key: "pending", Value: bson.D{{Key: "$gt", Value: from}, {Key: "$lte", Value: now}}}},
		find().SetSort(ascending("pending")).SetLimit(int64(limit)))
	if err != nil {
		return nil, err
	}
	if len(docs) == limit && limit > 0 { // all that share the last one's moment, or their order would not be certain
		last := docs[limit-1].Carried.Pending
		docs = slices.DeleteFunc(docs, func(d pendingDoc) bool { return last != nil && *d.Carried.Pending == *last })
		same, err := all[pendingDoc](ctx, s.db, "read outbox", c, bson.D{{Key: "pending", Value: last}}, find())
		if err != nil {
			return nil, err
		}
		docs = append(docs, same...)
	}
	if from == 0 {
		return docs, nil
	}
	// A document whose first event lies at it, or before, can have later ones.
	more, err := all[pendingDoc](ctx, s.db, "read outbox", c, bson.D{
		{Key: "events.position", Value: bson.D{{Key: "$gte", Value: from}}}, {Key: "pending", Value: bson.D{{Key: "$lte", Value: from}}},
	}, find())
	return append(docs, more...), err
}

// asideDoc is an event that can never be published, and why.
type asideDoc struct {
	ID     string `bson:"_id"`
	Topic  string `bson:"topic"`
	Type   string `bson:"type"`
	Key    string `bson:"key"`
	Time   int64  `bson:"time"`
	Data   []byte `bson:"data"`
	Reason string `bson:"reason"`
}

// SetAside implements event.Outbox: the event moves to the collection parley_outbox_aside. It is there before it
// leaves its document.
func (s *Outbox) SetAside(ctx context.Context, id, reason string) error {
	const op = "set event aside"
	if !storable(id) { // unknown for sure
		return nil
	}
	reason = strings.ReplaceAll(strings.ToValidUTF8(reason, ""), "\x00", "")
	if runes := []rune(reason); len(runes) > maxReason {
		reason = string(runes[:maxReason])
	}
	for _, c := range s.db.carriers() {
		docs, err := all[pendingDoc](ctx, s.db, op, c, bson.D{{Key: "events.id", Value: id}}, options.Find().SetProjection(pendingFields).SetLimit(1))
		if err != nil {
			return err
		}
		for _, doc := range docs {
			for _, e := range doc.Carried.Events {
				if e.ID != id {
					continue
				}
				raw, err := aside.encode(asideDoc{ID: e.ID, Topic: e.Topic, Type: e.Type, Key: e.Key, Time: e.Time, Data: notNull(e.Data), Reason: reason})
				if err != nil {
					return err
				}
				// It may have been there before, and been replayed.
				if _, err := s.db.aside.ReplaceOne(ctx, byID(id), raw, options.Replace().SetUpsert(true)); err != nil {
					return s.db.fail(ctx, op, err)
				}
				if c == s.db.aside { // its document was replaced
					return nil
				}
				return s.take(ctx, c, id) // from there alone: it may have been replayed already
			}
		}
	}
	return nil
}

// published is as much of a document as Published needs.
type published struct {
	ID      bson.RawValue `bson:"_id"`
	Removed bool          `bson:"removed"`
	Carried carrier       `bson:",inline"`
}

// Published implements event.Outbox.
func (s *Outbox) Published(ctx context.Context, ids ...string) error {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !storable(id) }) // unknown for sure
	if len(ids) == 0 {
		return nil
	}
	for part := range slices.Chunk(ids, chunk) {
		for _, c := range s.db.carriers() {
			if err := s.take(ctx, c, part...); err != nil {
				return err
			}
		}
	}
	return nil
}

// take takes events out of the documents of a collection.
func (s *Outbox) take(ctx context.Context, c *mongo.Collection, ids ...string) error {
	const op = "empty outbox"
	for attempt := 1; ; attempt++ {
		docs, err := all[published](ctx, s.db, op, c, bson.D{{Key: "events.id", Value: bson.D{{Key: "$in", Value: ids}}}},
			options.Find().SetProjection(ascending("version", "removed", "events")))
		if err != nil || len(docs) == 0 {
			return err
		}
		writes := make([]mongo.WriteModel, len(docs))
		for i := range docs {
			writes[i] = docs[i].without(ids)
		}
		// A document that changed meanwhile is found again.
		if _, err := bulk(ctx, c, writes, false); err != nil {
			return s.db.fail(ctx, op, err)
		}
		if attempt > 1 {
			if err := pause(ctx, attempt); err != nil {
				return s.db.fail(ctx, op, err)
			}
		}
	}
}

// without is the write that takes events out of the document.
func (p *published) without(ids []string) mongo.WriteModel {
	same := bson.D{{Key: "_id", Value: p.ID}, {Key: "version", Value: p.Carried.Version}}
	rest := slices.DeleteFunc(slices.Clone(p.Carried.Events), func(e eventDoc) bool { return slices.Contains(ids, e.ID) })
	switch {
	case len(rest) > 0:
		return mongo.NewUpdateOneModel().SetFilter(same).SetUpdate(bson.D{{Key: "$set", Value: bson.D{
			{Key: "version", Value: p.Carried.Version + 1}, {Key: "pending", Value: rest[0].Position}, {Key: "events", Value: rest},
		}}})
	case p.Removed:
		return mongo.NewDeleteOneModel().SetFilter(same)
	}
	return mongo.NewUpdateOneModel().SetFilter(same).SetUpdate(bson.D{
		{Key: "$set", Value: bson.D{{Key: "version", Value: p.Carried.Version + 1}}},
		{Key: "$unset", Value: bson.D{{Key: "pending", Value: ""}, {Key: "events", Value: ""}}},
	})
}
