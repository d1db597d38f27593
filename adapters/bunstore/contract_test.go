package bunstore_test

import (
	"testing"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/contract"
)

func ports(s *bunstore.Store) contract.Store {
	return contract.Store{
		Users: s.Users(), Outbox: s.Outbox(), Sessions: s.Sessions(), Standings: s.Sessions(), Codes: s.Codes(), SignUps: s.SignUps(),
		Nonces: s.Nonces(), Limiter: s.Limiter(), SessionSweeper: s.Sessions(), CodeSweeper: s.Codes(), SignUpSweeper: s.SignUps(),
		MailQueue: s.MailQueue(), DeadLetters: s.MailQueue(), MailStats: s.MailQueue(),
		Messages: s.Messages(), Rooms: s.Rooms(), Members: s.Members(),
	}
}

// TestContract runs on a store of [bunstore.OpenSQLite], on one of [bunstore.New] on a handle with several connections
// whose transactions begin deferred, and on every server.
func TestContract(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(testing.TB) *bunstore.Store{"OpenSQLite": open, "New": openPlain} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			contract.On(t, "bunstore", "SQLite")
			contract.RunStore(t, func(t *testing.T) contract.Store { return ports(open(t)) })
		})
	}
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			contract.On(t, "bunstore", e.name)
			s := e.migrated(t)
			contract.RunStore(t, func(t *testing.T) contract.Store {
				e.wipe(t, s)
				return ports(s)
			})
		})
	}
}
