package webhook_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/adapters/webhook"
)

// FuzzCheckURL: what is let through is one that net/http can ask, over a way that is allowed; what is refused is not repeated.
func FuzzCheckURL(f *testing.F) {
	for _, s := range []string{
		"", "https://chat.example.com/screen", "http://127.0.0.1:1/", "https://u:hunter2@h/", "https://h/%zz?hunter2", "https://h/#f", "HTTPS://H", "https:///x", "https://h:99999999/", "https://[::1%25eth0]/", "https://h\r\nX: y/", "ftp://h", "//h", "https://h/%zz",
		"https://:443/", "https://h:port/", "https://h\x00/", "https://ünï.example/",
	} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, address string, private bool) {
		if err := webhook.CheckURL(address, private); err != nil {
			if strings.Contains(err.Error(), "hunter2") {
				t.Fatalf("%v repeats the address", err)
			}
			return
		}
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" && !private || u.User != nil || u.Hostname() == "" {
			t.Fatalf("%q is let through: %v", address, err)
		}
		if r, err := http.NewRequest(http.MethodPost, address, nil); err != nil || r.URL.Host == "" {
			t.Fatalf("%q is let through, and cannot be asked: %v", address, err)
		}
	})
}

// FuzzVerify gives headers and bodies that nobody has signed, and those of a request that was signed with one thing changed.
func FuzzVerify(f *testing.F) {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	signed := http.Header{}
	body := []byte(`{"type":"message"}`)
	if err := webhook.Sign(signed, []string{secret}, "msg_1", now, body); err != nil {
		f.Fatal(err)
	}
	good := signed.Get(webhook.HeaderSignature)
	f.Add("msg_1", signed.Get(webhook.HeaderTimestamp), good, body)
	f.Add("msg_1", signed.Get(webhook.HeaderTimestamp), "v1, v2,x "+good, body)
	f.Add("", "", "", []byte{})
	f.Add("msg_1", "-9223372036854775808", good, body)
	f.Add("msg_1", "9223372036854775807", "v1,"+strings.Repeat("A", 44), body)
	f.Add("msg_1.1", "772366400", good+"\n", body)
	f.Fuzz(func(t *testing.T, id, timestamp, signature string, sent []byte) {
		h := http.Header{}
		h.Set(webhook.HeaderID, id)
		h.Set(webhook.HeaderTimestamp, timestamp)
		h.Set(webhook.HeaderSignature, signature)
		if err := webhook.Verify([]string{secret}, h, sent, now); err != nil {
			return
		}
		if id != "msg_1" || timestamp != signed.Get(webhook.HeaderTimestamp) || string(sent) != string(body) {
			t.Fatalf("%q %q %q %q is taken for signed", id, timestamp, signature, sent)
		}
	})
}

// FuzzSecrets: what is refused is not repeated, and what is let through signs.
func FuzzSecrets(f *testing.F) {
	for _, s := range []string{"", "whsec_", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS\n", "whsec_====", "whsec_hunter2", "whsec_" + strings.Repeat("A", 400)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, secret string) {
		if err := webhook.CheckSecrets([]string{secret}); err != nil {
			if strings.Contains(err.Error(), "hunter2") {
				t.Fatalf("%v repeats the secret", err)
			}
			return
		}
		h, now := http.Header{}, time.Unix(1_700_000_000, 0)
		if err := webhook.Sign(h, []string{secret}, "id", now, nil); err != nil {
			t.Fatal(err)
		}
		if err := webhook.Verify([]string{secret}, h, nil, now); err != nil {
			t.Fatal(err)
		}
	})
}
