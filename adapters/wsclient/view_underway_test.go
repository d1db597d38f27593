package wsclient_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/testkit"
	"github.com/parley-chat/parley/testkit/system"
)

// sends answers messages when a test wants it.
type sends struct {
	asked  chan wsclient.Draft
	answer chan error
}

func (s sends) SendDraft(_ context.Context, _ string, d wsclient.Draft) (wsclient.Sent, error) {
	s.asked <- d
	err := <-s.answer
	return wsclient.Sent{Seq: 1, ID: "1", ClientID: d.ClientID}, err
}

// TestViewListsWhatIsUnderWay sends messages, and lets them settle in every order of answer and event.
func TestViewListsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	clock, ids := testkit.NewClock(time.Time{}), 0
	var mu sync.Mutex
	told := 0
	v, err := wsclient.NewView(wsclient.ViewConfig{
		User: "ada", Keep: 2, Now: clock.Now, NewID: func() string { ids++; return string(rune('a' + ids - 1)) },
		Changed: func(room string) {
			mu.Lock()
			defer mu.Unlock()
			assert.Equal(t, "hall", room)
			told++
		},
	})
	require.NoError(t, err)
	heard := func() bool {
		mu.Lock()
		defer mu.Unlock()
		now := told
		told = 0
		return now > 0
	}
	by := sends{asked: make(chan wsclient.Draft), answer: make(chan error)}
	ended := make(chan error)
	begin := func(d wsclient.Draft) {
		go func() {
			_, err := v.Send(t.Context(), by, "hall", d)
			ended <- err
		}()
		<-by.asked
	}
	end := func(err error) {
		by.answer <- err
		require.ErrorIs(t, <-ended, err)
	}
	event := func(user, clientID string, seq uint64) wsclient.Event {
		e := said(seq, user)
		e.Message.ClientID = clientID
		return e
	}
	state := func() (all []string) {
		for _, u := range v.Underway("hall") {
			s := u.Draft.Text + " " + u.Draft.ClientID
			if u.State == wsclient.UnderwayFailed {
				s += ": " + u.Err.Error()
			}
			all = append(all, s)
		}
		return all
	}

	began := clock.Now()
	begin(wsclient.Draft{Text: "one", ReplyTo: 7, Data: map[string]int{"n": 1}})
	assert.True(t, heard())
	assert.Equal(t, []wsclient.Underway{{
		ID: 1, Kind: wsclient.UnderwayMessage, State: wsclient.UnderwayWaits, Room: "hall", At: began,
		Draft: wsclient.Draft{Text: "one", ClientID: "a", ReplyTo: 7, Data: map[string]int{"n": 1}},
	}}, v.Underway("hall"))
	assert.Empty(t, v.Underway("elsewhere"))
	assert.False(t, v.Forget(1), "it has not failed")
	end(nil)
	assert.True(t, heard())
	assert.Empty(t, state())

	// The event comes first, and settles it; those of others do not.
	begin(wsclient.Draft{Text: "two"})
	v.Take(event("bob", "b", 1))
	v.Take(event("ada", "x", 2))
	assert.Equal(t, []string{"two b"}, state())
	v.Take(event("ada", "b", 3))
	assert.Empty(t, state())
	end(context.DeadlineExceeded)
	assert.Empty(t, state(), "it is stored, whatever became of the answer")

	// It fails, and is sent again with its client id.
	begin(wsclient.Draft{Text: "three"})
	clock.Advance(time.Second)
	end(chat.ErrMuted)
	assert.Equal(t, []string{"three c: " + chat.ErrMuted.Error()}, state())
	begin(v.Underway("hall")[0].Draft)
	assert.Equal(t, []string{"three c"}, state())
	end(chat.ErrMuted)
	heard()
	assert.True(t, v.Forget(v.Underway("hall")[0].ID))
	assert.True(t, heard())
	assert.Empty(t, state())
	assert.False(t, v.Forget(77))

	// What has failed, and is stored all the same, settles by a page.
	begin(wsclient.Draft{Text: "four"})
	end(context.DeadlineExceeded)
	v.Add("hall", wsclient.Page{Messages: []wsclient.Message{event("ada", "d", 2).Message}})
	assert.Empty(t, state())

	// The latest failures stay.
	for _, text := range []string{"five", "six", "seven"} {
		begin(wsclient.Draft{Text: text})
		end(chat.ErrMuted)
	}
	assert.Equal(t, []string{"six f: " + chat.ErrMuted.Error(), "seven g: " + chat.ErrMuted.Error()}, state())
}

// TestViewListsChangesUnderWay asks for changes that are refused, asked for again, and stored.
func TestViewListsChangesUnderWay(t *testing.T) {
	t.Parallel()
	v := watch(t, "ada", 0)
	by := byHand{asked: make(chan string), rev: make(chan uint64)}
	v.Take(said(1, "ada"))
	ended := make(chan error)
	for name, row := range map[string]struct {
		ask  func() (uint64, error)
		want wsclient.Underway
	}{
		"edit":      {func() (uint64, error) { return v.Edit(t.Context(), by, "hall", 1, "new") }, wsclient.Underway{Kind: wsclient.UnderwayEdit, Draft: wsclient.Draft{Text: "new"}}},
		"edit data": {func() (uint64, error) { return v.EditData(t.Context(), by, "hall", 1, "new", map[string]int{"n": 1}) }, wsclient.Underway{Kind: wsclient.UnderwayEdit, Draft: wsclient.Draft{Text: "new", Data: json.RawMessage(`{"n":1}`)}}},
		"delete":    {func() (uint64, error) { return v.Delete(t.Context(), by, "hall", 1) }, wsclient.Underway{Kind: wsclient.UnderwayDelete}},
		"react":     {func() (uint64, error) { return v.React(t.Context(), by, "hall", 1, "+1") }, wsclient.Underway{Kind: wsclient.UnderwayReact, Key: "+1"}},
		"unreact":   {func() (uint64, error) { return v.Unreact(t.Context(), by, "hall", 1, "+1") }, wsclient.Underway{Kind: wsclient.UnderwayUnreact, Key: "+1"}},
	} {
		for _, room := range []string{"hall", "elsewhere"} {
			if room == "elsewhere" && name != "edit" {
				continue
			}
			ask := row.ask
			if room == "elsewhere" { // of which the view knows nothing
				ask = func() (uint64, error) { return v.Edit(t.Context(), by, "elsewhere", 1, "new") }
			}
			begin := func() {
				go func() {
					_, err := ask()
					ended <- err
				}()
				<-by.asked
			}
			has := func(state wsclient.UnderwayState, err error) {
				t.Helper()
				all := v.Underway(room)
				require.Len(t, all, 1, name)
				want := row.want
				want.ID, want.At, want.Room, want.Seq, want.State, want.Err = all[0].ID, all[0].At, room, 1, state, err
				assert.Equal(t, want, all[0], name)
				assert.False(t, all[0].At.IsZero())
			}
			begin()
			has(wsclient.UnderwayWaits, nil)
			by.rev <- 0
			require.ErrorIs(t, <-ended, chat.ErrMuted)
			has(wsclient.UnderwayFailed, chat.ErrMuted)
			begin()
			has(wsclient.UnderwayWaits, nil)
			by.rev <- 1
			require.NoError(t, <-ended)
			assert.Empty(t, v.Underway(room), name)
		}
	}
}

// alarms are calls that a test makes when it wants.
type alarms struct {
	after []time.Duration
	call  []func()
}

func (a *alarms) set(after time.Duration, call func()) func() bool {
	i := len(a.call)
	a.after, a.call = append(a.after, after), append(a.call, call)
	return func() bool {
		was := a.call[i] != nil
		a.call[i] = nil
		return was
	}
}

// TestViewShowsWhoTypes ends typing in every way.
func TestViewShowsWhoTypes(t *testing.T) {
	t.Parallel()
	clock, bells := testkit.NewClock(time.Time{}), &alarms{}
	told := 0
	v, err := wsclient.NewView(wsclient.ViewConfig{User: "ada", TypingFor: 5 * time.Second, Now: clock.Now, AfterFunc: bells.set, Changed: func(string) { told++ }})
	require.NoError(t, err)
	types := func(user string, on bool) {
		v.Take(wsclient.Event{Kind: wsclient.EventTyping, Room: "hall", User: wsclient.User{ID: user}, Typing: on})
	}
	who := func() (all []string) {
		for _, u := range v.Typing("hall") {
			all = append(all, u.ID)
		}
		return all
	}
	types("ada", true)
	assert.Empty(t, who(), "it is oneself")
	types("bob", true)
	types("eve", true)
	types("bob", true)
	assert.Equal(t, []string{"bob", "eve"}, who())
	assert.Equal(t, 2, told, "bob typed already")
	assert.Empty(t, v.Typing("elsewhere"))
	assert.Empty(t, v.Rooms(), "a room is not known by it")
	require.Len(t, bells.call, 3)
	assert.Nil(t, bells.call[0])
	assert.Equal(t, 5*time.Second, bells.after[2])

	// By itself, also before the alarm rings.
	clock.Advance(3 * time.Second)
	types("bob", true)
	clock.Advance(2 * time.Second)
	assert.Equal(t, []string{"bob"}, who())
	told = 0
	bells.call[1]()
	assert.Equal(t, 1, told)
	bells.call[1]()
	assert.Equal(t, 1, told)
	clock.Advance(3 * time.Second)
	assert.Empty(t, who())
	bells.call[3]()
	assert.Equal(t, 2, told)

	for name, end := range map[string]wsclient.Event{
		"the server says so":    {Kind: wsclient.EventTyping, Room: "hall", User: wsclient.User{ID: "bob"}},
		"their message":         said(1, "bob"),
		"they leave":            {Kind: wsclient.EventLeft, Room: "hall", User: wsclient.User{ID: "bob"}},
		"they are removed":      {Kind: wsclient.EventMembership, Room: "hall", User: wsclient.User{ID: "bob"}},
		"oneself is removed":    {Kind: wsclient.EventRemoved, Room: "hall", User: wsclient.User{ID: "ada"}},
		"events are lost":       {Kind: wsclient.EventResync, Room: "hall"},
		"the connection is too": {Kind: wsclient.EventDisconnected},
	} {
		types("bob", true)
		require.Equal(t, []string{"bob"}, who(), name)
		told = 0
		v.Take(end)
		assert.Empty(t, who(), name)
		assert.Equal(t, 1, told, name)
		assert.Nil(t, bells.call[len(bells.call)-1], "%s: no alarm rings any more", name)
	}
	for _, e := range []wsclient.Event{said(2, "eve"), {Kind: wsclient.EventMembership, Room: "hall", User: wsclient.User{ID: "bob"}, Role: "reader"}, {Kind: wsclient.EventLeft, Room: "elsewhere", User: wsclient.User{ID: "bob"}}} {
		types("bob", true)
		v.Take(e)
		assert.Equal(t, []string{"bob"}, who())
	}
}

// TestViewWithAServer sends by a view and hears who types, on a server.
func TestViewWithAServer(t *testing.T) {
	t.Parallel()
	s := system.Start(t, system.Config{})
	ctx := within(t)
	_, adas := of(t, s, "Ada", nil)
	_, bobs := of(t, s, "Bob", nil)
	v := watch(t, adas.Account().ID, 0)
	ada, err := wsclient.Dial(ctx, wsclient.Config{URL: s.SocketURL, Tokens: adas, Handle: v.Take})
	require.NoError(t, err)
	t.Cleanup(ada.Close)
	bob, err := wsclient.Dial(ctx, wsclient.Config{URL: s.SocketURL, Tokens: bobs})
	require.NoError(t, err)
	t.Cleanup(bob.Close)
	_, err = v.Join(ctx, ada, "hall")
	require.NoError(t, err)
	_, err = bob.Join(ctx, "hall")
	require.NoError(t, err)
	require.NoError(t, bob.Typing(ctx, "hall", true))
	v.until(t, func() bool { return len(v.Typing("hall")) == 1 && v.Typing("hall")[0].Name == "Bob" })
	_, err = bob.Send(ctx, "hall", "Here")
	require.NoError(t, err)
	v.until(t, func() bool { return len(v.Typing("hall")) == 0 })
	sent, err := v.Send(ctx, ada, "hall", wsclient.Draft{Text: "There"})
	require.NoError(t, err)
	v.until(t, func() bool { room, _ := v.Room("hall"); return room.Seq == sent.Seq })
	assert.Empty(t, v.Underway("hall"))
	_, err = v.Edit(ctx, ada, "hall", 1, "Not mine")
	require.Error(t, err)
	require.Len(t, v.Underway("hall"), 1)
	assert.Equal(t, err, v.Underway("hall")[0].Err)
}
