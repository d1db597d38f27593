package mail

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	htmltemplate "html/template"
	"maps"
	netmail "net/mail"
	"net/url"
	"regexp"
	"slices"
	"strings"
	texttemplate "text/template"
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
	// Language is what mails are written in: "en" or "de". Default "en".
	Language string
	// Subjects replaces the subject of some kinds; {product} in it is filled in.
	Subjects map[Kind]string
}

// Templates renders jobs to messages, in HTML and text. It may be used from many goroutines.
type Templates struct {
	cfg      TemplateConfig
	base     *url.URL
	domain   string // of the sender, for message IDs
	language language
	html     *htmltemplate.Template
	text     *texttemplate.Template
}

var (
	//go:embed templates/mail.html
	htmlSource string
	//go:embed templates/mail.txt
	textSource string
)

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
	l, known := languages[cfg.Language]
	if !known {
		c.Refuse("Language", "is none of %s", strings.Join(slices.Sorted(maps.Keys(languages)), ", "))
	}
	l.kinds = maps.Clone(l.kinds)
	for kind, subject := range cfg.Subjects {
		if _, known := languages["en"].kinds[kind]; !known {
			c.Refuse("Subjects", "has the unknown kind %q", kind)
			continue
		}
		if subject == "" || hasControl(subject) {
			c.Refuse("Subjects", "has an empty subject or one with a control character for %s", kind)
			continue
		}
		if own, ok := l.kinds[kind]; ok { // not in a language that is unknown
			own.subject = subject
			l.kinds[kind] = own
		}
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	t.cfg, t.language = cfg, l
	if t.html, err = htmltemplate.New("html").Parse(htmlSource); err != nil {
		return nil, fmt.Errorf("mail: HTML template: %w", err)
	}
	if t.text, err = texttemplate.New("text").Parse(textSource); err != nil {
		return nil, fmt.Errorf("mail: text template: %w", err)
	}
	return t, nil
}

// page is what the templates are executed with.
type page struct {
	Lang, Subject, Preview, Product, Heading, Greeting string
	Paragraphs                                         []string
	Link, Button, LinkHint, Footer                     string
}

// Render makes the message of a job. A kind without a template, or data that does not fit,
// is ErrUnrenderable, of kind Invalid: it can never succeed. The error holds no data.
func (t *Templates) Render(j Job) (Message, error) {
	said, known := t.language.kinds[j.Kind]
	if !known {
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
	link, at := t.linkAndTime(p)
	name := presentable(j.Name)
	asked := askedOf(p)
	fill := strings.NewReplacer("{product}", t.cfg.Product, "{name}", name, "{until}", at.UTC().Format(t.language.time),
		"{device}", t.deviceOf(p), "{code}", codeOf(p), "{asked}", asked.RequestedAt.UTC().Format(t.language.time), "{network}", asked.Network)
	content := page{
		Lang: t.cfg.Language, Product: t.cfg.Product,
		Subject: fill.Replace(said.subject), Heading: fill.Replace(said.heading),
		Greeting: t.language.anonymous, Link: link, Button: fill.Replace(said.button),
		LinkHint: t.language.linkHint, Footer: fill.Replace(said.footer),
	}
	if name != "" {
		content.Greeting = fill.Replace(t.language.greeting)
	}
	for _, paragraph := range said.paragraphs {
		content.Paragraphs = append(content.Paragraphs, fill.Replace(paragraph))
	}
	switch {
	case asked.RequestedAt.IsZero() || said.asked == "": // an older program asked for the mail, or it is of another kind
	case asked.Network == "":
		content.Paragraphs = append(content.Paragraphs, fill.Replace(said.asked))
	default:
		content.Paragraphs = append(content.Paragraphs, fill.Replace(said.askedFrom))
	}
	content.Preview = content.Paragraphs[0]
	var html, text bytes.Buffer
	if err := t.html.Execute(&html, content); err != nil {
		return Message{}, ErrUnrenderable.Detail("the HTML template failed").Because(err)
	}
	if err := t.text.Execute(&text, content); err != nil {
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
func (t *Templates) deviceOf(p payload) string {
	d, ok := p.(*DeviceSignedIn)
	if !ok {
		return ""
	}
	device, from := d.Device, ""
	if device == "" {
		device = t.language.anyDevice
	}
	if d.Network != "" {
		from = fmt.Sprintf(t.language.fromNetwork, d.Network)
	}
	return device + from
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
