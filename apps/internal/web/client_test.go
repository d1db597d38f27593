package web

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/realtime"
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
	out, err := node(t, "--test", filepath.Join("testdata", "parley.test.js"), filepath.Join("testdata", "session.test.js"))
	require.NoError(t, err, out)
	assert.NotContains(t, out, "# pass 0\n", "the tests were found")
}

// TestClientObeysCloseCodes compares the client's table with the server's.
func TestClientObeysCloseCodes(t *testing.T) {
	t.Parallel()
	out, err := node(t, "--input-type=module", "--eval", `
		import { afterClose } from "./assets/parley.js";
		console.log(JSON.stringify(Object.fromEntries([...Array(4000).keys()].map((i) => [1000 + i, afterClose(1000 + i)]))));`)
	require.NoError(t, err, out)
	var rules map[string]string
	require.NoError(t, json.Unmarshal([]byte(out), &rules), out)
	require.NotEmpty(t, realtime.CloseCodes())
	for _, c := range realtime.CloseCodes() {
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
