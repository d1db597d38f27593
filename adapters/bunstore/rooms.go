package bunstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Rooms stores rooms. Its methods may be called from many goroutines.
type Rooms struct {
	db     *database
	record chat.RoomRecord
}

var _ chat.Rooms = (*Rooms)(nil)

type roomRow struct {
	bun.BaseModel `bun:"table:parley_rooms"`

	Name      string `bun:"name,pk"`
	CreatedBy string `bun:"created_by"`
	CreatedAt int64  `bun:"created_at"`

	// See roomKinds.
	Kind      sql.NullString `bun:"kind"`
	Title     sql.NullString `bun:"title"`
	Topic     sql.NullString `bun:"topic"`
	Data      sql.NullString `bun:"data"`
	Retention sql.NullInt64  `bun:"retention"` // in seconds
	DeletedAt *int64         `bun:"deleted_at"`
}

// roomFields are what is read of a room.
const roomFields = "name, created_by, created_at, kind, title, topic, data, retention, deleted_at"

// roomOpen says of a row of parley_rooms whether who wants to may become a member.
const roomOpen = "kind IS NULL AND deleted_at IS NULL"

// maxKind is the longest kind of a room, and role of a member, in characters.
const maxKind = 16

func toRoomRow(r chat.Room) (*roomRow, error) {
	kind, title, topic := string(r.Kind.Or()), r.Title, r.Topic
	switch {
	case !storable(r.Name, string(r.CreatedBy), kind, title, topic, r.Data):
		return nil, errText
	case utf8.RuneCountInString(kind) > maxKind, utf8.RuneCountInString(title) > chat.MaxTitle, utf8.RuneCountInString(topic) > chat.MaxTopic, len(r.Data) > chat.MaxData:
		return nil, errMore
	}
	seconds := int64(r.Retention / time.Second)
	return &roomRow{
		Name: r.Name, CreatedBy: string(r.CreatedBy), CreatedAt: micros(r.CreatedAt),
		Kind: textUnless(kind, string(chat.Public)), Title: textUnless(title, ""), Topic: textUnless(topic, ""), Data: textUnless(r.Data, ""),
		Retention: sql.NullInt64{Int64: seconds, Valid: seconds != 0}, DeletedAt: optionalMicros(r.DeletedAt),
	}, nil
}

// textUnless is NULL for a text that needs not be stored.
func textUnless(text, usual string) sql.NullString {
	return sql.NullString{String: text, Valid: text != usual}
}

// scan reads roomFields.
func (r *roomRow) scan(scan func(...any) error) error {
	return scan(&r.Name, &r.CreatedBy, &r.CreatedAt, &r.Kind, &r.Title, &r.Topic, &r.Data, &r.Retention, &r.DeletedAt)
}

func (r *roomRow) room() chat.Room {
	return chat.Room{
		Name: r.Name, CreatedBy: user.ID(r.CreatedBy), CreatedAt: instant(r.CreatedAt), Kind: chat.RoomKind(r.Kind.String).Or(), Title: r.Title.String,
		Topic: r.Topic.String, Data: r.Data.String, Retention: time.Duration(r.Retention.Int64) * time.Second, DeletedAt: optionalInstant(r.DeletedAt),
	}
}

// Ensure implements chat.Rooms. Where the room exists it only reads.
func (s *Rooms) Ensure(ctx context.Context, r chat.Room) (chat.Room, error) {
	row, err := toRoomRow(r)
	if err != nil {
		return chat.Room{}, err
	}
	const op = "ensure room"
	if stored, err := s.ByName(ctx, r.Name); !errors.Is(err, chat.ErrRoomNotFound) {
		return stored, err
	}
	stored := new(roomRow)
	err = s.db.transact(ctx, op, func(ctx context.Context, tx bun.Tx) error {
		res, err := s.db.dialect.insertNew(tx.NewInsert().Model(row), "name").Exec(ctx)
		if err != nil {
			return err
		}
		*stored = roomRow{Name: row.Name}
		if err := tx.NewSelect().Model(stored).WherePK().Scan(ctx); err != nil || s.record.Room == nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 { // somebody else was quicker
			return err
		}
		return s.db.putEvents(ctx, tx, s.record.OfRoom(chat.Room{}, stored.room()))
	})
	if err != nil {
		return chat.Room{}, err
	}
	return stored.room(), nil
}

// Update implements chat.Rooms.
func (s *Rooms) Update(ctx context.Context, name string, by chat.By, change func(r *chat.Room, as chat.Role) error) (chat.Room, error) {
	if !storable(string(by.ID)) {
		return chat.Room{}, errText
	}
	var stored chat.Room
	err := s.db.transactLocked(ctx, "update room", func(ctx context.Context, tx bun.Tx) error {
		before, err := s.db.lockRoom(ctx, tx, name)
		if err != nil {
			return err
		}
		var as chat.Role
		if by.ID != "" {
			if as, _, err = s.db.heeded(ctx, tx, name, by.At, by.ID, by.ID); err != nil {
				return err
			}
		}
		after := before
		if err := change(&after, as); err != nil {
			return verbatim{err}
		}
		after.Name, after.CreatedBy, after.CreatedAt = before.Name, before.CreatedBy, before.CreatedAt
		row, err := toRoomRow(after)
		if err != nil {
			return err
		}
		stored = row.room()
		if _, err = tx.NewUpdate().Model(row).WherePK().Exec(ctx); err != nil {
			return err
		}
		return s.db.putEvents(ctx, tx, s.record.OfRoom(before, stored))
	})
	if err != nil {
		return chat.Room{}, err
	}
	return stored, nil
}

// lockRoom reads a room, and keeps others from changing it or the roles in it until the transaction ends.
func (d *database) lockRoom(ctx context.Context, tx bun.Tx, name string) (chat.Room, error) {
	if !storable(name) {
		return chat.Room{}, chat.ErrRoomNotFound
	}
	var row roomRow
	err := d.dialect.forUpdate(tx.NewSelect().Model(&row)).Where("name = ?", name).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		err = chat.ErrRoomNotFound
	}
	return row.room(), err
}

// ByName implements chat.Rooms.
func (s *Rooms) ByName(ctx context.Context, name string) (chat.Room, error) {
	if !storable(name) {
		return chat.Room{}, chat.ErrRoomNotFound
	}
	var row roomRow
	err := row.scan(func(to ...any) error {
		return s.db.reads.one(ctx, "SELECT "+roomFields+" FROM parley_rooms WHERE name = ?", []any{name}, to...)
	})
	if err != nil {
		return chat.Room{}, s.db.found(ctx, "read room", err, chat.ErrRoomNotFound)
	}
	return row.room(), nil
}

// List implements chat.Rooms.
func (s *Rooms) List(ctx context.Context, after string, limit int) ([]chat.Room, error) {
	if !storable(after) {
		return nil, errText
	}
	if limit < 1 {
		return []chat.Room{}, nil
	}
	var rows []roomRow
	if err := s.db.read.NewSelect().Model(&rows).Where("name > ?", after).OrderExpr("name").Limit(int64(limit)).Scan(ctx); err != nil {
		return nil, s.db.fail(ctx, "list rooms", err)
	}
	rooms := make([]chat.Room, len(rows))
	for i := range rows {
		rooms[i] = rows[i].room()
	}
	return rooms, nil
}

// Members stores memberships, and how far members have read. Its methods may be called from many goroutines.
type Members struct {
	db     *database
	record chat.RoomRecord
}

var _ chat.Members = (*Members)(nil)

type memberRow struct {
	bun.BaseModel `bun:"table:parley_members"`

	UserID  string         `bun:"user_id,pk"`
	Room    string         `bun:"room,pk"`
	Since   int64          `bun:"since"`
	ReadSeq sql.NullInt64  `bun:"read_seq"` // see readMarks
	Role    sql.NullString `bun:"role"`     // see roomKinds
}

// memberFields are what is read of a membership.
const memberFields = "user_id, room, since, read_seq, role"

// scan reads memberFields.
func (r *memberRow) scan(scan func(...any) error) error {
	return scan(&r.UserID, &r.Room, &r.Since, &r.ReadSeq, &r.Role)
}

func (r *memberRow) membership() chat.Membership {
	return chat.Membership{Room: r.Room, UserID: user.ID(r.UserID), Since: instant(r.Since), Read: uint64(r.ReadSeq.Int64), Role: roleOf(r.Role)}
}

// roleOf is the role of a membership: see roomKinds.
func roleOf(stored sql.NullString) chat.Role {
	if stored.Valid {
		return chat.Role(stored.String)
	}
	return chat.Regular
}

func toMemberRow(m chat.Membership) (*memberRow, error) {
	switch {
	case !storable(m.Room, string(m.UserID), string(m.Role)):
		return nil, errText
	case utf8.RuneCountInString(string(m.Role)) > maxKind:
		return nil, errMore
	}
	return &memberRow{UserID: string(m.UserID), Room: m.Room, Since: micros(m.Since), Role: storedRole(m.Role)}, nil
}

func storedRole(r chat.Role) sql.NullString {
	if r == "" {
		r = chat.Regular
	}
	return textUnless(string(r), string(chat.Regular))
}

// member is the primary key of a membership. Whoever locks several locks them in its order.
type member struct{ user, room string }

func (m member) compare(other member) int {
	return cmp.Or(cmp.Compare(m.user, other.user), cmp.Compare(m.room, other.room))
}

var (
	memberKey  = []column{{name: "user_id", text: true}, {name: "room", text: true}}
	memberNew  = []column{{name: "user_id", text: true}, {name: "room", text: true}, {name: "since"}, {name: "role", text: true}}
	memberRead = []column{{name: "read_seq"}, {name: "user_id", text: true}, {name: "room", text: true}}
)

// Add implements chat.Members. It reads first: whoever connects has mostly joined before, and then waits for nobody who writes.
func (s *Members) Add(ctx context.Context, memberships ...chat.Membership) ([]chat.Membership, error) {
	lacking, given := make([]member, len(memberships)), make(map[member]*memberRow, len(memberships))
	for i, m := range memberships {
		row, err := toMemberRow(m)
		if err != nil {
			return nil, err
		}
		lacking[i] = member{row.UserID, row.Room}
		if given[lacking[i]] == nil {
			given[lacking[i]] = row
		}
	}
	slices.SortFunc(lacking, member.compare)
	lacking = slices.Compact(lacking)
	const op = "add members"
	stored := make(map[member]*memberRow, len(lacking))
	known := func(m member) bool { return stored[m] != nil }
	for n := range attempts { // a membership may end, or somebody else add it, in between
		if err := s.find(ctx, lacking, stored); err != nil {
			return nil, s.db.fail(ctx, op, err)
		}
		if lacking = slices.DeleteFunc(lacking, known); len(lacking) == 0 {
			break
		}
		if n > 0 {
			closed, err := s.closed(ctx, lacking)
			if err != nil {
				return nil, s.db.fail(ctx, op, err)
			}
			refused := func(m member) bool { return slices.Contains(closed, m.room) }
			if lacking = slices.DeleteFunc(lacking, refused); len(lacking) == 0 {
				break
			}
		}
		if err := s.insert(ctx, op, lacking, given, stored); err != nil {
			return nil, err
		}
		if lacking = slices.DeleteFunc(lacking, known); len(lacking) == 0 {
			break
		}
	}
	if len(lacking) > 0 {
		return nil, fault.Wrap(fault.Unavailable, fmt.Errorf("bunstore: %s: they end as soon as they begin", op))
	}
	if err := s.markUnknown(ctx, stored); err != nil {
		return nil, err
	}
	answers := make([]chat.Membership, len(memberships))
	for i, m := range memberships {
		answers[i] = chat.Membership{Room: m.Room, UserID: m.UserID}
		if row := stored[member{string(m.UserID), m.Room}]; row != nil {
			answers[i] = row.membership()
		}
	}
	return answers, nil
}

// closed returns those rooms of memberships of which nobody becomes a member by joining.
func (s *Members) closed(ctx context.Context, keys []member) (closed []string, err error) {
	rooms := make([]string, len(keys))
	for i, m := range keys {
		rooms[i] = m.room
	}
	slices.Sort(rooms)
	for part := range slices.Chunk(slices.Compact(rooms), memberSizes[0]) {
		var names []string
		if err := s.db.read.NewSelect().Model((*roomRow)(nil)).Column("name").Where("name IN (?)", bun.List(part)).Where("NOT ("+roomOpen+")").Scan(ctx, &names); err != nil {
			return nil, err
		}
		closed = append(closed, names...)
	}
	return closed, nil
}

// into keeps the memberships that are read.
func into(stored map[member]*memberRow) func(scan func(...any) error) error {
	return func(scan func(...any) error) error {
		row := new(memberRow)
		err := row.scan(scan)
		stored[member{row.UserID, row.Room}] = row
		return err
	}
}

// find reads memberships into stored.
func (s *Members) find(ctx context.Context, keys []member, stored map[member]*memberRow) error {
	for part := range slices.Chunk(keys, memberSizes[0]) {
		args := make([]any, 0, 2*memberSizes[0])
		for _, m := range part {
			args = append(args, m.user, m.room)
		}
		args = pad(args, "", "")
		if err := s.db.reads.query(ctx, s.db.readMembers[len(args)/2], args, into(stored)); err != nil {
			return err
		}
	}
	return nil
}

// insert adds memberships, all or none, unless they are there by then. Those that it knows of afterwards are in stored.
func (s *Members) insert(ctx context.Context, op string, keys []member, given, stored map[member]*memberRow) error {
	// Prepared before a transaction takes what may be the only connection.
	prepared, err := s.db.marking.get(ctx, s.db)
	if err != nil {
		return s.db.fail(ctx, op, err)
	}
	const columns = 4
	args := make([]any, 0, columns*(len(keys)+memberSizes[0]))
	for _, m := range keys {
		args = append(args, m.user, m.room, given[m].Since, given[m].Role)
	}
	args = pad(args, args[len(args)-columns:]...) // it is there by then
	run := func(ctx context.Context, tx runner) error {
		for _, m := range keys { // of an attempt before
			delete(stored, m)
		}
		if s.db.dialect.addReturns {
			return prepared.add.query(ctx, tx, columns, args, into(stored))
		}
		return prepared.add.exec(ctx, tx, columns, args)
	}
	if s.record.Membership != nil {
		return s.insertRecorded(ctx, op, keys, args[:columns*len(keys)], stored)
	}
	if len(keys) <= memberSizes[0] {
		return s.db.single(ctx, op, func(ctx context.Context) error { return run(ctx, alone{}) })
	}
	return s.db.transact(ctx, op, func(ctx context.Context, tx bun.Tx) error { return run(ctx, tx) })
}

// insertRecorded is insert with events, one membership after the other, so that it is known which are new.
func (s *Members) insertRecorded(ctx context.Context, op string, keys []member, args []any, stored map[member]*memberRow) error {
	columns := len(args) / len(keys)
	return s.db.transact(ctx, op, func(ctx context.Context, tx bun.Tx) error {
		var events []event.Event
		for i, m := range keys {
			delete(stored, m) // of an attempt before
			found, err := s.db.addOne(ctx, tx, m, args[columns*i:columns*(i+1)])
			if err != nil {
				return err
			}
			if found != nil {
				events = append(events, s.record.OfMemberships(found.membership())...)
				stored[m] = found
			}
		}
		return s.db.putEvents(ctx, tx, events)
	})
}

// addOne adds one membership, and returns it if it is new.
func (d *database) addOne(ctx context.Context, tx bun.Tx, m member, args []any) (*memberRow, error) {
	text := d.dialect.addMembers(1)
	if d.dialect.addReturns {
		rows, err := tx.QueryContext(ctx, text, args...)
		if err != nil {
			return nil, err
		}
		defer func() { _ = rows.Close() }() // the loop's way out; the error of the usual one is below
		var found *memberRow
		for rows.Next() {
			found = new(memberRow)
			if err := found.scan(rows.Scan); err != nil {
				return nil, err
			}
		}
		return found, errors.Join(rows.Err(), rows.Close())
	}
	res, err := tx.ExecContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return nil, err
	}
	found := &memberRow{UserID: m.user, Room: m.room}
	return found, tx.NewSelect().Model(found).WherePK().Scan(ctx)
}

// markUnknown lets it count from now on how far members have read of whom that was not known.
func (s *Members) markUnknown(ctx context.Context, stored map[member]*memberRow) error {
	var unknown []chat.Mark
	for m, row := range stored {
		if !row.ReadSeq.Valid {
			unknown = append(unknown, chat.Mark{Room: m.room, User: chat.Author{ID: user.ID(m.user)}})
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	marked, err := s.Mark(ctx, unknown)
	for i, m := range marked { // who is no member any more has read nothing
		stored[member{string(unknown[i].User.ID), unknown[i].Room}].ReadSeq.Int64 = int64(m.Read)
	}
	return err
}

// memberSizes are for how many memberships statements are prepared: most batches are one that is parsed already.
var memberSizes = insertSizes

// Remove implements chat.Members.
func (s *Members) Remove(ctx context.Context, room string, id user.ID) error {
	if !storable(room, string(id)) {
		return nil
	}
	return s.db.transact(ctx, "remove member", func(ctx context.Context, tx bun.Tx) error {
		res, err := tx.NewDelete().Model(&memberRow{UserID: string(id), Room: room}).WherePK().Exec(ctx)
		if err != nil || s.record.Membership == nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return s.db.putEvents(ctx, tx, s.record.OfMemberships(chat.Membership{Room: room, UserID: id}))
	})
}

// Has implements chat.Members.
func (s *Members) Has(ctx context.Context, room string, id user.ID) (bool, error) {
	if !storable(room, string(id)) {
		return false, nil
	}
	var since int64
	switch err := s.db.reads.one(ctx, "SELECT since FROM parley_members WHERE user_id = ? AND room = ?", []any{string(id), room}, &since); {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	default:
		return err == nil, s.db.fail(ctx, "read member", err)
	}
}

// roomsOf is what RoomsOf runs.
var roomsOf = "SELECT room, since, " + readNow("parley_members") + ", role FROM parley_members WHERE user_id = ? AND room > ? ORDER BY room LIMIT ?"

// readNow is how far a member has read: see readMarks.
func readNow(table string) string {
	return "COALESCE(" + table + ".read_seq, (SELECT last FROM parley_room_seqs WHERE parley_room_seqs.room = " + table + ".room), 0)"
}

// RoomsOf implements chat.Members.
func (s *Members) RoomsOf(ctx context.Context, id user.ID, after string, limit int) ([]chat.Membership, error) {
	if !storable(string(id), after) {
		return nil, errText
	}
	memberships := []chat.Membership{}
	if limit < 1 {
		return memberships, nil
	}
	err := s.db.reads.query(ctx, roomsOf, []any{string(id), after, int64(limit)}, func(scan func(...any) error) error {
		row := memberRow{UserID: string(id)}
		err := scan(&row.Room, &row.Since, &row.ReadSeq, &row.Role)
		memberships = append(memberships, row.membership())
		return err
	})
	if err != nil {
		return nil, s.db.fail(ctx, "list memberships", err)
	}
	return memberships, nil
}
