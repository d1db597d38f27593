package contract

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

// FanoutNodes is the port of [Fanout]: each call opens a further node on one and the same
// fan-out. Nodes live until the test ends.
type FanoutNodes func(ctx context.Context) (realtime.Fanout, error)

// Fanout checks realtime.Fanout. A fan-out may lose signals when something fails; with
// everything in order, as here, it delivers them.
func Fanout() []Case[FanoutNodes] {
	return suite("Fanout", []promise[FanoutNodes]{
		{"a signal arrives whole", "A signal arrives with every field as it was published, times in UTC, to the microsecond.", fanoutWhole},
		{"the publishing node gets its own signals", "Publish hands s to every node that follows s.Room, this one included, before or after it returns.", fanoutOwn},
		{"every following node gets a signal", "Publish hands s to every node that follows s.Room, this one included, before or after it returns.", fanoutNodes},
		{"only followed rooms are delivered", "Run calls deliver for each signal of the followed rooms, and of no others, until ctx ends.", fanoutFollowed},
		{"rooms are exact", "Two rooms are the same only if they have the same bytes.", fanoutExact},
		{"following takes effect before it returns", "Follow makes signals of room, published by any node after Follow has returned, reach Run's deliver.", fanoutFollow},
		{"following before Run", "Follow makes signals of room, published by any node after Follow has returned, reach Run's deliver.", fanoutFollowFirst},
		{"what a node says before it runs is heard", "The last message that a node publishes in a room that it follows, before its Run begins, reaches its Run's deliver.", fanoutEarly},
		{"following twice is following once", "Following twice is following once.", fanoutTwice},
		{"an unfollowed room is silent", "Unfollow undoes Follow, however often the room was followed. Signals under way may still arrive.", fanoutUnfollow},
		{"signals of a room arrive in order", "Signals that one node publishes in a room one after the other are delivered in that order.", fanoutOrder},
		{"concurrent publishers lose nothing", "It may be called from many goroutines.", fanoutConcurrent},
		{"concurrent following works", "It may be called from many goroutines.", fanoutFollowRace},
		{"Run ends with its context", "Run then returns nil, and deliver is not called any more.", fanoutEnds},
		{"nothing is delivered after the end", "Run then returns nil, and deliver is not called any more.", fanoutSilent},
		{"a node that does not run holds up nobody", "Publish does not wait for the handling on other nodes.", fanoutNotRunning},
		{"a slow node does not hold up Publish", "Publish does not wait for the handling on other nodes.", fanoutSlow},
	})
}

// inbox keeps the signals that a node got.
type inbox struct {
	mu      sync.Mutex
	signals []realtime.Signal
	changed chan struct{}
}

func (b *inbox) deliver(s realtime.Signal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.signals = append(b.signals, s)
	close(b.changed)
	b.changed = make(chan struct{})
}

// of returns the signals in room.
func (b *inbox) of(room string) []realtime.Signal {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.signals), func(s realtime.Signal) bool { return s.Room != room })
}

// until waits for at least n signals in room, and returns them.
func (b *inbox) until(ctx context.Context, room string, n int) ([]realtime.Signal, error) {
	for {
		b.mu.Lock()
		changed := b.changed
		b.mu.Unlock()
		got := b.of(room)
		if len(got) >= n {
			return got, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d signals were delivered in room %+q: %w", len(got), n, room, ctx.Err())
		}
	}
}

// node is a running node.
type node struct {
	realtime.Fanout
	inbox
	stop func() error
}

// probe is the room in which a node finds out that it runs.
const probe = "contract probe"

// run opens a node, runs it, and waits until it delivers.
func (open FanoutNodes) run(ctx context.Context) (*node, error) {
	f, err := open(ctx)
	if err != nil {
		return nil, during("open", err)
	}
	n := &node{Fanout: f, inbox: inbox{changed: make(chan struct{})}}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx, n.deliver) }()
	n.stop = sync.OnceValue(func() error {
		cancel()
		return during("Run, when its context had ended", <-ended)
	})
	if err := n.Follow(ctx, probe); err != nil {
		return nil, errors.Join(during("Follow", err), n.stop())
	}
	// Run has no word for "I have begun", and a signal from before may be lost: so ask again.
	err = poll(ctx, func() bool {
		err = n.Publish(ctx, realtime.Signal{Kind: realtime.SignalTyping, Room: probe})
		return err != nil || len(n.of(probe)) > 0
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the node does not get its own signals: %w", err), n.stop())
	}
	if err := n.Unfollow(ctx, probe); err != nil {
		return nil, errors.Join(during("Unfollow", err), n.stop())
	}
	return n, nil
}

// running runs do with n running nodes, and ends them.
func (open FanoutNodes) running(ctx context.Context, n int, do func(nodes []*node) error) error {
	var nodes []*node
	var err error
	for range n {
		var next *node
		if next, err = open.run(ctx); err != nil {
			break
		}
		nodes = append(nodes, next)
	}
	if err == nil {
		err = do(nodes)
	}
	for _, n := range nodes {
		err = errors.Join(err, n.stop())
	}
	return err
}

func signal(room string, n int) realtime.Signal {
	return realtime.Signal{Kind: realtime.SignalMessage, Room: room, Message: stored(room, n), Node: "node-1"}
}

func follow(ctx context.Context, room string, nodes ...*node) error {
	for _, n := range nodes {
		if err := n.Follow(ctx, room); err != nil {
			return fmt.Errorf("Follow(%+q): %w", room, err)
		}
	}
	return nil
}

func (n *node) publish(ctx context.Context, signals ...realtime.Signal) error {
	for _, s := range signals {
		if err := n.Publish(ctx, s); err != nil {
			return fmt.Errorf("the port's Publish in %+q: %w", s.Room, err)
		}
	}
	return nil
}

// got waits for these signals in room, and wants no others.
func (n *node) got(ctx context.Context, room string, want ...realtime.Signal) error {
	got, err := n.until(ctx, room, len(want))
	if err != nil {
		return err
	}
	return during(fmt.Sprintf("the signals in room %+q", room), same(got, want))
}

// roundTrips publishes in a room that every node follows, from every node, and waits for it:
// what was under way before has had its time.
func roundTrips(ctx context.Context, nodes []*node) error {
	const room = "contract round trips"
	if err := follow(ctx, room, nodes...); err != nil {
		return err
	}
	before := len(nodes[0].of(room))
	for i := range 3 {
		for k, n := range nodes {
			if err := n.publish(ctx, signal(room, i)); err != nil {
				return err
			}
			for _, m := range nodes {
				if _, err := m.until(ctx, room, before+i*len(nodes)+k+1); err != nil {
					return err
				}
			}
			breathe()
		}
	}
	return nil
}

func fanoutWhole(ctx context.Context, open FanoutNodes) error {
	message := signal("room", 7)
	message.Message.ClientID, message.Message.Text = "client-1", long(chat.MaxText)
	message.Message.Seq = math.MaxInt64
	author := chat.Author{ID: "user-ü", Name: long(user.MaxFullName)}
	reply, answer, data := signal("room", 8), signal("room", 9), signal("room", 10)
	reply.Message.ReplyTo, reply.Node = 7, "node ü"
	answer.Message.ReplyTo, answer.Message.Data, answer.Node = math.MaxInt64, `{"b":"\u00e9 👋","a":{}}`, ""
	data.Message.Data = `{"long":"` + strings.Repeat("~", chat.MaxData-11) + `"}`
	want := []realtime.Signal{
		message, reply, answer, data, signal("room", 11),
		{Kind: realtime.SignalChanged, Room: "room", Message: stored("room", 12), Node: "node-1"},
		{Kind: realtime.SignalTyping, Room: "room", User: author, Typing: true, Node: "node ü"},
		{Kind: realtime.SignalTyping, Room: "room", User: author, Typing: false, Node: "node ü"},
		{Kind: realtime.SignalJoined, Room: "room", User: author},
		{Kind: realtime.SignalLeft, Room: "room", User: author, Node: "n"},
		{Kind: realtime.SignalRemoved, Room: "room", User: chat.Author{ID: author.ID}},
		{Kind: realtime.SignalMarked, Room: "room", User: author, Node: "node ü", Read: math.MaxInt64}, {Kind: realtime.SignalMarked, Room: "room", User: author},
		{Kind: realtime.SignalMarkedOwn, Room: "room", User: author, Node: "node ü", Read: math.MaxInt64}, {Kind: realtime.SignalSettings, Room: "room", User: chat.Author{ID: author.ID}, Node: "node"},
		{Kind: realtime.SignalRestricted, Room: "room", User: chat.Author{ID: author.ID}, Data: `{"kind":"mute","at":1}`},
		{Kind: realtime.SignalMembership, Room: "room", User: author, Node: "node", Data: `{"room":"hall","role":"reader"}`},
		{Kind: realtime.SignalEvent, Room: "room", User: author, Node: "n", Event: "cursor", Data: `{"room":"room","x":1,"ü":"` + long(1000) + `"}`},
	}
	for _, m := range wholly("room") {
		want = append(want, realtime.Signal{Kind: realtime.SignalChanged, Room: "room", Message: m, Node: "node ü"}, realtime.Signal{Kind: realtime.SignalMessage, Room: "room", Message: m})
	}
	return open.running(ctx, 2, func(nodes []*node) error {
		return first(
			func() error { return follow(ctx, "room", nodes...) },
			func() error { return nodes[0].publish(ctx, want...) },
			func() error { return nodes[1].got(ctx, "room", want...) },
			func() error { return nodes[0].got(ctx, "room", want...) },
		)
	})
}

func fanoutOwn(ctx context.Context, open FanoutNodes) error {
	return open.running(ctx, 1, func(nodes []*node) error {
		n := nodes[0]
		return first(
			func() error { return follow(ctx, "room", n) },
			func() error { return n.publish(ctx, signal("room", 1), signal("room", 2)) },
			func() error { return n.got(ctx, "room", signal("room", 1), signal("room", 2)) },
		)
	})
}

func fanoutNodes(ctx context.Context, open FanoutNodes) error {
	return open.running(ctx, 3, func(nodes []*node) error {
		err := follow(ctx, "room", nodes...)
		for i, n := range nodes {
			err = then(err, func() error { return n.publish(ctx, signal("room", i)) })
			for _, m := range nodes {
				if err == nil {
					_, err = m.until(ctx, "room", i+1)
				}
			}
		}
		for _, m := range nodes {
			err = then(err, func() error { return m.got(ctx, "room", signal("room", 0), signal("room", 1), signal("room", 2)) })
		}
		return err
	})
}

func fanoutFollowed(ctx context.Context, open FanoutNodes) error {
	return open.running(ctx, 2, func(nodes []*node) error {
		a, b := nodes[0], nodes[1]
		return first(
			func() error { return follow(ctx, "one", a) },
			func() error { return follow(ctx, "two", b) },
			func() error { return a.publish(ctx, signal("one", 1), signal("two", 2), signal("nobody's", 3)) },
			func() error { return b.publish(ctx, signal("one", 4)) },
			func() error { return during("the following node", second(a.until(ctx, "one", 2))) },
			func() error { return b.got(ctx, "two", signal("two", 2)) },
			func() error { return roundTrips(ctx, nodes) },
			func() error {
				return during("a node that does not follow", first(
					func() error { return a.got(ctx, "two") },
					func() error { return b.got(ctx, "one") },
					func() error { return a.got(ctx, "nobody's") },
					func() error { return b.got(ctx, "nobody's") },
				))
			},
		)
	})
}

func fanoutExact(ctx context.Context, open FanoutNodes) error {
	return open.running(ctx, 2, func(nodes []*node) error {
		var err error
		for i, name := range names {
			if i%2 == 0 {
				err = then(err, func() error { return follow(ctx, name, nodes[0]) })
			}
		}
		for i, name := range names {
			err = then(err, func() error { return nodes[1].publish(ctx, signal(name, i)) })
		}
		for i, name := range names {
			if i%2 == 0 {
				err = then(err, func() error { return nodes[0].got(ctx, name, signal(name, i)) })
			}
		}
		err = then(err, func() error { return roundTrips(ctx, nodes) })
		for i, name := range names {
			if i%2 == 1 {
				err = then(err, func() error { return nodes[0].got(ctx, name) })
			}
		}
		return err
	})
}

func fanoutFollow(ctx context.Context, open FanoutNodes) error {
	return open.running(ctx, 2, func(nodes []*node) error {
		for i := range 40 {
			room := fmt.Sprintf("room-%d", i)
			if err := first(
				func() error { return follow(ctx, room, nodes[0]) },
				func() error { return nodes[1].publish(ctx, signal(room, i)) },
				func() error { return nodes[0].got(ctx, room, signal(room, i)) },
			); err != nil {
				return err
			}
		}
		return nil
	})
}

func fanoutFollowFirst(ctx context.Context, open FanoutNodes) error {
	f, err := open(ctx)
	if err != nil {
		return during("open", err)
	}
	if err := f.Follow(ctx, "room"); err != nil {
		return during("Follow before Run", err)
	}
	box := &inbox{changed: make(chan struct{})}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- f.Run(running, box.deliver) }()
	var failed error
	err = poll(ctx, func() bool {
		failed = f.Publish(ctx, signal("room", 1))
		return failed != nil || len(box.of("room")) > 0
	})
	cancel()
	return errors.Join(during("no signal of a room that was followed before Run", err), failed, during("Run", <-ended))
}

func fanoutEarly(ctx context.Context, open FanoutNodes) error {
	f, err := open(ctx)
	if err != nil {
		return during("open", err)
	}
	err = first(
		func() error { return during("Follow", f.Follow(ctx, "room")) },
		func() error { return during("Publish", f.Publish(ctx, signal("room", 1))) },
		func() error { return during("Publish", f.Publish(ctx, signal("room", 2))) },
	)
	if err != nil {
		return err
	}
	in := inbox{changed: make(chan struct{})}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- f.Run(running, in.deliver) }()
	heard := func() error { // the hub finds what came before by the sequence
		for n := 1; ; n++ {
			got, err := in.until(ctx, "room", n)
			if err != nil || got[len(got)-1].Message.Seq == signal("room", 2).Message.Seq {
				return err
			}
		}
	}()
	cancel()
	return errors.Join(heard, during("Run", <-ended))
}

func fanoutTwice(ctx context.Context, open FanoutNodes) error {
	return open.running(ctx, 2, func(nodes []*node) error {
		a, b := nodes[0], nodes[1]
		if err := first(
			func() error { return follow(ctx, "room", a, a, a) },
			func() error { return b.publish(ctx, signal("room", 1)) },
			func() error { return a.publish(ctx, signal("room", 2)) },
			func() error { return second(a.until(ctx, "room", 2)) },
			func() error { return roundTrips(ctx, nodes) },
		); err != nil {
			return err
		}
		if got := a.of("room"); len(got) != 2 {
			return fmt.Errorf("2 signals of a room that was followed three times were delivered %d times", len(got))
		}
		return first(
			func() error { return during("Unfollow", a.Unfollow(ctx, "room")) },
			func() error { return roundTrips(ctx, nodes) },
			func() error { return b.publish(ctx, signal("room", 3)) },
			func() error { return roundTrips(ctx, nodes) },
			func() error {
				return during("after one Unfollow of a room that was followed three times", wantCount(a, "room", 2))
			},
		)
	})
}

func wantCount(n *node, room string, want int) error {
	if got := len(n.of(room)); got != want {
		return fmt.Errorf("%d signals were delivered in room %+q, want %d", got, room, want)
	}
	return nil
}

func fanoutUnfollow(ctx context.Context, open FanoutNodes) error {
	return open.running(ctx, 2, func(nodes []*node) error {
		a, b := nodes[0], nodes[1]
		return first(
			func() error { return during("Unfollow of a room that is not followed", a.Unfollow(ctx, "room")) },
			func() error { return follow(ctx, "room", a, b) },
			func() error { return b.publish(ctx, signal("room", 1)) },
			func() error { return a.got(ctx, "room", signal("room", 1)) },
			func() error { return b.got(ctx, "room", signal("room", 1)) },
			func() error { return during("Unfollow", a.Unfollow(ctx, "room")) },
			func() error { return during("Unfollow again", a.Unfollow(ctx, "room")) },
			func() error { return b.publish(ctx, signal("room", 2)) },
			func() error { return a.publish(ctx, signal("room", 3)) },
			func() error { return second(b.until(ctx, "room", 3)) },
			func() error { return roundTrips(ctx, nodes) },
			func() error { return during("after Unfollow", wantCount(a, "room", 1)) },
			func() error { return follow(ctx, "room", a) },
			func() error { return b.publish(ctx, signal("room", 4)) },
			func() error {
				return during("followed again", a.got(ctx, "room", signal("room", 1), signal("room", 4)))
			},
		)
	})
}

func fanoutOrder(ctx context.Context, open FanoutNodes) error {
	return open.running(ctx, 2, func(nodes []*node) error {
		const n = 200
		if err := follow(ctx, "room", nodes...); err != nil {
			return err
		}
		var want []realtime.Signal
		for i := range n {
			want = append(want, signal("room", i))
		}
		return first(
			func() error { return nodes[0].publish(ctx, want...) },
			func() error { return nodes[1].got(ctx, "room", want...) },
			func() error { return nodes[0].got(ctx, "room", want...) },
		)
	})
}

func fanoutConcurrent(ctx context.Context, open FanoutNodes) error {
	return open.running(ctx, 3, func(nodes []*node) error {
		const publishers, each = 8, 20
		if err := follow(ctx, "room", nodes...); err != nil {
			return err
		}
		err := allTogether(publishers, func(p int) error {
			for i := range each {
				if err := nodes[p%3].publish(ctx, signal("room", p*each+i)); err != nil {
					return err
				}
			}
			return nil
		})
		for _, n := range nodes {
			if err != nil {
				break
			}
			var got []realtime.Signal
			if got, err = n.until(ctx, "room", publishers*each); err != nil {
				break
			}
			slices.SortFunc(got, func(a, b realtime.Signal) int { return cmp.Compare(a.Message.Seq, b.Message.Seq) })
			for i, s := range got {
				err = then(err, func() error { return same(s, signal("room", i)) })
			}
		}
		return err
	})
}

func fanoutFollowRace(ctx context.Context, open FanoutNodes) error {
	return open.running(ctx, 2, func(nodes []*node) error {
		a, b := nodes[0], nodes[1]
		return allTogether(12, func(i int) error {
			room := fmt.Sprintf("room-%d", i)
			return first(
				func() error { return follow(ctx, room, a) },
				func() error { return b.publish(ctx, signal(room, i)) },
				func() error { return a.got(ctx, room, signal(room, i)) },
				func() error { return during("Unfollow", a.Unfollow(ctx, room)) },
				func() error { return follow(ctx, room, a) },
				func() error { return b.publish(ctx, signal(room, i)) },
				func() error { return a.got(ctx, room, signal(room, i), signal(room, i)) },
			)
		})
	})
}

func fanoutEnds(ctx context.Context, open FanoutNodes) error {
	return first(
		func() error { return open.running(ctx, 3, func([]*node) error { return nil }) },
		func() error {
			return open.running(ctx, 1, func(nodes []*node) error { return follow(ctx, "room", nodes...) })
		},
	)
}

func fanoutSilent(ctx context.Context, open FanoutNodes) error {
	return open.running(ctx, 2, func(nodes []*node) error {
		a, b := nodes[0], nodes[1]
		return first(
			func() error { return follow(ctx, "room", a) },
			func() error { return b.publish(ctx, signal("room", 1)) },
			func() error { return a.got(ctx, "room", signal("room", 1)) },
			func() error { return a.stop() },
			func() error { return b.publish(ctx, signal("room", 2)) },
			func() error { return roundTrips(ctx, nodes[1:]) },
			func() error { return during("after Run had returned", wantCount(a, "room", 1)) },
		)
	})
}

func fanoutNotRunning(ctx context.Context, open FanoutNodes) error {
	idle, err := open(ctx)
	if err != nil {
		return during("open", err)
	}
	if err := idle.Follow(ctx, "room"); err != nil {
		return during("Follow", err)
	}
	return open.running(ctx, 1, func(nodes []*node) error {
		n := nodes[0]
		err := follow(ctx, "room", n)
		for i := range 200 {
			err = then(err, func() error { return n.publish(ctx, signal("room", i)) })
		}
		return then(err, func() error { return second(n.until(ctx, "room", 200)) })
	})
}

func fanoutSlow(ctx context.Context, open FanoutNodes) error {
	f, err := open(ctx)
	if err != nil {
		return during("open", err)
	}
	entered, release := make(chan struct{}), make(chan struct{})
	var enter sync.Once
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- f.Run(running, func(realtime.Signal) {
			enter.Do(func() { close(entered) })
			<-release
		})
	}()
	err = open.running(ctx, 1, func(nodes []*node) error {
		n := nodes[0]
		if err := first(
			func() error { return during("Follow", f.Follow(ctx, "room")) },
			func() error { return follow(ctx, "room", n) },
		); err != nil {
			return err
		}
		published := 0
		err := poll(ctx, func() bool {
			select {
			case <-entered:
				return true
			default:
			}
			published++
			return n.publish(ctx, signal("room", published)) != nil
		})
		// The other node now sits in deliver.
		for range 50 {
			published++
			err = then(err, func() error { return n.publish(ctx, signal("room", published)) })
		}
		return then(err, func() error { return second(n.until(ctx, "room", published)) })
	})
	close(release)
	cancel()
	return errors.Join(err, during("Run", <-ended))
}
