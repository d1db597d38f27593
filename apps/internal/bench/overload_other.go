//go:build !linux

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/parley-chat/parley/apps/internal/config"
)

// Overload reads what the kernel knows of a process, and returns an error that is [errors.ErrUnsupported] elsewhere.
func Overload(context.Context, config.Settings, config.Overload, io.Writer) error {
	return fmt.Errorf("campaign overload: it needs Linux: %w", errors.ErrUnsupported)
}
