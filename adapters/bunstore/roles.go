package bunstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/uptrace/bun"

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

// Create implements chat.Roles.
func (s *Roles) Create(ctx context.Context, r chat.Room, members ...chat.Membership) (chat.Room, error) {
	room, err := toRoomRow(r)
	if err != nil {
		return chat.Room{}, err
	}
	events := s.record.OfRoom(chat.Room{}, room.room())
	rows := make([]*memberRow, len(members))
	for i, m := range members {
		m.Room = r.Name
		if rows[i], err = toMemberRow(m); err != nil {
			return chat.Room{}, err
		}
		events = append(events, s.record.OfMemberships(rows[i].membership())...)
	}
	slices.SortFunc(rows, func(a, b *memberRow) int { return cmp.Compare(a.UserID, b.UserID) }) // so that two writers lock in one order
	err = s.db.transact(ctx, "create room", func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewInsert().Model(room).Exec(ctx); err != nil {
			if s.db.dialect.kind(err) == fault.Conflict {
				return chat.ErrRoomTaken.Because(err)
			}
			return err
		}
		for _, row := range rows {
			if err := s.insert(ctx, tx, row); err != nil {
				return err
			}
			if err := s.setRole(ctx, tx, row); err != nil { // where somebody has joined before the room was stored
				return err
			}
		}
		return s.db.putEvents(ctx, tx, events)
	})
	if err != nil {
		return chat.Room{}, err
	}
	return room.room(), nil
}

// insert adds a membership that has read its room to the end, unless it is there.
func (s *Roles) insert(ctx context.Context, tx bun.Tx, row *memberRow) error {
	q := tx.NewInsert().Model(row).Value("read_seq", "COALESCE((SELECT last FROM parley_room_seqs WHERE parley_room_seqs.room = ?), 0)", row.Room)
	_, err := s.db.dialect.insertNew(q, "since").Exec(ctx)
	return err
}

// setRole changes the role of a membership, if it is there.
func (s *Roles) setRole(ctx context.Context, tx bun.Tx, row *memberRow) error {
	_, err := tx.NewUpdate().Model(row).Column("role").WherePK().Exec(ctx)
	return err
}

// roleFields are what is read of a membership of a table, with how far its user has read: see readMarks.
func roleFields(table string) string {
	return table + ".user_id, " + table + ".room, " + table + ".since, " + readNow(table) + ", " + table + ".role"
}

// rolesOf reads roleFields of so many members.
func (d *dialect) rolesOf(n int) string {
	if n == 1 {
		return "SELECT " + roleFields("parley_members") + " FROM parley_members WHERE user_id = ? AND room = ?"
	}
	return "SELECT " + roleFields("found") + " FROM " + d.find("parley_members", "PRIMARY", memberKey, memberKey, n, false)
}

// lockRoles reads roleFields of two members, and locks their rows.
func (d *dialect) lockRoles() string {
	return "SELECT " + roleFields("found") + " FROM " + d.find("parley_members", "PRIMARY", memberKey, memberKey, 2, true) + d.lockEnd
}

// membersOf reads roleFields of members of a room. It does not name the room in the order: MariaDB would sort them all.
func (d *dialect) membersOf() string {
	return "SELECT " + roleFields("parley_members") + " FROM " + d.byIndex("parley_members", "parley_members_room") + " WHERE room = ? AND user_id > ? ORDER BY user_id LIMIT ?"
}

// intoMemberships reads roleFields.
func intoMemberships(all *[]chat.Membership) func(scan func(...any) error) error {
	return func(scan func(...any) error) error {
		var row memberRow
		err := row.scan(scan)
		*all = append(*all, row.membership())
		return err
	}
}

// Of implements chat.Roles, by one statement for every 64 of whom.
func (s *Roles) Of(ctx context.Context, whom ...chat.InRoom) ([]chat.Membership, error) {
	all := []chat.Membership{}
	asked := make([]member, 0, len(whom))
	for _, w := range whom {
		if storable(w.Room, string(w.UserID)) {
			asked = append(asked, member{string(w.UserID), w.Room})
		}
	}
	slices.SortFunc(asked, member.compare)
	for part := range slices.Chunk(slices.Compact(asked), memberSizes[0]) {
		args := make([]any, 0, 2*memberSizes[0])
		for _, m := range part {
			args = append(args, m.user, m.room)
		}
		args = pad(args, "", "")
		if err := s.db.reads.query(ctx, s.db.roles[len(args)/2], args, intoMemberships(&all)); err != nil {
			return nil, s.db.fail(ctx, "read roles", err)
		}
	}
	return all, nil
}

// List implements chat.Roles.
func (s *Roles) List(ctx context.Context, room string, after user.ID, limit int) ([]chat.Membership, error) {
	if !storable(room, string(after)) {
		return nil, errText
	}
	const op = "list members"
	all := []chat.Membership{}
	if limit < 1 {
		return all, s.db.fail(ctx, op, ctx.Err())
	}
	if err := s.db.reads.query(ctx, s.db.membersOf, []any{room, string(after), int64(limit)}, intoMemberships(&all)); err != nil {
		return nil, s.db.fail(ctx, op, err)
	}
	return all, nil
}

// Change implements chat.Roles. It locks the row of the room, so that all changes of a room and all that is put with a question have an order, and then those of both members.
func (s *Roles) Change(
	ctx context.Context, c chat.RoleChange, may func(r chat.Room, by, of chat.Role, owners int) error,
) (before, after chat.Membership, err error) {
	if !storable(string(c.By)) {
		return chat.Membership{}, chat.Membership{}, errText
	}
	row, err := toMemberRow(chat.Membership{Room: c.Room, UserID: c.User, Since: c.At, Role: c.Role})
	if err != nil {
		return chat.Membership{}, chat.Membership{}, err
	}
	const op = "change role"
	err = s.db.transactLocked(ctx, op, func(ctx context.Context, tx bun.Tx) error {
		r, err := s.db.lockRoom(ctx, tx, c.Room)
		if err != nil {
			return err
		}
		out, err := s.db.banned(ctx, tx, c.Room, c.At, c.By, c.User)
		if err != nil {
			return err
		}
		for range attempts { // they may join meanwhile
			by, of, owners, err := s.look(ctx, tx, c)
			if err != nil {
				return err
			}
			if out(c.By) {
				by.Role = ""
			}
			if err := may(r, by.Role, of.Role, owners); err != nil {
				return verbatim{err}
			}
			if c.Role != "" && out(c.User) {
				return chat.ErrBanned
			}
			before, after = of, of
			switch {
			case c.Role == of.Role:
				return nil
			case c.Role == "":
				after = chat.Membership{Room: c.Room, UserID: c.User}
				if _, err := tx.NewDelete().Model(row).WherePK().Exec(ctx); err != nil {
					return err
				}
				return s.db.putEvents(ctx, tx, s.record.OfMemberships(after))
			case of.Role != "":
				after.Role = c.Role
				if err := s.setRole(ctx, tx, row); err != nil {
					return err
				}
				return s.db.putEvents(ctx, tx, s.record.OfMemberships(after))
			}
			if err := s.insert(ctx, tx, row); err != nil {
				return err
			}
			if _, after, _, err = s.look(ctx, tx, c); err != nil {
				return err
			}
			if after.Role == c.Role {
				return s.db.putEvents(ctx, tx, s.record.OfMemberships(after))
			}
		}
		return fault.Wrap(fault.Unavailable, fmt.Errorf("bunstore: %s: they leave as soon as they join", op))
	})
	if err != nil {
		return chat.Membership{}, chat.Membership{}, err
	}
	return before, after, nil
}

// countOwners is the other text of Roles.Change. It names the role, as the index does.
const countOwners = "SELECT COUNT(*) FROM parley_members WHERE room = ? AND role = 'owner'"

// look reads the memberships of who changes a role and of whose it is, and locks them. It counts the owners of the room.
func (s *Roles) look(ctx context.Context, tx bun.Tx, c chat.RoleChange) (by, of chat.Membership, owners int, err error) {
	if by, of, err = s.db.lockMembers(ctx, tx, c.Room, c.By, c.User); err != nil {
		return by, of, 0, err
	}
	err = tx.QueryRowContext(ctx, countOwners, c.Room).Scan(&owners)
	return by, of, owners, err
}

// lockMembers reads the memberships of two users, who may be one, in a room that is locked, and locks them too. One that does not exist has no role.
func (d *database) lockMembers(ctx context.Context, tx bun.Tx, room string, a, b user.ID) (ofA, ofB chat.Membership, err error) {
	ofA, ofB = chat.Membership{Room: room, UserID: a}, chat.Membership{Room: room, UserID: b}
	rows, err := tx.QueryContext(ctx, d.lockRoles, string(min(a, b)), room, string(max(a, b)), room)
	if err != nil {
		return ofA, ofB, err
	}
	defer func() { _ = rows.Close() }() // the loop's way out; the error of the usual one is below
	for rows.Next() {
		var row memberRow
		if err := row.scan(rows.Scan); err != nil {
			return ofA, ofB, err
		}
		if row.UserID == string(a) {
			ofA = row.membership()
		}
		if row.UserID == string(b) {
			ofB = row.membership()
		}
	}
	return ofA, ofB, errors.Join(rows.Err(), rows.Close())
}

// banned tells of two users, who may be one, whether a ban of theirs holds at a time, in a room that is locked.
func (d *database) banned(ctx context.Context, tx bun.Tx, room string, at time.Time, a, b user.ID) (func(user.ID) bool, error) {
	args := []any{room, string(a)}
	if a != b {
		args = pad(append(args, room, string(b)), "", "")
	}
	rows, err := tx.QueryContext(ctx, d.inForce[len(args)/2], append(args, micros(at))...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // the loop's way out; the error of the usual one is below
	var held []chat.Restriction
	into := intoRestrictions(&held)
	for rows.Next() {
		if err := into(rows.Scan); err != nil {
			return nil, err
		}
	}
	out := func(id user.ID) bool {
		return slices.ContainsFunc(held, func(r chat.Restriction) bool { return r.UserID == id && r.Kind == chat.Ban })
	}
	return out, errors.Join(rows.Err(), rows.Close())
}

// heeded returns the roles of two users, who may be one, in a room that is locked, as long as that lock is held. Who is banned at a time has none.
func (d *database) heeded(ctx context.Context, tx bun.Tx, room string, at time.Time, a, b user.ID) (ofA, ofB chat.Role, err error) {
	out, err := d.banned(ctx, tx, room, at, a, b)
	if err != nil {
		return "", "", err
	}
	memberA, memberB, err := d.lockMembers(ctx, tx, room, a, b)
	if !out(a) {
		ofA = memberA.Role
	}
	if !out(b) {
		ofB = memberB.Role
	}
	return ofA, ofB, err
}
