package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const adapters = "github.com/parley-chat/parley/adapters/"

// said is the output of a test that runs one promise of the port Rooms.
func said(pkg, test, promise, exception, verdict string) string {
	var b strings.Builder
	attr := func(key, value string) {
		fmt.Fprintf(&b, `{"Action":"attr","Package":%q,"Test":%q,"Key":%q,"Value":%q}`+"\n", adapters+pkg, test, key, value)
	}
	attr("parley.port", "Rooms")
	attr("parley.case", promise)
	attr("parley.rule", "The rule of "+promise+".")
	if exception != "" {
		attr("parley.exception", exception)
	}
	if verdict != "" {
		fmt.Fprintf(&b, `{"Action":%q,"Package":%q,"Test":%q}`+"\n", verdict, adapters+pkg, test)
	}
	return b.String()
}

// on is the output of contract.On.
func on(pkg, test, adapter, server string) string {
	const attr = `{"Action":"attr","Package":%q,"Test":%q,"Key":%q,"Value":%q}` + "\n"
	out := fmt.Sprintf(attr, adapters+pkg, test, "parley.adapter", adapter)
	if server != "" {
		out += fmt.Sprintf(attr, adapters+pkg, test, "parley.server", server)
	}
	return out
}

func read(t *testing.T, expected map[string]string, lines ...string) (tab *table, printed string, err error) {
	t.Helper()
	tab = newTable()
	var out strings.Builder
	err = report(strings.NewReader(strings.Join(lines, "")), &out, expected, tab)
	return tab, out.String(), err
}

func text(tab *table) string {
	var b strings.Builder
	tab.write(&b)
	return b.String()
}

func TestTable(t *testing.T) {
	t.Parallel()
	tab, _, err := read(t, nil,
		said("memory", "TestRooms/first", "first", "", "pass"),
		said("memory", "TestRooms/an_other", "an other", "there is | no *other*", "skip"),
		said("memory", "TestRooms/last", "last", "", "pass"),
		// Two configurations on one server, at once; and another server, which keeps less.
		on("sql", "Test/A/one", "sql", "Maria"), on("sql", "Test/A/two", "sql", "Maria"), on("sql", "Test/B", "sql", "Lite"),
		said("sql", "Test/A/one/first", "first", "", "pass"), said("sql", "Test/B/first", "first", "", "fail"),
		said("sql", "Test/A/two/first", "first", "", "pass"), said("sql", "Test/B/first", "first", "", "pass"),
		said("sql", "Test/A/one/last", "last", "", "pass"),
		said("sql", "Test/A/two/last", "last", "no time", "skip"),
		said("sql", "Test/B/last", "last", "", ""), // it never ends
		said("sql", "Test/B/an_other", "an other", "", "skip"),
	)
	require.Error(t, err, "a case failed")
	require.NoError(t, tab.check())
	got := text(tab)
	assert.True(t, strings.HasPrefix(got, preamble))
	assert.Equal(t, `
## Summary

Promises kept, of those that the port makes.

| adapter | on | ports | promises | not kept |
|---|---|---|---|---|
| memory | – | [Rooms](#rooms) 2/3 | 2/3 | 1 |
| sql | Lite | [Rooms](#rooms) 0/3 | 0/3 | 3 |
| sql | Maria | [Rooms](#rooms) 1/3 | 1/3 | 2 |

## Rooms

| promise | memory | sql (Lite) | sql (Maria) |
|---|---|---|---|
| **first**: The rule of first. | yes | **failed** | yes |
| **an other**: The rule of an other. | (1) | **not run** |  |
| **last**: The rule of last. | yes | **failed** | (2) |

1. memory: there is \| no \*other\*
2. sql (Maria): no time
`, strings.TrimPrefix(got, preamble))
	assert.Equal(t, got, text(tab), "it is the same again")
}

func TestTheOrderOfTheRunChangesNothing(t *testing.T) {
	t.Parallel()
	suite := func(pkg string) string {
		return said(pkg, "TestRooms/b", "b", "", "pass") + said(pkg, "TestRooms/a", "a", "", "pass") + said(pkg, "TestRooms/c", "c", "no", "skip")
	}
	some := said("memory", "TestSome/c", "c", "no", "skip")
	one, _, err := read(t, nil, suite("memory"), suite("other"), some)
	require.NoError(t, err)
	two, _, err := read(t, nil, some, suite("other"), suite("memory"))
	require.NoError(t, err)
	assert.Equal(t, text(one), text(two))
	assert.Regexp(t, `(?s)\*\*b\*\*.*\*\*a\*\*.*\*\*c\*\*`, text(one), "the suite's order")
}

func TestWhatATableWouldPassOver(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ lines, want string }{
		"nothing ran":       {`{"Action":"pass","Package":"p","Test":"T"}`, "no contract was run"},
		"nobody says on":    {said("../apps/x", "T/a", "a", "", "pass"), "no contract.On says"},
		"one says, one not": {on("sql", "TestA", "sql", "Lite") + said("sql", "TestB/a", "a", "", "pass"), "TestB/a runs a contract"},
		"on beside":         {on("sql", "TestA", "sql", "Lite") + said("sql", "TestAB/a", "a", "", "pass"), "TestAB/a runs a contract"},
	} {
		tab, _, err := read(t, nil, c.lines)
		require.NoError(t, err, name)
		assert.ErrorContains(t, tab.check(), c.want, name)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	pass := `{"Action":"pass","Package":"p","Test":"TestGood"}` + "\n"
	skip := `{"Action":"output","Package":"p","Test":"TestA/b","Output":"no server\n"}` + "\n" + `{"Action":"skip","Package":"p","Test":"TestA/b"}` + "\n"
	for name, c := range map[string]struct {
		lines    string
		expected map[string]string
		want     string // of the error; none: no error
		printed  string
	}{
		"good":                     {pass, nil, "", "1 passed, 0 failed, 0 skipped\n"},
		"nothing ran":              {"", nil, "0 failed", "0 passed"},
		"a failure":                {pass + `{"Action":"fail","Package":"p","Test":"TestA"}`, nil, "1 failed", "FAIL p TestA\n"},
		"a package fails":          {pass + `{"Action":"fail","Package":"p"}`, nil, "1 failed", "fail    0.0s p\n"},
		"it does not build":        {pass + `{"Action":"build-fail","ImportPath":"p"}`, nil, "1 failed", ""},
		"a skip":                   {pass + skip, nil, "1 skipped without leave", "SKIP that was not expected: p TestA/b\nno server\n"},
		"a skip with leave":        {pass + skip, map[string]string{"TestA/b": "why"}, "", "1 skipped"},
		"of a test with leave":     {pass + skip, map[string]string{"TestA": "why"}, "", "1 skipped"},
		"with leave for another":   {pass + skip, map[string]string{"TestA/bc": "why", "Test": "why"}, "1 skipped without leave", ""},
		"a promise not declared":   {pass + said("m", "T/a", "a", "", "skip"), nil, "1 skipped without leave", ""},
		"a promise declared":       {pass + said("m", "T/a", "a", "why", "skip"), nil, "", "1 skipped"},
		"not JSON is printed":      {"# p\nx.go:1: oops\n" + pass, nil, "", "x.go:1: oops\n"},
		"a test that has no end":   {`{"Action":"run","Package":"p","Test":"TestA"}`, nil, "0 failed", ""},
		"a package without a test": {pass + `{"Action":"skip","Package":"p"}`, nil, "", "1 passed, 0 failed, 0 skipped\n"},
	} {
		_, printed, err := read(t, c.expected, c.lines)
		assert.Contains(t, printed, c.printed, name)
		if c.want == "" {
			assert.NoError(t, err, name)
		} else {
			assert.ErrorContains(t, err, c.want, name)
		}
	}
}

// TestEachTestWithoutAnAdapterIsNamed holds that one who mends the first is not told of the next by another run.
func TestEachTestWithoutAnAdapterIsNamed(t *testing.T) {
	t.Parallel()
	tab, _, _ := read(t, nil, said("../apps/x", "TestA/a", "a", "", "pass"), said("../apps/x", "TestA/b", "b", "", "pass"), said("../apps/x", "TestB/a", "a", "", "pass"))
	err := tab.check()
	require.ErrorContains(t, err, "TestA/")
	require.ErrorContains(t, err, "TestB/")
	assert.Equal(t, 1, strings.Count(err.Error(), "\n"), "a line for each test, not for each promise")
}

// TestTheEndSaysWhatIsWrong holds that the end of the output has the failure itself, and not what came after it.
func TestTheEndSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	said := func(test, text string) string {
		return fmt.Sprintf(`{"Action":"output","Package":"p","Test":%q,"Output":%q}`+"\n", test, text)
	}
	failed := func(test string) string { return fmt.Sprintf(`{"Action":"fail","Package":"p","Test":%q}`+"\n", test) }
	log := said("TestA/b", strings.Repeat("    process_test.go:44: a log\n", 1000))
	_, printed, err := read(t, nil,
		said("TestA", "=== RUN   TestA\n"), said("TestA/b", "=== RUN   TestA/b\n"), said("TestA/b", "    a_test.go:1: started\n"),
		said("TestA/b", "    a_test.go:2: \n        \tError Trace:\ta_test.go:2\n        \tError:      \tit is wrong "+strings.Repeat("é", 1000)+"\n"), log,
		said("TestA/b", "--- FAIL: TestA/b (1.00s)\n"), failed("TestA/b"), said("TestA", "--- FAIL: TestA (1.00s)\n"), failed("TestA"),
		said("TestC", "    c_test.go:3: another one\n"), failed("TestC"), `{"Action":"output","Package":"p","Output":"FAIL\n"}`+"\n", `{"Action":"fail","Package":"p"}`+"\n",
		`{"Action":"output","Package":"q","Output":"it cannot begin\n"}`+"\n", `{"Action":"fail","Package":"q"}`+"\n",
	)
	require.Error(t, err)
	_, end, _ := strings.Cut(printed, "\nAGAIN ")
	const wrong = "        \tError:      \tit is wrong "
	assert.Equal(t, "p TestA/b\n        \tError Trace:\ta_test.go:2\n"+wrong+strings.Repeat("é", (300-len(wrong))/2)+"\n"+
		strings.Repeat("    process_test.go:44: a log\n", 28)+
		"\nAGAIN p TestC\n    c_test.go:3: another one\n"+
		"\nAGAIN q \nit cannot begin\n"+
		"0 passed, 5 failed, 0 skipped\n", end)
}
