package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Pair is one user who may have blocked another one.
type Pair struct {
	By, Whom user.ID
}

// Block says that a user has blocked another one: the two have no direct room that they could begin, or write in. In other rooms it says nothing.
type Block struct {
	Pair
	// At is when the user was blocked.
	At time.Time
}

// Blocks keeps who has blocked whom.
//
// It may be called from many goroutines.
// Two users are the same only if they have the same bytes.
// Every time is UTC, to the microsecond.
type Blocks interface {
	// Put stores b durably, unless there is a block of the same pair, and returns what is stored.
	// Put returns ErrTooManyBlocks, and stores nothing, if the user has blocked limit others or more, and not this one.
	// Concurrent calls of one user may pass the limit, by at most one for each call.
	Put(ctx context.Context, b Block, limit int) (Block, error)
	// Remove ends blocks durably; on an error some of them may have ended.
	// To end a block that does not exist is no error.
	Remove(ctx context.Context, pairs ...Pair) error
	// Among returns the blocks that there are of these pairs, in any order.
	Among(ctx context.Context, pairs ...Pair) ([]Block, error)
	// List returns the blocks by p.By of users greater than after, ascending by the bytes of their ids.
	// If p.By is empty, List returns the blocks of p.Whom by users greater than after, ascending by the bytes of their ids.
	// List returns at most limit: none if limit is below 1.
	List(ctx context.Context, p Pair, after user.ID, limit int) ([]Block, error)
}

// What blocks refuse.
var (
	ErrBlockInvalid  = fault.New(fault.Invalid, "block_invalid", "nobody can block themselves")
	ErrTooManyBlocks = fault.New(fault.Conflict, "too_many_blocks", "too many users are blocked: end the block of one first")
	// ErrBlocking refuses a direct room with somebody whom one has blocked.
	ErrBlocking = fault.New(fault.Conflict, "blocked_by_you", "you have blocked this user: end the block first")
	// ErrNoBlocks says that there is no Config.Blocks.
	ErrNoBlocks = fault.New(fault.Invalid, "blocks_not_supported", "this server keeps no blocks")
)

// KeepsBlocks reports whether there is a Config.Blocks.
func (s *Service) KeepsBlocks() bool { return s.cfg.Blocks != nil }

// Block makes a user block another one, durably, and returns what is stored. To block somebody again is no error. From now on neither begins a direct room with the
// other. In the one that they have both may only read, on every node, until neither blocks the other: [Service.OnRights] hears of it.
//
// It returns ErrNoBlocks, ErrBlockInvalid, user.ErrNotFound for whoever is not known and has no direct room with the user, ErrTooManyBlocks, or an error of kind
// Unavailable: then the outcome is unknown, and to do it again is harmless.
func (s *Service) Block(ctx context.Context, by, whom user.ID) (Block, error) {
	switch {
	case s.cfg.Blocks == nil:
		return Block{}, ErrNoBlocks
	case by == whom:
		return Block{}, ErrBlockInvalid
	}
	known, err := s.knowsUser(ctx, whom)
	if err != nil {
		return Block{}, err
	}
	room := directName(by, whom)
	if !known {
		if checkVisible(string(whom), MaxAuthorID) != nil {
			return Block{}, user.ErrNotFound
		}
		switch _, err := s.cfg.Rooms.ByName(ctx, room); {
		case errors.Is(err, ErrRoomNotFound):
			return Block{}, user.ErrNotFound
		case err != nil:
			return Block{}, fmt.Errorf("read room: %w", err)
		}
	}
	var b Block
	err = s.changeBlock(ctx, Pair{by, whom}, func() (err error) {
		b, err = s.cfg.Blocks.Put(ctx, Block{Pair: Pair{by, whom}, At: s.now()}, s.cfg.MaxBlocks)
		return err
	})
	return b, err
}

// Unblock ends a block. To end one that is not there is no error. It returns ErrNoBlocks, or an error of kind Unavailable: then the outcome is unknown, and to do
// it again is harmless.
func (s *Service) Unblock(ctx context.Context, by, whom user.ID) error {
	switch {
	case s.cfg.Blocks == nil:
		return ErrNoBlocks
	case by == whom, checkVisible(string(whom), MaxAuthorID) != nil:
		return nil // nobody can have blocked them
	}
	return s.changeBlock(ctx, Pair{by, whom}, func() error { return s.cfg.Blocks.Remove(ctx, Pair{by, whom}) })
}

// changeBlock stores a change of a block, which is a change of rights in the direct room of the two.
func (s *Service) changeBlock(ctx context.Context, p Pair, store func() error) error {
	room := directName(p.By, p.Whom)
	if err := s.note(ctx, room, RoomNote, System.ID, p.By); err != nil {
		return err
	}
	if err := store(); err != nil {
		return fmt.Errorf("store block: %w", err)
	}
	members, err := s.Rights(ctx, InRoom{room, p.By}, InRoom{room, p.Whom})
	if err != nil {
		return fault.Wrap(fault.Unavailable, err) // it is stored; who does it again tells it
	}
	for _, m := range members {
		tellAll(&s.heardRights, RightsChange{Room: room, User: m.UserID, Role: m.Role})
	}
	return nil
}

// Blocks returns at most limit (0 means MaxPage) of those whom a user has blocked, ascending by the bytes of their ids, after the given one, and whether there are
// more. It returns ErrNoBlocks, or an error of kind Unavailable.
func (s *Service) Blocks(ctx context.Context, by, after user.ID, limit int) (all []Block, more bool, err error) {
	if s.cfg.Blocks == nil {
		return nil, false, ErrNoBlocks
	}
	limit = s.pageSize(limit)
	all, err = s.cfg.Blocks.List(ctx, Pair{By: by}, after, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("read blocks: %w", err)
	}
	if len(all) > limit {
		return all[:limit], true, nil
	}
	return all, false, nil
}

// curb makes those readers who are members of direct rooms of two of whom one has blocked the other. It asks nobody about other rooms.
func (s *Service) curb(ctx context.Context, members []Membership) error {
	if s.cfg.Blocks == nil {
		return nil
	}
	var rooms []string
	for _, m := range members {
		if reserved(m.Room) && m.Role != "" && !slices.Contains(rooms[max(0, len(rooms)-1):], m.Room) {
			rooms = append(rooms, m.Room)
		}
	}
	if len(rooms) == 0 {
		return nil
	}
	of := make([]direct, len(rooms))
	if err := severally(len(rooms), func(i int) (err error) {
		of[i], err = s.directOf(ctx, rooms[i])
		return err
	}); err != nil {
		return err
	}
	var asked []Pair
	for _, d := range of {
		if d != (direct{}) {
			asked = append(asked, Pair{d[0], d[1]}, Pair{d[1], d[0]})
		}
	}
	if len(asked) == 0 {
		return nil
	}
	blocks, err := s.cfg.Blocks.Among(ctx, asked...)
	if err != nil {
		return fmt.Errorf("read blocks: %w", err)
	}
	curbed := make(map[string]bool, len(blocks))
	for _, b := range blocks {
		curbed[directName(b.By, b.Whom)] = true
	}
	for i, m := range members {
		if m.Role != "" && curbed[m.Room] {
			members[i].Role = Reader
		}
	}
	return nil
}

// eraseBlocks ends the blocks by and of a user, and returns how many there were.
func (s *Service) eraseBlocks(ctx context.Context, id user.ID) (n int, err error) {
	err = s.eachBlock(ctx, id, func(b Block) error {
		n++
		return s.changeBlock(ctx, b.Pair, func() error { return s.cfg.Blocks.Remove(ctx, b.Pair) })
	}, Pair{By: id}, Pair{Whom: id})
	return n, err
}

// eachBlock visits the blocks that [Blocks.List] returns for each of some pairs. They may end by that.
func (s *Service) eachBlock(ctx context.Context, id user.ID, visit func(Block) error, of ...Pair) error {
	if s.cfg.Blocks == nil {
		return nil
	}
	for _, p := range of {
		for after := user.ID(""); ; {
			page, err := walk(ctx, func(ctx context.Context) ([]Block, error) { return s.cfg.Blocks.List(ctx, p, after, walkRooms) })
			if err != nil {
				return fmt.Errorf("read blocks: %w", err)
			}
			for _, b := range page {
				if err := visit(b); err != nil {
					return err
				}
				if after = b.Whom; p.By == "" {
					after = b.By
				}
			}
			if len(page) < walkRooms {
				break
			}
		}
	}
	return nil
}

// between reports whether by has blocked whom, and the other way round.
func (s *Service) between(ctx context.Context, a, b user.ID) (byA, byB bool, err error) {
	if s.cfg.Blocks == nil {
		return false, false, nil
	}
	blocks, err := s.cfg.Blocks.Among(ctx, Pair{a, b}, Pair{b, a})
	if err != nil {
		return false, false, fmt.Errorf("read blocks: %w", err)
	}
	has := func(by user.ID) bool { return slices.ContainsFunc(blocks, func(b Block) bool { return b.By == by }) }
	return has(a), has(b), nil
}
