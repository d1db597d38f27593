package contract_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

func presenceFaults() []broken[realtime.Presence] {
	breaks := func(f func(p realtime.Presence) presence) func(realtime.Presence) realtime.Presence {
		return func(under realtime.Presence) realtime.Presence {
			p := f(under)
			p.Presence = under
			return p
		}
	}
	lists := func(f func(p realtime.Presence, ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error)) func(realtime.Presence) realtime.Presence {
		return breaks(func(under realtime.Presence) presence {
			return presence{list: func(ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
				return f(under, ctx, now, room, limit)
			}}
		})
	}
	renews := func(f func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error)) func(realtime.Presence) realtime.Presence {
		return breaks(func(under realtime.Presence) presence {
			return presence{renew: func(ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) { return f(under, ctx, r) }}
		})
	}
	return []broken[realtime.Presence]{
		{"everybody is the first", "the first node to have a user is told", breaks(func(under realtime.Presence) presence {
			return presence{enter: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
				_, err := under.Enter(ctx, now, node, room, who)
				return true, err
			}}
		})},
		{"several are the first", "one of several enters is the first", breaks(func(under realtime.Presence) presence {
			return presence{enter: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
				_, n, err := under.List(ctx, now, room, 1)
				if err != nil {
					return false, err
				}
				time.Sleep(time.Millisecond) // in the bubble's time
				_, err = under.Enter(ctx, now, node, room, who)
				return n == 0, err
			}}
		})},
		{"everybody is the last", "the last node to lose a user is told", breaks(func(under realtime.Presence) presence {
			return presence{exit: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
				_, err := under.Exit(ctx, now, node, room, who)
				return true, err
			}}
		})},
		{"nobody is the last", "one of several exits is the last", breaks(func(under realtime.Presence) presence {
			return presence{exit: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
				_, err := under.Exit(ctx, now, node, room, who)
				return false, err
			}}
		})},
		{"an exit leaves every node", "the last node to lose a user is told", breaks(func(under realtime.Presence) presence {
			return presence{exit: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
				last := false
				for _, n := range []string{"a", "b", "c"} {
					l, err := under.Exit(ctx, now, n, room, who)
					if err != nil {
						return false, err
					}
					last = last || l
				}
				return last, nil
			}}
		})},
		{"entering counts", "entering twice is entering once", func(under realtime.Presence) realtime.Presence {
			var mu sync.Mutex
			times := map[string]int{}
			return presence{Presence: under,
				enter: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
					mu.Lock()
					times[node]++
					mu.Unlock()
					return under.Enter(ctx, now, node, room, who)
				},
				exit: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
					mu.Lock()
					times[node]--
					left := times[node]
					mu.Unlock()
					if left > 0 {
						return false, nil
					}
					return under.Exit(ctx, now, node, room, who)
				},
			}
		}},
		{"who was lost is not told", "leaving without having entered changes nothing", breaks(func(under realtime.Presence) presence {
			return presence{exit: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
				users, _, err := under.List(ctx, now, room, 1000)
				if err != nil {
					return false, err
				}
				last, err := under.Exit(ctx, now, node, room, who)
				return last && slices.Contains(users, who), err
			}}
		})},
		{"a user is counted on every node", "a user on several nodes is one", func(under realtime.Presence) realtime.Presence {
			var mu sync.Mutex
			n := 0
			return presence{Presence: under,
				enter: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
					mu.Lock()
					n++
					mu.Unlock()
					return under.Enter(ctx, now, node, room, who)
				},
				list: func(ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
					mu.Lock()
					defer mu.Unlock()
					users, _, err := under.List(ctx, now, room, limit)
					return users, n, err
				},
			}
		}},
		{"lists descend", "users are listed by ID", lists(func(p realtime.Presence, ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
			users, n, err := p.List(ctx, now, room, limit)
			slices.Reverse(users)
			return users, n, err
		})},
		{"no limit is no bound", "a list has at most limit users, the count has all", lists(func(p realtime.Presence, ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
			if limit <= 0 {
				limit = 1000
			}
			return p.List(ctx, now, room, limit)
		})},
		{"the count is of the list", "a list has at most limit users, the count has all", lists(func(p realtime.Presence, ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
			users, _, err := p.List(ctx, now, room, limit)
			return users, len(users), err
		})},
		{"rooms are folded", "rooms are exact", breaks(func(under realtime.Presence) presence {
			return presence{
				enter: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
					return under.Enter(ctx, now, node, lower(room), who)
				},
				list: func(ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
					return under.List(ctx, now, lower(room), limit)
				},
			}
		})},
		{"users are folded", "users are exact", breaks(func(under realtime.Presence) presence {
			return presence{enter: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
				who.ID = user.ID(lower(string(who.ID)))
				return under.Enter(ctx, now, node, room, who)
			}}
		})},
		{"leases do not end", "a node whose lease has ended counts no more", breaks(func(realtime.Presence) presence {
			return presence{renew: func(context.Context, realtime.Renewal) (realtime.Renewed, error) {
				return realtime.Renewed{Fresh: true}, nil
			}}
		})},
		{"a node without a lease is dead", "a node without a lease stays", breaks(func(under realtime.Presence) presence {
			return presence{enter: func(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
				if _, err := under.Renew(ctx, realtime.Renewal{Node: node, Now: now, Until: now.Add(time.Minute)}); err != nil {
					return false, err
				}
				return under.Enter(ctx, now, node, room, who)
			}}
		})},
		{"nobody is given a lease", "a node that is found without a lease gets one", breaks(func(under realtime.Presence) presence {
			return presence{renew: func(ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
				rolls := r.Rolls
				r.Rolls = nil
				done, err := under.Renew(ctx, r)
				for _, roll := range rolls {
					for _, who := range roll.Users {
						if _, enterErr := under.Enter(ctx, r.Now, r.Node, roll.Room, who); enterErr != nil {
							return done, enterErr
						}
						done.Entered = append(done.Entered, realtime.Whereabouts{Room: roll.Room, User: who})
					}
				}
				return done, err
			}}
		})},
		{"who died stays dead", "a renewed node is back", func(under realtime.Presence) realtime.Presence {
			var mu sync.Mutex
			dead := false
			return presence{Presence: under, list: func(ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
				mu.Lock()
				defer mu.Unlock()
				users, n, err := under.List(ctx, now, room, limit)
				dead = dead || n == 0
				if dead {
					return nil, 0, err
				}
				return users, n, err
			}}
		}},
		{"first counts the dead", "first does not count dead nodes, last does", breaks(func(under realtime.Presence) presence {
			return presence{enter: func(ctx context.Context, _ time.Time, node, room string, who chat.Author) (bool, error) {
				return under.Enter(ctx, time.Time{}, node, room, who)
			}}
		})},
		{"every renewal is fresh", "a first renewal is fresh", renews(func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
			done, err := p.Renew(ctx, r)
			done.Fresh = true
			return done, err
		})},
		{"rolls are ignored", "a roll enters who was lost", renews(func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
			r.Rolls = nil
			return p.Renew(ctx, r)
		})},
		{"rolls only add", "a roll removes who was left behind", renews(func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
			rolls := r.Rolls
			r.Rolls = nil
			done, err := p.Renew(ctx, r)
			for _, roll := range rolls {
				for _, u := range roll.Users {
					if _, err := p.Enter(ctx, r.Now, r.Node, roll.Room, u); err != nil {
						return done, err
					}
				}
			}
			return done, err
		})},
		{"a roll is compared by its length", "a roll removes who was left behind", renews(func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
			r.Rolls = slices.DeleteFunc(slices.Clone(r.Rolls), func(roll realtime.Roll) bool {
				users, n, err := p.List(ctx, r.Now, roll.Room, 10)
				return err == nil && n == 1 && len(roll.Users) == 1 && users[0] != roll.Users[0]
			})
			return p.Renew(ctx, r)
		})},
		{"rooms of rolls are folded", "a roll is of its room and its node", renews(func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
			r.Rolls = slices.Clone(r.Rolls)
			for i := range r.Rolls {
				r.Rolls[i].Room = lower(r.Rolls[i].Room)
			}
			return p.Renew(ctx, r)
		})},
		{"rolls are cut", "a large roll is compared whole", renews(func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
			r.Rolls = slices.Clone(r.Rolls)
			for i := range r.Rolls {
				r.Rolls[i].Users = r.Rolls[i].Users[:min(1000, len(r.Rolls[i].Users))]
			}
			return p.Renew(ctx, r)
		})},
		{"who was ended may go on", "an ended lease is ended for good", renews(func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
			done, err := p.Renew(ctx, r)
			if errors.Is(err, realtime.ErrLeaseEnded) {
				return realtime.Renewed{}, nil
			}
			return done, err
		})},
		{"everybody ends leases", "only leases that have ended are ended", renews(func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
			r.End = true
			return p.Renew(ctx, r)
		})},
		{"the dead are not told", "who goes with a dead node is told", renews(func(p realtime.Presence, ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
			done, err := p.Renew(ctx, r)
			if r.End {
				done.Left = nil
			}
			return done, err
		})},
		{"every finder is told", "one of several finders is told", func(under realtime.Presence) realtime.Presence {
			var mu sync.Mutex
			var left []realtime.Whereabouts
			return presence{Presence: under, renew: func(ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
				mu.Lock()
				defer mu.Unlock()
				done, err := under.Renew(ctx, r)
				if r.Node != "b" && r.End {
					left = append(left, done.Left...)
					done.Left = slices.Clone(left)
				}
				return done, err
			}}
		}},
		{"concurrent users are lost", "concurrent users are all counted", breaks(func(under realtime.Presence) presence {
			return presence{list: func(ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
				users, n, err := under.List(ctx, now, room, limit)
				if n > 10 {
					users, n = users[1:], n-1
				}
				return users, n, err
			}}
		})},
		{"what is listed is shared", "listed users are copies", func(under realtime.Presence) realtime.Presence {
			var mu sync.Mutex
			var kept []chat.Author
			return presence{Presence: under, list: func(ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
				mu.Lock()
				defer mu.Unlock()
				users, n, err := under.List(ctx, now, room, limit)
				if kept == nil {
					kept = users
				}
				return kept, n, err
			}}
		}},
	}
}
