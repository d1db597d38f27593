package testkit_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/user"
)

var (
	rightsSteps = flag.Int("rights.steps", 3000, "random steps of TestRights")
	rightsSeed  = flag.Uint64("rights.seed", 1, "seed of TestRights")
)

// rightsStores are stores that keep roles.
func rightsStores(t *testing.T) map[string]parley.Ports {
	t.Helper()
	s, err := bunstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "rights.db"), bunstore.SQLiteConfig{RelaxedSync: true})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	require.NoError(t, s.Migrate(t.Context()))
	return map[string]parley.Ports{"memory": memory.NewStore().Ports(), "SQLite": s.Ports()}
}

// serve runs a chat service until the test ends.
func serve(t *testing.T, p parley.Ports) *chat.Service {
	t.Helper()
	s, err := chat.New(chat.Config{
		Store: p.Messages, Rooms: p.Rooms, Members: p.Members, Marks: p.Marks, Roles: p.Roles, Restrictions: p.Restrictions,
		Cache: memory.NewRecentCache(memory.RecentCacheConfig{}),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		assert.NoError(t, <-ran)
	})
	return s
}

// mayDo is the table of docs/rooms.md, written once more by hand: who may do what in a public or private room.
var mayDo = map[string][]chat.Role{
	"read":             {chat.Owner, chat.Moderator, chat.Regular, chat.Reader},
	"send":             {chat.Owner, chat.Moderator, chat.Regular},
	"restrict members": {chat.Owner, chat.Moderator},
	"restrict others":  {chat.Owner},
	"invite":           {chat.Owner, chat.Moderator},
	"describe":         {chat.Owner, chat.Moderator},
	"own":              {chat.Owner},
}

// inDirect is what members of a direct room may do.
var inDirect = []string{"read", "send"}

// rightsRoom is what there must be of a room.
type rightsRoom struct {
	kind    chat.RoomKind
	deleted bool
	roles   map[user.ID]chat.Role
	banned  map[user.ID]bool
}

func (r *rightsRoom) may(id user.ID, what string) bool {
	if r.kind == chat.Direct && !slices.Contains(inDirect, what) {
		return false
	}
	return slices.Contains(mayDo[what], r.roles[id])
}

func (r *rightsRoom) owners() (n int) {
	for _, role := range r.roles {
		if role == chat.Owner {
			n++
		}
	}
	return n
}

// verdict is what must become of a step.
type verdict int

const (
	refused verdict = iota
	allowed
	either // nothing changes, whatever the answer is
)

// rightsWorld takes random steps, and knows what they must come to.
type rightsWorld struct {
	chat   *chat.Service
	ports  parley.Ports
	random *rand.Rand
	rooms  map[string]*rightsRoom
	done   map[string]int // steps that were allowed and refused, by what was done
}

func (w *rightsWorld) user() user.ID { return user.ID(fmt.Sprintf("user-%d", w.random.IntN(6))) }

// room is one of those of the moment: one that is deleted stays so, and new ones come all the time.
func (w *rightsWorld) room(n int) string { return fmt.Sprintf("room-%d", n/100*2+w.random.IntN(4)) }

// runs returns an owner or a moderator of the room, and otherwise somebody.
func (w *rightsWorld) runs(room string, otherwise user.ID) user.ID {
	r := w.rooms[room]
	if r == nil {
		return otherwise
	}
	var all []user.ID
	for id, role := range r.roles {
		if role == chat.Owner || role == chat.Moderator {
			all = append(all, id)
		}
	}
	if len(all) == 0 {
		return otherwise
	}
	slices.Sort(all)
	return all[w.random.IntN(len(all))]
}

func actor(id user.ID) chat.Actor {
	return chat.Actor{Author: chat.Author{ID: id, Name: "Name of " + string(id)}}
}

// known are the refusals that the table knows: any other error is a failure of the test.
func known(err error) bool {
	for _, is := range []error{chat.ErrRoomNotFound, chat.ErrNotMember, chat.ErrRoleLacksRight, chat.ErrLastOwner, chat.ErrBanned, chat.ErrRoomTaken} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// take does one random step, and returns what it was, and what is wrong with what came of it.
func (w *rightsWorld) take(ctx context.Context, n int) (string, error) {
	name := w.room(n)
	by, id := w.user(), w.user()
	if w.random.IntN(2) == 0 { // whoever runs the room does more than others
		by = w.runs(name, by)
	}
	what, want, do, then := w.choose(ctx, name, by, id)
	step := fmt.Sprintf("%s in %s, by %s, of %s", what, name, by, id)
	err := do()
	switch {
	case err != nil && !known(err):
		return step, fmt.Errorf("it failed: %w", err)
	case want == allowed && err != nil:
		return step, fmt.Errorf("it is allowed, and was refused: %w", err)
	case want == refused && err == nil:
		return step, errors.New("it is forbidden, and was done")
	}
	if err == nil {
		w.done[what+": allowed"]++
	} else {
		w.done[what+": refused"]++
	}
	if want == allowed {
		then()
	}
	return step, nil
}

// choose returns a step: what it is, what must become of it, how it is done and what is different then.
func (w *rightsWorld) choose(ctx context.Context, name string, by, id user.ID) (what string, want verdict, do func() error, then func()) {
	r := w.rooms[name]
	gone := r == nil || r.deleted
	as := actor(by)
	if gone {
		r = &rightsRoom{}
	}
	decide := func(ok bool) verdict {
		if ok && !gone {
			return allowed
		}
		return refused
	}
	nothing := func() {}
	kinds := []chat.RoomKind{chat.Public, chat.Private}
	kind := kinds[w.random.IntN(2)]
	choice := w.random.IntN(13)
	if w.rooms[name] == nil && w.random.IntN(3) > 0 {
		choice = 0
	}
	switch choice {
	case 0:
		want := refused
		if w.rooms[name] == nil {
			want = allowed
		}
		create := func() {
			w.rooms[name] = &rightsRoom{kind: kind, roles: map[user.ID]chat.Role{by: chat.Owner}, banned: map[user.ID]bool{}}
		}
		if w.random.IntN(4) == 0 && by != id { // as chat.Service.Direct does, under a name of ours
			return "create direct", want, func() error {
					_, err := w.ports.Roles.Create(ctx, chat.Room{Name: name, Kind: chat.Direct},
						chat.Membership{Room: name, UserID: by}, chat.Membership{Room: name, UserID: id})
					return err
				}, func() {
					w.rooms[name] = &rightsRoom{kind: chat.Direct, roles: map[user.ID]chat.Role{by: chat.Regular, id: chat.Regular}, banned: map[user.ID]bool{}}
				}
		}
		return "create", want, func() error { _, err := w.chat.CreateRoom(ctx, as, name, chat.Details{Kind: &kind}); return err }, create
	case 1, 2:
		_, member := r.roles[by]
		ok := w.rooms[name] == nil || !gone && (member || r.kind == chat.Public && !r.banned[by])
		want := refused
		if ok {
			want = allowed
		}
		return "join", want, func() error { _, err := w.chat.Join(ctx, as.Author, name); return err }, func() {
			if w.rooms[name] == nil {
				w.rooms[name] = &rightsRoom{kind: chat.Public, roles: map[user.ID]chat.Role{}, banned: map[user.ID]bool{}}
			}
			if w.rooms[name].roles[by] == "" {
				w.rooms[name].roles[by] = chat.Regular
			}
		}
	case 3, 4, 5:
		role := chat.AllRoles()[w.random.IntN(4)]
		of := r.roles[id]
		want := decide(!r.banned[id] && (r.may(by, "own") || of == "" && r.kind == chat.Private && r.may(by, "invite") && (role == chat.Regular || role == chat.Reader)))
		switch {
		case of == role:
			want = either
		case of == chat.Owner && r.owners() < 2: // the last one
			want = refused
		}
		return "give a role", want, func() error { _, err := w.chat.SetRole(ctx, as, name, id, role); return err }, func() { r.roles[id] = role }
	case 6, 7:
		of := r.roles[id]
		var want verdict
		switch {
		case of == "" && id != by:
			want = either
		case of == "":
			want = refused
		case of == chat.Owner && (id != by || r.owners() < 2):
			want = refused
		case id == by:
			want = decide(true)
		case of == chat.Moderator:
			want = decide(r.may(by, "restrict others"))
		default:
			want = decide(r.may(by, "restrict members"))
		}
		return "remove", want, func() error { return w.chat.RemoveMember(ctx, as, name, id, "") }, func() { delete(r.roles, id) }
	case 8:
		last := r.roles[by] == chat.Owner && r.owners() < 2
		want := allowed // also where there is nothing to leave
		if last {
			want = refused
		}
		return "leave", want, func() error { return w.chat.Quit(ctx, as.Author, name) }, func() { delete(r.roles, by) }
	case 9, 10:
		var want verdict
		switch of := r.roles[id]; of {
		case chat.Owner:
			want = refused
		case chat.Moderator:
			want = decide(r.may(by, "restrict others"))
		default:
			want = decide(r.may(by, "restrict members"))
		}
		lift := w.random.IntN(2) == 0
		what := map[bool]string{true: "lift a ban", false: "ban"}[lift]
		return what, want, func() error {
				at, err := w.chat.MayRestrict(ctx, as, name, id)
				if err != nil {
					return err
				}
				ban := chat.Restriction{Room: at, UserID: id, Kind: chat.Ban, By: by}
				if lift {
					_, err = w.chat.Lift(ctx, chat.Actor{Any: true}, ban)
				} else {
					_, err = w.chat.Restrict(ctx, chat.Actor{Any: true}, ban)
				}
				return err
			}, func() {
				r.banned[id] = !lift
				if !lift {
					delete(r.roles, id)
				}
			}
	case 11:
		if w.random.IntN(3) == 0 {
			title := "A title"
			return "describe", decide(r.may(by, "describe")), func() error { _, err := w.chat.UpdateRoom(ctx, as, name, chat.Details{Title: &title}); return err }, nothing
		}
		return "change the kind", decide(r.may(by, "own")), func() error { _, err := w.chat.UpdateRoom(ctx, as, name, chat.Details{Kind: &kind}); return err }, func() { r.kind = kind }
	default:
		if w.random.IntN(4) > 0 {
			return "ban as a stranger", refused, func() error { _, err := w.chat.MayRestrict(ctx, actor("user-9"), name, by); return err }, nothing
		}
		return "delete", decide(r.may(by, "own")), func() error { return w.chat.DeleteRoom(ctx, as, name) }, func() { r.deleted = true }
	}
}

// look compares what somebody sees of a room and may do there with the table.
func (w *rightsWorld) look(ctx context.Context, name string, id user.ID) error {
	r := w.rooms[name]
	who := actor(id)
	gone := r == nil || r.deleted
	role := chat.Role("")
	if !gone {
		role = r.roles[id]
	}
	sees := !gone && (role != "" || r.kind == chat.Public)
	if _, err := w.chat.Room(ctx, who, name); sees != (err == nil) || err != nil && !errors.Is(err, chat.ErrRoomNotFound) {
		return fmt.Errorf("%s, who is %q in %s, sees it: %t, and is answered %s", id, role, name, sees, fmt.Sprint(err))
	}
	for right, what := range map[chat.Right]string{
		chat.RightRead: "read", chat.RightSpeak: "send", chat.RightModerate: "restrict members", chat.RightInvite: "invite", chat.RightDescribe: "describe", chat.RightOwn: "own",
	} {
		may := !gone && r.may(id, what) && (right != chat.RightInvite || r.kind == chat.Private)
		if _, err := w.chat.Standing(ctx, who, name, right); may != (err == nil) || err != nil && !known(err) {
			return fmt.Errorf("%s, who is %q in %s, may %s: %t, and is answered %s", id, role, name, what, may, fmt.Sprint(err))
		}
	}
	of, err := w.chat.Rights(ctx, chat.InRoom{Room: name, UserID: id})
	if err != nil || (len(of) == 1) != (role != "") || len(of) == 1 && of[0].Role != role {
		return fmt.Errorf("%s is %q in %s, and is told as %v, %s", id, role, name, of, fmt.Sprint(err))
	}
	return nil
}

// TestRights lets random users do random things to rooms, and holds that what happens is what the table allows: nothing that it forbids is done, and nothing
// that it allows is refused.
func TestRights(t *testing.T) {
	t.Parallel()
	for store, ports := range rightsStores(t) {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			w := &rightsWorld{
				chat: serve(t, ports), ports: ports, random: rand.New(rand.NewPCG(*rightsSeed, 7)), rooms: map[string]*rightsRoom{}, done: map[string]int{},
			}
			for n := range *rightsSteps {
				step, err := w.take(t.Context(), n)
				require.NoError(t, err, "seed %d, step %d: %s", *rightsSeed, n, step)
				require.NoError(t, w.look(t.Context(), w.room(n), w.user()), "seed %d, after step %d: %s", *rightsSeed, n, step)
			}
			t.Log(w.done)
			for _, what := range []string{"create", "create direct", "join", "give a role", "remove", "leave", "ban", "lift a ban", "describe", "change the kind", "delete"} {
				assert.NotZero(t, w.done[what+": allowed"], "%s was never allowed", what)
				assert.NotZero(t, w.done[what+": refused"], "%s was never refused", what)
			}
		})
	}
}

// TestRoomsKeepAnOwner lets owners leave, remove and demote each other all at once, and holds that a room that had an owner has one.
func TestRoomsKeepAnOwner(t *testing.T) {
	t.Parallel()
	const users, rooms, each = 6, 3, 40
	for store, ports := range rightsStores(t) {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			s := serve(t, ports)
			private := chat.Private
			for i := range rooms {
				_, err := s.CreateRoom(t.Context(), actor("user-0"), fmt.Sprintf("room-%d", i), chat.Details{Kind: &private})
				require.NoError(t, err)
			}
			var wg sync.WaitGroup
			for i := range users {
				wg.Go(func() {
					random := rand.New(rand.NewPCG(*rightsSeed, uint64(i)))
					by := actor(user.ID(fmt.Sprintf("user-%d", i)))
					for range each {
						room, id := fmt.Sprintf("room-%d", random.IntN(rooms)), user.ID(fmt.Sprintf("user-%d", random.IntN(users)))
						var err error
						switch random.IntN(6) {
						case 0:
							err = s.Quit(t.Context(), by.Author, room)
						case 1:
							err = s.RemoveMember(t.Context(), by, room, id, "")
						case 2:
							_, err = s.SetRole(t.Context(), by, room, id, chat.Regular)
						default:
							_, err = s.SetRole(t.Context(), by, room, id, chat.Owner)
						}
						if err != nil && !known(err) {
							t.Errorf("%s in %s: %v", by.ID, room, err)
						}
					}
				})
			}
			wg.Wait()
			for i := range rooms {
				members, err := ports.Roles.List(t.Context(), fmt.Sprintf("room-%d", i), "", 100)
				require.NoError(t, err)
				assert.True(t, slices.ContainsFunc(members, func(m chat.Membership) bool { return m.Role == chat.Owner }), "room-%d has no owner: %v", i, members)
			}
		})
	}
}
