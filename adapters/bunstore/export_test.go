package bunstore

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/uptrace/bun"

	"github.com/parley-chat/parley/core/event"
	"github.com/parley-chat/parley/core/fault"
)

// Handles returns the handles for writing and for reading.
func Handles(s *Store) (write, read *bun.DB) { return s.db.write, s.db.read }

// Kept are the texts that the store keeps prepared, for reading and for writing.
func Kept(s *Store) (texts []string) {
	for _, k := range []*kept{s.db.reads, s.db.writes} {
		k.mu.RLock()
		texts = append(texts, slices.Collect(maps.Keys(k.ready))...)
		k.mu.RUnlock()
	}
	return texts
}

// MaxKept bounds them.
const MaxKept = maxKept

// Keep runs a statement that is kept, for reading.
func Keep(ctx context.Context, s *Store, text string, args ...any) error {
	return s.db.reads.query(ctx, text, args, func(func(...any) error) error { return nil })
}

// ChangeTexts are the statements of Change for four rows.
func ChangeTexts(s *Store) []string {
	texts := s.db.dialect.changeTexts(4)
	return texts[:]
}

// MarkTexts are the statements of Mark, Add, Mine and Roles, for four rows and for one.
func MarkTexts(s *Store) []string {
	texts := []string{s.db.mine, s.db.bounds, roomsOf, s.db.membersOf, s.db.lockRoles, countOwners, listRestrictions, restrictedSince, listBlocks, listBlocksOf}
	for _, n := range []int{1, 4} {
		all := s.db.dialect.markTexts(n)
		texts = append(append(texts, all[:]...), s.db.dialect.readMembers(n), s.db.dialect.rolesOf(n), s.db.dialect.restrictionsInForce(n), s.db.dialect.blocksAmong(n), s.db.dialect.settingsOf(n))
	}
	return texts
}

// PruneTexts are the statements of Aged and Prune.
func PruneTexts(s *Store) []string {
	texts := s.db.dialect.removals()
	return append(texts[:], listAges, listRevs)
}

// ListChanged lists messages by their last change.
func ListChanged(s *Store) string { return s.db.dialect.listChanged() }

// WipingIsDue reports whether something was erased since the last wiping began.
func WipingIsDue(s *Store) bool {
	s.db.scrub.mu.Lock()
	defer s.db.scrub.mu.Unlock()
	return s.db.scrub.erased
}

// Wipe empties the free space of all pages of a store of OpenSQLite, and returns in how many there was something.
func Wipe(s *Store) (int, error) { return s.db.scrub.wipe() }

// Gather answers what several ask by few calls of read.
func Gather(most, workers int, read func(context.Context, []string) (map[string]int, error)) func(context.Context, string) (int, bool, error) {
	return (&gather[string, int]{most: most, workers: workers, read: read}).ask
}

// MigrateFirst runs the first n migrations on an empty database.
func MigrateFirst(ctx context.Context, s *Store, n int) error {
	return s.migrate(ctx, steps(s.db.dialect)[:n])
}

// Migrations is how many there are.
func Migrations(s *Store) int { return len(steps(s.db.dialect)) }

// NamesAfter are the names of the migrations after the first n, as an error lists them.
func NamesAfter(s *Store, n int) string {
	var all []string
	for _, m := range steps(s.db.dialect)[n:] {
		all = append(all, m.name)
	}
	return strings.Join(all, ", ")
}

// KindOf classifies an error of the driver.
func KindOf(s *Store, err error) fault.Kind { return s.db.dialect.kind(err) }

// Transact runs do as the ports run their transactions.
func Transact(ctx context.Context, s *Store, do func(ctx context.Context, tx bun.Tx) error) error {
	return s.db.transact(ctx, "test", do)
}

// PutEvents puts events as the repositories do.
func PutEvents(ctx context.Context, s *Store, tx bun.Tx, events ...event.Event) error {
	return s.db.putEvents(ctx, tx, events)
}

// PostgresRows and MySQLRows are the placeholders of so many messages.
func PostgresRows(n int) string { return dollars(n, 8) }
func MySQLRows(n int) string    { return questionMarks(n, 8) }

// Dialer makes connections as those to servers are made.
var Dialer = dialer

// Commits is how many the store has counted.
func Commits(s *Store) uint64 { return s.db.commits.Load() }

// CommitAllTheTime lets the store seem to, until it is stopped.
func CommitAllTheTime(s *Store) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			s.db.commits.Add(1)
			runtime.Gosched()
		}
	}()
	return func() { cancel(); <-done }
}

// FreeSpace is the part of a page that is wiped.
func FreeSpace(page []byte) []byte { return freeSpace(page) }

// CountGivenUp counts how often the engine gives a call of the store up for another one's sake. It is for a store that nobody uses yet.
func CountGivenUp(s *Store, n *atomic.Int64) {
	again := s.db.dialect.again
	s.db.dialect.again = func(err error) bool {
		is := again(err)
		if is {
			n.Add(1)
		}
		return is
	}
}
