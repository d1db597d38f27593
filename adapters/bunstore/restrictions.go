package bunstore

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// Restrictions stores bans and mutes. Its methods may be called from many goroutines.
type Restrictions struct{ db *database }

var _ chat.Restrictions = (*Restrictions)(nil)

// restrictionTables hold who may not do what in which room. What never ends does so at the greatest number. An older program does not know
// the table: whoever is banned can join through it.
var restrictionTables = []string{
	`CREATE TABLE IF NOT EXISTS parley_restrictions (
		room varchar(100) NOT NULL CHECK ({length}(room) BETWEEN 1 AND 100),
		user_id varchar(128) NOT NULL CHECK ({length}(user_id) BETWEEN 1 AND 128),
		kind varchar(16) NOT NULL CHECK ({length}(kind) BETWEEN 1 AND 16),
		by_id varchar(128) NOT NULL CHECK ({length}(by_id) <= 128),
		reason varchar(500) NOT NULL CHECK ({length}(reason) <= 500),
		at bigint NOT NULL,
		until bigint NOT NULL,
		PRIMARY KEY (room, user_id, kind)
	) {clustered}`,
	`CREATE INDEX IF NOT EXISTS parley_restrictions_at ON parley_restrictions (at, room, user_id, kind)`,
}

const restrictionFields = "room, user_id, kind, by_id, reason, at, until"

// neverEnds is the end of what never ends.
const neverEnds = math.MaxInt64

// restrictionKey is the beginning of the primary key that InForce asks by.
var restrictionKey = []column{{name: "room", text: true}, {name: "user_id", text: true}}

func ends(until time.Time) int64 {
	if until.IsZero() {
		return neverEnds
	}
	return micros(until)
}

func endOf(until int64) time.Time {
	if until == neverEnds {
		return time.Time{}
	}
	return instant(until)
}

// Put implements chat.Restrictions. The insert locks the row, or the place of the row, until the commit. With may, the row of the room is locked before, and then those of both members,
// as Roles.Change does it.
func (s *Restrictions) Put(ctx context.Context, r chat.Restriction, may func(room chat.Room, by, of chat.Role) error) (chat.Restriction, error) {
	if !storable(r.Room, string(r.UserID), string(r.Kind), string(r.By), r.Reason) {
		return chat.Restriction{}, errText
	}
	var at, until int64
	transact := s.db.transact
	if may != nil {
		transact = s.db.transactLocked
	}
	err := transact(ctx, "put restriction", func(ctx context.Context, tx bun.Tx) error {
		if may != nil {
			room, err := s.db.lockRoom(ctx, tx, r.Room)
			if err != nil {
				return err
			}
			by, of, err := s.db.heeded(ctx, tx, r.Room, r.At, r.By, r.UserID)
			if err != nil {
				return err
			}
			if err := may(room, by, of); err != nil {
				return verbatim{err}
			}
		}
		_, err := tx.ExecContext(ctx, s.db.dialect.putRestriction,
			r.Room, string(r.UserID), string(r.Kind), string(r.By), r.Reason, micros(r.At), ends(r.Until))
		if err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, "SELECT at, until FROM parley_restrictions WHERE room = ? AND user_id = ? AND kind = ?",
			r.Room, string(r.UserID), string(r.Kind)).Scan(&at, &until)
	})
	if err != nil {
		return chat.Restriction{}, err
	}
	r.At, r.Until = instant(at), endOf(until)
	return r, nil
}

const restrictionValues = "(room, user_id, kind, by_id, reason, at, until) VALUES (?, ?, ?, ?, ?, ?, ?)"

// putRestrictionText is putRestriction where the insert names what was there.
func putRestrictionText(greatest string) string {
	return "INSERT INTO parley_restrictions AS s " + restrictionValues + " ON CONFLICT (room, user_id, kind) DO UPDATE SET by_id = excluded.by_id, " +
		"reason = excluded.reason, at = " + greatest + "(excluded.at, s.at + 1), until = excluded.until"
}

const putRestrictionMySQL = "INSERT INTO parley_restrictions " + restrictionValues + " ON DUPLICATE KEY UPDATE by_id = VALUES(by_id), reason = VALUES(reason), " +
	"until = VALUES(until), at = GREATEST(VALUES(at), at + 1)"

// restrictionsInForce reads restrictionFields of those that hold, of so many who may be restricted.
func (d *dialect) restrictionsInForce(n int) string {
	if n == 1 {
		return "SELECT " + restrictionFields + " FROM parley_restrictions WHERE room = ? AND user_id = ? AND until > ?"
	}
	return "SELECT found.room, found.user_id, found.kind, found.by_id, found.reason, found.at, found.until FROM " +
		d.find("parley_restrictions", "PRIMARY", restrictionKey, restrictionKey, n, false) + " WHERE found.until > ?"
}

// InForce implements chat.Restrictions, by one statement for every 64 of whom.
func (s *Restrictions) InForce(ctx context.Context, now time.Time, whom ...chat.InRoom) ([]chat.Restriction, error) {
	held := []chat.Restriction{}
	asked := make([]chat.InRoom, 0, len(whom))
	for _, w := range whom {
		if storable(w.Room, string(w.UserID)) {
			asked = append(asked, w)
		}
	}
	slices.SortFunc(asked, func(a, b chat.InRoom) int {
		return cmp.Or(cmp.Compare(a.Room, b.Room), cmp.Compare(a.UserID, b.UserID))
	})
	asked = slices.Compact(asked)
	for part := range slices.Chunk(asked, memberSizes[0]) {
		args := make([]any, 0, 2*memberSizes[0]+1)
		for _, w := range part {
			args = append(args, w.Room, string(w.UserID))
		}
		args = pad(args, "", "")
		text := s.db.inForce[len(args)/2]
		if err := s.db.reads.query(ctx, text, append(args, micros(now)), intoRestrictions(&held)); err != nil {
			return nil, s.db.fail(ctx, "read restrictions", err)
		}
	}
	return held, nil
}

// intoRestrictions reads restrictionFields.
func intoRestrictions(all *[]chat.Restriction) func(scan func(...any) error) error {
	return func(scan func(...any) error) error {
		var r chat.Restriction
		var id, kind, by string
		var at, until int64
		err := scan(&r.Room, &id, &kind, &by, &r.Reason, &at, &until)
		r.UserID, r.Kind, r.By, r.At, r.Until = user.ID(id), chat.RestrictionKind(kind), user.ID(by), instant(at), endOf(until)
		*all = append(*all, r)
		return err
	}
}

const (
	// The room is not named in the order: MariaDB would sort all of them.
	listRestrictions = "SELECT " + restrictionFields + " FROM parley_restrictions WHERE room = ? AND user_id > ? AND kind = ? AND until > ? ORDER BY user_id LIMIT ?"
	restrictedSince  = "SELECT " + restrictionFields + " FROM parley_restrictions WHERE at >= ? ORDER BY at, room, user_id, kind LIMIT ?"
)

// List implements chat.Restrictions.
func (s *Restrictions) List(ctx context.Context, room string, kind chat.RestrictionKind, now time.Time, after user.ID, limit int) ([]chat.Restriction, error) {
	if !storable(room, string(kind), string(after)) {
		return nil, errText
	}
	return s.read(ctx, "list restrictions", limit, listRestrictions, room, string(after), string(kind), micros(now), int64(limit))
}

// Since implements chat.Restrictions.
func (s *Restrictions) Since(ctx context.Context, at time.Time, limit int) ([]chat.Restriction, error) {
	from := micros(at)
	if at.Nanosecond()%1000 > 0 {
		from++ // what is stored has no parts of a microsecond
	}
	return s.read(ctx, "list restrictions since", limit, restrictedSince, from, int64(limit))
}

func (s *Restrictions) read(ctx context.Context, op string, limit int, text string, args ...any) ([]chat.Restriction, error) {
	all := []chat.Restriction{}
	if limit < 1 {
		return all, s.db.fail(ctx, op, ctx.Err())
	}
	if err := s.db.reads.query(ctx, text, args, intoRestrictions(&all)); err != nil {
		return nil, s.db.fail(ctx, op, err)
	}
	return all, nil
}
