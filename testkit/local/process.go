// Package local starts real servers on this machine, from programs that are installed, on free ports of the loopback interface
// and in temporary folders. They end, and their folders go, when this process has ended, in whatever way. It is what tests
// (testkit/servers) and campaigns (parley campaign) start, kill and freeze, on Linux only.
package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrMissing says that a program is not installed, or that this system is none on which servers are started.
var ErrMissing = errors.New("not installed")

// Config is what a [Process] needs.
type Config struct {
	// Name is for failures and for the folder's name.
	Name string
	// Command returns what serves until it is killed. It is called at each start. Output goes to the log. Without an environment
	// it gets the search path and the folder for temporary files, and nothing else of this process's. Without a folder it runs
	// in that one.
	Command func() (*exec.Cmd, error)
	// Ready returns nil once the server serves. It is asked again and again until then.
	Ready func(ctx context.Context) error
	// Patience bounds the time from start until ready. A start that failed in passing begins no more after it. Default: 30 s.
	Patience time.Duration
	// Forks says that the server's children, and whoever else is in its process group, serve too.
	Forks bool
	// Passing, if set, reports whether a failure to start passes, so that the server is started again. The error has the
	// [Process.Tail]. It may mend what the failure is about.
	Passing func(err error) bool
}

// Process is the process of a server that whoever started it may stop in every way there is. Its methods are not for
// several goroutines at once, but for Exited.
type Process struct {
	Config
	folder string // has the files of the server, its log, and its process ID

	process *os.Process
	exited  chan struct{} // closed when process has ended
	from    int64         // where the log of this start begins
	frozen  []int
}

// New makes a server whose files are in a new folder, and does not start it: the fields of p.Config may be set until then. A
// watcher process ends the server and removes the folder when this process has ended, in whatever way. The folder belongs to
// nobody if owned is true and this process is the superuser's.
func New(name string, owned bool) (p *Process, err error) {
	if !available {
		return nil, fmt.Errorf("%s is started on Linux only: %w", name, ErrMissing)
	}
	folder, err := os.MkdirTemp("", "parley-"+strings.ToLower(name)+"-")
	if err != nil {
		return nil, err
	}
	p = &Process{Config: Config{Name: name, Patience: 30 * time.Second}, folder: folder}
	if owned && os.Geteuid() == 0 {
		err = os.Chown(folder, Nobody, Nobody)
	}
	if err == nil {
		err = watch(p.File("process"), folder)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	return p, nil
}

// Folder has the server's files.
func (p *Process) Folder() string { return p.folder }

// Log returns what the server has written to its output so far.
func (p *Process) Log() ([]byte, error) { return os.ReadFile(p.File("log")) }

// File is a path in the server's folder.
func (p *Process) File(name string) string { return filepath.Join(p.folder, name) }

// Tail is the end of what the server has written to its output since it was last started: 8,000 bytes at most.
func (p *Process) Tail() string {
	const most = 8000
	log, _ := p.Log() // without it, there is nothing to show
	text := strings.TrimSpace(string(log[min(p.from, int64(len(log))):]))
	if len(text) > most {
		text = "…" + text[len(text)-most:]
	}
	return text
}

// Start starts the server and waits until it serves, or until ctx ends. One that was killed starts on the same address and
// with what it had stored.
func (p *Process) Start(ctx context.Context) error {
	for late := time.Now().Add(p.Patience); ; {
		err := p.Launch()
		if err == nil {
			err = p.Await(ctx)
		}
		if err == nil || p.Passing == nil || ctx.Err() != nil || !time.Now().Before(late) || !p.Passing(err) {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond): // nothing tells when it has passed
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

// Launch starts the server and does not wait.
func (p *Process) Launch() error {
	log, err := os.OpenFile(p.File("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own
	before, err := log.Stat()
	if err != nil {
		return err
	}
	cmd, err := p.Command()
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	bare(cmd)
	apart(cmd)
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	p.process, p.exited, p.from = cmd.Process, exited, before.Size()
	go p.wait(cmd, exited)
	if err := os.WriteFile(p.File("process"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	return nil
}

// Await waits until a server that was launched serves. One that does not within Patience is killed, and one that has ended
// is an error. It may also end with ctx.
func (p *Process) Await(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, p.Patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := p.Ready(within)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.exited:
			return fmt.Errorf("it ended: %s", p.Tail())
		case <-within.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errors.Join(fmt.Errorf("it does not serve after %s: %w", p.Patience, err), p.process.Kill())
		}
	}
}

// wait closes exited when cmd has ended. Its name is known to tests that look for goroutines which are left.
func (*Process) wait(cmd *exec.Cmd, exited chan<- struct{}) {
	defer close(exited)
	_ = cmd.Wait() // it is killed
}

// Exited is closed when the server has ended. It is another channel after each start.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// closePatience bounds how long Close waits for the end of the server.
const closePatience = 30 * time.Second

// Close ends the server and removes its files. A server that has not ended after 30 seconds, since it waits for its disk, is
// an error.
func (p *Process) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closePatience)
	defer cancel()
	return errors.Join(p.SendKill(), p.AwaitExit(ctx), remove(ctx, p.folder)) // the watcher removes what is left
}

// remove removes a folder. A child of the server that was killed may still be about to make a file in it: then it tries again, until
// ctx ends.
func remove(ctx context.Context, folder string) error {
	for {
		err := os.RemoveAll(folder)
		if !errors.Is(err, syscall.ENOTEMPTY) {
			return err
		}
		select {
		case <-time.After(5 * time.Millisecond): // nothing tells when a process that is not our child has ended
		case <-ctx.Done():
			return err
		}
	}
}

// Kill ends the server at once, as a crash does: nothing is written any more. It returns when the server has ended. Killing it
// twice is harmless, and so is killing one that was never started.
func (p *Process) Kill() error {
	return errors.Join(p.SendKill(), p.AwaitExit(context.Background()))
}

// AwaitExit waits until the server has ended, or until ctx ends, which is an error. One that was never started has ended.
func (p *Process) AwaitExit(ctx context.Context) error {
	if p.process == nil {
		return nil
	}
	select {
	case <-p.exited:
	case <-ctx.Done():
		return fmt.Errorf("%s does not end: %w", p.Name, ctx.Err())
	}
	if err := os.Remove(p.File("process")); !errors.Is(err, os.ErrNotExist) {
		return p.failure("forget", err)
	}
	return nil
}

// SendKill is [Process.Kill] without the wait for the end: a server that waits for its disk ends when that is back.
func (p *Process) SendKill() error {
	if p.process == nil {
		return nil
	}
	pids := []int{p.process.Pid}
	var failed []error
	if p.Forks { // stopped first, so that it starts no processes while those it has are looked for
		children, err := p.stop(stopped + waiting)
		failed = append(failed, err)
		pids = append(pids, children...)
	}
	select {
	case <-p.exited:
		pids = pids[1:] // its number may be another's by now
	default:
	}
	for _, pid := range pids {
		failed = append(failed, kill(pid))
	}
	p.frozen = nil
	return p.failure("kill", errors.Join(failed...))
}

func (p *Process) failure(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", what, p.Name, err)
}

// Freeze stops the server where it is: connections stay open, and nothing answers. [Process.Thaw] lets it go on.
func (p *Process) Freeze() error {
	children, err := p.stop(stopped)
	p.frozen = append([]int{p.process.Pid}, children...)
	return p.failure("stop", err)
}

// Thaw undoes Freeze.
func (p *Process) Thaw() error {
	var failed []error
	for _, pid := range p.frozen {
		failed = append(failed, resume(pid))
	}
	p.frozen = nil
	return p.failure("continue", errors.Join(failed...))
}

// States of a thread (proc_pid_stat(5)).
const (
	stopped = "TtZX" // or ended
	waiting = "D"    // for its disk, say: with a signal pending it does nothing of its own afterwards, but may finish what it waits in
)

// stop stops the server, and its children if it forks, and returns those, when every thread of them is in one of these states.
func (p *Process) stop(states string) ([]int, error) {
	select {
	case <-p.exited:
		return nil, nil
	default:
	}
	if err := suspend(p.process.Pid, states); err != nil {
		return nil, err
	}
	if !p.Forks {
		return nil, nil
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var children []int
	for _, file := range stats {
		fields := stat(file)
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if of := strconv.Itoa(p.process.Pid); err != nil || pid == p.process.Pid || len(fields) < 3 || fields[1] != of && fields[2] != of {
			continue // neither a child nor of its group: the server leads one
		}
		if err := suspend(pid, states); err == nil {
			children = append(children, pid)
		}
	}
	return children, nil
}

// suspend stops a process, and returns when every thread of it is in one of these states: on a busy machine one
// may go on for a while after the signal was sent, and still answer. A process that has ended is no error.
func suspend(pid int, states string) error {
	if err := pause(pid); err != nil {
		return err
	}
	for deadline := time.Now().Add(10 * time.Second); running(pid, states); {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not stop", pid)
		}
		time.Sleep(time.Millisecond) // nothing tells when a process that is not our child has stopped
	}
	return nil
}

// running reports whether a thread of a process is in none of these states.
func running(pid int, states string) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid)) // the pattern is right
	for _, file := range threads {
		if fields := stat(file); len(fields) > 0 && !strings.Contains(states, fields[0]) {
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
	bare(cmd)
	apart(cmd) // the folder's parent is not the server's: it runs as whoever this is
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

// Nobody is an unprivileged user: database servers refuse to run as the superuser.
const Nobody = 65534

// Unprivileged makes cmd run as nobody if this process is the superuser's, with the environment of [Config].Command
// and in a process group of its own, so that Ctrl-C reaches the caller only.
func Unprivileged(cmd *exec.Cmd) {
	bare(cmd)
	apart(cmd)
	demote(cmd)
}

// bare gives cmd the environment and the folder of [Config].Command, unless it has one.
func bare(cmd *exec.Cmd) {
	if cmd.Env == nil {
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=/", "TMPDIR=" + os.TempDir()}
	}
	cmd.Dir = cmp.Or(cmd.Dir, os.TempDir())
}

// FreePort returns a port of the loopback interface on which nobody listens. It is from 10,000 to 29,999, below those that the
// system gives to connections and to listeners that name none, so that it stays free until a server has started, and while
// one that was killed is away. No other call returns it until this process has ended, in this process or in another: the
// process holds the UDP port of the same number, which says so. It may be called from many goroutines.
func FreePort() (int, error) {
	for range 100 {
		if port := 10_000 + rand.IntN(20_000); claim(port) {
			return port, nil
		}
	}
	return 0, errors.New("no port is free")
}

// claim reports whether ports are free that nobody has claimed, and claims them then, all or none.
func claim(ports ...int) bool {
	// A program that started here would have a copy of the listener until it runs, and keep the port taken.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	var claims []io.Closer
	for _, port := range ports {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		held, err := net.ListenPacket("udp", address)
		if err == nil {
			claims = append(claims, held)
			var l net.Listener
			if l, err = net.Listen("tcp", address); err == nil {
				err = l.Close()
			}
		}
		if err != nil {
			for _, c := range claims {
				_ = c.Close() // nothing was written
			}
			return false
		}
	}
	claimed.Lock()
	defer claimed.Unlock()
	claimed.ports = append(claimed.ports, claims...)
	return true
}

// claimed keeps claims from the garbage collector, which would close them.
var claimed struct {
	sync.Mutex
	ports []io.Closer
}

// FreeAddress is [FreePort] as host:port.
func FreeAddress() (string, error) {
	port, err := FreePort()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

// Listen listens on a TCP address on which a listener of this process was closed. It waits for programs that start: each has a
// copy of that listener until it runs, and the address would be in use.
func Listen(address string) (net.Listener, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return net.Listen("tcp", address)
}

// Listening returns what is ready when somebody listens on address.
func Listening(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// Answering returns what is ready when a GET of url is answered with 200 OK, within 5 seconds each time. It keeps no connection,
// so that a server that was just killed is not taken for the new one.
func Answering(url string) func(context.Context) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	return func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		defer func() { _ = answer.Body.Close() }() // nothing more is wanted of it
		if answer.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(io.LimitReader(answer.Body, 300)) // the status says enough
			return fmt.Errorf("%s is answered with %s: %s", url, answer.Status, text)
		}
		return nil
	}
}

// ProgramsIn returns the folder that has the first program and the second: where the search
// path finds it, or the last of what the patterns match, which is the newest version.
func ProgramsIn(first, second string, patterns ...string) (string, error) {
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
	return "", fmt.Errorf("the program %s is %w", first, ErrMissing)
}
