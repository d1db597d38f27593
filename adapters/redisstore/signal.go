package redisstore

import (
	"encoding/binary"
	"math"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

// A frame is what a channel carries:
//
//	version   1 byte, 1
//	kind      1 byte: realtime.SignalKind, or 0 to ask for the last messages and changes again
//	sender    string: the Fanout that sent it
//	room      string
//	count     uvarint: numbers the sender's frames, so that one that comes again is known; 0 is
//	          not a number; not for kind 0, as all that follows
//	node      string: the node; or, where more says so, a string of a string with the node, and the
//	          fields of a message that came later. Nobody asks which node a message comes from,
//	          so that this hurts no node that knows of no such fields
//	more      uvarint: 2^64-1 says so; it is written as 0 otherwise, and what is read there is ignored
//	typing    1 byte
//	message   for messages: room, sequence, ID, client ID, author's ID and name, text, time
//	changed   for changed messages: two empty strings, a message as above, and its fields that came later, up to the
//	          end. An older program reads the empty strings as the user of a kind that it does not know; since the
//	          frame goes on behind them, it ignores the frame
//	user      for other kinds: ID and name
//	event     for events of an application: name and data
//	data      for restrictions and memberships: a string
//	read      for how far somebody has read: uvarint
//
// Strings are a uvarint length and bytes, the time is a varint of microseconds. A frame of
// another version, or that goes on behind its end, is ignored, so that versions can follow each other
// node by node.
type frame struct {
	sender string
	count  uint64
	again  bool // asks whoever published in the room to publish their last message, and change, again
	signal realtime.Signal
}

const (
	frameVersion = 1
	kindAgain    = 0
	withMore     = math.MaxUint64
)

func (f frame) encode() string {
	s := f.signal
	b := make([]byte, 0, 96+len(f.sender)+2*len(s.Room)+len(s.Node)+len(s.Message.Text)+len(s.Message.Data))
	kind := byte(s.Kind)
	if f.again {
		kind = kindAgain
	}
	b = append(b, frameVersion, kind)
	b = appendString(b, f.sender)
	b = appendString(b, s.Room)
	if f.again {
		return string(b)
	}
	b = binary.AppendUvarint(b, f.count)
	if s.Kind == realtime.SignalMessage && hasMore(&s.Message) {
		b = appendString(b, string(appendMore(appendString(nil, s.Node), &s.Message)))
		b = binary.AppendUvarint(b, withMore)
	} else {
		b = append(appendString(b, s.Node), 0)
	}
	if s.Typing {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	switch s.Kind {
	case realtime.SignalMessage:
		return string(appendMessage(b, s.Message))
	case realtime.SignalChanged:
		b = append(b, 0, 0)
		return string(appendMore(appendMessage(b, s.Message), &s.Message))
	}
	b = appendString(b, string(s.User.ID))
	b = appendString(b, s.User.Name)
	if s.Kind == realtime.SignalEvent {
		b = appendString(b, s.Event)
		b = appendString(b, s.Data)
	}
	if s.Kind == realtime.SignalRestricted || s.Kind == realtime.SignalMembership {
		b = appendString(b, s.Data)
	}
	if s.Kind == realtime.SignalMarked || s.Kind == realtime.SignalMarkedOwn {
		b = binary.AppendUvarint(b, s.Read)
	}
	return string(b)
}

func decodeFrame(data string) (frame, error) {
	r := reader{data: data}
	if r.byte() != frameVersion {
		return frame{}, errEncoding
	}
	kind := r.byte()
	f := frame{sender: r.string(), again: kind == kindAgain}
	f.signal.Room = r.string()
	if f.again {
		return f, r.done()
	}
	f.count = r.uvarint()
	s := &f.signal
	s.Kind = realtime.SignalKind(kind)
	s.Node = r.string()
	more := r.uvarint() == withMore
	s.Typing = r.byte() == 1
	switch s.Kind {
	case realtime.SignalMessage:
		s.Message = r.message()
		if more {
			in := reader{data: s.Node}
			s.Node = in.string()
			in.more(&s.Message)
			r.bad = r.bad || in.bad
		}
	case realtime.SignalChanged:
		nobody := chat.Author{ID: user.ID(r.string()), Name: r.string()}
		s.Message = r.message()
		r.more(&s.Message)
		r.bad = r.bad || nobody != chat.Author{}
	default:
		s.User = chat.Author{ID: user.ID(r.string()), Name: r.string()}
		if s.Kind == realtime.SignalEvent {
			s.Event, s.Data = r.string(), r.string()
		}
		if s.Kind == realtime.SignalRestricted || s.Kind == realtime.SignalMembership {
			s.Data = r.string()
		}
		if s.Kind == realtime.SignalMarked || s.Kind == realtime.SignalMarkedOwn {
			s.Read = r.uvarint()
		}
	}
	return f, r.done()
}
