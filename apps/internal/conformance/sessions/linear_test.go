package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// What is done by several clients at once has to look as if it was done one after the other, each in the time that its call took (Herlihy and Wing,
// Linearizability, 1990): of addresses, one has it; of two who renew a session, one does; a code is used once; a dead letter is taken up once.
// Histories of random calls are made on each store, and porcupine looks for such an order.

// How much is tried, for each promise on each store.
const (
	clients   = 6
	callsEach = 40 // in a history
	rounds    = 3  // histories
)

// subject is one promise: what clients do, and what the order has to obey.
type subject struct {
	model porcupine.Model
	// begin prepares a history of the given number on p, and returns what a client does next: an input, and the call.
	begin func(t *testing.T, p ports, round int) func(client int, dice *rand.Rand) (input any, call func(context.Context) (any, error))
}

// step is a model of one text, with the rule of each input.
func step(from string, rule func(state string, input, output any) (bool, string), part func(input, output any) string) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return from },
		Step: func(state, input, output any) (bool, any) {
			ok, next := rule(state.(string), input, output)
			return ok, next
		},
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			parts := map[string][]porcupine.Operation{}
			for _, o := range history {
				if p := part(o.Input, o.Output); p != "" {
					parts[p] = append(parts[p], o)
				}
			}
			var all [][]porcupine.Operation
			for _, p := range parts {
				all = append(all, p)
			}
			return all
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
	}
}

type (
	takeAddress  struct{ email, id string }    // true if the account was made, false if the address was taken
	lookAddress  struct{ email string }        // the ID of who has it; empty for nobody
	leaveAddress struct{ email, id string }    // true
	renewSession struct{ id, from, to string } // true if it was as expected
	lookSession  struct{ id string }           // its token
	useCode      struct{ hash string }         // true for the first
	replayLetter struct{ id string }           // true if it was dead
	claimLetter  struct{}                      // the ID of a job; empty for none
	settleLetter struct{ id string }           // true
)

var subjects = map[string]subject{
	"an address has one account": {
		model: step("", func(owner string, input, output any) (bool, string) {
			switch in := input.(type) {
			case takeAddress:
				if output == true {
					return owner == "", in.id
				}
				return owner != "", owner
			case leaveAddress:
				return owner == in.id, ""
			}
			return output == owner, owner
		}, func(input, _ any) string {
			switch in := input.(type) {
			case takeAddress:
				return in.email
			case leaveAddress:
				return in.email
			case lookAddress:
				return in.email
			}
			return ""
		}),
		begin: func(_ *testing.T, p ports, round int) func(int, *rand.Rand) (any, func(context.Context) (any, error)) {
			var mu sync.Mutex
			made := map[int][]takeAddress{} // by client
			n := 0
			return func(client int, dice *rand.Rand) (any, func(context.Context) (any, error)) {
				mu.Lock()
				defer mu.Unlock()
				n++
				email := fmt.Sprintf("linear-%d-%d@example.com", round, dice.IntN(3))
				mine := made[client]
				switch kind := dice.IntN(10); {
				case kind < 5:
					in := takeAddress{email, fmt.Sprintf("linear-%d-%d", round, n)}
					return in, func(ctx context.Context) (any, error) {
						now := time.Now().UTC().Truncate(time.Microsecond)
						err := p.users.Create(ctx, user.User{ID: user.ID(in.id), Email: user.Email(in.email), FullName: "Ada", CreatedAt: now, PasswordChangedAt: now})
						if errors.Is(err, user.ErrEmailTaken) {
							return false, nil
						}
						if err == nil {
							mu.Lock()
							made[client] = append(made[client], in)
							mu.Unlock()
						}
						return true, err
					}
				case kind < 7 && len(mine) > 0:
					in := mine[0]
					made[client] = mine[1:]
					return leaveAddress(in), func(ctx context.Context) (any, error) {
						_, err := p.users.Update(ctx, user.ID(in.id), func(u *user.User) error {
							*u = u.Erase(time.Now().UTC().Truncate(time.Microsecond))
							return nil
						})
						return true, err
					}
				}
				return lookAddress{email}, func(ctx context.Context) (any, error) {
					u, err := p.users.ByEmail(ctx, user.Email(email))
					if errors.Is(err, user.ErrNotFound) {
						return "", nil
					}
					return string(u.ID), err
				}
			}
		},
	},
	"a session is renewed once": {
		model: step("first", func(token string, input, output any) (bool, string) {
			if in, renews := input.(renewSession); renews {
				if output == true {
					return token == in.from, in.to
				}
				return token != in.from, token
			}
			return output == token, token
		}, func(input, _ any) string {
			if in, renews := input.(renewSession); renews {
				return in.id
			}
			return input.(lookSession).id
		}),
		begin: func(t *testing.T, p ports, round int) func(int, *rand.Rand) (any, func(context.Context) (any, error)) {
			now := time.Now().UTC().Truncate(time.Microsecond)
			for i := range 2 {
				id := fmt.Sprintf("linear-%d-%d", round, i)
				require.NoError(t, p.sessions.Create(t.Context(), auth.Session{ID: id, UserID: "linear", FamilyHash: id, TokenHash: "first", CreatedAt: now, ExpiresAt: now.Add(time.Hour)}))
			}
			var mu sync.Mutex
			seen := map[string]string{}
			n := 0
			return func(_ int, dice *rand.Rand) (any, func(context.Context) (any, error)) {
				mu.Lock()
				defer mu.Unlock()
				n++
				id := fmt.Sprintf("linear-%d-%d", round, dice.IntN(2))
				if dice.IntN(3) == 0 {
					return lookSession{id}, func(ctx context.Context) (any, error) {
						s, err := p.sessions.ByID(ctx, id)
						mu.Lock()
						defer mu.Unlock()
						seen[id] = s.TokenHash
						return s.TokenHash, err
					}
				}
				in := renewSession{id, seen[id], fmt.Sprintf("token-%d", n)}
				if in.from == "" || dice.IntN(4) == 0 {
					in.from = "first" // which is most likely somebody's no more
				}
				return in, func(ctx context.Context) (any, error) {
					s, err := p.sessions.Update(ctx, id, func(s *auth.Session) error {
						if s.TokenHash != in.from {
							return errOther
						}
						s.TokenHash = in.to
						return nil
					})
					if errors.Is(err, errOther) {
						return false, nil
					}
					mu.Lock()
					defer mu.Unlock()
					seen[id] = s.TokenHash
					return true, err
				}
			}
		},
	},
	"a code is used once": {
		model: step("unused", func(state string, _, output any) (bool, string) {
			return output == (state == "unused"), "used"
		}, func(input, _ any) string { return input.(useCode).hash }),
		begin: func(t *testing.T, p ports, round int) func(int, *rand.Rand) (any, func(context.Context) (any, error)) {
			now := time.Now().UTC().Truncate(time.Microsecond)
			for i := range 2 * callsEach {
				require.NoError(t, p.codes.Put(t.Context(), auth.Code{Hash: fmt.Sprintf("linear-%d-%d", round, i), UserID: "linear", CreatedAt: now, ExpiresAt: now.Add(time.Hour)}))
			}
			return func(_ int, dice *rand.Rand) (any, func(context.Context) (any, error)) {
				in := useCode{fmt.Sprintf("linear-%d-%d", round, dice.IntN(2*callsEach))}
				return in, func(ctx context.Context) (any, error) {
					c, err := p.codes.Use(ctx, in.hash, time.Now().UTC().Truncate(time.Microsecond))
					return c.UsedAt.IsZero(), err
				}
			}
		},
	},
	"a dead letter is taken up once": {
		model: step("dead", func(state string, input, output any) (bool, string) {
			switch input.(type) {
			case replayLetter:
				if output == true {
					return state == "dead", "ready"
				}
				return state != "dead", state
			case claimLetter:
				return state == "ready", "running"
			}
			return state == "running", "dead"
		}, func(input, output any) string {
			switch in := input.(type) {
			case replayLetter:
				return in.id
			case settleLetter:
				return in.id
			}
			return output.(string) // that nobody got is of no job
		}),
		begin: func(t *testing.T, p ports, round int) func(int, *rand.Rand) (any, func(context.Context) (any, error)) {
			const letters = 3
			now := time.Now().UTC().Truncate(time.Microsecond)
			dead := func(ctx context.Context, j mail.Job) error {
				return p.queue.Settle(ctx, j, mail.Outcome{State: mail.Dead, At: time.Now().UTC().Truncate(time.Microsecond), Error: "refused"})
			}
			for { // what a history before has left
				j, found, err := p.queue.Claim(t.Context(), now, time.Hour)
				require.NoError(t, err)
				if !found {
					break
				}
				require.NoError(t, p.queue.Settle(t.Context(), j, mail.Outcome{State: mail.Sent, At: now}))
			}
			id := func(i int) string { return fmt.Sprintf("linear-%d-%d", round, i) }
			for i := range letters {
				require.NoError(t, p.queue.Enqueue(t.Context(), mail.Job{ID: id(i), Key: id(i), Kind: "poem", To: "ada@example.com", State: mail.Ready, RunAt: now, CreatedAt: now, UpdatedAt: now}))
				j, found, err := p.queue.Claim(t.Context(), now, time.Hour)
				require.NoError(t, err)
				require.True(t, found)
				require.NoError(t, dead(t.Context(), j))
			}
			var mu sync.Mutex
			holds := map[int]mail.Job{} // by client
			return func(client int, dice *rand.Rand) (any, func(context.Context) (any, error)) {
				mu.Lock()
				defer mu.Unlock()
				if j, has := holds[client]; has {
					delete(holds, client)
					return settleLetter{j.ID}, func(ctx context.Context) (any, error) { return true, dead(ctx, j) }
				}
				if dice.IntN(2) == 0 {
					in := replayLetter{id(dice.IntN(letters))}
					return in, func(ctx context.Context) (any, error) {
						err := p.letters.Requeue(ctx, in.id, now, nil)
						if errors.Is(err, mail.ErrNotDead) {
							return false, nil
						}
						return true, err
					}
				}
				return claimLetter{}, func(ctx context.Context) (any, error) {
					j, found, err := p.queue.Claim(ctx, time.Now().UTC().Truncate(time.Microsecond), time.Hour)
					if !found || err != nil {
						return "", err
					}
					mu.Lock()
					defer mu.Unlock()
					holds[client] = j
					return j.ID, nil
				}
			}
		},
	},
}

var errOther = errors.New("it was renewed by somebody else")

// history lets clients call at once, and returns what they did.
func history(t *testing.T, s subject, p ports, round int) []porcupine.Operation {
	t.Helper()
	next := s.begin(t, p, round)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	var mu sync.Mutex
	var all []porcupine.Operation
	var running sync.WaitGroup
	for client := range clients {
		running.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(round), uint64(client))) //nolint:gosec // the same calls each time
			for range callsEach {
				input, call := next(client, dice)
				from := time.Since(began)
				output, err := call(ctx)
				until := time.Since(began)
				if !assert.NoError(t, err, "%T", input) {
					return
				}
				mu.Lock()
				all = append(all, porcupine.Operation{ClientId: client, Input: input, Output: output, Call: int64(from), Return: int64(until)})
				mu.Unlock()
			}
		})
	}
	running.Wait()
	return all
}

// inOrder reports whether what was done can be put in an order.
func inOrder(s subject, all []porcupine.Operation) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(s.model, all, time.Minute)
}

func inMemory(*testing.T) func(*testing.T) ports {
	p := memory.NewPorts()
	return func(*testing.T) ports {
		return ports{
			users: p.Users, sessions: p.Sessions, codes: p.Codes, signUps: p.SignUps, nonces: p.Nonces, limiter: p.Limiter, outbox: p.Outbox,
			queue: p.MailQueue, letters: p.DeadLetters, close: func() error { return nil },
		}
	}
}

func TestCallsAtOnceHaveAnOrder(t *testing.T) {
	t.Parallel()
	holds := func(t *testing.T, open func(*testing.T) ports) {
		t.Parallel()
		p := open(t)
		t.Cleanup(func() { assert.NoError(t, p.close()) })
		for name, s := range subjects {
			t.Run(name, func(t *testing.T) {
				for round := range rounds {
					all := history(t, s, p, round)
					require.Equal(t, porcupine.Ok, inOrder(s, all), "round %d: no order of these calls obeys the rule: %+v", round, all)
				}
			})
		}
	}
	t.Run("memory", func(t *testing.T) { holds(t, inMemory(t)) })
	for name, prepare := range stores {
		t.Run(name, func(t *testing.T) { holds(t, prepare(t)) })
	}
}

// The wrong stores of TestAWrongOrderIsSeen.
type (
	manyOwners    struct{ user.Repository }
	manyRenewals  struct{ auth.SessionStore }
	reusableCodes struct{ auth.CodeStore }
	manyReplays   struct{ mail.DeadLetters }
	twiceClaimed  struct {
		mail.Queue
		last *mail.Job
		mu   *sync.Mutex
	}
)

func (m manyOwners) Create(ctx context.Context, u user.User, events ...event.Event) error {
	if err := m.Repository.Create(ctx, u, events...); !errors.Is(err, user.ErrEmailTaken) {
		return err
	}
	return nil
}

func (m manyOwners) Update(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
	u, err := m.Repository.Update(ctx, id, change, events...)
	if errors.Is(err, user.ErrNotFound) {
		err = nil
	}
	return u, err
}

func (m manyRenewals) Update(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
	return m.SessionStore.Update(ctx, id, func(s *auth.Session) error {
		was := *s
		if change(s) != nil {
			*s = was // and says that it was done
		}
		return nil
	}, events...)
}

func (r reusableCodes) Use(ctx context.Context, hash string, at time.Time) (auth.Code, error) {
	c, err := r.CodeStore.Use(ctx, hash, at)
	c.UsedAt = time.Time{}
	return c, err
}

func (m manyReplays) Requeue(ctx context.Context, id string, at time.Time, data []byte) error {
	if err := m.DeadLetters.Requeue(ctx, id, at, data); !errors.Is(err, mail.ErrNotDead) {
		return err
	}
	return nil
}

func (c twiceClaimed) Claim(ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
	j, found, err := c.Queue.Claim(ctx, now, lease)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !found && err == nil && c.last.ID != "" {
		return *c.last, true, nil
	}
	if found {
		*c.last = j
	}
	return j, found, err
}

func (c twiceClaimed) Settle(ctx context.Context, j mail.Job, o mail.Outcome) error {
	if err := c.Queue.Settle(ctx, j, o); !errors.Is(err, mail.ErrLeaseLost) {
		return err
	}
	return nil
}

// A store that breaks a promise is found out.
func TestAWrongOrderIsSeen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		subject string
		breaks  func(*ports)
	}{
		"two accounts of one address": {"an address has one account", func(p *ports) { p.users = manyOwners{p.users} }},
		"a session renewed twice":     {"a session is renewed once", func(p *ports) { p.sessions = manyRenewals{p.sessions} }},
		"a code used twice":           {"a code is used once", func(p *ports) { p.codes = reusableCodes{p.codes} }},
		"a letter replayed twice":     {"a dead letter is taken up once", func(p *ports) { p.letters = manyReplays{p.letters} }},
		"a job claimed twice":         {"a dead letter is taken up once", func(p *ports) { p.queue = twiceClaimed{p.queue, new(mail.Job), new(sync.Mutex)} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := subjects[c.subject]
			p := inMemory(t)(t)
			c.breaks(&p)
			require.Equal(t, porcupine.Illegal, inOrder(s, history(t, s, p, 0)))
		})
	}
}
