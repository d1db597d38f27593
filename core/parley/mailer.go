package parley

import (
	"context"
	"errors"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/settings"
)

// Mailer is the part that sends what is owed. It requires the ports Subscriber, MailQueue,
// DeadLetters, MailStats and Sender, and [Config.PublicURL].
type Mailer struct {
	DeadLetters *mail.DeadLetterService

	bus      event.Subscriber
	consumer *mail.Consumer
	worker   *mail.Worker
}

// NewMailer checks the configuration, all of it at once, and connects the part.
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
	cfg.share(&w.Now, nil, nil, &w.Log)
	if w.Templates, errs[0] = mail.NewTemplates(cfg.Templates); errs[0] == nil {
		p.worker, errs[1] = mail.NewWorker(w)
	}
	wake := func() { p.worker.Wake() }
	p.consumer, errs[2] = mail.NewConsumer(mail.ConsumerConfig{Queue: cfg.MailQueue, Eraser: cfg.DeadLetters, Enqueued: wake, Now: cfg.Now, NewID: cfg.NewID, Log: cfg.Log})
	p.DeadLetters, errs[3] = mail.NewDeadLetterService(mail.DeadLetterConfig{
		Letters: cfg.DeadLetters, Stats: cfg.MailStats, Requeued: wake, Refresh: cfg.RenewMail, Now: cfg.Now,
	})
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return p, nil
}

// mailer refuses what is missing for a mailer, and ports that stand in the wrong place.
func (cfg *Config) mailer(c *settings.Check) {
	c.Require("Subscriber", cfg.Subscriber == nil)
	c.Require("MailQueue", cfg.MailQueue == nil)
	c.Require("DeadLetters", cfg.DeadLetters == nil)
	c.Require("MailStats", cfg.MailStats == nil)
	c.Require("Sender", cfg.Sender == nil)
	c.Require("PublicURL", cfg.PublicURL == "" && cfg.Templates.PublicURL == "")
	stray(c, "Worker.Queue", cfg.Worker.Queue != nil)
	stray(c, "Worker.Sender", cfg.Worker.Sender != nil)
	if cfg.Worker.Templates != nil {
		c.Refuse("Worker.Templates", "is set, and would not be used: they are made of Config.Templates")
	}
}

// Run takes events from the bus and sends mails until ctx ends, lets those under way finish, and
// returns nil; an error says that it can no longer take events. ready, unless nil, is called once,
// when events published from then on will become mails. It may be called once.
func (p *Mailer) Run(ctx context.Context, ready func()) error {
	g := newGroup(ctx)
	g.run("worker", p.worker.Run)
	g.run("consumer", func(ctx context.Context) error { return p.consumer.Run(ctx, p.bus, ready) })
	return g.wait()
}
