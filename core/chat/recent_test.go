package chat_test

import (
	"context"
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

// fragile is a cache that can be frozen, so that its calls end with their context, or gone, so
// that they fail at once.
type fragile struct {
	chat.RecentCache
	frozen, gone atomic.Bool
	calls        atomic.Int64
}

func (f *fragile) reach(ctx context.Context) error {
	f.calls.Add(1)
	switch {
	case f.frozen.Load():
		<-ctx.Done()
		return ctx.Err()
	case f.gone.Load():
		return fault.Wrap(fault.Unavailable, fmt.Errorf("nobody there"))
	}
	return nil
}

func (f *fragile) Get(ctx context.Context, room string) (chat.Recent, bool, error) {
	if err := f.reach(ctx); err != nil {
		return chat.Recent{}, false, err
	}
	return f.RecentCache.Get(ctx, room)
}

func (f *fragile) Add(ctx context.Context, messages ...chat.Message) error {
	if err := f.reach(ctx); err != nil {
		return err
	}
	return f.RecentCache.Add(ctx, messages...)
}

func (f *fragile) Change(ctx context.Context, messages ...chat.Message) error {
	if err := f.reach(ctx); err != nil {
		return err
	}
	return f.RecentCache.Change(ctx, messages...)
}

func (f *fragile) Fill(ctx context.Context, room string, r chat.Recent) error {
	if err := f.reach(ctx); err != nil {
		return err
	}
	return f.RecentCache.Fill(ctx, room, r)
}

func TestACacheThatDoesNotAnswerHoldsNobodyUp(t *testing.T) {
	for name, fail := range map[string]func(f *fragile, on bool){
		"frozen": func(f *fragile, on bool) { f.frozen.Store(on) },
		"gone":   func(f *fragile, on bool) { f.gone.Store(on) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cache := &fragile{RecentCache: memory.NewRecentCache(memory.RecentCacheConfig{Messages: 20})}
				f := open(t, func(c *chat.Config, _ *store) { c.Cache = cache })
				for _, room := range []string{"hall", "bar"} {
					for range 3 {
						f.send(t, room, "x", "")
					}
				}
				fail(cache, true)
				began := time.Now()
				for range 20 {
					f.send(t, "hall", "x", "")
					f.send(t, "new", "x", "")
				}
				p, err := f.Newest(t.Context(), "hall", chat.Reach{})
				require.NoError(t, err)
				assert.EqualValues(t, 23, p.Last, "read from the store")
				p, err = f.Since(t.Context(), "bar", chat.Point{Seq: 1}, chat.Reach{})
				require.NoError(t, err)
				assert.Equal(t, []uint64{2, 3}, sequences(p.Messages))
				assert.LessOrEqual(t, time.Since(began), time.Second, "more than one call was held up")

				calls := cache.calls.Load()
				time.Sleep(time.Minute) // of the bubble
				assert.LessOrEqual(t, cache.calls.Load()-calls, int64(70), "it is tried about once a second")
				assert.Greater(t, cache.calls.Load()-calls, int64(10))
				fail(cache, false)
				time.Sleep(4 * time.Second)

				// As another node reads it, without anything having been said since.
				for room, last := range map[string]uint64{"hall": 23, "new": 20, "bar": 3} {
					held, _, err := cache.RecentCache.Get(t.Context(), room)
					require.NoError(t, err)
					require.NotEmpty(t, held.Messages, room)
					assert.Equal(t, last, held.Messages[len(held.Messages)-1].Seq, "the end of %s is missing", room)
				}
				lists := f.store.lists.Load()
				f.send(t, "hall", "x", "")
				p, err = f.Newest(t.Context(), "hall", chat.Reach{})
				require.NoError(t, err)
				assert.EqualValues(t, 24, p.Last)
				assert.Equal(t, lists, f.store.lists.Load(), "the cache is used again")
			})
		})
	}
}

// Under load there is always a room that has just got a message: the others must not wait for all.
func TestACacheThatAnswersAgainIsUsedWhileItCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rooms, slow = 50, 100 * time.Millisecond
		cache := &fragile{RecentCache: memory.NewRecentCache(memory.RecentCacheConfig{Messages: 20})}
		f := open(t, func(c *chat.Config, st *store) { c.Cache, st.onList = cache, func() { time.Sleep(slow) } })
		f.send(t, "quiet", "x", "")
		cache.gone.Store(true)
		say := func() {
			for i := range rooms {
				f.send(t, fmt.Sprint("room", i), "x", "")
			}
		}
		say()
		cache.gone.Store(false)
		for range 60 { // 6 seconds, in which each room has a message during each read of the store
			time.Sleep(slow)
			say()
		}
		began := time.Now()
		p, err := f.Newest(t.Context(), "quiet", chat.Reach{})
		require.NoError(t, err)
		assert.EqualValues(t, 1, p.Last)
		for i := range rooms {
			p, err := f.Newest(t.Context(), fmt.Sprint("room", i), chat.Reach{})
			require.NoError(t, err)
			assert.EqualValues(t, 61, p.Last)
		}
		assert.Zero(t, time.Since(began), "the store was read")
	})
}

// lost stores a message and says that it does not know.
type lost struct {
	chat.MessageStore
	answers atomic.Bool
}

func (l *lost) Append(ctx context.Context, messages []chat.Message) ([]chat.Stored, error) {
	stored, err := l.MessageStore.Append(ctx, messages)
	if err == nil && !l.answers.Load() {
		err = fault.Wrap(fault.Unavailable, fmt.Errorf("the answer is lost"))
	}
	return stored, err
}

// What was stored although nobody was told must not be missing from the cache until somebody speaks.
func TestAMessageOfUnknownOutcomeReachesTheCache(t *testing.T) {
	draft := chat.Draft{Room: "hall", Text: "x", Author: ada, ClientID: "c2"}
	last := func(t *testing.T, f *fixture, cache chat.RecentCache) {
		time.Sleep(5 * time.Second) // of the bubble
		held, _, err := cache.Get(t.Context(), "hall")
		require.NoError(t, err)
		require.NotEmpty(t, held.Messages)
		assert.EqualValues(t, 2, held.Messages[len(held.Messages)-1].Seq)
		p, err := f.Newest(t.Context(), "hall", chat.Reach{})
		require.NoError(t, err)
		assert.EqualValues(t, 2, p.Last)
	}
	t.Run("the answer was lost", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cache, l := memory.NewRecentCache(memory.RecentCacheConfig{}), &lost{MessageStore: memory.NewMessages()}
			f := open(t, func(c *chat.Config, _ *store) { c.Cache, c.Store = cache, l })
			l.answers.Store(true)
			f.send(t, "hall", "x", "c1")
			l.answers.Store(false)
			_, err := f.Send(t.Context(), draft)
			require.ErrorIs(t, err, fault.Unavailable)
			last(t, f, cache)
		})
	})
	t.Run("its node has died, and it is sent again to this one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cache := memory.NewRecentCache(memory.RecentCacheConfig{})
			f := open(t, func(c *chat.Config, _ *store) { c.Cache = cache })
			f.send(t, "hall", "x", "c1")
			_, err := f.store.MessageStore.Append(t.Context(), []chat.Message{{Room: "hall", ID: "m2", ClientID: "c2", Author: ada, Text: "x"}})
			require.NoError(t, err)
			m, err := f.Send(t.Context(), draft)
			require.NoError(t, err)
			require.True(t, m.Repeated)
			last(t, f, cache)
		})
	})
}

// slowOnce is a cache whose next Add takes a while.
type slowOnce struct {
	chat.RecentCache
	next atomic.Bool
}

func (c *slowOnce) Add(ctx context.Context, messages ...chat.Message) error {
	if c.next.CompareAndSwap(true, false) {
		time.Sleep(500 * time.Millisecond) // of the bubble
	}
	return c.RecentCache.Add(ctx, messages...)
}

// What is told again may be the message that is just being stored. Its sender has the answer before.
func TestWhatIsToldAgainIsToldBehindItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := &slowOnce{RecentCache: memory.NewRecentCache(memory.RecentCacheConfig{})}
		f := open(t, func(c *chat.Config, _ *store) { c.Cache = cache })
		f.send(t, "hall", "x", "c1")
		var mu sync.Mutex
		var order []string
		note := func(what string, seq uint64) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, fmt.Sprint(what, " ", seq))
		}
		f.store.onList = func() { time.Sleep(100 * time.Millisecond) } // of the bubble
		require.True(t, f.send(t, "hall", "x", "c1").Repeated, "the room is read, and its last message told again")
		synctest.Wait() // it is told behind its answer
		f.OnStored(func(m chat.Message) { note("told", m.Seq) })
		cache.next.Store(true)
		require.NoError(t, f.Submit(t.Context(), chat.Draft{Room: "hall", Text: "y", Author: ada}, func(s chat.Stored, err error) { note("answered", s.Seq) }))
		time.Sleep(5 * time.Second) // of the bubble
		mu.Lock()
		defer mu.Unlock()
		require.NotEmpty(t, order)
		assert.Equal(t, "answered 2", order[0])
		assert.Equal(t, []string{"told 2", "told 2"}, order[1:])
	})
}

// Whoever reads a room on another node while the cache is behind lacks messages, and nobody says anything more: the last one is told again.
func TestARoomWhoseCacheWasBehindIsToldAgain(t *testing.T) {
	hears := func(f *fixture) (heard func() []uint64) {
		var mu sync.Mutex
		var all []uint64
		f.OnStored(func(m chat.Message) {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, m.Seq)
		})
		return func() []uint64 {
			time.Sleep(5 * time.Second) // of the bubble
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(all)
		}
	}
	t.Run("the cache was away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cache := &fragile{RecentCache: memory.NewRecentCache(memory.RecentCacheConfig{Messages: 20})}
			f := open(t, func(c *chat.Config, _ *store) { c.Cache = cache })
			heard := hears(f)
			f.send(t, "hall", "x", "")
			cache.gone.Store(true)
			f.send(t, "hall", "x", "")
			f.send(t, "hall", "x", "")
			assert.Equal(t, []uint64{1, 2, 3}, heard())
			cache.gone.Store(false)
			assert.Equal(t, []uint64{1, 2, 3, 3}, heard())
			f.send(t, "hall", "x", "")
			assert.Equal(t, []uint64{1, 2, 3, 3, 4}, heard(), "the cache is up to date again")
		})
	})
	t.Run("the answer of the store was lost", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := &lost{MessageStore: memory.NewMessages()}
			f := open(t, func(c *chat.Config, _ *store) { c.Store = l })
			heard := hears(f)
			_, err := f.Send(t.Context(), chat.Draft{Room: "hall", Text: "x", Author: ada})
			require.ErrorIs(t, err, fault.Unavailable)
			assert.Equal(t, []uint64{1}, heard(), "nobody else would say so")
		})
	})
}

// silent is a store that takes messages and never answers.
type silent struct{ chat.MessageStore }

func (silent) Append(ctx context.Context, _ []chat.Message) ([]chat.Stored, error) {
	<-ctx.Done()
	return nil, fault.Wrap(fault.Unavailable, ctx.Err())
}

// The end waits once for a store that does not answer, not once for each batch.
func TestTheEndDoesNotWaitForAStoreThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := open(t, func(c *chat.Config, st *store) {
			c.Store, c.MaxBatch, c.CommitTimeout = silent{st.MessageStore}, 1, 3*time.Second
		})
		var failed atomic.Int64
		for range 20 {
			require.NoError(t, f.Submit(t.Context(), chat.Draft{Room: "hall", Text: "x", Author: ada}, func(_ chat.Stored, err error) {
				assert.ErrorIs(t, err, fault.Unavailable)
				failed.Add(1)
			}))
		}
		time.Sleep(time.Second)
		began := time.Now()
		f.stop()
		assert.LessOrEqual(t, time.Since(began), 3*time.Second)
		assert.EqualValues(t, 20, failed.Load(), "each is answered")
	})
}

// A reader that gives up says nothing about the cache.
func TestAReaderThatGivesUpLeavesTheCacheAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := &fragile{RecentCache: memory.NewRecentCache(memory.RecentCacheConfig{})}
		f := open(t, func(c *chat.Config, _ *store) { c.Cache = cache })
		f.send(t, "hall", "x", "")
		cache.frozen.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := f.Newest(ctx, "hall", chat.Reach{})
		require.Error(t, err)
		cache.frozen.Store(false)
		time.Sleep(time.Minute)
		calls, lists := cache.calls.Load(), f.store.lists.Load()
		_, err = f.Newest(t.Context(), "hall", chat.Reach{})
		require.NoError(t, err)
		assert.Equal(t, calls+1, cache.calls.Load())
		assert.Equal(t, lists, f.store.lists.Load())
	})
}

func TestACrowdThatComesBackToAColdRoomReadsTheStoreOnce(t *testing.T) {
	st := &store{MessageStore: memory.NewMessages()}
	var drafts []chat.Message
	for i := range 30 {
		drafts = append(drafts, chat.Message{Room: "hall", ID: fmt.Sprint(i), Author: ada, Text: "x"})
	}
	_, err := st.MessageStore.Append(t.Context(), drafts)
	require.NoError(t, err)
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	st.onList = func() { once.Do(func() { close(entered) }); <-release }
	f := open(t, func(c *chat.Config, _ *store) { c.Store = st })
	var wg sync.WaitGroup
	read := func(since uint64) {
		p, err := f.Since(context.Background(), "hall", chat.Point{Seq: since}, chat.Reach{})
		if assert.NoError(t, err) {
			assert.Len(t, p.Messages, int(30-since))
			assert.EqualValues(t, 30, p.Last)
			assert.True(t, p.Recovered)
		}
	}
	wg.Go(func() { read(25) })
	<-entered
	for i := range 500 {
		wg.Go(func() { read(uint64(20 + i%11)) })
	}
	close(release)
	wg.Wait()
	assert.EqualValues(t, 1, st.lists.Load())
}

// However many join a room in which nobody has said anything, the store is read once; and what is said then, here or on
// another node, everybody gets.
func TestAnEmptyRoomIsReadOnce(t *testing.T) {
	cache, st := memory.NewRecentCache(memory.RecentCacheConfig{}), &store{MessageStore: memory.NewMessages()}
	node := func() *fixture { return open(t, func(c *chat.Config, _ *store) { c.Cache, c.Store = cache, st }) }
	here, there := node(), node()
	want := func(last uint64) {
		t.Helper()
		for _, f := range []*fixture{here, there} {
			p, err := f.Newest(t.Context(), "hall", chat.Reach{})
			require.NoError(t, err)
			assert.Equal(t, last, p.Last)
			assert.Len(t, p.Messages, int(last))
			assert.True(t, p.Recovered)
			p, err = f.Since(t.Context(), "hall", chat.Point{Seq: 0}, chat.Reach{})
			require.NoError(t, err)
			assert.Equal(t, last, p.Last)
			assert.Len(t, p.Messages, int(last))
			assert.True(t, p.Recovered)
		}
	}
	for range 10 {
		want(0)
	}
	assert.EqualValues(t, 1, st.asked.Load())
	assert.Zero(t, st.lists.Load(), "there is nothing to list")
	p, err := here.Since(t.Context(), "hall", chat.Point{Seq: 7}, chat.Reach{})
	require.NoError(t, err)
	assert.False(t, p.Recovered, "a client that remembers messages of another store is told")
	asked, lists := st.asked.Load(), st.lists.Load()
	there.send(t, "hall", "x", "")
	want(1)
	there.send(t, "hall", "x", "")
	want(2)
	assert.Equal(t, asked, st.asked.Load())
	assert.Equal(t, lists, st.lists.Load())
}

// Whoever knows of a message is not told that the room is empty, whatever the cache holds.
func TestAnEmptyRoomIsReadAgainForWhoKnowsBetter(t *testing.T) {
	cache := memory.NewRecentCache(memory.RecentCacheConfig{})
	f := open(t, func(c *chat.Config, _ *store) { c.Cache = cache })
	require.NoError(t, cache.Fill(t.Context(), "hall", chat.Recent{}))
	_, err := f.store.MessageStore.Append(t.Context(), []chat.Message{{Room: "hall", ID: "m", Author: ada, Text: "x"}})
	require.NoError(t, err)
	for range 2 {
		p, err := f.Newest(t.Context(), "hall", chat.Reach{Seq: 1})
		require.NoError(t, err)
		assert.EqualValues(t, 1, p.Last)
	}
	assert.EqualValues(t, 1, f.store.lists.Load())
}
