package servers

import (
	"context"
	"testing"

	"github.com/parley-chat/parley/testkit/local"
)

// Process is the process of a server that belongs to one test, so that the test may stop it in every way
// there is. Its methods fail the test. They are not for several goroutines at once.
type Process struct{ process *local.Process }

// startFor starts a server for t, and ends it and removes its files when t ends.
func startFor(t testing.TB, p *local.Process) *Process {
	t.Helper()
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("servers: %v", err)
		}
	})
	if err := p.Start(context.Background()); err != nil {
		t.Fatalf("servers: start %s: %v", p.Name, err)
	}
	return &Process{p}
}

// Kill ends the server at once, as a crash does: nothing is written any more. Killing it twice is harmless.
func (p *Process) Kill(t testing.TB) { t.Helper(); p.must(t, p.process.Kill()) }

// Restart starts a server that was killed, on the same address and with what it had stored.
func (p *Process) Restart(t testing.TB) {
	t.Helper()
	if err := p.process.Start(context.Background()); err != nil {
		t.Fatalf("servers: restart %s: %v", p.process.Name, err)
	}
}

// Freeze stops the server where it is: connections stay open, and nothing answers. [Process.Thaw] lets it go on.
func (p *Process) Freeze(t testing.TB) { t.Helper(); p.must(t, p.process.Freeze()) }

// Thaw undoes Freeze.
func (p *Process) Thaw(t testing.TB) { t.Helper(); p.must(t, p.process.Thaw()) }

func (p *Process) must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("servers: %v", err)
	}
}
