package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

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
	if tokens, err = accounts(ctx, s, "", 0, users); err != nil {
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
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it must not outlive a campaign that is killed
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
			r.Closes = one.Closes // of all loads
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

// add counts a further load, but for connections that ended: some clients count those of all loads together.
func (r *result) add(one result) {
	r.Sent += one.Sent
	r.Acked += one.Acked
	r.Refused += one.Refused
	r.Deliveries += one.Deliveries
	r.Twice += one.Twice
	r.Gaps += one.Gaps
	r.AckP50, r.AckP99 = max(r.AckP50, one.AckP50), max(r.AckP99, one.AckP99)
}

// siege is a part under which members write and read: its server, and what that held before.
type siege struct {
	*besieged
	witnesses  *clients
	tokens     []string // of those who come besides
	before     int      // descriptors
	goroutines float64
}

// under starts a server with members who write and read, lets f do what it does to the server, and judges what is left of it.
func (o *overload) under(ctx context.Context, run string, users int, f func(s *siege) error) error {
	b, tokens, err := o.besiege(ctx, witnesses+users)
	if err != nil {
		return err
	}
	defer b.stop()
	s := &siege{besieged: b, tokens: tokens[witnesses:]}
	if s.witnesses, err = o.witness(ctx, b, run, tokens[:witnesses], witnessRate); err != nil {
		return err
	}
	defer s.witnesses.stop()
	if s.before, s.goroutines, err = b.holds(ctx); err != nil {
		return err
	}
	if err := f(s); err != nil {
		return err
	}
	return o.leavesNothing(ctx, s)
}

// leavesNothing judges what is left of connections that have gone.
func (o *overload) leavesNothing(ctx context.Context, s *siege) error {
	var left int
	var running float64
	_, ok, err := eventually(ctx, 20*time.Second, func() (ok bool, err error) {
		left, running, err = s.holds(ctx)
		return left <= s.before+leeway && running <= s.goroutines+leeway, err
	})
	o.judge(ok, "nothing of them is left", "%d descriptors and %.0f goroutines, %d and %.0f before", left, running, s.before, s.goroutines)
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
