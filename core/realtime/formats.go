package realtime

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/socket"
)

// formats makes the wire formats of a schema. A connection knows its own by the place in the list.
func formats(of map[string]protocol.NewFormat, schema *protocol.Schema) (list []protocol.Format, byName map[string]uint8, err error) {
	all := map[string]protocol.NewFormat{socket.Protocol: protocol.JSON}
	maps.Copy(all, of)
	var errs []error
	if len(all) > maxFormats {
		errs = append(errs, fmt.Errorf("realtime: HubConfig.Formats: more than %d formats", maxFormats))
	}
	byName = map[string]uint8{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if name == "" || all[name] == nil {
			errs = append(errs, fmt.Errorf("realtime: HubConfig.Formats: %q has no name or no format", name))
			continue
		}
		byName[name] = uint8(len(list))
		if schema != nil { // else it is reported by itself
			list = append(list, all[name](schema))
		}
	}
	byName[""] = byName[socket.Protocol]
	return list, byName, errors.Join(errs...)
}

// frames holds one event, encoded once for each wire format that a receiver speaks. Several workers may ask for them.
type frames struct {
	event protocol.Outgoing
	made  made
}

// made are frames by the wire format that a receiver speaks, each made when the first one needs it.
type made [maxFormats]struct {
	once  sync.Once
	frame *socket.Frame
}

// of returns the frame for a connection; nil if its format does not have the event.
func (p *frames) of(c *client) *socket.Frame {
	m := &p.made[c.format]
	m.once.Do(func() { m.frame = c.speaks().Event(p.event) })
	return m.frame
}

// row holds messages that follow each other in a room's sequence, joined once for each wire format.
type row struct {
	first, last uint64
	messages    []frames
	joined      made
}

// of returns the frame of all messages for a connection; nil if its format does not have the event.
func (w *row) of(c *client) *socket.Frame {
	if len(w.messages) == 1 {
		return w.messages[0].of(c)
	}
	m := &w.joined[c.format]
	m.once.Do(func() {
		all := make([]*socket.Frame, len(w.messages))
		for i := range w.messages {
			all[i] = w.messages[i].of(c)
		}
		m.frame = socket.Join(all...)
	})
	return m.frame
}
