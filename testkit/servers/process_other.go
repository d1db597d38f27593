//go:build !linux

package servers

import "testing"

// Process is the process of a server that belongs to one test. Servers are started on Linux only.
type Process struct{}

// Kill does nothing: there is no server.
func (*Process) Kill(testing.TB) {}

// Restart does nothing: there is no server.
func (*Process) Restart(testing.TB) {}

// Freeze does nothing: there is no server.
func (*Process) Freeze(testing.TB) {}

// Thaw does nothing: there is no server.
func (*Process) Thaw(testing.TB) {}
