package realtime

import (
	"context"
	"time"

	"github.com/parley-chat/parley/core/chat"
	"github.com/parley-chat/parley/core/fault"
)

// Signal is what nodes tell each other about a room.
type Signal struct {
	Kind SignalKind
	Room string
	// Message is set for SignalMessage and SignalChanged.
	Message chat.Message
	// User is set for the other kinds.
	User chat.Author
	// Read is set for SignalMarked and SignalMarkedOwn: the sequence up to which User has read.
	Read uint64
	// Typing is set for SignalTyping.
	Typing bool
	// Node is the node that it comes from.
	Node string
	// Event is set for SignalEvent: its name. Data is its fields, a JSON object. SignalRestricted and SignalMembership have Data too.
	Event, Data string
}

// SignalKind says what a Signal is about.
type SignalKind uint8

// The kinds of signals.
const (
	SignalMessage    SignalKind = iota + 1 // a stored message
	SignalTyping                           // somebody types, or stopped
	SignalJoined                           // a user's first connection in the room
	SignalLeft                             // a user's last connection left the room
	SignalRemoved                          // a user was taken out of the room
	SignalEvent                            // an event of an application
	SignalChanged                          // a stored message was changed: Message is what it is now
	SignalMarked                           // a user has read the room up to a message
	SignalRestricted                       // a user was banned or muted, or is no longer
	SignalMembership                       // what a user is in a room has changed; every node follows Room, which is no room's name
	SignalMarkedOwn                        // as SignalMarked, for the user's own connections alone
	SignalSettings                         // a user has set something for themselves; every node follows Room, which is no room's name
)

// Fanout carries signals between nodes.
//
// It may be called from many goroutines.
// It may lose signals when something fails.
// It may deliver messages of one room in another order than their sequence: the hub finds holes
// by the sequence and fills them from the store. So it is with changes and their sequence.
// A signal arrives with every field as it was published, times in UTC, to the microsecond.
// Two rooms are the same only if they have the same bytes.
type Fanout interface {
	// Publish hands s to every node that follows s.Room, this one included, before or after it returns.
	// Publish does not wait for the handling on other nodes.
	// The last message that a node publishes in a room that it follows, before its Run begins, reaches its Run's deliver.
	Publish(ctx context.Context, s Signal) error
	// Follow makes signals of room, published by any node after Follow has returned, reach Run's deliver.
	// Following twice is following once.
	Follow(ctx context.Context, room string) error
	// Unfollow undoes Follow, however often the room was followed.
	// Signals under way may still arrive.
	Unfollow(ctx context.Context, room string) error
	// Run calls deliver for each signal of the followed rooms, and of no others, until ctx ends.
	// Run then returns nil, and deliver is not called any more.
	// An error says that Run cannot go on.
	// Signals that one node publishes in a room one after the other are delivered in that order.
	// deliver is fast and may be called from several goroutines.
	// One Run at a time.
	Run(ctx context.Context, deliver func(Signal)) error
}

// Presence knows which users are in a room, on any node.
//
// It may be called from many goroutines.
// Times come from the caller; the adapter has no clock.
// Two rooms or users are the same only if they have the same bytes.
// Changing what was returned changes nothing stored.
type Presence interface {
	// Enter says that node has the user's first connection in room, until Exit, or until the node's lease ends.
	// first reports whether no other node, of those whose lease lasts at now, had the user there.
	// Of several nodes that enter a user at once, one is first.
	// Entering twice is entering once.
	Enter(ctx context.Context, now time.Time, node, room string, who chat.Author) (first bool, err error)
	// Exit says that the user's last connection of node has left room.
	// last reports whether no other node has the user there, not even one whose lease has ended.
	// Whom only such a node has there is told by Renew.
	// last is so whether or not node was known to have the user there: that may have been lost.
	// Of several nodes that a user leaves at once, one is last.
	// Leaving twice is leaving once.
	Exit(ctx context.Context, now time.Time, node, room string, who chat.Author) (last bool, err error)
	// List returns users in room, ascending by ID, each once.
	// List returns at most limit users: none if limit is below 1.
	// count is how many users are in room, whatever limit is.
	// List counts users of nodes whose lease lasts at now.
	List(ctx context.Context, now time.Time, room string, limit int) (users []chat.Author, count int, err error)
	// Renew extends a node's lease, and puts right what is known of the node, and of no other.
	// A node that has never renewed has a lease that does not end.
	// A Renew that finds somebody of such a node in a room of its Rolls gives that node a lease as long as its own.
	// The users of a node whose lease has ended disappear by themselves.
	// They are back if the node renews again.
	// If the lease was ended for good meanwhile, Renew changes nothing and returns ErrLeaseEnded.
	// It is safe to repeat.
	// With another error, what Renew returns besides was done all the same.
	Renew(ctx context.Context, r Renewal) (Renewed, error)
}

// Renewal is what a node says of itself.
type Renewal struct {
	Node string
	// Now is the time of the call, and Until the end of the lease from now on.
	Now, Until time.Time
	// End ends for good the leases of other nodes that do not last at Now.
	End bool
	// Rolls are rooms of the node. No Enter or Exit of the node in one of them is under way.
	Rolls []Roll
}

// Roll is whom a node has in a room: every user, each once, in any order.
type Roll struct {
	Room  string
	Users []chat.Author
}

// Renewed is what a Renewal came to.
type Renewed struct {
	// Fresh reports that no lease of the node was known: it is its first, or what was known is lost.
	Fresh bool
	// Ended are the nodes whose leases were ended for good, by anybody, for an hour at least.
	Ended []string
	// Entered are those of the Rolls who were not known to be there with the node, and now are.
	// Who was with another node whose lease lasts at Now is not among Entered.
	Entered []Whereabouts
	// Left are those who no longer are in rooms of the Rolls: whom the node was thought to have there.
	// Left are also those whom nodes had there whose leases were ended for good.
	// Whom another node has there has not Left.
	// Each of Left is told to one caller only.
	Left []Whereabouts
}

// Whereabouts is a user in a room.
type Whereabouts struct {
	Room string
	User chat.Author
}

// ErrLeaseEnded tells a node that others took it for dead: its users were told to have left. It goes on under
// another name.
var ErrLeaseEnded = fault.New(fault.Conflict, "lease_ended", "the lease of the node was ended")
