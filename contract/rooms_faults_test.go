package contract_test

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
)

func roomFaults() []broken[chat.Rooms] {
	breaks := func(f func(r chat.Rooms) rooms) func(chat.Rooms) chat.Rooms {
		return func(under chat.Rooms) chat.Rooms {
			r := f(under)
			r.Rooms = under
			return r
		}
	}
	ensures := func(edit func(r *chat.Room)) func(chat.Rooms) chat.Rooms {
		return breaks(func(under chat.Rooms) rooms {
			return rooms{ensure: func(ctx context.Context, r chat.Room) (chat.Room, error) {
				edit(&r)
				return under.Ensure(ctx, r)
			}}
		})
	}
	return []broken[chat.Rooms]{
		{"Ensure returns what it was given", "the first room stays", breaks(func(under chat.Rooms) rooms {
			return rooms{ensure: func(ctx context.Context, r chat.Room) (chat.Room, error) {
				_, err := under.Ensure(ctx, r)
				return r, err
			}}
		})},
		{"an existing room is an error", "the first room stays", breaks(func(under chat.Rooms) rooms {
			return rooms{ensure: func(ctx context.Context, r chat.Room) (chat.Room, error) {
				if _, err := under.ByName(ctx, r.Name); err == nil {
					return r, fault.Conflict
				}
				return under.Ensure(ctx, r)
			}}
		})},
		{"times lose their microseconds", "an ensured room is read back", breaks(func(under chat.Rooms) rooms {
			return rooms{byName: func(ctx context.Context, name string) (chat.Room, error) {
				r, err := under.ByName(ctx, name)
				r.CreatedAt = r.CreatedAt.Truncate(time.Millisecond)
				return r, err
			}}
		})},
		{"a title is cut by bytes", "every field of a room is kept", ensures(func(r *chat.Room) { r.Title = r.Title[:min(len(r.Title), chat.MaxTitle)] })},
		{"data is written anew", "every field of a room is kept", ensures(func(r *chat.Room) {
			var data map[string]any
			if json.Unmarshal([]byte(r.Data), &data) == nil {
				text, _ := json.Marshal(data)
				r.Data = string(text)
			}
		})},
		{"a retention has 31 bits", "every field of a room is kept", ensures(func(r *chat.Room) { r.Retention = min(r.Retention, math.MaxInt32*time.Second) })},
		{"what is stored is not deleted", "every field of a room is kept", ensures(func(r *chat.Room) { r.DeletedAt = time.Time{} })},
		{"every room is public", "every field of a room is kept", ensures(func(r *chat.Room) { r.Kind = chat.Public })},
		{"a list tells no titles", "every field of a room is kept", breaks(func(under chat.Rooms) rooms {
			return rooms{list: func(ctx context.Context, after string, limit int) ([]chat.Room, error) {
				all, err := under.List(ctx, after, limit)
				for i := range all {
					all[i].Title = ""
				}
				return all, err
			}}
		})},
		{"no kind stays no kind", "a room without a kind is public", breaks(func(under chat.Rooms) rooms {
			return rooms{ensure: func(ctx context.Context, r chat.Room) (chat.Room, error) {
				got, err := under.Ensure(ctx, r)
				got.Kind = r.Kind
				return got, err
			}}
		})},
		{"nanoseconds are rounded", "times and retentions of a room are whole", ensures(func(r *chat.Room) { r.CreatedAt = r.CreatedAt.Round(time.Microsecond) })},
		{"seconds are rounded", "times and retentions of a room are whole", ensures(func(r *chat.Room) { r.Retention = r.Retention.Round(time.Second) })},
		{"a room that is there was deleted in 1970", "times and retentions of a room are whole", breaks(func(under chat.Rooms) rooms {
			return rooms{byName: func(ctx context.Context, name string) (chat.Room, error) {
				r, err := under.ByName(ctx, name)
				if r.DeletedAt.IsZero() {
					r.DeletedAt = time.Unix(0, 0).UTC()
				}
				return r, err
			}}
		})},
		{"an unknown room is an empty one", "an unknown room is not found", breaks(func(under chat.Rooms) rooms {
			return rooms{byName: func(ctx context.Context, name string) (chat.Room, error) {
				r, _ := under.ByName(ctx, name)
				return r, nil
			}}
		})},
		{"names are folded", "names are exact", breaks(func(under chat.Rooms) rooms {
			return rooms{ensure: func(ctx context.Context, r chat.Room) (chat.Room, error) {
				r.Name = lower(r.Name)
				return under.Ensure(ctx, r)
			}}
		})},
		{"everybody's room is his own", "one of several wins", breaks(func(under chat.Rooms) rooms {
			return rooms{ensure: func(ctx context.Context, r chat.Room) (chat.Room, error) {
				if _, err := under.Ensure(ctx, r); err != nil {
					return r, err
				}
				return r, nil
			}}
		})},
		{"the order is a dictionary's", "rooms are listed by the bytes of the name", breaks(func(under chat.Rooms) rooms {
			return rooms{list: func(ctx context.Context, after string, limit int) ([]chat.Room, error) {
				all, err := under.List(ctx, after, limit)
				slices.SortStableFunc(all, func(a, b chat.Room) int { return strings.Compare(lower(a.Name), lower(b.Name)) })
				return all, err
			}}
		})},
		{"no limit is no bound", "rooms are listed page by page", breaks(func(under chat.Rooms) rooms {
			return rooms{list: func(ctx context.Context, after string, limit int) ([]chat.Room, error) {
				if limit < 1 {
					limit = 1000
				}
				return under.List(ctx, after, limit)
			}}
		})},
		{"after is a number of rooms", "rooms are listed page by page", breaks(func(under chat.Rooms) rooms {
			return rooms{list: func(ctx context.Context, after string, limit int) ([]chat.Room, error) {
				if _, err := under.ByName(ctx, after); after != "" && err != nil {
					return under.List(ctx, "", limit)
				}
				return under.List(ctx, after, limit)
			}}
		})},
	}
}
