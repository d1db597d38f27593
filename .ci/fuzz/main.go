// Command fuzz runs every fuzz target of the module, one after the other, each for the same time or number of calls, and fails if one
// fails, or has no corpus to begin with.
//
//	go run ./.ci/fuzz                # 60 seconds each
//	go run ./.ci/fuzz -for 20000x    # 20,000 calls each
//	go run ./.ci/fuzz -run Letter    # those whose name matches
//
// What a target fails on is written to its folder testdata/fuzz, and is part of its corpus from then on.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// target is a fuzz test.
type target struct {
	pkg, name string
	seeds     bool
}

var (
	declared = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(\w+ \*testing\.F\) \{$`)
	calls    = regexp.MustCompile(`execs: (\d+)`)
	corpus   = regexp.MustCompile(`total: (\d+)`)
)

// targets finds what is below root, in order.
func targets(root string) (all []target, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found := declared.FindAllSubmatchIndex(text, -1)
		for i, at := range found {
			body := text[at[1]:]
			if i+1 < len(found) {
				body = text[at[1]:found[i+1][0]]
			}
			if end := bytes.Index(body, []byte("\n}\n")); end >= 0 {
				body = body[:end]
			}
			folder, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			t := target{pkg: "./" + filepath.ToSlash(folder), name: string(text[at[2]:at[3]])}
			stored, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "testdata", "fuzz", t.name, "*"))
			t.seeds = len(stored) > 0 || bytes.Contains(body, []byte("f.Add(")) || bytes.Contains(body, []byte("seed(f"))
			all = append(all, t)
		}
		return nil
	})
	slices.SortFunc(all, func(a, b target) int { return strings.Compare(a.pkg+" "+a.name, b.pkg+" "+b.name) })
	return all, err
}

// late is what the toolchain says when the end of the time comes while it makes an input smaller. It has found nothing then.
func late(output []byte) bool {
	return bytes.Contains(output, []byte("context deadline exceeded")) && !bytes.Contains(output, []byte("Failing input written"))
}

// fuzz runs a target, and returns its output.
func fuzz(t target, each string, most time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	// Inputs are hardly made smaller, which can take a minute each.
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", each, "-fuzzminimizetime", "10x", t.pkg)
	return cmd.CombinedOutput()
}

// last is the last number that a pattern finds.
func last(p *regexp.Regexp, output []byte) string {
	found := p.FindAllSubmatch(output, -1)
	if len(found) == 0 {
		return "-"
	}
	return string(found[len(found)-1][1])
}

func main() {
	each := flag.String("for", "60s", "how long each target runs, or how many calls with an x behind")
	most := flag.Duration("most", 10*time.Minute, "after how long a target is given up, which is a failure")
	only := flag.String("run", "", "the targets whose package and name this pattern matches")
	list := flag.Bool("list", false, "print them, and run none")
	flag.Parse()
	all, err := targets(".")
	pattern, wrong := regexp.Compile(*only)
	if err != nil || wrong != nil || len(all) == 0 {
		fmt.Fprintln(os.Stderr, "fuzz: no targets:", err, wrong)
		os.Exit(2)
	}
	failed, ran := 0, 0
	for _, t := range all {
		if !pattern.MatchString(t.pkg + " " + t.name) {
			continue
		}
		ran++
		if !t.seeds {
			failed++
			fmt.Printf("FAIL  %s %s has no corpus: neither f.Add nor testdata/fuzz\n", t.pkg, t.name)
			continue
		}
		if *list {
			fmt.Println(t.pkg, t.name)
			continue
		}
		began := time.Now()
		output, err := fuzz(t, *each, *most)
		if err != nil && late(output) {
			err = nil
		}
		verdict := "ok  "
		if err != nil {
			failed++
			verdict = "FAIL"
			fmt.Printf("%s", output)
		}
		fmt.Printf("%s  %-30s %-24s %9s calls, corpus of %s, %.0fs\n", verdict, t.pkg, t.name, last(calls, output), last(corpus, output), time.Since(began).Seconds())
	}
	fmt.Printf("%d targets, %d failed\n", ran, failed)
	if failed > 0 || ran == 0 {
		os.Exit(1)
	}
}
