package services_test

import (
	"os/exec"
	"syscall"
)

// dieWithUs lets a program end when this process is killed, and keeps Ctrl-C from it.
func dieWithUs(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
