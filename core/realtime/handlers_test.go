package realtime

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/parley-chat/parley/core/protocol"
)

func TestEveryEventHasAHandler(t *testing.T) {
	var events []string
	for _, e := range protocol.Own().ClientEvents() {
		events = append(events, e.Name)
	}
	assert.ElementsMatch(t, events, slices.Collect(maps.Keys(handlers)))
}
