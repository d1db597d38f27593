package wire

import (
	"context"
	"errors"
	"net/http"
	"net/http/pprof"
	"time"

	vendor "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	gootel "go.opentelemetry.io/otel"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/otel"
	"github.com/parley-chat/parley/adapters/prometheus"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/core/audit"
)

// openMetrics makes the metrics of this program.
func (a *App) openMetrics() (err error) {
	a.registry = vendor.NewRegistry()
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a.metrics, err = prometheus.New(prometheus.Config{Registerer: a.registry, Version: config.ThisBuild().Version})
	return err
}

// openTraces begins to export traces, if the settings say so.
func (a *App) openTraces(ctx context.Context) error {
	if a.settings.Traces != "otlp" {
		return nil
	}
	gootel.SetErrorHandler(gootel.ErrorHandlerFunc(func(err error) { a.log.Warn("traces are not exported", "error", err) })) // one for the process
	provider, err := otel.Open(ctx, string(a.settings.Program), config.ThisBuild().Version)
	if err != nil {
		return err
	}
	a.closers = append(a.closers, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), tracesTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			a.log.Warn("the last traces were not exported", "error", err)
		}
		return nil
	})
	a.tracer, err = otel.New(otel.Config{Provider: provider})
	return err
}

// traced makes spans of requests, if the settings say so.
func (a *App) traced(next http.Handler) http.Handler {
	if a.tracer == nil {
		return next
	}
	return a.tracer.Handler(next)
}

// tracesTimeout bounds the export of the last spans at the end.
const tracesTimeout = 500 * time.Millisecond

// openAudit makes what records the actions of operators, in the store of this program.
func (a *App) openAudit() (err error) {
	a.audit, err = audit.New(audit.Config{Log: a.ports.Audit, Retention: a.settings.AuditRetention, Logger: a.log})
	if err != nil {
		return err
	}
	parts := a.parts
	a.parts = func(ctx context.Context) error {
		swept := make(chan error, 1)
		sweeping, enough := context.WithCancel(ctx)
		go func() { swept <- a.audit.Run(sweeping) }()
		err := parts(ctx)
		enough()
		return errors.Join(err, <-swept)
	}
	return nil
}

// openAdmin makes the API of operators, without operations. Nobody's pages may use it.
func (a *App) openAdmin() (err error) {
	s := a.settings
	a.AdminAPI, err = humaapi.New(http.NewServeMux(), humaapi.Config{
		Title: s.Product + " administration", Version: Version, TrustedProxies: s.TrustedRanges, Log: a.log,
		Observe: a.metrics.Request, Audit: a.audit,
	})
	return err
}

// mountAdmin puts what operators look at onto their API.
func (a *App) mountAdmin() error {
	if err := humaapi.RegisterAudit(a.AdminAPI, humaapi.AuditConfig{Service: a.audit, CurrentToken: a.adminToken}); err != nil {
		return err
	}
	mux := a.AdminAPI.Mux()
	mux.Handle("GET /metrics", prometheus.Handler(a.registry))
	for path, handler := range map[string]http.HandlerFunc{
		"/debug/pprof/": pprof.Index, "/debug/pprof/cmdline": pprof.Cmdline, "/debug/pprof/profile": pprof.Profile,
		"/debug/pprof/symbol": pprof.Symbol, "/debug/pprof/trace": pprof.Trace,
	} {
		guarded, err := a.AdminAPI.RequireToken(a.adminToken, handler)
		if err != nil {
			return err
		}
		mux.Handle("GET "+path, guarded)
	}
	return nil
}
