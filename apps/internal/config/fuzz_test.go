package config_test

import (
	"io"
	"strings"
	"testing"

	"github.com/parley-chat/parley/apps/internal/config"
)

// FuzzAddresses starts with whatever stands in the settings that are addresses: they are refused or read, and what was a password in
// them is not repeated.
func FuzzAddresses(f *testing.F) {
	const secret = "hunter2hunter2"
	for i, s := range []string{
		"", "memory:", "sqlite:", "postgres://u:" + secret + "@h:5432/db?sslmode=disable", "mysql://u:" + secret + "@h/db", "mongodb://u:" + secret + "@a,b:1/db", "redis://:" + secret + "@h:6379/0", "kafka://h", "kafka://u:" + secret + "@h:99999",
		"postgres://u:" + secret + "/" + secret + "@h/db", "smtp://u:" + secret + "@h", "://", "https://*.example.com", "file:///etc/passwd", "mongodb+srv://u:" + secret + "@h", "postgres://%zz", "sqlite://\x00", "memory:?a=b", "kafka://u:p@h?mechanism=x",
	} {
		f.Add(byte(i), s)
		f.Add(byte(0), s)
	}
	names := []string{"STORE", "BUS", "REDIS", "MAIL_SENDER", "SCREEN_URL", "WEBHOOK_URL", "PUBLIC_URL", "ORIGINS", "TRUSTED_PROXIES", "LISTEN"}
	f.Fuzz(func(t *testing.T, which byte, value string) {
		if strings.ContainsRune(value, 0) {
			return // no environment holds it
		}
		name := "PARLEY_" + names[int(which)%len(names)]
		_, _, err := config.Load(config.Parley, []string{"--data", "unused", "--docs-password", "x"}, []string{name + "=" + value}, io.Discard)
		if err != nil && strings.Contains(value, "://u:"+secret+"@") && strings.Contains(err.Error(), secret) {
			t.Fatalf("%s=%q is refused with the password: %v", name, value, err)
		}
	})
}

// A password in any setting that is an address is not repeated when that is refused, whichever setting it is.
func TestAddressesAreRefusedWithoutTheirPasswords(t *testing.T) {
	const secret = "hunter2hunter2"
	for _, name := range []string{"STORE", "BUS", "REDIS", "MAIL_SENDER", "SCREEN_URL", "WEBHOOK_URL", "PUBLIC_URL", "ORIGINS", "TRUSTED_PROXIES", "SOCKET_URL", "LISTEN", "JWKS_URL", "OIDC_ISSUER", "TRACES", "RENEW_URL", "LEAKED_PASSWORDS_URL"} {
		for _, scheme := range []string{"https", "gopher"} {
			_, _, err := config.Load(config.Parley, []string{"--data", t.TempDir()}, []string{"PARLEY_" + name + "=" + scheme + "://u:" + secret + "@h:99999"}, io.Discard)
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("PARLEY_%s: %v", name, err)
			}
		}
	}
}
