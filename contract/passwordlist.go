package contract

import (
	"context"
	"fmt"

	"github.com/parley-chat/parley/core/auth"
)

// PasswordList checks auth.PasswordList.
func PasswordList() []Case[auth.PasswordList] {
	return suite("PasswordList", []promise[auth.PasswordList]{
		{"common passwords are in it", "Contains reports whether password, or one that is as easily guessed, is in the list.", listHas},
		{"letter case does not count", "Letter case does not count.", listFolds},
		{"a phrase that nobody else has is not in it", "Contains reports whether password, or one that is as easily guessed, is in the list.", listLacks},
		{"many may ask at once", "It may be called from many goroutines.", listMany},
	})
}

func contains(ctx context.Context, l auth.PasswordList, want bool, passwords ...string) error {
	for _, p := range passwords {
		got, err := l.Contains(ctx, p)
		if err == nil && got != want {
			err = fmt.Errorf("it is %v, want %v", got, want)
		}
		if err != nil {
			return fmt.Errorf("Contains(%q): %w", p, err)
		}
	}
	return nil
}

func listHas(ctx context.Context, l auth.PasswordList) error {
	return contains(ctx, l, true, "password", "12345678", "iloveyou", "football", "qwertyuiop")
}

func listFolds(ctx context.Context, l auth.PasswordList) error {
	return contains(ctx, l, true, "PASSWORD", "Football", "iLoveYou")
}

func listLacks(ctx context.Context, l auth.PasswordList) error {
	return contains(ctx, l, false, "seven lamps under an old bridge", "тихий сад за рекой", "")
}

func listMany(ctx context.Context, l auth.PasswordList) error {
	return allTogether(16, func(int) error {
		return first(
			func() error { return contains(ctx, l, true, "password") },
			func() error { return contains(ctx, l, false, "seven lamps under an old bridge") },
		)
	})
}
