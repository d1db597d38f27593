package smtpmail_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/smtpmail"
	"github.com/parley-chat/parley/core/mail"
)

func pemOf(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func keys(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	long, err := rsa.GenerateKey(rand.Reader, smtpmail.MinRSABits)
	require.NoError(t, err)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return map[string]crypto.Signer{"rsa": long, "ed25519": edwards}
}

// relaxed brings a header into its relaxed form (RFC 6376 section 3.4.2), written anew here so that what signs is not what verifies.
func relaxed(field string) string {
	name, value, _ := strings.Cut(field, ":")
	value = regexp.MustCompile(`[ \t\r\n]+`).ReplaceAllString(value, " ")
	return strings.ToLower(strings.TrimSpace(name)) + ":" + strings.TrimSpace(value)
}

// verified returns what is wrong with the signature of a mail, whose key is in a record.
func verified(raw []byte, name, record string) error {
	head, body, ok := strings.Cut(string(raw), "\r\n\r\n")
	if !ok {
		return errors.New("no body")
	}
	fields := strings.Split(regexp.MustCompile(`\r\n([^ \t])`).ReplaceAllString(head, "\x00$1"), "\x00")
	at := slices.IndexFunc(fields, func(f string) bool { return strings.HasPrefix(strings.ToLower(f), "dkim-signature:") })
	if at < 0 {
		return errors.New("not signed")
	}
	signature, tags := fields[at], map[string]string{}
	for pair := range strings.SplitSeq(strings.SplitN(signature, ":", 2)[1], ";") {
		k, v, _ := strings.Cut(pair, "=")
		tags[strings.TrimSpace(k)] = regexp.MustCompile(`\s`).ReplaceAllString(v, "")
	}
	if want := tags["s"] + "._domainkey." + tags["d"]; want != name {
		return fmt.Errorf("the key is looked for at %s", want)
	}
	if tags["c"] != "relaxed/relaxed" {
		return errors.New("another form: " + tags["c"])
	}
	// Of the body (section 3.4.4): spaces become one, none ends a line, and no empty line ends it.
	body = regexp.MustCompile(`[ \t]+\r\n`).ReplaceAllString(regexp.MustCompile(`[ \t]+`).ReplaceAllString(body, " "), "\r\n")
	if body = strings.TrimRight(body, "\r\n"); body != "" {
		body += "\r\n"
	}
	if sum := sha256.Sum256([]byte(body)); base64.StdEncoding.EncodeToString(sum[:]) != tags["bh"] {
		return errors.New("another body")
	}
	var text strings.Builder
	left := slices.Delete(slices.Clone(fields), at, at+1)
	for wanted := range strings.SplitSeq(tags["h"], ":") { // each time the lowest that is left (section 5.4.2)
		for i, f := range slices.Backward(left) {
			if strings.EqualFold(strings.TrimSpace(strings.SplitN(f, ":", 2)[0]), wanted) {
				text.WriteString(relaxed(f) + "\r\n")
				left = slices.Delete(left, i, i+1)
				break
			}
		}
	}
	text.WriteString(relaxed(regexp.MustCompile(`([;\s]b=)[^;]*`).ReplaceAllString(signature, "$1")))
	sum := sha256.Sum256([]byte(text.String()))
	b, err := base64.StdEncoding.DecodeString(tags["b"])
	if err != nil {
		return err
	}
	_, encoded, _ := strings.Cut(record, "p=")
	public, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}
	if strings.Contains(record, "k=ed25519") {
		if tags["a"] != "ed25519-sha256" || !ed25519.Verify(public, sum[:], b) {
			return errors.New("another signature")
		}
		return nil
	}
	key, err := x509.ParsePKIXPublicKey(public)
	if err != nil {
		return err
	}
	if tags["a"] != "rsa-sha256" {
		return errors.New("another algorithm")
	}
	return rsa.VerifyPKCS1v15(key.(*rsa.PublicKey), crypto.SHA256, sum[:], b)
}

func TestMailsAreSigned(t *testing.T) {
	t.Parallel()
	for kind, key := range keys(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := serve(t, options{})
			cfg := s.config()
			key, err := smtpmail.ParseDKIMKey(pemOf(t, key))
			require.NoError(t, err)
			cfg.DKIM = &smtpmail.DKIM{Domain: "example.com", Selector: "s1", Key: key}
			name, record := cfg.DKIM.Record()
			sender := open(t, cfg)
			mails := []mail.Message{
				{ID: "1@example.com", From: "bot@example.com", To: "ada@example.org", Subject: "Plain", Text: "Good morning,\nAda"},
				{ID: "2@example.com", From: "bot@example.com", FromName: "Plauderstübchen, \"Köln\"", To: "ada@example.org", ToName: "Ada 👋", Subject: strings.Repeat("Grüße und mehr ", 20), Text: "Grüße  \n.\n\n\n", HTML: "<p>Grüße</p>\n" + strings.Repeat("x", 3000)},
				{ID: "3@example.com", From: "bot@example.com", To: "ada@example.org", Subject: "", HTML: "<p> </p>\n\n"},
			}
			for i, m := range mails {
				require.NoError(t, sender.Send(t.Context(), m))
				_, taken, _ := s.seen()
				raw := taken[i].raw
				require.NoError(t, verified(raw, name, record), "%s", raw)
				judged, err := dkim.VerifyWithOptions(bytes.NewReader(raw), &dkim.VerifyOptions{LookupTXT: func(at string) ([]string, error) {
					assert.Equal(t, name, at)
					return []string{record}, nil
				}})
				require.NoError(t, err)
				require.Len(t, judged, 1)
				require.NoError(t, judged[0].Err)
				assert.Equal(t, "example.com", judged[0].Domain)

				// What is changed or added on the way does not verify.
				for what, changed := range map[string][]byte{
					"body":           append(bytes.Clone(raw), "more\r\n"...),
					"a second From":  append([]byte("From: <eve@example.com>\r\n"), raw...),
					"a second To":    append([]byte("To: <eve@example.com>\r\n"), raw...),
					"a Reply-To":     append([]byte("Reply-To: <eve@example.com>\r\n"), raw...),
					"another type":   bytes.Replace(raw, []byte("Content-Type: "), []byte("Content-Type: x-"), 1),
					"another sender": bytes.Replace(raw, []byte("bot@example.com>"), []byte("eve@example.com>"), 1),
				} {
					require.NotEqual(t, raw, changed, what)
					assert.Error(t, verified(changed, name, record), what)
				}
			}
			other, otherRecord := smtpmail.DKIM{Domain: "example.com", Selector: "s1", Key: keys(t)[kind]}.Record()
			_, taken, _ := s.seen()
			require.Error(t, verified(taken[0].raw, other, otherRecord), "by the key of somebody else")
		})
	}
}

func TestWhatCannotSign(t *testing.T) {
	t.Parallel()
	short, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // it is refused
	require.NoError(t, err)
	weak := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(short)}))
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	good := string(pemOf(t, keys(t)["ed25519"]))
	for text, want := range map[string]string{
		"":        "no private key in PEM",
		"hunter2": "no private key in PEM",
		"-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n":                     "cannot be read",
		"-----BEGIN ENCRYPTED PRIVATE KEY-----\naHVudGVyMg==\n-----END ENCRYPTED PRIVATE KEY-----\n": "encrypted",
		"-----BEGIN CERTIFICATE-----\naHVudGVyMg==\n-----END CERTIFICATE-----\n":                     "another kind of PEM",
		weak:                    "has 1024 bits; RSA needs at least 2048",
		string(pemOf(t, curve)): "neither RSA nor Ed25519",
	} {
		_, err := smtpmail.ParseDKIMKey([]byte(text))
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "hunter2")
	}
	key, err := smtpmail.ParseDKIMKey([]byte(good))
	require.NoError(t, err)
	for _, d := range []smtpmail.DKIM{
		{}, {Selector: "s", Key: key}, {Domain: "example.com", Key: key}, {Domain: "example.com", Selector: "s"}, {Domain: "exämple.com", Selector: "s", Key: key},
		{Domain: "example..com", Selector: "s", Key: key}, {Domain: "example.com", Selector: "a b", Key: key}, {Domain: "example.com", Selector: "a;d=evil", Key: key},
	} {
		require.Error(t, d.Validate(), "%+v", d)
		_, err := smtpmail.New(smtpmail.Config{Host: "localhost", DKIM: &d})
		require.Error(t, err)
	}
}
