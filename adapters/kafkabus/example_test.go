package kafkabus_test

import (
	"fmt"

	"github.com/parley-chat/parley/adapters/kafkabus"
)

// A URL has everything that Open needs.
func ExampleParseURL() {
	cfg, err := kafkabus.ParseURL("kafka://one.example:9092,two.example:9092")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(cfg.Brokers)
	// Output: [one.example:9092 two.example:9092]
}
