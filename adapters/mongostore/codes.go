package mongostore

import (
	"context"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Codes stores one-time codes. Its methods may be called from many goroutines.
type Codes struct{ db *database }

var _ auth.CodeStore = (*Codes)(nil)

type codeDoc struct {
	Hash      string `bson:"_id"`
	UserID    string `bson:"user_id"`
	CreatedAt int64  `bson:"created_at"`
	ExpiresAt int64  `bson:"expires_at"`
	UsedAt    *int64 `bson:"used_at,omitempty"`
	// Codes of older programs have none.
	Carried carrier `bson:",inline"`
}

// Put implements auth.CodeStore.
func (s *Codes) Put(ctx context.Context, c auth.Code, events ...event.Event) error {
	next, err := s.db.next(ctx, carrier{}, events)
	if err != nil {
		return err
	}
	return s.db.insertOnce(ctx, "put code", s.db.codes, codes, codeDoc{
		Hash: c.Hash, UserID: string(c.UserID),
		CreatedAt: micros(c.CreatedAt), ExpiresAt: micros(c.ExpiresAt), UsedAt: optionalMicros(c.UsedAt), Carried: next,
	})
}

// errNoTime refuses a use at the zero time, which would read as "not used".
var errNoTime = fault.New(fault.Invalid, "time_missing", "the time is missing")

// Use implements auth.CodeStore.
func (s *Codes) Use(ctx context.Context, hash string, at time.Time) (auth.Code, error) {
	const op = "use code"
	if at.IsZero() {
		return auth.Code{}, errNoTime
	}
	if !storable(hash) {
		return auth.Code{}, auth.ErrCodeUnknown
	}
	if err := s.db.ready(ctx); err != nil {
		return auth.Code{}, err
	}
	// The condition decides who is first; what is read afterwards cannot.
	res, err := s.db.codes.UpdateOne(ctx, bson.D{{Key: "_id", Value: hash}, {Key: "used_at", Value: exists(false)}, present},
		bson.D{{Key: "$set", Value: bson.D{{Key: "used_at", Value: micros(at)}}}})
	if err != nil {
		return auth.Code{}, s.db.fail(ctx, op, err)
	}
	doc, err := one[codeDoc](ctx, s.db, op, s.db.codes, bson.D{{Key: "_id", Value: hash}, present}, auth.ErrCodeUnknown)
	if err != nil {
		return auth.Code{}, err
	}
	if res.MatchedCount == 1 {
		doc.UsedAt = nil
	}
	return auth.Code{
		Hash: doc.Hash, UserID: user.ID(doc.UserID),
		CreatedAt: instant(doc.CreatedAt), ExpiresAt: instant(doc.ExpiresAt), UsedAt: optionalInstant(doc.UsedAt),
	}, nil
}

// DeleteExpired implements auth.Sweeper. A code whose events wait for the bus is only marked, and
// goes with the last of them.
func (s *Codes) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return s.db.deleteCarriers(ctx, "delete expired codes", s.db.codes, expiredBefore(before))
}

// DeleteOf implements auth.Eraser. It reads every code. One whose events wait for the bus is only marked, and goes with the last of them.
func (s *Codes) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	return s.db.deleteOf(ctx, "delete codes of a user", s.db.codes, id)
}

// Nonces remembers names until they are swept. Its methods may be called from many goroutines.
type Nonces struct{ db *database }

var _ auth.Nonces = (*Nonces)(nil)

type nonceDoc struct {
	Name      string `bson:"_id"`
	ExpiresAt int64  `bson:"expires_at"`
}

// Spend implements auth.Nonces.
func (s *Nonces) Spend(ctx context.Context, name string, expires time.Time) (bool, error) {
	err := s.db.insertOnce(ctx, "spend nonce", s.db.nonces, nonces, nonceDoc{Name: name, ExpiresAt: micros(expires)})
	if errors.Is(err, fault.Conflict) {
		return false, nil
	}
	return err == nil, err
}

// DeleteExpired implements auth.Sweeper.
func (s *Nonces) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return s.db.deleteExpired(ctx, "delete expired nonces", s.db.nonces, before)
}
