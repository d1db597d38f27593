package contract_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// blocks is a store of blocks of which some methods are others.
type blocks struct {
	chat.Blocks
	put    func(context.Context, chat.Block, int) (chat.Block, error)
	remove func(context.Context, ...chat.Pair) error
	among  func(context.Context, ...chat.Pair) ([]chat.Block, error)
	list   func(context.Context, chat.Pair, user.ID, int) ([]chat.Block, error)
}

func (s blocks) Put(ctx context.Context, b chat.Block, limit int) (chat.Block, error) {
	if s.put == nil {
		return s.Blocks.Put(ctx, b, limit)
	}
	return s.put(ctx, b, limit)
}

func (s blocks) Remove(ctx context.Context, pairs ...chat.Pair) error {
	if s.remove == nil {
		return s.Blocks.Remove(ctx, pairs...)
	}
	return s.remove(ctx, pairs...)
}

func (s blocks) Among(ctx context.Context, pairs ...chat.Pair) ([]chat.Block, error) {
	if s.among == nil {
		return s.Blocks.Among(ctx, pairs...)
	}
	return s.among(ctx, pairs...)
}

func (s blocks) List(ctx context.Context, p chat.Pair, after user.ID, limit int) ([]chat.Block, error) {
	if s.list == nil {
		return s.Blocks.List(ctx, p, after, limit)
	}
	return s.list(ctx, p, after, limit)
}

// blockFaults are stores that go wrong about who has blocked whom.
func blockFaults() []broken[chat.Blocks] {
	putting := func(f func(under chat.Blocks, ctx context.Context, b chat.Block, limit int) (chat.Block, error)) func(chat.Blocks) chat.Blocks {
		return func(under chat.Blocks) chat.Blocks {
			return blocks{Blocks: under, put: func(ctx context.Context, b chat.Block, limit int) (chat.Block, error) { return f(under, ctx, b, limit) }}
		}
	}
	removing := func(f func(under chat.Blocks, ctx context.Context, pairs []chat.Pair) error) func(chat.Blocks) chat.Blocks {
		return func(under chat.Blocks) chat.Blocks {
			return blocks{Blocks: under, remove: func(ctx context.Context, pairs ...chat.Pair) error { return f(under, ctx, pairs) }}
		}
	}
	asking := func(f func(under chat.Blocks, ctx context.Context, pairs []chat.Pair) ([]chat.Block, error)) func(chat.Blocks) chat.Blocks {
		return func(under chat.Blocks) chat.Blocks {
			return blocks{Blocks: under, among: func(ctx context.Context, pairs ...chat.Pair) ([]chat.Block, error) { return f(under, ctx, pairs) }}
		}
	}
	listing := func(f func(under chat.Blocks, ctx context.Context, p chat.Pair, after user.ID, limit int) ([]chat.Block, error)) func(chat.Blocks) chat.Blocks {
		return func(under chat.Blocks) chat.Blocks {
			return blocks{Blocks: under, list: func(ctx context.Context, p chat.Pair, after user.ID, limit int) ([]chat.Block, error) {
				return f(under, ctx, p, after, limit)
			}}
		}
	}
	turned := func(p chat.Pair) chat.Pair { return chat.Pair{By: p.Whom, Whom: p.By} }
	lower := func(id user.ID) user.ID { return user.ID(strings.ToLower(string(id))) }
	return []broken[chat.Blocks]{
		{"nothing is stored", "what is put is kept", putting(func(_ chat.Blocks, _ context.Context, b chat.Block, _ int) (chat.Block, error) { return b, nil })},
		{"the first one of many is missed", "what is put is kept", asking(func(under chat.Blocks, ctx context.Context, pairs []chat.Pair) ([]chat.Block, error) {
			return under.Among(ctx, pairs[min(1, len(pairs)):]...)
		})},
		{"the last one counts", "the first one stays", putting(func(under chat.Blocks, ctx context.Context, b chat.Block, limit int) (chat.Block, error) {
			if err := under.Remove(ctx, b.Pair); err != nil {
				return b, err
			}
			return under.Put(ctx, b, limit)
		})},
		{"what is given is returned", "the first one stays", putting(func(under chat.Blocks, ctx context.Context, b chat.Block, limit int) (chat.Block, error) {
			_, err := under.Put(ctx, b, limit)
			return b, err
		})},
		{"both have blocked each other", "a block is of one direction", asking(func(under chat.Blocks, ctx context.Context, pairs []chat.Pair) ([]chat.Block, error) {
			found, err := under.Among(ctx, pairs...)
			for _, p := range pairs {
				back, _ := under.Among(ctx, turned(p))
				for _, b := range back {
					if !slices.ContainsFunc(found, func(f chat.Block) bool { return f.Pair == p }) {
						found = append(found, chat.Block{Pair: p, At: b.At})
					}
				}
			}
			return found, err
		})},
		{"both blocks end", "a block is of one direction", removing(func(under chat.Blocks, ctx context.Context, pairs []chat.Pair) error {
			for _, p := range pairs {
				pairs = append(pairs, turned(p))
			}
			return under.Remove(ctx, pairs...)
		})},
		{"a list of a user has what is by them", "a block is of one direction", listing(func(under chat.Blocks, ctx context.Context, p chat.Pair, after user.ID, limit int) ([]chat.Block, error) {
			if p.By == "" {
				p = turned(p)
			}
			return under.List(ctx, p, after, limit)
		})},
		{"concurrent calls return what they were given", "concurrent calls store one block", func(under chat.Blocks) chat.Blocks {
			return blocks{Blocks: under, put: func(ctx context.Context, b chat.Block, limit int) (chat.Block, error) {
				_, err := under.Put(ctx, b, limit)
				return b, err
			}}
		}},
		{"there is no limit", "a user blocks so many", putting(func(under chat.Blocks, ctx context.Context, b chat.Block, _ int) (chat.Block, error) {
			return under.Put(ctx, b, 1000)
		})},
		{"the limit is one lower", "a user blocks so many", putting(func(under chat.Blocks, ctx context.Context, b chat.Block, limit int) (chat.Block, error) {
			return under.Put(ctx, b, limit-1)
		})},
		{"the limit refuses what is there", "a user blocks so many", putting(func(under chat.Blocks, ctx context.Context, b chat.Block, limit int) (chat.Block, error) {
			if of, _ := under.List(ctx, chat.Pair{By: b.By}, "", 1000); len(of) >= limit {
				return chat.Block{}, chat.ErrTooManyBlocks
			}
			return under.Put(ctx, b, limit)
		})},
		{"the limit is of all users", "a user blocks so many", func(under chat.Blocks) chat.Blocks {
			var mu sync.Mutex
			stored := map[chat.Pair]bool{}
			return blocks{
				Blocks: under,
				put: func(ctx context.Context, b chat.Block, limit int) (chat.Block, error) {
					mu.Lock()
					defer mu.Unlock()
					if !stored[b.Pair] && len(stored) >= limit {
						return chat.Block{}, chat.ErrTooManyBlocks
					}
					stored[b.Pair] = true
					return under.Put(ctx, b, 1000)
				},
				remove: func(ctx context.Context, pairs ...chat.Pair) error {
					mu.Lock()
					defer mu.Unlock()
					for _, p := range pairs {
						delete(stored, p)
					}
					return under.Remove(ctx, pairs...)
				},
			}
		}},
		{"who is refused is stored", "a user blocks so many", putting(func(under chat.Blocks, ctx context.Context, b chat.Block, limit int) (chat.Block, error) {
			stored, err := under.Put(ctx, b, limit)
			if err != nil && limit > 0 {
				_, _ = under.Put(ctx, b, 1000)
			}
			return stored, err
		})},
		{"concurrent calls refuse each other", "concurrent calls keep the limit", func(under chat.Blocks) chat.Blocks {
			var taken sync.Mutex
			first := true
			return blocks{Blocks: under, put: func(ctx context.Context, b chat.Block, limit int) (chat.Block, error) {
				taken.Lock()
				defer taken.Unlock()
				if !first {
					return chat.Block{}, chat.ErrTooManyBlocks
				}
				first = false
				return under.Put(ctx, b, limit)
			}}
		}},
		{"what is removed stays", "what is removed is gone", removing(func(chat.Blocks, context.Context, []chat.Pair) error { return nil })},
		{"all that a user has blocked is removed", "what is removed is gone", removing(func(under chat.Blocks, ctx context.Context, pairs []chat.Pair) error {
			for _, p := range pairs {
				of, _ := under.List(ctx, chat.Pair{By: p.By}, "", 1000)
				for _, b := range of {
					pairs = append(pairs, b.Pair)
				}
			}
			return under.Remove(ctx, pairs...)
		})},
		{"the first hundred are removed", "many are removed", removing(func(under chat.Blocks, ctx context.Context, pairs []chat.Pair) error {
			return under.Remove(ctx, pairs[:min(100, len(pairs))]...)
		})},
		{"what is not there cannot be removed", "what is not there can be removed", removing(func(under chat.Blocks, ctx context.Context, pairs []chat.Pair) error {
			if found, _ := under.Among(ctx, pairs...); len(found) == 0 {
				return chat.ErrBlockInvalid
			}
			return under.Remove(ctx, pairs...)
		})},
		{"the users of many pairs are mixed", "many are asked about at once", asking(func(under chat.Blocks, ctx context.Context, pairs []chat.Pair) ([]chat.Block, error) {
			var mixed []chat.Pair
			for _, a := range pairs[:min(len(pairs), 20)] {
				for _, b := range pairs[:min(len(pairs), 20)] {
					mixed = append(mixed, chat.Pair{By: a.By, Whom: b.Whom})
				}
			}
			return under.Among(ctx, append(mixed, pairs...)...)
		})},
		{"who is asked about twice is there twice", "many are asked about at once", asking(func(under chat.Blocks, ctx context.Context, pairs []chat.Pair) ([]chat.Block, error) {
			half := len(pairs) / 2
			a, err := under.Among(ctx, pairs[:half]...)
			if err != nil {
				return nil, err
			}
			b, err := under.Among(ctx, pairs[half:]...)
			return append(a, b...), err
		})},
		{"letters are the same in both cases", "users are exact", asking(func(under chat.Blocks, ctx context.Context, pairs []chat.Pair) ([]chat.Block, error) {
			pairs = slices.Clone(pairs)
			for i, p := range pairs {
				pairs[i].Whom = lower(p.Whom)
			}
			return under.Among(ctx, pairs...)
		})},
		{"long names are cut", "long names are kept", putting(func(under chat.Blocks, ctx context.Context, b chat.Block, limit int) (chat.Block, error) {
			cut := func(id user.ID) user.ID {
				return user.ID([]rune(string(id))[:min(len([]rune(string(id))), chat.MaxAuthorID-1)])
			}
			b.By, b.Whom = cut(b.By), cut(b.Whom)
			return under.Put(ctx, b, limit)
		})},
		{"the order is that of time", "a list is in the order of users", listing(func(under chat.Blocks, ctx context.Context, p chat.Pair, after user.ID, limit int) ([]chat.Block, error) {
			all, err := under.List(ctx, p, after, limit)
			slices.SortFunc(all, func(a, b chat.Block) int { return a.At.Compare(b.At) })
			return all, err
		})},
		{"the order heeds no case", "a list is in the order of users", listing(func(under chat.Blocks, ctx context.Context, p chat.Pair, after user.ID, limit int) ([]chat.Block, error) {
			all, err := under.List(ctx, p, after, limit)
			slices.SortStableFunc(all, func(a, b chat.Block) int {
				return strings.Compare(strings.ToLower(string(a.By+a.Whom)), strings.ToLower(string(b.By+b.Whom)))
			})
			return all, err
		})},
		{"a page begins with the one it is after", "a list comes page by page", listing(func(under chat.Blocks, ctx context.Context, p chat.Pair, after user.ID, limit int) ([]chat.Block, error) {
			if after == "" {
				return under.List(ctx, p, after, limit)
			}
			return under.List(ctx, p, after[:len(after)-1], limit)
		})},
		{"a limit of none is no limit", "a list comes page by page", listing(func(under chat.Blocks, ctx context.Context, p chat.Pair, after user.ID, limit int) ([]chat.Block, error) {
			if limit < 1 {
				limit = 100
			}
			return under.List(ctx, p, after, limit)
		})},
		{"those of a user have no pages", "a list comes page by page", listing(func(under chat.Blocks, ctx context.Context, p chat.Pair, after user.ID, limit int) ([]chat.Block, error) {
			if p.By == "" {
				after = ""
			}
			return under.List(ctx, p, after, limit)
		})},
		{"times are cut to seconds", "times are kept to the microsecond", putting(func(under chat.Blocks, ctx context.Context, b chat.Block, limit int) (chat.Block, error) {
			b.At = b.At.Truncate(time.Second)
			return under.Put(ctx, b, limit)
		})},
		{"the end of a context goes unheard", "a context that has ended is an error", removing(func(under chat.Blocks, ctx context.Context, pairs []chat.Pair) error {
			return under.Remove(context.WithoutCancel(ctx), pairs...)
		})},
	}
}
