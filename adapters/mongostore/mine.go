package mongostore

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// Mine implements chat.Marks. It reads all memberships of the user and the time of the last message of each of their rooms, and of the rooms that it returns their numbers
// and last messages; one call for every 100 or 1,000 rooms each. It finishes changes that a process has decided and left.
func (s *Members) Mine(ctx context.Context, id user.ID, behind chat.Place, limit int) ([]chat.MyRoom, error) {
	if !storable(string(id)) {
		return nil, errText
	}
	if limit < 1 {
		return []chat.MyRoom{}, nil
	}
	docs, err := s.db.listed(ctx, "list my rooms", bson.D{{Key: "user_id", Value: string(id)}})
	if err != nil || len(docs) == 0 {
		return []chat.MyRoom{}, err
	}
	if docs, err = s.db.notDeleted(ctx, docs); err != nil {
		return nil, err
	}
	last, err := s.db.tips(ctx, lastAt, roomsOf(docs))
	if err != nil {
		return nil, err
	}
	page := make([]chat.MyRoom, 0, len(docs))
	of := make(map[string]*memberDoc, len(docs))
	for _, m := range docs {
		of[m.Room] = m
		r := chat.MyRoom{Membership: m.membership(), Active: instant(m.Since)}
		if end := last[m.Room]; end.N > 0 {
			r.Seq, r.Active = uint64(end.N), later(r.Active, instant(end.At))
		}
		if behind == (chat.Place{}) || inList(behind, r.Place()) < 0 {
			page = append(page, r)
		}
	}
	slices.SortFunc(page, func(a, b chat.MyRoom) int { return inList(a.Place(), b.Place()) })
	page = slices.Clip(page[:min(limit, len(page))])
	if err := s.complete(ctx, page, of, last); err != nil {
		return nil, err
	}
	return page, nil
}

// notDeleted returns the memberships of rooms that are not deleted.
func (d *database) notDeleted(ctx context.Context, docs []*memberDoc) ([]*memberDoc, error) {
	deleted := map[string]bool{}
	for part := range slices.Chunk(roomsOf(docs), chunk) {
		found, err := all[roomDoc](ctx, d, "list deleted rooms", d.ruled,
			bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: part}}}, {Key: "deleted_at", Value: exists(true)}},
			options.Find().SetProjection(bson.D{{Key: "_id", Value: int32(1)}}))
		if err != nil {
			return nil, err
		}
		for _, r := range found {
			deleted[r.Name] = true
		}
	}
	return slices.DeleteFunc(docs, func(m *memberDoc) bool { return deleted[m.Room] }), nil
}

// inList is the order of a list of rooms.
func inList(a, b chat.Place) int {
	return cmp.Or(b.Active.Compare(a.Active), strings.Compare(a.Room, b.Room))
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// complete adds to rooms of one user what is not in the list of their memberships.
func (s *Members) complete(ctx context.Context, page []chat.MyRoom, of map[string]*memberDoc, last map[string]tip) error {
	docs := make([]*memberDoc, len(page))
	for i, r := range page {
		docs[i] = of[r.Room]
	}
	var revs, sent = map[string]int64{}, map[pair]int64{}
	messages := &Messages{db: s.db}
	// The changes come first, so that each that is counted is in the message.
	err := together(
		func() (err error) { revs, err = messages.revs(ctx, roomsOf(docs)); return err },
		func() (err error) { sent, err = s.db.sent(ctx, behind(docs, last)); return err },
	)
	if err != nil {
		return err
	}
	spots := make([]spot, len(page))
	for i, m := range docs {
		end := last[m.Room].N
		spots[i] = spot{m.Room, max(m.read(end), min(sent[m.pair()], end))}
	}
	var unread map[spot]uint64
	var lasts map[string]chat.Message
	err = together(
		func() (err error) { unread, err = s.db.unread(ctx, spots, last); return err },
		func() (err error) { lasts, err = messages.at(ctx, roomsOf(docs), last); return err },
	)
	for i := range page {
		r := &page[i]
		r.Read, r.Unread, r.Rev, r.Last = uint64(spots[i].seq), unread[spots[i]], uint64(revs[r.Room]), lasts[r.Room]
	}
	return err
}

// at returns the messages at these places.
func (s *Messages) at(ctx context.Context, rooms []string, where map[string]tip) (map[string]chat.Message, error) {
	found := make(map[string]chat.Message, len(rooms))
	rooms = slices.DeleteFunc(rooms, func(room string) bool { return where[room].N == 0 })
	for part := range slices.Chunk(rooms, branches) {
		terms := make(bson.A, len(part))
		for i, room := range part {
			terms[i] = bson.D{{Key: "room", Value: room}, {Key: "seq", Value: where[room].N}}
		}
		docs, err := all[messageDoc](ctx, s.db, "read last messages", s.db.committed, bson.D{{Key: "$or", Value: terms}}, options.Find().SetProjection(told))
		if err != nil {
			return nil, err
		}
		for i := range docs {
			if !docs[i].removed() {
				found[docs[i].Room] = docs[i].message()
			}
		}
	}
	return found, nil
}
