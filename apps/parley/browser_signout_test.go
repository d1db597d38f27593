package main_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// signsOutWhileItReads lets what the page reads of rooms, members and settings be under way while its user signs out, so that the server would refuse it. The page
// gives it up, says that they are signed out, and lets the next one in.
func (w *world) signsOutWhileItReads(t *testing.T) {
	l := w.line(t)
	p := w.signedIn(t, "Quick Leaver", l)
	p.join("first")
	p.join("second")

	var mu sync.Mutex
	var reads sync.WaitGroup
	held, refreshed := map[string]bool{}, 0
	out := make(chan struct{}) // the server has ended the session
	l.plays(func(w http.ResponseWriter, r *http.Request) bool {
		path := r.URL.Path
		switch {
		case path == "/auth/refresh":
			mu.Lock()
			defer mu.Unlock()
			refreshed++
			return false
		case path == "/auth/signout":
			answer := httptest.NewRecorder()
			l.proxy.ServeHTTP(answer, r)
			close(out)
			reads.Wait() // until the page has given them up, or was refused them
			maps.Copy(w.Header(), answer.Header())
			w.WriteHeader(answer.Code)
			return true
		case r.Method == http.MethodGet && (strings.HasPrefix(path, "/rooms/") || strings.HasPrefix(path, "/me/")):
			reads.Add(1)
			defer reads.Done()
			mu.Lock()
			held[path] = true
			mu.Unlock()
			select {
			case <-out:
				l.proxy.ServeHTTP(w, r)
			case <-r.Context().Done():
			}
			return true
		}
		return false
	})
	p.click(`#room-list [data-room="first"] button`)
	p.click("#account-menu summary")
	await(t, "the page to read", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return held["/rooms/first"] && held["/rooms/first/members"] && held["/me/settings"]
	})
	p.click("#sign-out")
	p.until(`document.querySelector("#form-sign-in").checkVisibility()`)
	require.Contains(t, evaluate[string](p, `document.querySelector("#door").innerText`), "You are signed out.")
	require.Zero(t, refreshed, "the tokens are of no use any more")

	l.plays(nil)
	w.server.member(t, "Next Reader")
	p.signIn("Next Reader")
	p.join("first")
	p.say("I am somebody else")
	p.untilShown("I am somebody else")
}
