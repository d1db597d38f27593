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
		require.Equal(t, `31[{"room":"hall","seq":0,"recovered":true,"messages":[]}]`, b.Next())
		require.Equal(t, `2["hall",{"message":"Bob Joined the room!","user":"system","type":"welcome"}]`, a.Next())
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
	})
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
			`2["message",{"roomName":"hall","message":"x","more":1}]`, `2["leave_room",{"room":"hall"}]`, `2["isTyping",{}]`, `2["healthCheck",{"x":1}]`, `2["message","hall","x"]`,
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
