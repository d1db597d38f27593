package contract

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
)

const (
	// stallFrame is the payload that fills a stalled connection, and stallQueue how much of it
	// must be waiting before the connection counts as stalled.
	stallFrame = 64 << 10
	stallQueue = 512 << 10
	// stallMost bounds what the operating system may take before it stops.
	stallMost = 256 << 20
	// closeSlack is added to the stated time after which a silent peer is cut: a busy machine
	// is late, a transport that forgets is later.
	closeSlack = 10 * time.Second
)

// Conn checks socket.Conn, and how a transport feeds socket.Receiver.
func Conn() []Case[Pipe] {
	return suite("Conn", []promise[Pipe]{
		{"frames arrive in order", "Send queues f behind what was queued before and returns: frames arrive in the order of the calls.", connOrder},
		{"frames of every length arrive whole", "A frame arrives whole, text as text and binary as binary.", connLengths},
		{"joined frames arrive as messages", "A frame that Join made arrives as its messages, in their order.", connJoined},
		{"one frame serves many connections", "f is shared and must not be changed: it may be sent on many connections.", connShared},
		{"concurrent sends arrive whole", "Its methods may be called from many goroutines.", connConcurrent},
		{"a stalled client does not block Send", "None of them blocks. Queued returns the bytes that Send accepted and the operating system has not taken yet.", connStalled},
		{"nothing is queued once the client reads", "Queued returns the bytes that Send accepted and the operating system has not taken yet.", connDrains},
		{"a stalled client harms nobody else", "None of them blocks.", connNeighbour},
		{"Send after Close is Unavailable", "After Close, or when the connection is broken, Send does nothing and returns an error of kind Unavailable.", connSendAfterClose},
		{"Send on a broken connection is Unavailable", "After Close, or when the connection is broken, Send does nothing and returns an error of kind Unavailable.", connSendBroken},
		{"Close delivers the queue, then code and reason", "Close sends what is queued, then a close frame with code and reason.", connCloseQueue},
		{"a reason of 123 bytes arrives", "reason has at most 123 bytes of UTF-8.", connCloseReason},
		{"only the first Close counts", "Only the first call of Close counts. Close does not wait.", connCloseTwice},
		{"concurrent closes are one", "Only the first call of Close counts. Its methods may be called from many goroutines.", connCloseRace},
		{"Close cuts a silent client", "Close cuts the connection when the peer has answered, or a stated time after the call at the latest.", connCloseSilent},
		{"Close cuts a stalled client", "Close cuts the connection when the peer has answered, or a stated time after the call at the latest.", connCloseStalled},
		{"an answered Close disconnects once", "The transport calls Disconnected exactly once, after the last Receive, whoever closed the connection, and whatever the reason.", connCloseAnswered},
		{"messages are received in order", "The transport calls Receive for one message at a time, in the order in which they came.", connReceive},
		{"messages of every length are received whole", "The payload is the receiver's until Receive returns.", connReceiveLengths},
		{"fragments are received as one message", "Receive takes one whole message, in however many frames it came (RFC 6455 section 5.4).", connFragments},
		{"binary is told from text", "binary says whether it is a binary message or a text.", connBinary},
		{"a ping is answered", "A transport answers a ping by itself, by a pong with the same payload: no message is received.", connPing},
		{"pings in a row are each answered", "Of pings that come one after another, each of up to 16 is answered, in their order.", connPings},
		{"the client's close disconnects once", "The transport calls Disconnected exactly once, after the last Receive, whoever closed the connection, and whatever the reason.", connPeerClose},
		{"a cut disconnects once", "The transport calls Disconnected exactly once, after the last Receive, whoever closed the connection, and whatever the reason.", connCut},
		{"a refused connection is closed with its code", "The transport answers an error by closing the connection as Refusal says: with the code of its kind, or 1012 for ErrDraining.", connRefused},
		{"a draining node refuses with 1012", "The transport answers an error by closing the connection as Refusal says: with the code of its kind, or 1012 for ErrDraining.", connDraining},
	})
}

func text(s string) *socket.Frame {
	return socket.NewFrame(func(dst []byte) []byte { return append(dst, s...) })
}

func frame(payload []byte, binary bool) *socket.Frame {
	build := func(dst []byte) []byte { return append(dst, payload...) }
	if binary {
		return socket.NewBinaryFrame(build)
	}
	return socket.NewFrame(build)
}

// pattern returns n bytes of ASCII in which no two neighbourhoods are alike.
func pattern(n int) []byte {
	b := make([]byte, 0, n+16)
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "%x.", i)
	}
	return b[:n]
}

// noise returns n bytes that cannot be compressed, always the same.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // never fails
	return b
}

func brief(b []byte) string {
	if len(b) > 60 {
		return fmt.Sprintf("%q… (%d bytes)", b[:60], len(b))
	}
	return fmt.Sprintf("%q", b)
}

func readWant(ctx context.Context, c Client, want []byte, binary bool) error {
	m, err := c.Read(ctx)
	if err != nil {
		return fmt.Errorf("the client waited for %s: %w", brief(want), err)
	}
	if !bytes.Equal(m.Payload, want) || m.Binary != binary {
		return fmt.Errorf("the client read %s (binary %t), want %s (binary %t)", brief(m.Payload), m.Binary, brief(want), binary)
	}
	return nil
}

// readClosed reads until the close frame and wants it to be as given. It returns how many
// messages came before.
func readClosed(ctx context.Context, c Client, code int, reason string) (messages int, err error) {
	for {
		_, err := c.Read(ctx)
		var closed *Closed
		switch {
		case err == nil:
			messages++
		case !errors.As(err, &closed):
			return messages, fmt.Errorf("the client waited for the close frame %d %q: %w", code, reason, err)
		case closed.Code != code || closed.Reason != reason:
			return messages, fmt.Errorf("the client was %w, want %d %q", err, code, reason)
		default:
			return messages, nil
		}
	}
}

func nextWant(ctx context.Context, r *Receiver, want []byte, binary bool) error {
	m, err := r.Next(ctx)
	if err != nil {
		return fmt.Errorf("the receiver waited for %s: %w", brief(want), err)
	}
	if !bytes.Equal(m.Payload, want) || m.Binary != binary {
		return fmt.Errorf("the receiver got %s (binary %t), want %s (binary %t)", brief(m.Payload), m.Binary, brief(want), binary)
	}
	return r.Err()
}

// settled is a round trip on a further connection: what the server had begun before has had its turn.
func settled(ctx context.Context, p Pipe) error {
	for range 3 {
		q, err := p.Another(ctx)
		if err != nil {
			return fmt.Errorf("a further connection: %w", err)
		}
		if err := q.Client.Write(ctx, false, []byte("settled?")); err != nil {
			return err
		}
		if err := nextWant(ctx, q.Receiver, []byte("settled?"), false); err != nil {
			return err
		}
		q.Server.Close(socket.CloseNormal, "")
		if _, err := readClosed(ctx, q.Client, socket.CloseNormal, ""); err != nil {
			return err
		}
		if err := q.Receiver.Gone(ctx); err != nil {
			return err
		}
		if err := q.Client.Cut(); err != nil {
			return err
		}
	}
	breathe()
	return p.Receiver.Err()
}

// goneOnce waits for Disconnected, provokes a second one, and wants none.
func goneOnce(ctx context.Context, p Pipe) error {
	if err := p.Receiver.Gone(ctx); err != nil {
		return err
	}
	p.Server.Close(socket.CloseGoingAway, "again")
	if err := p.Client.Cut(); err != nil {
		return fmt.Errorf("cut: %w", err)
	}
	return settled(ctx, p)
}

// stall sends until the operating system takes no more.
func stall(ctx context.Context, p Pipe) (sent int, err error) {
	f := frame(noise(stallFrame), true)
	for sent*stallFrame < stallMost {
		if ctx.Err() != nil {
			return sent, ctx.Err()
		}
		if err := p.Server.Send(f); err != nil {
			return sent, fmt.Errorf("sending to a client that does not read, with %d bytes queued: %w", p.Server.Queued(), err)
		}
		sent++
		if p.Server.Queued() >= stallQueue {
			return sent, nil
		}
	}
	return sent, fmt.Errorf("%d bytes were sent to a client that does not read, and Queued is %d", stallMost, p.Server.Queued())
}

// poll asks until ok, for what happens in the background.
func poll(ctx context.Context, ok func() bool) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func connOrder(ctx context.Context, p Pipe) error {
	const n = 500
	for i := range n {
		if err := p.Server.Send(text(fmt.Sprintf("%d", i))); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	for i := range n {
		if err := readWant(ctx, p.Client, fmt.Appendf(nil, "%d", i), false); err != nil {
			return err
		}
	}
	return nil
}

func connLengths(ctx context.Context, p Pipe) error {
	for _, n := range []int{0, 1, 125, 126, 127, 4096, 65535, 65536, 1 << 20} {
		for _, binary := range []bool{false, true} {
			if err := p.Server.Send(frame(pattern(n), binary)); err != nil {
				return fmt.Errorf("send of %d bytes: %w", n, err)
			}
			if err := readWant(ctx, p.Client, pattern(n), binary); err != nil {
				return err
			}
		}
	}
	return nil
}

func connJoined(ctx context.Context, p Pipe) error {
	var want []*socket.Frame
	send := func(frames ...*socket.Frame) error {
		want = append(want, frames...)
		queued := p.Server.Queued()
		if err := p.Server.Send(socket.Join(frames...)); err != nil {
			return fmt.Errorf("send of %d joined frames behind %d bytes: %w", len(frames), queued, err)
		}
		return nil
	}
	// In one go, so that the transport has to queue some of them.
	for _, n := range []int{2, 3, 100} {
		var frames []*socket.Frame
		for i := range n {
			frames = append(frames, frame(pattern(i*i), i%3 == 1))
		}
		if err := send(frames...); err != nil {
			return err
		}
		if err := send(text(fmt.Sprintf("after %d", n))); err != nil {
			return err
		}
	}
	for i, f := range want {
		if err := readWant(ctx, p.Client, f.Payload(), f.Binary()); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
	}
	if err := poll(ctx, func() bool { return p.Server.Queued() == 0 }); err != nil {
		return fmt.Errorf("the client has read everything, and Queued is %d: %w", p.Server.Queued(), err)
	}
	return nil
}

func connShared(ctx context.Context, p Pipe) error {
	pipes := []Pipe{p}
	for range 4 {
		q, err := p.Another(ctx)
		if err != nil {
			return fmt.Errorf("a further connection: %w", err)
		}
		pipes = append(pipes, q)
	}
	var frames []*socket.Frame
	var before [][]byte
	for i := range 20 {
		f := text(fmt.Sprintf("frame %d: grüße 👋", i))
		frames, before = append(frames, f), append(before, bytes.Clone(f.WebSocket()))
	}
	errs := make(chan error, len(pipes))
	start := make(chan struct{})
	for _, q := range pipes {
		go func() {
			<-start
			for _, f := range frames {
				if err := q.Server.Send(f); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	close(start)
	for range pipes {
		if err := <-errs; err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	for _, q := range pipes {
		for _, f := range frames {
			if err := readWant(ctx, q.Client, f.Payload(), false); err != nil {
				return err
			}
		}
	}
	for i, f := range frames {
		if !bytes.Equal(f.WebSocket(), before[i]) {
			return fmt.Errorf("frame %d was changed", i)
		}
	}
	return nil
}

func connConcurrent(ctx context.Context, p Pipe) error {
	const senders, each = 8, 50
	start := make(chan struct{})
	errs := make(chan error, senders)
	for s := range senders {
		go func() {
			<-start
			for i := range each {
				if err := p.Server.Send(text(fmt.Sprintf("%d %d %s", s, i, strings.Repeat("x", 100*s+i)))); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	close(start)
	var next [senders]int
	for range senders * each {
		m, err := p.Client.Read(ctx)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		var s, i int
		if _, err := fmt.Sscanf(string(m.Payload), "%d %d", &s, &i); err != nil || s < 0 || s >= senders {
			return fmt.Errorf("the client read %s, which nobody sent", brief(m.Payload))
		}
		if want := fmt.Sprintf("%d %d %s", s, i, strings.Repeat("x", 100*s+i)); string(m.Payload) != want || i != next[s] {
			return fmt.Errorf("the client read %s, want message %d of sender %d, whole", brief(m.Payload), next[s], s)
		}
		next[s]++
	}
	for range senders {
		if err := <-errs; err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}

func connStalled(ctx context.Context, p Pipe) error {
	if q := p.Server.Queued(); q != 0 {
		return fmt.Errorf("the answer of Queued is %d before anything was sent", q)
	}
	if _, err := stall(ctx, p); err != nil {
		return err
	}
	before := p.Server.Queued()
	f := frame(noise(stallFrame), true)
	for range 16 {
		if err := p.Server.Send(f); err != nil {
			return fmt.Errorf("calling Send with %d bytes queued: %w", p.Server.Queued(), err)
		}
	}
	// The operating system may still take a little, but nobody reads.
	if after := p.Server.Queued(); after <= before {
		return fmt.Errorf("the answer of Queued is %d after %d further bytes, and was %d before", after, 16*stallFrame, before)
	}
	return nil
}

func connDrains(ctx context.Context, p Pipe) error {
	sent, err := stall(ctx, p)
	if err != nil {
		return err
	}
	want := noise(stallFrame)
	for range sent {
		if err := readWant(ctx, p.Client, want, true); err != nil {
			return err
		}
	}
	if err := poll(ctx, func() bool { return p.Server.Queued() == 0 }); err != nil {
		return fmt.Errorf("the answer of Queued is %d although the client has read everything: %w", p.Server.Queued(), err)
	}
	if err := p.Server.Send(text("after")); err != nil {
		return fmt.Errorf("calling Send after the queue was empty again: %w", err)
	}
	return readWant(ctx, p.Client, []byte("after"), false)
}

func connNeighbour(ctx context.Context, p Pipe) error {
	q, err := p.Another(ctx)
	if err != nil {
		return fmt.Errorf("a further connection: %w", err)
	}
	if _, err := stall(ctx, p); err != nil {
		return err
	}
	for i := range 50 {
		want := fmt.Appendf(nil, "neighbour %d", i)
		if err := q.Server.Send(frame(want, false)); err != nil {
			return fmt.Errorf("calling Send to another client: %w", err)
		}
		if err := readWant(ctx, q.Client, want, false); err != nil {
			return err
		}
		if err := q.Client.Write(ctx, false, want); err != nil {
			return err
		}
		if err := nextWant(ctx, q.Receiver, want, false); err != nil {
			return err
		}
	}
	return nil
}

func connSendAfterClose(ctx context.Context, p Pipe) error {
	if err := p.Server.Send(text("before")); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	p.Server.Close(socket.CloseNormal, "done")
	if err := p.Server.Send(text("after")); !errors.Is(err, fault.Unavailable) {
		return fmt.Errorf("calling Send after Close returned %w", orNone(err))
	}
	n, err := readClosed(ctx, p.Client, socket.CloseNormal, "done")
	if err != nil {
		return err
	}
	if n != 1 {
		return fmt.Errorf("the client read %d messages before the close frame, want the 1 that was sent before Close", n)
	}
	if err := p.Receiver.Gone(ctx); err != nil {
		return err
	}
	if err := p.Server.Send(text("gone")); !errors.Is(err, fault.Unavailable) {
		return fmt.Errorf("calling Send after Disconnected returned %w", orNone(err))
	}
	return settled(ctx, p)
}

func connSendBroken(ctx context.Context, p Pipe) error {
	if err := p.Client.Cut(); err != nil {
		return fmt.Errorf("cut: %w", err)
	}
	if err := p.Receiver.Gone(ctx); err != nil {
		return err
	}
	for range 3 {
		if err := p.Server.Send(text("anybody?")); !errors.Is(err, fault.Unavailable) {
			return fmt.Errorf("calling Send on a broken connection returned %w", orNone(err))
		}
	}
	return settled(ctx, p)
}

func connCloseQueue(ctx context.Context, p Pipe) error {
	sent, err := stall(ctx, p)
	if err != nil {
		return err
	}
	p.Server.Close(socket.CloseSlow, "too slow: zu langsam ü")
	n, err := readClosed(ctx, p.Client, socket.CloseSlow, "too slow: zu langsam ü")
	if err != nil {
		return err
	}
	if n != sent {
		return fmt.Errorf("the client read %d of the %d messages that were queued before Close", n, sent)
	}
	return p.Receiver.Gone(ctx)
}

func connCloseReason(ctx context.Context, p Pipe) error {
	reason := strings.Repeat("ü", 61) + "!" // 123 bytes
	p.Server.Close(socket.CloseBadEvent, reason)
	_, err := readClosed(ctx, p.Client, socket.CloseBadEvent, reason)
	return err
}

func connCloseTwice(ctx context.Context, p Pipe) error {
	p.Server.Close(socket.CloseTooFast, "first")
	p.Server.Close(socket.CloseNormal, "second")
	if _, err := readClosed(ctx, p.Client, socket.CloseTooFast, "first"); err != nil {
		return err
	}
	var closed *Closed
	if _, err := p.Client.Read(ctx); err == nil || errors.As(err, &closed) {
		return fmt.Errorf("after the close frame the client read something else: %w", orNone(err))
	}
	return goneOnce(ctx, p)
}

func connCloseRace(ctx context.Context, p Pipe) error {
	const n = 16
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			_ = p.Server.Send(text("racing")) // before or after a Close: both are fine
			p.Server.Close(4000+i, "racing")
		})
	}
	close(start)
	wg.Wait()
	for {
		_, err := p.Client.Read(ctx)
		var closed *Closed
		switch {
		case err == nil:
			continue
		case !errors.As(err, &closed):
			return fmt.Errorf("the client waited for a close frame: %w", err)
		case closed.Code < 4000 || closed.Code >= 4000+n || closed.Reason != "racing":
			return fmt.Errorf("the client was %w, which is none of the calls", err)
		}
		break
	}
	return goneOnce(ctx, p)
}

func closeCuts(ctx context.Context, p Pipe) error {
	if p.CutAfter <= 0 {
		return errors.New("Pipe.CutAfter does not state the time")
	}
	p.Server.Close(socket.CloseSlow, "too slow")
	within, cancel := context.WithTimeout(ctx, p.CutAfter+closeSlack)
	defer cancel()
	if err := p.Receiver.Gone(within); err != nil {
		return fmt.Errorf("Close was called and %s have passed (%s of them slack): %w", p.CutAfter+closeSlack, closeSlack, err)
	}
	return goneOnce(ctx, p)
}

func connCloseSilent(ctx context.Context, p Pipe) error { return closeCuts(ctx, p) }

func connCloseStalled(ctx context.Context, p Pipe) error {
	if _, err := stall(ctx, p); err != nil {
		return err
	}
	return closeCuts(ctx, p)
}

func connCloseAnswered(ctx context.Context, p Pipe) error {
	for i := range 20 {
		if err := p.Client.Write(ctx, false, fmt.Appendf(nil, "%d", i)); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	for i := range 20 {
		if err := nextWant(ctx, p.Receiver, fmt.Appendf(nil, "%d", i), false); err != nil {
			return err
		}
	}
	p.Server.Close(socket.CloseServiceRestart, "restart")
	if _, err := readClosed(ctx, p.Client, socket.CloseServiceRestart, "restart"); err != nil {
		return err
	}
	return goneOnce(ctx, p)
}

func connReceive(ctx context.Context, p Pipe) error {
	const n = 500
	wrote := make(chan error, 1)
	go func() {
		for i := range n {
			if err := p.Client.Write(ctx, false, fmt.Appendf(nil, "message %d", i)); err != nil {
				wrote <- err
				return
			}
		}
		wrote <- nil
	}()
	for i := range n {
		if err := nextWant(ctx, p.Receiver, fmt.Appendf(nil, "message %d", i), false); err != nil {
			return err
		}
	}
	return <-wrote
}

func connReceiveLengths(ctx context.Context, p Pipe) error {
	for _, n := range []int{0, 1, 125, 126, 127, 4095, 4096, 4097, 16 << 10} {
		if err := p.Client.Write(ctx, false, pattern(n)); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if err := nextWant(ctx, p.Receiver, pattern(n), false); err != nil {
			return err
		}
	}
	return nil
}

func connFragments(ctx context.Context, p Pipe) error {
	whole := []byte("grüße aus dem Süden 👋 " + string(pattern(9000)))
	for _, cuts := range [][]int{{1}, {3, 3}, {3, 24, 25}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 4096}, {0, len(whole)}} {
		var parts [][]byte
		from := 0
		for _, at := range cuts {
			parts, from = append(parts, whole[from:at]), at
		}
		parts = append(parts, whole[from:])
		if err := p.Client.Write(ctx, false, parts...); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if err := nextWant(ctx, p.Receiver, whole, false); err != nil {
			return fmt.Errorf("cut at %v: %w", cuts, err)
		}
	}
	if n := p.Receiver.Pending(); n != 0 {
		return fmt.Errorf("%d more messages were received than were sent", n)
	}
	return nil
}

func connBinary(ctx context.Context, p Pipe) error {
	for _, m := range []Message{{[]byte("text"), false}, {[]byte{0, 0xff, 0x80}, true}, {[]byte("text again"), false}} {
		if err := p.Client.Write(ctx, m.Binary, m.Payload); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if err := nextWant(ctx, p.Receiver, m.Payload, m.Binary); err != nil {
			return err
		}
	}
	return nil
}

func connPing(ctx context.Context, p Pipe) error {
	if err := p.Client.Ping(ctx, []byte("still there?")); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	if err := p.Client.Write(ctx, false, []byte("after the ping")); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nextWant(ctx, p.Receiver, []byte("after the ping"), false)
}

func connPings(ctx context.Context, p Pipe) error {
	const n = 16
	for round := range 3 { // what has been answered does not count any more
		var payloads [][]byte
		for i := range n {
			payloads = append(payloads, fmt.Appendf(nil, "%d of round %d", i, round))
		}
		if err := p.Client.Ping(ctx, payloads...); err != nil {
			return fmt.Errorf("%d pings in a row: %w", n, err)
		}
	}
	return p.Receiver.Err()
}

func connPeerClose(ctx context.Context, p Pipe) error {
	const n = 100
	for i := range n {
		if err := p.Client.Write(ctx, false, fmt.Appendf(nil, "%d", i)); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	if err := p.Client.Close(ctx, socket.CloseNormal, "bye"); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if err := p.Receiver.Gone(ctx); err != nil {
		return err
	}
	for i := range n {
		if err := nextWant(ctx, p.Receiver, fmt.Appendf(nil, "%d", i), false); err != nil {
			return fmt.Errorf("after Disconnected: %w", err)
		}
	}
	if err := p.Server.Send(text("too late")); !errors.Is(err, fault.Unavailable) {
		return fmt.Errorf("calling Send after Disconnected returned %w", orNone(err))
	}
	return goneOnce(ctx, p)
}

func connCut(ctx context.Context, p Pipe) error {
	if err := p.Client.Write(ctx, false, []byte("last words")); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := nextWant(ctx, p.Receiver, []byte("last words"), false); err != nil {
		return err
	}
	if err := p.Client.Cut(); err != nil {
		return fmt.Errorf("cut: %w", err)
	}
	return goneOnce(ctx, p)
}

func refusedWith(ctx context.Context, p Pipe, refusal error, code int) error {
	c, err := p.Refused(ctx, refusal)
	if err != nil {
		return fmt.Errorf("a client that is refused: %w", err)
	}
	for {
		_, err = c.Read(ctx)
		var closed *Closed
		switch {
		case err == nil:
			continue
		case !errors.As(err, &closed):
			return fmt.Errorf("refused with %q, the client waited for close code %d: %w", refusal.Error(), code, err)
		case closed.Code != code:
			return fmt.Errorf("refused with %q, the client was %w, want %d", refusal.Error(), err, code)
		}
		return c.Cut()
	}
}

func connRefused(ctx context.Context, p Pipe) error {
	for _, kind := range fault.Kinds() {
		if err := refusedWith(ctx, p, fmt.Errorf("refused: %w", kind), kind.CloseCode()); err != nil {
			return err
		}
	}
	return settled(ctx, p)
}

func connDraining(ctx context.Context, p Pipe) error {
	return refusedWith(ctx, p, socket.ErrDraining, socket.CloseServiceRestart)
}
