package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

// Presence is a realtime.Presence, shared by every node.
//
// A room without dead nodes is listed by two look-ups, however large it is. Where the lease of
// a node with users in the room has ended, the whole room is read, until those users are
// forgotten, an hour after the end of the lease.
type Presence struct{ store *Store }

var _ realtime.Presence = (*Presence)(nil)

// Presence returns who is in which room.
func (s *Store) Presence() *Presence { return &Presence{s} }

const (
	// forgetNode is how long after the end of its lease a node's users are back if it renews.
	forgetNode = time.Hour
	// forgetRoom is how long a room is remembered that nobody enters, leaves or lists.
	forgetRoom = 30 * 24 * time.Hour
)

// The keys of a room, in the order in which scripts get them:
//
//	who    hash: node NUL user → name, for each node that has the user
//	ids    sorted set: users, each once, by their bytes
//	nodes  hash: node → how many users it has here
func (p *Presence) keys(room string) []string {
	tag := roomTag(room)
	return []string{p.store.key(tag, ":who"), p.store.key(tag, ":ids"), p.store.key(tag, ":nodes")}
}

func (p *Presence) leases() string { return p.store.key("presence", ":leases") }

// ARGV: node, user, name, ms to keep the room. Returns the other nodes that have the user.
var enterRoom = redis.NewScript(`
if redis.call('HSET', KEYS[1], ARGV[1] .. '\0' .. ARGV[2], ARGV[3]) == 1 then
	redis.call('HINCRBY', KEYS[3], ARGV[1], 1)
	redis.call('ZADD', KEYS[2], 0, ARGV[2])
end
for i = 1, 3 do
	redis.call('PEXPIRE', KEYS[i], ARGV[4])
end
local others = {}
for _, node in ipairs(redis.call('HKEYS', KEYS[3])) do
	if node ~= ARGV[1] and redis.call('HEXISTS', KEYS[1], node .. '\0' .. ARGV[2]) == 1 then
		others[#others + 1] = node
	end
end
return others
`)

// ARGV: node, ms to keep the room, users. Returns whether the node had the last of them, and then the other
// nodes that have that user.
var exitRoom = redis.NewScript(`
local others, had
for i = 3, #ARGV do
	others = {}
	had = redis.call('HDEL', KEYS[1], ARGV[1] .. '\0' .. ARGV[i]) == 1
	if had and redis.call('HINCRBY', KEYS[3], ARGV[1], -1) <= 0 then
		redis.call('HDEL', KEYS[3], ARGV[1])
	end
	for _, node in ipairs(redis.call('HKEYS', KEYS[3])) do
		if node ~= ARGV[1] and redis.call('HEXISTS', KEYS[1], node .. '\0' .. ARGV[i]) == 1 then
			others[#others + 1] = node
		end
	end
	if had and #others == 0 then
		redis.call('ZREM', KEYS[2], ARGV[i])
	end
end
for i = 1, 3 do
	redis.call('PEXPIRE', KEYS[i], ARGV[2])
end
table.insert(others, 1, had and '1' or '0')
return others
`)

// ARGV: the most users, ms to keep the room. Returns how many users there are, how many nodes
// have some, these nodes, and the first users, each followed by its name.
var listRoom = redis.NewScript(`
for i = 1, 3 do
	redis.call('PEXPIRE', KEYS[i], ARGV[2])
end
local nodes = redis.call('HKEYS', KEYS[3])
local out = {tostring(redis.call('ZCARD', KEYS[2])), tostring(#nodes)}
for _, node in ipairs(nodes) do
	out[#out + 1] = node
end
if tonumber(ARGV[1]) > 0 then
	for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, tonumber(ARGV[1]) - 1)) do
		for _, node in ipairs(nodes) do
			local name = redis.call('HGET', KEYS[1], node .. '\0' .. id)
			if name then
				out[#out + 1] = id
				out[#out + 1] = name
				break
			end
		end
	end
end
return out
`)

// ARGV: node, until, the time before which leases are forgotten.
var renewLease = redis.NewScript(`
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
	if tonumber(all[i + 1]) < tonumber(ARGV[3]) then
		redis.call('HDEL', KEYS[1], all[i])
	end
end
return 0
`)

// leases are the ends of the leases by node, as one call saw them.
type leases map[string]string

func (l leases) until(node string) (us int64, leased bool) {
	text, leased := l[node]
	if !leased {
		return 0, false
	}
	us, err := strconv.ParseInt(text, 10, 64)
	return us, err == nil
}

func (l leases) lives(node string, now time.Time) bool {
	until, leased := l.until(node)
	return !leased || until > micros(now)
}

// ask runs a script on the room and reads the leases, in one round trip.
func (p *Presence) ask(ctx context.Context, op string, script *redis.Script, room string, args ...any) ([]string, leases, error) {
	type answer struct {
		reply  any
		leases leases
	}
	a, err := call(ctx, op, func(ctx context.Context) (answer, error) {
		pipe := p.store.client.Pipeline()
		l := pipe.HGetAll(ctx, p.leases())
		c := script.EvalSha(ctx, pipe, p.keys(room), args...)
		_, err := pipe.Exec(ctx)
		if redis.HasErrorPrefix(c.Err(), "NOSCRIPT") && l.Err() == nil {
			c = script.Eval(ctx, p.store.client, p.keys(room), args...)
			err = c.Err()
		}
		return answer{c.Val(), l.Val()}, err
	})
	if err != nil {
		return nil, nil, err
	}
	list, err := texts(a.reply)
	if err != nil {
		return nil, nil, malformed(op, err)
	}
	return list, a.leases, nil
}

// none reports whether no node lives.
func none(nodes []string, l leases, now time.Time) bool {
	return !slices.ContainsFunc(nodes, func(n string) bool { return l.lives(n, now) })
}

// Enter says that node has the user in room.
func (p *Presence) Enter(ctx context.Context, now time.Time, node, room string, who chat.Author) (first bool, err error) {
	others, l, err := p.ask(ctx, "enter a room", enterRoom, room, escape(node), string(who.ID), who.Name, forgetRoom.Milliseconds())
	return err == nil && none(others, l, now), err
}

// Exit says that node has the user no longer in room.
func (p *Presence) Exit(ctx context.Context, now time.Time, node, room string, who chat.Author) (last bool, err error) {
	reply, l, err := p.ask(ctx, "leave a room", exitRoom, room, escape(node), forgetRoom.Milliseconds(), string(who.ID))
	return err == nil && reply[0] == "1" && none(reply[1:], l, now), err
}

// List returns at most limit users of room, and how many there are. A limit of 0 only counts.
func (p *Presence) List(ctx context.Context, now time.Time, room string, limit int) (users []chat.Author, count int, err error) {
	const op = "list a room"
	reply, l, err := p.ask(ctx, op, listRoom, room, max(limit, 0), forgetRoom.Milliseconds())
	if err != nil {
		return nil, 0, err
	}
	count, err1 := strconv.Atoi(reply[0])
	n, err2 := strconv.Atoi(reply[1])
	if err := cmp.Or(err1, err2); err != nil {
		return nil, 0, malformed(op, err)
	}
	nodes, page := reply[2:2+n], reply[2+n:]
	if !slices.ContainsFunc(nodes, func(n string) bool { return !l.lives(n, now) }) {
		users = make([]chat.Author, 0, len(page)/2)
		for i := 0; i < len(page); i += 2 {
			users = append(users, chat.Author{ID: user.ID(page[i]), Name: page[i+1]})
		}
		return users, count, nil
	}
	return p.listLiving(ctx, now, room, limit, l)
}

// listLiving reads the whole room, and forgets the users of nodes that died long ago.
func (p *Presence) listLiving(ctx context.Context, now time.Time, room string, limit int, l leases) ([]chat.Author, int, error) {
	keys := p.keys(room)
	who, err := call(ctx, "list a room", func(ctx context.Context) (map[string]string, error) {
		return p.store.client.HGetAll(ctx, keys[0]).Result()
	})
	if err != nil {
		return nil, 0, err
	}
	names := map[string]string{}
	old := map[string][]any{}
	for field, name := range who {
		node, id, ok := strings.Cut(field, "\x00")
		if !ok {
			continue
		}
		if l.lives(node, now) {
			names[id] = name
		} else if until, _ := l.until(node); until < micros(now.Add(-forgetNode)) {
			old[node] = append(old[node], id)
		}
	}
	for node, ids := range old {
		for some := range slices.Chunk(ids, 500) {
			args := append([]any{node, forgetRoom.Milliseconds()}, some...)
			if _, err := p.store.run(ctx, "forget a node", exitRoom, keys, args...); err != nil {
				return nil, 0, err
			}
		}
	}
	users := make([]chat.Author, 0, len(names))
	for id, name := range names {
		users = append(users, chat.Author{ID: user.ID(id), Name: name})
	}
	slices.SortFunc(users, func(a, b chat.Author) int { return cmp.Compare(a.ID, b.ID) })
	return users[:min(max(limit, 0), len(users))], len(users), nil
}

// Renew extends the lease of node, and forgets leases that ended so long ago that no room
// holds their users any more. A time after the year 2255 is refused with kind Invalid.
func (p *Presence) Renew(ctx context.Context, node string, until time.Time) error {
	if score(until) != micros(until) {
		return errLease.Detail("it ends at %s", until)
	}
	old := micros(until.Add(-forgetRoom - 2*forgetNode))
	_, err := p.store.run(ctx, "renew a lease", renewLease, []string{p.leases()}, escape(node), micros(until), fmt.Sprint(old))
	return err
}

var errLease = fault.New(fault.Invalid, "lease_invalid", "the lease is not valid")
