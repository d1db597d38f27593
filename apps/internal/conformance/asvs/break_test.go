package asvs_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var breaks = flag.Bool("asvs.break", false, "break the rule behind each requirement on purpose, and expect its test to fail")

// variable says which mutant is in force, by its place in the table.
const variable = "PARLEY_ASVS_BREAK"

// helper is a file that each package with a mutant gets.
const helper = `package %s

import (
	"math/rand/v2"
	"os"
	"sync"
)

func isBroken(mutant string) bool { return os.Getenv("` + variable + `") == mutant }

// isPredictable is the same in each process.
type isPredictable struct {
	mu     sync.Mutex
	source *rand.ChaCha8
}

func (r *isPredictable) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.source == nil {
		r.source = rand.NewChaCha8([32]byte{})
	}
	return r.source.Read(p)
}
`

// TestTheTestsFailWhereARuleIsBroken builds these tests with the mutants in them, none of which is in force unless the environment says so, and expects the test of
// a requirement to hold without, and to fail with each of its mutants. A mutant whose place is not there any more is an error.
func TestTheTestsFailWhereARuleIsBroken(t *testing.T) {
	of := map[string]bool{}
	for _, m := range mutants {
		of[m.id] = true
	}
	for _, r := range slices.Concat(input, access, passwords, sessions, tokens, operation) {
		require.True(t, of[r.id], "%s has no mutant", r.id)
	}
	programs := overlays(t)
	if !*breaks {
		t.Log("-asvs.break is not given: the mutants fit the code, and none was tried")
		return
	}
	folder := t.TempDir()
	var built []string
	for i, o := range programs {
		program := filepath.Join(folder, fmt.Sprint("mutants", i))
		list := filepath.Join(folder, fmt.Sprint("overlay", i, ".json"))
		text, err := json.Marshal(map[string]any{"Replace": o.write(t, filepath.Join(folder, strconv.Itoa(i)))})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(list, text, 0o600))
		out, err := exec.Command("go", "test", "-c", "-overlay", list, "-o", program, ".").CombinedOutput() //nolint:gosec // the arguments are ours
		require.NoError(t, err, "%s", out)
		built = append(built, program)
	}
	for i, o := range programs {
		without := map[string]string{} // what a program says with no mutant in force, by store
		for _, n := range o.mutants {
			m := mutants[n]
			if without[m.where()] == "" {
				without[m.where()] = try(built[i], m.where(), "", "")
			}
			t.Run(m.id+" "+m.about, func(t *testing.T) {
				t.Parallel()
				name := ": TestASVS/on/" + m.where() + "/" + m.id + " "
				require.Contains(t, without[m.where()], "--- PASS"+name, "it fails without the mutant")
				assert.Contains(t, try(built[i], m.where(), m.id, strconv.Itoa(n)), "--- FAIL"+name, "the rule is broken, and the test holds")
			})
		}
	}
}

// where is the store on which the mutant shows.
func (m mutant) where() string { return cmp.Or(m.store, "memory") }

// try runs the test of a requirement, or of all, and returns what it prints.
func try(program, store, id, mutant string) string {
	pattern := "^TestASVS$/^on$/^" + store + "$"
	if id != "" {
		pattern += "/^" + strings.ReplaceAll(id, ".", `\.`) + "$"
	}
	cmd := exec.Command(program, "-test.v", "-test.run", pattern) //nolint:gosec // the arguments are ours
	cmd.Env = append(os.Environ(), variable+"="+mutant)
	out, _ := cmd.CombinedOutput() // it fails in any case where not all run, since the table is not whole
	return string(out)
}

// overlay is what one program is built with.
type overlay struct {
	mutants []int             // their places in the table
	files   map[string][]byte // by their names from the root
}

// overlays puts mutants together of which none changes what another changes.
func overlays(t *testing.T) []*overlay {
	t.Helper()
	var all []*overlay
next:
	for i, m := range mutants {
		text, err := os.ReadFile(filepath.Join(root, m.file))
		require.NoError(t, err)
		require.Equal(t, 1, bytes.Count(text, []byte(m.old)), "what %s %q changes in %s", m.id, m.about, m.file)
		instead := []byte(strings.ReplaceAll(m.new, "isBroken()", fmt.Sprintf("isBroken(%q)", strconv.Itoa(i))))
		for _, o := range all {
			now, ok := o.files[m.file]
			if !ok {
				now = text
			}
			if bytes.Count(now, []byte(m.old)) == 1 {
				o.files[m.file], o.mutants = bytes.Replace(now, []byte(m.old), instead, 1), append(o.mutants, i)
				continue next
			}
		}
		all = append(all, &overlay{[]int{i}, map[string][]byte{m.file: bytes.Replace(text, []byte(m.old), instead, 1)}})
	}
	return all
}

// write puts the files of an overlay, and the helper of each package, below a folder, and returns what stands for what.
func (o *overlay) write(t *testing.T, folder string) map[string]string {
	t.Helper()
	require.NoError(t, os.Mkdir(folder, 0o700))
	replace := map[string]string{}
	put := func(name string, text []byte) {
		at, err := filepath.Abs(filepath.Join(root, name))
		require.NoError(t, err)
		file := filepath.Join(folder, strings.ReplaceAll(name, "/", "_"))
		require.NoError(t, os.WriteFile(file, text, 0o600))
		replace[at] = file
	}
	for name, text := range o.files {
		put(name, text)
		parsed, err := parser.ParseFile(token.NewFileSet(), name, text, parser.PackageClauseOnly)
		require.NoError(t, err)
		put(filepath.Join(filepath.Dir(name), "is_broken.go"), fmt.Appendf(nil, helper, parsed.Name.Name))
	}
	return replace
}
