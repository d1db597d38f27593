package contract_test

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
)

// forgetful is an auth.Nonces that does not keep its promises.
type forgetful struct{}

func (forgetful) Spend(context.Context, string, time.Time) (bool, error) { return true, nil }

// In a test one calls Run; Verify gives the same results to a program.
func ExampleVerify() {
	open := func(context.Context) (auth.Nonces, func(), error) { return forgetful{}, nil, nil }
	results, err := contract.Verify(context.Background(), contract.Nonces()[:2], open,
		contract.Except("a later expiry changes nothing", "it remembers nothing at all"))
	if err != nil {
		fmt.Println(err)
	}
	for _, r := range results {
		fmt.Println(r)
	}
	// Output:
	// FAIL a name is spent once
	// 	rule: Spend returns true for the first call with this name. Spend returns false for every later call, at least until the expiry that the first one gave.
	// 	but:  Spend("a"): it returned true, want false
	// skip a later expiry changes nothing: it remembers nothing at all
}
