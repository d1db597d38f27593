package humaapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/problem"
	"github.com/parley-chat/parley/core/user"
)

// roomCall is a call of an operation about one room, and who may make it. A room of the test has two more owners, a message of the caller (1) and one of somebody else (2).
type roomCall struct {
	operation, body string
	seq             int
	// to is the role of the user whom it is about; self is the caller.
	to string
	// public and private are the roles that may, direct those that may in a direct room. All of them are what a caller may be.
	public, private, direct string
	// userOnly is an operation that operators have not.
	userOnly bool
}

const (
	everybody = "owner moderator member reader"
	speakers  = "owner moderator member"
	runners   = "owner moderator"
)

// everyRoomCall says by hand what docs/rooms.md says of roles.
var everyRoomCall = []roomCall{
	{operation: "get-room", public: everybody + " nobody banned", private: everybody, direct: everybody},
	{operation: "list-messages", public: everybody, private: everybody, direct: everybody},
	{operation: "list-members", public: everybody, private: everybody, direct: everybody},
	{operation: "mark-read", body: `{"seq":1}`, public: everybody, private: everybody, direct: everybody, userOnly: true},
	{operation: "send-message", body: `{"text":"hello"}`, public: speakers, private: speakers, direct: speakers},
	{operation: "edit-message", seq: 1, body: `{"text":"hello again"}`, public: speakers, private: speakers, direct: speakers},
	{operation: "edit-message", seq: 2, body: `{"text":"not mine"}`},
	{operation: "delete-message", seq: 1, public: speakers, private: speakers, direct: speakers},
	{operation: "delete-message", seq: 2, public: runners, private: runners},
	{operation: "add-reaction", seq: 2, public: speakers, private: speakers, direct: speakers},
	{operation: "remove-reaction", seq: 2, public: speakers, private: speakers, direct: speakers},
	{operation: "update-room", body: `{}`, public: runners, private: runners},
	{operation: "update-room", body: `{"title":"A title"}`, public: runners, private: runners},
	{operation: "update-room", body: `{"topic":"A topic"}`, public: runners, private: runners},
	{operation: "update-room", body: `{"data":{"a":1}}`, public: runners, private: runners},
	{operation: "update-room", body: `{"retention":"720h"}`, public: runners, private: runners},
	{operation: "update-room", body: `{"kind":"private"}`, public: "owner", private: "owner"},
	{operation: "update-room", body: `{"kind":"public"}`, public: "owner", private: "owner"},
	{operation: "update-room", body: `{"title":"A title","kind":"public"}`, public: "owner", private: "owner"},
	{operation: "delete-room", public: "owner", private: "owner"},
	{operation: "set-member", to: "nobody", body: `{"role":"member"}`, public: "owner", private: runners},
	{operation: "set-member", to: "nobody", body: `{"role":"reader"}`, public: "owner", private: runners},
	{operation: "set-member", to: "nobody", body: `{"role":"moderator"}`, public: "owner", private: "owner"},
	{operation: "set-member", to: "nobody", body: `{"role":"owner"}`, public: "owner", private: "owner"},
	{operation: "set-member", to: "reader", body: `{"role":"member"}`, public: "owner", private: "owner"},
	{operation: "set-member", to: "member", body: `{"role":"reader"}`, public: "owner", private: "owner"},
	{operation: "set-member", to: "member", body: `{"role":"moderator"}`, public: "owner", private: "owner"},
	{operation: "set-member", to: "member", body: `{"role":"owner"}`, public: "owner", private: "owner"},
	{operation: "set-member", to: "moderator", body: `{"role":"member"}`, public: "owner", private: "owner"},
	{operation: "set-member", to: "owner", body: `{"role":"moderator"}`, public: "owner", private: "owner"},
	{operation: "set-member", to: "self", body: `{"role":"owner"}`, public: "owner", private: "owner"}, // who is one
	{operation: "set-member", to: "banned", body: `{"role":"member"}`},
	{operation: "remove-member", to: "self", public: everybody, private: everybody, direct: everybody},
	{operation: "remove-member", to: "nobody", public: runners, private: runners},
	{operation: "remove-member", to: "reader", public: runners, private: runners},
	{operation: "remove-member", to: "member", public: runners, private: runners},
	{operation: "remove-member", to: "moderator", public: "owner", private: "owner"},
	{operation: "remove-member", to: "owner"},
	{operation: "list-bans", public: runners, private: runners},
	{operation: "list-mutes", public: runners, private: runners},
}

func init() {
	for _, operation := range []string{"ban-user", "mute-user", "unban-user", "unmute-user"} {
		body := ""
		if !strings.HasPrefix(operation, "un") {
			body = `{"reason":"spam"}`
		}
		for _, to := range []string{"nobody", "reader", "member", "banned"} {
			everyRoomCall = append(everyRoomCall, roomCall{operation: operation, to: to, body: body, public: runners, private: runners})
		}
		everyRoomCall = append(everyRoomCall,
			roomCall{operation: operation, to: "moderator", body: body, public: "owner", private: "owner"},
			roomCall{operation: operation, to: "owner", body: body},
		)
	}
}

// elsewhere are the operations that are not about one room.
var elsewhere = []string{"list-rooms", "create-room", "my-rooms", "direct-room", "list-blocks", "block-user", "unblock-user", "get-settings", "update-settings"}

// operationsByID returns the operations of a document, and fails for one that neither list has.
func operationsByID(t *testing.T, api *humaapi.API, prefix string) map[string]*huma.Operation {
	t.Helper()
	all := map[string]*huma.Operation{}
	listed := map[string]bool{}
	for _, c := range everyRoomCall {
		listed[c.operation] = true
	}
	for _, op := range operations(api) {
		id, ok := strings.CutPrefix(op.OperationID, prefix)
		require.True(t, ok, op.OperationID)
		all[id] = op
		if strings.Contains(op.Path, "{room}") {
			assert.True(t, listed[id], "no test says who may call %s", id)
		} else {
			assert.Contains(t, elsewhere, id, "an operation about no room")
		}
	}
	for _, c := range everyRoomCall {
		if prefix == "" || !c.userOnly {
			assert.Contains(t, all, c.operation)
		}
	}
	return all
}

// documents fails if the document does not have the answer: its status, and the code of a problem.
func documents(t *testing.T, op *huma.Operation, a answer) {
	t.Helper()
	response := op.Responses[fmt.Sprint(a.StatusCode)]
	if !assert.NotNil(t, response, "%s: %d %s", op.OperationID, a.StatusCode, a.body) || a.StatusCode < 400 {
		return
	}
	var d problem.Document
	require.NoError(t, json.Unmarshal([]byte(a.body), &d), "%s: %d %s", op.OperationID, a.StatusCode, a.body)
	assert.Contains(t, response.Content["application/problem+json"].Examples, d.Code, "%s: %s", op.OperationID, a.body)
}

// target is the path of a call.
func target(path, room string, c roomCall, to string) string {
	return strings.NewReplacer("{room}", encoded(room), "{seq}", fmt.Sprint(max(c.seq, 1)), "{key}", "a", "{userId}", encoded(to)).Replace(path)
}

// as returns the token of a user of that id.
func (w *world) as(id string) string {
	w.tokens.AllowToken("token-"+id, user.Identity{UserID: user.ID(id), Name: strings.ToUpper(id), SessionID: "s-" + id})
	return "token-" + id
}

// stage makes a room of a kind with a caller and somebody else, who are what the test says, and two messages.
func (w *world) stage(kind chat.RoomKind, name, caller, other string) {
	w.t.Helper()
	members := []chat.Membership{{UserID: "u-first", Role: chat.Owner}, {UserID: "u-second", Role: chat.Owner}}
	for id, role := range map[user.ID]string{"u-caller": caller, "u-other": other} {
		switch role {
		case "", "self", "nobody":
		case "banned":
			_, err := w.store.Restrictions.Put(w.t.Context(), chat.Restriction{Room: name, UserID: id, Kind: chat.Ban, At: w.clock.now()}, nil)
			require.NoError(w.t, err)
		default:
			members = append(members, chat.Membership{UserID: id, Role: chat.Role(role)})
		}
	}
	_, err := w.store.Roles.Create(w.t.Context(), chat.Room{Name: name, Kind: kind, CreatedBy: "u-first", CreatedAt: w.clock.now()}, members...)
	require.NoError(w.t, err)
	_, err = w.store.Messages.Append(w.t.Context(), []chat.Message{
		{Room: name, ID: name + "-1", Author: chat.Author{ID: "u-caller", Name: "Caller"}, Text: "one", At: w.clock.now()},
		{Room: name, ID: name + "-2", Author: chat.Author{ID: "u-first", Name: "First"}, Text: "two", At: w.clock.now()},
	})
	require.NoError(w.t, err)
}

// stored is everything that the store has of a room.
func (w *world) stored(room string) string {
	w.t.Helper()
	r, err := w.store.Rooms.ByName(w.t.Context(), room)
	require.NoError(w.t, err)
	members, err := w.store.Roles.List(w.t.Context(), room, "", 100)
	require.NoError(w.t, err)
	messages, err := w.store.Messages.List(w.t.Context(), room, chat.Range{Limit: 100})
	require.NoError(w.t, err)
	all := []any{r, members, messages}
	for _, kind := range []chat.RestrictionKind{chat.Ban, chat.Mute} {
		held, err := w.store.Restrictions.List(w.t.Context(), room, kind, w.clock.now(), "", 100)
		require.NoError(w.t, err)
		all = append(all, held)
	}
	text, err := json.Marshal(all)
	require.NoError(w.t, err)
	return string(text)
}

// TestEveryRoleMayWhatTheTableSays makes each call of the document as each role, in each kind of room: what is not allowed is refused, and changes nothing.
func TestEveryRoleMayWhatTheTableSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	all := operationsByID(t, w.api, "")
	token, calls, allowed := w.as("u-caller"), 0, 0
	for i, c := range everyRoomCall {
		for kind, may := range map[chat.RoomKind]string{chat.Public: c.public, chat.Private: c.private, chat.Direct: c.direct} {
			for _, role := range append(strings.Fields(everybody), "nobody", "banned") {
				name := fmt.Sprint("room-", i, "-", kind, "-", role)
				w.stage(kind, name, role, c.to)
				to := "u-other"
				if c.to == "self" {
					to = "u-caller"
				}
				before := w.stored(name)
				a := w.do(all[c.operation].Method, target(all[c.operation].Path, name, c, to), c.body, bearer(token))
				what := fmt.Sprintf("%s %s of %s, as %s in a %s room: %d %s", c.operation, c.body, c.to, role, kind, a.StatusCode, a.body)
				calls++
				documents(t, all[c.operation], a)
				switch {
				case slices.Contains(strings.Fields(may), role):
					allowed++
					assert.Less(t, a.StatusCode, 300, what)
					continue
				case role == "nobody" || role == "banned":
					want := http.StatusForbidden
					if kind != chat.Public {
						want = http.StatusNotFound
					}
					assert.Equal(t, want, a.StatusCode, what)
				default:
					assert.Equal(t, http.StatusForbidden, a.StatusCode, what)
				}
				assert.Equal(t, before, w.stored(name), what)
			}
		}
	}
	t.Logf("%d calls, %d allowed", calls, allowed)
}

// TestOperatorsMayEverythingButChangeWhatADirectRoomIs makes each call of the document of operators.
func TestOperatorsMayEverythingButChangeWhatADirectRoomIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	all := operationsByID(t, w.admin.api, "admin-")
	for i, c := range everyRoomCall {
		if c.userOnly || c.to == "self" && c.operation == "remove-member" || c.to == "banned" && c.operation == "set-member" {
			continue
		}
		for _, kind := range []chat.RoomKind{chat.Public, chat.Private, chat.Direct} {
			name := fmt.Sprint("room-", i, "-", kind)
			w.stage(kind, name, "member", c.to)
			before := w.stored(name)
			a := w.admin.do(all[c.operation].Method, target(all[c.operation].Path, name, c, "u-other"), c.body, bearer(adminToken))
			documents(t, all[c.operation], a)
			if kind == chat.Direct && (c.operation == "update-room" || c.operation == "set-member") {
				w.admin.wantProblem(a, 403, "role_lacks_right")
				assert.Equal(t, before, w.stored(name))
				continue
			}
			assert.Less(t, a.StatusCode, 300, "%s %s of %s in a %s room: %s", c.operation, c.body, c.to, kind, a.body)
		}
	}
}

// TestARoomThatIsNotForOneLooksMissing: each call of the document has the same answer, byte for byte, for a room of others that is private, direct, deleted or
// kept from one by a rule, as for one that is not there.
func TestARoomThatIsNotForOneLooksMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	all := operationsByID(t, w.api, "")
	w.rules.access = func(_ chat.Author, _ chat.Action, room string) error {
		if room == "a room of rules" {
			return chat.ErrNotAllowed.Detail("not yours")
		}
		return nil
	}
	w.stage(chat.Private, "a room of others", "nobody", "member")
	w.stage(chat.Private, "a room of banned", "banned", "member")
	w.stage(chat.Direct, "a room of couple", "nobody", "member")
	w.stage(chat.Public, "a room of rules", "nobody", "member")
	w.stage(chat.Public, "a room deleted 1", "member", "member")
	w.stage(chat.Private, "a room deleted 2", "owner", "member")
	for _, name := range []string{"a room deleted 1", "a room deleted 2"} {
		w.admin.wantStatus(w.admin.do("DELETE", "/rooms/"+encoded(name), "", bearer(adminToken)), 204)
	}
	calls := slices.Clone(everyRoomCall)
	for _, c := range everyRoomCall { // and what is refused in any room
		for _, body := range []string{``, `{`, `{}`, `{"role":"king"}`, `{"until":"0001-01-01T00:00:00Z"}`, `{"kind":"direct"}`, `{"retention":"1s"}`, `{"text":""}`, `{"data":[]}`} {
			c.body = body
			calls = append(calls, c)
		}
	}
	const missing = "a room that is not"
	for _, token := range []string{w.as("u-caller"), w.as("u-nobody")} {
		for _, c := range calls {
			op := all[c.operation]
			for _, to := range []string{"u-other", "u-caller", "u-nobody", " ", strings.Repeat("u", 129)} {
				seen := map[string]int{}
				for _, name := range []string{missing, "a room of others", "a room of banned", "a room of couple", "a room of rules", "a room deleted 1", "a room deleted 2"} {
					a := w.do(op.Method, target(op.Path, name, c, to), c.body, bearer(token))
					assert.GreaterOrEqual(t, a.StatusCode, 400, "%s %s", c.operation, name)
					documents(t, op, a)
					h, err := json.Marshal(a.Header)
					require.NoError(t, err)
					seen[fmt.Sprintln(a.StatusCode, string(h), strings.ReplaceAll(a.body, name, missing))]++
				}
				assert.Len(t, seen, 1, "%s %s: %v", c.operation, c.body, slices.Collect(maps.Keys(seen)))
				if !strings.Contains(op.Path, "{userId}") {
					break
				}
			}
		}
	}
	o := w.object(w.get("/rooms", bearer(w.as("u-nobody"))))
	assert.Empty(t, o["rooms"])
	assert.JSONEq(t, `{"rooms":[]}`, w.get("/rooms/mine", bearer(w.as("u-caller"))).body, "what was deleted is nobody's")
}
