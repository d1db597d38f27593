package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/parley-chat/parley/contract"
)

// preamble stands above the table. It names the command that makes the whole file.
const preamble = `# Conformance

What each adapter keeps of each port's contract, and on which server that was seen. This file is made by the tests:

` + "```sh" + `
go test -json ./... | go run ./.ci/report -conformance docs/conformance.md
` + "```" + `

CI makes it again, from a run on every server, and compares. A promise that was run several times, or in several
configurations, counts as the worst of them. *yes*: kept. A number: not kept, for the reason below the table. *failed* and
*not run* mean what they say. Empty: the suite was not run whole.
`

// verdict is what became of a promise, from good to bad.
type verdict int

const (
	absent verdict = iota
	kept
	excepted
	notRun
	failed
)

// outcome is a verdict, and the reasons of the exceptions.
type outcome struct {
	verdict verdict
	reasons map[string]bool
}

// column is an adapter on a server.
type column struct{ adapter, server string }

func (c column) String() string {
	if c.server == "" {
		return c.adapter
	}
	return c.adapter + " (" + c.server + ")"
}

func compareColumns(a, b column) int {
	if order := strings.Compare(a.adapter, b.adapter); order != 0 {
		return order
	}
	return strings.Compare(a.server, b.server)
}

// port is what was found out about a suite.
type port struct {
	rules    map[string]string   // of each promise
	orders   map[string][]string // the promises in the order in which a test ran them
	outcomes map[column]map[string]*outcome
}

// table collects what the subtests of contract.Run say.
type table struct {
	attributes map[[2]string]map[string]string // of a package's test
	running    map[[2]string]bool              // checks a promise, and has no result yet
	names      map[string]bool                 // packages that call contract.On
	results    []result
}

type result struct {
	pkg, test  string
	verdict    verdict
	attributes map[string]string
}

func newTable() *table {
	return &table{
		attributes: map[[2]string]map[string]string{}, running: map[[2]string]bool{}, names: map[string]bool{},
	}
}

// note takes in one line, and reports whether it skips a promise that is declared not to be kept.
func (t *table) note(l line) (declared bool) {
	if l.Test == "" {
		return false
	}
	key := [2]string{l.Package, l.Test}
	switch l.Action {
	case "attr":
		if t.attributes[key] == nil {
			t.attributes[key] = map[string]string{}
		}
		t.attributes[key][l.Key] = l.Value
		switch l.Key {
		case contract.AttrPort:
			t.running[key] = true
		case contract.AttrAdapter:
			t.names[l.Package] = true
		}
	case "pass", "fail", "skip":
		if !t.running[key] {
			return false
		}
		a := t.attributes[key]
		r := result{pkg: l.Package, test: l.Test, attributes: a}
		switch {
		case l.Action == "pass":
			r.verdict = kept
		case l.Action == "fail":
			r.verdict = failed
		case a[contract.AttrException] != "":
			r.verdict = excepted
		default:
			r.verdict = notRun
		}
		t.results = append(t.results, r)
		delete(t.running, key)
		delete(t.attributes, key) // a second run says it again
		return r.verdict == excepted
	}
	return false
}

// all returns the results, with a failure for each check that did not end. What the package contract runs
// without saying on which adapter tests the suites themselves and is not among them.
func (t *table) all() []result {
	all := slices.Clone(t.results)
	for key := range t.running {
		all = append(all, result{pkg: key[0], test: key[1], verdict: failed, attributes: t.attributes[key]})
	}
	return slices.DeleteFunc(all, func(r result) bool {
		_, err := t.on(r)
		return err != nil && path.Base(r.pkg) == "contract"
	})
}

// on returns the adapter and the server of a result: what contract.On said of the test or of one
// that it is part of. A package of adapters that never calls contract.On is one adapter without a server.
func (t *table) on(r result) (column, error) {
	for name := range selfAndParents(r.test) {
		if a := t.attributes[[2]string{r.pkg, name}]; a[contract.AttrAdapter] != "" {
			return column{a[contract.AttrAdapter], a[contract.AttrServer]}, nil
		}
	}
	if dir, name := path.Split(r.pkg); !t.names[r.pkg] && path.Base(dir) == "adapters" {
		return column{adapter: name}, nil
	}
	return column{}, fmt.Errorf("%s %s runs a contract, and no contract.On says on which adapter", r.pkg, r.test)
}

// check returns an error for each test that a table would pass over, once.
func (t *table) check() error {
	all := t.all()
	if len(all) == 0 {
		return fmt.Errorf("no contract was run")
	}
	over := map[string]error{}
	for _, r := range all {
		if _, err := t.on(r); err != nil {
			over[r.pkg+" "+r.test[:max(0, strings.LastIndexByte(r.test, '/'))]] = err
		}
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(over)) {
		errs = append(errs, over[name])
	}
	return errors.Join(errs...)
}

// ports sorts the results by port.
func (t *table) ports() map[string]*port {
	ports := map[string]*port{}
	for _, r := range t.all() {
		c, err := t.on(r)
		if err != nil {
			continue // check says so
		}
		name, promise := r.attributes[contract.AttrPort], r.attributes[contract.AttrCase]
		p := ports[name]
		if p == nil {
			p = &port{rules: map[string]string{}, orders: map[string][]string{}, outcomes: map[column]map[string]*outcome{}}
			ports[name] = p
		}
		p.rules[promise] = r.attributes[contract.AttrRule]
		suite := r.pkg + " " + r.test[:max(0, strings.LastIndexByte(r.test, '/'))]
		if !slices.Contains(p.orders[suite], promise) {
			p.orders[suite] = append(p.orders[suite], promise)
		}
		if p.outcomes[c] == nil {
			p.outcomes[c] = map[string]*outcome{}
		}
		o := p.outcomes[c][promise]
		if o == nil {
			o = &outcome{reasons: map[string]bool{}}
			p.outcomes[c][promise] = o
		}
		o.verdict = max(o.verdict, r.verdict)
		if r.verdict == excepted {
			o.reasons[r.attributes[contract.AttrException]] = true
		}
	}
	return ports
}

// promises returns the names in the suite's own order: that of a test that ran the most, and
// what else there is by name.
func (p *port) promises() []string {
	var order []string
	for _, suite := range slices.Sorted(maps.Keys(p.orders)) {
		if o := p.orders[suite]; len(o) > len(order) {
			order = slices.Clone(o)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.rules)) {
		if !slices.Contains(order, name) {
			order = append(order, name)
		}
	}
	return order
}

// verdict returns what became of a promise on c.
func (p *port) verdict(c column, promise string) verdict {
	if o := p.outcomes[c][promise]; o != nil {
		return o.verdict
	}
	return absent
}

// write prints the whole file.
func (t *table) write(w io.Writer) {
	ports := t.ports()
	names := slices.Sorted(maps.Keys(ports))
	fmt.Fprint(w, preamble)
	writeSummary(w, ports, names)
	for _, name := range names {
		ports[name].write(w, name)
	}
}

// writeSummary prints one line for each adapter and server.
func writeSummary(w io.Writer, ports map[string]*port, names []string) {
	columns := map[column]bool{}
	for _, p := range ports {
		for c := range p.outcomes {
			columns[c] = true
		}
	}
	fmt.Fprint(w, "\n## Summary\n\nPromises kept, of those that the port makes.\n\n| adapter | on | ports | promises | not kept |\n|---|---|---|---|---|\n")
	for _, c := range slices.SortedFunc(maps.Keys(columns), compareColumns) {
		var cells []string
		good, total, bad := 0, 0, 0
		for _, name := range names {
			p := ports[name]
			if p.outcomes[c] == nil {
				continue
			}
			n := 0
			for promise := range p.rules {
				switch p.verdict(c, promise) {
				case kept:
					n++
				default:
					bad++
				}
			}
			good, total = good+n, total+len(p.rules)
			cells = append(cells, fmt.Sprintf("[%s](#%s) %d/%d", name, strings.ToLower(name), n, len(p.rules)))
		}
		server := c.server
		if server == "" {
			server = "–"
		}
		fmt.Fprintf(w, "| %s | %s | %s | %d/%d | %d |\n", escape(c.adapter), escape(server), strings.Join(cells, ", "), good, total, bad)
	}
}

// write prints the table of one port: a line for each promise, a column for each adapter.
func (p *port) write(w io.Writer, name string) {
	columns := slices.SortedFunc(maps.Keys(p.outcomes), compareColumns)
	fmt.Fprintf(w, "\n## %s\n\n| promise |", name)
	for _, c := range columns {
		fmt.Fprintf(w, " %s |", escape(c.String()))
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---|", len(columns)))
	var notes []string
	for _, promise := range p.promises() {
		fmt.Fprintf(w, "| **%s**: %s |", escape(promise), escape(p.rules[promise]))
		for _, c := range columns {
			fmt.Fprintf(w, " %s |", p.cell(c, promise, &notes))
		}
		fmt.Fprintln(w)
	}
	for i, note := range notes {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%d. %s\n", i+1, escape(note))
	}
}

// cell returns the word for a verdict, and adds the reason of an exception to notes.
func (p *port) cell(c column, promise string, notes *[]string) string {
	switch p.verdict(c, promise) {
	case kept:
		return "yes"
	case excepted:
		reasons := slices.Sorted(maps.Keys(p.outcomes[c][promise].reasons))
		note := c.String() + ": " + strings.Join(reasons, "; ")
		at := slices.Index(*notes, note)
		if at < 0 {
			at = len(*notes)
			*notes = append(*notes, note)
		}
		return fmt.Sprintf("(%d)", at+1)
	case notRun:
		return "**not run**"
	case failed:
		return "**failed**"
	}
	return ""
}

// escape keeps text from being Markdown.
func escape(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`, "_", `\_`, "`", "\\`").Replace(s)
}
