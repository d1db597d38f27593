package health_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/core/health"
)

// Each check has a time of its own, and all run side by side.
func ExampleRun() {
	report := health.Run(context.Background(), []health.Check{
		{Name: "database", Timeout: time.Second, Probe: func(context.Context) (map[string]any, error) { return nil, nil }},
		{Name: "redis", Timeout: time.Second, Probe: func(context.Context) (map[string]any, error) { return nil, errors.New("refused") }},
	}, false, func(name string, err error) { fmt.Println("for the log:", name, err) })
	fmt.Println("ready:", report.Status == health.OK)
	for _, r := range report.Results {
		fmt.Println(r.Name, r.Err)
	}
	// Output:
	// for the log: redis refused
	// ready: false
	// database <nil>
	// redis refused
}
