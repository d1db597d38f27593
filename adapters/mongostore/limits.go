package mongostore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
)

// Limiter keeps allowances, so that a restart does not fill them and several processes share them.
// Its methods may be called from many goroutines. What is allowed costs one or two writes.
type Limiter struct{ db *database }

var _ auth.Limiter = (*Limiter)(nil)

type limitDoc struct {
	// Name is the hash of a key, which may be long and need not be text.
	Name string `bson:"_id"`
	// WholeAt is when the allowance is whole again: the theoretical arrival time of ITU-T I.371.
	WholeAt int64 `bson:"whole_at"`
}

// errNoLimit says that a key has its whole allowance.
var errNoLimit = fault.New(fault.NotFound, "limit_not_found", "the key has its whole allowance")

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
	if err := l.db.ready(ctx); err != nil {
		return 0, err
	}
	// Each write has its condition: of several callers, those it holds for take.
	take := func(whole, change bson.D) (bool, error) {
		res, err := l.db.limits.UpdateOne(ctx, bson.D{{Key: "_id", Value: name}, {Key: "whole_at", Value: whole}}, change)
		if err != nil {
			return false, l.db.fail(ctx, op, err)
		}
		return res.MatchedCount == 1, nil
	}
	for attempt := 1; ; attempt++ {
		begun := bson.D{{Key: "$gte", Value: at}, {Key: "$lte", Value: at + window - interval}}
		taken, err := take(begun, bson.D{{Key: "$inc", Value: bson.D{{Key: "whole_at", Value: interval}}}})
		if err == nil && !taken {
			taken, err = take(bson.D{{Key: "$lt", Value: at}}, bson.D{{Key: "$set", Value: bson.D{{Key: "whole_at", Value: at + interval}}}})
		}
		if err != nil || taken {
			return 0, err
		}
		doc, err := one[limitDoc](ctx, l.db, op, l.db.limits, byID(name), errNoLimit)
		switch {
		case errors.Is(err, errNoLimit):
			err := l.db.insertOnce(ctx, op, l.db.limits, limits, limitDoc{Name: name, WholeAt: at + interval})
			if !errors.Is(err, fault.Conflict) {
				return 0, err
			}
		case err != nil:
			return 0, err
		default:
			if most := at + window; doc.WholeAt > most { // the clock has gone back
				if _, err := take(bson.D{{Key: "$gt", Value: most}}, bson.D{{Key: "$set", Value: bson.D{{Key: "whole_at", Value: most}}}}); err != nil {
					return 0, err
				}
				doc.WholeAt = most
			}
			if wait := doc.WholeAt + interval - at - window; wait > 0 {
				return time.Duration(wait) * time.Microsecond, nil
			}
		}
		// Somebody else was first, or it was swept in between.
		if err := pause(ctx, attempt); err != nil {
			return 0, l.db.fail(ctx, op, err)
		}
	}
}

// DeleteExpired implements auth.Sweeper: it forgets keys whose allowance was whole before the given time.
func (l *Limiter) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	const op = "delete whole allowances"
	if err := l.db.ready(ctx); err != nil {
		return 0, err
	}
	res, err := l.db.limits.DeleteMany(ctx, bson.D{{Key: "whole_at", Value: bson.D{{Key: "$lt", Value: micros(before)}}}})
	if err != nil {
		return 0, l.db.fail(ctx, op, err)
	}
	return int(res.DeletedCount), nil
}
