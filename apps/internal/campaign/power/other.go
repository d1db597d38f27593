//go:build !linux

package power

import (
	"context"

	"github.com/parley-chat/parley/apps/internal/campaign/forgetfs"
)

// Run needs Linux, and returns an error that is [forgetfs.ErrUnavailable].
func Run(context.Context, Config) (Result, error) { return Result{}, forgetfs.Available() }
