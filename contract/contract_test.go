package contract_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
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

func userFaults() []broken[contract.Users] {
	breaks := func(f func(user.Repository) repository) func(contract.Users) contract.Users {
		return func(p contract.Users) contract.Users {
			r := f(p.Repository)
			r.Repository, p.Repository = p.Repository, r
			return p
		}
	}
	// keeping stores users as change makes them.
	keeping := func(change func(*user.User)) func(contract.Users) contract.Users {
		return breaks(func(r user.Repository) repository {
			return repository{
				create: func(ctx context.Context, u user.User, events ...event.Event) error {
					change(&u)
					return r.Create(ctx, u, events...)
				},
				update: func(ctx context.Context, id user.ID, edit func(*user.User) error, events ...event.Event) (user.User, error) {
					return r.Update(ctx, id, func(u *user.User) error {
						err := edit(u)
						change(u)
						return err
					}, events...)
				},
			}
		})
	}
	// clinging does not take away what a user had.
	clinging := func(cling func(before user.User, u *user.User)) func(contract.Users) contract.Users {
		return breaks(func(r user.Repository) repository {
			return repository{update: func(ctx context.Context, id user.ID, edit func(*user.User) error, events ...event.Event) (user.User, error) {
				return r.Update(ctx, id, func(u *user.User) error {
					before := *u
					err := edit(u)
					cling(before, u)
					return err
				}, events...)
			}}
		})
	}
	return []broken[contract.Users]{
		{"languages are not kept", "what users say of themselves is stored", keeping(func(u *user.User) { u.Language = "" })},
		{"languages lose their letter case", "what users say of themselves is stored", keeping(func(u *user.User) { u.Language = lower(u.Language) })},
		{"avatars are not kept", "what users say of themselves is stored", keeping(func(u *user.User) { u.AvatarURL = "" })},
		{"avatars lose what is behind the path", "what users say of themselves is stored", keeping(func(u *user.User) { u.AvatarURL, _, _ = strings.Cut(u.AvatarURL, "?") })},
		{"addresses that are wanted are not kept", "what users say of themselves is stored", keeping(func(u *user.User) { u.NewEmail = "" })},
		{"codes of addresses are not kept", "what users say of themselves is stored", keeping(func(u *user.User) { u.NewEmailCode = "" })},
		{"a language cannot be taken away", "what users say of themselves is stored", clinging(func(before user.User, u *user.User) { u.Language = cmp.Or(u.Language, before.Language) })},
		{"an avatar cannot be taken away", "what users say of themselves is stored", clinging(func(before user.User, u *user.User) { u.AvatarURL = cmp.Or(u.AvatarURL, before.AvatarURL) })},
		{"an address stays wanted", "what users say of themselves is stored", clinging(func(before user.User, u *user.User) { u.NewEmail = cmp.Or(u.NewEmail, before.NewEmail) })},
		{"long avatars are cut", "long and foreign values are kept", keeping(func(u *user.User) { u.AvatarURL = u.AvatarURL[:min(len(u.AvatarURL), 1000)] })},
		{"an address that is wanted counts as taken", "an address that is wanted is nobody's", func(p contract.Users) contract.Users {
			r, wanted := p.Repository, map[user.Email]bool{}
			p.Repository = repository{Repository: r, create: func(ctx context.Context, u user.User, events ...event.Event) error {
				if wanted[u.Email] {
					return user.ErrEmailTaken
				}
				wanted[u.NewEmail] = true
				return r.Create(ctx, u, events...)
			}}
			return p
		}},
		{"an address that is wanted finds who wants it", "an address that is wanted is nobody's", breaks(func(r user.Repository) repository {
			return repository{byEmail: func(ctx context.Context, email user.Email) (user.User, error) {
				u, err := r.ByEmail(ctx, email)
				if errors.Is(err, user.ErrNotFound) && email == "zoe03@example.com" {
					return r.ByID(ctx, "user-01")
				}
				return u, err
			}}
		})},
		{"a failed change is stored", "a failed change stores nothing", breaks(func(r user.Repository) repository {
			return repository{update: func(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (u user.User, err error) {
				var refused error
				u, err = r.Update(ctx, id, func(u *user.User) error { refused = change(u); return nil }, events...)
				return u, errors.Join(refused, err)
			}}
		})},
		{"an error of change is wrapped", "a failed change stores nothing", breaks(func(r user.Repository) repository {
			return repository{update: func(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
				u, err := r.Update(ctx, id, change, events...)
				if err != nil {
					err = fmt.Errorf("update: %w", err)
				}
				return u, err
			}}
		})},
		{"addresses are not unique", "a taken address is refused", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, events ...event.Event) error {
				if err := r.Create(ctx, u, events...); !errors.Is(err, user.ErrEmailTaken) {
					return err
				}
				return nil
			}}
		})},
		{"a taken address is another error", "a taken address is refused", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, events ...event.Event) error {
				if r.Create(ctx, u, events...) != nil {
					return errOops
				}
				return nil
			}}
		})},
		{"a taken id replaces the user", "a taken id is refused", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, events ...event.Event) error {
				err := r.Create(ctx, u, events...)
				if errors.Is(err, fault.Conflict) && !errors.Is(err, user.ErrEmailTaken) {
					_, err = r.Update(ctx, u.ID, func(old *user.User) error { *old = u; return nil })
				}
				return err
			}}
		})},
		{"several creates win", "one of several creates wins", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, events ...event.Event) error {
				_ = r.Create(ctx, u, events...)
				return nil
			}}
		})},
		{"no create wins", "one of several creates wins", breaks(func(user.Repository) repository {
			return repository{create: func(context.Context, user.User, ...event.Event) error { return user.ErrEmailTaken }}
		})},
		{"events of a create are lost", "create stores its events", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, _ ...event.Event) error { return r.Create(ctx, u) }}
		})},
		{"events of a create are turned round", "create stores its events", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, events ...event.Event) error {
				events = slices.Clone(events)
				slices.Reverse(events)
				return r.Create(ctx, u, events...)
			}}
		})},
		{"events of a refused create are stored", "a refused create stores no event", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, events ...event.Event) error {
				err := r.Create(ctx, u, events...)
				if errors.Is(err, fault.Conflict) {
					return errors.Join(err, r.Create(ctx, user.User{ID: "hidden" + u.ID, Email: "hidden" + u.Email}, events...))
				}
				return err
			}}
		})},
		{"events of an update are lost", "update stores its events", breaks(func(r user.Repository) repository {
			return repository{update: func(ctx context.Context, id user.ID, change func(*user.User) error, _ ...event.Event) (user.User, error) {
				return r.Update(ctx, id, change)
			}}
		})},
		{"concurrent updates are lost", "concurrent updates are not lost", breaks(func(r user.Repository) repository {
			return repository{update: func(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
				u, err := r.ByID(ctx, id)
				if err != nil {
					return u, err
				}
				time.Sleep(time.Millisecond) // in the bubble's time
				if err := change(&u); err != nil {
					return u, err
				}
				return r.Update(ctx, id, func(stored *user.User) error { *stored = u; return nil }, events...)
			}}
		})},
		{"times lose their microseconds", "a created user is read back", breaks(func(r user.Repository) repository {
			return repository{byID: func(ctx context.Context, id user.ID) (user.User, error) {
				u, err := r.ByID(ctx, id)
				u.CreatedAt = u.CreatedAt.Truncate(time.Millisecond)
				return u, err
			}}
		})},
		{"times come back in another zone", "a created user is read back", breaks(func(r user.Repository) repository {
			return repository{byID: func(ctx context.Context, id user.ID) (user.User, error) {
				u, err := r.ByID(ctx, id)
				u.CreatedAt = u.CreatedAt.In(time.FixedZone("", 3600))
				return u, err
			}}
		})},
		{"no time comes back as a time", "an unverified user stays unverified", breaks(func(r user.Repository) repository {
			return repository{byID: func(ctx context.Context, id user.ID) (user.User, error) {
				u, err := r.ByID(ctx, id)
				if u.VerifiedAt.IsZero() {
					u.VerifiedAt = time.Unix(0, 0).UTC()
				}
				return u, err
			}}
		})},
		{"an unknown user is an empty one", "an unknown user is not found", breaks(func(r user.Repository) repository {
			return repository{byID: func(ctx context.Context, id user.ID) (user.User, error) {
				u, err := r.ByID(ctx, id)
				if errors.Is(err, user.ErrNotFound) {
					err = nil
				}
				return u, err
			}}
		})},
		{"ids are folded", "identifiers are exact", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, events ...event.Event) error {
				u.ID = user.ID(lower(string(u.ID)))
				return r.Create(ctx, u, events...)
			}}
		})},
		{"names are cut", "long and foreign values are kept", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, events ...event.Event) error {
				u.FullName = u.FullName[:min(len(u.FullName), 255)]
				return r.Create(ctx, u, events...)
			}}
		})},
		{"an update creates", "update of an unknown user is not found", breaks(func(r user.Repository) repository {
			return repository{update: func(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
				u, err := r.Update(ctx, id, change, events...)
				if errors.Is(err, user.ErrNotFound) {
					u = user.User{ID: id}
					err = errors.Join(change(&u), r.Create(ctx, u, events...))
				}
				return u, err
			}}
		})},
		{"an update returns the old user", "update stores what change did", breaks(func(r user.Repository) repository {
			return repository{update: func(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
				old, _ := r.ByID(ctx, id)
				_, err := r.Update(ctx, id, change, events...)
				return old, err
			}}
		})},
		{"an update forgets to clear", "update clears a time", breaks(func(r user.Repository) repository {
			return repository{update: func(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
				return r.Update(ctx, id, func(u *user.User) error {
					was := u.VerifiedAt
					err := change(u)
					if u.VerifiedAt.IsZero() {
						u.VerifiedAt = was
					}
					return err
				}, events...)
			}}
		})},
		{"an update takes a taken address", "an update to a taken address is refused", breaks(func(r user.Repository) repository {
			return repository{update: func(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
				u, err := r.Update(ctx, id, change, events...)
				if errors.Is(err, user.ErrEmailTaken) {
					return u, nil
				}
				return u, err
			}}
		})},
		{"an old address stays", "a changed address is found and the old one is free", breaks(func(r user.Repository) repository {
			return repository{byEmail: func(ctx context.Context, email user.Email) (user.User, error) {
				u, err := r.ByEmail(ctx, email)
				if err != nil {
					return r.ByID(ctx, "user-01")
				}
				return u, err
			}}
		})},
		{"an ended context stores all the same", "an ended context stores nothing", breaks(func(r user.Repository) repository {
			return repository{create: func(ctx context.Context, u user.User, events ...event.Event) error {
				return errors.Join(r.Create(context.WithoutCancel(ctx), u, events...), ctx.Err())
			}}
		})},
	}
}

func outboxFaults() []broken[contract.Users] {
	breaks := func(f func(event.Outbox) outbox) func(contract.Users) contract.Users {
		return func(p contract.Users) contract.Users {
			o := f(p.Outbox)
			o.Outbox, p.Outbox = p.Outbox, o
			return p
		}
	}
	pending := func(change func(events []event.Event, limit int) []event.Event) func(contract.Users) contract.Users {
		return breaks(func(o event.Outbox) outbox {
			return outbox{pending: func(ctx context.Context, limit int) ([]event.Event, error) {
				events, err := o.Pending(ctx, 1<<20)
				return change(events, limit), err
			}}
		})
	}
	after := func(page func(events []event.Event, at, limit int) []event.Event) func(contract.Users) contract.Users {
		return breaks(func(o event.Outbox) outbox {
			return outbox{after: func(ctx context.Context, id string, limit int) ([]event.Event, error) {
				events, err := o.Pending(ctx, 1<<20)
				at := slices.IndexFunc(events, func(e event.Event) bool { return e.ID == id })
				return page(events, at, limit), err
			}}
		})
	}
	return []broken[contract.Users]{
		{"the order is of ids", "pending events come in the order of commit", pending(func(events []event.Event, limit int) []event.Event {
			slices.SortFunc(events, func(a, b event.Event) int { return strings.Compare(a.ID, b.ID) })
			return events[:min(limit, len(events))]
		})},
		{"the order is of times", "pending events come in the order of commit", pending(func(events []event.Event, limit int) []event.Event {
			slices.SortFunc(events, func(a, b event.Event) int { return a.Time.Compare(b.Time) })
			return events[:min(limit, len(events))]
		})},
		{"the limit is ignored", "pending returns at most limit", pending(func(events []event.Event, _ int) []event.Event { return events })},
		{"a limit below 1 is an error", "pending returns at most limit", breaks(func(o event.Outbox) outbox {
			return outbox{pending: func(ctx context.Context, limit int) ([]event.Event, error) {
				if limit < 1 {
					return nil, fault.Invalid
				}
				return o.Pending(ctx, limit)
			}}
		})},
		{"the newest come first", "published page by page, every event comes once", pending(func(events []event.Event, limit int) []event.Event {
			return events[max(0, len(events)-limit):]
		})},
		{"keys are lost", "pending events are whole", pending(func(events []event.Event, limit int) []event.Event {
			for i := range events {
				events[i].Key = "key"
			}
			return events[:min(limit, len(events))]
		})},
		{"pending takes away", "pending takes nothing away", breaks(func(o event.Outbox) outbox {
			return outbox{pending: func(ctx context.Context, limit int) ([]event.Event, error) {
				events, err := o.Pending(ctx, limit)
				for _, e := range events {
					err = errors.Join(err, o.Published(ctx, e.ID))
				}
				return events, err
			}}
		})},
		{"marks are forgotten", "published events are not pending", breaks(func(event.Outbox) outbox {
			return outbox{published: func(context.Context, ...string) error { return nil }}
		})},
		{"a mark takes all before it", "published events are not pending", breaks(func(o event.Outbox) outbox {
			return outbox{published: func(ctx context.Context, ids ...string) error {
				events, err := o.Pending(ctx, 1<<20)
				for _, id := range ids {
					for i, e := range events {
						if e.ID == id {
							for _, before := range events[:i+1] {
								err = errors.Join(err, o.Published(ctx, before.ID))
							}
						}
					}
				}
				return err
			}}
		})},
		{"an unknown mark is an error", "unknown and repeated marks are ignored", breaks(func(o event.Outbox) outbox {
			return outbox{published: func(ctx context.Context, ids ...string) error {
				if slices.Contains(ids, "unknown") {
					return fault.NotFound
				}
				return o.Published(ctx, ids...)
			}}
		})},
		{"after begins with the event itself", "pending after an event begins behind it", after(func(events []event.Event, at, limit int) []event.Event {
			return events[max(0, at):min(len(events), max(0, at)+limit)]
		})},
		{"after ignores the limit", "pending after an event begins behind it", after(func(events []event.Event, at, _ int) []event.Event { return events[at+1:] })},
		{"after the unknown there is nothing", "pending after what is not pending begins at the oldest", after(func(events []event.Event, at, limit int) []event.Event {
			if at < 0 {
				return nil
			}
			return events[at+1 : min(len(events), at+1+limit)]
		})},
		{"after skips what was changed before", "pending after an event shows later events of earlier changes' things", after(func(events []event.Event, at, limit int) []event.Event {
			rest := slices.DeleteFunc(slices.Clone(events[at+1:]), func(e event.Event) bool { return e.ID == "event-0006" || e.ID == "event-0007" })
			return rest[:min(limit, len(rest))]
		})},
		{"after takes pages, not events", "looked past page by page, every event comes once", after(func(events []event.Event, at, limit int) []event.Event {
			from := min(len(events), (at+1+limit)/limit*limit)
			return events[from:min(len(events), from+limit)]
		})},
		{"what is set aside stays", "what is set aside is not pending", breaks(func(event.Outbox) outbox {
			return outbox{setAside: func(context.Context, string, string) error { return nil }}
		})},
		{"the oldest is set aside", "what is set aside is not pending", breaks(func(o event.Outbox) outbox {
			return outbox{setAside: func(ctx context.Context, _, reason string) error {
				events, err := o.Pending(ctx, 1)
				if len(events) > 0 {
					err = errors.Join(err, o.SetAside(ctx, events[0].ID, reason))
				}
				return err
			}}
		})},
		{"setting aside the unknown is an error", "setting aside what is not there is ignored", breaks(func(o event.Outbox) outbox {
			return outbox{setAside: func(ctx context.Context, id, reason string) error {
				if id == "unknown" {
					return fault.NotFound
				}
				return o.SetAside(ctx, id, reason)
			}}
		})},
		{"long reasons are refused", "any reason can be kept", breaks(func(o event.Outbox) outbox {
			return outbox{setAside: func(ctx context.Context, id, reason string) error {
				if len(reason) > 1024 {
					return fault.Invalid
				}
				return o.SetAside(ctx, id, reason)
			}}
		})},
		{"data is shared", "pending events are copies", func(p contract.Users) contract.Users {
			var mu sync.Mutex
			kept := map[string][]byte{}
			under := p
			p.Repository = repository{Repository: under.Repository, create: func(ctx context.Context, u user.User, events ...event.Event) error {
				mu.Lock()
				defer mu.Unlock()
				for _, e := range events {
					kept[e.ID] = e.Data
				}
				return under.Repository.Create(ctx, u, events...)
			}}
			p.Outbox = outbox{Outbox: under.Outbox, pending: func(ctx context.Context, limit int) ([]event.Event, error) {
				mu.Lock()
				defer mu.Unlock()
				events, err := under.Outbox.Pending(ctx, limit)
				for i := range events {
					events[i].Data = kept[events[i].ID]
				}
				return events, err
			}}
			return p
		}},
	}
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
