package mongostore

import (
	"context"
	"regexp"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/parley-chat/parley/core/user"
)

// Directory lists users. Its methods may be called from many goroutines.
type Directory struct{ db *database }

var _ user.Directory = (*Directory)(nil)

// List implements user.Directory, by one call. With a prefix it reads users until enough of them have it.
func (s *Directory) List(ctx context.Context, f user.Filter) ([]user.User, error) {
	if !storable(f.Prefix, string(f.Role), string(f.After)) {
		return nil, errText
	}
	if f.Limit < 1 {
		return []user.User{}, ctx.Err()
	}
	filter := bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: string(f.After)}}}}
	if f.Prefix != "" {
		begins := func(text, how string) bson.Regex {
			return bson.Regex{Pattern: "^" + regexp.QuoteMeta(text), Options: how}
		}
		filter = append(filter, bson.E{Key: "$or", Value: bson.A{
			bson.D{{Key: "email", Value: begins(strings.ToLower(f.Prefix), "")}}, bson.D{{Key: "full_name", Value: begins(f.Prefix, "i")}},
		}})
	}
	if f.Role != "" {
		filter = append(filter, bson.E{Key: "role", Value: string(f.Role)})
	}
	if f.Enabled {
		filter = append(filter, bson.E{Key: "disabled_at", Value: nil}) // as one that is not there
	}
	docs, err := all[userDoc](ctx, s.db, "list users", s.db.users, filter, options.Find().SetSort(ascending("_id")).SetLimit(int64(f.Limit)))
	if err != nil {
		return nil, err
	}
	found := make([]user.User, len(docs))
	for i := range docs {
		found[i] = docs[i].user()
	}
	return found, nil
}
