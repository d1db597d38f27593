package mongostore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/user"
)

// Whatever a call is about, no command has more updates than a server can do at once.
func TestCommandsAreBounded(t *testing.T) {
	t.Parallel()
	const many = 130
	url := empty(t)
	b := newBetween(t, url, alone)
	s := at(t, b.url)
	ctx := t.Context()
	var mu sync.Mutex
	most := map[string]int{} // of each command, in one of them
	b.sees(func(command string, n int) {
		mu.Lock()
		defer mu.Unlock()
		most[command] = max(most[command], n)
	})
	id := func(i int) user.ID { return user.ID(fmt.Sprintf("user-%04d", i)) }
	var said []chat.Message
	var joins []chat.Membership
	var marks []chat.Mark
	var edits []chat.Change
	for i := range many {
		m := message("hall", i)
		m.Author.ID = id(i)
		said, joins = append(said, m), append(joins, chat.Membership{Room: "hall", UserID: id(i), Since: noon})
		marks = append(marks, chat.Mark{Room: "hall", User: chat.Author{ID: id(i)}, Read: many})
		edits = append(edits, edit("hall", uint64(i+1), "y"))
		edits[i].By.ID = id(i)
	}
	n := 0
	members, err := s.Members().Recording(chat.RoomRecord{Membership: func(m chat.Membership) (event.Event, bool) {
		n++
		return event.Event{ID: fmt.Sprint("e", n), Topic: "t", Type: string(m.UserID), Time: noon, Data: []byte("{}")}, true
	}})
	require.NoError(t, err)
	_, err = members.Add(ctx, joins...)
	require.NoError(t, err)
	_, err = s.Messages().Append(ctx, said)
	require.NoError(t, err)
	_, err = mongostore.Database(s).Collection("parley_members").UpdateMany(ctx, bson.D{}, bson.D{{Key: "$unset", Value: bson.D{{Key: "read", Value: ""}}}}) // as of a program without marks
	require.NoError(t, err)
	_, err = s.Members().Add(ctx, joins...)
	require.NoError(t, err)
	pending, err := s.Outbox().Pending(ctx, 2*many)
	require.NoError(t, err)
	require.Len(t, pending, many)
	ids := make([]string, many)
	for i, e := range pending {
		ids[i] = e.ID
	}
	require.NoError(t, s.Outbox().Published(ctx, ids...))
	pending, err = s.Outbox().Pending(ctx, 1)
	require.NoError(t, err)
	require.Empty(t, pending)
	_, err = mongostore.Database(s).Collection("parley_members").UpdateMany(ctx, bson.D{}, bson.D{{Key: "$set", Value: bson.D{{Key: "read", Value: int64(1)}}}})
	require.NoError(t, err)
	marked, err := s.Members().Mark(ctx, marks)
	require.NoError(t, err)
	for i, m := range marked {
		require.NoError(t, m.Err)
		require.EqualValues(t, many, m.Read, i)
	}
	changed, err := s.Messages().Change(ctx, edits)
	require.NoError(t, err)
	for i, c := range changed {
		require.NoError(t, c.Err)
		require.EqualValues(t, i+1, c.Rev)
	}
	removed, err := s.Messages().Prune(ctx, "hall", many+1)
	require.NoError(t, err)
	assert.Equal(t, many, removed)

	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, 50, most["update"])
	assert.Equal(t, many, most["insert"], "what is no update is not cut")
	assert.Equal(t, many-1, most["delete"], "the last message leaves its number behind")
}

func TestWhatOneCommandTakes(t *testing.T) {
	t.Parallel()
	writes := func(updates, deletes int, more ...mongo.WriteModel) (all []mongo.WriteModel) {
		for range updates {
			all = append(all, mongo.NewUpdateOneModel())
		}
		for range deletes {
			all = append(all, mongo.NewDeleteOneModel())
		}
		return append(all, more...)
	}
	for name, test := range map[string]struct {
		writes []mongo.WriteModel
		want   int
	}{
		"none":                         {nil, 0},
		"one":                          {writes(1, 0), 1},
		"as many updates as it takes":  {writes(50, 0), 50},
		"one update more":              {writes(51, 0), 50},
		"updates, and deletions":       {writes(50, 20), 70},
		"an update behind them":        {writes(50, 20, mongo.NewUpdateOneModel()), 70},
		"as many deletions":            {writes(0, 1000), 1000},
		"one deletion more":            {writes(0, 1001), 1000},
		"more of both than fit":        {writes(50, 1000), 1000},
		"an update that comes too far": {writes(0, 1000, mongo.NewUpdateOneModel()), 1000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, mongostore.CommandOf(test.writes))
		})
	}
}

// Nothing makes several writes but what holds the bounds.
func TestWritesAreMadeInOnePlace(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	in := map[string]int{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		if n := strings.Count(string(text), ".BulkWrite(ctx"); n > 0 {
			in[name] = n
		}
	}
	assert.Equal(t, map[string]int{"bulk.go": 1}, in)
}
