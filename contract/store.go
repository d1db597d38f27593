package contract

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// Store is every port that a database can keep, for [RunStore].
type Store struct {
	Users user.Repository
	// Directory lists Users.
	Directory user.Directory
	Outbox    event.Outbox
	Asides    event.Asides
	Sessions  auth.SessionStore
	// Standings reads Sessions and Users at once.
	Standings auth.Standings
	Codes     auth.CodeStore
	Factors   auth.FactorStore
	SignUps   auth.SignUps
	Nonces    auth.Nonces
	Limiter   auth.Limiter

	MailQueue   mail.Queue
	DeadLetters mail.DeadLetters
	MailStats   mail.Stats

	// Messages is a chat.Recorder as well, unless an exception says that there is no Recorder.
	Messages chat.MessageStore
	Rooms    chat.Rooms
	Members  chat.Members
	Marks    chat.Marks
	// Roles shares its store with Rooms, Members and Messages. Each of Rooms, Members and Roles is a chat.RoomRecorder as well, unless an exception says that there is no RoomRecorder.
	Roles chat.Roles

	Restrictions chat.Restrictions
	Blocks       chat.Blocks
	Settings     chat.Settings
	Audit        audit.Log
	// Pruner removes messages from Messages.
	Pruner chat.Pruner
}

// storeSuite is a suite of RunStore.
type storeSuite struct {
	port string
	run  func(t *testing.T, deadline time.Duration, open func(t *testing.T) Store, exceptions []Exception)
}

// of makes a suite that finds its port in a store.
func of[P any](cases []Case[P], port func(s Store) P) storeSuite {
	return storeSuite{cases[0].Port, func(t *testing.T, deadline time.Duration, open func(t *testing.T) Store, exceptions []Exception) {
		t.Helper()
		RunWithin(t, deadline, cases, func(t *testing.T) P {
			t.Helper()
			p := port(open(t))
			if lacks(reflect.ValueOf(&p).Elem()) {
				t.Fatalf("the store lacks something for %s: %T is %+v; what it does not have, it has to say with Except", cases[0].Port, p, p)
			}
			return p
		}, exceptions...)
	}}
}

// lacks reports whether a port, or a part of it, is nil.
func lacks(port reflect.Value) bool {
	if port.Kind() != reflect.Struct {
		return port.IsNil()
	}
	for i := range port.NumField() {
		if port.Field(i).IsNil() {
			return true
		}
	}
	return false
}

// storeSuites are the suites of a whole store.
func storeSuites() []storeSuite {
	users := func(s Store) Users { return Users{Repository: s.Users, Outbox: s.Outbox} }
	mails := func(s Store) Mails { return Mails{Queue: s.MailQueue, Letters: s.DeadLetters, Stats: s.MailStats} }
	return []storeSuite{
		of(UserRepository(), users),
		of(Directory(), func(s Store) Listed { return Listed{Directory: s.Directory, Repository: s.Users} }),
		of(Outbox(), users),
		of(Asides(), func(s Store) SetAside { return SetAside{Repository: s.Users, Outbox: s.Outbox, Asides: s.Asides} }),
		of(SessionStore(), func(s Store) Sessions {
			return Sessions{Store: s.Sessions, Outbox: s.Outbox}
		}),
		of(Standings(), func(s Store) Standing { return Standing{Reader: s.Standings, Sessions: s.Sessions, Users: s.Users} }),
		of(CodeStore(), func(s Store) Codes { return Codes{Store: s.Codes, Outbox: s.Outbox} }),
		of(FactorStore(), func(s Store) Factors { return Factors{Store: s.Factors, Outbox: s.Outbox} }),
		of(SignUps(), func(s Store) WaitingSignUps {
			return WaitingSignUps{Store: s.SignUps, Outbox: s.Outbox}
		}),
		of(Nonces(), func(s Store) auth.Nonces { return s.Nonces }),
		of(Limiter(), func(s Store) auth.Limiter { return s.Limiter }),
		of(MailQueue(), mails),
		of(DeadLetters(), mails),
		of(MailStats(), mails),
		of(MessageStore(), func(s Store) chat.MessageStore { return s.Messages }),
		of(Recorder(), func(s Store) Recorded {
			recorder, _ := s.Messages.(chat.Recorder)
			return Recorded{Recorder: recorder, Outbox: s.Outbox, Asides: s.Asides}
		}),
		of(Rooms(), func(s Store) chat.Rooms { return s.Rooms }),
		of(Members(), func(s Store) chat.Members { return s.Members }),
		of(Marks(), func(s Store) Reading { return Reading{Marks: s.Marks, Members: s.Members, Messages: s.Messages} }),
		of(Roles(), func(s Store) RoomRoles {
			return RoomRoles{Roles: s.Roles, Rooms: s.Rooms, Members: s.Members, Marks: s.Marks, Messages: s.Messages, Restrictions: s.Restrictions}
		}),
		of(RoomRecorder(), func(s Store) RecordedRooms {
			p := RecordedRooms{Pruner: s.Pruner, Outbox: s.Outbox}
			p.Rooms, _ = s.Rooms.(chat.RoomRecorder[chat.Rooms])
			p.Members, _ = s.Members.(chat.RoomRecorder[chat.Members])
			p.Roles, _ = s.Roles.(chat.RoomRecorder[chat.Roles])
			return p
		}),
		of(Restrictions(), func(s Store) chat.Restrictions { return s.Restrictions }),
		of(Blocks(), func(s Store) chat.Blocks { return s.Blocks }),
		of(Settings(), func(s Store) chat.Settings { return s.Settings }),
		of(AuditLog(), func(s Store) audit.Log { return s.Audit }),
		of(Pruner(), func(s Store) Pruning {
			return Pruning{Pruner: s.Pruner, Messages: s.Messages, Members: s.Members, Marks: s.Marks, Rooms: s.Rooms, Restrictions: s.Restrictions}
		}),
	}
}

// RunStore runs the suite of each port of a [Store], with [Run], in a subtest named after the port. open returns a fresh, empty store
// and registers its clean-up with t.Cleanup.
//
// An exception names the port and the case, as "Rooms/names are exact", or a port alone, as "Standings": its suite is then not run.
// Without exceptions the store has every port and keeps every promise.
func RunStore(t *testing.T, open func(t *testing.T) Store, exceptions ...Exception) {
	t.Helper()
	RunStoreWithin(t, Deadline, open, exceptions...)
}

// RunStoreWithin is [RunStore] with another deadline for each case, as [RunWithin] is for [Run].
func RunStoreWithin(t *testing.T, deadline time.Duration, open func(t *testing.T) Store, exceptions ...Exception) {
	t.Helper()
	suites := storeSuites()
	cases, without, err := storeExceptions(suites, exceptions)
	if err != nil {
		t.Error(err)
	}
	for _, s := range suites {
		if reason, ok := without[s.port]; ok {
			t.Logf("%s is not there: %s", s.port, reason)
			continue
		}
		t.Run(s.port, func(t *testing.T) { s.run(t, deadline, open, cases[s.port]) })
	}
}

// storeExceptions divides exceptions into those of a case, by port, and the reasons why a port is not there.
func storeExceptions(suites []storeSuite, exceptions []Exception) (cases map[string][]Exception, without map[string]string, err error) {
	known := make(map[string]bool, len(suites))
	for _, s := range suites {
		known[s.port] = true
	}
	cases, without = map[string][]Exception{}, map[string]string{}
	var errs []error
	for _, e := range exceptions {
		port, name, ofCase := strings.Cut(e.Case, "/")
		switch _, twice := without[port]; {
		case !known[port]:
			errs = append(errs, fmt.Errorf("the exception %q names no port of a store", e.Case))
		case ofCase:
			cases[port] = append(cases[port], Except(name, e.Reason))
		case e.Reason == "":
			errs = append(errs, fmt.Errorf("the exception %q has no reason", e.Case))
		case twice:
			errs = append(errs, fmt.Errorf("the exception %q is declared twice", e.Case))
		default:
			without[port] = e.Reason
		}
	}
	return cases, without, errors.Join(errs...)
}
