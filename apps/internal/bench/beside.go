package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parley-chat/parley/apps/internal/config"
)

// compare measures a server of this program and another one in turn, each time in a process of its own, and
// prints both with their ratio.
func compare(ctx context.Context, what string, b config.Bench, stdout io.Writer) error {
	if b.URL != "" {
		return errors.New("bench: --beside and --url: it is one or the other")
	}
	if b.Wire == wireCentrifuge {
		return errors.New("bench: this program does not speak centrifuge: that is for --beside-wire")
	}
	if b.BesideWire == "" {
		b.BesideWire = b.Wire
	}
	fmt.Fprintf(stdout, "%s, %s/%s, %d processors, beside: %s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), b.Beside)
	var ours, theirs []report
	for range b.Rounds {
		r, err := again(ctx)
		if err != nil {
			return err
		}
		ours = append(ours, r)
		if r, err = other(ctx, what, b); err != nil {
			return err
		}
		theirs = append(theirs, r)
	}
	row := func(name, unit string, of func(report) float64) {
		a, z := make([]float64, len(ours)), make([]float64, len(theirs))
		for i := range ours {
			a[i], z[i] = of(ours[i]), of(theirs[i])
		}
		fmt.Fprintf(stdout, "%-18s%s: parley %s, median %s; beside %s, median %s; ratio of the medians %.3f\n",
			name, unit, figures(a), figure(median(a)), figures(z), figure(median(z)), median(a)/median(z))
	}
	row("connect and join", "µs of server processor time a connection", func(r report) float64 { return r.Connect })
	row("memory", "resident bytes a joined connection", func(r report) float64 { return float64(r.Memory) })
	switch what {
	case idle:
		row("idle", "% of a core", func(r report) float64 { return r.Idle })
	case send:
		row("acknowledged", "messages a second", func(r report) float64 { return float64(r.Load.Acked) / r.Load.Seconds })
		row("ack, p99", "ms", func(r report) float64 { return r.Load.AckP99 })
	case fanout:
		row("delivery", "µs of server processor time each", func(r report) float64 { return r.Delivery })
		row("delivery, median", "ms from sending to reading", func(r report) float64 { return r.Load.P50 })
		row("delivery, p99", "ms from sending to reading", func(r report) float64 { return r.Load.P99 })
		row("memory after it", "resident bytes a joined connection", func(r report) float64 { return float64(r.Loaded) })
	}
	return nil
}

func median(of []float64) float64 {
	of = slices.Sorted(slices.Values(of))
	return of[len(of)/2]
}

func figure(v float64) string {
	return strconv.FormatFloat(v, 'f', 3-min(2, len(strconv.Itoa(int(v)))-1), 64)
}

func figures(of []float64) string {
	var s []string
	for _, v := range of {
		s = append(s, figure(v))
	}
	return strings.Join(s, " ")
}

// again runs this program with its own arguments, without the other server, and reads what it has measured.
func again(ctx context.Context) (r report, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, self, append(slices.Clone(os.Args[1:]), "--beside=", "--json")...) //nolint:gosec // it is this program
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("bench: a round of this program: %w", err)
	}
	return r, json.Unmarshal(out, &r)
}

// other starts the server that the command is for, and measures it.
func other(ctx context.Context, what string, b config.Bench) (r report, err error) {
	words := strings.Fields(b.Beside)
	if len(words) == 0 {
		return r, errors.New("bench: --beside names no command")
	}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...) //nolint:gosec // whoever calls says what
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return r, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return r, err
	}
	if err := cmd.Start(); err != nil {
		return r, fmt.Errorf("bench: --beside: %w", err)
	}
	defer func() {
		_ = in.Close() // the sign to end
		err = errors.Join(err, cmd.Wait())
	}()
	of := &beside{in: in, out: bufio.NewReader(out)}
	if of.at, err = of.line(); err != nil {
		return r, err
	}
	b.Wire = b.BesideWire
	return measure(ctx, planned(what, b, of.at, nil), of)
}

// beside is a server in a process of its own: it writes its address, and then answers each line that it reads, "memory"
// with the bytes that it holds, and "cpu" with the microseconds that it has spent. It ends with its input.
type beside struct {
	in  io.Writer
	out *bufio.Reader
	at  string
}

func (s *beside) line() (string, error) {
	line, err := s.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("bench: the other server says nothing: %w", err)
	}
	return strings.TrimSpace(line), nil
}

func (s *beside) ask(what string) (int, error) {
	if _, err := io.WriteString(s.in, what+"\n"); err != nil {
		return 0, fmt.Errorf("bench: the other server: %w", err)
	}
	line, err := s.line()
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(line)
	if err != nil {
		return 0, fmt.Errorf("bench: the other server answers %q to %s", line, what)
	}
	return n, nil
}

func (s *beside) resident() (int, error) { return s.ask("memory") }

func (s *beside) cpu() (time.Duration, error) {
	n, err := s.ask("cpu")
	return time.Duration(n) * time.Microsecond, err
}
