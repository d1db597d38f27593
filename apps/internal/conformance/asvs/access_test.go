package asvs_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/run"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/testkit/local"
	"github.com/parley-chat/parley/testkit/system"
)

// access is who may reach what: chapters 3, 4 and 8.
var access = []requirement{
	{
		id: "3.4.2", asks: "answers may be read by the pages of named origins only",
		does:  "PARLEY_ORIGINS is compared exactly; an origin that is not in it gets no Access-Control-Allow-Origin. Cookies are never used.",
		check: origins,
	},
	{
		id: "4.1.3", asks: "clients cannot set the headers that a proxy sets",
		does:  "X-Forwarded-For counts from the proxies of --trusted-proxies alone, and of it the last address that is none of them; Host and other forwarded headers are never used in links.",
		check: forwarded,
	},
	{
		id: "4.4.1", asks: "sockets use TLS",
		does:  "With --tls-cert every address beyond loopback speaks TLS, from version 1.2, and nothing else, sockets too; or the proxy in front does.",
		check: socketsOverTLS,
	},
	{
		id: "4.4.2", asks: "the Origin of a socket's handshake is checked",
		does:  "An origin that is not allowed is refused with 403 before the upgrade.",
		check: socketOrigins,
	},
	{
		id: "4.4.3", asks: "sockets have tokens of their own where the usual session cannot be used",
		does:  "Browsers, which cannot set a header, use a ticket: it opens one socket, within 30 seconds, and is no access token.",
		check: tickets,
	},
	{
		id: "4.4.4", asks: "such tokens come from a session that was authenticated before",
		does:  "A ticket is for a live session's bearer only, belongs to it, and ends with it.",
		check: ticketsOfSessions,
	},
	{
		id: "8.2.2", asks: "nobody reaches data of others by its name",
		does:  "Every call asks for the rights in the room; private rooms answer strangers as rooms that are not there, to the byte; messages are edited by their authors alone.",
		check: others,
	},
	{
		id: "8.3.2", asks: "changed rights hold at once",
		does:  "Roles, bans, mutes and removals take hold on open sockets and in REST with the change, on every node within a second.",
		check: rightsAtOnce,
	},
}

func origins(t *testing.T, _ opener) {
	api, err := humaapi.New(http.NewServeMux(), humaapi.Config{Origins: []string{"https://chat.example.com", "https://*.example.org"}})
	require.NoError(t, err)
	require.NoError(t, humaapi.RegisterHealth(api, humaapi.HealthConfig{}))
	for origin, allowed := range map[string]bool{
		"https://chat.example.com": true, "https://a.example.org": true,
		"https://evil.example": false, "http://chat.example.com": false, "https://chat.example.com.evil.example": false, "https://evilexample.org": false, "null": false, "https://chat.example.com:444": false,
	} {
		for _, method := range []string{http.MethodGet, http.MethodOptions} {
			r := httptest.NewRequest(method, "/livez", nil)
			r.Header.Set("Origin", origin)
			if method == http.MethodOptions {
				r.Header.Set("Access-Control-Request-Method", http.MethodGet)
			}
			w := httptest.NewRecorder()
			api.ServeHTTP(w, r)
			want := ""
			if allowed {
				want = origin
			}
			assert.Equal(t, want, w.Header().Get("Access-Control-Allow-Origin"), "%s %s", method, origin)
			assert.Empty(t, w.Header().Get("Access-Control-Allow-Credentials"), "%s %s", method, origin)
		}
	}
}

func forwarded(t *testing.T, o opener) {
	w := o.start(t, func(cfg *system.Config) { cfg.Auth.SignInRate = auth.Rate{Burst: 3, Per: time.Hour} })
	ada := w.user("Ada")
	// Guesses at many addresses, each with another header, are still those of one network.
	limited := false
	for i := range 40 {
		address := netip.AddrFrom4([4]byte{203, 0, byte(i), 1}).String()
		a := w.signIn(ada.Email, "a wrong pass phrase", "X-Forwarded-For", address, "X-Real-IP", address, "Forwarded", "for="+address, "CF-Connecting-IP", address)
		limited = limited || a.Status == http.StatusTooManyRequests
	}
	require.True(t, limited, "a header has made somebody new")
	// A link leads to the configured address, whatever the request says of hosts.
	a := w.ask(http.MethodPost, "/auth/password/forgot", "", fields{"email": ada.Email}, "X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "gopher", "Forwarded", "host=evil.example")
	require.Equal(t, http.StatusAccepted, a.Status)
	w.Code(t, ada.Email, 2)
	mails := w.Mailbox.To(ada.Email)
	last := mails[len(mails)-1]
	require.NotContains(t, last.Text+last.HTML, "evil.example")
	require.Contains(t, last.Text, w.URL)

	proxy := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, c := range []struct{ peer, header, want string }{
		{"192.0.2.1:1", "198.51.100.7", "192.0.2.1"}, {"10.1.1.1:1", "198.51.100.7", "198.51.100.7"}, {"10.1.1.1:1", "1.1.1.1, 198.51.100.7, 10.2.2.2", "198.51.100.7"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = c.peer
		r.Header.Set("X-Forwarded-For", c.header)
		require.Equal(t, c.want, humaapi.ClientAddress(r, proxy).String(), "%s %s", c.peer, c.header)
	}
}

func socketsOverTLS(t *testing.T, _ opener) {
	folder := t.TempDir()
	chain, private, err := local.Certificate(1)
	require.NoError(t, err)
	cert, key := filepath.Join(folder, "cert"), filepath.Join(folder, "key")
	require.NoError(t, os.WriteFile(cert, chain, 0o600))
	require.NoError(t, os.WriteFile(key, private, 0o600))
	s, _, err := config.Load(config.Parley, []string{
		"--listen=127.0.0.1:0", "--admin-listen=off", "--store=memory:", "--data", folder, "--tls-cert", cert, "--tls-key", key,
	}, nil, io.Discard)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	serves, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() {
		ended <- run.Serve(ctx, s, io.Discard, io.Discard, func(public, _ net.Addr) { serves <- public })
	}()
	defer func() {
		stop()
		require.NoError(t, <-ended)
	}()
	var address string
	select {
	case a := <-serves:
		address = a.String()
	case err := <-ended:
		ended <- err
		require.NoError(t, err, "it does not serve")
	}
	known := x509.NewCertPool()
	require.True(t, known.AppendCertsFromPEM(chain))
	handshake := func(scheme string, version uint16) (status int, err error) {
		client := &http.Client{Timeout: patience, Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: known, MinVersion: tls.VersionTLS10, MaxVersion: version}, //nolint:gosec // old versions are to be refused
		}}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, scheme+"://"+address+"/socket", nil)
		require.NoError(t, err)
		r.Header = http.Header{
			"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"MDEyMzQ1Njc4OWFiY2RlZg=="},
			"Authorization": {"Bearer no.such.token"},
		}
		answer, err := client.Do(r)
		if err != nil {
			return 0, err
		}
		return answer.StatusCode, answer.Body.Close()
	}
	status, err := handshake("https", tls.VersionTLS13)
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, status, "the socket is there, over TLS")
	_, err = handshake("https", tls.VersionTLS11)
	require.Error(t, err, "TLS 1.1")
	status, err = handshake("http", tls.VersionTLS13)
	require.True(t, err != nil || status == http.StatusBadRequest, "without TLS: %d", status)
}

func socketOrigins(t *testing.T, o opener) {
	w := o.start(t, func(cfg *system.Config) { cfg.Origins = []string{"https://chat.example.com"} })
	ada := w.user("Ada")
	for origin, status := range map[string]int{
		"https://chat.example.com": 101, w.URL: 101, "https://evil.example": 403, "http://chat.example.com": 403, "https://chat.example.com.evil.example": 403, "null": 403, "garbage": 403,
	} {
		a := w.shake("", "Authorization", "Bearer "+ada.AccessToken, "Origin", origin)
		require.Equal(t, status, a.Status, "%s: %s", origin, a.Body)
		a = w.shake("?ticket="+w.ticket(ada), "Origin", origin)
		require.Equal(t, status, a.Status, "%s with a ticket: %s", origin, a.Body)
	}
}

func tickets(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada := w.user("Ada")
	ticket := w.ticket(ada)
	w.wants(w.ask(http.MethodGet, "/auth/me", ticket, nil), http.StatusUnauthorized, "", "a ticket as a bearer")
	require.Equal(t, http.StatusSwitchingProtocols, w.shake("?ticket="+ticket).Status)
	w.wants(w.shake("?ticket="+ticket), http.StatusUnauthorized, "token_invalid", "twice")
	w.wants(w.shake("?ticket="+ada.AccessToken), http.StatusUnauthorized, "token_invalid", "an access token as a ticket")
	late := w.ticket(ada)
	w.Advance(31 * time.Second)
	w.wants(w.shake("?ticket="+late), http.StatusUnauthorized, "token_invalid", "after its time")
}

func ticketsOfSessions(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada := w.user("Ada")
	w.wants(w.ask(http.MethodPost, "/auth/socket-ticket", "", nil), http.StatusUnauthorized, "", "nobody's")
	w.wants(w.ask(http.MethodPost, "/auth/socket-ticket", ada.RefreshToken, nil), http.StatusUnauthorized, "", "a refresh token")
	ticket := w.ticket(ada)
	w.Call(t, http.MethodPost, "/auth/signout", ada.AccessToken, nil, http.StatusNoContent, nil)
	w.wants(w.shake("?ticket="+ticket), http.StatusUnauthorized, "", "after its session")
	w.wants(w.ask(http.MethodPost, "/auth/socket-ticket", ada.AccessToken, nil), http.StatusUnauthorized, "", "of an ended session")
}

func others(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada, eve := w.user("Ada"), w.user("Eve")
	secret, open := w.room("secret"), w.room("open")
	w.Call(t, http.MethodPost, "/rooms", ada.AccessToken, fields{"name": secret, "kind": "private"}, http.StatusCreated, nil)
	w.Call(t, http.MethodPost, "/rooms", ada.AccessToken, fields{"name": open}, http.StatusCreated, nil)
	for _, room := range []string{secret, open} {
		w.Call(t, http.MethodPost, "/rooms/"+room+"/messages", ada.AccessToken, fields{"text": "hers"}, http.StatusCreated, nil)
	}
	for _, c := range []struct {
		method, path string
		body         any
	}{
		{http.MethodGet, "", nil}, {http.MethodPatch, "", fields{"title": "mine"}}, {http.MethodDelete, "", nil},
		{http.MethodGet, "/members", nil}, {http.MethodPut, "/members/" + eve.ID, fields{"role": "owner"}}, {http.MethodDelete, "/members/" + ada.ID, nil},
		{http.MethodGet, "/bans", nil}, {http.MethodPut, "/bans/" + ada.ID, fields{}}, {http.MethodPut, "/mutes/" + ada.ID, fields{}},
		{http.MethodGet, "/messages", nil}, {http.MethodPost, "/messages", fields{"text": "mine"}},
		{http.MethodPatch, "/messages/1", fields{"text": "mine"}}, {http.MethodDelete, "/messages/1", nil},
		{http.MethodPut, "/messages/1/reactions/x", nil}, {http.MethodPut, "/read", fields{"seq": 1}},
	} {
		there := w.ask(c.method, "/rooms/"+secret+c.path, eve.AccessToken, c.body)
		require.Equal(t, http.StatusNotFound, there.Status, "%s %s: %s", c.method, c.path, there.Body)
		nowhere := w.ask(c.method, "/rooms/"+w.room("nothing")+c.path, eve.AccessToken, c.body)
		require.Equal(t, nowhere.Status, there.Status, "%s %s", c.method, c.path)
		require.Equal(t, string(nowhere.Body), string(there.Body), "%s %s", c.method, c.path)
	}
	c := w.Dial(t, eve, nil)
	_, err := c.Join(t.Context(), secret)
	require.Error(t, err)
	_, err = c.Join(t.Context(), open)
	require.NoError(t, err)
	_, err = c.Edit(t.Context(), open, 1, "mine")
	require.Error(t, err)
	_, err = c.Delete(t.Context(), open, 1)
	require.Error(t, err)
	for _, method := range []string{http.MethodPatch, http.MethodDelete} {
		a := w.ask(method, "/rooms/"+open+"/messages/1", eve.AccessToken, map[string]any{http.MethodPatch: fields{"text": "mine"}}[method])
		require.Equal(t, http.StatusForbidden, a.Status, "%s: %s", method, a.Body)
	}
	var page struct{ Messages []struct{ Text string } }
	w.Call(t, http.MethodGet, "/rooms/"+open+"/messages", eve.AccessToken, nil, http.StatusOK, &page)
	require.Equal(t, "hers", page.Messages[0].Text)
}

// eventually tries until it is so. How soon that has to be is what the simulation and the tests of core/realtime hold.
func eventually(t *testing.T, about string, so func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !so() {
		require.NoError(t, ctx.Err(), about)
	}
}

func rightsAtOnce(t *testing.T, o opener) {
	w := o.start(t, nil)
	ada, bob, eve := w.user("Ada"), w.user("Bob"), w.user("Eve")
	hall := w.room("hall")
	w.Call(t, http.MethodPost, "/rooms", ada.AccessToken, fields{"name": hall}, http.StatusCreated, nil)
	talks, taken := w.Dial(t, bob, nil), w.Dial(t, eve, nil)
	for _, c := range []*wsclient.Client{talks, taken} {
		_, err := c.Join(t.Context(), hall)
		require.NoError(t, err)
	}
	_, err := talks.Send(t.Context(), hall, "as a member")
	require.NoError(t, err)
	w.Call(t, http.MethodPut, "/rooms/"+hall+"/members/"+bob.ID, ada.AccessToken, fields{"role": "reader"}, http.StatusOK, nil)
	eventually(t, "a reader is refused", func() bool {
		_, err := talks.Send(t.Context(), hall, "as a reader")
		return errors.Is(err, chat.ErrRoleLacksRight)
	})
	w.wants(w.ask(http.MethodPost, "/rooms/"+hall+"/messages", bob.AccessToken, fields{"text": "as a reader"}), http.StatusForbidden, "role_lacks_right", "over REST")
	w.Call(t, http.MethodPut, "/rooms/"+hall+"/bans/"+eve.ID, ada.AccessToken, fields{}, http.StatusNoContent, nil)
	eventually(t, "somebody banned is refused", func() bool {
		_, err := taken.Send(t.Context(), hall, "banned")
		return err != nil
	})
	require.Equal(t, http.StatusForbidden, w.ask(http.MethodPost, "/rooms/"+hall+"/messages", eve.AccessToken, fields{"text": "banned"}).Status)
	_, err = taken.Join(t.Context(), hall)
	require.Error(t, err)
}
