package config_test

import (
	"bytes"
	"io"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/apps/internal/config"
)

func TestEachProgramSaysItsVersion(t *testing.T) {
	for program := range minimal {
		var out bytes.Buffer
		_, _, err := config.Load(program, []string{"--version"}, nil, &out)
		require.ErrorIs(t, err, config.ErrHelp, "nothing else is needed for it")
		assert.Regexp(t, `^`+string(program)+` \S+, commit \S+, `+regexp.QuoteMeta(runtime.Version())+` \w+/\w+\n$`, out.String())
	}
	assert.Equal(t, runtime.Version(), config.ThisBuild().Go)
	assert.NotEmpty(t, config.ThisBuild().Version)
}

func TestANegativeNumberIsAValue(t *testing.T) {
	for _, args := range [][]string{{"--socket-rate", "-1"}, {"--socket-rate=-1"}, {"serve", "--socket-rate", "-1"}, {"--socket-rate", "-1", "config"}} {
		s, _, err := load(t, nil, args...)
		require.NoError(t, err, args)
		assert.Equal(t, -1, s.SocketRate, args)
	}
	for flag, says := range map[string]string{
		"--socket-rate -2": "-2 is neither", "--access-ttl -1m": "PARLEY_ACCESS_TTL", "--mail-burst -.5": "mail-burst",
		"--socket-rate --config": "socket-rate", "--socket-rate -x": "socket-rate", "-1": "-1",
	} {
		_, _, err := load(t, nil, strings.Fields(flag)...)
		assert.ErrorContains(t, err, says, flag)
	}
	_, cmd, err := load(t, nil, "mail", "show", "--", "-1")
	require.NoError(t, err)
	assert.Equal(t, "-1", cmd.Mail.ID, "behind -- nothing is a flag")
}

func TestACommandShowsItsOwnFlagsFirst(t *testing.T) {
	for program, commands := range map[config.Program]map[string][]string{
		config.Parley: {"mail list": {"--url", "--json", "--state", "--to"}, "mail replay": {"--dry-run", "--to", "--kind", "--error", "--force"}, "mail discard": {"--dry-run", "--to", "--kind", "--error", "--all"}, "events replay": {"--dry-run", "--topic", "--type", "--key"}, "bench send": {"--connections", "--size"}},
		config.Mailer: {"mail show": {"--with-data", "--json"}},
	} {
		for command, flags := range commands {
			var out bytes.Buffer
			_, _, err := config.Load(program, append(strings.Fields(command), "--help"), nil, &out)
			require.ErrorIs(t, err, config.ErrHelp)
			own, settings, found := strings.Cut(out.String(), "\nSettings:\n")
			require.True(t, found, out.String())
			for _, flag := range flags {
				assert.Contains(t, own, flag, command)
				assert.NotRegexp(t, flag+`[^-\w]`, settings, command)
			}
			assert.NotContains(t, own, "--listen", command)
			assert.Contains(t, settings, "--listen", command)
		}
	}
}

func TestMailCommandsCanBeForPrograms(t *testing.T) {
	for _, args := range [][]string{{"mail", "list"}, {"mail", "show", "x"}, {"mail", "replay"}, {"mail", "discard", "x"}, {"mail", "stats"}} {
		_, cmd, err := load(t, nil, args...)
		require.NoError(t, err)
		assert.False(t, cmd.Mail.JSON, args)
		_, cmd, err = load(t, nil, append(slices.Clone(args), "--json")...)
		require.NoError(t, err)
		assert.True(t, cmd.Mail.JSON, args)
	}
}

func TestEventsCommands(t *testing.T) {
	for _, c := range []struct {
		args string
		want config.Events
	}{
		{"events list", config.Events{}},
		{"events list --topic mail --type user.created --key u1 --json --url http://h", config.Events{Topic: "mail", Type: "user.created", Key: "u1", JSON: true, URL: "http://h"}},
		{"events show x", config.Events{ID: "x"}},
		{"events show x --with-data --json", config.Events{ID: "x", Data: true, JSON: true}},
		{"events replay", config.Events{}},
		{"events replay x --json", config.Events{ID: "x", JSON: true}},
		{"events replay --topic mail --dry-run", config.Events{Topic: "mail", DryRun: true}},
		{"events replay --type t --key k --url http://h", config.Events{Type: "t", Key: "k", URL: "http://h"}},
		{"events discard x --json", config.Events{ID: "x", JSON: true}},
	} {
		for _, program := range []config.Program{config.Parley, config.Auth} {
			_, cmd, err := config.Load(program, strings.Fields(c.args), nil, io.Discard)
			require.NoError(t, err, c.args)
			assert.Equal(t, c.want, cmd.Events, "%s %s", program, c.args)
		}
	}
	for _, program := range []config.Program{config.Mailer, config.Socket} {
		_, _, err := config.Load(program, []string{"events", "list"}, nil, io.Discard)
		require.Error(t, err, "%s has no outbox", program)
	}
}

func TestUserCommands(t *testing.T) {
	for _, c := range []struct {
		args string
		want config.User
	}{
		{"user show x", config.User{ID: "x"}},
		{"user export x --output f --url http://h", config.User{ID: "x", Output: "f", URLs: []string{"http://h"}}},
		{"user erase x", config.User{ID: "x"}},
		{"user erase ada@example.com --yes --json --url http://a --url http://b", config.User{ID: "ada@example.com", Yes: true, JSON: true, URLs: []string{"http://a", "http://b"}}},
	} {
		for _, program := range []config.Program{config.Parley, config.Auth, config.Socket} {
			_, cmd, err := config.Load(program, strings.Fields(c.args), nil, io.Discard)
			require.NoError(t, err, c.args)
			assert.Equal(t, c.want, cmd.User, "%s %s", program, c.args)
		}
	}
	_, _, err := config.Load(config.Mailer, []string{"user", "erase", "x"}, nil, io.Discard)
	require.Error(t, err, "it knows no users")
	for _, args := range [][]string{{"user", "erase"}, {"user", "export"}, {"user"}} {
		_, _, err := config.Load(config.Parley, args, nil, io.Discard)
		require.Error(t, err, args)
	}
}

func TestThePublicURLThatWillBeUsedIsShown(t *testing.T) {
	for args, want := range map[string]string{
		"":                          "http://localhost:5002",
		"--listen :8080":            "http://localhost:8080",
		"--listen 0.0.0.0:8080":     "http://localhost:8080",
		"--listen [::]:8080":        "http://localhost:8080",
		"--listen 192.0.2.1:80":     "http://192.0.2.1:80",
		"--listen [2001:db8::1]:80": "http://[2001:db8::1]:80",
		"--listen :0":               "", // the start is given a port
		"--tls-cert c --tls-key k":  "https://localhost:5002",
		"--public-url http://a/b/":  "http://a/b",
	} {
		for program, needed := range minimal {
			want := want
			if program == config.Socket {
				want = strings.Replace(want, ":5002", ":5003", 1) // its own default address
			}
			if program == config.Mailer && !strings.Contains(args, "public") {
				want = "http://localhost:5002" // that of the accounts
			}
			s, _, err := config.Load(program, strings.Fields(args), needed, t.Output())
			require.NoError(t, err)
			var out bytes.Buffer
			require.NoError(t, s.Print(&out))
			assert.Contains(t, out.String(), "\nPARLEY_PUBLIC_URL="+want+"\n", "%s %s", program, args)
		}
	}
}

func TestTLSSaysWhichTransportItTakes(t *testing.T) {
	tls := []string{"--tls-cert", "c", "--tls-key", "k"}
	for _, c := range []struct {
		args []string
		says bool
	}{
		{append(tls, "--transport", "nbio"), true}, {append(tls, "--transport", "net"), false}, {[]string{"--transport", "nbio"}, false},
	} {
		s, _, err := load(t, nil, c.args...)
		require.NoError(t, err)
		notes := strings.Join(s.Notes, "\n")
		assert.Equal(t, c.says, strings.Contains(notes, "carried by net"), "%v: %s", c.args, notes)
	}
	s, _, err := config.Load(config.Auth, tls, []string{bus}, t.Output())
	require.NoError(t, err)
	assert.Empty(t, s.Notes, "it carries no sockets")
}
