package mongostore_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
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
)

// Two owners demote each other at once, at two nodes: one of them stays, at every time.
func TestTwoOwnersDemoteEachOther(t *testing.T) {
	t.Parallel()
	stores := several(t, 2)
	for round := range 12 {
		room := fmt.Sprint("hall ", round)
		ids := []user.ID{"ada", "eve"}
		require.NoError(t, create(stores[0], chat.Room{Name: room, Kind: chat.Private}, "ada", chat.Owner))
		ruled(t, stores[0], room, "eve", chat.Owner)
		to := []chat.Role{chat.Regular, ""}[round%2]
		var wg sync.WaitGroup
		errs := make([]error, 2)
		start := make(chan struct{})
		for i, s := range stores {
			wg.Go(func() {
				<-start
				// Owners do not end each other's membership, but they may end their own.
				c := chat.RoleChange{Room: room, User: ids[1-i], Role: to, By: ids[i], At: noon}
				if to == "" {
					c.User = c.By
				}
				_, _, errs[i] = s.Roles().Change(t.Context(), c, func(r chat.Room, by, of chat.Role, owners int) error {
					assert.Equal(t, chat.Private, r.Kind)
					assert.Positive(t, owners)
					return c.May(r.Kind, by, of, owners)
				})
			})
		}
		close(start)
		wg.Wait()
		refused := errs[0]
		if refused == nil {
			refused = errs[1]
		} else {
			assert.NoError(t, errs[1])
		}
		require.ErrorIs(t, refused, map[chat.Role]error{chat.Regular: chat.ErrRoleLacksRight, "": chat.ErrLastOwner}[to])
		owners := 0
		for _, role := range listedIn(t, stores[0], room) {
			if role == chat.Owner {
				owners++
			}
		}
		assert.Equal(t, 1, owners)
	}
}

// What is read together was there together: another process decides between the reads, and the change is judged again.
func TestChangeOfRolesThatIsOvertaken(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		moment    func(command string, doc bson.Raw) bool
		overtakes func(t *testing.T, other *mongostore.Store)
		want      error
	}{
		"the kind changes before it is decided": {
			func(command string, doc bson.Raw) bool { return updates(command, doc, "parley_rooms") },
			func(t *testing.T, other *mongostore.Store) {
				assert.NoError(t, update(other, "hall", func(r *chat.Room) { r.Kind = chat.Direct }))
			},
			chat.ErrRoleLacksRight,
		},
		"whoever does it is no owner any more": {
			func(command string, doc bson.Raw) bool { return updates(command, doc, "parley_rooms") },
			func(t *testing.T, other *mongostore.Store) { ruled(t, other, "hall", "ada", chat.Moderator) },
			chat.ErrRoleLacksRight,
		},
		"whoever does it becomes an owner before they are refused": {
			func(command string, doc bson.Raw) bool { return finds(command, doc, "parley_members") },
			func(t *testing.T, other *mongostore.Store) {
				ruled(t, other, "hall", "ada", chat.Reader)
				ruled(t, other, "hall", "ada", chat.Owner)
			},
			nil,
		},
		"the room is described": {
			func(command string, doc bson.Raw) bool { return updates(command, doc, "parley_rooms") },
			func(t *testing.T, other *mongostore.Store) {
				assert.NoError(t, update(other, "hall", func(r *chat.Room) { r.Title = "x" }))
			},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := empty(t)
			other := at(t, url)
			b := newBetween(t, url, alone)
			s := at(t, b.url)
			require.NoError(t, create(other, chat.Room{Name: "hall", Kind: chat.Private}, "ada", chat.Owner))
			ruled(t, other, "hall", "eve", chat.Owner)
			b.then(once(test.moment, func() fate { test.overtakes(t, other); return fate{} }))
			c := chat.RoleChange{Room: "hall", User: "bob", Role: chat.Moderator, By: "ada", At: noon}
			_, after, err := s.Roles().Change(t.Context(), c, func(r chat.Room, by, of chat.Role, owners int) error { return c.May(r.Kind, by, of, owners) })
			require.ErrorIs(t, err, test.want)
			assert.Equal(t, after.Role, roleOf(t, s, "hall", "bob"))
			assert.Len(t, documents(t, s, "parley_members"), map[bool]int{true: 3, false: 2}[test.want == nil], "nothing stays aside")
		})
	}
}

// A refusal that was made of two times is no refusal: the second owner came, and the first went, between the reads.
func TestARefusalOfNoTime(t *testing.T) {
	t.Parallel()
	url := empty(t)
	other := at(t, url)
	b := newBetween(t, url, alone)
	s := at(t, b.url)
	require.NoError(t, create(other, chat.Room{Name: "hall"}, "ada", chat.Owner))
	var first atomic.Bool
	first.Store(true)
	calls := 0
	_, after, err := s.Roles().Change(t.Context(), chat.RoleChange{Room: "hall", User: "bob", Role: chat.Reader, By: "ada", At: noon}, func(_ chat.Room, _, _ chat.Role, owners int) error {
		if calls++; first.CompareAndSwap(true, false) {
			ruled(t, other, "hall", "eve", chat.Owner)
			return chat.ErrLastOwner
		}
		assert.Equal(t, 2, owners)
		return nil
	})
	require.NoError(t, err)
	assert.Equal(t, 2, calls)
	assert.Equal(t, chat.Reader, after.Role)
}

// Updates of several processes and changes of roles are all there.
func TestUpdatesOfSeveralProcesses(t *testing.T) {
	t.Parallel()
	stores := several(t, 3)
	require.NoError(t, create(stores[0], chat.Room{Name: "hall"}, "ada", chat.Owner))
	const calls = 8
	var wg sync.WaitGroup
	for i, s := range stores {
		wg.Go(func() {
			for j := range calls {
				assert.NoError(t, update(s, "hall", func(r *chat.Room) { r.Retention += time.Hour }))
				ruled(t, s, "hall", user.ID(fmt.Sprint(i, "-", j)), chat.Reader)
			}
		})
	}
	wg.Wait()
	r, err := stores[0].Rooms().ByName(t.Context(), "hall")
	require.NoError(t, err)
	assert.Equal(t, time.Duration(calls*len(stores))*time.Hour, r.Retention)
	assert.Len(t, listedIn(t, stores[0], "hall"), calls*len(stores)+1)
}

// What is decided is made of what the majority has, so that nothing that was told goes back.
func TestRolesFollowWhatTheMajorityHas(t *testing.T) {
	t.Parallel()
	b := newBetween(t, empty(t), alone)
	s := at(t, b.url)
	written(t, s, "hall", 3)
	var reads atomic.Int64
	b.then(func(command string, doc bson.Raw) fate {
		if command == "find" || command == "aggregate" {
			reads.Add(1)
			level, _ := doc.Lookup("readConcern", "level").StringValueOK()
			assert.Equal(t, "majority", level, doc)
		}
		return fate{}
	})
	require.NoError(t, create(s, chat.Room{Name: "hall"}, "ada", chat.Owner))
	require.NoError(t, update(s, "hall", func(r *chat.Room) { r.Topic = "x" }))
	ruled(t, s, "hall", "eve", chat.Moderator)
	ruled(t, s, "hall", "eve", "")
	joined(t, s, "hall", "bob")
	listedIn(t, s, "hall")
	roleOf(t, s, "hall", "bob")
	require.NoError(t, s.Members().Remove(t.Context(), "hall", "bob"))
	assert.Greater(t, reads.Load(), int64(15))
}

// The answer to a decision is lost: it holds or not, and to do it again is harmless.
func TestDecisionsWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	url := empty(t)
	other := at(t, url)
	b := newBetween(t, url, alone)
	s := at(t, b.url)
	late := fate{edit: func(answer bson.D) bson.D {
		return append(answer, bson.E{Key: "writeConcernError", Value: bson.D{{Key: "code", Value: int32(64)}, {Key: "errmsg", Value: "waiting"}}})
	}}
	for name, f := range map[string]fate{"lost": {lost: true}, "dropped": {dropped: true}, "late": late} {
		room := "hall " + name
		b.then(func(command string, doc bson.Raw) fate {
			if inserts(command, doc, "parley_rooms") {
				return f
			}
			return fate{}
		})
		require.ErrorIs(t, create(s, chat.Room{Name: room, Kind: chat.Private}, "ada", chat.Owner), fault.Unavailable, name)
		b.then(alone)
		if err := create(s, chat.Room{Name: room, Kind: chat.Private}, "ada", chat.Owner); err != nil {
			require.ErrorIs(t, err, chat.ErrRoomTaken, name)
		}
		assert.Equal(t, map[user.ID]chat.Role{"ada": chat.Owner}, listedIn(t, other, room), name)
		for i, call := range []func() error{
			func() error { _, _, err := rule(s, room, "eve", chat.Reader); return err },
			func() error { _, _, err := rule(s, room, "eve", chat.Moderator); return err },
			func() error { return update(s, room, func(r *chat.Room) { r.Title = "t" }) },
			func() error { _, _, err := rule(s, room, "eve", ""); return err },
		} {
			b.then(func(command string, doc bson.Raw) fate {
				if updates(command, doc, "parley_rooms") {
					return f
				}
				return fate{}
			})
			require.ErrorIs(t, call(), fault.Unavailable, "%s %d", name, i)
			b.then(alone)
			listedIn(t, other, room)
			require.NoError(t, call(), "%s %d", name, i)
		}
		assert.Equal(t, map[user.ID]chat.Role{"ada": chat.Owner}, listedIn(t, other, room), name)
	}
}

// Processes end at any moment while others change roles: there is an owner at every time, and what is left fits.
func TestRolesWhileProcessesEnd(t *testing.T) {
	t.Parallel()
	url := empty(t)
	other := at(t, url)
	require.NoError(t, create(other, chat.Room{Name: "hall"}, "u0", chat.Owner))
	ids := []user.ID{"u0", "u1", "u2", "u3"}
	roles := append(chat.AllRoles(), "")
	var wg sync.WaitGroup
	var stored atomic.Int64
	for worker := range 3 {
		b := newBetween(t, url, alone)
		s := at(t, b.url)
		random := rand.New(rand.NewPCG(11, uint64(worker)))
		var mu sync.Mutex
		b.then(func(command string, _ bson.Raw) fate {
			mu.Lock()
			defer mu.Unlock()
			switch command {
			case "insert", "update", "delete":
				switch random.IntN(20) {
				case 0:
					return fate{dropped: true}
				case 1:
					return fate{lost: true}
				}
			}
			return fate{}
		})
		choose := rand.New(rand.NewPCG(12, uint64(worker)))
		wg.Go(func() {
			for range 60 {
				c := chat.RoleChange{Room: "hall", User: ids[choose.IntN(4)], By: ids[choose.IntN(4)], Role: roles[choose.IntN(5)], At: noon}
				before, after, err := s.Roles().Change(t.Context(), c, func(r chat.Room, by, of chat.Role, owners int) error {
					if owners == 0 {
						assert.Fail(t, "no owner")
					}
					if of == chat.Owner && c.Role != chat.Owner && owners < 2 {
						return chat.ErrLastOwner
					}
					return nil
				})
				switch {
				case err == nil:
					stored.Add(1)
					assert.Equal(t, c.Role, after.Role)
					if before.Role == after.Role {
						assert.Equal(t, before, after)
					}
				case !errors.Is(err, chat.ErrLastOwner):
					assert.ErrorIs(t, err, fault.Unavailable)
				}
				if choose.IntN(4) == 0 {
					_, err := s.Members().Add(t.Context(), chat.Membership{Room: "hall", UserID: ids[choose.IntN(4)], Since: noon})
					if err != nil {
						assert.ErrorIs(t, err, fault.Unavailable)
					}
				}
			}
		})
	}
	wg.Wait()
	assert.Greater(t, stored.Load(), int64(50))
	now := listedIn(t, other, "hall")
	owners := 0
	for id, role := range now {
		assert.Equal(t, role, roleOf(t, other, "hall", id))
		if role == chat.Owner {
			owners++
		}
	}
	assert.Positive(t, owners)
	_, _, err := other.Roles().Change(t.Context(), chat.RoleChange{Room: "hall", User: "u0"}, func(_ chat.Room, _, _ chat.Role, n int) error {
		assert.Equal(t, owners, n)
		return chat.ErrLastOwner
	})
	require.ErrorIs(t, err, chat.ErrLastOwner)
	for _, name := range []string{"parley_rooms", "parley_members"} {
		raw, err := bson.Marshal(mongostore.ValidatorOf(name))
		require.NoError(t, err)
		documentsFit(t, other, name, raw)
	}
}
