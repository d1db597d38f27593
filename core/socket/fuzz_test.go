package socket_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// FuzzOrigins compares what a list lets in with what it names: nothing but the origins themselves, and hosts below one with *.
func FuzzOrigins(f *testing.F) {
	for _, c := range [][2]string{
		{"https://chat.example.com", "https://chat.example.com"}, {"https://*.example.com", "https://a.b.example.com"}, {"https://*.example.com", "https://example.com"}, {"https://*.example.com", "https://evilexample.com"},
		{"https://chat.example.com:443", "https://chat.example.com"}, {"https://[::1]:8080", "https://[0:0::1]:8080"}, {"https://[::ffff:1.2.3.4]", "https://[::ffff:102:304]"}, {"http://127.0.0.1", "http://127.1"}, {"null", "null"},
		{"https://a.example", "https://a.example.evil.example"}, {"https://a.example", "https://u@a.example"}, {"https://a.example", "https://a.example/../x"}, {"https://*.1.2.3.4", "https://x.1.2.3.4"}, {"https://ünï.example", "https://xn--n-nfa4j.example"}, {"https://A.EXAMPLE/", "https://a.example"},
	} {
		f.Add(c[0], c[1])
	}
	f.Fuzz(func(t *testing.T, listed, sent string) {
		list, err := socket.ParseOrigins([]string{listed})
		if err != nil || list.Any() {
			return
		}
		if !list.Allows(sent) {
			return
		}
		a, err1 := url.Parse(listed)
		b, err2 := url.Parse(sent)
		if err1 != nil || err2 != nil || !strings.EqualFold(a.Scheme, b.Scheme) || b.User != nil || b.RawQuery != "" || b.Fragment != "" {
			t.Fatalf("%q lets %q in", listed, sent)
		}
		if rest, wild := strings.CutPrefix(a.Hostname(), "*"); wild {
			if !strings.HasSuffix(strings.ToLower(b.Hostname()), strings.ToLower(rest)) || len(b.Hostname()) <= len(rest) {
				t.Fatalf("%q lets %q in", listed, sent)
			}
		} else if !strings.Contains(a.Host, ":") && !strings.Contains(b.Host, ":") && !strings.EqualFold(strings.TrimSuffix(a.Hostname(), "."), strings.TrimSuffix(b.Hostname(), ".")) && !strings.ContainsAny(listed, "0123456789") {
			t.Fatalf("%q lets %q in", listed, sent)
		}
	})
}

// nobody knows no token, and notes which it was asked about.
type nobody struct{ tokens, tickets []string }

func (n *nobody) Token(_ context.Context, token string) (user.Identity, error) {
	n.tokens = append(n.tokens, token)
	return user.Identity{}, socket.ErrNoCredentials
}

func (n *nobody) Ticket(_ context.Context, ticket string) (user.Identity, error) {
	n.tickets = append(n.tickets, ticket)
	return user.Identity{}, socket.ErrNoCredentials
}

// FuzzHandshake shakes hands by headers and queries that nobody should send: each is refused, once, by a kind that has a status.
func FuzzHandshake(f *testing.F) {
	for _, s := range []string{"", "Bearer x", "bearer  x y", "Basic eA==", "parley.v1, bearer.x", "parley.v1,parley.v1", "bearer.", ",,,", "\x00", "ticket=x&ticket=y", "ticket=%zz", "permessage-deflate; client_max_window_bits=8", "permessage-deflate; x=\"", "https://evil.example", "null"} {
		f.Add(s, "parley.v1", "", "permessage-deflate", "")
		f.Add("", s, s, s, s)
	}
	f.Fuzz(func(t *testing.T, authorization, protocols, query, extensions, origin string) {
		asked := &nobody{}
		h, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: asked, Protocols: []string{socket.Protocol}})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodGet, "/socket", nil)
		r.URL.RawQuery = query
		r.Header = http.Header{"Authorization": {authorization}, "Sec-Websocket-Protocol": {protocols}, "Sec-Websocket-Extensions": {extensions}, "Origin": {origin}}
		hello, err := h.Check(r)
		if err == nil {
			t.Fatalf("nobody came in as %v", hello)
		}
		switch fault.KindOf(err) {
		case fault.Forbidden, fault.Invalid, fault.Unauthenticated:
		default:
			t.Fatalf("%v is of kind %v", err, fault.KindOf(err))
		}
		if len(asked.tokens)+len(asked.tickets) > 1 {
			t.Fatalf("one handshake asked about %q and %q", asked.tokens, asked.tickets)
		}
		cfg := socket.TransportConfig{Compress: true}
		if answer := cfg.Extensions(r); answer != "" && !strings.HasPrefix(answer, "permessage-deflate") || strings.ContainsAny(answer, "\r\n") {
			t.Fatalf("%q is answered by %q", extensions, answer)
		}
	})
}
