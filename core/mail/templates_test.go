package mail_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

func jobOf(kind mail.Kind, name string, data any) mail.Job {
	raw, _ := json.Marshal(data)
	return mail.Job{ID: "01JOB", Kind: kind, To: "ada@example.com", Name: name, Data: raw}
}

func everyJob(name string) []mail.Job {
	const to = "ada@example.com"
	return []mail.Job{
		jobOf(mail.KindVerification, name, mail.UserCreated{UserID: "u1", FullName: name, Email: to, VerificationCode: "a+b/c&d=e", ExpiresAt: expires}),
		jobOf(mail.KindAddressTaken, name, mail.AddressTaken{UserID: "u1", FullName: name, Email: to}),
		jobOf(mail.KindPasswordReset, name, mail.PasswordForgotten{UserID: "u1", FullName: name, Email: to, ResetCode: "a+b/c&d=e", ExpiresAt: expires}),
		jobOf(mail.KindPasswordChanged, name, mail.PasswordChanged{UserID: "u1", FullName: name, Email: to, At: expires}),
		jobOf(mail.KindSecondFactor, name, mail.FactorChanged{UserID: "u1", FullName: name, Email: to, Change: mail.FactorAdded, At: expires}),
		jobOf(mail.KindNewDevice, name, mail.DeviceSignedIn{UserID: "u1", FullName: name, Email: to, At: expires, Device: "Firefox on Linux", Network: "192.0.2.0/24"}),
	}
}

func TestTemplatesRender(t *testing.T) {
	t.Parallel()
	for _, language := range []string{"", "en", "de"} {
		ts, err := mail.NewTemplates(mail.TemplateConfig{PublicURL: "https://chat.example.com/app/", Product: "Talk & Co", Language: language})
		require.NoError(t, err)
		subjects := map[string]bool{}
		for _, j := range everyJob("Ada Lovelace") {
			m, err := ts.Render(j)
			require.NoError(t, err)
			assert.Equal(t, "01JOB@chat.example.com", m.ID)
			assert.Equal(t, "Talk & Co", m.FromName)
			assert.Equal(t, "no-reply@chat.example.com", m.From)
			assert.Equal(t, "Ada Lovelace", m.ToName)
			assert.Equal(t, "ada@example.com", m.To)
			assert.Contains(t, m.Subject, "Talk & Co")
			assert.False(t, subjects[m.Subject])
			subjects[m.Subject] = true
			assert.Contains(t, m.Text, "Ada Lovelace")
			assert.Contains(t, m.HTML, "Ada Lovelace")
			assert.Contains(t, m.HTML, "Talk &amp; Co")
			for _, rest := range []string{"{product}", "{name}", "{until}", "{device}", "{change}", "{{", "ZgotmplZ", "<no value>"} {
				assert.NotContains(t, m.Subject+m.Text+m.HTML, rest)
			}
			switch j.Kind {
			case mail.KindVerification:
				assertLink(t, m, "/app/auth/verify")
			case mail.KindPasswordReset:
				assertLink(t, m, "/app/auth/password/reset")
			default:
				assert.Contains(t, m.Text, "\nhttps://chat.example.com/app/\n")
			}
			if j.Kind == mail.KindNewDevice {
				assert.Regexp(t, `Firefox on Linux, (from the network|aus dem Netz) 192\.0\.2\.0/24\.`, m.Text)
			}
			if j.Kind != mail.KindAddressTaken {
				assert.Contains(t, m.Text, "07:08 UTC")
			}
		}
	}
}

// assertLink wants the link on a line of its own in the text, and the same one in the HTML.
func assertLink(t *testing.T, m mail.Message, path string) {
	t.Helper()
	line := regexp.MustCompile(`(?m)^https://\S+$`).FindString(m.Text)
	u, err := url.Parse(line)
	require.NoError(t, err)
	assert.Equal(t, "chat.example.com", u.Host)
	assert.Equal(t, path, u.Path)
	assert.Equal(t, url.Values{"code": {"a+b/c&d=e"}}, u.Query(), "whatever the code is made of")
	href := regexp.MustCompile(`href="([^"]+)"`).FindStringSubmatch(m.HTML)
	require.NotNil(t, href)
	assert.Equal(t, line, strings.ReplaceAll(href[1], "&amp;", "&"))
}

func TestTemplatesAgainstHostileNames(t *testing.T) {
	t.Parallel()
	ts := templates(t)
	for _, name := range []string{
		`<script>alert(1)</script>`,
		`"><img src=x onerror=alert(1)>`,
		"Ada\r\nBcc: eve@example.com",
		"Ada\nSubject: You won",
		"Visit evil.example now",
		"Win at https://evil.example",
		"www.evil",
		"mail eve@evil.example",
		"{{.Link}} {product} {until}",
		"\u202eadA",
		"\x00",
		"\xff\xfe",
		strings.Repeat("x", 5000),
		"",
	} {
		for _, j := range everyJob(name) {
			m, err := ts.Render(j)
			require.NoError(t, err, "%q: a mail is owed whatever somebody is called", name)
			for _, header := range []string{m.ID, m.FromName, m.From, m.ToName, m.To, m.Subject} {
				require.False(t, strings.ContainsFunc(header, unicode.IsControl), "%q", header)
				require.True(t, utf8.ValidString(header))
			}
			require.NotContains(t, m.HTML, "<script")
			require.NotContains(t, m.HTML, "<img")
			require.NotContains(t, m.HTML+m.Text, "evil", "a name is no place for advertisements")
			require.NotContains(t, m.Text, "\r")
			require.NotContains(t, m.Text, "\nBcc")
			require.NotContains(t, m.Text+m.HTML, "\u202e")
			require.LessOrEqual(t, len(m.ToName), 4*user.MaxFullName)
		}
	}
	for _, name := range []string{"J. R. R. Tolkien", "J.R.R. Tolkien", "Dr. Ada", "O'Neill", "Łukasz Żółć", "李小龍", "Smith, John"} {
		m, err := ts.Render(everyJob(name)[0])
		require.NoError(t, err)
		require.Contains(t, m.Text, "Hello "+name+",", "a real name is shown")
	}
}

func TestTemplatesRefuse(t *testing.T) {
	t.Parallel()
	ts := templates(t)
	good := everyJob("Ada")[0]
	for name, edit := range map[string]func(*mail.Job){
		"unknown kind":         func(j *mail.Job) { j.Kind = "poem" },
		"another kind's data":  func(j *mail.Job) { j.Kind = mail.KindPasswordReset },
		"no data":              func(j *mail.Job) { j.Data = nil },
		"no id":                func(j *mail.Job) { j.ID = "" },
		"header in address":    func(j *mail.Job) { j.To = "ada@example.com\r\nBcc: x@example.com" },
		"code with line break": func(j *mail.Job) { j.Data = []byte(strings.Replace(string(j.Data), "a+b", `a\r\nb`, 1)) },
	} {
		j := good
		edit(&j)
		_, err := ts.Render(j)
		require.ErrorIs(t, err, mail.ErrUnrenderable, name)
		require.ErrorIs(t, err, fault.Invalid, name)
		require.NotContains(t, err.Error(), "ada@", name)
	}
	hostile := good
	hostile.ID = "x>\r\nBcc: y"
	m, err := ts.Render(hostile)
	require.NoError(t, err)
	require.Regexp(t, `^[A-Za-z0-9_-]+@chat\.example\.com$`, m.ID)
	again, err := ts.Render(hostile)
	require.NoError(t, err)
	require.Equal(t, m.ID, again.ID, "the same job has the same message id")
}

func TestNewTemplates(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cfg  mail.TemplateConfig
		want []string
	}{
		"nothing":                     {mail.TemplateConfig{}, []string{"PublicURL is missing"}},
		"everything":                  {mail.TemplateConfig{PublicURL: "chat.example.com", From: "nobody", Product: "a\nb", Language: "tlh"}, []string{"PublicURL", "From", "Product", "FromName", "Language"}},
		"another scheme":              {mail.TemplateConfig{PublicURL: "javascript:alert(1)"}, []string{"PublicURL"}},
		"a query":                     {mail.TemplateConfig{PublicURL: "https://x.example/?a=b"}, []string{"PublicURL"}},
		"a password":                  {mail.TemplateConfig{PublicURL: "https://a:b@x.example"}, []string{"PublicURL"}},
		"a name in From":              {mail.TemplateConfig{PublicURL: "https://x.example", From: "Me <me@x.example>"}, []string{"From"}},
		"a host not in ASCII":         {mail.TemplateConfig{PublicURL: "https://chät.example"}, []string{"PublicURL is not ASCII"}},
		"a sender not in ASCII":       {mail.TemplateConfig{PublicURL: "https://x.example", From: "me@chät.example"}, []string{"From is not ASCII"}},
		"a host that makes no sender": {mail.TemplateConfig{PublicURL: "http://my_host:5002"}, []string{"no-reply@my_host"}},
		"unknown kind":                {mail.TemplateConfig{PublicURL: "https://x.example", Subjects: map[mail.Kind]string{"poem": "x"}}, []string{"poem"}},
		"bad subject":                 {mail.TemplateConfig{PublicURL: "https://x.example", Subjects: map[mail.Kind]string{mail.KindVerification: "a\r\nb"}}, []string{"verification"}},
		"unknown and own":             {mail.TemplateConfig{PublicURL: "https://x.example", Language: "tlh", Subjects: map[mail.Kind]string{mail.KindVerification: "ok"}}, []string{"Language"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := mail.NewTemplates(tc.cfg)
			for _, want := range tc.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
	for base, from := range map[string]string{
		"http://localhost:5002": "no-reply@localhost", "http://127.0.0.1:5002": "no-reply@127.0.0.1", "http://[::1]:5002": "no-reply@localhost",
		"https://xn--cht-rla.example": "no-reply@xn--cht-rla.example",
	} {
		ts, err := mail.NewTemplates(mail.TemplateConfig{PublicURL: base})
		require.NoError(t, err)
		m, err := ts.Render(everyJob("Ada")[0])
		require.NoError(t, err)
		require.Equal(t, from, m.From)
		require.Contains(t, m.Text, base+"/auth/verify?code=")
	}
	ts, err := mail.NewTemplates(mail.TemplateConfig{
		PublicURL: "https://x.example", From: "robot@mail.example", FromName: "Robot", Language: "de",
		Subjects: map[mail.Kind]string{mail.KindVerification: "Hallo von {product}"},
	})
	require.NoError(t, err)
	jobs := everyJob("Ada")
	m, err := ts.Render(jobs[0])
	require.NoError(t, err)
	require.Equal(t, "Hallo von Parley", m.Subject)
	require.Equal(t, "Robot", m.FromName)
	require.Equal(t, "robot@mail.example", m.From)
	require.Equal(t, "01JOB@mail.example", m.ID)
	m, err = ts.Render(jobs[1])
	require.NoError(t, err)
	require.NotContains(t, m.Subject, "Hallo von")
}

func TestValuesHideTheirSecretsFromLogs(t *testing.T) {
	t.Parallel()
	j := everyJob("Ada")[0]
	m, err := templates(t).Render(j)
	require.NoError(t, err)
	for _, text := range []string{fmt.Sprint(j.LogValue()), fmt.Sprint(m.LogValue())} {
		require.NotContains(t, text, "ada@")
		require.NotContains(t, text, "a+b")
		require.Contains(t, text, "01JOB")
	}
}

// TestADeviceInAMailIsNoLink renders what no device and no shortened network can be: both are left out, and the mail is owed all the same.
func TestADeviceInAMailIsNoLink(t *testing.T) {
	t.Parallel()
	ts, err := mail.NewTemplates(mail.TemplateConfig{PublicURL: "https://chat.example.com"})
	require.NoError(t, err)
	for _, bad := range []string{"www.evil.example", "https://evil.example/", "a@evil.example", "two\nlines", " ", "Firefox  on", strings.Repeat("a ", 9) + "a", "<b>bold</b>", "192.0.2.77"} {
		m, err := ts.Render(jobOf(mail.KindNewDevice, "Ada", mail.DeviceSignedIn{UserID: "u1", FullName: "Ada", Email: "ada@example.com", At: expires, Device: bad, Network: bad}))
		require.NoError(t, err, bad)
		assert.Contains(t, m.Text, "The device: unknown.", bad)
	}
	for _, whole := range []string{"192.0.2.77/32", "192.0.2.77/24", "2001:db8::1/128", "2001:db8::1"} {
		m, err := ts.Render(jobOf(mail.KindNewDevice, "Ada", mail.DeviceSignedIn{UserID: "u1", Email: "ada@example.com", At: expires, Device: "curl", Network: whole}))
		require.NoError(t, err, whole)
		assert.Contains(t, m.Text, "The device: curl.", whole)
	}
}
