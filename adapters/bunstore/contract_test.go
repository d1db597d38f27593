package bunstore_test

import (
	"testing"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
)

// onEach runs a suite on a store of [bunstore.OpenSQLite], on one of [bunstore.New] on a
// handle with several connections whose transactions begin deferred, and on every server.
func onEach[P any](t *testing.T, cases []contract.Case[P], port func(*bunstore.Store) P) {
	t.Parallel()
	t.Run("OpenSQLite", func(t *testing.T) {
		contract.On(t, "bunstore", "SQLite")
		contract.Run(t, cases, func(t *testing.T) P { return port(open(t)) })
	})
	t.Run("New", func(t *testing.T) {
		contract.On(t, "bunstore", "SQLite")
		contract.Run(t, cases, func(t *testing.T) P { return port(openPlain(t)) })
	})
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			contract.On(t, "bunstore", e.name)
			s := e.migrated(t)
			contract.Run(t, cases, func(t *testing.T) P {
				e.wipe(t, s)
				return port(s)
			})
		})
	}
}

func users(s *bunstore.Store) contract.Users {
	return contract.Users{Repository: s.Users(), Outbox: s.Outbox()}
}

func mails(s *bunstore.Store) contract.Mails {
	return contract.Mails{Queue: s.MailQueue(), Letters: s.MailQueue(), Stats: s.MailQueue()}
}

func sessions(s *bunstore.Store) contract.Sessions {
	return contract.Sessions{Store: s.Sessions(), Outbox: s.Outbox(), Sweeper: s.Sessions()}
}

func standing(s *bunstore.Store) contract.Standing {
	return contract.Standing{Reader: s.Sessions(), Sessions: s.Sessions(), Users: s.Users()}
}

func codes(s *bunstore.Store) contract.Codes {
	return contract.Codes{Store: s.Codes(), Outbox: s.Outbox(), Sweeper: s.Codes()}
}

func signUps(s *bunstore.Store) contract.WaitingSignUps {
	return contract.WaitingSignUps{Store: s.SignUps(), Outbox: s.Outbox(), Sweeper: s.SignUps()}
}

func nonces(s *bunstore.Store) auth.Nonces             { return s.Nonces() }
func limiter(s *bunstore.Store) auth.Limiter           { return s.Limiter() }
func messageStore(s *bunstore.Store) chat.MessageStore { return s.Messages() }
func rooms(s *bunstore.Store) chat.Rooms               { return s.Rooms() }
func members(s *bunstore.Store) chat.Members           { return s.Members() }

func TestUserRepositoryContract(t *testing.T) { onEach(t, contract.UserRepository(), users) }
func TestOutboxContract(t *testing.T)         { onEach(t, contract.Outbox(), users) }
func TestSessionStoreContract(t *testing.T)   { onEach(t, contract.SessionStore(), sessions) }
func TestStandingsContract(t *testing.T)      { onEach(t, contract.Standings(), standing) }
func TestCodeStoreContract(t *testing.T)      { onEach(t, contract.CodeStore(), codes) }
func TestSignUpsContract(t *testing.T)        { onEach(t, contract.SignUps(), signUps) }
func TestNoncesContract(t *testing.T)         { onEach(t, contract.Nonces(), nonces) }
func TestLimiterContract(t *testing.T)        { onEach(t, contract.Limiter(), limiter) }
func TestMessageStoreContract(t *testing.T)   { onEach(t, contract.MessageStore(), messageStore) }
func TestRoomsContract(t *testing.T)          { onEach(t, contract.Rooms(), rooms) }
func TestMembersContract(t *testing.T)        { onEach(t, contract.Members(), members) }
func TestMailQueueContract(t *testing.T)      { onEach(t, contract.MailQueue(), mails) }
func TestDeadLettersContract(t *testing.T)    { onEach(t, contract.DeadLetters(), mails) }
func TestMailStatsContract(t *testing.T)      { onEach(t, contract.MailStats(), mails) }
