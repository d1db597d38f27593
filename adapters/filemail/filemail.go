// Package filemail implements mail.Sender in a folder: each mail becomes a file, for a person
// to read. It is the development mailbox of the programs parley and mailer, and survives a restart.
//
// # Guarantees
//
// A mail whose Send returned nil is in its file, synced to the disk. A mail that is sent again
// with the same ID is kept again: what was sent twice can be seen. All may be used while Send
// runs. A mail that cannot be kept, because the disk is full, say, leaves nothing behind and is
// mail.ErrUntried: it waits, and no attempt counts.
//
// # Exceptions
//
// Mails go nowhere else, and the oldest are removed when there are more than Config.Keep. One
// process at a time uses a folder.
//
// # Schema
//
// One JSON file a mail, named by the time in microseconds and a counter: {"id", "fromName", "from",
// "toName", "to", "subject", "text", "html", "at"}; a name that is empty is left out.
//
// # Closing
//
// There is nothing to close.
package filemail

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/settings"
)

// Mail is a mail that was sent.
type Mail struct {
	ID       string    `json:"id"`
	FromName string    `json:"fromName,omitempty"`
	From     string    `json:"from"`
	ToName   string    `json:"toName,omitempty"`
	To       string    `json:"to"`
	Subject  string    `json:"subject"`
	Text     string    `json:"text"`
	HTML     string    `json:"html"`
	At       time.Time `json:"at"`
}

// Config is what a [Mailbox] needs. Zero fields without "required" mean the default.
type Config struct {
	// Folder is where mails are kept; it is made if need be. Required.
	Folder string
	// Keep is how many mails are kept. Default 1,000.
	Keep int
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Mailbox is a mail.Sender. Its methods may be called from many goroutines.
type Mailbox struct {
	cfg Config

	mu    sync.Mutex
	mails []kept // oldest first
	next  int
	more  chan struct{} // closed when the next mail is kept
}

type kept struct {
	file string
	mail Mail
}

var _ mail.Sender = (*Mailbox)(nil)

// Open reads the mails that are in the folder. A file that cannot be read as a mail is left
// alone.
func Open(cfg Config) (*Mailbox, error) {
	c := settings.Of("filemail: Config")
	c.Require("Folder", cfg.Folder == "")
	settings.Default(c, "Keep", &cfg.Keep, 1000)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := os.MkdirAll(cfg.Folder, 0o700); err != nil {
		return nil, fmt.Errorf("filemail: %w", err)
	}
	// A power cut that takes the folder's name takes its mails. Whoever may not open the parent has not made the folder just now.
	if err := syncFolder(filepath.Dir(filepath.Clean(cfg.Folder))); err != nil && !errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("filemail: %w", err)
	}
	entries, err := os.ReadDir(cfg.Folder) // ascending by name, so by time
	if err != nil {
		return nil, fmt.Errorf("filemail: %w", err)
	}
	b := &Mailbox{cfg: cfg, more: make(chan struct{})}
	for _, e := range entries {
		file := filepath.Join(cfg.Folder, e.Name())
		if strings.HasSuffix(e.Name(), unfinished) {
			_ = os.Remove(file) // a write that a crash cut short
			continue
		}
		text, err := os.ReadFile(file)
		var m Mail
		if err == nil && json.Unmarshal(text, &m) == nil && m.ID != "" {
			b.mails = append(b.mails, kept{file, m})
		}
	}
	slices.SortStableFunc(b.mails, func(a, b kept) int { return cmp.Compare(a.file, b.file) })
	b.trim()
	return b, nil
}

const unfinished = ".part"

// Send keeps m.
func (b *Mailbox) Send(ctx context.Context, m mail.Message) error {
	if err := ctx.Err(); err != nil {
		return mail.ErrUntried.Because(fmt.Errorf("filemail: %w", err))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := kept{mail: Mail{
		ID: m.ID, FromName: m.FromName, From: m.From, ToName: m.ToName, To: m.To, Subject: m.Subject, Text: m.Text, HTML: m.HTML,
		At: b.cfg.Now().UTC().Truncate(time.Microsecond),
	}}
	text, err := json.MarshalIndent(kept.mail, "", "  ")
	if err != nil {
		return fmt.Errorf("filemail: %w", err)
	}
	b.next++
	kept.file = filepath.Join(b.cfg.Folder, fmt.Sprintf("%016d-%06d.json", kept.mail.At.UnixMicro(), b.next))
	if left, err := write(kept.file, text); err != nil {
		if err = fmt.Errorf("filemail: %w", err); left {
			return fault.Wrap(fault.Unavailable, err)
		}
		return mail.ErrUntried.Because(err)
	}
	b.mails = append(b.mails, kept)
	b.trim()
	close(b.more)
	b.more = make(chan struct{})
	return nil
}

// checkSize is how many bytes Check writes: as many as a long mail has.
const checkSize = 32 << 10

// Check returns nil if there is room for a mail: it writes a file and removes it.
func (b *Mailbox) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Unavailable, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	file := filepath.Join(b.cfg.Folder, "check")
	_, err := write(file, make([]byte, checkSize))
	if err == nil {
		err = os.Remove(file)
	}
	if err != nil {
		return fault.Wrap(fault.Unavailable, fmt.Errorf("filemail: %w", err))
	}
	return nil
}

// write makes a file that is whole or not there, whatever happens meanwhile. With an error, left says
// whether it may be there all the same.
func write(file string, text []byte) (left bool, err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil { // somebody may have tidied up
		return false, err
	}
	f, err := os.OpenFile(file+unfinished, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return false, err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(file+unfinished, file)
	}
	if err != nil {
		_ = os.Remove(file + unfinished) // or the next start does
		return false, err
	}
	if err = syncFolder(filepath.Dir(file)); err != nil {
		left = os.Remove(file) != nil
	}
	return left, err
}

// syncFolder makes the names in a folder survive a power cut.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" { // where folders cannot be synced
		return nil
	}
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// trim removes the oldest mails beyond the limit, under mu.
func (b *Mailbox) trim() {
	for len(b.mails) > b.cfg.Keep {
		_ = os.Remove(b.mails[0].file) // it is tried again at the next start
		b.mails = b.mails[1:]
	}
}

// More returns a channel that is closed when the next mail is kept. Whoever waits for a mail asks for the channel
// first, and then looks at All.
func (b *Mailbox) More() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.more
}

// All returns the mails that are kept, newest first.
func (b *Mailbox) All() []Mail {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]Mail, 0, len(b.mails))
	for _, k := range slices.Backward(b.mails) {
		all = append(all, k.mail)
	}
	return all
}
