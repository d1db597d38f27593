package servers

import (
	"context"
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
	"syscall"
	"testing"
	"time"
)

// Process is the process of a server that belongs to one test, so that the test may stop it in every way
// there is. Its methods fail the test. They are not for several goroutines at once.
type Process struct {
	name   string // for failures
	folder string // has the files of the server, its log, and its process ID
	// command returns what serves until it is killed.
	command func() (*exec.Cmd, error)
	// ready returns nil once the server serves.
	ready func(ctx context.Context) error
	// patience bounds the time from start until ready.
	patience time.Duration
	// forks says that the server's children serve too.
	forks bool
	// passing, if set, reports whether a failure to start passes by itself.
	passing func(err error) bool

	process *os.Process
	exited  chan struct{} // closed when process has ended
	frozen  []int
}

// newProcess makes a server whose files are in a new folder. A watcher process ends the server and removes the
// folder when this process has ended, in whatever way. The folder belongs to nobody if owned is true and this
// process is the superuser's.
func newProcess(name string, owned bool) (p *Process, err error) {
	folder, err := os.MkdirTemp("", "parley-"+strings.ToLower(name)+"-")
	if err != nil {
		return nil, err
	}
	p = &Process{name: name, folder: folder, patience: 30 * time.Second}
	if owned && os.Geteuid() == 0 {
		err = os.Chown(folder, nobody, nobody)
	}
	if err == nil {
		err = watch(p.file("process"), folder)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	return p, nil
}

// file is a path in the server's folder.
func (p *Process) file(name string) string { return filepath.Join(p.folder, name) }

// start starts the server and waits until it serves.
func (p *Process) start() error {
	err := p.startOnce()
	for late := time.Now().Add(10 * time.Second); err != nil && p.passing != nil && p.passing(err) && time.Now().Before(late); {
		time.Sleep(50 * time.Millisecond) // nothing tells when it has passed
		err = p.startOnce()
	}
	return err
}

func (p *Process) startOnce() error {
	log, err := os.OpenFile(p.file("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own
	cmd, err := p.command()
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // Ctrl-C reaches the test only
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	p.process, p.exited = cmd.Process, exited
	go p.wait(cmd, exited)
	if err := os.WriteFile(p.file("process"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := p.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-exited:
			out, _ := os.ReadFile(log.Name())
			return fmt.Errorf("it ended: %s", out)
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("it does not serve after %s: %w", p.patience, err), cmd.Process.Kill())
		}
	}
}

// wait closes exited when cmd has ended. Its name is known to tests that look for goroutines which are left.
func (*Process) wait(cmd *exec.Cmd, exited chan<- struct{}) {
	defer close(exited)
	_ = cmd.Wait() // it is killed
}

// startFor starts the server for t, and ends it and removes its files when t ends.
func (p *Process) startFor(t testing.TB) {
	t.Helper()
	t.Cleanup(func() {
		if p.process != nil {
			p.Kill(t)
		}
		_ = os.RemoveAll(p.folder) // the watcher removes what is left
	})
	if err := p.start(); err != nil {
		t.Fatalf("servers: start %s: %v", p.name, err)
	}
}

// Kill ends the server at once, as a crash does: nothing is written any more. Killing it twice is harmless.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	pids := []int{p.process.Pid}
	if p.forks { // stopped first, so that it starts no processes while those it has are looked for
		pids = append(pids, p.stop(t)...)
	}
	select {
	case <-p.exited:
		pids = pids[1:] // its number may be another's by now
	default:
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Errorf("servers: kill %s: %v", p.name, err)
		}
	}
	p.frozen = nil
	<-p.exited
	if err := os.Remove(p.file("process")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("servers: %v", err)
	}
}

// Restart starts a server that was killed, on the same address and with what it had stored.
func (p *Process) Restart(t testing.TB) {
	t.Helper()
	if err := p.start(); err != nil {
		t.Fatalf("servers: restart %s: %v", p.name, err)
	}
}

// Freeze stops the server where it is: connections stay open, and nothing answers. [Process.Thaw] lets it go on.
func (p *Process) Freeze(t testing.TB) {
	t.Helper()
	p.frozen = append([]int{p.process.Pid}, p.stop(t)...)
}

// Thaw undoes Freeze.
func (p *Process) Thaw(t testing.TB) {
	t.Helper()
	for _, pid := range p.frozen {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Errorf("servers: continue %s: %v", p.name, err)
		}
	}
	p.frozen = nil
}

// stop sends SIGSTOP to the server, and to its children if it forks, and returns those.
func (p *Process) stop(t testing.TB) []int {
	t.Helper()
	select {
	case <-p.exited:
		return nil
	default:
	}
	if err := suspend(p.process.Pid); err != nil {
		t.Fatalf("servers: stop %s: %v", p.name, err)
	}
	if !p.forks {
		return nil
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatalf("servers: %v", err)
	}
	var children []int
	for _, file := range stats {
		fields := stat(file)
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil || len(fields) < 2 || fields[1] != strconv.Itoa(p.process.Pid) {
			continue
		}
		if err := suspend(pid); err == nil {
			children = append(children, pid)
		}
	}
	return children
}

// suspend stops a process, and returns when every thread of it has stopped: on a busy machine one
// may go on for a while after the signal was sent, and still answer. A process that has ended is no error.
func suspend(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		if errors.Is(err, syscall.ESRCH) {
			return nil
		}
		return err
	}
	for deadline := time.Now().Add(10 * time.Second); running(pid); {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not stop", pid)
		}
		time.Sleep(time.Millisecond) // nothing tells when a process that is not our child has stopped
	}
	return nil
}

// running reports whether a thread of a process has not stopped yet.
func running(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid)) // the pattern is right
	for _, file := range threads {
		if fields := stat(file); len(fields) > 0 && !strings.Contains("TtZX", fields[0]) {
			return true
		}
	}
	return false
}

// stat returns the fields of a file /proc/…/stat from the state on (proc_pid_stat(5)): state, parent and so on. There
// are none if the process or thread has ended.
func stat(file string) []string {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	// pid (name) state parent …, where the name may hold anything.
	return strings.Fields(string(content[strings.LastIndexByte(string(content), ')')+1:]))
}

// watch starts a process that waits for the end of this one, then ends the server whose
// process ID stands in pidFile and removes folder. The end is the end of its input, of
// which this process holds the other side until the system takes it away.
func watch(pidFile, folder string) error {
	// A killed PostgreSQL leaves the processes of its connections for a moment.
	cmd := exec.Command("/bin/sh", "-c",
		`cat > /dev/null; [ -f "$0" ] && kill -9 "$(head -n 1 "$0")"; sleep 0.2; rm -rf "$1" || { sleep 1; rm -rf "$1"; }`, pidFile, folder)
	unprivileged(cmd)
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = nil // the folder's parent is not the server's
	}
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	watched.Lock()
	defer watched.Unlock()
	watched.inputs = append(watched.inputs, input) // never closed by the garbage collector
	return nil
}

var watched struct {
	sync.Mutex
	inputs []io.Closer
}

// nobody is an unprivileged user: database servers refuse to run as the superuser.
const nobody = 65534

// unprivileged makes cmd run as nobody if this process is the superuser's, with no environment
// of its own and in a process group of its own, so that Ctrl-C reaches the test only.
func unprivileged(cmd *exec.Cmd) {
	cmd.Dir = os.TempDir()
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
}

// freePort returns a port of the loopback interface on which nobody listens.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// listening returns what is ready when somebody listens on address.
func listening(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// programsIn returns the folder that has the first program and the second: where the search
// path finds it, or the last of what the patterns match, which is the newest version.
func programsIn(first, second string, patterns ...string) (string, error) {
	if path, err := exec.LookPath(first); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			patterns = append([]string{filepath.Dir(path)}, patterns...)
		}
	}
	for _, pattern := range patterns {
		folders, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		for _, folder := range slices.Backward(folders) {
			if _, err := exec.LookPath(filepath.Join(folder, first)); err != nil {
				continue
			}
			if _, err := exec.LookPath(filepath.Join(folder, second)); err == nil {
				return folder, nil
			}
		}
	}
	return "", fmt.Errorf("the program %s is not installed", first)
}
