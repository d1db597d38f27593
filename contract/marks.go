package contract

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// Reading is a chat.Marks with the members and the messages that it is about.
type Reading struct {
	Marks    chat.Marks
	Members  chat.Members
	Messages chat.MessageStore
}

const (
	moves   = "Mark moves marks durably, all or none, in the order given, and returns one answer for each."
	noOther = "The mark of somebody who is not a member is refused with ErrNotMember in its answer, and harms no other."
	counts  = "A message counts as unread from when it is stored until it is read, deleted, or no longer stored."
	mine    = "Mine returns the rooms of a user behind a place, at most limit: none if limit is below 1."
	exactly = "Two rooms or users are the same only if they have the same bytes."
)

// Marks is the suite of chat.Marks.
func Marks() []Case[Reading] {
	return suite("Marks", []promise[Reading]{
		{"a mark moves", moves + " " + counts, marksMove},
		{"a mark never goes back", "A mark that is lower than what is read already moves nothing. What is read does not go back as long as the membership lasts.", marksStay},
		{"no mark is behind the last message", "A mark behind the last message of the room is one at the last message.", marksBeyond},
		{"only members mark", noOther, marksOfOthers},
		{"several marks in one call", moves + " " + noOther, marksSeveral},
		{"marking nothing is no error", moves, marksNothing},
		{"a newcomer has read what was there", "A member has read the last message that was stored when the membership began, and what comes before it.", marksOfNewcomers},
		{"whoever comes back is a newcomer", "A member has read the last message that was stored when the membership began, and what comes before it.", marksOfReturners},
		{"joining again leaves the mark", "What is read does not go back as long as the membership lasts. A membership that exists is left as it is. Add returns what is stored for each, in the order given, with its role. It takes no notice of Read, which Marks says.", marksAgain},
		{"what one sends is read", "A member has read what they have sent, and what comes before it.", marksOfSenders},
		{"who sends without being a member is none", noOther + " A member has read the last message that was stored when the membership began, and what comes before it.", marksOfGuests},
		{"what is deleted is not unread", counts, marksDeleted},
		{"memberships tell what is read", "Add returns what is stored for each, in the order given, with its role. A member has read what they have sent, and what comes before it.", marksInMemberships},
		{"a room has its last message and its numbers", "Each has its membership, its last message and its numbers as they are stored. Last is the last message that is stored, as it is now, also if it was deleted. Its Seq is 0 if there is none.", mineFields},
		{"rooms come by when they were active", "The rooms descend by Active, and where that is the same ascend by the bytes of the name. Active is the later one of when Last was stored and when the member joined.", mineOrder},
		{"rooms come page by page", mine, minePages},
		{"rooms of others are not mine", mine, mineAlone},
		{"rooms and users are exact", exactly, marksExact},
		{"a call that fails moves nothing", moves + " On an error no mark has moved, unless ctx ended or the store was lost meanwhile.", marksEnded},
		{"concurrent marks end at the highest", "It may be called from many goroutines. What is read does not go back as long as the membership lasts.", marksRace},
		{"marks and messages at once", "It may be called from many goroutines. A member has read what they have sent, and what comes before it.", marksAmongMessages},
		{"unread is exact after random steps", counts, func(ctx context.Context, p Reading) error { return unreadIsExact(ctx, p, 1, 250) }},
	})
}

// Unread is one more case of [Marks]: it takes random steps, as many as are asked for, and compares what is read and unread after each of them. The
// same seed takes the same steps.
func Unread(seed uint64, steps int) Case[Reading] {
	return Case[Reading]{
		Name: fmt.Sprintf("unread is exact after %d random steps from seed %d", steps, seed), Rule: counts,
		Check: func(ctx context.Context, p Reading) error { return unreadIsExact(ctx, p, seed, steps) },
	}
}

func mark(room string, id user.ID, read uint64) chat.Mark {
	return chat.Mark{Room: room, User: chat.Author{ID: id, Name: "Name of " + string(id)}, Read: read}
}

// wantMarked marks in one call, and wants these answers. An error is compared by what it is.
func wantMarked(ctx context.Context, p Reading, marks []chat.Mark, want ...chat.Marked) error {
	got, err := p.Marks.Mark(ctx, marks)
	if err == nil && len(got) != len(want) {
		err = fmt.Errorf("there are %d answers, want %d", len(got), len(want))
	}
	for i := range got {
		if err != nil {
			break
		}
		if want[i].Err != nil {
			err = wantIs(fmt.Sprintf("mark %d", i), got[i].Err, want[i].Err)
			got[i].Err, want[i].Err = nil, nil
		}
		if err == nil && got[i].Err != nil {
			err = fmt.Errorf("mark %d was refused: %w", i, got[i].Err)
		}
		if err == nil && got[i] != want[i] {
			err = fmt.Errorf("mark %d came to %+v, want %+v", i, got[i], want[i])
		}
	}
	return during(fmt.Sprintf("Mark(%s)", clip(fmt.Sprintf("%v", marks))), err)
}

// wantRead wants how far somebody has read, without moving it.
func wantRead(ctx context.Context, p Reading, room string, id user.ID, read, unread uint64) error {
	return wantMarked(ctx, p, []chat.Mark{mark(room, id, 0)}, chat.Marked{Read: read, Unread: unread})
}

func wantNoMember(ctx context.Context, p Reading, room string, id user.ID) error {
	return wantMarked(ctx, p, []chat.Mark{mark(room, id, 1)}, chat.Marked{Err: chat.ErrNotMember})
}

// enters makes users members of the room.
func enters(ctx context.Context, p Reading, room string, ids ...user.ID) error {
	for i, id := range ids {
		if err := join(ctx, p.Members, membership(room, id, i)); err != nil {
			return err
		}
	}
	return nil
}

func deletes(ctx context.Context, p Reading, room string, seqs ...uint64) error {
	var changes []chat.Change
	for i, seq := range seqs {
		changes = append(changes, chat.Change{Kind: chat.Delete, Room: room, Seq: seq, Any: true, At: at(1000 + i)})
	}
	got, err := p.Messages.Change(ctx, changes)
	for _, c := range got {
		err = cmp.Or(err, c.Err)
	}
	return during("Change", err)
}

func marksMove(ctx context.Context, p Reading) error {
	return first(
		func() error { return enters(ctx, p, "room", "user-2", "user-3") },
		func() error { return wantRead(ctx, p, "room", "user-2", 0, 0) },
		func() error { return fill(ctx, p.Messages, "room", 10) },
		func() error { return wantRead(ctx, p, "room", "user-2", 0, 10) },
		func() error {
			return wantMarked(ctx, p, []chat.Mark{mark("room", "user-2", 4)}, chat.Marked{Read: 4, Unread: 6, Moved: true})
		},
		func() error { return wantRead(ctx, p, "room", "user-2", 4, 6) },
		func() error { return wantRead(ctx, p, "room", "user-3", 0, 10) },
		func() error {
			return wantMarked(ctx, p, []chat.Mark{mark("room", "user-2", 10)}, chat.Marked{Read: 10, Moved: true})
		},
	)
}

func marksStay(ctx context.Context, p Reading) error {
	return first(
		func() error { return enters(ctx, p, "room", "user-2") },
		func() error { return fill(ctx, p.Messages, "room", 10) },
		func() error {
			return wantMarked(ctx, p, []chat.Mark{mark("room", "user-2", 7)}, chat.Marked{Read: 7, Unread: 3, Moved: true})
		},
		func() error {
			return wantMarked(ctx, p, []chat.Mark{mark("room", "user-2", 3)}, chat.Marked{Read: 7, Unread: 3})
		},
		func() error {
			return wantMarked(ctx, p, []chat.Mark{mark("room", "user-2", 7)}, chat.Marked{Read: 7, Unread: 3})
		},
		func() error { return wantRead(ctx, p, "room", "user-2", 7, 3) },
	)
}

func marksBeyond(ctx context.Context, p Reading) error {
	const most = 1<<64 - 1
	return first(
		func() error { return enters(ctx, p, "room", "user-2") },
		func() error {
			return wantMarked(ctx, p, []chat.Mark{mark("room", "user-2", 5)}, chat.Marked{})
		},
		func() error { return fill(ctx, p.Messages, "room", 3) },
		func() error { return wantRead(ctx, p, "room", "user-2", 0, 3) },
		func() error {
			return wantMarked(ctx, p, []chat.Mark{mark("room", "user-2", most)}, chat.Marked{Read: 3, Moved: true})
		},
		func() error {
			return second(p.Messages.Append(ctx, []chat.Message{said("room", 4)}))
		},
		func() error { return wantRead(ctx, p, "room", "user-2", 3, 1) },
	)
}

func marksOfOthers(ctx context.Context, p Reading) error {
	return first(
		func() error { return wantNoMember(ctx, p, "room", "user-2") },
		func() error { return fill(ctx, p.Messages, "room", 3) },
		func() error { return enters(ctx, p, "room", "user-3") },
		func() error { return enters(ctx, p, "other", "user-2") },
		func() error { return wantNoMember(ctx, p, "room", "user-2") },
		func() error { return leave(ctx, p.Members, "room", "user-3") },
		func() error { return wantNoMember(ctx, p, "room", "user-3") },
	)
}

func marksSeveral(ctx context.Context, p Reading) error {
	return first(
		func() error { return enters(ctx, p, "a", "user-2", "user-3") },
		func() error { return enters(ctx, p, "b", "user-2") },
		func() error { return fill(ctx, p.Messages, "a", 6) },
		func() error { return fill(ctx, p.Messages, "b", 6) },
		func() error {
			return wantMarked(ctx, p,
				[]chat.Mark{
					mark("b", "user-2", 2), mark("a", "user-2", 4), mark("a", "stranger", 6), mark("a", "user-3", 9), mark("c", "user-2", 1),
					mark("a", "user-2", 3), mark("a", "user-2", 5), mark("b", "user-2", 0),
				},
				chat.Marked{Read: 2, Unread: 4, Moved: true}, chat.Marked{Read: 4, Unread: 2, Moved: true}, chat.Marked{Err: chat.ErrNotMember},
				chat.Marked{Read: 6, Moved: true}, chat.Marked{Err: chat.ErrNotMember},
				chat.Marked{Read: 4, Unread: 2}, chat.Marked{Read: 5, Unread: 1, Moved: true}, chat.Marked{Read: 2, Unread: 4})
		},
		func() error { return wantRead(ctx, p, "a", "user-2", 5, 1) },
		func() error { return wantRead(ctx, p, "b", "user-2", 2, 4) },
		func() error { return wantRead(ctx, p, "a", "user-3", 6, 0) },
		func() error { // more than a statement takes
			var marks []chat.Mark
			var want []chat.Marked
			for i := range 150 {
				marks = append(marks, mark("b", "user-2", uint64(3+i/50)))
				want = append(want, chat.Marked{Read: uint64(3 + i/50), Unread: uint64(3 - i/50), Moved: i%50 == 0})
			}
			return wantMarked(ctx, p, marks, want...)
		},
	)
}

func marksNothing(ctx context.Context, p Reading) error { return wantMarked(ctx, p, nil) }

func marksOfNewcomers(ctx context.Context, p Reading) error {
	return first(
		func() error { return fill(ctx, p.Messages, "room", 5) },
		func() error {
			got, err := p.Members.Add(ctx, membership("room", "user-2", 1), membership("quiet", "user-2", 2))
			want := []chat.Membership{membership("room", "user-2", 1), membership("quiet", "user-2", 2)}
			want[0].Read = 5
			return during("Add", then(err, func() error { return same(got, want) }))
		},
		func() error { return wantRead(ctx, p, "room", "user-2", 5, 0) },
		func() error { return second(p.Messages.Append(ctx, []chat.Message{said("room", 6), said("quiet", 1)})) },
		func() error { return wantRead(ctx, p, "room", "user-2", 5, 1) },
		func() error { return wantRead(ctx, p, "quiet", "user-2", 0, 1) },
	)
}

func marksOfReturners(ctx context.Context, p Reading) error {
	return first(
		func() error { return enters(ctx, p, "room", "user-2") },
		func() error { return fill(ctx, p.Messages, "room", 6) },
		func() error {
			return wantMarked(ctx, p, []chat.Mark{mark("room", "user-2", 2)}, chat.Marked{Read: 2, Unread: 4, Moved: true})
		},
		func() error { return leave(ctx, p.Members, "room", "user-2") },
		func() error { return enters(ctx, p, "room", "user-2") },
		func() error { return wantRead(ctx, p, "room", "user-2", 6, 0) },
	)
}

func marksAgain(ctx context.Context, p Reading) error {
	given := membership("room", "user-2", 9)
	given.Read = 6
	want := membership("room", "user-2", 0)
	want.Read = 2
	return first(
		func() error { return enters(ctx, p, "room", "user-2") },
		func() error { return fill(ctx, p.Messages, "room", 6) },
		func() error {
			return wantMarked(ctx, p, []chat.Mark{mark("room", "user-2", 2)}, chat.Marked{Read: 2, Unread: 4, Moved: true})
		},
		func() error {
			got, err := p.Members.Add(ctx, given, membership("room", "user-3", 3), given)
			newcomer := membership("room", "user-3", 3)
			newcomer.Read = 6
			return during("Add", then(err, func() error { return same(got, []chat.Membership{want, newcomer, want}) }))
		},
		func() error { return wantRead(ctx, p, "room", "user-2", 2, 4) },
	)
}

func marksOfSenders(ctx context.Context, p Reading) error {
	return first(
		func() error { return enters(ctx, p, "room", "user-1", "user-2") },
		func() error { return fill(ctx, p.Messages, "room", 4) }, // by user-1
		func() error { return wantRead(ctx, p, "room", "user-1", 4, 0) },
		func() error { return wantRead(ctx, p, "room", "user-2", 0, 4) },
		func() error {
			m := said("room", 6)
			m.Author.ID = "user-2"
			return second(p.Messages.Append(ctx, []chat.Message{said("room", 5), m, said("other", 1), said("room", 7)}))
		},
		func() error { return wantRead(ctx, p, "room", "user-2", 6, 1) },
		func() error { return wantRead(ctx, p, "room", "user-1", 7, 0) },
		func() error { // sent again, which stores nothing
			m := said("room", 8)
			m.Author.ID, m.ClientID = "user-2", "once"
			return then(second(p.Messages.Append(ctx, []chat.Message{m, said("room", 9)})), func() error {
				return second(p.Messages.Append(ctx, []chat.Message{m}))
			})
		},
		func() error { return wantRead(ctx, p, "room", "user-2", 8, 1) },
		func() error {
			return wantMarked(ctx, p, []chat.Mark{mark("room", "user-2", 7)}, chat.Marked{Read: 8, Unread: 1})
		},
	)
}

func marksOfGuests(ctx context.Context, p Reading) error {
	return first(
		func() error { return fill(ctx, p.Messages, "room", 3) }, // by user-1, who is no member
		func() error { return wantNoMember(ctx, p, "room", "user-1") },
		func() error { return wantMember(ctx, p.Members, "room", "user-1", false) },
		func() error { return enters(ctx, p, "room", "user-1") },
		func() error { return wantRead(ctx, p, "room", "user-1", 3, 0) },
	)
}

func marksDeleted(ctx context.Context, p Reading) error {
	return first(
		func() error { return enters(ctx, p, "room", "user-2", "user-3") },
		func() error { return fill(ctx, p.Messages, "room", 10) },
		func() error { return deletes(ctx, p, "room", 2, 5, 10) },
		func() error { return wantRead(ctx, p, "room", "user-2", 0, 7) },
		func() error {
			return wantMarked(ctx, p, []chat.Mark{mark("room", "user-2", 5), mark("room", "user-3", 4)},
				chat.Marked{Read: 5, Unread: 4, Moved: true}, chat.Marked{Read: 4, Unread: 4, Moved: true})
		},
		func() error { return deletes(ctx, p, "room", 5, 3, 6) }, // 5 once more
		func() error { return wantRead(ctx, p, "room", "user-2", 5, 3) },
		func() error { return wantRead(ctx, p, "room", "user-3", 4, 3) },
		func() error { // what is changed otherwise still counts
			got, err := p.Messages.Change(ctx, []chat.Change{
				{Kind: chat.Edit, Room: "room", Seq: 7, Any: true, Text: "edited", At: at(50)},
				{Kind: chat.React, Room: "room", Seq: 8, By: chat.Author{ID: "user-2"}, Key: "👍", At: at(51)},
			})
			for _, c := range got {
				err = cmp.Or(err, c.Err)
			}
			return during("Change", err)
		},
		func() error { return wantRead(ctx, p, "room", "user-2", 5, 3) },
	)
}

func marksInMemberships(ctx context.Context, p Reading) error {
	want := membership("room", "user-2", 0)
	want.Read = 3
	return first(
		func() error { return enters(ctx, p, "room", "user-2") },
		func() error { return fill(ctx, p.Messages, "room", 4) },
		func() error {
			return wantMarked(ctx, p, []chat.Mark{mark("room", "user-2", 3)}, chat.Marked{Read: 3, Unread: 1, Moved: true})
		},
		func() error { return wantRoomsOf(ctx, p.Members, "user-2", "", 10, want) },
		func() error {
			m := said("room", 5)
			m.Author.ID, want.Read = "user-2", 5
			return second(p.Messages.Append(ctx, []chat.Message{m}))
		},
		func() error { return wantRoomsOf(ctx, p.Members, "user-2", "", 10, want) },
		func() error {
			got, err := p.Members.Add(ctx, membership("room", "user-2", 7))
			return during("Add", then(err, func() error { return same(got, []chat.Membership{want}) }))
		},
	)
}

func wantMine(ctx context.Context, p Reading, id user.ID, behind chat.Place, limit int, want ...chat.MyRoom) error {
	got, err := p.Marks.Mine(ctx, id, behind, limit)
	if err == nil {
		err = same(got, want)
	}
	return during(fmt.Sprintf("Mine(%q, %v, %d)", id, behind, limit), err)
}

func mineFields(ctx context.Context, p Reading) error {
	quiet := chat.MyRoom{Membership: membership("quiet", "user-2", 30), Active: at(30)}
	full := said("full", 1)
	full.ClientID, full.Data, full.ReplyTo = "client-1", `{"card":[1]}`, 1
	busy := chat.MyRoom{Membership: membership("full", "user-2", 0), Seq: 1, Unread: 1, Last: full, Active: at(1)}
	busy.Last.Seq = 1
	return first(
		func() error { return wantMine(ctx, p, "user-2", chat.Place{}, 10) },
		func() error { return join(ctx, p.Members, quiet.Membership, busy.Membership) },
		func() error { return second(p.Messages.Append(ctx, []chat.Message{full})) },
		func() error { return wantMine(ctx, p, "user-2", chat.Place{}, 10, quiet, busy) },
		func() error {
			got, err := p.Messages.Change(ctx, []chat.Change{{Kind: chat.React, Room: "full", Seq: 1, By: chat.Author{ID: "user-9"}, Key: "👋", At: at(40)}})
			if err == nil {
				busy.Last, busy.Rev = got[0].Message, got[0].Rev
			}
			return during("Change", err)
		},
		func() error { return wantMine(ctx, p, "user-2", chat.Place{}, 10, quiet, busy) },
		func() error {
			return second(p.Messages.Append(ctx, []chat.Message{said("full", 41)}))
		},
		func() error {
			return wantMarked(ctx, p, []chat.Mark{mark("full", "user-2", 1)}, chat.Marked{Read: 1, Unread: 1, Moved: true})
		},
		func() error {
			busy.Last, busy.Seq, busy.Read, busy.Active = said("full", 41), 2, 1, at(41)
			busy.Last.Seq = 2
			return wantMine(ctx, p, "user-2", chat.Place{}, 10, busy, quiet)
		},
		func() error { return deletes(ctx, p, "full", 2) },
		func() error {
			last, err := p.Messages.List(ctx, "full", chat.Range{Limit: 1, Newest: true})
			if err == nil && (len(last) != 1 || last[0].DeletedAt.IsZero()) {
				err = errors.New("the last message is not there as a deleted one")
			}
			if err != nil {
				return during("List", err)
			}
			busy.Last, busy.Rev, busy.Unread = last[0], last[0].Rev, 0
			return wantMine(ctx, p, "user-2", chat.Place{}, 10, busy, quiet)
		},
	)
}

// many makes the user a member of rooms, in which the last message, or the joining, was at times that partly are the same. It returns the rooms
// as Mine should.
func many(ctx context.Context, p Reading, id user.ID, n int) ([]chat.MyRoom, error) {
	var all []chat.MyRoom
	for i := range n {
		r := chat.MyRoom{Membership: membership(fmt.Sprintf("room-%02d", (i*7)%n), id, i%5)}
		r.Active = r.Since
		if err := join(ctx, p.Members, r.Membership); err != nil {
			return nil, err
		}
		if i%3 != 0 { // others are quiet
			m := said(r.Room, 3+i%4)
			if err := second(p.Messages.Append(ctx, []chat.Message{m})); err != nil {
				return nil, during("Append", err)
			}
			m.Seq = 1
			r.Last, r.Seq, r.Unread = m, 1, 1
			if m.At.After(r.Active) {
				r.Active = m.At
			}
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b chat.MyRoom) int {
		return cmp.Or(b.Active.Compare(a.Active), strings.Compare(a.Room, b.Room))
	})
	return all, nil
}

func mineOrder(ctx context.Context, p Reading) error {
	want, err := many(ctx, p, "user-2", 23)
	return then(err, func() error { return wantMine(ctx, p, "user-2", chat.Place{}, 100, want...) })
}

func minePages(ctx context.Context, p Reading) error {
	want, err := many(ctx, p, "user-2", 23)
	if err != nil {
		return err
	}
	var all []chat.MyRoom
	for behind := (chat.Place{}); len(all) <= len(want); {
		page, err := p.Marks.Mine(ctx, "user-2", behind, 4)
		if err != nil {
			return during("Mine", err)
		}
		if len(page) > 4 {
			return fmt.Errorf("with limit 4 there are %d rooms", len(page))
		}
		if len(page) == 0 {
			break
		}
		all = append(all, page...)
		behind = page[len(page)-1].Place()
	}
	between := want[9].Place()
	between.Room += "\x01" // no room, but a place
	return first(
		func() error { return during("all pages", same(all, want)) },
		func() error { return wantMine(ctx, p, "user-2", between, 3, want[10:13]...) },
		func() error { return wantMine(ctx, p, "user-2", chat.Place{Active: at(-1)}, 3) },
		func() error {
			got, err := p.Marks.Mine(ctx, "user-2", chat.Place{}, 0)
			if len(got) > 0 {
				return fmt.Errorf("with limit 0 there are %d rooms and the error %w", len(got), orNone(err))
			}
			return nil
		},
	)
}

func mineAlone(ctx context.Context, p Reading) error {
	want, err := many(ctx, p, "user-2", 3)
	return then(err,
		func() error { return enters(ctx, p, "room-01", "user-3") },
		func() error { return enters(ctx, p, "theirs", "user-3") },
		func() error { return wantMine(ctx, p, "nobody", chat.Place{}, 10) },
		func() error { return leave(ctx, p.Members, want[1].Room, "user-2") },
		func() error { return wantMine(ctx, p, "user-2", chat.Place{}, 10, want[0], want[2]) },
	)
}

func marksExact(ctx context.Context, p Reading) error {
	for i, name := range names {
		if i%2 == 0 {
			if err := first(
				func() error { return join(ctx, p.Members, membership(name, "user-2", i)) },
				func() error { return fill(ctx, p.Messages, name, 3) },
			); err != nil {
				return err
			}
		}
	}
	for i, name := range names {
		if i%2 != 0 {
			if err := wantNoMember(ctx, p, name, "user-2"); err != nil {
				return err
			}
			continue
		}
		if err := first(
			func() error { return wantNoMember(ctx, p, name, "USER-2") },
			func() error {
				return wantMarked(ctx, p, []chat.Mark{mark(name, "user-2", 2)}, chat.Marked{Read: 2, Unread: 1, Moved: true})
			},
		); err != nil {
			return err
		}
	}
	rooms, err := p.Marks.Mine(ctx, "user-2", chat.Place{}, 100)
	if err == nil && len(rooms) != (len(names)+1)/2 {
		err = fmt.Errorf("there are %d rooms, want %d", len(rooms), (len(names)+1)/2)
	}
	for _, r := range rooms {
		if i := slices.Index(names, r.Room); err == nil && (i < 0 || i%2 != 0 || r.Last.Room != r.Room || r.Read != 2) {
			err = fmt.Errorf("it has %+v", r)
		}
	}
	return during("Mine", err)
}

func marksEnded(ctx context.Context, p Reading) error {
	return first(
		func() error { return enters(ctx, p, "room", "user-2") },
		func() error { return fill(ctx, p.Messages, "room", 3) },
		func() error {
			if _, err := p.Marks.Mark(ended(ctx), []chat.Mark{mark("room", "user-2", 2)}); err == nil {
				return errors.New("a Mark succeeded although its context had ended")
			}
			if _, err := p.Marks.Mine(ended(ctx), "user-2", chat.Place{}, 1); err == nil {
				return errors.New("a Mine succeeded although its context had ended")
			}
			return nil
		},
		func() error { // what it came to is not known; that it can be told is
			got, err := p.Marks.Mark(ctx, []chat.Mark{mark("room", "user-2", 0)})
			if err == nil && (len(got) != 1 || got[0].Read != 0 && got[0].Read != 2 || got[0].Unread != 3-got[0].Read) {
				err = fmt.Errorf("it came to %+v", got)
			}
			return during("Mark", err)
		},
	)
}

func marksRace(ctx context.Context, p Reading) error {
	const n, each = 8, 12
	return first(
		func() error { return enters(ctx, p, "room", "user-2", "user-3") },
		func() error { return fill(ctx, p.Messages, "room", n*each) },
		func() error {
			return allTogether(n, func(i int) error {
				reached := uint64(0)
				for j := range each {
					to := uint64(j*n + i + 1)
					got, err := p.Marks.Mark(ctx, []chat.Mark{mark("room", "user-2", to), mark("room", "user-3", to)})
					if err != nil {
						return during("Mark", err)
					}
					for _, m := range got {
						if m.Err != nil || m.Read < max(reached, to) || m.Unread != n*each-m.Read {
							return fmt.Errorf("a mark at %d came to %+v, after one at %d", to, m, reached)
						}
					}
					reached = min(got[0].Read, got[1].Read)
				}
				return nil
			})
		},
		func() error { return wantRead(ctx, p, "room", "user-2", n*each, 0) },
		func() error { return wantRead(ctx, p, "room", "user-3", n*each, 0) },
	)
}

func marksAmongMessages(ctx context.Context, p Reading) error {
	const n, each = 6, 10
	id := func(i int) user.ID { return user.ID(fmt.Sprintf("user-%d", i%3)) } // two senders each
	rooms := []string{"a", "b"}
	if err := first(
		func() error { return enters(ctx, p, "a", id(0), id(1), id(2)) },
		func() error { return enters(ctx, p, "b", id(2), id(1), id(0)) },
		func() error {
			return allTogether(2*n, func(i int) error {
				for j := range each {
					if i >= n { // marks, of all in another order
						var marks []chat.Mark
						for k := range 6 {
							marks = append(marks, mark(rooms[(i+k/3)%2], id(i+k), uint64(j*3)))
						}
						if err := second(p.Marks.Mark(ctx, marks)); err != nil {
							return during("Mark", err)
						}
						continue
					}
					one, two := said(rooms[i%2], i*each+j), said(rooms[(i+1)%2], i*each+j)
					one.Author.ID, two.Author.ID = id(i), id(i+1)
					one.ID, two.ID = one.ID+"/one", two.ID+"/two"
					got, err := p.Messages.Append(ctx, []chat.Message{one, two})
					if err != nil {
						return during("Append", err)
					}
					for _, m := range got {
						now, err := p.Marks.Mark(ctx, []chat.Mark{mark(m.Room, m.Author.ID, 0)})
						if err == nil && (now[0].Err != nil || now[0].Read < m.Seq) {
							err = fmt.Errorf("whoever has sent message %d of %q has read %+v", m.Seq, m.Room, now[0])
						}
						if err != nil {
							return during("Mark", err)
						}
					}
				}
				return nil
			})
		},
	); err != nil {
		return err
	}
	for _, room := range rooms {
		for i := range 3 {
			got, err := p.Marks.Mark(ctx, []chat.Mark{mark(room, id(i), 0)})
			if err == nil && (got[0].Err != nil || got[0].Read+got[0].Unread != n*each) {
				err = fmt.Errorf("of %d messages %+v", n*each, got[0])
			}
			if err != nil {
				return during("Mark", err)
			}
		}
	}
	return nil
}

// readers is what a store must make of rooms and their members.
type readers struct {
	messages map[string][]line // by room, ascending
	members  map[string]map[user.ID]chat.Membership
}

// line is a message as far as it is of account.
type line struct {
	at      time.Time
	deleted bool
}

func (r *readers) unread(room string, read uint64) (n uint64) {
	for _, l := range r.messages[room][read:] {
		if !l.deleted {
			n++
		}
	}
	return n
}

func (r *readers) mark(m chat.Mark) chat.Marked {
	member, ok := r.members[m.Room][m.User.ID]
	if !ok {
		return chat.Marked{Err: chat.ErrNotMember}
	}
	before := member.Read
	member.Read = max(before, min(m.Read, uint64(len(r.messages[m.Room]))))
	r.members[m.Room][m.User.ID] = member
	return chat.Marked{Read: member.Read, Unread: r.unread(m.Room, member.Read), Moved: member.Read > before}
}

func (r *readers) mine(id user.ID) (all []chat.MyRoom) {
	for room, members := range r.members {
		m, ok := members[id]
		if !ok {
			continue
		}
		mine := chat.MyRoom{Membership: m, Seq: uint64(len(r.messages[room])), Unread: r.unread(room, m.Read), Active: m.Since}
		if n := len(r.messages[room]); n > 0 && r.messages[room][n-1].at.After(mine.Active) {
			mine.Active = r.messages[room][n-1].at
		}
		all = append(all, mine)
	}
	slices.SortFunc(all, func(a, b chat.MyRoom) int { return cmp.Or(b.Active.Compare(a.Active), strings.Compare(a.Room, b.Room)) })
	return all
}

// unreadIsExact sends, deletes, marks, joins and leaves at random, and looks after each step.
func unreadIsExact(ctx context.Context, p Reading, seed uint64, steps int) error {
	random := rand.New(rand.NewPCG(seed, seed))
	r := readers{messages: map[string][]line{}, members: map[string]map[user.ID]chat.Membership{}}
	room := func() string { return fmt.Sprintf("room-%d", random.IntN(4)) }
	id := func() user.ID { return user.ID(fmt.Sprintf("user-%d", random.IntN(5))) }
	for n := range steps {
		step, err := r.step(ctx, p, random, n, room, id)
		if err == nil {
			err = r.look(ctx, p, room(), id())
		}
		if err != nil {
			return fmt.Errorf("step %d, %s: %w", n, step, err)
		}
	}
	return nil
}

func (r *readers) step(ctx context.Context, p Reading, random *rand.Rand, n int, room func() string, id func() user.ID) (what string, err error) {
	in, who := room(), id()
	switch random.IntN(9) {
	case 0, 1, 2:
		var batch []chat.Message
		for i := range 1 + random.IntN(3) {
			m := said(room(), n)
			m.ID, m.Author.ID = fmt.Sprintf("%s/%d", m.ID, i), id()
			batch = append(batch, m)
			r.messages[m.Room] = append(r.messages[m.Room], line{at: m.At})
			if member, ok := r.members[m.Room][m.Author.ID]; ok {
				member.Read = uint64(len(r.messages[m.Room]))
				r.members[m.Room][m.Author.ID] = member
			}
		}
		return fmt.Sprintf("sending %d", len(batch)), second(p.Messages.Append(ctx, batch))
	case 3, 4:
		if n := len(r.messages[in]); n > 0 {
			seq := uint64(1 + random.IntN(n))
			r.messages[in][seq-1].deleted = true
			return fmt.Sprintf("deleting %d in %s", seq, in), deletes(ctx, p, in, seq)
		}
	case 5, 6:
		m := mark(in, who, uint64(random.IntN(len(r.messages[in])+3)))
		return fmt.Sprintf("%s marks %d in %s", who, m.Read, in), wantMarked(ctx, p, []chat.Mark{m}, r.mark(m))
	case 7:
		m := membership(in, who, n)
		if r.members[in] == nil {
			r.members[in] = map[user.ID]chat.Membership{}
		}
		if _, ok := r.members[in][who]; !ok {
			m.Read = uint64(len(r.messages[in]))
			r.members[in][who] = m
		}
		got, err := p.Members.Add(ctx, membership(in, who, n))
		return fmt.Sprintf("%s joins %s", who, in), then(err, func() error { return same(got, []chat.Membership{r.members[in][who]}) })
	case 8:
		delete(r.members[in], who)
		return fmt.Sprintf("%s leaves %s", who, in), p.Members.Remove(ctx, in, who)
	}
	return "nothing", nil
}

// look compares how far somebody has read a room, and their rooms.
func (r *readers) look(ctx context.Context, p Reading, room string, id user.ID) error {
	if err := wantMarked(ctx, p, []chat.Mark{mark(room, id, 0)}, r.mark(mark(room, id, 0))); err != nil {
		return err
	}
	got, err := p.Marks.Mine(ctx, id, chat.Place{}, 10)
	for i := range got {
		if got[i].Last.Seq != got[i].Seq {
			return fmt.Errorf("the last message of %q is %d, and the room has %d", got[i].Room, got[i].Last.Seq, got[i].Seq)
		}
		got[i].Last, got[i].Rev = chat.Message{}, 0 // the suite of the messages is about them
	}
	return during("Mine", then(err, func() error { return same(got, r.mine(id)) }))
}
