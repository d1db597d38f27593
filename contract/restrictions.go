package contract

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

const (
	puts         = "Put stores r durably, in the place of the one of the same room, user and kind, and returns what is stored."
	onlyOne      = "It holds at most one restriction of a room, a user and a kind. Which one that is, the last Put says."
	later        = "If At is not later than that of the one before, it becomes one microsecond later."
	holding      = "InForce returns the restrictions that hold at a time, of those whom it is asked about, in any order."
	listed       = "List returns the restrictions of a kind that hold in room at a time, of users greater than after, ascending by the bytes of their ids."
	listedLimit  = "List returns at most limit: none if limit is below 1."
	sinceThen    = "Since returns restrictions of all rooms whose At is not before a time, whether they hold or not."
	sinceOrdered = "They ascend by At, and where that is the same by the bytes of room, user and kind."
	sinceLimit   = "Since returns at most limit: none if limit is below 1."
	zeroUntil    = "An Until that is zero stays zero."
)

// Restrictions is the suite of chat.Restrictions.
func Restrictions() []Case[chat.Restrictions] {
	return suite("Restrictions", []promise[chat.Restrictions]{
		{"what is put is kept", puts + " Restrictions keeps who may not do what in which room.", restrictionsKept},
		{"a later one takes the place", puts + " " + onlyOne, restrictionsReplaced},
		{"other rooms, users and kinds stay", onlyOne + " Stores take others too, of at most 16 letters of ASCII.", restrictionsApart},
		{"what comes later has a later At", later + " Of one room, user and kind, what comes later has a later At.", restrictionsLater},
		{"what is lifted has ended by every clock", later + " One that was lifted has Lifted.", restrictionsLifted},
		{"concurrent calls have different times", "It may be called from many goroutines. Of several concurrent calls each has its own At.", restrictionsRace},
		{"what has ended does not hold", holding + " Until is when it ends.", restrictionsEnded},
		{"what never ends holds", holding + " Zero means never. " + zeroUntil, restrictionsForever},
		{"several are asked about at once", holding, restrictionsAsked},
		{"many are asked about at once", holding, restrictionsMany},
		{"nobody is asked about", holding, restrictionsNobody},
		{"rooms and users are exact", exactly, restrictionsExact},
		{"long names are kept", puts + " " + exactly, restrictionsLong},
		{"every reason is kept", "It keeps every reason of at most MaxReason characters that Service.Restrict lets through.", restrictionsReasons},
		{"a list has its kind and room", listed, restrictionsListed},
		{"a list is in the order of users", listed, restrictionsOrder},
		{"a list comes page by page", listed + " " + listedLimit, restrictionsPages},
		{"what has ended stays", "What has ended or was lifted stays, until another one takes its place. " + sinceThen, restrictionsStay},
		{"what has changed is in the order of its times", sinceThen + " " + sinceOrdered, restrictionsSince},
		{"what has changed has a limit", sinceThen + " " + sinceLimit, restrictionsLimit},
		{"times are kept to the microsecond", "Every time is UTC, to the microsecond. " + zeroUntil, restrictionsTimes},
		{"a context that has ended is an error", puts, restrictionsContext},
	})
}

// ban is one that never ends, imposed n seconds after the epoch.
func ban(room string, id user.ID, n int) chat.Restriction {
	return chat.Restriction{Room: room, UserID: id, Kind: chat.Ban, By: "moderator", Reason: fmt.Sprintf("reason %d", n), At: at(n)}
}

// restricted is another restriction with another kind and another end.
func restricted(r chat.Restriction, kind chat.RestrictionKind, until time.Time) chat.Restriction {
	r.Kind, r.Until = kind, until
	return r
}

// wantPut puts r and wants it to be stored as it is.
func wantPut(ctx context.Context, p chat.Restrictions, all ...chat.Restriction) error {
	for _, r := range all {
		if err := wantPutAs(ctx, p, r, r); err != nil {
			return err
		}
	}
	return nil
}

func wantPutAs(ctx context.Context, p chat.Restrictions, r, want chat.Restriction) error {
	got, err := p.Put(ctx, r, nil)
	return during("Put", then(err, func() error { return same(got, want) }))
}

func compareRestrictions(a, b chat.Restriction) int {
	return cmp.Or(cmp.Compare(a.Room, b.Room), cmp.Compare(a.UserID, b.UserID), cmp.Compare(a.Kind, b.Kind))
}

func whom(room string, id user.ID) chat.InRoom { return chat.InRoom{Room: room, UserID: id} }

// wantInForce wants these to hold, in any order.
func wantInForce(ctx context.Context, p chat.Restrictions, now time.Time, asked []chat.InRoom, want ...chat.Restriction) error {
	got, err := p.InForce(ctx, now, asked...)
	got, want = slices.Clone(got), slices.Clone(want)
	slices.SortFunc(got, compareRestrictions)
	slices.SortFunc(want, compareRestrictions)
	return during("InForce", then(err, func() error { return same(got, want) }))
}

func wantRestricted(ctx context.Context, p chat.Restrictions, room string, now time.Time, after user.ID, limit int, want ...chat.Restriction) error {
	got, err := p.List(ctx, room, chat.Ban, now, after, limit)
	return during(fmt.Sprintf("List(%q, after %q, limit %d)", room, after, limit), then(err, func() error { return same(got, want) }))
}

func wantSince(ctx context.Context, p chat.Restrictions, since time.Time, limit int, want ...chat.Restriction) error {
	got, err := p.Since(ctx, since, limit)
	return during(fmt.Sprintf("Since(limit %d)", limit), then(err, func() error { return same(got, want) }))
}

func restrictionsKept(ctx context.Context, p chat.Restrictions) error {
	r := chat.Restriction{Room: "room", UserID: "user-2", Kind: chat.Mute, By: "user-1", Reason: "Too loud, \"again\"; 100 % 😀", At: at(1), Until: at(100)}
	return first(
		func() error { return wantInForce(ctx, p, at(2), []chat.InRoom{whom("room", "user-2")}) },
		func() error { return wantPut(ctx, p, r) },
		func() error { return wantInForce(ctx, p, at(2), []chat.InRoom{whom("room", "user-2")}, r) },
		func() error {
			got, err := p.List(ctx, "room", chat.Mute, at(2), "", 10)
			return during("List", then(err, func() error { return same(got, []chat.Restriction{r}) }))
		},
		func() error { return wantSince(ctx, p, at(0), 10, r) },
	)
}

func restrictionsReplaced(ctx context.Context, p chat.Restrictions) error {
	other := chat.Restriction{Room: "room", UserID: "user-2", Kind: chat.Ban, By: "user-9", At: at(5), Until: at(50)}
	return first(
		func() error { return wantPut(ctx, p, ban("room", "user-2", 1), other) },
		func() error { return wantInForce(ctx, p, at(6), []chat.InRoom{whom("room", "user-2")}, other) },
		func() error { return wantRestricted(ctx, p, "room", at(6), "", 10, other) },
		func() error { return wantSince(ctx, p, at(0), 10, other) },
		func() error { return wantPut(ctx, p, ban("room", "user-2", 7)) },
		func() error { return wantSince(ctx, p, at(0), 10, ban("room", "user-2", 7)) },
	)
}

func restrictionsApart(ctx context.Context, p chat.Restrictions) error {
	all := []chat.Restriction{
		ban("room", "user-2", 1), restricted(ban("room", "user-2", 2), chat.Mute, at(90)), ban("room", "user-3", 3), ban("other", "user-2", 4),
		restricted(ban("room", "user-2", 5), "sixteenLettersOf", at(90)), restricted(ban("room", "user-2", 6), "BAN", at(90)),
	}
	return first(
		func() error { return wantPut(ctx, p, all...) },
		func() error { return wantSince(ctx, p, at(0), 10, all...) },
		func() error {
			return wantInForce(ctx, p, at(7), []chat.InRoom{whom("room", "user-2")}, all[0], all[1], all[4], all[5])
		},
		func() error { return wantInForce(ctx, p, at(7), []chat.InRoom{whom("room", "user-3")}, all[2]) },
		func() error { return wantInForce(ctx, p, at(7), []chat.InRoom{whom("other", "user-2")}, all[3]) },
		func() error { return wantInForce(ctx, p, at(7), []chat.InRoom{whom("other", "user-3")}) },
	)
}

func restrictionsLater(ctx context.Context, p chat.Restrictions) error {
	second := func(r chat.Restriction, n int) chat.Restriction { // as it is stored, n microseconds after the first
		r.At = at(100).Add(time.Duration(n) * time.Microsecond)
		return r
	}
	ends := restricted(ban("room", "user-2", 100), chat.Ban, at(500))
	return first(
		func() error { return wantPut(ctx, p, ban("room", "user-2", 100)) },
		func() error {
			return wantPutAs(ctx, p, ban("room", "user-2", 100), second(ban("room", "user-2", 100), 1))
		},
		func() error { return wantPutAs(ctx, p, ban("room", "user-2", 3), second(ban("room", "user-2", 3), 2)) },
		func() error { return wantPutAs(ctx, p, ends, second(ends, 3)) },
		func() error { return wantSince(ctx, p, at(0), 10, second(ends, 3)) },
		func() error { // what is later by a microsecond alone is later
			return wantPut(ctx, p, second(ban("room", "user-2", 7), 4))
		},
		func() error {
			return wantPut(ctx, p, ban("room", "user-3", 3), restricted(ban("room", "user-2", 4), chat.Mute, at(9)))
		},
	)
}

func restrictionsLifted(ctx context.Context, p chat.Restrictions) error {
	lifted := func(n int) chat.Restriction { return restricted(ban("room", "user-2", n), chat.Ban, chat.Lifted) }
	moved := lifted(20)
	moved.At = at(20).Add(time.Microsecond)
	moved2 := lifted(5)
	moved2.At = at(20).Add(2 * time.Microsecond)
	asked := []chat.InRoom{whom("room", "user-2")}
	return first(
		func() error { return wantPut(ctx, p, lifted(1)) }, // nothing was there
		func() error { return wantPut(ctx, p, ban("room", "user-2", 10)) },
		func() error { return wantInForce(ctx, p, at(11), asked, ban("room", "user-2", 10)) },
		func() error { return wantPut(ctx, p, lifted(20)) },
		func() error { return wantPutAs(ctx, p, lifted(20), moved) },
		func() error { return wantPutAs(ctx, p, lifted(5), moved2) },
		func() error { return wantInForce(ctx, p, at(0), asked) },
		func() error { return wantRestricted(ctx, p, "room", at(0), "", 10) },
		func() error { return wantSince(ctx, p, at(0), 10, moved2) },
		func() error { return wantPut(ctx, p, ban("room", "user-2", 30)) },
		func() error { return wantInForce(ctx, p, at(31), asked, ban("room", "user-2", 30)) },
	)
}

func restrictionsRace(ctx context.Context, p chat.Restrictions) error {
	const n, each = 8, 6
	times := make([][]time.Time, n)
	var stored []chat.Restriction
	return first(
		func() error {
			return allTogether(n, func(i int) error {
				for range each {
					got, err := p.Put(ctx, ban("room", "user-2", 1), nil)
					if err != nil {
						return during("Put", err)
					}
					times[i] = append(times[i], got.At)
				}
				return nil
			})
		},
		func() (err error) {
			stored, err = p.Since(ctx, at(0), 10)
			if err == nil && len(stored) != 1 {
				err = fmt.Errorf("there are %d, want 1", len(stored))
			}
			return during("Since", err)
		},
		func() error {
			all := slices.Concat(times...)
			slices.SortFunc(all, time.Time.Compare)
			for i, got := range all {
				if want := at(1).Add(time.Duration(i) * time.Microsecond); !got.Equal(want) {
					return fmt.Errorf("time %d of %d concurrent calls is %s, want %s", i, n*each, got.Format(time.RFC3339Nano), want.Format(time.RFC3339Nano))
				}
			}
			if last := all[len(all)-1]; !stored[0].At.Equal(last) {
				return fmt.Errorf("what is stored is of %s, and the last Put of %s", stored[0].At, last)
			}
			return nil
		},
	)
}

func restrictionsEnded(ctx context.Context, p chat.Restrictions) error {
	r := restricted(ban("room", "user-2", 1), chat.Ban, at(10))
	asked := []chat.InRoom{whom("room", "user-2")}
	return first(
		func() error { return wantPut(ctx, p, r) },
		func() error { return wantInForce(ctx, p, at(10).Add(-time.Microsecond), asked, r) },
		func() error { return wantInForce(ctx, p, at(10), asked) },
		func() error { return wantInForce(ctx, p, at(11), asked) },
		func() error { return wantRestricted(ctx, p, "room", at(10).Add(-time.Microsecond), "", 10, r) },
		func() error { return wantRestricted(ctx, p, "room", at(10), "", 10) },
	)
}

func restrictionsForever(ctx context.Context, p chat.Restrictions) error {
	asked := []chat.InRoom{whom("room", "user-2")}
	never := time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)
	return first(
		func() error { return wantPut(ctx, p, ban("room", "user-2", 1)) },
		func() error { return wantInForce(ctx, p, at(1), asked, ban("room", "user-2", 1)) },
		func() error { return wantInForce(ctx, p, never, asked, ban("room", "user-2", 1)) },
		func() error { return wantRestricted(ctx, p, "room", never, "", 10, ban("room", "user-2", 1)) },
	)
}

func restrictionsAsked(ctx context.Context, p chat.Restrictions) error {
	all := []chat.Restriction{
		ban("a", "user-2", 1), restricted(ban("a", "user-2", 2), chat.Mute, at(90)), ban("b", "user-3", 3), ban("b", "user-2", 4),
		restricted(ban("c", "user-2", 5), chat.Mute, at(6)),
	}
	return first(
		func() error { return wantPut(ctx, p, all...) },
		func() error {
			return wantInForce(ctx, p, at(8), []chat.InRoom{
				whom("b", "user-3"), whom("a", "user-2"), whom("nowhere", "user-2"), whom("a", "user-3"), whom("c", "user-2"),
				whom("a", "user-2"), whom("b", "user-3"),
			}, all[0], all[1], all[2])
		},
		func() error {
			return wantInForce(ctx, p, at(8), []chat.InRoom{whom("a", "user-2"), whom("a", "user-2")}, all[0], all[1])
		},
	)
}

func restrictionsMany(ctx context.Context, p chat.Restrictions) error {
	const n = 512
	var asked []chat.InRoom
	var want []chat.Restriction
	for i := range n {
		w := whom(fmt.Sprintf("room-%d", i%7), user.ID(fmt.Sprintf("user-%d", i)))
		asked = append(asked, w)
		if i%60 == 11 {
			want = append(want, ban(w.Room, w.UserID, i))
		}
	}
	last := asked[n-1]
	want = append(want, ban(last.Room, last.UserID, n))
	return first(
		func() error { return wantPut(ctx, p, want...) },
		func() error { return wantInForce(ctx, p, at(2*n), asked, want...) },
		func() error {
			return wantInForce(ctx, p, at(2*n), append(slices.Clone(asked[:100]), asked[:100]...), want[:2]...)
		},
	)
}

func restrictionsNobody(ctx context.Context, p chat.Restrictions) error {
	return first(
		func() error { return wantPut(ctx, p, ban("room", "user-2", 1)) },
		func() error { return wantInForce(ctx, p, at(2), nil) },
	)
}

func restrictionsExact(ctx context.Context, p chat.Restrictions) error {
	for i, name := range names {
		if i%2 == 0 {
			if err := wantPut(ctx, p, ban(name, "user-2", i), ban("room-0", user.ID(name), i)); err != nil {
				return err
			}
		}
	}
	for i, name := range names {
		var rooms, users []chat.Restriction
		if i%2 == 0 {
			rooms, users = []chat.Restriction{ban(name, "user-2", i)}, []chat.Restriction{ban("room-0", user.ID(name), i)}
		}
		if err := first(
			func() error { return wantInForce(ctx, p, at(100), []chat.InRoom{whom(name, "user-2")}, rooms...) },
			func() error { return wantInForce(ctx, p, at(100), []chat.InRoom{whom(name, "USER-2")}) },
			func() error {
				return wantInForce(ctx, p, at(100), []chat.InRoom{whom("room-0", user.ID(name))}, users...)
			},
			func() error { return wantRestricted(ctx, p, name, at(100), "", 10, rooms...) },
		); err != nil {
			return during(fmt.Sprintf("%q", name), err)
		}
	}
	var want []chat.Restriction
	for i, name := range names {
		if i%2 == 0 {
			want = append(want, ban("room-0", user.ID(name), i))
		}
	}
	slices.SortFunc(want, compareRestrictions)
	return wantRestricted(ctx, p, "room-0", at(100), "", 100, want...)
}

func restrictionsLong(ctx context.Context, p chat.Restrictions) error {
	r := ban(long(chat.MaxRoomName), user.ID(long(chat.MaxAuthorID)), 1)
	r.By = user.ID(long(chat.MaxAuthorID))
	other := r
	other.UserID = user.ID(long(chat.MaxAuthorID-1) + "x")
	other.At = at(2)
	return first(
		func() error { return wantPut(ctx, p, r, other) },
		func() error { return wantInForce(ctx, p, at(3), []chat.InRoom{whom(r.Room, r.UserID)}, r) },
		func() error { return wantSince(ctx, p, at(0), 10, r, other) },
	)
}

func restrictionsReasons(ctx context.Context, p chat.Restrictions) error {
	var all []chat.Restriction
	for i, reason := range []string{
		"", "x", " x ", strings.Repeat("x", chat.MaxReason), strings.Repeat("é", chat.MaxReason), strings.Repeat("房", chat.MaxReason), long(chat.MaxReason),
		`'"\%_$1 ? :name {x} <b>`, "null", "0", "cafe\u0301", "\U0001f469\u200d\U0001f4bb",
	} {
		r := ban("room", user.ID(fmt.Sprintf("user-%d", i)), i)
		r.Reason = reason
		all = append(all, r)
	}
	return first(
		func() error { return wantPut(ctx, p, all...) },
		func() error { return wantSince(ctx, p, at(0), 100, all...) },
	)
}

func restrictionsListed(ctx context.Context, p chat.Restrictions) error {
	return first(
		func() error {
			return wantPut(ctx, p, ban("room", "user-2", 1), restricted(ban("room", "user-3", 2), chat.Mute, time.Time{}), ban("other", "user-4", 3),
				restricted(ban("room", "user-5", 4), chat.Ban, at(5)), restricted(ban("room", "user-6", 5), chat.Ban, at(5)), restricted(ban("room", "user-2", 6), chat.Mute, at(60)),
				restricted(ban("room", "user-7", 6), chat.Ban, at(60)))
		},
		func() error {
			return wantRestricted(ctx, p, "room", at(7), "", 10, ban("room", "user-2", 1), restricted(ban("room", "user-7", 6), chat.Ban, at(60)))
		},
		func() error { return wantRestricted(ctx, p, "nowhere", at(7), "", 10) },
	)
}

func restrictionsOrder(ctx context.Context, p chat.Restrictions) error {
	ids := []user.ID{"a", "B", "b", "Ä", "z", "ä", "10", "9", "房", "👋", "\uffee", "a b", "a.b", "aa"}
	var want []chat.Restriction
	for i, id := range ids {
		want = append(want, ban("room", id, len(ids)-i))
	}
	return first(
		func() error { return wantPut(ctx, p, want...) },
		func() error {
			slices.SortFunc(want, compareRestrictions)
			return wantRestricted(ctx, p, "room", at(100), "", 100, want...)
		},
	)
}

func restrictionsPages(ctx context.Context, p chat.Restrictions) error {
	var all []chat.Restriction
	for i := range 9 {
		r := ban("room", user.ID(fmt.Sprintf("user-%d", i)), i)
		if i%3 == 1 {
			r.Until = at(20)
		}
		all = append(all, r)
	}
	holding := slices.DeleteFunc(slices.Clone(all), func(r chat.Restriction) bool { return !r.Until.IsZero() })
	return first(
		func() error { return wantPut(ctx, p, all...) },
		func() error { return wantRestricted(ctx, p, "room", at(21), "", 3, holding[:3]...) },
		func() error { return wantRestricted(ctx, p, "room", at(21), holding[2].UserID, 2, holding[3:5]...) },
		func() error { return wantRestricted(ctx, p, "room", at(21), "user-4", 10, holding[3:]...) }, // after one that is none
		func() error { return wantRestricted(ctx, p, "room", at(21), holding[5].UserID, 10) },
		func() error { return wantRestricted(ctx, p, "room", at(21), "", math.MaxInt32, holding...) },
		func() error { return wantRestricted(ctx, p, "room", at(21), "", 0) },
		func() error { return wantRestricted(ctx, p, "room", at(21), "", -1) },
	)
}

func restrictionsStay(ctx context.Context, p chat.Restrictions) error {
	over := restricted(ban("room", "user-2", 1), chat.Ban, at(2))
	lifted := restricted(ban("room", "user-3", 3), chat.Ban, at(3))
	old := restricted(ban("room", "user-4", 0), chat.Ban, past.Add(time.Hour))
	old.At = past
	return first(
		func() error { return wantPut(ctx, p, over, ban("room", "user-3", 2), lifted, old) },
		func() error { return wantRestricted(ctx, p, "room", at(50), "", 10) },
		func() error { return wantSince(ctx, p, past, 10, old, over, lifted) },
		func() error { return wantPut(ctx, p, ban("room", "user-2", 4)) },
		func() error { return wantSince(ctx, p, past, 10, old, lifted, ban("room", "user-2", 4)) },
	)
}

// chronicle are restrictions in the order of Since.
func chronicle() []chat.Restriction {
	return []chat.Restriction{
		restricted(ban("z", "user-9", 1), chat.Ban, at(2)), ban("b", "user-2", 3), ban("B", "user-8", 5), ban("a", "user-1", 5), ban("a", "user-3", 5),
		restricted(ban("a", "user-3", 5), chat.Mute, at(5)), ban("b", "user-0", 5), ban("a", "user-2", 6),
	}
}

func restrictionsSince(ctx context.Context, p chat.Restrictions) error {
	all := chronicle()
	slices.SortStableFunc(all, func(a, b chat.Restriction) int { return cmp.Or(a.At.Compare(b.At), compareRestrictions(a, b)) })
	return first(
		func() error {
			for _, i := range []int{5, 1, 7, 3, 0, 6, 4, 2} {
				if err := wantPut(ctx, p, all[i]); err != nil {
					return err
				}
			}
			return nil
		},
		func() error { return wantSince(ctx, p, at(0), 100, all...) },
		func() error { return wantSince(ctx, p, time.Time{}, 100, all...) },
		func() error { return wantSince(ctx, p, at(5), 100, all[2:]...) },
		func() error { return wantSince(ctx, p, at(5).Add(time.Microsecond), 100, all[7]) },
		func() error { return wantSince(ctx, p, at(7), 100) },
	)
}

func restrictionsLimit(ctx context.Context, p chat.Restrictions) error {
	all := chronicle()
	slices.SortStableFunc(all, func(a, b chat.Restriction) int { return cmp.Or(a.At.Compare(b.At), compareRestrictions(a, b)) })
	return first(
		func() error { return wantPut(ctx, p, all...) },
		func() error { return wantSince(ctx, p, at(0), 1, all[0]) },
		func() error { return wantSince(ctx, p, at(3), 4, all[1:5]...) },
		func() error { return wantSince(ctx, p, at(0), len(all), all...) },
		func() error { return wantSince(ctx, p, at(0), 0) },
		func() error { return wantSince(ctx, p, at(0), -1) },
	)
}

func restrictionsTimes(ctx context.Context, p chat.Restrictions) error {
	east := time.FixedZone("east", 5*3600)
	given := ban("room", "user-2", 1)
	given.At, given.Until = at(1).In(east).Add(700*time.Nanosecond), at(9).In(east).Add(999*time.Nanosecond)
	stored := restricted(ban("room", "user-2", 1), chat.Ban, at(9))
	forever := ban("room", "user-3", 2)
	forever.Until = time.Time{}.In(east)
	return first(
		func() error { return wantPutAs(ctx, p, given, stored) },
		func() error {
			return wantInForce(ctx, p, at(2).In(east), []chat.InRoom{whom("room", "user-2")}, stored)
		},
		func() error { return wantInForce(ctx, p, at(9), []chat.InRoom{whom("room", "user-2")}) },
		func() error { // it is stored in the microsecond of the one before
			again := stored
			again.At = at(1).Add(time.Microsecond)
			return wantPutAs(ctx, p, given, again)
		},
		func() error {
			got, err := p.Put(ctx, forever, nil)
			return during("Put", then(err, func() error { return wantZero(got.Until) }))
		},
		func() error {
			got, err := p.Since(ctx, at(2), 10)
			if err == nil && len(got) != 1 {
				err = fmt.Errorf("there are %d, want 1", len(got))
			}
			return during("Since", then(err, func() error { return wantZero(got[0].Until) }))
		},
	)
}

func wantZero(t time.Time) error {
	if !t.IsZero() || t.Location() != time.UTC {
		return fmt.Errorf("a time that was zero is %s", t)
	}
	return nil
}

func restrictionsContext(ctx context.Context, p chat.Restrictions) error {
	return first(
		func() error { return wantPut(ctx, p, ban("room", "user-2", 1)) },
		func() error {
			gone := ended(ctx)
			for name, do := range map[string]func() error{
				"Put":     func() error { return second(p.Put(gone, ban("room", "user-2", 2), nil)) },
				"InForce": func() error { return second(p.InForce(gone, at(3), whom("room", "user-2"))) },
				"List":    func() error { return second(p.List(gone, "room", chat.Ban, at(3), "", 10)) },
				"Since":   func() error { return second(p.Since(gone, at(0), 10)) },
			} {
				if do() == nil {
					return errors.New(name + " succeeded although its context had ended")
				}
			}
			return nil
		},
		func() error { // what it came to is not known; that it can be told is
			got, err := p.Since(ctx, at(0), 10)
			if err == nil && len(got) != 1 {
				err = fmt.Errorf("there are %d, want 1", len(got))
			}
			return during("Since", err)
		},
	)
}
