package wire

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/parley-chat/parley/adapters/humaapi"
	"github.com/parley-chat/parley/core/fault"
)

// errMailbox answers whoever may not read the development mailbox.
var errMailbox = fault.New(fault.Forbidden, "mailbox_not_public", "the development mailbox is for this machine alone")

// fromThisMachine returns nil if a request comes from this machine and asks for it by a name of its own.
// The address alone would let in every page in a browser here whose name was made to lead to
// loopback (DNS rebinding), and the name alone every client. A proxy that is not trusted may ask for
// anybody, so that nothing it passes on comes from here.
func fromThisMachine(r *http.Request, proxies []netip.Prefix) error {
	peer := humaapi.ClientAddress(&http.Request{RemoteAddr: r.RemoteAddr}, nil)
	trusted := false
	for _, p := range proxies {
		trusted = trusted || p.Contains(peer)
	}
	if passedOn(r) && (!trusted || r.Header.Get("X-Forwarded-For") == "") {
		return errMailbox.Detail("it was asked for by a proxy that is not among PARLEY_TRUSTED_PROXIES, or does not say for whom; PARLEY_DEV_MAILBOX=public opens it")
	}
	if !humaapi.ClientAddress(r, proxies).IsLoopback() || !isLoopbackHost(r.Host) {
		return errMailbox.Detail("ask for it on the machine that it runs on, as localhost; PARLEY_DEV_MAILBOX=public opens it to everybody")
	}
	return nil
}

// passedOn reports whether a request shows that a proxy has passed it on. One that asks in HTTP/1.0 is one: people's
// programs have not done that for long, and nginx does unless it is told otherwise, with a Host of its own and
// without a word of for whom.
func passedOn(r *http.Request) bool {
	if !r.ProtoAtLeast(1, 1) {
		return true
	}
	for name := range r.Header {
		if name == "Via" || name == "Forwarded" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-") {
			return true
		}
	}
	return false
}

// isLoopbackHost reports whether a Host header names this machine: localhost, 127.0.0.0/8 or [::1].
func isLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	return err == nil && a.IsLoopback()
}
