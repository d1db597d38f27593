package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lesismal/nbio"
	"github.com/lesismal/nbio/logging"
)

// Client is the other side of a bench: it reads a plan from in, joins, says so, and, each time it is told to go, sends and
// says what it saw. It ends with in.
func Client(ctx context.Context, in io.Reader, stdout io.Writer) error {
	input := bufio.NewReader(in)
	var p plan
	line, err := input.ReadBytes('\n')
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, &p); err != nil {
		return err
	}
	c, err := gather(ctx, p)
	if err != nil {
		return err
	}
	defer c.close()
	if _, err := io.WriteString(stdout, "joined\n"); err != nil {
		return err
	}
	for {
		switch line, err := input.ReadString('\n'); {
		case err != nil:
			return nil // the sign to end
		case line == "expect\n":
			c.begin()
			_, err = io.WriteString(stdout, "expecting\n")
			if err != nil {
				return err
			}
		case line == "go\n":
			answer := func() (result, error) { return c.load(ctx), nil }
			if c.What == storm {
				answer = func() (result, error) { return c.comeBack(ctx) }
			}
			r, err := answer()
			if err != nil {
				return err
			}
			if err := json.NewEncoder(stdout).Encode(r); err != nil {
				return err
			}
		default:
			return fmt.Errorf("bench: the clients do not know %q", line)
		}
	}
}

// crowd is all clients of a process. One poller reads for all of them.
type crowd struct {
	plan
	wire   wire
	engine *nbio.Engine
	// handed is written before a connection is handed to nbio and read when it comes back. It orders the two for the race
	// detector, from which nbio hides its own locking.
	handed atomic.Uint32
	peers  []*peer
	sizes  []int32 // members of each room

	places  chan struct{} // one for each client that is on its way in
	inside  atomic.Int64
	all     chan struct{} // closed when everybody is in
	first   chan error    // what failed first
	closing atomic.Bool
	now     atomic.Pointer[tally]

	mu     sync.Mutex
	closes map[string]int // connections that ended by themselves, by code
}

// arriving is how many clients connect at once.
const arriving = 64

// patience is how long a client waits for what does not come.
const patience = time.Minute

// gather opens every connection and joins.
func gather(ctx context.Context, p plan) (*crowd, error) {
	logging.SetLevel(logging.LevelError) // else nbio writes to standard output
	c := &crowd{
		plan: p, wire: wireOf(p.Wire), peers: make([]*peer, p.Members), sizes: make([]int32, p.Rooms),
		places: make(chan struct{}, arriving), all: make(chan struct{}), first: make(chan error, 1), closes: map[string]int{},
	}
	c.engine = nbio.NewEngine(nbio.Config{Name: "bench", NPoller: 1})
	c.engine.OnData(func(conn *nbio.Conn, b []byte) {
		c.handed.Load()
		if p, ok := conn.Session().(*peer); ok {
			p.feed(b)
		}
	})
	c.engine.OnClose(func(conn *nbio.Conn, _ error) {
		c.handed.Load()
		if p, ok := conn.Session().(*peer); ok {
			p.closed()
		}
	})
	if err := c.engine.Start(); err != nil {
		return nil, err
	}
	if p.What == storm {
		c.begin() // what comes between two cuts counts, too
	}
	for i := range c.peers {
		select {
		case c.places <- struct{}{}:
		case err := <-c.first:
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		m := &peer{crowd: c, index: int32(i), room: int32(i % p.Rooms)} //nolint:gosec // both fit
		if i < p.Senders {
			m.replies, m.gone = make(chan reply, p.InFlight+1), make(chan struct{}) // the poller never waits
		}
		c.peers[i] = m
		c.sizes[m.room]++
		if err := c.open(ctx, m); err != nil {
			return nil, err
		}
	}
	return c, c.entrance(ctx)
}

// open connects a client and begins its handshake.
func (c *crowd) open(ctx context.Context, m *peer) error {
	dialer := net.Dialer{Timeout: patience, KeepAlive: -1}
	conn, err := dialer.DialContext(ctx, "tcp", c.Address)
	if err != nil {
		return err
	}
	if m.conn, err = nbio.NBConn(conn); err != nil {
		return err
	}
	m.conn.SetSession(m)
	c.handed.Add(1)
	if _, err := c.engine.AddConn(m.conn); err != nil {
		return err
	}
	return m.start()
}

// entrance waits until everybody has joined.
func (c *crowd) entrance(ctx context.Context) error {
	select {
	case <-c.all:
		return nil
	case err := <-c.first:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(patience):
		return fmt.Errorf("bench: %d of %d clients joined within %v", c.inside.Load(), len(c.peers), patience)
	}
}

// entered counts a client that has joined.
func (c *crowd) entered() {
	<-c.places
	if c.inside.Add(1) == int64(len(c.peers)) {
		close(c.all)
	}
}

// failed keeps the first error.
func (c *crowd) failed(err error) {
	select {
	case c.first <- err:
	default:
	}
}

// lost counts a connection that the server ended.
func (c *crowd) lost(code string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closes[code]++
}

// comeBack ends all connections at once, as when a network fails, and opens them again as fast as it can. Each client asks for
// what it missed; it counts what comes twice and what is missing.
func (c *crowd) comeBack(ctx context.Context) (r result, err error) {
	t := c.now.Load()
	seen, twice, gaps := t.deliveries.Load(), t.twice.Load(), t.gaps.Load()
	c.closing.Store(true)
	before := c.peers
	for _, p := range before {
		p.stage.Store(over)
		_ = p.conn.Close()
	}
	c.closing.Store(false)
	started := time.Now()
	c.inside.Store(0)
	c.all, c.places, c.peers = make(chan struct{}), make(chan struct{}, len(before)), make([]*peer, len(before))
	errs := make(chan error, len(before))
	var wg sync.WaitGroup
	var next atomic.Int64
	for range min(len(before), dialers) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(before) {
					return
				}
				m := &peer{crowd: c, index: before[i].index, room: before[i].room, since: before[i].last.Load(), back: true}
				c.peers[i] = m
				c.places <- struct{}{}
				if err := c.open(ctx, m); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return r, err
	default:
	}
	if err := c.entrance(ctx); err != nil {
		return r, err
	}
	r = result{
		Seconds: time.Since(started).Seconds(), Acked: int(c.inside.Load()), Deliveries: int(t.deliveries.Load() - seen),
		Twice: int(t.twice.Load() - twice), Gaps: int(t.gaps.Load() - gaps),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r.Closes, c.closes = c.closes, map[string]int{}
	return r, nil
}

// dialers is how many connections are opened at a time when all come back.
const dialers = 1024

func (c *crowd) close() {
	c.closing.Store(true)
	for _, p := range c.peers {
		_ = p.conn.Close()
	}
	c.engine.Stop()
}

func (c *crowd) roomName(room int32) string { return "room-" + c.Run + strconv.Itoa(int(room)) }

// tally is what is seen of one load. Its counters are written by the poller.
type tally struct {
	started    time.Time
	words      int      // of seen, for a member
	seen       []uint64 // a bit for each message of each member; for "fanout" alone
	awaited    []atomic.Int32
	senders    []*sender // by the number of the message; for "fanout" alone
	expected   int64
	deliveries atomic.Int64
	twice      atomic.Int64
	gaps       atomic.Int64
	refused    atomic.Int64
	complete   chan struct{} // closed when all that is expected has come
	latencies  histogram
	acks       histogram
}

// sender is one client that sends.
type sender struct {
	*peer
	delivered chan int // numbers of messages that everybody has; for "fanout" alone
}

// begin makes ready for what comes next.
func (c *crowd) begin() {
	t := &tally{complete: make(chan struct{}), started: time.Now()}
	if c.What == fanout {
		t.words = (c.Messages + 63) / 64
		t.seen = make([]uint64, t.words*len(c.peers))
		t.awaited = make([]atomic.Int32, c.Messages)
		t.senders = make([]*sender, c.Messages)
		if c.Senders == 0 { // others send, to the one room that all are in
			t.expected = int64(c.Messages) * int64(len(c.peers))
		}
	}
	c.now.Store(t)
}

// delivered counts a message that has come.
func (c *crowd) delivered(p *peer, h heard) {
	t := c.now.Load()
	if h.seq != 0 {
		switch {
		case t == nil: // nobody counts yet
		case c.What == storm && h.seq <= p.seq:
			t.twice.Add(1)
		case p.seq != 0 && h.seq != p.seq+1:
			t.gaps.Add(1)
		}
		p.seq = h.seq
		if c.What == storm {
			p.last.Store(h.seq)
		}
	}
	if t == nil || h.sent < t.started.UnixNano() && c.What != storm {
		return // of another load
	}
	t.latencies.add(time.Duration(time.Now().UnixNano() - h.sent))
	if t.seen == nil {
		t.deliveries.Add(1)
		return
	}
	if h.number >= c.Messages {
		return // of another run
	}
	word, bit := &t.seen[int(p.index)*t.words+h.number/64], uint64(1)<<(h.number%64)
	if *word&bit != 0 {
		t.twice.Add(1)
		return
	}
	*word |= bit
	if n := t.deliveries.Add(1); c.Senders == 0 && n == t.expected {
		close(t.complete)
	}
	if c.Senders > 0 && t.awaited[h.number].Add(-1) == 0 {
		t.senders[h.number].delivered <- h.number
	}
}

// load sends: for "send" as much as it can for a while, for "fanout" a number of messages. Without senders it only waits.
func (c *crowd) load(ctx context.Context) result {
	if c.Senders > 0 {
		c.begin()
	}
	t := c.now.Load()
	sent, done := 0, 0
	if c.Senders == 0 {
		select {
		case <-t.complete:
		case <-ctx.Done():
		case <-time.After(patience):
		}
	} else {
		sent, done = c.send(ctx, t)
	}
	r := result{
		Sent: sent, Acked: done, Seconds: time.Since(t.started).Seconds(), Refused: int(t.refused.Load()),
		Deliveries: int(t.deliveries.Load()), Expected: int(t.expected), Twice: int(t.twice.Load()), Gaps: int(t.gaps.Load()),
		AckP50: t.acks.quantile(0.5), AckP99: t.acks.quantile(0.99),
		P50: t.latencies.quantile(0.5), P99: t.latencies.quantile(0.99), Last: t.latencies.quantile(1),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.closes) > 0 {
		r.Closes = c.closes
	}
	return r
}

// send lets the senders send, and returns how many messages were sent, and acknowledged.
func (c *crowd) send(ctx context.Context, t *tally) (sent, done int) {
	senders, window := min(c.Senders, len(c.peers)), c.InFlight
	if c.What == fanout {
		// InFlight counts all senders together here: so many send one after the other.
		senders, window = min(senders, c.InFlight), 1
	}
	all := make([]*sender, senders)
	for i := range all {
		all[i] = &sender{peer: c.peers[i], delivered: make(chan int, window+1)}
	}
	if c.What == fanout {
		for n := range c.Messages {
			s := all[n%senders]
			t.senders[n] = s
			t.awaited[n].Store(c.sizes[s.room])
			t.expected += int64(c.sizes[s.room])
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next := func(i, k int) int { return k*senders + i } // the number of its k-th message
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i, s := range all {
		wg.Go(func() {
			n, m := c.sending(ctx, t, s, func(k int) int { return next(i, k) }, window, senders)
			mu.Lock()
			defer mu.Unlock()
			sent, done = sent+n, done+m
		})
	}
	wg.Wait()
	return sent, done
}

// sending keeps so many messages of one sender under way. For "send" a message is under way until its ack, and what is sent
// is as much as can be until the deadline; for "fanout" it is under way until everybody in the room has it, too.
func (c *crowd) sending(ctx context.Context, t *tally, s *sender, number func(k int) int, window, senders int) (sent, done int) {
	var ends <-chan time.Time
	messages := -1
	if c.What == fanout {
		messages = c.Messages / senders
		if int(s.index) < c.Messages%senders {
			messages++
		}
	} else {
		timer := time.NewTimer(c.Duration)
		defer timer.Stop()
		ends = timer.C
	}
	ready := closedChannel
	if c.Rate > 0 {
		pace := time.NewTicker(time.Second * time.Duration(senders) / time.Duration(c.Rate))
		defer pace.Stop()
		ready = pace.C
	}
	due := map[int]time.Time{} // sent and not acknowledged, by number
	half := map[int]bool{}     // acknowledged or delivered, and not both
	open, over := 0, messages == 0
	settle := func(n int) {
		if c.What == fanout && !half[n] {
			half[n] = true
			return
		}
		delete(half, n)
		open--
	}
	still := time.NewTimer(patience)
	defer still.Stop()
	for open > 0 || !over {
		still.Reset(patience)
		may := ready
		if over || open >= window {
			may = nil
		}
		select {
		case <-may:
			n, now := number(sent), time.Now()
			due[n] = now
			sent++
			open++
			if err := s.write(0x1, c.wire.message(n+1, c.roomName(s.room), textOf(now.UnixNano(), n, c.Size))); err != nil {
				return sent, done
			}
			over = over || sent == messages
		case r := <-s.replies:
			at, ok := due[r.number]
			if !ok {
				continue
			}
			delete(due, r.number)
			if r.refused {
				t.refused.Add(1)
				open--
				continue
			}
			t.acks.add(time.Since(at))
			done++
			settle(r.number)
		case n := <-s.delivered:
			settle(n)
		case <-s.gone:
			return sent, done
		case <-ends:
			over = true
		case <-ctx.Done():
			return sent, done
		case <-still.C:
			return sent, done
		}
	}
	return sent, done
}

// closedChannel never makes anybody wait.
var closedChannel = func() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}()
