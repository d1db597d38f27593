package smtpmail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/wneessen/go-mail/smtp"

	"github.com/parley-chat/parley/core/fault"
)

// stageRecipient is the stage in which a refusal is about the recipient alone.
const stageRecipient = "RCPT"

// quitTimeout bounds a QUIT, which is only politeness.
const quitTimeout = 2 * time.Second

// conn is a connection that is ready for mails. One goroutine at a time uses it; abort may be
// called from any.
type conn struct {
	raw    net.Conn // below TLS: closing it never waits
	client *smtp.Client
	expiry *time.Timer // while idle; under Sender.mu
}

// failure is what went wrong in a transaction.
type failure struct {
	stage string // the command
	err   error
	// unknown is true from the moment when the server may have taken the mail.
	unknown bool
}

// code is the server's answer, or 0 if there was none.
func (f *failure) code() int { return replyCode(f.err) }

func replyCode(err error) int {
	var reply *textproto.Error
	if errors.As(err, &reply) {
		return reply.Code
	}
	return 0
}

// stale reports whether an idle connection seems to have ended before the transaction, so that
// trying on another cannot send the mail twice. Servers announce that with 421 (RFC 5321 section 3.8).
func (f *failure) stale() bool {
	return !f.unknown && (f.code() == 421 || f.code() == 0 && !errors.Is(f.err, errNotASCII))
}

// errNotASCII says that an address needs an extension that the server does not have.
var errNotASCII = errors.New("the server takes no addresses beyond ASCII")

// dial opens a connection and makes it ready for mails.
func (s *Sender) dial(ctx context.Context) (*conn, error) {
	at := "connecting"
	fail := func(as *fault.Error, err error) error {
		if ctx.Err() != nil && replyCode(err) == 0 { // the connection was closed because of it
			as, err = nil, ctx.Err()
		}
		err = fmt.Errorf("smtpmail: %s: %s: %w", s.cfg.address(), at, s.cfg.scrub(err))
		if as != nil {
			return as.Because(err)
		}
		return fault.Wrap(fault.Unavailable, err)
	}
	raw, err := s.cfg.Dial(ctx, "tcp", s.cfg.address())
	if err != nil {
		return nil, fail(nil, err)
	}
	c := &conn{raw: raw}
	stop := context.AfterFunc(ctx, c.abort)
	ready := false
	defer func() {
		if !ready {
			c.abort()
		}
	}()

	stream := raw
	if s.cfg.Security == Implicit {
		at = "TLS"
		secure := tls.Client(raw, s.cfg.TLS)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, fail(tlsFault(err), err)
		}
		stream = secure
	}
	at = "greeting"
	if c.client, err = smtp.NewClient(stream, s.cfg.Host); err != nil {
		return nil, fail(nil, err)
	}
	at = "EHLO"
	if err := c.client.Hello(s.hello(raw)); err != nil {
		return nil, fail(nil, err)
	}
	if s.cfg.Security == StartTLS {
		at = "STARTTLS"
		if offered, _ := c.client.Extension("STARTTLS"); !offered {
			return nil, fail(ErrNotEncrypted, errors.New("the server does not offer it"))
		}
		if err := c.client.StartTLS(s.cfg.TLS); err != nil {
			return nil, fail(tlsFault(err), err)
		}
	}
	if s.cfg.Username != "" {
		at = "AUTH"
		way, err := s.auth(c)
		if err != nil {
			return nil, fail(ErrAuthRefused, err)
		}
		if err := c.client.Auth(way); err != nil {
			if replyCode(err) >= 500 {
				return nil, fail(ErrAuthRefused, err)
			}
			return nil, fail(nil, err)
		}
	}
	if !stop() {
		return nil, fail(nil, ctx.Err())
	}
	ready = true
	return c, nil
}

// tlsFault tells what a person has to mend from what may pass; the latter is nil.
func tlsFault(err error) *fault.Error {
	var certificate *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	if errors.As(err, &certificate) || errors.As(err, &record) || errors.As(err, &alert) || replyCode(err) >= 500 {
		return ErrNotEncrypted
	}
	return nil
}

// hello is how this side calls itself.
func (s *Sender) hello(raw net.Conn) string {
	if s.cfg.Hello != "" {
		return s.cfg.Hello
	}
	local, ok := raw.LocalAddr().(*net.TCPAddr)
	switch {
	case !ok:
		return "localhost"
	case local.IP.To4() != nil:
		return "[" + local.IP.String() + "]"
	}
	return "[IPv6:" + local.IP.String() + "]"
}

// auth chooses the way to authenticate on c.
func (s *Sender) auth(c *conn) (smtp.Auth, error) {
	if _, secure := c.client.TLSConnectionState(); !secure && !isLoopback(c.raw.RemoteAddr()) {
		return nil, errors.New("the server is not on loopback and there is no TLS")
	}
	_, offered := c.client.Extension("AUTH")
	ways := strings.Fields(strings.ToUpper(offered))
	has := func(way Auth) bool {
		return (s.cfg.Auth == way || s.cfg.Auth == AuthAuto) && slices.Contains(ways, strings.ToUpper(string(way)))
	}
	// The vendor need not look for TLS: that was done above, and more strictly.
	switch {
	case has(AuthPlain):
		return smtp.PlainAuth("", s.cfg.Username, s.cfg.Password, s.cfg.Host, true), nil
	case has(AuthLogin):
		return smtp.LoginAuth(s.cfg.Username, s.cfg.Password, s.cfg.Host, true), nil
	case s.cfg.Auth == AuthAuto:
		return nil, errors.New("the server offers neither PLAIN nor LOGIN")
	}
	return nil, fmt.Errorf("the server does not offer %s", strings.ToUpper(string(s.cfg.Auth)))
}

// transact sends one mail. The vendor's own Send is not used: it reports a mail as failed that
// the server has taken if what follows fails, and does not tell where a connection broke.
func (c *conn) transact(l letter) *failure {
	if !l.ascii {
		if has, _ := c.client.Extension("SMTPUTF8"); !has {
			return &failure{stage: "MAIL", err: errNotASCII}
		}
	}
	// Where no address needs it, asking for it could only make a later server refuse the mail.
	c.client.SkipSMTPUTF8(l.ascii)
	if err := c.client.Mail("<" + l.from + ">"); err != nil {
		return &failure{stage: "MAIL", err: err}
	}
	if err := c.client.Rcpt("<" + l.to + ">"); err != nil {
		return &failure{stage: stageRecipient, err: err}
	}
	data, err := c.client.Data()
	if err != nil {
		return &failure{stage: "DATA", err: err}
	}
	if _, err := data.Write(l.data); err != nil {
		return &failure{stage: "the data", err: err}
	}
	if err := data.Close(); err != nil {
		return &failure{stage: "the end of the data", err: err, unknown: true}
	}
	return nil
}

// reset makes the connection ready for another mail after a failure, and reports whether that
// worked. Without an answer nothing more may be said on it: the vendor would first end the data,
// and half a mail would be sent.
func (c *conn) reset(f *failure) bool {
	code := f.code()
	if errors.Is(f.err, errNotASCII) {
		return true
	}
	return code >= 400 && code < 600 && code != 421 && !wantsAuth(code) && c.client.Reset() == nil
}

// abort ends the connection at once. It may be called twice.
func (c *conn) abort() { _ = c.raw.Close() }

// quit ends the connection politely, within quitTimeout.
func (c *conn) quit() {
	_ = c.raw.SetDeadline(time.Now().Add(quitTimeout))
	_ = c.client.Quit()
	c.abort()
}
