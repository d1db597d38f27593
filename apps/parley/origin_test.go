package main_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/socket"
)

// TestOriginsOfPages: one list serves REST and sockets, and the origin of the public URL is the server's
// own, though a proxy passes another Host on.
func TestOriginsOfPages(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"nbio", "net"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			listen := freeAddress(t)
			s := serve(t, t.TempDir(), "--listen", listen, "--transport", transport, "--public-url", "https://chät.example:443/app",
				"--origins", "https://*.example.com:443,HTTP://Front.example:80/")
			s.url = "http://" + listen
			ada := s.member(t, "Ada Lovelace")
			for origin, want := range map[string]bool{
				s.url:                         true, // by its Host
				"https://xn--cht-rla.example": true,
				"https://a.b.example.com":     true,
				"http://front.example":        true,
				"http://xn--cht-rla.example":  false,
				"https://example.com":         false,
				"https://evil-example.com":    false,
				"https://front.example":       false,
				"null":                        false,
			} {
				header := http.Header{"Origin": {origin}, "Authorization": {"Bearer " + ada.AccessToken}, "Sec-Websocket-Protocol": {socket.Protocol}}
				c, answer, err := websocket.DefaultDialer.DialContext(t.Context(), s.socket(), header)
				require.NotNil(t, answer, "%s: %v", origin, err)
				if err == nil {
					_ = c.Close()
				}
				assert.Equal(t, want, err == nil, "socket from %s: %s", origin, answer.Status)
				if err != nil {
					assert.Equal(t, http.StatusForbidden, answer.StatusCode, origin)
				}
				polls, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/socket.io/?EIO=4&transport=polling", nil)
				require.NoError(t, err)
				polls.Header.Set("Origin", origin)
				opened, err := send(polls)
				require.NoError(t, err)
				assert.Equal(t, map[bool]int{true: http.StatusOK, false: http.StatusForbidden}[want], opened.status, "Socket.IO from %s", origin)
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/livez", nil)
				require.NoError(t, err)
				r.Header.Set("Origin", origin)
				got, err := send(r)
				require.NoError(t, err)
				if origin != s.url { // of which no browser asks
					assert.Equal(t, want, got.header.Get("Access-Control-Allow-Origin") == origin, "REST from %s", origin)
				}
			}
			s.sound(t)
		})
	}
}

// TestAPageOfAnotherOrigin does in a browser what a front end of somebody's own does: it signs up and in
// with fetch, takes a ticket, and talks. Pages that are not listed can do none of it.
func TestAPageOfAnotherOrigin(t *testing.T) {
	t.Parallel()
	browser := startBrowser(t)
	blank := func() *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<!doctype html><title>Another front end</title>")
		}))
		t.Cleanup(s.Close)
		return s
	}
	listed, stranger := blank(), blank()
	s := serve(t, t.TempDir(), "--origins", listed.URL+"/")
	open := func(url string) func(script string) string {
		tab, closeTab := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
		t.Cleanup(closeTab)
		ctx, cancel := context.WithTimeout(tab, patience)
		t.Cleanup(cancel)
		require.NoError(t, chromedp.Do(ctx, chromedp.Navigate(url)))
		return func(script string) string {
			v, err := chromedp.Run(ctx, chromedp.Evaluate[string](fmt.Sprintf(`(async () => {
				const server = %q;
				const call = async (path, body, token) => {
					const headers = { "Content-Type": "application/json" };
					if (token) headers.Authorization = "Bearer " + token;
					const answer = await fetch(server + path, { method: "POST", headers, body: body && JSON.stringify(body) });
					return { status: answer.status, retry: answer.headers.get("Retry-After"), json: await answer.json() };
				};
				const talk = (ticket) => new Promise((resolve) => {
					const socket = new WebSocket(server.replace("http", "ws") + "/socket?ticket=" + ticket, "parley.v1");
					socket.onerror = () => resolve("no socket");
					socket.onopen = () => socket.send(JSON.stringify({ id: 1, event: "join_room", data: { room: "hall" } }));
					socket.onmessage = (m) => { socket.close(); resolve(JSON.parse(m.data).event); };
				});
				try { %s } catch (e) { return e.name; }
			})()`, s.url, script), chromedp.EvalAwaitPromise))
			require.NoError(t, err)
			return v
		}
	}
	at, foreign := open(listed.URL), open(stranger.URL)
	const account = `{ fullName: "Ada Lovelace", email: "ada@example.com", password: "` + password + `" }`
	const signIn = `const grant = await call("/auth/signin", { email: "ada@example.com", password: "` + password + `" });`
	assert.Equal(t, "TypeError", foreign(`return String((await call("/auth/signup", `+account+`)).status);`))
	assert.Equal(t, "202", at(`return String((await call("/auth/signup", `+account+`)).status);`))
	code := s.mailTo(t, "ada@example.com").code()
	assert.Equal(t, "200", at(fmt.Sprintf(`return String((await call("/auth/verify", { code: %q })).status);`, code)))
	assert.Equal(t, "ack", at(signIn+`
		const ticket = await call("/auth/socket-ticket", undefined, grant.json.accessToken);
		return await talk(ticket.json.ticket);`))
	assert.Equal(t, "401", at(`return String((await call("/auth/refresh", { refreshToken: "nothing-that-was-ever-given" })).status);`), "problems can be read")
	assert.Equal(t, "TypeError", foreign(signIn+`return "signed in";`))
	ticket := decode[struct{ Ticket string }](t, must(t, 200, "POST", s.url+"/auth/socket-ticket", s.signIn(t, "ada@example.com").AccessToken, nil)).Ticket
	assert.Equal(t, "no socket", foreign(fmt.Sprintf(`return await talk(%q);`, ticket)), "though it has a ticket")
	assert.Equal(t, "TypeError", at(`return String((await fetch(server + "/dev/mail.json")).status);`), "the mailbox is not for pages of others")
	// Nobody else's page can continue as somebody: not one that is listed either, and not one that asks for no answer.
	const continueAs = `const answer = await fetch(server + "/dev/continue", { method: "POST", mode: %q, headers: { "Content-Type": %q }, body: '{"as": "ada"}' });
		return answer.type;`
	for _, page := range []func(string) string{at, foreign} {
		assert.Equal(t, "TypeError", page(fmt.Sprintf(continueAs, "cors", "application/json")))
		assert.Equal(t, "TypeError", page(fmt.Sprintf(continueAs, "cors", "text/plain")))
		assert.Equal(t, "opaque", page(fmt.Sprintf(continueAs, "no-cors", "text/plain")))
	}
	for _, m := range s.mails(t) {
		assert.Equal(t, "ada@example.com", m.To, "nobody has continued as Ada: she would have signed up")
	}
	s.sound(t)
}
