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
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-chat/parley/apps/internal/config"
)

// The parts of an overload.
const (
	slowReaders  = "slow-readers"
	reconnects   = "reconnects"
	hostile      = "hostile"
	halfOpen     = "half-open"
	noDescriptor = "descriptors"
)

var overloads = map[string]func(*overload, context.Context) error{
	slowReaders: (*overload).slowReaders, reconnects: (*overload).reconnects, hostile: (*overload).hostile,
	halfOpen: (*overload).halfOpen, noDescriptor: (*overload).descriptors,
}

// verdict is one promise, and what was seen of it.
type verdict struct {
	Part   string `json:"part"`
	Rule   string `json:"rule"`
	Seen   string `json:"seen"`
	Broken bool   `json:"broken,omitempty"`
}

// overload is one run of the campaign.
type overload struct {
	config.Overload
	settings config.Settings
	out      io.Writer
	verdicts []verdict
	part     string
}

// Overload does to a server of its own what overloads servers: readers that do not read, everybody who comes back at once,
// hostile frames, connections that are opened and left, and a lack of file descriptors. It prints each promise with what was
// seen, and returns an error if one was broken.
func Overload(ctx context.Context, s config.Settings, o config.Overload, stdout io.Writer) error {
	if min(o.Connections, o.Stalled, o.Rooms, o.Published, o.Storms, o.Hostile, o.HalfOpen) < 1 || o.Duration <= 0 {
		return errors.New("campaign overload: every number must be at least 1")
	}
	parts := slices.Sorted(maps.Keys(overloads))
	if len(o.Only) > 0 {
		for _, name := range o.Only {
			if overloads[name] == nil {
				return fmt.Errorf("campaign overload: --only: there is no %q, but %s", name, strings.Join(parts, ", "))
			}
		}
		parts = o.Only
	}
	run := &overload{Overload: o, settings: s, out: stdout}
	for _, run.part = range parts {
		if err := overloads[run.part](run, ctx); err != nil {
			return fmt.Errorf("campaign overload: %s: %w", run.part, err)
		}
	}
	if o.JSON {
		if err := json.NewEncoder(stdout).Encode(run.verdicts); err != nil {
			return err
		}
	}
	broken := 0
	for _, v := range run.verdicts {
		if v.Broken {
			broken++
		}
	}
	if broken > 0 {
		return fmt.Errorf("campaign overload: %d of %d promises were broken", broken, len(run.verdicts))
	}
	return nil
}

// judge notes whether a promise held.
func (o *overload) judge(holds bool, rule, seen string, args ...any) {
	v := verdict{Part: o.part, Rule: rule, Seen: fmt.Sprintf(seen, args...), Broken: !holds}
	o.verdicts = append(o.verdicts, v)
	if o.JSON {
		return
	}
	mark := "holds "
	if v.Broken {
		mark = "BROKEN"
	}
	fmt.Fprintf(o.out, "%-12s  %s  %s: %s\n", v.Part, mark, v.Rule, v.Seen)
}

// besieged is the server of one part: this program, in a process and on a folder of its own.
type besieged struct {
	cmd     *exec.Cmd
	folder  string
	address string
	admin   string
	log     string
	process
}

// besiege starts a server. The tokens of so many users are in it.
func (o *overload) besiege(ctx context.Context, users int) (b *besieged, tokens []string, err error) {
	b = &besieged{}
	if b.folder, err = os.MkdirTemp("", "parley-overload-"); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			b.stop()
		}
	}()
	s := o.settings
	s.Data, s.Store = b.folder, "sqlite:"+filepath.Join(b.folder, "parley.db")
	if tokens, err = prepare(ctx, s, users); err != nil {
		return b, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return b, nil, err
	}
	b.log = filepath.Join(b.folder, "log")
	log, err := os.Create(b.log)
	if err != nil {
		return b, nil, err
	}
	defer log.Close()
	b.cmd = exec.CommandContext(ctx, self, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--socket-rate=-1", "--handshake-burst=10000000", //nolint:gosec // it is this program
		"--data="+s.Data, "--store="+s.Store, "--transport="+s.Transport, "--max-user-connections="+strconv.Itoa(o.Connections))
	b.cmd.Stderr = log
	b.cmd.Cancel = func() error { return b.cmd.Process.Signal(syscall.SIGTERM) }
	b.cmd.WaitDelay = 20 * time.Second
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return b, nil, err
	}
	if err := b.cmd.Start(); err != nil {
		return b, nil, err
	}
	b.process = process(b.cmd.Process.Pid)
	lines := bufio.NewScanner(out)
	for (b.address == "" || b.admin == "") && lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		address := strings.TrimPrefix(fields[len(fields)-1], "http://")
		switch {
		case strings.HasPrefix(lines.Text(), "Parley is at "):
			b.address = address
		case fields[0] == "admin":
			b.admin = address
		}
	}
	if b.address == "" || b.admin == "" {
		text, _ := os.ReadFile(b.log)
		return b, nil, fmt.Errorf("the server did not start: %s", text)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return b, tokens, nil
}

func (b *besieged) stop() {
	if b.cmd != nil && b.cmd.Process != nil {
		_ = b.cmd.Process.Signal(syscall.SIGTERM)
		_ = b.cmd.Wait()
	}
	_ = os.RemoveAll(b.folder)
}

// metric reads one number of the server's /metrics, 0 if it is not there.
func (b *besieged) metric(ctx context.Context, name string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.admin+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("/metrics answers %s", answer.Status)
	}
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, lines.Err()
}

// files is how many descriptors the server has open.
func (b *besieged) files() (int, error) {
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", int(b.process)))
	return len(all), err
}

// eventually asks until the answer is yes, and returns how long that took. Beyond within it is no.
func eventually(ctx context.Context, within time.Duration, ask func() (bool, error)) (took time.Duration, ok bool, err error) {
	started := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err = ask(); ok || err != nil {
			return time.Since(started), ok, err
		}
		if time.Since(started) > within {
			return time.Since(started), false, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return time.Since(started), false, ctx.Err()
		}
	}
}

// seconds writes a duration for people.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

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
	o.judge(closing.closed == o.Stalled, "each of them is closed with 4408, at the latest 5 seconds after the last message",
		"%d of %d, the last after %s", closing.closed, o.Stalled, seconds(closing.took))
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
	ends.took, _, err = eventually(ctx, 5*time.Second, func() (bool, error) {
		n, err := b.metric(ctx, `parley_closes_total{code="4408"}`)
		ends.closed = int(n)
		return ends.closed >= stalled, err
	})
	return seen, ends, err
}

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

// witness are members who write and read while something else happens.
func (o *overload) witness(ctx context.Context, b *besieged, run string, tokens []string, rate int) (*clients, error) {
	c, err := start(ctx, plan{
		Address: b.address, Wire: wireNative, Run: run, Members: len(tokens), Tokens: tokens, Rooms: o.rooms(len(tokens)), What: send,
		Senders: o.rooms(len(tokens)), InFlight: 64, Rate: rate, Duration: o.Duration, Size: 128,
	})
	if err != nil {
		return nil, err
	}
	if err := c.joined(); err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// rooms is how many rooms so many members spread over.
func (o *overload) rooms(members int) int { return min(o.Rooms, members) }

// witnesses is how many members write and read while something else happens, and witnessRate how many messages they send
// a second.
const (
	witnesses   = 100
	witnessRate = 50
)

// disturbed judges what the witnesses saw.
func (o *overload) disturbed(r result) {
	o.judge(r.Acked == r.Sent && r.Refused == 0 && r.Twice == 0 && r.Gaps == 0 && len(r.Closes) == 0 && r.Acked > 0, "members who write and read meanwhile lose nothing",
		"%d of %d messages acknowledged, %d refused, %d deliveries, %d twice, %d out of order, closed: %s; ack %.1f ms median, %.1f ms p99",
		r.Acked, r.Sent, r.Refused, r.Deliveries, r.Twice, r.Gaps, ended(r.Closes), r.AckP50, r.AckP99)
}

// meanwhile lets witnesses write and read while f runs, from its beginning on and for o.Duration at least.
func (o *overload) meanwhile(ctx context.Context, w *clients, f func() error) error {
	var r result
	done := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		for {
			one, err := w.load()
			r.add(one)
			if err != nil {
				done <- err
				return
			}
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
		}
	}()
	err := f()
	close(stop)
	if err = errors.Join(err, <-done); err == nil {
		o.disturbed(r)
	}
	return err
}

// add counts a further load.
func (r *result) add(one result) {
	r.Sent += one.Sent
	r.Acked += one.Acked
	r.Refused += one.Refused
	r.Deliveries += one.Deliveries
	r.Twice += one.Twice
	r.Gaps += one.Gaps
	r.AckP50, r.AckP99 = max(r.AckP50, one.AckP50), max(r.AckP99, one.AckP99)
	r.Closes = one.Closes // of all loads
}

// leavesNothing judges what is left of connections that have gone.
func (o *overload) leavesNothing(ctx context.Context, b *besieged, files int, goroutines float64) error {
	var left int
	var running float64
	_, ok, err := eventually(ctx, 20*time.Second, func() (ok bool, err error) {
		if left, err = b.files(); err == nil {
			running, err = b.metric(ctx, "go_goroutines")
		}
		return left <= files+leeway && running <= goroutines+leeway, err
	})
	o.judge(ok, "nothing of them is left", "%d descriptors and %.0f goroutines, %d and %.0f before", left, running, files, goroutines)
	return err
}

// leeway is how many descriptors and goroutines may come and go by themselves: connections of HTTP and of the store.
const leeway = 16

func (b *besieged) holds(ctx context.Context) (files int, goroutines float64, err error) {
	if files, err = b.files(); err == nil {
		goroutines, err = b.metric(ctx, "go_goroutines")
	}
	return files, goroutines, err
}

// reconnects cuts everybody off, several times; all come back at once, and ask for what they missed.
func (o *overload) reconnects(ctx context.Context) error {
	b, tokens, err := o.besiege(ctx, o.Connections+witnesses)
	if err != nil {
		return err
	}
	defer b.stop()
	w, err := o.witness(ctx, b, "storm-", tokens[:witnesses], witnessRate)
	if err != nil {
		return err
	}
	defer w.stop()
	files, goroutines, err := b.holds(ctx)
	if err != nil {
		return err
	}
	all, err := start(ctx, plan{
		Address: b.address, Wire: wireNative, Run: "storm-", Members: o.Connections, Tokens: tokens[witnesses:], Rooms: o.rooms(witnesses), What: storm, Size: 128,
	})
	if err != nil {
		return err
	}
	defer all.stop()
	if err := all.joined(); err != nil {
		return err
	}
	var total result
	longest := 0.0
	comeBack := func() error {
		r, err := all.load()
		if err != nil {
			return err
		}
		total.add(result{Acked: r.Acked, Deliveries: r.Deliveries, Twice: r.Twice, Gaps: r.Gaps})
		longest = max(longest, r.Seconds)
		for code, n := range r.Closes {
			if total.Closes == nil {
				total.Closes = map[string]int{}
			}
			total.Closes[code] += n
		}
		return nil
	}
	if err := o.meanwhile(ctx, w, func() error {
		for range o.Storms {
			if err := comeBack(); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if err := comeBack(); err != nil { // nobody writes any more: what is missing now is lost
		return err
	}
	o.judge(total.Acked == (o.Storms+1)*o.Connections, "everybody comes back", "%d times %d, all of them after %.1f s at the latest", o.Storms+1, o.Connections, longest)
	o.judge(total.Gaps == 0 && total.Twice == 0 && len(total.Closes) == 0, "who comes back has every message once, in order",
		"%d deliveries, %d out of order, %d twice, closed: %s", total.Deliveries, total.Gaps, total.Twice, ended(total.Closes))
	all.stop()
	return o.leavesNothing(ctx, b, files, goroutines)
}

// hostile sends what no client sends.
func (o *overload) hostile(ctx context.Context) error {
	b, tokens, err := o.besiege(ctx, witnesses+1)
	if err != nil {
		return err
	}
	defer b.stop()
	w, err := o.witness(ctx, b, "hostile-", tokens[:witnesses], witnessRate)
	if err != nil {
		return err
	}
	defer w.stop()
	files, goroutines, err := b.holds(ctx)
	if err != nil {
		return err
	}
	tries := hostilities()
	names := slices.Sorted(maps.Keys(tries))
	var open atomic.Int64
	var mu sync.Mutex
	kept := map[string]int{}
	if err := o.meanwhile(ctx, w, func() error {
		return each(ctx, o.Hostile, 64, func(i int) error {
			name := names[i%len(names)]
			t := tries[name]
			var conn net.Conn
			var in *bufio.Reader
			var err error
			if t.inside {
				conn, in, err = enter(ctx, b.address, tokens[witnesses], "elsewhere")
			} else {
				conn, err = (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", b.address)
				in = bufio.NewReader(conn)
			}
			if err != nil {
				return err
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
			_, _ = conn.Write(t.bytes) // the server may close before it has read all
			if _, err := io.Copy(io.Discard, in); errors.Is(err, os.ErrDeadlineExceeded) {
				open.Add(1)
				mu.Lock()
				kept[name]++
				mu.Unlock()
			}
			return nil
		})
	}); err != nil {
		return err
	}
	o.judge(open.Load() == 0, "each is closed within 30 seconds", "%d connections in %d ways, %d stayed open %v", o.Hostile, len(names), open.Load(), slices.Sorted(maps.Keys(kept)))
	return o.leavesNothing(ctx, b, files, goroutines)
}

// each calls f with 0 to n-1, so many at once, and returns the first error.
func each(ctx context.Context, n, atOnce int, f func(i int) error) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	var first atomic.Pointer[error]
	for range min(n, atOnce) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || ctx.Err() != nil || first.Load() != nil {
					return
				}
				if err := f(i); err != nil {
					first.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	if err := first.Load(); err != nil {
		return *err
	}
	return ctx.Err()
}

// hostility is what is sent, after a join or as the first bytes of a connection.
type hostility struct {
	inside bool
	bytes  []byte
}

// hostilities are wrong in one way each (RFC 6455 section 5, RFC 9112, and the schema of events).
func hostilities() map[string]hostility {
	masked := func(first byte, payload string) []byte {
		b := frameOf(0x1, []byte(payload))
		b[0] = first
		return b
	}
	inside := func(b []byte) hostility { return hostility{inside: true, bytes: b} }
	first := func(text string) hostility { return hostility{bytes: []byte(text)} }
	noise := make([]byte, 4096)
	for i := range noise {
		noise[i] = byte(i*7919>>3 ^ i*31)
	}
	const handshake = "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n"
	return map[string]hostility{
		"noise":                          {bytes: noise},
		"a hello of TLS":                 first("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + string(noise[:512])),
		"the preface of HTTP/2":          first("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
		"headers of 200 KiB":             first("GET /socket HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 200<<10) + "\r\n\r\n"),
		"two lengths":                    first("POST /auth/signin HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\n{}{}}"),
		"a length and chunks":            first("POST /auth/signin HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n"),
		"a space before a colon":         first("GET /socket HTTP/1.1\r\nHost : a\r\n\r\n"),
		"a handshake of another version": first(handshake + "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"),
		"a handshake without a key":      first(handshake + "Sec-WebSocket-Version: 13\r\n\r\n"),
		"a handshake without a token":    first(handshake + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"),
		"no mask":                        inside([]byte("\x81\x02{}")),
		"a reserved bit":                 inside(masked(0xc1, "{}")),
		"opcode 3":                       inside(masked(0x83, "{}")),
		"opcode 15":                      inside(masked(0x8f, "{}")),
		"a ping in pieces":               inside(masked(0x09, "{}")),
		"a long ping":                    inside(masked(0x89, strings.Repeat("x", 126))),
		"a close of one byte":            inside(masked(0x88, "\x03")),
		"a close with 1005":              inside(masked(0x88, "\x03\xed")),
		"a piece of nothing":             inside(masked(0x80, "{}")),
		"a length of 2^63":               inside([]byte("\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00abcd")),
		"a length of 1 GiB":              inside([]byte("\x81\xff\x00\x00\x00\x00\x40\x00\x00\x00abcd")),
		"a binary message":               inside(masked(0x82, "{}")),
		"text that is not UTF-8":         inside(masked(0x81, "{\"event\":\"\xff\"}")),
		"half a JSON":                    inside(masked(0x81, `{"event":`)),
		"JSON 20,000 deep":               inside(masked(0x81, strings.Repeat("[", 20_000))),
		"a field twice":                  inside(masked(0x81, `{"event":"healthCheck","event":"presence","data":{}}`)),
		"an unknown event":               inside(masked(0x81, `{"event":"shutdown","data":{}}`)),
		"a room that is a number":        inside(masked(0x81, `{"event":"join_room","data":{"room":1}}`)),
		"a text of 1 MiB":                inside(masked(0x81, `{"event":"message","data":{"room":"elsewhere","text":"`+strings.Repeat("x", 1<<20)+`"}}`)),
	}
}

// halfOpen opens connections and leaves them: before the first byte, in the middle of a header, and joined but silent.
func (o *overload) halfOpen(ctx context.Context) error {
	b, tokens, err := o.besiege(ctx, witnesses+o.HalfOpen)
	if err != nil {
		return err
	}
	defer b.stop()
	w, err := o.witness(ctx, b, "half-", tokens[:witnesses], witnessRate)
	if err != nil {
		return err
	}
	defer w.stop()
	files, goroutines, err := b.holds(ctx)
	if err != nil {
		return err
	}
	conns := make([]net.Conn, o.HalfOpen)
	defer func() { closeAll(slices.DeleteFunc(conns, func(c net.Conn) bool { return c == nil })) }()
	var took time.Duration
	var gone bool
	if err := o.meanwhile(ctx, w, func() error {
		if err := each(ctx, o.HalfOpen, 64, func(i int) (err error) {
			if i%3 == 2 {
				conns[i], _, err = enter(ctx, b.address, tokens[witnesses+i], "elsewhere-"+strconv.Itoa(i%100))
				return err
			}
			if conns[i], err = (&net.Dialer{Timeout: patience, KeepAlive: -1}).DialContext(ctx, "tcp", b.address); err == nil && i%3 == 1 {
				_, err = io.WriteString(conns[i], "GET /socket HTTP/1.1\r\nHost: a\r\nX-Slow: ")
			}
			return err
		}); err != nil {
			return err
		}
		var err error
		took, gone, err = eventually(ctx, 90*time.Second, func() (bool, error) {
			n, err := b.files()
			return n <= files+leeway, err
		})
		return err
	}); err != nil {
		return err
	}
	o.judge(gone, "connections that are opened and left are closed within 90 seconds", "%d, all after %s: %v", o.HalfOpen, seconds(took), gone)
	return o.leavesNothing(ctx, b, files, goroutines)
}

// descriptors lets more connections come than the server has descriptors for.
func (o *overload) descriptors(ctx context.Context) error {
	b, tokens, err := o.besiege(ctx, witnesses+1)
	if err != nil {
		return err
	}
	defer b.stop()
	w, err := o.witness(ctx, b, "few-", tokens[:witnesses], witnessRate)
	if err != nil {
		return err
	}
	defer w.stop()
	files, goroutines, err := b.holds(ctx)
	if err != nil {
		return err
	}
	few := unix.Rlimit{Cur: uint64(files + leeway), Max: uint64(files + leeway)} //nolint:gosec // both are counts
	if err := unix.Prlimit(int(b.process), unix.RLIMIT_NOFILE, &few, nil); err != nil {
		return err
	}
	conns := make([]net.Conn, 8*leeway)
	defer func() { closeAll(slices.DeleteFunc(conns, func(c net.Conn) bool { return c == nil })) }()
	var spent, without time.Duration
	var back time.Duration
	var ok bool
	measure := func() (time.Duration, error) {
		before, err := b.cpu()
		if err != nil {
			return 0, err
		}
		select {
		case <-time.After(o.Duration):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		after, err := b.cpu()
		return after - before, err
	}
	if err := o.meanwhile(ctx, w, func() (err error) {
		if without, err = measure(); err != nil {
			return err
		}
		if err := each(ctx, len(conns), 8, func(i int) (err error) {
			if conns[i], err = (&net.Dialer{Timeout: patience, KeepAlive: -1}).DialContext(ctx, "tcp", b.address); err == nil {
				_, err = io.WriteString(conns[i], "GET /socket HTTP/1.1\r\n")
			}
			return err
		}); err != nil {
			return err
		}
		spent, err = measure()
		closeAll(conns)
		conns = nil
		if err != nil {
			return err
		}
		back, ok, err = eventually(ctx, 20*time.Second, func() (bool, error) {
			conn, _, err := enter(ctx, b.address, tokens[witnesses], "elsewhere")
			if err == nil {
				_ = conn.Close()
			}
			return err == nil, nil
		})
		return err
	}); err != nil {
		return err
	}
	o.judge(spent <= without+o.Duration/10, "it does not spin", "%s of processor time in %s, %s before", seconds(spent), seconds(o.Duration), seconds(without))
	text, err := os.ReadFile(b.log)
	if err != nil {
		return err
	}
	lines := strings.Count(string(text), "out of file descriptors")
	o.judge(lines >= 1 && lines <= int((o.Duration+back).Seconds())+10, "it says so, once a second at most", "%d lines", lines)
	o.judge(ok, "it goes on by itself once connections have gone", "after %s", seconds(back))
	return o.leavesNothing(ctx, b, files, goroutines)
}
