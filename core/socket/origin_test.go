package socket_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/socket"
)

func TestOriginsMatchWhatBrowsersSend(t *testing.T) {
	t.Parallel()
	for listed, sent := range map[string]struct{ allowed, refused string }{
		"https://chat.example.com":           {"https://chat.example.com", "http://chat.example.com https://chat.example.com:8443 https://example.com https://x.chat.example.com https://chat.example.com.evil.example null"},
		"https://chat.example.com/":          {"https://chat.example.com", ""},
		"HTTPS://Chat.Example.COM":           {"https://chat.example.com", ""},
		"https://chat.example.com:443":       {"https://chat.example.com", "http://chat.example.com:443"},
		"http://chat.example.com:80":         {"http://chat.example.com", "https://chat.example.com:80"},
		"https://chat.example.com:80":        {"https://chat.example.com:80", "https://chat.example.com"},
		"http://localhost:03000":             {"http://localhost:3000", "http://localhost http://localhost:30000"},
		"https://xn--cht-rla.example":        {"https://xn--cht-rla.example", "https://chat.example"},
		"https://my_host":                    {"https://my_host", ""},
		"https://example.com.":               {"https://example.com.", "https://example.com"},
		"http://127.0.0.1:5002":              {"http://127.0.0.1:5002", "http://127.0.0.1"},
		"http://[::1]:5002":                  {"http://[::1]:5002", "http://[::1] http://[::2]:5002"},
		"http://[0:0:0:0:0:0:0:1]:80":        {"http://[::1]", ""},
		"http://[2001:DB8::1]":               {"http://[2001:db8::1]", ""},
		"http://[::ffff:127.0.0.1]":          {"http://[::ffff:7f00:1]", "http://127.0.0.1"},
		"capacitor://localhost":              {"capacitor://localhost", "http://localhost https://localhost"},
		"chrome-extension://abcdefghijklmno": {"chrome-extension://abcdefghijklmno", ""},
		"https://*.example.com":              {"https://a.example.com https://a.b.example.com", "https://example.com https://evil-example.com https://a.example.com:8443 http://a.example.com https://a.example.com.evil.example https://.example.com https://*.example.com https://a.example.comx null"},
		"https://*.Example.com:443/":         {"https://a.example.com", "https://example.com"},
		"https://*.example.com:8443":         {"https://a.example.com:8443", "https://a.example.com https://example.com:8443"},
		"http://*.localhost:3000":            {"http://a.localhost:3000", "http://localhost:3000"},
		"*":                                  {"https://any.example http://localhost:1 null capacitor://localhost", ""},
	} {
		t.Run(listed, func(t *testing.T) {
			t.Parallel()
			o, err := socket.ParseOrigins([]string{listed})
			require.NoError(t, err)
			assert.Equal(t, listed == "*", o.Any())
			h, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: doorman{}, Origins: []string{listed}})
			require.NoError(t, err)
			check := func(origin string, want bool) {
				assert.Equal(t, want, o.Allows(origin), origin)
				r := httptest.NewRequest("GET", "https://socket.example.net/socket?ticket=good", nil)
				r.Header.Set("Origin", origin)
				_, err := h.Check(r)
				assert.Equal(t, want, err == nil, "%s: %v", origin, err)
			}
			for origin := range strings.FieldsSeq(sent.allowed) {
				check(origin, true)
			}
			for origin := range strings.FieldsSeq(sent.refused) {
				check(origin, false)
			}
		})
	}
	assert.False(t, socket.Origins{}.Allows("https://chat.example.com"), "the zero value allows nobody")
}

func TestOriginsThatNeverMatchAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "null", "chat.example.com", "//chat.example.com", "https://", "https:chat.example.com", "*.example.com", "https://*",
		"https://*.", "https://a.*.example.com", "https://*example.com", "https://**.example.com", "https://*.*.example.com",
		"https://chat.example.com/app", "https://chat.example.com?x", "https://chat.example.com?", "https://chat.example.com#x",
		"https://me@chat.example.com", "wss://chat.example.com", "ws://*.example.com", "https://chät.example", "https://*.chät.example",
		"https://a..example.com", "https://a b.example", "https://a%20b.example", "https://chat.example.com:0", "https://chat.example.com:65536",
		"https://chat.example.com:*", "http://127.1", "http://1.2.3.4.5", "http://0x7f", "http://*.127.0.0.1", "http://*.0.0.1", "http://[::1", "http://[fe80::1%25eth0]",
		"http://[*.example.com]", "capacitor://*.localhost", "https://a.example,https://b.example",
	} {
		assert.Error(t, socket.CheckOrigin(text), text)
		_, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: doorman{}, Origins: []string{text}})
		assert.ErrorContains(t, err, "Origins", text)
	}
	_, err := socket.ParseOrigins([]string{"null", "https://ok.example", "nonsense"})
	assert.ErrorContains(t, err, "null")
	assert.ErrorContains(t, err, "nonsense", "all of it at once")
}

func TestOwnOrigin(t *testing.T) {
	t.Parallel()
	h, err := socket.NewHandshake(socket.HandshakeConfig{Authenticator: doorman{}})
	require.NoError(t, err)
	for _, c := range []struct {
		host, origin string
		want         bool
	}{
		{"chat.example.com", "https://chat.example.com", true},
		{"chat.example.com", "http://chat.example.com", true},
		{"chat.example.com:443", "https://chat.example.com", true},
		{"CHAT.example.com:80", "http://chat.example.com", true},
		{"chat.example.com:443", "http://chat.example.com", false},
		{"chat.example.com:8443", "https://chat.example.com:8443", true},
		{"chat.example.com", "https://chat.example.com:8443", false},
		{"[::1]:5002", "http://[::1]:5002", true},
		{"chat.example.com", "https://example.com", false},
		{"chat.example.com", "null", false},
		{"", "null", false},
		{"*.example.com", "https://a.example.com", false},
	} {
		r := httptest.NewRequest("GET", "/socket?ticket=good", nil)
		r.Host = c.host
		r.Header.Set("Origin", c.origin)
		_, err := h.Check(r)
		assert.Equal(t, c.want, err == nil, "%+v: %v", c, err)
	}
}

func TestOriginOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://Chat.example.com:443/app/": "https://chat.example.com", "http://localhost:5002": "http://localhost:5002",
		"http://[::1]:80/x?y#z": "http://[::1]", "wss://chat.example.com": "", "chat.example.com": "", "https://chät.example": "", "https://": "",
	} {
		got, err := socket.OriginOf(text)
		assert.Equal(t, want, got, text)
		assert.Equal(t, want == "", err != nil, text)
	}
}
