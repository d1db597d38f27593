// Package prometheus counts and measures what Parley does, for Prometheus, by client_golang (v1.25).
package prometheus

import (
	"errors"
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// namespace is what every name begins with.
const namespace = "parley"

// Config is what [New] is told.
type Config struct {
	// Registerer takes the metrics. Required; an application gives its own, such as
	// [prometheus.DefaultRegisterer] or a [prometheus.Registry].
	Registerer prometheus.Registerer
	// Version is that of the program, for build_info. Default "unknown".
	Version string
}

// Metrics are Parley's metrics in one registry.
type Metrics struct{}

// New registers the metrics. What a registry has already is an error.
func New(cfg Config) (*Metrics, error) {
	if cfg.Registerer == nil {
		return nil, errors.New("prometheus: the Registerer is required")
	}
	if cfg.Version == "" {
		cfg.Version = "unknown"
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "Always 1: the version of the program, and of Go.",
		ConstLabels: prometheus.Labels{"version": cfg.Version, "go": runtime.Version()},
	})
	build.Set(1)
	if err := cfg.Registerer.Register(build); err != nil {
		return nil, err
	}
	return &Metrics{}, nil
}

// Handler serves what a registry has gathered.
func Handler(g prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{})
}
