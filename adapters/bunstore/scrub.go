package bunstore

import (
	"context"
	"database/sql"
	"sync"
	"time"
)

// scrubber cuts the log of writes off a while after something was deleted that must not remain: the log holds pages as
// they were before. Deleted bytes are zeros in the file, by secure_delete.
type scrubber struct {
	db    *sql.DB // the one that writes
	cfg   SQLiteConfig
	ctx   context.Context // ends with the store
	end   context.CancelFunc
	tasks sync.WaitGroup

	mu     sync.Mutex
	timer  *time.Timer // nil when nothing is due
	closed bool
}

func newScrubber(db *sql.DB, cfg SQLiteConfig) *scrubber {
	ctx, end := context.WithCancel(context.Background())
	return &scrubber{db: db, cfg: cfg, ctx: ctx, end: end}
}

// scrubPatience is how long everybody may be kept from writing for the sake of readers of what is in the log.
const scrubPatience = 50 * time.Millisecond

// due says that something was deleted. It does not wait. There may be no scrubber.
func (s *scrubber) due() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil || s.closed {
		return
	}
	s.tasks.Add(1)
	s.timer = time.AfterFunc(s.cfg.ScrubAfter, s.run)
}

func (s *scrubber) run() {
	defer s.tasks.Done()
	s.mu.Lock()
	s.timer = nil // what is deleted from here on is due again
	s.mu.Unlock()
	if done, err := s.cut(); err != nil || !done {
		s.due()
	}
}

// cut folds the log into the file and cuts it off, unless somebody reads from it.
func (s *scrubber) cut() (done bool, err error) {
	conn, err := s.db.Conn(s.ctx)
	if err != nil {
		return false, err
	}
	var busy, pages, folded int
	err = withBusyTimeout(s.ctx, conn, scrubPatience, func() error {
		return conn.QueryRowContext(s.ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &folded)
	})
	return err == nil && busy == 0, err
}

// close waits for what is under way. Nothing is due any more: closing the last connection removes the log.
func (s *scrubber) close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.closed = true
	if s.timer != nil && s.timer.Stop() {
		s.tasks.Done()
	}
	s.mu.Unlock()
	s.end()
	s.tasks.Wait()
}
