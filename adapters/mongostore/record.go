package mongostore

import (
	"context"
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
)

var _ chat.Recorder = (*Messages)(nil)

// Recording implements chat.Recorder, without transactions. The event of a new message is a part of its document, and so is stored with it. Those of changes are
// decided with them, in the document of the room, by the same write; then each message gets them in the update that changes it, which leaves alone
// what is as new, and carries them until they are published.
func (s *Messages) Recording(record chat.Record) (chat.MessageStore, error) {
	return &Messages{s.db, record}, nil
}

func eventDocOf(e event.Event) eventDoc {
	return eventDoc{ID: e.ID, Topic: e.Topic, Type: e.Type, Key: e.Key, Time: micros(e.Time), Data: notNull(e.Data)}
}

// eventsOf returns the events of messages that are to be inserted, of one moment.
func (s *Messages) eventsOf(ctx context.Context, b *batch, part []int) ([][]eventDoc, error) {
	all := make([][]eventDoc, len(part))
	if s.record == nil {
		return all, nil
	}
	var position int64
	for k, i := range part {
		e, ok := s.record(b.messages[i], nil)
		if !ok {
			continue
		}
		if position == 0 { // documents of one moment are in the order in which they were made
			var err error
			if position, err = s.db.tick(ctx); err != nil {
				return nil, err
			}
		}
		doc := eventDocOf(e)
		doc.Position = position
		all[k] = []eventDoc{doc}
	}
	return all, nil
}

// record notes the event of the change that was planned last.
func (p *planned) record(record chat.Record, m chat.Message, c chat.Change) {
	w := &p.writes[len(p.writes)-1]
	if c.Kind == chat.Delete || c.Kind == chat.Erase {
		for i := range p.writes { // of one message there may be several
			other := &p.writes[i]
			other.Events = slices.DeleteFunc(other.Events, func(e eventDoc) bool { return isOf(e.ID, m.ID) })
		}
		w.Forgets = true
		p.gone = append(p.gone, m.ID)
	}
	if e, ok := record(m, &c); ok {
		w.Events = append(w.Events, eventDocOf(e))
	}
}

// timeEvents gives the events of what was planned their places in the outbox, in the order of Rev.
func (s *Messages) timeEvents(ctx context.Context, p *planned) error {
	for i := range p.writes {
		events := p.writes[i].Events
		if len(events) == 0 {
			continue
		}
		position, err := s.db.tick(ctx)
		if err != nil {
			return err
		}
		for k := range events {
			events[k].Position = position
		}
	}
	return nil
}

// isOf reports whether an event is of a message.
func isOf(event, message string) bool {
	return event == message || strings.HasPrefix(event, message+"-")
}

// forgetAside removes the events of messages that were set aside, or replayed since.
func (s *Messages) forgetAside(ctx context.Context, gone []string) error {
	for _, id := range gone {
		// '.' comes right behind '-'.
		_, err := s.db.aside.DeleteMany(ctx, bson.D{{Key: "$or", Value: bson.A{
			bson.D{{Key: "_id", Value: id}}, bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: id + "-"}, {Key: "$lt", Value: id + "."}}}},
		}}})
		if err != nil {
			return s.db.fail(ctx, "forget events", err)
		}
	}
	return nil
}
