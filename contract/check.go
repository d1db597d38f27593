package contract

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"time"
)

// epoch is where the suites' times start. It has microseconds, and lies in the future so that
// an adapter that tidies up by its own clock leaves it alone.
var epoch = time.Date(2101, time.March, 4, 5, 6, 7, 890_123_000, time.UTC)

// past is over by every clock.
var past = time.Date(2001, time.February, 3, 4, 5, 6, 789_012_000, time.UTC)

// at returns the moment n seconds and n microseconds after the epoch.
func at(n int) time.Time {
	return epoch.Add(time.Duration(n) * (time.Second + time.Microsecond))
}

// names are different, each from all the others, though some adapters think otherwise: by case,
// by spaces at the end, by Unicode normalisation, by width, by accent, or by what a pattern means.
var names = []string{
	"\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645", "\U0001f469\u200d\U0001f4bb", "\U0001f469\U0001f4bb",
	"room", "Room", "ROOM", "room.", "room\u00a0", "room\u3000", "roomx", "room x", "room  x",
	"caf\u00e9", "cafe\u0301", "cafe", "CAF\u00c9", "straße", "strasse", "\ufb01", "fi", "ｒｏｏｍ",
	"ı", "i", "I", "İ", "ß", "ss", "%", "_", "*", "ro*m", "ro_m", "room/x", "room:x", "room{x}", "'room'", `"room"`, `room\`,
	"$room", "a.b", "房间", "комната", "غرفة", "👋", "👋🏽", "0", "-1", "null",
}

// long is n characters of four bytes each.
func long(n int) string { return strings.Repeat("𝕏", n) }

// same compares field by field. Times must be the same moment, in UTC; nil and empty slices
// are the same.
func same(got, want any) error {
	return sameValue("", reflect.ValueOf(got), reflect.ValueOf(want))
}

func sameValue(path string, got, want reflect.Value) error {
	if got.Type() != want.Type() {
		return fmt.Errorf("%s: got a %s, want a %s", path, got.Type(), want.Type())
	}
	switch g := got.Interface().(type) {
	case time.Time:
		w := want.Interface().(time.Time)
		if !g.Equal(w) {
			return fmt.Errorf("%s is %s, want %s", path, g.Format(time.RFC3339Nano), w.Format(time.RFC3339Nano))
		}
		if g.Location() != time.UTC {
			return fmt.Errorf("%s is in the zone %s, want UTC", path, g.Location())
		}
		return nil
	case []byte:
		if w := want.Bytes(); !bytes.Equal(g, w) {
			return fmt.Errorf("%s is %s, want %s", path, brief(g), brief(w))
		}
		return nil
	}
	switch got.Kind() {
	case reflect.Struct:
		for i := range got.NumField() {
			name := got.Type().Field(i).Name
			if path != "" {
				name = path + "." + name
			}
			if err := sameValue(name, got.Field(i), want.Field(i)); err != nil {
				return err
			}
		}
	case reflect.Slice:
		if got.Len() != want.Len() {
			return fmt.Errorf("%s: got %d, want %d: got %s", orAnswer(path), got.Len(), want.Len(), clip(fmt.Sprintf("%+v", got)))
		}
		for i := range got.Len() {
			if err := sameValue(fmt.Sprintf("%s[%d]", path, i), got.Index(i), want.Index(i)); err != nil {
				return err
			}
		}
	default:
		if !got.Equal(want) {
			return fmt.Errorf("%s is %s, want %s", orAnswer(path), clip(fmt.Sprintf("%+q", fmt.Sprint(got))), clip(fmt.Sprintf("%+q", fmt.Sprint(want))))
		}
	}
	return nil
}

func orAnswer(path string) string {
	if path == "" {
		return "the answer"
	}
	return path
}

func clip(s string) string {
	if len(s) > 300 {
		return s[:300] + "…"
	}
	return s
}

// wantIs returns nil if err matches target.
func wantIs(what string, err, target error) error {
	if !errors.Is(err, target) {
		return fmt.Errorf("%s returned %w, want %w", what, orNone(err), target)
	}
	return nil
}

var errNone = errors.New("no error")

func orNone(err error) error {
	if err == nil {
		return errNone
	}
	return err
}

// during says what was done when err came; nil stays nil.
func during(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// first takes one step after the other and returns the first error. What comes behind a step that failed is not done.
func first(steps ...func() error) error { return then(nil, steps...) }

// then is first, after what has come to err.
func then(err error, steps ...func() error) error {
	for _, step := range steps {
		if err != nil {
			return err
		}
		err = step()
	}
	return err
}

// second is for a step whose answer is of no account.
func second[V any](_ V, err error) error { return err }

// together calls do n times at once, released by one closed channel, and returns the errors in order.
func together(n int, do func(i int) error) []error {
	start, errs := make(chan struct{}), make([]error, n)
	done := make(chan struct{})
	for i := range n {
		go func() {
			defer func() {
				if p := recover(); p != nil {
					errs[i] = fmt.Errorf("panic: %v", p)
				}
				done <- struct{}{}
			}()
			<-start
			errs[i] = do(i)
		}()
	}
	close(start)
	for range n {
		<-done
	}
	return errs
}

// allTogether is together where every call must succeed.
func allTogether(n int, do func(i int) error) error { return cmp.Or(together(n, do)...) }

// oneWins wants exactly one call to succeed, and the others to fail with target.
func oneWins(what string, target error, errs []error) error {
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, target):
			return fmt.Errorf("one of %d concurrent calls of %s returned %w, want %w", len(errs), what, err, target)
		}
	}
	if won != 1 {
		return fmt.Errorf("%d of %d concurrent calls of %s succeeded, want exactly 1", won, len(errs), what)
	}
	return nil
}

// breathe lets every goroutine that can run do so: what is about to happen against a rule
// gets its chance. Where nothing is wrong it changes nothing.
func breathe() {
	for range 200 {
		runtime.Gosched()
	}
}

// ended returns a context that is done.
func ended(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// calm is breathe for a caller that holds nothing others wait for. In a bubble of testing/synctest it returns when nobody can do anything
// any more, however busy the machine is.
func calm() { time.Sleep(time.Millisecond) }
