package watermillbus_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/watermillbus"
	"github.com/parley-chat/parley/contract"
)

// quick is a bus whose retries do not slow tests down.
var quick = watermillbus.GoChannelConfig{Backoff: time.Millisecond, MaxBackoff: 4 * time.Millisecond}

func open(t *testing.T, cfg watermillbus.GoChannelConfig) *watermillbus.Bus {
	t.Helper()
	b, err := watermillbus.NewGoChannel(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func TestContract(t *testing.T) {
	contract.On(t, "watermillbus", "GoChannel")
	contract.Run(t, contract.EventBus(), func(t *testing.T) contract.Bus {
		b := open(t, quick)
		return contract.Bus{Publisher: b, Subscriber: b}
	})
}

func TestContractWithDeclaredGroups(t *testing.T) {
	contract.On(t, "watermillbus", "GoChannel")
	for _, c := range contract.EventBus() {
		// Only a group that has a subscriber in the case can be declared: Publish waits for it.
		declared := map[string][]string{"mail": {"group"}}
		switch c.Name {
		case "every group gets all events":
			declared = map[string][]string{"mail": {"one", "two", "One"}}
		case "no group gets every event":
			declared = map[string][]string{"mail": {"one"}}
		case "topics are apart":
			declared["session"] = []string{"group"}
		case "nothing is handled after the end", "publishing nothing is no error", "without a group it is set aside too",
			"what can never be handled on a dead topic is dropped":
			continue // nobody subscribes with a group there
		}
		contract.Run(t, []contract.Case[contract.Bus]{c}, func(t *testing.T) contract.Bus {
			cfg := quick
			cfg.Groups = declared
			b := open(t, cfg)
			return contract.Bus{Publisher: b, Subscriber: b}
		})
	}
}
