// Package chat holds rooms and the messages in them.
//
// A message is acknowledged after its durable commit, with a place in the room's sequence
// 1, 2, 3, … that has no gaps. [Service] gathers concurrent sends into one commit, and reads
// history from a cache of recent messages and from the store behind it.
package chat

import (
	"context"
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
}

// Room is a named place to talk.
type Room struct {
	Name      string
	CreatedBy user.ID
	CreatedAt time.Time
}

// Membership says that a user has joined a room, until they leave it.
type Membership struct {
	Room   string
	UserID user.ID
	Since  time.Time
}

// What this package refuses.
var (
	ErrRoomInvalid     = fault.New(fault.Invalid, "room_invalid", "the room name is not valid")
	ErrTextInvalid     = fault.New(fault.Invalid, "text_invalid", "the text is not valid")
	ErrClientIDInvalid = fault.New(fault.Invalid, "client_id_invalid", "the client id is not valid")
	ErrReplyToInvalid  = fault.New(fault.Invalid, "reply_to_invalid", "there is no such message to reply to")
	ErrDataInvalid     = fault.New(fault.Invalid, "data_invalid", "the data is not valid")
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

// Range chooses messages of a room by sequence.
type Range struct {
	// After and Before exclude: After < Seq, and Seq < Before unless Before is 0.
	After, Before uint64
	// Limit is the most messages to return, at least 1.
	Limit int
	// Newest takes, where there are more than Limit, those with the highest sequence
	// instead of those with the lowest.
	Newest bool
}

// MessageStore keeps messages for ever, or as long as its adapter says.
//
// It may be called from many goroutines.
// It keeps every text, name and client id that [CheckText], [CheckRoom] and [CheckClientID] let through.
// It keeps ReplyTo, and byte for byte all data that [CompactData] returns; a message without them stays without.
// Two rooms, authors or client ids are the same only if they have the same bytes.
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
	// List returns the messages of room that r chooses, ascending by sequence.
	// An unknown room has no messages.
	// A message whose Append returned before List was called is seen.
	// Whoever sees a message can see all that come before it in the sequence.
	List(ctx context.Context, room string, r Range) ([]Message, error)
	// Bounds returns the lowest sequence that is still stored and the highest ever given out in room.
	// They are 1 and 0 for a room without messages.
	// When every message was deleted, first is last+1.
	Bounds(ctx context.Context, room string) (first, last uint64, err error)
}

// Rooms keeps the rooms that exist.
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
}

// Members keeps who has joined which room.
//
// It may be called from many goroutines.
// Two rooms or users are the same only if they have the same bytes.
type Members interface {
	// Add stores memberships durably, all or none.
	// A membership that exists is left as it is.
	Add(ctx context.Context, memberships ...Membership) error
	// Remove ends a membership, which may begin again.
	// Ending a membership that does not exist is no error.
	Remove(ctx context.Context, room string, id user.ID) error
	// Has reports whether the user is a member of room.
	Has(ctx context.Context, room string, id user.ID) (bool, error)
	// RoomsOf returns memberships of the user whose room is greater than after, ascending by the bytes of the room's name.
	// RoomsOf returns at most limit memberships: none if limit is below 1.
	RoomsOf(ctx context.Context, id user.ID, after string, limit int) ([]Membership, error)
}

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
	// Get returns the last messages held for room, ascending and contiguous.
	// Get says whether the room is held.
	// A room that is not held has no messages.
	// A room that is held and has none has none in the store either, as far as the cache was told.
	// Whether they reach back far enough is the caller's to judge.
	Get(ctx context.Context, room string) (messages []Message, held bool, err error)
	// Add puts messages that were just stored into their rooms.
	// The messages ascend in each room, and are contiguous within the call.
	// A room that holds messages up to the one just before is extended.
	// A room that holds some of them takes what is newer.
	// In any other room that is behind, the added messages replace what was held.
	// An older message never replaces a newer one.
	Add(ctx context.Context, messages ...Message) error
	// Fill gives the cache what was read from the store: messages of one room, ascending and contiguous.
	// Where the room is held, Fill only adds what stands before, or connects and follows.
	// Messages that connect to nothing take the place of a room held without messages.
	// What is held already stays.
	// No messages say that the room has none: it is held, unless it was.
	Fill(ctx context.Context, room string, messages []Message) error
}

// Action is what somebody wants to do in a room.
type Action string

// The actions that [Access] decides about.
const (
	ActionJoin Action = "join"
	ActionSend Action = "send"
	ActionRead Action = "read"
)

// Access decides who may do what.
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
