package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
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
	room string
	acks chan []byte // to whoever sends on it; nil for those who only read
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
	c := &crowd{plan: p, latencies: make([][]time.Duration, len(p.Tokens))}
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
	dialer := websocket.Dialer{ReadBufferSize: 1024, WriteBufferSize: 512, WriteBufferPool: &sync.Pool{}, Subprotocols: []string{"parley.v1"}, HandshakeTimeout: time.Minute}
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
				conn, answer, err := dialer.DialContext(ctx, "ws://"+c.Address+"/socket", http.Header{"Authorization": {"Bearer " + c.Tokens[i]}})
				if answer != nil {
					_ = answer.Body.Close()
				}
				if err != nil {
					errs <- err
					return
				}
				m := &member{Conn: conn, room: "room-" + strconv.Itoa(i%c.Rooms)}
				if i < c.Senders {
					m.acks = make(chan []byte, c.InFlight+1)
				}
				c.members[i] = m
				if err := conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"id":0,"event":"join_room","data":{"room":%q}}`, m.room)); err != nil {
					errs <- err
					return
				}
				for {
					_, text, err := conn.ReadMessage()
					if err != nil {
						errs <- err
						return
					}
					if bytes.HasPrefix(text, []byte(`{"id":0,`)) {
						break
					}
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

// read counts deliveries and passes acks on, until the connection ends.
func (c *crowd) read(i int, m *member) {
	for {
		_, text, err := m.ReadMessage()
		if err != nil {
			return
		}
		if m.acks != nil && bytes.HasPrefix(text, []byte(`{"id":`)) {
			m.acks <- text
			continue
		}
		if !bytes.HasPrefix(text, []byte(`{"event":"message"`)) {
			continue
		}
		if at := bytes.Index(text, []byte(`"text":"`)); at >= 0 && len(text) > at+27 {
			if sent, err := strconv.ParseInt(string(text[at+8:at+27]), 10, 64); err == nil {
				c.latencies[i] = append(c.latencies[i], time.Since(time.Unix(0, sent)))
			}
		}
		if n := c.deliveries.Add(1); n == c.expect.Load() {
			c.complete <- struct{}{}
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
	r := result{Sent: sent, Acked: len(acks), Seconds: seconds, Deliveries: int(c.deliveries.Load())}
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
		return m.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"id":%d,"event":"message","data":{"room":%q,"text":%q}}`, sent, m.room, text))
	}
	for range window {
		if one() != nil {
			break
		}
	}
	for len(due) > 0 {
		select {
		case text := <-m.acks:
			var a struct {
				ID    int
				Event string
			}
			if json.Unmarshal(text, &a) != nil {
				return sent, acks
			}
			if a.Event == "ack" {
				acks = append(acks, time.Since(due[a.ID]))
			}
			delete(due, a.ID)
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
