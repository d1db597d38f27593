package mongostore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/user"
)

var _ chat.Recorder = (*Messages)(nil)

// Recording implements chat.Recorder, without transactions. The event of a new message is a part of its document, and so is stored with it. Those of changes are
// decided with them, in the document of the room, by the same write; then each message gets them in the update that changes it, which leaves alone
// what is as new, and carries them until they are published.
func (s *Messages) Recording(record chat.Record) (chat.MessageStore, error) {
	return &Messages{s.db, record}, nil
}

func eventDocOf(e event.Event) eventDoc {
	return eventDoc{ID: e.ID, Topic: e.Topic, Type: e.Type, Key: e.Key, Time: micros(e.Time), Data: notNull(e.Data)}
}

// eventsOf returns the events of messages that are to be inserted, of one moment.
func (s *Messages) eventsOf(ctx context.Context, b *batch, part []int) ([][]eventDoc, error) {
	all := make([][]eventDoc, len(part))
	if s.record == nil {
		return all, nil
	}
	var position int64
	for k, i := range part {
		e, ok := s.record(b.messages[i], nil)
		if !ok {
			continue
		}
		if position == 0 { // documents of one moment are in the order in which they were made
			var err error
			if position, err = s.db.tick(ctx); err != nil {
				return nil, err
			}
		}
		doc := eventDocOf(e)
		doc.Position = position
		all[k] = []eventDoc{doc}
	}
	return all, nil
}

// record notes the event of the change that was planned last.
func (p *planned) record(record chat.Record, m chat.Message, c chat.Change) {
	w := &p.writes[len(p.writes)-1]
	if c.Kind == chat.Delete || c.Kind == chat.Erase {
		for i := range p.writes { // of one message there may be several
			other := &p.writes[i]
			other.Events = slices.DeleteFunc(other.Events, func(e eventDoc) bool { return isOf(e.ID, m.ID) })
		}
		w.Forgets = true
		p.gone = append(p.gone, m.ID)
	}
	if e, ok := record(m, &c); ok {
		w.Events = append(w.Events, eventDocOf(e))
	}
}

// timeEvents gives the events of what was planned their places in the outbox, in the order of Rev.
func (s *Messages) timeEvents(ctx context.Context, p *planned) error {
	for i := range p.writes {
		events := p.writes[i].Events
		if len(events) == 0 {
			continue
		}
		position, err := s.db.tick(ctx)
		if err != nil {
			return err
		}
		for k := range events {
			events[k].Position = position
		}
	}
	return nil
}

// isOf reports whether an event is of a message.
func isOf(event, message string) bool {
	return event == message || strings.HasPrefix(event, message+"-")
}

// forgetAside removes the events of messages that were set aside, or replayed since.
func (s *Messages) forgetAside(ctx context.Context, gone []string) error {
	for _, id := range gone {
		// '.' comes right behind '-'.
		_, err := s.db.aside.DeleteMany(ctx, bson.D{{Key: "$or", Value: bson.A{
			bson.D{{Key: "_id", Value: id}}, bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: id + "-"}, {Key: "$lt", Value: id + "."}}}},
		}}})
		if err != nil {
			return s.db.fail(ctx, "forget events", err)
		}
	}
	return nil
}

var (
	_ chat.RoomRecorder[chat.Rooms]   = (*Rooms)(nil)
	_ chat.RoomRecorder[chat.Members] = (*Members)(nil)
	_ chat.RoomRecorder[chat.Roles]   = (*Roles)(nil)
)

// Recording implements chat.RoomRecorder, without transactions: the events of a room are a part of its document, in the write that stores or changes it.
func (s *Rooms) Recording(record chat.RoomRecord) (chat.Rooms, error) {
	return &Rooms{s.db, record}, nil
}

// Recording implements chat.RoomRecorder, without transactions. The event of who joins is a part of the membership's document, and has its place in the outbox from the
// write on that proves the membership: see [Members.Add]. Whoever leaves a room that is stored does so by a decision, as in Roles.Change. Of any other room, the write that
// ends the membership leaves its document behind, of nobody, until its events are published.
func (s *Members) Recording(record chat.RoomRecord) (chat.Members, error) {
	return &Members{s.db, record}, nil
}

// Recording implements chat.RoomRecorder, without transactions: the events of what is decided about members are a part of the document of the room, in the write that decides.
func (s *Roles) Recording(record chat.RoomRecord) (chat.Roles, error) {
	return &Roles{s.db, record}, nil
}

// load makes a room carry events besides those that it carries.
func (d *database) load(ctx context.Context, r *roomDoc, events []event.Event) error {
	next, err := d.next(ctx, carrier{Pending: r.Pending, Events: r.Events}, events)
	if err == nil {
		r.Pending, r.Events = next.Pending, next.Events
	}
	return err
}

// unplaced is the position of events that have no place in the outbox yet.
const unplaced = 1

// promise makes a membership that is not proven carry the event of its beginning.
func (d *memberDoc) promise(record chat.RoomRecord) {
	d.Version, d.Pending, d.Events = 0, nil, nil
	for _, e := range record.OfMemberships(d.membership()) {
		doc := eventDocOf(e)
		doc.Position = unplaced
		d.Version, d.Events = 1, append(d.Events, doc)
	}
}

// tellProven proves memberships that carry the events of their beginning, and gives these their place in the outbox. It reports whether nobody else has proven one of them meanwhile.
func (d *database) tellProven(ctx context.Context, op string, docs []*memberDoc) (all bool, err error) {
	if len(docs) == 0 {
		return true, nil
	}
	position, err := d.tick(ctx)
	if err != nil {
		return false, err
	}
	models := make([]mongo.WriteModel, len(docs))
	for i, m := range docs {
		events := slices.Clone(m.Events)
		for k := range events {
			events[k].Position = position
		}
		models[i] = mongo.NewUpdateOneModel().SetFilter(bson.D{{Key: "_id", Value: m.ID}, {Key: "unproven", Value: true}}).SetUpdate(bson.D{
			{Key: "$set", Value: bson.D{{Key: "pending", Value: position}, {Key: "events", Value: events}}}, {Key: "$unset", Value: bson.D{{Key: "unproven", Value: ""}}},
		})
	}
	res, err := bulk(ctx, d.members, models, false)
	return res.MatchedCount == int64(len(docs)), d.fail(ctx, op, err)
}

// overruling is the ruling of a membership that began beside what was decided about its user. An event of its beginning that is not in the outbox yet, or behind that of the decision,
// goes: told later, it would say what has not been since.
func (d *memberDoc) overruling(r *roomDoc, role chat.Role) bson.D {
	update := ruling(r.Name, role, r.Decided)
	if n := len(r.Events); len(d.Events) > 0 && (d.Pending == nil || n > 0 && *d.Pending >= r.Events[n-1].Position) {
		unset := append(update[1].Value.(bson.D), bson.E{Key: "pending", Value: ""}, bson.E{Key: "events", Value: ""})
		update[1].Value = unset
		update = append(update, bson.E{Key: "$inc", Value: bson.D{{Key: "version", Value: int64(1)}}})
	}
	return update
}

// goneMark is the user of a membership that has ended and still carries events, and with the document's id its room: see asideMark.
const goneMark = "\x02"

// leaving is the update by which a membership ends whose document carries events.
func leaving(id bson.ObjectID, carried carrier) bson.D {
	set := bson.D{{Key: "user_id", Value: goneMark}, {Key: "room", Value: goneMark + hex.EncodeToString(id[:])}, {Key: "removed", Value: true}, {Key: "version", Value: carried.Version}}
	if len(carried.Events) > 0 {
		set = append(set, bson.E{Key: "pending", Value: carried.Pending}, bson.E{Key: "events", Value: carried.Events})
	}
	return bson.D{
		{Key: "$set", Value: set},
		{Key: "$unset", Value: bson.D{{Key: "role", Value: ""}, {Key: "owner_of", Value: ""}, {Key: "unproven", Value: ""}}},
	}
}

// sameVersion chooses a member's document as it was read.
func (d *memberDoc) sameVersion() bson.D {
	version := any(exists(false))
	if d.Version > 0 {
		version = d.Version
	}
	return bson.D{{Key: "_id", Value: d.ID}, {Key: "user_id", Value: d.UserID}, {Key: "room", Value: d.Room}, {Key: "version", Value: version}}
}

// end ends a membership, if there is one. What it carries stays until it is published, but for what is not in the outbox.
func (d *database) end(ctx context.Context, op string, which bson.D) error {
	for attempt := 1; attempt <= attempts; attempt++ {
		res, err := d.members.DeleteOne(ctx, append(slices.Clone(which), bson.E{Key: "pending", Value: exists(false)}))
		if err != nil || res.DeletedCount > 0 {
			return d.fail(ctx, op, err)
		}
		docs, err := all[memberDoc](ctx, d, op, d.standing, append(slices.Clone(which), bson.E{Key: "removed", Value: exists(false)}), options.Find().SetLimit(1))
		if err != nil || len(docs) == 0 {
			return err
		}
		m := docs[0]
		if m.Pending != nil { // else they were published meanwhile
			left, err := d.members.UpdateOne(ctx, m.sameVersion(), leaving(m.ID, carrier{Version: m.Version + 1, Pending: m.Pending, Events: m.Events}))
			if err != nil || left.MatchedCount > 0 {
				return d.fail(ctx, op, err)
			}
		}
		if err := pause(ctx, attempt); err != nil {
			return d.fail(ctx, op, err)
		}
	}
	return d.fail(ctx, op, fmt.Errorf("given up after %d attempts", attempts))
}

// removeRecorded is Remove with an event.
func (s *Members) removeRecorded(ctx context.Context, room string, id user.ID) error {
	const op = "remove member"
	roles := Roles{s.db, s.record}
	_, _, err := roles.Change(ctx, chat.RoleChange{Room: room, User: id}, func(chat.Room, chat.Role, chat.Role, int) error { return nil })
	if !errors.Is(err, chat.ErrRoomNotFound) {
		return err
	}
	for attempt := 1; attempt <= attempts; attempt++ {
		found, err := s.db.memberships(ctx, op, []pair{{room, string(id)}})
		if err != nil {
			return err
		}
		m := found[pair{room, string(id)}]
		if m == nil {
			return nil
		}
		events := s.record.OfMemberships(chat.Membership{Room: room, UserID: id})
		if len(events) == 0 {
			return s.db.end(ctx, op, membership(room, id))
		}
		next, err := s.db.next(ctx, carrier{Version: m.Version, Pending: m.Pending, Events: m.Events}, events)
		if err != nil {
			return err
		}
		res, err := s.db.members.UpdateOne(ctx, m.sameVersion(), leaving(m.ID, next))
		if err != nil || res.MatchedCount > 0 {
			return s.db.fail(ctx, op, err)
		}
		if err := pause(ctx, attempt); err != nil {
			return s.db.fail(ctx, op, err)
		}
	}
	return s.db.fail(ctx, op, fmt.Errorf("given up after %d attempts", attempts))
}

// dropRoom removes the document of a room. The events that it carries go on as those that are replayed, first.
func (d *database) dropRoom(ctx context.Context, op, room string) error {
	for attempt := 1; attempt <= attempts; attempt++ {
		res, err := d.rooms.DeleteOne(ctx, append(byID(room), bson.E{Key: "events", Value: exists(false)}))
		if err != nil || res.DeletedCount > 0 {
			return d.fail(ctx, op, err)
		}
		docs, err := all[roomDoc](ctx, d, op, d.ruled, byID(room), options.Find().SetLimit(1))
		if err != nil || len(docs) == 0 {
			return err
		}
		r := docs[0]
		for _, e := range r.Events {
			if err := d.rescue(ctx, op, e); err != nil {
				return err
			}
		}
		res, err = d.rooms.DeleteOne(ctx, append(byID(room), bson.E{Key: "version", Value: r.Version}))
		if err != nil || res.DeletedCount > 0 {
			return d.fail(ctx, op, err)
		}
		if err := pause(ctx, attempt); err != nil {
			return d.fail(ctx, op, err)
		}
	}
	return d.fail(ctx, op, fmt.Errorf("given up after %d attempts", attempts))
}

// rescue gives an event a document of its own, with the place that it has, as if it was replayed.
func (d *database) rescue(ctx context.Context, op string, e eventDoc) error {
	raw, err := aside.encode(replayedDoc{
		Doc:     asideDoc{ID: e.ID, Topic: e.Topic, Type: e.Type, Key: e.Key, Time: e.Time, Data: notNull(e.Data)},
		Carried: carrier{Version: 1, Pending: &e.Position, Events: []eventDoc{e}}, Removed: true,
	})
	if err != nil {
		return err
	}
	_, err = d.aside.ReplaceOne(ctx, byID(e.ID), raw, options.Replace().SetUpsert(true))
	return d.fail(ctx, op, err)
}
