// Package otel traces what Parley does, by OpenTelemetry (v1.36).
//
// [Tracer] makes spans of requests, of events on sockets, of commits, of events between services and of mails, by
// decorating ports and by hooks, like package prometheus:
//
//	t, err := otel.New(otel.Config{Provider: provider})
//	…
//	system, err := parley.New(t.Instrument(cfg))
//	…
//	http.ListenAndServe("localhost:5002", t.Handler(api))
//
// [Open] makes a provider that exports by OTLP over HTTP, which the standard variables configure (OTEL_EXPORTER_OTLP_ENDPOINT,
// OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME and others).
//
// # Guarantees
//
// A request that names a trace (traceparent, W3C Trace Context) goes on with it. From a sign-up in the same process to its
// mail it is one trace: the request, the publishing of its event, the handling of that, and the sending of the mail. Decorators
// change neither what a port does nor what it answers.
//
// No attribute holds a user, a room, an address, a text or a code. The names of spans are operations' patterns,
// names and types of events: few.
//
// # Exceptions
//
// An event carries no trace to another process, and none over a restart: there a trace begins with the handling, and the attribute
// parley.event.id, which both sides have, leads from one to the other. So it is after more than Config.MaxPending events or
// mails that wait. The span of a message on a socket ends when the message joins a batch. The commit of the batch is a trace of its
// own, since it is that of many.
//
// # Closing
//
// [Open] returns what ends the export. Nothing else here is opened.
package otel

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

// name is that of the tracer.
const name = "github.com/parley-chat/parley/adapters/otel"

// Config is what [New] is told.
type Config struct {
	// Provider takes the spans. Required.
	Provider trace.TracerProvider
	// Propagator reads the trace that a request names. Default: W3C Trace Context.
	Propagator propagation.TextMapPropagator
	// MaxPending is how many events and mails that wait are remembered with their traces; beyond it the oldest is
	// forgotten. Default 10,000.
	MaxPending int
}

// Tracer makes spans. Its methods may be called from many goroutines.
type Tracer struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	pending    pending
}

// New checks the configuration.
func New(cfg Config) (*Tracer, error) {
	c := settings.Of("otel: Config")
	c.Require("Provider", cfg.Provider == nil)
	settings.Default(c, "MaxPending", &cfg.MaxPending, 10_000)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if cfg.Propagator == nil {
		cfg.Propagator = propagation.TraceContext{}
	}
	return &Tracer{
		tracer: cfg.Provider.Tracer(name), propagator: cfg.Propagator,
		pending: pending{most: cfg.MaxPending, spans: map[string]trace.SpanContext{}},
	}, nil
}

// pending are the spans that events and mails come from, by their ids.
type pending struct {
	most int

	mu    sync.Mutex
	spans map[string]trace.SpanContext
	order []string // a ring once it is full
	next  int
}

// keep remembers the span of ctx, if there is one.
func (p *pending) keep(ctx context.Context, id string) {
	s := trace.SpanContextFromContext(ctx)
	if !s.IsValid() || id == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.spans[id]; !known {
		if len(p.order) < p.most {
			p.order = append(p.order, id)
		} else {
			delete(p.spans, p.order[p.next])
			p.order[p.next] = id
			p.next = (p.next + 1) % p.most
		}
	}
	p.spans[id] = s
}

// under returns ctx in the span that was remembered, or ctx.
func (p *pending) under(ctx context.Context, id string) context.Context {
	p.mu.Lock()
	s, known := p.spans[id]
	p.mu.Unlock()
	if !known {
		return ctx
	}
	return trace.ContextWithSpanContext(ctx, s)
}

// end ends a span. What failed through a client's doing is no error of ours.
func end(s trace.Span, err error) {
	if err != nil {
		public := fault.Public(err)
		s.SetAttributes(attribute.String("parley.code", public.Code))
		if kind := fault.KindOf(err); kind == fault.Internal || kind == fault.Unavailable {
			s.SetStatus(codes.Error, public.Code)
		}
	}
	s.End()
}

// Handler makes a span of each request. What takes over its connection, as sockets do, has none: its events have.
func (t *Tracer) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			next.ServeHTTP(w, r)
			return
		}
		ctx := t.propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := t.tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("http.request.method", method(r.Method))))
		defer span.End()
		r = r.WithContext(ctx)
		answer := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(answer, r)
		if r.Pattern != "" { // which the mux has set
			span.SetName(r.Pattern)
			span.SetAttributes(attribute.String("http.route", r.Pattern))
		} else {
			span.SetName(method(r.Method))
		}
		span.SetAttributes(attribute.Int("http.response.status_code", answer.status))
		if answer.status >= http.StatusInternalServerError {
			span.SetStatus(codes.Error, fmt.Sprint(answer.status))
		}
	})
}

// method is that of a request, if it is one of HTTP's: a client may send any word.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "_OTHER"
}

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the writer below.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
