package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/user"
)

// ErrEventInvalid says that an event is no fact.
var ErrEventInvalid = fault.New(fault.Invalid, "webhook_event_invalid", "the event is no fact that can be delivered")

// ConsumerConfig is what a [Consumer] needs.
type ConsumerConfig struct {
	Queue mail.Queue // required
	// Eraser forgets what waits about somebody or something. Required.
	Eraser mail.Eraser
	// Enqueued, if set, is called after a job was put on the queue. It must not block.
	Enqueued func()
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// NewID makes job identifiers that ascend with time. Default [event.NewID].
	NewID func() string
	// Log gets events that can never be delivered, and those that come again. Default: nothing.
	Log *slog.Logger
}

// Consumer turns events into jobs. Handle is an event.Handler. Its methods may be called from many goroutines.
type Consumer struct{ cfg ConsumerConfig }

// NewConsumer checks the configuration, all of it at once.
func NewConsumer(cfg ConsumerConfig) (*Consumer, error) {
	c := settings.Of("webhook: ConsumerConfig")
	c.Require("Queue", cfg.Queue == nil)
	c.Require("Eraser", cfg.Eraser == nil)
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

// Handle enqueues the delivery of a fact, once per e.ID, after it has forgotten what the fact makes forgotten. An event that is no fact is ErrEventInvalid, of
// kind Invalid: it can never be handled.
func (c *Consumer) Handle(ctx context.Context, e event.Event) error {
	var f FactData
	switch err := json.Unmarshal(e.Data, &f); { // the error may quote the data
	case err != nil || e.ID == "" || f.About == "" && f.Room == "":
		return ErrEventInvalid.Detail("its data is not of the right shape")
	}
	about := user.Email(f.About)
	if f.Forgets {
		n, err := c.cfg.Eraser.DeleteTo(ctx, about)
		if err != nil {
			return fmt.Errorf("webhook: forgetting deliveries: %w", err)
		}
		if n > 0 {
			c.cfg.Log.Debug("deliveries were forgotten", "type", e.Type, "jobs", n)
		}
	}
	if len(f.Body) == 0 {
		return nil
	}
	now := c.cfg.Now().UTC().Truncate(time.Microsecond)
	j := mail.Job{
		ID: c.cfg.NewID(), Key: e.ID, Kind: mail.Kind(e.Type), To: about, Name: f.Room, Data: f.Body,
		State: mail.Ready, RunAt: now, CreatedAt: now, UpdatedAt: now,
	}
	if err := c.cfg.Queue.Enqueue(ctx, j); err != nil {
		return fmt.Errorf("webhook: enqueueing %s: %w", e.Type, err)
	}
	c.cfg.Enqueued()
	return nil
}

// Run subscribes to Topic in the group [Group] until ctx ends. An event that can never be handled is logged, and the bus sets it aside; one that
// cannot be enqueued now comes again. ready, unless nil, is called once, when events published from then on will be handled.
func (c *Consumer) Run(ctx context.Context, bus event.Subscriber, ready func()) error {
	handle := func(ctx context.Context, e event.Event) error {
		err := c.Handle(ctx, e)
		switch {
		case err == nil:
		case event.Never(err):
			c.cfg.Log.Error("an event can never be delivered and is set aside", "event", e.ID, "type", e.Type, "error", err)
		default:
			c.cfg.Log.Warn("a delivery could not be enqueued; its event comes again", "event", e.ID, "type", e.Type, "error", err)
		}
		return err
	}
	if err := bus.Subscribe(ctx, Topic, Group, handle, ready); err != nil {
		return fmt.Errorf("webhook: subscribing to %s: %w", Topic, err)
	}
	return nil
}
