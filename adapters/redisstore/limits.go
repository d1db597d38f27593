package redisstore

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/core/auth"
)

// Limiter is an auth.Limiter, shared by every node. The times are the callers': nodes whose
// clocks differ disagree by that much.
type Limiter struct{ store *Store }

var _ auth.Limiter = (*Limiter)(nil)

// Limiter returns the counters of attempts.
func (s *Store) Limiter() *Limiter { return &Limiter{s} }

// The value is when the allowance is whole again, the theoretical arrival time, in
// microseconds. A key stays a minute longer than that, for callers whose clock is behind.
// ARGV: now, the interval and the window in microseconds.
var takeOne = redis.NewScript(`
local now, interval, window = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local whole = tonumber(redis.call('GET', KEYS[1]) or ARGV[1])
if whole < now then
	whole = now
end
whole = whole + interval
local wait = whole - now - window
if wait > 0 then
	return string.format('%.0f', wait)
end
redis.call('SET', KEYS[1], string.format('%.0f', whole), 'PX', string.format('%.0f', math.ceil((whole - now) / 1000) + 60000))
return '0'
`)

// Allow takes one from the key's allowance, or says how long to wait.
func (l *Limiter) Allow(ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
	if r.Burst <= 0 || r.Per <= 0 {
		return 0, nil
	}
	interval := max(r.Per/time.Duration(r.Burst), time.Microsecond).Microseconds()
	// Not r.Per: what the division lost must not add up to one attempt more.
	window := interval * int64(r.Burst)
	const op = "take from an allowance"
	reply, err := l.store.run(ctx, op, takeOne, []string{l.store.key("l:"+escape(key), "")}, score(now), interval, window)
	if err != nil {
		return 0, err
	}
	var wait int64
	text, _ := reply.(string)
	if _, err := fmt.Sscanf(text, "%d", &wait); err != nil {
		return 0, malformed(op, err)
	}
	return time.Duration(wait) * time.Microsecond, nil
}

// DeleteExpired implements auth.Sweeper: keys go by themselves.
func (l *Limiter) DeleteExpired(context.Context, time.Time) (int, error) { return 0, nil }

// Nonces is an auth.Nonces, shared by every node. A name is forgotten by the server's clock,
// at its expiry, but not within ten minutes.
type Nonces struct{ store *Store }

var _ auth.Nonces = (*Nonces)(nil)

// Nonces returns the names that were spent.
func (s *Store) Nonces() *Nonces { return &Nonces{s} }

// The value names the call, so that the same call is answered the same when the client
// repeats it after a broken connection. ARGV: that name, the expiry and the least time to
// stay in milliseconds.
var spendName = redis.NewScript(`
local by = redis.call('GET', KEYS[1])
if by then
	return by == ARGV[1] and 1 or 0
end
local t = redis.call('TIME')
local left = tonumber(ARGV[2]) - (tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000))
redis.call('SET', KEYS[1], ARGV[1], 'PX', string.format('%.0f', math.max(left, tonumber(ARGV[3]))))
return 1
`)

// Spend returns true for the first call with this name.
func (n *Nonces) Spend(ctx context.Context, name string, expires time.Time) (bool, error) {
	const least = 10 * time.Minute
	reply, err := n.store.run(ctx, "spend a name", spendName, []string{n.store.key("n:"+escape(name), "")},
		rand.Text(), expires.Add(time.Millisecond).UnixMilli(), least.Milliseconds())
	return reply == int64(1), err
}

// DeleteExpired implements auth.Sweeper: names go by themselves.
func (n *Nonces) DeleteExpired(context.Context, time.Time) (int, error) { return 0, nil }
