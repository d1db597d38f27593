// Package docs_test compares what the documents show with what compiles and runs.
package docs_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// Who reads the README finds every guide.
func TestTheREADMENamesEachGuide(t *testing.T) {
	files, err := filepath.Glob("*.md")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	_, list, _ := strings.Cut(read(t, "../README.md"), "\n## Documents\n")
	for _, file := range files {
		assert.Contains(t, list, "](docs/"+file+")")
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

// documents are what tells of tests.
func documents(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.md")
	require.NoError(t, err)
	return append(files, "../README.md", "../CONTRIBUTING.md", "../apps/web/client/README.md")
}

// testsOf returns the names of the tests of each package, by its folder below the root, and the text of their files.
func testsOf(t *testing.T) (names map[string][]string, texts map[string]string) {
	t.Helper()
	names, texts = map[string][]string{}, map[string]string{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark|Example)\w*)\(`)
	require.NoError(t, filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		folder := filepath.ToSlash(filepath.Dir(strings.TrimPrefix(path, ".."+string(filepath.Separator))))
		text := read(t, path)
		for _, m := range declared.FindAllStringSubmatch(text, -1) {
			names[folder] = append(names[folder], m[1])
		}
		texts[folder] += text
		return nil
	}))
	return names, texts
}

// command is a "go test" of a document: its packages, and what -run has, "" for all tests.
type command struct{ packages, run string }

// commandsOf returns the commands of tests in a document. Within a table | is written \|.
func commandsOf(text string) []command {
	var all []command
	inCode := regexp.MustCompile("(?m)go test ([^`\n]+)")
	run := regexp.MustCompile(`\s-run[ =](?:'([^']*)'|"([^"]*)"|(\S+))`)
	folder := regexp.MustCompile(`(?:^|\s)(\./\S*)`)
	for _, m := range inCode.FindAllStringSubmatch(text, -1) {
		line := " " + strings.ReplaceAll(m[1], `\|`, "|")
		var c command
		if r := run.FindStringSubmatch(line); r != nil {
			c.run = r[1] + r[2] + r[3]
			line = strings.Replace(line, r[0], " ", 1)
		}
		for _, f := range folder.FindAllStringSubmatch(line, -1) {
			c.packages += " " + f[1]
		}
		if c.packages != "" {
			all = append(all, c)
		}
	}
	return all
}

// TestTestsThatDocumentsNameAreThere: each command of a document finds tests in each of its packages, and each part of
// what it asks for finds some; and every test that is named is one.
func TestTestsThatDocumentsNameAreThere(t *testing.T) {
	names, texts := testsOf(t)
	everywhere := slices.Concat(slices.Collect(maps.Values(names))...)
	named := regexp.MustCompile(`\bTest[A-Z]\w+`)
	suite := regexp.MustCompile(`\bcontract\.([A-Z]\w+)`)
	suites := ""
	files, err := filepath.Glob("../contract/*.go")
	require.NoError(t, err)
	for _, file := range files {
		suites += read(t, file)
	}
	found := 0
	for _, file := range documents(t) {
		text := read(t, file)
		for _, name := range named.FindAllString(text, -1) {
			assert.True(t, slices.ContainsFunc(everywhere, func(have string) bool { return strings.Contains(have, name) }), "%s: there is no %s", file, name)
		}
		for _, m := range suite.FindAllStringSubmatch(text, -1) {
			assert.Regexp(t, `(?m)^(?:func|var|type|\t) ?`+m[1]+`\b`, suites, "%s: there is no %s", file, m[0])
		}
		for _, c := range commandsOf(text) {
			found++
			matched := map[string]bool{} // parts of run
			for pattern := range strings.FieldsSeq(c.packages) {
				folder, below := strings.CutSuffix(strings.TrimPrefix(pattern, "./"), "...")
				folder = strings.TrimSuffix(folder, "/")
				any := false
				for have, tests := range names {
					if have != folder && (!below || folder != "" && !strings.HasPrefix(have, folder+"/")) {
						continue
					}
					for part := range strings.SplitSeq(c.run, "|") {
						if found := matches(part, tests, texts[have]); found {
							any, matched[part] = true, true
						}
					}
				}
				assert.True(t, any, "%s: %s has no test for %q", file, pattern, c.run)
			}
			for part := range strings.SplitSeq(c.run, "|") {
				assert.True(t, matched[part], "%s:%s has no test for %q", file, c.packages, part)
			}
		}
	}
	assert.Greater(t, found, 50)
}

// matches reports whether -run with this part finds a test, and where it names a test within one, whether there is one of
// that name.
func matches(part string, tests []string, text string) bool {
	top, within, _ := strings.Cut(part, "/")
	found := slices.ContainsFunc(tests, regexp.MustCompile(top).MatchString)
	return found && (within == "" || regexp.MustCompile(`"[^"\n]*`+strings.ReplaceAll(within, "_", ".")).MatchString(text))
}

// TestTheTableOfFaultsIsWhole: each fault has what happened, what is promised, a test by name, and what was broken to see it fail.
func TestTheTableOfFaultsIsWhole(t *testing.T) {
	rows := 0
	for line := range strings.Lines(read(t, "faults.md")) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "| what happened") || strings.Trim(line, "|- ") == "" {
			continue
		}
		rows++
		cells := regexp.MustCompile(`[^\\]\|`).Split(strings.Trim(line, "|"), -1)
		if !assert.Len(t, cells, 4, line) {
			continue
		}
		for _, cell := range cells {
			assert.NotEmpty(t, strings.TrimSpace(cell), line)
		}
		commands := commandsOf(cells[2])
		assert.NotEmpty(t, commands, line)
		for _, c := range commands {
			assert.NotEmpty(t, c.run, "%s: which test of %s?", line, c.packages)
		}
	}
	assert.Greater(t, rows, 40)
}
