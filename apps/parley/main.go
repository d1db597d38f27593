// Command parley is the whole chat back end in one program: accounts, mail and real-time chat.
// It needs no argument, file, variable or server; "parley --help" lists what it can be told.
package main

import (
	"os"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/run"
)

func main() {
	os.Exit(run.Main(config.Parley, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
