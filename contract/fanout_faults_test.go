package contract_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/realtime"
)

func fanoutFaults() []broken[contract.FanoutNodes] {
	publishes := func(f func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error) func(contract.FanoutNodes) contract.FanoutNodes {
		return nodes(func(n realtime.Fanout) realtime.Fanout {
			return fanout{Fanout: n, publish: func(ctx context.Context, s realtime.Signal) error { return f(n, ctx, s) }}
		})
	}
	delivers := func(f func(deliver func(realtime.Signal)) func(realtime.Signal)) func(contract.FanoutNodes) contract.FanoutNodes {
		return nodes(func(n realtime.Fanout) realtime.Fanout {
			return fanout{Fanout: n, run: func(ctx context.Context, deliver func(realtime.Signal)) error { return n.Run(ctx, f(deliver)) }}
		})
	}
	return []broken[contract.FanoutNodes]{
		{"the message's client id is lost", "a signal arrives whole", publishes(func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error {
			s.Message.ClientID = ""
			return n.Publish(ctx, s)
		})},
		{"the message's data is lost", "a signal arrives whole", publishes(func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error {
			s.Message.Data = ""
			return n.Publish(ctx, s)
		})},
		{"what a message answers is lost", "a signal arrives whole", publishes(func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error {
			s.Message.ReplyTo = 0
			return n.Publish(ctx, s)
		})},
		{"the reactions of a message are lost", "a signal arrives whole", publishes(func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error {
			s.Message.Reactions = nil
			return n.Publish(ctx, s)
		})},
		{"when a message was deleted is lost", "a signal arrives whole", publishes(func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error {
			s.Message.DeletedAt = time.Time{}
			return n.Publish(ctx, s)
		})},
		{"what an event of an application says is lost", "a signal arrives whole", publishes(func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error {
			s.Data = ""
			return n.Publish(ctx, s)
		})},
		{"numbers become floats", "a signal arrives whole", publishes(func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error {
			s.Message.Seq = uint64(float64(s.Message.Seq))
			return n.Publish(ctx, s)
		})},
		{"a node does not get its own signals", "the publishing node gets its own signals", nodes(func(n realtime.Fanout) realtime.Fanout {
			var mu sync.Mutex
			mine := map[uint64]bool{}
			return fanout{Fanout: n,
				publish: func(ctx context.Context, s realtime.Signal) error {
					if s.Kind == realtime.SignalMessage {
						mu.Lock()
						mine[s.Message.Seq] = true
						mu.Unlock()
					}
					return n.Publish(ctx, s)
				},
				run: func(ctx context.Context, deliver func(realtime.Signal)) error {
					return n.Run(ctx, func(s realtime.Signal) {
						mu.Lock()
						own := mine[s.Message.Seq]
						mu.Unlock()
						if !own {
							deliver(s)
						}
					})
				},
			}
		})},
		{"every node is alone", "every following node gets a signal", func(contract.FanoutNodes) contract.FanoutNodes {
			return func(ctx context.Context) (realtime.Fanout, error) { return openFanout()(ctx) }
		}},
		{"every room is delivered", "only followed rooms are delivered", func(open contract.FanoutNodes) contract.FanoutNodes {
			var mu sync.Mutex
			var all []realtime.Fanout
			return func(ctx context.Context) (realtime.Fanout, error) {
				n, err := open(ctx)
				mu.Lock()
				defer mu.Unlock()
				all = append(all, n)
				return fanout{Fanout: n, publish: func(ctx context.Context, s realtime.Signal) error {
					mu.Lock()
					everyone := slices.Clone(all)
					mu.Unlock()
					for _, n := range everyone {
						if err := n.Follow(ctx, s.Room); err != nil {
							return err
						}
					}
					return n.Publish(ctx, s)
				}}, err
			}
		}},
		{"rooms are folded", "rooms are exact", nodes(func(n realtime.Fanout) realtime.Fanout {
			return fanout{Fanout: n,
				follow: func(ctx context.Context, room string) error { return n.Follow(ctx, lower(room)) },
				publish: func(ctx context.Context, s realtime.Signal) error {
					s.Room = lower(s.Room)
					return n.Publish(ctx, s)
				},
			}
		})},
		{"following takes a while", "following takes effect before it returns", nodes(func(n realtime.Fanout) realtime.Fanout {
			return fanout{Fanout: n, follow: func(ctx context.Context, room string) error {
				go func() {
					select {
					case <-ctx.Done():
					case <-time.After(time.Second): // in the bubble's time
						_ = n.Follow(ctx, room)
					}
				}()
				return nil
			}}
		})},
		{"following before Run is forgotten", "following before Run", nodes(func(n realtime.Fanout) realtime.Fanout {
			running := make(chan struct{})
			return fanout{Fanout: n,
				follow: func(ctx context.Context, room string) error {
					select {
					case <-running:
						return n.Follow(ctx, room)
					default:
						return nil
					}
				},
				run: func(ctx context.Context, deliver func(realtime.Signal)) error {
					close(running)
					return n.Run(ctx, deliver)
				},
			}
		})},
		{"what is said before Run reaches others only", "what a node says before it runs is heard", nodes(func(n realtime.Fanout) realtime.Fanout {
			var runs atomic.Bool
			return fanout{
				Fanout: n,
				publish: func(ctx context.Context, s realtime.Signal) error {
					if !runs.Load() {
						return nil
					}
					return n.Publish(ctx, s)
				},
				run: func(ctx context.Context, deliver func(realtime.Signal)) error {
					runs.Store(true)
					return n.Run(ctx, deliver)
				},
			}
		})},
		{"following twice delivers twice", "following twice is following once", nodes(func(n realtime.Fanout) realtime.Fanout {
			var mu sync.Mutex
			times := map[string]int{}
			return fanout{Fanout: n,
				follow: func(ctx context.Context, room string) error {
					mu.Lock()
					times[room]++
					mu.Unlock()
					return n.Follow(ctx, room)
				},
				run: func(ctx context.Context, deliver func(realtime.Signal)) error {
					return n.Run(ctx, func(s realtime.Signal) {
						mu.Lock()
						k := times[s.Room]
						mu.Unlock()
						for range k {
							deliver(s)
						}
					})
				},
			}
		})},
		{"unfollowing does nothing", "an unfollowed room is silent", nodes(func(n realtime.Fanout) realtime.Fanout {
			return fanout{Fanout: n, unfollow: func(context.Context, string) error { return nil }}
		})},
		{"signals are turned round in pairs", "signals of a room arrive in order", nodes(func(n realtime.Fanout) realtime.Fanout {
			var mu sync.Mutex
			var held *realtime.Signal
			return fanout{Fanout: n, publish: func(ctx context.Context, s realtime.Signal) error {
				if s.Kind != realtime.SignalMessage {
					return n.Publish(ctx, s)
				}
				mu.Lock()
				defer mu.Unlock()
				if held == nil {
					held = &s
					return nil
				}
				err := errors.Join(n.Publish(ctx, s), n.Publish(ctx, *held))
				held = nil
				return err
			}}
		})},
		{"signals are doubled", "concurrent publishers lose nothing", publishes(func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error {
			return errors.Join(n.Publish(ctx, s), n.Publish(ctx, s))
		})},
		{"every tenth signal is lost", "concurrent following works", func() func(contract.FanoutNodes) contract.FanoutNodes {
			var mu sync.Mutex
			k := 0
			return publishes(func(n realtime.Fanout, ctx context.Context, s realtime.Signal) error {
				mu.Lock()
				k++
				lose := k%10 == 0
				mu.Unlock()
				if lose {
					return nil
				}
				return n.Publish(ctx, s)
			})
		}()},
		{"the end is an error", "Run ends with its context", nodes(func(n realtime.Fanout) realtime.Fanout {
			return fanout{Fanout: n, run: func(ctx context.Context, deliver func(realtime.Signal)) error {
				return errors.Join(n.Run(ctx, deliver), ctx.Err())
			}}
		})},
		{"an ended node goes on", "nothing is delivered after the end", nodes(func(n realtime.Fanout) realtime.Fanout {
			return fanout{Fanout: n, run: func(ctx context.Context, deliver func(realtime.Signal)) error {
				go func() {
					onward, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Hour)
					defer cancel()
					_ = n.Run(onward, deliver)
				}()
				<-ctx.Done()
				return nil
			}}
		})},
		{"a slow node holds up the publisher", "a slow node does not hold up Publish", func(open contract.FanoutNodes) contract.FanoutNodes {
			busy := make(chan struct{}, 1) // full while anybody publishes or handles a signal
			return nodes(func(n realtime.Fanout) realtime.Fanout {
				return fanout{Fanout: n,
					publish: func(ctx context.Context, s realtime.Signal) error {
						select {
						case busy <- struct{}{}:
						case <-ctx.Done():
							return ctx.Err()
						}
						defer func() { <-busy }()
						return n.Publish(ctx, s)
					},
					run: func(ctx context.Context, deliver func(realtime.Signal)) error {
						return n.Run(ctx, func(s realtime.Signal) {
							select {
							case busy <- struct{}{}:
								defer func() { <-busy }()
								deliver(s)
							case <-ctx.Done():
							}
						})
					},
				}
			})(open)
		}},
		{"a node that does not run refuses", "a node that does not run holds up nobody", func(open contract.FanoutNodes) contract.FanoutNodes {
			var mu sync.Mutex
			idle := 0
			return nodes(func(n realtime.Fanout) realtime.Fanout {
				mu.Lock()
				idle++
				mu.Unlock()
				return fanout{Fanout: n,
					publish: func(ctx context.Context, s realtime.Signal) error {
						mu.Lock()
						defer mu.Unlock()
						if idle > 0 && s.Kind == realtime.SignalMessage {
							return fault.Unavailable
						}
						return n.Publish(ctx, s)
					},
					run: func(ctx context.Context, deliver func(realtime.Signal)) error {
						mu.Lock()
						idle--
						mu.Unlock()
						return n.Run(ctx, deliver)
					},
				}
			})(open)
		}},
		{"times lose their microseconds", "signals of a room arrive in order", delivers(func(deliver func(realtime.Signal)) func(realtime.Signal) {
			return func(s realtime.Signal) {
				s.Message.At = s.Message.At.Truncate(time.Millisecond)
				deliver(s)
			}
		})},
	}
}
