package memory

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/core/audit"
	"github.com/parley-chat/parley/core/fault"
)

var errEntryExists = fault.New(fault.Conflict, "audit_entry_exists", "an entry with this identifier exists")

// AuditLog is an audit.Log.
type AuditLog struct {
	mu sync.RWMutex
	by map[string]audit.Entry
}

var _ audit.Log = (*AuditLog)(nil)

// NewAuditLog returns a log without entries.
func NewAuditLog() *AuditLog { return &AuditLog{by: map[string]audit.Entry{}} }

// Append stores an entry.
func (l *AuditLog) Append(ctx context.Context, e audit.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := alive(ctx); err != nil {
		return err
	}
	if _, exists := l.by[e.ID]; exists {
		return errEntryExists
	}
	e.At = stamp(e.At)
	l.by[e.ID] = e
	return nil
}

// Settle stores how an entry ended, once.
func (l *AuditLog) Settle(ctx context.Context, id, outcome string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := alive(ctx); err != nil {
		return err
	}
	e, ok := l.by[id]
	if !ok {
		return audit.ErrNotFound
	}
	if e.Outcome == "" {
		e.Outcome = outcome
		l.by[id] = e
	}
	return nil
}

// List returns a page, newest first. It looks at all entries.
func (l *AuditLog) List(ctx context.Context, before string, limit int) ([]audit.Entry, error) {
	if err := alive(ctx); err != nil {
		return nil, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	found := []audit.Entry{}
	for id, e := range l.by {
		if before == "" || id < before {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b audit.Entry) int { return strings.Compare(b.ID, a.ID) })
	return found[:min(len(found), max(limit, 0))], nil
}

// DeleteExpired removes entries that are older.
func (l *AuditLog) DeleteExpired(ctx context.Context, before time.Time) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := alive(ctx); err != nil {
		return 0, err
	}
	n := len(l.by)
	for id, e := range l.by {
		if e.At.Before(before) {
			delete(l.by, id)
		}
	}
	return n - len(l.by), nil
}
