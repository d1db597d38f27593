package engineio

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/parley-chat/parley/core/socket"
)

// polling is what a session needs while it is on HTTP long-polling. It is guarded by Session.mu.
type polling struct {
	queue    []*socket.Frame
	bytes    int         // of the queue, and of what is being written
	turn     *turn       // the poll that waits
	posting  bool        // a POST is being handled
	probe    *probe      // the WebSocket connection that may take over
	farewell *time.Timer // ends the wait for the last poll
	code     int         // of the close frame, once the session is closing
	text     string
}

// turn is a poll that waits for something to send.
type turn struct {
	ready chan struct{} // capacity one
	last  *socket.Frame // the answer, in place of what is queued
}

func (p *polling) push(f *socket.Frame) {
	p.queue = append(p.queue, f)
	p.bytes += f.Len()
	p.wake()
}

// wake makes the poll that waits look again.
func (p *polling) wake() {
	if p.turn == nil {
		return
	}
	select {
	case p.turn.ready <- struct{}{}:
	default:
	}
}

// answer ends the poll that waits, with f in place of what is queued.
func (p *polling) answer(f *socket.Frame) {
	if p.turn == nil {
		return
	}
	p.turn.last = f
	p.wake()
	p.turn = nil
}

// drop gives up the connection that was to take over.
func (p *polling) drop(code int, text string) {
	if p.probe != nil {
		p.probe.conn.Close(code, text)
		p.probe = nil
	}
}

// asked returns what a request of HTTP long-polling needs, or why it is refused. A request while another of its kind is under
// way, as busy tells, ends the session. s.mu is held.
func (s *Session) asked(busy func(*polling) bool) (*polling, *refusal) {
	s.overdue()
	switch {
	case s.state == stateClosed:
		return nil, errUnknownSession
	case s.ws != nil:
		return nil, errBadRequest
	case busy(s.polling):
		s.abort(TransportError, socket.CloseProtocolError, closeFrame)
		return nil, errBadRequest
	}
	return s.polling, nil
}

// poll answers a GET: with what is queued, at once or when there is something.
func (s *Session) poll(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	p, why := s.asked(func(p *polling) bool { return p.turn != nil })
	if why != nil {
		s.mu.Unlock()
		refuse(w, r, why)
		return
	}
	t := &turn{ready: make(chan struct{}, 1)}
	p.turn = t
	if len(p.queue) > 0 || p.probe != nil && p.probe.asked {
		p.wake()
	}
	s.mu.Unlock()

	select {
	case <-t.ready:
	case <-r.Context().Done():
	}

	s.mu.Lock()
	var frames []*socket.Frame
	bytes := 0
	switch {
	case t.last != nil:
		frames = []*socket.Frame{t.last}
	case r.Context().Err() != nil:
		// It is not known whether the client comes back, nor what it has got.
		p.turn = nil
		s.abort(TransportError, socket.CloseProtocolError, closeFrame)
		s.mu.Unlock()
		return
	default:
		frames, bytes = p.queue, p.bytes
		p.queue, p.turn = nil, nil
		if len(frames) == 0 { // the probe wants the poll to end
			frames = []*socket.Frame{noopFrame}
		}
		switch last := len(frames) - 1; {
		case s.state != stateClosing:
		case last > 0:
			// Clients throw away what comes in one payload with the packet that closes: they handle it only
			// after they have closed.
			p.queue, frames = frames[last:], frames[:last]
			bytes -= p.queue[0].Len()
		default:
			s.gone()
		}
	}
	s.mu.Unlock()

	err := s.server.writePayload(w, frames)

	s.mu.Lock()
	defer s.mu.Unlock()
	p.bytes -= bytes
	if err != nil { // the frames are lost, and so is the session
		s.abort(TransportError, socket.CloseProtocolError, closeFrame)
	}
}

// post takes the packets of a POST.
func (s *Session) post(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	p, why := s.asked(func(p *polling) bool { return p.posting })
	if why != nil {
		s.mu.Unlock()
		refuse(w, r, why)
		return
	}
	p.posting = true
	s.mu.Unlock()

	body, refusal := s.server.readBody(w, r)
	whole := refusal == nil && s.deliver(p, body)

	s.mu.Lock()
	p.posting = false
	if refusal != nil { // the stream has a hole
		s.abort(TransportError, socket.CloseProtocolError, closeFrame)
	}
	s.mu.Unlock()
	switch {
	case refusal != nil:
		refuse(w, r, refusal)
	case !whole:
		refuse(w, r, errBadRequest)
	default:
		_ = s.server.writeText(w, []byte("ok")) // a client that does not get it is gone, or asks again
	}
}

// deliver hands the packets of a payload to the receiver. It reports whether they were packets, and of
// a session that was still on polling.
func (s *Session) deliver(p *polling, payload []byte) (ok bool) {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	defer func() {
		if r := recover(); r != nil {
			s.panicked(r)
			s.mu.Lock()
			s.abort(TransportError, socket.CloseInternalError, closeFrame)
			s.mu.Unlock()
			ok = false
		}
	}()
	s.mu.Lock()
	here := s.polling == p
	s.mu.Unlock()
	if !here {
		return false
	}
	for more := true; more; {
		var next packet
		var err error
		next, payload, more, err = cutPacket(payload)
		err = s.take(next, err)
		switch {
		case errors.Is(err, errEnded):
			// What a client sends to a session that is being closed, by itself or by us, is not its fault.
			why := s.Reason()
			return why == TransportClose || why == ForcedClose
		case err != nil:
			return false
		}
	}
	return true
}

// writePayload answers with frames. An error says that the client may not have got them.
func (srv *Server) writePayload(w http.ResponseWriter, frames []*socket.Frame) error {
	return srv.writeText(w, appendPayload(make([]byte, 0, payloadLen(frames)), frames))
}

func (srv *Server) writeText(w http.ResponseWriter, body []byte) error {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=UTF-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	control := http.NewResponseController(w)
	// A writer without deadlines, as in tests, is no reason to refuse. One of the server's own comes back.
	bounded := control.SetWriteDeadline(time.Now().Add(srv.cfg.PingTimeout)) == nil
	w.WriteHeader(http.StatusOK)
	_, err := w.Write(body)
	if err == nil {
		if err = control.Flush(); errors.Is(err, http.ErrNotSupported) {
			err = nil
		}
	}
	if err == nil && bounded {
		_ = control.SetWriteDeadline(time.Time{})
	}
	return err
}
