// Package memory implements every port of core in this process, on the standard library
// alone. It is the reference: what it does is what the comments of the ports mean. It serves
// tests, examples, and systems of one process that may forget everything when they end.
//
// # Guarantees
//
// Everything that the ports promise, under concurrent calls. "Durable" means here: until the
// process ends. Values are copied on the way in and on the way out. Times are kept in UTC, to
// the microsecond. No call does I/O, and none waits but [Bus.Publish], [Bus.Subscribe],
// [FanoutNode.Run] and [Client.Read]; a call whose context is done before it starts does
// nothing and returns an error of kind Unavailable.
//
// What could grow without end has a stated limit: [BusConfig], [LimiterConfig],
// [MailboxConfig], [NoncesConfig], [RecentCacheConfig], [TokensConfig] and [FanoutNode].
// Users, sessions, codes, rooms, members, messages, events in the outbox and jobs are kept
// until they are deleted, as a database would.
//
// # Exceptions
//
// Nothing survives the process, and nothing is shared between processes. [Hasher] is fast,
// and so no protection for real passwords. [Conn] joins its two ends without a WebSocket
// between them: there are no pings.
//
// # Closing
//
// There is nothing to close. A value that is no longer referenced is gone.
package memory

import (
	"context"
	"time"

	"github.com/parley-chat/parley/core/fault"
)

// alive returns nil unless ctx is done, and then an error of kind Unavailable.
func alive(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return fault.Wrap(fault.Unavailable, ctx.Err())
}

// stamp is t as a store keeps it: in UTC, to the microsecond, zero if it is zero.
func stamp(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// atLeastOne refuses a limit that chooses nothing.
func atLeastOne(limit int) error {
	if limit < 1 {
		return fault.New(fault.Invalid, "limit_invalid", "the limit is not valid").Detail("it is %d and must be at least 1", limit)
	}
	return nil
}

// or returns n if it is positive, and otherwise the default.
func or(n, byDefault int) int {
	if n > 0 {
		return n
	}
	return byDefault
}
