package wsclient_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/testkit/system"
)

// TestDataIsSentAsGiven sends an application's data in every form in which a caller may have it, by the socket and over REST, and has it back as it was.
func TestDataIsSentAsGiven(t *testing.T) {
	t.Parallel()
	s := system.Start(t, system.Config{})
	ctx := within(t)
	ada, session := of(t, s, "Ada", nil)
	client, err := wsclient.Dial(ctx, wsclient.Config{URL: s.SocketURL, Tokens: session, Rate: -1})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	_, err = client.Join(ctx, "hall")
	require.NoError(t, err)
	type sending interface {
		SendDraft(ctx context.Context, room string, d wsclient.Draft) (wsclient.Sent, error)
		EditData(ctx context.Context, room string, seq uint64, text string, data any) (uint64, error)
	}
	type place struct {
		URL string          `json:"url"`
		N   int64           `json:"n"`
		Raw json.RawMessage `json:"raw"`
	}
	const odd = `{"b":1.0,"a":[1e2,-0,9007199254740993,12345678901234567890.10],"h":"<b>&'\u0041\/</b>` + "\u2028" + `","b":{}}`
	for name, row := range map[string]struct {
		given any
		sent  string
	}{
		"JSON":              {json.RawMessage(odd), odd},
		"JSON with spaces":  {json.RawMessage("{ \"n\": 1.00,\n\t\"s\": \"a b\" }"), `{"n":1.00,"s":"a b"}`},
		"a map":             {map[string]any{"url": "https://x.example/?a=1&b=<2>", "n": json.Number("1.50"), "raw": json.RawMessage(`[1.0, "&"]`)}, `{"n":1.50,"raw":[1.0,"&"],"url":"https://x.example/?a=1&b=<2>"}`},
		"a struct":          {place{"a&b", 9007199254740993, json.RawMessage(odd)}, `{"url":"a&b","n":9007199254740993,"raw":` + odd + `}`},
		"a pointer":         {&place{URL: ">", Raw: json.RawMessage(`{}`)}, `{"url":">","n":0,"raw":{}}`},
		"JSON that is nil":  {json.RawMessage(nil), ""},
		"as long as may be": {json.RawMessage(`{"s":"` + strings.Repeat("<", chat.MaxData-8) + `"}`), `{"s":"` + strings.Repeat("<", chat.MaxData-8) + `"}`},
	} {
		for by, how := range map[string]sending{"the socket": client, "REST": ada} {
			t.Run(name+" by "+by, func(t *testing.T) {
				has := func(seq uint64) string {
					for _, by := range []interface {
						History(ctx context.Context, room string, r wsclient.Range) (wsclient.Page, error)
					}{client, ada} {
						p, err := by.History(ctx, "hall", wsclient.Range{After: seq - 1, Limit: 1})
						require.NoError(t, err)
						require.Len(t, p.Messages, 1)
						assert.Equal(t, row.sent, string(p.Messages[0].Data))
					}
					return row.sent
				}
				sent, err := how.SendDraft(ctx, "hall", wsclient.Draft{Text: "look", Data: row.given})
				require.NoError(t, err)
				has(sent.Seq)
				if row.sent == "" {
					return
				}
				sent, err = how.SendDraft(ctx, "hall", wsclient.Draft{Text: "look", Data: map[string]int{"other": 1}})
				require.NoError(t, err)
				_, err = how.EditData(ctx, "hall", sent.Seq, "look again", row.given)
				require.NoError(t, err)
				has(sent.Seq)
			})
		}
		t.Run(name+" of a room", func(t *testing.T) {
			room, err := ada.CreateRoom(ctx, wsclient.NewRoom{Title: "a & b", Data: row.given})
			require.NoError(t, err)
			assert.Equal(t, row.sent, string(room.Data))
			if row.sent == "" {
				return
			}
			topic := "<topic>"
			room, err = ada.CreateRoom(ctx, wsclient.NewRoom{})
			require.NoError(t, err)
			room, err = ada.UpdateRoom(ctx, room.Name, wsclient.RoomChange{Topic: &topic, Data: row.given})
			require.NoError(t, err)
			assert.Equal(t, row.sent, string(room.Data))
			assert.Equal(t, topic, room.Topic)
		})
	}
	for name, given := range map[string]any{"a list": []int{1}, "a text": "x", "half a character": json.RawMessage(`{"a":"\ud800"}`), "no JSON": json.RawMessage(`{`), "nothing to encode": func() {}} {
		_, err := client.SendDraft(ctx, "hall", wsclient.Draft{Text: "look", Data: given})
		require.ErrorIs(t, err, chat.ErrDataInvalid, name)
		_, err = ada.CreateRoom(ctx, wsclient.NewRoom{Data: given})
		require.ErrorIs(t, err, chat.ErrDataInvalid, name)
		_, err = ada.UpdateRoom(ctx, "hall", wsclient.RoomChange{Data: given})
		require.ErrorIs(t, err, chat.ErrDataInvalid, name)
	}
}
