package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

var _ chat.Marks = (*Members)(nil)

// Mark implements chat.Marks. A batch is one transaction of up to three statements for every 64 members: one locks their rows and reads them, one
// writes those that have moved, and one counts what is unread of those who have not read all. It takes no lock of a room.
func (s *Members) Mark(ctx context.Context, marks []chat.Mark) ([]chat.Marked, error) {
	if len(marks) == 0 {
		return []chat.Marked{}, nil
	}
	const op = "mark"
	prepared, err := s.db.marking.get(ctx, s.db)
	if err != nil {
		return nil, s.db.fail(ctx, op, err)
	}
	var answers []chat.Marked
	err = s.db.transactLocked(ctx, op, func(ctx context.Context, tx bun.Tx) error {
		m := &marking{tx: tx, prepared: prepared, asked: marks}
		err := m.run(ctx)
		answers = m.answers
		return err
	})
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// marking is one Mark under way, in one attempt.
type marking struct {
	tx       bun.Tx
	prepared *preparedMarks
	asked    []chat.Mark

	keys    []member // of what is asked, each once, in their order
	members map[member]*reader
	answers []chat.Marked
}

// reader is a member during one Mark.
type reader struct {
	stored sql.NullInt64
	read   uint64 // now
	last   uint64 // of the room
}

func (m *marking) run(ctx context.Context) error {
	for _, do := range []func(context.Context) error{m.lock, m.apply, m.write, m.count} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (m *marking) key(i int) member { return member{string(m.asked[i].User.ID), m.asked[i].Room} }

// lock keeps others from moving the marks, and reads how far they are.
func (m *marking) lock(ctx context.Context) error {
	for i := range m.asked {
		if key := m.key(i); storable(key.user, key.room) {
			m.keys = append(m.keys, key)
		}
	}
	slices.SortFunc(m.keys, member.compare)
	m.keys = slices.Compact(m.keys)
	args := make([]any, 0, 2*(len(m.keys)+insertSizes[0]))
	for _, key := range m.keys {
		args = append(args, key.user, key.room)
	}
	m.members = make(map[member]*reader, len(m.keys))
	return m.prepared.lock.query(ctx, m.tx, 2, pad(args, "", ""), func(scan func(...any) error) error {
		var key member
		var last sql.NullInt64 // NULL if nothing was ever sent
		r := new(reader)
		err := scan(&key.user, &key.room, &r.stored, &last)
		r.last = uint64(last.Int64)
		r.read = readOf(r.stored, last.Int64)
		m.members[key] = r
		return err
	})
}

// readOf is how far a member has read a room: see readMarks.
func readOf(stored sql.NullInt64, last int64) uint64 {
	if stored.Valid {
		return uint64(stored.Int64)
	}
	return uint64(last)
}

// apply makes the answers, but for what is unread, in the order of the marks.
func (m *marking) apply(context.Context) error {
	m.answers = make([]chat.Marked, len(m.asked))
	for i := range m.asked {
		r := m.members[m.key(i)]
		if r == nil {
			m.answers[i].Err = chat.ErrNotMember
			continue
		}
		read := max(r.read, min(m.asked[i].Read, r.last))
		m.answers[i] = chat.Marked{Read: read, Moved: read > r.read}
		r.read = read
	}
	return nil
}

// write stores how far members have read at last.
func (m *marking) write(ctx context.Context) error {
	var args []any
	for _, key := range m.keys {
		if r := m.members[key]; r != nil && (!r.stored.Valid || uint64(r.stored.Int64) != r.read) {
			args = append(args, int64(r.read), key.user, key.room)
		}
	}
	return m.prepared.move.exec(ctx, m.tx, 3, pad(args, int64(0), "", ""))
}

// behind is a place in a room, behind which messages are counted.
type behind struct {
	room string
	read uint64
}

// count completes the answers.
func (m *marking) count(ctx context.Context) error {
	unread := make(map[behind]uint64)
	var args []any
	for i, a := range m.answers {
		at := behind{m.asked[i].Room, a.Read}
		if _, known := unread[at]; known || a.Err != nil || a.Read >= m.members[m.key(i)].last {
			continue
		}
		unread[at] = 0
		args = append(args, at.room, int64(at.read))
	}
	err := m.prepared.unread.query(ctx, m.tx, 2, pad(args, "", int64(0)), func(scan func(...any) error) error {
		var room string
		var read, last, deleted int64
		var lowest sql.NullInt64
		if err := scan(&room, &read, &last, &lowest, &deleted); err != nil {
			return err
		}
		unread[behind{room, uint64(read)}] = unreadOf(read, last, lowest, deleted)
		return nil
	})
	for i, a := range m.answers {
		if a.Err == nil {
			m.answers[i].Unread = unread[behind{m.asked[i].Room, a.Read}]
		}
	}
	return err
}

// unreadOf counts the messages behind read that are stored and not deleted. lowest is the lowest that is stored, if there is any, and deleted how
// many of them are deleted.
func unreadOf(read, last int64, lowest sql.NullInt64, deleted int64) uint64 {
	if !lowest.Valid {
		return 0
	}
	return uint64(max(last-max(read, lowest.Int64-1)-deleted, 0))
}

// lowestOf reads the lowest sequence that is stored of a room.
func (d *dialect) lowestOf(room string) string {
	return "(SELECT seq FROM " + d.byIndex("parley_messages", "PRIMARY") + " WHERE parley_messages.room_id = " + room + " ORDER BY seq LIMIT 1)"
}

// lastOf reads a column of the last message that is stored of a room.
func (d *dialect) lastOf(column, room string) string {
	return "(SELECT " + column + " FROM " + d.byIndex("parley_messages", "PRIMARY") + " WHERE parley_messages.room_id = " + room + " ORDER BY seq DESC LIMIT 1)"
}

// deletedOf counts the deleted messages of a room behind a place, among those that are stored.
func (d *dialect) deletedOf(room, read, lowest string) string {
	return "(SELECT COUNT(*) FROM parley_deletions WHERE parley_deletions.room_id = " + room +
		" AND parley_deletions.seq > " + d.greatest + "(" + read + ", " + lowest + " - 1))"
}

// mine is what Mine runs. It looks at the last message of each room of the user, and at more of those that it returns.
func (d *dialect) mine() string {
	return "SELECT mine.room, mine.since, mine.read_seq, mine.role, mine.active, mine.last, mine.changes, mine.lowest, " +
		d.deletedOf("mine.counter", "COALESCE(mine.read_seq, mine.last)", "mine.lowest") + ", " +
		// A room may have no message.
		"COALESCE(parley_messages.seq, 0), COALESCE(id, ''), client_id, COALESCE(author_id, ''), COALESCE(author_name, ''), COALESCE(text, ''), COALESCE(at, 0), " +
		"reply_to, data, parley_messages.rev, edited_at, deleted_at, reactions " +
		"FROM (SELECT page.*, " + d.lowestOf("page.counter") + " AS lowest, " + d.lastOf("seq", "page.counter") + " AS highest FROM (" +
		"SELECT * FROM (" +
		"SELECT parley_members.room, since, read_seq, role, parley_room_seqs.id AS counter, last, rev AS changes, " + d.greatest + "(since, COALESCE(" +
		d.lastOf("at", "parley_room_seqs.id") + ", since)) AS active " +
		"FROM parley_members " + d.findOne("parley_room_seqs", "room", "parley_room_seqs.room = parley_members.room") + " WHERE user_id = ? AND " +
		"(SELECT parley_rooms.deleted_at FROM parley_rooms WHERE parley_rooms.name = parley_members.room) IS NULL " + d.whole +
		") AS every_room WHERE active < ? OR active = ? AND room > ? ORDER BY active DESC, room LIMIT ?" +
		") AS page " + d.whole + ") AS mine " +
		d.findOne("parley_messages", "PRIMARY", "parley_messages.room_id = mine.counter AND parley_messages.seq = mine.highest") +
		" ORDER BY mine.active DESC, mine.room"
}

// Mine implements chat.Marks by one statement.
func (s *Members) Mine(ctx context.Context, id user.ID, behind chat.Place, limit int) ([]chat.MyRoom, error) {
	if !storable(string(id), behind.Room) {
		return nil, errText
	}
	rooms := []chat.MyRoom{}
	if limit < 1 {
		return rooms, nil
	}
	before := int64(math.MaxInt64)
	if behind != (chat.Place{}) {
		before = micros(behind.Active)
	}
	args := []any{string(id), before, before, behind.Room, int64(limit)}
	err := s.db.reads.query(ctx, s.db.mine, args, func(scan func(...any) error) error {
		r := chat.MyRoom{Membership: chat.Membership{UserID: id}}
		var since, active, deleted int64
		var read, last, rev, lowest sql.NullInt64
		var role sql.NullString
		var row messageRow
		err := row.scan(func(to ...any) error {
			return scan(append([]any{&r.Room, &since, &read, &role, &active, &last, &rev, &lowest, &deleted}, to...)...)
		})
		if err != nil {
			return err
		}
		r.Since, r.Active, r.Seq, r.Rev = instant(since), instant(active), uint64(last.Int64), uint64(rev.Int64)
		r.Read, r.Role = readOf(read, last.Int64), roleOf(role)
		r.Unread = unreadOf(int64(r.Read), last.Int64, lowest, deleted)
		if row.Seq > 0 {
			r.Last, err = row.message(r.Room)
		}
		rooms = append(rooms, r)
		return err
	})
	if err != nil {
		return nil, s.db.fail(ctx, "list rooms of a member", err)
	}
	return rooms, nil
}

// preparedMarks are the statements of Mark, and the one of Add that writes.
type preparedMarks struct{ add, lock, move, unread sized }

// markTexts are the texts of the statements for n rows, with question marks.
func (d *dialect) markTexts(n int) [4]string {
	return [...]string{
		d.addMembers(n),
		"SELECT found.user_id, found.room, found.read_seq, (SELECT last FROM parley_room_seqs WHERE parley_room_seqs.room = found.room) FROM " +
			d.find("parley_members", "PRIMARY", memberKey, memberKey, n, true) + d.lockEnd,
		d.moveRead(n),
		"SELECT given.room, given.read_seq, found.last, " + d.lowestOf("found.id") + ", " + d.deletedOf("found.id", "given.read_seq", d.lowestOf("found.id")) +
			" FROM " + d.find("parley_room_seqs", "room", memberRead[2:], []column{memberRead[2], memberRead[0]}, n, false),
	}
}

// readMembers reads memberFields of so many members.
func (d *dialect) readMembers(n int) string {
	if n == 1 {
		return "SELECT " + memberFields + " FROM parley_members WHERE user_id = ? AND room = ?"
	}
	return "SELECT " + each(strings.Split(memberFields, ", "), "found.%s", ", ") + " FROM " + d.find("parley_members", "PRIMARY", memberKey, memberKey, n, false)
}

// prepareMarks does not go through Bun, as prepare.
//
//nolint:sqlclosecheck // preparedMarks.close closes them
func prepareMarks(ctx context.Context, db *database) (p *preparedMarks, err error) {
	p = new(preparedMarks)
	for size, n := range insertSizes {
		texts := db.dialect.markTexts(n)
		for i, of := range p.all() {
			if of[size], err = db.write.DB.PrepareContext(ctx, db.dialect.placeholders(texts[i])); err != nil {
				return p, err
			}
		}
	}
	return p, nil
}

// all is in the order of markTexts.
func (p *preparedMarks) all() [4]*sized { return [...]*sized{&p.add, &p.lock, &p.move, &p.unread} }

func (p *preparedMarks) close() error {
	var errs []error
	for _, of := range p.all() {
		for _, stmt := range of {
			if stmt != nil {
				errs = append(errs, stmt.Close())
			}
		}
	}
	return errors.Join(errs...)
}

// pad adds rows that match nothing until all fill statements of insertSizes, and few of them.
func pad(args []any, nobody ...any) []any {
	if rest := len(args) / len(nobody) % insertSizes[0]; rest > 0 {
		for range fit(rest, insertSizes[:]) - rest {
			args = append(args, nobody...)
		}
	}
	return args
}
