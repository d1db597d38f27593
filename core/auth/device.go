package auth

import (
	"net/netip"
	"strings"
)

// maxUserAgent bounds how much of a User-Agent is read, and maxDevice what becomes of it.
const (
	maxUserAgent = 512
	maxDevice    = 64
)

// named is a mark in a User-Agent, and what it stands for.
type named struct{ mark, name string }

// browsers by what only they, of those that follow, say. Most say that they are others as well.
var browsers = []named{
	{"Edg/", "Edge"}, {"EdgA/", "Edge"}, {"EdgiOS/", "Edge"}, {"OPR/", "Opera"}, {"Opera/", "Opera"}, {"Vivaldi/", "Vivaldi"},
	{"SamsungBrowser/", "Samsung Internet"}, {"YaBrowser/", "Yandex Browser"},
	{"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"}, {"Electron/", "A desktop app"},
	{"HeadlessChrome/", "Chrome"}, {"CriOS/", "Chrome"}, {"Chromium/", "Chromium"}, {"Chrome/", "Chrome"},
	{"Version/", "Safari"}, {"MSIE ", "Internet Explorer"}, {"Trident/", "Internet Explorer"},
}

// systems by what only they, of those that follow, say.
var systems = []named{
	{"Windows", "Windows"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"CrOS", "ChromeOS"},
	{"Macintosh", "macOS"}, {"Mac OS X", "macOS"}, {"Darwin/", "macOS or iOS"}, {"FreeBSD", "FreeBSD"}, {"OpenBSD", "OpenBSD"}, {"Linux", "Linux"}, {"X11", "Linux"},
}

// find returns the name of the first mark that is in the text; empty if none is.
func find(marks []named, text string) string {
	for _, m := range marks {
		if strings.Contains(text, m.mark) {
			return m.name
		}
	}
	return ""
}

// DeviceOf returns what a User-Agent header (RFC 9110 section 10.1.5) says of a device, in words: "Firefox on Linux". A program that is no browser keeps its
// name, without the version. The result has at most 64 characters, letters, digits, spaces, hyphens and underscores of ASCII alone, so that it can
// stand in a mail and on a page; it is empty if there is nothing to say.
func DeviceOf(userAgent string) string {
	userAgent = strings.TrimSpace(userAgent[:min(len(userAgent), maxUserAgent)])
	if strings.HasPrefix(userAgent, "Mozilla/") || strings.HasPrefix(userAgent, "Opera/") {
		browser, system := find(browsers, userAgent), find(systems, userAgent)
		switch {
		case browser == "" && system == "":
			return ""
		case browser == "":
			return "A browser on " + system
		case system == "":
			return browser
		}
		return browser + " on " + system
	}
	// The first product names the program.
	name, _, _ := strings.Cut(userAgent, "/")
	name, _, _ = strings.Cut(name, " ")
	if name == "" || len(name) > maxDevice || strings.ContainsFunc(name, func(r rune) bool { return !plain(r) }) {
		return ""
	}
	return name
}

func plain(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_'
}

// Bits of an address that a session keeps: those of a provider's network, in which one customer is not told from the others.
const (
	bitsIPv4 = 24
	bitsIPv6 = 48
)

// NetworkOf returns the network that an IP address is in, shortened so that it is not the address of anybody: its first 24 bits, of an
// IPv6 address 48, as "192.0.2.0/24". It is empty for what is no address.
func NetworkOf(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	ip = ip.Unmap().WithZone("")
	bits := bitsIPv6
	if ip.Is4() {
		bits = bitsIPv4
	}
	network, err := ip.Prefix(bits)
	if err != nil {
		return ""
	}
	return network.String()
}
