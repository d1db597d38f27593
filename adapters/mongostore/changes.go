package mongostore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// deletedText stands in the document of a deleted message: the validator of an older program wants a text, and an older program
// shows it.
const deletedText = "(deleted)"

// erasedText stands there if the message was erased. Where it is to be written, the author's name and the client id go as well. An older
// program that carries this out leaves them there: it says what it was told, and erasing again finds them.
const erasedText = "(erased)"

// content is what changes alter of a message, and how far they have come.
type content struct {
	Text      string `bson:"text"`
	ReplyTo   int64  `bson:"reply_to,omitempty"`
	Data      string `bson:"data,omitempty"`
	Rev       int64  `bson:"rev,omitempty"`
	EditedAt  *int64 `bson:"edited_at,omitempty"`
	DeletedAt *int64 `bson:"deleted_at,omitempty"`
	// Reactions are as a message tells them; Reacted has every user of each, and only Change reads it.
	Reactions []reactionDoc `bson:"reactions,omitempty"`
	Reacted   []reactedDoc  `bson:"reacted,omitempty"`
}

// reactedDoc is one reaction with all its users, in the order in which they reacted.
type reactedDoc struct {
	Key   string   `bson:"key"`
	Users []string `bson:"users"`
}

// reactionDoc is one reaction as it is told.
type reactionDoc struct {
	Key   string   `bson:"key"`
	Count int64    `bson:"count"`
	Users []string `bson:"users"`
}

// headDoc decides the last changes of a room. It is there from the first change on.
type headDoc struct {
	Room string `bson:"_id"`
	// Rev is the highest that was given out.
	Rev int64 `bson:"rev"`
	// Writes are what the changes up to Rev make of messages, ascending by Rev. They are gone when the messages have them.
	Writes []writeDoc `bson:"writes,omitempty"`
	// Counted says that every deletion up to this Rev is in the index of deletions. A program that knew no such index leaves it out.
	Counted *int64 `bson:"counted,omitempty"`
}

// writeDoc is what one message has to become.
type writeDoc struct {
	Seq     int64   `bson:"seq"`
	Content content `bson:",inline"`
	// Events are those of the changes, for the message to carry. Forgets says that it carries no others any more.
	Events  []eventDoc `bson:"events,omitempty"`
	Forgets bool       `bson:"forgets,omitempty"`
}

func reactionDocs(reactions []chat.Reaction) []reactionDoc {
	docs := make([]reactionDoc, len(reactions))
	for i, r := range reactions {
		docs[i] = reactionDoc{Key: r.Key, Count: int64(r.Count), Users: make([]string, len(r.Users))}
		for k, id := range r.Users {
			docs[i].Users[k] = string(id)
		}
	}
	return docs
}

// size is about how many bytes the content has in a document, and never less.
func (c *content) size() int {
	n := 512 + len(c.Text) + len(c.Data)
	for _, r := range c.Reactions {
		n += 64 + len(r.Key)
		for _, id := range r.Users {
			n += 16 + len(id)
		}
	}
	for _, r := range c.Reacted {
		n += 64 + len(r.Key)
		for _, id := range r.Users {
			n += 16 + len(id)
		}
	}
	return n
}

// size is about how many bytes the write has in a document, and never less.
func (w *writeDoc) size() int {
	n := w.Content.size()
	for _, e := range w.Events {
		n += 512 + len(e.ID) + len(e.Topic) + len(e.Type) + len(e.Key) + len(e.Data)
	}
	return n
}

// model brings a message up to the content, unless it is there or further. So it may come any number of times, at any time.
func (w *writeDoc) model(room string) mongo.WriteModel {
	c := &w.Content
	set := bson.D{{Key: "changed_in", Value: room}, {Key: "rev", Value: c.Rev}, {Key: "text", Value: c.Text}}
	unset := bson.D{}
	for _, f := range []struct {
		name  string
		value any
		there bool
	}{
		{"reply_to", c.ReplyTo, c.ReplyTo != 0}, {"data", c.Data, c.Data != ""},
		{"edited_at", c.EditedAt, c.EditedAt != nil}, {"deleted_at", c.DeletedAt, c.DeletedAt != nil},
		{"reacted", c.Reacted, len(c.Reacted) > 0}, {"reactions", c.Reactions, len(c.Reactions) > 0},
	} {
		if f.there {
			set = append(set, bson.E{Key: f.name, Value: f.value})
		} else {
			unset = append(unset, bson.E{Key: f.name, Value: ""})
		}
	}
	if c.DeletedAt != nil {
		set = append(set, deletion(room, w.Seq)...)
	}
	if c.erased() {
		set = append(set, bson.E{Key: "author_name", Value: user.ErasedName}, bson.E{Key: "once", Value: onceWithout(uint64(w.Seq))})
		unset = append(unset, bson.E{Key: "client_id", Value: ""})
	}
	var push, bounds bson.D
	switch {
	case w.Forgets && len(w.Events) == 0:
		unset = append(unset, bson.E{Key: "events", Value: ""}, bson.E{Key: "pending", Value: ""})
	case w.Forgets:
		set = append(set, bson.E{Key: "events", Value: w.Events}, bson.E{Key: "pending", Value: w.Events[0].Position})
	case len(w.Events) > 0:
		push = bson.D{{Key: "events", Value: bson.D{{Key: "$each", Value: w.Events}}}}
		bounds = bson.D{{Key: "pending", Value: w.Events[0].Position}}
	}
	update := bson.D{{Key: "$set", Value: set}}
	if w.Forgets || len(w.Events) > 0 { // whoever takes events out names the version
		update = append(update, bson.E{Key: "$inc", Value: bson.D{{Key: "version", Value: int64(1)}}})
	}
	if push != nil {
		update = append(update, bson.E{Key: "$push", Value: push}, bson.E{Key: "$min", Value: bounds})
	}
	if len(unset) > 0 {
		update = append(update, bson.E{Key: "$unset", Value: unset})
	}
	return mongo.NewUpdateOneModel().SetUpdate(update).SetFilter(bson.D{
		{Key: "room", Value: room}, {Key: "seq", Value: w.Seq},
		{Key: "rev", Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$gte", Value: c.Rev}}}}}, // a message that was never changed has none
	})
}

// erased reports whether nothing is left of the author.
func (c *content) erased() bool { return c.DeletedAt != nil && c.Text == erasedText }

// reacted reports where the user stands in the reaction, or -1.
func (c *content) reacted(key string, by user.ID) (reaction, place int) {
	for i, r := range c.Reacted {
		if r.Key == key {
			return i, slices.Index(r.Users, string(by))
		}
	}
	return -1, -1
}

// take makes the document what the change has made of the message.
func (d *messageDoc) take(c chat.Change, after chat.Message, rev int64) {
	reaction, place := d.Content.reacted(c.Key, c.By.ID)
	all := d.Content.Reacted
	switch {
	case c.Kind == chat.Delete, c.Kind == chat.Erase:
		all = nil
	case c.Kind == chat.React && reaction < 0:
		all = append(slices.Clip(all), reactedDoc{Key: c.Key, Users: []string{string(c.By.ID)}})
	case c.Kind == chat.React:
		all = slices.Clone(all)
		all[reaction].Users = append(all[reaction].Users, string(c.By.ID)) // nobody else goes on from the same list
	case c.Kind == chat.Unreact && len(all[reaction].Users) == 1:
		all = slices.Delete(slices.Clone(all), reaction, reaction+1)
	case c.Kind == chat.Unreact:
		all = slices.Clone(all)
		all[reaction].Users = slices.Delete(slices.Clone(all[reaction].Users), place, place+1)
	}
	text := after.Text
	if !after.DeletedAt.IsZero() {
		text = deletedText
	}
	if c.Kind == chat.Erase {
		text, d.AuthorName, d.ClientID, d.Once = erasedText, after.Author.Name, "", onceWithout(after.Seq)
	}
	d.ChangedIn, d.Content = d.Room, content{
		Text: text, ReplyTo: int64(after.ReplyTo), Data: after.Data, Rev: rev,
		EditedAt: optionalMicros(after.EditedAt), DeletedAt: optionalMicros(after.DeletedAt),
		Reactions: reactionDocs(after.Reactions), Reacted: all,
	}
}

// checkChange refuses a change that no document could keep, and one of a message that cannot be there.
func checkChange(c chat.Change) error {
	if !storable(c.Room) || c.Seq < 1 || c.Seq > uint64(clamp(c.Seq)) {
		return chat.ErrMessageNotFound
	}
	if err := c.Check(); err != nil {
		return err
	}
	made := content{Text: "x", Rev: 1}
	switch c.Kind {
	case chat.Edit:
		made.Text, made.Data = c.Text, c.Data
	case chat.React:
		made.Reacted = []reactedDoc{{Key: c.Key, Users: []string{string(c.By.ID)}}}
	}
	_, err := changes.encode(headDoc{Room: "x", Rev: 1, Writes: []writeDoc{{Seq: 1, Content: made}}})
	return err
}

// Change implements chat.MessageStore. Each room goes by itself, eight at a time: three reads, and three writes of which two wait for the
// write concern. What a document cannot keep is refused in its answer, with kind Invalid.
//
// The changes of a room are decided by one write: the room's document in parley_changes takes the highest Rev, and what the messages
// are to become, in the place of what it had. Then the messages get it, ascending by Rev, each in one update that leaves alone what is as new. Whoever comes
// next does that first, where it is not done. So the changes of a room are all or none, and no Rev is left out at any time, wherever a
// process ends.
func (s *Messages) Change(ctx context.Context, given []chat.Change) ([]chat.Changed, error) {
	const op = "change messages"
	answers := make([]chat.Changed, len(given))
	inRoom := make(map[string][]int)
	for i, c := range given {
		if err := checkChange(c); err != nil {
			answers[i].Err = err
			continue
		}
		inRoom[c.Room] = append(inRoom[c.Room], i)
	}
	if len(given) == 0 {
		return answers, nil
	}
	if err := s.db.ready(ctx); err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(inRoom))
	if err := s.db.changing.take(ctx, names); err != nil {
		return nil, s.db.fail(ctx, op, err)
	}
	defer s.db.changing.give(names)
	done := make([]changed, len(names))
	turn := make(chan struct{}, readers)
	var wg sync.WaitGroup
	for i, room := range names {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			done[i] = s.changeRoom(ctx, room, given, inRoom[room], answers)
		})
	}
	wg.Wait()
	sum := changed{}
	for _, c := range done {
		sum.stored = sum.stored || c.stored
		sum.unconfirmed = sum.unconfirmed || c.unconfirmed
		if sum.err == nil || c.err != nil && fault.KindOf(c.err) == fault.Unavailable {
			sum.err = c.err
		}
	}
	switch {
	case sum.err != nil && sum.stored && fault.KindOf(sum.err) != fault.Unavailable:
		return nil, partly(op, sum.err)
	case sum.err != nil:
		return nil, sum.err
	case sum.unconfirmed:
		if err := s.db.confirm(ctx, op); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// changed is what has become of the changes of a room.
type changed struct {
	stored      bool
	unconfirmed bool // an answer was read, and nothing was written since
	err         error
}

// changeRoom makes the changes with these indexes, which are all of one room, and puts their answers where they belong.
func (s *Messages) changeRoom(ctx context.Context, room string, given []chat.Change, indexes []int, answers []chat.Changed) (c changed) {
	const op = "change messages"
	for lost := 0; len(indexes) > 0; {
		old, rev, err := s.settle(ctx, room)
		if err != nil {
			c.err = err
			return c
		}
		p, err := s.plan(ctx, room, rev, given, indexes)
		if err != nil {
			c.err = err
			return c
		}
		if len(p.writes) > 0 {
			head := headDoc{Room: room, Rev: p.rev, Writes: p.writes}
			if old.Rev > 0 || rev == 0 {
				head.Counted = &rev // where the head was lost, the index of deletions is looked through later
			}
			won, err := s.decide(ctx, old, head)
			if err == nil && !won {
				if lost++; lost == attempts {
					err = s.db.fail(ctx, op, fmt.Errorf("given up after %d attempts", attempts))
				} else if err = pause(ctx, lost); err == nil {
					continue
				}
			}
			if err != nil {
				c.err = s.db.fail(ctx, op, err)
				return c
			}
			c.stored, c.unconfirmed = true, false
			if err := s.carryOut(ctx, &head); err != nil {
				c.err = partly(op, err)
				return c
			}
		}
		if err := s.forgetAside(ctx, p.gone); err != nil {
			c.err = partly(op, err)
			return c
		}
		for k, answer := range p.answers {
			answers[indexes[k]] = answer
			c.unconfirmed = c.unconfirmed || len(p.writes) == 0 && answer.Repeated
		}
		indexes = indexes[len(p.answers):]
	}
	return c
}

// settle returns the head of the room, and the highest Rev that was given out, when the messages have everything up to it. The zero head is one that is
// not there.
//
// Both are read as the majority has them, so that nothing is built on what may be undone. That a message has the head's Rev says that all writes up to it are
// done, since they are done in order. What is higher than the head's, as where a backup put back only some collections, counts. The index of deletions
// is whole too then.
func (s *Messages) settle(ctx context.Context, room string) (headDoc, int64, error) {
	const op = "read changes"
	heads, err := all[headDoc](ctx, s.db, op, s.db.changes, byID(room), options.Find().SetLimit(1))
	if err != nil {
		return headDoc{}, 0, err
	}
	highest, err := all[messageDoc](ctx, s.db, op, s.db.committed, bson.D{{Key: "changed_in", Value: room}},
		options.Find().SetSort(ascending("-rev")).SetLimit(1).SetProjection(bson.D{{Key: "_id", Value: int32(0)}, {Key: "rev", Value: int32(1)}}))
	if err != nil {
		return headDoc{}, 0, err
	}
	head, rev := headDoc{}, int64(0)
	if len(highest) > 0 {
		rev = highest[0].Content.Rev
	}
	if len(heads) > 0 {
		head = heads[0]
	}
	if rev < head.Rev {
		if rev = head.Rev; len(head.Writes) > 0 {
			err = s.carryOut(ctx, &head)
		}
	}
	if err == nil && len(heads) > 0 && !head.whole(rev) {
		err = s.indexDeletions(ctx, head, rev)
	}
	return head, rev, err
}

// decide puts a head in the place of the old one, and returns false if that is not there any more.
func (s *Messages) decide(ctx context.Context, old, head headDoc) (bool, error) {
	raw, err := changes.encode(head)
	if err != nil {
		return false, err
	}
	if old.Rev == 0 {
		_, err := s.db.changes.InsertOne(ctx, raw)
		if mongo.IsDuplicateKeyError(err) {
			return false, nil
		}
		return err == nil, err
	}
	res, err := s.db.changes.ReplaceOne(ctx, bson.D{{Key: "_id", Value: head.Room}, {Key: "rev", Value: old.Rev}}, raw)
	return err == nil && res.MatchedCount == 1, err
}

// carryOut brings messages up to what the head has decided, and takes it out of the head.
func (s *Messages) carryOut(ctx context.Context, head *headDoc) error {
	const op = "carry changes out"
	models := make([]mongo.WriteModel, len(head.Writes))
	for i := range head.Writes {
		models[i] = head.Writes[i].model(head.Room)
	}
	res, err := bulk(ctx, s.db.messages, models, true)
	if err != nil {
		return s.db.fail(ctx, op, err)
	}
	// No text stays behind where nobody would look for it. What is left if this fails goes with the next change.
	spend := bson.D{{Key: "$unset", Value: bson.D{{Key: "writes", Value: ""}}}}
	// What an older program has carried out is not in the index of deletions.
	if head.Counted != nil && res.ModifiedCount == int64(len(models)) {
		counted := head.Rev
		head.Counted = &counted
		spend = append(spend, bson.E{Key: "$max", Value: bson.D{{Key: "counted", Value: counted}}})
	}
	_, err = s.db.spent.UpdateOne(ctx, bson.D{{Key: "_id", Value: head.Room}, {Key: "rev", Value: head.Rev}}, spend)
	if err != nil {
		s.db.log.DebugContext(ctx, "what was carried out stays in the head of a room", "error", err)
	}
	return nil
}

// maxHead bounds the bytes of a head before one write more, which has at most 6 MB. A document may have 16 MB.
const maxHead = 8 << 20

// planned is what changes come to.
type planned struct {
	answers []chat.Changed // of the first changes: more than one head can hold are left
	writes  []writeDoc
	rev     int64
	gone    []string // messages that are deleted, where events are recorded
}

// plan applies changes to the messages as they are. rev is the highest that was given out.
func (s *Messages) plan(ctx context.Context, room string, rev int64, given []chat.Change, indexes []int) (planned, error) {
	p := planned{rev: rev}
	var seqs []int64
	for _, i := range indexes {
		seqs = append(seqs, int64(given[i].Seq))
	}
	slices.Sort(seqs)
	docs := make(map[uint64]*messageDoc)
	for part := range slices.Chunk(slices.Compact(seqs), chunk) {
		found, err := all[messageDoc](ctx, s.db, "read messages", s.db.messages,
			bson.D{{Key: "room", Value: room}, {Key: "seq", Value: bson.D{{Key: "$in", Value: part}}}})
		if err != nil {
			return p, err
		}
		for i := range found {
			docs[uint64(found[i].Seq)] = &found[i]
		}
	}
	size := 0 // of all writes but the last
	for _, i := range indexes {
		c := given[i]
		c.At = instant(micros(c.At))
		doc := docs[c.Seq]
		if doc == nil || doc.removed() {
			p.answers = append(p.answers, chat.Changed{Err: chat.ErrMessageNotFound})
			continue
		}
		m := doc.message()
		_, place := doc.Content.reacted(c.Key, c.By.ID)
		after, changed, err := c.Apply(m, place >= 0)
		if err != nil {
			p.answers = append(p.answers, chat.Changed{Err: err})
			continue
		}
		if !changed {
			p.answers = append(p.answers, chat.Changed{Message: m, Repeated: true})
			if s.record != nil && (c.Kind == chat.Delete || c.Kind == chat.Erase) { // whoever did it may not have come so far
				p.gone = append(p.gone, m.ID)
			}
			continue
		}
		// Changes of one message that follow each other are one write.
		last := len(p.writes) - 1
		if last < 0 || p.writes[last].Seq != doc.Seq || p.writes[last].size() > maxHead/2 {
			if last >= 0 {
				size += p.writes[last].size()
			}
			if size >= maxHead || len(p.writes) >= chunk {
				break
			}
			p.writes = append(p.writes, writeDoc{Seq: doc.Seq})
			last++
		}
		p.rev++
		doc.take(c, after, p.rev)
		p.writes[last].Content = doc.Content
		p.answers = append(p.answers, chat.Changed{Message: doc.message()})
		if s.record != nil {
			p.record(s.record, doc.message(), c)
		}
	}
	return p, s.timeEvents(ctx, &p)
}
