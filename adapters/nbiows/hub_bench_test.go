//go:build linux

package nbiows_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
)

// byHand is a fan-out that a benchmark feeds.
type byHand struct {
	realtime.Fanout
	deliver chan func(realtime.Signal)
}

func (byHand) Publish(context.Context, realtime.Signal) error { return nil }

func (f byHand) Run(ctx context.Context, deliver func(realtime.Signal)) error {
	f.deliver <- deliver
	<-ctx.Done()
	return nil
}

// counted is a connection that counts what is sent on it.
type counted struct {
	socket.Conn
	bytes    atomic.Int64
	messages atomic.Int64
	lacks    *atomic.Int64
}

func (c *counted) Send(f *socket.Frame) error {
	err := c.Conn.Send(f)
	n := int64(0)
	for range f.Messages() {
		n++
	}
	c.bytes.Add(int64(f.Len()))
	if c.messages.Add(-n) == 0 {
		c.lacks.Add(-1)
	}
	return err
}

// BenchmarkHub delivers a message to each room, to connections each of which is in so many of them. Clients read nothing while
// the clock runs.
func BenchmarkHub(b *testing.B) {
	for _, c := range []struct{ conns, rooms, each int }{{1000, 1, 1}, {1000, 20, 20}, {1000, 100, 1}, {1000, 100, 10}} {
		b.Run(fmt.Sprintf("conns=%d/rooms=%d/each=%d", c.conns, c.rooms, c.each), func(b *testing.B) { benchmarkHub(b, c.conns, c.rooms, c.each) })
	}
}

func benchmarkHub(b *testing.B, conns, rooms, each int) {
	store := memory.NewStore()
	s, err := chat.New(chat.Config{
		Store: store.Messages, Rooms: store.Rooms, Members: store.Members, Marks: store.Members, Cache: memory.NewRecentCache(memory.RecentCacheConfig{}),
	})
	require.NoError(b, err)
	fanout := byHand{memory.NewFanout().Node(), make(chan func(realtime.Signal))}
	hub, err := realtime.NewHub(realtime.HubConfig{Chat: s, Fanout: fanout, Presence: memory.NewPresence(), Rate: -1, MaxUserConnections: conns})
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	wg.Go(func() { _ = hub.Run(ctx) })
	defer func() { cancel(); wg.Wait() }()
	deliver := <-fanout.deliver

	var lacks atomic.Int64 // connections that lack messages
	all := make(chan *counted, 1)
	in := make(chan socket.Receiver, 1)
	address := start(b, acceptorFunc(func(c socket.Conn, hello socket.Hello) (socket.Receiver, error) {
		one := &counted{Conn: c, lacks: &lacks}
		r, err := hub.Accept(one, hello)
		all <- one
		in <- r
		return r, err
	}), nil)
	expect := func(conns []*counted, messages int) {
		lacks.Store(int64(len(conns)))
		for _, c := range conns {
			c.messages.Store(int64(messages))
		}
	}
	wait := func() {
		for lacks.Load() > 0 {
			time.Sleep(20 * time.Microsecond)
		}
	}
	buffer := make([]byte, 64<<10)
	read := func(fd int, c *counted) {
		for left := int(c.bytes.Swap(0)); left > 0; {
			n, err := syscall.Read(fd, buffer)
			if err != nil {
				b.Fatal(err)
			}
			left -= n
		}
	}
	fds, clients := make([]int, conns), make([]*counted, conns)
	for i := range fds {
		fds[i] = dialBare(b, address, "")
		clients[i] = <-all
		receiver := <-in
		expect(clients[i:i+1], each)
		for k := range each {
			room := (i + k) % rooms
			receiver.Receive(fmt.Appendf(nil, `{"id":1,"event":"join_room","data":{"room":"room%d"}}`, room), false)
		}
		wait()
		read(fds[i], clients[i])
	}
	var used time.Duration
	seq := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for i, c := range clients {
			read(fds[i], c)
		}
		expect(clients, each)
		seq++
		before := cpu(b)
		b.StartTimer()
		for i := range rooms {
			room := fmt.Sprint("room", i)
			deliver(realtime.Signal{Kind: realtime.SignalMessage, Room: room, Message: chat.Message{
				Room: room, Seq: seq, ID: "01K0000000000000000000000", ClientID: "0123456789abcdef", Author: chat.Author{ID: "ada", Name: "ada"},
				Text: "What everybody in the room shall read, of a length as people write it, give or take a word.", At: time.Unix(1_700_000_000, 0).UTC(),
			}})
		}
		wait()
		used += cpu(b) - before
	}
	deliveries := float64(b.N * conns * each)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/deliveries, "ns/delivery")
	b.ReportMetric(float64(used.Nanoseconds())/deliveries, "cpu-ns/delivery")
	for _, fd := range fds {
		_ = syscall.Close(fd)
	}
}
