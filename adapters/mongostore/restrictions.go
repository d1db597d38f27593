package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Restrictions stores who may not do what in which room. Its methods may be called from many goroutines.
type Restrictions struct{ db *database }

var _ chat.Restrictions = (*Restrictions)(nil)

// maxKind is the longest kind of a restriction.
const maxKind = 16

type restrictionDoc struct {
	ID     bson.ObjectID `bson:"_id"`
	Room   string        `bson:"room"`
	UserID string        `bson:"user_id"`
	Kind   string        `bson:"kind"`
	By     string        `bson:"by"`
	Reason string        `bson:"reason"`
	At     int64         `bson:"at"`
	Until  *int64        `bson:"until,omitempty"` // absent: never
}

func (d *restrictionDoc) restriction() chat.Restriction {
	return chat.Restriction{
		Room: d.Room, UserID: user.ID(d.UserID), Kind: chat.RestrictionKind(d.Kind), By: user.ID(d.By), Reason: d.Reason,
		At: instant(d.At), Until: optionalInstant(d.Until),
	}
}

// errNoRestriction is never returned.
var errNoRestriction = fault.New(fault.NotFound, "restriction_not_found", "there is no such restriction")

// Put implements chat.Restrictions. It reads what is there and writes one document, if that is still there as it was read; otherwise it begins again.
func (s *Restrictions) Put(ctx context.Context, r chat.Restriction) (chat.Restriction, error) {
	const op = "put restriction"
	doc := restrictionDoc{
		ID: bson.NewObjectID(), Room: r.Room, UserID: string(r.UserID), Kind: string(r.Kind), By: string(r.By), Reason: r.Reason,
		At: micros(r.At), Until: optionalMicros(r.Until),
	}
	if _, err := restrictions.encode(doc); err != nil {
		return chat.Restriction{}, err
	}
	if err := s.db.restricting.take(ctx, []string{r.Room}); err != nil {
		return chat.Restriction{}, s.db.fail(ctx, op, err)
	}
	defer s.db.restricting.give([]string{r.Room})
	which := bson.D{{Key: "room", Value: doc.Room}, {Key: "user_id", Value: doc.UserID}, {Key: "kind", Value: doc.Kind}}
	for attempt := 1; attempt <= attempts; attempt++ {
		stored, err := s.put(ctx, op, which, doc)
		if err != nil || stored != nil {
			if err != nil {
				return chat.Restriction{}, err
			}
			return stored.restriction(), nil
		}
		if err := pause(ctx, attempt); err != nil {
			return chat.Restriction{}, s.db.fail(ctx, op, err)
		}
	}
	return chat.Restriction{}, s.db.fail(ctx, op, fmt.Errorf("given up after %d attempts", attempts))
}

// put is one attempt. It returns nothing if somebody else was quicker.
func (s *Restrictions) put(ctx context.Context, op string, which bson.D, doc restrictionDoc) (*restrictionDoc, error) {
	before, err := one[restrictionDoc](ctx, s.db, op, s.db.restrictions, which, errNoRestriction)
	if errors.Is(err, errNoRestriction) {
		err = s.db.insertOnce(ctx, op, s.db.restrictions, restrictions, doc)
		if errors.Is(err, fault.Conflict) {
			return nil, nil
		}
		return &doc, err
	}
	if err != nil {
		return nil, err
	}
	doc.ID = before.ID
	if doc.At <= before.At {
		doc.At = before.At + 1
	}
	raw, err := restrictions.encode(doc)
	if err != nil {
		return nil, err
	}
	res, err := s.db.restrictions.ReplaceOne(ctx, bson.D{{Key: "_id", Value: before.ID}, {Key: "at", Value: before.At}}, raw)
	switch {
	case err != nil:
		return nil, s.db.fail(ctx, op, err)
	case res.MatchedCount == 0:
		return nil, nil
	}
	return &doc, nil
}

// InForce implements chat.Restrictions. It is one call for every 100 that it is asked about.
func (s *Restrictions) InForce(ctx context.Context, now time.Time, whom ...chat.InRoom) ([]chat.Restriction, error) {
	held, asked := []chat.Restriction{}, make(map[chat.InRoom]bool, len(whom))
	terms := make(bson.A, 0, len(whom))
	for _, w := range whom {
		if !asked[w] && storable(w.Room, string(w.UserID)) {
			terms = append(terms, membership(w.Room, w.UserID))
		}
		asked[w] = true
	}
	if err := s.db.ready(ctx); err != nil {
		return nil, err
	}
	for part := range slices.Chunk(terms, branches) {
		docs, err := s.find(ctx, "read restrictions", bson.D{{Key: "$or", Value: part}})
		if err != nil {
			return nil, err
		}
		held = append(held, slices.DeleteFunc(docs, func(r chat.Restriction) bool { return !r.InForce(now) })...)
	}
	return held, nil
}

// List implements chat.Restrictions.
func (s *Restrictions) List(ctx context.Context, room string, kind chat.RestrictionKind, now time.Time, after user.ID, limit int) ([]chat.Restriction, error) {
	if !storable(room, string(kind), string(after)) {
		return nil, errText
	}
	if limit < 1 {
		return []chat.Restriction{}, nil
	}
	return s.find(ctx, "list restrictions", bson.D{
		{Key: "room", Value: room}, {Key: "kind", Value: string(kind)}, {Key: "user_id", Value: bson.D{{Key: "$gt", Value: string(after)}}},
		{Key: "$or", Value: bson.A{
			bson.D{{Key: "until", Value: exists(false)}},
			bson.D{{Key: "until", Value: bson.D{{Key: "$gt", Value: micros(now)}}}},
		}},
	}, options.Find().SetSort(ascending("user_id")).SetLimit(int64(limit)))
}

// Since implements chat.Restrictions.
func (s *Restrictions) Since(ctx context.Context, at time.Time, limit int) ([]chat.Restriction, error) {
	if limit < 1 {
		return []chat.Restriction{}, nil
	}
	from := micros(at)
	if instant(from).Before(at) {
		from++ // nothing is stored between microseconds
	}
	return s.find(ctx, "list restrictions since", bson.D{{Key: "at", Value: bson.D{{Key: "$gte", Value: from}}}},
		options.Find().SetSort(ascending("at", "room", "user_id", "kind")).SetLimit(int64(limit)))
}

// find reads restrictions as the majority has them, so that none that was told goes back.
func (s *Restrictions) find(ctx context.Context, op string, filter bson.D, opts ...options.Lister[options.FindOptions]) ([]chat.Restriction, error) {
	docs, err := all[restrictionDoc](ctx, s.db, op, s.db.restricted, filter, opts...)
	if err != nil {
		return nil, err
	}
	found := make([]chat.Restriction, len(docs))
	for i := range docs {
		found[i] = docs[i].restriction()
	}
	return found, nil
}
