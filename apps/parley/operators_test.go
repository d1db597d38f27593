package main_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ofOperators is what the address for operators serves, and no other.
var ofOperators = []struct {
	path        string
	bearer      bool // whether it is for the token of administrators alone
	contentType string
	has         string // what it says to whoever may ask
}{
	{"/metrics", false, "text/plain; version=0.0.4", "\nparley_build_info{"},
	{"/debug/pprof/", true, "text/html", "goroutine"},
	{"/debug/pprof/heap?debug=1", true, "text/plain", "heap profile"},
	{"/debug/pprof/cmdline", true, "text/plain", "--admin-token"},
	{"/mail/stats", true, "application/json", `"dead"`},
	{"/mail/jobs", true, "application/json", `"jobs"`},
}

func TestOperatorsAreServedOnAnAddressOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), "--admin-token", adminToken)
	get := func(t *testing.T, url, token string) reply {
		t.Helper()
		got, err := ask(t.Context(), http.MethodGet, url, token, nil)
		require.NoError(t, err)
		return got
	}
	for _, c := range ofOperators {
		t.Run(c.path, func(t *testing.T) {
			got := get(t, s.admin+c.path, adminToken)
			assert.Equal(t, http.StatusOK, got.status, "%s", got.body)
			assert.Contains(t, got.header.Get("Content-Type"), c.contentType)
			assert.Contains(t, string(got.body), c.has)
			for _, token := range []string{"", adminToken[:len(adminToken)-1], adminToken + "x"} {
				got := get(t, s.admin+c.path, token)
				if !c.bearer {
					assert.Equal(t, http.StatusOK, got.status, "a scrape needs no token")
					continue
				}
				assert.Equal(t, http.StatusUnauthorized, got.status, "with %q", token)
				assert.Equal(t, "application/problem+json", got.header.Get("Content-Type"))
				assert.Equal(t, "Bearer", got.header.Get("WWW-Authenticate"))
				assert.NotContains(t, string(got.body), c.has)
			}
			assert.Equal(t, http.StatusNotFound, get(t, s.url+c.path, adminToken).status, "everybody can reach it")
		})
	}
	for _, path := range []string{"/livez", "/readyz", "/health"} {
		assert.Equal(t, http.StatusOK, get(t, s.admin+path, "").status, path)
	}
	assert.Equal(t, http.StatusNotFound, get(t, s.admin+"/auth/me", "").status, "it serves everybody's as well")
	assert.Contains(t, string(get(t, s.admin+"/nothing", "").body), `"status":404`)

	bare := serve(t, t.TempDir())
	for _, path := range []string{"/debug/pprof/", "/mail/stats"} {
		got := get(t, bare.admin+path, "anything of sixteen")
		assert.Equal(t, http.StatusForbidden, got.status, "without a token nobody is let in")
		assert.Contains(t, string(got.body), "PARLEY_ADMIN_TOKEN")
	}
	off := serve(t, t.TempDir(), "--admin-listen=off", "--admin-token", adminToken)
	assert.NotContains(t, off.stdout.String(), "admin")
	for _, c := range ofOperators {
		assert.Equal(t, http.StatusNotFound, get(t, off.url+c.path, adminToken).status, c.path)
	}
}

// TestAProfileHoldsUpNoEnd: a profile takes as long as whoever asks for it says, and the program ends all the same.
func TestAProfileHoldsUpNoEnd(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), "--admin-token", adminToken)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.admin+"/debug/pprof/trace?seconds=25", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+adminToken)
	got, err := http.DefaultClient.Do(r) // the trace begins to come at once
	require.NoError(t, err)
	defer got.Body.Close()
	require.Equal(t, http.StatusOK, got.StatusCode)
	s.stop(t, sigterm)
	_, err = io.Copy(io.Discard, got.Body)
	require.Error(t, err, "it is not whole")
}

// TestMailCommandsAskTheAddressOfOperators runs them with the environment of the server.
func TestMailCommandsAskTheAddressOfOperators(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	s := serve(t, t.TempDir(), "--admin-listen", address, "--admin-token", adminToken)
	env := []string{"PARLEY_ADMIN_LISTEN=" + address, "PARLEY_ADMIN_TOKEN=" + adminToken, "PARLEY_PUBLIC_URL=https://chat.example.com"}
	assert.Contains(t, execute(t, env, "mail", "stats").succeeded(t), `"dead": 0`)
	assert.JSONEq(t, `{"jobs":[]}`, execute(t, env, "mail", "list", "--json").succeeded(t))
	assert.Contains(t, execute(t, nil, "mail", "stats", "--admin-token", adminToken, "--url", s.admin).succeeded(t), `"dead": 0`)
	assert.Contains(t, execute(t, nil, "mail", "stats", "--admin-token", adminToken).refused(t), "--url")
}
