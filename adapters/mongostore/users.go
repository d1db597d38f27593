package mongostore

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/user"
)

// Users stores users. Its methods may be called from many goroutines.
type Users struct{ db *database }

var _ user.Repository = (*Users)(nil)

type userDoc struct {
	ID                string  `bson:"_id"`
	FullName          string  `bson:"full_name"`
	Email             string  `bson:"email"`
	PasswordHash      string  `bson:"password_hash"`
	CreatedAt         int64   `bson:"created_at"`
	VerifiedAt        *int64  `bson:"verified_at,omitempty"`
	PasswordChangedAt *int64  `bson:"password_changed_at,omitempty"`
	SessionsFrom      *int64  `bson:"sessions_from,omitempty"`
	KeptSession       string  `bson:"kept_session,omitempty"`
	Role              string  `bson:"role,omitempty"`
	DisabledAt        *int64  `bson:"disabled_at,omitempty"`
	Language          string  `bson:"language,omitempty"`
	AvatarURL         string  `bson:"avatar_url,omitempty"`
	NewEmail          string  `bson:"new_email,omitempty"`
	NewEmailCode      string  `bson:"new_email_code,omitempty"`
	Carried           carrier `bson:",inline"`
}

func toUserDoc(u user.User, c carrier) userDoc {
	return userDoc{
		ID: string(u.ID), FullName: u.FullName, Email: string(u.Email), PasswordHash: u.PasswordHash,
		CreatedAt: micros(u.CreatedAt), VerifiedAt: optionalMicros(u.VerifiedAt), PasswordChangedAt: optionalMicros(u.PasswordChangedAt),
		SessionsFrom: optionalMicros(u.SessionsFrom), KeptSession: u.KeptSession, Role: string(u.Role), DisabledAt: optionalMicros(u.DisabledAt),
		Language: u.Language, AvatarURL: u.AvatarURL, NewEmail: string(u.NewEmail), NewEmailCode: u.NewEmailCode, Carried: c,
	}
}

func (d *userDoc) user() user.User {
	return user.User{
		ID: user.ID(d.ID), FullName: d.FullName, Email: user.Email(d.Email), PasswordHash: d.PasswordHash,
		CreatedAt: instant(d.CreatedAt), VerifiedAt: optionalInstant(d.VerifiedAt), PasswordChangedAt: optionalInstant(d.PasswordChangedAt),
		SessionsFrom: optionalInstant(d.SessionsFrom), KeptSession: d.KeptSession, Role: user.Role(d.Role), DisabledAt: optionalInstant(d.DisabledAt),
		Language: d.Language, AvatarURL: d.AvatarURL, NewEmail: user.Email(d.NewEmail), NewEmailCode: d.NewEmailCode,
	}
}

// Create implements user.Repository.
func (s *Users) Create(ctx context.Context, u user.User, events ...event.Event) error {
	const op = "create user"
	for attempt := 1; ; attempt++ {
		next, err := s.db.next(ctx, carrier{}, events)
		if err != nil {
			return err
		}
		raw, err := users.encode(toUserDoc(u, next))
		if err != nil {
			return err
		}
		if err := s.db.ready(ctx); err != nil {
			return err
		}
		_, err = s.db.users.InsertOne(ctx, raw)
		if !mongo.IsDuplicateKeyError(err) {
			return s.db.fail(ctx, op, err)
		}
		// Not every server says which of the two indexes it was, and both may be, so ask.
		holder, lookErr := s.by(ctx, "email", string(u.Email))
		if errors.Is(lookErr, user.ErrNotFound) {
			holder, lookErr = s.by(ctx, "_id", string(u.ID))
		}
		switch {
		case lookErr == nil && holder.Email == u.Email:
			return user.ErrEmailTaken.Because(s.db.fail(ctx, op, err))
		case lookErr == nil:
			return errIDTaken.Because(s.db.fail(ctx, op, err))
		case !errors.Is(lookErr, user.ErrNotFound):
			return lookErr
		}
		// Whoever had it is gone.
		if err := pause(ctx, attempt); err != nil {
			return s.db.fail(ctx, op, err)
		}
	}
}

// ByID implements user.Repository.
func (s *Users) ByID(ctx context.Context, id user.ID) (user.User, error) {
	return s.by(ctx, "_id", string(id))
}

// ByEmail implements user.Repository.
func (s *Users) ByEmail(ctx context.Context, email user.Email) (user.User, error) {
	return s.by(ctx, "email", string(email))
}

func (s *Users) by(ctx context.Context, field, value string) (user.User, error) {
	doc, err := s.read(ctx, field, value)
	if err != nil {
		return user.User{}, err
	}
	return doc.user(), nil
}

func (s *Users) read(ctx context.Context, field, value string) (userDoc, error) {
	if !storable(value) {
		return userDoc{}, user.ErrNotFound
	}
	return one[userDoc](ctx, s.db, "read user", s.db.users, bson.D{{Key: field, Value: value}}, user.ErrNotFound)
}

// Update implements user.Repository. A change that alters the ID is refused with kind Invalid. Where another
// write came first, change runs again on what it has left.
func (s *Users) Update(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
	const op = "update user"
	for attempt := 1; ; attempt++ {
		old, err := s.read(ctx, "_id", string(id))
		if err != nil {
			return user.User{}, err
		}
		u := old.user()
		if err := change(&u); err != nil {
			return user.User{}, err
		}
		if u.ID != id {
			return user.User{}, errIDChanged
		}
		next, err := s.db.next(ctx, old.Carried, events)
		if err != nil {
			return user.User{}, err
		}
		doc := toUserDoc(u, next)
		replaced, err := s.db.replace(ctx, op, s.db.users, users, doc.ID, old.Carried.Version, doc)
		switch {
		case err != nil && doc.Email != old.Email && s.taken(ctx, doc.ID, doc.Email, err):
			return user.User{}, user.ErrEmailTaken.Because(err)
		case err != nil:
			return user.User{}, err
		case replaced:
			return doc.user(), nil
		}
		if err := pause(ctx, attempt); err != nil {
			return user.User{}, s.db.fail(ctx, op, err)
		}
	}
}

// taken reports whether an update failed because another user has the address. Not every server has a code for
// that which says so.
func (s *Users) taken(ctx context.Context, id, email string, err error) bool {
	if errors.Is(err, fault.Conflict) {
		return true
	}
	if fault.KindOf(err) != fault.Internal {
		return false
	}
	holder, err := s.read(ctx, "email", email)
	return err == nil && holder.ID != id
}

// replace writes a document in the place of one version of it, and returns false if that is not there any more.
func (d *database) replace(ctx context.Context, op string, c *mongo.Collection, s *collection, id string, version int64, doc any) (bool, error) {
	raw, err := s.encode(doc)
	if err != nil {
		return false, err
	}
	res, err := c.ReplaceOne(ctx, bson.D{{Key: "_id", Value: id}, {Key: "version", Value: version}}, raw)
	if err != nil {
		return false, d.fail(ctx, op, err)
	}
	return res.MatchedCount == 1, nil
}
