package webhook

import (
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Public reports whether an address is of the public internet.
func Public(a netip.Addr) bool { return public(a) }

// Sign signs a request as a Screen does.
func Sign(h http.Header, secrets []string, id string, at time.Time, body []byte) error {
	keys, err := parseSecrets(secrets)
	if err == nil {
		sign(h, keys, id, at, body)
	}
	return err
}

// Resolve lets a Screen look names up by a resolver.
func Resolve(s *Screen, r *net.Resolver) {
	s.client.Transport.(*http.Transport).DialContext = dialer(s.cfg.Private, s.cfg.Timeout, r).DialContext
}

// Trust lets a Screen trust a server of TLS.
func Trust(s *Screen, t *http.Transport) {
	s.client.Transport.(*http.Transport).TLSClientConfig = t.TLSClientConfig.Clone()
}

// TrustOf lets an Endpoint trust a server of TLS.
func TrustOf(e *Endpoint, t *http.Transport) {
	e.client.Transport.(*http.Transport).TLSClientConfig = t.TLSClientConfig.Clone()
}
