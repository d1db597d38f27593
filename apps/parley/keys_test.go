package main_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type listedKey struct {
	Kid, Algorithm, State string
	SignsAt, RetiresAt    time.Time
}

// keysOf is what the command says of the keys in a folder.
func keysOf(t *testing.T, data string, args ...string) []listedKey {
	t.Helper()
	var list struct{ Keys []listedKey }
	require.NoError(t, json.Unmarshal([]byte(execute(t, nil, append([]string{"keys", "list", "--json", "--data", data}, args...)...).succeeded(t)), &list))
	return list.Keys
}

// published are the kids that the server publishes, the one that signs first.
func (s *server) published(t *testing.T) (kids []string) {
	t.Helper()
	answer, err := http.Get(s.url + "/.well-known/jwks.json")
	require.NoError(t, err)
	defer answer.Body.Close()
	var set struct{ Keys []struct{ Kid string } }
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&set))
	for _, k := range set.Keys {
		kids = append(kids, k.Kid)
	}
	return kids
}

// A running server takes up what the command has done to its keys, with nobody signed out, and the audit log tells of it.
func TestKeysAreRotatedUnderARunningServer(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	s := serve(t, data, "--admin-token", adminToken)
	ada := s.member(t, "Ada Lovelace")
	before := keysOf(t, data)
	require.Len(t, before, 1)
	require.Equal(t, "EdDSA signs", before[0].Algorithm+" "+before[0].State)

	var after struct{ Keys []listedKey }
	text := execute(t, nil, "keys", "rotate", "--data", data, "--algorithm", "ES256", "--json").succeeded(t)
	require.NoError(t, json.Unmarshal([]byte(text), &after))
	require.Len(t, after.Keys, 2)
	waits := after.Keys[1]
	assert.Equal(t, "ES256 waits", waits.Algorithm+" "+waits.State)
	assert.WithinDuration(t, time.Now().Add(15*time.Minute), waits.SignsAt, time.Minute)
	assert.Equal(t, waits.SignsAt.Add(16*time.Minute), after.Keys[0].RetiresAt, "a token lasts 15 minutes")
	require.Eventually(t, func() bool { return len(s.published(t)) == 2 }, patience, 100*time.Millisecond)
	assert.Equal(t, []string{before[0].Kid, waits.Kid}, s.published(t))

	again := execute(t, nil, "keys", "rotate", "--data", data, "--algorithm", "ES256")
	assert.Zero(t, again.code)
	assert.Contains(t, again.stderr, waits.Kid+" waits to sign already")
	assert.Contains(t, execute(t, nil, "keys", "rotate", "--data", data).refused(t), "another key is published and will sign soon")

	execute(t, nil, "keys", "rotate", "--data", data, "--algorithm", "PS256", "--now").succeeded(t)
	require.Eventually(t, func() bool { return s.published(t)[0] != before[0].Kid }, patience, 100*time.Millisecond)
	list := keysOf(t, data)
	require.Len(t, list, 2)
	assert.Equal(t, "PS256 signs", list[0].Algorithm+" "+list[0].State)
	assert.Equal(t, before[0].Kid+" verifies", list[1].Kid+" "+list[1].State)
	must(t, 200, "GET", s.url+"/auth/me", ada.AccessToken, nil) // of the old key
	must(t, 200, "GET", s.url+"/auth/me", s.signIn(t, ada.User.Email).AccessToken, nil)

	// Somebody has the key: whatever it has signed ends.
	execute(t, nil, "keys", "rotate", "--data", data, "--now", "--overlap", "0s").succeeded(t)
	require.Eventually(t, func() bool { return s.published(t)[0] != list[0].Kid }, patience, 100*time.Millisecond)
	must(t, 200, "GET", s.url+"/auth/me", s.signIn(t, ada.User.Email).AccessToken, nil)
	require.Regexp(t, `(?m)^KID .*VERIFIES UNTIL\n\S+  EdDSA      signs `, execute(t, nil, "keys", "list", "--data", data).succeeded(t))

	log := execute(t, nil, "audit", "--admin-token", adminToken, "--url", s.admin, "--limit", "0").succeeded(t)
	assert.Len(t, regexp.MustCompile(`"actor":"command","action":"rotate-keys"`).FindAllString(log, -1), 5, log)
	assert.Contains(t, log, before[0].Kid)
	assert.Contains(t, log, `"outcome":"not needed"`)
	assert.Contains(t, log, `"outcome":"failed"`)
	s.stop(t, sigterm)
}

func TestKeysAreRotatedByAge(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	serve(t, data).stop(t, sigterm)
	file := filepath.Join(data, "keys.json")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	old := regexp.MustCompile(`"signsAt": "[^"]*"`).ReplaceAll(text, []byte(`"signsAt": "2020-01-01T00:00:00Z"`))
	require.NotEqual(t, string(text), string(old))
	require.NoError(t, os.WriteFile(file, old, 0o600))

	s := serve(t, data, "--key-age", "off")
	require.Len(t, s.published(t), 1)
	s.stop(t, sigterm)
	require.Len(t, keysOf(t, data), 1)
	s = serve(t, data, "--admin-token", adminToken)
	require.Eventually(t, func() bool { return len(s.published(t)) == 2 }, patience, 100*time.Millisecond)
	assert.Contains(t, execute(t, nil, "audit", "--admin-token", adminToken, "--url", s.admin).succeeded(t), `"actor":"program:parley","action":"rotate-keys"`)
	s.stop(t, sigterm)
}

func TestCommandsAboutKeysSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	file := filepath.Join(data, "keys.json")
	assert.Contains(t, execute(t, nil, "keys", "list", "--data", data).refused(t), "there are no keys at "+file)
	require.NoError(t, os.WriteFile(file, []byte("{"), 0o600))
	for _, args := range [][]string{{"keys", "list"}, {"keys", "rotate"}, {"serve", "--listen", "127.0.0.1:0"}} {
		assert.Contains(t, execute(t, nil, append(args, "--data", data)...).refused(t), file+" is damaged")
	}
	other := t.TempDir()
	serve(t, other, "--store", "memory:").stop(t, sigterm)
	assert.Contains(t, execute(t, nil, "keys", "rotate", "--data", other, "--store", "postgres://nobody@127.0.0.1:1/none").refused(t), "no key was made, since that cannot be recorded")
	require.Len(t, keysOf(t, other), 1)
	assert.Contains(t, execute(t, nil, "keys", "rotate", "--data", other, "--store", "memory:").stderr, "not recorded")
	require.Len(t, keysOf(t, other), 2)
}
