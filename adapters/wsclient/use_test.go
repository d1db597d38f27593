package wsclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/realtime"
)

// TestHandleMayUseTheClient lets a bot answer what it is told, from Handle.
func TestHandleMayUseTheClient(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	url := startHub(t)
	var bot *wsclient.Client
	ready, echoed := make(chan struct{}), make(chan error, 100)
	bot, err := wsclient.Dial(ctx, wsclient.Config{
		URL: url, Token: func(context.Context) (string, error) { return "bot", nil },
		Handle: func(e wsclient.Event) {
			if e.Kind != wsclient.EventMessage || e.Message.User.ID == "bot" {
				return
			}
			<-ready
			_, err := bot.Send(ctx, e.Room, "echo: "+e.Message.Text)
			echoed <- err
		},
	})
	require.NoError(t, err)
	t.Cleanup(bot.Close)
	close(ready)
	_, err = bot.Join(ctx, "go")
	require.NoError(t, err)
	heard := make(chan string, 100)
	ada, err := wsclient.Dial(ctx, wsclient.Config{
		URL: url, Token: func(context.Context) (string, error) { return "ada", nil },
		Handle: func(e wsclient.Event) {
			if e.Kind == wsclient.EventMessage && e.Message.User.ID == "bot" {
				heard <- e.Message.Text
			}
		},
	})
	require.NoError(t, err)
	t.Cleanup(ada.Close)
	_, err = ada.Join(ctx, "go")
	require.NoError(t, err)
	for i := range 10 {
		_, err = ada.Send(ctx, "go", fmt.Sprint(i))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("echo: %d", i), <-heard)
		require.NoError(t, <-echoed)
	}
}

// TestASlowHandleMissesNoMessage lets Handle stand still while more comes than its queue holds.
func TestASlowHandleMissesNoMessage(t *testing.T) {
	t.Parallel()
	const messages = 300
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	url := startHub(t)
	token := func(name string) func(context.Context) (string, error) {
		return func(context.Context) (string, error) { return name, nil }
	}
	stand, all := make(chan struct{}), make(chan struct{})
	var seqs []uint64
	missed := false
	slow, err := wsclient.Dial(ctx, wsclient.Config{
		URL: url, Token: token("slow"), Queue: 10,
		Handle: func(e wsclient.Event) {
			<-stand
			switch e.Kind {
			case wsclient.EventMessage:
				if seqs = append(seqs, e.Message.Seq); len(seqs) == messages {
					close(all)
				}
			case wsclient.EventResync:
				missed = true
				assert.False(t, e.Lost)
			}
		},
	})
	require.NoError(t, err)
	t.Cleanup(slow.Close)
	_, err = slow.Join(ctx, "go")
	require.NoError(t, err)
	ada, err := wsclient.Dial(ctx, wsclient.Config{URL: url, Token: token("ada"), Rate: -1})
	require.NoError(t, err)
	t.Cleanup(ada.Close)
	_, err = ada.Join(ctx, "go")
	require.NoError(t, err)
	for i := range messages {
		_, err = ada.Send(ctx, "go", fmt.Sprint(i))
		require.NoError(t, err)
	}
	require.NoError(t, ada.Typing(ctx, "go", true))
	_, err = ada.Presence(ctx, "go") // the server has told all that she types before it answers
	require.NoError(t, err)
	// What does not need Handle goes on, and its answer comes behind all of that.
	present, err := slow.Presence(ctx, "go")
	require.NoError(t, err)
	require.Equal(t, 2, present.Count)
	close(stand)
	select {
	case <-all:
	case <-ctx.Done():
		t.Fatal("messages are missing")
	}
	slow.Close()
	for i, seq := range seqs {
		require.EqualValues(t, i+1, seq)
	}
	require.True(t, missed, "somebody typed, which Handle had no room for")
}

// TestKeepsToTheRateOfTheServer sends more at once than the server takes.
func TestKeepsToTheRateOfTheServer(t *testing.T) {
	t.Parallel()
	const messages = 60
	send := func(t *testing.T, rate, burst int) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		url, _ := startNode(t, func(cfg *realtime.HubConfig) { cfg.Rate, cfg.Burst = 200, 20 })
		c, err := wsclient.Dial(ctx, wsclient.Config{URL: url, Rate: rate, Burst: burst, Token: func(context.Context) (string, error) { return "ada", nil }})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		_, err = c.Join(ctx, "go")
		require.NoError(t, err)
		errs := make(chan error, messages)
		for i := range messages {
			go func() {
				_, err := c.Send(ctx, "go", fmt.Sprint(i))
				errs <- err
			}()
		}
		var all []error
		for range messages {
			all = append(all, <-errs)
		}
		return errors.Join(all...)
	}
	require.NoError(t, send(t, 100, 10))
	var closed *wsclient.CloseError
	require.ErrorAs(t, send(t, -1, 0), &closed, "the server does close for more")
	require.Equal(t, 4429, closed.Code)
}

// table is a room in which dice are rolled.
func table(cfg *realtime.HubConfig) {
	face := protocol.Field{Name: "face", Type: protocol.Integer, Required: true, Doc: "What came up."}
	sides := protocol.Field{Name: "sides", Type: protocol.Integer, Required: true, Minimum: 1, Maximum: 100, Doc: "How many sides the die has."}
	cfg.Events = []realtime.Event{{
		ClientEvent: protocol.ClientEvent{
			Name: "roll", Doc: "Roll a die.",
			Data: &protocol.Object{Name: "Roll", Doc: "The die.", Fields: []protocol.Field{sides}},
			Ack:  &protocol.Object{Name: "RollAck", Doc: "The result.", Fields: []protocol.Field{face}},
		},
		Handle: func(ctx context.Context, call realtime.Call) (protocol.Data, error) {
			if call.Data.Integer("sides") == 1 {
				return nil, fault.New(fault.Conflict, "no_die", "that is a ball")
			}
			d := protocol.Data{"face": call.Data.Integer("sides")}
			return d, call.Send(ctx, "rolled", d)
		},
	}}
	cfg.Sends = []protocol.ServerEvent{{
		Name: "rolled", Doc: "Somebody rolled a die.",
		Data: &protocol.Object{Name: "Rolled", Doc: "What came up.", Fields: []protocol.Field{face}},
	}}
}

func TestEventsOfAnApplication(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	url, _ := startNode(t, table)
	rolled := make(chan wsclient.Event, 100)
	c, err := wsclient.Dial(ctx, wsclient.Config{
		URL: url, MinPause: time.Millisecond, Token: func(context.Context) (string, error) { return "ada", nil },
		Handle: func(e wsclient.Event) {
			if e.Kind == wsclient.EventApplication {
				rolled <- e
			}
		},
	})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	type die struct {
		Room  string `json:"room"`
		Sides int    `json:"sides"`
	}
	var fell struct{ Face int }
	var refusal *wsclient.Error
	require.ErrorAs(t, c.Call(ctx, "roll", die{"table", 6}, &fell), &refusal)
	require.Equal(t, "not_joined", refusal.Code)
	_, err = c.Join(ctx, "table")
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, c.Call(ctx, "roll", die{"table", 6}, &fell))
		require.Equal(t, 6, fell.Face)
		e := <-rolled
		require.Equal(t, "rolled", e.Name)
		require.Equal(t, "table", e.Room)
		require.JSONEq(t, `{"room":"table","face":6}`, string(e.Data))
		c.Drop() // it is joined again before the next
	}
	require.NoError(t, c.Emit(ctx, "roll", die{"table", 20}))
	require.JSONEq(t, `{"room":"table","face":20}`, string((<-rolled).Data))
	require.NoError(t, c.Call(ctx, "roll", die{"table", 8}, nil))
	<-rolled
	require.ErrorAs(t, c.Call(ctx, "roll", die{"table", 1}, nil), &refusal)
	require.Equal(t, "no_die", refusal.Code)
	require.False(t, refusal.Temporary())
	require.ErrorContains(t, c.Call(ctx, "roll", func() {}, nil), "the data of roll")
	for _, own := range []string{"join_room", "leave_room", "message", "edit", "delete", "react", "mark", "renew"} {
		require.ErrorContains(t, c.Call(ctx, own, nil, nil), "a method of its own")
		require.ErrorContains(t, c.Emit(ctx, own, nil), "a method of its own")
	}
	require.NoError(t, c.Err())
}

func TestACallIsSentOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, _ := s.dial(nil)
	a := s.next()
	done := make(chan error, 1)
	go func() { done <- c.Call(t.Context(), "roll", nil, nil) }()
	a.expect("roll")
	c.Drop()
	require.ErrorIs(t, <-done, wsclient.ErrLost)
	a = s.next()
	go func() { done <- c.Emit(t.Context(), "wave", map[string]int{"n": 1}) }()
	var got struct {
		ID    *uint64
		Event string
		Data  json.RawMessage
	}
	require.NoError(t, a.ws.ReadJSON(&got))
	require.NoError(t, <-done)
	require.Nil(t, got.ID)
	require.Equal(t, "wave", got.Event)
	require.JSONEq(t, `{"n":1}`, string(got.Data))
}

// TestWhatIsAskedAfterADropWaits asks before the client has seen that its connection has ended.
func TestWhatIsAskedAfterADropWaits(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, events := s.dial(nil)
	s.next()
	require.Equal(t, wsclient.EventConnected, (<-events).Kind)
	for range 20 {
		c.Drop()
		done := make(chan error, 1)
		go func() { done <- c.Call(t.Context(), "roll", nil, nil) }()
		a := s.next()
		a.ack(a.expect("roll"), `{}`)
		require.NoError(t, <-done)
	}
}

// TestAnAnswerThatDoesNotCome plays a server that lives and does not answer.
func TestAnAnswerThatDoesNotCome(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, events := s.dial(func(cfg *wsclient.Config) { cfg.AckTimeout = 50 * time.Millisecond })
	a := s.next()
	done := make(chan error, 1)
	go func() {
		_, err := c.Send(t.Context(), "go", "hello")
		done <- err
	}()
	first := a.expect("message")
	want(t, events, "disconnected 1006")
	a = s.next()
	again := a.expect("message")
	require.Equal(t, first.Data, again.Data)
	a.ack(again, `{"room":"go","seq":1,"id":"m1","at":"2026-01-02T03:04:05Z"}`)
	require.NoError(t, <-done)
}

// tokens counts, and remembers what was refused.
type tokens struct {
	n       atomic.Int32
	refused chan string
}

func (k *tokens) Token(_ context.Context, spent string) (string, error) {
	k.refused <- spent
	if spent != "" || k.n.Load() == 0 {
		k.n.Add(1)
	}
	return fmt.Sprintf("token %d", k.n.Load()), nil
}

func TestARefusedTokenIsNamed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	source := &tokens{refused: make(chan string, 100)}
	s.dial(func(cfg *wsclient.Config) { cfg.Tokens = source })
	require.Equal(t, "token 1", <-s.tokens)
	require.Empty(t, <-source.refused)
	a := s.next()
	a.ack(a.expect("renew"), `{"expiresIn":3600}`)
	require.Empty(t, <-source.refused, "the connection is renewed with the token that is there")
	a.close(4401)
	require.Equal(t, "token 2", <-s.tokens)
	require.Equal(t, "token 1", <-source.refused)
	a = s.next()
	require.Empty(t, <-source.refused)
	a.ack(a.expect("renew"), `{"expiresIn":3600}`)
	s.refuse.Store(401)
	a.close(1012)
	require.Equal(t, "token 2", <-s.tokens)
	require.Empty(t, <-source.refused)
	require.Equal(t, "token 3", <-s.tokens)
	require.Equal(t, "token 2", <-source.refused)
}

// asks gives one answer after the other, and remembers when it was asked.
type asks struct {
	answers []error
	at      []time.Time
}

func (k *asks) Token(context.Context, string) (string, error) {
	k.at = append(k.at, time.Now())
	return "", k.answers[len(k.at)-1]
}

// TestTheTokensOfABusyServer waits as long as the server asks for, and no longer than is believed.
func TestTheTokensOfABusyServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		source := &asks{answers: []error{
			&wsclient.Problem{Status: 429, Code: "too_many_attempts", RetryAfter: 7 * time.Second},
			&wsclient.Problem{Status: 503, Code: "unavailable", RetryAfter: 24 * time.Hour},
			errors.New("the network is away"),
			fault.Unauthenticated,
		}}
		_, err := wsclient.Dial(t.Context(), wsclient.Config{
			URL: "ws://chat.example.com/socket", Tokens: source, MinPause: time.Second, MaxPause: 3 * time.Second, Jitter: func() float64 { return 1 },
		})
		require.ErrorIs(t, err, fault.Unauthenticated)
		var waits []time.Duration
		for i := range source.at[1:] {
			waits = append(waits, source.at[i+1].Sub(source.at[i]))
		}
		require.Equal(t, []time.Duration{(7 + 1) * time.Second, 5*time.Minute + 2*time.Second, 3 * time.Second}, waits)
	})
}

func TestATokenThatIsNearlySpent(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	source := &tokens{refused: make(chan string, 100)}
	c, _ := s.dial(func(cfg *wsclient.Config) { cfg.Tokens = source })
	require.Empty(t, <-source.refused)
	a := s.next()
	a.ack(a.expect("renew"), `{"expiresIn":0}`) // less than a second
	require.Empty(t, <-source.refused)
	r := a.expect("renew") // at once, with another one
	require.Equal(t, "token 1", <-source.refused)
	a.ack(r, `{"expiresIn":0}`) // so it has no end
	go func() { _ = c.HealthCheck(t.Context()) }()
	a.expect("healthCheck")
	require.Empty(t, source.refused)
}

func TestAServerThatDoesNotRenew(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	source := &tokens{refused: make(chan string, 100)}
	c, _ := s.dial(func(cfg *wsclient.Config) { cfg.Tokens = source })
	a := s.next()
	a.say(`{"id":%d,"event":"error","error":{"code":"renewal_not_supported","title":"no"}}`, a.expect("renew").ID)
	go func() { _ = c.HealthCheck(t.Context()) }()
	a.expect("healthCheck") // and no further renew
	<-source.refused
	<-source.refused
	require.Empty(t, source.refused)
}

func TestProblemOfAHandshake(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		contentType, body, want string
	}{
		{"application/problem+json; charset=utf-8", `{"type":"/problems/origin_refused","code":"origin_refused"}`, "origin_refused"},
		{"application/problem+json", `{"type":"about:blank","code":"origin_refused"}`, ""},
		{"text/html", `<h1>Sign in</h1>`, ""},
	} {
		url := strings.TrimPrefix(serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", c.contentType)
			w.Header().Set("Retry-After", "9")
			w.WriteHeader(http.StatusForbidden)
			_, _ = fmt.Fprint(w, c.body)
		}), "http")
		_, err := wsclient.Dial(t.Context(), wsclient.Config{URL: "ws" + url})
		var refusal *wsclient.HandshakeError
		require.ErrorAs(t, err, &refusal)
		assert.Equal(t, wsclient.HandshakeError{Status: 403, Code: c.want, RetryAfter: 9 * time.Second, Body: c.body}, *refusal)
	}
}

// TestCloseWhileHandleStands closes a client whose Handle waits for an answer, with more events behind it.
func TestCloseWhileHandleStands(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var handled atomic.Int32
	var c *wsclient.Client
	ready, ended := make(chan struct{}), make(chan error, 1)
	c, _ = s.dial(func(cfg *wsclient.Config) {
		cfg.Handle = func(e wsclient.Event) {
			if e.Kind != wsclient.EventMessage {
				return
			}
			handled.Add(1)
			<-ready
			_, err := c.Send(context.Background(), "go", "nobody answers")
			ended <- err
		}
	})
	close(ready)
	a := s.next()
	join(t, c, a, 3, 1, 2, 3)
	a.expect("message")
	go func() {
		for {
			if _, _, err := a.ws.ReadMessage(); websocket.IsCloseError(err, 1000) {
				return
			}
		}
	}()
	c.Close()
	require.ErrorIs(t, <-ended, wsclient.ErrClosed)
	require.EqualValues(t, 1, handled.Load(), "what waits is dropped")
}

func TestRepliesAndData(t *testing.T) {
	t.Parallel()
	url := startHub(t)
	got := make(chan wsclient.Message, 10)
	dial := func(name string, handle func(wsclient.Event)) *wsclient.Client {
		c, err := wsclient.Dial(t.Context(), wsclient.Config{URL: url, Token: func(context.Context) (string, error) { return name, nil }, Handle: handle})
		require.NoError(t, err)
		t.Cleanup(c.Close)
		return c
	}
	bob := dial("bob", func(e wsclient.Event) {
		if e.Kind == wsclient.EventMessage {
			got <- e.Message
		}
	})
	ada := dial("ada", func(wsclient.Event) {})
	for _, c := range []*wsclient.Client{ada, bob} {
		_, err := c.Join(t.Context(), "hall")
		require.NoError(t, err)
	}
	first, err := ada.Send(t.Context(), "hall", "What do you like?")
	require.NoError(t, err)
	sent, err := ada.SendDraft(t.Context(), "hall", wsclient.Draft{Text: "Tea.", ReplyTo: first.Seq, Data: map[string]any{"card": map[string]int{"n": 1}}})
	require.NoError(t, err)
	require.NotEmpty(t, sent.ClientID)
	again, err := ada.SendDraft(t.Context(), "hall", wsclient.Draft{Text: "Coffee.", ClientID: sent.ClientID})
	require.NoError(t, err)
	assert.Equal(t, sent.Seq, again.Seq)
	assert.Zero(t, (<-got).ReplyTo)
	m := <-got
	assert.Equal(t, first.Seq, m.ReplyTo)
	assert.Equal(t, `{"card":{"n":1}}`, string(m.Data))
	page, err := ada.History(t.Context(), "hall", wsclient.Range{})
	require.NoError(t, err)
	assert.Nil(t, page.Messages[0].Data)
	assert.Equal(t, m, page.Messages[1])

	var refused *wsclient.Error
	_, err = ada.SendDraft(t.Context(), "hall", wsclient.Draft{Text: "x", ReplyTo: 7})
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "reply_to_invalid", refused.Code)
	for name, data := range map[string]any{
		"list": []int{1}, "not JSON": func() {}, "long": map[string]string{"a": strings.Repeat("x", chat.MaxData)}, "NUL": map[string]string{"a": "\x00"},
	} {
		_, err := ada.SendDraft(t.Context(), "hall", wsclient.Draft{Text: "x", Data: data})
		require.ErrorIs(t, err, fault.Invalid, name)
	}
	_, err = ada.Send(t.Context(), "hall", "The connection is there.")
	require.NoError(t, err)
}
