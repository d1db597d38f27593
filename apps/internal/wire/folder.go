package wire

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// MakeFolder makes a folder for its owner alone, and the folders above it that are missing. It syncs their names: a power cut that takes a folder's name takes
// all that is synced in the folder.
func MakeFolder(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	// The folders in which names are new. The parent of path is always one: a start before may have made path and not synced its name.
	parents := []string{filepath.Dir(path)}
	for at := filepath.Dir(path); at != filepath.Dir(at); at = filepath.Dir(at) {
		if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		parents = append(parents, filepath.Dir(at))
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	for i, parent := range parents {
		// This user may be allowed to enter the parent and not to open it. Then path was not made here.
		if err := syncFolder(parent); err != nil && (i > 0 || !errors.Is(err, fs.ErrPermission)) {
			return err
		}
	}
	return nil
}

// syncFolder makes the names in a folder survive a power cut.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" { // where folders cannot be synced
		return nil
	}
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
