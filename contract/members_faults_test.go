package contract_test

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

func memberFaults() []broken[chat.Members] {
	breaks := func(f func(m chat.Members) members) func(chat.Members) chat.Members {
		return func(under chat.Members) chat.Members {
			m := f(under)
			m.Members = under
			return m
		}
	}
	return []broken[chat.Members]{
		{"only the first is added", "several are added in one call", breaks(func(under chat.Members) members {
			return members{add: func(ctx context.Context, all ...chat.Membership) ([]chat.Membership, error) {
				return under.Add(ctx, all[:min(1, len(all))]...)
			}}
		})},
		{"a membership is renewed", "an existing membership stays", breaks(func(under chat.Members) members {
			return members{add: func(ctx context.Context, all ...chat.Membership) ([]chat.Membership, error) {
				for _, m := range all {
					if err := under.Remove(ctx, m.Room, m.UserID); err != nil {
						return nil, err
					}
				}
				return under.Add(ctx, all...)
			}}
		})},
		{"everybody is a regular member", "roles are kept", breaks(func(under chat.Members) members {
			return members{add: func(ctx context.Context, all ...chat.Membership) ([]chat.Membership, error) {
				for i := range all {
					all[i].Role = chat.Regular
				}
				return under.Add(ctx, all...)
			}}
		})},
		{"the role that was given is returned", "roles are kept", breaks(func(under chat.Members) members {
			return members{add: func(ctx context.Context, all ...chat.Membership) ([]chat.Membership, error) {
				got, err := under.Add(ctx, all...)
				for i := range got {
					got[i].Role = all[i].Role
				}
				return got, err
			}}
		})},
		{"a list tells no roles", "roles are kept", breaks(func(under chat.Members) members {
			return members{roomsOf: func(ctx context.Context, id user.ID, after string, limit int) ([]chat.Membership, error) {
				all, err := under.RoomsOf(ctx, id, after, limit)
				for i := range all {
					all[i].Role = ""
				}
				return all, err
			}}
		})},
		{"the role outlives the membership", "roles are kept", breaks(func(under chat.Members) members {
			had := map[string]chat.Role{}
			return members{add: func(ctx context.Context, all ...chat.Membership) ([]chat.Membership, error) {
				got, err := under.Add(ctx, all...)
				for i, m := range got {
					if had[m.Room] == "" {
						had[m.Room] = m.Role
					}
					got[i].Role = had[m.Room]
				}
				return got, err
			}}
		})},
		{"removing does nothing", "a removed member is none", breaks(func(chat.Members) members {
			return members{remove: func(context.Context, string, user.ID) error { return nil }}
		})},
		{"removing nobody is an error", "a removed member is none", breaks(func(under chat.Members) members {
			return members{remove: func(ctx context.Context, room string, id user.ID) error {
				if ok, err := under.Has(ctx, room, id); err != nil || !ok {
					return fault.NotFound
				}
				return under.Remove(ctx, room, id)
			}}
		})},
		{"who left stays away", "a member may come back", breaks(func(under chat.Members) members {
			var mu sync.Mutex
			left := map[string]bool{}
			return members{
				remove: func(ctx context.Context, room string, id user.ID) error {
					mu.Lock()
					defer mu.Unlock()
					left[room] = true
					return under.Remove(ctx, room, id)
				},
				has: func(ctx context.Context, room string, id user.ID) (bool, error) {
					mu.Lock()
					defer mu.Unlock()
					ok, err := under.Has(ctx, room, id)
					return ok && !left[room], err
				},
			}
		})},
		{"users are folded", "rooms and users are exact", breaks(func(under chat.Members) members {
			return members{has: func(ctx context.Context, room string, id user.ID) (bool, error) {
				return under.Has(ctx, room, user.ID(lower(string(id))))
			}}
		})},
		{"everybody is a member", "an added member is a member", breaks(func(chat.Members) members {
			return members{has: func(context.Context, string, user.ID) (bool, error) { return true, nil }}
		})},
		{"the order is a dictionary's", "a user's rooms come by the bytes of the name", breaks(func(under chat.Members) members {
			return members{roomsOf: func(ctx context.Context, id user.ID, after string, limit int) ([]chat.Membership, error) {
				all, err := under.RoomsOf(ctx, id, after, limit)
				slices.SortStableFunc(all, func(a, b chat.Membership) int { return strings.Compare(lower(a.Room), lower(b.Room)) })
				return all, err
			}}
		})},
		{"the limit is ignored", "a user's rooms come page by page", breaks(func(under chat.Members) members {
			return members{roomsOf: func(ctx context.Context, id user.ID, after string, _ int) ([]chat.Membership, error) {
				return under.RoomsOf(ctx, id, after, 1000)
			}}
		})},
		{"a limit below 1 is an error", "a user's rooms come page by page", breaks(func(under chat.Members) members {
			return members{roomsOf: func(ctx context.Context, id user.ID, after string, limit int) ([]chat.Membership, error) {
				if limit < 1 {
					return nil, fault.Invalid
				}
				return under.RoomsOf(ctx, id, after, limit)
			}}
		})},
		{"memberships are doubled", "concurrent joins are one membership", breaks(func(under chat.Members) members {
			return members{roomsOf: func(ctx context.Context, id user.ID, after string, limit int) ([]chat.Membership, error) {
				all, err := under.RoomsOf(ctx, id, after, limit)
				return append(all, all...), err
			}}
		})},
	}
}
