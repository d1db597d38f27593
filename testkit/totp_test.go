package testkit_test

import (
	"testing"
	"time"

	"github.com/parley-chat/parley/testkit"
)

// The last six digits of the test values of RFC 6238 appendix B.
func TestTOTPCodeOfTheRFC(t *testing.T) {
	t.Parallel()
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1234567890: "005924", 20000000000: "353130"} {
		if got := testkit.TOTPCode("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", time.Unix(at, 0)); got != want {
			t.Errorf("at %d the code is %s, not %s", at, got, want)
		}
	}
}
