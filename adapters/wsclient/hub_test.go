package wsclient_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/nbiows"
	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// anybody is an Authenticator: the token is the user's id, or a JSON Web Token that nobody has signed.
type anybody struct{}

func (anybody) Token(_ context.Context, token string) (user.Identity, error) {
	if parts := strings.Split(token, "."); len(parts) == 3 {
		var claims struct{ Sub string }
		text, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err == nil {
			err = json.Unmarshal(text, &claims)
		}
		if err != nil {
			return user.Identity{}, err
		}
		token = claims.Sub
	}
	return user.Identity{UserID: user.ID(token), Name: "User " + token}, nil
}

func (a anybody) Ticket(ctx context.Context, ticket string) (user.Identity, error) {
	return a.Token(ctx, ticket)
}

// startHub runs a node in memory until the test ends, and returns the address of its socket.
func startHub(t *testing.T) string {
	t.Helper()
	url, _ := startNode(t, nil)
	return url
}

// startNode is startHub with a change of the hub's configuration, and returns the hub too.
func startNode(t *testing.T, change func(*realtime.HubConfig)) (string, *realtime.Hub) {
	t.Helper()
	return startChat(t, nil, change)
}

// startChat is startNode with a change of the chat's configuration too.
func startChat(t *testing.T, chatting func(*chat.Config), change func(*realtime.HubConfig)) (string, *realtime.Hub) {
	t.Helper()
	store := memory.NewStore()
	of := chat.Config{
		Store: store.Messages, Rooms: store.Rooms, Members: store.Members, Marks: store.Members, Cache: memory.NewRecentCache(memory.RecentCacheConfig{}),
		Normalize: norm.NFC.String,
	}
	if chatting != nil {
		chatting(&of)
	}
	service, err := chat.New(of)
	require.NoError(t, err)
	cfg := realtime.HubConfig{Chat: service, Fanout: memory.NewFanout().Node(), Rate: -1, Presence: memory.NewPresence()}
	if change != nil {
		change(&cfg)
	}
	hub, err := realtime.NewHub(cfg)
	require.NoError(t, err)
	handshake, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: anybody{}, Draining: hub.Draining})
	require.NoError(t, err)
	server, err := nbiows.New(nbiows.Config{Handshake: handshake, Acceptor: hub})
	require.NoError(t, err)
	web := httptest.NewServer(server)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{service.Run, hub.Run, server.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Errorf("run: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
		web.Close()
	})
	return "ws" + strings.TrimPrefix(web.URL, "http") + "/socket", hub
}

// log is what one client was given of one room.
type log struct {
	mu    sync.Mutex
	texts []string
	seqs  []uint64
	lost  bool
	more  chan struct{}
}

func (l *log) handle(e wsclient.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e.Kind {
	case wsclient.EventMessage:
		l.texts, l.seqs = append(l.texts, e.Message.Text), append(l.seqs, e.Message.Seq)
	case wsclient.EventResync:
		l.lost = l.lost || e.Lost
	}
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// TestEveryMessageOnceInOrder lets clients write while their connections break, and wants the
// same complete sequence everywhere.
func TestEveryMessageOnceInOrder(t *testing.T) {
	t.Parallel()
	const clients, each = 8, 30
	url := startHub(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	logs := make([]*log, clients)
	ends := make([]*wsclient.Client, clients)
	for i := range clients {
		logs[i] = &log{more: make(chan struct{}, 1)}
		c, err := wsclient.Dial(ctx, wsclient.Config{
			Rate: -1, URL: url, Handle: logs[i].handle, MinPause: time.Millisecond,
			Token: func(context.Context) (string, error) { return fmt.Sprintf("user-%d", i), nil },
		})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		_, err = c.JoinSince(ctx, "go", 0)
		require.NoError(t, err)
		ends[i] = c
	}
	errs := make(chan error, clients)
	for i, c := range ends {
		go func() {
			for n := range each {
				if n%7 == i%7 {
					c.Drop()
				}
				if _, err := c.Send(ctx, "go", fmt.Sprintf("%d/%d", i, n)); err != nil {
					errs <- fmt.Errorf("client %d, message %d: %w", i, n, err)
					return
				}
			}
			errs <- nil
		}()
	}
	for range clients {
		require.NoError(t, <-errs)
	}
	var first []string
	for i, l := range logs {
		for {
			l.mu.Lock()
			n := len(l.texts)
			l.mu.Unlock()
			if n >= clients*each {
				break
			}
			select {
			case <-l.more:
			case <-ctx.Done():
				t.Fatalf("client %d was given %d of %d messages", i, n, clients*each)
			}
		}
		l.mu.Lock()
		require.False(t, l.lost)
		for at, seq := range l.seqs {
			require.EqualValues(t, at+1, seq)
		}
		if first == nil {
			first = l.texts
		}
		require.Equal(t, first, l.texts)
		l.mu.Unlock()
	}
	seen := map[string]bool{}
	for _, text := range first {
		require.False(t, seen[text], "%q was stored twice", text)
		seen[text] = true
	}
	require.Len(t, seen, clients*each)
}

func TestHealthCheckOfANode(t *testing.T) {
	t.Parallel()
	c, err := wsclient.Dial(t.Context(), wsclient.Config{URL: startHub(t), Token: func(context.Context) (string, error) { return "ada", nil }})
	require.NoError(t, err)
	require.NoError(t, c.HealthCheck(t.Context()))
	<-c.Done()
	var closed *wsclient.CloseError
	require.ErrorAs(t, c.Err(), &closed)
	require.Equal(t, socket.CloseNormal, closed.Code)
	c.Close()
}

func TestJoinPagesThroughALongHistory(t *testing.T) {
	t.Parallel()
	url := startHub(t)
	token := func(context.Context) (string, error) { return "ada", nil }
	writer, err := wsclient.Dial(t.Context(), wsclient.Config{URL: url, Rate: -1, Token: token})
	require.NoError(t, err)
	t.Cleanup(writer.Close)
	_, err = writer.Join(t.Context(), "go")
	require.NoError(t, err)
	const n = 150 // the server's page has 100
	for i := range n {
		sent, err := writer.Send(t.Context(), "go", fmt.Sprint(i))
		require.NoError(t, err)
		require.EqualValues(t, i+1, sent.Seq)
	}
	events := make(chan wsclient.Event, 2*n)
	reader, err := wsclient.Dial(t.Context(), wsclient.Config{URL: url, Rate: -1, Token: token, Handle: func(e wsclient.Event) {
		if e.Kind == wsclient.EventMessage || e.Kind == wsclient.EventResync {
			events <- e
		}
	}})
	require.NoError(t, err)
	t.Cleanup(reader.Close)
	joined, err := reader.JoinSince(t.Context(), "go", 0)
	require.NoError(t, err)
	require.EqualValues(t, n, joined.Seq)
	require.Less(t, len(joined.Messages), n)
	for i := range n {
		require.EqualValues(t, i+1, (<-events).Message.Seq)
	}
	page, err := reader.History(t.Context(), "go", wsclient.Range{Before: 3})
	require.NoError(t, err)
	require.Len(t, page.Messages, 2)
	present, err := reader.Presence(t.Context(), "go")
	require.NoError(t, err)
	require.Equal(t, 1, present.Count)
}

// TestManyClients has several hundred clients in one room, all of whom are to be given the
// same messages.
func TestManyClients(t *testing.T) {
	t.Parallel()
	const clients, messages = 200, 20
	url := startHub(t)
	var given sync.WaitGroup
	given.Add(clients)
	var opening sync.WaitGroup
	ends := make([]*wsclient.Client, clients)
	errs := make(chan error, clients)
	slots := make(chan struct{}, 16)
	for i := range clients {
		opening.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			var next uint64 = 1
			c, err := wsclient.Dial(t.Context(), wsclient.Config{
				URL:   url,
				Rate:  -1,
				Token: func(context.Context) (string, error) { return fmt.Sprintf("user-%d", i), nil },
				Handle: func(e wsclient.Event) {
					if e.Kind != wsclient.EventMessage {
						return
					}
					if e.Message.Seq != next {
						t.Errorf("client %d was given message %d, want %d", i, e.Message.Seq, next)
					}
					if next++; next == messages+1 {
						given.Done()
					}
				},
			})
			if err == nil {
				ends[i] = c
				_, err = c.Join(t.Context(), "go")
			}
			errs <- err
		})
	}
	opening.Wait()
	for range clients {
		require.NoError(t, <-errs)
	}
	for i := range messages {
		_, err := ends[i].Send(t.Context(), "go", fmt.Sprintf("message %d", i))
		require.NoError(t, err)
	}
	given.Wait()
	for _, c := range ends {
		c.Close()
	}
}

// The server keeps a room under another name than the one that was asked for.
func TestARoomThatIsCalledOtherwise(t *testing.T) {
	t.Parallel()
	const typed, kept = "cafe\u0301", "caf\u00e9"
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	url, _ := startNode(t, nil)
	got := make(chan wsclient.Event, 100)
	c, err := wsclient.Dial(ctx, wsclient.Config{
		URL: url, Handle: func(e wsclient.Event) { got <- e }, MinPause: time.Millisecond,
		Token: func(context.Context) (string, error) { return "ada", nil },
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	until := func(kind wsclient.EventKind) wsclient.Event {
		for {
			select {
			case e := <-got:
				if e.Kind == kind {
					return e
				}
			case <-ctx.Done():
				t.Fatalf("no event %d came", kind)
			}
		}
	}
	_, err = c.Join(ctx, typed)
	require.NoError(t, err)
	for seq, name := range []string{typed, kept} {
		sent, err := c.Send(ctx, name, "hello")
		require.NoError(t, err)
		require.EqualValues(t, seq+1, sent.Seq)
		e := until(wsclient.EventMessage)
		assert.Equal(t, kept, e.Room)
		assert.EqualValues(t, seq+1, e.Message.Seq)
	}
	c.Drop()
	_, err = c.Send(ctx, typed, "back again")
	require.NoError(t, err)
	assert.EqualValues(t, 3, until(wsclient.EventMessage).Message.Seq, "it is joined again, once")
	require.NoError(t, c.Leave(ctx, typed))
	_, err = c.Send(ctx, kept, "?")
	require.ErrorContains(t, err, "not_joined")
}

func TestWhoIsTakenOutOfARoomStaysOut(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	url, hub := startNode(t, nil)
	removed := make(chan wsclient.Event, 1)
	c, err := wsclient.Dial(ctx, wsclient.Config{
		URL: url, MinPause: time.Millisecond, Token: func(context.Context) (string, error) { return "eve", nil },
		Handle: func(e wsclient.Event) {
			if e.Kind == wsclient.EventRemoved {
				removed <- e
			}
		},
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	_, err = c.Join(ctx, "hall")
	require.NoError(t, err)
	require.NoError(t, hub.Remove(ctx, "hall", "eve"))
	select {
	case e := <-removed:
		assert.Equal(t, "hall", e.Room)
	case <-ctx.Done():
		t.Fatal("nobody told the client")
	}
	c.Drop() // it does not come back into the room with the next connection
	_, err = c.Send(ctx, "hall", "still here?")
	require.ErrorContains(t, err, "not_joined")
}

// What others are in a room is told, and is not taken for what the client's own user is: neither by a client that knows whose it is, nor by one that has to ask.
func TestWhatOthersAreInARoomIsNotOnesOwn(t *testing.T) {
	t.Parallel()
	for name, token := range map[string]string{
		"a token that tells whose it is": "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"eve"}`)) + ".x",
		"a token that does not":          "eve",
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			var rooms *chat.Service
			url, _ := startChat(t, func(c *chat.Config) {
				store := memory.NewStore()
				c.Store, c.Rooms, c.Members, c.Marks, c.Restrictions, c.Roles = store.Messages, store.Rooms, store.Members, store.Members, store.Restrictions, store.Roles
			}, func(h *realtime.HubConfig) { rooms = h.Chat })
			told := make(chan wsclient.Event, 8)
			c, err := wsclient.Dial(ctx, wsclient.Config{
				URL: url, MinPause: time.Millisecond, Token: func(context.Context) (string, error) { return token, nil },
				Handle: func(e wsclient.Event) {
					if e.Kind == wsclient.EventRemoved || e.Kind == wsclient.EventMembership {
						told <- e
					}
				},
			})
			require.NoError(t, err)
			t.Cleanup(c.Close)
			next := func() (what []any) {
				t.Helper()
				select {
				case e := <-told:
					return []any{e.Kind, e.Room, e.User.ID, e.Role, e.By, e.Reason}
				case <-ctx.Done():
					t.Fatal("nobody told the client")
					panic("unreachable")
				}
			}
			_, err = c.History(ctx, "den", wsclient.Range{})
			require.ErrorContains(t, err, "not_joined") // so the hub knows of the connection
			ada := chat.Actor{Author: chat.Author{ID: "ada", Name: "Ada"}}
			_, err = rooms.CreateRoom(ctx, ada, "den", chat.Details{})
			require.NoError(t, err)
			for _, id := range []user.ID{"bob", "eve"} {
				_, err = rooms.SetRole(ctx, ada, "den", id, chat.Reader)
				require.NoError(t, err)
			}
			assert.Equal(t, []any{wsclient.EventMembership, "den", "eve", "reader", "ada", ""}, next(), "also before the room is joined")
			_, err = c.Join(ctx, "den")
			require.NoError(t, err)
			require.NoError(t, rooms.RemoveMember(ctx, ada, "den", "bob", "noise"))
			assert.Equal(t, []any{wsclient.EventMembership, "den", "bob", "", "ada", "noise"}, next())
			_, err = c.History(ctx, "den", wsclient.Range{})
			require.NoError(t, err, "the client is still in the room")
			require.NoError(t, rooms.RemoveMember(ctx, ada, "den", "eve", "spam"))
			assert.Equal(t, []any{wsclient.EventRemoved, "den", "eve", "", "ada", "spam"}, next())
			_, err = c.Send(ctx, "den", "x")
			require.ErrorContains(t, err, "not_joined")
		})
	}
}

// The user is told of a mute, and of its end, and what was said to a ban.
func TestWhoIsMutedIsToldAndWhoIsBannedIsOut(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var moderator *chat.Service
	url, _ := startChat(t, func(c *chat.Config) { c.Restrictions = memory.NewRestrictions(nil) }, func(h *realtime.HubConfig) { moderator = h.Chat })
	told := make(chan wsclient.Event, 8)
	c, err := wsclient.Dial(ctx, wsclient.Config{
		URL: url, MinPause: time.Millisecond, Token: func(context.Context) (string, error) { return "eve", nil },
		Handle: func(e wsclient.Event) {
			if e.Kind == wsclient.EventRemoved || e.Kind == wsclient.EventMembership {
				told <- e
			}
		},
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	_, err = c.Join(ctx, "hall")
	require.NoError(t, err)
	next := func() wsclient.Event {
		t.Helper()
		select {
		case e := <-told:
			return e
		case <-ctx.Done():
			t.Fatal("nobody told the client")
			panic("unreachable")
		}
	}
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	r := chat.Restriction{Room: "hall", UserID: "eve", Kind: chat.Mute, By: "ada", Reason: "caps", Until: until}
	_, err = moderator.Restrict(ctx, chat.Actor{Any: true}, r)
	require.NoError(t, err)
	e := next()
	assert.Equal(t, wsclient.EventMembership, e.Kind)
	assert.Equal(t, []any{"hall", "eve", until, "caps"}, []any{e.Room, e.User.ID, e.Until, e.Reason})
	_, err = c.Send(ctx, "hall", "x")
	require.ErrorContains(t, err, "muted")
	_, err = moderator.Lift(ctx, chat.Actor{Any: true}, r)
	require.NoError(t, err)
	assert.Zero(t, next().Until)
	_, err = c.Send(ctx, "hall", "thank you")
	require.NoError(t, err)
	r.Kind, r.Reason = chat.Ban, "spam"
	_, err = moderator.Restrict(ctx, chat.Actor{Any: true}, r)
	require.NoError(t, err)
	e = next()
	assert.Equal(t, wsclient.EventRemoved, e.Kind)
	assert.Equal(t, []any{"hall", "spam"}, []any{e.Room, e.Reason})
	_, err = c.Join(ctx, "hall")
	require.ErrorContains(t, err, "banned")
}
