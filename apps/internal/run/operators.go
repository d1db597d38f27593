package run

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/parley-chat/parley/apps/internal/config"
)

// operatorsTimeout is how long requests of operators may go on at the end, when all else is settled.
const operatorsTimeout = 500 * time.Millisecond

// operators is the listener for operators. Where it is off, it does nothing.
type operators struct {
	listener net.Listener // nil where it is off
	secure   *tls.Config  // nil for plain HTTP
	server   *http.Server // nil until it serves
	ended    chan struct{}
}

// orOff says of a setting that it may be off.
var orOff = map[string]string{"admin-listen": ", or off"}

// listen listens on the address of a setting.
func listen(ctx context.Context, setting, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("the address %s is in use; choose another with --%s%s", address, setting, orOff[setting])
	case err != nil:
		return nil, fmt.Errorf("cannot listen on %s (--%s): %w", address, setting, err)
	}
	return l, nil
}

// adminOverTLS reports whether operators are served by TLS: with the certificate of everybody else, and not
// on loopback, where nobody listens in and a scrape needs no authority.
func adminOverTLS(s config.Settings) bool {
	host, _, _ := net.SplitHostPort(s.AdminListen) // config has checked it
	address, err := netip.ParseAddr(host)
	return s.TLSCert != "" && !strings.EqualFold(host, "localhost") && (err != nil || !address.IsLoopback())
}

// openOperators takes the address for operators; secure is what everybody else is served with, nil for plain HTTP.
func openOperators(ctx context.Context, s config.Settings, secure *tls.Config) (*operators, error) {
	if s.AdminListen == config.Off {
		return &operators{}, nil
	}
	l, err := listen(ctx, "admin-listen", s.AdminListen)
	if err != nil {
		return nil, err
	}
	o := &operators{listener: l, ended: make(chan struct{})}
	if adminOverTLS(s) {
		o.secure = secure
	}
	return o, nil
}

// serve begins to serve.
func (o *operators) serve(handler http.Handler, log *slog.Logger) {
	if o.listener == nil {
		return
	}
	o.server = newServer(handler, o.secure, o.secure != nil, log)
	go func() {
		defer close(o.ended)
		var err error
		if o.secure != nil {
			err = o.server.ServeTLS(o.listener, "", "")
		} else {
			err = o.server.Serve(o.listener)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			log.Error("operators are served no longer", "error", err)
		}
	}()
}

// shutdown ends the serving, and waits for requests under way, within operatorsTimeout.
func (o *operators) shutdown() {
	if o.server == nil {
		return
	}
	grace, enough := context.WithTimeout(context.Background(), operatorsTimeout)
	defer enough()
	if o.server.Shutdown(grace) != nil {
		_ = o.server.Close()
	}
	<-o.ended
}

// Close lets go of the address. Closing twice is harmless.
func (o *operators) Close() {
	if o.server != nil {
		_ = o.server.Close()
	} else if o.listener != nil {
		_ = o.listener.Close()
	}
}

// addr is where it listens, nil where it is off.
func (o *operators) addr() net.Addr {
	if o.listener == nil {
		return nil
	}
	return o.listener.Addr()
}

// url is where operators reach it, empty where it is off.
func (o *operators) url(s config.Settings) string {
	if o.listener == nil {
		return ""
	}
	_, port, _ := net.SplitHostPort(o.listener.Addr().String())
	return s.AdminURL(port, o.secure != nil)
}
