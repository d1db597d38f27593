package engineio

import (
	"net/http"
	"time"

	"github.com/parley-chat/parley/core/socket"
)

// probe is a WebSocket connection that asks to take a session over from HTTP long-polling. It stays
// the receiver of that connection. It is guarded by Session.mu.
type probe struct {
	session *Session
	conn    socket.Conn
	timer   *time.Timer
	asked   bool // the probe has come and is answered
	taken   bool // the session is here
}

var _ socket.Receiver = (*probe)(nil)

// upgrade opens the WebSocket connection for a session that is on polling. A session moves once, and to one connection
// at a time: others are opened and closed at once. That tells them from those that name a session there is not, which are
// refused before they are opened.
func (s *Session) upgrade(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.overdue()
	open := s.state == stateOpen
	s.mu.Unlock()
	if !open {
		refuse(w, r, errUnknownSession)
		return
	}
	s.server.cfg.Upgrader.Upgrade(w, r, s.server.options(), func(conn socket.Conn) (socket.Receiver, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case s.state != stateOpen: // meanwhile
			return nil, errClosed
		case s.ws != nil || s.polling.probe != nil:
			conn.Close(socket.CloseProtocolError, "the session has a WebSocket connection")
			return nil, errClosed
		}
		p := &probe{session: s, conn: conn}
		s.polling.probe = p
		p.timer = time.AfterFunc(s.server.cfg.UpgradeTimeout, func() { p.fail() })
		return p, nil
	})
}

// fail gives the connection up. The session goes on as it was.
func (p *probe) fail() {
	s := p.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if !p.taken {
		p.forget()
		p.conn.Close(socket.CloseProtocolError, "")
	}
}

// forget lets another connection try. s.mu is held.
func (p *probe) forget() {
	p.timer.Stop()
	if polling := p.session.polling; polling != nil && polling.probe == p {
		polling.probe = nil
	}
}

// Receive takes the probe, the upgrade, and then the packets of the session.
func (p *probe) Receive(payload []byte, binary bool) {
	s := p.session
	s.mu.Lock()
	switch {
	case p.taken:
		s.mu.Unlock()
		(*wire)(s).Receive(payload, binary)
		return
	case s.polling == nil || s.polling.probe != p: // given up
	case !p.asked && !binary && string(payload) == "2probe":
		p.asked = true
		_ = p.conn.Send(probeFrame) // it fails on a connection that has ended, which is about to be told
		s.polling.wake()
	case p.asked && !binary && string(payload) == "5":
		p.take()
	default:
		p.forget()
		p.conn.Close(socket.CloseBadEvent, "")
	}
	s.mu.Unlock()
}

// take moves the session to this connection, with all that no poll has taken. s.mu is held, so that
// nothing that is sent meanwhile overtakes it. A session that is closing ends here.
func (p *probe) take() {
	s := p.session
	p.timer.Stop()
	p.taken = true
	from := s.polling
	from.answer(noopFrame)
	for _, f := range from.queue {
		if f != closeFrame { // the close frame of WebSocket stands for it
			_ = p.conn.Send(f)
		}
	}
	s.ws, s.polling = p.conn, nil
	if s.state == stateClosing {
		from.farewell.Stop()
		p.conn.Close(from.code, from.text)
	}
}

// Disconnected gives the connection up, and sees off a session that is on it.
func (p *probe) Disconnected() {
	s := p.session
	s.mu.Lock()
	taken := p.taken
	if !taken {
		p.forget()
	}
	s.mu.Unlock()
	if taken {
		(*wire)(s).Disconnected()
	}
}
