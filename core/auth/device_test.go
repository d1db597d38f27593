package auth_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
)

func TestDeviceOf(t *testing.T) {
	t.Parallel()
	for agent, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                                                         "Firefox on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36":                                "Chrome on Windows",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36 Edg/138.0.0.0":                  "Edge on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15":                          "Safari on macOS",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36 OPR/122.0.0.0":            "Opera on macOS",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/138.0.7204.33 Mobile/15E148 Safari/604.1": "Chrome on iPhone",
		"Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1":                 "Safari on iPad",
		"Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36":      "Samsung Internet on Android",
		"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36":                                 "Chrome on ChromeOS",
		"Mozilla/5.0 (Windows NT 10.0) Trident/7.0; rv:11.0":                                                                                             "Internet Explorer on Windows",
		"Mozilla/5.0 (X11; Linux x86_64)": "A browser on Linux",
		"Mozilla/5.0 Firefox/140.0":       "Firefox",
		"Mozilla/5.0":                     "",
		"curl/8.14.1":                     "curl",
		"Go-http-client/1.1":              "Go-http-client",
		"okhttp/4.12.0 (something)":       "okhttp",
		"Parley_App 3":                    "Parley_App",
		"":                                "",
		"   ":                             "",
		"www.evil.example/1.0":            "",
		"<script>/1":                      "",
		"Firefox\r\nBcc: x@example.com":   "",
		"name\u202ewith turns":            "",
		strings.Repeat("x", 65) + "/1":    "",
		strings.Repeat("x", 64) + "/1":    strings.Repeat("x", 64),
		"Mozilla/5.0 (" + strings.Repeat("a", 1<<20) + " Linux": "",
	} {
		assert.Equal(t, want, auth.DeviceOf(agent), "%.100q", agent)
	}
}

func FuzzDeviceOf(f *testing.F) {
	f.Add("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	f.Add("curl/8.14.1")
	f.Add("www.evil.example/1.0\r\n")
	safe := regexp.MustCompile(`^([A-Za-z0-9_-]+( [A-Za-z0-9_-]+)*)?$`)
	f.Fuzz(func(t *testing.T, agent string) {
		got := auth.DeviceOf(agent)
		require.LessOrEqual(t, len(got), 64)
		require.Regexp(t, safe, got)
	})
}

func TestNetworkOf(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.77":                    "192.0.2.0/24",
		"::ffff:192.0.2.77":             "192.0.2.0/24",
		"2001:db8:1:2:3:4:5:6":          "2001:db8:1::/48",
		"fe80::1:2%eth0":                "fe80::/48",
		"::1":                           "::/48",
		"127.0.0.1":                     "127.0.0.0/24",
		"ada@example.com":               "",
		"":                              "",
		"192.0.2.77:5002":               "",
		"not an address":                "",
		"192.0.2.077":                   "",
		strings.Repeat("1", 1000) + ":": "",
	} {
		assert.Equal(t, want, auth.NetworkOf(address), address)
	}
}
