package power

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program that is killed and started again.
type process struct {
	name    string
	log     string // its file
	command func() *exec.Cmd
	// ready returns nil once it serves.
	ready func(ctx context.Context) error
	// passing, if set, reports whether a failure to start passes by itself.
	passing func(log string) bool

	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended
}

// nobody is an unprivileged user: some servers refuse to run as the superuser.
const nobody = 65534

// unprivileged makes cmd run as nobody.
func unprivileged(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

// environment is that of everything that is started: nothing of this program's own.
func environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=/", "TMPDIR=" + os.TempDir()}
}

// start starts the program and waits until it serves.
func (p *process) start(ctx context.Context) error {
	for late := time.Now().Add(startPatience); ; {
		err := p.once(ctx)
		if err == nil || p.passing == nil || time.Now().After(late) || ctx.Err() != nil {
			return err
		}
		text, _ := os.ReadFile(p.log)
		if !p.passing(string(text)) {
			return err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil { // nothing tells when it has passed
			return err
		}
	}
}

// launch starts the program.
func (p *process) launch() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := p.command()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = environment()
	cmd.Dir = "/"
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true // Ctrl-C reaches the campaign only
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	p.cmd, p.exited = cmd, make(chan struct{})
	go func(exited chan struct{}) {
		defer close(exited)
		_ = cmd.Wait() // it is killed
	}(p.exited)
	return nil
}

func (p *process) once(ctx context.Context) error {
	if err := p.launch(); err != nil {
		return err
	}
	return p.serves(ctx)
}

// serves waits until the program that was launched serves.
func (p *process) serves(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		err := p.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			text, _ := os.ReadFile(p.log)
			return fmt.Errorf("%s does not start: %s", p.name, tail(string(text)))
		default:
		}
		if pause(ctx, 10*time.Millisecond) != nil {
			return errors.Join(fmt.Errorf("%s does not serve: %w", p.name, err), p.kill())
		}
	}
}

// tail is the end of a log.
func tail(text string) string {
	const most = 2000
	if text = strings.TrimSpace(text); len(text) > most {
		text = "…" + text[len(text)-most:]
	}
	return text
}

// kill ends the program and its children at once. It does not wait: what waits for its disk ends when that is back. Killing twice is harmless.
func (p *process) kill() error {
	if p.cmd == nil {
		return nil
	}
	select {
	case <-p.exited: // its number may be another's by now
		return nil
	default:
	}
	pid := p.cmd.Process.Pid
	// Stopped first, so that it starts no children while those that it has are looked for.
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	for _, pid := range append(children(pid), pid) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill %s: %w", p.name, err)
		}
	}
	return nil
}

// gone waits until the program has ended.
func (p *process) gone(ctx context.Context) error {
	if p.cmd == nil {
		return nil
	}
	select {
	case <-p.exited:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s does not end: %w", p.name, ctx.Err())
	}
}

// children are the processes that a process has started.
func children(of int) []int {
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	var pids []int
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		// pid (name) state parent …, where the name may hold anything.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && len(fields) > 1 && fields[1] == strconv.Itoa(of) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// freeAddress is an address of this machine that nobody listens on, below the ports that outgoing connections get: it has to stay free while
// nobody listens there.
func freeAddress(ctx context.Context) (string, error) {
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(12_000+rand.IntN(18_000)))
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err == nil {
			return address, l.Close()
		}
	}
	return "", errors.New("no port is free")
}

// listening returns what is ready when somebody listens on address.
func listening(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// programIn returns the file of a program: where the search path finds it, or the last that the patterns match, which is the newest version.
func programIn(name string, patterns ...string) (string, error) {
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(pattern, name))
		if err != nil {
			return "", err
		}
		if len(files) > 0 {
			return files[len(files)-1], nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("the program %s is not installed", name)
	}
	return path, nil
}
