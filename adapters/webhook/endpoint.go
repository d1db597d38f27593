package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/webhook"
)

// maxDrained is how much of an answer is read, so that its connection can be used again.
const maxDrained = 64 << 10

// EndpointConfig is what an [Endpoint] needs. Zero fields without "required" mean the default.
type EndpointConfig struct {
	// URL is told, for example "https://chat.example.com/hooks". It is one of https, without user and fragment; with Private
	// it may be one of http. Required.
	URL string
	// Secrets sign each request: see [Config].Secrets and [Endpoint.SetSecrets]. Required.
	Secrets []string
	// Private allows addresses that are not of the public internet, this machine's included, and http. Default: it does not.
	Private bool
	// Timeout bounds one request. A context may end it before. Default 15 seconds.
	Timeout time.Duration
	// MaxConnections is the most connections to the server at once; requests beyond wait. Default 256.
	MaxConnections int
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Endpoint tells a server what has happened. Its methods may be called from many goroutines.
type Endpoint struct {
	cfg     EndpointConfig
	client  *http.Client
	host    string // host:port
	secure  string // the name that the server proves by TLS; empty for http
	secrets keyring
}

var _ webhook.Endpoint = (*Endpoint)(nil)

// NewEndpoint checks the configuration, all of it at once. It sends nothing.
func NewEndpoint(cfg EndpointConfig) (*Endpoint, error) {
	c := settings.Of("webhook: EndpointConfig")
	secrets := checked(c, cfg.URL, cfg.Secrets, cfg.Private)
	settings.Default(c, "Timeout", &cfg.Timeout, 15*time.Second)
	settings.Default(c, "MaxConnections", &cfg.MaxConnections, 256)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	u, err := url.Parse(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("webhook: the address: %w", err)
	}
	e := &Endpoint{cfg: cfg, client: newClient(cfg.Private, cfg.Timeout, cfg.MaxConnections)}
	port := u.Port()
	switch {
	case u.Scheme == "https":
		e.secure = u.Hostname()
		if port == "" {
			port = "443"
		}
	case port == "":
		port = "80"
	}
	e.host = net.JoinHostPort(u.Hostname(), port)
	e.secrets.Store(&secrets)
	return e, nil
}

// SetSecrets signs with other secrets from now on: see [Screen.SetSecrets].
func (e *Endpoint) SetSecrets(secrets []string) error {
	return e.secrets.set(secrets)
}

// Close closes connections that wait for a request. It returns nil.
func (e *Endpoint) Close() error {
	e.client.CloseIdleConnections()
	return nil
}

// Deliver implements webhook.Endpoint.
func (e *Endpoint) Deliver(ctx context.Context, d webhook.Delivery, begun func()) error {
	var once sync.Once // a request may be sent again on another connection
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { once.Do(begun) }})
	r, err := newRequest(ctx, e.cfg.URL, *e.secrets.Load(), d.ID, e.cfg.Now(), d.Body)
	if err != nil {
		return errors.New("the request cannot be made")
	}
	answer, err := e.client.Do(r)
	if err != nil {
		return unanswered(err)
	}
	defer answer.Body.Close()
	// What the server says does not matter, nor whether it can be read: the status has come.
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxDrained))
	failure := fmt.Errorf("the status of the answer is %d", answer.StatusCode)
	switch code := answer.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusGone:
		return marked{failure, webhook.ErrGone}
	case code == http.StatusTooManyRequests:
		return marked{failure, webhook.ErrThrottled}
	}
	return failure
}

// marked is an error that matches another one as well.
type marked struct{ why, as error }

func (m marked) Error() string   { return m.why.Error() }
func (m marked) Unwrap() []error { return []error{m.why, m.as} }

// unanswered is why a request has no answer, without the address, whose query may be secret.
func unanswered(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if o, ok := errors.AsType[*net.OpError](err); ok && o.Op == "dial" {
		return marked{err, webhook.ErrUntried}
	}
	return err
}

// Check implements webhook.Endpoint: it connects.
func (e *Endpoint) Check(ctx context.Context) error {
	d := dialer(e.cfg.Private, e.cfg.Timeout, nil)
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Timeout)
	defer cancel()
	var conn net.Conn
	var err error
	if e.secure == "" {
		conn, err = d.DialContext(ctx, "tcp", e.host)
	} else {
		trust := &tls.Config{}
		if t, ok := e.client.Transport.(*http.Transport); ok && t.TLSClientConfig != nil {
			trust = t.TLSClientConfig.Clone()
		}
		trust.ServerName = e.secure
		conn, err = (&tls.Dialer{NetDialer: d, Config: trust}).DialContext(ctx, "tcp", e.host)
	}
	if err != nil {
		return fmt.Errorf("webhook: connecting: %w", err)
	}
	return conn.Close()
}
