package chat

import (
	"strings"
	"time"

	"github.com/parley-chat/parley/core/fault"
)

const (
	// MinRetention is the shortest time for which messages can be kept. Nobody needs a shorter one, and a mistake in the unit would empty rooms.
	MinRetention = time.Minute
	// MaxRetention is the longest: 100 years.
	MaxRetention = 100 * 365 * 24 * time.Hour
	// MaxRetentionText is the longest text in bytes that [ParseRetention] reads.
	MaxRetentionText = 32
)

// ErrRetentionInvalid refuses a time for which messages cannot be kept.
var ErrRetentionInvalid = fault.New(fault.Invalid, "retention_invalid", "messages cannot be kept for that long")

// CheckRetention refuses a time for which messages cannot be kept: one that is neither zero, which stands for no time of its own, nor from [MinRetention] to
// [MaxRetention]. It returns ErrRetentionInvalid. It is pure.
func CheckRetention(d time.Duration) error {
	if d != 0 && (d < MinRetention || d > MaxRetention) {
		return ErrRetentionInvalid.Detail("%v is neither 0 nor from %s to %s", d, RetentionText(MinRetention), RetentionText(MaxRetention))
	}
	return nil
}

// ParseRetention reads a retention in hours, minutes and seconds, such as 720h or 1h30m, and returns it in whole seconds: what is below is cut off. It returns
// ErrRetentionInvalid. It is pure.
func ParseRetention(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || len(text) > MaxRetentionText {
		return 0, ErrRetentionInvalid.Detail("write hours, minutes and seconds, such as 720h or 1h30m")
	}
	return d.Truncate(time.Second), CheckRetention(d)
}

// RetentionText writes a retention as [ParseRetention] reads it, without units at its end that are zero; zero is 0s. It is pure.
func RetentionText(d time.Duration) string {
	text := d.Truncate(time.Second).String()
	if short, whole := strings.CutSuffix(text, "m0s"); whole {
		text = short + "m"
	}
	if short, whole := strings.CutSuffix(text, "h0m"); whole {
		text = short + "h"
	}
	return text
}
