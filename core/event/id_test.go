package event

import (
	"regexp"
	"testing"
	"time"
)

func TestNewIDAscendsByTime(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	last := newID(time.Unix(0, 0))
	for i := range 2000 {
		// Odd steps cross every byte border of the clock sooner or later.
		id := newID(start.Add(time.Duration(i*i*7919+i) * time.Millisecond))
		if id <= last {
			t.Fatalf("step %d: %s does not sort after %s", i, id, last)
		}
		last = id
	}
}

func TestNewIDIsUniqueAndPlain(t *testing.T) {
	t.Parallel()
	shape := regexp.MustCompile(`^[0-9A-HJKMNP-TV-Z]{26}$`)
	seen := make(map[string]bool)
	now := time.Now()
	for range 10_000 {
		id := newID(now)
		if !shape.MatchString(id) {
			t.Fatalf("%q is not 26 characters of Crockford's base 32", id)
		}
		if seen[id] {
			t.Fatalf("%s came twice", id)
		}
		seen[id] = true
	}
	if id := NewID(); !shape.MatchString(id) {
		t.Fatalf("%q is not 26 characters of Crockford's base 32", id)
	}
}
