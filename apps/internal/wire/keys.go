package wire

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/core/audit"
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
