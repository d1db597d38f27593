package mongostore_test

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

func alone(string, bson.Raw) fate { return fate{} }

// once does something to the first command that is chosen, and leaves the others alone.
func once(chosen func(command string, doc bson.Raw) bool, then func() fate) func(string, bson.Raw) fate {
	var done atomic.Bool
	return func(command string, doc bson.Raw) fate {
		if chosen(command, doc) && done.CompareAndSwap(false, true) {
			return then()
		}
		return fate{}
	}
}

func insertsMessages(command string, doc bson.Raw) bool {
	return inserts(command, doc, "parley_messages")
}

// idsOf returns the ids in a room, whose numbers must have no gap.
func idsOf(t *testing.T, s *mongostore.Store, room string) []string {
	t.Helper()
	all, err := s.Messages().List(t.Context(), room, chat.Range{Limit: 100_000})
	require.NoError(t, err)
	ids := make([]string, len(all))
	for i, m := range all {
		require.EqualValues(t, i+1, m.Seq, "a gap in %s", room)
		ids[i] = m.ID
	}
	return ids
}

func TestAppendWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	b := newBetween(t, empty(t), alone)
	s := at(t, b.url)
	b.then(once(insertsMessages, func() fate { return fate{lost: true} }))
	batch := messages("r", 0, 3)
	_, err := s.Messages().Append(t.Context(), batch)
	require.ErrorIs(t, err, fault.Unavailable)

	got, err := s.Messages().Append(t.Context(), append(batch, message("r", 3)))
	require.NoError(t, err)
	for i, m := range got {
		assert.EqualValues(t, i+1, m.Seq)
		assert.Equal(t, i < 3, m.Repeated, "what was stored though its answer was lost is not stored again")
	}
	assert.Equal(t, []string{"m-r-0", "m-r-1", "m-r-2", "m-r-3"}, idsOf(t, s, "r"))
}

// Whatever of a batch is repeated was read. It is confirmed by a write before it is acknowledged.
func TestRepetitionsAreConfirmed(t *testing.T) {
	t.Parallel()
	b := newBetween(t, empty(t), alone)
	s := at(t, b.url)
	_, err := s.Messages().Append(t.Context(), messages("r", 0, 3))
	require.NoError(t, err)
	_, err = s.Messages().Change(t.Context(), []chat.Change{react("r", 2, "u", "+")})
	require.NoError(t, err)
	require.NoError(t, s.MailQueue().Enqueue(t.Context(), mail.Job{ID: "j", Key: "k"}))
	require.NoError(t, s.Users().Create(t.Context(), user.User{ID: "u", FullName: "x", Email: "e"}, event.Event{ID: "e", Time: noon}))
	confirms := func(command string, doc bson.Raw) bool {
		name, ok := doc.Lookup(command).StringValueOK()
		return command == "update" && ok && name == "parley_schema"
	}
	for name, call := range map[string]func() error{
		"Append": func() error { _, err := s.Messages().Append(t.Context(), messages("r", 0, 3)); return err },
		"Change": func() error {
			_, err := s.Messages().Change(t.Context(), []chat.Change{react("r", 2, "u", "+")})
			return err
		},
		"Enqueue": func() error { return s.MailQueue().Enqueue(t.Context(), mail.Job{ID: "j2", Key: "k"}) },
		"Pending": func() error { _, err := s.Outbox().Pending(t.Context(), 10); return err },
	} {
		b.then(func(command string, doc bson.Raw) fate {
			if confirms(command, doc) {
				return refusal(10107, "NotWritablePrimary")
			}
			return fate{}
		})
		require.ErrorIs(t, call(), fault.Unavailable, "%s answers with what may be undone", name)
		b.then(alone)
		require.NoError(t, call(), name)
	}
}

// Another node is quicker in one room: the batch stops there, and goes on with new numbers.
func TestAppendThatIsOvertaken(t *testing.T) {
	t.Parallel()
	server := empty(t)
	other := at(t, server)
	b := newBetween(t, server, alone)
	s := at(t, b.url)
	overtake := func() fate {
		_, err := other.Messages().Append(context.WithoutCancel(t.Context()), append(messages("b", 100, 2), message("b", 1)))
		assert.NoError(t, err)
		return fate{}
	}
	b.then(once(insertsMessages, overtake))
	got, err := s.Messages().Append(t.Context(), []chat.Message{message("a", 0), message("b", 0), message("a", 1), message("b", 1), message("a", 2)})
	require.NoError(t, err)
	assert.Equal(t, []string{"m-a-0", "m-a-1", "m-a-2"}, idsOf(t, s, "a"))
	assert.Equal(t, []string{"m-b-100", "m-b-101", "m-b-1", "m-b-0"}, idsOf(t, s, "b"))
	for i, want := range []struct {
		seq      uint64
		repeated bool
	}{{1, false}, {4, false}, {2, false}, {3, true}, {3, false}} {
		assert.Equal(t, want.seq, got[i].Seq, i)
		assert.Equal(t, want.repeated, got[i].Repeated, i)
	}
}

// The server is lost when a part of the batch is stored. The sender sends it again.
func TestAppendThatIsCutOffHalfWay(t *testing.T) {
	t.Parallel()
	server := empty(t)
	other := at(t, server)
	b := newBetween(t, server, alone)
	s := at(t, b.url)
	var calls atomic.Int64
	b.then(func(command string, doc bson.Raw) fate {
		if !insertsMessages(command, doc) {
			return fate{}
		}
		if calls.Add(1) == 1 {
			_, err := other.Messages().Append(context.WithoutCancel(t.Context()), messages("b", 100, 1))
			assert.NoError(t, err)
			return fate{}
		}
		return fate{dropped: true}
	})
	batch := []chat.Message{message("a", 0), message("b", 0), message("a", 1)}
	_, err := s.Messages().Append(t.Context(), batch)
	require.ErrorIs(t, err, fault.Unavailable, "a part is stored, so the outcome is unknown")
	assert.Equal(t, []string{"m-a-0"}, idsOf(t, other, "a"))

	// Refused for good after a part was stored: still unknown, or a caller would send what is stored once more.
	calls.Store(0)
	b.then(func(command string, doc bson.Raw) fate {
		if !insertsMessages(command, doc) {
			return fate{}
		}
		if calls.Add(1) == 1 {
			_, err := other.Messages().Append(context.WithoutCancel(t.Context()), messages("d", 100, 1))
			assert.NoError(t, err)
			return fate{}
		}
		return refusal(121, "DocumentValidationFailure")
	})
	_, err = s.Messages().Append(t.Context(), []chat.Message{message("c", 0), message("d", 0)})
	require.ErrorIs(t, err, fault.Unavailable)
	require.NotErrorIs(t, err, fault.Invalid)
	_, err = s.Messages().Append(t.Context(), messages("e", 0, 2))
	require.ErrorIs(t, err, fault.Invalid, "nothing was stored")

	b.then(alone)
	got, err := s.Messages().Append(t.Context(), batch)
	require.NoError(t, err)
	assert.True(t, got[0].Repeated)
	assert.Equal(t, []string{"m-a-0", "m-a-1"}, idsOf(t, s, "a"))
	assert.Equal(t, []string{"m-b-100", "m-b-0"}, idsOf(t, s, "b"))
	assert.Empty(t, idsOf(t, s, "e"))
}

// The goroutines of one process take turns in a room. Waiting for the turn ends with the context.
func TestAppendWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	b := newBetween(t, empty(t), alone)
	s := at(t, b.url)
	entered, release := make(chan struct{}), make(chan struct{})
	b.then(once(insertsMessages, func() fate {
		close(entered)
		<-release
		return fate{}
	}))
	first := make(chan error, 1)
	go func() {
		_, err := s.Messages().Append(t.Context(), []chat.Message{message("b", 0), message("c", 0)})
		first <- err
	}()
	<-entered
	_, err := s.Messages().Append(t.Context(), messages("a", 0, 1))
	require.NoError(t, err, "another room is another turn")
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = s.Messages().Append(soon, []chat.Message{message("a", 1), message("c", 1)})
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = s.Messages().Append(t.Context(), messages("a", 2, 1))
	require.NoError(t, err, "who gave up has given back what it had")
	close(release)
	require.NoError(t, <-first)
	_, err = s.Messages().Append(t.Context(), messages("c", 2, 1))
	require.NoError(t, err)
	assert.Equal(t, []string{"m-a-0", "m-a-2"}, idsOf(t, s, "a"))
	assert.Equal(t, []string{"m-c-0", "m-c-2"}, idsOf(t, s, "c"))
}

func TestWritesAskForTheMajorityAndTheJournal(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := map[string]int{}
	b := newBetween(t, empty(t), alone)
	s := at(t, b.url)
	b.then(func(command string, doc bson.Raw) fate {
		switch command {
		case "insert", "update", "delete", "findAndModify":
			on := doc.Lookup(command).StringValue()
			if w, ok := doc.Lookup("writeConcern", "w").AsInt64OK(); ok && w == 1 && (on == "parley_changes" || on == "parley_rooms") {
				return fate{} // cleans up, and nothing depends on it
			}
			w, _ := doc.Lookup("writeConcern", "w").StringValueOK()
			j, _ := doc.Lookup("writeConcern", "j").BooleanOK()
			assert.Equal(t, "majority", w, doc)
			assert.True(t, j, doc)
			mu.Lock()
			seen[command]++
			mu.Unlock()
		}
		return fate{}
	})
	for _, call := range everyCall(s) {
		_ = call(t.Context()) // some find nothing
	}
	assert.Len(t, seen, 3, "inserts, updates and deletes")

	// Done, and not yet safe.
	b.then(func(command string, doc bson.Raw) fate {
		if command != "insert" {
			return fate{}
		}
		return fate{edit: func(answer bson.D) bson.D {
			return append(answer, bson.E{Key: "writeConcernError", Value: bson.D{{Key: "code", Value: int32(64)}, {Key: "errmsg", Value: "waiting"}}})
		}}
	})
	_, err := s.Messages().Append(t.Context(), messages("unsafe", 0, 2))
	require.ErrorIs(t, err, fault.Unavailable)
	_, err = s.Members().Add(t.Context(), chat.Membership{Room: "unsafe", UserID: "u"})
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorIs(t, s.MailQueue().Enqueue(t.Context(), mail.Job{ID: "unsafe", Key: "unsafe"}), fault.Unavailable)
}

// A number that follows one that is rolled back would leave a gap: numbers follow what the majority has.
func TestAppendFollowsWhatTheMajorityHas(t *testing.T) {
	t.Parallel()
	b := newBetween(t, empty(t), alone)
	s := at(t, b.url)
	var mu sync.Mutex
	var levels []string
	b.then(func(command string, doc bson.Raw) fate {
		if find, _ := doc.Lookup("find").StringValueOK(); command == "find" && find == "parley_messages" {
			level, _ := doc.Lookup("readConcern", "level").StringValueOK()
			mu.Lock()
			levels = append(levels, level)
			mu.Unlock()
		}
		return fate{}
	})
	_, err := s.Messages().Append(t.Context(), messages("a", 0, 2))
	require.NoError(t, err)
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, []string{"majority"}, levels)
}

func TestErrorsOfTheServerHaveAKind(t *testing.T) {
	t.Parallel()
	b := newBetween(t, empty(t), alone)
	s := at(t, b.url)
	for _, test := range []struct {
		code int32
		name string
		want error
	}{
		{13, "NoRights", mongostore.ErrCredentials},
		{10107, "NotWritablePrimary", fault.Unavailable},
		{11600, "InterruptedAtShutdown", fault.Unavailable},
		{189, "PrimarySteppedDown", fault.Unavailable},
		{121, "DocumentValidationFailure", fault.Invalid},
		{8, "UnknownError", fault.Internal},
	} {
		b.then(func(command string, _ bson.Raw) fate {
			if command == "insert" {
				return refusal(test.code, test.name)
			}
			return fate{}
		})
		err := s.Users().Create(t.Context(), user.User{ID: "u", FullName: "x", Email: "e"})
		require.ErrorIs(t, err, test.want, test.name)
		assert.Equal(t, fault.KindOf(test.want), fault.KindOf(err), test.name)
		assert.NotContains(t, fault.Public(err).Title+fault.Public(err).Detail, "refused", "a client must not see the server's text")
	}
}

// No server that the tests can start has users, so here is one that refuses them as MongoDB does.
func TestServerRefusesTheUser(t *testing.T) {
	t.Parallel()
	b := newBetween(t, empty(t), func(command string, _ bson.Raw) fate {
		if command == "saslStart" {
			return refusal(18, "AuthenticationFailed")
		}
		return fate{}
	})
	withUser, err := url.Parse(b.url)
	require.NoError(t, err)
	withUser.User = url.UserPassword("ada", "hidden@word")
	_, err = mongostore.Open(t.Context(), withUser.String(), mongostore.Config{})
	require.ErrorIs(t, err, mongostore.ErrCredentials)
	assert.NotContains(t, err.Error(), "hidden")
	assert.NotContains(t, err.Error(), "\n")

	// Known, and without rights.
	for _, command := range []string{"find", "listCollections"} {
		refuses := newBetween(t, empty(t), func(c string, _ bson.Raw) fate {
			if c == command {
				return refusal(13, "NoRights")
			}
			return fate{}
		})
		s, err := mongostore.Open(t.Context(), refuses.url, mongostore.Config{})
		if err == nil {
			err = errors.Join(s.Migrate(t.Context()), s.Close())
		}
		require.ErrorIs(t, err, mongostore.ErrCredentials, command)
		assert.NotContains(t, err.Error(), "\n")
	}
}
