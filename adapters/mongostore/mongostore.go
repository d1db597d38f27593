// Package mongostore implements every persistence port on MongoDB through mongo-driver v2.10:
// user.Repository, auth.SignUps, auth.SessionStore, auth.CodeStore, auth.FactorStore, auth.Nonces, auth.Limiter and auth.Sweeper,
// chat.MessageStore, chat.Recorder, chat.Pruner, chat.Rooms, chat.Members, chat.Marks, chat.Roles, chat.Restrictions, chat.Blocks and chat.Settings, event.Outbox, mail.Queue,
// mail.DeadLetters and mail.Stats. It is made for MongoDB 4.4 or later, a single server or a
// replica set. No real MongoDB could be had for its tests: they run on FerretDB v1.24 and on
// mongo-java-server 1.47, which speak the same protocol; see # Exceptions.
//
// # Guarantees
//
//   - A call that returned nil has been written with the write concern of [Config], by default
//     acknowledged by the majority and in the journal.
//   - No transactions, change streams, TTL or partial indexes are used: all that is stored is a write
//     of one document, or several writes of which the later ones need the earlier ones. So a
//     single server will do. A user and its events are one document, and so are a sign-up, a code or a
//     session and theirs.
//   - Read-modify-write is optimistic: a document has a version, the write names the version
//     that was read, and where that is gone it begins again with what is there now.
//   - Several processes may share one database, the mail queue included.
//   - A message gets its number by an insert under a unique index on room and number. It is
//     inserted only when the majority has its predecessor, so that at no time, whatever fails, does a room
//     have a gap. A second unique index holds the sender's client id.
//   - The changes of a room in one call are decided by one write: the room's document in parley_changes, its head, takes
//     the highest Rev and what the messages are to become, if it is still as it was read. Then each message gets it in one update, ascending by Rev,
//     which leaves alone what is as new. The next change of the room, Bounds and Mine first do what a
//     process has decided and left. So they are all or none, no Rev is given out twice or left out, and whoever sees a change can see all
//     before it. A message that changes twice leaves no trace of its first Rev, so that a unique index of messages could not say what is
//     given out; the head can.
//   - What an edit or a deletion has taken is in no document any more when Change returns. The head keeps nothing
//     of what messages have, unless the write that empties it fails: then until the next change of the room.
//     That write alone waits for the primary only, and nothing depends on it.
//   - A mark is a field of the member's document, which no write makes lower. Who sends has read what they sent by the message itself: how far a member
//     has read is the higher one of the mark and of the last message in the index by author. So there is no second write that could be missing.
//   - Old messages are removed one by one, the first one first, in one ordered write: wherever it ends, what is left has no gaps. Before it, changes that were decided are
//     carried out and leave the head, and those who have sent the messages get a mark that says so. The last message of a room leaves its number behind, without all that it said,
//     until a newer one is stored and old messages are removed again.
//   - Of a room that is removed messages go first, the first one first, then memberships, restrictions and its head, and the room's document last: as long as that is there, Drop goes on.
//   - A restriction is one document of its room, user and kind under a unique index. It is replaced only if it still has the At that was read, so that of several
//     calls each has its own, later than the one before.
//   - What members are is decided by one write: the document of the room takes the next version, and what is to become of which document of a member, if it still has the version
//     that was read. Then the members' documents get it, and last the room is rid of it. The next change of roles in the room, Of, List, Remove and the Add of somebody new first do what a
//     process has decided and left. So two owners who demote each other at once are judged one after the other, a change is all or nothing wherever a process ends,
//     and the kind of the room, which the same version counts, is the one that it was judged by.
//   - That may be done twice, and late. A role is written only over one of an earlier version; the document of a membership that ends never comes again; and one that begins is laid aside before
//     the room is written, under a name that nobody has, so that it can begin only once. Who has joined meanwhile gets the role there, before what was laid aside goes.
//   - Who joins a room is decided by its document too, which no join writes: first the membership is written, with a sign that it is not proven, then the room is read, then the sign is taken off, or the
//     membership if the room is not open. Whoever else meets the sign does the same before they tell of the membership. So a membership that begins after a room was closed was at no time seen, and one
//     that was told, or seen, stays. A room that nobody has stored is open.
//   - A deletion and its place in the index of deletions are one update of the message. What a program has deleted that knows no such index is put there by whoever
//     asks next about the room: its head says up to which Rev that is done, and a program that does not know it leaves it out.
//   - Marks, and what they are compared with, are read as the majority has them, so that none that was told goes back.
//     Of several calls that move a mark to the same place at once, one says that it has.
//   - Events have their place by a logical clock, which a change reads after what it changes:
//     of two changes of which one was done before the other began, the first one's events
//     come first. No event appears before one that Pending has returned, except those of a change that was
//     under way at that time.
//   - What others have written is confirmed by a write of one's own before it counts as done: an event is
//     handed out, and a repeated message or job acknowledged, when no change of the primary can undo it.
//   - A call ends with its context, also when the server does not answer.
//   - Every document is checked before it is written against the same bounds that the
//     validators of its collection state, whether or not the server has them.
//   - Times keep their microseconds and come back in UTC; text is compared by its bytes, without a collation.
//   - Errors have a kind of package fault. A driver's error is only ever the cause.
//
// # Exceptions
//
// A call that was under way when the server was lost, or when its context ended, fails with kind
// Unavailable, and may have been stored, perhaps later. Append, Add and Mark write one document a message,
// membership or member, so of several some may then be stored: of the messages, the first ones. Nothing
// is stored in part after any other error. Appending again with the same client ids
// stores the rest and answers with what is there.
//
// Change is all or none in each room: of the changes of several rooms in one call, those of some rooms may then be
// stored. So may the first ones where those of a room are of more than 1,000 messages, or make more than 8 MB.
// Who reads while Change is under way may see the first ones of its changes. What a process had decided, and not carried out when it ended, is seen after the next Change, Bounds or Mine of the room.
// Changing again what is so already is answered as repeated.
//
// A deleted message keeps the text "(deleted)" in its document, since the validator of an older program wants one, and that
// program shows it. List and Append answer without.
//
// A decision about a member that a process has left is seen by Has, RoomsOf, Mine and Mark when somebody has carried it out. A process that ends before it has decided may leave what it has laid aside: a document of about 100 bytes that
// belongs to no user and no room.
//
// A program that knew no roles, beside this one, lets everybody into every room, and every member is a regular one: let there be no other rooms than public ones until it is gone.
//
// A program that kept no devices of sessions, beside this one, takes device, network and seen_at from a session that it refreshes.
//
// A membership of a program that kept no marks has everything read, until somebody adds it again: from then on what comes is unread.
// The first look at a room after such a program has changed something in it goes through the changes of that room, 10,000 at a time.
//
// More than eight rooms are looked up by one aggregation, which MongoDB does by stepping through an index (DISTINCT_SCAN); that plan was not seen here, for want of a MongoDB. A
// server that does not know $first or $max, as FerretDB v1, is asked for each room.
//
// Exceptions of servers, not of this package: on FerretDB v1 updates are not atomic, so that
// of concurrent updates of one document several may win, so that a mark may go back there; validators are refused; and every query goes
// through a whole collection, so that what takes many steps takes long. On
// mongo-java-server text is ordered by UTF-16 units, which is another order than that of the bytes for
// characters beyond U+FFFF; validators are taken and not kept. Enforced validators, elections and
// rollbacks of a replica set, and transactions (which are not needed) were not run on a real MongoDB.
//
// Besides: text that is not valid UTF-8 or has a NUL character, and text above a field's bound, is
// refused with kind Invalid. LastError of a mail job is cut at 2,000 characters. A session, a code, a second factor or a sign-up that
// is removed while its events wait for the bus is hidden, and goes with the last of them. A new sign-up is
// written first, and then the oldest ones of its address are removed: a crash in between leaves one more.
//
// # Schema
//
// Collections carry the prefix parley_, so that they can live beside others. Times are int64
// microseconds since 1970 in UTC, since a BSON date has milliseconds only; an absent one is "not yet".
//
//	users     _id | full_name, email unique, password_hash, created_at, verified_at,
//	          password_changed_at, sessions_from, kept_session, role, disabled_at, version, pending, events: [{position, id, topic, type, key, time, data}]
//	sign_ups  _id | user_id, full_name, email, password_hash, network, created_at, expires_at, confirmed_at,
//	          removed, version, pending, events as those of users
//	sessions  _id | user_id, family_hash, token_hash, created_at, rotated_at, expires_at, revoked_at,
//	          previous_hash, rotation_key, device_hash, device, network, seen_at: absent unless noted between refreshes, proven_at, removed, version, pending, events as those of users
//	codes     _id: the hash | user_id, created_at, expires_at, used_at, and as sessions removed, version, pending, events
//	factors   _id: the user | secret: sealed, empty for none, created_at, confirmed_at, last_step, recovery: [hash], and as sessions removed, version, pending, events
//	nonces    _id: the name | expires_at
//	limits    _id: the hash of a key | whole_at: when its allowance is whole again
//	rooms     _id: the name | created_by, created_at, kind: absent for public, title, topic, data, retention: in seconds, deleted_at, version;
//	          intents, until members have them: [{user_id, member: the document, role: absent for the end, begins, restricts: a restriction that the user is to have, as those below}], decided: their version; pending, events as those of users
//	members   _id | user_id, room unique together; room, user_id an index together; since, read: the mark, moved_by: the call that moved it last,
//	          role: absent for a member, owner_of: the room of owners, with an index, ruled: the version of the room that decided the role last, unproven: until the room was read again;
//	          version, pending, events as those of users. One that has ended and still carries events is removed, and of nobody
//	restrictions _id | room, user_id, kind unique together, by, reason, at: an index with the three, until: absent for never
//	blocks    _id | by, whom unique together, at; whom, by an index together
//	audit     _id | at, actor, action, target, detail, network, outcome
//	settings  _id: the user | hides_read
//	messages  _id | room, seq unique together; room, once unique together; id, client_id, author_id, author_name, text, at,
//	          reply_to, data, edited_at, deleted_at; of those that were changed: changed_in: the room, and rev, an index together;
//	          reactions: [{key, count, users: those who are named}], reacted: [{key, users: all}];
//	          of those that were deleted: deleted_in: the room, and deleted_seq, an index together; author_id, room, seq an index together
//	changes   _id: the room | rev: the highest; counted: the Rev up to which deletions are in their index;
//	          writes, until messages have them: [{seq, rev, text, reply_to, data, edited_at, deleted_at, reactions, reacted}]
//	outbox_aside  _id | topic, type, key, time, data, reason: events that can never be published; one that is replayed is removed and carries itself
//	clock     _id: a moment of the logical clock; the last ones are kept
//	mail_jobs _id | position, key unique, kind, recipient, recipient_name, data, state, open, due_at, attempts, claims,
//	          run_at, leased_until, last_error, created_at, updated_at
//	schema    _id: "schema" | version, additions, confirmations
//
// pending is the position of the first event in the document. once is made of author and client id, and
// of the number where there is none. The newest message of a room says what number comes next, and so its document stays when it was removed by age: rev is the greatest
// number there is then, and nothing else is left of it. The document of a room in changes stays, as it says what Rev comes next: where it is
// gone, or has fallen behind, the highest Rev of a message counts. [Store.Migrate] creates and upgrades collections, indexes and
// $jsonSchema validators, [Store.Check] compares the version with the program's, and [Store.Validators]
// says whether the server has the validators. Every port fails with ErrSchemaOld until the database is
// migrated, since a collection without its unique indexes would not keep the promises. What was added to a version does not
// disturb an older program of that version, which may run beside a newer one.
//
// # Closing
//
// What [Open] opened, [Store.Close] closes, once nobody uses the store any more. A store that [New] made
// leaves its client open. Closing twice is harmless. Calls after closing fail with kind Unavailable.
package mongostore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/parley"
)

// Store is a database that holds Parley's collections. Its methods, and those of the ports
// that it hands out, may be called from many goroutines.
type Store struct {
	db   *database
	own  *mongo.Client // disconnected by Close; nil if it is the caller's
	once sync.Once
	err  error // of the first Close
}

// New makes a store on db, whose client stays the caller's. The store reads from the primary and
// writes with cfg's write concern, whatever db's are. cfg's Connections and ConnectTimeout are for
// [Open] only. New does not touch the database.
func New(db *mongo.Database, cfg Config) (*Store, error) {
	if db == nil {
		return nil, errors.New("mongostore: the database is missing")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return newStore(db, cfg), nil
}

func newStore(db *mongo.Database, cfg Config) *Store {
	d := &database{db: db, log: cfg.Log, maxDeleted: 10_000, stretch: 10_000}
	// A registry or BSON options of the client's must not change what is stored.
	opts := options.Collection().SetWriteConcern(cfg.WriteConcern).SetReadPreference(readpref.Primary()).
		SetRegistry(bson.NewRegistry()).SetBSONOptions(&options.BSONOptions{})
	for _, c := range []struct {
		schema *collection
		handle **mongo.Collection
	}{
		{users, &d.users}, {signUps, &d.signUps}, {sessions, &d.sessions}, {codes, &d.codes}, {factors, &d.factors}, {nonces, &d.nonces}, {limits, &d.limits}, {rooms, &d.rooms},
		{members, &d.members}, {restrictions, &d.restrictions}, {blocks, &d.blocks}, {userSettings, &d.settings}, {auditLog, &d.audit}, {messages, &d.messages}, {changes, &d.changes}, {aside, &d.aside}, {clock, &d.clock},
		{mailJobs, &d.mailJobs}, {webhookJobs, &d.webhookJobs}, {schema, &d.schema},
	} {
		*c.handle = db.Collection(c.schema.name, opts)
	}
	d.committed, d.standing, d.restricted, d.blocked, d.set, d.ruled = d.messages, d.members, d.restrictions, d.blocks, d.settings, d.rooms
	idle := options.Collection().SetWriteConcern(writeconcern.W1())
	d.spent, d.fulfilled = db.Collection(changes.name, opts, idle), db.Collection(rooms.name, opts, idle)
	if cfg.WriteConcern.W == writeconcern.WCMajority {
		majority := options.Collection().SetReadConcern(readconcern.Majority())
		d.committed = db.Collection(messages.name, opts, majority)
		d.changes = db.Collection(changes.name, opts, majority)
		d.standing = db.Collection(members.name, opts, majority)
		d.restricted = db.Collection(restrictions.name, opts, majority)
		d.blocked = db.Collection(blocks.name, opts, majority)
		d.set = db.Collection(userSettings.name, opts, majority)
		d.ruled = db.Collection(rooms.name, opts, majority)
	}
	return &Store{db: d}
}

// Ports returns every port that the store keeps. The others are nil: see [parley.Ports.With].
func (s *Store) Ports() parley.Ports {
	queue, hooks, members := s.MailQueue(), s.WebhookQueue(), s.Members()
	return parley.Ports{
		Users: s.Users(), Sessions: s.Sessions(), Codes: s.Codes(), SignUps: s.SignUps(), Nonces: s.Nonces(), Limiter: s.Limiter(),
		Outbox: s.Outbox(), Asides: s.Asides(), MailQueue: queue, DeadLetters: queue, MailStats: queue,
		WebhookQueue: hooks, WebhookLetters: hooks, WebhookStats: hooks,
		Messages: s.Messages(), Pruner: s.Messages(), Rooms: s.Rooms(), Members: members, Marks: members, Roles: s.Roles(), Restrictions: s.Restrictions(), Blocks: s.Blocks(), Settings: s.Settings(),
		Directory: s.Directory(), Audit: s.AuditLog(), Factors: s.Factors(),
	}
}

// Users returns the users of the store.
func (s *Store) Users() *Users { return &Users{s.db} }

// Sessions returns the sessions of the store.
func (s *Store) Sessions() *Sessions { return &Sessions{s.db} }

// Codes returns the one-time codes of the store.
func (s *Store) Codes() *Codes { return &Codes{s.db} }

// SignUps returns the sign-ups that wait.
func (s *Store) SignUps() *SignUps { return &SignUps{s.db} }

// Nonces returns the names that were spent.
func (s *Store) Nonces() *Nonces { return &Nonces{s.db} }

// Limiter returns the allowances of the store.
func (s *Store) Limiter() *Limiter { return &Limiter{s.db} }

// Messages returns the messages of the store.
func (s *Store) Messages() *Messages { return &Messages{db: s.db} }

// Rooms returns the rooms of the store.
func (s *Store) Rooms() *Rooms { return &Rooms{db: s.db} }

// Members returns the memberships of the store, which are also its chat.Marks.
func (s *Store) Members() *Members { return &Members{db: s.db} }

// Roles returns what members are in rooms.
func (s *Store) Roles() *Roles { return &Roles{db: s.db} }

// Restrictions returns the bans and mutes of the store.
func (s *Store) Restrictions() *Restrictions { return &Restrictions{s.db} }

// Factors returns the second factors of users.
func (s *Store) Factors() *Factors { return &Factors{s.db} }

// Blocks returns who has blocked whom.
func (s *Store) Blocks() *Blocks { return &Blocks{s.db} }

// Directory lists the users of the store.
func (s *Store) Directory() *Directory { return &Directory{s.db} }

// AuditLog returns what administrators have done.
func (s *Store) AuditLog() *AuditLog { return &AuditLog{s.db} }

// Settings returns what users have set for themselves.
func (s *Store) Settings() *Settings { return &Settings{s.db} }

// Asides returns the events that were set aside.
func (s *Store) Asides() *Asides { return &Asides{s.db} }

// Outbox returns the events that wait for the bus.
func (s *Store) Outbox() *Outbox { return &Outbox{s.db} }

// MailQueue returns the mail jobs of the store.
func (s *Store) MailQueue() *MailQueue { return &MailQueue{s.db, s.db.mailJobs} }

// WebhookQueue returns the deliveries of webhooks of the store.
func (s *Store) WebhookQueue() *MailQueue { return &MailQueue{s.db, s.db.webhookJobs} }

// Ping reports whether the database takes writes, for readiness checks: it changes a document that is there for nothing
// else, with the write concern of every write. So a server that is not the primary, and a majority that is not there,
// are found. It waits until ctx is done. Each call is a write: let it be asked no oftener than is of use.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.db.ready(ctx); err != nil {
		return err
	}
	return s.db.confirm(ctx, "ping")
}

// closePatience bounds the wait for calls under way when a store is closed.
const closePatience = 10 * time.Second

// Close disconnects the client that [Open] made. It waits for calls under way, at most 10 seconds.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.db.closed.Store(true)
		if s.own == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), closePatience)
		defer cancel()
		s.err = s.own.Disconnect(ctx)
	})
	return s.err
}

// database is what every port shares.
type database struct {
	db  *mongo.Database
	log *slog.Logger

	users, signUps, sessions, codes, factors, nonces, limits, rooms, members, restrictions, blocks, settings, audit, messages, changes, aside, clock, mailJobs, webhookJobs, schema *mongo.Collection

	// committed is messages as the majority has them: the number after one that a new primary may not have
	// would leave a gap there.
	committed *mongo.Collection
	// standing is members as the majority has them: a mark that was told must not go back.
	standing *mongo.Collection
	// restricted is restrictions as the majority has them, blocked is blocks, and set is settings.
	restricted, blocked, set *mongo.Collection
	// ruled is rooms as the majority has them.
	ruled *mongo.Collection
	// spent is changes for a write that nothing depends on, fulfilled is rooms for such a one.
	spent, fulfilled *mongo.Collection

	checked atomic.Bool // the schema is this program's
	closed  atomic.Bool
	plain   atomic.Bool // the server does not know the aggregations that look up many rooms at once
	refused sync.Once   // says that the server takes no validators
	turns   turns       // of appends
	// changing are the turns of changes.
	changing turns
	// restricting are the turns of restrictions.
	restricting turns
	// ruling are the turns of rooms and of roles.
	ruling turns

	maxDeleted int64 // the most deletions that are read to be counted
	stretch    int64 // how many changes are looked through at once for deletions
}

// ready fails unless the database is migrated, which is asked once.
func (d *database) ready(ctx context.Context) error {
	switch {
	case d.closed.Load():
		return fault.Wrap(fault.Unavailable, fmt.Errorf("mongostore: %w", mongo.ErrClientDisconnected))
	case d.checked.Load():
		return nil
	}
	return d.check(ctx)
}

// one reads the document that a filter chooses, or returns missing.
func one[T any](ctx context.Context, d *database, op string, c *mongo.Collection, filter bson.D, missing error, opts ...options.Lister[options.FindOneOptions]) (T, error) {
	var doc T
	err := d.ready(ctx)
	if err == nil {
		err = c.FindOne(ctx, filter, opts...).Decode(&doc)
	}
	if errors.Is(err, mongo.ErrNoDocuments) {
		return doc, missing
	}
	return doc, d.fail(ctx, op, err)
}

// all reads the documents that a filter chooses.
func all[T any](ctx context.Context, d *database, op string, c *mongo.Collection, filter bson.D, opts ...options.Lister[options.FindOptions]) ([]T, error) {
	if err := d.ready(ctx); err != nil {
		return nil, err
	}
	docs := []T{}
	cursor, err := c.Find(ctx, filter, opts...)
	if err == nil {
		err = cursor.All(ctx, &docs)
	}
	if err != nil {
		return nil, d.fail(ctx, op, err)
	}
	return docs, nil
}

// insertOnce stores one document whose only unique field is its _id.
func (d *database) insertOnce(ctx context.Context, op string, c *mongo.Collection, s *collection, doc any) error {
	raw, err := s.encode(doc)
	if err != nil {
		return err
	}
	if err := d.ready(ctx); err != nil {
		return err
	}
	_, err = c.InsertOne(ctx, raw)
	if mongo.IsDuplicateKeyError(err) {
		return errIDTaken.Because(d.fail(ctx, op, err))
	}
	return d.fail(ctx, op, err)
}

// deleteExpired deletes the documents whose expires_at is before the given time.
func (d *database) deleteExpired(ctx context.Context, op string, c *mongo.Collection, before time.Time) (int, error) {
	if err := d.ready(ctx); err != nil {
		return 0, err
	}
	res, err := c.DeleteMany(ctx, bson.D{{Key: "expires_at", Value: bson.D{{Key: "$lt", Value: micros(before)}}}})
	if err != nil {
		return 0, d.fail(ctx, op, err)
	}
	return int(res.DeletedCount), nil
}

// confirm makes sure that what was read before cannot be undone: when a later write has been
// acknowledged by the majority, so have all earlier ones.
func (d *database) confirm(ctx context.Context, op string) error {
	res, err := d.schema.UpdateOne(ctx, byID(schemaID), bson.D{{Key: "$inc", Value: bson.D{{Key: "confirmations", Value: int64(1)}}}})
	if err == nil && res.MatchedCount == 0 {
		return ErrSchemaOld
	}
	return d.fail(ctx, op, err)
}

// pause waits a while that is longer for every attempt, and no other caller's.
func pause(ctx context.Context, attempt int) error {
	timer := time.NewTimer(rand.N(time.Duration(min(attempt, 10)) * 2 * time.Millisecond))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func byID(id string) bson.D { return bson.D{{Key: "_id", Value: id}} }

func exists(yes bool) bson.D { return bson.D{{Key: "$exists", Value: yes}} }

// ascending orders by the fields; a minus before one turns it round.
func ascending(fields ...string) bson.D {
	keys := make(bson.D, len(fields))
	for i, f := range fields {
		keys[i] = bson.E{Key: f, Value: int32(1)}
		if f[0] == '-' {
			keys[i] = bson.E{Key: f[1:], Value: int32(-1)}
		}
	}
	return keys
}

func micros(t time.Time) int64 { return t.UnixMicro() }

func instant(us int64) time.Time { return time.UnixMicro(us).UTC() }

// optionalMicros is absent for the zero time, which means "not yet".
func optionalMicros(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	us := t.UnixMicro()
	return &us
}

func optionalInstant(us *int64) time.Time {
	if us == nil {
		return time.Time{}
	}
	return instant(*us)
}
