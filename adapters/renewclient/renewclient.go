// Package renewclient gets fresh codes from the service that has the accounts, over HTTP. It serves
// [mail.WorkerConfig] as its Renew and [mail.DeadLetterConfig] as its Refresh, in a mailer that is a process of its own. The other end is
// the operation renew-mail of the REST API (POST /auth/mail/renew).
//
// # Guarantees
//
// [Client.Renew] returns within Timeout or when its context ends, whichever comes first. It follows no
// redirects, so that the administrator's token reaches no other server. Every failure is of kind
// Unavailable; that nobody needs a mail is none. An error names the status of the answer, and never the token or the code.
//
// # Exceptions
//
// An answer longer than 1 MiB is a failure. Nothing is retried.
//
// # Closing
//
// There is nothing to close.
package renewclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/settings"
)

// maxAnswer bounds the bytes of an answer that are read.
const maxAnswer = 1 << 20

// Config is what a [Client] needs. Zero fields without "required" mean the default.
type Config struct {
	// URL is that of the operation, for example "https://auth.example.com/auth/mail/renew". Required.
	URL string
	// Token returns the administrator's token, which is sent as bearer (RFC 6750). It is called once for
	// each request, must not block, and may be called from many goroutines. Required.
	Token func() string
	// Client sends the requests. Default: one of its own, which follows no redirects.
	Client *http.Client
	// Timeout bounds one request. Default 10 seconds.
	Timeout time.Duration
}

// Client asks for fresh codes. Its methods may be called from many goroutines.
type Client struct{ cfg Config }

// New checks the configuration, all of it at once. It sends nothing.
func New(cfg Config) (*Client, error) {
	c := settings.Of("renewclient: Config")
	c.Require("URL", cfg.URL == "")
	if u, err := url.Parse(cfg.URL); cfg.URL != "" && (err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "") {
		c.Refuse("URL", "is not an address of http or https")
	}
	c.Require("Token", cfg.Token == nil)
	settings.Default(c, "Timeout", &cfg.Timeout, 10*time.Second)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{
			Transport:     http.DefaultTransport.(*http.Transport).Clone(),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return &Client{cfg}, nil
}

// Renew returns what a mail job is to be rendered with instead of its data, or nil if its data will do. If the accounts say that nobody needs the
// mail any more, it is mail.ErrNotNeeded. Any other error is of kind Unavailable.
func (c *Client) Renew(ctx context.Context, j mail.Job) ([]byte, error) {
	data, err := c.renew(ctx, j)
	if errors.Is(err, mail.ErrNotNeeded) {
		return nil, err
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, fmt.Errorf("renewclient: asking for a fresh code: %w", err))
	}
	return data, nil
}

func (c *Client) renew(ctx context.Context, j mail.Job) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	body, err := json.Marshal(map[string]any{"kind": j.Kind, "data": j.Data})
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+c.cfg.Token())
	r.Header.Set("Content-Type", "application/json")
	answer, err := c.cfg.Client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", answer.Status)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxAnswer {
		return nil, fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	var out struct {
		Data      []byte
		NotNeeded string
	}
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, errors.New("the answer is not the JSON that was asked for") // the error would quote the code
	}
	if out.NotNeeded != "" {
		return nil, mail.ErrNotNeeded.Detail("%s", out.NotNeeded)
	}
	return out.Data, nil
}
