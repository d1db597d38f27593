package contract_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// restrictionFaults are stores that go wrong about bans and mutes.
func restrictionFaults() []broken[chat.Restrictions] {
	putting := func(f func(under chat.Restrictions, ctx context.Context, r chat.Restriction) (chat.Restriction, error)) func(chat.Restrictions) chat.Restrictions {
		return func(under chat.Restrictions) chat.Restrictions {
			return restrictions{Restrictions: under, put: func(ctx context.Context, r chat.Restriction) (chat.Restriction, error) { return f(under, ctx, r) }}
		}
	}
	puts := func(edit func(r *chat.Restriction)) func(chat.Restrictions) chat.Restrictions {
		return putting(func(under chat.Restrictions, ctx context.Context, r chat.Restriction) (chat.Restriction, error) {
			edit(&r)
			return under.Put(ctx, r, nil)
		})
	}
	asking := func(f func(under chat.Restrictions, ctx context.Context, now time.Time, whom []chat.InRoom) ([]chat.Restriction, error)) func(chat.Restrictions) chat.Restrictions {
		return func(under chat.Restrictions) chat.Restrictions {
			return restrictions{Restrictions: under, inForce: func(ctx context.Context, now time.Time, whom ...chat.InRoom) ([]chat.Restriction, error) {
				return f(under, ctx, now, slices.Clone(whom))
			}}
		}
	}
	type listQuery struct {
		room  string
		kind  chat.RestrictionKind
		now   time.Time
		after user.ID
		limit int
	}
	listing := func(f func(list func(listQuery) ([]chat.Restriction, error), q listQuery) ([]chat.Restriction, error)) func(chat.Restrictions) chat.Restrictions {
		return func(under chat.Restrictions) chat.Restrictions {
			return restrictions{Restrictions: under, list: func(ctx context.Context, room string, kind chat.RestrictionKind, now time.Time, after user.ID, limit int) ([]chat.Restriction, error) {
				return f(func(q listQuery) ([]chat.Restriction, error) {
					return under.List(ctx, q.room, q.kind, q.now, q.after, q.limit)
				}, listQuery{room, kind, now, after, limit})
			}}
		}
	}
	since := func(f func(under chat.Restrictions, ctx context.Context, at time.Time, limit int) ([]chat.Restriction, error)) func(chat.Restrictions) chat.Restrictions {
		return func(under chat.Restrictions) chat.Restrictions {
			return restrictions{Restrictions: under, since: func(ctx context.Context, at time.Time, limit int) ([]chat.Restriction, error) {
				return f(under, ctx, at, limit)
			}}
		}
	}
	// stored is what there is of the same room, user and kind.
	stored := func(under chat.Restrictions, ctx context.Context, r chat.Restriction) (before chat.Restriction, found bool) {
		all, _ := under.Since(ctx, time.Time{}, 1000)
		i := slices.IndexFunc(all, func(b chat.Restriction) bool { return b.Room == r.Room && b.UserID == r.UserID && b.Kind == r.Kind })
		if i < 0 {
			return before, false
		}
		return all[i], true
	}
	return []broken[chat.Restrictions]{
		{"who imposed it is forgotten", "what is put is kept", puts(func(r *chat.Restriction) { r.By = "" })},
		{"the reason is not returned", "what is put is kept", putting(func(under chat.Restrictions, ctx context.Context, r chat.Restriction) (chat.Restriction, error) {
			got, err := under.Put(ctx, r, nil)
			got.Reason = ""
			return got, err
		})},
		{"the first one stays", "a later one takes the place", putting(func(under chat.Restrictions, ctx context.Context, r chat.Restriction) (chat.Restriction, error) {
			if before, found := stored(under, ctx, r); found {
				return before, nil
			}
			return under.Put(ctx, r, nil)
		})},
		{"an empty reason leaves the one before", "a later one takes the place", putting(func(under chat.Restrictions, ctx context.Context, r chat.Restriction) (chat.Restriction, error) {
			if before, found := stored(under, ctx, r); found && r.Reason == "" {
				r.Reason = before.Reason
			}
			return under.Put(ctx, r, nil)
		})},
		{"kinds are folded", "other rooms, users and kinds stay", puts(func(r *chat.Restriction) { r.Kind = chat.RestrictionKind(strings.ToLower(string(r.Kind))) })},
		{"a user has one kind", "other rooms, users and kinds stay", puts(func(r *chat.Restriction) { r.Kind = chat.Ban })},
		{"At is what is given", "what comes later has a later At", putting(func(under chat.Restrictions, ctx context.Context, r chat.Restriction) (chat.Restriction, error) {
			_, err := under.Put(ctx, r, nil)
			return r, err
		})},
		{"what is earlier is ignored", "what comes later has a later At", putting(func(under chat.Restrictions, ctx context.Context, r chat.Restriction) (chat.Restriction, error) {
			if before, found := stored(under, ctx, r); found && r.At.Before(before.At) {
				return before, nil
			}
			return under.Put(ctx, r, nil)
		})},
		{"At is later by a second", "what comes later has a later At", putting(func(under chat.Restrictions, ctx context.Context, r chat.Restriction) (chat.Restriction, error) {
			if before, found := stored(under, ctx, r); found && !r.At.After(before.At) {
				r.At = before.At.Add(time.Second)
			}
			return under.Put(ctx, r, nil)
		})},
		{"an end moves with At", "what is lifted has ended by every clock", putting(func(under chat.Restrictions, ctx context.Context, r chat.Restriction) (chat.Restriction, error) {
			if before, found := stored(under, ctx, r); found && !r.At.After(before.At) {
				r.At = before.At.Add(time.Microsecond)
				r.Until = r.At
			}
			return under.Put(ctx, r, nil)
		})},
		{"what is lifted is deleted", "what is lifted has ended by every clock", since(func(under chat.Restrictions, ctx context.Context, at time.Time, limit int) ([]chat.Restriction, error) {
			all, err := under.Since(ctx, at, limit)
			return slices.DeleteFunc(all, func(r chat.Restriction) bool { return r.Until.Equal(chat.Lifted) }), err
		})},
		{"At is read before it is written", "concurrent calls have different times", func() func(chat.Restrictions) chat.Restrictions {
			var mu sync.Mutex
			reading := 0
			both := make(chan struct{})
			return putting(func(under chat.Restrictions, ctx context.Context, r chat.Restriction) (chat.Restriction, error) {
				mu.Lock()
				reading++
				if reading == 2 {
					close(both)
				}
				mu.Unlock()
				select {
				case <-both:
				case <-ctx.Done():
				}
				_, err := under.Put(ctx, r, nil)
				return r, err
			})
		}()},
		{"it holds at its end too", "what has ended does not hold", asking(func(under chat.Restrictions, ctx context.Context, now time.Time, whom []chat.InRoom) ([]chat.Restriction, error) {
			return under.InForce(ctx, now.Add(-time.Microsecond), whom...)
		})},
		{"never is a hundred years", "what never ends holds", asking(func(under chat.Restrictions, ctx context.Context, now time.Time, whom []chat.InRoom) ([]chat.Restriction, error) {
			all, err := under.InForce(ctx, now, whom...)
			return slices.DeleteFunc(all, func(r chat.Restriction) bool { return r.Until.IsZero() && r.At.AddDate(100, 0, 0).Before(now) }), err
		})},
		{"who is asked about twice comes twice", "several are asked about at once", asking(func(under chat.Restrictions, ctx context.Context, now time.Time, whom []chat.InRoom) (all []chat.Restriction, err error) {
			for _, w := range whom {
				got, failed := under.InForce(ctx, now, w)
				if failed != nil {
					err = failed
				}
				all = append(all, got...)
			}
			return all, err
		})},
		{"rooms and users are mixed", "several are asked about at once", asking(func(under chat.Restrictions, ctx context.Context, now time.Time, whom []chat.InRoom) ([]chat.Restriction, error) {
			for _, a := range slices.Clone(whom) {
				for _, b := range slices.Clone(whom) {
					whom = append(whom, chat.InRoom{Room: a.Room, UserID: b.UserID})
				}
			}
			return under.InForce(ctx, now, whom...)
		})},
		{"the rest of many is left out", "many are asked about at once", asking(func(under chat.Restrictions, ctx context.Context, now time.Time, whom []chat.InRoom) ([]chat.Restriction, error) {
			return under.InForce(ctx, now, whom[:min(len(whom), 500)]...)
		})},
		{"nobody is everybody", "nobody is asked about", asking(func(under chat.Restrictions, ctx context.Context, now time.Time, whom []chat.InRoom) ([]chat.Restriction, error) {
			if len(whom) == 0 {
				return under.Since(ctx, time.Time{}, 1000)
			}
			return under.InForce(ctx, now, whom...)
		})},
		{"users are folded", "rooms and users are exact", asking(func(under chat.Restrictions, ctx context.Context, now time.Time, whom []chat.InRoom) ([]chat.Restriction, error) {
			for i := range whom {
				whom[i].UserID = user.ID(lower(string(whom[i].UserID)))
			}
			return under.InForce(ctx, now, whom...)
		})},
		{"long names are cut", "long names are kept", puts(func(r *chat.Restriction) { r.UserID = user.ID(string(r.UserID)[:min(len(r.UserID), 128)]) })},
		{"a reason is cut by bytes", "every reason is kept", puts(func(r *chat.Restriction) { r.Reason = r.Reason[:min(len(r.Reason), 3*chat.MaxReason)] })},
		{"spaces at the end are lost", "every reason is kept", puts(func(r *chat.Restriction) { r.Reason = strings.TrimRight(r.Reason, " ") })},
		{"a list has all kinds", "a list has its kind and room", listing(func(list func(listQuery) ([]chat.Restriction, error), q listQuery) ([]chat.Restriction, error) {
			all, err := list(q)
			q.kind = chat.Mute
			more, _ := list(q)
			return append(all, more...), err
		})},
		{"a list has what has ended", "a list has its kind and room", listing(func(list func(listQuery) ([]chat.Restriction, error), q listQuery) ([]chat.Restriction, error) {
			q.now = time.Time{}
			return list(q)
		})},
		{"a list is folded", "a list is in the order of users", listing(func(list func(listQuery) ([]chat.Restriction, error), q listQuery) ([]chat.Restriction, error) {
			all, err := list(q)
			slices.SortStableFunc(all, func(a, b chat.Restriction) int {
				return strings.Compare(lower(string(a.UserID)), lower(string(b.UserID)))
			})
			return all, err
		})},
		{"a page begins with the last of the one before", "a list comes page by page", listing(func(list func(listQuery) ([]chat.Restriction, error), q listQuery) ([]chat.Restriction, error) {
			if n := len(q.after); n > 0 {
				q.after = q.after[:n-1] + user.ID(rune(q.after[n-1]-1)) + "~"
			}
			return list(q)
		})},
		{"no limit is no bound", "a list comes page by page", listing(func(list func(listQuery) ([]chat.Restriction, error), q listQuery) ([]chat.Restriction, error) {
			if q.limit < 1 {
				q.limit = 1000
			}
			return list(q)
		})},
		{"what has ended is left out", "what has ended stays", since(func(under chat.Restrictions, ctx context.Context, at time.Time, limit int) ([]chat.Restriction, error) {
			all, err := under.Since(ctx, at, limit)
			return slices.DeleteFunc(all, func(r chat.Restriction) bool { return !r.Until.IsZero() }), err
		})},
		{"since is after", "what has changed is in the order of its times", since(func(under chat.Restrictions, ctx context.Context, at time.Time, limit int) ([]chat.Restriction, error) {
			return under.Since(ctx, at.Add(time.Microsecond), limit)
		})},
		{"what is of one time comes in any order", "what has changed is in the order of its times", since(func(under chat.Restrictions, ctx context.Context, at time.Time, limit int) ([]chat.Restriction, error) {
			all, err := under.Since(ctx, at, limit)
			for i := 1; i < len(all); i++ {
				if all[i-1].At.Equal(all[i].At) {
					all[i-1], all[i] = all[i], all[i-1]
				}
			}
			return all, err
		})},
		{"the latest are chosen", "what has changed has a limit", since(func(under chat.Restrictions, ctx context.Context, at time.Time, limit int) ([]chat.Restriction, error) {
			all, err := under.Since(ctx, at, 1000)
			return all[max(0, len(all)-max(0, limit)):], err
		})},
		{"nanoseconds are rounded", "times are kept to the microsecond", puts(func(r *chat.Restriction) { r.At = r.At.Round(time.Microsecond) })},
		{"zero is the epoch of Unix", "times are kept to the microsecond", putting(func(under chat.Restrictions, ctx context.Context, r chat.Restriction) (chat.Restriction, error) {
			got, err := under.Put(ctx, r, nil)
			if got.Until.IsZero() {
				got.Until = time.Unix(0, 0).UTC()
			}
			return got, err
		})},
		{"an ended context is ignored", "a context that has ended is an error", asking(func(under chat.Restrictions, ctx context.Context, now time.Time, whom []chat.InRoom) ([]chat.Restriction, error) {
			return under.InForce(context.WithoutCancel(ctx), now, whom...)
		})},
	}
}
