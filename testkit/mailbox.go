package testkit

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
)

// Mailbox is a mail.Sender that keeps every mail, so that a test can wait for it.
type Mailbox struct {
	mu      sync.Mutex
	mails   []mail.Message
	arrived chan struct{} // closed and replaced when a mail arrives
}

var _ mail.Sender = (*Mailbox)(nil)

// NewMailbox returns an empty mailbox.
func NewMailbox() *Mailbox { return &Mailbox{arrived: make(chan struct{})} }

// Send keeps m. When ctx is done it keeps nothing and returns an error of kind Unavailable.
func (b *Mailbox) Send(ctx context.Context, m mail.Message) error {
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Unavailable, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mails = append(b.mails, m)
	close(b.arrived)
	b.arrived = make(chan struct{})
	return nil
}

// Check returns nil: there is always room.
func (b *Mailbox) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Unavailable, err)
	}
	return nil
}

// All returns every mail, oldest first.
func (b *Mailbox) All() []mail.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.mails)
}

// To returns the mails to an address, oldest first. Case does not count.
func (b *Mailbox) To(address string) []mail.Message {
	return slices.DeleteFunc(b.All(), func(m mail.Message) bool { return !strings.EqualFold(m.To, address) })
}

// Await waits for the nth mail to an address, counting from 1, and returns it. When ctx is
// done first, the error says how many there were.
func (b *Mailbox) Await(ctx context.Context, address string, nth int) (mail.Message, error) {
	if nth < 1 {
		return mail.Message{}, fmt.Errorf("testkit: mails are counted from 1, not %d", nth)
	}
	for {
		b.mu.Lock()
		arrived := b.arrived
		b.mu.Unlock()
		mails := b.To(address)
		if len(mails) >= nth {
			return mails[nth-1], nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return mail.Message{}, fmt.Errorf("testkit: mail %d to %s has not come, %d have: %w", nth, address, len(mails), ctx.Err())
		}
	}
}

// link is a URL in running text: up to white space or what may stand around it.
var link = regexp.MustCompile(`https?://[^\s<>"()]+`)

// Link returns the first link in the text of m that carries a code, or else the first link.
func Link(m mail.Message) (*url.URL, error) {
	var first *url.URL
	for _, found := range link.FindAllString(m.Text, -1) {
		u, err := url.Parse(strings.TrimRight(found, ".,;:!?"))
		if err != nil {
			continue
		}
		if codeOf(u) != "" {
			return u, nil
		}
		if first == nil {
			first = u
		}
	}
	if first == nil {
		return nil, errors.New("testkit: the mail has no link")
	}
	return first, nil
}

// Code returns the code that the link of m carries: its parameter "code", in the query or in
// the fragment.
func Code(m mail.Message) (string, error) {
	u, err := Link(m)
	if err != nil {
		return "", err
	}
	if code := codeOf(u); code != "" {
		return code, nil
	}
	return "", errors.New("testkit: the mail's link has no code")
}

func codeOf(u *url.URL) string {
	if code := u.Query().Get("code"); code != "" {
		return code
	}
	_, query, found := strings.Cut(u.Fragment, "?")
	if !found {
		query = u.Fragment
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return ""
	}
	return values.Get("code")
}
