package servers

import "testing"

// notShort skips t where only what is quick is asked for: no server is started then. One that a
// variable names is used all the same.
func notShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped by -short: a server would be started")
	}
}
