package mongostore

import (
	"cmp"
	"context"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// pair names a member of a room.
type pair struct{ room, id string }

func (d *memberDoc) pair() pair { return pair{d.Room, d.UserID} }

// read is how far the member has read by the document. One without a mark is of a program that kept none: all is read.
func (d *memberDoc) read(last int64) int64 {
	if d.Read == nil {
		return last
	}
	return *d.Read
}

// branches bounds the alternatives of one query.
const branches = 100

// memberships returns the documents of members, as the majority has them. The pairs are each there once.
func (d *database) memberships(ctx context.Context, op string, pairs []pair) (map[pair]*memberDoc, error) {
	found := make(map[pair]*memberDoc, len(pairs))
	for part := range slices.Chunk(pairs, branches) {
		terms := make(bson.A, len(part))
		for i, p := range part {
			terms[i] = membership(p.room, user.ID(p.id))
		}
		docs, err := all[*memberDoc](ctx, d, op, d.standing, bson.D{{Key: "$or", Value: terms}})
		if err != nil {
			return nil, err
		}
		if docs, err = d.proven(ctx, op, docs); err != nil {
			return nil, err
		}
		for _, m := range docs {
			found[m.pair()] = m
		}
	}
	return found, nil
}

// each calls f with every number below n, eight at a time, and returns an error of one of them.
func each(n int, f func(i int) error) error {
	errs := make([]error, n)
	turn := make(chan struct{}, readers)
	var wg sync.WaitGroup
	for i := range n {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			errs[i] = f(i)
		})
	}
	wg.Wait()
	return cmp.Or(errs...)
}

// together calls functions at once, and returns an error of one of them.
func together(calls ...func() error) error {
	return each(len(calls), func(i int) error { return calls[i]() })
}

// gather reads what an aggregation makes of messages.
func gather[T any](ctx context.Context, d *database, op string, pipeline bson.A) ([]T, error) {
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	docs := []T{}
	cursor, err := d.committed.Aggregate(ctx, pipeline)
	if err == nil {
		err = cursor.All(ctx, &docs)
	}
	if err != nil {
		return nil, d.fail(ctx, op, err)
	}
	return docs, nil
}

// knowsNot reports whether a server has refused an aggregation that it does not know, and remembers it.
func (d *database) knowsNot(err error) bool {
	if !hasCode(err, codeNotImplemented, codeUnsupported) {
		return false
	}
	d.plain.Store(true)
	return true
}

// edge says which message of each room is asked for: the first one in the order of an index, which has of, then room, then by.
type edge struct {
	of   bson.D // fields and values that the index begins with
	room string // the field that has the room
	by   string // the field that orders; a minus asks for the highest
	at   bool   // asks also for the time, which the index has not
}

var (
	lastOf    = edge{room: "room", by: "-seq"}
	lastAt    = edge{room: "room", by: "-seq", at: true}
	firstOf   = edge{room: "room", by: "seq"}
	highestOf = edge{room: "changed_in", by: "-rev"}
)

// lastBy asks for the last messages that a user has sent.
func lastBy(id string) edge {
	return edge{of: bson.D{{Key: "author_id", Value: id}}, room: "room", by: "-seq"}
}

// tip is what is known of the message that an edge asks for.
type tip struct {
	Room string `bson:"_id"`
	N    int64  `bson:"n"`
	At   int64  `bson:"at"`
}

// tips returns the edge of each room that has one, as the majority has it. Each room is there once. A few rooms are looked up one by one, all at once: this needs no
// more than an index. More are one aggregation for every 1,000, which steps from room to room in the index; on a server that does not know it, each is looked up.
func (d *database) tips(ctx context.Context, e edge, rooms []string) (map[string]tip, error) {
	if len(rooms) > readers && !d.plain.Load() {
		found, err := d.tipsTogether(ctx, e, rooms)
		if !d.knowsNot(err) {
			return found, err
		}
	}
	tips := make([]tip, len(rooms))
	err := each(len(rooms), func(i int) error {
		n, err := d.edgeOf(ctx, e, rooms[i], nil)
		tips[i] = n
		return err
	})
	if err != nil {
		return nil, err
	}
	found := make(map[string]tip, len(rooms))
	for _, t := range tips {
		if t.N > 0 {
			found[t.Room] = t
		}
	}
	return found, nil
}

// edgeOf returns the edge of one room. It is empty where there is no such message.
func (d *database) edgeOf(ctx context.Context, e edge, room string, between bson.D) (tip, error) {
	field := strings.TrimPrefix(e.by, "-")
	filter := append(slices.Clip(e.of), bson.E{Key: e.room, Value: room})
	if between != nil {
		filter = append(filter, bson.E{Key: field, Value: between})
	}
	fields := bson.D{{Key: "_id", Value: int32(0)}, {Key: field, Value: int32(1)}}
	if e.at {
		fields = append(fields, bson.E{Key: "at", Value: int32(1)})
	}
	docs, err := all[messageDoc](ctx, d, "read bounds", d.committed, filter,
		options.Find().SetSort(ascending(e.by)).SetLimit(1).SetProjection(fields))
	if err != nil || len(docs) == 0 {
		return tip{}, err
	}
	return tip{Room: room, N: cmp.Or(docs[0].Seq, docs[0].Content.Rev), At: docs[0].At}, nil
}

func (d *database) tipsTogether(ctx context.Context, e edge, rooms []string) (map[string]tip, error) {
	field, direction := strings.TrimPrefix(e.by, "-"), e.by[:len(e.by)-len(strings.TrimPrefix(e.by, "-"))]
	var order []string
	for _, f := range e.of {
		order = append(order, direction+f.Key)
	}
	order = append(order, direction+e.room, e.by)
	group := bson.D{{Key: "_id", Value: "$" + e.room}, {Key: "n", Value: bson.D{{Key: "$first", Value: "$" + field}}}}
	if e.at {
		group = append(group, bson.E{Key: "at", Value: bson.D{{Key: "$first", Value: "$at"}}})
	}
	found := make(map[string]tip, len(rooms))
	for part := range slices.Chunk(rooms, chunk) {
		docs, err := gather[tip](ctx, d, "read bounds", bson.A{
			bson.D{{Key: "$match", Value: append(slices.Clip(e.of), bson.E{Key: e.room, Value: bson.D{{Key: "$in", Value: part}}})}},
			bson.D{{Key: "$sort", Value: ascending(order...)}},
			bson.D{{Key: "$group", Value: group}},
		})
		if err != nil {
			return nil, err
		}
		for _, t := range docs {
			found[t.Room] = t
		}
	}
	return found, nil
}

// sent returns the last message that each of these members has sent in the room, where it comes behind what the document has as read. A document without a mark needs
// none.
func (d *database) sent(ctx context.Context, docs []*memberDoc) (map[pair]int64, error) {
	docs = slices.DeleteFunc(slices.Clone(docs), func(m *memberDoc) bool { return m.Read == nil })
	found := make(map[pair]int64, len(docs))
	if len(docs) == 0 {
		return found, nil
	}
	rooms, alone := make([]string, len(docs)), true
	for i, m := range docs {
		rooms[i] = m.Room
		alone = alone && m.UserID == docs[0].UserID
	}
	if alone {
		tips, err := d.tips(ctx, lastBy(docs[0].UserID), rooms)
		for room, t := range tips {
			found[pair{room, docs[0].UserID}] = t.N
		}
		return found, err
	}
	if len(docs) > readers && !d.plain.Load() {
		err := d.sentTogether(ctx, docs, found)
		if !d.knowsNot(err) {
			return found, err
		}
	}
	tips := make([]tip, len(docs))
	err := each(len(docs), func(i int) error {
		t, err := d.edgeOf(ctx, lastBy(docs[i].UserID), docs[i].Room, bson.D{{Key: "$gt", Value: *docs[i].Read}})
		tips[i] = t
		return err
	})
	for i, t := range tips {
		found[docs[i].pair()] = t.N
	}
	return found, err
}

// sentTogether is sent of members who are several. What it reads are entries of an index behind what is read, and a mark that moves leaves fewer.
func (d *database) sentTogether(ctx context.Context, docs []*memberDoc, found map[pair]int64) error {
	for part := range slices.Chunk(docs, branches) {
		terms := make(bson.A, len(part))
		for i, m := range part {
			terms[i] = bson.D{{Key: "author_id", Value: m.UserID}, {Key: "room", Value: m.Room}, {Key: "seq", Value: bson.D{{Key: "$gt", Value: *m.Read}}}}
		}
		sums, err := gather[struct {
			ID struct {
				Author string `bson:"author"`
				Room   string `bson:"room"`
			} `bson:"_id"`
			Seq int64 `bson:"seq"`
		}](ctx, d, "read what was sent", bson.A{
			bson.D{{Key: "$match", Value: bson.D{{Key: "$or", Value: terms}}}},
			bson.D{{Key: "$group", Value: bson.D{
				{Key: "_id", Value: bson.D{{Key: "author", Value: "$author_id"}, {Key: "room", Value: "$room"}}},
				{Key: "seq", Value: bson.D{{Key: "$max", Value: "$seq"}}},
			}}},
		})
		if err != nil {
			return err
		}
		for _, s := range sums {
			found[pair{s.ID.Room, s.ID.Author}] = s.Seq
		}
	}
	return nil
}

// spot is a place in a room.
type spot struct {
	room string
	seq  int64
}

// deletedBehind returns how many messages are deleted behind each spot, up to the last message of the room. It counts in the index of deletions, once for every 100 rooms. Where
// several spots of a room have deletions behind them, these are read, to be counted here; where they are more than maxDeleted, each spot is counted.
func (d *database) deletedBehind(ctx context.Context, spots []spot, last map[string]tip) (map[spot]int64, error) {
	const op = "count deleted messages"
	counts := make(map[spot]int64, len(spots))
	lowest, several := make(map[string]int64), make(map[string]bool)
	for _, s := range spots {
		low, known := lowest[s.room]
		several[s.room] = several[s.room] || known && low != s.seq
		if !known || s.seq < low {
			lowest[s.room] = s.seq
		}
	}
	rooms := slices.Sorted(maps.Keys(lowest))
	behind := func(s spot) bson.D {
		return bson.D{{Key: "deleted_in", Value: s.room}, {Key: "deleted_seq", Value: bson.D{{Key: "$gt", Value: s.seq}, {Key: "$lte", Value: last[s.room].N}}}}
	}
	count := func(from []spot) (map[string]int64, error) { // each of another room
		found := make(map[string]int64)
		for part := range slices.Chunk(from, branches) {
			terms := make(bson.A, len(part))
			for i, s := range part {
				terms[i] = behind(s)
			}
			sums, err := gather[struct {
				Room string `bson:"_id"`
				N    int64  `bson:"n"`
			}](ctx, d, op, bson.A{
				bson.D{{Key: "$match", Value: bson.D{{Key: "$or", Value: terms}}}},
				bson.D{{Key: "$group", Value: bson.D{{Key: "_id", Value: "$deleted_in"}, {Key: "n", Value: bson.D{{Key: "$sum", Value: int32(1)}}}}}},
			})
			if err != nil {
				return nil, err
			}
			for _, s := range sums {
				found[s.Room] = s.N
			}
		}
		return found, nil
	}
	from := make([]spot, len(rooms))
	for i, room := range rooms {
		from[i] = spot{room, lowest[room]}
	}
	sums, err := count(from)
	if err != nil {
		return nil, err
	}
	var apart []spot // of rooms with several spots and deletions
	total := int64(0)
	for _, s := range spots {
		if sums[s.room] > 0 && several[s.room] {
			apart = append(apart, s)
		} else {
			counts[s] = sums[s.room]
		}
	}
	var terms bson.A
	for _, s := range from {
		if sums[s.room] > 0 && several[s.room] {
			total += sums[s.room]
			terms = append(terms, behind(s))
		}
	}
	if total > d.maxDeleted {
		found := make([]int64, len(apart))
		err := each(len(apart), func(i int) error {
			one, err := count(apart[i : i+1])
			found[i] = one[apart[i].room]
			return err
		})
		for i, s := range apart {
			counts[s] = found[i]
		}
		return counts, err
	}
	for part := range slices.Chunk(terms, branches) {
		docs, err := all[struct {
			Room string `bson:"deleted_in"`
			Seq  int64  `bson:"deleted_seq"`
		}](ctx, d, op, d.committed, bson.D{{Key: "$or", Value: part}},
			options.Find().SetProjection(bson.D{{Key: "_id", Value: int32(0)}, {Key: "deleted_in", Value: int32(1)}, {Key: "deleted_seq", Value: int32(1)}}))
		if err != nil {
			return nil, err
		}
		gone := make(map[string][]int64)
		for _, m := range docs {
			gone[m.Room] = append(gone[m.Room], m.Seq)
		}
		for _, seqs := range gone {
			slices.Sort(seqs)
		}
		for _, s := range apart {
			if seqs := gone[s.room]; seqs != nil {
				before, _ := slices.BinarySearch(seqs, s.seq+1)
				counts[s] = int64(len(seqs) - before)
			}
		}
	}
	return counts, nil
}

// unread returns how many messages come behind each spot, up to the last message of the room, that are stored and not deleted. The index of deletions must be whole.
func (d *database) unread(ctx context.Context, spots []spot, last map[string]tip) (map[spot]uint64, error) {
	counts := make(map[spot]uint64, len(spots))
	var open []spot
	rooms := make(map[string]bool)
	for _, s := range spots {
		if _, known := counts[s]; known || s.seq >= last[s.room].N {
			continue
		}
		counts[s], rooms[s.room] = 0, true
		open = append(open, s)
	}
	if len(open) == 0 {
		return counts, nil
	}
	first, err := d.firsts(ctx, slices.Sorted(maps.Keys(rooms)))
	if err != nil {
		return nil, err
	}
	from := make([]spot, len(open)) // what is no longer stored is not unread
	for i, s := range open {
		from[i] = spot{s.room, max(s.seq, first[s.room]-1)}
	}
	gone, err := d.deletedBehind(ctx, from, last)
	if err != nil {
		return nil, err
	}
	for i, s := range open {
		counts[s] = uint64(max(0, last[s.room].N-from[i].seq-gone[from[i]]))
	}
	return counts, nil
}

// firsts returns the first message of each room that is still stored. Nearly always that is 1, which is one call for every 1,000 rooms.
func (d *database) firsts(ctx context.Context, rooms []string) (map[string]int64, error) {
	first := make(map[string]int64, len(rooms))
	for part := range slices.Chunk(rooms, chunk) {
		docs, err := all[messageDoc](ctx, d, "read bounds", d.committed, bson.D{{Key: "room", Value: bson.D{{Key: "$in", Value: part}}}, {Key: "seq", Value: int64(1)}},
			options.Find().SetProjection(bson.D{{Key: "_id", Value: int32(0)}, {Key: "room", Value: int32(1)}}))
		if err != nil {
			return nil, err
		}
		for i := range docs {
			first[docs[i].Room] = 1
		}
	}
	later, err := d.tips(ctx, firstOf, slices.DeleteFunc(slices.Clone(rooms), func(room string) bool { return first[room] > 0 }))
	for room, t := range later {
		first[room] = t.N
	}
	return first, err
}

// Mark implements chat.Marks. It reads the members, the last messages of the rooms and what the members have sent, and writes one document a member that moves, each
// in one update that never makes a mark lower. Who has not read everything costs a look at the heads of the rooms, at their first messages, and at the index
// of deletions. Up to eight rooms are looked up at once; with more the number of calls does not grow, except by one for every 100 members or rooms. A room that an older program was
// the last to change is brought up first.
func (s *Members) Mark(ctx context.Context, marks []chat.Mark) ([]chat.Marked, error) {
	const op = "mark"
	answers := make([]chat.Marked, len(marks))
	if len(marks) == 0 {
		return answers, nil
	}
	asked := make(map[pair]bool, len(marks))
	var pairs []pair
	for i, m := range marks {
		p := pair{m.Room, string(m.User.ID)}
		if !storable(p.room, p.id) {
			answers[i].Err = chat.ErrNotMember
		} else if !asked[p] {
			asked[p] = true
			pairs = append(pairs, p)
		}
	}
	if err := s.db.ready(ctx); err != nil {
		return nil, err
	}
	found, err := s.db.memberships(ctx, op, pairs)
	if err != nil {
		return nil, err
	}
	docs := slices.Collect(maps.Values(found))
	// What is sent is asked for last, so that nobody misses their own message.
	last, err := s.db.tips(ctx, lastOf, roomsOf(docs))
	if err != nil {
		return nil, err
	}
	sent, err := s.db.sent(ctx, behind(docs, last))
	if err != nil {
		return nil, err
	}
	reached := make(map[pair]int64, len(found))
	for p, m := range found {
		end := last[p.room].N
		reached[p] = max(m.read(end), min(sent[p], end))
	}
	moved := make(map[pair]bool)
	var spots []spot
	for i, m := range marks {
		p := pair{m.Room, string(m.User.ID)}
		before, member := reached[p]
		if !member {
			answers[i].Err = chat.ErrNotMember
			continue
		}
		read := max(before, min(clamp(m.Read), last[p.room].N))
		if read > before {
			moved[p] = true
		}
		answers[i].Read, answers[i].Moved, reached[p] = uint64(read), read > before, read
		if read < last[p.room].N {
			spots = append(spots, spot{p.room, read})
		}
	}
	if len(spots) > 0 {
		if err := (&Messages{db: s.db}).wholeIndex(ctx, spots); err != nil {
			return nil, err
		}
	}
	unread, err := s.db.unread(ctx, spots, last)
	if err != nil {
		return nil, err
	}
	for i, m := range marks {
		if answers[i].Err == nil {
			answers[i].Unread = unread[spot{m.Room, int64(answers[i].Read)}]
		}
	}
	var move []*memberDoc
	for p, m := range found {
		if moved[p] || reached[p]-m.read(reached[p]) > chunk { // so that what was sent is not looked through again and again
			move = append(move, m)
		}
	}
	mine, err := s.move(ctx, move, reached)
	if err != nil {
		return nil, err
	}
	for i, m := range marks {
		if p := (pair{m.Room, string(m.User.ID)}); answers[i].Moved && !mine(p) {
			answers[i].Moved = false
		}
	}
	return answers, nil
}

// behind returns the members whose mark is not at the last message.
func behind(docs []*memberDoc, last map[string]tip) []*memberDoc {
	return slices.DeleteFunc(slices.Clone(docs), func(m *memberDoc) bool { return m.read(last[m.Room].N) >= last[m.Room].N })
}

// roomsOf returns the rooms of members, each once.
func roomsOf(docs []*memberDoc) []string {
	rooms := make([]string, len(docs))
	for i, m := range docs {
		rooms[i] = m.Room
	}
	slices.Sort(rooms)
	return slices.Compact(rooms)
}

// move stores how far members have read, and says who was moved by that. Of several callers who move a mark to the same place at once, it says so to one.
func (s *Members) move(ctx context.Context, docs []*memberDoc, reached map[pair]int64) (func(pair) bool, error) {
	const op = "mark"
	yes := func(pair) bool { return true }
	if len(docs) == 0 {
		return yes, nil
	}
	call := 1 + rand.Int64N(math.MaxInt64)
	models := make([]mongo.WriteModel, len(docs))
	pairs := make([]pair, len(docs))
	for i, m := range docs {
		pairs[i] = m.pair()
		to := reached[pairs[i]]
		models[i] = mongo.NewUpdateOneModel().
			SetFilter(bson.D{{Key: "_id", Value: m.ID}, {Key: "read", Value: bson.D{{Key: "$lt", Value: to}}}}).
			SetUpdate(bson.D{{Key: "$max", Value: bson.D{{Key: "read", Value: to}}}, {Key: "$set", Value: bson.D{{Key: "moved_by", Value: call}}}})
	}
	res, err := bulk(ctx, s.db.members, models, false)
	switch {
	case err != nil && len(docs) > 1:
		return nil, partly(op, err)
	case err != nil:
		return nil, s.db.fail(ctx, op, err)
	case res.ModifiedCount == int64(len(docs)):
		return yes, nil
	}
	// Somebody was quicker with some. The write has waited for theirs too.
	now, err := s.db.memberships(ctx, op, pairs)
	if err != nil {
		return nil, partly(op, err)
	}
	return func(p pair) bool { return now[p] != nil && now[p].MovedBy == call }, nil
}
