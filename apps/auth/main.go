// Command auth is the accounts of a chat back end: sign-up, sign-in, sessions, and the keys that
// verify their tokens. "auth --help" lists what it can be told.
package main

import (
	"os"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/run"
)

func main() {
	os.Exit(run.Main(config.Auth, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
