package chat_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

func TestApplyErase(t *testing.T) {
	t.Parallel()
	m := chat.Message{
		Room: "hall", Seq: 3, ID: "m", ClientID: "c", Author: ada, Text: "hi", At: noon, ReplyTo: 1, Data: `{"a":1}`, Rev: 4,
		EditedAt: noon, Reactions: []chat.Reaction{reactions("x", 2)},
	}
	c := chat.Change{Kind: chat.Erase, Room: "hall", Seq: 3, By: chat.Author{ID: ada.ID}, At: noon.Add(1000)}
	want := chat.Message{Room: "hall", Seq: 3, ID: "m", Author: chat.Author{ID: ada.ID, Name: user.ErasedName}, At: noon, Rev: 4, DeletedAt: c.At}
	got, changed, err := c.Apply(m, false)
	require.NoError(t, err)
	assert.True(t, changed)
	assert.Equal(t, want, got)
	got, changed, err = c.Apply(want, false)
	require.NoError(t, err)
	assert.False(t, changed)
	assert.Equal(t, want, got)
	gone := m
	gone.Text, gone.Data, gone.ReplyTo, gone.Reactions, gone.DeletedAt = "", "", 0, nil, noon
	got, changed, err = c.Apply(gone, false)
	require.NoError(t, err)
	assert.True(t, changed, "what was deleted has a name still")
	want.DeletedAt = noon
	assert.Equal(t, want, got)
	for _, anybody := range []bool{false, true} {
		c.By, c.Any = bob, anybody
		_, _, err = c.Apply(m, false)
		require.ErrorIs(t, err, chat.ErrNotAllowed)
	}
	c = chat.Change{Kind: chat.Erase, Room: "hall", Seq: 3, By: ada}
	_, _, err = c.Apply(m, false)
	require.ErrorIs(t, err, fault.Invalid, "it has no time")
}

// everything returns the messages of a room.
func (f *fixture) everything(t *testing.T, room string) []chat.Message {
	t.Helper()
	all, err := f.store.List(t.Context(), room, chat.Range{Limit: 10_000})
	require.NoError(t, err)
	return all
}

func (f *fixture) says(t *testing.T, who chat.Author, room, text string) chat.Stored {
	t.Helper()
	m, err := f.Send(t.Context(), chat.Draft{Room: room, Author: who, Text: text, Data: `{"a":1}`, ClientID: strings.ReplaceAll(text, " ", "-")})
	require.NoError(t, err)
	return m
}

func (f *fixture) reacts(t *testing.T, who chat.Author, room string, seq uint64, key string) {
	t.Helper()
	_, err := f.Change(t.Context(), chat.Change{Kind: chat.React, Room: room, Seq: seq, By: who, Key: key})
	require.NoError(t, err)
}

func TestEraseAuthor(t *testing.T) {
	t.Parallel()
	f := open(t, nil)
	told := make(chan chat.Message, 10_000)
	f.OnChanged(func(m chat.Message) { told <- m })
	const many = 450 // more than a page, and than are erased at a time
	for _, room := range []string{"hall", "left", "quiet"} {
		for _, who := range []chat.Author{ada, bob} {
			_, err := f.Join(t.Context(), who, room)
			require.NoError(t, err)
		}
	}
	for i := range many {
		f.says(t, []chat.Author{ada, bob, ada}[i%3], "hall", fmt.Sprint("canary ", i))
	}
	f.says(t, ada, "left", "canary")
	require.NoError(t, f.Leave(t.Context(), ada.ID, "left"))
	_, err := f.Change(t.Context(), chat.Change{Kind: chat.Delete, Room: "hall", Seq: 1, By: ada})
	require.NoError(t, err)
	for i := range chat.MaxReactionUsers + 5 { // she is not named
		f.reacts(t, chat.Author{ID: user.ID(fmt.Sprint("u", i)), Name: "U"}, "hall", 2, "👍")
	}
	f.reacts(t, ada, "hall", 2, "👍")
	f.reacts(t, ada, "hall", 5, "🐴")
	f.reacts(t, bob, "hall", 3, "👍") // to what she has said

	done, err := f.EraseAuthor(t.Context(), ada.ID, nil)
	require.NoError(t, err)
	assert.Equal(t, chat.AuthorErasure{Memberships: 2, Messages: many/3*2 + 1, Reactions: 2}, done)
	bobs := 0
	for _, room := range []string{"hall", "left"} {
		for _, m := range f.everything(t, room) {
			if m.Author.ID == bob.ID {
				bobs++
				assert.Equal(t, bob, m.Author)
				assert.Contains(t, m.Text, "canary")
				continue
			}
			assert.Equal(t, chat.Message{Room: room, Seq: m.Seq, ID: m.ID, Author: chat.Author{ID: ada.ID, Name: user.ErasedName}, At: m.At, Rev: m.Rev, DeletedAt: m.DeletedAt}, m)
			assert.False(t, m.DeletedAt.IsZero())
		}
	}
	assert.Equal(t, many/3, bobs)
	hall := f.everything(t, "hall")
	require.Len(t, hall[1].Reactions, 1)
	assert.Equal(t, chat.MaxReactionUsers+5, hall[1].Reactions[0].Count)
	assert.Empty(t, hall[4].Reactions)
	left, err := f.RoomsOf(t.Context(), ada.ID, "", 10)
	require.NoError(t, err)
	assert.Empty(t, left)
	heard := map[uint64]bool{}
	for len(told) > 0 {
		if m := <-told; m.Room == "hall" && m.Author.Name == user.ErasedName {
			heard[m.Seq] = true
		}
	}
	assert.Len(t, heard, many/3*2, "everybody who is there is told")
	newest, err := f.Newest(t.Context(), "hall", chat.Reach{Seq: uint64(many)})
	require.NoError(t, err)
	for _, m := range newest.Messages {
		assert.Equal(t, m.Author.ID == ada.ID, m.Text == "", "the cache forgets as well")
	}

	before := f.store.changes.Load()
	done, err = f.EraseAuthor(t.Context(), ada.ID, nil)
	require.NoError(t, err)
	assert.Zero(t, done, "again")
	assert.LessOrEqual(t, f.store.changes.Load()-before, int64(2), "nothing is stored")
	done, err = f.EraseAuthor(t.Context(), "nobody", nil)
	require.NoError(t, err)
	assert.Zero(t, done)
}

// What comes while the author is erased is found, as long as it ends.
func TestEraseAuthorFindsWhatComesMeanwhile(t *testing.T) {
	t.Parallel()
	for name, lasts := range map[string]int64{"it ends": 3, "it does not end": 1 << 30} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var said atomic.Int64
			f := open(t, func(_ *chat.Config, s *store) {
				s.onChange = func(changes []chat.Change) error {
					if changes[0].Kind == chat.Erase && said.Add(1) <= lasts {
						_, err := s.MessageStore.Append(context.Background(), []chat.Message{{Room: "hall", ID: fmt.Sprint("late", said.Load()), Author: ada, Text: "canary", At: noon}})
						return err
					}
					return nil
				}
			})
			_, err := f.Join(t.Context(), ada, "hall")
			require.NoError(t, err)
			f.says(t, ada, "hall", "canary")
			done, err := f.EraseAuthor(t.Context(), ada.ID, nil)
			if lasts > 3 {
				require.ErrorIs(t, err, chat.ErrStillTalking)
				return
			}
			require.NoError(t, err)
			assert.EqualValues(t, lasts+1, done.Messages)
			for _, m := range f.everything(t, "hall") {
				assert.Empty(t, m.Text)
			}
		})
	}
}

// What was erased by somebody who did not live to tell the cache is gone from there when it is erased again.
func TestEraseAuthorAgainMendsTheCache(t *testing.T) {
	t.Parallel()
	cache := memory.NewRecentCache(memory.RecentCacheConfig{})
	f := open(t, func(c *chat.Config, _ *store) { c.Cache = cache })
	f.says(t, ada, "hall", "canary")
	_, err := f.Join(t.Context(), bob, "hall")
	require.NoError(t, err)
	told := make(chan chat.Message, 16)
	f.OnChanged(func(m chat.Message) { told <- m })
	_, err = f.store.Change(t.Context(), []chat.Change{{Kind: chat.Erase, Room: "hall", Seq: 1, By: chat.Author{ID: ada.ID, Name: user.ErasedName}, At: noon}})
	require.NoError(t, err)
	held, _, err := cache.Get(t.Context(), "hall")
	require.NoError(t, err)
	require.Equal(t, "canary", held.Messages[0].Text, "so it is after a kill")

	_, err = f.EraseAuthor(t.Context(), ada.ID, nil)
	require.NoError(t, err)
	select {
	case m := <-told: // once the cache has it
		assert.Empty(t, m.Text)
	case <-time.After(30 * time.Second):
		t.Fatal("nobody was told")
	}
	held, _, err = cache.Get(t.Context(), "hall")
	require.NoError(t, err)
	for _, m := range held.Messages {
		assert.Empty(t, m.Text)
	}
}

// A room that lags behind is not given more to deliver.
func TestEraseAuthorWaitsForARoomThatLagsBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var changed atomic.Int64
		f := open(t, func(_ *chat.Config, s *store) {
			s.onChange = func(changes []chat.Change) error { changed.Add(int64(len(changes))); return nil }
		})
		_, err := f.Join(t.Context(), ada, "hall")
		require.NoError(t, err)
		f.says(t, ada, "hall", "canary")
		var lags atomic.Bool
		lags.Store(true)
		f.RefuseBy(func(room string) error {
			if lags.Load() {
				return chat.ErrBusy
			}
			return nil
		})
		ended := make(chan error, 1)
		go func() { _, err := f.EraseAuthor(t.Context(), ada.ID, nil); ended <- err }()
		time.Sleep(time.Minute) // of the bubble
		synctest.Wait()
		assert.Zero(t, changed.Load())
		lags.Store(false)
		require.NoError(t, <-ended)
		assert.EqualValues(t, 1, changed.Load())
		f.stop()
	})
}

func TestTheSystemIsNotErased(t *testing.T) {
	t.Parallel()
	f := open(t, nil)
	f.says(t, chat.System, "hall", "Welcome")
	_, err := f.EraseAuthor(t.Context(), chat.System.ID, nil)
	require.ErrorIs(t, err, user.ErrNotFound)
	assert.Equal(t, "Welcome", f.everything(t, "hall")[0].Text)
}

// A store that fails stops it; called again, it goes on.
func TestEraseAuthorGoesOn(t *testing.T) {
	t.Parallel()
	fails := errors.New("the store is away")
	var calls atomic.Int64
	f := open(t, func(_ *chat.Config, s *store) {
		s.onChange = func([]chat.Change) error {
			if calls.Add(1) == 2 {
				return fault.Wrap(fault.Unavailable, fails)
			}
			return nil
		}
	})
	_, err := f.Join(t.Context(), ada, "hall")
	require.NoError(t, err)
	for i := range 250 {
		f.says(t, ada, "hall", fmt.Sprint("canary ", i))
	}
	first, err := f.EraseAuthor(t.Context(), ada.ID, nil)
	require.ErrorIs(t, err, fault.Unavailable)
	assert.Positive(t, first.Messages)
	second, err := f.EraseAuthor(t.Context(), ada.ID, nil)
	require.NoError(t, err)
	assert.Equal(t, 250, first.Messages+second.Messages)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = f.EraseAuthor(ctx, ada.ID, nil)
	require.Error(t, err)
}

func TestExportAuthor(t *testing.T) {
	t.Parallel()
	f := open(t, nil)
	for _, room := range []string{"a", "b"} {
		_, err := f.Join(t.Context(), ada, room)
		require.NoError(t, err)
	}
	for i := range 450 {
		f.says(t, []chat.Author{ada, bob}[i%2], "a", fmt.Sprint("canary ", i))
	}
	f.says(t, bob, "b", "hi")
	f.reacts(t, ada, "b", 1, "👍")
	require.NoError(t, f.Leave(t.Context(), ada.ID, "a"))
	var members, said, reacted []string
	v := chat.AuthorVisitor{
		Membership: func(m chat.Membership) error { members = append(members, m.Room); return nil },
		Message: func(m chat.Message) error {
			assert.Equal(t, ada, m.Author)
			said = append(said, m.Text)
			return nil
		},
		Reaction: func(m chat.Message, key string) error {
			reacted = append(reacted, fmt.Sprint(m.Room, m.Seq, key))
			return nil
		},
	}
	require.NoError(t, f.ExportAuthor(t.Context(), ada.ID, v))
	assert.Equal(t, []string{"b"}, members)
	assert.Len(t, said, 225)
	assert.Equal(t, []string{"b1👍"}, reacted)
	enough := errors.New("enough")
	v.Message = func(chat.Message) error { return enough }
	require.ErrorIs(t, f.ExportAuthor(t.Context(), ada.ID, v), enough)
}
