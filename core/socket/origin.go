package socket

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Origins is a list of web origins (RFC 6454): whose pages may use a server. Its zero value allows
// nobody. It may be used from many goroutines.
type Origins struct {
	any   bool
	exact []origin
	below []origin // of which any host below is meant
}

// origin is the parts of an origin as browsers write them.
type origin struct{ scheme, host, port string }

// String writes an origin as browsers do.
func (o origin) String() string {
	if o.port == "" {
		return o.scheme + "://" + o.host
	}
	return o.scheme + "://" + o.host + ":" + o.port
}

// ParseOrigins reads a list of origins, all of it at once. Each is one of
//
//   - an origin like https://chat.example.com or http://localhost:3000. Capitals, the port that the
//     scheme has anyway, and a slash at the end make no difference, as they make none in browsers;
//   - https://*.example.com: every host below example.com, at any depth, and not example.com itself;
//   - *: any origin, "null" too.
//
// What could never match is an error: another path than /, a host that is not ASCII (give its A-label,
// RFC 5890), a scheme of sockets, and "null", which is what browsers send for a page without an origin.
func ParseOrigins(list []string) (Origins, error) {
	var made Origins
	var errs []error
	for _, text := range list {
		if text == "*" {
			made.any = true
			continue
		}
		o, err := parseOrigin(text)
		rest, wild := strings.CutPrefix(o.host, "*.")
		switch {
		case err != nil:
		case wild && o.scheme != "http" && o.scheme != "https":
			err = errors.New("* stands for hosts of http and https only")
		case wild && isAddress(rest):
			err = errors.New("no host is below an address")
		case wild:
			o.host = rest
		}
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%q is neither an origin like https://chat.example.com, nor https://*.example.com, nor *: %w", text, err))
		case wild:
			made.below = append(made.below, o)
		default:
			made.exact = append(made.exact, o)
		}
	}
	return made, errors.Join(errs...)
}

// CheckOrigin refuses what [ParseOrigins] would refuse in a list.
func CheckOrigin(origin string) error {
	_, err := ParseOrigins([]string{origin})
	return err
}

// OriginOf returns the origin of an http or https URL, as browsers write it.
func OriginOf(rawURL string) (string, error) {
	u, err := url.Parse(rawURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") {
		return "", fmt.Errorf("%q is no http or https URL", rawURL)
	}
	o, err := parseOrigin(u.Scheme + "://" + u.Host)
	if err == nil && strings.HasPrefix(o.host, "*") {
		err = errors.New("* is no host")
	}
	if err != nil {
		return "", fmt.Errorf("%q has no origin: %w", rawURL, err)
	}
	return o.String(), nil
}

// Any reports whether every origin is allowed.
func (s Origins) Any() bool { return s.any }

// Allows decides about the Origin header of a request.
func (s Origins) Allows(header string) bool {
	if s.any {
		return true
	}
	o, err := parseOrigin(header)
	if err != nil || strings.HasPrefix(o.host, "*") {
		return false
	}
	return slices.Contains(s.exact, o) || slices.ContainsFunc(s.below, func(b origin) bool {
		return b.scheme == o.scheme && b.port == o.port && strings.HasSuffix(o.host, "."+b.host)
	})
}

// isOwn reports whether an Origin header names the host that the request went to.
func isOwn(header, host string) bool {
	page, err := parseOrigin(header)
	if err != nil {
		return false
	}
	own, err := parseOrigin(page.scheme + "://" + host)
	return err == nil && own == page
}

// AllowsRequest reports whether r comes from an origin on the list, from the origin that it asks, or from
// no page at all: then it has no header Origin.
func (o Origins) AllowsRequest(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	return origin == "" || o.Allows(origin) || isOwn(origin, r.Host)
}

// parseOrigin takes an origin apart and writes its parts as browsers do
// (https://url.spec.whatwg.org/#host-parsing). The first label of the host may be *.
func parseOrigin(text string) (origin, error) {
	u, err := url.Parse(text)
	switch {
	case text == "null":
		return origin{}, errors.New("null stands for every page without an origin")
	case err != nil || u.Host == "" || u.Scheme == "":
		return origin{}, errors.New("scheme://host is needed")
	case u.Scheme == "ws" || u.Scheme == "wss":
		return origin{}, errors.New("the origin of a page that opens a socket begins with http or https")
	case u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return origin{}, errors.New("an origin ends after host and port")
	}
	host, err := parseHost(u.Hostname(), strings.HasPrefix(u.Host, "["))
	if err != nil {
		return origin{}, err
	}
	port := u.Port()
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return origin{}, errors.New("the port is not a number from 1 to 65535")
		}
		port = strconv.FormatUint(n, 10)
	}
	if port == map[string]string{"http": "80", "https": "443"}[u.Scheme] {
		port = ""
	}
	return origin{scheme: u.Scheme, host: host, port: port}, nil
}

func parseHost(name string, literal bool) (string, error) {
	if literal {
		a, err := netip.ParseAddr(name)
		if err != nil || a.Zone() != "" {
			return "", errors.New("the host is not an IPv6 address")
		}
		if a.Is4In6() { // browsers write the four bytes in hexadecimal, net/netip does not
			b := a.As16()
			return fmt.Sprintf("[::ffff:%x:%x]", int(b[12])<<8|int(b[13]), int(b[14])<<8|int(b[15])), nil
		}
		return "[" + a.String() + "]", nil
	}
	name = strings.ToLower(name)
	labels := strings.Split(strings.TrimSuffix(name, "."), ".")
	for i, label := range labels {
		switch plain := strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""; {
		case label == "*" && i == 0 && len(labels) > 1:
		case strings.Contains(label, "*"):
			return "", errors.New("* stands for whole labels at the beginning of a host")
		case label == "":
			return "", errors.New("the host has an empty label")
		case strings.ContainsFunc(label, func(r rune) bool { return r > 0x7f }):
			return "", errors.New("the host is not ASCII: browsers send its A-labels (xn--…)")
		case !plain:
			return "", errors.New("the host has other characters than letters, digits, '-', '_' and '.'")
		}
	}
	// Where the last label is a number, browsers read an IPv4 address.
	if _, err := strconv.ParseUint(labels[len(labels)-1], 0, 64); err == nil && !isAddress(name) {
		return "", errors.New("the host ends like an IPv4 address and is none")
	}
	return name, nil
}

// isAddress reports whether a host is an IP address.
func isAddress(host string) bool {
	_, err := netip.ParseAddr(cmp.Or(strings.Trim(host, "[]"), "-"))
	return err == nil
}
