package local

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// available says that servers can be started here.
const available = true

// signal sends one to a process. A process that has ended is no error.
func signal(pid int, s syscall.Signal) error {
	if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

func kill(pid int) error   { return signal(pid, syscall.SIGKILL) }
func pause(pid int) error  { return signal(pid, syscall.SIGSTOP) }
func resume(pid int) error { return signal(pid, syscall.SIGCONT) }

// apart puts cmd into a process group of its own, so that Ctrl-C reaches the caller only.
func apart(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
}

// demote makes cmd run as nobody if this process is the superuser's.
func demote(cmd *exec.Cmd) {
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: Nobody, Gid: Nobody}
	}
}
