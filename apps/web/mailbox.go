package web

import (
	"bytes"
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/problem"
)

// Mail is a mail of the development mailbox.
type Mail struct {
	ID      string    `json:"id"`
	To      string    `json:"to"`
	Subject string    `json:"subject"`
	Text    string    `json:"text"`
	HTML    string    `json:"html"`
	At      time.Time `json:"at"`
}

// maxShown is how many mails the page shows. The JSON has all of them.
const maxShown = 100

// errNoMail answers for a mail that is not there, or no longer.
var errNoMail = fault.New(fault.NotFound, "mail_not_found", "there is no such mail in the development mailbox")

const (
	mailboxPolicy = basePolicy + "; connect-src 'self'; frame-src 'self'"
	// A mail is a document by somebody else: no scripts, no requests, an origin of its own.
	// Its style has to be inline, as mails are. Links open in a new window.
	mailPolicy = "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; img-src data:; " +
		"style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)

func registerMailbox(mux *http.ServeMux, cfg Config, files fileSet, base string) error {
	page, err := files.parse("mail.html")
	if err != nil {
		return err
	}
	handle := func(path string, serve http.HandlerFunc) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			if cfg.MailboxFor != nil {
				if err := cfg.MailboxFor(r); err != nil {
					problem.Write(w, err)
					return
				}
			}
			serve(w, r)
		})
	}
	handle("/dev/mail", func(w http.ResponseWriter, _ *http.Request) {
		serveMailbox(w, page, mailboxPage{Product: cfg.Product, Assets: base}, cfg.DevMail())
	})
	handle("/dev/mail.json", func(w http.ResponseWriter, _ *http.Request) {
		all := cfg.DevMail()
		answer := make([]Mail, len(all)) // [] and not null when there is none
		for i, m := range all {
			m.At = m.At.UTC()
			answer[i] = m
		}
		body, err := json.Marshal(answer)
		if err != nil {
			problem.Write(w, err)
			return
		}
		write(w, mailboxPolicy, "application/json", body)
	})
	handle("/dev/mail/{id}/html", func(w http.ResponseWriter, r *http.Request) {
		for _, m := range cfg.DevMail() {
			if m.ID == r.PathValue("id") && m.HTML != "" {
				h := w.Header()
				secure(h, mailPolicy)
				h.Set("X-Frame-Options", "SAMEORIGIN")
				writeBody(w, "text/html; charset=utf-8", openOutside(m.HTML))
				return
			}
		}
		problem.Write(w, errNoMail)
	})
	return nil
}

// shownMail is a mail as the page shows it.
type shownMail struct {
	Mail
	Parts []part
	Frame string // the address of the HTML
}

// mailboxPage is what the page's template gets.
type mailboxPage struct {
	Product, Assets, Newest string
	Mails                   []shownMail
	Hidden                  int
}

func serveMailbox(w http.ResponseWriter, page *template.Template, data mailboxPage, all []Mail) {
	data.Newest, data.Hidden = newest(all), max(len(all)-maxShown, 0)
	for _, m := range all[:min(len(all), maxShown)] {
		m.At = m.At.UTC()
		data.Mails = append(data.Mails, shownMail{Mail: m, Parts: split(m.Text), Frame: "/dev/mail/" + url.PathEscape(m.ID) + "/html"})
	}
	var b bytes.Buffer
	if err := page.Execute(&b, data); err != nil {
		problem.Write(w, err)
		return
	}
	write(w, mailboxPolicy, "text/html; charset=utf-8", b.Bytes())
}

// newest recognises the first mail, as the page's script does: a mail that was sent twice
// has one ID and two times.
func newest(all []Mail) string {
	if len(all) == 0 {
		return ""
	}
	return all[0].ID + " " + strconv.FormatInt(all[0].At.UnixMilli(), 10)
}

func write(w http.ResponseWriter, policy, contentType string, body []byte) {
	secure(w.Header(), policy)
	writeBody(w, contentType, body)
}

func writeBody(w http.ResponseWriter, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", never)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the client may be gone
}

// part is a stretch of a mail's text: either a link or what stands between links.
type part struct{ Text, Link string }

var links = regexp.MustCompile(`https?://[^\s<>"']+`)

// split finds the links of a text. Punctuation behind a link belongs to the sentence.
func split(text string) []part {
	var parts []part
	done := 0
	for _, at := range links.FindAllStringIndex(text, -1) {
		link := strings.TrimRight(text[at[0]:at[1]], ".,;:!?)]}")
		if at[0] > done {
			parts = append(parts, part{Text: text[done:at[0]]})
		}
		parts = append(parts, part{Link: link})
		done = at[0] + len(link)
	}
	if done < len(text) {
		parts = append(parts, part{Text: text[done:]})
	}
	return parts
}

var head = regexp.MustCompile(`(?i)<head(\s[^>]*)?>`)

// openOutside makes the links of a mail open in a new window instead of inside the frame.
func openOutside(html string) []byte {
	const base = `<base target="_blank">`
	at := 0
	if m := head.FindStringIndex(html); m != nil {
		at = m[1]
	}
	return []byte(html[:at] + base + html[at:])
}
