// Command mailer takes events from the bus and sends the mails that they ask for. "mailer --help"
// lists what it can be told.
package main

import (
	"os"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/run"
)

func main() {
	os.Exit(run.Main(config.Mailer, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
