package redisstore

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/user"
)

// MailQueue is a mail.Queue of mails, or of deliveries of webhooks, with mail.DeadLetters and mail.Stats over the same jobs, for many
// processes. A job that is requeued takes its old place in the order. UpdatedAt is the time
// that the last change came with: the claim's, the outcome's, or the one to run at when it was
// requeued.
type MailQueue struct {
	store *Store
	tag   string // of every key
}

var (
	_ mail.Queue       = (*MailQueue)(nil)
	_ mail.DeadLetters = (*MailQueue)(nil)
	_ mail.Stats       = (*MailQueue)(nil)
)

// MailQueue returns the mail jobs. Read in the package comment what it asks of the server.
func (s *Store) MailQueue() *MailQueue { return &MailQueue{s, "mail"} }

// WebhookQueue returns the deliveries of webhooks, which are kept as mail jobs are.
func (s *Store) WebhookQueue() *MailQueue { return &MailQueue{s, "webhook"} }

var (
	errJobExists = fault.New(fault.Conflict, "job_exists", "a mail job with this identifier exists")
)

// Every script gets the same keys, all with one hash tag:
//
//	1 job:     what the key of a job begins with; the rest is its ID
//	2 keys     hash: job key → ID
//	3 place    the place that was given last
//	4 ids      sorted set: all IDs, by their bytes
//	5 in:      what the keys of the states begin with; each a sorted set like ids
//	6 waiting  sorted set: ID by the time from which it can be claimed, once it was read
//	7 due      sorted set: ID by place; what no longer waited when somebody claimed
//	8 sent     sorted set: ID by the time at which it was settled
//	9 jobs     stream: an entry PLACE-0 for each job that is not sent, with its ID
//
// A job is a hash of what mail.Job has, and place, at (from when it can be claimed) and by
// (the last call that settled or requeued it).
//
// The stream is the order. Its one group reads every entry once, so that everything it has read stands
// before everything that it has not. What it has read and is not settled is pending: leased, or
// waiting for its time, in the sets waiting and due. The group's own idle times are the server's, and leases
// are the callers', so it does not decide by them; and it never reads an entry a second time, so what
// comes back is claimed from among the pending. A job that is sent is acknowledged and deleted. A dead
// letter is acknowledged and stays where it is, so that it is pending in its old place once it is requeued.
func (q *MailQueue) keys() []string {
	names := [...]string{"job:", "keys", "place", "ids", "in:", "waiting", "due", "sent", "jobs"}
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = q.store.key(q.tag, ":"+name)
	}
	return keys
}

// The stream's group, and its one consumer: which process has a job does not matter.
const mailGroup = "mailers"

// move changes a job's state, and wait lets it wait until a time. pending makes the job's entry
// pending, with its attempts as deliveries.
const mailFunctions = `
local function move(id, from, to)
	if from then redis.call('ZREM', KEYS[5] .. from, id) end
	if to then
		redis.call('ZADD', KEYS[5] .. to, 0, id)
		redis.call('HSET', KEYS[1] .. id, 'state', to)
	end
end
local function wait(id, at)
	redis.call('HSET', KEYS[1] .. id, 'at', at)
	redis.call('ZREM', KEYS[7], id)
	redis.call('ZADD', KEYS[6], at, id)
end
local function entry(id) return redis.call('HGET', KEYS[1] .. id, 'place') .. '-0' end
local function pending(id)
	if redis.call('EXISTS', KEYS[9]) == 1 then
		redis.call('XCLAIM', KEYS[9], '` + mailGroup + `', 'mailer', 0, entry(id),
			'RETRYCOUNT', redis.call('HGET', KEYS[1] .. id, 'attempts'), 'FORCE', 'JUSTID')
	end
end
`

// ARGV: id, key, at, fields and values. Returns 1, 0 if the key is known, -1 if only the ID is.
var enqueueMail = redis.NewScript(mailFunctions + `
local id = ARGV[1]
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then
	return 0
end
if redis.call('EXISTS', KEYS[1] .. id) == 1 then
	return -1
end
redis.call('HSET', KEYS[2], ARGV[2], id)
for i = 4, #ARGV, 2 do
	redis.call('HSET', KEYS[1] .. id, ARGV[i], ARGV[i + 1])
end
if redis.call('EXISTS', KEYS[9]) == 0 then
	redis.call('XGROUP', 'CREATE', KEYS[9], '` + mailGroup + `', '0', 'MKSTREAM')
end
redis.call('HSET', KEYS[1] .. id, 'at', ARGV[3], 'place', string.format('%.0f', redis.call('INCR', KEYS[3])))
redis.call('XADD', KEYS[9], entry(id), 'id', id)
redis.call('ZADD', KEYS[4], 0, id)
move(id, false, 'ready')
return 1
`)

// ARGV: now and the end of the lease, each for comparing and for keeping. Callers' clocks may
// differ, so what is due for one may not be due for another: those are stepped over. What was
// read before comes before what is new.
var claimMail = redis.NewScript(mailFunctions + `
local now = tonumber(ARGV[1])
local function claim(id)
	local job = KEYS[1] .. id
	move(id, redis.call('HGET', job, 'state'), 'running')
	redis.call('HINCRBY', job, 'attempts', 1)
	redis.call('HINCRBY', job, 'claims', 1)
	redis.call('HSET', job, 'until', ARGV[4], 'updated', ARGV[3])
	wait(id, ARGV[2])
	return redis.call('HGETALL', job)
end
while true do
	local due = redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', ARGV[1], 'LIMIT', 0, 1000)
	for _, id in ipairs(due) do
		redis.call('ZADD', KEYS[7], redis.call('HGET', KEYS[1] .. id, 'place'), id)
		redis.call('ZREM', KEYS[6], id)
	end
	if #due < 1000 then break end
end
local from = 0
while true do
	local some = redis.call('ZRANGE', KEYS[7], from, from + 15)
	if #some == 0 then break end
	for _, id in ipairs(some) do
		if tonumber(redis.call('HGET', KEYS[1] .. id, 'at')) <= now then
			local job = claim(id)
			pending(id)
			return job
		end
	end
	from = from + 16
end
while redis.call('EXISTS', KEYS[9]) == 1 do
	local read = redis.call('XREADGROUP', 'GROUP', '` + mailGroup + `', 'mailer', 'COUNT', 1, 'STREAMS', KEYS[9], '>')
	if not read then break end
	local id = read[1][2][1][2][2]
	local at = redis.call('HGET', KEYS[1] .. id, 'at')
	if tonumber(at) <= now then
		return claim(id)
	end
	wait(id, at)
end
return false
`)

// ARGV: id; claims; the call; state; error; the time of the outcome, for comparing and for keeping; the time to run at,
// for both; 1 if the attempt does not count; when a server first put the mail off, or empty; the history, or empty. Returns 1, or 0 if the lease was lost.
var settleMail = redis.NewScript(mailFunctions + `
local id, job = ARGV[1], KEYS[1] .. ARGV[1]
local was = redis.call('HMGET', job, 'state', 'claims', 'by')
if was[3] == ARGV[3] then
	return 1
end
if was[1] ~= 'running' or was[2] ~= ARGV[2] then
	return 0
end
move(id, 'running', ARGV[4])
redis.call('HSET', job, 'by', ARGV[3], 'error', ARGV[5], 'updated', ARGV[7])
redis.call('HDEL', job, 'until')
if ARGV[12] ~= '' then
	redis.call('HSET', job, 'history', ARGV[12])
end
if ARGV[4] == 'ready' then
	redis.call('HSET', job, 'run', ARGV[9])
	if ARGV[10] == '1' then
		redis.call('HINCRBY', job, 'attempts', -1)
	end
	if ARGV[11] ~= '' then
		redis.call('HSET', job, 'deferred', ARGV[11])
	end
	wait(id, ARGV[8])
	return 1
end
redis.call('ZREM', KEYS[6], id)
redis.call('ZREM', KEYS[7], id)
redis.call('XACK', KEYS[9], '` + mailGroup + `', entry(id))
if ARGV[4] == 'sent' then
	redis.call('XDEL', KEYS[9], entry(id))
	redis.call('HDEL', job, 'data')
	redis.call('ZADD', KEYS[8], ARGV[6], id)
end
return 1
`)

// ARGV: the time before which sent jobs go. Returns how many went, at most 500.
var pruneMail = redis.NewScript(mailFunctions + `
local ids = redis.call('ZRANGEBYSCORE', KEYS[8], '-inf', '(' .. ARGV[1], 'LIMIT', 0, 500)
for _, id in ipairs(ids) do
	redis.call('HDEL', KEYS[2], redis.call('HGET', KEYS[1] .. id, 'key'))
	redis.call('ZREM', KEYS[4], id)
	redis.call('ZREM', KEYS[8], id)
	move(id, 'sent')
	redis.call('DEL', KEYS[1] .. id)
end
return #ids
`)

// ARGV: state or empty, recipient or empty, after or empty, the most jobs, the most to look
// at. Returns the last ID that was looked at, or empty at the end, and then jobs.
var listMail = redis.NewScript(`
local set = ARGV[1] == '' and KEYS[4] or KEYS[5] .. ARGV[1]
local ids = redis.call('ZRANGEBYLEX', set, ARGV[3] == '' and '-' or '(' .. ARGV[3], '+', 'LIMIT', 0, ARGV[5])
local out = {''}
for _, id in ipairs(ids) do
	if ARGV[2] == '' or redis.call('HGET', KEYS[1] .. id, 'to') == ARGV[2] then
		out[#out + 1] = redis.call('HGETALL', KEYS[1] .. id)
	end
	if #out > tonumber(ARGV[4]) then
		return out
	end
end
if #ids == tonumber(ARGV[5]) then
	out[1] = ids[#ids]
end
return out
`)

// ARGV: id, the call, the time to run at for comparing and for keeping, data if it changes.
// Returns 1, 0 if the job is not dead, -1 if there is none.
var requeueMail = redis.NewScript(mailFunctions + `
local id, job = ARGV[1], KEYS[1] .. ARGV[1]
local was = redis.call('HMGET', job, 'state', 'by')
if not was[1] then
	return -1
end
if was[2] == ARGV[2] then
	return 1
end
if was[1] ~= 'dead' then
	return 0
end
move(id, 'dead', 'ready')
redis.call('HSET', job, 'by', ARGV[2], 'attempts', '0', 'run', ARGV[4], 'updated', ARGV[4])
redis.call('HDEL', job, 'deferred')
redis.call('HINCRBY', job, 'replays', 1)
if ARGV[5] then
	redis.call('HSET', job, 'data', ARGV[5])
end
pending(id)
wait(id, ARGV[3])
return 1
`)

// ARGV: id. Returns as requeueMail does.
var discardMail = redis.NewScript(mailFunctions + `
local id, job = ARGV[1], KEYS[1] .. ARGV[1]
local was = redis.call('HMGET', job, 'state', 'key')
if not was[1] then
	return -1
end
if was[1] ~= 'dead' then
	return 0
end
redis.call('HDEL', KEYS[2], was[2])
redis.call('ZREM', KEYS[4], id)
move(id, 'dead')
redis.call('XDEL', KEYS[9], entry(id))
redis.call('DEL', job)
return 1
`)

// ARGV: id, recipient. Returns 1, or 0 if there is no such job to the recipient.
var eraseMail = redis.NewScript(mailFunctions + `
local id, job = ARGV[1], KEYS[1] .. ARGV[1]
local was = redis.call('HMGET', job, 'state', 'key', 'to')
if not was[1] or was[3] ~= ARGV[2] then
	return 0
end
local place = entry(id)
redis.call('HDEL', KEYS[2], was[2])
for i = 4, 8 do
	if i ~= 5 then redis.call('ZREM', KEYS[i], id) end
end
move(id, was[1])
if redis.call('EXISTS', KEYS[9]) == 1 then
	redis.call('XACK', KEYS[9], '` + mailGroup + `', place)
	redis.call('XDEL', KEYS[9], place)
end
redis.call('DEL', job)
return 1
`)

// Enqueue stores j unless its key is known. Another job with j.ID is an error of kind Conflict.
func (q *MailQueue) Enqueue(ctx context.Context, j mail.Job) error {
	reply, err := q.store.run(ctx, "enqueue mail", enqueueMail, q.keys(), j.ID, j.Key, score(j.RunAt),
		"id", j.ID, "key", j.Key, "kind", string(j.Kind), "to", string(j.To), "name", j.Name, "data", j.Data,
		"attempts", 0, "claims", 0, "error", "", "run", micros(j.RunAt), "created", micros(j.CreatedAt), "updated", micros(j.UpdatedAt))
	if err == nil && reply == int64(-1) {
		return errJobExists
	}
	return err
}

// Claim takes the first job that is due.
func (q *MailQueue) Claim(ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
	if err := mail.CheckLease(lease); err != nil {
		return mail.Job{}, false, err
	}
	const op = "claim mail"
	until := now.Add(lease)
	reply, err := q.store.run(ctx, op, claimMail, q.keys(), score(now), score(until), micros(now), micros(until))
	if err != nil || reply == nil {
		return mail.Job{}, false, err
	}
	j, err := readJob(reply)
	if err != nil {
		return mail.Job{}, false, malformed(op, err)
	}
	return j, true, nil
}

// Settle ends the lease of j.
func (q *MailQueue) Settle(ctx context.Context, j mail.Job, o mail.Outcome) error {
	if err := o.Check(); err != nil {
		return err
	}
	deferred := ""
	if !o.DeferredSince.IsZero() {
		deferred = strconv.FormatInt(micros(o.DeferredSince), 10)
	}
	history := []byte{}
	if o.History != nil {
		var err error
		if history, err = json.Marshal(o.History); err != nil {
			return err
		}
	}
	reply, err := q.store.run(ctx, "settle mail", settleMail, q.keys(), j.ID, j.Claims, rand.Text(), string(o.State), o.Error,
		score(o.At), micros(o.At), score(o.RunAt), micros(o.RunAt), o.Untried, deferred, history)
	if err == nil && reply != int64(1) {
		return mail.ErrLeaseLost
	}
	return err
}

// Prune removes Sent jobs that were settled before the given time, 500 at a time: with an
// error it returns how many went.
func (q *MailQueue) Prune(ctx context.Context, before time.Time) (int, error) {
	total := 0
	for {
		reply, err := q.store.run(ctx, "prune mail", pruneMail, q.keys(), score(before))
		if err != nil {
			return total, err
		}
		n, _ := reply.(int64)
		if n == 0 {
			return total, nil
		}
		total += int(n)
	}
}

// List returns jobs, ascending by ID.
func (q *MailQueue) List(ctx context.Context, f mail.Filter) ([]mail.Job, error) {
	if err := f.CheckLimit(); err != nil {
		return nil, err
	}
	const op, look = "list mail", 1000
	jobs := []mail.Job{}
	for after := f.After; ; {
		reply, err := q.store.run(ctx, op, listMail, q.keys(), string(f.State), string(f.To), after, f.Limit-len(jobs), look)
		if err != nil {
			return nil, err
		}
		list, ok := reply.([]any)
		if !ok || len(list) == 0 {
			return nil, malformed(op, fmt.Errorf("a reply is %T instead of a list", reply))
		}
		for _, v := range list[1:] {
			j, err := readJob(v)
			if err != nil {
				return nil, malformed(op, err)
			}
			jobs = append(jobs, j)
		}
		if after, _ = list[0].(string); after == "" || len(jobs) == f.Limit {
			return jobs, nil
		}
	}
}

// Get returns a job.
func (q *MailQueue) Get(ctx context.Context, id string) (mail.Job, error) {
	const op = "read mail"
	fields, err := call(ctx, op, func(ctx context.Context) (map[string]string, error) {
		return q.store.client.HGetAll(ctx, q.keys()[0]+id).Result()
	})
	if err != nil {
		return mail.Job{}, err
	}
	if len(fields) == 0 {
		return mail.Job{}, mail.ErrJobNotFound
	}
	j, err := jobOf(fields)
	if err != nil {
		return mail.Job{}, malformed(op, err)
	}
	return j, nil
}

// Requeue makes a dead letter Ready again.
func (q *MailQueue) Requeue(ctx context.Context, id string, runAt time.Time, data []byte) error {
	args := []any{id, rand.Text(), score(runAt), micros(runAt)}
	if data != nil {
		args = append(args, data)
	}
	reply, err := q.store.run(ctx, "requeue mail", requeueMail, q.keys(), args...)
	return decided(reply, err)
}

// Discard removes a dead letter. When the client repeats it after a broken connection, it may
// return ErrJobNotFound although it has removed the job.
func (q *MailQueue) Discard(ctx context.Context, id string) error {
	reply, err := q.store.run(ctx, "discard mail", discardMail, q.keys(), id)
	return decided(reply, err)
}

// DeleteTo removes the jobs to a recipient, one by one. It looks at all jobs: there is no index of recipients.
func (q *MailQueue) DeleteTo(ctx context.Context, to user.Email) (int, error) {
	if to == "" {
		return 0, nil
	}
	total := 0
	for after := ""; ; {
		jobs, err := q.List(ctx, mail.Filter{To: to, After: after, Limit: erasedTogether})
		if err != nil {
			return total, err
		}
		for _, j := range jobs {
			reply, err := q.store.run(ctx, "delete mail to a recipient", eraseMail, q.keys(), j.ID, string(to))
			if err != nil {
				return total, err
			}
			n, _ := reply.(int64)
			total += int(n)
			after = j.ID
		}
		if len(jobs) < erasedTogether {
			return total, nil
		}
	}
}

// erasedTogether is how many jobs DeleteTo lists at a time.
const erasedTogether = 100

func decided(reply any, err error) error {
	switch {
	case err != nil:
		return err
	case reply == int64(-1):
		return mail.ErrJobNotFound
	case reply == int64(0):
		return mail.ErrNotDead
	}
	return nil
}

// Stats counts the jobs in each state.
func (q *MailQueue) Stats(ctx context.Context) (map[mail.State]int, error) {
	states := [...]mail.State{mail.Ready, mail.Running, mail.Sent, mail.Dead}
	return call(ctx, "count mail", func(ctx context.Context) (map[mail.State]int, error) {
		tx := q.store.client.TxPipeline() // a moment's picture: no job is counted twice
		counts := make([]*redis.IntCmd, len(states))
		for i, s := range states {
			counts[i] = tx.ZCard(ctx, q.keys()[4]+string(s))
		}
		if _, err := tx.Exec(ctx); err != nil {
			return nil, err
		}
		stats := make(map[mail.State]int, len(states))
		for i, s := range states {
			stats[s] = int(counts[i].Val())
		}
		return stats, nil
	})
}

// readJob reads a job from fields and values in turn.
func readJob(reply any) (mail.Job, error) {
	list, err := texts(reply)
	if err != nil {
		return mail.Job{}, err
	}
	fields := make(map[string]string, len(list)/2)
	for i := 1; i < len(list); i += 2 {
		fields[list[i-1]] = list[i]
	}
	return jobOf(fields)
}

func jobOf(fields map[string]string) (mail.Job, error) {
	var errs []error
	number := func(name string) int64 {
		n, err := strconv.ParseInt(fields[name], 10, 64)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s of a mail job: %w", name, err))
		}
		return n
	}
	j := mail.Job{
		ID: fields["id"], Key: fields["key"], Kind: mail.Kind(fields["kind"]), To: user.Email(fields["to"]), Name: fields["name"],
		State: mail.State(fields["state"]), Attempts: int(number("attempts")), Claims: number("claims"),
		RunAt: moment(number("run")), LastError: fields["error"],
		CreatedAt: moment(number("created")), UpdatedAt: moment(number("updated")),
	}
	if data := fields["data"]; data != "" {
		j.Data = []byte(data)
	}
	if _, leased := fields["until"]; leased {
		j.LeasedUntil = moment(number("until"))
	}
	if _, deferred := fields["deferred"]; deferred {
		j.DeferredSince = moment(number("deferred"))
	}
	if _, replayed := fields["replays"]; replayed {
		j.Replays = int(number("replays"))
	}
	if history := fields["history"]; history != "" && json.Unmarshal([]byte(history), &j.History) != nil {
		j.History = nil // damaged by hand: it costs the history, and not the mail
	}
	return j, errors.Join(errs...)
}
