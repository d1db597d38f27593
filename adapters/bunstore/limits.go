package bunstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
)

// Limiter keeps allowances, so that a restart does not fill them and several processes share them.
// Its methods may be called from many goroutines. What is allowed costs one commit.
type Limiter struct{ db *database }

var _ auth.Limiter = (*Limiter)(nil)

type limitRow struct {
	bun.BaseModel `bun:"table:parley_limits"`

	// Name is the hash of a key, which may be long and need not be text.
	Name string `bun:"name,pk"`
	// WholeAt is when the allowance is whole again: the theoretical arrival time of ITU-T I.371.
	WholeAt int64 `bun:"whole_at"`
}

// Allow implements auth.Limiter, to the microsecond.
func (l *Limiter) Allow(ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
	each, all, limited := r.Cell(time.Microsecond)
	if !limited {
		return 0, nil
	}
	interval, window := each.Microseconds(), all.Microseconds()
	sum := sha256.Sum256([]byte(key))
	name, at := hex.EncodeToString(sum[:]), micros(now)
	const op = "take from an allowance"
	for {
		// The condition decides; what is read afterwards only says how long to wait.
		var taken int64
		err := l.db.transact(ctx, op, func(ctx context.Context, tx bun.Tx) error {
			res, err := tx.NewUpdate().Model((*limitRow)(nil)).
				Set("whole_at = CASE WHEN whole_at < ? THEN ? ELSE whole_at + ? END", at, at+interval, interval).
				Where("name = ?", name).Where("whole_at <= ?", at+window-interval).Exec(ctx)
			if err != nil {
				return err
			}
			taken, err = res.RowsAffected()
			return err
		})
		if err != nil || taken > 0 {
			return 0, err
		}
		var row limitRow
		err = l.db.read.NewSelect().Model(&row).Where("name = ?", name).Scan(ctx)
		switch err = l.db.found(ctx, op, err, errNoLimit); {
		case errors.Is(err, errNoLimit):
			err := l.db.insertOnce(ctx, op, &limitRow{Name: name, WholeAt: at + interval})
			if errors.Is(err, fault.Conflict) {
				continue // somebody else was first
			}
			return 0, err
		case err != nil:
			return 0, err
		}
		if most := at + window; row.WholeAt > most { // the clock has gone back
			err := l.db.transact(ctx, op, func(ctx context.Context, tx bun.Tx) error {
				_, err := tx.NewUpdate().Model((*limitRow)(nil)).Set("whole_at = ?", most).Where("name = ?", name).Where("whole_at > ?", most).Exec(ctx)
				return err
			})
			if err != nil {
				return 0, err
			}
			row.WholeAt = most
		}
		if wait := row.WholeAt + interval - at - window; wait > 0 {
			return time.Duration(wait) * time.Microsecond, nil
		}
		// It was swept, or made, in between.
		if err := ctx.Err(); err != nil {
			return 0, l.db.fail(ctx, op, err)
		}
	}
}

// errNoLimit says that a key has its whole allowance.
var errNoLimit = fault.New(fault.NotFound, "limit_not_found", "the key has its whole allowance")

// DeleteExpired implements auth.Sweeper, in transactions of at most 1,000 rows: it forgets keys whose
// allowance was whole before the given time.
func (l *Limiter) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return l.db.sweep(ctx, "delete whole allowances", "parley_limits", "name", "whole_at < ?", micros(before))
}
