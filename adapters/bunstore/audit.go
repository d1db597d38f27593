package bunstore

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/audit"
)

// AuditLog stores what administrators have done. Its methods may be called from many goroutines.
type AuditLog struct{ db *database }

var _ audit.Log = (*AuditLog)(nil)

// auditTable holds what administrators have done. An older program records nothing.
const auditTable = `CREATE TABLE IF NOT EXISTS parley_audit (
		id varchar(128) NOT NULL PRIMARY KEY CHECK ({length}(id) BETWEEN 1 AND 128),
		at bigint NOT NULL,
		actor varchar(128) NOT NULL CHECK ({length}(actor) <= 128),
		action varchar(64) NOT NULL CHECK ({length}(action) <= 64),
		target varchar(255) NOT NULL CHECK ({length}(target) <= 255),
		detail varchar(512) NOT NULL CHECK ({length}(detail) <= 512),
		network varchar(64) NOT NULL CHECK ({length}(network) <= 64),
		outcome varchar(64) NOT NULL CHECK ({length}(outcome) <= 64)
	) {clustered}`

// auditAge is what DeleteExpired looks by.
const auditAge = `CREATE INDEX IF NOT EXISTS parley_audit_at ON parley_audit (at)`

type auditRow struct {
	bun.BaseModel `bun:"table:parley_audit"`

	ID      string `bun:"id,pk"`
	At      int64  `bun:"at"`
	Actor   string `bun:"actor"`
	Action  string `bun:"action"`
	Target  string `bun:"target"`
	Detail  string `bun:"detail"`
	Network string `bun:"network"`
	Outcome string `bun:"outcome"`
}

// Append implements audit.Log.
func (l *AuditLog) Append(ctx context.Context, e audit.Entry) error {
	if !storable(e.ID, e.Actor, e.Action, e.Target, e.Detail, e.Network, e.Outcome) {
		return errText
	}
	row := &auditRow{
		ID: e.ID, At: micros(e.At), Actor: e.Actor, Action: e.Action, Target: e.Target, Detail: e.Detail, Network: e.Network, Outcome: e.Outcome,
	}
	return l.db.transact(ctx, "append to the audit log", func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewInsert().Model(row).Exec(ctx)
		return err
	})
}

// Settle implements audit.Log.
func (l *AuditLog) Settle(ctx context.Context, id, outcome string) error {
	if !storable(id) {
		return audit.ErrNotFound
	}
	if !storable(outcome) {
		return errText
	}
	return l.db.transact(ctx, "settle an entry of the audit log", func(ctx context.Context, tx bun.Tx) error {
		res, err := tx.ExecContext(ctx, "UPDATE parley_audit SET outcome = ? WHERE id = ? AND outcome = ''", outcome, id)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n > 0 {
			return err
		}
		there, err := tx.NewSelect().Model((*auditRow)(nil)).Where("id = ?", id).Exists(ctx)
		if err == nil && !there {
			return verbatim{audit.ErrNotFound}
		}
		return err
	})
}

// List implements audit.Log, by one statement.
func (l *AuditLog) List(ctx context.Context, before string, limit int) ([]audit.Entry, error) {
	all := []audit.Entry{}
	if !storable(before) {
		return nil, errText
	}
	if limit < 1 {
		return all, ctx.Err()
	}
	text, args := "SELECT id, at, actor, action, target, detail, network, outcome FROM parley_audit", []any{}
	if before != "" {
		text += " WHERE id < ?"
		args = append(args, before)
	}
	err := l.db.reads.query(ctx, text+" ORDER BY id DESC LIMIT ?", append(args, limit), func(scan func(...any) error) error {
		var e audit.Entry
		var at int64
		err := scan(&e.ID, &at, &e.Actor, &e.Action, &e.Target, &e.Detail, &e.Network, &e.Outcome)
		e.At = instant(at)
		all = append(all, e)
		return err
	})
	if err != nil {
		return nil, l.db.fail(ctx, "list the audit log", err)
	}
	return all, nil
}

// DeleteExpired implements audit.Log, in transactions of at most 1,000 rows.
func (l *AuditLog) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return l.db.sweep(ctx, "delete old entries of the audit log", "parley_audit", "id", "at < ?", micros(before))
}
