package power_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/apps/internal/campaign/forgetfs"
	"github.com/parley-chat/parley/testkit/local"
)

// TestAServerThatWaitsForItsDiskIsKilled kills a server with children that all write to a file system on which nothing is answered:
// nobody waits for it, and it has ended when the file system is back.
func TestAServerThatWaitsForItsDiskIsKilled(t *testing.T) {
	t.Parallel()
	if err := forgetfs.Available(); err != nil {
		t.Skip(err)
	}
	disk, err := forgetfs.Mount(t.TempDir(), forgetfs.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, disk.Close()) })
	p, err := local.New("writer", false)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	first := filepath.Join(disk.Path(), "first")
	p.Forks = true
	p.Command = func() (*exec.Cmd, error) {
		cmd := exec.Command("/bin/sh", "-c", `(while :; do echo x > second; done) & while :; do echo x > first; done`)
		cmd.Dir = disk.Path()
		return cmd, nil
	}
	p.Ready = func(context.Context) error { _, err := os.Stat(first); return err }
	for range 5 {
		require.NoError(t, p.Start(t.Context()))
		_, err := disk.Cut(forgetfs.Cut{Survival: forgetfs.Nothing, Hold: true})
		require.NoError(t, err)
		require.NoError(t, p.SendKill())
		require.NoError(t, disk.Restore())
		require.NoError(t, p.AwaitExit(t.Context()))
	}
}
