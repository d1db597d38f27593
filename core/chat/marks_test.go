package chat_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// marks counts calls and can be told what to do with a Mark.
type marks struct {
	chat.Marks
	calls  atomic.Int64
	onMark func(marks []chat.Mark) error
}

func (m *marks) Mark(ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
	m.calls.Add(1)
	if m.onMark != nil {
		if err := m.onMark(moved); err != nil {
			return nil, err
		}
	}
	return m.Marks.Mark(ctx, moved)
}

// rule is an Access that is a function.
type rule func(who chat.Author, what chat.Action, room string) error

func (r rule) May(_ context.Context, who chat.Author, what chat.Action, room string) error {
	return r(who, what, room)
}

// openMarks opens a service where ada and bob are members of the room "hall", which has five messages of bob.
func openMarks(t *testing.T, change func(*chat.Config, *marks)) (*fixture, *marks) {
	t.Helper()
	var counted *marks
	f := open(t, func(c *chat.Config, _ *store) {
		counted = &marks{Marks: c.Marks}
		c.Marks = counted
		if change != nil {
			change(c, counted)
		}
	})
	for _, who := range []chat.Author{ada, bob} {
		m, err := f.Join(t.Context(), who, "hall")
		require.NoError(t, err)
		assert.Equal(t, who.ID, m.UserID)
		assert.Equal(t, "hall", m.Room)
		assert.Zero(t, m.Read)
		assert.False(t, m.Since.IsZero())
	}
	for range 5 {
		_, err := f.Send(t.Context(), chat.Draft{Room: "hall", Text: "x", Author: bob})
		require.NoError(t, err)
	}
	return f, counted
}

func TestMarksAreStoredAndTold(t *testing.T) {
	f, _ := openMarks(t, nil)
	var mu sync.Mutex
	var told []chat.Mark
	f.OnMarked(func(m chat.Mark) { mu.Lock(); defer mu.Unlock(); told = append(told, m) })
	twice := 0
	f.OnMarked(func(chat.Mark) { mu.Lock(); defer mu.Unlock(); twice++ })
	for _, c := range []struct {
		name string
		read uint64
		want chat.Marked
	}{
		{"asked", 0, chat.Marked{Unread: 5}},
		{"moved", 3, chat.Marked{Read: 3, Unread: 2, Moved: true}},
		{"again", 3, chat.Marked{Read: 3, Unread: 2}},
		{"back", 1, chat.Marked{Read: 3, Unread: 2}},
		{"behind the end", 1 << 60, chat.Marked{Read: 5, Moved: true}},
	} {
		got, err := f.Mark(t.Context(), chat.Mark{Room: "hall", User: ada, Read: c.read})
		require.NoError(t, err, c.name)
		assert.Equal(t, c.want, got, c.name)
	}
	m, err := f.Join(t.Context(), ada, "hall")
	require.NoError(t, err)
	assert.EqualValues(t, 5, m.Read, "joining again has what is stored")
	f.send(t, "hall", "what one sends", "")
	m, err = f.Join(t.Context(), ada, "hall")
	require.NoError(t, err)
	assert.EqualValues(t, 6, m.Read)
	f.stop()
	assert.Equal(t, []chat.Mark{{Room: "hall", User: ada, Read: 3}, {Room: "hall", User: ada, Read: 5}}, told, "what has moved, and how far")
	assert.Equal(t, 2, twice, "everybody who wants to hear it")
}

func TestMarksThatMayNotBeAreRefused(t *testing.T) {
	unknown := errors.New("unknown")
	f, counted := openMarks(t, func(c *chat.Config, _ *marks) {
		c.Access = rule(func(_ chat.Author, what chat.Action, room string) error {
			switch {
			case room == "closed" && what == chat.ActionRead:
				return chat.ErrNotAllowed
			case room == "unknown":
				return fault.Wrap(fault.Unavailable, unknown)
			}
			return nil
		})
	})
	stranger := chat.Author{ID: "u-stranger"}
	for name, c := range map[string]struct {
		m      chat.Mark
		want   error
		stored bool // the store is asked
	}{
		"no room":                 {chat.Mark{User: ada}, chat.ErrRoomInvalid, false},
		"a room that cannot be":   {chat.Mark{Room: "a\x00", User: ada}, chat.ErrRoomInvalid, false},
		"somebody else's room":    {chat.Mark{Room: "hall", User: stranger, Read: 1}, chat.ErrNotMember, true},
		"a room that is not":      {chat.Mark{Room: "nowhere", User: ada, Read: 1}, chat.ErrNotMember, true},
		"who may not read":        {chat.Mark{Room: "closed", User: ada, Read: 1}, chat.ErrNotAllowed, false},
		"when that is not known":  {chat.Mark{Room: "unknown", User: ada, Read: 1}, unknown, false},
		"another room by a space": {chat.Mark{Room: "hall ", User: ada, Read: 1}, chat.ErrRoomInvalid, false},
	} {
		t.Run(name, func(t *testing.T) {
			calls := counted.calls.Load()
			got, err := f.Mark(t.Context(), c.m)
			require.ErrorIs(t, err, c.want)
			assert.Zero(t, got)
			settled := make(chan error, 1)
			err = f.SubmitMark(t.Context(), c.m, func(m chat.Marked, err error) { assert.Zero(t, m); settled <- err })
			if c.stored {
				require.NoError(t, err)
				err = <-settled
			}
			require.ErrorIs(t, err, c.want)
			assert.Equal(t, c.stored, counted.calls.Load() > calls)
		})
	}
	got, err := f.Mark(t.Context(), chat.Mark{Room: "hall", User: ada})
	require.NoError(t, err)
	assert.Equal(t, chat.Marked{Unread: 5}, got)
}

// Marks that wait while others are stored are one call, in the order in which they came, whoever among them is no member.
func TestMarksThatWaitAreOneBatch(t *testing.T) {
	entered, release := make(chan int, 8), make(chan struct{})
	f, counted := openMarks(t, func(_ *chat.Config, m *marks) {
		m.onMark = func(batch []chat.Mark) error { entered <- len(batch); <-release; return nil }
	})
	var told []chat.Mark
	f.OnMarked(func(m chat.Mark) { told = append(told, m) })
	type answer struct {
		chat.Marked
		err error
	}
	var answers []answer
	submit := func(who chat.Author, read uint64) {
		require.NoError(t, f.SubmitMark(t.Context(), chat.Mark{Room: "hall", User: who, Read: read}, func(m chat.Marked, err error) { answers = append(answers, answer{m, err}) }))
	}
	submit(ada, 0)
	assert.Equal(t, 1, <-entered)
	submit(ada, 2)
	submit(chat.Author{ID: "u-stranger"}, 2)
	submit(ada, 1)
	submit(ada, 4)
	for range 100 {
		submit(bob, 5)
	}
	assert.Empty(t, answers, "nothing is answered before it is stored")
	close(release)
	f.stop()
	assert.Equal(t, 104, <-entered)
	assert.EqualValues(t, 2, counted.calls.Load())
	require.Len(t, answers, 105)
	assert.Equal(t, []answer{
		{chat.Marked{Unread: 5}, nil}, {chat.Marked{Read: 2, Unread: 3, Moved: true}, nil}, {chat.Marked{}, chat.ErrNotMember},
		{chat.Marked{Read: 2, Unread: 3}, nil}, {chat.Marked{Read: 4, Unread: 1, Moved: true}, nil}, {chat.Marked{Read: 5}, nil},
	}, answers[:6])
	assert.Equal(t, []chat.Mark{{Room: "hall", User: ada, Read: 2}, {Room: "hall", User: ada, Read: 4}}, told)
}

func TestMarksAreBounded(t *testing.T) {
	var largest atomic.Int64
	entered, release := make(chan struct{}, 64), make(chan struct{})
	f, _ := openMarks(t, func(c *chat.Config, m *marks) {
		c.MaxBatch, c.MaxPending = 4, 10
		m.onMark = func(batch []chat.Mark) error {
			largest.Store(max(largest.Load(), int64(len(batch))))
			entered <- struct{}{}
			<-release
			return nil
		}
	})
	submit := func() error {
		return f.SubmitMark(t.Context(), chat.Mark{Room: "hall", User: ada, Read: 1}, func(chat.Marked, error) {})
	}
	require.NoError(t, submit())
	<-entered
	for range 10 {
		require.NoError(t, submit())
	}
	require.ErrorIs(t, submit(), chat.ErrBusy, "more than MaxPending are refused")
	f.send(t, "hall", "messages have a queue of their own", "")
	close(release)
	f.stop()
	assert.EqualValues(t, 4, largest.Load())
	require.ErrorIs(t, submit(), chat.ErrClosed)
	_, err := f.Mark(t.Context(), chat.Mark{Room: "hall", User: ada})
	require.ErrorIs(t, err, chat.ErrClosed)
}

// A store that is lost fails the whole batch, once: the outcome is unknown, and nobody is told anything.
func TestAMarkOfUnknownOutcomeIsNotTold(t *testing.T) {
	gone := true
	f, counted := openMarks(t, func(_ *chat.Config, m *marks) {
		m.onMark = func([]chat.Mark) error {
			if gone {
				return fault.Wrap(fault.Unavailable, errors.New("gone"))
			}
			return nil
		}
	})
	told := 0
	f.OnMarked(func(chat.Mark) { told++ })
	got, err := f.Mark(t.Context(), chat.Mark{Room: "hall", User: ada, Read: 3})
	require.ErrorIs(t, err, fault.Unavailable)
	assert.Zero(t, got)
	assert.EqualValues(t, 1, counted.calls.Load())
	gone = false
	got, err = f.Mark(t.Context(), chat.Mark{Room: "hall", User: ada, Read: 3})
	require.NoError(t, err)
	assert.Equal(t, chat.Marked{Read: 3, Unread: 2, Moved: true}, got)
	f.stop()
	assert.Equal(t, 1, told)
}

func TestMarkGivesUpWithItsContext(t *testing.T) {
	release := make(chan struct{})
	f, _ := openMarks(t, func(_ *chat.Config, m *marks) {
		m.onMark = func([]chat.Mark) error { <-release; return nil }
	})
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := f.Mark(ctx, chat.Mark{Room: "hall", User: ada, Read: 1})
		done <- err
	}()
	cancel()
	require.ErrorIs(t, <-done, fault.Unavailable)
	_, err := f.Mark(ctx, chat.Mark{Room: "hall", User: ada, Read: 1})
	require.ErrorIs(t, err, fault.Unavailable, "and with one that has ended")
}

// A room is one room, however its name is typed.
func TestMarksAreOfRoomsInOneForm(t *testing.T) {
	f, _ := openMarks(t, func(c *chat.Config, _ *marks) { c.Normalize = norm.NFC.String })
	const composed, decomposed = "caf\u00e9", "cafe\u0301"
	_, err := f.Join(t.Context(), ada, decomposed)
	require.NoError(t, err)
	_, err = f.Send(t.Context(), chat.Draft{Room: composed, Text: "x", Author: bob})
	require.NoError(t, err)
	var told []chat.Mark
	f.OnMarked(func(m chat.Mark) { told = append(told, m) })
	got, err := f.Mark(t.Context(), chat.Mark{Room: decomposed, User: ada, Read: 1})
	require.NoError(t, err)
	assert.Equal(t, chat.Marked{Read: 1, Moved: true}, got)
	f.stop()
	assert.Equal(t, []chat.Mark{{Room: composed, User: ada, Read: 1}}, told)
}

// A list of rooms begins with the one that was active last, and goes on behind a place.
func TestMineIsPaged(t *testing.T) {
	f, _ := openMarks(t, func(c *chat.Config, _ *marks) { c.MaxPage = 2 })
	for _, room := range []string{"attic", "cellar", "yard"} {
		_, err := f.Join(t.Context(), ada, room)
		require.NoError(t, err)
	}
	_, err := f.Send(t.Context(), chat.Draft{Room: "attic", Text: "last", Author: bob})
	require.NoError(t, err)
	var names []string
	for place := (chat.Place{}); ; {
		rooms, err := f.Mine(t.Context(), ada.ID, place, 0)
		require.NoError(t, err)
		if len(rooms) == 0 {
			break
		}
		assert.LessOrEqual(t, len(rooms), 2)
		for i, r := range rooms {
			names = append(names, r.Room)
			if i > 0 {
				assert.False(t, r.Active.After(rooms[i-1].Active))
			}
			switch r.Room {
			case "hall":
				assert.Equal(t, []uint64{5, 0, 5}, []uint64{r.Seq, r.Read, r.Unread})
				assert.EqualValues(t, 5, r.Last.Seq)
			case "attic":
				assert.Equal(t, []uint64{1, 0, 1}, []uint64{r.Seq, r.Read, r.Unread})
				assert.Equal(t, "last", r.Last.Text)
			default:
				assert.Zero(t, r.Last.Seq)
			}
		}
		place = rooms[len(rooms)-1].Place()
	}
	assert.Equal(t, "attic", names[0])
	assert.ElementsMatch(t, []string{"attic", "cellar", "hall", "yard"}, names)
	for limit, want := range map[int]int{1: 1, 2: 2, 3: 2, -1: 2} {
		rooms, err := f.Mine(t.Context(), ada.ID, chat.Place{}, limit)
		require.NoError(t, err)
		assert.Len(t, rooms, want, limit)
	}
	rooms, err := f.Mine(t.Context(), "u-stranger", chat.Place{}, 0)
	require.NoError(t, err)
	assert.Empty(t, rooms)
}

// brokenMine is a store that cannot be read.
type brokenMine struct{ chat.Marks }

func (brokenMine) Mine(context.Context, user.ID, chat.Place, int) ([]chat.MyRoom, error) {
	return nil, fault.Wrap(fault.Unavailable, errors.New("gone"))
}

func TestMineSaysThatTheStoreIsLost(t *testing.T) {
	f := open(t, func(c *chat.Config, _ *store) { c.Marks = brokenMine{c.Marks} })
	_, err := f.Mine(t.Context(), ada.ID, chat.Place{}, 0)
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorContains(t, err, "read rooms")
}
