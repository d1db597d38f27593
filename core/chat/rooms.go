package chat

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/internal/visible"
	"github.com/parley-chat/parley/core/user"
)

// System speaks where no user does: for an operator, or for the application itself.
var System = Author{ID: "system", Name: "System"}

// MaxAuthorID is the longest id of an author in characters; stores are built for it.
const MaxAuthorID = 128

// ErrAuthorInvalid refuses an author that somebody has made up.
var ErrAuthorInvalid = fault.New(fault.Invalid, "author_invalid", "the author is not valid")

// CheckAuthor refuses an author whom not every store keeps, or whom others could not see: one without an id or a name, with an id of more
// than [MaxAuthorID] or a name of more than [user.MaxFullName] characters, or with text that is not UTF-8 or cannot be seen.
func CheckAuthor(a Author) error {
	if err := checkVisible(string(a.ID), MaxAuthorID); err != nil {
		return ErrAuthorInvalid.Detail("its id %v", err)
	}
	if err := checkVisible(a.Name, user.MaxFullName); err != nil {
		return ErrAuthorInvalid.Detail("its name %v", err)
	}
	return nil
}

// checkVisible is checkLine, and refuses an empty one.
func checkVisible(s string, longest int) error {
	if s == "" {
		return errors.New("is empty")
	}
	return checkLine(s, longest)
}

// checkLine refuses a line that not every store keeps, or that cannot be seen. An empty one is fine.
func checkLine(s string, longest int) error {
	switch {
	case s == "":
		return nil
	case len(s) > 4*longest || utf8.RuneCountInString(s) > longest:
		return fmt.Errorf("is longer than %d characters", longest)
	case !utf8.ValidString(s) || !visible.Only(s) || !visible.Any(s):
		return errors.New("has a character that cannot be seen")
	}
	return nil
}

// Member returns the name under which a room is kept of which who is a member. It returns ErrRoomInvalid, ErrNotMember, or ErrRoomNotFound: so a
// room looks also to whom Access does not let join it. Methods that send, change, read and mark do not ask it: a hub knows who
// has joined, and an application may speak where it is no member.
func (s *Service) Member(ctx context.Context, who Author, room string) (string, error) {
	at, err := s.Standing(ctx, Actor{Author: who}, room, RightRead)
	return at.Room.Name, err
}

// Existing returns the name under which a room is kept. It returns ErrRoomInvalid, or ErrRoomNotFound if there is none.
func (s *Service) Existing(ctx context.Context, room string) (string, error) {
	room, err := s.Resolve(ctx, room)
	if err != nil {
		return "", err
	}
	r, err := s.cfg.Rooms.ByName(ctx, room)
	if err != nil {
		return "", fmt.Errorf("read room: %w", err)
	}
	if !r.DeletedAt.IsZero() {
		return "", ErrRoomNotFound
	}
	return room, nil
}

// MaxRoomPage is the most rooms of one page of [Service.Rooms]: how far each of them reaches is a read of its own.
const MaxRoomPage = 50

const (
	// askedAtOnce is how many rooms of one page Access and the store are asked about at a time.
	askedAtOnce = 8
	// maxPassed is after how many rooms a page ends that has some, and is not full. One that has none goes on, if it is among maxSearches.
	maxPassed = 1000
	// maxSearches is how many pages at a time go on beyond maxPassed.
	maxSearches = 2
	// maxChunk is the most rooms that are read at a time.
	maxChunk = 200
)

// RoomState is a room, and how far it reaches.
type RoomState struct {
	Room
	// Seq and Rev are those of the last message and the last change: see [Bounds].
	Seq, Rev uint64
	// Role is what who has asked is in the room, where it is about that one room. Empty is no member, or with Any.
	Role Role
}

// Rooms returns at most limit (0, or more than MaxRoomPage, means MaxRoomPage) of the public rooms that who may join, ascending by the bytes of the
// name, after the given one, and says whether there may be more behind the last of them. Rooms that are not public, or that Access refuses, cost time and are left
// out; where they are many, a page may be shorter than limit. A page without rooms is the end. Few pages at a time look for a room beyond a
// thousand that are refused; others wait for that until ctx ends, and then return an error of kind Unavailable.
func (s *Service) Rooms(ctx context.Context, who Author, after string, limit int) (page []RoomState, more bool, err error) {
	return s.listRooms(ctx, after, limit, func(ctx context.Context, r Room) (bool, error) {
		if r.Kind.Or() != Public || !r.DeletedAt.IsZero() {
			return false, nil
		}
		err := s.cfg.Access.May(ctx, who, ActionJoin, r.Name)
		if errors.Is(err, fault.Forbidden) {
			return false, nil
		}
		return err == nil, err
	})
}

// AllRooms is [Service.Rooms] for whoever may see all of them, of every kind. It does not ask Access.
func (s *Service) AllRooms(ctx context.Context, after string, limit int) (page []RoomState, more bool, err error) {
	return s.listRooms(ctx, after, limit, func(_ context.Context, r Room) (bool, error) { return r.DeletedAt.IsZero(), nil })
}

// listRooms reads rooms until it has one more than limit, which says that there are more: the name of a room that is left out never says it.
func (s *Service) listRooms(ctx context.Context, after string, limit int, shows func(context.Context, Room) (bool, error)) (page []RoomState, more bool, err error) {
	if limit <= 0 || limit > MaxRoomPage {
		limit = MaxRoomPage
	}
	chunk, searches := limit+1, false
	for passed := 0; len(page) <= limit && (len(page) == 0 || passed < maxPassed); chunk = min(2*chunk, maxChunk) {
		rooms, err := s.cfg.Rooms.List(ctx, after, chunk)
		if err != nil {
			return nil, false, fmt.Errorf("read rooms: %w", err)
		}
		some, err := shown(ctx, rooms, shows)
		if err != nil {
			return nil, false, err
		}
		page = append(page, some...)
		if len(rooms) < chunk {
			return s.reaching(ctx, page[:min(len(page), limit)], len(page) > limit)
		}
		passed += len(rooms)
		after = rooms[len(rooms)-1].Name
		if len(page) == 0 && passed >= maxPassed && !searches {
			select {
			case s.searches <- struct{}{}:
				searches = true
				defer func() { <-s.searches }()
			case <-ctx.Done():
				return nil, false, fault.Wrap(fault.Unavailable, ctx.Err())
			}
		}
	}
	return s.reaching(ctx, page[:min(len(page), limit)], true)
}

// shown returns the rooms that are to be shown.
func shown(ctx context.Context, rooms []Room, shows func(context.Context, Room) (bool, error)) ([]RoomState, error) {
	show := make([]bool, len(rooms))
	err := severally(len(rooms), func(i int) (err error) {
		show[i], err = shows(ctx, rooms[i])
		return err
	})
	if err != nil {
		return nil, err
	}
	all := make([]RoomState, 0, len(rooms))
	for i, r := range rooms {
		if show[i] {
			all = append(all, RoomState{Room: r})
		}
	}
	return all, nil
}

// reaching reads how far the rooms of a page reach.
func (s *Service) reaching(ctx context.Context, page []RoomState, more bool) ([]RoomState, bool, error) {
	err := severally(len(page), func(i int) error {
		b, err := s.cfg.Store.Bounds(ctx, page[i].Name)
		page[i].Seq, page[i].Rev = b.Last, b.Rev
		if err != nil {
			return fmt.Errorf("read room: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return page, more, nil
}

// severally calls f for 0 to n-1, some at a time, and returns an error of one of them. After an error it begins no more. A panic is an error:
// it must not end the process.
func severally(n int, f func(i int) error) error {
	var (
		next, failed atomic.Int64
		wg           sync.WaitGroup
	)
	errs := make([]error, n)
	for range min(n, askedAtOnce) {
		wg.Go(func() {
			for failed.Load() == 0 {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if errs[i] = guarded(f, i); errs[i] != nil {
					failed.Store(1)
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func guarded(f func(i int) error, i int) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("chat: a rule or a store panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return f(i)
}

// MyRooms is [Service.Mine] as the user may read it, with mutes: rooms that are deleted, from which they are banned, or in which Access refuses them ActionRead, are left out, so
// that a page may be shorter than limit. next is where the next page begins, nil if this is the last one.
func (s *Service) MyRooms(ctx context.Context, who Author, behind Place, limit int) (rooms []MyRoom, next *Place, err error) {
	limit = s.pageSize(limit)
	all, err := s.Mine(ctx, who.ID, behind, limit)
	if err != nil {
		return nil, nil, err
	}
	if len(all) >= limit {
		place := all[len(all)-1].Place()
		next = &place
	}
	if all, err = s.unbanned(ctx, who.ID, all); err != nil || !s.asks {
		return all, next, err
	}
	reads := make([]bool, len(all))
	err = severally(len(all), func(i int) (err error) {
		err = s.cfg.Access.May(ctx, who, ActionRead, all[i].Room)
		if reads[i] = err == nil; errors.Is(err, fault.Forbidden) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	rooms = make([]MyRoom, 0, len(all))
	for i, r := range all {
		if reads[i] {
			rooms = append(rooms, r)
		}
	}
	return rooms, next, nil
}

// unbanned returns those rooms from which the user is not banned, with their mutes: a ban may have been stored, and the end of the membership not.
func (s *Service) unbanned(ctx context.Context, id user.ID, all []MyRoom) ([]MyRoom, error) {
	whom := make([]InRoom, len(all))
	for i, r := range all {
		whom[i] = InRoom{r.Room, id}
	}
	mutes, banned, err := s.held(ctx, whom)
	if err != nil {
		return nil, err
	}
	rooms := make([]MyRoom, 0, len(all))
	for i, r := range all {
		if _, out := banned[whom[i]]; !out {
			r.Mute = mutes[whom[i]]
			rooms = append(rooms, r)
		}
	}
	return rooms, nil
}
