// Package chat holds rooms and the messages in them.
//
// A message is acknowledged after its durable commit, with a place in the room's sequence
// 1, 2, 3, … that has no gaps. [Service] gathers concurrent sends into one commit, and reads
// history from a cache of recent messages and from the store behind it.
//
// A room is public, private or direct, and its members have roles: [Role.Has] is the table of what each may do.
package chat

import (
	"context"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/parley-chat/parley/core/fault"
	"github.com/parley-chat/parley/core/internal/jsontext"
	"github.com/parley-chat/parley/core/internal/visible"
	"github.com/parley-chat/parley/core/user"
)

// Limits that hold everywhere, because stores are built for them.
const (
	// MaxRoomName is the longest name of a room in characters.
	MaxRoomName = 100
	// MaxText is the longest text of a message in characters.
	MaxText = 4000
	// MaxClientID is the longest client's message id in characters.
	MaxClientID = 64
	// MaxData is the most data of a message in bytes, in the form that [CompactData] returns.
	MaxData = 4096
	// MaxDataDepth is how deep objects and lists may be nested in a message's data; the data itself is 1.
	MaxDataDepth = 32
	// MaxTitle is the longest title of a room in characters.
	MaxTitle = 100
	// MaxTopic is the longest topic of a room in characters.
	MaxTopic = 500
)

// Author is who a message comes from, as others see it.
type Author struct {
	ID   user.ID
	Name string
}

// Message is one message in a room. Before it is stored its Seq is 0.
type Message struct {
	Room string
	// Seq is the place in the room's sequence, from 1, without gaps.
	Seq uint64
	// ID names the message everywhere and for ever.
	ID string
	// ClientID is the sender's own name for the message, or empty. A room holds at most one
	// message with the same sender and the same ClientID that is not empty.
	ClientID string
	Author   Author
	Text     string
	// At is when the message was committed, in UTC, to the microsecond.
	At time.Time
	// ReplyTo is the sequence of the message in the same room that this one answers, or 0.
	ReplyTo uint64
	// Data is the application's: a JSON object in the form that [CompactData] returns, or empty.
	Data string
	// Rev is the place of the last change in the room's sequence of changes: 1, 2, 3, … without gaps. 0: it was never changed.
	Rev uint64
	// EditedAt and DeletedAt are when it was last edited, and when it was deleted; zero if it was not. A deleted message keeps
	// Seq, ID, ClientID, Author and At. An erased one keeps Seq, ID, At and the ID of its author.
	EditedAt, DeletedAt time.Time
	// Reactions are at most [MaxReactionKeys], in the order in which their keys first came.
	Reactions []Reaction
}

// Clone returns the message with reactions of its own.
func (m Message) Clone() Message {
	m.Reactions = slices.Clone(m.Reactions)
	for i := range m.Reactions {
		m.Reactions[i].Users = slices.Clone(m.Reactions[i].Users)
	}
	return m
}

// Room is a named place to talk.
type Room struct {
	Name      string
	CreatedBy user.ID
	CreatedAt time.Time
	// Kind says who may come in. Empty is Public where it is to be stored; stores return it always.
	Kind RoomKind
	// Title and Topic are what people read of the room: at most [MaxTitle] and [MaxTopic] characters. Both may be empty.
	Title, Topic string
	// Data is the application's: a JSON object in the form that [CompactData] returns, or empty.
	Data string
	// Retention is how long messages are kept, in whole seconds: a store drops the rest. Zero is as long as the server's own setting says.
	Retention time.Duration
	// DeletedAt is when the room was deleted, zero if it was not. A room that is deleted looks as if it was not there. It is erased with
	// its messages; its name is taken until that is done, and for more than a minute.
	DeletedAt time.Time
}

// Membership says that a user has joined a room, until they leave it.
type Membership struct {
	Room   string
	UserID user.ID
	Since  time.Time
	// Read is how far the user has read the room: see [Marks].
	Read uint64
	// Role is what the member may do there. Empty is Regular where it is to be stored; stores return it always.
	Role Role
}

// What this package refuses.
var (
	ErrRoomInvalid     = fault.New(fault.Invalid, "room_invalid", "the room name is not valid")
	ErrTextInvalid     = fault.New(fault.Invalid, "text_invalid", "the text is not valid")
	ErrClientIDInvalid = fault.New(fault.Invalid, "client_id_invalid", "the client id is not valid")
	ErrReplyToInvalid  = fault.New(fault.Invalid, "reply_to_invalid", "there is no such message to reply to")
	ErrDataInvalid     = fault.New(fault.Invalid, "data_invalid", "the data is not valid")
	ErrRoomTaken       = fault.New(fault.Conflict, "room_taken", "there is a room of that name")
	ErrRoomNotFound    = fault.New(fault.NotFound, "room_not_found", "there is no such room")
	ErrNotAllowed      = fault.New(fault.Forbidden, "not_allowed", "this is not allowed in this room")
	ErrBusy            = fault.New(fault.Unavailable, "busy", "too many messages are waiting to be stored")
	ErrClosed          = fault.New(fault.Unavailable, "closed", "the service is shutting down")
)

// CheckRoom refuses a name that is empty, longer than [MaxRoomName] characters, not valid
// UTF-8, that starts or ends with a space, or that holds a character that cannot be seen.
// U+200C and U+200D may stand where a script or an emoji needs them (RFC 5892 appendix A,
// Unicode Technical Standard #51).
func CheckRoom(name string) error {
	switch {
	case name == "":
		return ErrRoomInvalid.Detail("it is empty")
	case len(name) > 4*MaxRoomName || utf8.RuneCountInString(name) > MaxRoomName:
		return ErrRoomInvalid.Detail("it is longer than %d characters", MaxRoomName)
	case !utf8.ValidString(name):
		return ErrRoomInvalid.Detail("it is not valid UTF-8")
	case name[0] == ' ' || name[len(name)-1] == ' ':
		return ErrRoomInvalid.Detail("it starts or ends with a space")
	}
	if !visible.Only(name) || !visible.Any(name) {
		return ErrRoomInvalid.Detail("it has a character that cannot be seen")
	}
	return nil
}

// CheckText refuses a text that is empty, longer than [MaxText] characters, not valid UTF-8,
// that holds U+0000, which some stores cannot keep, or no character that can be seen.
func CheckText(text string) error {
	switch {
	case text == "":
		return ErrTextInvalid.Detail("it is empty")
	case len(text) > 4*MaxText || utf8.RuneCountInString(text) > MaxText:
		return ErrTextInvalid.Detail("it is longer than %d characters", MaxText)
	case !utf8.ValidString(text):
		return ErrTextInvalid.Detail("it is not valid UTF-8")
	}
	for i := range len(text) {
		if text[i] == 0 {
			return ErrTextInvalid.Detail("it has a NUL character")
		}
	}
	if !visible.Any(text) {
		return ErrTextInvalid.Detail("it has no character that can be seen")
	}
	return nil
}

// CheckClientID refuses an id that is longer than [MaxClientID] characters or that holds
// anything but visible ASCII. The empty id is fine: the message then has none.
func CheckClientID(id string) error {
	if len(id) > MaxClientID {
		return ErrClientIDInvalid.Detail("it is longer than %d characters", MaxClientID)
	}
	for i := range len(id) {
		if id[i] < 0x21 || id[i] > 0x7e {
			return ErrClientIDInvalid.Detail("it may hold visible ASCII only")
		}
	}
	return nil
}

// CompactData returns data in the form in which it is stored and told: a JSON object without the white space between its tokens.
// All else stays byte for byte: the order of names, names that stand twice, how numbers and escapes are written. It
// refuses what is no object, what has more than [MaxData] bytes in that form, or is nested deeper than [MaxDataDepth]; and
// strings and names with U+0000, with half a character in an escape, or that are not UTF-8. The empty string is fine: the
// message then has no data.
func CompactData(data string) (string, error) {
	if data == "" {
		return "", nil
	}
	compact, err := jsontext.Compact(data, MaxData, MaxDataDepth)
	if err != nil {
		return "", ErrDataInvalid.Detail("%v", err)
	}
	return compact, nil
}

// Stored is the answer to one appended message.
type Stored struct {
	Message
	// Repeated says that the store had a message with this sender and ClientID already:
	// Message is that one, and nothing new was stored.
	Repeated bool
}

// Range chooses messages of a room by sequence, or by their last change.
type Range struct {
	// After and Before exclude: After < Seq, and Seq < Before unless Before is 0.
	After, Before uint64
	// Changed chooses, among the messages that were changed, by Rev instead of Seq: After and Before exclude Revs, and the messages
	// are ascending by Rev. Newest is not asked then.
	Changed bool
	// UpTo is, with Changed, the highest sequence of a message; 0 means any.
	UpTo uint64
	// Limit is the most messages to return, at least 1.
	Limit int
	// Newest takes, where there are more than Limit, those with the highest sequence
	// instead of those with the lowest.
	Newest bool
}

// Bounds is how far a room reaches.
type Bounds struct {
	// First is the lowest sequence that is still stored, and Last the highest ever given out: 1 and 0 for a room without messages.
	// When every message was deleted by age, First is Last+1.
	First, Last uint64
	// Rev is the highest number that a change was given, 0 if there was none.
	Rev uint64
}

// MessageStore keeps messages for ever, or as long as its adapter says.
//
// It may be called from many goroutines.
// It keeps every text, name, client id and key that [CheckText], [CheckRoom], [CheckClientID] and [CheckReaction] let through.
// It keeps ReplyTo, and byte for byte all data that [CompactData] returns; a message without them stays without.
// Two rooms, authors, client ids or keys of reactions are the same only if they have the same bytes.
// Every time is UTC, to the microsecond.
// Changing what was given or returned changes nothing stored.
type MessageStore interface {
	// Append stores messages durably, all or none, in the order given.
	// Append returns one answer for each message, in the order given.
	// Each new message gets the next sequence number of its room: from 1, without gaps, also under concurrent calls.
	// A message whose room, author and ClientID are stored already, or came earlier in the same call, is not stored again.
	// The answer to such a message is the stored one, with Repeated set.
	// A message without a ClientID is always new.
	// On an error nothing is stored, unless ctx ended or the store was lost meanwhile.
	// Then the outcome is unknown, and the sequence still has no gaps.
	Append(ctx context.Context, messages []Message) ([]Stored, error)
	// Change changes messages durably, all or none, in the order given, and returns one answer for each change.
	// [Change.Apply] says what a change makes of the message, as the changes before it have left it, and what is refused.
	// A change of a message that is not stored is refused with ErrMessageNotFound.
	// A refused change has its error in its answer, and harms no other.
	// Each change that is not refused and not Repeated gets the next Rev of its room: from 1, without gaps, also under concurrent calls.
	// The message has the Rev of its last change.
	// What an edit or a deletion has taken from a message is in no answer any more, and in the store no longer than its adapter says.
	// Each reaction of a user is kept, also of those whom the message does not name.
	// On an error nothing is changed, unless ctx ended or the store was lost meanwhile.
	// Then the outcome is unknown, and Rev still has no gaps.
	Change(ctx context.Context, changes []Change) ([]Changed, error)
	// List returns the messages of room that r chooses, ascending by sequence, as they are now.
	// An unknown room has no messages.
	// A message whose Append returned before List was called is seen.
	// Whoever sees a message can see all that come before it in the sequence.
	// Whoever sees a change can see all changes of the room with a lower Rev.
	List(ctx context.Context, room string, r Range) ([]Message, error)
	// Bounds returns how far room reaches.
	// What was stored or changed before Bounds was called counts.
	Bounds(ctx context.Context, room string) (Bounds, error)
}

// By is who does something, and when.
type By struct {
	ID user.ID
	At time.Time
}

// Rooms keeps the rooms that exist. Where there are [Roles] and [Restrictions], it shares their store.
//
// It may be called from many goroutines.
// Two names are the same only if they have the same bytes.
// Every time is UTC, to the microsecond.
type Rooms interface {
	// Ensure stores r, with every field as it is, unless a room of that name exists.
	// Ensure returns the stored room.
	// Of several concurrent calls with one name, one wins and all return its room.
	Ensure(ctx context.Context, r Room) (Room, error)
	// ByName returns the room, or ErrRoomNotFound.
	ByName(ctx context.Context, name string) (Room, error)
	// List returns rooms whose name is greater than after, ascending by the bytes of the name.
	// List returns at most limit rooms: none if limit is below 1.
	List(ctx context.Context, after string, limit int) ([]Room, error)
	// Update stores durably what change makes of the room, and returns that.
	// Update returns ErrRoomNotFound, or the error of change; then nothing is stored.
	// Of several concurrent calls each change is given what the one before has stored; change may be called more than once, and is pure.
	// Update gives change the role of by.ID, as it is when the room is stored: what [Roles.Change] and [Members.Remove] have done before counts.
	// That role is empty for who is no member, for who is banned at by.At, and where by.ID is empty.
	// Name, CreatedBy and CreatedAt stay, whatever change makes of them.
	Update(ctx context.Context, name string, by By, change func(r *Room, as Role) error) (Room, error)
}

// Roles keeps what members are in rooms. It shares its store with [Rooms], [Members] and [Restrictions].
//
// It may be called from many goroutines.
// Every membership that it returns has its role, and Read as [Marks] says it.
// Two rooms or users are the same only if they have the same bytes.
// Every time is UTC, to the microsecond.
type Roles interface {
	// Create stores a room with its first members durably, all or none, and returns the room.
	// Create returns ErrRoomTaken, and stores nothing, if a room of that name exists, be it a deleted one.
	// Of several concurrent calls with one name, one wins.
	// A membership that came before the room takes the role, and keeps Since and what was read.
	Create(ctx context.Context, r Room, members ...Membership) (Room, error)
	// Of returns the memberships of those whom it is asked about and who are members, in any order.
	Of(ctx context.Context, whom ...InRoom) ([]Membership, error)
	// List returns memberships of room, of users greater than after, ascending by the bytes of their ids.
	// List returns at most limit: none if limit is below 1.
	List(ctx context.Context, room string, after user.ID, limit int) ([]Membership, error)
	// Change makes c durably, if may lets it, and returns the membership before and after; the Role of one that does not exist is empty.
	// Change gives may the room, the roles of c.By and of c.User, and how many owners the room has; may may be called more than once, and is pure.
	// Change returns ErrRoomNotFound, or the error of may; then nothing is stored.
	// The role of c.By is empty for who is banned at c.At.
	// Who is banned at c.At is given no role: where may lets it, Change returns ErrBanned, and nothing is stored.
	// Of several concurrent calls in a room each sees what the one before has stored.
	// A membership that goes on keeps Since and what was read; one that begins has read the room's last message.
	Change(ctx context.Context, c RoleChange, may func(r Room, by, of Role, owners int) error) (before, after Membership, err error)
}

// Members keeps who has joined which room.
//
// It may be called from many goroutines.
// Two rooms or users are the same only if they have the same bytes.
type Members interface {
	// Add stores memberships durably, all or none.
	// A membership that exists is left as it is.
	// Add returns what is stored for each, in the order given, with its role.
	// A membership that does not exist, of a room that is not public or that is deleted, is not stored: its answer has no Role.
	// A room that [Rooms] does not know is public.
	// It takes no notice of Read, which [Marks] says.
	Add(ctx context.Context, memberships ...Membership) ([]Membership, error)
	// Remove ends a membership, which may begin again.
	// Ending a membership that does not exist is no error.
	Remove(ctx context.Context, room string, id user.ID) error
	// Has reports whether the user is a member of room.
	Has(ctx context.Context, room string, id user.ID) (bool, error)
	// RoomsOf returns memberships of the user, with their roles, whose room is greater than after, ascending by the bytes of the room's name.
	// RoomsOf returns at most limit memberships: none if limit is below 1.
	RoomsOf(ctx context.Context, id user.ID, after string, limit int) ([]Membership, error)
}

// Recent is what a [RecentCache] holds of a room.
type Recent struct {
	// Messages are the last ones, ascending by sequence and contiguous.
	Messages []Message
	// Rev says how old they may be: every change up to it is in them.
	Rev uint64
	// First is the lowest sequence that may be stored, as far as is known: what came before it was removed by age. 0 and 1 say that nothing was.
	First uint64
}

// Gone is the First of a room that there is no more.
const Gone uint64 = math.MaxUint64

// RecentCache holds the last messages of rooms that are in use.
//
// It may be called from many goroutines.
// It may forget a room at any time.
// It never holds a hole: what it returns is contiguous.
// Two rooms are the same only if they have the same bytes.
// Every time is UTC, to the microsecond.
// A message has every field as it was given.
// Changing what was given or returned changes nothing held.
type RecentCache interface {
	// Get returns what is held for room, and says whether the room is held.
	// A room that is not held has no messages.
	// A room that is held and has none has none in the store either, as far as the cache was told.
	// Whether the messages reach back far enough is the caller's to judge.
	Get(ctx context.Context, room string) (r Recent, held bool, err error)
	// Add puts messages that were just stored into their rooms.
	// The messages ascend in each room, and are contiguous within the call.
	// A room that holds messages up to the one just before is extended.
	// A room that holds some of them takes what is newer.
	// In any other room that is behind, the added messages replace what was held.
	// A room that is not held, and whose Rev is remembered, is not held after Add either: changes of what is added may have come before it.
	// An older message never replaces a newer one.
	Add(ctx context.Context, messages ...Message) error
	// Change puts messages that were just changed in the place of what is held of them.
	// The messages ascend by Rev in each room, and their Revs are contiguous within the call.
	// A room that has every change before the first of them has every change of the call from then on.
	// A changed message behind the last one that is held is taken as Add would.
	// A change that the room has already changes nothing.
	// A room that lacks a change before is not held any more.
	// The Rev of a room is remembered although the room is not held, so that Fill brings nothing older.
	Change(ctx context.Context, messages ...Message) error
	// Fill gives the cache what was read from the store, messages of one room, ascending and contiguous; r.Rev was read before them.
	// What is older than the room's Rev is not taken.
	// Where r.Rev is the room's, Fill only adds what stands before what is held, or connects and follows.
	// Messages that connect to nothing take the place of a room held without messages.
	// What is held already stays then.
	// Where r.Rev is higher, the given messages replace what is held of them and before them; held ones that connect and follow stay.
	// A room whose messages do not connect is not held any more then.
	// No messages say that the room has none, unless r.First is above 1: a room that was not held is held then.
	// A room that holds messages keeps them if r.Rev is its own, and is not held any more if r.Rev is higher.
	// The highest r.First is the room's, whatever r.Rev is, and is remembered as Rev is.
	// What stands before it is not held any more, and is not taken by Add or Fill.
	// A room of which nothing is left then is not held.
	// Where r.First is Gone, nothing of the room is held or remembered, and r has nothing else.
	Fill(ctx context.Context, room string, r Recent) error
}

// Action is what somebody wants to do in a room.
type Action string

// The actions that [Access] decides about.
const (
	ActionJoin Action = "join"
	ActionSend Action = "send"
	ActionRead Action = "read"
)

// Access decides who may do what. docs/rules.md says when it is asked, and how often.
//
// It may be called from many goroutines.
type Access interface {
	// May returns nil if who may do what in room.
	// May returns ErrNotAllowed, or another error of kind Forbidden, if not.
	// May returns any other error when it cannot tell.
	May(ctx context.Context, who Author, what Action, room string) error
}

// OpenAccess lets everybody do everything.
type OpenAccess struct{}

// May returns nil.
func (OpenAccess) May(context.Context, Author, Action, string) error { return nil }
