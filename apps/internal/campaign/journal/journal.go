// Package journal writes and checks the journals of campaigns.
//
// A journal is a text of lines. Each line is one [Entry] as a JSON object: what one client sent, was told and saw, which faults
// there were, and at the end what the server has stored. [Check] reads journals and says what was lost, came twice, and so on.
// It knows nothing of the server: it also checks such a journal of another server.
// docs/campaigns.md describes the format.
package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Kind says what an [Entry] is about.
type Kind string

// The kinds of entries, and the fields that each has beside Kind and At. Fields in brackets may be missing.
const (
	// Sent: a client is about to send a message. It is written before the first byte leaves. Client, Room, ClientID, [Text].
	Sent Kind = "sent"
	// Acknowledged: the server told the sender that it has the message. Client, Room, ClientID, [Seq], [ID].
	Acknowledged Kind = "acknowledged"
	// Refused: the server told the sender that it does not take the message. Client, Room, ClientID, [Error].
	Refused Kind = "refused"
	// Saw: a client was given a message. Client, Room, Seq, ClientID, [ID], [Text].
	Saw Kind = "saw"
	// Joined: a client enters a room, or enters it again. It is written before the first message that this leads to.
	// Client, Room, [User], [From], [Recovered].
	Joined Kind = "joined"
	// Left: a client has left a room. Client, Room.
	Left Kind = "left"
	// Reload: the server told a client that messages are missing for ever: what it shows of the room begins anew. Client, Room, [From].
	Reload Kind = "reload"
	// Away: a client has no connection any more. Client.
	Away Kind = "away"
	// Back: a client has a connection again. Client.
	Back Kind = "back"
	// Presence: the server said who is in a room. Room, Members, [Settled], [More].
	Presence Kind = "presence"
	// SigningUp: a client is about to ask for an account. Account.
	SigningUp Kind = "signing-up"
	// SignedUp: the server told the client that it has the sign-up. Account.
	SignedUp Kind = "signed-up"
	// Mail: a mail for the account was received. Account, [ID].
	Mail Kind = "mail"
	// HasAccount: the account was tried, and can be used. Account.
	HasAccount Kind = "account"
	// Round: a fault begins. Round, Fault, Victim.
	Round Kind = "round"
	// Healed: the fault of the round is over, and its victim serves again. Round.
	Healed Kind = "healed"
	// Stored: the final log of a room has the message. Room, Seq, ClientID, [ID], [Text].
	Stored Kind = "stored"
	// Complete: all was read. What says of what. With "log", all that is stored of Room was read, from the message after
	// From on: what is before was removed on purpose. With "mail", every mail was read. With "accounts", each account was tried.
	Complete Kind = "complete"
)

// What the entry [Complete] may name.
const (
	Log      = "log"
	Mails    = "mail"
	Accounts = "accounts"
)

// Entry is one line of a journal.
type Entry struct {
	Kind Kind `json:"kind"`
	// At is when it happened, in microseconds since 1970. Several journals are merged by it, so they need one clock.
	At int64 `json:"at,omitempty"`
	// Client names a device, the same for all its connections. Only the journal knows this name.
	Client string `json:"client,omitempty"`
	// User is the name of the client's user in the server's lists of members. Default: Client.
	User string `json:"user,omitempty"`
	// Node names the process that the client was connected to. It is for the reader.
	Node string `json:"node,omitempty"`
	// Room is a room's name.
	Room string `json:"room,omitempty"`
	// Seq is the place of a message in its room: 1 and up, without gaps.
	Seq uint64 `json:"seq,omitempty"`
	// ID is the server's id of a message or of a mail.
	ID string `json:"id,omitempty"`
	// ClientID is the sender's id of a message, unique in its room. Where a server has no such ids, it is a text that is
	// unique.
	ClientID string `json:"clientId,omitempty"`
	// Text is the text, or a hash of it, the same in all entries.
	Text string `json:"text,omitempty"`
	// From is a place: the client has to be given every message after it. Default: every message from the first one on that
	// the client sees.
	From *uint64 `json:"from,omitempty"`
	// Recovered is false if the server said that messages after From are missing for ever, as Reload says.
	Recovered *bool `json:"recovered,omitempty"`
	// Members are those whom the server lists as present.
	Members []string `json:"members,omitempty"`
	// Settled says that so much time has passed since the last fault that Members has to be right.
	Settled bool `json:"settled,omitempty"`
	// More says that there are more members than Members has.
	More bool `json:"more,omitempty"`
	// Account is the address of an account.
	Account string `json:"account,omitempty"`
	// Round counts from 1.
	Round int `json:"round,omitempty"`
	// Fault is what was done: "kill", "freeze", "power" and so on.
	Fault string `json:"fault,omitempty"`
	// Victim is to whom it was done: "server", "node", "store", "broker", "cache" and so on.
	Victim string `json:"victim,omitempty"`
	// Error is what the server said.
	Error string `json:"error,omitempty"`
	// What says what Complete has read: [Log], [Mails] or [Accounts].
	What string `json:"what,omitempty"`
}

// check returns an error if e lacks what its kind needs.
func (e *Entry) check() error {
	needs := func(names string, missing ...bool) error {
		for _, is := range missing {
			if is {
				return fmt.Errorf("an entry of kind %q needs %s", e.Kind, names)
			}
		}
		return nil
	}
	switch e.Kind {
	case Sent, Acknowledged, Refused:
		return needs("client, room and clientId", e.Client == "", e.Room == "", e.ClientID == "")
	case Saw:
		return needs("client, room, clientId and seq", e.Client == "", e.Room == "", e.ClientID == "", e.Seq == 0)
	case Stored:
		return needs("room, clientId and seq", e.Room == "", e.ClientID == "", e.Seq == 0)
	case Joined, Left, Reload:
		return needs("client and room", e.Client == "", e.Room == "")
	case Away, Back:
		return needs("client", e.Client == "")
	case Presence:
		return needs("room", e.Room == "")
	case SigningUp, SignedUp, Mail, HasAccount:
		return needs("account", e.Account == "")
	case Round:
		return needs("round, fault and victim", e.Round <= 0, e.Fault == "", e.Victim == "")
	case Healed:
		return needs("round", e.Round <= 0)
	case Complete:
		switch e.What {
		case Log:
			return needs("room, if what is \"log\"", e.Room == "")
		case Mails, Accounts:
			return nil
		default:
			return fmt.Errorf("an entry of kind %q has what \"log\", \"mail\" or \"accounts\", not %q", e.Kind, e.What)
		}
	default:
		return fmt.Errorf("no entry is of kind %q", e.Kind)
	}
}

// Writer appends entries to a journal. Its methods may be called from many goroutines; the entries stand in the order of the
// calls. After an error every call returns it.
type Writer struct {
	mu  sync.Mutex
	out *bufio.Writer
	now func() time.Time
	err error
}

// NewWriter returns a Writer that appends to w, through a buffer.
func NewWriter(w io.Writer) *Writer {
	return &Writer{out: bufio.NewWriterSize(w, 64<<10), now: time.Now}
}

// Write appends e, and gives it the present time where At is 0. An entry that lacks what its kind needs is an error, and is
// not written.
func (w *Writer) Write(e Entry) error {
	if err := e.check(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	if e.At == 0 {
		e.At = w.now().UnixMicro()
	}
	text, err := json.Marshal(e)
	if err == nil {
		_, err = w.out.Write(append(text, '\n'))
	}
	if err != nil {
		w.err = fmt.Errorf("journal: %w", err)
	}
	return w.err
}

// Flush writes what waits in the buffer.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		if err := w.out.Flush(); err != nil {
			w.err = fmt.Errorf("journal: %w", err)
		}
	}
	return w.err
}

// maxLine bounds a line, in bytes.
const maxLine = 1 << 20

// reader reads a journal, one entry at a time.
type reader struct {
	lines *bufio.Scanner
	line  int
}

func newReader(r io.Reader) *reader {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	return &reader{lines: lines}
}

// next returns the next entry, or io.EOF. Empty lines are skipped.
func (r *reader) next() (Entry, error) {
	for r.lines.Scan() {
		r.line++
		text := bytes.TrimSpace(r.lines.Bytes())
		if len(text) == 0 {
			continue
		}
		var e Entry
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields() // a misspelt field would count as missing
		err := d.Decode(&e)
		if err == nil {
			if _, more := d.Token(); !errors.Is(more, io.EOF) {
				err = errors.New("something follows the object")
			}
		}
		if err == nil {
			err = e.check()
		}
		if err != nil {
			return Entry{}, fmt.Errorf("line %d: %w", r.line, err)
		}
		return e, nil
	}
	switch err := r.lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return Entry{}, fmt.Errorf("line %d: it is longer than %d bytes", r.line+1, maxLine)
	case err != nil:
		return Entry{}, err
	default:
		return Entry{}, io.EOF
	}
}
