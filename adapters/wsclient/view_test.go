package wsclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/testkit/system"
)

// watching is a view with a bell that rings at each change.
type watching struct {
	*wsclient.View
	bell chan struct{}
}

func watch(t *testing.T, user string, keep int) watching {
	t.Helper()
	w := watching{bell: make(chan struct{}, 1)}
	view, err := wsclient.NewView(wsclient.ViewConfig{User: user, Keep: keep, Changed: func(string) {
		select {
		case w.bell <- struct{}{}:
		default:
		}
	}})
	require.NoError(t, err)
	w.View = view
	return w
}

// until waits for something that the view shows.
func (w watching) until(t *testing.T, shows func() bool) {
	t.Helper()
	ctx := within(t)
	for !shows() {
		select {
		case <-w.bell:
		case <-ctx.Done():
			t.Fatal("the view never shows it")
		}
	}
}

// said is an event of a message.
func said(seq uint64, user string) wsclient.Event {
	return wsclient.Event{Kind: wsclient.EventMessage, Room: "hall", Message: wsclient.Message{
		Room: "hall", Seq: seq, ID: fmt.Sprint(seq), User: wsclient.User{ID: user}, Text: fmt.Sprint("text ", seq), At: time.Unix(int64(seq), 0),
	}}
}

// erased is an event of a message that was deleted.
func erased(seq, rev uint64) wsclient.Event {
	e := said(seq, "bob")
	e.Kind, e.Message.Rev, e.Message.Text, e.Message.DeletedAt = wsclient.EventChanged, rev, "", time.Unix(int64(seq), 1)
	return e
}

func marked(user string, read uint64) wsclient.Event {
	return wsclient.Event{Kind: wsclient.EventMarked, Room: "hall", User: wsclient.User{ID: user}, Read: read}
}

func among(rooms ...wsclient.MyRoom) func(func(wsclient.MyRoom, error) bool) {
	return func(yield func(wsclient.MyRoom, error) bool) {
		for _, r := range rooms {
			if !yield(r, nil) {
				return
			}
		}
	}
}

// TestViewCounts tells a view stories in which one room's unread messages are counted.
func TestViewCounts(t *testing.T) {
	t.Parallel()
	hall := func(seq, rev, read, unread uint64) wsclient.MyRoom {
		return wsclient.MyRoom{Room: "hall", Role: chat.Regular, Seq: seq, Rev: rev, Read: read, Unread: unread}
	}
	run := func(from, to uint64) (all []any) {
		for seq := from; seq <= to; seq++ {
			all = append(all, said(seq, "bob"))
		}
		return all
	}
	tell := func(all ...any) []any { return all }
	for name, row := range map[string]struct {
		story   []any // events, lists and pages
		unread  uint64
		counted bool
	}{
		"a list":                                 {tell(hall(44, 2, 40, 3)), 3, true},
		"a list, then messages":                  {append(tell(hall(44, 2, 40, 3)), run(45, 47)...), 6, true},
		"what the list had already":              {append(tell(hall(44, 2, 40, 3)), run(42, 47)...), 6, true},
		"a hole behind the list":                 {append(tell(hall(44, 2, 40, 3)), run(50, 52)...), 6, false},
		"a hole, and a newer list":               {append(append(tell(hall(44, 2, 40, 3)), run(50, 52)...), hall(52, 2, 40, 10)), 10, true},
		"a hole, and all of it read":             {append(append(tell(hall(44, 2, 40, 3)), run(50, 52)...), marked("ada", 52)), 0, true},
		"a hole, and what is kept unread":        {append(append(tell(hall(44, 2, 40, 3)), run(50, 52)...), marked("ada", 50)), 2, true},
		"messages only":                          {run(1, 3), 3, false},
		"messages, and a mark":                   {append(run(1, 3), marked("ada", 1)), 2, true},
		"somebody else's mark":                   {tell(hall(44, 2, 40, 3), marked("bob", 44)), 3, true},
		"a mark that goes back":                  {tell(hall(44, 2, 40, 3), marked("ada", 39)), 3, true},
		"read elsewhere":                         {tell(hall(44, 2, 40, 3), marked("ada", 44)), 0, true},
		"read elsewhere, up to nobody knows":     {tell(hall(44, 2, 30, 12), marked("ada", 40)), 12, false},
		"that, and the page":                     {append(append(tell(hall(44, 2, 30, 12), marked("ada", 40)), run(39, 44)...), marked("ada", 41)), 3, true},
		"read elsewhere, of what is kept":        {append(append(tell(hall(44, 2, 40, 4)), run(41, 46)...), marked("ada", 42)), 4, true},
		"one's own message":                      {append(append(tell(hall(44, 2, 40, 3)), run(45, 46)...), said(47, "ada"), said(48, "bob")), 1, true},
		"one's own message behind a hole":        {tell(hall(44, 2, 40, 3), said(60, "ada"), said(61, "bob")), 1, true},
		"deleted behind the list":                {append(append(tell(hall(44, 2, 40, 3)), run(45, 47)...), erased(46, 3)), 5, true},
		"deleted before the list":                {tell(hall(44, 2, 40, 3), erased(42, 3)), 2, true},
		"deleted before the list, told twice":    {tell(hall(44, 2, 40, 3), erased(42, 3), erased(42, 3)), 2, true},
		"deleted, which the list knew":           {tell(hall(44, 2, 40, 3), erased(42, 2)), 3, true},
		"deleted, and read before":               {tell(hall(44, 2, 40, 3), erased(39, 3)), 3, true},
		"deleted before it came":                 {tell(hall(44, 2, 40, 3), func() wsclient.Event { e := erased(45, 3); e.Kind = wsclient.EventMessage; return e }(), erased(45, 3)), 3, true},
		"an old list: its deletions were told":   {append(tell(hall(44, 2, 40, 4), erased(42, 3), erased(43, 4)), hall(44, 3, 40, 3)), 2, true},
		"an old list: its messages were told":    {append(append(tell(hall(44, 2, 40, 4)), run(45, 50)...), hall(47, 2, 40, 7)), 10, true},
		"an old list: the user has read on":      {append(append(tell(hall(40, 0, 40, 0)), run(41, 50)...), erased(42, 1), marked("ada", 45), hall(47, 0, 40, 7)), 5, true},
		"more than is kept":                      {append(tell(hall(44, 2, 40, 3)), run(45, 90)...), 49, true},
		"more than is kept, deleted":             {append(append(tell(hall(44, 2, 40, 3)), run(45, 90)...), erased(45, 3), erased(89, 4), erased(42, 5), erased(45, 3)), 46, true},
		"more than is kept, and read up to one":  {append(append(tell(hall(44, 2, 40, 3)), run(45, 90)...), marked("ada", 85)), 5, true},
		"deleted, and erased later":              {tell(hall(44, 2, 40, 3), []wsclient.Message{erased(42, 2).Message}, erased(42, 5)), 3, true},
		"read elsewhere, and the page behind":    {tell(hall(44, 2, 30, 12), []uint64{43, 44}, marked("ada", 42)), 2, true},
		"a hole, and a part of it read":          {append(append(tell(hall(44, 2, 40, 3)), run(50, 52)...), marked("ada", 46)), 0, false},
		"a hole between messages":                {append(append(tell(hall(44, 2, 40, 3)), run(45, 46)...), run(50, 52)...), 0, false},
		"an old list: deletions behind it":       {append(append(tell(hall(44, 0, 44, 0)), run(45, 50)...), erased(46, 1), hall(48, 0, 44, 4)), 5, true},
		"an old list, and more than is kept":     {append(append(tell(hall(44, 2, 40, 3)), run(45, 90)...), hall(60, 2, 40, 19)), 49, true},
		"more than is kept, deleted, and a page": {append(append(tell(hall(44, 2, 40, 3)), run(45, 46)...), append(append(tell(erased(46, 3)), run(47, 90)...), []wsclient.Message{erased(46, 3).Message}, erased(46, 3))...), 48, true},
		"an old list, read on, and not kept":     {append(append(tell(hall(40, 0, 40, 0)), run(41, 60)...), marked("ada", 45), hall(55, 0, 42, 13)), 0, false},
		"lost":                                   {append(tell(hall(44, 2, 40, 3)), wsclient.Event{Kind: wsclient.EventResync, Room: "hall", Lost: true}), 3, false},
		"lost, and a list of the room set back":  {append(tell(hall(44, 2, 40, 3)), wsclient.Event{Kind: wsclient.EventResync, Room: "hall", Lost: true}, hall(10, 1, 8, 2)), 2, true},
		"history down to what is read":           {append(append(tell(hall(44, 2, 30, 12), marked("ada", 40)), run(44, 44)...), []uint64{41, 42, 43}), 4, true},
		"history that has a deletion":            {append(append(tell(hall(44, 2, 40, 4)), run(44, 44)...), []wsclient.Message{erased(43, 3).Message}, erased(43, 3)), 3, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := watch(t, "ada", 10)
			for _, told := range row.story {
				switch told := told.(type) {
				case wsclient.Event:
					v.Take(told)
				case wsclient.MyRoom:
					require.NoError(t, v.Load(among(told)))
				case []uint64:
					var p wsclient.Page
					for _, seq := range told {
						p.Messages = append(p.Messages, said(seq, "bob").Message)
					}
					v.Add("hall", p)
				case []wsclient.Message:
					v.Add("hall", wsclient.Page{Messages: told})
				}
				v.Rooms() // which keeps what was counted
			}
			room, ok := v.Room("hall")
			require.True(t, ok)
			assert.Equal(t, row.counted, room.Counted)
			if row.counted {
				assert.Equal(t, row.unread, room.Unread)
			}
			all := v.Messages("hall")
			for i := 1; i < len(all); i++ {
				require.Equal(t, all[i-1].Seq+1, all[i].Seq, "there is no hole")
			}
		})
	}
}

// TestViewOfRooms has rooms that come and go.
func TestViewOfRooms(t *testing.T) {
	t.Parallel()
	v := watch(t, "ada", 0)
	names := func() (all []string) {
		for _, r := range v.Rooms() {
			all = append(all, r.Name)
		}
		return all
	}
	at := func(s int64) wsclient.Message { return wsclient.Message{Seq: 1, At: time.Unix(s, 0)} }
	a, b, c := wsclient.MyRoom{Room: "a", Seq: 1, Last: at(1)}, wsclient.MyRoom{Room: "b", Seq: 1, Last: at(2)}, wsclient.MyRoom{Room: "c"}
	require.NoError(t, v.Load(among(a, b, c)))
	assert.Equal(t, []string{"b", "a", "c"}, names())
	v.Take(wsclient.Event{Kind: wsclient.EventMessage, Room: "a", Message: wsclient.Message{Room: "a", Seq: 2, At: time.Unix(3, 0)}})
	assert.Equal(t, []string{"a", "b", "c"}, names())

	membership := func(room, user, role string) {
		v.Take(wsclient.Event{Kind: wsclient.EventMembership, Room: room, User: wsclient.User{ID: user}, Role: role, Until: time.Unix(9, 0)})
	}
	membership("d", "bob", "owner")
	membership("b", "bob", "")
	assert.Equal(t, []string{"a", "b", "c"}, names(), "it is about somebody else")
	membership("d", "ada", "reader")
	membership("b", "ada", "")
	assert.Equal(t, []string{"a", "c", "d"}, names())
	d, _ := v.Room("d")
	assert.Equal(t, wsclient.RoomView{Name: "d", Role: chat.Reader, MutedUntil: time.Unix(9, 0)}, d)
	v.Take(wsclient.Event{Kind: wsclient.EventRemoved, Room: "a", User: wsclient.User{ID: "ada"}})
	assert.Equal(t, []string{"c", "d"}, names())
	assert.Nil(t, v.Messages("a"))

	// A list does not take away what came while it was read, and what is not in it goes.
	require.NoError(t, v.Load(func(yield func(wsclient.MyRoom, error) bool) {
		membership("e", "ada", "member")
		yield(c, nil)
	}))
	assert.Equal(t, []string{"c", "e"}, names())
	broken := errors.New("broken")
	require.ErrorIs(t, v.Load(func(yield func(wsclient.MyRoom, error) bool) { yield(wsclient.MyRoom{}, broken) }), broken)
	assert.Equal(t, []string{"c", "e"}, names())
	v.Take(wsclient.Event{Kind: wsclient.EventConnected})
	_, err := wsclient.NewView(wsclient.ViewConfig{Keep: -1})
	require.ErrorContains(t, err, "ViewConfig.User")
	require.ErrorContains(t, err, "ViewConfig.Keep")
}

// byHand answers changes when a test wants it.
type byHand struct {
	wsclient.Changer
	asked chan string
	rev   chan uint64 // 0: refused
}

func (b byHand) answer(what string) (uint64, error) {
	b.asked <- what
	if rev := <-b.rev; rev > 0 {
		return rev, nil
	}
	return 0, chat.ErrMuted
}

func (b byHand) EditData(_ context.Context, _ string, _ uint64, text string, data any) (uint64, error) {
	encoded, _ := json.Marshal(data)
	return b.answer(text + string(encoded))
}
func (b byHand) Delete(context.Context, string, uint64) (uint64, error) { return b.answer("delete") }
func (b byHand) React(_ context.Context, _ string, _ uint64, key string) (uint64, error) {
	return b.answer(key)
}
func (b byHand) Unreact(_ context.Context, _ string, _ uint64, key string) (uint64, error) {
	return b.answer("no " + key)
}

// TestViewShowsOwnChangesAtOnce lets changes settle in every order of answer and event.
func TestViewShowsOwnChangesAtOnce(t *testing.T) {
	t.Parallel()
	v := watch(t, "ada", 0)
	by := byHand{asked: make(chan string), rev: make(chan uint64)}
	v.Take(said(1, "ada"))
	v.Take(said(2, "bob"))
	ended := make(chan error)
	begin := func(change func() (uint64, error)) string {
		go func() {
			_, err := change()
			ended <- err
		}()
		return <-by.asked
	}
	shows := func(seq uint64) (wsclient.Message, bool) {
		m, pending, ok := v.Message("hall", seq)
		require.True(t, ok)
		all := v.Messages("hall")
		require.Equal(t, m, all[slices.IndexFunc(all, func(m wsclient.Message) bool { return m.Seq == seq })])
		return m, pending
	}
	changed := func(seq, rev uint64, text string) {
		e := said(seq, "ada")
		e.Kind, e.Message.Rev, e.Message.Text = wsclient.EventChanged, rev, text
		v.Take(e)
	}

	// The answer comes first.
	assert.Equal(t, "new"+`{"a":1}`, begin(func() (uint64, error) {
		return v.EditData(t.Context(), by, "hall", 1, "new", map[string]int{"a": 1})
	}))
	m, pending := shows(1)
	assert.True(t, pending)
	assert.Equal(t, "new", m.Text)
	assert.JSONEq(t, `{"a":1}`, string(m.Data))
	assert.False(t, m.EditedAt.IsZero())
	by.rev <- 3
	require.NoError(t, <-ended)
	changed(1, 2, "older, of another device")
	m, pending = shows(1)
	assert.False(t, pending)
	assert.Equal(t, "new", m.Text, "what is stored comes after what was told")
	changed(1, 3, "new!")
	m, _ = shows(1)
	assert.Equal(t, "new!", m.Text, "the server has the last word")
	assert.Nil(t, m.Data)

	v.Add("hall", wsclient.Page{Messages: []wsclient.Message{said(1, "ada").Message}})
	m, _ = shows(1)
	assert.Equal(t, "new!", m.Text, "what was read before it was changed is older")

	// The event comes first.
	begin(func() (uint64, error) { return v.Edit(t.Context(), by, "hall", 1, "newer") })
	changed(1, 4, "newer.")
	by.rev <- 4
	require.NoError(t, <-ended)
	m, pending = shows(1)
	assert.False(t, pending)
	assert.Equal(t, "newer.", m.Text)

	// It is refused.
	begin(func() (uint64, error) { return v.Delete(t.Context(), by, "hall", 2) })
	m, pending = shows(2)
	assert.True(t, pending)
	assert.Empty(t, m.Text)
	assert.False(t, m.DeletedAt.IsZero())
	room, _ := v.Room("hall")
	assert.Equal(t, m, room.Last)
	by.rev <- 0
	require.ErrorIs(t, <-ended, chat.ErrMuted)
	m, pending = shows(2)
	assert.False(t, pending)
	assert.Equal(t, said(2, "bob").Message, m)

	// Reactions, among those of others.
	e := said(2, "bob")
	e.Kind, e.Message.Rev = wsclient.EventChanged, 5
	e.Message.Reactions = []wsclient.Reaction{{Key: "a", Count: 1, Users: []string{"bob"}}, {Key: "b", Count: 1, Users: []string{"ada"}}}
	v.Take(e)
	for _, row := range []struct {
		change func() (uint64, error)
		shows  []wsclient.Reaction
	}{
		{func() (uint64, error) { return v.React(t.Context(), by, "hall", 2, "a") }, []wsclient.Reaction{{Key: "a", Count: 2, Users: []string{"bob", "ada"}}, {Key: "b", Count: 1, Users: []string{"ada"}}}},
		{func() (uint64, error) { return v.React(t.Context(), by, "hall", 2, "b") }, e.Message.Reactions},
		{func() (uint64, error) { return v.React(t.Context(), by, "hall", 2, "c") }, append(slices.Clone(e.Message.Reactions), wsclient.Reaction{Key: "c", Count: 1, Users: []string{"ada"}})},
		{func() (uint64, error) { return v.Unreact(t.Context(), by, "hall", 2, "b") }, e.Message.Reactions[:1]},
		{func() (uint64, error) { return v.Unreact(t.Context(), by, "hall", 2, "a") }, e.Message.Reactions},
		{func() (uint64, error) { return v.Unreact(t.Context(), by, "hall", 2, "c") }, e.Message.Reactions},
	} {
		what := begin(row.change)
		m, _ := shows(2)
		assert.Equal(t, row.shows, m.Reactions, what)
		by.rev <- 0
		require.Error(t, <-ended)
		m, _ = shows(2)
		assert.Equal(t, e.Message.Reactions, m.Reactions, what)
	}

	// Of a message that is deleted, nothing is changed any more; of one that is not kept, nothing is shown.
	v.Take(erased(2, 6))
	begin(func() (uint64, error) { return v.Edit(t.Context(), by, "hall", 2, "risen") })
	m, _ = shows(2)
	assert.Empty(t, m.Text)
	by.rev <- 0
	<-ended
	begin(func() (uint64, error) { return v.Edit(t.Context(), by, "hall", 77, "nowhere") })
	by.rev <- 9
	require.NoError(t, <-ended)
	begin(func() (uint64, error) { return v.Edit(t.Context(), by, "elsewhere", 1, "nowhere") })
	by.rev <- 9
	require.NoError(t, <-ended)
	assert.Len(t, v.Rooms(), 1)
	_, err := v.EditData(t.Context(), by, "hall", 1, "x", "no object")
	require.ErrorIs(t, err, chat.ErrDataInvalid)
}

// TestViewKeepsUpWithAServer lets people write, change, delete and read in rooms of a server, on two connections each and over lost ones, while one
// of them looks on with a view that keeps little; in the end the view shows what the server has.
func TestViewKeepsUpWithAServer(t *testing.T) {
	t.Parallel()
	s := system.Start(t, system.Config{})
	ctx := within(t)
	ada, session := of(t, s, "Ada", nil)
	bob, bobs := of(t, s, "Bob", nil)
	v := watch(t, session.Account().ID, 15)
	client, err := wsclient.Dial(ctx, wsclient.Config{URL: s.SocketURL, Tokens: session, Handle: v.Take, Rate: -1, MinPause: time.Millisecond})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	rooms := []string{"one", "two", "three"}
	for _, name := range rooms {
		_, err := ada.CreateRoom(ctx, wsclient.NewRoom{Name: name})
		require.NoError(t, err)
		_, err = ada.SetRole(ctx, name, bobs.Account().ID, chat.Regular)
		require.NoError(t, err)
		for range 30 {
			_, err = bob.Send(ctx, name, "before")
			require.NoError(t, err)
		}
	}
	require.NoError(t, v.Load(ada.MyRooms(ctx)))
	for _, name := range rooms {
		_, err := v.Join(ctx, client, name)
		require.NoError(t, err)
	}
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for i := range 60 {
				name := rooms[rand.IntN(len(rooms))]
				var err error
				switch sent, failed := bob.Send(ctx, name, "during"); {
				case failed != nil:
					err = failed
				case i%4 == 0:
					_, err = bob.Delete(ctx, name, sent.Seq-min(sent.Seq-1, rand.Uint64N(40)))
				case i%4 == 1:
					_, err = bob.Edit(ctx, name, sent.Seq, "changed")
				}
				if err != nil && !errors.Is(err, fault.Conflict) && !errors.Is(err, fault.Forbidden) {
					t.Errorf("bob: %v", err)
				}
			}
		})
	}
	all.Go(func() {
		for i := range 60 {
			name := rooms[rand.IntN(len(rooms))]
			room, _ := v.Room(name)
			var err error
			switch i % 6 {
			case 0: // on another device
				_, err = ada.Mark(ctx, name, room.Seq-min(room.Seq, rand.Uint64N(20)))
			case 1:
				_, err = v.Mark(ctx, client, name, room.Seq)
			case 2:
				client.Drop()
			case 3:
				err = v.Load(ada.MyRooms(ctx))
			case 4:
				_, err = v.React(ctx, client, name, room.Seq, "+1")
				if errors.Is(err, chat.ErrMessageDeleted) {
					err = nil
				}
			case 5:
				var p wsclient.Page
				if p, err = ada.History(ctx, name, wsclient.Range{}); err == nil {
					v.Add(name, p)
				}
			}
			if err != nil {
				t.Errorf("ada: %v", err)
			}
		}
	})
	all.Wait()
	mine := map[string]wsclient.MyRoom{}
	for _, r := range whole(t, ada.MyRooms(ctx)) {
		mine[r.Room] = r
	}
	uncounted := false
	for _, name := range rooms {
		v.until(t, func() bool {
			room, _ := v.Room(name)
			return room.Seq == mine[name].Seq && room.Rev == mine[name].Rev && room.Read == mine[name].Read
		})
		room, _ := v.Room(name)
		uncounted = uncounted || !room.Counted
		if room.Counted {
			require.Equal(t, mine[name].Unread, room.Unread, name)
		}
	}
	t.Logf("a room was not counted: %v", uncounted)
	require.NoError(t, v.Load(ada.MyRooms(ctx)))
	for _, name := range rooms {
		room, _ := v.Room(name)
		require.True(t, room.Counted)
		require.Equal(t, mine[name].Unread, room.Unread, name)
		require.Equal(t, mine[name].Last, room.Last)
		kept := v.Messages(name)
		require.NotEmpty(t, kept)
		require.LessOrEqual(t, len(kept), 15+100)
		page, err := ada.History(ctx, name, wsclient.Range{Limit: len(kept)})
		require.NoError(t, err)
		require.Equal(t, page.Messages, kept)
	}
}

// TestViewLearnsWhatWasReadWhileAway reads on another device while there is no connection.
func TestViewLearnsWhatWasReadWhileAway(t *testing.T) {
	t.Parallel()
	s := system.Start(t, system.Config{})
	ctx := within(t)
	ada, session := of(t, s, "Ada", nil)
	bob, bobs := of(t, s, "Bob", nil)
	_, err := ada.CreateRoom(ctx, wsclient.NewRoom{Name: "hall"})
	require.NoError(t, err)
	_, err = ada.SetRole(ctx, "hall", bobs.Account().ID, chat.Regular)
	require.NoError(t, err)
	v := watch(t, session.Account().ID, 0)
	away, back := make(chan struct{}), make(chan struct{})
	client, err := wsclient.Dial(ctx, wsclient.Config{URL: s.SocketURL, Tokens: session, Rate: -1, Inline: true, MinPause: time.Millisecond, Handle: func(e wsclient.Event) {
		if e.Kind == wsclient.EventDisconnected && ctx.Err() == nil {
			select {
			case away <- struct{}{}:
				<-back // the connection is not made again before
			case <-ctx.Done():
			}
		}
		v.Take(e)
	}})
	require.NoError(t, err)
	_, err = v.Join(ctx, client, "hall")
	require.NoError(t, err)
	for range 20 {
		_, err = bob.Send(ctx, "hall", "hello")
		require.NoError(t, err)
	}
	v.until(t, func() bool { room, _ := v.Room("hall"); return room.Unread == 20 && room.Counted })
	client.Drop()
	<-away
	_, err = ada.Mark(ctx, "hall", 15)
	require.NoError(t, err)
	close(back)
	v.until(t, func() bool { room, _ := v.Room("hall"); return room.Unread == 5 && room.Counted && room.Read == 15 })
	client.Close()
}
