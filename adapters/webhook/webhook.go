// Package webhook calls an application's own server over HTTP. [Screen] implements chat.Screen and asks it before a message is stored; [Endpoint] implements
// webhook.Endpoint and tells it afterwards what has happened. Requests are signed after the
// Standard Webhooks specification, version 1 of its symmetric signature (v1, HMAC-SHA256).
//
// # Requests
//
// A message that is to be stored is a POST with the body
//
//	{"type":"message.screen","room":"hall","user":{"id":"…","name":"Ada"},"text":"Hello.","clientId":"…","replyTo":7,"data":{…}}
//
// without clientId, replyTo and data where the sender gave none, and the headers content-type (application/json), webhook-id, webhook-timestamp
// (seconds since 1970) and webhook-signature: "v1," and the base64 of the HMAC-SHA256 of id, timestamp and body, joined by
// dots; one for each secret, with a space between. [Verify] checks it in Go; libraries of the specification do in other languages.
// One message may be asked about several times, each time with another webhook-id.
//
// The server answers 200 with content-type application/json and an object:
//
//	{"allow":true}                              store it as it is
//	{"allow":true,"text":"Hello, ****."}        store this text instead
//	{"allow":true,"data":{…}}                   store this data instead; null is none
//	{"allow":false,"reason":"no advertising"}   refuse it; the sender is shown the reason, if there is one
//
// Other members are ignored.
//
// # Deliveries
//
// What has happened is a POST with the body
//
//	{"type":"user.created","timestamp":"2026-05-04T03:02:01.000000Z","data":{…}}
//
// and the same headers; webhook-id is that of the fact, the same however often it is delivered, and webhook-timestamp is the time of the attempt. The server
// answers with any status of 200 to 299 once it has taken the delivery; the body of the answer does not matter. 410 says that it wants this delivery never, 429
// that it wants it later. Everything else is a failure, redirects too.
//
// # Guarantees
//
// [Endpoint.Deliver] returns within Timeout or when its context ends, whichever comes first. It connects as Screen does. The texts of its errors hold nothing of the
// delivery, of the answer, or of the secrets. At most 64 KiB of an answer are read.
//
// [Screen.Screen] returns within Timeout or when its context ends, whichever comes first. It follows no redirects and uses no
// proxy of the environment. Unless Config.Private says otherwise, it connects to addresses of the public internet alone, over TLS: the
// address that is dialled is looked at, so that a name that leads elsewhere by the time of the request reaches nobody. What is
// more than Config.MaxAnswer bytes, compressed, of another content type, or anything but one such object is a failure. Every failure is of
// kind Unavailable; its text may hold the name of the server, and never a secret or the message. Connections are used again. A request
// that was sent on a connection which the server had closed meanwhile is sent once more on another.
//
// # Exceptions
//
// A reason is cut at 200 characters, and what cannot be seen is left out of it.
//
// # Closing
//
// [Screen.Close] closes connections that wait for a request.
package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

// TypeScreen is the type of a request about a message.
const TypeScreen = "message.screen"

// maxReason is the longest reason that a sender is shown, in characters.
const maxReason = 200

// Config is what a [Screen] needs. Zero fields without "required" mean the default.
type Config struct {
	// URL is asked, for example "https://chat.example.com/screen". It is one of https, without user and fragment; with Private
	// it may be one of http. Required.
	URL string
	// Secrets sign each request, for a receiver that knows any of them: "whsec_" and the base64 of 24 to 64 bytes, at most 8.
	// See [Screen.SetSecrets]. Required.
	Secrets []string
	// Private allows addresses that are not of the public internet, this machine's included, and http. Default: it does not.
	Private bool
	// Timeout bounds one request. A context may end it before. Default 5 seconds.
	Timeout time.Duration
	// MaxAnswer is the most bytes of an answer. Default 64 KiB.
	MaxAnswer int
	// MaxConnections is the most connections to the server at once; requests beyond wait. Default 256.
	MaxConnections int
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// NewID makes identifiers of requests, without dots. Default event.NewID.
	NewID func() string
}

// Screen asks a server about messages. Its methods may be called from many goroutines.
type Screen struct {
	cfg     Config
	client  *http.Client
	secrets keyring
}

var _ chat.Screen = (*Screen)(nil)

// New checks the configuration, all of it at once. It sends nothing.
func New(cfg Config) (*Screen, error) {
	c := settings.Of("webhook: Config")
	secrets := checked(c, cfg.URL, cfg.Secrets, cfg.Private)
	settings.Default(c, "Timeout", &cfg.Timeout, 5*time.Second)
	settings.Default(c, "MaxAnswer", &cfg.MaxAnswer, 64<<10)
	settings.Default(c, "MaxConnections", &cfg.MaxConnections, 256)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewID == nil {
		cfg.NewID = event.NewID
	}
	s := &Screen{cfg: cfg, client: newClient(cfg.Private, cfg.Timeout, cfg.MaxConnections)}
	s.secrets.Store(&secrets)
	return s, nil
}

// checked refuses an address and secrets that cannot be, and returns the secrets.
func checked(c *settings.Check, address string, secrets []string, private bool) []secret {
	c.Require("URL", address == "")
	if address != "" {
		if err := CheckURL(address, private); err != nil {
			c.Refuse("URL", "%v", err)
		}
	}
	c.Require("Secrets", len(secrets) == 0)
	parsed, err := parseSecrets(secrets)
	if err != nil && len(secrets) > 0 {
		c.Refuse("Secrets", "%v", err)
	}
	return parsed
}

// newClient calls one server, follows no redirects, and looks at the addresses that it connects to.
func newClient(private bool, timeout time.Duration, connections int) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            dialer(private, timeout, nil).DialContext,
			TLSHandshakeTimeout:    timeout,
			MaxConnsPerHost:        connections,
			MaxIdleConns:           connections,
			MaxIdleConnsPerHost:    connections,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 16 << 10,
			DisableCompression:     true,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       timeout,
	}
}

// newRequest is a signed POST of JSON. That it is sent once more on another connection, when the server had closed one, is allowed.
func newRequest(ctx context.Context, address string, secrets []secret, id string, at time.Time, body []byte) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "parley")
	sign(r.Header, secrets, id, at, body)
	r.Header["Idempotency-Key"] = []string{} // is not sent: it lets the client try another connection when one was closed
	return r, nil
}

// CheckURL refuses an address that [Config].URL cannot be, in words for whoever wrote it. They do not repeat it.
func CheckURL(address string, private bool) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return errors.New("is not an address like https://chat.example.com/screen")
	case u.User != nil:
		return errors.New("has a user or a password: the server knows who asks by the signature")
	case u.Fragment != "":
		return errors.New("has a fragment")
	case u.Scheme == "http" && !private:
		return errors.New("is one of http, by which anybody between reads messages: private has to be on for that")
	}
	return nil
}

// CheckSecrets refuses secrets that [Config].Secrets cannot be, in words that do not repeat them.
func CheckSecrets(secrets []string) error {
	_, err := parseSecrets(secrets)
	return err
}

// SetSecrets signs with other secrets from now on. To change one without a gap, sign with the old and the new one, let the
// server know the new one alone, and then sign with that alone.
func (s *Screen) SetSecrets(secrets []string) error {
	return s.secrets.set(secrets)
}

// Close closes connections that wait for a request. It returns nil.
func (s *Screen) Close() error {
	s.client.CloseIdleConnections()
	return nil
}

// question is what the server is told.
type question struct {
	Type     string `json:"type"`
	Room     string `json:"room"`
	User     person `json:"user"`
	Text     string `json:"text"`
	ClientID string `json:"clientId,omitempty"`
	ReplyTo  uint64 `json:"replyTo,omitempty"`
	Edits    uint64 `json:"edits,omitempty"`

	Data json.RawMessage `json:"data,omitempty"`
}

type person struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// answer is what the server says.
type answer struct {
	Allow  *bool   `json:"allow"`
	Text   *string `json:"text"`
	Reason string  `json:"reason"`

	Data json.RawMessage `json:"data"`
}

// Screen implements chat.Screen.
func (s *Screen) Screen(ctx context.Context, d chat.Draft) (chat.Draft, error) {
	a, err := s.ask(ctx, question{
		Type: TypeScreen, Room: d.Room, User: person{string(d.Author.ID), d.Author.Name}, Text: d.Text, ClientID: d.ClientID,
		ReplyTo: d.ReplyTo, Edits: d.Edits, Data: json.RawMessage(d.Data),
	})
	switch {
	case err != nil:
		return d, fault.Wrap(fault.Unavailable, fmt.Errorf("webhook: asking about a message: %w", err))
	case !*a.Allow:
		if reason := visible(a.Reason); reason != "" {
			return d, chat.ErrRefused.Detail("%s", reason)
		}
		return d, chat.ErrRefused
	case a.Text != nil:
		d.Text = *a.Text
	}
	switch string(a.Data) {
	case "": // none is said
	case "null":
		d.Data = ""
	default:
		d.Data = string(a.Data)
	}
	return d, nil
}

func (s *Screen) ask(ctx context.Context, q question) (answer, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return answer{}, err
	}
	r, err := newRequest(ctx, s.cfg.URL, *s.secrets.Load(), s.cfg.NewID(), s.cfg.Now(), body)
	if err != nil {
		return answer{}, err
	}
	response, err := s.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	// Also what is no answer is read, so that the connection can be used again.
	text, err := io.ReadAll(io.LimitReader(response.Body, int64(s.cfg.MaxAnswer)+1))
	switch kind, _, badType := mime.ParseMediaType(response.Header.Get("Content-Type")); {
	case err != nil:
		return answer{}, err
	case response.StatusCode != http.StatusOK:
		return answer{}, fmt.Errorf("the status of the answer is %d", response.StatusCode)
	case len(text) > s.cfg.MaxAnswer:
		return answer{}, fmt.Errorf("the answer has more than %d bytes", s.cfg.MaxAnswer)
	case badType != nil || kind != "application/json":
		return answer{}, errors.New("the answer is not of type application/json")
	case response.Header.Get("Content-Encoding") != "":
		return answer{}, errors.New("the answer is encoded")
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil || a.Allow == nil {
		return answer{}, errors.New("the answer is no object with a member allow that is true or false") // the error would quote it
	}
	return a, nil
}

// visible is a reason as it may be shown.
func visible(reason string) string {
	reason = strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, reason))
	if runes := []rune(reason); len(runes) > maxReason {
		reason = string(runes[:maxReason])
	}
	return reason
}
