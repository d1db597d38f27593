package wire

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// MakeFolder makes a folder for its owner alone, and those above it that are missing. Their names survive a power cut: what is synced in a folder whose own name
// is lost is lost with it.
func MakeFolder(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	// Those whose names are new, and the last one, which a start before may have made and not synced.
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
		// A folder that was there may be one that this user may enter and not read, and then it was not made here.
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
