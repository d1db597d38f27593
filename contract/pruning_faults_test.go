package contract_test

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

func openPruning() contract.Pruning {
	s := memory.NewStore()
	return contract.Pruning{Pruner: s.Pruner, Messages: s.Messages, Members: s.Members, Marks: s.Members, Rooms: s.Rooms, Restrictions: s.Restrictions}
}

// pruner is a chat.Pruner with methods replaced.
type pruner struct {
	chat.Pruner
	aged  func(context.Context, string, time.Time, int) (uint64, int, error)
	prune func(context.Context, string, uint64) (int, error)
	drop  func(context.Context, string, int) (bool, error)
}

func (p pruner) Drop(ctx context.Context, room string, limit int) (bool, error) {
	if p.drop == nil {
		return p.Pruner.Drop(ctx, room, limit)
	}
	return p.drop(ctx, room, limit)
}

func (p pruner) Aged(ctx context.Context, room string, before time.Time, limit int) (uint64, int, error) {
	if p.aged == nil {
		return p.Pruner.Aged(ctx, room, before, limit)
	}
	return p.aged(ctx, room, before, limit)
}

func (p pruner) Prune(ctx context.Context, room string, first uint64) (int, error) {
	if p.prune == nil {
		return p.Pruner.Prune(ctx, room, first)
	}
	return p.prune(ctx, room, first)
}

// prunerFaults are stores that go wrong where messages are removed.
func prunerFaults() []broken[contract.Pruning] {
	ages := func(f func(p chat.Pruner, ctx context.Context, room string, before time.Time, limit int) (uint64, int, error)) func(contract.Pruning) contract.Pruning {
		return func(p contract.Pruning) contract.Pruning {
			under := p.Pruner
			p.Pruner = pruner{Pruner: under, aged: func(ctx context.Context, room string, before time.Time, limit int) (uint64, int, error) {
				return f(under, ctx, room, before, limit)
			}}
			return p
		}
	}
	prunes := func(f func(under contract.Pruning, ctx context.Context, room string, first uint64) (int, error)) func(contract.Pruning) contract.Pruning {
		return func(p contract.Pruning) contract.Pruning {
			under := p
			p.Pruner = pruner{Pruner: under.Pruner, prune: func(ctx context.Context, room string, first uint64) (int, error) {
				return f(under, ctx, room, first)
			}}
			return p
		}
	}
	leaves := func(f func(under contract.Pruning, ctx context.Context, room string, limit int) (bool, error)) func(contract.Pruning) contract.Pruning {
		return func(p contract.Pruning) contract.Pruning {
			under := p
			p.Pruner = pruner{Pruner: under.Pruner, drop: func(ctx context.Context, room string, limit int) (bool, error) {
				return f(under, ctx, room, limit)
			}}
			return p
		}
	}
	// before is what is stored before a sequence.
	before := func(p contract.Pruning, ctx context.Context, room string, first uint64) []chat.Message {
		all, _ := p.Messages.List(ctx, room, chat.Range{Before: max(first, 1), Limit: 1000})
		return all
	}
	hides := func(f func(all []chat.Message) []chat.Message) func(contract.Pruning) contract.Pruning {
		return func(p contract.Pruning) contract.Pruning {
			under := p.Messages
			p.Messages = messages{MessageStore: under, list: func(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
				all, err := under.List(ctx, room, r)
				return f(all), err
			}}
			return p
		}
	}
	return []broken[contract.Pruning]{
		{"what is as old as the time counts", "old messages are counted", ages(func(p chat.Pruner, ctx context.Context, room string, before time.Time, limit int) (uint64, int, error) {
			return p.Aged(ctx, room, before.Add(time.Microsecond), limit)
		})},
		{"the limit of the count is ignored", "old messages are counted", ages(func(p chat.Pruner, ctx context.Context, room string, before time.Time, _ int) (uint64, int, error) {
			return p.Aged(ctx, room, before, 1000)
		})},
		{"the sequence is that of the last old message", "old messages are counted", ages(func(p chat.Pruner, ctx context.Context, room string, before time.Time, limit int) (uint64, int, error) {
			first, n, err := p.Aged(ctx, room, before, limit)
			return first - min(uint64(n), 1), n, err
		})},
		{"old messages behind a young one count", "what is young ends the count", func(p contract.Pruning) contract.Pruning {
			under := p
			p.Pruner = pruner{Pruner: under.Pruner, aged: func(ctx context.Context, room string, before time.Time, limit int) (first uint64, n int, err error) {
				all, err := under.Messages.List(ctx, room, chat.Range{Limit: limit})
				for _, m := range all {
					if m.At.Before(before) {
						first, n = m.Seq+1, n+1
					}
				}
				return first, n, err
			}}
			return p
		}},
		{"a limit of nothing is none", "an unknown room has no old messages", ages(func(p chat.Pruner, ctx context.Context, room string, before time.Time, limit int) (uint64, int, error) {
			if limit < 1 {
				limit = 1000
			}
			return p.Aged(ctx, room, before, limit)
		})},
		{"one message too many is removed", "the first messages are removed", prunes(func(p contract.Pruning, ctx context.Context, room string, first uint64) (int, error) {
			return p.Pruner.Prune(ctx, room, first+1)
		})},
		{"nothing is removed", "the first messages are removed", prunes(func(p contract.Pruning, ctx context.Context, room string, first uint64) (int, error) {
			return len(before(p, ctx, room, first)), nil
		})},
		{"the count is that of the sequence", "the first messages are removed", prunes(func(p contract.Pruning, ctx context.Context, room string, first uint64) (int, error) {
			_, err := p.Pruner.Prune(ctx, room, first)
			return int(max(first, 1)) - 1, err
		})},
		{"the counter follows the last message", "no number comes twice", func(p contract.Pruning) contract.Pruning {
			under := p.Messages
			p.Messages = messages{MessageStore: under, append: func(ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
				all, _ := under.List(ctx, batch[0].Room, chat.Range{Limit: 1000})
				got, err := under.Append(ctx, batch)
				if len(all) == 0 {
					for i := range got {
						got[i].Seq = uint64(i + 1)
					}
				}
				return got, err
			}}
			return p
		}},
		{"the Rev is that of the changes that are left", "no number comes twice", func(p contract.Pruning) contract.Pruning {
			under := p.Messages
			p.Messages = messages{MessageStore: under, bounds: func(ctx context.Context, room string) (chat.Bounds, error) {
				b, err := under.Bounds(ctx, room)
				if all, _ := under.List(ctx, room, chat.Range{Changed: true, Limit: 1000}); len(all) == 0 {
					b.Rev = 0
				}
				return b, err
			}}
			return p
		}},
		{"the last message stays", "all messages are removed", prunes(func(p contract.Pruning, ctx context.Context, room string, first uint64) (int, error) {
			b, err := p.Messages.Bounds(ctx, room)
			if err != nil {
				return 0, err
			}
			return p.Pruner.Prune(ctx, room, min(first, b.Last))
		})},
		{"a room without messages begins at 1", "all messages are removed", func(p contract.Pruning) contract.Pruning {
			under := p.Messages
			p.Messages = messages{MessageStore: under, bounds: func(ctx context.Context, room string) (chat.Bounds, error) {
				b, err := under.Bounds(ctx, room)
				if b.First > b.Last {
					b.First = 1
				}
				return b, err
			}}
			return p
		}},
		{"rooms are folded", "other rooms stay", prunes(func(p contract.Pruning, ctx context.Context, room string, first uint64) (int, error) {
			return p.Pruner.Prune(ctx, lower(room), first)
		})},
		{"changes of what is gone are told", "changes go with their messages", func(p contract.Pruning) contract.Pruning {
			under := p
			var removed []chat.Message
			p.Pruner = pruner{Pruner: under.Pruner, prune: func(ctx context.Context, room string, first uint64) (int, error) {
				removed = append(removed, before(under, ctx, room, first)...)
				return under.Pruner.Prune(ctx, room, first)
			}}
			p.Messages = messages{MessageStore: under.Messages, list: func(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
				all, err := under.Messages.List(ctx, room, r)
				if r.Changed {
					all = append(slices.Clone(removed), all...)
				}
				return all, err
			}}
			return p
		}},
		{"what is gone can be changed", "changes go with their messages", func(p contract.Pruning) contract.Pruning {
			under := p.Messages
			p.Messages = messages{MessageStore: under, change: func(ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
				got, err := under.Change(ctx, changes)
				for i := range got {
					got[i].Err = nil
				}
				return got, err
			}}
			return p
		}},
		{"what is left loses its Rev", "changes go with their messages", func(p contract.Pruning) contract.Pruning {
			cut := false
			under := p
			p.Pruner = pruner{Pruner: under.Pruner, prune: func(ctx context.Context, room string, first uint64) (int, error) {
				cut = true
				return under.Pruner.Prune(ctx, room, first)
			}}
			p.Messages = messages{MessageStore: under.Messages, list: func(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
				all, err := under.Messages.List(ctx, room, r)
				for i := range all {
					if cut {
						all[i].Rev = 0
					}
				}
				return all, err
			}}
			return p
		}},
		{"all reactions go", "reactions that come again are new", func(p contract.Pruning) contract.Pruning {
			under := p
			p.Pruner = pruner{Pruner: under.Pruner, prune: func(ctx context.Context, room string, first uint64) (int, error) {
				_, _ = under.Messages.Change(ctx, []chat.Change{{Kind: chat.Unreact, Room: room, Seq: first, By: chat.Author{ID: "user-2"}, Key: "👍"}})
				return under.Pruner.Prune(ctx, room, first)
			}}
			return p
		}},
		{"client ids are never forgotten", "a client id may come again", func(p contract.Pruning) contract.Pruning {
			under := p
			var removed []chat.Message
			p.Pruner = pruner{Pruner: under.Pruner, prune: func(ctx context.Context, room string, first uint64) (int, error) {
				removed = append(removed, before(under, ctx, room, first)...)
				return under.Pruner.Prune(ctx, room, first)
			}}
			p.Messages = messages{MessageStore: under.Messages, append: func(ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
				got, err := under.Messages.Append(ctx, batch)
				for i := range got {
					for _, m := range removed {
						if m.ClientID == batch[i].ClientID {
							got[i] = chat.Stored{Message: m, Repeated: true}
						}
					}
				}
				return got, err
			}}
			return p
		}},
		{"what was sent is read as long as it is stored", "what is read stays read", func(p contract.Pruning) contract.Pruning {
			under := p
			p.Marks = marks{Marks: under.Marks, mark: func(ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
				got, err := under.Marks.Mark(ctx, moved)
				for i := range got {
					if b, _ := under.Messages.Bounds(ctx, moved[i].Room); b.First > b.Last && moved[i].User.ID == user.ID("user-1") && moved[i].Read == 0 {
						got[i].Read = 0
					}
				}
				return got, err
			}}
			return p
		}},
		{"unread is counted from the sequence", "what is removed is not unread", func(p contract.Pruning) contract.Pruning {
			under := p
			p.Marks = marks{Marks: under.Marks, mark: func(ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
				got, err := under.Marks.Mark(ctx, moved)
				for i := range got {
					if b, _ := under.Messages.Bounds(ctx, moved[i].Room); b.First > 1 {
						got[i].Unread = b.Last - got[i].Read
					}
				}
				return got, err
			}}
			return p
		}},
		{"deletions of what is gone count", "what is removed is not unread", func(p contract.Pruning) contract.Pruning {
			under := p
			p.Marks = marks{Marks: under.Marks, mark: func(ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
				got, err := under.Marks.Mark(ctx, moved)
				for i := range got {
					if b, _ := under.Messages.Bounds(ctx, moved[i].Room); b.First == 3 {
						got[i].Unread--
					}
				}
				return got, err
			}}
			return p
		}},
		{"the last message outlives its removal", "a room without messages has no last one", func(p contract.Pruning) contract.Pruning {
			under := p
			p.Marks = marks{Marks: under.Marks, mine: func(ctx context.Context, id user.ID, behind chat.Place, limit int) ([]chat.MyRoom, error) {
				got, err := under.Marks.Mine(ctx, id, behind, limit)
				for i := range got {
					if got[i].Last.Seq == 0 {
						got[i].Last = chat.Message{Room: got[i].Room, Seq: got[i].Seq}
					}
				}
				return got, err
			}}
			return p
		}},
		{"an ended context is ignored", "a call that fails leaves no gap", prunes(func(p contract.Pruning, ctx context.Context, room string, first uint64) (int, error) {
			return p.Pruner.Prune(context.WithoutCancel(ctx), room, first)
		})},
		{"the last of the first ones go first", "a call that fails leaves no gap", func(p contract.Pruning) contract.Pruning {
			under := p
			var half []uint64
			p.Pruner = pruner{Pruner: under.Pruner, prune: func(ctx context.Context, room string, first uint64) (int, error) {
				if ctx.Err() != nil {
					half = append(half, first-1)
				}
				return under.Pruner.Prune(ctx, room, first)
			}}
			p.Messages = messages{MessageStore: under.Messages, list: func(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
				all, err := under.Messages.List(ctx, room, r)
				return slices.DeleteFunc(all, func(m chat.Message) bool { return slices.Contains(half, m.Seq) }), err
			}}
			return p
		}},
		{"readers see half of a removal", "calls at once leave no gap", func() func(contract.Pruning) contract.Pruning {
			var mu sync.Mutex
			n := 0
			return hides(func(all []chat.Message) []chat.Message {
				mu.Lock()
				defer mu.Unlock()
				if n++; n%7 == 6 && len(all) > 2 {
					return slices.Delete(slices.Clone(all), 1, 2)
				}
				return all
			})
		}()},
		{"the first message goes back", "calls at once leave no gap", func(p contract.Pruning) contract.Pruning {
			under := p.Messages
			n := 0
			var mu sync.Mutex
			p.Messages = messages{MessageStore: under, bounds: func(ctx context.Context, room string) (chat.Bounds, error) {
				b, err := under.Bounds(ctx, room)
				mu.Lock()
				defer mu.Unlock()
				if n++; n%5 == 0 && b.First > 1 {
					b.First = 1
				}
				return b, err
			}}
			return p
		}},
		{"a room is removed at once", "a room is removed in parts", leaves(func(p contract.Pruning, ctx context.Context, room string, _ int) (bool, error) {
			return p.Pruner.Drop(ctx, room, 1000)
		})},
		{"the room goes first", "a room is removed in parts", func(p contract.Pruning) contract.Pruning {
			under, gone := p, false
			p.Pruner = pruner{Pruner: under.Pruner, drop: func(ctx context.Context, room string, limit int) (bool, error) {
				gone = true
				return under.Pruner.Drop(ctx, room, limit)
			}}
			p.Rooms = rooms{Rooms: under.Rooms, byName: func(ctx context.Context, name string) (chat.Room, error) {
				if gone {
					return chat.Room{}, chat.ErrRoomNotFound
				}
				return under.Rooms.ByName(ctx, name)
			}}
			return p
		}},
		{"nothing is said to be left", "a room is removed in parts", leaves(func(p contract.Pruning, ctx context.Context, room string, limit int) (bool, error) {
			_, err := p.Pruner.Drop(ctx, room, limit)
			return false, err
		})},
		{"memberships go first", "a room is removed in parts", leaves(func(p contract.Pruning, ctx context.Context, room string, limit int) (bool, error) {
			if is, _ := p.Members.Has(ctx, room, "user-0"); is {
				return true, p.Members.Remove(ctx, room, "user-0")
			}
			return p.Pruner.Drop(ctx, room, limit)
		})},
		{"bans outlive their room", "nothing of a removed room is stored", leaves(func(p contract.Pruning, ctx context.Context, room string, limit int) (bool, error) {
			left, err := p.Pruner.Drop(ctx, room, limit)
			if err == nil && !left {
				_, err = p.Restrictions.Put(ctx, chat.Restriction{Room: room, UserID: "user-0", Kind: chat.Ban, At: time.Unix(1, 0)}, nil)
			}
			return left, err
		})},
		{"another room loses a member", "nothing of a removed room is stored", leaves(func(p contract.Pruning, ctx context.Context, room string, limit int) (bool, error) {
			_ = p.Members.Remove(ctx, "other", "user-2")
			return p.Pruner.Drop(ctx, room, limit)
		})},
		{"the counters stay", "a room of that name begins anew", leaves(func(p contract.Pruning, ctx context.Context, room string, limit int) (bool, error) {
			left, err := p.Pruner.Drop(ctx, room, limit)
			if err == nil && !left {
				_, err = p.Messages.Append(ctx, []chat.Message{{Room: room, ID: "i", Text: "x"}})
			}
			return left, err
		})},
		{"rooms are folded in a removal", "an unknown room has nothing left", leaves(func(p contract.Pruning, ctx context.Context, room string, limit int) (bool, error) {
			return p.Pruner.Drop(ctx, lower(room), limit)
		})},
		{"a room without messages is said to have something left", "a room of which all messages were removed is removed", leaves(func(p contract.Pruning, ctx context.Context, room string, limit int) (bool, error) {
			b, err := p.Messages.Bounds(ctx, room)
			if err != nil || b.First > b.Last && b.Last > 0 {
				return true, err
			}
			return p.Pruner.Drop(ctx, room, limit)
		})},
		{"the count is wrong now and then", "all is exact after random steps", func(p contract.Pruning) contract.Pruning {
			under := p
			p.Marks = marks{Marks: under.Marks, mark: func(ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
				got, err := under.Marks.Mark(ctx, moved)
				for i := range got {
					if b, _ := under.Messages.Bounds(ctx, moved[i].Room); b.First > 5 && got[i].Unread > 2 {
						got[i].Unread++
					}
				}
				return got, err
			}}
			return p
		}},
	}
}

// firstFaults are caches that serve what was removed.
func firstFaults() []broken[chat.RecentCache] {
	fills := func(f func(under chat.RecentCache, ctx context.Context, room string, r chat.Recent) error) func(chat.RecentCache) chat.RecentCache {
		return func(under chat.RecentCache) chat.RecentCache {
			return cache{RecentCache: under, fill: func(ctx context.Context, room string, r chat.Recent) error { return f(under, ctx, room, r) }}
		}
	}
	return []broken[chat.RecentCache]{
		{"the First is ignored", "what was removed is not held", fills(func(under chat.RecentCache, ctx context.Context, room string, r chat.Recent) error {
			if len(r.Messages) == 0 && r.First > 1 {
				return nil
			}
			return under.Fill(ctx, room, r)
		})},
		{"a First of an older Rev is ignored", "what was removed is not held", fills(func(under chat.RecentCache, ctx context.Context, room string, r chat.Recent) error {
			if held, _, err := under.Get(ctx, room); err != nil || held.Rev > r.Rev {
				return err
			}
			return under.Fill(ctx, room, r)
		})},
		{"the First is not remembered", "filling brings nothing back", func(under chat.RecentCache) chat.RecentCache {
			return cache{RecentCache: under, fill: func(ctx context.Context, room string, r chat.Recent) error {
				return under.Fill(ctx, room, r)
			}, get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
				r, held, err := under.Get(ctx, room)
				r.First = 0
				return r, held, err
			}}
		}},
		{"what was read before is taken", "filling brings nothing back", func(under chat.RecentCache) chat.RecentCache {
			back := map[string][]chat.Message{}
			return cache{RecentCache: under, fill: func(ctx context.Context, room string, r chat.Recent) error {
				held, _, _ := under.Get(ctx, room)
				for _, m := range r.Messages {
					if m.Seq < held.First {
						back[room] = append(back[room], m)
					}
				}
				return under.Fill(ctx, room, r)
			}, get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
				r, held, err := under.Get(ctx, room)
				r.Messages = append(slices.Clone(back[room]), r.Messages...)
				return r, held, err
			}}
		}},
		{"adding takes what was removed", "adding brings nothing back", func(under chat.RecentCache) chat.RecentCache {
			back := map[string][]chat.Message{}
			return cache{RecentCache: under, add: func(ctx context.Context, all ...chat.Message) error {
				for _, m := range all {
					if r, _, _ := under.Get(ctx, m.Room); m.Seq < max(r.First, 4) {
						back[m.Room] = append(back[m.Room], m)
					}
				}
				return under.Add(ctx, all...)
			}, get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
				r, held, err := under.Get(ctx, room)
				if len(r.Messages) == 0 {
					r.Messages, held = back[room], len(back[room]) > 0
				}
				return r, held, err
			}}
		}},
		{"a room of which all is gone is held as empty", "a room of which all was removed is not held", func(under chat.RecentCache) chat.RecentCache {
			known := map[string]bool{}
			return cache{RecentCache: under, fill: func(ctx context.Context, room string, r chat.Recent) error {
				known[room] = true
				return under.Fill(ctx, room, r)
			}, get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
				r, held, err := under.Get(ctx, room)
				return r, held || known[room], err
			}}
		}},
		{"the Rev of a room that is gone is remembered", "nothing of a room that is gone is remembered", fills(func(under chat.RecentCache, ctx context.Context, room string, r chat.Recent) error {
			rev := uint64(0)
			if r.First == chat.Gone {
				held, _, _ := under.Get(ctx, room)
				rev = held.Rev
			}
			err := under.Fill(ctx, room, r)
			if err == nil && rev > 0 {
				err = under.Fill(ctx, room, chat.Recent{Rev: rev})
			}
			return err
		})},
		{"a room that is gone is held", "nothing of a room that is gone is remembered", fills(func(under chat.RecentCache, ctx context.Context, room string, r chat.Recent) error {
			if r.First == chat.Gone {
				return nil
			}
			return under.Fill(ctx, room, r)
		})},
		{"a change brings its message back", "changes come to what is left", func(under chat.RecentCache) chat.RecentCache {
			var back []chat.Message
			return cache{RecentCache: under, change: func(ctx context.Context, all ...chat.Message) error {
				for _, m := range all {
					if r, _, _ := under.Get(ctx, m.Room); m.Seq < r.First {
						back = append(back, m)
					}
				}
				return under.Change(ctx, all...)
			}, get: func(ctx context.Context, room string) (chat.Recent, bool, error) {
				r, held, err := under.Get(ctx, room)
				r.Messages = append(slices.Clone(back), r.Messages...)
				return r, held, err
			}}
		}},
	}
}
