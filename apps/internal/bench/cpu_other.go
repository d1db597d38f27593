//go:build !unix

package bench

import "time"

// cpu is 0 where processor time is not measured.
func cpu() time.Duration { return 0 }
