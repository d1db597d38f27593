package mongostore

import (
	"cmp"
	"context"
	"encoding/hex"
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

// Roles stores what members are in rooms. Its methods may be called from many goroutines.
type Roles struct {
	db     *database
	record chat.RoomRecord
}

var _ chat.Roles = (*Roles)(nil)

// intentDoc is what was decided about a member.
type intentDoc struct {
	UserID string `bson:"user_id"`
	// Member is the document of the membership.
	Member bson.ObjectID `bson:"member"`
	// Role is what the member is to be; absent ends the membership.
	Role string `bson:"role,omitempty"`
	// Begins says that the document is laid aside, and is to become the membership.
	Begins bool `bson:"begins,omitempty"`
	// Restricts has one where it was decided about a restriction of the user, and not about what they are. Member is of no document then: a program that knows none finds nothing to end.
	Restricts []restrictionDoc `bson:"restricts,omitempty"`
}

// asideMark is the user of a membership that has not begun, and with the document's id its room. No user and no room has a character that cannot be seen.
const asideMark = "\x01"

func asideOf(id bson.ObjectID) string { return asideMark + hex.EncodeToString(id[:]) }

// stillAside chooses the document if it has not become a membership.
func stillAside(id bson.ObjectID) bson.D {
	return bson.D{{Key: "_id", Value: id}, {Key: "room", Value: asideOf(id)}}
}

// decide writes a room if nothing was decided about it since it was read, and reports whether that was so.
func (d *database) decide(ctx context.Context, op string, read *roomDoc, update any) (bool, error) {
	version := any(exists(false))
	if read.Version > 0 {
		version = read.Version
	}
	res, err := d.rooms.UpdateOne(ctx, append(byID(read.Name), bson.E{Key: "version", Value: version}), update)
	if err != nil {
		return false, d.fail(ctx, op, err)
	}
	return res.MatchedCount > 0, nil
}

// doors returns what decides who comes into rooms, of those that are stored.
func (d *database) doors(ctx context.Context, op string, names []string) (map[string]*roomDoc, error) {
	found := make(map[string]*roomDoc, len(names))
	for part := range slices.Chunk(names, chunk) {
		docs, err := all[*roomDoc](ctx, d, op, d.ruled, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: part}}}},
			options.Find().SetProjection(bson.D{{Key: "kind", Value: int32(1)}, {Key: "deleted_at", Value: int32(1)}, {Key: "intents", Value: int32(1)}}))
		if err != nil {
			return nil, err
		}
		for _, r := range docs {
			found[r.Name] = r
		}
	}
	return found, nil
}

// proven returns those documents that are memberships. One that is not proven was written by an Add that has not looked yet whether the room is still open: whoever meets it
// looks, and takes off the sign, or the document. Where all are proven it does nothing.
func (d *database) proven(ctx context.Context, op string, docs []*memberDoc) ([]*memberDoc, error) {
	open := slices.DeleteFunc(slices.Clone(docs), func(m *memberDoc) bool { return !m.Unproven })
	if len(open) == 0 {
		return docs, nil
	}
	doors, err := d.doors(ctx, op, roomsOf(open))
	if err != nil {
		return nil, err
	}
	var stay, leave, told []bson.ObjectID
	var telling []*memberDoc
	for _, m := range open {
		switch {
		case !doors[m.Room].open():
			leave = append(leave, m.ID)
		case len(m.Events) > 0:
			telling, told = append(telling, m), append(told, m.ID)
		default:
			stay = append(stay, m.ID)
		}
	}
	unproven := func(ids []bson.ObjectID) bson.D {
		return bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}, {Key: "unproven", Value: true}}
	}
	sure := true
	for part := range slices.Chunk(stay, chunk) {
		res, err := d.members.UpdateMany(ctx, unproven(part), bson.D{{Key: "$unset", Value: bson.D{{Key: "unproven", Value: ""}}}})
		if err != nil {
			return nil, d.fail(ctx, op, err)
		}
		sure = sure && res.MatchedCount == int64(len(part))
	}
	for part := range slices.Chunk(leave, chunk) { // with the events of what has never been
		res, err := d.members.DeleteMany(ctx, unproven(part))
		if err != nil {
			return nil, d.fail(ctx, op, err)
		}
		sure = sure && res.DeletedCount == int64(len(part))
	}
	whole, err := d.tellProven(ctx, op, telling)
	if err != nil {
		return nil, err
	}
	sure, stay = sure && whole, append(stay, told...)
	there := make(map[bson.ObjectID]bool, len(open))
	if sure {
		for _, id := range stay {
			there[id] = true
		}
	} else { // somebody else was quicker with some
		for part := range slices.Chunk(slices.Concat(stay, leave), chunk) {
			left, err := all[memberDoc](ctx, d, op, d.standing, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: part}}}})
			if err != nil {
				return nil, err
			}
			for i := range left {
				there[left[i].ID] = !left[i].Unproven
			}
		}
	}
	members := make([]*memberDoc, 0, len(docs))
	for _, m := range docs {
		if !m.Unproven || there[m.ID] {
			m.Unproven = false
			members = append(members, m)
		}
	}
	return members, nil
}

// listed returns members as the majority has them. Where one of those that were read was none, it reads again, so that no page is too short.
func (d *database) listed(ctx context.Context, op string, filter bson.D, opts ...options.Lister[options.FindOptions]) ([]*memberDoc, error) {
	for attempt := 1; attempt <= attempts; attempt++ {
		docs, err := all[*memberDoc](ctx, d, op, d.standing, filter, opts...)
		if err != nil {
			return nil, err
		}
		members, err := d.proven(ctx, op, docs)
		if err != nil || len(members) == len(docs) {
			return members, err
		}
	}
	return nil, d.fail(ctx, op, fmt.Errorf("given up after %d attempts", attempts))
}

// told returns memberships as they are told.
func (d *database) told(ctx context.Context, docs []*memberDoc) ([]chat.Membership, error) {
	last, err := d.tips(ctx, lastOf, roomsOf(slices.DeleteFunc(slices.Clone(docs), func(m *memberDoc) bool { return m.Read != nil })))
	if err != nil {
		return nil, err
	}
	sent, err := d.sent(ctx, docs)
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

// ruling is the update that gives a member of a room a role, decided at a version of the room.
func ruling(room string, role chat.Role, version int64) bson.D {
	m := memberDoc{Room: room}
	m.be(role)
	set, unset := bson.D{{Key: "ruled", Value: version}}, bson.D{{Key: "unproven", Value: ""}}
	for _, f := range []bson.E{{Key: "role", Value: m.Role}, {Key: "owner_of", Value: m.OwnerOf}} {
		if f.Value != "" {
			set = append(set, f)
		} else {
			unset = append(unset, bson.E{Key: f.Key, Value: ""})
		}
	}
	return bson.D{{Key: "$set", Value: set}, {Key: "$unset", Value: unset}}
}

// older chooses a document about which nothing was decided at the version or later.
func older(id bson.ObjectID, version int64) bson.D {
	return bson.D{{Key: "_id", Value: id}, {Key: "ruled", Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$gte", Value: version}}}}}, {Key: "removed", Value: exists(false)}}
}

// settle does in rooms what was decided about members and left, and reports whether there was something. It is one call for every 1,000 rooms, and more only where something was left.
func (d *database) settle(ctx context.Context, op string, names ...string) (some bool, err error) {
	for part := range slices.Chunk(names, chunk) {
		docs, err := all[*roomDoc](ctx, d, op, d.ruled, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: part}}}, {Key: "intents", Value: exists(true)}})
		if err != nil {
			return some, err
		}
		some = some || len(docs) > 0
		err = each(len(docs), func(i int) error { return d.fulfil(ctx, docs[i]) })
		if err != nil {
			return some, err
		}
	}
	return some, nil
}

// settled returns what read reads of rooms. What is left there of decisions is looked for at the same time; where something was, it reads again.
func settled[T any](ctx context.Context, d *database, op string, rooms []string, read func() (T, error)) (T, error) {
	var some bool
	var found T
	err := together(
		func() (err error) { some, err = d.settle(ctx, op, rooms...); return err },
		func() (err error) { found, err = read(); return err },
	)
	if err != nil || !some {
		return found, err
	}
	return read()
}

// fulfil makes members what the intents of their room say, and empties the intents. It may be done any number of times, at any time, by several at once: a membership that has it, and one
// that has ended since, stays as it is.
func (d *database) fulfil(ctx context.Context, r *roomDoc) error {
	const op = "store roles"
	if len(r.Intents) == 0 {
		return nil
	}
	err := each(len(r.Intents), func(i int) error {
		in := r.Intents[i]
		var err error
		switch {
		case len(in.Restricts) > 0:
			return d.fulfilRestriction(ctx, op, in.Restricts[0])
		case in.Begins:
			return d.fulfilBeginning(ctx, op, r, in)
		case in.Role == "":
			return d.end(ctx, op, bson.D{{Key: "_id", Value: in.Member}})
		default:
			_, err = d.members.UpdateOne(ctx, older(in.Member, r.Decided), ruling(r.Name, chat.Role(in.Role), r.Decided))
		}
		return d.fail(ctx, op, err)
	})
	if err != nil {
		return err
	}
	// Nothing depends on it: what is there is done once more, and changes nothing.
	_, err = d.fulfilled.UpdateOne(ctx, append(byID(r.Name), bson.E{Key: "decided", Value: r.Decided}),
		bson.D{{Key: "$unset", Value: bson.D{{Key: "intents", Value: ""}}}})
	if err != nil {
		d.log.DebugContext(ctx, "that roles are stored is not stored", "error", err)
	}
	return nil
}

// fulfilBeginning makes the document that is laid aside a membership. Where the user has joined meanwhile, that membership gets the role, and the document goes. As long as the document
// is aside, this is not done.
func (d *database) fulfilBeginning(ctx context.Context, op string, r *roomDoc, in intentDoc) error {
	who, role := membership(r.Name, user.ID(in.UserID)), chat.Role(in.Role)
	for attempt := 1; attempt <= attempts; attempt++ {
		docs, err := all[memberDoc](ctx, d, op, d.standing, who, options.Find().SetLimit(1))
		if err != nil {
			return err
		}
		if len(docs) == 0 || docs[0].ID == in.Member {
			update := ruling(r.Name, role, r.Decided)
			update[0].Value = append(update[0].Value.(bson.D), who...)
			_, err := d.members.UpdateOne(ctx, stillAside(in.Member), update)
			if !mongo.IsDuplicateKeyError(err) {
				return d.fail(ctx, op, err)
			}
		} else {
			laid, err := all[memberDoc](ctx, d, op, d.standing, stillAside(in.Member), options.Find().SetLimit(1))
			if err != nil || len(laid) == 0 {
				return err
			}
			done := docs[0].Ruled >= r.Decided
			if !done {
				res, err := d.members.UpdateOne(ctx, older(docs[0].ID, r.Decided), docs[0].overruling(r, role))
				if err != nil {
					return d.fail(ctx, op, err)
				}
				done = res.MatchedCount > 0
			}
			if done {
				_, err = d.members.DeleteOne(ctx, stillAside(in.Member))
				return d.fail(ctx, op, err)
			}
		}
		if err := pause(ctx, attempt); err != nil {
			return d.fail(ctx, op, err)
		}
	}
	return d.fail(ctx, op, fmt.Errorf("given up after %d attempts", attempts))
}

// lay lays memberships aside that are to begin, and returns the intents that begin them.
func (d *database) lay(ctx context.Context, op string, begin []chat.Membership) ([]intentDoc, []*memberDoc, error) {
	if len(begin) == 0 {
		return nil, nil, nil
	}
	last, err := d.tips(ctx, lastOf, []string{begin[0].Room})
	if err != nil {
		return nil, nil, err
	}
	intents, docs, raws := make([]intentDoc, len(begin)), make([]*memberDoc, len(begin)), make([]any, len(begin))
	for i, m := range begin {
		id, end := bson.NewObjectID(), last[m.Room].N
		docs[i] = &memberDoc{ID: id, UserID: string(m.UserID), Room: m.Room, Since: micros(m.Since), Read: &end}
		docs[i].be(m.Role)
		if _, err := members.encode(docs[i]); err != nil {
			return nil, nil, err
		}
		intents[i] = intentDoc{UserID: string(m.UserID), Member: id, Role: string(docs[i].role()), Begins: true}
		raws[i], err = members.encode(memberDoc{ID: id, UserID: asideMark, Room: asideOf(id), Since: docs[i].Since, Read: &end})
		if err != nil {
			return nil, nil, err
		}
	}
	_, err = d.members.InsertMany(ctx, raws, options.InsertMany().SetOrdered(false))
	if err != nil {
		return nil, nil, d.fail(ctx, op, err)
	}
	return intents, docs, nil
}

// unlay removes what was laid aside and no room knows of. What stays is never a membership.
func (d *database) unlay(ctx context.Context, intents []intentDoc) {
	var ids []bson.ObjectID
	var rooms []string
	for _, in := range intents {
		if in.Begins {
			ids, rooms = append(ids, in.Member), append(rooms, asideOf(in.Member))
		}
	}
	if len(ids) == 0 {
		return
	}
	_, err := d.members.DeleteMany(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}, {Key: "room", Value: bson.D{{Key: "$in", Value: rooms}}}})
	if err != nil {
		d.log.DebugContext(ctx, "memberships that do not begin are not removed", "error", err)
	}
}

// Create implements chat.Roles. It lays the memberships aside, stores the room with them as intents, which decides, and carries these out.
func (s *Roles) Create(ctx context.Context, r chat.Room, members ...chat.Membership) (chat.Room, error) {
	const op = "create room"
	doc := newRoomDoc(r)
	doc.Version, doc.Decided = 1, 1
	if _, err := rooms.encode(doc); err != nil {
		return chat.Room{}, err
	}
	if err := s.db.ready(ctx); err != nil {
		return chat.Room{}, err
	}
	var first []chat.Membership
	var pairs []pair
	for _, m := range members {
		m.Room = r.Name
		p := pair{r.Name, string(m.UserID)}
		if at := slices.Index(pairs, p); at >= 0 {
			first[at].Role = m.Role
			continue
		}
		if !storable(p.id) {
			return chat.Room{}, errText
		}
		first, pairs = append(first, m), append(pairs, p)
	}
	if len(first) > chunk {
		return chat.Room{}, errBounds.Detail("a room begins with %d members at most", chunk)
	}
	// A name that is taken costs no write.
	if taken, err := all[roomDoc](ctx, s.db, op, s.db.ruled, byID(r.Name), options.Find().SetLimit(1)); err != nil {
		return chat.Room{}, err
	} else if len(taken) > 0 {
		return chat.Room{}, chat.ErrRoomTaken
	}
	there, err := s.db.memberships(ctx, op, pairs)
	if err != nil {
		return chat.Room{}, err
	}
	for _, m := range there { // of a room that is not there any more
		doc.Version = max(doc.Version, m.Ruled+1)
	}
	doc.Decided = doc.Version
	events := s.record.OfRoom(chat.Room{}, doc.room())
	for _, m := range first {
		m.Role = cmp.Or(m.Role, chat.Regular)
		events = append(events, s.record.OfMemberships(m)...)
	}
	if err := s.db.load(ctx, &doc, events); err != nil {
		return chat.Room{}, err
	}
	if doc.Intents, _, err = s.db.lay(ctx, op, first); err != nil {
		return chat.Room{}, err
	}
	switch err := s.db.insertOnce(ctx, op, s.db.rooms, rooms, doc); {
	case errors.Is(err, fault.Conflict):
		s.db.unlay(ctx, doc.Intents)
		return chat.Room{}, chat.ErrRoomTaken
	case err != nil:
		return chat.Room{}, err
	}
	if err := s.db.fulfil(ctx, &doc); err != nil {
		return chat.Room{}, partly(op, err)
	}
	return doc.room(), nil
}

// Of implements chat.Roles. It is one call for every 100 that it is asked about and one for their rooms, at once, and one or more for what they have sent. It finishes what was decided about members and left.
func (s *Roles) Of(ctx context.Context, whom ...chat.InRoom) ([]chat.Membership, error) {
	const op = "read roles"
	asked := make(map[pair]bool, len(whom))
	var pairs []pair
	var rooms []string
	for _, w := range whom {
		if p := (pair{w.Room, string(w.UserID)}); !asked[p] && storable(p.room, p.id) {
			asked[p] = true
			pairs, rooms = append(pairs, p), append(rooms, p.room)
		}
	}
	if err := s.db.ready(ctx); err != nil {
		return nil, err
	}
	slices.Sort(rooms)
	found, err := settled(ctx, s.db, op, slices.Compact(rooms), func() (map[pair]*memberDoc, error) { return s.db.memberships(ctx, op, pairs) })
	if err != nil {
		return nil, err
	}
	docs := make([]*memberDoc, 0, len(found))
	for _, p := range pairs {
		if m := found[p]; m != nil {
			docs = append(docs, m)
		}
	}
	return s.db.told(ctx, docs)
}

// List implements chat.Roles. It finishes what was decided about members and left.
func (s *Roles) List(ctx context.Context, room string, after user.ID, limit int) ([]chat.Membership, error) {
	const op = "list members"
	if !storable(room, string(after)) {
		return nil, errText
	}
	if limit < 1 {
		return []chat.Membership{}, nil
	}
	docs, err := settled(ctx, s.db, op, []string{room}, func() ([]*memberDoc, error) {
		return s.db.listed(ctx, op, bson.D{{Key: "room", Value: room}, {Key: "user_id", Value: bson.D{{Key: "$gt", Value: string(after)}}}},
			options.Find().SetSort(ascending("user_id")).SetLimit(int64(limit)))
	})
	if err != nil {
		return nil, err
	}
	return s.db.told(ctx, docs)
}

// Change implements chat.Roles. It reads the room, the members concerned and the owners; a membership that is to begin is laid aside. What is to become of the member is then
// written into the room, if nothing was decided about it meanwhile; otherwise it begins again. That write decides, and is then carried out.
func (s *Roles) Change(ctx context.Context, c chat.RoleChange, may func(r chat.Room, by, of chat.Role, owners int) error) (before, after chat.Membership, err error) {
	const op = "change role"
	none := chat.Membership{}
	if !storable(c.Room) {
		return none, none, chat.ErrRoomNotFound
	}
	if !storable(string(c.User), string(c.By)) {
		return none, none, errText
	}
	if err := s.db.ready(ctx); err != nil {
		return none, none, err
	}
	if err := s.db.ruling.take(ctx, []string{c.Room}); err != nil {
		return none, none, s.db.fail(ctx, op, err)
	}
	defer s.db.ruling.give([]string{c.Room})
	for attempt := 1; attempt <= attempts; attempt++ {
		r, err := one[roomDoc](ctx, s.db, op, s.db.ruled, byID(c.Room), chat.ErrRoomNotFound)
		if err != nil {
			return none, none, err
		}
		if err := s.db.fulfil(ctx, &r); err != nil {
			return none, none, err
		}
		changed, err := s.change(ctx, &r, c, may)
		if err != nil {
			return none, none, err
		}
		if changed != nil {
			return changed[0], changed[1], nil
		}
		if err := pause(ctx, attempt); err != nil {
			return none, none, s.db.fail(ctx, op, err)
		}
	}
	return none, none, s.db.fail(ctx, op, fmt.Errorf("given up after %d attempts", attempts))
}

// refuse returns the refusal of what was asked for in a room, if nothing was decided there since it was read: then what was read was there at one time.
func (d *database) refuse(ctx context.Context, op string, read *roomDoc, refusal error) error {
	now, err := one[roomDoc](ctx, d, op, d.ruled, byID(read.Name), chat.ErrRoomNotFound)
	if err != nil || now.Version != read.Version {
		return err
	}
	return refusal
}

// heeded returns the roles of two users, who may be one, in a room that was read and has no intents, and what restrictions there are of them. Who is banned at a time has no role.
func (d *database) heeded(ctx context.Context, op, room string, at time.Time, a, b user.ID) (ofA, ofB chat.Role, held []restrictionDoc, err error) {
	pairs := []pair{{room, string(a)}, {room, string(b)}}
	if a == b {
		pairs = pairs[:1]
	}
	var found map[pair]*memberDoc
	err = together(
		func() (err error) { found, err = d.memberships(ctx, op, pairs); return err },
		func() (err error) { held, err = d.heldOf(ctx, op, pairs); return err },
	)
	if err != nil {
		return "", "", nil, err
	}
	if !banned(held, a, at) {
		ofA = found[pair{room, string(a)}].role()
	}
	if !banned(held, b, at) {
		ofB = found[pair{room, string(b)}].role()
	}
	return ofA, ofB, held, nil
}

// change is one attempt, of a room without intents. It returns the membership before and after, or nothing if somebody else was quicker.
func (s *Roles) change(ctx context.Context, r *roomDoc, c chat.RoleChange, may func(r chat.Room, by, of chat.Role, owners int) error) ([]chat.Membership, error) {
	const op = "change role"
	of, by := pair{c.Room, string(c.User)}, pair{c.Room, string(c.By)}
	pairs := []pair{of, by}
	if of == by {
		pairs = pairs[:1]
	}
	var found map[pair]*memberDoc
	var owners []*memberDoc
	var held []restrictionDoc
	err := together(
		func() (err error) { found, err = s.db.memberships(ctx, op, pairs); return err },
		func() (err error) { held, err = s.db.heldOf(ctx, op, pairs); return err },
		func() (err error) {
			owners, err = s.db.listed(ctx, op, bson.D{{Key: "owner_of", Value: c.Room}})
			return err
		},
	)
	if err != nil {
		return nil, err
	}
	is, as := found[of], found[by].role()
	if banned(held, c.By, c.At) {
		as = ""
	}
	refusal := may(r.room(), as, is.role(), len(owners))
	if refusal == nil && c.Role != "" && banned(held, c.User, c.At) {
		refusal = chat.ErrBanned
	}
	if refusal != nil {
		return nil, s.db.refuse(ctx, op, r, refusal)
	}
	none := chat.Membership{Room: c.Room, UserID: c.User}
	if c.Role == is.role() {
		if is == nil {
			return []chat.Membership{none, none}, nil
		}
		told, err := s.db.told(ctx, []*memberDoc{is})
		if err != nil {
			return nil, err
		}
		return []chat.Membership{told[0], told[0]}, nil
	}
	next := *r
	next.Version++
	if is != nil { // where the room was lost, its versions have begun again
		next.Version = max(next.Version, is.Ruled+1)
	}
	next.Decided = next.Version
	if is != nil {
		next.Intents = []intentDoc{{UserID: of.id, Member: is.ID, Role: string(c.Role)}}
	} else {
		var laid []*memberDoc
		next.Intents, laid, err = s.db.lay(ctx, op, []chat.Membership{{Room: c.Room, UserID: c.User, Since: c.At, Role: c.Role}})
		if err != nil {
			return nil, err
		}
		is = laid[0]
	}
	events := s.record.OfMemberships(chat.Membership{Room: c.Room, UserID: c.User, Role: c.Role})
	if err := s.db.load(ctx, &next, events); err != nil {
		return nil, err
	}
	if _, err := rooms.encode(next); err != nil {
		return nil, err
	}
	set := bson.D{{Key: "version", Value: next.Version}, {Key: "decided", Value: next.Decided}, {Key: "intents", Value: next.Intents}}
	if len(events) > 0 {
		set = append(set, bson.E{Key: "pending", Value: next.Pending}, bson.E{Key: "events", Value: next.Events})
	}
	won, err := s.db.decide(ctx, op, r, bson.D{{Key: "$set", Value: set}})
	if err != nil {
		return nil, err
	}
	if !won {
		s.db.unlay(ctx, next.Intents)
		return nil, nil
	}
	if err := s.db.fulfil(ctx, &next); err != nil {
		return nil, partly(op, err)
	}
	told, err := s.db.told(ctx, []*memberDoc{is})
	if err != nil {
		return nil, partly(op, err)
	}
	before, after := told[0], told[0]
	if next.Intents[0].Begins {
		before = none
	}
	if after.Role = c.Role; c.Role == "" {
		after = none
	}
	return []chat.Membership{before, after}, nil
}
