package contract

import (
	"slices"
	"testing"

	"github.com/parley-chat/parley/core/chat"
)

// TestNames checks what the suites rely on: names that core lets through, and no two alike.
func TestNames(t *testing.T) {
	for _, name := range names {
		if err := chat.CheckRoom(name); err != nil {
			t.Errorf("%+q is no name of a room: %v", name, err)
		}
	}
	if sorted := slices.Sorted(slices.Values(names)); len(slices.Compact(sorted)) != len(names) {
		t.Error("a name stands there twice")
	}
	if err := chat.CheckRoom(long(chat.MaxRoomName)); err != nil {
		t.Errorf("the longest name is no name of a room: %v", err)
	}
}
