package chat_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
)

// pruner is a chat.Pruner that can be told what to do.
type pruner struct {
	chat.Pruner
	ages, prunes atomic.Int64
	onAged       func(room string) error
	onPrune      func(room string, first uint64) error
}

func (p *pruner) Aged(ctx context.Context, room string, before time.Time, limit int) (uint64, int, error) {
	p.ages.Add(1)
	if p.onAged != nil {
		if err := p.onAged(room); err != nil {
			return 0, 0, err
		}
	}
	return p.Pruner.Aged(ctx, room, before, limit)
}

func (p *pruner) Prune(ctx context.Context, room string, first uint64) (int, error) {
	p.prunes.Add(1)
	if p.onPrune != nil {
		if err := p.onPrune(room, first); err != nil {
			return 0, err
		}
	}
	return p.Pruner.Prune(ctx, room, first)
}

// openPruning opens a service that can remove messages. change may be nil.
func openPruning(t *testing.T, change func(*chat.Config, *store, *pruner)) *fixture {
	t.Helper()
	return open(t, func(c *chat.Config, st *store) {
		p := &pruner{Pruner: memory.NewPruner(st.MessageStore.(*memory.Messages), c.Members.(*memory.Members), c.Rooms.(*memory.Rooms), nil)}
		c.Pruner = p
		if change != nil {
			change(c, st, p)
		}
	})
}

// everythingOld is later than any message.
var everythingOld = time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)

func TestPruneRemovesTheOldest(t *testing.T) {
	t.Parallel()
	now := noon
	var cache chat.RecentCache
	f := openPruning(t, func(c *chat.Config, _ *store, _ *pruner) { c.Now, cache = func() time.Time { return now }, c.Cache })
	for i := range 20 {
		now = noon.Add(time.Duration(i) * time.Minute)
		f.send(t, "hall", fmt.Sprint(i+1), fmt.Sprint("c", i+1))
	}
	_, err := f.Change(t.Context(), chat.Change{Kind: chat.React, Room: "hall", Seq: 2, By: ada, Key: "👍"})
	require.NoError(t, err)
	removed, err := f.Prune(t.Context(), "hall", noon.Add(14*time.Minute), 5)
	require.NoError(t, err)
	assert.Equal(t, 5, removed, "no more than was asked for")
	removed, err = f.Prune(t.Context(), "hall", noon.Add(14*time.Minute), 100)
	require.NoError(t, err)
	assert.Equal(t, 9, removed, "1 to 14 are older")
	removed, err = f.Prune(t.Context(), "hall", noon.Add(14*time.Minute), 100)
	require.NoError(t, err)
	assert.Zero(t, removed)

	held, _, err := cache.Get(t.Context(), "hall")
	require.NoError(t, err)
	assert.Equal(t, []uint64{15, 16, 17, 18, 19, 20}, sequences(held.Messages))
	p, err := f.Newest(t.Context(), "hall", chat.Reach{})
	require.NoError(t, err)
	assert.Equal(t, []uint64{15, 16, 17, 18, 19, 20}, sequences(p.Messages))
	assert.EqualValues(t, 20, p.Last)
	lists := f.store.lists.Load()
	_, err = f.Newest(t.Context(), "hall", chat.Reach{Seq: 20, Rev: 1})
	require.NoError(t, err)
	assert.Equal(t, lists, f.store.lists.Load(), "the cache knows that there are no more")

	for since, whole := range map[uint64]bool{0: false, 1: false, 13: false, 14: true, 15: true, 20: true, 21: false} {
		p, err := f.Since(t.Context(), "hall", chat.Point{Seq: since, Rev: new(uint64)}, chat.Reach{})
		require.NoError(t, err)
		assert.Equal(t, whole, p.Recovered, "since %d", since)
		assert.Empty(t, p.Changes, "the message that was changed is gone")
		assert.EqualValues(t, 1, p.Rev)
	}
	page, err := f.History(t.Context(), ada, "hall", chat.Range{Before: 17, Newest: true})
	require.NoError(t, err)
	assert.Equal(t, []uint64{15, 16}, sequences(page.Messages))
	assert.False(t, page.More)

	for _, kind := range []chat.ChangeKind{chat.Edit, chat.Delete, chat.React, chat.Unreact} {
		_, err = f.Change(t.Context(), chat.Change{Kind: kind, Room: "hall", Seq: 14, By: ada, Text: "x", Key: "x"})
		require.ErrorIs(t, err, chat.ErrMessageNotFound)
	}
	for _, seen := range []uint64{0, 20} {
		_, err = f.Send(t.Context(), chat.Draft{Room: "hall", Text: "x", Author: ada, ReplyTo: 14, Seen: seen})
		require.ErrorIs(t, err, chat.ErrReplyToInvalid)
		require.ErrorContains(t, err, "the room's first message is 15")
	}
	again := f.send(t, "hall", "again", "c3")
	assert.EqualValues(t, 21, again.Seq, "a client id of what is gone is a new one")
	reply, err := f.Send(t.Context(), chat.Draft{Room: "hall", Text: "x", Author: ada, ReplyTo: 15, Seen: 20})
	require.NoError(t, err)
	assert.EqualValues(t, 15, reply.ReplyTo)

	removed, err = f.Prune(t.Context(), "hall", everythingOld, 100)
	require.NoError(t, err)
	assert.Equal(t, 8, removed)
	for range 2 {
		p, err = f.Newest(t.Context(), "hall", chat.Reach{})
		require.NoError(t, err)
		assert.Empty(t, p.Messages)
		assert.EqualValues(t, 22, p.Last, "no number comes twice")
	}
	p, err = f.Since(t.Context(), "hall", chat.Point{Seq: 22}, chat.Reach{})
	require.NoError(t, err)
	assert.True(t, p.Recovered, "nothing came after it")
	p, err = f.Since(t.Context(), "hall", chat.Point{Seq: 21}, chat.Reach{})
	require.NoError(t, err)
	assert.False(t, p.Recovered)
	assert.EqualValues(t, 23, f.send(t, "hall", "x", "").Seq)
}

func TestPruneRefuses(t *testing.T) {
	t.Parallel()
	_, err := open(t, nil).Prune(t.Context(), "hall", noon, 1)
	require.ErrorIs(t, err, chat.ErrNoPruner)
	f := openPruning(t, nil)
	_, err = f.Prune(t.Context(), "", noon, 1)
	require.ErrorIs(t, err, chat.ErrRoomInvalid)
	removed, err := f.Prune(t.Context(), "nowhere", everythingOld, 1)
	require.NoError(t, err)
	assert.Zero(t, removed)
}

// Nothing is removed as long as a cache may serve it, and the cache has it no more when it is removed.
func TestPruneTakesFromTheCacheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := &fragile{RecentCache: memory.NewRecentCache(memory.RecentCacheConfig{})}
		f := openPruning(t, func(c *chat.Config, _ *store, p *pruner) {
			c.Cache = cache
			p.onPrune = func(room string, _ uint64) error {
				held, _, err := cache.RecentCache.Get(t.Context(), room)
				assert.NoError(t, err)
				assert.Empty(t, held.Messages)
				return nil
			}
		})
		for range 3 {
			f.send(t, "hall", "x", "")
		}
		cache.gone.Store(true)
		for range 2 { // the second time it is known to be away
			_, err := f.Prune(t.Context(), "hall", everythingOld, 10)
			require.ErrorIs(t, err, fault.Unavailable)
		}
		require.Len(t, f.everything(t, "hall"), 3)
		cache.gone.Store(false)
		time.Sleep(time.Minute)
		removed, err := f.Prune(t.Context(), "hall", everythingOld, 10)
		require.NoError(t, err)
		assert.Equal(t, 3, removed)
	})
}

// lagging is a store whose lists are long under way.
type lagging struct {
	chat.MessageStore
	after atomic.Pointer[func()]
}

func (l *lagging) List(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
	all, err := l.MessageStore.List(ctx, room, r)
	if after := l.after.Load(); after != nil {
		(*after)()
	}
	return all, err
}

// What was read before a removal does not come back into the cache after it.
func TestAPrunedMessageDoesNotComeBack(t *testing.T) {
	t.Parallel()
	slow := &lagging{}
	f := openPruning(t, func(c *chat.Config, st *store, _ *pruner) {
		slow.MessageStore = st.MessageStore
		c.Store = slow
	})
	_, err := slow.Append(t.Context(), slices.Repeat([]chat.Message{{Room: "hall", Author: ada, Text: "x", ID: "i", At: noon}}, 5)) // the cache is not told
	require.NoError(t, err)
	var once sync.Once
	prune := func() {
		once.Do(func() {
			removed, err := f.Prune(t.Context(), "hall", everythingOld, 3)
			assert.NoError(t, err)
			assert.Equal(t, 3, removed)
		})
	}
	slow.after.Store(&prune)
	_, err = f.Newest(t.Context(), "hall", chat.Reach{})
	require.NoError(t, err)
	p, err := f.Newest(t.Context(), "hall", chat.Reach{})
	require.NoError(t, err)
	assert.Equal(t, []uint64{4, 5}, sequences(p.Messages))
}

// A removal between the two reads of a page is noticed.
func TestAPageThatLostItsBeginningSaysSo(t *testing.T) {
	t.Parallel()
	for left, first := range map[int]uint64{0: 41, 10: 31} {
		f := openPruning(t, func(c *chat.Config, _ *store, _ *pruner) { c.Cache, c.Recent = forgetful{c.Cache}, 1 })
		for range 40 {
			f.send(t, "hall", "x", "")
		}
		lists := 0
		f.store.onList = func() {
			if lists++; lists != 2 { // the first one is for the cache
				return
			}
			_, err := f.Prune(t.Context(), "hall", everythingOld, 40-left)
			assert.NoError(t, err)
		}
		p, err := f.Since(t.Context(), "hall", chat.Point{Seq: 5}, chat.Reach{})
		require.NoError(t, err)
		require.Len(t, p.Messages, left)
		if left > 0 {
			assert.Equal(t, first, p.Messages[0].Seq)
		}
		assert.False(t, p.Recovered, "6 to %d are gone", first-1)
	}
}

func TestDropRemovesARoom(t *testing.T) {
	t.Parallel()
	cache := &fragile{RecentCache: memory.NewRecentCache(memory.RecentCacheConfig{})}
	var rooms chat.Rooms
	f := openPruning(t, func(c *chat.Config, _ *store, _ *pruner) { c.Cache, rooms = cache, c.Rooms })
	f.rooms(t, "hall", "other")
	for range 5 {
		f.send(t, "hall", "x", "")
		f.send(t, "other", "x", "")
	}
	_, err := f.Change(t.Context(), chat.Change{Kind: chat.React, Room: "hall", Seq: 2, By: ada, Key: "👍"})
	require.NoError(t, err)
	for calls := 1; ; calls++ {
		left, err := f.Drop(t.Context(), "hall", 2)
		require.NoError(t, err)
		_, held, err := cache.Get(t.Context(), "hall")
		require.NoError(t, err)
		require.False(t, held, "the cache goes first")
		if !left {
			assert.Equal(t, 5, calls, "three for the messages, one for the membership")
			break
		}
		_, err = rooms.ByName(t.Context(), "hall")
		require.NoError(t, err, "it can be found as long as something is left")
	}
	_, err = rooms.ByName(t.Context(), "hall")
	require.ErrorIs(t, err, chat.ErrRoomNotFound)
	mine, err := f.Mine(t.Context(), ada.ID, chat.Place{}, 0)
	require.NoError(t, err)
	require.Len(t, mine, 1)
	assert.EqualValues(t, 5, mine[0].Seq)

	f.rooms(t, "hall")
	_, err = rooms.ByName(t.Context(), "hall")
	require.NoError(t, err, "a room of that name comes into being again")
	assert.EqualValues(t, 1, f.send(t, "hall", "x", "").Seq)
	changed, err := f.Change(t.Context(), chat.Change{Kind: chat.React, Room: "hall", Seq: 1, By: ada, Key: "👍"})
	require.NoError(t, err)
	assert.EqualValues(t, 1, changed.Rev)
	p, err := f.Newest(t.Context(), "hall", chat.Reach{})
	require.NoError(t, err)
	assert.Equal(t, []uint64{1}, sequences(p.Messages))

	cache.gone.Store(true)
	left, err := f.Drop(t.Context(), "other", 100)
	require.ErrorIs(t, err, fault.Unavailable)
	assert.True(t, left)
	assert.Len(t, f.everything(t, "other"), 5)
	_, err = f.Drop(t.Context(), "", 100)
	require.ErrorIs(t, err, chat.ErrRoomInvalid)
	left, err = open(t, nil).Drop(t.Context(), "hall", 1)
	require.ErrorIs(t, err, chat.ErrNoPruner)
	assert.True(t, left)
}

func TestNewJanitorChecksEverythingAtOnce(t *testing.T) {
	t.Parallel()
	_, err := chat.NewJanitor(chat.JanitorConfig{Retention: time.Second, Every: -1, Batch: -1, Rest: -1, Timeout: -1})
	for _, name := range []string{"Service", "Retention", "Every", "Batch", "Rest", "Timeout"} {
		require.ErrorContains(t, err, name)
	}
	_, err = chat.NewJanitor(chat.JanitorConfig{Service: open(t, nil).Service})
	require.ErrorContains(t, err, "Config.Pruner")
}

// janitor runs one until the test ends.
func (f *fixture) janitor(t *testing.T, cfg chat.JanitorConfig) (stop func()) {
	t.Helper()
	cfg.Service = f.Service
	j, err := chat.NewJanitor(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- j.Run(ctx) }()
	return sync.OnceFunc(func() { cancel(); assert.NoError(t, <-ended) })
}

func (f *fixture) rooms(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := f.Join(t.Context(), ada, name)
		require.NoError(t, err)
	}
}

func TestTheJanitorRemovesWhatIsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := openPruning(t, nil)
		names := []string{"hall", "quiet"}
		for i := range 450 { // more than one reading
			names = append(names, fmt.Sprint("other ", i))
		}
		f.rooms(t, names...)
		f.send(t, "quiet", "x", "")
		f.send(t, "other 449", "x", "")
		stop := f.janitor(t, chat.JanitorConfig{Retention: time.Hour, Batch: 3})
		for range 10 {
			f.send(t, "hall", "x", "")
			time.Sleep(10 * time.Minute)
		}
		synctest.Wait()
		assert.Empty(t, f.everything(t, "quiet"), "nobody talks there")
		assert.Empty(t, f.everything(t, "other 449"))
		assert.Len(t, f.everything(t, "hall"), 6, "those of the last hour")
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		assert.Empty(t, f.everything(t, "hall"))
		assert.EqualValues(t, 11, f.send(t, "hall", "x", "").Seq)
		stop()
		time.Sleep(3 * time.Hour)
		assert.Len(t, f.everything(t, "hall"), 1, "it has ended")
	})
}

// A room may say how long its messages are kept, and what was deleted is removed a while later, in parts, also by a janitor that comes after another one.
func TestTheJanitorHeedsRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rooms chat.Rooms
		f := openPruning(t, func(c *chat.Config, _ *store, _ *pruner) { rooms = c.Rooms })
		ensure := func(r chat.Room) {
			_, err := rooms.Ensure(t.Context(), r)
			require.NoError(t, err)
		}
		ensure(chat.Room{Name: "brief", Retention: time.Minute})
		ensure(chat.Room{Name: "long", Retention: 100 * time.Hour})
		ensure(chat.Room{Name: "plain"})
		ensure(chat.Room{Name: "deleted", Retention: 100 * time.Hour, DeletedAt: time.Now().Add(time.Minute)})
		f.rooms(t, "brief", "long", "plain")
		for _, name := range []string{"brief", "long", "plain", "deleted"} {
			for range 50 {
				f.send(t, name, "x", "")
			}
		}
		count := func(name string) int { return len(f.everything(t, name)) }
		stop := f.janitor(t, chat.JanitorConfig{Retention: time.Hour, Batch: 1})
		time.Sleep(130 * time.Second)
		synctest.Wait()
		assert.Zero(t, count("brief"))
		assert.Equal(t, 50, count("deleted"), "others may not have heard of it")
		stop()
		time.Sleep(time.Minute)
		defer f.janitor(t, chat.JanitorConfig{Retention: time.Hour, Batch: 1})()
		synctest.Wait()
		assert.Zero(t, count("deleted"))
		_, err := rooms.ByName(t.Context(), "deleted")
		require.ErrorIs(t, err, chat.ErrRoomNotFound)
		assert.Equal(t, 50, count("plain"))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		assert.Zero(t, count("plain"))
		assert.Equal(t, 50, count("long"))
	})
}

// Many old messages of one room keep no other room waiting, and a round that left some goes on at once.
func TestTheJanitorIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		f := openPruning(t, func(_ *chat.Config, _ *store, p *pruner) {
			p.onPrune = func(room string, _ uint64) error { order = append(order, room); return nil }
		})
		f.rooms(t, "crowd", "quiet")
		for range 100 {
			f.send(t, "crowd", "x", "")
		}
		f.send(t, "quiet", "x", "")
		time.Sleep(2 * time.Minute)
		defer f.janitor(t, chat.JanitorConfig{Retention: time.Minute, Batch: 2, Every: 24 * time.Hour})()
		synctest.Wait()
		assert.Empty(t, f.everything(t, "crowd"))
		assert.Len(t, order, 51)
		assert.Equal(t, 20, slices.Index(order, "quiet"))
	})
}

// A store takes a tenth of the janitor's time at most.
func TestTheJanitorRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := openPruning(t, func(_ *chat.Config, _ *store, p *pruner) {
			p.onPrune = func(string, uint64) error { time.Sleep(100 * time.Millisecond); return nil }
		})
		f.rooms(t, "hall")
		for range 200 {
			f.send(t, "hall", "x", "")
		}
		time.Sleep(2 * time.Minute)
		stop := f.janitor(t, chat.JanitorConfig{Retention: time.Minute, Batch: 1})
		time.Sleep(100 * time.Second)
		assert.InDelta(t, 100, len(f.everything(t, "hall")), 2)
		stop() // in the middle of it
	})
}

func TestTheJanitorOutlivesFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fails atomic.Pointer[error]
		f := openPruning(t, func(_ *chat.Config, _ *store, p *pruner) {
			p.onAged = func(room string) error {
				if err := fails.Load(); err != nil && room == "a" {
					return *err
				}
				return nil
			}
		})
		f.rooms(t, "a", "b")
		fill := func() {
			f.send(t, "a", "x", "")
			f.send(t, "b", "x", "")
			time.Sleep(10 * time.Minute)
			synctest.Wait()
		}
		defer f.janitor(t, chat.JanitorConfig{Retention: time.Minute})()
		broken := errors.New("broken")
		fails.Store(&broken)
		fill()
		assert.Len(t, f.everything(t, "a"), 1)
		assert.Empty(t, f.everything(t, "b"), "a room that fails keeps no other waiting")
		down := error(fault.New(fault.Unavailable, "down", "down"))
		fails.Store(&down)
		fill()
		assert.Len(t, f.everything(t, "b"), 1, "a store that is away is not asked about every room")
		fails.Store(nil)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		assert.Empty(t, f.everything(t, "a"))
		assert.Empty(t, f.everything(t, "b"))
	})
}

func TestSeveralJanitorsDoNoHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := openPruning(t, nil)
		f.rooms(t, "hall")
		for range 3 {
			defer f.janitor(t, chat.JanitorConfig{Retention: time.Minute, Batch: 2})()
		}
		for i := range 40 {
			f.send(t, "hall", "x", "")
			time.Sleep(10 * time.Second)
			synctest.Wait()
			all := f.everything(t, "hall")
			require.Equal(t, uint64(i+1), all[len(all)-1].Seq)
			require.Equal(t, len(all), int(all[len(all)-1].Seq-all[0].Seq)+1)
			require.LessOrEqual(t, len(all), 12)
		}
	})
}
