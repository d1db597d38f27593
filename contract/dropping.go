package contract

import (
	"context"
	"errors"
	"fmt"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// inhabited makes a room with n messages, changes, m members and restrictions.
func inhabited(ctx context.Context, p Pruning, name string, n, m int) error {
	if _, err := p.Rooms.Ensure(ctx, room(name, 1)); err != nil {
		return during("Ensure", err)
	}
	for i := range m {
		if err := join(ctx, p.Members, membership(name, user.ID(fmt.Sprintf("user-%d", i)), i)); err != nil {
			return err
		}
	}
	if err := fill(ctx, p.Messages, name, n); err != nil {
		return err
	}
	var changes []chat.Change
	for i := range n {
		changes = append(changes, in(name, edit(uint64(i+1), 100+i, "edited")), in(name, react(uint64(i+1), 200+i, "👍")))
		if i%2 == 0 {
			changes = append(changes, in(name, erase(uint64(i+1), 300+i)))
		}
	}
	if _, err := p.Messages.Change(ctx, changes); err != nil {
		return during("Change", err)
	}
	for i, kind := range []chat.RestrictionKind{chat.Ban, chat.Mute} {
		r := chat.Restriction{Room: name, UserID: user.ID(fmt.Sprintf("user-%d", i)), Kind: kind, By: "user-1", At: at(i + 1)}
		if _, err := p.Restrictions.Put(ctx, r, nil); err != nil {
			return during("Put", err)
		}
	}
	return nil
}

// drop removes a room, so many at a time, and returns how many calls that took.
func drop(ctx context.Context, p Pruning, name string, limit int) (calls int, err error) {
	for left := true; left; calls++ {
		if calls > 1000 {
			return calls, errors.New("it has something left for ever")
		}
		if left, err = p.Pruner.Drop(ctx, name, limit); err != nil {
			return calls, during("Drop", err)
		}
	}
	return calls, nil
}

// wantNothing wants nothing to be stored of a room, of which user-0 was a member.
func wantNothing(ctx context.Context, p Pruning, name string) error {
	return first(
		func() error { return wantMessages(ctx, p.Messages, name, everything) },
		func() error { return wantMessages(ctx, p.Messages, name, everyChange) },
		func() error { return wantAllBounds(ctx, p.Messages, name, chat.Bounds{First: 1}) },
		func() error { return wantAged(ctx, p, name, at(10_000), 10, 1, 0) },
		func() error { return wantMember(ctx, p.Members, name, "user-0", false) },
		func() error { return wantNoMember(ctx, p.reading(), name, "user-0") },
		func() error {
			_, err := p.Rooms.ByName(ctx, name)
			return during("ByName", wantIs("it", err, chat.ErrRoomNotFound))
		},
		func() error {
			for _, kind := range []chat.RestrictionKind{chat.Ban, chat.Mute} {
				got, err := p.Restrictions.List(ctx, name, kind, at(100), "", 10)
				if err == nil && len(got) > 0 {
					err = fmt.Errorf("%d are left", len(got))
				}
				if err != nil {
					return during("List of restrictions", err)
				}
			}
			return nil
		},
	)
}

// left counts what is left of a room of n members.
func left(ctx context.Context, p Pruning, n int) (messages []chat.Message, members int, err error) {
	if messages, err = p.Messages.List(ctx, "room", everything); err != nil {
		return nil, 0, during("List", err)
	}
	for i := range n {
		is, err := p.Members.Has(ctx, "room", user.ID(fmt.Sprintf("user-%d", i)))
		if err != nil {
			return nil, 0, during("Has", err)
		}
		if is {
			members++
		}
	}
	return messages, members, nil
}

func dropParts(ctx context.Context, p Pruning) error {
	const n, m = 7, 5
	if err := inhabited(ctx, p, "room", n, m); err != nil {
		return err
	}
	before, few := n, m
	for calls := 0; ; calls++ {
		more, err := p.Pruner.Drop(ctx, "room", 2)
		if err != nil {
			return during("Drop", err)
		}
		all, members, err := left(ctx, p, m)
		if err != nil {
			return err
		}
		messages := len(all)
		_, missing := p.Rooms.ByName(ctx, "room")
		switch {
		case calls > 12:
			err = errors.New("it has something left for ever")
		case before-messages+few-members > 2:
			err = fmt.Errorf("it has removed %d messages and %d memberships in one call, with a limit of 2", before-messages, few-members)
		case before+few > 0 && messages+members == before+few:
			err = errors.New("it has removed nothing, though something is left")
		case messages > 0 && members < m:
			err = errors.New("memberships went before messages")
		case messages > 0 && (all[messages-1].Seq != n || contiguous(all) != nil):
			err = fmt.Errorf("it has not removed the first ones: %d are left, the last one is %d", messages, all[messages-1].Seq)
		case messages+members > 0 && !more:
			err = errors.New("it says that nothing is left")
		case more && missing != nil:
			err = fmt.Errorf("the room went before the rest: %w", missing)
		}
		if err != nil || !more {
			return then(during("Drop", err), func() error { return wantNothing(ctx, p, "room") })
		}
		before, few = messages, members
	}
}

func dropAll(ctx context.Context, p Pruning) error {
	return first(
		func() error { return inhabited(ctx, p, "room", 4, 3) },
		func() error { return inhabited(ctx, p, "other", 4, 3) },
		func() error { return second(drop(ctx, p, "room", 100)) },
		func() error { return wantNothing(ctx, p, "room") },
		func() error {
			mine, err := p.Marks.Mine(ctx, "user-0", chat.Place{}, 10)
			if err == nil && (len(mine) != 1 || mine[0].Room != "other" || mine[0].Seq != 4) {
				err = fmt.Errorf("they are %+v, want the other one", mine)
			}
			return during("Mine", err)
		},
		func() error { return wantAllBounds(ctx, p.Messages, "other", chat.Bounds{First: 1, Last: 4, Rev: 10}) },
		func() error { return wantMember(ctx, p.Members, "other", "user-2", true) },
		func() error { return second(p.Rooms.ByName(ctx, "other")) },
		func() error {
			got, err := p.Restrictions.List(ctx, "other", chat.Mute, at(100), "", 10)
			if err == nil && len(got) != 1 {
				err = fmt.Errorf("%d are left, want 1", len(got))
			}
			return during("List of restrictions", err)
		},
		func() error { return second(drop(ctx, p, "room", 100)) },
	)
}

func dropAnew(ctx context.Context, p Pruning) error {
	return first(
		func() error { return inhabited(ctx, p, "room", 4, 3) },
		func() error { return second(drop(ctx, p, "room", 3)) },
		func() error { return inhabited(ctx, p, "room", 2, 1) },
		func() error { return wantAllBounds(ctx, p.Messages, "room", chat.Bounds{First: 1, Last: 2, Rev: 5}) },
		func() error { return wantRead(ctx, p.reading(), "room", "user-0", 0, 1) },
		func() error { return wantMember(ctx, p.Members, "room", "user-1", false) },
	)
}

func dropUnknown(ctx context.Context, p Pruning) error {
	if err := inhabited(ctx, p, "room", 2, 1); err != nil {
		return err
	}
	for _, name := range []string{"nowhere", "Room", "room "} {
		if calls, err := drop(ctx, p, name, 10); err != nil || calls != 1 {
			return then(err, func() error { return fmt.Errorf("it took %d calls to remove nothing", calls) })
		}
	}
	return wantAllBounds(ctx, p.Messages, "room", chat.Bounds{First: 1, Last: 2, Rev: 5})
}

func dropPruned(ctx context.Context, p Pruning) error {
	return first(
		func() error { return inhabited(ctx, p, "room", 4, 1) },
		func() error { return wantPruned(ctx, p, "room", 5, 4) },
		func() error { return second(drop(ctx, p, "room", 0)) },
		func() error { return wantNothing(ctx, p, "room") },
		func() error { return fill(ctx, p.Messages, "room", 1) },
	)
}
