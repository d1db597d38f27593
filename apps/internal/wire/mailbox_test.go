package wire

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/parley-chat/parley/core/fault"
)

// http10 stands among the headers of a request in HTTP/1.0.
const http10 = "HTTP/1.0"

func TestWhoMayReadTheDevelopmentMailbox(t *testing.T) {
	t.Parallel()
	type header map[string]string
	for name, c := range map[string]struct {
		peer, host string
		header     header
		proxies    string
		want       bool
	}{
		"localhost":                              {"127.0.0.1:40000", "localhost:5002", nil, "", true},
		"another loopback address":               {"127.0.0.1:40000", "127.8.9.10", nil, "", true},
		"capitals":                               {"127.0.0.1:40000", "LocalHost:5002", nil, "", true},
		"IPv6":                                   {"[::1]:40000", "[::1]:5002", nil, "", true},
		"IPv6 without port":                      {"[::1]:40000", "[::1]", nil, "", true},
		"IPv4 in IPv6":                           {"[::ffff:127.0.0.1]:40000", "127.0.0.1:5002", nil, "", true},
		"the network":                            {"192.0.2.7:40000", "192.0.2.1:5002", nil, "", false},
		"the network, by a loopback name":        {"192.0.2.7:40000", "localhost:5002", nil, "", false},
		"a rebound name":                         {"127.0.0.1:40000", "evil.example:5002", nil, "", false},
		"a name that looks alike":                {"127.0.0.1:40000", "localhost.evil.example:5002", nil, "", false},
		"a name that begins like one":            {"127.0.0.1:40000", "127.0.0.1.evil.example", nil, "", false},
		"below localhost":                        {"127.0.0.1:40000", "a.localhost:5002", nil, "", false},
		"an address of all":                      {"127.0.0.1:40000", "0.0.0.0:5002", nil, "", false},
		"no name":                                {"127.0.0.1:40000", "", nil, "", false},
		"no address":                             {"@", "localhost", nil, "", false},
		"a proxy that nobody named":              {"127.0.0.1:40000", "localhost:5002", header{"X-Forwarded-For": "127.0.0.1"}, "", false},
		"another kind of proxy":                  {"127.0.0.1:40000", "localhost:5002", header{"Forwarded": "for=127.0.0.1"}, "", false},
		"a third kind of proxy":                  {"127.0.0.1:40000", "localhost:5002", header{"X-Real-IP": "127.0.0.1"}, "", false},
		"a proxy that names itself":              {"127.0.0.1:40000", "localhost:5002", header{"Via": "1.1 cache"}, "", false},
		"a proxy that says the scheme":           {"127.0.0.1:40000", "localhost:5002", header{"X-Forwarded-Proto": "https"}, "", false},
		"a proxy as nginx is by itself":          {"127.0.0.1:40000", "localhost:5002", header{http10: "yes"}, "", false},
		"the same, trusted":                      {"127.0.0.1:40000", "localhost:5002", header{http10: "yes"}, "127.0.0.0/8", false},
		"the same, and it says for whom":         {"127.0.0.1:40000", "localhost:5002", header{http10: "yes", "X-Forwarded-For": "127.0.0.1"}, "127.0.0.0/8", true},
		"a trusted proxy for this machine":       {"10.0.0.1:40000", "localhost:8080", header{"X-Forwarded-For": "127.0.0.1"}, "10.0.0.0/8", true},
		"a trusted proxy for somebody":           {"10.0.0.1:40000", "localhost:8080", header{"X-Forwarded-For": "192.0.2.7"}, "10.0.0.0/8", false},
		"a trusted proxy on this machine":        {"127.0.0.1:40000", "localhost:8080", header{"X-Forwarded-For": "192.0.2.7"}, "127.0.0.0/8", false},
		"a trusted proxy and a lie":              {"127.0.0.1:40000", "localhost:8080", header{"X-Forwarded-For": "127.0.0.1, 192.0.2.7"}, "127.0.0.0/8", false},
		"a trusted proxy for a public name":      {"127.0.0.1:40000", "chat.example.com", header{"X-Forwarded-For": "127.0.0.1"}, "127.0.0.0/8", false},
		"a trusted proxy that says nothing":      {"10.0.0.1:40000", "localhost:8080", nil, "10.0.0.0/8", false},
		"a trusted proxy that says it otherwise": {"127.0.0.1:40000", "localhost:8080", header{"Forwarded": "for=192.0.2.7"}, "127.0.0.0/8", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/dev/mail", nil)
			r.RemoteAddr, r.Host = c.peer, c.host
			for k, v := range c.header {
				if k == http10 {
					r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.0", 1, 0
					continue
				}
				r.Header.Set(k, v)
			}
			var proxies []netip.Prefix
			if c.proxies != "" {
				proxies = append(proxies, netip.MustParsePrefix(c.proxies))
			}
			err := fromThisMachine(r, proxies)
			assert.Equal(t, c.want, err == nil, "%v", err)
			if err != nil {
				assert.ErrorIs(t, err, fault.Forbidden)
			}
		})
	}
}
