package mail

import (
	"encoding/json"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	texttemplate "text/template"
	"text/template/parse"
	"time"

	"github.com/parley-chat/parley/core/fault"
)

// layout names the templates of all mails that have none of their own.
const layout = "mail"

// layouts are what mails look like, by kind.
type layouts struct {
	html map[Kind]*htmltemplate.Template
	text map[Kind]*texttemplate.Template
}

// readLayouts reads the templates of a folder upon those of base.
func readLayouts(files fs.FS, base layouts, kinds []Kind) (layouts, error) {
	out := layouts{html: maps.Clone(base.html), text: maps.Clone(base.text)}
	if out.html == nil {
		out = layouts{html: map[Kind]*htmltemplate.Template{}, text: map[Kind]*texttemplate.Template{}}
	}
	var wrong []error
	// That of all mails comes first, so that those of one take its place.
	for _, base := range append([]Kind{layout}, kinds...) {
		of := []Kind{base}
		if base == layout {
			of = kinds
		}
		if name, text, ok := readTemplate(files, string(base)+".html", &wrong); ok {
			t, err := htmltemplate.New(name).Option("missingkey=error").Parse(text)
			if err != nil {
				wrong = append(wrong, inTemplate(err))
			}
			for _, kind := range of {
				out.html[kind] = t
			}
		}
		if name, text, ok := readTemplate(files, string(base)+".txt", &wrong); ok {
			t, err := texttemplate.New(name).Option("missingkey=error").Parse(text)
			if err != nil {
				wrong = append(wrong, inTemplate(err))
			}
			for _, kind := range of {
				out.text[kind] = t
			}
		}
	}
	return out, errors.Join(wrong...)
}

// readTemplate reads a file if it is there.
func readTemplate(files fs.FS, name string, wrong *[]error) (_, text string, ok bool) {
	data, err := fs.ReadFile(files, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return name, "", false
	case err != nil:
		*wrong = append(*wrong, mistake{name, 0, reason(err)})
		return name, "", false
	}
	return name, string(data), true
}

// templateError is what the template packages say, which begins with the name and the line.
var templateError = regexp.MustCompile(`(?s)^(?:html/)?template: ?([^:]+):(\d+)(?::\d+)?: (.*)$`)

// location is the place of a node of a template.
var location = regexp.MustCompile(`:(\d+):\d+$`)

// inTemplate makes a mistake of the error of a template.
func inTemplate(err error) error {
	if m := templateError.FindStringSubmatch(err.Error()); m != nil {
		if line, e := strconv.Atoi(m[2]); e == nil {
			return mistake{m[1], line, m[3]}
		}
	}
	return err
}

// whereIn says where in a template a rendering failed.
func whereIn(err error) error {
	var run texttemplate.ExecError
	var escape *htmltemplate.Error
	switch {
	case errors.As(err, &escape):
		at := mistake{escape.Name, escape.Line, escape.Description}
		if escape.Node != nil && at.line == 0 {
			where, _ := new(parse.Tree).ErrorContext(escape.Node) // name:line:byte
			if m := location.FindStringSubmatch(where); m != nil {
				at.line, _ = strconv.Atoi(m[1]) // digits
			}
		}
		return at
	case errors.As(err, &run):
		return inTemplate(run)
	default:
		return err
	}
}

// tryAll renders each mail once in each language, and wants what the mail is sent for to be in it.
func (t *Templates) tryAll() error {
	var wrong []error
	said := map[string]bool{}
	for _, tag := range t.Languages() {
		for _, kind := range t.Kinds() {
			m, err := t.Preview(kind, tag)
			if err != nil {
				because := whereIn(err)
				if !said[because.Error()] {
					said[because.Error()] = true
					wrong = append(wrong, because)
				}
				continue
			}
			for _, part := range []struct{ file, text string }{{t.html[kind].Name(), m.HTML}, {t.text[kind].Name(), m.Text}} {
				for _, need := range needs(kind) {
					if what := fmt.Sprint(kind, part.file, need.name); !strings.Contains(part.text, need.text) && !said[what] {
						said[what] = true
						wrong = append(wrong, mistake{part.file, 0, fmt.Sprintf("the mail %s has no %s", kind, need.name)})
					}
				}
			}
		}
	}
	return errors.Join(wrong...)
}

// exampleCode is the code of examples.
const exampleCode = "Jx2pZkq0w3vE5yTn8sBd1A"

type need struct{ name, text string }

// needs is what a mail cannot be without.
func needs(kind Kind) []need {
	switch kind {
	case KindVerification, KindPasswordReset, KindInvitation, KindLink:
		return []need{{"link ({{.Link}})", "?code=" + exampleCode}}
	case KindEmailChange:
		return []need{{"code ({code} in a paragraph, or {{.Code}})", exampleCode}}
	default:
		return nil
	}
}

// Kinds returns the mails that there are, in order of their names.
func (t *Templates) Kinds() []Kind { return kindsOf(t.languages) }

// Languages returns the tags of the languages that there are, in order.
func (t *Templates) Languages() []string { return slices.Sorted(maps.Keys(t.languages)) }

// ErrNoTemplate says that there is no mail of that kind, or that nothing is said in that language.
var ErrNoTemplate = fault.New(fault.NotFound, "template_not_found", "there is no such template")

// Preview renders the mail of a kind with made-up data, in the language that fits tag best as [Templates.Render] finds it; empty for the default.
// A kind that there is not is ErrNoTemplate.
func (t *Templates) Preview(kind Kind, tag string) (Message, error) {
	if !slices.Contains(t.Kinds(), kind) {
		return Message{}, ErrNoTemplate.Detail("there are %s", joined(t.Kinds()))
	}
	data, err := json.Marshal(example(kind, Locale{Language: tag}))
	if err != nil {
		return Message{}, err
	}
	return t.Render(Job{ID: "preview", Kind: kind, To: exampleEmail, Name: exampleName, Data: data})
}

const exampleEmail, exampleName = "ada@example.com", "Ada Lovelace"

// example is made-up data of a mail.
func example(kind Kind, in Locale) any {
	at := time.Date(2030, time.March, 14, 9, 26, 0, 0, time.UTC)
	asked := Asked{RequestedAt: at.Add(-time.Hour), Network: "192.0.2.7"}
	switch kind {
	case KindVerification:
		return UserCreated{UserID: "u1", FullName: exampleName, Email: exampleEmail, VerificationCode: exampleCode, ExpiresAt: at, Asked: asked, Locale: in}
	case KindAddressTaken:
		return AddressTaken{UserID: "u1", FullName: exampleName, Email: exampleEmail, Asked: asked, Locale: in}
	case KindPasswordReset:
		return PasswordForgotten{UserID: "u1", FullName: exampleName, Email: exampleEmail, ResetCode: exampleCode, ExpiresAt: at, Locale: in}
	case KindPasswordChanged:
		return PasswordChanged{UserID: "u1", FullName: exampleName, Email: exampleEmail, At: at, Locale: in}
	case KindNewDevice:
		return DeviceSignedIn{UserID: "u1", FullName: exampleName, Email: exampleEmail, At: at, Device: "Firefox on Linux", Network: "192.0.2.0/24", Locale: in}
	case KindInvitation:
		return UserInvited{UserID: "u1", FullName: exampleName, Email: exampleEmail, ResetCode: exampleCode, ExpiresAt: at, Locale: in}
	case KindEmailChange:
		return EmailChangeRequested{UserID: "u1", FullName: exampleName, Email: exampleEmail, ChangeCode: exampleCode, ExpiresAt: at, Locale: in}
	case KindEmailChanged:
		return EmailChanged{UserID: "u1", FullName: exampleName, Email: exampleEmail, At: at, Locale: in}
	case KindLink:
		return LinkRequested{UserID: "u1", FullName: exampleName, Email: exampleEmail, LinkCode: exampleCode, ExpiresAt: at, Locale: in}
	case KindSecondFactor:
		return FactorChanged{UserID: "u1", FullName: exampleName, Email: exampleEmail, Change: FactorAdded, At: at, Locale: in}
	default:
		return nil
	}
}
