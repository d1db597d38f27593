package mongostore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Messages stores messages until Prune removes them. Its methods may be called from many goroutines.
type Messages struct {
	db     *database
	record chat.Record // nil for none
}

var _ chat.MessageStore = (*Messages)(nil)

type messageDoc struct {
	ObjectID   bson.ObjectID `bson:"_id"`
	Room       string        `bson:"room"`
	Seq        int64         `bson:"seq"`
	Once       string        `bson:"once"`
	ID         string        `bson:"id"`
	ClientID   string        `bson:"client_id,omitempty"`
	AuthorID   string        `bson:"author_id"`
	AuthorName string        `bson:"author_name"`
	At         int64         `bson:"at"`
	Content    content       `bson:",inline"`
	// ChangedIn is the room of a message that was changed: an index on it holds no other.
	ChangedIn string `bson:"changed_in,omitempty"`
	// Version, Pending and Events are there while the message carries events.
	Version *int64     `bson:"version,omitempty"`
	Pending *int64     `bson:"pending,omitempty"`
	Events  []eventDoc `bson:"events,omitempty"`
}

// told leaves out what only Change needs: thousands of users may have reacted to a message.
var told = bson.D{{Key: "reacted", Value: int32(0)}, {Key: "events", Value: int32(0)}}

func (d *messageDoc) message() chat.Message {
	c := &d.Content
	m := chat.Message{
		Room: d.Room, Seq: uint64(d.Seq), ID: d.ID, ClientID: d.ClientID,
		Author: chat.Author{ID: user.ID(d.AuthorID), Name: d.AuthorName}, Text: c.Text, At: instant(d.At),
		ReplyTo: uint64(c.ReplyTo), Data: c.Data,
		Rev: uint64(c.Rev), EditedAt: optionalInstant(c.EditedAt), DeletedAt: optionalInstant(c.DeletedAt),
	}
	if c.DeletedAt != nil {
		m.Text = ""
	}
	for _, r := range c.Reactions {
		users := make([]user.ID, len(r.Users))
		for i, id := range r.Users {
			users[i] = user.ID(id)
		}
		m.Reactions = append(m.Reactions, chat.Reaction{Key: r.Key, Count: int(r.Count), Users: users})
	}
	return m
}

// once is what makes two messages of a room the same one, and what no two messages of a
// room share. A message without a client id has its number, so that no partial index is needed, which not every
// server has.
func once(m chat.Message) string {
	if m.ClientID == "" {
		return onceWithout(m.Seq)
	}
	return "c" + strconv.Itoa(len(m.Author.ID)) + ":" + string(m.Author.ID) + m.ClientID
}

func encodeMessage(m chat.Message, events ...eventDoc) (bson.Raw, error) {
	if len(m.Data) > chat.MaxData { // a validator counts characters
		return nil, errBounds.Detail("data has %d bytes, and may have %d", len(m.Data), chat.MaxData)
	}
	var version, pending *int64
	if len(events) > 0 {
		version, pending = new(int64), &events[0].Position
		*version = 1
	}
	return messages.encode(messageDoc{
		Version: version, Pending: pending, Events: events,
		ObjectID: bson.NewObjectID(), Room: m.Room, Seq: int64(m.Seq), Once: once(m), ID: m.ID, ClientID: m.ClientID,
		AuthorID: string(m.Author.ID), AuthorName: m.Author.Name, At: micros(m.At),
		Content: content{Text: m.Text, ReplyTo: int64(m.ReplyTo), Data: m.Data},
	})
}

// onceWithout is once of a message without a client id.
func onceWithout(seq uint64) string { return "s" + strconv.FormatUint(seq, 10) }

// onceKey names a message that has a client id.
type onceKey struct{ room, once string }

// batch is one Append under way.
type batch struct {
	messages []chat.Message
	answers  []chat.Stored
	// repeats[i] is the index of the earlier message that message i repeats, or -1.
	repeats []int
	// rooms are those of the messages, each once, ascending.
	rooms []string
	// todo are the indexes of what is neither stored nor found stored, ascending.
	todo []int
	// inserted counts what this call has stored.
	inserted int
	// unconfirmed says that an answer was read, and nothing was written since.
	unconfirmed bool
}

func newBatch(given []chat.Message) (*batch, error) {
	b := &batch{messages: slices.Clone(given), answers: make([]chat.Stored, len(given)), repeats: make([]int, len(given))}
	first := make(map[onceKey]int)
	for i := range b.messages {
		m := &b.messages[i]
		m.Seq, m.At = 1, instant(micros(m.At))
		// Whatever a server would refuse is refused before anything is stored.
		if _, err := encodeMessage(*m); err != nil {
			return nil, err
		}
		b.repeats[i] = -1
		if m.ClientID != "" {
			key := onceKey{m.Room, once(*m)}
			if j, ok := first[key]; ok {
				b.repeats[i] = j
				continue
			}
			first[key] = i
		}
		b.todo = append(b.todo, i)
		b.rooms = append(b.rooms, m.Room)
	}
	slices.Sort(b.rooms)
	b.rooms = slices.Compact(b.rooms)
	return b, nil
}

// turns lets one Append at a time into a room. The unique indexes decide what is right, among all processes; this only
// spares the goroutines of one from being refused by each other.
type turns struct {
	mu    sync.Mutex
	rooms map[string]*turn
}

type turn struct {
	free  chan struct{} // holds a token while nobody is in the room
	users int           // who is in it or waits
}

// take waits for the turn in every room. The rooms ascend, so that no two calls wait for each other.
func (t *turns) take(ctx context.Context, rooms []string) error {
	for i, room := range rooms {
		t.mu.Lock()
		if t.rooms == nil {
			t.rooms = make(map[string]*turn)
		}
		r := t.rooms[room]
		if r == nil {
			r = &turn{free: make(chan struct{}, 1)}
			r.free <- struct{}{}
			t.rooms[room] = r
		}
		r.users++
		t.mu.Unlock()
		select {
		case <-r.free:
		case <-ctx.Done():
			t.leave(room, false)
			t.give(rooms[:i])
			return ctx.Err()
		}
	}
	return nil
}

// give ends the turn in every room.
func (t *turns) give(rooms []string) {
	for _, room := range rooms {
		t.leave(room, true)
	}
}

func (t *turns) leave(room string, had bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.rooms[room]
	if had {
		r.free <- struct{}{}
	}
	if r.users--; r.users == 0 {
		delete(t.rooms, room)
	}
}

// attempts bounds how often Append begins again. Every time somebody else has stored something, so that
// more than a few are rare, and so many mean that an index is damaged.
const attempts = 1000

// Append implements chat.MessageStore. A batch is one look at the last message of each room, eight at a time, and
// one ordered insert for every 1,000 messages.
//
// The insert stops at the first message that a unique index refuses: its number was given out meanwhile, or
// it is stored already. What stands before it is stored, and has its numbers; what is left is looked up by its
// client ids, gets new numbers, and is inserted again. So nothing ever has to be undone, and there is no gap at any time.
func (s *Messages) Append(ctx context.Context, given []chat.Message) ([]chat.Stored, error) {
	if len(given) == 0 {
		return []chat.Stored{}, nil
	}
	b, err := newBatch(given)
	if err != nil {
		return nil, err
	}
	if err := s.db.ready(ctx); err != nil {
		return nil, err
	}
	if err := s.db.turns.take(ctx, b.rooms); err != nil {
		return nil, s.db.fail(ctx, "append messages", err)
	}
	defer s.db.turns.give(b.rooms)
	if err := s.append(ctx, b); err != nil {
		if b.inserted > 0 && fault.KindOf(err) != fault.Unavailable {
			err = partly("append messages", err)
		}
		return nil, err
	}
	for i, j := range b.repeats {
		if j >= 0 {
			b.answers[i] = chat.Stored{Message: b.answers[j].Message, Repeated: true}
		}
	}
	return b.answers, nil
}

func (s *Messages) append(ctx context.Context, b *batch) error {
	const op = "append messages"
	for refused := 0; len(b.todo) > 0; {
		part := b.todo[:min(chunk, len(b.todo))]
		docs, err := s.number(ctx, b, part)
		if err != nil {
			return err
		}
		n, err := insertInOrder(ctx, s.db.messages, docs)
		for _, i := range part[:n] {
			b.answers[i] = chat.Stored{Message: b.messages[i]}
		}
		b.todo = b.todo[n:]
		b.inserted += n
		b.unconfirmed = b.unconfirmed && n == 0
		switch {
		case err == nil:
			continue
		case (!mongo.IsDuplicateKeyError(err) || unconfirmed(err)) && b.inserted > 0:
			return partly(op, err)
		case !mongo.IsDuplicateKeyError(err) || unconfirmed(err):
			return s.db.fail(ctx, op, err)
		}
		refused++
		if refused == attempts {
			return s.db.fail(ctx, op, fmt.Errorf("given up after %d attempts: %w", attempts, err))
		}
		if err := s.lookUp(ctx, b); err != nil {
			return err
		}
		if refused > 1 && n == 0 {
			if err := pause(ctx, refused); err != nil {
				return s.db.fail(ctx, op, err)
			}
		}
	}
	if b.unconfirmed {
		return s.db.confirm(ctx, op)
	}
	return nil
}

// insertInOrder inserts until a document is refused, and returns how many were stored.
func insertInOrder(ctx context.Context, c *mongo.Collection, docs []any) (int, error) {
	_, err := c.InsertMany(ctx, docs)
	if err == nil {
		return len(docs), nil
	}
	if failed := (mongo.BulkWriteException{}); errors.As(err, &failed) && len(failed.WriteErrors) == 1 {
		return failed.WriteErrors[0].Index, err
	}
	return 0, err
}

// number gives the messages the next numbers of their rooms and encodes them.
func (s *Messages) number(ctx context.Context, b *batch, part []int) ([]any, error) {
	var inBatch []string
	for _, i := range part {
		inBatch = append(inBatch, b.messages[i].Room)
	}
	slices.Sort(inBatch)
	last, err := s.lasts(ctx, slices.Compact(inBatch))
	if err != nil {
		return nil, err
	}
	for _, i := range part {
		m := &b.messages[i]
		last[m.Room]++
		m.Seq = last[m.Room]
	}
	// The clock is read behind the numbers: whoever had given out those before had read it before.
	events, err := s.eventsOf(ctx, b, part)
	if err != nil {
		return nil, err
	}
	docs := make([]any, len(part))
	for k, i := range part {
		if docs[k], err = encodeMessage(b.messages[i], events[k]...); err != nil {
			return nil, err
		}
	}
	return docs, nil
}

// readers is how many rooms are asked for their last message at once.
const readers = 8

// lasts returns the highest number in each room. Nothing is remembered from call to call: a number too high
// would leave a gap, as after a rollback, or when a backup was restored. So is a number that the majority does
// not have: the primary may be another one by the time of the insert.
func (s *Messages) lasts(ctx context.Context, inBatch []string) (map[string]uint64, error) {
	found := make([]uint64, len(inBatch))
	errs := make([]error, len(inBatch))
	turn := make(chan struct{}, readers)
	var wg sync.WaitGroup
	for i, room := range inBatch {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			found[i], errs[i] = s.end(ctx, s.db.committed, room, "-seq")
		})
	}
	wg.Wait()
	last := make(map[string]uint64, len(inBatch))
	for i, room := range inBatch {
		if errs[i] != nil {
			return nil, errs[i]
		}
		last[room] = found[i]
	}
	return last, nil
}

// end returns the number of the first message of the room in this order, or 0.
func (s *Messages) end(ctx context.Context, c *mongo.Collection, room, order string) (uint64, error) {
	docs, err := all[messageDoc](ctx, s.db, "read bounds", c, bson.D{{Key: "room", Value: room}},
		options.Find().SetSort(ascending(order)).SetLimit(1).SetProjection(bson.D{{Key: "_id", Value: int32(0)}, {Key: "seq", Value: int32(1)}}))
	if err != nil || len(docs) == 0 {
		return 0, err
	}
	return uint64(docs[0].Seq), nil
}

// lookUp answers what is left of the batch and stored already, whoever stored it.
func (s *Messages) lookUp(ctx context.Context, b *batch) error {
	stored := make(map[onceKey]chat.Message)
	for part := range slices.Chunk(b.todo, branches) {
		var terms bson.A
		for _, i := range part {
			if m := b.messages[i]; m.ClientID != "" {
				terms = append(terms, bson.D{{Key: "room", Value: m.Room}, {Key: "once", Value: once(m)}})
			}
		}
		if len(terms) == 0 {
			continue
		}
		docs, err := all[messageDoc](ctx, s.db, "look messages up", s.db.messages, bson.D{{Key: "$or", Value: terms}}, options.Find().SetProjection(told))
		if err != nil {
			return err
		}
		for i := range docs {
			stored[onceKey{docs[i].Room, docs[i].Once}] = docs[i].message()
		}
	}
	b.todo = slices.DeleteFunc(slices.Clone(b.todo), func(i int) bool {
		m := b.messages[i]
		old, found := stored[onceKey{m.Room, once(m)}]
		if found = found && m.ClientID != ""; found {
			b.answers[i] = chat.Stored{Message: old, Repeated: true}
			b.unconfirmed = true
		}
		return found
	})
	return nil
}

// List implements chat.MessageStore.
func (s *Messages) List(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
	if r.Limit < 1 {
		return nil, errLimit.Detail("it is %d, and must be at least 1", r.Limit)
	}
	if !storable(room) {
		return []chat.Message{}, nil
	}
	between := bson.D{{Key: "$gt", Value: clamp(r.After)}}
	if r.Before > 0 {
		between = append(between, bson.E{Key: "$lt", Value: clamp(r.Before)})
	}
	filter, order := bson.D{{Key: "room", Value: room}, {Key: "seq", Value: between}}, "seq"
	switch {
	case r.Changed:
		filter, order = bson.D{{Key: "changed_in", Value: room}, {Key: "rev", Value: between}}, "rev"
		if r.UpTo > 0 {
			filter = append(filter, bson.E{Key: "seq", Value: bson.D{{Key: "$lte", Value: clamp(r.UpTo)}}})
		}
	case r.Newest:
		order = "-seq"
	}
	for attempt := 1; ; attempt++ {
		docs, err := all[messageDoc](ctx, s.db, "list messages", s.db.messages, filter,
			options.Find().SetSort(ascending(order)).SetLimit(int64(min(r.Limit, math.MaxInt32-1))+1).SetProjection(told)) // one may be the number alone
		if err != nil {
			return nil, err
		}
		docs = stored(docs)
		docs = docs[:min(r.Limit, len(docs))]
		found, again := make([]chat.Message, len(docs)), false
		seen := make(map[int64]bool, len(docs))
		for i := range docs {
			found[i] = docs[i].message()
			again = again || seen[docs[i].Seq]
			seen[docs[i].Seq] = true
			// Messages that are removed while the server goes through the index leave a hole.
			again = again || attempt < attempts && !r.Changed && i > 0 && (r.Newest == (docs[i].Seq > docs[i-1].Seq) || max(docs[i].Seq, docs[i-1].Seq)-min(docs[i].Seq, docs[i-1].Seq) != 1)
		}
		// A message that is changed while the server goes through the index comes again, with its new Rev.
		if !again {
			if r.Newest && !r.Changed {
				slices.Reverse(found)
			}
			return found, nil
		}
		if err := pause(ctx, attempt); err != nil {
			return nil, s.db.fail(ctx, "list messages", err)
		}
	}
}

// clamp makes a number of a sequence one that the database can compare with.
func clamp(seq uint64) int64 { return int64(min(seq, math.MaxInt64)) }

// Bounds implements chat.MessageStore. It reads three entries of indexes and the head of the room, and finishes changes that a process has decided and
// left.
func (s *Messages) Bounds(ctx context.Context, room string) (chat.Bounds, error) {
	b := chat.Bounds{First: 1}
	if !storable(room) {
		return b, nil
	}
	last, err := s.end(ctx, s.db.messages, room, "-seq")
	if err != nil || last == 0 {
		return b, err
	}
	_, rev, err := s.settle(ctx, room)
	if err != nil {
		return b, err
	}
	b.Last, b.Rev = last, uint64(rev)
	docs, err := s.oldest(ctx, room, 0, 1)
	if err == nil && len(docs) > 0 {
		if b.First = uint64(docs[0].Seq); docs[0].removed() {
			b.First++
		}
	}
	return b, err
}
