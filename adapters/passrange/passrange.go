// Package passrange implements auth.PasswordList by asking a server which passwords were published after
// break-ins. It speaks the range API of Have I Been Pwned, version 3
// (https://haveibeenpwned.com/API/v3#PwnedPasswords), which others serve too, from a copy of the list as well.
//
// The password does not leave the program. The server is asked by the first 20 bits of its SHA-1, and answers
// with all that begin so: about 1,000 of 2,000 million. It is asked for padding too, so that the size of an answer
// tells whoever watches the connection nothing. Letter case does not count in a PasswordList: the server is asked about the
// password as it is, and about it in lower case, where that is another.
//
// # Guarantees
//
// One call makes at most two requests. An answer has at most Config.MaxAnswer bytes; what is longer, of another status than 200, or not of the
// API's form is an error of kind fault.Unavailable, and no answer. Redirects are not followed: another server would learn what this one was
// asked. No error has the password or a part of its hash in it.
//
// # Exceptions
//
// What is asked is neither stored nor tried again: how long to wait, and what an error means, is auth.Config's.
//
// # Closing
//
// Close closes connections that wait for a request.
package passrange

import (
	"context"
	"crypto/sha1" //nolint:gosec // the API is made of SHA-1; nothing is kept by it
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
)

// prefix is how many digits of a hash the server is told; digits is how many a hash has.
const prefix, digits = 5, 2 * sha1.Size

// Config is what a [List] needs. Zero fields without "required" mean the default.
type Config struct {
	// URL is what the five digits are put behind, for example "https://api.pwnedpasswords.com/range/". It ends in a slash, has no
	// user, query and fragment, and is one of https: one of http may lead to this machine alone. Required.
	URL string
	// Least is how often a password must have been seen to be in the list, at least 1. Default 1.
	Least int
	// Timeout bounds one request. A context may end it before. Default 5 seconds.
	Timeout time.Duration
	// MaxAnswer is the most bytes of an answer; those of Have I Been Pwned have some 40,000. Default 1 MiB.
	MaxAnswer int
	// MaxConnections is the most connections to the server at once; requests beyond wait. Default 32.
	MaxConnections int
	// TLS is how the server is known. Default: by the certificates that the system trusts.
	TLS *tls.Config
}

// List asks the server. Its methods may be called from many goroutines.
type List struct {
	cfg    Config
	client *http.Client
}

var _ auth.PasswordList = (*List)(nil)

// New checks the configuration, all of it at once. It sends nothing.
func New(cfg Config) (*List, error) {
	c := settings.Of("passrange: Config")
	c.Require("URL", cfg.URL == "")
	if cfg.URL != "" {
		if err := CheckURL(cfg.URL); err != nil {
			c.Refuse("URL", "it %v", err)
		}
	}
	settings.Default(c, "Least", &cfg.Least, 1)
	settings.Default(c, "Timeout", &cfg.Timeout, 5*time.Second)
	settings.Default(c, "MaxAnswer", &cfg.MaxAnswer, 1<<20)
	settings.Default(c, "MaxConnections", &cfg.MaxConnections, 32)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return &List{cfg: cfg, client: &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: cfg.Timeout, KeepAlive: 15 * time.Second}).DialContext,
			TLSClientConfig:        cfg.TLS,
			TLSHandshakeTimeout:    cfg.Timeout,
			MaxConnsPerHost:        cfg.MaxConnections,
			MaxIdleConnsPerHost:    cfg.MaxConnections,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 16 << 10,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       cfg.Timeout,
	}}, nil
}

// CheckURL refuses an address that [Config].URL cannot be, in words for whoever wrote it. They do not repeat it.
func CheckURL(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return errors.New("is not an address like https://api.pwnedpasswords.com/range/")
	case u.User != nil:
		return errors.New("has a user or a password, which is not sent")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errors.New("has a query or a fragment: the digits are put behind the last slash")
	case !strings.HasSuffix(u.Path, "/"):
		return errors.New("does not end in a slash, behind which the digits are put")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return errors.New("is one of http, by which anybody between learns what is asked: it has to be one of https, or of this machine")
	}
	return nil
}

// loopback reports whether a host is this machine.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Close closes connections that wait for a request. It returns nil.
func (l *List) Close() error {
	l.client.CloseIdleConnections()
	return nil
}

// Contains implements auth.PasswordList. Its errors have kind fault.Unavailable, or are those of ctx.
func (l *List) Contains(ctx context.Context, password string) (bool, error) {
	forms := []string{password}
	if lower := strings.ToLower(password); lower != password {
		forms = append(forms, lower)
	}
	for _, form := range forms {
		sum := sha1.Sum([]byte(form)) //nolint:gosec // see the import
		hash := strings.ToUpper(hex.EncodeToString(sum[:]))
		seen, err := l.ask(ctx, hash[:prefix], hash[prefix:])
		switch {
		case err != nil && ctx.Err() != nil:
			return false, ctx.Err()
		case err != nil:
			return false, fault.Wrap(fault.Unavailable, fmt.Errorf("passrange: %w", err))
		case seen >= l.cfg.Least:
			return true, nil
		}
	}
	return false, nil
}

// ask returns how often the password was seen whose hash has these two parts.
func (l *List) ask(ctx context.Context, first, rest string) (seen int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, l.cfg.URL+first, http.NoBody)
	if err != nil {
		return 0, errors.New("the address cannot be asked") // the error would tell the digits
	}
	r.Header.Set("Add-Padding", "true")
	r.Header.Set("User-Agent", "parley")
	response, err := l.client.Do(r)
	if err != nil {
		if failed := (*url.Error)(nil); errors.As(err, &failed) {
			err = failed.Err // without the address, which has the digits
		}
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, int64(l.cfg.MaxAnswer)+1))
	switch {
	case err != nil:
		return 0, err
	case response.StatusCode != http.StatusOK:
		return 0, fmt.Errorf("the status of the answer is %d", response.StatusCode)
	case len(text) > l.cfg.MaxAnswer:
		return 0, fmt.Errorf("the answer has more than %d bytes", l.cfg.MaxAnswer)
	}
	// All of it is read, whether or not the password was found: an answer of another kind is no list without it, and the time tells nothing.
	lines, found := 0, 0
	for line := range strings.Lines(string(text)) {
		lines++
		suffix, count, ok := strings.Cut(strings.TrimSpace(line), ":")
		n, err := strconv.Atoi(count)
		if !ok || err != nil || n < 0 || len(suffix) != digits-prefix || !hexadecimal(suffix) {
			return 0, fmt.Errorf("line %d of the answer is not 35 hexadecimal digits, a colon and a number", lines)
		}
		if strings.EqualFold(suffix, rest) {
			found = n // that of padding is 0
		}
	}
	if lines == 0 {
		return 0, errors.New("the answer is empty")
	}
	return found, nil
}

func hexadecimal(text string) bool {
	_, err := hex.DecodeString(text + "0") // an odd number of digits
	return err == nil
}
