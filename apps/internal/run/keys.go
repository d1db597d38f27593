package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/apps/internal/wire"
	"github.com/parley-chat/parley/core/audit"
)

// administerKeys looks at the keys in the data folder, or rotates them. No server needs to run.
func administerKeys(ctx context.Context, action string, s config.Settings, k config.Keys, stdout, stderr io.Writer) error {
	keys, err := jwtauth.ReadKeys(wire.KeysFile(s))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there are no keys at %s: the first start makes them", wire.KeysFile(s))
	}
	if err != nil {
		return err
	}
	if action == "list" {
		return printKeys(keys, k.JSON, stdout)
	}
	rotation := wire.KeyRotation(s)
	if k.Algorithm != "" {
		rotation.Algorithm = k.Algorithm
	}
	if k.Now {
		rotation.Lead = 0
	}
	if k.Overlap >= 0 {
		rotation.Overlap = k.Overlap
	}
	end, err := recordRotation(ctx, s, keys.List()[0].ID, rotation, stderr)
	if err != nil {
		return err
	}
	kid, made, err := keys.Rotate(rotation)
	switch {
	case err != nil:
		end("failed")
		return err
	case !made:
		end("not needed")
		fmt.Fprintf(stderr, "The key %s waits to sign already: none was made.\n", kid)
	default:
		end("done")
	}
	return printKeys(keys, k.JSON, stdout)
}

// recordRotation records a rotation in the store of the program before it takes place, and returns what to call when it has ended.
func recordRotation(ctx context.Context, s config.Settings, signer string, r jwtauth.Rotation, stderr io.Writer) (end func(outcome string), err error) {
	log, logged := openLog(s, stderr)
	store, err := wire.OpenStore(ctx, s, log)
	if err == nil && store == nil {
		fmt.Fprintln(stderr, "This is not recorded: with the store memory: the audit log is in the server alone.")
		logged.Close()
		return func(string) {}, nil
	}
	release := func() {
		if store != nil {
			_ = store.Close()
		}
		logged.Close()
	}
	var service *audit.Service
	if err == nil {
		err = store.Check(ctx)
	}
	if err == nil {
		service, err = audit.New(audit.Config{Log: store.Ports().Audit, Logger: log})
	}
	var settle func(string)
	if err == nil {
		detail, _ := json.Marshal(map[string]string{"algorithm": r.Algorithm, "lead": r.Lead.String(), "overlap": r.Overlap.String()})
		settle, err = service.Begin(ctx, audit.Entry{Actor: "command", Action: wire.RotatesKeys, Target: signer, Detail: string(detail)})
	}
	if err != nil {
		release()
		return nil, fmt.Errorf("no key was made, since that cannot be recorded: %w", err)
	}
	return func(outcome string) {
		settle(outcome)
		release()
	}, nil
}

// printKeys lists them, the one that signs first.
func printKeys(keys *jwtauth.Keys, asJSON bool, stdout io.Writer) error {
	if asJSON {
		return json.NewEncoder(stdout).Encode(map[string]any{"keys": keys.List()})
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KID\tALGORITHM\tSTATE\tSIGNS FROM\tVERIFIES UNTIL")
	at := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.UTC().Format(time.RFC3339)
	}
	for _, k := range keys.List() {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", k.ID, k.Algorithm, k.State, at(k.SignsAt), at(k.RetiresAt))
	}
	return w.Flush()
}
