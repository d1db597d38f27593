//go:build !linux

package bench

import (
	"context"
	"errors"
	"io"
)

// Floor needs epoll, and returns an error that is [errors.ErrUnsupported].
func Floor(context.Context, io.Reader, io.Writer) error { return errors.ErrUnsupported }
