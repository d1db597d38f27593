package humaapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/parley-chat/parley/core/health"
	"github.com/parley-chat/parley/core/settings"
)

// readyTimeout bounds each check of /readyz: who asks it routes traffic and asks often.
const readyTimeout = time.Second

// healthEvery is how long an answer of /health is good for: strangers may ask, and each answer
// asks every dependency.
const healthEvery = time.Second

// HealthConfig is what [RegisterHealth] needs. Every field may be zero.
type HealthConfig struct {
	// Checks are the dependencies to ask.
	Checks []health.Check
	// Draining says that this process is about to stop and takes no new work. Default: never.
	Draining func() bool
	// Describe gets why a check failed, for the log; clients are not told. It may be called
	// from several goroutines at once. Default: the API's log.
	Describe func(name string, err error)
}

type liveness struct {
	Status string `json:"status" enum:"ok" example:"ok"`
}

type livenessOutput struct{ Body liveness }

// healthReport is a report in the shape that NestJS Terminus gives it. Texts of errors are not in it,
// since it may be public.
type healthReport struct {
	Status string `json:"status"`
	// Info holds what is up, Error what is down, Details both.
	Info    map[string]map[string]any `json:"info"`
	Error   map[string]map[string]any `json:"error"`
	Details map[string]map[string]any `json:"details"`
}

var statusNames = map[health.Status]string{health.OK: "ok", health.Failing: "error", health.Draining: "shutting_down"}

func reportOf(r health.Report) healthReport {
	shown := healthReport{
		Status: statusNames[r.Status],
		Info:   map[string]map[string]any{}, Error: map[string]map[string]any{}, Details: map[string]map[string]any{},
	}
	for _, result := range r.Results {
		entry := map[string]any{}
		if result.Err == nil {
			maps.Copy(entry, result.Details) // first: a detail cannot pass for the status
			entry["status"], entry["ms"] = "up", float64(result.Took.Microseconds())/1000
			shown.Info[result.Name] = entry
		} else {
			entry["status"], entry["message"] = "down", "failed"
			if errors.Is(result.Err, health.ErrTimeout) {
				entry["message"] = "no answer in time"
			}
			shown.Error[result.Name] = entry
		}
		shown.Details[result.Name] = entry
	}
	return shown
}

type reportOutput struct {
	Status int
	Body   healthReport
}

// RegisterHealth puts three operations onto a. /livez asks nothing. /readyz gives each check at most one second. /health
// gives each check its own time-out, and asks at most once a second. Whoever asks while checks run gets their
// answer. The latter two answer with a report: 200 if everything is up; 503 otherwise, and while draining.
func RegisterHealth(a *API, cfg HealthConfig) error {
	c := settings.Of("humaapi: HealthConfig")
	c.Argument("the API", a == nil)
	for i, check := range cfg.Checks {
		c.Require(fmt.Sprintf("Checks[%d].Name", i), check.Name == "")
		c.Require(fmt.Sprintf("Checks[%d].Probe", i), check.Probe == nil)
	}
	if err := c.Err(); err != nil {
		return err
	}
	if cfg.Draining == nil {
		cfg.Draining = func() bool { return false }
	}
	if cfg.Describe == nil {
		cfg.Describe = func(name string, err error) { a.log.Warn("health check failed", "check", name, "error", err) }
	}
	a.tag("health", "For load balancers and operators.")
	register(a, huma.Operation{
		OperationID: "live", Method: http.MethodGet, Path: "/livez", Tags: []string{"health"},
		Summary: "Whether the process answers", Description: "No dependency is asked.",
		Responses: answers(http.StatusOK, "It does."),
	}, nil, func(context.Context, *noInput) (*livenessOutput, error) {
		return &livenessOutput{Body: liveness{Status: statusNames[health.OK]}}, nil
	})
	quick := make([]health.Check, len(cfg.Checks))
	for i, c := range cfg.Checks {
		if c.Timeout <= 0 || c.Timeout > readyTimeout {
			c.Timeout = readyTimeout
		}
		quick[i] = c
	}
	a.report(huma.Operation{
		OperationID: "ready", Path: "/readyz",
		Summary: "Whether requests may be sent here", Description: "Each dependency gets one second. False while draining.",
	}, health.NewReporter(quick, 0, cfg.Describe), cfg)
	a.report(huma.Operation{
		OperationID: "health", Path: "/health",
		Summary: "The state of every dependency", Description: "The shape is that of NestJS Terminus. It is found out at most once a second.",
	}, health.NewReporter(cfg.Checks, healthEvery, cfg.Describe), cfg)
	return nil
}

func (a *API) report(op huma.Operation, checks *health.Reporter, cfg HealthConfig) {
	op.Method, op.Tags = http.MethodGet, []string{"health"}
	op.Responses = answers(http.StatusOK, "Everything is up.")
	register(a, op, nil, func(ctx context.Context, _ *noInput) (*reportOutput, error) {
		r := checks.Report(ctx, cfg.Draining())
		status := http.StatusOK
		if r.Status != health.OK {
			status = http.StatusServiceUnavailable
		}
		return &reportOutput{Status: status, Body: reportOf(r)}, nil
	})
	get := a.OpenAPI().Paths[op.Path].Get
	get.Responses["503"] = &huma.Response{
		Description: "Something is down, or this process is stopping.",
		Content:     map[string]*huma.MediaType{mediaJSON: get.Responses["200"].Content[mediaJSON]},
	}
}
