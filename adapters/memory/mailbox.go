package memory

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/mail"
)

// MailboxConfig is what a [Mailbox] may be told. A number that is not positive means the default.
type MailboxConfig struct {
	// Max is the most mails that are kept; the oldest make room. Default 1,000.
	Max int
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Mailbox is a mail.Sender that keeps mails instead of sending them, for development.
// It may be used from many goroutines.
type Mailbox struct {
	max int
	now func() time.Time

	mu    sync.Mutex
	mails []Mail // oldest first
}

// Mail is a message that was sent.
type Mail struct {
	mail.Message
	// At is when it was sent, in UTC, to the microsecond.
	At time.Time
}

var _ mail.Sender = (*Mailbox)(nil)

// NewMailbox returns an empty mailbox.
func NewMailbox(cfg MailboxConfig) *Mailbox {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Mailbox{max: or(cfg.Max, 1000), now: cfg.Now}
}

// Send keeps m.
func (b *Mailbox) Send(ctx context.Context, m mail.Message) error {
	if err := alive(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.mails) >= b.max {
		b.mails = slices.Delete(b.mails, 0, len(b.mails)-b.max+1)
	}
	b.mails = append(b.mails, Mail{Message: m, At: stamp(b.now())})
	return nil
}

// Check returns nil: there is room, since the oldest make it.
func (b *Mailbox) Check(ctx context.Context) error { return alive(ctx) }

// All returns the mails that are kept, newest first.
func (b *Mailbox) All() []Mail {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]Mail, len(b.mails))
	for i, m := range b.mails {
		all[len(all)-1-i] = m
	}
	return all
}
