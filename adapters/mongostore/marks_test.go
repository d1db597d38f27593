package mongostore_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit/servers"
)

// joined makes users members of the room.
func joined(t *testing.T, s *mongostore.Store, room string, ids ...user.ID) []chat.Membership {
	t.Helper()
	var all []chat.Membership
	for _, id := range ids {
		all = append(all, chat.Membership{Room: room, UserID: id, Since: noon})
	}
	got, err := s.Members().Add(t.Context(), all...)
	require.NoError(t, err)
	return got
}

func mark(room string, id user.ID, read uint64) chat.Mark {
	return chat.Mark{Room: room, User: chat.Author{ID: id}, Read: read}
}

// marked marks, and returns the answers, none of which may be a refusal.
func marked(t *testing.T, s *mongostore.Store, marks ...chat.Mark) []chat.Marked {
	t.Helper()
	got, err := s.Members().Mark(context.WithoutCancel(t.Context()), marks)
	require.NoError(t, err)
	for i, m := range got {
		require.NoError(t, m.Err, i)
	}
	return got
}

// readBy returns how far somebody has read the room.
func readBy(t *testing.T, s *mongostore.Store, room string, id user.ID) chat.Marked {
	t.Helper()
	return marked(t, s, mark(room, id, 0))[0]
}

func mine(t *testing.T, s *mongostore.Store, id user.ID) []chat.MyRoom {
	t.Helper()
	got, err := s.Members().Mine(t.Context(), id, chat.Place{}, 1000)
	require.NoError(t, err)
	return got
}

// olderDeletes deletes a message as a program does that knows no index of deletions: it decides, carries out, and empties the head.
func olderDeletes(t *testing.T, s *mongostore.Store, room string, seq, rev int64) {
	t.Helper()
	db, ctx := mongostore.Database(s), context.WithoutCancel(t.Context())
	head := bson.D{{Key: "_id", Value: room}, {Key: "rev", Value: rev}}
	res, err := db.Collection("parley_changes").ReplaceOne(ctx, bson.D{{Key: "_id", Value: room}, {Key: "rev", Value: rev - 1}}, head)
	require.NoError(t, err)
	if res.MatchedCount == 0 {
		_, err = db.Collection("parley_changes").InsertOne(ctx, head)
		require.NoError(t, err)
	}
	olderCarriesOut(t, s, room, seq, rev)
}

func olderCarriesOut(t *testing.T, s *mongostore.Store, room string, seq, rev int64) {
	t.Helper()
	_, err := mongostore.Database(s).Collection("parley_messages").UpdateOne(context.WithoutCancel(t.Context()),
		bson.D{{Key: "room", Value: room}, {Key: "seq", Value: seq}},
		bson.D{{Key: "$set", Value: bson.D{
			{Key: "changed_in", Value: room}, {Key: "rev", Value: rev}, {Key: "text", Value: "(deleted)"}, {Key: "deleted_at", Value: noon.UnixMicro()},
		}}})
	require.NoError(t, err)
}

// A database of the version that knew no marks, with members and deletions, and a program of then that goes on to use it.
func TestMigrateFromBeforeMarks(t *testing.T) {
	t.Parallel()
	url := empty(t)
	older := at(t, url)
	db := mongostore.Database(older)
	written(t, older, "r", 6)
	for seq := range int64(3) {
		olderDeletes(t, older, "r", seq+2, seq+1)
	}
	members := db.Collection("parley_members")
	insert := func(id, room string) {
		_, err := members.InsertOne(t.Context(), bson.D{
			{Key: "_id", Value: bson.NewObjectID()}, {Key: "user_id", Value: id}, {Key: "room", Value: room}, {Key: "since", Value: noon.UnixMicro()},
		})
		require.NoError(t, err)
	}
	insert("old", "r")
	insert("old", "quiet")
	for _, name := range []string{"deleted_in_deleted_seq", "author_id_room_seq"} {
		require.NoError(t, db.Collection("parley_messages").Indexes().DropOne(t.Context(), name))
	}
	_, err := db.Collection("parley_schema").UpdateOne(t.Context(), bson.D{}, bson.D{{Key: "$set", Value: bson.D{{Key: "additions", Value: int64(1)}}}})
	require.NoError(t, err)
	s, err := mongostore.Open(t.Context(), url, mongostore.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	_, err = s.Members().Mine(t.Context(), "old", chat.Place{}, 10)
	require.ErrorIs(t, err, mongostore.ErrSchemaOld, "what this program needs is not there")
	require.NoError(t, s.Migrate(t.Context()))
	var version bson.M
	require.NoError(t, db.Collection("parley_schema").FindOne(t.Context(), bson.D{}).Decode(&version))
	assert.EqualValues(t, 2, version["version"], "the older program compares it, and goes on")
	assert.EqualValues(t, 16, version["additions"])

	// Everything is read, and stays so, until they are met again.
	assert.Equal(t, chat.Marked{Read: 6}, readBy(t, s, "r", "old"))
	_, err = s.Messages().Append(t.Context(), messages("r", 6, 2))
	require.NoError(t, err)
	assert.Equal(t, chat.Marked{Read: 8}, marked(t, s, mark("r", "old", 3))[0])
	rooms, err := s.Members().RoomsOf(t.Context(), "old", "", 10)
	require.NoError(t, err)
	require.Len(t, rooms, 2)
	assert.EqualValues(t, []uint64{0, 8}, []uint64{rooms[0].Read, rooms[1].Read})
	for _, r := range mine(t, s, "old") {
		assert.Zero(t, r.Unread)
	}
	assert.EqualValues(t, 8, joined(t, s, "r", "old")[0].Read)
	_, err = s.Messages().Append(t.Context(), messages("r", 8, 2))
	require.NoError(t, err)
	assert.EqualValues(t, 8, joined(t, s, "r", "old")[0].Read)
	assert.Equal(t, chat.Marked{Read: 8, Unread: 2}, readBy(t, s, "r", "old"))

	// Somebody who has read nothing counts what the older program has deleted, and goes on to delete.
	joined(t, s, "r", "new")
	_, err = members.UpdateOne(t.Context(), bson.D{{Key: "user_id", Value: "new"}}, bson.D{{Key: "$set", Value: bson.D{{Key: "read", Value: int64(0)}}}})
	require.NoError(t, err)
	assert.Equal(t, chat.Marked{Unread: 7}, readBy(t, s, "r", "new"))
	olderDeletes(t, s, "r", 9, 4)
	assert.Equal(t, chat.Marked{Unread: 6}, readBy(t, s, "r", "new"))
	assert.Equal(t, chat.Marked{Read: 8, Unread: 1}, readBy(t, s, "r", "old"))
	change(t, s, deletion("r", 1))
	olderDeletes(t, s, "r", 6, 6)
	found := mine(t, s, "new")
	require.Len(t, found, 1)
	assert.EqualValues(t, 4, found[0].Unread)
	assert.EqualValues(t, 6, found[0].Rev)
	for _, name := range []string{"parley_members", "parley_messages", "parley_changes"} {
		raw, err := bson.Marshal(mongostore.ValidatorOf(name))
		require.NoError(t, err)
		assert.Positive(t, documentsFit(t, s, name, raw), name)
	}
	documentsFit(t, s, "parley_messages", beforeChanges(t))
}

// The validators ask for nothing that an older program does not write, and forbid nothing that a newer one does.
func TestMarksAreOptional(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bson.A{
		"parley_members":  {"_id", "user_id", "room", "since"},
		"parley_messages": {"_id", "room", "seq", "once", "id", "author_id", "author_name", "text", "at"},
		"parley_changes":  {"_id", "rev"},
	} {
		raw, err := bson.Marshal(mongostore.ValidatorOf(name))
		require.NoError(t, err)
		var required bson.A
		require.NoError(t, bson.Raw(raw).Lookup("$jsonSchema", "required").Unmarshal(&required))
		assert.Equal(t, want, required, name)
	}
}

// What was looked through for deletions of an older program is not looked through again.
func TestDeletionsOfAnOlderProgramAreIndexedOnce(t *testing.T) {
	t.Parallel()
	url := empty(t)
	other := at(t, url)
	joined(t, other, "r", "u2")
	written(t, other, "r", 9)
	for seq := range int64(7) {
		olderDeletes(t, other, "r", seq+1, seq+1)
	}
	b := newBetween(t, url, alone)
	s := at(t, b.url)
	mongostore.Bound(s, 10_000, 3)
	var n atomic.Int64
	var dropped atomic.Bool
	b.then(func(command string, doc bson.Raw) fate { // the server is lost after a part
		if updates(command, doc, "parley_messages") && n.Add(1) == 2 {
			dropped.Store(true)
		}
		return fate{dropped: dropped.Load()}
	})
	_, err := s.Members().Mark(t.Context(), []chat.Mark{mark("r", "u2", 0)})
	require.ErrorIs(t, err, fault.Unavailable)
	var head struct {
		Counted int64 `bson:"counted"`
	}
	heads := mongostore.Database(other).Collection("parley_changes")
	require.NoError(t, heads.FindOne(t.Context(), bson.D{}).Decode(&head))
	assert.EqualValues(t, 3, head.Counted, "the first part stays done")
	b.then(alone)
	assert.Equal(t, chat.Marked{Unread: 2}, readBy(t, s, "r", "u2"))
	require.NoError(t, heads.FindOne(t.Context(), bson.D{}).Decode(&head))
	assert.EqualValues(t, 7, head.Counted)
	b.then(func(command string, doc bson.Raw) fate {
		_, again := doc.Lookup("filter", "deleted_at").DocumentOK()
		assert.False(t, again && !finds(command, doc, "parley_rooms"), "deletions are looked for again")
		return fate{}
	})
	assert.Equal(t, chat.Marked{Unread: 2}, readBy(t, s, "r", "u2"))
	assert.EqualValues(t, 2, mine(t, s, "u2")[0].Unread)
	change(t, s, deletion("r", 9), react("r", 8, "u2", "+"))
	change(t, s, react("r", 8, "u3", "+"))
	assert.Equal(t, chat.Marked{Unread: 1}, readBy(t, s, "r", "u2"))
}

// An older program that runs beside carries out what this one has decided.
func TestAnOlderProgramCarriesADeletionOut(t *testing.T) {
	t.Parallel()
	url := empty(t)
	other := at(t, url)
	joined(t, other, "r", "u2")
	written(t, other, "r", 5)
	change(t, other, react("r", 1, "x", "+"))
	b := newBetween(t, url, alone)
	s := at(t, b.url)
	b.then(once(func(command string, doc bson.Raw) bool { return updates(command, doc, "parley_messages") }, func() fate {
		olderCarriesOut(t, other, "r", 2, 2)
		return fate{}
	}))
	change(t, s, deletion("r", 2), deletion("r", 3))
	assert.Equal(t, chat.Marked{Unread: 3}, readBy(t, s, "r", "u2"))
	b.then(alone)
	change(t, s, deletion("r", 4))
	assert.Equal(t, chat.Marked{Unread: 2}, readBy(t, s, "r", "u2"))
}

// A process ends after it has decided a deletion: nobody sees it until somebody finishes it, and then it counts.
func TestADeletionThatIsCutOffCountsWhenItIsFinished(t *testing.T) {
	t.Parallel()
	for name, finish := range map[string]func(t *testing.T, s *mongostore.Store){
		"bounds": func(t *testing.T, s *mongostore.Store) { revOf(t, s, "r") },
		"mine":   func(t *testing.T, s *mongostore.Store) { assert.EqualValues(t, 2, mine(t, s, "u2")[0].Rev) },
		"change": func(t *testing.T, s *mongostore.Store) { change(t, s, react("r", 5, "x", "+")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := empty(t)
			other := at(t, url)
			joined(t, other, "r", "u2")
			written(t, other, "r", 5)
			b := newBetween(t, url, alone)
			s := at(t, b.url)
			b.then(func(command string, doc bson.Raw) fate {
				return fate{dropped: updates(command, doc, "parley_messages")}
			})
			_, err := s.Messages().Change(t.Context(), []chat.Change{deletion("r", 2), deletion("r", 3)})
			require.ErrorIs(t, err, fault.Unavailable)
			assert.Equal(t, chat.Marked{Unread: 5}, readBy(t, other, "r", "u2"), "nobody sees the deletion")
			finish(t, other)
			assert.Equal(t, chat.Marked{Unread: 3}, readBy(t, other, "r", "u2"))
			assert.EqualValues(t, 3, mine(t, other, "u2")[0].Unread)
		})
	}
}

// A head that was not rid of what it has decided, since that write failed, disturbs nobody.
func TestADeletionWhoseHeadIsNotEmptied(t *testing.T) {
	t.Parallel()
	b := newBetween(t, empty(t), alone)
	s := at(t, b.url)
	joined(t, s, "r", "u2")
	written(t, s, "r", 5)
	b.then(func(command string, doc bson.Raw) fate {
		if _, cleans := doc.Lookup("writeConcern", "w").AsInt64OK(); cleans {
			return refusal(8, "UnknownError")
		}
		return fate{}
	})
	for n, c := range []chat.Change{deletion("r", 2), react("r", 1, "x", "+"), deletion("r", 3), edit("r", 4, "x")} {
		change(t, s, c)
		want := uint64(4 - n/2)
		assert.Equal(t, chat.Marked{Unread: want}, readBy(t, s, "r", "u2"), n)
		assert.Equal(t, want, mine(t, s, "u2")[0].Unread, n)
	}
}

// Whatever of a room was deleted by hand is not unread.
func TestUnreadAfterDeletingByHand(t *testing.T) {
	t.Parallel()
	s := open(t)
	joined(t, s, "r", "u2", "u3")
	written(t, s, "r", 10)
	change(t, s, deletion("r", 3), deletion("r", 7))
	marked(t, s, mark("r", "u3", 6))
	_, err := mongostore.Database(s).Collection("parley_messages").DeleteMany(t.Context(), bson.D{{Key: "seq", Value: bson.D{{Key: "$lt", Value: int64(5)}}}})
	require.NoError(t, err)
	assert.Equal(t, []chat.Marked{{Unread: 5}, {Read: 6, Unread: 3}}, marked(t, s, mark("r", "u2", 0), mark("r", "u3", 0)))
	assert.EqualValues(t, 5, mine(t, s, "u2")[0].Unread)
	assert.Equal(t, chat.Marked{Read: 2, Unread: 5, Moved: true}, marked(t, s, mark("r", "u2", 2))[0], "what is no longer stored can be read")
}

// Many marks in rooms with many deletions, however these are counted, and on a server that knows neither $first nor $max.
func TestManyMarksAtOnce(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		deleted int64
		knows   bool
	}{{"deletions are read", 10_000, true}, {"deletions are counted", 5, true}, {"rooms are looked up", 10_000, false}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			const rooms, users, size = 12, 11, 30
			var refused atomic.Int64
			b := newBetween(t, empty(t), func(command string, doc bson.Raw) fate {
				if pipeline := doc.Lookup("pipeline").String(); command == "aggregate" && !test.knows && (strings.Contains(pipeline, "$first") || strings.Contains(pipeline, "$max")) {
					refused.Add(1)
					return refusal(238, "NotImplemented")
				}
				return fate{}
			})
			s := at(t, b.url)
			mongostore.Bound(s, test.deleted, 10_000)
			id := func(i int) user.ID { return user.ID(fmt.Sprintf("u%d", i)) } // u1 sends what messages has
			var marks []chat.Mark
			var want []chat.Marked
			for r := range rooms {
				room := fmt.Sprintf("r%02d", r)
				for i := range users {
					joined(t, s, room, id(i))
				}
				batch := messages(room, 0, size)
				for i := range batch {
					batch[i].Author.ID = "bot"
				}
				batch[4].Author.ID = id(2)
				_, err := s.Messages().Append(t.Context(), batch)
				require.NoError(t, err)
				gone := map[uint64]bool{}
				var deletions []chat.Change
				for k := range r {
					seq := uint64(1 + (k*7)%size)
					gone[seq] = true
					deletions = append(deletions, chat.Change{Kind: chat.Delete, Room: room, Seq: seq, Any: true, At: noon})
				}
				change(t, s, deletions...)
				for i := range users {
					m := mark(room, id(i), uint64((i*5+r)%(size+4)))
					answer := chat.Marked{Read: min(m.Read, size), Moved: m.Read > 0}
					if i == 2 && answer.Read <= 5 {
						answer.Read, answer.Moved = 5, false
					}
					for seq := answer.Read + 1; seq <= size; seq++ {
						if !gone[seq] {
							answer.Unread++
						}
					}
					marks, want = append(marks, m), append(want, answer)
				}
			}
			assert.Equal(t, want, marked(t, s, marks...))
			for i := range want {
				want[i].Moved = false
				marks[i].Read = 0
			}
			assert.Equal(t, want, marked(t, s, marks...))
			for i := range users {
				found := mine(t, s, id(i))
				require.Len(t, found, rooms)
				for r, m := range found { // all were active at one time
					assert.Equal(t, want[r*users+i], chat.Marked{Read: m.Read, Unread: m.Unread})
					assert.EqualValues(t, r, m.Rev)
					assert.EqualValues(t, size, m.Last.Seq)
				}
				memberships, err := s.Members().RoomsOf(t.Context(), id(i), "", 100)
				require.NoError(t, err)
				for r, m := range memberships {
					assert.Equal(t, want[r*users+i].Read, m.Read)
				}
			}
			again := make([]chat.Membership, 0, len(marks))
			for _, m := range marks {
				again = append(again, chat.Membership{Room: m.Room, UserID: m.User.ID, Since: noon.Add(time.Hour)})
			}
			got, err := s.Members().Add(t.Context(), again...)
			require.NoError(t, err)
			for i, m := range got {
				assert.Equal(t, chat.Membership{Room: marks[i].Room, UserID: marks[i].User.ID, Since: noon, Read: want[i].Read, Role: chat.Regular}, m)
			}
			if !test.knows {
				assert.EqualValues(t, 1, refused.Load(), "it is not asked again")
			}
		})
	}
}

// The calls of a batch, and of a list of rooms, are as many for twenty rooms as for sixty.
func TestCallsDoNotGrowWithTheRooms(t *testing.T) {
	t.Parallel()
	b := newBetween(t, empty(t), alone)
	s := at(t, b.url)
	const rooms = 60
	var marks []chat.Mark
	var all []chat.Membership
	var said []chat.Message
	for i := range rooms {
		room := fmt.Sprintf("r%02d", i)
		for _, id := range []user.ID{"u2", "u3"} {
			all = append(all, chat.Membership{Room: room, UserID: id, Since: noon})
		}
		marks = append(marks, mark(room, "u2", 1), mark(room, "u3", 2))
		said = append(said, messages(room, 0, 3)...)
	}
	_, err := s.Members().Add(t.Context(), all...)
	require.NoError(t, err)
	_, err = s.Messages().Append(t.Context(), said)
	require.NoError(t, err)
	for i := range rooms {
		change(t, s, deletion(fmt.Sprintf("r%02d", i), 3), react(fmt.Sprintf("r%02d", i), 2, "u", "+"))
	}
	var n atomic.Int64
	calls := func(call func() error) int64 {
		n.Store(0)
		require.NoError(t, call())
		return n.Load()
	}
	b.then(func(command string, _ bson.Raw) fate {
		switch command {
		case "find", "aggregate", "insert", "update":
			n.Add(1)
		}
		return fate{}
	})
	for name, call := range map[string]func(rooms int) error{
		"Mark": func(rooms int) error { _, err := s.Members().Mark(t.Context(), marks[:rooms]); return err },
		"Mine": func(rooms int) error { _, err := s.Members().Mine(t.Context(), "u2", chat.Place{}, rooms); return err },
		"RoomsOf": func(rooms int) error {
			_, err := s.Members().RoomsOf(t.Context(), "u2", "", rooms)
			return err
		},
		"Add": func(rooms int) error { _, err := s.Members().Add(t.Context(), all[:rooms]...); return err },
		"Add of newcomers": func(rooms int) error {
			var newcomers []chat.Membership
			for i := range rooms {
				newcomers = append(newcomers, chat.Membership{Room: fmt.Sprintf("r%02d", i), UserID: user.ID(fmt.Sprint("new ", rooms)), Since: noon})
			}
			_, err := s.Members().Add(t.Context(), newcomers...)
			return err
		},
	} {
		few := calls(func() error { return call(20) })
		many := calls(func() error { return call(60) })
		assert.Equal(t, few, many, name)
		assert.LessOrEqual(t, many, int64(10), name)
	}
	got, err := s.Members().Add(t.Context(), all[:20]...)
	require.NoError(t, err)
	b.then(func(command string, _ bson.Raw) fate {
		assert.NotContains(t, []string{"insert", "update", "delete", "findAndModify"}, command, "joining again writes nothing")
		return fate{}
	})
	again, err := s.Members().Add(t.Context(), all[:20]...)
	require.NoError(t, err)
	assert.Equal(t, got, again)
	assert.False(t, marked(t, s, marks[0])[0].Moved)
}

// Another device of the user is quicker, at another node: only one says that the mark has moved, and the marks of others go their way.
func TestMarkThatIsOvertaken(t *testing.T) {
	t.Parallel()
	url := empty(t)
	other := at(t, url)
	joined(t, other, "r", "u2", "u3", "u4")
	written(t, other, "r", 5)
	b := newBetween(t, url, alone)
	s := at(t, b.url)
	b.then(once(func(command string, doc bson.Raw) bool { return updates(command, doc, "parley_members") }, func() fate {
		got := marked(t, other, mark("r", "u2", 3), mark("r", "u4", 5))
		assert.True(t, got[0].Moved && got[1].Moved)
		return fate{}
	}))
	got := marked(t, s, mark("r", "u2", 3), mark("r", "u3", 3), mark("r", "u4", 4))
	assert.Equal(t, []bool{false, true, false}, []bool{got[0].Moved, got[1].Moved, got[2].Moved})
	assert.EqualValues(t, 5, readBy(t, s, "r", "u4").Read, "it has not gone back")

	// A member who leaves meanwhile.
	b.then(once(func(command string, doc bson.Raw) bool { return updates(command, doc, "parley_members") }, func() fate {
		assert.NoError(t, other.Members().Remove(context.WithoutCancel(t.Context()), "r", "u2"))
		return fate{}
	}))
	got = marked(t, s, mark("r", "u2", 4), mark("r", "u3", 4))
	assert.Equal(t, []bool{false, true}, []bool{got[0].Moved, got[1].Moved})
	has, err := s.Members().Has(t.Context(), "r", "u2")
	require.NoError(t, err)
	assert.False(t, has, "a mark makes nobody a member")
}

// Somebody else adds the same member, or meets one that an older program has added, at the same time.
func TestAddThatIsOvertaken(t *testing.T) {
	t.Parallel()
	url := empty(t)
	other := at(t, url)
	written(t, other, "r", 3)
	db := mongostore.Database(other).Collection("parley_members")
	_, err := db.InsertOne(t.Context(), bson.D{
		{Key: "_id", Value: bson.NewObjectID()}, {Key: "user_id", Value: "old"}, {Key: "room", Value: "r"}, {Key: "since", Value: noon.UnixMicro()},
	})
	require.NoError(t, err)
	b := newBetween(t, url, alone)
	s := at(t, b.url)
	overtake := func() fate {
		joined(t, other, "r", "u2", "old")
		_, err := other.Messages().Append(context.WithoutCancel(t.Context()), messages("r", 3, 2))
		assert.NoError(t, err)
		assert.True(t, marked(t, other, mark("r", "old", 4))[0].Moved)
		return fate{}
	}
	b.then(once(func(command string, doc bson.Raw) bool { return inserts(command, doc, "parley_members") }, overtake))
	later := noon.Add(time.Hour)
	got, err := s.Members().Add(t.Context(), chat.Membership{Room: "r", UserID: "u2", Since: later}, chat.Membership{Room: "r", UserID: "u3", Since: later},
		chat.Membership{Room: "r", UserID: "old", Since: later})
	require.NoError(t, err)
	assert.Equal(t, []chat.Membership{
		{Room: "r", UserID: "u2", Since: noon, Read: 3, Role: chat.Regular}, {Room: "r", UserID: "u3", Since: later, Read: 3, Role: chat.Regular},
		{Room: "r", UserID: "old", Since: noon, Read: 4, Role: chat.Regular},
	}, got)
	assert.Equal(t, chat.Marked{Read: 4, Unread: 1}, readBy(t, s, "r", "old"))
}

// A mark that was told must not go back: all that it is made of is read as the majority has it.
func TestMarksFollowWhatTheMajorityHas(t *testing.T) {
	t.Parallel()
	b := newBetween(t, empty(t), alone)
	s := at(t, b.url)
	joined(t, s, "r", "u2")
	written(t, s, "r", 3)
	change(t, s, deletion("r", 3))
	var reads atomic.Int64
	b.then(func(command string, doc bson.Raw) fate {
		if command == "find" || command == "aggregate" {
			reads.Add(1)
			level, _ := doc.Lookup("readConcern", "level").StringValueOK()
			assert.Equal(t, "majority", level, doc)
		}
		return fate{}
	})
	marked(t, s, mark("r", "u2", 1), mark("r", "u2", 2))
	joined(t, s, "r", "u2", "u3")
	mine(t, s, "u2")
	_, err := s.Members().RoomsOf(t.Context(), "u2", "", 10)
	require.NoError(t, err)
	assert.Greater(t, reads.Load(), int64(15))
}

func TestMarkWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	b := newBetween(t, empty(t), alone)
	s := at(t, b.url)
	joined(t, s, "r", "u2", "u3")
	written(t, s, "r", 3)
	for _, lost := range []fate{{lost: true}, {dropped: true}, {edit: func(answer bson.D) bson.D {
		return append(answer, bson.E{Key: "writeConcernError", Value: bson.D{{Key: "code", Value: int32(64)}, {Key: "errmsg", Value: "waiting"}}})
	}}} {
		for _, marks := range [][]chat.Mark{{mark("r", "u2", 3)}, {mark("r", "u2", 3), mark("r", "u3", 3)}} {
			b.then(func(command string, doc bson.Raw) fate {
				if updates(command, doc, "parley_members") {
					return lost
				}
				return fate{}
			})
			_, err := s.Members().Mark(t.Context(), marks)
			require.ErrorIs(t, err, fault.Unavailable)
			b.then(alone)
			for _, m := range marked(t, s, marks...) {
				assert.Equal(t, chat.Marked{Read: 3, Moved: m.Moved}, m)
			}
			_, err = mongostore.Database(s).Collection("parley_members").UpdateMany(t.Context(), bson.D{}, bson.D{{Key: "$set", Value: bson.D{{Key: "read", Value: int64(0)}}}})
			require.NoError(t, err)
		}
	}
}

// The server is killed while people send, delete and read. What was told does not go back, and in the end unread is what is stored.
func TestServerIsKilledWhileMarksMove(t *testing.T) {
	t.Parallel()
	server := servers.StartMongo(t)
	stores := []*mongostore.Store{at(t, server.URL), at(t, server.URL)}
	const workers, enough = 3, 15
	ids := []user.ID{"u1", "u2", "u3"}
	joined(t, stores[0], "r", ids...)
	var restarted atomic.Bool
	var acknowledged, failures atomic.Int64
	var wg sync.WaitGroup
	for i, s := range stores {
		for w := range workers {
			wg.Go(func() {
				told := map[user.ID]uint64{}
				for n, after := 0, 0; after < enough; n++ {
					batch := messages("r", (i*workers+w)*1_000_000+n*2, 2)
					batch[0].Author.ID, batch[1].Author.ID = ids[n%3], ids[(n+1)%3]
					for {
						ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
						sent, err := s.Messages().Append(ctx, batch)
						var got []chat.Marked
						if err == nil {
							_, err = s.Messages().Change(ctx, []chat.Change{{Kind: chat.Delete, Room: "r", Seq: sent[n%2].Seq, Any: true, At: noon}})
						}
						if err == nil {
							got, err = s.Members().Mark(ctx, []chat.Mark{mark("r", "u1", sent[0].Seq/2), mark("r", "u2", 0), mark("r", "u3", sent[0].Seq)})
						}
						cancel()
						if err != nil {
							if !assert.ErrorIs(t, err, fault.Unavailable) {
								return
							}
							failures.Add(1)
							continue
						}
						for k, m := range got {
							assert.NoError(t, m.Err)
							assert.GreaterOrEqual(t, m.Read, told[ids[k]], "what was told has gone back")
							told[ids[k]] = m.Read
						}
						for _, m := range sent {
							if m.Author.ID == "u2" {
								assert.GreaterOrEqual(t, told["u2"], m.Seq, "what one sends is read")
							}
						}
						break
					}
					acknowledged.Add(1)
					if restarted.Load() {
						after++
					}
				}
			})
		}
	}
	for kills := 0; ; kills++ {
		before := acknowledged.Load()
		require.Eventually(t, func() bool { return acknowledged.Load() >= before+20 }, 60*time.Second, time.Millisecond)
		if kills >= 2 && failures.Load() > 0 || kills == 20 {
			break
		}
		server.Kill(t)
		server.Restart(t)
	}
	restarted.Store(true)
	wg.Wait()
	assert.Positive(t, failures.Load(), "nobody noticed the outage")

	s := at(t, server.URL)
	all, err := s.Messages().List(t.Context(), "r", chat.Range{Limit: 1_000_000})
	require.NoError(t, err)
	for _, id := range ids {
		got := readBy(t, s, "r", id)
		want := uint64(0)
		for _, m := range all {
			if m.Seq > got.Read && m.DeletedAt.IsZero() {
				want++
			}
			if m.Author.ID == id {
				assert.LessOrEqual(t, m.Seq, got.Read)
			}
		}
		assert.Equal(t, want, got.Unread, id)
	}
}
