package mongostore_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

func message(room string, n int) chat.Message {
	return chat.Message{
		Room: room, ID: fmt.Sprintf("m-%s-%d", room, n), ClientID: fmt.Sprintf("c%d", n),
		Author: chat.Author{ID: "u1", Name: "Ada"}, Text: fmt.Sprintf("text %d", n), At: noon.Add(time.Duration(n) * time.Microsecond),
	}
}

func messages(room string, from, n int) []chat.Message {
	all := make([]chat.Message, n)
	for i := range all {
		all[i] = message(room, from+i)
	}
	return all
}

// several returns stores on one migrated database, which stand for processes.
func several(t *testing.T, n int) []*mongostore.Store {
	t.Helper()
	url := empty(t)
	all := make([]*mongostore.Store, n)
	for i := range all {
		all[i] = at(t, url)
	}
	return all
}

// everyCall makes one call of each kind.
func everyCall(s *mongostore.Store) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"Ping":       s.Ping,
		"Check":      s.Check,
		"Validators": func(ctx context.Context) error { _, err := s.Validators(ctx); return err },
		"Users.Create": func(ctx context.Context) error {
			return s.Users().Create(ctx, user.User{ID: "u", FullName: "x", Email: "e"})
		},
		"Users.Create with an event": func(ctx context.Context) error {
			return s.Users().Create(ctx, user.User{ID: "v", FullName: "x", Email: "f"}, event.Event{ID: "e", Time: noon})
		},
		"Users.ByID":    func(ctx context.Context) error { _, err := s.Users().ByID(ctx, "u"); return err },
		"Users.ByEmail": func(ctx context.Context) error { _, err := s.Users().ByEmail(ctx, "e"); return err },
		"Users.Update": func(ctx context.Context) error {
			_, err := s.Users().Update(ctx, "u", func(*user.User) error { return nil })
			return err
		},
		"Sessions.Create": func(ctx context.Context) error { return s.Sessions().Create(ctx, auth.Session{ID: "s"}) },
		"Sessions.ByID":   func(ctx context.Context) error { _, err := s.Sessions().ByID(ctx, "s"); return err },
		"Sessions.ByUser": func(ctx context.Context) error { _, err := s.Sessions().ByUser(ctx, "u", noon, 10); return err },
		"Sessions.Update": func(ctx context.Context) error {
			_, err := s.Sessions().Update(ctx, "s", func(*auth.Session) error { return nil })
			return err
		},
		"Sessions.Sweep": func(ctx context.Context) error { _, err := s.Sessions().DeleteExpired(ctx, noon); return err },
		"SignUps.Create": func(ctx context.Context) error {
			return s.SignUps().Create(ctx, auth.WaitingSignUp{ID: "w", UserID: "u", FullName: "n", Email: "e"}, 1)
		},
		"SignUps.ByID":    func(ctx context.Context) error { _, err := s.SignUps().ByID(ctx, "w"); return err },
		"SignUps.ByEmail": func(ctx context.Context) error { _, err := s.SignUps().ByEmail(ctx, "e"); return err },
		"SignUps.Confirm": func(ctx context.Context) error { _, err := s.SignUps().Confirm(ctx, "w", noon); return err },
		"SignUps.Sweep":   func(ctx context.Context) error { _, err := s.SignUps().DeleteExpired(ctx, noon); return err },
		"Codes.Put":       func(ctx context.Context) error { return s.Codes().Put(ctx, auth.Code{Hash: "h"}) },
		"Codes.Use":       func(ctx context.Context) error { _, err := s.Codes().Use(ctx, "h", noon); return err },
		"Codes.Sweep":     func(ctx context.Context) error { _, err := s.Codes().DeleteExpired(ctx, noon); return err },
		"Nonces.Spend":    func(ctx context.Context) error { _, err := s.Nonces().Spend(ctx, "n", noon); return err },
		"Nonces.Sweep":    func(ctx context.Context) error { _, err := s.Nonces().DeleteExpired(ctx, noon); return err },
		"Messages.Append": func(ctx context.Context) error { _, err := s.Messages().Append(ctx, messages("r", 0, 1)); return err },
		"Messages.List": func(ctx context.Context) error {
			_, err := s.Messages().List(ctx, "r", chat.Range{Limit: 1})
			return err
		},
		"Messages.Bounds": func(ctx context.Context) error { _, err := s.Messages().Bounds(ctx, "r"); return err },
		"Messages.Change": func(ctx context.Context) error {
			_, err := s.Messages().Change(ctx, []chat.Change{react("r", 1, "u", "+")})
			return err
		},
		"Rooms.Ensure": func(ctx context.Context) error { _, err := s.Rooms().Ensure(ctx, chat.Room{Name: "r"}); return err },
		"Rooms.ByName": func(ctx context.Context) error { _, err := s.Rooms().ByName(ctx, "r"); return err },
		"Rooms.List":   func(ctx context.Context) error { _, err := s.Rooms().List(ctx, "", 1); return err },
		"Rooms.Update": func(ctx context.Context) error {
			_, err := s.Rooms().Update(ctx, "r", chat.By{}, func(_ *chat.Room, _ chat.Role) error { return nil })
			return err
		},
		"Roles.Create": func(ctx context.Context) error { _, err := s.Roles().Create(ctx, chat.Room{Name: "new"}); return err },
		"Roles.Of": func(ctx context.Context) error {
			_, err := s.Roles().Of(ctx, chat.InRoom{Room: "r", UserID: "u"})
			return err
		},
		"Roles.List": func(ctx context.Context) error { _, err := s.Roles().List(ctx, "r", "", 1); return err },
		"Roles.Change": func(ctx context.Context) error {
			_, _, err := s.Roles().Change(ctx, chat.RoleChange{Room: "r", User: "u", Role: chat.Reader}, func(chat.Room, chat.Role, chat.Role, int) error { return nil })
			return err
		},
		"Members.Add": func(ctx context.Context) error {
			_, err := s.Members().Add(ctx, chat.Membership{Room: "r", UserID: "u"})
			return err
		},
		"Members.Remove":  func(ctx context.Context) error { return s.Members().Remove(ctx, "r", "u") },
		"Members.Has":     func(ctx context.Context) error { _, err := s.Members().Has(ctx, "r", "u"); return err },
		"Members.RoomsOf": func(ctx context.Context) error { _, err := s.Members().RoomsOf(ctx, "u", "", 1); return err },
		"Marks.Mark": func(ctx context.Context) error {
			_, err := s.Members().Mark(ctx, []chat.Mark{{Room: "r", User: chat.Author{ID: "u"}, Read: 1}})
			return err
		},
		"Marks.Mine":          func(ctx context.Context) error { _, err := s.Members().Mine(ctx, "u", chat.Place{}, 1); return err },
		"Outbox.Pending":      func(ctx context.Context) error { _, err := s.Outbox().Pending(ctx, 1); return err },
		"Outbox.PendingAfter": func(ctx context.Context) error { _, err := s.Outbox().PendingAfter(ctx, "e", 1); return err },
		"Outbox.SetAside":     func(ctx context.Context) error { return s.Outbox().SetAside(ctx, "e", "reason") },
		"Outbox.Published":    func(ctx context.Context) error { return s.Outbox().Published(ctx, "e") },
		"MailQueue.Enqueue":   func(ctx context.Context) error { return s.MailQueue().Enqueue(ctx, mail.Job{ID: "j", Key: "k"}) },
		"MailQueue.Claim":     func(ctx context.Context) error { _, _, err := s.MailQueue().Claim(ctx, noon, time.Minute); return err },
		"MailQueue.Settle": func(ctx context.Context) error {
			return s.MailQueue().Settle(ctx, mail.Job{ID: "j"}, mail.Outcome{State: mail.Sent})
		},
		"MailQueue.Prune":   func(ctx context.Context) error { _, err := s.MailQueue().Prune(ctx, noon); return err },
		"MailQueue.List":    func(ctx context.Context) error { _, err := s.MailQueue().List(ctx, mail.Filter{Limit: 1}); return err },
		"MailQueue.Get":     func(ctx context.Context) error { _, err := s.MailQueue().Get(ctx, "j"); return err },
		"MailQueue.Requeue": func(ctx context.Context) error { return s.MailQueue().Requeue(ctx, "j", noon, nil) },
		"MailQueue.Discard": func(ctx context.Context) error { return s.MailQueue().Discard(ctx, "j") },
		"MailQueue.Stats":   func(ctx context.Context) error { _, err := s.MailQueue().Stats(ctx); return err },
	}
}

func TestEveryCallOnAClosedStore(t *testing.T) {
	t.Parallel()
	opened := open(t)
	given, err := mongostore.New(mongostore.Database(open(t)), mongostore.Config{})
	require.NoError(t, err)
	for _, s := range []*mongostore.Store{opened, given} {
		require.NoError(t, s.Close())
		require.NoError(t, s.Close())
		for name, call := range everyCall(s) {
			err := call(t.Context())
			require.ErrorIs(t, err, fault.Unavailable, name)
			assert.Equal(t, fault.Unavailable.Title(), fault.Public(err).Title, name)
			assert.Empty(t, fault.Public(err).Detail, name)
		}
	}
	require.NoError(t, mongostore.Database(given).Client().Ping(t.Context(), nil), "the client stays its owner's")
}

// Nothing may be written where the unique indexes are missing.
func TestEveryCallOnADatabaseThatIsNotMigrated(t *testing.T) {
	t.Parallel()
	s, err := mongostore.Open(t.Context(), empty(t), mongostore.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	for name, call := range everyCall(s) {
		if name != "Ping" && name != "Validators" {
			require.ErrorIs(t, call(t.Context()), mongostore.ErrSchemaOld, name)
		}
	}
	found, err := mongostore.Database(s).ListCollectionNames(t.Context(), bson.D{})
	require.NoError(t, err)
	assert.Empty(t, found, "something was stored")
}

func TestAppendOfMoreThanOneInsert(t *testing.T) {
	t.Parallel()
	s := open(t)
	var batch []chat.Message
	for i := range 1500 {
		batch = append(batch, message(fmt.Sprintf("room %d", i%20), i))
	}
	got, err := s.Messages().Append(t.Context(), batch)
	require.NoError(t, err)
	for i, m := range got {
		want := batch[i]
		want.Seq = uint64(i/20 + 1)
		require.Equal(t, chat.Stored{Message: want}, m)
	}
	require.Len(t, idsOf(t, s, "room 3"), 75)

	// All of it again, and one more.
	got, err = s.Messages().Append(t.Context(), append(batch, message("room 3", 5000)))
	require.NoError(t, err)
	for i, m := range got[:1500] {
		require.True(t, m.Repeated, i)
	}
	assert.EqualValues(t, 76, got[1500].Seq)
	assert.False(t, got[1500].Repeated)
}

func TestAppendRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	s := open(t).Messages()
	for name, spoil := range map[string]func(*chat.Message){
		"long room":      func(m *chat.Message) { m.Room = strings.Repeat("é", chat.MaxRoomName+1) },
		"long client id": func(m *chat.Message) { m.ClientID = strings.Repeat("x", chat.MaxClientID+1) },
		"long text":      func(m *chat.Message) { m.Text = strings.Repeat("é", chat.MaxText+1) },
		"NUL":            func(m *chat.Message) { m.Text = "a\x00b" },
		"not UTF-8":      func(m *chat.Message) { m.Text = "a\xff" },
		"no id":          func(m *chat.Message) { m.ID = "" },
		"long data":      func(m *chat.Message) { m.Data = strings.Repeat("é", chat.MaxData/2) + "x" },
		"NUL in data":    func(m *chat.Message) { m.Data = "{\"a\":\"\x00\"}" },
		"high reply":     func(m *chat.Message) { m.ReplyTo = math.MaxInt64 + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			batch := messages("r", 0, 3)
			spoil(&batch[1])
			_, err := s.Append(t.Context(), batch)
			require.ErrorIs(t, err, fault.Invalid)
			b, err := s.Bounds(t.Context(), "r")
			require.NoError(t, err)
			assert.Zero(t, b.Last, "a refused batch left something behind")
		})
	}
	longest := message(strings.Repeat("é", chat.MaxRoomName), 0)
	longest.ClientID, longest.Text = strings.Repeat("x", chat.MaxClientID), strings.Repeat("é", chat.MaxText)
	longest.Author = chat.Author{ID: user.ID(strings.Repeat("é", 128)), Name: strings.Repeat("é", user.MaxFullName)}
	longest.ReplyTo, longest.Data = math.MaxInt64, strings.Repeat("é", chat.MaxData/2)
	_, err := s.Append(t.Context(), []chat.Message{longest})
	require.NoError(t, err)
}

// What no validator lets through is refused by this program too, on a server without validators.
func TestWhatDoesNotFitIsRefused(t *testing.T) {
	t.Parallel()
	s := open(t)
	long := strings.Repeat("x", 256)
	require.NoError(t, create(s, chat.Room{Name: "hall"}, "ada", chat.Owner))
	for name, call := range map[string]func() error{
		"name": func() error {
			return s.Users().Create(t.Context(), user.User{ID: "u", FullName: strings.Repeat("x", 101), Email: "e"})
		},
		"no address": func() error { return s.Users().Create(t.Context(), user.User{ID: "u", FullName: "x"}) },
		"event": func() error {
			return s.Users().Create(t.Context(), user.User{ID: "u", FullName: "x", Email: "e"}, event.Event{ID: "e", Key: long})
		},
		"session": func() error { return s.Sessions().Create(t.Context(), auth.Session{ID: long}) },
		"code":    func() error { return s.Codes().Put(t.Context(), auth.Code{Hash: "a\x00"}) },
		"nonce":   func() error { _, err := s.Nonces().Spend(t.Context(), long, noon); return err },
		"room":    func() error { _, err := s.Rooms().Ensure(t.Context(), chat.Room{Name: long}); return err },
		"kind": func() error {
			_, err := s.Rooms().Ensure(t.Context(), chat.Room{Name: "k", Kind: "secret"})
			return err
		},
		"title":     func() error { return update(s, "hall", func(r *chat.Room) { r.Title = long }) },
		"data":      func() error { return update(s, "hall", func(r *chat.Room) { r.Data = "x" }) },
		"retention": func() error { return update(s, "hall", func(r *chat.Room) { r.Retention = -time.Hour }) },
		"role": func() error {
			_, err := s.Members().Add(t.Context(), chat.Membership{Room: "hall", UserID: "u"}, chat.Membership{Room: "hall", UserID: "v", Role: "king"})
			return err
		},
		"role of one who comes": func() error { _, _, err := rule(s, "hall", "u", "king"); return err },
		"role of one who stays": func() error { _, _, err := rule(s, "hall", "ada", "king"); return err },
		"user":                  func() error { _, _, err := rule(s, "hall", user.ID(long), chat.Reader); return err },
		"not a user of a room":  func() error { _, _, err := rule(s, "hall", "\xff", chat.Reader); return err },
		"not a user to list":    func() error { _, err := s.Roles().List(t.Context(), "hall", "\xff", 1); return err },
		"kind of a room": func() error {
			_, err := s.Roles().Create(t.Context(), chat.Room{Name: "k", Kind: "secret"})
			return err
		},
		"role in a room": func() error { return create(s, chat.Room{Name: "k"}, "u", "king") },
		"user in a room": func() error { return create(s, chat.Room{Name: "k"}, "\xff", chat.Owner) },
		"too many begin a room": func() error {
			var all []chat.Membership
			for i := range 1001 {
				all = append(all, chat.Membership{UserID: user.ID(fmt.Sprint(i)), Since: noon})
			}
			_, err := s.Roles().Create(t.Context(), chat.Room{Name: "k"}, all...)
			return err
		},
		"member": func() error {
			_, err := s.Members().Add(t.Context(), chat.Membership{Room: "r", UserID: "u"}, chat.Membership{Room: "", UserID: "u"})
			return err
		},
		"job":        func() error { return s.MailQueue().Enqueue(t.Context(), mail.Job{ID: "j"}) },
		"lease":      func() error { _, _, err := s.MailQueue().Claim(t.Context(), noon, 0); return err },
		"outcome":    func() error { return s.MailQueue().Settle(t.Context(), mail.Job{ID: "j"}, mail.Outcome{}) },
		"list":       func() error { _, err := s.MailQueue().List(t.Context(), mail.Filter{Limit: 1001}); return err },
		"history":    func() error { _, err := s.Messages().List(t.Context(), "r", chat.Range{}); return err },
		"use":        func() error { _, err := s.Codes().Use(t.Context(), "h", time.Time{}); return err },
		"not a room": func() error { _, err := s.Rooms().List(t.Context(), "\xff", 1); return err },
		"not a user": func() error { _, err := s.Members().Mine(t.Context(), "\xff", chat.Place{}, 1); return err },
	} {
		assert.ErrorIs(t, call(), fault.Invalid, name)
	}
	has, err := s.Members().Has(t.Context(), "r", "u")
	require.NoError(t, err)
	assert.False(t, has, "half of a refused call was stored")
	assert.Len(t, documents(t, s, "parley_members"), 1, "half of a refused call was stored")
	assert.Len(t, documents(t, s, "parley_rooms"), 1, "half of a refused call was stored")
}

func TestMailErrorThatCannotBeKeptAsItIs(t *testing.T) {
	t.Parallel()
	q := open(t).MailQueue()
	require.NoError(t, q.Enqueue(t.Context(), mail.Job{ID: "j", Key: "k", RunAt: noon}))
	j, ok, err := q.Claim(t.Context(), noon, time.Minute)
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, q.Settle(t.Context(), j, mail.Outcome{State: mail.Dead, At: noon, Error: "a\x00b\xff" + strings.Repeat("é", 3000)}))
	j, err = q.Get(t.Context(), "j")
	require.NoError(t, err)
	assert.Equal(t, "a\uFFFDb\uFFFD"+strings.Repeat("é", 1996), j.LastError)
}

func TestBoundsAfterDeleting(t *testing.T) {
	t.Parallel()
	s := open(t)
	_, err := s.Messages().Append(t.Context(), messages("r", 0, 5))
	require.NoError(t, err)
	_, err = mongostore.Database(s).Collection("parley_messages").DeleteMany(t.Context(),
		bson.D{{Key: "room", Value: "r"}, {Key: "seq", Value: bson.D{{Key: "$lt", Value: 4}}}})
	require.NoError(t, err)
	b, err := s.Messages().Bounds(t.Context(), "r")
	require.NoError(t, err)
	assert.Equal(t, chat.Bounds{First: 4, Last: 5}, b)
	got, err := s.Messages().Append(t.Context(), messages("r", 5, 1))
	require.NoError(t, err)
	assert.EqualValues(t, 6, got[0].Seq)
}

func TestStoresAppendTogether(t *testing.T) {
	t.Parallel()
	stores := several(t, 3)
	const workers, calls = 4, 8
	rooms := []string{"a", "b", "c", "d", "e"}
	var wg sync.WaitGroup
	var mu sync.Mutex
	fresh := map[string]int{} // new messages by room
	answers := map[string]uint64{}
	for i, s := range stores {
		for w := range workers {
			wg.Go(func() {
				for c := range calls {
					var batch []chat.Message
					for k := range rooms {
						room := rooms[(k*(w+1)+c)%len(rooms)] // each in an order of its own
						own := message(room, 1000*(i*workers+w)+c+100)
						shared := message(room, c) // everybody sends it
						batch = append(batch, own, shared)
					}
					got, err := s.Messages().Append(t.Context(), batch)
					if !assert.NoError(t, err) {
						return
					}
					mu.Lock()
					for _, m := range got {
						if !m.Repeated {
							fresh[m.Room]++
						}
						if seq, known := answers[m.ID]; known {
							assert.Equal(t, seq, m.Seq, "two answers about %s", m.ID)
						}
						answers[m.ID] = m.Seq
					}
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	for _, room := range rooms {
		ids := idsOf(t, stores[0], room)
		require.Len(t, ids, fresh[room], "every answer that is not a repetition is one message")
		require.Len(t, ids, len(stores)*workers*calls+calls)
		for i, id := range ids {
			require.EqualValues(t, i+1, answers[id], "%s has another number than was answered", id)
		}
	}
}

func TestStoresClaimMailTogether(t *testing.T) {
	t.Parallel()
	stores := several(t, 3)
	const jobs = 60
	for i := range jobs {
		require.NoError(t, stores[i%3].MailQueue().Enqueue(t.Context(), mail.Job{
			ID: fmt.Sprintf("j%02d", i), Key: fmt.Sprint(i), To: "a@example.org", RunAt: noon, CreatedAt: noon, UpdatedAt: noon,
		}))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	claimed := map[string]int{}
	for w := range 6 {
		wg.Go(func() {
			q := stores[w%len(stores)].MailQueue()
			last := ""
			for {
				j, ok, err := q.Claim(t.Context(), noon, time.Minute)
				if !assert.NoError(t, err) || !ok {
					return
				}
				assert.Greater(t, j.ID, last, "one worker's claims are in the order of enqueueing")
				last = j.ID
				assert.NoError(t, q.Settle(t.Context(), j, mail.Outcome{State: mail.Sent, At: noon}))
				mu.Lock()
				claimed[j.ID]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	assert.Len(t, claimed, jobs)
	for id, n := range claimed {
		assert.Equal(t, 1, n, id)
	}
}

// Writers tell one story in events of one key, each event in another document or on another node than the one before.
// A reader that takes them away as they come reads it in order.
func TestOutboxKeepsTheOrderAcrossDocuments(t *testing.T) {
	t.Parallel()
	stores := several(t, 3)
	const writers, each = 5, 30
	var wg sync.WaitGroup
	for w := range writers {
		id := fmt.Sprint(w)
		require.NoError(t, stores[0].Users().Create(t.Context(), user.User{ID: user.ID(id), FullName: "x", Email: user.Email(id)}))
		require.NoError(t, stores[0].Sessions().Create(t.Context(), auth.Session{ID: id, UserID: user.ID(id)}))
		wg.Go(func() {
			for n := 0; n < each; n += 2 {
				s := stores[(w+n)%len(stores)]
				told := func(n int) event.Event { return event.Event{ID: fmt.Sprintf("%d-%d", w, n), Key: id, Time: noon} }
				var err error
				if n%4 == 0 {
					_, err = s.Users().Update(t.Context(), user.ID(id), func(*user.User) error { return nil }, told(n), told(n+1))
				} else {
					_, err = s.Sessions().Update(t.Context(), id, func(*auth.Session) error { return nil }, told(n), told(n+1))
				}
				if !assert.NoError(t, err) {
					return
				}
			}
		})
	}
	var done atomic.Bool
	go func() { wg.Wait(); done.Store(true) }()
	next := make([]int, writers)
	total := 0
	for finished := false; !finished; {
		finished = done.Load() // before reading, so that the last round sees everything
		for {
			events, err := stores[0].Outbox().Pending(t.Context(), 7)
			require.NoError(t, err)
			if len(events) == 0 {
				break
			}
			var ids []string
			for _, e := range events {
				var w, n int
				_, err := fmt.Sscanf(e.ID, "%d-%d", &w, &n)
				require.NoError(t, err)
				require.Equal(t, next[w], n, "out of order for key %d", w)
				next[w]++
				total++
				ids = append(ids, e.ID)
			}
			require.NoError(t, stores[1].Outbox().Published(t.Context(), ids...))
		}
	}
	assert.Equal(t, writers*each, total)
}

// What is committed while the outbox is being read is left for the next time: here an event in a document that was
// read before, and its successor in one that was read after.
func TestOutboxShowsNoEventWithoutItsPredecessor(t *testing.T) {
	t.Parallel()
	url := empty(t)
	writer := at(t, url)
	require.NoError(t, writer.Users().Create(t.Context(), user.User{ID: "u", FullName: "x", Email: "e"}, event.Event{ID: "0", Time: noon}))
	require.NoError(t, writer.Sessions().Create(t.Context(), auth.Session{ID: "s"}))
	b := newBetween(t, url, alone)
	reader := at(t, b.url)
	b.then(once(func(command string, doc bson.Raw) bool {
		name, ok := doc.Lookup(command).StringValueOK()
		return command == "find" && ok && name == "parley_sessions"
	}, func() fate {
		ctx := context.WithoutCancel(t.Context())
		_, err := writer.Users().Update(ctx, "u", func(*user.User) error { return nil }, event.Event{ID: "1", Time: noon})
		assert.NoError(t, err)
		_, err = writer.Sessions().Update(ctx, "s", func(*auth.Session) error { return nil }, event.Event{ID: "2", Time: noon})
		assert.NoError(t, err)
		return fate{}
	}))
	for _, want := range [][]string{{"0"}, {"0", "1", "2"}} {
		events, err := reader.Outbox().Pending(t.Context(), 10)
		require.NoError(t, err)
		var got []string
		for _, e := range events {
			got = append(got, e.ID)
		}
		assert.Equal(t, want, got)
	}
}

// What is set aside is whole in its collection, and its document is as if it had been published.
func TestOutboxSetsAside(t *testing.T) {
	t.Parallel()
	s := open(t)
	e := event.Event{ID: "e", Topic: "mail", Type: "user.created", Key: "k", Time: noon, Data: []byte(`{"a":1}`)}
	require.NoError(t, s.Users().Create(t.Context(), user.User{ID: "u", FullName: "x", Email: "e"}, e, event.Event{ID: "f", Time: noon}))
	for _, reason := range []string{"it is too large", "again"} {
		require.NoError(t, s.Outbox().SetAside(t.Context(), "e", reason))
	}
	pending, err := s.Outbox().Pending(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, pending, 1)
	var got bson.M
	require.NoError(t, mongostore.Database(s).Collection("parley_outbox_aside").FindOne(t.Context(), bson.D{}).Decode(&got))
	assert.Equal(t, "e", got["_id"])
	assert.Equal(t, "mail", got["topic"])
	assert.Equal(t, "user.created", got["type"])
	assert.Equal(t, "k", got["key"])
	assert.Equal(t, noon.UnixMicro(), got["time"])
	assert.Equal(t, []byte(`{"a":1}`), got["data"].(bson.Binary).Data)
	assert.Equal(t, "it is too large", got["reason"], "what is not pending is not set aside")
}

func TestClockKeepsItsLastMoments(t *testing.T) {
	t.Parallel()
	s := open(t)
	moments := mongostore.Database(s).Collection("parley_clock")
	past := make([]bson.D, 1998)
	for i := range past {
		past[i] = bson.D{{Key: "_id", Value: int64(i + 1)}}
	}
	_, err := moments.InsertMany(t.Context(), past)
	require.NoError(t, err)
	for want := int64(1999); want <= 2002; want++ {
		now, err := mongostore.Tick(t.Context(), s)
		require.NoError(t, err)
		require.Equal(t, want, now)
	}
	n, err := moments.CountDocuments(t.Context(), bson.D{})
	require.NoError(t, err)
	assert.EqualValues(t, 1002, n)
}

func TestExpiredSessionWhoseEventsWait(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, id := range []string{"plain", "told", "fresh"} {
		session := auth.Session{ID: id, UserID: "u", ExpiresAt: noon}
		if id == "fresh" {
			session.ExpiresAt = noon.Add(time.Hour)
		}
		require.NoError(t, s.Sessions().Create(t.Context(), session))
	}
	for _, id := range []string{"told", "fresh"} {
		_, err := s.Sessions().Update(t.Context(), id, func(s *auth.Session) error { s.RevokedAt = noon; return nil }, event.Event{ID: id, Time: noon})
		require.NoError(t, err)
	}
	n, err := s.Sessions().DeleteExpired(t.Context(), noon.Add(time.Second))
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	n, err = s.Sessions().DeleteExpired(t.Context(), noon.Add(time.Second))
	require.NoError(t, err)
	assert.Zero(t, n, "none is counted twice")

	_, err = s.Sessions().ByID(t.Context(), "told")
	require.ErrorIs(t, err, auth.ErrSessionNotFound)
	_, err = s.Sessions().Update(t.Context(), "told", func(*auth.Session) error { return nil })
	require.ErrorIs(t, err, auth.ErrSessionNotFound)
	_, err = s.Sessions().ByID(t.Context(), "fresh")
	require.NoError(t, err)
	pending, err := s.Outbox().Pending(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, pending, 2, "no event went with its session")
	require.NoError(t, s.Outbox().Published(t.Context(), "told", "fresh"))
	left, err := mongostore.Database(s).Collection("parley_sessions").CountDocuments(t.Context(), bson.D{})
	require.NoError(t, err)
	assert.EqualValues(t, 1, left)
	fresh, err := s.Sessions().ByID(t.Context(), "fresh")
	require.NoError(t, err)
	assert.Equal(t, noon, fresh.RevokedAt)
}
