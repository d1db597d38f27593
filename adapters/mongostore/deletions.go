package mongostore

import (
	"context"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// headsOf returns the heads of rooms that a filter chooses, without what is to be written.
func (s *Messages) headsOf(ctx context.Context, rooms []string, more ...bson.E) ([]headDoc, error) {
	var heads []headDoc
	for part := range slices.Chunk(rooms, chunk) {
		found, err := all[headDoc](ctx, s.db, "read changes", s.db.changes, append(bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: part}}}}, more...),
			options.Find().SetProjection(bson.D{{Key: "rev", Value: int32(1)}, {Key: "counted", Value: int32(1)}}))
		if err != nil {
			return nil, err
		}
		heads = append(heads, found...)
	}
	return heads, nil
}

// revs returns the highest Rev of each room, when the messages have everything up to it. It is two calls, and more for rooms in which a change is under way or left.
func (s *Messages) revs(ctx context.Context, rooms []string) (map[string]int64, error) {
	var heads []headDoc
	var highest map[string]tip
	err := together(
		func() (err error) { heads, err = s.headsOf(ctx, rooms); return err },
		func() (err error) { highest, err = s.db.tips(ctx, highestOf, rooms); return err },
	)
	if err != nil {
		return nil, err
	}
	revs := make(map[string]int64, len(rooms))
	for room, t := range highest {
		revs[room] = t.N
	}
	var open []string
	for _, head := range heads {
		if revs[head.Room] < head.Rev || !head.whole(revs[head.Room]) {
			open = append(open, head.Room)
		}
	}
	settled := make([]int64, len(open))
	err = each(len(open), func(i int) (err error) {
		_, settled[i], err = s.settle(ctx, open[i])
		return err
	})
	for i, room := range open {
		revs[room] = settled[i]
	}
	return revs, err
}

// wholeIndex sees to it that the index of deletions has what programs have deleted that knew none. It is one call, and more only where such a program was the last to
// change a room.
func (s *Messages) wholeIndex(ctx context.Context, spots []spot) error {
	rooms := make([]string, len(spots))
	for i, p := range spots {
		rooms[i] = p.room
	}
	slices.Sort(rooms)
	// While a change of this program's kind is under way, its deletions come into the index by themselves.
	heads, err := s.headsOf(ctx, slices.Compact(rooms), bson.E{Key: "$or", Value: bson.A{
		bson.D{{Key: "writes", Value: exists(false)}}, bson.D{{Key: "counted", Value: exists(false)}},
	}})
	if err != nil {
		return err
	}
	heads = slices.DeleteFunc(heads, func(h headDoc) bool { return h.whole(h.Rev) })
	return each(len(heads), func(i int) error {
		_, _, err := s.settle(ctx, heads[i].Room)
		return err
	})
}

// whole reports whether every deletion up to a Rev is in the index of deletions. What the head has not been rid of yet are the changes behind Counted.
func (h *headDoc) whole(rev int64) bool {
	if h.Counted == nil || *h.Counted >= rev {
		return h.Counted != nil
	}
	return rev == h.Rev && len(h.Writes) > 0 && !slices.ContainsFunc(h.Writes, func(w writeDoc) bool { return w.Content.DeletedAt != nil })
}

// indexDeletions puts into the index of deletions what programs have deleted that knew none, up to a Rev that all messages have. It remembers every stretch, so that a call
// that ends before all is done is of use.
func (s *Messages) indexDeletions(ctx context.Context, head headDoc, rev int64) error {
	const op = "index deletions"
	from := int64(0)
	if head.Counted != nil {
		from = *head.Counted
	}
	for from < rev {
		end := min(from+s.db.stretch, rev)
		docs, err := all[struct {
			ID  bson.ObjectID `bson:"_id"`
			Seq int64         `bson:"seq"`
		}](ctx, s.db, op, s.db.messages, bson.D{
			{Key: "changed_in", Value: head.Room}, {Key: "rev", Value: bson.D{{Key: "$gt", Value: from}, {Key: "$lte", Value: end}}},
			{Key: "deleted_at", Value: exists(true)}, {Key: "deleted_in", Value: exists(false)},
		}, options.Find().SetProjection(bson.D{{Key: "seq", Value: int32(1)}}))
		if err != nil {
			return err
		}
		models := make([]mongo.WriteModel, len(docs))
		for i, m := range docs {
			models[i] = mongo.NewUpdateOneModel().SetFilter(bson.D{{Key: "_id", Value: m.ID}}).SetUpdate(bson.D{{Key: "$set", Value: deletion(head.Room, m.Seq)}})
		}
		if _, err := bulk(ctx, s.db.messages, models, false); err != nil {
			return s.db.fail(ctx, op, err)
		}
		from = end
		_, err = s.db.spent.UpdateOne(ctx, bson.D{{Key: "_id", Value: head.Room}, {Key: "rev", Value: head.Rev}},
			bson.D{{Key: "$max", Value: bson.D{{Key: "counted", Value: from}}}})
		if err != nil { // the same is looked through again
			s.db.log.DebugContext(ctx, "how far deletions are indexed is not stored", "error", err)
		}
	}
	return nil
}

// deletion is what a deleted message has for the index of deletions.
func deletion(room string, seq int64) bson.D {
	return bson.D{{Key: "deleted_in", Value: room}, {Key: "deleted_seq", Value: seq}}
}
