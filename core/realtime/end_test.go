package realtime_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
)

// stuck is a presence that nobody can leave.
type stuck struct{ realtime.Presence }

func (stuck) Exit(ctx context.Context, _ time.Time, _, _ string, _ chat.Author) (bool, error) {
	<-ctx.Done()
	return false, ctx.Err()
}

func TestTheEndDoesNotWaitForAPresenceThatIsAway(t *testing.T) {
	for name, before := range map[string]time.Duration{
		"at once": 0,
		"after a renewal has begun to wait for the user who leaves": time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := start(t, func(c *realtime.HubConfig) { c.Presence, c.CommandTimeout = stuck{c.Presence}, 24*time.Hour })
				n.connect("ada").join("hall")
				require.NoError(t, n.Drain(t.Context()))
				time.Sleep(before)
				began := time.Now()
				n.stop()
				assert.LessOrEqual(t, time.Since(began), 2*time.Second)
			})
		})
	}
}
