package system

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit/wsraw"
)

// reader reads a connection of which it knows whether it compresses.
type reader struct {
	t    *testing.T
	ws   *wsraw.Conn
	wire map[bool]int // bytes of messages that came compressed, and of others
}

// offering connects, and offers compression if that is asked for. The server agrees to it if it was.
func offering(t *testing.T, address string, header http.Header, offer bool) *reader {
	t.Helper()
	if offer {
		header.Set("Sec-Websocket-Extensions", "permessage-deflate; client_max_window_bits")
	}
	ws, err := wsraw.Dial(within(t), address, header, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = ws.Close() })
	require.Equal(t, offer, ws.Header.Get("Sec-Websocket-Extensions") != "")
	return &reader{t, ws, map[bool]int{}}
}

// until returns the first text that contains part.
func (r *reader) until(part string) string {
	r.t.Helper()
	for {
		f, err := r.ws.Read()
		require.NoError(r.t, err, "waiting for %q", part)
		if f.Opcode != wsraw.OpText {
			continue
		}
		got := f.Payload
		compressed := f.Reserved == 4
		r.wire[compressed] += len(got)
		if compressed {
			got, err = io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(got), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
			require.NoError(r.t, err)
		}
		if strings.Contains(string(got), part) {
			return string(got)
		}
	}
}

// TestCompression lets people talk in one room who compress and who do not, in parley.v1 and over Socket.IO, and then read what was said before.
func TestCompression(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, cfg Config) {
		cfg.SocketIO, cfg.Compress = true, true
		s := Start(t, cfg)
		enter := func(name string, offer bool) *reader {
			u := s.User(t, name)
			r := offering(t, s.SocketURL, http.Header{"Sec-Websocket-Protocol": {socket.Protocol}, "Authorization": {"Bearer " + u.AccessToken}}, offer)
			require.NoError(t, r.ws.Send(text(`{"id":1,"event":"join_room","data":{"room":"hall"}}`)))
			return r
		}
		enterSocketIO := func(name string, offer bool) *reader {
			u := s.User(t, name)
			r := offering(t, strings.Replace(s.socketIO(0, "EIO=4&transport=websocket&authorization="+url.QueryEscape("bearer "+u.AccessToken)), "http", "ws", 1), http.Header{}, offer)
			r.until(`0{"sid"`)
			require.NoError(t, r.ws.Send(text("40")))
			r.until("40{")
			require.NoError(t, r.ws.Send(text(`421["join_room",{"name":"hall"}]`)))
			r.until("431[")
			return r
		}
		readers := map[string]*reader{
			"Ada": enter("Ada", true), "Bob": enter("Bob", false), "Cyd": enterSocketIO("Cyd", true), "Dan": enterSocketIO("Dan", false),
		}
		for _, name := range []string{"Ada", "Bob"} {
			readers[name].until(`"ack"`)
		}
		const rounds = 20
		for i := range rounds {
			long := fmt.Sprintf("round %d, %s, the end of %d", i, strings.Repeat("again and again ", 100), i)
			require.NoError(t, readers["Bob"].ws.Send(text(fmt.Sprintf(`{"event":"message","data":{"room":"hall","text":"%s"}}`, long))))
			for _, r := range readers {
				r.until(long)
			}
		}
		for name, compresses := range map[string]bool{"Ada": true, "Bob": false, "Cyd": true, "Dan": false} {
			wire := readers[name].wire
			if compresses {
				assert.Less(t, wire[true]+wire[false], rounds*600, name)
				assert.Positive(t, wire[true], name)
			} else {
				assert.Zero(t, wire[true], name)
				assert.Greater(t, wire[false], rounds*1600, name)
			}
		}
		late := enter("Eve", true)
		assert.Contains(t, late.until(`"ack"`), fmt.Sprintf("the end of %d", rounds-1))
		assert.Positive(t, late.wire[true], "the history comes compressed")
	})
}
