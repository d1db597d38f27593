package testkit_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/testkit"
)

func TestRules(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rules []testkit.Rule
		want  string // one character a call: ok, error, lost
	}{
		"none":     {nil, "oooo"},
		"each":     {[]testkit.Rule{{Method: "Sender.Send", Fault: testkit.Fail(nil)}}, "eeee"},
		"the port": {[]testkit.Rule{{Method: "Sender", Fault: testkit.Fail(nil)}}, "eeee"},
		"any port": {[]testkit.Rule{{Fault: testkit.Fail(nil)}}, "eeee"},
		"another":  {[]testkit.Rule{{Method: "Queue", Fault: testkit.Fail(nil)}}, "oooo"},
		"the second and the last": {[]testkit.Rule{
			{Method: "Sender.Send", Call: 2, Fault: testkit.Fail(nil)},
			{Method: "Sender.Send", Call: 4, Fault: testkit.LoseAnswer()},
		}, "oeol"},
		"the first rule that strikes": {[]testkit.Rule{
			{Method: "Sender.Send", Call: 2, Fault: testkit.Fail(nil)},
			{Method: "Sender", Fault: testkit.LoseAnswer()},
		}, "lell"},
		"a rule for many spares who does not stand it": {[]testkit.Rule{{Fault: testkit.Drop()}}, "oooo"},
		"certain":          {[]testkit.Rule{{Chance: 1, Fault: testkit.Fail(nil)}}, "eeee"},
		"unknown method":   {[]testkit.Rule{{Method: "Sender.Sent", Fault: testkit.Fail(nil)}}, "pppp"},
		"unknown port":     {[]testkit.Rule{{Method: "Postman", Fault: testkit.Fail(nil)}}, "pppp"},
		"not for this one": {[]testkit.Rule{{Method: "Sender.Send", Fault: testkit.Drop()}}, "pppp"},
		"negative call":    {[]testkit.Rule{{Call: -1, Fault: testkit.Fail(nil)}}, "pppp"},
		"chance above one": {[]testkit.Rule{{Chance: 1.1, Fault: testkit.Fail(nil)}}, "pppp"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := story(t, testkit.NewFaults(1, c.rules...), 4); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// story is what becomes of n mails.
func story(t *testing.T, f *testkit.Faults, n int) (outcomes string) {
	t.Helper()
	s := testkit.FaultySender(testkit.NewMailbox(), f)
	for range n {
		err := s.Send(t.Context(), mail.Message{})
		switch {
		case err == nil:
			outcomes += "o"
		case errors.Is(err, testkit.ErrInjected):
			outcomes += "e"
		case errors.Is(err, testkit.ErrAnswerLost):
			outcomes += "l"
		case errors.Is(err, testkit.ErrPlan):
			outcomes += "p"
		default:
			t.Fatal(err)
		}
	}
	return outcomes
}

func TestSetStartsToCountAnew(t *testing.T) {
	t.Parallel()
	second := testkit.Rule{Method: "Sender.Send", Call: 2, Fault: testkit.Fail(nil)}
	f := testkit.NewFaults(0, second)
	got := story(t, f, 3)
	f.Set(second)
	got += story(t, f, 3)
	f.Set(testkit.Rule{Method: "no such method"})
	got += story(t, f, 1)
	f.Set()
	got += story(t, f, 3)
	if want := "oeo" + "oeo" + "p" + "ooo"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if calls, struck := f.Calls("Sender"), f.Struck("Sender"); calls != 10 || struck != 2 {
		t.Errorf("%d calls and %d struck were counted, want 10 and 2", calls, struck)
	}
	if calls := f.Calls("Queue"); calls != 0 {
		t.Errorf("%d calls of another port were counted", calls)
	}
}

func TestChanceComesFromTheSeed(t *testing.T) {
	t.Parallel()
	rule := testkit.Rule{Method: "Sender", Chance: 0.25, Fault: testkit.Fail(nil)}
	first := testkit.NewFaults(7, rule)
	a, b, c := story(t, first, 1000), story(t, testkit.NewFaults(7, rule), 1000), story(t, testkit.NewFaults(8, rule), 1000)
	if a != b {
		t.Error("one seed told two stories")
	}
	if a == c {
		t.Error("two seeds told one story")
	}
	if n := first.Struck(""); n < 150 || n > 350 {
		t.Errorf("%d of 1000 calls were struck at a chance of a quarter", n)
	}
}

func TestADelayIsNotLongerThanItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		box := testkit.NewMailbox()
		s := testkit.FaultySender(box, testkit.NewFaults(0, testkit.Rule{Fault: testkit.Delay(time.Hour)}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := s.Send(ctx, mail.Message{})
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, fault.Unavailable) {
			t.Errorf("it returned %v", err)
		}
		if len(box.All()) != 0 {
			t.Error("the call was made after its context had ended")
		}
	})
}

func TestAFailedCallIsNotDuplicatedAndItsErrorNotLost(t *testing.T) {
	t.Parallel()
	for _, strikes := range []testkit.Fault{testkit.Duplicate(), testkit.LoseAnswer()} {
		own := fmt.Errorf("its own: %w", fault.Gone)
		inner := testkit.NewFaults(0, testkit.Rule{Fault: testkit.Fail(own)})
		s := testkit.FaultySender(testkit.FaultySender(testkit.NewMailbox(), inner), testkit.NewFaults(0, testkit.Rule{Fault: strikes}))
		if err := s.Send(t.Context(), mail.Message{}); !errors.Is(err, own) {
			t.Errorf("it returned %v", err)
		}
		if n := inner.Calls("Sender.Send"); n != 1 {
			t.Errorf("it was called %d times", n)
		}
	}
}

func TestAwait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := testkit.NewFaults(0, testkit.Rule{Method: "Sender.Send", Fault: testkit.Hang()})
		ctx, cancel := context.WithCancel(t.Context())
		for range 2 {
			go func() { _ = testkit.FaultySender(testkit.NewMailbox(), f).Send(ctx, mail.Message{}) }()
		}
		if err := f.Await(t.Context(), "Sender", 2); err != nil {
			t.Error(err)
		}
		short, end := context.WithTimeout(t.Context(), time.Minute)
		defer end()
		if err := f.Await(short, "Sender.Send", 3); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it returned %v", err)
		}
		cancel()
		synctest.Wait()
	})
}

func TestAPlanThatDecides(t *testing.T) {
	t.Parallel()
	fates := map[string]testkit.Fault{"1": testkit.Fail(nil), "2": testkit.LoseAnswer(), "3": {}, "4": testkit.Drop()}
	type call struct{}
	f := testkit.DecideFaults(func(ctx context.Context, method string) testkit.Fault {
		if method != "Sender.Send" {
			t.Errorf("asked about %s", method)
		}
		return fates[ctx.Value(call{}).(string)]
	})
	box := testkit.NewMailbox()
	s := testkit.FaultySender(box, f)
	for number, want := range map[string]error{"1": testkit.ErrInjected, "2": testkit.ErrAnswerLost, "3": nil, "4": testkit.ErrPlan} {
		if err := s.Send(context.WithValue(t.Context(), call{}, number), mail.Message{}); !errors.Is(err, want) {
			t.Errorf("call %s: %v, want %v", number, err, want)
		}
	}
	if n := len(box.All()); n != 2 {
		t.Errorf("%d mails were sent, want those of the lost answer and of the call that was let through", n)
	}
	if calls, struck := f.Calls("Sender"), f.Struck("Sender"); calls != 4 || struck != 2 {
		t.Errorf("%d calls and %d struck, want 4 and 2", calls, struck)
	}
}

func TestStands(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method string
		fault  testkit.Fault
		want   bool
	}{
		{"Messages.Append", testkit.LoseAnswer(), true},
		{"Messages.Append", testkit.Duplicate(), false},
		{"Fanout.Publish", testkit.Drop(), true},
		{"Fanout.Publish", testkit.Fault{}, true},
		{"Postman.Send", testkit.Fault{}, false},
	} {
		if got := testkit.Stands(c.method, c.fault); got != c.want {
			t.Errorf("%s stands %v: %v", c.method, c.fault, got)
		}
	}
}
