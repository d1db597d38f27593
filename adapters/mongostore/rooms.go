package mongostore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Rooms stores rooms. Its methods may be called from many goroutines.
type Rooms struct {
	db     *database
	record chat.RoomRecord
}

var _ chat.Rooms = (*Rooms)(nil)

// roomDoc is a room, and the place where it is decided what its members are.
type roomDoc struct {
	Name      string `bson:"_id"`
	CreatedBy string `bson:"created_by"`
	CreatedAt int64  `bson:"created_at"`
	// Kind is absent for a public room: a program that knew no kinds leaves it out.
	Kind      string `bson:"kind,omitempty"`
	Title     string `bson:"title,omitempty"`
	Topic     string `bson:"topic,omitempty"`
	Data      string `bson:"data,omitempty"`
	Retention int64  `bson:"retention,omitempty"` // in seconds
	DeletedAt *int64 `bson:"deleted_at,omitempty"`
	// Version counts what was decided about the room and its roles.
	Version int64 `bson:"version,omitempty"`
	// Decided is the Version at which the last intents were decided.
	Decided int64 `bson:"decided,omitempty"`
	// Intents are what was decided last about members. They are gone when the memberships have it.
	Intents []intentDoc `bson:"intents,omitempty"`
	// Pending and Events are what the room carries: see carrier.
	Pending *int64     `bson:"pending,omitempty"`
	Events  []eventDoc `bson:"events,omitempty"`
}

func newRoomDoc(r chat.Room) roomDoc {
	d := roomDoc{Name: r.Name, CreatedBy: string(r.CreatedBy), CreatedAt: micros(r.CreatedAt)}
	d.take(r)
	return d
}

// take makes the document what Update may change of a room.
func (d *roomDoc) take(r chat.Room) {
	d.Kind, d.Title, d.Topic, d.Data = "", r.Title, r.Topic, r.Data
	if r.Kind.Or() != chat.Public {
		d.Kind = string(r.Kind)
	}
	d.Retention, d.DeletedAt = int64(r.Retention/time.Second), optionalMicros(r.DeletedAt)
}

func (d *roomDoc) room() chat.Room {
	return chat.Room{
		Name: d.Name, CreatedBy: user.ID(d.CreatedBy), CreatedAt: instant(d.CreatedAt), Kind: chat.RoomKind(d.Kind).Or(), Title: d.Title, Topic: d.Topic,
		Data: d.Data, Retention: time.Duration(d.Retention) * time.Second, DeletedAt: optionalInstant(d.DeletedAt),
	}
}

// open reports whether somebody may become a member by joining. A room that is not stored is public.
func (d *roomDoc) open() bool { return d == nil || d.Kind == "" && d.DeletedAt == nil }

// Ensure implements chat.Rooms. Where the room exists it only reads.
func (s *Rooms) Ensure(ctx context.Context, r chat.Room) (chat.Room, error) {
	stored, err := s.ByName(ctx, r.Name)
	if !errors.Is(err, chat.ErrRoomNotFound) {
		return stored, err
	}
	doc := newRoomDoc(r)
	if events := s.record.OfRoom(chat.Room{}, doc.room()); len(events) > 0 {
		doc.Version = 1
		if err := s.db.load(ctx, &doc, events); err != nil {
			return chat.Room{}, err
		}
	}
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

// Update implements chat.Rooms. It reads the room, and who changes it, and writes it, if nothing was decided about it meanwhile; otherwise it begins again.
func (s *Rooms) Update(ctx context.Context, name string, by chat.By, change func(r *chat.Room, as chat.Role) error) (chat.Room, error) {
	const op = "update room"
	if !storable(name) {
		return chat.Room{}, chat.ErrRoomNotFound
	}
	if !storable(string(by.ID)) {
		return chat.Room{}, errText
	}
	if err := s.db.ready(ctx); err != nil {
		return chat.Room{}, err
	}
	if err := s.db.ruling.take(ctx, []string{name}); err != nil {
		return chat.Room{}, s.db.fail(ctx, op, err)
	}
	defer s.db.ruling.give([]string{name})
	for attempt := 1; attempt <= attempts; attempt++ {
		before, err := one[roomDoc](ctx, s.db, op, s.db.ruled, byID(name), chat.ErrRoomNotFound)
		if err != nil {
			return chat.Room{}, err
		}
		won, after, err := s.update(ctx, op, &before, by, change)
		if err != nil || won {
			return after, err
		}
		if err := pause(ctx, attempt); err != nil {
			return chat.Room{}, s.db.fail(ctx, op, err)
		}
	}
	return chat.Room{}, s.db.fail(ctx, op, fmt.Errorf("given up after %d attempts", attempts))
}

// update is one attempt. It reports whether nobody else was quicker.
func (s *Rooms) update(ctx context.Context, op string, before *roomDoc, by chat.By, change func(r *chat.Room, as chat.Role) error) (bool, chat.Room, error) {
	var as chat.Role
	if by.ID != "" {
		err := s.db.fulfil(ctx, before)
		if err != nil {
			return false, chat.Room{}, err
		}
		if as, _, _, err = s.db.heeded(ctx, op, before.Name, by.At, by.ID, by.ID); err != nil {
			return false, chat.Room{}, err
		}
	}
	r := before.room()
	switch refusal := change(&r, as); {
	case refusal != nil && by.ID == "":
		return false, chat.Room{}, refusal
	case refusal != nil:
		return false, chat.Room{}, s.db.refuse(ctx, op, before, refusal)
	}
	after := *before
	after.take(r)
	after.Version++
	if err := s.db.load(ctx, &after, s.record.OfRoom(before.room(), after.room())); err != nil {
		return false, chat.Room{}, err
	}
	if _, err := rooms.encode(after); err != nil {
		return false, chat.Room{}, err
	}
	won, err := s.db.decide(ctx, op, before, after.shown())
	return won, after.room(), err
}

// shown is the update that makes a room show what the document has.
func (d *roomDoc) shown() bson.D {
	set, unset := bson.D{{Key: "version", Value: d.Version}}, bson.D{}
	for _, f := range []struct {
		name  string
		value any
		there bool
	}{
		{"kind", d.Kind, d.Kind != ""}, {"title", d.Title, d.Title != ""}, {"topic", d.Topic, d.Topic != ""}, {"data", d.Data, d.Data != ""},
		{"retention", d.Retention, d.Retention != 0}, {"deleted_at", d.DeletedAt, d.DeletedAt != nil},
		{"pending", d.Pending, d.Pending != nil}, {"events", d.Events, len(d.Events) > 0},
	} {
		if f.there {
			set = append(set, bson.E{Key: f.name, Value: f.value})
		} else {
			unset = append(unset, bson.E{Key: f.name, Value: ""})
		}
	}
	update := bson.D{{Key: "$set", Value: set}}
	if len(unset) > 0 {
		update = append(update, bson.E{Key: "$unset", Value: unset})
	}
	return update
}

// Members stores memberships, and how far members have read. Its methods may be called from many goroutines.
type Members struct {
	db     *database
	record chat.RoomRecord
}

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
	// Role is absent for a regular member: a program that knew no roles leaves it out.
	Role string `bson:"role,omitempty"`
	// OwnerOf is the room, if the member owns it.
	OwnerOf string `bson:"owner_of,omitempty"`
	// Ruled is the version of the room at which the role was decided last.
	Ruled int64 `bson:"ruled,omitempty"`
	// Unproven says that the room is still to be looked at, whether it let the member in: see proven.
	Unproven bool `bson:"unproven,omitempty"`
	// Version, Pending and Events are what the membership carries: see carrier. Without Pending they are of one that is not proven.
	Version int64      `bson:"version,omitempty"`
	Pending *int64     `bson:"pending,omitempty"`
	Events  []eventDoc `bson:"events,omitempty"`
}

func (d *memberDoc) membership() chat.Membership {
	return chat.Membership{Room: d.Room, UserID: user.ID(d.UserID), Since: instant(d.Since), Role: d.role()}
}

// role is what the member is; empty for the document that is not there.
func (d *memberDoc) role() chat.Role {
	switch {
	case d == nil:
		return ""
	case d.Role == "":
		return chat.Regular
	}
	return chat.Role(d.Role)
}

// be gives the document a role.
func (d *memberDoc) be(role chat.Role) {
	d.Role, d.OwnerOf = string(role), ""
	switch role {
	case chat.Regular:
		d.Role = ""
	case chat.Owner:
		d.OwnerOf = d.Room
	}
}

// Add implements chat.Members. It reads what is there and what was sent, and writes what is not there, and how far those have read whom a program has added that kept no
// marks. Before that it looks at the last messages of the rooms.
//
// A membership that is not there is decided by its room: Add looks whether the room is open and writes the membership with a sign that it is not proven; it looks again, now that
// others see the membership, and takes off the sign, or the membership if the room is not open any more. Whoever meets the sign does the same. So of an Add and an Update that closes the room the one that
// is stored first comes first, wherever a process ends.
func (s *Members) Add(ctx context.Context, memberships ...chat.Membership) ([]chat.Membership, error) {
	const op = "add members"
	stored := make(map[pair]*memberDoc, len(memberships))
	var todo []pair
	for _, m := range memberships {
		doc := &memberDoc{ID: bson.NewObjectID(), UserID: string(m.UserID), Room: m.Room, Since: micros(m.Since), Read: new(int64)}
		doc.be(m.Role)
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
	a := adding{db: s.db, record: s.record, stored: stored, shut: make(map[pair]bool)}
	for attempt := 1; len(todo) > 0; attempt++ {
		rest, err := a.add(ctx, todo)
		switch {
		case err == nil && len(rest) > 0 && attempt == attempts:
			err = s.db.fail(ctx, op, fmt.Errorf("given up after %d attempts", attempts))
		case err == nil && len(rest) > 0 && attempt > 1:
			err = s.db.fail(ctx, op, pause(ctx, attempt))
		}
		if err != nil {
			if a.wrote && fault.KindOf(err) != fault.Unavailable {
				err = partly(op, err)
			}
			return nil, err
		}
		todo = rest
	}
	sent, err := s.db.sent(ctx, a.known)
	if err != nil {
		return nil, err
	}
	for i, m := range memberships {
		p := pair{m.Room, string(m.UserID)}
		if a.shut[p] {
			answers[i] = chat.Membership{Room: m.Room, UserID: m.UserID}
			continue
		}
		answers[i] = stored[p].membership()
		answers[i].Read = uint64(max(*stored[p].Read, sent[p]))
	}
	return answers, nil
}

// adding is one call of Add.
type adding struct {
	db     *database
	record chat.RoomRecord
	stored map[pair]*memberDoc // what is there, or is to be
	known  []*memberDoc        // those that were there and have a mark
	shut   map[pair]bool       // those whom their room does not let in
	wrote  bool                // something may have been stored
}

// add puts into stored what is there of memberships, and writes what is not. rest are those with whom it has to begin again.
func (a *adding) add(ctx context.Context, todo []pair) (rest []pair, err error) {
	const op = "add members"
	found, err := a.db.memberships(ctx, op, todo)
	if err != nil {
		return nil, err
	}
	var write, missing []*memberDoc
	for _, p := range todo {
		switch there := found[p]; {
		case there == nil:
			missing = append(missing, a.stored[p])
		case there.Read == nil:
			write = append(write, there)
		default:
			a.known = append(a.known, there)
			a.stored[p] = there
		}
	}
	if len(write)+len(missing) == 0 {
		return nil, nil
	}
	var last map[string]tip
	var doors map[string]*roomDoc
	err = together(
		func() (err error) {
			last, err = a.db.tips(ctx, lastOf, roomsOf(slices.Concat(write, missing)))
			return err
		},
		func() (err error) { doors, err = a.db.doors(ctx, op, roomsOf(missing)); return err },
	)
	if err != nil {
		return nil, err
	}
	missing, rest, err = a.let(ctx, missing, doors)
	if err != nil {
		return nil, err
	}
	more, err := a.begin(ctx, missing, last)
	rest = append(rest, more...)
	if err != nil || len(write) == 0 {
		return rest, err
	}
	models := make([]mongo.WriteModel, len(write))
	for i, m := range write {
		end := last[m.Room].N
		m.Read, a.stored[m.pair()] = &end, m
		models[i] = mongo.NewUpdateOneModel().SetFilter(bson.D{{Key: "_id", Value: m.ID}, {Key: "read", Value: exists(false)}}).
			SetUpdate(bson.D{{Key: "$set", Value: bson.D{{Key: "read", Value: end}}}})
	}
	res, err := bulk(ctx, a.db.members, models, false)
	if err != nil {
		return nil, a.db.fail(ctx, op, err)
	}
	a.wrote = true
	if res.MatchedCount < int64(len(write)) { // somebody else was quicker with some
		for _, m := range write {
			rest = append(rest, m.pair())
		}
	}
	return rest, nil
}

// let returns those whom their rooms let in. rest are those of rooms in which something was decided about members, and is done now.
func (a *adding) let(ctx context.Context, missing []*memberDoc, doors map[string]*roomDoc) (in []*memberDoc, rest []pair, err error) {
	settled := make(map[string]bool)
	for _, m := range missing {
		door := doors[m.Room]
		switch {
		case door != nil && len(door.Intents) > 0:
			if !settled[m.Room] {
				if _, err := a.db.settle(ctx, "add members", m.Room); err != nil {
					return nil, nil, err
				}
				settled[m.Room] = true
			}
			rest = append(rest, m.pair())
		case !door.open():
			a.shut[m.pair()] = true
		default:
			in = append(in, m)
		}
	}
	return in, rest, nil
}

// begin writes memberships that are not there, and proves them. rest are those that somebody else has written or ended meanwhile.
func (a *adding) begin(ctx context.Context, missing []*memberDoc, last map[string]tip) (rest []pair, err error) {
	const op = "add members"
	var written []*memberDoc
	for part := range slices.Chunk(missing, chunk) {
		docs := make([]any, len(part))
		for i, m := range part {
			end := last[m.Room].N
			// A document that is gone never comes again, so that nothing that was decided about it is done to another.
			m.ID, m.Read, m.Unproven = bson.NewObjectID(), &end, true
			m.promise(a.record)
			if docs[i], err = members.encode(m); err != nil {
				return nil, err
			}
		}
		_, err := a.db.members.InsertMany(ctx, docs, options.InsertMany().SetOrdered(false))
		if err == nil || onlyDuplicates(err) {
			a.wrote = true
			not := refused(err)
			for i, m := range part {
				if slices.Contains(not, i) {
					rest = append(rest, m.pair())
				} else {
					written = append(written, m)
				}
			}
			continue
		}
		if some := (mongo.BulkWriteException{}); errors.As(err, &some) {
			return nil, partly(op, err)
		}
		return nil, a.db.fail(ctx, op, err)
	}
	members, err := a.db.proven(ctx, op, written)
	if err != nil {
		return nil, err
	}
	for _, m := range written {
		if !slices.Contains(members, m) { // the next look says why
			rest = append(rest, m.pair())
		}
	}
	return rest, nil
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

// Remove implements chat.Members. It finishes what was decided about members of the room and left. What is being decided there by who is removed, or about them, begins again.
func (s *Members) Remove(ctx context.Context, room string, id user.ID) error {
	if !storable(room, string(id)) {
		return nil
	}
	if s.record.Membership != nil {
		return s.removeRecorded(ctx, room, id)
	}
	if _, err := s.db.settle(ctx, "remove member", room); err != nil {
		return err
	}
	if err := s.db.end(ctx, "remove member", membership(room, id)); err != nil {
		return err
	}
	_, err := s.db.rooms.UpdateOne(ctx, byID(room), bson.D{{Key: "$inc", Value: bson.D{{Key: "version", Value: int64(1)}}}})
	return s.db.fail(ctx, "remove member", err)
}

// errNoMember is never returned.
var errNoMember = fault.New(fault.NotFound, "member_not_found", "there is no such member")

// Has implements chat.Members.
func (s *Members) Has(ctx context.Context, room string, id user.ID) (bool, error) {
	if !storable(room, string(id)) {
		return false, nil
	}
	doc, err := one[memberDoc](ctx, s.db, "read member", s.db.members, membership(room, id), errNoMember)
	if errors.Is(err, errNoMember) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	members, err := s.db.proven(ctx, "read member", []*memberDoc{&doc})
	return len(members) > 0, err
}

// RoomsOf implements chat.Members. It is three calls at most, and one more for every 1,000 rooms.
func (s *Members) RoomsOf(ctx context.Context, id user.ID, after string, limit int) ([]chat.Membership, error) {
	if !storable(string(id), after) {
		return nil, errText
	}
	if limit < 1 {
		return []chat.Membership{}, nil
	}
	docs, err := s.db.listed(ctx, "list memberships", bson.D{{Key: "user_id", Value: string(id)}, {Key: "room", Value: bson.D{{Key: "$gt", Value: after}}}},
		options.Find().SetSort(ascending("room")).SetLimit(int64(limit)))
	if err != nil {
		return nil, err
	}
	return s.db.told(ctx, docs)
}
