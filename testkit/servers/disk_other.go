//go:build !linux

package servers

import "testing"

// SmallDisk skips t: disks are made on Linux only.
func SmallDisk(t testing.TB, _ int) string {
	t.Helper()
	t.Skip("a small disk: it is made on Linux only")
	return ""
}
