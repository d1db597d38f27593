package main_test

import (
	"bytes"
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/apps/internal/campaign/forgetfs"
	"github.com/parley-chat/parley/apps/internal/campaign/power"
)

// For a longer campaign: parley campaign power --cuts 200
var (
	powerCuts = flag.Int("power.cuts", 10, "how often TestPowerCuts cuts the power")
	powerAcks = flag.Int("power.acks", 10_000, "how many acks TestAcksFollowTheSync compares with the syncs")
)

// needsForgetfs skips t where there can be no file system that forgets.
func needsForgetfs(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped by -short: the power is cut for some seconds")
	}
	if err := forgetfs.Available(); err != nil {
		t.Skip(err)
	}
}

// cutPower runs the campaign, and returns what it prints and says.
func cutPower(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, append([]string{"campaign", "power"}, args...)...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = environment(), t.TempDir(), &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// TestPowerCuts cuts the power under the program while clients talk, and when it starts for the first time: what it has acknowledged is there.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	needsForgetfs(t)
	file := filepath.Join(t.TempDir(), "journal")
	stdout, stderr, err := cutPower(t, "--json", "--journal="+file, "--cuts="+strconv.Itoa(*powerCuts))
	require.NoError(t, err, "%s%s", stdout, stderr)
	r := decode[power.Result](t, []byte(stdout))
	assert.Equal(t, *powerCuts, r.Cuts)
	assert.Positive(t, r.FirstStarts)
	assert.Equal(t, "sqlite", r.Store)
	assert.True(t, r.Promised)
	assert.Positive(t, r.Acknowledged)
	assert.Positive(t, r.Syncs)
	assert.Positive(t, r.Pages, "nothing was unsynced at any cut: they showed nothing")
	assert.Zero(t, r.Lost)
	assert.True(t, r.Journal.OK())
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.Positive(t, info.Size())
	t.Logf("power: %d cuts, %d acknowledged, seed %d", r.Cuts, r.Acknowledged, r.Seed)
}

// TestPowerCutsShowWhatASettingCosts checks that a campaign sees what is lost, where it is not promised.
func TestPowerCutsShowWhatASettingCosts(t *testing.T) {
	t.Parallel()
	needsForgetfs(t)
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("Redis: the program redis-server is not installed")
	}
	stdout, stderr, err := cutPower(t, "--store=redis", "--setting=appendfsync=no", "--survival=nothing", "--cuts=2")
	require.NoError(t, err, "%s%s", stdout, stderr)
	lost := regexp.MustCompile(`(?m)^lost +([0-9]+)$`).FindStringSubmatch(stdout)
	require.NotNil(t, lost, stdout)
	assert.NotEqual(t, "0", lost[1])
	assert.Contains(t, stdout, "appendfsync=no")
}

func TestPowerCutsAreRefusedWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--store=postgres://somebody:secret@host/db"}, "the store is none of sqlite, postgres"},
		{[]string{"--store=postgres", "--setting=fsync=off"}, `"fsync=off"`},
		{[]string{"--survival=all"}, `"all"`},
		{[]string{"--cuts=0"}, "at least one cut"},
		{[]string{"--clients=-1"}, "-1"},
		{[]string{"--sync-time=2s"}, "2s"},
		{[]string{"--store=kafka"}, "jars"},
	} {
		_, stderr, err := cutPower(t, c.args...)
		var ended *exec.ExitError
		require.ErrorAs(t, err, &ended)
		assert.Equal(t, 1, ended.ExitCode())
		assert.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
		assert.Contains(t, stderr, c.want)
		assert.NotContains(t, stderr, "secret")
	}
}

// TestPowerCutsNeedTheSuperuser runs the campaign as nobody.
func TestPowerCutsNeedTheSuperuser(t *testing.T) {
	t.Parallel()
	folder, err := os.MkdirTemp("", "parley-nobody-") // t's own is the superuser's alone
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(folder)) })
	require.NoError(t, os.Chmod(folder, 0o755))
	readable := filepath.Join(folder, "parley")
	require.NoError(t, os.Link(program, readable))
	cmd := exec.CommandContext(t.Context(), readable, "campaign", "power")
	cmd.Env, cmd.Dir = environment(), "/"
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	text, err := cmd.CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(text), "superuser")
	assert.Equal(t, 1, strings.Count(string(text), "\n"), "%s", text)
}

// TestPowerCutsLeaveNothingBehind interrupts a campaign.
func TestPowerCutsLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	needsForgetfs(t)
	for _, how := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(how.String(), func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			out := newOutput()
			cmd := exec.Command(program, "campaign", "power", "--cuts=9") // too few for first starts
			cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = append(environment(), "TMPDIR="+folder), folder, out, out
			require.NoError(t, cmd.Start())
			exited := make(chan struct{})
			go func() { _ = cmd.Wait(); close(exited) }()
			t.Cleanup(func() { _ = cmd.Process.Kill(); <-exited })
			_, ok := out.line(t, exited, "sqlite with ")
			require.True(t, ok, "%s", out)
			mounts := func() string {
				text, err := os.ReadFile("/proc/mounts")
				require.NoError(t, err)
				return string(text)
			}
			require.Contains(t, mounts(), folder)
			require.NoError(t, cmd.Process.Signal(how))
			<-exited
			// After SIGKILL, another process unmounts it.
			await(t, "the file system to go", func() bool { return !strings.Contains(mounts(), folder) })
			if how == syscall.SIGINT {
				left, err := os.ReadDir(folder)
				require.NoError(t, err)
				assert.Empty(t, left)
			}
		})
	}
}

// TestAcksFollowTheSync compares each ack with what was synced when it arrived: the message has to be among it. A sync takes a while, so that an ack that does not wait
// for it is there before.
func TestAcksFollowTheSync(t *testing.T) {
	t.Parallel()
	needsForgetfs(t)
	marker := regexp.MustCompile(`ack-[0-9]{6}-`)
	var mu sync.Mutex
	synced := map[string]bool{}
	disk, err := forgetfs.Mount(t.TempDir(), forgetfs.Config{SyncTime: 2 * time.Millisecond, Synced: func(_ string, _ int64, data []byte) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range marker.FindAll(data, -1) {
			synced[string(m)] = true
		}
	}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, disk.Close()) })
	s := serve(t, filepath.Join(disk.Path(), "data"), "--socket-rate=-1", "--log-level=warn")
	ada := s.member(t, "Ada Lovelace")
	c, err := wsclient.Dial(t.Context(), wsclient.Config{
		URL: s.socket(), Rate: -1, Window: 64, Inline: true, Token: func(context.Context) (string, error) { return ada.AccessToken, nil },
	})
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Join(t.Context(), "lobby")
	require.NoError(t, err)
	var next, late atomic.Int64
	var senders sync.WaitGroup
	for range 64 {
		senders.Go(func() {
			for {
				i := int(next.Add(1))
				if i > *powerAcks {
					return
				}
				text := fmt.Sprintf("ack-%06d-", i)
				if _, err := c.Send(t.Context(), "lobby", text); err != nil {
					t.Errorf("message %d: %v", i, err)
					return
				}
				mu.Lock()
				if !synced[text] {
					late.Add(1)
				}
				mu.Unlock()
				// Now and then, what is on the disk is read as SQLite reads it.
				if i%(*powerAcks/4) == 0 {
					assert.Positive(t, rows(t, disk, text), "%s is not in the database", text)
				}
			}
		})
	}
	senders.Wait()
	assert.Zero(t, late.Load(), "acks that came before the sync of their commit")
	t.Logf("acks: %d, each after the sync of its commit but %d; %d syncs", *powerAcks, late.Load(), disk.Stats().Syncs)
}

// rows counts the messages of this text in what is on the disk.
func rows(t *testing.T, disk *forgetfs.FS, text string) (n int) {
	folder := t.TempDir()
	if !assert.NoError(t, disk.Snapshot(folder)) {
		return 0
	}
	db, err := sql.Open("sqlite", filepath.Join(folder, "data", "parley.db"))
	if assert.NoError(t, err) {
		defer db.Close()
		assert.NoError(t, db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM parley_messages WHERE text = ?", text).Scan(&n))
	}
	return n
}
