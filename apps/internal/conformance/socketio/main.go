// Command socketio is the server that the public test suites of the protocols Engine.IO v4 and Socket.IO v5 expect:
// https://github.com/socketio/socket.io, docs/engine.io-protocol/v4-test-suite and docs/socket.io-protocol/v5-test-suite.
//
//	go run ./apps/internal/conformance/socketio
//
// It listens on port 3000 of this machine, pings every 300 ms and waits 200 ms for the answer. It has no services of
// Parley behind it:
//
//   - /engine.io/ is Engine.IO alone: each message comes back as it was sent, text and binary.
//   - /socket.io/ is Socket.IO with the namespaces / and /custom. A socket is told, by the event auth, what it gave when it
//     connected. The event message comes back as message-back, message-with-ack is answered with its arguments, and ask-me calls
//     the client with the event question and emits what that answers as the event answered.
//
// The same server serves stock clients in this package's tests.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/parley-chat/parley/adapters/nbiows"
	"github.com/parley-chat/parley/adapters/netws"
	"github.com/parley-chat/parley/adapters/socketio"
	"github.com/parley-chat/parley/adapters/socketio/engineio"
	"github.com/parley-chat/parley/core/socket"
)

// settings are what the tests of this package have otherwise than the suites.
type settings struct {
	transport                                 string // nbio or net
	pingInterval, pingTimeout, connectTimeout time.Duration
	inOrder                                   bool // see inOrder
}

// suites are the settings that the suites expect.
var suites = settings{
	transport: "nbio", pingInterval: 300 * time.Millisecond, pingTimeout: 200 * time.Millisecond,
	connectTimeout: 1500 * time.Millisecond, // a silent client on polling answers three pings, and says nothing more
	inOrder:        true,
}

// maxQueued lets a client say a lot before it listens.
const maxQueued = 8 << 20

// The suites take for granted what a server on one thread does, and what neither a network nor a busy machine promises: that
// requests on different connections are handled in the order in which they were sent, and timers are exact. So this server lets
// a poll wait for what was sent to WebSocket before it, and a POST for the poll before it.
const (
	pollPause = 10 * time.Millisecond
	postPause = 20 * time.Millisecond
	// authPause is the time from the answer to a connect to the event auth. The suite's WebSocket client hands over all that it
	// has read at once without a break, in which the suite misses whatever is not the first.
	authPause = 20 * time.Millisecond
)

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// inOrder lets requests of a session on HTTP long-polling wait, and polls for the poll before them.
func inOrder(next http.Handler) http.Handler {
	var mu sync.Mutex
	last := map[string]chan struct{}{} // by session: closed when its last poll begins
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		sid := query.Get("sid")
		switch {
		case sid == "" || query.Get("transport") != string(engineio.Polling):
		case r.Method == http.MethodPost:
			pause(r.Context(), postPause)
		default:
			begins := make(chan struct{})
			mu.Lock()
			before := last[sid]
			last[sid] = begins
			mu.Unlock()
			if before != nil {
				<-before
			}
			pause(r.Context(), pollPause)
			close(begins)
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				if last[sid] == begins {
					delete(last, sid)
				}
			}()
		}
		next.ServeHTTP(w, r)
	})
}

func main() {
	listen := flag.String("listen", "127.0.0.1:3000", "where to listen")
	s := suites
	flag.StringVar(&s.transport, "transport", s.transport, "what carries WebSocket connections: nbio or net")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *listen)
	if err == nil {
		fmt.Printf("Engine.IO at http://%[1]s/engine.io/, Socket.IO at http://%[1]s/socket.io/\n", listener.Addr())
		err = serve(ctx, listener, s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// carrier is nbiows.Server and netws.Server.
type carrier interface {
	engineio.Upgrader
	Run(ctx context.Context) error
}

// serve serves until ctx ends.
func serve(ctx context.Context, listener net.Listener, s settings) error {
	ws, err := newCarrier(s.transport)
	if err != nil {
		return err
	}
	engine := engineio.Config{Upgrader: ws, PingInterval: s.pingInterval, PingTimeout: s.pingTimeout, MaxQueued: maxQueued}
	sockets, err := socketio.New(socketio.Config{
		Engine:          engine,
		ConnectTimeout:  s.connectTimeout,
		MaxWaitingBytes: maxQueued,
		MaxWaiting:      1024,
		Namespaces:      map[string]socketio.Namespace{"/": parrot(), "/custom": parrot()},
	})
	if err != nil {
		return err
	}
	engine.Accept = func(session *engineio.Session, _ *http.Request) (socket.Receiver, error) { return echo{session}, nil }
	messages, err := engineio.New(engine)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/engine.io/", messages)
	mux.Handle("/socket.io/", sockets)
	var handler http.Handler = mux
	if s.inOrder {
		handler = inOrder(mux)
	}
	web := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}

	carrying, drop := context.WithCancel(context.WithoutCancel(ctx))
	serving, end := context.WithCancel(ctx)
	var carried, served sync.WaitGroup
	errs := make(chan error, 4)
	carried.Go(func() { errs <- ws.Run(carrying) })
	served.Go(func() { errs <- sockets.Run(serving) })
	served.Go(func() { errs <- messages.Run(serving) })
	go func() {
		served.Wait() // the last polls are answered before that
		_ = web.Close()
	}()
	err = web.Serve(listener)
	end()
	served.Wait()
	drop()
	carried.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	for range 3 {
		err = errors.Join(err, <-errs)
	}
	return err
}

func newCarrier(name string) (carrier, error) {
	switch name {
	case "nbio":
		return nbiows.New(nbiows.Config{UpgradeOnly: true})
	case "net":
		return netws.New(netws.Config{UpgradeOnly: true})
	default:
		return nil, fmt.Errorf("there is no transport %q", name)
	}
}

// echo sends each message back.
type echo struct{ session *engineio.Session }

func (e echo) Receive(payload []byte, binary bool) {
	message := engineio.NewMessage
	if binary {
		message = engineio.NewBinary
	}
	_ = e.session.Send(message(func(dst []byte) []byte { return append(dst, payload...) })) // it fails on a session that has ended
}

func (echo) Disconnected() {}

// parrot is a namespace that answers with what it is told.
func parrot() socketio.Namespace {
	return socketio.Namespace{
		Connected: func(ctx context.Context, s *socketio.Socket) {
			pause(ctx, authPause)
			auth := s.Auth()
			if auth == nil {
				auth = json.RawMessage("{}")
			}
			_ = s.Emit("auth", auth) // what is emitted to a socket that has gone is lost
		},
		Events: map[string]socketio.Handler{
			"message":          func(_ context.Context, e *socketio.Event) { _ = e.Socket.Emit("message-back", all(e.Args)...) },
			"message-with-ack": func(_ context.Context, e *socketio.Event) { _ = e.Ack(all(e.Args)...) },
			"ask-me": func(ctx context.Context, e *socketio.Event) {
				if answer, err := e.Socket.Call(ctx, "question", all(e.Args)...); err == nil {
					_ = e.Socket.Emit("answered", all(answer)...)
				}
			},
		},
	}
}

// all returns the arguments as they can be sent again, attachments and all.
func all(args socketio.Args) []any {
	list := make([]any, args.Len())
	for i := range list {
		var v any
		if err := json.Unmarshal(args.Raw(i), &v); err != nil {
			panic(err) // it was checked
		}
		filled, binary := fill(args, v)
		if list[i] = filled; !binary {
			list[i] = args.Raw(i) // which keeps numbers, and the order of members
		}
	}
	return list
}

// fill puts attachments in the places of the objects that stand for them, and reports whether there were any.
func fill(args socketio.Args, v any) (filled any, binary bool) {
	switch v := v.(type) {
	case []any:
		for i := range v {
			var is bool
			v[i], is = fill(args, v[i])
			binary = binary || is
		}
	case map[string]any:
		raw, _ := json.Marshal(v) // it was JSON before
		if b, ok := args.Attachment(raw); ok {
			return b, true
		}
		for name := range v {
			var is bool
			v[name], is = fill(args, v[name])
			binary = binary || is
		}
	}
	return v, binary
}
