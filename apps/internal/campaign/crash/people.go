package crash

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/adapters/wsclient"
	"github.com/parley-chat/parley/apps/internal/campaign/journal"
)

const password = "correct horse battery staple"

// browser keeps no connection open: one to a killed server would fail the first request to the new one.
var browser = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 15 * time.Second}

// ask sends a request with a JSON body, or none if body is nil, and returns status and answer. An error says that no answer came.
func ask(ctx context.Context, method, url string, body any) (int, []byte, error) {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		in = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, url, in)
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := browser.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 64<<20))
	return answer.StatusCode, text, err
}

// letter is a mail of the development mailbox.
type letter struct{ ID, To, Text string }

var codeInLink = regexp.MustCompile(`/auth/verify\?code=([^\s&"]+)`)

// code returns the code of a verification mail, or "".
func (l letter) code() string {
	if found := codeInLink.FindStringSubmatch(l.Text); found != nil {
		return found[1]
	}
	return ""
}

// notWhole is the recipient of a file that cannot be read as a mail.
const notWhole = "not whole"

// mailbox is what was mailed so far.
type mailbox struct {
	mu    sync.Mutex
	known map[string]bool
	codes map[string]string // by address
}

// take enters new mails of this campaign in the journal.
func (c *campaign) take(node string, all []letter) {
	c.mails.mu.Lock()
	defer c.mails.mu.Unlock()
	for _, l := range all {
		if l.To == notWhole {
			c.problem("a mail is not whole: %s", l.ID)
		}
		if c.mails.known[node+" "+l.ID] || l.code() == "" || !strings.Contains(l.To, c.run) {
			continue
		}
		c.mails.known[node+" "+l.ID] = true
		c.write(journal.Entry{Kind: journal.Mail, Account: l.To, ID: l.ID, Node: node})
		if code := c.mails.codes[l.To]; code != "" && code != l.code() {
			c.problem("%s has two mails with different codes", l.To)
		}
		c.mails.codes[l.To] = l.code()
	}
}

func (c *campaign) codeOf(address string) string {
	c.mails.mu.Lock()
	defer c.mails.mu.Unlock()
	return c.mails.codes[address]
}

// member makes an account and signs in. Each step is tried until it succeeds, for Settle at most.
func (c *campaign) member(ctx context.Context, name string) (*wsclient.Session, error) {
	address := fmt.Sprintf("%s-%s@example.com", name, c.run)
	c.write(journal.Entry{Kind: journal.SigningUp, Account: address})
	url := c.urls[0]
	err := c.until(ctx, "sign-up of "+name, func() error {
		status, text, err := ask(ctx, http.MethodPost, url+"/auth/signup", map[string]string{"fullName": name, "email": address, "password": password})
		if err == nil && status != http.StatusAccepted {
			err = fmt.Errorf("status %d: %.300s", status, text)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	c.write(journal.Entry{Kind: journal.SignedUp, Account: address})
	if err := c.until(ctx, "mail to "+name, func() error {
		c.collect(ctx)
		if c.codeOf(address) == "" {
			return errors.New("there is none: --url needs a server with the development mailbox, or --tokens")
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if err := c.until(ctx, "verification of "+name, func() error { return c.verify(ctx, address) }); err != nil {
		return nil, err
	}
	var session *wsclient.Session
	err = c.until(ctx, "sign-in of "+name, func() error {
		var err error
		session, err = wsclient.SignIn(ctx, wsclient.SessionConfig{Server: url, HTTP: browser}, address, password)
		return err
	})
	return session, err
}

// verify uses the code that an address was mailed, after which there is an account.
func (c *campaign) verify(ctx context.Context, address string) error {
	status, text, err := ask(ctx, http.MethodPost, c.urls[0]+"/auth/verify", map[string]string{"code": c.codeOf(address)})
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d: %.300s", status, text)
	}
	if err == nil {
		c.write(journal.Entry{Kind: journal.HasAccount, Account: address})
	}
	return err
}

// newcomer signs up one new user after the other, whatever becomes of it.
func (c *campaign) newcomer(ctx context.Context, who int) {
	for i := 0; c.working() && ctx.Err() == nil; i++ {
		address := fmt.Sprintf("newcomer-%d-%d-%s@example.com", who, i, c.run)
		c.write(journal.Entry{Kind: journal.SigningUp, Account: address})
		status, text, err := ask(ctx, http.MethodPost, c.urls[(who+i)%len(c.urls)]+"/auth/signup",
			map[string]string{"fullName": "New Comer", "email": address, "password": password})
		switch {
		case err != nil || status >= 500: // nobody knows
		case status == http.StatusAccepted:
			c.write(journal.Entry{Kind: journal.SignedUp, Account: address})
		case status == http.StatusTooManyRequests:
			c.problem("the server has signed up too many: it needs a higher --mail-burst")
			return
		default:
			c.problem("the sign-up of %s was answered with %d: %.300s", address, status, text)
			return
		}
		c.newcomers.add(address, status == http.StatusAccepted)
		pause(ctx, signUpPause)
	}
}

// signUpPause is the time between two sign-ups: without it the hashing of passwords would take the processor.
const signUpPause = 100 * time.Millisecond

// addresses are those for which an account was asked.
type addresses struct {
	mu       sync.Mutex
	asked    []string
	accepted []string
}

func (a *addresses) add(address string, accepted bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, address)
	if accepted {
		a.accepted = append(a.accepted, address)
	}
}

// device is a client with its user. It goes away and comes back, maybe to another node, and knows which messages it has.
type device struct {
	c      *campaign
	name   string
	user   string
	tokens func(*wsclient.Config)
	// refused says that no node takes it any more. Only the goroutine of the rounds uses it.
	refused bool
	acked   atomic.Int64 // messages of its own

	mu      sync.Mutex
	client  *wsclient.Client // nil while it is away
	changed chan struct{}    // closed when client changes
	read    map[string]uint64
}

func (c *campaign) newDevice(name, user string, tokens func(*wsclient.Config)) *device {
	return &device{c: c, name: name, user: user, tokens: tokens, changed: make(chan struct{}), read: map[string]uint64{}}
}

// come connects to a node, and joins the rooms from the last message on that it has.
func (d *device) come(ctx context.Context, url string) error {
	cfg := wsclient.Config{
		URL: "ws" + strings.TrimPrefix(url, "http") + "/socket", Inline: true, Rate: d.c.Rate, Window: 1024,
		MinPause: 20 * time.Millisecond, MaxPause: 300 * time.Millisecond, AckTimeout: 5 * time.Second, HandshakeTimeout: 5 * time.Second,
		Handle: func(e wsclient.Event) { d.hear(url, e) },
	}
	d.tokens(&cfg)
	client, err := wsclient.Dial(ctx, cfg)
	if err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	d.c.write(journal.Entry{Kind: journal.Back, Client: d.name, Node: url})
	for _, room := range d.c.rooms {
		from := d.has(room)
		d.c.write(journal.Entry{Kind: journal.Joined, Client: d.name, User: d.user, Room: room, From: &from, Node: url})
		if _, err := client.JoinSince(ctx, room, from); err != nil {
			client.Close()
			d.c.write(journal.Entry{Kind: journal.Away, Client: d.name})
			return fmt.Errorf("%s: join %s: %w", d.name, room, err)
		}
	}
	d.set(client)
	return nil
}

// leave ends the connection.
func (d *device) leave() {
	if client := d.set(nil); client != nil {
		client.Close()
		d.c.write(journal.Entry{Kind: journal.Away, Client: d.name})
	}
}

func (d *device) set(client *wsclient.Client) (before *wsclient.Client) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before, d.client = d.client, client
	close(d.changed)
	d.changed = make(chan struct{})
	return before
}

// here reports whether it has a client that the server has not ended.
func (d *device) here() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.client != nil && d.client.Err() == nil
}

// current waits until there is a client.
func (d *device) current(ctx context.Context) (*wsclient.Client, error) {
	for {
		d.mu.Lock()
		client, changed := d.client, d.changed
		d.mu.Unlock()
		if client != nil {
			return client, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (d *device) has(room string) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.read[room]
}

// hear writes down what the device is told.
func (d *device) hear(node string, e wsclient.Event) {
	switch e.Kind {
	case wsclient.EventConnected:
		d.c.write(journal.Entry{Kind: journal.Back, Client: d.name, Node: node})
	case wsclient.EventDisconnected:
		d.c.write(journal.Entry{Kind: journal.Away, Client: d.name, Node: node})
	case wsclient.EventRemoved:
		d.c.problem("%s was taken out of %s", d.name, e.Room)
	case wsclient.EventResync:
		if e.Err != nil {
			d.c.problem("%s may not enter %s again: %v", d.name, e.Room, e.Err)
		} else if e.Lost {
			d.c.write(journal.Entry{Kind: journal.Reload, Client: d.name, Room: e.Room, Node: node})
		}
	case wsclient.EventMessage:
		m := e.Message
		d.mu.Lock()
		d.read[m.Room] = m.Seq
		d.mu.Unlock()
		key := m.ClientID
		if key == "" {
			key = "without an id: " + m.ID // nobody has sent it
		}
		d.c.write(journal.Entry{Kind: journal.Saw, Client: d.name, Room: m.Room, Seq: m.Seq, ID: m.ID, ClientID: key, Text: digest(m.Text), Node: node})
	}
}

// digest is a hash of a text, for the journal.
func digest(text string) string {
	h := fnv.New64a()
	_, _ = io.WriteString(h, text) // it never fails
	return fmt.Sprintf("%016x", h.Sum64())
}

// talk sends one message after the other, each until it is acknowledged.
func (d *device) talk(ctx context.Context, line int, seed uint64) {
	random := rand.New(rand.NewPCG(seed, uint64(line))) //nolint:gosec // it need not be secret
	for i := 0; d.c.working() && ctx.Err() == nil; i++ {
		room := d.c.rooms[random.IntN(len(d.c.rooms))]
		key := fmt.Sprintf("%s.%d.%d", d.name, line, i)
		text := key + strings.Repeat(" and so on", random.IntN(12))
		if !d.send(ctx, room, key, text) {
			return
		}
	}
}

// send reports whether the message was acknowledged in the end.
func (d *device) send(ctx context.Context, room, key, text string) bool {
	d.c.write(journal.Entry{Kind: journal.Sent, Client: d.name, Room: room, ClientID: key, Text: digest(text)})
	for {
		client, err := d.current(ctx)
		if err != nil {
			return false
		}
		ack, err := client.SendAs(ctx, room, text, key)
		var refused *wsclient.Error
		switch {
		case err == nil:
			d.c.write(journal.Entry{Kind: journal.Acknowledged, Client: d.name, Room: room, Seq: ack.Seq, ID: ack.ID, ClientID: key})
			d.c.acknowledged.Add(1)
			d.acked.Add(1)
			return true
		case ctx.Err() != nil:
			return false
		case errors.As(err, &refused):
			d.c.write(journal.Entry{Kind: journal.Refused, Client: d.name, Room: room, ClientID: key, Error: refused.Code})
			if !refused.Temporary() {
				d.c.problem("%s: a message to %s was refused: %v", d.name, room, err)
				return false
			}
			pause(ctx, 50*time.Millisecond)
		case errors.Is(err, wsclient.ErrClosed): // it went away; it comes back
			pause(ctx, 5*time.Millisecond)
		default: // the server has ended the client for good
			d.c.problem("%s: %v", d.name, err)
			return false
		}
	}
}

// subject returns the user of an access token (RFC 7519), without checking it.
func subject(token string) (string, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", errors.New("--tokens: a line is no access token")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", fmt.Errorf("--tokens: %w", err)
	}
	var claims struct{ Sub string }
	if err := json.Unmarshal(text, &claims); err != nil || claims.Sub == "" {
		return "", errors.New("--tokens: a token names no user")
	}
	return claims.Sub, nil
}
