package chat

import (
	"context"
	"errors"
	"sync"

	"github.com/parley-chat/parley/core/user"
)

// People knows the users of a system.
//
// It may be called from many goroutines.
type People interface {
	// Named returns those of the users who have a confirmed account that is not erased, with the names that they have now, in any order.
	Named(ctx context.Context, ids ...user.ID) ([]Author, error)
}

// Accounts is a People that reads the accounts of the same system.
type Accounts struct{ Users user.Repository }

var _ People = Accounts{}

// Named implements People. It reads some accounts at a time.
func (a Accounts) Named(ctx context.Context, ids ...user.ID) ([]Author, error) {
	var mu sync.Mutex
	known := make([]Author, 0, len(ids))
	err := severally(len(ids), func(i int) error {
		u, err := a.Users.ByID(ctx, ids[i])
		switch {
		case errors.Is(err, user.ErrNotFound):
			return nil
		case err != nil:
			return err
		case u.Verified() && !u.Erased():
			mu.Lock()
			defer mu.Unlock()
			known = append(known, Author{ID: u.ID, Name: u.FullName})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return known, nil
}

// People returns those of the users who are known, and says whether there is a Config.People that knows them.
func (s *Service) People(ctx context.Context, ids ...user.ID) (known map[user.ID]Author, asked bool, err error) {
	if s.cfg.People == nil || len(ids) == 0 {
		return nil, s.cfg.People != nil, nil
	}
	all, err := s.cfg.People.Named(ctx, ids...)
	if err != nil {
		return nil, true, err
	}
	known = make(map[user.ID]Author, len(all))
	for _, a := range all {
		known[a.ID] = a
	}
	return known, true, nil
}
