package scenario

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
	"time"

	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/testkit"
	"github.com/parley-chat/parley/testkit/wsraw"
)

// transcript is what actors said and heard, one line each, in the order in which the story
// said and took it. An actor's frames are taken in the order in which they came.
type transcript struct {
	t      testing.TB
	stage  Stage
	client *http.Client
	lines  []string
	sender string // of every mail
}

func (tr *transcript) note(format string, args ...any) {
	tr.lines = append(tr.lines, fmt.Sprintf(format, args...))
}

// part begins a part of the story.
func (tr *transcript) part(title string) { tr.note("\n# %s", title) }

// within returns a context for one thing that the story waits for.
func (tr *transcript) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(tr.t.Context(), tr.stage.Patience)
}

// check ends the story if it went otherwise.
func (tr *transcript) check(right bool, format string, args ...any) {
	tr.t.Helper()
	if !right {
		tr.t.Fatalf("scenario: %s\n\nThe story so far:\n%s", fmt.Sprintf(format, args...), tr.text())
	}
}

// actor is somebody with a client for both HTTP and the socket.
type actor struct {
	*transcript
	name, node string
	socket     *wsraw.Conn
	lastID     int
}

// request makes an HTTP request, notes it and its answer, and returns the answer's members.
func (a *actor) request(method, path, token string, body any, status int) map[string]any {
	a.t.Helper()
	return a.do(method, path, token, "application/json", a.encode(body), status)
}

// form sends a form, as a browser does.
func (a *actor) form(path, body string, status int) {
	a.t.Helper()
	a.do(http.MethodPost, path, "", "application/x-www-form-urlencoded", body, status)
}

func (a *actor) do(method, path, token, media, body string, status int) map[string]any {
	a.t.Helper()
	ctx, cancel := a.within()
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, a.stage.URL+path, strings.NewReader(body))
	a.check(err == nil, "%s %s: %v", method, path, err)
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
	res, err := a.client.Do(req)
	a.check(err == nil, "%s: %v", line, err)
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	a.check(err == nil, "%s: %v", line, err)
	kind := res.Header.Get("Content-Type")
	if strings.HasPrefix(kind, "text/html") {
		a.note("%s < %d %s %s", a.name, res.StatusCode, kind, heading.Find(content))
	} else {
		a.note("%s < %s", a.name, strings.TrimSpace(fmt.Sprintf("%d %s %s", res.StatusCode, kind, bytes.TrimSpace(content))))
	}
	a.check(res.StatusCode == status, "%s: status %d and not %d: %s", line, res.StatusCode, status, content)
	var members map[string]any
	if strings.Contains(kind, "json") {
		a.check(json.Unmarshal(content, &members) == nil, "%s: the answer is no object: %s", line, content)
	}
	return members
}

// heading is what a page is about.
var heading = regexp.MustCompile(`<h1>[^<]*</h1>`)

// mail waits for the nth mail to an address, notes it, and returns its code, if it has one. Its
// sender and its link's host are configuration: every mail must have the same.
func (a *actor) mail(address string, nth int) string {
	a.t.Helper()
	ctx, cancel := a.within()
	defer cancel()
	m, err := a.stage.Mails.Await(ctx, address, nth)
	a.check(err == nil, "%v", err)
	if a.sender == "" {
		a.sender = m.From
	}
	a.check(m.From != "" && m.From == a.sender, "a mail from %q, after others from %q", m.From, a.sender)
	link, err := testkit.Link(m)
	a.check(err == nil, "%v", err)
	path, found := strings.CutPrefix(link.String(), a.stage.PublicURL)
	a.check(found, "the link %s does not begin with %s", link, a.stage.PublicURL)
	a.note("%s < mail from %q <<sender>> to %q <%s>: %s: <public-url>%s", a.name, m.FromName, m.ToName, m.To, m.Subject, path)
	code, _ := testkit.Code(m) // some have none
	return code
}

// connect opens the actor's socket.
func (a *actor) connect(query string, header http.Header) {
	a.t.Helper()
	header.Set("Sec-Websocket-Protocol", socket.Protocol)
	line := a.name + " > GET /socket" + query + " " + socket.Protocol
	if h := header.Get("Authorization"); h != "" {
		line += " (" + h + ")"
	}
	a.note("%s", line)
	ctx, cancel := context.WithCancel(a.t.Context())
	a.t.Cleanup(cancel)
	late := time.AfterFunc(a.stage.Patience, cancel)
	socket, err := wsraw.Dial(ctx, a.node+query, header, nil)
	late.Stop()
	a.check(err == nil, "%s: %v", line, err)
	a.t.Cleanup(func() { _ = socket.Close() }) // may be cut already
	a.socket = socket
	a.note("%s < 101 %s", a.name, socket.Header.Get("Sec-Websocket-Protocol"))
}

// says sends an event with a fresh id and takes its answer, which must come next.
func (a *actor) says(event string, data any) {
	a.t.Helper()
	a.asks(event, data, "ack")
}

// does sends an event, and takes its answer and what all are told of it. Which of the two comes first is open, since another node may tell it; the
// transcript has the answer first.
func (a *actor) does(event string, data any, told string) {
	a.t.Helper()
	a.send(event, data)
	answer, other := a.next("ack"), a.next(told)
	if bytes.Contains(answer.Payload, fmt.Appendf(nil, `"event":%q`, told)) {
		answer, other = other, answer
	}
	a.hearsIn(answer, "ack")
	a.hearsIn(other, told)
}

// send sends an event with a fresh id.
func (a *actor) send(event string, data any) (line string) {
	a.t.Helper()
	a.lastID++
	line = fmt.Sprintf(`{"id":%d,"event":"%s","data":%s}`, a.lastID, event, a.encode(data))
	a.note("%s >> %s", a.name, line)
	err := a.socket.Send(wsraw.Frame{Final: true, Opcode: wsraw.OpText, Payload: []byte(line)})
	a.check(err == nil, "%s says %s: %v", a.name, line, err)
	return line
}

// asks is says with another kind of answer.
func (a *actor) asks(event string, data any, kind string) {
	a.t.Helper()
	line := a.send(event, data)
	answer := a.hears(kind)
	a.check(answer["id"] == float64(a.lastID), "%s says %s and is answered %v", a.name, line, answer)
}

// hears takes the next frame, which must be this event.
func (a *actor) hears(event string) map[string]any {
	a.t.Helper()
	return a.hearsIn(a.next(event), event)
}

// hearsIn takes a frame, which must be this event.
func (a *actor) hearsIn(f wsraw.Frame, event string) map[string]any {
	a.t.Helper()
	a.check(f.Opcode == wsraw.OpText, "%s waits for %s and gets a frame of kind %d: %q", a.name, event, f.Opcode, f.Payload)
	a.note("%s << %s", a.name, f.Payload)
	var members map[string]any
	a.check(json.Unmarshal(f.Payload, &members) == nil, "%s waits for %s and gets %s", a.name, event, f.Payload)
	a.check(members["event"] == event, "%s waits for %s and gets %s", a.name, event, f.Payload)
	return members
}

// hearsClose takes the next frame, which must close the connection.
func (a *actor) hearsClose(code int) {
	a.t.Helper()
	f := a.next("the end")
	a.check(f.Opcode == wsraw.OpClose && len(f.Payload) >= 2, "%s waits for the end and gets %q", a.name, f.Payload)
	got := int(f.Payload[0])<<8 | int(f.Payload[1])
	a.note("%s << close %d %s", a.name, got, f.Payload[2:])
	a.check(got == code, "%s is closed with %d and not %d", a.name, got, code)
	err := a.socket.Close()
	a.check(err == nil, "%v", err)
}

// next reads the next frame that says something. Pings, which come when a server likes, are answered.
func (a *actor) next(awaited string) wsraw.Frame {
	a.t.Helper()
	socket := a.socket
	ctx, cancel := a.within()
	defer cancel()
	// A frame that does not come must not hang the test.
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
	defer stop()
	for {
		f, err := socket.Read()
		a.check(err == nil, "%s waits for %s: %v", a.name, awaited, err)
		if f.Opcode != wsraw.OpPing {
			return f
		}
		f.Opcode, f.Unmasked = wsraw.OpPong, false
		err = socket.Send(f)
		a.check(err == nil, "%s answers a ping: %v", a.name, err)
	}
}

// cut breaks the connection as a broken network does.
func (a *actor) cut() {
	a.t.Helper()
	a.note("%s >> (the connection breaks)", a.name)
	err := a.socket.Reset()
	a.check(err == nil, "%v", err)
}

func (a *actor) encode(v any) string {
	if v == nil {
		return ""
	}
	content, err := json.Marshal(v)
	a.check(err == nil, "%v", err)
	return string(content)
}

// text returns a member of an answer.
func text(members map[string]any, name string) string {
	s, _ := members[name].(string) // an answer without it fails where it is used
	return s
}

// masks find what differs between two runs, longest forms first.
var masks = []struct {
	name    string
	pattern *regexp.Regexp
}{
	{"token", regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.[\w-]+`)},
	{"refresh", regexp.MustCompile(`[0-9A-Z]{26}\.[\w-]{43}\.[\w-]{43}`)},
	{"device", regexp.MustCompile(`[0-9A-Z]{26}\.[\w-]{43}`)},
	{"code", regexp.MustCompile(`[\w-]{43,}`)}, // may begin and end with a hyphen
	{"id", regexp.MustCompile(`\b[0-9A-HJKMNP-TV-Z]{26}\b`)},
	{"time", regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z`)},
}

// secrets tells what must not stand in a log.
func (tr *transcript) secrets(tell func(string)) {
	said := strings.Join(tr.lines, "\n")
	for _, m := range masks[:4] {
		found := m.pattern.FindAllString(said, -1)
		tr.check(len(found) > 0, "it has no %s", m.name)
		for _, secret := range found {
			tell(secret)
			// The header of a token, and the session of a refresh or device token, are no secrets.
			for _, part := range strings.Split(secret, ".")[1:] {
				tell(part)
			}
		}
	}
	for _, secret := range []string{adaMail, bobMail, adaPassword, bobPassword, newPassword, wrongPassword, onlyOnce, "line 14"} {
		tell(secret)
	}
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
