package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/parley-chat/parley/apps/internal/config"
)

// elsewhere measures a server that runs already.
func elsewhere(ctx context.Context, what string, b config.Bench) (none report, err error) {
	u, err := url.Parse(b.URL)
	if err != nil || u.Scheme != "ws" || u.Host == "" {
		return none, errors.New("bench: --url must be ws://HOST:PORT or ws://HOST:PORT/PATH; there is no TLS here")
	}
	address := u.Host
	if u.Port() == "" {
		address += ":80"
	}
	var tokens []string
	if b.Tokens != "" {
		if tokens, err = tokensOf(b.Tokens, b.Connections); err != nil {
			return none, err
		}
	}
	p := planned(what, b, address, tokens)
	p.Path = u.RequestURI()
	if u.Path == "" || u.Path == "/" {
		p.Path = ""
	}
	p.Run = newRun() // its rooms may have been used before
	return measure(ctx, p, process(b.PID))
}

// tokensOf reads one token a line, and repeats them until there are n.
func tokensOf(file string, n int) ([]string, error) {
	text, err := os.ReadFile(file) //nolint:gosec // whoever calls says which
	if err != nil {
		return nil, fmt.Errorf("bench: --tokens: %w", err)
	}
	lines := strings.Fields(string(text))
	if len(lines) == 0 {
		return nil, fmt.Errorf("bench: --tokens: %s has none", file)
	}
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = lines[i%len(lines)]
	}
	return tokens, nil
}

// process is a server by its process id; 0 is one of which nothing is known.
type process int

// resident reads what the process holds in memory, in bytes, as it is: nobody can ask it to give garbage back.
func (p process) resident() (int, error) {
	if p == 0 {
		return 0, nil
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", int(p)))
	if err != nil {
		return 0, fmt.Errorf("bench: --pid: %w", err)
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("bench: --pid: %q", text)
	}
	pages, err := strconv.Atoi(fields[1])
	return pages * os.Getpagesize(), err
}

// ticks is how often a second the kernel counts processor time: USER_HZ, which is 100 on every Linux.
const ticks = 100

// cpu reads the processor time that the process has spent (proc(5): utime and stime).
func (p process) cpu() (time.Duration, error) {
	if p == 0 {
		return 0, nil
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", int(p)))
	if err != nil {
		return 0, fmt.Errorf("bench: --pid: %w", err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // behind the name, which may hold anything
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("bench: --pid: %q", text)
	}
	total := 0
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, fmt.Errorf("bench: --pid: %w", err)
		}
		total += n
	}
	return time.Duration(total) * time.Second / ticks, nil
}
