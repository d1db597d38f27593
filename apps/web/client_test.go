package web

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/protocol"
)

// oldestNode is the first version whose test runner can play the clock.
const oldestNode = 20

// node runs Node.js, or skips the test and says why.
func node(t *testing.T, args ...string) (string, error) {
	t.Helper()
	program, err := exec.LookPath("node")
	if err != nil {
		t.Skip("SKIPPED: the browser client is not tested, because there is no node in PATH")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	version, err := exec.CommandContext(ctx, program, "--version").Output()
	require.NoError(t, err)
	major, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(string(version)), "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < oldestNode {
		t.Skipf("SKIPPED: the browser client is not tested, because node is %s and has to be %d or newer", strings.TrimSpace(string(version)), oldestNode)
	}
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	return string(out), err
}

func TestClient(t *testing.T) {
	t.Parallel()
	out, err := node(t, "--test", filepath.Join("client", "test", "parley.test.js"), filepath.Join("client", "test", "session.test.js"), filepath.Join("client", "test", "addresses.test.js"), filepath.Join("client", "test", "places.test.js"))
	require.NoError(t, err, out)
	assert.NotContains(t, out, "# pass 0\n", "the tests were found")
}

// TestClientObeysCloseCodes compares the client's table with the server's.
func TestClientObeysCloseCodes(t *testing.T) {
	t.Parallel()
	out, err := node(t, "--input-type=module", "--eval", `
		import { afterClose } from "./client/parley.js";
		console.log(JSON.stringify(Object.fromEntries([...Array(4000).keys()].map((i) => [1000 + i, afterClose(1000 + i)]))));`)
	require.NoError(t, err, out)
	var rules map[string]string
	require.NoError(t, json.Unmarshal([]byte(out), &rules), out)
	require.NotEmpty(t, protocol.CloseCodes())
	for _, c := range protocol.CloseCodes() {
		want := "stop"
		switch {
		case c.Later:
			want = "later"
		case c.NewToken:
			want = "renew"
		case c.Return:
			want = "now"
		}
		assert.Equal(t, want, rules[fmt.Sprint(c.Code)], "%d: %s", c.Code, c.Doc)
	}
}

// TestClientRefusesWhatTheServerClosesFor compares what the client takes for a name of a room, for a text, and for the
// key of a reaction, with what the server does. A name that only the server refuses would close the connection.
func TestClientRefusesWhatTheServerClosesFor(t *testing.T) {
	t.Parallel()
	parts := []string{
		"a", "Z", "7", " ", "\u00e9", "e\u0301", "\u0645", "\u06cc", "\u0627", "\u062f", "\u064e", "\u0dc1", "\u0dca", "\u0dbb", "\u0d28", "\u0d4d", "\u0915",
		"\u094d", "\u200c", "\u200d", "\u200b", "\u00ad", "\u115f", "\u3164", "\u2800", "\u00a0", "\u2028", "\ufe0f", "\ufe0e", "\U000e0101", "\U0001F468",
		"\U0001F469", "\U0001F3FD", "\U0001F3F4", "\U000E0067", "\U000E0062", "\U000E007F", "\u2764", "\U0001F525", "\u180b", "\u1820", "\u034f", "\u0000", "\n",
	}
	names := []string{
		"lobby", "Stra\u00dfe 7", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0dc1\u0dca\u200d\u0dbb\u0dd3 \u0dbd\u0d82\u0d9a\u0dcf", "\u0d28\u0d4d\u200d", "\U0001F468\u200d\U0001F469\u200d\U0001F467",
		"\U0001F469\U0001F3FD\u200d\U0001F692", "\U0001F3F4\U000E0067\U000E0062\U000E0065\U000E006E\U000E0067\U000E007F", "\u2764\ufe0f\u200d\U0001F525",
	}
	curated := len(names)
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		var b strings.Builder
		for range 1 + random.IntN(6) {
			b.WriteString(parts[random.IntN(len(parts))])
		}
		names = append(names, b.String())
	}
	names = append(names, strings.Repeat("\U0001F525", chat.MaxReactionKey), strings.Repeat("\U0001F525", chat.MaxReactionKey+1))
	file := filepath.Join(t.TempDir(), "names.json")
	text, err := json.Marshal(names)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, text, 0o600))
	out, err := node(t, "--input-type=module", "--eval", `
		import { readFileSync } from "node:fs";
		import { checkReaction, checkRoom, checkText } from "./client/parley.js";
		const names = JSON.parse(readFileSync(process.argv[1], "utf8"));
		console.log(JSON.stringify(names.map((name) => [!checkRoom(name), !checkText(name), !checkReaction(name)])));`, file)
	require.NoError(t, err, out)
	var taken [][3]bool
	require.NoError(t, json.Unmarshal([]byte(out), &taken), out)
	require.Len(t, taken, len(names))
	stricter := 0
	for i, name := range names {
		room, said := chat.CheckRoom(name) == nil, chat.CheckText(name) == nil
		if i < curated {
			assert.True(t, room && taken[i][0], "%+q: the server takes it: %v, the client: %v", name, room, taken[i][0])
		}
		assert.False(t, taken[i][0] && !room, "%+q closes the connection", name)
		assert.Equal(t, said, taken[i][1], "%+q as a text", name)
		assert.False(t, taken[i][2] && chat.CheckReaction(name) != nil, "%+q as a reaction", name)
		if room && !taken[i][0] {
			stricter++
		}
	}
	t.Logf("%d of %d names are refused by the client alone", stricter, len(names))
	assert.Less(t, stricter, len(names)/100)
}
