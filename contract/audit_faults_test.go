package contract_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/audit"
)

// auditLog is a log of which some methods are others.
type auditLog struct {
	audit.Log
	append func(context.Context, audit.Entry) error
	settle func(context.Context, string, string) error
	list   func(context.Context, string, int) ([]audit.Entry, error)
	sweep  func(context.Context, time.Time) (int, error)
}

func (l auditLog) Append(ctx context.Context, e audit.Entry) error {
	if l.append == nil {
		return l.Log.Append(ctx, e)
	}
	return l.append(ctx, e)
}

func (l auditLog) Settle(ctx context.Context, id, outcome string) error {
	if l.settle == nil {
		return l.Log.Settle(ctx, id, outcome)
	}
	return l.settle(ctx, id, outcome)
}

func (l auditLog) List(ctx context.Context, before string, limit int) ([]audit.Entry, error) {
	if l.list == nil {
		return l.Log.List(ctx, before, limit)
	}
	return l.list(ctx, before, limit)
}

func (l auditLog) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	if l.sweep == nil {
		return l.Log.DeleteExpired(ctx, before)
	}
	return l.sweep(ctx, before)
}

// auditFaults are logs that go wrong.
func auditFaults() []broken[audit.Log] {
	appending := func(f func(under audit.Log, ctx context.Context, e audit.Entry) error) func(audit.Log) audit.Log {
		return func(under audit.Log) audit.Log {
			return auditLog{Log: under, append: func(ctx context.Context, e audit.Entry) error { return f(under, ctx, e) }}
		}
	}
	settling := func(f func(under audit.Log, ctx context.Context, id, outcome string) error) func(audit.Log) audit.Log {
		return func(under audit.Log) audit.Log {
			return auditLog{Log: under, settle: func(ctx context.Context, id, outcome string) error { return f(under, ctx, id, outcome) }}
		}
	}
	listing := func(f func(under audit.Log, ctx context.Context, before string, limit int) ([]audit.Entry, error)) func(audit.Log) audit.Log {
		return func(under audit.Log) audit.Log {
			return auditLog{Log: under, list: func(ctx context.Context, before string, limit int) ([]audit.Entry, error) {
				return f(under, ctx, before, limit)
			}}
		}
	}
	sweeping := func(f func(under audit.Log, ctx context.Context, before time.Time) (int, error)) func(audit.Log) audit.Log {
		return func(under audit.Log) audit.Log {
			return auditLog{Log: under, sweep: func(ctx context.Context, before time.Time) (int, error) { return f(under, ctx, before) }}
		}
	}
	// rewritten is a log whose entries can be replaced.
	rewritten := func(under audit.Log, change func(all map[string]audit.Entry, id, outcome string) error) audit.Log {
		var mu sync.Mutex
		all := map[string]audit.Entry{}
		return auditLog{
			Log: under,
			append: func(ctx context.Context, e audit.Entry) error {
				mu.Lock()
				defer mu.Unlock()
				if err := under.Append(ctx, e); err != nil {
					return err
				}
				all[e.ID] = e
				return nil
			},
			settle: func(_ context.Context, id, outcome string) error {
				mu.Lock()
				defer mu.Unlock()
				return change(all, id, outcome)
			},
			list: func(_ context.Context, before string, limit int) ([]audit.Entry, error) {
				mu.Lock()
				defer mu.Unlock()
				var page []audit.Entry
				for id, e := range all {
					if before == "" || id < before {
						page = append(page, e)
					}
				}
				slices.SortFunc(page, func(a, b audit.Entry) int { return strings.Compare(b.ID, a.ID) })
				return page[:min(len(page), limit)], nil
			},
		}
	}
	return []broken[audit.Log]{
		{"nothing is stored", "an entry is kept as it is", appending(func(audit.Log, context.Context, audit.Entry) error { return nil })},
		{"where from is not stored", "an entry is kept as it is", appending(func(under audit.Log, ctx context.Context, e audit.Entry) error {
			e.Network = ""
			return under.Append(ctx, e)
		})},
		{"details are written anew", "an entry is kept as it is", appending(func(under audit.Log, ctx context.Context, e audit.Entry) error {
			e.Detail = strings.ReplaceAll(e.Detail, "  ", " ")
			return under.Append(ctx, e)
		})},
		{"times are whole seconds", "an entry is kept as it is", appending(func(under audit.Log, ctx context.Context, e audit.Entry) error {
			e.At = e.At.Truncate(time.Second)
			return under.Append(ctx, e)
		})},
		{"targets are cut", "long and foreign values are kept", appending(func(under audit.Log, ctx context.Context, e audit.Entry) error {
			e.Target = string([]rune(e.Target)[:min(len([]rune(e.Target)), 128)])
			return under.Append(ctx, e)
		})},
		{"who comes again is told nothing", "an entry is not overwritten", appending(func(under audit.Log, ctx context.Context, e audit.Entry) error {
			_ = under.Append(ctx, e)
			return nil
		})},
		{"the last of several is told that it is kept", "one of several entries with an id is kept", func(under audit.Log) audit.Log {
			return auditLog{Log: under, append: func(ctx context.Context, e audit.Entry) error {
				if err := under.Append(ctx, e); err != nil && strings.HasPrefix(e.Actor, "token:") {
					return err
				}
				return nil
			}}
		}},
		{"no outcome is stored", "how an action ended is stored", settling(func(audit.Log, context.Context, string, string) error { return nil })},
		{"an outcome is of all", "how an action ended is stored", settling(func(under audit.Log, ctx context.Context, _, outcome string) error {
			all, err := under.List(ctx, "", 100)
			for _, e := range all {
				if err == nil {
					err = under.Settle(ctx, e.ID, outcome)
				}
			}
			return err
		})},
		{"an outcome takes the detail's place", "how an action ended is stored", func(under audit.Log) audit.Log {
			return rewritten(under, func(all map[string]audit.Entry, id, outcome string) error {
				e := all[id]
				e.Detail, e.Outcome = "", outcome
				all[id] = e
				return nil
			})
		}},
		{"the last outcome stays", "the first outcome stays", func(under audit.Log) audit.Log {
			return rewritten(under, func(all map[string]audit.Entry, id, outcome string) error {
				e := all[id]
				e.Outcome = outcome
				all[id] = e
				return nil
			})
		}},
		{"a second outcome is an error", "the first outcome stays", settling(func(under audit.Log, ctx context.Context, id, outcome string) error {
			all, err := under.List(ctx, "", 100)
			for _, e := range all {
				if e.ID == id && e.Outcome != "" {
					return errOops
				}
			}
			if err != nil {
				return err
			}
			return under.Settle(ctx, id, outcome)
		})},
		{"of several outcomes each stays for a while", "one of several outcomes stays", func(under audit.Log) audit.Log {
			return rewritten(under, func(all map[string]audit.Entry, id, outcome string) error {
				e := all[id]
				e.Outcome = outcome
				all[id] = e
				return nil
			})
		}},
		{"what is not there has ended", "what is not there does not end", settling(func(under audit.Log, ctx context.Context, id, outcome string) error {
			_ = under.Settle(ctx, id, outcome)
			return nil
		})},
		{"the oldest come first", "the newest come first, in pages", listing(func(under audit.Log, ctx context.Context, before string, limit int) ([]audit.Entry, error) {
			all, err := under.List(ctx, before, limit)
			slices.Reverse(all)
			return all, err
		})},
		{"there is one more than asked for", "the newest come first, in pages", listing(func(under audit.Log, ctx context.Context, before string, limit int) ([]audit.Entry, error) {
			return under.List(ctx, before, limit+1)
		})},
		{"no limit is all", "the newest come first, in pages", listing(func(under audit.Log, ctx context.Context, before string, limit int) ([]audit.Entry, error) {
			if limit < 1 {
				limit = 1000
			}
			return under.List(ctx, before, limit)
		})},
		{"a page needs the entry that it begins before", "a page begins before an entry that is not there", listing(func(under audit.Log, ctx context.Context, before string, limit int) ([]audit.Entry, error) {
			all, err := under.List(ctx, "", 1000)
			if before != "" && !slices.ContainsFunc(all, func(e audit.Entry) bool { return e.ID == before }) {
				return nil, err
			}
			return under.List(ctx, before, limit)
		})},
		{"letters are the same in both cases", "ids are exact", appending(func(under audit.Log, ctx context.Context, e audit.Entry) error {
			e.ID = lower(e.ID)
			return under.Append(ctx, e)
		})},
		{"what has not ended does not go", "old entries go, and no others", sweeping(func(under audit.Log, ctx context.Context, before time.Time) (int, error) {
			all, err := under.List(ctx, "", 1000)
			for _, e := range all {
				if e.At.Before(before) && e.Outcome == "" {
					return 0, err
				}
			}
			return under.DeleteExpired(ctx, before)
		})},
		{"what is of that time goes as well", "old entries go, and no others", sweeping(func(under audit.Log, ctx context.Context, before time.Time) (int, error) {
			return under.DeleteExpired(ctx, before.Add(time.Microsecond))
		})},
		{"nobody knows how many have gone", "old entries go, and no others", sweeping(func(under audit.Log, ctx context.Context, before time.Time) (int, error) {
			_, err := under.DeleteExpired(ctx, before)
			return 0, err
		})},
		{"the end of a context goes unheard", "a context that has ended is an error", settling(func(under audit.Log, ctx context.Context, id, outcome string) error {
			return under.Settle(context.WithoutCancel(ctx), id, outcome)
		})},
	}
}
