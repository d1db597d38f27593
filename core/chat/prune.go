package chat

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-chat/parley/core/fault"
)

// What is refused to whoever removes messages by age.
var (
	ErrNoPruner = fault.New(fault.Unavailable, "no_pruner", "this server removes no messages by age")
	// ErrNotYet says that something else has to happen before a room can be removed. A [Pruner] that is wrapped may return it; a [Janitor] comes again in its next round.
	ErrNotYet = fault.New(fault.Unavailable, "room_removed_later", "the room is removed later")
)

// Pruner removes the oldest messages of rooms, and whole rooms. It shares its store with [MessageStore], [Rooms], [Members], [Marks] and [Restrictions].
//
// It may be called from many goroutines.
// Two rooms are the same only if they have the same bytes.
type Pruner interface {
	// Aged looks at the first messages of room that are stored, at most limit, and counts those that were stored before a time, up to the first that was not.
	// Aged returns the sequence that comes behind them: without any, that is the First of Bounds.
	// An unknown room has none, and limit below 1 looks at none.
	Aged(ctx context.Context, room string, before time.Time, limit int) (first uint64, aged int, err error)
	// Prune removes the messages of room whose sequence is lower than first, durably, and returns how many.
	// Their text, data, reactions and client ids are gone, and so are their changes and deletions.
	// Bounds has a higher First then, and the same Last and Rev: no sequence and no Rev is given out twice.
	// A call that fails, or that ends half way, has removed the first messages or none: those that are left have no gaps.
	// What is left has its own sequence, Rev and reactions.
	// What members have read does not go back.
	// A message that was removed is not stored: its change is refused with ErrMessageNotFound, and its ClientID may come again.
	Prune(ctx context.Context, room string, first uint64) (removed int, err error)
	// Drop removes what is stored of room, durably, and reports whether something is left.
	// One call removes at most limit messages or memberships, and at least one of them if there are any; messages go first, and of these the first ones.
	// When nothing is left, nothing of the room is stored: no message, change, reaction, membership or restriction.
	// The room itself goes last: as long as something is left, Rooms has it.
	// A room of that name begins anew then: its sequence and its Rev are 1 again.
	// An unknown room has nothing left.
	// Whoever calls has seen to it that nobody joins the room, sends or changes anything in it.
	Drop(ctx context.Context, room string, limit int) (left bool, err error)
}

// Prune removes the first messages of room, at most limit, that were stored before a time, and returns how many. Those before a newer one alone are removed: what
// is left has no gaps. They are taken from the cache first; where it does not answer, nothing is removed. Nobody is told: who comes back and missed some of them
// has Page.Recovered false. To call it again, or on several nodes at once, is harmless. It returns ErrRoomInvalid, ErrNoPruner, or an error of
// kind Unavailable, after which some may be removed.
func (s *Service) Prune(ctx context.Context, room string, before time.Time, limit int) (removed int, err error) {
	if s.cfg.Pruner == nil {
		return 0, ErrNoPruner
	}
	if err := CheckRoom(room); err != nil {
		return 0, err
	}
	first, aged, err := s.cfg.Pruner.Aged(ctx, room, stamped(before), limit)
	if err != nil {
		return 0, fmt.Errorf("look for old messages: %w", err)
	}
	if aged == 0 {
		return 0, nil
	}
	// First, so that whoever dies in between leaves nothing there that is stored nowhere else.
	if err := s.recent.cut(ctx, room, first); err != nil {
		return 0, fmt.Errorf("take old messages from the cache: %w", err)
	}
	if removed, err = s.cfg.Pruner.Prune(ctx, room, first); err != nil {
		return removed, fmt.Errorf("remove old messages: %w", err)
	}
	return removed, nil
}

// Drop removes a room and all that is stored of it, at most limit messages or memberships, and reports whether something is left: it is to be called until there is
// not. Nobody may join, send or change anything there from two minutes before. What the cache has of the room goes first; where it does not answer, nothing is removed.
// It returns ErrRoomInvalid, ErrNoPruner, or an error of kind Unavailable, after which some may be removed; to call it again goes on. ErrNotYet is one.
func (s *Service) Drop(ctx context.Context, room string, limit int) (left bool, err error) {
	if s.cfg.Pruner == nil {
		return true, ErrNoPruner
	}
	if err := CheckRoom(room); err != nil {
		return true, err
	}
	if err := s.recent.cut(ctx, room, Gone); err != nil {
		return true, fmt.Errorf("take a room from the cache: %w", err)
	}
	if left, err = s.cfg.Pruner.Drop(ctx, room, limit); err != nil {
		return true, fmt.Errorf("remove a room: %w", err)
	}
	s.Forget(room)
	return left, nil
}
