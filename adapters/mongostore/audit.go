package mongostore

import (
	"context"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/core/audit"
)

// AuditLog stores what administrators have done. Its methods may be called from many goroutines.
type AuditLog struct{ db *database }

var _ audit.Log = (*AuditLog)(nil)

type auditDoc struct {
	ID      string `bson:"_id"`
	At      int64  `bson:"at"`
	Actor   string `bson:"actor"`
	Action  string `bson:"action"`
	Target  string `bson:"target"`
	Detail  string `bson:"detail"`
	Network string `bson:"network"`
	Outcome string `bson:"outcome"`
}

// Append implements audit.Log.
func (l *AuditLog) Append(ctx context.Context, e audit.Entry) error {
	return l.db.insertOnce(ctx, "append to the audit log", l.db.audit, auditLog, auditDoc{
		ID: e.ID, At: micros(e.At), Actor: e.Actor, Action: e.Action, Target: e.Target, Detail: e.Detail, Network: e.Network, Outcome: e.Outcome,
	})
}

// Settle implements audit.Log.
func (l *AuditLog) Settle(ctx context.Context, id, outcome string) error {
	const op = "settle an entry of the audit log"
	if !storable(id) {
		return audit.ErrNotFound
	}
	// The same bounds as those of the whole document.
	if _, err := auditLog.encode(auditDoc{ID: "-", Outcome: outcome}); err != nil {
		return err
	}
	if err := l.db.ready(ctx); err != nil {
		return err
	}
	res, err := l.db.audit.UpdateOne(ctx, append(byID(id), bson.E{Key: "outcome", Value: ""}), bson.D{{Key: "$set", Value: bson.D{{Key: "outcome", Value: outcome}}}})
	if err != nil || res.MatchedCount > 0 {
		return l.db.fail(ctx, op, err)
	}
	_, err = one[auditDoc](ctx, l.db, op, l.db.audit, byID(id), audit.ErrNotFound)
	if errors.Is(err, audit.ErrNotFound) {
		return audit.ErrNotFound
	}
	return err
}

// List implements audit.Log, by one call.
func (l *AuditLog) List(ctx context.Context, before string, limit int) ([]audit.Entry, error) {
	if !storable(before) {
		return nil, errText
	}
	if limit < 1 {
		return []audit.Entry{}, ctx.Err()
	}
	filter := bson.D{}
	if before != "" {
		filter = bson.D{{Key: "_id", Value: bson.D{{Key: "$lt", Value: before}}}}
	}
	docs, err := all[auditDoc](ctx, l.db, "list the audit log", l.db.audit, filter, options.Find().SetSort(bson.D{{Key: "_id", Value: -1}}).SetLimit(int64(limit)))
	if err != nil {
		return nil, err
	}
	found := make([]audit.Entry, len(docs))
	for i, d := range docs {
		found[i] = audit.Entry{
			ID: d.ID, At: instant(d.At), Actor: d.Actor, Action: d.Action, Target: d.Target, Detail: d.Detail, Network: d.Network, Outcome: d.Outcome,
		}
	}
	return found, nil
}

// DeleteExpired implements audit.Log.
func (l *AuditLog) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	if err := l.db.ready(ctx); err != nil {
		return 0, err
	}
	res, err := l.db.audit.DeleteMany(ctx, bson.D{{Key: "at", Value: bson.D{{Key: "$lt", Value: micros(before)}}}})
	if err != nil {
		return 0, l.db.fail(ctx, "delete old entries of the audit log", err)
	}
	return int(res.DeletedCount), nil
}
