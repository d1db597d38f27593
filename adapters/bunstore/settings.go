package bunstore

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/user"
)

// Settings stores what users have set for themselves. Its methods may be called from many goroutines.
type Settings struct{ db *database }

var _ chat.Settings = (*Settings)(nil)

// settingsTable holds what users have set. An older program does not know it: what is marked through it is told to everybody in the room.
const settingsTable = `CREATE TABLE IF NOT EXISTS parley_settings (
		user_id varchar(128) NOT NULL PRIMARY KEY CHECK ({length}(user_id) BETWEEN 1 AND 128),
		hides_read bigint NOT NULL CHECK (hides_read IN (0, 1))
	) {clustered}`

const putSettingsValues = "INSERT INTO parley_settings (user_id, hides_read) VALUES (?, ?)"

// Texts of putSettings.
const (
	putSettingsText  = putSettingsValues + " ON CONFLICT (user_id) DO UPDATE SET hides_read = excluded.hides_read"
	putSettingsMySQL = putSettingsValues + " ON DUPLICATE KEY UPDATE hides_read = VALUES(hides_read)"
)

// settingsKey is the primary key that Of asks by.
var settingsKey = []column{{name: "user_id", text: true}}

// settingsOf reads the settings of so many users.
func (d *dialect) settingsOf(n int) string {
	if n == 1 {
		return "SELECT user_id, hides_read FROM parley_settings WHERE user_id = ?"
	}
	return "SELECT found.user_id, found.hides_read FROM " + d.find("parley_settings", "PRIMARY", settingsKey, settingsKey, n, false)
}

// Put implements chat.Settings.
func (s *Settings) Put(ctx context.Context, id user.ID, set chat.UserSettings) error {
	if !storable(string(id)) {
		return errText
	}
	hides := 0
	if set.HidesRead {
		hides = 1
	}
	return s.db.transact(ctx, "put settings", func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.ExecContext(ctx, s.db.dialect.putSettings, string(id), hides)
		return err
	})
}

// Of implements chat.Settings, by one statement for every 64 users.
func (s *Settings) Of(ctx context.Context, ids ...user.ID) (map[user.ID]chat.UserSettings, error) {
	found := map[user.ID]chat.UserSettings{}
	asked := slices.DeleteFunc(slices.Clone(ids), func(id user.ID) bool { return !storable(string(id)) })
	slices.Sort(asked)
	for part := range slices.Chunk(slices.Compact(asked), memberSizes[0]) {
		args := make([]any, 0, memberSizes[0])
		for _, id := range part {
			args = append(args, string(id))
		}
		args = pad(args, "")
		err := s.db.reads.query(ctx, s.db.settings[len(args)], args, func(scan func(...any) error) error {
			var id string
			var hides int64
			err := scan(&id, &hides)
			found[user.ID(id)] = chat.UserSettings{HidesRead: hides != 0}
			return err
		})
		if err != nil {
			return nil, s.db.fail(ctx, "read settings", err)
		}
	}
	return found, nil
}

// Remove implements chat.Settings.
func (s *Settings) Remove(ctx context.Context, id user.ID) error {
	if !storable(string(id)) {
		return nil
	}
	return s.db.transact(ctx, "remove settings", func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM parley_settings WHERE user_id = ?", string(id))
		return err
	})
}
