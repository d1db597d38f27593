// Command report reads the output of "go test -json" from standard input, prints what failed
// and one line a package, and fails on a failure and on a skip that is not expected.
//
//	go test -json ./... | go run ./.ci/report 'TestName=reason' …
//
// An argument names a test that may be skipped; one that was not skipped is no error.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

type line struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

func main() {
	expected := map[string]string{}
	for _, a := range os.Args[1:] {
		name, reason, _ := strings.Cut(a, "=")
		expected[name] = reason
	}
	output := map[string][]string{}
	passed, failed, skipped, unexpected := 0, 0, 0, 0
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var l line
		if json.Unmarshal(in.Bytes(), &l) != nil {
			fmt.Println(in.Text()) // a build failure, say
			continue
		}
		key := l.Package + " " + l.Test
		switch l.Action {
		case "output", "build-output":
			output[key] = append(output[key], l.Output)
		case "build-fail":
			failed++
			fmt.Print(strings.Join(output[key], ""))
		case "pass", "fail", "skip":
			if l.Test == "" {
				if l.Action != "skip" { // a package without tests
					fmt.Printf("%-4s %6.1fs %s\n", l.Action, l.Elapsed, l.Package)
				}
				if l.Action == "fail" {
					failed++
					fmt.Print(strings.Join(output[key], ""))
				}
				continue
			}
			switch l.Action {
			case "pass":
				passed++
			case "fail":
				failed++
				fmt.Printf("FAIL %s\n%s", key, strings.Join(output[key], ""))
			case "skip":
				skipped++
				if !isExpected(expected, l.Test) {
					unexpected++
					fmt.Printf("SKIP that was not expected: %s\n%s", key, strings.Join(output[key], ""))
				}
			}
			delete(output, key)
		}
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	if err := in.Err(); err != nil || failed > 0 || unexpected > 0 || passed == 0 {
		fmt.Fprintf(os.Stderr, "%d failed, %d skipped without leave, %v\n", failed, unexpected, err)
		os.Exit(1)
	}
}

// isExpected reports whether a test, or one that it is part of, may be skipped.
func isExpected(expected map[string]string, test string) bool {
	for name := test; name != ""; {
		if _, ok := expected[name]; ok {
			return true
		}
		at := strings.LastIndexByte(name, '/')
		if at < 0 {
			return false
		}
		name = name[:at]
	}
	return false
}
