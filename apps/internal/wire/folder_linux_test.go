package wire_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/apps/internal/campaign/forgetfs"
	"github.com/parley-chat/parley/apps/internal/wire"
)

func TestFoldersSurviveAPowerCut(t *testing.T) {
	t.Parallel()
	if err := forgetfs.Available(); err != nil {
		t.Skip(err)
	}
	disk, err := forgetfs.Mount(t.TempDir(), forgetfs.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, disk.Close()) })
	// Made by a start that was killed before it synced.
	made := filepath.Join(disk.Path(), "made")
	require.NoError(t, os.Mkdir(made, 0o700))
	deep := filepath.Join(disk.Path(), "deep", "in", "the", "tree")
	for _, path := range []string{made, deep, deep} {
		require.NoError(t, wire.MakeFolder(path))
	}
	_, err = disk.Cut(forgetfs.Cut{})
	require.NoError(t, err)
	require.NoError(t, disk.Restore())
	for _, path := range []string{made, deep} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	}
	require.NoError(t, os.WriteFile(filepath.Join(made, "file"), nil, 0o600))
	require.ErrorIs(t, wire.MakeFolder(filepath.Join(made, "file", "below")), syscall.ENOTDIR)
}
