package smtpmail_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/smtpmail"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	user := url.UserPassword(username, password).String()
	for text, want := range map[string]smtpmail.Config{
		"smtp://mail.example.com":                                    {Host: "mail.example.com"},
		" smtp://mail.example.com/ ":                                 {Host: "mail.example.com"},
		"smtp://" + user + "@smtp.sendgrid.net:587":                  {Host: "smtp.sendgrid.net", Port: 587, Username: username, Password: password},
		"smtp://" + user + "@mail.example.com:465?tls=implicit":      {Host: "mail.example.com", Port: 465, Username: username, Password: password, Security: smtpmail.Implicit},
		"smtp://mail.example.com:2525?tls=starttls&auth=login":       {Host: "mail.example.com", Port: 2525, Security: smtpmail.StartTLS, Auth: smtpmail.AuthLogin},
		"smtp://localhost:1025?tls=none":                             {Host: "localhost", Port: 1025, Security: smtpmail.None},
		"smtp://[::1]:25?tls=none&hello=chat.example.com":            {Host: "::1", Port: 25, Security: smtpmail.None, Hello: "chat.example.com"},
		"smtp://" + user + "@127.0.0.1?tls=none&plaintext-auth=true": {Host: "127.0.0.1", Security: smtpmail.None, Username: username, Password: password, AllowPlaintextAuth: true},
	} {
		got, err := smtpmail.ParseURL(text)
		require.NoError(t, err, text)
		assert.True(t, fmt.Sprintf("%#v", want) == fmt.Sprintf("%#v", got) && want.Password == got.Password, text)
		assert.Equal(t, want, got)
	}
}

func TestURLsThatAreRefused(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for text, says := range map[string]string{
		"":                            "smtp://",
		"https://mail.example.com":    "smtp://",
		"mail.example.com:25":         "smtp",
		"smtp:mail.example.com":       "host is missing",
		"smtp://":                     "host is missing",
		"smtp://:25":                  "host is missing",
		"smtp://user:" + secret + "@": "host is missing",
		"smtp://user:" + secret + "/x@mail.example.com:25":                         "percent-encoded",
		"smtp://user:" + secret + "#x@mail.example.com:25":                         "percent-encoded",
		"smtp://user:1#" + secret + "@mail.example.com:25":                         "percent-encoded",
		"smtp://user:1/" + secret + "@mail.example.com:25":                         "percent-encoded",
		"smtp://user:1?" + secret + "@mail.example.com:25":                         "percent-encoded",
		"smtp://user:1?tls=" + secret + "@mail.example.com:25":                     "tls is none of",
		"smtp://user:" + secret + "%zz@mail.example.com:25":                        "percent-encoded",
		"smtp://user:%zz" + secret + "@mail.example.com:25":                        "percent-encoded",
		"smtp://user:" + secret + "\n@mail.example.com:25":                         "percent-encoded",
		"smtp://" + secret + "@mail.example.com":                                   "both",
		"smtp://:" + secret + "@mail.example.com":                                  "both",
		"smtp://user:" + secret + "@mail.example.com:0":                            "port",
		"smtp://user:" + secret + "@mail.example.com:65536":                        "port",
		"smtp://user:" + secret + "@mail.example.com:smtp":                         "cannot be read",
		"smtp://user:" + secret + "@mail.example.com?tls=ssl":                      "tls is none of",
		"smtp://user:" + secret + "@mail.example.com?tls=":                         "tls is none of",
		"smtp://user:" + secret + "@mail.example.com?tls=none&tls=x":               "twice",
		"smtp://user:" + secret + "@mail.example.com?auth=cram-md5":                "auth is none of",
		"smtp://user:" + secret + "@mail.example.com?starttls=1":                   "a parameter is none of",
		"smtp://user:" + secret + "@mail.example.com?a;b":                          "parameters",
		"smtp://user:" + secret + "@mail.example.com?hello=a%20b":                  "Hello",
		"smtp://user:" + secret + "@mail.example.com?tls=none":                     "never sent without TLS",
		"smtp://user:" + secret + "@localhost?tls=none":                            "plaintext-auth",
		"smtp://user:" + secret + "@localhost?plaintext-auth=yes":                  "neither true nor false",
		"smtp://user:" + secret + "@mail.example.com?tls=none&plaintext-auth=true": "never sent without TLS",
		"smtp://user:" + secret + "%00@mail.example.com":                           "zero byte",
	} {
		cfg, err := smtpmail.ParseURL(text)
		require.Error(t, err, text)
		assert.ErrorContains(t, err, says, text)
		assert.NotContains(t, err.Error(), secret)
		assert.NotContains(t, err.Error(), "\n")
		assert.Zero(t, cfg.Host)
	}
}

func TestConfigurationIsCheckedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := smtpmail.New(smtpmail.Config{
		Port: -1, Security: "ssl", Auth: "ntlm", Password: password, Hello: "a b", Connections: -1, Timeout: -time.Second, IdleTimeout: -time.Second,
	})
	for _, part := range []string{"Host", "Port", "Security", "Auth", "Username", "Hello", "Connections", "Timeout is negative", "IdleTimeout"} {
		assert.ErrorContains(t, err, part)
	}
	assert.NotContains(t, err.Error(), password)
	_, err = smtpmail.New(smtpmail.Config{Host: "mail.example.com\r\nx"})
	assert.ErrorContains(t, err, "Host")
}

func TestConfigurationHidesThePassword(t *testing.T) {
	t.Parallel()
	cfg := smtpmail.Config{Host: "mail.example.com", Port: 587, Username: username, Password: password, TLS: &tls.Config{}}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("started", "mail", cfg)
	slog.New(slog.NewTextHandler(&log, nil)).Info("started", "mail", &cfg)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		fmt.Fprintf(&log, verb, cfg)
		fmt.Fprintf(&log, verb, &cfg)
	}
	assert.NotContains(t, log.String(), password)
	assert.NotContains(t, log.String(), strings.Trim(fmt.Sprintf("%q", password), `"`))
	assert.Contains(t, log.String(), "mail.example.com:587")
}

// TestAShortPasswordHidesNothingElse: a password that is a letter leaves the words of an error as they are.
func TestAShortPasswordHidesNothingElse(t *testing.T) {
	t.Parallel()
	const address = "127.0.0.1:1" // nobody is given this port, as one that was closed may be
	cfg, err := smtpmail.ParseURL("smtp://u:p@" + address + "?tls=none&plaintext-auth=true")
	require.NoError(t, err)
	s, err := smtpmail.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	err = s.Ping(t.Context())
	assert.ErrorContains(t, err, "tcp "+address)
	assert.NotContains(t, err.Error(), "hidden")
}
