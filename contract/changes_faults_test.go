package contract_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// changeFaults are stores that go wrong where messages change.
func changeFaults() []broken[chat.MessageStore] {
	breaks := func(f func(m chat.MessageStore) messages) func(chat.MessageStore) chat.MessageStore {
		return func(under chat.MessageStore) chat.MessageStore {
			m := f(under)
			m.MessageStore = under
			return m
		}
	}
	type change = func(m chat.MessageStore, ctx context.Context, changes []chat.Change) ([]chat.Changed, error)
	changes := func(f change) func(chat.MessageStore) chat.MessageStore {
		return breaks(func(under chat.MessageStore) messages {
			return messages{change: func(ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
				return f(under, ctx, slices.Clone(changes))
			}}
		})
	}
	asks := func(edit func(*chat.Change)) func(chat.MessageStore) chat.MessageStore {
		return changes(func(m chat.MessageStore, ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
			for i := range changes {
				edit(&changes[i])
			}
			return m.Change(ctx, changes)
		})
	}
	answers := func(edit func(c chat.Change, got *chat.Changed)) func(chat.MessageStore) chat.MessageStore {
		return changes(func(m chat.MessageStore, ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
			got, err := m.Change(ctx, changes)
			for i := range got {
				edit(changes[i], &got[i])
			}
			return got, err
		})
	}
	lists := func(f func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error)) func(chat.MessageStore) chat.MessageStore {
		return breaks(func(under chat.MessageStore) messages {
			return messages{list: func(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
				return f(under, ctx, room, r)
			}}
		})
	}
	return []broken[chat.MessageStore]{
		{"an edit without data takes the data away", "an edit takes the place of the text", asks(func(c *chat.Change) {
			if c.Kind == chat.Edit && c.Data == "" {
				c.Data = "{}"
			}
		})},
		{"when a message was edited is not told", "an edit takes the place of the text", answers(func(_ chat.Change, got *chat.Changed) { got.EditedAt = time.Time{} })},
		{"no changes are an error", "changing nothing is no error", changes(func(m chat.MessageStore, ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
			if len(changes) == 0 {
				return nil, errOops
			}
			return m.Change(ctx, changes)
		})},
		{"edits are trimmed", "long and foreign texts are kept by edits", asks(func(c *chat.Change) { c.Text = strings.TrimSpace(c.Text) })},
		{"keys are cut", "long and foreign texts are kept by edits", asks(func(c *chat.Change) { c.Key = c.Key[:min(len(c.Key), chat.MaxReactionKey)] })},
		{"that nothing was changed is not told", "what is so already is not changed", answers(func(_ chat.Change, got *chat.Changed) { got.Repeated = false })},
		{"what is so already is changed again", "what is so already is not changed", func() func(chat.MessageStore) chat.MessageStore {
			n := 0
			return asks(func(c *chat.Change) {
				if n++; c.Kind == chat.Edit {
					c.Data = cmp.Or(c.Data, fmt.Sprintf(`{"n":%d}`, n))
				}
			})
		}()},
		{"everybody may edit", "others may not edit and delete", asks(func(c *chat.Change) { c.Any = true })},
		{"nobody may moderate", "others may not edit and delete", asks(func(c *chat.Change) { c.Any = false })},
		{"a deleted message is only marked", "a deletion erases", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			all, err := m.List(ctx, room, r)
			for i := range all {
				if !all[i].DeletedAt.IsZero() {
					all[i].Text = "what it said"
				}
			}
			return all, err
		})},
		{"a deleted message keeps what it answers", "a deletion erases", answers(func(c chat.Change, got *chat.Changed) {
			if c.Kind == chat.Delete && c.Seq == 2 {
				got.ReplyTo = 1
			}
		})},
		{"a deleted message is sent anew", "a deleted message is still the one that was sent", breaks(func(under chat.MessageStore) messages {
			return messages{append: func(ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
				all, err := under.Append(ctx, batch)
				for i := range all {
					if err == nil && !all[i].DeletedAt.IsZero() {
						again := batch[i]
						again.ClientID = ""
						var one []chat.Stored
						if one, err = under.Append(ctx, []chat.Message{again}); err == nil {
							all[i] = one[0]
						}
					}
				}
				return all, err
			}}
		})},
		{"an erased message has its author's name", "an erasure leaves nothing of the author", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			all, err := m.List(ctx, room, r)
			for i := range all {
				if all[i].Author.Name == user.ErasedName {
					all[i].Author.Name = "Zoë Ångström"
				}
			}
			return all, err
		})},
		{"an erased message keeps its client id", "an erasure leaves nothing of the author", answers(func(c chat.Change, got *chat.Changed) {
			if c.Kind == chat.Erase && c.Seq == 2 && got.Err == nil {
				got.ClientID = "client-1"
			}
		})},
		{"what was deleted is not erased", "an erasure leaves nothing of the author", changes(func(m chat.MessageStore, ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
			for i := range changes {
				if changes[i].Kind == chat.Erase && changes[i].Seq == 1 {
					changes[i].Kind = chat.Delete
				}
			}
			return m.Change(ctx, changes)
		})},
		{"everybody may erase", "an erasure leaves nothing of the author", asks(func(c *chat.Change) {
			if c.Kind == chat.Erase && c.Seq == 3 {
				c.By.ID = "user-2"
			}
		})},
		{"the client id of an erased message is remembered", "what was erased is sent anew", func() func(chat.MessageStore) chat.MessageStore {
			return func(under chat.MessageStore) chat.MessageStore {
				known := map[string]chat.Message{}
				m := messages{append: func(ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
					if m, ok := known[batch[0].ClientID]; ok {
						return []chat.Stored{{Message: m, Repeated: true}}, nil
					}
					all, err := under.Append(ctx, batch)
					for _, m := range all {
						if m.ClientID != "" {
							known[m.ClientID] = m.Message
						}
					}
					return all, err
				}}
				m.MessageStore = under
				return m
			}
		}()},
		{"what is not stored fails the call", "what is not stored is not found", changes(func(m chat.MessageStore, ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
			got, err := m.Change(ctx, changes)
			for _, c := range got {
				if errors.Is(c.Err, chat.ErrMessageNotFound) {
					return nil, c.Err
				}
			}
			return got, err
		})},
		{"sequences of changes are signed", "what is not stored is not found", asks(func(c *chat.Change) { c.Seq &= 1<<63 - 1; c.Seq %= 1<<63 - 2 })},
		{"what comes behind a refused change is left out", "a refused change harms no other", changes(func(m chat.MessageStore, ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
			var all []chat.Changed
			for i := range changes {
				got, err := m.Change(ctx, changes[i:i+1])
				if err != nil {
					return nil, err
				}
				if all = append(all, got...); got[0].Err != nil {
					for range changes[i+1:] {
						all = append(all, got[0])
					}
					break
				}
			}
			return all, nil
		})},
		{"a refused change tells the message", "a refused change harms no other", answers(func(c chat.Change, got *chat.Changed) {
			if got.Err != nil {
				got.Text = "what it says"
			}
		})},
		{"a call that fails is half made", "a call that fails changes nothing", changes(func(m chat.MessageStore, ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
			var all []chat.Changed
			for i := range changes {
				got, err := m.Change(ctx, changes[i:i+1])
				if err == nil && changes[i].Kind == 0 {
					err = errOops
				}
				if err != nil {
					return nil, err
				}
				all = append(all, got...)
			}
			return all, nil
		})},
		{"an ended context changes the half", "an ended context leaves no gap between changes", changes(func(m chat.MessageStore, ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
			if ctx.Err() != nil {
				_, _ = m.Change(context.WithoutCancel(ctx), changes[:1])
			}
			return m.Change(ctx, changes)
		})},
		{"answers of one call are all the last", "changes of one call build on each other", changes(func(m chat.MessageStore, ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
			got, err := m.Change(ctx, changes)
			for i := range got {
				for _, later := range got[i+1:] {
					if later.Err == nil && later.Seq == got[i].Seq {
						got[i].Message = later.Message
					}
				}
			}
			return got, err
		})},
		{"changes of one message in one call are one", "changes of one call build on each other", changes(func(m chat.MessageStore, ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
			var last []chat.Change
			for i, c := range changes {
				if !slices.ContainsFunc(changes[i+1:], func(later chat.Change) bool { return later.Seq == c.Seq && later.Room == c.Room }) {
					last = append(last, c)
				}
			}
			got, err := m.Change(ctx, last)
			var all []chat.Changed
			for _, c := range changes {
				all = append(all, got[slices.IndexFunc(last, func(l chat.Change) bool { return l.Seq == c.Seq && l.Room == c.Room })])
			}
			return all, err
		})},
		{"all rooms share one count of changes", "rooms count changes apart", func() func(chat.MessageStore) chat.MessageStore {
			n := uint64(0)
			return answers(func(_ chat.Change, got *chat.Changed) { n++; got.Rev = n })
		}()},
		{"reactions are sorted", "reactions come and go", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			all, err := m.List(ctx, room, r)
			for i := range all {
				slices.SortFunc(all[i].Reactions, func(a, b chat.Reaction) int { return cmp.Compare(a.Key, b.Key) })
			}
			return all, err
		})},
		{"a reaction of nobody stays", "reactions come and go", answers(func(c chat.Change, got *chat.Changed) {
			if c.Kind == chat.Unreact && !got.Repeated && len(got.Reactions) == 0 {
				got.Reactions = []chat.Reaction{{Key: c.Key}}
			}
		})},
		{"a reaction too many is left out without a word", "a reaction too many is refused", answers(func(_ chat.Change, got *chat.Changed) {
			if errors.Is(got.Err, chat.ErrReactionsFull) {
				*got = chat.Changed{Repeated: true}
			}
		})},
		{"only those who are named are counted", "all who react are counted", answers(func(_ chat.Change, got *chat.Changed) {
			for i, r := range got.Reactions {
				got.Reactions[i].Count = len(r.Users)
			}
		})},
		{"who is not named may react again", "all who react are counted", answers(func(c chat.Change, got *chat.Changed) {
			for i, r := range got.Reactions {
				if c.Kind == chat.React && got.Repeated && r.Key == c.Key && !slices.Contains(r.Users, c.By.ID) {
					got.Repeated = false
					got.Reactions[i].Count++
				}
			}
		})},
		{"all are named", "all who react are counted", answers(func(c chat.Change, got *chat.Changed) {
			for i, r := range got.Reactions {
				if r.Count > len(r.Users) {
					got.Reactions[i].Users = append(slices.Clone(r.Users), c.By.ID)
				}
			}
		})},
		{"keys are folded", "keys and users are exact", asks(func(c *chat.Change) { c.Key = lower(c.Key) })},
		{"users are folded", "keys and users are exact", asks(func(c *chat.Change) { c.By.ID = user.ID(lower(string(c.By.ID))) })},
		{"concurrent changes take the same number", "concurrent changes leave no gap", breaks(func(under chat.MessageStore) messages {
			return messages{change: func(ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
				b, err := under.Bounds(ctx, changes[0].Room)
				if err != nil {
					return nil, err
				}
				time.Sleep(time.Millisecond) // in the bubble's time
				got, err := under.Change(ctx, changes)
				for i := range got {
					got[i].Rev = b.Rev + uint64(i) + 1
				}
				return got, err
			}}
		})},
		{"concurrent reactions are counted twice", "concurrent reactions are counted once", func() func(chat.MessageStore) chat.MessageStore {
			var mu sync.Mutex
			n := 0
			return asks(func(c *chat.Change) {
				mu.Lock()
				defer mu.Unlock()
				n++
				c.By.ID += user.ID(fmt.Sprint("/", n))
			})
		}()},
		{"changed messages ascend by sequence", "changed messages are listed by their last change", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			all, err := m.List(ctx, room, r)
			slices.SortFunc(all, func(a, b chat.Message) int { return cmp.Compare(a.Seq, b.Seq) })
			return all, err
		})},
		{"changed messages have no upper sequence", "changed messages are listed by their last change", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			r.UpTo = 0
			return m.List(ctx, room, r)
		})},
		{"changed messages have no upper Rev", "changed messages are listed by their last change", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			if r.Changed {
				r.Before = 0
			}
			return m.List(ctx, room, r)
		})},
		{"After includes a Rev", "changed messages are listed by their last change", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			if r.Changed && r.After > 0 {
				r.After--
			}
			return m.List(ctx, room, r)
		})},
		{"the newest changes are asked for", "changed messages are listed by their last change", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			limit := r.Limit
			if r.Changed && r.Newest {
				r.Limit = 1000
			}
			all, err := m.List(ctx, room, r)
			return all[max(0, len(all)-limit):], err
		})},
		{"Revs are signed", "the edges of the sequence of changes", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			if int64(r.After) < 0 {
				r.After = 0
			}
			return m.List(ctx, room, r)
		})},
		{"sequences up to which are signed", "the edges of the sequence of changes", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			if int64(r.UpTo) < 0 {
				return nil, nil
			}
			return m.List(ctx, room, r)
		})},
		{"pages of changes are cut by sequence", "paging visits every changed message once", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			limit := r.Limit
			if r.Changed {
				r.Limit = 1000
			}
			all, err := m.List(ctx, room, r)
			slices.SortFunc(all, func(a, b chat.Message) int { return cmp.Compare(a.Seq, b.Seq) })
			return all[:min(len(all), limit)], err
		})},
		{"changes are listed late", "a returned change is seen", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			all, err := m.List(ctx, room, r)
			if r.Changed {
				all = all[:max(0, len(all)-1)]
			}
			return all, err
		})},
		{"bounds know of changes late", "a returned change is seen", breaks(func(under chat.MessageStore) messages {
			return messages{bounds: func(ctx context.Context, room string) (chat.Bounds, error) {
				b, err := under.Bounds(ctx, room)
				b.Rev -= min(b.Rev, 1)
				return b, err
			}}
		})},
		{"an invalid change fails all of its call", "a refused change harms no other", changes(func(m chat.MessageStore, ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
			for _, c := range changes {
				if err := c.Check(); err != nil {
					return nil, err
				}
			}
			return m.Change(ctx, changes)
		})},
		{"bounds know of changes that are not there yet", "readers never see a gap between changes", breaks(func(under chat.MessageStore) messages {
			var early atomic.Int64
			return messages{
				change: func(ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
					early.Add(int64(len(changes)))
					defer early.Add(-int64(len(changes)))
					for range 100 { // others have the time to ask
						if _, err := under.List(ctx, "room", chat.Range{Limit: 100}); err != nil {
							return nil, err
						}
					}
					return under.Change(ctx, changes)
				},
				bounds: func(ctx context.Context, room string) (chat.Bounds, error) {
					ahead := early.Load()
					b, err := under.Bounds(ctx, room)
					b.Rev += uint64(ahead)
					return b, err
				},
			}
		})},
		{"readers see gaps between changes", "readers never see a gap between changes", lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
			all, err := m.List(ctx, room, r)
			if r.Changed && len(all) > 2 {
				all = slices.Delete(all, 1, 2)
			}
			return all, err
		})},
		{"reactions are shared", "changed messages are copies", func() func(chat.MessageStore) chat.MessageStore {
			var mu sync.Mutex
			kept := map[string][]chat.Reaction{}
			return lists(func(m chat.MessageStore, ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
				all, err := m.List(ctx, room, r)
				mu.Lock()
				defer mu.Unlock()
				for i := range all {
					name := fmt.Sprint(room, all[i].Seq, "/", all[i].Rev)
					if kept[name] == nil {
						kept[name] = all[i].Reactions
					}
					all[i].Reactions = kept[name]
				}
				return all, err
			})
		}()},
	}
}

// marked follows which Rev a room of a cache has.
type marked struct {
	chat.RecentCache
	mu   sync.Mutex
	revs map[string]uint64
}

// rev returns the room's, and raises it first.
func (c *marked) rev(room string, at uint64) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revs[room] = max(c.revs[room], at)
	return c.revs[room]
}

// changeCacheFaults are caches that go wrong where messages change.
func changeCacheFaults() []broken[chat.RecentCache] {
	breaks := func(f func(c *marked) cache) func(chat.RecentCache) chat.RecentCache {
		return func(under chat.RecentCache) chat.RecentCache {
			c := f(&marked{RecentCache: under, revs: map[string]uint64{}})
			c.RecentCache = under
			return c
		}
	}
	edits := func(edit func(*chat.Message)) func(all []chat.Message) []chat.Message {
		return func(all []chat.Message) []chat.Message {
			all = slices.Clone(all)
			for i := range all {
				edit(&all[i])
			}
			return all
		}
	}
	const nowhere = 0 // no message has this sequence
	return []broken[chat.RecentCache]{
		{"changes are ignored", "a change takes the place of what is held", breaks(func(*marked) cache {
			return cache{change: func(context.Context, ...chat.Message) error { return nil }}
		})},
		{"a change forgets the room", "a change takes the place of what is held", breaks(func(under *marked) cache {
			return cache{change: func(ctx context.Context, all ...chat.Message) error {
				for i := range all {
					all[i].Rev++
				}
				return under.Change(ctx, all...)
			}}
		})},
		{"one call changes one room", "one call changes several rooms", breaks(func(under *marked) cache {
			return cache{change: func(ctx context.Context, all ...chat.Message) error {
				mine := slices.DeleteFunc(slices.Clone(all), func(m chat.Message) bool { return m.Room != all[0].Room })
				return under.Change(ctx, mine...)
			}}
		})},
		{"an older change replaces a newer one", "a change that came before changes nothing", breaks(func(under *marked) cache {
			var mu sync.Mutex
			last := map[string]chat.Message{}
			return cache{
				change: func(ctx context.Context, all ...chat.Message) error {
					mu.Lock()
					defer mu.Unlock()
					for _, m := range all {
						last[m.Room] = m
					}
					return under.Change(ctx, all...)
				},
				get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
					r, held, err := under.Get(ctx, room)
					mu.Lock()
					defer mu.Unlock()
					for i, m := range r.Messages {
						if m.Seq == last[room].Seq {
							r.Messages[i] = last[room]
						}
					}
					return r, held, err
				},
			}
		})},
		{"a change that came before ends that the room is held", "a change that came before changes nothing", breaks(func(under *marked) cache {
			return cache{change: func(ctx context.Context, all ...chat.Message) error {
				for _, m := range all {
					if rev := under.rev(m.Room, 0); rev >= m.Rev {
						m.Rev = rev + 2
					}
					under.rev(m.Room, m.Rev)
					if err := under.Change(ctx, m); err != nil {
						return err
					}
				}
				return nil
			}}
		})},
		{"a lost change is not noticed", "a lost change ends that a room is held", breaks(func(under *marked) cache {
			return cache{change: func(ctx context.Context, all ...chat.Message) error {
				for _, m := range all {
					for rev := under.rev(m.Room, 0) + 1; rev < m.Rev; rev++ {
						if err := under.Change(ctx, chat.Message{Room: m.Room, Seq: nowhere, Rev: rev}); err != nil {
							return err
						}
					}
					under.rev(m.Room, m.Rev)
					if err := under.Change(ctx, m); err != nil {
						return err
					}
				}
				return nil
			}}
		})},
		{"a change of what was not added is lost", "a changed message that was not added yet", breaks(func(under *marked) cache {
			return cache{change: func(ctx context.Context, all ...chat.Message) error {
				for _, m := range all {
					r, _, err := under.Get(ctx, m.Room)
					if n := len(r.Messages); n == 0 || r.Messages[n-1].Seq < m.Seq {
						m.Seq = nowhere
					}
					if err == nil {
						err = under.Change(ctx, m)
					}
					if err != nil {
						return err
					}
				}
				return nil
			}}
		})},
		{"a change of what is not held is skipped", "a change of what is not held counts", breaks(func(under *marked) cache {
			return cache{change: func(ctx context.Context, all ...chat.Message) error {
				for _, m := range all {
					r, _, err := under.Get(ctx, m.Room)
					if err == nil && (len(r.Messages) == 0 || r.Messages[0].Seq <= m.Seq) {
						err = under.Change(ctx, m)
					}
					if err != nil {
						return err
					}
				}
				return nil
			}}
		})},
		{"the Rev of a room that is not held is forgotten", "filling brings nothing older", breaks(func(under *marked) cache {
			return cache{
				change: func(ctx context.Context, all ...chat.Message) error {
					for _, m := range all {
						under.rev(m.Room, m.Rev)
					}
					return under.Change(ctx, all...)
				},
				fill: func(ctx context.Context, room string, r chat.Recent) error {
					if _, held, err := under.Get(ctx, room); err != nil || !held {
						r.Rev = under.rev(room, r.Rev)
					}
					return under.Fill(ctx, room, r)
				},
			}
		})},
		{"filling takes what is older", "filling brings nothing older", breaks(func(under *marked) cache {
			return cache{fill: func(ctx context.Context, room string, r chat.Recent) error {
				had, held, err := under.Get(ctx, room)
				if err == nil && held {
					r.Rev = max(r.Rev, had.Rev)
				}
				return under.Fill(ctx, room, r)
			}}
		})},
		{"adding holds a room whose changes are not known", "adding does not hold a room whose changes are not known", breaks(func(under *marked) cache {
			return cache{
				change: func(ctx context.Context, all ...chat.Message) error {
					for _, m := range all {
						under.rev(m.Room, m.Rev)
					}
					return under.Change(ctx, all...)
				},
				add: func(ctx context.Context, all ...chat.Message) error {
					if _, held, err := under.Get(ctx, all[0].Room); err != nil || !held {
						return under.Fill(ctx, all[0].Room, chat.Recent{Messages: all, Rev: under.rev(all[0].Room, 0)})
					}
					return under.Add(ctx, all...)
				},
			}
		})},
		{"filling with newer only adds", "filling with newer replaces what is older", breaks(func(under *marked) cache {
			return cache{fill: func(ctx context.Context, room string, r chat.Recent) error {
				if had, held, err := under.Get(ctx, room); err == nil && held {
					r.Rev = min(r.Rev, had.Rev)
				}
				return under.Fill(ctx, room, r)
			}}
		})},
		{"filling with newer keeps what stands before", "filling with newer replaces what is older", breaks(func(under *marked) cache {
			return cache{fill: func(ctx context.Context, room string, r chat.Recent) error {
				had, _, err := under.Get(ctx, room)
				if len(had.Messages) > 0 && len(r.Messages) > 0 && had.Messages[0].Seq < r.Messages[0].Seq && had.Messages[len(had.Messages)-1].Seq+1 >= r.Messages[0].Seq {
					r.Messages = append(had.Messages[:r.Messages[0].Seq-had.Messages[0].Seq], r.Messages...)
				}
				return cmp.Or(err, under.Fill(ctx, room, r))
			}}
		})},
		{"filling with newer drops what follows", "filling with newer replaces what is older", breaks(func(under *marked) cache {
			return cache{fill: func(ctx context.Context, room string, r chat.Recent) error {
				if err := under.Change(ctx, chat.Message{Room: room, Seq: nowhere, Rev: r.Rev}); err != nil {
					return err
				}
				return under.Fill(ctx, room, r)
			}}
		})},
		{"what does not connect stays", "filling with newer never makes a hole", breaks(func(under *marked) cache {
			return cache{fill: func(ctx context.Context, room string, r chat.Recent) error {
				had, held, err := under.Get(ctx, room)
				if err == nil {
					err = under.Fill(ctx, room, r)
				}
				if _, still, _ := under.Get(ctx, room); err == nil && held && !still {
					return under.Fill(ctx, room, chat.Recent{Messages: had.Messages, Rev: r.Rev})
				}
				return err
			}}
		})},
		{"reactions are not held", "changed messages are held whole", breaks(func(under *marked) cache {
			without := edits(func(m *chat.Message) { m.Reactions = nil })
			return cache{change: func(ctx context.Context, all ...chat.Message) error { return under.Change(ctx, without(all)...) }}
		})},
		{"when a message was edited is not held", "changed messages are held whole", breaks(func(under *marked) cache {
			without := edits(func(m *chat.Message) { m.EditedAt = time.Time{} })
			return cache{add: func(ctx context.Context, all ...chat.Message) error { return under.Add(ctx, without(all)...) }}
		})},
		{"filling forgets that a message was deleted", "changed messages are held whole", breaks(func(under *marked) cache {
			without := edits(func(m *chat.Message) { m.DeletedAt = time.Time{} })
			return cache{fill: func(ctx context.Context, room string, r chat.Recent) error {
				return under.Fill(ctx, room, chat.Recent{Messages: without(r.Messages), Rev: r.Rev})
			}}
		})},
		{"the Rev is ahead of the messages", "readers never miss a change", breaks(func(under *marked) cache {
			return cache{get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
				r, held, err := under.Get(ctx, room)
				r.Rev++
				return r, held, err
			}}
		})},
		{"reactions are shared", "changed messages are copies", breaks(func(under *marked) cache {
			var mu sync.Mutex
			kept := map[string][]chat.Reaction{}
			return cache{get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
				r, held, err := under.Get(ctx, room)
				mu.Lock()
				defer mu.Unlock()
				for i, m := range r.Messages {
					name := fmt.Sprint(room, m.Seq, "/", m.Rev)
					if kept[name] == nil {
						kept[name] = m.Reactions
					}
					r.Messages[i].Reactions = kept[name]
				}
				return r, held, err
			}}
		})},
	}
}
