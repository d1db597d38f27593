package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strings"
)

// clientFactor is how much more one client may do than one address is meant for: many people
// can sit behind one client address.
const clientFactor = 10

// allowClient takes one from the client's allowance, or returns ErrTooMany.
func (s *Service) allowClient(ctx context.Context, action string, from Client, r Rate) error {
	if from.Address == "" {
		return nil
	}
	r.Burst *= clientFactor
	return s.allow(ctx, action+":client:"+clientKey(from.Address), r)
}

// allowEmail takes one from the allowance of an address, or returns ErrTooMany. The address
// need not have an account and need not be valid.
func (s *Service) allowEmail(ctx context.Context, action, email string, r Rate) error {
	// Hashed, so that limiters hold no addresses and no long keys.
	sum := sha256.Sum256([]byte(strings.ToLower(strings.TrimSpace(email))))
	return s.allow(ctx, action+":email:"+hex.EncodeToString(sum[:16]), r)
}

func (s *Service) allow(ctx context.Context, key string, r Rate) error {
	wait, err := s.cfg.Limiter.Allow(ctx, key, r, s.now())
	if err != nil {
		return failed("asking the limiter", err)
	}
	if wait > 0 {
		return ErrTooMany.RetryAfter(wait)
	}
	return nil
}

func clientKey(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		sum := sha256.Sum256([]byte(address))
		return hex.EncodeToString(sum[:16])
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	network, err := ip.Prefix(64)
	if err != nil {
		return ip.String()
	}
	return network.String()
}
