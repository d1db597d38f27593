package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/adapters/bunstore"
	"github.com/parley-chat/parley/adapters/jwtauth"
	"github.com/parley-chat/parley/apps/internal/config"
	storing "github.com/parley-chat/parley/apps/internal/wire"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/parley"
	"github.com/parley-chat/parley/core/user"
)

// newRun is part of the names of accounts and rooms, so that a second run on the same store has others.
func newRun() string { return strconv.FormatInt(time.Now().UnixMilli(), 36) + "-" }

// accounts stores n users with a session each in the store that s configures, numbered from the given one, and returns an access
// token for each. No password is hashed, and SQLite does not sync.
func accounts(ctx context.Context, s config.Settings, run string, from, n int) ([]string, error) {
	store, err := openStore(ctx, s)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	if err := store.Migrate(ctx); err != nil {
		return nil, err
	}
	issue, err := issuer(s)
	if err != nil {
		return nil, err
	}
	ports := store.Ports()
	tokens := make([]string, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for w := range writers {
		wg.Go(func() {
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				tokens[i], errs[w] = account(ctx, ports, issue, fmt.Sprintf("bench-%s%07d", run, from+i))
			}
		})
	}
	wg.Wait()
	return tokens, errors.Join(errs...)
}

func openStore(ctx context.Context, s config.Settings) (storing.Store, error) {
	if file, sqlite := strings.CutPrefix(s.Store, "sqlite:"); sqlite {
		return bunstore.OpenSQLite(ctx, file, bunstore.SQLiteConfig{RelaxedSync: true})
	}
	store, err := storing.OpenStore(ctx, s, slog.New(slog.DiscardHandler))
	if err == nil && store == nil {
		err = errors.New("bench: the store memory: cannot be prepared; leave --store out")
	}
	return store, err
}

// writers is how many accounts are stored at once.
const writers = 8

// account stores a user with a session, and returns an access token.
func account(ctx context.Context, ports parley.Ports, issue auth.TokenIssuer, id string) (string, error) {
	now := time.Now().UTC().Truncate(time.Second)
	err := ports.Users.Create(ctx, user.User{ID: user.ID(id), FullName: id, Email: user.Email(id + "@example.com"), PasswordHash: "none", CreatedAt: now, VerifiedAt: now, PasswordChangedAt: now})
	if err == nil {
		err = ports.Sessions.Create(ctx, auth.Session{ID: "s-" + id, UserID: user.ID(id), FamilyHash: "f" + id, TokenHash: "t" + id, CreatedAt: now, RotatedAt: now, ExpiresAt: now.Add(24 * time.Hour)})
	}
	if err != nil {
		return "", err
	}
	return issue.Issue(ctx, auth.Claims{ID: "j-" + id, Audience: auth.AudienceAPI, UserID: user.ID(id), Name: id, SessionID: "s-" + id, IssuedAt: now, ExpiresAt: now.Add(24 * time.Hour)})
}

// keysFile is where the program keeps its keys in the data folder.
const keysFile = "keys.json"

// issuer signs tokens with the keys of the data folder, which the nodes use.
func issuer(s config.Settings) (auth.TokenIssuer, error) {
	keys, err := jwtauth.OpenKeys(filepath.Join(s.Data, keysFile))
	if err != nil {
		return nil, err
	}
	return jwtauth.NewIssuer(jwtauth.IssuerConfig{Keys: keys, Issuer: s.Issuer})
}
