package bunstore

import (
	"context"
	"strings"

	"github.com/parley-chat/parley/core/user"
)

// Directory lists users. Its methods may be called from many goroutines.
type Directory struct{ db *database }

var _ user.Directory = (*Directory)(nil)

// administration is what administrators say of users, and the log of what they have done. An older program keeps it, and knows nothing of it.
var administration = []string{
	`ALTER TABLE parley_users ADD COLUMN IF NOT EXISTS role varchar(16) CHECK ({length}(role) BETWEEN 1 AND 16)`,
	`ALTER TABLE parley_users ADD COLUMN IF NOT EXISTS disabled_at bigint`,
	`CREATE INDEX IF NOT EXISTS parley_users_role ON parley_users (role, id)`,
	auditTable, auditAge,
}

// startsWith is a pattern of LIKE for what begins with a text; ! makes a character stand for itself.
func startsWith(text string) string {
	return strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(text) + "%"
}

// lowerASCII makes a to z of A to Z.
func lowerASCII(text string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, text)
}

// List implements user.Directory, by one statement. With a prefix it reads users until enough of them have it.
func (s *Directory) List(ctx context.Context, f user.Filter) ([]user.User, error) {
	all := []user.User{}
	if !storable(f.Prefix, string(f.Role), string(f.After)) {
		return nil, errText
	}
	if f.Limit < 1 {
		return all, ctx.Err()
	}
	text, args := "SELECT "+userColumns+" FROM parley_users WHERE id > ?", []any{string(f.After)}
	if f.Prefix != "" {
		text += " AND (email LIKE ? ESCAPE '!' OR " + s.db.dialect.namedLike + ")"
		args = append(args, startsWith(strings.ToLower(f.Prefix)), startsWith(lowerASCII(f.Prefix)))
	}
	if f.Role != "" {
		text += " AND role = ?"
		args = append(args, string(f.Role))
	}
	if f.Enabled {
		text += " AND disabled_at IS NULL"
	}
	err := s.db.reads.query(ctx, text+" ORDER BY id LIMIT ?", append(args, f.Limit), func(scan func(...any) error) error {
		var row userRow
		err := scan(row.columns()...)
		all = append(all, row.user())
		return err
	})
	if err != nil {
		return nil, s.db.fail(ctx, "list users", err)
	}
	return all, nil
}
