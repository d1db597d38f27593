package testkit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/fault"
)

// What callers get from calls that a plan lets fail.
var (
	// ErrInjected is the failure of [Fail] where the test names none.
	ErrInjected = fault.New(fault.Unavailable, "fault_injected", "a failure was injected")
	// ErrAnswerLost says that the call had its effect and that its answer was lost.
	ErrAnswerLost = fault.New(fault.Unavailable, "answer_lost", "the answer was lost")
	// ErrPlan says that a plan cannot be followed: each call fails with it.
	ErrPlan = fault.New(fault.Invalid, "fault_plan_invalid", "the plan of faults is not valid")
)

// Fault is what happens to a call. The zero Fault is nothing.
type Fault struct {
	kind  kind
	delay time.Duration
	err   error
}

// Delay lets the call wait first, and not happen if its context is done meanwhile.
func Delay(d time.Duration) Fault { return Fault{kind: delays, delay: d} }

// Fail returns err instead of making the call; [ErrInjected] if err is nil.
func Fail(err error) Fault {
	if err == nil {
		err = ErrInjected
	}
	return Fault{kind: fails, err: err}
}

// LoseAnswer makes the call and, if it succeeds, returns [ErrAnswerLost] instead of its answer.
func LoseAnswer() Fault { return Fault{kind: losesAnswer} }

// Duplicate makes the call twice, the second time if the first succeeds, and returns the
// second answer. It is for calls that the port lets one repeat.
func Duplicate() Fault { return Fault{kind: duplicates} }

// Drop does not make the call and says that it succeeded. It is for calls whose effect the
// port allows to be lost.
func Drop() Fault { return Fault{kind: drops} }

// Hang does not make the call: it waits until the call's context is done.
func Hang() Fault { return Fault{kind: hangs} }

// kind is a bit, so that a method can say which faults it stands.
type kind uint8

const (
	delays kind = 1 << iota
	fails
	losesAnswer
	duplicates
	drops
	hangs
)

func (k kind) String() string {
	return map[kind]string{
		0: "nothing", delays: "Delay", fails: "Fail", losesAnswer: "LoseAnswer",
		duplicates: "Duplicate", drops: "Drop", hangs: "Hang",
	}[k]
}

// Rule says which calls a fault strikes.
type Rule struct {
	// Method is "Users.Create" for one method, "Users" for a port, and empty for every call
	// of every port. See [Methods]. A rule for several methods spares those that do not
	// stand its fault.
	Method string
	// Call is the number of the only call that is struck, counting from 1 the calls that
	// Method chooses since the rule was set; 0 means each.
	Call int
	// Chance is the probability that a call is struck, between 0 and 1; 0 means certainly.
	Chance float64
	// Fault is what strikes.
	Fault Fault
}

// Faults is a plan of what goes wrong, followed by the decorators of this package: one plan
// may stand behind many. It also counts the calls.
//
// A rule that names no method, or a fault that its method does not stand, makes every call
// fail with [ErrPlan], which says what is wrong: a rule that never strikes would go unnoticed.
type Faults struct {
	decide func(ctx context.Context, method string) Fault // instead of rules

	mu     sync.Mutex
	rules  []planned
	err    error
	random *rand.Rand
	calls  map[string]int
	struck map[string]int
	called chan struct{} // closed and replaced at each call
}

// planned is a rule with the number of calls that it saw.
type planned struct {
	Rule
	calls int
}

// NewFaults returns a plan with these rules. The seed decides about chances.
func NewFaults(seed uint64, rules ...Rule) *Faults {
	f := &Faults{
		random: rand.New(rand.NewPCG(seed, seed)),
		calls:  map[string]int{},
		struck: map[string]int{},
		called: make(chan struct{}),
	}
	f.Set(rules...)
	return f
}

// DecideFaults returns a plan without rules: decide is asked before each call what happens to it, and may wait before it
// answers. It gets the context of the call and the name of its method, and is called from as many goroutines as the ports are.
// A fault that the method does not stand (see [Stands]) makes the call fail with [ErrPlan]. Rules that are set later do not count.
func DecideFaults(decide func(ctx context.Context, method string) Fault) *Faults {
	f := NewFaults(0)
	f.decide = decide
	return f
}

// Stands reports whether a method, named as in [Methods], stands a fault: whether its port allows that.
func Stands(method string, f Fault) bool {
	stands, known := methods[method]
	return known && stands&f.kind == f.kind
}

// Set replaces the rules; without any, nothing goes wrong from now on. Calls under way stay
// what they are. Of several rules that strike a call, the first counts.
func (f *Faults) Set(rules ...Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules, f.err = nil, nil
	for _, r := range rules {
		if err := r.check(); err != nil && f.err == nil {
			f.err = err
		}
		f.rules = append(f.rules, planned{Rule: r})
	}
}

func (r Rule) check() error {
	if r.Call < 0 || r.Chance < 0 || r.Chance > 1 {
		return ErrPlan.Detail("%s: call %d with chance %v", r.Method, r.Call, r.Chance)
	}
	names, stood := 0, false
	for name, stands := range methods {
		if r.chooses(name) {
			names++
			stood = stood || stands&r.Fault.kind == r.Fault.kind
		}
	}
	switch {
	case names == 0:
		return ErrPlan.Detail("there is no method or port %q", r.Method)
	case !stood:
		return ErrPlan.Detail("%s does not stand %v", r.Method, r.Fault.kind)
	}
	return nil
}

func (r Rule) chooses(method string) bool {
	port, _, _ := strings.Cut(method, ".")
	return r.Method == "" || r.Method == method || r.Method == port
}

// Calls returns how many calls were made of a method, a port, or, for "", of all, whatever
// became of them.
func (f *Faults) Calls(method string) int { return f.sum(f.calls, method) }

// Struck returns how many of the calls a fault struck.
func (f *Faults) Struck(method string) int { return f.sum(f.struck, method) }

func (f *Faults) sum(counts map[string]int, method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for name, count := range counts {
		if (Rule{Method: method}).chooses(name) {
			n += count
		}
	}
	return n
}

// Await waits until at least n calls of a method or a port have begun, counted as Calls does.
func (f *Faults) Await(ctx context.Context, method string, n int) error {
	for {
		f.mu.Lock()
		called := f.called
		f.mu.Unlock()
		calls := f.Calls(method)
		if calls >= n {
			return nil
		}
		select {
		case <-called:
		case <-ctx.Done():
			return fmt.Errorf("testkit: %d calls of %q have not begun, %d have: %w", n, method, calls, ctx.Err())
		}
	}
}

// strike counts a call and returns what happens to it.
func (f *Faults) strike(ctx context.Context, method string) (Fault, error) {
	f.mu.Lock()
	f.calls[method]++
	close(f.called)
	f.called = make(chan struct{})
	if f.decide != nil {
		f.mu.Unlock()
		return f.decided(ctx, method)
	}
	defer f.mu.Unlock()
	var strikes Fault
	for i := range f.rules {
		r := &f.rules[i]
		if !r.chooses(method) {
			continue
		}
		r.calls++
		switch {
		case strikes.kind != 0,
			methods[method]&r.Fault.kind == 0,
			r.Call != 0 && r.Call != r.calls,
			r.Chance != 0 && f.random.Float64() >= r.Chance:
		default:
			strikes = r.Fault
			f.struck[method]++
		}
	}
	return strikes, f.err
}

// decided is strike for a plan that decides.
func (f *Faults) decided(ctx context.Context, method string) (Fault, error) {
	strikes := f.decide(ctx, method)
	switch {
	case strikes.kind == 0:
		return strikes, nil
	case !Stands(method, strikes):
		return strikes, ErrPlan.Detail("%s does not stand %v", method, strikes.kind)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.struck[method]++
	return strikes, nil
}

// do makes one call under the plan. call runs twice at most, one after the other.
func (f *Faults) do(ctx context.Context, method string, call func() error) error {
	strikes, err := f.strike(ctx, method)
	if err != nil {
		return err
	}
	switch strikes.kind {
	case delays:
		timer := time.NewTimer(strikes.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return fault.Wrap(fault.Unavailable, ctx.Err())
		}
	case fails:
		return strikes.err
	case losesAnswer:
		if err := call(); err != nil {
			return err
		}
		return ErrAnswerLost
	case duplicates:
		if err := call(); err != nil {
			return err
		}
	case drops:
		return nil
	case hangs:
		<-ctx.Done()
		return fault.Wrap(fault.Unavailable, ctx.Err())
	}
	return call()
}

// ask is do for a call with one result, which is zero if the caller gets an error.
func ask[T any](ctx context.Context, f *Faults, method string, call func() (T, error)) (T, error) {
	var answer, none T
	err := f.do(ctx, method, func() (err error) { answer, err = call(); return err })
	if err != nil {
		return none, err
	}
	return answer, nil
}

// ask2 is ask for a call with two results.
func ask2[A, B any](ctx context.Context, f *Faults, method string, call func() (A, B, error)) (A, B, error) {
	type both struct {
		a A
		b B
	}
	answer, err := ask(ctx, f, method, func() (answer both, err error) { answer.a, answer.b, err = call(); return answer, err })
	return answer.a, answer.b, err
}
