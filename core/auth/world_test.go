package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

const (
	ada      = "ada@example.com"
	password = "correct horse"
)

// clock is a clock that tests move.
type clock struct{ nanos atomic.Int64 }

func (c *clock) Now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) Advance(d time.Duration) { c.nanos.Add(int64(d)) }

// world is a service over memory, and hands on its inside.
type world struct {
	*auth.Service
	t         *testing.T
	cfg       auth.Config
	store     *memory.Store
	clock     *clock
	hasher    *countingHasher
	steps     *steps
	committed atomic.Int64
}

// newWorld makes a world; edit may change the configuration.
func newWorld(t *testing.T, edit ...func(*auth.Config)) *world {
	t.Helper()
	w := &world{t: t, store: memory.NewStore(), clock: &clock{}, steps: &steps{}}
	w.clock.nanos.Store(time.Date(2026, 3, 4, 5, 6, 7, 123_456_789, time.UTC).UnixNano())
	w.hasher = &countingHasher{Hasher: memory.NewHasher()}
	tokens := memory.NewTokens(memory.TokensConfig{Now: w.clock.Now})
	w.cfg = auth.Config{
		Users:    &faultyUsers{w.store.Users, w.steps},
		Sessions: &faultySessions{w.store.Sessions, w.steps},
		Codes:    &faultyCodes{w.store.Codes, w.steps},
		SignUps:  &faultySignUps{w.store.SignUps, w.steps},
		Factors:  w.store.Factors,
		Hasher:   w.hasher, Issuer: tokens, Verifier: tokens,
		Nonces: w.store.Nonces, Limiter: memory.NewLimiter(memory.LimiterConfig{}),
		MailRate:   auth.Rate{Burst: 1000, Per: time.Minute},
		SignInRate: auth.Rate{Burst: 1000, Per: time.Minute},
		Now:        w.clock.Now, Committed: func() { w.committed.Add(1) },
	}
	for _, e := range edit {
		e(&w.cfg)
	}
	var err error
	w.Service, err = auth.New(w.cfg)
	require.NoError(t, err)
	return w
}

// barrier returns a function that keeps each of n callers waiting for the others.
func barrier(n int) func() {
	var arrived sync.WaitGroup
	arrived.Add(n)
	return func() {
		arrived.Done()
		arrived.Wait()
	}
}

// events returns what is in the outbox, oldest first.
func (w *world) events() []event.Event {
	w.t.Helper()
	events, err := w.store.Outbox.Pending(context.Background(), 10_000)
	require.NoError(w.t, err)
	return events
}

// last returns the newest event and decodes its data.
func (w *world) last(kind string, data any) event.Event {
	w.t.Helper()
	events := w.events()
	require.NotEmpty(w.t, events)
	e := events[len(events)-1]
	require.Equal(w.t, kind, e.Type)
	require.NoError(w.t, json.Unmarshal(e.Data, data))
	return e
}

func (w *world) types() []string {
	types := []string{}
	for _, e := range w.events() {
		types = append(types, e.Type)
	}
	return types
}

// mails counts the events that ask for a mail.
func (w *world) mails() int {
	n := 0
	for _, kind := range w.types() {
		if kind != mail.TypeNothing {
			n++
		}
	}
	return n
}

func (w *world) user(email string) user.User {
	w.t.Helper()
	u, err := w.store.Users.ByEmail(context.Background(), user.Email(email))
	require.NoError(w.t, err)
	return u
}

// signUp makes a sign-up that waits, and returns its code.
func (w *world) signUp(email string) string {
	w.t.Helper()
	require.NoError(w.t, w.SignUp(context.Background(), auth.Client{}, auth.SignUp{FullName: "Ada Lovelace", Email: email, Password: password}))
	var data mail.UserCreated
	w.last(mail.TypeUserCreated, &data)
	return data.VerificationCode
}

// account makes a verified account.
func (w *world) account(email string) user.User {
	w.t.Helper()
	require.NoError(w.t, w.Verify(context.Background(), w.signUp(email)))
	return w.user(email)
}

// signIn opens a session.
func (w *world) signIn(email, password string) (auth.Grant, user.Identity) {
	w.t.Helper()
	g, err := w.SignIn(context.Background(), auth.Client{}, email, password)
	require.NoError(w.t, err)
	who, err := w.Authenticate(context.Background(), g.AccessToken)
	require.NoError(w.t, err)
	return g, who
}

// countingHasher counts, and asks for an upgrade when told to.
type countingHasher struct {
	auth.Hasher
	hashes, verifies atomic.Int64
	upgrade          atomic.Bool
	during           func() // called at the end of each Verify, if set
	duringHash       func() // called at the end of each Hash, if set
}

func (h *countingHasher) Hash(ctx context.Context, p string) (string, error) {
	h.hashes.Add(1)
	hash, err := h.Hasher.Hash(ctx, p)
	if h.duringHash != nil {
		h.duringHash()
	}
	return hash, err
}

func (h *countingHasher) Verify(ctx context.Context, hash, p string) (bool, bool, error) {
	h.verifies.Add(1)
	ok, _, err := h.Hasher.Verify(ctx, hash, p)
	if h.during != nil {
		h.during()
	}
	return ok, ok && h.upgrade.Load(), err
}

var errInjected = fault.New(fault.Unavailable, "injected", "a fault of the test")

// steps counts writes and fails one of them: the step itself, or only its answer.
type steps struct {
	mu       sync.Mutex
	n        int
	failAt   int // 0: never
	lost     bool
	injected bool
}

// arm makes the n-th write from now fail; lost says that it happens all the same.
func (s *steps) arm(n int, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n, s.failAt, s.lost, s.injected = 0, n, lost, false
}

// disarm ends the faults and reports whether there was one.
func (s *steps) disarm() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failAt = 0
	return s.injected
}

// do runs a write, or fails it. From the fault on nothing works, as after a crash.
func (s *steps) do(write func() error) error {
	s.mu.Lock()
	s.n++
	fails := s.failAt > 0 && s.n >= s.failAt
	first := fails && !s.injected
	s.injected = s.injected || fails
	lost := s.lost
	s.mu.Unlock()
	switch {
	case !fails:
		return write()
	case first && lost:
		if err := write(); err != nil {
			return err
		}
	}
	return errInjected
}

type faultyUsers struct {
	user.Repository
	steps *steps
}

func (f *faultyUsers) Create(ctx context.Context, u user.User, events ...event.Event) error {
	return f.steps.do(func() error { return f.Repository.Create(ctx, u, events...) })
}

func (f *faultyUsers) Update(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (u user.User, err error) {
	err = f.steps.do(func() (err error) { u, err = f.Repository.Update(ctx, id, change, events...); return err })
	if errors.Is(err, errInjected) {
		u = user.User{}
	}
	return u, err
}

type faultySessions struct {
	auth.SessionStore
	steps *steps
}

func (f *faultySessions) Create(ctx context.Context, s auth.Session, events ...event.Event) error {
	return f.steps.do(func() error { return f.SessionStore.Create(ctx, s, events...) })
}

func (f *faultySessions) Update(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (s auth.Session, err error) {
	err = f.steps.do(func() (err error) { s, err = f.SessionStore.Update(ctx, id, change, events...); return err })
	if errors.Is(err, errInjected) {
		s = auth.Session{}
	}
	return s, err
}

type faultyCodes struct {
	auth.CodeStore
	steps *steps
}

func (f *faultyCodes) Put(ctx context.Context, c auth.Code, events ...event.Event) error {
	return f.steps.do(func() error { return f.CodeStore.Put(ctx, c, events...) })
}

func (f *faultyCodes) Use(ctx context.Context, hash string, at time.Time) (c auth.Code, err error) {
	err = f.steps.do(func() (err error) { c, err = f.CodeStore.Use(ctx, hash, at); return err })
	if errors.Is(err, errInjected) {
		c = auth.Code{}
	}
	return c, err
}

type faultySignUps struct {
	auth.SignUps
	steps *steps
}

func (f *faultySignUps) Create(ctx context.Context, w auth.WaitingSignUp, keep int, events ...event.Event) error {
	return f.steps.do(func() error { return f.SignUps.Create(ctx, w, keep, events...) })
}

func (f *faultySignUps) Confirm(ctx context.Context, id string, at time.Time) (w auth.WaitingSignUp, err error) {
	err = f.steps.do(func() (err error) { w, err = f.SignUps.Confirm(ctx, id, at); return err })
	if errors.Is(err, errInjected) {
		w = auth.WaitingSignUp{}
	}
	return w, err
}

// decoded decodes JSON.
func decoded[T any](t *testing.T, data []byte) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal(data, &v))
	return v
}
