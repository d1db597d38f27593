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
	for _, name := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded"} {
		if r.Header.Get(name) != "" && (!trusted || r.Header.Get("X-Forwarded-For") == "") {
			return errMailbox.Detail("it was asked for by a proxy that is not among PARLEY_TRUSTED_PROXIES, or does not say for whom; PARLEY_DEV_MAILBOX=public opens it")
		}
	}
	if !humaapi.ClientAddress(r, proxies).IsLoopback() || !isLoopbackHost(r.Host) {
		return errMailbox.Detail("ask for it on the machine that it runs on, as localhost; PARLEY_DEV_MAILBOX=public opens it to everybody")
	}
	return nil
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
