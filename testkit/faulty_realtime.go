package testkit

import (
	"context"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
)

// FaultyFanout puts faults before a fan-out, and before the deliver that it calls.
func FaultyFanout(next realtime.Fanout, f *Faults) realtime.Fanout { return fanout{next, f} }

type fanout struct {
	next   realtime.Fanout
	faults *Faults
}

func (d fanout) Publish(ctx context.Context, s realtime.Signal) error {
	return d.faults.do(ctx, "Fanout.Publish", func() error { return d.next.Publish(ctx, s) })
}

func (d fanout) Follow(ctx context.Context, room string) error {
	return d.faults.do(ctx, "Fanout.Follow", func() error { return d.next.Follow(ctx, room) })
}

func (d fanout) Unfollow(ctx context.Context, room string) error {
	return d.faults.do(ctx, "Fanout.Unfollow", func() error { return d.next.Unfollow(ctx, room) })
}

func (d fanout) Run(ctx context.Context, deliver func(realtime.Signal)) error {
	faulty := func(s realtime.Signal) {
		// A signal that is not delivered is lost, which the port allows.
		_ = d.faults.do(ctx, "Fanout.Deliver", func() error { deliver(s); return nil })
	}
	return untilEnd(ctx, d.faults.do(ctx, "Fanout.Run", func() error { return d.next.Run(ctx, faulty) }))
}

// FaultyPresence puts faults before a presence.
func FaultyPresence(next realtime.Presence, f *Faults) realtime.Presence { return presence{next, f} }

type presence struct {
	next   realtime.Presence
	faults *Faults
}

func (d presence) Enter(ctx context.Context, now time.Time, node, room string, who chat.Author) (first bool, err error) {
	return ask(ctx, d.faults, "Presence.Enter", func() (bool, error) { return d.next.Enter(ctx, now, node, room, who) })
}

func (d presence) Exit(ctx context.Context, now time.Time, node, room string, who chat.Author) (last bool, err error) {
	return ask(ctx, d.faults, "Presence.Exit", func() (bool, error) { return d.next.Exit(ctx, now, node, room, who) })
}

func (d presence) List(ctx context.Context, now time.Time, room string, limit int) (users []chat.Author, count int, err error) {
	return ask2(ctx, d.faults, "Presence.List", func() ([]chat.Author, int, error) { return d.next.List(ctx, now, room, limit) })
}

func (d presence) Renew(ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
	return ask(ctx, d.faults, "Presence.Renew", func() (realtime.Renewed, error) { return d.next.Renew(ctx, r) })
}

// FaultyConn puts faults before a connection. A connection never blocks, so it stands neither
// Delay nor Hang. A Fail of Send should be of kind Unavailable, as the port says.
func FaultyConn(next socket.Conn, f *Faults) socket.Conn { return conn{next, f} }

type conn struct {
	next   socket.Conn
	faults *Faults
}

func (d conn) Send(frame *socket.Frame) error {
	return d.faults.do(context.Background(), "Conn.Send", func() error { return d.next.Send(frame) })
}

func (d conn) Queued() int { return d.next.Queued() }

func (d conn) Close(code int, reason string) {
	// It has no answer, and none of the faults that it stands makes one.
	_ = d.faults.do(context.Background(), "Conn.Close", func() error { d.next.Close(code, reason); return nil })
}
