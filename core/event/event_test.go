package event_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
)

func TestDeadTopic(t *testing.T) {
	t.Parallel()
	name, ok := event.DeadTopic("mail")
	assert.True(t, ok)
	assert.Equal(t, "mail.dead", name)
	_, ok = event.DeadTopic(name)
	assert.False(t, ok)
}

// TestNever: what an error wraps does not count, only what it is. A store that is down because
// its own request was refused is down.
func TestNever(t *testing.T) {
	t.Parallel()
	invalid := fault.New(fault.Invalid, "no_address", "there is no address")
	for _, c := range []struct {
		err   error
		never bool
	}{
		{invalid, true},
		{fmt.Errorf("handling: %w", invalid.Detail("at all")), true},
		{fault.Invalid, true},
		{fault.Wrap(fault.Unavailable, invalid), false},
		{nil, false},
		{errors.New("not now"), false},
		{fault.NotFound, false},
		{context.DeadlineExceeded, false},
	} {
		assert.Equal(t, c.never, event.Never(c.err), "%v", c.err)
	}
}
