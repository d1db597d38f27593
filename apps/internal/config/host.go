package config

import (
	"errors"
	"net/url"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"

	"github.com/parley-chat/parley/core/socket"
)

// asciiHost writes a host name in ASCII (RFC 5891), as browsers do: mails, origins, certificates and
// most resolvers know no other form. What is ASCII already stays as it is.
func asciiHost(host string) (string, error) {
	if isASCII(host) {
		return host, nil
	}
	host, err := idna.Lookup.ToASCII(host)
	if err != nil {
		return "", errors.New("the host is no domain name (RFC 5891)")
	}
	return host, nil
}

func isASCII(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return r > 0x7f }) }

// asciiURL writes the hosts of a URL in ASCII; there may be several, with commas between them. The
// rest stays as it is. The error repeats nothing, since there may be a password.
func asciiURL(text string) (string, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return text, nil
	}
	end := len(rest)
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		end = i
	}
	at := strings.LastIndexByte(rest[:end], '@') + 1
	hosts := strings.Split(rest[at:end], ",")
	for i, host := range hosts {
		port := ""
		if c := strings.LastIndexByte(host, ':'); c >= 0 && !strings.HasSuffix(host, "]") {
			host, port = host[:c], host[c:]
		}
		if decoded, err := url.PathUnescape(host); err == nil && !isASCII(decoded) {
			host = decoded
		}
		wild := ""
		if below, ok := strings.CutPrefix(host, "*."); ok { // of an origin
			host, wild = below, "*."
		}
		host, err := asciiHost(host)
		if err != nil {
			return "", err
		}
		hosts[i] = wild + host + port
	}
	return scheme + "://" + rest[:at] + strings.Join(hosts, ",") + rest[end:], nil
}

// checkOrigin refuses what no browser sends, and * below a domain that everybody can register in.
func checkOrigin(origin string) error {
	if err := socket.CheckOrigin(origin); err != nil {
		return err
	}
	_, below, wild := strings.Cut(origin, "://*.")
	if !wild {
		return nil
	}
	if u, err := url.Parse("//" + strings.ToLower(below)); err == nil {
		suffix, icann := publicsuffix.PublicSuffix(u.Hostname())
		if suffix == u.Hostname() && (icann || strings.Contains(suffix, ".")) {
			return errors.New(origin + " would let anybody in who registers a name below " + suffix)
		}
	}
	return nil
}
