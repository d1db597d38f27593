package wsclient

import (
	"context"
	"encoding/json"
	"time"

	"github.com/gorilla/websocket"
)

// call is a request that waits for its answer.
type call struct {
	id    uint64
	event string
	room  string // that it is about, if any
	data  any
	// once says that it is not repeated on a new connection after it was written.
	once bool
	// serves says whether a room's server knows the event, and older is the outcome where it would take it for a bad one. nil if every
	// server knows it.
	serves func(r *room) bool
	older  error
	// internal says that it is the client's own, and made anew with each connection.
	internal bool
	// unanswered says that it is done when it is written.
	unanswered bool
	// take reads the ack's data, on the client's own goroutine and without the lock. nil if
	// nobody wants it.
	take func(ack json.RawMessage) error
	// refused takes the server's refusal in the same way, for requests of the client itself.
	refused func(err *Error)
	// err is the outcome, set before finished is closed.
	err      error
	finished chan struct{}
}

func (k *call) finish(err error) {
	k.err = err
	close(k.finished)
}

// served reports whether the server of a room that was joined knows the event.
func (k *call) served(r *room) bool { return k.serves == nil || k.serves(r) }

// request asks and waits for the answer.
func request[T any](ctx context.Context, c *Client, k *call) (T, error) {
	var answer, none T
	k.take = func(ack json.RawMessage) error { return decode(ack, &answer) }
	if err := c.do(ctx, k); err != nil {
		return none, err
	}
	return answer, nil
}

// do sends k and waits for its outcome.
func (c *Client) do(ctx context.Context, k *call) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := c.begin(k); err != nil {
		return err
	}
	select {
	case <-k.finished:
		return k.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	_, waiting := c.calls[k.id]
	delete(c.calls, k.id)
	c.mu.Unlock()
	if !waiting {
		<-k.finished // its answer is being read just now
		return k.err
	}
	return ctx.Err()
}

// begin sends k, now or when there is a connection.
func (c *Client) begin(k *call) error {
	k.finished = make(chan struct{})
	c.mu.Lock()
	if c.calls == nil {
		defer c.mu.Unlock()
		return c.err
	}
	if r := c.rooms[c.name(k.room)]; r != nil && r.joined && !k.served(r) {
		defer c.mu.Unlock()
		return k.older
	}
	c.nextID++
	k.id = c.nextID
	c.calls[k.id] = k
	if c.mayGo(k) {
		c.enqueue(k)
	}
	c.mu.Unlock()
	c.pump()
	return nil
}

// enqueue lets requests wait to be written; without a connection they wait for the next. c.mu is held.
func (c *Client) enqueue(calls ...*call) {
	if c.ws != nil {
		c.queue = append(c.queue, calls...)
	}
}

// pump writes what waits, as far as rate and window allow.
func (c *Client) pump() {
	c.writing.Lock()
	defer c.writing.Unlock()
	for {
		c.mu.Lock()
		k, ws := c.next(time.Now()), c.ws
		c.mu.Unlock()
		if k == nil {
			return
		}
		out := outgoing{ID: k.id, Event: k.event, Data: k.data}
		if k.unanswered {
			out.ID = 0
		}
		_ = ws.SetWriteDeadline(time.Now().Add(writeTimeout)) // never fails
		text, err := encode(out)
		if err == nil {
			err = ws.WriteMessage(websocket.TextMessage, text)
		}
		if err != nil {
			c.mu.Lock()
			delete(c.sent, k.id) // the server cannot have the whole of it
			c.mu.Unlock()
			_ = ws.NetConn().Close() // reading ends too, and the requests are repeated
			return
		}
		if k.unanswered {
			c.written(k)
		}
	}
}

// written ends a request that is not answered.
func (c *Client) written(k *call) {
	c.mu.Lock()
	_, waiting := c.calls[k.id]
	delete(c.calls, k.id)
	c.mu.Unlock()
	if waiting {
		k.finish(nil)
	}
}

// next takes the next request that may be written. c.mu is held.
func (c *Client) next(now time.Time) *call {
	for len(c.queue) > 0 && c.ws != nil {
		k := c.queue[0]
		if c.calls[k.id] != k { // its caller has stopped waiting
			c.queue = c.queue[1:]
			continue
		}
		if len(c.sent) >= c.cfg.Window {
			return nil // the next answer pumps
		}
		if wait := c.bucket(now); wait > 0 {
			if c.pacer == nil {
				c.pacer = time.AfterFunc(wait, c.pump)
			} else {
				c.pacer.Reset(wait)
			}
			return nil
		}
		c.queue = c.queue[1:]
		if !k.unanswered {
			if len(c.sent) == 0 {
				c.watch(c.cfg.AckTimeout)
			}
			c.sent[k.id] = now
		}
		return k
	}
	return nil
}

// bucket takes one event from the rate, or says how long to wait for it: the generic cell rate algorithm. c.mu is held.
func (c *Client) bucket(now time.Time) time.Duration {
	if c.cfg.Rate < 0 {
		return 0
	}
	each := time.Second / time.Duration(c.cfg.Rate)
	if c.due.Before(now) {
		c.due = now
	}
	if wait := c.due.Sub(now) - each*time.Duration(c.cfg.Burst-1); wait > 0 {
		return wait
	}
	c.due = c.due.Add(each)
	return 0
}

// watch looks after the answers in a while. c.mu is held.
func (c *Client) watch(in time.Duration) {
	if c.warden == nil {
		c.warden = time.AfterFunc(in, c.late)
	} else {
		c.warden.Reset(in)
	}
}

// late gives up a connection on which an answer does not come.
func (c *Client) late() {
	now := time.Now()
	c.mu.Lock()
	var oldest time.Duration
	for _, at := range c.sent {
		oldest = max(oldest, now.Sub(at))
	}
	broken := len(c.sent) > 0 && oldest >= c.cfg.AckTimeout
	if len(c.sent) > 0 && !broken {
		c.watch(c.cfg.AckTimeout - oldest)
	}
	c.mu.Unlock()
	if broken {
		c.Drop()
	}
}

// stopTimers stops what belongs to a connection. c.mu is held.
func (c *Client) stopTimers() {
	for _, t := range []*time.Timer{c.pacer, c.warden} {
		if t != nil {
			t.Stop()
		}
	}
}
