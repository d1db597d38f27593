package smtpmail_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/adapters/smtpmail"
	"github.com/parley-chat/parley/core/mail"
)

const (
	username = "apikey"
	password = "s3cret/pass word%:@é"
)

// authority makes a certificate authority of its own, and a certificate for localhost.
func authority(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	issue := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		if parent == nil {
			parent, signer = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		require.NoError(t, err)
		cert, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		return cert, key
	}
	from, until := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	ca, caKey := issue(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	leaf, key := issue(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: from, NotAfter: until,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, caKey)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}, pool
}

// parcel is what the server took.
type parcel struct {
	from, to string
	utf8     bool
	raw      []byte
}

// server is a go-smtp server that remembers, and that a test can make fail.
type server struct {
	*smtp.Server
	port int
	pool *x509.CertPool

	mu       sync.Mutex
	parcels  []parcel
	clear    bytes.Buffer // what clients sent, as it was on the wire
	opened   int
	open     int
	mostOpen int
	latest   net.Conn
	logins   int
	// answer, if set, is asked at each stage.
	answer func(c *smtp.Conn, stage string) error

	ended chan struct{} // gets one for each session that ended
	ways  []string
}

// options says how a server differs from one that offers STARTTLS and wants no password.
type options struct {
	implicit, noTLS bool
	insecureAuth    bool
	utf8            bool
	ways            []string // of AUTH
	answer          func(c *smtp.Conn, stage string) error
}

func serve(t *testing.T, o options) *server {
	t.Helper()
	cert, pool := authority(t)
	s := &server{pool: pool, answer: o.answer, ways: o.ways, ended: make(chan struct{}, 1000)}
	s.Server = smtp.NewServer(s)
	s.Domain, s.AllowInsecureAuth, s.EnableSMTPUTF8 = "localhost", o.insecureAuth, o.utf8
	s.ErrorLog = quiet{}
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	if !o.noTLS && !o.implicit {
		s.TLSConfig = config
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.port = l.Addr().(*net.TCPAddr).Port
	l = &tap{Listener: l, s: s}
	if o.implicit {
		l = tls.NewListener(l, config)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() {
		l.Close() // Serve may not have begun, and then Close would not know it
		_ = s.Close()
		running.Wait()
	})
	return s
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// tap records what clients send.
type tap struct {
	net.Listener
	s *server
}

func (l *tap) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.s.opened++
	l.s.open++
	l.s.mostOpen = max(l.s.mostOpen, l.s.open)
	l.s.latest = c
	return &tapped{Conn: c, s: l.s}, nil
}

type tapped struct {
	net.Conn
	s    *server
	once sync.Once
}

func (c *tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.clear.Write(p[:n])
	return n, err
}

func (c *tapped) Close() error {
	c.once.Do(func() {
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		c.s.open--
	})
	return c.Conn.Close()
}

func (s *server) seen() (wire string, taken []parcel, connections int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clear.String(), append([]parcel(nil), s.parcels...), s.opened
}

// timeout makes the server find that the latest connection was idle for too long.
func (s *server) timeout() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest.SetReadDeadline(time.Unix(1, 0))
}

func (s *server) NewSession(c *smtp.Conn) (smtp.Session, error) {
	if len(s.ways) > 0 {
		return &authSession{session{s: s, c: c}}, nil
	}
	return &session{s: s, c: c}, nil
}

func (s *server) ask(c *smtp.Conn, stage string) error {
	s.mu.Lock()
	answer := s.answer
	s.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(c, stage)
}

func (s *server) answers(f func(c *smtp.Conn, stage string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

type session struct {
	s    *server
	c    *smtp.Conn
	next parcel
}

func (s *session) Reset() { s.next = parcel{} }

func (s *session) Logout() error {
	s.s.ended <- struct{}{}
	return nil
}

func (s *session) Mail(from string, o *smtp.MailOptions) error {
	s.next = parcel{from: from, utf8: o.UTF8}
	return s.s.ask(s.c, "MAIL")
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.next.to = to
	return s.s.ask(s.c, "RCPT")
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := s.s.ask(s.c, "END"); err != nil {
		return err
	}
	s.next.raw = raw
	s.s.mu.Lock()
	s.s.parcels = append(s.s.parcels, s.next)
	s.s.mu.Unlock()
	return s.s.ask(s.c, "TAKEN")
}

// authSession also wants a password.
type authSession struct{ session }

func (s *authSession) AuthMechanisms() []string { return s.s.ways }

func (s *authSession) Auth(way string) (sasl.Server, error) {
	check := func(user, pass string) error {
		if err := s.s.ask(s.c, "AUTH"); err != nil {
			return err
		}
		if user != username || pass != password {
			return smtp.ErrAuthFailed
		}
		s.s.mu.Lock()
		s.s.logins++
		s.s.mu.Unlock()
		return nil
	}
	if way == sasl.Login {
		return &login{check: check}, nil
	}
	return sasl.NewPlainServer(func(_, user, pass string) error { return check(user, pass) }), nil
}

// login is the server's side of LOGIN.
type login struct {
	check func(user, pass string) error
	step  int
	user  string
}

func (l *login) Next(response []byte) ([]byte, bool, error) {
	l.step++
	switch l.step {
	case 1:
		return []byte("Username:"), false, nil
	case 2:
		l.user = string(response)
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(l.user, string(response))
}

// config reaches s over STARTTLS.
func (s *server) config() smtpmail.Config {
	return smtpmail.Config{Host: "localhost", Port: s.port, TLS: &tls.Config{RootCAs: s.pool}}
}

func open(t *testing.T, cfg smtpmail.Config) *smtpmail.Sender {
	t.Helper()
	s, err := smtpmail.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func letter(n int) mail.Message {
	return mail.Message{
		ID: fmt.Sprintf("job-%d@example.com", n), FromName: "Parley", From: "no-reply@example.com", ToName: "Zoë", To: fmt.Sprintf("zoe%d@example.com", n),
		Subject: "Confirm your address, please", Text: "Hallo Zoë,\n\n.\n..\nfoo = bar\n", HTML: "<p>Hallo Zoë &amp; alle</p>",
	}
}

// parse reads a mail back as a mail program does.
func parse(p parcel) (mail.Message, *netmail.Message, error) {
	m, err := netmail.ReadMessage(bytes.NewReader(p.raw))
	if err != nil {
		return mail.Message{}, nil, err
	}
	var words mime.WordDecoder
	from, err1 := netmail.ParseAddress(m.Header.Get("From"))
	to, err2 := netmail.ParseAddress(m.Header.Get("To"))
	subject, err3 := words.DecodeHeader(m.Header.Get("Subject"))
	kind, parameters, err4 := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return mail.Message{}, nil, err
	}
	got := mail.Message{
		ID:       strings.TrimSuffix(strings.TrimPrefix(m.Header.Get("Message-ID"), "<"), ">"),
		FromName: from.Name, From: from.Address, ToName: to.Name, To: to.Address, Subject: subject,
	}
	body := func(kind, encoding string, r io.Reader) error {
		if encoding == "quoted-printable" {
			r = quotedprintable.NewReader(r)
		}
		text, err := io.ReadAll(r)
		into := map[string]*string{"text/plain": &got.Text, "text/html": &got.HTML}[kind]
		if into == nil {
			return fmt.Errorf("a part of type %s", kind)
		}
		*into = strings.ReplaceAll(string(text), "\r\n", "\n")
		return err
	}
	if kind != "multipart/alternative" {
		return got, m, body(kind, m.Header.Get("Content-Transfer-Encoding"), m.Body)
	}
	parts := multipart.NewReader(m.Body, parameters["boundary"])
	for {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return got, m, nil
		}
		if err != nil {
			return got, m, err
		}
		kind, _, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
		if err == nil {
			err = body(kind, part.Header.Get("Content-Transfer-Encoding"), part)
		}
		if err != nil {
			return got, m, err
		}
	}
}

// The stages of a conversation without TLS, by what the server answers.
var stages = []string{"greeting", "EHLO", "MAIL", "RCPT", "DATA", "the end of the data"}

var replies = map[string]string{
	"greeting": "220 ready", "EHLO": "250 localhost", "MAIL": "250 ok", "RCPT": "250 ok", "DATA": "354 go on", "the end of the data": "250 taken",
}

// script is a server that holds conversations line by line.
type script struct {
	port int
	mu   sync.Mutex
	// connections and ends count connections, and ends of data that were read.
	connections, ends int
	heard             []string
}

// play starts a server. answer gets the number of the connection and of the mail on it, both from
// 0, and the stage; it returns the answer, "" to close the connection. It may block until done ends.
func play(t *testing.T, answer func(connection, mail int, stage string, done <-chan struct{}) string) *script {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &script{port: l.Addr().(*net.TCPAddr).Port}
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			number := s.connections
			s.connections++
			s.mu.Unlock()
			running.Go(func() {
				defer c.Close()
				s.converse(c, func(mail int, stage string) string { return answer(number, mail, stage, done) })
			})
		}
	})
	t.Cleanup(func() {
		close(done)
		l.Close()
		running.Wait()
	})
	return s
}

func (s *script) converse(c net.Conn, answer func(mail int, stage string) string) {
	lines := bufio.NewReader(c)
	mails, stage := 0, "greeting"
	for {
		reply := answer(mails, stage)
		if reply == "" {
			return
		}
		if _, err := io.WriteString(c, reply+"\r\n"); err != nil {
			return
		}
		if stage == "the end of the data" {
			mails++
		}
		if stage == "DATA" && strings.HasPrefix(reply, "354") {
			for line := ""; line != ".\r\n"; {
				var err error
				if line, err = lines.ReadString('\n'); err != nil {
					return
				}
			}
			s.mu.Lock()
			s.ends++
			s.mu.Unlock()
			stage = "the end of the data"
			continue
		}
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		s.mu.Lock()
		s.heard = append(s.heard, strings.TrimSpace(line))
		s.mu.Unlock()
		stage, _, _ = strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " ")
	}
}

func (s *script) counts() (connections, ends int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connections, s.ends
}

func (s *script) config() smtpmail.Config {
	return smtpmail.Config{Host: "127.0.0.1", Port: s.port, Security: smtpmail.None}
}
