package contract_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// markFaults are stores that go wrong about what is read.
func markFaults() []broken[contract.Reading] {
	marking := func(f func(p contract.Reading, ctx context.Context, moved []chat.Mark) ([]chat.Marked, error)) func(contract.Reading) contract.Reading {
		return func(p contract.Reading) contract.Reading {
			under := p
			p.Marks = marks{Marks: under.Marks, mark: func(ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
				return f(under, ctx, slices.Clone(moved))
			}}
			return p
		}
	}
	answers := func(edit func(m chat.Mark, got *chat.Marked)) func(contract.Reading) contract.Reading {
		return marking(func(p contract.Reading, ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
			got, err := p.Marks.Mark(ctx, moved)
			for i := range got {
				edit(moved[i], &got[i])
			}
			return got, err
		})
	}
	listing := func(f func(p contract.Reading, ctx context.Context, id user.ID, behind chat.Place, limit int) ([]chat.MyRoom, error)) func(contract.Reading) contract.Reading {
		return func(p contract.Reading) contract.Reading {
			under := p
			p.Marks = marks{Marks: under.Marks, mine: func(ctx context.Context, id user.ID, behind chat.Place, limit int) ([]chat.MyRoom, error) {
				return f(under, ctx, id, behind, limit)
			}}
			return p
		}
	}
	lists := func(edit func(r *chat.MyRoom)) func(contract.Reading) contract.Reading {
		return listing(func(p contract.Reading, ctx context.Context, id user.ID, behind chat.Place, limit int) ([]chat.MyRoom, error) {
			got, err := p.Marks.Mine(ctx, id, behind, limit)
			for i := range got {
				edit(&got[i])
			}
			return got, err
		})
	}
	adding := func(f func(p contract.Reading, ctx context.Context, all []chat.Membership) ([]chat.Membership, error)) func(contract.Reading) contract.Reading {
		return func(p contract.Reading) contract.Reading {
			under := p
			p.Members = members{Members: under.Members, add: func(ctx context.Context, all ...chat.Membership) ([]chat.Membership, error) {
				return f(under, ctx, all)
			}}
			return p
		}
	}
	// lagging answers with another mark than there is.
	lagging := func(lags func(m chat.Mark, read uint64) uint64) func(contract.Reading) contract.Reading {
		return answers(func(m chat.Mark, got *chat.Marked) {
			if got.Err == nil {
				read := lags(m, got.Read)
				got.Unread += got.Read - read
				got.Read = read
			}
		})
	}
	return []broken[contract.Reading]{
		{"marks do not move", "a mark moves", marking(func(p contract.Reading, ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
			for i := range moved {
				moved[i].Read = 0
			}
			return p.Marks.Mark(ctx, moved)
		})},
		{"the message itself counts", "a mark moves", answers(func(m chat.Mark, got *chat.Marked) {
			if m.Read > 0 && got.Err == nil {
				got.Unread++
			}
		})},
		{"all marks of a room are one", "a mark moves", marking(func(p contract.Reading, ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
			for i := range moved {
				if moved[i].User.ID == "user-3" {
					moved[i].User.ID = "user-2"
				}
			}
			return p.Marks.Mark(ctx, moved)
		})},
		{"the last mark counts", "a mark never goes back", lagging(func(m chat.Mark, read uint64) uint64 {
			if m.Read > 0 && m.Read < read {
				return m.Read
			}
			return read
		})},
		{"a repetition moves again", "a mark never goes back", answers(func(m chat.Mark, got *chat.Marked) { got.Moved = m.Read == got.Read })},
		{"a mark may be ahead", "no mark is behind the last message", answers(func(m chat.Mark, got *chat.Marked) {
			if got.Err == nil && m.Read > got.Read {
				got.Read = m.Read
			}
		})},
		{"a mark that is ahead is ignored", "no mark is behind the last message", marking(func(p contract.Reading, ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
			for i := range moved {
				if moved[i].Read > 100 {
					moved[i].Read = 0
				}
			}
			return p.Marks.Mark(ctx, moved)
		})},
		{"everybody marks", "only members mark", answers(func(_ chat.Mark, got *chat.Marked) { got.Err = nil })},
		{"who marks becomes a member", "only members mark", marking(func(p contract.Reading, ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
			for _, m := range moved {
				if _, err := p.Members.Add(ctx, chat.Membership{Room: m.Room, UserID: m.User.ID}); err != nil {
					return nil, err
				}
			}
			return p.Marks.Mark(ctx, moved)
		})},
		{"one refusal is for all", "several marks in one call", marking(func(p contract.Reading, ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
			got, err := p.Marks.Mark(ctx, moved)
			if i := slices.IndexFunc(got, func(m chat.Marked) bool { return m.Err != nil }); i >= 0 {
				return nil, got[i].Err
			}
			return got, err
		})},
		{"answers come in the order of rooms", "several marks in one call", marking(func(p contract.Reading, ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
			slices.SortStableFunc(moved, func(a, b chat.Mark) int { return strings.Compare(a.Room, b.Room) })
			return p.Marks.Mark(ctx, moved)
		})},
		{"no marks are an error", "marking nothing is no error", marking(func(p contract.Reading, ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
			if len(moved) == 0 {
				return nil, errOops
			}
			return p.Marks.Mark(ctx, moved)
		})},
		{"a newcomer has read nothing", "a newcomer has read what was there", adding(func(p contract.Reading, ctx context.Context, all []chat.Membership) ([]chat.Membership, error) {
			got, err := p.Members.Add(ctx, all...)
			for i := range got {
				got[i].Read = 0
			}
			return got, err
		})},
		{"the mark outlives the membership", "whoever comes back is a newcomer", func() func(contract.Reading) contract.Reading {
			var mu sync.Mutex
			first := map[string]uint64{}
			return lagging(func(m chat.Mark, read uint64) uint64 {
				mu.Lock()
				defer mu.Unlock()
				if first[m.Room] == 0 {
					first[m.Room] = read
				}
				return min(read, first[m.Room])
			})
		}()},
		{"joining again marks all", "joining again leaves the mark", adding(func(p contract.Reading, ctx context.Context, all []chat.Membership) ([]chat.Membership, error) {
			got, err := p.Members.Add(ctx, all...)
			for i := range got {
				got[i].Read = 6
			}
			return got, err
		})},
		{"what was given is returned", "joining again leaves the mark", adding(func(p contract.Reading, ctx context.Context, all []chat.Membership) ([]chat.Membership, error) {
			if _, err := p.Members.Add(ctx, all...); err != nil {
				return nil, err
			}
			return all, nil
		})},
		{"what one sends is unread", "what one sends is read", lagging(func(m chat.Mark, read uint64) uint64 {
			if m.User.ID == "user-2" && m.Read == 0 {
				return 0
			}
			return read
		})},
		{"to send is to join", "who sends without being a member is none", func(p contract.Reading) contract.Reading {
			under := p
			p.Messages = messages{MessageStore: under.Messages, append: func(ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
				for _, m := range batch {
					if _, err := under.Members.Add(ctx, chat.Membership{Room: m.Room, UserID: m.Author.ID}); err != nil {
						return nil, err
					}
				}
				return under.Messages.Append(ctx, batch)
			}}
			return p
		}},
		{"deleted messages count", "what is deleted is not unread", func(p contract.Reading) contract.Reading {
			last := map[string]uint64{}
			under := p
			p.Messages = messages{MessageStore: under.Messages, append: func(ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
				got, err := under.Messages.Append(ctx, batch)
				for _, m := range got {
					last[m.Room] = m.Seq
				}
				return got, err
			}}
			p.Marks = marks{Marks: under.Marks, mark: func(ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
				got, err := under.Marks.Mark(ctx, moved)
				for i := range got {
					got[i].Unread = last[moved[i].Room] - got[i].Read
				}
				return got, err
			}}
			return p
		}},
		{"a message that is deleted twice counts twice", "what is deleted is not unread", func() func(contract.Reading) contract.Reading {
			less := uint64(0)
			return func(p contract.Reading) contract.Reading {
				under := p
				p.Messages = messages{MessageStore: under.Messages, change: func(ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
					got, err := under.Messages.Change(ctx, changes)
					for _, c := range got {
						if c.Repeated {
							less++
						}
					}
					return got, err
				}}
				p.Marks = marks{Marks: under.Marks, mark: func(ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
					got, err := under.Marks.Mark(ctx, moved)
					for i := range got {
						got[i].Unread -= min(got[i].Unread, less)
					}
					return got, err
				}}
				return p
			}
		}()},
		{"a membership tells what was read when it began", "memberships tell what is read", func(p contract.Reading) contract.Reading {
			under := p
			p.Members = members{Members: under.Members, roomsOf: func(ctx context.Context, id user.ID, after string, limit int) ([]chat.Membership, error) {
				all, err := under.Members.RoomsOf(ctx, id, after, limit)
				for i := range all {
					all[i].Read = 0
				}
				return all, err
			}}
			return p
		}},
		{"a quiet room is left out", "a room has its last message and its numbers", listing(func(p contract.Reading, ctx context.Context, id user.ID, behind chat.Place, limit int) ([]chat.MyRoom, error) {
			got, err := p.Marks.Mine(ctx, id, behind, limit)
			return slices.DeleteFunc(got, func(r chat.MyRoom) bool { return r.Seq == 0 }), err
		})},
		{"reactions are lost", "a room has its last message and its numbers", lists(func(r *chat.MyRoom) { r.Last.Reactions = nil })},
		{"a deleted last message is none", "a room has its last message and its numbers", lists(func(r *chat.MyRoom) {
			if !r.Last.DeletedAt.IsZero() {
				r.Last = chat.Message{}
			}
		})},
		{"a quiet room was never active", "rooms come by when they were active", lists(func(r *chat.MyRoom) {
			if r.Seq == 0 {
				r.Active = r.Active.AddDate(-100, 0, 0)
			}
		})},
		{"rooms of one moment come in any order", "rooms come by when they were active", listing(func(p contract.Reading, ctx context.Context, id user.ID, behind chat.Place, limit int) ([]chat.MyRoom, error) {
			got, err := p.Marks.Mine(ctx, id, behind, limit)
			for i := 1; i < len(got); i++ {
				if got[i-1].Active.Equal(got[i].Active) {
					got[i-1], got[i] = got[i], got[i-1]
				}
			}
			return got, err
		})},
		{"a place is a time alone", "rooms come page by page", listing(func(p contract.Reading, ctx context.Context, id user.ID, behind chat.Place, limit int) ([]chat.MyRoom, error) {
			if behind.Room != "" {
				behind.Room = "\U0010ffff"
			}
			return p.Marks.Mine(ctx, id, behind, limit)
		})},
		{"the limit is ignored", "rooms come page by page", listing(func(p contract.Reading, ctx context.Context, id user.ID, behind chat.Place, _ int) ([]chat.MyRoom, error) {
			return p.Marks.Mine(ctx, id, behind, 1000)
		})},
		{"rooms that were left stay", "rooms of others are not mine", func() func(contract.Reading) contract.Reading {
			return func(p contract.Reading) contract.Reading {
				under := p
				p.Members = members{Members: under.Members, remove: func(context.Context, string, user.ID) error { return nil }}
				return p
			}
		}()},
		{"users are folded", "rooms and users are exact", marking(func(p contract.Reading, ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
			for i := range moved {
				moved[i].User.ID = user.ID(lower(string(moved[i].User.ID)))
			}
			return p.Marks.Mark(ctx, moved)
		})},
		{"an ended context is ignored", "a call that fails moves nothing", marking(func(p contract.Reading, ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
			return p.Marks.Mark(context.WithoutCancel(ctx), moved)
		})},
		{"the last one who writes wins", "concurrent marks end at the highest", func() func(contract.Reading) contract.Reading {
			var mu sync.Mutex
			written := map[user.ID]uint64{}
			return lagging(func(m chat.Mark, read uint64) uint64 {
				if m.Read > 0 {
					time.Sleep(100*time.Millisecond - time.Duration(m.Read)*time.Millisecond) // the lower, the later
				}
				mu.Lock()
				defer mu.Unlock()
				if m.Read > 0 {
					written[m.User.ID] = m.Read
				}
				return written[m.User.ID]
			})
		}()},
		{"what is sent is marked later", "marks and messages at once", func() func(contract.Reading) contract.Reading {
			var mu sync.Mutex
			asked := map[chat.Mark]uint64{}
			return lagging(func(m chat.Mark, read uint64) uint64 {
				mu.Lock()
				defer mu.Unlock()
				before := asked[m]
				asked[m] = read
				return min(before, read)
			})
		}()},
		{"leaving and coming back is not noticed", "unread is exact after random steps", func() func(contract.Reading) contract.Reading {
			return func(p contract.Reading) contract.Reading {
				under := p
				p.Members = members{Members: under.Members, add: func(ctx context.Context, all ...chat.Membership) ([]chat.Membership, error) {
					got, err := under.Members.Add(ctx, all...)
					for i := range got {
						got[i].Read = 0
					}
					return got, err
				}}
				return p
			}
		}()},
	}
}
