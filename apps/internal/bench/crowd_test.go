package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// saying is a server of the native wire, that says after each message of a client what the test wants it to.
func saying(t *testing.T, answer func(say func(format string, args ...any), conn *websocket.Conn, id int, text string)) string {
	t.Helper()
	upgrader := websocket.Upgrader{Subprotocols: []string{"parley.v1"}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if !assert.NoError(t, err) {
			return
		}
		defer conn.Close()
		say := func(format string, args ...any) {
			assert.NoError(t, conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, args...)))
		}
		for {
			var e struct {
				ID    int
				Event string
				Data  struct{ Text string }
			}
			if conn.ReadJSON(&e) != nil {
				return
			}
			if e.Event == "join_room" {
				say(`{"id":0,"event":"ack","data":{}}`)
				continue
			}
			answer(say, conn, e.ID, e.Data.Text)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// run lets one client do what the plan says, and returns what it saw.
func run(t *testing.T, p plan) (r result) {
	t.Helper()
	p.Wire, p.Members, p.Rooms, p.Senders, p.InFlight, p.What, p.Size = wireNative, 1, 1, 1, 1, fanout, 40
	line, err := json.Marshal(p)
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, Client(t.Context(), io.MultiReader(bytes.NewReader(line), strings.NewReader("\ngo\n")), &out))
	rest, joined := strings.CutPrefix(out.String(), "joined\n")
	require.True(t, joined, out.String())
	require.NoError(t, json.Unmarshal([]byte(rest), &r))
	return r
}

// TestClientsSeeFaults holds that what a server does wrong is counted, and not taken for a delivery.
func TestClientsSeeFaults(t *testing.T) {
	t.Parallel()
	const event = `{"event":"message","data":{"room":"room-0","seq":%d,"text":%q}}`
	right := func(say func(string, ...any), id int, text string) {
		say(`{"id":%d,"event":"ack","data":{}}`, id)
		say(event, id, text)
	}
	for name, c := range map[string]struct {
		answer func(say func(string, ...any), conn *websocket.Conn, id int, text string)
		want   result
	}{
		"none": {
			func(say func(string, ...any), _ *websocket.Conn, id int, text string) { right(say, id, text) },
			result{Sent: 3, Acked: 3, Deliveries: 3, Expected: 3},
		},
		"delivered before its ack": {
			func(say func(string, ...any), _ *websocket.Conn, id int, text string) {
				say(event, id, text)
				say(`{"id":%d,"event":"ack","data":{}}`, id)
			},
			result{Sent: 3, Acked: 3, Deliveries: 3, Expected: 3},
		},
		"twice": {
			func(say func(string, ...any), _ *websocket.Conn, id int, text string) {
				if id == 2 {
					say(event, 2, text)
				}
				right(say, id, text)
			},
			result{Sent: 3, Acked: 3, Deliveries: 3, Expected: 3, Twice: 1, Gaps: 1},
		},
		"a number left out": {
			func(say func(string, ...any), _ *websocket.Conn, id int, text string) {
				say(`{"id":%d,"event":"ack","data":{}}`, id)
				say(event, 2*id, text)
			},
			result{Sent: 3, Acked: 3, Deliveries: 3, Expected: 3, Gaps: 2},
		},
		"refused": {
			func(say func(string, ...any), _ *websocket.Conn, id int, text string) {
				if id == 2 {
					say(`{"id":%d,"event":"error","data":{}}`, id)
					return
				}
				right(say, id, text)
			},
			result{Sent: 3, Acked: 2, Refused: 1, Deliveries: 2, Expected: 3, Gaps: 1}, // this server counts refused ones, too
		},
		"ended at last": {
			func(say func(string, ...any), conn *websocket.Conn, id int, text string) {
				if id == 3 {
					_ = conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(4408, "slow"))
					_ = conn.NetConn().Close()
					return
				}
				right(say, id, text)
			},
			result{Sent: 3, Acked: 2, Deliveries: 2, Expected: 3, Closes: map[string]int{"4408": 1}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(t, plan{Address: saying(t, c.answer), Messages: 3})
			assert.Equal(t, r.Expected > 0, r.Seconds > 0)
			r.Seconds, r.AckP50, r.AckP99, r.P50, r.P99, r.Last = 0, 0, 0, 0, 0, 0
			assert.Equal(t, c.want, r)
		})
	}
}

// TestClientsThatCannotJoin holds that the reason is named.
func TestClientsThatCannotJoin(t *testing.T) {
	t.Parallel()
	refusing := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(refusing.Close)
	_, err := gather(t.Context(), plan{Address: strings.TrimPrefix(refusing.URL, "http://"), Wire: wireNative, Members: 2, Rooms: 1})
	require.ErrorContains(t, err, "404 Not Found")
	refusing.Close()
	_, err = gather(t.Context(), plan{Address: strings.TrimPrefix(refusing.URL, "http://"), Wire: wireNative, Members: 1, Rooms: 1})
	require.Error(t, err)
}

func TestFramesInParts(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 125, 126, 65535, 65536} {
		text := bytes.Repeat([]byte{'x'}, size)
		framed := frameOf(0x1, text)
		// As a server sends it: without the mask.
		whole := append(append([]byte(nil), framed[:len(framed)-size-4]...), text...)
		whole[1] &^= 0x80
		for cut := range min(len(whole), 20) {
			_, _, n := frame(whole[:cut])
			assert.Zero(t, n)
		}
		op, payload, n := frame(append(whole, "more"...))
		assert.Equal(t, byte(0x1), op)
		assert.Len(t, whole, n)
		assert.Equal(t, text, payload)
	}
}

// TestClientsOfAStormSeeFaults holds that what is wrong for a client that comes back is counted.
func TestClientsOfAStormSeeFaults(t *testing.T) {
	t.Parallel()
	type ack struct {
		Seq       uint64           `json:"seq"`
		Recovered bool             `json:"recovered"`
		Messages  []map[string]any `json:"messages"`
	}
	missed := func(since, last uint64) (a ack) {
		a = ack{Seq: last, Recovered: true, Messages: []map[string]any{}}
		for seq := since + 1; seq <= last; seq++ {
			a.Messages = append(a.Messages, map[string]any{"seq": seq})
		}
		return a
	}
	for name, c := range map[string]struct {
		answer      func(since uint64) ack // to one who comes back
		gaps, twice int
	}{
		"none":                      {answer: func(since uint64) ack { return missed(since, 9) }},
		"nothing was missed":        {answer: func(since uint64) ack { return missed(since, since) }},
		"one is left out":           {answer: func(since uint64) ack { a := missed(since, 9); a.Messages = slices.Delete(a.Messages, 1, 2); return a }, gaps: 1},
		"the last ones are missing": {answer: func(since uint64) ack { a := missed(since, 8); a.Seq = 9; return a }, gaps: 1},
		"not recovered":             {answer: func(since uint64) ack { a := missed(since, 9); a.Recovered = false; return a }, gaps: 1},
		"one comes again":           {answer: func(since uint64) ack { return missed(since-1, 9) }, twice: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upgrader := websocket.Upgrader{Subprotocols: []string{"parley.v1"}}
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				conn, err := upgrader.Upgrade(w, r, nil)
				if !assert.NoError(t, err) {
					return
				}
				defer conn.Close()
				var join struct{ Data struct{ Since *uint64 } }
				if !assert.NoError(t, conn.ReadJSON(&join)) {
					return
				}
				answer := missed(0, 3)
				if join.Data.Since != nil {
					answer = c.answer(*join.Data.Since)
				}
				text, err := json.Marshal(answer)
				assert.NoError(t, err)
				assert.NoError(t, conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"id":0,"event":"ack","data":%s}`, text)))
				_, _, _ = conn.ReadMessage() // until the client goes
			}))
			defer server.Close()
			line, err := json.Marshal(plan{Address: strings.TrimPrefix(server.URL, "http://"), Wire: wireNative, Members: 1, Rooms: 1, What: storm, Size: 40})
			require.NoError(t, err)
			var out bytes.Buffer
			require.NoError(t, Client(t.Context(), io.MultiReader(bytes.NewReader(line), strings.NewReader("\ngo\n")), &out))
			var r result
			require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(out.String(), "joined\n")), &r), out.String())
			assert.Equal(t, 1, r.Acked)
			assert.Equal(t, c.gaps, r.Gaps, "gaps")
			assert.Equal(t, c.twice, r.Twice, "twice")
		})
	}
}
