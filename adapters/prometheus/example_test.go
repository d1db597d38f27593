package prometheus_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	vendor "github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/prometheus"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/user"
)

// A node is instrumented before it is made. The registry is the program's own.
func Example() {
	registry := vendor.NewRegistry()
	metrics, err := prometheus.New(prometheus.Config{Registerer: registry, Version: "v1.2.3"})
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg, err := metrics.Instrument(parley.Config{Ports: memory.NewPorts(), Authenticator: memory.NewAuthenticator()})
	if err != nil {
		fmt.Println(err)
		return
	}
	node, err := parley.NewNode(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := metrics.WatchHub(node.Hub, "memory"); err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- node.Run(ctx, func() { close(ready) }) }()
	<-ready

	ada := memory.Connect(node.Hub, user.Identity{UserID: "ada", Name: "Ada"})
	for _, said := range []string{
		`{"id":1,"event":"join_room","data":{"room":"hall"}}`,
		`{"id":2,"event":"message","data":{"room":"hall","text":"Good morning"}}`,
	} {
		if err := ada.Write([]byte(said), false); err != nil {
			fmt.Println(err)
			return
		}
		if _, err := ada.Read(ctx); err != nil { // the answer
			fmt.Println(err)
			return
		}
	}

	answer := httptest.NewRecorder()
	prometheus.Handler(registry).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if line := lines.Text(); strings.HasPrefix(line, "parley_messages_total") || strings.HasPrefix(line, "parley_connections{") {
			fmt.Println(line)
		}
	}
	cancel()
	fmt.Println(<-ended)
	// Output:
	// parley_connections{format="parley.v1",transport="memory"} 1
	// parley_messages_total 1
	// <nil>
}
