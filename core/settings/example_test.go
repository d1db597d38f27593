package settings_test

import (
	"fmt"
	"time"

	"github.com/parley-chat/parley/core/settings"
)

// An adapter of one's own says everything that is wrong with its configuration at once.
func Example() {
	cfg := struct {
		Address string
		Timeout time.Duration
		Retries int
	}{Retries: -1}
	c := settings.Of("mybus: Config")
	c.Require("Address", cfg.Address == "")
	settings.Default(c, "Timeout", &cfg.Timeout, 5*time.Second)
	settings.Default(c, "Retries", &cfg.Retries, 3)
	fmt.Println(c.Err())
	fmt.Println(cfg.Timeout)
	// Output:
	// mybus: Config.Address is missing
	// mybus: Config.Retries is negative
	// 5s
}
