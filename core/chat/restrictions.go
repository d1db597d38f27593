package chat

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// MaxReason is the longest reason of a restriction in characters; stores are built for it.
const MaxReason = 500

// RestrictionKind says what a user may not do.
type RestrictionKind string

// The kinds of restrictions. Stores take others too, of at most 16 letters of ASCII.
const (
	// Ban keeps a user out of a room: they are no member, and cannot become one.
	Ban RestrictionKind = "ban"
	// Mute lets a member read and mark only: they cannot send, edit, delete, react or type.
	Mute RestrictionKind = "mute"
)

// Restriction keeps a user from doing something in a room. It does not need a membership, and does not end with one.
type Restriction struct {
	Room   string
	UserID user.ID
	Kind   RestrictionKind
	// By is who has imposed or lifted it, and Reason what they said to it, which may be empty.
	By     user.ID
	Reason string
	// At is when it was imposed, or lifted. Of one room, user and kind, what comes later has a later At.
	At time.Time
	// Until is when it ends. Zero means never. One that was lifted has [Lifted].
	Until time.Time
}

// InForce reports whether the restriction holds at a time.
func (r Restriction) InForce(now time.Time) bool { return r.Until.IsZero() || r.Until.After(now) }

// noEnd is a time that RFC 3339 can say, and that every language can compare.
var noEnd = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// End returns Until, and the last second of the year 9999 for a restriction that never ends.
func (r Restriction) End() time.Time {
	if r.Until.IsZero() {
		return noEnd
	}
	return r.Until
}

// Lifted is the end of what was lifted: it has ended by every clock, also by one that is behind that of who has imposed it.
var Lifted = time.UnixMicro(1).UTC()

// InRoom is a user in a room.
type InRoom struct {
	Room   string
	UserID user.ID
}

// Restrictions keeps who may not do what in which room. Where there are [Roles], it shares their store.
//
// It may be called from many goroutines.
// It holds at most one restriction of a room, a user and a kind. Which one that is, the last Put says.
// What has ended or was lifted stays, until another one takes its place.
// It keeps every reason of at most [MaxReason] characters that [Service.Restrict] lets through.
// Two rooms or users are the same only if they have the same bytes.
// Every time is UTC, to the microsecond. An Until that is zero stays zero.
type Restrictions interface {
	// Put stores r durably, in the place of the one of the same room, user and kind, and returns what is stored.
	// If At is not later than that of the one before, it becomes one microsecond later.
	// Of several concurrent calls each has its own At.
	// Where may is not nil, Put stores r only if may lets it; it returns ErrRoomNotFound where there is no such room, or the error of may, and then nothing is stored.
	// Put gives may the room, and the roles of r.By and of r.UserID, as they are when r is stored: what [Rooms.Update], [Roles.Change] and [Members.Remove] have done before counts.
	// A role is empty for who is no member, and for who is banned at r.At; may may be called more than once, and is pure.
	// A ban that was put with may before [Roles.Change] or [Rooms.Update] stores counts there.
	Put(ctx context.Context, r Restriction, may func(room Room, by, of Role) error) (Restriction, error)
	// InForce returns the restrictions that hold at a time, of those whom it is asked about, in any order.
	InForce(ctx context.Context, now time.Time, whom ...InRoom) ([]Restriction, error)
	// List returns the restrictions of a kind that hold in room at a time, of users greater than after, ascending by the bytes of their ids.
	// List returns at most limit: none if limit is below 1.
	List(ctx context.Context, room string, kind RestrictionKind, now time.Time, after user.ID, limit int) ([]Restriction, error)
	// Since returns restrictions of all rooms whose At is not before a time, whether they hold or not.
	// They ascend by At, and where that is the same by the bytes of room, user and kind.
	// Since returns at most limit: none if limit is below 1.
	Since(ctx context.Context, at time.Time, limit int) ([]Restriction, error)
}

// What restrictions refuse.
var (
	ErrBanned             = fault.New(fault.Forbidden, "banned", "you are banned from this room")
	ErrMuted              = fault.New(fault.Forbidden, "muted", "you are muted in this room")
	ErrRestrictionInvalid = fault.New(fault.Invalid, "restriction_invalid", "the restriction is not valid")
	// ErrNoRestrictions says that there is no Config.Restrictions.
	ErrNoRestrictions = fault.New(fault.Invalid, "restrictions_not_supported", "this server keeps no restrictions")
)

// Restrict bans or mutes a user in a room, from now on, durably, and returns what is stored. Room, UserID, Kind, By, Reason and Until count; At is
// set. What was imposed before on the same user in the same room, of the same kind, is replaced. A ban ends the membership. [Service.OnRestricted] hears of it.
//
// By says whom they may restrict: see [MayRestrict], which is decided in the commit that stores r; with Any, everybody. The By of r counts with Any only, else it is by.
//
// It returns what [Service.Standing] returns, ErrRestrictionInvalid, ErrNoRestrictions, or an error of kind Unavailable: then the outcome is unknown,
// and to do it again is harmless.
func (s *Service) Restrict(ctx context.Context, by Actor, r Restriction) (Restriction, error) {
	r.At, r.Until = s.now(), stamped(r.Until)
	switch {
	case !r.InForce(r.At):
		return Restriction{}, ErrRestrictionInvalid.Detail("its end has passed")
	case r.Until.Year() > 9999: // which RFC 3339 cannot say
		return Restriction{}, ErrRestrictionInvalid.Detail("its end is after the year 9999")
	}
	return s.put(ctx, by, r)
}

// Lift ends a restriction. Who may do so is as with [Service.Restrict], and so is what it returns; to lift what is not there is no error.
func (s *Service) Lift(ctx context.Context, by Actor, r Restriction) (Restriction, error) {
	r.At, r.Until = s.now(), Lifted
	return s.put(ctx, by, r)
}

func (s *Service) put(ctx context.Context, by Actor, r Restriction) (Restriction, error) {
	if s.cfg.Restrictions == nil {
		return Restriction{}, ErrNoRestrictions
	}
	if r.Kind != Ban && r.Kind != Mute {
		return Restriction{}, ErrRestrictionInvalid.Detail("its kind is neither ban nor mute")
	}
	if err := checkVisible(string(r.UserID), MaxAuthorID); err != nil {
		return Restriction{}, ErrRestrictionInvalid.Detail("the user's id %v", err)
	}
	if err := checkLine(r.Reason, MaxReason); err != nil {
		return Restriction{}, ErrRestrictionInvalid.Detail("its reason %v", err)
	}
	var err error
	if by.Any {
		r.Room, err = s.Existing(ctx, r.Room)
	} else {
		r.By = by.ID
		r.Room, err = s.MayRestrict(ctx, by, r.Room, r.UserID)
	}
	if err != nil {
		return Restriction{}, err
	}
	var may func(room Room, as, of Role) error
	if s.cfg.Roles != nil { // without them only who is asked for no role has come so far
		may = func(room Room, as, of Role) error {
			if err := by.still(room, as); err != nil || by.Any {
				return err
			}
			return MayRestrict(room.Kind, as, of)
		}
	}
	if r, err = s.cfg.Restrictions.Put(ctx, r, may); err != nil {
		return Restriction{}, fmt.Errorf("store restriction: %w", err)
	}
	if r.Kind == Ban && r.InForce(r.At) {
		// Whoever joins meanwhile has either seen the ban, or is found by those who hear of it.
		err = s.remove(ctx, Cause{By: r.By, Reason: r.Reason}, r.UserID, r.Room)
	}
	tellAll(&s.heardRestrictions, r)
	if err != nil {
		return r, fault.Wrap(fault.Unavailable, fmt.Errorf("end the membership: %w", err))
	}
	return r, nil
}

// stamped is a time as stores keep it. Zero stays zero.
func stamped(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Microsecond)
}

// OnRestricted makes f hear of every restriction that was imposed or lifted here, after it was stored. f must be quick. A hub registers itself. OnRestricted may
// be called from many goroutines.
func (s *Service) OnRestricted(f func(Restriction)) { listen(s, &s.heardRestrictions, f) }

// KeepsRestrictions reports whether there is a Config.Restrictions.
func (s *Service) KeepsRestrictions() bool { return s.cfg.Restrictions != nil }

// MaySpeak returns nil if neither a ban nor a mute keeps the user from sending in the room, by the name that [Service.Resolve] returns. It returns ErrBanned, ErrMuted, or an
// error of kind Unavailable. It reads from the store. Methods that send and change do not ask it: an application may speak where a user may not.
func (s *Service) MaySpeak(ctx context.Context, id user.ID, room string) error {
	whom := InRoom{room, id}
	mutes, bans, err := s.held(ctx, []InRoom{whom})
	if err != nil {
		return err
	}
	for _, of := range []map[InRoom]Restriction{bans, mutes} {
		if r, held := of[whom]; held {
			return r.Refusal()
		}
	}
	return nil
}

// Mutes returns the mutes of a user that hold now, of these rooms, by the room. It reads from the store once. It returns an error of kind Unavailable, and nothing
// where there is no Config.Restrictions.
func (s *Service) Mutes(ctx context.Context, id user.ID, rooms ...string) (map[string]Restriction, error) {
	whom := make([]InRoom, len(rooms))
	for i, room := range rooms {
		whom[i] = InRoom{room, id}
	}
	held, _, err := s.held(ctx, whom)
	if err != nil {
		return nil, err
	}
	mutes := make(map[string]Restriction, len(held))
	for at, r := range held {
		mutes[at.Room] = r
	}
	return mutes, nil
}

// held returns the mutes and the bans that hold now of those who are asked about. It reads from the store once, or not at all.
func (s *Service) held(ctx context.Context, whom []InRoom) (mutes, bans map[InRoom]Restriction, err error) {
	if s.cfg.Restrictions == nil || len(whom) == 0 {
		return nil, nil, nil
	}
	all, err := s.cfg.Restrictions.InForce(ctx, s.now(), whom...)
	if err != nil {
		return nil, nil, fmt.Errorf("read restrictions: %w", err)
	}
	mutes, bans = map[InRoom]Restriction{}, map[InRoom]Restriction{}
	for _, r := range all {
		switch r.Kind {
		case Mute:
			mutes[InRoom{r.Room, r.UserID}] = r
		case Ban:
			bans[InRoom{r.Room, r.UserID}] = r
		}
	}
	return mutes, bans, nil
}

// Refusal is the error that tells the user of the restriction: ErrBanned or ErrMuted, with its end.
func (r Restriction) Refusal() error {
	err := ErrMuted
	if r.Kind == Ban {
		err = ErrBanned
	}
	if r.Until.IsZero() {
		return err
	}
	return err.Detail("until %s", r.Until.Format(time.RFC3339))
}

// Restrictions returns at most limit (0 means MaxPage) restrictions of a kind that hold in the room, ascending by the bytes of the users' ids, after
// the given one, and whether there are more. It returns ErrRoomInvalid, ErrRoomNotFound, ErrNoRestrictions, or an error of kind Unavailable.
func (s *Service) Restrictions(ctx context.Context, room string, kind RestrictionKind, after user.ID, limit int) (all []Restriction, more bool, err error) {
	if s.cfg.Restrictions == nil {
		return nil, false, ErrNoRestrictions
	}
	if room, err = s.Existing(ctx, room); err != nil {
		return nil, false, err
	}
	limit = s.pageSize(limit)
	all, err = s.cfg.Restrictions.List(ctx, room, kind, s.now(), after, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("read restrictions: %w", err)
	}
	if len(all) > limit {
		return all[:limit], true, nil
	}
	return all, false, nil
}

// restrictionPage is how many restrictions RestrictedSince reads at a time.
const restrictionPage = 500

// RestrictedSince calls f for each restriction that was imposed or lifted at a time or later, on any node, in the order of At. One that is replaced
// meanwhile may be left out for the one in its place. It returns an error of kind Unavailable, and nil where there is no Config.Restrictions.
func (s *Service) RestrictedSince(ctx context.Context, at time.Time, f func(Restriction)) error {
	if s.cfg.Restrictions == nil {
		return nil
	}
	for limit := restrictionPage; ; {
		page, err := s.cfg.Restrictions.Since(ctx, at, limit)
		if err != nil {
			return fmt.Errorf("read restrictions: %w", err)
		}
		for _, r := range page {
			f(r)
		}
		switch {
		case len(page) < limit:
			return nil
		case page[len(page)-1].At.After(at):
			at = page[len(page)-1].At
		default: // as many have one At
			limit *= 2
		}
	}
}

// Entry is what somebody is in a room that they have joined.
type Entry struct {
	Membership
	// Mute is set if the member is muted; its Kind is empty otherwise.
	Mute Restriction
}

// entered is an answer to one who joins.
type entered struct {
	Entry
	err error
}

// admit stores the memberships of those who are not banned.
func (s *Service) admit(ctx context.Context, memberships []Membership) ([]entered, error) {
	answers := make([]entered, len(memberships))
	if s.cfg.Restrictions != nil {
		whom := make([]InRoom, len(memberships))
		for i, m := range memberships {
			whom[i] = InRoom{m.Room, m.UserID}
		}
		held, err := s.cfg.Restrictions.InForce(ctx, s.now(), whom...)
		if err != nil {
			return nil, fmt.Errorf("read restrictions: %w", err)
		}
		for _, r := range held {
			for i := range whom {
				switch {
				case whom[i] != InRoom{r.Room, r.UserID}:
				case r.Kind == Ban:
					answers[i].err = r.Refusal()
				case r.Kind == Mute:
					answers[i].Mute = r
				}
			}
		}
	}
	admitted := make([]Membership, 0, len(memberships))
	for i, m := range memberships {
		if answers[i].err == nil {
			admitted = append(admitted, m)
		}
	}
	if len(admitted) == 0 {
		return answers, nil
	}
	stores, err := s.because(Cause{}) // who joins does it themselves
	if err != nil {
		return nil, err
	}
	stored, err := stores.Members.Add(ctx, admitted...)
	s.recorded()
	if err != nil {
		return nil, fmt.Errorf("store memberships: %w", err)
	}
	if err := s.curb(ctx, stored); err != nil {
		return nil, err
	}
	for i := range answers {
		if answers[i].err == nil {
			answers[i].Membership, stored = stored[0], stored[1:]
			if answers[i].Role == "" {
				answers[i].err = ErrRoomNotFound
			}
		}
	}
	return answers, nil
}
