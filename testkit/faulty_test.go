package testkit_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/health"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
	"github.com/parley-chat/parley/testkit"
)

var at = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// nothing is a connection that takes everything.
type nothing struct{}

func (nothing) Send(*socket.Frame) error { return nil }
func (nothing) Queued() int              { return 7 }
func (nothing) Close(int, string)        {}

// ports is every port behind two plans: outer, which goes wrong, and inner, which counts
// what comes through.
type ports struct {
	users         user.Repository
	publisher     event.Publisher
	subscriber    event.Subscriber
	outbox        event.Outbox
	asides        event.Asides
	sender        mail.Sender
	queue         mail.Queue
	deadLetters   mail.DeadLetters
	stats         mail.Stats
	hasher        auth.Hasher
	issuer        auth.TokenIssuer
	verifier      auth.TokenVerifier
	sessions      auth.SessionStore
	codes         auth.CodeStore
	factors       auth.FactorStore
	signUps       auth.SignUps
	nonces        auth.Nonces
	limiter       auth.Limiter
	messages      chat.MessageStore
	rooms         chat.Rooms
	members       chat.Members
	marks         chat.Marks
	restrictions  chat.Restrictions
	blocks        chat.Blocks
	settings      chat.Settings
	directory     user.Directory
	audit         audit.Log
	roles         chat.Roles
	pruner        chat.Pruner
	cache         chat.RecentCache
	access        chat.Access
	fanout        realtime.Fanout
	presence      realtime.Presence
	authenticator socket.Authenticator
	conn          socket.Conn
	check         health.Check

	hash, token string // of a password, of claims
	claimed     mail.Job
}

func twice[P any](next P, faulty func(P, *testkit.Faults) P, outer, inner *testkit.Faults) P {
	return faulty(faulty(next, inner), outer)
}

// open fills memory's adapters with what the calls below need, and hides them behind the plans.
func open(t *testing.T, outer, inner *testkit.Faults) *ports {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s := memory.NewStore()
	must(s.Users.Create(ctx, user.User{ID: "u", Email: "ada@example.com"}, event.Event{ID: "aside", Topic: "t", Type: "x.y"}))
	must(s.Outbox.SetAside(ctx, "aside", "reason"))
	must(s.Sessions.Create(ctx, auth.Session{ID: "s", UserID: "u"}))
	must(s.Codes.Put(ctx, auth.Code{Hash: "h"}))
	must(s.Audit.Append(ctx, audit.Entry{ID: "entry", At: at}))
	must(s.SignUps.Create(ctx, auth.WaitingSignUp{ID: "w", Email: "ada@example.com"}, 5))
	_, err := s.Rooms.Ensure(ctx, chat.Room{Name: "r"})
	must(err)
	for _, id := range []string{"dead", "claimed", "ready"} {
		must(s.MailQueue.Enqueue(ctx, mail.Job{ID: id, Key: id}))
	}
	dead, _, err := s.MailQueue.Claim(ctx, at, time.Minute)
	must(err)
	must(s.MailQueue.Settle(ctx, dead, mail.Outcome{State: mail.Dead}))
	claimed, _, err := s.MailQueue.Claim(ctx, at, time.Minute)
	must(err)
	hash, err := memory.NewHasher().Hash(ctx, "password")
	must(err)
	tokens := memory.NewTokens(memory.TokensConfig{Now: func() time.Time { return at }})
	token, err := tokens.Issue(ctx, auth.Claims{Audience: auth.AudienceAPI, ExpiresAt: at.Add(time.Minute)})
	must(err)
	authenticator := memory.NewAuthenticator()
	authenticator.AllowToken("token", user.Identity{SessionID: "s"})
	authenticator.AllowTicket("ticket", user.Identity{SessionID: "s"})
	bus := memory.NewBus(memory.BusConfig{})
	recent := memory.NewRecentCache(memory.RecentCacheConfig{})
	if err := recent.Add(t.Context(), chat.Message{Room: "r", Seq: 1}); err != nil {
		t.Fatal(err)
	}
	probe := func(context.Context) (map[string]any, error) { return map[string]any{"is": "up"}, nil }
	return &ports{
		users:         twice(user.Repository(s.Users), testkit.FaultyUsers, outer, inner),
		publisher:     twice(event.Publisher(bus), testkit.FaultyPublisher, outer, inner),
		subscriber:    twice(event.Subscriber(bus), testkit.FaultySubscriber, outer, inner),
		outbox:        twice(event.Outbox(s.Outbox), testkit.FaultyOutbox, outer, inner),
		asides:        twice(event.Asides(s.Asides), testkit.FaultyAsides, outer, inner),
		sender:        twice(mail.Sender(testkit.NewMailbox()), testkit.FaultySender, outer, inner),
		queue:         twice(mail.Queue(s.MailQueue), testkit.FaultyQueue, outer, inner),
		deadLetters:   twice(mail.DeadLetters(s.MailQueue), testkit.FaultyDeadLetters, outer, inner),
		stats:         twice(mail.Stats(s.MailQueue), testkit.FaultyStats, outer, inner),
		hasher:        twice(auth.Hasher(memory.NewHasher()), testkit.FaultyHasher, outer, inner),
		issuer:        twice(auth.TokenIssuer(tokens), testkit.FaultyIssuer, outer, inner),
		verifier:      twice(auth.TokenVerifier(tokens), testkit.FaultyVerifier, outer, inner),
		sessions:      twice(auth.SessionStore(s.Sessions), testkit.FaultySessions, outer, inner),
		codes:         twice(auth.CodeStore(s.Codes), testkit.FaultyCodes, outer, inner),
		factors:       twice(auth.FactorStore(s.Factors), testkit.FaultyFactors, outer, inner),
		signUps:       twice(auth.SignUps(s.SignUps), testkit.FaultySignUps, outer, inner),
		nonces:        twice(auth.Nonces(s.Nonces), testkit.FaultyNonces, outer, inner),
		limiter:       twice(auth.Limiter(memory.NewLimiter(memory.LimiterConfig{})), testkit.FaultyLimiter, outer, inner),
		messages:      twice(chat.MessageStore(s.Messages), testkit.FaultyMessages, outer, inner),
		rooms:         twice(chat.Rooms(s.Rooms), testkit.FaultyRooms, outer, inner),
		members:       twice(chat.Members(s.Members), testkit.FaultyMembers, outer, inner),
		marks:         twice(chat.Marks(s.Members), testkit.FaultyMarks, outer, inner),
		restrictions:  twice(chat.Restrictions(s.Restrictions), testkit.FaultyRestrictions, outer, inner),
		blocks:        twice(chat.Blocks(s.Blocks), testkit.FaultyBlocks, outer, inner),
		audit:         twice(audit.Log(s.Audit), testkit.FaultyAudit, outer, inner),
		directory:     twice(user.Directory(s.Users), testkit.FaultyDirectory, outer, inner),
		settings:      twice(chat.Settings(s.Settings), testkit.FaultySettings, outer, inner),
		roles:         twice(chat.Roles(s.Roles), testkit.FaultyRoles, outer, inner),
		pruner:        twice(chat.Pruner(s.Pruner), testkit.FaultyPruner, outer, inner),
		cache:         twice(chat.RecentCache(recent), testkit.FaultyCache, outer, inner),
		access:        twice(chat.Access(chat.OpenAccess{}), testkit.FaultyAccess, outer, inner),
		fanout:        twice(realtime.Fanout(memory.NewFanout().Node()), testkit.FaultyFanout, outer, inner),
		presence:      twice(realtime.Presence(memory.NewPresence()), testkit.FaultyPresence, outer, inner),
		authenticator: twice(socket.Authenticator(authenticator), testkit.FaultyAuthenticator, outer, inner),
		conn:          twice(socket.Conn(nothing{}), testkit.FaultyConn, outer, inner),
		check:         twice(health.Check{Name: "check", Probe: probe}, testkit.FaultyCheck, outer, inner),
		hash:          hash, token: token, claimed: claimed,
	}
}

func TestMethodsAreThoseOfThePorts(t *testing.T) {
	t.Parallel()
	var names []string
	for port, itself := range map[string]reflect.Type{
		"Users": reflect.TypeFor[user.Repository](), "Publisher": reflect.TypeFor[event.Publisher](),
		"Subscriber": reflect.TypeFor[event.Subscriber](), "Outbox": reflect.TypeFor[event.Outbox](),
		"Asides": reflect.TypeFor[event.Asides](),
		"Sender": reflect.TypeFor[mail.Sender](), "Queue": reflect.TypeFor[mail.Queue](),
		"DeadLetters": reflect.TypeFor[mail.DeadLetters](), "Stats": reflect.TypeFor[mail.Stats](),
		"Hasher": reflect.TypeFor[auth.Hasher](), "Issuer": reflect.TypeFor[auth.TokenIssuer](),
		"Verifier": reflect.TypeFor[auth.TokenVerifier](), "Sessions": reflect.TypeFor[auth.SessionStore](),
		"Codes": reflect.TypeFor[auth.CodeStore](), "Factors": reflect.TypeFor[auth.FactorStore](), "SignUps": reflect.TypeFor[auth.SignUps](), "Nonces": reflect.TypeFor[auth.Nonces](),
		"Limiter":  reflect.TypeFor[auth.Limiter](),
		"Messages": reflect.TypeFor[chat.MessageStore](), "Rooms": reflect.TypeFor[chat.Rooms](),
		"Members": reflect.TypeFor[chat.Members](), "Marks": reflect.TypeFor[chat.Marks](), "Restrictions": reflect.TypeFor[chat.Restrictions](), "Blocks": reflect.TypeFor[chat.Blocks](), "Settings": reflect.TypeFor[chat.Settings](), "Directory": reflect.TypeFor[user.Directory](), "Audit": reflect.TypeFor[audit.Log](), "Roles": reflect.TypeFor[chat.Roles](), "Pruner": reflect.TypeFor[chat.Pruner](), "Cache": reflect.TypeFor[chat.RecentCache](),
		"Access": reflect.TypeFor[chat.Access](), "Fanout": reflect.TypeFor[realtime.Fanout](),
		"Presence": reflect.TypeFor[realtime.Presence](), "Authenticator": reflect.TypeFor[socket.Authenticator](),
		"Conn": reflect.TypeFor[socket.Conn](),
	} {
		for i := range itself.NumMethod() {
			names = append(names, port+"."+itself.Method(i).Name)
		}
	}
	names = append(names, "Check.Probe", "Fanout.Deliver", "Subscriber.Handle")
	names = slices.DeleteFunc(names, func(name string) bool { return name == "Conn.Queued" }) // nothing can happen to it
	slices.Sort(names)
	if got := testkit.Methods(); !slices.Equal(got, names) {
		t.Errorf("Methods:\n%v\nwant\n%v", got, names)
	}
	for _, name := range names {
		if _, ok := calls[name]; ok == slices.Contains(elsewhere, name) {
			t.Errorf("%s has no test, or two", name)
		}
	}
}

func TestEveryFaultOnEveryMethod(t *testing.T) {
	t.Parallel()
	own := errors.New("its own error")
	for _, method := range testkit.Methods() {
		call, ok := calls[method]
		if !ok {
			continue
		}
		for name, c := range map[string]struct {
			fault testkit.Fault
			want  error // nil: success
			made  int   // calls that came through
		}{
			"nothing":    {testkit.Fault{}, nil, 1},
			"Delay":      {testkit.Delay(time.Minute), nil, 1},
			"Fail":       {testkit.Fail(own), own, 0},
			"Fail(nil)":  {testkit.Fail(nil), fault.Unavailable, 0},
			"LoseAnswer": {testkit.LoseAnswer(), testkit.ErrAnswerLost, 1},
			"Duplicate":  {testkit.Duplicate(), nil, 2},
			"Drop":       {testkit.Drop(), nil, 0},
			"Hang":       {testkit.Hang(), context.DeadlineExceeded, 0},
		} {
			t.Run(method+"/"+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
					defer cancel()
					inner := testkit.NewFaults(0)
					outer := testkit.NewFaults(0, testkit.Rule{Method: method, Fault: c.fault})
					p := open(t, outer, inner)
					began := time.Now()
					results, err := call(ctx, p)
					took := time.Since(began)

					if errors.Is(err, testkit.ErrPlan) {
						stands := map[string][]string{"Conn.Send": {"Fail", "Fail(nil)", "LoseAnswer", "Drop"}}[method]
						if stands == nil {
							stands = []string{"Delay", "Fail", "Fail(nil)", "LoseAnswer", "Hang"}
						}
						if slices.Contains(stands, name) || name == "nothing" {
							t.Fatalf("%s does not stand %s: %v", method, name, err)
						}
						if inner.Calls("") != 0 || outer.Struck("") != 0 {
							t.Fatal("a plan that cannot be followed lets calls through")
						}
						return
					}
					if !errors.Is(err, c.want) {
						t.Fatalf("it returned %v, want %v", err, c.want)
					}
					if got := inner.Calls(method); got != c.made {
						t.Errorf("it was called %d times, want %d", got, c.made)
					}
					wantTook := map[string]time.Duration{"Delay": time.Minute, "Hang": time.Hour}[name]
					if took != wantTook {
						t.Errorf("it took %v, want %v", took, wantTook)
					}
					for i, r := range results {
						if v := reflect.ValueOf(r); v.IsZero() == (err == nil && c.made > 0) {
							t.Errorf("result %d is %v with the error %v", i, r, err)
						}
					}
					struck := 1
					if name == "nothing" {
						struck = 0
					}
					if outer.Calls(method) != 1 || outer.Struck(method) != struck {
						t.Errorf("%d calls and %d struck were counted", outer.Calls(method), outer.Struck(method))
					}
				})
			})
		}
	}
}

func TestWhatPortsDoNotAllowIsRefused(t *testing.T) {
	t.Parallel()
	for _, method := range []string{
		"Users.Create", "Users.Update", "Queue.Claim", "Queue.Settle", "DeadLetters.Requeue", "DeadLetters.Discard", "Asides.Replay", "Asides.Discard",
		"Sessions.Create", "Sessions.Update", "Codes.Put", "Codes.Use", "Factors.Update", "SignUps.Create", "SignUps.Confirm", "Nonces.Spend", "Limiter.Allow",
		"Messages.Append", "Messages.Change", "Restrictions.Put", "Fanout.Publish", "Presence.Exit", "Authenticator.Ticket",
	} {
		f := testkit.NewFaults(0, testkit.Rule{Method: method, Fault: testkit.Duplicate()})
		if err := testkit.FaultySender(testkit.NewMailbox(), f).Send(t.Context(), mail.Message{}); !errors.Is(err, testkit.ErrPlan) {
			t.Errorf("%s may be made twice: %v", method, err)
		}
	}
	for _, method := range testkit.Methods() {
		f := testkit.NewFaults(0, testkit.Rule{Method: method, Fault: testkit.Drop()})
		err := testkit.FaultySender(testkit.NewMailbox(), f).Send(t.Context(), mail.Message{})
		lossy := slices.Contains([]string{"Cache.Add", "Conn.Send", "Fanout.Deliver", "Fanout.Publish"}, method)
		if errors.Is(err, testkit.ErrPlan) == lossy {
			t.Errorf("%s: %v", method, err)
		}
	}
}

func TestFaultsOfAHandler(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault  testkit.Fault
		handed int // times the bus hands the event over
		made   int // times the handler runs
	}{
		"Fail":       {testkit.Fail(nil), 2, 1},
		"LoseAnswer": {testkit.LoseAnswer(), 2, 2},
		"Duplicate":  {testkit.Duplicate(), 1, 2},
		"Delay":      {testkit.Delay(time.Minute), 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := testkit.NewFaults(0, testkit.Rule{Method: "Subscriber.Handle", Call: 1, Fault: c.fault})
				bus := memory.NewBus(memory.BusConfig{})
				ctx, cancel := context.WithCancel(t.Context())
				made := 0
				ended := make(chan error, 1)
				go func() {
					ended <- testkit.FaultySubscriber(bus, f).Subscribe(ctx, "t", "g", func(context.Context, event.Event) error {
						made++
						return nil
					}, nil)
				}()
				synctest.Wait()
				if err := bus.Publish(ctx, event.Event{ID: "e", Topic: "t", Type: "x"}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour) // of the bubble's clock
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				if got := f.Calls("Subscriber.Handle"); got != c.handed || made != c.made {
					t.Errorf("it was handed over %d times and handled %d times, want %d and %d", got, made, c.handed, c.made)
				}
			})
		})
	}
}

func TestFaultsOfWhatRunsUntilTheEnd(t *testing.T) {
	t.Parallel()
	for method, run := range map[string]func(context.Context, *ports) error{
		"Subscriber.Subscribe": func(ctx context.Context, p *ports) error {
			return p.subscriber.Subscribe(ctx, "t", "g", func(context.Context, event.Event) error { return nil }, nil)
		},
		"Fanout.Run": func(ctx context.Context, p *ports) error { return p.fanout.Run(ctx, func(realtime.Signal) {}) },
	} {
		for name, c := range map[string]struct {
			fault testkit.Fault
			want  error
			made  int
		}{
			"nothing":        {testkit.Fault{}, nil, 1},
			"Fail":           {testkit.Fail(nil), testkit.ErrInjected, 0},
			"Delay":          {testkit.Delay(time.Minute), nil, 1},
			"Delay too long": {testkit.Delay(2 * time.Hour), nil, 0},
			"Hang":           {testkit.Hang(), nil, 0},
			"LoseAnswer":     {testkit.LoseAnswer(), testkit.ErrPlan, 0},
		} {
			t.Run(method+"/"+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
					defer cancel()
					inner := testkit.NewFaults(0)
					p := open(t, testkit.NewFaults(0, testkit.Rule{Method: method, Fault: c.fault}), inner)
					if err := run(ctx, p); !errors.Is(err, c.want) {
						t.Errorf("it returned %v, want %v", err, c.want)
					}
					if got := inner.Calls(method); got != c.made {
						t.Errorf("it was called %d times, want %d", got, c.made)
					}
				})
			})
		}
	}
}

func TestDroppedSignals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := testkit.NewFaults(0,
			testkit.Rule{Method: "Fanout.Publish", Call: 1, Fault: testkit.Drop()},
			testkit.Rule{Method: "Fanout.Deliver", Call: 2, Fault: testkit.Drop()})
		node := testkit.FaultyFanout(memory.NewFanout().Node(), f)
		ctx, cancel := context.WithCancel(t.Context())
		var got []uint64
		ended := make(chan error, 1)
		go func() { ended <- node.Run(ctx, func(s realtime.Signal) { got = append(got, s.Message.Seq) }) }()
		synctest.Wait()
		if err := node.Follow(ctx, "r"); err != nil {
			t.Fatal(err)
		}
		for seq := range uint64(4) {
			if err := node.Publish(ctx, realtime.Signal{Room: "r", Message: chat.Message{Seq: seq}}); err != nil {
				t.Fatal(err)
			}
		}
		if want := []uint64{1, 3}; !slices.Equal(got, want) {
			t.Errorf("delivered %v, want %v", got, want)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestFaultsOfAConn(t *testing.T) {
	t.Parallel()
	inner := testkit.NewFaults(0)
	p := open(t, testkit.NewFaults(0, testkit.Rule{Method: "Conn.Close", Call: 2, Fault: testkit.Duplicate()}), inner)
	p.conn.Close(socket.CloseNormal, "")
	p.conn.Close(socket.CloseNormal, "")
	if got := inner.Calls("Conn.Close"); got != 3 {
		t.Errorf("it was closed %d times, want 3", got)
	}
	if got := p.conn.Queued(); got != 7 {
		t.Errorf("Queued is %d, want 7", got)
	}
}
