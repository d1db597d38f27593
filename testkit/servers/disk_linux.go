package servers

import (
	"os"
	"strconv"
	"syscall"
	"testing"
)

// SmallDisk returns a folder on a file system of its own, in memory, that holds so many bytes, so that a test
// may fill it. It goes when t ends. Only the superuser may make one: without that right t is skipped.
func SmallDisk(t testing.TB, bytes int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a small disk: only the superuser may make one")
	}
	dir, err := os.MkdirTemp("", "parley-disk-") // not t's own, which is removed first
	if err != nil {
		t.Fatalf("servers: %v", err)
	}
	err = syscall.Mount("parley-test", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "size="+strconv.Itoa(bytes))
	if err != nil {
		_ = os.Remove(dir)
		t.Skipf("a small disk: it cannot be mounted: %v", err)
	}
	t.Cleanup(func() {
		// Whoever still has a file open keeps it until it is closed.
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("servers: %v", err)
		}
		if err := os.Remove(dir); err != nil {
			t.Errorf("servers: %v", err)
		}
	})
	return dir
}
