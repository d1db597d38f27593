package main_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/apps/internal/campaign/journal"
	"github.com/parley-chat/parley/testkit/servers"
)

// TestARollingRestartLosesNothing restarts two nodes in turn, as an upgrade does, while people talk through a balancer that
// asks /readyz. It says how long each of them was without a connection.
func TestARollingRestartLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: two nodes restart under load, with PostgreSQL and Redis")
	}
	t.Parallel()
	const rounds, speakers = 2, 12
	r := &rolling{t: t, args: []string{"--store", servers.Postgres(t), "--redis", servers.Redis(t), "--access-ttl=24h", "--socket-rate=-1"}}
	r.log = journal.NewWriter(&r.journal)
	for i := range r.nodes {
		r.data[i], r.addresses[i] = t.TempDir(), freeAddress(t)
	}
	r.start(0)
	// While there is one node, it is the one whose mailbox has the mails.
	people, tokens := make([]*traveller, speakers), make([]string, speakers)
	for i := range people {
		people[i] = &traveller{name: fmt.Sprintf("Traveller %02d", i), read: map[string]uint64{}}
		tokens[i] = r.nodes[0].member(t, people[i].name).AccessToken
	}
	auditing := r.nodes[0].member(t, "The Auditor").AccessToken
	keys, err := os.ReadFile(filepath.Join(r.data[0], "keys.json")) // nodes share the keys that tokens are signed with
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(r.data[1], "keys.json"), keys, 0o600))
	r.start(1)
	balancer := r.balance()
	rooms := []string{"lobby", "garden"}
	for i, p := range people {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var err error
		p.client, err = wsclient.Dial(ctx, wsclient.Config{
			URL: "ws://" + balancer + "/socket", Inline: true, Rate: -1, MinPause: 10 * time.Millisecond, MaxPause: 100 * time.Millisecond,
			Token: func(context.Context) (string, error) { return tokens[i], nil }, Handle: func(e wsclient.Event) { r.hear(p, e) },
		})
		require.NoError(t, err)
		t.Cleanup(p.client.Close)
		for _, room := range rooms {
			r.write(journal.Entry{Kind: journal.Joined, Client: p.name, Room: room, From: new(uint64)})
			_, err := p.client.JoinSince(ctx, room, 0)
			require.NoError(t, err)
		}
	}
	stop := make(chan struct{})
	var talking sync.WaitGroup
	for _, p := range people {
		talking.Go(func() { r.talk(p, rooms, stop) })
	}
	for round := range rounds {
		for i := range r.nodes {
			sent := r.acknowledged.Load()
			await(t, "people to talk", func() bool { return r.acknowledged.Load() > sent+speakers })
			r.write(journal.Entry{Kind: journal.Round, Round: round*len(r.nodes) + i + 1, Fault: "restart", Victim: "node"})
			r.nodes[i].stop(t, sigterm)
			r.start(i)
			r.write(journal.Entry{Kind: journal.Healed, Round: round*len(r.nodes) + i + 1})
		}
	}
	close(stop)
	within(t, "all senders to get their acks", talking.Wait)

	auditor := r.nodes[0].connect(t, auditing, nil)
	for _, room := range rooms {
		joined, err := auditor.Join(t.Context(), room)
		require.NoError(t, err)
		all, err := stored(t.Context(), auditor, room, joined.Seq)
		require.NoError(t, err)
		for _, m := range all {
			r.write(journal.Entry{Kind: journal.Stored, Room: room, Seq: m.Seq, ClientID: m.Text})
		}
		r.write(journal.Entry{Kind: journal.Complete, What: journal.Log, Room: room})
		for _, p := range people {
			await(t, p.name+" to read the rest of "+room, func() bool {
				p.mu.Lock()
				defer p.mu.Unlock()
				return p.read[room] >= joined.Seq
			})
		}
	}
	r.mu.Lock()
	require.NoError(t, r.log.Flush())
	verdict, err := journal.Check(bytes.NewReader(bytes.Clone(r.journal.Bytes())))
	r.mu.Unlock()
	require.NoError(t, err)
	require.True(t, verdict.OK(), "%+v", verdict)
	assert.Equal(t, int(r.acknowledged.Load()), verdict.Acknowledged)
	assert.Equal(t, verdict.Acknowledged, verdict.Stored)
	assert.Equal(t, verdict.Stored*speakers, verdict.Delivered, "each message once to each")
	assert.Equal(t, map[string]int{"restart node": rounds * len(r.nodes)}, verdict.Faults)
	var absences []time.Duration
	for _, p := range people {
		p.mu.Lock()
		for _, code := range p.codes {
			assert.Equal(t, 1012, code, p.name)
		}
		absences = append(absences, p.absences...)
		p.mu.Unlock()
	}
	require.NotEmpty(t, absences)
	slices.Sort(absences)
	t.Logf("rolling restart: %d restarts of 2 nodes, %d messages acknowledged, %d deliveries; %d times somebody was away, for %v in the median, %v at most",
		rounds*len(r.nodes), verdict.Acknowledged, verdict.Delivered, len(absences), absences[len(absences)/2], absences[len(absences)-1])
	for _, n := range r.nodes {
		n.stop(t, sigterm)
	}
}

// rolling is two nodes, and what people see of them.
type rolling struct {
	t            *testing.T
	args         []string
	data         [2]string
	addresses    [2]string
	nodes        [2]*server
	next         atomic.Uint64 // what the balancer tries first
	acknowledged atomic.Int64

	mu      sync.Mutex
	journal bytes.Buffer
	log     *journal.Writer
}

// traveller talks and reads, and is carried from node to node.
type traveller struct {
	name   string
	client *wsclient.Client

	// Written by the client's goroutine.
	mu       sync.Mutex
	read     map[string]uint64
	gone     time.Time
	absences []time.Duration
	codes    []int
}

func (r *rolling) write(e journal.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.At = time.Now().UnixMicro()
	assert.NoError(r.t, r.log.Write(e))
}

// start starts a node where it was before, and waits until it serves.
func (r *rolling) start(i int) {
	r.nodes[i] = serve(r.t, r.data[i], append([]string{"--listen", r.addresses[i]}, r.args...)...)
}

// balance serves a balancer of TCP connections, which takes nodes in turn that are ready, and returns its address.
func (r *rolling) balance() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(r.t, err)
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() { r.carry(conn) })
		}
	})
	r.t.Cleanup(func() {
		_ = listener.Close()
		open.Wait()
	})
	return listener.Addr().String()
}

// carry hands a connection to a node.
func (r *rolling) carry(conn net.Conn) {
	defer conn.Close()
	for range r.nodes {
		address := r.addresses[r.next.Add(1)%uint64(len(r.nodes))]
		ready, err := ask(context.Background(), http.MethodGet, "http://"+address+"/readyz", "", nil)
		if err != nil || ready.status != http.StatusOK {
			continue
		}
		node, err := net.Dial("tcp", address)
		if err != nil {
			continue
		}
		var done sync.WaitGroup
		for _, way := range [][2]net.Conn{{conn, node}, {node, conn}} {
			done.Go(func() {
				_, _ = io.Copy(way[0], way[1])
				_ = way[0].(*net.TCPConn).CloseWrite()
			})
		}
		done.Wait()
		_ = node.Close()
		return
	}
}

func (r *rolling) hear(p *traveller, e wsclient.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e.Kind {
	case wsclient.EventConnected:
		if !p.gone.IsZero() {
			p.absences = append(p.absences, time.Since(p.gone))
			r.write(journal.Entry{Kind: journal.Back, Client: p.name})
		}
	case wsclient.EventDisconnected:
		p.gone = time.Now()
		p.codes = append(p.codes, e.Code)
		r.write(journal.Entry{Kind: journal.Away, Client: p.name})
	case wsclient.EventResync:
		if e.Lost {
			r.write(journal.Entry{Kind: journal.Reload, Client: p.name, Room: e.Room})
		}
	case wsclient.EventMessage:
		r.write(journal.Entry{Kind: journal.Saw, Client: p.name, Room: e.Message.Room, Seq: e.Message.Seq, ClientID: e.Message.Text})
		p.read[e.Message.Room] = e.Message.Seq
	}
}

// talk sends as fast as acks come.
func (r *rolling) talk(p *traveller, rooms []string, stop <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		room, text := rooms[i%len(rooms)], fmt.Sprintf("%s: %d", p.name, i)
		r.write(journal.Entry{Kind: journal.Sent, Client: p.name, Room: room, ClientID: text})
		ack, err := p.client.Send(r.t.Context(), room, text)
		if !assert.NoError(r.t, err) {
			return
		}
		r.acknowledged.Add(1)
		r.write(journal.Entry{Kind: journal.Acknowledged, Client: p.name, Room: room, ClientID: text, Seq: ack.Seq})
	}
}
