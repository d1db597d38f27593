package config

import (
	"crypto/ed25519"
	"errors"
	"net/url"
	"strings"

	"github.com/parley-chat/parley/adapters/smtpmail"
)

// SMTP returns what sends mails. MailSender must be the URL of a server, and s must have been checked.
func (s *Settings) SMTP() (smtpmail.Config, error) {
	cfg, err := smtpmail.ParseURL(s.MailSender)
	if err == nil {
		cfg.DKIM, err = s.DKIM()
	}
	return cfg, err
}

// DKIM returns what signs mails, or nil where nothing does.
func (s *Settings) DKIM() (*smtpmail.DKIM, error) {
	if s.MailDKIMKey == "" {
		return nil, nil
	}
	key, err := smtpmail.ParseDKIMKey([]byte(s.MailDKIMKey))
	if err != nil {
		return nil, err
	}
	d := &smtpmail.DKIM{Domain: strings.ToLower(s.MailDKIMDomain), Selector: s.MailDKIMSelector, Key: key}
	if from := s.mailDomain(); d.Domain == "" {
		d.Domain = from
	}
	if !strings.Contains(d.Domain, ".") {
		return nil, errors.New("the mails are from no domain that has a record: give mail-from, or mail-dkim-domain")
	}
	return d, d.Validate()
}

// mailDomain returns the domain of the sender of mails, in lower case; empty where it is made of nothing.
func (s *Settings) mailDomain() string {
	if i := strings.LastIndexByte(s.MailFrom, '@'); i >= 0 {
		return strings.ToLower(s.MailFrom[i+1:])
	}
	u, err := url.Parse(s.PublicURL)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// checkDKIM refuses what signs nothing, and a domain whose signature counts for nothing.
func (s *Settings) checkDKIM(bad func(key, format string, args ...any) error) error {
	if !s.Program.knows("MailDKIMKey") {
		return nil
	}
	probe := smtpmail.DKIM{Domain: "example.com", Selector: s.MailDKIMSelector, Key: make(ed25519.PrivateKey, ed25519.PrivateKeySize)}
	if err := probe.Validate(); err != nil {
		return bad("mail-dkim-selector", "%q is not made of letters, digits, '-' and dots", s.MailDKIMSelector)
	}
	if s.MailDKIMKey == "" {
		if s.MailDKIMDomain != "" {
			return bad("mail-dkim-domain", "needs mail-dkim-key")
		}
		return nil
	}
	if _, err := smtpmail.ParseDKIMKey([]byte(s.MailDKIMKey)); err != nil {
		return bad("mail-dkim-key", "%v", err)
	}
	d, err := s.DKIM()
	if err != nil {
		return bad("mail-dkim-domain", "%v", err)
	}
	if from := s.mailDomain(); from != d.Domain && !strings.HasSuffix(from, "."+d.Domain) && !strings.HasSuffix(d.Domain, "."+from) {
		return bad("mail-dkim-domain", "mails are from %s, and who gets them would not count a signature of %s (DMARC)", from, d.Domain)
	}
	return nil
}
