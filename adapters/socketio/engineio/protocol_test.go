package engineio_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/parley-chat/parley/adapters/nbiows"
	"github.com/parley-chat/parley/adapters/netws"
	"github.com/parley-chat/parley/adapters/socketio/engineio"
	"github.com/parley-chat/parley/core/socket"
)

// echo sends each message back, and says when the session is over.
type echo struct {
	session *engineio.Session
	gone    chan<- engineio.Reason
}

func (e echo) Receive(payload []byte, binary bool) {
	message := engineio.NewMessage
	if binary {
		message = engineio.NewBinary
	}
	_ = e.session.Send(message(func(dst []byte) []byte { return append(dst, payload...) }))
}

func (e echo) Disconnected() { e.gone <- e.session.Reason() }

// place is a server of echoes.
type place struct {
	t      *testing.T
	url    string
	gone   chan engineio.Reason
	polled chan struct{} // a poll of a session has come to the server
}

// everywhere runs a test over each transport of this module.
func everywhere(t *testing.T, cfg engineio.Config, test func(p *place)) {
	t.Helper()
	for _, name := range []string{"nbio", "net"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var carrier interface {
				engineio.Upgrader
				Run(ctx context.Context) error
			}
			var err error
			if name == "net" {
				carrier, err = netws.New(netws.Config{UpgradeOnly: true, CloseTimeout: 100 * time.Millisecond})
			} else {
				carrier, err = nbiows.New(nbiows.Config{UpgradeOnly: true, CloseTimeout: 100 * time.Millisecond})
			}
			if err != nil {
				t.Fatal(err)
			}
			p := &place{t: t, gone: make(chan engineio.Reason, 64), polled: make(chan struct{}, 4096)}
			cfg := cfg
			cfg.Upgrader, cfg.CloseTimeout = carrier, 100*time.Millisecond
			cfg.Accept = func(s *engineio.Session, _ *http.Request) (socket.Receiver, error) { return echo{s, p.gone}, nil }
			server, err := engineio.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			carrying, drop := context.WithCancel(context.Background())
			serving, end := context.WithCancel(context.Background())
			carried, served := make(chan error, 1), make(chan error, 1)
			go func() { carried <- carrier.Run(carrying) }()
			go func() { served <- server.Run(serving) }()
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if query := r.URL.Query(); r.Method == http.MethodGet && query.Has("sid") && query.Get("transport") == string(engineio.Polling) {
					p.polled <- struct{}{}
				}
				server.ServeHTTP(w, r)
			}))
			t.Cleanup(func() {
				end()
				if err := <-served; err != nil {
					t.Error(err)
				}
				drop()
				if err := <-carried; err != nil {
					t.Error(err)
				}
				web.Close()
			})
			p.url = web.URL + "/engine.io/"
			test(p)
		})
	}
}

// ended wants the reason for which the next session ends.
func (p *place) ended(want engineio.Reason) {
	p.t.Helper()
	select {
	case got := <-p.gone:
		if got != want {
			p.t.Errorf("the session ended by %q, want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		p.t.Fatalf("no session ended by %q", want)
	}
}

// ask sends a request to the address of the server with a query.
func (p *place) ask(ctx context.Context, method, query, body string) (status int, answer string, err error) {
	r, err := http.NewRequestWithContext(ctx, method, p.url+query, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	return a.StatusCode, string(b), err
}

// must asks and wants an answer.
func (p *place) must(method, query, body string, status int, answer string) {
	p.t.Helper()
	got, text, err := p.ask(p.t.Context(), method, query, body)
	if err != nil || got != status || answer != "" && text != answer {
		p.t.Errorf("%s %s %q: %d %q, %v; want %d %q", method, query, body, got, text, err, status, answer)
	}
}

const (
	polling   = "?EIO=4&transport=polling"
	overWS    = "?EIO=4&transport=websocket"
	unknown   = `{"code":1,"message":"Session ID unknown"}` + "\n"
	badAnswer = `{"code":3,"message":"Bad request"}` + "\n"
)

type hello struct {
	SID                                   string
	Upgrades                              []string
	PingInterval, PingTimeout, MaxPayload int
}

// open opens a session on HTTP long-polling, and returns its query.
func (p *place) open() (query string, h hello) {
	p.t.Helper()
	status, body, err := p.ask(p.t.Context(), http.MethodGet, polling, "")
	if err != nil || status != http.StatusOK {
		p.t.Fatalf("the handshake: %d %s, %v", status, body, err)
	}
	return polling + "&sid=" + p.read(body, &h), h
}

func (p *place) read(packet string, h *hello) (sid string) {
	p.t.Helper()
	rest, ok := strings.CutPrefix(packet, "0")
	d := json.NewDecoder(strings.NewReader(rest))
	d.DisallowUnknownFields()
	if err := d.Decode(h); err != nil || !ok || h.SID == "" {
		p.t.Fatalf("the handshake %q: %v", packet, err)
	}
	return h.SID
}

// dial opens a WebSocket connection.
func (p *place) dial(query string) *websocket.Conn {
	p.t.Helper()
	ws, answer, err := websocket.DefaultDialer.DialContext(p.t.Context(), "ws"+strings.TrimPrefix(p.url, "http")+query, nil)
	if answer != nil {
		_ = answer.Body.Close()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = ws.Close() })
	return ws
}

// refused wants a status for a WebSocket handshake.
func (p *place) refused(query string, status int) {
	p.t.Helper()
	ws, answer, err := websocket.DefaultDialer.DialContext(p.t.Context(), "ws"+strings.TrimPrefix(p.url, "http")+query, nil)
	if err == nil {
		_ = ws.Close()
		p.t.Fatalf("%s: was opened", query)
	}
	if answer == nil || answer.StatusCode != status {
		p.t.Errorf("%s: %v, want %d", query, err, status)
	}
}

func (p *place) say(ws *websocket.Conn, packet string) {
	p.t.Helper()
	if err := ws.WriteMessage(websocket.TextMessage, []byte(packet)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) hear(ws *websocket.Conn, want string) {
	p.t.Helper()
	_ = ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	kind, got, err := ws.ReadMessage()
	if err != nil || kind != websocket.TextMessage || string(got) != want {
		p.t.Fatalf("heard %q, %v; want %q", got, err, want)
	}
}

// over wants the end of the connection, before which nothing but pings comes.
func (p *place) over(ws *websocket.Conn) {
	p.t.Helper()
	_ = ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		_, got, err := ws.ReadMessage()
		if err != nil {
			if !websocket.IsUnexpectedCloseError(err) {
				p.t.Errorf("the connection was not closed: %v", err)
			}
			return
		}
		if string(got) != "2" {
			p.t.Errorf("heard %q before the end", got)
		}
	}
}

func TestAHandshakeSaysWhatTheSessionIs(t *testing.T) {
	everywhere(t, engineio.Config{PingInterval: 3 * time.Second, PingTimeout: 2 * time.Second}, func(p *place) {
		_, h := p.open()
		if len(h.Upgrades) != 1 || h.Upgrades[0] != "websocket" || h.PingInterval != 3000 || h.PingTimeout != 2000 || h.MaxPayload != 1_000_000 {
			p.t.Errorf("on polling: %+v", h)
		}
		_, packet, err := p.dial(overWS).ReadMessage()
		if err != nil {
			p.t.Fatal(err)
		}
		h = hello{}
		p.read(string(packet), &h)
		if h.Upgrades == nil || len(h.Upgrades) != 0 || h.PingInterval != 3000 || h.PingTimeout != 2000 || h.MaxPayload != 1_000_000 {
			p.t.Errorf("on WebSocket: %+v", h)
		}
	})
}

func TestAHandshakeNamesVersionTransportAndMethod(t *testing.T) {
	everywhere(t, engineio.Config{}, func(p *place) {
		for _, version := range []string{"", "EIO=", "EIO=abc", "EIO=3", "EIO=5"} {
			p.must(http.MethodGet, "?transport=polling&"+version, "", http.StatusBadRequest, "")
			p.refused("?transport=websocket&"+version, http.StatusBadRequest)
		}
		for _, transport := range []string{"", "transport=", "transport=abc"} {
			p.must(http.MethodGet, "?EIO=4&"+transport, "", http.StatusBadRequest, "")
			p.refused("?EIO=4&"+transport, http.StatusBadRequest)
		}
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
			p.must(method, polling, "", http.StatusBadRequest, "")
		}
	})
}

func TestMessagesOnPolling(t *testing.T) {
	everywhere(t, engineio.Config{}, func(p *place) {
		query, _ := p.open()
		for _, payload := range []string{"4hello", "4a\x1e4b\x1e4c", "4h\u00e9\u2603\U0001F600", "4", "bAQIDBA==", "b", "4text\x1ebAQIDBA==\x1e4more"} {
			p.must(http.MethodPost, query, payload, http.StatusOK, "ok")
			p.must(http.MethodGet, query, "", http.StatusOK, payload)
		}
	})
}

func TestMessagesOnWebSocket(t *testing.T) {
	everywhere(t, engineio.Config{}, func(p *place) {
		ws := p.dial(overWS)
		if _, _, err := ws.ReadMessage(); err != nil {
			p.t.Fatal(err)
		}
		for _, text := range []string{"4hello", "4h\u00e9\u2603\U0001F600", "4", "4a\x1eb"} {
			p.say(ws, text)
			p.hear(ws, text)
		}
		for _, want := range []string{"\x01\x02\x03\x04", "", "4not text"} {
			if err := ws.WriteMessage(websocket.BinaryMessage, []byte(want)); err != nil {
				p.t.Fatal(err)
			}
			if kind, got, err := ws.ReadMessage(); err != nil || kind != websocket.BinaryMessage || string(got) != want {
				p.t.Errorf("heard %d %q, %v; want %q", kind, got, err, want)
			}
		}
	})
}

func TestWhatIsNoPacketEndsTheSession(t *testing.T) {
	everywhere(t, engineio.Config{}, func(p *place) {
		for _, packet := range []string{"abc", "7", "0", "2", "5"} {
			query, _ := p.open()
			p.must(http.MethodPost, query, packet, http.StatusBadRequest, "")
			p.ended(engineio.ParseError)
			p.must(http.MethodGet, query, "", http.StatusBadRequest, unknown)

			ws := p.dial(overWS)
			if _, _, err := ws.ReadMessage(); err != nil {
				p.t.Fatal(err)
			}
			p.say(ws, packet)
			p.over(ws)
			p.ended(engineio.ParseError)
		}
	})
}

func TestTwoPollsEndTheSession(t *testing.T) {
	everywhere(t, engineio.Config{}, func(p *place) {
		query, _ := p.open()
		type answer struct {
			status int
			body   string
		}
		answers := make(chan answer, 2)
		for range 2 {
			go func() {
				status, body, err := p.ask(p.t.Context(), http.MethodGet, query, "")
				if err != nil {
					body = err.Error()
				}
				answers <- answer{status, body}
			}()
		}
		got := map[answer]bool{<-answers: true, <-answers: true}
		if !got[answer{http.StatusOK, "1"}] || !got[answer{http.StatusBadRequest, badAnswer}] {
			p.t.Errorf("answers: %v", got)
		}
		p.ended(engineio.TransportError)
		p.must(http.MethodGet, query, "", http.StatusBadRequest, unknown)
	})
}

func TestAPollThatIsCancelledEndsTheSession(t *testing.T) {
	everywhere(t, engineio.Config{}, func(p *place) {
		query, _ := p.open()
		ctx, cancel := context.WithCancel(p.t.Context())
		result := make(chan error, 1)
		go func() {
			_, _, err := p.ask(ctx, http.MethodGet, query, "")
			result <- err
		}()
		<-p.polled
		cancel()
		if err := <-result; err == nil {
			p.t.Error("the poll was answered")
		}
		p.ended(engineio.TransportError)
		p.must(http.MethodGet, query, "", http.StatusBadRequest, unknown)
	})
}

func TestPingsAreAnswered(t *testing.T) {
	everywhere(t, engineio.Config{PingInterval: 50 * time.Millisecond, PingTimeout: 10 * time.Second}, func(p *place) {
		query, _ := p.open()
		ws := p.dial(overWS)
		if _, _, err := ws.ReadMessage(); err != nil {
			p.t.Fatal(err)
		}
		for range 3 {
			p.must(http.MethodGet, query, "", http.StatusOK, "2")
			p.must(http.MethodPost, query, "3", http.StatusOK, "ok")
			p.hear(ws, "2")
			p.say(ws, "3")
		}
	})
}

func TestAPingThatIsNotAnsweredEndsTheSession(t *testing.T) {
	everywhere(t, engineio.Config{PingInterval: 50 * time.Millisecond, PingTimeout: 50 * time.Millisecond}, func(p *place) {
		query, _ := p.open()
		p.ended(engineio.PingTimeout)
		p.must(http.MethodGet, query, "", http.StatusBadRequest, unknown)
		ws := p.dial(overWS)
		if _, _, err := ws.ReadMessage(); err != nil {
			p.t.Fatal(err)
		}
		p.over(ws)
		p.ended(engineio.PingTimeout)
	})
}

// TestAClientEndsTheSession cannot see whether a poll has begun to wait when the packet that closes comes: of many, some have.
func TestAClientEndsTheSession(t *testing.T) {
	everywhere(t, engineio.Config{}, func(p *place) {
		for tries, let := 0, false; !let; tries++ {
			query, _ := p.open()
			poll := make(chan string, 1)
			go func() {
				status, body, err := p.ask(p.t.Context(), http.MethodGet, query, "")
				poll <- fmt.Sprint(status, body, err)
			}()
			<-p.polled
			p.must(http.MethodPost, query, "1", http.StatusOK, "ok")
			switch got := <-poll; got {
			case "2006<nil>":
				let = true
			case "400" + unknown + "<nil>":
				if tries == 1000 {
					p.t.Fatal("no poll was let go")
				}
			default:
				p.t.Fatalf("the poll: %s", got)
			}
			p.ended(engineio.TransportClose)
			p.must(http.MethodGet, query, "", http.StatusBadRequest, unknown)
			<-p.polled
		}
		ws := p.dial(overWS)
		if _, _, err := ws.ReadMessage(); err != nil {
			p.t.Fatal(err)
		}
		p.say(ws, "1")
		p.over(ws)
		p.ended(engineio.TransportClose)
	})
}

func TestASessionMovesToWebSocket(t *testing.T) {
	everywhere(t, engineio.Config{}, func(p *place) {
		query, h := p.open()
		poll := make(chan string, 1)
		go func() { // under way, or sent after the probe: it is let go
			status, body, err := p.ask(p.t.Context(), http.MethodGet, query, "")
			poll <- fmt.Sprint(status, body, err)
		}()
		ws := p.dial(overWS + "&sid=" + h.SID)
		p.say(ws, "2probe")
		p.hear(ws, "3probe")
		if got := <-poll; got != "2006<nil>" {
			p.t.Errorf("the poll: %s", got)
		}
		p.say(ws, "5")
		p.say(ws, "4hello")
		p.hear(ws, "4hello")

		// Nobody else can use the session now, and it is not disturbed by those who try.
		p.must(http.MethodGet, query, "", http.StatusBadRequest, badAnswer)
		p.must(http.MethodPost, query, "4x", http.StatusBadRequest, badAnswer)
		p.over(p.dial(overWS + "&sid=" + h.SID))
		p.say(ws, "4still here")
		p.hear(ws, "4still here")
		p.refused(overWS+"&sid=abc", http.StatusBadRequest)
	})
}

func TestAConfigurationNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := engineio.New(engineio.Config{
		Origins: []string{"nonsense"}, PingInterval: -1, PingTimeout: -1, BodyTimeout: -1, UpgradeTimeout: -1, ConnectTimeout: -1, CloseTimeout: -1,
		MaxPayload: -1, MaxQueued: -1, MaxSessions: -1,
	})
	if err == nil {
		t.Fatal("it is taken")
	}
	for _, want := range []string{
		"Config.Accept is missing", "Config.Upgrader is missing", "Config.Origins: ", "Config.PingInterval is negative", "Config.PingTimeout is negative",
		"Config.BodyTimeout is negative", "Config.UpgradeTimeout is negative", "Config.ConnectTimeout is negative", "Config.CloseTimeout is negative", "Config.MaxPayload is negative",
		"Config.MaxQueued is negative", "Config.MaxSessions is negative",
	} {
		if !strings.Contains(err.Error(), "engineio: "+want) {
			t.Errorf("it does not say %q: %v", want, err)
		}
	}
}
