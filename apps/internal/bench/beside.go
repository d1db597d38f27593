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
	of, err := startChild(exec.CommandContext(ctx, words[0], words[1:]...)) //nolint:gosec // whoever calls says what
	if err != nil {
		return r, fmt.Errorf("bench: --beside: %w", err)
	}
	defer func() { err = errors.Join(err, of.stop()) }()
	b.Wire = b.BesideWire
	return measure(ctx, planned(what, b, of.at, nil), of)
}

// child is a server in a process of its own: it writes its address, and then answers each line that it reads, "memory"
// with the bytes that it holds, and "cpu" with the microseconds that it has spent. It ends with its input.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	at  string
}

func startChild(cmd *exec.Cmd) (c *child, err error) {
	c = &child{cmd: cmd}
	cmd.Stderr = os.Stderr
	if c.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if c.at, err = c.line(); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// stop tells it to end, and waits for that.
func (c *child) stop() error {
	_ = c.in.Close() // the sign to end
	return c.cmd.Wait()
}

func (c *child) line() (string, error) {
	line, err := c.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("bench: the server says nothing: %w", err)
	}
	return strings.TrimSpace(line), nil
}

func (c *child) ask(what string) (int, error) {
	if _, err := io.WriteString(c.in, what+"\n"); err != nil {
		return 0, fmt.Errorf("bench: the server: %w", err)
	}
	line, err := c.line()
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(line)
	if err != nil {
		return 0, fmt.Errorf("bench: the server answers %q to %s", line, what)
	}
	return n, nil
}

func (c *child) resident() (int, error) { return c.ask("memory") }

func (c *child) micros() (int, error) { return c.ask("cpu") }

func (c *child) cpu() (time.Duration, error) {
	n, err := c.micros()
	return time.Duration(n) * time.Microsecond, err
}

// answerBeside answers what a [child] is asked, for this process.
func answerBeside(in io.Reader, stdout io.Writer) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var n int
		switch lines.Text() {
		case "memory":
			n = settle()
		case "cpu":
			n = int(cpu().Microseconds())
		default:
			return fmt.Errorf("bench: %q is not known here", lines.Text())
		}
		if _, err := fmt.Fprintln(stdout, n); err != nil {
			return err
		}
	}
	return lines.Err()
}
