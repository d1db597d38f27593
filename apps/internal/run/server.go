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

// strictTransport is a year, and this host alone: what is on others below its name is not known here (RFC 6797 section 6.1).
const strictTransport = "max-age=31536000"

// newServer makes the server of everything that is reached over HTTP. https says that clients reach it by TLS, its own or that of a
// proxy in front.
func newServer(handler http.Handler, secure *tls.Config, https bool, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: secured(handler, https), ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout,
		WriteTimeout: answerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 64 << 10,
		TLSConfig: secure,
		ErrorLog:  slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// secured gives every answer headers that keep a browser from taking it for something else: what is served sets its own over them.
func secured(handler http.Handler, https bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'") // pprof has styles
		if https {
			h.Set("Strict-Transport-Security", strictTransport)
		}
		handler.ServeHTTP(w, r)
	})
}
