package bunstore

import (
	"context"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// SignUps stores sign-ups that wait. Its methods may be called from many goroutines.
type SignUps struct{ db *database }

var _ auth.SignUps = (*SignUps)(nil)

type signUpRow struct {
	bun.BaseModel `bun:"table:parley_sign_ups"`

	ID           string  `bun:"id,pk"`
	UserID       string  `bun:"user_id"`
	FullName     string  `bun:"full_name"`
	Email        string  `bun:"email"`
	PasswordHash string  `bun:"password_hash"`
	Network      string  `bun:"network"`
	CreatedAt    int64   `bun:"created_at"`
	ExpiresAt    int64   `bun:"expires_at"`
	ConfirmedAt  *int64  `bun:"confirmed_at"`
	Language     *string `bun:"language"`
}

func (r *signUpRow) signUp() auth.WaitingSignUp {
	return auth.WaitingSignUp{
		ID: r.ID, UserID: user.ID(r.UserID), FullName: r.FullName, Email: user.Email(r.Email), PasswordHash: r.PasswordHash,
		Network: r.Network, CreatedAt: instant(r.CreatedAt), ExpiresAt: instant(r.ExpiresAt), ConfirmedAt: optionalInstant(r.ConfirmedAt), Language: textOr(r.Language),
	}
}

// signUpsSwept bounds how many older sign-ups one call removes.
const signUpsSwept = 1000

// Create implements auth.SignUps.
func (s *SignUps) Create(ctx context.Context, w auth.WaitingSignUp, keep int, events ...event.Event) error {
	if !storable(w.ID, string(w.UserID), w.FullName, string(w.Email), w.PasswordHash, w.Network, w.Language) {
		return errText
	}
	row := &signUpRow{
		ID: w.ID, UserID: string(w.UserID), FullName: w.FullName, Email: string(w.Email), PasswordHash: w.PasswordHash, Network: w.Network,
		CreatedAt: micros(w.CreatedAt), ExpiresAt: micros(w.ExpiresAt), ConfirmedAt: optionalMicros(w.ConfirmedAt), Language: optionalText(w.Language),
	}
	err := s.db.transact(ctx, "create sign-up", func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewInsert().Model(row).Exec(ctx); err != nil {
			return err
		}
		var older []string
		err := tx.NewSelect().Model((*signUpRow)(nil)).Column("id").Where("email = ?", row.Email).Where("confirmed_at IS NULL").
			Where("id <> ?", row.ID).OrderExpr("created_at DESC, id DESC").Limit(signUpsSwept).Offset(int64(max(0, keep-1))).Scan(ctx, &older)
		if err != nil {
			return err
		}
		if len(older) > 0 {
			if _, err := tx.NewDelete().Model((*signUpRow)(nil)).Where("id IN (?)", bun.List(older)).Exec(ctx); err != nil {
				return err
			}
		}
		return s.db.putEvents(ctx, tx, events)
	})
	if errors.Is(err, fault.Conflict) {
		return errIDTaken.Because(err)
	}
	return err
}

// ByID implements auth.SignUps.
func (s *SignUps) ByID(ctx context.Context, id string) (auth.WaitingSignUp, error) {
	if !storable(id) {
		return auth.WaitingSignUp{}, auth.ErrSignUpNotFound
	}
	var row signUpRow
	if err := s.db.read.NewSelect().Model(&row).Where("id = ?", id).Scan(ctx); err != nil {
		return auth.WaitingSignUp{}, s.db.found(ctx, "read sign-up", err, auth.ErrSignUpNotFound)
	}
	return row.signUp(), nil
}

// ByEmail implements auth.SignUps. Sign-ups of the same age come by ID.
func (s *SignUps) ByEmail(ctx context.Context, email user.Email) ([]auth.WaitingSignUp, error) {
	if !storable(string(email)) {
		return []auth.WaitingSignUp{}, nil
	}
	var rows []signUpRow
	if err := s.db.read.NewSelect().Model(&rows).Where("email = ?", string(email)).OrderExpr("created_at, id").Scan(ctx); err != nil {
		return nil, s.db.fail(ctx, "read sign-ups", err)
	}
	found := make([]auth.WaitingSignUp, len(rows))
	for i := range rows {
		found[i] = rows[i].signUp()
	}
	return found, nil
}

// Confirm implements auth.SignUps.
func (s *SignUps) Confirm(ctx context.Context, id string, at time.Time) (auth.WaitingSignUp, error) {
	if at.IsZero() {
		return auth.WaitingSignUp{}, errNoTime
	}
	if !storable(id) {
		return auth.WaitingSignUp{}, auth.ErrSignUpNotFound
	}
	var row signUpRow
	err := s.db.transact(ctx, "confirm sign-up", func(ctx context.Context, tx bun.Tx) error {
		// The condition decides who is first; what is read afterwards cannot.
		res, err := tx.NewUpdate().Model((*signUpRow)(nil)).Set("confirmed_at = ?", micros(at)).
			Where("id = ?", id).Where("confirmed_at IS NULL").Exec(ctx)
		if err != nil {
			return err
		}
		first, err := res.RowsAffected()
		if err != nil {
			return err
		}
		if err := tx.NewSelect().Model(&row).Where("id = ?", id).Scan(ctx); err != nil {
			return s.db.found(ctx, "read sign-up", err, auth.ErrSignUpNotFound)
		}
		if first == 1 {
			row.ConfirmedAt = nil
		}
		return nil
	})
	if err != nil {
		return auth.WaitingSignUp{}, err
	}
	return row.signUp(), nil
}

// DeleteExpired implements auth.Sweeper, in transactions of at most 1,000 rows.
func (s *SignUps) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return s.db.sweep(ctx, "delete expired sign-ups", "parley_sign_ups", "id", "expires_at < ?", micros(before))
}

// DeleteOf implements auth.Eraser, in transactions of at most 1,000 rows. It reads every sign-up: there is no index of users, and sign-ups do not last.
func (s *SignUps) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	return s.db.sweepOf(ctx, "delete sign-ups of a user", "parley_sign_ups", "id", id)
}
