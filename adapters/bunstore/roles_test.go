package bunstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// severalOnEveryEngine runs test on stores on one database, which stand for processes.
func severalOnEveryEngine(t *testing.T, n int, test func(t *testing.T, stores []*bunstore.Store)) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		file := filled(t)
		stores := make([]*bunstore.Store, n)
		for i := range stores {
			s, err := bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{})
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, s.Close()) })
			stores[i] = s
		}
		test(t, stores)
	})
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			test(t, e.several(t, n))
		})
	}
}

// created stores a room with an owner for each of the ids.
func created(t testing.TB, s *bunstore.Store, name string, kind chat.RoomKind, owners ...user.ID) chat.Room {
	t.Helper()
	var members []chat.Membership
	for _, id := range owners {
		members = append(members, chat.Membership{UserID: id, Since: noon, Role: chat.Owner})
	}
	r, err := s.Roles().Create(t.Context(), chat.Room{Name: name, Kind: kind, CreatedBy: "creator", CreatedAt: noon}, members...)
	require.NoError(t, err)
	return r
}

// asStored is the rule of rooms, as the service asks it.
func asStored(c chat.RoleChange) func(r chat.Room, by, of chat.Role, owners int) error {
	return func(r chat.Room, by, of chat.Role, owners int) error { return c.May(r.Kind, by, of, owners) }
}

func changed(t testing.TB, s *bunstore.Store, room string, id user.ID, role chat.Role) chat.Membership {
	t.Helper()
	c := chat.RoleChange{Room: room, User: id, Role: role, By: chat.System.ID, At: noon}
	_, after, err := s.Roles().Change(t.Context(), c, func(chat.Room, chat.Role, chat.Role, int) error { return nil })
	require.NoError(t, err)
	return after
}

func listed(t testing.TB, s *bunstore.Store, room string) (all []chat.Membership) {
	t.Helper()
	for after := user.ID(""); ; after = all[len(all)-1].UserID {
		page, err := s.Roles().List(t.Context(), room, after, 7)
		require.NoError(t, err)
		if all = append(all, page...); len(page) < 7 {
			return all
		}
	}
}

func changeRoom(t testing.TB, s *bunstore.Store, name string, change func(*chat.Room)) chat.Room {
	t.Helper()
	r, err := s.Rooms().Update(t.Context(), name, chat.By{}, func(r *chat.Room, _ chat.Role) error { change(r); return nil })
	require.NoError(t, err)
	return r
}

// What is too long, or no engine keeps, is refused before anything is stored.
func TestRoomsThatCannotBeStored(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, _ string, s *bunstore.Store) {
		created(t, s, "r", chat.Public, "o")
		for name, change := range map[string]func(*chat.Room){
			"a long kind":        func(r *chat.Room) { r.Kind = chat.RoomKind(strings.Repeat("k", 17)) },
			"a long title":       func(r *chat.Room) { r.Title = strings.Repeat("é", chat.MaxTitle+1) },
			"a long topic":       func(r *chat.Room) { r.Topic = strings.Repeat("é", chat.MaxTopic+1) },
			"data that is large": func(r *chat.Room) { r.Data = strings.Repeat("d", chat.MaxData+1) },
			"a title with NUL":   func(r *chat.Room) { r.Title = "a\x00" },
			"a topic, not UTF-8": func(r *chat.Room) { r.Topic = "a\xff" },
			"data with a NUL":    func(r *chat.Room) { r.Data = "\x00" },
			"a kind with a NUL":  func(r *chat.Room) { r.Kind = "\x00" },
		} {
			_, err := s.Rooms().Update(t.Context(), "r", chat.By{}, func(r *chat.Room, _ chat.Role) error { change(r); return nil })
			require.ErrorIs(t, err, fault.Invalid, name)
			r := chat.Room{Name: "other", CreatedAt: noon}
			change(&r)
			_, err = s.Rooms().Ensure(t.Context(), r)
			require.ErrorIs(t, err, fault.Invalid, name)
			_, err = s.Roles().Create(t.Context(), r)
			require.ErrorIs(t, err, fault.Invalid, name)
		}
		for _, m := range []chat.Membership{{UserID: "a\x00"}, {UserID: "a", Role: "\xff"}, {UserID: "a", Role: chat.Role(strings.Repeat("r", 17))}} {
			_, err := s.Roles().Create(t.Context(), chat.Room{Name: "other"}, chat.Membership{UserID: "ok"}, m)
			require.ErrorIs(t, err, fault.Invalid)
			_, _, err = s.Roles().Change(t.Context(), chat.RoleChange{Room: "r", User: m.UserID, Role: m.Role, By: "o"}, func(chat.Room, chat.Role, chat.Role, int) error { return nil })
			if m.Role != "" {
				require.ErrorIs(t, err, fault.Invalid)
			}
		}
		_, err := s.Rooms().ByName(t.Context(), "other")
		require.ErrorIs(t, err, chat.ErrRoomNotFound)
		got, err := s.Rooms().ByName(t.Context(), "r")
		require.NoError(t, err)
		assert.Equal(t, chat.Room{Name: "r", Kind: chat.Public, CreatedBy: "creator", CreatedAt: noon}, got)

		longest := changeRoom(t, s, "r", func(r *chat.Room) {
			r.Kind, r.Title, r.Topic = chat.RoomKind(strings.Repeat("k", 16)), strings.Repeat("𝕏", chat.MaxTitle), strings.Repeat("𝕏", chat.MaxTopic)
			r.Data, r.Retention, r.DeletedAt = strings.Repeat("d", chat.MaxData), chat.MaxRetention, noon
		})
		got, err = s.Rooms().ByName(t.Context(), "r")
		require.NoError(t, err)
		assert.Equal(t, longest, got)
		assert.Equal(t, chat.Owner, changed(t, s, "r", "o", chat.Owner).Role)
		assert.EqualValues(t, strings.Repeat("r", 16), changed(t, s, "r", "o", chat.Role(strings.Repeat("r", 16))).Role)
	})
}

// Rooms and memberships of before are public and of members, also those that an older program stores while it runs beside.
func TestUpgradeKeepsRooms(t *testing.T) {
	first(t, 12, func(t *testing.T, s *bunstore.Store, reopen func() *bunstore.Store) {
		db, _ := bunstore.Handles(s)
		old := func(room string, ids ...user.ID) { // as that program does
			t.Helper()
			_, err := db.ExecContext(t.Context(), "INSERT INTO parley_rooms (name, created_by, created_at) VALUES (?, ?, ?)", room, "u", noon.UnixMicro())
			require.NoError(t, err)
			for i, id := range ids {
				read := any(i)
				if i == 0 {
					read = nil
				}
				_, err := db.ExecContext(t.Context(), "INSERT INTO parley_members (user_id, room, since, read_seq) VALUES (?, ?, ?, ?)", string(id), room, noon.UnixMicro(), read)
				require.NoError(t, err)
			}
		}
		member := func(room string, id user.ID, read uint64) chat.Membership {
			return chat.Membership{Room: room, UserID: id, Since: noon, Read: read, Role: chat.Regular}
		}
		oldMessages(t, s, messages("before", 0, 3))
		old("before", "a", "b", "c")
		require.NoError(t, reopen().Migrate(t.Context()))
		s = reopen()
		oldMessages(t, s, messages("beside", 0, 3))
		old("beside", "a", "b", "c")

		for _, room := range []string{"before", "beside"} {
			want := chat.Room{Name: room, CreatedBy: "u", CreatedAt: noon, Kind: chat.Public}
			got, err := s.Rooms().ByName(t.Context(), room)
			require.NoError(t, err)
			assert.Equal(t, want, got)
			assert.Equal(t, []chat.Membership{member(room, "a", 3), member(room, "b", 1), member(room, "c", 2)}, listed(t, s, room))
			of, err := s.Roles().Of(t.Context(), chat.InRoom{Room: room, UserID: "a"})
			require.NoError(t, err)
			assert.Equal(t, []chat.Membership{member(room, "a", 3)}, of)
			of, err = s.Roles().Of(t.Context(), chat.InRoom{Room: room, UserID: "a"}, chat.InRoom{Room: room, UserID: "b"}, chat.InRoom{Room: room, UserID: "d"})
			require.NoError(t, err)
			assert.ElementsMatch(t, []chat.Membership{member(room, "a", 3), member(room, "b", 1)}, of)
			assert.Equal(t, []chat.Membership{member(room, "d", 3)}, joined(t, s, inRoom(room, "d")), "who wants to joins")

			owner := member(room, "a", 3)
			owner.Role = chat.Owner
			assert.Equal(t, owner, changed(t, s, room, "a", chat.Owner))
			want.Kind, want.Title = chat.Private, "title"
			assert.Equal(t, want, changeRoom(t, s, room, func(r *chat.Room) { r.Kind, r.Title = chat.Private, "title" }))
			assert.Equal(t, owner, joined(t, s, inRoom(room, "a"))[0])
			assert.Empty(t, joined(t, s, inRoom(room, "e"))[0].Role)

			var createdBy string // as the older program reads
			require.NoError(t, db.NewRaw("SELECT created_by FROM parley_rooms WHERE name = ?", room).Scan(t.Context(), &createdBy))
			assert.Equal(t, "u", createdBy)
			_, err = db.ExecContext(t.Context(), "UPDATE parley_members SET read_seq = 2 WHERE user_id = 'a' AND room = ?", room)
			require.NoError(t, err)
			owner.Read = 2
			assert.Equal(t, owner, listed(t, s, room)[0], "what an older program writes leaves the role")
			_, err = db.ExecContext(t.Context(), "DELETE FROM parley_members WHERE user_id = 'a' AND room = ?", room)
			require.NoError(t, err)
			assert.Equal(t, chat.Owner, changed(t, s, room, "b", chat.Owner).Role)
		}
	})
}

// An operator may make the index of many memberships before the upgrade, while the older program runs: see docs/operations.md.
func TestUpgradeFindsTheIndexOfMembers(t *testing.T) {
	first(t, 12, func(t *testing.T, s *bunstore.Store, reopen func() *bunstore.Store) {
		db, _ := bunstore.Handles(s)
		concurrently := ""
		if strings.HasSuffix(t.Name(), "PostgreSQL") {
			concurrently = "CONCURRENTLY IF NOT EXISTS "
		}
		_, err := db.ExecContext(t.Context(), "CREATE INDEX "+concurrently+"parley_members_room ON parley_members (room, user_id)")
		require.NoError(t, err)
		s = reopen()
		require.NoError(t, s.Migrate(t.Context()))
		require.NoError(t, s.Check(t.Context()))
		created(t, s, "r", chat.Private, "a")
		assert.Len(t, listed(t, s, "r"), 1)
	})
}

// Two owners who demote each other, or leave, at once, on two nodes: one does, and the other stays.
func TestOneOwnerStays(t *testing.T) {
	severalOnEveryEngine(t, 2, func(t *testing.T, stores []*bunstore.Store) {
		for round := range 20 {
			room := fmt.Sprint("room ", round)
			created(t, stores[0], room, chat.Private, "a", "b")
			errs := make([]error, 2)
			var wg sync.WaitGroup
			start := make(chan struct{})
			for i, s := range stores {
				by, of := user.ID("a"), user.ID("b")
				if i == 1 {
					by, of = of, by
				}
				role := chat.Regular
				if round%2 == 1 {
					of, role = by, "" // leaves
				}
				wg.Go(func() {
					<-start
					c := chat.RoleChange{Room: room, User: of, Role: role, By: by, At: noon}
					_, _, errs[i] = s.Roles().Change(t.Context(), c, asStored(c))
				})
			}
			close(start)
			wg.Wait()
			want := chat.ErrRoleLacksRight // who was demoted first demotes nobody
			if round%2 == 1 {
				want = chat.ErrLastOwner
			}
			if errs[0] != nil {
				errs[0], errs[1] = errs[1], errs[0]
			}
			require.NoError(t, errs[0])
			require.ErrorIs(t, errs[1], want)
			owners := 0
			for _, m := range listed(t, stores[1], room) {
				if m.Role == chat.Owner {
					owners++
				}
			}
			require.Equal(t, 1, owners)
		}
	})
}

// Many owners leave at once, and look at how many there are: each finds what the one before has left.
func TestOwnersAreCountedOneAfterTheOther(t *testing.T) {
	severalOnEveryEngine(t, 3, func(t *testing.T, stores []*bunstore.Store) {
		const each = 6
		var ids []user.ID
		for i := range each * len(stores) {
			ids = append(ids, user.ID(fmt.Sprint("owner ", i)))
		}
		created(t, stores[0], "r", chat.Public, ids...)
		for i := range 200 {
			joined(t, stores[0], inRoom("r", user.ID(fmt.Sprint("member ", i))))
		}
		var mu sync.Mutex
		counts := map[int]int{}
		var wg sync.WaitGroup
		for i, id := range ids {
			wg.Go(func() {
				c := chat.RoleChange{Room: "r", User: id, By: id, At: noon}
				counted := 0
				_, _, err := stores[i%len(stores)].Roles().Change(t.Context(), c, func(r chat.Room, by, of chat.Role, owners int) error {
					counted = owners
					return c.May(r.Kind, by, of, owners)
				})
				mu.Lock()
				defer mu.Unlock()
				counts[counted]++
				if counted == 1 {
					assert.ErrorIs(t, err, chat.ErrLastOwner)
				} else {
					assert.NoError(t, err)
				}
			})
		}
		wg.Wait()
		for n := 1; n <= len(ids); n++ {
			assert.Equal(t, 1, counts[n], "%d owners", n)
		}
	})
}

// People join while a room becomes private. Each is a member or is not, as they were told; who comes later is not.
func TestJoiningWhileTheRoomIsClosed(t *testing.T) {
	severalOnEveryEngine(t, 2, func(t *testing.T, stores []*bunstore.Store) {
		const callers, before, after = 4, 10, 30
		created(t, stores[0], "r", chat.Public, "owner")
		var mu sync.Mutex
		told := map[user.ID]chat.Role{}
		var wg sync.WaitGroup
		half, closed := make(chan struct{}), make(chan struct{})
		var once sync.Once
		for w := range callers {
			wg.Go(func() {
				for i, rest := 0, after; rest > 0; i++ {
					var all []chat.Membership
					for k := range 1 + i%3 {
						all = append(all, inRoom("r", user.ID(fmt.Sprint(w, "-", i, "-", k))), inRoom("open", user.ID(fmt.Sprint(w, "-", i, "-", k))))
					}
					got, err := stores[w%2].Members().Add(t.Context(), all...)
					if !assert.NoError(t, err) {
						return
					}
					mu.Lock()
					for _, m := range got {
						if m.Room == "r" {
							told[m.UserID] = m.Role
						} else {
							assert.Equal(t, chat.Regular, m.Role)
						}
					}
					mu.Unlock()
					if i == before {
						once.Do(func() { close(half) })
					}
					select {
					case <-closed:
						rest--
					default:
					}
				}
			})
		}
		<-half
		closing := func(r *chat.Room) { r.Kind = chat.Private }
		changeRoom(t, stores[0], "r", closing)
		close(closed)
		for i, s := range stores {
			id := user.ID(fmt.Sprint("late ", i))
			assert.Equal(t, []chat.Membership{{Room: "r", UserID: id}}, joined(t, s, inRoom("r", id)))
		}
		wg.Wait()
		refused := 0
		of := map[user.ID]chat.Role{}
		for _, m := range listed(t, stores[0], "r") {
			of[m.UserID] = m.Role
		}
		assert.Equal(t, chat.Owner, of["owner"])
		delete(of, "owner")
		for id, role := range told {
			if role == "" {
				refused++
				assert.NotContains(t, of, id)
				continue
			}
			assert.Equal(t, role, of[id])
			delete(of, id)
		}
		assert.Empty(t, of, "members whom nobody told")
		assert.NotZero(t, refused)
	})
}

// A room that is closed refuses newcomers of a batch, and none else of it; a deleted one as well. An invitation lets one in.
func TestClosedRoomsOfABatch(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, _ string, s *bunstore.Store) {
		created(t, s, "private", chat.Private, "a")
		created(t, s, "deleted", chat.Public, "a")
		changeRoom(t, s, "deleted", func(r *chat.Room) { r.DeletedAt = noon })
		appended(t, s, messages("private", 0, 4))
		var all, want []chat.Membership
		for i := range 150 {
			id := user.ID(fmt.Sprintf("u%03d", i))
			all = append(all, inRoom("private", id), inRoom("public", id), inRoom("deleted", id))
			want = append(want, chat.Membership{Room: "private", UserID: id}, chat.Membership{Room: "public", UserID: id, Since: noon, Role: chat.Regular}, chat.Membership{Room: "deleted", UserID: id})
		}
		all = append(all, inRoom("deleted", "a"), inRoom("private", "a"))
		want = append(want, chat.Membership{Room: "deleted", UserID: "a", Since: noon, Role: chat.Owner}, chat.Membership{Room: "private", UserID: "a", Since: noon, Role: chat.Owner})
		for range 2 {
			assert.Equal(t, want, joined(t, s, all...))
		}
		assert.Equal(t, chat.Membership{Room: "private", UserID: "u001", Since: noon, Read: 4, Role: chat.Reader}, changed(t, s, "private", "u001", chat.Reader))
		assert.Equal(t, chat.Reader, joined(t, s, all[3])[0].Role)
		assert.Empty(t, changed(t, s, "private", "u001", "").Role)
		assert.Empty(t, joined(t, s, all[3])[0].Role)
		assert.Len(t, listed(t, s, "public"), 150)
		assert.Len(t, listed(t, s, "private"), 1)
	})
}

// Somebody is invited while they join: whatever comes first, they are what the invitation says.
func TestInvitingWhoJoins(t *testing.T) {
	severalOnEveryEngine(t, 2, func(t *testing.T, stores []*bunstore.Store) {
		created(t, stores[0], "r", chat.Public, "owner")
		for round := range 30 {
			id := user.ID(fmt.Sprint("u", round))
			var wg sync.WaitGroup
			var before, after chat.Membership
			wg.Go(func() {
				c := chat.RoleChange{Room: "r", User: id, Role: chat.Moderator, By: "owner", At: noon}
				var err error
				before, after, err = stores[0].Roles().Change(t.Context(), c, asStored(c))
				assert.NoError(t, err)
			})
			var got []chat.Membership
			wg.Go(func() {
				var err error
				got, err = stores[1].Members().Add(t.Context(), inRoom("r", id))
				assert.NoError(t, err)
			})
			wg.Wait()
			require.Equal(t, chat.Moderator, after.Role)
			require.Contains(t, []chat.Role{"", chat.Regular}, before.Role)
			require.Len(t, got, 1)
			require.Contains(t, []chat.Role{chat.Moderator, chat.Regular}, got[0].Role)
			of, err := stores[1].Roles().Of(t.Context(), chat.InRoom{Room: "r", UserID: id})
			require.NoError(t, err)
			require.Equal(t, []chat.Membership{after}, of)
		}
	})
}

// What is refused, or whose context has ended, leaves nothing; what a caller's function answers is what they get.
func TestRefusedChangesLeaveNothing(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, _ string, s *bunstore.Store) {
		created(t, s, "r", chat.Public, "o")
		refusal := errors.New("no")
		_, err := s.Rooms().Update(t.Context(), "r", chat.By{}, func(r *chat.Room, _ chat.Role) error { r.Title = "x"; return refusal })
		require.Equal(t, refusal, err)
		_, _, err = s.Roles().Change(t.Context(), chat.RoleChange{Room: "r", User: "u", Role: chat.Owner, By: "o"}, func(chat.Room, chat.Role, chat.Role, int) error { return refusal })
		require.Equal(t, refusal, err)
		_, err = s.Roles().Create(t.Context(), chat.Room{Name: "r", Title: "x"}, inRoom("r", "u"))
		require.ErrorIs(t, err, chat.ErrRoomTaken)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = s.Rooms().Update(gone, "r", chat.By{}, func(r *chat.Room, _ chat.Role) error { r.Title = "x"; return nil })
		require.ErrorIs(t, err, fault.Unavailable)
		_, err = s.Roles().Create(gone, chat.Room{Name: "other"}, inRoom("other", "u"))
		require.ErrorIs(t, err, fault.Unavailable)
		_, _, err = s.Roles().Change(gone, chat.RoleChange{Room: "r", User: "u", Role: chat.Owner}, func(chat.Room, chat.Role, chat.Role, int) error { return nil })
		require.ErrorIs(t, err, fault.Unavailable)
		_, err = s.Roles().Of(gone, chat.InRoom{Room: "r", UserID: "o"})
		require.ErrorIs(t, err, fault.Unavailable)
		_, err = s.Roles().List(gone, "r", "", 1)
		require.ErrorIs(t, err, fault.Unavailable)

		_, err = s.Rooms().Update(t.Context(), "none", chat.By{}, func(_ *chat.Room, _ chat.Role) error { return nil })
		require.ErrorIs(t, err, chat.ErrRoomNotFound)
		_, _, err = s.Roles().Change(t.Context(), chat.RoleChange{Room: "none", User: "u"}, func(chat.Room, chat.Role, chat.Role, int) error { return nil })
		require.ErrorIs(t, err, chat.ErrRoomNotFound)
		got, err := s.Rooms().ByName(t.Context(), "r")
		require.NoError(t, err)
		assert.Empty(t, got.Title)
		assert.Equal(t, []chat.Membership{{Room: "r", UserID: "o", Since: noon, Role: chat.Owner}}, listed(t, s, "r"))
		_, err = s.Rooms().ByName(t.Context(), "other")
		require.ErrorIs(t, err, chat.ErrRoomNotFound)
	})
}

// A room that is made owns who was there before it was stored; sending moves marks and leaves roles.
func TestRolesStay(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, _ string, s *bunstore.Store) {
		joined(t, s, inRoom("r", "u1"))
		appended(t, s, messages("r", 0, 2))
		later := noon.Add(time.Hour)
		_, err := s.Roles().Create(t.Context(), chat.Room{Name: "r", CreatedBy: "u1", CreatedAt: later},
			chat.Membership{UserID: "u1", Since: later, Role: chat.Owner}, chat.Membership{UserID: "u2", Since: later, Role: chat.Reader})
		require.NoError(t, err)
		want := []chat.Membership{
			{Room: "r", UserID: "u1", Since: noon, Read: 2, Role: chat.Owner}, {Room: "r", UserID: "u2", Since: later, Read: 2, Role: chat.Reader},
		}
		got := listed(t, s, "r")
		require.Len(t, got, 2)
		want[0].Read = got[0].Read // whoever sends has read it: see messages
		assert.Equal(t, want, got)
		appended(t, s, messages("r", 2, 20))
		marked(t, s, readTo("r", "u1", 22), readTo("r", "u2", 22))
		want[0].Read, want[1].Read = 22, 22
		assert.Equal(t, want, listed(t, s, "r"))
		for i, m := range want {
			got := mine(t, s, m.UserID)
			require.Len(t, got, 1)
			assert.Equal(t, m, got[0].Membership)
			rooms, err := s.Members().RoomsOf(t.Context(), m.UserID, "", 5)
			require.NoError(t, err)
			assert.Equal(t, want[i:i+1], rooms)
		}
		require.NoError(t, s.Members().Remove(t.Context(), "r", "u1"))
		assert.Equal(t, chat.Regular, joined(t, s, inRoom("r", "u1"))[0].Role, "who comes back is what newcomers are")
	})
}
