package mail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/user"
)

// Group is the group in which mailers share the events of [Topic].
const Group = "mailer"

// ErrEventInvalid says that an event asks for a mail that cannot be made, ever.
var ErrEventInvalid = fault.New(fault.Invalid, "mail_event_invalid", "the event asks for a mail that cannot be made")

// ConsumerConfig is what a [Consumer] needs.
type ConsumerConfig struct {
	Queue Queue // required
	// Eraser forgets mails to whom TypeUserErased and TypeUserDisabled name. Default: nobody is forgotten, and such events are ignored.
	Eraser Eraser
	// Enqueued, if set, is called after a job was put on the queue. It must not block.
	Enqueued func()
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// NewID makes job identifiers that ascend with time. Default [event.NewID].
	NewID func() string
	// Log gets events that can never become a mail, and those that come again. Default: nothing.
	Log *slog.Logger
}

// Consumer turns events into jobs. Handle is an event.Handler. Its methods may be called from
// many goroutines.
type Consumer struct{ cfg ConsumerConfig }

// NewConsumer checks the configuration.
func NewConsumer(cfg ConsumerConfig) (*Consumer, error) {
	c := settings.Of("mail: ConsumerConfig")
	c.Require("Queue", cfg.Queue == nil)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if cfg.Enqueued == nil {
		cfg.Enqueued = func() {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewID == nil {
		cfg.NewID = event.NewID
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Consumer{cfg: cfg}, nil
}

// Handle enqueues the mail that e asks for, once per e.ID, and forgets the mails to whom e says was erased or disabled. It ignores types that it does not
// know. Data that cannot be a mail's is ErrEventInvalid, of kind Invalid: it can never be handled.
func (c *Consumer) Handle(ctx context.Context, e event.Event) error {
	if (e.Type == TypeUserErased || e.Type == TypeUserDisabled) && c.cfg.Eraser != nil {
		return c.forget(ctx, e)
	}
	kind, known := kinds[e.Type]
	if !known {
		return nil
	}
	if e.ID == "" {
		return ErrEventInvalid.Detail("it has no id")
	}
	p, err := decode(kind, e.Data)
	if err != nil {
		return ErrEventInvalid.Detail("%s: %v", e.Type, err)
	}
	// Only what the template knows goes into the queue.
	data, err := json.Marshal(p)
	if err != nil {
		return ErrEventInvalid.Detail("%s: its data cannot be encoded", e.Type)
	}
	to, name := p.recipient()
	now := microseconds(c.cfg.Now())
	job := Job{
		ID: c.cfg.NewID(), Key: e.ID, Kind: kind, To: to, Name: name, Data: data,
		State: Ready, RunAt: now, CreatedAt: now, UpdatedAt: now,
	}
	if err := c.cfg.Queue.Enqueue(ctx, job); err != nil {
		return fmt.Errorf("mail: enqueueing %s: %w", e.Type, err)
	}
	c.cfg.Enqueued()
	return nil
}

// forget removes the jobs to a user who was erased or disabled: the data of both events is the same.
func (c *Consumer) forget(ctx context.Context, e event.Event) error {
	var d UserErased
	if json.Unmarshal(e.Data, &d) != nil { // the error may quote the data
		return ErrEventInvalid.Detail("%s: the data is not JSON of the right shape", e.Type)
	}
	to, err := user.ParseEmail(d.Email)
	if err != nil {
		return ErrEventInvalid.Detail("%s: the address is not valid", e.Type)
	}
	n, err := c.cfg.Eraser.DeleteTo(ctx, to)
	if err != nil {
		return fmt.Errorf("mail: forgetting mails to a user: %w", err)
	}
	c.cfg.Log.Info("mails to a user were forgotten", "why", e.Type, "user", d.UserID, "jobs", n)
	return nil
}

// Run subscribes to Topic in the group [Group] until ctx ends. An event that can never be
// handled is logged, and the bus sets it aside on Topic's dead topic, so that it holds up nobody;
// one whose mail cannot be enqueued now comes again. ready, unless nil, is called once, when
// events published from then on will be handled.
func (c *Consumer) Run(ctx context.Context, bus event.Subscriber, ready func()) error {
	handle := func(ctx context.Context, e event.Event) error {
		err := c.Handle(ctx, e)
		switch {
		case err == nil:
		case event.Never(err):
			c.cfg.Log.Error("an event can never become a mail and is set aside", "event", e.ID, "type", e.Type, "error", err)
		default:
			c.cfg.Log.Warn("a mail could not be enqueued; its event comes again", "event", e.ID, "type", e.Type, "error", err)
		}
		return err
	}
	if err := bus.Subscribe(ctx, Topic, Group, handle, ready); err != nil {
		return fmt.Errorf("mail: subscribing to %s: %w", Topic, err)
	}
	return nil
}

// kinds says which mail an event asks for.
var kinds = map[string]Kind{
	TypeUserCreated:       KindVerification,
	TypeVerificationAgain: KindVerification,
	TypeAddressTaken:      KindAddressTaken,
	TypePasswordForgotten: KindPasswordReset,
	TypePasswordChanged:   KindPasswordChanged,
	TypeDeviceSignedIn:    KindNewDevice,
	TypeUserInvited:       KindInvitation,

	TypeEmailChangeRequested: KindEmailChange,
	TypeEmailChanged:         KindEmailChanged,
	TypeLinkRequested:        KindLink,
	TypeFactorChanged:        KindSecondFactor,
}

// payload is the data of a mail: of its event, and of its job.
type payload interface {
	// recipient returns a canonical address and a name that may be empty.
	recipient() (user.Email, string)
	// check canonicalises the payload, and refuses one that no mail can be made of. The
	// error holds no data.
	check() error
	// language is what the recipient reads; empty if that is not known.
	language() string
	// expires is when the mail becomes useless; zero if it does not.
	expires() time.Time
}

// decode reads the data of a mail of that kind. The error holds no data.
func decode(kind Kind, data []byte) (payload, error) {
	var p payload
	switch kind {
	case KindVerification:
		p = new(UserCreated)
	case KindAddressTaken:
		p = new(AddressTaken)
	case KindPasswordReset:
		p = new(PasswordForgotten)
	case KindPasswordChanged:
		p = new(PasswordChanged)
	case KindNewDevice:
		p = new(DeviceSignedIn)
	case KindInvitation:
		p = new(UserInvited)
	case KindEmailChange:
		p = new(EmailChangeRequested)
	case KindEmailChanged:
		p = new(EmailChanged)
	case KindLink:
		p = new(LinkRequested)
	case KindSecondFactor:
		p = new(FactorChanged)
	default:
		return nil, errors.New("there is no mail of this kind")
	}
	if err := json.Unmarshal(data, p); err != nil {
		return nil, errors.New("the data is not JSON of the right shape") // err may quote the data
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return p, nil
}

func (d *UserCreated) recipient() (user.Email, string)       { return user.Email(d.Email), d.FullName }
func (d *AddressTaken) recipient() (user.Email, string)      { return user.Email(d.Email), d.FullName }
func (d *PasswordForgotten) recipient() (user.Email, string) { return user.Email(d.Email), d.FullName }
func (d *PasswordChanged) recipient() (user.Email, string)   { return user.Email(d.Email), d.FullName }
func (d *DeviceSignedIn) recipient() (user.Email, string)    { return user.Email(d.Email), d.FullName }
func (d *UserInvited) recipient() (user.Email, string)       { return user.Email(d.Email), d.FullName }

func (d *EmailChangeRequested) recipient() (user.Email, string) {
	return user.Email(d.Email), d.FullName
}
func (d *EmailChanged) recipient() (user.Email, string) { return user.Email(d.Email), d.FullName }

func (d *LinkRequested) recipient() (user.Email, string) { return user.Email(d.Email), d.FullName }
func (d *LinkRequested) expires() time.Time              { return d.ExpiresAt }
func (d *FactorChanged) recipient() (user.Email, string) { return user.Email(d.Email), d.FullName }
func (d *FactorChanged) expires() time.Time              { return time.Time{} }

func (d *EmailChangeRequested) expires() time.Time { return d.ExpiresAt }
func (d *EmailChanged) expires() time.Time         { return time.Time{} }

func (d *UserInvited) expires() time.Time       { return d.ExpiresAt }
func (d *UserCreated) expires() time.Time       { return d.ExpiresAt }
func (d *AddressTaken) expires() time.Time      { return time.Time{} }
func (d *PasswordForgotten) expires() time.Time { return d.ExpiresAt }
func (d *PasswordChanged) expires() time.Time   { return time.Time{} }
func (d *DeviceSignedIn) expires() time.Time    { return time.Time{} }

func (d *UserCreated) check() error {
	d.Asked.check()
	return errors.Join(checkRecipient(&d.Email, &d.FullName), checkCode(d.VerificationCode, d.ExpiresAt))
}

func (d *AddressTaken) check() error {
	d.Asked.check()
	return checkRecipient(&d.Email, &d.FullName)
}

func (d *PasswordForgotten) check() error {
	return errors.Join(checkRecipient(&d.Email, &d.FullName), checkCode(d.ResetCode, d.ExpiresAt))
}

func (d *UserInvited) check() error {
	return errors.Join(checkRecipient(&d.Email, &d.FullName), checkCode(d.ResetCode, d.ExpiresAt))
}

func (d *PasswordChanged) check() error { return checkNotice(&d.Email, &d.FullName, d.At) }
func (d *EmailChanged) check() error    { return checkNotice(&d.Email, &d.FullName, d.At) }

func (d *EmailChangeRequested) check() error {
	return errors.Join(checkRecipient(&d.Email, &d.FullName), checkCode(d.ChangeCode, d.ExpiresAt))
}

func (d *LinkRequested) check() error {
	return errors.Join(checkRecipient(&d.Email, &d.FullName), checkCode(d.LinkCode, d.ExpiresAt))
}

func (d *FactorChanged) check() error {
	err := checkNotice(&d.Email, &d.FullName, d.At)
	if !slices.Contains(factorChanges, d.Change) {
		err = errors.Join(err, errors.New("nobody knows this change of a second factor"))
	}
	return err
}

// checkNotice checks a mail about what happened at a time.
func checkNotice(email, name *string, at time.Time) error {
	err := checkRecipient(email, name)
	if at.IsZero() {
		err = errors.Join(err, errors.New("the time is missing"))
	}
	return err
}

// check leaves out a device that could not be one of auth's, and what is no shortened network: a mail is owed all the same.
func (d *DeviceSignedIn) check() error {
	if !deviceName.MatchString(d.Device) {
		d.Device = ""
	}
	if network, err := netip.ParsePrefix(d.Network); err != nil || network.IsSingleIP() || network != network.Masked() {
		d.Network = ""
	}
	return checkNotice(&d.Email, &d.FullName, d.At)
}

// deviceName is what a device may be called: nothing that a mail program would turn into a link.
var deviceName = regexp.MustCompile(`^[A-Za-z0-9_-]+( [A-Za-z0-9_-]+){0,7}$`)

// check leaves out what is no address: a mail is owed all the same.
func (a *Asked) check() {
	ip, err := netip.ParseAddr(a.Network)
	if err != nil || ip.Zone() != "" {
		a.Network = ""
		return
	}
	a.Network = ip.String()
}

func checkRecipient(email, name *string) error {
	// A mail is owed whatever somebody is called: a bad name is left out.
	clean, err := user.ParseFullName(*name)
	if err != nil {
		clean = ""
	}
	*name = clean
	canonical, err := user.ParseEmail(*email)
	if err != nil {
		return errors.New("the address is not valid")
	}
	*email = string(canonical)
	return nil
}

// maxCode bounds a code, which becomes part of a link.
const maxCode = 512

func checkCode(code string, expires time.Time) error {
	if code == "" || len(code) > maxCode {
		return errors.New("the code is missing or too long")
	}
	for i := range len(code) {
		if code[i] <= ' ' || code[i] > '~' {
			return errors.New("the code has a character that no code has")
		}
	}
	if expires.IsZero() {
		return errors.New("the expiry is missing")
	}
	return nil
}

// microseconds is a time as it is stored.
func microseconds(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
