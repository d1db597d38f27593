package bunstore_test

import (
	"flag"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/mail"
)

func ports(s *bunstore.Store) contract.Store {
	p := s.Ports()
	return contract.Store{
		Users: p.Users, Outbox: p.Outbox, Asides: p.Asides, Sessions: p.Sessions, Standings: p.Standings, Codes: p.Codes, SignUps: p.SignUps,
		Nonces: p.Nonces, Limiter: p.Limiter,
		MailQueue: p.MailQueue, DeadLetters: p.DeadLetters, MailStats: p.MailStats,
		Messages: p.Messages, Rooms: p.Rooms, Members: p.Members, Marks: p.Marks, Roles: p.Roles, Restrictions: p.Restrictions, Blocks: p.Blocks, Settings: p.Settings, Directory: p.Directory, Audit: p.Audit, Factors: p.Factors, Pruner: p.Pruner,
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
		contract.On(t, "bunstore", "SQLite")
		holds(t, open(t))
	})
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			contract.On(t, "bunstore", e.name)
			holds(t, e.migrated(t))
		})
	}
}

// TestWebhookQueue holds that the deliveries of webhooks are kept as mails are, apart from them.
func TestWebhookQueue(t *testing.T) {
	t.Parallel()
	holds := func(t *testing.T, empty func(t *testing.T) *bunstore.Store) {
		t.Helper()
		hooks := func(t *testing.T) contract.Mails {
			q := empty(t).WebhookQueue()
			return contract.Mails{Queue: q, Letters: q, Stats: q}
		}
		for _, suite := range [][]contract.Case[contract.Mails]{contract.MailQueue(), contract.DeadLetters(), contract.MailStats()} {
			contract.Run(t, suite, hooks)
		}
		s := empty(t)
		require.NoError(t, s.WebhookQueue().Enqueue(t.Context(), mail.Job{ID: "1", Key: "1", Kind: "user.created", To: "u", Name: "hall"}))
		_, found, err := s.MailQueue().Claim(t.Context(), time.Now(), time.Minute)
		require.NoError(t, err)
		require.False(t, found, "a mailer has claimed a delivery")
		require.NoError(t, s.MailQueue().Enqueue(t.Context(), mail.Job{ID: "1", Key: "1", To: "u"}))
		j, found, err := s.WebhookQueue().Claim(t.Context(), time.Now(), time.Minute)
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, mail.Kind("user.created"), j.Kind)
		n, err := s.WebhookQueue().DeleteTo(t.Context(), "u")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		_, err = s.MailQueue().Get(t.Context(), "1")
		require.NoError(t, err)
	}
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		contract.On(t, "bunstore", "SQLite")
		holds(t, func(t *testing.T) *bunstore.Store { return open(t) })
	})
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			contract.On(t, "bunstore", e.name)
			s := e.migrated(t)
			holds(t, func(t *testing.T) *bunstore.Store {
				e.wipe(t, s)
				return s
			})
		})
	}
}
