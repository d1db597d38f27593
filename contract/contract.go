// Package contract states what every adapter of a port promises, as cases that run.
//
// There is one suite a port. An adapter's test hands the suite a function that opens an
// empty port, and that is the whole test:
//
//	func TestUsers(t *testing.T) {
//		contract.Run(t, contract.UserRepository(), func(t *testing.T) contract.Users {
//			s := memory.NewStore() // a store of its own; whoever opens a database closes it with t.Cleanup
//			return contract.Users{Repository: s.Users, Outbox: s.Outbox}
//		})
//	}
//
// [RunStore] runs the suites of all ports that a database keeps.
//
// A case is data: a name, what it checks in the words of the port's comment, and the check. A failure
// prints the words. An adapter that cannot keep a promise says so with [Except]; the case
// is then skipped and its reason printed. Without exceptions every promise is kept.
//
// Suites touch nothing but the port. They have no clock: times are data. They wait only where
// the port itself works in the background, and then until the case's deadline.
//
// The package is meant for tests, in this module and in others. It imports the standard
// library, testing included, and core.
package contract

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Deadline bounds one case, unless it is run by [RunWithin]. A check whose context has ended, and that has not returned
// after [Grace], is reported as hanging; it is not waited for.
const (
	Deadline = 30 * time.Second
	Grace    = 5 * time.Second
)

// ErrHangs says that a check, or rather the port under it, ignored the end of its context.
var ErrHangs = errors.New("hangs: it goes on although its context has ended")

// Case is one promise of a port.
type Case[P any] struct {
	// Port names the suite, which is called after the port. It is empty in a case of one's own,
	// which is then in no conformance table.
	Port string
	// Name is unique in its suite.
	Name string
	// Rule is what Check checks: whole sentences of the comment of the port, or of a value that crosses it.
	Rule string
	// Check returns nil if port, which is fresh and empty, keeps the rule.
	Check func(ctx context.Context, port P) error
}

// promise is a case as a suite writes it down.
type promise[P any] struct {
	name, rule string
	check      func(ctx context.Context, port P) error
}

// suite makes the cases of the named port.
func suite[P any](port string, promises []promise[P]) []Case[P] {
	cases := make([]Case[P], len(promises))
	for i, p := range promises {
		cases[i] = Case[P]{Port: port, Name: p.name, Rule: p.rule, Check: p.check}
	}
	return cases
}

// Exception declares a promise that an adapter does not keep. Make one with [Except].
type Exception struct {
	// Case is the name of the case to skip.
	Case string
	// Reason is printed, and stands in the adapter's package comment.
	Reason string
}

// Except declares that an adapter does not keep the promise of the named case, and why.
func Except(name, reason string) Exception { return Exception{Case: name, Reason: reason} }

// Result is what became of one case.
type Result struct {
	Case, Rule string
	// Err is nil if the rule was kept or the case was skipped.
	Err error
	// Skipped is the reason of the exception; empty if the case ran.
	Skipped string
}

// String is one line with the verdict, and the rule and the failure if there is one.
func (r Result) String() string {
	switch {
	case r.Skipped != "":
		return fmt.Sprintf("skip %s: %s", r.Case, r.Skipped)
	case r.Err != nil:
		return fmt.Sprintf("FAIL %s\n\trule: %s\n\tbut:  %v", r.Case, r.Rule, r.Err)
	}
	return "ok   " + r.Case
}

// Run checks every case in a subtest of its own, on a port of its own, under [Deadline].
// open returns a fresh, empty port and registers its clean-up with t.Cleanup. Exceptions that
// have no reason, or that name no case, fail t.
//
// Each subtest says in attributes (see [testing.T.Attr]) which promise it checks: [AttrPort],
// [AttrCase], [AttrRule], and [AttrException] if it is skipped. [On] says on what it runs.
func Run[P any](t *testing.T, cases []Case[P], open func(t *testing.T) P, exceptions ...Exception) {
	t.Helper()
	RunWithin(t, Deadline, cases, open, exceptions...)
}

// RunWithin is [Run] with another deadline for each case, for a port whose server takes its time,
// as one does that starts processes or moves partitions on a loaded machine. It loosens no promise:
// a port that keeps one late keeps it.
func RunWithin[P any](t *testing.T, deadline time.Duration, cases []Case[P], open func(t *testing.T) P, exceptions ...Exception) {
	t.Helper()
	reasons, err := excepted(cases, exceptions)
	if err != nil {
		t.Error(err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			attr(t, AttrPort, c.Port)
			attr(t, AttrCase, c.Name)
			attr(t, AttrRule, c.Rule)
			attr(t, AttrException, reasons[c.Name])
			if reason, ok := reasons[c.Name]; ok {
				t.Skipf("excepted: %s\nrule: %s", reason, c.Rule)
			}
			if err := c.run(t.Context(), deadline, open(t)); err != nil {
				t.Errorf("a promise of the port is not kept\nrule: %s\nbut:  %v", c.Rule, err)
			}
		})
	}
}

// The attributes of tests that [Run] and [On] set: "go test -json" prints them, so that a table of
// what each adapter keeps can be made of its output.
const (
	AttrPort      = "parley.port"
	AttrCase      = "parley.case"
	AttrRule      = "parley.rule"
	AttrException = "parley.exception"
	AttrAdapter   = "parley.adapter"
	AttrServer    = "parley.server"
)

// On says which adapter the suites that run in t, and in its subtests, are run against, and on
// which server: a product's name without its version. server is empty if there is none. It is
// for the conformance table alone, and changes nothing else.
func On(t *testing.T, adapter, server string) {
	t.Helper()
	attr(t, AttrAdapter, adapter)
	attr(t, AttrServer, server)
}

// attr sets an attribute that is not empty. A line break would not be allowed in it.
func attr(t *testing.T, key, value string) {
	t.Helper()
	if value != "" {
		t.Attr(key, strings.Join(strings.Fields(value), " "))
	}
}

// Verify is [Run] without a test: it checks the cases one after the other, each on a port of
// its own, and returns one result each, in the order of the cases. open returns a fresh, empty
// port and a function that gives it up, which may be nil. The error is for exceptions that
// have no reason or name no case.
func Verify[P any](ctx context.Context, cases []Case[P], open func(ctx context.Context) (P, func(), error), exceptions ...Exception) ([]Result, error) {
	reasons, err := excepted(cases, exceptions)
	if err != nil {
		return nil, err
	}
	results := make([]Result, 0, len(cases))
	for _, c := range cases {
		r := Result{Case: c.Name, Rule: c.Rule, Skipped: reasons[c.Name]}
		if r.Skipped == "" {
			r.Err = c.verify(ctx, open)
		}
		results = append(results, r)
	}
	return results, nil
}

func (c Case[P]) verify(ctx context.Context, open func(context.Context) (P, func(), error)) error {
	port, done, err := open(ctx)
	if done != nil {
		defer done()
	}
	if err != nil {
		return fmt.Errorf("the port cannot be opened: %w", err)
	}
	return c.run(ctx, Deadline, port)
}

// run bounds one check. A check that panics has failed.
func (c Case[P]) run(ctx context.Context, deadline time.Duration, port P) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	checked := make(chan error, 1) // buffered: a check that hangs may still end one day
	go func() {
		defer func() {
			if p := recover(); p != nil {
				checked <- fmt.Errorf("panic: %v", p)
			}
		}()
		checked <- c.Check(ctx, port)
	}()
	select {
	case err := <-checked:
		return err
	case <-ctx.Done():
	}
	grace := time.NewTimer(Grace)
	defer grace.Stop()
	select {
	case err := <-checked:
		return err
	case <-grace.C:
		return ErrHangs
	}
}

// Names returns the names of cases, in order.
func Names[P any](cases []Case[P]) []string {
	names := make([]string, len(cases))
	for i, c := range cases {
		names[i] = c.Name
	}
	return names
}

// excepted returns the reason of each excepted case.
func excepted[P any](cases []Case[P], exceptions []Exception) (map[string]string, error) {
	known := make(map[string]bool, len(cases))
	for _, c := range cases {
		known[c.Name] = true
	}
	reasons := make(map[string]string, len(exceptions))
	var errs []error
	for _, e := range exceptions {
		switch _, twice := reasons[e.Case]; {
		case !known[e.Case]:
			errs = append(errs, fmt.Errorf("the exception %q names no case of this suite", e.Case))
		case e.Reason == "":
			errs = append(errs, fmt.Errorf("the exception %q has no reason", e.Case))
		case twice:
			errs = append(errs, fmt.Errorf("the exception %q is declared twice", e.Case))
		default:
			reasons[e.Case] = e.Reason
		}
	}
	return reasons, errors.Join(errs...)
}
