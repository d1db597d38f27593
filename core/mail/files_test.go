package mail_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/mail"
)

// files is a folder of templates.
func files(of map[string]string) fstest.MapFS {
	fs := fstest.MapFS{}
	for name, text := range of {
		fs[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fs
}

func withFiles(t *testing.T, of map[string]string) (*mail.Templates, error) {
	t.Helper()
	return mail.NewTemplates(mail.TemplateConfig{PublicURL: "https://chat.example.com", Files: files(of)})
}

// Each mail is in the language of the person, as far as there is one that fits.
func TestMailsAreInTheLanguageOfThePerson(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ person, server, want string }{
		{"", "", "en"}, {"de", "", "de"}, {"de-CH", "", "de"}, {"de-DE-1996", "", "de"}, {"DE", "", "de"},
		{"fr", "", "en"}, {"fr", "de", "de"}, {"en-GB", "de", "en"}, {"", "de", "de"}, {"de-x-pirate", "", "de"}, {"no tag at all", "de", "de"}, {"-", "", "en"},
	} {
		ts, err := mail.NewTemplates(mail.TemplateConfig{PublicURL: "https://chat.example.com", Language: c.server})
		require.NoError(t, err)
		m, err := ts.Render(jobOf(mail.KindPasswordReset, "Ada", mail.PasswordForgotten{
			UserID: "u1", FullName: "Ada", Email: "ada@example.com", ResetCode: "abc", ExpiresAt: expires, Locale: mail.Locale{Language: c.person},
		}))
		require.NoError(t, err)
		assert.Contains(t, m.HTML, `<html lang="`+c.want+`">`, "%+v", c)
		assert.Equal(t, c.want == "de", strings.HasPrefix(m.Text, "Wählen Sie"), "%+v", c)
	}
}

// Every mail is there in every language, and shows what it is sent for.
func TestEveryMailHasAPreviewInEveryLanguage(t *testing.T) {
	t.Parallel()
	ts := templates(t)
	assert.Equal(t, []string{"de", "en"}, ts.Languages())
	for _, tag := range ts.Languages() {
		seen := map[string]bool{}
		for _, kind := range ts.Kinds() {
			m, err := ts.Preview(kind, tag)
			require.NoError(t, err)
			assert.Contains(t, m.HTML, `lang="`+tag+`"`)
			assert.Contains(t, m.Text, "Ada Lovelace")
			assert.NotRegexp(t, `\{[a-z]+\}`, m.Subject+m.Text+m.HTML[strings.Index(m.HTML, "<body"):])
			assert.False(t, seen[m.Subject], "%s %s", tag, kind)
			seen[m.Subject] = true
		}
	}
	_, err := ts.Preview("poem", "en")
	require.ErrorIs(t, err, mail.ErrNoTemplate)
}

func TestFilesTakeThePlaceOfOurTemplates(t *testing.T) {
	t.Parallel()
	ts, err := withFiles(t, map[string]string{
		"en.json":         `{"greeting": "Dear {name},", "mails": {"link": {"subject": "Come in to {product}"}}}`,
		"link.html":       `<p lang={{.Lang}}><a href="{{.Link}}">{{.Greeting}}</a></p>`,
		"link.txt":        "{{.Greeting}} {{.Link}}",
		"mail.txt":        "ALL {{.Heading}} {{.Code}} {{range .Paragraphs}}{{.}}{{end}} {{.Link}}",
		".DS_Store":       "not ours to read",
		".git/config.txt": "neither",
	})
	require.NoError(t, err)
	m, err := ts.Preview(mail.KindLink, "en")
	require.NoError(t, err)
	assert.Equal(t, "Come in to Parley", m.Subject)
	assert.Equal(t, `<p lang=en><a href="https://chat.example.com/auth/link?code=Jx2pZkq0w3vE5yTn8sBd1A">Dear Ada Lovelace,</a></p>`, m.HTML)
	assert.Equal(t, "Dear Ada Lovelace, https://chat.example.com/auth/link?code=Jx2pZkq0w3vE5yTn8sBd1A", m.Text)
	m, err = ts.Preview(mail.KindVerification, "de")
	require.NoError(t, err)
	assert.Regexp(t, "^ALL Bestätigen", m.Text)
	assert.Contains(t, m.HTML, "<!doctype html>", "what no file takes the place of is ours")
	m, err = templates(t).Preview(mail.KindLink, "en")
	require.NoError(t, err)
	assert.Equal(t, "Sign in to Parley", m.Subject, "others have ours")
}

// french is a language of somebody's own: ours, said otherwise.
func french(t *testing.T, edit func(map[string]any)) string {
	t.Helper()
	said := map[string]any{"greeting": "Bonjour {name},", "anonymous": "Bonjour,", "linkHint": "Sinon :", "time": "02/01/2006 15:04 UTC", "anyDevice": "inconnu", "fromNetwork": ", du réseau {network}"}
	said["factorChanges"] = map[string]any{"added": "Ajouté.", "removed": "Supprimé.", "recovery": "Nouveaux codes.", "recovery_used": "Code utilisé."}
	mails := map[string]any{}
	for _, kind := range templates(t).Kinds() {
		mails[string(kind)] = map[string]any{"subject": "Objet " + string(kind), "heading": "Titre", "paragraphs": []string{"Texte {code}"}, "button": "Aller", "footer": "Fin"}
	}
	said["mails"] = mails
	edit(said)
	text, err := json.MarshalIndent(said, "", " ")
	require.NoError(t, err)
	return string(text)
}

func TestALanguageOfOnesOwn(t *testing.T) {
	t.Parallel()
	ts, err := withFiles(t, map[string]string{"fr.json": french(t, func(map[string]any) {})})
	require.NoError(t, err)
	assert.Equal(t, []string{"de", "en", "fr"}, ts.Languages())
	m, err := ts.Preview(mail.KindInvitation, "fr-CA")
	require.NoError(t, err)
	assert.Equal(t, "Objet invitation", m.Subject)
	assert.Contains(t, m.Text, "Bonjour Ada Lovelace,")
	ts, err = mail.NewTemplates(mail.TemplateConfig{PublicURL: "https://chat.example.com", Language: "fr", Files: files(map[string]string{"fr.json": french(t, func(map[string]any) {})})})
	require.NoError(t, err)
	m, err = ts.Preview(mail.KindInvitation, "")
	require.NoError(t, err)
	assert.Equal(t, "Objet invitation", m.Subject)
}

// A mistake is named with the file and the line, and all of them at once.
func TestMistakesInTemplatesAreNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"a template that does not end":  {map[string]string{"mail.html": "<p>\n{{if .Link}}\n"}, []string{"mail.html:3: unexpected EOF"}},
		"a template with a slip":        {map[string]string{"link.txt": "a\nb {{.Link}\n"}, []string{"link.txt:2:"}},
		"a field that there is not":     {map[string]string{"link.txt": "{{.Link}}\n\n{{.Lnik}}"}, []string{"link.txt:3:", "Lnik"}},
		"a function that there is not":  {map[string]string{"mail.html": "{{.Link}}{{shout .Subject}}"}, []string{"mail.html:1:", `function "shout" not defined`}},
		"a link in a place for scripts": {map[string]string{"link.html": "<p>\n<a href={{if .Link}}\"{{end}}x>{{.Link}}"}, []string{"link.html:2"}},
		"a mail without its link":       {map[string]string{"verification.html": "<p>{{.Heading}}</p>"}, []string{"verification.html: the mail verification has no link ({{.Link}})"}},
		"a text without its link":       {map[string]string{"mail.txt": "{{.Heading}}"}, []string{"mail.txt: the mail link has no link", "the mail password_reset has no link", "the mail email_change has no code"}},
		"a mail without its code":       {map[string]string{"de.json": `{"mails":{"email_change":{"paragraphs":["Nichts."]}}}`}, []string{"mail.html: the mail email_change has no code"}},
		"not JSON":                      {map[string]string{"de.json": "{\n\n  \"greeting\" \"x\"\n}"}, []string{"de.json:3: invalid character"}},
		"another type":                  {map[string]string{"de.json": "{\n \"greeting\": 7\n}"}, []string{`de.json:2: "greeting" is to be a string`}},
		"another type in a mail":        {map[string]string{"de.json": "{\n \"mails\": {\n  \"link\": {\n   \"heading\": []\n}}}"}, []string{`de.json:4: "heading" is to be a string`}},
		"a member that there is not":    {map[string]string{"de.json": "{\n \"greting\": \"x\"\n}"}, []string{`de.json:2: there is no "greting"`}},
		"one in a mail":                 {map[string]string{"de.json": "{\"mails\":{\n\"link\":{\n\"title\":\"x\"}}}"}, []string{`de.json:3: there is no "title"`}},
		"a mail that there is not":      {map[string]string{"de.json": "{\"mails\":{\n\"poem\":{}}}"}, []string{`de.json:2: there is no mail "poem"`}},
		"what nobody can fill in":       {map[string]string{"de.json": "{\n\n\"greeting\":\"Hallo {whom}\"}"}, []string{"de.json:3: nothing can be filled in for {whom}"}},
		"a subject of two lines":        {map[string]string{"de.json": "{\"mails\":{\n\"link\":{\"subject\":\"a\\r\\nBcc: eve@example.com\"}}}"}, []string{"de.json:2: the subject of the mail link has a control character"}},
		"two JSON texts":                {map[string]string{"de.json": "{}\n{}"}, []string{"de.json:2: there is more than one JSON text"}},
		"an empty file":                 {map[string]string{"de.json": ""}, []string{"de.json:1: EOF"}},
		"half a language":               {map[string]string{"fr.json": `{"greeting":"Bonjour {name},"}`}, []string{"fr.json: anonymous is missing", "fr.json: the mail link is missing"}},
		"half a mail":                   {map[string]string{"fr.json": french(t, func(s map[string]any) { delete(s["mails"].(map[string]any)["link"].(map[string]any), "heading") })}, []string{"fr.json: heading of the mail link is missing"}},
		"no name of a language":         {map[string]string{"german.language.json": "{}"}, []string{"german.language.json: it is not named after a tag of BCP 47"}},
		"another letter case":           {map[string]string{"pt-br.json": "{}"}, []string{"pt-br.json"}},
		"a name that nothing reads":     {map[string]string{"verifcation.html": "x", "readme.md": "x"}, []string{"verifcation.html: no template has this name", "readme.md: no template has this name"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := withFiles(t, c.files)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			require.NotContains(t, err.Error(), "\n", "it is one line of a log")
		})
	}
}

// A language that nobody has heard of, in an event, harms nothing.
func TestHostileLanguagesRender(t *testing.T) {
	t.Parallel()
	ts := templates(t)
	for _, tag := range []string{"\"><script>", strings.Repeat("de-", 10_000), "\x00", "../../etc/passwd", "EN"} {
		m, err := ts.Render(jobOf(mail.KindPasswordChanged, "Ada", mail.PasswordChanged{UserID: "u1", Email: "ada@example.com", At: expires, Locale: mail.Locale{Language: tag}}))
		require.NoError(t, err)
		assert.Regexp(t, `lang="(en|de)"`, m.HTML)
	}
}
