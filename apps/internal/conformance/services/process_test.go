package services_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/testkit/local"
)

// patience is how long a test waits for what should take moments: it is long, so that only what
// never happens fails on a slow machine.
const patience = 90 * time.Second

// process is a program that runs until the test ends.
type process struct {
	name   string
	cmd    *exec.Cmd
	log    output
	exited chan struct{}
	err    error // set before exited is closed
}

// launch starts cmd, which is killed when the test ends, in whatever way.
func launch(t *testing.T, name string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{name: name, cmd: cmd, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	dieWithUs(cmd)
	require.NoError(t, cmd.Start(), name)
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", name, p.log.tail(8<<10))
		}
	})
	return p
}

// kill ends the program as a crash does. It may have ended already.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// output collects what a program writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// tail is the end of what was written.
func (o *output) tail(n int) string {
	s := o.String()
	return s[max(0, len(s)-n):]
}

// eventually waits until something that gives no sign is so.
func eventually(t *testing.T, what string, check func(ctx context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !check(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			require.FailNow(t, "it has not come to it", what)
		}
	}
}

// listening waits until a program takes connections.
func listening(t *testing.T, p *process, address string) {
	t.Helper()
	eventually(t, p.name+" listens", func(ctx context.Context) bool {
		select {
		case <-p.exited:
			require.FailNow(t, p.name+" ended", "%v: %s", p.err, p.log.tail(4<<10))
		default:
		}
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.Close() // it was only to see whether it can be
		}
		return err == nil
	})
}

// freeAddress is one of the loopback interface that nobody listens on, and that nobody is given before the tests end.
func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := local.FreeAddress()
	require.NoError(t, err)
	return address
}

// execute runs a command to its end and returns what it wrote. It must end well.
func execute(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s: %s", strings.Join(cmd.Args, " "), out)
	return string(out)
}

// program returns the path of an installed program, or skips the test.
func installed(t *testing.T, name string, elsewhere ...string) string {
	t.Helper()
	for _, candidate := range append([]string{name}, elsewhere...) {
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	t.Skipf("the program %s is not installed", name)
	return ""
}

// clean is the environment without the settings of whoever runs the tests.
func clean(more ...string) []string {
	var env []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "PARLEY_") && !strings.HasPrefix(pair, "KAFKA_") && !strings.HasPrefix(pair, "PG") {
			env = append(env, pair)
		}
	}
	return append(env, more...)
}
