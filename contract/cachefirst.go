package contract

import (
	"context"
	"fmt"

	"github.com/parley-chat/parley/core/chat"
)

// firstsOfCache are what a chat.RecentCache promises of what was removed by age.
func firstsOfCache() []promise[chat.RecentCache] {
	const highest = "The highest r.First is the room's, whatever r.Rev is, and is remembered as Rev is."
	const not = "What stands before it is not held any more, and is not taken by Add or Fill."
	return []promise[chat.RecentCache]{
		{"what was removed is not held", highest + " " + not, cacheCut},
		{"filling brings nothing back", highest + " " + not, cacheCutFill},
		{"adding brings nothing back", not, cacheCutAdd},
		{"a room of which all was removed is not held", "A room of which nothing is left then is not held. No messages say that the room has none, unless r.First is above 1: a room that was not held is held then.", cacheCutAll},
		{"nothing of a room that is gone is remembered", "Where r.First is Gone, nothing of the room is held or remembered, and r has nothing else.", cacheGone},
		{"changes come to what is left", highest + " " + not + " Change puts messages that were just changed in the place of what is held of them.", cacheCutChange},
	}
}

func cut(ctx context.Context, p chat.RecentCache, room string, low uint64) error {
	return during(fmt.Sprintf("Fill with nothing before %d", low), p.Fill(ctx, room, chat.Recent{First: low}))
}

// wantFrom is wantAsOf of a room that has the First.
func wantFrom(ctx context.Context, p chat.RecentCache, room string, low, rev uint64, want ...chat.Message) error {
	got, _, err := p.Get(ctx, room)
	if err == nil && got.First != low {
		err = fmt.Errorf("the First is %d, want %d", got.First, low)
	}
	return then(during(fmt.Sprintf("Get(%+q)", room), err), func() error { return wantAsOf(ctx, p, room, rev, 1, want...) })
}

func cacheCut(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return add(ctx, p, "room", 1, 6) },
		func() error { return add(ctx, p, "other", 1, 6) },
		func() error { return cut(ctx, p, "room", 4) },
		func() error { return wantFrom(ctx, p, "room", 4, 0, storedRange("room", 4, 6)...) },
		func() error { return cut(ctx, p, "room", 3) },
		func() error { return wantFrom(ctx, p, "room", 4, 0, storedRange("room", 4, 6)...) },
		func() error { return add(ctx, p, "room", 7, 8) },
		func() error { return cut(ctx, p, "room", 6) },
		func() error { return wantFrom(ctx, p, "room", 6, 0, storedRange("room", 6, 8)...) },
		func() error { return wantTailOf(ctx, p, "other", 1, 6) },
		// The Rev of the room is higher than the one that comes with it.
		func() error { return cacheChanged(ctx, p, revised("room", 8, 1)) },
		func() error { return cut(ctx, p, "room", 8) },
		func() error { return wantFrom(ctx, p, "room", 8, 1, revised("room", 8, 1)) },
	)
}

func cacheCutFill(ctx context.Context, p chat.RecentCache) error {
	refills := func(low, rev uint64, from, to int) error {
		return during(fmt.Sprintf("Fill with %d to %d", from, to), p.Fill(ctx, "room", chat.Recent{Messages: storedRange("room", from, to), Rev: rev, First: low}))
	}
	return first(
		func() error { return refills(1, 0, 1, 6) },
		func() error { return cut(ctx, p, "room", 4) },
		// Read before the removal.
		func() error { return refills(1, 0, 1, 6) },
		func() error { return wantFrom(ctx, p, "room", 4, 0, storedRange("room", 4, 6)...) },
		func() error { return refills(1, 2, 2, 7) },
		func() error { return wantFrom(ctx, p, "room", 4, 2, storedRange("room", 4, 7)...) },
		func() error { return refills(1, 2, 1, 3) },
		func() error { return wantFrom(ctx, p, "room", 4, 2, storedRange("room", 4, 7)...) },
		// And after it.
		func() error { return refills(5, 2, 5, 8) },
		func() error { return wantFrom(ctx, p, "room", 5, 2, storedRange("room", 5, 8)...) },
		// A room that is not held.
		func() error { return cut(ctx, p, "room", 9) },
		func() error { return wantNone(ctx, p, "room", false) },
		func() error { return refills(1, 2, 3, 8) },
		func() error { return wantNone(ctx, p, "room", false) },
		func() error { return refills(1, 2, 3, 10) },
		func() error { return wantFrom(ctx, p, "room", 9, 2, storedRange("room", 9, 10)...) },
	)
}

func cacheCutAdd(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return cut(ctx, p, "room", 4) },
		func() error { return add(ctx, p, "room", 1, 3) },
		func() error { return wantNone(ctx, p, "room", false) },
		func() error { return add(ctx, p, "room", 2, 5) },
		func() error { return wantFrom(ctx, p, "room", 4, 0, storedRange("room", 4, 5)...) },
		func() error { return add(ctx, p, "room", 1, 2) },
		func() error { return wantFrom(ctx, p, "room", 4, 0, storedRange("room", 4, 5)...) },
		func() error { return add(ctx, p, "room", 2, 7) },
		func() error { return wantFrom(ctx, p, "room", 4, 0, storedRange("room", 4, 7)...) },
		func() error { return add(ctx, p, "room", 9, 9) },
		func() error { return wantFrom(ctx, p, "room", 4, 0, stored("room", 9)) },
	)
}

func cacheCutAll(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return add(ctx, p, "room", 1, 3) },
		func() error { return cut(ctx, p, "room", 4) },
		func() error { return wantNone(ctx, p, "room", false) },
		func() error { return cut(ctx, p, "unknown", 4) },
		func() error { return wantNone(ctx, p, "unknown", false) },
		// A room that was held without messages.
		func() error { return fillEmpty(ctx, p, "empty") },
		func() error { return wantNone(ctx, p, "empty", true) },
		func() error { return cut(ctx, p, "empty", 2) },
		func() error { return wantNone(ctx, p, "empty", false) },
		func() error { return fillEmpty(ctx, p, "empty") },
		func() error { return wantNone(ctx, p, "empty", false) },
		func() error { return add(ctx, p, "room", 4, 4) },
		func() error { return wantFrom(ctx, p, "room", 4, 0, stored("room", 4)) },
	)
}

func cacheCutChange(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return add(ctx, p, "room", 1, 5) },
		func() error { return cut(ctx, p, "room", 3) },
		func() error { return cacheChanged(ctx, p, revised("room", 2, 1), revised("room", 4, 2)) },
		func() error {
			return wantFrom(ctx, p, "room", 3, 2, replaced(storedRange("room", 3, 5), revised("room", 4, 2))...)
		},
		func() error { return cut(ctx, p, "room", 6) },
		func() error { return cacheChanged(ctx, p, revised("room", 5, 3)) },
		func() error { return wantNone(ctx, p, "room", false) },
		func() error {
			return during("Fill", p.Fill(ctx, "room", chat.Recent{Messages: storedRange("room", 5, 7), Rev: 3}))
		},
		func() error { return wantFrom(ctx, p, "room", 6, 3, storedRange("room", 6, 7)...) },
	)
}

func cacheGone(ctx context.Context, p chat.RecentCache) error {
	return first(
		func() error { return add(ctx, p, "room", 1, 5) },
		func() error { return add(ctx, p, "other", 1, 5) },
		func() error { return cacheChanged(ctx, p, revised("room", 5, 1)) },
		func() error { return cut(ctx, p, "room", 3) },
		func() error { return cut(ctx, p, "room", chat.Gone) },
		func() error { return wantNone(ctx, p, "room", false) },
		func() error { return cut(ctx, p, "unknown", chat.Gone) },
		// A room of that name begins anew.
		func() error { return add(ctx, p, "room", 1, 2) },
		func() error { return wantFrom(ctx, p, "room", 0, 0, storedRange("room", 1, 2)...) },
		func() error { return cacheChanged(ctx, p, revised("room", 1, 1)) },
		func() error {
			return wantAsOf(ctx, p, "room", 1, 2, replaced(storedRange("room", 1, 2), revised("room", 1, 1))...)
		},
		func() error { return wantTailOf(ctx, p, "other", 1, 5) },
	)
}
