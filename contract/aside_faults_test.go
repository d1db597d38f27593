package contract_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/event"
)

func asideFaults() []broken[contract.SetAside] {
	breaks := func(f func(a event.Asides, p contract.SetAside) asides) func(contract.SetAside) contract.SetAside {
		return func(p contract.SetAside) contract.SetAside {
			a := f(p.Asides, p)
			a.Asides, p.Asides = p.Asides, a
			return p
		}
	}
	lists := func(f func(ctx context.Context, a event.Asides, f event.Filter) ([]event.Aside, error)) func(contract.SetAside) contract.SetAside {
		return breaks(func(a event.Asides, _ contract.SetAside) asides {
			return asides{list: func(ctx context.Context, filter event.Filter) ([]event.Aside, error) { return f(ctx, a, filter) }}
		})
	}
	gets := func(change func(x *event.Aside)) func(contract.SetAside) contract.SetAside {
		return breaks(func(a event.Asides, _ contract.SetAside) asides {
			return asides{get: func(ctx context.Context, id string) (event.Aside, error) {
				x, err := a.Get(ctx, id)
				change(&x)
				return x, err
			}}
		})
	}
	return []broken[contract.SetAside]{
		{"lists descend", "events are listed ascending by ID", lists(func(ctx context.Context, a event.Asides, f event.Filter) ([]event.Aside, error) {
			events, err := a.List(ctx, f)
			slices.Reverse(events)
			return events, err
		})},
		{"the limit is ignored", "a list has at most limit events", lists(func(ctx context.Context, a event.Asides, f event.Filter) ([]event.Aside, error) {
			f.Limit = 1000
			return a.List(ctx, f)
		})},
		{"every limit will do", "a limit out of range is refused", lists(func(ctx context.Context, a event.Asides, f event.Filter) ([]event.Aside, error) {
			f.Limit = min(max(f.Limit, 1), 1000)
			return a.List(ctx, f)
		})},
		{"pages overlap", "page by page, every event comes once", lists(func(ctx context.Context, a event.Asides, f event.Filter) ([]event.Aside, error) {
			if n := len(f.After); n > 0 {
				f.After = f.After[:n-1]
			}
			return a.List(ctx, f)
		})},
		{"a gone event ends the list", "an event that is gone still marks its place", lists(func(ctx context.Context, a event.Asides, f event.Filter) ([]event.Aside, error) {
			if f.After != "" {
				if _, err := a.Get(ctx, f.After); err != nil {
					return nil, nil
				}
			}
			return a.List(ctx, f)
		})},
		{"the key is ignored", "topic, type and key choose", lists(func(ctx context.Context, a event.Asides, f event.Filter) ([]event.Aside, error) {
			f.Key = ""
			return a.List(ctx, f)
		})},
		{"lists have the data", "a list is without data", lists(func(ctx context.Context, a event.Asides, f event.Filter) ([]event.Aside, error) {
			events, err := a.List(ctx, f)
			for i := range events {
				whole, failed := a.Get(ctx, events[i].Event.ID)
				events[i], err = whole, errors.Join(err, failed)
			}
			return events, err
		})},
		{"large data is cut", "an event is whole, with its reason", gets(func(x *event.Aside) {
			x.Event.Data = x.Event.Data[:min(len(x.Event.Data), 1000)]
		})},
		{"the reason is lost", "an event is whole, with its reason", gets(func(x *event.Aside) { x.Reason = "" })},
		{"an unknown event is an empty one", "what is not set aside is not found", breaks(func(a event.Asides, _ contract.SetAside) asides {
			return asides{get: func(ctx context.Context, id string) (event.Aside, error) { x, _ := a.Get(ctx, id); return x, nil }}
		})},
		{"what is pending can be discarded", "what is not set aside is not found", breaks(func(a event.Asides, p contract.SetAside) asides {
			return asides{discard: func(ctx context.Context, id string) error {
				return errors.Join(a.Discard(ctx, id), p.Outbox.Published(ctx, id))
			}}
		})},
		{"a replay loses the event", "a replayed event is pending", breaks(func(a event.Asides, _ contract.SetAside) asides {
			return asides{replay: a.Discard}
		})},
		{"a replay comes first", "a replayed event is pending", func(p contract.SetAside) contract.SetAside {
			under := p.Outbox
			p.Outbox = outbox{Outbox: under, pending: func(ctx context.Context, limit int) ([]event.Event, error) {
				events, err := under.Pending(ctx, limit)
				slices.SortStableFunc(events, func(x, y event.Event) int { return strings.Compare(x.ID, y.ID) })
				return events, err
			}}
			return p
		}},
		{"what is replayed stays in the list", "a replayed event is not set aside", func(p contract.SetAside) contract.SetAside {
			var mu sync.Mutex
			var replayed []event.Aside
			under := p.Asides
			p.Asides = asides{Asides: under, replay: func(ctx context.Context, id string) error {
				x, _ := under.Get(ctx, id)
				x.Event.Data = nil
				mu.Lock()
				defer mu.Unlock()
				replayed = append(replayed, x)
				return under.Replay(ctx, id)
			}, list: func(ctx context.Context, f event.Filter) ([]event.Aside, error) {
				events, err := under.List(ctx, f)
				mu.Lock()
				defer mu.Unlock()
				events = append(events, replayed...)
				slices.SortFunc(events, func(x, y event.Aside) int { return strings.Compare(x.Event.ID, y.Event.ID) })
				return events, err
			}}
			return p
		}},
		{"what is replayed cannot be marked", "a replayed event can be published", func(p contract.SetAside) contract.SetAside {
			var mu sync.Mutex
			replayed := map[string]bool{}
			asked, under := p.Asides, p.Outbox
			p.Asides = asides{Asides: asked, replay: func(ctx context.Context, id string) error {
				mu.Lock()
				defer mu.Unlock()
				replayed[id] = true
				return asked.Replay(ctx, id)
			}}
			p.Outbox = outbox{Outbox: under, published: func(ctx context.Context, ids ...string) error {
				mu.Lock()
				defer mu.Unlock()
				return under.Published(ctx, slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return replayed[id] })...)
			}}
			return p
		}},
		{"what is replayed has no place", "a replayed event has its place", func(p contract.SetAside) contract.SetAside {
			under := p.Outbox
			p.Outbox = outbox{Outbox: under, after: func(ctx context.Context, id string, limit int) ([]event.Event, error) {
				if id == "event-0001" {
					return under.Pending(ctx, limit)
				}
				return under.PendingAfter(ctx, id, limit)
			}}
			return p
		}},
		{"the first reason stays", "a replayed event can be set aside again", gets(func(x *event.Aside) {
			if x.Reason == "still too large" {
				x.Reason = "it is too large: 0 bytes"
			}
		})},
		{"replays do not ask who was first", "concurrent replays are one", breaks(func(a event.Asides, _ contract.SetAside) asides {
			return asides{replay: func(ctx context.Context, id string) error { _ = a.Replay(ctx, id); return nil }}
		})},
		{"a replay does not ask whether it is gone", "a discard and a replay at once are one", breaks(func(a event.Asides, _ contract.SetAside) asides {
			return asides{
				replay:  func(ctx context.Context, id string) error { _ = a.Replay(ctx, id); return nil },
				discard: func(ctx context.Context, id string) error { _ = a.Discard(ctx, id); return nil },
			}
		})},
		{"data is shared", "events that are set aside are copies", func(p contract.SetAside) contract.SetAside {
			var mu sync.Mutex
			var kept []byte
			under := p.Asides
			p.Asides = asides{Asides: under, get: func(ctx context.Context, id string) (event.Aside, error) {
				x, err := under.Get(ctx, id)
				mu.Lock()
				defer mu.Unlock()
				if kept == nil {
					kept = x.Event.Data
				}
				x.Event.Data = kept
				return x, err
			}}
			return p
		}},
		{"discards are not asked", "concurrent discards are one", breaks(func(a event.Asides, _ contract.SetAside) asides {
			return asides{discard: func(ctx context.Context, id string) error { _ = a.Discard(ctx, id); return nil }}
		})},
		{"a discarded event comes back", "a discarded event is gone", breaks(func(a event.Asides, _ contract.SetAside) asides {
			return asides{discard: a.Replay}
		})},
	}
}
