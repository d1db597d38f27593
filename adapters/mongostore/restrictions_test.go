package mongostore_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
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

// Of calls of several processes each has its own At, and what is stored is the last one.
func TestRestrictionsOfSeveralProcesses(t *testing.T) {
	t.Parallel()
	url := empty(t)
	stores := []*mongostore.Store{at(t, url), at(t, url), at(t, url)}
	const calls = 10
	var mu sync.Mutex
	var all []chat.Restriction
	var wg sync.WaitGroup
	for i, s := range stores {
		wg.Go(func() {
			for j := range calls {
				r, err := s.Restrictions().Put(t.Context(), chat.Restriction{
					Room: "hall", UserID: "eve", Kind: chat.Ban, By: "ada", Reason: fmt.Sprint(i, " ", j), At: noon, Until: noon,
				}, nil)
				if assert.NoError(t, err) {
					mu.Lock()
					all = append(all, r)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	require.Len(t, all, calls*len(stores))
	slices.SortFunc(all, func(a, b chat.Restriction) int { return a.At.Compare(b.At) })
	for i, r := range all {
		assert.Equal(t, noon.Add(time.Duration(i)*time.Microsecond), r.At)
	}
	stored, err := stores[0].Restrictions().Since(t.Context(), time.Time{}, 10)
	require.NoError(t, err)
	assert.Equal(t, all[len(all)-1:], stored)
}

func TestManyAreAskedAboutAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	var whom []chat.InRoom
	want := map[string]bool{}
	for i := range 250 {
		w := chat.InRoom{Room: fmt.Sprint("r", i), UserID: "eve"}
		whom = append(whom, w, w, chat.InRoom{Room: w.Room, UserID: "\x00"}, chat.InRoom{Room: w.Room, UserID: "\xff"})
		if i%50 == 0 {
			want[w.Room] = true
			_, err := s.Restrictions().Put(t.Context(), chat.Restriction{Room: w.Room, UserID: w.UserID, Kind: chat.Mute, At: noon}, nil)
			require.NoError(t, err)
		}
	}
	held, err := s.Restrictions().InForce(t.Context(), noon, whom...)
	require.NoError(t, err)
	got := map[string]bool{}
	for _, r := range held {
		assert.False(t, got[r.Room], "each once")
		got[r.Room] = true
	}
	assert.Equal(t, want, got)
}

func TestRestrictionsThatNoServerKeepsAreRefused(t *testing.T) {
	t.Parallel()
	s := open(t)
	good := chat.Restriction{Room: "hall", UserID: "eve", Kind: chat.Ban, By: "ada", Reason: strings.Repeat("😀", chat.MaxReason), At: noon}
	_, err := s.Restrictions().Put(t.Context(), good, nil)
	require.NoError(t, err)
	for name, edit := range map[string]func(*chat.Restriction){
		"a room with NUL":    func(r *chat.Restriction) { r.Room = "a\x00" },
		"a user not UTF-8":   func(r *chat.Restriction) { r.UserID = user.ID("\xff") },
		"a kind too long":    func(r *chat.Restriction) { r.Kind = chat.RestrictionKind(strings.Repeat("k", 17)) },
		"a reason too long":  func(r *chat.Restriction) { r.Reason += "x" },
		"a moderator's name": func(r *chat.Restriction) { r.By = user.ID(strings.Repeat("x", 129)) },
	} {
		r := good
		edit(&r)
		_, err := s.Restrictions().Put(t.Context(), r, nil)
		require.ErrorIs(t, err, fault.Invalid, name)
	}
	raw, err := bson.Marshal(mongostore.ValidatorOf("parley_restrictions"))
	require.NoError(t, err)
	assert.Equal(t, 1, documentsFit(t, s, "parley_restrictions", raw))
	assert.ElementsMatch(t, []string{"_id_", "room_user_id_kind", "at_room_user_id_kind"}, indexes(t, s)["parley_restrictions"])
}
