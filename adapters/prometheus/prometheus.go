// Package prometheus counts and measures what Parley does, for Prometheus, by client_golang (v1.25).
//
// [Metrics] are in the registry that a program gives it, which may have metrics of its own:
//
//	m, err := prometheus.New(prometheus.Config{Registerer: registry})
//	…
//	cfg, err = m.Instrument(cfg) // of package core/parley: its ports are decorated, its hooks set
//	…
//	system, err := parley.New(cfg)
//	…
//	err = m.WatchHub(system.Hub, "nbio")
//	…
//	mux.Handle("GET /metrics", prometheus.Handler(registry))
//
// It implements no port of its own: it decorates chat.MessageStore, chat.RecentCache, realtime.Fanout,
// event.Publisher, event.Subscriber and mail.Queue, and reads event.Outbox, mail.Stats, mail.DeadLetters, the hub and
// the health checks when it is asked.
//
// # Guarantees
//
// Decorators change neither what a port does nor what it answers. What is read from elsewhere when metrics are
// gathered is bounded by [ReadTimeout], and asked for at most once in [ReadEvery]; what does not answer is left out.
// No label holds a user, a room or an address: the values of every label are known beforehand but for topics, wire
// formats, operations and the names of events and health checks, which a program chooses. Nothing is allocated for a
// delivery, and a room of any size costs one observation a write of it.
//
// # Names
//
// Every name begins with parley_; docs/operations.md lists them.
//
// # Closing
//
// Nothing here is opened, so nothing is closed.
package prometheus

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/parley-chat/parley/core/settings"
)

// namespace is what every name begins with.
const namespace = "parley"

const (
	// ReadTimeout bounds what is read from a store when metrics are gathered.
	ReadTimeout = 2 * time.Second
	// ReadEvery is how long what was read is good for.
	ReadEvery = 5 * time.Second
)

// Config is what [New] is told.
type Config struct {
	// Registerer takes the metrics. Required: a [prometheus.Registry], or [prometheus.DefaultRegisterer].
	Registerer prometheus.Registerer
	// Version is that of the program, for build_info. Default "unknown".
	Version string
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Metrics are Parley's metrics in one registry. Its methods may be called from many goroutines, but for
// [Metrics.Instrument] and those that watch something, which are for the start of a program.
type Metrics struct {
	registerer prometheus.Registerer
	now        func() time.Time

	requests       *prometheus.CounterVec
	requestSeconds *prometheus.HistogramVec
}

// New registers what every program has: build_info. A registry that has Parley's metrics already is an error.
func New(cfg Config) (*Metrics, error) {
	c := settings.Of("prometheus: Config")
	c.Require("Registerer", cfg.Registerer == nil)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if cfg.Version == "" {
		cfg.Version = "unknown"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	m := &Metrics{registerer: cfg.Registerer, now: cfg.Now}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "Always 1: the version of the program, and of Go.",
		ConstLabels: prometheus.Labels{"version": cfg.Version, "go": runtime.Version()},
	})
	build.Set(1)
	m.requests = counters("http_requests_total", "Requests of operations that were answered, by operation and status.", "operation", "status")
	m.requestSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: "http_request_seconds", Help: "How long operations took, their bodies included.", Buckets: buckets,
	}, []string{"operation"})
	return m, m.register(build, m.requests, m.requestSeconds)
}

// buckets are upper bounds in seconds, each twice the one before: 0.5 ms to 16 s.
var buckets = prometheus.ExponentialBuckets(0.0005, 2, 16)

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func seconds(name, help string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
}

func (m *Metrics) register(all ...prometheus.Collector) error {
	var errs []error
	for _, c := range all {
		errs = append(errs, m.registerer.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("prometheus: %w", err)
	}
	return nil
}

// Request counts a request of an operation that was answered, for humaapi.Config.Observe.
func (m *Metrics) Request(operation string, status int, took time.Duration) {
	m.requests.WithLabelValues(operation, strconv.Itoa(status)).Inc()
	m.requestSeconds.WithLabelValues(operation).Observe(took.Seconds())
}

// Handler serves what a registry has, in the text format of Prometheus and, for who asks for it, OpenMetrics. What
// cannot be gathered is left out.
func Handler(g prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true})
}
