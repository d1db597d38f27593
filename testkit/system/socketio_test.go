package system

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit/sioclient"
)

// everyWay runs a test over each transport, in each way in which a Socket.IO client can be connected.
func everyWay(t *testing.T, test func(t *testing.T, cfg Config, how string)) {
	t.Parallel()
	transports(t, func(t *testing.T, cfg Config) {
		cfg.SocketIO = true
		for _, how := range sioclient.Ways {
			t.Run(how, func(t *testing.T) {
				t.Parallel()
				test(t, cfg, how)
			})
		}
	})
}

// socketIO is where Socket.IO is on a node, with a query.
func (s *System) socketIO(node int, query string) string {
	return "http" + strings.TrimSuffix(strings.TrimPrefix(s.SocketURLs[node], "ws"), "/socket") + "/socket.io/?" + query
}

// enter connects somebody with the token in the query, as the old front ends do.
func (s *System) enter(t *testing.T, node int, how string, u User) *sioclient.Client {
	t.Helper()
	c := sioclient.Dial(t, s.socketIO(node, "authorization="+url.QueryEscape("bearer "+u.AccessToken)), how, nil)
	c.Connect("0")
	return c
}

// told reads an event and returns its payload.
func told(t *testing.T, c *sioclient.Client, event string) map[string]any {
	t.Helper()
	got := c.Next()
	var packet []json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(got, "2")), &packet), got)
	require.Len(t, packet, 2, got)
	require.Equal(t, fmt.Sprintf("%q", event), string(packet[0]), got)
	var data map[string]any
	require.NoError(t, json.Unmarshal(packet[1], &data))
	return data
}

// TestSocketIOTellsTheOldStory holds the old names and shapes, with somebody on the other node, and somebody who
// speaks parley.v1.
func TestSocketIOTellsTheOldStory(t *testing.T) {
	everyWay(t, func(t *testing.T, cfg Config, how string) {
		tellTheOldStory(t, cfg, how)
	})
}

func TestSocketIOTellsTheOldStoryWithoutRecovery(t *testing.T) {
	everyWay(t, func(t *testing.T, cfg Config, how string) {
		cfg.NoRecovery = true
		tellTheOldStory(t, cfg, how)
	})
}

func tellTheOldStory(t *testing.T, cfg Config, how string) {
	t.Helper()
	cfg.Nodes = 2
	s := Start(t, cfg)
	ada, bob, eve := s.User(t, "Ada"), s.User(t, "Bob"), s.User(t, "Eve")
	native := s.DialRaw(t, eve.AccessToken)
	require.NoError(t, native.Send(text(`{"id":1,"event":"join_room","data":{"room":"hall"}}`)))
	next(t, native, "ack")

	a := s.enter(t, 0, how, ada)
	a.Say(`2["join_room",{"name":"hall","userId":"somebody else"}]`)
	require.Contains(t, next(t, native, "joined"), `"user":{"id":"`+ada.ID+`","name":"Ada"}`)
	b := s.enter(t, 1, how, bob)
	b.Say(`21["join_room",{"name":"hall","userId":"` + ada.ID + `"}]`)
	require.Equal(t, `31[{"room":"hall","seq":0,"rev":0,"read":0,"recovered":true,"messages":[]}]`, b.Next())
	heard := a.Next()
	if strings.Contains(heard, "Eve Joined") { // she was answered before she was announced
		heard = a.Next()
	}
	require.Equal(t, `2["hall",{"message":"Bob Joined the room!","user":"system","type":"welcome"}]`, heard)
	next(t, native, "joined")

	for i := range 11 {
		a.Say(fmt.Sprintf(`2["message",{"roomName":"hall","message":"old %d"}]`, i))
		for _, c := range []*sioclient.Client{a, b} {
			got := told(t, c, "hall")
			at, err := time.Parse("2006-01-02T15:04:05.000Z", got["created_at"].(string))
			require.NoError(t, err)
			assert.WithinDuration(t, time.Now(), at, time.Minute)
			delete(got, "created_at")
			require.Equal(t, map[string]any{"message": fmt.Sprintf("old %d", i), "user": "Ada", "userId": ada.ID}, got)
		}
		require.Contains(t, next(t, native, "message"), fmt.Sprintf(`"text":"old %d"`, i))
	}
	// How far somebody has read is told to those who know the event. What the others get next is what she says then.
	require.NoError(t, native.Send(text(`{"id":2,"event":"mark","data":{"room":"hall","read":11}}`)))
	require.Contains(t, next(t, native, "marked"), `"read":11`)
	require.NoError(t, native.Send(text(`{"event":"message","data":{"room":"hall","text":"hello, Socket.IO"}}`)))
	for _, c := range []*sioclient.Client{a, b} {
		got := told(t, c, "hall")
		require.Equal(t, "hello, Socket.IO", got["message"])
		require.Equal(t, "Eve", got["user"])
	}
	// Who comes later gets the last ten, oldest first, and the welcome is not for them.
	late := s.enter(t, 0, how, bob)
	late.Say(`2["join_room",{"name":"hall","userId":"` + bob.ID + `"}]`)
	for i := 2; i < 11; i++ {
		require.Equal(t, fmt.Sprintf("old %d", i), told(t, late, "hall")["message"])
	}
	require.Equal(t, "hello, Socket.IO", told(t, late, "hall")["message"])

	a.Say(`22["isTyping",{"roomName":"hall"}]`)
	a.Hear("32[{}]")
	require.Equal(t, `2["hall-typing",{"message":"Ada is typing!","user":"system","type":"typing"}]`, b.Next())
	require.Contains(t, next(t, native, "isTyping"), `"typing":true`)
	require.NoError(t, native.Send(text(`{"event":"isTyping","data":{"room":"hall"}}`)))
	require.Equal(t, `2["hall-typing",{"message":"Eve is typing!","user":"system","type":"typing"}]`, a.Next())

	// A message to a room that was not joined is not delivered, and an ack says so.
	a.Say(`23["message",{"roomName":"attic","message":"x"}]`)
	a.Hear(`33[{"error":{"code":"not_joined","title":"the room was not joined"}}]`)
	a.Say(`2["message",{"roomName":"attic","message":"x"}]`, `24["message",{"roomName":"hall","message":"y"}]`)
	got := []string{a.Next(), a.Next()}
	require.Contains(t, strings.Join(got, "\n"), `34[{"room":"hall","seq":13,`)
	require.Contains(t, strings.Join(got, "\n"), `2["hall",{"message":"y"`)

	a.Say(`2["healthCheck",{}]`)
	a.Hear(`2["healthCheck",{"message":"OK"}]`, "1")
	a.Over()
}

func TestSocketIOAsksWhoItIs(t *testing.T) {
	everyWay(t, func(t *testing.T, cfg Config, how string) {
		s := Start(t, cfg)
		ada := s.User(t, "Ada")
		for name, tt := range map[string]struct {
			query  string
			header http.Header
			auth   string
			ok     bool
		}{
			"query":                   {query: "authorization=bearer%20" + ada.AccessToken, ok: true},
			"query, another case":     {query: "authorization=BeArEr%20" + ada.AccessToken, ok: true},
			"header":                  {header: http.Header{"Authorization": {"Bearer " + ada.AccessToken}}, ok: true},
			"auth":                    {auth: `{"token":"BEARER ` + ada.AccessToken + `"}`, ok: true},
			"auth goes first":         {query: "authorization=bearer%20x", auth: `{"token":"bearer ` + ada.AccessToken + `"}`, ok: true},
			"nothing":                 {},
			"auth that is wrong":      {query: "authorization=bearer%20" + ada.AccessToken, auth: `{"token":"bearer x"}`},
			"auth of another type":    {auth: `{"token":7}`},
			"no scheme":               {query: "authorization=" + ada.AccessToken},
			"another scheme":          {query: "authorization=basic%20" + ada.AccessToken},
			"a scheme alone":          {query: "authorization=bearer"},
			"a token that is changed": {query: "authorization=bearer%20" + ada.AccessToken + "x"},
		} {
			t.Run(name, func(t *testing.T) {
				c := sioclient.Dial(t, s.socketIO(0, tt.query), how, tt.header)
				if tt.ok {
					c.Connect("0" + tt.auth)
					return
				}
				c.Say("0" + tt.auth)
				got := c.Next()
				require.True(t, strings.HasPrefix(got, `4{"message":"`) && strings.Contains(got, `"data":{"code":"`), got)
				c.Say(`2["join_room",{"name":"hall"}]`)
				c.Over()
			})
		}
	})
}

func TestSocketIODisconnectsWhatBreaksTheRules(t *testing.T) {
	everyWay(t, func(t *testing.T, cfg Config, how string) {
		s := Start(t, cfg)
		ada := s.User(t, "Ada")
		other := s.enter(t, 0, how, s.User(t, "Bob"))
		other.Say(`21["join_room",{"name":"hall"}]`)
		other.Next()
		for _, packet := range []string{
			`2["nonsense",{}]`, `2["join_room"]`, `2["join_room",{}]`, `2["join_room",{"name":""}]`, `2["join_room",{"name":7}]`, `2["message",{"roomName":"hall"}]`,
			`2["message",{"roomName":"hall","message":"x","more":1}]`, `2["leave_room",{"room":"hall"}]`, `2["mark",{"room":"hall","read":1}]`, `2["isTyping",{}]`, `2["healthCheck",{"x":1}]`, `2["message","hall","x"]`,
			`2["message",{"roomName":"hall","message":"` + strings.Repeat("x", 4001) + `"}]`,
		} {
			c := s.enter(t, 0, how, ada)
			c.Say(packet)
			c.Hear("1")
			c.Over()
		}
		c := s.enter(t, 0, how, ada)
		c.Say(`51-["message",{"_placeholder":true,"num":0}]`, "b:x")
		c.Hear("1")
		c.Over()
		for _, packets := range [][]string{{"nonsense"}, {"b:x"}} {
			c := s.enter(t, 0, how, ada)
			c.Say(packets...)
			c.Over()
		}
		other.Say(`22["message",{"roomName":"hall","message":"still here"}]`)
		other.Next()
		other.Next()
	})
}

func TestSocketIOEndsWithItsTokenAndItsSession(t *testing.T) {
	everyWay(t, func(t *testing.T, cfg Config, how string) {
		s := Start(t, cfg)
		ada, bob := s.User(t, "Ada"), s.User(t, "Bob")
		a, b := s.enter(t, 0, how, ada), s.enter(t, 0, how, bob)
		s.Call(t, http.MethodPost, "/auth/signout/all", ada.AccessToken, nil, http.StatusNoContent, nil)
		a.Hear("1")
		a.Over()
		again := sioclient.Dial(t, s.socketIO(0, "authorization=bearer%20"+ada.AccessToken), how, nil)
		again.Say("0")
		require.Contains(t, again.Next(), `"code":"session_ended"`)
		s.Advance(16 * time.Minute)
		b.Hear("1")
		b.Over()
	})
}

func TestSocketIOIsAskedToComeBackByANodeThatRestarts(t *testing.T) {
	everyWay(t, func(t *testing.T, cfg Config, how string) {
		s := Start(t, cfg)
		ada := s.User(t, "Ada")
		c := s.enter(t, 0, how, ada)
		ended := make(chan struct{})
		go func() { s.Restart(t); close(ended) }()
		c.Over() // without a disconnect, after which clients do not come back by themselves
		<-ended
		s.enter(t, 0, how, ada)
	})
}

// back connects somebody again who was here before.
func (s *System) back(t *testing.T, node int, how string, u User, before *sioclient.Client) (c *sioclient.Client, id string) {
	t.Helper()
	c = sioclient.Dial(t, s.socketIO(node, ""), how, nil)
	return c, c.Connect(before.Back(map[string]string{"token": "bearer " + u.AccessToken}))
}

// TestSocketIORecovers holds that a client that was away gets what it missed, once and in order, on the other node, without
// joining again.
func TestSocketIORecovers(t *testing.T) {
	everyWay(t, func(t *testing.T, cfg Config, how string) {
		cfg.Nodes = 2
		s := Start(t, cfg)
		ada, bob := s.User(t, "Ada"), s.User(t, "Bob")
		b := s.enter(t, 1, how, bob)
		for _, room := range []string{"hall", "attic", "cellar"} {
			b.Say(`21["join_room",{"name":"` + room + `"}]`)
			b.Next()
		}
		say := func(room string, texts ...string) {
			t.Helper()
			for _, text := range texts {
				b.Say(`22["message",{"roomName":"` + room + `","message":"` + text + `"}]`)
				for heard, acked := false, false; !heard || !acked; { // in either order
					if got := b.Next(); strings.HasPrefix(got, "32[") {
						acked = true
					} else if strings.Contains(got, `"message":"`+text+`"`) {
						heard = true
					}
				}
			}
		}
		a := sioclient.Dial(t, s.socketIO(0, ""), how, nil)
		id := a.Connect(`0{"token":"bearer ` + ada.AccessToken + `"}`)
		require.NotEmpty(t, a.PID())
		a.Say(`21["join_room",{"name":"hall"}]`)
		a.Next()
		say("hall", "one")
		require.Equal(t, "one", told(t, a, "hall")["message"])
		a.Say(`22["join_room",{"name":"attic"}]`) // where nothing has been said yet
		a.Next()
		a.Drop()

		for i := range 120 {
			say("hall", fmt.Sprint("hall ", i))
		}
		say("attic", "up here")
		say("cellar", "not for Ada")
		again, sameID := s.back(t, 1, how, ada, a)
		require.Equal(t, a.PID(), again.PID(), "the client takes itself for recovered")
		require.Equal(t, id, sameID)
		for i := range 120 {
			require.Equal(t, fmt.Sprint("hall ", i), told(t, again, "hall")["message"])
		}
		require.Equal(t, "up here", told(t, again, "attic")["message"])
		say("cellar", "not for Ada")
		say("attic", "live")
		require.Equal(t, "live", told(t, again, "attic")["message"])
		again.Say(`23["message",{"roomName":"hall","message":"I am back"}]`)
		got := []string{again.Next(), again.Next()}
		require.Contains(t, strings.Join(got, "\n"), `33[{"room":"hall","seq":122,`)
		again.Drop()

		// And once more, from where it is now.
		say("attic", "once more")
		once, sameID := s.back(t, 0, how, ada, again)
		require.Equal(t, id, sameID)
		require.Equal(t, "once more", told(t, once, "attic")["message"])
		say("hall", "live")
		require.Equal(t, "live", told(t, once, "hall")["message"])
	})
}

// TestSocketIORecoversAfterARestart holds that nothing that a node remembers is needed.
func TestSocketIORecoversAfterARestart(t *testing.T) {
	everyWay(t, func(t *testing.T, cfg Config, how string) {
		s := Start(t, cfg)
		ada := s.User(t, "Ada")
		a := s.enter(t, 0, how, ada)
		a.Say(`21["join_room",{"name":"hall"}]`)
		a.Next()
		s.Restart(t)
		bob := s.enter(t, 0, how, s.User(t, "Bob"))
		bob.Say(`21["join_room",{"name":"hall"}]`, `2["message",{"roomName":"hall","message":"missed"}]`)
		bob.Next()
		bob.Next()
		again, _ := s.back(t, 0, how, ada, a)
		require.Equal(t, a.PID(), again.PID())
		require.Equal(t, "missed", told(t, again, "hall")["message"])
	})
}

// TestSocketIORecoversNobodyElse holds that who somebody is and what they may is asked again.
func TestSocketIORecoversNobodyElse(t *testing.T) {
	everyWay(t, func(t *testing.T, cfg Config, how string) {
		if testing.Short() && how == "polling" {
			t.Skip("skipped by -short: it waits for seconds")
		}
		s := Start(t, cfg)
		ada, bob := s.User(t, "Ada"), s.User(t, "Bob")
		a := s.enter(t, 0, how, ada)
		a.Say(`21["join_room",{"name":"hall"}]`)
		a.Next()
		a.Say(`22["message",{"roomName":"hall","message":"one"}]`)
		a.Next()
		a.Next()
		fresh := func(name string, u User, before *sioclient.Client) *sioclient.Client {
			t.Helper()
			c, _ := s.back(t, 0, how, u, before)
			require.NotEqual(t, before.PID(), c.PID(), name)
			c.Say(`29["message",{"roomName":"hall","message":"x"}]`)
			require.Contains(t, c.Next(), `39[{"error":{"code":"not_joined"`, name)
			return c
		}
		fresh("another user", bob, a)
		c := sioclient.Dial(t, s.socketIO(0, ""), how, nil)
		c.Say(a.Back(map[string]string{"token": "bearer x"}))
		require.Contains(t, c.Next(), `4{"message":`, "a bad token")

		// Whoever may not come in any more is as new.
		require.NoError(t, s.Parts().Remove(t.Context(), "hall", user.ID(ada.ID)))
		fresh("removed", ada, a)

		// An offset that is made up is worth nothing, and neither is a pid.
		for name, auth := range map[string]map[string]string{
			"nonsense":           {"offset": "nonsense"},
			"another room":       {"offset": "0:6:others"},
			"ahead":              {"offset": "zzz:4:hall"},
			"a pid of one's own": {"pid": strings.Repeat("A", len(a.PID()))},
		} {
			back := map[string]string{"token": "bearer " + ada.AccessToken, "pid": a.PID(), "offset": a.Offset()}
			for k, v := range auth {
				back[k] = v
			}
			packet, err := json.Marshal(back)
			require.NoError(t, err)
			c := sioclient.Dial(t, s.socketIO(0, ""), how, nil)
			c.Connect("0" + string(packet))
			require.NotEqual(t, back["pid"], c.PID(), name)
		}
		s.Call(t, http.MethodPost, "/auth/signout/all", ada.AccessToken, nil, http.StatusNoContent, nil)
		c = sioclient.Dial(t, s.socketIO(0, ""), how, nil)
		c.Say(a.Back(map[string]string{"token": "bearer " + ada.AccessToken}))
		require.Contains(t, c.Next(), `"code":"session_ended"`)
	})
}
