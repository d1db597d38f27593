package nodejs

import (
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// judge is a test that notes how it ends.
type judge struct {
	testing.TB
	skipped, failed string
}

func (j *judge) Helper() {}

func (j *judge) Skipf(format string, args ...any) {
	j.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (j *judge) Fatalf(format string, args ...any) {
	j.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func asked(t *testing.T, packages ...string) *judge {
	j := &judge{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		Modules(j, packages...)
	}()
	<-done
	return j
}

// TestWhatIsMissing holds that a test is skipped where nothing was promised, and fails where the environment has promised it.
func TestWhatIsMissing(t *testing.T) {
	const name = "no-such-package"
	t.Setenv(Variable, "")
	if j := asked(t, name); j.failed != "" || j.skipped == "" {
		t.Errorf("skipped %q, failed %q", j.skipped, j.failed)
	}
	folder := t.TempDir()
	t.Setenv(Variable, folder)
	if j := asked(t, name); j.skipped != "" || !strings.Contains(j.failed, folder) && !strings.Contains(j.failed, "no node") {
		t.Errorf("skipped %q, failed %q", j.skipped, j.failed)
	}
	t.Setenv("PATH", "")
	if _, err := exec.LookPath("node"); err == nil {
		t.Fatal("there is a node without a PATH")
	}
	if j := asked(t); j.skipped != "" || !strings.Contains(j.failed, "no node") {
		t.Errorf("skipped %q, failed %q", j.skipped, j.failed)
	}
}
