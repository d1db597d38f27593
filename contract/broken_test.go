package contract_test

import (
	"context"
	"time"

	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/user"
)

// Each type here is a port with one or more methods replaced: where a field is nil, the port
// underneath answers.

type repository struct {
	user.Repository
	create  func(context.Context, user.User, ...event.Event) error
	byID    func(context.Context, user.ID) (user.User, error)
	byEmail func(context.Context, user.Email) (user.User, error)
	update  func(context.Context, user.ID, func(*user.User) error, ...event.Event) (user.User, error)
}

func (r repository) Create(ctx context.Context, u user.User, events ...event.Event) error {
	if r.create == nil {
		return r.Repository.Create(ctx, u, events...)
	}
	return r.create(ctx, u, events...)
}

func (r repository) ByID(ctx context.Context, id user.ID) (user.User, error) {
	if r.byID == nil {
		return r.Repository.ByID(ctx, id)
	}
	return r.byID(ctx, id)
}

func (r repository) ByEmail(ctx context.Context, email user.Email) (user.User, error) {
	if r.byEmail == nil {
		return r.Repository.ByEmail(ctx, email)
	}
	return r.byEmail(ctx, email)
}

func (r repository) Update(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
	if r.update == nil {
		return r.Repository.Update(ctx, id, change, events...)
	}
	return r.update(ctx, id, change, events...)
}

type outbox struct {
	event.Outbox
	pending   func(context.Context, int) ([]event.Event, error)
	published func(context.Context, ...string) error
	after     func(context.Context, string, int) ([]event.Event, error)
	setAside  func(context.Context, string, string) error
}

func (o outbox) PendingAfter(ctx context.Context, id string, limit int) ([]event.Event, error) {
	if o.after == nil {
		return o.Outbox.PendingAfter(ctx, id, limit)
	}
	return o.after(ctx, id, limit)
}

func (o outbox) SetAside(ctx context.Context, id, reason string) error {
	if o.setAside == nil {
		return o.Outbox.SetAside(ctx, id, reason)
	}
	return o.setAside(ctx, id, reason)
}

func (o outbox) Pending(ctx context.Context, limit int) ([]event.Event, error) {
	if o.pending == nil {
		return o.Outbox.Pending(ctx, limit)
	}
	return o.pending(ctx, limit)
}

func (o outbox) Published(ctx context.Context, ids ...string) error {
	if o.published == nil {
		return o.Outbox.Published(ctx, ids...)
	}
	return o.published(ctx, ids...)
}

type asides struct {
	event.Asides
	list    func(context.Context, event.Filter) ([]event.Aside, error)
	get     func(context.Context, string) (event.Aside, error)
	replay  func(context.Context, string) error
	discard func(context.Context, string) error
}

func (a asides) List(ctx context.Context, f event.Filter) ([]event.Aside, error) {
	if a.list == nil {
		return a.Asides.List(ctx, f)
	}
	return a.list(ctx, f)
}

func (a asides) Get(ctx context.Context, id string) (event.Aside, error) {
	if a.get == nil {
		return a.Asides.Get(ctx, id)
	}
	return a.get(ctx, id)
}

func (a asides) Replay(ctx context.Context, id string) error {
	if a.replay == nil {
		return a.Asides.Replay(ctx, id)
	}
	return a.replay(ctx, id)
}

func (a asides) Discard(ctx context.Context, id string) error {
	if a.discard == nil {
		return a.Asides.Discard(ctx, id)
	}
	return a.discard(ctx, id)
}

type publisher func(context.Context, ...event.Event) error

func (p publisher) Publish(ctx context.Context, events ...event.Event) error {
	return p(ctx, events...)
}

type subscriber func(ctx context.Context, topic, group string, handle event.Handler, ready func()) error

func (s subscriber) Subscribe(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
	return s(ctx, topic, group, handle, ready)
}

type queue struct {
	mail.Queue
	enqueue func(context.Context, mail.Job) error
	claim   func(context.Context, time.Time, time.Duration) (mail.Job, bool, error)
	settle  func(context.Context, mail.Job, mail.Outcome) error
	prune   func(context.Context, time.Time) (int, error)
}

func (q queue) Enqueue(ctx context.Context, j mail.Job) error {
	if q.enqueue == nil {
		return q.Queue.Enqueue(ctx, j)
	}
	return q.enqueue(ctx, j)
}

func (q queue) Claim(ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
	if q.claim == nil {
		return q.Queue.Claim(ctx, now, lease)
	}
	return q.claim(ctx, now, lease)
}

func (q queue) Settle(ctx context.Context, j mail.Job, o mail.Outcome) error {
	if q.settle == nil {
		return q.Queue.Settle(ctx, j, o)
	}
	return q.settle(ctx, j, o)
}

func (q queue) Prune(ctx context.Context, before time.Time) (int, error) {
	if q.prune == nil {
		return q.Queue.Prune(ctx, before)
	}
	return q.prune(ctx, before)
}

type letters struct {
	mail.DeadLetters
	list    func(context.Context, mail.Filter) ([]mail.Job, error)
	get     func(context.Context, string) (mail.Job, error)
	requeue func(context.Context, string, time.Time, []byte) error
	discard func(context.Context, string) error
}

func (l letters) List(ctx context.Context, f mail.Filter) ([]mail.Job, error) {
	if l.list == nil {
		return l.DeadLetters.List(ctx, f)
	}
	return l.list(ctx, f)
}

func (l letters) Get(ctx context.Context, id string) (mail.Job, error) {
	if l.get == nil {
		return l.DeadLetters.Get(ctx, id)
	}
	return l.get(ctx, id)
}

func (l letters) Requeue(ctx context.Context, id string, runAt time.Time, data []byte) error {
	if l.requeue == nil {
		return l.DeadLetters.Requeue(ctx, id, runAt, data)
	}
	return l.requeue(ctx, id, runAt, data)
}

func (l letters) Discard(ctx context.Context, id string) error {
	if l.discard == nil {
		return l.DeadLetters.Discard(ctx, id)
	}
	return l.discard(ctx, id)
}

type stats func(context.Context) (map[mail.State]int, error)

func (s stats) Stats(ctx context.Context) (map[mail.State]int, error) { return s(ctx) }

type sender func(context.Context, mail.Message) error

func (s sender) Send(ctx context.Context, m mail.Message) error { return s(ctx, m) }

func (sender) Check(context.Context) error { return nil }

// loud is a sender that sends a mail to find out whether it can.
type loud struct{ mail.Sender }

func (l loud) Check(ctx context.Context) error { return l.Send(ctx, mail.Message{ID: "check"}) }

type sessions struct {
	auth.SessionStore
	create func(context.Context, auth.Session, ...event.Event) error
	byID   func(context.Context, string) (auth.Session, error)
	update func(context.Context, string, func(*auth.Session) error, ...event.Event) (auth.Session, error)
	byUser func(context.Context, user.ID, time.Time, int) ([]auth.Session, error)
	sweeper
}

func (s sessions) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return s.orOf(s.SessionStore)(ctx, before)
}

func (s sessions) Create(ctx context.Context, v auth.Session, events ...event.Event) error {
	if s.create == nil {
		return s.SessionStore.Create(ctx, v, events...)
	}
	return s.create(ctx, v, events...)
}

func (s sessions) ByID(ctx context.Context, id string) (auth.Session, error) {
	if s.byID == nil {
		return s.SessionStore.ByID(ctx, id)
	}
	return s.byID(ctx, id)
}

func (s sessions) Update(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
	if s.update == nil {
		return s.SessionStore.Update(ctx, id, change, events...)
	}
	return s.update(ctx, id, change, events...)
}

func (s sessions) ByUser(ctx context.Context, id user.ID, at time.Time, limit int) ([]auth.Session, error) {
	if s.byUser == nil {
		return s.SessionStore.ByUser(ctx, id, at, limit)
	}
	return s.byUser(ctx, id, at, limit)
}

type standings func(ctx context.Context, id string) (auth.Standing, error)

func (s standings) Standing(ctx context.Context, id string) (auth.Standing, error) { return s(ctx, id) }

type codes struct {
	auth.CodeStore
	put func(context.Context, auth.Code, ...event.Event) error
	use func(context.Context, string, time.Time) (auth.Code, error)
	sweeper
}

func (c codes) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return c.orOf(c.CodeStore)(ctx, before)
}

func (c codes) Put(ctx context.Context, v auth.Code, events ...event.Event) error {
	if c.put == nil {
		return c.CodeStore.Put(ctx, v, events...)
	}
	return c.put(ctx, v, events...)
}

func (c codes) Use(ctx context.Context, hash string, at time.Time) (auth.Code, error) {
	if c.use == nil {
		return c.CodeStore.Use(ctx, hash, at)
	}
	return c.use(ctx, hash, at)
}

type signUps struct {
	auth.SignUps
	create  func(context.Context, auth.WaitingSignUp, int, ...event.Event) error
	byID    func(context.Context, string) (auth.WaitingSignUp, error)
	byEmail func(context.Context, user.Email) ([]auth.WaitingSignUp, error)
	confirm func(context.Context, string, time.Time) (auth.WaitingSignUp, error)
	sweeper
}

func (s signUps) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return s.orOf(s.SignUps)(ctx, before)
}

func (s signUps) Create(ctx context.Context, w auth.WaitingSignUp, keep int, events ...event.Event) error {
	if s.create == nil {
		return s.SignUps.Create(ctx, w, keep, events...)
	}
	return s.create(ctx, w, keep, events...)
}

func (s signUps) ByID(ctx context.Context, id string) (auth.WaitingSignUp, error) {
	if s.byID == nil {
		return s.SignUps.ByID(ctx, id)
	}
	return s.byID(ctx, id)
}

func (s signUps) ByEmail(ctx context.Context, email user.Email) ([]auth.WaitingSignUp, error) {
	if s.byEmail == nil {
		return s.SignUps.ByEmail(ctx, email)
	}
	return s.byEmail(ctx, email)
}

func (s signUps) Confirm(ctx context.Context, id string, at time.Time) (auth.WaitingSignUp, error) {
	if s.confirm == nil {
		return s.SignUps.Confirm(ctx, id, at)
	}
	return s.confirm(ctx, id, at)
}

type sweeper func(context.Context, time.Time) (int, error)

// orOf is the sweeper, or that of the store that it stands before.
func (s sweeper) orOf(under auth.Sweeper) sweeper {
	if s == nil {
		return under.DeleteExpired
	}
	return s
}

// everlasting is of what nothing expires.
type everlasting struct{}

func (everlasting) DeleteExpired(context.Context, time.Time) (int, error) { return 0, nil }

type nonces func(context.Context, string, time.Time) (bool, error)

func (n nonces) Spend(ctx context.Context, name string, expires time.Time) (bool, error) {
	return n(ctx, name, expires)
}

func (nonces) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return everlasting{}.DeleteExpired(ctx, before)
}

type limiter func(context.Context, string, auth.Rate, time.Time) (time.Duration, error)

func (l limiter) Allow(ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
	return l(ctx, key, r, now)
}

func (limiter) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return everlasting{}.DeleteExpired(ctx, before)
}

type hasher struct {
	auth.Hasher
	hash   func(context.Context, string) (string, error)
	verify func(context.Context, string, string) (bool, bool, error)
}

func (h hasher) Hash(ctx context.Context, password string) (string, error) {
	if h.hash == nil {
		return h.Hasher.Hash(ctx, password)
	}
	return h.hash(ctx, password)
}

func (h hasher) Verify(ctx context.Context, hash, password string) (ok, upgrade bool, err error) {
	if h.verify == nil {
		return h.Hasher.Verify(ctx, hash, password)
	}
	return h.verify(ctx, hash, password)
}

type issuer func(context.Context, auth.Claims) (string, error)

func (i issuer) Issue(ctx context.Context, c auth.Claims) (string, error) { return i(ctx, c) }

type verifier func(context.Context, string, string) (auth.Claims, error)

func (v verifier) Verify(ctx context.Context, token, audience string) (auth.Claims, error) {
	return v(ctx, token, audience)
}

type messages struct {
	chat.MessageStore
	append func(context.Context, []chat.Message) ([]chat.Stored, error)
	change func(context.Context, []chat.Change) ([]chat.Changed, error)
	list   func(context.Context, string, chat.Range) ([]chat.Message, error)
	bounds func(context.Context, string) (chat.Bounds, error)
}

func (m messages) Append(ctx context.Context, batch []chat.Message) ([]chat.Stored, error) {
	if m.append == nil {
		return m.MessageStore.Append(ctx, batch)
	}
	return m.append(ctx, batch)
}

func (m messages) Change(ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
	if m.change == nil {
		return m.MessageStore.Change(ctx, changes)
	}
	return m.change(ctx, changes)
}

func (m messages) List(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
	if m.list == nil {
		return m.MessageStore.List(ctx, room, r)
	}
	return m.list(ctx, room, r)
}

func (m messages) Bounds(ctx context.Context, room string) (chat.Bounds, error) {
	if m.bounds == nil {
		return m.MessageStore.Bounds(ctx, room)
	}
	return m.bounds(ctx, room)
}

type rooms struct {
	chat.Rooms
	ensure func(context.Context, chat.Room) (chat.Room, error)
	byName func(context.Context, string) (chat.Room, error)
	list   func(context.Context, string, int) ([]chat.Room, error)
	update func(context.Context, string, chat.By, func(*chat.Room, chat.Role) error) (chat.Room, error)
}

func (r rooms) Update(ctx context.Context, name string, by chat.By, change func(r *chat.Room, as chat.Role) error) (chat.Room, error) {
	if r.update == nil {
		return r.Rooms.Update(ctx, name, by, change)
	}
	return r.update(ctx, name, by, change)
}

func (r rooms) Ensure(ctx context.Context, v chat.Room) (chat.Room, error) {
	if r.ensure == nil {
		return r.Rooms.Ensure(ctx, v)
	}
	return r.ensure(ctx, v)
}

func (r rooms) ByName(ctx context.Context, name string) (chat.Room, error) {
	if r.byName == nil {
		return r.Rooms.ByName(ctx, name)
	}
	return r.byName(ctx, name)
}

func (r rooms) List(ctx context.Context, after string, limit int) ([]chat.Room, error) {
	if r.list == nil {
		return r.Rooms.List(ctx, after, limit)
	}
	return r.list(ctx, after, limit)
}

type members struct {
	chat.Members
	add     func(context.Context, ...chat.Membership) ([]chat.Membership, error)
	remove  func(context.Context, string, user.ID) error
	has     func(context.Context, string, user.ID) (bool, error)
	roomsOf func(context.Context, user.ID, string, int) ([]chat.Membership, error)
}

func (m members) Add(ctx context.Context, memberships ...chat.Membership) ([]chat.Membership, error) {
	if m.add == nil {
		return m.Members.Add(ctx, memberships...)
	}
	return m.add(ctx, memberships...)
}

func (m members) Remove(ctx context.Context, room string, id user.ID) error {
	if m.remove == nil {
		return m.Members.Remove(ctx, room, id)
	}
	return m.remove(ctx, room, id)
}

func (m members) Has(ctx context.Context, room string, id user.ID) (bool, error) {
	if m.has == nil {
		return m.Members.Has(ctx, room, id)
	}
	return m.has(ctx, room, id)
}

func (m members) RoomsOf(ctx context.Context, id user.ID, after string, limit int) ([]chat.Membership, error) {
	if m.roomsOf == nil {
		return m.Members.RoomsOf(ctx, id, after, limit)
	}
	return m.roomsOf(ctx, id, after, limit)
}

type cache struct {
	chat.RecentCache
	get    func(context.Context, string) (chat.Recent, bool, error)
	add    func(context.Context, ...chat.Message) error
	change func(context.Context, ...chat.Message) error
	fill   func(context.Context, string, chat.Recent) error
}

func (c cache) Get(ctx context.Context, room string) (chat.Recent, bool, error) {
	if c.get == nil {
		return c.RecentCache.Get(ctx, room)
	}
	return c.get(ctx, room)
}

func (c cache) Add(ctx context.Context, messages ...chat.Message) error {
	if c.add == nil {
		return c.RecentCache.Add(ctx, messages...)
	}
	return c.add(ctx, messages...)
}

func (c cache) Change(ctx context.Context, messages ...chat.Message) error {
	if c.change == nil {
		return c.RecentCache.Change(ctx, messages...)
	}
	return c.change(ctx, messages...)
}

func (c cache) Fill(ctx context.Context, room string, r chat.Recent) error {
	if c.fill == nil {
		return c.RecentCache.Fill(ctx, room, r)
	}
	return c.fill(ctx, room, r)
}

type fanout struct {
	realtime.Fanout
	publish  func(context.Context, realtime.Signal) error
	follow   func(context.Context, string) error
	unfollow func(context.Context, string) error
	run      func(context.Context, func(realtime.Signal)) error
}

func (f fanout) Publish(ctx context.Context, s realtime.Signal) error {
	if f.publish == nil {
		return f.Fanout.Publish(ctx, s)
	}
	return f.publish(ctx, s)
}

func (f fanout) Follow(ctx context.Context, room string) error {
	if f.follow == nil {
		return f.Fanout.Follow(ctx, room)
	}
	return f.follow(ctx, room)
}

func (f fanout) Unfollow(ctx context.Context, room string) error {
	if f.unfollow == nil {
		return f.Fanout.Unfollow(ctx, room)
	}
	return f.unfollow(ctx, room)
}

func (f fanout) Run(ctx context.Context, deliver func(realtime.Signal)) error {
	if f.run == nil {
		return f.Fanout.Run(ctx, deliver)
	}
	return f.run(ctx, deliver)
}

type presence struct {
	realtime.Presence
	enter func(context.Context, time.Time, string, string, chat.Author) (bool, error)
	exit  func(context.Context, time.Time, string, string, chat.Author) (bool, error)
	list  func(context.Context, time.Time, string, int) ([]chat.Author, int, error)
	renew func(context.Context, realtime.Renewal) (realtime.Renewed, error)
}

func (p presence) Enter(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
	if p.enter == nil {
		return p.Presence.Enter(ctx, now, node, room, who)
	}
	return p.enter(ctx, now, node, room, who)
}

func (p presence) Exit(ctx context.Context, now time.Time, node, room string, who chat.Author) (bool, error) {
	if p.exit == nil {
		return p.Presence.Exit(ctx, now, node, room, who)
	}
	return p.exit(ctx, now, node, room, who)
}

func (p presence) List(ctx context.Context, now time.Time, room string, limit int) ([]chat.Author, int, error) {
	if p.list == nil {
		return p.Presence.List(ctx, now, room, limit)
	}
	return p.list(ctx, now, room, limit)
}

func (p presence) Renew(ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
	if p.renew == nil {
		return p.Presence.Renew(ctx, r)
	}
	return p.renew(ctx, r)
}

type passwordList func(context.Context, string) (bool, error)

func (l passwordList) Contains(ctx context.Context, password string) (bool, error) {
	return l(ctx, password)
}

type marks struct {
	chat.Marks
	mark func(context.Context, []chat.Mark) ([]chat.Marked, error)
	mine func(context.Context, user.ID, chat.Place, int) ([]chat.MyRoom, error)
}

func (m marks) Mark(ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
	if m.mark == nil {
		return m.Marks.Mark(ctx, moved)
	}
	return m.mark(ctx, moved)
}

func (m marks) Mine(ctx context.Context, id user.ID, behind chat.Place, limit int) ([]chat.MyRoom, error) {
	if m.mine == nil {
		return m.Marks.Mine(ctx, id, behind, limit)
	}
	return m.mine(ctx, id, behind, limit)
}

type roles struct {
	chat.Roles
	create func(context.Context, chat.Room, ...chat.Membership) (chat.Room, error)
	of     func(context.Context, ...chat.InRoom) ([]chat.Membership, error)
	list   func(context.Context, string, user.ID, int) ([]chat.Membership, error)
	change func(context.Context, chat.RoleChange, mayChange) (before, after chat.Membership, err error)
}

type mayChange = func(r chat.Room, by, of chat.Role, owners int) error

func (s roles) Create(ctx context.Context, r chat.Room, members ...chat.Membership) (chat.Room, error) {
	if s.create == nil {
		return s.Roles.Create(ctx, r, members...)
	}
	return s.create(ctx, r, members...)
}

func (s roles) Of(ctx context.Context, whom ...chat.InRoom) ([]chat.Membership, error) {
	if s.of == nil {
		return s.Roles.Of(ctx, whom...)
	}
	return s.of(ctx, whom...)
}

func (s roles) List(ctx context.Context, room string, after user.ID, limit int) ([]chat.Membership, error) {
	if s.list == nil {
		return s.Roles.List(ctx, room, after, limit)
	}
	return s.list(ctx, room, after, limit)
}

func (s roles) Change(ctx context.Context, c chat.RoleChange, may mayChange) (before, after chat.Membership, err error) {
	if s.change == nil {
		return s.Roles.Change(ctx, c, may)
	}
	return s.change(ctx, c, may)
}

type restrictions struct {
	chat.Restrictions
	put     func(context.Context, chat.Restriction) (chat.Restriction, error)
	putIf   func(context.Context, chat.Restriction, mayPut) (chat.Restriction, error)
	inForce func(context.Context, time.Time, ...chat.InRoom) ([]chat.Restriction, error)
	list    func(context.Context, string, chat.RestrictionKind, time.Time, user.ID, int) ([]chat.Restriction, error)
	since   func(context.Context, time.Time, int) ([]chat.Restriction, error)
}

func (s restrictions) Put(ctx context.Context, r chat.Restriction, may mayPut) (chat.Restriction, error) {
	switch {
	case s.putIf != nil && may != nil:
		return s.putIf(ctx, r, may)
	case s.put != nil:
		return s.put(ctx, r)
	}
	return s.Restrictions.Put(ctx, r, may)
}

func (s restrictions) InForce(ctx context.Context, now time.Time, whom ...chat.InRoom) ([]chat.Restriction, error) {
	if s.inForce == nil {
		return s.Restrictions.InForce(ctx, now, whom...)
	}
	return s.inForce(ctx, now, whom...)
}

func (s restrictions) List(ctx context.Context, room string, kind chat.RestrictionKind, now time.Time, after user.ID, limit int) ([]chat.Restriction, error) {
	if s.list == nil {
		return s.Restrictions.List(ctx, room, kind, now, after, limit)
	}
	return s.list(ctx, room, kind, now, after, limit)
}

func (s restrictions) Since(ctx context.Context, at time.Time, limit int) ([]chat.Restriction, error) {
	if s.since == nil {
		return s.Restrictions.Since(ctx, at, limit)
	}
	return s.since(ctx, at, limit)
}
