// Package bench measures a server of its own: it runs in this process, so that its memory and
// processor time can be told from those of the clients, which run in another.
package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parley-chat/parley/apps/internal/config"
)

// What a bench measures.
const (
	idle   = "idle"
	fanout = "fanout"
	send   = "send"
	storm  = "storm" // clients that are cut off and come back; for overload alone
)

// plan is what the client process is told.
type plan struct {
	Address  string        `json:"address"`
	Path     string        `json:"path"` // empty: that of the wire
	Wire     string        `json:"wire"`
	Run      string        `json:"run"` // part of the names of rooms, so that a second run has others
	Members  int           `json:"members"`
	Tokens   []string      `json:"tokens"` // one each, or none
	Rooms    int           `json:"rooms"`
	What     string        `json:"what"`
	Senders  int           `json:"senders"`
	InFlight int           `json:"inFlight"`
	Messages int           `json:"messages"`
	Rate     int           `json:"rate"` // messages a second of all senders; 0: as many as can be
	Duration time.Duration `json:"duration"`
	Size     int           `json:"size"`
}

// result is what the client process saw.
type result struct {
	Sent       int     `json:"sent"`
	Acked      int     `json:"acked"`
	Refused    int     `json:"refused"`
	Deliveries int     `json:"deliveries"` // each message once at each member
	Expected   int     `json:"expected"`   // deliveries
	Twice      int     `json:"twice"`      // deliveries of what the member had
	Gaps       int     `json:"gaps"`       // deliveries whose number in the room does not follow the one before
	Seconds    float64 `json:"seconds"`
	AckP50     float64 `json:"ackP50Ms"`
	AckP99     float64 `json:"ackP99Ms"`
	P50        float64 `json:"deliveryP50Ms"`
	P99        float64 `json:"deliveryP99Ms"`
	Last       float64 `json:"deliveryLastMs"`
	// Closes counts connections that the server ended, by the code of its close frame; 1006 is without one.
	Closes map[string]int `json:"closes,omitempty"`
}

// report is what a bench has measured. What is not known is 0.
type report struct {
	Connect  float64 `json:"connectMicros"`            // server processor time of connecting and joining
	Memory   int     `json:"bytes,omitempty"`          // resident bytes of a joined connection
	Loaded   int     `json:"bytesAfter,omitempty"`     // the same once all has been delivered
	Rest     int     `json:"restBytes,omitempty"`      // resident bytes without any
	Idle     float64 `json:"idlePercent,omitempty"`    // of a core
	Delivery float64 `json:"deliveryMicros,omitempty"` // server processor time of a delivery
	Message  float64 `json:"messageMicros,omitempty"`  // server processor time of an acknowledged message
	Load     result  `json:"load"`
}

// server is what is measured.
type server interface {
	// resident is the memory that the process holds once garbage is gone, in bytes.
	resident() (int, error)
	// cpu is the processor time that the process has spent.
	cpu() (time.Duration, error)
}

// Run measures "idle", "fanout" or "send", and prints what it saw. The server is the one that s
// configures, on a folder and an address of its own, or the one at b.URL.
func Run(ctx context.Context, what string, s config.Settings, b config.Bench, stdout io.Writer, serve func(context.Context, config.Settings, func(net.Addr)) error) error {
	if b.Connections < 1 || b.Rooms < 0 || b.Senders < 1 || b.InFlight < 1 || b.Messages < 1 || b.Rate < 0 || b.Rounds < 1 || b.Size < minSize || b.Size > 4000 || b.Duration <= 0 {
		return errors.New("bench: every number must be at least 1 (rooms and rate 0 or more), and the size 32 to 4000")
	}
	if what == send {
		b.Connections = b.Senders
	}
	if b.Rooms == 0 {
		b.Rooms = 1
		if what == send {
			b.Rooms = b.Connections // so that storing is measured, and not delivering
		}
	}
	if b.Rooms > b.Connections {
		return errors.New("bench: more rooms than connections: some would be empty")
	}
	if b.Beside != "" {
		return compare(ctx, what, b, stdout)
	}
	var r report
	var err error
	name := "transport " + s.Transport
	switch {
	case b.URL != "":
		name = b.URL
		r, err = elsewhere(ctx, what, b)
	case b.Wire == wireCentrifuge:
		err = errors.New("bench: this program does not speak --wire centrifuge: say where with --url, or compare with --beside and --beside-wire")
	default:
		r, err = own(ctx, what, s, b, serve)
	}
	if err != nil {
		return err
	}
	if b.JSON {
		return json.NewEncoder(stdout).Encode(r)
	}
	fmt.Fprintf(stdout, "%s, %s/%s, %d processors, %s, wire %s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), name, b.Wire)
	r.print(stdout, what, b)
	return nil
}

// own measures the server that s configures, in this process.
func own(ctx context.Context, what string, s config.Settings, b config.Bench, serve func(context.Context, config.Settings, func(net.Addr)) error) (none report, err error) {
	folder, err := os.MkdirTemp("", "parley-bench-")
	if err != nil {
		return none, err
	}
	defer os.RemoveAll(folder)
	s.Data, s.Listen, s.PublicURL, s.SocketRate = folder, "127.0.0.1:0", "", -1
	if s.AdminListen != config.Off { // what is counted for it is part of the cost
		s.AdminListen = "127.0.0.1:0"
	}
	s.HandshakeBurst = 10_000_000 // all come from one address
	run := ""
	if strings.HasPrefix(s.Store, "sqlite:") {
		s.Store = "sqlite:" + filepath.Join(folder, "parley.db")
	} else {
		run = newRun() // a server may have been used before
	}
	if b.Wire == wireSocketIO && s.SocketIO != "on" {
		return none, errors.New("bench: --wire socketio needs --socketio on")
	}
	tokens, err := accounts(ctx, s, run, 0, b.Connections)
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if b.Heap != "" {
		runtime.MemProfileRate = 1024 // fine enough to see what one connection holds
	}
	ready, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() { ended <- serve(ctx, s, func(a net.Addr) { ready <- a }) }()
	here := inProcess{heap: b.Heap}
	select {
	case a := <-ready:
		here.at = a.String()
	case err := <-ended:
		return none, err
	}
	if b.Profile != "" {
		f, err := os.Create(b.Profile)
		if err != nil {
			return none, err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return none, err
		}
		defer pprof.StopCPUProfile()
	}
	p := planned(what, b, here.address(), tokens)
	p.Run = run
	r, err := measure(ctx, p, here)
	runtime.KeepAlive(tokens) // else they would count as memory that connections give back
	if err != nil {
		return none, err
	}
	cancel()
	return r, <-ended
}

// inProcess is the server of this process.
type inProcess struct {
	at   string
	heap string // a file for what is held at the last measurement
}

func (s inProcess) address() string { return s.at }

func (s inProcess) resident() (int, error) {
	n := settle()
	if s.heap == "" {
		return n, nil
	}
	f, err := os.Create(s.heap)
	if err != nil {
		return n, err
	}
	return n, errors.Join(pprof.Lookup("heap").WriteTo(f, 0), f.Close())
}

func (inProcess) cpu() (time.Duration, error) { return cpu(), nil }

// planned is what the clients are to do.
func planned(what string, b config.Bench, address string, tokens []string) plan {
	return plan{
		Address: address, Wire: b.Wire, Members: b.Connections, Tokens: tokens, Rooms: b.Rooms, What: what, Senders: b.Senders,
		InFlight: b.InFlight, Messages: b.Messages, Rate: b.Rate, Duration: b.Duration, Size: b.Size,
	}
}

// measure lets clients connect to a server, and does with them what the bench is about.
func measure(ctx context.Context, p plan, of server) (r report, err error) {
	spent := func() (d time.Duration) { // since the server began
		if err == nil {
			d, err = of.cpu()
		}
		return d
	}
	bytes := func() (n int) { // of a member, resident
		if err == nil {
			n, err = of.resident()
		}
		return max(0, n-r.Rest) / p.Members
	}
	if r.Rest, err = of.resident(); err != nil {
		return r, err
	}
	started := spent()
	clients, failed := start(ctx, p)
	if failed != nil {
		return r, failed
	}
	defer clients.stop()
	if err := clients.joined(); err != nil {
		return r, err
	}
	r.Connect = perUnit(spent()-started, p.Members)
	r.Memory = bytes()
	if p.What == idle {
		before := spent()
		select {
		case <-time.After(p.Duration):
		case <-ctx.Done():
			return r, ctx.Err()
		}
		r.Idle = 100 * float64(spent()-before) / float64(p.Duration)
		return r, err
	}
	before := spent()
	if r.Load, failed = clients.load(); failed != nil {
		return r, failed
	}
	took := spent() - before
	if p.What == send {
		r.Message = perUnit(took, r.Load.Acked)
		return r, err
	}
	r.Delivery = perUnit(took, r.Load.Deliveries)
	r.Loaded = bytes()
	if r.Load.Deliveries < r.Load.Expected {
		return r, fmt.Errorf("bench: %d of %d deliveries came; %d messages were refused; connections ended: %v", r.Load.Deliveries, r.Load.Expected, r.Load.Refused, r.Load.Closes)
	}
	return r, err
}

func (r report) print(w io.Writer, what string, b config.Bench) {
	known := b.URL == "" || b.PID != 0
	if known {
		fmt.Fprintf(w, "connect and join    %8.1f µs of server processor time a connection (%d connections, %d rooms)\n", r.Connect, b.Connections, b.Rooms)
		fmt.Fprintf(w, "memory              %8d resident bytes a joined connection (%d KiB at rest without any)\n", r.Memory, r.Rest/1024)
	}
	if what == idle {
		if known {
			fmt.Fprintf(w, "idle                %8.3f %% of a core over %v\n", r.Idle, b.Duration)
		}
		return
	}
	l := r.Load
	fmt.Fprintf(w, "sent                %8d messages, %d acknowledged, %d refused, in %.2f s: %.0f a second\n", l.Sent, l.Acked, l.Refused, l.Seconds, float64(l.Acked)/l.Seconds)
	fmt.Fprintf(w, "ack                 %8.2f ms median, %.2f ms p99\n", l.AckP50, l.AckP99)
	switch {
	case what == send && known:
		fmt.Fprintf(w, "processor           %8.2f µs of server processor time a message\n", r.Message)
	case what == fanout && known:
		fmt.Fprintf(w, "delivery            %8.2f µs of server processor time each, %d of them\n", r.Delivery, l.Deliveries)
		fmt.Fprintf(w, "memory              %8d resident bytes a joined connection after them\n", r.Loaded)
	}
	if what == fanout {
		fmt.Fprintf(w, "delivery            %8.2f ms median, %.2f ms p99, %.2f ms the last, from sending to reading\n", l.P50, l.P99, l.Last)
	}
	fmt.Fprintf(w, "seen                %8d deliveries twice, %d out of order; connections ended by the server: %s\n", l.Twice, l.Gaps, ended(l.Closes))
}

// ended writes how many connections were ended, by code.
func ended(closes map[string]int) string {
	if len(closes) == 0 {
		return "none"
	}
	var all []string
	for _, code := range slices.Sorted(maps.Keys(closes)) {
		all = append(all, fmt.Sprintf("%d with %s", closes[code], code))
	}
	return strings.Join(all, ", ")
}

func perUnit(d time.Duration, n int) float64 {
	return float64(d.Nanoseconds()) / 1000 / float64(max(n, 1))
}

// clients is the process with the other side.
type clients struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func start(ctx context.Context, p plan) (*clients, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &clients{cmd: exec.CommandContext(ctx, self, "bench", "client")} //nolint:gosec // it is this program
	c.cmd.Stderr = os.Stderr
	c.cmd.Env = []string{}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	return c, json.NewEncoder(c.in).Encode(p)
}

// joined waits until every connection has joined.
func (c *clients) joined() error {
	line, err := c.out.ReadString('\n')
	if err != nil || line != "joined\n" {
		return fmt.Errorf("bench: the clients did not join: %q %w", line, err)
	}
	return nil
}

// expect makes them ready for what others send.
func (c *clients) expect() error {
	if _, err := io.WriteString(c.in, "expect\n"); err != nil {
		return err
	}
	if line, err := c.out.ReadString('\n'); err != nil || line != "expecting\n" {
		return fmt.Errorf("bench: the clients do not expect anything: %q %w", line, err)
	}
	return nil
}

// load lets them send, or wait for what others send, and returns what they saw.
func (c *clients) load() (r result, err error) {
	if _, err = io.WriteString(c.in, "go\n"); err != nil {
		return r, err
	}
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		return r, fmt.Errorf("bench: the clients saw nothing: %w", err)
	}
	return r, json.Unmarshal(line, &r)
}

func (c *clients) stop() {
	_ = c.in.Close() // the sign to end
	_ = c.cmd.Wait()
}

// settle returns what this process holds in memory once garbage is gone: resident bytes.
func settle() int {
	for range 3 {
		runtime.GC()
		debug.FreeOSMemory()
		time.Sleep(200 * time.Millisecond) // the kernel takes pages back a little later
	}
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.Sys - m.HeapReleased) //nolint:gosec // fits
	}
	fields := strings.Fields(string(text))
	pages, _ := strconv.Atoi(fields[1])
	return pages * os.Getpagesize()
}
