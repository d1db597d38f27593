package otel

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/user"
)

// Instrument returns cfg with ports that make spans, and with the hub's hook. A port that is missing stays so.
func (t *Tracer) Instrument(cfg parley.Config) parley.Config {
	if cfg.Users != nil {
		cfg.Users = users{cfg.Users, t}
	}
	if cfg.SignUps != nil {
		cfg.SignUps = signUps{cfg.SignUps, t}
	}
	if cfg.Codes != nil {
		cfg.Codes = codeStore{cfg.Codes, t}
	}
	if cfg.Factors != nil {
		cfg.Factors = factorStore{cfg.Factors, t}
	}
	if cfg.Sessions != nil {
		cfg.Sessions = sessions{cfg.Sessions, t}
	}
	if cfg.Publisher != nil {
		cfg.Publisher = publisher{cfg.Publisher, t}
	}
	if cfg.Subscriber != nil {
		cfg.Subscriber = subscriber{cfg.Subscriber, t}
	}
	if cfg.MailQueue != nil {
		cfg.MailQueue = queue{cfg.MailQueue, t}
	}
	if cfg.Sender != nil {
		cfg.Sender = sender{cfg.Sender, t}
	}
	if cfg.Messages != nil {
		cfg.Messages = messages{cfg.Messages, t}
	}
	if cfg.Marks != nil {
		cfg.Marks = marks{cfg.Marks, t}
	}
	before := cfg.Hub.Handling
	cfg.Hub.Handling = func(ctx context.Context, name string) (context.Context, func(error)) {
		ended := func(error) {}
		if before != nil {
			ctx, ended = before(ctx, name)
		}
		ctx, span := t.tracer.Start(ctx, "socket "+name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("parley.event", name)))
		return ctx, func(err error) {
			end(span, err)
			ended(err)
		}
	}
	return cfg
}

// remember keeps the span that events come from.
func (t *Tracer) remember(ctx context.Context, events []event.Event) {
	for i := range events {
		t.pending.keep(ctx, events[i].ID)
	}
}

type users struct {
	user.Repository
	t *Tracer
}

// Create is user.Repository's.
func (d users) Create(ctx context.Context, u user.User, events ...event.Event) error {
	d.t.remember(ctx, events)
	return d.Repository.Create(ctx, u, events...)
}

// Update is user.Repository's.
func (d users) Update(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
	d.t.remember(ctx, events)
	return d.Repository.Update(ctx, id, change, events...)
}

type signUps struct {
	auth.SignUps
	t *Tracer
}

// Create is auth.SignUps's.
func (d signUps) Create(ctx context.Context, w auth.WaitingSignUp, keep int, events ...event.Event) error {
	d.t.remember(ctx, events)
	return d.SignUps.Create(ctx, w, keep, events...)
}

type codeStore struct {
	auth.CodeStore
	t *Tracer
}

// Put is auth.CodeStore's.
func (d codeStore) Put(ctx context.Context, c auth.Code, events ...event.Event) error {
	d.t.remember(ctx, events)
	return d.CodeStore.Put(ctx, c, events...)
}

type factorStore struct {
	auth.FactorStore
	t *Tracer
}

// Update is auth.FactorStore's.
func (d factorStore) Update(ctx context.Context, id user.ID, change func(*auth.Factor) error, events ...event.Event) (auth.Factor, error) {
	d.t.remember(ctx, events)
	return d.FactorStore.Update(ctx, id, change, events...)
}

type sessions struct {
	auth.SessionStore
	t *Tracer
}

// Create is auth.SessionStore's.
func (d sessions) Create(ctx context.Context, s auth.Session, events ...event.Event) error {
	d.t.remember(ctx, events)
	return d.SessionStore.Create(ctx, s, events...)
}

// Update is auth.SessionStore's.
func (d sessions) Update(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
	d.t.remember(ctx, events)
	return d.SessionStore.Update(ctx, id, change, events...)
}

// about are the attributes of an event.
func about(e event.Event) trace.SpanStartEventOption {
	return trace.WithAttributes(attribute.String("messaging.destination.name", e.Topic), attribute.String("parley.event.id", e.ID), attribute.String("parley.event.type", e.Type))
}

type publisher struct {
	event.Publisher
	t *Tracer
}

// Publish is event.Publisher's.
func (d publisher) Publish(ctx context.Context, events ...event.Event) error {
	spans := make([]trace.Span, len(events))
	for i, e := range events {
		_, spans[i] = d.t.tracer.Start(d.t.pending.under(ctx, e.ID), "publish "+e.Type, trace.WithSpanKind(trace.SpanKindProducer), about(e))
	}
	err := d.Publisher.Publish(ctx, events...)
	for _, s := range spans {
		end(s, err)
	}
	return err
}

type subscriber struct {
	event.Subscriber
	t *Tracer
}

// Subscribe is event.Subscriber's.
func (d subscriber) Subscribe(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
	return d.Subscriber.Subscribe(ctx, topic, group, func(ctx context.Context, e event.Event) error {
		ctx, span := d.t.tracer.Start(d.t.pending.under(ctx, e.ID), "process "+e.Type, trace.WithSpanKind(trace.SpanKindConsumer), about(e))
		err := handle(ctx, e)
		end(span, err)
		return err
	}, ready)
}

type queue struct {
	mail.Queue
	t *Tracer
}

// Enqueue is mail.Queue's.
func (d queue) Enqueue(ctx context.Context, j mail.Job) error {
	d.t.pending.keep(ctx, j.ID)
	return d.Queue.Enqueue(ctx, j)
}

type sender struct {
	mail.Sender
	t *Tracer
}

// Send is mail.Sender's.
func (d sender) Send(ctx context.Context, m mail.Message) error {
	job, _, _ := strings.Cut(m.ID, "@") // it is made of the job's
	ctx, span := d.t.tracer.Start(d.t.pending.under(ctx, job), "send mail", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.String("parley.mail.id", job)))
	err := d.Sender.Send(ctx, m)
	end(span, err)
	return err
}

type messages struct {
	chat.MessageStore
	t *Tracer
}

// Recording is chat.Recorder's.
func (d messages) Recording(record chat.Record) (chat.MessageStore, error) {
	recording, err := chat.Recording(d.MessageStore, record)
	if err != nil {
		return nil, err
	}
	return messages{recording, d.t}, nil
}

// Change is chat.MessageStore's.
func (d messages) Change(ctx context.Context, batch []chat.Change) ([]chat.Changed, error) {
	ctx, span := d.t.tracer.Start(ctx, "change messages", trace.WithAttributes(attribute.Int("parley.changes", len(batch))))
	changed, err := d.MessageStore.Change(ctx, batch)
	end(span, err)
	return changed, err
}

// Append is chat.MessageStore's.
func (d messages) Append(ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
	ctx, span := d.t.tracer.Start(ctx, "append messages", trace.WithAttributes(attribute.Int("parley.messages", len(batch))))
	stored, err := d.MessageStore.Append(ctx, batch)
	end(span, err)
	return stored, err
}

type marks struct {
	chat.Marks
	t *Tracer
}

// Mark is chat.Marks's.
func (d marks) Mark(ctx context.Context, batch []chat.Mark) ([]chat.Marked, error) {
	ctx, span := d.t.tracer.Start(ctx, "move marks", trace.WithAttributes(attribute.Int("parley.marks", len(batch))))
	marked, err := d.Marks.Mark(ctx, batch)
	end(span, err)
	return marked, err
}
