// Command report reads the output of "go test -json" from standard input, prints what failed
// and one line a package, and fails on a failure and on a skip that is not expected. At its end
// it says again how each failure begins, so that the end of a long output tells what is wrong.
//
//	go test -json ./... | go run ./.ci/report [-conformance FILE] 'TestName=reason' …
//
// An argument names a test that may be skipped; one that was not skipped is no error. A promise
// that an adapter declares not to keep is skipped with leave. With -conformance the table of
// what each adapter keeps is written to FILE; see conformance.go.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

type line struct {
	Action, Package, Test, Output, Key, Value string
	Elapsed                                   float64
}

func main() {
	file := flag.String("conformance", "", "write the conformance table to this file")
	flag.Parse()
	expected := map[string]string{}
	for _, a := range flag.Args() {
		name, reason, _ := strings.Cut(a, "=")
		expected[name] = reason
	}
	found := newTable()
	err := report(os.Stdin, os.Stdout, expected, found)
	if *file != "" {
		err = errors.Join(err, found.check(), writeFile(*file, found))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func writeFile(name string, t *table) error {
	var text strings.Builder
	t.write(&text)
	return os.WriteFile(name, []byte(text.String()), 0o644)
}

// report prints to out what the tests in in came to, and tells found about each.
func report(in io.Reader, out io.Writer, expected map[string]string, found *table) error {
	output := map[string][]string{}
	passed, failed, skipped, unexpected := 0, 0, 0, 0
	var again strings.Builder
	tests := map[string]bool{} // packages in which a test has failed
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var l line
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			fmt.Fprintln(out, lines.Text()) // a build failure, say
			continue
		}
		key := l.Package + " " + l.Test
		declared := found.note(l)
		switch l.Action {
		case "output", "build-output":
			output[key] = append(output[key], l.Output)
		case "build-fail":
			failed++
			fmt.Fprint(out, strings.Join(output[key], ""))
		case "pass", "fail", "skip":
			if l.Test == "" {
				if l.Action != "skip" { // a package without tests
					fmt.Fprintf(out, "%-4s %6.1fs %s\n", l.Action, l.Elapsed, l.Package)
				}
				if l.Action == "fail" {
					failed++
					fmt.Fprint(out, strings.Join(output[key], ""))
					if !tests[l.Package] {
						again.WriteString(beginning(key, output[key]))
					}
				}
				continue
			}
			switch l.Action {
			case "pass":
				passed++
			case "fail":
				failed++
				fmt.Fprintf(out, "FAIL %s\n%s", key, strings.Join(output[key], ""))
				again.WriteString(beginning(key, output[key]))
				tests[l.Package] = true
			case "skip":
				skipped++
				if !declared && !isExpected(expected, l.Test) {
					unexpected++
					fmt.Fprintf(out, "SKIP that was not expected: %s\n%s", key, strings.Join(output[key], ""))
					again.WriteString(beginning(key, output[key]))
				}
			}
			delete(output, key)
		}
	}
	fmt.Fprintf(out, "%s%d passed, %d failed, %d skipped\n", again.String(), passed, failed, skipped)
	if failed > 0 || unexpected > 0 || passed == 0 {
		return errors.Join(fmt.Errorf("%d failed, %d skipped without leave", failed, unexpected), lines.Err())
	}
	return lines.Err()
}

// beginning is how what is wrong with a test begins: 30 lines at most, of 300 bytes at most, from the first one that says so. It is
// empty where the test says nothing itself, but a part of it.
func beginning(key string, output []string) string {
	var said []string
	for _, text := range strings.Split(strings.Join(output, ""), "\n") {
		if line := strings.TrimSpace(text); line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			said = append(said, text)
		}
	}
	if len(said) == 0 {
		return ""
	}
	from := slices.IndexFunc(said, func(line string) bool {
		return slices.ContainsFunc([]string{"Error Trace:", "panic: ", "DATA RACE", "fatal error: "}, func(sign string) bool { return strings.Contains(line, sign) })
	})
	said = said[max(0, from):]
	said = said[:min(len(said), 30)]
	for i, line := range said {
		said[i] = strings.ToValidUTF8(line[:min(len(line), 300)], "")
	}
	return "\nAGAIN " + key + "\n" + strings.Join(said, "\n") + "\n"
}

// isExpected reports whether a test, or one that it is part of, may be skipped.
func isExpected(expected map[string]string, test string) bool {
	for name := range selfAndParents(test) {
		if _, ok := expected[name]; ok {
			return true
		}
	}
	return false
}

// selfAndParents yields a test's name and then the names of those that it is part of.
func selfAndParents(test string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for yield(test) {
			at := strings.LastIndexByte(test, '/')
			if at < 0 {
				return
			}
			test = test[:at]
		}
	}
}
