package socket

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/problem"
	"github.com/parley-chat/parley/core/settings"
)

// TransportConfig is what a transport needs. Zero fields without "required" mean the default.
type TransportConfig struct {
	// Handshake decides who may connect. Required, unless UpgradeOnly is set.
	Handshake *Handshake
	// Acceptor takes the connections over. Required, unless UpgradeOnly is set.
	Acceptor Acceptor
	// UpgradeOnly says that the transport only opens connections for other protocols, by its method Upgrade. Its
	// ServeHTTP answers 404 then.
	UpgradeOnly bool
	// MaxMessage is the longest message that a client may send, in bytes, and of a compressed one, inflated. Default 64 KiB.
	MaxMessage int
	// PingInterval is the time between two pings. A transport need not ping a client that it has heard
	// within that time. Default 25 seconds.
	PingInterval time.Duration
	// IdleTimeout is how long a client may send no whole frame, not even a pong, before it is
	// cut without a close frame. Default 60 seconds. It must be longer than PingInterval.
	IdleTimeout time.Duration
	// CloseTimeout is how long after a close frame was queued the connection is cut at the
	// latest. Default 5 seconds.
	CloseTimeout time.Duration
	// MaxPongs is how many answers to pings wait for a client that does not read; each has at most 127 bytes. Of
	// more pings in a row the latest are answered. Default 16.
	MaxPongs int
	// Compress agrees to permessage-deflate (RFC 7692), without context takeover, with clients that offer it: see
	// [TransportConfig.Extensions]. Default off.
	Compress bool
	// CompressFrom is how long a message is at least that is sent compressed, in bytes; a shorter one is not worth its
	// price. Clients may compress what they send at any length. Default 512.
	CompressFrom int
	// Pollers is how many goroutines read from connections, and so how many receivers run at
	// the same time, in a transport whose connections have no goroutines of their own. Others ignore it.
	// Default GOMAXPROCS.
	Pollers int
	// Log gets panics of receivers, and what a request failed with for a reason of our own. Default: nowhere.
	Log *slog.Logger
}

// Complete returns cfg with the defaults in the place of zeros. The error names every field that cannot be
// used; transport is the package in whose name it speaks.
func (cfg TransportConfig) Complete(transport string) (TransportConfig, error) {
	c := settings.Of(transport + ": Config")
	c.Require("Handshake", cfg.Handshake == nil && !cfg.UpgradeOnly)
	c.Require("Acceptor", cfg.Acceptor == nil && !cfg.UpgradeOnly)
	settings.Default(c, "MaxMessage", &cfg.MaxMessage, 64<<10)
	settings.Default(c, "PingInterval", &cfg.PingInterval, 25*time.Second)
	settings.Default(c, "IdleTimeout", &cfg.IdleTimeout, 60*time.Second)
	settings.Default(c, "CloseTimeout", &cfg.CloseTimeout, 5*time.Second)
	settings.Default(c, "MaxPongs", &cfg.MaxPongs, 16)
	settings.Default(c, "CompressFrom", &cfg.CompressFrom, 512)
	settings.Default(c, "Pollers", &cfg.Pollers, runtime.GOMAXPROCS(0))
	if cfg.IdleTimeout <= cfg.PingInterval {
		c.Refuse("IdleTimeout", "%s is not longer than PingInterval %s", cfg.IdleTimeout, cfg.PingInterval)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg, c.Err()
}

// errUpgradeOnly is the answer of a transport that only opens connections for other protocols.
var errUpgradeOnly = fault.New(fault.NotFound, "no_socket", "there is no socket here")

// Admit is [Handshake.Admit] of this transport's handshake. With UpgradeOnly it answers 404. cfg is complete.
func (cfg *TransportConfig) Admit(w http.ResponseWriter, r *http.Request, ready <-chan struct{}) (Hello, bool) {
	if cfg.UpgradeOnly {
		problem.Write(w, errUpgradeOnly)
		return Hello{}, false
	}
	return cfg.Handshake.Admit(w, r, ready)
}

// Options returns o with this transport's defaults in the place of what is not positive. cfg is complete.
func (cfg *TransportConfig) Options(o UpgradeOptions) UpgradeOptions {
	if o.MaxMessage <= 0 {
		o.MaxMessage = cfg.MaxMessage
	}
	if o.TooLarge <= 0 {
		o.TooLarge = CloseTooLarge
	}
	return o
}

// Accept calls accept with c and returns what that does. A panic is logged and is an error of kind Internal.
// An error closes c, as [Refusal] says.
func (cfg *TransportConfig) Accept(c Conn, accept func(Conn) (Receiver, error)) (receiver Receiver, err error) {
	defer func() {
		if r := recover(); r != nil {
			cfg.panicked("the acceptor panicked", r)
			err = fault.Internal
		}
		if err != nil {
			receiver = nil
			c.Close(Refusal(err))
		}
	}()
	return accept(c)
}

// Receive calls r.Receive. A panic is logged and closes c with the code of kind Internal.
func (cfg *TransportConfig) Receive(c Conn, r Receiver, payload []byte, binary bool) {
	defer func() {
		if r := recover(); r != nil {
			cfg.panicked("a receiver panicked", r)
			c.Close(fault.Internal.CloseCode(), "")
		}
	}()
	r.Receive(payload, binary)
}

// Disconnected calls r.Disconnected, unless r is nil: the connection was refused. A panic is logged.
func (cfg *TransportConfig) Disconnected(r Receiver) {
	if r == nil {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			cfg.panicked("a receiver panicked", r)
		}
	}()
	r.Disconnected()
}

func (cfg *TransportConfig) panicked(what string, value any) {
	cfg.Log.Error(what, "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
}
