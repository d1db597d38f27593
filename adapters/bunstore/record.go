package bunstore

import (
	"context"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
)

var _ chat.Recorder = (*Messages)(nil)

// Recording implements chat.Recorder. A batch is always a transaction then, and from its last statements to the commit nobody else puts events into the outbox.
func (s *Messages) Recording(record chat.Record) (chat.MessageStore, error) {
	return &Messages{s.db, record}, nil
}

var (
	_ chat.RoomRecorder[chat.Rooms]   = (*Rooms)(nil)
	_ chat.RoomRecorder[chat.Members] = (*Members)(nil)
	_ chat.RoomRecorder[chat.Roles]   = (*Roles)(nil)
)

// Recording implements chat.RoomRecorder.
func (s *Rooms) Recording(record chat.RoomRecord) (chat.Rooms, error) {
	return &Rooms{s.db, record}, nil
}

// Recording implements chat.RoomRecorder. Memberships are then added one after the other, in a transaction.
func (s *Members) Recording(record chat.RoomRecord) (chat.Members, error) {
	return &Members{s.db, record}, nil
}

// Recording implements chat.RoomRecorder.
func (s *Roles) Recording(record chat.RoomRecord) (chat.Roles, error) {
	return &Roles{s.db, record}, nil
}

// recordStored puts the events of new messages into the outbox.
func (s *Messages) recordStored(ctx context.Context, tx bun.Tx, b *batch, fresh []int) error {
	events := make([]event.Event, 0, len(fresh))
	for _, i := range fresh {
		if e, ok := s.record(b.answers[i].Message, nil); ok {
			events = append(events, e)
		}
	}
	return s.db.putEvents(ctx, tx, events)
}

// recordChanged puts the events of changes into the outbox, and takes those away that hold what was deleted.
func (s *Messages) recordChanged(ctx context.Context, tx bun.Tx, c *changing) error {
	var events []event.Event
	var gone []string
	for i := range c.answers {
		a := &c.answers[i]
		if a.Err != nil || a.Repeated {
			continue
		}
		if kind := c.asked[i].Kind; kind == chat.Delete || kind == chat.Erase {
			gone = append(gone, a.ID)
			events = slices.DeleteFunc(events, func(e event.Event) bool { return isOf(e.ID, a.ID) })
		}
		if e, ok := s.record(a.Clone(), &c.asked[i]); ok {
			events = append(events, e)
		}
	}
	if len(gone) > 0 {
		if err := s.db.dialect.lockOutbox(ctx, tx); err != nil {
			return err
		}
	}
	for _, id := range gone {
		for _, table := range []string{"parley_outbox", "parley_outbox_aside"} {
			// '.' comes right behind '-'.
			_, err := tx.NewDelete().Table(table).Where("id = ? OR id > ? AND id < ?", id, id+"-", id+".").Exec(ctx)
			if err != nil {
				return err
			}
		}
	}
	return s.db.putEvents(ctx, tx, events)
}

// isOf reports whether an event is of a message.
func isOf(event, message string) bool {
	return event == message || strings.HasPrefix(event, message+"-")
}
