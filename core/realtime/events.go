package realtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"sync/atomic"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/protocol"
)

// Event is an event of an application: what its clients may send besides Parley's own, and what is done
// then. It is checked like Parley's own, in every wire format, and stands in the same documents.
type Event struct {
	// Name, Doc, Data and Ack are what [protocol.NewSchema] takes. The field room stands before those
	// of Data.
	protocol.ClientEvent
	// Handle does what the event asks for, and returns what the answer holds: the fields of Ack.
	//
	// It is called for events whose data fits, of a connection that has joined the room, and under the
	// connection's rate. The events of a connection are handled one after the other, and those of several
	// side by side. ctx ends after HubConfig.CommandTimeout.
	//
	// The client gets code, title and detail of an error of package fault; another error, a panic, and an
	// answer that does not fit Ack are logged, and the client is told that something failed. The
	// connection stays open.
	Handle func(ctx context.Context, call Call) (protocol.Data, error)
}

// Call is an event of an application that a client has sent.
type Call struct {
	// User is who sent it: whom the token speaks for.
	User chat.Author
	// Room is the room, which the user has joined, in the form in which it is kept.
	Room string
	// Data are the other fields, as the schema has them.
	Data protocol.Data

	hub *Hub
}

// Send sends one of HubConfig.Sends to everybody in the room, the user too. See [Hub.Send].
func (c Call) Send(ctx context.Context, event string, data protocol.Data) error {
	return c.hub.Send(ctx, c.Room, c.User, event, data)
}

// What is refused to an application.
var (
	errEventUnknown = fault.New(fault.Invalid, "event_unknown", "the event is none of HubConfig.Sends")
	errEventData    = fault.New(fault.Invalid, "event_data", "the data does not fit the event")
	errHandler      = fault.New(fault.Internal, "handler", "the handler of an event failed")
)

// Send sends one of HubConfig.Sends to everybody who is in room, on every node. It sets the field room of data.
// who is whom the event comes from, and need not be there.
//
// The event is not stored: whoever is not there at the time, or whose node the fan-out does not reach, does not
// get it. Events that one node sends to a room arrive in that order. It may be called from many goroutines.
//
// Errors are of kind Invalid for another event and for data that does not fit; chat.ErrRoomInvalid; ErrRoomBusy if the
// room has more to deliver than its members can take; and of kind Unavailable: then other nodes may not have the event.
func (h *Hub) Send(ctx context.Context, room string, who chat.Author, event string, data protocol.Data) error {
	e := h.schema.ServerEvent(event)
	if e == nil || protocol.Own().ServerEvent(event) != nil {
		return errEventUnknown.Detail("%s", event)
	}
	room, err := h.cfg.Chat.Resolve(ctx, room)
	if err != nil {
		return err
	}
	data = maps.Clone(data)
	if data == nil {
		data = protocol.Data{}
	}
	data["room"] = room
	if err := e.Data.Fits(data); err != nil {
		return errEventData.Detail("%v", err)
	}
	if err := h.refuses(room); err != nil {
		return err
	}
	s := Signal{Kind: SignalEvent, Room: room, User: who, Node: h.cfg.Node, Event: event, Data: string(protocol.AppendData(nil, e.Data, data))}
	if err := h.cfg.Fanout.Publish(ctx, s); err != nil {
		return fault.Wrap(fault.Unavailable, fmt.Errorf("realtime: send %s to a room: %w", event, err))
	}
	return nil
}

// event delivers an event of the application. A node that does not have it in its schema, or has it
// otherwise, as while a new program takes the place of an old one, leaves it out.
func (r *room) event(s *Signal) {
	e := r.hub.schema.ServerEvent(s.Event)
	if e == nil {
		r.hub.cfg.Log.Debug("an event that this node does not know is left out", "room", r.name, "event", s.Event)
		return
	}
	data, err := protocol.ParseData([]byte(s.Data), e.Data)
	if err != nil {
		r.hub.cfg.Log.Debug("an event that does not fit is left out", "room", r.name, "event", s.Event, "error", err)
		return
	}
	r.broadcast(protocol.Outgoing{Schema: e, Room: r.name, User: s.User, Data: data}, everybody)
}

// events makes the schema and the handlers of all events.
func events(own []Event, sends []protocol.ServerEvent) (*protocol.Schema, map[string]handler, error) {
	all := maps.Clone(handlers)
	said := make([]protocol.ClientEvent, len(own))
	var errs []error
	for i, e := range own {
		said[i] = e.ClientEvent
		if e.Handle == nil {
			errs = append(errs, fmt.Errorf("realtime: HubConfig.Events: event %q has no Handle", e.Name))
		}
		if _, taken := all[e.Name]; !taken { // else it is reported below
			all[e.Name] = handler{run: func(c *client, ctx context.Context, cmd protocol.Command) (protocol.Answer, error) {
				return e.handle(ctx, c, cmd)
			}}
		}
	}
	for name, h := range all {
		h.seen = &atomic.Uint64{}
		all[name] = h
	}
	schema, err := protocol.NewSchema(said, sends)
	if err != nil {
		errs = append(errs, fmt.Errorf("realtime: HubConfig.Events and Sends: %w", err))
	}
	return schema, all, errors.Join(errs...)
}

// handle calls Handle.
func (e Event) handle(ctx context.Context, c *client, cmd protocol.Command) (a protocol.Answer, err error) {
	o := c.occupant(cmd.Room)
	if o == nil {
		return a, ErrNotJoined
	}
	defer func() {
		if p := recover(); p != nil {
			c.hub.cfg.Log.Error("the handler of an event panicked", "event", e.Name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = errHandler
		}
	}()
	data := cmd.Data
	if data == nil {
		data = protocol.Data{}
	}
	a.Data, err = e.Handle(ctx, Call{User: c.user, Room: o.room.name, Data: data, hub: c.hub})
	if err == nil {
		if unfit := cmd.Schema().Ack.Fits(a.Data); unfit != nil {
			err = fault.Wrap(fault.Internal, fmt.Errorf("the answer does not fit: %w", unfit))
		}
	}
	return a, err
}
