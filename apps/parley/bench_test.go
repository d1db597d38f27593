package main_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/netws"
	"github.com/parley-chat/parley/adapters/socketio"
	"github.com/parley-chat/parley/adapters/socketio/engineio"
	"github.com/parley-chat/parley/testkit/servers"
)

// TestBench holds that the load generator speaks each wire: everybody joins, everything sent is acknowledged, and everybody
// gets it. What it measures is not judged here.
func TestBench(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: it computes for seconds")
	}
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
			heap := filepath.Join(t.TempDir(), "heap")
			assert.Positive(t, measured("idle", "--connections", "20", "--duration", "100ms", "--heap", heap).RestBytes)
			profile, err := os.ReadFile(heap)
			require.NoError(t, err)
			assert.True(t, bytes.HasPrefix(profile, []byte{0x1f, 0x8b}), "profiles are compressed by gzip (RFC 1952)")
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
	if testing.Short() {
		t.Skip("skipped by -short: servers are measured in turn, for some seconds")
	}
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	args := func(what, beside string, more ...string) []string {
		return append([]string{"bench", what, "--connections", "20", "--senders", "2", "--messages", "16", "--duration", "100ms", "--rounds", "2", "--beside", beside}, more...)
	}
	pair := func(names ...string) (lines string) {
		for _, name := range names {
			lines += name + `\s[^:]*: parley \S+ \S+, median \S+; beside \S+ \S+, median \S+; ratio of the medians \S+\n`
		}
		return `^go1\S+, .* beside: .*\n` + lines + `$`
	}
	require.Regexp(t, pair("connect and join", "memory", "idle"), execute(t, nil, args("idle", self+" "+besideArg, "--wire", "socketio")...).succeeded(t))
	if testing.Short() { // each run takes seconds
		return
	}
	delivered := pair("connect and join", "memory", "delivery", "delivery, median", "delivery, p99", "memory after it")
	require.Regexp(t, delivered, execute(t, nil, args("fanout", self+" "+besideArg, "--beside-wire", "socketio")...).succeeded(t))
	if runtime.GOOS == "linux" {
		require.Regexp(t, delivered, execute(t, nil, args("fanout", program+" bench floor")...).succeeded(t))
		require.Regexp(t, pair("connect and join", "memory", "acknowledged", "ack, p99"), execute(t, nil, args("send", program+" bench floor", "--rate", "500")...).succeeded(t))
	}
}

// TestBenchElsewhere holds that a server that runs already can be measured, and that what cannot be done is said.
func TestBenchElsewhere(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "linux" {
		server := exec.CommandContext(t.Context(), program, "bench", "floor")
		server.Env = environment()
		in, err := server.StdinPipe()
		require.NoError(t, err)
		out, err := server.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, server.Start())
		t.Cleanup(func() {
			_ = in.Close()
			_ = server.Wait()
		})
		address, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		args := []string{"bench", "fanout", "--connections", "6", "--rooms", "4", "--messages", "8", "--json", "--url", "ws://" + strings.TrimSpace(address)}
		for _, more := range [][]string{nil, {"--pid", strconv.Itoa(server.Process.Pid)}} {
			var r struct {
				RestBytes int
				Load      struct{ Deliveries, Twice int }
			}
			printed := execute(t, nil, append(args, more...)...).succeeded(t)
			require.NoError(t, json.Unmarshal([]byte(printed), &r), printed)
			assert.Equal(t, 14, r.Load.Deliveries, "six messages to two members, two to one")
			assert.Zero(t, r.Load.Twice)
			assert.Equal(t, more != nil, r.RestBytes > 0)
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	require.NoError(t, os.WriteFile(none, []byte("\n"), 0o600))
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"idle", "--wire", "socketio", "--socketio", "off"}, "--socketio on"},
		{[]string{"idle", "--wire", "centrifuge"}, "--beside-wire"},
		{[]string{"idle", "--wire", "centrifuge", "--beside", "x"}, "--beside-wire"},
		{[]string{"idle", "--url", "ws://127.0.0.1:1", "--beside", "x"}, "one or the other"},
		{[]string{"idle", "--url", "wss://example.org"}, "there is no TLS here"},
		{[]string{"idle", "--url", "ws://127.0.0.1:1", "--tokens", none}, "has none"},
		{[]string{"idle", "--url", "ws://127.0.0.1:1", "--tokens", none + "x"}, "no such file"},
		{[]string{"idle", "--connections", "2", "--rooms", "3"}, "more rooms than connections"},
		{[]string{"idle", "--rate", "-1"}, "rate 0 or more"},
	} {
		assert.Contains(t, execute(t, nil, append([]string{"bench"}, c.args...)...).refused(t), c.says)
	}
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

// TestBenchOnAServer holds that messages are stored where --store says, also in a second run, and that a store which cannot be
// prepared is refused.
func TestBenchOnAServer(t *testing.T) {
	t.Parallel()
	assert.Contains(t, execute(t, nil, "bench", "send", "--store", "memory:").refused(t), "leave --store out")
	store := servers.Postgres(t)
	db, err := sql.Open("pgx", store)
	require.NoError(t, err)
	defer db.Close()
	for run := 1; run <= 2; run++ {
		execute(t, nil, "bench", "send", "--json", "--senders", "3", "--duration", "200ms", "--store", store).succeeded(t)
		var rooms, messages int
		require.NoError(t, db.QueryRow("SELECT count(DISTINCT room_id), count(*) FROM parley_messages").Scan(&rooms, &messages))
		assert.Equal(t, 3*run, rooms)
		assert.Greater(t, messages, 3*run)
	}
}

// TestBenchMillion holds that members come to as many nodes as it takes, and that everybody gets what the first one sends.
func TestBenchMillion(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("it reads what the kernel of Linux says of memory")
	}
	type step struct {
		Members, Nodes, Bytes, KernelBytes, ClientBytes, Deliveries, Missed, Twice, Gaps int

		DeliveryMicros float64
	}
	grow := func(t *testing.T, args ...string) (steps []step) {
		t.Helper()
		printed := execute(t, nil, append([]string{"bench", "million", "--json", "--duration", "100ms", "--messages", "2"}, args...)...).succeeded(t)
		require.NoError(t, json.Unmarshal([]byte(printed), &steps), printed)
		for i := range steps {
			assert.Positive(t, steps[i].Bytes)
			assert.Positive(t, steps[i].ClientBytes)
			assert.Positive(t, steps[i].DeliveryMicros)
			steps[i].Bytes, steps[i].KernelBytes, steps[i].ClientBytes, steps[i].DeliveryMicros = 0, 0, 0, 0
		}
		return steps
	}
	t.Run("one node", func(t *testing.T) {
		t.Parallel()
		assert.Equal(t, []step{{Members: 40, Nodes: 1, Deliveries: 80}}, grow(t, "--members", "40"))
		refused := execute(t, nil, "bench", "million", "--members", "40", "--per-node", "30").refused(t)
		assert.Contains(t, refused, "--redis and a --store that they share")
		assert.Contains(t, execute(t, nil, "bench", "million", "--members", "0").refused(t), "must be at least 1")
	})
	t.Run("several nodes", func(t *testing.T) {
		t.Parallel()
		store, redis := servers.Postgres(t), servers.Redis(t)
		assert.Equal(t, []step{
			{Members: 20, Nodes: 1, Deliveries: 40}, {Members: 50, Nodes: 3, Deliveries: 100},
		}, grow(t, "--members", "50", "--steps", "20", "--per-node", "20", "--store", store, "--redis", redis))
	})
}
