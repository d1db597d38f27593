package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Rooms stores rooms. Its methods may be called from many goroutines.
type Rooms struct{ db *database }

var _ chat.Rooms = (*Rooms)(nil)

type roomDoc struct {
	Name      string `bson:"_id"`
	CreatedBy string `bson:"created_by"`
	CreatedAt int64  `bson:"created_at"`
}

func (d *roomDoc) room() chat.Room {
	return chat.Room{Name: d.Name, CreatedBy: user.ID(d.CreatedBy), CreatedAt: instant(d.CreatedAt)}
}

// Ensure implements chat.Rooms. Where the room exists it only reads.
func (s *Rooms) Ensure(ctx context.Context, r chat.Room) (chat.Room, error) {
	stored, err := s.ByName(ctx, r.Name)
	if !errors.Is(err, chat.ErrRoomNotFound) {
		return stored, err
	}
	doc := roomDoc{Name: r.Name, CreatedBy: string(r.CreatedBy), CreatedAt: micros(r.CreatedAt)}
	err = s.db.insertOnce(ctx, "ensure room", s.db.rooms, rooms, doc)
	switch {
	case err == nil:
		return doc.room(), nil
	case errors.Is(err, fault.Conflict):
		return s.ByName(ctx, r.Name)
	}
	return chat.Room{}, err
}

// ByName implements chat.Rooms.
func (s *Rooms) ByName(ctx context.Context, name string) (chat.Room, error) {
	if !storable(name) {
		return chat.Room{}, chat.ErrRoomNotFound
	}
	doc, err := one[roomDoc](ctx, s.db, "read room", s.db.rooms, byID(name), chat.ErrRoomNotFound)
	if err != nil {
		return chat.Room{}, err
	}
	return doc.room(), nil
}

// List implements chat.Rooms.
func (s *Rooms) List(ctx context.Context, after string, limit int) ([]chat.Room, error) {
	if !storable(after) {
		return nil, errText
	}
	if limit < 1 {
		return []chat.Room{}, nil
	}
	docs, err := all[roomDoc](ctx, s.db, "list rooms", s.db.rooms, bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: after}}}},
		options.Find().SetSort(ascending("_id")).SetLimit(int64(limit)))
	if err != nil {
		return nil, err
	}
	found := make([]chat.Room, len(docs))
	for i := range docs {
		found[i] = docs[i].room()
	}
	return found, nil
}

// Members stores memberships, and how far members have read. Its methods may be called from many goroutines.
type Members struct{ db *database }

var (
	_ chat.Members = (*Members)(nil)
	_ chat.Marks   = (*Members)(nil)
)

type memberDoc struct {
	ID     bson.ObjectID `bson:"_id"`
	UserID string        `bson:"user_id"`
	Room   string        `bson:"room"`
	Since  int64         `bson:"since"`
	// Read is how far the member has read, without what they have sent. A program that kept no marks leaves it out.
	Read *int64 `bson:"read,omitempty"`
	// MovedBy is the call that has moved Read last.
	MovedBy int64 `bson:"moved_by,omitempty"`
}

func (d *memberDoc) membership() chat.Membership {
	return chat.Membership{Room: d.Room, UserID: user.ID(d.UserID), Since: instant(d.Since)}
}

// chunk bounds the documents of one insert, so that it is one message to the server.
const chunk = 1000

// Add implements chat.Members. It reads what is there and what was sent; it writes, after a look at the last messages of the rooms, only what is not there, and
// how far those have read whom a program has added that kept no marks.
func (s *Members) Add(ctx context.Context, memberships ...chat.Membership) ([]chat.Membership, error) {
	const op = "add members"
	stored := make(map[pair]*memberDoc, len(memberships))
	var todo []pair
	for _, m := range memberships {
		doc := &memberDoc{ID: bson.NewObjectID(), UserID: string(m.UserID), Room: m.Room, Since: micros(m.Since), Read: new(int64)}
		if _, err := members.encode(doc); err != nil {
			return nil, err
		}
		if stored[doc.pair()] == nil {
			stored[doc.pair()] = doc
			todo = append(todo, doc.pair())
		}
	}
	answers := make([]chat.Membership, len(memberships))
	if len(answers) == 0 {
		return answers, nil
	}
	if err := s.db.ready(ctx); err != nil {
		return nil, err
	}
	wrote := false
	var before []*memberDoc // those that were there
	for attempt := 1; len(todo) > 0; attempt++ {
		known, rest, err := s.add(ctx, todo, stored, &wrote)
		switch {
		case err == nil && len(rest) > 0 && attempt == attempts:
			err = s.db.fail(ctx, op, fmt.Errorf("given up after %d attempts", attempts))
		case err == nil && len(rest) > 0 && attempt > 1:
			err = s.db.fail(ctx, op, pause(ctx, attempt))
		}
		if err != nil {
			if wrote && fault.KindOf(err) != fault.Unavailable {
				err = partly(op, err)
			}
			return nil, err
		}
		before, todo = append(before, known...), rest
	}
	sent, err := s.db.sent(ctx, before)
	if err != nil {
		return nil, err
	}
	for i, m := range memberships {
		p := pair{m.Room, string(m.UserID)}
		answers[i] = stored[p].membership()
		answers[i].Read = uint64(max(*stored[p].Read, sent[p]))
	}
	return answers, nil
}

// add puts into stored what is there of memberships, and writes what is not. known are those that were there and have a mark, rest those that somebody else has written
// meanwhile.
func (s *Members) add(ctx context.Context, todo []pair, stored map[pair]*memberDoc, wrote *bool) (known []*memberDoc, rest []pair, err error) {
	const op = "add members"
	found, err := s.db.memberships(ctx, op, todo)
	if err != nil {
		return nil, nil, err
	}
	var write, missing []*memberDoc
	for _, p := range todo {
		switch there := found[p]; {
		case there == nil:
			missing = append(missing, stored[p])
		case there.Read == nil:
			write = append(write, there)
		default:
			known = append(known, there)
			stored[p] = there
		}
	}
	if len(write)+len(missing) == 0 {
		return known, nil, nil
	}
	last, err := s.db.tips(ctx, lastOf, roomsOf(slices.Concat(write, missing)))
	if err != nil {
		return nil, nil, err
	}
	for part := range slices.Chunk(missing, chunk) {
		docs := make([]any, len(part))
		for i, m := range part {
			end := last[m.Room].N
			m.Read = &end
			if docs[i], err = members.encode(m); err != nil {
				return nil, nil, err
			}
		}
		_, err := s.db.members.InsertMany(ctx, docs, options.InsertMany().SetOrdered(false))
		if err == nil || onlyDuplicates(err) {
			*wrote = true
			for _, i := range refused(err) {
				rest = append(rest, part[i].pair())
			}
			continue
		}
		if some := (mongo.BulkWriteException{}); errors.As(err, &some) {
			return nil, nil, partly(op, err)
		}
		return nil, nil, s.db.fail(ctx, op, err)
	}
	if len(write) == 0 {
		return known, rest, nil
	}
	models := make([]mongo.WriteModel, len(write))
	for i, m := range write {
		end := last[m.Room].N
		m.Read, stored[m.pair()] = &end, m
		models[i] = mongo.NewUpdateOneModel().SetFilter(bson.D{{Key: "_id", Value: m.ID}, {Key: "read", Value: exists(false)}}).
			SetUpdate(bson.D{{Key: "$set", Value: bson.D{{Key: "read", Value: end}}}})
	}
	res, err := s.db.members.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
	if err != nil {
		return nil, nil, s.db.fail(ctx, op, err)
	}
	*wrote = true
	if res.MatchedCount < int64(len(write)) { // somebody else was quicker with some
		for _, m := range write {
			rest = append(rest, m.pair())
		}
	}
	return known, rest, nil
}

// refused returns the indexes of the documents that were not inserted.
func refused(err error) []int {
	failed := mongo.BulkWriteException{}
	_ = errors.As(err, &failed) // it has none otherwise
	indexes := make([]int, len(failed.WriteErrors))
	for i, e := range failed.WriteErrors {
		indexes[i] = e.Index
	}
	return indexes
}

// onlyDuplicates reports whether every document that was not inserted is there already, and the others are safe.
func onlyDuplicates(err error) bool {
	failed := mongo.BulkWriteException{}
	if !errors.As(err, &failed) || failed.WriteConcernError != nil || len(failed.WriteErrors) == 0 {
		return false
	}
	for _, e := range failed.WriteErrors {
		if !e.HasErrorCode(11000) {
			return false
		}
	}
	return true
}

func membership(room string, id user.ID) bson.D {
	return bson.D{{Key: "user_id", Value: string(id)}, {Key: "room", Value: room}}
}

// Remove implements chat.Members.
func (s *Members) Remove(ctx context.Context, room string, id user.ID) error {
	if !storable(room, string(id)) {
		return nil
	}
	if err := s.db.ready(ctx); err != nil {
		return err
	}
	_, err := s.db.members.DeleteOne(ctx, membership(room, id))
	return s.db.fail(ctx, "remove member", err)
}

// errNoMember is never returned.
var errNoMember = fault.New(fault.NotFound, "member_not_found", "there is no such member")

// Has implements chat.Members.
func (s *Members) Has(ctx context.Context, room string, id user.ID) (bool, error) {
	if !storable(room, string(id)) {
		return false, nil
	}
	_, err := one[memberDoc](ctx, s.db, "read member", s.db.members, membership(room, id), errNoMember)
	if errors.Is(err, errNoMember) {
		return false, nil
	}
	return err == nil, err
}

// RoomsOf implements chat.Members. It is three calls at most, and one more for every 1,000 rooms.
func (s *Members) RoomsOf(ctx context.Context, id user.ID, after string, limit int) ([]chat.Membership, error) {
	if !storable(string(id), after) {
		return nil, errText
	}
	if limit < 1 {
		return []chat.Membership{}, nil
	}
	docs, err := all[*memberDoc](ctx, s.db, "list memberships", s.db.standing,
		bson.D{{Key: "user_id", Value: string(id)}, {Key: "room", Value: bson.D{{Key: "$gt", Value: after}}}},
		options.Find().SetSort(ascending("room")).SetLimit(int64(limit)))
	if err != nil {
		return nil, err
	}
	last, err := s.db.tips(ctx, lastOf, roomsOf(slices.DeleteFunc(slices.Clone(docs), func(m *memberDoc) bool { return m.Read != nil })))
	if err != nil {
		return nil, err
	}
	sent, err := s.db.sent(ctx, docs)
	if err != nil {
		return nil, err
	}
	memberships := make([]chat.Membership, len(docs))
	for i, m := range docs {
		memberships[i] = m.membership()
		memberships[i].Read = uint64(max(m.read(last[m.Room].N), sent[m.pair()]))
	}
	return memberships, nil
}
