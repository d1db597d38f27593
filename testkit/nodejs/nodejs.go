// Package nodejs lets tests run programs in Node.js, with packages from npm.
//
// The packages are those of apps/internal/conformance/socketio/node: run npm ci there, or somewhere else with its package.json and
// package-lock.json, and name the node_modules folder in PARLEY_TEST_NODE_MODULES. A test whose packages are missing is skipped, and
// fails where the variable is set.
package nodejs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Variable names the folder that holds the packages.
const Variable = "PARLEY_TEST_NODE_MODULES"

// home is where the packages are unless Variable says otherwise, from the root of the module.
const home = "apps/internal/conformance/socketio/node/node_modules"

// Modules returns the folder with the packages, absolute, if all of these are in it and Node.js is in PATH. Otherwise the
// test is skipped, or fails if the environment names a folder.
func Modules(t testing.TB, packages ...string) string {
	t.Helper()
	give := t.Skipf
	modules := os.Getenv(Variable)
	if modules != "" {
		give = t.Fatalf
	} else {
		modules = filepath.Join(root(t), filepath.FromSlash(home))
	}
	modules, err := filepath.Abs(modules)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("node"); err != nil {
		give("SKIPPED: there is no node in PATH")
	}
	for _, name := range packages {
		if _, err := os.Stat(filepath.Join(modules, filepath.FromSlash(name), "package.json")); err != nil {
			give("SKIPPED: %s is not in %s, and %s names no other folder: see package nodejs", name, modules, Variable)
		}
	}
	return modules
}

// root is the folder of the module in which the test runs.
func root(t testing.TB) string {
	t.Helper()
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder
		}
		up := filepath.Dir(folder)
		if up == folder {
			t.Fatal("the test is not in a module")
		}
		folder = up
	}
}

// Command prepares node with arguments: scripts find the packages in modules. It is killed when ctx ends.
func Command(ctx context.Context, modules string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "node", args...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	return cmd
}

// Answer is what the Go side does when a script asks for it. The result becomes JSON. It may fail the test.
type Answer func(t *testing.T, args json.RawMessage) any

// line is what a script writes, by play.js: one a line.
type line struct {
	Begin string          `json:"begin"` // a case begins
	End   string          `json:"end"`   // it ends
	Error string          `json:"error"` // why it failed
	Ask   string          `json:"ask"`   // the name of an Answer
	Args  json.RawMessage `json:"args"`
	Done  bool            `json:"done"` // there are no more cases
}

// Map runs a script of JavaScript that reads in as JSON from its standard input, and writes out to its standard output. It
// fails t if that does not work, with what the script complains of.
func Map(t testing.TB, modules, script string, in, out any) {
	t.Helper()
	input, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	cmd := Command(t.Context(), modules, "-e", script)
	cmd.Stdin = bytes.NewReader(input)
	var output, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("node: %v\n%s", err, &complaints)
	}
	if err := json.Unmarshal(output.Bytes(), out); err != nil {
		t.Fatalf("what node writes is not what is expected: %v", err)
	}
}

// Play runs a script that is written with play.js, which stands beside the packages' package.json. Each of its cases is a
// subtest. argument is what the script finds in play.argument. It fails after patience.
func Play(t *testing.T, modules, script string, argument any, patience time.Duration, answers map[string]Answer) {
	t.Helper()
	text, err := json.Marshal(argument)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := Command(ctx, modules, script, string(text))
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &player{lines: bufio.NewReader(out), in: in, answers: answers}
	ended := p.play(t)
	if !ended {
		cancel()
	}
	err = cmd.Wait()
	if ctx.Err() != nil && ended {
		err = fmt.Errorf("it did not end within %v", patience)
	}
	if err != nil || !ended {
		t.Errorf("%s: ended in order: %v, %v; it says:\n%s", script, ended, err, &complaints)
	}
	if p.cases == 0 {
		t.Errorf("%s has no cases", script)
	}
}

type player struct {
	lines   *bufio.Reader
	in      io.Writer
	answers map[string]Answer
	cases   int
}

// next reads what the script says; false when it says nothing more.
func (p *player) next(t *testing.T) (l line, ok bool) {
	for {
		text, err := p.lines.ReadBytes('\n')
		if err != nil {
			return line{}, false
		}
		l = line{}
		if json.Unmarshal(text, &l) == nil && (l.Begin != "" || l.End != "" || l.Ask != "" || l.Done) {
			return l, true
		}
		t.Logf("%s", bytes.TrimSpace(text))
	}
}

// play reports whether the script came to its end.
func (p *player) play(t *testing.T) bool {
	for {
		l, ok := p.next(t)
		switch {
		case !ok:
			return false
		case l.Done:
			return true
		case l.Begin == "":
			t.Errorf("the script says %+v outside of a case", l)
			return false
		}
		p.cases++
		whole := false
		t.Run(l.Begin, func(t *testing.T) { whole = p.one(t) })
		if !whole {
			return false
		}
	}
}

// one is one case. It reports whether the script came to its end.
func (p *player) one(t *testing.T) bool {
	for {
		l, ok := p.next(t)
		switch {
		case !ok:
			t.Error("the script ended")
			return false
		case l.End != "":
			if l.Error != "" {
				t.Error(l.Error)
			}
			return true
		case l.Ask == "":
			t.Errorf("the script says %+v", l)
			return false
		}
		answer, ok := p.answers[l.Ask]
		if !ok {
			t.Errorf("the script asks for %q", l.Ask)
			return false
		}
		text, err := json.Marshal(answer(t, l.Args))
		if err == nil {
			_, err = p.in.Write(append(text, '\n'))
		}
		if err != nil {
			t.Errorf("the answer to %q: %v", l.Ask, err)
			return false
		}
	}
}
