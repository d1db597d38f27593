package mongostore

import (
	"context"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// Settings stores what users have set for themselves. Its methods may be called from many goroutines.
type Settings struct{ db *database }

var _ chat.Settings = (*Settings)(nil)

type settingsDoc struct {
	ID        string `bson:"_id"`
	HidesRead bool   `bson:"hides_read"`
}

// Put implements chat.Settings.
func (s *Settings) Put(ctx context.Context, id user.ID, set chat.UserSettings) error {
	const op = "put settings"
	raw, err := userSettings.encode(settingsDoc{ID: string(id), HidesRead: set.HidesRead})
	if err != nil {
		return err
	}
	if err := s.db.ready(ctx); err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		_, err = s.db.settings.ReplaceOne(ctx, byID(string(id)), raw, options.Replace().SetUpsert(true))
		// Of several who are the first at once, one inserts.
		if !mongo.IsDuplicateKeyError(err) || attempt == attempts {
			return s.db.fail(ctx, op, err)
		}
		if err := pause(ctx, attempt); err != nil {
			return s.db.fail(ctx, op, err)
		}
	}
}

// Of implements chat.Settings, by one call for every 100 users. It reads what the majority has, so that nothing that was told goes back.
func (s *Settings) Of(ctx context.Context, ids ...user.ID) (map[user.ID]chat.UserSettings, error) {
	if err := s.db.ready(ctx); err != nil {
		return nil, err
	}
	found := map[user.ID]chat.UserSettings{}
	asked := slices.DeleteFunc(slices.Clone(ids), func(id user.ID) bool { return !storable(string(id)) })
	slices.Sort(asked)
	for part := range slices.Chunk(slices.Compact(asked), branches) {
		docs, err := all[settingsDoc](ctx, s.db, "read settings", s.db.set, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: part}}}})
		if err != nil {
			return nil, err
		}
		for _, d := range docs {
			found[user.ID(d.ID)] = chat.UserSettings{HidesRead: d.HidesRead}
		}
	}
	return found, nil
}

// Remove implements chat.Settings.
func (s *Settings) Remove(ctx context.Context, id user.ID) error {
	if !storable(string(id)) {
		return nil
	}
	if err := s.db.ready(ctx); err != nil {
		return err
	}
	_, err := s.db.settings.DeleteOne(ctx, byID(string(id)))
	return s.db.fail(ctx, "remove settings", err)
}
