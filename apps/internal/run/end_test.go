package run

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestTheEndIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		patience := after(ctx, 3*time.Second)
		failure := errors.New("failed")
		done, err := leave(patience, func() error { time.Sleep(time.Hour); return failure })
		assert.True(t, done, "nothing is bounded before the end begins")
		assert.Equal(t, failure, err)

		stop()
		began := time.Now()
		hung := make(chan struct{})
		done, err = leave(patience, func() error { <-hung; return failure })
		assert.False(t, done)
		assert.NoError(t, err)
		assert.Equal(t, 3*time.Second, time.Since(began))
		close(hung)
	})
}
