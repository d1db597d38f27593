package mail

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	netmail "net/mail"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/user"
)

// ErrUnrenderable says that no message can be made of a job, ever.
var ErrUnrenderable = fault.New(fault.Invalid, "mail_unrenderable", "the mail cannot be made")

// TemplateConfig says what mails look like.
type TemplateConfig struct {
	// Product is the name that mails speak for. Default "Parley".
	Product string
	// PublicURL is the base of links, for example "https://chat.example.com", an international host
	// in its ASCII form (RFC 5891). Required.
	PublicURL string
	// FromName and From are the sender, an international domain in its ASCII form. Defaults Product and
	// "no-reply@" with the host of PublicURL, or with localhost where that is an IPv6 address.
	FromName, From string
	// Files take the place of our templates, one by one: LANGUAGE.json says what mails say in a language, and may be a language that we have
	// not; mail.html and mail.txt say what all mails look like, in html/template and text/template, and KIND.html and KIND.txt what one looks like. Default: none.
	Files fs.FS
	// Language is what mails are written in to whom no other language is known of: "en", "de", or one of Files. Default "en".
	Language string
	// Subjects replaces the subject of some kinds in Language; {product} in it is filled in.
	Subjects map[Kind]string
}

// Templates renders jobs to messages, in HTML and text. It may be used from many goroutines.
type Templates struct {
	cfg       TemplateConfig
	base      *url.URL
	domain    string // of the sender, for message IDs
	languages map[string]language
	layouts
}

// NewTemplates checks the configuration, all of it at once.
func NewTemplates(cfg TemplateConfig) (*Templates, error) {
	c := settings.Of("mail: TemplateConfig")
	if cfg.Product == "" {
		cfg.Product = "Parley"
	}
	if cfg.FromName == "" {
		cfg.FromName = cfg.Product
	}
	if cfg.Language == "" {
		cfg.Language = "en"
	}
	t := &Templates{}
	base, err := url.Parse(cfg.PublicURL)
	switch {
	case cfg.PublicURL == "":
		c.Require("PublicURL", true)
	case err != nil, base.Scheme != "http" && base.Scheme != "https", base.Hostname() == "",
		base.User != nil, base.RawQuery != "", base.Fragment != "":
		c.Refuse("PublicURL", "is not the http or https address of a place")
	case !isASCII(base.Host):
		c.Refuse("PublicURL", "is not ASCII: links need the A-labels (xn--…) of its host")
	default:
		t.base = base
		if cfg.From == "" {
			cfg.From = "no-reply@" + base.Hostname()
			if strings.Contains(base.Hostname(), ":") {
				cfg.From = "no-reply@localhost" // an IPv6 address is no domain
			}
			if _, err := user.ParseEmail(cfg.From); err != nil {
				c.Refuse("From", "is missing, and %s, made of the host of PublicURL, is not an e-mail address", cfg.From)
				cfg.From = ""
			}
		}
	}
	if cfg.From != "" {
		from, err := netmail.ParseAddress(cfg.From)
		switch domain := cfg.From[strings.LastIndexByte(cfg.From, '@')+1:]; {
		case err != nil || from.Address != cfg.From || hasControl(cfg.From):
			c.Refuse("From", "is not an e-mail address without a name")
		case !isASCII(domain):
			c.Refuse("From", "is not ASCII: a Message-ID needs the A-labels (xn--…) of its domain")
		default:
			t.domain = domain
		}
	}
	for _, line := range []struct{ name, value string }{{"Product", cfg.Product}, {"FromName", cfg.FromName}} {
		if hasControl(line.value) {
			c.Refuse(line.name, "has a control character")
		}
	}
	languages, err := readLanguages(own(), nil)
	if err != nil {
		return nil, fmt.Errorf("mail: our templates: %w", err)
	}
	if t.layouts, err = readLayouts(own(), layouts{}, kindsOf(languages)); err != nil {
		return nil, fmt.Errorf("mail: our templates: %w", err)
	}
	if cfg.Files != nil {
		if err := checkNames(cfg.Files, kindsOf(languages)); err != nil {
			c.Refuse("Files", "have what nothing reads: %s", onOneLine(err))
		}
		if languages, err = readLanguages(cfg.Files, languages); err != nil {
			c.Refuse("Files", "have a mistake: %s", onOneLine(err))
		}
		if t.layouts, err = readLayouts(cfg.Files, t.layouts, kindsOf(languages)); err != nil {
			c.Refuse("Files", "have a mistake: %s", onOneLine(err))
		}
	}
	l, known := languages[cfg.Language]
	if !known {
		c.Refuse("Language", "is none of %s", strings.Join(slices.Sorted(maps.Keys(languages)), ", "))
	}
	l.Mails = maps.Clone(l.Mails)
	for kind, subject := range cfg.Subjects {
		if _, known := languages["en"].Mails[kind]; !known {
			c.Refuse("Subjects", "has the unknown kind %q", kind)
			continue
		}
		if subject == "" || hasControl(subject) {
			c.Refuse("Subjects", "has an empty subject or one with a control character for %s", kind)
			continue
		}
		if said, ok := l.Mails[kind]; ok { // not in a language that is unknown
			said.Subject = subject
			l.Mails[kind] = said
		}
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	languages[cfg.Language] = l
	t.cfg, t.languages = cfg, languages
	if err := t.tryAll(); err != nil {
		c.Refuse("Files", "have a mistake: %s", onOneLine(err))
	}
	return t, c.Err()
}

// page is what the templates are executed with.
type page struct {
	// Lang is the tag of the language, and Preview the first paragraph.
	Lang, Subject, Preview, Product, Heading, Greeting string
	Paragraphs                                         []string
	// Code is to be typed in, in the one mail that has it; it is in a paragraph of it, too.
	Link, Button, LinkHint, Footer, Code string
}

// Render makes the message of a job. A kind without a template, or data that does not fit,
// is ErrUnrenderable, of kind Invalid: it can never succeed. The error holds no data.
func (t *Templates) Render(j Job) (Message, error) {
	if _, known := t.languages["en"].Mails[j.Kind]; !known {
		return Message{}, ErrUnrenderable.Detail("there is no mail of kind %q", j.Kind)
	}
	if j.ID == "" {
		return Message{}, ErrUnrenderable.Detail("the job has no id")
	}
	to, err := user.ParseEmail(string(j.To))
	if err != nil {
		return Message{}, ErrUnrenderable.Detail("the address is not valid")
	}
	p, err := decode(j.Kind, j.Data)
	if err != nil {
		return Message{}, ErrUnrenderable.Detail("%v", err)
	}
	tag, l := find(t.languages, p.language(), t.cfg.Language)
	said := l.Mails[j.Kind]
	link, at := t.linkAndTime(p)
	name := presentable(j.Name)
	asked := askedOf(p)
	fill := strings.NewReplacer("{product}", t.cfg.Product, "{name}", name, "{until}", at.UTC().Format(l.Time),
		"{device}", l.deviceOf(p), "{change}", l.changeOf(p), "{code}", codeOf(p), "{asked}", asked.RequestedAt.UTC().Format(l.Time), "{network}", asked.Network)
	content := page{
		Lang: tag, Product: t.cfg.Product, Code: codeOf(p),
		Subject: fill.Replace(said.Subject), Heading: fill.Replace(said.Heading),
		Greeting: l.Anonymous, Link: link, Button: fill.Replace(said.Button),
		LinkHint: l.LinkHint, Footer: fill.Replace(said.Footer),
	}
	if name != "" {
		content.Greeting = fill.Replace(l.Greeting)
	}
	for _, paragraph := range said.Paragraphs {
		content.Paragraphs = append(content.Paragraphs, fill.Replace(paragraph))
	}
	switch {
	case asked.RequestedAt.IsZero() || said.Asked == "": // an older program asked for the mail, or it is of another kind
	case asked.Network == "":
		content.Paragraphs = append(content.Paragraphs, fill.Replace(said.Asked))
	default:
		content.Paragraphs = append(content.Paragraphs, fill.Replace(said.AskedFrom))
	}
	content.Preview = content.Paragraphs[0]
	var html, text bytes.Buffer
	if err := t.html[j.Kind].Execute(&html, content); err != nil {
		return Message{}, ErrUnrenderable.Detail("the HTML template failed").Because(err)
	}
	if err := t.text[j.Kind].Execute(&text, content); err != nil {
		return Message{}, ErrUnrenderable.Detail("the text template failed").Because(err)
	}
	return Message{
		ID:       messageID(j.ID, t.domain),
		FromName: t.cfg.FromName, From: t.cfg.From, ToName: name, To: string(to),
		Subject: content.Subject, Text: text.String(), HTML: html.String(),
	}, nil
}

// linkAndTime returns where the mail's button leads and the time that it tells.
func (t *Templates) linkAndTime(p payload) (string, time.Time) {
	switch p := p.(type) {
	case *UserCreated:
		return t.link("auth/verify", p.VerificationCode), p.ExpiresAt
	case *PasswordForgotten:
		return t.link("auth/password/reset", p.ResetCode), p.ExpiresAt
	case *UserInvited:
		return t.link("auth/password/reset", p.ResetCode), p.ExpiresAt
	case *EmailChangeRequested:
		return t.link("", ""), p.ExpiresAt
	case *LinkRequested:
		return t.link("auth/link", p.LinkCode), p.ExpiresAt
	case *PasswordChanged:
		return t.link("", ""), p.At
	case *EmailChanged:
		return t.link("", ""), p.At
	case *DeviceSignedIn:
		return t.link("", ""), p.At
	case *FactorChanged:
		return t.link("", ""), p.At
	default:
		return t.link("", ""), time.Time{}
	}
}

// codeOf returns the code that the mail shows as text, if it does.
func codeOf(p payload) string {
	if d, ok := p.(*EmailChangeRequested); ok {
		return d.ChangeCode
	}
	return ""
}

// askedOf returns when and from where the sign-up was that the mail is about, if it is about one.
func askedOf(p payload) Asked {
	switch p := p.(type) {
	case *UserCreated:
		return p.Asked
	case *AddressTaken:
		return p.Asked
	default:
		return Asked{}
	}
}

// deviceOf says which device the mail is about, and from where it came; empty if it is about none.
func (l language) deviceOf(p payload) string {
	d, ok := p.(*DeviceSignedIn)
	if !ok {
		return ""
	}
	device, from := d.Device, ""
	if device == "" {
		device = l.AnyDevice
	}
	if d.Network != "" {
		from = strings.ReplaceAll(l.FromNetwork, "{network}", d.Network)
	}
	return device + from
}

// changeOf says what has become of the second factor that the mail is about; empty if it is about none.
func (l language) changeOf(p payload) string {
	d, ok := p.(*FactorChanged)
	if !ok {
		return ""
	}
	return l.FactorChanges[d.Change]
}

func (t *Templates) link(path, code string) string {
	u := t.base.JoinPath("/" + path)
	if code != "" {
		u.RawQuery = url.Values{"code": {code}}.Encode()
	}
	return u.String()
}

// address finds what a mail program would turn into a link.
var address = regexp.MustCompile(`(?i)[@/\\]|www\.|[\pL\pN_-]{2,}\.[\pL\pN]{2,}`)

// presentable returns a name that may stand in a mail, or nothing. Whoever signs up somebody
// else's address chooses the name in the mail: it must not become an advertisement with a link.
func presentable(name string) string {
	clean, err := user.ParseFullName(name)
	if err != nil || address.MatchString(clean) {
		return ""
	}
	return clean
}

// plainID is a job ID that can stand in a message ID as it is (RFC 5322 section 3.2.3).
var plainID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// messageID comes from the job alone, so that a mail that was sent twice has it twice.
func messageID(job, domain string) string {
	if !plainID.MatchString(job) {
		sum := sha256.Sum256([]byte(job))
		job = hex.EncodeToString(sum[:16])
	}
	return job + "@" + domain
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}

func hasControl(s string) bool { return strings.ContainsFunc(s, unicode.IsControl) }
