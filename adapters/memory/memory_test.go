package memory_test

import (
	"context"
	"errors"
	"flag"
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
	"github.com/parley-chat/parley/core/user"
)

func TestStore(t *testing.T) {
	contract.RunStore(t, func(*testing.T) contract.Store {
		s := memory.NewStore()
		p := s.Ports()
		return contract.Store{
			Users: p.Users, Outbox: p.Outbox, Asides: p.Asides, Sessions: p.Sessions, Codes: p.Codes, SignUps: p.SignUps,
			Nonces: p.Nonces, Limiter: memory.NewLimiter(memory.LimiterConfig{}),
			MailQueue: p.MailQueue, DeadLetters: p.DeadLetters, MailStats: p.MailStats,
			Messages: p.Messages, Rooms: p.Rooms, Members: p.Members, Marks: p.Marks, Roles: p.Roles, Restrictions: p.Restrictions, Blocks: p.Blocks, Settings: p.Settings, Directory: p.Directory, Audit: p.Audit, Factors: p.Factors, Pruner: p.Pruner,
		}
	}, contract.Except("Standings", "two reads in memory cost no more than one"))
}

var unreadSteps = flag.Int("unread.steps", 300, "random steps of TestUnread")

// TestUnread holds that what is read and unread is exact after each of many random steps.
func TestUnread(t *testing.T) {
	deadline := contract.Deadline + time.Duration(*unreadSteps)*100*time.Millisecond
	contract.RunWithin(t, deadline, []contract.Case[contract.Reading]{contract.Unread(7, *unreadSteps)}, func(*testing.T) contract.Reading {
		p := memory.NewPorts()
		return contract.Reading{Marks: p.Marks, Members: p.Members, Messages: p.Messages}
	})
}

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

func TestHasher(t *testing.T) {
	contract.Run(t, contract.Hasher(), func(*testing.T) auth.Hasher { return memory.NewHasher() })
}

func TestTokens(t *testing.T) {
	contract.Run(t, contract.TokenVerifier(), func(*testing.T) contract.Tokens {
		tokens := memory.NewTokens(memory.TokensConfig{})
		return contract.Tokens{Issuer: tokens, Verifier: tokens, Stranger: memory.NewTokens(memory.TokensConfig{})}
	})
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

func (c client) Ping(context.Context, ...[]byte) error { return nil }

func (c client) Cut() error {
	c.Client.Close()
	return nil
}

func TestConn(t *testing.T) {
	contract.Run(t, contract.Conn(), func(t *testing.T) contract.Pipe {
		acceptor := contract.NewAcceptor()
		var dial func(context.Context) (contract.Pipe, error)
		dial = func(ctx context.Context) (contract.Pipe, error) {
			c := client{memory.Connect(acceptor, user.Identity{})}
			t.Cleanup(c.Client.Close)
			server, err := acceptor.Next(ctx)
			return contract.Pipe{
				Server: server.Conn, Receiver: server.Receiver, Client: c, CutAfter: time.Millisecond, Another: dial,
				Refused: func(_ context.Context, err error) (contract.Client, error) {
					acceptor.Refuse(err)
					defer acceptor.Refuse(nil)
					return client{memory.Connect(acceptor, user.Identity{})}, nil
				},
			}, err
		}
		pipe, err := dial(t.Context())
		require.NoError(t, err)
		return pipe
	}, contract.Except("a ping is answered", "there is no WebSocket between the two ends"),
		contract.Except("pings in a row are each answered", "there is no WebSocket between the two ends"))
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
