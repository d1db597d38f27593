package local_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/testkit/local"
)

// parentVariable makes the program of the tests a process that starts a server and waits to be killed.
const parentVariable = "PARLEY_TEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(parentVariable) != "" {
		parent()
	}
	os.Exit(m.Run())
}

// parent starts a server, prints its folder and waits.
func parent() {
	p, err := local.New("orphan", false)
	if err == nil {
		p.Command = func() (*exec.Cmd, error) { return exec.Command("sleep", "1000"), nil }
		p.Ready = func(context.Context) error { return nil }
		err = p.Start(context.Background())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.Folder())
	select {}
}

// TestAServerEndsWithItsParent kills a process that has started a server: the server ends and its folder goes.
func TestAServerEndsWithItsParent(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), parentVariable+"=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	folder, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	folder = strings.TrimSpace(folder)
	text, err := os.ReadFile(filepath.Join(folder, "process"))
	require.NoError(t, err, folder)
	pid, err := strconv.Atoi(string(text))
	require.NoError(t, err)
	require.False(t, ended(pid))
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait(), "it was killed")
	require.Eventually(t, func() bool { return ended(pid) }, 30*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { _, err := os.Stat(folder); return errors.Is(err, os.ErrNotExist) }, 30*time.Second, 10*time.Millisecond)
}

// shell makes a server that is a script, and serves when the file "ready" is in its folder, $0.
func shell(t *testing.T, script string) *local.Process {
	t.Helper()
	p, err := local.New("shell", false)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	p.Command = func() (*exec.Cmd, error) { return exec.Command("/bin/sh", "-c", script, p.Folder()), nil }
	p.Ready = func(context.Context) error { _, err := os.Stat(p.File("ready")); return err }
	return p
}

// TestAStartThatFailsInPassing checks that a server is started again as long as Passing says so, which is told of the last start alone.
func TestAStartThatFailsInPassing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		passing  int // failures that pass
		attempts int
		want     string
	}{
		{"all pass", 9, 3, ""},
		{"the second does not", 1, 2, "attempt 2"},
		{"none passes", 0, 1, "attempt 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := shell(t, `echo x >> "$0/attempts"; n=$(wc -l < "$0/attempts"); echo "attempt $((n))"; [ $n -lt 3 ] && exit 1; touch "$0/ready"; exec sleep 1000`)
			var told []string
			p.Passing = func(err error) bool { told = append(told, err.Error()); return len(told) <= c.passing }
			err := p.Start(t.Context())
			if c.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.want)
			}
			for i, text := range told {
				assert.Equal(t, fmt.Sprintf("it ended: attempt %d", i+1), text)
			}
			assert.Equal(t, fmt.Sprintf("attempt %d", c.attempts), p.Tail())
			log, err := p.Log()
			require.NoError(t, err)
			assert.Equal(t, c.attempts, strings.Count(string(log), "attempt"), "%s", log)
		})
	}
}

func TestAStartEndsWithItsContext(t *testing.T) {
	t.Parallel()
	p := shell(t, `exec sleep 1000`)
	p.Passing = func(error) bool { return true }
	ctx, cancel := context.WithCancelCause(t.Context())
	p.Ready = func(context.Context) error { cancel(nil); return errors.New("not yet") }
	require.ErrorIs(t, p.Start(ctx), context.Canceled)
}

// TestSendKill checks that the end is waited for by AwaitExit alone, and that children end, too.
func TestSendKill(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"a child":                    `sleep 1000 & echo $! > "$0/child"; touch "$0/ready"; wait`,
		"a child whose parent ended": `(sleep 1000 & echo $! > "$0/child"); touch "$0/ready"; sleep 1000`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := shell(t, script)
			p.Forks = true
			require.NoError(t, p.SendKill(), "it was never started")
			require.NoError(t, p.AwaitExit(t.Context()), "it was never started")
			for range 2 {
				require.NoError(t, p.Start(t.Context()))
				over, cancel := context.WithCancel(t.Context())
				cancel()
				require.ErrorIs(t, p.AwaitExit(over), context.Canceled, "it serves")
				text, err := os.ReadFile(p.File("child"))
				require.NoError(t, err)
				child, err := strconv.Atoi(strings.TrimSpace(string(text)))
				require.NoError(t, err)
				require.NoError(t, p.SendKill())
				require.NoError(t, p.SendKill(), "killing twice is harmless")
				require.NoError(t, p.AwaitExit(t.Context()))
				require.Eventually(t, func() bool { return ended(child) }, 30*time.Second, time.Millisecond)
				require.NoError(t, p.Kill(), "it has ended")
				require.NoError(t, os.Remove(p.File("ready")))
			}
		})
	}
}

// ended reports whether a process is gone, or waits for nothing but its parent.
func ended(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(text), ") Z ")
}

// TestAServerGetsAnEnvironmentOfItsOwn checks that nothing of this process's own is in it, unless the command says so.
func TestAServerGetsAnEnvironmentOfItsOwn(t *testing.T) {
	t.Setenv("PARLEY_STORE", "secret")
	for _, c := range []struct {
		name, dir, wantDir string
		env                []string
		wantEnv            string
	}{
		{name: "none", wantDir: os.TempDir(), wantEnv: "HOME LC_ALL PATH PWD TMPDIR"},
		{name: "its own", dir: "/", wantDir: "/", env: []string{"A=1"}, wantEnv: "A PWD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := shell(t, "")
			p.Command = func() (*exec.Cmd, error) {
				cmd := exec.Command("/bin/sh", "-c", `/usr/bin/env > "$0/env"; pwd > "$0/dir"; : > "$0/ready"; exec /bin/sleep 1000`, p.Folder())
				cmd.Env, cmd.Dir = c.env, c.dir
				return cmd, nil
			}
			require.NoError(t, p.Start(t.Context()))
			dir, err := os.ReadFile(p.File("dir"))
			require.NoError(t, err)
			assert.Equal(t, c.wantDir, strings.TrimSpace(string(dir)))
			text, err := os.ReadFile(p.File("env"))
			require.NoError(t, err)
			var names []string
			for pair := range strings.Lines(string(text)) {
				name, _, _ := strings.Cut(pair, "=")
				names = append(names, name)
			}
			slices.Sort(names)
			assert.Equal(t, c.wantEnv, strings.Join(names, " "))
		})
	}
}

// TestRedisKeepsWhereItIsTold checks that the folder for data and further arguments are heeded.
func TestRedisKeepsWhereItIsTold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		args  []string
		keeps bool
	}{
		{"as it is", nil, true},
		{"with an argument that wins", []string{"--appendonly", "no"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(t.TempDir(), "data")
			s, err := local.Redis(local.RedisOptions{AppendOnly: true, Data: data, Args: c.args})
			if errors.Is(err, local.ErrMissing) {
				t.Skip(err)
			}
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, s.Close()) })
			require.NoError(t, s.Start(t.Context()))
			require.NoError(t, s.Want("SET a b", "+OK"))
			require.NoError(t, s.Kill())
			require.NoError(t, s.Start(t.Context()))
			want := ":0"
			if c.keeps {
				want = ":1"
			}
			require.NoError(t, s.Want("EXISTS a", want))
			kept, err := filepath.Glob(filepath.Join(data, "*"))
			require.NoError(t, err)
			assert.Equal(t, c.keeps, len(kept) > 0, "%v", kept)
		})
	}
}

// TestFreePort checks that outgoing connections do not get the port, that nobody is given it twice, and that it can be listened on.
func TestFreePort(t *testing.T) {
	t.Parallel()
	given := map[int]bool{}
	for range 1000 {
		port, err := local.FreePort()
		require.NoError(t, err)
		assert.GreaterOrEqual(t, port, 10_000)
		assert.Less(t, port, 30_000)
		require.False(t, given[port], "%d is given twice", port)
		given[port] = true
	}
	for port := range given {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		require.NoError(t, err)
		require.NoError(t, l.Close())
	}
}
