package redisstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
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
// The length of the room's name, which the message begins with, is written with two bytes more than it needs. An older program
// reads it all the same. It skips the later fields that it does not know, or, older still, takes a room with a message that has
// some for not held; but it may put into the cache, from the store, a message without the fields that it has there. So what older
// programs have written is known by the shorter length, and a room with such an entry counts as not held.
const seqDigits = 20

func seqText(seq uint64) string { return fmt.Sprintf("%0*d", seqDigits, seq) }

func encodeEntry(m chat.Message) string {
	b := make([]byte, 0, seqDigits+96+len(m.Room)+len(m.Text)+len(m.Data))
	b = append(b, seqText(m.Seq)...)
	b = binary.AppendUvarint(b, uint64(len(m.Room)))
	b[len(b)-1] |= 0x80 // another byte follows, with no more of the number; and another one
	b = append(append(b, 0x80, 0), m.Room...)
	return string(appendMore(appendRest(b, m), &m))
}

// isWhole reports whether an entry, without its digits, was written by a program that knows the later fields.
func isWhole(message string) bool {
	for i := range min(len(message), binary.MaxVarintLen64) {
		if message[i] < 0x80 {
			return i > 1 && message[i] == 0 && message[i-1] == 0x80
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

// A room has three keys. The list holds its messages, and is there while the room is held. The second one has the room's Rev as 20
// digits, and is missing where that is 0. It stays when the list goes. Should the server drop it alone, the messages count as older than
// they are, which is harmless. The third one has the room's First in the same way, and is missing where that is at most 1.
func (c *RecentCache) keys(room string) []string {
	tag := roomTag(room)
	return []string{c.store.key(tag, ":recent:1"), c.store.key(tag, ":recent:rev"), c.store.key(tag, ":recent:first")}
}

// Get returns what is held for room. What cannot be read is as good as not held, and is removed.
func (c *RecentCache) Get(ctx context.Context, room string) (chat.Recent, bool, error) {
	const op = "read recent messages"
	keys := c.keys(room)
	// At once, so that the messages have every change up to the Rev.
	type held struct {
		entries    []string
		rev, first string
	}
	got, err := call(ctx, op, func(ctx context.Context) (held, error) {
		pipe := c.store.client.TxPipeline()
		rev, first, list := pipe.Get(ctx, keys[1]), pipe.Get(ctx, keys[2]), pipe.LRange(ctx, keys[0], 0, -1)
		_, _ = pipe.Exec(ctx) // each command has its own error
		for _, number := range []*redis.StringCmd{rev, first} {
			if err := number.Err(); err != nil && !errors.Is(err, redis.Nil) {
				return held{}, err
			}
		}
		return held{list.Val(), rev.Val(), first.Val()}, list.Err()
	})
	if err != nil {
		return chat.Recent{}, false, err
	}
	var bad []string
	r := chat.Recent{}
	if r.First, err = decodeNumber(got.first); err != nil {
		bad = keys[2:]
	} else if r.Rev, err = decodeNumber(got.rev); err != nil {
		bad = keys[:2] // without it the list is worth nothing
	} else if r.Messages, err = decodeEntries(room, got.entries); err != nil {
		bad = keys[:1]
	}
	if len(bad) > 0 {
		_, err := call(ctx, op, func(ctx context.Context) (int64, error) { return c.store.client.Del(ctx, bad...).Result() })
		return chat.Recent{}, false, err
	}
	if len(got.entries) == 0 {
		return chat.Recent{}, false, nil
	}
	return r, true, nil
}

func decodeNumber(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	if len(text) != seqDigits {
		return 0, errEncoding
	}
	return strconv.ParseUint(text, 10, 64)
}

func decodeEntries(room string, entries []string) ([]chat.Message, error) {
	if len(entries) > 0 && entries[0] == emptyRoom {
		entries = entries[1:]
	}
	messages := make([]chat.Message, len(entries))
	for i, entry := range entries {
		m, err := decodeEntry(entry)
		if err != nil || m.Room != room || (i > 0 && m.Seq != messages[i-1].Seq+1) {
			return nil, errEncoding
		}
		messages[i] = m
	}
	return messages, nil
}

// distance is how far one number of 20 digits is from another one that is near. Doubles hold each half exactly.
const distance = `
local function distance(a, b)
	return (tonumber(string.sub(a, 1, 10)) - tonumber(string.sub(b, 1, 10))) * 10000000000
		+ tonumber(string.sub(a, 11, 20)) - tonumber(string.sub(b, 11, 20))
end
`

// raise takes what stands before a First out of the list, and returns the room's.
const raise = `
local function raise(first, ttl)
	local known = redis.call('GET', KEYS[3]) or '00000000000000000000'
	if first <= known or first <= '00000000000000000001' then
		return known
	end
	redis.call('SET', KEYS[3], first, 'PX', ttl)
	local newest = redis.call('LINDEX', KEYS[1], -1)
	if newest and string.sub(newest, 1, 20) < first then
		redis.call('DEL', KEYS[1])
	elseif newest then
		local gone = distance(first, string.sub(redis.call('LINDEX', KEYS[1], 0), 1, 20))
		if gone > 0 then
			redis.call('LTRIM', KEYS[1], gone, -1)
		end
	end
	return first
end
`

// KEYS: the list, the Rev, the First. ARGV: the most entries, the time to live in ms, entries.
var addRecent = redis.NewScript(distance + `
local begin = 3
local least = redis.call('GET', KEYS[3])
while least and ARGV[begin] and string.sub(ARGV[begin], 1, 20) < least do
	begin = begin + 1
end
if not ARGV[begin] then
	return 0
end
local newest = redis.call('LINDEX', KEYS[1], -1)
if not newest and redis.call('EXISTS', KEYS[2]) == 1 then
	return 0
end
local last = newest and string.sub(newest, 1, 20)
if last and distance(string.sub(ARGV[begin], 1, 20), last) > 1 then
	redis.call('DEL', KEYS[1])
	last = false
end
for i = begin, #ARGV do
	if not last or last < string.sub(ARGV[i], 1, 20) then
		redis.call('RPUSH', KEYS[1], ARGV[i])
	end
end
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[1]), -1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 0
`)

// Add puts messages that were just stored into their rooms, each room atomically.
func (c *RecentCache) Add(ctx context.Context, messages ...chat.Message) error {
	rooms, order := byRoom(messages)
	for _, room := range order {
		var run []chat.Message
		for _, m := range rooms[room] {
			if n := len(run); n > 0 && m.Seq != run[n-1].Seq+1 {
				if m.Seq <= run[n-1].Seq {
					continue
				}
				run = nil // behind a hole it begins anew
			}
			run = append(run, m)
		}
		run = run[max(0, len(run)-c.keep):]
		if _, err := c.store.run(ctx, "add recent messages", addRecent, c.keys(room), c.args(run)...); err != nil {
			return err
		}
	}
	return nil
}

// byRoom returns the messages of each room, and the rooms in the order in which they came.
func byRoom(messages []chat.Message) (rooms map[string][]chat.Message, order []string) {
	rooms = map[string][]chat.Message{}
	for _, m := range messages {
		if rooms[m.Room] == nil {
			order = append(order, m.Room)
		}
		rooms[m.Room] = append(rooms[m.Room], m)
	}
	return rooms, order
}

// before is the number that stands before n.
func before(n uint64) string { return seqText(max(n, 1) - 1) }

func (c *RecentCache) args(messages []chat.Message, bounds ...any) []any {
	args := append([]any{c.keep, c.ttl.Milliseconds()}, bounds...)
	for _, m := range messages {
		args = append(args, encodeEntry(m))
	}
	return args
}

// An entry that has a Rev ends with it: the number and the length of the field, and 20 digits. An entry without one ends with
// the time of the message, or with another field, none of which looks like that.
//
// KEYS: the list, the Rev. ARGV: the most entries, the time to live in ms; then for each change the Rev before it, its Rev,
// the sequence before that of its message, and the entry.
var changeRecent = redis.NewScript(distance + `
local rev = redis.call('GET', KEYS[2]) or '00000000000000000000'
local was = rev
for i = 3, #ARGV, 4 do
	if rev < ARGV[i + 1] then
		if rev < ARGV[i] then
			redis.call('DEL', KEYS[1])
		end
		rev = ARGV[i + 1]
		local entry = ARGV[i + 3]
		local seq = string.sub(entry, 1, 20)
		local newest = redis.call('LINDEX', KEYS[1], -1)
		local last = newest and string.sub(newest, 1, 20)
		if last and last < seq then
			if last < ARGV[i + 2] then
				redis.call('DEL', KEYS[1])
			end
			redis.call('RPUSH', KEYS[1], entry)
		elseif last then
			local at = distance(seq, string.sub(redis.call('LINDEX', KEYS[1], 0), 1, 20))
			local held = at >= 0 and redis.call('LINDEX', KEYS[1], at)
			local known = held and string.match(held, '\3\20(%d+)$')
			if held and not (known and string.len(known) == 20 and known >= rev) then
				redis.call('LSET', KEYS[1], at, entry)
			end
		end
	end
end
if was < rev then
	redis.call('SET', KEYS[2], rev, 'PX', ARGV[2])
	redis.call('LTRIM', KEYS[1], -tonumber(ARGV[1]), -1)
	redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
`)

// Change puts messages that were just changed in the place of what is held of them, each room atomically.
func (c *RecentCache) Change(ctx context.Context, messages ...chat.Message) error {
	const atOnce = 1000 // changes of one script, which unpacks nothing but holds up the server
	rooms, order := byRoom(messages)
	for _, room := range order {
		for all := rooms[room]; len(all) > 0; {
			some := all[:min(len(all), atOnce)]
			all = all[len(some):]
			args := []any{c.keep, c.ttl.Milliseconds()}
			for _, m := range some {
				args = append(args, before(m.Rev), seqText(m.Rev), before(m.Seq), encodeEntry(m))
			}
			if _, err := c.store.run(ctx, "change recent messages", changeRecent, c.keys(room), args...); err != nil {
				return err
			}
		}
	}
	return nil
}

// KEYS: the list, the Rev, the First. ARGV: the most entries, the time to live in ms, the First, the sequence behind the last
// entry, the Rev, entries.
var fillRecent = redis.NewScript(distance + raise + `
local least = raise(ARGV[3], ARGV[2])
local begin = 6
while ARGV[begin] and string.sub(ARGV[begin], 1, 20) < least do
	begin = begin + 1
end
local rev = redis.call('GET', KEYS[2]) or '00000000000000000000'
if ARGV[5] < rev then
	return 0
end
local newer = rev < ARGV[5]
if newer then
	redis.call('SET', KEYS[2], ARGV[5])
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[2])
if not ARGV[begin] then
	if newer then
		redis.call('DEL', KEYS[1])
	end
	return 0
end
local oldest = redis.call('LINDEX', KEYS[1], 0)
local newest = redis.call('LINDEX', KEYS[1], -1)
local first = oldest and string.sub(oldest, 1, 20)
local last = newest and string.sub(newest, 1, 20)
if first and (ARGV[4] < first or distance(string.sub(ARGV[begin], 1, 20), last) > 1) then
	local held = string.len(newest) > 20
	if held and not newer then
		return 0
	end
	redis.call('DEL', KEYS[1])
	if held then
		return 0
	end
	first, last = false, false
end
if first and newer then
	local known = distance(ARGV[4], first)
	if known > 0 then
		redis.call('LTRIM', KEYS[1], known, -1)
	end
	for i = #ARGV, begin, -1 do
		redis.call('LPUSH', KEYS[1], ARGV[i])
	end
else
	for i = #ARGV, begin, -1 do
		if first and string.sub(ARGV[i], 1, 20) < first then
			redis.call('LPUSH', KEYS[1], ARGV[i])
		end
	end
	for i = begin, #ARGV do
		if not last or last < string.sub(ARGV[i], 1, 20) then
			redis.call('RPUSH', KEYS[1], ARGV[i])
		end
	end
end
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[1]), -1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 0
`)

// KEYS: the list, the Rev, the First. ARGV: the entry of a room without messages, the time to live in ms, the Rev, the First.
var fillEmpty = redis.NewScript(distance + raise + `
local least = raise(ARGV[4], ARGV[2])
local rev = redis.call('GET', KEYS[2]) or '00000000000000000000'
if ARGV[3] < rev then
	return 0
end
if rev < ARGV[3] then
	redis.call('SET', KEYS[2], ARGV[3])
	redis.call('PEXPIRE', KEYS[2], ARGV[2])
	local newest = redis.call('LINDEX', KEYS[1], -1)
	if newest and string.len(newest) > 20 then
		redis.call('DEL', KEYS[1])
		return 0
	end
end
if least <= '00000000000000000001' and redis.call('EXISTS', KEYS[1]) == 0 then
	redis.call('RPUSH', KEYS[1], ARGV[1])
	redis.call('PEXPIRE', KEYS[1], ARGV[2])
	redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
return 0
`)

// Fill gives the cache what was read from the store. Messages with a hole between them are
// an error of kind Invalid.
func (c *RecentCache) Fill(ctx context.Context, room string, r chat.Recent) error {
	const op = "fill recent messages"
	messages := r.Messages
	for i := 1; i < len(messages); i++ {
		if messages[i].Seq != messages[i-1].Seq+1 {
			return errHole.Detail("%d is followed by %d", messages[i-1].Seq, messages[i].Seq)
		}
	}
	if r.First == chat.Gone {
		_, err := call(ctx, op, func(ctx context.Context) (int64, error) { return c.store.client.Del(ctx, c.keys(room)...).Result() })
		return err
	}
	if len(messages) == 0 {
		_, err := c.store.run(ctx, op, fillEmpty, c.keys(room), emptyRoom, c.ttl.Milliseconds(), seqText(r.Rev), seqText(r.First))
		return err
	}
	messages = messages[max(0, len(messages)-c.keep):]
	args := c.args(messages, seqText(r.First), seqText(messages[len(messages)-1].Seq+1), seqText(r.Rev))
	_, err := c.store.run(ctx, op, fillRecent, c.keys(room), args...)
	return err
}
