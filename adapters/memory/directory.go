package memory

import (
	"context"
	"slices"
	"strings"

	"github.com/parley-chat/parley/core/user"
)

var _ user.Directory = (*Users)(nil)

// List returns a page of users. It looks at all of them.
func (us *Users) List(ctx context.Context, f user.Filter) ([]user.User, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	us.mu.RLock()
	defer us.mu.RUnlock()
	found := []user.User{}
	prefix := strings.ToLower(f.Prefix)
	for _, u := range us.byID {
		named := strings.HasPrefix(string(u.Email), prefix) || strings.HasPrefix(strings.ToLower(u.FullName), prefix)
		if u.ID > f.After && named && (f.Role == "" || u.Role == f.Role) && (!f.Enabled || !u.Disabled()) {
			found = append(found, u)
		}
	}
	slices.SortFunc(found, func(a, b user.User) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return found[:min(len(found), max(f.Limit, 0))], nil
}
