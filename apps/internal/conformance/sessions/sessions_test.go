// Package sessions_test runs the rules of sessions and of limits on every store, with as many
// sessions as a broken client opens, and looks for an order of what is called at once.
package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/connstring"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit/servers"
)

// many is how many sessions one user has: a client that signs in and never out, for a month.
const many = 14_000

// deadline is how long a request may take.
const deadline = 10 * time.Second

// ports are those of a store that accounts need.
type ports struct {
	users     user.Repository
	sessions  auth.SessionStore
	standings auth.Standings
	codes     auth.CodeStore
	signUps   auth.SignUps
	nonces    auth.Nonces
	limiter   auth.Limiter
	outbox    event.Outbox
	queue     mail.Queue
	letters   mail.DeadLetters
	close     func() error
}

// stores opens each kind of store on a place of its own. Opened again, it has what it had.
var stores = map[string]func(t *testing.T) (open func(t *testing.T) ports){
	"SQLite": func(t *testing.T) func(*testing.T) ports {
		file := filepath.Join(t.TempDir(), "parley.db")
		return func(t *testing.T) ports {
			return sql(t)(bunstore.OpenSQLite(t.Context(), file, bunstore.SQLiteConfig{RelaxedSync: true}))
		}
	},
	"PostgreSQL": func(t *testing.T) func(*testing.T) ports {
		url := servers.Postgres(t)
		return func(t *testing.T) ports {
			return sql(t)(bunstore.OpenPostgres(t.Context(), url, bunstore.Config{}))
		}
	},
	"MariaDB": func(t *testing.T) func(*testing.T) ports {
		url := servers.MySQL(t)
		return func(t *testing.T) ports { return sql(t)(bunstore.OpenMySQL(t.Context(), url, bunstore.Config{})) }
	},
	"Mongo": func(t *testing.T) func(*testing.T) ports {
		url := servers.Mongo(t, func(ctx context.Context, url string) error {
			parsed, err := connstring.ParseAndValidate(url)
			if err != nil {
				return err
			}
			client, err := mongo.Connect(options.Client().ApplyURI(url))
			if err != nil {
				return err
			}
			return errors.Join(client.Database(parsed.Database).Drop(ctx), client.Disconnect(ctx))
		})
		return func(t *testing.T) ports {
			s, err := mongostore.Open(t.Context(), url, mongostore.Config{})
			require.NoError(t, err)
			require.NoError(t, s.Migrate(t.Context()))
			return ports{s.Users(), s.Sessions(), nil, s.Codes(), s.SignUps(), s.Nonces(), s.Limiter(), s.Outbox(), s.MailQueue(), s.MailQueue(), s.Close}
		}
	},
}

func sql(t *testing.T) func(*bunstore.Store, error) ports {
	return func(s *bunstore.Store, err error) ports {
		require.NoError(t, err)
		require.NoError(t, s.Migrate(t.Context()))
		return ports{s.Users(), s.Sessions(), s.Sessions(), s.Codes(), s.SignUps(), s.Nonces(), s.Limiter(), s.Outbox(), s.MailQueue(), s.MailQueue(), s.Close}
	}
}

func onEach(t *testing.T, test func(t *testing.T, open func(t *testing.T) ports)) {
	t.Parallel()
	for name, prepare := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, prepare(t))
		})
	}
}

// calls counts what a service asks of the stores of users and sessions.
type calls struct {
	user.Repository
	n       *atomic.Int64
	written *atomic.Int64
}

func (c calls) ByID(ctx context.Context, id user.ID) (user.User, error) {
	c.n.Add(1)
	return c.Repository.ByID(ctx, id)
}

func (c calls) Update(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
	c.n.Add(1)
	c.written.Add(1)
	return c.Repository.Update(ctx, id, change, events...)
}

type sessionCalls struct {
	auth.SessionStore
	calls
}

func (c sessionCalls) ByID(ctx context.Context, id string) (auth.Session, error) {
	c.n.Add(1)
	return c.SessionStore.ByID(ctx, id)
}

func (c sessionCalls) Create(ctx context.Context, s auth.Session, events ...event.Event) error {
	c.n.Add(1)
	c.written.Add(1)
	return c.SessionStore.Create(ctx, s, events...)
}

func (c sessionCalls) Update(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
	c.n.Add(1)
	c.written.Add(1)
	return c.SessionStore.Update(ctx, id, change, events...)
}

func (c sessionCalls) ByUser(ctx context.Context, id user.ID, at time.Time, limit int) ([]auth.Session, error) {
	c.n.Add(1)
	found, err := c.SessionStore.ByUser(ctx, id, at, limit)
	if len(found) > 101 {
		err = errors.New("more sessions are read than may go on")
	}
	return found, err
}

// service is the rules over the ports, and what they ask.
func service(t *testing.T, p ports) (*auth.Service, *atomic.Int64, *atomic.Int64) {
	t.Helper()
	tokens := memory.NewTokens(memory.TokensConfig{})
	c := calls{p.users, &atomic.Int64{}, &atomic.Int64{}}
	s, err := auth.New(auth.Config{
		Users: c, Sessions: sessionCalls{p.sessions, c}, Standings: p.standings, Codes: p.codes, Nonces: p.nonces, Limiter: p.limiter,
		SignUps: p.signUps, SignUpsPerAddress: 100, MailRate: auth.Rate{Burst: 100_000, Per: time.Minute},
		Hasher: memory.NewHasher(), Issuer: tokens, Verifier: tokens,
	})
	require.NoError(t, err)
	return s, c.n, c.written
}

const password = "correct horse battery"

func person(t *testing.T, p ports, id user.ID, email user.Email) {
	t.Helper()
	hash, err := memory.NewHasher().Hash(t.Context(), password)
	require.NoError(t, err)
	at := time.Now().UTC().Add(-time.Hour).Truncate(time.Microsecond)
	require.NoError(t, p.users.Create(t.Context(), user.User{ID: id, FullName: "Ada", Email: email, PasswordHash: hash, CreatedAt: at, VerifiedAt: at, PasswordChangedAt: at}))
}

// TestManySessions ends 14,000 sessions of one user, each way by one write and within a request.
func TestManySessions(t *testing.T) {
	if testing.Short() {
		t.Skip("it stores 14,000 sessions on each store")
	}
	onEach(t, func(t *testing.T, open func(t *testing.T) ports) {
		p := open(t)
		t.Cleanup(func() { assert.NoError(t, p.close()) })
		person(t, p, "ada", "ada@example.com")
		person(t, p, "bob", "bob@example.com")
		old := time.Now().UTC().Add(-time.Minute).Truncate(time.Microsecond)
		var next atomic.Int64
		var filling sync.WaitGroup
		for range 16 {
			filling.Go(func() {
				for i := next.Add(1); i <= many; i = next.Add(1) {
					at := old.Add(-time.Duration(i) * time.Millisecond)
					err := p.sessions.Create(context.Background(), auth.Session{
						ID: fmt.Sprintf("old-%05d", i), UserID: "ada", FamilyHash: "f", TokenHash: "t", CreatedAt: at, RotatedAt: at, ExpiresAt: at.Add(30 * 24 * time.Hour),
					})
					if !assert.NoError(t, err) {
						return
					}
				}
			})
		}
		filling.Wait()
		s, asked, written := service(t, p)
		within := func(what string, reads, writes int64, do func(ctx context.Context) error) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			n, w, started := asked.Load(), written.Load(), time.Now()
			require.NoError(t, do(ctx), what)
			t.Logf("%s: %v", what, time.Since(started).Round(time.Millisecond))
			require.LessOrEqual(t, asked.Load()-n, reads, what)
			require.Equal(t, writes, written.Load()-w, what)
		}
		signIn := func(email string) (g auth.Grant, who user.Identity) {
			within("sign-in of "+email, 5, map[string]int64{"ada@example.com": 2, "bob@example.com": 2}[email], func(ctx context.Context) (err error) {
				g, err = s.SignIn(ctx, auth.Client{}, email, password)
				return err
			})
			who, err := s.Authenticate(t.Context(), g.AccessToken)
			require.NoError(t, err)
			return g, who
		}
		ended := func(g auth.Grant) {
			t.Helper()
			_, err := s.Refresh(t.Context(), g.RefreshToken)
			require.ErrorIs(t, err, auth.ErrSessionEnded)
			_, err = s.Authenticate(t.Context(), g.AccessToken)
			require.ErrorIs(t, err, auth.ErrSessionEnded)
		}
		bob, _ := signIn("bob@example.com")
		thief, _ := signIn("ada@example.com") // and the oldest go, in one write
		living, err := p.sessions.ByUser(t.Context(), "ada", time.Now(), 200)
		require.NoError(t, err)
		u, err := p.users.ByID(t.Context(), "ada")
		require.NoError(t, err)
		n := 0
		for _, x := range living {
			if !x.CreatedAt.Before(u.SessionsFrom) {
				n++
			}
		}
		require.Equal(t, 100, n, "so many sessions go on")
		mine, who := signIn("ada@example.com")

		// One read of them looks for sessions that the old password opened meanwhile.
		within("a new password", 6, 1, func(ctx context.Context) error { return s.ChangePassword(ctx, who, password, password+"!") })
		ended(thief)
		mine, err = s.Refresh(t.Context(), mine.RefreshToken)
		require.NoError(t, err, "the session that changed the password goes on")
		within("sign-out everywhere", 3, 1, func(ctx context.Context) error { return s.SignOutAll(ctx, who) })
		ended(mine)
		_, err = s.Refresh(t.Context(), bob.RefreshToken)
		require.NoError(t, err)

		pending, err := p.outbox.Pending(t.Context(), 100)
		require.NoError(t, err)
		var kinds []string
		for _, e := range pending {
			kinds = append(kinds, e.Type)
		}
		require.Equal(t, 4, strings.Count(strings.Join(kinds, " "), auth.TypeSessionsRevoked), "one event each: %v", kinds)
	})
}

// TestRefreshRaces uses one token from many goroutines on two programs that share the store: all get
// one successor.
func TestRefreshRaces(t *testing.T) {
	onEach(t, func(t *testing.T, open func(t *testing.T) ports) {
		one, two := open(t), open(t)
		t.Cleanup(func() { assert.NoError(t, errors.Join(one.close(), two.close())) })
		person(t, one, "ada", "ada@example.com")
		a, _, _ := service(t, one)
		b, _, _ := service(t, two)
		g, err := a.SignIn(t.Context(), auth.Client{}, "ada@example.com", password)
		require.NoError(t, err)
		for range 5 {
			tokens := make([]string, 12)
			var wg sync.WaitGroup
			for i := range tokens {
				wg.Go(func() {
					got, err := []*auth.Service{a, b}[i%2].Refresh(context.Background(), g.RefreshToken)
					assert.NoError(t, err)
					tokens[i] = got.RefreshToken
				})
			}
			wg.Wait()
			for _, token := range tokens {
				require.Equal(t, tokens[0], token)
				require.NotEqual(t, g.RefreshToken, token)
			}
			g.RefreshToken = tokens[0]
		}
	})
}

// TestLimitsSurviveARestart uses an allowance up, and opens the store again.
func TestLimitsSurviveARestart(t *testing.T) {
	onEach(t, func(t *testing.T, open func(t *testing.T) ports) {
		p := open(t)
		person(t, p, "ada", "ada@example.com")
		s, _, _ := service(t, p)
		from := auth.Client{Address: "192.0.2.1"}
		g, err := s.SignIn(t.Context(), from, "ada@example.com", password)
		require.NoError(t, err)
		for err == nil || errors.Is(err, auth.ErrInvalidCredentials) {
			_, err = s.SignIn(t.Context(), from, "ada@example.com", "guess")
		}
		require.ErrorIs(t, err, auth.ErrTooMany)
		require.NoError(t, p.close())

		p = open(t)
		t.Cleanup(func() { assert.NoError(t, p.close()) })
		s, _, _ = service(t, p)
		for range 3 {
			_, err = s.SignIn(t.Context(), from, "ada@example.com", "guess")
			if errors.Is(err, auth.ErrTooMany) {
				break // or a slow machine has earned one more
			}
		}
		require.ErrorIs(t, err, auth.ErrTooMany)
		_, err = s.SignIn(t.Context(), auth.Client{Address: from.Address, Device: g.DeviceToken}, "ada@example.com", password)
		require.NoError(t, err, "a device that has signed in before is known after a restart")

		sweeper := p.limiter
		removed, err := sweeper.DeleteExpired(t.Context(), time.Now().Add(-time.Hour))
		require.NoError(t, err)
		require.Zero(t, removed)
		removed, err = sweeper.DeleteExpired(t.Context(), time.Now().Add(time.Hour))
		require.NoError(t, err)
		require.Equal(t, 5, removed, "an address from a network, the address, the network, a device, and the look for it")
	})
}

// TestLostAnswersSurviveARestart loses the answer of a refresh, and opens the store again: whoever has the old token gets the same successor, and nothing that is
// stored is one. Once the successor was used, the old token ends the session, and that survives a restart too.
func TestLostAnswersSurviveARestart(t *testing.T) {
	onEach(t, func(t *testing.T, open func(t *testing.T) ports) {
		p := open(t)
		person(t, p, "ada", "ada@example.com")
		now := time.Now().UTC()
		at := func(s *auth.Config) { s.Now = func() time.Time { return now } }
		s := over(t, p, at)
		g, err := s.SignIn(t.Context(), auth.Client{Address: "192.0.2.77", UserAgent: "curl/8"}, "ada@example.com", password)
		require.NoError(t, err)
		lost, err := s.Refresh(t.Context(), g.RefreshToken)
		require.NoError(t, err)
		again := func() {
			t.Helper()
			require.NoError(t, p.close())
			p = open(t)
			s = over(t, p, at)
		}
		again()
		now = now.Add(10*time.Second - time.Microsecond)
		same, err := s.Refresh(t.Context(), g.RefreshToken)
		require.NoError(t, err)
		require.Equal(t, lost.RefreshToken, same.RefreshToken)
		who, err := s.Authenticate(t.Context(), same.AccessToken)
		require.NoError(t, err)
		stored, err := p.sessions.ByID(t.Context(), who.SessionID)
		require.NoError(t, err)
		require.Equal(t, "curl", stored.Device)
		require.Equal(t, "192.0.2.0/24", stored.Network)
		for _, token := range []string{g.RefreshToken, lost.RefreshToken} {
			for _, secret := range strings.Split(token, ".")[1:] {
				require.NotContains(t, fmt.Sprintf("%+v", stored), secret)
			}
		}
		newest, err := s.Refresh(t.Context(), same.RefreshToken)
		require.NoError(t, err)
		again()
		_, err = s.Refresh(t.Context(), g.RefreshToken)
		require.ErrorIs(t, err, auth.ErrSessionEnded, "its successor was used")
		again()
		_, err = s.Refresh(t.Context(), newest.RefreshToken)
		require.ErrorIs(t, err, auth.ErrSessionEnded, "the whole family has ended")
		require.NoError(t, p.close())
	})
}

// over is the rules over the ports.
func over(t *testing.T, p ports, edit func(*auth.Config)) *auth.Service {
	t.Helper()
	tokens := memory.NewTokens(memory.TokensConfig{})
	cfg := auth.Config{
		Users: p.users, Sessions: p.sessions, Standings: p.standings, Codes: p.codes, Nonces: p.nonces, Limiter: p.limiter,
		SignUps: memory.NewStore().SignUps, Hasher: memory.NewHasher(), Issuer: tokens, Verifier: tokens,
	}
	edit(&cfg)
	s, err := auth.New(cfg)
	require.NoError(t, err)
	return s
}
