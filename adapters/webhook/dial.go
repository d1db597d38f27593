package webhook

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// errPrivate refuses an address that is not of the public internet.
var errPrivate = errors.New("it is not of the public internet, and private addresses are not allowed")

// special are networks with a purpose of their own (the registries of IANA for special-purpose addresses), beyond those that
// netip knows.
var special = func() (all []netip.Prefix) {
	for _, p := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", // Teredo and others, documentation, 6to4
	} {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}()

// global is the unicast space of IPv6 that is given to the public internet. IPv4 in IPv6, NAT64 and private networks are outside.
var global = netip.MustParsePrefix("2000::/3")

// public reports whether an address is of the public internet.
func public(a netip.Addr) bool {
	a = a.Unmap()
	if a.Zone() != "" || !a.IsGlobalUnicast() || a.IsPrivate() || a.Is6() && !global.Contains(a) {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// dialer looks at each address when it connects to it, when no name can lead elsewhere any more.
func dialer(private bool, timeout time.Duration, resolver *net.Resolver) *net.Dialer {
	d := &net.Dialer{Timeout: timeout, KeepAlive: 15 * time.Second, Resolver: resolver}
	if !private {
		d.Control = func(_, address string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(address)
			if err == nil && !public(a.Addr()) {
				err = errPrivate
			}
			if err != nil {
				return fmt.Errorf("the address %s: %w", address, err)
			}
			return nil
		}
	}
	return d
}
