package mongo_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/user"
)

// FerretDB v1.24 has 100 connections to its own database, and holds one for each update of a command until the command ends: a call about more than that ends all the same.
func TestCallsAboutMany(t *testing.T) {
	const many = 130
	s := open(t)
	ctx := t.Context()
	holds := func(what string, check func(t *testing.T, ctx context.Context)) {
		t.Run(what, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			check(t, ctx)
		})
	}
	id := func(i int) user.ID { return user.ID(fmt.Sprintf("user-%03d", i)) }
	all := func(one func(i int)) {
		for i := range many {
			one(i)
		}
	}

	var said []chat.Message
	var joins []chat.Membership
	all(func(i int) {
		said = append(said, chat.Message{Room: "hall", ID: fmt.Sprint(i), Author: chat.Author{ID: id(i)}, Text: "x", At: time.Now()})
		joins = append(joins, chat.Membership{Room: "hall", UserID: id(i), Since: time.Now()})
	})
	n := 0
	members, err := s.Members().Recording(chat.RoomRecord{Membership: func(m chat.Membership) (event.Event, bool) {
		n++
		return event.Event{ID: fmt.Sprint("e", n), Topic: "t", Type: string(m.UserID), Time: time.Now(), Data: []byte("{}")}, true
	}})
	require.NoError(t, err)
	_, err = members.Add(ctx, joins...)
	require.NoError(t, err)
	_, err = s.Messages().Append(ctx, said)
	require.NoError(t, err)

	holds("events are published", func(t *testing.T, ctx context.Context) {
		pending, err := s.Outbox().Pending(ctx, 2*many)
		require.NoError(t, err)
		require.Len(t, pending, many)
		var ids []string
		for _, e := range pending {
			ids = append(ids, e.ID)
		}
		require.NoError(t, s.Outbox().Published(ctx, ids...))
		pending, err = s.Outbox().Pending(ctx, 2*many)
		require.NoError(t, err)
		assert.Empty(t, pending)
	})
	holds("marks move", func(t *testing.T, ctx context.Context) {
		var marks []chat.Mark
		all(func(i int) {
			marks = append(marks, chat.Mark{Room: "hall", User: chat.Author{ID: id(i)}, Read: many - 1})
		})
		got, err := s.Members().Mark(ctx, marks)
		require.NoError(t, err)
		for i, m := range got {
			require.NoError(t, m.Err)
			require.GreaterOrEqual(t, m.Read, uint64(many-1), i)
		}
	})
	holds("messages change", func(t *testing.T, ctx context.Context) {
		var edits []chat.Change
		all(func(i int) {
			edits = append(edits, chat.Change{Kind: chat.Edit, Room: "hall", Seq: uint64(i + 1), By: chat.Author{ID: id(i)}, Text: "y", At: time.Now()})
		})
		got, err := s.Messages().Change(ctx, edits)
		require.NoError(t, err)
		for i, c := range got {
			require.NoError(t, c.Err)
			require.EqualValues(t, i+1, c.Rev)
		}
	})
	holds("messages are removed", func(t *testing.T, ctx context.Context) {
		removed, err := s.Messages().Prune(ctx, "hall", many+1)
		require.NoError(t, err)
		assert.Equal(t, many, removed)
		rooms, err := s.Members().Mine(ctx, id(7), chat.Place{}, 1)
		require.NoError(t, err)
		require.Len(t, rooms, 1)
		assert.GreaterOrEqual(t, rooms[0].Read, uint64(many-1))
	})
}
