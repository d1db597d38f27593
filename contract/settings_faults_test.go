package contract_test

import (
	"context"
	"maps"
	"strings"
	"sync"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// userSettings is a store of settings of which some methods are others.
type userSettings struct {
	chat.Settings
	put    func(context.Context, user.ID, chat.UserSettings) error
	of     func(context.Context, ...user.ID) (map[user.ID]chat.UserSettings, error)
	remove func(context.Context, user.ID) error
}

func (s userSettings) Put(ctx context.Context, id user.ID, set chat.UserSettings) error {
	if s.put == nil {
		return s.Settings.Put(ctx, id, set)
	}
	return s.put(ctx, id, set)
}

func (s userSettings) Of(ctx context.Context, ids ...user.ID) (map[user.ID]chat.UserSettings, error) {
	if s.of == nil {
		return s.Settings.Of(ctx, ids...)
	}
	return s.of(ctx, ids...)
}

func (s userSettings) Remove(ctx context.Context, id user.ID) error {
	if s.remove == nil {
		return s.Settings.Remove(ctx, id)
	}
	return s.remove(ctx, id)
}

// settingsFaults are stores that go wrong about what users have set.
func settingsFaults() []broken[chat.Settings] {
	putting := func(f func(under chat.Settings, ctx context.Context, id user.ID, set chat.UserSettings) error) func(chat.Settings) chat.Settings {
		return func(under chat.Settings) chat.Settings {
			return userSettings{Settings: under, put: func(ctx context.Context, id user.ID, set chat.UserSettings) error { return f(under, ctx, id, set) }}
		}
	}
	asking := func(f func(under chat.Settings, ctx context.Context, ids []user.ID) (map[user.ID]chat.UserSettings, error)) func(chat.Settings) chat.Settings {
		return func(under chat.Settings) chat.Settings {
			return userSettings{Settings: under, of: func(ctx context.Context, ids ...user.ID) (map[user.ID]chat.UserSettings, error) {
				return f(under, ctx, ids)
			}}
		}
	}
	removing := func(f func(under chat.Settings, ctx context.Context, id user.ID) error) func(chat.Settings) chat.Settings {
		return func(under chat.Settings) chat.Settings {
			return userSettings{Settings: under, remove: func(ctx context.Context, id user.ID) error { return f(under, ctx, id) }}
		}
	}
	return []broken[chat.Settings]{
		{"nothing is stored", "what is put is kept", putting(func(chat.Settings, context.Context, user.ID, chat.UserSettings) error { return nil })},
		{"what holds anyway is not stored", "what is put is kept", putting(func(under chat.Settings, ctx context.Context, id user.ID, set chat.UserSettings) error {
			if set == (chat.UserSettings{}) {
				return under.Remove(ctx, id)
			}
			return under.Put(ctx, id, set)
		})},
		{"who has set nothing is there", "what is put is kept", asking(func(under chat.Settings, ctx context.Context, ids []user.ID) (map[user.ID]chat.UserSettings, error) {
			found, err := under.Of(ctx, ids...)
			for _, id := range ids {
				if err == nil {
					found[id] = chat.UserSettings{HidesRead: found[id].HidesRead}
				}
			}
			return found, err
		})},
		{"the first ones stay", "the last ones count", putting(func(under chat.Settings, ctx context.Context, id user.ID, set chat.UserSettings) error {
			if before, err := under.Of(ctx, id); err != nil || len(before) > 0 {
				return err
			}
			return under.Put(ctx, id, set)
		})},
		{"concurrent calls lose what they do not know", "concurrent calls store one of them", func(under chat.Settings) chat.Settings {
			var mu sync.Mutex
			all := map[user.ID]chat.UserSettings{}
			waiting, both := 0, make(chan struct{})
			return userSettings{
				Settings: under,
				put: func(_ context.Context, id user.ID, set chat.UserSettings) error {
					mu.Lock()
					mine := maps.Clone(all) // and the whole of it is written back
					if waiting++; waiting == 2 {
						close(both)
					}
					mu.Unlock()
					<-both
					mine[id] = set
					mu.Lock()
					defer mu.Unlock()
					all = mine
					return nil
				},
				of: func(_ context.Context, ids ...user.ID) (map[user.ID]chat.UserSettings, error) {
					mu.Lock()
					defer mu.Unlock()
					found := map[user.ID]chat.UserSettings{}
					for _, id := range ids {
						if s, there := all[id]; there {
							found[id] = s
						}
					}
					return found, nil
				},
			}
		}},
		{"what is removed stays", "what is removed is gone", removing(func(chat.Settings, context.Context, user.ID) error { return nil })},
		{"what is removed is set back", "what is removed is gone", removing(func(under chat.Settings, ctx context.Context, id user.ID) error {
			return under.Put(ctx, id, chat.UserSettings{})
		})},
		{"what is not there cannot be removed", "what is not there can be removed", removing(func(under chat.Settings, ctx context.Context, id user.ID) error {
			if before, err := under.Of(ctx, id); err != nil || len(before) == 0 {
				return user.ErrNotFound
			}
			return under.Remove(ctx, id)
		})},
		{"the first hundred are asked about", "many are asked about at once", asking(func(under chat.Settings, ctx context.Context, ids []user.ID) (map[user.ID]chat.UserSettings, error) {
			return under.Of(ctx, ids[:min(len(ids), 100)]...)
		})},
		{"letters are the same in both cases", "users are exact", func(under chat.Settings) chat.Settings {
			lower := func(id user.ID) user.ID { return user.ID(strings.ToLower(string(id))) }
			return userSettings{
				Settings: under,
				put: func(ctx context.Context, id user.ID, set chat.UserSettings) error {
					return under.Put(ctx, lower(id), set)
				},
				of: func(ctx context.Context, ids ...user.ID) (map[user.ID]chat.UserSettings, error) {
					found := map[user.ID]chat.UserSettings{}
					for _, id := range ids {
						some, err := under.Of(ctx, lower(id))
						if err != nil {
							return nil, err
						}
						for _, s := range some {
							found[id] = s
						}
					}
					return found, nil
				},
			}
		}},
		{"long names are cut", "long names are kept", putting(func(under chat.Settings, ctx context.Context, id user.ID, set chat.UserSettings) error {
			return under.Put(ctx, id[:min(len(id), 100)], set)
		})},
		{"the end of a context goes unheard", "a context that has ended is an error", asking(func(under chat.Settings, ctx context.Context, ids []user.ID) (map[user.ID]chat.UserSettings, error) {
			return under.Of(context.WithoutCancel(ctx), ids...)
		})},
	}
}
