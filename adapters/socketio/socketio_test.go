package socketio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
)

// echo is a namespace that answers.
func echo() Namespace {
	back := func(e *Event) []any {
		args := make([]any, e.Args.Len())
		for i := range args {
			if b, ok := e.Args.Attachment(e.Args.Raw(i)); ok {
				args[i] = b
			} else {
				args[i] = e.Args.Raw(i)
			}
		}
		return args
	}
	return Namespace{
		Connected: func(_ context.Context, s *Socket) {
			auth := s.Auth()
			if auth == nil {
				auth = json.RawMessage("{}")
			}
			_ = s.Emit("auth", auth)
		},
		Events: map[string]Handler{
			"message": func(_ context.Context, e *Event) { _ = e.Socket.Emit("message-back", back(e)...) },
			"ask":     func(_ context.Context, e *Event) { _ = e.Ack(back(e)...) },
		},
	}
}

func TestConfigIsChecked(t *testing.T) {
	_, err := newCore(Config{MaxRefused: -1, Namespaces: map[string]Namespace{
		"x": {}, "/a,b": {}, "/c": {Events: map[string]Handler{"connect": func(context.Context, *Event) {}, "y": nil}},
		"/d": {Any: func(context.Context, *Event) {}, Accept: func(*Socket, socket.Conn) (socket.Receiver, error) { return nil, nil }},
	}})
	for _, want := range []string{"MaxRefused", `"x"`, `"/a,b"`, `"connect", whose name is reserved`, `"y" without a handler`, "Accept, which takes the sockets over"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
}

func TestConnect(t *testing.T) {
	c := newTestCore(t, Config{Namespaces: map[string]Namespace{"/": echo(), "/custom": echo()}})
	client := open(t, c)
	first := client.connect("0")
	client.hear(`2["auth",{}]`)
	second := client.connect(`0/custom,{"token":"abc"}`)
	client.hear(`2/custom,["auth",{"token":"abc"}]`)
	if first == second || len(first) != 20 {
		t.Errorf("ids %q and %q", first, second)
	}
	if !client.conn.kept {
		t.Error("the session was not kept")
	}
	client.say("0/random")
	client.hear(`4/random,{"message":"Invalid namespace"}`)
	client.say(`2["message","x"]`, `2/custom,["message","y"]`)
	got := []string{client.next(), client.next()} // handlers of different sockets run at the same time
	slices.Sort(got)
	if want := []string{`2/custom,["message-back","y"]`, `2["message-back","x"]`}; !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
}

func TestANamespaceWithAQueryIsTheSameNamespace(t *testing.T) {
	client := open(t, newTestCore(t, Config{Namespaces: map[string]Namespace{"/custom": echo()}}))
	client.connect("0/custom?a=b,")
	client.hear(`2/custom,["auth",{}]`)
}

func TestWhatBreaksTheProtocolEndsTheSession(t *testing.T) {
	for name, packets := range map[string][]string{
		"an event before connect":        {`2["message"]`},
		"an ack before connect":          {`30[]`},
		"no packet":                      {"abc"},
		"no packet, later":               {"0", "hear", "abc"},
		"another namespace":              {"0", "hear", `2/custom,["message"]`},
		"the object for an array":        {"0", "hear", "2{}"},
		"an id that is none":             {"0", "hear", `2abc["message"]`},
		"connected twice":                {"0", "hear", "0"},
		"a connect error":                {"0", "hear", `4{"message":"x"}`},
		"an attachment without packet":   {"0", "hear", "b:x"},
		"a packet for an attachment":     {"0", "hear", `51-["message",{"_placeholder":true,"num":0}]`, `2["message"]`},
		"an event after the client left": {"0", "hear", "1", `2["message"]`},
		"a reserved name":                {"0", "hear", `2["disconnect"]`},
	} {
		t.Run(name, func(t *testing.T) {
			gone := make(chan string, 1)
			ns := echo()
			ns.Disconnected = func(_ context.Context, _ *Socket, why Reason) { gone <- string(why) }
			client := open(t, newTestCore(t, Config{Namespaces: map[string]Namespace{"/": ns, "/custom": echo()}}))
			for _, p := range packets {
				if p == "hear" {
					client.next()
					client.hear(`2["auth",{}]`)
					continue
				}
				client.say(p)
			}
			client.over(socket.CloseBadEvent)
			client.silent()
			if name == "an event after the client left" {
				if why := within(t, "Disconnected", gone); why != string(ClientDisconnect) {
					t.Errorf("reason %q", why)
				}
			} else if packets[0] == "0" {
				if why := within(t, "Disconnected", gone); why != string(ParseError) {
					t.Errorf("reason %q", why)
				}
			}
		})
	}
}

func TestSizesAreBounded(t *testing.T) {
	c := newTestCore(t, Config{MaxPacket: 64, Namespaces: map[string]Namespace{"/": {}}})
	for name, packets := range map[string][]string{
		"a packet":    {`2["message","` + strings.Repeat("x", 64) + `"]`},
		"attachments": {`52-["m",{"_placeholder":true,"num":0}]`, "b:" + strings.Repeat("x", 20), "b:" + strings.Repeat("x", 20)},
	} {
		t.Run(name, func(t *testing.T) {
			client := open(t, c)
			client.connect("0")
			client.say(packets...)
			client.over(socket.CloseTooLarge)
		})
	}
}

func TestEventsAcksAndAttachments(t *testing.T) {
	client := open(t, newTestCore(t, Config{Namespaces: map[string]Namespace{"/": echo()}}))
	client.connect("0")
	client.hear(`2["auth",{}]`)
	for in, want := range map[string][]string{
		`2["message",1,"2",{"3":[true]}]`: {`2["message-back",1,"2",{"3":[true]}]`},
		`2456["ask",1,"2",{"3":[false]}]`: {`3456[1,"2",{"3":[false]}]`},
		`20["ask"]`:                       {`30[]`},
		`2["message","<\u001e>é"]`:        {`2["message-back","\u003c\u001e\u003eé"]`},
	} {
		client.say(in)
		client.hear(want...)
	}
	client.say(`52-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, "b:\x01\x02\x03", "b:\x04\x05\x06")
	client.hear(`52-["message-back",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, "b:\x01\x02\x03", "b:\x04\x05\x06")
	client.say(`52-789["ask",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, "b:\x01", "b:")
	client.hear(`62-789[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, "b:\x01", "b:")
	client.say(`2["message"]`) // asked for no ack
	client.hear(`2["message-back"]`)
	client.say(`2["ask"]`, `2["unheard of"]`, `21["unheard of"]`, `2["message",2]`)
	client.hear(`2["message-back",2]`)
}

func TestAttachmentsWithinArguments(t *testing.T) {
	got := make(chan string, 1)
	client := open(t, newTestCore(t, Config{Namespaces: map[string]Namespace{"/": {Events: map[string]Handler{
		"file": func(_ context.Context, e *Event) {
			var file struct {
				Name string
				Body json.RawMessage
			}
			err := e.Args.Decode(0, &file)
			body, ok := e.Args.Attachment(file.Body)
			var whole []byte
			errs := errors.Join(err, e.Args.Decode(1, &whole))
			got <- fmt.Sprint(file.Name, string(body), ok, string(whole), errs, e.Args.Decode(2, &whole) != nil, e.Args.Decode(0, &whole) != nil)
			_ = e.Socket.Emit("back", map[string]any{"a": []any{body}, "b": 1}, []any{1, whole}, []any{2})
		},
	}}}}))
	client.connect("0")
	client.say(`52-["file",{"name":"x","body":{"_placeholder":true,"num":1}},{"_placeholder":true,"num":0}]`, "b:whole", "b:body")
	if s := within(t, "the event", got); s != "xbodytruewhole<nil> true true" {
		t.Error(s)
	}
	client.hear(`52-["back",{"a":[{"_placeholder":true,"num":0}],"b":1},[1,{"_placeholder":true,"num":1}],[2]]`, "b:body", "b:whole")
}

func TestMiddlewareRefuses(t *testing.T) {
	seen := []string{}
	c := newTestCore(t, Config{MaxRefused: 4, Namespaces: map[string]Namespace{"/": {Use: []Middleware{
		func(_ context.Context, s *Socket) error {
			var auth struct{ Token string }
			_ = json.Unmarshal(s.Auth(), &auth)
			s.SetValue(auth.Token)
			seen = append(seen, s.Request().URL.Query().Get("name"))
			return nil
		},
		func(_ context.Context, s *Socket) error {
			switch s.Value() {
			case "good":
				return nil
			case "data":
				return fmt.Errorf("wrapped: %w", &ConnectError{Message: "not you", Data: map[string]int{"retry": 5}})
			case "fault":
				return fault.New(fault.Forbidden, "too_young", "too young")
			case "panic":
				panic("oh")
			case "away":
				return fault.New(fault.Unavailable, "away", "away")
			}
			return errors.New("secret")
		},
	}, Connected: func(_ context.Context, s *Socket) { _ = s.Emit("hello", s.Value()) }}}})
	client := open(t, c)
	client.say(`0{"token":"data"}`)
	client.hear(`4{"message":"not you","data":{"retry":5}}`)
	client.say(`0{"token":"fault"}`)
	client.hear(`4{"message":"too young","data":{"code":"too_young"}}`)
	client.say("0")
	if got := client.next(); strings.Contains(got, "secret") || !strings.HasPrefix(got, `4{"message":`) {
		t.Error(got)
	}
	if client.conn.kept {
		t.Error("a session was kept that no namespace wanted")
	}
	client.connect(`0{"token":"good"}`)
	client.hear(`2["hello","good"]`)
	if !slices.Equal(seen, []string{"ada", "ada", "ada", "ada"}) {
		t.Error(seen)
	}

	client = open(t, c)
	for range 4 {
		client.say(`0{"token":"fault"}`)
		client.next()
	}
	client.over(socket.CloseTooFast)
	client = open(t, c)
	client.say(`0{"token":"panic"}`)
	if got := client.next(); !strings.HasPrefix(got, `4{"message":`) {
		t.Error(got)
	}
	client = open(t, c)
	client.say(`0{"token":"away"}`)
	client.over(socket.CloseTryAgainLater)
	client.silent()
}

// TestConnectWaits holds that a client that does not wait for its connection is cut, and one that goes meanwhile
// is seen off.
func TestConnectWaits(t *testing.T) {
	enter, leave := make(chan string), make(chan string)
	accepted := make(chan string, 1)
	c := newTestCore(t, Config{Namespaces: map[string]Namespace{"/": {
		Use:    []Middleware{func(context.Context, *Socket) error { enter <- ""; leave <- ""; return nil }},
		Accept: func(*Socket, socket.Conn) (socket.Receiver, error) { return &taken{gone: accepted}, nil },
	}}})
	for _, packet := range []string{`2["x"]`, "1", "0"} {
		client := open(t, c)
		client.say("0")
		within(t, "the middleware", enter)
		client.say(packet)
		client.over(socket.CloseBadEvent)
		within(t, "the middleware's end", leave)
		if s := within(t, "Disconnected", accepted); s != "" {
			t.Errorf("the receiver heard %q", s)
		}
		client.silent()
	}
}

// taken is a receiver of Namespace.Accept.
type taken struct {
	conn  socket.Conn
	heard string
	gone  chan string
}

func (r *taken) Receive(payload []byte, binary bool) {
	r.heard += fmt.Sprintf("%s %v;", payload, binary)
	switch {
	case strings.Contains(string(payload), "end"):
		r.conn.Close(socket.CloseNormal, "")
	case strings.Contains(string(payload), "restart"):
		r.conn.Close(socket.CloseServiceRestart, "")
	case r.conn != nil:
		_ = r.conn.Send(socket.NewFrame(func(b []byte) []byte { return append(b, `42["yes"]`...) }))
	}
}
func (r *taken) Disconnected() { r.gone <- r.heard }

func TestSocketsAreTakenOver(t *testing.T) {
	gone := make(chan string, 1)
	c := newTestCore(t, Config{Forget: true, Namespaces: map[string]Namespace{"/": {Accept: func(s *Socket, conn socket.Conn) (socket.Receiver, error) {
		if string(s.Auth()) == `{"no":1}` {
			return nil, fault.New(fault.Unauthenticated, "who", "who are you")
		}
		return &taken{conn: conn, gone: gone}, nil
	}}}})
	client := open(t, c)
	client.say(`0{"no":1}`)
	client.hear(`4{"message":"who are you","data":{"code":"who"}}`)
	client.connect("0{}")
	client.say(`27["a",{}]`)
	client.hear(`2["yes"]`)
	if client.conn.request() != nil { // the answer to a connect goes out first
		t.Error("the request is kept")
	}
	client.say("1")
	if s := within(t, "Disconnected", gone); s != `27["a",{}] false;` {
		t.Error(s)
	}
	for packet, want := range map[string]string{"end": "1", "restart": ""} {
		client = open(t, c)
		client.connect("0")
		client.say(`2["` + packet + `"]`)
		if want != "" { // whoever may not come back by itself is disconnected
			client.hear(want)
		}
		within(t, "Disconnected", gone)
		client.silent()
	}
	client = open(t, c)
	client.connect("0")
	client.say(`51-["a",{"_placeholder":true,"num":0}]`, "b:x")
	client.hear("1") // after which clients do not come back by themselves
	client.over(socket.CloseBadEvent)
	if s := within(t, "Disconnected", gone); s != "" {
		t.Error(s)
	}
}

func TestDisconnect(t *testing.T) {
	gone := make(chan string, 4)
	ns := echo()
	ns.Events["leave"] = func(_ context.Context, e *Event) { e.Socket.Disconnect(); e.Socket.Disconnect() }
	ns.Events["close"] = func(_ context.Context, e *Event) { e.Socket.Close() }
	ns.Disconnected = func(_ context.Context, s *Socket, why Reason) {
		if err := s.Emit("x"); !errors.Is(err, ErrDisconnected) {
			t.Errorf("Emit: %v", err)
		}
		if _, err := s.Call(context.Background(), "x"); !errors.Is(err, ErrDisconnected) {
			t.Errorf("Call: %v", err)
		}
		gone <- s.Namespace() + " " + string(why)
	}
	c := newTestCore(t, Config{Namespaces: map[string]Namespace{"/": ns, "/custom": ns}})
	both := func() *fakeClient {
		client := open(t, c)
		client.connect("0")
		client.hear(`2["auth",{}]`)
		client.connect("0/custom,")
		client.hear(`2/custom,["auth",{}]`)
		return client
	}
	client := both()
	client.say("1")
	if s := within(t, "Disconnected", gone); s != "/ client namespace disconnect" {
		t.Error(s)
	}
	client.say(`2/custom,["message"]`)
	client.hear(`2/custom,["message-back"]`)

	client.say(`2/custom,["leave"]`)
	client.hear("1/custom,")
	if s := within(t, "Disconnected", gone); s != "/custom server namespace disconnect" {
		t.Error(s)
	}
	client.say(`2/custom,["message"]`, "1/custom,") // before the client knew
	client.silent()
	client.connect("0/custom,") // and it may come back
	client.hear(`2/custom,["auth",{}]`)

	client = both()
	client.say(`2["close"]`)
	got := []string{client.next(), client.next()}
	slices.Sort(got)
	if !slices.Equal(got, []string{"1", "1/custom,"}) {
		t.Errorf("heard %q", got)
	}
	client.over(socket.CloseNormal)
	reasons := []string{within(t, "Disconnected", gone), within(t, "Disconnected", gone)}
	slices.Sort(reasons)
	if !slices.Equal(reasons, []string{"/ server namespace disconnect", "/custom server namespace disconnect"}) {
		t.Error(reasons)
	}
	client = both()
	client.conn.end(socket.CloseGoingAway, PingTimeout)
	if s := within(t, "Disconnected", gone); !strings.HasSuffix(s, "ping timeout") {
		t.Error(s)
	}
}

func TestCalls(t *testing.T) {
	results := make(chan string, 1)
	ns := Namespace{Events: map[string]Handler{
		"call": func(ctx context.Context, e *Event) { // waits for its ack within a handler
			args, err := e.Socket.Call(ctx, "question", 42, []byte("x"))
			var b []byte
			_ = args.Decode(1, &b)
			results <- fmt.Sprintf("%s %s %v", args.Raw(0), b, err)
		},
		"hurry": func(ctx context.Context, e *Event) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			_, err := e.Socket.Call(ctx, "question")
			results <- fmt.Sprint(err)
		},
	}}
	client := open(t, newTestCore(t, Config{Namespaces: map[string]Namespace{"/": ns}, MaxCalls: 1}))
	client.connect("0")
	client.say(`2["call"]`)
	client.hear(`51-0["question",42,{"_placeholder":true,"num":0}]`, "b:x")
	client.say(`31["another"]`, `61-0["answer",{"_placeholder":true,"num":0}]`, "b:y", `30["twice"]`)
	if s := within(t, "the answer", results); s != `"answer" y <nil>` {
		t.Error(s)
	}
	client.say(`2["hurry"]`)
	client.hear(`21["question"]`)
	if s := within(t, "the end", results); s != context.Canceled.Error() {
		t.Error(s)
	}
	client.say(`31["late"]`, `2["call"]`)
	client.hear(`51-2["question",42,{"_placeholder":true,"num":0}]`, "b:x")
	client.conn.end(socket.CloseGoingAway, TransportClose)
	if s := within(t, "the end", results); !strings.Contains(s, ErrDisconnected.Error()) {
		t.Error(s)
	}
}

func TestCallsAreBoundedAndEnd(t *testing.T) {
	sockets := make(chan *Socket, 1)
	client := open(t, newTestCore(t, Config{MaxCalls: 1, CallTimeout: 1, Namespaces: map[string]Namespace{"/": {
		Connected: func(_ context.Context, s *Socket) { sockets <- s },
	}}}))
	client.connect("0")
	s := <-sockets
	if _, err := s.Call(context.Background(), "never"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a deadline: %v", err)
	}
	client.next()
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() { _, err := s.Call(ctxDeadline(t, ctx), "one"); waiting <- err }()
	client.hear(`21["one"]`)
	if _, err := s.Call(soon(t), "two"); !errors.Is(err, ErrManyCalls) {
		t.Errorf("beyond MaxCalls: %v", err)
	}
	cancel()
	<-waiting
	if err := s.Emit("connect_error"); !errors.Is(err, ErrReservedName) {
		t.Errorf("a reserved name: %v", err)
	}
	if err := s.Emit("x", func() {}); !errors.Is(err, fault.Invalid) {
		t.Errorf("no JSON: %v", err)
	}
}

func ctxDeadline(t testing.TB, parent context.Context) context.Context {
	d, _ := soon(t).Deadline()
	ctx, cancel := context.WithDeadline(parent, d)
	t.Cleanup(cancel)
	return ctx
}

func TestRooms(t *testing.T) {
	sockets := make(chan *Socket, 8)
	c := newTestCore(t, Config{Namespaces: map[string]Namespace{"/n": {Connected: func(_ context.Context, s *Socket) { sockets <- s }}}})
	var clients []*fakeClient
	var sides []*Socket
	for range 4 {
		client := open(t, c)
		client.connect("0/n,")
		clients, sides = append(clients, client), append(sides, <-sockets)
	}
	a, b, d := sides[0], sides[1], sides[3]
	a.Join("red", "blue", "red")
	b.Join("blue")
	sides[2].Join("green")
	if got := a.Rooms(); !reflect.DeepEqual(got, []string{"red", "blue"}) {
		t.Error(got)
	}
	all := Broadcast{ns: c.namespaces["/n"]}
	for name, tt := range map[string]struct {
		to   Broadcast
		want [4]bool
	}{
		"all":                      {all, [4]bool{true, true, true, true}},
		"a room":                   {all.To("blue"), [4]bool{true, true, false, false}},
		"two rooms, once":          {all.To("blue", "red"), [4]bool{true, true, false, false}},
		"two rooms, in turn":       {all.To("red").To("green"), [4]bool{true, false, true, false}},
		"nobody's":                 {all.To("grey"), [4]bool{}},
		"except":                   {all.Except("red"), [4]bool{false, true, true, true}},
		"a room except":            {all.To("blue").Except("red", "grey"), [4]bool{false, true, false, false}},
		"all but one":              {a.Broadcast(), [4]bool{false, true, true, true}},
		"a room but one":           {a.To("blue"), [4]bool{false, true, false, false}},
		"a socket":                 {all.To(d.ID()), [4]bool{false, false, false, true}},
		"a socket and a room":      {all.To(d.ID(), "green"), [4]bool{false, false, true, true}},
		"except a socket":          {all.Except(d.ID(), a.ID()), [4]bool{false, true, true, false}},
		"nobody left":              {a.To(a.ID()), [4]bool{}},
		"what was kept and reused": {all, [4]bool{true, true, true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tt.to.Emit("e", name); err != nil {
				t.Fatal(err)
			}
			var shared *socket.Frame
			for i, client := range clients {
				select {
				case f := <-client.conn.frames:
					if !tt.want[i] {
						t.Errorf("socket %d got %q", i, f.Payload())
					}
					if shared != nil && f != shared {
						t.Error("encoded more than once")
					}
					shared = f
				default:
					if tt.want[i] {
						t.Errorf("socket %d got nothing", i)
					}
				}
			}
		})
	}
	a.Leave("blue", "grey")
	if got := len(all.To("blue").Sockets()); got != 1 {
		t.Errorf("%d in the room that one left", got)
	}
	clients[1].conn.end(socket.CloseGoingAway, TransportClose)
	clients[1].over(socket.CloseGoingAway)
	b.Join("late")
	if len(c.namespaces["/n"].rooms) != 2 || len(all.Sockets()) != 3 {
		t.Errorf("rooms %v, %d sockets", c.namespaces["/n"].rooms, len(all.Sockets()))
	}
	if got := b.Rooms(); !slices.Equal(got, []string{"blue"}) {
		t.Errorf("the rooms it was in: %v", got)
	}
	all.Disconnect()
	for _, i := range []int{0, 2, 3} {
		clients[i].hear("1/n,")
	}
	if err := (Broadcast{}).Emit("x"); !errors.Is(err, ErrNoNamespace) || (Broadcast{}).Sockets() != nil {
		t.Errorf("without a namespace: %v", err)
	}
}

func TestVolatileIsDroppedWhereSomethingWaits(t *testing.T) {
	sockets := make(chan *Socket, 1)
	c := newTestCore(t, Config{Namespaces: map[string]Namespace{"/": {Connected: func(_ context.Context, s *Socket) { sockets <- s }}}})
	client := open(t, c)
	client.connect("0")
	s := <-sockets
	all := Broadcast{ns: c.namespaces["/"]}
	_ = s.EmitVolatile("a")
	_ = all.Volatile().Emit("b")
	client.hear(`2["a"]`, `2["b"]`)
	client.conn.mu.Lock()
	client.conn.queued = 1
	client.conn.mu.Unlock()
	_ = s.EmitVolatile("c")
	_ = all.Volatile().Emit("d")
	_ = s.Emit("e")
	client.hear(`2["e"]`)
}

func TestHandlersRunInOrderOneAtATime(t *testing.T) {
	var mu sync.Mutex
	var order []string
	running := 0
	done := make(chan string, 1)
	note := func(s string) {
		mu.Lock()
		order = append(order, s)
		running++
		if running > 1 {
			t.Error("two handlers of a socket run at the same time")
		}
		mu.Unlock()
		mu.Lock()
		running--
		mu.Unlock()
	}
	client := open(t, newTestCore(t, Config{Namespaces: map[string]Namespace{"/": {
		Connected: func(context.Context, *Socket) { note("in") },
		Any: func(_ context.Context, e *Event) {
			note(string(e.Args.Raw(0)))
			if e.Name == "last" {
				e.Socket.Close()
			}
		},
		Disconnected: func(context.Context, *Socket, Reason) { note("out"); done <- "" },
	}}}))
	client.connect("0")
	want := []string{"in"}
	for i := range 100 {
		client.say(fmt.Sprintf(`2["x",%d]`, i))
		want = append(want, fmt.Sprint(i))
	}
	client.say(`2["last",100]`)
	within(t, "Disconnected", done)
	if want = append(want, "100", "out"); !slices.Equal(order, want) {
		t.Errorf("order %v", order)
	}
}

func TestAFloodAndAPanicEndTheirSessionAlone(t *testing.T) {
	hold := make(chan struct{})
	var logged strings.Builder
	cfg := Config{MaxWaiting: 3, MaxWaitingBytes: 200, Log: slog.New(slog.NewTextHandler(&logged, nil)), Namespaces: map[string]Namespace{"/": {
		Events: map[string]Handler{
			"hold":  func(context.Context, *Event) { <-hold },
			"panic": func(context.Context, *Event) { panic("oh") },
			"ping":  func(_ context.Context, e *Event) { _ = e.Ack("pong") },
		},
	}}}
	c := newTestCore(t, cfg)
	other := open(t, c)
	other.connect("0")
	for _, event := range []string{`2["hold"]`, `2["hold","` + strings.Repeat("x", 100) + `"]`} {
		client := open(t, c)
		client.connect("0")
		for range 6 {
			client.say(event)
		}
		client.hear("1")
		client.over(socket.CloseTooFast)
	}
	client := open(t, c)
	client.connect("0")
	client.say(`2["panic"]`)
	client.over(socket.CloseInternalError)
	client.silent() // it may come back by itself
	other.say(`21["ping"]`)
	other.hear(`31["pong"]`)
	close(hold)
	c.stop()
	if !strings.Contains(logged.String(), "oh") {
		t.Error("the panic was not logged")
	}
}

func TestNothingComesBetweenAnEventAndItsAttachments(t *testing.T) {
	sockets := make(chan *Socket, 1)
	client := open(t, newTestCore(t, Config{Namespaces: map[string]Namespace{"/": {Connected: func(_ context.Context, s *Socket) { sockets <- s }}}}))
	client.connect("0")
	s := <-sockets
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				if i%2 == 0 {
					_ = s.Emit("text", i)
				} else {
					_ = s.Emit("file", []byte{byte('0' + i)}, []byte{byte('0' + i)}, i)
				}
			}
		})
	}
	wg.Wait()
	for range 400 {
		if got := client.next(); strings.HasPrefix(got, "5") {
			n := got[len(got)-2 : len(got)-1]
			client.hear("b:"+n, "b:"+n)
		} else if strings.HasPrefix(got, "b:") {
			t.Fatalf("an attachment without its event")
		}
	}
}

func TestAfterTheEndNothingBegins(t *testing.T) {
	c := newTestCore(t, Config{})
	c.stop()
	client := open(t, c)
	client.say("0")
	client.over(socket.CloseServiceRestart)
}
