package contract_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
)

// A test of an adapter runs the suite of each port that it implements.
func ExampleRun() {
	testNonces := func(t *testing.T) {
		contract.Run(t, contract.Nonces(), func(*testing.T) auth.Nonces { return memory.NewNonces(memory.NoncesConfig{}) })
	}
	_ = testNonces // go test calls it if its name is TestNonces
}

// A test of an adapter of a database runs all suites at once.
func ExampleRunStore() {
	testStore := func(t *testing.T) {
		contract.On(t, "memory", "")
		contract.RunStore(t, func(*testing.T) contract.Store {
			s := memory.NewStore()
			return contract.Store{
				Users: s.Users, Outbox: s.Outbox, Asides: s.Asides, Sessions: s.Sessions, Codes: s.Codes, Factors: s.Factors, SignUps: s.SignUps, Nonces: s.Nonces,
				MailQueue: s.MailQueue, DeadLetters: s.MailQueue, MailStats: s.MailQueue,
				Messages: s.Messages, Rooms: s.Rooms, Members: s.Members, Marks: s.Members, Roles: s.Roles, Restrictions: s.Restrictions, Blocks: s.Blocks, Settings: s.Settings, Directory: s.Users, Audit: s.Audit, Pruner: s.Pruner,
			}
		},
			contract.Except("Standings", "two reads in memory cost no more than one"),
			contract.Except("Limiter", "what is counted is not stored"),
		)
	}
	_ = testStore // go test calls it if its name is TestStore
}

// forgetful is an auth.Nonces that does not keep its promises.
type forgetful struct{}

func (forgetful) Spend(context.Context, string, time.Time) (bool, error) { return true, nil }
func (forgetful) DeleteExpired(context.Context, time.Time) (int, error)  { return 0, nil }

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
