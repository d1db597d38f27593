package otel_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/otel"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/problem"
)

// The provider is a program's own, or that of Open. Instrument traces what a system does, and Handler its requests.
func Example() {
	kept := tracetest.NewInMemoryExporter() // in place of a collector
	provider := trace.NewTracerProvider(trace.WithSyncer(kept))
	defer func() { _ = provider.Shutdown(context.Background()) }()
	tracer, err := otel.New(otel.Config{Provider: provider})
	if err != nil {
		fmt.Println(err)
		return
	}
	system, err := parley.New(tracer.Instrument(parley.Config{Ports: memory.NewPorts(), PublicURL: "http://localhost"}))
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /codes/{purpose}", func(w http.ResponseWriter, r *http.Request) { // of one's own
		if err := system.Auth.ForgotPassword(r.Context(), auth.Client{}, "ada@example.com"); err != nil {
			problem.Write(w, err)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	})

	tracer.Handler(mux).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/codes/password", nil))
	for _, span := range kept.GetSpans() {
		fmt.Println(span.SpanKind, span.Name)
	}
	// Output: server POST /codes/{purpose}
}
