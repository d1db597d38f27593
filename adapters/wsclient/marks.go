package wsclient

import (
	"context"
	"fmt"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
)

// ErrNoMarks is what [Client.Mark] returns in a room whose server is too old for it.
var ErrNoMarks = fault.Wrap(fault.Unavailable, fmt.Errorf("wsclient: the server is too old to keep how far users have read"))

// Marked is the answer to a mark.
type Marked struct {
	// Read is how far the user has read the room now, on any of their connections: a Seq. It never goes back as long as they are a member.
	Read uint64 `json:"read"`
	// Unread is how many messages come behind it that are stored and not deleted.
	Unread uint64 `json:"unread"`
}

// Mark says that the user has read a room up to a message, and returns the answer when that is stored. A mark that is lower than what is read
// already moves nothing; one behind the room's last message is one at that message; 0 only asks. To send a message marks it too.
//
// If the connection is lost before the answer, it is sent again on the next one, which is harmless. If ctx ends first, it may or may not be
// stored. A refusal is an *[Error].
//
// The room is to be joined first. Then nothing is sent to a server that is too old, and the error is [ErrNoMarks]. In a room that is not joined,
// such a server closes the connection with 4400, and the client ends.
func (c *Client) Mark(ctx context.Context, name string, read uint64) (Marked, error) {
	read = min(read, protocol.MaxInteger) // anything above would end the connection
	return request[Marked](ctx, c, &call{
		event: protocol.EventMark, room: name, data: data{Room: name, Read: &read},
		serves: func(r *room) bool { return r.marks }, older: ErrNoMarks,
	})
}

// marked takes how far somebody has read.
func (c *Client) marked(in *incoming) error {
	var d struct {
		Room string `json:"room"`
		User User   `json:"user"`
		Read uint64 `json:"read"`
	}
	wrong := decode(in.Data, &d)
	c.mu.Lock()
	r := c.rooms[d.Room]
	known := r != nil && r.marks
	c.mu.Unlock()
	switch {
	case !known:
		return c.custom(in) // an older server may have an event of an application by this name
	case wrong != nil:
		return wrong
	}
	c.told(in.Event, Event{Room: d.Room, User: d.User, Read: d.Read})
	return nil
}

// withoutNewer takes away, from calls and from those that wait for an answer, the requests about a room that its server is too old for.
// c.mu is held.
func (c *Client) withoutNewer(r *room, calls []*call) (rest, newer []*call) {
	for _, k := range calls {
		if k.served(r) {
			rest = append(rest, k)
			continue
		}
		delete(c.calls, k.id)
		newer = append(newer, k)
	}
	return rest, newer
}
