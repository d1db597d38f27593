package contract_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// outside is a module of somebody else, with an adapter of its own and the suite's run on it.
var outside = map[string]string{
	"nonces.go": `package outside

import (
	"context"
	"sync"
	"time"
)

// Nonces keeps its promises.
type Nonces struct{ spent sync.Map }

func (n *Nonces) Spend(_ context.Context, name string, _ time.Time) (bool, error) {
	_, was := n.spent.LoadOrStore(name, true)
	return !was, nil
}

// DeleteExpired keeps everything.
func (*Nonces) DeleteExpired(context.Context, time.Time) (int, error) { return 0, nil }

// Forgetful does not.
type Forgetful struct{}

func (Forgetful) Spend(context.Context, string, time.Time) (bool, error)      { return true, nil }
func (Forgetful) DeleteExpired(context.Context, time.Time) (int, error) { return 0, nil }
`,
	"nonces_test.go": `package outside

import (
	"testing"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
)

func TestNonces(t *testing.T) {
	contract.Run(t, contract.Nonces(), func(*testing.T) auth.Nonces { return new(Nonces) })
}

func TestForgetful(t *testing.T) {
	contract.On(t, "outside", "a\nmap")
	contract.Run(t, contract.Nonces(), func(*testing.T) auth.Nonces { return Forgetful{} },
		contract.Except("long names are names", "it remembers no names at all"))
}

func store(messages bool) contract.Store {
	s := memory.NewStore()
	c := contract.Store{
		Users: s.Users, Outbox: s.Outbox, Asides: s.Asides, Sessions: s.Sessions, Codes: s.Codes, Factors: s.Factors, SignUps: s.SignUps, Nonces: s.Nonces,
		Limiter: memory.NewLimiter(memory.LimiterConfig{}),
		MailQueue: s.MailQueue, DeadLetters: s.MailQueue, MailStats: s.MailQueue,
		Rooms: s.Rooms, Members: s.Members, Marks: s.Members, Roles: s.Roles, Restrictions: s.Restrictions, Blocks: s.Blocks, Settings: s.Settings, Directory: s.Users, Audit: s.Audit, Pruner: s.Pruner,
	}
	if messages {
		c.Messages = s.Messages
	}
	return c
}

func TestStore(t *testing.T) {
	contract.RunStore(t, func(*testing.T) contract.Store { return store(true) },
		contract.Except("Standings", "it has none"), contract.Except("Rooms/names are exact", "it is excepted"))
}

func TestStoreThatLacks(t *testing.T) {
	contract.RunStore(t, func(*testing.T) contract.Store { return store(false) })
}

func TestStoreSlips(t *testing.T) {
	contract.RunStore(t, func(*testing.T) contract.Store { return store(true) },
		contract.Except("Standing", "a slip"), contract.Except("Standings", ""), contract.Except("Limiter", "once"), contract.Except("Limiter", "twice"),
		contract.Except("Rooms/names", "a slip"), contract.Except("Nonces/names are exact", ""))
}

func TestSlip(t *testing.T) {
	contract.Run(t, contract.Nonces(), func(*testing.T) auth.Nonces { return new(Nonces) },
		contract.Except("a name that is no case", "a slip of the pen"))
}
`,
	"use.go": `package outside

import (
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/realtime"
)

var (
	_ auth.SessionStore = memory.NewStore().Sessions
	_ chat.MessageStore = memory.NewStore().Messages
	_ mail.Queue        = memory.NewStore().MailQueue
	_ realtime.Presence = memory.NewPresence()
)
`,
}

// outsideModule writes the module and returns how to run go in it, offline.
func outsideModule(t *testing.T) func(args ...string) (string, error) {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped by -short: another module would be compiled")
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A replace is for this throw-away module alone: it stands in for the download.
	write("go.mod", fmt.Sprintf("module example.com/outside\n\ngo 1.26\n\nrequire %s v0.0.0\n\nreplace %s => %s\n", module, module, root))
	for name, text := range outside {
		write(name, text)
	}
	return func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = dir
		// GOPROXY=off: what is not needed is not asked for, and what is asked for fails.
		cmd.Env = append(cmd.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOSUMDB=off", "GOWORK=off", "GOTOOLCHAIN=local")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
}

// TestOutsideModule runs the suite from a module outside this one, on an adapter of its own.
func TestOutsideModule(t *testing.T) {
	run := outsideModule(t)
	if out, err := run("test", "-count=1", "-run=^TestNonces$", "."); err != nil {
		t.Fatalf("an adapter that keeps its promises fails: %v\n%s", err, out)
	}
	out, err := run("test", "-count=1", "-v", "-run=^TestForgetful$", ".")
	if err == nil {
		t.Fatalf("an adapter that breaks its promises passes:\n%s", out)
	}
	for _, want := range []string{
		"--- FAIL: TestForgetful/a_name_is_spent_once",
		"rule: Spend returns true for the first call with this name. Spend returns false for every later call, at least until the expiry that the first one gave.",
		`but:  Spend("a"): it returned true, want false`,
		"--- SKIP: TestForgetful/long_names_are_names",
		"excepted: it remembers no names at all",
		"=== ATTR  TestForgetful parley.adapter outside\n",
		"=== ATTR  TestForgetful parley.server a map\n",
		"=== ATTR  TestForgetful/a_name_is_spent_once parley.port Nonces\n",
		"=== ATTR  TestForgetful/a_name_is_spent_once parley.case a name is spent once\n",
		"=== ATTR  TestForgetful/a_name_is_spent_once parley.rule Spend returns true for the first call with this name.",
		"=== ATTR  TestForgetful/long_names_are_names parley.exception it remembers no names at all\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the failure does not say %q:\n%s", want, out)
		}
	}
	out, err = run("test", "-count=1", "-run=^TestSlip$", ".")
	if want := `the exception "a name that is no case" names no case of this suite`; err == nil || !strings.Contains(out, want) {
		t.Errorf("an exception that names no case: error %v, want %q in\n%s", err, want, out)
	}
}

// TestOutsideStore runs all suites of a store from a module outside this one.
func TestOutsideStore(t *testing.T) {
	run := outsideModule(t)
	out, err := run("test", "-count=1", "-v", "-run=^TestStore$", ".")
	if err != nil {
		t.Fatalf("a store that keeps its promises fails: %v\n%s", err, out)
	}
	for _, want := range []string{
		"--- SKIP: TestStore/Rooms/names_are_exact", "excepted: it is excepted", "Standings is not there: it has none",
		"=== ATTR  TestStore/Nonces/a_name_is_spent_once parley.port Nonces\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the run does not say %q:\n%s", want, out)
		}
	}
	for _, s := range trials() { // every port that the store has
		switch s.name {
		case "Standings", "EventBus", "MailSender", "Hasher", "PasswordList", "TokenVerifier", "RecentCache", "Screen", "Fanout", "Presence", "Format", "Conn":
			if strings.Contains(out, "TestStore/"+s.name+"/") {
				t.Errorf("the suite of %s was run, which a store does not have", s.name)
			}
			continue
		}
		for _, name := range s.cases {
			if !strings.Contains(out, "=== RUN   TestStore/"+s.name+"/"+strings.ReplaceAll(name, " ", "_")+"\n") {
				t.Errorf("%s: the case %q was not run", s.name, name)
			}
		}
	}
	for test, wants := range map[string][]string{
		"TestStoreThatLacks": {
			"--- FAIL: TestStoreThatLacks/Standings/changes_are_seen_at_once", "the store lacks something for Standings",
			"--- FAIL: TestStoreThatLacks/MessageStore/messages_are_copies", "the store lacks something for MessageStore",
			"--- PASS: TestStoreThatLacks/Rooms",
		},
		"TestStoreSlips": {
			`the exception "Standing" names no port of a store`, `the exception "Standings" has no reason`, `the exception "Limiter" is declared twice`,
			`the exception "names" names no case of this suite`, `the exception "names are exact" has no reason`,
		},
	} {
		out, err := run("test", "-count=1", "-v", "-run=^"+test+"$", ".")
		if err == nil {
			t.Errorf("%s passes", test)
		}
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("%s does not say %q:\n%s", test, want, out)
			}
		}
	}
}

// TestCoreAndMemoryCostOneModule says what an importer of core and adapters/memory pays.
func TestCoreAndMemoryCostOneModule(t *testing.T) {
	run := outsideModule(t)
	out, err := run("list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", ".")
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for line := range strings.Lines(out) {
		if path := strings.TrimSpace(line); path != "" && path != module && path != "example.com/outside" {
			t.Errorf("an importer of core and adapters/memory needs the module %s too", path)
		}
	}
	if !strings.Contains(out, module) {
		t.Errorf("the packages of the outside module are from nowhere:\n%s", out)
	}
}
