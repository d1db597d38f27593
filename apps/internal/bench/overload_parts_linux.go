package bench

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// reconnects cuts everybody off, several times; all come back at once, and ask for what they missed.
func (o *overload) reconnects(ctx context.Context) error {
	return o.under(ctx, "storm-", o.Connections, func(s *siege) error {
		all, err := start(ctx, plan{
			Address: s.address, Wire: wireNative, Run: "storm-", Members: o.Connections, Tokens: s.tokens, Rooms: o.rooms(witnesses), What: storm, Size: 128,
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
			total.add(r)
			longest = max(longest, r.Seconds)
			for code, n := range r.Closes {
				if total.Closes == nil {
					total.Closes = map[string]int{}
				}
				total.Closes[code] += n
			}
			return nil
		}
		if err := o.meanwhile(ctx, s.witnesses, func() error {
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
		return nil
	})
}

// hostile sends what no client sends.
func (o *overload) hostile(ctx context.Context) error {
	return o.under(ctx, "hostile-", 1, func(s *siege) error {
		tries := hostilities()
		names := slices.Sorted(maps.Keys(tries))
		var open atomic.Int64
		var mu sync.Mutex
		kept := map[string]int{}
		if err := o.meanwhile(ctx, s.witnesses, func() error {
			return each(ctx, o.Hostile, 64, func(i int) error {
				name := names[i%len(names)]
				t := tries[name]
				var conn net.Conn
				var in *bufio.Reader
				var err error
				if t.inside {
					conn, in, err = enter(ctx, s.address, s.tokens[0], "elsewhere")
				} else {
					conn, err = (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", s.address)
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
		return nil
	})
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

// halfOpen opens connections and leaves them: before the first byte, in the middle of a header, and joined but silent.
func (o *overload) halfOpen(ctx context.Context) error {
	return o.under(ctx, "half-", o.HalfOpen, func(s *siege) error {
		conns := make([]net.Conn, o.HalfOpen)
		defer func() { closeAll(slices.DeleteFunc(conns, func(c net.Conn) bool { return c == nil })) }()
		var took time.Duration
		var gone bool
		if err := o.meanwhile(ctx, s.witnesses, func() error {
			if err := each(ctx, o.HalfOpen, 64, func(i int) (err error) {
				if i%3 == 2 {
					conns[i], _, err = enter(ctx, s.address, s.tokens[i], "elsewhere-"+strconv.Itoa(i%100))
					return err
				}
				if conns[i], err = (&net.Dialer{Timeout: patience, KeepAlive: -1}).DialContext(ctx, "tcp", s.address); err == nil && i%3 == 1 {
					_, err = io.WriteString(conns[i], "GET /socket HTTP/1.1\r\nHost: a\r\nX-Slow: ")
				}
				return err
			}); err != nil {
				return err
			}
			var err error
			took, gone, err = eventually(ctx, 90*time.Second, func() (bool, error) {
				n, err := s.files()
				return n <= s.before+leeway, err
			})
			return err
		}); err != nil {
			return err
		}
		o.judge(gone, "connections that are opened and left are closed within 90 seconds", "%d, all after %s: %v", o.HalfOpen, seconds(took), gone)
		return nil
	})
}

// descriptors lets more connections come than the server has descriptors for.
func (o *overload) descriptors(ctx context.Context) error {
	return o.under(ctx, "few-", 1, func(s *siege) error {
		few := unix.Rlimit{Cur: uint64(s.before + leeway), Max: uint64(s.before + leeway)} //nolint:gosec // both are counts
		if err := unix.Prlimit(int(s.process), unix.RLIMIT_NOFILE, &few, nil); err != nil {
			return err
		}
		conns := make([]net.Conn, 8*leeway)
		defer func() { closeAll(slices.DeleteFunc(conns, func(c net.Conn) bool { return c == nil })) }()
		var spent, without time.Duration
		var back time.Duration
		var ok bool
		measure := func() (time.Duration, error) {
			before, err := s.cpu()
			if err != nil {
				return 0, err
			}
			select {
			case <-time.After(o.Duration):
			case <-ctx.Done():
				return 0, ctx.Err()
			}
			after, err := s.cpu()
			return after - before, err
		}
		if err := o.meanwhile(ctx, s.witnesses, func() (err error) {
			if without, err = measure(); err != nil {
				return err
			}
			if err := each(ctx, len(conns), 8, func(i int) (err error) {
				if conns[i], err = (&net.Dialer{Timeout: patience, KeepAlive: -1}).DialContext(ctx, "tcp", s.address); err == nil {
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
				conn, _, err := enter(ctx, s.address, s.tokens[0], "elsewhere")
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
		text, err := os.ReadFile(s.log)
		if err != nil {
			return err
		}
		lines := strings.Count(string(text), "out of file descriptors")
		o.judge(lines >= 1 && lines <= int((o.Duration+back).Seconds())+10, "it says so, once a second at most", "%d lines", lines)
		o.judge(ok, "it goes on by itself once connections have gone", "after %s", seconds(back))
		return nil
	})
}
