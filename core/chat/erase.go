package chat

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

const (
	// walkRooms and walkMessages are how many rooms and messages are read at a time by whoever looks through all of them.
	walkRooms, walkMessages = 200, 200
	// walkTimeout bounds one reading.
	walkTimeout = 30 * time.Second
	// erasedTogether is how many messages are erased at a time: so long others may have to wait to be stored.
	erasedTogether = 100
	// erasePause is how long is waited where too many changes wait already.
	erasePause = 50 * time.Millisecond
	// maxErasePasses bounds how often is looked for what came meanwhile.
	maxErasePasses = 10
)

// AuthorErasure is what erasing an author has removed.
type AuthorErasure struct {
	// Memberships, Messages, Reactions and Blocks are how many of them were removed. Blocks are those by the user, and those by which others have blocked the user.
	Memberships, Messages, Reactions, Blocks int
}

func (e *AuthorErasure) add(other AuthorErasure) {
	e.Memberships += other.Memberships
	e.Messages += other.Messages
	e.Reactions += other.Reactions
	e.Blocks += other.Blocks
}

// ErrStillTalking says that an author said something again and again while being erased: their sessions must end first.
var ErrStillTalking = fault.New(fault.Conflict, "still_talking", "the user goes on talking: their sessions must end first")

// EraseAuthor removes what a user has left in rooms: memberships, with how far they have read; blocks, by them and of them; what they have set; reactions; and of their messages everything that
// [Erase] removes, also of those that were deleted before. Everybody who is in a room is told of its changes. It looks through all messages of every room that
// somebody has joined, in small parts, and then again through the rooms of the user until it finds nothing, so that what was under way is found too. The caller first
// makes sure that the user can send no more, on any node.
//
// leave, unless nil, takes the user out of a room, instead of [Service.Leave].
//
// What it returns counts also with an error. To call it again is harmless, and goes on. It returns user.ErrNotFound for [System], ErrStillTalking, or an error of kind Unavailable. [Service.Run] must be running.
func (s *Service) EraseAuthor(ctx context.Context, id user.ID, leave func(ctx context.Context, room string) error) (AuthorErasure, error) {
	if leave == nil {
		leave = func(ctx context.Context, room string) error { return s.Leave(ctx, id, room) }
	}
	if id == System.ID {
		return AuthorErasure{}, user.ErrNotFound.Detail("the system is no user")
	}
	var done AuthorErasure
	rooms := map[string]struct{}{} // those of the user
	err := s.leaveAll(ctx, id, leave, rooms, &done)
	if err == nil {
		done.Blocks, err = s.eraseBlocks(ctx, id)
	}
	if err == nil {
		err = s.eraseSettings(ctx, id)
	}
	if err == nil {
		err = s.eachRoom(ctx, func(room string) error { return s.eraseIn(ctx, id, room, rooms, &done) })
	}
	for range maxErasePasses {
		if err != nil || len(rooms) == 0 {
			return done, err
		}
		var found AuthorErasure
		err = s.leaveAll(ctx, id, leave, rooms, &found)
		for _, room := range slices.Sorted(maps.Keys(rooms)) {
			if err == nil {
				err = s.eraseIn(ctx, id, room, rooms, &found)
			}
		}
		done.add(found)
		if err == nil && found == (AuthorErasure{}) {
			return done, nil
		}
	}
	if err == nil {
		err = ErrStillTalking
	}
	return done, err
}

// leaveAll ends the memberships of a user, and adds their rooms.
func (s *Service) leaveAll(ctx context.Context, id user.ID, leave func(ctx context.Context, room string) error, rooms map[string]struct{}, done *AuthorErasure) error {
	return s.eachMembership(ctx, id, func(m Membership) error {
		rooms[m.Room] = struct{}{}
		if err := leave(ctx, m.Room); err != nil {
			return err
		}
		done.Memberships++
		return nil
	})
}

// eraseIn erases what a user has left in a room. If there was something, the room is added.
func (s *Service) eraseIn(ctx context.Context, id user.ID, room string, rooms map[string]struct{}, done *AuthorErasure) error {
	by := Author{ID: id, Name: user.ErasedName}
	theirs, erased := false, 0
	err := s.eachMessage(ctx, room, false, func(page []Message) error {
		var changes []Change
		for i := range page {
			c := Change{Kind: Erase, Room: room, Seq: page[i].Seq, By: by, At: page[i].At}
			if page[i].Author.ID != id {
				continue
			}
			theirs = true
			if _, changed, _ := c.Apply(page[i], false); changed {
				changes = append(changes, c)
			}
		}
		n, err := s.changeAll(ctx, changes)
		done.Messages += n
		erased += n
		if n > 0 {
			rooms[room] = struct{}{}
		}
		return err
	})
	if err != nil {
		return err
	}
	if theirs && erased == 0 {
		// Whoever has erased them may not have lived to tell the cache.
		s.recent.note([]string{room}, false)
	}
	return s.eachMessage(ctx, room, true, func(page []Message) error {
		var changes []Change
		for i := range page {
			for _, r := range page[i].Reactions {
				// A message does not name everybody who has reacted.
				if r.Count > len(r.Users) || slices.Contains(r.Users, id) {
					changes = append(changes, Change{Kind: Unreact, Room: room, Seq: page[i].Seq, By: by, Key: r.Key})
				}
			}
		}
		n, err := s.changeAll(ctx, changes)
		done.Reactions += n
		if n > 0 {
			rooms[room] = struct{}{}
		}
		return err
	})
}

// changeAll makes changes in one room, some at a time, and returns how many of them changed something. It waits while the room takes none.
func (s *Service) changeAll(ctx context.Context, changes []Change) (changed int, err error) {
	type outcome struct {
		Changed
		err error
	}
	for part := range slices.Chunk(changes, erasedTogether) {
		for s.refused(part[0].Room) != nil {
			if err := pause(ctx, erasePause); err != nil {
				return changed, fmt.Errorf("erase messages: %w", err)
			}
		}
		outcomes := make(chan outcome, len(part))
		waiting := 0
		for _, c := range part {
			err = s.changes.submit(c, func(c Changed, err error) { outcomes <- outcome{c, err} })
			for errors.Is(err, ErrBusy) {
				if err = pause(ctx, erasePause); err == nil {
					err = s.changes.submit(c, func(c Changed, err error) { outcomes <- outcome{c, err} })
				}
			}
			if err != nil {
				break
			}
			waiting++
		}
		for range waiting {
			o := <-outcomes
			switch {
			case o.err != nil:
				err = errors.Join(err, o.err)
			// What retention has removed meanwhile, or somebody has deleted, is gone as well.
			case errors.Is(o.Err, ErrMessageNotFound), errors.Is(o.Err, ErrMessageDeleted), o.Repeated:
			case o.Err != nil:
				err = errors.Join(err, o.Err)
			default:
				changed++
			}
		}
		if err != nil {
			return changed, fmt.Errorf("erase messages: %w", err)
		}
	}
	return changed, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fault.Wrap(fault.Unavailable, ctx.Err())
	}
}

// AuthorVisitor is told what a user has left in rooms. An error ends the telling.
type AuthorVisitor struct {
	Membership func(Membership) error
	// Message is called also for messages that were deleted, and say nothing any more.
	Message func(Message) error
	// Reaction is called for a reaction of the user to a message of anybody. Where more than MaxReactionUsers have reacted with a key, it is not
	// called for those whom the message does not name.
	Reaction func(m Message, key string) error
	// Block, unless nil, is called for everybody whom the user has blocked.
	Block func(Block) error
	// Settings, unless nil, is called if the user has set something.
	Settings func(UserSettings) error
}

// ExportAuthor tells what a user has left in rooms: memberships by room, whom they have blocked, what they have set, and then, room by room, messages by sequence and reactions. It looks through all
// messages of every room that somebody has joined, in small parts. What happens meanwhile may be told, or not.
func (s *Service) ExportAuthor(ctx context.Context, id user.ID, v AuthorVisitor) error {
	if err := s.eachMembership(ctx, id, v.Membership); err != nil {
		return err
	}
	if v.Block != nil {
		if err := s.eachBlock(ctx, id, v.Block, Pair{By: id}); err != nil {
			return err
		}
	}
	if v.Settings != nil {
		all, err := s.settingsOf(ctx, id)
		for _, set := range all {
			err = v.Settings(set)
		}
		if err != nil {
			return err
		}
	}
	return s.eachRoom(ctx, func(room string) error {
		return s.eachMessage(ctx, room, false, func(page []Message) error {
			for _, m := range page {
				if m.Author.ID == id {
					if err := v.Message(m); err != nil {
						return err
					}
				}
				for _, r := range m.Reactions {
					if !slices.Contains(r.Users, id) {
						continue
					}
					if err := v.Reaction(m, r.Key); err != nil {
						return err
					}
				}
			}
			return nil
		})
	})
}

// eachMembership visits the memberships of a user, which may end by that.
func (s *Service) eachMembership(ctx context.Context, id user.ID, visit func(Membership) error) error {
	for after := ""; ; {
		page, err := walk(ctx, func(ctx context.Context) ([]Membership, error) {
			return s.cfg.Members.RoomsOf(ctx, id, after, walkRooms)
		})
		if err != nil {
			return fmt.Errorf("read memberships: %w", err)
		}
		for _, m := range page {
			if err := visit(m); err != nil {
				return err
			}
			after = m.Room
		}
		if len(page) < walkRooms {
			return nil
		}
	}
}

// eachRoom visits every room that somebody has joined.
func (s *Service) eachRoom(ctx context.Context, visit func(room string) error) error {
	for after := ""; ; {
		page, err := walk(ctx, func(ctx context.Context) ([]Room, error) { return s.cfg.Rooms.List(ctx, after, walkRooms) })
		if err != nil {
			return fmt.Errorf("read rooms: %w", err)
		}
		for _, r := range page {
			if err := visit(r.Name); err != nil {
				return err
			}
			after = r.Name
		}
		if len(page) < walkRooms {
			return nil
		}
	}
}

// eachMessage visits the messages of a room by sequence, or those that were changed by their last change, and so also those that change meanwhile.
func (s *Service) eachMessage(ctx context.Context, room string, changed bool, visit func([]Message) error) error {
	r := Range{Limit: walkMessages, Changed: changed}
	for {
		page, err := walk(ctx, func(ctx context.Context) ([]Message, error) { return s.cfg.Store.List(ctx, room, r) })
		if err != nil {
			return fmt.Errorf("read messages: %w", err)
		}
		if len(page) == 0 {
			return nil
		}
		if err := visit(page); err != nil {
			return err
		}
		last := page[len(page)-1]
		r.After = last.Seq
		if changed {
			r.After = last.Rev
		}
		if len(page) < walkMessages && !changed {
			return nil
		}
	}
}

// walk reads once, and gives up in time.
func walk[T any](ctx context.Context, read func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, walkTimeout)
	defer cancel()
	return read(ctx)
}
