package humaapi_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/chat"
)

var (
	randomCalls = flag.Int("rooms.calls", 2000, "how many random calls about rooms are made")
	randomSeed  = flag.Uint64("rooms.seed", 1, "the same seed makes the same calls about rooms")
)

// some are values of every kind, good and bad ones, for any place.
var some = []any{
	"", "a", "hall", "den", "owner", "moderator", "member", "reader", "public", "private", "direct", "720h", "0s", "1m", "59s", "P30D", "u-ada", "u-bob", "u-nobody", "👍", "2030-01-01T00:00:00Z", "0001-01-01T00:00:00Z",
	" ", "\x00", "\x01", "a/b", "..", "%2F", strings.Repeat("ü", 101), strings.Repeat("😀", 600), strings.Repeat("x", 5000),
	0, 1, -1, 2, 1.5, 9007199254740991, 1e30, true, false, nil, []any{}, []any{"a"}, map[string]any{}, map[string]any{"a": 1}, map[string]any{"id": "u-bob", "name": "Bob"}, map[string]any{"a": map[string]any{"b": []any{nil}}},
}

// random is a value for a schema: mostly of its type, sometimes anything.
func random(r *rand.Rand, api *huma.OpenAPI, s *huma.Schema) any {
	for s != nil && s.Ref != "" {
		s = api.Components.Schemas.SchemaFromRef(s.Ref)
	}
	if s == nil || r.IntN(8) == 0 {
		return some[r.IntN(len(some))]
	}
	if s.Type != huma.TypeObject || len(s.Properties) == 0 {
		for {
			v := some[r.IntN(len(some))]
			switch v.(type) {
			case string:
				if s.Type == huma.TypeString {
					return v
				}
			case int, float64:
				if s.Type == huma.TypeInteger || s.Type == huma.TypeNumber {
					return v
				}
			case map[string]any:
				if s.Type == huma.TypeObject {
					return v
				}
			}
			if r.IntN(50) == 0 {
				return v
			}
		}
	}
	o := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) { // in an order, so that a seed means the same each time
		if slices.Contains(s.Required, name) && r.IntN(10) > 0 || r.IntN(3) == 0 {
			o[name] = random(r, api, s.Properties[name])
		}
	}
	if r.IntN(20) == 0 {
		o[fmt.Sprint("x", r.IntN(10))] = some[r.IntN(len(some))]
	}
	return o
}

// TestRandomCallsHaveDocumentedAnswers makes calls of both documents, with parameters and bodies made from their schemas: none fails on the server's side, every status and every
// code stands in the document, and a room that has an owner keeps one.
func TestRandomCallsHaveDocumentedAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	r := rand.New(rand.NewPCG(*randomSeed, 2))
	var rooms []string
	people := []string{"u-ada", "u-bob", "u-eve", "system", "u-nobody", "/", "é"}
	seen := map[int]int{}
	for i := range *randomCalls {
		if i%100 == 0 { // what was deleted is gone for good
			rooms = []string{fmt.Sprint("hall ", i), fmt.Sprint("den/", i), "nowhere"}
			w.make(`{"name":"` + rooms[0] + `"}`)
			w.make(`{"name":"` + rooms[1] + `","kind":"private"}`)
			for _, room := range rooms[:2] {
				w.role(room, "u-bob", "owner")
				w.role(room, "u-eve", "reader")
				w.say(adaToken, room, "one")
			}
		}
		s, token := w.system, w.as(people[r.IntN(3)])
		if r.IntN(4) == 0 {
			s, token = w.admin, adminToken
		}
		all := operations(s.api)
		slices.SortFunc(all, func(a, b *huma.Operation) int { return strings.Compare(a.OperationID, b.OperationID) })
		op := all[r.IntN(len(all))]
		to, room, key, seq := people[r.IntN(len(people))], rooms[r.IntN(len(rooms))], "👍", fmt.Sprint(r.IntN(4))
		if r.IntN(10) == 0 {
			for _, place := range []*string{&to, &room, &key, &seq} {
				if text, ok := some[r.IntN(len(some))].(string); ok && text != "" {
					*place = text
				}
			}
		}
		path := strings.NewReplacer("{room}", encoded(room), "{userId}", encoded(to), "{key}", encoded(key), "{seq}", encoded(seq)).Replace(op.Path)
		for _, p := range op.Parameters {
			if p.In != "query" || r.IntN(4) > 0 {
				continue
			}
			sign := "?"
			if strings.Contains(path, "?") {
				sign = "&"
			}
			path += sign + p.Name + "=" + encoded(fmt.Sprint(random(r, s.api.OpenAPI(), p.Schema)))
		}
		body := ""
		if op.RequestBody != nil {
			text, err := json.Marshal(random(r, s.api.OpenAPI(), op.RequestBody.Content["application/json"].Schema))
			require.NoError(t, err)
			body = string(text)
			if r.IntN(30) == 0 {
				body = body[:r.IntN(len(body))]
			}
		}
		owned := ""
		if _, err := w.store.Rooms.ByName(t.Context(), room); err == nil && s == w.system && w.owners(room) > 0 {
			owned = room
		}
		a := s.do(op.Method, path, body, bearer(token))
		seen[a.StatusCode]++
		require.Less(t, a.StatusCode, 500, "%s %s %s: %s", op.Method, path, body, a.body)
		if a.StatusCode != 404 || !strings.Contains(a.body, `"not_found"`) { // a path of nobody
			documents(t, op, a)
		}
		if owned != "" {
			assert.Positive(t, w.owners(owned), "%s %s %s", op.Method, path, body)
		}
		w.clock.advance(1)
	}
	t.Logf("seed %d: %v", *randomSeed, seen)
	assert.Greater(t, seen[200]+seen[201]+seen[204], *randomCalls/10)
}

func (w *world) owners(room string) (n int) {
	w.t.Helper()
	members, err := w.store.Roles.List(w.t.Context(), room, "", 100)
	require.NoError(w.t, err)
	for _, m := range members {
		if m.Role == chat.Owner {
			n++
		}
	}
	return n
}
