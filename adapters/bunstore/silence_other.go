//go:build !linux

package bunstore

import "time"

// limitSilence does nothing where package syscall has no name for it: keep-alive must do.
func limitSilence(uintptr, time.Duration) {}
