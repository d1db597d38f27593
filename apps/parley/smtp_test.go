package main_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/testkit/local"
)

// post is a mail server that takes every mail, and knows one password.
type post struct {
	mails chan *mail.Message
	raw   chan []byte // those mails as they came
}

func (p *post) NewSession(*smtp.Conn) (smtp.Session, error) { return &postman{p}, nil }

type postman struct{ *post }

func (*postman) Mail(string, *smtp.MailOptions) error { return nil }
func (*postman) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (*postman) Reset()                               {}
func (*postman) Logout() error                        { return nil }
func (*postman) AuthMechanisms() []string             { return []string{sasl.Plain} }
func (*postman) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "parley" || password != "hunter2" {
			return smtp.ErrAuthFailed
		}
		return nil
	}), nil
}

func (p *postman) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m, err := mail.ReadMessage(strings.NewReader(string(text)))
	if err == nil {
		p.raw <- text
		p.mails <- m
	}
	return err
}

// openPost starts a mail server on address, or on a free one.
func openPost(t *testing.T, address string) (*post, string) {
	t.Helper()
	p := &post{mails: make(chan *mail.Message, 16), raw: make(chan []byte, 16)}
	s := smtp.NewServer(p)
	s.AllowInsecureAuth = true // the loopback needs no TLS in this test
	l, err := local.Listen(address)
	require.NoError(t, err)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return p, l.Addr().String()
}

func TestMailsGoOutBySMTP(t *testing.T) {
	t.Parallel()
	p, address := openPost(t, "127.0.0.1:0")
	s := serve(t, t.TempDir(), "--mail-sender", "smtp://parley:hunter2@"+address+"?tls=none&plaintext-auth=true")
	assert.NotContains(t, s.stdout.String(), "/dev/mail", "mails do not go there")
	must(t, http.StatusNotFound, http.MethodGet, s.url+"/dev/mail", "", nil)
	must(t, http.StatusNotFound, http.MethodPost, s.url+"/dev/continue", "", map[string]string{"as": "ada"})
	assert.NotContains(t, string(must(t, http.StatusOK, http.MethodGet, s.url+"/", "", nil)), "Continue as")
	s.signUp(t, "Ada Lovelace", "ada@example.com")
	select {
	case m := <-p.mails:
		to, err := m.Header.AddressList("To")
		require.NoError(t, err)
		assert.Equal(t, "ada@example.com", to[0].Address)
		assert.Regexp(t, `^<\S+@\S+>$`, m.Header.Get("Message-Id"))
	case <-time.After(patience):
		t.Fatalf("no mail came\n%s", s.stderr)
	}
	s.sound(t)
	assert.NotContains(t, s.stderr.String(), "hunter2")
	assert.NotContains(t, s.stderr.String(), "ada@example.com")
}

// TestMailsAreSigned: whoever gets a mail finds the key that signed it in the record that the program prints.
func TestMailsAreSigned(t *testing.T) {
	t.Parallel()
	p, address := openPost(t, "127.0.0.1:0")
	file := filepath.Join(t.TempDir(), "dkim.pem")
	newKey := func() {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		require.NoError(t, err)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	}
	newKey()
	env := []string{"PARLEY_MAIL_DKIM_KEY_FILE=" + file, "PARLEY_MAIL_FROM=bot@Mails.example.com"}
	s := serveWith(t, t.TempDir(), func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, env...) }, "--mail-sender", "smtp://"+address+"?tls=none")
	for i, email := range []string{"ada@example.com", "grace@example.com"} {
		if i > 0 { // another key takes the place of the first
			newKey()
			require.NoError(t, s.cmd.Process.Signal(syscall.SIGHUP))
			await(t, "it to read again", func() bool { return strings.Contains(s.stderr.String(), "SIGHUP: read again") })
		}
		s.signUp(t, "Somebody", email)
		var raw []byte
		select {
		case raw = <-p.raw:
		case <-time.After(patience):
			t.Fatalf("no mail came\n%s", s.stderr)
		}
		printed := execute(t, env, "mail", "dkim").succeeded(t)
		name, text, _ := strings.Cut(strings.TrimSpace(printed), ". IN TXT ")
		text, err := strconv.Unquote(text)
		require.NoError(t, err, printed)
		judged, err := dkim.VerifyWithOptions(bytes.NewReader(raw), &dkim.VerifyOptions{LookupTXT: func(at string) ([]string, error) {
			assert.Equal(t, name, at)
			return []string{text}, nil
		}})
		require.NoError(t, err)
		require.Len(t, judged, 1)
		require.NoError(t, judged[0].Err)
		assert.Equal(t, "mails.example.com", judged[0].Domain)
	}
	s.sound(t)

	assert.Contains(t, execute(t, nil, "mail", "dkim").refused(t), "mails are not signed")
	for want, more := range map[string][]string{
		"would not count a signature of example.org": {"PARLEY_MAIL_DKIM_DOMAIN=example.org"},
		"no domain that has a record":                {"PARLEY_MAIL_FROM=", "PARLEY_PUBLIC_URL=http://localhost:5002"},
	} {
		assert.Contains(t, execute(t, append(slices.Clone(env), more...), "config").refused(t), want)
	}
}

// TestMailsOfAnInternationalHostGoOut: what is made of the public URL is ASCII (RFC 5891), link, sender and Message-ID.
func TestMailsOfAnInternationalHostGoOut(t *testing.T) {
	t.Parallel()
	p, address := openPost(t, "127.0.0.1:0")
	listen := freeAddress(t)
	s := serve(t, t.TempDir(), "--listen", listen, "--mail-sender", "smtp://"+address+"?tls=none",
		"--public-url", "https://Chät.example/app", "--product", "Plauderstübchen, \"Köln\"")
	s.url = "http://" + listen
	s.signUp(t, "Ada Lovelace", "ada@example.com")
	select {
	case m := <-p.mails:
		from, err := m.Header.AddressList("From")
		require.NoError(t, err)
		assert.Equal(t, "no-reply@xn--cht-rla.example", from[0].Address)
		assert.Equal(t, "Plauderstübchen, \"Köln\"", from[0].Name)
		assert.Regexp(t, `^<\S+@xn--cht-rla\.example>$`, m.Header.Get("Message-Id"))
		body, err := io.ReadAll(m.Body)
		require.NoError(t, err)
		assert.Contains(t, strings.ReplaceAll(string(body), "=\r\n", ""), "https://xn--cht-rla.example/app/auth/verify?code")
	case <-time.After(patience):
		t.Fatalf("no mail came\n%s", s.stderr)
	}
	s.sound(t)
}

// TestAStartWhoseMailsWouldAllBeDeadEnds: a sender that is made of the public URL is checked like one that is given.
func TestAStartWhoseMailsWouldAllBeDeadEnds(t *testing.T) {
	t.Parallel()
	_, address := openPost(t, "127.0.0.1:0")
	args := []string{"--data", t.TempDir(), "--listen", "127.0.0.1:0", "--mail-sender", "smtp://" + address + "?tls=none", "--public-url", "http://my_host:5002"}
	assert.Contains(t, execute(t, nil, args...).refused(t), "no-reply@my_host")
	listen := freeAddress(t)
	s := serve(t, t.TempDir(), "--listen", listen, "--public-url", "http://my_host:5002", "--mail-from", "bot@example.com")
	s.url = "http://" + listen
	s.sound(t)
}

func TestAMailWaitsForTheMailServer(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped by -short: a mail waits for its next attempt, which is seconds away")
	}
	t.Parallel()
	address := freeAddress(t)
	s := serve(t, t.TempDir(), "--mail-sender", "smtp://"+address+"?tls=none")
	s.signUp(t, "Ada Lovelace", "ada@example.com")
	await(t, "a failed attempt in the log", func() bool { return strings.Contains(s.stderr.String(), "attempt") })
	p, _ := openPost(t, address)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case m := <-p.mails:
		assert.Contains(t, m.Header.Get("To"), "ada@example.com")
	case <-ctx.Done():
		t.Fatalf("no mail came\n%s", s.stderr)
	}
}

func TestAMailServerThatRefusesThePasswordEndsTheStart(t *testing.T) {
	t.Parallel()
	_, address := openPost(t, "127.0.0.1:0")
	line := execute(t, nil, "--data", t.TempDir(), "--listen", "127.0.0.1:0",
		"--mail-sender", "smtp://parley:wrong-secret@"+address+"?tls=none&plaintext-auth=true").refused(t)
	assert.Contains(t, line, "mail server")
	assert.NotContains(t, line, "wrong-secret")
	line = execute(t, nil, "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--mail-sender", "smtp://"+address).refused(t)
	assert.Contains(t, line, "mail server", "STARTTLS is required unless told otherwise, and this one has none")
}
