package parley

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/webhook"
)

// Mailer is the part that sends what is owed. It requires the ports Subscriber, MailQueue,
// DeadLetters, MailStats and Sender, and [Config.PublicURL]. With an Endpoint it delivers webhooks as well, and requires WebhookQueue, WebhookLetters and WebhookStats.
type Mailer struct {
	DeadLetters *mail.DeadLetterService
	// Webhooks is a person's view of the deliveries; nil without WebhookLetters and WebhookStats.
	Webhooks *mail.DeadLetterService

	hooks    *webhook.Consumer // nil without Endpoint
	delivers *mail.Worker
	bus      event.Subscriber
	consumer *mail.Consumer
	worker   *mail.Worker
}

// NewMailer checks the configuration, all of it at once, and connects the part. Where [Config].WebhookWorker says nothing, a delivery is tried 15 times within about a
// day (Backoff 5 seconds, MaxBackoff 12 hours), for 15 seconds each, 64 at once; a server that wants fewer is offered one a second; and what was delivered is known for an hour.
func NewMailer(cfg Config) (*Mailer, error) {
	c := settings.Of("parley: Config")
	cfg.defaults(c)
	cfg.mailer(c)
	if err := c.Err(); err != nil {
		return nil, err
	}
	p := &Mailer{bus: cfg.Subscriber}
	var errs [4]error
	if cfg.Templates.PublicURL == "" {
		cfg.Templates.PublicURL = cfg.PublicURL
	}
	w := cfg.Worker
	w.Queue, w.Sender = cfg.MailQueue, cfg.Sender
	if w.Renew == nil {
		w.Renew = cfg.RenewMail
	}
	cfg.share(&w.Now, nil, nil, &w.Log)
	if w.Templates, errs[0] = mail.NewTemplates(cfg.Templates); errs[0] == nil {
		p.worker, errs[1] = mail.NewWorker(w)
	}
	wake := func() { p.worker.Wake() }
	p.consumer, errs[2] = mail.NewConsumer(mail.ConsumerConfig{Queue: cfg.MailQueue, Eraser: cfg.DeadLetters, Enqueued: wake, Now: cfg.Now, NewID: cfg.NewID, Log: cfg.Log})
	p.DeadLetters, errs[3] = mail.NewDeadLetterService(mail.DeadLetterConfig{
		Letters: cfg.DeadLetters, Stats: cfg.MailStats, Requeued: wake, Refresh: cfg.RenewMail, Now: cfg.Now,
	})
	if err := errors.Join(append(errs[:], p.openWebhooks(cfg))...); err != nil {
		return nil, err
	}
	return p, nil
}

// openWebhooks connects what delivers, where there is an Endpoint, and who looks at deliveries.
func (p *Mailer) openWebhooks(cfg Config) error {
	wake := func() {
		if p.delivers != nil {
			p.delivers.Wake()
		}
	}
	var errs [3]error
	if cfg.WebhookLetters != nil && cfg.WebhookStats != nil {
		p.Webhooks, errs[2] = mail.NewDeadLetterService(mail.DeadLetterConfig{Letters: cfg.WebhookLetters, Stats: cfg.WebhookStats, Requeued: wake, Now: cfg.Now})
	}
	if cfg.Endpoint == nil {
		return errs[2]
	}
	w := cfg.WebhookWorker
	w.Queue, w.Performer, w.Lane = cfg.WebhookQueue, webhook.Performer(cfg.Endpoint), webhook.Lane
	preset(&w.MaxAttempts, 15)
	preset(&w.Concurrency, 64)
	preset(&w.SendTimeout, 15*time.Second)
	preset(&w.MaxBackoff, 12*time.Hour)
	preset(&w.MaxPace, max(time.Second, w.Pace))
	preset(&w.Retention, time.Hour)
	cfg.share(&w.Now, nil, nil, &w.Log)
	p.delivers, errs[0] = mail.NewWorker(w)
	p.hooks, errs[1] = webhook.NewConsumer(webhook.ConsumerConfig{Queue: cfg.WebhookQueue, Eraser: cfg.WebhookLetters, Enqueued: wake, Now: cfg.Now, NewID: cfg.NewID, Log: cfg.Log})
	return errors.Join(errs[:]...)
}

// preset is a default.
func preset[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// mailer refuses what is missing for a mailer, and ports that stand in the wrong place.
func (cfg *Config) mailer(c *settings.Check) {
	c.Require("Subscriber", cfg.Subscriber == nil)
	c.Require("MailQueue", cfg.MailQueue == nil)
	c.Require("DeadLetters", cfg.DeadLetters == nil)
	c.Require("MailStats", cfg.MailStats == nil)
	c.Require("Sender", cfg.Sender == nil)
	c.Require("PublicURL", cfg.PublicURL == "" && cfg.Templates.PublicURL == "")
	if cfg.Endpoint != nil {
		c.Require("WebhookQueue", cfg.WebhookQueue == nil)
		c.Require("WebhookLetters", cfg.WebhookLetters == nil)
		c.Require("WebhookStats", cfg.WebhookStats == nil)
	}
	stray(c, "WebhookWorker.Queue", cfg.WebhookWorker.Queue != nil)
	stray(c, "WebhookWorker.Sender", cfg.WebhookWorker.Sender != nil)
	stray(c, "WebhookWorker.Performer", cfg.WebhookWorker.Performer != nil)
	stray(c, "Worker.Performer", cfg.Worker.Performer != nil)
	stray(c, "Worker.Queue", cfg.Worker.Queue != nil)
	stray(c, "Worker.Sender", cfg.Worker.Sender != nil)
	if cfg.WebhookWorker.Templates != nil {
		c.Refuse("WebhookWorker.Templates", "is set, and would not be used: deliveries have none")
	}
	if cfg.WebhookWorker.Lane != nil {
		c.Refuse("WebhookWorker.Lane", "is set, and would not be used: the lane of a delivery is that of webhook.Lane")
	}
	if cfg.Worker.Templates != nil {
		c.Refuse("Worker.Templates", "is set, and would not be used: they are made of Config.Templates")
	}
}

// Run takes events from the bus, sends mails and delivers webhooks until ctx ends, lets those under way finish, and
// returns nil; an error says that it can no longer take events. ready, unless nil, is called once,
// when events published from then on will be handled. It may be called once.
func (p *Mailer) Run(ctx context.Context, ready func()) error {
	g := newGroup(ctx)
	g.run("worker", p.worker.Run)
	var missing atomic.Int32
	missing.Store(1)
	heard := func() {
		if missing.Add(-1) == 0 && ready != nil {
			ready()
		}
	}
	if p.hooks != nil {
		missing.Store(2)
		g.run("webhook worker", p.delivers.Run)
		g.run("webhook consumer", func(ctx context.Context) error { return p.hooks.Run(ctx, p.bus, heard) })
	}
	g.run("consumer", func(ctx context.Context) error { return p.consumer.Run(ctx, p.bus, heard) })
	return g.wait()
}
