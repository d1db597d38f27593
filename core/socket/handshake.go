package socket

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/user"
)

// Protocol is the WebSocket subprotocol of /socket, unless another one is chosen.
const Protocol = "parley.v1"

// bearerProtocol is how a browser can offer a token: as a subprotocol that is never chosen.
const bearerProtocol = "bearer."

// What a handshake is refused with.
var (
	ErrNoCredentials = fault.New(fault.Unauthenticated, "no_credentials", "authentication is required")
	ErrOrigin        = fault.New(fault.Forbidden, "origin_not_allowed", "this origin is not allowed")
	ErrProtocol      = fault.New(fault.Invalid, "protocol_not_supported", "none of the offered subprotocols is supported")
	ErrDraining      = fault.New(fault.Unavailable, "draining", "this node restarts")
)

// HandshakeConfig is what a [Handshake] needs.
type HandshakeConfig struct {
	Authenticator Authenticator // required
	// Protocols lists the subprotocols (RFC 6455 section 1.9) that connections of this handshake may
	// speak: names of HubConfig.Formats in package realtime. Default: [Protocol] alone.
	Protocols []string
	// Origins lists what a browser's Origin header may be besides the request's own host, in the
	// form of [ParseOrigins]. Behind a proxy that does not pass Host on, the server's own origin
	// belongs into it. Requests without Origin are not from browsers and pass.
	Origins []string
	// Timeout bounds the authentication. Default 5 seconds.
	Timeout time.Duration
	// Allow, if set, is asked first: its error refuses the request before anything is verified.
	// It is for limits on how often somebody may try.
	Allow func(r *http.Request) error
	// Draining, if set, refuses handshakes while it returns true.
	Draining func() bool
}

// Handshake decides whether a request may become a connection, before the upgrade. All
// transports share it. It may be used from many goroutines.
type Handshake struct {
	cfg     HandshakeConfig
	origins Origins
}

// NewHandshake checks the configuration, all of it at once.
func NewHandshake(cfg HandshakeConfig) (*Handshake, error) {
	c := settings.Of("socket: HandshakeConfig")
	c.Require("Authenticator", cfg.Authenticator == nil)
	origins, err := ParseOrigins(cfg.Origins)
	c.Fault("Origins", err)
	for _, p := range cfg.Protocols {
		if !isToken(p) || strings.HasPrefix(p, bearerProtocol) {
			c.Refuse("Protocols", "has %q, which is no name of a subprotocol", p)
		}
	}
	settings.Default(c, "Timeout", &cfg.Timeout, 5*time.Second)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if len(cfg.Protocols) == 0 {
		cfg.Protocols = []string{Protocol}
	}
	cfg.Protocols = slices.Clone(cfg.Protocols)
	return &Handshake{cfg: cfg, origins: origins}, nil
}

// Hello is a handshake that passed: what a transport tells an [Acceptor] of a connection.
type Hello struct {
	Identity user.Identity
	// Protocol is the subprotocol to choose: the first that the client offered of those that the
	// handshake knows. It is empty when the client offered none, and then the connection speaks
	// [Protocol].
	Protocol string
}

// Check decides about r. Errors are of these kinds: Forbidden for a foreign origin; Invalid if no subprotocol is known;
// Unauthenticated for missing or refused credentials; Unavailable while draining, or when authentication cannot be decided.
//
// Credentials are looked for in this order: the Authorization header ("Bearer", any case),
// an offered subprotocol "bearer.<token>", and the query's ticket.
func (h *Handshake) Check(r *http.Request) (Hello, error) {
	if h.cfg.Draining != nil && h.cfg.Draining() {
		return Hello{}, ErrDraining
	}
	if h.cfg.Allow != nil {
		if err := h.cfg.Allow(r); err != nil {
			return Hello{}, err
		}
	}
	if !h.originAllowed(r) {
		return Hello{}, ErrOrigin
	}
	var hello Hello
	var offered, token string
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			p = strings.TrimSpace(p)
			if t, ok := strings.CutPrefix(p, bearerProtocol); ok {
				token = t
				continue
			}
			offered = p
			if i := slices.Index(h.cfg.Protocols, p); i >= 0 && hello.Protocol == "" {
				hello.Protocol = h.cfg.Protocols[i] // not p, which is a part of the request
			}
		}
	}
	if offered != "" && hello.Protocol == "" {
		return Hello{}, ErrProtocol.Detail("this server speaks %s", strings.Join(h.cfg.Protocols, ", "))
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.cfg.Timeout)
	defer cancel()
	var err error
	header := r.Header.Get("Authorization")
	switch ticket := r.URL.Query().Get("ticket"); {
	case header != "":
		hello.Identity, err = h.cfg.Authenticator.Token(ctx, BearerToken(header))
	case token != "":
		hello.Identity, err = h.cfg.Authenticator.Token(ctx, token)
	case ticket != "":
		hello.Identity, err = h.cfg.Authenticator.Ticket(ctx, ticket)
	default:
		err = ErrNoCredentials
	}
	if err != nil {
		return Hello{}, err
	}
	return hello, nil
}

// isToken reports whether s is a token of HTTP (RFC 9110 section 5.6.2), as names of subprotocols are.
func isToken(s string) bool {
	return s != "" && strings.Trim(s, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// BearerToken returns the token of an Authorization header ("Bearer", any case), or nothing if there is none: for routes of one's own beside
// the sockets.
func BearerToken(authorization string) string {
	scheme, token, _ := strings.Cut(strings.TrimSpace(authorization), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

func (h *Handshake) originAllowed(r *http.Request) bool { return h.origins.AllowsRequest(r) }
