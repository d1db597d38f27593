package auth_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEnterIsTheOneWayIn reads the package: what opens a session has one caller, so that no method passes by what enter asks for.
func TestEnterIsTheOneWayIn(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	calls := map[string][]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, call := range []string{"s.openSession(", "cfg.Sessions.Create("} {
			for range strings.Count(string(text), call) {
				calls[call] = append(calls[call], file)
			}
		}
	}
	require.Equal(t, map[string][]string{"s.openSession(": {"enter.go"}, "cfg.Sessions.Create(": {"session.go"}}, calls)
}
