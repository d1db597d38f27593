package humaapi_test

import (
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/parley-chat/parley/adapters/humaapi"
)

// FuzzClientAddress: whatever a proxy's header says, the answer is the peer itself unless that is trusted, and never somebody who is
// trusted while somebody else stands in the header behind them.
func FuzzClientAddress(f *testing.F) {
	for _, s := range []string{"", "198.51.100.7", "1.1.1.1, 198.51.100.7, 10.2.2.2", "[2001:db8::1]:80", "::ffff:10.1.1.1", "fe80::1%eth0", "unknown", ",,,", "10.1.1.1,10.1.1.1", "1.1.1.1\x00", "_hidden, 198.51.100.7", " 1.1.1.1 ", "1.1.1.1:1:1"} {
		f.Add("10.1.1.1:1", s, s)
		f.Add("192.0.2.1:1", s, "")
		f.Add(s, s, s)
	}
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	within := func(a netip.Addr) bool {
		return a.IsValid() && (trusted[0].Contains(a.Unmap()) || trusted[1].Contains(a))
	}
	f.Fuzz(func(t *testing.T, peer, first, second string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = peer
		r.Header["X-Forwarded-For"] = []string{first, second}
		got := humaapi.ClientAddress(r, trusted)
		if got.Zone() != "" || got.Is4In6() {
			t.Fatalf("%v has more than one spelling", got)
		}
		r.Header = nil
		from := humaapi.ClientAddress(r, trusted)
		if !within(from) && got != from {
			t.Fatalf("%v is not trusted, and says that it is %v", from, got)
		}
		if got.IsValid() && got != from && !strings.Contains(first+","+second, ".") && !strings.Contains(first+","+second, ":") {
			t.Fatalf("%v came from nowhere", got)
		}
	})
}

// FuzzCursors asks every list of a user and of an operator for a page behind whatever somebody writes.
func FuzzCursors(f *testing.F) {
	for _, s := range []string{"", "!!", "MTIzIGhhbGw", "MTIzIGhhbGw=", "LTkyMjMzNzIwMzY4NTQ3NzU4MDggaGFsbA", "a\x00b", strings.Repeat("A", 300), "%zz", "u-1", "' OR 1=1 --", "\xff", "9223372036854775808", "-1", "1e3"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, cursor, limit string) {
		w := newWorld(t, nil)
		query := "?" + url.Values{"cursor": {cursor}, "after": {cursor}, "before": {cursor}, "limit": {limit}}.Encode()
		for _, a := range []answer{
			w.get("/rooms/mine"+query, bearer(adaToken)), w.get("/rooms/hall/messages"+query, bearer(adaToken)), w.get("/rooms/hall/members"+query, bearer(adaToken)),
			w.get("/rooms"+query, bearer(adaToken)), w.admin.get("/rooms" + query), w.admin.get("/rooms/hall/members" + query),
		} {
			if a.StatusCode >= 500 || a.StatusCode < 200 {
				t.Fatalf("%d for %q: %s", a.StatusCode, query, a.body)
			}
			w.object(a)
		}
	})
}
