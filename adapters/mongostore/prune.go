package mongostore

import (
	"context"
	"math"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

var _ chat.Pruner = (*Messages)(nil)

// removedRev marks the last message of a room of which all messages were removed by age. Its document stays, since the next message gets the number after it; it says
// nothing and is nobody's. No change comes behind this Rev, so that one that was decided before, also by an older program, leaves it alone. An older program shows a
// deleted message of nobody.
const removedRev = math.MaxInt64

// removed reports whether only the number of the message is left.
func (d *messageDoc) removed() bool { return d.Content.Rev == removedRev }

// stored leaves out the documents of which only the number is left.
func stored(docs []messageDoc) []messageDoc {
	return slices.DeleteFunc(docs, func(d messageDoc) bool { return d.removed() })
}

// removal is what becomes of the last message of a room. It counts as deleted, so that it is not unread.
func removal(room string, seq int64) bson.D {
	return bson.D{
		{Key: "$set", Value: append(deletion(room, seq),
			bson.E{Key: "rev", Value: int64(removedRev)}, bson.E{Key: "text", Value: deletedText}, bson.E{Key: "id", Value: "removed"},
			bson.E{Key: "once", Value: onceWithout(uint64(seq))}, bson.E{Key: "author_id", Value: ""}, bson.E{Key: "author_name", Value: ""},
			bson.E{Key: "at", Value: int64(0)}, bson.E{Key: "deleted_at", Value: int64(0)})},
		{Key: "$unset", Value: bson.D{
			{Key: "client_id", Value: ""}, {Key: "reply_to", Value: ""}, {Key: "data", Value: ""}, {Key: "edited_at", Value: ""},
			{Key: "reactions", Value: ""}, {Key: "reacted", Value: ""}, {Key: "changed_in", Value: ""},
		}},
	}
}

// oldest returns what Aged and Prune need of the first messages of a room, ascending, at most limit unless it is 0, before a sequence unless that is 0.
func (s *Messages) oldest(ctx context.Context, room string, before int64, limit int) ([]messageDoc, error) {
	filter := bson.D{{Key: "room", Value: room}}
	if before > 0 {
		filter = append(filter, bson.E{Key: "seq", Value: bson.D{{Key: "$lt", Value: before}}})
	}
	return all[messageDoc](ctx, s.db, "look for old messages", s.db.committed, filter, options.Find().SetSort(ascending("seq")).SetLimit(int64(limit)).
		SetProjection(bson.D{{Key: "seq", Value: int32(1)}, {Key: "rev", Value: int32(1)}, {Key: "at", Value: int32(1)}, {Key: "author_id", Value: int32(1)}}))
}

// Aged implements chat.Pruner. It reads the first message or two, and the others only if that one is old.
func (s *Messages) Aged(ctx context.Context, room string, before time.Time, limit int) (first uint64, aged int, err error) {
	if !storable(room) {
		return 1, 0, nil
	}
	for _, n := range [...]int{1, limit} {
		if n > limit || n == aged {
			break
		}
		docs, err := s.oldest(ctx, room, 0, min(n, math.MaxInt32-1)+1) // one may be the number alone
		if err != nil {
			return 0, 0, err
		}
		if docs = stored(docs); len(docs) == 0 {
			break
		}
		first, aged = uint64(docs[0].Seq), 0
		for aged < min(n, len(docs)) && docs[aged].At < micros(before) {
			aged++
			first = uint64(docs[aged-1].Seq) + 1
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

// Prune implements chat.Pruner. First what was decided is carried out, and leaves no copy in the head of the room. Then those whose messages are removed have read up to their
// last one, which is known by the messages alone until then. At last one ordered write removes one message after another, the first one first: wherever it ends, what is
// left has no gaps. Where all are removed, the last one leaves its number behind. Whoever calls sees to it that the messages are few.
func (s *Messages) Prune(ctx context.Context, room string, first uint64) (removed int, err error) {
	const op = "remove old messages"
	if !storable(room) || first <= 1 {
		return 0, nil
	}
	if err := s.db.ready(ctx); err != nil {
		return 0, err
	}
	docs, err := s.oldest(ctx, room, clamp(first), 0)
	if err != nil || len(docs) == 0 {
		return 0, err
	}
	last, err := s.end(ctx, s.db.committed, room, "-seq")
	if err != nil {
		return 0, err
	}
	if err := s.emptyHead(ctx, room); err != nil {
		return 0, err
	}
	if err := s.keepRead(ctx, room, docs); err != nil {
		return 0, err
	}
	for part := range slices.Chunk(docs, chunk) {
		var models []mongo.WriteModel
		for _, d := range part {
			one := bson.D{{Key: "_id", Value: d.ObjectID}}
			switch {
			case uint64(d.Seq) != last:
				models = append(models, mongo.NewDeleteOneModel().SetFilter(one))
			case !d.removed():
				models = append(models, mongo.NewUpdateOneModel().SetFilter(one).SetUpdate(removal(room, d.Seq)))
			}
		}
		if len(models) == 0 {
			break
		}
		res, err := bulk(ctx, s.db.messages, models, true)
		switch {
		case err != nil:
			return removed, partly(op, err)
		case !part[0].removed():
			removed += int(res.DeletedCount + res.ModifiedCount)
		default: // it was removed before
			removed += max(0, int(res.DeletedCount+res.ModifiedCount)-1)
		}
	}
	return removed, nil
}

// emptyHead carries out what is decided for a room, and takes it out of its head.
func (s *Messages) emptyHead(ctx context.Context, room string) error {
	head, _, err := s.settle(ctx, room)
	if err != nil || len(head.Writes) == 0 {
		return err
	}
	_, err = s.db.changes.UpdateOne(ctx, bson.D{{Key: "_id", Value: room}, {Key: "rev", Value: head.Rev}},
		bson.D{{Key: "$unset", Value: bson.D{{Key: "writes", Value: ""}}}})
	return s.db.fail(ctx, "carry changes out", err)
}

// keepRead lets those who have sent messages have read up to them, also when the messages are gone.
func (s *Messages) keepRead(ctx context.Context, room string, docs []messageDoc) error {
	read := make(map[string]int64)
	for _, d := range docs { // ascending
		if !d.removed() {
			read[d.AuthorID] = d.Seq
		}
	}
	var models []mongo.WriteModel
	for id, seq := range read {
		// A document without a mark has read everything, and more.
		models = append(models, mongo.NewUpdateOneModel().
			SetFilter(append(membership(room, user.ID(id)), bson.E{Key: "read", Value: bson.D{{Key: "$lt", Value: seq}}})).
			SetUpdate(bson.D{{Key: "$max", Value: bson.D{{Key: "read", Value: seq}}}}))
	}
	_, err := bulk(ctx, s.db.members, models, false)
	return s.db.fail(ctx, "keep what is read", err)
}

// Drop implements chat.Pruner. Messages go in one ordered write, the first one first. What was decided about members and left is carried out then. Memberships go, then bans and mutes
// and the head of the room, and the room at last: as long as its document is there, there may be more.
func (s *Messages) Drop(ctx context.Context, room string, limit int) (left bool, err error) {
	const op = "remove a room"
	if !storable(room) {
		return false, nil
	}
	if err := s.db.ready(ctx); err != nil {
		return true, err
	}
	limit = min(max(limit, 1), chunk)
	docs, err := s.oldest(ctx, room, 0, limit)
	if err != nil {
		return true, err
	}
	if len(docs) > 0 {
		models := make([]mongo.WriteModel, len(docs))
		for i, d := range docs {
			models[i] = mongo.NewDeleteOneModel().SetFilter(bson.D{{Key: "_id", Value: d.ObjectID}})
		}
		_, err := bulk(ctx, s.db.messages, models, true)
		return true, s.db.fail(ctx, op, err)
	}
	if _, err := s.db.settle(ctx, op, room); err != nil { // else it might be carried out when the memberships are gone
		return true, err
	}
	inRoom := bson.D{{Key: "room", Value: room}}
	members, err := all[memberDoc](ctx, s.db, op, s.db.standing, inRoom, options.Find().SetLimit(int64(limit)).SetProjection(bson.D{{Key: "_id", Value: int32(1)}}))
	if err != nil {
		return true, err
	}
	if len(members) > 0 {
		ids := make(bson.A, len(members))
		for i, m := range members {
			ids[i] = m.ID
		}
		res, err := s.db.members.DeleteMany(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}, {Key: "events", Value: exists(false)}})
		if err != nil || int(res.DeletedCount) == len(ids) {
			return true, s.db.fail(ctx, op, err)
		}
		return true, each(len(members), func(i int) error { return s.db.end(ctx, op, bson.D{{Key: "_id", Value: members[i].ID}}) })
	}
	for _, part := range []struct {
		of     *mongo.Collection
		filter bson.D
	}{{s.db.restrictions, inRoom}, {s.db.changes, byID(room)}} {
		if _, err := part.of.DeleteMany(ctx, part.filter); err != nil {
			return true, s.db.fail(ctx, op, err)
		}
	}
	if err := s.db.dropRoom(ctx, op, room); err != nil {
		return true, err
	}
	return false, nil
}
