package contract

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

const (
	blockPut     = "Put stores b durably, unless there is a block of the same pair, and returns what is stored."
	blockLimit   = "Put returns ErrTooManyBlocks, and stores nothing, if the user has blocked limit others or more, and not this one."
	blockPassing = "Concurrent calls of one user may pass the limit, by at most one for each call."
	blockRemove  = "Remove ends blocks durably; on an error some of them may have ended."
	blockNone    = "To end a block that does not exist is no error."
	blockAmong   = "Among returns the blocks that there are of these pairs, in any order."
	blockList    = "List returns the blocks by p.By of users greater than after, ascending by the bytes of their ids."
	blockOf      = "If p.By is empty, List returns the blocks of p.Whom by users greater than after, ascending by the bytes of their ids."
	blockPage    = "List returns at most limit: none if limit is below 1."
	sameUsers    = "Two users are the same only if they have the same bytes."
)

// Blocks is the suite of chat.Blocks.
func Blocks() []Case[chat.Blocks] {
	return suite("Blocks", []promise[chat.Blocks]{
		{"what is put is kept", blockPut + " " + blockAmong, blocksKept},
		{"the first one stays", blockPut, blocksAgain},
		{"a block is of one direction", blockAmong + " " + blockOf, blocksDirected},
		{"concurrent calls store one block", "It may be called from many goroutines. " + blockPut, blocksRace},
		{"a user blocks so many", blockLimit, blocksLimit},
		{"concurrent calls keep the limit", blockLimit + " " + blockPassing, blocksLimitRace},
		{"what is removed is gone", blockRemove, blocksRemoved},
		{"many are removed", blockRemove, blocksRemovedMany},
		{"what is not there can be removed", blockNone, blocksNotThere},
		{"many are asked about at once", blockAmong, blocksMany},
		{"users are exact", sameUsers, blocksExact},
		{"long names are kept", blockPut + " " + sameUsers, blocksLong},
		{"a list is in the order of users", blockList + " " + blockOf, blocksOrder},
		{"a list comes page by page", blockList + " " + blockOf + " " + blockPage, blocksPages},
		{"times are kept to the microsecond", "Every time is UTC, to the microsecond.", blocksTimes},
		{"a context that has ended is an error", blockPut, blocksContext},
	})
}

func pair(by, whom user.ID) chat.Pair { return chat.Pair{By: by, Whom: whom} }

// block is one of n seconds after the epoch.
func block(by, whom user.ID, n int) chat.Block { return chat.Block{Pair: pair(by, whom), At: at(n)} }

const manyBlocks = 1000

// wantBlocked puts blocks and wants them to be stored as they are.
func wantBlocked(ctx context.Context, p chat.Blocks, all ...chat.Block) error {
	for _, b := range all {
		if err := wantBlockedAs(ctx, p, b, b); err != nil {
			return err
		}
	}
	return nil
}

func wantBlockedAs(ctx context.Context, p chat.Blocks, b, want chat.Block) error {
	got, err := p.Put(ctx, b, manyBlocks)
	return during("Put", then(err, func() error { return same(got, want) }))
}

func compareBlocks(a, b chat.Block) int {
	return cmp.Or(cmp.Compare(a.By, b.By), cmp.Compare(a.Whom, b.Whom))
}

// wantAmong wants these to be stored, in any order.
func wantAmong(ctx context.Context, p chat.Blocks, asked []chat.Pair, want ...chat.Block) error {
	got, err := p.Among(ctx, asked...)
	got, want = slices.Clone(got), slices.Clone(want)
	slices.SortFunc(got, compareBlocks)
	slices.SortFunc(want, compareBlocks)
	return during("Among", then(err, func() error { return same(got, want) }))
}

func wantBlocks(ctx context.Context, p chat.Blocks, of chat.Pair, after user.ID, limit int, want ...chat.Block) error {
	got, err := p.List(ctx, of, after, limit)
	return during(fmt.Sprintf("List(by %q, of %q, after %q, limit %d)", of.By, of.Whom, after, limit), then(err, func() error { return same(got, want) }))
}

func blocksKept(ctx context.Context, p chat.Blocks) error {
	b := block("user-1", "user-2", 1)
	return first(
		func() error { return wantAmong(ctx, p, []chat.Pair{b.Pair}) },
		func() error { return wantBlocks(ctx, p, pair("user-1", ""), "", 10) },
		func() error { return wantBlocked(ctx, p, b) },
		func() error { return wantAmong(ctx, p, []chat.Pair{b.Pair}, b) },
		func() error { return wantAmong(ctx, p, nil) },
		func() error { return wantBlocks(ctx, p, pair("user-1", ""), "", 10, b) },
		func() error { return wantBlocks(ctx, p, pair("", "user-2"), "", 10, b) },
	)
}

func blocksAgain(ctx context.Context, p chat.Blocks) error {
	b := block("user-1", "user-2", 1)
	return first(
		func() error { return wantBlocked(ctx, p, b) },
		func() error { return wantBlockedAs(ctx, p, block("user-1", "user-2", 9), b) },
		func() error { return wantBlocks(ctx, p, pair("user-1", ""), "", 10, b) },
	)
}

func blocksDirected(ctx context.Context, p chat.Blocks) error {
	there, back := block("user-1", "user-2", 1), block("user-2", "user-1", 2)
	other := block("user-3", "user-2", 3)
	return first(
		func() error { return wantBlocked(ctx, p, there) },
		func() error { return wantAmong(ctx, p, []chat.Pair{back.Pair}) },
		func() error { return wantBlocks(ctx, p, pair("user-2", ""), "", 10) },
		func() error { return wantBlocks(ctx, p, pair("", "user-1"), "", 10) },
		func() error { return wantBlocked(ctx, p, back, other) },
		func() error { return wantAmong(ctx, p, []chat.Pair{back.Pair, there.Pair}, there, back) },
		func() error { return wantBlocks(ctx, p, pair("user-2", ""), "", 10, back) },
		func() error { return wantBlocks(ctx, p, pair("", "user-2"), "", 10, there, other) },
		func() error { return p.Remove(ctx, there.Pair) },
		func() error { return wantAmong(ctx, p, []chat.Pair{back.Pair, there.Pair}, back) },
	)
}

func blocksRace(ctx context.Context, p chat.Blocks) error {
	const n = 8
	got := make([]chat.Block, n)
	return first(
		func() error {
			return allTogether(n, func(i int) (err error) {
				got[i], err = p.Put(ctx, block("user-1", "user-2", i), manyBlocks)
				return during("Put", err)
			})
		},
		func() error {
			for _, b := range got[1:] {
				if err := same(b, got[0]); err != nil {
					return during("concurrent calls of Put", err)
				}
			}
			return wantBlocks(ctx, p, pair("user-1", ""), "", 10, got[0])
		},
	)
}

// wantTooMany wants the user to be refused another block.
func wantTooMany(ctx context.Context, p chat.Blocks, b chat.Block, limit int) error {
	if got, err := p.Put(ctx, b, limit); !errors.Is(err, chat.ErrTooManyBlocks) {
		return during("Put", fmt.Errorf("with a limit of %d it returned %+v and %w, want ErrTooManyBlocks", limit, got, orNone(err)))
	}
	return nil
}

func blocksLimit(ctx context.Context, p chat.Blocks) error {
	put := func(b chat.Block, limit int) error { return during("Put", second(p.Put(ctx, b, limit))) }
	return first(
		func() error { return wantTooMany(ctx, p, block("user-1", "user-2", 1), 0) },
		func() error { return put(block("user-1", "user-2", 1), 2) },
		func() error { return put(block("user-1", "user-3", 2), 2) },
		func() error { return wantTooMany(ctx, p, block("user-1", "user-4", 3), 2) },
		func() error { return wantTooMany(ctx, p, block("user-1", "user-4", 3), 1) },
		func() error { return put(block("user-1", "user-3", 4), 2) }, // it is there
		func() error { return put(block("user-1", "user-3", 4), 0) },
		func() error { return put(block("user-2", "user-4", 5), 1) }, // by another one
		func() error { return put(block("user-4", "user-1", 5), 1) },
		func() error {
			return wantBlocks(ctx, p, pair("user-1", ""), "", 10, block("user-1", "user-2", 1), block("user-1", "user-3", 2))
		},
		func() error { return p.Remove(ctx, pair("user-1", "user-2")) },
		func() error { return put(block("user-1", "user-4", 6), 2) },
	)
}

func blocksLimitRace(ctx context.Context, p chat.Blocks) error {
	const n = 8
	if err := allTogether(n, func(i int) error {
		_, err := p.Put(ctx, block("user-1", user.ID(fmt.Sprintf("user-1%d", i)), i), 3)
		if errors.Is(err, chat.ErrTooManyBlocks) {
			return nil
		}
		return during("Put", err)
	}); err != nil {
		return err
	}
	got, err := p.List(ctx, pair("user-1", ""), "", 100)
	if err == nil && len(got) < 3 {
		err = fmt.Errorf("%d concurrent calls with a limit of 3 have stored %d", n, len(got))
	}
	return during("List", then(err, func() error { return wantTooMany(ctx, p, block("user-1", "user-99", 99), 3) }))
}

func blocksRemoved(ctx context.Context, p chat.Blocks) error {
	a, b := block("user-1", "user-2", 1), block("user-1", "user-3", 2)
	return first(
		func() error { return wantBlocked(ctx, p, a, b) },
		func() error { return p.Remove(ctx, a.Pair) },
		func() error { return wantAmong(ctx, p, []chat.Pair{a.Pair, b.Pair}, b) },
		func() error { return wantBlocks(ctx, p, pair("user-1", ""), "", 10, b) },
		func() error { return wantBlocks(ctx, p, pair("", "user-2"), "", 10) },
		func() error { return wantBlocked(ctx, p, block("user-1", "user-2", 7)) },
	)
}

func blocksRemovedMany(ctx context.Context, p chat.Blocks) error {
	const n = 250
	var all []chat.Block
	var gone []chat.Pair
	for i := range n {
		b := block("user-1", user.ID(fmt.Sprintf("user-%03d", i+100)), i)
		all = append(all, b)
		if i != n/2 {
			gone = append(gone, b.Pair)
		}
	}
	return first(
		func() error { return wantBlocked(ctx, p, all...) },
		func() error { return p.Remove(ctx) },
		func() error { return wantBlocks(ctx, p, pair("user-1", ""), "", n+1, all...) },
		func() error { return p.Remove(ctx, gone...) },
		func() error { return wantBlocks(ctx, p, pair("user-1", ""), "", 10, all[n/2]) },
	)
}

func blocksNotThere(ctx context.Context, p chat.Blocks) error {
	b := block("user-1", "user-2", 1)
	return first(
		func() error { return during("Remove", p.Remove(ctx, pair("user-1", "user-2"))) },
		func() error { return wantBlocked(ctx, p, b) },
		func() error {
			return during("Remove", p.Remove(ctx, pair("user-2", "user-1"), pair("user-9", "user-1")))
		},
		func() error { return wantAmong(ctx, p, []chat.Pair{b.Pair}, b) },
	)
}

func blocksMany(ctx context.Context, p chat.Blocks) error {
	const n = 512
	var asked []chat.Pair
	var want []chat.Block
	for i := range n {
		asked = append(asked, pair(user.ID(fmt.Sprintf("user-%d", i%7)), user.ID(fmt.Sprintf("other-%d", i))))
		if i%60 == 11 || i == n-1 {
			want = append(want, chat.Block{Pair: asked[i], At: at(i)})
		}
	}
	return first(
		func() error { return wantBlocked(ctx, p, want...) },
		// Both users are among those asked about, and the pair is not.
		func() error { return wantBlocked(ctx, p, block("user-0", "other-1", 1)) },
		func() error { return wantAmong(ctx, p, asked, want...) },
		func() error { return wantAmong(ctx, p, append(slices.Clone(asked[:100]), asked[:100]...), want[:2]...) },
	)
}

func blocksExact(ctx context.Context, p chat.Blocks) error {
	for i, name := range names {
		if i%2 == 0 {
			if err := wantBlocked(ctx, p, block(user.ID(name), "whom", i), block("by", user.ID(name), i)); err != nil {
				return err
			}
		}
	}
	var of, by []chat.Block
	for i, name := range names {
		var theirs, them []chat.Block
		if i%2 == 0 {
			theirs, them = []chat.Block{block(user.ID(name), "whom", i)}, []chat.Block{block("by", user.ID(name), i)}
			of, by = append(of, theirs...), append(by, them...)
		}
		if err := first(
			func() error { return wantAmong(ctx, p, []chat.Pair{pair(user.ID(name), "whom")}, theirs...) },
			func() error { return wantAmong(ctx, p, []chat.Pair{pair(user.ID(name), "WHOM")}) },
			func() error { return wantAmong(ctx, p, []chat.Pair{pair("by", user.ID(name))}, them...) },
			func() error { return wantBlocks(ctx, p, pair(user.ID(name), ""), "", 10, theirs...) },
			func() error { return wantBlocks(ctx, p, pair("", user.ID(name)), "", 10, them...) },
		); err != nil {
			return during(fmt.Sprintf("%q", name), err)
		}
	}
	slices.SortFunc(of, compareBlocks)
	slices.SortFunc(by, compareBlocks)
	return first(
		func() error { return wantBlocks(ctx, p, pair("", "whom"), "", 100, of...) },
		func() error { return wantBlocks(ctx, p, pair("by", ""), "", 100, by...) },
		func() error { return p.Remove(ctx, pair("by", user.ID(names[1]))) }, // not the one that looks like it
		func() error { return wantBlocks(ctx, p, pair("by", ""), "", 100, by...) },
	)
}

func blocksLong(ctx context.Context, p chat.Blocks) error {
	longest := user.ID(long(chat.MaxAuthorID))
	other := user.ID(long(chat.MaxAuthorID-1) + "x")
	a, b := block(longest, other, 1), block(other, longest, 2)
	return first(
		func() error { return wantBlocked(ctx, p, a, b) },
		func() error { return wantAmong(ctx, p, []chat.Pair{a.Pair, b.Pair, pair(longest, longest)}, a, b) },
		func() error { return wantBlocks(ctx, p, pair(longest, ""), "", 10, a) },
	)
}

func blocksOrder(ctx context.Context, p chat.Blocks) error {
	ids := []user.ID{"a", "B", "b", "Ä", "z", "ä", "10", "9", "房", "👋", "\uffee", "a b", "a.b", "aa"}
	var by, of []chat.Block
	for i, id := range ids {
		by, of = append(by, block("by", id, len(ids)-i)), append(of, block(id, "whom", i))
	}
	return first(
		func() error { return wantBlocked(ctx, p, append(slices.Clone(by), of...)...) },
		func() error {
			slices.SortFunc(by, compareBlocks)
			return wantBlocks(ctx, p, pair("by", ""), "", 100, by...)
		},
		func() error {
			slices.SortFunc(of, compareBlocks)
			return wantBlocks(ctx, p, pair("", "whom"), "", 100, of...)
		},
	)
}

func blocksPages(ctx context.Context, p chat.Blocks) error {
	var by, of []chat.Block
	for i := range 5 {
		id := user.ID(fmt.Sprintf("user-%d", 2*i))
		by, of = append(by, block("by", id, i)), append(of, block(id, "whom", i))
	}
	return first(
		func() error { return wantBlocked(ctx, p, append(slices.Clone(by), of...)...) },
		func() error { return wantBlocks(ctx, p, pair("by", ""), "", 3, by[:3]...) },
		func() error { return wantBlocks(ctx, p, pair("by", ""), by[2].Whom, 2, by[3:5]...) },
		func() error { return wantBlocks(ctx, p, pair("by", ""), "user-3", 10, by[2:]...) }, // after one that is none
		func() error { return wantBlocks(ctx, p, pair("by", ""), "user-9", 10) },
		func() error { return wantBlocks(ctx, p, pair("by", ""), "", math.MaxInt32, by...) },
		func() error { return wantBlocks(ctx, p, pair("by", ""), "", 0) },
		func() error { return wantBlocks(ctx, p, pair("by", ""), "", -1) },
		func() error { return wantBlocks(ctx, p, pair("", "whom"), "", 3, of[:3]...) },
		func() error { return wantBlocks(ctx, p, pair("", "whom"), of[2].By, 2, of[3:5]...) },
		func() error { return wantBlocks(ctx, p, pair("", "whom"), "user-3", 10, of[2:]...) },
		func() error { return wantBlocks(ctx, p, pair("", "whom"), "", -1) },
	)
}

func blocksTimes(ctx context.Context, p chat.Blocks) error {
	given := block("user-1", "user-2", 1)
	given.At = at(1).In(time.FixedZone("east", 5*3600)).Add(3*time.Microsecond + 700*time.Nanosecond)
	stored := given
	stored.At = at(1).Add(3 * time.Microsecond)
	return first(
		func() error { return wantBlockedAs(ctx, p, given, stored) },
		func() error { return wantBlockedAs(ctx, p, given, stored) },
		func() error { return wantAmong(ctx, p, []chat.Pair{given.Pair}, stored) },
		func() error { return wantBlocks(ctx, p, pair("user-1", ""), "", 10, stored) },
	)
}

func blocksContext(ctx context.Context, p chat.Blocks) error {
	return first(
		func() error { return wantBlocked(ctx, p, block("user-1", "user-2", 1)) },
		func() error {
			gone := ended(ctx)
			for name, do := range map[string]func() error{
				"Put":    func() error { return second(p.Put(gone, block("user-1", "user-3", 2), manyBlocks)) },
				"Remove": func() error { return p.Remove(gone, pair("user-1", "user-2")) },
				"Among":  func() error { return second(p.Among(gone, pair("user-1", "user-2"))) },
				"List":   func() error { return second(p.List(gone, pair("user-1", ""), "", 10)) },
			} {
				if do() == nil {
					return errors.New(name + " succeeded although its context had ended")
				}
			}
			return nil
		},
	)
}
