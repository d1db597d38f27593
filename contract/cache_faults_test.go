package contract_test

import (
	"context"
	"slices"
	"sync"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
)

func cacheFaults() []broken[chat.RecentCache] {
	breaks := func(f func(c chat.RecentCache) cache) func(chat.RecentCache) chat.RecentCache {
		return func(under chat.RecentCache) chat.RecentCache {
			c := f(under)
			c.RecentCache = under
			return c
		}
	}
	// naive is a cache with room for everything and no rules but those of add and fill.
	naive := func(add, fill func(held, more []chat.Message) []chat.Message) func(chat.RecentCache) chat.RecentCache {
		return func(chat.RecentCache) chat.RecentCache {
			var mu sync.Mutex
			rooms := map[string][]chat.Message{}
			return cache{
				get: func(_ context.Context, room string) (chat.Recent, bool, error) {
					mu.Lock()
					defer mu.Unlock()
					all, held := rooms[room]
					return chat.Recent{Messages: slices.Clone(all)}, held, nil
				},
				add: func(_ context.Context, all ...chat.Message) error {
					mu.Lock()
					defer mu.Unlock()
					for _, m := range all {
						rooms[m.Room] = add(rooms[m.Room], []chat.Message{m})
					}
					return nil
				},
				fill: func(_ context.Context, room string, r chat.Recent) error {
					mu.Lock()
					defer mu.Unlock()
					rooms[room] = fill(rooms[room], r.Messages)
					return nil
				},
			}
		}
	}
	after := func(held, more []chat.Message) []chat.Message { return append(slices.Clone(held), more...) }
	replace := func(_, more []chat.Message) []chat.Message { return slices.Clone(more) }
	return []broken[chat.RecentCache]{
		{"adding appends blindly", "adding what overlaps takes what is newer", naive(after, replace)},
		{"adding leaves a hole", "adding after a hole replaces", naive(after, replace)},
		{"adding replaces", "adding extends", naive(replace, replace)},
		{"an older message replaces a newer one", "an older message never replaces a newer one", naive(replace, replace)},
		{"filling replaces what is newer", "filling adds what stands before", naive(after, replace)},
		{"filling changes what is held", "filling leaves what is held", naive(after, replace)},
		{"filling appends blindly", "filling never makes a hole", naive(after, after)},
		{"filling is ignored", "filling an empty room holds it", breaks(func(chat.RecentCache) cache {
			return cache{fill: func(context.Context, string, chat.Recent) error { return nil }}
		})},
		{"filling adds only before", "filling adds what connects and follows", breaks(func(under chat.RecentCache) cache {
			return cache{fill: func(ctx context.Context, room string, all chat.Recent) error {
				held, _, err := under.Get(ctx, room)
				if h, a := held.Messages, all.Messages; len(h) > 0 && len(a) > 0 && a[len(a)-1].Seq > h[len(h)-1].Seq {
					return err
				}
				return under.Fill(ctx, room, all)
			}}
		})},
		{"data is not held", "messages are held whole", breaks(func(under chat.RecentCache) cache {
			return cache{add: func(ctx context.Context, messages ...chat.Message) error {
				messages = slices.Clone(messages)
				for i := range messages {
					messages[i].Data = ""
				}
				return under.Add(ctx, messages...)
			}}
		})},
		{"filling drops replies", "messages are held whole", breaks(func(under chat.RecentCache) cache {
			return cache{fill: func(ctx context.Context, room string, all chat.Recent) error {
				all.Messages = slices.Clone(all.Messages)
				for i := range all.Messages {
					all.Messages[i].ReplyTo = 0
				}
				return under.Fill(ctx, room, all)
			}}
		})},
		{"nothing is ever held", "a room in use is held", breaks(func(chat.RecentCache) cache {
			return cache{get: func(context.Context, string) (chat.Recent, bool, error) { return chat.Recent{}, false, nil }}
		})},
		{"an unknown room is an error", "an unknown room is not held", breaks(func(under chat.RecentCache) cache {
			return cache{get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
				all, held, err := under.Get(ctx, room)
				if len(all.Messages) == 0 {
					err = fault.NotFound
				}
				return all, held, err
			}}
		})},
		{"every room counts as held", "an unknown room is not held", breaks(func(under chat.RecentCache) cache {
			return cache{get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
				all, _, err := under.Get(ctx, room)
				return all, true, err
			}}
		})},
		{"that a room has no messages is forgotten", "a room without messages is held", breaks(func(under chat.RecentCache) cache {
			return cache{fill: func(ctx context.Context, room string, all chat.Recent) error {
				if len(all.Messages) == 0 {
					return nil
				}
				return under.Fill(ctx, room, all)
			}}
		})},
		{"filling with nothing forgets", "adding ends that a room has none", naive(after, replace)},
		{"that a room has no messages outlasts what is read", "filling ends that a room has none", breaks(func(under chat.RecentCache) cache {
			return cache{fill: func(ctx context.Context, room string, all chat.Recent) error {
				held, known, err := under.Get(ctx, room)
				if known && len(held.Messages) == 0 && len(all.Messages) > 0 && all.Messages[0].Seq > 1 {
					return err
				}
				return under.Fill(ctx, room, all)
			}}
		})},
		{"one call is for one room", "one call adds to several rooms", breaks(func(under chat.RecentCache) cache {
			return cache{add: func(ctx context.Context, all ...chat.Message) error {
				var mine []chat.Message
				for _, m := range all {
					if m.Room == all[0].Room {
						mine = append(mine, m)
					}
				}
				return under.Add(ctx, mine...)
			}}
		})},
		{"rooms are folded", "rooms are exact", breaks(func(under chat.RecentCache) cache {
			return cache{
				get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
					return under.Get(ctx, lower(room))
				},
				add: func(ctx context.Context, all ...chat.Message) error {
					all = slices.Clone(all)
					for i := range all {
						all[i].Room = lower(all[i].Room)
					}
					return under.Add(ctx, all...)
				},
			}
		})},
		{"the oldest are kept", "many messages keep the last", breaks(func(under chat.RecentCache) cache {
			return cache{get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
				all, held, err := under.Get(ctx, room)
				all.Messages = all.Messages[:min(len(all.Messages), 50)]
				return all, held, err
			}}
		})},
		{"readers see holes", "readers never see a hole", breaks(func(under chat.RecentCache) cache {
			return cache{get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
				all, held, err := under.Get(ctx, room)
				if len(all.Messages) > 2 {
					all.Messages = slices.Delete(all.Messages, 1, 2)
				}
				return all, held, err
			}, add: func(ctx context.Context, all ...chat.Message) error {
				return under.Add(ctx, all...)
			}}
		})},
		{"what is returned is shared", "messages are copies", breaks(func(under chat.RecentCache) cache {
			var mu sync.Mutex
			got := map[string]chat.Recent{}
			return cache{get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
				mu.Lock()
				defer mu.Unlock()
				var err error
				if got[room].Messages == nil {
					got[room], _, err = under.Get(ctx, room)
				}
				return got[room], got[room].Messages != nil, err
			}}
		})},
	}
}
