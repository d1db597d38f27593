package bunstore

import (
	"context"
	"errors"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// errIDTaken says that something with that ID, or hash, is stored already.
var errIDTaken = fault.New(fault.Conflict, "id_taken", "the identifier is taken")

// errIDChanged refuses a change function that altered the identifier.
var errIDChanged = fault.New(fault.Invalid, "id_changed", "an update must not change the identifier")

// Users stores users. Its methods may be called from many goroutines.
type Users struct{ db *database }

var _ user.Repository = (*Users)(nil)

type userRow struct {
	bun.BaseModel `bun:"table:parley_users"`

	ID                string  `bun:"id,pk"`
	FullName          string  `bun:"full_name"`
	Email             string  `bun:"email"`
	PasswordHash      string  `bun:"password_hash"`
	CreatedAt         int64   `bun:"created_at"`
	VerifiedAt        *int64  `bun:"verified_at"`
	PasswordChangedAt *int64  `bun:"password_changed_at"`
	SessionsFrom      *int64  `bun:"sessions_from"`
	KeptSession       string  `bun:"kept_session"`
	Role              *string `bun:"role"`
	DisabledAt        *int64  `bun:"disabled_at"`
	Language          *string `bun:"language"`
	AvatarURL         *string `bun:"avatar_url"`
	NewEmail          *string `bun:"new_email"`
	NewEmailCode      *string `bun:"new_email_code"`
}

func toUserRow(u user.User) (*userRow, error) {
	if !storable(string(u.ID), u.FullName, string(u.Email), u.PasswordHash, u.KeptSession, string(u.Role), u.Language, u.AvatarURL, string(u.NewEmail), u.NewEmailCode) {
		return nil, errText
	}
	return &userRow{
		ID: string(u.ID), FullName: u.FullName, Email: string(u.Email), PasswordHash: u.PasswordHash,
		CreatedAt: micros(u.CreatedAt), VerifiedAt: optionalMicros(u.VerifiedAt), PasswordChangedAt: optionalMicros(u.PasswordChangedAt),
		SessionsFrom: optionalMicros(u.SessionsFrom), KeptSession: u.KeptSession, Role: optionalText(string(u.Role)), DisabledAt: optionalMicros(u.DisabledAt),
		Language: optionalText(u.Language), AvatarURL: optionalText(u.AvatarURL), NewEmail: optionalText(string(u.NewEmail)), NewEmailCode: optionalText(u.NewEmailCode),
	}, nil
}

func (r *userRow) user() user.User {
	return user.User{
		ID: user.ID(r.ID), FullName: r.FullName, Email: user.Email(r.Email), PasswordHash: r.PasswordHash,
		CreatedAt: instant(r.CreatedAt), VerifiedAt: optionalInstant(r.VerifiedAt), PasswordChangedAt: optionalInstant(r.PasswordChangedAt),
		SessionsFrom: optionalInstant(r.SessionsFrom), KeptSession: r.KeptSession, DisabledAt: optionalInstant(r.DisabledAt),
		Role: user.Role(textOr(r.Role)), Language: textOr(r.Language), AvatarURL: textOr(r.AvatarURL), NewEmail: user.Email(textOr(r.NewEmail)), NewEmailCode: textOr(r.NewEmailCode),
	}
}

// optionalText is NULL for an empty text, and textOr the other way round.
func optionalText(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func textOr(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// columns are where userColumns go.
func (r *userRow) columns() []any {
	return []any{
		&r.ID, &r.FullName, &r.Email, &r.PasswordHash, &r.CreatedAt, &r.VerifiedAt, &r.PasswordChangedAt, &r.SessionsFrom, &r.KeptSession, &r.Role, &r.DisabledAt,
		&r.Language, &r.AvatarURL, &r.NewEmail, &r.NewEmailCode,
	}
}

// Create implements user.Repository.
func (s *Users) Create(ctx context.Context, u user.User, events ...event.Event) error {
	row, err := toUserRow(u)
	if err != nil {
		return err
	}
	const op = "create user"
	err = s.db.transact(ctx, op, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewInsert().Model(row).Exec(ctx); err != nil {
			return err
		}
		return s.db.putEvents(ctx, tx, events)
	})
	if !errors.Is(err, fault.Conflict) {
		return err
	}
	// Engines differ in which of two violated constraints they name, so ask. An ID stays; whoever had the address may have left it since.
	var have []userRow
	lookErr := s.db.read.NewSelect().Model(&have).Column("id", "email").Where("email = ?", row.Email).WhereOr("id = ?", row.ID).Scan(ctx)
	switch {
	case lookErr != nil:
		return s.db.fail(ctx, op, lookErr)
	case len(have) == 1 && have[0].Email != row.Email:
		return errIDTaken.Because(err)
	}
	return user.ErrEmailTaken.Because(err)
}

// ByID implements user.Repository.
func (s *Users) ByID(ctx context.Context, id user.ID) (user.User, error) {
	return s.read(ctx, "SELECT "+userColumns+" FROM parley_users WHERE id = ?", string(id))
}

// ByEmail implements user.Repository.
func (s *Users) ByEmail(ctx context.Context, email user.Email) (user.User, error) {
	return s.read(ctx, "SELECT "+userColumns+" FROM parley_users WHERE email = ?", string(email))
}

const userColumns = "id, full_name, email, password_hash, created_at, verified_at, password_changed_at, sessions_from, kept_session, role, disabled_at, language, avatar_url, new_email, new_email_code"

func (s *Users) read(ctx context.Context, text, value string) (user.User, error) {
	if !storable(value) {
		return user.User{}, user.ErrNotFound
	}
	var row userRow
	err := s.db.reads.one(ctx, text, []any{value}, row.columns()...)
	if err != nil {
		return user.User{}, s.db.found(ctx, "read user", err, user.ErrNotFound)
	}
	return row.user(), nil
}

func (s *Users) byID(ctx context.Context, q *bun.SelectQuery, id user.ID) (user.User, error) {
	if !storable(string(id)) {
		return user.User{}, user.ErrNotFound
	}
	var row userRow
	err := q.Model(&row).Where("id = ?", string(id)).Scan(ctx)
	if err != nil {
		return user.User{}, s.db.found(ctx, "read user", err, user.ErrNotFound)
	}
	return row.user(), nil
}

// Update implements user.Repository. A change that alters the ID is refused with kind Invalid.
func (s *Users) Update(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
	var stored user.User
	err := s.db.transactLocked(ctx, "update user", func(ctx context.Context, tx bun.Tx) error {
		u, err := s.byID(ctx, s.db.dialect.forUpdate(tx.NewSelect()), id)
		if err != nil {
			return err
		}
		if err := change(&u); err != nil {
			return verbatim{err}
		}
		if u.ID != id {
			return errIDChanged
		}
		row, err := toUserRow(u)
		if err != nil {
			return err
		}
		if _, err := tx.NewUpdate().Model(row).WherePK().Exec(ctx); err != nil {
			if s.db.dialect.kind(err) == fault.Conflict {
				return user.ErrEmailTaken.Because(err)
			}
			return err
		}
		stored = row.user()
		return s.db.putEvents(ctx, tx, events)
	})
	if stored.Erased() { // also after an error: it may have been committed
		s.db.scrub.dueWiping()
	}
	if err != nil {
		return user.User{}, err
	}
	return stored, nil
}

// profiles is what users say of themselves, and the address that they want to have. An older program keeps it, and knows nothing of it.
var profiles = []string{
	`ALTER TABLE parley_users ADD COLUMN IF NOT EXISTS language varchar(35) CHECK ({length}(language) BETWEEN 1 AND 35)`,
	`ALTER TABLE parley_users ADD COLUMN IF NOT EXISTS avatar_url varchar(1024) CHECK ({length}(avatar_url) BETWEEN 1 AND 1024)`,
	`ALTER TABLE parley_users ADD COLUMN IF NOT EXISTS new_email varchar(254) CHECK ({length}(new_email) BETWEEN 1 AND 254)`,
	`ALTER TABLE parley_users ADD COLUMN IF NOT EXISTS new_email_code varchar(128) CHECK ({length}(new_email_code) BETWEEN 1 AND 128)`,
	`ALTER TABLE parley_sign_ups ADD COLUMN IF NOT EXISTS language varchar(35) CHECK ({length}(language) BETWEEN 1 AND 35)`,
}
