// Package smtpmail implements mail.Sender over SMTP (RFC 5321) with github.com/wneessen/go-mail
// v0.8: STARTTLS (RFC 3207) or TLS from the first byte (RFC 8314), and AUTH (RFC 4954) with PLAIN
// or LOGIN. A provider or a server of one's own is a matter of configuration; as URLs for
// [ParseURL], with the password percent-encoded:
//
//	smtp://apikey:KEY@smtp.sendgrid.net:587                       SendGrid: the user is the word "apikey"
//	smtp://USER:PASSWORD@email-smtp.eu-west-1.amazonaws.com:587   Amazon SES: SMTP credentials, not an access key
//	smtp://USER:PASSWORD@mail.example.com:465?tls=implicit        TLS from the first byte
//	smtp://localhost:1025?tls=none                                a local server, without TLS or password
//
// # Guarantees
//
// Send returns nil once the server has answered the end of the mail's data with success. A mail
// whose Send failed before that end was not sent; when the connection broke after it, nobody
// knows. Then the mail may come twice, and both have the Message-ID of mail.Message.ID.
//
// mail.ErrRefused is an answer from 500 to 599 to MAIL, RCPT, DATA or the data, or a message that
// no server could take. All else is temporary and of kind Unavailable. An answer from 400 to 499 to RCPT is
// mail.ErrDeferred, such as greylisting; to MAIL, DATA or the data it is mail.ErrThrottled. A wrong configuration is
// [ErrAuthRefused] or [ErrNotEncrypted], and is logged as an error at most once a minute. The rest is connections
// that cannot be made or break. What failed before the server was ready for a mail is mail.ErrUntried too: such an attempt does not count.
//
// Nothing of a mail and no password is sent before TLS is established and the server's certificate
// is verified, except where [None] was configured. An error or log never holds the password.
//
// At most Config.Connections are open, and they are reused. If one turns out to have ended while
// nobody used it, Send dials once more. Send and Check end with their context, and after
// Config.Timeout at the latest.
//
// Names and subject are encoded (RFC 2047), bodies are UTF-8 in quoted-printable, and every mail
// says "Auto-Submitted: auto-generated" (RFC 3834), so that nobody's holiday notice answers it.
// Control characters in names and subject become spaces, so that none can add a header. With Config.DKIM every mail is signed.
//
// # Exceptions
//
// Addresses are used as they are: a server without SMTPUTF8 (RFC 6531) gets no address beyond
// ASCII, and that is mail.ErrRefused. What a server refuses after it has taken a mail comes back
// to the address in From as a bounce, which nobody here reads.
//
// # Closing
//
// Close says QUIT on the connections that are not in use, and ends the others when their Send has
// returned. It takes two seconds at most.
package smtpmail

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
)

// What is wrong with the configuration rather than with a mail. Both are temporary: a mail waits
// for the configuration to be mended.
var (
	// ErrAuthRefused says that the server refuses user name and password, wants some and got
	// none, or offers no way to give them.
	ErrAuthRefused = fault.New(fault.Unavailable, "mail_auth_refused", "the mail server does not accept user name and password")
	// ErrNotEncrypted says that the server offers no TLS, or that its certificate is not trusted.
	ErrNotEncrypted = fault.New(fault.Unavailable, "mail_not_encrypted", "the connection to the mail server cannot be protected by TLS")
)

// alarmEvery is the least time between two logs that the configuration is wrong.
const alarmEvery = time.Minute

// Sender is a mail.Sender. Its methods may be called from many goroutines.
type Sender struct {
	cfg   Config
	slots chan struct{} // one for each connection in use

	pinging chan struct{} // one Ping at a time

	mu      sync.Mutex
	idle    []*conn // the last used is the last
	closed  bool
	alarmed time.Time
	quits   sync.WaitGroup // of idle connections; added to under mu
}

var _ mail.Sender = (*Sender)(nil)

// New checks the configuration, all of it at once. It does not connect: see [Sender.Check].
func New(cfg Config) (*Sender, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	return &Sender{cfg: cfg, slots: make(chan struct{}, cfg.Connections), pinging: make(chan struct{}, 1)}, nil
}

// Send hands m to the server. See the package comment for what its errors mean.
func (s *Sender) Send(ctx context.Context, m mail.Message) error {
	l, err := compose(m, s.cfg.Now())
	if err == nil && s.cfg.DKIM != nil {
		l.data, err = s.cfg.DKIM.sign(l.data)
	}
	if err != nil {
		return mail.ErrRefused.Because(fmt.Errorf("smtpmail: %w", err))
	}
	if ctx.Err() != nil { // else select might choose a free slot
		return mail.ErrUntried.Because(fmt.Errorf("smtpmail: %w", ctx.Err()))
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return mail.ErrUntried.Because(fmt.Errorf("smtpmail: all connections are in use: %w", ctx.Err()))
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	err = s.send(ctx, l)
	if errors.Is(err, ErrAuthRefused) || errors.Is(err, ErrNotEncrypted) {
		s.alarm(err)
	}
	return err
}

// send delivers l over a connection that is open already, or else over a new one.
func (s *Sender) send(ctx context.Context, l letter) error {
	c, err := s.take()
	if err != nil {
		return err
	}
	if c != nil {
		f := s.deliver(ctx, c, l)
		if f == nil || !f.stale() || ctx.Err() != nil {
			return s.classify(ctx, f)
		}
	}
	c, err = s.dial(ctx)
	if err != nil {
		return mail.ErrUntried.Because(err)
	}
	return s.classify(ctx, s.deliver(ctx, c, l))
}

// deliver does one transaction, and keeps the connection if it is still good afterwards.
func (s *Sender) deliver(ctx context.Context, c *conn, l letter) *failure {
	stop := context.AfterFunc(ctx, c.abort)
	f := c.transact(l)
	good := f == nil || c.reset(f)
	if stop() && good {
		s.park(c)
	} else {
		c.abort()
	}
	return f
}

// Check connects, secures the connection, authenticates and says QUIT. It is for the start of a
// program: a wrong password or missing TLS is one clear line there, instead of mails that wait.
// It logs nothing. It has a connection of its own beside those of Send.
func (s *Sender) Check(ctx context.Context) error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return errClosed()
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	c, err := s.dial(ctx)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, c.abort)()
	c.quit()
	return nil
}

// Ping returns nil if the server answers. It is for those who ask often: it asks on a connection that is
// open, and keeps the one that it had to make, so that it does not log in each time. One Ping at a time
// is under way; others wait for their turn. It gives up when ctx is done, and logs nothing.
func (s *Sender) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	gaveUp := func() error {
		return fault.Wrap(fault.Unavailable, fmt.Errorf("smtpmail: %s: %w", s.cfg.address(), ctx.Err()))
	}
	select {
	case s.pinging <- struct{}{}:
		defer func() { <-s.pinging }()
	case <-ctx.Done():
		return gaveUp()
	}
	c, err := s.take()
	if err != nil {
		return err
	}
	if c != nil {
		stop := context.AfterFunc(ctx, c.abort)
		err := c.client.Noop()
		if stop() && err == nil {
			s.park(c)
			return nil
		}
		c.abort()
		if ctx.Err() != nil {
			return gaveUp()
		}
	}
	if c, err = s.dial(ctx); err != nil {
		return err
	}
	s.park(c)
	return nil
}

// Close gives up the connections. What is sent afterwards fails with kind Unavailable. Closing
// twice is harmless. The error is always nil.
func (s *Sender) Close() error {
	s.mu.Lock()
	s.closed = true
	for _, c := range s.idle {
		c.expiry.Stop()
		s.quits.Go(c.quit)
	}
	s.idle = nil
	s.mu.Unlock()
	s.quits.Wait()
	return nil
}

func errClosed() error {
	return fault.Wrap(fault.Unavailable, errors.New("smtpmail: the sender is closed"))
}

// take returns the idle connection that was used last, or nil if there is none.
func (s *Sender) take() (*conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed()
	}
	last := len(s.idle) - 1
	if last < 0 {
		return nil, nil
	}
	c := s.idle[last]
	s.idle = s.idle[:last]
	c.expiry.Stop()
	return c, nil
}

// park keeps c for the next mail, for as long as IdleTimeout.
func (s *Sender) park(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.abort()
		return
	}
	s.idle = append(s.idle, c)
	c.expiry = time.AfterFunc(s.cfg.IdleTimeout, func() { s.expire(c) })
}

// expire ends c unless it was taken meanwhile. If it was also parked anew, it ends early, which
// harms nobody.
func (s *Sender) expire(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.idle, c); i >= 0 {
		s.idle = slices.Delete(s.idle, i, i+1)
		c.expiry.Stop()
		s.quits.Go(c.quit)
	}
}

// alarm says that a person has to do something, but not for each mail.
func (s *Sender) alarm(err error) {
	now := s.cfg.Now()
	s.mu.Lock()
	quiet := !s.alarmed.IsZero() && now.Sub(s.alarmed) < alarmEvery
	if !quiet {
		s.alarmed = now
	}
	s.mu.Unlock()
	if !quiet {
		s.cfg.Log.Error("no mail can be sent until the configuration of the mail server is mended", "server", s.cfg.address(), "error", err)
	}
}

// classify makes of a failed transaction what the port promises.
func (s *Sender) classify(ctx context.Context, f *failure) error {
	if f == nil {
		return nil
	}
	err := fmt.Errorf("smtpmail: %s: %s: %w", s.cfg.address(), f.stage, s.cfg.scrub(f.err))
	switch code := f.code(); {
	case wantsAuth(code):
		return ErrAuthRefused.Because(err)
	case code >= 500, errors.Is(f.err, errNotASCII):
		return mail.ErrRefused.Because(err)
	case code >= 400 && f.stage == stageRecipient:
		return mail.ErrDeferred.Because(err)
	case code >= 400:
		return mail.ErrThrottled.Because(err)
	case code == 0 && ctx.Err() != nil: // the connection was closed because of it
		err = fmt.Errorf("smtpmail: %s: %s: %w", s.cfg.address(), f.stage, ctx.Err())
	}
	return fault.Wrap(fault.Unavailable, err)
}

// wantsAuth reports whether an answer is about who sends, not about a mail (RFC 4954 section 6).
func wantsAuth(code int) bool {
	return code == 530 || code == 534 || code == 535 || code == 538
}

// isLoopback reports whether what is sent to addr stays on this machine.
func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
