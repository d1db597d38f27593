package main_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/testkit"
)

// patience is how long a test waits for what should take moments: it is long, so that only what
// never happens fails on a slow machine.
const patience = time.Minute

// endsWithin is how long the program may take to end in order: it is promised.
const endsWithin = 10 * time.Second

// program is the binary under test, built once for all tests.
var program string

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == besideArg {
		if err := beside(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	testkit.Parallel(8)
	os.Exit(withProgram(m.Run))
}

func withProgram(tests func() int) int {
	folder, err := os.MkdirTemp("", "parley-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	program = filepath.Join(folder, "parley")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	args := []string{"build", "-o", program}
	if raceDetector {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "the program cannot be built: %v\n%s", err, out)
		return 1
	}
	return tests()
}

// environment is what the program sees: nothing of the settings of whoever runs the tests, and an address for
// operators only where it is told, since programs run side by side.
func environment(more ...string) []string {
	env := []string{"PARLEY_ADMIN_LISTEN=off"}
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "PARLEY_") {
			env = append(env, pair)
		}
	}
	return append(env, more...)
}

// server is the program, serving.
type server struct {
	url    string // without a slash at the end
	admin  string // where operators are served, likewise
	data   string
	cmd    *exec.Cmd
	stdout *output
	stderr *output
	exited chan struct{}
	err    error // set before exited is closed
}

// serve starts the program on a folder and waits until it serves. It is killed when the test ends.
func serve(t *testing.T, data string, args ...string) *server {
	t.Helper()
	return serveWith(t, data, func(*exec.Cmd) {}, args...)
}

// serveWith is serve, with a change of how the program is started.
func serveWith(t *testing.T, data string, change func(*exec.Cmd), args ...string) *server {
	t.Helper()
	s := launchWith(t, data, change, args...)
	line, ok := s.stdout.line(t, s.exited, "Parley is at ")
	require.True(t, ok, "the program does not serve: %v\n%s", s.err, s.stderr)
	s.url = strings.TrimPrefix(line, "Parley is at ")
	if !contains(args, "--admin-listen=off") {
		s.awaitAdmin(t)
	}
	return s
}

// awaitAdmin waits until the program has said where operators are served.
func (s *server) awaitAdmin(t *testing.T) {
	t.Helper()
	line, ok := s.stdout.line(t, s.exited, adminLine)
	require.True(t, ok, "the program does not say where operators are served: %v\n%s", s.err, s.stderr)
	s.admin = strings.TrimPrefix(line, adminLine)
}

// adminLine is what the line begins with that names the address of operators.
const adminLine = "  admin     "

func launchWith(t *testing.T, data string, change func(*exec.Cmd), args ...string) *server {
	t.Helper()
	s := &server{data: data, stdout: newOutput(), stderr: newOutput(), exited: make(chan struct{})}
	if !contains(args, "--listen") {
		args = append(args, "--listen", "127.0.0.1:0")
	}
	if !contains(args, "--admin-listen") {
		args = append(args, "--admin-listen", "127.0.0.1:0")
	}
	s.cmd = exec.Command(program, append([]string{"--data", data}, args...)...)
	s.cmd.Env = environment()
	s.cmd.Dir = t.TempDir()
	s.cmd.Stdout, s.cmd.Stderr = s.stdout, s.stderr
	change(s.cmd)
	require.NoError(t, s.cmd.Start())
	go func() {
		s.err = s.cmd.Wait()
		close(s.exited)
	}()
	t.Cleanup(s.kill)
	return s
}

func contains(args []string, flag string) bool {
	for _, a := range args {
		if a == flag || strings.HasPrefix(a, flag+"=") {
			return true
		}
	}
	return false
}

// kill ends the program as a crash does. It may have ended already.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.exited
}

// stop asks the program to end, and wants it to end well and in time.
func (s *server) stop(t *testing.T, how os.Signal) {
	t.Helper()
	require.NoError(t, s.cmd.Process.Signal(how))
	late := time.NewTimer(endsWithin)
	defer late.Stop()
	select {
	case <-s.exited:
		require.NoError(t, s.err, "stderr: %s", s.stderr)
	case <-late.C:
		t.Fatalf("the program has not ended %v after %v; stderr: %s", endsWithin, how, s.stderr)
	}
	s.sound(t)
}

// sound checks that the program has not complained of a bug of its own.
func (s *server) sound(t *testing.T) {
	t.Helper()
	for _, word := range []string{"DATA RACE", "panic", "goroutine "} {
		require.NotContains(t, s.stderr.String(), word)
	}
}

// outcome is what became of a program that ran to its end.
type outcome struct {
	stdout, stderr string
	code           int
}

// execute runs the program to its end.
func execute(t *testing.T, env []string, args ...string) outcome {
	t.Helper()
	return executeWithin(t, patience, env, args...)
}

// executeWithin is execute for programs that take long.
func executeWithin(t *testing.T, within time.Duration, env []string, args ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Dir = environment(env...), t.TempDir()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	require.NoError(t, ctx.Err(), "%v hangs; stderr: %s", args, &stderr)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// succeeded returns the standard output of a program that ended well and said nothing else.
func (o outcome) succeeded(t *testing.T) string {
	t.Helper()
	require.Zero(t, o.code, "stderr: %s", o.stderr)
	require.Empty(t, o.stderr)
	return o.stdout
}

// refused checks that the program ended with code 1 after one clear line, and returns the line.
func (o outcome) refused(t *testing.T) string {
	t.Helper()
	require.Equal(t, 1, o.code, "stdout: %s\nstderr: %s", o.stdout, o.stderr)
	require.Empty(t, o.stdout)
	line, more, whole := strings.Cut(o.stderr, "\n")
	require.True(t, whole, "no line: %q", o.stderr)
	require.Empty(t, more, "more than a line: %q", o.stderr)
	require.Regexp(t, `^parley: \S`, line)
	require.NotContains(t, line, "goroutine")
	return line
}

// output collects what a program writes.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

var _ io.Writer = (*output)(nil)

func newOutput() *output { return &output{changed: make(chan struct{})} }

// Write keeps p.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(p)
}

// String returns what was written so far.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// line waits for a whole line that begins so. It returns false if the program ends before.
func (o *output) line(t *testing.T, exited <-chan struct{}, prefix string) (string, bool) {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for over := false; ; {
		o.mu.Lock()
		text, changed := o.text.String(), o.changed
		o.mu.Unlock()
		lines := bufio.NewScanner(strings.NewReader(text[:strings.LastIndexByte(text, '\n')+1]))
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), prefix) {
				return lines.Text(), true
			}
		}
		if over {
			return "", false
		}
		select {
		case <-changed:
		case <-exited:
			over = true // what it wrote last is there now
		case <-late.C:
			t.Fatalf("the program has not written %q after %v: %q", prefix, patience, text)
		}
	}
}

var (
	sigterm   os.Signal = syscall.SIGTERM
	interrupt os.Signal = os.Interrupt
)
