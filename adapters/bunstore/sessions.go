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

// Sessions stores sessions. Its methods may be called from many goroutines.
type Sessions struct{ db *database }

var (
	_ auth.SessionStore = (*Sessions)(nil)
	_ auth.Standings    = (*Sessions)(nil)
)

type sessionRow struct {
	bun.BaseModel `bun:"table:parley_sessions"`

	ID         string `bun:"id,pk"`
	UserID     string `bun:"user_id"`
	FamilyHash string `bun:"family_hash"`
	TokenHash  string `bun:"token_hash"`
	CreatedAt  int64  `bun:"created_at"`
	RotatedAt  *int64 `bun:"rotated_at"`
	ExpiresAt  int64  `bun:"expires_at"`
	RevokedAt  *int64 `bun:"revoked_at"`

	PreviousHash string `bun:"previous_hash"`
	RotationKey  string `bun:"rotation_key"`
	DeviceHash   string `bun:"device_hash"`

	Device  string `bun:"device"`
	Network string `bun:"network"`
	SeenAt  *int64 `bun:"seen_at"`

	ProvenAt *int64 `bun:"proven_at"`
}

func toSessionRow(s auth.Session) (*sessionRow, error) {
	if !storable(s.ID, string(s.UserID), s.FamilyHash, s.TokenHash, s.PreviousHash, s.RotationKey, s.DeviceHash, s.Device, s.Network) {
		return nil, errText
	}
	return &sessionRow{
		ID: s.ID, UserID: string(s.UserID), FamilyHash: s.FamilyHash, TokenHash: s.TokenHash,
		CreatedAt: micros(s.CreatedAt), RotatedAt: optionalMicros(s.RotatedAt),
		ExpiresAt: micros(s.ExpiresAt), RevokedAt: optionalMicros(s.RevokedAt),
		PreviousHash: s.PreviousHash, RotationKey: s.RotationKey, DeviceHash: s.DeviceHash,
		Device: s.Device, Network: s.Network, SeenAt: optionalMicros(s.SeenAt), ProvenAt: optionalMicros(s.ProvenAt),
	}, nil
}

func (r *sessionRow) session() auth.Session {
	return auth.Session{
		ID: r.ID, UserID: user.ID(r.UserID), FamilyHash: r.FamilyHash, TokenHash: r.TokenHash,
		CreatedAt: instant(r.CreatedAt), RotatedAt: optionalInstant(r.RotatedAt),
		ExpiresAt: instant(r.ExpiresAt), RevokedAt: optionalInstant(r.RevokedAt),
		PreviousHash: r.PreviousHash, RotationKey: r.RotationKey, DeviceHash: r.DeviceHash,
		Device: r.Device, Network: r.Network, SeenAt: optionalInstant(r.SeenAt), ProvenAt: optionalInstant(r.ProvenAt),
	}
}

// Create implements auth.SessionStore.
func (s *Sessions) Create(ctx context.Context, session auth.Session, events ...event.Event) error {
	row, err := toSessionRow(session)
	if err != nil {
		return err
	}
	return s.db.insertOnce(ctx, "create session", row, events...)
}

// insertOnce stores one row whose only unique column is its primary key, and events with it.
func (d *database) insertOnce(ctx context.Context, op string, row any, events ...event.Event) error {
	err := d.transact(ctx, op, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewInsert().Model(row).Exec(ctx); err != nil {
			return err
		}
		return d.putEvents(ctx, tx, events)
	})
	if errors.Is(err, fault.Conflict) {
		return errIDTaken.Because(err)
	}
	return err
}

// ByID implements auth.SessionStore.
func (s *Sessions) ByID(ctx context.Context, id string) (auth.Session, error) {
	if !storable(id) {
		return auth.Session{}, auth.ErrSessionNotFound
	}
	var row sessionRow
	err := s.db.reads.one(ctx, "SELECT "+sessionColumns+" FROM parley_sessions AS s WHERE s.id = ?", []any{id}, row.columns()...)
	if err != nil {
		return auth.Session{}, s.db.found(ctx, "read session", err, auth.ErrSessionNotFound)
	}
	return row.session(), nil
}

// sessionColumns are what columns reads.
const sessionColumns = "s.id, s.user_id, s.family_hash, s.token_hash, s.created_at, s.rotated_at, s.expires_at, s.revoked_at, " +
	"s.previous_hash, s.rotation_key, s.device_hash, s.device, s.network, s.seen_at, s.proven_at"

func (r *sessionRow) columns() []any {
	return []any{
		&r.ID, &r.UserID, &r.FamilyHash, &r.TokenHash, &r.CreatedAt, &r.RotatedAt, &r.ExpiresAt, &r.RevokedAt,
		&r.PreviousHash, &r.RotationKey, &r.DeviceHash, &r.Device, &r.Network, &r.SeenAt, &r.ProvenAt,
	}
}

func (s *Sessions) byID(ctx context.Context, q *bun.SelectQuery, id string) (auth.Session, error) {
	if !storable(id) {
		return auth.Session{}, auth.ErrSessionNotFound
	}
	var row sessionRow
	if err := q.Model(&row).Where("id = ?", id).Scan(ctx); err != nil {
		return auth.Session{}, s.db.found(ctx, "read session", err, auth.ErrSessionNotFound)
	}
	return row.session(), nil
}

// Update implements auth.SessionStore. A change that alters the ID is refused with kind Invalid.
func (s *Sessions) Update(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
	var stored auth.Session
	err := s.db.transactLocked(ctx, "update session", func(ctx context.Context, tx bun.Tx) error {
		session, err := s.byID(ctx, s.db.dialect.forUpdate(tx.NewSelect()), id)
		if err != nil {
			return err
		}
		if err := change(&session); err != nil {
			return verbatim{err}
		}
		if session.ID != id {
			return errIDChanged
		}
		row, err := toSessionRow(session)
		if err != nil {
			return err
		}
		if _, err := tx.NewUpdate().Model(row).WherePK().Exec(ctx); err != nil {
			return err
		}
		stored = row.session()
		return s.db.putEvents(ctx, tx, events)
	})
	if err != nil {
		return auth.Session{}, err
	}
	return stored, nil
}

// ByUser implements auth.SessionStore.
func (s *Sessions) ByUser(ctx context.Context, id user.ID, at time.Time, limit int) ([]auth.Session, error) {
	if limit < 1 || !storable(string(id)) {
		return []auth.Session{}, nil
	}
	var rows []sessionRow
	// The index (user_id, revoked_at, created_at) is read from its end, no further than to the limit.
	err := s.db.read.NewSelect().Model(&rows).Where("user_id = ?", string(id)).Where("revoked_at IS NULL").
		Where("expires_at > ?", micros(at)).OrderExpr("created_at DESC, id DESC").Limit(int64(limit)).Scan(ctx)
	if err != nil {
		return nil, s.db.fail(ctx, "read sessions", err)
	}
	sessions := make([]auth.Session, len(rows))
	for i := range rows {
		sessions[i] = rows[i].session()
	}
	return sessions, nil
}

// Standing implements auth.Standings, by one statement for all who ask at a time.
func (s *Sessions) Standing(ctx context.Context, id string) (auth.Standing, error) {
	if !storable(id) {
		return auth.Standing{}, auth.ErrSessionNotFound
	}
	x, found, err := s.db.standings.ask(ctx, id)
	if err == nil && !found {
		return auth.Standing{}, auth.ErrSessionNotFound
	}
	return x, s.db.fail(ctx, "read standing", err)
}

// standingSizes are for how many sessions statements are prepared.
var standingSizes = [...]int{64, 16, 4, 1}

// standingTexts read sessions and what their users say of sessions.
var standingTexts = func() map[int]string {
	texts := map[int]string{}
	for _, n := range standingSizes {
		texts[n] = "SELECT " + sessionColumns + ", u.sessions_from, u.kept_session " +
			"FROM parley_sessions AS s JOIN parley_users AS u ON u.id = s.user_id WHERE s.id IN " + questionMarks(1, n)
	}
	return texts
}()

// readStandings reads at most as many as the largest of standingSizes.
func (d *database) readStandings(ctx context.Context, ids []string) (map[string]auth.Standing, error) {
	size := fit(len(ids), standingSizes[:])
	args := make([]any, size)
	for i := range args {
		args[i] = ids[min(i, len(ids)-1)]
	}
	found := make(map[string]auth.Standing, len(ids))
	err := d.reads.query(ctx, standingTexts[size], args, func(scan func(...any) error) error {
		var row sessionRow
		var from *int64
		var kept string
		err := scan(append(row.columns(), &from, &kept)...)
		found[row.ID] = auth.Standing{Session: row.session(), From: optionalInstant(from), Kept: kept}
		return err
	})
	return found, err
}

// DeleteExpired implements auth.Sweeper, in transactions of at most 1,000 rows.
func (s *Sessions) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return s.db.sweep(ctx, "delete expired sessions", "parley_sessions", "id", "expires_at < ?", micros(before))
}

// DeleteOf implements auth.Eraser, in transactions of at most 1,000 rows.
func (s *Sessions) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	return s.db.sweepOf(ctx, "delete sessions of a user", "parley_sessions", "id", id)
}

// Codes stores one-time codes. Its methods may be called from many goroutines.
type Codes struct{ db *database }

var _ auth.CodeStore = (*Codes)(nil)

type codeRow struct {
	bun.BaseModel `bun:"table:parley_codes"`

	Hash      string `bun:"hash,pk"`
	UserID    string `bun:"user_id"`
	CreatedAt int64  `bun:"created_at"`
	ExpiresAt int64  `bun:"expires_at"`
	UsedAt    *int64 `bun:"used_at"`
}

// Put implements auth.CodeStore.
func (s *Codes) Put(ctx context.Context, c auth.Code, events ...event.Event) error {
	if !storable(c.Hash, string(c.UserID)) {
		return errText
	}
	row := &codeRow{
		Hash: c.Hash, UserID: string(c.UserID),
		CreatedAt: micros(c.CreatedAt), ExpiresAt: micros(c.ExpiresAt), UsedAt: optionalMicros(c.UsedAt),
	}
	return s.db.insertOnce(ctx, "put code", row, events...)
}

// errNoTime refuses a use at the zero time, which would read as "not used".
var errNoTime = fault.New(fault.Invalid, "time_missing", "the time is missing")

// Use implements auth.CodeStore.
func (s *Codes) Use(ctx context.Context, hash string, at time.Time) (auth.Code, error) {
	if at.IsZero() {
		return auth.Code{}, errNoTime
	}
	if !storable(hash) {
		return auth.Code{}, auth.ErrCodeUnknown
	}
	var row codeRow
	err := s.db.transact(ctx, "use code", func(ctx context.Context, tx bun.Tx) error {
		// The condition decides who is first; what is read afterwards cannot.
		res, err := tx.NewUpdate().Model((*codeRow)(nil)).Set("used_at = ?", micros(at)).
			Where("hash = ?", hash).Where("used_at IS NULL").Exec(ctx)
		if err != nil {
			return err
		}
		first, err := res.RowsAffected()
		if err != nil {
			return err
		}
		if err := tx.NewSelect().Model(&row).Where("hash = ?", hash).Scan(ctx); err != nil {
			return s.db.found(ctx, "read code", err, auth.ErrCodeUnknown)
		}
		if first == 1 {
			row.UsedAt = nil
		}
		return nil
	})
	if err != nil {
		return auth.Code{}, err
	}
	return auth.Code{
		Hash: row.Hash, UserID: user.ID(row.UserID),
		CreatedAt: instant(row.CreatedAt), ExpiresAt: instant(row.ExpiresAt), UsedAt: optionalInstant(row.UsedAt),
	}, nil
}

// DeleteExpired implements auth.Sweeper, in transactions of at most 1,000 rows.
func (s *Codes) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return s.db.sweep(ctx, "delete expired codes", "parley_codes", "hash", "expires_at < ?", micros(before))
}

// DeleteOf implements auth.Eraser, in transactions of at most 1,000 rows. It reads every code: there is no index of users, and codes do not last.
func (s *Codes) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	return s.db.sweepOf(ctx, "delete codes of a user", "parley_codes", "hash", id)
}

// Nonces remembers names until they are swept. Its methods may be called from many goroutines.
type Nonces struct{ db *database }

var _ auth.Nonces = (*Nonces)(nil)

// Spend implements auth.Nonces.
func (s *Nonces) Spend(ctx context.Context, name string, expires time.Time) (bool, error) {
	if !storable(name) {
		return false, errText
	}
	const text = "INSERT INTO parley_nonces (name, expires_at) VALUES (?, ?)"
	err := s.db.single(ctx, "spend nonce", func(ctx context.Context) error { return s.db.writes.exec(ctx, text, []any{name, micros(expires)}) })
	if errors.Is(err, fault.Conflict) {
		return false, nil
	}
	return err == nil, err
}

// DeleteExpired implements auth.Sweeper, in transactions of at most 1,000 rows.
func (s *Nonces) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return s.db.sweep(ctx, "delete expired nonces", "parley_nonces", "name", "expires_at < ?", micros(before))
}
