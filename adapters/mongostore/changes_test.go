package mongostore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit/servers"
)

func react(room string, seq uint64, by, key string) chat.Change {
	return chat.Change{Kind: chat.React, Room: room, Seq: seq, By: chat.Author{ID: user.ID(by)}, Key: key, At: noon}
}

func unreact(room string, seq uint64, by, key string) chat.Change {
	c := react(room, seq, by, key)
	c.Kind = chat.Unreact
	return c
}

// edit is one by the author of every message of these tests.
func edit(room string, seq uint64, text string) chat.Change {
	return chat.Change{Kind: chat.Edit, Room: room, Seq: seq, By: chat.Author{ID: "u1"}, Text: text, At: noon.Add(time.Minute)}
}

func deletion(room string, seq uint64) chat.Change {
	return chat.Change{Kind: chat.Delete, Room: room, Seq: seq, By: chat.Author{ID: "u1"}, At: noon.Add(time.Hour)}
}

// written makes a room with n messages.
func written(t *testing.T, s *mongostore.Store, room string, n int) {
	t.Helper()
	_, err := s.Messages().Append(t.Context(), messages(room, 0, n))
	require.NoError(t, err)
}

// change makes changes, none of which may be refused, and returns the answers.
func change(t *testing.T, s *mongostore.Store, changes ...chat.Change) []chat.Changed {
	t.Helper()
	got, err := s.Messages().Change(context.WithoutCancel(t.Context()), changes)
	require.NoError(t, err)
	require.Len(t, got, len(changes))
	for i, c := range got {
		require.NoError(t, c.Err, i)
	}
	return got
}

// changedIn returns the messages of a room that were changed, by Rev.
func changedIn(t *testing.T, s *mongostore.Store, room string) []chat.Message {
	t.Helper()
	found, err := s.Messages().List(t.Context(), room, chat.Range{Changed: true, Limit: 100_000})
	require.NoError(t, err)
	return found
}

func revOf(t *testing.T, s *mongostore.Store, room string) uint64 {
	t.Helper()
	b, err := s.Messages().Bounds(t.Context(), room)
	require.NoError(t, err)
	return b.Rev
}

// updates reports whether a command updates the collection. The one that only cleans up does not count.
func updates(command string, doc bson.Raw, collection string) bool {
	name, ok := doc.Lookup(command).StringValueOK()
	_, cleans := doc.Lookup("writeConcern", "w").AsInt64OK()
	return command == "update" && ok && name == collection && !cleans
}

// everything returns all that is in the database, collection by collection.
func everything(t *testing.T, s *mongostore.Store) map[string][]byte {
	t.Helper()
	dump := map[string][]byte{}
	for _, name := range mongostore.Names() {
		cursor, err := mongostore.Database(s).Collection(name).Find(t.Context(), bson.D{})
		require.NoError(t, err)
		for cursor.Next(t.Context()) {
			dump[name] = append(dump[name], cursor.Current...)
		}
		require.NoError(t, cursor.Err())
		require.NoError(t, cursor.Close(t.Context()))
	}
	return dump
}

func TestStoresChangeTogether(t *testing.T) {
	t.Parallel()
	stores := several(t, 3)
	const workers, calls, size = 3, 12, 4
	rooms := []string{"a", "b"}
	for _, room := range rooms {
		written(t, stores[0], room, size)
	}
	var mu sync.Mutex
	given := map[string]map[uint64]chat.Message{"a": {}, "b": {}} // by Rev
	reacted := map[string]bool{}
	var wg sync.WaitGroup
	for i, s := range stores {
		for w := range workers {
			wg.Go(func() {
				by := fmt.Sprintf("u-%d-%d", i, w)
				for c := range calls {
					var batch []chat.Change
					for k := range rooms {
						room := rooms[(k+w)%len(rooms)]
						seq := uint64(c%size + 1)
						batch = append(batch, edit(room, uint64((c+i)%size+1), fmt.Sprintf("%s %d", by, c)), react(room, seq, by, fmt.Sprint(c%5)), edit(room, size, fmt.Sprintf("last %s %d", by, c)))
					}
					got, err := s.Messages().Change(t.Context(), batch)
					if !assert.NoError(t, err) {
						return
					}
					mu.Lock()
					for n, answer := range got {
						assert.NoError(t, answer.Err)
						if answer.Repeated {
							continue
						}
						other, taken := given[answer.Room][answer.Rev]
						assert.False(t, taken, "Rev %d of %s is also that of message %d", answer.Rev, answer.Room, other.Seq)
						given[answer.Room][answer.Rev] = answer.Message
						if c := batch[n]; c.Kind == chat.React {
							reacted[fmt.Sprint(c.Room, c.Seq, c.Key, c.By.ID)] = true
						}
					}
					mu.Unlock()
				}
			})
		}
	}
	stop, watched := make(chan struct{}), make(chan struct{})
	go func() { // whoever sees a change can see all before it
		defer close(watched)
		seen := uint64(0)
		for {
			b, err := stores[1].Messages().Bounds(t.Context(), "a")
			if !assert.NoError(t, err) {
				return
			}
			assert.GreaterOrEqual(t, b.Rev, seen, "Rev went back")
			seen = b.Rev
			found, err := stores[2].Messages().List(t.Context(), "a", chat.Range{Changed: true, Limit: size})
			if !assert.NoError(t, err) {
				return
			}
			last, seqs := uint64(0), map[uint64]bool{}
			for _, m := range found {
				assert.Greater(t, m.Rev, last)
				assert.False(t, seqs[m.Seq], "message %d came twice", m.Seq)
				last, seqs[m.Seq] = m.Rev, true
			}
			assert.GreaterOrEqual(t, last, seen, "what Bounds counts is in no message")
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	wg.Wait()
	close(stop)
	<-watched
	for _, room := range rooms {
		rev := revOf(t, stores[0], room)
		require.Len(t, given[room], int(rev), "a Rev of %s was left out", room)
		for _, m := range changedIn(t, stores[0], room) {
			assert.Equal(t, given[room][m.Rev], m, "a message is what its last change made of it")
		}
		for seq := range uint64(size) {
			for key := range 5 {
				for i := range stores {
					for w := range workers {
						id := fmt.Sprintf("u-%d-%d", i, w)
						if !reacted[fmt.Sprint(room, seq+1, fmt.Sprint(key), user.ID(id))] {
							continue
						}
						again := change(t, stores[0], react(room, seq+1, id, fmt.Sprint(key)))
						assert.True(t, again[0].Repeated, "a reaction was lost")
					}
				}
			}
		}
	}
}

// A process ends after it has decided and before any message, or only the first, has what was decided. Whoever comes next finishes it.
func TestChangeThatIsCutOffBetweenItsWrites(t *testing.T) {
	t.Parallel()
	for name, partly := range map[string]bool{"nothing carried out": false, "a part carried out": true} {
		for next, goOn := range map[string]func(t *testing.T, s *mongostore.Store) uint64{
			"a change": func(t *testing.T, s *mongostore.Store) uint64 {
				got := change(t, s, react("r", 1, "x", "+"))
				assert.EqualValues(t, 5, got[0].Rev)
				return 5
			},
			"bounds": func(t *testing.T, s *mongostore.Store) uint64 {
				assert.EqualValues(t, 4, revOf(t, s, "r"))
				return 4
			},
			"the same again": func(t *testing.T, s *mongostore.Store) uint64 {
				for i, c := range change(t, s, edit("r", 1, "one"), edit("r", 2, "two"), deletion("r", 3)) {
					assert.True(t, c.Repeated, i)
				}
				return 4
			},
		} {
			t.Run(name+", then "+next, func(t *testing.T) {
				t.Parallel()
				server := empty(t)
				other := at(t, server)
				written(t, other, "r", 4)
				change(t, other, react("r", 4, "x", "+"))
				b := newBetween(t, server, alone)
				s := at(t, b.url)
				b.then(func(command string, doc bson.Raw) fate {
					if !updates(command, doc, "parley_messages") {
						return fate{}
					}
					if partly {
						all := mongostore.Database(other).Collection("parley_messages")
						_, err := all.UpdateOne(context.WithoutCancel(t.Context()), bson.D{{Key: "room", Value: "r"}, {Key: "seq", Value: int64(1)}, {Key: "text", Value: "text 0"}},
							bson.D{{Key: "$set", Value: bson.D{{Key: "changed_in", Value: "r"}, {Key: "rev", Value: int64(2)}, {Key: "text", Value: "one"}, {Key: "edited_at", Value: noon.Add(time.Minute).UnixMicro()}}}})
						assert.NoError(t, err)
					}
					return fate{dropped: true}
				})
				_, err := s.Messages().Change(t.Context(), []chat.Change{edit("r", 1, "one"), edit("r", 2, "two"), deletion("r", 3)})
				require.ErrorIs(t, err, fault.Unavailable)
				require.NotErrorIs(t, err, fault.Internal)
				for i, m := range changedIn(t, other, "r") {
					assert.EqualValues(t, i+1, m.Rev, "whoever sees a change sees all before it")
				}

				last := goOn(t, other)
				found, err := other.Messages().List(t.Context(), "r", chat.Range{Limit: 10})
				require.NoError(t, err)
				assert.Equal(t, []string{"one", "two", "", "text 3"}, []string{found[0].Text, found[1].Text, found[2].Text, found[3].Text})
				assert.Equal(t, []uint64{3, 4, 1}, []uint64{found[1].Rev, found[2].Rev, found[3].Rev})
				assert.Equal(t, last, revOf(t, other, "r"))
				for name, all := range everything(t, other) {
					for _, old := range []string{"text 0", "text 1", "text 2"} {
						assert.False(t, bytes.Contains(all, []byte(old)), "%s is still in %s", old, name)
					}
				}
			})
		}
	}
}

// Between a look at a room and the write that decides, others may have changed a message twice: then no message has the first Rev any more.
func TestChangeThatIsOvertaken(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]int{"the first change of a room": 0, "a later one": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := empty(t)
			other := at(t, server)
			written(t, other, "r", 2)
			for range before {
				change(t, other, react("r", 1, "x", "0"))
			}
			b := newBetween(t, server, alone)
			s := at(t, b.url)
			b.then(once(func(command string, doc bson.Raw) bool {
				return inserts(command, doc, "parley_changes") || updates(command, doc, "parley_changes")
			}, func() fate {
				change(t, other, react("r", 1, "a", "+"))
				change(t, other, react("r", 1, "b", "+"))
				return fate{}
			}))
			got := change(t, s, react("r", 2, "c", "+"), react("r", 1, "c", "+"))
			assert.EqualValues(t, before+3, got[0].Rev)
			assert.EqualValues(t, before+4, got[1].Rev)
			reactions := got[1].Reactions
			assert.Equal(t, chat.Reaction{Key: "+", Count: 3, Users: []user.ID{"a", "b", "c"}}, reactions[len(reactions)-1])
		})
	}
}

// A write of a process that had stopped for a while comes when others have gone on.
func TestChangeThatIsCarriedOutLate(t *testing.T) {
	t.Parallel()
	server := empty(t)
	other := at(t, server)
	written(t, other, "r", 2)
	b := newBetween(t, server, alone)
	s := at(t, b.url)
	b.then(once(func(command string, doc bson.Raw) bool { return updates(command, doc, "parley_messages") }, func() fate {
		change(t, other, edit("r", 1, "newer"))
		change(t, other, deletion("r", 2))
		return fate{}
	}))
	got := change(t, s, edit("r", 1, "older"), edit("r", 2, "gone"))
	assert.Equal(t, []uint64{1, 2}, []uint64{got[0].Rev, got[1].Rev})
	found := changedIn(t, other, "r")
	require.Len(t, found, 2)
	assert.Equal(t, "newer", found[0].Text)
	assert.EqualValues(t, 3, found[0].Rev)
	assert.Empty(t, found[1].Text)
	assert.EqualValues(t, 4, found[1].Rev)
	for name, all := range everything(t, other) {
		assert.False(t, bytes.Contains(all, []byte("older")) || bytes.Contains(all, []byte("gone")), name)
	}
}

// The server is lost after one room of a call has its change: the outcome is unknown, whatever the other one's error says.
func TestChangesOfSeveralRoomsOfWhichOneFails(t *testing.T) {
	t.Parallel()
	b := newBetween(t, empty(t), alone)
	s := at(t, b.url)
	written(t, s, "a", 1)
	written(t, s, "b", 1)
	change(t, s, react("b", 1, "x", "+")) // a head: the next one is an update
	b.then(func(command string, doc bson.Raw) fate {
		if updates(command, doc, "parley_changes") {
			return refusal(121, "DocumentValidationFailure")
		}
		return fate{}
	})
	_, err := s.Messages().Change(t.Context(), []chat.Change{edit("b", 1, "no"), edit("a", 1, "yes")})
	require.ErrorIs(t, err, fault.Unavailable)
	_, err = s.Messages().Change(t.Context(), []chat.Change{edit("b", 1, "no")})
	require.ErrorIs(t, err, fault.Invalid, "nothing was stored")
	b.then(alone)
	assert.EqualValues(t, 1, revOf(t, s, "b"))
	assert.Equal(t, "yes", changedIn(t, s, "a")[0].Text)
}

func TestWhatIsTakenFromAMessageIsNowhere(t *testing.T) {
	t.Parallel()
	b := newBetween(t, empty(t), alone)
	s := at(t, b.url)
	sent := messages("r", 0, 3)
	for i := range sent {
		sent[i].Text, sent[i].Data, sent[i].ReplyTo = fmt.Sprintf("canary-text-%d", i), fmt.Sprintf(`{"canary-data":%d}`, i), uint64(i)
	}
	_, err := s.Messages().Append(t.Context(), sent)
	require.NoError(t, err)
	change(t, s, react("r", 2, "canary-user", "canary-key"), edit("r", 1, "canary-edit"), edit("r", 1, "plain"))
	assert.False(t, bytes.Contains(everything(t, s)["parley_changes"], []byte("plain")), "a head keeps nothing of what messages have")
	// What a head was not rid of goes with the next change.
	b.then(func(command string, doc bson.Raw) fate {
		if _, cleans := doc.Lookup("writeConcern", "w").AsInt64OK(); cleans {
			return refusal(8, "UnknownError")
		}
		return fate{}
	})
	change(t, s, edit("r", 3, "canary-left"))
	assert.True(t, bytes.Contains(everything(t, s)["parley_changes"], []byte("canary-left")))
	b.then(alone)
	change(t, s, deletion("r", 3), deletion("r", 2), deletion("r", 1))
	for name, all := range everything(t, s) {
		if at := bytes.Index(all, []byte("canary")); at >= 0 {
			assert.Fail(t, "a canary", "%s: %s", name, all[at:min(at+30, len(all))])
		}
	}
	found := changedIn(t, s, "r")
	require.Len(t, found, 3)
	want := sent[0]
	want.Seq, want.Text, want.Data, want.ReplyTo, want.Rev, want.DeletedAt = 1, "", "", 0, 7, noon.Add(time.Hour)
	assert.Equal(t, want, found[2])
}

// The document names whoever has reacted, a message at most twenty.
func TestReactionsOfManyUsers(t *testing.T) {
	t.Parallel()
	s := open(t)
	written(t, s, "r", 1)
	var batch []chat.Change
	for i := range 25 {
		batch = append(batch, react("r", 1, fmt.Sprintf("u%02d", i), "👍🏽"))
	}
	got := change(t, s, append(batch, react("r", 1, "u00", "a.b$c"))...)
	m := got[25].Message
	require.Len(t, m.Reactions, 2)
	assert.Equal(t, 25, m.Reactions[0].Count)
	assert.Len(t, m.Reactions[0].Users, chat.MaxReactionUsers)
	assert.Equal(t, chat.Reaction{Key: "a.b$c", Count: 1, Users: []user.ID{"u00"}}, m.Reactions[1])
	assert.Equal(t, []chat.Message{m}, changedIn(t, s, "r"))

	got = change(t, s, react("r", 1, "u24", "👍🏽"), unreact("r", 1, "u24", "👍🏽"), unreact("r", 1, "u24", "👍🏽"), unreact("r", 1, "u00", "👍🏽"), unreact("r", 1, "u00", "a.b$c"))
	assert.True(t, got[0].Repeated, "who is not named has reacted too")
	assert.False(t, got[1].Repeated)
	assert.True(t, got[2].Repeated)
	reactions := got[4].Reactions
	require.Len(t, reactions, 1)
	assert.Equal(t, 23, reactions[0].Count)
	assert.Equal(t, user.ID("u01"), reactions[0].Users[0])
	assert.Len(t, reactions[0].Users, 19)
	assert.Equal(t, []chat.Message{got[4].Message}, changedIn(t, s, "r"))
	for i := range 24 {
		change(t, s, unreact("r", 1, fmt.Sprintf("u%02d", i), "👍🏽"))
		if i == 19 {
			assert.Equal(t, []chat.Reaction{{Key: "👍🏽", Count: 4, Users: []user.ID{}}}, changedIn(t, s, "r")[0].Reactions, "all who were named are gone")
		}
	}
	assert.Nil(t, changedIn(t, s, "r")[0].Reactions)
}

func TestChangesOfMoreThanOneHead(t *testing.T) {
	t.Parallel()
	s := open(t)
	const n = 1200
	written(t, s, "r", n)
	batch := make([]chat.Change, n)
	for i := range batch {
		batch[i] = edit("r", uint64(i+1), fmt.Sprintf("edit %d", i))
	}
	for i, c := range change(t, s, batch...) {
		require.EqualValues(t, i+1, c.Rev)
	}
	found := changedIn(t, s, "r")
	require.Len(t, found, n)
	for i, m := range found {
		require.Equal(t, fmt.Sprintf("edit %d", i), m.Text)
	}
	assert.EqualValues(t, n, revOf(t, s, "r"))
	page, err := s.Messages().List(t.Context(), "r", chat.Range{Changed: true, After: 10, Before: 1000, UpTo: 500, Limit: 490})
	require.NoError(t, err)
	assert.Equal(t, found[10:500], page)
}

// Four messages of the most reactions by users of the longest names are more than a document can hold.
func TestChangesOfTheLargestMessages(t *testing.T) {
	t.Parallel()
	s := open(t)
	written(t, s, "r", 4)
	users := make([]string, chat.MaxReactions/2)
	for i := range users {
		users[i] = fmt.Sprintf("%0128d", i)
		users[i] = strings.ReplaceAll(users[i], "0", "😀")
	}
	_, err := mongostore.Database(s).Collection("parley_messages").UpdateMany(t.Context(), bson.D{}, bson.D{{Key: "$set", Value: bson.D{
		{Key: "reacted", Value: bson.A{
			bson.D{{Key: "key", Value: "a"}, {Key: "users", Value: users}}, bson.D{{Key: "key", Value: "b"}, {Key: "users", Value: users[1:]}},
		}},
		{Key: "reactions", Value: bson.A{
			bson.D{{Key: "key", Value: "a"}, {Key: "count", Value: int64(len(users))}, {Key: "users", Value: users[:20]}},
			bson.D{{Key: "key", Value: "b"}, {Key: "count", Value: int64(len(users) - 1)}, {Key: "users", Value: users[1:21]}},
		}},
	}}})
	require.NoError(t, err)
	got := change(t, s, react("r", 1, users[0], "b"), react("r", 2, users[0], "b"), react("r", 3, users[0], "b"), react("r", 4, users[0], "b"))
	for i, c := range got {
		assert.EqualValues(t, i+1, c.Rev)
		assert.Equal(t, chat.MaxReactions/2, c.Reactions[1].Count)
	}
	full, err := s.Messages().Change(t.Context(), []chat.Change{react("r", 3, "one more", "a"), unreact("r", 3, users[7], "a"), react("r", 3, "one more", "a")})
	require.NoError(t, err)
	require.ErrorIs(t, full[0].Err, chat.ErrReactionsFull)
	assert.EqualValues(t, 6, full[2].Rev)
	assert.Len(t, changedIn(t, s, "r"), 4)
}

// What no document can keep is refused by itself, and harms nothing else of the call.
func TestChangeRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	s := open(t)
	written(t, s, "r", 1)
	long := strings.Repeat("é", 129)
	never := edit("r", 1, "x")
	never.At = time.Time{}
	data := edit("r", 1, "x")
	data.Data = strings.Repeat("é", chat.MaxData/2) + "x"
	for name, test := range map[string]struct {
		change chat.Change
		want   error
	}{
		"long text":         {edit("r", 1, strings.Repeat("é", chat.MaxText+1)), fault.Invalid},
		"no text":           {edit("r", 1, ""), fault.Invalid},
		"NUL":               {edit("r", 1, "a\x00"), fault.Invalid},
		"long data":         {data, fault.Invalid},
		"no time":           {never, fault.Invalid},
		"long key":          {react("r", 1, "u", strings.Repeat("é", chat.MaxReactionKey+1)), fault.Invalid},
		"no key":            {react("r", 1, "u", ""), fault.Invalid},
		"long user":         {react("r", 1, long, "+"), fault.Invalid},
		"not a key":         {unreact("r", 1, "u", "\xff"), chat.ErrReactionInvalid},
		"not a room":        {react("\xff", 1, "u", "+"), chat.ErrMessageNotFound},
		"no number":         {react("r", 0, "u", "+"), chat.ErrMessageNotFound},
		"too high a number": {react("r", 1<<63, "u", "+"), chat.ErrMessageNotFound},
		"another room":      {react("s", 1, "u", "+"), chat.ErrMessageNotFound},
	} {
		before := revOf(t, s, "r")
		got, err := s.Messages().Change(t.Context(), []chat.Change{react("r", 1, "before "+name, "+"), test.change, react("r", 1, "after "+name, "+")})
		require.NoError(t, err, name)
		require.ErrorIs(t, got[1].Err, test.want, name)
		assert.Equal(t, chat.Message{}, got[1].Message, name)
		assert.Equal(t, []uint64{before + 1, before + 2}, []uint64{got[0].Rev, got[2].Rev}, name)
	}
	longest := edit("r", 1, strings.Repeat("é", chat.MaxText))
	longest.Data = strings.Repeat("é", chat.MaxData/2)
	change(t, s, longest, react("r", 1, long[:256], strings.Repeat("é", chat.MaxReactionKey)))
}

// Rev goes on when the message that has the highest is deleted by hand, and when only the messages were put back from a backup.
func TestRevAfterDeletingByHand(t *testing.T) {
	t.Parallel()
	s := open(t)
	written(t, s, "r", 3)
	change(t, s, edit("r", 2, "x"), edit("r", 1, "y"))
	db := mongostore.Database(s)
	_, err := db.Collection("parley_messages").DeleteMany(t.Context(), bson.D{{Key: "seq", Value: int64(1)}})
	require.NoError(t, err)
	b, err := s.Messages().Bounds(t.Context(), "r")
	require.NoError(t, err)
	assert.Equal(t, chat.Bounds{First: 2, Last: 3, Rev: 2}, b)
	assert.EqualValues(t, 3, change(t, s, edit("r", 3, "z"))[0].Rev)

	for _, damage := range []func() error{
		func() error { _, err := db.Collection("parley_changes").DeleteMany(t.Context(), bson.D{}); return err },
		func() error {
			_, err := db.Collection("parley_changes").UpdateOne(t.Context(), bson.D{}, bson.D{{Key: "$set", Value: bson.D{{Key: "rev", Value: int64(1)}}}})
			return err
		},
	} {
		require.NoError(t, damage())
		rev := revOf(t, s, "r")
		got := change(t, s, edit("r", 2, fmt.Sprint("after ", rev)))
		assert.Equal(t, rev+1, got[0].Rev)
		assert.Equal(t, got[0].Message, changedIn(t, s, "r")[1])
	}
}

// What decides is read as the majority has it: what is built on it cannot be undone.
func TestChangeFollowsWhatTheMajorityHas(t *testing.T) {
	t.Parallel()
	b := newBetween(t, empty(t), alone)
	s := at(t, b.url)
	written(t, s, "r", 1)
	var mu sync.Mutex
	var levels []string
	b.then(func(command string, doc bson.Raw) fate {
		if find, _ := doc.Lookup("find").StringValueOK(); command == "find" {
			level, _ := doc.Lookup("readConcern", "level").StringValueOK()
			mu.Lock()
			levels = append(levels, find+" "+level)
			mu.Unlock()
		}
		return fate{}
	})
	change(t, s, edit("r", 1, "x"))
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, []string{"parley_changes majority", "parley_messages majority", "parley_messages "}, levels)
}

// The list by Rev, and the look for the highest, ask for a room and an order that one index has, and only that one.
func TestListByRevHasAnIndex(t *testing.T) {
	t.Parallel()
	b := newBetween(t, empty(t), alone)
	s := at(t, b.url)
	written(t, s, "r", 3)
	change(t, s, edit("r", 2, "x"))
	specs, err := mongostore.Database(s).Collection("parley_messages").Indexes().ListSpecifications(t.Context())
	require.NoError(t, err)
	var fitting []string
	for _, spec := range specs {
		if elements, err := spec.KeysDocument.Elements(); err == nil && len(elements) == 2 && elements[0].Key() == "changed_in" && elements[1].Key() == "rev" {
			fitting = append(fitting, spec.Name)
		}
	}
	assert.Equal(t, []string{"changed_in_rev"}, fitting)
	var finds atomic.Int64
	b.then(func(command string, doc bson.Raw) fate {
		name, _ := doc.Lookup(command).StringValueOK()
		if command != "find" || name != "parley_messages" {
			return fate{}
		}
		if _, err := doc.LookupErr("filter", "changed_in"); err != nil {
			return fate{}
		}
		finds.Add(1)
		_, err := doc.LookupErr("filter", "room")
		assert.Error(t, err, "another index could be taken")
		order, err := doc.Lookup("sort").Document().Elements()
		assert.NoError(t, err)
		assert.Equal(t, "rev", order[0].Key())
		return fate{}
	})
	changedIn(t, s, "r")
	revOf(t, s, "r")
	assert.EqualValues(t, 2, finds.Load())
	b.then(alone)

	// A server that explains itself says so.
	var explained bson.M
	err = mongostore.Database(s).RunCommand(t.Context(), bson.D{{Key: "explain", Value: bson.D{
		{Key: "find", Value: "parley_messages"}, {Key: "filter", Value: bson.D{{Key: "changed_in", Value: "r"}, {Key: "rev", Value: bson.D{{Key: "$gt", Value: int64(0)}}}}},
		{Key: "sort", Value: bson.D{{Key: "rev", Value: int32(1)}}},
	}}}).Decode(&explained)
	if err == nil && strings.Contains(fmt.Sprint(explained), "winningPlan") {
		assert.Contains(t, fmt.Sprint(explained), "changed_in_rev")
		assert.NotContains(t, fmt.Sprint(explained), "COLLSCAN")
	}
}

// The index by Rev has no message that was never changed: a new message has neither of its fields.
func TestNewMessagesAreNotInTheIndexByRev(t *testing.T) {
	t.Parallel()
	s := open(t)
	written(t, s, "r", 1)
	raw, err := mongostore.Database(s).Collection("parley_messages").FindOne(t.Context(), bson.D{}).Raw()
	require.NoError(t, err)
	for _, name := range []string{"changed_in", "rev", "edited_at", "deleted_at", "reactions", "reacted"} {
		_, err := raw.LookupErr(name)
		require.Error(t, err, name)
	}
	specs, err := mongostore.Database(s).Collection("parley_messages").Indexes().ListSpecifications(t.Context())
	require.NoError(t, err)
	at := slices.IndexFunc(specs, func(spec mongo.IndexSpecification) bool { return spec.Name == "changed_in_rev" })
	require.NotNil(t, specs[at].Sparse)
	assert.True(t, *specs[at].Sparse)
}

// The server is killed while messages change, twice or until somebody notices.
func TestServerIsKilledWhileMessagesChange(t *testing.T) {
	t.Parallel()
	server := servers.StartMongo(t)
	stores := []*mongostore.Store{at(t, server.URL), at(t, server.URL)}
	const workers, enough, size = 3, 15, 5
	written(t, stores[0], "r", size)
	var restarted atomic.Bool
	var acknowledged, failures atomic.Int64
	var mu sync.Mutex
	given := map[uint64]chat.Message{} // by Rev, what was acknowledged
	var present []chat.Change
	var wg sync.WaitGroup
	for i, s := range stores {
		for w := range workers {
			wg.Go(func() {
				for n, after := 0, 0; after < enough; n++ {
					by := fmt.Sprintf("%d-%d-%d", i, w, n)
					batch := []chat.Change{react("r", uint64(n%size+1), by, "+"), edit("r", uint64((n+w)%size+1), by), react("r", uint64((n+1)%size+1), by, "-")}
					for {
						ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
						got, err := s.Messages().Change(ctx, batch)
						cancel()
						if err != nil {
							if !assert.ErrorIs(t, err, fault.Unavailable) {
								return
							}
							failures.Add(1)
							continue
						}
						mu.Lock()
						for _, c := range got {
							assert.NoError(t, c.Err)
							if !c.Repeated {
								other, taken := given[c.Rev]
								assert.False(t, taken, "Rev %d is also that of message %d", c.Rev, other.Seq)
								given[c.Rev] = c.Message
							}
						}
						present = append(present, batch[0], batch[2])
						mu.Unlock()
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
		if kills >= 2 && failures.Load() > 0 || kills == 20 { // a kill that hits only reads is noticed by nobody: the driver reads again
			break
		}
		server.Kill(t)
		server.Restart(t)
	}
	restarted.Store(true)
	wg.Wait()
	assert.Positive(t, failures.Load(), "nobody noticed the outage")

	s := at(t, server.URL)
	rev := revOf(t, s, "r")
	assert.GreaterOrEqual(t, rev, uint64(len(given)))
	for n := range given {
		assert.LessOrEqual(t, n, rev)
	}
	found := changedIn(t, s, "r")
	require.Len(t, found, size)
	assert.Equal(t, rev, found[size-1].Rev)
	for _, m := range found {
		if want, acknowledged := given[m.Rev]; acknowledged {
			assert.Equal(t, want, m)
		}
	}
	for i, c := range change(t, s, present...) {
		assert.True(t, c.Repeated, "an acknowledged reaction was lost: %v", present[i])
	}
	assert.Equal(t, rev, revOf(t, s, "r"))
}

func TestChangeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := newBetween(t, empty(t), alone)
	s := at(t, b.url)
	written(t, s, "r", 1)
	entered, release := make(chan struct{}), make(chan struct{})
	b.then(once(func(command string, doc bson.Raw) bool { return updates(command, doc, "parley_messages") }, func() fate {
		close(entered)
		<-release
		return fate{}
	}))
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := s.Messages().Change(ctx, []chat.Change{edit("r", 1, "x")})
		failed <- err
	}()
	<-entered
	waiting, giveUp := context.WithCancel(t.Context())
	giveUp()
	_, err := s.Messages().Change(waiting, []chat.Change{edit("r", 1, "y")})
	require.ErrorIs(t, err, fault.Unavailable)
	cancel()
	err = <-failed
	require.ErrorIs(t, err, fault.Unavailable)
	require.True(t, errors.Is(err, context.Canceled))
	close(release)
	assert.True(t, change(t, s, edit("r", 1, "x"))[0].Repeated, "what was decided is done")
}
