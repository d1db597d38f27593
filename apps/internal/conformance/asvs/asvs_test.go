// Package asvs_test holds the rules of security against requirements of OWASP ASVS 5.0 (Application Security Verification Standard,
// https://github.com/OWASP/ASVS), on every store, and makes the table of docs/security.md from what it finds.
package asvs_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/event"
)

var update = flag.Bool("update", false, "write the table into docs/security.md")

// document is where the table stands, between two lines.
const (
	document = "../../../../docs/security.md"
	from     = "<!-- made by the tests: begin -->\n"
	until    = "<!-- made by the tests: end -->\n"
)

// requirement is one of the standard, in our words, with what Parley does about it.
type requirement struct {
	id   string // of ASVS 5.0
	asks string // what it asks for
	does string // how Parley meets it
	// lacks says what is missing. It is then in part met, and check holds what there is.
	lacks string
	check func(t *testing.T, o opener)
}

// found is what the run came to: whether each requirement held on each store.
type found struct {
	mu   sync.Mutex
	held map[string]map[string]bool // by store, by id
}

// TestASVS holds each requirement on each store, in a test that has its id, and compares the table in the document.
func TestASVS(t *testing.T) {
	requirements := slices.Concat(input, access, passwords, sessions, tokens, operation)
	slices.SortFunc(requirements, func(a, b requirement) int { return compareIDs(a.id, b.id) })
	result := &found{held: map[string]map[string]bool{}}
	t.Run("on", func(t *testing.T) {
		for name, prepare := range stores {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				open := prepare(t) // may skip
				held := map[string]bool{}
				for _, r := range requirements {
					held[r.id] = t.Run(r.id, func(t *testing.T) { r.check(t, opener{r.id, strings.ToLower(event.NewID()), open}) })
				}
				result.mu.Lock()
				defer result.mu.Unlock()
				result.held[name] = held
			})
		}
	})
	table := result.table(requirements)
	text, err := os.ReadFile(document)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), from)
	old, after, ended := strings.Cut(rest, until)
	require.True(t, ok && ended, "the document has the two lines around the table")
	if *update {
		require.NoError(t, os.WriteFile(document, []byte(before+from+table+until+after), 0o644))
		return
	}
	require.Equal(t, table, old, "make the table again: go test ./apps/internal/conformance/asvs -update")
}

// compareIDs orders by the numbers in them.
func compareIDs(a, b string) int {
	var x, y [3]int
	for id, to := range map[string]*[3]int{a: &x, b: &y} {
		if _, err := fmt.Sscanf(id, "%d.%d.%d", &to[0], &to[1], &to[2]); err != nil {
			panic(id)
		}
	}
	return slices.Compare(x[:], y[:])
}

// table is what there is to say of each requirement. The stores that need no server are always there, so that it is the same everywhere.
func (f *found) table(requirements []requirement) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	met, partly := 0, 0
	var b strings.Builder
	for _, r := range requirements {
		verdict := "met"
		for _, store := range slices.Sorted(maps.Keys(f.held)) {
			if !f.held[store][r.id] {
				verdict = "**not met** on " + store
			}
		}
		switch {
		case verdict != "met":
		case r.lacks != "":
			verdict = "in part: " + r.lacks
			partly++
		default:
			met++
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.id, r.asks, r.does, verdict)
	}
	return fmt.Sprintf("\n%d are met, %d in part, of %d.\n\n| ASVS 5.0 | asks that | Parley | is |\n|---|---|---|---|\n%s\n", met, partly, len(requirements), b.String())
}

// TestTheRequirementsAreThoseThatCount holds that none is missing, or there twice.
func TestTheRequirementsAreThoseThatCount(t *testing.T) {
	t.Parallel()
	want := strings.Fields(`1.2.4 1.3.11 2.2.1 2.3.1 2.3.3 2.4.1 3.4.2 4.1.3 4.4.1 4.4.2 4.4.3 4.4.4 6.2.1 6.2.4 6.2.8 6.2.12 6.3.1 6.3.8 6.4.1 7.2.3
		7.2.4 7.3.1 7.3.2 7.4.1 7.4.2 7.4.3 7.5.1 8.2.2 8.3.2 9.1.1 9.1.2 9.1.3 9.2.1 9.2.2 9.2.3 10.4.5 11.4.2 11.5.1 14.2.1 16.5.1`)
	var got []string
	for _, r := range slices.Concat(input, access, passwords, sessions, tokens, operation) {
		got = append(got, r.id)
		require.NotEmpty(t, r.asks, r.id)
		require.NotEmpty(t, r.does, r.id)
	}
	slices.SortFunc(got, compareIDs)
	require.Equal(t, want, got)
}
