package contract_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
)

// Ways to break a wire; the zero value keeps every promise.
type defects struct {
	reorders, doubles, loses, mutates, mixesUp         bool
	firstOfJoined, joinedAsOne                         bool
	blocks, hidesQueue, neverDrains, refusesQueue      bool
	sendsAfterClose, okAfterClose, okWhenGone          bool
	dropsQueue, cutsReason, lastCloseWins              bool
	neverCuts, goneTwice, neverGone, receivesAfterGone bool
	goneFirst, overlaps, splits                        bool
	forgetsBinary, noPong, noCode, noDraining, noEmpty bool
	closesTwice, reordersReceive, fewPongs             bool
}

// wire is a connection in memory: the suite is tested on it. The network holds a few frames in
// each direction; what does not fit waits in the queue, or in the client.
type wire struct {
	defects
	receiver socket.Receiver
	toClient chan packet
	toServer chan packet
	cut      chan struct{}
	cutOnce  sync.Once
	cutAfter time.Duration

	mu      sync.Mutex
	wake    *sync.Cond
	queue   []packet
	queued  int
	closing bool
	last    packet // the close frame of the last Close
	sent    int
}

type packet struct {
	kind    string // text, binary, close, ping, pong
	parts   [][]byte
	code    int
	reason  string
	arrived []byte
}

func dial(d defects, acceptor *contract.Acceptor) (*wire, error) {
	w := &wire{defects: d, toClient: make(chan packet, 4), toServer: make(chan packet, 16), cut: make(chan struct{}), cutAfter: time.Second}
	w.wake = sync.NewCond(&w.mu)
	go w.write()
	receiver, err := acceptor.Accept(w, socket.Hello{})
	if err != nil {
		code := fault.KindOf(err).CloseCode()
		if errors.Is(err, socket.ErrDraining) && !d.noDraining {
			code = socket.CloseServiceRestart
		}
		if d.noCode {
			code = socket.CloseNormal
		}
		w.receiver = deaf{}
		go w.read()
		w.Close(code, "refused")
		return w, err
	}
	w.receiver = receiver
	go w.read()
	return w, nil
}

var mutating sync.Mutex

// deaf is the receiver of a connection that was refused.
type deaf struct{}

func (deaf) Receive([]byte, bool) {}
func (deaf) Disconnected()        {}

func (w *wire) gone() bool {
	select {
	case <-w.cut:
		return true
	default:
		return false
	}
}

func (w *wire) end() {
	w.cutOnce.Do(func() {
		close(w.cut)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.wake.Broadcast()
	})
}

func (w *wire) Send(f *socket.Frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone() && !w.okWhenGone {
		return fault.Unavailable
	}
	if w.closing && !w.sendsAfterClose {
		if w.okAfterClose {
			return nil
		}
		return fault.Unavailable
	}
	if w.refusesQueue && w.queued > 100<<10 {
		return fault.Exhausted
	}
	for w.blocks && w.queued > 100<<10 && !w.gone() {
		w.wake.Wait()
	}
	if w.joinedAsOne && f.Payload() == nil {
		var all []byte
		for m := range f.Messages() {
			all = append(all, m.Payload()...)
		}
		f = socket.NewFrame(func(dst []byte) []byte { return append(dst, all...) })
	}
	for m := range f.Messages() {
		w.put(m)
		if w.firstOfJoined {
			break
		}
	}
	w.wake.Broadcast()
	return nil
}

// put queues one message. w.mu is held.
func (w *wire) put(f *socket.Frame) {
	kind := "text"
	if f.Binary() {
		kind = "binary"
	}
	payload := f.Payload()
	if w.mutates && len(payload) > 0 {
		mutating.Lock() // a frame is shared, and this must not be found by the race detector alone
		defer mutating.Unlock()
		payload[0]++
	}
	if w.noEmpty && len(payload) == 0 {
		return
	}
	w.sent++
	p := packet{kind: kind, arrived: bytes.Clone(payload)}
	switch {
	case w.loses && w.sent%7 == 0:
		return
	case w.mixesUp && w.sent%5 == 0:
		p.arrived = p.arrived[:len(p.arrived)/2]
	case w.reorders && len(w.queue) > 0:
		w.queue = slices.Insert(w.queue, len(w.queue)-1, p)
	case w.doubles:
		w.queue = append(w.queue, p)
	}
	if !w.reorders || len(w.queue) == 0 {
		w.queue = append(w.queue, p)
	}
	w.queued += f.Len()
}

func (w *wire) Queued() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hidesQueue {
		return 0
	}
	if w.neverDrains {
		return w.queued + w.sent
	}
	return w.queued
}

func (w *wire) Close(code int, reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing {
		w.last = packet{kind: "close", code: code, reason: reason}
		if w.closesTwice {
			w.queue = append(w.queue, packet{kind: "close", code: code, reason: reason})
			w.wake.Broadcast()
		}
		return
	}
	w.closing = true
	if w.dropsQueue {
		w.queue, w.queued = nil, 0
	}
	if w.cutsReason {
		reason = reason[:min(len(reason), 100)]
	}
	if !w.neverCuts {
		time.AfterFunc(w.cutAfter, w.end)
	}
	w.last = packet{kind: "close", code: code, reason: reason}
	if w.lastCloseWins { // whatever the scheduler does: in the bubble's time the next call of Close comes first
		time.AfterFunc(time.Millisecond, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.queue = append(w.queue, w.last)
			w.wake.Broadcast()
		})
		return
	}
	w.queue = append(w.queue, w.last)
	w.wake.Broadcast()
}

func (w *wire) write() {
	for {
		w.mu.Lock()
		for len(w.queue) == 0 && !w.gone() {
			w.wake.Wait()
		}
		if w.gone() {
			w.mu.Unlock()
			return
		}
		p := w.queue[0]
		w.queue = w.queue[1:]
		w.mu.Unlock()
		select {
		case w.toClient <- p:
		case <-w.cut:
			return
		}
		w.mu.Lock()
		if p.kind == "text" || p.kind == "binary" {
			w.queued -= socket.NewFrame(func(b []byte) []byte { return append(b, p.arrived...) }).Len()
		}
		w.wake.Broadcast()
		w.mu.Unlock()
	}
}

func (w *wire) enqueue(p packet) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, p)
	w.wake.Broadcast()
}

func (w *wire) read() {
	var running sync.WaitGroup
	receive := func(payload []byte, binary bool) {
		if w.overlaps {
			running.Go(func() { w.receiver.Receive(payload, binary) })
			return
		}
		w.receiver.Receive(payload, binary)
	}
	defer func() {
		w.end()
		running.Wait()
		if w.neverGone {
			return
		}
		w.receiver.Disconnected()
		if w.goneTwice {
			w.receiver.Disconnected()
		}
		if w.receivesAfterGone {
			w.receiver.Receive([]byte("late"), false)
		}
	}()
	var held *packet
	pings := 0
	for {
		var p packet
		select {
		case p = <-w.toServer:
		case <-w.cut:
			return
		}
		switch p.kind {
		case "close":
			if w.goneFirst {
				w.receiver.Disconnected()
			}
			w.Close(p.code, p.reason) // the answer, or nothing if it was the answer
			return
		case "ping":
			pings++
			if !w.noPong && (!w.fewPongs || pings%8 != 0) {
				w.enqueue(packet{kind: "pong", arrived: p.parts[0]})
			}
		default:
			whole := bytes.Join(p.parts, nil)
			if w.noEmpty && len(whole) == 0 {
				continue
			}
			if w.reordersReceive && held == nil {
				held = &packet{parts: [][]byte{whole}}
				continue
			}
			if w.splits {
				for _, part := range p.parts {
					receive(part, p.kind == "binary")
				}
				continue
			}
			receive(whole, p.kind == "binary" && !w.forgetsBinary)
			if held != nil {
				receive(held.parts[0], false)
				held = nil
			}
		}
	}
}

// wireClient is the far end of a wire.
type wireClient struct {
	*wire
	kept []contract.Message
	shut bool
}

func (c *wireClient) put(ctx context.Context, p packet) error {
	select {
	case <-c.cut:
		return errors.New("the wire is cut")
	default:
	}
	select {
	case c.toServer <- p:
		return nil
	case <-c.cut:
		return errors.New("the wire is cut")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *wireClient) Write(ctx context.Context, binary bool, parts ...[]byte) error {
	p := packet{kind: "text"}
	if binary {
		p.kind = "binary"
	}
	for _, part := range parts {
		p.parts = append(p.parts, bytes.Clone(part))
	}
	return c.put(ctx, p)
}

func (c *wireClient) next(ctx context.Context) (packet, error) {
	select {
	case p := <-c.toClient: // before the cut
		return p, nil
	default:
	}
	select {
	case p := <-c.toClient:
		return p, nil
	case <-c.cut:
		return packet{}, errors.New("the wire is cut")
	case <-ctx.Done():
		return packet{}, ctx.Err()
	}
}

func (c *wireClient) Read(ctx context.Context) (contract.Message, error) {
	if len(c.kept) > 0 {
		m := c.kept[0]
		c.kept = c.kept[1:]
		return m, nil
	}
	for {
		p, err := c.next(ctx)
		switch {
		case err != nil:
			return contract.Message{}, err
		case p.kind == "close":
			if !c.shut && !c.closesTwice {
				c.shut = true
				_ = c.put(ctx, packet{kind: "close", code: p.code})
			}
			return contract.Message{}, &contract.Closed{Code: p.code, Reason: p.reason}
		case p.kind != "pong":
			return contract.Message{Payload: p.arrived, Binary: p.kind == "binary"}, nil
		}
	}
}

func (c *wireClient) Ping(ctx context.Context, payloads ...[]byte) error {
	for _, payload := range payloads {
		if err := c.put(ctx, packet{kind: "ping", parts: [][]byte{payload}}); err != nil {
			return err
		}
	}
	for i := 0; i < len(payloads); {
		p, err := c.next(ctx)
		switch {
		case err != nil:
			return err
		case p.kind != "pong":
			c.kept = append(c.kept, contract.Message{Payload: p.arrived, Binary: p.kind == "binary"})
		case !bytes.Equal(p.arrived, payloads[i]):
			return fmt.Errorf("the pong has the payload %q, want %q", p.arrived, payloads[i])
		default:
			i++
		}
	}
	return nil
}

func (c *wireClient) Close(ctx context.Context, code int, reason string) error {
	c.shut = true
	return c.put(ctx, packet{kind: "close", code: code, reason: reason})
}

func (c *wireClient) Cut() error { c.end(); return nil }

// openPipe opens wires with these defects. done cuts them all.
func openPipe(d defects) (pipe contract.Pipe, done func()) {
	acceptor := contract.NewAcceptor()
	var mu sync.Mutex
	var wires []*wire
	connect := func() (*wireClient, error) {
		w, err := dial(d, acceptor)
		mu.Lock()
		defer mu.Unlock()
		wires = append(wires, w)
		return &wireClient{wire: w}, err
	}
	var open func(ctx context.Context) (contract.Pipe, error)
	open = func(ctx context.Context) (contract.Pipe, error) {
		client, err := connect()
		if err != nil {
			return contract.Pipe{}, err
		}
		a, err := acceptor.Next(ctx)
		return contract.Pipe{
			Server: a.Conn, Receiver: a.Receiver, Client: client, CutAfter: client.cutAfter, Another: open,
			Refused: func(_ context.Context, refusal error) (contract.Client, error) {
				acceptor.Refuse(refusal)
				defer acceptor.Refuse(nil)
				client, _ := connect()
				return client, nil
			},
		}, err
	}
	pipe, err := open(context.Background())
	if err != nil {
		panic(err) // nothing was told to refuse
	}
	return pipe, func() {
		mu.Lock()
		defer mu.Unlock()
		for _, w := range wires {
			w.end()
		}
	}
}
