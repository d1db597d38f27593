package contract_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/parley-chat/parley/core/auth"
)

// listed is a list that keeps the rules.
func listed(_ context.Context, password string) (bool, error) {
	return slices.Contains([]string{"password", "12345678", "iloveyou", "football", "qwertyuiop"}, strings.ToLower(password)), nil
}

func listFaults() []broken[auth.PasswordList] {
	breaks := func(f func(ctx context.Context, password string) (bool, error)) func(auth.PasswordList) auth.PasswordList {
		return func(auth.PasswordList) auth.PasswordList { return passwordList(f) }
	}
	return []broken[auth.PasswordList]{
		{"the list is empty", "common passwords are in it", breaks(func(context.Context, string) (bool, error) { return false, nil })},
		{"everything is in it", "a phrase that nobody else has is not in it", breaks(func(context.Context, string) (bool, error) { return true, nil })},
		{"letter case counts", "letter case does not count", breaks(func(ctx context.Context, password string) (bool, error) {
			if password != strings.ToLower(password) {
				return false, nil
			}
			return listed(ctx, password)
		})},
		{"it tires of questions", "many may ask at once", func() func(auth.PasswordList) auth.PasswordList {
			var asked atomic.Int32
			return breaks(func(ctx context.Context, password string) (bool, error) {
				if asked.Add(1) > 20 {
					return false, errors.New("that is enough for today")
				}
				return listed(ctx, password)
			})
		}()},
	}
}
