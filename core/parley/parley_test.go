package parley_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/core/webhook"
	"github.com/parley-chat/parley/testkit"
)

func TestNewNamesEverythingThatIsMissing(t *testing.T) {
	ports := memory.NewPorts()
	ports.Users, ports.Fanout, ports.Recent = nil, nil, nil
	_, err := parley.New(parley.Config{Ports: ports, PublicURL: "http://localhost"})
	for _, want := range []string{"Users", "Fanout", "Recent"} {
		assert.ErrorContains(t, err, want)
	}
	_, err = parley.New(parley.Config{Ports: memory.NewPorts(), PublicURL: "nonsense", Origins: []string{"nonsense"}})
	assert.ErrorContains(t, err, "PublicURL")
	assert.ErrorContains(t, err, "Origins")
}

// run starts a system in memory, and ends it with the test.
func run(t *testing.T, ports parley.Ports) *parley.System {
	t.Helper()
	s, err := parley.New(parley.Config{Ports: ports, PublicURL: "http://localhost"})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); assert.NoError(t, <-ended) })
	return s
}

func TestFromSignUpToASocketThatSigningOutCloses(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	mails := testkit.NewMailbox()
	ports := memory.NewPorts()
	ports.Sender = mails
	s := run(t, ports)
	require.NoError(t, s.Auth.SignUp(ctx, auth.Client{}, auth.SignUp{FullName: "Ada", Email: "ada@example.com", Password: "correct horse"}))
	m, err := mails.Await(ctx, "ada@example.com", 1)
	require.NoError(t, err)
	code, err := testkit.Code(m)
	require.NoError(t, err)
	require.NoError(t, s.Auth.Verify(ctx, code))
	g, err := s.Auth.SignIn(ctx, auth.Client{}, "ada@example.com", "correct horse")
	require.NoError(t, err)
	account, err := s.Auth.Authenticate(ctx, g.AccessToken)
	require.NoError(t, err)

	who, err := s.Authenticator().Token(ctx, g.AccessToken)
	require.NoError(t, err)
	assert.Equal(t, account.SessionID, who.SessionID)
	ticket, _, err := s.Auth.SocketTicket(ctx, account)
	require.NoError(t, err)
	who, err = s.Authenticator().Ticket(ctx, ticket)
	require.NoError(t, err)
	c := memory.Connect(s.Hub, who)
	require.NoError(t, c.Write([]byte(`{"id":1,"event":"join_room","data":{"room":"hall"}}`), false))
	f, err := c.Read(ctx)
	require.NoError(t, err)
	assert.Contains(t, string(f.Payload()), `"event":"ack"`)

	require.NoError(t, s.Auth.SignOut(ctx, account))
	_, err = c.Read(ctx)
	var closed *memory.Closed
	require.ErrorAs(t, err, &closed)
	assert.Equal(t, socket.CloseUnauthenticated, closed.Code)
	_, err = s.Authenticator().Token(ctx, g.AccessToken)
	assert.Error(t, err)
}

// swept is a store of names that tells when it is swept.
type swept struct {
	auth.Nonces
	times chan time.Time
}

func (s swept) DeleteExpired(_ context.Context, before time.Time) (int, error) {
	s.times <- before
	return 0, nil
}

func TestANodeByItselfForgetsSpentTickets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ports := memory.NewPorts()
		names := swept{ports.Nonces, make(chan time.Time, 10)}
		ports.Nonces = names
		node, err := parley.NewNode(parley.Config{Ports: ports, Authenticator: parley.Authenticate(nil)})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- node.Run(ctx, nil) }()
		synctest.Wait()
		require.Len(t, names.times, 1)
		assert.True(t, (<-names.times).Before(time.Now()))
		time.Sleep(time.Hour) // of the bubble's clock
		synctest.Wait()
		assert.Len(t, names.times, 1)
		cancel()
		require.NoError(t, <-ended)
	})
}

func TestANodeRemovesOldMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ports := memory.NewPorts()
		node, err := parley.NewNode(parley.Config{Ports: ports, Authenticator: parley.Authenticate(nil), Janitor: chat.JanitorConfig{Retention: time.Hour}})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- node.Run(ctx, nil) }()
		synctest.Wait()
		_, err = node.Chat.Join(ctx, chat.System, "hall")
		require.NoError(t, err)
		for _, left := range []int{1, 2, 2, 2} {
			_, err = node.Send(ctx, chat.Draft{Room: "hall", Author: chat.System, Text: "x"})
			require.NoError(t, err)
			synctest.Wait()
			all, err := ports.Messages.List(ctx, "hall", chat.Range{Limit: 10})
			require.NoError(t, err)
			assert.Len(t, all, left)
			time.Sleep(45 * time.Minute) // of the bubble's clock
		}
		cancel()
		require.NoError(t, <-ended)
	})
}

// heldUp is a store whose messages cannot be listed for a while.
type heldUp struct {
	chat.MessageStore
	failures atomic.Int32
}

func (h *heldUp) List(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
	if h.failures.Add(-1) >= 0 {
		return nil, fault.Wrap(fault.Unavailable, errors.New("nobody is there"))
	}
	return h.MessageStore.List(ctx, room, r)
}

// Whose account is erased elsewhere loses what they have said, by one of the nodes, also if it cannot be done at once. Whose sessions end for another
// reason loses nothing.
func TestNodesEraseWhoWasErasedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ports := memory.NewPorts()
		store := &heldUp{MessageStore: ports.Messages}
		ports.Messages = store
		ctx, cancel := context.WithCancel(t.Context())
		var said bytes.Buffer
		log := slog.New(slog.NewTextHandler(&said, nil))
		ended := make(chan error, 2)
		var nodes [2]*parley.Node
		fanout := memory.NewFanout()
		for i := range nodes {
			var err error
			ports.Fanout = fanout.Node()
			nodes[i], err = parley.NewNode(parley.Config{Ports: ports, Authenticator: parley.Authenticate(nil), Log: log})
			require.NoError(t, err)
			go func() { ended <- nodes[i].Run(ctx, nil) }()
		}
		synctest.Wait()
		for i, name := range []user.ID{"ada", "grace"} {
			_, err := nodes[i].Chat.Join(ctx, chat.Author{ID: name, Name: string(name)}, "hall")
			require.NoError(t, err)
			_, err = nodes[i].Send(ctx, chat.Draft{Room: "hall", Author: chat.Author{ID: name, Name: string(name)}, Text: "I am " + string(name)})
			require.NoError(t, err)
		}
		store.failures.Store(1)
		now := time.Now()
		for _, d := range []auth.SessionsRevoked{
			{UserID: "grace", Before: now, Until: now.Add(time.Minute)},
			{UserID: string(chat.System.ID), Before: now, Until: now.Add(time.Minute), Erased: true}, // holds up nobody
			{UserID: "ada", Before: now, Until: now.Add(time.Minute), Erased: true},
		} {
			data, err := json.Marshal(d)
			require.NoError(t, err)
			require.NoError(t, ports.Publisher.Publish(ctx, event.Event{ID: event.NewID(), Topic: auth.Topic, Type: auth.TypeSessionsRevoked, Key: d.UserID, Data: data}))
		}
		time.Sleep(time.Minute) // of the bubble's clock
		synctest.Wait()
		all, err := ports.Messages.List(ctx, "hall", chat.Range{Limit: 10})
		require.NoError(t, err)
		require.Len(t, all, 2)
		assert.Empty(t, all[0].Text)
		assert.Equal(t, "I am grace", all[1].Text)
		cancel()
		for range nodes {
			require.NoError(t, <-ended)
		}
		assert.Equal(t, 1, strings.Count(said.String(), "could not be erased"))
		assert.Equal(t, 1, strings.Count(said.String(), "was erased"), "two nodes did the same")
	})
}

// gated is a bus that nobody reaches until it is opened. It keeps what it was given.
type gated struct {
	open atomic.Bool
	mu   sync.Mutex
	got  []event.Event
}

func (g *gated) Publish(_ context.Context, events ...event.Event) error {
	if !g.open.Load() {
		return fault.Wrap(fault.Unavailable, errors.New("nobody is there"))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.got = append(g.got, events...)
	return nil
}

// What waits about the messages of a room goes with the room, and what is queued about them already is forgotten: the room stays until that was said.
func TestWhatWaitsAboutARoomGoesWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ports, bus := memory.NewPorts(), &gated{}
		ports.Publisher = bus
		facts, err := webhook.Select("message.*")
		require.NoError(t, err)
		node, err := parley.NewNode(parley.Config{Ports: ports, Authenticator: parley.Authenticate(nil), Webhooks: facts})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- node.Run(ctx, nil) }()
		synctest.Wait()
		owner := chat.Actor{Author: chat.Author{ID: "ada", Name: "Ada"}}
		_, err = node.Chat.CreateRoom(ctx, owner, "den", chat.Details{})
		require.NoError(t, err)
		const messages = 300 // more than are removed together
		for range messages {
			_, err = node.Send(ctx, chat.Draft{Room: "den", Author: owner.Author, Text: "canary", ClientID: rand.Text()})
			require.NoError(t, err)
		}
		count := func(all []event.Event) (texts, forget int) {
			for _, e := range all {
				var f webhook.FactData
				require.NoError(t, json.Unmarshal(e.Data, &f))
				texts += strings.Count(string(e.Data), "canary")
				if f.Forgets {
					forget++
				}
			}
			return texts, forget
		}
		waiting := func() (texts, forget int) {
			all, err := ports.Outbox.Pending(ctx, 10*messages)
			require.NoError(t, err)
			return count(all)
		}
		rooms := func() int {
			all, err := ports.Rooms.List(ctx, "", 10)
			require.NoError(t, err)
			return len(all)
		}
		texts, _ := waiting()
		require.Equal(t, messages, texts)
		require.NoError(t, node.Chat.DeleteRoom(ctx, owner, "den"))
		time.Sleep(10 * time.Minute) // of the bubble's clock
		texts, forget := waiting()
		assert.Zero(t, texts)
		assert.GreaterOrEqual(t, forget, messages)
		assert.Equal(t, 1, rooms(), "the bus has not heard what is to be forgotten")
		bus.open.Store(true)
		time.Sleep(10 * time.Minute)
		assert.Zero(t, rooms())
		texts, forget = count(bus.got)
		assert.Zero(t, texts)
		assert.GreaterOrEqual(t, forget, messages)
		cancel()
		require.NoError(t, <-ended)
	})
}

func TestANodeIdentifiesWhomItsSocketsWould(t *testing.T) {
	t.Parallel()
	tokens := memory.NewAuthenticator()
	node, err := parley.NewNode(parley.Config{Ports: memory.NewPorts(), Authenticator: tokens})
	require.NoError(t, err)
	ada := user.Identity{UserID: "u-ada", Name: "Ada", SessionID: "s-ada"}
	tokens.AllowToken("good", ada)
	who, err := node.Identify(t.Context(), "good")
	require.NoError(t, err)
	assert.Equal(t, ada, who)
	_, err = node.Identify(t.Context(), "bad")
	require.ErrorIs(t, err, fault.Unauthenticated)
	node.Hub.Revoke("u-ada", "s-ada", time.Now().Add(time.Minute))
	who, err = node.Identify(t.Context(), "good")
	require.ErrorIs(t, err, realtime.ErrRevoked)
	assert.Zero(t, who)
}

func TestASystemSweepsEachStoreOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ports := memory.NewPorts()
		names := swept{ports.Nonces, make(chan time.Time, 10)}
		ports.Nonces = names
		s, err := parley.New(parley.Config{Ports: ports, PublicURL: "http://localhost"})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		synctest.Wait()
		assert.Len(t, names.times, 1)
		cancel()
		require.NoError(t, <-ended)
	})
}

// Decorators stand before every port, and pass on everything that a port can do.
func TestADecoratorLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ports, f := memory.NewPorts(), testkit.NewFaults(1)
		ports.SignUps = testkit.FaultySignUps(ports.SignUps, f)
		ports.Sessions = testkit.FaultySessions(ports.Sessions, f)
		ports.Codes = testkit.FaultyCodes(ports.Codes, f)
		ports.Nonces = testkit.FaultyNonces(ports.Nonces, f)
		ports.Limiter = testkit.FaultyLimiter(ports.Limiter, f)
		ports.Sender = testkit.FaultySender(ports.Sender, f)
		f.Set(testkit.Rule{Method: "Sender.Send", Fault: testkit.Fail(nil)}, testkit.Rule{Method: "Sender.Check", Fault: testkit.Fail(nil)})
		s, err := parley.New(parley.Config{Ports: ports, PublicURL: "http://localhost"})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		synctest.Wait()
		for _, port := range []string{"SignUps", "Sessions", "Codes", "Nonces", "Limiter"} {
			assert.EqualValues(t, 1, f.Calls(port+".DeleteExpired"), "what has expired is removed from %s", port)
		}
		require.NoError(t, s.Auth.SignUp(ctx, auth.Client{}, auth.SignUp{FullName: "Ada", Email: "ada@example.com", Password: "correct horse"}))
		time.Sleep(time.Minute) // of the bubble's clock
		assert.EqualValues(t, 1, f.Calls("Sender.Send"), "a mail is not tried in vain")
		assert.Greater(t, f.Calls("Sender.Check"), 10, "a sender that fails is asked whether it takes mails")
		cancel()
		require.NoError(t, <-ended)
	})
}

// broken cannot be subscribed to.
type broken struct{ event.Subscriber }

func (broken) Subscribe(_ context.Context, topic, _ string, _ event.Handler, _ func()) error {
	return errors.New("no such thing as " + topic)
}

func TestAPartThatFailsEndsTheOthers(t *testing.T) {
	ports := memory.NewPorts()
	ports.Subscriber = broken{}
	s, err := parley.New(parley.Config{Ports: ports, PublicURL: "http://localhost"})
	require.NoError(t, err)
	require.ErrorContains(t, s.Run(t.Context()), "no such thing as")
}

func TestARevocationThatCannotBeReadHoldsUpNobody(t *testing.T) {
	until := time.Now().Add(time.Hour)
	t.Run("of one session", func(t *testing.T) {
		closesByEvent(t, auth.TypeSessionRevoked, auth.SessionRevoked{UserID: "ada", SessionID: "s1", Until: until})
	})
	t.Run("of all sessions", func(t *testing.T) {
		closesByEvent(t, auth.TypeSessionsRevoked, auth.SessionsRevoked{UserID: "ada", Before: until, Keep: "s2", Until: until})
	})
}

func closesByEvent(t *testing.T, kind string, what any) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ports := memory.NewPorts()
	s := run(t, ports)
	c := memory.Connect(s.Hub, user.Identity{UserID: "ada", SessionID: "s1"})
	data, err := json.Marshal(what)
	require.NoError(t, err)
	// Until the system subscribes, nobody hears; so it is said until somebody does.
	closed := make(chan error, 1)
	go func() { _, err := c.Read(ctx); closed <- err }()
	for {
		require.NoError(t, ports.Publisher.Publish(ctx,
			event.Event{ID: event.NewID(), Topic: auth.Topic, Type: kind, Data: []byte("{")},
			event.Event{ID: event.NewID(), Topic: auth.Topic, Type: "something.else", Data: data},
			event.Event{ID: event.NewID(), Topic: auth.Topic, Type: kind, Data: data},
		))
		select {
		case err := <-closed:
			var c *memory.Closed
			require.ErrorAs(t, err, &c)
			assert.Equal(t, socket.CloseUnauthenticated, c.Code)
			return
		case <-time.After(time.Millisecond):
		}
	}
}
