// Package audit keeps who among those who run a system has done what, to whom, when, from where, and how it ended.
//
// [Service] records an action before it is taken, and refuses it where that cannot be done. A [Log] keeps the entries; nothing
// in one is a secret, an address or a name of a person.
package audit

import (
	"context"
	"time"

	"github.com/parley-chat/parley/core/fault"
)

// Limits of an entry, in characters.
const (
	MaxID      = 128
	MaxActor   = 128
	MaxAction  = 64
	MaxTarget  = 255
	MaxDetail  = 512
	MaxNetwork = 64
	MaxOutcome = 64
)

// What this package refuses.
var (
	// ErrUnrecorded says that an action was not taken, since it could not be recorded.
	ErrUnrecorded = fault.New(fault.Unavailable, "audit_unavailable", "this cannot be recorded, so it was not done")
	// ErrNotFound says that there is no such entry.
	ErrNotFound = fault.New(fault.NotFound, "audit_entry_not_found", "there is no such entry")
)

// Entry is one action. It is a value.
type Entry struct {
	// ID names the entry. IDs ascend with time.
	ID string
	// At is when the action began, UTC, to the microsecond.
	At time.Time
	// Actor is who acts, for example "token:1:3f2a9c1d" or "user:" with the ID of one.
	Actor string
	// Action is what is done, for example "change-user".
	Action string
	// Target is the ID of what it is done to; empty if there is none.
	Target string
	// Detail is what else there is to know, as a JSON object; empty if there is nothing.
	Detail string
	// Network is the network that the request came from, and not the machine: 24 bits of an IPv4 address, 48 of an IPv6 address. Empty if that is
	// not known.
	Network string
	// Outcome is how it ended; empty while that is not known, and for ever if the program ended before.
	Outcome string
}

// Log keeps entries.
//
// It may be called from many goroutines.
// Two IDs are the same only if they have the same bytes.
// Every time is UTC, to the microsecond.
type Log interface {
	// Append stores e durably, with every field as it is.
	// Append returns an error of kind Conflict if an entry with e.ID exists, which stays as it is.
	Append(ctx context.Context, e Entry) error
	// Settle stores durably how an entry ended, unless that is stored already: the first outcome stays, and a later one is no error.
	// Settle changes nothing else.
	// Settle returns ErrNotFound if there is no such entry.
	Settle(ctx context.Context, id, outcome string) error
	// List returns the newest entries, descending by the bytes of their IDs.
	// With before, List returns those whose IDs are less, whether or not there is such an entry.
	// List returns at most limit entries: none if limit is below 1.
	List(ctx context.Context, before string, limit int) ([]Entry, error)
	// DeleteExpired removes entries whose At is before the given time, settled or not, and returns how many.
	// What is of that very time, or later, stays.
	DeleteExpired(ctx context.Context, before time.Time) (int, error)
}
