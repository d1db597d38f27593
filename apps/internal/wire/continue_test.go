package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/problem"
)

// house is the all-in-one in this process.
type house struct {
	*App
	log  *lines
	stop func()
}

// lines is a log that is read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// openHouse runs the all-in-one on a folder, until the test ends or stop is called.
func openHouse(t *testing.T, folder string, args ...string) *house {
	t.Helper()
	s, _, err := config.Load(config.Parley, append([]string{"--data", folder, "--drain-timeout", "1ms"}, args...), nil, t.Output())
	require.NoError(t, err)
	h := &house{log: &lines{}}
	h.App, err = New(t.Context(), s, "http://localhost:5002", "localhost:1", slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- h.Run(ctx, func() { close(ready) }) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		assert.NoError(t, <-ended)
		assert.NoError(t, h.Close())
	})
	t.Cleanup(h.stop)
	<-ready
	return h
}

// ask sends a request as a page on this machine does, unless change says otherwise.
func (h *house) ask(method, path, body string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr, r.Host = "127.0.0.1:40000", "localhost:5002"
	r.Header.Set("Origin", "http://localhost:5002")
	r.Header.Set("Content-Type", "application/json")
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.Handler.ServeHTTP(w, r)
	return w
}

func (h *house) post(path, body string) *httptest.ResponseRecorder {
	return h.ask(http.MethodPost, path, body, nil)
}

type signedIn struct {
	AccessToken, RefreshToken string
	User                      struct {
		ID, FullName, Email string
		IsVerified          bool
	}
}

// continueAs continues as somebody, and wants to be let in.
func (h *house) continueAs(t *testing.T, as string) signedIn {
	t.Helper()
	w := h.post("/dev/continue", `{"as": "`+as+`"}`)
	require.Equal(t, http.StatusOK, w.Code, "%s", w.Body)
	var who signedIn
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &who))
	return who
}

// refusedAs continues as somebody, and wants to be refused.
func (h *house) refusedAs(t *testing.T, as string) problem.Document {
	t.Helper()
	w := h.post("/dev/continue", `{"as": "`+as+`"}`)
	var d problem.Document
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &d), "%s", w.Body)
	assert.Equal(t, d.Status, w.Code)
	return d
}

// signUp makes a sign-up by hand, and returns the code that was mailed.
func (h *house) signUp(t *testing.T, email, password string) string {
	t.Helper()
	old := map[string]bool{}
	for _, m := range h.box.All() {
		old[m.ID] = true
	}
	w := h.post("/auth/signup", `{"fullName": "By Hand", "email": "`+email+`", "password": "`+password+`"}`)
	require.Equal(t, http.StatusAccepted, w.Code, "%s", w.Body)
	for {
		more := h.box.More()
		for _, m := range h.box.All() {
			if found := verifyLink.FindStringSubmatch(m.Text); found != nil && m.To == email && !old[m.ID] {
				return found[1]
			}
		}
		<-more
	}
}

func (h *house) verify(code string) int {
	return h.post("/auth/verify", `{"code": "`+code+`"}`).Code
}

const byHand = "a pass phrase by hand"

func TestContinueAsSomebody(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	h := openHouse(t, folder, "--store", "memory:")
	assert.Equal(t, http.StatusUnprocessableEntity, h.post("/dev/continue", `{"as": "eve"}`).Code)
	assert.Empty(t, h.box.All(), "nothing is made before somebody asks")

	ada := h.continueAs(t, "ada")
	assert.Equal(t, "Ada Lovelace", ada.User.FullName)
	assert.Equal(t, "ada@parley.test", ada.User.Email)
	assert.True(t, ada.User.IsVerified)
	assert.Len(t, h.box.All(), 1, "it has signed up as people do")
	me := h.ask(http.MethodGet, "/auth/me", "", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+ada.AccessToken) })
	assert.Equal(t, http.StatusOK, me.Code)
	assert.Contains(t, me.Body.String(), ada.User.ID)

	again := h.continueAs(t, "ada")
	assert.Equal(t, ada.User, again.User)
	assert.NotEqual(t, ada.RefreshToken, again.RefreshToken, "a session of its own")
	grace := h.continueAs(t, "grace")
	assert.Equal(t, "Grace Hopper", grace.User.FullName)
	assert.NotEqual(t, ada.User.ID, grace.User.ID)
	assert.Len(t, h.box.All(), 2)

	// The answer has what the answer to a sign-in has.
	require.Equal(t, http.StatusOK, h.verify(h.signUp(t, "eve@example.com", byHand)))
	keys := func(w *httptest.ResponseRecorder) (all []string) {
		require.Equal(t, http.StatusOK, w.Code, "%s", w.Body)
		var whole map[string]any
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &whole))
		for name, value := range whole {
			all = append(all, name)
			if below, ok := value.(map[string]any); ok {
				for more := range below {
					all = append(all, name+"."+more)
				}
			}
		}
		return all
	}
	signIn := h.post("/auth/signin", `{"email": "eve@example.com", "password": "`+byHand+`"}`)
	assert.ElementsMatch(t, keys(signIn), keys(h.post("/dev/continue", `{"as": "ada"}`)))

	assert.NoFileExists(t, filepath.Join(folder, peopleFile), "the accounts end with the process, and so do their passwords")
}

func TestContinueFromSeveralTabsAtOnce(t *testing.T) {
	t.Parallel()
	h := openHouse(t, t.TempDir())
	var all sync.WaitGroup
	got := make([]signedIn, 6)
	for i := range got {
		all.Go(func() { got[i] = h.continueAs(t, []string{"ada", "grace"}[i%2]) })
	}
	all.Wait()
	for i, who := range got {
		assert.Equal(t, got[i%2].User, who.User)
		assert.NotEmpty(t, who.User.ID)
	}
	assert.Len(t, h.box.All(), 2, "each has signed up once")
}

func TestPeopleToContinueAsOutliveARestart(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := filepath.Join(folder, peopleFile)
	h := openHouse(t, folder)
	assert.NoFileExists(t, file, "before somebody asks")
	ada := h.continueAs(t, "ada")
	info, err := os.Stat(file)
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		assert.Equal(t, fs.FileMode(0o600), info.Mode())
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var passwords map[string]string
	require.NoError(t, json.Unmarshal(text, &passwords))
	require.Len(t, passwords, len(people))
	assert.NotEqual(t, passwords["ada"], passwords["grace"])
	for _, password := range passwords {
		assert.Len(t, password, 64)
		assert.NotContains(t, h.log.String(), password)
	}
	h.stop()

	h = openHouse(t, folder, "--password-min", "64") // they are long enough for any rule
	assert.Equal(t, ada.User, h.continueAs(t, "ada").User)
	grace := h.continueAs(t, "grace")
	h.stop()

	// What is no such file is never replaced.
	require.NoError(t, os.WriteFile(file, []byte(`{"ada": "guess", "grace": "guess"}`), 0o600))
	h = openHouse(t, folder)
	d := h.refusedAs(t, "ada")
	assert.Equal(t, "people_unreadable", d.Code)
	assert.Equal(t, http.StatusServiceUnavailable, d.Status)
	assert.Contains(t, h.log.String(), "is damaged")
	assert.NotContains(t, h.log.String(), "guess")
	left, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Contains(t, string(left), "guess")
	h.stop()

	// Without it the accounts are somebody's, until it is back.
	require.NoError(t, os.Remove(file))
	h = openHouse(t, folder)
	assert.Equal(t, "person_taken", h.refusedAs(t, "ada").Code)
	h.stop()
	require.NoError(t, os.WriteFile(file, text, 0o600))
	h = openHouse(t, folder)
	assert.Equal(t, ada.User, h.continueAs(t, "ada").User)
	assert.Equal(t, grace.User, h.continueAs(t, "grace").User)
	halves, err := filepath.Glob(filepath.Join(folder, "."+peopleFile+"*"))
	require.NoError(t, err)
	assert.Empty(t, halves)
}

func TestContinueAsSomebodyWhoHasSignedUp(t *testing.T) {
	t.Parallel()
	for _, taken := range []string{"accept", "conflict"} {
		t.Run(taken, func(t *testing.T) {
			t.Parallel()
			h := openHouse(t, t.TempDir(), "--store", "memory:", "--auth-taken", taken)
			code := h.signUp(t, "ada@parley.test", byHand)
			if taken == "accept" {
				// Who confirms first has the account.
				other := openHouse(t, t.TempDir(), "--store", "memory:")
				late := other.signUp(t, "ada@parley.test", byHand)
				assert.Equal(t, "Ada Lovelace", other.continueAs(t, "ada").User.FullName)
				assert.Equal(t, http.StatusGone, other.verify(late))
			} else {
				assert.Equal(t, "person_taken", h.refusedAs(t, "ada").Code, "a sign-up waits there")
			}
			require.Equal(t, http.StatusOK, h.verify(code))
			mails := len(h.box.All())
			d := h.refusedAs(t, "ada")
			assert.Equal(t, "person_taken", d.Code)
			assert.Equal(t, http.StatusConflict, d.Status)
			assert.Equal(t, "somebody has signed up as ada@parley.test: sign in with the password that was chosen then", d.Detail)
			assert.Len(t, h.box.All(), mails, "nobody is mailed")
			require.Equal(t, http.StatusOK, h.post("/auth/signin", `{"email": "ada@parley.test", "password": "`+byHand+`"}`).Code, "it is whose it was")
			assert.Equal(t, "Grace Hopper", h.continueAs(t, "grace").User.FullName)
		})
	}
}

// TestContinueAfterACallThatWasCutShort begins with a sign-up that waits: its call was ended before the code came.
func TestContinueAfterACallThatWasCutShort(t *testing.T) {
	t.Parallel()
	for _, taken := range []string{"accept", "conflict"} {
		t.Run(taken, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			h := openHouse(t, folder, "--auth-taken", taken)
			passwords, err := openPasswords(filepath.Join(folder, peopleFile))
			require.NoError(t, err)
			h.signUp(t, "ada@parley.test", passwords["ada"])
			assert.True(t, h.continueAs(t, "ada").User.IsVerified)
		})
	}
}

func TestContinueWithoutAMail(t *testing.T) {
	t.Parallel()
	h := openHouse(t, t.TempDir(), "--store", "memory:")
	d := &door{box: h.box}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := d.code(ctx, people[0], nil)
	require.ErrorIs(t, err, errNoCode)
	require.ErrorIs(t, err, fault.Unavailable)

	// Whoever waits for somebody else to make the account gives up too.
	d.turns = map[string]chan struct{}{"ada": make(chan struct{}, 1)}
	d.turns["ada"] <- struct{}{}
	require.ErrorIs(t, d.makeAccount(ctx, auth.Client{}, people[0], "password"), fault.Unavailable)
}

// TestWhoMayContinue asks as TestWhoMayReadTheDevelopmentMailbox does, for a token, and looks for the buttons.
func TestWhoMayContinue(t *testing.T) {
	t.Parallel()
	const limits = "--signin-burst=1000"
	loopback := openHouse(t, t.TempDir(), "--store", "memory:", limits, "--trusted-proxies", "10.0.0.0/8", "--origins", "*")
	public := openHouse(t, t.TempDir(), "--store", "memory:", limits, "--trusted-proxies", "10.0.0.0/8", "--dev-mailbox", "public")
	smtp := openHouse(t, t.TempDir(), "--store", "memory:", limits, "--mail-sender", "smtp://127.0.0.1:1?tls=none")
	type header map[string]string
	for name, c := range map[string]struct {
		peer, host string
		header     header
		loopback   int
		public     int
	}{
		"localhost":                     {"127.0.0.1:40000", "localhost:5002", nil, 200, 200},
		"IPv6":                          {"[::1]:40000", "[::1]:5002", nil, 200, 200},
		"the network":                   {"192.0.2.7:40000", "192.0.2.1:5002", nil, 403, 200},
		"the network, by a local name":  {"192.0.2.7:40000", "localhost:5002", nil, 403, 200},
		"a rebound name":                {"127.0.0.1:40000", "evil.example:5002", nil, 403, 200},
		"a proxy that nobody named":     {"127.0.0.1:40000", "localhost:5002", header{"X-Forwarded-For": "127.0.0.1"}, 403, 200},
		"a trusted proxy for a client":  {"10.0.0.1:40000", "localhost:5002", header{"X-Forwarded-For": "192.0.2.7"}, 403, 200},
		"a trusted proxy for this host": {"10.0.0.1:40000", "localhost:5002", header{"X-Forwarded-For": "127.0.0.1"}, 200, 200},
		"a page of a stranger":          {"127.0.0.1:40000", "localhost:5002", header{"Origin": "http://evil.example"}, 403, 403},
		"a page of a neighbour":         {"127.0.0.1:40000", "localhost:5002", header{"Origin": "http://localhost:3000"}, 403, 403},
		"a page of the public URL":      {"127.0.0.1:40000", "127.0.0.1:5002", header{"Origin": "http://localhost:5002"}, 200, 200},
		"what browsers say":             {"127.0.0.1:40000", "localhost:5002", header{"Sec-Fetch-Site": "cross-site"}, 403, 403},
		"no JSON":                       {"127.0.0.1:40000", "localhost:5002", header{"Content-Type": "text/plain"}, 415, 415},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			as := func(r *http.Request) {
				r.RemoteAddr, r.Host = c.peer, c.host
				r.Header.Set("Origin", "http://"+c.host)
				for k, v := range c.header {
					r.Header.Set(k, v)
				}
			}
			asked := func(r *http.Request) { // before, in the preflight
				as(r)
				r.Header.Set("Access-Control-Request-Method", http.MethodPost)
				r.Header.Set("Access-Control-Request-Headers", "content-type")
			}
			for mode, h := range map[string]*house{"loopback": loopback, "public": public, "smtp": smtp} {
				got := h.ask(http.MethodPost, "/dev/continue", `{"as": "ada"}`, as)
				want := map[string]int{"loopback": c.loopback, "public": c.public, "smtp": http.StatusNotFound}[mode]
				assert.Equal(t, want, got.Code, "%s: %s", mode, got.Body)
				if want != http.StatusOK {
					assert.Equal(t, problem.ContentType, got.Header().Get("Content-Type"), mode)
					assert.NotContains(t, got.Body.String(), "Token", mode)
				}
				if mode != "smtp" {
					for _, w := range []*httptest.ResponseRecorder{got, h.ask(http.MethodOptions, "/dev/continue", "", asked)} {
						assert.Empty(t, w.Header().Get("Access-Control-Allow-Origin"), "%s: it is for no page of another origin, whatever PARLEY_ORIGINS says", mode)
					}
				}
				mailbox := h.ask(http.MethodGet, "/dev/mail", "", as).Code
				page := h.ask(http.MethodGet, "/", "", as)
				assert.Equal(t, http.StatusOK, page.Code)
				assert.Equal(t, mailbox == http.StatusOK, strings.Contains(page.Body.String(), "Continue as Ada"), "%s: the buttons are where the mailbox is", mode)
			}
		})
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		assert.Equal(t, http.StatusMethodNotAllowed, loopback.ask(method, "/dev/continue", `{"as": "ada"}`, nil).Code, method)
		assert.Equal(t, http.StatusNotFound, smtp.ask(method, "/dev/continue", `{"as": "ada"}`, nil).Code, method)
	}
	document, err := loopback.API.Document("yaml")
	require.NoError(t, err)
	assert.NotContains(t, string(document), "/dev/")
}
