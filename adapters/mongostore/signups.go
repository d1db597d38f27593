package mongostore

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/user"
)

// SignUps stores sign-ups that wait. Its methods may be called from many goroutines.
type SignUps struct{ db *database }

var _ auth.SignUps = (*SignUps)(nil)

type signUpDoc struct {
	ID           string  `bson:"_id"`
	UserID       string  `bson:"user_id"`
	FullName     string  `bson:"full_name"`
	Email        string  `bson:"email"`
	PasswordHash string  `bson:"password_hash"`
	Network      string  `bson:"network"`
	CreatedAt    int64   `bson:"created_at"`
	ExpiresAt    int64   `bson:"expires_at"`
	ConfirmedAt  *int64  `bson:"confirmed_at,omitempty"`
	Language     string  `bson:"language,omitempty"`
	Carried      carrier `bson:",inline"`
}

func (d *signUpDoc) signUp() auth.WaitingSignUp {
	return auth.WaitingSignUp{
		ID: d.ID, UserID: user.ID(d.UserID), FullName: d.FullName, Email: user.Email(d.Email), PasswordHash: d.PasswordHash,
		Network: d.Network, CreatedAt: instant(d.CreatedAt), ExpiresAt: instant(d.ExpiresAt), ConfirmedAt: optionalInstant(d.ConfirmedAt), Language: d.Language,
	}
}

// Create implements auth.SignUps. The sign-up and its events are one document, written first.
func (s *SignUps) Create(ctx context.Context, w auth.WaitingSignUp, keep int, events ...event.Event) error {
	const op = "create sign-up"
	next, err := s.db.next(ctx, carrier{}, events)
	if err != nil {
		return err
	}
	err = s.db.insertOnce(ctx, op, s.db.signUps, signUps, signUpDoc{
		ID: w.ID, UserID: string(w.UserID), FullName: w.FullName, Email: string(w.Email), PasswordHash: w.PasswordHash, Network: w.Network,
		CreatedAt: micros(w.CreatedAt), ExpiresAt: micros(w.ExpiresAt), ConfirmedAt: optionalMicros(w.ConfirmedAt), Language: w.Language, Carried: next,
	})
	if err != nil {
		return err
	}
	older, err := all[published](ctx, s.db, op, s.db.signUps, bson.D{
		{Key: "email", Value: string(w.Email)}, {Key: "confirmed_at", Value: exists(false)}, present,
		{Key: "_id", Value: bson.D{{Key: "$ne", Value: w.ID}}},
	}, options.Find().SetSort(ascending("-created_at", "-_id")).SetSkip(int64(max(0, keep-1))).SetProjection(ascending("version")))
	if err != nil || len(older) == 0 {
		s.left(ctx, err)
		return nil
	}
	ids := make([]bson.RawValue, len(older))
	for i := range older {
		ids[i] = older[i].ID
	}
	_, err = s.db.deleteCarriers(ctx, op, s.db.signUps, bson.E{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}})
	s.left(ctx, err)
	return nil
}

// left says that sign-ups were left that are one too many: the new one is stored, and the next one tries again.
func (s *SignUps) left(ctx context.Context, err error) {
	if err != nil {
		s.db.log.WarnContext(ctx, "the oldest sign-ups of an address could not be removed", "error", err)
	}
}

// ByID implements auth.SignUps.
func (s *SignUps) ByID(ctx context.Context, id string) (auth.WaitingSignUp, error) {
	if !storable(id) {
		return auth.WaitingSignUp{}, auth.ErrSignUpNotFound
	}
	doc, err := one[signUpDoc](ctx, s.db, "read sign-up", s.db.signUps, bson.D{{Key: "_id", Value: id}, present}, auth.ErrSignUpNotFound)
	if err != nil {
		return auth.WaitingSignUp{}, err
	}
	return doc.signUp(), nil
}

// ByEmail implements auth.SignUps. Sign-ups of the same age come by ID.
func (s *SignUps) ByEmail(ctx context.Context, email user.Email) ([]auth.WaitingSignUp, error) {
	if !storable(string(email)) {
		return []auth.WaitingSignUp{}, nil
	}
	docs, err := all[signUpDoc](ctx, s.db, "read sign-ups", s.db.signUps, bson.D{{Key: "email", Value: string(email)}, present},
		options.Find().SetSort(ascending("created_at", "_id")))
	if err != nil {
		return nil, err
	}
	found := make([]auth.WaitingSignUp, len(docs))
	for i := range docs {
		found[i] = docs[i].signUp()
	}
	return found, nil
}

// Confirm implements auth.SignUps.
func (s *SignUps) Confirm(ctx context.Context, id string, at time.Time) (auth.WaitingSignUp, error) {
	const op = "confirm sign-up"
	if at.IsZero() {
		return auth.WaitingSignUp{}, errNoTime
	}
	if !storable(id) {
		return auth.WaitingSignUp{}, auth.ErrSignUpNotFound
	}
	if err := s.db.ready(ctx); err != nil {
		return auth.WaitingSignUp{}, err
	}
	// The condition decides who is first; what is read afterwards cannot.
	res, err := s.db.signUps.UpdateOne(ctx, bson.D{{Key: "_id", Value: id}, {Key: "confirmed_at", Value: exists(false)}, present},
		bson.D{{Key: "$set", Value: bson.D{{Key: "confirmed_at", Value: micros(at)}}}})
	if err != nil {
		return auth.WaitingSignUp{}, s.db.fail(ctx, op, err)
	}
	doc, err := one[signUpDoc](ctx, s.db, op, s.db.signUps, bson.D{{Key: "_id", Value: id}, present}, auth.ErrSignUpNotFound)
	if err != nil {
		return auth.WaitingSignUp{}, err
	}
	if res.MatchedCount == 1 {
		doc.ConfirmedAt = nil
	}
	return doc.signUp(), nil
}

// DeleteExpired implements auth.Sweeper. A sign-up whose events wait for the bus is only marked, and
// goes with the last of them.
func (s *SignUps) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return s.db.deleteCarriers(ctx, "delete expired sign-ups", s.db.signUps, expiredBefore(before))
}

// DeleteOf implements auth.Eraser. It reads every sign-up. One whose events wait for the bus is only marked, and goes with the last of them.
func (s *SignUps) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	return s.db.deleteOf(ctx, "delete sign-ups of a user", s.db.signUps, id)
}
