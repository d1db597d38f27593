package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/apps/internal/campaign/journal"
	"github.com/parley-chat/parley/testkit/local"
)

// adminToken opens what is an operator's.
const adminToken = "a-token-for-the-crash"

// TestCampaignCrash kills and freezes the program at random moments while people talk and sign up. What it has
// confirmed is there in the end, once and in order. A larger one: parley campaign crash --rounds 1000.
func TestCampaignCrash(t *testing.T) {
	t.Parallel()
	onLinux(t)
	folder := t.TempDir()
	out := execute(t, []string{"TMPDIR=" + folder}, "campaign", "crash", "--rounds=3", "--clients=6", "--frozen=1s", "--settle=40s", "--json")
	require.Zero(t, out.code, "%s\n%s", out.stdout, out.stderr)
	var found struct {
		journal.Verdict
		Seed    uint64
		Servers string
		Journal string
	}
	require.NoError(t, json.Unmarshal([]byte(out.stdout), &found), "%s", out.stdout)
	t.Logf("%s", out.stdout)
	assert.Equal(t, 3, found.Rounds)
	assert.NotZero(t, found.Seed)
	assert.Equal(t, "sqlite; nodes: 1", found.Servers)
	assert.Equal(t, 7, found.Clients, "six, and who reads the log")
	assert.Equal(t, found.Sent, found.Acknowledged)
	assert.GreaterOrEqual(t, found.Stored, found.Acknowledged)
	assert.Equal(t, 6*found.Stored, found.Delivered)
	assert.NotZero(t, found.Acknowledged)
	assert.Greater(t, found.SignUps, 7, "newcomers")
	assert.True(t, found.OK())
	assert.Empty(t, found.Unread)
	assert.Empty(t, found.Journal, "it is kept where something is wrong")
	await(t, "nothing to be left", func() bool { // a watcher removes what processes had
		left, err := filepath.Glob(filepath.Join(folder, "*"))
		require.NoError(t, err)
		return len(left) == 0
	})
}

// TestCampaignCrashIsInterrupted wants nothing to be left of a campaign that is told to end.
func TestCampaignCrashIsInterrupted(t *testing.T) {
	t.Parallel()
	onLinux(t)
	folder := t.TempDir()
	cmd := exec.CommandContext(t.Context(), program, "campaign", "crash", "--rounds=1000")
	cmd.Env, cmd.Dir = environment("TMPDIR="+folder), folder
	stdout, stderr, exited := newOutput(), newOutput(), make(chan struct{})
	cmd.Stdout, cmd.Stderr = stdout, stderr
	require.NoError(t, cmd.Start())
	go func() {
		defer close(exited)
		_ = cmd.Wait() // the code is looked at below
	}()
	_, ok := stdout.line(t, exited, "round ")
	require.True(t, ok, "%s", stderr)
	require.NoError(t, cmd.Process.Signal(interrupt))
	within(t, "the campaign to end", func() { <-exited })
	assert.Equal(t, 1, cmd.ProcessState.ExitCode())
	assert.Equal(t, "parley: crash: it was interrupted\n", stderr.String())
	await(t, "nothing to be left", func() bool {
		left, err := filepath.Glob(filepath.Join(folder, "*"))
		require.NoError(t, err)
		return len(left) == 0
	})
}

func onLinux(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped by -short: the program is killed under load for some seconds")
	}
	if runtime.GOOS != "linux" {
		t.Skip("processes are killed and frozen on Linux only")
	}
}

// TestCampaignCrashFindsWhatIsNotKept has a campaign kill a program by commands, on a disk that loses what was written last: what was
// acknowledged meanwhile is not there, as with a program that acknowledges before it commits. Its twin keeps everything.
func TestCampaignCrashFindsWhatIsNotKept(t *testing.T) {
	t.Parallel()
	onLinux(t)
	for name, losing := range map[string]bool{"kept": false, "lost": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := supervise(t)
			disk := "true"
			if losing {
				disk = "rm -f " + s.data + "/parley.db-wal " + s.data + "/parley.db-shm"
			}
			file := filepath.Join(t.TempDir(), "journal.jsonl")
			out := execute(t, nil, "campaign", "crash", "--rounds=2", "--clients=4", "--faults=kill", "--settle=20s", "--seed=7", "--url", s.url, "--tokens", s.tokens,
				"--kill", "program=touch "+s.hold+" && kill -9 $(cat "+s.pid+") && "+disk, "--restart", "program=rm "+s.hold, "--journal", file)
			check := execute(t, nil, "campaign", "check", file)
			if !losing {
				require.Zero(t, out.code, "%s\n%s", out.stdout, out.stderr)
				assert.Regexp(t, `\n  kill program +2\n`, out.stdout)
				assert.Regexp(t, `\nlost +0\n`, out.stdout)
				check.succeeded(t)
				return
			}
			require.Equal(t, 1, out.code, "%s\n%s", out.stdout, out.stderr)
			assert.Regexp(t, `(?m)^parley: crash: [1-9][0-9]* lost, .*; the journal is `, out.stderr)
			assert.Regexp(t, `\nlost +[1-9][0-9]*\n +room crash-\S+: client-\S+ of client-[1-4] was acknowledged as `, out.stdout)
			assert.Equal(t, 1, check.code)
			assert.Regexp(t, `^parley: check: [1-9][0-9]* lost, `, check.stderr)
			assert.Regexp(t, `\nlost +[1-9][0-9]*\n`, check.stdout)
		})
	}
}

// supervised is the program, started again whenever it ends.
type supervised struct{ url, data, tokens, hold, pid string }

// supervise makes accounts with tokens, and then lets a supervisor run the program: while the file hold is there, it does not start it again.
func supervise(t *testing.T) supervised {
	t.Helper()
	folder := t.TempDir()
	s := supervised{
		data: filepath.Join(folder, "data"), tokens: filepath.Join(folder, "tokens"), hold: filepath.Join(folder, "hold"), pid: filepath.Join(folder, "pid"),
	}
	first := serve(t, s.data, "--access-ttl=24h")
	var tokens []string
	for i := range 4 {
		tokens = append(tokens, first.member(t, fmt.Sprintf("Member %d", i)).AccessToken)
	}
	require.NoError(t, os.WriteFile(s.tokens, []byte(strings.Join(tokens, "\n")), 0o600))
	first.stop(t, sigterm) // and so all of that is in the database, and nothing in its log
	address := freeAddress(t)
	s.url = "http://" + address
	cmd := exec.Command("/bin/sh", "-c", `while :; do
		while [ -e "$2" ]; do sleep 0.02; done
		"$0" --data "$1" --listen "$4" --access-ttl=24h --socket-rate=-1 --log-level=warn & echo $! > "$3"; wait $!
	done`, program, s.data, s.hold, s.pid, address)
	cmd.Env, cmd.Dir = environment(), folder
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
		_ = cmd.Wait() // it was killed
	})
	await(t, "the program to be there", func() bool {
		got, err := ask(t.Context(), "GET", s.url+"/readyz", "", nil)
		return err == nil && got.status == 200
	})
	return s
}

func TestCampaignsRefuseWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	const url = "--url=http://127.0.0.1:1"
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"crash", "--rounds=0"}, "--rounds, --clients, --rooms and --in-flight are at least 1"},
		{[]string{"crash", "--sign-ups=-1"}, "--sign-ups, --nodes, --for and --rate are at least 0"},
		{[]string{"crash", "--frozen=0s"}, "--frozen and --settle are more than 0"},
		{[]string{"crash", "--faults=burn"}, `"burn" is neither kill nor freeze`},
		{[]string{"crash", "--start=oracle"}, `"oracle" is none of postgres`},
		{[]string{"crash", "--start=postgres,mysql"}, "one store"},
		{[]string{"crash", "--start=redis,redis"}, "each server once"},
		{[]string{"crash", "--start=kafka"}, "--start kafka needs --kafka-jars"},
		{[]string{"crash", "--start=mongo"}, "--start mongo needs --mongo-jars"},
		{[]string{"crash", "--nodes=2"}, "several nodes need a store and a Redis that they share"},
		{[]string{"crash", "--victims=nobody"}, "there is nobody to whom"},
		{[]string{"crash", "--kill", "a=true"}, "are for --url"},
		{[]string{"crash", url}, "needs to know whom to kill"},
		{[]string{"crash", url, "--nodes=2", "--kill", "a=true", "--restart", "a=true"}, "it is one or the other"},
		{[]string{"crash", url, "--kill", "a=true"}, "a has --kill without --restart"},
		{[]string{"crash", "--url=localhost:5002", "--kill", "a=true", "--restart", "a=true"}, `"localhost:5002" is no URL`},
		{[]string{"crash", url, "--settle=100ms", "--kill", "a=true", "--restart", "a=true"}, "the servers are not well: in vain for 100ms"},
		{[]string{"check", filepath.Join(t.TempDir(), "none")}, "no such file"},
		{[]string{"check", os.DevNull}, "it has no entries"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			t.Parallel()
			out := execute(t, []string{"TMPDIR=" + t.TempDir()}, append([]string{"campaign"}, c.args...)...)
			require.Equal(t, 1, out.code, "%s", out.stdout)
			assert.Regexp(t, `^parley: (crash|check): [^\n]+\n$`, out.stderr)
			assert.Contains(t, out.stderr, c.says)
		})
	}
}

// freeAddress finds an address that nobody listens on. It stays free while the program is down.
func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := local.FreeAddress()
	require.NoError(t, err)
	return address
}

// within waits for something that ends by itself.
func within(t *testing.T, what string, wait func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		wait()
	}()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		t.Fatalf("waited %v in vain for %s", patience, what)
	}
}
