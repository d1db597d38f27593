package redisstore

import (
	"context"
	"crypto/rand"
	"fmt"
	"hash/fnv"
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
local function keep()
	redis.call('SET', KEYS[1], string.format('%.0f', whole), 'PX', string.format('%.0f', math.ceil((whole - now) / 1000) + 60000))
end
if whole < now then
	whole = now
elseif whole > now + window then -- the clock has gone back
	whole = now + window
	keep()
end
whole = whole + interval
local wait = whole - now - window
if wait > 0 then
	return string.format('%.0f', wait)
end
keep()
return '0'
`)

// Allow takes one from the key's allowance, or says how long to wait.
func (l *Limiter) Allow(ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
	each, all, limited := r.Cell(time.Microsecond)
	if !limited {
		return 0, nil
	}
	interval, window := each.Microseconds(), all.Microseconds()
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
//
// A server that lost its data, was restarted or was replaced by a replica may have lost names. It is noticed by a key that is
// gone, or that another run of the server wrote; of a cluster for each server by itself. From then on Spend
// returns false for every name that has not expired and may have been made before, which is one whose expiry is less than
// auth.NonceLife after that moment. On a server that is new the moment is the first Spend, or [Nonces.Prepare].
type Nonces struct{ store *Store }

var _ auth.Nonces = (*Nonces)(nil)

// Nonces returns the names that were spent.
func (s *Store) Nonces() *Nonces { return &Nonces{s} }

// nonceShards is into how many groups names are divided. Each has its key that is gone when names are, on the same server.
const nonceShards = 16

// The first key says from when on the server remembers, in seconds, and in which run of it. INFO may be forbidden, or
// unknown to a proxy: then a loss is noticed by the key alone. A part of a second counts as a whole one, unless
// ARGV[1] is 0.
const rememberNames = `
local info, run = redis.pcall('INFO', 'server'), '-'
if type(info) == 'string' then
	run = string.match(info, 'run_id:(%w+)') or run
end
local t = redis.call('TIME')
local known = redis.call('GET', KEYS[1])
local fresh, since = 0, known and string.sub(known, 1, #run + 1) == run .. ' ' and tonumber(string.sub(known, #run + 2))
if not since then
	fresh, since = 1, tonumber(t[1])
	if ARGV[1] == '1' and tonumber(t[2]) > 0 then
		since = since + 1
	end
	redis.call('SET', KEYS[1], run .. ' ' .. string.format('%.0f', since), 'PX', ARGV[2])
elseif redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) / 2 then
	redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
`

var prepareNames = redis.NewScript(rememberNames + "return fresh\n")

// The value names the call, so that the same call is answered the same when the client
// repeats it after a broken connection. ARGV[3]: that name, then the expiry, the least time to
// stay, and how long before its expiry a name is made, in milliseconds. Returns 1 if it is spent by this call, and 1 if names
// are remembered only from now on.
var spendName = redis.NewScript(rememberNames + `
local by = redis.call('GET', KEYS[2])
if by then
	return {by == ARGV[3] and 1 or 0, fresh}
end
local expires = tonumber(ARGV[4])
local left = expires - (tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000))
if left > 0 and expires - tonumber(ARGV[6]) < since * 1000 then
	return {0, fresh}
end
redis.call('SET', KEYS[2], ARGV[3], 'PX', string.format('%.0f', math.max(left, tonumber(ARGV[5]))))
return {1, fresh}
`)

// forgetNames is how long it is remembered since when names are, where none is spent.
const forgetNames = 30 * 24 * time.Hour

func nonceShard(shard uint32) string { return fmt.Sprintf("n%d", shard) }

// Spend returns true for the first call with this name, unless it may have been lost.
func (n *Nonces) Spend(ctx context.Context, name string, expires time.Time) (bool, error) {
	const least = 10 * time.Minute
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // never fails
	tag := nonceShard(h.Sum32() % nonceShards)
	const op = "spend a name"
	reply, err := n.store.run(ctx, op, spendName, []string{n.store.key(tag, "since"), n.store.key(tag, "/"+escape(name))},
		1, forgetNames.Milliseconds(), rand.Text(), expires.Add(time.Millisecond).UnixMilli(), least.Milliseconds(), auth.NonceLife.Milliseconds())
	if err != nil {
		return false, err
	}
	list, ok := reply.([]any)
	if !ok || len(list) != 2 {
		return false, malformed(op, errEncoding)
	}
	if list[1] == int64(1) {
		// What one group has lost others have, too: that is noticed now, so that names which are made later are not refused.
		_ = n.prepare(ctx, 1)
	}
	return list[0] == int64(1), nil
}

// Prepare makes every server remember names from now on, where it does not yet: call it at the start of a program, or the
// first names on a new server are refused.
func (n *Nonces) Prepare(ctx context.Context) error { return n.prepare(ctx, 0) }

func (n *Nonces) prepare(ctx context.Context, whole int) error {
	for shard := range uint32(nonceShards) {
		keys := []string{n.store.key(nonceShard(shard), "since")}
		if _, err := n.store.run(ctx, "prepare for names", prepareNames, keys, whole, forgetNames.Milliseconds()); err != nil {
			return err
		}
	}
	return nil
}

// DeleteExpired implements auth.Sweeper: names go by themselves.
func (n *Nonces) DeleteExpired(context.Context, time.Time) (int, error) { return 0, nil }
