package system

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit/sioclient"
	"github.com/parley-chat/parley/testkit/wsraw"
)

// TestSocketIOHearsNothingNew holds that a Socket.IO client in a private room has the old events of it, and nothing else, whatever is changed
// there: a witness on the same node, who speaks parley.v1, hears each change before the next message is sent.
func TestSocketIOHearsNothingNew(t *testing.T) {
	everyWay(t, func(t *testing.T, cfg Config, how string) {
		cfg.Nodes = 2
		s := Start(t, cfg)
		ada, bob, eve := s.User(t, "Ada"), s.User(t, "Bob"), s.User(t, "Eve")
		call := func(method, path string, body any, status int) {
			t.Helper()
			s.Call(t, method, path, ada.AccessToken, body, status, nil)
		}
		type object = map[string]any
		call(http.MethodPost, "/rooms", object{"name": "den", "kind": "private"}, 201)

		old := s.enter(t, 1, how, bob)
		old.Say(`21["join_room",{"name":"den"}]`)
		old.Hear(`31[{"error":{"code":"room_not_found","title":"there is no such room"}}]`)
		for _, u := range []User{bob, eve} {
			call(http.MethodPut, "/rooms/den/members/"+u.ID, object{"role": "member"}, 200)
		}
		witness, err := wsraw.Dial(within(t), s.SocketURLs[1], http.Header{
			"Authorization": {"Bearer " + eve.AccessToken}, "Sec-Websocket-Protocol": {socket.Protocol},
		}, nil)
		require.NoError(t, err)
		t.Cleanup(func() { _ = witness.Close() }) // may be closed already
		require.NoError(t, witness.Send(text(`{"id":1,"event":"join_room","data":{"room":"den"}}`)))
		next(t, witness, "ack")
		old.Say(`22["join_room",{"name":"den"}]`)
		require.Contains(t, old.Next(), `32[{"room":"den","seq":0,`)
		require.Contains(t, next(t, witness, "joined"), `"name":"Bob"`)

		// until waits for what the witness hears: it may hear of an invitation first.
		until := func(says string) {
			t.Helper()
			for {
				f, err := witness.Read()
				require.NoError(t, err)
				if strings.Contains(string(f.Payload), says) {
					return
				}
			}
		}
		at := "/rooms/den/messages"
		sent := 0
		// stillHears says something, which is what the client hears next.
		stillHears := func(body object) {
			t.Helper()
			sent++
			body["text"] = fmt.Sprint("old ", sent)
			call(http.MethodPost, at, body, 201)
			require.Contains(t, next(t, witness, "message"), fmt.Sprintf(`"seq":%d,`, sent))
			got := told(t, old, "den")
			require.NotEmpty(t, got["created_at"])
			delete(got, "created_at")
			require.Equal(t, object{"message": body["text"], "user": "Ada", "userId": ada.ID}, got)
		}
		stillHears(object{})
		stillHears(object{"replyTo": 1, "data": object{"card": 1}})
		for _, c := range []struct {
			method, path string
			body         any
			status       int
			hears        string // what the event says that the witness hears
		}{
			{http.MethodPatch, at + "/1", object{"text": "edited"}, 200, `"event":"changed"`},
			{http.MethodPut, at + "/1/reactions/" + "%F0%9F%91%8D", nil, 200, `"event":"changed"`},
			{http.MethodDelete, at + "/1/reactions/" + "%F0%9F%91%8D", nil, 200, `"event":"changed"`},
			{http.MethodDelete, at + "/2", nil, 200, `"event":"changed"`},
			{http.MethodPut, "/rooms/den/members/" + bob.ID, object{"role": "moderator"}, 200, `"role":"moderator","by"`},
			{http.MethodPut, "/rooms/den/mutes/" + bob.ID, object{"reason": "noise"}, 204, `"mutedUntil":`},
			{http.MethodDelete, "/rooms/den/mutes/" + bob.ID, nil, 204, `"role":"moderator","by"`},
		} {
			call(c.method, c.path, c.body, c.status)
			until(c.hears)
			stillHears(object{})
		}
		require.NoError(t, witness.Send(text(fmt.Sprintf(`{"id":2,"event":"mark","data":{"room":"den","read":%d}}`, sent))))
		require.Contains(t, next(t, witness, "marked"), `"name":"Eve"`)
		stillHears(object{})

		// Who comes later reads messages as they are now, without the deleted one.
		late := s.enter(t, 1, how, bob)
		late.Say(`2["join_room",{"name":"den"}]`)
		require.Equal(t, "edited", told(t, late, "den")["message"])
		for n := 3; n <= sent; n++ {
			require.Equal(t, fmt.Sprint("old ", n), told(t, late, "den")["message"])
		}

		// Who is removed hears nothing of that, and nothing more.
		call(http.MethodDelete, "/rooms/den/members/"+bob.ID, nil, 204)
		until(`"role":null`)
		call(http.MethodPost, at, object{"text": "he is gone"}, 201)
		require.Contains(t, next(t, witness, "message"), "he is gone")
		for _, c := range []*sioclient.Client{old, late} {
			c.Say(`23["message",{"roomName":"den","message":"x"}]`)
			c.Hear(`33[{"error":{"code":"not_joined","title":"the room was not joined"}}]`)
			c.Say(`24["join_room",{"name":"den"}]`)
			c.Hear(`34[{"error":{"code":"room_not_found","title":"there is no such room"}}]`)
		}
	})
}
