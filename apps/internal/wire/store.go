package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/adapters/memory"
	"github.com/parley-chat/parley/adapters/mongostore"
	"github.com/parley-chat/parley/apps/internal/config"
	"github.com/parley-chat/parley/core/health"
	"github.com/parley-chat/parley/core/parley"
)

// Store is a database, as a program uses it.
type Store interface {
	Migrate(ctx context.Context) error
	// Check returns nil if the schema is current; see [SchemaOld].
	Check(ctx context.Context) error
	// Ping writes, to find out whether writes are taken.
	Ping(ctx context.Context) error
	// Ports returns what it keeps.
	Ports() parley.Ports
	Close() error
}

// SchemaOld reports whether err, of Check, says that Migrate has something to do.
func SchemaOld(err error) bool {
	return errors.Is(err, bunstore.ErrSchemaOld) || errors.Is(err, mongostore.ErrSchemaOld)
}

// OpenStore opens the database that s names, or returns nil for memory.
func OpenStore(ctx context.Context, s config.Settings, log *slog.Logger) (Store, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	scheme, rest, _ := strings.Cut(s.Store, ":")
	switch scheme {
	case "sqlite":
		if err := MakeFolder(filepath.Dir(rest)); err != nil {
			return nil, fmt.Errorf("the folder of the store cannot be made: %w", err)
		}
		return opened(bunstore.OpenSQLite(ctx, rest, bunstore.SQLiteConfig{}))
	case "postgres":
		return opened(bunstore.OpenPostgres(ctx, s.Store, bunstore.Config{}))
	case "mysql":
		return opened(bunstore.OpenMySQL(ctx, s.Store, bunstore.Config{}))
	case "mongodb", "mongodb+srv":
		return opened(mongostore.Open(ctx, s.Store, mongostore.Config{Log: log}))
	}
	return nil, nil
}

// opened keeps a nil pointer from becoming a Store that is not nil.
func opened[S Store](store S, err error) (Store, error) {
	if err != nil {
		return nil, err
	}
	return store, nil
}

// openStore opens the database and returns the ports that it keeps.
func (a *App) openStore(ctx context.Context) (parley.Ports, error) {
	store, err := OpenStore(ctx, a.settings, a.log)
	if err != nil {
		return parley.Ports{}, err
	}
	if store == nil {
		return memory.NewStore().Ports(), nil
	}
	a.closers = append(a.closers, store.Close)
	prepare := store.Migrate
	if a.settings.Migrate == "check" {
		prepare = store.Check
	}
	if err := prepare(ctx); err != nil {
		return parley.Ports{}, err
	}
	a.checks = append(a.checks, health.Check{Name: "database", Probe: health.Shared(pingFresh, databaseProbe(store))})
	return store.Ports(), nil
}

func databaseProbe(store Store) health.Probe {
	return func(ctx context.Context) (map[string]any, error) { return nil, store.Ping(ctx) }
}

// pingFresh is for how long the database counts as ready once it has taken a write: to ask is one. With
// bunstore.DefaultPingTimeout it is less than the second within which a locked file is named.
const pingFresh = 500 * time.Millisecond
