package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Factors stores second factors. Its methods may be called from many goroutines.
type Factors struct{ db *database }

var _ auth.FactorStore = (*Factors)(nil)

// secondFactors hold the second factors of users, and when sessions were proven once more. An older program does not know them: it asks nobody for a code.
// A factor that was removed leaves its row, without a secret, so that everybody who changes it at once finds the same row.
var secondFactors = []string{
	`CREATE TABLE IF NOT EXISTS parley_factors (
		user_id varchar(128) NOT NULL PRIMARY KEY CHECK ({length}(user_id) BETWEEN 1 AND 128),
		secret {bytes} NOT NULL,
		created_at bigint,
		confirmed_at bigint,
		last_step bigint NOT NULL,
		recovery varchar(1024) NOT NULL CHECK ({length}(recovery) <= 1024)
	) {clustered}`,
	"ALTER TABLE parley_sessions ADD COLUMN IF NOT EXISTS proven_at bigint",
}

type factorRow struct {
	bun.BaseModel `bun:"table:parley_factors"`

	UserID      string `bun:"user_id,pk"`
	Secret      []byte `bun:"secret"`
	CreatedAt   *int64 `bun:"created_at"`
	ConfirmedAt *int64 `bun:"confirmed_at"`
	LastStep    int64  `bun:"last_step"`
	// Recovery are the hashes, with spaces between them.
	Recovery string `bun:"recovery"`
}

// factorColumns are what columns reads.
const factorColumns = "user_id, secret, created_at, confirmed_at, last_step, recovery"

func (r *factorRow) columns() []any {
	return []any{&r.UserID, &r.Secret, &r.CreatedAt, &r.ConfirmedAt, &r.LastStep, &r.Recovery}
}

func toFactorRow(f auth.Factor) (*factorRow, error) {
	if !storable(append(f.Recovery, string(f.UserID))...) {
		return nil, errText
	}
	for _, hash := range f.Recovery {
		if hash == "" || strings.Contains(hash, " ") {
			return nil, errText
		}
	}
	r := &factorRow{
		UserID: string(f.UserID), Secret: f.Secret, CreatedAt: optionalMicros(f.CreatedAt), ConfirmedAt: optionalMicros(f.ConfirmedAt),
		LastStep: f.LastStep, Recovery: strings.Join(f.Recovery, " "),
	}
	if r.Secret == nil {
		r.Secret = []byte{} // nil would be NULL
	}
	return r, nil
}

func (r *factorRow) factor() auth.Factor {
	f := auth.Factor{
		UserID: user.ID(r.UserID), CreatedAt: optionalInstant(r.CreatedAt), ConfirmedAt: optionalInstant(r.ConfirmedAt), LastStep: r.LastStep,
		Recovery: strings.Fields(r.Recovery),
	}
	if len(r.Secret) > 0 {
		f.Secret = r.Secret
	}
	if len(f.Recovery) == 0 {
		f.Recovery = nil
	}
	return f
}

// ByUser implements auth.FactorStore.
func (s *Factors) ByUser(ctx context.Context, id user.ID) (auth.Factor, error) {
	none := auth.Factor{UserID: id}
	if !storable(string(id)) {
		return none, nil
	}
	var row factorRow
	err := s.db.reads.one(ctx, "SELECT "+factorColumns+" FROM parley_factors WHERE user_id = ?", []any{string(id)}, row.columns()...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return none, nil
	case err != nil:
		return auth.Factor{}, s.db.fail(ctx, "read second factor", err)
	}
	return row.factor(), nil
}

// firstFactors is how often Update tries again, where another has stored the first factor of the user at the same time.
const firstFactors = 5

// Update implements auth.FactorStore. change runs under a lock on the row; where there is none yet, the first of several who come at once makes it, and change runs again for the others.
func (s *Factors) Update(ctx context.Context, id user.ID, change func(*auth.Factor) error, events ...event.Event) (auth.Factor, error) {
	if !storable(string(id)) {
		return auth.Factor{}, errText
	}
	for attempt := 1; ; attempt++ {
		f, err := s.update(ctx, id, change, events)
		if !errors.Is(err, errFirst) {
			return f, err
		}
		if attempt == firstFactors {
			return auth.Factor{}, s.db.fail(ctx, "update second factor", fault.Wrap(fault.Unavailable, err))
		}
	}
}

// errFirst says that another has stored the first factor of the user.
var errFirst = errors.New("another has stored a second factor of the user at the same time")

func (s *Factors) update(ctx context.Context, id user.ID, change func(*auth.Factor) error, events []event.Event) (auth.Factor, error) {
	var stored auth.Factor
	beaten := false
	err := s.db.transactLocked(ctx, "update second factor", func(ctx context.Context, tx bun.Tx) error {
		beaten = false
		old := factorRow{UserID: string(id)}
		err := s.db.dialect.forUpdate(tx.NewSelect()).Model(&old).Where("user_id = ?", string(id)).Scan(ctx)
		first := errors.Is(err, sql.ErrNoRows)
		if err != nil && !first {
			return err
		}
		f := old.factor()
		if err := change(&f); err != nil {
			return verbatim{err}
		}
		if f.UserID != id {
			return errIDChanged
		}
		row, err := toFactorRow(f)
		if err != nil {
			return err
		}
		if first {
			_, err = tx.NewInsert().Model(row).Exec(ctx)
			beaten = err != nil
		} else {
			_, err = tx.NewUpdate().Model(row).WherePK().Exec(ctx)
		}
		if err != nil {
			return err
		}
		stored = row.factor()
		return s.db.putEvents(ctx, tx, events)
	})
	switch {
	case beaten && errors.Is(err, fault.Conflict):
		return auth.Factor{}, errFirst
	case err != nil:
		return auth.Factor{}, err
	}
	return stored, nil
}

// DeleteOf implements auth.Eraser.
func (s *Factors) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	return s.db.sweepOf(ctx, "delete the second factor of a user", "parley_factors", "user_id", id)
}
