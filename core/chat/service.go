package chat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/settings"
	"github.com/parley-chat/parley/core/user"
)

// Config is what a [Service] needs. Zero fields without "required" mean the default.
type Config struct {
	Store   MessageStore // required
	Rooms   Rooms        // required
	Members Members      // required
	Marks   Marks        // required
	Cache   RecentCache  // required
	// Pruner removes old messages from Store. Default: they stay.
	Pruner Pruner
	// Restrictions keeps who is banned and muted. Default: nobody can be.
	Restrictions Restrictions
	// Roles keeps what members may do, and makes rooms that are not public. It needs Restrictions. Default: every member may do what a [Regular] one may, and rooms are made by joining.
	Roles Roles
	// RecordRooms makes the events that are committed with what becomes of rooms and memberships, and why: Rooms, Members and Roles must each be a [RoomRecorder] then. Default: none
	// are, and nothing costs more.
	RecordRooms func(why Cause) RoomRecord
	// People knows the users, with their names. Default: nobody does; then whoever is a member of a room counts as a user, and lists of members have no names.
	People People
	// Blocks keeps who has blocked whom. Without Roles it is not used. Default: nobody can block anybody.
	Blocks Blocks
	// Settings keeps what users have set for themselves. It needs Restrictions. Default: nobody can set anything, and everybody in a small room is told how far others have read.
	Settings Settings
	// MaxBlocks is how many others a user can block. Default 1,000.
	MaxBlocks int
	// Access decides who may join, send and read. Default: everybody, and nobody is asked.
	Access Access
	// Screen sees every message before it is stored: see [Screen]. Default: none, and nobody is asked.
	Screen Screen
	// ScreenTimeout bounds how long a message waits for its turn and the answer of Screen. Default 300 milliseconds.
	ScreenTimeout time.Duration
	// ScreenFailsOpen says that a message is stored as it is if Screen fails: it returns an error of a kind other than
	// Forbidden, panics, or has not answered in time. Default: it is refused with ErrUnscreened, since a rule that can be
	// switched off by whoever overloads it is none.
	ScreenFailsOpen bool
	// MaxScreened is the most messages that Screen is asked about at once. A call that goes on after ScreenTimeout counts
	// until it returns. A message that has no turn in time is refused with ErrBusy, also with ScreenFailsOpen. Default 1,024.
	MaxScreened int
	// Recent is how many messages a newcomer gets. The cache should keep as many. Default 10.
	Recent int
	// MaxPage is the most messages of one page of history. Default 100.
	MaxPage int
	// MaxBatch is the most messages of one commit. Default 512.
	MaxBatch int
	// MaxPending is the most messages that wait for a commit; more are refused with
	// ErrBusy. Default 16,384.
	MaxPending int
	// CommitTimeout bounds one commit, and the look-up of whether a message that Screen refuses was stored before. Default 5 seconds.
	CommitTimeout time.Duration
	// CacheTimeout bounds one call of the cache: so long a cache that does not answer holds up
	// the commit, or the reader, that finds it out. Default 1 second.
	CacheTimeout time.Duration
	// Normalize brings text that a person may type in several ways into one form, Unicode's NFC
	// (Unicode Standard Annex #15), so that what looks the same is the same: names of rooms.
	// It must be pure and may be called from many goroutines; norm.NFC.String of golang.org/x/text does. Default: text stays as it is.
	Normalize func(string) string
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// NewID makes identifiers of messages. Default event.NewID.
	NewID func() string
	// Log gets what operators should know. Default: nothing.
	Log *slog.Logger
}

// Service is the rules of chat. Its methods may be called from many goroutines; those that
// store something need [Service.Run] to be running.
type Service struct {
	cfg      Config
	asks     bool // there is an Access
	messages *committer[Message, Stored]
	changes  *committer[Change, Changed]
	joins    *committer[Membership, entered]
	marks    *committer[Mark, marked]
	recent   *recent

	moderating sync.WaitGroup // each asks the store whether it is a moderator who deletes

	screening *screening    // nil where there is no Screen
	searches  chan struct{} // something for each page that looks beyond maxPassed rooms

	heard, heardChanges atomic.Pointer[[]func(Message)] // by OnStored, and OnChanged
	heardMarks          atomic.Pointer[[]func(Mark)]    // by OnMarked
	refusing            atomic.Pointer[[]func(string) error]

	heardRestrictions atomic.Pointer[[]func(Restriction)]  // by OnRestricted
	heardRights       atomic.Pointer[[]func(RightsChange)] // by OnRights
	heardSettings     atomic.Pointer[[]func(user.ID)]      // by OnSettings
	heardRecorded     atomic.Pointer[[]func(struct{})]     // by OnRecorded

	hiding hiding

	mu      sync.Mutex
	directs map[string]direct // who the users of direct rooms are; emptied when it has maxKnown

	known map[string]time.Time // until when rooms count as stored; emptied when it has maxKnown
	loads map[string]*loads
}

// maxKnown bounds the memory of rooms that need not be stored again.
const maxKnown = 1 << 16

// knownFor is how long a room that was seen counts as stored. A room that another node deletes keeps its name for longer.
const knownFor = time.Minute

// New checks the configuration, all of it at once.
func New(cfg Config) (*Service, error) {
	c := settings.Of("chat: Config")
	c.Require("Store", cfg.Store == nil)
	c.Require("Rooms", cfg.Rooms == nil)
	c.Require("Members", cfg.Members == nil)
	c.Require("Marks", cfg.Marks == nil)
	c.Require("Cache", cfg.Cache == nil)
	if cfg.Roles != nil || cfg.Settings != nil {
		c.Require("Restrictions", cfg.Restrictions == nil)
	}
	settings.Default(c, "MaxBlocks", &cfg.MaxBlocks, 1000)
	settings.Default(c, "Recent", &cfg.Recent, 10)
	settings.Default(c, "MaxPage", &cfg.MaxPage, 100)
	settings.Default(c, "MaxBatch", &cfg.MaxBatch, 512)
	settings.Default(c, "MaxPending", &cfg.MaxPending, 16_384)
	settings.Default(c, "CommitTimeout", &cfg.CommitTimeout, 5*time.Second)
	settings.Default(c, "CacheTimeout", &cfg.CacheTimeout, time.Second)
	settings.Default(c, "ScreenTimeout", &cfg.ScreenTimeout, 300*time.Millisecond)
	settings.Default(c, "MaxScreened", &cfg.MaxScreened, 1024)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if cfg.Roles == nil { // there are no direct rooms
		cfg.Blocks = nil
	}
	if cfg.RecordRooms != nil {
		try := roomStores{cfg.Rooms, cfg.Members, cfg.Roles}
		if err := try.record(RoomRecord{}); err != nil {
			return nil, fmt.Errorf("chat: Config.RecordRooms: %w", err)
		}
	}
	asks := cfg.Access != nil
	if asks {
		cfg.Access = guardedAccess{cfg.Access}
	} else {
		cfg.Access = OpenAccess{}
	}
	if cfg.Normalize == nil {
		cfg.Normalize = func(s string) string { return s }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.NewID == nil {
		cfg.NewID = event.NewID
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, asks: asks, known: map[string]time.Time{}, directs: map[string]direct{}, loads: map[string]*loads{}, searches: make(chan struct{}, maxSearches)}
	s.hiding.hides = map[user.ID]bool{}
	if cfg.Screen != nil {
		s.screening = &screening{
			screen: cfg.Screen, timeout: cfg.ScreenTimeout, open: cfg.ScreenFailsOpen, places: make(chan struct{}, cfg.MaxScreened), now: cfg.Now, log: cfg.Log,
		}
	}
	// What was just stored is told behind its answer, also where it is told again.
	s.recent = newRecent(cfg, func(m Message) { s.messages.settled(); s.tell(m) }, func(m Message) { s.changes.settled(); s.tellChanged(m) })
	s.messages = newCommitter(cfg.MaxBatch, cfg.MaxPending, s.commitMessages)
	s.messages.after = func(stored Stored) { s.tell(stored.Message) }
	s.changes = newCommitter(cfg.MaxBatch, cfg.MaxPending, s.commitChanges)
	s.changes.after = func(c Changed) {
		if c.Err == nil {
			s.tellChanged(c.Message)
		}
	}
	s.joins = newCommitter(cfg.MaxBatch, cfg.MaxPending, s.commitJoins)
	s.marks = newCommitter(cfg.MaxBatch, cfg.MaxPending, s.commitMarks)
	s.marks.after = s.tellMarked
	return s, nil
}

// Recent is how many messages a newcomer gets.
func (s *Service) Recent() int { return s.cfg.Recent }

// MaxPage is the most messages of one page.
func (s *Service) MaxPage() int { return s.cfg.MaxPage }

// OnStored makes f hear of every message that [Service.Send] or [Service.Submit] has stored, whoever
// called it. f is called after the sender has the answer, with messages of one room in the order of their
// sequence. f hears some messages again: one that was sent again under its ClientID, since whoever stored
// it may not have lived to tell; and the last one of a room whose cache was behind, or in which a message
// was stored without an answer of the store, once the cache has what it lacked. f may be called from two
// goroutines at a time, and holds up commits: it must be quick. A hub registers itself. OnStored may be
// called from many goroutines.
func (s *Service) OnStored(f func(Message)) { listen(s, &s.heard, f) }

func (s *Service) tell(m Message) { tellAll(&s.heard, m) }

// Run commits until ctx ends and what was submitted before is settled, and returns nil: what the
// store has not answered CommitTimeout after ctx has ended fails with kind Unavailable.
// Submissions after that are refused with ErrClosed. One Run at a time, and only once.
func (s *Service) Run(ctx context.Context) error {
	s.recent.begin()
	var wg sync.WaitGroup
	wg.Go(func() { s.messages.run(ctx, s.cfg.CommitTimeout) })
	wg.Go(func() { s.changes.run(ctx, s.cfg.CommitTimeout) })
	wg.Go(func() { s.joins.run(ctx, s.cfg.CommitTimeout) })
	wg.Go(func() { s.marks.run(ctx, s.cfg.CommitTimeout) })
	wg.Go(func() { s.recent.mend(ctx) })
	wg.Wait()
	s.moderating.Wait()
	return nil
}

// Resolve returns the name under which a room is kept: the normal form of what was typed. A room
// that was made before names were normalised keeps the form that it has. It returns
// ErrRoomInvalid, or an error of kind Unavailable. It reads from the store only for a name that is
// not in normal form.
func (s *Service) Resolve(ctx context.Context, name string) (string, error) {
	if err := CheckRoom(name); err != nil {
		return "", err
	}
	normal := s.cfg.Normalize(name)
	if normal == name {
		return name, nil
	}
	if s.knows(name) {
		return name, nil
	}
	switch _, err := s.cfg.Rooms.ByName(ctx, name); {
	case err == nil:
		s.know(name)
		return name, nil
	case !errors.Is(err, ErrRoomNotFound):
		return "", fmt.Errorf("read room: %w", err)
	}
	return normal, CheckRoom(normal)
}

// Normalize is Config.Normalize.
func (s *Service) Normalize(name string) string { return s.cfg.Normalize(name) }

// knows reports whether the room is stored, as far as this process remembers.
func (s *Service) knows(room string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, known := s.known[room]
	return known && s.cfg.Now().Before(until)
}

func (s *Service) know(room string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= maxKnown {
		clear(s.known)
	}
	s.known[room] = s.cfg.Now().Add(knownFor)
}

// Forget makes the next one who joins a room look whether it is stored: it may have been deleted on another node. A hub calls it.
func (s *Service) Forget(room string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, room)
}

// Join makes who a member of room, durably; the room comes into being with its first
// member. Joining twice is joining once. It returns the membership as it is stored, or ErrRoomInvalid, ErrNotAllowed, ErrBanned, ErrRoomNotFound for a room that is not public and of which who is no member, or an
// error of kind Unavailable, after which the outcome is unknown.
func (s *Service) Join(ctx context.Context, who Author, room string) (Membership, error) {
	e, err := s.Enter(ctx, who, room)
	return e.Membership, err
}

// Enter is [Service.Join], and returns besides whether the member is muted.
func (s *Service) Enter(ctx context.Context, who Author, room string) (Entry, error) {
	room, err := s.Resolve(ctx, room)
	if err != nil {
		return Entry{}, err
	}
	if err := s.cfg.Access.May(ctx, who, ActionJoin, room); err != nil {
		return Entry{}, err
	}
	now := s.now()
	if !s.knows(room) {
		if err := s.ensure(ctx, Room{Name: room, Kind: Public, CreatedBy: who.ID, CreatedAt: now}); err != nil {
			return Entry{}, err
		}
	}
	e, err := s.joins.do(ctx, Membership{Room: room, UserID: who.ID, Since: now})
	if err == nil {
		err = e.err
	}
	if err != nil {
		return Entry{}, err
	}
	return e.Entry, nil
}

// ensure stores a room that somebody joins, unless it is there.
func (s *Service) ensure(ctx context.Context, r Room) (err error) {
	if reserved(r.Name) { // it may be there
		r, err = s.cfg.Rooms.ByName(ctx, r.Name)
	} else {
		var stores roomStores
		if stores, err = s.because(Cause{By: r.CreatedBy, At: r.CreatedAt}); err == nil {
			r, err = stores.Rooms.Ensure(ctx, r)
		}
		s.recorded()
	}
	switch {
	case err != nil:
		return fmt.Errorf("store room: %w", err)
	case !r.DeletedAt.IsZero():
		return ErrRoomNotFound
	}
	s.know(r.Name)
	return nil
}

// Quit is [Service.Leave] by whoever leaves: the last owner of a room is refused with ErrLastOwner. [Service.OnRights] hears of it.
func (s *Service) Quit(ctx context.Context, who Author, room string) error {
	if s.cfg.Roles == nil {
		return s.Leave(ctx, who.ID, room)
	}
	err := s.RemoveMember(ctx, Actor{Author: who}, room, who.ID, "")
	switch {
	case errors.Is(err, ErrNotMember):
		return nil
	case errors.Is(err, ErrRoomNotFound):
		// There may be a membership of a room that is deleted, or was never stored. Of one that is there, who was no member has none to end: what they have
		// become meanwhile, maybe its only owner, stays.
		if _, there := s.Existing(ctx, room); there == nil {
			return nil
		} else if !errors.Is(there, ErrRoomNotFound) {
			return there
		}
		return s.Leave(ctx, who.ID, room)
	}
	return err
}

// Leave ends the membership, also that of the last owner. Leaving a room that one has not joined is no error. Connections that
// are in the room stay there until their node next asks Config.Restrictions, without which they stay: realtime.Hub.Remove takes them out at once.
func (s *Service) Leave(ctx context.Context, who user.ID, room string) error {
	return s.leave(ctx, Cause{By: who}, who, room)
}

// TakeOut is [Service.Leave] of somebody who does not do it themselves, and nobody says who does.
func (s *Service) TakeOut(ctx context.Context, who user.ID, room string) error {
	return s.leave(ctx, Cause{}, who, room)
}

func (s *Service) leave(ctx context.Context, why Cause, who user.ID, room string) error {
	room, err := s.Resolve(ctx, room)
	if err != nil {
		return err
	}
	if err := s.noteLeaving(ctx, who); err != nil {
		return err
	}
	return s.remove(ctx, why, who, room)
}

// remove ends a membership in a room by the name that [Service.Resolve] returns.
func (s *Service) remove(ctx context.Context, why Cause, who user.ID, room string) error {
	why.At = s.now()
	stores, err := s.because(why)
	if err != nil {
		return err
	}
	defer s.recorded()
	return stores.Members.Remove(ctx, room, who)
}

// RoomsOf returns at most limit (0 means MaxPage) rooms that the user has joined, ascending
// by the bytes of the name, after the given one.
func (s *Service) RoomsOf(ctx context.Context, who user.ID, after string, limit int) ([]Membership, error) {
	return s.cfg.Members.RoomsOf(ctx, who, after, s.pageSize(limit))
}

// Draft is a message to be sent.
type Draft struct {
	Room string
	// ClientID is the sender's own name for the message, or empty. Sending the same again
	// stores nothing and has the same answer.
	ClientID string
	Author   Author
	Text     string
	// ReplyTo is the sequence of a message that the room has, also a deleted one, and that this one answers; 0 is none.
	ReplyTo uint64
	// Data is the application's: a JSON object that [CompactData] lets through, or empty.
	Data string
	// Edits is set for a [Screen] that sees an edit: the sequence of the message. Data is empty then if the message keeps what it has.
	Edits uint64
	// Seen is a sequence that the caller knows the room to have reached, or 0. A ReplyTo up to it needs no look-up where there is no
	// Config.Pruner.
	Seen uint64
}

// Send stores a message and returns it after its durable commit. It waits until ctx ends;
// then, and after any error of kind Unavailable, the outcome is unknown, and sending again
// with the same ClientID is harmless. It returns ErrRoomInvalid, ErrTextInvalid,
// ErrClientIDInvalid, ErrDataInvalid, ErrNotAllowed, ErrReplyToInvalid, what Config.Screen refuses, ErrUnscreened, ErrBusy, ErrClosed, or what
// [Service.RefuseBy] says, before anything was stored.
//
// A message that was stored and is sent again under its ClientID has the answer of the first time, whatever else differs. If Screen refuses
// it by then, or its ReplyTo is not valid, that is so if it is among the last MaxPage messages of its room.
func (s *Service) Send(ctx context.Context, d Draft) (Stored, error) {
	d, err := s.check(ctx, d)
	if err == nil {
		err = s.refused(d.Room)
	}
	if err != nil {
		return Stored{}, err
	}
	if s.screening != nil {
		if d, err = s.screened(ctx, d); err != nil {
			return Stored{}, err
		}
	}
	return s.messages.do(ctx, s.message(d))
}

// Submit is [Service.Send] without waiting. If it returns nil, done is called exactly once,
// with messages of one room in the order of their sequence, from the goroutine that commits:
// it must be quick. Submit itself waits only as long as Access and Screen do, and with a ReplyTo beyond
// Seen, or where there is a Config.Pruner, for one read of the cache, or of the store where the cache does not reach so far.
func (s *Service) Submit(ctx context.Context, d Draft, done func(Stored, error)) error {
	d, err := s.check(ctx, d)
	if err != nil {
		return err
	}
	if s.screening != nil {
		if d, err = s.screened(ctx, d); err != nil {
			return err
		}
	}
	return s.messages.submit(s.message(d), done)
}

// May asks Access whether who may do what in room, by the name that [Service.Resolve] returns. It
// returns nil, an error of kind Forbidden, or any other error when that cannot be told.
func (s *Service) May(ctx context.Context, who Author, what Action, room string) error {
	return s.cfg.Access.May(ctx, who, what, room)
}

// SubmitWaits reports whether Submit may wait for every draft, because there is a Config.Access or a Config.Screen that is asked.
func (s *Service) SubmitWaits() bool { return s.asks || s.screening != nil }

// AsksAccess reports whether there is a Config.Access that is asked.
func (s *Service) AsksAccess() bool { return s.asks }

// check returns the draft as it may be stored.
func (s *Service) check(ctx context.Context, d Draft) (Draft, error) {
	var err error
	if d.Room, err = s.Resolve(ctx, d.Room); err != nil {
		return d, err
	}
	if err := CheckText(d.Text); err != nil {
		return d, err
	}
	if err := CheckClientID(d.ClientID); err != nil {
		return d, err
	}
	if d.Data, err = CompactData(d.Data); err != nil {
		return d, err
	}
	// Who may not send here learns nothing of the room.
	if err := s.cfg.Access.May(ctx, d.Author, ActionSend, d.Room); err != nil {
		return d, err
	}
	if d.ReplyTo == 0 || d.ReplyTo <= d.Seen && s.cfg.Pruner == nil {
		return d, nil
	}
	err = s.reaches(ctx, d.Room, d.ReplyTo)
	if errors.Is(err, ErrReplyToInvalid) && d.ClientID != "" {
		if m, found := s.repeated(ctx, d); found {
			d.ReplyTo = m.ReplyTo // the answer is the stored one, whatever else differs
			return d, nil
		}
	}
	return d, err
}

// repeated returns what is stored under the draft's ClientID, if it is among the last MaxPage messages of the room.
func (s *Service) repeated(ctx context.Context, d Draft) (Message, bool) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CommitTimeout)
	defer cancel()
	recent, err := s.cfg.Store.List(ctx, d.Room, Range{Limit: s.cfg.MaxPage, Newest: true})
	if err != nil {
		return Message{}, false
	}
	for _, m := range recent {
		if m.ClientID == d.ClientID && m.Author.ID == d.Author.ID {
			return m, true
		}
	}
	return Message{}, false
}

// reaches returns nil if the room has given out the sequence and not removed its message by age, and ErrReplyToInvalid if not: a sequence has
// no gaps, and never goes back. The cache may be behind, the store is not.
func (s *Service) reaches(ctx context.Context, room string, seq uint64) error {
	r, _ := s.recent.get(ctx, room)
	if n := len(r.Messages); n > 0 && seq <= r.Messages[n-1].Seq && (seq >= r.Messages[0].Seq || s.cfg.Pruner == nil) {
		return nil
	}
	b, err := s.cfg.Store.Bounds(ctx, room)
	switch {
	case err != nil:
		return fmt.Errorf("read room: %w", err)
	case seq > b.Last:
		return ErrReplyToInvalid.Detail("the room's last message is %d", b.Last)
	case seq < b.First:
		return ErrReplyToInvalid.Detail("the room's first message is %d", b.First)
	}
	return nil
}

func (s *Service) message(d Draft) Message {
	return Message{
		Room: d.Room, ID: s.cfg.NewID(), ClientID: d.ClientID, Author: d.Author, Text: d.Text, ReplyTo: d.ReplyTo, Data: d.Data,
	}
}

func (s *Service) commitMessages(whole context.Context, messages []Message) ([]Stored, error) {
	ctx, cancel := context.WithTimeout(whole, s.cfg.CommitTimeout)
	defer cancel()
	at := s.now()
	for i := range messages {
		messages[i].At = at
	}
	stored, err := s.cfg.Store.Append(ctx, messages)
	if err != nil {
		if fault.KindOf(err) == fault.Unavailable { // they may be stored
			s.recent.note(roomsOf(messages), false)
		}
		return nil, fmt.Errorf("store messages: %w", err)
	}
	fresh, repeated := make([]Message, 0, len(stored)), []string(nil)
	for _, m := range stored {
		if m.Repeated {
			repeated = append(repeated, m.Room)
		} else {
			fresh = append(fresh, m.Message)
		}
	}
	// When a repeated one was stored, nobody may have been there to say so.
	s.recent.note(repeated, false)
	// The cache learns of a message before any node does, so that whoever begins to listen
	// and then reads the cache has no window between the two.
	if len(fresh) > 0 {
		s.recent.add(whole, fresh) // what the store took of the time is not the cache's
	}
	return stored, nil
}

func (s *Service) commitJoins(ctx context.Context, memberships []Membership) ([]entered, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.CommitTimeout)
	defer cancel()
	return s.admit(ctx, memberships)
}

// now is the clock, as stores keep it.
func (s *Service) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Microsecond) }

func (s *Service) pageSize(limit int) int {
	if limit <= 0 || limit > s.cfg.MaxPage {
		return s.cfg.MaxPage
	}
	return limit
}
