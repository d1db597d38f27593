package sessions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
)

// again tries again what a store was too busy for, as people do.
func again(do func() error) error {
	for range 20 {
		if err := do(); fault.KindOf(err) != fault.Unavailable {
			return err
		}
	}
	return do()
}

// TestAThousandSignUpsLeaveOneAccount lets 1,000 people sign up with one address at once, at two programs that share the store, and use all
// the codes at once: one has the account, with the password of its sign-up, and nobody else gets in.
func TestAThousandSignUpsLeaveOneAccount(t *testing.T) {
	if testing.Short() {
		t.Skip("it signs 1,000 people up on each store")
	}
	const people, address = 1000, "ada@example.com"
	onEach(t, func(t *testing.T, open func(t *testing.T) ports) {
		one, two := open(t), open(t)
		t.Cleanup(func() { assert.NoError(t, errors.Join(one.close(), two.close())) })
		var programs [2]*auth.Service
		programs[0], _, _ = service(t, one)
		programs[1], _, _ = service(t, two)
		atOnce := func(n int, do func(s *auth.Service, i int)) {
			start := make(chan struct{})
			var running sync.WaitGroup
			for i := range n {
				running.Go(func() { <-start; do(programs[i%2], i) })
			}
			close(start)
			running.Wait()
		}
		secret := func(i int) string { return fmt.Sprintf("the pass phrase of person %d", i) }
		var signedUp atomic.Int64
		atOnce(people, func(s *auth.Service, i int) {
			err := again(func() error {
				return s.SignUp(context.Background(), auth.Client{}, auth.SignUp{FullName: fmt.Sprint("Person ", i), Email: address, Password: secret(i)})
			})
			if assert.NoError(t, err) {
				signedUp.Add(1)
			}
		})
		require.EqualValues(t, people, signedUp.Load(), "each gets the same answer")

		var codes []string
		for {
			at, err := one.outbox.Pending(t.Context(), 500)
			require.NoError(t, err)
			if len(at) == 0 {
				break
			}
			ids := make([]string, len(at))
			for i, e := range at {
				ids[i] = e.ID
				require.Equal(t, mail.TypeUserCreated, e.Type)
				var d mail.UserCreated
				require.NoError(t, json.Unmarshal(e.Data, &d))
				codes = append(codes, d.VerificationCode)
			}
			require.NoError(t, one.outbox.Published(t.Context(), ids...))
		}
		require.GreaterOrEqual(t, len(codes), people, "each has a mail")
		var confirmed atomic.Int64
		atOnce(len(codes), func(s *auth.Service, i int) {
			switch err := again(func() error { return s.Verify(context.Background(), codes[i]) }); {
			case err == nil:
				confirmed.Add(1)
			case !errors.Is(err, auth.ErrCodeGone) && !errors.Is(err, auth.ErrCodeUnknown):
				assert.NoError(t, err)
			}
		})
		require.LessOrEqual(t, confirmed.Load(), int64(1), "one has the account") // none may be told so, if its answer was lost

		u, err := one.users.ByEmail(t.Context(), address)
		require.NoError(t, err)
		require.True(t, u.Verified())
		var in atomic.Int64
		var who int
		_, err = fmt.Sscanf(u.FullName, "Person %d", &who)
		require.NoError(t, err)
		_, err = programs[0].SignIn(t.Context(), auth.Client{}, address, secret(who))
		require.NoError(t, err, "the name and the password are of one sign-up")
		for _, i := range []int{(who + 1) % people, (who + 500) % people, (who + people - 1) % people} {
			if _, err := programs[i%2].SignIn(t.Context(), auth.Client{}, address, secret(i)); err == nil {
				in.Add(1)
			}
		}
		require.Zero(t, in.Load())
	})
}
