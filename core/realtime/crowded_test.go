package realtime_test

import (
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

// A room that cannot be delivered as fast as it is written to takes nothing more, whoever sends and by whatever way.
func TestARoomThatLagsBehindTakesNothingMore(t *testing.T) {
	const backlog = 8
	synctest.Test(t, func(t *testing.T) {
		var service *chat.Service
		c := newCrowdInBubble(t, 1, 1, func(cfg *realtime.HubConfig) { cfg.Workers, cfg.MaxBacklog, service = 1, backlog, cfg.Chat })
		pass := make(chan struct{})
		release := sync.OnceFunc(func() { close(pass) })
		defer release()
		send := func(room string) (chat.Stored, error) {
			return service.Send(t.Context(), chat.Draft{Room: room, Author: chat.System, Text: "hello"})
		}
		in := memory.Connect(c.hub, user.Identity{UserID: "u", Name: "u"})
		said := func(event string) string {
			require.NoError(t, in.Write([]byte(event), false))
			f, err := in.Read(t.Context())
			require.NoError(t, err)
			return string(f.Payload())
		}
		require.Contains(t, said(`{"id":1,"event":"join_room","data":{"room":"room0"}}`), `"ack"`)
		synctest.Wait()
		c.hold = func(int) { <-pass }
		c.tally.expect(1 + backlog)
		c.say(1)
		synctest.Wait() // the worker is held up
		c.say(backlog)
		_, err := send("room0")
		require.ErrorIs(t, err, realtime.ErrRoomBusy)
		_, err = service.Change(t.Context(), chat.Change{Kind: chat.Delete, Any: true, By: chat.System, Room: "room0", Seq: 1})
		require.ErrorIs(t, err, realtime.ErrRoomBusy)
		for _, event := range []string{`"message","data":{"room":"room0","text":"hello"}`, `"react","data":{"room":"room0","seq":1,"key":"a"}`} {
			assert.Contains(t, said(`{"id":2,"event":`+event+`}`), `"room_busy"`)
		}
		for _, room := range []string{"another", "room00"} {
			stored, err := send(room)
			require.NoError(t, err)
			assert.EqualValues(t, 1, stored.Seq)
		}
		release()
		c.wait(t)
		synctest.Wait()
		c.tally.expect(1)
		stored, err := send("room0")
		require.NoError(t, err, "delivery has caught up")
		assert.EqualValues(t, 1, stored.Seq, "what was refused was not stored")
	})
}
