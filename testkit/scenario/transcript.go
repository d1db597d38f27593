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

	"github.com/parley-chat/parley/core/protocol"
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
	sender string            // of every mail
	names  map[string]string // what users are called, by their ids
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
	wire       Wire
	socket     *wsraw.Conn
	lastID     int
	id, token  string // of the user, since they have signed in
}

// is notes who signs in, by the answer.
func (a *actor) is(grant map[string]any) {
	who, _ := grant["user"].(map[string]any) // without it the next request fails
	a.token, a.id = text(grant, "accessToken"), text(who, "id")
	a.names[a.id] = text(who, "fullName")
}

// request makes an HTTP request, notes it and its answer, and returns the answer's members.
func (a *actor) request(method, path, token string, body any, status int) map[string]any {
	a.t.Helper()
	return a.do(method, a.stage.URL, path, token, "application/json", a.encode(body), status)
}

// call makes a request about rooms, as the actor, where the actor's node is.
func (a *actor) call(method, path string, body any, status int) map[string]any {
	a.t.Helper()
	node := "http" + strings.TrimSuffix(strings.TrimPrefix(a.node, "ws"), "/socket")
	return a.do(method, node, path, a.token, "application/json", a.encode(body), status)
}

// form sends a form, as a browser does.
func (a *actor) form(path, body string, status int) {
	a.t.Helper()
	a.do(http.MethodPost, a.stage.URL, path, "", "application/x-www-form-urlencoded", body, status)
}

func (a *actor) do(method, server, path, token, media, body string, status int) map[string]any {
	a.t.Helper()
	ctx, cancel := a.within()
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, server+path, strings.NewReader(body))
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
		a.note("%s < %s", a.name, strings.TrimSpace(fmt.Sprintf("%d %s %s", res.StatusCode, kind, a.named(bytes.TrimSpace(content)))))
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
	header.Set("Sec-Websocket-Protocol", a.wire.Protocol())
	line := a.name + " > GET /socket" + query + " <wire>"
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
	a.note("%s < 101 <wire>", a.name)
	agreed := socket.Header.Get("Sec-Websocket-Protocol")
	a.check(agreed == a.wire.Protocol(), "%s asks for %s and gets %q", a.name, a.wire.Protocol(), agreed)
}

// says sends an event with a fresh id and takes its answer, which must come next.
func (a *actor) says(event string, data any) {
	a.t.Helper()
	a.asks(event, data, "ack")
}

// does sends an event, and takes its answer and what all are told of it. Which of the two comes first is open, since another node may tell it; the
// transcript has the answer first.
func (a *actor) does(event string, data any, then string) {
	a.t.Helper()
	a.send(event, data)
	a.takes(told{event: "ack"}, told{event: then})
}

// send sends an event with a fresh id.
func (a *actor) send(event string, data any) (line string) {
	a.t.Helper()
	a.lastID++
	line = fmt.Sprintf(`{"id":%d,"event":"%s","data":%s}`, a.lastID, event, a.encode(data))
	a.note("%s >> %s", a.name, line)
	f, err := a.wire.Says([]byte(line))
	a.check(err == nil, "%s cannot say %s: %v", a.name, line, err)
	err = a.socket.Send(f)
	a.check(err == nil, "%s says %s: %v", a.name, line, err)
	return line
}

// asks is says with another kind of answer.
func (a *actor) asks(event string, data any, kind string) {
	a.t.Helper()
	a.send(event, data)
	a.hears(kind)
}

// told is something that an actor is told.
type told struct {
	event string
	about *actor // whose user it must be about; nil: whoever it is about
	// by and reason are what the event membership may lack, where a node has found in the store what others have not told it yet.
	by     *actor
	reason string
}

// heard is what two events that an actor is told are told apart by.
type heard struct {
	ID    int    `json:"id"`
	Event string `json:"event"`
	Data  struct {
		User struct {
			ID string `json:"id"`
		} `json:"user"`
	} `json:"data"`
}

// is reports whether it is what was heard.
func (t told) is(h heard) bool {
	return t.event == h.Event && (t.about == nil || t.about.id == h.Data.User.ID)
}

// String is what the actor waits for.
func (t told) String() string {
	if t.about == nil {
		return t.event
	}
	return t.event + " about " + t.about.name
}

// hears takes the next frame, which must be this event.
func (a *actor) hears(event string) {
	a.t.Helper()
	a.takes(told{event: event})
}

// takes takes as many frames, which must be these events. They may come in any order; the transcript has them in this one.
func (a *actor) takes(all ...told) {
	a.t.Helper()
	lines := make([]string, len(all))
	for range all {
		f := a.next(fmt.Sprint(all))
		line, err := a.wire.Hears(f)
		a.check(err == nil, "%s waits for %v and gets a frame of kind %d, %q: %v", a.name, all, f.Opcode, f.Payload, err)
		var e heard
		a.check(json.Unmarshal(line, &e) == nil, "%s waits for %v and gets %s", a.name, all, line)
		i := 0
		for i < len(all) && (lines[i] != "" || !all[i].is(e)) {
			i++
		}
		a.check(i < len(all), "%s waits for %v and gets %s", a.name, all, line)
		a.check(e.Event != "ack" && e.Event != "error" || e.ID == a.lastID, "%s waits for the answer to %d and gets %s", a.name, a.lastID, line)
		if e.Event == protocol.EventMembership {
			line = a.whole(line, all[i])
		}
		lines[i] = string(a.named(line))
	}
	for _, line := range lines {
		a.note("%s << %s", a.name, line)
	}
}

// whole fills in what the event membership lacks where a node has found in the store what others have not told it yet.
func (a *actor) whole(line []byte, t told) []byte {
	a.t.Helper()
	const begin, end = `{"event":"membership","data":`, "}"
	schema := protocol.Own().ServerEvent(protocol.EventMembership).Data
	data, err := protocol.ParseData(bytes.TrimSuffix(bytes.TrimPrefix(line, []byte(begin)), []byte(end)), schema)
	a.check(err == nil, "%s gets %s: %v", a.name, line, err)
	encode := func() []byte { return append(protocol.AppendData([]byte(begin), schema, data), end...) }
	a.check(bytes.Equal(encode(), line), "%s gets %s, and not %s", a.name, line, encode())
	fill := func(field, value string) {
		if _, there := data[field]; !there && value != "" {
			data[field] = value
		}
	}
	if t.by != nil {
		fill("by", t.by.id)
	}
	fill("reason", t.reason)
	return encode()
}

// nameless finds users whose names a node does not know.
var nameless = regexp.MustCompile(`"user":\{"id":"(\w+)"(?:,"name":"")?\}`)

// named fills in names that a node does not know.
func (tr *transcript) named(line []byte) []byte {
	return nameless.ReplaceAllFunc(line, func(user []byte) []byte {
		id := string(nameless.FindSubmatch(user)[1])
		if name := tr.names[id]; name != "" {
			return fmt.Appendf(nil, `"user":{"id":%q,"name":%q}`, id, name)
		}
		return user
	})
}

// hearsClose takes the next frame, which must close the connection.
func (a *actor) hearsClose(code int) {
	a.t.Helper()
	f := a.next("the end")
	a.check(f.Opcode == wsraw.OpClose && len(f.Payload) >= 2, "%s waits for the end and gets %q", a.name, f.Payload)
	got := int(f.Payload[0])<<8 | int(f.Payload[1])
	a.note("%s", strings.TrimSpace(fmt.Sprintf("%s << close %d %s", a.name, got, f.Payload[2:])))
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
	secret  bool
	pattern *regexp.Regexp
}{
	{"token", true, regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.[\w-]+`)},
	{"refresh", true, regexp.MustCompile(`[0-9A-Z]{26}\.[\w-]{43}\.[\w-]{43}`)},
	{"device", true, regexp.MustCompile(`[0-9A-Z]{26}\.[\w-]{43}`)},
	{"direct", false, regexp.MustCompile(`\bdirect:[0-9a-f]{64}\b`)},
	{"code", true, regexp.MustCompile(`[\w-]{43,}`)}, // may begin and end with a hyphen
	{"id", false, regexp.MustCompile(`\b[0-9A-HJKMNP-TV-Z]{26}\b`)},
	{"time", false, regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z`)},
}

// secrets tells what must not stand in a log.
func (tr *transcript) secrets(tell func(string)) {
	said := strings.Join(tr.lines, "\n")
	for _, m := range masks {
		found := m.pattern.FindAllString(said, -1)
		said = m.pattern.ReplaceAllString(said, "") // as it is masked: a later pattern does not find it again
		if !m.secret {
			continue
		}
		tr.check(len(found) > 0, "it has no %s", m.name)
		for _, secret := range found {
			tell(secret)
			// The header of a token, and the session of a refresh or device token, are no secrets.
			for _, part := range strings.Split(secret, ".")[1:] {
				tell(part)
			}
		}
	}
	for _, secret := range []string{adaMail, bobMail, adaPassword, bobPassword, newPassword, wrongPassword, onlyOnce, whispered, unseen, "line 14"} {
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
