package faults_test

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/run"
)

// runVariable makes this test binary the all-in-one, as a process that can be killed.
const runVariable = "TEST_RUN_PARLEY"

// TestMain checks that nothing is left of the programs, whatever happened to their servers.
func TestMain(m *testing.M) {
	if file := os.Getenv(lockVariable); file != "" {
		os.Exit(lockFile(file))
	}
	if os.Getenv(runVariable) != "" {
		os.Exit(run.Main(config.Parley, nil, os.Environ(), os.Stdout, os.Stderr))
	}
	if flag.Parse(); testing.Short() {
		fmt.Println("skipped by -short: servers and programs are started, and made to fail")
		return
	}
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	err := goleak.Find(
		goleak.IgnoreAnyFunction("github.com/parley-chat/parley/testkit/local.(*Process).wait"), // of servers that tests share, until the end
		goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"),         // sarama's, one for ever
	)
	if err != nil && code == 0 {
		os.NewFile(2, "stderr").WriteString(err.Error() + "\n")
		code = 1
	}
	os.Exit(code)
}
