package services_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/testkit"
)

// mailcatcher is an SMTP server that keeps every mail.
type mailcatcher struct {
	*testkit.Mailbox
	address string
}

func startMailcatcher(t *testing.T) *mailcatcher {
	t.Helper()
	m := &mailcatcher{Mailbox: testkit.NewMailbox()}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{box: m.Mailbox}, nil }))
	server.Domain = "localhost"
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	m.address = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close() // connections are cut
		if err := <-served; err != nil && !errors.Is(err, smtp.ErrServerClosed) {
			t.Error(err)
		}
	})
	return m
}

type session struct {
	box *testkit.Mailbox
	to  string
}

func (*session) Mail(string, *smtp.MailOptions) error        { return nil }
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error { s.to = to; return nil }
func (*session) Logout() error                               { return nil }
func (s *session) Reset()                                    { s.to = "" }
func (s *session) Data(r io.Reader) error {
	letter, err := read(r)
	if err != nil {
		return err
	}
	if letter.To != s.to {
		return fmt.Errorf("a mail to %s for %s", letter.To, s.to)
	}
	return s.box.Send(context.Background(), letter)
}

// read returns what a mail program shows of a letter.
func read(r io.Reader) (mail.Message, error) {
	var m mail.Message
	letter, err := netmail.ReadMessage(r)
	if err != nil {
		return m, err
	}
	from, err := letter.Header.AddressList("From")
	if err != nil {
		return m, err
	}
	to, err := letter.Header.AddressList("To")
	if err != nil {
		return m, err
	}
	m.ID = letter.Header.Get("Message-Id")
	m.From, m.FromName, m.To, m.ToName = from[0].Address, from[0].Name, to[0].Address, to[0].Name
	if m.Subject, err = new(mime.WordDecoder).DecodeHeader(letter.Header.Get("Subject")); err != nil {
		return m, err
	}
	kind, parameters, err := mime.ParseMediaType(letter.Header.Get("Content-Type"))
	if err != nil || !strings.HasPrefix(kind, "multipart/") {
		return m, fmt.Errorf("a mail of type %q: %w", kind, err)
	}
	for parts := multipart.NewReader(letter.Body, parameters["boundary"]); ; {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return m, nil
		}
		if err != nil {
			return m, err
		}
		text, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil {
			return m, err
		}
		switch kind, _, _ := mime.ParseMediaType(part.Header.Get("Content-Type")); kind {
		case "text/plain":
			m.Text = string(text)
		case "text/html":
			m.HTML = string(text)
		}
	}
}
