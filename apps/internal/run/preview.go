package run

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/core/mail"
)

// previewMail shows what mails look like.
func previewMail(s config.Settings, p config.Preview, stdout io.Writer) error {
	cfg := s.Templates()
	if cfg.PublicURL = s.PublicURL; cfg.PublicURL == "" {
		cfg.PublicURL = "http://localhost"
		if _, port, err := net.SplitHostPort(s.Listen); err == nil && port != "0" {
			cfg.PublicURL += ":" + port
		}
	}
	t, err := mail.NewTemplates(cfg)
	if err != nil {
		return err
	}
	kinds, languages := t.Kinds(), t.Languages()
	if p.Template != "" {
		kinds = []mail.Kind{mail.Kind(p.Template)}
	}
	if p.Language != "" {
		languages = []string{p.Language}
	}
	if p.Format == "list" {
		w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "TEMPLATE\tLANGUAGE\tSUBJECT") // an error comes with Flush
		err = eachPreview(t, kinds, languages, func(kind mail.Kind, language string, m mail.Message) error {
			_, err := fmt.Fprintf(w, "%s\t%s\t%s\n", kind, language, m.Subject)
			return err
		})
		return errors.Join(err, w.Flush())
	}
	if p.Out != "" {
		if err := os.MkdirAll(p.Out, 0o755); err != nil {
			return err
		}
		return eachPreview(t, kinds, languages, func(kind mail.Kind, language string, m mail.Message) error {
			at := filepath.Join(p.Out, string(kind)+"."+language)
			if err := errors.Join(os.WriteFile(at+".html", []byte(m.HTML), 0o644), os.WriteFile(at+".txt", []byte(m.Text), 0o644)); err != nil {
				return err
			}
			_, err := fmt.Fprintf(stdout, "%s.html\n%s.txt\n", at, at)
			return err
		})
	}
	if p.Format == "html" && len(kinds) > 1 {
		return errors.New("--format html shows one mail: name it with --template, or write them into a folder with --out")
	}
	if p.Language == "" {
		languages = []string{cmp.Or(s.MailLanguage, "en")}
	}
	return eachPreview(t, kinds, languages, func(kind mail.Kind, language string, m mail.Message) error {
		if p.Format == "html" {
			_, err := fmt.Fprintln(stdout, m.HTML)
			return err
		}
		_, err := fmt.Fprintf(stdout, "=== %s (%s)\nFrom: %s <%s>\nTo: %s <%s>\nSubject: %s\n\n%s\n", kind, language, m.FromName, m.From, m.ToName, m.To, m.Subject, m.Text)
		return err
	})
}

// eachPreview shows each mail in each language. A language that there is not ends it: what fits best is for people.
func eachPreview(t *mail.Templates, kinds []mail.Kind, languages []string, show func(mail.Kind, string, mail.Message) error) error {
	for _, language := range languages {
		if !slices.Contains(t.Languages(), language) {
			return fmt.Errorf("nothing is said in the language %q: there are %v", language, t.Languages())
		}
		for _, kind := range kinds {
			m, err := t.Preview(kind, language)
			if err == nil {
				err = show(kind, language, m)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
