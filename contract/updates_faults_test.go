package contract_test

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// updateFaults are stores that go wrong about updates of rooms.
func updateFaults() []broken[chat.Rooms] {
	type updating = func(ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (chat.Room, error)
	breaks := func(f func(under chat.Rooms) updating) func(chat.Rooms) chat.Rooms {
		return func(under chat.Rooms) chat.Rooms { return rooms{Rooms: under, update: f(under)} }
	}
	// edits does something more to the room, which was like before.
	edits := func(edit func(r *chat.Room, before chat.Room)) func(chat.Rooms) chat.Rooms {
		return breaks(func(under chat.Rooms) updating {
			return func(ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (chat.Room, error) {
				return under.Update(ctx, name, by, func(r *chat.Room, as chat.Role) error {
					before := *r
					err := change(r, as)
					edit(r, before)
					return err
				})
			}
		})
	}
	// lists is a store whose list tells of rooms what it likes.
	lists := func(edit func(r *chat.Room)) func(chat.Rooms) chat.Rooms {
		return func(under chat.Rooms) chat.Rooms {
			return rooms{Rooms: under, list: func(ctx context.Context, after string, limit int) ([]chat.Room, error) {
				all, err := under.List(ctx, after, limit)
				for i := range all {
					edit(&all[i])
				}
				return all, err
			}}
		}
	}
	return []broken[chat.Rooms]{
		{"the room before is returned", "an update is stored", breaks(func(under chat.Rooms) updating {
			return func(ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (before chat.Room, err error) {
				_, err = under.Update(ctx, name, by, func(r *chat.Room, as chat.Role) error { before = *r; return change(r, as) })
				return before, err
			}
		})},
		{"what is changed is not stored", "an update is stored", breaks(func(under chat.Rooms) updating {
			return func(ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (chat.Room, error) {
				r, err := under.ByName(ctx, name)
				if err != nil {
					return r, err
				}
				return r, change(&r, "")
			}
		})},
		{"change is given a room with a name alone", "an update is stored", breaks(func(under chat.Rooms) updating {
			return func(ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (chat.Room, error) {
				return under.Update(ctx, name, by, func(r *chat.Room, as chat.Role) error { *r = chat.Room{Name: r.Name}; return change(r, as) })
			}
		})},
		{"a list tells the first title", "an update is stored", lists(func(r *chat.Room) { r.Title = "" })},
		{"what is empty stays as it was", "an update may empty what there is", edits(func(r *chat.Room, before chat.Room) {
			if r.Topic == "" {
				r.Topic = before.Topic
			}
		})},
		{"a deleted room stays deleted", "an update may empty what there is", edits(func(r *chat.Room, before chat.Room) {
			if r.DeletedAt.IsZero() {
				r.DeletedAt = before.DeletedAt
			}
		})},
		{"no kind leaves the one before", "an update may empty what there is", edits(func(r *chat.Room, before chat.Room) {
			if r.Kind == "" {
				r.Kind = before.Kind
			}
		})},
		{"a topic is cut by bytes", "an update is kept as long as it may be", edits(func(r *chat.Room, _ chat.Room) { r.Topic = r.Topic[:min(len(r.Topic), chat.MaxTopic)] })},
		{"deep data is lost", "an update is kept as long as it may be", edits(func(r *chat.Room, _ chat.Room) {
			if strings.Count(r.Data, "{") > 10 {
				r.Data = ""
			}
		})},
		{"seconds are rounded", "times and retentions of an update are whole", edits(func(r *chat.Room, _ chat.Room) { r.Retention = r.Retention.Round(time.Second) })},
		{"when it was deleted is rounded", "times and retentions of an update are whole", edits(func(r *chat.Room, _ chat.Room) { r.DeletedAt = r.DeletedAt.Round(time.Microsecond) })},
		{"an unknown room comes into being", "an unknown room is not updated", breaks(func(under chat.Rooms) updating {
			return func(ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (chat.Room, error) {
				if _, err := under.Ensure(ctx, chat.Room{Name: name}); err != nil {
					return chat.Room{}, err
				}
				return under.Update(ctx, name, by, change)
			}
		})},
		{"an unknown room is no error", "an unknown room is not updated", breaks(func(under chat.Rooms) updating {
			return func(ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (chat.Room, error) {
				r, err := under.Update(ctx, name, by, change)
				if errors.Is(err, chat.ErrRoomNotFound) {
					err = nil
				}
				return r, err
			}
		})},
		{"what is refused is stored", "a refused update stores nothing", breaks(func(under chat.Rooms) updating {
			return func(ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (chat.Room, error) {
				var refused error
				r, err := under.Update(ctx, name, by, func(r *chat.Room, as chat.Role) error { refused = change(r, as); return nil })
				return r, errors.Join(err, refused)
			}
		})},
		{"the error of change is lost", "a refused update stores nothing", breaks(func(under chat.Rooms) updating {
			return func(ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (chat.Room, error) {
				r, err := under.Update(ctx, name, by, change)
				if err != nil {
					err = errOops
				}
				return r, err
			}
		})},
		{"a new name makes a new room", "who made a room and when stays", breaks(func(under chat.Rooms) updating {
			return func(ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (chat.Room, error) {
				var changed chat.Room
				r, err := under.Update(ctx, name, by, func(r *chat.Room, as chat.Role) error { err := change(r, as); changed = *r; return err })
				if err == nil && changed.Name != name {
					_, err = under.Ensure(ctx, changed)
				}
				return r, err
			}
		})},
		{"who changes a room has made it", "who made a room and when stays", breaks(func(under chat.Rooms) updating {
			return func(ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (chat.Room, error) {
				var maker user.ID
				r, err := under.Update(ctx, name, by, func(r *chat.Room, as chat.Role) error { err := change(r, as); maker = r.CreatedBy; return err })
				r.CreatedBy = maker
				return r, err
			}
		})},
		{"names are folded", "an update is of one room", breaks(func(under chat.Rooms) updating {
			return func(ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (chat.Room, error) {
				return under.Update(ctx, lower(name), by, change)
			}
		})},
		{"a room is read, changed and written", "concurrent updates lose nothing", breaks(func(under chat.Rooms) updating {
			return func(ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (chat.Room, error) {
				r, err := under.ByName(ctx, name)
				if err != nil {
					return r, err
				}
				if err := change(&r, ""); err != nil {
					return r, err
				}
				time.Sleep(time.Second) // all have read by then
				return under.Update(ctx, name, by, func(now *chat.Room, _ chat.Role) error { *now = r; return nil })
			}
		})},
		{"an ended context is ignored", "an ended context updates nothing", breaks(func(under chat.Rooms) updating {
			return func(ctx context.Context, name string, by chat.By, change func(*chat.Room, chat.Role) error) (chat.Room, error) {
				return under.Update(context.WithoutCancel(ctx), name, by, change)
			}
		})},
	}
}
