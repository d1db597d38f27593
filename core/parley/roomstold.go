package parley

import (
	"encoding/json"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/webhook"
)

// tells reports whether the node tells anything.
func (cfg *Config) tells() bool { return cfg.tellsMessages() || cfg.tellsRooms() }

// tellsRooms reports whether anything is told of rooms or memberships.
func (cfg *Config) tellsRooms() bool {
	return cfg.Webhooks.Any(webhook.RoomCreated, webhook.RoomChanged, webhook.RoomDeleted, webhook.MembershipChanged)
}

// toldRoom is a room as facts show it. A deleted one has its name alone.
type toldRoom struct {
	Name      string          `json:"name"`
	Kind      string          `json:"kind,omitempty"`
	Title     string          `json:"title,omitempty"`
	Topic     string          `json:"topic,omitempty"`
	Data      json.RawMessage `json:"data,omitempty"`
	CreatedBy string          `json:"createdBy,omitempty"`
	CreatedAt *time.Time      `json:"createdAt,omitempty"`
	Retention string          `json:"retention,omitempty"`
}

func toldRoomOf(r chat.Room) toldRoom {
	t := toldRoom{Name: r.Name, Kind: string(r.Kind.Or()), Title: r.Title, Topic: r.Topic, CreatedBy: string(r.CreatedBy), CreatedAt: &r.CreatedAt}
	if r.Data != "" {
		t.Data = json.RawMessage(r.Data)
	}
	if r.Retention != 0 {
		t.Retention = chat.RetentionText(r.Retention)
	}
	return t
}

// roomTold is the data of facts about rooms.
type roomTold struct {
	Room toldRoom `json:"room"`
	By   string   `json:"by,omitempty"`
}

// membershipTold is the data of webhook.MembershipChanged.
type membershipTold struct {
	Room string `json:"room"`
	User struct {
		ID string `json:"id"`
	} `json:"user"`
	Role   *string `json:"role"`
	By     string  `json:"by,omitempty"`
	Reason string  `json:"reason,omitempty"`
}

// recordRoomsOf makes the facts of rooms and memberships. The deletion of a room always has one: it forgets what waits.
func recordRoomsOf(s webhook.Selection, newID func() string) func(chat.Cause) chat.RoomRecord {
	fact := func(f webhook.Fact, data any) (event.Event, bool) {
		raw, err := json.Marshal(data)
		if err != nil { // a time beyond the year 9999, which no room has
			return event.Event{}, false
		}
		f.ID, f.Data = newID(), raw
		return f.Event(), true
	}
	return func(why chat.Cause) (record chat.RoomRecord) {
		record.Room = func(before, after chat.Room) (event.Event, bool) {
			f := webhook.Fact{Type: webhook.RoomChanged, Room: after.Name, About: webhook.AboutRoom(after.Name), Time: why.At}
			told := roomTold{Room: toldRoomOf(after), By: string(why.By)}
			switch {
			case before.Name == "":
				f.Type = webhook.RoomCreated
			case before.DeletedAt.IsZero() && !after.DeletedAt.IsZero():
				f.Type, f.Forgets, told.Room = webhook.RoomDeleted, true, toldRoom{Name: after.Name}
			case before == after:
				return event.Event{}, false
			}
			if f.Silent = !s.Has(f.Type); f.Silent && !f.Forgets {
				return event.Event{}, false
			}
			return fact(f, told)
		}
		if !s.Has(webhook.MembershipChanged) {
			return record
		}
		record.Membership = func(m chat.Membership) (event.Event, bool) {
			f := webhook.Fact{Type: webhook.MembershipChanged, Room: m.Room, User: string(m.UserID), Time: why.At}
			by := why.By
			if why.At.IsZero() {
				f.Time, by = m.Since, m.UserID
			}
			told := membershipTold{Room: m.Room, By: string(by), Reason: why.Reason}
			told.User.ID = string(m.UserID)
			if m.Role != "" {
				role := string(m.Role)
				told.Role = &role
			}
			return fact(f, told)
		}
		return record
	}
}
