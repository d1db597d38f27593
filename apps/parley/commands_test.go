package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

func TestConfigHidesSecrets(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(secret, []byte("hunter2-as-a-token\n"), 0o600))
	out := execute(t, []string{"PARLEY_ADMIN_TOKEN_FILE=" + secret, "PARLEY_PRODUCT=By Variable", "PARLEY_ISSUER=by-variable"},
		"config", "--docs-password=hunter2-docs", "--issuer=by-flag").succeeded(t)
	require.NotContains(t, out, "hunter2")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, want := range []string{
		"PARLEY_LISTEN=localhost:5002", "PARLEY_PRODUCT=By Variable", "PARLEY_ISSUER=by-flag",
		"PARLEY_ADMIN_TOKEN=********", "PARLEY_DOCS_PASSWORD=********", "PARLEY_BUS=memory:",
	} {
		require.Contains(t, lines, want)
	}
}

func TestDocumentsArePrinted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ command, file string }{
		{"openapi", "../../docs/openapi.yaml"},
		{"openapi --admin", "../../docs/openapi-admin.yaml"},
		{"asyncapi", "../../docs/asyncapi.yaml"},
		{"types", "../web/client/events.d.ts"},
	} {
		t.Run(c.command, func(t *testing.T) {
			t.Parallel()
			words := strings.Fields(c.command)
			first := execute(t, nil, words...).succeeded(t)
			require.NotEmpty(t, first)
			require.Equal(t, first, execute(t, nil, words...).succeeded(t), "it differs from run to run")
			want, err := os.ReadFile(filepath.FromSlash(c.file))
			require.NoError(t, err, "print it anew: go run ./apps/parley %s", c.command)
			require.Equal(t, string(want), first, "print it anew: go run ./apps/parley %s", c.command)
		})
	}
}

func TestMigrateTwice(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "new")
	first := execute(t, nil, "migrate", "--data", folder).succeeded(t)
	require.Contains(t, first, "brought up to date")
	second := execute(t, nil, "migrate", "--data", folder).succeeded(t)
	require.Contains(t, second, "is current")
	require.Contains(t, execute(t, nil, "migrate", "--store", "memory:").refused(t), "memory:")
	serve(t, folder).stop(t, sigterm)
}

// jobOf is what the mail commands show of a job.
type jobOf struct {
	ID, State, To, Kind string
	Data                json.RawMessage
}

func TestMailCommands(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	letters := deadLetters(t, folder, "first@example.com", "second@example.com", "third@example.com")
	s := serve(t, folder, "--admin-token=hunter2-administers")
	s.signUp(t, "Ada Lovelace", "ada@example.com")
	s.mailTo(t, "ada@example.com")
	mails := func(args ...string) outcome {
		args = append([]string{"mail"}, args...)
		return execute(t, []string{"PARLEY_ADMIN_TOKEN=hunter2-administers"}, append(args, "--url="+s.admin)...)
	}
	stats := func() map[string]int { return decode[map[string]int](t, []byte(mails("stats").succeeded(t))) }
	counts := func() map[string]int { // without a start of the program each time
		return decode[map[string]int](t, must(t, http.StatusOK, "GET", s.admin+"/mail/stats", "hunter2-administers", nil))
	}
	await(t, "the mail to count as sent", func() bool { return counts()["sent"] == 1 })
	require.Equal(t, counts(), stats())

	list := mails("list").succeeded(t)
	for _, id := range letters {
		require.Contains(t, list, id)
	}
	require.Equal(t, 1+len(letters), strings.Count(list, "\n"), list)
	require.Equal(t, 2+len(letters), strings.Count(mails("list", "--state=any").succeeded(t), "\n"))
	require.Equal(t, 2, strings.Count(mails("list", "--to=second@example.com").succeeded(t), "\n"))

	listed := decode[struct{ Jobs []jobOf }](t, []byte(mails("list", "--json").succeeded(t)))
	require.Len(t, listed.Jobs, len(letters))
	require.Equal(t, "dead", listed.Jobs[0].State)
	require.JSONEq(t, `{"jobs": []}`, mails("list", "--json", "--to=nobody@example.com").succeeded(t))
	require.Equal(t, 3, decode[map[string]int](t, []byte(mails("stats", "--json").succeeded(t)))["dead"])

	shown := decode[jobOf](t, []byte(mails("show", letters[0]).succeeded(t)))
	require.Equal(t, "dead", shown.State)
	require.Equal(t, "first@example.com", shown.To)
	require.Empty(t, shown.Data, "a code is shown to one who has not asked for it")
	shown = decode[jobOf](t, []byte(mails("show", letters[0], "--with-data").succeeded(t)))
	require.Contains(t, string(shown.Data), "verificationCode")

	dry := mails("replay", "--dry-run").succeeded(t)
	require.Contains(t, dry, letters[2])
	require.Equal(t, 3, stats()["dead"])
	mails("replay", letters[0]).succeeded(t)
	require.NotEmpty(t, s.mailTo(t, "first@example.com").code())
	require.JSONEq(t, `{}`, mails("discard", letters[1], "--json").succeeded(t))
	require.NotContains(t, mails("list").succeeded(t), letters[1])
	require.Contains(t, mails("discard", "--kind=verification", "--error=LUCK", "--dry-run").succeeded(t), letters[2])
	require.NotContains(t, mails("discard", "--kind=password_reset").succeeded(t), letters[2])
	require.Contains(t, mails("show", letters[2]).succeeded(t), `"history"`)
	mails("replay", "--to=third@example.com", "--force").succeeded(t)
	s.mailTo(t, "third@example.com")
	await(t, "all mails to count as sent", func() bool { return counts()["sent"] == 3 && counts()["dead"] == 0 })

	for _, c := range []struct {
		name string
		got  outcome
		says string
	}{
		{"gone", mails("show", letters[1]), `(?i)no such`},
		{"not dead", mails("replay", letters[0]), `(?i)not a dead letter`},
		{"no id", mails("show"), `id`},
		{"no id to discard", mails("discard"), `an id, --to, --kind, --error, or --all`},
		{"an id and a filter", mails("discard", letters[0], "--to=first@example.com"), `do not go together`},
		{"an id and a filter to replay", mails("replay", letters[0], "--error=x"), `do not go together`},
		{"dry run of one", mails("replay", letters[0], "--dry-run"), `dry-run`},
		{"wrong token", execute(t, []string{"PARLEY_ADMIN_TOKEN=wrong-but-long-enough"}, "mail", "list", "--url="+s.admin), `\S`},
		{"no token", execute(t, nil, "mail", "list", "--url="+s.admin), `PARLEY_ADMIN_TOKEN`},
		{"wrong state", mails("list", "--state=nonsense"), `nonsense|state`},
	} {
		t.Run(c.name, func(t *testing.T) {
			line := c.got.refused(t)
			require.Regexp(t, c.says, line)
			require.NotContains(t, line, "hunter2")
		})
	}
	s.stop(t, sigterm)
	for _, action := range []string{"list", "stats"} {
		require.Contains(t, mails(action).refused(t), "refused", "without a server")
	}
}

// TestEventsCommands: events that were set aside are seen, and what they ask for happens when they are replayed.
func TestEventsCommands(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	ids := setAside(t, folder, "first@example.com", "second@example.com", "third@example.com")
	s := serve(t, folder, "--admin-token=hunter2-administers")
	ask := func(args ...string) outcome {
		args = append([]string{"events"}, args...)
		return execute(t, []string{"PARLEY_ADMIN_TOKEN=hunter2-administers"}, append(args, "--url="+s.admin)...)
	}
	type page struct {
		Events []struct {
			ID, Topic, Type, Key, Reason string
			Data                         json.RawMessage
		}
	}
	listed := func(args ...string) page {
		return decode[page](t, []byte(ask(append([]string{"list", "--json"}, args...)...).succeeded(t)))
	}
	list := ask("list").succeeded(t)
	require.Equal(t, 1+len(ids), strings.Count(list, "\n"), list)
	for _, id := range ids {
		require.Regexp(t, id+` +mail +user\.created +first.* +2\S+Z +it is too large`, strings.ReplaceAll(strings.ReplaceAll(list, "second@", "first@"), "third@", "first@"))
	}
	require.Len(t, listed().Events, len(ids))
	require.Equal(t, "it is too large", listed("--key=second@example.com").Events[0].Reason)
	require.JSONEq(t, `{"events": []}`, ask("list", "--json", "--topic=session").succeeded(t))

	require.NotContains(t, ask("show", ids[0]).succeeded(t), "code-0", "a code is shown to one who has not asked for it")
	require.Contains(t, ask("show", ids[0], "--with-data").succeeded(t), "code-0")

	dry := ask("replay", "--dry-run", "--key=third@example.com").succeeded(t)
	require.Contains(t, dry, ids[2])
	require.NotContains(t, dry, ids[0])
	require.Len(t, listed().Events, 3)
	require.Equal(t, "done\n", ask("replay", ids[0]).succeeded(t))
	require.Equal(t, "code-0", s.mailTo(t, "first@example.com").code())
	require.JSONEq(t, `{}`, ask("discard", ids[1], "--json").succeeded(t))
	ask("replay", "--topic=mail", "--type=user.created").succeeded(t)
	require.Equal(t, "code-2", s.mailTo(t, "third@example.com").code())
	require.Empty(t, listed().Events)

	for _, c := range []struct {
		name string
		got  outcome
		says string
	}{
		{"gone", ask("show", ids[1]), `(?i)no event with this id`},
		{"replayed", ask("replay", ids[0]), `(?i)no event with this id`},
		{"no id", ask("show"), `id`},
		{"no id to discard", ask("discard"), `id`},
		{"dry run of one", ask("replay", ids[0], "--dry-run"), `dry-run`},
		{"filter for one", ask("replay", ids[0], "--topic=mail"), `--topic`},
		{"wrong token", execute(t, []string{"PARLEY_ADMIN_TOKEN=wrong-but-long-enough"}, "events", "list", "--url="+s.admin), `\S`},
		{"no token", execute(t, nil, "events", "list", "--url="+s.admin), `PARLEY_ADMIN_TOKEN`},
	} {
		t.Run(c.name, func(t *testing.T) {
			line := c.got.refused(t)
			require.Regexp(t, c.says, line)
			require.NotContains(t, line, "hunter2")
		})
	}
	s.stop(t, sigterm)
}

// setAside puts events that ask for mails, and that can never be published, into the database of a folder.
func setAside(t *testing.T, folder string, to ...string) (ids []string) {
	t.Helper()
	ctx := t.Context()
	execute(t, nil, "migrate", "--data", folder).succeeded(t)
	store, err := bunstore.OpenSQLite(ctx, filepath.Join(folder, "parley.db"), bunstore.SQLiteConfig{})
	require.NoError(t, err)
	defer store.Close()
	now := time.Now().UTC().Truncate(time.Microsecond)
	for i, address := range to {
		data, err := json.Marshal(mail.UserCreated{
			UserID: "user", FullName: "Some Body", Email: address,
			VerificationCode: fmt.Sprintf("code-%d", i), ExpiresAt: now.Add(time.Hour),
		})
		require.NoError(t, err)
		id := fmt.Sprintf("event-%d", i)
		ids = append(ids, id)
		e := event.Event{ID: id, Topic: mail.Topic, Type: "user.created", Key: address, Time: now, Data: data}
		require.NoError(t, store.Users().Create(ctx, user.User{ID: user.ID(id), FullName: "Some Body", Email: user.Email("of-" + address), CreatedAt: now}, e))
		require.NoError(t, store.Outbox().SetAside(ctx, id, "it is too large"))
	}
	return ids
}

// deadLetters puts mails that were given up into the database of a folder.
func deadLetters(t *testing.T, folder string, to ...string) (ids []string) {
	t.Helper()
	ctx := t.Context()
	execute(t, nil, "migrate", "--data", folder).succeeded(t)
	store, err := bunstore.OpenSQLite(ctx, filepath.Join(folder, "parley.db"), bunstore.SQLiteConfig{})
	require.NoError(t, err)
	defer store.Close()
	queue := store.MailQueue()
	now := time.Now().UTC().Truncate(time.Microsecond)
	for i, address := range to {
		text, err := json.Marshal(mail.UserCreated{
			UserID: "user", FullName: "Some Body", Email: address,
			VerificationCode: fmt.Sprintf("code-%d", i), ExpiresAt: now.Add(time.Hour),
		})
		require.NoError(t, err)
		id := fmt.Sprintf("job-%d", i)
		ids = append(ids, id)
		require.NoError(t, queue.Enqueue(ctx, mail.Job{
			ID: id, Key: "event-" + id, Kind: mail.KindVerification, To: user.Email(address), Name: "Some Body", Data: text,
			State: mail.Ready, RunAt: now, CreatedAt: now, UpdatedAt: now,
		}))
		job, ok, err := queue.Claim(ctx, now, time.Minute)
		require.NoError(t, err)
		require.True(t, ok)
		require.NoError(t, queue.Settle(ctx, job, mail.Outcome{State: mail.Dead, RunAt: now, At: now, Error: "no luck", History: []mail.Attempt{{Number: 1, At: now, Error: "no luck"}}}))
	}
	return ids
}

func TestHelpIsNoFailure(t *testing.T) {
	t.Parallel()
	require.Regexp(t, `^parley \S+, commit \S+, go1\.\S+ \S+\n$`, execute(t, nil, "--version").succeeded(t))
	for _, args := range [][]string{{"--help"}, {"-h"}, {"mail", "list", "--help"}} {
		require.Contains(t, execute(t, nil, args...).succeeded(t), "Usage:")
	}
}
