package bunstore_test

import (
	"flag"
	"testing"
	"time"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/contract"
)

func ports(s *bunstore.Store) contract.Store {
	p := s.Ports()
	return contract.Store{
		Users: p.Users, Outbox: p.Outbox, Asides: p.Asides, Sessions: p.Sessions, Standings: p.Standings, Codes: p.Codes, SignUps: p.SignUps,
		Nonces: p.Nonces, Limiter: p.Limiter,
		MailQueue: p.MailQueue, DeadLetters: p.DeadLetters, MailStats: p.MailStats,
		Messages: p.Messages, Rooms: p.Rooms, Members: p.Members, Marks: p.Marks, Roles: p.Roles, Restrictions: p.Restrictions, Blocks: p.Blocks,
	}
}

// TestContract runs on a store of [bunstore.OpenSQLite], on one of [bunstore.New] on a handle with several connections
// whose transactions begin deferred, and on every server.
func TestContract(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(testing.TB) *bunstore.Store{"OpenSQLite": open, "New": openPlain} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && name == "New" {
				t.Skip("skipped by -short: the whole contract once more")
			}
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

var unreadSteps = flag.Int("unread.steps", 300, "random steps of TestUnread")

// TestUnread holds that what is read and unread is exact after each of many random steps.
func TestUnread(t *testing.T) {
	t.Parallel()
	holds := func(t *testing.T, s *bunstore.Store) {
		t.Helper()
		deadline := contract.Deadline + time.Duration(*unreadSteps)*100*time.Millisecond
		contract.RunWithin(t, deadline, []contract.Case[contract.Reading]{contract.Unread(7, *unreadSteps)}, func(*testing.T) contract.Reading {
			return contract.Reading{Marks: s.Members(), Members: s.Members(), Messages: s.Messages()}
		})
	}
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		holds(t, open(t))
	})
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			holds(t, e.migrated(t))
		})
	}
}
