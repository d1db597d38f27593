package contract_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/realtime"
)

// broken is a port with one rule broken on purpose, and the case that must notice.
type broken[P any] struct {
	fault  string
	caught string // the name of the case
	breaks func(P) P
}

// trial is a suite, tried on the reference and on what is broken.
type trial struct {
	name string
	// keeps runs every case on the reference; catches runs each fault's case on the fault.
	keeps   func(t *testing.T)
	catches func(t *testing.T)
	cases   []string
	rules   []string // of the cases, in order
	faults  int
}

// try makes a trial. It runs in a bubble with a clock of its own, so that a case which waits
// in vain takes no time.
func try[P any](name string, cases []contract.Case[P], open func() (P, func()), faults ...broken[P]) trial {
	return trial{
		name: name, cases: contract.Names(cases), rules: rules(cases), faults: len(faults),
		keeps: func(t *testing.T) {
			for _, c := range cases {
				if c.Port != name {
					t.Errorf("the case %q says that it is of the port %q", c.Name, c.Port)
				}
				t.Run(c.Name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						if r := verify(t, c, open, nil); r.Err != nil {
							t.Error(r)
						}
					})
				})
			}
		},
		catches: func(t *testing.T) {
			for _, f := range faults {
				t.Run(f.fault, func(t *testing.T) {
					i := slices.IndexFunc(cases, func(c contract.Case[P]) bool { return c.Name == f.caught })
					if i < 0 {
						t.Fatalf("there is no case %q", f.caught)
					}
					synctest.Test(t, func(t *testing.T) {
						r := verify(t, cases[i], open, f.breaks)
						if r.Err == nil {
							t.Errorf("%q has passed with an adapter that is broken", f.caught)
						}
						if s := r.String(); !strings.Contains(s, cases[i].Rule) {
							t.Errorf("the failure does not say the rule %q:\n%s", cases[i].Rule, s)
						}
						t.Log(r.Err)
						time.Sleep(3 * time.Hour) // in the bubble's time: what a fault left behind ends
					})
				})
			}
		},
	}
}

func verify[P any](t *testing.T, c contract.Case[P], open func() (P, func()), breaks func(P) P) contract.Result {
	results, err := contract.Verify(t.Context(), []contract.Case[P]{c}, func(context.Context) (P, func(), error) {
		port, done := open()
		if breaks != nil {
			port = breaks(port)
		}
		return port, done, nil
	})
	if err != nil || len(results) != 1 {
		t.Fatalf("Verify returned %d results and the error %v", len(results), err)
	}
	return results[0]
}

// plain opens ports that need no clean-up.
func plain[P any](open func() P) func() (P, func()) {
	return func() (P, func()) { return open(), nil }
}

func openUsers() contract.Users {
	s := memory.NewStore()
	return contract.Users{Repository: s.Users, Outbox: s.Outbox}
}

func openAsides() contract.SetAside {
	s := memory.NewStore()
	return contract.SetAside{Repository: s.Users, Outbox: s.Outbox, Asides: s.Asides}
}

func openMails() contract.Mails {
	q := memory.NewMailQueue()
	return contract.Mails{Queue: q, Letters: q, Stats: q}
}

func openSessions() contract.Sessions {
	s := memory.NewStore()
	return contract.Sessions{Store: s.Sessions, Outbox: s.Outbox}
}

func openStanding() contract.Standing {
	s := memory.NewStore()
	return contract.Standing{Users: s.Users, Sessions: s.Sessions, Reader: standings(func(ctx context.Context, id string) (auth.Standing, error) {
		x, err := s.Sessions.ByID(ctx, id)
		if err != nil {
			return auth.Standing{}, err
		}
		u, err := s.Users.ByID(ctx, x.UserID)
		if err != nil {
			return auth.Standing{}, auth.ErrSessionNotFound
		}
		return auth.Standing{Session: x, From: u.SessionsFrom, Kept: u.KeptSession}, nil
	})}
}

func openReading() contract.Reading {
	s := memory.NewStore()
	return contract.Reading{Marks: s.Members, Members: s.Members, Messages: s.Messages}
}

func openRoles() contract.RoomRoles {
	s := memory.NewStore()
	return contract.RoomRoles{Roles: s.Roles, Rooms: s.Rooms, Members: s.Members, Marks: s.Members, Messages: s.Messages, Restrictions: s.Restrictions}
}

func openBus() contract.Bus {
	b := memory.NewBus(memory.BusConfig{})
	return contract.Bus{Publisher: b, Subscriber: b}
}

func openOutgoing() contract.Outgoing {
	box := memory.NewMailbox(memory.MailboxConfig{})
	var full atomic.Bool
	roomy := sender(func(ctx context.Context, m mail.Message) error {
		if full.Load() {
			return mail.ErrUntried
		}
		return box.Send(ctx, m)
	})
	return contract.Outgoing{
		Sender: roomy,
		Arrived: func(context.Context) ([]mail.Message, error) {
			var all []mail.Message
			for _, m := range box.All() {
				all = append(all, m.Message)
			}
			return all, nil
		},
		Fill: func(context.Context) (func(context.Context) error, error) {
			full.Store(true)
			return func(context.Context) error { full.Store(false); return nil }, nil
		},
	}
}

func openTokens() contract.Tokens {
	tokens := memory.NewTokens(memory.TokensConfig{})
	return contract.Tokens{Issuer: tokens, Verifier: tokens, Stranger: memory.NewTokens(memory.TokensConfig{})}
}

func openFanout() contract.FanoutNodes {
	f := memory.NewFanout()
	return func(context.Context) (realtime.Fanout, error) { return f.Node(), nil }
}

// nodes replaces what each node of a fan-out does.
func nodes(breaks func(realtime.Fanout) realtime.Fanout) func(contract.FanoutNodes) contract.FanoutNodes {
	return func(open contract.FanoutNodes) contract.FanoutNodes {
		return func(ctx context.Context) (realtime.Fanout, error) {
			f, err := open(ctx)
			return breaks(f), err
		}
	}
}

var errOops = errors.New("an error that the port does not know")

func lower(id string) string { return strings.ToLower(id) }

func trials() []trial {
	return []trial{
		try("UserRepository", contract.UserRepository(), plain(openUsers), userFaults()...),
		try("Directory", contract.Directory(), plain(openListed), directoryFaults()...),
		try("Outbox", contract.Outbox(), plain(openUsers), outboxFaults()...),
		try("Asides", contract.Asides(), plain(openAsides), asideFaults()...),
		try("EventBus", contract.EventBus(), plain(openBus), busFaults()...),
		try("MailQueue", contract.MailQueue(), plain(openMails), queueFaults()...),
		try("DeadLetters", contract.DeadLetters(), plain(openMails), letterFaults()...),
		try("MailStats", contract.MailStats(), plain(openMails), statsFaults()...),
		try("MailSender", contract.MailSender(), plain(openOutgoing), senderFaults()...),
		try("SessionStore", contract.SessionStore(), plain(openSessions), sessionFaults()...),
		try("Standings", contract.Standings(), plain(openStanding), standingFaults()...),
		try("CodeStore", contract.CodeStore(), plain(func() contract.Codes {
			s := memory.NewStore()
			return contract.Codes{Store: s.Codes, Outbox: s.Outbox}
		}), codeFaults()...),
		try("FactorStore", contract.FactorStore(), plain(openFactors), factorFaults()...),
		try("SignUps", contract.SignUps(), plain(func() contract.WaitingSignUps {
			s := memory.NewStore()
			return contract.WaitingSignUps{Store: s.SignUps, Outbox: s.Outbox}
		}), signUpFaults()...),
		try("Nonces", contract.Nonces(), plain(func() auth.Nonces { return memory.NewNonces(memory.NoncesConfig{}) }), nonceFaults()...),
		try("Limiter", contract.Limiter(), plain(func() auth.Limiter { return memory.NewLimiter(memory.LimiterConfig{}) }), limiterFaults()...),
		try("Hasher", contract.Hasher(), plain(func() auth.Hasher { return memory.NewHasher() }), hasherFaults()...),
		try("PasswordList", contract.PasswordList(), plain(func() auth.PasswordList { return passwordList(listed) }), listFaults()...),
		try("TokenVerifier", contract.TokenVerifier(), plain(openTokens), tokenFaults()...),
		try("MessageStore", contract.MessageStore(), plain(func() chat.MessageStore { return memory.NewMessages() }), append(messageFaults(), changeFaults()...)...),
		try("Recorder", contract.Recorder(), plain(openRecorded), recorderFaults()...),
		try("RoomRecorder", contract.RoomRecorder(), plain(openRecordedRooms), roomRecorderFaults()...),
		try("Rooms", contract.Rooms(), plain(func() chat.Rooms { return memory.NewRooms() }), append(roomFaults(), updateFaults()...)...),
		try("Members", contract.Members(), plain(func() chat.Members { return memory.NewMembers(nil) }), memberFaults()...),
		try("Marks", contract.Marks(), plain(openReading), markFaults()...),
		try("Roles", contract.Roles(), plain(openRoles), append(roleFaults(), rulingFaults()...)...),
		try("Restrictions", contract.Restrictions(), plain(func() chat.Restrictions { return memory.NewRestrictions(nil) }), restrictionFaults()...),
		try("Blocks", contract.Blocks(), plain(func() chat.Blocks { return memory.NewBlocks() }), blockFaults()...),
		try("Settings", contract.Settings(), plain(func() chat.Settings { return memory.NewSettings() }), settingsFaults()...),
		try("AuditLog", contract.AuditLog(), plain(func() audit.Log { return memory.NewAuditLog() }), auditFaults()...),
		try("RecentCache", contract.RecentCache(), plain(func() chat.RecentCache { return memory.NewRecentCache(memory.RecentCacheConfig{}) }), slices.Concat(cacheFaults(), changeCacheFaults(), firstFaults())...),
		try("Pruner", contract.Pruner(), plain(openPruning), prunerFaults()...),
		try("Screen", contract.Screen(), plain(openScreen), screenFaults()...),
		try("Fanout", contract.Fanout(), plain(openFanout), fanoutFaults()...),
		try("Presence", contract.Presence(), plain(func() realtime.Presence { return memory.NewPresence() }), presenceFaults()...),
		try("Format", contract.Format(), plain(openJSON), formatFaults()...),
		try("Conn", contract.Conn(), func() (contract.Pipe, func()) { return openPipe(defects{}) }),
	}
}

// TestTheReferenceKeepsEveryPromise runs every suite on the memory adapter.
func TestTheReferenceKeepsEveryPromise(t *testing.T) {
	for _, s := range trials() {
		t.Run(s.name, s.keeps)
	}
}

// TestBrokenAdaptersAreCaught runs, for each fault, the case that must notice it.
func TestBrokenAdaptersAreCaught(t *testing.T) {
	for _, s := range trials() {
		t.Run(s.name, s.catches)
	}
}

// TestBrokenConnectionsAreCaught does the same for connections, whose faults are in the wire.
func TestBrokenConnectionsAreCaught(t *testing.T) {
	for _, f := range connFaults() {
		t.Run(f.caught, func(t *testing.T) {
			i := slices.Index(contract.Names(contract.Conn()), f.caught)
			if i < 0 {
				t.Fatalf("there is no case %q", f.caught)
			}
			synctest.Test(t, func(t *testing.T) {
				r := verify(t, contract.Conn()[i], func() (contract.Pipe, func()) { return openPipe(f.defects) }, nil)
				if r.Err == nil {
					t.Errorf("%q has passed with a wire that has the defects %+v", f.caught, f.defects)
				}
				t.Log(r.Err)
				time.Sleep(time.Hour) // in the bubble's time: what a defect left behind ends
			})
		})
	}
}

func TestSuitesAreWellFormed(t *testing.T) {
	faults := len(connFaults())
	for _, s := range trials() {
		faults += s.faults
		if len(s.cases) == 0 {
			t.Errorf("%s has no cases", s.name)
		}
		if s.faults == 0 && s.name != "Conn" {
			t.Errorf("%s was never tried on a broken adapter", s.name)
		}
		sorted := slices.Sorted(slices.Values(s.cases))
		if len(slices.Compact(sorted)) != len(s.cases) {
			t.Errorf("%s has two cases of one name", s.name)
		}
	}
	text, err := os.ReadFile("../docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	if says := fmt.Sprintf("%d faults seeded on purpose", faults); !strings.Contains(string(text), says) {
		t.Errorf("docs/guarantees.md does not say %q", says)
	}
}

func numbers(rule string, check func(ctx context.Context, n int) error) []contract.Case[int] {
	return []contract.Case[int]{{Name: "number", Rule: rule, Check: check}}
}

func opens(n int) func(context.Context) (int, func(), error) {
	return func(context.Context) (int, func(), error) { return n, nil, nil }
}

func TestVerify(t *testing.T) {
	closed := 0
	open := func(context.Context) (int, func(), error) { return 7, func() { closed++ }, nil }
	cases := []contract.Case[int]{
		{Name: "kept", Rule: "it is 7", Check: func(_ context.Context, n int) error {
			if n != 7 {
				return fmt.Errorf("it is %d", n)
			}
			return nil
		}},
		{Name: "broken", Rule: "it is 8", Check: func(context.Context, int) error { return errOops }},
		{Name: "panics", Rule: "it does not panic", Check: func(context.Context, int) error { panic("at the disco") }},
		{Name: "excepted", Rule: "it is 9", Check: func(context.Context, int) error { return errOops }},
	}
	results, err := contract.Verify(t.Context(), cases, open, contract.Except("excepted", "it is a 7"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"ok   kept",
		"FAIL broken\n\trule: it is 8\n\tbut:  an error that the port does not know",
		"FAIL panics\n\trule: it does not panic\n\tbut:  panic: at the disco",
		"skip excepted: it is a 7",
	}
	for i, r := range results {
		if r.String() != want[i] {
			t.Errorf("result %d is\n%s\nwant\n%s", i, r, want[i])
		}
	}
	if closed != 3 {
		t.Errorf("%d ports were given up, want the 3 that were opened", closed)
	}
}

func TestVerifyReportsAPortThatCannotBeOpened(t *testing.T) {
	results, err := contract.Verify(t.Context(), numbers("it is a number", func(context.Context, int) error { return nil }),
		func(context.Context) (int, func(), error) { return 0, nil, errOops })
	if err != nil || len(results) != 1 || !errors.Is(results[0].Err, errOops) {
		t.Errorf("got %v and the error %v, want one result with %v", results, err, errOops)
	}
}

func TestExceptionsMustNameACaseAndAReason(t *testing.T) {
	cases := numbers("it is a number", func(context.Context, int) error { return nil })
	for _, e := range [][]contract.Exception{
		{contract.Except("numbre", "a slip")},
		{contract.Except("", "no name")},
		{contract.Except("number", "")},
		{contract.Except("number", "once"), contract.Except("number", "twice")},
	} {
		if results, err := contract.Verify(t.Context(), cases, opens(1), e...); err == nil {
			t.Errorf("the exceptions %+v were accepted: %v", e, results)
		}
	}
}

func TestACheckThatIgnoresItsContextHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		cases := numbers("it does not block", func(context.Context, int) error { <-release; return nil })
		started := time.Now()
		results, err := contract.Verify(t.Context(), cases, opens(1))
		if err != nil || !errors.Is(results[0].Err, contract.ErrHangs) {
			t.Errorf("got %v and the error %v, want %v", results, err, contract.ErrHangs)
		}
		if waited := time.Since(started); waited != contract.Deadline+contract.Grace {
			t.Errorf("it was waited for %s, want %s", waited, contract.Deadline+contract.Grace)
		}
		close(release)
	})
}

func TestACheckThatEndsWithItsContextReportsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cases := numbers("it answers", func(ctx context.Context, _ int) error {
			<-ctx.Done()
			return errOops
		})
		results, err := contract.Verify(t.Context(), cases, opens(1))
		if err != nil || !errors.Is(results[0].Err, errOops) {
			t.Errorf("got %v and the error %v, want %v", results, err, errOops)
		}
	})
}

// TestRunWithin: each case gets the deadline that was asked for. RunWithin makes subtests, which a
// bubble cannot have, so nobody waits here.
func TestRunWithin(t *testing.T) {
	for _, deadline := range []time.Duration{contract.Deadline / 2, contract.Deadline, 10 * contract.Deadline} {
		left := time.Duration(0)
		began := time.Now()
		cases := numbers("it is a number", func(ctx context.Context, _ int) error {
			ends, _ := ctx.Deadline()
			left = ends.Sub(began)
			return nil
		})
		contract.RunWithin(t, deadline, cases, func(*testing.T) int { return 1 })
		if left < deadline { // it is set after began, whenever that is
			t.Errorf("the deadline is %s away, want at least %s", left, deadline)
		}
		if most := deadline + time.Since(began); left > most {
			t.Errorf("the deadline is %s away, want at most %s", left, most)
		}
	}
	left := time.Duration(0)
	began := time.Now()
	contract.Run(t, numbers("it is a number", func(ctx context.Context, _ int) error {
		ends, _ := ctx.Deadline()
		left = ends.Sub(began)
		return nil
	}), func(*testing.T) int { return 1 })
	if left < contract.Deadline || left > contract.Deadline+time.Since(began) {
		t.Errorf("Run's deadline is %s away, want %s", left, contract.Deadline)
	}
}
