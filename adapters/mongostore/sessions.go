package mongostore

import (
	"context"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/user"
)

// Sessions stores sessions. Its methods may be called from many goroutines.
type Sessions struct{ db *database }

var _ auth.SessionStore = (*Sessions)(nil)

type sessionDoc struct {
	ID         string  `bson:"_id"`
	UserID     string  `bson:"user_id"`
	FamilyHash string  `bson:"family_hash"`
	TokenHash  string  `bson:"token_hash"`
	CreatedAt  int64   `bson:"created_at"`
	RotatedAt  *int64  `bson:"rotated_at,omitempty"`
	ExpiresAt  int64   `bson:"expires_at"`
	RevokedAt  *int64  `bson:"revoked_at,omitempty"`
	Carried    carrier `bson:",inline"`

	PreviousHash string `bson:"previous_hash,omitempty"`
	RotationKey  string `bson:"rotation_key,omitempty"`
	DeviceHash   string `bson:"device_hash,omitempty"`

	Device  string `bson:"device,omitempty"`
	Network string `bson:"network,omitempty"`
	SeenAt  *int64 `bson:"seen_at,omitempty"`

	ProvenAt *int64 `bson:"proven_at,omitempty"`
}

func toSessionDoc(s auth.Session, c carrier) sessionDoc {
	return sessionDoc{
		ID: s.ID, UserID: string(s.UserID), FamilyHash: s.FamilyHash, TokenHash: s.TokenHash,
		CreatedAt: micros(s.CreatedAt), RotatedAt: optionalMicros(s.RotatedAt),
		ExpiresAt: micros(s.ExpiresAt), RevokedAt: optionalMicros(s.RevokedAt), Carried: c,
		PreviousHash: s.PreviousHash, RotationKey: s.RotationKey, DeviceHash: s.DeviceHash,
		Device: s.Device, Network: s.Network, SeenAt: optionalMicros(s.SeenAt), ProvenAt: optionalMicros(s.ProvenAt),
	}
}

func (d *sessionDoc) session() auth.Session {
	return auth.Session{
		ID: d.ID, UserID: user.ID(d.UserID), FamilyHash: d.FamilyHash, TokenHash: d.TokenHash,
		CreatedAt: instant(d.CreatedAt), RotatedAt: optionalInstant(d.RotatedAt),
		ExpiresAt: instant(d.ExpiresAt), RevokedAt: optionalInstant(d.RevokedAt),
		PreviousHash: d.PreviousHash, RotationKey: d.RotationKey, DeviceHash: d.DeviceHash,
		Device: d.Device, Network: d.Network, SeenAt: optionalInstant(d.SeenAt), ProvenAt: optionalInstant(d.ProvenAt),
	}
}

// present leaves out sessions that are removed, and only carry events.
var present = bson.E{Key: "removed", Value: exists(false)}

// Create implements auth.SessionStore.
func (s *Sessions) Create(ctx context.Context, session auth.Session, events ...event.Event) error {
	first, err := s.db.next(ctx, carrier{}, events)
	if err != nil {
		return err
	}
	return s.db.insertOnce(ctx, "create session", s.db.sessions, sessions, toSessionDoc(session, first))
}

// ByID implements auth.SessionStore.
func (s *Sessions) ByID(ctx context.Context, id string) (auth.Session, error) {
	doc, err := s.read(ctx, id)
	if err != nil {
		return auth.Session{}, err
	}
	return doc.session(), nil
}

func (s *Sessions) read(ctx context.Context, id string) (sessionDoc, error) {
	if !storable(id) {
		return sessionDoc{}, auth.ErrSessionNotFound
	}
	return one[sessionDoc](ctx, s.db, "read session", s.db.sessions, bson.D{{Key: "_id", Value: id}, present}, auth.ErrSessionNotFound)
}

// Update implements auth.SessionStore. A change that alters the ID is refused with kind Invalid. Where another
// write came first, change runs again on what it has left.
func (s *Sessions) Update(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
	const op = "update session"
	for attempt := 1; ; attempt++ {
		old, err := s.read(ctx, id)
		if err != nil {
			return auth.Session{}, err
		}
		session := old.session()
		if err := change(&session); err != nil {
			return auth.Session{}, err
		}
		if session.ID != id {
			return auth.Session{}, errIDChanged
		}
		next, err := s.db.next(ctx, old.Carried, events)
		if err != nil {
			return auth.Session{}, err
		}
		doc := toSessionDoc(session, next)
		replaced, err := s.db.replace(ctx, op, s.db.sessions, sessions, id, old.Carried.Version, doc)
		if err != nil {
			return auth.Session{}, err
		}
		if replaced {
			return doc.session(), nil
		}
		if err := pause(ctx, attempt); err != nil {
			return auth.Session{}, s.db.fail(ctx, op, err)
		}
	}
}

// ByUser implements auth.SessionStore.
func (s *Sessions) ByUser(ctx context.Context, id user.ID, at time.Time, limit int) ([]auth.Session, error) {
	if limit < 1 || !storable(string(id)) {
		return []auth.Session{}, nil
	}
	// The index on user_id, revoked_at, created_at and _id is read from its end, no further than to the limit.
	docs, err := all[sessionDoc](ctx, s.db, "read sessions", s.db.sessions, bson.D{
		{Key: "user_id", Value: string(id)}, {Key: "revoked_at", Value: nil},
		{Key: "expires_at", Value: bson.D{{Key: "$gt", Value: micros(at)}}}, present,
	}, options.Find().SetSort(ascending("-created_at", "-_id")).SetLimit(int64(limit)))
	if err != nil {
		return nil, err
	}
	found := make([]auth.Session, len(docs))
	for i := range docs {
		found[i] = docs[i].session()
	}
	return found, nil
}

// DeleteExpired implements auth.Sweeper. A session whose events wait for the bus is only marked, and goes
// with the last of them.
func (s *Sessions) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return s.db.deleteCarriers(ctx, "delete expired sessions", s.db.sessions, expiredBefore(before))
}

// DeleteOf implements auth.Eraser. A session whose events wait for the bus is only marked, and goes with the last of them.
func (s *Sessions) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	return s.db.deleteOf(ctx, "delete sessions of a user", s.db.sessions, id)
}

// deleteOf removes the documents of a user.
func (d *database) deleteOf(ctx context.Context, op string, c *mongo.Collection, id user.ID) (int, error) {
	if !storable(string(id)) {
		return 0, nil
	}
	return d.deleteCarriers(ctx, op, c, bson.E{Key: "user_id", Value: string(id)})
}

// expiredBefore chooses what expired before the given time.
func expiredBefore(t time.Time) bson.E {
	return bson.E{Key: "expires_at", Value: bson.D{{Key: "$lt", Value: micros(t)}}}
}

// deleteCarriers removes the documents that a condition chooses. Those whose events wait for the
// bus are only marked as removed, and go with the last of them.
func (d *database) deleteCarriers(ctx context.Context, op string, c *mongo.Collection, chosen bson.E) (int, error) {
	if err := d.ready(ctx); err != nil {
		return 0, err
	}
	marked, err := c.UpdateMany(ctx, bson.D{chosen, {Key: "pending", Value: exists(true)}, present},
		bson.D{{Key: "$set", Value: bson.D{{Key: "removed", Value: true}}}, {Key: "$inc", Value: bson.D{{Key: "version", Value: int64(1)}}}})
	if err != nil {
		return 0, d.fail(ctx, op, err)
	}
	deleted, err := c.DeleteMany(ctx, bson.D{chosen, {Key: "pending", Value: exists(false)}})
	if err != nil {
		return int(marked.MatchedCount), d.fail(ctx, op, err)
	}
	return int(marked.MatchedCount + deleted.DeletedCount), nil
}
