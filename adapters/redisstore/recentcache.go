package redisstore

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
)

// RecentCacheConfig says how much a [RecentCache] may hold. Values that are not positive mean the defaults.
type RecentCacheConfig struct {
	// Messages is the most messages of one room that are held: the last ones. Default 100.
	Messages int
	// TTL is how long a room is held that gets no message. Default 24 hours.
	TTL time.Duration
}

// RecentCache is a chat.RecentCache, shared by every node.
type RecentCache struct {
	store *Store
	keep  int
	ttl   time.Duration
}

var _ chat.RecentCache = (*RecentCache)(nil)

var errHole = fault.New(fault.Invalid, "messages_not_contiguous", "the messages are not contiguous")

// RecentCache returns the recent messages of rooms. Values that are not positive mean the defaults.
func (s *Store) RecentCache(cfg RecentCacheConfig) *RecentCache {
	c := &RecentCache{store: s, keep: cfg.Messages, ttl: cfg.TTL}
	if c.keep <= 0 {
		c.keep = 100
	}
	if c.ttl < time.Millisecond {
		c.ttl = 24 * time.Hour
	}
	return c
}

// An entry is the message's sequence as 20 digits, so that scripts compare without arithmetic,
// which would lose digits above 2^53; then the message, and its fields that came later.
//
// The length of the room's name, which the message begins with, is written with one byte more than it needs. An older program
// reads it all the same. It does not know the later fields, and takes a room with one that has some for not held; but it may
// put into the cache, from the store, a message without the fields that it has there. So what it has written is known by the
// shorter length, and a room with such an entry counts as not held.
const seqDigits = 20

func seqText(seq uint64) string { return fmt.Sprintf("%0*d", seqDigits, seq) }

func encodeEntry(m chat.Message) string {
	b := make([]byte, 0, seqDigits+64+len(m.Room)+len(m.Text)+len(m.Data))
	b = append(b, seqText(m.Seq)...)
	b = binary.AppendUvarint(b, uint64(len(m.Room)))
	b[len(b)-1] |= 0x80 // another byte follows, with no more of the number
	b = append(append(b, 0), m.Room...)
	return string(appendMore(appendRest(b, m), &m))
}

// isWhole reports whether an entry, without its digits, was written by a program that knows the later fields.
func isWhole(message string) bool {
	for i := range min(len(message), binary.MaxVarintLen64) {
		if message[i] < 0x80 {
			return i > 0 && message[i] == 0
		}
	}
	return false
}

func decodeEntry(entry string) (chat.Message, error) {
	if len(entry) < seqDigits {
		return chat.Message{}, errEncoding
	}
	r := reader{data: entry[seqDigits:]}
	if !isWhole(r.data) {
		return chat.Message{}, errEncoding
	}
	m := r.message()
	r.more(&m)
	return m, r.done()
}

// emptyRoom is the entry of a room that has no messages: the sequence before the first. What is added stands behind it.
var emptyRoom = seqText(0)

func (c *RecentCache) key(room string) string { return c.store.key(roomTag(room), ":recent:1") }

// Get returns what is held for room. What cannot be read is as good as not held, and is removed.
func (c *RecentCache) Get(ctx context.Context, room string) ([]chat.Message, bool, error) {
	const op = "read recent messages"
	key := c.key(room)
	entries, err := call(ctx, op, func(ctx context.Context) ([]string, error) { return c.store.client.LRange(ctx, key, 0, -1).Result() })
	if err != nil || len(entries) == 0 {
		return nil, false, err
	}
	if entries[0] == emptyRoom {
		entries = entries[1:]
	}
	messages := make([]chat.Message, len(entries))
	for i, entry := range entries {
		m, err := decodeEntry(entry)
		if err != nil || m.Room != room || (i > 0 && m.Seq != messages[i-1].Seq+1) {
			_, err := call(ctx, op, func(ctx context.Context) (int64, error) { return c.store.client.Del(ctx, key).Result() })
			return nil, false, err
		}
		messages[i] = m
	}
	return messages, true, nil
}

// ARGV: the most entries, the time to live in ms, the sequence before the first entry, entries.
var addRecent = redis.NewScript(`
local newest = redis.call('LINDEX', KEYS[1], -1)
local last = newest and string.sub(newest, 1, 20)
if last and last < ARGV[3] then
	redis.call('DEL', KEYS[1])
	last = false
end
for i = 4, #ARGV do
	if not last or last < string.sub(ARGV[i], 1, 20) then
		redis.call('RPUSH', KEYS[1], ARGV[i])
	end
end
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[1]), -1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 0
`)

// Add puts messages that were just stored into their rooms, each room atomically.
func (c *RecentCache) Add(ctx context.Context, messages ...chat.Message) error {
	rooms := map[string][]chat.Message{}
	var order []string
	for _, m := range messages {
		run, known := rooms[m.Room]
		if !known {
			order = append(order, m.Room)
		}
		if n := len(run); n > 0 && m.Seq != run[n-1].Seq+1 {
			if m.Seq <= run[n-1].Seq {
				continue
			}
			run = nil // behind a hole it begins anew
		}
		rooms[m.Room] = append(run, m)
	}
	for _, room := range order {
		run := rooms[room]
		run = run[max(0, len(run)-c.keep):]
		if _, err := c.store.run(ctx, "add recent messages", addRecent, []string{c.key(room)}, c.args(run, seqText(before(run)))...); err != nil {
			return err
		}
	}
	return nil
}

// before is the sequence that stands before the first message.
func before(messages []chat.Message) uint64 {
	if first := messages[0].Seq; first > 0 {
		return first - 1
	}
	return 0
}

func (c *RecentCache) args(messages []chat.Message, bounds ...any) []any {
	args := append([]any{c.keep, c.ttl.Milliseconds()}, bounds...)
	for _, m := range messages {
		args = append(args, encodeEntry(m))
	}
	return args
}

// ARGV: the most entries, the time to live in ms, the sequences before the first and behind the last
// entry, entries.
var fillRecent = redis.NewScript(`
local oldest = redis.call('LINDEX', KEYS[1], 0)
local newest = redis.call('LINDEX', KEYS[1], -1)
local first = oldest and string.sub(oldest, 1, 20)
local last = newest and string.sub(newest, 1, 20)
if first and (ARGV[4] < first or last < ARGV[3]) then
	if string.len(newest) > 20 then
		return 0
	end
	redis.call('DEL', KEYS[1])
	first, last = false, false
end
if first then
	for i = #ARGV, 5, -1 do
		if string.sub(ARGV[i], 1, 20) < first then
			redis.call('LPUSH', KEYS[1], ARGV[i])
		end
	end
end
for i = 5, #ARGV do
	if not last or last < string.sub(ARGV[i], 1, 20) then
		redis.call('RPUSH', KEYS[1], ARGV[i])
	end
end
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[1]), -1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 0
`)

// ARGV: the entry of a room without messages, the time to live in ms.
var fillEmpty = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then
	redis.call('RPUSH', KEYS[1], ARGV[1])
	redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
`)

// Fill gives the cache what was read from the store. Messages with a hole between them are
// an error of kind Invalid.
func (c *RecentCache) Fill(ctx context.Context, room string, messages []chat.Message) error {
	for i := 1; i < len(messages); i++ {
		if messages[i].Seq != messages[i-1].Seq+1 {
			return errHole.Detail("%d is followed by %d", messages[i-1].Seq, messages[i].Seq)
		}
	}
	if len(messages) == 0 {
		_, err := c.store.run(ctx, "fill recent messages", fillEmpty, []string{c.key(room)}, emptyRoom, c.ttl.Milliseconds())
		return err
	}
	messages = messages[max(0, len(messages)-c.keep):]
	args := c.args(messages, seqText(before(messages)), seqText(messages[len(messages)-1].Seq+1))
	_, err := c.store.run(ctx, "fill recent messages", fillRecent, []string{c.key(room)}, args...)
	return err
}
