// Package settings checks configurations, in the same words for every service and every adapter: what is
// required and missing is refused, a negative limit is refused, and zero means the default. Everything that
// is wrong is said at once. An adapter of your own may use it; whoever only uses services and adapters does
// not need it.
package settings

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Check collects everything that is wrong with one configuration.
type Check struct {
	of     string
	said   []string
	errors []error
}

// Of begins the check of a configuration, which is named as Go names it: "auth: Config".
func Of(configuration string) *Check { return &Check{of: configuration} }

// Refuse says what is wrong with a field: Refuse("Rate", "is longer than %v", most). What was said
// before is not said again.
func (c *Check) Refuse(field, format string, args ...any) {
	text := fmt.Sprintf("%s.%s %s", c.of, field, fmt.Sprintf(format, args...))
	if !slices.Contains(c.said, text) {
		c.said, c.errors = append(c.said, text), append(c.errors, errors.New(text))
	}
}

// Fault says that a field is wrong because of err, which it wraps.
func (c *Check) Fault(field string, err error) {
	if err != nil {
		c.errors = append(c.errors, fmt.Errorf("%s.%s: %w", c.of, field, err))
	}
}

// Require refuses a field that is missing.
func (c *Check) Require(field string, missing bool) {
	if missing {
		c.Refuse(field, "is missing")
	}
}

// Argument refuses an argument beside the configuration that is missing: Argument("the API", api == nil).
func (c *Check) Argument(name string, missing bool) {
	if missing {
		pkg, _, _ := strings.Cut(c.of, ":")
		c.errors = append(c.errors, fmt.Errorf("%s: %s is missing", pkg, name))
	}
}

// Err returns everything that is wrong, one line each, or nil.
func (c *Check) Err() error { return errors.Join(c.errors...) }

// Default gives a field its default if it is zero, and refuses it if it is negative. A default of zero only refuses.
func Default[N ~int | ~int64](c *Check, field string, value *N, byDefault N) {
	switch {
	case *value < 0:
		c.Refuse(field, "is negative")
	case *value == 0:
		*value = byDefault
	}
}
