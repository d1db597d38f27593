package humaapi_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/protocol"
)

// TestAMessageIsTheSameOverRESTAsOnTheSocket: with every field of the schema, in the same bytes.
func TestAMessageIsTheSameOverRESTAsOnTheSocket(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(adaAuthor, "hall")
	w.join(bobAuthor, "hall")
	first := w.say(bobToken, "hall", "first <&> \u2028 \"é\" 😀")
	const data = `{"b":1.50,"a":"\u00e9<&>","a":[{"deep":null}]}`
	sent := w.wantStatus(w.do("POST", "/rooms/hall/messages", `{"text":"second","clientId":"c-1","replyTo":1,"data":`+strings.ReplaceAll(data, ",", " ,\n ")+`}`, bearer(adaToken)), 201)
	o := w.object(sent)
	assert.Equal(t, []string{"at", "id", "room", "seq"}, keys(o))
	assert.Equal(t, "hall", o["room"])
	assert.EqualValues(t, first+1, o["seq"])
	again := w.wantStatus(w.do("POST", "/rooms/hall/messages", `{"text":"another","clientId":"c-1"}`, bearer(adaToken)), 201)
	assert.Equal(t, sent.body, again.body, "the same clientId has the same answer")
	for _, key := range []string{"👍", "+1"} {
		w.wantStatus(w.do("PUT", "/rooms/hall/messages/2/reactions/"+encoded(key), "", bearer(bobToken)), 200)
	}
	w.clock.advance(time.Minute)
	w.wantStatus(w.do("PATCH", "/rooms/hall/messages/2", `{"text":"second, edited"}`, bearer(adaToken)), 200)
	w.wantStatus(w.do("DELETE", "/rooms/hall/messages/1", "", bearer(bobToken)), 200)

	stored, err := w.chat.History(t.Context(), adaAuthor, "hall", chat.Range{})
	require.NoError(t, err)
	require.Len(t, stored.Messages, 2)
	onSocket := map[uint64]json.RawMessage{}
	seen := map[string]bool{}
	for _, m := range stored.Messages {
		frame := protocol.JSON(protocol.Own()).Event(protocol.Outgoing{Schema: protocol.Own().ServerEvent(protocol.EventChanged), Room: "hall", Message: m})
		var event struct{ Data json.RawMessage }
		require.NoError(t, json.Unmarshal(frame.Payload(), &event))
		onSocket[m.Seq] = event.Data
		var o map[string]any
		require.NoError(t, json.Unmarshal(event.Data, &o))
		for name := range o {
			seen[name] = true
		}
	}
	for _, f := range protocol.Own().ServerEvent(protocol.EventMessage).Data.Fields {
		assert.True(t, seen[f.Name], "the test has no message with %s", f.Name)
	}
	assert.Contains(t, string(onSocket[2]), data)

	var page struct {
		Messages []json.RawMessage
		More     bool
	}
	require.NoError(t, json.Unmarshal([]byte(w.wantStatus(w.get("/rooms/hall/messages", bearer(adaToken)), 200).body), &page))
	require.Len(t, page.Messages, 2)
	for i, m := range page.Messages {
		assert.Equal(t, string(onSocket[uint64(i+1)]), string(m))
	}
	var mine struct {
		Rooms []struct{ Last json.RawMessage }
	}
	require.NoError(t, json.Unmarshal([]byte(w.wantStatus(w.get("/rooms/mine", bearer(adaToken)), 200).body), &mine))
	require.Len(t, mine.Rooms, 1)
	assert.Equal(t, string(onSocket[2]), string(mine.Rooms[0].Last))
	var ofAdmin struct{ Messages []json.RawMessage }
	require.NoError(t, json.Unmarshal([]byte(w.admin.get("/rooms/hall/messages", bearer(adminToken)).body), &ofAdmin))
	assert.Equal(t, page.Messages, ofAdmin.Messages)
}

// TestTheSchemaOfAMessageIsThatOfTheSocket compares the OpenAPI document with the protocol.
func TestTheSchemaOfAMessageIsThatOfTheSocket(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	schemas := w.api.OpenAPI().Components.Schemas.Map()
	for _, o := range []*protocol.Object{protocol.Own().ServerEvent(protocol.EventMessage).Data} {
		s := schemas[o.Name]
		require.NotNil(t, s, o.Name)
		assert.Equal(t, o.Doc, s.Description)
		assert.Len(t, s.Properties, len(o.Fields))
		for _, f := range o.Fields {
			require.NotNil(t, s.Properties[f.Name], f.Name)
			assert.Equal(t, f.Required, slices.Contains(s.Required, f.Name), f.Name)
		}
	}
	assert.Equal(t, []string{"room", "seq", "id", "at"}, schemas["SendMessageAck"].Required)
	for _, api := range []*humaapi.API{w.api, w.admin.api} {
		listed := checkDocument(t, api)
		for _, call := range []string{
			"GET /rooms 200", "GET /rooms/{room}/messages 200", "POST /rooms/{room}/messages 201", "PATCH /rooms/{room}/messages/{seq} 200", "DELETE /rooms/{room}/messages/{seq} 200",
			"PUT /rooms/{room}/messages/{seq}/reactions/{key} 200", "DELETE /rooms/{room}/messages/{seq}/reactions/{key} 200",
		} {
			assert.True(t, listed[call], call)
		}
		for _, call := range []string{"GET /rooms/mine 200", "PUT /rooms/{room}/read 200"} {
			assert.Equal(t, api == w.api, listed[call], call)
		}
		text, err := api.Document("json")
		require.NoError(t, err)
		assert.NotContains(t, string(text), "%2F", "further paths of an operation are not in the document")
		_, err = api.Document("yaml")
		require.NoError(t, err)
	}
	assert.Nil(t, schemas["SendAsRequest"])
	require.NotNil(t, w.admin.api.OpenAPI().Components.Schemas.Map()["SendAsRequest"])
}

func TestHistoryOverREST(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(adaAuthor, "hall")
	for i := range 120 {
		w.say(adaToken, "hall", fmt.Sprint(i+1))
	}
	for _, seq := range []int{7, 3, 7, 5} {
		w.wantStatus(w.do("PATCH", fmt.Sprintf("/rooms/hall/messages/%d", seq), fmt.Sprintf(`{"text":"edited %d"}`, w.clock.now().UnixNano()), bearer(adaToken)), 200)
		w.clock.advance(time.Second)
	}
	for query, c := range map[string]struct {
		want string
		more bool
	}{
		"":                                {"21-120", true},
		"limit=2":                         {"119-120", true},
		"limit=1000":                      {"21-120", true},
		"before=4":                        {"1-3", false},
		"before=4&limit=2":                {"2-3", true},
		"before=1":                        {"", false},
		"after=117":                       {"118-120", false},
		"after=0&limit=2":                 {"1-2", true},
		"after=120":                       {"", false},
		"after=9007199254740991":          {"", false},
		"after=2&before=6":                {"3-5", false},
		"changedAfter=0":                  {"3,7,5", false},
		"changedAfter=2":                  {"7,5", false},
		"changedAfter=0&limit=1":          {"3", true},
		"changedAfter=4":                  {"", false},
		"changedAfter=2&after=5&before=1": {"7,5", false},
	} {
		o := w.object(w.wantStatus(w.get("/rooms/hall/messages?"+query, bearer(adaToken)), 200))
		var got []string
		for _, m := range o["messages"].([]any) {
			got = append(got, fmt.Sprint(m.(map[string]any)["seq"]))
		}
		want := strings.Split(c.want, ",")
		if from, to, ok := strings.Cut(c.want, "-"); ok {
			var a, b int
			_, err := fmt.Sscan(from, &a)
			require.NoError(t, err)
			_, err = fmt.Sscan(to, &b)
			require.NoError(t, err)
			want = nil
			for ; a <= b; a++ {
				want = append(want, fmt.Sprint(a))
			}
		}
		assert.Equal(t, strings.Join(want, ","), strings.Join(got, ","), query)
		assert.Equal(t, c.more, o["more"], query)
	}
	for _, query := range []string{"before=0", "before=-1", "before=a", "before=", "after=-1", "after=1.5", "after=9007199254740992", "changedAfter=", "limit=0", "limit=1001", "since=3", "before=1&before=2"} {
		w.wantProblem(w.get("/rooms/hall/messages?"+query, bearer(adaToken)), 422, "invalid")
	}
}

// TestChangesOverREST: each answers the message's place and its last change; to do it again changes nothing.
func TestChangesOverREST(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(adaAuthor, "hall")
	w.join(bobAuthor, "hall")
	w.say(adaToken, "hall", "one")
	w.say(bobToken, "hall", "two")
	for _, c := range []struct {
		token, method, path, body string
		status                    int
		want                      string // the answer, or the code of the problem
	}{
		{adaToken, "PATCH", "1", `{"text":"one, edited","data":{"a":1}}`, 200, `{"seq":1,"rev":1}`},
		{adaToken, "PATCH", "1", `{"text":"one, edited","data":{"a":1}}`, 200, `{"seq":1,"rev":1}`},
		{adaToken, "PATCH", "1", `{"text":"one, edited"}`, 200, `{"seq":1,"rev":1}`},
		{bobToken, "PATCH", "1", `{"text":"mine"}`, 403, "not_allowed"},
		{bobToken, "DELETE", "1", "", 403, "not_allowed"},
		{bobToken, "PUT", "1/reactions/%F0%9F%91%8D", "", 200, `{"seq":1,"rev":2}`},
		{bobToken, "PUT", "1/reactions/%F0%9F%91%8D", "", 200, `{"seq":1,"rev":2}`},
		{adaToken, "DELETE", "1/reactions/%F0%9F%91%8D", "", 200, `{"seq":1,"rev":2}`},
		{bobToken, "DELETE", "1/reactions/%F0%9F%91%8D", "", 200, `{"seq":1,"rev":3}`},
		{bobToken, "PUT", "1/reactions/%20", "", 422, "reaction_invalid"},
		{bobToken, "PUT", "1/reactions/" + strings.Repeat("a", 33), "", 422, "reaction_invalid"},
		{bobToken, "PUT", "1/reactions/a%00", "", 400, "malformed_url"},
		{adaToken, "PATCH", "3", `{"text":"nothing"}`, 404, "message_not_found"},
		{adaToken, "DELETE", "3", "", 404, "message_not_found"},
		{adaToken, "PUT", "3/reactions/a", "", 404, "message_not_found"},
		{adaToken, "PATCH", "0", `{"text":"nothing"}`, 422, "invalid"},
		{adaToken, "PATCH", "-1", `{"text":"nothing"}`, 422, "invalid"},
		{adaToken, "PATCH", "one", `{"text":"nothing"}`, 422, "invalid"},
		{adaToken, "PATCH", "9007199254740992", `{"text":"nothing"}`, 422, "invalid"},
		{adaToken, "PATCH", "99999999999999999999", `{"text":"nothing"}`, 422, "invalid"},
		{adaToken, "DELETE", "1?all=true", "", 422, "invalid"},
		{adaToken, "DELETE", "1", "", 200, `{"seq":1,"rev":4}`},
		{adaToken, "DELETE", "1", "", 200, `{"seq":1,"rev":4}`},
		{adaToken, "PATCH", "1", `{"text":"again"}`, 409, "message_deleted"},
		{bobToken, "PUT", "1/reactions/a", "", 409, "message_deleted"},
	} {
		a := w.do(c.method, "/rooms/hall/messages/"+c.path, c.body, bearer(c.token))
		if c.status == 200 {
			assert.JSONEq(t, c.want, w.wantStatus(a, 200).body, "%s %s %s", c.method, c.path, c.body)
		} else {
			w.wantProblem(a, c.status, c.want)
		}
	}
	for i := range chat.MaxReactionKeys {
		w.wantStatus(w.do("PUT", fmt.Sprintf("/rooms/hall/messages/2/reactions/k%d", i), "", bearer(adaToken)), 200)
	}
	w.wantProblem(w.do("PUT", "/rooms/hall/messages/2/reactions/another", "", bearer(adaToken)), 409, "too_many_reactions")
}

func TestBadMessagesAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.join(adaAuthor, "hall")
	w.say(adaToken, "hall", "one")
	for name, c := range map[string]struct {
		body        string
		status      int
		code, place string
	}{
		"no text":             {`{}`, 422, "invalid", "body"},
		"empty text":          {`{"text":""}`, 422, "text_invalid", "body.text"},
		"spaces":              {`{"text":" \n "}`, 422, "text_invalid", "body.text"},
		"long text":           {`{"text":"` + strings.Repeat("a", chat.MaxText+1) + `"}`, 422, "text_invalid", "body.text"},
		"a number":            {`{"text":7}`, 422, "invalid", "body.text"},
		"null":                {`{"text":null}`, 422, "invalid", "body.text"},
		"NUL":                 {`{"text":"a\u0000"}`, 422, "invalid", "body"},
		"half a character":    {`{"text":"a\ud800"}`, 400, "malformed", ""},
		"unknown member":      {`{"text":"a","kind":"b"}`, 422, "invalid", "body.kind"},
		"another's name":      {`{"text":"a","as":{"id":"u-bob","name":"Bob"}}`, 422, "invalid", "body.as"},
		"long client id":      {`{"text":"a","clientId":"` + strings.Repeat("a", chat.MaxClientID+1) + `"}`, 422, "client_id_invalid", "body.clientId"},
		"client id of spaces": {`{"text":"a","clientId":"a b"}`, 422, "client_id_invalid", "body.clientId"},
		"reply to the future": {`{"text":"a","replyTo":99}`, 422, "reply_to_invalid", "body.replyTo"},
		"reply to nothing":    {`{"text":"a","replyTo":0}`, 422, "invalid", "body.replyTo"},
		"reply below":         {`{"text":"a","replyTo":-1}`, 422, "invalid", "body.replyTo"},
		"reply to a half":     {`{"text":"a","replyTo":1.5}`, 422, "invalid", "body.replyTo"},
		"reply beyond":        {`{"text":"a","replyTo":9007199254740993}`, 422, "invalid", "body.replyTo"},
		"data of text":        {`{"text":"a","data":"b"}`, 422, "invalid", "body.data"},
		"data is a list":      {`{"text":"a","data":[]}`, 422, "invalid", "body.data"},
		"data is null":        {`{"text":"a","data":null}`, 422, "invalid", "body.data"},
		"much data":           {`{"text":"a","data":{"a":"` + strings.Repeat("b", chat.MaxData) + `"}}`, 422, "data_invalid", "body.data"},
		"deep data":           {`{"text":"a","data":` + strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 40) + `}`, 422, "data_invalid", "body.data"},
		"very deep data":      {`{"text":"a","data":` + strings.Repeat(`[`, 20_000), 400, "malformed", ""},
		"NUL in data":         {`{"text":"a","data":{"a\u0000":1}}`, 422, "invalid", "body"},
		"too large":           {`{"text":"a","data":{"a":"` + strings.Repeat("b", 64<<10) + `"}}`, 413, "too_large", ""},
		"two values":          {`{"text":"a"}{}`, 400, "malformed", ""},
		"no JSON":             {`text=a`, 400, "malformed", ""},
	} {
		methods := map[string]string{"POST": "/rooms/hall/messages", "PATCH": "/rooms/hall/messages/1"}
		if strings.Contains(c.body, "clientId") || strings.Contains(c.body, "replyTo") {
			delete(methods, "PATCH")
		}
		for method, path := range methods {
			d := w.wantProblem(w.do(method, path, c.body, bearer(adaToken)), c.status, c.code)
			if c.place != "" && assert.NotEmpty(t, d.Errors, name) {
				assert.Equal(t, c.place, d.Errors[0].Location, "%s %s", method, name)
			}
			w.wantProblem(w.do(method, path, `{"text":"a"}`, bearer(adaToken), header{"Content-Type", "text/plain"}), 415, "unsupported_media_type")
		}
	}
	for body, status := range map[string]int{`{}`: 422, `{"seq":-1}`: 422, `{"seq":"1"}`: 422, `{"seq":1.5}`: 422, `{"seq":null}`: 422, `{"seq":9007199254740993}`: 422, `{"seq":1,"read":1}`: 422, `[]`: 422, `{`: 400, `{"seq":1}`: 200} {
		assert.Equal(t, status, w.do("PUT", "/rooms/hall/read", body, bearer(adaToken)).StatusCode, body)
	}
	o := w.object(w.get("/rooms/hall/messages", bearer(adaToken)))
	assert.Len(t, o["messages"], 1, "nothing was stored")
}
