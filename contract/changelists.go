package contract

import (
	"cmp"
	"context"
	"fmt"
	"math"

	"github.com/parley-chat/parley/core/chat"
)

// history makes changes after which the messages 1 to 8 have the Revs 11, 0, 9, 10, 0, 6, 12 and 0.
func history(ctx context.Context, p chat.MessageStore) (*ledger, error) {
	l, err := begin(ctx, p, append(messagesOfRoom("room", 8), messagesOfRoom("other", 2)...)...)
	return l, then(err,
		func() error {
			return l.do(ctx, p, edit(3, 11, "1"), edit(4, 12, "2"), react(1, 13, "+1"), react(3, 14, "+1"), edit(7, 15, "5"), erase(6, 16), in("other", edit(2, 17, "other")))
		},
		func() error {
			return l.do(ctx, p, react(7, 18, "+1"), unreact(7, 19, "+1"), edit(3, 20, "9"), erase(4, 21), unreact(1, 22, "+1"), edit(7, 23, "12"))
		},
	)
}

func messagesOfRoom(room string, n int) []chat.Message {
	var all []chat.Message
	for i := range n {
		all = append(all, said(room, i+1))
	}
	return all
}

func changeList(ctx context.Context, p chat.MessageStore) error {
	l, err := history(ctx, p)
	if err != nil {
		return err
	}
	for _, r := range []chat.Range{
		{}, {After: 6}, {After: 8}, {After: 9}, {After: 12}, {Before: 6}, {Before: 7}, {Before: 11}, {After: 6, Before: 12}, {After: 9, Before: 10}, {After: 10, Before: 9}, {Before: 1},
		{Limit: 1}, {Limit: 3}, {After: 9, Limit: 2}, {UpTo: 1}, {UpTo: 2}, {UpTo: 4}, {UpTo: 6}, {UpTo: 8}, {UpTo: 100}, {UpTo: 6, Limit: 2}, {After: 6, Before: 11, UpTo: 3},
		{Newest: true, Limit: 2}, {Newest: true, After: 6, UpTo: 7, Limit: 1},
	} {
		if r.Changed = true; r.Limit == 0 {
			r.Limit = 100
		}
		if err := wantMessages(ctx, p, "room", r, l.changed("room", r)...); err != nil {
			return err
		}
	}
	return first(
		func() error { return l.same(ctx, p) },
		func() error { return wantMessages(ctx, p, "nowhere", everyChange) },
		func() error {
			return wantMessages(ctx, p, "room", chat.Range{After: 3, UpTo: 4, Limit: 2}, l.rooms["room"][3:5]...)
		},
	)
}

func changeEdges(ctx context.Context, p chat.MessageStore) error {
	l, err := beginWith(ctx, p, 3)
	if err != nil {
		return err
	}
	if err := l.do(ctx, p, edit(2, 11, "changed"), edit(1, 12, "changed")); err != nil {
		return err
	}
	all := l.changed("room", everyChange)
	for _, edge := range []uint64{math.MaxInt64 - 1, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64 - 1, math.MaxUint64} {
		if err := first(
			func() error { return wantMessages(ctx, p, "room", chat.Range{Changed: true, After: edge, Limit: 5}) },
			func() error {
				return wantMessages(ctx, p, "room", chat.Range{Changed: true, Before: edge, Limit: 5}, all...)
			},
			func() error {
				return wantMessages(ctx, p, "room", chat.Range{Changed: true, UpTo: edge, Limit: 5}, all...)
			},
			func() error {
				return wantMessages(ctx, p, "room", chat.Range{Changed: true, After: 1, Before: edge, UpTo: edge, Limit: 1}, all[1])
			},
		); err != nil {
			return err
		}
	}
	return nil
}

func changePages(ctx context.Context, p chat.MessageStore) error {
	const n = 20
	l, err := beginWith(ctx, p, n)
	if err != nil {
		return err
	}
	var changes []chat.Change
	for i := range 2 * n {
		changes = append(changes, edit(uint64(i*7%n+1), 50+i, fmt.Sprintf("text %d", i)))
	}
	if err := l.do(ctx, p, changes...); err != nil {
		return err
	}
	var all []chat.Message
	for r := (chat.Range{Changed: true, Limit: 3}); len(all) <= n; {
		page, err := p.List(ctx, "room", r)
		if err != nil {
			return during("List", err)
		}
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
		r.After = page[len(page)-1].Rev
	}
	return during("all pages", same(all, l.changed("room", everyChange)))
}

func changeSeen(ctx context.Context, p chat.MessageStore) error {
	l, err := beginWith(ctx, p, 3)
	if err != nil {
		return err
	}
	for n := range 20 {
		c := edit(uint64(n%3+1), 10+n, fmt.Sprintf("text %d", n))
		if err := first(
			func() error { return wantAllBounds(ctx, p, "room", chat.Bounds{First: 1, Last: 3, Rev: uint64(n)}) },
			func() error { return l.do(ctx, p, c) },
			func() error {
				return wantMessages(ctx, p, "room", chat.Range{After: c.Seq - 1, Limit: 1}, l.rooms["room"][c.Seq-1])
			},
			func() error {
				return wantMessages(ctx, p, "room", chat.Range{Changed: true, After: uint64(n), Limit: 5}, l.rooms["room"][c.Seq-1])
			},
		); err != nil {
			return err
		}
	}
	return l.same(ctx, p)
}

func changeReaders(ctx context.Context, p chat.MessageStore) error {
	const writers, each = 4, 10
	if err := fill(ctx, p, "room", 2*writers*each); err != nil {
		return err
	}
	whole := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	written := make(chan struct{})
	// Every message is changed once, so that the lists have no gaps.
	look := func(ctx context.Context) error {
		b, err := p.Bounds(ctx, "room")
		if err != nil {
			return during("Bounds", err)
		}
		all, err := p.List(ctx, "room", everyChange)
		if err == nil && uint64(len(all)) < b.Rev {
			err = fmt.Errorf("a reader had %d changes, and Bounds the Rev %d before", len(all), b.Rev)
		}
		for n, m := range all {
			if err == nil && m.Rev != uint64(n+1) {
				err = fmt.Errorf("a reader saw the Rev %d where %d comes", m.Rev, n+1)
			}
		}
		return during("List", err)
	}
	errs := together(writers+2, func(i int) error {
		if i < writers {
			defer func() { written <- struct{}{} }()
			for k := range each {
				n := 2*(i*each+k) + 1
				if _, err := p.Change(ctx, []chat.Change{edit(uint64(n), n, "changed"), react(uint64(n+1), n, "+1")}); err != nil {
					return during("Change", err)
				}
			}
			return nil
		}
		if i == writers {
			for range writers {
				<-written
			}
			cancel()
			return nil
		}
		for ctx.Err() == nil {
			if err := look(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
		return nil
	})
	return then(cmp.Or(errs...), func() error { return look(whole) })
}

// spoil changes everything that can be reached from a message.
func spoil(m *chat.Message) {
	for i := range m.Reactions {
		for k := range m.Reactions[i].Users {
			m.Reactions[i].Users[k] = "spoilt"
		}
		_ = append(m.Reactions[i].Users, "spoilt")
		m.Reactions[i].Key, m.Reactions[i].Count = "spoilt", 99
	}
	_ = append(m.Reactions, chat.Reaction{Key: "spoilt", Count: 99})
	m.Text, m.Rev = "spoilt", 99
}

func changeCopies(ctx context.Context, p chat.MessageStore) error {
	l, err := beginWith(ctx, p, 2)
	if err != nil {
		return err
	}
	if err := l.do(ctx, p, react(1, 11, "+1"), by("user-2", react(1, 12, "+1")), react(1, 13, "x")); err != nil {
		return err
	}
	// What the ledger holds shares nothing with the store.
	for _, read := range []func() ([]chat.Message, error){
		func() ([]chat.Message, error) {
			changes := []chat.Change{by("user-3", react(1, 14, "x")), by("user-3", react(1, 14, "x"))}
			l.change(changes[0])
			got, err := p.Change(ctx, changes)
			var all []chat.Message
			for i := range got {
				all = append(all, got[i].Message)
			}
			changes[0] = chat.Change{}
			return all, err
		},
		func() ([]chat.Message, error) { return p.List(ctx, "room", everything) },
		func() ([]chat.Message, error) { return p.List(ctx, "room", everyChange) },
	} {
		all, err := read()
		if err != nil {
			return err
		}
		for i := range all {
			spoil(&all[i])
		}
		if err := l.same(ctx, p); err != nil {
			return fmt.Errorf("after what was given or returned was changed: %w", err)
		}
	}
	return l.then(ctx, p, unreact(1, 15, "x"), by("user-4", react(1, 16, "+1")))
}
