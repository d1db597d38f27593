package chat_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// secretive refuses one user what is done in rooms whose names begin with "secret".
func secretive(who user.ID, refused ...chat.Action) rule {
	return func(a chat.Author, what chat.Action, room string) error {
		if a.ID == who && strings.HasPrefix(room, "secret") && slices.Contains(refused, what) {
			return chat.ErrNotAllowed
		}
		return nil
	}
}

func (f *fixture) join(t *testing.T, who chat.Author, rooms ...string) {
	t.Helper()
	for _, room := range rooms {
		_, err := f.Join(t.Context(), who, room)
		require.NoError(t, err)
	}
}

func TestWhoIsAMember(t *testing.T) {
	t.Parallel()
	away := errors.New("the rule is away")
	f := open(t, func(c *chat.Config, _ *store) {
		c.Access = rule(func(who chat.Author, what chat.Action, room string) error {
			if room == "broken" && who == bob {
				return away
			}
			return secretive(bob.ID, chat.ActionJoin)(who, what, room)
		})
	})
	f.join(t, ada, "hall", "secret", "broken")
	for _, c := range []struct {
		who  chat.Author
		room string
		want error
	}{
		{ada, "hall", nil},
		{ada, "secret", nil},
		{ada, "nowhere", chat.ErrRoomNotFound},
		{ada, " hall", chat.ErrRoomInvalid},
		{bob, "hall", chat.ErrNotMember},
		{bob, "nowhere", chat.ErrRoomNotFound},
		{bob, "secret", chat.ErrRoomNotFound},
		{bob, "secret of nobody", chat.ErrRoomNotFound},
		{bob, "broken", away},
	} {
		name, err := f.Member(t.Context(), c.who, c.room)
		if c.want == nil {
			require.NoError(t, err)
			assert.Equal(t, c.room, name)
			continue
		}
		require.ErrorIs(t, err, c.want, "%s in %s", c.who.Name, c.room)
		assert.Empty(t, name)
	}
	// Nothing tells a room that may not be joined from one that does not exist.
	_, there := f.Member(t.Context(), bob, "secret")
	_, not := f.Member(t.Context(), bob, "secret of nobody")
	assert.Equal(t, fault.Public(not), fault.Public(there))

	require.NoError(t, f.Leave(t.Context(), ada.ID, "hall"))
	_, err := f.Member(t.Context(), ada, "hall")
	require.ErrorIs(t, err, chat.ErrNotMember)

	name, err := f.Existing(t.Context(), "hall")
	require.NoError(t, err)
	assert.Equal(t, "hall", name)
	_, err = f.Existing(t.Context(), "nowhere")
	require.ErrorIs(t, err, chat.ErrRoomNotFound)
	_, err = f.Existing(t.Context(), "")
	require.ErrorIs(t, err, chat.ErrRoomInvalid)
}

// pages reads all rooms page by page, and returns how long each page was.
func pages(t *testing.T, limit int, read func(after string, limit int) ([]chat.RoomState, bool, error)) (names []string, sizes []int) {
	t.Helper()
	for after, more := "", true; more; {
		page, again, err := read(after, limit)
		require.NoError(t, err)
		for _, r := range page {
			names = append(names, r.Name)
			after = r.Name
		}
		if again {
			require.NotEmpty(t, page, "a page without rooms is the end")
		}
		sizes, more = append(sizes, len(page)), again
		require.Less(t, len(sizes), 1000)
	}
	return names, sizes
}

func TestRoomsAreListedPageByPage(t *testing.T) {
	t.Parallel()
	for name, access := range map[string]chat.Access{"nobody is asked": nil, "everybody may": secretive(bob.ID)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t, func(c *chat.Config, _ *store) { c.Access = access })
			var want []string
			for i := range 120 {
				want = append(want, fmt.Sprintf("room %03d", i))
			}
			f.join(t, ada, want...)
			for range 3 {
				f.send(t, "room 007", "hello", "")
			}
			_, err := f.Change(t.Context(), chat.Change{Kind: chat.Delete, Room: "room 007", Seq: 2, By: ada})
			require.NoError(t, err)
			list := func(after string, limit int) ([]chat.RoomState, bool, error) {
				return f.Rooms(t.Context(), bob, after, limit)
			}
			for _, c := range []struct {
				limit int
				sizes []int
			}{{0, []int{50, 50, 20}}, {50, []int{50, 50, 20}}, {1000, []int{50, 50, 20}}, {-1, []int{50, 50, 20}}, {40, []int{40, 40, 40}}, {49, []int{49, 49, 22}}} {
				got, sizes := pages(t, c.limit, list)
				assert.Equal(t, want, got)
				assert.Equal(t, c.sizes, sizes, "limit %d", c.limit)
			}
			page, more, err := f.Rooms(t.Context(), bob, "room 006", 1)
			require.NoError(t, err)
			assert.True(t, more)
			require.Len(t, page, 1)
			assert.Equal(t, "room 007", page[0].Name)
			assert.Equal(t, ada.ID, page[0].CreatedBy)
			assert.EqualValues(t, 3, page[0].Seq)
			assert.EqualValues(t, 1, page[0].Rev)
			page, more, err = f.Rooms(t.Context(), bob, "room 119", 1)
			require.NoError(t, err)
			assert.False(t, more)
			assert.Empty(t, page)
		})
	}
}

func TestRoomsThatOneMayNotJoinAreNotListed(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	f := open(t, func(c *chat.Config, _ *store) {
		c.Access = rule(func(who chat.Author, what chat.Action, room string) error {
			asked.Add(1)
			return secretive(bob.ID, chat.ActionJoin)(who, what, room)
		})
	})
	var want, all []string
	for i := range 3000 { // most are hidden; some open ones stand between, the last ones are hidden
		name := fmt.Sprintf("secret %04d", i)
		if i < 2500 && i%700 == 10 {
			name = fmt.Sprintf("open %04d", i)
		}
		all = append(all, name)
	}
	for i := range 30 {
		all = append(all, fmt.Sprintf("secreu %02d", i)) // behind them all
	}
	f.join(t, ada, all...)
	slices.Sort(all)
	for _, name := range all {
		if !strings.HasPrefix(name, "secret") {
			want = append(want, name)
		}
	}
	list := func(after string, limit int) ([]chat.RoomState, bool, error) {
		return f.Rooms(t.Context(), bob, after, limit)
	}
	for _, limit := range []int{1, 2, 3, 50} {
		got, _ := pages(t, limit, list)
		assert.Equal(t, want, got, "limit %d", limit)
	}
	// Where one has something, a page does not wait for what comes behind a thousand others.
	asked.Store(0)
	page, more, err := f.Rooms(t.Context(), bob, "", 50)
	require.NoError(t, err)
	assert.True(t, more)
	assert.Len(t, page, 4)
	assert.Less(t, asked.Load(), int64(1500))

	got, sizes := pages(t, 50, func(after string, limit int) ([]chat.RoomState, bool, error) {
		return f.AllRooms(t.Context(), after, limit)
	})
	assert.Equal(t, all, got, "an operator sees all of them")
	assert.Len(t, sizes, (len(all)+49)/50)
}

// TestFewLookForRoomsForLong: whoever has nothing among very many rooms of others must not keep the store and the rule busy for everybody.
func TestFewLookForRoomsForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var (
			mu    sync.Mutex
			deep  = map[user.ID]bool{}
			pass  = make(chan struct{})
			hides = rule(func(who chat.Author, _ chat.Action, room string) error {
				if who == ada {
					return nil
				}
				if room >= "secret 2500" {
					mu.Lock()
					deep[who.ID] = true
					mu.Unlock()
					<-pass
				}
				return chat.ErrNotAllowed
			})
		)
		f := open(t, func(c *chat.Config, _ *store) { c.Access = hides })
		var all []string
		for i := range 3000 {
			all = append(all, fmt.Sprintf("secret %04d", i))
		}
		f.join(t, ada, all...)
		asks := func(ctx context.Context, name user.ID, after string) error {
			page, _, err := f.Rooms(ctx, chat.Author{ID: name, Name: "N"}, after, 0)
			if err == nil && len(page) > 0 {
				return errors.New("a room is not hidden")
			}
			return err
		}
		ended := make(chan error)
		for i := range 9 {
			go func() { ended <- asks(t.Context(), user.ID(fmt.Sprint("u", i)), "") }()
		}
		synctest.Wait()
		mu.Lock()
		assert.Len(t, deep, 2, "the others wait")
		mu.Unlock()
		page, _, err := f.Rooms(t.Context(), ada, "", 0)
		require.NoError(t, err, "who finds something does not wait")
		assert.Len(t, page, chat.MaxRoomPage)
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, asks(impatient, "z", ""), fault.Unavailable)
		close(pass)
		for range 9 {
			require.NoError(t, <-ended)
		}
		f.stop()
	})
}

func TestARuleThatFailsListsNothing(t *testing.T) {
	t.Parallel()
	away := fault.Wrap(fault.Unavailable, errors.New("the rule is away"))
	fails := func() error { return away }
	f := open(t, func(c *chat.Config, _ *store) {
		c.Access = rule(func(who chat.Author, _ chat.Action, room string) error {
			if who == bob && room == "room 3" {
				return fails()
			}
			return nil
		})
	})
	for i := range 10 {
		f.join(t, ada, fmt.Sprint("room ", i))
	}
	_, _, err := f.Rooms(t.Context(), bob, "", 0)
	require.ErrorIs(t, err, away)
	fails = func() error { panic("a mistake in the rule") }
	_, _, err = f.Rooms(t.Context(), bob, "", 0)
	require.ErrorContains(t, err, "a mistake in the rule")
	assert.Equal(t, fault.Internal, fault.KindOf(err))
}

func TestMyRoomsAreThoseThatOneMayRead(t *testing.T) {
	t.Parallel()
	f := open(t, func(c *chat.Config, _ *store) { c.Access = secretive(ada.ID, chat.ActionRead) })
	f.join(t, ada, "hall", "secret", "attic")
	f.join(t, bob, "hall", "secret")
	for _, room := range []string{"secret", "hall"} {
		_, err := f.Send(t.Context(), chat.Draft{Room: room, Author: bob, Text: "hello"})
		require.NoError(t, err)
	}
	var got []string
	behind := chat.Place{}
	for n := 0; ; n++ {
		require.Less(t, n, 10)
		rooms, next, err := f.MyRooms(t.Context(), ada, behind, 1)
		require.NoError(t, err)
		for _, r := range rooms {
			got = append(got, r.Room)
			assert.Equal(t, r.Room != "attic", r.Unread == 1, r.Room)
		}
		if next == nil {
			break
		}
		behind = *next
	}
	slices.Sort(got)
	assert.Equal(t, []string{"attic", "hall"}, got)
	rooms, next, err := f.MyRooms(t.Context(), bob, chat.Place{}, 0)
	require.NoError(t, err)
	assert.Nil(t, next)
	assert.Len(t, rooms, 2)
}

func TestAuthorsThatSomebodyMakesUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		author chat.Author
		ok     bool
	}{
		"the system":    {chat.System, true},
		"longest":       {chat.Author{ID: user.ID(strings.Repeat("é", chat.MaxAuthorID)), Name: strings.Repeat("é", user.MaxFullName)}, true},
		"no id":         {chat.Author{Name: "Bot"}, false},
		"no name":       {chat.Author{ID: "bot"}, false},
		"long id":       {chat.Author{ID: user.ID(strings.Repeat("b", chat.MaxAuthorID+1)), Name: "Bot"}, false},
		"long name":     {chat.Author{ID: "bot", Name: strings.Repeat("b", user.MaxFullName+1)}, false},
		"bad UTF-8":     {chat.Author{ID: "bot\xff", Name: "Bot"}, false},
		"NUL":           {chat.Author{ID: "bot", Name: "Bo\x00t"}, false},
		"only spaces":   {chat.Author{ID: "bot", Name: "  "}, false},
		"turned around": {chat.Author{ID: "bot", Name: "Bot\u202e"}, false},
	} {
		err := chat.CheckAuthor(c.author)
		if c.ok {
			assert.NoError(t, err, name)
		} else {
			assert.ErrorIs(t, err, chat.ErrAuthorInvalid, name)
		}
	}
}
