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

// Put implements chat.Restrictions. It reads what is there and writes one document, if that is still there as it was read; otherwise it begins again. With may, it is decided in the
// document of the room, as a role is: see Roles.Change.
func (s *Restrictions) Put(ctx context.Context, r chat.Restriction, may func(room chat.Room, by, of chat.Role) error) (chat.Restriction, error) {
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
	if may != nil {
		return s.putIf(ctx, r.Room, doc, may)
	}
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

// putIf is Put with may. It reads the room, both members and what restrictions there are of them. What is to become of the restriction is then written into the room, if nothing was
// decided there meanwhile; otherwise it begins again. That write decides, and is then carried out, before anything else is decided about the room.
func (s *Restrictions) putIf(ctx context.Context, room string, doc restrictionDoc, may func(room chat.Room, by, of chat.Role) error) (chat.Restriction, error) {
	const op = "put restriction"
	if !storable(room) {
		return chat.Restriction{}, chat.ErrRoomNotFound
	}
	if err := s.db.ready(ctx); err != nil {
		return chat.Restriction{}, err
	}
	if err := s.db.ruling.take(ctx, []string{room}); err != nil {
		return chat.Restriction{}, s.db.fail(ctx, op, err)
	}
	defer s.db.ruling.give([]string{room})
	for attempt := 1; attempt <= attempts; attempt++ {
		r, err := one[roomDoc](ctx, s.db, op, s.db.ruled, byID(room), chat.ErrRoomNotFound)
		if err != nil {
			return chat.Restriction{}, err
		}
		if err := s.db.fulfil(ctx, &r); err != nil {
			return chat.Restriction{}, err
		}
		won, err := s.decideOn(ctx, op, &r, &doc, may)
		if err != nil {
			return chat.Restriction{}, err
		}
		if won {
			return doc.restriction(), nil
		}
		if err := pause(ctx, attempt); err != nil {
			return chat.Restriction{}, s.db.fail(ctx, op, err)
		}
	}
	return chat.Restriction{}, s.db.fail(ctx, op, fmt.Errorf("given up after %d attempts", attempts))
}

// decideOn is one attempt, of a room without intents. It reports whether nobody else was quicker.
func (s *Restrictions) decideOn(ctx context.Context, op string, r *roomDoc, doc *restrictionDoc, may func(room chat.Room, by, of chat.Role) error) (bool, error) {
	by, of, held, err := s.db.heeded(ctx, op, r.Name, instant(doc.At), user.ID(doc.By), user.ID(doc.UserID))
	if err != nil {
		return false, err
	}
	if refusal := may(r.room(), by, of); refusal != nil {
		return false, s.db.refuse(ctx, op, r, refusal)
	}
	decided := *doc
	for _, before := range held {
		if before.UserID == doc.UserID && before.Kind == doc.Kind && decided.At <= before.At {
			decided.At = before.At + 1
		}
	}
	next := *r
	next.Version++
	next.Decided = next.Version
	next.Intents = []intentDoc{{UserID: decided.UserID, Member: decided.ID, Restricts: []restrictionDoc{decided}}}
	if _, err := rooms.encode(next); err != nil {
		return false, err
	}
	won, err := s.db.decide(ctx, op, r, bson.D{{Key: "$set", Value: bson.D{
		{Key: "version", Value: next.Version}, {Key: "decided", Value: next.Decided}, {Key: "intents", Value: next.Intents},
	}}})
	if err != nil || !won {
		return false, err
	}
	if err := s.db.fulfil(ctx, &next); err != nil {
		return false, partly(op, err)
	}
	*doc = decided
	return true, nil
}

// fulfilRestriction stores a restriction that was decided, unless it or a later one is stored. It may be done any number of times, at any time, by several at once.
func (d *database) fulfilRestriction(ctx context.Context, op string, doc restrictionDoc) error {
	which := bson.D{{Key: "room", Value: doc.Room}, {Key: "user_id", Value: doc.UserID}, {Key: "kind", Value: doc.Kind}}
	earlier := append(slices.Clone(which), bson.E{Key: "at", Value: bson.D{{Key: "$lt", Value: doc.At}}})
	set := bson.D{{Key: "by", Value: doc.By}, {Key: "reason", Value: doc.Reason}, {Key: "at", Value: doc.At}}
	update := bson.D{}
	if doc.Until != nil {
		set = append(set, bson.E{Key: "until", Value: *doc.Until})
	} else {
		update = append(update, bson.E{Key: "$unset", Value: bson.D{{Key: "until", Value: ""}}})
	}
	update = append(update, bson.E{Key: "$set", Value: set})
	for attempt := 1; attempt <= attempts; attempt++ {
		res, err := d.restrictions.UpdateOne(ctx, earlier, update)
		if err != nil || res.MatchedCount > 0 {
			return d.fail(ctx, op, err)
		}
		docs, err := all[restrictionDoc](ctx, d, op, d.restrictions, which, options.Find().SetLimit(1))
		if err != nil || len(docs) > 0 && docs[0].At >= doc.At {
			return err
		}
		if len(docs) == 0 {
			if err := d.insertOnce(ctx, op, d.restrictions, restrictions, doc); !errors.Is(err, fault.Conflict) {
				return err
			}
		}
		if err := pause(ctx, attempt); err != nil {
			return d.fail(ctx, op, err)
		}
	}
	return d.fail(ctx, op, fmt.Errorf("given up after %d attempts", attempts))
}

// heldOf returns the restrictions of users in rooms, whether they hold or not, as the majority has them.
func (d *database) heldOf(ctx context.Context, op string, pairs []pair) ([]restrictionDoc, error) {
	terms := make(bson.A, len(pairs))
	for i, p := range pairs {
		terms[i] = membership(p.room, user.ID(p.id))
	}
	return all[restrictionDoc](ctx, d, op, d.restricted, bson.D{{Key: "$or", Value: terms}})
}

// banned reports whether a ban of a user holds at a time, among restrictions of one room.
func banned(held []restrictionDoc, id user.ID, at time.Time) bool {
	return slices.ContainsFunc(held, func(d restrictionDoc) bool {
		return d.UserID == string(id) && d.Kind == string(chat.Ban) && d.restriction().InForce(at)
	})
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
