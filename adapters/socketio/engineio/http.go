package engineio

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/problem"
	"github.com/parley-chat/parley/core/socket"
)

// startTimeout is how long a request waits for a server that is about to run.
const startTimeout = 5 * time.Second

// Request is what a handshake said.
type Request struct {
	// RemoteAddr is the address of the client or of the proxy before the server, with its port.
	RemoteAddr string
	// URL is the path and the query of the request.
	URL *url.URL
	// Header holds the headers of the request.
	Header http.Header
}

// refusal is an answer that is none of the session's: its code and message are the protocol's.
type refusal struct {
	status  int
	Code    int    `json:"code"`
	Message string `json:"message"`
	wait    string // Retry-After, if not empty
}

// What the server refuses.
var (
	errUnknownTransport = &refusal{http.StatusBadRequest, 0, "Transport unknown", ""}
	errUnknownSession   = &refusal{http.StatusBadRequest, 1, "Session ID unknown", ""}
	errMethod           = &refusal{http.StatusBadRequest, 2, "Bad handshake method", ""}
	errBadRequest       = &refusal{http.StatusBadRequest, 3, "Bad request", ""}
	errForbidden        = &refusal{http.StatusForbidden, 4, "Forbidden", ""}
	errVersion          = &refusal{http.StatusBadRequest, 5, "Unsupported protocol version", ""}
	errTimeout          = &refusal{http.StatusRequestTimeout, 3, "The body took too long", ""}
	errTooLarge         = &refusal{http.StatusRequestEntityTooLarge, 3, "Payload too large", ""}
	errFull             = &refusal{http.StatusServiceUnavailable, 4, "Too many sessions", "1"}
	errNotRunning       = &refusal{http.StatusServiceUnavailable, 4, "The server does not serve now", "1"}
)

// refuse answers with a refusal. It does not wait for a body that may never come.
func refuse(w http.ResponseWriter, r *http.Request, why *refusal) {
	h := w.Header()
	if why == errTimeout { // net/http is not to wait for it again
		h.Set("Connection", "close")
	} else {
		leave(w, r)
	}
	h.Set("Content-Type", "application/json")
	problem.Secure(h)
	if why.wait != "" {
		h.Set("Retry-After", why.wait)
	}
	w.WriteHeader(why.status)
	_ = json.NewEncoder(w).Encode(why) // the client may be gone
}

// leave has the connection closed after an answer that leaves a body unread: net/http would wait for
// the rest of it, and so would the answer.
func leave(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 && r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(startTimeout))
	}
}

var _ http.Handler = (*Server)(nil)

// ServeHTTP answers a request of either transport, at whatever path the server is mounted.
func (srv *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(r.TransferEncoding) > 0 && r.ProtoMajor == 1 {
		// It may have had a Content-Length too, of which net/http says nothing, and what follows on the
		// connection may have been another's (RFC 9112 section 6.1).
		w.Header().Set("Connection", "close")
	}
	if !srv.admit(w, r) {
		return
	}
	if r.Method != http.MethodPost && r.ContentLength != 0 { // nothing else has a body to wait for
		refuse(w, r, errBadRequest)
		return
	}
	query := r.URL.Query()
	transport := Transport(query.Get("transport"))
	switch {
	case transport == Polling && !srv.cfg.NoPolling, transport == WebSocket && !srv.cfg.NoWebSocket:
	default:
		refuse(w, r, errUnknownTransport)
		return
	}
	if query.Get("EIO") != "4" {
		refuse(w, r, errVersion)
		return
	}
	if transport == WebSocket && !socket.AsksForWebSocket(r) {
		refuse(w, r, errBadRequest)
		return
	}
	if !srv.await(r.Context()) {
		refuse(w, r, errNotRunning)
		return
	}
	if query.Has("sid") {
		s := srv.find(query.Get("sid"), srv.ownerOf(r))
		switch {
		case s == nil:
			refuse(w, r, errUnknownSession)
		case transport == WebSocket:
			s.upgrade(w, r)
		case r.Method == http.MethodGet:
			s.poll(w, r)
		case r.Method == http.MethodPost:
			s.post(w, r)
		default:
			refuse(w, r, errBadRequest)
		}
		return
	}
	if r.Method != http.MethodGet {
		refuse(w, r, errMethod)
		return
	}
	srv.open(w, r, transport)
}

// await waits a little for Run.
func (srv *Server) await(ctx context.Context) bool {
	select {
	case <-srv.ready:
		return true
	default:
	}
	late, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case <-srv.ready:
		return true
	case <-late.Done():
		return false
	}
}

func (srv *Server) ownerOf(r *http.Request) uint64 {
	if srv.cfg.Owner == nil {
		return 0
	}
	return maphash.String(srv.seed, srv.cfg.Owner(r))
}

// open makes a session.
func (srv *Server) open(w http.ResponseWriter, r *http.Request, transport Transport) {
	if srv.cfg.Allow != nil {
		if err := srv.cfg.Allow(r); err != nil {
			refuse(w, r, refusalOf(err))
			return
		}
	}
	if why := srv.reserve(); why != nil {
		refuse(w, r, why)
		return
	}
	s := &Session{server: srv, id: srv.newID(), owner: srv.ownerOf(r)}
	s.beat.session = s
	s.opening = &opening{request: &Request{RemoteAddr: r.RemoteAddr, URL: r.URL, Header: r.Header.Clone()}}
	if transport == Polling {
		s.polling = new(polling)
		if err := srv.accept(s, r); err != nil {
			srv.release()
			refuse(w, r, refusalOf(err))
			return
		}
		srv.begin(s)
		if err := srv.writeText(w, srv.hello(s, true)); err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.abort(TransportError, socket.CloseProtocolError, closeFrame)
		}
		return
	}
	accepted := false
	srv.cfg.Upgrader.Upgrade(w, r, srv.options(), func(conn socket.Conn) (socket.Receiver, error) {
		s.ws = conn
		if err := conn.Send(socket.NewFrame(func(dst []byte) []byte { return append(dst, srv.hello(s, false)...) })); err != nil {
			return nil, err
		}
		if err := srv.accept(s, r); err != nil {
			return nil, err
		}
		accepted = true
		srv.begin(s)
		return (*wire)(s), nil
	})
	if !accepted {
		srv.release()
	}
}

// accept asks the application; one that panics has refused.
func (srv *Server) accept(s *Session, r *http.Request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			srv.cfg.Log.Error("the acceptor panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fault.Internal
		}
		if err != nil {
			s.mu.Lock() // whoever kept it can do nothing with it
			s.state = stateClosed
			s.mu.Unlock()
		}
	}()
	s.receiver, err = srv.cfg.Accept(s, r)
	return err
}

// hello is the packet that opens a session.
func (srv *Server) hello(s *Session, polling bool) []byte {
	upgrades := "[]"
	if polling && !srv.cfg.NoWebSocket {
		upgrades = `["websocket"]`
	}
	return fmt.Appendf(nil, `0{"sid":%q,"upgrades":%s,"pingInterval":%d,"pingTimeout":%d,"maxPayload":%d}`,
		s.ID(), upgrades, srv.cfg.PingInterval.Milliseconds(), srv.cfg.PingTimeout.Milliseconds(), srv.cfg.MaxPayload)
}

// refusalOf says what a handshake is refused with that the application does not want.
func refusalOf(err error) *refusal {
	public := fault.Public(err)
	wait := problem.RetryAfter(public)
	switch public.Kind {
	case fault.Unavailable, fault.Internal:
		return &refusal{http.StatusServiceUnavailable, errForbidden.Code, public.Title, cmp.Or(wait, "1")}
	case fault.Exhausted:
		return &refusal{http.StatusTooManyRequests, errForbidden.Code, public.Title, wait}
	default:
		return &refusal{http.StatusForbidden, errForbidden.Code, public.Title, ""}
	}
}

// readBody reads the body of a POST, for at most BodyTimeout.
func (srv *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *refusal) {
	if r.ContentLength > int64(srv.cfg.MaxPayload) {
		return nil, errTooLarge
	}
	control := http.NewResponseController(w)
	late := time.Now().Add(srv.cfg.BodyTimeout)
	_ = control.SetReadDeadline(late) // a writer without deadlines, as in tests, is no reason to refuse
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, int64(srv.cfg.MaxPayload)))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, errTooLarge
	case err != nil && !time.Now().Before(late): // the end of chunks that is missing is no time-out to net/http
		return nil, errTimeout
	case err != nil:
		return nil, errBadRequest
	}
	_ = control.SetReadDeadline(time.Time{})
	return body, nil
}
