package contract_test

import (
	"context"
	"slices"
	"strings"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
)

func openRecorded() contract.Recorded {
	s := memory.NewStore()
	return contract.Recorded{Recorder: s.Messages, Outbox: s.Outbox, Asides: s.Asides}
}

// recorder is one that changes what it is to record, or what its store does.
type recorder struct {
	chat.Recorder
	record func(record chat.Record) chat.Record
	store  func(s chat.MessageStore) chat.MessageStore
}

func (r recorder) Recording(record chat.Record) (chat.MessageStore, error) {
	if r.record != nil {
		record = r.record(record)
	}
	s, err := r.Recorder.Recording(record)
	if err == nil && r.store != nil {
		s = r.store(s)
	}
	return s, err
}

// changing is a store whose Append and Change can be replaced.
type changing struct {
	chat.MessageStore
	append func(ctx context.Context, all []chat.Message) ([]chat.Stored, error)
	change func(ctx context.Context, all []chat.Change) ([]chat.Changed, error)
}

func (c changing) Append(ctx context.Context, all []chat.Message) ([]chat.Stored, error) {
	if c.append != nil {
		return c.append(ctx, all)
	}
	return c.MessageStore.Append(ctx, all)
}

func (c changing) Change(ctx context.Context, all []chat.Change) ([]chat.Changed, error) {
	if c.change != nil {
		return c.change(ctx, all)
	}
	return c.MessageStore.Change(ctx, all)
}

func recorderFaults() []broken[contract.Recorded] {
	records := func(f func(record chat.Record, m chat.Message, c *chat.Change) (event.Event, bool)) func(contract.Recorded) contract.Recorded {
		return func(p contract.Recorded) contract.Recorded {
			p.Recorder = recorder{Recorder: p.Recorder, record: func(record chat.Record) chat.Record {
				return func(m chat.Message, c *chat.Change) (event.Event, bool) { return f(record, m, c) }
			}}
			return p
		}
	}
	stores := func(f func(p contract.Recorded, s chat.MessageStore) changing) func(contract.Recorded) contract.Recorded {
		return func(p contract.Recorded) contract.Recorded {
			before := p
			p.Recorder = recorder{Recorder: p.Recorder, store: func(s chat.MessageStore) chat.MessageStore {
				c := f(before, s)
				c.MessageStore = s
				return c
			}}
			return p
		}
	}
	// keeping puts the events back that a deletion has taken away, of which keep says so.
	keeping := func(keep func(deleted, id string) bool, own bool) func(contract.Recorded) contract.Recorded {
		return stores(func(p contract.Recorded, s chat.MessageStore) changing {
			return changing{change: func(ctx context.Context, all []chat.Change) ([]chat.Changed, error) {
				before, _ := p.Outbox.Pending(ctx, 1000)
				answers, err := s.Change(ctx, all)
				if err != nil {
					return answers, err
				}
				after, _ := p.Outbox.Pending(ctx, 1000)
				for i, c := range all {
					if answers[i].Err != nil || c.Kind != chat.Delete && c.Kind != chat.Erase {
						continue
					}
					for _, e := range before {
						gone := !slices.ContainsFunc(after, func(a event.Event) bool { return a.ID == e.ID })
						if gone && keep(answers[i].ID, e.ID) {
							again(ctx, p, e)
						}
					}
					if own {
						_ = p.Outbox.Published(ctx, after[len(after)-1].ID)
					}
				}
				return answers, err
			}}
		})
	}
	return []broken[contract.Recorded]{
		{"changes have no events", "what is stored and changed has its event", records(func(record chat.Record, m chat.Message, c *chat.Change) (event.Event, bool) {
			e, ok := record(m, c)
			return e, ok && c == nil
		})},
		{"a record sees no sequence", "what is stored and changed has its event", records(func(record chat.Record, m chat.Message, c *chat.Change) (event.Event, bool) {
			m.Seq = 0
			return record(m, c)
		})},
		{"a record sees the message as it was", "what is stored and changed has its event", records(func(record chat.Record, m chat.Message, c *chat.Change) (event.Event, bool) {
			if c != nil {
				m.Rev--
			}
			return record(m, c)
		})},
		{"a record sees the time of the message in the place of the change's", "what is stored and changed has its event", records(func(record chat.Record, m chat.Message, c *chat.Change) (event.Event, bool) {
			if c != nil {
				other := *c
				other.At, c = m.At, &other
			}
			return record(m, c)
		})},
		{"only the first 100 of a call have events", "many messages have their events", records(func(record chat.Record, m chat.Message, c *chat.Change) (event.Event, bool) {
			e, ok := record(m, c)
			return e, ok && m.Seq <= 100
		})},
		{"what is declined is put in all the same", "a record may decline", records(func(record chat.Record, m chat.Message, c *chat.Change) (event.Event, bool) {
			e, _ := record(m, c)
			return e, true
		})},
		{"events of a call are turned round", "events are in the order of the rooms", stores(func(p contract.Recorded, s chat.MessageStore) changing {
			return changing{change: func(ctx context.Context, all []chat.Change) ([]chat.Changed, error) {
				answers, err := s.Change(ctx, all)
				if events, _ := p.Outbox.Pending(ctx, 1000); len(events) > 3 { // the oldest goes to the end
					_ = p.Outbox.SetAside(ctx, events[0].ID, "")
					_ = p.Asides.Replay(ctx, events[0].ID)
				}
				return answers, err
			}}
		})},
		{"what is repeated has its event again", "what is repeated or refused has no event", stores(func(p contract.Recorded, s chat.MessageStore) changing {
			return changing{append: func(ctx context.Context, all []chat.Message) ([]chat.Stored, error) {
				answers, err := s.Append(ctx, all)
				for _, a := range answers {
					if a.Repeated {
						again(ctx, p, event.Event{ID: a.ID, Topic: "topic", Type: "created", Key: a.Room})
					}
				}
				return answers, err
			}}
		})},
		{"what is refused has an event", "what is repeated or refused has no event", stores(func(p contract.Recorded, s chat.MessageStore) changing {
			return changing{change: func(ctx context.Context, all []chat.Change) ([]chat.Changed, error) {
				answers, err := s.Change(ctx, all)
				for i, a := range answers {
					if a.Err != nil {
						again(ctx, p, event.Event{ID: "refused", Topic: "topic", Type: "changed", Key: all[i].Room})
					}
				}
				return answers, err
			}}
		})},
		{"a change that changes nothing has an event", "what is repeated or refused has no event", stores(func(p contract.Recorded, s chat.MessageStore) changing {
			return changing{change: func(ctx context.Context, all []chat.Change) ([]chat.Changed, error) {
				answers, err := s.Change(ctx, all)
				for _, a := range answers {
					if a.Repeated {
						again(ctx, p, event.Event{ID: a.ID + "-9", Topic: "topic", Type: "changed", Key: a.Room})
					}
				}
				return answers, err
			}}
		})},
		{"the event comes before the message", "what is not stored has no event", stores(func(p contract.Recorded, s chat.MessageStore) changing {
			return changing{append: func(ctx context.Context, all []chat.Message) ([]chat.Stored, error) {
				answers, err := s.Append(ctx, all)
				if err != nil {
					again(context.WithoutCancel(ctx), p, event.Event{ID: all[0].ID, Topic: "topic", Type: "created", Key: all[0].Room})
				}
				return answers, err
			}}
		})},
		{"the event of a deleted message stays", "a deletion takes events away", keeping(func(deleted, id string) bool { return id == deleted }, false)},
		{"the events of its edits stay", "a deletion takes events away", keeping(func(deleted, id string) bool { return id != deleted }, false)},
		{"a deletion takes its own event", "a deletion takes events away", keeping(func(string, string) bool { return false }, true)},
		{"an erasure leaves that of the deletion", "an erasure takes events away", keeping(func(_, id string) bool { return strings.HasSuffix(id, "-4") }, false)},
		{"a deletion takes those of a message whose ID begins alike", "a deletion takes events away", stores(func(p contract.Recorded, s chat.MessageStore) changing {
			return changing{change: func(ctx context.Context, all []chat.Change) ([]chat.Changed, error) {
				answers, err := s.Change(ctx, all)
				if all[0].Kind == chat.Delete {
					_ = p.Outbox.Published(ctx, "ab", "ab-2")
				}
				return answers, err
			}}
		})},
		{"what was edited in the same call stays", "a deletion takes away what came in the same call", stores(func(p contract.Recorded, s chat.MessageStore) changing {
			return changing{change: func(ctx context.Context, all []chat.Change) ([]chat.Changed, error) {
				answers, err := s.Change(ctx, all)
				if len(all) == 3 {
					again(ctx, p, event.Event{ID: answers[0].ID + "-4", Topic: "topic", Type: "changed", Key: "room"})
				}
				return answers, err
			}}
		})},
		{"what was set aside stays", "a deletion takes away what was set aside", stores(func(p contract.Recorded, s chat.MessageStore) changing {
			return changing{change: func(ctx context.Context, all []chat.Change) ([]chat.Changed, error) {
				answers, err := s.Change(ctx, all)
				if all[0].Kind == chat.Delete {
					again(ctx, p, event.Event{ID: "a-1", Topic: "topic", Type: "changed", Key: "room"})
					_ = p.Outbox.SetAside(ctx, "a-1", "too large")
				}
				return answers, err
			}}
		})},
		{"what others have aside goes too", "a deletion takes away what was set aside", stores(func(p contract.Recorded, s chat.MessageStore) changing {
			return changing{change: func(ctx context.Context, all []chat.Change) ([]chat.Changed, error) {
				answers, err := s.Change(ctx, all)
				if all[0].Kind == chat.Delete {
					_ = p.Asides.Discard(ctx, "ab-2")
				}
				return answers, err
			}}
		})},
	}
}

// again puts an event into the outbox of p, as a store of its own would.
func again(ctx context.Context, p contract.Recorded, e event.Event) {
	r := p.Recorder
	if wrapped, ok := r.(recorder); ok {
		r = wrapped.Recorder
	}
	s, err := r.Recording(func(chat.Message, *chat.Change) (event.Event, bool) { return e, true })
	if err == nil {
		_, _ = s.Append(ctx, []chat.Message{{Room: "elsewhere", ID: "elsewhere", Author: chat.Author{ID: "u"}, Text: "x"}})
	}
}
