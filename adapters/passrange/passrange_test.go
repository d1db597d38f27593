package passrange_test

import (
	"context"
	"crypto/sha1"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/passrange"
	"github.com/parley-chat/parley/contract"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
)

func hash(password string) string { return fmt.Sprintf("%X", sha1.Sum([]byte(password))) }

// published is a server of the range API that knows these passwords, with how often they were seen. It answers as the public one does:
// lines that end in CR LF, and padding.
func published(t *testing.T, known map[string]int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		first := strings.TrimPrefix(r.URL.Path, "/range/")
		if len(first) != 5 || strings.ToUpper(first) != first || r.Header.Get("Add-Padding") != "true" || r.Method != http.MethodGet {
			t.Errorf("asked %s %s, %v", r.Method, r.URL, r.Header)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		lines := []string{"0018A45C4D1DEF81644B54AB7F969B88D65:3", strings.Repeat("F", 35) + ":0"}
		for password, times := range known {
			if h := hash(password); h[:5] == first {
				lines = append(lines, fmt.Sprint(h[5:], ":", times))
			}
		}
		fmt.Fprint(w, strings.Join(lines, "\r\n"))
	}
}

func serve(t *testing.T, h http.HandlerFunc, edit ...func(*passrange.Config)) *passrange.List {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	cfg := passrange.Config{URL: server.URL + "/range/", Timeout: time.Minute}
	for _, e := range edit {
		e(&cfg)
	}
	l, err := passrange.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

func TestContract(t *testing.T) {
	t.Parallel()
	known := map[string]int{"password": 9_000_000, "12345678": 5, "iloveyou": 4, "football": 3, "qwertyuiop": 2, "Tr0ub4dor&3": 1}
	contract.Run(t, contract.PasswordList(), func(t *testing.T) auth.PasswordList { return serve(t, published(t, known)) })
}

func TestWhatIsInTheList(t *testing.T) {
	t.Parallel()
	known := map[string]int{"seen once": 1, "seen often": 100, "Mixed Case": 5, "padding": 0, "тихий сад": 7}
	for _, tc := range []struct {
		password string
		least    int
		want     bool
	}{
		{"seen once", 0, true}, {"seen once", 1, true}, {"seen once", 2, false}, {"seen often", 100, true}, {"seen often", 101, false},
		{"SEEN ONCE", 0, true}, {"Mixed Case", 0, true}, {"mixed case", 0, false}, {"padding", 0, false}, {"тихий сад", 0, true}, {"never seen", 0, false}, {"", 0, false},
	} {
		l := serve(t, published(t, known), func(c *passrange.Config) { c.Least = tc.least })
		got, err := l.Contains(t.Context(), tc.password)
		require.NoError(t, err)
		require.Equal(t, tc.want, got, "%q, seen %d times", tc.password, tc.least)
	}
}

// TestThePasswordStays looks at all that the server is told.
func TestThePasswordStays(t *testing.T) {
	t.Parallel()
	const password = "a secret of Ada's"
	h := hash(password)
	var asked atomic.Int64
	l := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if _, more := r.URL.Query()["q"]; more || r.URL.Path != "/range/"+h[:5] && r.URL.Path != "/range/"+hash(strings.ToLower(password))[:5] || r.ContentLength != 0 {
			t.Errorf("told %s", r.URL)
		}
		for name, values := range r.Header {
			require.NotContains(t, strings.ToUpper(fmt.Sprint(values)), h[5:], name)
		}
		fmt.Fprintf(w, "%s:1\n", strings.Repeat("0", 35))
	})
	_, err := l.Contains(t.Context(), password)
	require.NoError(t, err)
	require.EqualValues(t, 2, asked.Load(), "as it is, and in lower case")
}

func TestAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	const password = "seen"
	line := hash(password)[5:] + ":3\n"
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, line) }))
	t.Cleanup(elsewhere.Close)
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, s) }
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); fmt.Fprint(w, line) }
	}
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"busy":          {status(http.StatusTooManyRequests), "429"},
		"down":          {status(http.StatusServiceUnavailable), "503"},
		"not there":     {status(http.StatusNotFound), "404"},
		"no content":    {status(http.StatusNoContent), "204"},
		"elsewhere":     {http.RedirectHandler(elsewhere.URL, http.StatusFound).ServeHTTP, "302"},
		"empty":         {text(""), "empty"},
		"a page":        {text("<html>sign in to the hotel's network</html>"), "line 1"},
		"no number":     {text(line + hash("x")[5:] + "\n"), "line 2"},
		"below zero":    {text(hash(password)[5:] + ":-1\n"), "line 1"},
		"a whole hash":  {text(hash(password) + ":3\n"), "line 1"},
		"not a hash":    {text(strings.Repeat("z", 35) + ":3\n"), "line 1"},
		"an empty line": {text(line + "\n" + line), "line 2"},
		"too long":      {text(strings.Repeat(line, 1<<10)), "more than"},
		"one long line": {text(strings.Repeat("A", 1<<10)), "line 1"},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, line)
		}, "EOF"},
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := serve(t, tc.answer, func(c *passrange.Config) { c.MaxAnswer = 2 << 10 })
			got, err := l.Contains(t.Context(), password)
			require.False(t, got)
			require.ErrorIs(t, err, fault.Unavailable)
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), hash(password)[:5], "no error tells what was asked")
		})
	}
}

func TestALateAnswer(t *testing.T) {
	t.Parallel()
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	_, err := serve(t, hang, func(c *passrange.Config) { c.Timeout = time.Millisecond }).Contains(t.Context(), "seen")
	require.ErrorIs(t, err, fault.Unavailable)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = serve(t, hang).Contains(ctx, "seen")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	nobody := httptest.NewServer(http.NotFoundHandler())
	nobody.Close()
	l, err := passrange.New(passrange.Config{URL: nobody.URL + "/"})
	require.NoError(t, err)
	_, err = l.Contains(t.Context(), "seen")
	require.ErrorIs(t, err, fault.Unavailable)
	require.NotContains(t, err.Error(), hash("seen")[:5])
}

func TestAServerIsKnownByItsCertificate(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(published(t, map[string]int{"seen": 1}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	l, err := passrange.New(passrange.Config{URL: server.URL + "/range/", Timeout: time.Minute})
	require.NoError(t, err)
	_, err = l.Contains(t.Context(), "seen")
	require.ErrorIs(t, err, fault.Unavailable)
	require.ErrorContains(t, err, "certificate")
	l, err = passrange.New(passrange.Config{URL: server.URL + "/range/", Timeout: time.Minute, TLS: &tls.Config{RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, MinVersion: tls.VersionTLS12}})
	require.NoError(t, err)
	got, err := l.Contains(t.Context(), "seen")
	require.NoError(t, err)
	require.True(t, got)
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"https://api.pwnedpasswords.com/range/": "", "http://localhost:8080/": "", "http://127.0.0.1/range/": "", "http://[::1]:1/": "",
		"": "missing", "nonsense": "not an address", "ftp://example.com/": "not an address", "https:///range/": "not an address", "http://example.com/range/": "https",
		"https://example.com/range": "slash", "https://example.com": "slash", "https://ada:hunter2@example.com/": "user", "https://example.com/?a=": "query",
		"https://example.com/?": "query", "https://example.com/#a": "fragment", "https://exa mple.com/": "not an address",
	} {
		_, err := passrange.New(passrange.Config{URL: address})
		if want == "" {
			require.NoError(t, err, address)
			continue
		}
		require.ErrorContains(t, err, want, address)
		require.NotContains(t, err.Error(), "hunter2")
	}
	_, err := passrange.New(passrange.Config{URL: "https://example.com/", Least: -1, Timeout: -1, MaxAnswer: -1, MaxConnections: -1})
	for _, field := range []string{"Least", "Timeout", "MaxAnswer", "MaxConnections"} {
		require.ErrorContains(t, err, field)
	}
}
