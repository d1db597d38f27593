package memory_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
)

func openUsers(*testing.T) contract.Users {
	s := memory.NewStore()
	return contract.Users{Repository: s.Users, Outbox: s.Outbox}
}

func openMails(*testing.T) contract.Mails {
	q := memory.NewMailQueue()
	return contract.Mails{Queue: q, Letters: q, Stats: q}
}

func TestUsers(t *testing.T)       { contract.Run(t, contract.UserRepository(), openUsers) }
func TestOutbox(t *testing.T)      { contract.Run(t, contract.Outbox(), openUsers) }
func TestMailQueue(t *testing.T)   { contract.Run(t, contract.MailQueue(), openMails) }
func TestDeadLetters(t *testing.T) { contract.Run(t, contract.DeadLetters(), openMails) }
func TestMailStats(t *testing.T)   { contract.Run(t, contract.MailStats(), openMails) }

func TestBus(t *testing.T) {
	contract.Run(t, contract.EventBus(), func(*testing.T) contract.Bus {
		bus := memory.NewBus(memory.BusConfig{})
		return contract.Bus{Publisher: bus, Subscriber: bus}
	})
}

func TestMailbox(t *testing.T) {
	contract.Run(t, contract.MailSender(), func(*testing.T) contract.Outgoing {
		box := memory.NewMailbox(memory.MailboxConfig{})
		return contract.Outgoing{Sender: box, Arrived: func(context.Context) ([]mail.Message, error) {
			var arrived []mail.Message
			for _, m := range box.All() {
				arrived = append(arrived, m.Message)
			}
			return arrived, nil
		}}
	})
}

func TestSessions(t *testing.T) {
	contract.Run(t, contract.SessionStore(), func(*testing.T) contract.Sessions {
		s := memory.NewStore()
		return contract.Sessions{Store: s.Sessions, Outbox: s.Outbox, Sweeper: s.Sessions}
	})
}

func TestCodes(t *testing.T) {
	contract.Run(t, contract.CodeStore(), func(*testing.T) contract.Codes {
		s := memory.NewStore()
		return contract.Codes{Store: s.Codes, Outbox: s.Outbox, Sweeper: s.Codes}
	})
}

func TestSignUps(t *testing.T) {
	contract.Run(t, contract.SignUps(), func(*testing.T) contract.WaitingSignUps {
		s := memory.NewStore()
		return contract.WaitingSignUps{Store: s.SignUps, Outbox: s.Outbox, Sweeper: s.SignUps}
	})
}

func TestNonces(t *testing.T) {
	contract.Run(t, contract.Nonces(), func(*testing.T) auth.Nonces { return memory.NewNonces(memory.NoncesConfig{}) })
}

func TestLimiter(t *testing.T) {
	contract.Run(t, contract.Limiter(), func(*testing.T) auth.Limiter { return memory.NewLimiter(memory.LimiterConfig{}) })
}

func TestHasher(t *testing.T) {
	contract.Run(t, contract.Hasher(), func(*testing.T) auth.Hasher { return memory.NewHasher() })
}

func TestTokens(t *testing.T) {
	contract.Run(t, contract.TokenVerifier(), func(*testing.T) contract.Tokens {
		tokens := memory.NewTokens(memory.TokensConfig{})
		return contract.Tokens{Issuer: tokens, Verifier: tokens, Stranger: memory.NewTokens(memory.TokensConfig{})}
	})
}

func TestMessages(t *testing.T) {
	contract.Run(t, contract.MessageStore(), func(*testing.T) chat.MessageStore { return memory.NewMessages() })
}

func TestRooms(t *testing.T) {
	contract.Run(t, contract.Rooms(), func(*testing.T) chat.Rooms { return memory.NewRooms() })
}

func TestMembers(t *testing.T) {
	contract.Run(t, contract.Members(), func(*testing.T) chat.Members { return memory.NewMembers() })
}

func TestRecentCache(t *testing.T) {
	contract.Run(t, contract.RecentCache(), func(*testing.T) chat.RecentCache {
		return memory.NewRecentCache(memory.RecentCacheConfig{})
	})
}

// client is a memory.Client as the contract wants one: whole messages, errors of its own
// types, and no frames below them.
type client struct{ *memory.Client }

func (c client) Write(_ context.Context, binary bool, parts ...[]byte) error {
	return c.Client.Write(slices.Concat(parts...), binary)
}

func (c client) Read(ctx context.Context) (contract.Message, error) {
	f, err := c.Client.Read(ctx)
	var closed *memory.Closed
	switch {
	case errors.As(err, &closed):
		c.Client.Close() // a second read is another error
		return contract.Message{}, &contract.Closed{Code: closed.Code, Reason: closed.Reason}
	case err != nil:
		return contract.Message{}, err
	}
	return contract.Message{Payload: f.Payload(), Binary: f.Binary()}, nil
}

func (c client) Close(context.Context, int, string) error { return c.Cut() }

func (c client) Ping(context.Context, []byte) error { return nil }

func (c client) Cut() error {
	c.Client.Close()
	return nil
}

func TestConn(t *testing.T) {
	contract.Run(t, contract.Conn(), func(t *testing.T) contract.Pipe {
		acceptor := contract.NewAcceptor()
		var dial func(context.Context) (contract.Pipe, error)
		dial = func(ctx context.Context) (contract.Pipe, error) {
			c := client{memory.Connect(acceptor, socket.Identity{})}
			t.Cleanup(c.Client.Close)
			server, err := acceptor.Next(ctx)
			return contract.Pipe{
				Server: server.Conn, Receiver: server.Receiver, Client: c, CutAfter: time.Millisecond, Another: dial,
				Refused: func(_ context.Context, err error) (contract.Client, error) {
					acceptor.Refuse(err)
					defer acceptor.Refuse(nil)
					return client{memory.Connect(acceptor, socket.Identity{})}, nil
				},
			}, err
		}
		pipe, err := dial(t.Context())
		require.NoError(t, err)
		return pipe
	}, contract.Except("a ping is answered", "there is no WebSocket between the two ends"))
}

func TestFanout(t *testing.T) {
	contract.Run(t, contract.Fanout(), func(*testing.T) contract.FanoutNodes {
		fanout := memory.NewFanout()
		return func(context.Context) (realtime.Fanout, error) { return fanout.Node(), nil }
	})
}

func TestPresence(t *testing.T) {
	contract.Run(t, contract.Presence(), func(*testing.T) realtime.Presence { return memory.NewPresence() })
}
