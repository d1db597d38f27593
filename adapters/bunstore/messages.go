package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/uptrace/bun"

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

type messageRow struct {
	bun.BaseModel `bun:"table:parley_messages"`

	RoomID     int64  `bun:"room_id,pk"`
	Seq        int64  `bun:"seq,pk"`
	ID         string `bun:"id"`
	ClientID   string `bun:"client_id,nullzero"`
	AuthorID   string `bun:"author_id"`
	AuthorName string `bun:"author_name"`
	Text       string `bun:"text"`
	At         int64  `bun:"at"`
	ReplyTo    int64  `bun:"reply_to,nullzero"`
	Data       string `bun:"data,nullzero"`
	Rev        int64  `bun:"rev,nullzero"`
	EditedAt   *int64 `bun:"edited_at"`
	DeletedAt  *int64 `bun:"deleted_at"`
	Reactions  string `bun:"reactions,nullzero"`
}

func (r *messageRow) message(room string) (chat.Message, error) {
	m := chat.Message{
		Room: room, Seq: uint64(r.Seq), ID: r.ID, ClientID: r.ClientID,
		Author: chat.Author{ID: user.ID(r.AuthorID), Name: r.AuthorName}, Text: r.Text, At: instant(r.At),
		ReplyTo: uint64(r.ReplyTo), Data: r.Data, Rev: uint64(r.Rev), EditedAt: optionalInstant(r.EditedAt), DeletedAt: optionalInstant(r.DeletedAt),
	}
	if r.DeletedAt != nil {
		m.Text = "" // erasedText stands there
	}
	if r.Reactions == "" {
		return m, nil
	}
	var err error
	m.Reactions, err = reactionsFrom(r.Reactions)
	return m, err
}

// messageFields are what is read of a message, in the order in which scan takes it. A join with parley_changes has two seq and rev.
const messageFields = "parley_messages.seq, id, client_id, author_id, author_name, text, at, reply_to, data, " +
	"parley_messages.rev, edited_at, deleted_at, reactions"

// scan reads messageFields.
func (r *messageRow) scan(scan func(...any) error) error {
	var client, data, reactions sql.NullString
	var replyTo, rev sql.NullInt64
	err := scan(&r.Seq, &r.ID, &client, &r.AuthorID, &r.AuthorName, &r.Text, &r.At, &replyTo, &data, &rev, &r.EditedAt, &r.DeletedAt, &reactions)
	r.ClientID, r.ReplyTo, r.Data, r.Rev, r.Reactions = client.String, replyTo.Int64, data.String, rev.Int64, reactions.String
	return err
}

// clientKey is what makes two messages of a room the same one.
type clientKey struct {
	room, author, client string
}

func keyOf(m chat.Message) clientKey { return clientKey{m.Room, string(m.Author.ID), m.ClientID} }

// counter is a room's counter during one Append.
type counter struct {
	id   int64
	next int64 // the number that the next new message gets
	add  int64 // how many numbers are still to be reserved
}

// batch is one Append under way.
type batch struct {
	messages []chat.Message
	answers  []chat.Stored
	// repeats[i] is the index of the earlier message that message i repeats, or -1.
	repeats []int
	rooms   []string // each once, ascending, so that two writers lock rows in one order
	// more says that a message has what most have not: ReplyTo or Data.
	more bool
}

// errMore refuses what no column holds. The columns have no constraint: to add one, a database would read the whole table,
// and keep writers out meanwhile.
var errMore = fault.New(fault.Invalid, "value_out_of_bounds", "a value is too long or too large to be stored")

func newBatch(messages []chat.Message) (*batch, error) {
	b := &batch{messages: messages, answers: make([]chat.Stored, len(messages)), repeats: make([]int, len(messages))}
	first := make(map[clientKey]int)
	for i, m := range messages {
		if !storable(m.Room, m.ID, m.ClientID, string(m.Author.ID), m.Author.Name, m.Text) {
			return nil, errText
		}
		if m.ReplyTo != 0 || m.Data != "" {
			switch {
			case !storable(m.Data):
				return nil, errText
			case m.ReplyTo > math.MaxInt64 || len(m.Data) > chat.MaxData:
				return nil, errMore
			}
			b.more = true
		}
		b.repeats[i] = -1
		if m.ClientID != "" {
			if j, ok := first[keyOf(m)]; ok {
				b.repeats[i] = j
				continue
			}
			first[keyOf(m)] = i
		}
		if len(b.rooms) == 0 || b.rooms[len(b.rooms)-1] != m.Room {
			b.rooms = append(b.rooms, m.Room)
		}
	}
	slices.Sort(b.rooms)
	b.rooms = slices.Compact(b.rooms)
	return b, nil
}

// Append implements chat.MessageStore. A batch is one transaction: a statement for every
// 16 rooms (two on MySQL), one for every 64 messages, or a few more, and one for every 64 who send. With [OpenPostgres] it is one statement. It first
// assumes that nothing is stored already. When the unique index objects, it starts again and looks first, in a transaction.
func (s *Messages) Append(ctx context.Context, messages []chat.Message) ([]chat.Stored, error) {
	if len(messages) == 0 {
		return []chat.Stored{}, nil
	}
	b, err := newBatch(messages)
	if err != nil {
		return nil, err
	}
	const op = "append messages"
	// Prepared before the transaction takes what may be the only connection.
	prepared, err := s.db.statements.get(ctx, s.db)
	if err != nil {
		return nil, s.db.fail(ctx, op, err)
	}
	look := false
	store := func(ctx context.Context, tx bun.Tx) error { return s.store(ctx, tx, prepared, b, look) }
	if once := prepared.onceFor(b); once != nil && s.record == nil {
		err = s.db.single(ctx, op, func(ctx context.Context) error { return s.storeOnce(ctx, once, b) })
	} else {
		err = s.db.transact(ctx, op, store)
	}
	if errors.Is(err, fault.Conflict) {
		look = true
		err = s.db.transact(ctx, op, store)
	}
	if err != nil {
		return nil, err
	}
	for i, j := range b.repeats {
		if j >= 0 {
			b.answers[i] = chat.Stored{Message: b.answers[j].Message, Repeated: true}
		}
	}
	return b.answers, nil
}

// store is the body of Append's transaction. It may run twice for one batch.
func (s *Messages) store(ctx context.Context, tx bun.Tx, prepared *prepared, b *batch, look bool) error {
	counters := make(map[string]*counter, len(b.rooms))
	for _, room := range b.rooms {
		counters[room] = new(counter)
	}
	var stored map[clientKey]chat.Message
	if look {
		// Adding nothing tells the rooms' ids and keeps other writers out.
		if err := prepared.reserveFor(ctx, tx, b.rooms, counters); err != nil {
			return err
		}
		var err error
		if stored, err = s.lookUp(ctx, tx, b, counters); err != nil {
			return err
		}
	}
	fresh := make([]int, 0, len(b.messages))
	for i, m := range b.messages {
		if b.repeats[i] >= 0 {
			continue
		}
		if old, ok := stored[keyOf(m)]; ok {
			b.answers[i] = chat.Stored{Message: old, Repeated: true}
			continue
		}
		counters[m.Room].add++
		fresh = append(fresh, i)
	}
	growing := slices.DeleteFunc(slices.Clone(b.rooms), func(room string) bool { return counters[room].add == 0 })
	if err := prepared.reserveFor(ctx, tx, growing, counters); err != nil {
		return err
	}

	columns, insert := len(insertColumns), &prepared.insert
	if b.more {
		columns, insert = columns+len(moreColumns), &prepared.insertMore
	}
	args := make([]any, 0, columns*len(fresh))
	for _, i := range fresh {
		m := b.number(i, counters)
		c := counters[m.Room]
		var client any // NULL where there is none
		if m.ClientID != "" {
			client = m.ClientID
		}
		args = append(args, c.id, int64(m.Seq), m.ID, client, string(m.Author.ID), m.Author.Name, m.Text, micros(m.At))
		if b.more {
			var replyTo, data any // NULL where there is none
			if m.ReplyTo != 0 {
				replyTo = int64(m.ReplyTo)
			}
			if m.Data != "" {
				data = m.Data
			}
			args = append(args, replyTo, data)
		}
	}
	if err := insert.exec(ctx, tx, columns, args); err != nil {
		return err
	}
	if err := prepared.move.exec(ctx, tx, 3, pad(b.senders(fresh), int64(0), "", "")); err != nil || s.record == nil {
		return err
	}
	return s.recordStored(ctx, tx, b, fresh)
}

// senders are who has sent the messages, and how far they have read the rooms by that.
func (b *batch) senders(fresh []int) []any {
	if len(fresh) == 1 {
		m := &b.answers[fresh[0]].Message
		return []any{int64(m.Seq), string(m.Author.ID), m.Room}
	}
	read := make(map[member]int64, len(b.rooms))
	for _, i := range fresh {
		m := &b.answers[i].Message
		read[member{string(m.Author.ID), m.Room}] = int64(m.Seq) // ascending in each room
	}
	args := make([]any, 0, 3*(len(read)+fit(len(read), insertSizes[:])))
	for _, m := range slices.SortedFunc(maps.Keys(read), member.compare) {
		args = append(args, read[m], m.user, m.room)
	}
	return args
}

// number gives a new message the next number of its room, and answers with it.
func (b *batch) number(i int, counters map[string]*counter) chat.Message {
	m := b.messages[i]
	c := counters[m.Room]
	m.Seq, m.At = uint64(c.next), instant(micros(m.At))
	c.next++
	b.answers[i] = chat.Stored{Message: m}
	return m
}

// storeOnce stores the batch with one statement, which numbers the messages of each room in their order.
func (s *Messages) storeOnce(ctx context.Context, stmt *sql.Stmt, b *batch) error {
	counters := make(map[string]*counter, len(b.rooms))
	for _, room := range b.rooms {
		counters[room] = new(counter)
	}
	n := len(b.messages)
	room, id, client, author, name, text, at := make([]string, 0, n), make([]string, 0, n), make([]string, 0, n),
		make([]string, 0, n), make([]string, 0, n), make([]string, 0, n), make([]int64, 0, n)
	for i := range b.messages {
		if b.repeats[i] >= 0 {
			continue
		}
		m := &b.messages[i]
		counters[m.Room].add++
		room, id, client, author = append(room, m.Room), append(id, m.ID), append(client, m.ClientID), append(author, string(m.Author.ID))
		name, text, at = append(name, m.Author.Name), append(text, m.Text), append(at, micros(m.At))
	}
	args := []any{room, id, client, author, name, text, at}
	if b.more {
		replyTo, data := make([]int64, 0, n), make([]string, 0, n)
		for i := range b.messages {
			if b.repeats[i] < 0 {
				replyTo, data = append(replyTo, int64(b.messages[i].ReplyTo)), append(data, b.messages[i].Data)
			}
		}
		args = append(args, replyTo, data)
	}
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // the loop's way out; the error of the usual one is below
	for rows.Next() {
		var name string
		var last int64
		if err := rows.Scan(&name, &last); err != nil {
			return err
		}
		c := counters[name]
		c.next = last - c.add + 1
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for i := range b.messages {
		if b.repeats[i] < 0 {
			b.number(i, counters)
		}
	}
	return nil
}

// lookUp returns the messages of the batch that are stored already. An empty client id is never stored.
func (s *Messages) lookUp(ctx context.Context, tx bun.Tx, b *batch, counters map[string]*counter) (map[clientKey]chat.Message, error) {
	rooms := make(map[int64]string, len(counters))
	for room, c := range counters {
		rooms[c.id] = room
	}
	stored := make(map[clientKey]chat.Message)
	// The parts are small because each term is a search of its own in the unique index.
	for part := range slices.Chunk(b.messages, 100) {
		var rows []messageRow
		named := false
		q := tx.NewSelect().Model(&rows)
		for _, m := range part {
			if m.ClientID != "" {
				named = true
				q = q.WhereOr("room_id = ? AND author_id = ? AND client_id = ?", counters[m.Room].id, string(m.Author.ID), m.ClientID)
			}
		}
		if !named {
			continue
		}
		if err := q.Scan(ctx); err != nil {
			return nil, err
		}
		for i := range rows {
			m, err := rows[i].message(rooms[rows[i].RoomID])
			if err != nil {
				return nil, err
			}
			stored[keyOf(m)] = m
		}
	}
	return stored, nil
}

// What List runs. No sequence reaches the largest number that the databases know.
const (
	listMessages = "SELECT " + messageFields + " FROM parley_messages " +
		"WHERE room_id = (SELECT id FROM parley_room_seqs WHERE room = ?) AND seq > ? AND seq < ? "
	listOldest = listMessages + "ORDER BY seq LIMIT ?"
	listNewest = listMessages + "ORDER BY seq DESC LIMIT ?"
)

// listChanged is what List runs for those that were changed. A message stands in parley_changes once.
func (d *dialect) listChanged() string {
	return "SELECT " + messageFields + " FROM parley_changes " + d.inOrder + " parley_messages " +
		"ON parley_messages.room_id = parley_changes.room_id AND parley_messages.seq = parley_changes.seq " +
		"WHERE parley_changes.room_id = (SELECT id FROM parley_room_seqs WHERE room = ?) AND parley_changes.rev > ? AND parley_changes.rev < ? " +
		"AND parley_changes.seq <= ? ORDER BY parley_changes.rev LIMIT ?"
}

// List implements chat.MessageStore.
func (s *Messages) List(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
	if r.Limit < 1 {
		return nil, errLimit.Detail("it is %d, and must be at least 1", r.Limit)
	}
	if !storable(room) {
		return []chat.Message{}, nil
	}
	args := []any{room, clamp(r.After), bound(r.Before)}
	var text string
	switch {
	case r.Changed:
		text, args = s.db.dialect.listChanged(), append(args, bound(r.UpTo))
	case r.Newest:
		text = listNewest
	default:
		text = listOldest
	}
	messages := []chat.Message{}
	err := s.db.reads.query(ctx, text, append(args, int64(r.Limit)), func(scan func(...any) error) error {
		var row messageRow
		if err := row.scan(scan); err != nil {
			return err
		}
		m, err := row.message(room)
		messages = append(messages, m)
		return err
	})
	if err != nil {
		return nil, s.db.fail(ctx, "list messages", err)
	}
	if r.Newest && !r.Changed {
		slices.Reverse(messages)
	}
	return messages, nil
}

// clamp makes a sequence number one that the database can compare with.
func clamp(seq uint64) int64 { return int64(min(seq, math.MaxInt64)) }

// bound is clamp of a bound that is none if it is 0.
func bound(seq uint64) int64 {
	if seq == 0 {
		return math.MaxInt64
	}
	return clamp(seq)
}

// bounds is what Bounds runs.
func (d *dialect) bounds() string {
	return "SELECT last, rev, " + d.lowestOf("parley_room_seqs.id") + " FROM parley_room_seqs WHERE room = ?"
}

// Bounds implements chat.MessageStore. It reads two entries of two indexes.
func (s *Messages) Bounds(ctx context.Context, room string) (chat.Bounds, error) {
	none := chat.Bounds{First: 1}
	if !storable(room) {
		return none, nil
	}
	var lowest sql.NullInt64
	var highest, rev int64
	err := s.db.reads.one(ctx, s.db.bounds, []any{room}, &highest, &rev, &lowest)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return none, nil
	case err != nil:
		return chat.Bounds{}, s.db.fail(ctx, "read bounds", err)
	case !lowest.Valid:
		return chat.Bounds{First: uint64(highest) + 1, Last: uint64(highest), Rev: uint64(rev)}, nil
	}
	return chat.Bounds{First: uint64(lowest.Int64), Last: uint64(highest), Rev: uint64(rev)}, nil
}

// Statements are prepared for these numbers of rows, so that a batch of any size is a few
// statements that are parsed already.
var (
	insertSizes  = [...]int{64, 16, 4, 1}
	reserveSizes = [...]int{16, 4, 1}
)

// inSizes cuts n rows into parts of the sizes, which end with 1. do gets the size's index,
// where the part starts, and its size.
func inSizes(n int, sizes []int, do func(size, from, n int) error) error {
	from := 0
	for i, size := range sizes {
		for ; n-from >= size; from += size {
			if err := do(i, from, size); err != nil {
				return err
			}
		}
	}
	return nil
}

// prepared are Append's statements.
type prepared struct {
	// insert is for messages that have what all have, insertMore for those of which some have more.
	insert, insertMore sized
	// move moves how far those who send have read.
	move    sized
	reserve [len(reserveSizes)]*sql.Stmt
	// reserved reads what reserve has reserved, on an engine that does not say it at once.
	// Elsewhere it is nil.
	reserved [len(reserveSizes)]*sql.Stmt
	// once and onceMore do it all, where the driver is known to take arrays. Elsewhere they are nil.
	once, onceMore *sql.Stmt
}

// onceFor returns the one statement that stores a batch, or nil.
func (p *prepared) onceFor(b *batch) *sql.Stmt {
	if b.more {
		return p.onceMore
	}
	return p.once
}

// Columns of an insert: those that every message has, and those that few have.
var (
	insertColumns = [...]string{"room_id", "seq", "id", "client_id", "author_id", "author_name", "text", "at"}
	moreColumns   = [...]string{"reply_to", "data"}
)

func (d *dialect) insertMessages(rows int, columns ...string) string {
	return "INSERT INTO parley_messages (" + strings.Join(columns, ", ") + ") VALUES " + d.rows(rows, len(columns))
}

// statements prepares when it is first asked, since the tables must exist.
type statements[T interface{ close() error }] struct {
	prepare func(ctx context.Context, db *database) (T, error) // on an error it returns what it has prepared so far
	turn    chan struct{}                                      // holds a token while somebody uses the rest
	ready   *T
	closed  bool
}

func newStatements[T interface{ close() error }](prepare func(context.Context, *database) (T, error)) *statements[T] {
	return &statements[T]{prepare: prepare, turn: make(chan struct{}, 1)}
}

func (s *statements[T]) get(ctx context.Context, db *database) (p T, err error) {
	// No mutex: the server may leave the one who prepares without an answer, for as long as its context lasts.
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return p, ctx.Err()
	}
	if s.closed {
		return p, sql.ErrConnDone
	}
	if s.ready != nil {
		return *s.ready, nil
	}
	if p, err = s.prepare(ctx, db); err != nil {
		return p, errors.Join(err, p.close())
	}
	s.ready = &p
	return p, nil
}

func (s *statements[T]) close() error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.closed = true
	if s.ready == nil {
		return nil
	}
	return (*s.ready).close()
}

// prepare does not go through Bun, which would write the values into the text: SQL would be
// parsed for every batch. On an error it returns what it has prepared so far, for close.
//
//nolint:sqlclosecheck // prepared.close closes them
func prepare(ctx context.Context, db *database) (p *prepared, err error) {
	p = new(prepared)
	if db.pool != nil && db.dialect.once != "" {
		if p.once, err = db.write.DB.PrepareContext(ctx, db.dialect.once); err != nil {
			return p, err
		}
		if p.onceMore, err = db.write.DB.PrepareContext(ctx, db.dialect.onceMore); err != nil {
			return p, err
		}
	}
	for i, n := range insertSizes {
		if p.insertMore[i], err = db.write.DB.PrepareContext(ctx, db.dialect.insertMessages(n, slices.Concat(insertColumns[:], moreColumns[:])...)); err != nil {
			return p, err
		}
		if p.insert[i], err = db.write.DB.PrepareContext(ctx, db.dialect.insertMessages(n, insertColumns[:]...)); err != nil {
			return p, err
		}
		if p.move[i], err = db.write.DB.PrepareContext(ctx, db.dialect.placeholders(db.dialect.moveRead(n))); err != nil {
			return p, err
		}
	}
	for i, n := range reserveSizes {
		if p.reserve[i], err = db.write.DB.PrepareContext(ctx, db.dialect.reserve(n)); err != nil {
			return p, err
		}
		if db.dialect.reserved == nil {
			continue
		}
		if p.reserved[i], err = db.write.DB.PrepareContext(ctx, db.dialect.reserved(n)); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (p *prepared) close() error {
	var errs []error
	for _, stmt := range slices.Concat(p.insert[:], p.insertMore[:], p.move[:], p.reserve[:], p.reserved[:], []*sql.Stmt{p.once, p.onceMore}) {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	return errors.Join(errs...)
}

// reserveFor adds to the counters of the rooms and reads them.
func (p *prepared) reserveFor(ctx context.Context, tx bun.Tx, rooms []string, counters map[string]*counter) error {
	const columns = 2
	args := make([]any, 0, columns*len(rooms))
	for _, room := range rooms {
		args = append(args, room, counters[room].add)
	}
	return inSizes(len(rooms), reserveSizes[:], func(size, from, n int) error {
		stmt, args := p.reserve[size], args[columns*from:columns*(from+n)]
		if p.reserved[size] != nil {
			if _, err := tx.StmtContext(ctx, stmt).ExecContext(ctx, args...); err != nil { //nolint:sqlclosecheck // the transaction's end closes it
				return err
			}
			stmt, args = p.reserved[size], anys(rooms[from:from+n])
		}
		rows, err := tx.StmtContext(ctx, stmt).QueryContext(ctx, args...) //nolint:sqlclosecheck // as above
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }() // the loop's way out; the error of the usual one is below
		for rows.Next() {
			var id, last int64
			var room string
			if err := rows.Scan(&id, &room, &last); err != nil {
				return err
			}
			c := counters[room]
			c.id, c.next, c.add = id, last-c.add+1, 0
		}
		return errors.Join(rows.Err(), rows.Close())
	})
}

func anys(texts []string) []any {
	all := make([]any, len(texts))
	for i, s := range texts {
		all[i] = s
	}
	return all
}
