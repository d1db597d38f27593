package bunstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// erasedText stands for the text of a deleted message: the schema wants a character. No text that [chat.CheckText] lets through is a space.
const erasedText = " "

// maxUserID is the longest id of a user in parley_reactions, in characters.
const maxUserID = 128

// reactionJSON is a chat.Reaction as it stands in parley_messages.
type reactionJSON struct {
	Key   string    `json:"k"`
	Count int       `json:"n"`
	Users []user.ID `json:"u"`
}

func reactionsFrom(text string) ([]chat.Reaction, error) {
	var stored []reactionJSON
	if err := json.Unmarshal([]byte(text), &stored); err != nil {
		return nil, fmt.Errorf("the reactions of a message: %w", err)
	}
	all := make([]chat.Reaction, len(stored))
	for i, r := range stored {
		all[i] = chat.Reaction(r)
	}
	return all, nil
}

// reactionsText is NULL where there are none.
func reactionsText(all []chat.Reaction) (any, error) {
	if len(all) == 0 {
		return nil, nil
	}
	stored := make([]reactionJSON, len(all))
	for i, r := range all {
		stored[i] = reactionJSON(r)
	}
	text, err := json.Marshal(stored)
	return string(text), err
}

// errUnstorable refuses a change with what no column holds.
func errUnstorable(c *chat.Change) error {
	if err := c.Check(); err != nil {
		return err
	}
	reacts := c.Kind == chat.React || c.Kind == chat.Unreact
	switch {
	case c.Kind == chat.Edit && !storable(c.Data), reacts && !storable(string(c.By.ID)):
		return errText
	case reacts && utf8.RuneCountInString(string(c.By.ID)) > maxUserID:
		return errMore
	}
	return nil
}

// place is where a message stands.
type place struct {
	room int64 // the counter's id
	seq  int64
}

// mark is one user's reaction to one message.
type mark struct {
	place
	reaction, by string
}

// changeable is a message during one Change.
type changeable struct {
	place
	message chat.Message
	was     uint64 // its Rev before
	deleted bool   // it was before
	erased  bool   // it is now, and was not
}

func (m *changeable) changed() bool { return m.message.Rev != m.was }

// roomRev is the counter of a room's changes during one Change.
type roomRev struct {
	id       int64
	rev, was uint64
}

// changing is one Change under way, in one attempt.
type changing struct {
	tx       bun.Tx
	prepared *preparedChanges
	asked    []chat.Change

	rooms    map[string]*roomRev // those that are stored
	messages map[place]*changeable
	// found are the messages of what is asked, in that order; nil where there is none, or where the answer has an error already.
	found []*changeable
	// reacted says which marks are there, before and now. All that is asked for is in it.
	reacted map[mark]*[2]bool
	answers []chat.Changed
}

// Change implements chat.MessageStore. A batch is one transaction of up to twelve kinds of statements, each for 64 rows at a time, or for fewer.
// It locks the counters of its rooms, as Append does, and so all changes of a room have an order.
func (s *Messages) Change(ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
	if len(changes) == 0 {
		return []chat.Changed{}, nil
	}
	const op = "change messages"
	prepared, err := s.db.changing.get(ctx, s.db)
	if err != nil {
		return nil, s.db.fail(ctx, op, err)
	}
	asked := slices.Clone(changes)
	for i := range asked {
		if !asked[i].At.IsZero() {
			asked[i].At = instant(micros(asked[i].At))
		}
	}
	var answers []chat.Changed
	err = s.db.transactLocked(ctx, op, func(ctx context.Context, tx bun.Tx) error {
		c := &changing{tx: tx, prepared: prepared, asked: asked}
		err := c.run(ctx)
		if err == nil && s.record != nil {
			err = s.recordChanged(ctx, tx, c)
		}
		answers = c.answers
		return err
	})
	erased := err != nil // it may have been committed
	for i, a := range answers {
		erased = erased || asked[i].Kind != chat.React && a.Err == nil && !a.Repeated
	}
	if erased {
		s.db.scrub.dueWiping()
	}
	if err != nil {
		return nil, err
	}
	return answers, nil
}

func (c *changing) run(ctx context.Context) error {
	for _, do := range []func(context.Context) error{c.lock, c.read, c.readReactions, c.apply, c.write, c.writeReactions} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// lock keeps others from changing messages of the rooms.
func (c *changing) lock(ctx context.Context) error {
	var names []string
	for i := range c.asked {
		if name := c.asked[i].Room; storable(name) && (len(names) == 0 || names[len(names)-1] != name) {
			names = append(names, name)
		}
	}
	slices.Sort(names) // so that two writers lock in one order
	names = slices.Compact(names)
	c.rooms = make(map[string]*roomRev, len(names))
	return c.prepared.lock.query(ctx, c.tx, 1, anys(names), func(scan func(...any) error) error {
		var id, rev int64
		var name string
		if err := scan(&id, &name, &rev); err != nil {
			return err
		}
		c.rooms[name] = &roomRev{id: id, rev: uint64(rev), was: uint64(rev)}
		return nil
	})
}

// read finds the messages.
func (c *changing) read(ctx context.Context) error {
	c.answers, c.found = make([]chat.Changed, len(c.asked)), make([]*changeable, len(c.asked))
	c.messages = make(map[place]*changeable)
	var args []any
	names := make(map[int64]string, len(c.rooms))
	for i := range c.asked {
		at, ok := c.placeOf(i)
		if _, known := c.messages[at]; !ok || known {
			continue
		}
		c.messages[at], names[at.room] = nil, c.asked[i].Room
		args = append(args, at.room, at.seq)
	}
	err := c.prepared.read.query(ctx, c.tx, 2, args, func(scan func(...any) error) error {
		var row messageRow
		if err := row.scan(func(to ...any) error { return scan(append([]any{&row.RoomID}, to...)...) }); err != nil {
			return err
		}
		m, err := row.message(names[row.RoomID])
		at := place{row.RoomID, row.Seq}
		c.messages[at] = &changeable{place: at, message: m, was: m.Rev, deleted: !m.DeletedAt.IsZero()}
		return err
	})
	if err != nil {
		return err
	}
	for i := range c.asked {
		if at, ok := c.placeOf(i); ok {
			c.found[i] = c.messages[at]
		}
		if c.found[i] == nil {
			c.answers[i].Err = chat.ErrMessageNotFound
		} else if err := errUnstorable(&c.asked[i]); err != nil {
			c.found[i], c.answers[i].Err = nil, err
		}
	}
	return nil
}

// placeOf is where the message of a change would stand, if its room is stored.
func (c *changing) placeOf(i int) (at place, ok bool) {
	room := c.rooms[c.asked[i].Room]
	if seq := c.asked[i].Seq; room != nil && seq > 0 && seq <= math.MaxInt64 {
		return place{room.id, int64(seq)}, true
	}
	return place{}, false
}

// markOf is the reaction that a change is about.
func (c *changing) markOf(i int) (m mark, ok bool) {
	asked := &c.asked[i]
	if c.found[i] == nil || asked.Kind != chat.React && asked.Kind != chat.Unreact {
		return mark{}, false
	}
	return mark{c.found[i].place, asked.Key, string(asked.By.ID)}, true
}

// readReactions finds which of the reactions that the changes are about are there.
func (c *changing) readReactions(ctx context.Context) error {
	c.reacted = make(map[mark]*[2]bool)
	var args []any
	for i := range c.asked {
		if m, ok := c.markOf(i); ok && c.reacted[m] == nil {
			c.reacted[m] = new([2]bool)
			args = append(args, m.room, m.seq, m.reaction, m.by)
		}
	}
	return c.prepared.reacted.query(ctx, c.tx, 4, args, func(scan func(...any) error) error {
		var m mark
		if err := scan(&m.room, &m.seq, &m.reaction, &m.by); err != nil {
			return err
		}
		if at := c.reacted[m]; at != nil {
			*at = [2]bool{true, true}
		}
		return nil
	})
}

// apply makes the answers, in the order of the changes.
func (c *changing) apply(context.Context) error {
	for i := range c.asked {
		found := c.found[i]
		if found == nil {
			continue
		}
		m, isMark := c.markOf(i)
		after, changed, err := c.asked[i].Apply(found.message, isMark && c.reacted[m][1])
		switch {
		case err != nil:
			c.answers[i].Err = err
			continue
		case !changed:
			c.answers[i] = chat.Changed{Message: found.message, Repeated: true}
			continue
		}
		room := c.rooms[c.asked[i].Room]
		room.rev++
		after.Rev = room.rev
		found.message = after
		found.erased = found.erased || c.asked[i].Kind == chat.Erase
		if isMark {
			c.reacted[m][1] = c.asked[i].Kind == chat.React
		}
		c.answers[i].Message = after
	}
	return nil
}

// write stores each changed message as it is at last, once, and the counters of the rooms.
func (c *changing) write(ctx context.Context) error {
	var rows, changes, before, counters, deletions, erased []any
	seen := make(map[*changeable]bool, len(c.messages))
	for _, m := range c.found {
		if m == nil || !m.changed() || seen[m] {
			continue
		}
		seen[m] = true
		text, data, replyTo := any(m.message.Text), any(nil), any(nil)
		if !m.message.DeletedAt.IsZero() {
			text = erasedText
			if !m.deleted {
				deletions = append(deletions, m.room, m.seq)
			}
		}
		if m.erased {
			erased = append(erased, m.room, m.seq)
		}
		if m.message.Data != "" {
			data = m.message.Data
		}
		if m.message.ReplyTo != 0 {
			replyTo = int64(m.message.ReplyTo)
		}
		reactions, err := reactionsText(m.message.Reactions)
		if err != nil {
			return err
		}
		rows = append(rows, m.room, m.seq, text, data, replyTo, int64(m.message.Rev),
			optionalMicros(m.message.EditedAt), optionalMicros(m.message.DeletedAt), reactions)
		changes = append(changes, m.room, int64(m.message.Rev), m.seq)
		if m.was > 0 {
			before = append(before, m.room, int64(m.was))
		}
	}
	for _, room := range c.rooms {
		if room.rev != room.was {
			counters = append(counters, room.id, int64(room.rev))
		}
	}
	p := c.prepared
	for _, do := range []struct {
		stmts   *sized
		columns int
		args    []any
	}{
		{&p.rewrite, len(messageAt) + len(messageSet), rows},
		{&p.forget, 2, before},
		{&p.note, 3, changes},
		{&p.count, 2, counters},
		{&p.gone, 2, deletions},
		{&p.anonymise, 2, erased},
	} {
		if err := do.stmts.exec(ctx, c.tx, do.columns, do.args); err != nil {
			return err
		}
	}
	return nil
}

// writeReactions stores which reactions have come and gone. Of a deleted message all have gone.
func (c *changing) writeReactions(ctx context.Context) error {
	var come, gone, all []any
	seen := make(map[mark]bool, len(c.reacted))
	deleted := make(map[*changeable]bool)
	for i, found := range c.found {
		if found == nil {
			continue
		}
		if !found.message.DeletedAt.IsZero() {
			if found.changed() && !deleted[found] {
				deleted[found] = true
				all = append(all, found.room, found.seq)
			}
			continue
		}
		m, ok := c.markOf(i)
		if !ok || seen[m] {
			continue
		}
		seen[m] = true
		switch before, now := c.reacted[m][0], c.reacted[m][1]; {
		case now && !before:
			come = append(come, m.room, m.seq, m.reaction, m.by)
		case before && !now:
			gone = append(gone, m.room, m.seq, m.reaction, m.by)
		}
	}
	if err := c.prepared.react.exec(ctx, c.tx, 4, come); err != nil {
		return err
	}
	if err := c.prepared.unreact.exec(ctx, c.tx, 4, gone); err != nil {
		return err
	}
	return c.prepared.unreactAll.exec(ctx, c.tx, 2, all)
}

// What is rewritten of a message.
var (
	messageAt  = []column{{name: "room_id"}, {name: "seq"}}
	messageSet = []column{
		{name: "text", text: true}, {name: "data", text: true}, {name: "reply_to"}, {name: "rev"},
		{name: "edited_at"}, {name: "deleted_at"}, {name: "reactions", text: true},
	}
)

// changeTexts are the texts of Change's statements for n rows, with question marks.
func (d *dialect) changeTexts(n int) [len(changeStatements)]string {
	where := func(key ...column) string { return " WHERE " + d.anyOf(key, n) }
	reaction := slices.Concat(messageAt, []column{{name: "reaction", text: true}, {name: "user_id", text: true}})
	return [...]string{
		d.lockCounters(n),
		"SELECT room_id, " + messageFields + " FROM parley_messages" + where(messageAt...),
		"SELECT room_id, seq, reaction, user_id FROM parley_reactions" + where(reaction...),
		d.update("parley_messages", messageAt, messageSet, n),
		d.deleteFrom("parley_changes") + where(column{name: "room_id"}, column{name: "rev"}),
		"INSERT INTO parley_changes (room_id, rev, seq) VALUES " + questionMarks(n, 3),
		d.update("parley_room_seqs", []column{{name: "id"}}, []column{{name: "rev"}}, n),
		"INSERT INTO parley_reactions (room_id, seq, reaction, user_id) VALUES " + questionMarks(n, 4),
		d.deleteFrom("parley_reactions") + where(reaction...),
		d.deleteFrom("parley_reactions") + where(messageAt...),
		"INSERT INTO parley_deletions (room_id, seq) VALUES " + questionMarks(n, 2),
		"UPDATE parley_messages SET author_name = '" + user.ErasedName + "', client_id = NULL" + where(messageAt...),
	}
}

// changeStatements are those of preparedChanges, in the order of changeTexts.
var changeStatements = [...]func(*preparedChanges) *sized{
	func(p *preparedChanges) *sized { return &p.lock },
	func(p *preparedChanges) *sized { return &p.read },
	func(p *preparedChanges) *sized { return &p.reacted },
	func(p *preparedChanges) *sized { return &p.rewrite },
	func(p *preparedChanges) *sized { return &p.forget },
	func(p *preparedChanges) *sized { return &p.note },
	func(p *preparedChanges) *sized { return &p.count },
	func(p *preparedChanges) *sized { return &p.react },
	func(p *preparedChanges) *sized { return &p.unreact },
	func(p *preparedChanges) *sized { return &p.unreactAll },
	func(p *preparedChanges) *sized { return &p.gone },
	func(p *preparedChanges) *sized { return &p.anonymise },
}

// preparedChanges are Change's statements.
type preparedChanges struct {
	lock, read, reacted        sized // what there is
	rewrite                    sized // messages
	forget, note               sized // their places among the changes
	count                      sized // the rooms' counters
	gone                       sized // what is deleted
	anonymise                  sized // what is erased
	react, unreact, unreactAll sized
}

// prepareChanges does not go through Bun, as prepare.
//
//nolint:sqlclosecheck // preparedChanges.close closes them
func prepareChanges(ctx context.Context, db *database) (p *preparedChanges, err error) {
	p = new(preparedChanges)
	for size, n := range insertSizes {
		for i, text := range db.dialect.changeTexts(n) {
			if changeStatements[i](p)[size], err = db.write.DB.PrepareContext(ctx, db.dialect.placeholders(text)); err != nil {
				return p, err
			}
		}
	}
	return p, nil
}

func (p *preparedChanges) close() error {
	var errs []error
	for _, of := range changeStatements {
		for _, stmt := range of(p) {
			if stmt != nil {
				errs = append(errs, stmt.Close())
			}
		}
	}
	return errors.Join(errs...)
}

// runner is a transaction, or alone.
type runner interface {
	StmtContext(ctx context.Context, stmt *sql.Stmt) *sql.Stmt
}

// alone runs a statement that commits by itself.
type alone struct{}

func (alone) StmtContext(_ context.Context, stmt *sql.Stmt) *sql.Stmt { return stmt }

// sized is a statement for each of insertSizes.
type sized [len(insertSizes)]*sql.Stmt

// exec runs it for all rows of so many columns, which may be none.
func (s *sized) exec(ctx context.Context, tx runner, columns int, args []any) error {
	return inSizes(len(args)/columns, insertSizes[:], func(size, from, n int) error {
		stmt := tx.StmtContext(ctx, s[size]) //nolint:sqlclosecheck // the transaction's end closes it
		_, err := stmt.ExecContext(ctx, args[columns*from:columns*(from+n)]...)
		return err
	})
}

// query is exec for what returns rows, and gives each to scan.
func (s *sized) query(ctx context.Context, tx runner, columns int, args []any, scan func(scan func(...any) error) error) error {
	return inSizes(len(args)/columns, insertSizes[:], func(size, from, n int) error {
		rows, err := tx.StmtContext(ctx, s[size]).QueryContext(ctx, args[columns*from:columns*(from+n)]...) //nolint:sqlclosecheck // as above
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }() // the loop's way out; the error of the usual one is below
		for rows.Next() {
			if err := scan(rows.Scan); err != nil {
				return err
			}
		}
		return errors.Join(rows.Err(), rows.Close())
	})
}
