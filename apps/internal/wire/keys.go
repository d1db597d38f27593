package wire

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/health"
)

const (
	// keyLead is how long a new key is published before it signs: longer than a key set of before may be kept on the way
	// (Cache-Control: max-age of 5 minutes) and by a socket node (5 minutes more).
	keyLead = 15 * time.Minute
	// keyMargin is how much longer than a token its key verifies: for tickets, for clocks that are apart, and for programs that have not noticed yet.
	keyMargin = time.Minute
)

// KeysFile is where the keys are that sign tokens.
func KeysFile(s config.Settings) string { return filepath.Join(s.Data, "keys.json") }

// KeyRotation is how keys are rotated.
func KeyRotation(s config.Settings) jwtauth.Rotation {
	return jwtauth.Rotation{Algorithm: s.KeyAlgorithm, Lead: keyLead, Overlap: s.AccessTTL + keyMargin}
}

// openVerifier makes what verifies tokens where they are not made: those of the auth service, or of another issuer.
func (a *App) openVerifier(ctx context.Context) (auth.TokenVerifier, error) {
	s := a.settings
	var verifier auth.TokenVerifier
	var source interface {
		Ping(ctx context.Context) error
		Ready(ctx context.Context) error
	}
	if s.OIDCIssuer != "" {
		v, err := jwtauth.NewOpenIDVerifier(jwtauth.OpenIDConfig{
			Issuer: s.OIDCIssuer, Audience: s.OIDCAudience, Algorithms: s.OIDCAlgorithms, Types: s.OIDCTypes,
			UserClaim: s.OIDCUserClaim, NameClaim: s.OIDCNameClaim, RoleClaim: s.OIDCRoleClaim, AdminRole: s.OIDCAdminRole, Leeway: clockLeeway,
		})
		if err != nil {
			return nil, err
		}
		verifier, source = v, v
	} else {
		keys, err := jwtauth.NewRemoteKeys(jwtauth.RemoteKeysConfig{URL: s.JWKSURL})
		if err != nil {
			return nil, err
		}
		if verifier, err = jwtauth.NewVerifier(jwtauth.VerifierConfig{Keys: keys.PublicKey, Issuer: s.Issuer, Leeway: clockLeeway}); err != nil {
			return nil, err
		}
		source = keys
	}
	if err := source.Ping(ctx); err != nil {
		a.log.Warn("the keys that verify tokens cannot be fetched yet: nobody can connect until they are", "error", err)
	}
	a.checks = append(a.checks, health.Check{Name: "keys", Probe: func(ctx context.Context) (map[string]any, error) { return nil, source.Ready(ctx) }})
	return verifier, nil
}

// RotatesKeys is what the audit log calls it.
const RotatesKeys = "rotate-keys"

// keepKeys rotates keys by age, and takes up what other programs have done to them, as long as this one runs.
func (a *App) keepKeys() error {
	if a.keys == nil {
		return nil
	}
	age, err := a.settings.KeyMaxAge()
	if err != nil {
		return err
	}
	cfg := jwtauth.KeepConfig{Rotation: KeyRotation(a.settings), MaxAge: age, Log: a.log, Record: func(ctx context.Context, signer string) (func(string), error) {
		return a.audit.Begin(ctx, audit.Entry{Actor: "program:" + string(a.settings.Program), Action: RotatesKeys, Target: signer})
	}}
	parts := a.parts
	a.parts = func(ctx context.Context) error {
		kept := make(chan error, 1)
		keeping, enough := context.WithCancel(ctx)
		go func() { kept <- a.keys.Keep(keeping, cfg) }()
		err := parts(ctx)
		enough()
		return errors.Join(err, <-kept)
	}
	return nil
}
