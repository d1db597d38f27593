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
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/user"
)

// plan is what the client process is told.
type plan struct {
	Address  string        `json:"address"`
	Tokens   []string      `json:"tokens"`
	Rooms    int           `json:"rooms"`
	What     string        `json:"what"`
	Senders  int           `json:"senders"`
	InFlight int           `json:"inFlight"`
	Messages int           `json:"messages"`
	Duration time.Duration `json:"duration"`
	Size     int           `json:"size"`
}

// result is what the client process saw.
type result struct {
	Sent       int     `json:"sent"`
	Acked      int     `json:"acked"`
	Deliveries int     `json:"deliveries"`
	Seconds    float64 `json:"seconds"`
	AckP50     float64 `json:"ackP50Ms"`
	AckP99     float64 `json:"ackP99Ms"`
	P50        float64 `json:"deliveryP50Ms"`
	P99        float64 `json:"deliveryP99Ms"`
}

// Run measures "idle", "fanout" or "send", and prints what it saw. The server is the one that s
// configures, on a folder and an address of its own.
func Run(ctx context.Context, what string, s config.Settings, b config.Bench, stdout io.Writer, serve func(context.Context, config.Settings, func(net.Addr)) error) error {
	if b.Connections < 1 || b.Rooms < 0 || b.Senders < 1 || b.InFlight < 1 || b.Messages < 1 || b.Size < 32 || b.Size > 4000 || b.Duration <= 0 {
		return errors.New("bench: every number must be at least 1 (rooms 0 or more), and the size 32 to 4000")
	}
	folder, err := os.MkdirTemp("", "parley-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	s.Data, s.Listen, s.PublicURL, s.SocketRate = folder, "127.0.0.1:0", "", -1
	s.HandshakeBurst = 10_000_000 // all come from one address
	if !strings.HasPrefix(s.Store, "memory:") {
		s.Store = "sqlite:" + filepath.Join(folder, "parley.db")
	} else {
		return errors.New("bench: the store memory: cannot be prepared; leave --store out")
	}
	n := b.Connections
	if what == "send" {
		n = b.Senders
	}
	if b.Rooms == 0 {
		b.Rooms = 1
		if what == "send" {
			b.Rooms = n // so that storing is measured, and not delivering
		}
	}
	tokens, err := prepare(ctx, s, n)
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ready, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() { ended <- serve(ctx, s, func(a net.Addr) { ready <- a }) }()
	var address net.Addr
	select {
	case address = <-ready:
	case err := <-ended:
		return err
	}
	if b.Profile != "" {
		f, err := os.Create(b.Profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	idle := settle()
	started := cpu()
	clients, err := start(ctx, plan{
		Address: address.String(), Tokens: tokens, Rooms: b.Rooms, What: what, Senders: b.Senders,
		InFlight: b.InFlight, Messages: b.Messages, Duration: b.Duration, Size: b.Size,
	})
	if err != nil {
		return err
	}
	defer clients.stop()
	if err := clients.joined(); err != nil {
		return err
	}
	connected := cpu() - started
	fmt.Fprintf(stdout, "%s, %s/%s, %d processors, transport %s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), s.Transport)
	fmt.Fprintf(stdout, "connect and join    %8.1f µs of server processor time a connection (%d connections, %d rooms)\n", perUnit(connected, n), n, b.Rooms)
	if what == "idle" {
		fmt.Fprintf(stdout, "memory              %8d resident bytes a joined connection (%d KiB at rest without any)\n", (settle()-idle)/n, idle/1024)
		runtime.KeepAlive(tokens) // else they would count as memory that connections give back
		before := cpu()
		select {
		case <-time.After(b.Duration):
		case <-ctx.Done():
			return ctx.Err()
		}
		fmt.Fprintf(stdout, "idle                %8.3f %% of a core over %v\n", 100*float64(cpu()-before)/float64(b.Duration), b.Duration)
	} else {
		before := cpu()
		r, err := clients.load()
		if err != nil {
			return err
		}
		spent := cpu() - before
		fmt.Fprintf(stdout, "sent                %8d messages, %d acknowledged, in %.2f s: %.0f a second\n", r.Sent, r.Acked, r.Seconds, float64(r.Acked)/r.Seconds)
		fmt.Fprintf(stdout, "ack                 %8.2f ms median, %.2f ms p99\n", r.AckP50, r.AckP99)
		if what == "fanout" {
			fmt.Fprintf(stdout, "delivery            %8.2f µs of server processor time each, %d of them\n", perUnit(spent, r.Deliveries), r.Deliveries)
			fmt.Fprintf(stdout, "delivery            %8.2f ms median, %.2f ms p99, from sending to reading\n", r.P50, r.P99)
		} else {
			fmt.Fprintf(stdout, "processor           %8.2f µs of server processor time a message\n", perUnit(spent, r.Acked))
		}
	}
	clients.stop()
	cancel()
	return <-ended
}

func perUnit(d time.Duration, n int) float64 {
	return float64(d.Nanoseconds()) / 1000 / float64(max(n, 1))
}

// prepare stores n users with a session each, and returns an access token for each.
func prepare(ctx context.Context, s config.Settings, n int) ([]string, error) {
	store, err := bunstore.OpenSQLite(ctx, strings.TrimPrefix(s.Store, "sqlite:"), bunstore.SQLiteConfig{RelaxedSync: true})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	if err := store.Migrate(ctx); err != nil {
		return nil, err
	}
	keys, err := jwtauth.OpenKeys(filepath.Join(s.Data, "keys.json"))
	if err != nil {
		return nil, err
	}
	issuer, err := jwtauth.NewIssuer(jwtauth.IssuerConfig{Keys: keys, Issuer: s.Issuer})
	if err != nil {
		return nil, err
	}
	users, sessions := store.Users(), store.Sessions()
	now := time.Now().UTC().Truncate(time.Second)
	tokens := make([]string, n)
	for i := range tokens {
		id, name := fmt.Sprintf("bench-%06d", i), fmt.Sprintf("Bench %d", i)
		err := users.Create(ctx, user.User{ID: user.ID(id), FullName: name, Email: user.Email(id + "@example.com"), PasswordHash: "none", CreatedAt: now, VerifiedAt: now, PasswordChangedAt: now})
		if err == nil {
			err = sessions.Create(ctx, auth.Session{ID: "s-" + id, UserID: user.ID(id), FamilyHash: "f" + id, TokenHash: "t" + id, CreatedAt: now, RotatedAt: now, ExpiresAt: now.Add(time.Hour)})
		}
		if err == nil {
			tokens[i], err = issuer.Issue(ctx, auth.Claims{ID: "j-" + id, Audience: auth.AudienceAPI, UserID: user.ID(id), Name: name, SessionID: "s-" + id, IssuedAt: now, ExpiresAt: now.Add(time.Hour)})
		}
		if err != nil {
			return nil, err
		}
	}
	return tokens, nil
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

// load lets them send, and returns what they saw.
func (c *clients) load() (r result, err error) {
	if _, err = io.WriteString(c.in, "go\n"); err != nil {
		return r, err
	}
	return r, json.NewDecoder(c.out).Decode(&r)
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
