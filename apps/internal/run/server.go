package run

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"
)

// How long a connection may take for what, so that nobody holds its place for ever. A body has a limit
// of its own, which is shorter than what is left of the request's: humaapi.BodyTimeout.
const (
	headerTimeout  = 8 * time.Second  // TLS and the headers, from the first byte
	requestTimeout = 30 * time.Second // the whole request
	answerTimeout  = 30 * time.Second // the answer, from the end of the headers
	idleTimeout    = 90 * time.Second // without a request; longer than proxies keep one, so that they end it
)

// newServer makes the server of everything that is reached over HTTP.
func newServer(handler http.Handler, secure *tls.Config, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout,
		WriteTimeout: answerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 64 << 10,
		TLSConfig: secure,
		ErrorLog:  slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
