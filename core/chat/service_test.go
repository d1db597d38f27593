package chat_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

var ada = chat.Author{ID: "u-ada", Name: "Ada"}

// store counts calls and can be told what to do with an Append.
type store struct {
	chat.MessageStore
	appends, lists, asked, changes atomic.Int64 // of Append, List, Bounds and Change
	onAppend                       func(messages []chat.Message) error
	onList                         func()
	onChange                       func(changes []chat.Change) error
}

func (s *store) Change(ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
	s.changes.Add(1)
	if s.onChange != nil {
		if err := s.onChange(changes); err != nil {
			return nil, err
		}
	}
	return s.MessageStore.Change(ctx, changes)
}

func (s *store) Bounds(ctx context.Context, room string) (chat.Bounds, error) {
	s.asked.Add(1)
	return s.MessageStore.Bounds(ctx, room)
}

func (s *store) Append(ctx context.Context, messages []chat.Message) ([]chat.Stored, error) {
	s.appends.Add(1)
	if s.onAppend != nil {
		if err := s.onAppend(messages); err != nil {
			return nil, err
		}
	}
	return s.MessageStore.Append(ctx, messages)
}

func (s *store) List(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
	s.lists.Add(1)
	if s.onList != nil {
		s.onList()
	}
	return s.MessageStore.List(ctx, room, r)
}

type fixture struct {
	*chat.Service
	store   *store
	members *memory.Members
	stop    func() // ends Run and waits
}

func open(t *testing.T, change func(*chat.Config, *store)) *fixture {
	t.Helper()
	st := &store{MessageStore: memory.NewMessages()}
	members := memory.NewMembers(st.MessageStore.(*memory.Messages))
	cfg := chat.Config{Store: st, Rooms: memory.NewRooms(), Members: members, Marks: members, Cache: memory.NewRecentCache(memory.RecentCacheConfig{})}
	if change != nil {
		change(&cfg, st)
	}
	s, err := chat.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); assert.NoError(t, s.Run(ctx)) }()
	stop := func() { cancel(); <-ended }
	t.Cleanup(stop)
	return &fixture{Service: s, store: st, members: members, stop: stop}
}

func (f *fixture) send(t *testing.T, room, text, clientID string) chat.Stored {
	t.Helper()
	m, err := f.Send(t.Context(), chat.Draft{Room: room, Text: text, ClientID: clientID, Author: ada})
	require.NoError(t, err)
	return m
}

func sequences(messages []chat.Message) []uint64 {
	out := []uint64{}
	for _, m := range messages {
		out = append(out, m.Seq)
	}
	return out
}

func TestNewNamesEverythingThatIsMissing(t *testing.T) {
	_, err := chat.New(chat.Config{MaxBatch: -1})
	for _, want := range []string{"Store", "Rooms", "Members", "Marks", "Cache", "MaxBatch"} {
		assert.ErrorContains(t, err, want)
	}
}

func TestSendsOfManyGetASequenceWithoutGaps(t *testing.T) {
	f := open(t, nil)
	const senders, each = 20, 25
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range senders {
		wg.Go(func() {
			<-start
			var last uint64
			for j := range each {
				m, err := f.Send(context.Background(), chat.Draft{Room: "hall", Text: fmt.Sprint(i, j), Author: ada})
				if !assert.NoError(t, err) {
					return
				}
				assert.Greater(t, m.Seq, last, "one sender's messages keep their order")
				last = m.Seq
				mu.Lock()
				assert.False(t, seen[m.Seq], "sequence %d was given twice", m.Seq)
				seen[m.Seq] = true
				mu.Unlock()
			}
		})
	}
	close(start)
	wg.Wait()
	for seq := uint64(1); seq <= senders*each; seq++ {
		assert.True(t, seen[seq], "sequence %d is missing", seq)
	}
}

func TestWhatWaitsDuringACommitIsOneCommit(t *testing.T) {
	entered, release := make(chan struct{}, 8), make(chan struct{})
	f := open(t, func(_ *chat.Config, s *store) {
		s.onAppend = func([]chat.Message) error { entered <- struct{}{}; <-release; return nil }
	})
	var acked atomic.Int64
	submit := func() {
		require.NoError(t, f.Submit(t.Context(), chat.Draft{Room: "hall", Text: "x", Author: ada}, func(_ chat.Stored, err error) {
			assert.NoError(t, err)
			acked.Add(1)
		}))
	}
	submit()
	<-entered // the first commit is under way
	for range 100 {
		submit()
	}
	assert.Zero(t, acked.Load(), "nothing is acknowledged before its commit")
	close(release)
	f.stop()
	assert.EqualValues(t, 101, acked.Load())
	assert.EqualValues(t, 2, f.store.appends.Load(), "a hundred messages that waited are one commit")
}

func TestABatchIsBounded(t *testing.T) {
	var largest atomic.Int64
	entered, release := make(chan struct{}, 64), make(chan struct{})
	f := open(t, func(c *chat.Config, s *store) {
		c.MaxBatch, c.MaxPending = 4, 10
		s.onAppend = func(m []chat.Message) error {
			largest.Store(max(largest.Load(), int64(len(m))))
			entered <- struct{}{}
			<-release
			return nil
		}
	})
	submit := func() error {
		return f.Submit(t.Context(), chat.Draft{Room: "hall", Text: "x", Author: ada}, func(chat.Stored, error) {})
	}
	require.NoError(t, submit())
	<-entered
	for range 10 {
		require.NoError(t, submit())
	}
	assert.ErrorIs(t, submit(), chat.ErrBusy, "more than MaxPending are refused")
	close(release)
	f.stop()
	assert.EqualValues(t, 4, largest.Load())
	assert.ErrorIs(t, submit(), chat.ErrClosed)
}

func TestTheSameClientIDIsOneMessage(t *testing.T) {
	f := open(t, nil)
	first := f.send(t, "hall", "hello", "c1")
	again := f.send(t, "hall", "hello", "c1")
	assert.False(t, first.Repeated)
	assert.True(t, again.Repeated)
	assert.Equal(t, first.Message, again.Message)
	other, err := f.Send(t.Context(), chat.Draft{Room: "hall", Text: "hello", ClientID: "c1", Author: chat.Author{ID: "u-bob"}})
	require.NoError(t, err)
	assert.EqualValues(t, 2, other.Seq, "another sender's id is another message")
}

func TestAValueThatTheStoreRefusesHarmsNobodyElse(t *testing.T) {
	entered, release := make(chan struct{}, 64), make(chan struct{})
	f := open(t, func(_ *chat.Config, s *store) {
		s.onAppend = func(messages []chat.Message) error {
			entered <- struct{}{}
			<-release
			for _, m := range messages {
				if m.Text == "poison" {
					return fault.Invalid
				}
			}
			return nil
		}
	})
	errs := make(chan error, 4)
	for _, text := range []string{"first", "good", "poison", "also good"} {
		require.NoError(t, f.Submit(t.Context(), chat.Draft{Room: "hall", Text: text, Author: ada}, func(_ chat.Stored, err error) { errs <- err }))
		if text == "first" {
			<-entered
		}
	}
	close(release)
	f.stop()
	require.NoError(t, <-errs)
	require.NoError(t, <-errs)
	require.ErrorIs(t, <-errs, fault.Invalid)
	require.NoError(t, <-errs)
	stored, err := f.store.List(t.Context(), "hall", chat.Range{Limit: 10})
	require.NoError(t, err)
	assert.Equal(t, []uint64{1, 2, 3}, sequences(stored))
}

func TestALostStoreFailsTheWholeBatchOnce(t *testing.T) {
	f := open(t, func(_ *chat.Config, s *store) {
		s.onAppend = func([]chat.Message) error { return fault.Wrap(fault.Unavailable, errors.New("gone")) }
	})
	_, err := f.Send(t.Context(), chat.Draft{Room: "hall", Text: "x", Author: ada})
	require.ErrorIs(t, err, fault.Unavailable)
	assert.EqualValues(t, 1, f.store.appends.Load(), "a commit whose outcome is unknown is not tried again")
}

func TestSendGivesUpWithItsContext(t *testing.T) {
	release := make(chan struct{})
	f := open(t, func(_ *chat.Config, s *store) {
		s.onAppend = func([]chat.Message) error { <-release; return nil }
	})
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := f.Send(ctx, chat.Draft{Room: "hall", Text: "x", Author: ada})
		done <- err
	}()
	cancel()
	assert.ErrorIs(t, <-done, fault.Unavailable)
}

func TestSendRefusesWhatIsNotValid(t *testing.T) {
	f := open(t, nil)
	for name, c := range map[string]struct {
		d    chat.Draft
		want error
	}{
		"no room":               {chat.Draft{Text: "x"}, chat.ErrRoomInvalid},
		"long room":             {chat.Draft{Room: strings.Repeat("r", chat.MaxRoomName+1), Text: "x"}, chat.ErrRoomInvalid},
		"room of 10,000":        {chat.Draft{Room: strings.Repeat("ü", 10_000), Text: "x"}, chat.ErrRoomInvalid},
		"room with a bell":      {chat.Draft{Room: "a\ab", Text: "x"}, chat.ErrRoomInvalid},
		"room with outer space": {chat.Draft{Room: "a ", Text: "x"}, chat.ErrRoomInvalid},
		"room not UTF-8":        {chat.Draft{Room: "a\xff", Text: "x"}, chat.ErrRoomInvalid},
		"no text":               {chat.Draft{Room: "r"}, chat.ErrTextInvalid},
		"long text":             {chat.Draft{Room: "r", Text: strings.Repeat("x", chat.MaxText+1)}, chat.ErrTextInvalid},
		"text with NUL":         {chat.Draft{Room: "r", Text: "a\x00b"}, chat.ErrTextInvalid},
		"text not UTF-8":        {chat.Draft{Room: "r", Text: "a\xc3"}, chat.ErrTextInvalid},
		"long client id":        {chat.Draft{Room: "r", Text: "x", ClientID: strings.Repeat("c", chat.MaxClientID+1)}, chat.ErrClientIDInvalid},
		"client id with space":  {chat.Draft{Room: "r", Text: "x", ClientID: "a b"}, chat.ErrClientIDInvalid},
		"data is a list":        {chat.Draft{Room: "r", Text: "x", Data: `[]`}, chat.ErrDataInvalid},
		"data is no JSON":       {chat.Draft{Room: "r", Text: "x", Data: `{"a":}`}, chat.ErrDataInvalid},
		"long data":             {chat.Draft{Room: "r", Text: "x", Data: longData(chat.MaxData + 1)}, chat.ErrDataInvalid},
		"deep data":             {chat.Draft{Room: "r", Text: "x", Data: deepData(chat.MaxDataDepth + 1)}, chat.ErrDataInvalid},
		"data with NUL":         {chat.Draft{Room: "r", Text: "x", Data: `{"a":"\u0000"}`}, chat.ErrDataInvalid},
		"name in data with NUL": {chat.Draft{Room: "r", Text: "x", Data: `{"\u0000":1}`}, chat.ErrDataInvalid},
		"data not UTF-8":        {chat.Draft{Room: "r", Text: "x", Data: "{\"a\":\"\xff\"}"}, chat.ErrDataInvalid},
		"reply in empty room":   {chat.Draft{Room: "r", Text: "x", ReplyTo: 1}, chat.ErrReplyToInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.Send(t.Context(), c.d)
			assert.ErrorIs(t, err, c.want)
			assert.ErrorIs(t, err, fault.Invalid)
		})
	}
	assert.Zero(t, f.store.appends.Load())
	f.send(t, strings.Repeat("ü", chat.MaxRoomName), strings.Repeat("ß", chat.MaxText), strings.Repeat("~", chat.MaxClientID))
	for _, data := range []string{longData(chat.MaxData), deepData(chat.MaxDataDepth)} {
		m, err := f.Send(t.Context(), chat.Draft{Room: "r", Text: "x", Data: data, Author: ada})
		require.NoError(t, err)
		assert.Equal(t, data, m.Data)
	}
}

func longData(n int) string { return `{"a":"` + strings.Repeat("x", n-8) + `"}` }
func deepData(n int) string { return strings.Repeat(`{"a":`, n-1) + "{}" + strings.Repeat("}", n-1) }

func TestDataIsKeptInOneForm(t *testing.T) {
	f := open(t, nil)
	sent, err := f.Send(t.Context(), chat.Draft{Room: "hall", Text: "x", Author: ada, Data: "{ \"b\" : 1.0,\n\"a\":[ \"\\u00e9 é\" ] }" + strings.Repeat(" ", chat.MaxData)})
	require.NoError(t, err)
	assert.Equal(t, `{"b":1.0,"a":["\u00e9 é"]}`, sent.Data)
	p, err := f.Newest(t.Context(), "hall", chat.Reach{Seq: 1})
	require.NoError(t, err)
	assert.Equal(t, []chat.Message{sent.Message}, p.Messages)
}

// bounds counts calls of Bounds.
type bounds struct {
	chat.MessageStore
	calls atomic.Int64
	err   error
}

func (b *bounds) Bounds(ctx context.Context, room string) (chat.Bounds, error) {
	if b.calls.Add(1); b.err != nil {
		return chat.Bounds{}, b.err
	}
	return b.MessageStore.Bounds(ctx, room)
}

// forgetful is a cache that never holds anything.
type forgetful struct{ chat.RecentCache }

func (forgetful) Get(context.Context, string) (chat.Recent, bool, error) {
	return chat.Recent{}, false, nil
}

func TestAReplyIsToAMessageThatIsThere(t *testing.T) {
	b := &bounds{}
	f := open(t, func(c *chat.Config, st *store) {
		b.MessageStore, st.MessageStore = st.MessageStore, b
	})
	reply := func(f *fixture, to, seen uint64) (chat.Stored, error) {
		return f.Send(t.Context(), chat.Draft{Room: "hall", Text: "x", Author: ada, ReplyTo: to, Seen: seen})
	}
	f.send(t, "hall", "one", "")
	f.send(t, "other", "one", "")
	f.send(t, "other", "two", "")
	m, err := reply(f, 1, 0)
	require.NoError(t, err)
	assert.EqualValues(t, 1, m.ReplyTo)
	assert.Zero(t, b.calls.Load(), "the cache knows")
	_, err = reply(f, 3, 0) // not even itself
	require.ErrorIs(t, err, chat.ErrReplyToInvalid)
	require.ErrorContains(t, err, "the room's last message is 2")
	assert.EqualValues(t, 1, b.calls.Load(), "the cache may be behind")
	_, err = reply(f, 3, 2)
	require.ErrorIs(t, err, chat.ErrReplyToInvalid, "what is known to be seen lies before")
	f.send(t, "hall", "three", "")
	_, err = reply(f, 3, 3)
	require.NoError(t, err)
	_, err = reply(f, math.MaxUint64, 0)
	require.ErrorIs(t, err, chat.ErrReplyToInvalid)
	reach, err := b.MessageStore.Bounds(t.Context(), "hall")
	require.NoError(t, err)
	assert.EqualValues(t, 4, reach.Last, "what was refused is not stored")

	// A message that is there no more was there.
	_, err = b.MessageStore.(*memory.Messages).Prune(t.Context(), "hall", 4)
	require.NoError(t, err)
	_, err = reply(f, 1, 0)
	require.NoError(t, err)

	down := fault.New(fault.Unavailable, "down", "down")
	cold := open(t, func(c *chat.Config, st *store) {
		c.Cache = forgetful{c.Cache}
		st.MessageStore = b
	})
	_, err = reply(cold, 5, 0)
	require.NoError(t, err, "the store knows")
	b.err = down
	_, err = reply(cold, 5, 0)
	require.ErrorIs(t, err, down)
	_, err = reply(cold, 5, 5)
	require.NoError(t, err, "nobody needs to be asked")
}

// Who may not send is told so, and not what the room has.
func TestAReplyIsAskedAboutLast(t *testing.T) {
	f := open(t, func(c *chat.Config, _ *store) { c.Access = guard{chat.ActionSend} })
	_, err := f.Send(t.Context(), chat.Draft{Room: "hall", Text: "x", Author: ada, ReplyTo: 7})
	require.ErrorIs(t, err, chat.ErrNotAllowed)
	require.NotErrorIs(t, err, chat.ErrReplyToInvalid)
}

func TestTheSameClientIDHasTheSameAnswerWhateverElseDiffers(t *testing.T) {
	f := open(t, nil)
	f.send(t, "hall", "one", "")
	d := chat.Draft{Room: "hall", Text: "two", Author: ada, ClientID: "c", ReplyTo: 1, Data: `{"a":1}`}
	first, err := f.Send(t.Context(), d)
	require.NoError(t, err)
	for _, again := range []chat.Draft{
		d, {Room: "hall", Text: "2", Author: ada, ClientID: "c"},
		{Room: "hall", Text: "2", Author: ada, ClientID: "c", ReplyTo: 2, Data: `{"b":2}`},
		{Room: "hall", Text: "2", Author: ada, ClientID: "c", ReplyTo: 99},
	} {
		m, err := f.Send(t.Context(), again)
		require.NoError(t, err)
		assert.Equal(t, chat.Stored{Message: first.Message, Repeated: true}, m)
	}
	for _, other := range []chat.Draft{
		{Room: "hall", Text: "2", Author: ada, ClientID: "C", ReplyTo: 99}, {Room: "hall", Text: "2", Author: chat.Author{ID: "u-eve"}, ClientID: "c", ReplyTo: 99},
		{Room: "hall", Text: "2", Author: ada, ReplyTo: 99}, {Room: "other", Text: "2", Author: ada, ClientID: "c", ReplyTo: 99},
	} {
		_, err := f.Send(t.Context(), other)
		require.ErrorIs(t, err, chat.ErrReplyToInvalid)
	}
}

type guard struct{ refuse chat.Action }

func (g guard) May(_ context.Context, _ chat.Author, what chat.Action, _ string) error {
	if what == g.refuse {
		return chat.ErrNotAllowed
	}
	return nil
}

func TestAccessDecides(t *testing.T) {
	for _, refused := range []chat.Action{chat.ActionJoin, chat.ActionSend, chat.ActionRead} {
		t.Run(string(refused), func(t *testing.T) {
			f := open(t, func(c *chat.Config, _ *store) { c.Access = guard{refused} })
			got := map[chat.Action]error{}
			_, got[chat.ActionJoin] = f.Join(t.Context(), ada, "hall")
			_, got[chat.ActionSend] = f.Send(t.Context(), chat.Draft{Room: "hall", Text: "x", Author: ada})
			_, got[chat.ActionRead] = f.History(t.Context(), ada, "hall", chat.Range{})
			for action, err := range got {
				if action == refused {
					assert.ErrorIs(t, err, fault.Forbidden)
				} else {
					assert.NoError(t, err, action)
				}
			}
			assert.True(t, f.SubmitWaits())
		})
	}
	assert.False(t, open(t, nil).SubmitWaits())
}

func TestJoinIsDurableAndLeaveEndsIt(t *testing.T) {
	f := open(t, nil)
	for _, room := range []string{"b", "a", "c", "a"} {
		_, err := f.Join(t.Context(), ada, room)
		require.NoError(t, err)
	}
	require.NoError(t, f.Leave(t.Context(), ada.ID, "b"))
	rooms, err := f.RoomsOf(t.Context(), ada.ID, "", 0)
	require.NoError(t, err)
	require.Len(t, rooms, 2)
	assert.Equal(t, "a", rooms[0].Room)
	assert.Equal(t, "c", rooms[1].Room)
	assert.Equal(t, user.ID("u-ada"), rooms[0].UserID)
}

func TestACrowdAtAColdRoomReadsTheStoreOnce(t *testing.T) {
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
	const crowd = 500
	var wg sync.WaitGroup
	read := func() {
		p, err := f.Newest(context.Background(), "hall", chat.Reach{})
		if assert.NoError(t, err) {
			assert.Equal(t, []uint64{21, 22, 23, 24, 25, 26, 27, 28, 29, 30}, sequences(p.Messages))
			assert.EqualValues(t, 30, p.Last)
		}
	}
	wg.Go(read)
	<-entered
	for range crowd {
		wg.Go(read)
	}
	close(release)
	wg.Wait()
	assert.EqualValues(t, 1, st.lists.Load())
}

func TestNewestReachesWhatTheCallerKnows(t *testing.T) {
	cache := memory.NewRecentCache(memory.RecentCacheConfig{})
	st := memory.NewMessages()
	f := open(t, func(c *chat.Config, _ *store) { c.Store, c.Cache = st, cache })
	f.send(t, "hall", "one", "")
	// Another node stores a message that this cache did not hear of.
	_, err := st.Append(t.Context(), []chat.Message{{Room: "hall", ID: "x", Author: ada, Text: "two"}})
	require.NoError(t, err)
	stale, err := f.Newest(t.Context(), "hall", chat.Reach{Seq: 1})
	require.NoError(t, err)
	assert.EqualValues(t, 1, stale.Last)
	p, err := f.Newest(t.Context(), "hall", chat.Reach{Seq: 2})
	require.NoError(t, err)
	assert.Equal(t, []uint64{1, 2}, sequences(p.Messages))
	// It may not even know that there is one.
	_, err = st.Append(t.Context(), []chat.Message{{Room: "hall", ID: "y", Author: ada, Text: "three"}})
	require.NoError(t, err)
	p, err = f.Since(t.Context(), "hall", chat.Point{Seq: 1}, chat.Reach{Seq: chat.Latest})
	require.NoError(t, err)
	assert.Equal(t, []uint64{2, 3}, sequences(p.Messages))
	_, err = st.Append(t.Context(), []chat.Message{{Room: "hall", ID: "z", Author: ada, Text: "four"}})
	require.NoError(t, err)
	p, err = f.Newest(t.Context(), "hall", chat.Reach{Seq: chat.Latest})
	require.NoError(t, err)
	assert.EqualValues(t, 4, p.Last)
	stale, err = f.Newest(t.Context(), "hall", chat.Reach{})
	require.NoError(t, err)
	assert.EqualValues(t, 4, stale.Last, "the cache has it now")
	empty, err := f.Since(t.Context(), "nowhere", chat.Point{Seq: 0}, chat.Reach{Seq: chat.Latest})
	require.NoError(t, err)
	assert.True(t, empty.Recovered)
	assert.Zero(t, empty.Last)
}

func TestSince(t *testing.T) {
	st := memory.NewMessages()
	cache := memory.NewRecentCache(memory.RecentCacheConfig{Messages: 10})
	f := open(t, func(c *chat.Config, _ *store) { c.Store, c.Cache, c.MaxPage = st, cache, 20 })
	for range 50 {
		f.send(t, "hall", "x", "")
	}
	for _, c := range []struct {
		name        string
		since       uint64
		first, last uint64 // of the page; 0 for an empty one
		more, ok    bool
	}{
		{"from the cache", 45, 46, 50, false, true},
		{"nothing new", 50, 0, 0, false, true},
		{"from the store", 31, 32, 50, false, true},
		{"more than a page", 5, 6, 25, true, true},
		{"from the beginning", 0, 1, 20, true, true},
		{"ahead of the room", 51, 0, 0, false, false},
		{"far ahead", 1<<53 - 1, 0, 0, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := f.Since(t.Context(), "hall", chat.Point{Seq: c.since}, chat.Reach{})
			require.NoError(t, err)
			assert.EqualValues(t, 50, p.Last)
			assert.Equal(t, c.more, p.More)
			assert.Equal(t, c.ok, p.Recovered)
			if c.first == 0 {
				assert.Empty(t, p.Messages)
				return
			}
			assert.Equal(t, c.first, p.Messages[0].Seq)
			assert.Equal(t, c.last, p.Messages[len(p.Messages)-1].Seq)
		})
	}
	t.Run("deleted", func(t *testing.T) {
		_, err := st.Prune(t.Context(), "hall", 30)
		require.NoError(t, err)
		p, err := f.Since(t.Context(), "hall", chat.Point{Seq: 10}, chat.Reach{})
		require.NoError(t, err)
		assert.False(t, p.Recovered, "11 to 29 are gone")
		p, err = f.Since(t.Context(), "hall", chat.Point{Seq: 29}, chat.Reach{})
		require.NoError(t, err)
		assert.True(t, p.Recovered)
	})
}

func TestHistoryPages(t *testing.T) {
	f := open(t, func(c *chat.Config, _ *store) { c.MaxPage = 10 })
	for range 25 {
		f.send(t, "hall", "x", "")
	}
	for _, c := range []struct {
		name string
		r    chat.Range
		want []uint64
		more bool
	}{
		{"newest", chat.Range{Newest: true, Limit: 3}, []uint64{23, 24, 25}, true},
		{"before", chat.Range{Newest: true, Before: 4, Limit: 3}, []uint64{1, 2, 3}, false},
		{"after", chat.Range{After: 20, Limit: 3}, []uint64{21, 22, 23}, true},
		{"between", chat.Range{After: 3, Before: 6}, []uint64{4, 5}, false},
		{"limited to a page", chat.Range{Limit: 500}, []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, true},
		{"nothing", chat.Range{After: 25}, []uint64{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := f.History(t.Context(), ada, "hall", c.r)
			require.NoError(t, err)
			assert.Equal(t, c.want, sequences(p.Messages))
			assert.Equal(t, c.more, p.More)
		})
	}
}

func TestTimesAreUTCMicroseconds(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.FixedZone("x", 3600))
	f := open(t, func(c *chat.Config, _ *store) { c.Now = func() time.Time { return at } })
	assert.Equal(t, time.Date(2026, 1, 2, 2, 4, 5, 678_901_000, time.UTC), f.send(t, "hall", "x", "").At)
}

func TestWhoeverSendsIsHeard(t *testing.T) {
	f := open(t, nil)
	heard := make(chan chat.Message, 8)
	f.OnStored(func(m chat.Message) { heard <- m })
	f.OnStored(func(m chat.Message) { heard <- m })
	two := func() []chat.Message { return []chat.Message{<-heard, <-heard} }

	first := f.send(t, "hall", "one", "c1")
	assert.Equal(t, []chat.Message{first.Message, first.Message}, two(), "every listener hears it")
	again := f.send(t, "hall", "one", "c1")
	require.True(t, again.Repeated)
	assert.Equal(t, []chat.Message{first.Message, first.Message}, two(), "whoever stored it may not have lived to tell")
	assert.Equal(t, []chat.Message{first.Message, first.Message}, two(), "nor to tell of what it stored last, which is told once the cache has it")

	answered := make(chan struct{})
	require.NoError(t, f.Submit(t.Context(), chat.Draft{Room: "hall", Text: "two", Author: ada}, func(s chat.Stored, err error) {
		assert.NoError(t, err)
		assert.Empty(t, heard, "the sender has the answer first")
		close(answered)
	}))
	<-answered
	assert.EqualValues(t, 2, two()[0].Seq)

	_, err := f.Send(t.Context(), chat.Draft{Room: "hall", Text: " ", Author: ada})
	require.ErrorIs(t, err, chat.ErrTextInvalid)
	f.stop()
	assert.Empty(t, heard, "what is not stored is not heard")
}

// counted counts how often a room is read.
type counted struct {
	chat.Rooms
	reads atomic.Int32
}

func (c *counted) ByName(ctx context.Context, name string) (chat.Room, error) {
	c.reads.Add(1)
	return c.Rooms.ByName(ctx, name)
}

func TestRoomsAreKeptInOneForm(t *testing.T) {
	composed, decomposed := "café", "cafe\u0301"
	rooms := &counted{Rooms: memory.NewRooms()}
	f := open(t, func(c *chat.Config, _ *store) { c.Normalize, c.Rooms = norm.NFC.String, rooms })
	_, err := f.Join(t.Context(), ada, composed)
	require.NoError(t, err)
	f.send(t, composed, "one", "")
	assert.Zero(t, rooms.reads.Load(), "a name in normal form costs no read")
	assert.Equal(t, composed, f.send(t, decomposed, "two", "").Room)
	for _, read := range []func() (chat.Page, error){
		func() (chat.Page, error) { return f.Newest(t.Context(), decomposed, chat.Reach{}) },
		func() (chat.Page, error) { return f.Since(t.Context(), decomposed, chat.Point{Seq: 0}, chat.Reach{}) },
		func() (chat.Page, error) { return f.History(t.Context(), ada, decomposed, chat.Range{}) },
	} {
		p, err := read()
		require.NoError(t, err)
		assert.Equal(t, []uint64{1, 2}, sequences(p.Messages))
	}
	require.NoError(t, f.Leave(t.Context(), ada.ID, decomposed))
	has, err := f.members.Has(t.Context(), composed, ada.ID)
	require.NoError(t, err)
	assert.False(t, has)

	t.Run("a room of before keeps its form", func(t *testing.T) {
		old := "re\u0301sume\u0301"
		_, err := rooms.Ensure(t.Context(), chat.Room{Name: old})
		require.NoError(t, err)
		rooms.reads.Store(0)
		for range 3 {
			assert.Equal(t, old, f.send(t, old, "x", "").Room)
		}
		assert.EqualValues(t, 1, rooms.reads.Load(), "that it is there is remembered")
	})
	t.Run("names that may not be", func(t *testing.T) {
		for _, name := range []string{"a\u200db", "\u3164", " a", strings.Repeat("\u0958", chat.MaxRoomName)} {
			_, err := f.Resolve(t.Context(), name)
			assert.ErrorIs(t, err, chat.ErrRoomInvalid, "%+q", name)
		}
		for _, name := range []string{"می\u200cخواهم", "ශ්\u200dරී", "👩\u200d💻", "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"} {
			got, err := f.Resolve(t.Context(), name)
			assert.NoError(t, err)
			assert.Equal(t, name, got)
		}
	})
}
