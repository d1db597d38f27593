//go:build !unix

package run

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/parley-chat/parley/apps/internal/wire"
)

// lock makes the data folder. Where files cannot be locked, nothing keeps other servers off it.
func lock(folder, name string) (*os.File, error) {
	if err := wire.MakeFolder(folder); err != nil {
		return nil, fmt.Errorf("the data folder cannot be made: %w", err)
	}
	return os.OpenFile(filepath.Join(folder, name), os.O_CREATE|os.O_RDWR, 0o600)
}
