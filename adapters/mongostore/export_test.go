package mongostore

import (
	"context"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Database returns the driver's handle.
func Database(s *Store) *mongo.Database { return s.db.db }

// Tick advances the logical clock.
func Tick(ctx context.Context, s *Store) (int64, error) { return s.db.tick(ctx) }

// Bound sets how many deletions are read to be counted, and how many changes are looked through at once.
func Bound(s *Store, deleted, stretch int64) { s.db.maxDeleted, s.db.stretch = deleted, stretch }

// CommandOf is how many of the first writes one command takes.
var CommandOf = commandOf

// ValidatorOf returns the validator of a collection, as the server should have it.
func ValidatorOf(name string) bson.D {
	for _, c := range collections {
		if c.name == name {
			return c.validator()
		}
	}
	return nil
}

// Names returns the names of all collections.
func Names() []string {
	names := make([]string, len(collections))
	for i, c := range collections {
		names[i] = c.name
	}
	return names
}
