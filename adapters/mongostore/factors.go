package mongostore

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Factors stores second factors. Its methods may be called from many goroutines.
type Factors struct{ db *database }

var _ auth.FactorStore = (*Factors)(nil)

// factorDoc is a factor, or, without a secret, that there is none any more.
type factorDoc struct {
	UserID      string   `bson:"_id"`
	Secret      []byte   `bson:"secret"`
	CreatedAt   *int64   `bson:"created_at,omitempty"`
	ConfirmedAt *int64   `bson:"confirmed_at,omitempty"`
	LastStep    int64    `bson:"last_step"`
	Recovery    []string `bson:"recovery,omitempty"`
	Removed     bool     `bson:"removed,omitempty"`
	Carried     carrier  `bson:",inline"`
}

func toFactorDoc(f auth.Factor, c carrier) factorDoc {
	return factorDoc{
		UserID: string(f.UserID), Secret: notNull(f.Secret), CreatedAt: optionalMicros(f.CreatedAt), ConfirmedAt: optionalMicros(f.ConfirmedAt),
		LastStep: f.LastStep, Recovery: f.Recovery, Carried: c,
	}
}

func (d *factorDoc) factor() auth.Factor {
	f := auth.Factor{UserID: user.ID(d.UserID)}
	if d.Removed {
		return f
	}
	f.CreatedAt, f.ConfirmedAt, f.LastStep = optionalInstant(d.CreatedAt), optionalInstant(d.ConfirmedAt), d.LastStep
	if len(d.Secret) > 0 {
		f.Secret = d.Secret
	}
	if len(d.Recovery) > 0 {
		f.Recovery = d.Recovery
	}
	return f
}

// errNoFactor says that there is no document. It does not leave the package.
var errNoFactor = errors.New("mongostore: there is no second factor")

// read returns the document of a user, also one that is removed and only carries events.
func (s *Factors) read(ctx context.Context, id user.ID) (factorDoc, error) {
	return one[factorDoc](ctx, s.db, "read second factor", s.db.factors, byID(string(id)), errNoFactor)
}

// ByUser implements auth.FactorStore.
func (s *Factors) ByUser(ctx context.Context, id user.ID) (auth.Factor, error) {
	none := auth.Factor{UserID: id}
	if !storable(string(id)) {
		return none, nil
	}
	doc, err := s.read(ctx, id)
	switch {
	case errors.Is(err, errNoFactor):
		return none, nil
	case err != nil:
		return auth.Factor{}, err
	}
	return doc.factor(), nil
}

// Update implements auth.FactorStore. Where another write came first, change runs again on what it has left.
func (s *Factors) Update(ctx context.Context, id user.ID, change func(*auth.Factor) error, events ...event.Event) (auth.Factor, error) {
	const op = "update second factor"
	if !storable(string(id)) {
		return auth.Factor{}, errText
	}
	for attempt := 1; ; attempt++ {
		old, err := s.read(ctx, id)
		first := errors.Is(err, errNoFactor)
		switch {
		case first:
			old = factorDoc{UserID: string(id)}
		case err != nil:
			return auth.Factor{}, err
		}
		f := old.factor()
		if err := change(&f); err != nil {
			return auth.Factor{}, err
		}
		if f.UserID != id {
			return auth.Factor{}, errIDChanged
		}
		next, err := s.db.next(ctx, old.Carried, events)
		if err != nil {
			return auth.Factor{}, err
		}
		doc, stored := toFactorDoc(f, next), true
		if first {
			err = s.db.insertOnce(ctx, op, s.db.factors, factors, doc)
			if errors.Is(err, fault.Conflict) {
				stored, err = false, nil
			}
		} else {
			stored, err = s.db.replace(ctx, op, s.db.factors, factors, string(id), old.Carried.Version, doc)
		}
		switch {
		case err != nil:
			return auth.Factor{}, err
		case stored:
			return doc.factor(), nil
		}
		if err := pause(ctx, attempt); err != nil {
			return auth.Factor{}, s.db.fail(ctx, op, err)
		}
	}
}

// DeleteOf implements auth.Eraser. A factor whose events wait for the bus is only marked, and goes with the last of them.
func (s *Factors) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	if !storable(string(id)) {
		return 0, nil
	}
	return s.db.deleteCarriers(ctx, "delete the second factor of a user", s.db.factors, bson.E{Key: "_id", Value: string(id)})
}
