package wsclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stage is a server whose part the test itself plays.
type stage struct {
	t     *testing.T
	url   string
	conns chan *actor
	// tokens are those of all handshakes.
	tokens chan string
	// refuse, if not zero, is the status that handshakes are refused with.
	refuse atomic.Int32
}

// actor is the server's end of one connection.
type actor struct {
	t  *testing.T
	ws *websocket.Conn
}

type request struct {
	ID    uint64 `json:"id"`
	Event string `json:"event"`
	Data  struct {
		Room     string  `json:"room"`
		Text     string  `json:"text"`
		ClientID string  `json:"clientId"`
		Since    *uint64 `json:"since"`
		After    *uint64 `json:"after"`

		Rev          *uint64 `json:"rev"`
		ChangedAfter *uint64 `json:"changedAfter"`
		Read         *uint64 `json:"read"`
	} `json:"data"`
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, conns: make(chan *actor, 64), tokens: make(chan string, 64)}
	upgrader := websocket.Upgrader{Subprotocols: []string{"parley.v1"}}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.tokens <- strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") + r.URL.Query().Get("ticket")
		if status := s.refuse.Load(); status != 0 {
			w.WriteHeader(int(status))
			return
		}
		ws, err := upgrader.Upgrade(w, r, nil)
		if err == nil {
			s.conns <- &actor{t: t, ws: ws}
		}
	}))
	t.Cleanup(web.Close)
	s.url = "ws" + strings.TrimPrefix(web.URL, "http")
	return s
}

func (s *stage) next() *actor {
	s.t.Helper()
	select {
	case a := <-s.conns:
		s.t.Cleanup(func() { _ = a.ws.Close() })
		return a
	case <-s.t.Context().Done():
		s.t.Fatal("nobody connected")
		return nil
	}
}

// expect reads the next request and wants it to be event.
func (a *actor) expect(event string) request {
	a.t.Helper()
	var r request
	require.NoError(a.t, a.ws.ReadJSON(&r))
	require.Equal(a.t, event, r.Event)
	return r
}

func (a *actor) say(format string, args ...any) {
	a.t.Helper()
	require.NoError(a.t, a.ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, args...)))
}

func (a *actor) ack(r request, data string) {
	a.t.Helper()
	a.say(`{"id":%d,"event":"ack","data":%s}`, r.ID, data)
}

func (a *actor) joined(r request, seq int, recovered bool, messages ...uint64) {
	a.t.Helper()
	a.ack(r, fmt.Sprintf(`{"room":%q,"seq":%d,"recovered":%t,"messages":%s}`, r.Data.Room, seq, recovered, list(messages)))
}

func (a *actor) live(seq uint64) {
	a.t.Helper()
	a.say(`{"event":"message","data":%s}`, message(seq))
}

func (a *actor) close(code int) {
	a.t.Helper()
	require.NoError(a.t, a.ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(code, "")))
	_ = a.ws.Close()
}

func message(seq uint64) string {
	return fmt.Sprintf(`{"room":"go","seq":%d,"id":"m%d","user":{"id":"u","name":"U"},"text":"text %d","at":"2026-01-02T03:04:05.000006Z"}`, seq, seq, seq)
}

func list(seqs []uint64) string {
	parts := make([]string, len(seqs))
	for i, seq := range seqs {
		parts[i] = message(seq)
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// dial connects a client, and returns it with its events.
func (s *stage) dial(change func(*wsclient.Config)) (*wsclient.Client, chan wsclient.Event) {
	s.t.Helper()
	events := make(chan wsclient.Event, 1024)
	cfg := wsclient.Config{
		URL:      s.url,
		Handle:   func(e wsclient.Event) { events <- e },
		MinPause: time.Microsecond, MaxPause: time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	c, err := wsclient.Dial(s.t.Context(), cfg)
	require.NoError(s.t, err)
	s.t.Cleanup(c.Close)
	return c, events
}

// want reads events and compares them in short form, connecting left out.
func want(t *testing.T, events chan wsclient.Event, expected ...string) {
	t.Helper()
	for _, w := range expected {
		var got string
		for got == "" {
			e := <-events
			switch e.Kind {
			case wsclient.EventMessage:
				got = fmt.Sprintf("%s %d", e.Room, e.Message.Seq)
				if e.Message.Rev != 0 {
					got += fmt.Sprintf(" @%d", e.Message.Rev)
				}
			case wsclient.EventResync:
				got = fmt.Sprintf("resync %s %t", e.Room, e.Lost)
			case wsclient.EventTyping:
				got = fmt.Sprintf("typing %s %s %t", e.Room, e.User.ID, e.Typing)
			case wsclient.EventJoined:
				got = "joined " + e.User.ID
			case wsclient.EventLeft:
				got = "left " + e.User.ID
			case wsclient.EventChanged:
				got = fmt.Sprintf("changed %s %d @%d", e.Room, e.Message.Seq, e.Message.Rev)
			case wsclient.EventApplication:
				got = "event " + e.Name
			case wsclient.EventDisconnected:
				got = fmt.Sprintf("disconnected %d", e.Code)
			}
		}
		require.Equal(t, w, got)
	}
}

// join lets the client join "go" with the messages given.
func join(t *testing.T, c *wsclient.Client, a *actor, seq int, messages ...uint64) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := c.Join(t.Context(), "go")
		done <- err
	}()
	a.joined(a.expect("join_room"), seq, true, messages...)
	require.NoError(t, <-done)
}

func TestJoinAndEvents(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, events := s.dial(nil)
	a := s.next()
	join(t, c, a, 3, 2, 3)
	a.say(`{"event":"joined","data":{"room":"go","user":{"id":"ada","name":"Ada"}}}`)
	a.say(`{"event":"isTyping","data":{"room":"go","user":{"id":"ada","name":"Ada"},"typing":true}}`)
	a.live(4)
	a.live(4)
	a.say(`{"event":"left","data":{"room":"go","user":{"id":"ada","name":"Ada"}}}`)
	a.say(`{"event":"left","data":{"room":"elsewhere","user":{"id":"ada","name":"Ada"}}}`)
	a.live(5)
	want(t, events, "go 2", "go 3", "joined ada", "typing go ada true", "go 4", "left ada", "go 5")
}

func TestPagesUpToTheLiveEdge(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, events := s.dial(nil)
	a := s.next()
	done := make(chan error, 1)
	go func() {
		_, err := c.JoinSince(t.Context(), "go", 1)
		done <- err
	}()
	r := a.expect("join_room")
	require.EqualValues(t, 1, *r.Data.Since)
	a.joined(r, 6, true, 2, 3)
	require.NoError(t, <-done)
	a.live(7) // has to wait
	h := a.expect("history")
	require.EqualValues(t, 3, *h.Data.After)
	a.ack(h, `{"messages":`+list([]uint64{4, 5})+`,"more":true}`)
	a.live(8)
	h = a.expect("history")
	require.EqualValues(t, 5, *h.Data.After)
	a.ack(h, `{"messages":`+list([]uint64{6, 7})+`,"more":false}`)
	a.live(9)
	want(t, events, "go 2", "go 3", "go 4", "go 5", "go 6", "go 7", "go 8", "go 9")
}

func TestHoleInTheLiveStream(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, events := s.dial(nil)
	a := s.next()
	join(t, c, a, 1, 1)
	a.live(4)
	a.live(3)
	h := a.expect("history")
	require.EqualValues(t, 1, *h.Data.After)
	a.ack(h, `{"messages":`+list([]uint64{2})+`,"more":false}`)
	a.live(7)
	want(t, events, "go 1", "go 2", "go 3", "go 4")
	h = a.expect("history")
	require.EqualValues(t, 4, *h.Data.After)
	a.ack(h, `{"messages":[],"more":false}`) // deleted
	want(t, events, "resync go true", "go 7")
	a.live(9)
	h = a.expect("history")
	a.ack(h, `{"messages":`+list([]uint64{9})+`,"more":false}`)
	want(t, events, "resync go true", "go 9")
}

// TestAPageThatIsOlderThanTheNextHole: of what was stored after it was read, a page says nothing.
func TestAPageThatIsOlderThanTheNextHole(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, events := s.dial(nil)
	a := s.next()
	join(t, c, a, 1, 1)
	a.live(3)
	h := a.expect("history")
	require.EqualValues(t, 1, *h.Data.After)
	a.live(2)
	a.live(6)
	a.ack(h, `{"messages":`+list([]uint64{2, 3})+`,"more":false}`)
	want(t, events, "go 1", "go 2", "go 3")
	h = a.expect("history")
	require.EqualValues(t, 3, *h.Data.After)
	a.ack(h, `{"messages":`+list([]uint64{4, 5, 6})+`,"more":false}`)
	want(t, events, "go 4", "go 5", "go 6")
}

func TestReturnsAndSendsAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, events := s.dial(nil)
	a := s.next()
	join(t, c, a, 1, 1)
	type result struct {
		sent wsclient.Sent
		err  error
	}
	done := make(chan result, 1)
	go func() {
		sent, err := c.Send(t.Context(), "go", "hello")
		done <- result{sent, err}
	}()
	first := a.expect("message")
	c.Drop()

	a = s.next()
	r := a.expect("join_room")
	require.EqualValues(t, 1, *r.Data.Since)
	a.joined(r, 3, true, 2, 3)
	again := a.expect("message")
	require.Equal(t, first.Data, again.Data, "text and client id")
	require.NotEmpty(t, again.Data.ClientID)
	a.ack(again, `{"room":"go","seq":4,"id":"m4","at":"2026-01-02T03:04:05Z"}`)
	got := <-done
	require.NoError(t, got.err)
	require.EqualValues(t, 4, got.sent.Seq)
	require.Equal(t, again.Data.ClientID, got.sent.ClientID)
	a.live(4)
	want(t, events, "go 1", "disconnected 1006", "go 2", "go 3", "go 4")
}

func TestLostMessages(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, events := s.dial(nil)
	a := s.next()
	join(t, c, a, 1, 1)
	c.Drop()
	a = s.next()
	a.joined(a.expect("join_room"), 9, false, 8, 9)
	want(t, events, "go 1", "disconnected 1006", "resync go true", "go 8", "go 9")
	a.say(`{"event":"resync","data":{"room":"go"}}`)
	r := a.expect("join_room")
	require.EqualValues(t, 9, *r.Data.Since)
	a.joined(r, 10, true, 10)
	want(t, events, "resync go false", "go 10")
}

func TestRefusedRoomAfterReturn(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, events := s.dial(nil)
	a := s.next()
	join(t, c, a, 0)
	c.Drop()
	a = s.next()
	r := a.expect("join_room")
	a.say(`{"id":%d,"event":"error","error":{"code":"busy","title":"later"}}`, r.ID)
	a = s.next() // it tries again on a new connection
	r = a.expect("join_room")
	a.say(`{"id":%d,"event":"error","error":{"code":"not_allowed","title":"no"}}`, r.ID)
	want(t, events, "disconnected 1006", "disconnected 1006", "resync go true")
	a.live(1) // not its room any more
	_ = a.ws.Close()
	a = s.next()
	go func() { _ = c.HealthCheck(t.Context()) }()
	a.expect("healthCheck") // and no join_room
	want(t, events, "disconnected 1006")
}

func TestRequests(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, _ := s.dial(nil)
	a := s.next()
	errs := make(chan error, 1)

	go func() {
		_, err := c.Send(t.Context(), "go", "hello")
		errs <- err
	}()
	a.say(`{"id":%d,"event":"error","error":{"code":"not_joined","title":"first join"}}`, a.expect("message").ID)
	var refusal *wsclient.Error
	require.ErrorAs(t, <-errs, &refusal)
	require.Equal(t, "not_joined", refusal.Code)

	go func() {
		p, err := c.Presence(t.Context(), "go")
		if err == nil && (p.Count != 3 || len(p.Members) != 1 || p.Members[0].Name != "Ada") {
			err = fmt.Errorf("%+v", p)
		}
		errs <- err
	}()
	a.ack(a.expect("presence"), `{"members":[{"id":"ada","name":"Ada"}],"count":3}`)
	require.NoError(t, <-errs)

	go func() { errs <- c.Typing(t.Context(), "go", true) }()
	a.ack(a.expect("isTyping"), `{}`)
	require.NoError(t, <-errs)

	go func() { errs <- c.Leave(t.Context(), "go") }()
	a.ack(a.expect("leave_room"), `{}`)
	require.NoError(t, <-errs)

	go func() {
		p, err := c.History(t.Context(), "go", wsclient.Range{Before: 9, Limit: 2})
		if err == nil && (len(p.Messages) != 2 || !p.More) {
			err = fmt.Errorf("%+v", p)
		}
		errs <- err
	}()
	a.ack(a.expect("history"), `{"messages":`+list([]uint64{7, 8})+`,"more":true}`)
	require.NoError(t, <-errs)

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := c.Send(ctx, "go", "nobody answers")
		errs <- err
	}()
	a.expect("message")
	cancel()
	require.ErrorIs(t, <-errs, context.Canceled)

	go func() { errs <- c.HealthCheck(t.Context()) }()
	a.ack(a.expect("healthCheck"), `{"message":"OK"}`)
	require.NoError(t, <-errs)
	a.close(1000)
	<-c.Done()
	var closed *wsclient.CloseError
	require.ErrorAs(t, c.Err(), &closed)
	require.Equal(t, 1000, closed.Code)
	_, err := c.Join(t.Context(), "go")
	require.ErrorAs(t, err, &closed)
}

func TestCloseCodes(t *testing.T) {
	t.Parallel()
	for code, returns := range map[int]bool{
		1000: false, 1001: true, 1002: false, 1011: true, 1012: true, 1005: true, 1013: true, 3000: false,
		4400: false, 4401: true, 4403: false, 4408: true, 4413: false, 4429: false,
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			var n atomic.Int32
			c, events := s.dial(func(cfg *wsclient.Config) {
				cfg.Token = func(context.Context) (string, error) { return fmt.Sprintf("token %d", n.Add(1)), nil }
			})
			require.Equal(t, "token 1", <-s.tokens)
			s.next().close(code)
			want(t, events, fmt.Sprintf("disconnected %d", code))
			if returns {
				s.next()
				require.Equal(t, "token 2", <-s.tokens)
				return
			}
			<-c.Done()
			var closed *wsclient.CloseError
			require.ErrorAs(t, c.Err(), &closed)
			require.Equal(t, code, closed.Code)
		})
	}
}

func TestRefusedHandshakes(t *testing.T) {
	t.Parallel()
	for status, attempts := range map[int]int{401: 2, 403: 1, 422: 1} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.refuse.Store(int32(status))
			_, err := wsclient.Dial(t.Context(), wsclient.Config{
				URL: s.url, MinPause: time.Microsecond,
				Ticket: func(context.Context) (string, error) { return "ticket", nil },
			})
			var refusal *wsclient.HandshakeError
			require.ErrorAs(t, err, &refusal)
			require.Equal(t, status, refusal.Status)
			require.Len(t, s.tokens, attempts)
			require.Equal(t, "ticket", <-s.tokens)
		})
	}
	t.Run("503 is tried again", func(t *testing.T) {
		t.Parallel()
		s := newStage(t)
		s.refuse.Store(503)
		go func() {
			<-s.tokens
			<-s.tokens
			s.refuse.Store(0)
		}()
		s.dial(nil)
		s.next()
	})
}

func TestTokenErrors(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var n atomic.Int32
	c, _ := s.dial(func(cfg *wsclient.Config) {
		cfg.Token = func(context.Context) (string, error) {
			switch n.Add(1) {
			case 1, 3:
				return "", fault.Unavailable // asked again
			case 2:
				return "token", nil
			default:
				return "", fault.Wrap(fault.Unauthenticated, errors.New("signed out"))
			}
		}
	})
	s.next().close(4401)
	<-c.Done()
	require.ErrorIs(t, c.Err(), fault.Unauthenticated)
	require.EqualValues(t, 4, n.Load())
}

func TestDialRefusesBadConfig(t *testing.T) {
	t.Parallel()
	token := func(context.Context) (string, error) { return "", nil }
	_, err := wsclient.Dial(t.Context(), wsclient.Config{Token: token, Ticket: token})
	require.ErrorContains(t, err, "Config.URL is missing")
	require.ErrorContains(t, err, "Config.Tokens is not alone")
	_, err = wsclient.Dial(t.Context(), wsclient.Config{
		URL: "ws://x", Queue: -1, Burst: -1, Window: -1, AckTimeout: -1, MinPause: -1, MaxPause: -1, HandshakeTimeout: -1, IdleTimeout: -1,
	})
	for _, field := range []string{"Queue", "Burst", "Window", "AckTimeout", "MinPause", "MaxPause", "HandshakeTimeout", "IdleTimeout"} {
		require.ErrorContains(t, err, "wsclient: Config."+field+" is negative")
	}
	_, err = wsclient.Dial(t.Context(), wsclient.Config{URL: "http://x"})
	require.ErrorContains(t, err, "no ws or wss address")
}

func TestServerBreaksTheProtocol(t *testing.T) {
	t.Parallel()
	for _, frame := range []string{`not json`, `{"event":"message","data":7}`} {
		s := newStage(t)
		c, _ := s.dial(nil)
		s.next().say("%s", frame)
		<-c.Done()
		var closed *wsclient.CloseError
		require.ErrorAs(t, c.Err(), &closed, frame)
		require.Equal(t, 1002, closed.Code)
	}
}

func TestCloseSaysGoodbye(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, _ := s.dial(nil)
	a := s.next()
	sent := make(chan error, 1)
	go func() {
		_, err := c.Send(t.Context(), "go", "hello")
		sent <- err
	}()
	a.expect("message")
	closed := make(chan error, 1)
	go func() {
		_, _, err := a.ws.ReadMessage() // answers the close frame
		closed <- err
	}()
	c.Close()
	c.Close()
	require.True(t, websocket.IsCloseError(<-closed, 1000))
	require.ErrorIs(t, <-sent, wsclient.ErrClosed)
	require.ErrorIs(t, c.Err(), wsclient.ErrClosed)
}

func TestRequestsAreValidJSON(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	c, _ := s.dial(nil)
	a := s.next()
	go func() { _, _ = c.Send(t.Context(), "go", "<grüße> \"x\" \u2028") }()
	_, b, err := a.ws.ReadMessage()
	require.NoError(t, err)
	require.True(t, json.Valid(b))
	require.JSONEq(t, `{"room":"go","text":"<grüße> \"x\" \u2028","clientId":"`+clientID(t, b)+`"}`, string(dataOf(t, b)))
}

func dataOf(t *testing.T, b []byte) json.RawMessage {
	var v struct{ Data json.RawMessage }
	require.NoError(t, json.Unmarshal(b, &v))
	return v.Data
}

func clientID(t *testing.T, b []byte) string {
	var r request
	require.NoError(t, json.Unmarshal(b, &r))
	return r.Data.ClientID
}
