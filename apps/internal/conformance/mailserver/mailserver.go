// Package mailserver is an SMTP server for the tests of the programs.
package mailserver

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/testkit"
	"github.com/parley-chat/parley/testkit/local"
)

// Server is an SMTP server that keeps what it takes. It offers no encryption and wants no password.
type Server struct {
	*testkit.Mailbox
	// Address is its host:port.
	Address string

	mu     sync.Mutex
	refuse error
	server *smtp.Server // nil while it is killed
	listen net.Listener
	served chan error
}

// Start starts a server that ends with t.
func Start(t testing.TB) *Server {
	t.Helper()
	address, err := local.FreeAddress() // stays free while it is killed
	if err != nil {
		t.Fatalf("mailserver: %v", err)
	}
	m := &Server{Mailbox: testkit.NewMailbox(), Address: address}
	m.Restart(t)
	t.Cleanup(func() { m.Kill(t) })
	return m
}

// Kill ends the server at once, and cuts its connections. What it took it keeps. Killing it twice is
// harmless.
func (m *Server) Kill(t testing.TB) {
	t.Helper()
	m.mu.Lock()
	server, l := m.server, m.listen
	m.server = nil
	m.mu.Unlock()
	if server == nil {
		return
	}
	_ = server.Close() // connections are cut
	_ = l.Close()      // also where it does not serve yet
	if err := <-m.served; err != nil && !errors.Is(err, smtp.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		t.Errorf("mailserver: %v", err)
	}
}

// Restart starts a server that was killed, on the same address.
func (m *Server) Restart(t testing.TB) {
	t.Helper()
	l, err := local.Listen(m.Address)
	if err != nil {
		t.Fatalf("mailserver: %v", err)
	}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{server: m}, nil }))
	server.Domain, server.ReadTimeout, server.WriteTimeout = "localhost", time.Minute, time.Minute
	server.ErrorLog = log.New(io.Discard, "", 0)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.server, m.listen, m.served = server, l, make(chan error, 1)
	served := m.served
	go func() { served <- server.Serve(l) }()
}

// URL is what PARLEY_MAIL_SENDER says for this server.
func (m *Server) URL() string { return "smtp://" + m.Address + "?tls=none" }

// Refuse makes the server answer every recipient with a reply of this code, or take them again if
// code is 0.
func (m *Server) Refuse(code int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refuse = nil
	if code != 0 {
		m.refuse = &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 0, 0}, Message: "not now"}
	}
}

// session is one conversation.
type session struct {
	server *Server
	to     string
}

func (s *session) Mail(string, *smtp.MailOptions) error { return nil }

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.to = to
	return s.server.refuse
}

func (s *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m, err := parse(raw)
	if err != nil {
		return &smtp.SMTPError{Code: 554, Message: err.Error()}
	}
	if !strings.EqualFold(m.To, s.to) {
		return &smtp.SMTPError{Code: 554, Message: "the header names somebody else"}
	}
	return s.server.Send(context.Background(), m)
}

func (s *session) Reset()        { s.to = "" }
func (s *session) Logout() error { return nil }

// parse reads what a mail client would show.
func parse(raw []byte) (mail.Message, error) {
	m, err := netmail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return mail.Message{}, err
	}
	from, err1 := netmail.ParseAddress(m.Header.Get("From"))
	to, err2 := netmail.ParseAddress(m.Header.Get("To"))
	subject, err3 := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	media, parameters, err4 := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return mail.Message{}, err
	}
	if media != "multipart/alternative" {
		return mail.Message{}, fmt.Errorf("the mail is %s", media)
	}
	id, _, _ := strings.Cut(strings.Trim(m.Header.Get("Message-ID"), "<>"), "@")
	out := mail.Message{ID: id, From: from.Address, FromName: from.Name, To: to.Address, ToName: to.Name, Subject: subject}
	parts := multipart.NewReader(m.Body, parameters["boundary"])
	for {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return mail.Message{}, err
		}
		body := io.Reader(part)
		switch strings.ToLower(part.Header.Get("Content-Transfer-Encoding")) {
		case "quoted-printable":
			body = quotedprintable.NewReader(part)
		case "base64":
			body = base64.NewDecoder(base64.StdEncoding, part)
		}
		text, err := io.ReadAll(body)
		if err != nil {
			return mail.Message{}, err
		}
		if kind, _, _ := mime.ParseMediaType(part.Header.Get("Content-Type")); kind == "text/html" {
			out.HTML = string(text)
		} else {
			out.Text = string(text)
		}
	}
	return out, nil
}
