package bench

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

// slowMost is what may wait for a reader who does not keep up, by default (realtime.HubConfig.MaxQueued), in bytes.
const slowMost = 1 << 20

// slowReaders publishes much to rooms whose members all read, and again with members who never read.
func (o *overload) slowReaders(ctx context.Context) error {
	if o.Stalled+o.Rooms > o.Connections {
		return fmt.Errorf("of %d connections %d are stalled, and %d rooms have one each that reads: they are too few", o.Connections, o.Stalled, o.Rooms)
	}
	baseline, _, err := o.publish(ctx, 0)
	if err != nil {
		return err
	}
	loaded, closing, err := o.publish(ctx, o.Stalled)
	if err != nil {
		return err
	}
	most := baseline.peak + o.Stalled*slowMost*11/10
	o.judge(loaded.peak <= most, "memory is at most what it is without them and 1.1 of what may wait for each",
		"%d MiB at most, %d without them, %d may be", loaded.peak>>20, baseline.peak>>20, most>>20)
	o.judge(closing.closed == o.Stalled, "each of them is closed with 4408", "%d of %d", closing.closed, o.Stalled)
	o.judge(closing.took <= closedWithin, "the last of them is closed at the latest 5 seconds after the last message", "after %s", seconds(closing.took))
	r := loaded.result
	o.judge(r.Deliveries == r.Expected && r.Twice == 0 && r.Gaps == 0 && len(r.Closes) == 0, "everybody else has every message once, in order",
		"%d of %d deliveries, %d twice, %d out of order, closed: %s", r.Deliveries, r.Expected, r.Twice, r.Gaps, ended(r.Closes))
	o.judge(r.P99 <= 2*baseline.P99, "the 99th percentile of the others' deliveries is at most twice what it is without them",
		"%.1f ms, %.1f without them (medians %.1f and %.1f)", r.P99, baseline.P99, r.P50, baseline.P50)
	return nil
}

// published is what was seen while much was published.
type published struct {
	result
	peak int // resident bytes of the server
}

// closing is how readers that do not read ended.
type closing struct {
	closed int
	took   time.Duration // since the last message
}

// publish sends to rooms of which so many members never read.
func (o *overload) publish(ctx context.Context, stalled int) (seen published, ends closing, err error) {
	b, tokens, err := o.besiege(ctx, o.Connections)
	if err != nil {
		return seen, ends, err
	}
	defer b.stop()
	readers := o.Connections - stalled
	senders := min(readers, 8*o.Rooms)
	p := plan{
		Address: b.address, Wire: wireNative, Run: "slow-", Members: readers, Tokens: tokens[:readers], Rooms: o.Rooms, What: fanout,
		Senders: senders, InFlight: senders, Messages: max(senders, o.Published<<20/slowSize), Size: slowSize,
	}
	all, err := start(ctx, p)
	if err != nil {
		return seen, ends, err
	}
	defer all.stop()
	if err := all.joined(); err != nil {
		return seen, ends, err
	}
	still, err := o.leftUnread(ctx, b.address, tokens[readers:], func(i int) string { return "room-slow-" + strconv.Itoa(i%o.Rooms) })
	defer closeAll(still)
	if err != nil {
		return seen, ends, err
	}
	done := make(chan error, 1)
	go func() {
		var err error
		seen.result, err = all.load()
		done <- err
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for working := true; working; {
		select {
		case err := <-done:
			if err != nil {
				return seen, ends, err
			}
			working = false
		case <-tick.C:
		case <-ctx.Done():
			return seen, ends, ctx.Err()
		}
		now, err := b.resident()
		if err != nil {
			return seen, ends, err
		}
		seen.peak = max(seen.peak, now)
	}
	ends.took, _, err = eventually(ctx, patience, func() (bool, error) {
		n, err := b.metric(ctx, `parley_closes_total{code="4408"}`)
		ends.closed = int(n)
		return ends.closed >= stalled, err
	})
	return seen, ends, err
}

// closedWithin is how long after the last message a reader that does not read may stay.
const closedWithin = 5 * time.Second

// slowSize is the size of a text that slow readers do not read, in bytes.
const slowSize = 4000

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		_ = c.Close()
	}
}

// leftUnread opens a connection for each token, joins, and reads no more.
func (o *overload) leftUnread(ctx context.Context, address string, tokens []string, room func(i int) string) (conns []net.Conn, err error) {
	for i, token := range tokens {
		conn, _, err := enter(ctx, address, token, room(i))
		if err != nil {
			return conns, err
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

// enter opens a connection and joins a room. What came after that may be in the reader.
func enter(ctx context.Context, address, token, room string) (net.Conn, *bufio.Reader, error) {
	conn, err := (&net.Dialer{Timeout: patience, KeepAlive: -1}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, nil, err
	}
	fail := func(err error) (net.Conn, *bufio.Reader, error) {
		_ = conn.Close()
		return nil, nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(native.request(address, native.path, token)); err != nil {
		return fail(err)
	}
	in := bufio.NewReaderSize(conn, 512)
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		return fail(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusSwitchingProtocols {
		return fail(fmt.Errorf("the server answers a handshake with %s", answer.Status))
	}
	if _, err := conn.Write(frameOf(0x1, native.join(room))); err != nil {
		return fail(err)
	}
	if _, err := in.Peek(2); err != nil { // the answer
		return fail(err)
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, in, nil
}
