package bridge

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/parley-chat/parley/adapters/socketio"
	"github.com/parley-chat/parley/adapters/socketio/engineio"
	"github.com/parley-chat/parley/adapters/socketio/packet"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// Connection state recovery needs no state of a server. A client has two things when it comes back, to whatever node:
//
//   - the pid, which says that it was here before, and whose it is;
//   - the offset, the last argument of the last message that it heard, which names every room that it was in and the
//     sequence up to which it has the room's messages.
//
// The rest is in the store: the messages, the memberships, the session. An offset that somebody makes up opens
// nothing, since all is checked that is checked at a join.

// Resumer puts a connection back into rooms: realtime.Hub.
type Resumer interface {
	Resume(ctx context.Context, r socket.Receiver, places []realtime.Place) (send func(), err error)
}

const (
	nonceLen = 18 // random bytes of a pid
	boundLen = 18 // bytes of a pid that bind it to its user
)

// newPID makes a private identifier of a user's: nobody guesses one, and nobody else can use it.
func newPID(who user.ID) string {
	var b [nonceLen]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return encodePID(b[:], who)
}

func encodePID(nonce []byte, who user.ID) string {
	bound := digest("user", nonce, string(who))
	return base64.RawURLEncoding.EncodeToString(append(slices.Clone(nonce), bound[:boundLen]...))
}

// isPID reports whether pid is one of the user's.
func isPID(pid string, who user.ID) bool {
	b, err := base64.RawURLEncoding.DecodeString(pid)
	if err != nil || len(b) != nonceLen+boundLen {
		return false
	}
	return subtle.ConstantTimeCompare([]byte(encodePID(b[:nonceLen], who)), []byte(pid)) == 1
}

// socketID is the public identifier that goes with a pid, from which the pid cannot be told.
func socketID(pid string) string {
	sum := digest("socket", []byte(pid), "")
	return base64.RawURLEncoding.EncodeToString(sum[:15])
}

func digest(what string, parts ...any) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte("parley socket.io " + what + "\x00"))
	for _, p := range parts {
		switch p := p.(type) {
		case []byte:
			h.Write(p)
		case string:
			h.Write([]byte(p))
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// recover takes a socket over that may have been here before.
func (c Config) recover(s *socketio.Socket, conn socket.Conn, who user.Identity) (socket.Receiver, error) {
	placed := &placed{Conn: conn, most: int32(min(c.MaxOffset, math.MaxInt32))} //nolint:gosec // it fits
	receiver, err := c.Acceptor.Accept(placed, socket.Hello{Identity: who, Protocol: Protocol})
	if err != nil {
		return nil, err
	}
	var given struct{ PID, Offset json.RawMessage }
	_ = json.Unmarshal(s.Auth(), &given) // whoever gives nothing was not here before
	pid, _ := packet.Text(given.PID)
	offset, _ := packet.Text(given.Offset)
	if places, ok := parseOffset(offset, c.MaxOffset); ok && isPID(pid, who.UserID) {
		ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
		defer cancel()
		send, err := c.Recovery.Resume(ctx, receiver, places)
		switch {
		case err == nil:
			placed.set(places)
			s.SetRecovery(socketio.Recovery{PID: pid, ID: socketID(pid), Connected: send})
			return receiver, nil
		case fault.KindOf(err) == fault.Unavailable:
			// It comes back by itself, and then it may be known.
			receiver.Disconnected()
			return nil, err
		}
	}
	pid = newPID(who.UserID)
	s.SetRecovery(socketio.Recovery{PID: pid, ID: socketID(pid)})
	return receiver, nil
}

// RecoveryFormat is [Format] whose messages have an offset as their last argument, for Config.Recovery.
func RecoveryFormat(s *protocol.Schema) protocol.Format {
	f := newFormat(s)
	f.offsets = true
	return f
}

// place is what the frame of a message notes.
type place struct {
	realtime.Place
	before int // the length of what is before the offset
}

// withOffset appends an offset to the arguments of an event.
func withOffset(f *socket.Frame, p realtime.Place) *socket.Frame {
	if f == nil {
		return nil
	}
	return appendOffset(f.Payload()[:len(f.Payload())-1], []realtime.Place{p}).Noted(place{p, len(f.Payload()) - 1})
}

// appendOffset makes a frame of an event whose last argument is missing, and the bracket.
func appendOffset(payload []byte, places []realtime.Place) *socket.Frame {
	return socket.NewFrame(func(b []byte) []byte {
		b = append(b, payload...)
		if len(places) == 0 {
			return append(b, `,""]`...)
		}
		return append(packet.AppendText(append(b, ','), formatOffset(places)), ']')
	})
}

// here makes the event that only carries where a client stands. No handler can be meant: no room has an empty name.
func here(p realtime.Place) *socket.Frame {
	return withOffset(engineio.NewMessage(func(b []byte) []byte {
		return append(packet.AppendHead(b, packet.Packet{Type: packet.Event}), `[""]`...)
	}), p)
}

// formatOffset writes places as an offset: for each the sequence in base 36, the length of the room's name in bytes in
// base 36, and the name, with colons between them.
func formatOffset(places []realtime.Place) string {
	var b []byte
	for _, p := range places {
		b = append(strconv.AppendUint(b, p.Seq, 36), ':')
		b = append(strconv.AppendInt(b, int64(len(p.Room)), 36), ':')
		b = append(b, p.Room...)
	}
	return string(b)
}

// parseOffset reads an offset of at most most bytes that names a place at least, and no room twice.
func parseOffset(s string, most int) (places []realtime.Place, ok bool) {
	if s == "" || len(s) > most {
		return nil, false
	}
	for s != "" {
		seq, rest, found := strings.Cut(s, ":")
		n, err := strconv.ParseUint(seq, 36, 64)
		if !found || err != nil {
			return nil, false
		}
		length, rest, found := strings.Cut(rest, ":")
		l, err := strconv.ParseUint(length, 36, 16)
		if !found || err != nil || l == 0 || int(l) > len(rest) {
			return nil, false
		}
		room := rest[:l]
		if slices.ContainsFunc(places, func(p realtime.Place) bool { return p.Room == room }) {
			return nil, false
		}
		places = append(places, realtime.Place{Room: strings.Clone(room), Seq: n})
		s = rest[l:]
	}
	return places, true
}

// placed is a connection that knows where its client stands in each room: the offset of a message that it sends
// names them all. In the one room that most clients are in, that is what the shared frame says.
//
// There are many, so it is kept small.
type placed struct {
	socket.Conn

	mu   sync.Mutex
	most int32             // bytes of an offset
	one  [1]realtime.Place // the only place, as of most clients, or nothing
	all  *[]realtime.Place // every place, once there are several
}

func (c *placed) set(places []realtime.Place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.one[0], c.all = realtime.Place{}, nil
	for _, p := range places {
		c.add(p)
	}
}

// places is where the client stands. c.mu is held, and nothing is appended to it.
func (c *placed) places() []realtime.Place {
	switch {
	case c.all != nil:
		return *c.all
	case c.one[0].Room == "": // no room is called so
		return nil
	default:
		return c.one[:]
	}
}

// add adds the place of another room. c.mu is held.
func (c *placed) add(p realtime.Place) {
	switch {
	case c.all != nil:
		*c.all = append(*c.all, p)
	case c.one[0].Room == "":
		c.one[0] = p
	default:
		c.all = &[]realtime.Place{c.one[0], p}
	}
}

// Send queues f, with the offset that is the client's.
func (c *placed) Send(f *socket.Frame) error {
	c.mu.Lock() // over Send, so that offsets arrive in the order in which they grow
	defer c.mu.Unlock()
	var few [16]*socket.Frame // without an allocation
	all, same := few[:0], true
	for m := range f.Messages() {
		own := c.offset(m)
		same = same && own == m
		all = append(all, own)
	}
	if same {
		return c.Conn.Send(f)
	}
	return c.Conn.Send(socket.Join(all...))
}

// offset returns a frame as it is, or with another offset. c.mu is held.
func (c *placed) offset(f *socket.Frame) *socket.Frame {
	p, ok := f.Note().(place)
	if !ok {
		return f
	}
	of := c.places()
	if i := slices.IndexFunc(of, func(o realtime.Place) bool { return o.Room == p.Room }); i >= 0 {
		of[i].Seq = max(of[i].Seq, p.Seq)
	} else {
		c.add(p.Place)
		of = c.places()
	}
	if len(of) == 1 && of[0].Seq == p.Seq && len(f.Payload())-p.before <= int(c.most) {
		return f
	}
	if size(of) > int(c.most) {
		of = nil // the client cannot come back to where it is, and must not to where it was
	}
	return appendOffset(f.Payload()[:p.before], of)
}

// size is the length of an offset, at most.
func size(places []realtime.Place) int {
	n := 0
	for _, p := range places {
		n += len(p.Room) + 13 + 1 + 2 + 1
	}
	return n
}
