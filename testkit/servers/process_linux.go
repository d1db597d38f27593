package servers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

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
		content, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state …, where the name may hold anything.
		state := strings.TrimSpace(string(content[strings.LastIndexByte(string(content), ')')+1:]))
		if !strings.HasPrefix(state, "T") && !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X") {
			return true
		}
	}
	return false
}
