package chat_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
)

// Without a record of rooms nothing is allocated for one, and nobody is told that something was recorded.
func TestWhereNothingIsRecordedOfRoomsNothingCosts(t *testing.T) {
	ctx := context.Background()
	open := func(record func(chat.Cause) chat.RoomRecord) (*chat.Service, *memory.Store, *int) {
		store := memory.NewStore()
		s, err := chat.New(chat.Config{
			Store: store.Messages, Rooms: store.Rooms, Members: store.Members, Marks: store.Members, Roles: store.Roles, Restrictions: store.Restrictions,
			Cache: memory.NewRecentCache(memory.RecentCacheConfig{}), RecordRooms: record,
		})
		require.NoError(t, err)
		recorded := 0
		s.OnRecorded(func() { recorded++ })
		return s, store, &recorded
	}
	s, store, recorded := open(nil)
	leaving := testing.AllocsPerRun(100, func() { _ = s.Leave(ctx, "ada", "hall") })
	alone := testing.AllocsPerRun(100, func() { _ = store.Members.Remove(ctx, "hall", "ada") })
	assert.InDelta(t, alone, leaving, 0.1, "allocations")
	_, err := s.CreateRoom(ctx, as(chat.Author{ID: "ada", Name: "Ada"}), "hall", chat.Details{})
	require.NoError(t, err)
	assert.Zero(t, *recorded)
	pending, err := store.Outbox.Pending(ctx, 10)
	require.NoError(t, err)
	assert.Empty(t, pending)

	s, store, recorded = open(func(why chat.Cause) chat.RoomRecord {
		return chat.RoomRecord{Membership: func(m chat.Membership) (event.Event, bool) {
			return event.Event{ID: "1", Type: string(m.Role), Key: string(why.By)}, true
		}}
	})
	_, err = s.CreateRoom(ctx, as(chat.Author{ID: "ada", Name: "Ada"}), "hall", chat.Details{})
	require.NoError(t, err)
	assert.Equal(t, 1, *recorded)
	pending, err = store.Outbox.Pending(ctx, 10)
	require.NoError(t, err)
	require.Len(t, pending, 1)
	assert.Equal(t, "owner ada", pending[0].Type+" "+pending[0].Key)
}
