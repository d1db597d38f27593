package asvs_test

import (
	"context"
	"crypto/sha1"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/passrange"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/testkit/system"
)

// passwords is how people prove who they are: chapter 6.
var passwords = []requirement{
	{
		id: "6.2.1", asks: "passwords have at least 8 characters",
		does:  "At least 8 unless PARLEY_PASSWORD_MIN says more, counted in characters; 15 are the choice for accounts without a second factor, which PARLEY_SECOND_FACTOR=on offers.",
		check: shortPasswords,
	},
	{
		id: "6.2.4", asks: "the commonest 3,000 passwords are refused",
		does:  "The 12,000 commonest that were published are refused, and what people make of them, at sign-up, reset and change.",
		check: commonPasswords,
	},
	{
		id: "6.2.8", asks: "a password is verified as it was received, not cut or changed",
		does:  "Every character counts, up to 256; one that is longer is refused and not cut. Only Unicode's normal form is made, as NIST SP 800-63B asks.",
		check: wholePasswords,
	},
	{
		id: "6.2.12", asks: "passwords that were published after break-ins are refused",
		does:  "The list of 6.2.4 is made of such passwords. PARLEY_LEAKED_PASSWORDS_URL, off until it is set, has each new one looked up by the first 20 bits of its hash; without an answer it is taken and logged, or refused, as configured.",
		check: publishedPasswords,
	},
	{
		id: "6.3.1", asks: "passwords cannot be guessed or tried in numbers",
		does:  "Guesses are limited by device, by address and by network, on shared counters where there are several processes; right passwords are not taken after that either.",
		check: guesses,
	},
	{
		id: "6.3.8", asks: "nobody learns which addresses have accounts",
		does:  "Sign-up, resend, forgotten and sign-in answer the same bytes for known and unknown addresses; what takes long is done for both.",
		check: enumeration,
	},
	{
		id: "6.4.1", asks: "codes that are mailed are random, end soon and serve once",
		does:  "256 random bits; 24 hours for an address, one hour for a password; used once; the store has a hash.",
		check: mailedCodes,
	},
}

func shortPasswords(t *testing.T, o opener) {
	w := o.start(t, nil)
	for _, password := range []string{"", "a", "qzvkxwj", "𝒳𝒳𝒳𝒳𝒳𝒳𝒳", "日本語の合言葉"} {
		a := w.ask(http.MethodPost, "/auth/signup", "", fields{"fullName": "Ada", "email": w.name + "@parley.test", "password": password})
		require.Equal(t, http.StatusUnprocessableEntity, a.Status, "%q: %s", password, a.Body)
	}
	w.wants(w.ask(http.MethodPost, "/auth/signup", "", fields{"fullName": "Ada", "email": w.name + "@parley.test", "password": "qzvkxwjb"}), http.StatusAccepted, "", "8 characters")
	ada := w.user("Ada")
	w.wants(w.ask(http.MethodPost, "/auth/password/change", ada.AccessToken, fields{"current": ada.Password, "password": "qzvkxwj"}), http.StatusUnprocessableEntity, "password_invalid", "a change")
}

func commonPasswords(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada := w.user("Ada")
	for i, password := range []string{"password", "12345678", "iloveyou", "Password1", "p4ssw0rd!", "qwertyuiop", "drowssap", "football2024", "sunshine", "princess", "enihsnus", "sunsh1ne", "pr1nc3ss"} {
		w.wants(w.ask(http.MethodPost, "/auth/signup", "", fields{"fullName": "Ada", "email": w.name + "@parley.test", "password": password}), http.StatusUnprocessableEntity, "password_invalid", password)
		if i < 3 {
			w.wants(w.ask(http.MethodPost, "/auth/password/change", ada.AccessToken, fields{"current": ada.Password, "password": password}), http.StatusUnprocessableEntity, "password_invalid", password)
		}
	}
	w.Call(t, http.MethodPost, "/auth/password/forgot", "", fields{"email": ada.Email}, http.StatusAccepted, nil)
	code := w.Code(t, ada.Email, 2)
	w.wants(w.ask(http.MethodPost, "/auth/password/reset", "", fields{"code": code, "password": "password"}), http.StatusUnprocessableEntity, "password_invalid", "a reset")
	w.wants(w.ask(http.MethodPost, "/auth/password/reset", "", fields{"code": code, "password": "qzvkxwjb of nobody"}), http.StatusNoContent, "", "the code is not used up by that")
}

// publishedPasswords has a server of the range API, as the one that everybody knows, say what was published.
func publishedPasswords(t *testing.T, o opener) {
	commonPasswords(t, o)
	const leaked = "seven lamps under an old bridge"
	hash := fmt.Sprintf("%X", sha1.Sum([]byte(leaked)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/range/"+hash[:5] {
			fmt.Fprint(w, hash[5:], ":2\r\n")
		}
		fmt.Fprint(w, strings.Repeat("0", 35), ":0\r\n")
	}))
	t.Cleanup(server.Close)
	list, err := passrange.New(passrange.Config{URL: server.URL + "/range/"})
	require.NoError(t, err)
	o.salt += "-published"
	w := o.start(t, func(cfg *system.Config) {
		cfg.Auth.Leaked, cfg.Auth.LeakedTimeout, cfg.Auth.LeakedFailsClosed = list, time.Minute, true
	})
	ada := w.user("Ada")
	w.wants(w.ask(http.MethodPost, "/auth/signup", "", fields{"fullName": "Ada", "email": w.name + "@parley.test", "password": leaked}), http.StatusUnprocessableEntity, "password_invalid", "a sign-up")
	w.wants(w.ask(http.MethodPost, "/auth/password/change", ada.AccessToken, fields{"current": ada.Password, "password": leaked}), http.StatusUnprocessableEntity, "password_invalid", "a change")
	w.Call(t, http.MethodPost, "/auth/password/forgot", "", fields{"email": ada.Email}, http.StatusAccepted, nil)
	code := w.Code(t, ada.Email, 2)
	w.wants(w.ask(http.MethodPost, "/auth/password/reset", "", fields{"code": code, "password": leaked}), http.StatusUnprocessableEntity, "password_invalid", "a reset")
	w.wants(w.ask(http.MethodPost, "/auth/password/reset", "", fields{"code": code, "password": "seven lamps over an old bridge"}), http.StatusNoContent, "", "what nobody published")
	server.Close()
	w.wants(w.ask(http.MethodPost, "/auth/signup", "", fields{"fullName": "Ada", "email": w.name + "@parley.test", "password": "a phrase that nobody judges"}), http.StatusServiceUnavailable, "", "nobody answers")
}

func wholePasswords(t *testing.T, o opener) {
	w := o.start(t, nil)
	long := " Ünïcode 𝒳 pass phrase, " + strings.Repeat("longer than 72 bytes ", 8) + "THE END "
	u := system.User{Email: w.name + "@parley.test", Password: long}
	w.Call(t, http.MethodPost, "/auth/signup", "", fields{"fullName": "Ada", "email": u.Email, "password": long}, http.StatusAccepted, nil)
	w.Call(t, http.MethodPost, "/auth/verify", "", fields{"code": w.Code(t, u.Email, 1)}, http.StatusOK, nil)
	require.Equal(t, http.StatusOK, w.signIn(u.Email, long).Status)
	for about, other := range map[string]string{
		"without its end": long[:len(long)-1], "without its beginning": long[1:], "lower case": strings.ToLower(long), "cut at 72 bytes": long[:72], "trimmed": strings.TrimSpace(long),
		"one more": long + "x", "another last letter": long[:len(long)-2] + "d ",
	} {
		w.wants(w.signIn(u.Email, other), http.StatusUnauthorized, "invalid_credentials", about)
	}
	a := w.ask(http.MethodPost, "/auth/signup", "", fields{"fullName": "Ada", "email": "other-" + u.Email, "password": strings.Repeat("too long ", 200)})
	require.Equal(t, http.StatusUnprocessableEntity, a.Status, "%s", a.Body)
}

func guesses(t *testing.T, o opener) {
	w := o.start(t, func(cfg *system.Config) { cfg.Auth.SignInRate = auth.Rate{Burst: 3, Per: time.Hour} })
	ada := w.user("Ada")
	statuses := map[int]int{}
	for range 12 {
		a := w.signIn(ada.Email, "a wrong pass phrase")
		statuses[a.Status]++
		if a.Status == http.StatusTooManyRequests {
			require.NotEmpty(t, a.Header.Get("Retry-After"))
		}
	}
	assert.LessOrEqual(t, statuses[http.StatusUnauthorized], 4, "guesses that were looked at")
	assert.Equal(t, 12, statuses[http.StatusUnauthorized]+statuses[http.StatusTooManyRequests], "%v", statuses)
	require.Equal(t, http.StatusTooManyRequests, w.signIn(ada.Email, ada.Password).Status, "the right one tells nothing")
	// Many addresses from one network are many guesses as well.
	limited := false
	for i := range 60 {
		limited = limited || w.signIn(fmt.Sprintf("%s-%d-of-many@parley.test", w.name, i), "a pass phrase that leaked").Status == http.StatusTooManyRequests
	}
	require.True(t, limited, "one network tries as many accounts as it likes")
}

func enumeration(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada := w.user("Ada")
	waiting := w.unverified("Bob")
	unknown := w.name + "-unknown@parley.test"
	for _, c := range []struct {
		path string
		body fields
	}{
		{"/auth/signup", fields{"fullName": "Eve", "password": "a pass phrase of Eve"}}, {"/auth/verify/resend", fields{}}, {"/auth/password/forgot", fields{}},
		{"/auth/signin", fields{"password": "a wrong pass phrase"}},
	} {
		answers := map[string]string{}
		for _, email := range []string{ada.Email, waiting.Email, unknown} {
			c.body["email"] = email
			a := w.ask(http.MethodPost, c.path, "", c.body)
			a.Header.Del("Date")
			headers := &strings.Builder{}
			require.NoError(t, a.Header.Write(headers))
			answers[headers.String()+string(a.Body)] = email
		}
		require.Len(t, answers, 1, "%s: %v", c.path, answers)
	}
}

// keptCodes knows what was put into the store.
type keptCodes struct {
	auth.CodeStore
	mu  sync.Mutex
	all []codeFields
}

// codeFields is a code that prints all that it has.
type codeFields auth.Code

func (k *keptCodes) Put(ctx context.Context, c auth.Code, events ...event.Event) error {
	k.mu.Lock()
	k.all = append(k.all, codeFields(c))
	k.mu.Unlock()
	return k.CodeStore.Put(ctx, c, events...)
}

func mailedCodes(t *testing.T, o opener) {
	kept := &keptCodes{}
	w := o.start(t, func(cfg *system.Config) {
		more := cfg.Ports
		cfg.Ports = func(p *parley.Ports) {
			more(p)
			kept.CodeStore = p.Codes
			p.Codes = kept
		}
	})
	var codes []string
	for i := range 40 {
		u := w.unverified("Ada")
		code := w.Code(t, u.Email, 1)
		codes = append(codes, code)
		if i >= 5 {
			continue
		}
		a := w.ask(http.MethodPost, "/auth/verify", "", fields{"code": code[:len(code)-1] + "A"})
		if !strings.HasSuffix(code, "A") {
			w.wants(a, http.StatusBadRequest, "code_unknown", "another")
		}
	}
	random(t, codes)
	kept.mu.Lock()
	stored := fmt.Sprintf("%+v", kept.all)
	kept.mu.Unlock()
	require.NotEmpty(t, kept.all)
	for _, code := range codes {
		require.NotContains(t, stored, code, "the store has the code")
	}
	ada := w.user("Ada")
	w.Call(t, http.MethodPost, "/auth/password/forgot", "", fields{"email": ada.Email}, http.StatusAccepted, nil)
	code := w.Code(t, ada.Email, 2)
	w.Advance(time.Hour + time.Second)
	w.wants(w.ask(http.MethodPost, "/auth/password/reset", "", fields{"code": code, "password": "qzvkxwjb of nobody"}), http.StatusGone, "code_gone", "after an hour")
	bob := w.unverified("Bob")
	late := w.Code(t, bob.Email, 1)
	w.Advance(24*time.Hour + time.Second)
	w.wants(w.ask(http.MethodPost, "/auth/verify", "", fields{"code": late}), http.StatusGone, "code_gone", "after a day")
	for _, m := range w.Mailbox.All() {
		require.NotContains(t, m.Text+m.HTML, ada.Password, "no password is mailed")
	}
}
