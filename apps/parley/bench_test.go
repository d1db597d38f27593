package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/netws"
	"github.com/parley-chat/parley/adapters/socketio"
	"github.com/parley-chat/parley/adapters/socketio/engineio"
)

// TestBench holds that the load generator speaks each wire: everybody joins, everything sent is acknowledged, and everybody
// gets it. What it measures is not judged here.
func TestBench(t *testing.T) {
	t.Parallel()
	for _, wire := range []string{"native", "socketio"} {
		t.Run(wire, func(t *testing.T) {
			t.Parallel()
			measured := func(what string, args ...string) (r struct {
				ConnectMicros, DeliveryMicros, MessageMicros float64
				Bytes, RestBytes                             int
				Load                                         struct{ Sent, Acked, Deliveries, Expected int }
			}) {
				t.Helper()
				out := execute(t, nil, append([]string{"bench", what, "--json", "--wire", wire}, args...)...).succeeded(t)
				require.NoError(t, json.Unmarshal([]byte(out), &r), out)
				assert.Positive(t, r.ConnectMicros)
				return r
			}
			assert.Positive(t, measured("idle", "--connections", "20", "--duration", "100ms").RestBytes)
			r := measured("fanout", "--connections", "20", "--rooms", "2", "--messages", "30", "--in-flight", "3")
			assert.Positive(t, r.DeliveryMicros)
			assert.Equal(t, 30, r.Load.Sent)
			assert.Equal(t, 30, r.Load.Acked)
			assert.Equal(t, 300, r.Load.Deliveries)
			assert.Equal(t, 300, r.Load.Expected)
			r = measured("send", "--senders", "3", "--in-flight", "4", "--duration", "200ms")
			assert.Positive(t, r.MessageMicros)
			assert.Positive(t, r.Load.Acked)
			assert.Equal(t, r.Load.Sent, r.Load.Acked)
		})
	}
}

// TestBenchBeside holds that another server is measured in turn with the program's own.
func TestBenchBeside(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	args := func(what string) []string {
		return []string{"bench", what, "--wire", "socketio", "--connections", "20", "--messages", "16", "--duration", "100ms", "--rounds", "2", "--beside", self + " " + besideArg}
	}
	const pair = `: parley \S+ \S+, median \S+; beside \S+ \S+, median \S+; ratio of the medians \S+\n`
	require.Regexp(t, `(?s)^go1\S+, .* beside: .*\nconnect and join[^:]*`+pair+`memory[^:]*`+pair+`idle[^:]*`+pair+`$`, execute(t, nil, args("idle")...).succeeded(t))
	require.Regexp(t, `(?s)^go1\S+, .* beside: .*\nconnect and join[^:]*`+pair+`delivery[^:]*`+pair+`delivery, p99[^:]*`+pair+`$`, execute(t, nil, args("fanout")...).succeeded(t))
	require.Contains(t, execute(t, nil, "bench", "send", "--wire", "socketio", "--beside", self).refused(t), "--beside goes with")
	require.Contains(t, execute(t, nil, "bench", "idle", "--beside", self).refused(t), "--beside goes with")
	require.Contains(t, execute(t, nil, "bench", "idle", "--wire", "socketio", "--socketio", "off").refused(t), "--socketio on")
}

// besideArg makes this test's program a server for --beside.
const besideArg = "beside"

// beside is a server of Socket.IO without chat, that answers what package bench asks.
func beside() error {
	transport, err := netws.New(netws.Config{UpgradeOnly: true})
	if err != nil {
		return err
	}
	server, err := socketio.New(socketio.Config{Engine: engineio.Config{Upgrader: transport}, Namespaces: map[string]socketio.Namespace{"/": {Events: map[string]socketio.Handler{
		"join_room": func(_ context.Context, e *socketio.Event) {
			var in struct{ Name string }
			if e.Args.Decode(0, &in) == nil {
				e.Socket.Join(in.Name)
				_ = e.Ack(in)
			}
		},
		"message": func(_ context.Context, e *socketio.Event) {
			var in struct{ RoomName, Message string }
			if e.Args.Decode(0, &in) == nil {
				_ = e.Socket.To(in.RoomName).Emit(in.RoomName, map[string]string{"message": in.Message})
				_ = e.Socket.Emit(in.RoomName, map[string]string{"message": in.Message})
				_ = e.Ack(in)
			}
		},
	}}}})
	if err != nil {
		return err
	}
	go func() { _ = transport.Run(context.Background()) }()
	go func() { _ = server.Run(context.Background()) }()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(listener, server) }() //nolint:gosec // the bench is its only client
	fmt.Println(listener.Addr())
	in := bufio.NewScanner(os.Stdin)
	for n := 1000; in.Scan(); n += 1000 { // what it answers grows, as it would
		fmt.Println(n)
	}
	return in.Err()
}
