package auth_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/testkit"
)

func TestAThrottleLimitsNetworks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		// addresses each try three times; the burst is 2.
		addresses []string
		want      int
	}{
		"one IPv4 address":                  {[]string{"192.0.2.1"}, 2},
		"two IPv4 addresses":                {[]string{"192.0.2.1", "192.0.2.2"}, 4},
		"IPv4, and the same in IPv6":        {[]string{"192.0.2.1", "::ffff:192.0.2.1"}, 2},
		"one network of 64 bits":            {[]string{"2001:db8::1", "2001:db8::2"}, 2},
		"a zone":                            {[]string{"fe80::1%eth0", "fe80::1%eth1"}, 2},
		"three of 64 bits in one of 56":     {[]string{"2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:0:3::1"}, 4},
		"five of 56 bits in one of 48":      {[]string{"2001:db8::1", "2001:db8:0:100::1", "2001:db8:0:200::1", "2001:db8:0:300::1", "2001:db8:0:400::1"}, 8},
		"two networks of 48 bits":           {[]string{"2001:db8:1::1", "2001:db8:2::1"}, 4},
		"what is no address has its own":    {[]string{"nonsense", "other nonsense"}, 4},
		"an unknown address is not limited": {[]string{"", ""}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := time.Unix(1_800_000_000, 0)
			throttle, err := auth.NewThrottle(auth.ThrottleConfig{
				Limiter: newLimiter(), Action: "handshake", Rate: auth.Rate{Burst: 2, Per: time.Minute}, Now: func() time.Time { return now },
			})
			require.NoError(t, err)
			allowed := 0
			for _, address := range c.addresses {
				for range 3 {
					err := throttle.Allow(t.Context(), address)
					if err == nil {
						allowed++
						continue
					}
					require.ErrorIs(t, err, auth.ErrTooMany)
					assert.Positive(t, fault.Public(err).RetryAfter)
				}
			}
			assert.Equal(t, c.want, allowed)
			now = now.Add(30 * time.Second)
			assert.NoError(t, throttle.Allow(t.Context(), c.addresses[0]), "the allowance comes back")
		})
	}
}

// Actions with one limiter do not use up each other's allowance.
func TestThrottlesShareALimiter(t *testing.T) {
	t.Parallel()
	limiter := newLimiter()
	for _, action := range []string{"handshake", "upload"} {
		throttle, err := auth.NewThrottle(auth.ThrottleConfig{Limiter: limiter, Action: action, Rate: auth.Rate{Burst: 1, Per: time.Hour}})
		require.NoError(t, err)
		require.NoError(t, throttle.Allow(t.Context(), "192.0.2.1"))
		require.ErrorIs(t, throttle.Allow(t.Context(), "192.0.2.1"), auth.ErrTooMany)
	}
}

func TestAThrottleSaysThatItCannotCount(t *testing.T) {
	t.Parallel()
	faults := testkit.NewFaults(1)
	faults.Set(testkit.Rule{Method: "Limiter.Allow", Fault: testkit.Fail(nil)})
	throttle, err := auth.NewThrottle(auth.ThrottleConfig{
		Limiter: testkit.FaultyLimiter(newLimiter(), faults), Action: "handshake", Rate: auth.Rate{Burst: 1, Per: time.Hour},
	})
	require.NoError(t, err)
	require.ErrorIs(t, throttle.Allow(t.Context(), "192.0.2.1"), fault.Unavailable)
}

func TestAThrottleNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := auth.NewThrottle(auth.ThrottleConfig{Rate: auth.Rate{Burst: -1}})
	for _, field := range []string{"Limiter", "Action", "Rate"} {
		assert.ErrorContains(t, err, field)
	}
}
