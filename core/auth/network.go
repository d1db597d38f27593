package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"
	"time"

	"github.com/parley-chat/parley/core/settings"
)

// times is the rate with n times as much at once and on average.
func (r Rate) times(n int) Rate { return Rate{Burst: r.Burst * n, Per: r.Per} }

// orDefault gives a field its default if it is zero, and refuses a rate that lacks a part.
func (r *Rate) orDefault(c *settings.Check, field string, byDefault Rate) {
	switch {
	case *r == Rate{}:
		*r = byDefault
	case r.Burst < 0 || r.Per < 0:
		c.Refuse(field, "is negative")
	case r.Burst == 0 || r.Per == 0:
		c.Refuse(field, "has no Burst or no Per")
	}
}

// network is a part of the internet that somebody may have to themselves.
type network struct {
	key string
	// factor is how much more it may do than one client.
	factor int
}

// networksOf returns the networks that an address counts for, the narrowest first. A provider
// gives a customer one IPv4 address, or an IPv6 network of 64, 56 or 48 bits (RFC 6177): whoever
// has a larger one must not have thousands of allowances, nor its neighbours none. It returns
// none for an unknown address.
func networksOf(address string) []network {
	if address == "" {
		return nil
	}
	ip, err := netip.ParseAddr(address)
	if err != nil {
		sum := sha256.Sum256([]byte(address))
		return []network{{hex.EncodeToString(sum[:16]), 1}}
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return []network{{ip.String(), 1}}
	}
	networks := make([]network, 0, 3)
	for i, bits := range []int{64, 56, 48} {
		if p, err := ip.Prefix(bits); err == nil {
			networks = append(networks, network{p.String(), 1 << i})
		}
	}
	return networks
}

// clientKey names the narrowest network of an address; empty for an unknown address.
func clientKey(address string) string {
	for _, n := range networksOf(address) {
		return n.key
	}
	return ""
}

// takeNetworks takes one from the allowance of each network that an address is in, or returns
// ErrTooMany. What the narrowest one is refused, the wider ones do not pay for.
func takeNetworks(ctx context.Context, l Limiter, now time.Time, action, address string, r Rate) error {
	for _, n := range networksOf(address) {
		if err := take(ctx, l, now, action+":client:"+n.key, r.times(n.factor)); err != nil {
			return err
		}
	}
	return nil
}

// take takes one from an allowance, or returns ErrTooMany.
func take(ctx context.Context, l Limiter, now time.Time, key string, r Rate) error {
	wait, err := l.Allow(ctx, key, r, now)
	if err != nil {
		return failed("asking the limiter", err)
	}
	if wait > 0 {
		return ErrTooMany.RetryAfter(wait)
	}
	return nil
}

// Names of allowances.
const (
	limitCode    = "code"
	limitRefresh = "refresh"
	limitTicket  = "ticket"
	limitDevice  = "device"
)

// refreshFactor is how many sessions may refresh as often as they can from one network: an
// office, or a reverse proxy that does not say for whom it asks.
const refreshFactor = 100

// AllowCode takes one from the client's allowance of mailed codes, or returns ErrTooMany. Whoever
// serves strangers calls it before Verify and ResetPassword.
func (s *Service) AllowCode(ctx context.Context, from Client) error {
	return takeNetworks(ctx, s.cfg.Limiter, s.now(), limitCode, from.Address, s.cfg.CodeRate)
}

// AllowRefresh takes one from the client's allowance of refreshes, or returns ErrTooMany. Whoever
// serves strangers calls it before Refresh, which itself limits each session.
func (s *Service) AllowRefresh(ctx context.Context, from Client) error {
	return takeNetworks(ctx, s.cfg.LocalLimiter, s.now(), limitRefresh, from.Address, s.cfg.RefreshRate.times(refreshFactor))
}

// accountFactor is how much more all strangers together may guess at one address than those of
// one network: one of them alone must not lock the owner out of new devices.
const accountFactor = 3

// allowGuess takes one from the allowance of guesses at the password of an address, or returns
// ErrTooMany. A device that has signed in there before has its own, so that no stranger can use
// it up: the session that it opened is returned, and nil for another. The address need not have
// an account and need not be valid: all are treated alike.
func (s *Service) allowGuess(ctx context.Context, from Client, email string) (*Session, error) {
	device, err := s.knownDevice(ctx, from, email)
	if err != nil {
		return nil, err
	}
	if device != nil {
		return device, s.allow(ctx, limitSignIn+":device:"+device.ID, s.cfg.SignInRate)
	}
	if err := s.allowClient(ctx, limitSignIn, from, s.cfg.SignInRate); err != nil {
		return nil, err
	}
	if err := s.allowEmail(ctx, limitSignIn+":by:"+clientKey(from.Address), email, s.cfg.SignInRate); err != nil {
		return nil, err
	}
	return nil, s.allowEmail(ctx, limitSignIn, email, s.cfg.SignInRate.times(accountFactor))
}

// knownDevice returns the session that the client's device has opened before in the account of this
// address, or nil. It need not go on: a device is known for as long as the store keeps its session.
func (s *Service) knownDevice(ctx context.Context, from Client, email string) (*Session, error) {
	d, ok := parseDeviceToken(from.Device)
	if !ok {
		return nil, nil
	}
	// Looking costs a read, so it has a limit too.
	switch err := takeNetworks(ctx, s.cfg.LocalLimiter, s.now(), limitDevice, from.Address, s.cfg.RefreshRate.times(refreshFactor)); {
	case errors.Is(err, ErrTooMany):
		return nil, nil
	case err != nil:
		return nil, err
	}
	x, err := s.cfg.Sessions.ByID(ctx, d.session)
	switch {
	case errors.Is(err, ErrSessionNotFound):
		return nil, nil
	case err != nil:
		return nil, failed("looking for the device", err)
	case x.DeviceHash == "" || !sameHash(x.DeviceHash, d.hash(email)):
		return nil, nil
	}
	return &x, nil
}

// ThrottleConfig is what a [Throttle] needs.
type ThrottleConfig struct {
	Limiter Limiter // required
	// Action names what is limited, apart from anything else in Limiter. Required.
	Action string
	// Rate is the allowance of an IPv4 address, or of an IPv6 network of 64 bits; those of 56
	// and 48 bits have two and four times as much. Required.
	Rate Rate
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Throttle limits how often something is done from a network. Its methods may be called from
// many goroutines.
type Throttle struct{ cfg ThrottleConfig }

// NewThrottle checks the configuration, all of it at once.
func NewThrottle(cfg ThrottleConfig) (*Throttle, error) {
	c := settings.Of("auth: ThrottleConfig")
	c.Require("Limiter", cfg.Limiter == nil)
	c.Require("Action", cfg.Action == "")
	c.Require("Rate", cfg.Rate == Rate{})
	cfg.Rate.orDefault(c, "Rate", Rate{})
	if err := c.Err(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Throttle{cfg}, nil
}

// Allow takes one from the allowance of the networks that an IP address is in, or returns
// ErrTooMany. An empty address is not limited.
func (t *Throttle) Allow(ctx context.Context, address string) error {
	return takeNetworks(ctx, t.cfg.Limiter, t.cfg.Now().UTC(), t.cfg.Action, address, t.cfg.Rate)
}
