package testkit

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/auth"
	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/health"
	"github.com/parley-chat/parley/core/mail"
	"github.com/parley-chat/parley/core/realtime"
	"github.com/parley-chat/parley/core/socket"
	"github.com/parley-chat/parley/core/user"
)

// What methods stand, by what their ports promise.
const (
	once       = delays | fails | losesAnswer | hangs
	repeatable = once | duplicates // the port says that twice does what once does
	lossy      = once | drops      // the port says that it may come to nothing
)

// methods lists every method that a plan can name. It is never changed.
var methods = map[string]kind{
	"Users.Create":  once,
	"Users.ByID":    repeatable,
	"Users.ByEmail": repeatable,
	"Users.Update":  once,

	"Publisher.Publish":    repeatable,
	"Subscriber.Subscribe": delays | fails | hangs,
	"Subscriber.Handle":    repeatable,
	"Outbox.Pending":       repeatable,
	"Outbox.PendingAfter":  repeatable,
	"Outbox.Published":     repeatable,
	"Outbox.SetAside":      repeatable,
	"Asides.List":          repeatable,
	"Asides.Get":           repeatable,
	"Asides.Replay":        once,
	"Asides.Discard":       once,

	"Sender.Send":          repeatable,
	"Sender.Check":         repeatable,
	"Queue.Enqueue":        repeatable,
	"Queue.Claim":          once,
	"Queue.Settle":         once,
	"Queue.Prune":          repeatable,
	"DeadLetters.List":     repeatable,
	"DeadLetters.Get":      repeatable,
	"DeadLetters.Requeue":  once,
	"DeadLetters.Discard":  once,
	"DeadLetters.DeleteTo": repeatable,
	"Stats.Stats":          repeatable,

	"Hasher.Hash":            repeatable,
	"Hasher.Verify":          repeatable,
	"Issuer.Issue":           repeatable,
	"Verifier.Verify":        repeatable,
	"Sessions.Create":        once,
	"Sessions.ByID":          repeatable,
	"Sessions.Update":        once,
	"Sessions.ByUser":        repeatable,
	"Sessions.DeleteExpired": repeatable,
	"Sessions.DeleteOf":      repeatable,
	"Codes.Put":              once,
	"Codes.Use":              once,
	"Codes.DeleteExpired":    repeatable,
	"Codes.DeleteOf":         repeatable,
	"SignUps.Create":         once,
	"SignUps.ByID":           repeatable,
	"SignUps.ByEmail":        repeatable,
	"SignUps.Confirm":        once,
	"SignUps.DeleteExpired":  repeatable,
	"SignUps.DeleteOf":       repeatable,
	"Nonces.Spend":           once,
	"Nonces.DeleteExpired":   repeatable,
	"Limiter.Allow":          once,
	"Limiter.DeleteExpired":  repeatable,

	"Messages.Append":      once,
	"Messages.Change":      once,
	"Messages.List":        repeatable,
	"Messages.Bounds":      repeatable,
	"Rooms.Ensure":         repeatable,
	"Rooms.ByName":         repeatable,
	"Rooms.List":           repeatable,
	"Rooms.Update":         once,
	"Roles.Create":         once,
	"Roles.Of":             repeatable,
	"Roles.List":           repeatable,
	"Roles.Change":         once,
	"Members.Add":          repeatable,
	"Members.Remove":       repeatable,
	"Members.Has":          repeatable,
	"Members.RoomsOf":      repeatable,
	"Marks.Mark":           repeatable,
	"Marks.Mine":           repeatable,
	"Restrictions.Put":     once,
	"Restrictions.InForce": repeatable,
	"Restrictions.List":    repeatable,
	"Restrictions.Since":   repeatable,
	"Blocks.Put":           repeatable,
	"Blocks.Remove":        repeatable,
	"Blocks.Among":         repeatable,
	"Blocks.List":          repeatable,
	"Directory.List":       repeatable,
	"Audit.Append":         once,
	"Audit.Settle":         repeatable,
	"Audit.List":           repeatable,
	"Audit.DeleteExpired":  repeatable,
	"Settings.Put":         repeatable,
	"Settings.Of":          repeatable,
	"Settings.Remove":      repeatable,
	"Pruner.Aged":          repeatable,
	"Pruner.Prune":         repeatable,
	"Pruner.Drop":          repeatable,
	"Cache.Get":            repeatable,
	"Cache.Add":            repeatable | lossy,
	"Cache.Change":         repeatable, // it must not come to nothing: what was deleted would stay in the cache
	"Cache.Fill":           repeatable, // nor this: it says what was removed
	"Access.May":           repeatable,

	"Fanout.Publish":       lossy,
	"Fanout.Follow":        repeatable,
	"Fanout.Unfollow":      repeatable,
	"Fanout.Run":           delays | fails | hangs,
	"Fanout.Deliver":       delays | drops,
	"Presence.Enter":       repeatable,
	"Presence.Exit":        once,
	"Presence.List":        repeatable,
	"Presence.Renew":       repeatable,
	"Authenticator.Token":  repeatable,
	"Authenticator.Ticket": once,
	"Conn.Send":            fails | losesAnswer | drops,
	"Conn.Close":           duplicates,

	"Check.Probe": repeatable,
}

// Methods lists the methods that a rule can name, in alphabetical order: the name of the port,
// as in the decorator Faulty…, and of the method. Two are not methods of the port: Subscriber.Handle
// is each call of the handler, whose failure makes the event come again, and Fanout.Deliver each call of
// Run's deliver.
func Methods() []string { return slices.Sorted(maps.Keys(methods)) }

// FaultyUsers puts faults before a repository of users.
func FaultyUsers(next user.Repository, f *Faults) user.Repository { return users{next, f} }

type users struct {
	next   user.Repository
	faults *Faults
}

func (d users) Create(ctx context.Context, u user.User, events ...event.Event) error {
	return d.faults.do(ctx, "Users.Create", func() error { return d.next.Create(ctx, u, events...) })
}

func (d users) ByID(ctx context.Context, id user.ID) (user.User, error) {
	return ask(ctx, d.faults, "Users.ByID", func() (user.User, error) { return d.next.ByID(ctx, id) })
}

func (d users) ByEmail(ctx context.Context, email user.Email) (user.User, error) {
	return ask(ctx, d.faults, "Users.ByEmail", func() (user.User, error) { return d.next.ByEmail(ctx, email) })
}

func (d users) Update(ctx context.Context, id user.ID, change func(*user.User) error, events ...event.Event) (user.User, error) {
	return ask(ctx, d.faults, "Users.Update", func() (user.User, error) { return d.next.Update(ctx, id, change, events...) })
}

// FaultyPublisher puts faults before a publisher.
func FaultyPublisher(next event.Publisher, f *Faults) event.Publisher { return publisher{next, f} }

type publisher struct {
	next   event.Publisher
	faults *Faults
}

func (d publisher) Publish(ctx context.Context, events ...event.Event) error {
	return d.faults.do(ctx, "Publisher.Publish", func() error { return d.next.Publish(ctx, events...) })
}

// FaultySubscriber puts faults before a subscriber, and before the handlers that it calls.
func FaultySubscriber(next event.Subscriber, f *Faults) event.Subscriber { return subscriber{next, f} }

type subscriber struct {
	next   event.Subscriber
	faults *Faults
}

func (d subscriber) Subscribe(ctx context.Context, topic, group string, handle event.Handler, ready func()) error {
	faulty := func(ctx context.Context, e event.Event) error {
		return d.faults.do(ctx, "Subscriber.Handle", func() error { return handle(ctx, e) })
	}
	return untilEnd(ctx, d.faults.do(ctx, "Subscriber.Subscribe", func() error { return d.next.Subscribe(ctx, topic, group, faulty, ready) }))
}

// untilEnd is the answer of a call that runs until ctx ends, which then is no error.
func untilEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// FaultyOutbox puts faults before an outbox.
func FaultyOutbox(next event.Outbox, f *Faults) event.Outbox { return outbox{next, f} }

type outbox struct {
	next   event.Outbox
	faults *Faults
}

func (d outbox) Pending(ctx context.Context, limit int) ([]event.Event, error) {
	return ask(ctx, d.faults, "Outbox.Pending", func() ([]event.Event, error) { return d.next.Pending(ctx, limit) })
}

func (d outbox) PendingAfter(ctx context.Context, id string, limit int) ([]event.Event, error) {
	return ask(ctx, d.faults, "Outbox.PendingAfter", func() ([]event.Event, error) { return d.next.PendingAfter(ctx, id, limit) })
}

func (d outbox) SetAside(ctx context.Context, id, reason string) error {
	return d.faults.do(ctx, "Outbox.SetAside", func() error { return d.next.SetAside(ctx, id, reason) })
}

func (d outbox) Published(ctx context.Context, ids ...string) error {
	return d.faults.do(ctx, "Outbox.Published", func() error { return d.next.Published(ctx, ids...) })
}

// FaultyAsides puts faults before what was set aside.
func FaultyAsides(next event.Asides, f *Faults) event.Asides { return asides{next, f} }

type asides struct {
	next   event.Asides
	faults *Faults
}

func (d asides) List(ctx context.Context, f event.Filter) ([]event.Aside, error) {
	return ask(ctx, d.faults, "Asides.List", func() ([]event.Aside, error) { return d.next.List(ctx, f) })
}

func (d asides) Get(ctx context.Context, id string) (event.Aside, error) {
	return ask(ctx, d.faults, "Asides.Get", func() (event.Aside, error) { return d.next.Get(ctx, id) })
}

func (d asides) Replay(ctx context.Context, id string) error {
	return d.faults.do(ctx, "Asides.Replay", func() error { return d.next.Replay(ctx, id) })
}

func (d asides) Discard(ctx context.Context, id string) error {
	return d.faults.do(ctx, "Asides.Discard", func() error { return d.next.Discard(ctx, id) })
}

// FaultySender puts faults before a sender.
func FaultySender(next mail.Sender, f *Faults) mail.Sender { return sender{next, f} }

type sender struct {
	next   mail.Sender
	faults *Faults
}

func (d sender) Send(ctx context.Context, m mail.Message) error {
	return d.faults.do(ctx, "Sender.Send", func() error { return d.next.Send(ctx, m) })
}

func (d sender) Check(ctx context.Context) error {
	return d.faults.do(ctx, "Sender.Check", func() error { return d.next.Check(ctx) })
}

// FaultyQueue puts faults before a queue.
func FaultyQueue(next mail.Queue, f *Faults) mail.Queue { return queue{next, f} }

type queue struct {
	next   mail.Queue
	faults *Faults
}

func (d queue) Enqueue(ctx context.Context, j mail.Job) error {
	return d.faults.do(ctx, "Queue.Enqueue", func() error { return d.next.Enqueue(ctx, j) })
}

func (d queue) Claim(ctx context.Context, now time.Time, lease time.Duration) (mail.Job, bool, error) {
	return ask2(ctx, d.faults, "Queue.Claim", func() (mail.Job, bool, error) { return d.next.Claim(ctx, now, lease) })
}

func (d queue) Settle(ctx context.Context, j mail.Job, o mail.Outcome) error {
	return d.faults.do(ctx, "Queue.Settle", func() error { return d.next.Settle(ctx, j, o) })
}

func (d queue) Prune(ctx context.Context, before time.Time) (int, error) {
	return ask(ctx, d.faults, "Queue.Prune", func() (int, error) { return d.next.Prune(ctx, before) })
}

// FaultyDeadLetters puts faults before dead letters.
func FaultyDeadLetters(next mail.DeadLetters, f *Faults) mail.DeadLetters {
	return deadLetters{next, f}
}

type deadLetters struct {
	next   mail.DeadLetters
	faults *Faults
}

func (d deadLetters) List(ctx context.Context, f mail.Filter) ([]mail.Job, error) {
	return ask(ctx, d.faults, "DeadLetters.List", func() ([]mail.Job, error) { return d.next.List(ctx, f) })
}

func (d deadLetters) Get(ctx context.Context, id string) (mail.Job, error) {
	return ask(ctx, d.faults, "DeadLetters.Get", func() (mail.Job, error) { return d.next.Get(ctx, id) })
}

func (d deadLetters) Requeue(ctx context.Context, id string, runAt time.Time, data []byte) error {
	return d.faults.do(ctx, "DeadLetters.Requeue", func() error { return d.next.Requeue(ctx, id, runAt, data) })
}

func (d deadLetters) Discard(ctx context.Context, id string) error {
	return d.faults.do(ctx, "DeadLetters.Discard", func() error { return d.next.Discard(ctx, id) })
}

func (d deadLetters) DeleteTo(ctx context.Context, to user.Email) (int, error) {
	return ask(ctx, d.faults, "DeadLetters.DeleteTo", func() (int, error) { return d.next.DeleteTo(ctx, to) })
}

// FaultyStats puts faults before a queue's statistics.
func FaultyStats(next mail.Stats, f *Faults) mail.Stats { return stats{next, f} }

type stats struct {
	next   mail.Stats
	faults *Faults
}

func (d stats) Stats(ctx context.Context) (map[mail.State]int, error) {
	return ask(ctx, d.faults, "Stats.Stats", func() (map[mail.State]int, error) { return d.next.Stats(ctx) })
}

// FaultyHasher puts faults before a hasher.
func FaultyHasher(next auth.Hasher, f *Faults) auth.Hasher { return hasher{next, f} }

type hasher struct {
	next   auth.Hasher
	faults *Faults
}

func (d hasher) Hash(ctx context.Context, password string) (string, error) {
	return ask(ctx, d.faults, "Hasher.Hash", func() (string, error) { return d.next.Hash(ctx, password) })
}

func (d hasher) Verify(ctx context.Context, hash, password string) (ok, upgrade bool, err error) {
	return ask2(ctx, d.faults, "Hasher.Verify", func() (bool, bool, error) { return d.next.Verify(ctx, hash, password) })
}

// FaultyIssuer puts faults before an issuer of tokens.
func FaultyIssuer(next auth.TokenIssuer, f *Faults) auth.TokenIssuer { return issuer{next, f} }

type issuer struct {
	next   auth.TokenIssuer
	faults *Faults
}

func (d issuer) Issue(ctx context.Context, c auth.Claims) (string, error) {
	return ask(ctx, d.faults, "Issuer.Issue", func() (string, error) { return d.next.Issue(ctx, c) })
}

// FaultyVerifier puts faults before a verifier of tokens.
func FaultyVerifier(next auth.TokenVerifier, f *Faults) auth.TokenVerifier { return verifier{next, f} }

type verifier struct {
	next   auth.TokenVerifier
	faults *Faults
}

func (d verifier) Verify(ctx context.Context, token, audience string) (auth.Claims, error) {
	return ask(ctx, d.faults, "Verifier.Verify", func() (auth.Claims, error) { return d.next.Verify(ctx, token, audience) })
}

// FaultySessions puts faults before a store of sessions.
func FaultySessions(next auth.SessionStore, f *Faults) auth.SessionStore { return sessions{next, f} }

type sessions struct {
	next   auth.SessionStore
	faults *Faults
}

func (d sessions) Create(ctx context.Context, s auth.Session, events ...event.Event) error {
	return d.faults.do(ctx, "Sessions.Create", func() error { return d.next.Create(ctx, s, events...) })
}

func (d sessions) ByID(ctx context.Context, id string) (auth.Session, error) {
	return ask(ctx, d.faults, "Sessions.ByID", func() (auth.Session, error) { return d.next.ByID(ctx, id) })
}

func (d sessions) Update(ctx context.Context, id string, change func(*auth.Session) error, events ...event.Event) (auth.Session, error) {
	return ask(ctx, d.faults, "Sessions.Update", func() (auth.Session, error) { return d.next.Update(ctx, id, change, events...) })
}

func (d sessions) ByUser(ctx context.Context, id user.ID, at time.Time, limit int) ([]auth.Session, error) {
	return ask(ctx, d.faults, "Sessions.ByUser", func() ([]auth.Session, error) { return d.next.ByUser(ctx, id, at, limit) })
}

func (d sessions) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return ask(ctx, d.faults, "Sessions.DeleteExpired", func() (int, error) { return d.next.DeleteExpired(ctx, before) })
}

func (d sessions) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	return ask(ctx, d.faults, "Sessions.DeleteOf", func() (int, error) { return d.next.DeleteOf(ctx, id) })
}

// FaultyCodes puts faults before a store of codes.
func FaultyCodes(next auth.CodeStore, f *Faults) auth.CodeStore { return codes{next, f} }

type codes struct {
	next   auth.CodeStore
	faults *Faults
}

func (d codes) Put(ctx context.Context, c auth.Code, events ...event.Event) error {
	return d.faults.do(ctx, "Codes.Put", func() error { return d.next.Put(ctx, c, events...) })
}

func (d codes) Use(ctx context.Context, hash string, at time.Time) (auth.Code, error) {
	return ask(ctx, d.faults, "Codes.Use", func() (auth.Code, error) { return d.next.Use(ctx, hash, at) })
}

func (d codes) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return ask(ctx, d.faults, "Codes.DeleteExpired", func() (int, error) { return d.next.DeleteExpired(ctx, before) })
}

func (d codes) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	return ask(ctx, d.faults, "Codes.DeleteOf", func() (int, error) { return d.next.DeleteOf(ctx, id) })
}

// FaultySignUps puts faults before a store of sign-ups.
func FaultySignUps(next auth.SignUps, f *Faults) auth.SignUps { return signUps{next, f} }

type signUps struct {
	next   auth.SignUps
	faults *Faults
}

func (d signUps) Create(ctx context.Context, w auth.WaitingSignUp, keep int, events ...event.Event) error {
	return d.faults.do(ctx, "SignUps.Create", func() error { return d.next.Create(ctx, w, keep, events...) })
}

func (d signUps) ByID(ctx context.Context, id string) (auth.WaitingSignUp, error) {
	return ask(ctx, d.faults, "SignUps.ByID", func() (auth.WaitingSignUp, error) { return d.next.ByID(ctx, id) })
}

func (d signUps) ByEmail(ctx context.Context, email user.Email) ([]auth.WaitingSignUp, error) {
	return ask(ctx, d.faults, "SignUps.ByEmail", func() ([]auth.WaitingSignUp, error) { return d.next.ByEmail(ctx, email) })
}

func (d signUps) Confirm(ctx context.Context, id string, at time.Time) (auth.WaitingSignUp, error) {
	return ask(ctx, d.faults, "SignUps.Confirm", func() (auth.WaitingSignUp, error) { return d.next.Confirm(ctx, id, at) })
}

func (d signUps) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return ask(ctx, d.faults, "SignUps.DeleteExpired", func() (int, error) { return d.next.DeleteExpired(ctx, before) })
}

func (d signUps) DeleteOf(ctx context.Context, id user.ID) (int, error) {
	return ask(ctx, d.faults, "SignUps.DeleteOf", func() (int, error) { return d.next.DeleteOf(ctx, id) })
}

// FaultyNonces puts faults before single-use names.
func FaultyNonces(next auth.Nonces, f *Faults) auth.Nonces { return nonces{next, f} }

type nonces struct {
	next   auth.Nonces
	faults *Faults
}

func (d nonces) Spend(ctx context.Context, name string, expires time.Time) (bool, error) {
	return ask(ctx, d.faults, "Nonces.Spend", func() (bool, error) { return d.next.Spend(ctx, name, expires) })
}

func (d nonces) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return ask(ctx, d.faults, "Nonces.DeleteExpired", func() (int, error) { return d.next.DeleteExpired(ctx, before) })
}

// FaultyLimiter puts faults before a limiter.
func FaultyLimiter(next auth.Limiter, f *Faults) auth.Limiter { return limiter{next, f} }

type limiter struct {
	next   auth.Limiter
	faults *Faults
}

func (d limiter) Allow(ctx context.Context, key string, r auth.Rate, now time.Time) (time.Duration, error) {
	return ask(ctx, d.faults, "Limiter.Allow", func() (time.Duration, error) { return d.next.Allow(ctx, key, r, now) })
}

func (d limiter) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return ask(ctx, d.faults, "Limiter.DeleteExpired", func() (int, error) { return d.next.DeleteExpired(ctx, before) })
}

// FaultyMessages puts faults before a store of messages.
func FaultyMessages(next chat.MessageStore, f *Faults) chat.MessageStore { return messages{next, f} }

type messages struct {
	next   chat.MessageStore
	faults *Faults
}

// Recording puts the faults before the store that commits events as well.
func (d messages) Recording(record chat.Record) (chat.MessageStore, error) {
	recording, err := chat.Recording(d.next, record)
	if err != nil {
		return nil, err
	}
	return messages{recording, d.faults}, nil
}

func (d messages) Append(ctx context.Context, ms []chat.Message) ([]chat.Stored, error) {
	return ask(ctx, d.faults, "Messages.Append", func() ([]chat.Stored, error) { return d.next.Append(ctx, ms) })
}

func (d messages) Change(ctx context.Context, changes []chat.Change) ([]chat.Changed, error) {
	return ask(ctx, d.faults, "Messages.Change", func() ([]chat.Changed, error) { return d.next.Change(ctx, changes) })
}

func (d messages) List(ctx context.Context, room string, r chat.Range) ([]chat.Message, error) {
	return ask(ctx, d.faults, "Messages.List", func() ([]chat.Message, error) { return d.next.List(ctx, room, r) })
}

func (d messages) Bounds(ctx context.Context, room string) (chat.Bounds, error) {
	return ask(ctx, d.faults, "Messages.Bounds", func() (chat.Bounds, error) { return d.next.Bounds(ctx, room) })
}

// FaultyRooms puts faults before a store of rooms.
func FaultyRooms(next chat.Rooms, f *Faults) chat.Rooms { return rooms{next, f} }

type rooms struct {
	next   chat.Rooms
	faults *Faults
}

// Recording puts the faults before the store that commits events as well.
func (d rooms) Recording(record chat.RoomRecord) (chat.Rooms, error) {
	recording, err := chat.RecordingRooms(d.next, record)
	if err != nil {
		return nil, err
	}
	return rooms{recording, d.faults}, nil
}

func (d rooms) Ensure(ctx context.Context, r chat.Room) (chat.Room, error) {
	return ask(ctx, d.faults, "Rooms.Ensure", func() (chat.Room, error) { return d.next.Ensure(ctx, r) })
}

func (d rooms) ByName(ctx context.Context, name string) (chat.Room, error) {
	return ask(ctx, d.faults, "Rooms.ByName", func() (chat.Room, error) { return d.next.ByName(ctx, name) })
}

func (d rooms) List(ctx context.Context, after string, limit int) ([]chat.Room, error) {
	return ask(ctx, d.faults, "Rooms.List", func() ([]chat.Room, error) { return d.next.List(ctx, after, limit) })
}

func (d rooms) Update(ctx context.Context, name string, change func(*chat.Room) error) (chat.Room, error) {
	return ask(ctx, d.faults, "Rooms.Update", func() (chat.Room, error) { return d.next.Update(ctx, name, change) })
}

// FaultyRoles puts faults before a store of roles.
func FaultyRoles(next chat.Roles, f *Faults) chat.Roles { return roles{next, f} }

type roles struct {
	next   chat.Roles
	faults *Faults
}

// Recording puts the faults before the store that commits events as well.
func (d roles) Recording(record chat.RoomRecord) (chat.Roles, error) {
	recording, err := chat.RecordingRooms(d.next, record)
	if err != nil {
		return nil, err
	}
	return roles{recording, d.faults}, nil
}

func (d roles) Create(ctx context.Context, r chat.Room, members ...chat.Membership) (chat.Room, error) {
	return ask(ctx, d.faults, "Roles.Create", func() (chat.Room, error) { return d.next.Create(ctx, r, members...) })
}

func (d roles) Of(ctx context.Context, whom ...chat.InRoom) ([]chat.Membership, error) {
	return ask(ctx, d.faults, "Roles.Of", func() ([]chat.Membership, error) { return d.next.Of(ctx, whom...) })
}

func (d roles) List(ctx context.Context, room string, after user.ID, limit int) ([]chat.Membership, error) {
	return ask(ctx, d.faults, "Roles.List", func() ([]chat.Membership, error) { return d.next.List(ctx, room, after, limit) })
}

func (d roles) Change(
	ctx context.Context, c chat.RoleChange, may func(r chat.Room, by, of chat.Role, owners int) error,
) (before, after chat.Membership, err error) {
	return ask2(ctx, d.faults, "Roles.Change", func() (chat.Membership, chat.Membership, error) { return d.next.Change(ctx, c, may) })
}

// FaultyMembers puts faults before a store of memberships.
func FaultyMembers(next chat.Members, f *Faults) chat.Members { return members{next, f} }

type members struct {
	next   chat.Members
	faults *Faults
}

// Recording puts the faults before the store that commits events as well.
func (d members) Recording(record chat.RoomRecord) (chat.Members, error) {
	recording, err := chat.RecordingRooms(d.next, record)
	if err != nil {
		return nil, err
	}
	return members{recording, d.faults}, nil
}

func (d members) Add(ctx context.Context, memberships ...chat.Membership) ([]chat.Membership, error) {
	return ask(ctx, d.faults, "Members.Add", func() ([]chat.Membership, error) { return d.next.Add(ctx, memberships...) })
}

func (d members) Remove(ctx context.Context, room string, id user.ID) error {
	return d.faults.do(ctx, "Members.Remove", func() error { return d.next.Remove(ctx, room, id) })
}

func (d members) Has(ctx context.Context, room string, id user.ID) (bool, error) {
	return ask(ctx, d.faults, "Members.Has", func() (bool, error) { return d.next.Has(ctx, room, id) })
}

func (d members) RoomsOf(ctx context.Context, id user.ID, after string, limit int) ([]chat.Membership, error) {
	return ask(ctx, d.faults, "Members.RoomsOf", func() ([]chat.Membership, error) { return d.next.RoomsOf(ctx, id, after, limit) })
}

// FaultyMarks puts faults before a store of how far members have read.
func FaultyMarks(next chat.Marks, f *Faults) chat.Marks { return marks{next, f} }

type marks struct {
	next   chat.Marks
	faults *Faults
}

func (d marks) Mark(ctx context.Context, moved []chat.Mark) ([]chat.Marked, error) {
	return ask(ctx, d.faults, "Marks.Mark", func() ([]chat.Marked, error) { return d.next.Mark(ctx, moved) })
}

func (d marks) Mine(ctx context.Context, id user.ID, behind chat.Place, limit int) ([]chat.MyRoom, error) {
	return ask(ctx, d.faults, "Marks.Mine", func() ([]chat.MyRoom, error) { return d.next.Mine(ctx, id, behind, limit) })
}

// FaultyRestrictions puts faults before a store of bans and mutes.
func FaultyRestrictions(next chat.Restrictions, f *Faults) chat.Restrictions {
	return restrictions{next, f}
}

type restrictions struct {
	next   chat.Restrictions
	faults *Faults
}

func (d restrictions) Put(ctx context.Context, r chat.Restriction) (chat.Restriction, error) {
	return ask(ctx, d.faults, "Restrictions.Put", func() (chat.Restriction, error) { return d.next.Put(ctx, r) })
}

func (d restrictions) InForce(ctx context.Context, now time.Time, whom ...chat.InRoom) ([]chat.Restriction, error) {
	return ask(ctx, d.faults, "Restrictions.InForce", func() ([]chat.Restriction, error) { return d.next.InForce(ctx, now, whom...) })
}

func (d restrictions) List(ctx context.Context, room string, kind chat.RestrictionKind, now time.Time, after user.ID, limit int) ([]chat.Restriction, error) {
	return ask(ctx, d.faults, "Restrictions.List", func() ([]chat.Restriction, error) { return d.next.List(ctx, room, kind, now, after, limit) })
}

func (d restrictions) Since(ctx context.Context, at time.Time, limit int) ([]chat.Restriction, error) {
	return ask(ctx, d.faults, "Restrictions.Since", func() ([]chat.Restriction, error) { return d.next.Since(ctx, at, limit) })
}

// FaultyBlocks puts faults before a store of who has blocked whom.
func FaultyBlocks(next chat.Blocks, f *Faults) chat.Blocks { return blocks{next, f} }

type blocks struct {
	next   chat.Blocks
	faults *Faults
}

func (d blocks) Put(ctx context.Context, b chat.Block, limit int) (chat.Block, error) {
	return ask(ctx, d.faults, "Blocks.Put", func() (chat.Block, error) { return d.next.Put(ctx, b, limit) })
}

func (d blocks) Remove(ctx context.Context, pairs ...chat.Pair) error {
	return d.faults.do(ctx, "Blocks.Remove", func() error { return d.next.Remove(ctx, pairs...) })
}

func (d blocks) Among(ctx context.Context, pairs ...chat.Pair) ([]chat.Block, error) {
	return ask(ctx, d.faults, "Blocks.Among", func() ([]chat.Block, error) { return d.next.Among(ctx, pairs...) })
}

func (d blocks) List(ctx context.Context, p chat.Pair, after user.ID, limit int) ([]chat.Block, error) {
	return ask(ctx, d.faults, "Blocks.List", func() ([]chat.Block, error) { return d.next.List(ctx, p, after, limit) })
}

// FaultyAudit puts faults before a log of what administrators have done.
func FaultyAudit(next audit.Log, f *Faults) audit.Log { return auditLog{next, f} }

type auditLog struct {
	next   audit.Log
	faults *Faults
}

func (d auditLog) Append(ctx context.Context, e audit.Entry) error {
	return d.faults.do(ctx, "Audit.Append", func() error { return d.next.Append(ctx, e) })
}

func (d auditLog) Settle(ctx context.Context, id, outcome string) error {
	return d.faults.do(ctx, "Audit.Settle", func() error { return d.next.Settle(ctx, id, outcome) })
}

func (d auditLog) List(ctx context.Context, before string, limit int) ([]audit.Entry, error) {
	return ask(ctx, d.faults, "Audit.List", func() ([]audit.Entry, error) { return d.next.List(ctx, before, limit) })
}

func (d auditLog) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	return ask(ctx, d.faults, "Audit.DeleteExpired", func() (int, error) { return d.next.DeleteExpired(ctx, before) })
}

// FaultyDirectory puts faults before a directory of users.
func FaultyDirectory(next user.Directory, f *Faults) user.Directory { return directory{next, f} }

type directory struct {
	next   user.Directory
	faults *Faults
}

func (d directory) List(ctx context.Context, f user.Filter) ([]user.User, error) {
	return ask(ctx, d.faults, "Directory.List", func() ([]user.User, error) { return d.next.List(ctx, f) })
}

// FaultySettings puts faults before a store of what users have set.
func FaultySettings(next chat.Settings, f *Faults) chat.Settings { return userSettings{next, f} }

type userSettings struct {
	next   chat.Settings
	faults *Faults
}

func (d userSettings) Put(ctx context.Context, id user.ID, s chat.UserSettings) error {
	return d.faults.do(ctx, "Settings.Put", func() error { return d.next.Put(ctx, id, s) })
}

func (d userSettings) Of(ctx context.Context, ids ...user.ID) (map[user.ID]chat.UserSettings, error) {
	return ask(ctx, d.faults, "Settings.Of", func() (map[user.ID]chat.UserSettings, error) { return d.next.Of(ctx, ids...) })
}

func (d userSettings) Remove(ctx context.Context, id user.ID) error {
	return d.faults.do(ctx, "Settings.Remove", func() error { return d.next.Remove(ctx, id) })
}

// FaultyPruner puts faults before what removes old messages.
func FaultyPruner(next chat.Pruner, f *Faults) chat.Pruner { return pruner{next, f} }

type pruner struct {
	next   chat.Pruner
	faults *Faults
}

func (d pruner) Aged(ctx context.Context, room string, before time.Time, limit int) (uint64, int, error) {
	return ask2(ctx, d.faults, "Pruner.Aged", func() (uint64, int, error) { return d.next.Aged(ctx, room, before, limit) })
}

func (d pruner) Prune(ctx context.Context, room string, first uint64) (int, error) {
	return ask(ctx, d.faults, "Pruner.Prune", func() (int, error) { return d.next.Prune(ctx, room, first) })
}

func (d pruner) Drop(ctx context.Context, room string, limit int) (bool, error) {
	return ask(ctx, d.faults, "Pruner.Drop", func() (bool, error) { return d.next.Drop(ctx, room, limit) })
}

// FaultyCache puts faults before a cache of recent messages.
func FaultyCache(next chat.RecentCache, f *Faults) chat.RecentCache { return cache{next, f} }

type cache struct {
	next   chat.RecentCache
	faults *Faults
}

func (d cache) Get(ctx context.Context, room string) (chat.Recent, bool, error) {
	return ask2(ctx, d.faults, "Cache.Get", func() (chat.Recent, bool, error) { return d.next.Get(ctx, room) })
}

func (d cache) Add(ctx context.Context, ms ...chat.Message) error {
	return d.faults.do(ctx, "Cache.Add", func() error { return d.next.Add(ctx, ms...) })
}

func (d cache) Change(ctx context.Context, ms ...chat.Message) error {
	return d.faults.do(ctx, "Cache.Change", func() error { return d.next.Change(ctx, ms...) })
}

func (d cache) Fill(ctx context.Context, room string, r chat.Recent) error {
	return d.faults.do(ctx, "Cache.Fill", func() error { return d.next.Fill(ctx, room, r) })
}

// FaultyAccess puts faults before a decision about access.
func FaultyAccess(next chat.Access, f *Faults) chat.Access { return access{next, f} }

type access struct {
	next   chat.Access
	faults *Faults
}

func (d access) May(ctx context.Context, who chat.Author, what chat.Action, room string) error {
	return d.faults.do(ctx, "Access.May", func() error { return d.next.May(ctx, who, what, room) })
}

// FaultyFanout puts faults before a fan-out, and before the deliver that it calls.
func FaultyFanout(next realtime.Fanout, f *Faults) realtime.Fanout { return fanout{next, f} }

type fanout struct {
	next   realtime.Fanout
	faults *Faults
}

func (d fanout) Publish(ctx context.Context, s realtime.Signal) error {
	return d.faults.do(ctx, "Fanout.Publish", func() error { return d.next.Publish(ctx, s) })
}

func (d fanout) Follow(ctx context.Context, room string) error {
	return d.faults.do(ctx, "Fanout.Follow", func() error { return d.next.Follow(ctx, room) })
}

func (d fanout) Unfollow(ctx context.Context, room string) error {
	return d.faults.do(ctx, "Fanout.Unfollow", func() error { return d.next.Unfollow(ctx, room) })
}

func (d fanout) Run(ctx context.Context, deliver func(realtime.Signal)) error {
	faulty := func(s realtime.Signal) {
		// A signal that is not delivered is lost, which the port allows.
		_ = d.faults.do(ctx, "Fanout.Deliver", func() error { deliver(s); return nil })
	}
	return untilEnd(ctx, d.faults.do(ctx, "Fanout.Run", func() error { return d.next.Run(ctx, faulty) }))
}

// FaultyPresence puts faults before a presence.
func FaultyPresence(next realtime.Presence, f *Faults) realtime.Presence { return presence{next, f} }

type presence struct {
	next   realtime.Presence
	faults *Faults
}

func (d presence) Enter(ctx context.Context, now time.Time, node, room string, who chat.Author) (first bool, err error) {
	return ask(ctx, d.faults, "Presence.Enter", func() (bool, error) { return d.next.Enter(ctx, now, node, room, who) })
}

func (d presence) Exit(ctx context.Context, now time.Time, node, room string, who chat.Author) (last bool, err error) {
	return ask(ctx, d.faults, "Presence.Exit", func() (bool, error) { return d.next.Exit(ctx, now, node, room, who) })
}

func (d presence) List(ctx context.Context, now time.Time, room string, limit int) (users []chat.Author, count int, err error) {
	return ask2(ctx, d.faults, "Presence.List", func() ([]chat.Author, int, error) { return d.next.List(ctx, now, room, limit) })
}

func (d presence) Renew(ctx context.Context, r realtime.Renewal) (realtime.Renewed, error) {
	return ask(ctx, d.faults, "Presence.Renew", func() (realtime.Renewed, error) { return d.next.Renew(ctx, r) })
}

// FaultyAuthenticator puts faults before an authenticator.
func FaultyAuthenticator(next socket.Authenticator, f *Faults) socket.Authenticator {
	return authenticator{next, f}
}

type authenticator struct {
	next   socket.Authenticator
	faults *Faults
}

func (d authenticator) Token(ctx context.Context, token string) (user.Identity, error) {
	return ask(ctx, d.faults, "Authenticator.Token", func() (user.Identity, error) { return d.next.Token(ctx, token) })
}

func (d authenticator) Ticket(ctx context.Context, ticket string) (user.Identity, error) {
	return ask(ctx, d.faults, "Authenticator.Ticket", func() (user.Identity, error) { return d.next.Ticket(ctx, ticket) })
}

// FaultyConn puts faults before a connection. A connection never blocks, so it stands neither
// Delay nor Hang. A Fail of Send should be of kind Unavailable, as the port says.
func FaultyConn(next socket.Conn, f *Faults) socket.Conn { return conn{next, f} }

type conn struct {
	next   socket.Conn
	faults *Faults
}

func (d conn) Send(frame *socket.Frame) error {
	return d.faults.do(context.Background(), "Conn.Send", func() error { return d.next.Send(frame) })
}

func (d conn) Queued() int { return d.next.Queued() }

func (d conn) Close(code int, reason string) {
	// It has no answer, and none of the faults that it stands makes one.
	_ = d.faults.do(context.Background(), "Conn.Close", func() error { d.next.Close(code, reason); return nil })
}

// FaultyCheck puts faults before the probe of a health check.
func FaultyCheck(next health.Check, f *Faults) health.Check {
	probe := next.Probe
	next.Probe = func(ctx context.Context) (map[string]any, error) {
		return ask(ctx, f, "Check.Probe", func() (map[string]any, error) { return probe(ctx) })
	}
	return next
}
