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

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

var (
	bob  = chat.Author{ID: "u-bob", Name: "Bob"}
	noon = time.Date(2030, 1, 2, 12, 0, 0, 5000, time.UTC)
)

func TestCheckReaction(t *testing.T) {
	for _, key := range []string{"+1", "👍", "👍🏽", "👩\u200d💻", "ok !", "é", strings.Repeat("𝕏", chat.MaxReactionKey)} {
		assert.NoError(t, chat.CheckReaction(key), "%q", key)
	}
	for name, key := range map[string]string{
		"empty": "", "too long": strings.Repeat("x", chat.MaxReactionKey+1), "too long in characters of four bytes": strings.Repeat("𝕏", chat.MaxReactionKey+1),
		"no UTF-8": "a\xff", "a line break": "a\nb", "NUL": "a\x00", "only space": "  ", "nothing to be seen": "\u200b", "reordering": "a\u202eb",
	} {
		assert.ErrorIs(t, chat.CheckReaction(key), chat.ErrReactionInvalid, name)
	}
}

// reactions are n of one key, of which as many users are named as may be.
func reactions(key string, n int) chat.Reaction {
	r := chat.Reaction{Key: key, Count: n}
	for i := range min(n, chat.MaxReactionUsers) {
		r.Users = append(r.Users, user.ID(fmt.Sprintf("u-%02d", i)))
	}
	return r
}

func TestApply(t *testing.T) {
	plain := chat.Message{Room: "hall", Seq: 3, ID: "m", ClientID: "c", Author: ada, Text: "hi", At: noon, ReplyTo: 1, Data: `{"a":1}`, Rev: 4}
	with := func(edit func(*chat.Message)) chat.Message { m := plain; edit(&m); return m }
	edited := with(func(m *chat.Message) { m.EditedAt = noon.Add(time.Second) })
	gone := chat.Message{Room: "hall", Seq: 3, ID: "m", ClientID: "c", Author: ada, At: noon, Rev: 4, DeletedAt: noon.Add(time.Minute)}
	liked := with(func(m *chat.Message) {
		m.Reactions = []chat.Reaction{{Key: "x", Count: 1, Users: []user.ID{"u-ada"}}, {Key: "y", Count: 2, Users: []user.ID{"u-bob", "u-ada"}}}
	})
	full := with(func(m *chat.Message) {
		for i := range chat.MaxReactionKeys {
			m.Reactions = append(m.Reactions, reactions(fmt.Sprint("k", i), 1))
		}
	})
	most := with(func(m *chat.Message) {
		m.Reactions = []chat.Reaction{reactions("x", chat.MaxReactions-1), reactions("y", 1)}
	})
	many := with(func(m *chat.Message) { m.Reactions = []chat.Reaction{reactions("x", 25)} })
	at := noon.Add(time.Hour)
	edit := func(who chat.Author, text, data string) chat.Change {
		return chat.Change{Kind: chat.Edit, Room: "hall", Seq: 3, By: who, Text: text, Data: data, At: at}
	}
	erase := func(who chat.Author) chat.Change {
		return chat.Change{Kind: chat.Delete, Room: "hall", Seq: 3, By: who, At: at}
	}
	react := func(kind chat.ChangeKind, who chat.Author, key string) chat.Change {
		return chat.Change{Kind: kind, Room: "hall", Seq: 3, By: who, Key: key, At: at}
	}
	anybody := func(c chat.Change) chat.Change { c.Any = true; return c }
	same := func(m chat.Message) *chat.Message { return &m }
	after := func(m chat.Message, edit func(*chat.Message)) *chat.Message { edit(&m); return &m }
	unnamed := chat.Author{ID: "u-24"}
	for name, c := range map[string]struct {
		change  chat.Change
		m       chat.Message
		reacted bool
		want    *chat.Message // nil if it is refused
		same    bool
		err     error
	}{
		"edit, own":                 {change: edit(ada, "ho", ""), m: plain, want: after(plain, func(m *chat.Message) { m.Text, m.EditedAt = "ho", at })},
		"edit, own, with data":      {change: edit(ada, "ho", "{}"), m: plain, want: after(plain, func(m *chat.Message) { m.Text, m.Data, m.EditedAt = "ho", "{}", at })},
		"edit, data alone":          {change: edit(ada, "hi", "{}"), m: edited, want: after(plain, func(m *chat.Message) { m.Data, m.EditedAt = "{}", at })},
		"edit, keeps reactions":     {change: edit(ada, "ho", ""), m: liked, want: after(liked, func(m *chat.Message) { m.Text, m.EditedAt = "ho", at })},
		"edit, to what it is":       {change: edit(ada, "hi", ""), m: edited, same: true, want: same(edited)},
		"edit, to what it is, data": {change: edit(ada, "hi", `{"a":1}`), m: edited, same: true, want: same(edited)},
		"edit, foreign":             {change: edit(bob, "ho", ""), m: plain, err: chat.ErrNotAllowed},
		"edit, foreign, to what is": {change: edit(bob, "hi", ""), m: plain, err: chat.ErrNotAllowed},
		"edit, foreign, any":        {change: anybody(edit(bob, "ho", "")), m: plain, want: after(plain, func(m *chat.Message) { m.Text, m.EditedAt = "ho", at })},
		"edit, deleted":             {change: edit(ada, "ho", ""), m: gone, err: chat.ErrMessageDeleted},
		"edit, deleted, foreign":    {change: edit(bob, "ho", ""), m: gone, err: chat.ErrNotAllowed},
		"edit, deleted, any":        {change: anybody(edit(bob, "ho", "")), m: gone, err: chat.ErrMessageDeleted},
		"delete, own":               {change: erase(ada), m: liked, want: after(gone, func(m *chat.Message) { m.DeletedAt = at })},
		"delete, edited":            {change: erase(ada), m: edited, want: after(gone, func(m *chat.Message) { m.DeletedAt = at })},
		"delete, foreign":           {change: erase(bob), m: plain, err: chat.ErrNotAllowed},
		"delete, foreign, any":      {change: anybody(erase(bob)), m: plain, want: after(gone, func(m *chat.Message) { m.DeletedAt = at })},
		"delete, deleted":           {change: erase(ada), m: gone, same: true, want: same(gone)},
		"delete, deleted, foreign":  {change: erase(bob), m: gone, err: chat.ErrNotAllowed},
		"delete, deleted, any":      {change: anybody(erase(bob)), m: gone, same: true, want: same(gone)},
		"react, first":              {change: react(chat.React, bob, "z"), m: plain, want: after(plain, func(m *chat.Message) { m.Reactions = []chat.Reaction{{Key: "z", Count: 1, Users: []user.ID{"u-bob"}}} })},
		"react, another key": {change: react(chat.React, bob, "z"), m: liked, want: after(liked, func(m *chat.Message) {
			m.Reactions = append(slices.Clip(m.Reactions), chat.Reaction{Key: "z", Count: 1, Users: []user.ID{"u-bob"}})
		})},
		"react, a key that is there": {change: react(chat.React, bob, "x"), m: liked, want: after(liked, func(m *chat.Message) {
			m.Reactions = []chat.Reaction{{Key: "x", Count: 2, Users: []user.ID{"u-ada", "u-bob"}}, m.Reactions[1]}
		})},
		"react, again":          {change: react(chat.React, ada, "x"), m: liked, reacted: true, same: true, want: same(liked)},
		"react, again, unnamed": {change: react(chat.React, unnamed, "x"), m: many, reacted: true, same: true, want: same(many)},
		"react, no place for a name": {change: react(chat.React, bob, "x"), m: many, want: after(many, func(m *chat.Message) {
			m.Reactions = []chat.Reaction{{Key: "x", Count: 26, Users: m.Reactions[0].Users}}
		})},
		"react, a key too many": {change: react(chat.React, bob, "more"), m: full, err: chat.ErrReactionsFull},
		"react, full, a key there": {change: react(chat.React, bob, "k7"), m: full, want: after(full, func(m *chat.Message) {
			m.Reactions = slices.Clone(m.Reactions)
			m.Reactions[7] = chat.Reaction{Key: "k7", Count: 2, Users: []user.ID{"u-00", "u-bob"}}
		})},
		"react, one too many":        {change: react(chat.React, bob, "x"), m: most, err: chat.ErrReactionsFull},
		"react, one too many, again": {change: react(chat.React, bob, "x"), m: most, reacted: true, same: true, want: same(most)},
		"react, deleted":             {change: react(chat.React, ada, "x"), m: gone, err: chat.ErrMessageDeleted},
		"unreact": {change: react(chat.Unreact, bob, "y"), m: liked, want: after(liked, func(m *chat.Message) {
			m.Reactions = []chat.Reaction{m.Reactions[0], {Key: "y", Count: 1, Users: []user.ID{"u-ada"}}}
		})},
		"unreact, the last of a key": {change: react(chat.Unreact, ada, "x"), m: liked, reacted: true, want: after(liked, func(m *chat.Message) { m.Reactions = m.Reactions[1:] })},
		"unreact, the last":          {change: react(chat.Unreact, ada, "x"), m: with(func(m *chat.Message) { m.Reactions = liked.Reactions[:1] }), reacted: true, want: after(plain, func(*chat.Message) {})},
		"unreact, unnamed": {change: react(chat.Unreact, unnamed, "x"), m: many, reacted: true, want: after(many, func(m *chat.Message) {
			m.Reactions = []chat.Reaction{{Key: "x", Count: 24, Users: m.Reactions[0].Users}}
		})},
		"unreact, what is not there": {change: react(chat.Unreact, bob, "x"), m: liked, same: true, want: same(liked)},
		"unreact, no such key":       {change: react(chat.Unreact, bob, "z"), m: plain, same: true, want: same(plain)},
		"unreact, deleted":           {change: react(chat.Unreact, ada, "x"), m: gone, err: chat.ErrMessageDeleted},
		"a kind that there is not":   {change: chat.Change{By: ada}, m: plain, err: fault.Internal},
		"another kind that is not":   {change: chat.Change{Kind: 99, By: bob}, m: plain, err: fault.Internal},
		"Any makes no reaction":      {change: anybody(react(chat.React, bob, "more")), m: full, err: chat.ErrReactionsFull},
		"react, foreign, needs no Any": {change: react(chat.React, bob, "k1"), m: full, want: after(full, func(m *chat.Message) {
			m.Reactions = slices.Clone(m.Reactions)
			m.Reactions[1] = chat.Reaction{Key: "k1", Count: 2, Users: []user.ID{"u-00", "u-bob"}}
		})},
	} {
		t.Run(name, func(t *testing.T) {
			if c.change.Kind == chat.Unreact && !c.same && c.err == nil {
				c.reacted = true
			}
			before := c.m.Clone()
			got, changed, err := c.change.Apply(c.m, c.reacted)
			assert.Equal(t, before, c.m, "the message that was given is as it was")
			if c.want == nil {
				require.ErrorIs(t, err, c.err)
				assert.Equal(t, chat.Message{}, got)
				assert.False(t, changed)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, *c.want, got)
			assert.Equal(t, !c.same, changed)
			assert.Equal(t, c.m.Rev, got.Rev, "the store gives the Rev")
		})
	}
}

// heard is what was told of changes, or of messages.
type heard struct {
	mu  sync.Mutex
	all []chat.Message
}

func (h *heard) hear(m chat.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, m)
}

// take returns what was told since the last call.
func (h *heard) take() []chat.Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.all
	h.all = nil
	return all
}

func revs(messages []chat.Message) []uint64 {
	out := []uint64{}
	for _, m := range messages {
		out = append(out, m.Rev)
	}
	return out
}

func (f *fixture) change(t *testing.T, c chat.Change) chat.Changed {
	t.Helper()
	changed, err := f.Change(t.Context(), c)
	require.NoError(t, err)
	return changed
}

func edit(seq uint64, text string) chat.Change {
	return chat.Change{Kind: chat.Edit, Room: "hall", Seq: seq, By: ada, Text: text, At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
}

func TestChangesAreStoredCachedAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := memory.NewRecentCache(memory.RecentCacheConfig{})
		f := open(t, func(c *chat.Config, _ *store) {
			c.Cache = cache
			c.Now = func() time.Time { return noon.In(time.FixedZone("", 3600)).Add(999) }
		})
		var h, stored heard
		f.OnChanged(h.hear)
		f.OnStored(stored.hear)
		one, two := f.send(t, "hall", "one", ""), f.send(t, "hall", "two", "")

		edited := f.change(t, edit(1, "uno"))
		want := one.Message
		want.Text, want.Rev, want.EditedAt = "uno", 1, noon
		assert.Equal(t, chat.Changed{Message: want}, edited)
		synctest.Wait()
		assert.Equal(t, []chat.Message{want}, h.take())

		liked := f.change(t, chat.Change{Kind: chat.React, Room: "hall", Seq: 2, By: bob, Key: "+1"})
		also := two.Message
		also.Rev, also.Reactions = 2, []chat.Reaction{{Key: "+1", Count: 1, Users: []user.ID{bob.ID}}}
		assert.Equal(t, chat.Changed{Message: also}, liked)
		lists, asked := f.store.lists.Load(), f.store.asked.Load()
		p, err := f.Newest(t.Context(), "hall", chat.Reach{Seq: 2, Rev: 2})
		require.NoError(t, err)
		assert.Equal(t, chat.Page{Messages: []chat.Message{want, also}, Last: 2, Rev: 2, Recovered: true}, p)
		assert.Equal(t, lists+asked, f.store.lists.Load()+f.store.asked.Load(), "the cache has the changes")

		gone := f.change(t, chat.Change{Kind: chat.Delete, Room: "hall", Seq: 1, By: ada})
		assert.Equal(t, chat.Message{Room: "hall", Seq: 1, ID: one.ID, Author: ada, At: one.At, Rev: 3, DeletedAt: noon}, gone.Message)
		back := f.change(t, chat.Change{Kind: chat.Unreact, Room: "hall", Seq: 2, By: bob, Key: "+1"})
		assert.Empty(t, back.Reactions)
		synctest.Wait()
		assert.Equal(t, []chat.Message{also, gone.Message, back.Message}, h.take())
		assert.Equal(t, []uint64{1, 2}, sequences(stored.take()), "a change is no message")
		held, _, err := cache.Get(t.Context(), "hall")
		require.NoError(t, err)
		assert.Equal(t, chat.Recent{Messages: []chat.Message{gone.Message, back.Message}, Rev: 4}, held)
	})
}

func TestChangesOfManyAreToldInOrder(t *testing.T) {
	f := open(t, nil)
	var h heard
	f.OnChanged(h.hear)
	for range 5 {
		f.send(t, "hall", "x", "")
	}
	const users, each = 20, 10
	var wg sync.WaitGroup
	for i := range users {
		wg.Go(func() {
			last := uint64(0)
			for j := range each {
				c, err := f.Change(context.Background(), chat.Change{
					Kind: chat.React, Room: "hall", Seq: uint64(j%5 + 1), By: chat.Author{ID: user.ID(fmt.Sprint("u", i))}, Key: fmt.Sprint(j),
				})
				if assert.NoError(t, err) {
					assert.Greater(t, c.Rev, last)
					last = c.Rev
				}
			}
		})
	}
	wg.Wait()
	f.stop()
	all := h.take()
	require.Len(t, all, users*each)
	for i, m := range all {
		assert.EqualValues(t, i+1, m.Rev)
	}
	p, err := f.Newest(t.Context(), "hall", chat.Reach{Rev: users * each})
	require.NoError(t, err)
	for _, m := range p.Messages {
		require.Len(t, m.Reactions, 2)
		assert.Equal(t, users, m.Reactions[0].Count)
	}
}

func TestSubmitChangeDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := open(t, func(_ *chat.Config, st *store) { st.onChange = func([]chat.Change) error { <-release; return nil } })
		f.send(t, "hall", "x", "")
		var order []string
		told := make(chan struct{}, 3)
		f.OnChanged(func(m chat.Message) { order = append(order, fmt.Sprint("told ", m.Rev)); told <- struct{}{} })
		submit := func(c chat.Change) error {
			return f.SubmitChange(t.Context(), c, func(changed chat.Changed, err error) {
				order = append(order, fmt.Sprintf("done %d %v", changed.Rev, errors.Is(err, chat.ErrNotAllowed)))
			})
		}
		require.NoError(t, submit(edit(1, "one")))
		require.NoError(t, submit(chat.Change{Kind: chat.Delete, Room: "hall", Seq: 1, By: bob}))
		require.NoError(t, submit(edit(1, "two")))
		require.ErrorIs(t, submit(edit(1, "")), chat.ErrTextInvalid, "done is not called then")
		require.ErrorIs(t, submit(edit(0, "x")), chat.ErrMessageNotFound)
		synctest.Wait()
		assert.Empty(t, order)
		close(release)
		<-told
		<-told
		f.stop()
		assert.Equal(t, []string{"done 1 false", "told 1", "done 0 true", "done 2 false", "told 2"}, order, "whoever did it has the answer first")
		require.ErrorIs(t, submit(edit(1, "three")), chat.ErrClosed)
	})
}

func TestWhatIsNotAChangeIsRefused(t *testing.T) {
	f := open(t, nil)
	f.send(t, "hall", "x", "")
	for name, c := range map[string]struct {
		change chat.Change
		err    error
	}{
		"no room":           {chat.Change{Kind: chat.Delete, Seq: 1, By: ada}, chat.ErrRoomInvalid},
		"an unknown room":   {chat.Change{Kind: chat.Delete, Room: "bar", Seq: 1, By: ada}, chat.ErrMessageNotFound},
		"no message":        {chat.Change{Kind: chat.Delete, Room: "hall", By: ada}, chat.ErrMessageNotFound},
		"a later message":   {edit(2, "y"), chat.ErrMessageNotFound},
		"no text":           {edit(1, ""), chat.ErrTextInvalid},
		"a long text":       {edit(1, strings.Repeat("x", chat.MaxText+1)), chat.ErrTextInvalid},
		"data":              {chat.Change{Kind: chat.Edit, Room: "hall", Seq: 1, By: ada, Text: "y", Data: "[]"}, chat.ErrDataInvalid},
		"no key":            {chat.Change{Kind: chat.React, Room: "hall", Seq: 1, By: ada}, chat.ErrReactionInvalid},
		"a key to end":      {chat.Change{Kind: chat.Unreact, Room: "hall", Seq: 1, By: ada, Key: "\n"}, chat.ErrReactionInvalid},
		"somebody else's":   {chat.Change{Kind: chat.Edit, Room: "hall", Seq: 1, By: bob, Text: "y"}, chat.ErrNotAllowed},
		"no kind":           {chat.Change{Room: "hall", Seq: 1, By: ada}, fault.Internal},
		"somebody's, erase": {chat.Change{Kind: chat.Delete, Room: "hall", Seq: 1, By: bob}, chat.ErrNotAllowed},
	} {
		changed, err := f.Change(t.Context(), c.change)
		require.ErrorIs(t, err, c.err, name)
		assert.Equal(t, chat.Message{}, changed.Message, name)
	}
	for i := range chat.MaxReactionKeys {
		f.change(t, chat.Change{Kind: chat.React, Room: "hall", Seq: 1, By: ada, Key: fmt.Sprint(i)})
	}
	_, err := f.Change(t.Context(), chat.Change{Kind: chat.React, Room: "hall", Seq: 1, By: ada, Key: "more"})
	require.ErrorIs(t, err, chat.ErrReactionsFull)
	f.change(t, chat.Change{Kind: chat.Delete, Room: "hall", Seq: 1, By: ada})
	_, err = f.Change(t.Context(), edit(1, "back"))
	require.ErrorIs(t, err, chat.ErrMessageDeleted)
	b, err := f.store.MessageStore.Bounds(t.Context(), "hall")
	require.NoError(t, err)
	assert.EqualValues(t, chat.MaxReactionKeys+1, b.Rev, "what was refused is not counted")
}

// What people type in several ways is one: rooms, and the keys of reactions; data is kept in one form.
func TestChangesAreBroughtIntoOneForm(t *testing.T) {
	f := open(t, func(c *chat.Config, _ *store) { c.Normalize = strings.ToLower })
	f.send(t, "hall", "x", "")
	changed := f.change(t, chat.Change{Kind: chat.React, Room: "HALL", Seq: 1, By: ada, Key: "Like"})
	assert.Equal(t, []chat.Reaction{{Key: "like", Count: 1, Users: []user.ID{ada.ID}}}, changed.Reactions)
	assert.True(t, f.change(t, chat.Change{Kind: chat.React, Room: "hall", Seq: 1, By: ada, Key: "LIKE"}).Repeated)
	assert.Empty(t, f.change(t, chat.Change{Kind: chat.Unreact, Room: "Hall", Seq: 1, By: ada, Key: "LIKE"}).Reactions)
	c := edit(1, "Y")
	c.Data = ` { "a" : 1 } `
	changed = f.change(t, c)
	assert.Equal(t, "Y", changed.Text)
	assert.Equal(t, `{"a":1}`, changed.Data)
}

func TestAccessDecidesWhoChanges(t *testing.T) {
	f := open(t, func(c *chat.Config, st *store) {
		c.Access = guard{chat.ActionSend}
		_, err := st.Append(t.Context(), []chat.Message{{Room: "hall", ID: "m", Author: ada, Text: "x"}})
		require.NoError(t, err)
	})
	for _, c := range []chat.Change{
		edit(1, "y"), {Kind: chat.Delete, Room: "hall", Seq: 1, By: ada}, {Kind: chat.React, Room: "hall", Seq: 1, By: bob, Key: "+1"},
		{Kind: chat.Unreact, Room: "hall", Seq: 1, By: bob, Key: "+1"}, edit(0, "y"), edit(7, "y"),
	} {
		_, err := f.Change(t.Context(), c)
		require.ErrorIs(t, err, chat.ErrNotAllowed)
		require.ErrorIs(t, f.SubmitChange(t.Context(), c, nil), chat.ErrNotAllowed)
	}
	assert.Zero(t, f.store.changes.Load(), "who may not send here learns nothing of the room")
	c := edit(1, "moderated")
	c.By, c.Any = bob, true
	assert.Equal(t, "moderated", f.change(t, c).Text, "who may change everything is not asked about")
}

func TestScreenSeesEdits(t *testing.T) {
	var mu sync.Mutex
	var seen []chat.Draft
	screen := chat.ScreenFunc(func(_ context.Context, d chat.Draft) (chat.Draft, error) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, d)
		switch d.Text {
		case "spam":
			return d, chat.ErrRefused.Detail("no advertising")
		case "darn":
			d.Text, d.Data, d.Room, d.Edits, d.Author = "d***", ` {"screened": true} `, "elsewhere", 2, bob
		case "empty":
			d.Text = ""
		case "broken":
			d.Data = "["
		case "fail":
			return d, errors.New("down")
		}
		return d, nil
	})
	f := open(t, func(c *chat.Config, _ *store) { c.Screen = screen })
	f.send(t, "hall", "x", "")
	f.send(t, "hall", "y", "")
	seen = nil
	c := edit(1, "fine")
	c.Data = `{ "a":1}`
	changed := f.change(t, c)
	assert.Equal(t, "fine", changed.Text)
	assert.Equal(t, []chat.Draft{{Room: "hall", Author: ada, Text: "fine", Data: `{"a":1}`, Edits: 1}}, seen)
	changed = f.change(t, edit(1, "darn"))
	assert.Equal(t, "d***", changed.Text)
	assert.Equal(t, `{"screened":true}`, changed.Data)
	assert.EqualValues(t, 1, changed.Seq, "only text and data count")
	assert.Empty(t, seen[1].Data, "the message keeps what it has")
	for text, want := range map[string]error{"spam": chat.ErrRefused, "empty": chat.ErrTextInvalid, "broken": chat.ErrDataInvalid, "fail": chat.ErrUnscreened} {
		_, err := f.Change(t.Context(), edit(1, text))
		require.ErrorIs(t, err, want)
	}
	seen = nil
	f.change(t, chat.Change{Kind: chat.React, Room: "hall", Seq: 1, By: ada, Key: "spam"})
	f.change(t, chat.Change{Kind: chat.Unreact, Room: "hall", Seq: 1, By: ada, Key: "spam"})
	f.change(t, chat.Change{Kind: chat.Delete, Room: "hall", Seq: 2, By: ada})
	assert.Empty(t, seen, "only what is said is looked at")
	p, err := f.Newest(t.Context(), "hall", chat.Reach{})
	require.NoError(t, err)
	assert.Equal(t, "d***", p.Messages[0].Text)
}

// A change that changes nothing is told again: whoever stored it may not have lived to tell. The last message and the last change of
// the room are told, too, once the cache is known to have them.
func TestARepeatedChangeIsToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := memory.NewRecentCache(memory.RecentCacheConfig{})
		f := open(t, func(c *chat.Config, _ *store) { c.Cache = cache })
		f.send(t, "hall", "x", "")
		f.send(t, "hall", "y", "")
		synctest.Wait() // it is told behind its answer
		var h, stored heard
		f.OnChanged(h.hear)
		f.OnStored(stored.hear)
		// Another node has stored two changes, and died.
		for _, c := range []chat.Change{edit(1, "z"), edit(2, "z")} {
			_, err := f.store.MessageStore.Change(t.Context(), []chat.Change{c})
			require.NoError(t, err)
		}
		changed := f.change(t, edit(1, "z"))
		assert.True(t, changed.Repeated)
		assert.EqualValues(t, 1, changed.Rev)
		time.Sleep(5 * time.Second) // of the bubble
		assert.Equal(t, []uint64{1, 2}, revs(h.take()))
		assert.Equal(t, []uint64{2}, sequences(stored.take()))
		held, _, err := cache.Get(t.Context(), "hall")
		require.NoError(t, err)
		assert.EqualValues(t, 2, held.Rev)
		assert.Equal(t, "z", held.Messages[0].Text)

		// Nothing was ever changed here, so that there is nothing to tell.
		assert.True(t, f.change(t, chat.Change{Kind: chat.Unreact, Room: "hall", Seq: 1, By: bob, Key: "+1"}).Repeated)
		f.send(t, "bar", "x", "")
		assert.True(t, f.change(t, chat.Change{Kind: chat.Edit, Room: "bar", Seq: 1, By: ada, Text: "x"}).Repeated)
		time.Sleep(5 * time.Second)
		assert.Equal(t, []uint64{1, 2}, revs(h.take()), "of hall only")
	})
}

// A change whose answer was lost is found by whoever reads, and told.
func TestAChangeOfUnknownOutcomeReachesTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := memory.NewRecentCache(memory.RecentCacheConfig{})
		f := open(t, func(c *chat.Config, _ *store) { c.Cache = cache })
		f.send(t, "hall", "x", "")
		f.send(t, "hall", "y", "")
		var h heard
		f.OnChanged(h.hear)
		f.store.onChange = func(changes []chat.Change) error {
			_, err := f.store.MessageStore.Change(context.Background(), changes)
			return errors.Join(err, fault.Wrap(fault.Unavailable, errors.New("the answer is lost")))
		}
		_, err := f.Change(t.Context(), edit(1, "z"))
		require.ErrorIs(t, err, fault.Unavailable)
		assert.EqualValues(t, 1, f.store.changes.Load(), "it is not tried again by itself")
		time.Sleep(5 * time.Second) // of the bubble
		assert.Equal(t, []uint64{1}, revs(h.take()), "nobody else would say so")
		held, _, err := cache.Get(t.Context(), "hall")
		require.NoError(t, err)
		assert.EqualValues(t, 1, held.Rev)
		assert.Equal(t, "z", held.Messages[0].Text)

		f.store.onChange = func([]chat.Change) error { return fault.Wrap(fault.Unavailable, errors.New("nobody there")) }
		_, err = f.Change(t.Context(), edit(1, "zz"))
		require.ErrorIs(t, err, fault.Unavailable)
		time.Sleep(5 * time.Second)
		assert.Equal(t, []uint64{1}, revs(h.take()), "it might have been stored")
		f.store.onChange = nil
		f.change(t, edit(1, "zzz"))
		time.Sleep(5 * time.Second)
		assert.Equal(t, []uint64{2}, revs(h.take()))
	})
}

// A change that the store refuses altogether harms none of those that are committed with it.
func TestAChangeThatFailsHarmsNoOther(t *testing.T) {
	f := open(t, nil)
	f.send(t, "hall", "x", "")
	entered, release := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	f.store.onChange = func(changes []chat.Change) error {
		if first.CompareAndSwap(false, true) {
			close(entered)
			<-release
		}
		if slices.ContainsFunc(changes, func(c chat.Change) bool { return c.Key == "poison" }) {
			return fault.Wrap(fault.Invalid, errors.New("poison"))
		}
		return nil
	}
	answers := make(chan string, 4)
	submit := func(key string) {
		require.NoError(t, f.SubmitChange(t.Context(), chat.Change{Kind: chat.React, Room: "hall", Seq: 1, By: ada, Key: key}, func(c chat.Changed, err error) {
			answers <- fmt.Sprint(key, " ", c.Rev, " ", errors.Is(err, fault.Invalid))
		}))
	}
	submit("first")
	<-entered
	submit("a")
	submit("poison")
	submit("b")
	close(release)
	var got []string
	for range 4 {
		got = append(got, <-answers)
	}
	assert.Equal(t, []string{"first 1 false", "a 2 false", "poison 0 true", "b 3 false"}, got)
}

func TestChangesAreBounded(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{}, 16)
	f := open(t, func(c *chat.Config, st *store) {
		c.MaxPending, c.MaxBatch = 2, 2
		st.onChange = func(changes []chat.Change) error {
			assert.LessOrEqual(t, len(changes), 2)
			entered <- struct{}{}
			<-release
			return nil
		}
	})
	f.send(t, "hall", "x", "")
	var wg sync.WaitGroup
	submit := func(key string) error {
		wg.Add(1)
		err := f.SubmitChange(t.Context(), chat.Change{Kind: chat.React, Room: "hall", Seq: 1, By: ada, Key: key}, func(_ chat.Changed, err error) {
			defer wg.Done()
			assert.NoError(t, err)
		})
		if err != nil {
			wg.Done()
		}
		return err
	}
	require.NoError(t, submit("a"))
	<-entered
	require.NoError(t, submit("b"))
	require.NoError(t, submit("c"))
	require.ErrorIs(t, submit("d"), chat.ErrBusy)
	_, err := f.Send(t.Context(), chat.Draft{Room: "hall", Text: "y", Author: ada})
	require.NoError(t, err, "messages have a queue of their own")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = f.Change(ctx, edit(1, "z"))
	require.ErrorIs(t, err, fault.Unavailable)
	close(release)
	wg.Wait()
}

// changed is a room of 12 messages, of which 2, 4 and 9 were changed: the Revs are 1 to 4, and 2 has the last one.
func changedRoom(t *testing.T, change func(*chat.Config, *store)) *fixture {
	t.Helper()
	f := open(t, change)
	for range 12 {
		f.send(t, "hall", "x", "")
	}
	for _, c := range []chat.Change{edit(2, "1"), edit(4, "2"), edit(9, "3"), edit(2, "4")} {
		f.change(t, c)
	}
	return f
}

func TestSinceTellsWhatChanged(t *testing.T) {
	for name, c := range map[string]struct {
		from      chat.Point
		rev       uint64 // of from, ^0 if it has none
		changes   []uint64
		recovered bool
		stored    bool // the store is read
	}{
		"nothing has changed":                   {from: chat.Point{Seq: 12}, rev: 4, recovered: true},
		"all has changed":                       {from: chat.Point{Seq: 12}, rev: 0, changes: []uint64{2, 3, 4}, recovered: true, stored: true},
		"some has":                              {from: chat.Point{Seq: 12}, rev: 2, changes: []uint64{3, 4}, recovered: true, stored: true},
		"only messages that the reader has":     {from: chat.Point{Seq: 8}, rev: 1, changes: []uint64{2, 4}, recovered: true, stored: true},
		"what it was given besides is his, too": {from: chat.Point{Seq: 8, Given: 9}, rev: 1, changes: []uint64{2, 3, 4}, recovered: true, stored: true},
		"nothing that the reader has":           {from: chat.Point{Seq: 1}, rev: 0, changes: []uint64{}, recovered: true, stored: true},
		"the reader has nothing":                {from: chat.Point{}, rev: 0, recovered: true},
		"a Rev of the future":                   {from: chat.Point{Seq: 12}, rev: 5, stored: true},
		"a sequence of the future":              {from: chat.Point{Seq: 13}, rev: 4, stored: true},
		"no Rev":                                {from: chat.Point{Seq: 12}, rev: ^uint64(0), recovered: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := changedRoom(t, nil)
			if c.rev != ^uint64(0) {
				c.from.Rev = &c.rev
			}
			reads := f.store.lists.Load() + f.store.asked.Load()
			p, err := f.Since(t.Context(), "hall", c.from, chat.Reach{Seq: 12})
			require.NoError(t, err)
			if c.changes == nil {
				assert.Empty(t, p.Changes)
			} else {
				assert.Equal(t, c.changes, revs(p.Changes))
			}
			assert.Equal(t, c.recovered, p.Recovered)
			assert.EqualValues(t, 4, p.Rev)
			assert.EqualValues(t, 12, p.Last)
			assert.Equal(t, c.stored, f.store.lists.Load()+f.store.asked.Load() > reads, "whether the store was read")
			for _, m := range p.Messages {
				assert.Greater(t, m.Seq, c.from.Seq)
				if m.Seq == 9 {
					assert.Equal(t, "3", m.Text, "as it is now")
				}
			}
		})
	}
}

// Changes that do not fit into one page are read from where it ends.
func TestChangesArePaged(t *testing.T) {
	f := changedRoom(t, func(c *chat.Config, _ *store) { c.MaxPage = 2 })
	rev := uint64(0)
	p, err := f.Since(t.Context(), "hall", chat.Point{Seq: 12, Rev: &rev}, chat.Reach{})
	require.NoError(t, err)
	assert.Equal(t, []uint64{2, 3}, revs(p.Changes))
	assert.EqualValues(t, 4, p.Rev)
	p, err = f.Changes(t.Context(), "hall", 3)
	require.NoError(t, err)
	assert.Equal(t, []uint64{4}, revs(p.Messages))
	assert.False(t, p.More)
	p, err = f.Changes(t.Context(), "hall", 0)
	require.NoError(t, err)
	assert.Equal(t, []uint64{2, 3}, revs(p.Messages))
	assert.True(t, p.More)
	assert.EqualValues(t, 4, p.Rev)
	assert.EqualValues(t, 12, p.Last)
	p, err = f.History(t.Context(), ada, "hall", chat.Range{Changed: true, After: 2, Newest: true, Limit: 1})
	require.NoError(t, err)
	assert.Equal(t, []uint64{3}, revs(p.Messages))
	assert.True(t, p.More)
}

// Whoever knows of a change gets it, whatever the cache holds.
func TestAPageReachesWhatIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := changedRoom(t, nil)
		_, err := f.store.MessageStore.Change(t.Context(), []chat.Change{edit(12, "stored by a node that died")})
		require.NoError(t, err)
		p, err := f.Newest(t.Context(), "hall", chat.Reach{Seq: 12, Rev: 4})
		require.NoError(t, err)
		assert.Equal(t, "x", p.Messages[9].Text, "the cache does not know better")
		for name, read := range map[string]func() (chat.Page, error){
			"Newest": func() (chat.Page, error) { return f.Newest(t.Context(), "hall", chat.Reach{Seq: 12, Rev: 5}) },
			"Since": func() (chat.Page, error) {
				return f.Since(t.Context(), "hall", chat.Point{Seq: 2}, chat.Reach{Rev: 5})
			},
			"Since, by what it asks from": func() (chat.Page, error) {
				rev := uint64(5)
				return f.Since(t.Context(), "hall", chat.Point{Seq: 2, Rev: &rev}, chat.Reach{})
			},
		} {
			p, err := read()
			require.NoError(t, err)
			assert.Equal(t, "stored by a node that died", p.Messages[len(p.Messages)-1].Text, name)
			assert.EqualValues(t, 5, p.Rev, name)
			assert.True(t, p.Recovered, name)
		}
		held := f.store.lists.Load()
		_, err = f.Newest(t.Context(), "hall", chat.Reach{Seq: 12, Rev: 5})
		require.NoError(t, err)
		assert.Equal(t, held, f.store.lists.Load(), "the cache has it by now")
	})
}

// late is a store whose lists are old when they arrive.
type late struct {
	chat.MessageStore
	arrive chan struct{}
}

func (l late) List(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
	all, err := l.MessageStore.List(ctx, room, r)
	<-l.arrive
	return all, err
}

// Those who wait for the same page get one that reaches as far as each of them knows.
func TestAPageThatSeveralWaitForReachesWhatAnyOfThemKnows(t *testing.T) {
	for name, c := range map[string]struct {
		seen    chat.Reach
		happens func(ctx context.Context, under chat.MessageStore) error
	}{
		"a message": {chat.Reach{Seq: 2}, func(ctx context.Context, under chat.MessageStore) error {
			_, err := under.Append(ctx, []chat.Message{{Room: "hall", ID: "m2", Author: ada, Text: "late"}})
			return err
		}},
		"a change": {chat.Reach{Seq: 1, Rev: 1}, func(ctx context.Context, under chat.MessageStore) error {
			_, err := under.Change(ctx, []chat.Change{edit(1, "late")})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				under := memory.NewMessages()
				_, err := under.Append(t.Context(), []chat.Message{{Room: "hall", ID: "m1", Author: ada, Text: "x"}})
				require.NoError(t, err)
				slow := late{under, make(chan struct{})}
				f := open(t, func(c *chat.Config, _ *store) { c.Store = slow })
				pages := make([]chat.Page, 3)
				read := func(i int, seen chat.Reach) {
					go func() {
						var err error
						pages[i], err = f.Newest(t.Context(), "hall", seen)
						assert.NoError(t, err)
					}()
					synctest.Wait()
				}
				read(0, chat.Reach{})
				read(1, chat.Reach{}) // leads the next
				require.NoError(t, c.happens(t.Context(), under))
				read(2, c.seen)
				close(slow.arrive)
				synctest.Wait()
				require.NotEmpty(t, pages[2].Messages)
				assert.Equal(t, "late", pages[2].Messages[len(pages[2].Messages)-1].Text)
				assert.GreaterOrEqual(t, pages[2].Rev, c.seen.Rev)
			})
		})
	}
}

// refusing is a cache that refuses changes for a while.
type refusing struct {
	chat.RecentCache
	refuses atomic.Bool
}

func (c *refusing) Change(ctx context.Context, messages ...chat.Message) error {
	if c.refuses.Load() {
		return fault.Wrap(fault.Internal, errors.New("a script is wrong"))
	}
	return c.RecentCache.Change(ctx, messages...)
}

// What was erased does not stay in a cache, whatever went wrong there.
func TestAChangeThatTheCacheRefusesIsMadeUpFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := &refusing{RecentCache: memory.NewRecentCache(memory.RecentCacheConfig{})}
		f := open(t, func(c *chat.Config, _ *store) { c.Cache = cache })
		f.send(t, "hall", "secret", "")
		cache.refuses.Store(true)
		f.change(t, edit(1, "public"))
		time.Sleep(5 * time.Second) // of the bubble
		held, _, err := cache.Get(t.Context(), "hall")
		require.NoError(t, err)
		require.Len(t, held.Messages, 1)
		assert.Equal(t, "public", held.Messages[0].Text)
		assert.EqualValues(t, 1, held.Rev)
	})
}
