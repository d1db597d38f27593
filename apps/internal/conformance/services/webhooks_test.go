package services_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/webhook"
	"github.com/parley-chat/parley/apps/internal/conformance/compose"
)

// TestWebhooks tells the story to services that are told by their environment alone to tell a server of it: accounts and two socket nodes put
// facts onto Kafka, and the mailer delivers them.
func TestWebhooks(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: the services are started and told a story")
	}
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	type fact struct {
		Type string
		Data struct {
			Room      json.RawMessage // the name; a room itself in facts about it
			DeletedAt string
			Seq       uint64
			Role      *string
		}
	}
	var mu sync.Mutex
	got, unsigned, again := map[string]fact{}, 0, 0
	listener := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var f fact
		if err == nil {
			err = json.Unmarshal(body, &f)
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil || webhook.Verify([]string{secret}, r.Header, body, time.Now()) != nil {
			unsigned++
		}
		id := r.Header.Get("Webhook-Id")
		if _, known := got[id]; known {
			again++
		}
		got[id] = f
	}))
	t.Cleanup(listener.Close)

	// Not on FerretDB: its updates are not atomic, and the relay, which takes a published fact out of a message, can undo a change of it.
	f, err := compose.Read(root, map[string]string{"COMPOSE_PROFILES": "postgres"})
	require.NoError(t, err)
	for name, of := range f.Services {
		switch name {
		case "auth", "socket-1", "socket-2":
			of.Environment["PARLEY_WEBHOOK_EVENTS"] = "*"
		case "mailer":
			of.Environment["PARLEY_WEBHOOK_URL"], of.Environment["PARLEY_WEBHOOK_SECRET"], of.Environment["PARLEY_WEBHOOK_PRIVATE"] = "http://listener/hooks", secret, "on"
		}
	}
	s := start(t, f, map[string]string{
		"database": postgres(t, f), "redis": embeddedRedis(t, f), "kafka": embeddedKafka(t, f), "listener": strings.TrimPrefix(listener.URL, "http://"),
	})
	s.story(t)
	of := func(kind string) (some []fact) {
		mu.Lock()
		defer mu.Unlock()
		for _, f := range got {
			if f.Type == kind {
				some = append(some, f)
			}
		}
		return some
	}
	eventually(t, "facts of all kinds", func(context.Context) bool {
		return len(of("user.created")) > 0 && len(of("session.ended")) > 0 && len(of("message.created")) > 0
	})
	// No message is left out. The fact of one that was deleted may have waited until then: its deletion is told instead.
	eventually(t, "every message of the room", func(context.Context) bool {
		seqs := map[uint64]bool{}
		for _, f := range append(of("message.created"), of("message.changed")...) {
			if string(f.Data.Room) == `"tea"` && (f.Type == "message.created" || f.Data.DeletedAt != "") {
				seqs[f.Data.Seq] = true
			}
		}
		for seq := range uint64(lines) {
			if !seqs[seq+1] {
				return false
			}
		}
		return true
	})
	eventually(t, "the room and who has joined it", func(context.Context) bool {
		created, joined := 0, 0
		for _, f := range of("room.created") {
			if strings.Contains(string(f.Data.Room), `"name":"tea"`) {
				created++
			}
		}
		for _, f := range of("membership.changed") {
			if string(f.Data.Room) == `"tea"` && f.Data.Role != nil && *f.Data.Role == "member" {
				joined++
			}
		}
		return created == 1 && joined > 1
	})
	mu.Lock()
	defer mu.Unlock()
	assert.Zero(t, unsigned)
	t.Logf("%d facts, of which %d were delivered again", len(got), again) // which is allowed: an answer may have been late
}
