package mongostore

import (
	"context"
	"errors"

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

// Members stores memberships. Its methods may be called from many goroutines.
type Members struct{ db *database }

var _ chat.Members = (*Members)(nil)

type memberDoc struct {
	ID     bson.ObjectID `bson:"_id"`
	UserID string        `bson:"user_id"`
	Room   string        `bson:"room"`
	Since  int64         `bson:"since"`
}

// chunk bounds the documents of one insert, so that it is one message to the server.
const chunk = 1000

// Add implements chat.Members.
func (s *Members) Add(ctx context.Context, memberships ...chat.Membership) error {
	const op = "add members"
	docs := make([]any, len(memberships))
	for i, m := range memberships {
		raw, err := members.encode(memberDoc{ID: bson.NewObjectID(), UserID: string(m.UserID), Room: m.Room, Since: micros(m.Since)})
		if err != nil {
			return err
		}
		docs[i] = raw
	}
	if len(docs) == 0 {
		return nil
	}
	if err := s.db.ready(ctx); err != nil {
		return err
	}
	for from := 0; from < len(docs); from += chunk {
		_, err := s.db.members.InsertMany(ctx, docs[from:min(from+chunk, len(docs))], options.InsertMany().SetOrdered(false))
		if err != nil && !onlyDuplicates(err) {
			if some := (mongo.BulkWriteException{}); from > 0 || errors.As(err, &some) {
				return partly(op, err)
			}
			return s.db.fail(ctx, op, err)
		}
	}
	return nil
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

// RoomsOf implements chat.Members.
func (s *Members) RoomsOf(ctx context.Context, id user.ID, after string, limit int) ([]chat.Membership, error) {
	if !storable(string(id), after) {
		return nil, errText
	}
	if limit < 1 {
		return []chat.Membership{}, nil
	}
	docs, err := all[memberDoc](ctx, s.db, "list memberships", s.db.members,
		bson.D{{Key: "user_id", Value: string(id)}, {Key: "room", Value: bson.D{{Key: "$gt", Value: after}}}},
		options.Find().SetSort(ascending("room")).SetLimit(int64(limit)))
	if err != nil {
		return nil, err
	}
	memberships := make([]chat.Membership, len(docs))
	for i, d := range docs {
		memberships[i] = chat.Membership{Room: d.Room, UserID: user.ID(d.UserID), Since: instant(d.Since)}
	}
	return memberships, nil
}
