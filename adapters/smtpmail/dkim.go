package smtpmail

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/parley-chat/parley/core/settings"
)

// MinRSABits is the shortest RSA key that may sign mails (RFC 8301 section 3.2 asks for this much).
const MinRSABits = 2048

// DKIM signs mails (RFC 6376, RFC 8463), so that who gets one can tell that it is from Domain and was not changed on its way: a TXT record
// of Domain has the public key. It signs with SHA-256, and with the relaxed form of headers and body, which servers on the way do not
// break. From, Sender, Reply-To, To, Cc, Subject, Date, Message-ID, the MIME headers, Auto-Submitted and List-Unsubscribe are signed, whether
// or not they are there: nobody can add one.
type DKIM struct {
	// Domain is what the mails are from, in ASCII: that of [mail.Message.From], one above it or one below it, or else DMARC (RFC 7489) does
	// not count the signature. Required.
	Domain string
	// Selector names the key among those of Domain, so that a key can take another's place: dot-separated labels of letters, digits
	// and '-'. Required.
	Selector string
	// Key is an ed25519.PrivateKey, or an *rsa.PrivateKey of at least [MinRSABits] bits. Not every server knows Ed25519. Required.
	Key crypto.Signer
}

// signed are the headers of a signature. One that stands here once more than in the mail cannot be added to it later.
var signed = []string{
	"From", "From", "Sender", "Reply-To", "To", "To", "Cc", "Subject", "Subject", "Date", "Date", "Message-ID", "Message-ID", "MIME-Version",
	"Content-Type", "Content-Type", "Content-Transfer-Encoding", "Auto-Submitted", "List-Unsubscribe", "List-Unsubscribe-Post",
}

// ParseDKIMKey reads a private key in PEM: PKCS #8, or PKCS #1 for RSA. The error repeats nothing of the key.
func ParseDKIMKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("smtpmail: it is no private key in PEM (-----BEGIN PRIVATE KEY-----)")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("smtpmail: the private key is encrypted")
	default:
		return nil, errors.New("smtpmail: it is another kind of PEM than a private key")
	}
	if err != nil {
		return nil, errors.New("smtpmail: the private key cannot be read")
	}
	signer, _ := key.(crypto.Signer)
	if why := badKey(signer); why != "" {
		return nil, errors.New("smtpmail: the private key " + why)
	}
	return signer, nil
}

// badKey says what is wrong with a key, or nothing.
func badKey(key crypto.Signer) string {
	switch k := key.(type) {
	case nil:
		return "is missing"
	case ed25519.PrivateKey:
		return ""
	case *rsa.PrivateKey:
		if n := k.N.BitLen(); n < MinRSABits {
			return fmt.Sprintf("has %d bits; RSA needs at least %d", n, MinRSABits)
		}
		return ""
	default:
		return "is neither RSA nor Ed25519"
	}
}

// isDomain reports whether s is dot-separated labels of letters, digits and '-'.
func isDomain(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "-") != label || strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return len(s) <= 253
}

// check refuses what cannot sign.
func (d DKIM) check(c *settings.Check) {
	c.Require("DKIM.Domain", d.Domain == "")
	c.Require("DKIM.Selector", d.Selector == "")
	if d.Domain != "" && !isDomain(d.Domain) {
		c.Refuse("DKIM.Domain", "is no domain")
	}
	if d.Selector != "" && !isDomain(d.Selector) {
		c.Refuse("DKIM.Selector", "is not made of letters, digits, '-' and dots")
	}
	if why := badKey(d.Key); why != "" {
		c.Refuse("DKIM.Key", "%s", why)
	}
}

// Validate returns what is wrong, all of it at once, or nil.
func (d DKIM) Validate() error {
	c := settings.Of("smtpmail")
	d.check(c)
	return c.Err()
}

// Record returns the TXT record that has to stand in the domain: its name, and its text (RFC 6376 section 3.6.1). d must be valid.
func (d DKIM) Record() (name, text string) {
	name = d.Selector + "._domainkey." + d.Domain
	switch k := d.Key.Public().(type) {
	case ed25519.PublicKey:
		return name, "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(k)
	default:
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			panic(err) // an RSA key can be written
		}
		return name, "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
	}
}

// sign returns a mail with its signature in front.
func (d DKIM) sign(data []byte) ([]byte, error) {
	var out bytes.Buffer
	out.Grow(len(data) + 1024)
	err := dkim.Sign(&out, bytes.NewReader(data), &dkim.SignOptions{
		Domain: d.Domain, Selector: d.Selector, Signer: d.Key, Hash: crypto.SHA256, HeaderKeys: signed,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
	})
	if err != nil {
		return nil, fmt.Errorf("the mail cannot be signed: %w", err)
	}
	return out.Bytes(), nil
}
