package chat_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// userSettings counts reads, and can be told what to do with one.
type userSettings struct {
	chat.Settings
	reads atomic.Int64
	onOf  func(ids []user.ID, found map[user.ID]chat.UserSettings) error
}

func (s *userSettings) Of(ctx context.Context, ids ...user.ID) (map[user.ID]chat.UserSettings, error) {
	s.reads.Add(1)
	found, err := s.Settings.Of(ctx, ids...)
	if err == nil && s.onOf != nil {
		err = s.onOf(ids, found)
	}
	return found, err
}

// heardMarks is what a service tells of marks.
type heardMarks struct {
	mu  sync.Mutex
	all []chat.Mark
}

// openSettings opens the service of openMarks with settings.
func openSettings(t *testing.T, change func(*chat.Config, *userSettings)) (*fixture, *userSettings, *heardMarks) {
	t.Helper()
	kept := &userSettings{Settings: memory.NewSettings()}
	f, _ := openMarks(t, func(c *chat.Config, _ *marks) {
		c.Settings, c.Restrictions = kept, memory.NewRestrictions(nil)
		if change != nil {
			change(c, kept)
		}
	})
	heard := &heardMarks{}
	f.OnMarked(func(m chat.Mark) { heard.mu.Lock(); defer heard.mu.Unlock(); heard.all = append(heard.all, m) })
	return f, kept, heard
}

// hides marks, and returns how far: of each mark whether it is hidden.
func (f *fixture) hides(t *testing.T, h *heardMarks, who chat.Author, reads ...uint64) []bool {
	t.Helper()
	var hidden []bool
	for _, read := range reads {
		_, err := f.Mark(t.Context(), chat.Mark{Room: "hall", User: who, Read: read, Hidden: true}) // which does not count
		require.NoError(t, err)
		_, err = f.Mark(t.Context(), chat.Mark{Room: "hall", User: who}) // what was told before is heard by now
		require.NoError(t, err)
		h.mu.Lock()
		for _, m := range h.all {
			assert.Equal(t, chat.Mark{Room: "hall", User: who, Read: read, Hidden: m.Hidden}, m)
			hidden = append(hidden, m.Hidden)
		}
		h.all = nil
		h.mu.Unlock()
	}
	return hidden
}

func TestWhoSetsThatNobodyIsToldIsHidden(t *testing.T) {
	f, kept, heard := openSettings(t, nil)
	var changed []user.ID
	f.OnSettings(func(id user.ID) { changed = append(changed, id) })
	set, err := f.UserSettings(t.Context(), ada.ID)
	require.NoError(t, err)
	assert.Equal(t, chat.UserSettings{}, set, "until something is set, others are told")
	assert.Equal(t, []bool{false, false}, f.hides(t, heard, ada, 1, 2))
	require.NoError(t, f.SetUserSettings(t.Context(), ada.ID, chat.UserSettings{HidesRead: true}))
	assert.Equal(t, []bool{true, true}, f.hides(t, heard, ada, 3, 4), "from the next mark on")
	set, err = f.UserSettings(t.Context(), ada.ID)
	require.NoError(t, err)
	assert.Equal(t, chat.UserSettings{HidesRead: true}, set)
	hidden, err := f.ReadHidden(t.Context(), ada.ID, bob.ID)
	require.NoError(t, err)
	assert.Equal(t, map[user.ID]bool{ada.ID: true}, hidden)
	require.NoError(t, f.SetUserSettings(t.Context(), ada.ID, chat.UserSettings{}))
	assert.Equal(t, []bool{false}, f.hides(t, heard, ada, 5))
	assert.Equal(t, []user.ID{ada.ID, ada.ID}, changed)

	// Another node has changed it.
	f.send(t, "hall", "x", "")
	require.NoError(t, kept.Put(t.Context(), bob.ID, chat.UserSettings{HidesRead: true}))
	assert.Equal(t, []bool{true}, f.hides(t, heard, bob, 6))
	require.NoError(t, kept.Put(t.Context(), bob.ID, chat.UserSettings{}))
	f.send(t, "hall", "y", "")
	assert.Equal(t, []bool{true}, f.hides(t, heard, bob, 7), "this node does not know")
	f.ForgetSettings(bob.ID)
	f.send(t, "hall", "z", "")
	assert.Equal(t, []bool{false}, f.hides(t, heard, bob, 8))
}

// A user's settings are read with their first mark, and neither with another one, nor with one that moves nothing, nor with a join or a message.
func TestMarksOfWhomIsKnownReadNoSettings(t *testing.T) {
	f, kept, heard := openSettings(t, nil)
	_, err := f.Mark(t.Context(), chat.Mark{Room: "hall", User: ada})
	require.NoError(t, err)
	assert.Zero(t, kept.reads.Load(), "nothing has moved, and who has joined and written was not asked about")
	for range 100 {
		_, err := f.Send(t.Context(), chat.Draft{Room: "hall", Text: "x", Author: bob})
		require.NoError(t, err)
	}
	for read := range uint64(100) {
		f.hides(t, heard, ada, read+1)
	}
	assert.EqualValues(t, 1, kept.reads.Load())
	f.ForgetSettings(bob.ID)
	f.hides(t, heard, ada, 101)
	assert.EqualValues(t, 1, kept.reads.Load(), "who has changed nothing is not asked about again")
	f.ForgetSettings(ada.ID)
	f.hides(t, heard, ada, 102, 103)
	assert.EqualValues(t, 2, kept.reads.Load())
}

// What several who are not known have marked together is one read.
func TestTheSettingsOfABatchAreReadTogether(t *testing.T) {
	entered, release := make(chan struct{}, 8), make(chan struct{})
	var asked [][]user.ID
	f, kept, heard := openSettings(t, func(c *chat.Config, s *userSettings) {
		c.Marks.(*marks).onMark = func([]chat.Mark) error { entered <- struct{}{}; <-release; return nil }
		s.onOf = func(ids []user.ID, _ map[user.ID]chat.UserSettings) error { asked = append(asked, ids); return nil }
	})
	who := []chat.Author{ada, {ID: "u-c"}, {ID: "u-d"}, {ID: "u-stranger"}}
	for _, w := range who[:3] {
		_, err := f.Join(t.Context(), w, "other")
		require.NoError(t, err)
	}
	for range 3 {
		_, err := f.Send(t.Context(), chat.Draft{Room: "other", Text: "x", Author: bob})
		require.NoError(t, err)
	}
	require.NoError(t, kept.Put(t.Context(), "u-d", chat.UserSettings{HidesRead: true}))
	var wg sync.WaitGroup
	mark := func(w chat.Author, read uint64) {
		wg.Add(1)
		require.NoError(t, f.SubmitMark(t.Context(), chat.Mark{Room: "other", User: w, Read: read}, func(chat.Marked, error) { wg.Done() }))
	}
	mark(ada, 1)
	<-entered
	for i, w := range who {
		mark(w, uint64(2+i%2))
	}
	mark(ada, 3)
	close(release)
	wg.Wait()
	f.stop()
	assert.Equal(t, [][]user.ID{{ada.ID}, {"u-c", "u-d"}}, asked)
	assert.Equal(t, []chat.Mark{
		{Room: "other", User: ada, Read: 1}, {Room: "other", User: ada, Read: 2}, {Room: "other", User: who[1], Read: 3}, {Room: "other", User: who[2], Read: 2, Hidden: true},
		{Room: "other", User: ada, Read: 3},
	}, heard.all)
}

// What cannot be read counts as hidden, harms no mark, and is read again with the next one.
func TestWhileSettingsCannotBeReadNobodyIsTold(t *testing.T) {
	away := true
	f, _, heard := openSettings(t, func(_ *chat.Config, s *userSettings) {
		s.onOf = func([]user.ID, map[user.ID]chat.UserSettings) error {
			if away {
				return errors.New("the store is away")
			}
			return nil
		}
	})
	assert.Equal(t, []bool{true, true}, f.hides(t, heard, ada, 1, 2))
	away = false
	assert.Equal(t, []bool{false}, f.hides(t, heard, ada, 3))
}

// What changes while it is read is read again, and not remembered as it was.
func TestSettingsThatChangeWhileTheyAreReadAreReadAgain(t *testing.T) {
	first := true
	var f *fixture
	f, kept, heard := openSettings(t, func(_ *chat.Config, s *userSettings) {
		s.onOf = func([]user.ID, map[user.ID]chat.UserSettings) error { // read, and not yet answered
			if first {
				first = false
				return f.SetUserSettings(context.Background(), ada.ID, chat.UserSettings{HidesRead: true})
			}
			return nil
		}
	})
	f.hides(t, heard, ada, 1)
	assert.Equal(t, []bool{true, true}, f.hides(t, heard, ada, 2, 3))
	assert.EqualValues(t, 2, kept.reads.Load())
}

// failingSettings are those that do not answer.
type failingSettings struct{ chat.Settings }

func (failingSettings) Put(context.Context, user.ID, chat.UserSettings) error {
	return errors.New("no answer")
}

func TestSettingsThatFail(t *testing.T) {
	f, _, heard := openSettings(t, func(c *chat.Config, _ *userSettings) { c.Settings = failingSettings{c.Settings} })
	var changed []user.ID
	f.OnSettings(func(id user.ID) { changed = append(changed, id) })
	f.hides(t, heard, ada, 1)
	require.ErrorContains(t, f.SetUserSettings(t.Context(), ada.ID, chat.UserSettings{HidesRead: true}), "no answer")
	assert.Empty(t, changed)

	without := open(t, nil)
	assert.False(t, without.KeepsSettings())
	require.ErrorIs(t, without.SetUserSettings(t.Context(), ada.ID, chat.UserSettings{}), chat.ErrNoSettings)
	_, err := without.UserSettings(t.Context(), ada.ID)
	require.ErrorIs(t, err, chat.ErrNoSettings)
	hidden, err := without.ReadHidden(t.Context(), ada.ID)
	require.NoError(t, err)
	assert.Empty(t, hidden)
	_, err = chat.New(chat.Config{Settings: memory.NewSettings()})
	require.ErrorContains(t, err, "Restrictions")
}

func TestSettingsGoWithTheirUser(t *testing.T) {
	f, kept, _ := openSettings(t, nil)
	require.NoError(t, f.SetUserSettings(t.Context(), ada.ID, chat.UserSettings{HidesRead: true}))
	require.NoError(t, f.SetUserSettings(t.Context(), bob.ID, chat.UserSettings{HidesRead: true}))
	export := func() (all []chat.UserSettings) {
		require.NoError(t, f.ExportAuthor(t.Context(), ada.ID, chat.AuthorVisitor{
			Membership: func(chat.Membership) error { return nil }, Message: func(chat.Message) error { return nil },
			Reaction: func(chat.Message, string) error { return nil }, Settings: func(s chat.UserSettings) error { all = append(all, s); return nil },
		}))
		return all
	}
	assert.Equal(t, []chat.UserSettings{{HidesRead: true}}, export())
	var changed []user.ID
	f.OnSettings(func(id user.ID) { changed = append(changed, id) })
	for range 2 { // again is harmless
		_, err := f.EraseAuthor(t.Context(), ada.ID, nil)
		require.NoError(t, err)
	}
	assert.Equal(t, []user.ID{ada.ID}, changed)
	left, err := kept.Settings.Of(t.Context(), ada.ID, bob.ID)
	require.NoError(t, err)
	assert.Equal(t, map[user.ID]chat.UserSettings{bob.ID: {HidesRead: true}}, left)
	assert.Empty(t, export())
}
