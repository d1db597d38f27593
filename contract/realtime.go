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
	"time"

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

// Presence checks realtime.Presence.
func Presence() []Case[realtime.Presence] {
	return suite("Presence", []promise[realtime.Presence]{
		{"who entered is listed", "List returns users in room, ascending by ID, each once. count is how many users are in room, whatever limit is.", presenceList},
		{"the first node to have a user is told", "first reports whether no other node, of those whose lease lasts at now, had the user there.", presenceFirst},
		{"the last node to lose a user is told", "last reports whether no other node has the user there, not even one whose lease has ended.", presenceLast},
		{"entering twice is entering once", "Entering twice is entering once.", presenceTwice},
		{"leaving without having entered changes nothing", "last is so whether or not node was known to have the user there: that may have been lost. Leaving twice is leaving once.", presenceStranger},
		{"a user on several nodes is one", "List returns users in room, ascending by ID, each once. count is how many users are in room, whatever limit is.", presenceOnce},
		{"users are listed by ID", "List returns users in room, ascending by ID, each once.", presenceOrder},
		{"a list has at most limit users, the count has all", "List returns at most limit users: none if limit is below 1. count is how many users are in room, whatever limit is.", presenceLimit},
		{"rooms are exact", "Two rooms or users are the same only if they have the same bytes.", presenceExact},
		{"users are exact", "Two rooms or users are the same only if they have the same bytes.", presenceExactUsers},
		{"a node whose lease has ended counts no more", "The users of a node whose lease has ended disappear by themselves. List counts users of nodes whose lease lasts at now.", presenceLease},
		{"a node without a lease stays", "A node that has never renewed has a lease that does not end.", presenceNoLease},
		{"a node that is found without a lease gets one", "A Renew that finds somebody of such a node in a room of its Rolls gives that node a lease as long as its own.", presenceLent},
		{"a renewed node is back", "They are back if the node renews again.", presenceBack},
		{"first does not count dead nodes, last does", "first reports whether no other node, of those whose lease lasts at now, had the user there. last reports whether no other node has the user there, not even one whose lease has ended. Whom only such a node has there is told by Renew.", presenceFirstLease},
		{"one of several enters is the first", "Of several nodes that enter a user at once, one is first.", presenceEnterRace},
		{"one of several exits is the last", "Of several nodes that a user leaves at once, one is last.", presenceExitRace},
		{"concurrent users are all counted", "It may be called from many goroutines.", presenceMany},
		{"listed users are copies", "Changing what was returned changes nothing stored.", presenceCopies},
		{"a first renewal is fresh", "Fresh reports that no lease of the node was known: it is its first, or what was known is lost.", presenceFresh},
		{"a roll enters who was lost", "Entered are those of the Rolls who were not known to be there with the node, and now are. Who was with another node whose lease lasts at Now is not among Entered.", presenceRollEnters},
		{"a roll removes who was left behind", "Left are those who no longer are in rooms of the Rolls: whom the node was thought to have there. Whom another node has there has not Left.", presenceRollLeaves},
		{"a roll is of its room and its node", "Renew extends a node's lease, and puts right what is known of the node, and of no other.", presenceRollExact},
		{"a large roll is compared whole", "Roll is whom a node has in a room: every user, each once, in any order.", presenceRollLarge},
		{"an ended lease is ended for good", "If the lease was ended for good meanwhile, Renew changes nothing and returns ErrLeaseEnded.", presenceEnded},
		{"only leases that have ended are ended", "End ends for good the leases of other nodes that do not last at Now.", presenceEndedOnly},
		{"who goes with a dead node is told", "Left are also those whom nodes had there whose leases were ended for good. Whom another node has there has not Left.", presenceDead},
		{"one of several finders is told", "Each of Left is told to one caller only.", presenceDeadRace},
	})
}

func who(n int) chat.Author {
	return chat.Author{ID: user.ID(fmt.Sprintf("user-%03d", n)), Name: fmt.Sprintf("Zoë Ångström %d 👋", n)}
}

func enter(ctx context.Context, p realtime.Presence, now time.Time, node, room string, u chat.Author, want bool) error {
	got, err := p.Enter(ctx, now, node, room, u)
	if err == nil && got != want {
		err = fmt.Errorf("first is %t, want %t", got, want)
	}
	return during(fmt.Sprintf("Enter(%q, %+q, %q)", node, room, u.ID), err)
}

func exit(ctx context.Context, p realtime.Presence, now time.Time, node, room string, u chat.Author, want bool) error {
	got, err := p.Exit(ctx, now, node, room, u)
	if err == nil && got != want {
		err = fmt.Errorf("last is %t, want %t", got, want)
	}
	return during(fmt.Sprintf("Exit(%q, %+q, %q)", node, room, u.ID), err)
}

func wantPresent(ctx context.Context, p realtime.Presence, now time.Time, room string, want ...chat.Author) error {
	users, count, err := p.List(ctx, now, room, 1000)
	if err == nil {
		err = same(users, want)
	}
	if err == nil && count != len(want) {
		err = fmt.Errorf("the count is %d, want %d", count, len(want))
	}
	return during(fmt.Sprintf("List(%+q)", room), err)
}

func presenceList(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return wantPresent(ctx, p, at(1), "room") },
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(2), true) },
		func() error { return wantPresent(ctx, p, at(2), "room", who(1), who(2)) },
		func() error { return wantPresent(ctx, p, at(2), "other") },
		func() error { return exit(ctx, p, at(3), "a", "room", who(1), true) },
		func() error { return wantPresent(ctx, p, at(3), "room", who(2)) },
		func() error { return exit(ctx, p, at(3), "b", "room", who(2), true) },
		func() error { return wantPresent(ctx, p, at(3), "room") },
	)
}

func presenceFirst(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(1), false) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(2), true) },
		func() error { return enter(ctx, p, at(1), "b", "other", who(1), true) },
		func() error { return exit(ctx, p, at(2), "a", "room", who(1), false) },
		func() error { return exit(ctx, p, at(2), "b", "room", who(1), true) },
		func() error { return during("after everybody left", enter(ctx, p, at(3), "b", "room", who(1), true)) },
	)
}

func presenceLast(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(1), false) },
		func() error { return enter(ctx, p, at(1), "c", "room", who(1), false) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(2), true) },
		func() error { return enter(ctx, p, at(1), "a", "other", who(1), true) },
		func() error { return exit(ctx, p, at(2), "b", "room", who(1), false) },
		func() error { return exit(ctx, p, at(2), "a", "room", who(1), false) },
		func() error { return wantPresent(ctx, p, at(2), "room", who(1), who(2)) },
		func() error { return exit(ctx, p, at(2), "c", "room", who(1), true) },
		func() error { return wantPresent(ctx, p, at(2), "room", who(2)) },
		func() error { return wantPresent(ctx, p, at(2), "other", who(1)) },
	)
}

func presenceTwice(ctx context.Context, p realtime.Presence) error {
	if err := enter(ctx, p, at(1), "a", "room", who(1), true); err != nil {
		return err
	}
	for range 2 {
		if _, err := p.Enter(ctx, at(1), "a", "room", who(1)); err != nil {
			return during("Enter again", err)
		}
	}
	return first(
		func() error { return wantPresent(ctx, p, at(1), "room", who(1)) },
		func() error {
			return during("after entering three times", exit(ctx, p, at(2), "a", "room", who(1), true))
		},
		func() error { return wantPresent(ctx, p, at(2), "room") },
		func() error { return during("again", exit(ctx, p, at(2), "a", "room", who(1), true)) },
	)
}

func presenceStranger(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return exit(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return exit(ctx, p, at(1), "b", "room", who(1), false) },
		func() error { return exit(ctx, p, at(1), "a", "other", who(1), true) },
		func() error { return exit(ctx, p, at(1), "a", "room", who(2), true) },
		func() error { return wantPresent(ctx, p, at(1), "room", who(1)) },
		func() error { return exit(ctx, p, at(2), "a", "room", who(1), true) },
	)
}

func presenceOnce(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(1), false) },
		func() error { return enter(ctx, p, at(1), "c", "room", who(1), false) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(2), true) },
		func() error { return wantPresent(ctx, p, at(1), "room", who(1), who(2)) },
	)
}

func presenceOrder(ctx context.Context, p realtime.Presence) error {
	var want []chat.Author
	for i := range 20 {
		n := (i * 7) % 20 // every number once, not in order
		if err := enter(ctx, p, at(1), fmt.Sprintf("node-%d", n%3), "room", who(n), true); err != nil {
			return err
		}
		want = append(want, who(i))
	}
	return wantPresent(ctx, p, at(1), "room", want...)
}

func presenceLimit(ctx context.Context, p realtime.Presence) error {
	var all []chat.Author
	for n := range 12 {
		if err := first(
			func() error { return enter(ctx, p, at(1), "a", "room", who(n), true) },
			func() error { return enter(ctx, p, at(1), "b", "room", who(n), false) },
		); err != nil {
			return err
		}
		all = append(all, who(n))
	}
	for _, limit := range []int{-1, 0, 1, 5, 11, 12, 13, 1000} {
		users, count, err := p.List(ctx, at(1), "room", limit)
		switch most := max(0, min(limit, len(all))); {
		case err != nil:
		case most == 0 && len(users) > 0:
			err = fmt.Errorf("it has %d users", len(users))
		case most > 0:
			err = same(users, all[:most])
		}
		if err == nil && count != len(all) {
			err = fmt.Errorf("the count is %d, want %d", count, len(all))
		}
		if err != nil {
			return fmt.Errorf("the port's List with limit %d: %w", limit, err)
		}
	}
	return nil
}

func presenceExact(ctx context.Context, p realtime.Presence) error {
	for n, name := range names {
		if err := enter(ctx, p, at(1), "a", name, who(n), true); err != nil {
			return err
		}
	}
	for n, name := range names {
		if err := wantPresent(ctx, p, at(1), name, who(n)); err != nil {
			return err
		}
	}
	return nil
}

func presenceExactUsers(ctx context.Context, p realtime.Presence) error {
	var want []chat.Author
	for _, id := range []user.ID{"ABC", "Abc", "a:c", "a_c", "abc", "abcd"} { // ascending
		want = append(want, chat.Author{ID: id, Name: "Zoë"})
	}
	for _, u := range slices.Backward(want) {
		if err := enter(ctx, p, at(1), "a", "room", u, true); err != nil {
			return err
		}
	}
	return wantPresent(ctx, p, at(1), "room", want...)
}

func renew(ctx context.Context, p realtime.Presence, node string, until time.Time) error {
	_, err := p.Renew(ctx, realtime.Renewal{Node: node, Until: until})
	return during(fmt.Sprintf("Renew(%q)", node), err)
}

func presenceLease(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return renew(ctx, p, "a", at(100)) },
		func() error { return renew(ctx, p, "b", at(200)) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(2), true) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(1), false) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(3), true) },
		func() error { return wantPresent(ctx, p, at(99), "room", who(1), who(2), who(3)) },
		func() error {
			return during("when one lease has ended", wantPresent(ctx, p, at(101), "room", who(1), who(2)))
		},
		func() error { return during("when both leases have ended", wantPresent(ctx, p, at(201), "room")) },
	)
}

func presenceNoLease(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return renew(ctx, p, "b", at(2)) },
		func() error { return wantPresent(ctx, p, at(1_000_000), "room", who(1)) },
		func() error { return enter(ctx, p, at(1_000_000), "b", "room", who(1), false) },
		func() error { return exit(ctx, p, at(1_000_000), "a", "room", who(1), false) },
		func() error { return exit(ctx, p, at(1_000_000), "b", "room", who(1), true) },
	)
}

func presenceLent(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return enter(ctx, p, at(1), "lost", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "back", "room", who(2), true) },
		func() error { return enter(ctx, p, at(1), "lost", "other", who(1), true) },
		func() error {
			return rolls(ctx, p, endBy("b", realtime.Roll{Room: "room", Users: []chat.Author{who(3)}}), places("room", who(3)), nil)
		},
		func() error {
			return during("while the lease lasts", wantPresent(ctx, p, at(99), "room", who(1), who(2), who(3)))
		},
		func() error { return renew(ctx, p, "back", at(1000)) },
		func() error { return renew(ctx, p, "b", at(1000)) },
		func() error {
			return during("after it has ended", wantPresent(ctx, p, at(101), "room", who(2), who(3)))
		},
		func() error { return during("in another room", wantPresent(ctx, p, at(101), "other")) },
	)
}

func presenceBack(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return renew(ctx, p, "a", at(100)) },
		func() error { return wantPresent(ctx, p, at(101), "room") },
		func() error { return renew(ctx, p, "a", at(300)) },
		func() error {
			return during("after the node has renewed", wantPresent(ctx, p, at(101), "room", who(1)))
		},
		func() error { return wantPresent(ctx, p, at(301), "room") },
		func() error { return renew(ctx, p, "a", at(400)) },
		func() error { return wantPresent(ctx, p, at(301), "room", who(1)) },
		func() error { return exit(ctx, p, at(302), "a", "room", who(1), true) },
		func() error { return wantPresent(ctx, p, at(302), "room") },
	)
}

func presenceFirstLease(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return renew(ctx, p, "a", at(100)) },
		func() error { return renew(ctx, p, "b", at(1000)) },
		func() error { return renew(ctx, p, "c", at(1000)) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error {
			return during("while the other node lives", enter(ctx, p, at(99), "b", "room", who(1), false))
		},
		func() error {
			return during("while the other node lives", exit(ctx, p, at(99), "b", "room", who(1), false))
		},
		func() error {
			return during("when the other node is dead", enter(ctx, p, at(101), "b", "room", who(1), true))
		},
		func() error { return enter(ctx, p, at(101), "c", "room", who(1), false) },
		func() error { return exit(ctx, p, at(101), "c", "room", who(1), false) },
		func() error {
			return during("when the other node is dead, and its users were not told", exit(ctx, p, at(101), "b", "room", who(1), false))
		},
		func() error { return wantPresent(ctx, p, at(101), "room") },
		func() error {
			return rolls(ctx, p, realtime.Renewal{Node: "c", Now: at(101), Until: at(1000), End: true, Rolls: []realtime.Roll{{Room: "room"}}}, nil, places("room", who(1)))
		},
		func() error { return enter(ctx, p, at(102), "b", "room", who(1), true) },
		func() error { return exit(ctx, p, at(102), "b", "room", who(1), true) },
	)
}

func presenceEnterRace(ctx context.Context, p realtime.Presence) error {
	const n = 12
	firsts := make([]bool, n)
	err := allTogether(n, func(i int) (err error) {
		firsts[i], err = p.Enter(ctx, at(1), fmt.Sprintf("node-%02d", i), "room", who(1))
		return during("Enter", err)
	})
	return then(err,
		func() error { return exactlyOne("first", firsts) },
		func() error { return wantPresent(ctx, p, at(1), "room", who(1)) },
	)
}

func presenceExitRace(ctx context.Context, p realtime.Presence) error {
	const n = 12
	for i := range n {
		if err := enter(ctx, p, at(1), fmt.Sprintf("node-%02d", i), "room", who(1), i == 0); err != nil {
			return err
		}
	}
	lasts := make([]bool, n)
	err := allTogether(n, func(i int) (err error) {
		lasts[i], err = p.Exit(ctx, at(2), fmt.Sprintf("node-%02d", i), "room", who(1))
		return during("Exit", err)
	})
	return then(err,
		func() error { return exactlyOne("last", lasts) },
		func() error { return wantPresent(ctx, p, at(2), "room") },
	)
}

func exactlyOne(what string, told []bool) error {
	n := 0
	for _, t := range told {
		if t {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("%d of %d concurrent calls were told %s, want exactly 1", n, len(told), what)
	}
	return nil
}

func presenceMany(ctx context.Context, p realtime.Presence) error {
	const n = 30
	var want []chat.Author
	for i := 0; i < n; i += 2 {
		want = append(want, who(i))
	}
	err := allTogether(n, func(i int) error {
		node := fmt.Sprintf("node-%d", i%3)
		if err := enter(ctx, p, at(1), node, "room", who(i), true); err != nil || i%2 == 0 {
			return err
		}
		return exit(ctx, p, at(2), node, "room", who(i), true)
	})
	return then(err, func() error { return wantPresent(ctx, p, at(3), "room", want...) })
}

func presenceCopies(ctx context.Context, p realtime.Presence) error {
	if err := first(
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(2), true) },
	); err != nil {
		return err
	}
	users, _, err := p.List(ctx, at(1), "room", 10)
	if err != nil {
		return during("List", err)
	}
	for i := range users {
		users[i].Name = "changed"
	}
	return wantPresent(ctx, p, at(1), "room", who(1), who(2))
}

func places(room string, users ...chat.Author) []realtime.Whereabouts {
	var all []realtime.Whereabouts
	for _, u := range users {
		all = append(all, realtime.Whereabouts{Room: room, User: u})
	}
	return all
}

// rolls renews, and wants these to have entered and left, in any order.
func rolls(ctx context.Context, p realtime.Presence, r realtime.Renewal, entered, left []realtime.Whereabouts) error {
	done, err := p.Renew(ctx, r)
	byUser := func(a, b realtime.Whereabouts) int {
		return cmp.Or(cmp.Compare(a.Room, b.Room), cmp.Compare(a.User.ID, b.User.ID))
	}
	for _, list := range [][]realtime.Whereabouts{done.Entered, done.Left} {
		slices.SortFunc(list, byUser)
	}
	if err == nil && !slices.Equal(done.Entered, entered) {
		err = fmt.Errorf("these have entered: %v, want %v", done.Entered, entered)
	}
	if err == nil && !slices.Equal(done.Left, left) {
		err = fmt.Errorf("these have left: %v, want %v", done.Left, left)
	}
	return during(fmt.Sprintf("Renew(%q) with rolls", r.Node), err)
}

// has is a renewal of node that lasts, with one room.
func has(node, room string, users ...chat.Author) realtime.Renewal {
	return realtime.Renewal{Node: node, Now: at(1), Until: at(100), Rolls: []realtime.Roll{{Room: room, Users: users}}}
}

func presenceFresh(ctx context.Context, p realtime.Presence) error {
	fresh := func(node string, want bool) error {
		done, err := p.Renew(ctx, realtime.Renewal{Node: node, Now: at(1), Until: at(100)})
		if err == nil && done.Fresh != want {
			err = fmt.Errorf("fresh is %t, want %t", done.Fresh, want)
		}
		return during(fmt.Sprintf("Renew(%q)", node), err)
	}
	return first(
		func() error { return fresh("a", true) },
		func() error { return fresh("a", false) },
		func() error { return fresh("b", true) },
		func() error { return fresh("a", false) },
		func() error { return fresh("b", false) },
	)
}

func presenceRollEnters(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(2), true) },
		func() error {
			return rolls(ctx, p, has("a", "room", who(3), who(2), who(1)), places("room", who(3)), nil)
		},
		func() error { return wantPresent(ctx, p, at(2), "room", who(1), who(2), who(3)) },
		func() error {
			return during("again", rolls(ctx, p, has("a", "room", who(1), who(2), who(3)), nil, nil))
		},
		func() error { return exit(ctx, p, at(2), "b", "room", who(2), false) },
		func() error { return exit(ctx, p, at(2), "a", "room", who(2), true) },
		func() error { return exit(ctx, p, at(2), "a", "room", who(3), true) },
		func() error { return wantPresent(ctx, p, at(2), "room", who(1)) },
		func() error {
			return during("after an exit", rolls(ctx, p, has("a", "room", who(1), who(2)), places("room", who(2)), nil))
		},
		func() error { return wantPresent(ctx, p, at(2), "room", who(1), who(2)) },
	)
}

func presenceRollLeaves(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(2), true) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(3), true) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(2), false) },
		func() error { return rolls(ctx, p, has("a", "room", who(3)), nil, places("room", who(1))) },
		func() error { return wantPresent(ctx, p, at(2), "room", who(2), who(3)) },
		func() error { return during("again", rolls(ctx, p, has("a", "room", who(3)), nil, nil)) },
		func() error { return exit(ctx, p, at(2), "a", "room", who(2), false) },
		func() error { return exit(ctx, p, at(2), "b", "room", who(2), true) },
		func() error {
			return during("with nobody", rolls(ctx, p, has("a", "room"), nil, places("room", who(3))))
		},
		func() error { return wantPresent(ctx, p, at(2), "room") },
		func() error {
			return during("one for another", first(
				func() error { return rolls(ctx, p, has("a", "room", who(1)), places("room", who(1)), nil) },
				func() error {
					return rolls(ctx, p, has("a", "room", who(2)), places("room", who(2)), places("room", who(1)))
				},
			))
		},
		func() error { return wantPresent(ctx, p, at(2), "room", who(2)) },
	)
}

func presenceRollExact(ctx context.Context, p realtime.Presence) error {
	var err error
	for n, name := range names {
		err = then(err,
			func() error { return enter(ctx, p, at(1), "a", name, who(n), true) },
			func() error { return enter(ctx, p, at(1), "b", name, who(100+n), true) },
		)
	}
	for n, name := range names {
		err = then(err,
			func() error { return rolls(ctx, p, has("a", name, who(n), who(200)), places(name, who(200)), nil) },
			func() error { return wantPresent(ctx, p, at(2), name, who(n), who(100+n), who(200)) },
			func() error { return rolls(ctx, p, has("a", name), nil, places(name, who(n), who(200))) },
			func() error { return wantPresent(ctx, p, at(2), name, who(100+n)) },
		)
	}
	return err
}

func presenceRollLarge(ctx context.Context, p realtime.Presence) error {
	const n = 1200
	users := make([]chat.Author, n)
	for i := range users {
		users[i] = chat.Author{ID: user.ID(fmt.Sprintf("user-%04d", i)), Name: "Zoë"}
	}
	odd := func() (some []chat.Author) {
		for i := 1; i < n; i += 2 {
			some = append(some, users[i])
		}
		return some
	}()
	wantCount := func(want int) error {
		_, count, err := p.List(ctx, at(2), "room", 0)
		if err == nil && count != want {
			err = fmt.Errorf("the count is %d, want %d", count, want)
		}
		return during("List", err)
	}
	small := has("a", "room", users...)
	small.Rolls = append(small.Rolls, realtime.Roll{Room: "other", Users: users[:3]})
	return first(
		func() error {
			return rolls(ctx, p, small, append(places("other", users[:3]...), places("room", users...)...), nil)
		},
		func() error { return wantCount(n) },
		func() error {
			return rolls(ctx, p, has("a", "room", odd...), nil, places("room", slices.DeleteFunc(slices.Clone(users), func(u chat.Author) bool { return slices.Contains(odd, u) })...))
		},
		func() error { return wantCount(n / 2) },
		func() error { return wantPresent(ctx, p, at(2), "other", users[:3]...) },
	)
}

// endBy renews node at(50), and ends the leases of others, which last until at(10) or do not.
func endBy(node string, rolls ...realtime.Roll) realtime.Renewal {
	return realtime.Renewal{Node: node, Now: at(50), Until: at(100), End: true, Rolls: rolls}
}

func presenceEnded(ctx context.Context, p realtime.Presence) error {
	if err := first(
		func() error { return renew(ctx, p, "a", at(10)) },
		func() error { return renew(ctx, p, "b", at(100)) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return rolls(ctx, p, endBy("b"), nil, nil) },
	); err != nil {
		return err
	}
	for range 2 {
		if _, err := p.Renew(ctx, realtime.Renewal{Node: "a", Now: at(51), Until: at(90), Rolls: []realtime.Roll{{Room: "other", Users: []chat.Author{who(2)}}}}); !errors.Is(err, realtime.ErrLeaseEnded) {
			return fmt.Errorf("the port's Renew of a node whose lease was ended: %w, want ErrLeaseEnded", err)
		}
	}
	done, err := p.Renew(ctx, realtime.Renewal{Node: "b", Now: at(52), Until: at(100)})
	if err == nil && !slices.Equal(done.Ended, []string{"a"}) {
		err = fmt.Errorf("ended are %q, want [\"a\"]", done.Ended)
	}
	return then(during("Renew", err),
		func() error { return wantPresent(ctx, p, at(52), "room") },
		func() error { return wantPresent(ctx, p, at(52), "other") },
		func() error {
			return during("of another name", rolls(ctx, p, endBy("a2", realtime.Roll{Room: "room", Users: []chat.Author{who(1)}}), places("room", who(1)), nil))
		},
		func() error { return wantPresent(ctx, p, at(52), "room", who(1)) },
	)
}

func presenceEndedOnly(ctx context.Context, p realtime.Presence) error {
	never := endBy("b")
	never.End = false
	return first(
		func() error { return renew(ctx, p, "a", at(10)) },
		func() error { return renew(ctx, p, "lasts", at(60)) },
		func() error { return enter(ctx, p, at(1), "unleased", "room", who(1), true) },
		func() error { return rolls(ctx, p, never, nil, nil) },
		func() error { return during("after a renewal without End", renew(ctx, p, "a", at(60))) },
		func() error { return rolls(ctx, p, endBy("b"), nil, nil) },
		func() error {
			return during("a lease that lasts", first(
				func() error { return renew(ctx, p, "a", at(70)) },
				func() error { return renew(ctx, p, "lasts", at(70)) },
			))
		},
		func() error { return during("a lease of its own", renew(ctx, p, "b", at(100))) },
		func() error { return during("no lease", renew(ctx, p, "unleased", at(100))) },
		func() error { return wantPresent(ctx, p, at(50), "room", who(1)) },
	)
}

func presenceDead(ctx context.Context, p realtime.Presence) error {
	return first(
		func() error { return renew(ctx, p, "a", at(10)) },
		func() error { return renew(ctx, p, "a2", at(10)) },
		func() error { return renew(ctx, p, "b", at(100)) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(1), true) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(2), true) },
		func() error { return enter(ctx, p, at(1), "a", "room", who(3), true) },
		func() error { return enter(ctx, p, at(1), "a2", "room", who(3), false) },
		func() error { return enter(ctx, p, at(1), "b", "room", who(2), false) },
		func() error { return enter(ctx, p, at(1), "a", "other", who(4), true) },
		func() error {
			return rolls(ctx, p, endBy("b", realtime.Roll{Room: "room", Users: []chat.Author{who(2)}}), nil, places("room", who(1), who(3)))
		},
		func() error {
			return during("again", rolls(ctx, p, endBy("b", realtime.Roll{Room: "room", Users: []chat.Author{who(2)}}), nil, nil))
		},
		func() error { return wantPresent(ctx, p, at(51), "room", who(2)) },
		func() error { return exit(ctx, p, at(51), "b", "room", who(2), true) },
		func() error {
			return during("in another room", rolls(ctx, p, endBy("b", realtime.Roll{Room: "other"}), nil, places("other", who(4))))
		},
		func() error { return during("when they come back", enter(ctx, p, at(52), "b", "room", who(1), true)) },
	)
}

func presenceDeadRace(ctx context.Context, p realtime.Presence) error {
	const n = 8
	if err := first(
		func() error { return renew(ctx, p, "dead", at(10)) },
		func() error { return enter(ctx, p, at(1), "dead", "room", who(1), true) },
	); err != nil {
		return err
	}
	told := make([]bool, n)
	err := allTogether(n, func(i int) error {
		done, err := p.Renew(ctx, endBy(fmt.Sprintf("node-%d", i), realtime.Roll{Room: "room", Users: []chat.Author{who(10 + i)}}))
		told[i] = slices.Equal(done.Left, places("room", who(1)))
		return during("Renew", err)
	})
	return then(err, func() error { return exactlyOne("that somebody has left", told) })
}
