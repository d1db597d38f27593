package memory

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// Blocks is a chat.Blocks.
type Blocks struct {
	mu sync.RWMutex
	by map[user.ID]map[user.ID]time.Time // when by has blocked whom
}

var _ chat.Blocks = (*Blocks)(nil)

// NewBlocks returns a store without blocks.
func NewBlocks() *Blocks { return &Blocks{by: map[user.ID]map[user.ID]time.Time{}} }

// Put stores a block, unless it is there.
func (bs *Blocks) Put(ctx context.Context, b chat.Block, limit int) (chat.Block, error) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if err := alive(ctx); err != nil {
		return chat.Block{}, err
	}
	of := bs.by[b.By]
	if at, there := of[b.Whom]; there {
		b.At = at
		return b, nil
	}
	if len(of) >= limit {
		return chat.Block{}, chat.ErrTooManyBlocks
	}
	if of == nil {
		of = map[user.ID]time.Time{}
		bs.by[b.By] = of
	}
	b.At = stamp(b.At)
	of[b.Whom] = b.At
	return b, nil
}

// Remove ends blocks.
func (bs *Blocks) Remove(ctx context.Context, pairs ...chat.Pair) error {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if err := alive(ctx); err != nil {
		return err
	}
	for _, p := range pairs {
		delete(bs.by[p.By], p.Whom)
		if len(bs.by[p.By]) == 0 {
			delete(bs.by, p.By)
		}
	}
	return nil
}

// Among returns the blocks that there are of these pairs.
func (bs *Blocks) Among(ctx context.Context, pairs ...chat.Pair) ([]chat.Block, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	bs.mu.RLock()
	defer bs.mu.RUnlock()
	found, asked := []chat.Block{}, make(map[chat.Pair]bool, len(pairs))
	for _, p := range pairs {
		if at, there := bs.by[p.By][p.Whom]; there && !asked[p] {
			found = append(found, chat.Block{Pair: p, At: at})
		}
		asked[p] = true
	}
	return found, nil
}

// List returns the blocks by a user, or those of a user, for which it looks at everybody.
func (bs *Blocks) List(ctx context.Context, p chat.Pair, after user.ID, limit int) ([]chat.Block, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	bs.mu.RLock()
	defer bs.mu.RUnlock()
	all := []chat.Block{}
	if p.By != "" {
		for whom, at := range bs.by[p.By] {
			if whom > after {
				all = append(all, chat.Block{Pair: chat.Pair{By: p.By, Whom: whom}, At: at})
			}
		}
	} else {
		for by, of := range bs.by {
			if at, there := of[p.Whom]; there && by > after {
				all = append(all, chat.Block{Pair: chat.Pair{By: by, Whom: p.Whom}, At: at})
			}
		}
	}
	slices.SortFunc(all, func(a, b chat.Block) int { return cmp.Or(cmp.Compare(a.Whom, b.Whom), cmp.Compare(a.By, b.By)) })
	return slices.Clip(all[:min(max(limit, 0), len(all))]), nil
}
