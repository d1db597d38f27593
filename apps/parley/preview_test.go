package main_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMailPreview shows what mails look like, without a server.
func TestMailPreview(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "en.json"), []byte(`{"mails": {"link": {"subject": "Come in"}}}`), 0o600))
	all := execute(t, nil, "mail", "preview").succeeded(t)
	assert.Contains(t, all, "=== verification (en)\nFrom: Parley <no-reply@localhost>\nTo: Ada Lovelace <ada@example.com>\nSubject: Confirm your e-mail address for Parley\n")
	assert.Contains(t, all, "http://localhost:5002/auth/verify?code=")
	one := execute(t, nil, "mail", "preview", "--template=link", "--mail-templates", folder, "--product", "Talk").succeeded(t)
	assert.Contains(t, one, "From: Talk")
	assert.Contains(t, one, "Subject: Come in\n")
	assert.Equal(t, 1, strings.Count(one, "=== "))
	assert.Contains(t, execute(t, nil, "mail", "preview", "--template=link", "--format=html", "--language=de").succeeded(t), `<html lang="de">`)
	assert.Regexp(t, `(?m)^link +de +Anmelden bei Parley$`, execute(t, nil, "mail", "preview", "--format=list").succeeded(t))
	out := filepath.Join(t.TempDir(), "mails")
	list := strings.Fields(execute(t, nil, "mail", "preview", "--out", out).succeeded(t))
	assert.Len(t, list, 2*2*len(strings.Split(strings.TrimSpace(execute(t, nil, "mail", "preview", "--format=list", "--language=en").succeeded(t)), "\n")[1:]))
	for _, file := range list {
		assert.FileExists(t, file)
	}

	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--template=poem"}, "there are address_taken"},
		{[]string{"--language=tlh"}, "there are [de en]"},
		{[]string{"--format=html"}, "name it with --template"},
		{[]string{"--mail-templates=/no/such/folder"}, "no such file or directory"},
	} {
		assert.Contains(t, execute(t, nil, append([]string{"mail", "preview"}, c.args...)...).refused(t), c.says)
	}
	require.NoError(t, os.WriteFile(filepath.Join(folder, "mail.html"), []byte("<p>\n{{.Subjekt}}"), 0o600))
	for _, args := range [][]string{{"mail", "preview"}, {"--data", t.TempDir(), "--listen", "127.0.0.1:0"}} {
		line := execute(t, nil, append(args, "--mail-templates", folder)...).refused(t)
		assert.Contains(t, line, "mail.html:2:")
		assert.Contains(t, line, "Subjekt")
	}
}

// TestMailsSpeakTheLanguageOfTheSignUp: the browser says which language somebody reads, and later they say it themselves.
func TestMailsSpeakTheLanguageOfTheSignUp(t *testing.T) {
	t.Parallel()
	s := serve(t, t.TempDir(), "--mail-burst=100")
	sign := func(name, email, languages string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/auth/signup",
			strings.NewReader(`{"fullName":"`+name+`","email":"`+email+`","password":"`+password+`"}`))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept-Language", languages)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusAccepted, res.StatusCode)
	}
	sign("Ada", "ada@example.com", "de-AT,de;q=0.9,en;q=0.5")
	sign("Bob", "bob@example.com", "tlh")
	ada := s.mailTo(t, "ada@example.com")
	assert.Equal(t, "Bestätigen Sie Ihre E-Mail-Adresse für Parley", ada.Subject)
	assert.Contains(t, ada.HTML, `<html lang="de">`)
	assert.Equal(t, "Confirm your e-mail address for Parley", s.mailTo(t, "bob@example.com").Subject)

	t.Log("the owner of an address is told in their own language, whoever asks")
	s.member(t, "Eve Owner")
	owner := decode[grant](t, must(t, 200, "POST", s.url+"/auth/signin", "", map[string]string{"email": "eve.owner@example.com", "password": password}))
	must(t, 200, "PATCH", s.url+"/auth/me", owner.AccessToken, map[string]string{"language": "de-CH"})
	sign("Mallory", "eve.owner@example.com", "en")
	await(t, "a mail in German", func() bool {
		for _, m := range s.mails(t) {
			if m.To == "eve.owner@example.com" && m.Subject == "Sie haben schon ein Konto bei Parley" {
				return true
			}
		}
		return false
	})
}
