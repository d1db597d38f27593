package wire

import (
	"net/http"
	"net/http/pprof"

	vendor "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/adapters/prometheus"
	"github.com/parley-chat/parley/apps/internal/config"
)

// openMetrics makes the metrics of this program.
func (a *App) openMetrics() (err error) {
	a.registry = vendor.NewRegistry()
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	a.metrics, err = prometheus.New(prometheus.Config{Registerer: a.registry, Version: config.ThisBuild().Version})
	return err
}

// openAdmin makes the API of operators, without operations. Nobody's pages may use it.
func (a *App) openAdmin() (err error) {
	s := a.settings
	a.AdminAPI, err = humaapi.New(http.NewServeMux(), humaapi.Config{
		Title: s.Product + " administration", Version: Version, TrustedProxies: s.TrustedRanges, Log: a.log,
		Observe: a.metrics.Request,
	})
	return err
}

// mountAdmin puts what operators look at onto their API.
func (a *App) mountAdmin() error {
	mux := a.AdminAPI.Mux()
	mux.Handle("GET /metrics", prometheus.Handler(a.registry))
	for path, handler := range map[string]http.HandlerFunc{
		"/debug/pprof/": pprof.Index, "/debug/pprof/cmdline": pprof.Cmdline, "/debug/pprof/profile": pprof.Profile,
		"/debug/pprof/symbol": pprof.Symbol, "/debug/pprof/trace": pprof.Trace,
	} {
		guarded, err := humaapi.RequireToken(a.adminToken, handler)
		if err != nil {
			return err
		}
		mux.Handle("GET "+path, guarded)
	}
	return nil
}
