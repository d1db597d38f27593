package parley

import (
	"strconv"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/protocol"
	"github.com/parley-chat/parley/core/webhook"
)

// tellsMessages reports whether anything is told of messages.
func (cfg *Config) tellsMessages() bool {
	return cfg.Webhooks.Any(webhook.MessageCreated, webhook.MessageChanged)
}

// recordOf makes the facts of messages. A deletion always has one: it forgets what waits.
func recordOf(s webhook.Selection) chat.Record {
	created, changed := s.Has(webhook.MessageCreated), s.Has(webhook.MessageChanged)
	return func(m chat.Message, c *chat.Change) (event.Event, bool) {
		f := webhook.Fact{ID: m.ID, Type: webhook.MessageCreated, Room: m.Room, About: m.ID, Time: m.At, Silent: !created}
		if c != nil {
			f.ID, f.Type, f.Time, f.Silent = m.ID+"-"+strconv.FormatUint(m.Rev, 10), webhook.MessageChanged, c.At, !changed
			f.Forgets = c.Kind == chat.Delete || c.Kind == chat.Erase
		}
		if f.Silent && !f.Forgets {
			return event.Event{}, false
		}
		if !f.Silent {
			f.Data = protocol.AppendMessage(nil, m)
		}
		return f.Event(), true
	}
}
