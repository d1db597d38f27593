package contract

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/parley-chat/parley/core/auth"
)

// Hasher checks auth.Hasher.
func Hasher() []Case[auth.Hasher] {
	return suite("Hasher", []promise[auth.Hasher]{
		{"a password matches its hash", "Verify reports whether password is the one that was hashed, in time that does not depend on how much of it is right.", hasherMatches},
		{"another password does not match", "Verify reports whether password is the one that was hashed, in time that does not depend on how much of it is right.", hasherOther},
		{"long passwords count to the last byte", "A password is any bytes, and counts to its last one; MaxPassword characters are not too many.", hasherLong},
		{"any bytes are a password", "A password is any bytes, and counts to its last one; MaxPassword characters are not too many.", hasherBytes},
		{"every hash has a fresh salt", "Hash returns an encoded hash with its algorithm, parameters and a fresh salt.", hasherSalt},
		{"a hash does not hold the password", "The hash does not tell the password.", hasherHides},
		{"a current hash needs no upgrade", "upgrade says that it matches and that the hash should be made anew, because its algorithm or parameters are not the current ones.", hasherUpgrade},
		{"a hash that cannot be read is an error", "A hash that cannot be read is an error.", hasherUnreadable},
		{"concurrent calls are right", "It may be called from many goroutines.", hasherConcurrent},
		{"waiting ends with the context", "Hash waits for its turn until ctx is done. Verify waits for its turn until ctx is done.", hasherEnded},
	})
}

const password = "correct horse ü 👋"

// verify wants the answer.
func verify(ctx context.Context, p auth.Hasher, hash, password string, want bool) error {
	ok, upgrade, err := p.Verify(ctx, hash, password)
	switch {
	case err != nil:
	case ok != want:
		err = fmt.Errorf("it returned %t, want %t", ok, want)
	case upgrade:
		err = errors.New("it asks for an upgrade of a hash that it just made, or that does not match")
	}
	return during(fmt.Sprintf("Verify of %s", brief([]byte(password))), err)
}

func hasherMatches(ctx context.Context, p auth.Hasher) error {
	hash, err := p.Hash(ctx, password)
	return then(during("Hash", err),
		func() error { return verify(ctx, p, hash, password, true) },
		func() error { return verify(ctx, p, hash, password, true) },
	)
}

func hasherOther(ctx context.Context, p auth.Hasher) error {
	hash, err := p.Hash(ctx, password)
	if err != nil {
		return during("Hash", err)
	}
	for _, other := range []string{"", "c", password[1:], password + " ", " " + password, strings.ToUpper(password), strings.Replace(password, "ü", "u\u0308", 1), hash} {
		if err := verify(ctx, p, hash, other, false); err != nil {
			return err
		}
	}
	return nil
}

func hasherLong(ctx context.Context, p auth.Hasher) error {
	most := strings.Repeat("p", auth.MaxPassword-1) + "1"
	hash, err := p.Hash(ctx, most)
	return then(during("Hash", err),
		func() error { return verify(ctx, p, hash, most, true) },
		func() error { return verify(ctx, p, hash, most[:auth.MaxPassword-1]+"2", false) },
		func() error { return verify(ctx, p, hash, most[:72], false) },
	)
}

func hasherBytes(ctx context.Context, p auth.Hasher) error {
	hash, err := p.Hash(ctx, "nul\x00and\xffbytes$,=")
	return then(during("Hash", err),
		func() error { return verify(ctx, p, hash, "nul\x00and\xffbytes$,=", true) },
		func() error { return verify(ctx, p, hash, "nul\x00and\xfebytes$,=", false) },
		func() error { return verify(ctx, p, hash, "nul", false) },
	)
}

func hasherSalt(ctx context.Context, p auth.Hasher) error {
	one, err := p.Hash(ctx, password)
	if err != nil {
		return during("Hash", err)
	}
	two, err := p.Hash(ctx, password)
	if err != nil {
		return during("Hash again", err)
	}
	if one == two {
		return errors.New("the same password was hashed twice to the same hash")
	}
	return first(
		func() error { return verify(ctx, p, one, password, true) },
		func() error { return verify(ctx, p, two, password, true) },
	)
}

func hasherHides(ctx context.Context, p auth.Hasher) error {
	hash, err := p.Hash(ctx, "in plain sight")
	if err == nil {
		for _, plain := range []string{"in plain sight", base64.StdEncoding.EncodeToString([]byte("in plain sight"))[:18], "696e20706c61696e"} {
			if strings.Contains(hash, plain) {
				err = errors.New("it holds the password")
			}
		}
	}
	return during("Hash", err)
}

func hasherUpgrade(ctx context.Context, p auth.Hasher) error {
	hash, err := p.Hash(ctx, password)
	if err != nil {
		return during("Hash", err)
	}
	if ok, upgrade, err := p.Verify(ctx, hash, password); err != nil || !ok || upgrade {
		return fmt.Errorf("Verify of a hash that was just made: ok %t, upgrade %t, error %w", ok, upgrade, orNone(err))
	}
	if ok, upgrade, err := p.Verify(ctx, hash, "wrong"); err != nil || ok || upgrade {
		return fmt.Errorf("Verify of another password: ok %t, upgrade %t, error %w", ok, upgrade, orNone(err))
	}
	return nil
}

func hasherUnreadable(ctx context.Context, p auth.Hasher) error {
	whole, err := p.Hash(ctx, password)
	if err != nil {
		return during("Hash", err)
	}
	for _, hash := range []string{"", "$", "plain", password, "$argon2id$", "$unknown$v=1$AAAA$BBBB", whole[:len(whole)/3]} {
		if ok, upgrade, err := p.Verify(ctx, hash, password); err == nil || ok || upgrade {
			return fmt.Errorf("Verify of the unreadable hash %q: ok %t, upgrade %t, error %w", hash, ok, upgrade, orNone(err))
		}
	}
	return nil
}

func hasherConcurrent(ctx context.Context, p auth.Hasher) error {
	return allTogether(6, func(i int) error {
		mine := fmt.Sprintf("%s %d", password, i)
		hash, err := p.Hash(ctx, mine)
		return then(during("Hash", err),
			func() error { return verify(ctx, p, hash, mine, true) },
			func() error { return verify(ctx, p, hash, password, false) },
		)
	})
}

func hasherEnded(ctx context.Context, p auth.Hasher) error {
	hash, err := p.Hash(ctx, password)
	if err != nil {
		return during("Hash", err)
	}
	// Whether there is a turn at once is not known: but no answer may be wrong.
	if early, err := p.Hash(ended(ctx), password); err == nil {
		if err := verify(ctx, p, early, password, true); err != nil {
			return fmt.Errorf("what Hash returned under an ended context: %w", err)
		}
	}
	if ok, _, err := p.Verify(ended(ctx), hash, password); err == nil != ok {
		return fmt.Errorf("Verify of the right password under an ended context: ok %t, error %w", ok, orNone(err))
	}
	return verify(ctx, p, hash, password, true)
}
