package contract

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

// Presence checks realtime.Presence.
func Presence() []Case[realtime.Presence] {
	return suite("Presence", []promise[realtime.Presence]{
		{"who entered is listed", "List returns users in room, ascending by ID, each once. count is how many users are in room, whatever limit is.", presenceList},
		{"the first node to have a user is told", "first reports whether no other node, of those whose lease lasts at now, had the user there.", presenceFirst},
		{"the last node to lose a user is told", "last reports whether no other node has the user there, not even one whose lease has ended.", presenceLast},
		{"entering twice is entering once", "Entering twice is entering once.", presenceTwice},
		{"leaving without having entered changes nothing", "last is so whether or not node was known to have the user there: that may have been lost. Leaving twice is leaving once.", presenceStranger},
		{"a user on several nodes is one", "List returns users in room, ascending by ID, each once. count is how many users are in room, whatever limit is.", presenceOnce},
		{"users are listed by ID", "List returns users in room, ascending by ID, each once.", presenceOrder},
		{"a list has at most limit users, the count has all", "List returns at most limit users: none if limit is below 1. count is how many users are in room, whatever limit is.", presenceLimit},
		{"rooms are exact", "Two rooms or users are the same only if they have the same bytes.", presenceExact},
		{"users are exact", "Two rooms or users are the same only if they have the same bytes.", presenceExactUsers},
		{"a node whose lease has ended counts no more", "The users of a node whose lease has ended disappear by themselves. List counts users of nodes whose lease lasts at now.", presenceLease},
		{"a node without a lease stays", "A node that has never renewed has a lease that does not end.", presenceNoLease},
		{"a node that is found without a lease gets one", "A Renew that finds somebody of such a node in a room of its Rolls gives that node a lease as long as its own.", presenceLent},
		{"a renewed node is back", "They are back if the node renews again.", presenceBack},
		{"first does not count dead nodes, last does", "first reports whether no other node, of those whose lease lasts at now, had the user there. last reports whether no other node has the user there, not even one whose lease has ended. Whom only such a node has there is told by Renew.", presenceFirstLease},
		{"one of several enters is the first", "Of several nodes that enter a user at once, one is first.", presenceEnterRace},
		{"one of several exits is the last", "Of several nodes that a user leaves at once, one is last.", presenceExitRace},
		{"concurrent users are all counted", "It may be called from many goroutines.", presenceMany},
		{"listed users are copies", "Changing what was returned changes nothing stored.", presenceCopies},
		{"a first renewal is fresh", "Fresh reports that no lease of the node was known: it is its first, or what was known is lost.", presenceFresh},
		{"a roll enters who was lost", "Entered are those of the Rolls who were not known to be there with the node, and now are. Who was with another node whose lease lasts at Now is not among Entered.", presenceRollEnters},
		{"a roll removes who was left behind", "Left are those who no longer are in rooms of the Rolls: whom the node was thought to have there. Whom another node has there has not Left.", presenceRollLeaves},
		{"a roll is of its room and its node", "Renew extends a node's lease, and puts right what is known of the node, and of no other.", presenceRollExact},
		{"a large roll is compared whole", "Roll is whom a node has in a room: every user, each once, in any order.", presenceRollLarge},
		{"an ended lease is ended for good", "If the lease was ended for good meanwhile, Renew changes nothing and returns ErrLeaseEnded.", presenceEnded},
		{"only leases that have ended are ended", "End ends for good the leases of other nodes that do not last at Now.", presenceEndedOnly},
		{"who goes with a dead node is told", "Left are also those whom nodes had there whose leases were ended for good. Whom another node has there has not Left.", presenceDead},
		{"one of several finders is told", "Each of Left is told to one caller only.", presenceDeadRace},
	})
}

func who(n int) chat.Author {
	return chat.Author{ID: user.ID(fmt.Sprintf("user-%03d", n)), Name: fmt.Sprintf("Zoë Ångström %d 👋", n)}
}

func enter(ctx context.Context, p realtime.Presence, now time.Time, node, room string, u chat.Author, want bool) error {
	got, err := p.Enter(ctx, now, node, room, u)
	if err == nil && got != want {
		err = fmt.Errorf("first is %t, want %t", got, want)
	}
	return during(fmt.Sprintf("Enter(%q, %+q, %q)", node, room, u.ID), err)
}

func exit(ctx context.Context, p realtime.Presence, now time.Time, node, room string, u chat.Author, want bool) error {
	got, err := p.Exit(ctx, now, node, room, u)
	if err == nil && got != want {
		err = fmt.Errorf("last is %t, want %t", got, want)
	}
	return during(fmt.Sprintf("Exit(%q, %+q, %q)", node, room, u.ID), err)
}

func wantPresent(ctx context.Context, p realtime.Presence, now time.Time, room string, want ...chat.Author) error {
	users, count, err := p.List(ctx, now, room, 1000)
	if err == nil {
		err = same(users, want)
	}
	if err == nil && count != len(want) {
		err = fmt.Errorf("the count is %d, want %d", count, len(want))
	}
	return during(fmt.Sprintf("List(%+q)", room), err)
}

func presenceList(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return wantPresent(ctx, p, at(1), "room") },
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(2), true) },
		func() error { return wantPresent(ctx, p, at(2), "room", who(1), who(2)) },
		func() error { return wantPresent(ctx, p, at(2), "other") },
		func() error { return exit(ctx, p, at(3), "a", "room", who(1), true) },
		func() error { return wantPresent(ctx, p, at(3), "room", who(2)) },
		func() error { return exit(ctx, p, at(3), "b", "room", who(2), true) },
		func() error { return wantPresent(ctx, p, at(3), "room") },
	)
}

func presenceFirst(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(1), false) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(2), true) },
		func() error { return enter(ctx, p, at(1), "b", "other", who(1), true) },
		func() error { return exit(ctx, p, at(2), "a", "room", who(1), false) },
		func() error { return exit(ctx, p, at(2), "b", "room", who(1), true) },
		func() error { return during("after everybody left", enter(ctx, p, at(3), "b", "room", who(1), true)) },
	)
}

func presenceLast(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(1), false) },
		func() error { return enter(ctx, p, at(1), "c", "room", who(1), false) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(2), true) },
		func() error { return enter(ctx, p, at(1), "a", "other", who(1), true) },
		func() error { return exit(ctx, p, at(2), "b", "room", who(1), false) },
		func() error { return exit(ctx, p, at(2), "a", "room", who(1), false) },
		func() error { return wantPresent(ctx, p, at(2), "room", who(1), who(2)) },
		func() error { return exit(ctx, p, at(2), "c", "room", who(1), true) },
		func() error { return wantPresent(ctx, p, at(2), "room", who(2)) },
		func() error { return wantPresent(ctx, p, at(2), "other", who(1)) },
	)
}

func presenceTwice(ctx context.Context, p realtime.Presence) error {
	if err := enter(ctx, p, at(1), "a", "room", who(1), true); err != nil {
		return err
	}
	for range 2 {
		if _, err := p.Enter(ctx, at(1), "a", "room", who(1)); err != nil {
			return during("Enter again", err)
		}
	}
	return first(
		func() error { return wantPresent(ctx, p, at(1), "room", who(1)) },
		func() error {
			return during("after entering three times", exit(ctx, p, at(2), "a", "room", who(1), true))
		},
		func() error { return wantPresent(ctx, p, at(2), "room") },
		func() error { return during("again", exit(ctx, p, at(2), "a", "room", who(1), true)) },
	)
}

func presenceStranger(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return exit(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return exit(ctx, p, at(1), "b", "room", who(1), false) },
		func() error { return exit(ctx, p, at(1), "a", "other", who(1), true) },
		func() error { return exit(ctx, p, at(1), "a", "room", who(2), true) },
		func() error { return wantPresent(ctx, p, at(1), "room", who(1)) },
		func() error { return exit(ctx, p, at(2), "a", "room", who(1), true) },
	)
}

func presenceOnce(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(1), false) },
		func() error { return enter(ctx, p, at(1), "c", "room", who(1), false) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(2), true) },
		func() error { return wantPresent(ctx, p, at(1), "room", who(1), who(2)) },
	)
}

func presenceOrder(ctx context.Context, p realtime.Presence) error {
	var want []chat.Author
	for i := range 20 {
		n := (i * 7) % 20 // every number once, not in order
		if err := enter(ctx, p, at(1), fmt.Sprintf("node-%d", n%3), "room", who(n), true); err != nil {
			return err
		}
		want = append(want, who(i))
	}
	return wantPresent(ctx, p, at(1), "room", want...)
}

func presenceLimit(ctx context.Context, p realtime.Presence) error {
	var all []chat.Author
	for n := range 12 {
		if err := first(
			func() error { return enter(ctx, p, at(1), "a", "room", who(n), true) },
			func() error { return enter(ctx, p, at(1), "b", "room", who(n), false) },
		); err != nil {
			return err
		}
		all = append(all, who(n))
	}
	for _, limit := range []int{-1, 0, 1, 5, 11, 12, 13, 1000} {
		users, count, err := p.List(ctx, at(1), "room", limit)
		switch most := max(0, min(limit, len(all))); {
		case err != nil:
		case most == 0 && len(users) > 0:
			err = fmt.Errorf("it has %d users", len(users))
		case most > 0:
			err = same(users, all[:most])
		}
		if err == nil && count != len(all) {
			err = fmt.Errorf("the count is %d, want %d", count, len(all))
		}
		if err != nil {
			return fmt.Errorf("the port's List with limit %d: %w", limit, err)
		}
	}
	return nil
}

func presenceExact(ctx context.Context, p realtime.Presence) error {
	for n, name := range names {
		if err := enter(ctx, p, at(1), "a", name, who(n), true); err != nil {
			return err
		}
	}
	for n, name := range names {
		if err := wantPresent(ctx, p, at(1), name, who(n)); err != nil {
			return err
		}
	}
	return nil
}

func presenceExactUsers(ctx context.Context, p realtime.Presence) error {
	var want []chat.Author
	for _, id := range []user.ID{"ABC", "Abc", "a:c", "a_c", "abc", "abcd"} { // ascending
		want = append(want, chat.Author{ID: id, Name: "Zoë"})
	}
	for _, u := range slices.Backward(want) {
		if err := enter(ctx, p, at(1), "a", "room", u, true); err != nil {
			return err
		}
	}
	return wantPresent(ctx, p, at(1), "room", want...)
}

func renew(ctx context.Context, p realtime.Presence, node string, until time.Time) error {
	_, err := p.Renew(ctx, realtime.Renewal{Node: node, Until: until})
	return during(fmt.Sprintf("Renew(%q)", node), err)
}

func presenceLease(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return renew(ctx, p, "a", at(100)) },
		func() error { return renew(ctx, p, "b", at(200)) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(2), true) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(1), false) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(3), true) },
		func() error { return wantPresent(ctx, p, at(99), "room", who(1), who(2), who(3)) },
		func() error {
			return during("when one lease has ended", wantPresent(ctx, p, at(101), "room", who(1), who(2)))
		},
		func() error { return during("when both leases have ended", wantPresent(ctx, p, at(201), "room")) },
	)
}

func presenceNoLease(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return renew(ctx, p, "b", at(2)) },
		func() error { return wantPresent(ctx, p, at(1_000_000), "room", who(1)) },
		func() error { return enter(ctx, p, at(1_000_000), "b", "room", who(1), false) },
		func() error { return exit(ctx, p, at(1_000_000), "a", "room", who(1), false) },
		func() error { return exit(ctx, p, at(1_000_000), "b", "room", who(1), true) },
	)
}

func presenceLent(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return enter(ctx, p, at(1), "lost", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "back", "room", who(2), true) },
		func() error { return enter(ctx, p, at(1), "lost", "other", who(1), true) },
		func() error {
			return rolls(ctx, p, endBy("b", realtime.Roll{Room: "room", Users: []chat.Author{who(3)}}), places("room", who(3)), nil)
		},
		func() error {
			return during("while the lease lasts", wantPresent(ctx, p, at(99), "room", who(1), who(2), who(3)))
		},
		func() error { return renew(ctx, p, "back", at(1000)) },
		func() error { return renew(ctx, p, "b", at(1000)) },
		func() error {
			return during("after it has ended", wantPresent(ctx, p, at(101), "room", who(2), who(3)))
		},
		func() error { return during("in another room", wantPresent(ctx, p, at(101), "other")) },
	)
}

func presenceBack(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return renew(ctx, p, "a", at(100)) },
		func() error { return wantPresent(ctx, p, at(101), "room") },
		func() error { return renew(ctx, p, "a", at(300)) },
		func() error {
			return during("after the node has renewed", wantPresent(ctx, p, at(101), "room", who(1)))
		},
		func() error { return wantPresent(ctx, p, at(301), "room") },
		func() error { return renew(ctx, p, "a", at(400)) },
		func() error { return wantPresent(ctx, p, at(301), "room", who(1)) },
		func() error { return exit(ctx, p, at(302), "a", "room", who(1), true) },
		func() error { return wantPresent(ctx, p, at(302), "room") },
	)
}

func presenceFirstLease(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return renew(ctx, p, "a", at(100)) },
		func() error { return renew(ctx, p, "b", at(1000)) },
		func() error { return renew(ctx, p, "c", at(1000)) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error {
			return during("while the other node lives", enter(ctx, p, at(99), "b", "room", who(1), false))
		},
		func() error {
			return during("while the other node lives", exit(ctx, p, at(99), "b", "room", who(1), false))
		},
		func() error {
			return during("when the other node is dead", enter(ctx, p, at(101), "b", "room", who(1), true))
		},
		func() error { return enter(ctx, p, at(101), "c", "room", who(1), false) },
		func() error { return exit(ctx, p, at(101), "c", "room", who(1), false) },
		func() error {
			return during("when the other node is dead, and its users were not told", exit(ctx, p, at(101), "b", "room", who(1), false))
		},
		func() error { return wantPresent(ctx, p, at(101), "room") },
		func() error {
			return rolls(ctx, p, realtime.Renewal{Node: "c", Now: at(101), Until: at(1000), End: true, Rolls: []realtime.Roll{{Room: "room"}}}, nil, places("room", who(1)))
		},
		func() error { return enter(ctx, p, at(102), "b", "room", who(1), true) },
		func() error { return exit(ctx, p, at(102), "b", "room", who(1), true) },
	)
}

func presenceEnterRace(ctx context.Context, p realtime.Presence) error {
	const n = 12
	firsts := make([]bool, n)
	err := allTogether(n, func(i int) (err error) {
		firsts[i], err = p.Enter(ctx, at(1), fmt.Sprintf("node-%02d", i), "room", who(1))
		return during("Enter", err)
	})
	return then(err,
		func() error { return exactlyOne("first", firsts) },
		func() error { return wantPresent(ctx, p, at(1), "room", who(1)) },
	)
}

func presenceExitRace(ctx context.Context, p realtime.Presence) error {
	const n = 12
	for i := range n {
		if err := enter(ctx, p, at(1), fmt.Sprintf("node-%02d", i), "room", who(1), i == 0); err != nil {
			return err
		}
	}
	lasts := make([]bool, n)
	err := allTogether(n, func(i int) (err error) {
		lasts[i], err = p.Exit(ctx, at(2), fmt.Sprintf("node-%02d", i), "room", who(1))
		return during("Exit", err)
	})
	return then(err,
		func() error { return exactlyOne("last", lasts) },
		func() error { return wantPresent(ctx, p, at(2), "room") },
	)
}

func exactlyOne(what string, told []bool) error {
	n := 0
	for _, t := range told {
		if t {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("%d of %d concurrent calls were told %s, want exactly 1", n, len(told), what)
	}
	return nil
}

func presenceMany(ctx context.Context, p realtime.Presence) error {
	const n = 30
	var want []chat.Author
	for i := 0; i < n; i += 2 {
		want = append(want, who(i))
	}
	err := allTogether(n, func(i int) error {
		node := fmt.Sprintf("node-%d", i%3)
		if err := enter(ctx, p, at(1), node, "room", who(i), true); err != nil || i%2 == 0 {
			return err
		}
		return exit(ctx, p, at(2), node, "room", who(i), true)
	})
	return then(err, func() error { return wantPresent(ctx, p, at(3), "room", want...) })
}

func presenceCopies(ctx context.Context, p realtime.Presence) error {
	if err := first(
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(2), true) },
	); err != nil {
		return err
	}
	users, _, err := p.List(ctx, at(1), "room", 10)
	if err != nil {
		return during("List", err)
	}
	for i := range users {
		users[i].Name = "changed"
	}
	return wantPresent(ctx, p, at(1), "room", who(1), who(2))
}

func places(room string, users ...chat.Author) []realtime.Whereabouts {
	var all []realtime.Whereabouts
	for _, u := range users {
		all = append(all, realtime.Whereabouts{Room: room, User: u})
	}
	return all
}

// rolls renews, and wants these to have entered and left, in any order.
func rolls(ctx context.Context, p realtime.Presence, r realtime.Renewal, entered, left []realtime.Whereabouts) error {
	done, err := p.Renew(ctx, r)
	byUser := func(a, b realtime.Whereabouts) int {
		return cmp.Or(cmp.Compare(a.Room, b.Room), cmp.Compare(a.User.ID, b.User.ID))
	}
	for _, list := range [][]realtime.Whereabouts{done.Entered, done.Left} {
		slices.SortFunc(list, byUser)
	}
	if err == nil && !slices.Equal(done.Entered, entered) {
		err = fmt.Errorf("these have entered: %v, want %v", done.Entered, entered)
	}
	if err == nil && !slices.Equal(done.Left, left) {
		err = fmt.Errorf("these have left: %v, want %v", done.Left, left)
	}
	return during(fmt.Sprintf("Renew(%q) with rolls", r.Node), err)
}

// has is a renewal of node that lasts, with one room.
func has(node, room string, users ...chat.Author) realtime.Renewal {
	return realtime.Renewal{Node: node, Now: at(1), Until: at(100), Rolls: []realtime.Roll{{Room: room, Users: users}}}
}

func presenceFresh(ctx context.Context, p realtime.Presence) error {
	fresh := func(node string, want bool) error {
		done, err := p.Renew(ctx, realtime.Renewal{Node: node, Now: at(1), Until: at(100)})
		if err == nil && done.Fresh != want {
			err = fmt.Errorf("fresh is %t, want %t", done.Fresh, want)
		}
		return during(fmt.Sprintf("Renew(%q)", node), err)
	}
	return first(
		func() error { return fresh("a", true) },
		func() error { return fresh("a", false) },
		func() error { return fresh("b", true) },
		func() error { return fresh("a", false) },
		func() error { return fresh("b", false) },
	)
}

func presenceRollEnters(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(2), true) },
		func() error {
			return rolls(ctx, p, has("a", "room", who(3), who(2), who(1)), places("room", who(3)), nil)
		},
		func() error { return wantPresent(ctx, p, at(2), "room", who(1), who(2), who(3)) },
		func() error {
			return during("again", rolls(ctx, p, has("a", "room", who(1), who(2), who(3)), nil, nil))
		},
		func() error { return exit(ctx, p, at(2), "b", "room", who(2), false) },
		func() error { return exit(ctx, p, at(2), "a", "room", who(2), true) },
		func() error { return exit(ctx, p, at(2), "a", "room", who(3), true) },
		func() error { return wantPresent(ctx, p, at(2), "room", who(1)) },
		func() error {
			return during("after an exit", rolls(ctx, p, has("a", "room", who(1), who(2)), places("room", who(2)), nil))
		},
		func() error { return wantPresent(ctx, p, at(2), "room", who(1), who(2)) },
	)
}

func presenceRollLeaves(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(2), true) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(3), true) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(2), false) },
		func() error { return rolls(ctx, p, has("a", "room", who(3)), nil, places("room", who(1))) },
		func() error { return wantPresent(ctx, p, at(2), "room", who(2), who(3)) },
		func() error { return during("again", rolls(ctx, p, has("a", "room", who(3)), nil, nil)) },
		func() error { return exit(ctx, p, at(2), "a", "room", who(2), false) },
		func() error { return exit(ctx, p, at(2), "b", "room", who(2), true) },
		func() error {
			return during("with nobody", rolls(ctx, p, has("a", "room"), nil, places("room", who(3))))
		},
		func() error { return wantPresent(ctx, p, at(2), "room") },
		func() error {
			return during("one for another", first(
				func() error { return rolls(ctx, p, has("a", "room", who(1)), places("room", who(1)), nil) },
				func() error {
					return rolls(ctx, p, has("a", "room", who(2)), places("room", who(2)), places("room", who(1)))
				},
			))
		},
		func() error { return wantPresent(ctx, p, at(2), "room", who(2)) },
	)
}

func presenceRollExact(ctx context.Context, p realtime.Presence) error {
	var err error
	for n, name := range names {
		err = then(err,
			func() error { return enter(ctx, p, at(1), "a", name, who(n), true) },
			func() error { return enter(ctx, p, at(1), "b", name, who(100+n), true) },
		)
	}
	for n, name := range names {
		err = then(err,
			func() error { return rolls(ctx, p, has("a", name, who(n), who(200)), places(name, who(200)), nil) },
			func() error { return wantPresent(ctx, p, at(2), name, who(n), who(100+n), who(200)) },
			func() error { return rolls(ctx, p, has("a", name), nil, places(name, who(n), who(200))) },
			func() error { return wantPresent(ctx, p, at(2), name, who(100+n)) },
		)
	}
	return err
}

func presenceRollLarge(ctx context.Context, p realtime.Presence) error {
	const n = 1200
	users := make([]chat.Author, n)
	for i := range users {
		users[i] = chat.Author{ID: user.ID(fmt.Sprintf("user-%04d", i)), Name: "Zoë"}
	}
	odd := func() (some []chat.Author) {
		for i := 1; i < n; i += 2 {
			some = append(some, users[i])
		}
		return some
	}()
	wantCount := func(want int) error {
		_, count, err := p.List(ctx, at(2), "room", 0)
		if err == nil && count != want {
			err = fmt.Errorf("the count is %d, want %d", count, want)
		}
		return during("List", err)
	}
	small := has("a", "room", users...)
	small.Rolls = append(small.Rolls, realtime.Roll{Room: "other", Users: users[:3]})
	return first(
		func() error {
			return rolls(ctx, p, small, append(places("other", users[:3]...), places("room", users...)...), nil)
		},
		func() error { return wantCount(n) },
		func() error {
			return rolls(ctx, p, has("a", "room", odd...), nil, places("room", slices.DeleteFunc(slices.Clone(users), func(u chat.Author) bool { return slices.Contains(odd, u) })...))
		},
		func() error { return wantCount(n / 2) },
		func() error { return wantPresent(ctx, p, at(2), "other", users[:3]...) },
	)
}

// endBy renews node at(50), and ends the leases of others, which last until at(10) or do not.
func endBy(node string, rolls ...realtime.Roll) realtime.Renewal {
	return realtime.Renewal{Node: node, Now: at(50), Until: at(100), End: true, Rolls: rolls}
}

func presenceEnded(ctx context.Context, p realtime.Presence) error {
	if err := first(
		func() error { return renew(ctx, p, "a", at(10)) },
		func() error { return renew(ctx, p, "b", at(100)) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return rolls(ctx, p, endBy("b"), nil, nil) },
	); err != nil {
		return err
	}
	for range 2 {
		if _, err := p.Renew(ctx, realtime.Renewal{Node: "a", Now: at(51), Until: at(90), Rolls: []realtime.Roll{{Room: "other", Users: []chat.Author{who(2)}}}}); !errors.Is(err, realtime.ErrLeaseEnded) {
			return fmt.Errorf("the port's Renew of a node whose lease was ended: %w, want ErrLeaseEnded", err)
		}
	}
	done, err := p.Renew(ctx, realtime.Renewal{Node: "b", Now: at(52), Until: at(100)})
	if err == nil && !slices.Equal(done.Ended, []string{"a"}) {
		err = fmt.Errorf("ended are %q, want [\"a\"]", done.Ended)
	}
	return then(during("Renew", err),
		func() error { return wantPresent(ctx, p, at(52), "room") },
		func() error { return wantPresent(ctx, p, at(52), "other") },
		func() error {
			return during("of another name", rolls(ctx, p, endBy("a2", realtime.Roll{Room: "room", Users: []chat.Author{who(1)}}), places("room", who(1)), nil))
		},
		func() error { return wantPresent(ctx, p, at(52), "room", who(1)) },
	)
}

func presenceEndedOnly(ctx context.Context, p realtime.Presence) error {
	never := endBy("b")
	never.End = false
	return first(
		func() error { return renew(ctx, p, "a", at(10)) },
		func() error { return renew(ctx, p, "lasts", at(60)) },
		func() error { return enter(ctx, p, at(1), "unleased", "room", who(1), true) },
		func() error { return rolls(ctx, p, never, nil, nil) },
		func() error { return during("after a renewal without End", renew(ctx, p, "a", at(60))) },
		func() error { return rolls(ctx, p, endBy("b"), nil, nil) },
		func() error {
			return during("a lease that lasts", first(
				func() error { return renew(ctx, p, "a", at(70)) },
				func() error { return renew(ctx, p, "lasts", at(70)) },
			))
		},
		func() error { return during("a lease of its own", renew(ctx, p, "b", at(100))) },
		func() error { return during("no lease", renew(ctx, p, "unleased", at(100))) },
		func() error { return wantPresent(ctx, p, at(50), "room", who(1)) },
	)
}

func presenceDead(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return renew(ctx, p, "a", at(10)) },
		func() error { return renew(ctx, p, "a2", at(10)) },
		func() error { return renew(ctx, p, "b", at(100)) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(2), true) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(3), true) },
		func() error { return enter(ctx, p, at(1), "a2", "room", who(3), false) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(2), false) },
		func() error { return enter(ctx, p, at(1), "a", "other", who(4), true) },
		func() error {
			return rolls(ctx, p, endBy("b", realtime.Roll{Room: "room", Users: []chat.Author{who(2)}}), nil, places("room", who(1), who(3)))
		},
		func() error {
			return during("again", rolls(ctx, p, endBy("b", realtime.Roll{Room: "room", Users: []chat.Author{who(2)}}), nil, nil))
		},
		func() error { return wantPresent(ctx, p, at(51), "room", who(2)) },
		func() error { return exit(ctx, p, at(51), "b", "room", who(2), true) },
		func() error {
			return during("in another room", rolls(ctx, p, endBy("b", realtime.Roll{Room: "other"}), nil, places("other", who(4))))
		},
		func() error { return during("when they come back", enter(ctx, p, at(52), "b", "room", who(1), true)) },
	)
}

func presenceDeadRace(ctx context.Context, p realtime.Presence) error {
	const n = 8
	if err := first(
		func() error { return renew(ctx, p, "dead", at(10)) },
		func() error { return enter(ctx, p, at(1), "dead", "room", who(1), true) },
	); err != nil {
		return err
	}
	told := make([]bool, n)
	err := allTogether(n, func(i int) error {
		done, err := p.Renew(ctx, endBy(fmt.Sprintf("node-%d", i), realtime.Roll{Room: "room", Users: []chat.Author{who(10 + i)}}))
		told[i] = slices.Equal(done.Left, places("room", who(1)))
		return during("Renew", err)
	})
	return then(err, func() error { return exactlyOne("that somebody has left", told) })
}
