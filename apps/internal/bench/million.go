package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/apps/internal/config"
)

// Node serves what s configures on a free port of the IP address of s.Listen; if that has a name, of 127.0.0.1. It writes the address,
// and answers what a [child] is asked. It ends with in.
func Node(ctx context.Context, s config.Settings, in io.Reader, stdout io.Writer, serve func(context.Context, config.Settings, func(net.Addr)) error) error {
	host, _, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return fmt.Errorf("bench node: %w", err)
	}
	if net.ParseIP(host) == nil {
		host = "127.0.0.1"
	}
	free := net.JoinHostPort(host, "0")
	s.Listen, s.PublicURL, s.SocketRate, s.HandshakeBurst = free, "", -1, 10_000_000
	if s.AdminListen != config.Off { // many nodes on one machine
		s.AdminListen = free
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ready, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() { ended <- serve(ctx, s, func(a net.Addr) { ready <- a }) }()
	select {
	case a := <-ready:
		fmt.Fprintln(stdout, a)
	case err := <-ended:
		return err
	}
	asked := make(chan error, 1)
	go func() { asked <- answerBeside(in, stdout) }()
	select {
	case err := <-asked:
		cancel()
		return errors.Join(err, <-ended)
	case err := <-ended:
		return err
	}
}

// step is what a million has measured with so many members.
type step struct {
	Members int     `json:"members"`
	Nodes   int     `json:"nodes"`
	Memory  int     `json:"bytes"`          // resident bytes of all nodes a member
	Kernel  int     `json:"kernelBytes"`    // bytes of the kernel a member, both ends of the connection
	Clients int     `json:"clientBytes"`    // resident bytes of all client processes a member
	Connect float64 `json:"connectMicros"`  // processor time of the nodes to connect and join, of those who came since the last step
	Idle    float64 `json:"idlePercent"`    // of a core, all nodes, pings included
	Each    float64 `json:"deliveryMicros"` // processor time of the nodes a delivery, sending and fan-out included
	P50     float64 `json:"medianMs"`       // from sending to reading, the worst process
	Last    float64 `json:"lastMs"`         // until everybody had a message
	Reached int     `json:"deliveries"`
	Missed  int     `json:"missed"`
	Twice   int     `json:"twice"`
	Gaps    int     `json:"gaps"`
}

// leastFree is the memory, in bytes, that a million leaves to the machine: it goes no further below it.
const leastFree = 1 << 30

// Million lets members of one room come, a node and a process of clients at a time, and measures at each step: memory,
// processor time, and how long a message takes until everybody has it. Nodes share the store and the Redis that s configures.
// It stops where the machine ends, and says why.
func Million(ctx context.Context, s config.Settings, m config.Million, stdout io.Writer) error {
	if m.Members < 1 || m.PerNode < 1 || m.Messages < 1 || m.Duration <= 0 {
		return errors.New("bench million: every number must be at least 1")
	}
	if m.Members > m.PerNode {
		if strings.HasPrefix(s.Store, "sqlite:") || strings.HasPrefix(s.Store, "memory:") || s.Redis == "" {
			return fmt.Errorf("bench million: %d members are more than one node takes (--per-node %d): several need --redis and a --store that they share", m.Members, m.PerNode)
		}
	}
	folder, err := os.MkdirTemp("", "parley-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	s.Data = folder
	if strings.HasPrefix(s.Store, "sqlite:") {
		s.Store = "sqlite:" + filepath.Join(folder, "parley.db")
	}
	g := &growth{settings: s, Million: m, out: stdout, run: newRun()}
	defer g.stop()
	if g.kernel, err = kernelMemory(); err != nil {
		return err
	}
	var steps []step
	for _, to := range append(slices.DeleteFunc(slices.Clone(m.Steps), func(n int) bool { return n >= m.Members }), m.Members) {
		st, err := g.to(ctx, to)
		if err != nil {
			g.say("It ends before %d members: %v", to, err)
			if len(steps) == 0 || ctx.Err() != nil {
				return err
			}
			break
		}
		steps = append(steps, st)
		g.say("%s", st)
	}
	if m.JSON {
		return json.NewEncoder(stdout).Encode(steps)
	}
	return nil
}

func (st step) String() string {
	return fmt.Sprintf("%9d members on %d nodes: %d resident bytes each, %d of the kernel, %d of the clients; connect and join %.0f µs; idle %.1f %% of a core; a delivery %.2f µs; a message reaches everybody in %.0f ms (median %.0f); %d missed, %d twice, %d out of order",
		st.Members, st.Nodes, st.Memory, st.Kernel, st.Clients, st.Connect, st.Idle, st.Each, st.Last, st.P50, st.Missed, st.Twice, st.Gaps)
}

// growth is a system that grows.
type growth struct {
	config.Million
	settings config.Settings
	out      io.Writer
	run      string
	kernel   int // bytes before anybody came
	members  int
	nodes    []*child
	crowds   []*clients
}

func (g *growth) say(format string, args ...any) {
	if !g.JSON {
		fmt.Fprintf(g.out, format+"\n", args...)
	}
}

// to lets members come until there are so many, and measures.
func (g *growth) to(ctx context.Context, members int) (st step, err error) {
	before, spent := g.members, time.Duration(0)
	for g.members < members {
		free, err := meminfo("MemAvailable")
		if err != nil {
			return st, err
		}
		if free < leastFree {
			return st, fmt.Errorf("%d MiB of memory are left to the machine", free>>20)
		}
		took, err := g.add(ctx, min(g.PerNode, members-g.members))
		if err != nil {
			return st, err
		}
		spent += took
		g.say("%9d members", g.members)
	}
	st = step{Members: g.members, Nodes: len(g.nodes), Connect: perUnit(spent, g.members-before)}
	resident, err := sum(g.nodes, (*child).resident)
	if err != nil {
		return st, err
	}
	kernel, err := kernelMemory()
	if err != nil {
		return st, err
	}
	theirs, err := sum(g.crowds, func(c *clients) (int, error) { return process(c.cmd.Process.Pid).resident() })
	if err != nil {
		return st, err
	}
	st.Memory, st.Kernel, st.Clients = resident/g.members, (kernel-g.kernel)/g.members, theirs/g.members
	started, err := sum(g.nodes, (*child).micros)
	if err != nil {
		return st, err
	}
	select {
	case <-time.After(g.Duration):
	case <-ctx.Done():
		return st, ctx.Err()
	}
	ended, err := sum(g.nodes, (*child).micros)
	if err != nil {
		return st, err
	}
	st.Idle = 100 * float64(ended-started) / float64(g.Duration.Microseconds())
	return st, g.message(&st)
}

// add starts a node and clients that join at it, and returns the processor time that the nodes spent on that.
func (g *growth) add(ctx context.Context, n int) (time.Duration, error) {
	tokens, err := accounts(ctx, g.settings, g.run, g.members, n)
	if err != nil {
		return 0, err
	}
	node, err := startNode(ctx, g.settings, len(g.nodes))
	if err != nil {
		return 0, err
	}
	g.nodes = append(g.nodes, node)
	before, err := sum(g.nodes, (*child).micros)
	if err != nil {
		return 0, err
	}
	p := plan{
		Address: node.at, Wire: wireNative, Run: g.run, Members: n, Tokens: tokens, Rooms: 1, What: fanout, InFlight: 1, Messages: g.Messages, Size: 128,
	}
	if len(g.crowds) == 0 {
		p.Senders = 1
	}
	c, err := start(ctx, p)
	if err != nil {
		return 0, err
	}
	g.crowds = append(g.crowds, c)
	if err := c.joined(); err != nil {
		return 0, err
	}
	g.members += n
	after, err := sum(g.nodes, (*child).micros)
	return time.Duration(after-before) * time.Microsecond, err
}

// message lets the first client send, and everybody wait for it.
func (g *growth) message(st *step) error {
	for _, c := range g.crowds[1:] {
		if err := c.expect(); err != nil {
			return err
		}
	}
	before, err := sum(g.nodes, (*child).micros)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for _, c := range g.crowds {
		wg.Go(func() {
			r, err := c.load()
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
			st.P50, st.Last = max(st.P50, r.P50), max(st.Last, r.Last)
			st.Reached += r.Deliveries
			st.Twice += r.Twice
			st.Gaps += r.Gaps
		})
	}
	wg.Wait()
	st.Missed = g.members*g.Messages - st.Reached
	after, err := sum(g.nodes, (*child).micros)
	st.Each = perUnit(time.Duration(after-before)*time.Microsecond, st.Reached)
	return errors.Join(append(errs, err)...)
}

func (g *growth) stop() {
	for _, c := range g.crowds {
		_ = c.in.Close()
	}
	for _, c := range g.crowds {
		c.stop()
	}
	for _, n := range g.nodes {
		_ = n.stop()
	}
}

// sum asks each at the same time and adds what they say.
func sum[T any](of []T, ask func(T) (int, error)) (total int, err error) {
	numbers, errs := make([]int, len(of)), make([]error, len(of))
	var wg sync.WaitGroup
	for i := range of {
		wg.Go(func() { numbers[i], errs[i] = ask(of[i]) })
	}
	wg.Wait()
	for _, n := range numbers {
		total += n
	}
	return total, errors.Join(errs...)
}

// startNode starts this program as a node with a data folder of its own, in which the keys are those of all.
func startNode(ctx context.Context, s config.Settings, number int) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	keys, err := os.ReadFile(filepath.Join(s.Data, keysFile))
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(s.Data, "node-"+strconv.Itoa(number))
	if err := os.Mkdir(folder, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(folder, keysFile), keys, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "bench", "node") //nolint:gosec // it is this program
	// Clients use up the ports of 127.0.0.1, so that nobody could listen there any more: each node has an address of its own.
	address := net.IPv4(127, 1, byte(number>>8), byte(number))
	cmd.Env = append(os.Environ(), "PARLEY_LISTEN="+net.JoinHostPort(address.String(), "0"), "PARLEY_STORE="+s.Store, "PARLEY_REDIS="+s.Redis, "PARLEY_DATA="+folder, "PARLEY_TRANSPORT="+s.Transport)
	return startChild(cmd)
}

// kernelMemory is what the kernel holds for itself: slabs, page tables, stacks, and the buffers of TCP, in bytes.
func kernelMemory() (total int, err error) {
	for _, name := range []string{"Slab", "PageTables", "KernelStack"} {
		n, err := meminfo(name)
		if err != nil {
			return 0, err
		}
		total += n
	}
	text, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return 0, fmt.Errorf("bench million: it needs Linux: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if at := slices.Index(fields, "mem"); at > 0 && at+1 < len(fields) && fields[0] == "TCP:" {
			pages, err := strconv.Atoi(fields[at+1])
			if err != nil {
				return 0, fmt.Errorf("bench million: /proc/net/sockstat: %w", err)
			}
			total += pages * os.Getpagesize()
		}
	}
	return total, nil
}

// meminfo reads a line of /proc/meminfo, in bytes.
func meminfo(name string) (int, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("bench million: it needs Linux: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == name+":" {
			n, err := strconv.Atoi(fields[1])
			return n << 10, err
		}
	}
	return 0, errors.Join(fmt.Errorf("bench million: /proc/meminfo has no %s", name), lines.Err())
}
