// Package docs_test compares what the documents show with what compiles and runs.
package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

func TestTheProgramInTheREADMEIsTheOneThatCompiles(t *testing.T) {
	program := read(t, "examples/minimal/main.go")
	begin := strings.Index(program, "type console struct")
	end := strings.Index(program, "\nfunc check(")
	require.True(t, begin > 0 && end > begin)
	assert.Contains(t, read(t, "../README.md"), "```go\n"+strings.TrimSpace(program[begin:end])+"\n```")
}

// TestTheExampleOfTheGoClientCompiles compares it with the program in examples/bot, which a test of apps/parley runs.
func TestTheExampleOfTheGoClientCompiles(t *testing.T) {
	_, rest, begun := strings.Cut(read(t, "examples/bot/main.go"), "\tdefer stop()\n\n")
	example, _, ended := strings.Cut(rest, "\n\n\tselect {")
	require.True(t, begun && ended)
	assert.Contains(t, read(t, "../README.md"), "```go\n"+strings.TrimPrefix(strings.ReplaceAll("\n"+example, "\n\t", "\n"), "\n")+"\n```")
}

// TestTheExampleOfTheBrowsersClientRuns compares it with the program that the test of the package runs.
func TestTheExampleOfTheBrowsersClientRuns(t *testing.T) {
	program := read(t, "../apps/web/client/test/npm/src/chat.ts")
	_, rest, begun := strings.Cut(program, "// The example of the README begins here.\n")
	example, _, ended := strings.Cut(rest, "  // It ends here.")
	require.True(t, begun && ended)
	shown := "```ts\n" + strings.TrimPrefix(strings.ReplaceAll("\n"+strings.TrimRight(example, "\n"), "\n  ", "\n"), "\n") + "\n```"
	for _, file := range []string{"../README.md", "../apps/web/client/README.md"} {
		assert.Contains(t, read(t, file), shown, file)
	}
}

func TestLinksBetweenDocumentsLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`)
	files, err := filepath.Glob("*.md")
	require.NoError(t, err)
	found := 0
	for _, file := range append(files, "../README.md", "../apps/web/client/README.md") {
		for _, m := range link.FindAllStringSubmatch(read(t, file), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			found++
			_, err := os.Stat(filepath.Join(filepath.Dir(file), m[1]))
			assert.NoError(t, err, "%s links to %s", file, m[1])
		}
	}
	assert.Positive(t, found)
}
