package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// member is a connection that has joined a room.
type member struct {
	*websocket.Conn
	writing sync.Mutex
	room    string
	acks    chan heard // to whoever sends on it; nil for those who only read
}

// Client is the other side of a bench: it reads a plan from in, joins, says so, and, told to go,
// sends and says what it saw. It ends with in.
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
	c := &crowd{plan: p, wire: wireOf(p.Wire), latencies: make([][]time.Duration, len(p.Tokens))}
	if err := c.join(ctx); err != nil {
		return err
	}
	defer c.close()
	if _, err := io.WriteString(stdout, "joined\n"); err != nil {
		return err
	}
	if line, _ := input.ReadString('\n'); line != "go\n" {
		return nil // an idle bench ends by closing in
	}
	return json.NewEncoder(stdout).Encode(c.load())
}

type crowd struct {
	plan
	wire       wire
	members    []*member
	deliveries atomic.Int64
	expect     atomic.Int64
	complete   chan struct{}
	latencies  [][]time.Duration // of deliveries, by member
}

// join opens every connection and joins, a few at a time.
func (c *crowd) join(ctx context.Context) error {
	c.members = make([]*member, len(c.Tokens))
	c.complete = make(chan struct{}, 1)
	c.expect.Store(-1)
	dialer := websocket.Dialer{ReadBufferSize: 1024, WriteBufferSize: 512, WriteBufferPool: &sync.Pool{}, Subprotocols: c.wire.protocol, HandshakeTimeout: time.Minute}
	next := atomic.Int64{}
	errs := make(chan error, 16)
	var wg sync.WaitGroup
	for range cap(errs) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(c.Tokens) {
					return
				}
				conn, answer, err := dialer.DialContext(ctx, "ws://"+c.Address+c.wire.path, header(c.Tokens[i]))
				if answer != nil {
					_ = answer.Body.Close()
				}
				if err != nil {
					errs <- err
					return
				}
				m := &member{Conn: conn, room: "room-" + strconv.Itoa(i%c.Rooms)}
				if i < c.Senders {
					m.acks = make(chan heard, c.InFlight+1)
				}
				c.members[i] = m
				if err := c.enter(m); err != nil {
					errs <- err
					return
				}
				go c.read(i, m)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// enter joins the member's room.
func (c *crowd) enter(m *member) error {
	if err := c.wire.greet(m); err != nil {
		return err
	}
	if err := m.write(c.wire.join(m.room)); err != nil {
		return err
	}
	for {
		_, text, err := m.ReadMessage()
		if err != nil {
			return err
		}
		switch h := c.wire.hear(text); h.kind {
		case acked:
			return nil
		case refused:
			return fmt.Errorf("the server refuses a join: %s", text)
		case pinged:
			if err := m.write(pong); err != nil {
				return err
			}
		}
	}
}

var pong = []byte("3")

// read counts deliveries and passes acks on, until the connection ends.
func (c *crowd) read(i int, m *member) {
	for {
		_, text, err := m.ReadMessage()
		if err != nil {
			return
		}
		switch h := c.wire.hear(text); h.kind {
		case pinged:
			if m.write(pong) != nil {
				return
			}
		case acked, refused:
			if m.acks != nil {
				m.acks <- h
			}
		case delivered:
			if h.sent != 0 {
				c.latencies[i] = append(c.latencies[i], time.Since(time.Unix(0, h.sent)))
			}
			if n := c.deliveries.Add(1); n == c.expect.Load() {
				c.complete <- struct{}{}
			}
		}
	}
}

// load sends: for "send" as much as it can for a while, for "fanout" a number of messages.
func (c *crowd) load() result {
	senders := min(c.Senders, len(c.members))
	each, window := -1, c.InFlight
	if c.What == "fanout" {
		// InFlight counts all senders together here: so many send one after the other.
		senders = min(senders, c.InFlight)
		each, window = c.Messages/senders, 1
		per := len(c.members) / c.Rooms
		c.expect.Store(int64(each * senders * per))
	}
	var mu sync.Mutex
	var acks []time.Duration
	sent := 0
	started := time.Now()
	deadline := started.Add(c.Duration)
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			n, mine := c.send(c.members[i], each, window, deadline)
			mu.Lock()
			defer mu.Unlock()
			acks = append(acks, mine...)
			sent += n
		})
	}
	wg.Wait()
	seconds := time.Since(started).Seconds()
	if c.What == "fanout" {
		select {
		case <-c.complete:
		case <-time.After(time.Minute):
		}
	}
	r := result{Sent: sent, Acked: len(acks), Seconds: seconds, Deliveries: int(c.deliveries.Load()), Expected: int(max(0, c.expect.Load()))}
	r.AckP50, r.AckP99 = quantiles(acks)
	if c.What == "fanout" {
		r.P50, r.P99 = quantiles(slices.Concat(c.latencies...))
	}
	return r
}

// send keeps window messages under way, until there were so many, or the deadline.
func (c *crowd) send(m *member, messages, window int, deadline time.Time) (sent int, acks []time.Duration) {
	due := map[int]time.Time{}
	ended := errors.New("ended")
	one := func() error {
		if (messages >= 0 && sent >= messages) || (messages < 0 && !time.Now().Before(deadline)) {
			return ended
		}
		sent++
		now := time.Now()
		due[sent] = now
		text := strconv.FormatInt(now.UnixNano(), 10)
		text += strings.Repeat("x", max(0, c.Size-len(text)))
		return m.write(c.wire.message(sent, m.room, text))
	}
	for range window {
		if one() != nil {
			break
		}
	}
	for len(due) > 0 {
		select {
		case a := <-m.acks:
			if a.kind == acked {
				acks = append(acks, time.Since(due[a.id]))
			}
			delete(due, a.id)
			_ = one()
		case <-time.After(time.Minute):
			return sent, acks
		}
	}
	return sent, acks
}

func (c *crowd) close() {
	for _, m := range c.members {
		if m != nil {
			_ = m.Close()
		}
	}
}

// quantiles returns the median and the 99th percentile in milliseconds.
func quantiles(d []time.Duration) (p50, p99 float64) {
	if len(d) == 0 {
		return 0, 0
	}
	slices.Sort(d)
	at := func(q float64) float64 { return float64(d[int(q*float64(len(d)-1))].Microseconds()) / 1000 }
	return at(0.5), at(0.99)
}
