package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"maps"
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
//	sums   hash: node → the sum of their marks, by which a roll of the same users is known
func (p *Presence) keys(room string) []string {
	tag := roomTag(room)
	return []string{p.store.key(tag, ":who"), p.store.key(tag, ":ids"), p.store.key(tag, ":nodes"), p.store.key(tag, ":sums")}
}

// The keys of all leases: their ends, and the nodes whose leases were ended for good, by when.
func (p *Presence) leases() string { return p.store.key("presence", ":leases") }
func (p *Presence) ended() string  { return p.store.key("presence", ":ended") }

// mark is what a user adds to a sum. A million of them stay exact in a double.
func mark(id user.ID) int64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	return int64(h.Sum32())
}

const keepRoom = `
for i = 1, 4 do
	redis.call('PEXPIRE', KEYS[i], ARGV[2])
end
`

// ARGV: node, ms to keep the room, and of each user the ID, the name and the mark. Returns for each the ID,
// 1 if the node did not have it, and how many other nodes have it, and these.
var enterRoom = redis.NewScript(`
local nodes = redis.call('HKEYS', KEYS[3])
local out = {}
for i = 3, #ARGV, 3 do
	local id, new = ARGV[i], '0'
	if redis.call('HSET', KEYS[1], ARGV[1] .. '\0' .. id, ARGV[i + 1]) == 1 then
		redis.call('HINCRBY', KEYS[3], ARGV[1], 1)
		redis.call('HINCRBY', KEYS[4], ARGV[1], ARGV[i + 2])
		new = '1'
	end
	redis.call('ZADD', KEYS[2], 0, id)
	out[#out + 1] = id
	out[#out + 1] = new
	local count = #out + 1
	local others = 0
	out[count] = ''
	for _, node in ipairs(nodes) do
		if node ~= ARGV[1] and redis.call('HEXISTS', KEYS[1], node .. '\0' .. id) == 1 then
			out[#out + 1] = node
			others = others + 1
		end
	end
	out[count] = tostring(others)
end
` + keepRoom + `
return out
`)

// ARGV: node, ms to keep the room, 1 to return also those whom the node did not have, and of each user the ID and the
// mark. Returns the IDs and names of those whom the node had and no other node has. Whoever removes the last trace
// of a user is told, and nobody else.
var exitRoom = redis.NewScript(`
local nodes = redis.call('HKEYS', KEYS[3])
local gone = {}
for i = 4, #ARGV, 2 do
	local id = ARGV[i]
	local field = ARGV[1] .. '\0' .. id
	local name = redis.call('HGET', KEYS[1], field)
	if name then
		redis.call('HDEL', KEYS[1], field)
		redis.call('HINCRBY', KEYS[4], ARGV[1], -ARGV[i + 1])
		if redis.call('HINCRBY', KEYS[3], ARGV[1], -1) <= 0 then
			redis.call('HDEL', KEYS[3], ARGV[1])
			redis.call('HDEL', KEYS[4], ARGV[1])
		end
	end
	if name or ARGV[3] == '1' then
		local others = false
		for _, node in ipairs(nodes) do
			if node ~= ARGV[1] and redis.call('HEXISTS', KEYS[1], node .. '\0' .. id) == 1 then
				others = true
				break
			end
		end
		if not others then
			redis.call('ZREM', KEYS[2], id)
			gone[#gone + 1] = id
			gone[#gone + 1] = name or ''
		end
	end
end
` + keepRoom + `
return gone
`)

// ARGV: node, ms to keep the room, how many users the node has there, and the sum of their marks. Returns 1 if that is
// so, and the other nodes that have somebody.
var checkRoom = redis.NewScript(`
local nodes = redis.call('HGETALL', KEYS[3])
local mine, total, most = 0, 0, 0
local out = {'0'}
for i = 1, #nodes, 2 do
	local n = tonumber(nodes[i + 1])
	total = total + n
	most = math.max(most, n)
	if nodes[i] == ARGV[1] then
		mine = n
	else
		out[#out + 1] = nodes[i]
	end
end
if mine == tonumber(ARGV[3]) and (redis.call('HGET', KEYS[4], ARGV[1]) or '0') == ARGV[4]
	and redis.call('HLEN', KEYS[1]) >= total and redis.call('ZCARD', KEYS[2]) >= most then
	out[1] = '1'
end
if mine > 0 and redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) / 2 then
` + keepRoom + `
end
return out
`)

// ARGV: node, ms to keep the room, how many users the node has there, and the sum of their marks: it is so from now on.
var countRoom = redis.NewScript(`
if ARGV[3] == '0' then
	redis.call('HDEL', KEYS[3], ARGV[1])
	redis.call('HDEL', KEYS[4], ARGV[1])
else
	redis.call('HSET', KEYS[3], ARGV[1], ARGV[3])
	redis.call('HSET', KEYS[4], ARGV[1], ARGV[4])
end
` + keepRoom + `
return 0
`)

// ARGV: the most users, ms to keep the room. Returns how many users there are, how many nodes
// have some, these nodes, and the first users, each followed by its name.
var listRoom = redis.NewScript(`
` + keepRoom + `
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

// ARGV: node, until, the time before which leases are forgotten, now, and 1 to end leases that do not last. Returns
// ended if the node's was, or else new or known, then how many were ended, these, and all leases.
var renewLease = redis.NewScript(`
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then
	return {'ended'}
end
local new = redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local all = redis.call('HGETALL', KEYS[1])
local now = tonumber(ARGV[4])
for i = 1, #all, 2 do
	local node, ends = all[i], tonumber(all[i + 1])
	if ends < tonumber(ARGV[3]) then
		redis.call('HDEL', KEYS[1], node)
		redis.call('HDEL', KEYS[2], node)
	elseif ARGV[5] == '1' and ends <= now and node ~= ARGV[1] then
		redis.call('HSETNX', KEYS[2], node, ARGV[4])
	end
end
local ended = redis.call('HKEYS', KEYS[2])
local out = {new == 1 and 'new' or 'known', tostring(#ended)}
for _, node in ipairs(ended) do
	out[#out + 1] = node
end
for _, v in ipairs(all) do
	out[#out + 1] = v
end
return out
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
	const op = "enter a room"
	reply, l, err := p.ask(ctx, op, enterRoom, room, escape(node), forgetRoom.Milliseconds(), string(who.ID), who.Name, mark(who.ID))
	if err != nil {
		return false, err
	}
	if len(reply) < 3 {
		return false, malformed(op, errEncoding)
	}
	return none(reply[3:], l, now), nil
}

// Exit says that node has the user no longer in room.
func (p *Presence) Exit(ctx context.Context, _ time.Time, node, room string, who chat.Author) (last bool, err error) {
	gone, err := p.leave(ctx, escape(node), room, []user.ID{who.ID}, true)
	return len(gone) == 1, err
}

// leave removes users of a node from a room, and returns those whom no other node has: of whom the node had, or of all.
func (p *Presence) leave(ctx context.Context, node, room string, ids []user.ID, all bool) ([]chat.Author, error) {
	const op = "leave a room"
	var gone []chat.Author
	for some := range slices.Chunk(ids, perScript) {
		args := []any{node, forgetRoom.Milliseconds(), all}
		for _, id := range some {
			args = append(args, string(id), mark(id))
		}
		reply, err := p.store.run(ctx, op, exitRoom, p.keys(room), args...)
		if err != nil {
			return gone, err
		}
		list, err := texts(reply)
		if err != nil {
			return gone, malformed(op, err)
		}
		for i := 1; i < len(list); i += 2 {
			gone = append(gone, chat.Author{ID: user.ID(list[i-1]), Name: list[i]})
		}
	}
	return gone, nil
}

// perScript is the most users that one script handles: others wait meanwhile.
const perScript = 500

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
	old := map[string][]user.ID{}
	for field, name := range who {
		node, id, ok := strings.Cut(field, "\x00")
		if !ok {
			continue
		}
		if l.lives(node, now) {
			names[id] = name
		} else if until, _ := l.until(node); until < micros(now.Add(-forgetNode)) {
			old[node] = append(old[node], user.ID(id))
		}
	}
	for node, ids := range old {
		if _, err := p.leave(ctx, node, room, ids, false); err != nil {
			return nil, 0, err
		}
	}
	users := make([]chat.Author, 0, len(names))
	for id, name := range names {
		users = append(users, chat.Author{ID: user.ID(id), Name: name})
	}
	slices.SortFunc(users, func(a, b chat.Author) int { return cmp.Compare(a.ID, b.ID) })
	return users[:min(max(limit, 0), len(users))], len(users), nil
}

// Renew extends the lease of a node, puts right what is known of its rooms, and forgets leases that ended so long ago
// that no room holds their users any more. A time after the year 2255 is refused with kind Invalid. A room that is
// right costs one script. With an error, users may have been told to have left of whom the caller does not hear.
func (p *Presence) Renew(ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
	var done realtime.Renewed
	if score(r.Until) != micros(r.Until) {
		return done, errLease.Detail("it ends at %s", r.Until)
	}
	const op = "renew a lease"
	old := micros(r.Until.Add(-forgetRoom - 2*forgetNode))
	reply, err := p.store.run(ctx, op, renewLease, []string{p.leases(), p.ended()},
		escape(r.Node), micros(r.Until), fmt.Sprint(old), micros(r.Now), r.End)
	if err != nil {
		return done, err
	}
	list, err := texts(reply)
	if err != nil || len(list) == 0 {
		return done, malformed(op, cmp.Or(err, errEncoding))
	}
	if list[0] == "ended" {
		return done, realtime.ErrLeaseEnded
	}
	n, err := strconv.Atoi(list[1])
	if err != nil || n+2 > len(list) {
		return done, malformed(op, cmp.Or(err, errEncoding))
	}
	done.Fresh = list[0] == "new"
	c := comparison{Presence: p, now: r.Now, until: r.Until, node: escape(r.Node), done: &done, ended: map[string]struct{}{}, leases: leases{}}
	for _, node := range list[2 : 2+n] {
		c.ended[node] = struct{}{}
		done.Ended = append(done.Ended, unescaper.Replace(node))
	}
	for i := 3 + n; i < len(list); i += 2 {
		c.leases[list[i-1]] = list[i]
	}
	return done, c.rooms(ctx, r.Rolls)
}

// comparison is about the rooms of one renewal.
type comparison struct {
	*Presence
	now    time.Time
	until  time.Time
	node   string
	leases leases
	ended  map[string]struct{}
	done   *realtime.Renewed
}

func countOf(roll realtime.Roll) (count int, sum int64) {
	for _, who := range roll.Users {
		sum += mark(who.ID)
	}
	return len(roll.Users), sum
}

// rooms looks at all rooms in one round trip, and then at those where something is wrong.
func (c *comparison) rooms(ctx context.Context, rolls []realtime.Roll) error {
	if len(rolls) == 0 {
		return nil
	}
	const op = "compare rooms"
	replies, err := call(ctx, op, func(ctx context.Context) ([]any, error) {
		pipe := c.store.client.Pipeline()
		asked := make([]*redis.Cmd, len(rolls))
		args := func(roll realtime.Roll) []any {
			count, sum := countOf(roll)
			return []any{c.node, forgetRoom.Milliseconds(), count, sum}
		}
		for i, roll := range rolls {
			asked[i] = checkRoom.EvalSha(ctx, pipe, c.keys(roll.Room), args(roll)...)
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
		replies := make([]any, len(rolls))
		for i, a := range asked {
			if redis.HasErrorPrefix(a.Err(), "NOSCRIPT") {
				a = checkRoom.Run(ctx, c.store.client, c.keys(rolls[i].Room), args(rolls[i])...)
			}
			if a.Err() != nil {
				return nil, a.Err()
			}
			replies[i] = a.Val()
		}
		return replies, nil
	})
	if err != nil {
		return err
	}
	for i, roll := range rolls {
		list, err := texts(replies[i])
		if err != nil || len(list) == 0 {
			return malformed(op, cmp.Or(err, errEncoding))
		}
		if list[0] != "1" {
			if err := c.repair(ctx, roll); err != nil {
				return err
			}
		}
		for _, node := range list[1:] {
			if err := c.lend(ctx, node); err != nil {
				return err
			}
			if _, ended := c.ended[node]; ended {
				if err := c.bury(ctx, roll.Room, node); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// lend gives a node that has no lease one as long as the caller's. The node renews it, or its users go with it.
func (c *comparison) lend(ctx context.Context, node string) error {
	if _, leased := c.leases[node]; leased {
		return nil
	}
	until := micros(c.until)
	_, err := call(ctx, "renew a lease", func(ctx context.Context) (bool, error) {
		return c.store.client.HSetNX(ctx, c.Presence.leases(), node, until).Result()
	})
	if err == nil {
		c.leases[node] = fmt.Sprint(until)
	}
	return err
}

// repair makes a room have the users of a roll.
func (c *comparison) repair(ctx context.Context, roll realtime.Roll) error {
	const op = "enter a room"
	keys := c.keys(roll.Room)
	stays := make(map[user.ID]struct{}, len(roll.Users))
	for some := range slices.Chunk(roll.Users, perScript) {
		args := []any{c.node, forgetRoom.Milliseconds()}
		names := make(map[string]chat.Author, len(some))
		for _, who := range some {
			stays[who.ID] = struct{}{}
			names[string(who.ID)] = who
			args = append(args, string(who.ID), who.Name, mark(who.ID))
		}
		reply, err := c.store.run(ctx, op, enterRoom, keys, args...)
		if err != nil {
			return err
		}
		list, err := texts(reply)
		for err == nil && len(list) >= 3 {
			var n int
			if n, err = strconv.Atoi(list[2]); err != nil || n+3 > len(list) {
				break
			}
			if list[1] == "1" && none(list[3:3+n], c.leases, c.now) {
				c.done.Entered = append(c.done.Entered, realtime.Whereabouts{Room: roll.Room, User: names[list[0]]})
			}
			list = list[3+n:]
		}
		if err != nil || len(list) > 0 {
			return malformed(op, cmp.Or(err, errEncoding))
		}
	}
	has, err := c.usersOf(ctx, roll.Room, c.node)
	if err != nil {
		return err
	}
	if err := c.gone(ctx, roll.Room, c.node, slices.DeleteFunc(has, func(id user.ID) bool { _, ok := stays[id]; return ok })); err != nil {
		return err
	}
	count, sum := countOf(roll)
	_, err = c.store.run(ctx, "count a room", countRoom, keys, c.node, forgetRoom.Milliseconds(), count, sum)
	return err
}

// bury removes the users of a node whose lease was ended.
func (c *comparison) bury(ctx context.Context, room, node string) error {
	has, err := c.usersOf(ctx, room, node)
	if err != nil {
		return err
	}
	if err := c.gone(ctx, room, node, has); err != nil {
		return err
	}
	_, err = c.store.run(ctx, "count a room", countRoom, c.keys(room), node, forgetRoom.Milliseconds(), 0, 0)
	return err
}

func (c *comparison) gone(ctx context.Context, room, node string, ids []user.ID) error {
	gone, err := c.leave(ctx, node, room, ids, false)
	for _, who := range gone {
		c.done.Left = append(c.done.Left, realtime.Whereabouts{Room: room, User: who})
	}
	return err
}

// usersOf returns whom a node has in a room.
func (p *Presence) usersOf(ctx context.Context, room, node string) ([]user.ID, error) {
	return call(ctx, "read a room", func(ctx context.Context) ([]user.ID, error) {
		seen := map[user.ID]struct{}{} // a scan may return what it has returned
		var cursor uint64
		for {
			fields, next, err := p.store.client.HScan(ctx, p.keys(room)[0], cursor, globber.Replace(node)+"\x00*", 1000).Result()
			if err != nil {
				return nil, err
			}
			for i := 0; i < len(fields); i += 2 {
				if n, id, ok := strings.Cut(fields[i], "\x00"); ok && n == node {
					seen[user.ID(id)] = struct{}{}
				}
			}
			if cursor = next; cursor == 0 {
				return slices.Collect(maps.Keys(seen)), nil
			}
		}
	})
}

var (
	globber   = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`)
	unescaper = strings.NewReplacer("%25", "%", "%7D", "}", "%00", "\x00")
)

var errLease = fault.New(fault.Invalid, "lease_invalid", "the lease is not valid")
