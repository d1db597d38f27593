// Command socket is one node of real-time chat over WebSockets. "socket --help" lists what it can
// be told.
package main

import (
	"os"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/run"
)

func main() {
	os.Exit(run.Main(config.Socket, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
