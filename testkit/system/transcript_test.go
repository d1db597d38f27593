package system

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/testkit"
	"github.com/parley-chat/parley/testkit/wsclient"
)

// transcript is what actors said and heard, one line each, in the order in which the test
// said and took it. An actor's frames are taken in the order in which they came.
type transcript struct {
	t      *testing.T
	s      *System
	lines  []string
	actors []*actor
}

func (tr *transcript) note(format string, args ...any) {
	tr.lines = append(tr.lines, fmt.Sprintf(format, args...))
}

// part begins a part of the story.
func (tr *transcript) part(title string) { tr.note("\n# %s", title) }

// actor is somebody with a client for both HTTP and the socket.
type actor struct {
	*transcript
	name   string
	socket *wsclient.Raw
	lastID int
}

func (tr *transcript) actor(name string) *actor {
	a := &actor{transcript: tr, name: name}
	tr.actors = append(tr.actors, a)
	return a
}

// request makes an HTTP request, notes it and its answer, and returns the answer's members.
func (a *actor) request(method, path, token string, body any, status int) map[string]any {
	a.t.Helper()
	return a.do(method, path, token, "application/json", encode(a.t, body), status)
}

// form sends a form, as a browser does.
func (a *actor) form(path, body string, status int) {
	a.t.Helper()
	a.do(http.MethodPost, path, "", "application/x-www-form-urlencoded", body, status)
}

func (a *actor) do(method, path, token, media, body string, status int) map[string]any {
	a.t.Helper()
	req, err := http.NewRequestWithContext(within(a.t), method, a.s.URL+path, strings.NewReader(body))
	require.NoError(a.t, err)
	line := a.name + " > " + method + " " + path
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
		line += " (Bearer " + token + ")"
	}
	if body != "" {
		req.Header.Set("Content-Type", media)
		line += " " + body
	}
	a.note("%s", line)
	res, err := a.s.client.Do(req)
	require.NoError(a.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(a.t, err)
	kind := res.Header.Get("Content-Type")
	if strings.HasPrefix(kind, "text/html") {
		a.note("%s < %d %s %s", a.name, res.StatusCode, kind, heading.Find(text))
	} else {
		a.note("%s < %s", a.name, strings.TrimSpace(fmt.Sprintf("%d %s %s", res.StatusCode, kind, bytes.TrimSpace(text))))
	}
	require.Equal(a.t, status, res.StatusCode, "%s: %s", line, text)
	var members map[string]any
	if strings.Contains(kind, "json") {
		require.NoError(a.t, json.Unmarshal(text, &members))
	}
	return members
}

// heading is what a page is about.
var heading = regexp.MustCompile(`<h1>[^<]*</h1>`)

// mail waits for the nth mail to an address, notes it, and returns its code, if it has one.
func (a *actor) mail(address string, nth int) string {
	a.t.Helper()
	m, err := a.s.Mailbox.Await(within(a.t), address, nth)
	require.NoError(a.t, err)
	link, err := testkit.Link(m)
	require.NoError(a.t, err)
	a.note("%s < mail from %q <%s> to %q <%s>: %s: %s", a.name, m.FromName, m.From, m.ToName, m.To, m.Subject, link)
	code, _ := testkit.Code(m) // some have none
	return code
}

// connect opens the actor's socket.
func (a *actor) connect(query string, header http.Header) {
	a.t.Helper()
	header.Set("Sec-Websocket-Protocol", realtime.Protocol)
	line := a.name + " > GET /socket" + query + " " + realtime.Protocol
	if h := header.Get("Authorization"); h != "" {
		line += " (" + h + ")"
	}
	a.note("%s", line)
	var err error
	a.socket, err = wsclient.DialRaw(a.t.Context(), a.s.SocketURL+query, header, nil)
	require.NoError(a.t, err)
	socket := a.socket
	a.t.Cleanup(func() { _ = socket.Close() }) // may be cut already
	// A frame that does not come must not hang the test.
	context.AfterFunc(within(a.t), func() { _ = socket.Close() })
	a.note("%s < 101 %s", a.name, socket.Header.Get("Sec-Websocket-Protocol"))
}

// says sends an event with a fresh id and takes its answer, which must come next.
func (a *actor) says(event string, data any) map[string]any {
	a.t.Helper()
	a.lastID++
	text := fmt.Sprintf(`{"id":%d,"event":"%s","data":%s}`, a.lastID, event, encode(a.t, data))
	a.note("%s >> %s", a.name, text)
	require.NoError(a.t, a.socket.Send(wsclient.Frame{Final: true, Opcode: wsclient.OpText, Payload: []byte(text)}))
	answer := a.hears("ack")
	require.EqualValues(a.t, a.lastID, answer["id"])
	return answer["data"].(map[string]any)
}

// hears takes the next frame, which must be this event.
func (a *actor) hears(event string) map[string]any {
	a.t.Helper()
	f, err := a.socket.Read()
	require.NoError(a.t, err, "%s waits for %s", a.name, event)
	require.EqualValues(a.t, wsclient.OpText, f.Opcode, "%s waits for %s and gets %q", a.name, event, f.Payload)
	a.note("%s << %s", a.name, f.Payload)
	var members map[string]any
	require.NoError(a.t, json.Unmarshal(f.Payload, &members))
	require.Equal(a.t, event, members["event"], "%s: %s", a.name, f.Payload)
	return members
}

// hearsClose takes the next frame, which must close the connection.
func (a *actor) hearsClose(code int) {
	a.t.Helper()
	f, err := a.socket.Read()
	require.NoError(a.t, err)
	require.EqualValues(a.t, wsclient.OpClose, f.Opcode, "%s: %s", a.name, f.Payload)
	got := int(f.Payload[0])<<8 | int(f.Payload[1])
	a.note("%s << close %d %s", a.name, got, f.Payload[2:])
	require.Equal(a.t, code, got)
	require.NoError(a.t, a.socket.Close())
}

// cut breaks the connection as a broken network does.
func (a *actor) cut() {
	a.t.Helper()
	a.note("%s >> (the connection breaks)", a.name)
	require.NoError(a.t, a.socket.Reset())
}

func encode(t *testing.T, v any) string {
	t.Helper()
	if v == nil {
		return ""
	}
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}

// masks find what differs between two runs, longest forms first.
var masks = []struct {
	name    string
	pattern *regexp.Regexp
}{
	{"token", regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.[\w-]+`)},
	{"refresh", regexp.MustCompile(`[0-9A-Z]{26}\.[\w-]{43}\.[\w-]{43}`)},
	{"code", regexp.MustCompile(`[\w-]{43,}`)}, // may begin and end with a hyphen
	{"id", regexp.MustCompile(`\b[0-9A-HJKMNP-TV-Z]{26}\b`)},
	{"time", regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z`)},
	{"host", regexp.MustCompile(`127\.0\.0\.1(?::\d+)?`)},
}

// text returns the transcript with everything that differs between runs masked: the same
// value has the same placeholder throughout.
func (tr *transcript) text() string {
	text := strings.TrimSpace(strings.Join(tr.lines, "\n")) + "\n"
	for _, m := range masks {
		names := map[string]string{}
		text = m.pattern.ReplaceAllStringFunc(text, func(value string) string {
			name, ok := names[value]
			if !ok {
				name = fmt.Sprintf("<%s-%d>", m.name, len(names)+1)
				names[value] = name
			}
			return name
		})
	}
	return text
}
