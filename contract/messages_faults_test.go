package contract_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
)

func messageFaults() []broken[chat.MessageStore] {
	breaks := func(f func(m chat.MessageStore) messages) func(chat.MessageStore) chat.MessageStore {
		return func(under chat.MessageStore) chat.MessageStore {
			m := f(under)
			m.MessageStore = under
			return m
		}
	}
	appends := func(f func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error)) func(chat.MessageStore) chat.MessageStore {
		return breaks(func(under chat.MessageStore) messages {
			return messages{append: func(ctx context.Context, batch []chat.Message) ([]chat.Stored, error) { return f(under, ctx, batch) }}
		})
	}
	lists := func(f func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error)) func(chat.MessageStore) chat.MessageStore {
		return breaks(func(under chat.MessageStore) messages {
			return messages{list: func(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
				return f(under, ctx, room, r)
			}}
		})
	}
	edits := func(edit func(*chat.Message)) func(chat.MessageStore) chat.MessageStore {
		return appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			batch = slices.Clone(batch)
			for i := range batch {
				edit(&batch[i])
			}
			return m.Append(ctx, batch)
		})
	}
	folded := func(fold func(string) string) func(chat.MessageStore) chat.MessageStore {
		return breaks(func(under chat.MessageStore) messages {
			return messages{
				append: func(ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
					batch = slices.Clone(batch)
					rooms := make([]string, len(batch))
					for i := range batch {
						rooms[i], batch[i].Room = batch[i].Room, fold(batch[i].Room)
					}
					all, err := under.Append(ctx, batch)
					for i := range all {
						all[i].Room = rooms[i]
					}
					return all, err
				},
				list: func(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
					all, err := under.List(ctx, fold(room), r)
					for i := range all {
						all[i].Room = room
					}
					return all, err
				},
			}
		})
	}
	return []broken[chat.MessageStore]{
		{"the store's own clock counts", "an appended message is read back", edits(func(m *chat.Message) { m.At = m.At.Add(time.Microsecond) })},
		{"numbers begin at 0", "a room counts from 1 without gaps", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			all, err := m.Append(ctx, batch)
			for i := range all {
				all[i].Seq--
			}
			return all, err
		})},
		{"all rooms share one sequence", "rooms count apart", func() func(chat.MessageStore) chat.MessageStore {
			var mu sync.Mutex
			seq := uint64(0)
			return appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
				all, err := m.Append(ctx, batch)
				mu.Lock()
				defer mu.Unlock()
				for i := range all {
					seq++
					all[i].Seq = seq
				}
				return all, err
			})
		}()},
		{"room names are folded", "room names are exact", folded(lower)},
		{"room names are trimmed", "room names are exact", folded(strings.TrimSpace)},
		{"texts are trimmed", "long and foreign texts are kept", edits(func(m *chat.Message) { m.Text = strings.TrimSpace(m.Text) })},
		{"texts are cut", "long and foreign texts are kept", edits(func(m *chat.Message) { m.Text = m.Text[:min(len(m.Text), 12_000)] })},
		{"replies are forgotten", "replies and data are kept", edits(func(m *chat.Message) { m.ReplyTo = 0 })},
		{"data is forgotten", "replies and data are kept", edits(func(m *chat.Message) { m.Data = "" })},
		{"data is sorted", "replies and data are kept", edits(func(m *chat.Message) {
			var v map[string]any
			if json.Unmarshal([]byte(m.Data), &v) == nil {
				b, _ := json.Marshal(v)
				m.Data = string(b)
			}
		})},
		{"no data is empty data", "replies and data are kept", edits(func(m *chat.Message) {
			if m.Data == "" {
				m.Data = "{}"
			}
		})},
		{"a repetition has its own data", "replies and data are kept", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			all, err := m.Append(ctx, batch)
			for i := range all {
				all[i].Data = batch[i].Data
			}
			return all, err
		})},
		{"client ids are ignored", "a repeated client id stores nothing", edits(func(m *chat.Message) { m.ClientID = "" })},
		{"a repetition is not told", "a repeated client id stores nothing", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			all, err := m.Append(ctx, batch)
			for i := range all {
				all[i].Repeated = false
			}
			return all, err
		})},
		{"a repetition answers itself", "a repeated client id stores nothing", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			all, err := m.Append(ctx, batch)
			for i := range all {
				all[i].Text = batch[i].Text
			}
			return all, err
		})},
		{"a repetition in one call is an error", "a client id repeated in one call", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			seen := map[string]bool{}
			for _, b := range batch {
				if b.ClientID != "" && seen[b.ClientID] {
					return nil, fault.Conflict
				}
				seen[b.ClientID] = true
			}
			return m.Append(ctx, batch)
		})},
		{"repetitions use numbers up", "repetitions leave no gap", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			all, err := m.Append(ctx, batch)
			skipped := uint64(0)
			for i := range all {
				if all[i].Repeated {
					skipped++
				} else {
					all[i].Seq += skipped
				}
			}
			return all, err
		})},
		{"an empty client id is one", "an empty client id never repeats", edits(func(m *chat.Message) {
			if m.ClientID == "" {
				m.ClientID = "empty"
			}
		})},
		{"client ids belong to the room", "client ids belong to sender and room", edits(func(m *chat.Message) { m.Author = chat.Author{ID: "user-1"} })},
		{"client ids are folded", "client ids are exact", edits(func(m *chat.Message) { m.ClientID = lower(m.ClientID) })},
		{"answers are sorted", "rooms count apart", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			all, err := m.Append(ctx, batch)
			slices.SortStableFunc(all, func(a, b chat.Stored) int { return strings.Compare(a.Room, b.Room) })
			return all, err
		})},
		{"a refused call is half stored", "a refused call stores nothing", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			if len(batch) == 4 {
				_, err := m.Append(ctx, batch[:2])
				return nil, errors.Join(err, fault.Conflict)
			}
			return m.Append(ctx, batch)
		})},
		{"an ended context stores the half", "an ended context leaves no gap", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			if ctx.Err() != nil {
				_, err := m.Append(context.WithoutCancel(ctx), batch[:1])
				return nil, errors.Join(err, ctx.Err())
			}
			return m.Append(ctx, batch)
		})},
		{"After includes", "After and Before exclude", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			if r.After > 0 {
				r.After--
			}
			return m.List(ctx, room, r)
		})},
		{"Before is ignored", "After and Before exclude", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			r.Before = 0
			return m.List(ctx, room, r)
		})},
		{"the newest descend", "After and Before exclude", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			all, err := m.List(ctx, room, r)
			if r.Newest {
				slices.Reverse(all)
			}
			return all, err
		})},
		{"Newest is ignored", "Limit and Newest choose the end", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			r.Newest = false
			return m.List(ctx, room, r)
		})},
		{"numbers are signed", "the edges of the sequence", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			if int64(r.After) < 0 || int64(r.Before) < 0 {
				return nil, errOops
			}
			return m.List(ctx, room, r)
		})},
		{"an unknown room is an error", "an unknown room has no messages", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			all, err := m.List(ctx, room, r)
			if err == nil && len(all) == 0 {
				err = chat.ErrRoomNotFound
			}
			return all, err
		})},
		{"readers lag behind", "a returned append is seen", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			all, err := m.List(ctx, room, r)
			return all[:max(0, len(all)-1)], err
		})},
		{"concurrent appends take the same number", "concurrent appends leave no gap", breaks(func(under chat.MessageStore) messages {
			return messages{append: func(ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
				b, err := under.Bounds(ctx, batch[0].Room)
				if err != nil {
					return nil, err
				}
				time.Sleep(time.Millisecond) // in the bubble's time
				all, err := under.Append(ctx, batch)
				for i := range all {
					all[i].Seq = b.Last + uint64(i) + 1
				}
				return all, err
			}}
		})},
		{"concurrent repetitions are stored", "concurrent repetitions are stored once", appends(func(m chat.MessageStore, ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
			batch = slices.Clone(batch)
			for i := range batch {
				batch[i].ClientID = ""
			}
			return m.Append(ctx, batch)
		})},
		{"readers see gaps", "readers never see a gap", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			all, err := m.List(ctx, room, r)
			if len(all) > 2 {
				all = slices.Delete(all, 1, 2)
			}
			return all, err
		})},
		{"an empty room is bounded by 0", "bounds of a room", breaks(func(under chat.MessageStore) messages {
			return messages{bounds: func(ctx context.Context, room string) (chat.Bounds, error) {
				b, err := under.Bounds(ctx, room)
				if b.Last == 0 {
					b.First = 0
				}
				return b, err
			}}
		})},
		{"what is listed is shared", "messages are copies", breaks(func(under chat.MessageStore) messages {
			var mu sync.Mutex
			var listed []chat.Message
			return messages{list: func(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
				mu.Lock()
				defer mu.Unlock()
				var err error
				if listed == nil {
					listed, err = under.List(ctx, room, r)
				}
				return listed, err
			}}
		})},
	}
}
